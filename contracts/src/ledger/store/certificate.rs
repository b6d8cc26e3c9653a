//! The published certificates (see [`crate::ledger::turn`]): one file for each turn, there before the checkpoint that covers it.

use super::durable::{is_there, names, read_at_most, read_if_there, remove};
use super::{LogReader, LogStore, ReadError, StoreError, durable_replace, ensure_dir};
use crate::ledger::checkpoint::{CheckpointError, parse_size};
use crate::ledger::note::{NOTE_BYTES_MAX, Note};
use crate::ledger::turn;

/// In the state folder: how far turns are final.
const FINAL_TURN: &str = "turn";

impl LogStore {
    /// Publishes the certificate of a turn; the caller has checked both quorums. One whose checkpoint is published already stays as it is:
    /// before that a crash may have left one with fewer signatures, and nobody has read it.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn publish_certificate(&mut self, note: &Note) -> Result<(), StoreError> {
        self.step(|store| {
            let new = store.head_of(note)?;
            store.check_seen(&new)?;
            let path = store.public.join(turn::path(new.size));
            if store.published.as_ref().is_some_and(|published| published.size >= new.size) && is_there(&path)? {
                return Ok(());
            }
            ensure_dir(&store.public.join(turn::FOLDER))?;
            durable_replace(&path, note.to_string().as_bytes())
        })
    }

    /// Remembers that the turn which ends a log of `size` entries is final: the quorum before it and the one after it hold it, and the
    /// one before, of which some may never be seen again, need not say so a second time.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn remember_turn(&mut self, size: u64) -> Result<(), StoreError> {
        self.step(|store| durable_replace(&store.state.join(FINAL_TURN), format!("{size}\n").as_bytes()))
    }

    /// Size of the log up to the last turn that is known to be final; 0 where none is.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn final_turn(&self) -> Result<u64, StoreError> {
        let path = self.state.join(FINAL_TURN);
        let Some(bytes) = read_if_there(&path, 32)? else { return Ok(0) };
        let size = std::str::from_utf8(&bytes).ok().and_then(|text| parse_size(text.strip_suffix('\n')?));
        size.ok_or_else(|| StoreError::Corrupt { path, why: "it is no number of entries; remove it".to_owned() })
    }

    /// Removes what a crash left half written.
    pub(super) fn drop_leftovers(&self) -> Result<(), StoreError> {
        let (public, state) = (&self.public, &self.state);
        [public.join("checkpoint.tmp"), public.join("policy.tmp"), state.join("HEAD.tmp"), state.join("turn.tmp")]
            .iter()
            .try_for_each(|p| remove(p))?;
        let dir = public.join(turn::FOLDER);
        if !is_there(&dir)? {
            return Ok(());
        }
        names(&dir)?.iter().filter(|name| name.ends_with(".tmp")).try_for_each(|name| remove(&dir.join(name)))
    }
}

impl LogReader {
    /// Sizes of the published certificates, ascending.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn certificates(&self) -> Result<Vec<u64>, ReadError> {
        let dir = self.dir().join(turn::FOLDER);
        if !is_there(&dir)? {
            return Ok(Vec::new());
        }
        let path = |name: &String| turn::size_of_path(&format!("{}/{name}", turn::FOLDER));
        let mut sizes: Vec<u64> = names(&dir)?.iter().filter_map(path).collect();
        sizes.sort_unstable();
        Ok(sizes)
    }

    /// The certificate of the turn that ends a log of `size` entries, unverified.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn certificate(&self, size: u64) -> Result<Note, ReadError> {
        let bytes = read_at_most(&self.dir().join(turn::path(size)), NOTE_BYTES_MAX)?;
        Ok(Note::parse(&bytes).map_err(CheckpointError::from)?)
    }
}
