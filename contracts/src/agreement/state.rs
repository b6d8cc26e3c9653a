//! The replay of the whole ledger: every entry in order gives parties, offers, contracts, accounts. Anyone who replays the same
//! entries has the same state, byte for byte.
//!
//! A step is first turned into a list of changes, which checks everything and changes nothing; only then is the list applied,
//! which cannot fail. Time is an entry's own sequenced time, never a clock. The steps are in `steps_network.rs`,
//! `steps_offers.rs`, `steps_agree.rs`, `steps_execute.rs`, `steps_end.rs` and `steps_money.rs`; the questions in `state_view.rs`.

use super::accounts::{AccountId, Accounts, Plan, Unit};
use super::body::{AlgorithmOffer, BudgetGenesis, ComputeOffer, DatasetOffer, liars_max};
use super::error::{Reason, StepError};
use super::grown::Grown;
use super::hash::{ContractId, Hash32};
use super::kept::{Contracts, Kept};
use super::party::{Party, PartyId};
use super::seen::Seen;
use super::step::Step;
use crate::ledger::Replay;
use crate::ledger::entry::{Entry, Envelope, origin_hash};
use crate::ledger::follow::Refusal;
use crate::ledger::key::PublicKey;
use crate::ledger::merkle::Tree;
use crate::ledger::policy;
use crate::ledger::turn::may_turn;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Everything the ledger says. Grows with the ledger; may be lost and rebuilt from it at any time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub(super) origin: String,
    pub(super) network: Hash32,
    pub(super) next_index: u64,
    pub(super) now_ms: u64,
    pub(super) seen: Seen,
    pub(super) coordinator: Option<PartyId>,
    /// Every key that ever signed checkpoints, the one in force last.
    pub(super) log_keys: Vec<PublicKey>,
    /// Over every entry applied.
    pub(super) tree: Tree,
    pub(super) policy: Option<PolicyRecord>,
    pub(super) frozen: bool,
    pub(super) parties: BTreeMap<PartyId, Party>,
    pub(super) signers: BTreeMap<String, Signer>,
    pub(super) tls: BTreeMap<PublicKey, PartyId>,
    pub(super) invites: BTreeSet<Hash32>,
    pub(super) receipts: Grown<Hash32>,
    pub(super) datasets: BTreeMap<String, Dataset>,
    pub(super) algorithms: BTreeMap<Hash32, AlgorithmRecord>,
    pub(super) computes: BTreeMap<Hash32, ComputeRecord>,
    pub(super) contracts: Contracts,
    pub(super) budgets: BTreeMap<String, BudgetRecord>,
    pub(super) accounts: Accounts,
}

/// A party key in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Signer {
    pub(super) party: PartyId,
    pub(super) key: PublicKey,
}

/// Who cosigns, from a PolicyChange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRecord {
    /// The validators, sorted.
    pub validators: Vec<PartyId>,
    /// How many of them make a checkpoint final.
    pub quorum: u32,
    /// How many they were when a quorum of those before last agreed to them, or the coordinator founded them. Revocations since then
    /// have made them fewer.
    pub agreed: u32,
    /// A quorum has let somebody go: from then on nobody joins unasked, however few are left, or the coordinator would bring them back.
    pub closed: bool,
    /// Index of the entry.
    pub since_index: u64,
}

/// So many validators the coordinator finds by itself: the fewest among whom one may lie. From then on they decide who else cosigns.
pub const FOUNDERS: usize = 4;

impl PolicyRecord {
    /// How many validators the coordinator may still add without asking those in force.
    #[must_use]
    pub fn room(&self) -> usize {
        match !self.closed && usize::try_from(self.agreed) == Ok(self.validators.len()) {
            true => FOUNDERS.saturating_sub(self.validators.len()),
            // Some were revoked: whoever comes in their place is not of those who founded it.
            false => 0,
        }
    }

    /// Whether the coordinator, or an admin, may name these validators without the consent of those in force.
    pub(super) fn may_become_unasked(&self, validators: &[PartyId]) -> bool {
        self.validators.iter().all(|validator| validators.contains(validator))
            && validators.len().saturating_sub(self.validators.len()) <= self.room()
    }

    /// Whether the admins may revoke one validator more by themselves: as many as may lie among those who were agreed on, or else one.
    pub(super) fn may_lose_unasked(&self) -> bool {
        let agreed = usize::try_from(self.agreed).unwrap_or(usize::MAX);
        agreed.saturating_sub(self.validators.len()) < liars_max(agreed).max(1)
    }
}

/// An offered data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    /// The hospital.
    pub owner: PartyId,
    /// Payload hash of the offer.
    pub payload: Hash32,
    /// Index of the entry.
    pub index: u64,
    /// The offer.
    pub offer: DatasetOffer,
}

/// Offered code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlgorithmRecord {
    /// Who offers it.
    pub provider: PartyId,
    /// The offer.
    pub offer: AlgorithmOffer,
}

/// Offered machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComputeRecord {
    /// Who offers them.
    pub provider: PartyId,
    /// The offer.
    pub offer: ComputeOffer,
}

/// A data set's privacy budget.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetRecord {
    /// The hospital.
    pub owner: PartyId,
    /// What was declared.
    pub genesis: BudgetGenesis,
}

/// One thing that an entry changes. Making one is the check, applying one cannot fail.
#[derive(Debug, Clone)]
pub(super) enum Change {
    Coordinator(PartyId, PublicKey),
    Party(Box<Party>),
    Invite(Hash32),
    Receipt(Hash32),
    Policy(PolicyRecord),
    Frozen(bool),
    Dataset(Box<Dataset>),
    DatasetGone(String),
    Algorithm(Hash32, AlgorithmRecord),
    AlgorithmGone(Hash32),
    Compute(Hash32, ComputeRecord),
    ComputeGone(Hash32),
    Budget(String, BudgetRecord),
    Contract(Kept),
    Money(Plan),
}

/// What one entry changed. Another replay that stands right before that entry takes it over with [`State::follow`].
#[derive(Debug, Clone)]
pub struct Applied {
    index: u64,
    kind: String,
    seq_ms: u64,
    payload: Hash32,
    leaf: Hash32,
    not_after_ms: u64,
    timeouts: Plan,
    changes: Vec<Change>,
}

impl Applied {
    /// Index of the entry.
    #[must_use]
    pub fn index(&self) -> u64 {
        self.index
    }

    /// Kind of its action.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// Contracts that it made, changed or ended.
    pub fn contracts(&self) -> impl Iterator<Item = ContractId> {
        self.changes.iter().filter_map(|change| match change {
            Change::Contract(contract) => Some(contract.id()),
            _ => None,
        })
    }
}

impl State {
    /// The state before the first entry of the log with this origin.
    #[must_use]
    pub fn new(origin: &str) -> Self {
        let network = origin_hash(origin).parse().unwrap_or(Hash32([0; 32]));
        let mut accounts = Accounts::default();
        for unit in [Unit::Credits, Unit::MicroEpsilon, Unit::ComputeSeconds] {
            accounts.open(AccountId::outside(unit), unit, false);
        }
        Self {
            origin: origin.to_owned(),
            network,
            next_index: 0,
            now_ms: 0,
            seen: Seen::default(),
            coordinator: None,
            log_keys: Vec::new(),
            tree: Tree::default(),
            policy: None,
            frozen: false,
            parties: BTreeMap::new(),
            signers: BTreeMap::new(),
            tls: BTreeMap::new(),
            invites: BTreeSet::new(),
            receipts: Grown::default(),
            datasets: BTreeMap::new(),
            algorithms: BTreeMap::new(),
            computes: BTreeMap::new(),
            contracts: Contracts::default(),
            budgets: BTreeMap::new(),
            accounts,
        }
    }

    /// Whether an envelope may become the next entry if it is sequenced at `seq_ms`.
    ///
    /// # Errors
    /// [`StepError`]: which step, which contract, why. Nothing changes either way.
    pub fn check(&self, seq_ms: u64, envelope: &Envelope) -> Result<(), StepError> {
        // The leaf's hash is not known yet; it decides nothing about whether the step is allowed.
        self.changes(seq_ms, envelope, Hash32([0; 32])).map(|_| ())
    }

    /// Applies the entry at `index`, which must be the next.
    ///
    /// # Errors
    /// [`StepError`]; then nothing has changed.
    pub fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), StepError> {
        let applied = self.plan(index, entry)?;
        self.commit_all(applied);
        Ok(())
    }

    /// As [`State::apply`]; what comes back makes another replay follow this one, see [`State::follow`].
    ///
    /// # Errors
    /// [`StepError`]; then nothing has changed.
    pub fn advance(&mut self, index: u64, entry: &Entry) -> Result<Applied, StepError> {
        let applied = self.plan(index, entry)?;
        self.commit_all(applied.clone());
        Ok(applied)
    }

    /// Takes over what an entry changed in a replay of the same log.
    ///
    /// # Errors
    /// [`Reason::Index`] when it is not this replay's next entry; then nothing has changed.
    pub fn follow(&mut self, applied: Applied) -> Result<(), Reason> {
        if applied.index != self.next_index {
            return Err(Reason::Index { got: applied.index, next: self.next_index });
        }
        self.commit_all(applied);
        Ok(())
    }

    fn plan(&self, index: u64, entry: &Entry) -> Result<Applied, StepError> {
        let envelope = entry.envelope();
        if index != self.next_index {
            let reason = Reason::Index { got: index, next: self.next_index };
            return Err(refused(envelope, reason));
        }
        let leaf = Hash32(entry.leaf_hash());
        let changes = self.changes(entry.seq_ms(), envelope, leaf)?;
        let timeouts = self.accounts.plan(entry.seq_ms(), &[]).map_err(|e| refused(envelope, e.into()))?;
        let payload = Hash32(envelope.payload_hash());
        let (kind, not_after_ms) = (envelope.action().kind.clone(), envelope.action().not_after_ms);
        Ok(Applied { index, kind, seq_ms: entry.seq_ms(), payload, leaf, not_after_ms, timeouts, changes })
    }

    fn commit_all(&mut self, applied: Applied) {
        let Applied { index, kind: _, seq_ms, payload, leaf, not_after_ms, timeouts, changes } = applied;
        self.accounts.commit(timeouts);
        changes.into_iter().for_each(|change| self.commit(change));
        self.tree.append(leaf.0);
        self.seen.insert(payload, index, not_after_ms, seq_ms);
        self.now_ms = seq_ms;
        self.next_index = index.saturating_add(1);
    }

    fn changes(&self, seq_ms: u64, envelope: &Envelope, leaf: Hash32) -> Result<Vec<Change>, StepError> {
        let changes = Step::new(self, seq_ms, envelope, leaf).and_then(|step| step.changes());
        let changes = changes.map_err(|reason| refused(envelope, reason))?;
        if may_turn(&envelope.action().kind) && !self.leaves_a_policy(&changes) {
            let why = "after it nobody could cosign the ledger any more".to_owned();
            return Err(refused(envelope, Reason::Mismatch(why)));
        }
        Ok(changes)
    }

    fn commit(&mut self, change: Change) {
        match change {
            Change::Coordinator(party, log_key) => {
                self.coordinator = Some(party);
                self.log_keys.push(log_key);
            }
            Change::Party(party) => self.commit_party(*party),
            Change::Invite(hash) => _ = self.invites.insert(hash),
            Change::Receipt(hash) => self.receipts.insert(hash),
            Change::Policy(policy) => self.policy = Some(policy),
            Change::Frozen(frozen) => self.frozen = frozen,
            Change::Dataset(d) => _ = self.datasets.insert(super::contract::dataset_key(&d.owner, &d.offer.name), *d),
            Change::DatasetGone(key) => _ = self.datasets.remove(&key),
            Change::Algorithm(id, record) => _ = self.algorithms.insert(id, record),
            Change::AlgorithmGone(id) => _ = self.algorithms.remove(&id),
            Change::Compute(id, record) => _ = self.computes.insert(id, record),
            Change::ComputeGone(id) => _ = self.computes.remove(&id),
            Change::Budget(key, record) => _ = self.budgets.insert(key, record),
            Change::Contract(contract) => self.contracts.insert(contract),
            Change::Money(plan) => self.accounts.commit(plan),
        }
    }

    fn commit_party(&mut self, party: Party) {
        self.signers.retain(|_, s| s.party != party.id);
        self.tls.retain(|_, p| *p != party.id);
        if let Some(keys) = party.keys() {
            self.signers.insert(keys.party.keyid(), Signer { party: party.id.clone(), key: keys.party });
            self.tls.insert(keys.tls, party.id.clone());
        }
        self.accounts.open(AccountId::credits(&party.id), Unit::Credits, true);
        self.parties.insert(party.id.clone(), party);
    }
}

impl Replay for State {
    fn check(&self, seq_ms: u64, envelope: &Envelope) -> Result<(), Refusal> {
        Self::check(self, seq_ms, envelope).map_err(Refusal::from)
    }

    fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), Refusal> {
        Self::apply(self, index, entry).map_err(Refusal::from)
    }

    fn find(&self, payload_hash: &[u8; 32]) -> Option<u64> {
        self.seen(&Hash32(*payload_hash))
    }

    fn key_of(&self, keyid: &str) -> Option<PublicKey> {
        self.signers.get(keyid).map(|signer| signer.key)
    }

    fn policy(&self) -> Option<policy::Policy> {
        self.witness_policy()
    }
}

fn refused(envelope: &Envelope, reason: Reason) -> StepError {
    let action = envelope.action();
    StepError { kind: action.kind.clone(), contract: action.contract.clone(), reason }
}
