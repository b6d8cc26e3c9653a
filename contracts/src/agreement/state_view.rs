//! Questions to the state: what is enrolled, offered, agreed and held.

use super::accounts::Accounts;
use super::contract::Contract;
use super::grown::Grown;
use super::hash::{ContractId, Hash32};
use super::party::{Party, PartyId, PartyKeys, Role};
use super::seen::Seen;
use super::state::{AlgorithmRecord, BudgetRecord, Change, ComputeRecord, Dataset, PolicyRecord, State};
use crate::ledger::canonical::{self, CanonicalError};
use crate::ledger::key::PublicKey;
use crate::ledger::note::{KeyType, VerifierKey};
use crate::ledger::policy;
use std::collections::BTreeMap;

impl State {
    /// The log's name.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What every action names as `network`.
    #[must_use]
    pub fn network(&self) -> Hash32 {
        self.network
    }

    /// Entries applied so far: the index of the next one.
    #[must_use]
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Sequenced time of the last entry, Unix milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The index under which a payload was recorded first; none once its time is over, see [`crate::ledger::Replay::find`].
    #[must_use]
    pub fn seen(&self, payload: &Hash32) -> Option<u64> {
        self.seen.find(payload)
    }

    /// Who sequences.
    #[must_use]
    pub fn coordinator(&self) -> Option<&PartyId> {
        self.coordinator.as_ref()
    }

    /// The key that signs checkpoints.
    #[must_use]
    pub fn log_key(&self) -> Option<PublicKey> {
        self.log_keys.last().copied()
    }

    /// Every key that ever signed checkpoints as a verifier key, the one in force last: more than one after a Handover.
    #[must_use]
    pub fn log_vkeys(&self) -> Vec<VerifierKey> {
        let named = |key: &PublicKey| VerifierKey::new(&self.origin, KeyType::Ed25519, *key).ok();
        self.log_keys.iter().filter_map(named).collect()
    }

    /// Root of the tree over every entry applied.
    #[must_use]
    pub fn root(&self) -> Hash32 {
        Hash32(self.tree.root())
    }

    /// Who cosigns.
    #[must_use]
    pub fn policy(&self) -> Option<&PolicyRecord> {
        self.policy.as_ref()
    }

    /// Whether the log is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// A party by name.
    #[must_use]
    pub fn party(&self, id: &str) -> Option<&Party> {
        self.parties.get(id)
    }

    /// All parties, by name.
    pub fn parties(&self) -> impl Iterator<Item = &Party> {
        self.parties.values()
    }

    /// The party whose connections carry this ed25519 key.
    #[must_use]
    pub fn party_by_tls_key(&self, key: &[u8; 32]) -> Option<&Party> {
        let key = PublicKey::from_bytes(key).ok()?;
        self.tls.get(&key).and_then(|id| self.parties.get(id))
    }

    /// A party's keys in force now.
    #[must_use]
    pub fn keys(&self, party: &str) -> Option<&PartyKeys> {
        self.party(party).and_then(Party::keys)
    }

    /// Enrolled admins with keys in force, by name.
    #[must_use]
    pub fn admins(&self) -> Vec<PartyId> {
        let admins = self.parties.values().filter(|p| p.has_role(Role::Admin) && p.keys().is_some());
        admins.map(|p| p.id.clone()).collect()
    }

    /// Offered data sets, by `owner/name`.
    #[must_use]
    pub fn datasets(&self) -> &BTreeMap<String, Dataset> {
        &self.datasets
    }

    /// Offered code, by payload hash of the offer.
    #[must_use]
    pub fn algorithms(&self) -> &BTreeMap<Hash32, AlgorithmRecord> {
        &self.algorithms
    }

    /// Offered machines, by payload hash of the offer.
    #[must_use]
    pub fn computes(&self) -> &BTreeMap<Hash32, ComputeRecord> {
        &self.computes
    }

    /// A contract by id.
    #[must_use]
    pub fn contract(&self, id: &ContractId) -> Option<&Contract> {
        self.contracts.get(id)
    }

    /// All contracts, by id. Takes time and memory with the whole past; where that is not needed, see [`State::recent_contracts`].
    pub fn contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.iter()
    }

    /// How many contracts there are.
    #[must_use]
    pub fn contracts_len(&self) -> usize {
        self.contracts.len()
    }

    /// Contracts that have not ended, by id, and the latest 256 that have, in the order in which they did.
    pub fn recent_contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.open().chain(self.contracts.recent(|_| true))
    }

    /// Contracts that have not ended, by id.
    pub fn open_contracts(&self) -> impl Iterator<Item = &Contract> {
        self.contracts.open()
    }

    /// A contract that has not ended.
    #[must_use]
    pub fn open_contract(&self, id: &ContractId) -> Option<&Contract> {
        self.contracts.get_open(id)
    }

    /// Those of the latest 256 contracts to end that are wanted, in the order in which they did; others are not even read.
    pub fn ended_contracts(&self, wanted: impl Fn(&ContractId) -> bool) -> impl Iterator<Item = &Contract> {
        self.contracts.recent(wanted)
    }

    /// Declared privacy budgets, by `owner/name`.
    #[must_use]
    pub fn budgets(&self) -> &BTreeMap<String, BudgetRecord> {
        &self.budgets
    }

    /// Every account.
    #[must_use]
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// What a party may spend, credits.
    #[must_use]
    pub fn credits(&self, party: &PartyId) -> u64 {
        self.accounts.credits(party)
    }

    /// The state without contracts and without what only grows: see `snapshot.rs`, which writes those by themselves.
    pub(super) fn without_past(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            network: self.network,
            next_index: self.next_index,
            now_ms: self.now_ms,
            seen: Seen::default(),
            coordinator: self.coordinator.clone(),
            log_keys: self.log_keys.clone(),
            tree: self.tree.clone(),
            policy: self.policy.clone(),
            frozen: self.frozen,
            parties: self.parties.clone(),
            signers: self.signers.clone(),
            tls: self.tls.clone(),
            invites: self.invites.clone(),
            receipts: Grown::default(),
            datasets: self.datasets.clone(),
            algorithms: self.algorithms.clone(),
            computes: self.computes.clone(),
            contracts: self.contracts.without_any(),
            budgets: self.budgets.clone(),
            accounts: self.accounts.clone(),
        }
    }

    /// The state as canonical JSON: equal states are equal bytes.
    ///
    /// # Errors
    /// None for a state that came from entries.
    pub fn to_bytes(&self) -> Result<Vec<u8>, CanonicalError> {
        canonical::to_bytes(self)
    }

    /// The witness policy in the log's own format: the log key, the validators by party name, the quorum.
    #[must_use]
    pub fn witness_policy(&self) -> Option<policy::Policy> {
        self.policy_of(self.policy.as_ref()?, self.log_key()?, |id| self.parties.get(id))
    }

    /// Whether there is a witness policy after these changes, if there is to be one: a log without could never be cosigned, verified or
    /// handed over again.
    pub(super) fn leaves_a_policy(&self, changes: &[Change]) -> bool {
        let (mut record, mut log, mut parties) = (self.policy.as_ref(), self.log_key(), BTreeMap::new());
        for change in changes {
            match change {
                Change::Policy(next) => record = Some(next),
                Change::Coordinator(_, key) => log = Some(*key),
                Change::Party(party) => _ = parties.insert(&party.id, party.as_ref()),
                _ => {}
            }
        }
        let party = |id: &PartyId| parties.get(id).copied().or_else(|| self.parties.get(id));
        record.is_none_or(|record| log.is_some_and(|log| self.policy_of(record, log, party).is_some()))
    }

    fn policy_of<'a>(
        &self,
        record: &PolicyRecord,
        log: PublicKey,
        party: impl Fn(&PartyId) -> Option<&'a Party>,
    ) -> Option<policy::Policy> {
        let log = VerifierKey::new(&self.origin, KeyType::Ed25519, log).ok()?;
        let of = |id: &PartyId| VerifierKey::new(id.as_str(), KeyType::Cosignature, party(id)?.keys()?.validator?).ok();
        let witnesses = record.validators.iter().map(of).collect::<Option<Vec<_>>>()?;
        policy::Policy::k_of_n(&log, &witnesses, usize::try_from(record.quorum).ok()?).ok()
    }
}
