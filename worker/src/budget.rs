//! What the jobs of one data set may still tell about its patients, as this hospital counts it. Pure.
//!
//! Two sums are kept at once and a job needs both: the epsilons of the terms, as the ledger adds them, and the Renyi
//! divergences of what is really released ([`Filter`]), which stays valid where jobs are chosen after seeing results.
//! A job is reserved before it is signed, a round is counted before its vector leaves, a job is closed when it is over.
//! Each change raises [`Budget::generation`] and is on the disk before anything follows from it: a crash at any point
//! counts too much, never too little. Jobs are never forgotten: a certified ledger that knows one which the disk does not
//! shows that the disk is an older copy ([`book`]).
//!
//! Reading order: this file, then [`ask`] (what terms would release), [`book`] (all data sets, against the ledger) and
//! [`receipts`] (what the coordinator says was spent).

pub mod ask;
pub mod book;
pub mod receipts;

use std::collections::BTreeMap;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_privacy::dp::filter::Filter;
use leben_privacy::dp::guarantee::Release;
use leben_privacy::dp::{DpError, default_delta};
use serde::{Deserialize, Serialize};

pub use ask::Ask;
pub use book::Budgets;

/// What a hospital opens a data set for, as `worker.toml` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Floor of the number of patients.
    pub patients_min: u64,
    /// For the life of the data set, millionths of epsilon.
    pub epsilon_micro: u64,
    /// Delta for its life, in units of 10^-12.
    pub delta_e12: u64,
    /// Most that one job may ask for, millionths of epsilon. The only one that may change later.
    pub job_epsilon_micro: u64,
}

impl Limits {
    /// [`default_delta`] in units of 10^-12, rounded down.
    pub fn delta_e12_for(patients_min: u64) -> u64 {
        (default_delta(patients_min) * 1e12).floor() as u64
    }
}

/// Why a budget refuses. It is unchanged.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum BudgetError {
    /// The epsilons of all jobs would be above the limit.
    #[error("the job asks for epsilon {}, of the data set's budget {} is left", show(*.asked_micro), show(*.left_micro))]
    Left {
        /// Asked for, millionths.
        asked_micro: u64,
        /// Not booked, millionths.
        left_micro: u64,
    },
    /// The contract's reservation cannot be made twice.
    #[error("the contract holds, or has spent, budget of this data set already")]
    Known,
    /// Nothing is reserved for the contract.
    #[error("no budget of this data set is held for the contract")]
    NotHeld,
    /// The accountant.
    #[error(transparent)]
    Dp(#[from] DpError),
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Standing {
    /// It may run; its whole epsilon counts.
    Held,
    /// It is over; this much epsilon, in millionths, is booked for good.
    Spent(u64),
    /// It is over and nothing ran.
    Released,
}

/// One contract's part of the budget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Job {
    /// The contract.
    pub contract: Hash32,
    /// The terms that were reserved for.
    pub terms_hash: Hash32,
    /// The terms' epsilon, millionths.
    pub epsilon_micro: u64,
    /// Where it stands.
    pub standing: Standing,
    /// Releases of each stage, and the most rounds of each.
    parts: BTreeMap<u32, Vec<u64>>,
    /// Last round released of each stage.
    rounds: BTreeMap<u32, u32>,
}

impl Job {
    /// What it takes from the budget by the ledger's way of adding, millionths of epsilon.
    pub fn booked_micro(&self) -> u64 {
        match self.standing {
            Standing::Held => self.epsilon_micro,
            Standing::Spent(epsilon_micro) => epsilon_micro,
            Standing::Released => 0,
        }
    }

    /// The last round of a stage that left this hospital; 0: none.
    pub fn rounds(&self, stage: u32) -> u32 {
        self.rounds.get(&stage).copied().unwrap_or(0)
    }

    /// Rounds that left, over all stages.
    pub fn rounds_in_all(&self) -> u64 {
        self.rounds.values().map(|rounds| u64::from(*rounds)).sum()
    }

    fn ids(&self) -> Vec<String> {
        let of_stage = |(stage, steps): (&u32, &Vec<u64>)| {
            let stage = *stage;
            (0..steps.len()).map(move |at| part_id(&self.contract, stage, at)).collect::<Vec<_>>()
        };
        self.parts.iter().flat_map(of_stage).collect()
    }
}

fn part_id(contract: &Hash32, stage: u32, at: usize) -> String {
    format!("{contract}/{stage}/{at}")
}

/// The budget of one data set. Lost: the data set takes no more jobs with a privacy mechanism. Rolled back: seen by the
/// ledger, the job's journal and the generation. Forged: by whoever can write the folder. Grows: 300 bytes a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The data set.
    pub dataset: Code,
    /// Floor of the number of patients.
    pub patients_min: u64,
    /// Delta for its life, in units of 10^-12.
    pub delta_e12: u64,
    filter: Filter,
    jobs: Vec<Job>,
    generation: u64,
}

impl Budget {
    /// A new budget.
    ///
    /// # Errors
    /// [`DpError`]: limits that leave nothing to spend.
    pub fn genesis(dataset: Code, limits: &Limits) -> Result<Budget, DpError> {
        let orders = Filter::default_orders(limits.epsilon_micro, limits.delta_e12)?;
        let filter = Filter::genesis(limits.epsilon_micro, limits.delta_e12, orders)?;
        let (patients_min, delta_e12) = (limits.patients_min, limits.delta_e12);
        Ok(Budget { dataset, patients_min, delta_e12, filter, jobs: Vec::new(), generation: 0 })
    }

    /// Checks a state that was read back.
    ///
    /// # Errors
    /// [`DpError::State`] and what [`Filter::check`] finds.
    pub fn check(&self) -> Result<(), DpError> {
        self.filter.check()?;
        let held = self.jobs.iter().filter(|job| job.standing == Standing::Held);
        let mut parts = 0usize;
        for job in held {
            for (stage, steps) in &job.parts {
                for (at, steps) in steps.iter().enumerate() {
                    let counted = u64::from(job.rounds(*stage)).min(*steps);
                    if self.filter.reservation(&part_id(&job.contract, *stage, at)) != Some((*steps, counted)) {
                        return Err(DpError::State("rounds of a job"));
                    }
                    parts += 1;
                }
            }
        }
        if self.filter.reservations() != parts {
            return Err(DpError::State("a reservation without a job"));
        }
        let mut contracts: Vec<_> = self.jobs.iter().map(|job| job.contract).collect();
        contracts.sort_unstable();
        if contracts.windows(2).any(|pair| matches!(pair, [a, b] if a == b)) {
            return Err(DpError::State("two jobs of one contract"));
        }
        if self.booked_micro() > self.filter.epsilon_limit_micro() {
            return Err(DpError::State("more booked than the limit"));
        }
        Ok(())
    }

    /// Whether these are the limits it was made with; what one job may ask for is not part of it.
    pub fn has_limits(&self, limits: &Limits) -> bool {
        (self.patients_min, self.filter.epsilon_limit_micro(), self.delta_e12)
            == (limits.patients_min, limits.epsilon_micro, limits.delta_e12)
    }

    /// Holds the whole of a job, or nothing of it.
    ///
    /// # Errors
    /// [`BudgetError`]; the state is unchanged.
    pub fn reserve(&mut self, ask: &Ask) -> Result<(), BudgetError> {
        let known = self.job(&ask.contract);
        // A job of which nothing ran may be reserved again, for example when its terms were amended.
        if known.is_some_and(|job| job.standing != Standing::Released) {
            return Err(BudgetError::Known);
        }
        let left_micro = self.left_micro();
        if ask.epsilon_micro > left_micro {
            return Err(BudgetError::Left { asked_micro: ask.epsilon_micro, left_micro });
        }
        let mut filter = self.filter.clone();
        let orders = filter.orders()?;
        let mut parts = BTreeMap::new();
        for (stage, releases) in &ask.stages {
            for (at, release) in releases.iter().enumerate() {
                filter.reserve(&part_id(&ask.contract, *stage, at), &release.curve(&orders)?, release.rounds)?;
            }
            parts.insert(*stage, releases.iter().map(|release| release.rounds).collect());
        }
        self.jobs.retain(|job| job.contract != ask.contract);
        self.jobs.push(Job {
            contract: ask.contract,
            terms_hash: ask.terms_hash,
            epsilon_micro: ask.epsilon_micro,
            standing: Standing::Held,
            parts,
            rounds: BTreeMap::new(),
        });
        self.filter = filter;
        self.generation = self.generation.saturating_add(1);
        Ok(())
    }

    /// Counts a round of a stage, from 1, before it leaves. `false`: it was counted already. A round that is tried again
    /// counts once: the secure sum opens it once at most. Each release of the stage is counted with every round: too much
    /// where they follow one another, never too little.
    ///
    /// # Errors
    /// [`BudgetError::NotHeld`], also for a stage that nothing was reserved for; the state is unchanged.
    pub fn count(&mut self, contract: &Hash32, stage: u32, round: u32) -> Result<bool, BudgetError> {
        let held = |job: &&mut Job| job.contract == *contract && job.standing == Standing::Held;
        let job = self.jobs.iter_mut().find(held).ok_or(BudgetError::NotHeld)?;
        let parts = job.parts.get(&stage).filter(|parts| !parts.is_empty()).ok_or(BudgetError::NotHeld)?;
        let before = job.rounds.get(&stage).copied().unwrap_or(0);
        if round <= before {
            return Ok(false);
        }
        let mut filter = self.filter.clone();
        for (at, steps) in parts.iter().enumerate() {
            let more = u64::from(round).min(*steps).saturating_sub(u64::from(before).min(*steps));
            if more > 0 {
                filter.spend(&part_id(contract, stage, at), more)?;
            }
        }
        job.rounds.insert(stage, round);
        self.filter = filter;
        self.generation = self.generation.saturating_add(1);
        Ok(true)
    }

    /// Ends a job: what left stays counted, the rest is free again. `epsilon_micro` is booked, never more than was held.
    ///
    /// # Errors
    /// [`BudgetError::NotHeld`]; the state is unchanged.
    pub fn close(&mut self, contract: &Hash32, epsilon_micro: u64) -> Result<(), BudgetError> {
        let held = |job: &&mut Job| job.contract == *contract && job.standing == Standing::Held;
        let job = self.jobs.iter_mut().find(held).ok_or(BudgetError::NotHeld)?;
        let mut filter = self.filter.clone();
        for id in job.ids() {
            filter.close(&id)?;
        }
        job.standing = match epsilon_micro.min(job.epsilon_micro) {
            0 if job.rounds.is_empty() => Standing::Released,
            epsilon_micro => Standing::Spent(epsilon_micro),
        };
        self.filter = filter;
        self.generation = self.generation.saturating_add(1);
        Ok(())
    }

    /// The record of a contract.
    pub fn job(&self, contract: &Hash32) -> Option<&Job> {
        self.jobs.iter().find(|job| job.contract == *contract)
    }

    /// All jobs, the oldest first.
    pub fn jobs(&self) -> &[Job] {
        &self.jobs
    }

    /// The limit for the life of the data set, millionths of epsilon.
    pub fn limit_micro(&self) -> u64 {
        self.filter.epsilon_limit_micro()
    }

    /// Held and spent by the ledger's way of adding, millionths of epsilon.
    pub fn booked_micro(&self) -> u64 {
        self.jobs.iter().fold(0, |sum, job| sum.saturating_add(job.booked_micro()))
    }

    /// Not booked yet, millionths of epsilon.
    pub fn left_micro(&self) -> u64 {
        self.limit_micro().saturating_sub(self.booked_micro())
    }

    /// What everything that left so far amounts to at the budget's delta, millionths of epsilon, by the Renyi filter.
    pub fn released_micro(&self) -> u64 {
        self.filter.epsilon_spent_micro()
    }

    /// Rises with every change: of two copies the higher one is newer.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Millionths as a decimal number without trailing zeros.
pub fn show(micro: u64) -> String {
    let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// The epsilon of what left, millionths, at most `epsilon_micro`: after so many rounds of each stage.
pub(crate) fn spent_micro(job: &Job, stages: &BTreeMap<u32, Vec<Release>>, delta: f64) -> u64 {
    if job.rounds.is_empty() {
        return 0;
    }
    let after = |(stage, releases): (&u32, &Vec<Release>)| {
        let rounds = u64::from(job.rounds(*stage));
        releases.iter().map(|release| release.after(rounds)).filter(|release| release.rounds > 0).collect::<Vec<_>>()
    };
    let released: Vec<Release> = stages.iter().flat_map(after).collect();
    let computed = leben_privacy::dp::guarantee::guarantee(&released, delta);
    computed.map_or(job.epsilon_micro, |guarantee| guarantee.epsilon_micro.min(job.epsilon_micro))
}
