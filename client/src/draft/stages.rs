//! The work of a draft: algorithms looked up and tried, stages in their order.

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::terms::{Algorithm, Param, Stage};
use leben_models::{Algorithm as Runnable, AlgorithmSpec, SpecError, registry};

use super::{Drafting, check};
use crate::job::At;

/// A stage's algorithm, looked up and tried.
pub(super) struct Built {
    pub(super) algorithm: Algorithm,
    pub(super) columns: Vec<String>,
    pub(super) runnable: Box<dyn Runnable + Send + Sync>,
    pub(super) rounds_max: u32,
}

impl Drafting<'_> {
    pub(super) fn algorithms(&mut self) -> Vec<Option<Built>> {
        let job = self.job;
        job.stages.iter().map(|stage| self.algorithm(stage)).collect()
    }

    fn algorithm(&mut self, stage: &crate::job::Stage) -> Option<Built> {
        let (name, version) = match stage.algorithm.value.split_once('@') {
            Some((name, version)) => (name, version.parse().ok()),
            None => (stage.algorithm.value.as_str(), self.newest(&stage.algorithm.value)),
        };
        let digest = version.and_then(|version| registry::digest(name, version));
        let (Some(version), Some(digest)) = (version, digest) else {
            let names: Vec<String> = registry::all().iter().map(|e| format!("{}@{}", e.name, e.version)).collect();
            self.complain(&stage.algorithm, check::unknown("algorithm", &stage.algorithm.value, &names));
            return None;
        };
        self.check_offered(stage, name, version, digest);
        let spec = self.spec(stage, name, version);
        let runnable = match registry::build(&spec) {
            Ok(runnable) => runnable,
            Err(error) => {
                let place = stage.params.iter().find(|(param, _)| error.to_string().contains(&format!("'{param}'")));
                match place {
                    Some((_, at)) => self.complain(at, error.to_string()),
                    None => self.complain(&stage.algorithm, error.to_string()),
                }
                return None;
            }
        };
        let hospitals = u16::try_from(self.job.data.len()).unwrap_or(u16::MAX);
        match runnable.releases(hospitals) {
            Ok(all) if !all.is_empty() => {}
            Ok(_) => {
                let why = format!("'{name}' adds no noise, but privacy.mechanism promises some");
                self.noiseless.push(stage.algorithm.problem(why));
            }
            Err(finding) => self.noiseless.push(stage.algorithm.problem(finding.to_string())),
        }
        let id = self.code(&stage.name)?;
        let algorithm = Algorithm {
            id,
            name: Code::new(name).ok()?,
            version: Code::new(&version.to_string()).ok()?,
            digest: Hash32(digest),
            params: spec.params.iter().map(|(key, value)| (key.clone(), param(value))).collect(),
        };
        Some(Built { algorithm, columns: runnable.columns(), rounds_max: runnable.rounds_max(), runnable })
    }

    fn newest(&self, name: &str) -> Option<u32> {
        registry::all().iter().filter(|entry| entry.name == name).map(|entry| entry.version).max()
    }

    /// The stage's parameters, and those of `[model]` that it does not set and that its algorithm knows.
    fn spec(&self, stage: &crate::job::Stage, name: &str, version: u32) -> AlgorithmSpec {
        let params = stage.params.iter().map(|(key, at)| (key.clone(), to_model(&at.value))).collect();
        let mut spec = AlgorithmSpec { name: name.to_owned(), version, params };
        let model = &self.job.model;
        let features: Vec<String> = model.features.iter().map(|feature| feature.value.to_text()).collect();
        let shared = [
            ("features", (!features.is_empty()).then(|| features.join(","))),
            ("outcome", model.outcome.as_ref().map(|at| at.value.clone())),
            ("family", model.family.as_ref().map(|at| at.value.clone())),
        ];
        for (key, value) in shared {
            let Some(value) = value.filter(|_| !spec.params.contains_key(key)) else { continue };
            let with = spec.clone().with(key, value.as_str());
            if !matches!(&registry::build(&with), Err(SpecError::Surplus { param, .. }) if param == key) {
                spec = with;
            }
        }
        spec
    }

    pub(super) fn code(&mut self, at: &At<String>) -> Option<Code> {
        match Code::new(&at.value) {
            Ok(code) => Some(code),
            Err(error) => {
                self.complain(at, error.to_string());
                None
            }
        }
    }

    pub(super) fn stages(&mut self, built: &[Option<Built>]) -> Vec<Stage> {
        let job = self.job;
        let mut stages = Vec::new();
        for (i, (stage, built)) in job.stages.iter().zip(built).enumerate() {
            let earlier: Vec<&str> = job.stages.iter().take(i).map(|stage| stage.name.value.as_str()).collect();
            if earlier.contains(&stage.name.value.as_str()) {
                self.complain(&stage.name, format!("'{}' is the name of an earlier stage", stage.name.value));
            }
            let from = stage.from.as_ref().and_then(|name| self.earlier(name, &earlier));
            let mut after: Vec<u32> = match &stage.after {
                Some(names) => names.iter().filter_map(|name| self.earlier(name, &earlier)).collect(),
                None => number(earlier.len()).filter(|id| *id > 0).into_iter().collect(),
            };
            after.extend(from);
            after.sort_unstable();
            after.dedup();
            let inputs = self.stage_inputs(stage);
            let (Some(built), Some(id), Some(name)) = (built, number(i + 1), self.code(&stage.name)) else { continue };
            stages.push(Stage {
                id,
                name,
                executor: self.offers.coordinator.clone(),
                after,
                inputs,
                state_from: from,
                algorithm: built.algorithm.id.clone(),
                rounds_max: stage.rounds_max.unwrap_or(built.rounds_max),
                timeout_ms: stage.timeout_ms,
                retries: stage.retries,
                on_failure: stage.on_failure,
                on_drop: stage.on_drop.unwrap_or(job.privacy.on_drop),
            });
        }
        stages
    }

    fn earlier(&mut self, name: &At<String>, earlier: &[&str]) -> Option<u32> {
        let place = earlier.iter().position(|other| *other == name.value);
        if place.is_none() {
            let names: Vec<String> = earlier.iter().map(|name| (*name).to_owned()).collect();
            self.complain(name, check::unknown("earlier stage", &name.value, &names));
        }
        place.and_then(|place| number(place + 1))
    }

    fn stage_inputs(&mut self, stage: &crate::job::Stage) -> Vec<Code> {
        let all: Vec<String> = self.job.data.iter().map(|data| data.set.value.clone()).collect();
        for name in stage.data.iter().flatten().filter(|name| !all.contains(&name.value)) {
            self.complain(name, check::unknown("data set among data.sets", &name.value, &all));
        }
        let wanted = |set: &String| stage.data.as_ref().is_none_or(|data| data.iter().any(|name| name.value == *set));
        all.iter().enumerate().filter(|(_, set)| wanted(set)).filter_map(|(i, set)| input_id(i, set)).collect()
    }
}

/// The name of an input within the terms: `hospital.dataset`, or its place if that is too long.
pub(super) fn input_id(place: usize, set: &str) -> Option<Code> {
    Code::new(&set.replace('/', ".")).or_else(|_| Code::new(&format!("data-{}", place + 1))).ok()
}

fn number(value: usize) -> Option<u32> {
    u32::try_from(value).ok()
}

fn param(value: &leben_models::Param) -> Param {
    match value {
        leben_models::Param::Integer(number) => Param::Integer(*number),
        leben_models::Param::Text(text) => Param::Text(text.clone()),
    }
}

fn to_model(value: &Param) -> leben_models::Param {
    match value {
        Param::Integer(number) => leben_models::Param::Integer(*number),
        Param::Text(text) => leben_models::Param::Text(text.clone()),
    }
}
