//! The hospital's copy of the ledger, replayed at a start: from the snapshot beside it, or from its first entry. And the snapshot,
//! written now and then.

use std::thread::JoinHandle;

use leben_contracts::agreement::snapshot::Snapshots;
use leben_contracts::ledger::store::{ReadError, StoreError};

use super::handle::RunError;
use super::store::{DiskError, Store};
use crate::mirror::{Mirror, Start};
use crate::refusal::Refusal;

/// Entries replayed at a time.
const STEP: u64 = 4096;

/// Fills an empty copy from the disk. What comes back are its snapshots.
pub(super) fn replay(mirror: &mut Mirror, store: &Store) -> Result<Snapshots, RunError> {
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
    let mut snapshots = Snapshots::new(ledger.store().state_dir());
    let start = take_up(&mut snapshots, mirror, store, certified).map_err(unread)?;
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
    Ok(snapshots)
}

fn take_up(
    snapshots: &mut Snapshots,
    mirror: &Mirror,
    store: &Store,
    certified: u64,
) -> Result<Option<Start>, ReadError> {
    let ledger = store.ledger();
    let (reader, size) = (ledger.reader(), ledger.next_index());
    let origin = mirror.certified().origin();
    let state = match snapshots.load(origin, &reader, size, certified) {
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
pub(super) enum Keeper {
    Idle(Snapshots),
    Writing(JoinHandle<Result<Snapshots, StoreError>>),
    /// The writer has failed; nothing was promised about its file.
    Gone,
}

impl Keeper {
    /// Begins to write one, if it is time.
    pub(super) fn keep(&mut self, mirror: &Mirror) -> Result<(), DiskError> {
        if matches!(self, Keeper::Writing(writing) if !writing.is_finished()) {
            return Ok(());
        }
        if let Some(mut snapshots) = self.take()? {
            let cut = match mirror.snapshot().filter(|_| snapshots.is_due(mirror.certified_size())) {
                Some((state, root)) => snapshots.cut(state, &root)?,
                None => {
                    *self = Keeper::Idle(snapshots);
                    return Ok(());
                }
            };
            *self = Keeper::Writing(std::thread::spawn(move || snapshots.save(&cut).map(|()| snapshots)));
        }
        Ok(())
    }

    /// The last one, at a stop in peace.
    pub(super) fn end(&mut self, mirror: &Mirror) -> Result<(), DiskError> {
        if let Some(mut snapshots) = self.take()?
            && let Some((state, root)) = mirror.snapshot()
            && state.next_index() > snapshots.size()
        {
            let cut = snapshots.cut(state, &root)?;
            snapshots.save(&cut)?;
        }
        Ok(())
    }

    /// Waits for the writer, if there is one.
    fn take(&mut self) -> Result<Option<Snapshots>, DiskError> {
        match std::mem::replace(self, Keeper::Gone) {
            Keeper::Idle(snapshots) => Ok(Some(snapshots)),
            Keeper::Writing(writing) => Ok(writing.join().ok().transpose()?),
            Keeper::Gone => Ok(None),
        }
    }
}
