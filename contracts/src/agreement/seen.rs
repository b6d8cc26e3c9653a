//! Actions that somebody could still send again. One whose time is over can never be recorded a second time, so it is forgotten
//! and the memory does not grow with the ledger.

use super::hash::Hash32;
use serde::{Deserialize, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet};

/// How long after its last valid moment an action is still known, milliseconds of sequenced time: whoever lost the answer and asks
/// again a little late is told the index, not that the time is over.
const KEPT_MS: u64 = 3_600_000;

/// Payload hash to index and to the sequenced time from which it may be forgotten.
type First = BTreeMap<Hash32, (u64, u64)>;

/// The index of each action of the recent past.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(from = "First")]
pub(super) struct Seen {
    first: First,
    by_time: BTreeSet<(u64, Hash32)>,
}

impl From<First> for Seen {
    fn from(first: First) -> Self {
        let by_time = first.iter().map(|(payload, (_, forget_ms))| (*forget_ms, *payload)).collect();
        Self { first, by_time }
    }
}

impl Serialize for Seen {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.first.serialize(serializer)
    }
}

impl Seen {
    pub(super) fn find(&self, payload: &Hash32) -> Option<u64> {
        self.first.get(payload).map(|(index, _)| *index)
    }

    /// Takes in an action recorded at `seq_ms` that was valid until `not_after_ms`, and forgets those whose time is over.
    pub(super) fn insert(&mut self, payload: Hash32, index: u64, not_after_ms: u64, seq_ms: u64) {
        while let Some((forget_ms, old)) = self.by_time.first().copied()
            && forget_ms < seq_ms
        {
            self.by_time.pop_first();
            self.first.remove(&old);
        }
        let forget_ms = not_after_ms.saturating_add(KEPT_MS);
        self.first.insert(payload, (index, forget_ms));
        self.by_time.insert((forget_ms, payload));
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
