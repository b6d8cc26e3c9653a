//! Why a copy of the ledger is not read or extended.

use std::path::PathBuf;

use leben_contracts::agreement::error::StepError;
use leben_contracts::ledger::checkpoint::CheckpointError;
use leben_contracts::ledger::entry::EntryError;
use leben_contracts::ledger::note::NoteError;
use leben_contracts::ledger::policy::PolicyError;
use leben_contracts::ledger::store::{MirrorError, ReadError, StoreError};
use leben_contracts::ledger::turn::TurnError;

/// Why the copy of the ledger cannot be read or extended.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// A file.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The files, while writing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The entries do not lead to the checkpoint.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// The checkpoint.
    #[error("the coordinator's checkpoint is refused: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint's signature.
    #[error("the coordinator's checkpoint is refused: {0}; compare the log's key with the invite")]
    Signature(#[from] NoteError),
    /// Too few hospitals have cosigned.
    #[error("the coordinator's checkpoint of {size} entries is not final: {source}")]
    Policy {
        /// Its size.
        size: u64,
        /// Why.
        source: PolicyError,
    },
    /// A change of who has to sign that the quorum before it did not sign.
    #[error("the coordinator's ledger is refused: {0}")]
    Turn(#[from] TurnError),
    /// A ledger that never had the key that this home knows it by.
    #[error(
        "the coordinator's ledger is refused: its own entries never name the log's key that this home's invite named; compare it with a hospital's"
    )]
    Key,
    /// A checkpoint by a key that a Handover has put out of force.
    #[error(
        "the coordinator signs with the log's key of before the Handover that this home has seen: it is an old one that was replaced; follow the \
         new one: leben follow"
    )]
    Replaced,
    /// Another log.
    #[error("the checkpoint is of '{got}', this home follows '{wanted}'")]
    Origin {
        /// Whose it is.
        got: String,
        /// Whose it should be.
        wanted: String,
    },
    /// Less than was seen before.
    #[error(
        "the coordinator shows {got} entries and this home already holds {held} that were final: it was set back to an old copy. Do not submit anything; ask the hospitals which checkpoint they hold"
    )]
    Stale {
        /// Entries shown.
        got: u64,
        /// Entries held.
        held: u64,
    },
    /// Another history than was seen before.
    #[error(
        "the log has forked: the checkpoint of {size} entries contradicts what this home holds. Both are kept in {evidence}; send them to the hospitals' admins and submit nothing"
    )]
    Fork {
        /// Its size.
        size: u64,
        /// Where both are kept.
        evidence: PathBuf,
    },
    /// An entry that is no entry.
    #[error("entry {index} cannot be read: {source}")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        source: EntryError,
    },
    /// An entry that breaks the rules.
    #[error("entry {index} breaks the ledger's rules, so this copy stops before it: {source}")]
    Rules {
        /// Its index.
        index: u64,
        /// The rule.
        source: Box<StepError>,
    },
}
