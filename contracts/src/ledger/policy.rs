//! Who must have signed (C2SP tlog-policy): the logs that are known, the witnesses, and the quorum that makes a checkpoint final.
//!
//! With `n` witnesses of which `f` may sign anything, no fork can be final on both sides exactly when the threshold is at least
//! `floor((n + f) / 2) + 1`; the log stays live when it is at most `n - f`. [`safe_threshold`] computes it.

use super::checkpoint::{Checkpoint, CheckpointError};
use super::note::{Note, NoteError, SignatureLine, VerifierKey};
use std::collections::BTreeMap;
use std::fmt;

mod observers;
mod reading;

use reading::Reading;

/// Largest policy file, in bytes.
pub const POLICY_BYTES_MAX: usize = 256 * 1024;

/// Why a policy file is refused, or a checkpoint does not meet it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The policy file has another form.
    #[error("{}{why}", if *.line == 0 { "the policy ".to_owned() } else { format!("policy line {line}: ") })]
    Line {
        /// Line number, from 1; 0 for the file as a whole.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// The note holds no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No `log` line has this origin as its name.
    #[error("the policy knows no log `{0}`; check that the folder and the policy belong together")]
    UnknownLog(String),
    /// A signature of the log or of a listed witness is missing or does not verify.
    #[error(transparent)]
    Signature(NoteError),
    /// A signature line is by a key the policy does not list, where every line has to be accounted for.
    #[error(
        "the signature line by `{0}` is by no key in the policy: the checkpoint and the policy are of different times, or of different logs; fetch both again, together, and change neither"
    )]
    UnknownSigner(String),
    /// Too few witnesses.
    #[error(
        "the quorum `{quorum}` is not met: cosigned by [{have}], missing [{missing}]; ask for a checkpoint that more witnesses signed. If keys were changed since: take the policy of that time, or make a new proof with `leben ledger show N --proof DIR`"
    )]
    Quorum {
        /// The quorum's rule in words.
        quorum: String,
        /// Witnesses that signed, by their names in the policy.
        have: String,
        /// Witnesses that did not.
        missing: String,
    },
}

/// The least threshold with which no fork is final on both sides when `f` of `n` witnesses may sign anything: `floor((n+f)/2)+1`.
#[must_use]
pub fn safe_threshold(n: u32, f: u32) -> u32 {
    (n / 2).saturating_add(f / 2).saturating_add((n % 2 + f % 2) / 2).saturating_add(1)
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Listed {
    name: String,
    vkey: VerifierKey,
    url: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Group {
    name: String,
    threshold: usize,
    members: Vec<String>,
}

/// A parsed policy. Equality is of meaning: comments and spacing are not kept, and `Display` writes the one plain spelling.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    logs: Vec<Listed>,
    witnesses: Vec<Listed>,
    groups: Vec<Group>,
    quorum: String,
}

/// A checkpoint that meets a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Satisfied {
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// Each listed witness that cosigned, by its name in the policy, with the time it stated (Unix seconds).
    pub cosigners: Vec<(String, u64)>,
    /// The latest time by which a whole quorum stands (Unix seconds): how fresh the checkpoint is. `None` for `quorum none`.
    pub quorum_time_s: Option<u64>,
}

/// What to do with signature lines by keys that the policy does not list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownSigners {
    /// Carry them unseen, as C2SP asks of clients.
    Ignore,
    /// Refuse them: every byte has to be accounted for.
    Refuse,
}

impl Policy {
    /// The usual policy: one log, witnesses named by their key names, `threshold` of them.
    ///
    /// # Errors
    /// As [`Policy::parse`]: duplicate keys, a threshold out of range.
    pub fn k_of_n(log: &VerifierKey, witnesses: &[VerifierKey], threshold: usize) -> Result<Self, PolicyError> {
        let mut text = format!("log {log}\n");
        for vkey in witnesses {
            text.push_str(&format!("witness {} {vkey}\n", vkey.name()));
        }
        if witnesses.is_empty() {
            text.push_str("quorum none\n");
        } else {
            let names: Vec<&str> = witnesses.iter().map(VerifierKey::name).collect();
            text.push_str(&format!("group hospitals {threshold} {}\nquorum hospitals\n", names.join(" ")));
        }
        Self::parse(text.as_bytes())
    }

    /// Parses a policy file. UTF-8 only, which C2SP recommends.
    ///
    /// # Errors
    /// [`PolicyError::Line`].
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        let whole = |why: &str| PolicyError::Line { line: 0, why: why.to_owned() };
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(whole("is longer than 256 KiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| whole("is not UTF-8"))?;
        if text.bytes().any(|b| (b < b' ' && b != b'\n' && b != b'\t') || b == 0x7f) {
            return Err(whole("holds a control character"));
        }
        let text = text.strip_suffix('\n').ok_or_else(|| whole("was cut or extended: it does not end in a newline"))?;
        let mut reading = Reading::default();
        for (i, line) in text.split('\n').enumerate() {
            reading.line(line).map_err(|why| PolicyError::Line { line: i + 1, why })?;
        }
        let quorum = reading.quorum.ok_or_else(|| whole("has no `quorum` line"))?;
        Ok(Self { logs: reading.logs, witnesses: reading.witnesses, groups: reading.groups, quorum })
    }

    /// The key of the log with this origin, the first of them.
    #[must_use]
    pub fn log(&self, origin: &str) -> Option<&VerifierKey> {
        self.logs.iter().map(|l| &l.vkey).find(|vkey| vkey.name() == origin)
    }

    /// The logs' keys.
    pub fn logs(&self) -> impl Iterator<Item = &VerifierKey> {
        self.logs.iter().map(|l| &l.vkey)
    }

    /// The witnesses: name in the policy, key, and address if one is given.
    pub fn witnesses(&self) -> impl Iterator<Item = (&str, &VerifierKey, Option<&str>)> {
        self.witnesses.iter().map(|w| (w.name.as_str(), &w.vkey, w.url.as_deref()))
    }

    /// Whether these witnesses (by name in the policy) make a quorum.
    #[must_use]
    pub fn is_quorum<'a>(&self, names: impl IntoIterator<Item = &'a str>) -> bool {
        if self.quorum == "none" {
            return true;
        }
        let mut signed: BTreeMap<&str, bool> = self.witnesses.iter().map(|w| (w.name.as_str(), false)).collect();
        for name in names {
            if let Some(seen) = signed.get_mut(name) {
                *seen = true;
            }
        }
        for group in &self.groups {
            let count = group.members.iter().filter(|m| signed.get(m.as_str()) == Some(&true)).count();
            signed.insert(&group.name, count >= group.threshold);
        }
        signed.get(self.quorum.as_str()) == Some(&true)
    }

    /// Checks a note against the policy: the log's signature, every line by a listed witness, and the quorum.
    ///
    /// # Errors
    /// [`PolicyError`], each by its own name; a line by a listed key that does not verify is an error even when the quorum
    /// stands without it.
    pub fn evaluate(&self, note: &Note, unknown: UnknownSigners) -> Result<Satisfied, PolicyError> {
        let checkpoint = Checkpoint::of(note)?;
        self.check_log(note, &checkpoint.origin)?;
        let cosigners = self.cosigners(note)?;
        let by_log = |line: &SignatureLine| self.logs().any(|log| log.name() == checkpoint.origin && line.is_by(log));
        let verified = |line: &SignatureLine| self.is_witness(line) || by_log(line);
        if unknown == UnknownSigners::Refuse
            && let Some(line) = note.signatures().iter().find(|line| !verified(line))
        {
            return Err(PolicyError::UnknownSigner(line.name.clone()));
        }
        self.check_quorum(&cosigners)?;
        let quorum_time_s = self.quorum_time(&cosigners);
        Ok(Satisfied { checkpoint, cosigners, quorum_time_s })
    }

    /// Checks the witnesses' part alone: each line by a listed witness verifies, and they make the quorum. The log's own signature is not
    /// looked at: a quorum also speaks about a checkpoint of the log's next key.
    ///
    /// # Errors
    /// As [`Policy::evaluate`].
    pub fn evaluate_witnesses(&self, note: &Note) -> Result<Vec<(String, u64)>, PolicyError> {
        let cosigners = self.cosigners(note)?;
        self.check_quorum(&cosigners)?;
        Ok(cosigners)
    }

    /// Whether a line says that it is by a listed witness.
    #[must_use]
    pub fn is_witness(&self, line: &SignatureLine) -> bool {
        self.witnesses.iter().any(|w| line.is_by(&w.vkey))
    }

    /// Whether a line says that it is by a listed log or witness.
    #[must_use]
    pub fn is_listed(&self, line: &SignatureLine) -> bool {
        self.is_witness(line) || self.logs.iter().any(|log| line.is_by(&log.vkey))
    }

    /// The log's signature, by any of its keys that the policy lists: there are two around a change of the key. A line by a listed key that
    /// does not verify is an error.
    fn check_log(&self, note: &Note, origin: &str) -> Result<(), PolicyError> {
        let mut found = Err(PolicyError::UnknownLog(origin.to_owned()));
        for log in self.logs().filter(|log| log.name() == origin) {
            match note.verify(log) {
                Ok(_) => found = Ok(()),
                Err(missing @ NoteError::Missing(_)) => found = found.or(Err(PolicyError::Signature(missing))),
                Err(error) => return Err(PolicyError::Signature(error)),
            }
        }
        found
    }

    fn cosigners(&self, note: &Note) -> Result<Vec<(String, u64)>, PolicyError> {
        let mut cosigners = Vec::new();
        for witness in &self.witnesses {
            match note.verify(&witness.vkey) {
                Ok(verified) => cosigners.push((witness.name.clone(), verified.time_s.unwrap_or(0))),
                Err(NoteError::Missing(_)) => {}
                Err(error) => return Err(PolicyError::Signature(error)),
            }
        }
        Ok(cosigners)
    }

    fn check_quorum(&self, cosigners: &[(String, u64)]) -> Result<(), PolicyError> {
        match self.is_quorum(cosigners.iter().map(|(name, _)| name.as_str())) {
            true => Ok(()),
            false => Err(self.short_of_quorum(cosigners)),
        }
    }

    fn short_of_quorum(&self, cosigners: &[(String, u64)]) -> PolicyError {
        let missing = self.witnesses.iter().map(|w| w.name.as_str()).filter(|n| !cosigners.iter().any(|(c, _)| c == n));
        let have: Vec<&str> = cosigners.iter().map(|(name, _)| name.as_str()).collect();
        let rule = self.groups.iter().find(|g| g.name == self.quorum);
        PolicyError::Quorum {
            quorum: rule.map_or_else(|| self.quorum.clone(), |g| format!("{} of {}", g.threshold, g.members.len())),
            have: have.join(", "),
            missing: missing.collect::<Vec<_>>().join(", "),
        }
    }

    /// The latest time by which a whole quorum of these stands (Unix seconds); `None` without one, and for `quorum none`.
    pub(crate) fn quorum_time(&self, cosigners: &[(String, u64)]) -> Option<u64> {
        if self.quorum == "none" {
            return None;
        }
        let mut newest_first: Vec<&(String, u64)> = cosigners.iter().collect();
        newest_first.sort_by_key(|(_, time_s)| std::cmp::Reverse(*time_s));
        (1..=newest_first.len()).find_map(|n| {
            let newest = newest_first.get(..n)?;
            self.is_quorum(newest.iter().map(|(name, _)| name.as_str())).then(|| newest.last().map(|(_, t)| *t))?
        })
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = |url: &Option<String>| url.as_ref().map(|u| format!(" {u}")).unwrap_or_default();
        for log in &self.logs {
            writeln!(f, "log {}{}", log.vkey, url(&log.url))?;
        }
        for witness in &self.witnesses {
            writeln!(f, "witness {} {}{}", witness.name, witness.vkey, url(&witness.url))?;
        }
        for group in &self.groups {
            writeln!(f, "group {} {} {}", group.name, group.threshold, group.members.join(" "))?;
        }
        writeln!(f, "quorum {}", self.quorum)
    }
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
