//! The turns of a folder: each change of who has to sign is covered by its certificate, and nothing else lies beside them.

use super::folder::{Folder, read};
use super::{VerifyError, reader};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::{NOTE_BYTES_MAX, Note};
use crate::ledger::policy::Policy;
use crate::ledger::turn::{self, Turn, TurnError};
use std::collections::BTreeMap;

/// The certificates found, those not needed yet, and whether the reader's policy was met on the way.
pub(super) struct Certificates {
    notes: BTreeMap<u64, Note>,
    /// Without observers, as the ledger's own entries put it in force.
    trusted: Option<Policy>,
}

impl Certificates {
    /// Reads the files and compares each with the tree: size, root and origin. Who signed them is for the replay to say.
    pub(super) fn read(
        folder: &Folder<'_>,
        checkpoint: &Checkpoint,
        sizes: &[u64],
        trusted: Option<Policy>,
    ) -> Result<Certificates, VerifyError> {
        let mut notes = BTreeMap::new();
        for size in sizes {
            let name = turn::path(*size);
            if *size > folder.size {
                let why = format!("goes beyond the checkpoint of {} entries, so nothing vouches for it", folder.size);
                return Err(VerifyError::malformed(name, why));
            }
            let malformed = |why: String| VerifyError::malformed(&name, why);
            let note = Note::parse(&read(folder.dir, &name, NOTE_BYTES_MAX)?).map_err(|e| malformed(e.to_string()))?;
            let found = Checkpoint::of(&note).map_err(|e| malformed(e.to_string()))?;
            if found != Checkpoint::new(&checkpoint.origin, *size, folder.root_at(*size)?) {
                let why = "is not the checkpoint of that size of this log".to_owned();
                return Err(VerifyError::Inclusion { place: name, why });
            }
            notes.insert(*size, note);
        }
        Ok(Certificates { notes, trusted: trusted.map(|policy| policy.without_observers()) })
    }

    /// A turn at entry `index`: its certificate has both quorums.
    pub(super) fn check(&mut self, folder: &Folder<'_>, index: u64, turn: &Turn) -> Result<(), VerifyError> {
        let size = index.saturating_add(1);
        let checked = match self.notes.remove(&size) {
            Some(note) => turn.verify(index, &folder.root_at(size)?, &note),
            None => Err(TurnError::Missing { index }),
        };
        checked.map_err(|error| match &error {
            TurnError::Malformed { .. } => VerifyError::malformed(turn::path(size), error),
            TurnError::Quorum { source, which, .. } => {
                let place = format!("entry {index}: {} ({which} quorum)", turn::path(size));
                VerifyError::policy(&place, source)
            }
            other => VerifyError::Quorum { place: format!("entry {index}"), why: other.to_string() },
        })?;
        if let (Some(trusted), Some(new)) = (&self.trusted, &turn.new)
            && trusted.for_logs_of(new) == *new
        {
            self.trusted = None;
        }
        Ok(())
    }

    /// The whole log was walked, and `policy` is in force at its end.
    pub(super) fn finish(self, policy: &Policy) -> Result<(), VerifyError> {
        if let Some(size) = self.notes.keys().next() {
            let why = "no entry there changes who has to sign; remove it, or find out who put it there";
            return Err(VerifyError::malformed(turn::path(*size), why));
        }
        match self.trusted {
            Some(trusted) if trusted.for_logs_of(policy) != policy.without_observers() => {
                Err(super::folder::another_policy())
            }
            _ => Ok(()),
        }
    }
}

/// The folder extends a checkpoint that the reader kept from before, signed by the log's key of now or by the one that the reader's own policy
/// names: there may be a Handover between them.
pub(super) fn check_known(
    folder: &Folder<'_>,
    policies: [Option<&Policy>; 2],
    checkpoint: &Checkpoint,
    known: Option<&Note>,
) -> Result<(), VerifyError> {
    let Some(known) = known else { return Ok(()) };
    let before = reader::kept(known, policies.into_iter().flatten(), &checkpoint.origin)?;
    if before.size > checkpoint.size {
        return Err(reader::shorter(&before, checkpoint, "folder"));
    }
    if folder.root_at(before.size)? != before.root {
        return Err(reader::two_trees(before.size));
    }
    Ok(())
}
