//! Roots of the sizes that this copy had last. Kept as the trees themselves, since few of them are ever asked for and a root is an
//! entry's work many times over.

use std::collections::VecDeque;

use leben_contracts::ledger::merkle::{Hash, Tree};

/// Trees by growing size.
#[derive(Debug, Default)]
pub(super) struct Roots(VecDeque<Tree>);

impl Roots {
    /// One more, larger than those before.
    pub(super) fn push(&mut self, tree: &Tree) {
        self.0.push_back(tree.clone());
    }

    /// Forgets those below `size`.
    pub(super) fn drop_below(&mut self, size: u64) {
        while self.0.front().is_some_and(|tree| tree.size() < size) {
            self.0.pop_front();
        }
    }

    /// The root over `size` entries, if that is kept.
    pub(super) fn get(&self, size: u64) -> Option<Hash> {
        let at = self.0.binary_search_by_key(&size, Tree::size).ok()?;
        self.0.get(at).map(Tree::root)
    }

    /// Whether a root is that of one of at most `size_max` entries; the newest are looked at first.
    pub(super) fn contains(&self, root: &Hash, size_max: u64) -> bool {
        self.0.iter().rev().filter(|tree| tree.size() <= size_max).any(|tree| tree.root() == *root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_roots_are_found_and_no_others() {
        let (mut roots, mut tree, mut all) = (Roots::default(), Tree::default(), Vec::new());
        for leaf in 0..40u8 {
            tree.append([leaf; 32]);
            roots.push(&tree);
            all.push((tree.size(), tree.root()));
        }
        roots.drop_below(11);
        for (size, root) in all {
            let kept = size >= 11;
            assert_eq!(roots.get(size), kept.then_some(root));
            assert_eq!(roots.contains(&root, 40), kept);
            assert_eq!(roots.contains(&root, size), kept);
            assert!(!roots.contains(&root, size - 1));
        }
        assert_eq!((roots.get(41), roots.contains(&[0; 32], 40)), (None, false));
    }
}
