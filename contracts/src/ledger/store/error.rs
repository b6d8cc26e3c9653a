//! Why the store stops, in words for the operator.

use super::{ReadError, durable};
use crate::ledger::checkpoint::CheckpointError;
use crate::ledger::note::NoteError;
use std::io;
use std::path::PathBuf;

/// Why the store stops. Exit the process; the next start recovers or says what a person has to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The operating system refused.
    #[error("cannot {what} {}: {source}{}", path.display(), durable::advice(what))]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Another process has the folder.
    #[error("{} is in use by another process; two writers would fork the log; stop the other one first", .0.display())]
    Locked(PathBuf),
    /// A copy is written to a new folder alone.
    #[error("{} is not empty; name a new folder", .0.display())]
    NotEmpty(PathBuf),
    /// A file does not hold what it must.
    #[error("{} is damaged: {why}; restore this folder from a mirror, then start again", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// What was published is newer than what this folder remembers.
    #[error(
        "a checkpoint of {seen} entries was already published, and this folder knows only {head}: it was restored from an old backup, and going on would fork the log; take the newest copy instead, from a backup or from the hospital that has seen the most (its mirror/public and mirror/state are a copy of the log's published and its state folder), then start again"
    )]
    RolledBack {
        /// Size seen elsewhere.
        seen: u64,
        /// Size of HEAD.
        head: u64,
    },
    /// A checkpoint contradicts the tree in this folder.
    #[error(
        "a checkpoint of {size} entries has another root than this folder's tree: the log has forked; keep both as evidence and stop"
    )]
    Forked {
        /// Its size.
        size: u64,
    },
    /// HEAD is not what this process wrote.
    #[error("HEAD was changed by somebody else while this process ran; stopping before the log forks")]
    LostSwap,
    /// The steps were called out of order, or after an error.
    #[error("{0}; stop the process and start again")]
    OutOfOrder(&'static str),
    /// A checkpoint is not signed by this log.
    #[error("the checkpoint is refused: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// Reading back failed.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl From<NoteError> for StoreError {
    fn from(error: NoteError) -> Self {
        Self::Checkpoint(error.into())
    }
}
