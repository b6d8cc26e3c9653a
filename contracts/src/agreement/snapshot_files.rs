//! Where snapshots lie: `snapshot` in the state folder, and the parts that it names in `snapshot.parts/`.
//!
//! The new parts become durable first, then the snapshot that names them, in one rename; then what it does not name is removed, if anything
//! was left behind. So at any moment there is one whole snapshot, the last or the one before, and all that a crash can leave is a part
//! that nobody names.

use super::snapshot::{Cut, Part, SnapshotError, decode, is_due};
use super::snapshot_part::Marks;
use super::state::State;
use crate::ledger::merkle::Hash;
use crate::ledger::store::{
    LogReader, StoreError, durable_replace, ensure_dir, names, read_if_there, read_tail, remove,
};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const BYTES_MAX: usize = 1 << 36;

/// The snapshots of one state folder, which nobody else writes to.
#[derive(Debug)]
pub struct Snapshots {
    dir: PathBuf,
    known: Known,
    /// Whether nothing lies among the parts but what `known` names.
    swept: bool,
}

/// The snapshot on disk. An empty one is not there.
#[derive(Debug, Default)]
struct Known {
    size: u64,
    /// Length without the parts.
    bytes: u64,
    digest: [u8; 32],
    parts: Vec<Part>,
    marks: Marks,
}

impl Known {
    fn new(bytes: &[u8], size: u64, parts: Vec<Part>, marks: Marks) -> Self {
        let digest = bytes.last_chunk().copied().unwrap_or_default();
        Self { size, bytes: bytes.len() as u64, digest, parts, marks }
    }
}

impl Snapshots {
    /// Of this state folder, as if nothing were in it: what is there is replaced by the next snapshot.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf(), known: Known::default(), swept: false }
    }

    /// Reads the snapshot. It is of use if it stands for the beginning of `log`, of which `size` entries are committed, and for no more than
    /// the `size_max` that are final. None when there is none.
    ///
    /// # Errors
    /// [`SnapshotError`]: replay the log from its first entry.
    pub fn load(
        &mut self,
        origin: &str,
        log: &LogReader,
        size: u64,
        size_max: u64,
    ) -> Result<Option<State>, SnapshotError> {
        let unread = |_| SnapshotError::Damaged("it cannot be read");
        let Some(bytes) = read_if_there(&self.path(), BYTES_MAX).map_err(unread)? else { return Ok(None) };
        let frame = decode(&bytes, origin)?;
        let (taken, parts) = (frame.size(), frame.parts.clone());
        if taken > size_max || log.root_at(taken, size).ok() != Some(frame.root) {
            return Err(SnapshotError::Log);
        }
        let state = frame.state(|part| {
            let len = usize::try_from(part.len).map_err(|_| SnapshotError::Damaged("a part is too long"))?;
            let read = read_if_there(&self.part(part), len).map_err(unread)?;
            read.ok_or(SnapshotError::Damaged("a part is missing"))
        })?;
        self.known = Known::new(&bytes, taken, parts, Marks::of(&state));
        Ok(Some(state))
    }

    /// Entries that the snapshot on disk stands for; 0 when it is not there or not of use.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.known.size
    }

    /// Whether it is time for a new one when `size` entries are final.
    #[must_use]
    pub fn is_due(&self, size: u64) -> bool {
        is_due(size, self.known.size, self.known.bytes)
    }

    /// Takes from a state what [`Snapshots::save`] will write, in little time. `root` is that of the log's first [`State::next_index`]
    /// entries, and the state the one that was loaded or saved last, further on. Where somebody else has changed or removed what was
    /// written, that is everything.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn cut(&mut self, state: &State, root: &Hash) -> Result<Cut, StoreError> {
        if read_tail(&self.path())? != Some(self.known.digest) || state.next_index() < self.known.size {
            *self = Self::new(&self.dir);
        }
        Ok(Cut::new(state, root, &self.known.marks))
    }

    /// Writes a snapshot, durably; the one before is replaced.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn save(&mut self, cut: &Cut) -> Result<(), StoreError> {
        let folder = self.parts();
        ensure_dir(&folder)?;
        let mut parts = self.known.parts.clone();
        for bytes in cut.parts() {
            let part = Part::of(&bytes);
            durable_replace(&self.part(&part), &bytes)?;
            parts.push(part);
        }
        let whole = cut.encode(&parts);
        let bytes = whole.map_err(|error| StoreError::Corrupt { path: self.path(), why: error.to_string() })?;
        durable_replace(&self.path(), &bytes)?;
        self.known = Known::new(&bytes, cut.size(), parts, cut.marks);
        self.sweep()
    }

    /// Removes what a crash, or a snapshot that was of no use, left behind.
    fn sweep(&mut self) -> Result<(), StoreError> {
        if !self.swept {
            let named: BTreeSet<String> = self.known.parts.iter().map(name).collect();
            let folder = self.parts();
            names(&folder)?
                .iter()
                .filter(|name| !named.contains(*name))
                .try_for_each(|name| remove(&folder.join(name)))?;
            self.swept = true;
        }
        Ok(())
    }

    fn path(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    fn parts(&self) -> PathBuf {
        self.dir.join("snapshot.parts")
    }

    fn part(&self, part: &Part) -> PathBuf {
        self.parts().join(name(part))
    }
}

fn name(part: &Part) -> String {
    hex::encode(part.digest)
}
