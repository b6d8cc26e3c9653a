//! The body of `add-checkpoint` (C2SP tlog-witness): an old size, a consistency proof, and the checkpoint to be cosigned.

use super::checkpoint::{Checkpoint, CheckpointError, hash_line, parse_hash, parse_size};
use super::merkle::Hash;
use super::note::Note;
use std::fmt;

/// Most lines of a consistency proof.
pub const PROOF_LINES_MAX: usize = 63;

/// A request to a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the checkpoint this witness is believed to have cosigned last; 0 for none.
    pub old_size: u64,
    /// Consistency proof from there; empty from 0 or to the same size.
    pub proof: Vec<Hash>,
    /// The checkpoint, signed by the log.
    pub note: Note,
    /// The note's text, parsed.
    pub checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// Puts a request together.
    ///
    /// # Errors
    /// A note that holds no checkpoint.
    pub fn new(old_size: u64, proof: Vec<Hash>, note: Note) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::of(&note)?;
        Ok(Self { old_size, proof, note, checkpoint })
    }

    /// Parses a request body.
    ///
    /// # Errors
    /// Anything but the one spelling.
    pub fn parse(body: &[u8]) -> Result<Self, CheckpointError> {
        let format = CheckpointError::Format;
        let text = std::str::from_utf8(body).map_err(|_| format("not UTF-8"))?;
        let (head, note) = text.split_once("\n\n").ok_or(format("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old = lines.next().and_then(|l| l.strip_prefix("old ")).and_then(parse_size);
        let old_size = old.ok_or(format("the first line is `old` and a size"))?;
        let proof: Option<Vec<Hash>> = lines.map(parse_hash).collect();
        let proof = proof.ok_or(format("a proof line is 32 bytes in base64"))?;
        if proof.len() > PROOF_LINES_MAX {
            return Err(format("more than 63 proof lines"));
        }
        Self::new(old_size, proof, Note::parse(note.as_bytes())?)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| f.write_str(&hash_line(hash)))?;
        write!(f, "\n{}", self.note)
    }
}
