//! The stages of the terms as code that runs here: built in, word for word, and under the limits that were signed.

use std::sync::Arc;

use leben_contracts::agreement::party::{Code, PartyId};
use leben_contracts::agreement::terms::{Param, Stage, Terms};
use leben_models::disclosure::Limits;
use leben_models::{Algorithm, AlgorithmSpec, registry};

use super::StagePlan;
use crate::refusal::{Reason, Refusal};

/// The code of every stage of the terms, in their order.
pub(crate) fn algorithms(terms: &Terms) -> Result<Vec<Arc<dyn Algorithm>>, Refusal> {
    terms.stages.iter().map(|stage| build(terms, &stage.algorithm, 1)).collect()
}

/// The plans of the stages that read a hospital's data.
pub(crate) fn plan_stages(terms: &Terms, me: &PartyId) -> Result<Vec<StagePlan>, Refusal> {
    terms.stages.iter().filter_map(|stage| plan_stage(terms, stage, me).transpose()).collect()
}

/// The plan of a stage that reads this hospital's data; `None` for one that does not.
fn plan_stage(terms: &Terms, stage: &Stage, me: &PartyId) -> Result<Option<StagePlan>, Refusal> {
    let mut inputs = stage.inputs.iter().filter_map(|id| terms.input(id)).filter(|input| input.owner == *me);
    let Some(input) = inputs.next() else { return Ok(None) };
    if inputs.next().is_some() {
        let words = format!("stage '{}' reads two data sets of this hospital; one contribution needs one", stage.name);
        return Err(Refusal::new(Reason::SeveralInputs, words));
    }
    let algorithm = build(terms, &stage.algorithm, input.cohort_min)?;
    if let Some(column) = algorithm.columns().into_iter().find(|column| !input.columns.contains(column)) {
        let words = format!("stage '{}' reads column '{column}', which the terms do not grant", stage.name);
        return Err(Refusal::new(Reason::ColumnNotGranted, words));
    }
    Ok(Some(StagePlan {
        id: stage.id,
        name: stage.name.to_string(),
        algorithm,
        input: input.clone(),
        rounds_max: stage.rounds_max,
    }))
}

fn build(terms: &Terms, id: &Code, cohort_min: u64) -> Result<Arc<dyn Algorithm>, Refusal> {
    let differs = |words: String| Refusal::new(Reason::AlgorithmDigest, words);
    let named = terms.algorithm(id).ok_or_else(|| differs(format!("the terms do not hold the algorithm '{id}'")))?;
    let (name, version) = (named.name.as_str(), named.version.as_str());
    let number: Option<u32> = version.parse().ok();
    let digest = number.and_then(|number| registry::digest(name, number));
    let (Some(number), Some(digest)) = (number, digest) else {
        return Err(differs(format!("this worker has no algorithm '{name}' version {version}; update it")));
    };
    if digest != named.digest.0 {
        let words = format!("'{name}' version {version} is other code here than the terms name; update one of the two");
        return Err(differs(words));
    }
    let param = |param: &Param| match param {
        Param::Integer(number) => leben_models::Param::Integer(*number),
        Param::Text(text) => leben_models::Param::Text(text.clone()),
    };
    let params = named.params.iter().map(|(key, value)| (key.clone(), param(value))).collect();
    let spec = AlgorithmSpec { name: name.to_owned(), version: number, params };
    let asked = terms.privacy.disclosure;
    let limits = Limits {
        cell_min: asked.cell_min.into(),
        cell_hospitals_min: asked.cell_hospitals_min,
        dominance_percent: asked.dominance_percent,
        cohort_min,
    };
    let algorithm = registry::controlled(&spec, limits)
        .map_err(|error| Refusal::new(Reason::AlgorithmParams, format!("algorithm '{name}': {error}")))?;
    Ok(Arc::from(algorithm as Box<dyn Algorithm>))
}
