//! Credits in, out and across; privacy budgets declared, reserved, spent and released.

use super::accounts::{AccountId, Pending, Transfer, Unit};
use super::body::{self, BudgetGenesis, BudgetRelease, BudgetReserve, BudgetSpend, Deposit, Payout};
use super::contract::{Contract, Reservation, dataset_key};
use super::error::{Reason, mismatch};
use super::party::Code;
use super::settlement::epsilon_used;
use super::state::{BudgetRecord, Change};
use super::step::Step;
use super::steps_agree::Money;

impl Step<'_> {
    fn new_receipt(&self, receipt: super::hash::Hash32) -> Result<Change, Reason> {
        if self.state.receipts.contains(&receipt) {
            return mismatch(format!("the outside receipt {receipt} was booked already"));
        }
        Ok(Change::Receipt(receipt))
    }

    pub(super) fn deposit(&self, body: &Deposit) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.coordinator_or_admin()?;
        self.enrolled(&body.party)?;
        let (debit, credit) = (AccountId::outside(Unit::Credits), AccountId::credits(&body.party));
        let money = self.money(&[Transfer::Post { debit, credit, amount: body.credits }])?;
        Ok(vec![self.new_receipt(body.receipt_hash)?, money])
    }

    pub(super) fn payout(&self, body: &Payout) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.coordinator_or_admin()?;
        let (debit, credit) = (AccountId::credits(&body.party), AccountId::outside(Unit::Credits));
        let money = self.money(&[Transfer::Post { debit, credit, amount: body.credits }])?;
        Ok(vec![self.new_receipt(body.receipt_hash)?, money])
    }

    pub(super) fn transfer(&self, body: &body::Transfer) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.enrolled(&body.to)?;
        let (debit, credit) = (AccountId::credits(&self.actor), AccountId::credits(&body.to));
        Ok(vec![self.money(&[Transfer::Post { debit, credit, amount: body.credits }])?])
    }

    pub(super) fn budget_genesis(&self, body: &BudgetGenesis) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        let key = dataset_key(&self.actor, &body.dataset);
        if !self.state.datasets.contains_key(&key) {
            return mismatch(format!("the data set {key} is not offered"));
        }
        if self.state.budgets.contains_key(&key) {
            return mismatch(format!("the budget of {key} is declared already; it is for its lifetime"));
        }
        if body.rows_floor == 0 || body.epsilon_micro_limit == 0 || body.delta_e12 >= 1_000_000_000_000 {
            return mismatch("a budget has patients, a positive epsilon and a delta below 1");
        }
        let record = BudgetRecord { owner: self.actor.clone(), genesis: body.clone() };
        let (left, used) = (AccountId::budget(Unit::MicroEpsilon, &key), AccountId::used(Unit::MicroEpsilon, &key));
        let unit = Unit::MicroEpsilon;
        let money = self.money(&[
            Transfer::Open { id: left.clone(), unit, guarded: true },
            Transfer::Open { id: used, unit, guarded: false },
            Transfer::Post { debit: AccountId::outside(unit), credit: left, amount: body.epsilon_micro_limit },
        ])?;
        Ok(vec![Change::Budget(key, record), money])
    }

    fn own_input(&self, contract: &Contract, dataset: &Code) -> Result<String, Reason> {
        if contract.terms.inputs.iter().any(|i| i.owner == self.actor && i.dataset == *dataset) {
            return Ok(dataset_key(&self.actor, dataset));
        }
        mismatch(format!("{dataset} is not among the data of {} in this contract", self.actor))
    }

    pub(super) fn budget_reserve(&self, contract: &mut Contract, body: &BudgetReserve) -> Money {
        let key = self.own_input(contract, &body.dataset)?;
        if body.epsilon_micro != contract.terms.privacy.epsilon_micro || body.epsilon_micro == 0 {
            let epsilon = contract.terms.privacy.epsilon_micro;
            return mismatch(format!(
                "the terms ask for {epsilon} micro-epsilon of each data set, not {}",
                body.epsilon_micro
            ));
        }
        if contract.reservations.contains_key(&key) {
            return mismatch(format!("the budget of {key} is reserved already"));
        }
        let Some(budget) = self.state.budgets.get(&key) else {
            return mismatch(format!("{key} has no privacy budget; declare one with BudgetGenesis"));
        };
        if contract.terms.privacy.delta_e12 > budget.genesis.delta_e12 {
            return mismatch(format!("the terms' delta is above the one of the budget of {key}"));
        }
        let (debit, credit) = (AccountId::budget(Unit::MicroEpsilon, &key), AccountId::used(Unit::MicroEpsilon, &key));
        // No time-out: a reservation that timed out while something ran would under-count.
        let pending = Pending { debit, credit, amount: body.epsilon_micro, timeout_ms: None };
        let hold = self.hold_id(0);
        let reservation = Reservation { payload: self.payload, hold: hold.clone(), epsilon_micro: body.epsilon_micro };
        contract.reservations.insert(key, reservation);
        Ok(vec![Transfer::Hold { id: hold, pending }])
    }

    pub(super) fn budget_spend(&self, contract: &Contract, body: &BudgetSpend) -> Money {
        let key = self.own_input(contract, &body.dataset)?;
        let Some(reservation) = contract.reservations.get(&key) else {
            return mismatch(format!("no budget of {key} is reserved for this contract"));
        };
        let least = epsilon_used(contract, &key, reservation.epsilon_micro);
        if body.epsilon_micro < least {
            return mismatch(format!(
                "at least {least} micro-epsilon are spent by what ran, not {}",
                body.epsilon_micro
            ));
        }
        Ok(vec![Transfer::PostHeld { id: reservation.hold.clone(), amount: body.epsilon_micro }])
    }

    pub(super) fn budget_release(&self, contract: &mut Contract, body: &BudgetRelease) -> Money {
        let key = self.own_input(contract, &body.dataset)?;
        let Some(reservation) = contract.reservations.remove(&key) else {
            return mismatch(format!("no budget of {key} is reserved for this contract"));
        };
        Ok(vec![Transfer::Void { id: reservation.hold }])
    }
}
