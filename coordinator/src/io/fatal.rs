//! Our own faults: the process stops, and start-up recovers through the same code as the happy path.

use std::io;
use std::path::PathBuf;

use leben_contracts::handover::HandoverError;
use leben_contracts::ledger::store::StoreError;
use leben_protocol::reject::Reject;

use crate::drift::ClockBehind;

/// Why the coordinator stops.
#[derive(Debug, thiserror::Error)]
pub enum Fatal {
    /// The disk failed. Nothing that was acknowledged is lost; what was not may be sent again.
    #[error(
        "could not {what}: {error}. The coordinator stops so that nothing unsure is acknowledged; mend the disk and start it again"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// The ledger's files.
    #[error("the ledger: {0}")]
    Ledger(String),
    /// A hospital holds a checkpoint that this log signed and this folder does not know: [`StoreError::RolledBack`] or
    /// [`StoreError::Forked`]. Nothing was sequenced since.
    #[error("{party} holds a checkpoint of this log that contradicts this folder: {error}. Kept as evidence: {}", evidence.display())]
    Seen {
        /// The hospital.
        party: String,
        /// What it means.
        error: StoreError,
        /// Both checkpoints.
        evidence: PathBuf,
    },
    /// The clock.
    #[error(transparent)]
    Clock(#[from] ClockBehind),
    /// Two things that must agree do not.
    #[error("inconsistent: {0}. This is a fault of the program; please report it with the log")]
    Inconsistent(String),
    /// A log that cannot be handed over.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// Another program's fault at start-up.
    #[error("{0}")]
    Start(String),
}

impl Fatal {
    /// For `map_err`.
    pub fn io(what: &'static str) -> impl Fn(io::Error) -> Fatal {
        move |error| Fatal::Io { what, error }
    }
}

impl From<io::Error> for Fatal {
    fn from(error: io::Error) -> Fatal {
        Fatal::Io { what: "read or write a file", error }
    }
}

impl From<Reject> for Fatal {
    fn from(reject: Reject) -> Fatal {
        Fatal::Inconsistent(reject.to_string())
    }
}
