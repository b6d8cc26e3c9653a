//! A contract's terms as the work they order, and the contract's standing as the ledger shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use leben_contracts::agreement::terms::{OnDrop, Param, Stage, Terms};
use leben_models::disclosure::Limits;
use leben_models::promise::epsilon_added_micro;
use leben_models::{Algorithm, AlgorithmSpec, registry};
use leben_privacy::Suite;
use leben_protocol::frame::ContractId;

use crate::round::Rules;

/// One stage, ready to run.
#[derive(Clone)]
pub struct StagePlan {
    /// Its id in the terms.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Who runs it.
    pub executor: String,
    /// Both halves of its algorithm.
    pub algorithm: Arc<dyn Algorithm + Send + Sync>,
    /// Digest of the algorithm.
    pub digest: [u8; 32],
    /// The stage whose output it starts from.
    pub state_from: Option<u32>,
    /// Most rounds.
    pub rounds_max: u32,
    /// Most rows of each hospital that it reads.
    pub row_caps: BTreeMap<String, u64>,
    /// How its rounds meet trouble.
    pub rules: Rules,
}

/// What a contract orders.
#[derive(Clone)]
pub struct Plan {
    /// The contract.
    pub contract: ContractId,
    /// Data owners, in the order of their Shamir points.
    pub hospitals: Vec<String>,
    /// Shamir threshold.
    pub threshold: u16,
    /// Stages in an order in which they can run.
    pub stages: Vec<StagePlan>,
    /// Who receives the result.
    pub recipient: String,
    /// The recipient's sealing key.
    pub sealing: [u8; 32],
    /// Whether each hospital in the result looks at it before it is delivered.
    pub review: bool,
    /// Everything has run by then, milliseconds.
    pub run_by_ms: u64,
    /// The terms' epsilon, millionths; 0 without a privacy mechanism.
    pub epsilon_micro: u64,
    /// The terms' delta.
    pub delta: f64,
}

/// Why a contract cannot be run by this coordinator.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum PlanError {
    /// Another version of the algorithm, or none.
    #[error("stage '{stage}' names an algorithm this coordinator does not have: {why}")]
    Algorithm {
        /// The stage.
        stage: String,
        /// What differs.
        why: String,
    },
    /// The terms refer to something they do not hold.
    #[error("stage '{stage}' refers to '{missing}', which the terms do not hold")]
    Dangling {
        /// The stage.
        stage: String,
        /// The name.
        missing: String,
    },
}

/// What an operator sets, not the contract.
#[derive(Clone, Debug)]
pub struct Operator {
    /// How long a hospital may be away before its seat counts as lost, milliseconds.
    pub away_ms_max: u64,
    /// What pads are made from.
    pub suite: Suite,
}

impl Plan {
    /// Reads the terms.
    pub fn new(contract: ContractId, terms: &Terms, operator: &Operator) -> Result<Plan, PlanError> {
        let owners: BTreeSet<String> = terms.inputs.iter().map(|input| input.owner.to_string()).collect();
        let stages = terms.stages.iter().map(|stage| plan_stage(terms, stage, operator)).collect::<Result<_, _>>()?;
        Ok(Plan {
            contract,
            hospitals: owners.into_iter().collect(),
            threshold: terms.privacy.threshold,
            stages,
            recipient: terms.delivery.recipient.to_string(),
            sealing: terms.delivery.sealing.0,
            review: terms.delivery.review,
            run_by_ms: terms.windows.run_by_ms,
            epsilon_micro: terms.privacy.epsilon_micro,
            delta: terms.privacy.delta_e12 as f64 * 1e-12,
        })
    }

    /// What a stage adds, in millionths of epsilon, to those before it that have run, after so many rounds of each.
    pub fn epsilon_added(&self, id: u32, rounds: impl Fn(u32) -> u32) -> u64 {
        let Some(at) = self.stages.iter().position(|stage| stage.id == id).filter(|_| self.epsilon_micro > 0) else {
            return 0;
        };
        let hospitals = u16::try_from(self.hospitals.len()).unwrap_or(u16::MAX);
        let until = self.stages.iter().take(at + 1);
        let ran: Vec<(&dyn Algorithm, u32)> =
            until.map(|stage| (stage.algorithm.as_ref() as &dyn Algorithm, rounds(stage.id))).collect();
        epsilon_added_micro(&ran, hospitals, self.delta, self.epsilon_micro)
    }

    /// Seats by Shamir point, from 1.
    pub fn seats(&self) -> impl Iterator<Item = (u16, String)> + '_ {
        (1u16..).zip(self.hospitals.iter().cloned())
    }
}

fn plan_stage(terms: &Terms, stage: &Stage, operator: &Operator) -> Result<StagePlan, PlanError> {
    let dangling = || PlanError::Dangling { stage: stage.name.to_string(), missing: stage.algorithm.to_string() };
    let named = terms.algorithms.iter().find(|algorithm| algorithm.id == stage.algorithm).ok_or_else(dangling)?;
    let spec = AlgorithmSpec {
        name: named.name.to_string(),
        version: named.version.as_str().parse().unwrap_or(0),
        params: named.params.iter().map(|(key, value)| (key.clone(), param(value))).collect::<BTreeMap<_, _>>(),
    };
    let refused = |why: String| PlanError::Algorithm { stage: stage.name.to_string(), why };
    let asked = terms.privacy.disclosure;
    let limits = Limits {
        cell_min: asked.cell_min.into(),
        cell_hospitals_min: asked.cell_hospitals_min,
        dominance_percent: asked.dominance_percent,
        cohort_min: 1,
    };
    let algorithm = registry::controlled(&spec, limits).map_err(|error| refused(error.to_string()))?;
    let digest = registry::digest(&spec.name, spec.version).unwrap_or_default();
    if digest != named.digest.0 {
        let built_in = hex::encode(digest);
        return Err(refused(format!("the terms sign the digest {}, this build has {built_in}", named.digest)));
    }
    Ok(StagePlan {
        id: stage.id,
        name: stage.name.to_string(),
        executor: stage.executor.to_string(),
        algorithm: Arc::from(algorithm),
        digest,
        state_from: stage.state_from,
        rounds_max: stage.rounds_max,
        row_caps: row_caps(terms, stage),
        rules: Rules {
            hospitals_min: terms.privacy.hospitals_min,
            repeat_on_drop: stage.on_drop == OnDrop::Repeat,
            retries: stage.retries,
            silent_ms_max: stage.timeout_ms,
            away_ms_max: operator.away_ms_max,
            suite: operator.suite,
        },
    })
}

fn row_caps(terms: &Terms, stage: &Stage) -> BTreeMap<String, u64> {
    let mut caps = BTreeMap::<String, u64>::new();
    for input in stage.inputs.iter().filter_map(|id| terms.input(id)) {
        let cap = caps.entry(input.owner.to_string()).or_default();
        *cap = cap.saturating_add(input.row_cap);
    }
    caps
}

fn param(value: &Param) -> leben_models::Param {
    match value {
        Param::Integer(number) => leben_models::Param::Integer(*number),
        Param::Text(text) => leben_models::Param::Text(text.clone()),
    }
}
