//! The right edge of a log, and the files that appending writes.

use super::merkle::{Hash, NodeReader, Tree, leaf_hash, root_of};
use super::note::Note;
use super::tile::{
    LEVEL_MAX, TILE_WIDTH, TileError, TileKind, TilePath, bundle_entry, decode_bundle, decode_hashes, edge,
    encode_hashes, subtree_in,
};

/// One file to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TileFile {
    /// Where, relative to the published folder.
    pub path: TilePath,
    /// Its whole content.
    pub bytes: Vec<u8>,
}

/// What one commit adds to a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Size of the log before.
    pub first_index: u64,
    /// Size of the log after.
    pub size: u64,
    /// Tiles that became full or changed.
    pub files: Vec<TileFile>,
    /// The checkpoint of the new size, signed by the log.
    pub note: Note,
}

/// The right edge of a log: what is needed to append leaves and to write the tiles they change. At most 255 leaves and 255 hashes
/// a level, whatever the size of the log.
#[derive(Debug, Clone, Default)]
pub struct Builder {
    tree: Tree,
    /// The edge's leaves, encoded as in their file.
    bundle: Vec<u8>,
    bundle_len: usize,
    levels: Vec<Vec<Hash>>,
    full: Vec<TileFile>,
    dirty: Vec<bool>,
}

impl Builder {
    /// Takes up a log where it stands: `read` gives the bytes of each right-edge file of a log of `size` leaves. The caller compares
    /// [`Builder::tree`]'s root with the signed one.
    ///
    /// # Errors
    /// Those of `read`, and malformed tiles.
    pub fn resume<E: From<TileError>>(size: u64, read: impl Fn(&TilePath) -> Result<Vec<u8>, E>) -> Result<Self, E> {
        let mut builder = Self::default();
        if let Some(path) = edge(TileKind::Entries, size) {
            builder.bundle = read(&path)?;
        }
        for level in 0..=LEVEL_MAX {
            if size.checked_shr(8 * u32::from(level)).unwrap_or(0) == 0 {
                break;
            }
            let hashes = match edge(TileKind::Hashes(level), size) {
                Some(path) => decode_hashes(&read(&path)?, path.width)?,
                None => Vec::new(),
            };
            builder.levels.push(hashes);
        }
        builder.dirty = vec![false; builder.levels.len()];
        let hashes = builder.levels.first().map(Vec::as_slice).unwrap_or_default();
        let first = size - size % TILE_WIDTH;
        let leaves = decode_bundle(&builder.bundle, size - first)?;
        builder.bundle_len = leaves.len();
        for (index, (entry, hash)) in (first..).zip(leaves.iter().zip(hashes)) {
            if leaf_hash(entry) != *hash {
                return Err(TileError::Mismatch(index).into());
            }
        }
        builder.tree = builder.edge_tree(size);
        Ok(builder)
    }

    /// The tree's complete subtrees are runs of the edge tiles' hashes: the highest level's first.
    fn edge_tree(&self, size: u64) -> Tree {
        struct Edge<'a>(&'a [Vec<Hash>]);
        impl NodeReader for Edge<'_> {
            type Error = ();
            fn node(&self, level: u32, index: u64) -> Result<Hash, ()> {
                let tile = usize::try_from(level / 8).ok().and_then(|l| self.0.get(l)).ok_or(())?;
                subtree_in(tile, level % 8, index).ok_or(())
            }
        }
        Tree::read(&Edge(&self.levels), size).unwrap_or_default()
    }

    /// The compact tree over everything appended.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Appends one leaf.
    ///
    /// # Errors
    /// [`TileError::EntryTooLong`].
    pub fn append(&mut self, entry: impl AsRef<[u8]>) -> Result<(), TileError> {
        let entry = entry.as_ref();
        bundle_entry(entry, &mut self.bundle)?;
        let leaf = leaf_hash(entry);
        let index = self.tree.size();
        self.bundle_len = self.bundle_len.saturating_add(1);
        if is_full(self.bundle_len) {
            let next = Vec::with_capacity(self.bundle.len());
            let bytes = std::mem::replace(&mut self.bundle, next);
            self.full.push(TileFile { path: full_path(TileKind::Entries, index, 0), bytes });
            self.bundle_len = 0;
        }
        self.push_hash(index, leaf);
        self.tree.append(leaf);
        Ok(())
    }

    fn push_hash(&mut self, index: u64, leaf: Hash) {
        let mut hash = leaf;
        for level in 0..=LEVEL_MAX {
            let at = usize::from(level);
            if self.levels.len() <= at {
                self.levels.push(Vec::new());
                self.dirty.push(false);
            }
            let Some(tile) = self.levels.get_mut(at) else { return };
            tile.push(hash);
            if let Some(dirty) = self.dirty.get_mut(at) {
                *dirty = true;
            }
            if !is_full(tile.len()) {
                return;
            }
            hash = root_of(tile);
            self.full
                .push(TileFile { path: full_path(TileKind::Hashes(level), index, level), bytes: encode_hashes(tile) });
            tile.clear();
        }
    }

    /// Takes the files that the leaves appended since the last call fill or change: full ones, and the partial ones of the edge.
    pub fn take_files(&mut self) -> Vec<TileFile> {
        let size = self.tree.size();
        let mut files = std::mem::take(&mut self.full);
        if self.dirty.first() == Some(&true)
            && let Some(path) = edge(TileKind::Entries, size)
        {
            files.push(TileFile { path, bytes: self.bundle.clone() });
        }
        for (level, hashes) in (0u8..).zip(&self.levels) {
            let dirty = self.dirty.get_mut(usize::from(level)).map(std::mem::take);
            if dirty == Some(true)
                && let Some(path) = edge(TileKind::Hashes(level), size)
            {
                files.push(TileFile { path, bytes: encode_hashes(hashes) });
            }
        }
        files
    }

    /// Takes only the files that became full since the last call.
    pub fn take_full(&mut self) -> Vec<TileFile> {
        std::mem::take(&mut self.full)
    }
}

fn is_full(len: usize) -> bool {
    u64::try_from(len) == Ok(TILE_WIDTH)
}

fn full_path(kind: TileKind, leaf: u64, level: u8) -> TilePath {
    let index = leaf.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
    TilePath { kind, index, width: TILE_WIDTH }
}
