//! What terms ask of a data set's budget: computed from the stages' code and parameters, never believed.

use std::collections::BTreeMap;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::terms::{MECHANISMS, Terms};
use leben_privacy::dp::guarantee::{Release, Unit, guarantee};

use super::show;
use crate::consent::StagePlan;
use crate::refusal::{Reason, Refusal};

/// The mechanism of [`MECHANISMS`] that protects whole hospitals.
const SILO: &str = "silo";

/// What one contract releases about one data set.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The contract.
    pub contract: Hash32,
    /// The terms, by hash.
    pub terms_hash: Hash32,
    /// The terms' epsilon, millionths.
    pub epsilon_micro: u64,
    /// The noisy sums of each stage that reads the data set, with the most rounds that were signed.
    pub stages: BTreeMap<u32, Vec<Release>>,
}

/// The terms' delta.
pub(crate) fn delta_of(terms: &Terms) -> f64 {
    terms.privacy.delta_e12 as f64 * 1e-12
}

/// Whether the terms name a mechanism; all but `none` need a budget.
///
/// # Errors
/// [`Reason::Mechanism`].
pub fn is_private(terms: &Terms) -> Result<bool, Refusal> {
    match terms.privacy.mechanism.as_str() {
        "none" => Ok(false),
        name if MECHANISMS.contains(&name) => Ok(true),
        name => {
            let words = format!("this version has no privacy mechanism '{name}'; update it");
            Err(Refusal::new(Reason::Mechanism, words))
        }
    }
}

/// What a contract with a mechanism asks of each data set of this hospital. `stages` are those that read them.
///
/// # Errors
/// [`Reason::NoNoise`] for a stage that releases without noise, [`Reason::Guarantee`] where the noise, the rounds and the
/// hospitals do not give the epsilon that the terms promise.
pub fn asks(contract: &Contract, stages: &[StagePlan]) -> Result<BTreeMap<Code, Ask>, Refusal> {
    let terms = contract.terms.as_ref();
    let hospitals = u16::try_from(contract.owners().len()).unwrap_or(u16::MAX);
    let mut asks = BTreeMap::<Code, Ask>::new();
    for stage in stages {
        let releases = releases_of(terms, stage, hospitals)?;
        let ask = asks.entry(stage.input.dataset.clone()).or_insert_with(|| Ask {
            contract: contract.id,
            terms_hash: contract.terms_hash,
            epsilon_micro: terms.privacy.epsilon_micro,
            stages: BTreeMap::new(),
        });
        ask.stages.insert(stage.id, releases);
    }
    for (dataset, ask) in &asks {
        let all: Vec<Release> = ask.stages.values().flatten().cloned().collect();
        let wrong = |words: String| Refusal::new(Reason::Guarantee, format!("data set '{dataset}': {words}"));
        let computed = guarantee(&all, delta_of(terms)).map_err(|error| wrong(error.to_string()))?;
        if computed.epsilon_micro > ask.epsilon_micro {
            let (said, is) = (show(ask.epsilon_micro), show(computed.epsilon_micro));
            let delta = computed.delta;
            return Err(wrong(format!(
                "the terms promise epsilon {said} at delta {delta:e}, their noise and rounds give {is}; more noise, or \
                 fewer rounds, or a larger epsilon"
            )));
        }
    }
    Ok(asks)
}

fn releases_of(terms: &Terms, stage: &StagePlan, hospitals: u16) -> Result<Vec<Release>, Refusal> {
    let wrong = |words: String| Refusal::new(Reason::Guarantee, format!("stage '{}': {words}", stage.name));
    let releases = stage.algorithm.releases(hospitals).map_err(|finding| wrong(finding.to_string()))?;
    if releases.is_empty() {
        let (name, mechanism) = (&stage.name, &terms.privacy.mechanism);
        let words = format!("stage '{name}' releases its sums without noise, the terms promise '{mechanism}'");
        return Err(Refusal::new(Reason::NoNoise, words));
    }
    let (signed, most) = (stage.rounds_max, stage.algorithm.rounds_max());
    if signed > most {
        return Err(wrong(format!("{signed} rounds were signed, its noise is for {most} at most")));
    }
    let silo = terms.privacy.mechanism.as_str() == SILO;
    for release in &releases {
        if silo != matches!(release.unit, Unit::Hospital { .. }) {
            let (is, said) = if silo { ("patients", "whole hospitals") } else { ("whole hospitals", "patients") };
            return Err(wrong(format!("its noise protects {is}, the terms' mechanism is for {said}")));
        }
        if release.needed() > terms.privacy.hospitals_min {
            let (needed, min) = (release.needed(), terms.privacy.hospitals_min);
            return Err(wrong(format!("its noise needs {needed} hospitals, the terms open a sum of {min}")));
        }
    }
    Ok(releases.iter().map(|release| release.after(u64::from(signed))).collect())
}
