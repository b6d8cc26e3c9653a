//! A copy of somebody else's log, kept by a worker or a client: verified entries in, the same folder out.

use super::{LogReader, LogStore, StoreError};
use crate::ledger::checkpoint::{Checkpoint, CheckpointError};
use crate::ledger::note::{Note, VerifierKey};
use crate::ledger::tile::{Batch, Builder, TileError};
use std::path::Path;

/// Why a mirror does not take entries.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MirrorError {
    /// The entries are not those of the checkpoint; nothing was written.
    #[error(
        "the {entries} entries from {first_index} on do not lead to the checkpoint of {size}: they were altered, left out or added on the way; fetch them again"
    )]
    Entries {
        /// Index of the first.
        first_index: u64,
        /// How many were given.
        entries: usize,
        /// Size of the checkpoint.
        size: u64,
    },
    /// The checkpoint is not the log's.
    #[error("the checkpoint is refused: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// An entry does not fit a tile.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// The files: exit.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A durable mirror. Its public folder is byte for byte what the log itself publishes for the same checkpoints.
pub struct Mirror {
    store: LogStore,
    builder: Builder,
}

impl Mirror {
    /// Opens or creates a mirror of `log`; recovers as [`LogStore::open`] does.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn open(public: &Path, state: &Path, log: &VerifierKey) -> Result<Self, StoreError> {
        let store = LogStore::open(public, state, log)?;
        let builder = store.builder()?;
        Ok(Self { store, builder })
    }

    /// Index of the first entry not mirrored yet.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.store.size()
    }

    /// The store behind it: HEAD, published checkpoint.
    #[must_use]
    pub fn store(&self) -> &LogStore {
        &self.store
    }

    /// Reads what is mirrored.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        self.store.reader()
    }

    /// Takes the entries from [`Mirror::next_index`] up to the checkpoint's size, durably. The root is recomputed from them and must be
    /// the checkpoint's, which the log must have signed; whether enough witnesses cosigned it is for [`Mirror::publish`]'s caller.
    ///
    /// # Errors
    /// [`MirrorError::Entries`] with nothing changed; [`MirrorError::Store`]: exit.
    pub fn append(&mut self, entries: &[Vec<u8>], note: &Note) -> Result<(), MirrorError> {
        let checkpoint = Checkpoint::of(note)?;
        let first_index = self.next_index();
        let mut builder = self.builder.clone();
        for entry in entries {
            builder.append(entry)?;
        }
        let (size, tree) = (checkpoint.size, builder.tree());
        if tree.size() != size || tree.root() != checkpoint.root {
            return Err(MirrorError::Entries { first_index, entries: entries.len(), size });
        }
        if entries.is_empty() {
            return Ok(self.store.verify_seen(note)?);
        }
        let files = builder.take_files();
        self.store.commit(&Batch { first_index, size, files, note: note.clone() })?;
        self.builder = builder;
        Ok(())
    }

    /// Durable: keys that the log has, or had before a Handover; see [`LogStore::know_keys`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn know_keys(&mut self, keys: &[VerifierKey]) -> Result<(), StoreError> {
        self.store.know_keys(keys)
    }

    /// Publishes a cosigned checkpoint of what is mirrored.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publish(&mut self, note: &Note) -> Result<(), StoreError> {
        self.store.publish(note)
    }

    /// Writes the `policy` file beside it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publish_policy(&mut self, policy: &crate::ledger::policy::Policy) -> Result<(), StoreError> {
        self.store.publish_policy(policy)
    }

    /// Publishes the certificate of a turn; see [`LogStore::publish_certificate`].
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn publish_certificate(&mut self, note: &Note) -> Result<(), StoreError> {
        self.store.publish_certificate(note)
    }
}
