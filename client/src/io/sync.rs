//! Brings the home's copy of the ledger up to what a quorum has cosigned.

use std::time::Duration;

use leben_contracts::ledger::checkpoint::CheckpointError;
use leben_contracts::ledger::note::{NOTE_BYTES_MAX, Note};
use leben_contracts::ledger::store::{BUNDLE_BYTES_MAX, StoreError};
use leben_contracts::ledger::tile::{TILE_WIDTH, TileError, TileKind, decode_bundle, path_at};
use leben_contracts::ledger::turn;
use leben_protocol::reject::RejectCode;

use crate::home::Home;
use crate::io::session::{Session, SessionError};
use crate::ledger::{Ledger, LedgerError};

/// The log may grow while it is read; then a partial bundle is gone and its successor is there.
const TRIES: u32 = 5;
/// Tries, 50 ms apart, while another process holds the copy.
const LOCK_TRIES: u32 = 60;

/// Why the copy could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The link.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// What came, or this side's files.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// A bundle of entries that is none.
    #[error("the coordinator sent {path}, which is no bundle of entries: {source}")]
    Bundle {
        /// The file.
        path: String,
        /// Why.
        source: TileError,
    },
}

/// Reads the home's copy, and fetches what is new.
///
/// # Errors
/// [`SyncError`]; the copy stands as before.
pub async fn sync(home: &Home, session: &Session) -> Result<Ledger, SyncError> {
    let mut ledger = Ledger::open(home)?;
    update(home, session, &mut ledger).await?;
    Ok(ledger)
}

/// Fetches what is new. Returns whether something was.
///
/// # Errors
/// [`SyncError`]; the copy stands as before.
pub async fn update(home: &Home, session: &Session, ledger: &mut Ledger) -> Result<bool, SyncError> {
    let mut tries = 1;
    loop {
        match update_once(home, session, ledger).await {
            Err(SyncError::Session(error)) if error.code() == Some(RejectCode::NotFound) && tries < TRIES => {}
            // Another `leben` writes to the same copy; it takes milliseconds.
            Err(SyncError::Ledger(LedgerError::Store(StoreError::Locked(_)))) if tries < LOCK_TRIES => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            ended => return ended,
        }
        tries += 1;
    }
}

async fn update_once(home: &Home, session: &Session, ledger: &mut Ledger) -> Result<bool, SyncError> {
    let bytes = session.ledger_file("checkpoint", NOTE_BYTES_MAX).await?;
    let note = Note::parse(&bytes).map_err(|error| LedgerError::Checkpoint(CheckpointError::from(error)))?;
    let size = ledger.check_note(home, &note)?.size;
    if size == ledger.size() {
        return Ok(false);
    }
    let mut leaves = Vec::new();
    for index in ledger.size() / TILE_WIDTH.. {
        let Some(path) = path_at(TileKind::Entries, index, size) else { break };
        let name = path.to_string();
        let bytes = session.ledger_file(&name, BUNDLE_BYTES_MAX).await?;
        let bundle = decode_bundle(&bytes, path.width).map_err(|source| SyncError::Bundle { path: name, source })?;
        let held = ledger.size().saturating_sub(index.saturating_mul(TILE_WIDTH));
        leaves.extend(bundle.into_iter().skip(usize::try_from(held).unwrap_or(usize::MAX)));
    }
    let mut certificates = Vec::new();
    for size in ledger.turns(&leaves)? {
        let bytes = match session.ledger_file(&turn::path(size), NOTE_BYTES_MAX).await {
            // Said below, as what it means.
            Err(error) if error.code() == Some(RejectCode::NotFound) => break,
            other => other?,
        };
        certificates.push(Note::parse(&bytes).map_err(|error| LedgerError::Checkpoint(CheckpointError::from(error)))?);
    }
    ledger.extend(home, &note, &leaves, &certificates)?;
    Ok(true)
}
