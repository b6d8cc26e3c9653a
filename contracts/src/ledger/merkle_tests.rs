use super::*;
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;

fn leaves(n: u64) -> Vec<Hash> {
    (0..n).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

/// The recursive definitions of RFC 6962, with nothing shared with the code above but the two hash functions; each range's root is
/// remembered.
struct Naive(Vec<Hash>, RefCell<HashMap<(usize, usize), Hash>>);

impl Naive {
    fn new(leaves: &[Hash]) -> Self {
        Self(leaves.to_vec(), RefCell::default())
    }
    /// Where `lo..hi` is divided: the largest power of two below its length.
    fn split(lo: usize, hi: usize) -> usize {
        let mut k = 1;
        while k * 2 < hi - lo {
            k *= 2;
        }
        lo + k
    }
    fn mth(&self, lo: usize, hi: usize) -> Hash {
        match hi - lo {
            0 => return empty_root(),
            1 => return self.0[lo],
            _ => {}
        }
        if let Some(known) = self.1.borrow().get(&(lo, hi)) {
            return *known;
        }
        let k = Self::split(lo, hi);
        let root = node_hash(&self.mth(lo, k), &self.mth(k, hi));
        self.1.borrow_mut().insert((lo, hi), root);
        root
    }
    fn path(&self, m: usize, lo: usize, hi: usize) -> Vec<Hash> {
        if hi - lo == 1 {
            return vec![];
        }
        let k = Self::split(lo, hi);
        let (mut path, sibling) =
            if m < k { (self.path(m, lo, k), self.mth(k, hi)) } else { (self.path(m, k, hi), self.mth(lo, k)) };
        path.push(sibling);
        path
    }
    fn subproof(&self, m: usize, lo: usize, hi: usize, known: bool) -> Vec<Hash> {
        if m == hi {
            return if known { vec![] } else { vec![self.mth(lo, hi)] };
        }
        let k = Self::split(lo, hi);
        let (mut proof, sibling) = if m <= k {
            (self.subproof(m, lo, k, known), self.mth(k, hi))
        } else {
            (self.subproof(m, k, hi, false), self.mth(lo, k))
        };
        proof.push(sibling);
        proof
    }
}

/// All complete subtrees, level by level.
struct Levels(Vec<Vec<Hash>>);
impl Levels {
    fn new(h: &[Hash]) -> Self {
        let mut levels = vec![h.to_vec()];
        while let Some(next) =
            levels.last().map(|l| l.chunks_exact(2).map(|p| node_hash(&p[0], &p[1])).collect::<Vec<_>>())
            && !next.is_empty()
        {
            levels.push(next);
        }
        Self(levels)
    }
}
impl NodeReader for Levels {
    type Error = Infallible;
    fn node(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        Ok(self.0[level as usize][index as usize])
    }
}

#[test]
fn every_tree_up_to_300_equals_the_naive_one() {
    let h = leaves(300);
    let (reader, naive) = (Levels::new(&h), Naive::new(&h));
    let mut tree = Tree::default();
    for n in 0..=300usize {
        let root = naive.mth(0, n);
        assert_eq!(tree.root(), root);
        assert_eq!(Tree::read(&reader, n as u64).unwrap(), tree);
        assert_eq!(root_at(&reader, n as u64).unwrap(), root);
        h.get(n).into_iter().for_each(|leaf| tree.append(*leaf));
    }
}

#[test]
fn every_inclusion_up_to_300() {
    let h = leaves(300);
    let (reader, naive) = (Levels::new(&h), Naive::new(&h));
    for n in 1..=300usize {
        let (root, size) = (root_at(&reader, n as u64).unwrap(), n as u64);
        for m in 0..n {
            let path = inclusion(&reader, m as u64, size).unwrap();
            assert_eq!(path, naive.path(m, 0, n), "{m} in {n}");
            verify_inclusion(&path, m as u64, &h[m], size, &root).unwrap();
            let other = (m + 1) % n;
            if other != m {
                assert!(verify_inclusion(&path, other as u64, &h[m], size, &root).is_err());
                assert!(verify_inclusion(&path, m as u64, &h[other], size, &root).is_err());
            }
        }
    }
}

#[test]
fn every_consistency_up_to_300() {
    let h = leaves(300);
    let (reader, naive) = (Levels::new(&h), Naive::new(&h));
    let roots: Vec<Hash> = (0..=300).map(|n| root_at(&reader, n).unwrap()).collect();
    for n in 0..=300usize {
        for m in 0..=n {
            let proof = consistency(&reader, m as u64, n as u64).unwrap();
            let expected = if m > 0 && m < n { naive.subproof(m, 0, n, true) } else { vec![] };
            assert_eq!(proof, expected, "{m} to {n}");
            verify_consistency(&proof, m as u64, &roots[m], n as u64, &roots[n]).unwrap();
            assert!(verify_consistency(&proof, m as u64, &[9; 32], n as u64, &roots[n]).is_err());
            if m > 0 {
                assert!(verify_consistency(&proof, m as u64, &roots[m], n as u64, &[9; 32]).is_err());
            }
            let mut longer = proof.clone();
            longer.push([1; 32]);
            assert!(verify_consistency(&longer, m as u64, &roots[m], n as u64, &roots[n]).is_err());
        }
    }
}

#[test]
fn every_flipped_hash_of_a_proof_is_refused() {
    let h = leaves(77);
    let reader = Levels::new(&h);
    let root = root_at(&reader, 77).unwrap();
    let path = inclusion(&reader, 40, 77).unwrap();
    for i in 0..path.len() {
        let mut bad = path.clone();
        bad[i][0] ^= 1;
        assert_eq!(verify_inclusion(&bad, 40, &h[40], 77, &root), Err(ProofError::Root));
    }
    assert!(verify_inclusion(&path[1..], 40, &h[40], 77, &root).is_err());
    assert_eq!(verify_inclusion(&path, 77, &h[40], 77, &root), Err(ProofError::OutOfRange { size: 77 }));
}

#[test]
fn sizes_at_the_end_of_the_range_do_not_overflow() {
    assert!(verify_inclusion(&[[0; 32]; 70], u64::MAX - 1, &[0; 32], u64::MAX, &[0; 32]).is_err());
    assert!(verify_consistency(&[[0; 32]; 70], u64::MAX - 1, &[0; 32], u64::MAX, &[0; 32]).is_err());
}
