//! Actions that somebody could still send again. One whose time is over can never be recorded a second time, so it is forgotten
//! and the memory does not grow with the ledger.

use super::hash::Hash32;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// How long after its last valid moment an action is still known, milliseconds of sequenced time: whoever lost the answer and asks
/// again a little late is told the index, not that the time is over.
const KEPT_MS: u64 = 3_600_000;

/// One action: the index of its entry, the sequenced time from which it may be forgotten, its payload hash.
pub(super) type Record = (u64, u64, Hash32);

/// The index of each action of the recent past.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "BTreeMap<Hash32, (u64, u64)>")]
pub(super) struct Seen {
    first: BTreeMap<Hash32, u64>,
    by_index: BTreeMap<u64, (u64, Hash32)>,
    by_time: BTreeSet<(u64, u64)>,
}

impl From<BTreeMap<Hash32, (u64, u64)>> for Seen {
    fn from(first: BTreeMap<Hash32, (u64, u64)>) -> Self {
        Self::from(
            first.into_iter().map(|(payload, (index, forget_ms))| (index, forget_ms, payload)).collect::<Vec<_>>(),
        )
    }
}

impl From<Vec<Record>> for Seen {
    fn from(records: Vec<Record>) -> Self {
        let first = || records.iter().map(|(index, _, payload)| (*payload, *index)).collect();
        let by_index = || records.iter().map(|(index, forget_ms, payload)| (*index, (*forget_ms, *payload))).collect();
        let by_time = || records.iter().map(|(index, forget_ms, _)| (*forget_ms, *index)).collect();
        let (first, (by_index, by_time)) = rayon::join(first, || rayon::join(by_index, by_time));
        Self { first, by_index, by_time }
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let found =
            self.first.iter().filter_map(|(payload, index)| Some((payload, (index, self.by_index.get(index)?.0))));
        serializer.collect_map(found)
    }
}

impl Seen {
    pub(super) fn find(&self, payload: &Hash32) -> Option<u64> {
        self.first.get(payload).copied()
    }

    /// Takes in an action recorded at `seq_ms` that was valid until `not_after_ms`, and forgets those whose time is over.
    pub(super) fn insert(&mut self, payload: Hash32, index: u64, not_after_ms: u64, seq_ms: u64) {
        while let Some((forget_ms, old)) = self.by_time.first().copied()
            && forget_ms < seq_ms
        {
            self.by_time.pop_first();
            if let Some((_, payload)) = self.by_index.remove(&old) {
                self.first.remove(&payload);
            }
        }
        let forget_ms = not_after_ms.saturating_add(KEPT_MS);
        self.first.insert(payload, index);
        self.by_index.insert(index, (forget_ms, payload));
        self.by_time.insert((forget_ms, index));
    }

    /// Those recorded from `index` on, by index.
    pub(super) fn since(&self, index: u64) -> impl Iterator<Item = Record> {
        self.by_index.range(index..).map(|(index, (forget_ms, payload))| (*index, *forget_ms, *payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_action_is_forgotten_an_hour_after_its_time_and_not_before() {
        let hash = |n: u8| Hash32([n; 32]);
        let mut seen = Seen::default();
        seen.insert(hash(1), 0, 1_000, 500);
        seen.insert(hash(2), 1, 9_000_000, 600);
        seen.insert(hash(3), 2, 9_000_000, 1_000 + KEPT_MS);
        assert_eq!(seen.find(&hash(1)), Some(0));
        seen.insert(hash(4), 3, 9_000_000, 1_001 + KEPT_MS);
        assert_eq!((seen.find(&hash(1)), seen.find(&hash(2)), seen.find(&hash(4))), (None, Some(1), Some(3)));
        let json = serde_json::to_vec(&seen).unwrap();
        assert_eq!(serde_json::from_slice::<Seen>(&json).unwrap(), seen);
    }
}
