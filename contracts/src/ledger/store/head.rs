//! A checkpoint that the log signed, as the store remembers it.

use super::StoreError;
use super::read_if_there;
use crate::ledger::checkpoint::{Checkpoint, CheckpointError};
use crate::ledger::merkle::Hash;
use crate::ledger::note::{NOTE_BYTES_MAX, Note, VerifierKey};
use std::path::Path;

/// The last committed batch's signed checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Number of committed entries.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The note, signed by the log.
    pub note: Note,
}

impl Head {
    /// Reads a checkpoint that the log signed.
    ///
    /// # Errors
    /// [`CheckpointError`]: another log's, or not signed by it.
    pub fn of(note: Note, log: &VerifierKey) -> Result<Self, CheckpointError> {
        let checkpoint = Checkpoint::of(&note)?;
        if checkpoint.origin != log.name() {
            return Err(CheckpointError::Format("it is of another log"));
        }
        note.verify(log)?;
        Ok(Self { size: checkpoint.size, root: checkpoint.root, note })
    }
}

impl Head {
    /// The same, signed by any of these keys, all of which the log has or once had.
    ///
    /// # Errors
    /// As [`Head::of`], of the last one tried.
    pub fn by(note: &Note, logs: &[VerifierKey]) -> Result<Self, CheckpointError> {
        let mut refused = CheckpointError::Format("there is no key to check it with");
        for log in logs {
            match Self::of(note.clone(), log) {
                Ok(head) => return Ok(head),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

pub(super) fn read(path: &Path, logs: &[VerifierKey]) -> Result<Option<Head>, StoreError> {
    let Some(bytes) = read_if_there(path, NOTE_BYTES_MAX)? else { return Ok(None) };
    let head = Note::parse(&bytes).map_err(CheckpointError::from).and_then(|note| Head::by(&note, logs));
    head.map(Some).map_err(|e| StoreError::Corrupt { path: path.to_path_buf(), why: e.to_string() })
}
