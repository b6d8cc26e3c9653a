//! The algorithms that are built in: by name and version, with the digest that a contract carries.

use sha2::{Digest, Sha256};

use crate::algorithm::Algorithm;
use crate::disclosure::{self, Limits};
use crate::dp_glm::DpGlm;
use crate::dp_sgd::DpSgd;
use crate::dp_statistics::DpStatistics;
use crate::evaluate::Evaluate;
use crate::glm::Glm;
use crate::probe::Probe;
use crate::spec::{AlgorithmSpec, SpecError};
use crate::standardise::Standardise;

/// One built-in algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Name as in a job file.
    pub name: &'static str,
    /// Version.
    pub version: u32,
    /// One line for the catalogue.
    pub summary: &'static str,
    /// SHA-256 over name, version and the source text of every file that decides what leaves a hospital or comes of it.
    pub digest: [u8; 32],
}

/// Everything built in, by name.
pub fn all() -> Vec<Entry> {
    SOURCES
        .iter()
        .filter_map(|source| {
            let digest = digest(source.name, source.version)?;
            Some(Entry { name: source.name, version: source.version, summary: source.summary, digest })
        })
        .collect()
}

/// The digest of an algorithm, or `None` when it is not built in.
///
/// It covers the source text, so a hospital that runs other code than was agreed refuses, and an upgrade that changes an
/// algorithm's file is seen in the contract. Length-prefixed, under the domain `leben/algorithm/v1`.
pub fn digest(name: &str, version: u32) -> Option<[u8; 32]> {
    let source = SOURCES.iter().find(|source| source.name == name && source.version == version)?;
    let mut hash = Sha256::new();
    let mut field = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    field(b"leben/algorithm/v1");
    field(name.as_bytes());
    field(&version.to_be_bytes());
    for (_, text) in source.files.iter().chain(SHARED) {
        field(text.as_bytes());
    }
    Some(hash.finalize().into())
}

/// Makes a runnable algorithm of a spec, held to the limits of the terms: what runs on patients.
///
/// # Errors
/// As [`build`].
pub fn controlled(spec: &AlgorithmSpec, limits: Limits) -> Result<Box<dyn Algorithm + Send + Sync>, SpecError> {
    Ok(disclosure::controlled(raw(spec, &limits)?, limits))
}

/// Makes an algorithm of a spec without [`crate::disclosure`] around it: to look at its parameters, and as the oracle of tests.
///
/// # Errors
/// [`SpecError`]: unknown algorithm, or a parameter that is missing, wrong or unknown.
pub fn build(spec: &AlgorithmSpec) -> Result<Box<dyn Algorithm + Send + Sync>, SpecError> {
    raw(spec, &Limits::default())
}

fn raw(spec: &AlgorithmSpec, limits: &Limits) -> Result<Box<dyn Algorithm + Send + Sync>, SpecError> {
    match (spec.name.as_str(), spec.version) {
        ("dp-glm", 1) => Ok(Box::new(DpGlm::new(spec)?)),
        ("dp-sgd", 1) => Ok(Box::new(DpSgd::new(spec)?)),
        ("dp-statistics", 1) => Ok(Box::new(DpStatistics::new(spec)?)),
        ("standardise", 1) => Ok(Box::new(Standardise::new(spec)?)),
        ("glm", 1) => Ok(Box::new(Glm::new(spec)?)),
        ("evaluate", 1) => Ok(Box::new(Evaluate::new(spec, limits)?)),
        ("probe", 1) => Ok(Box::new(Probe::new(spec)?)),
        (name, version) => {
            let known: Vec<String> =
                SOURCES.iter().map(|source| format!("'{}' version {}", source.name, source.version)).collect();
            Err(SpecError::Unknown { name: name.to_owned(), version, known: known.join(", ") })
        }
    }
}

struct Source {
    name: &'static str,
    version: u32,
    summary: &'static str,
    files: &'static [Text],
}

/// A file by its path within `src`, and what it says.
type Text = (&'static str, &'static str);

macro_rules! text {
    ($path:literal) => {
        ($path, include_str!($path))
    };
}

const SHARED: &[Text] = &[
    text!("algorithm.rs"),
    text!("design.rs"),
    text!("disclosure/cells.rs"),
    text!("disclosure/mod.rs"),
    text!("linear.rs"),
    text!("outcome.rs"),
    text!("select.rs"),
    text!("spec.rs"),
    text!("state.rs"),
    text!("state/format.rs"),
    text!("state/outside.rs"),
    text!("table.rs"),
];

const SOURCES: &[Source] = &[
    Source {
        name: "dp-glm",
        version: 1,
        summary: "linear or logistic regression with differential privacy; standard errors include the noise",
        files: &[
            text!("dp_glm.rs"),
            text!("dp_glm/report.rs"),
            text!("bounded.rs"),
            text!("private.rs"),
            text!("distribution.rs"),
        ],
    },
    Source {
        name: "dp-sgd",
        version: 1,
        summary: "logistic regression or a small network, learned privately inside each hospital and averaged",
        files: &[text!("dp_sgd.rs"), text!("dp_sgd/model.rs"), text!("bounded.rs"), text!("private.rs")],
    },
    Source {
        name: "dp-statistics",
        version: 1,
        summary: "counts, histograms, means, variances and quantiles with differential privacy, in one round",
        files: &[
            text!("dp_statistics.rs"),
            text!("dp_statistics/report.rs"),
            text!("private.rs"),
            text!("distribution.rs"),
        ],
    },
    Source {
        name: "evaluate",
        version: 1,
        summary: "ROC curve and AUC, calibration, Brier score and log loss of a logistic model",
        files: &[text!("evaluate.rs"), text!("evaluate/report.rs"), text!("distribution.rs"), text!("standardise.rs")],
    },
    Source {
        name: "glm",
        version: 1,
        summary: "linear or logistic regression, with ridge, by Newton steps, with standard errors",
        files: &[text!("glm.rs"), text!("glm/report.rs"), text!("glm/sums.rs"), text!("distribution.rs")],
    },
    Source {
        name: "probe",
        version: 1,
        summary: "measures a deployment: rounds of any size that read nothing but the number of rows",
        files: &[text!("probe.rs"), text!("standardise.rs")],
    },
    Source {
        name: "standardise",
        version: 1,
        summary: "mean and standard deviation of each term over all hospitals, complete rows only",
        files: &[text!("standardise.rs")],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_its_own_digest_and_builds() {
        let entries = all();
        let count = entries.len();
        let mut digests: Vec<_> = entries.iter().map(|entry| entry.digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), count);
        assert!(digest("glm", 2).is_none());
        let probe = AlgorithmSpec::new("probe", [("length", 9)]);
        assert!(build(&probe).unwrap().columns().is_empty());
        for entry in entries.into_iter().filter(|entry| entry.name != "probe" && !entry.name.starts_with("dp-")) {
            let spec = AlgorithmSpec::new(entry.name, [("features", "age,sex"), ("outcome", "target")]);
            assert_eq!(build(&spec).unwrap().columns(), vec!["age", "sex", "target"]);
        }
    }

    /// What the listed files use is listed. Errors and pictures change no result.
    #[test]
    fn a_digest_covers_every_file_that_its_files_use() {
        for source in SOURCES {
            let files: Vec<&Text> = source.files.iter().chain(SHARED).collect();
            let listed = |path: &str| files.iter().any(|(listed, _)| *listed == path);
            for (path, text) in &files {
                let folder = path.strip_suffix("/mod.rs").or(path.strip_suffix(".rs")).unwrap();
                for line in text.lines().take_while(|line| *line != "#[cfg(test)]") {
                    if let Some(used) = line.trim_start().split("use crate::").nth(1) {
                        let name = used.split([':', ';']).next().unwrap();
                        let known = listed(&format!("{name}.rs")) || listed(&format!("{name}/mod.rs"));
                        assert!(known || ["finding", "picture"].contains(&name), "{}: {path} uses {name}", source.name);
                    }
                    if let Some(name) = line.split_once("mod ").and_then(|(_, name)| name.strip_suffix(';')) {
                        assert!(listed(&format!("{folder}/{name}.rs")), "{}: {path} has {name}", source.name);
                    }
                }
            }
        }
    }

    #[test]
    fn wrong_specs_are_explained() {
        let text = |spec: &AlgorithmSpec| build(spec).err().unwrap().to_string();
        assert!(text(&AlgorithmSpec::new("cox", [("features", "a")])).contains("'glm' version 1"));
        let glm = AlgorithmSpec::new("glm", [("features", "age"), ("outcome", "target")]);
        assert!(text(&glm.clone().with("rigde", "1")).contains("no parameter 'rigde'"));
        assert!(text(&glm.clone().with("ridge", "-1")).contains("decimal number"));
        assert!(text(&glm.clone().with("ridge", "NaN")).contains("decimal number"));
        assert!(text(&glm.clone().with("tolerance", "1e-14")).contains("'tolerance'"));
        assert!(text(&glm.with("family", "poisson")).contains("binomial"));
        assert!(text(&AlgorithmSpec::new("glm", [("features", "age")])).contains("'outcome'"));
    }
}
