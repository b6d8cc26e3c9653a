//! The budgets of all data sets, and what the ledger knows of them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use leben_contracts::agreement::accounts::{AccountId, Unit};
use leben_contracts::agreement::body::BudgetGenesis;
use leben_contracts::agreement::contract::{Contract, dataset_key};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::{Code, PartyId};
use leben_contracts::agreement::settlement::epsilon_used;
use leben_contracts::agreement::state::State;
use leben_privacy::secure_sum::Journal;

use super::ask::{Ask, asks, delta_of, is_private};
use super::{Budget, BudgetError, Limits, Standing, show, spent_micro};
use crate::consent::StagePlan;
use crate::declared::Declared;
use crate::refusal::{Reason, Refusal};

/// Terms whose guarantee is remembered.
const CHECKED_MAX: usize = 256;

type Checked = BTreeMap<Hash32, Result<BTreeMap<Code, Ask>, Refusal>>;

/// Every budget of this hospital.
#[derive(Clone, Debug, Default)]
pub struct Budgets {
    budgets: BTreeMap<Code, Budget>,
    /// Limits in `worker.toml` now: without them a data set takes no new job.
    limits: BTreeMap<Code, Limits>,
    /// Data sets whose disk is behind the ledger, and whether that was said.
    behind: BTreeMap<Code, (Refusal, bool)>,
    /// Receipts of the coordinator that were looked at, by contract and stage, and why one is not true.
    pub(super) receipts: BTreeMap<(Hash32, u32), Option<Refusal>>,
    /// Terms whose rows are looked for, by hash; `None`: not known yet.
    pub(super) cohorts: BTreeMap<Hash32, Option<Result<(), Refusal>>>,
    /// Guarantees take milliseconds to seconds to compute, and the same terms are looked at every second.
    checked: Arc<Mutex<Checked>>,
}

impl Budgets {
    /// From what is declared and what the disk holds. New budgets have generation 0 and have to be stored.
    ///
    /// # Errors
    /// In words: a state that contradicts itself, or limits other than those the budget was made with.
    pub fn open(declared: &Declared, stored: Vec<Budget>) -> Result<Budgets, String> {
        let mut opened = Budgets::default();
        for budget in stored {
            budget.check().map_err(|error| format!("privacy budget of '{}': {error}", budget.dataset))?;
            opened.budgets.insert(budget.dataset.clone(), budget);
        }
        for dataset in declared.iter() {
            let (name, Some(limits)) = (&dataset.name, dataset.budget) else { continue };
            match opened.budgets.get(name) {
                None => {
                    let budget = Budget::genesis(name.clone(), &limits);
                    let budget = budget.map_err(|error| format!("privacy budget of '{name}': {error}"))?;
                    opened.budgets.insert(name.clone(), budget);
                }
                Some(budget) if !budget.has_limits(&limits) => {
                    return Err(format!(
                        "the privacy budget of '{name}' was set to epsilon {}, delta {:e}, {} patients at least, for the \
                         life of the data set; put these back into worker.toml",
                        show(budget.limit_micro()),
                        budget.delta_e12 as f64 * 1e-12,
                        budget.patients_min
                    ));
                }
                Some(_) => {}
            }
            opened.limits.insert(name.clone(), limits);
        }
        Ok(opened)
    }

    /// A data set's budget.
    pub fn get(&self, dataset: &Code) -> Option<&Budget> {
        self.budgets.get(dataset)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Budget> {
        self.budgets.values()
    }

    /// The limits in `worker.toml`.
    pub fn limits(&self, dataset: &Code) -> Option<&Limits> {
        self.limits.get(dataset)
    }

    /// Why a data set takes no job with a mechanism.
    pub fn behind(&self, dataset: &Code) -> Option<&Refusal> {
        self.behind.get(dataset).map(|(why, _)| why)
    }

    /// Data sets that are behind, in words, each once.
    pub fn take_unsaid(&mut self) -> Vec<Refusal> {
        let unsaid = self.behind.values_mut().filter(|(_, said)| !said);
        unsaid.map(|(why, said)| (why.clone(), *said = true).0).collect()
    }

    /// The body that declares a budget; `None` once the ledger has it, or while the data set is not offered.
    pub fn genesis(&self, me: &PartyId, state: &State, dataset: &Code) -> Option<BudgetGenesis> {
        let (key, budget) = (dataset_key(me, dataset), self.budgets.get(dataset)?);
        let wanted = state.datasets().contains_key(&key) && !state.budgets().contains_key(&key);
        wanted.then(|| body(budget))
    }

    /// Compares with a certified ledger: what it knows and the disk does not was forgotten by the disk. Such a data set
    /// takes no more jobs with a mechanism. Nothing else is stopped by it: what the ledger knows the coordinator may have made up.
    pub fn compare(&mut self, me: &PartyId, state: &State) {
        for (dataset, budget) in &self.budgets {
            if self.behind.contains_key(dataset) {
                continue;
            }
            if let Some(why) = unknown_here(budget, me, state) {
                let words = format!(
                    "data set '{dataset}': {why}. The file budget/{dataset}.json is an older copy, or another one, or the \
                     coordinator made that up. Stop the agent and put the newest copy back; if there is none, nobody knows \
                     what was released: remove `budget` from the data set in worker.toml and move the file away. Contracts \
                     without a privacy mechanism go on"
                );
                self.behind.insert(dataset.clone(), (Refusal::new(Reason::BudgetBehind, words), false));
            }
        }
    }

    /// Compares with the journal of a job: a round that was agreed to has left this hospital.
    pub fn compare_journal(&mut self, contract: &Hash32, journal: &Journal) {
        for (dataset, budget) in &self.budgets {
            let Some(job) = budget.job(contract) else { continue };
            let forgotten = |stage: u32, round: u32| job.parts.contains_key(&stage) && job.rounds(stage) < round;
            if journal.rounds.iter().any(|agreed| forgotten(agreed.round_id.stage, agreed.round_id.round)) {
                let words = format!(
                    "data set '{dataset}': the journal of contract {contract} holds rounds that budget/{dataset}.json does \
                     not count; put the newest copy of that file back"
                );
                let refusal = Refusal::new(Reason::BudgetBehind, words);
                self.behind.entry(dataset.clone()).or_insert((refusal, false));
            }
        }
    }

    /// May the terms be signed, as far as privacy goes? `stages` are those that read this hospital's data.
    ///
    /// # Errors
    /// [`Reason::NoBudget`], [`Reason::BudgetBehind`], [`Reason::JobEpsilon`], [`Reason::Delta`], [`Reason::Budget`], and
    /// those of [`asks`].
    pub fn review(&self, me: &PartyId, contract: &Contract, stages: &[StagePlan]) -> Result<(), Refusal> {
        if !is_private(&contract.terms)? {
            return Ok(());
        }
        if let Some(Some(Err(few))) = self.cohorts.get(&contract.terms_hash) {
            return Err(few.clone());
        }
        for dataset in datasets_of(me, contract) {
            self.may_take(contract, &dataset)?;
        }
        if self.is_held(me, contract) {
            return Ok(());
        }
        self.reserved(me, contract, stages).map(|_| ())
    }

    /// Whether every data set of this hospital holds what these very terms ask for.
    pub fn is_held(&self, me: &PartyId, contract: &Contract) -> bool {
        datasets_of(me, contract).iter().all(|dataset| {
            let job = self.budgets.get(dataset).and_then(|budget| budget.job(&contract.id));
            job.is_some_and(|job| job.standing == Standing::Held && job.terms_hash == contract.terms_hash)
        })
    }

    /// Whether the rows of these terms have to be looked for: not asked before, and no others are being looked for. One
    /// after the other, so that of two contracts that want the last of a budget the later one is not the quicker one.
    pub fn ask_for_cohorts(&mut self, terms_hash: &Hash32) -> bool {
        if self.cohorts.contains_key(terms_hash) || self.cohorts.values().any(Option::is_none) {
            return false;
        }
        if self.cohorts.len() >= CHECKED_MAX {
            self.cohorts.clear();
        }
        self.cohorts.insert(*terms_hash, None);
        true
    }

    /// What was found.
    pub fn note_cohorts(&mut self, terms_hash: &Hash32, found: Result<(), Refusal>) {
        self.cohorts.insert(*terms_hash, Some(found));
    }

    /// Whether they are known to be there.
    pub fn cohorts_are_there(&self, terms_hash: &Hash32) -> bool {
        matches!(self.cohorts.get(terms_hash), Some(Some(Ok(()))))
    }

    /// Holds what the terms ask for of every data set, or nothing. Returns what has to be stored first.
    ///
    /// # Errors
    /// As [`Budgets::review`].
    pub fn reserve(&mut self, me: &PartyId, contract: &Contract, stages: &[StagePlan]) -> Result<Vec<Budget>, Refusal> {
        if !is_private(&contract.terms)? || self.is_held(me, contract) {
            return Ok(Vec::new());
        }
        self.review(me, contract, stages)?;
        let changed = self.reserved(me, contract, stages)?;
        self.budgets.extend(changed.iter().map(|budget| (budget.dataset.clone(), budget.clone())));
        Ok(changed)
    }

    /// Counts a round before its vector leaves. Returns what has to be stored first.
    ///
    /// # Errors
    /// [`Reason::Budget`]: nothing is held for it; [`Reason::BudgetBehind`].
    pub fn count(
        &mut self,
        contract: &Hash32,
        dataset: &Code,
        stage: u32,
        round: u32,
    ) -> Result<Option<Budget>, Refusal> {
        if let Some(behind) = self.behind(dataset) {
            return Err(behind.clone());
        }
        let refused = |error: BudgetError| Refusal::new(Reason::Budget, format!("data set '{dataset}': {error}"));
        let budget = self.budgets.get_mut(dataset).ok_or_else(|| refused(BudgetError::NotHeld))?;
        let changed = budget.count(contract, stage, round).map_err(refused)?;
        Ok(changed.then(|| budget.clone()))
    }

    /// Ends what is held for a contract: by what left this hospital, and at least what the ledger charges. `stages` is
    /// `None` where the code is gone; then all of it is spent as soon as anything left. A budget that is behind closes nothing:
    /// what left is not known.
    pub fn close(&mut self, me: &PartyId, contract: &Contract, stages: Option<&[StagePlan]>) -> Vec<Budget> {
        let asks = stages.and_then(|stages| self.asks(contract, stages).ok()).unwrap_or_default();
        let mut changed = Vec::new();
        for budget in self.budgets.values_mut().filter(|budget| !self.behind.contains_key(&budget.dataset)) {
            let Some(job) = budget.job(&contract.id).filter(|job| job.standing == Standing::Held) else { continue };
            let own = match asks.get(&budget.dataset).filter(|ask| ask.terms_hash == job.terms_hash) {
                Some(ask) => spent_micro(job, &ask.stages, delta_of(&contract.terms)),
                None if job.rounds_in_all() == 0 => 0,
                None => job.epsilon_micro,
            };
            let charged = match contract.terms_hash == job.terms_hash {
                true if contract.revoked(me) && !contract.stages.is_empty() => job.epsilon_micro,
                true if contract.armed.is_some() => {
                    epsilon_used(contract, &dataset_key(me, &budget.dataset), job.epsilon_micro)
                }
                _ => 0,
            };
            if budget.close(&contract.id, own.max(charged)).is_ok() {
                changed.push(budget.clone());
            }
        }
        changed
    }

    fn may_take(&self, contract: &Contract, dataset: &Code) -> Result<(), Refusal> {
        let no = |reason, words: String| Err(Refusal::new(reason, format!("data set '{dataset}' {words}")));
        let (Some(limits), Some(budget)) = (self.limits.get(dataset), self.budgets.get(dataset)) else {
            let words = "has no privacy budget; set `budget` in worker.toml to open it for privacy mechanisms";
            return no(Reason::NoBudget, words.into());
        };
        if let Some(behind) = self.behind(dataset) {
            return Err(behind.clone());
        }
        let privacy = &contract.terms.privacy;
        if privacy.epsilon_micro > limits.job_epsilon_micro {
            let (asked, most) = (show(privacy.epsilon_micro), show(limits.job_epsilon_micro));
            return no(Reason::JobEpsilon, format!("gives one job at most epsilon {most}, the terms ask for {asked}"));
        }
        if privacy.delta_e12 > budget.delta_e12 {
            let (asked, most) = (delta_of(&contract.terms), budget.delta_e12 as f64 * 1e-12);
            return no(Reason::Delta, format!("has delta {most:e}, the terms ask for {asked:e}"));
        }
        Ok(())
    }

    /// The budgets as they would be with the contract in them.
    fn reserved(&self, me: &PartyId, contract: &Contract, stages: &[StagePlan]) -> Result<Vec<Budget>, Refusal> {
        let mut asks = self.asks(contract, stages)?;
        let with = |dataset: Code| {
            let refused = |error: BudgetError| Refusal::new(Reason::Budget, format!("data set '{dataset}': {error}"));
            let none = || Ask {
                contract: contract.id,
                terms_hash: contract.terms_hash,
                epsilon_micro: contract.terms.privacy.epsilon_micro,
                stages: BTreeMap::new(),
            };
            let ask = asks.remove(&dataset).unwrap_or_else(none);
            let mut budget = self.budgets.get(&dataset).cloned().ok_or_else(|| refused(BudgetError::NotHeld))?;
            budget.reserve(&ask).map_err(refused)?;
            Ok(budget)
        };
        datasets_of(me, contract).into_iter().map(with).collect()
    }

    fn asks(&self, contract: &Contract, stages: &[StagePlan]) -> Result<BTreeMap<Code, Ask>, Refusal> {
        // The same terms may be in two contracts.
        let of_this = |mut all: BTreeMap<Code, Ask>| {
            all.values_mut().for_each(|ask| ask.contract = contract.id);
            all
        };
        let known = self.checked.lock().unwrap_or_else(PoisonError::into_inner).get(&contract.terms_hash).cloned();
        if let Some(known) = known {
            return known.map(of_this);
        }
        let computed = asks(contract, stages);
        let mut checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if checked.len() >= CHECKED_MAX {
            checked.clear();
        }
        checked.insert(contract.terms_hash, computed.clone());
        computed
    }
}

fn body(budget: &Budget) -> BudgetGenesis {
    BudgetGenesis {
        dataset: budget.dataset.clone(),
        rows_floor: budget.patients_min,
        epsilon_micro_limit: budget.limit_micro(),
        delta_e12: budget.delta_e12,
    }
}

/// The data sets of this hospital in a contract, each once, sorted.
pub fn datasets_of(me: &PartyId, contract: &Contract) -> Vec<Code> {
    let mine = contract.terms.inputs.iter().filter(|input| input.owner == *me);
    let mut names: Vec<Code> = mine.map(|input| input.dataset.clone()).collect();
    names.sort();
    names.dedup();
    names
}

/// What the ledger knows and the budget does not.
fn unknown_here(budget: &Budget, me: &PartyId, state: &State) -> Option<String> {
    let key = dataset_key(me, &budget.dataset);
    let record = state.budgets().get(&key)?;
    if record.genesis != body(budget) {
        return Some("the certified ledger holds a budget with other limits".into());
    }
    let used = state.accounts().get(&AccountId::used(Unit::MicroEpsilon, &key));
    let on_ledger = used.map_or(0, |account| account.credits_posted.saturating_add(account.credits_pending));
    let here = budget.jobs().iter().fold(0u64, |sum, job| sum.saturating_add(job.epsilon_micro));
    if on_ledger > here {
        let (on_ledger, here) = (show(on_ledger), show(here));
        return Some(format!(
            "the certified ledger shows epsilon {on_ledger} reserved or spent, the disk knows {here}"
        ));
    }
    let mine = state.contracts().filter(|contract| contract.terms.privacy.epsilon_micro > 0);
    let mut mine = mine.filter(|contract| datasets_of(me, contract).contains(&budget.dataset));
    mine.find_map(|contract| unknown_of(budget, me, &key, contract))
}

/// The same, of one contract.
fn unknown_of(budget: &Budget, me: &PartyId, key: &str, contract: &Contract) -> Option<String> {
    let signed = contract.accepts.contains_key(me) || contract.reservations.contains_key(key);
    let job = budget.job(&contract.id).filter(|job| job.terms_hash == contract.terms_hash);
    let Some(job) = job else {
        // Reserved on the disk before it was signed: a signature without it is one that the disk forgot.
        return signed.then(|| {
            format!("the certified ledger shows contract {} signed, the disk knows nothing of it", contract.id)
        });
    };
    let closed = contract.round_close.as_ref().filter(|close| close.survivors.contains(me));
    let ahead =
        closed.is_some_and(|close| job.parts.contains_key(&close.stage) && job.rounds(close.stage) < close.round);
    let forgotten = ahead
        || contract.stages.iter().any(|(stage, progress)| {
            let took_part = progress.receipt.as_ref().is_some_and(|receipt| receipt.hospitals.contains(me));
            took_part && job.parts.contains_key(stage) && job.rounds(*stage) == 0
        });
    forgotten.then(|| {
        format!(
            "the certified ledger shows work of this hospital on contract {} that the disk does not count",
            contract.id
        )
    })
}
