//! The log's files, and the order in which they become durable (LEDGER, commit order).
//!
//! ```text
//! public/  checkpoint  policy  certificate/<size>  tile/..   what any static web server publishes; only public files lie here
//! state/   HEAD                               signed checkpoint of the last committed batch: the truth
//!          staging/<size>                     the batch in flight, whole
//!          snapshot  snapshot.parts/          the replay up to some entry, see [`crate::agreement::snapshot`]
//!          turn                               how far turns are known to be final, see `certificate.rs`
//!          evidence/                          checkpoints by this log's key that do not fit this folder
//!          log-keys                           keys that the log had before a Handover, see `keys.rs`
//!          lock                               held while a process works on this folder
//! ```
//!
//! [`LogStore::stage_durable`], then [`LogStore::commit_head`] (**the commit point**), then [`LogStore::apply`]; much later, when the quorum
//! has cosigned, [`LogStore::publish`]. A crash before the commit point leaves nothing behind, after it the staged batch is applied
//! again by [`LogStore::open`], which runs the same code. **Any error is fatal**: the store refuses every later call, the process exits,
//! and start-up recovers; after a failed fsync nobody knows what the disk holds.
//!
//! | file | may be lost | may be rolled back | forged by | grows by |
//! |---|---|---|---|---|
//! | `HEAD` | no: start-up refuses | no: witnesses notice | the holder of the log's key | nothing |
//! | `staging/` | before HEAD names it | yes | nobody (hash) | nothing, one batch |
//! | `snapshot` | yes: the log is replayed | yes: the rest is replayed | who can write the folder | what is going on in the network |
//! | `snapshot.parts/` | the same | yes: then the log is replayed | the same | about 500 bytes an entry |
//! | `turn` | yes: the quorum of before the last turn says again that it holds it | yes, the same | who can write the folder | one number |
//! | `log-keys` | no: HEAD may be refused | no, the same | who can write the folder | one line a Handover |
//! | tiles | no | no: root differs | nobody (root) | about 40 bytes an entry and the entry |
//! | `checkpoint` | yes, published again | no: refused as older | key and a quorum | nothing |
//! | `certificate/` | no: readers refuse the turn; fetch it from a mirror | immutable | two quorums | one note a turn |

mod certificate;
mod durable;
mod error;
mod evidence;
mod export;
mod head;
mod keys;
mod mirror;
mod reader;
mod staging;

pub use durable::{durable_replace, ensure_dir, read_at_most, read_if_there};
pub(crate) use durable::{names, read_tail, remove};
pub use error::StoreError;
pub use export::{branch, export};
pub use head::Head;
pub use mirror::{Mirror, MirrorError};
pub use reader::{BUNDLE_BYTES_MAX, LogReader, ReadError};

use super::note::{Note, VerifierKey};
use super::policy::Policy;
use super::tile::{Batch, Builder, TILE_WIDTH, TileKind, TilePath, edge};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// One log on disk, held by one process.
pub struct LogStore {
    public: PathBuf,
    state: PathBuf,
    /// Keys of the log: the one it was opened with, then those of before a Handover.
    keys: Vec<VerifierKey>,
    head: Option<Head>,
    published: Option<Head>,
    /// Size published before the current one: its partial tiles may still be being read.
    published_before: Option<u64>,
    /// What this process wrote there last.
    policy: Option<String>,
    failed: bool,
    _lock: File,
}

impl LogStore {
    /// Opens or creates a log, and recovers: HEAD is the truth; what was committed is applied again, what was not is dropped.
    ///
    /// # Errors
    /// [`StoreError`]; in particular [`StoreError::Locked`], [`StoreError::RolledBack`], [`StoreError::Corrupt`].
    pub fn open(public: &Path, state: &Path, log: &VerifierKey) -> Result<Self, StoreError> {
        ensure_dir(public)?;
        ensure_dir(&state.join("staging"))?;
        let lock = durable::lock(&state.join("lock"))?;
        // HEAD and `checkpoint` may have been renamed by a process that died before it could fsync their names.
        durable::settle(&[public, state, &state.join("staging")])?;
        [public, state].into_iter().try_for_each(durable::sync_dir)?;
        let keys = keys::read(state, log)?;
        let head = head::read(&state.join("HEAD"), &keys)?;
        let published = head::read(&public.join("checkpoint"), &keys)?;
        let (public, state) = (public.to_path_buf(), state.to_path_buf());
        let mut store = Self {
            public,
            state,
            keys,
            head,
            published,
            published_before: None,
            policy: None,
            failed: false,
            _lock: lock,
        };
        store.recover()?;
        Ok(store)
    }

    /// The last committed state; `None` for a log without entries.
    #[must_use]
    pub fn head(&self) -> Option<&Head> {
        self.head.as_ref()
    }

    /// The checkpoint that outsiders see.
    #[must_use]
    pub fn published(&self) -> Option<&Head> {
        self.published.as_ref()
    }

    /// Number of committed entries.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head.as_ref().map_or(0, |h| h.size)
    }

    /// The state folder, which is never published.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// Reads this log's tiles and entries.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(&self.public)
    }

    /// The right edge at HEAD, for a sequencer or mirror to go on from.
    ///
    /// # Errors
    /// Tiles that cannot be read.
    pub fn builder(&self) -> Result<Builder, StoreError> {
        Ok(self.reader().builder(self.size())?)
    }

    /// Commits a batch: the three steps in their order.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.stage_durable(batch)?;
        self.commit_head(batch)?;
        self.apply(batch)
    }

    /// Step 3: the whole batch in one durable file. A crash after it and before step 4 leaves no trace of the batch.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn stage_durable(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.step(|store| {
            if batch.first_index != store.size() || batch.size <= batch.first_index {
                return Err(StoreError::OutOfOrder("a batch was staged that does not continue HEAD"));
            }
            store.head_of(&batch.note)?;
            durable_replace(&store.staged(batch.size), &staging::encode(batch)?)
        })
    }

    /// Step 4, the commit point: HEAD moves from what this process believes to the batch's checkpoint. After a crash behind it
    /// the batch stands, and start-up finishes it.
    ///
    /// # Errors
    /// [`StoreError::LostSwap`] when HEAD on disk is not what this process wrote; others: exit.
    pub fn commit_head(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.step(|store| {
            let path = store.state.join("HEAD");
            if head::read(&path, &store.keys)?.map(|h| h.note) != store.head.as_ref().map(|h| h.note.clone()) {
                return Err(StoreError::LostSwap);
            }
            if !durable::is_there(&store.staged(batch.size))? || batch.first_index != store.size() {
                return Err(StoreError::OutOfOrder("a batch was committed before it was staged"));
            }
            let head = store.head_of(&batch.note)?;
            durable_replace(&path, batch.note.to_string().as_bytes())?;
            store.head = Some(head);
            Ok(())
        })
    }

    /// Step 5: the batch's tiles, each created once and never overwritten, then the staged batch is dropped. Start-up repeats
    /// it after a crash anywhere inside.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), StoreError> {
        self.step(|store| {
            if batch.size > store.size() {
                return Err(StoreError::OutOfOrder("a batch was applied before it was committed"));
            }
            let mut dirs = BTreeSet::new();
            for file in &batch.files {
                let path = store.public.join(file.path.to_string());
                durable::create_once(&path, &file.bytes)?;
                dirs.extend(path.parent().map(Path::to_path_buf));
            }
            dirs.iter().try_for_each(|dir| durable::sync_dir(dir))?;
            durable::remove(&store.staged(batch.size))
        })
    }

    /// Step 7: what outsiders see. The caller has checked the cosignatures against the policy; this checks that the checkpoint is the
    /// log's own, is part of the committed history, and is not older than the one published. Then partial tiles that no published
    /// checkpoint needs any more are removed.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn publish(&mut self, note: &Note) -> Result<(), StoreError> {
        self.step(|store| {
            let new = store.head_of(note)?;
            store.check_seen(&new)?;
            let before = store.published.as_ref().map(|p| p.size);
            if before.is_some_and(|size| size > new.size) {
                return Err(StoreError::OutOfOrder("an older checkpoint was published after a newer one"));
            }
            durable_replace(&store.public.join("checkpoint"), note.to_string().as_bytes())?;
            store.published = Some(new);
            store.drop_partials(before)?;
            Ok(())
        })
    }

    /// Writes the `policy` file where it changes, so that the published folder says who must have signed it. What a reader trusts is the reader's own copy.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn publish_policy(&mut self, policy: &Policy) -> Result<(), StoreError> {
        self.step(|store| {
            let text = policy.to_string();
            if store.policy.as_ref() != Some(&text) {
                durable_replace(&store.public.join("policy"), text.as_bytes())?;
                store.policy = Some(text);
            }
            Ok(())
        })
    }

    fn check_seen(&self, seen: &Head) -> Result<(), StoreError> {
        let head = self.size();
        if seen.size > head {
            return Err(StoreError::RolledBack { seen: seen.size, head });
        }
        if self.reader().root_at(seen.size, head)? != seen.root {
            return Err(StoreError::Forked { size: seen.size });
        }
        Ok(())
    }

    fn step<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if self.failed {
            return Err(StoreError::OutOfOrder("the store was used after it had failed"));
        }
        let result = work(self);
        self.failed = result.is_err();
        result
    }

    fn staged(&self, size: u64) -> PathBuf {
        self.state.join("staging").join(size.to_string())
    }

    fn recover(&mut self) -> Result<(), StoreError> {
        let (head, seen) = (self.size(), self.published.as_ref().map_or(0, |p| p.size));
        if seen > head {
            return Err(StoreError::RolledBack { seen, head });
        }
        if self.head.is_none() && durable::is_there(&self.public.join("tile"))? {
            return Err(StoreError::RolledBack { seen: 1, head: 0 });
        }
        let dir = self.state.join("staging");
        for name in durable::names(&dir)? {
            let path = dir.join(&name);
            match name.parse::<u64>() {
                Ok(size) if size <= head => {
                    let bytes = read_at_most(&path, staging::STAGED_BYTES_MAX)?;
                    let batch = staging::decode(&bytes).map_err(|why| StoreError::Corrupt { path, why })?;
                    let tiles: Vec<PathBuf> =
                        batch.files.iter().map(|f| self.public.join(f.path.to_string())).collect();
                    let inside = tiles.iter().flat_map(|tile| tile.ancestors().skip(1));
                    durable::settle(&inside.filter(|folder| folder.starts_with(&self.public)).collect::<Vec<_>>())?;
                    self.apply(&batch)?;
                }
                _ => durable::remove(&path)?,
            }
        }
        self.drop_leftovers()?;
        if let Some(head) = &self.head {
            let root = self.builder().map_err(|error| error.at_start(&self.public))?.tree().root();
            if root != head.root {
                let why = "its root is not that of the tiles at the right edge".to_owned();
                return Err(StoreError::Corrupt { path: self.state.join("HEAD"), why });
            }
        }
        match &self.published {
            Some(published) => self.check_seen(published).map_err(|error| error.at_start(&self.public)),
            None => Ok(()),
        }
    }

    /// Keeps the partial tiles of the last two published sizes: readers of the older checkpoint still find theirs.
    fn drop_partials(&mut self, before: Option<u64>) -> Result<(), StoreError> {
        let (oldest, older) = (self.published_before, before);
        if older != self.published.as_ref().map(|p| p.size) {
            self.published_before = older;
        }
        let (Some(oldest), Some(older)) = (oldest, older) else { return Ok(()) };
        let kinds = (0..=super::tile::LEVEL_MAX).map(TileKind::Hashes).chain([TileKind::Entries]);
        for old in kinds.filter_map(|kind| edge(kind, oldest)) {
            let keep_from = match edge(old.kind, older) {
                Some(now) if now.index == old.index => now.width,
                _ => TILE_WIDTH,
            };
            self.drop_partials_of(&old, keep_from)?;
        }
        Ok(())
    }

    fn drop_partials_of(&self, tile: &TilePath, keep_from: u64) -> Result<(), StoreError> {
        let dir = self.public.join(format!("{}.p", tile.full()));
        if !dir.is_dir() {
            return Ok(());
        }
        let is_old = |name: &String| name.parse::<u64>().is_ok_and(|width| width < keep_from);
        for name in durable::names(&dir)?.iter().filter(|name| is_old(name)) {
            durable::remove(&dir.join(name))?;
        }
        if durable::names(&dir)?.is_empty() {
            fs::remove_dir(&dir).map_err(|source| StoreError::Io { what: "remove", path: dir, source })?;
        }
        Ok(())
    }
}
