//! Bodies of the actions that move credits and privacy budget.

use super::hash::Hash32;
use super::party::{Code, PartyId};
use serde::{Deserialize, Serialize};

/// A data set's privacy budget for its lifetime. By its owner, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetGenesis {
    /// The actor's data set.
    pub dataset: Code,
    /// Floor of the number of patients.
    pub rows_floor: u64,
    /// Lifetime limit, millionths of epsilon.
    pub epsilon_micro_limit: u64,
    /// Delta in units of 10^-12.
    pub delta_e12: u64,
}

/// Budget is held for the contract the action names, before its first release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetReserve {
    /// The actor's data set.
    pub dataset: Code,
    /// The terms' epsilon, millionths.
    pub epsilon_micro: u64,
}

/// What was released is spent; the rest of the reservation is freed. Once for each reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetSpend {
    /// The actor's data set.
    pub dataset: Code,
    /// Spent, millionths of epsilon; at least what the receipts say.
    pub epsilon_micro: u64,
}

/// A reservation is freed; only if nothing ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BudgetRelease {
    /// The actor's data set.
    pub dataset: Code,
}

/// Money came in from outside. By the coordinator or an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deposit {
    /// Whose.
    pub party: PartyId,
    /// How much.
    pub credits: u64,
    /// Hash of the outside receipt; used once.
    pub receipt_hash: Hash32,
}

/// Money went out. By the coordinator or an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Payout {
    /// Whose.
    pub party: PartyId,
    /// How much.
    pub credits: u64,
    /// Hash of the outside receipt; used once.
    pub receipt_hash: Hash32,
}

/// The actor gives credits to another party.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transfer {
    /// To whom.
    pub to: PartyId,
    /// How much.
    pub credits: u64,
}
