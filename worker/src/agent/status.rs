//! What people see: one value that the shell writes to `status.json` and counts into metrics. Names, counts and words
//! only; never a value from a row.

use std::collections::BTreeMap;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::party::{Code, Party};
use leben_contracts::agreement::table::Phase;
use serde::{Deserialize, Serialize};

use super::{Agent, CLOCK_WARN_MS, KeyView};
use crate::budget::book::datasets_of;
use crate::budget::{Budget, show};
use crate::gossip::Views;

/// What has been counted since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Vectors that went into a slot.
    pub rounds: u64,
    /// Refusals, by their code.
    pub refusals: BTreeMap<String, u64>,
    /// Checkpoints cosigned.
    pub cosignatures: u64,
}

/// One contract as this hospital sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractView {
    /// Its id, hex.
    pub id: String,
    /// Its phase, a word of CONTRACTS' table.
    pub phase: String,
    /// Hash of the terms, hex: what an approval names.
    pub terms_hash: String,
    /// Who asks.
    pub initiator: String,
    /// Waits for a person here.
    pub pending: bool,
    /// Approved here: `steward`, `policy`, or nothing.
    pub approved: Option<String>,
    /// This hospital's signature is on the ledger.
    pub accepted: bool,
    /// Stopped or refused by a person here.
    pub stopped: Option<String>,
    /// What stands in the way here: a code and words.
    pub obstacle: Option<String>,
    /// Its result lies here and waits until a person has looked at it.
    #[serde(default)]
    pub to_review: bool,
    /// The job runs here now.
    pub running: bool,
    /// The terms in words.
    pub text: String,
    /// What they ask of the privacy budgets here, a line for each data set.
    #[serde(default)]
    pub asks: Vec<String>,
}

/// One declared data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetView {
    /// Its name.
    pub name: String,
    /// Columns declared.
    pub columns: usize,
    /// Rows, rounded; `None` if the table has not been read.
    pub rows_rounded: Option<u64>,
    /// The offer is on the certified ledger.
    pub offered: bool,
}

/// One contract's part of a data set's privacy budget. Epsilons are decimal numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobView {
    /// The contract, hex.
    pub contract: String,
    /// `held`, `spent` or `released`.
    pub standing: String,
    /// What the terms asked for.
    pub epsilon: String,
    /// What it takes from the budget.
    pub booked: String,
    /// Rounds that left this hospital.
    pub rounds: u64,
}

/// One data set's privacy budget. Epsilons are decimal numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BudgetView {
    /// The data set.
    pub dataset: String,
    /// For its life.
    pub limit: String,
    /// For its life, in units of 10^-12.
    pub delta_e12: u64,
    /// Floor of the number of patients.
    pub patients_min: u64,
    /// Most for one job; `None`: the data set takes no new jobs with a mechanism.
    pub job_limit: Option<String>,
    /// Booked for good.
    pub spent: String,
    /// Held for jobs that may run.
    pub held: String,
    /// Neither.
    pub left: String,
    /// What left so far is worth at the budget's delta by the Renyi filter, which holds however the jobs were chosen: more
    /// than `spent` after few jobs, less after many.
    pub released: String,
    /// Declared on the certified ledger.
    pub declared: bool,
    /// Why it takes no jobs.
    pub behind: Option<String>,
    /// Every job, the oldest first.
    pub jobs: Vec<JobView>,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This hospital.
    pub party: String,
    /// The network's log.
    pub origin: String,
    /// When this was written, Unix milliseconds.
    pub at_ms: u64,
    /// Linked to the coordinator.
    pub linked: bool,
    /// Why there is no link, as the last try said.
    #[serde(default)]
    pub no_link: Option<String>,
    /// The coordinator's clock less this one, milliseconds.
    pub clock_ms: i64,
    /// The clocks, where they are a worry.
    pub clock: Option<String>,
    /// Entries checked here.
    pub validated: u64,
    /// Entries that are final.
    pub certified: u64,
    /// Why nothing more is signed.
    pub halted: Option<String>,
    /// The log has signed two histories, and the proof is on this hospital's disk.
    #[serde(default)]
    pub forked: bool,
    /// What is not heard from others, receipts that are not true, and budgets that are behind, in words.
    #[serde(default)]
    pub worries: Vec<String>,
    /// Views of the log that others gave.
    #[serde(default)]
    pub views: Views,
    /// This hospital's keys, newest first.
    pub keys: Vec<KeyView>,
    /// Data sets.
    pub datasets: Vec<DatasetView>,
    /// Privacy budgets.
    #[serde(default)]
    pub budgets: Vec<BudgetView>,
    /// Contracts that concern this hospital, newest first: those under way, and what is left of the latest 256 on the ledger that ended.
    pub contracts: Vec<ContractView>,
    /// Counters.
    pub counters: Counters,
}

impl Agent {
    /// A picture of this moment.
    pub fn status(&self, now_ms: u64) -> Status {
        let state = self.mirror.certified();
        let mut contracts: Vec<&Contract> = self.mirror.recent_contracts().collect();
        contracts.sort_by_key(|contract| std::cmp::Reverse(contract.proposed_index));
        let datasets = self.declared.iter().map(|dataset| DatasetView {
            name: dataset.name.to_string(),
            columns: dataset.columns.len(),
            rows_rounded: dataset.rows_rounded,
            offered: state.datasets().contains_key(&format!("{}/{}", self.party, dataset.name)),
        });
        Status {
            party: self.party.to_string(),
            origin: state.origin().to_owned(),
            at_ms: now_ms,
            linked: self.linked,
            no_link: self.no_link.clone(),
            clock_ms: self.clock.as_ref().copied().unwrap_or(0),
            clock: self.clock_worry(),
            validated: self.mirror.size(),
            certified: self.mirror.certified_size(),
            halted: self.mirror.halted().map(|refusal| refusal.words.clone()),
            forked: self.fork.is_some(),
            worries: self.worries(now_ms),
            views: self.gossip.views().clone(),
            keys: self.key_views(),
            datasets: datasets.collect(),
            budgets: self.budgets.iter().map(|budget| self.view_budget(budget)).collect(),
            contracts: contracts.into_iter().map(|contract| self.view(contract)).collect(),
            counters: self.counters.clone(),
        }
    }

    fn worries(&self, now_ms: u64) -> Vec<String> {
        let mut worries = self.gossip.worries(now_ms, &self.peers());
        let untrue = |(contract, why): (&leben_contracts::agreement::hash::Hash32, &crate::refusal::Refusal)| {
            format!("contract {contract}: {why}")
        };
        worries.extend(self.budgets.distrusts().map(untrue));
        let behind = self.budgets.iter().filter_map(|budget| self.budgets.behind(&budget.dataset));
        worries.extend(behind.map(|why| why.words.clone()));
        let ended = self.mirror.certified().party(self.party.as_str()).and_then(Party::revoked_in);
        worries.extend(ended.map(|index| {
            format!(
                "the keys of {} were revoked in entry {index}: ask for an invite, then leben-worker join --new-keys <invite>",
                self.party
            )
        }));
        let policy = self.mirror.certified().policy();
        if policy.is_some_and(|policy| policy.room() == 0 && !policy.validators.contains(&self.party)) {
            worries.push(
                "this hospital does not cosign the ledger: those who do have to sign for it (README, Who cosigns)"
                    .into(),
            );
        }
        worries
    }

    /// The two clocks in words, where they are a worry.
    pub(super) fn clock_worry(&self) -> Option<String> {
        match &self.clock {
            Ok(ms) if ms.unsigned_abs() > CLOCK_WARN_MS => {
                let (minutes, way) = (ms.unsigned_abs() / 60_000, if *ms < 0 { "ahead of" } else { "behind" });
                Some(format!("this machine's clock is {minutes} minutes {way} the coordinator's; set it"))
            }
            Ok(_) => None,
            Err(refusal) => Some(refusal.words.clone()),
        }
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn view(&self, contract: &Contract) -> ContractView {
        let id = contract.id.0;
        let standing = self.standings.get(&id).cloned().unwrap_or_default();
        let accepted = contract.accepts.contains_key(&self.party);
        let open = matches!(contract.phase, Phase::Proposed | Phase::PartlySigned);
        let approved_these = standing.approved == Some(contract.terms_hash);
        ContractView {
            id: contract.id.to_string(),
            phase: contract.phase.to_string(),
            terms_hash: contract.terms_hash.to_string(),
            initiator: contract.initiator.to_string(),
            pending: open
                && !accepted
                && !approved_these
                && standing.refused.is_none()
                && !contract.revoked(&self.party),
            approved: approved_these.then(|| if standing.by_policy { "policy" } else { "steward" }.to_owned()),
            accepted,
            stopped: standing.check().err().map(|refusal| refusal.to_string()),
            obstacle: self.obstacle(&id).map(ToString::to_string),
            to_review: self.awaits_clearance(contract),
            running: self.jobs.get(&id).is_some_and(|job| job.participation.is_some()),
            text: contract.terms.text(),
            asks: self.asks_of(contract),
        }
    }

    fn asks_of(&self, contract: &Contract) -> Vec<String> {
        let privacy = &contract.terms.privacy;
        if privacy.epsilon_micro == 0 {
            return Vec::new();
        }
        let (epsilon, delta) = (show(privacy.epsilon_micro), privacy.delta_e12 as f64 * 1e-12);
        let line = |dataset: &Code| {
            let have = match self.budgets.get(dataset) {
                None => "it has no budget".to_owned(),
                Some(budget) => {
                    let job = budget.job(&contract.id).map(|job| format!(", {}", standing_word(job.standing)));
                    let (left, limit, job) =
                        (show(budget.left_micro()), show(budget.limit_micro()), job.unwrap_or_default());
                    format!("{left} of {limit} is left{job}")
                }
            };
            format!("asks epsilon {epsilon} at delta {delta:e} of the privacy budget of '{dataset}': {have}")
        };
        datasets_of(&self.party, contract).iter().map(line).collect()
    }

    fn view_budget(&self, budget: &Budget) -> BudgetView {
        let state = self.mirror.certified();
        let held = budget.jobs().iter().filter(|job| job.standing == crate::budget::Standing::Held);
        let held_micro = held.fold(0u64, |sum, job| sum.saturating_add(job.epsilon_micro));
        let job = |job: &crate::budget::Job| JobView {
            contract: job.contract.to_string(),
            standing: standing_word(job.standing).to_owned(),
            epsilon: show(job.epsilon_micro),
            booked: show(job.booked_micro()),
            rounds: job.rounds_in_all(),
        };
        BudgetView {
            dataset: budget.dataset.to_string(),
            limit: show(budget.limit_micro()),
            delta_e12: budget.delta_e12,
            patients_min: budget.patients_min,
            job_limit: self.budgets.limits(&budget.dataset).map(|limits| show(limits.job_epsilon_micro)),
            spent: show(budget.booked_micro().saturating_sub(held_micro)),
            held: show(held_micro),
            left: show(budget.left_micro()),
            released: show(budget.released_micro()),
            declared: state.budgets().contains_key(&format!("{}/{}", self.party, budget.dataset)),
            behind: self.budgets.behind(&budget.dataset).map(|refusal| refusal.words.clone()),
            jobs: budget.jobs().iter().map(job).collect(),
        }
    }
}

fn standing_word(standing: crate::budget::Standing) -> &'static str {
    match standing {
        crate::budget::Standing::Held => "held",
        crate::budget::Standing::Spent(_) => "spent",
        crate::budget::Standing::Released => "released",
    }
}
