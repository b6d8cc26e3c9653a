//! Privacy budgets on their way through a contract: declared, held before the signature, spent or released after the work.

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::contract::{Contract, dataset_key};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::table::Phase;

use super::{Action, Agent};
use crate::budget::book::datasets_of;
use crate::budget::{Budget, Budgets, Standing};
use crate::consent::{self, Desk};
use crate::refusal::Refusal;

impl Agent {
    /// What its data sets may still release.
    pub fn budgets(&self) -> &Budgets {
        &self.budgets
    }

    /// Whether the rows of a contract with a mechanism are known to be there. That is looked at before anything is held: a
    /// contract that everybody signs and nobody can compute costs all that was held.
    pub(super) fn cohorts_are_there(&mut self, contract: &Contract) -> bool {
        if contract.terms.privacy.epsilon_micro == 0 {
            return true;
        }
        let terms_hash = contract.terms_hash;
        if self.budgets.ask_for_cohorts(&terms_hash) {
            let mine = contract.terms.inputs.iter().filter(|input| input.owner == self.party);
            let inputs = mine.cloned().collect();
            self.actions.push_back(Action::CheckCohorts(terms_hash, inputs));
        }
        self.budgets.cohorts_are_there(&terms_hash)
    }

    /// The answer to an [`Action::CheckCohorts`].
    pub fn handle_cohorts(&mut self, now_ms: u64, terms_hash: &Hash32, found: Result<(), Refusal>) {
        self.budgets.note_cohorts(terms_hash, found);
        self.advance(now_ms);
    }

    /// What consent is decided on.
    pub(super) fn desk(&self, now_ms: u64) -> Desk<'_> {
        Desk { me: &self.party, declared: &self.declared, budgets: &self.budgets, now_ms }
    }

    /// Compares the disk with the certified ledger, declares what is new and ends what is over.
    pub(super) fn advance_budgets(&mut self, now_ms: u64) {
        if self.budgets.iter().next().is_none() {
            return;
        }
        self.budgets.compare(&self.party, self.mirror.certified());
        for refusal in self.budgets.take_unsaid() {
            self.audit(now_ms, "budget-behind", None, Some(&refusal));
        }
        let names: Vec<Code> = self.budgets.iter().map(|budget| budget.dataset.clone()).collect();
        for dataset in names {
            let open = self.budgets.limits(&dataset).is_some() && self.budgets.behind(&dataset).is_none();
            if let Some(genesis) = self.budgets.genesis(&self.party, self.mirror.certified(), &dataset)
                && open
            {
                self.append(now_ms, None, Body::BudgetGenesis(genesis));
            }
        }
        for contract in self.ended_with_budget() {
            self.close_budget(now_ms, &contract);
        }
    }

    /// Contracts that can run no more and for which something is held here.
    fn ended_with_budget(&self) -> Vec<Contract> {
        let held = self.budgets.iter().flat_map(Budget::jobs).filter(|job| job.standing == Standing::Held);
        let state = self.mirror.certified();
        let ended = held.filter_map(|job| {
            let contract = state.contract(&job.contract)?;
            let over = contract.phase.is_terminal()
                || matches!(contract.phase, Phase::Delivered | Phase::Disputed | Phase::Accepted)
                || contract.revoked(&self.party)
                || contract.terms_hash != job.terms_hash;
            over.then(|| contract.clone())
        });
        ended.collect()
    }

    /// Says where a receipt is not what the noise gives.
    fn check_receipts(&mut self, now_ms: u64, contract: &Contract) {
        for refusal in self.budgets.compare_receipts(&self.party, contract) {
            self.audit(now_ms, "receipt-differs", Some(&contract.id.0), Some(&refusal));
        }
    }

    fn close_budget(&mut self, now_ms: u64, contract: &Contract) {
        self.check_receipts(now_ms, contract);
        let stages = consent::plan_stages(&contract.terms, &self.party).ok();
        let changed = self.budgets.close(&self.party, contract, stages.as_deref());
        for budget in &changed {
            let spent = budget.job(&contract.id).map_or(0, crate::budget::Job::booked_micro);
            let words = format!("data set '{}': epsilon {} spent", budget.dataset, crate::budget::show(spent));
            self.audit_words(now_ms, "budget-closed", &contract.id.0, words);
        }
        self.store_budgets(changed);
    }

    fn store_budgets(&mut self, changed: Vec<Budget>) {
        self.actions.extend(changed.into_iter().map(|budget| Action::StoreBudget(Box::new(budget))));
    }

    /// Holds what a contract asks for, on the disk first.
    pub(super) fn hold_budget(&mut self, now_ms: u64, contract: &Contract) -> Result<(), Refusal> {
        let stages = consent::plan_stages(&contract.terms, &self.party)?;
        let changed = self.budgets.reserve(&self.party, contract, &stages)?;
        for budget in &changed {
            let (epsilon, left) = (contract.terms.privacy.epsilon_micro, budget.left_micro());
            let (epsilon, left) = (crate::budget::show(epsilon), crate::budget::show(left));
            let words = format!("data set '{}': epsilon {epsilon} held, {left} left", budget.dataset);
            self.audit_words(now_ms, "budget-held", &contract.id.0, words);
        }
        self.store_budgets(changed);
        Ok(())
    }

    /// The ledger's half: BudgetReserve while a contract is signed, BudgetRelease if a person stops it before it is armed,
    /// BudgetSpend when the work is done.
    pub(super) fn advance_budget_of(&mut self, now_ms: u64, contract: &Contract) {
        if contract.terms.privacy.epsilon_micro == 0 {
            return;
        }
        self.check_receipts(now_ms, contract);
        let signed = contract.accepts.contains_key(&self.party);
        let wanted = self.standings.get(&contract.id.0).is_none_or(|standing| standing.check().is_ok());
        for dataset in datasets_of(&self.party, contract) {
            let Some(standing) = self.budgets.get(&dataset).and_then(|budget| budget.job(&contract.id)) else {
                continue;
            };
            let (standing, same) = (standing.standing, standing.terms_hash == contract.terms_hash);
            let reservation = contract.reservations.get(&dataset_key(&self.party, &dataset));
            let open = reservation.is_some_and(|held| self.mirror.certified().accounts().pending(&held.hold).is_some());
            let epsilon_micro = contract.terms.privacy.epsilon_micro;
            let body = match (contract.phase, standing) {
                (Phase::PartlySigned | Phase::Signed, Standing::Held) if signed && same && wanted && !open => {
                    Body::BudgetReserve(body::BudgetReserve { dataset, epsilon_micro })
                }
                (Phase::PartlySigned | Phase::Signed, _) if open && !wanted => {
                    Body::BudgetRelease(body::BudgetRelease { dataset })
                }
                (Phase::Delivered | Phase::Disputed | Phase::Accepted, Standing::Spent(epsilon_micro))
                    if open && epsilon_micro > 0 =>
                {
                    Body::BudgetSpend(body::BudgetSpend { dataset, epsilon_micro })
                }
                _ => continue,
            };
            self.append(now_ms, Some(contract), body);
        }
    }
}
