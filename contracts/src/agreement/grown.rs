//! What is kept for ever, in the order in which it came: a snapshot adds what is new and leaves the rest where it is.

use serde::{Deserialize, Serialize};
use std::borrow::Borrow;
use std::collections::BTreeMap;

/// A map that nothing leaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(from = "BTreeMap<K, V>", into = "BTreeMap<K, V>")]
#[serde(bound(
    serialize = "K: Ord + Clone + Serialize, V: Clone + Serialize",
    deserialize = "K: Ord + Clone + Deserialize<'de>, V: Deserialize<'de>"
))]
pub(super) struct Grown<K: Ord + Clone, V> {
    by_key: BTreeMap<K, V>,
    order: Vec<K>,
}

impl<K: Ord + Clone, V> Default for Grown<K, V> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), order: Vec::new() }
    }
}

impl<K: Ord + Clone, V: PartialEq> PartialEq for Grown<K, V> {
    fn eq(&self, other: &Self) -> bool {
        self.by_key == other.by_key
    }
}

impl<K: Ord + Clone, V: Eq> Eq for Grown<K, V> {}

impl<K: Ord + Clone, V> From<BTreeMap<K, V>> for Grown<K, V> {
    fn from(by_key: BTreeMap<K, V>) -> Self {
        Self { order: by_key.keys().cloned().collect(), by_key }
    }
}

impl<K: Ord + Clone, V> From<Grown<K, V>> for BTreeMap<K, V> {
    fn from(grown: Grown<K, V>) -> Self {
        grown.by_key
    }
}

impl<K: Ord + Clone, V> Grown<K, V> {
    pub(super) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.by_key.get(key)
    }

    pub(super) fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.by_key.contains_key(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.by_key.insert(key.clone(), value).is_none() {
            self.order.push(key);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.order.len()
    }

    /// All but the first `count` that came.
    pub(super) fn since(&self, count: usize) -> impl Iterator<Item = (&K, &V)> {
        self.order.iter().skip(count).filter_map(|key| self.by_key.get_key_value(key))
    }
}
