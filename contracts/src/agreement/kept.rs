//! Every contract that ever was. An open one is held as it is; an ended one, which only a review can still touch, as its JSON, read
//! when somebody asks for it: a long past takes little memory and little time at start-up.

use super::contract::Contract;
use super::hash::{ContractId, Hash32};
use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// How many of those that ended last are found without looking through all.
const RECENT_MAX: usize = 256;

/// One contract as it is held. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    Open(Arc<Contract>),
    Ended(Arc<Packed>),
}

/// A contract that has ended.
#[derive(Debug)]
pub(super) struct Packed {
    pub(super) id: ContractId,
    /// The entry that touched it last.
    pub(super) index: u64,
    json: Run,
    read: OnceLock<Option<Box<Contract>>>,
}

impl Packed {
    pub(super) fn new(id: ContractId, index: u64, json: Run) -> Self {
        Self { id, index, json, read: OnceLock::new() }
    }

    pub(super) fn json(&self) -> &[u8] {
        self.json.bytes()
    }
}

/// A part of a buffer that others have parts of too.
#[derive(Debug, Clone)]
pub(super) struct Run {
    buffer: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Run {
    pub(super) fn new(buffer: Arc<Vec<u8>>, range: Range<usize>) -> Self {
        Self { buffer, range }
    }

    fn bytes(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl From<Vec<u8>> for Run {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), buffer: Arc::new(bytes) }
    }
}

impl Kept {
    /// As the entry at `index` leaves it.
    pub(super) fn new(contract: Contract, index: u64) -> Self {
        let ended = contract.phase.is_terminal();
        match ended.then(|| serde_json::to_vec(&contract)) {
            Some(Ok(json)) => Self::Ended(Arc::new(Packed::new(contract.id, index, json.into()))),
            _ => Self::Open(Arc::new(contract)),
        }
    }

    pub(super) fn id(&self) -> ContractId {
        match self {
            Self::Open(contract) => contract.id,
            Self::Ended(packed) => packed.id,
        }
    }

    /// The contract; none only where a packed one was not written by this program, which the snapshot's hash rules out.
    fn get(&self) -> Option<&Contract> {
        match self {
            Self::Open(contract) => Some(contract),
            Self::Ended(packed) => {
                packed.read.get_or_init(|| serde_json::from_slice(packed.json()).ok()).as_ref().map(AsRef::as_ref)
            }
        }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open(a), Self::Open(b)) => a == b,
            (Self::Ended(a), Self::Ended(b)) => a.id == b.id && a.index == b.index && a.json() == b.json(),
            _ => false,
        }
    }
}

impl Eq for Kept {}

/// All of them, by id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Contracts {
    all: BTreeMap<ContractId, Kept>,
    open: BTreeSet<ContractId>,
    /// Those that have ended, each once, by the entry that touched it last.
    ended: BTreeSet<(u64, ContractId)>,
    /// The latest to end, in the order in which they did.
    recent: VecDeque<ContractId>,
}

impl Contracts {
    pub(super) fn get(&self, id: &ContractId) -> Option<&Contract> {
        self.all.get(id).and_then(Kept::get)
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Contract> {
        self.all.values().filter_map(Kept::get)
    }

    pub(super) fn open(&self) -> impl Iterator<Item = &Contract> {
        self.open.iter().filter_map(|id| self.get(id))
    }

    pub(super) fn recent(&self, wanted: impl Fn(&ContractId) -> bool) -> impl Iterator<Item = &Contract> {
        self.recent.iter().filter(move |id| wanted(id)).filter_map(|id| self.get(id))
    }

    pub(super) fn get_open(&self, id: &ContractId) -> Option<&Contract> {
        match self.all.get(id) {
            Some(Kept::Open(contract)) => Some(contract),
            _ => None,
        }
    }

    pub(super) fn insert(&mut self, kept: Kept) {
        let id = kept.id();
        // A review of one that has ended already does not move it up.
        if matches!(kept, Kept::Ended(_)) && (self.open.contains(&id) || !self.all.contains_key(&id)) {
            self.recent.push_back(id);
            if self.recent.len() > RECENT_MAX {
                self.recent.pop_front();
            }
        }
        self.join(kept);
    }

    /// Puts one in its place, but not among the latest to end.
    pub(super) fn join(&mut self, kept: Kept) {
        let id = kept.id();
        match &kept {
            Kept::Open(_) => _ = self.open.insert(id),
            Kept::Ended(packed) => {
                self.open.remove(&id);
                self.ended.insert((packed.index, id));
            }
        }
        if let Some(Kept::Ended(before)) = self.all.insert(id, kept)
            && !matches!(self.all.get(&id), Some(Kept::Ended(now)) if now.index == before.index)
        {
            self.ended.remove(&(before.index, id));
        }
    }

    /// None of them; only which were the latest to end.
    pub(super) fn without_any(&self) -> Self {
        Self { recent: self.recent.clone(), ..Self::default() }
    }

    /// Those that have not ended, by id.
    pub(super) fn open_shared(&self) -> impl Iterator<Item = &Arc<Contract>> {
        self.open.iter().filter_map(|id| match self.all.get(id) {
            Some(Kept::Open(contract)) => Some(contract),
            _ => None,
        })
    }

    /// Those that have ended and that no entry before `index` left as they are, in the order in which they were touched.
    pub(super) fn ended_since(&self, index: u64) -> impl Iterator<Item = &Arc<Packed>> {
        let since = (index, Hash32([0; 32]));
        self.ended.range(since..).filter_map(|(_, id)| match self.all.get(id) {
            Some(Kept::Ended(packed)) => Some(packed),
            _ => None,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Parts<A, R> {
    all: A,
    recent: R,
}

impl Serialize for Contracts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let all: BTreeMap<&ContractId, &Contract> =
            self.all.iter().filter_map(|(id, kept)| kept.get().map(|contract| (id, contract))).collect();
        Parts { all, recent: &self.recent }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Contracts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts { all, recent } = Parts::<BTreeMap<ContractId, IgnoredAny>, _>::deserialize(deserializer)?;
        match all.is_empty() {
            true => Ok(Self { recent, ..Self::default() }),
            false => Err(D::Error::custom("a state is read back without its contracts, which follow one by one")),
        }
    }
}
