//! What a draft checks against the offers: columns, types, levels, units, permissions.

use leben_contracts::agreement::body::{AlgorithmOffer, ColumnRole, ColumnSpec, ColumnType};
use leben_contracts::agreement::purpose::{self, Purpose};
use leben_contracts::agreement::terms::Input;

use super::Drafting;
use super::stages::Built;
use crate::job::{At, DataSet, Feature, Stage, nearest};
use crate::offers::Set;

/// `there is no KIND 'NAME'; did you mean ..? There are: ..`
pub(super) fn unknown(kind: &str, name: &str, known: &[String]) -> String {
    format!("there is no {kind} '{}'{}", shown(name), instead(name, known))
}

/// `; did you mean ..? There are: ..`
fn instead(name: &str, known: &[String]) -> String {
    let meant = nearest(name, known.iter().map(String::as_str));
    let meant = meant.map_or_else(|| ".".into(), |near| format!("; did you mean '{near}'?"));
    let list = if known.is_empty() { "There is none.".into() } else { format!("There are: {}", known.join(", ")) };
    format!("{meant} {list}")
}

fn shown(name: &str) -> String {
    name.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Drafting<'_> {
    /// The columns of one input: those the job names, or those its stages read; each must be offered and usable.
    pub(super) fn columns(&mut self, data: &DataSet, set: &Set, built: &[Option<Built>]) -> Vec<String> {
        let mut read: Vec<String> = Vec::new();
        for (stage, built) in self.job.stages.iter().zip(built) {
            let reads = stage.data.as_ref().is_none_or(|names| names.iter().any(|name| name.value == data.set.value));
            if let Some(built) = built.as_ref().filter(|_| reads) {
                read.extend(built.columns.iter().cloned());
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        read.retain(|column| seen.insert(column.clone()));
        let schema = &set.offer.schema;
        let offered: Vec<String> = schema.iter().map(|spec| spec.column.clone()).collect();
        for column in &read {
            let at = self.column_place(column).unwrap_or_else(|| data.set.place());
            match schema.iter().find(|spec| spec.column == *column) {
                None => {
                    let before = format!("there is no column '{}' in", shown(column));
                    self.complain_of(&at, before, set, instead(column, &offered));
                }
                Some(spec) => {
                    if let Some(why) = unusable(spec) {
                        self.complain_of(&at, format!("column '{column}' of"), set, format!(" {why}"));
                    }
                }
            }
        }
        let Some(named) = &data.columns else { return read };
        for column in named.iter().filter(|column| !offered.contains(&column.value)) {
            let before = format!("there is no column '{}' in", shown(&column.value));
            self.complain_of(&column.place(), before, set, instead(&column.value, &offered));
        }
        for (i, column) in named.iter().enumerate() {
            if named.iter().take(i).any(|other| other.value == column.value) {
                self.complain(column, format!("'{}' is named twice", column.value));
            }
        }
        if let Some(missing) = read.iter().find(|column| !named.iter().any(|name| name.value == **column)) {
            self.complain(&data.set, format!("a stage reads the column '{missing}', which its columns leave out"));
        }
        named.iter().map(|column| column.value.clone()).collect()
    }

    /// Where the job names a column, if it does so in `[model]` or in a stage's parameters.
    fn column_place(&self, column: &str) -> Option<At<()>> {
        let model = &self.job.model;
        if let Some(outcome) = model.outcome.as_ref().filter(|outcome| outcome.value == column) {
            return Some(outcome.place());
        }
        if let Some(feature) = model.features.iter().find(|feature| feature.value.column == column) {
            return Some(feature.place());
        }
        let mut params = self.job.stages.iter().flat_map(|stage| stage.params.iter());
        params.find(|(name, _)| matches!(name.as_str(), "features" | "outcome")).map(|(_, at)| at.place())
    }

    /// The algorithm must be on the ledger, with the code that this program has.
    pub(super) fn check_offered(&mut self, stage: &Stage, name: &str, version: u32, digest: [u8; 32]) {
        let version = version.to_string();
        let same = |offer: &&AlgorithmOffer| offer.name.as_str() == name && offer.version.as_str() == version;
        match self.offers.algorithms.iter().find(same) {
            Some(offer) if offer.digest.0 == digest => {}
            Some(offer) => {
                let (theirs, ours) = (offer.digest, hex::encode(digest));
                let why = format!(
                    "the network offers {name}@{version} with the code {theirs}, this program has {ours}; install the version that the network runs"
                );
                self.complain(&stage.algorithm, why);
            }
            None => {
                let each = self.offers.algorithms.iter();
                let names: Vec<String> = each.map(|offer| format!("{}@{}", offer.name, offer.version)).collect();
                let why = unknown("algorithm on the ledger:", &format!("{name}@{version}"), &names);
                self.complain(&stage.algorithm, why);
            }
        }
    }

    pub(super) fn check_purpose(&mut self, sets: &[(&DataSet, &Set)]) {
        let trains = |stage: &Stage| {
            let name = stage.algorithm.value.split('@').next().unwrap_or_default();
            self.offers.algorithms.iter().any(|offer| offer.trains_model && offer.name.as_str() == name)
        };
        // The ledger counts training as methods development, whatever the job says.
        let methods_development = self.job.purpose.methods_development || self.job.stages.iter().any(trains);
        let asked = Purpose { methods_development, ..self.job.purpose.clone() };
        for (_, set) in sets {
            if let Err(denied) = purpose::permits(&set.offer.permission, &asked) {
                let permitted = set.offer.permission.duo.join(", ");
                let at = self.job.purpose_at.clone();
                self.complain_of(&at, format!("{denied}. Permitted: {permitted}. Said of"), set, String::new());
            }
        }
    }

    /// One column means one thing in every hospital: the same type, the same unit.
    pub(super) fn check_units(&mut self, sets: &[(&DataSet, &Set)], inputs: &[Input]) {
        let Some(((_, first), rest)) = sets.split_first() else { return };
        let columns: Vec<&String> = inputs.first().into_iter().flat_map(|input| &input.columns).collect();
        for column in columns {
            let find = |set: &Set| set.offer.schema.iter().find(|spec| spec.column == *column).cloned();
            let Some(here) = find(first) else { continue };
            for (data, set) in rest {
                let Some(there) = find(set) else { continue };
                if here.unit != there.unit {
                    let unit = |unit: &str| if unit.is_empty() { "no unit".to_owned() } else { format!("'{unit}'") };
                    let (a, b) = (unit(&here.unit), unit(&there.unit));
                    let (one, other) = (first.name(), set.name());
                    let why =
                        format!("column '{column}' has {a} in {one} and {b} in {other}; a sum of both means nothing");
                    self.complain(&data.set, why);
                }
            }
        }
    }

    /// Levels of a factor must be codes that the hospitals declare.
    pub(super) fn check_model(&mut self, sets: &[(&DataSet, &Set)]) {
        let mut features: Vec<At<Feature>> = self.job.model.features.clone();
        for stage in &self.job.stages {
            let Some(at) = stage.params.get("features") else { continue };
            if let leben_contracts::agreement::terms::Param::Text(text) = &at.value {
                let parsed = text.split(',').filter_map(Feature::parse);
                features.extend(parsed.map(|value| At { value, line: at.line, key: at.key.clone() }));
            }
        }
        for feature in &features {
            for (_, set) in sets {
                let spec = set.offer.schema.iter().find(|spec| spec.column == feature.value.column);
                let codes = spec.map(|spec| spec.codes.as_slice()).unwrap_or_default();
                let named = feature.value.levels.iter().chain(&feature.value.reference);
                let missing = named
                    .map(i64::to_string)
                    .find(|level| !codes.is_empty() && !codes.iter().any(|code| is_code(code, level)));
                if let Some(level) = missing {
                    let before = format!("column '{}' has no code {level} in", feature.value.column);
                    self.complain_of(&feature.place(), before, set, format!("; its codes are {}", codes.join(", ")));
                }
            }
        }
    }

    pub(super) fn check_stage_hospitals(&mut self, hospitals_min: u64) {
        for stage in &self.job.stages {
            let Some(names) = &stage.data else { continue };
            let mut hospitals: Vec<&str> =
                names.iter().map(|name| name.value.split('/').next().unwrap_or_default()).collect();
            hospitals.sort_unstable();
            hospitals.dedup();
            if (hospitals.len() as u64) < hospitals_min {
                let why = format!("reads {} hospitals; privacy.hospitals_min is {hospitals_min}", hospitals.len());
                self.complain(&stage.name, why);
            }
        }
    }
}

fn unusable(spec: &ColumnSpec) -> Option<&'static str> {
    match (spec.role, spec.column_type) {
        (ColumnRole::Id, _) => Some("names patients or rows and is never computed on"),
        (_, ColumnType::Text) => Some("holds text; no algorithm reads that"),
        _ => None,
    }
}

/// Whether a declared `code=label`, or a bare `code`, is this level's.
fn is_code(declared: &str, level: &str) -> bool {
    declared.split_once('=').map_or(declared, |(code, _)| code) == level
}
