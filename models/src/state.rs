//! The public state of a job: named f64 tensors and a few words, as safetensors bytes with exactly one encoding.
//!
//! The file format is safetensors (<https://github.com/huggingface/safetensors>): `u64` little-endian header length, a JSON
//! header, the data. Any safetensors reader opens it. The encoder is our own because a state is hashed and signed: names
//! in byte order, offsets without gaps, words under `__metadata__` in byte order, header padded with blanks to 8 bytes,
//! and [`State::from_bytes`] accepts exactly what [`State::to_bytes`] writes. (The published crate orders metadata by a
//! random hash and pulls in temporary files; it is the oracle in the tests.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::finding::Finding;

/// Largest accepted encoding, in bytes: a bound on memory before anything is parsed.
pub const STATE_BYTES_MAX: usize = 256 << 20;
/// Largest accepted header, in bytes.
pub const STATE_HEADER_BYTES_MAX: usize = 4 << 20;

/// Named tensors of `f64` (row-major) and named words; public, it is what every hospital is told.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    tensors: BTreeMap<String, Tensor>,
    words: BTreeMap<String, String>,
}

/// One tensor: row-major values and their shape.
#[derive(Clone, Debug, PartialEq)]
struct Tensor {
    shape: Vec<usize>,
    values: Vec<f64>,
}

/// Why bytes are not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// More bytes than any state may have.
    #[error("a state may have at most {STATE_BYTES_MAX} bytes, this has {bytes}")]
    TooLarge {
        /// Bytes offered.
        bytes: usize,
    },
    /// Not a safetensors file of 64-bit floats.
    #[error("not a model state: {0}")]
    Malformed(&'static str),
    /// A safetensors file, but not in the one encoding that is signed.
    #[error("not the canonical encoding of a model state; encode it again with this software")]
    NotCanonical,
}

impl State {
    /// Adds or replaces a vector.
    #[must_use]
    pub fn with(self, name: &str, values: Vec<f64>) -> Self {
        let shape = vec![values.len()];
        self.insert(name, shape, values)
    }

    /// Adds or replaces a matrix of `columns` columns, row-major; a ragged tail is cut off.
    #[must_use]
    pub fn with_matrix(self, name: &str, columns: usize, mut values: Vec<f64>) -> Self {
        let rows = values.len().checked_div(columns).unwrap_or(0);
        values.truncate(rows * columns);
        self.insert(name, vec![rows, columns], values)
    }

    /// Adds or replaces a word, for example the list of terms.
    #[must_use]
    pub fn with_word(mut self, name: &str, word: impl Into<String>) -> Self {
        self.words.insert(name.to_owned(), word.into());
        self
    }

    /// A tensor's values.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when there is none of that name.
    pub fn values(&self, name: &str) -> Result<&[f64], Finding> {
        match self.tensors.get(name) {
            Some(tensor) => Ok(&tensor.values),
            None => Err(Finding::StateMismatch { problem: format!("it has no tensor '{name}'") }),
        }
    }

    /// A tensor's values when it has exactly `len` of them.
    ///
    /// # Errors
    /// [`Finding::StateMismatch`] when it is absent or has another length.
    pub fn vector(&self, name: &str, len: usize) -> Result<&[f64], Finding> {
        let values = self.values(name)?;
        if values.len() == len {
            return Ok(values);
        }
        let problem = format!("tensor '{name}' has {} values, not {len}", values.len());
        Err(Finding::StateMismatch { problem })
    }

    /// One number of a tensor.
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

    /// The one encoding of this state.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut header: BTreeMap<&str, Head<'_>> = BTreeMap::new();
        if !self.words.is_empty() {
            header.insert(METADATA, Head::Words(&self.words));
        }
        let mut offset = 0;
        for (name, tensor) in &self.tensors {
            let end = offset + tensor.values.len() * 8;
            let info = Info { dtype: "F64".into(), shape: tensor.shape.clone(), data_offsets: (offset, end) };
            header.insert(name, Head::Tensor(info));
            offset = end;
        }
        // Maps of strings and integers always serialise; an empty header would be refused by every reader.
        let mut json = serde_json::to_vec(&header).unwrap_or_default();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + json.len() + offset);
        bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&json);
        for tensor in self.tensors.values() {
            for value in &tensor.values {
                bytes.extend_from_slice(&value.to_le_bytes());
            }
        }
        bytes
    }

    /// Reads what [`State::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`StateError`]; never a panic, and never more memory than a small multiple of the bytes given.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        if bytes.len() > STATE_BYTES_MAX {
            return Err(StateError::TooLarge { bytes: bytes.len() });
        }
        let (head, rest) =
            bytes.split_first_chunk::<8>().ok_or(StateError::Malformed("shorter than its length field"))?;
        let length = usize::try_from(u64::from_le_bytes(*head)).unwrap_or(usize::MAX);
        if length > STATE_HEADER_BYTES_MAX || length > rest.len() {
            return Err(StateError::Malformed("header length out of range"));
        }
        let (json, data) = rest.split_at(length);
        let header: BTreeMap<String, OwnedHead> = serde_json::from_slice(json)
            .map_err(|_| StateError::Malformed("header is not the JSON of a safetensors file"))?;
        let mut state = Self::default();
        for (name, head) in header {
            match head {
                OwnedHead::Words(words) if name == METADATA => state.words = words,
                OwnedHead::Tensor(info) if name != METADATA => {
                    let tensor = info.read(data)?;
                    state.tensors.insert(name, tensor);
                }
                _ => return Err(StateError::Malformed("a header entry is neither tensor nor metadata")),
            }
        }
        // One comparison instead of a rule for each way in which two encodings could differ.
        if state.to_bytes() == bytes { Ok(state) } else { Err(StateError::NotCanonical) }
    }

    /// SHA-256 of the encoding: what a round's opening message and the ledger name.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    fn insert(mut self, name: &str, shape: Vec<usize>, values: Vec<f64>) -> Self {
        self.tensors.insert(name.to_owned(), Tensor { shape, values });
        self
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Head<'a> {
    Words(&'a BTreeMap<String, String>),
    Tensor(Info),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OwnedHead {
    Tensor(Info),
    Words(BTreeMap<String, String>),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

impl Info {
    fn read(self, data: &[u8]) -> Result<Tensor, StateError> {
        if self.dtype != "F64" {
            return Err(StateError::Malformed("a tensor is not of 64-bit floats"));
        }
        let mut count = 1_usize;
        for side in &self.shape {
            count = count.checked_mul(*side).ok_or(StateError::Malformed("a tensor is too large"))?;
        }
        let (start, end) = self.data_offsets;
        let bytes = data.get(start..end).ok_or(StateError::Malformed("a tensor lies outside the data"))?;
        if count.checked_mul(8) != Some(bytes.len()) {
            return Err(StateError::Malformed("a tensor's shape does not fit its data"));
        }
        let values = bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect();
        Ok(Tensor { shape: self.shape, values })
    }
}

const METADATA: &str = "__metadata__";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use safetensors::SafeTensors;

    use super::*;

    fn sample() -> State {
        State::default()
            .with("beta", vec![0.5, -1.25, f64::MIN_POSITIVE])
            .with_matrix("trace", 2, vec![1.0, 2.0, 3.0, 4.0])
            .with_word("terms", "[\"age\",\"sex\"]")
            .with_word("outcome", "ta\"rget\u{e9}")
    }

    #[test]
    fn published_reader_sees_the_same_tensors() {
        let bytes = sample().to_bytes();
        let read = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(read.names().len(), 2);
        let trace = read.tensor("trace").unwrap();
        assert_eq!(trace.shape(), &[2, 2]);
        assert_eq!(trace.data()[8..16], 2.0_f64.to_le_bytes());
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["outcome"], "ta\"rget\u{e9}");
    }

    #[test]
    fn round_trip_and_digest_do_not_depend_on_the_order_of_insertion() {
        let state = sample();
        assert_eq!(State::from_bytes(&state.to_bytes()).unwrap(), state);
        let other = State::default()
            .with_word("outcome", "ta\"rget\u{e9}")
            .with_word("terms", "[\"age\",\"sex\"]")
            .with_matrix("trace", 2, vec![1.0, 2.0, 3.0, 4.0])
            .with("beta", vec![0.5, -1.25, f64::MIN_POSITIVE]);
        assert_eq!(other.digest(), state.digest());
        assert_eq!(State::from_bytes(&State::default().to_bytes()).unwrap(), State::default());
    }

    #[test]
    fn an_encoding_with_blanks_or_another_order_is_refused() {
        let bytes = sample().to_bytes();
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(State::from_bytes(&longer).is_err());
        let mut padded = bytes.clone();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
        padded[..8].copy_from_slice(&(length + 8).to_le_bytes());
        let at = 8 + usize::try_from(length).unwrap();
        padded.splice(at..at, [b' '; 8]);
        assert_eq!(State::from_bytes(&padded), Err(StateError::NotCanonical));
        assert!(State::from_bytes(&[255; 16]).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = State::from_bytes(&bytes);
        }

        #[test]
        fn a_flipped_bit_never_gives_the_same_state(position in 0_usize..400, bit in 0_u8..8) {
            let state = sample();
            let mut bytes = state.to_bytes();
            let position = position % bytes.len();
            bytes[position] ^= 1 << bit;
            if let Ok(other) = State::from_bytes(&bytes) {
                prop_assert_ne!(other.digest(), state.digest());
            }
        }

        #[test]
        fn any_vector_round_trips(values in proptest::collection::vec(any::<f64>(), 0..50)) {
            let bytes = State::default().with("v", values).to_bytes();
            prop_assert_eq!(State::from_bytes(&bytes).unwrap().to_bytes(), bytes);
        }
    }
}
