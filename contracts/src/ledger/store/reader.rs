//! Reading a log's folder: entries, nodes and proofs. Nothing read here is verified by reading it; see [`crate::verify`].

use super::StoreError;
use super::durable::{names, read_at_most};
use crate::ledger::checkpoint::{Checkpoint, CheckpointError};
use crate::ledger::merkle::{self, Hash, Tree};
use crate::ledger::note::{NOTE_BYTES_MAX, Note};
use crate::ledger::policy::{POLICY_BYTES_MAX, Policy};
use crate::ledger::proof::TlogProof;
use crate::ledger::tile::{
    Builder, TILE_WIDTH, TileError, TileKind, TileNodes, TilePath, TileReader, decode_bundle, decode_hashes,
    encode_bundle, path_at,
};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Largest entry bundle, in bytes: 256 entries of at most 65,535 and their lengths.
pub const BUNDLE_BYTES_MAX: usize = 256 * (65_535 + 2);

const TILE_BYTES_MAX: usize = 256 * 32;

/// Why something cannot be read from a log's folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// A tile is missing or malformed.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// A file cannot be read.
    #[error("{0}")]
    File(Box<StoreError>),
    /// The checkpoint is malformed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// No such entry.
    #[error("there is no entry {index} in a log of {size}")]
    NoEntry {
        /// The index asked for.
        index: u64,
        /// The size of the log.
        size: u64,
    },
}

impl From<StoreError> for ReadError {
    fn from(error: StoreError) -> Self {
        Self::File(Box::new(error))
    }
}

impl StoreError {
    /// At start-up, tiles that contradict each other are damage: said with the folder and what to do.
    pub(super) fn at_start(self, public: &Path) -> Self {
        match self {
            Self::Read(ReadError::Tile(error)) => Self::Corrupt { path: public.join("tile"), why: error.to_string() },
            other => other,
        }
    }
}

/// A log's published folder, opened for reading. Any number of readers may read while one process writes.
#[derive(Debug, Clone)]
pub struct LogReader {
    dir: PathBuf,
}

impl LogReader {
    /// A reader of the folder that holds `checkpoint` and `tile/`.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    /// The folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The published checkpoint, unverified.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn checkpoint(&self) -> Result<Note, ReadError> {
        let bytes = read_at_most(&self.dir.join("checkpoint"), NOTE_BYTES_MAX)?;
        Ok(Note::parse(&bytes).map_err(CheckpointError::from)?)
    }

    /// The policy that lies beside the checkpoint, unverified; `None` if there is none.
    ///
    /// # Errors
    /// [`ReadError`]; a file that is no policy is damage.
    pub fn policy(&self) -> Result<Option<Policy>, ReadError> {
        let path = self.dir.join("policy");
        if !path.is_file() {
            return Ok(None);
        }
        let bytes = read_at_most(&path, POLICY_BYTES_MAX)?;
        Policy::parse(&bytes).map(Some).map_err(|error| StoreError::Corrupt { path, why: error.to_string() }.into())
    }

    /// The bytes of a tile: of this width, or the beginning of a wider file of the same tile, cut by the caller's decoder.
    fn wider(&self, path: &TilePath) -> Result<(TilePath, Vec<u8>), ReadError> {
        let limit = if path.kind == TileKind::Entries { BUNDLE_BYTES_MAX } else { TILE_BYTES_MAX };
        let mut found = *path;
        if !self.dir.join(path.to_string()).is_file() {
            found = path.full();
            if !self.dir.join(found.to_string()).is_file() {
                let partials = self.dir.join(format!("{found}.p"));
                let widths = if partials.is_dir() { names(&partials)? } else { Vec::new() };
                let widths = widths.iter().filter_map(|name| name.parse().ok()).filter(|w| *w >= path.width);
                found.width = widths.min().unwrap_or(path.width);
            }
        }
        let bytes = read_at_most(&self.dir.join(found.to_string()), limit)?;
        Ok((found, bytes))
    }

    /// The leaves in `range` of a log of `size` entries.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entries(&self, range: Range<u64>, size: u64) -> Result<Vec<Vec<u8>>, ReadError> {
        if range.end > size {
            return Err(ReadError::NoEntry { index: range.end.saturating_sub(1), size });
        }
        let mut out = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let path =
                path_at(TileKind::Entries, at / TILE_WIDTH, size).ok_or(ReadError::NoEntry { index: at, size })?;
            let (found, bytes) = self.wider(&path)?;
            let first = path.index * TILE_WIDTH;
            let end = range.end.min(first + TILE_WIDTH);
            let (skip, take) = (to_usize(at - first), to_usize(end - at));
            out.extend(decode_bundle(&bytes, found.width)?.into_iter().skip(skip).take(take));
            at = end;
        }
        Ok(out)
    }

    /// One leaf of a log of `size` entries.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn entry(&self, index: u64, size: u64) -> Result<Vec<u8>, ReadError> {
        let end = index.checked_add(1).ok_or(ReadError::NoEntry { index, size })?;
        self.entries(index..end, size)?.pop().ok_or(ReadError::NoEntry { index, size })
    }

    /// The nodes of a log of `size` entries, for building several proofs.
    #[must_use]
    pub fn nodes(&self, size: u64) -> TileNodes<'_, Self> {
        TileNodes::new(self, size)
    }

    /// Root of the first `at` entries of a log of `size`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn root_at(&self, at: u64, size: u64) -> Result<Hash, ReadError> {
        merkle::root_at(&self.nodes(size), at)
    }

    /// Inclusion path of entry `index` in the tree of `size`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, ReadError> {
        if index >= size {
            return Err(ReadError::NoEntry { index, size });
        }
        merkle::inclusion(&self.nodes(size), index, size)
    }

    /// Consistency proof from `old` to `new` entries.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, ReadError> {
        merkle::consistency(&self.nodes(new), old, new)
    }

    /// A proof file for entry `index` under a cosigned checkpoint.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn proof(&self, index: u64, note: &Note) -> Result<TlogProof, ReadError> {
        let size = Checkpoint::of(note)?.size;
        Ok(TlogProof { extra: None, index, path: self.inclusion(index, size)?, note: note.clone() })
    }

    /// Proof files for several entries under one cosigned checkpoint; each tile is read once.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn proofs(&self, indices: &[u64], note: &Note) -> Result<Vec<TlogProof>, ReadError> {
        let size = Checkpoint::of(note)?.size;
        let nodes = self.nodes(size);
        let proof = |index: &u64| {
            if *index >= size {
                return Err(ReadError::NoEntry { index: *index, size });
            }
            let path = merkle::inclusion(&nodes, *index, size)?;
            Ok(TlogProof { extra: None, index: *index, path, note: note.clone() })
        };
        indices.iter().map(proof).collect()
    }

    /// The compact tree before a range of entries of a log of `size`, and the leaf hashes of the range.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn leaf_hashes(&self, range: Range<u64>, size: u64) -> Result<(Tree, Vec<Hash>), ReadError> {
        let nodes = self.nodes(size);
        let tree = Tree::read(&nodes, range.start)?;
        let leaves = range.map(|index| merkle::NodeReader::node(&nodes, 0, index)).collect::<Result<_, _>>()?;
        Ok((tree, leaves))
    }

    /// The right edge at `size`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn builder(&self, size: u64) -> Result<Builder, ReadError> {
        Builder::resume(size, |path| self.tile_bytes(path))
    }

    /// The bytes of exactly this tile, cut from a wider file of the same tile where only that is left.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn tile_bytes(&self, path: &TilePath) -> Result<Vec<u8>, ReadError> {
        let (found, mut bytes) = self.wider(path)?;
        if found.width != path.width {
            bytes = match path.kind {
                TileKind::Hashes(_) => bytes.get(..to_usize(path.width) * 32).unwrap_or_default().to_vec(),
                TileKind::Entries => {
                    let mut entries = decode_bundle(&bytes, found.width)?;
                    entries.truncate(to_usize(path.width));
                    encode_bundle(&entries)?
                }
            };
        }
        Ok(bytes)
    }
}

impl TileReader for LogReader {
    type Error = ReadError;

    fn hashes(&self, path: &TilePath) -> Result<Vec<Hash>, ReadError> {
        let (found, bytes) = self.wider(path)?;
        let mut hashes = decode_hashes(&bytes, found.width)?;
        hashes.truncate(to_usize(path.width));
        Ok(hashes)
    }
}

/// Positions inside one tile are at most 256.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
