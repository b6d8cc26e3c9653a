//! Proof that a log signed two histories, in one file that anybody can check with nothing but the log's public key.
//!
//! Two checkpoints of one size with different roots prove it at a glance. Two of different sizes need the Merkle path between: a
//! consistency proof (RFC 6962, 2.1.2) that leads from *another* root of the smaller size to the larger checkpoint's. The larger tree
//! then has that other root at that size, and the log signed the smaller checkpoint all the same.

use super::checkpoint::{Checkpoint, CheckpointError, hash_line, parse_hash};
use super::merkle::{self, Hash, ProofError};
use super::note::{NOTE_BYTES_MAX, Note, NoteError, VerifierKey};
use super::policy::Policy;
use serde::{Deserialize, Serialize};

/// Largest evidence file, in bytes: two notes, 63 hashes, and room for JSON's escapes.
pub const EVIDENCE_BYTES_MAX: usize = 4 * NOTE_BYTES_MAX;

/// Why a file proves no fork.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvidenceError {
    /// Not an evidence file.
    #[error("not evidence of a fork: {0}")]
    Format(String),
    /// One of its notes holds no checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint in it is not signed by the log: anybody could have written it.
    #[error("the {which} checkpoint is not signed by the log, so it accuses nobody: {why}")]
    Signature {
        /// `smaller` or `larger`.
        which: &'static str,
        /// What is missing or wrong.
        why: NoteError,
    },
    /// The path between the two does not hold.
    #[error("the consistency proof in it is refused, so the two checkpoints may belong together: {0}")]
    Proof(#[from] ProofError),
    /// They belong together.
    #[error("the two checkpoints do not contradict each other: there is no fork in this file")]
    NoFork,
}

/// Two checkpoints that contradict each other, and the path that shows it. As JSON it is the evidence file, of which nothing is believed yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "File", into = "File")]
pub struct ForkEvidence {
    log: VerifierKey,
    smaller: Note,
    larger: Note,
    root: Hash,
    proof: Vec<Hash>,
}

/// What an evidence file proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The log that signed both.
    pub origin: String,
    /// The size at which the two histories differ.
    pub size: u64,
    /// Root of that size in the history that the smaller checkpoint belongs to.
    pub claimed: Hash,
    /// Root of that size in the history that the larger checkpoint belongs to.
    pub proven: Hash,
    /// Size of the larger checkpoint.
    pub larger_size: u64,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    kind: String,
    larger: String,
    log: String,
    proof: Vec<String>,
    root: String,
    smaller: String,
    v: u8,
}

const KIND: &str = "leben-fork";

impl ForkEvidence {
    /// Two notes, in any order; `root` is that of the smaller size in the larger tree and `proof` leads from it to the larger. For
    /// two of one size, that is the root of one of them and nothing.
    ///
    /// # Errors
    /// As [`ForkEvidence::verify`]: what proves nothing is never made.
    pub fn new(
        log: &VerifierKey,
        first: &Note,
        second: &Note,
        root: Hash,
        proof: Vec<Hash>,
    ) -> Result<Self, EvidenceError> {
        let (one, other) = (Checkpoint::of(first)?, Checkpoint::of(second)?);
        let first_is_larger = one.size > other.size || (one.size == other.size && one.root == root);
        let (smaller, larger) = if first_is_larger { (second, first) } else { (first, second) };
        // Cosignatures are kept: whose eyes saw each history is worth knowing, and the file's proof does not need them.
        let evidence = Self { log: log.clone(), smaller: smaller.clone(), larger: larger.clone(), root, proof };
        evidence.verify(log)?;
        Ok(evidence)
    }

    /// Two notes of one size with different roots.
    ///
    /// # Errors
    /// As [`ForkEvidence::verify`].
    pub fn of_one_size(log: &VerifierKey, first: &Note, second: &Note) -> Result<Self, EvidenceError> {
        Self::new(log, first, second, Checkpoint::of(second)?.root, Vec::new())
    }

    /// Reads a file. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`EvidenceError::Format`], [`EvidenceError::Checkpoint`].
    pub fn parse(bytes: &[u8]) -> Result<Self, EvidenceError> {
        let format = |why: &str| EvidenceError::Format(why.to_owned());
        if bytes.len() > EVIDENCE_BYTES_MAX {
            return Err(format("the file is longer than such a file can be"));
        }
        serde_json::from_slice(bytes).map_err(|e| EvidenceError::Format(e.to_string()))
    }

    /// The file.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Strings and a number: it cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    /// The same with the log's own signatures alone, which is all that the proof needs.
    #[must_use]
    pub fn bare(&self) -> Self {
        let bare = |note: &Note| note.with_lines(|line| line.is_by(&self.log));
        Self { smaller: bare(&self.smaller), larger: bare(&self.larger), ..self.clone() }
    }

    /// The log's key as the file names it: for a reader who has no other, and who then has to find out whose it is.
    #[must_use]
    pub fn log(&self) -> &VerifierKey {
        &self.log
    }

    /// Who cosigned the smaller and the larger checkpoint: with a policy those of its witnesses whose lines verify, by their names in it;
    /// without one the names that the lines claim, which nobody has checked.
    #[must_use]
    pub fn cosigners(&self, policy: Option<&Policy>) -> [Vec<String>; 2] {
        [&self.smaller, &self.larger].map(|note| match policy {
            Some(policy) => {
                let signed = policy.witnesses().filter(|(_, vkey, _)| note.verify(vkey).is_ok());
                signed.map(|(name, ..)| name.to_owned()).collect()
            }
            None => {
                let lines = note.signatures().iter().filter(|line| !line.is_by(&self.log));
                lines.map(|line| line.name.clone()).collect()
            }
        })
    }

    /// The same in one sentence.
    #[must_use]
    pub fn cosigners_text(&self, policy: Option<&Policy>) -> String {
        let [smaller, larger] = self.cosigners(policy);
        let both: Vec<String> = smaller.iter().filter(|name| larger.contains(name)).cloned().collect();
        let names = |names: &[String]| if names.is_empty() { "nobody".to_owned() } else { names.join(", ") };
        let (one, other) = (names(&smaller), names(&larger));
        let checked = match (policy, both.as_slice()) {
            (None, _) => " (as the lines claim; a policy would check them)".to_owned(),
            (Some(_), []) => String::new(),
            (Some(_), both) => format!("; an honest hospital never cosigns both, as {} did", both.join(", ")),
        };
        format!("The first was cosigned by {one}, the second by {other}{checked}")
    }

    /// Checks that the holder of this log's key signed two histories.
    ///
    /// # Errors
    /// [`EvidenceError`]: the file proves nothing.
    pub fn verify(&self, log: &VerifierKey) -> Result<Fork, EvidenceError> {
        let read = |which, note: &Note| {
            let checkpoint = Checkpoint::of(note)?;
            if checkpoint.origin != log.name() {
                return Err(EvidenceError::Format(format!("the {which} checkpoint is of another log than the key")));
            }
            note.verify(log).map_err(|why| EvidenceError::Signature { which, why })?;
            Ok(checkpoint)
        };
        let (smaller, larger) = (read("smaller", &self.smaller)?, read("larger", &self.larger)?);
        if smaller.size > larger.size {
            return Err(EvidenceError::Format("the `smaller` checkpoint is the larger one".to_owned()));
        }
        merkle::verify_consistency(&self.proof, smaller.size, &self.root, larger.size, &larger.root)?;
        if self.root == smaller.root {
            return Err(EvidenceError::NoFork);
        }
        let (origin, size, larger_size) = (smaller.origin, smaller.size, larger.size);
        Ok(Fork { origin, size, claimed: smaller.root, proven: self.root, larger_size })
    }
}

impl TryFrom<File> for ForkEvidence {
    type Error = EvidenceError;

    fn try_from(file: File) -> Result<Self, EvidenceError> {
        let format = |why: &str| EvidenceError::Format(why.to_owned());
        if file.v != 1 || file.kind != KIND {
            return Err(format("it is of another kind or version"));
        }
        let note = |text: &str| Note::parse(text.as_bytes()).map_err(CheckpointError::from);
        let proof: Option<Vec<Hash>> = file.proof.iter().map(|line| parse_hash(line)).collect();
        Ok(Self {
            log: VerifierKey::parse(&file.log).map_err(CheckpointError::from)?,
            smaller: note(&file.smaller)?,
            larger: note(&file.larger)?,
            root: parse_hash(&file.root).ok_or(format("`root` is 32 bytes in base64"))?,
            proof: proof
                .filter(|p| p.len() <= 63)
                .ok_or(format("`proof` is at most 63 hashes of 32 bytes in base64"))?,
        })
    }
}

impl From<ForkEvidence> for File {
    fn from(evidence: ForkEvidence) -> File {
        let line = |hash: &Hash| hash_line(hash).trim_end().to_owned();
        File {
            kind: KIND.to_owned(),
            larger: evidence.larger.to_string(),
            log: evidence.log.to_string(),
            proof: evidence.proof.iter().map(line).collect(),
            root: line(&evidence.root),
            smaller: evidence.smaller.to_string(),
            v: 1,
        }
    }
}

#[cfg(test)]
#[path = "evidence_tests.rs"]
mod tests;
