//! What others have seen of this log: compared with this folder, and kept in `state/evidence/` where it contradicts.

use super::{LogStore, StoreError, durable_replace, ensure_dir};
use crate::ledger::note::Note;
use std::path::PathBuf;

impl LogStore {
    /// Compares a checkpoint that a witness remembers with this folder. At start-up, before anything is signed.
    ///
    /// # Errors
    /// [`StoreError::RolledBack`] when the witness has seen more, [`StoreError::Forked`] when it has seen something else.
    pub fn verify_seen(&self, note: &Note) -> Result<(), StoreError> {
        self.check_seen(&self.head_of(note)?)
    }

    /// Durable: a checkpoint signed by this log that does not fit this folder, followed by this folder's own. The same one is kept
    /// once; its name says its size and the beginning of its root. Returns the file.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn keep_evidence(&self, seen: &Note) -> Result<PathBuf, StoreError> {
        let seen = self.head_of(seen)?;
        let root: String = seen.root.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let folder = self.state.join("evidence");
        ensure_dir(&folder)?;
        let path = folder.join(format!("{}-{root}.txt", seen.size));
        let mine = self.head().map_or_else(String::new, |head| head.note.to_string());
        durable_replace(&path, format!("{}\n{mine}", seen.note).as_bytes())?;
        Ok(path)
    }
}
