//! Witnesses that a policy lists and no quorum counts: outsiders whose cosignature anybody can check, and nobody needs.
//!
//! The ledger's own entries say which hospitals make a checkpoint final. Outside that, the coordinator may publish cosignatures of
//! others (a university, a witness network). Their keys stand in the published `policy` file in the plainest form, name equal to the
//! key's own, no address, in no group, so that every byte of the file still follows from what is checked.

use super::{Listed, Note, Policy, VerifierKey};
use crate::ledger::note::KeyType;

impl Policy {
    /// Keys of the witnesses that no group and no quorum names.
    pub fn observers(&self) -> impl Iterator<Item = &VerifierKey> {
        self.witnesses.iter().filter(|w| self.is_observer(w)).map(|w| &w.vkey)
    }

    /// The same policy with these observers as well. A key or a name that is listed already is left as it stands: a hospital's
    /// cosignature goes on counting where the ledger says it counts.
    #[must_use]
    pub fn with_observers<'a>(&self, vkeys: impl IntoIterator<Item = &'a VerifierKey>) -> Self {
        let mut wider = self.clone();
        for vkey in vkeys {
            let taken = |l: &Listed| l.vkey.key() == vkey.key() || l.name == vkey.name();
            let listed = wider.logs.iter().chain(&wider.witnesses).any(taken);
            let reserved = vkey.name() == "none" || wider.groups.iter().any(|g| g.name == vkey.name());
            if vkey.kind() == KeyType::Cosignature && !listed && !reserved {
                wider.witnesses.push(Listed { name: vkey.name().to_owned(), vkey: vkey.clone(), url: None });
            }
        }
        wider
    }

    /// What the ledger itself can have put in force: the policy without its observers.
    #[must_use]
    pub fn without_observers(&self) -> Self {
        let witnesses = self.witnesses.iter().filter(|w| !self.is_observer(w)).cloned().collect();
        Self { witnesses, ..self.clone() }
    }

    /// The same policy with those of its logs alone that the other names, too: a reader may know a log by several keys, or several logs.
    #[must_use]
    pub fn for_logs_of(&self, other: &Self) -> Self {
        let named = |log: &&Listed| other.logs.iter().any(|named| named.vkey == log.vkey);
        Self { logs: self.logs.iter().filter(named).cloned().collect(), ..self.clone() }
    }

    /// The note without the lines of keys that this policy does not list: for whoever keeps only what it can check.
    #[must_use]
    pub fn known_lines(&self, note: &Note) -> Note {
        let known = |vkey: &VerifierKey| note.signatures().iter().any(|line| line.is_by(vkey));
        let keys: Vec<&VerifierKey> =
            self.logs().chain(self.witnesses.iter().map(|w| &w.vkey)).filter(|v| known(v)).collect();
        note.with_lines(|line| keys.iter().any(|vkey| line.is_by(vkey)))
    }

    fn is_observer(&self, listed: &Listed) -> bool {
        let counted = self.quorum == listed.name || self.groups.iter().any(|g| g.members.contains(&listed.name));
        !counted && listed.name == listed.vkey.name() && listed.url.is_none()
    }
}
