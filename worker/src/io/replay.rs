//! The hospital's copy of the ledger, replayed at a start: from the snapshot beside it, or from its first entry. And the snapshot,
//! written now and then.

use std::path::PathBuf;
use std::thread::JoinHandle;

use leben_contracts::agreement::snapshot;
use leben_contracts::ledger::store::{ReadError, StoreError};

use super::handle::RunError;
use super::store::{DiskError, Store};
use crate::mirror::{Mirror, Start};
use crate::refusal::Refusal;

/// Entries replayed at a time.
const STEP: u64 = 4096;

/// Fills an empty copy from the disk. What comes back is how many entries the snapshot stood for.
pub(super) fn replay(mirror: &mut Mirror, store: &Store) -> Result<u64, RunError> {
    let (ledger, folder) = (store.ledger(), store.folder().join("mirror"));
    let unread = |error: ReadError| RunError::from(DiskError::from(StoreError::from(error)));
    let damaged = |refusal: Refusal| {
        RunError::Ledger(format!(
            "{} is damaged: {refusal}; move that folder away and start again: it is fetched anew and checked against `witness`",
            folder.display()
        ))
    };
    let (size, published) = (ledger.next_index(), ledger.store().published());
    let (certificate, certified) = (published.map(|head| head.note.clone()), published.map_or(0, |head| head.size));
    let start = take_up(mirror, store, certified).map_err(unread)?;
    let taken_up = start.as_ref().map_or(0, |start| start.state.next_index());
    if let Some(start) = start {
        mirror.resume(start).map_err(damaged)?;
    }
    let mut from = taken_up;
    while from < size {
        let to = size.min(from.saturating_add(STEP));
        let leaves = ledger.reader().entries(from..to, size).map_err(unread)?;
        mirror.restore_step(&leaves, certified).map_err(damaged)?;
        from = to;
    }
    mirror.restore_certificate(certificate).map_err(damaged)?;
    Ok(taken_up)
}

fn take_up(mirror: &Mirror, store: &Store, certified: u64) -> Result<Option<Start>, ReadError> {
    let ledger = store.ledger();
    let (reader, size) = (ledger.reader(), ledger.next_index());
    let origin = mirror.certified().origin();
    let state = match snapshot::load(ledger.store().state_dir(), origin, &reader, size, certified) {
        Ok(Some(state)) => state,
        Ok(None) => return Ok(None),
        Err(error) => {
            tracing::warn!(%error, "the snapshot is not used; the copy of the ledger is replayed from its first entry");
            return Ok(None);
        }
    };
    let end = state.next_index();
    let (before, leaves) = reader.leaf_hashes(Start::first_leaf(end)..end, size)?;
    Ok(Some(Start { state, before, leaves }))
}

/// Writes snapshots beside everything else, one at a time.
pub(super) struct Snapshots {
    dir: PathBuf,
    last: u64,
    writing: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Snapshots {
    /// The one on disk stands for `last` entries.
    pub(super) fn new(store: &Store, last: u64) -> Snapshots {
        Snapshots { dir: store.ledger().store().state_dir().to_path_buf(), last, writing: None }
    }

    /// Begins to write one, if it is time.
    pub(super) fn keep(&mut self, mirror: &Mirror) -> Result<(), DiskError> {
        if self.writing.as_ref().is_some_and(JoinHandle::is_finished) {
            self.wait()?;
        }
        if self.writing.is_none()
            && snapshot::is_due(mirror.certified_size(), self.last)
            && let Some((state, root)) = mirror.snapshot()
        {
            let dir = self.dir.clone();
            self.last = state.next_index();
            self.writing = Some(std::thread::spawn(move || snapshot::save(&dir, &state, &root)));
        }
        Ok(())
    }

    /// The last one, at a stop in peace.
    pub(super) fn end(&mut self, mirror: &Mirror) -> Result<(), DiskError> {
        self.wait()?;
        match mirror.snapshot() {
            Some((state, root)) if state.next_index() > self.last => Ok(snapshot::save(&self.dir, &state, &root)?),
            _ => Ok(()),
        }
    }

    fn wait(&mut self) -> Result<(), DiskError> {
        match self.writing.take().map(JoinHandle::join) {
            Some(Ok(written)) => Ok(written?),
            // A panic in the writer: nothing was promised about its file.
            Some(Err(_)) | None => Ok(()),
        }
    }
}
