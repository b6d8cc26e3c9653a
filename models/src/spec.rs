//! How a contract names an algorithm: a name, a version and parameters, and the reading of the parameters.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a stage of the terms says. Canonical JSON has no fractions, so a real number is a decimal text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlgorithmSpec {
    /// The algorithm's name, for example `glm`.
    pub name: String,
    /// Its version; a change of meaning is a new version.
    pub version: u32,
    /// Its parameters by name.
    #[serde(default)]
    pub params: BTreeMap<String, Param>,
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Param {
    /// A whole number.
    Integer(i64),
    /// A text: a name, a list, or a decimal number such as `"0.001"`.
    Text(String),
}

impl From<&str> for Param {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Param {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl AlgorithmSpec {
    /// A spec of version 1 from pairs.
    pub fn new<P: Into<Param>>(name: &str, params: impl IntoIterator<Item = (&'static str, P)>) -> Self {
        let params = params.into_iter().map(|(name, param)| (name.to_owned(), param.into())).collect();
        Self { name: name.to_owned(), version: 1, params }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, param: impl Into<Param>) -> Self {
        self.params.insert(name.to_owned(), param.into());
        self
    }
}

/// Why a spec cannot be run. For the person who wrote the job file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpecError {
    /// Nothing of that name and version is built in.
    #[error("there is no algorithm '{name}' version {version}; known are {known}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// The version asked for.
        version: u32,
        /// What there is.
        known: String,
    },
    /// A parameter that must be given is not.
    #[error("algorithm '{algorithm}' needs the parameter '{param}' ({expected})")]
    Missing {
        /// The algorithm.
        algorithm: &'static str,
        /// The parameter.
        param: &'static str,
        /// What it should hold.
        expected: &'static str,
    },
    /// A parameter's value does not fit.
    #[error("parameter '{param}' of algorithm '{algorithm}' must be {expected}")]
    Invalid {
        /// The algorithm.
        algorithm: &'static str,
        /// The parameter.
        param: String,
        /// What it should hold.
        expected: String,
    },
    /// A parameter that the algorithm does not have: a spelling mistake must not become a default.
    #[error("algorithm '{algorithm}' has no parameter '{param}'; it knows {known}")]
    Surplus {
        /// The algorithm.
        algorithm: &'static str,
        /// The parameter.
        param: String,
        /// Its parameters.
        known: String,
    },
}

/// Reads one spec's parameters; every parameter must be known to the algorithm.
pub(crate) struct Reader<'a> {
    algorithm: &'static str,
    params: &'a BTreeMap<String, Param>,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(algorithm: &'static str, spec: &'a AlgorithmSpec, known: &[&str]) -> Result<Self, SpecError> {
        for param in spec.params.keys() {
            if !known.contains(&param.as_str()) {
                return Err(SpecError::Surplus { algorithm, param: param.clone(), known: known.join(", ") });
            }
        }
        Ok(Self { algorithm, params: &spec.params })
    }

    pub(crate) fn text(&self, param: &'static str, expected: &'static str) -> Result<&'a str, SpecError> {
        self.text_maybe(param)?.ok_or(SpecError::Missing { algorithm: self.algorithm, param, expected })
    }

    /// Refuses a spec without this parameter: there is no default that would suit.
    pub(crate) fn needed(&self, param: &'static str, expected: &'static str) -> Result<(), SpecError> {
        let missing = SpecError::Missing { algorithm: self.algorithm, param, expected };
        self.params.get(param).map(|_| ()).ok_or(missing)
    }

    pub(crate) fn text_maybe(&self, param: &'static str) -> Result<Option<&'a str>, SpecError> {
        match self.params.get(param) {
            None => Ok(None),
            Some(Param::Text(text)) => Ok(Some(text)),
            Some(Param::Integer(_)) => Err(self.invalid(param, "a text")),
        }
    }

    /// A whole number between `low` and `high`, or the default.
    pub(crate) fn integer(&self, param: &'static str, default: i64, low: i64, high: i64) -> Result<i64, SpecError> {
        let value = match self.params.get(param) {
            None => default,
            Some(Param::Integer(value)) => *value,
            Some(Param::Text(text)) => text.parse().unwrap_or(i64::MIN),
        };
        if (low..=high).contains(&value) {
            return Ok(value);
        }
        Err(self.invalid(param, &format!("a whole number from {low} to {high}")))
    }

    /// A decimal number between `low` and `high`, or the default.
    pub(crate) fn decimal(&self, param: &'static str, default: f64, low: f64, high: f64) -> Result<f64, SpecError> {
        let value = match self.params.get(param) {
            None => default,
            Some(Param::Integer(value)) => *value as f64,
            Some(Param::Text(text)) => text.parse().unwrap_or(f64::NAN),
        };
        if (low..=high).contains(&value) {
            return Ok(value);
        }
        Err(self.invalid(param, &format!("a decimal number from {low} to {high}, written as a text such as \"0.001\"")))
    }

    pub(crate) fn invalid(&self, param: &str, expected: &str) -> SpecError {
        SpecError::Invalid { algorithm: self.algorithm, param: param.to_owned(), expected: expected.to_owned() }
    }
}
