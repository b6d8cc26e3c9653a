//! The public state of a job: named tensors of f64 or f32 and a few words, as safetensors bytes with exactly one encoding.
//!
//! Statistics are f64; the model of a deep-learning job is f32, half the bytes on the way to every hospital. The bytes are in
//! `format`: any safetensors reader opens them. A large model stays in its file (`outside`).

mod format;
mod outside;

use std::collections::BTreeMap;
use std::sync::Arc;

use leben_privacy::Source;

use crate::finding::Finding;

pub use format::{STATE_BYTES_MAX, STATE_FILE_BYTES_MAX, STATE_HEADER_BYTES_MAX, StateError, WriteError};
pub(crate) use outside::blocks;
pub use outside::{Bytes, OUTSIDE_VALUES_MIN};

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

#[derive(Clone)]
enum Numbers {
    F64(Vec<f64>),
    F32(Arc<Vec<f32>>),
    /// f32, read when they are needed.
    Outside(Arc<dyn Source<f32>>),
}

impl Numbers {
    fn len(&self) -> usize {
        match self {
            Self::F64(values) => values.len(),
            Self::F32(values) => values.len(),
            Self::Outside(source) => source.count(),
        }
    }

    fn bits(&self) -> usize {
        match self {
            Self::F64(_) => 64,
            Self::F32(_) | Self::Outside(_) => 32,
        }
    }

    fn source32(&self) -> Option<Arc<dyn Source<f32>>> {
        match self {
            Self::F64(_) => None,
            Self::F32(values) => Some(values.clone()),
            Self::Outside(source) => Some(source.clone()),
        }
    }
}

impl std::fmt::Debug for Numbers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::F64(values) => values.fmt(f),
            Self::F32(values) => values.fmt(f),
            Self::Outside(source) => write!(f, "{} values outside memory", source.count()),
        }
    }
}

impl PartialEq for Numbers {
    // By value, wherever they are. What cannot be read equals nothing.
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::F64(one), Self::F64(other)) => one == other,
            (Self::F32(one), Self::F32(other)) => one == other,
            (one, other) => match (one.source32(), other.source32()) {
                (Some(one), Some(other)) => outside::same(&*one, &*other),
                _ => false,
            },
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
        self.insert(name, shape, Numbers::F32(Arc::new(values)))
    }

    /// Adds or replaces a vector of f32 that is read from `source`: now, into memory, where it is small; whenever it is needed
    /// where it has [`OUTSIDE_VALUES_MIN`] values or more.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it cannot be read now.
    pub fn with_source32(self, name: &str, source: Arc<dyn Source<f32>>) -> Result<Self, Finding> {
        if source.count() >= OUTSIDE_VALUES_MIN {
            let shape = vec![source.count()];
            return Ok(self.insert(name, shape, Numbers::Outside(source)));
        }
        let mut values = vec![0.0; source.count()];
        source.read(0, &mut values).map_err(StateError::from)?;
        Ok(self.with32(name, values))
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
    /// [`Finding::StateMismatch`] when there is none of that name, it holds f64, or lies outside memory ([`State::source32`]).
    pub fn values32(&self, name: &str) -> Result<&[f32], Finding> {
        match self.numbers(name)? {
            Numbers::F32(values) => Ok(values),
            Numbers::Outside(_) => Err(Finding::StateMismatch {
                problem: format!("tensor '{name}' is too large for memory; it has to be read in blocks"),
            }),
            other => Err(other_type(name, other, 32)),
        }
    }

    /// A tensor of f32 of exactly `len` values, in memory or outside, to be read in blocks.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it is absent or has another length or type.
    pub fn source32(&self, name: &str, len: usize) -> Result<Arc<dyn Source<f32>>, Finding> {
        let numbers = self.numbers(name)?;
        let source = numbers.source32().ok_or_else(|| other_type(name, numbers, 32))?;
        if source.count() == len { Ok(source) } else { Err(other_length(name, source.count(), len)) }
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
    Err(other_length(name, values.len(), len))
}

fn other_length(name: &str, got: usize, wanted: usize) -> Finding {
    Finding::StateMismatch { problem: format!("tensor '{name}' has {got} values, not {wanted}") }
}

impl From<StateError> for Finding {
    fn from(error: StateError) -> Self {
        Finding::StateMismatch { problem: error.to_string() }
    }
}

fn other_type(name: &str, numbers: &Numbers, wanted: usize) -> Finding {
    let problem = format!("tensor '{name}' holds {}-bit floats where {wanted}-bit ones belong", numbers.bits());
    Finding::StateMismatch { problem }
}

#[cfg(test)]
mod tests;
