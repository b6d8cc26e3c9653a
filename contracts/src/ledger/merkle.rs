//! The Merkle tree of RFC 6962 section 2.1: appending, proving and verifying.
//!
//! A [`Tree`] keeps only the roots of its complete subtrees (at most 64 hashes). Proofs are built over a [`NodeReader`], which the
//! tiles implement, and verified by the algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 value: a leaf, a node or a root.
pub type Hash = [u8; 32];

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The index or the smaller size is not inside the tree.
    #[error("the position is outside the tree of {size} entries")]
    OutOfRange {
        /// Size of the tree.
        size: u64,
    },
    /// The proof has too many or too few hashes for these sizes.
    #[error("the proof has the wrong number of hashes")]
    Length,
    /// The hashes do not lead to the expected root.
    #[error("the proof does not lead to the root: the entry, the proof or the root was altered")]
    Root,
}

/// RFC 6962 leaf hash: SHA-256(0x00 || data).
#[must_use]
pub fn leaf_hash(data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(data).finalize().into()
}

/// RFC 6962 node hash: SHA-256(0x01 || left || right).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new().chain_update([1]).chain_update(left).chain_update(right).finalize().into()
}

/// Root of the empty tree: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Root over a run of hashes of equal height, as RFC 6962's MTH.
#[must_use]
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    for hash in hashes {
        tree.append(*hash);
    }
    tree.root()
}

/// A compact tree: size and the roots of its complete subtrees, largest first. Append is O(1) amortised, memory O(log n).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tree {
    size: u64,
    peaks: Vec<Hash>,
}

impl Tree {
    /// Number of leaves.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf (its [`leaf_hash`], not its data).
    pub fn append(&mut self, leaf: Hash) {
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = node_hash(&left, &hash);
            }
        }
        self.peaks.push(hash);
        self.size = self.size.saturating_add(1);
    }

    /// The root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let folded = self.peaks.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(empty_root)
    }

    /// Reads the compact tree of the first `size` leaves.
    ///
    /// # Errors
    /// Those of the reader.
    pub fn read<R: NodeReader + ?Sized>(reader: &R, size: u64) -> Result<Self, R::Error> {
        Ok(Self { size, peaks: peaks(reader, 0, size)? })
    }
}

/// Where the hashes of complete subtrees can be read.
pub trait NodeReader {
    /// What goes wrong when reading.
    type Error;

    /// Root of the complete subtree over the leaves `index << level .. (index + 1) << level`.
    ///
    /// # Errors
    /// When that subtree is not stored, or cannot be read.
    fn node(&self, level: u32, index: u64) -> Result<Hash, Self::Error>;
}

/// Largest power of two smaller than `n`, for `n >= 2` (RFC 6962's k).
fn split(n: u64) -> u64 {
    1 << (63 - n.saturating_sub(1).max(1).leading_zeros())
}

/// Roots of the complete subtrees of `lo..hi`, largest first; `lo` is a multiple of the largest.
fn peaks<R: NodeReader + ?Sized>(reader: &R, lo: u64, hi: u64) -> Result<Vec<Hash>, R::Error> {
    let mut out = Vec::new();
    let (mut at, mut left) = (lo, hi.saturating_sub(lo));
    while left > 0 {
        let level = 63 - left.leading_zeros();
        out.push(reader.node(level, at >> level)?);
        at += 1 << level;
        left -= 1 << level;
    }
    Ok(out)
}

fn range_root<R: NodeReader + ?Sized>(reader: &R, lo: u64, hi: u64) -> Result<Hash, R::Error> {
    let folded = peaks(reader, lo, hi)?.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
    Ok(folded.unwrap_or_else(empty_root))
}

/// Root of the tree of the first `size` leaves.
///
/// # Errors
/// Those of the reader.
pub fn root_at<R: NodeReader + ?Sized>(reader: &R, size: u64) -> Result<Hash, R::Error> {
    range_root(reader, 0, size)
}

/// Inclusion proof of leaf `index` in the tree of `size` leaves (RFC 6962 section 2.1.1), nearest sibling first.
/// Empty when `index >= size`; the verifier refuses that.
///
/// # Errors
/// Those of the reader.
pub fn inclusion<R: NodeReader + ?Sized>(reader: &R, index: u64, size: u64) -> Result<Vec<Hash>, R::Error> {
    let mut path = Vec::new();
    if index >= size {
        return Ok(path);
    }
    let (mut lo, mut hi) = (0, size);
    while hi - lo > 1 {
        let middle = lo + split(hi - lo);
        if index < middle {
            path.push(range_root(reader, middle, hi)?);
            hi = middle;
        } else {
            path.push(range_root(reader, lo, middle)?);
            lo = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// Consistency proof between the trees of `old` and `new` leaves (RFC 6962 section 2.1.2). Empty when `old` is 0 or not below `new`.
///
/// # Errors
/// Those of the reader.
pub fn consistency<R: NodeReader + ?Sized>(reader: &R, old: u64, new: u64) -> Result<Vec<Hash>, R::Error> {
    let mut proof = Vec::new();
    if old == 0 || old >= new {
        return Ok(proof);
    }
    let (mut lo, mut hi, mut known) = (0, new, true);
    while old != hi {
        let middle = lo + split(hi - lo);
        if old <= middle {
            proof.push(range_root(reader, middle, hi)?);
            hi = middle;
        } else {
            proof.push(range_root(reader, lo, middle)?);
            lo = middle;
            known = false;
        }
    }
    if !known {
        proof.push(range_root(reader, lo, hi)?);
    }
    proof.reverse();
    Ok(proof)
}

/// Verifies that `leaf` is entry `index` of the tree of `size` leaves with this root (RFC 9162 section 2.1.3.2).
///
/// # Errors
/// [`ProofError`].
pub fn verify_inclusion(path: &[Hash], index: u64, leaf: &Hash, size: u64, root: &Hash) -> Result<(), ProofError> {
    if index >= size {
        return Err(ProofError::OutOfRange { size });
    }
    let (mut fnode, mut snode, mut hash) = (index, size - 1, *leaf);
    for sibling in path {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            hash = node_hash(sibling, &hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length);
    }
    if hash == *root { Ok(()) } else { Err(ProofError::Root) }
}

/// Verifies that the tree of `new` leaves extends the tree of `old` leaves (RFC 9162 section 2.1.4.2).
///
/// # Errors
/// [`ProofError`].
pub fn verify_consistency(
    proof: &[Hash],
    old: u64,
    old_root: &Hash,
    new: u64,
    new_root: &Hash,
) -> Result<(), ProofError> {
    if old > new {
        return Err(ProofError::OutOfRange { size: new });
    }
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(ProofError::Length);
        }
        let same = if old == new { old_root == new_root } else { *old_root == empty_root() };
        return if same { Ok(()) } else { Err(ProofError::Root) };
    }
    let (mut fnode, mut snode) = (old - 1, new - 1);
    while fnode & 1 == 1 {
        fnode >>= 1;
        snode >>= 1;
    }
    let (first, rest) =
        if old.is_power_of_two() { (old_root, proof) } else { proof.split_first().ok_or(ProofError::Length)? };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if snode == 0 {
            return Err(ProofError::Length);
        }
        if fnode & 1 == 1 || fnode == snode {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while fnode & 1 == 0 && fnode != 0 {
                fnode >>= 1;
                snode >>= 1;
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        fnode >>= 1;
        snode >>= 1;
    }
    if snode != 0 {
        return Err(ProofError::Length);
    }
    if old_hash == *old_root && new_hash == *new_root { Ok(()) } else { Err(ProofError::Root) }
}

#[cfg(test)]
#[path = "merkle_tests.rs"]
mod tests;
