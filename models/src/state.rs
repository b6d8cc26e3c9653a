//! The public state of a job: named tensors of f64 or f32 and a few words, as safetensors bytes with exactly one encoding.
//!
//! Statistics are f64; the model of a deep-learning job is f32, half the bytes on the way to every hospital. The bytes are in
//! `format`: any safetensors reader opens them.

mod format;

use std::collections::BTreeMap;

use crate::finding::Finding;

pub use format::{STATE_BYTES_MAX, STATE_HEADER_BYTES_MAX, StateError};

/// Named tensors (row-major) and named words; public, it is what every hospital is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    tensors: BTreeMap<String, Tensor>,
    words: BTreeMap<String, String>,
}

/// One tensor: row-major values and their shape.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    numbers: Numbers,
}

#[derive(Clone, Debug, PartialEq)]
enum Numbers {
    F64(Vec<f64>),
    F32(Vec<f32>),
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::F32(values) => values.len(),
        }
    }

    fn bits(&self) -> usize {
        match self {
            Self::F64(_) => 64,
            Self::F32(_) => 32,
        }
    }
}

impl State {
    /// Adds or replaces a vector of f64.
    #[must_use]
    pub fn with(self, name: &str, values: Vec<f64>) -> Self {
        let shape = vec![values.len()];
        self.insert(name, shape, Numbers::F64(values))
    }

    /// Adds or replaces a vector of f32.
    #[must_use]
    pub fn with32(self, name: &str, values: Vec<f32>) -> Self {
        let shape = vec![values.len()];
        self.insert(name, shape, Numbers::F32(values))
    }

    /// Adds or replaces a matrix of `columns` columns of f64, row-major; a ragged tail is cut off.
    #[must_use]
    pub fn with_matrix(self, name: &str, columns: usize, mut values: Vec<f64>) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        values.truncate(rows * columns);
        self.insert(name, vec![rows, columns], Numbers::F64(values))
    }

    /// Adds or replaces a word, for example the list of terms.
    #[must_use]
    pub fn with_word(mut self, name: &str, word: impl Into<String>) -> Self {
        self.words.insert(name.to_owned(), word.into());
        self
    }

    /// The values of a tensor of f64.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when there is none of that name, or it holds f32.
    pub fn values(&self, name: &str) -> Result<&[f64], Finding> {
        match self.numbers(name)? {
            Numbers::F64(values) => Ok(values),
            other => Err(other_type(name, other, 64)),
        }
    }

    /// The values of a tensor of f32. Nothing is converted: what one program wrote as f64 is not read as f32 here.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when there is none of that name, or it holds f64.
    pub fn values32(&self, name: &str) -> Result<&[f32], Finding> {
        match self.numbers(name)? {
            Numbers::F32(values) => Ok(values),
            other => Err(other_type(name, other, 32)),
        }
    }

    /// The values of a tensor of f64 when it has exactly `len` of them.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it is absent or has another length or type.
    pub fn vector(&self, name: &str, len: usize) -> Result<&[f64], Finding> {
        of_length(name, self.values(name)?, len)
    }

    /// The values of a tensor of f32 when it has exactly `len` of them.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it is absent or has another length or type.
    pub fn vector32(&self, name: &str, len: usize) -> Result<&[f32], Finding> {
        of_length(name, self.values32(name)?, len)
    }

    /// One number of a tensor of f64.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it is not there.
    pub fn number(&self, name: &str, index: usize) -> Result<f64, Finding> {
        self.values(name)?
            .get(index)
            .copied()
            .ok_or_else(|| Finding::StateMismatch { problem: format!("tensor '{name}' has no value number {index}") })
    }

    /// A word.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it is not there.
    pub fn word(&self, name: &str) -> Result<&str, Finding> {
        self.words
            .get(name)
            .map(String::as_str)
            .ok_or_else(|| Finding::StateMismatch { problem: format!("it has no entry '{name}'") })
    }

    /// Names of the tensors in byte order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    fn numbers(&self, name: &str) -> Result<&Numbers, Finding> {
        let none = || Finding::StateMismatch { problem: format!("it has no tensor '{name}'") };
        self.tensors.get(name).map(|tensor| &tensor.numbers).ok_or_else(none)
    }

    fn insert(mut self, name: &str, shape: Vec<usize>, numbers: Numbers) -> Self {
        self.tensors.insert(name.to_owned(), Tensor { shape, numbers });
        self
    }
}

fn of_length<'a, T>(name: &str, values: &'a [T], len: usize) -> Result<&'a [T], Finding> {
    if values.len() == len {
        return Ok(values);
    }
    let problem = format!("tensor '{name}' has {} values, not {len}", values.len());
    Err(Finding::StateMismatch { problem })
}

fn other_type(name: &str, numbers: &Numbers, wanted: usize) -> Finding {
    let problem = format!("tensor '{name}' holds {}-bit floats where {wanted}-bit ones belong", numbers.bits());
    Finding::StateMismatch { problem }
}

#[cfg(test)]
mod tests;
