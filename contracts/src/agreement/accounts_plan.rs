//! The arithmetic of `accounts.rs`: each movement checked against the accounts as they will be after those before it.

use super::accounts::{Account, AccountError, AccountId, Accounts, Pending, Plan, TransferId};
use crate::ledger::canonical::INTEGER_MAX;

impl Plan {
    fn account<'a>(&'a mut self, base: &Accounts, id: &AccountId) -> Result<&'a mut Account, AccountError> {
        if !self.accounts.contains_key(id) {
            let account = base.accounts.get(id).ok_or_else(|| AccountError::NoAccount(id.clone()))?;
            self.accounts.insert(id.clone(), account.clone());
        }
        self.accounts.get_mut(id).ok_or_else(|| AccountError::NoAccount(id.clone()))
    }

    fn pair(
        &mut self,
        base: &Accounts,
        debit: &AccountId,
        credit: &AccountId,
        amount: u64,
    ) -> Result<(), AccountError> {
        if amount == 0 {
            return Err(AccountError::Zero);
        }
        let unit = self.account(base, debit)?.unit;
        if debit == credit || self.account(base, credit)?.unit != unit {
            return Err(AccountError::Mismatch(debit.clone(), credit.clone()));
        }
        let from = self.account(base, debit)?;
        if from.guarded && from.available() < amount {
            return Err(AccountError::Overdrawn { account: debit.clone(), available: from.available(), amount });
        }
        Ok(())
    }

    pub(super) fn post(
        &mut self,
        base: &Accounts,
        debit: &AccountId,
        credit: &AccountId,
        amount: u64,
    ) -> Result<(), AccountError> {
        self.pair(base, debit, credit, amount)?;
        add(&mut self.account(base, debit)?.debits_posted, amount, debit)?;
        add(&mut self.account(base, credit)?.credits_posted, amount, credit)
    }

    pub(super) fn hold(&mut self, base: &Accounts, id: &TransferId, p: &Pending) -> Result<(), AccountError> {
        if base.pending.contains_key(id) || self.held.contains_key(id) || self.ended.contains(id) {
            return Err(AccountError::HoldExists(id.clone()));
        }
        self.pair(base, &p.debit, &p.credit, p.amount)?;
        add(&mut self.account(base, &p.debit)?.debits_pending, p.amount, &p.debit)?;
        add(&mut self.account(base, &p.credit)?.credits_pending, p.amount, &p.credit)?;
        self.held.insert(id.clone(), p.clone());
        Ok(())
    }

    pub(super) fn end(&mut self, base: &Accounts, id: &TransferId, amount: u64) -> Result<(), AccountError> {
        let held = self.held.get(id).or_else(|| base.pending.get(id)).filter(|_| !self.ended.contains(id));
        let p = held.cloned().ok_or_else(|| AccountError::NoHold(id.clone()))?;
        if amount > p.amount {
            return Err(AccountError::MoreThanHeld { held: p.amount, amount });
        }
        let from = self.account(base, &p.debit)?;
        sub(&mut from.debits_pending, p.amount, &p.debit)?;
        add(&mut from.debits_posted, amount, &p.debit)?;
        let to = self.account(base, &p.credit)?;
        sub(&mut to.credits_pending, p.amount, &p.credit)?;
        add(&mut to.credits_posted, amount, &p.credit)?;
        self.ended.insert(id.clone());
        Ok(())
    }
}

fn add(sum: &mut u64, amount: u64, id: &AccountId) -> Result<(), AccountError> {
    let new = sum.checked_add(amount).filter(|n| *n <= INTEGER_MAX);
    *sum = new.ok_or_else(|| AccountError::Overflow(id.clone()))?;
    Ok(())
}

fn sub(sum: &mut u64, amount: u64, id: &AccountId) -> Result<(), AccountError> {
    *sum = sum.checked_sub(amount).ok_or_else(|| AccountError::Overflow(id.clone()))?;
    Ok(())
}
