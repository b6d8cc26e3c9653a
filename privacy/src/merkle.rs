//! The root over the chunks of an upload: a Merkle tree hashed as RFC 6962 section 2.1 hashes its own.
//!
//! A leaf is `SHA-256(0x00 || chunk)`, a node `SHA-256(0x01 || left || right)`, so a chunk can never pass for a node.
//! Chunks arrive in any order: [`ChunkRoot`] keeps 32 bytes a chunk and gives the root once all are there.

use sha2::{Digest, Sha256};

/// The leaf hash of one chunk's bytes.
pub fn leaf_hash(chunk: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([0]);
    hash.update(chunk);
    hash.finalize().into()
}

/// The root over leaf hashes in order; of none, `SHA-256("")` as the RFC has it.
pub fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
    let mut level = leaves.to_vec();
    // Pairing from the left and lifting a lone last node gives the RFC's tree (largest power of two on the left).
    while level.len() > 1 {
        level = level
            .chunks(2)
            .map(|pair| match pair {
                [left, right] => node_hash(left, right),
                lone => lone.first().copied().unwrap_or_default(),
            })
            .collect();
    }
    level.first().copied().unwrap_or_else(|| Sha256::digest([]).into())
}

fn node_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update([1]);
    hash.update(left);
    hash.update(right);
    hash.finalize().into()
}

/// Leaf hashes of an upload, filled in any order.
#[derive(Debug, Clone)]
pub struct ChunkRoot {
    leaves: Vec<Option<[u8; 32]>>,
    missing: usize,
}

impl ChunkRoot {
    /// For an upload of `chunks` chunks.
    pub fn new(chunks: usize) -> Self {
        ChunkRoot { leaves: vec![None; chunks], missing: chunks }
    }

    /// Notes the leaf hash of chunk `i`. `false` where `i` does not exist or is already noted.
    pub fn note(&mut self, i: usize, leaf: [u8; 32]) -> bool {
        match self.leaves.get_mut(i) {
            Some(place @ None) => {
                *place = Some(leaf);
                self.missing -= 1;
                true
            }
            _ => false,
        }
    }

    /// Whether chunk `i` is noted.
    pub fn has(&self, i: usize) -> bool {
        matches!(self.leaves.get(i), Some(Some(_)))
    }

    /// Number of chunks not yet noted.
    pub fn missing(&self) -> usize {
        self.missing
    }

    /// The root, once every chunk is noted.
    pub fn root(&self) -> Option<[u8; 32]> {
        let leaves: Option<Vec<_>> = self.leaves.iter().copied().collect();
        leaves.map(|leaves| root(&leaves))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The recursive definition of RFC 6962 section 2.1, word for word.
    fn mth(leaves: &[[u8; 32]]) -> [u8; 32] {
        match leaves.len() {
            0 => Sha256::digest([]).into(),
            1 => leaves[0],
            n => {
                let k = n.next_power_of_two() / 2;
                node_hash(&mth(&leaves[..k]), &mth(&leaves[k..]))
            }
        }
    }

    #[test]
    fn root_is_the_recursive_definition() {
        let leaves: Vec<_> = (0u8..40).map(|i| leaf_hash(&[i])).collect();
        for n in 0..leaves.len() {
            assert_eq!(root(&leaves[..n]), mth(&leaves[..n]), "{n} leaves");
        }
    }

    #[test]
    fn empty_leaf_known_answer() {
        // Certificate Transparency's test vectors: the leaf hash of an empty entry.
        let want = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d";
        assert_eq!(hex::encode(leaf_hash(&[])), want);
    }

    #[test]
    fn chunks_in_any_order_once_each() {
        let leaves: Vec<_> = (0u8..5).map(|i| leaf_hash(&[i])).collect();
        let mut tree = ChunkRoot::new(5);
        for i in [3, 0, 4, 2] {
            assert!(tree.note(i, leaves[i]));
            assert_eq!(tree.root(), None);
        }
        assert!(!tree.note(3, leaves[3]));
        assert!(!tree.note(5, leaves[3]));
        assert!(tree.note(1, leaves[1]));
        assert_eq!(tree.root(), Some(root(&leaves)));
        assert_eq!(tree.missing(), 0);
    }
}
