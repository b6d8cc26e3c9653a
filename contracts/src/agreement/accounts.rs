//! One double-entry engine for three units: escrow, privacy budget and quota are the same code.
//!
//! Semantics are TigerBeetle's: a transfer posts at once or is held (pending); what is held is posted once, in full or in part
//! (the rest is released), or voided, or times out; linked transfers happen all or not at all. Integers and checked arithmetic only.

use super::party::PartyId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What an account counts. Units never mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Money, in whole credits.
    Credits,
    /// Privacy budget of one data set, in millionths of epsilon.
    MicroEpsilon,
    /// Machine time, in seconds.
    ComputeSeconds,
}

/// The name of an account.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AccountId(String);

impl AccountId {
    /// A party's credits; guarded.
    #[must_use]
    pub fn credits(party: &PartyId) -> Self {
        Self(format!("credits/{party}"))
    }

    /// What is left of a resource's budget; guarded. `resource` is a data set (`owner/name`) or a compute offer.
    #[must_use]
    pub fn budget(unit: Unit, resource: &str) -> Self {
        Self(format!("{}/{resource}", unit_word(unit)))
    }

    /// What is used of a resource's budget.
    #[must_use]
    pub fn used(unit: Unit, resource: &str) -> Self {
        Self(format!("{}/{resource}/used", unit_word(unit)))
    }

    /// The world outside: where deposits come from and payouts go; not guarded.
    #[must_use]
    pub fn outside(unit: Unit) -> Self {
        Self(format!("{}//outside", unit_word(unit)))
    }
}

fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Credits => "credits",
        Unit::MicroEpsilon => "epsilon",
        Unit::ComputeSeconds => "compute",
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a transfer: the payload hash of the action behind it and a number. An action is recorded once, so a name comes once, and
/// how a hold ended need not be kept.
pub type TransferId = String;

/// One account's four sums. What may be spent is `credits_posted - debits_posted - debits_pending`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What it counts.
    pub unit: Unit,
    /// Whether debits, held ones included, may never exceed posted credits.
    pub guarded: bool,
    /// Held, going out.
    pub debits_pending: u64,
    /// Gone out.
    pub debits_posted: u64,
    /// Held, coming in.
    pub credits_pending: u64,
    /// Come in.
    pub credits_posted: u64,
}

impl Account {
    fn empty(unit: Unit, guarded: bool) -> Self {
        Self { unit, guarded, debits_pending: 0, debits_posted: 0, credits_pending: 0, credits_posted: 0 }
    }

    /// What may be spent now; 0 for an account that is not guarded.
    #[must_use]
    pub fn available(&self) -> u64 {
        self.credits_posted.saturating_sub(self.debits_posted).saturating_sub(self.debits_pending)
    }
}

/// A held transfer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// From.
    pub debit: AccountId,
    /// To.
    pub credit: AccountId,
    /// How much is held.
    pub amount: u64,
    /// From this sequenced time on the hold is void, Unix milliseconds.
    pub timeout_ms: Option<u64>,
}

/// One movement; a list of them is linked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transfer {
    /// Opens an account with nothing in it; one that exists stays as it is.
    Open {
        /// Its name.
        id: AccountId,
        /// What it counts.
        unit: Unit,
        /// Whether it may never be overdrawn.
        guarded: bool,
    },
    /// Moves an amount now.
    Post {
        /// From.
        debit: AccountId,
        /// To.
        credit: AccountId,
        /// How much, positive.
        amount: u64,
    },
    /// Holds an amount.
    Hold {
        /// Name for the later post or void.
        id: TransferId,
        /// What is held.
        pending: Pending,
    },
    /// Posts a hold, in full or in part; the rest is released.
    PostHeld {
        /// The hold.
        id: TransferId,
        /// How much, positive, at most what is held.
        amount: u64,
    },
    /// Releases a hold.
    Void {
        /// The hold.
        id: TransferId,
    },
}

/// Why a list of transfers is refused. Nothing of it happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// No such account.
    #[error("there is no account {0}")]
    NoAccount(AccountId),
    /// Two accounts of different units, or twice the same.
    #[error("a transfer needs two different accounts of one unit, not {0} and {1}")]
    Mismatch(AccountId, AccountId),
    /// Nothing to move.
    #[error("an amount must be positive")]
    Zero,
    /// The account does not hold that much.
    #[error("{account} holds {available}, {amount} is needed")]
    Overdrawn {
        /// Which account.
        account: AccountId,
        /// What may be spent.
        available: u64,
        /// What was asked.
        amount: u64,
    },
    /// A sum beyond 2^53.
    #[error("a sum on {0} would pass 2^53")]
    Overflow(AccountId),
    /// A hold with a name that is taken.
    #[error("a hold named {0} exists already")]
    HoldExists(TransferId),
    /// No such hold, or not any more.
    #[error("there is no hold named {0}: it was paid out, released, has timed out, or never was")]
    NoHold(TransferId),
    /// More than is held.
    #[error("{held} is held, {amount} cannot be posted from it")]
    MoreThanHeld {
        /// What is held.
        held: u64,
        /// What was asked.
        amount: u64,
    },
}

/// Every account, every hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accounts {
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) pending: BTreeMap<TransferId, Pending>,
    timeouts: BTreeSet<(u64, TransferId)>,
}

/// A checked list of transfers: the values that accounts and holds will have. Made by [`Accounts::plan`] only.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    pub(super) accounts: BTreeMap<AccountId, Account>,
    pub(super) held: BTreeMap<TransferId, Pending>,
    pub(super) ended: BTreeSet<TransferId>,
}

impl Accounts {
    /// An account by name.
    #[must_use]
    pub fn get(&self, id: &AccountId) -> Option<&Account> {
        self.accounts.get(id)
    }

    /// All accounts, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&AccountId, &Account)> {
        self.accounts.iter()
    }

    /// What a party may spend, in credits.
    #[must_use]
    pub fn credits(&self, party: &PartyId) -> u64 {
        self.get(&AccountId::credits(party)).map_or(0, Account::available)
    }

    /// A hold that has not ended.
    #[must_use]
    pub fn pending(&self, id: &str) -> Option<&Pending> {
        self.pending.get(id)
    }

    /// Opens an account with nothing in it; one that exists stays as it is.
    pub fn open(&mut self, id: AccountId, unit: Unit, guarded: bool) {
        self.accounts.entry(id).or_insert(Account::empty(unit, guarded));
    }

    /// Checks linked transfers at a sequenced time: all of them can happen, in this order, or the first reason why not. Holds that
    /// are due by then time out first.
    ///
    /// # Errors
    /// [`AccountError`]; nothing changes either way.
    pub fn plan(&self, now_ms: u64, transfers: &[Transfer]) -> Result<Plan, AccountError> {
        let mut plan = Plan::default();
        for (due_ms, id) in &self.timeouts {
            if *due_ms > now_ms {
                break;
            }
            plan.end(self, id, 0)?;
        }
        for transfer in transfers {
            match transfer {
                Transfer::Open { id, unit, guarded } => {
                    if !self.accounts.contains_key(id) {
                        plan.accounts.entry(id.clone()).or_insert(Account::empty(*unit, *guarded));
                    }
                }
                Transfer::Post { debit, credit, amount } => plan.post(self, debit, credit, *amount)?,
                Transfer::Hold { id, pending } => plan.hold(self, id, pending)?,
                Transfer::PostHeld { amount: 0, .. } => return Err(AccountError::Zero),
                Transfer::PostHeld { id, amount } => plan.end(self, id, *amount)?,
                Transfer::Void { id } => plan.end(self, id, 0)?,
            }
        }
        Ok(plan)
    }

    /// Makes a plan happen. It must have been made from this very state.
    pub fn commit(&mut self, plan: Plan) {
        self.accounts.extend(plan.accounts);
        for (id, pending) in plan.held {
            if let Some(timeout_ms) = pending.timeout_ms {
                self.timeouts.insert((timeout_ms, id.clone()));
            }
            self.pending.insert(id, pending);
        }
        for id in plan.ended {
            if let Some(timeout_ms) = self.pending.remove(&id).and_then(|p| p.timeout_ms) {
                self.timeouts.remove(&(timeout_ms, id));
            }
        }
    }

    /// Whether debits equal credits in every unit, posted and pending, and no guarded account is overdrawn.
    ///
    /// # Errors
    /// The first account, or the unit's outside account, where it does not hold.
    pub fn verify_balanced(&self) -> Result<(), AccountId> {
        for unit in [Unit::Credits, Unit::MicroEpsilon, Unit::ComputeSeconds] {
            let of = |f: fn(&Account) -> u64| -> u128 {
                self.accounts.values().filter(|a| a.unit == unit).map(|a| u128::from(f(a))).sum()
            };
            let balanced = of(|a| a.debits_posted) == of(|a| a.credits_posted)
                && of(|a| a.debits_pending) == of(|a| a.credits_pending);
            if !balanced {
                return Err(AccountId::outside(unit));
            }
        }
        let over = |a: &Account| {
            a.guarded && u128::from(a.debits_posted) + u128::from(a.debits_pending) > u128::from(a.credits_posted)
        };
        self.accounts.iter().find(|(_, a)| over(a)).map_or(Ok(()), |(id, _)| Err(id.clone()))
    }
}

#[cfg(test)]
#[path = "accounts_tests.rs"]
mod tests;
