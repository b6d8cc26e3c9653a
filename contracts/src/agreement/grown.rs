//! What is kept for ever, in the order in which it came: a snapshot adds what is new and leaves the rest where it is.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A set that nothing leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeSet<K>", into = "BTreeSet<K>")]
#[serde(bound(serialize = "K: Ord + Clone + Serialize", deserialize = "K: Ord + Clone + Deserialize<'de>"))]
pub(super) struct Grown<K: Ord + Clone> {
    all: BTreeSet<K>,
    order: Vec<K>,
}

impl<K: Ord + Clone> Default for Grown<K> {
    fn default() -> Self {
        Self { all: BTreeSet::new(), order: Vec::new() }
    }
}

impl<K: Ord + Clone> From<BTreeSet<K>> for Grown<K> {
    fn from(all: BTreeSet<K>) -> Self {
        Self { order: all.iter().cloned().collect(), all }
    }
}

impl<K: Ord + Clone> From<Grown<K>> for BTreeSet<K> {
    fn from(grown: Grown<K>) -> Self {
        grown.all
    }
}

impl<K: Ord + Clone> Grown<K> {
    pub(super) fn contains(&self, key: &K) -> bool {
        self.all.contains(key)
    }

    pub(super) fn insert(&mut self, key: K) {
        if self.all.insert(key.clone()) {
            self.order.push(key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// All but the first `count` that came.
    pub(super) fn since(&self, count: usize) -> &[K] {
        self.order.get(count..).unwrap_or_default()
    }
}
