//! Tiles: how the tree and its leaves lie in files (C2SP tlog-tiles), so that any static web server can publish the log.
//!
//! A hash tile holds up to 256 consecutive hashes of one eighth level; an entry bundle holds up to 256 leaves, each as a big-endian
//! `u16` length and its bytes. A file that is not full carries its width in its path.

pub use super::builder::{Batch, Builder, TileFile};
use super::merkle::{Hash, NodeReader, node_hash};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;

/// Hashes in a full tile, leaves in a full bundle.
pub const TILE_WIDTH: u64 = 256;
/// Highest tile level: 2^64 leaves need eight.
pub const LEVEL_MAX: u8 = 7;

/// Why a tile path, a tile or a bundle is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// Not a tile path in its one spelling.
    #[error("`{0}` is not the path of a tile")]
    Path(String),
    /// A tile's length is not 32 bytes for each hash its path promises.
    #[error("the tile is {bytes} bytes, its path promises {width} hashes of 32")]
    Length {
        /// Bytes in the file.
        bytes: usize,
        /// Hashes promised.
        width: u64,
    },
    /// A bundle ends inside an entry, or holds another number of entries than its path promises.
    #[error("the entry bundle does not hold exactly the {width} entries its path promises")]
    Bundle {
        /// Entries promised.
        width: u64,
    },
    /// The right edge's bundle and hash tile do not belong together.
    #[error("entry {0} and its hash in the level-0 tile disagree")]
    Mismatch(u64),
    /// An entry is longer than a bundle can say (65,535 bytes).
    #[error("an entry of {0} bytes does not fit a bundle")]
    EntryTooLong(usize),
}

/// What a tile file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Hashes of complete subtrees of `256^level` leaves.
    Hashes(u8),
    /// The leaves themselves.
    Entries,
}

/// The place of one tile file, for example `tile/0/x001/x234/067` or `tile/entries/000.p/44`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TilePath {
    /// Hashes of a level, or entries.
    pub kind: TileKind,
    /// Position of the tile within its level.
    pub index: u64,
    /// Hashes or entries in it, 1 to 256; 256 is a full tile.
    pub width: u64,
}

impl fmt::Display for TilePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            TileKind::Hashes(level) => write!(f, "tile/{level}/")?,
            TileKind::Entries => f.write_str("tile/entries/")?,
        }
        let digits = self.index.to_string();
        let padded = format!("{}{digits}", "0".repeat((3 - digits.len() % 3) % 3));
        let groups = padded.len() / 3;
        for (i, group) in padded.as_bytes().chunks(3).enumerate() {
            let group = std::str::from_utf8(group).map_err(|_| fmt::Error)?;
            if i + 1 < groups {
                write!(f, "x{group}/")?;
            } else {
                f.write_str(group)?;
            }
        }
        if self.width < TILE_WIDTH { write!(f, ".p/{}", self.width) } else { Ok(()) }
    }
}

impl TilePath {
    /// Parses a path; only the spelling that `Display` writes is accepted.
    ///
    /// # Errors
    /// [`TileError::Path`].
    pub fn parse(text: &str) -> Result<Self, TileError> {
        let path = Self::read(text).filter(|p| p.to_string() == text);
        path.ok_or_else(|| TileError::Path(text.chars().take(120).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        let (level, rest) = text.strip_prefix("tile/")?.split_once('/')?;
        let kind = if level == "entries" {
            TileKind::Entries
        } else {
            TileKind::Hashes(level.parse().ok().filter(|l| *l <= LEVEL_MAX)?)
        };
        let (number, width) = match rest.split_once(".p/") {
            Some((number, width)) => (number, width.parse().ok().filter(|w| (1..TILE_WIDTH).contains(w))?),
            None => (rest, TILE_WIDTH),
        };
        let digits: String = number.split('/').map(|part| part.strip_prefix('x').unwrap_or(part)).collect();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        Some(Self { kind, index: digits.parse().ok()?, width })
    }

    /// The same tile when full.
    #[must_use]
    pub fn full(&self) -> Self {
        Self { width: TILE_WIDTH, ..*self }
    }
}

/// The file that holds this tile of a log of `size` leaves, full or partial; `None` when the log does not reach it.
#[must_use]
pub fn path_at(kind: TileKind, index: u64, size: u64) -> Option<TilePath> {
    let level = match kind {
        TileKind::Hashes(level) => u32::from(level),
        TileKind::Entries => 0,
    };
    let count = size.checked_shr(8 * level).unwrap_or(0);
    let first = index.checked_mul(TILE_WIDTH)?;
    let width = count.checked_sub(first).filter(|w| *w > 0)?.min(TILE_WIDTH);
    Some(TilePath { kind, index, width })
}

/// Every file of a log of `size` leaves, entries first, then level by level.
pub fn paths(size: u64) -> impl Iterator<Item = TilePath> {
    let kinds = std::iter::once(TileKind::Entries).chain((0..=LEVEL_MAX).map(TileKind::Hashes));
    kinds.flat_map(move |kind| (0..).map_while(move |index| path_at(kind, index, size)))
}

/// Encodes leaves as an entry bundle.
///
/// # Errors
/// [`TileError::EntryTooLong`].
pub fn encode_bundle(entries: &[Vec<u8>]) -> Result<Vec<u8>, TileError> {
    let mut out = Vec::with_capacity(entries.iter().map(|e| e.len() + 2).sum());
    entries.iter().try_for_each(|entry| bundle_entry(entry, &mut out))?;
    Ok(out)
}

/// One more leaf at the end of a bundle.
pub(super) fn bundle_entry(entry: &[u8], out: &mut Vec<u8>) -> Result<(), TileError> {
    let len = u16::try_from(entry.len()).map_err(|_| TileError::EntryTooLong(entry.len()))?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(entry);
    Ok(())
}

/// Decodes an entry bundle of exactly `width` entries.
///
/// # Errors
/// [`TileError::Bundle`].
pub fn decode_bundle(mut bytes: &[u8], width: u64) -> Result<Vec<Vec<u8>>, TileError> {
    let wrong = TileError::Bundle { width };
    let mut out = Vec::new();
    while let Some((len, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len))).ok_or(wrong.clone())?;
        out.push(entry.to_vec());
        bytes = rest;
    }
    if !bytes.is_empty() || u64::try_from(out.len()) != Ok(width) {
        return Err(wrong);
    }
    Ok(out)
}

/// Encodes hashes as a tile.
#[must_use]
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// Decodes a tile of exactly `width` hashes.
///
/// # Errors
/// [`TileError::Length`].
pub fn decode_hashes(bytes: &[u8], width: u64) -> Result<Vec<Hash>, TileError> {
    let (hashes, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() || u64::try_from(hashes.len()) != Ok(width) {
        return Err(TileError::Length { bytes: bytes.len(), width });
    }
    Ok(hashes.to_vec())
}

/// The partial file at the right edge, if the edge is not between two tiles.
#[must_use]
pub fn edge(kind: TileKind, size: u64) -> Option<TilePath> {
    let level = match kind {
        TileKind::Hashes(level) => u32::from(level),
        TileKind::Entries => 0,
    };
    let count = size.checked_shr(8 * level).unwrap_or(0);
    path_at(kind, count / TILE_WIDTH, size)
}

/// Root of the complete subtree of `2^height` hashes number `index` (counted from the level's start), found inside one tile.
pub(super) fn subtree_in(tile: &[Hash], height: u32, index: u64) -> Option<Hash> {
    let first = usize::try_from((index << height) % TILE_WIDTH).ok()?;
    let run = tile.get(first..first.checked_add(1 << height)?)?;
    let mut row = run.to_vec();
    while row.len() > 1 {
        row = parents(&row);
    }
    row.first().copied()
}

/// The roots of neighbouring pairs; one left over has none.
fn parents(row: &[Hash]) -> Vec<Hash> {
    row.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect()
}

/// A tile's hashes and every complete subtree inside it, from the leaves up.
fn rows(tile: Vec<Hash>) -> Vec<Vec<Hash>> {
    let mut rows = vec![tile];
    while let Some(last) = rows.last().filter(|row| row.len() > 1) {
        rows.push(parents(last));
    }
    rows
}

/// Where whole tiles can be read.
pub trait TileReader {
    /// What goes wrong when reading.
    type Error: From<TileError>;

    /// The hashes of one tile, exactly `path.width` of them.
    ///
    /// # Errors
    /// When the tile is missing or malformed.
    fn hashes(&self, path: &TilePath) -> Result<Vec<Hash>, Self::Error>;
}

/// The nodes of a log of `size` leaves, read from tiles and kept while the proof is built.
pub struct TileNodes<'a, R> {
    reader: &'a R,
    size: u64,
    /// Each tile's hashes with the rows above them, computed once however many proofs are built.
    kept: RefCell<BTreeMap<TilePath, Vec<Vec<Hash>>>>,
}

impl<'a, R: TileReader> TileNodes<'a, R> {
    /// A view of the first `size` leaves.
    pub fn new(reader: &'a R, size: u64) -> Self {
        Self { reader, size, kept: RefCell::default() }
    }
}

impl<R: TileReader> NodeReader for TileNodes<'_, R> {
    type Error = R::Error;

    fn node(&self, level: u32, index: u64) -> Result<Hash, R::Error> {
        let (tile_level, height) = (level / 8, level % 8);
        let missing = || TileError::Path(format!("level {level}, node {index}"));
        let kind = TileKind::Hashes(u8::try_from(tile_level).map_err(|_| missing())?);
        let path = path_at(kind, (index << height) / TILE_WIDTH, self.size).ok_or_else(missing)?;
        let mut kept = self.kept.borrow_mut();
        let tile = match kept.entry(path) {
            std::collections::btree_map::Entry::Occupied(found) => found.into_mut(),
            std::collections::btree_map::Entry::Vacant(free) => free.insert(rows(self.reader.hashes(&path)?)),
        };
        let row = usize::try_from(height).ok().and_then(|height| tile.get(height));
        let at = usize::try_from(index % (TILE_WIDTH >> height)).ok();
        Ok(row.zip(at).and_then(|(row, at)| row.get(at)).copied().ok_or_else(missing)?)
    }
}

#[cfg(test)]
#[path = "tile_tests.rs"]
mod tests;
