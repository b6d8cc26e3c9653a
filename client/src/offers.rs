//! What the ledger offers, as a draft and the catalogue need it.

use leben_contracts::agreement::accounts::{AccountId, Unit};
use leben_contracts::agreement::body::{AlgorithmOffer, DatasetOffer};
use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::state::State;

/// What a draft may refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// The party that drafts: data user and recipient.
    pub me: PartyId,
    /// Its x25519 key for results.
    pub sealing: [u8; 32],
    /// Who integrates.
    pub coordinator: PartyId,
    /// Everybody enrolled, by name.
    pub parties: Vec<PartyId>,
    /// The data sets on offer, by hospital and name.
    pub sets: Vec<Set>,
    /// The algorithms on offer.
    pub algorithms: Vec<AlgorithmOffer>,
}

/// One data set on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The hospital.
    pub owner: PartyId,
    /// Its offer.
    pub offer: DatasetOffer,
    /// What it may still tell under a privacy mechanism; `None`: it takes no such job.
    pub budget: Option<BudgetLeft>,
}

/// A data set's privacy budget as the ledger shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BudgetLeft {
    /// Neither spent nor held, millionths of epsilon.
    pub left_micro: u64,
    /// For its life, millionths of epsilon.
    pub limit_micro: u64,
    /// Delta for its life, in units of 10^-12.
    pub delta_e12: u64,
}

impl BudgetLeft {
    /// Of a data set by its key (`hospital/dataset`).
    pub fn of(state: &State, key: &str) -> Option<BudgetLeft> {
        let genesis = &state.budgets().get(key)?.genesis;
        let account = state.accounts().get(&AccountId::budget(Unit::MicroEpsilon, key))?;
        let (limit_micro, delta_e12) = (genesis.epsilon_micro_limit, genesis.delta_e12);
        Some(BudgetLeft { left_micro: account.available(), limit_micro, delta_e12 })
    }
}

impl Set {
    /// `hospital/dataset`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.owner, self.offer.name)
    }
}
