//! Every contract that ever was. An open one is held as it is; an ended one, which only a review can still touch, as its JSON, read
//! when somebody asks for it: a long past takes little memory and little time at start-up.

use super::contract::Contract;
use super::hash::ContractId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, OnceLock};

/// How many of those that ended last are found without looking through all.
const RECENT_MAX: usize = 256;

/// One contract as it is held. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) enum Kept {
    Open(Arc<Contract>),
    Ended(ContractId, Arc<Packed>),
}

/// A contract that has ended.
#[derive(Debug)]
pub(super) struct Packed {
    json: Box<[u8]>,
    read: OnceLock<Option<Box<Contract>>>,
}

impl Kept {
    pub(super) fn new(contract: Contract) -> Self {
        match serde_json::to_vec(&contract) {
            Ok(json) if contract.phase.is_terminal() => Self::ended(contract.id, json),
            _ => Self::Open(Arc::new(contract)),
        }
    }

    fn ended(id: ContractId, json: Vec<u8>) -> Self {
        Self::Ended(id, Arc::new(Packed { json: json.into(), read: OnceLock::new() }))
    }

    fn id(&self) -> ContractId {
        match self {
            Self::Open(contract) => contract.id,
            Self::Ended(id, _) => *id,
        }
    }

    /// The contract; none only where a packed one was not written by this program, which the snapshot's hash rules out.
    fn get(&self) -> Option<&Contract> {
        match self {
            Self::Open(contract) => Some(contract),
            Self::Ended(_, packed) => {
                packed.read.get_or_init(|| serde_json::from_slice(&packed.json).ok()).as_ref().map(AsRef::as_ref)
            }
        }
    }
}

impl PartialEq for Kept {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Open(a), Self::Open(b)) => a == b,
            (Self::Ended(a, x), Self::Ended(b, y)) => a == b && x.json == y.json,
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

    pub(super) fn recent(&self) -> impl Iterator<Item = &Contract> {
        self.recent.iter().filter_map(|id| self.get(id))
    }

    pub(super) fn insert(&mut self, kept: Kept) {
        let id = kept.id();
        match &kept {
            Kept::Open(_) => _ = self.open.insert(id),
            Kept::Ended(..) => {
                // A review of one that has ended already does not move it up.
                if self.open.remove(&id) || !self.all.contains_key(&id) {
                    self.recent.push_back(id);
                }
                if self.recent.len() > RECENT_MAX {
                    self.recent.pop_front();
                }
            }
        }
        self.all.insert(id, kept);
    }

    /// The same without those that have ended, and those, by id, as JSON.
    pub(super) fn split(&self) -> (Self, impl Iterator<Item = (&ContractId, &[u8])>) {
        let open = self.all.iter().filter(|(_, kept)| matches!(kept, Kept::Open(_)));
        let all = open.map(|(id, kept)| (*id, kept.clone())).collect();
        let ended = self.all.iter().filter_map(|(id, kept)| match kept {
            Kept::Open(_) => None,
            Kept::Ended(_, packed) => Some((id, &*packed.json)),
        });
        (Self { all, open: self.open.clone(), recent: self.recent.clone() }, ended)
    }

    /// Puts back one that has ended.
    pub(super) fn join(&mut self, id: ContractId, json: Vec<u8>) {
        self.all.insert(id, Kept::ended(id, json));
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
        let parts = Parts::<BTreeMap<ContractId, Contract>, VecDeque<ContractId>>::deserialize(deserializer)?;
        let mut contracts = Self { recent: parts.recent, ..Self::default() };
        for (id, contract) in parts.all {
            let kept = Kept::new(contract);
            if matches!(kept, Kept::Open(_)) {
                contracts.open.insert(id);
            }
            contracts.all.insert(id, kept);
        }
        Ok(contracts)
    }
}
