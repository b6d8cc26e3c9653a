//! Roots of the sizes that this copy had last. The newest are kept as the trees themselves, since few are ever asked for and a root is an
//! entry's work many times over; a hospital that takes up a long ledger, whose entries become certified at its end only, keeps the rest of
//! them as roots, which are ten times smaller.

use std::collections::VecDeque;

use leben_contracts::ledger::merkle::{Hash, Tree};

/// More than are ever on their way to a certificate at once, in a hospital that keeps up.
const TREES_MAX: usize = 8192;

/// By growing size.
#[derive(Debug, Default)]
pub(super) struct Roots {
    older: VecDeque<(u64, Hash)>,
    newest: VecDeque<Tree>,
}

impl Roots {
    /// One more, larger than those before.
    pub(super) fn push(&mut self, tree: &Tree) {
        self.newest.push_back(tree.clone());
        if self.newest.len() > TREES_MAX
            && let Some(tree) = self.newest.pop_front()
        {
            self.older.push_back((tree.size(), tree.root()));
        }
    }

    /// Forgets those below `size`.
    pub(super) fn drop_below(&mut self, size: u64) {
        while self.older.front().is_some_and(|(older, _)| *older < size) {
            self.older.pop_front();
        }
        while self.newest.front().is_some_and(|tree| tree.size() < size) {
            self.newest.pop_front();
        }
    }

    /// The root over `size` entries, if that is kept.
    pub(super) fn get(&self, size: u64) -> Option<Hash> {
        if let Ok(at) = self.newest.binary_search_by_key(&size, Tree::size) {
            return self.newest.get(at).map(Tree::root);
        }
        let at = self.older.binary_search_by_key(&size, |(older, _)| *older).ok()?;
        self.older.get(at).map(|(_, root)| *root)
    }

    /// Whether a root is that of one of at most `size_max` entries; the newest are looked at first.
    pub(super) fn contains(&self, root: &Hash, size_max: u64) -> bool {
        self.newest.iter().rev().filter(|tree| tree.size() <= size_max).any(|tree| tree.root() == *root)
            || self.older.iter().any(|(size, older)| *size <= size_max && older == root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_roots_are_found_and_no_others() {
        let (mut roots, mut tree, mut all) = (Roots::default(), Tree::default(), Vec::new());
        let count = TREES_MAX as u64 + 40;
        for leaf in 0..count {
            tree.append([leaf as u8; 32]);
            roots.push(&tree);
            all.push((tree.size(), tree.root()));
        }
        assert_eq!((roots.older.len(), roots.newest.len()), (40, TREES_MAX));
        roots.drop_below(11);
        let around = |size: &u64| *size < 60 || *size > count - 5;
        for (size, root) in all.into_iter().filter(|(size, _)| around(size)) {
            let kept = size >= 11;
            assert_eq!(roots.get(size), kept.then_some(root));
            assert_eq!(roots.contains(&root, count), kept);
            assert_eq!(roots.contains(&root, size), kept);
            assert!(!roots.contains(&root, size - 1));
        }
        assert_eq!((roots.get(count + 1), roots.contains(&[0; 32], count)), (None, false));
    }
}
