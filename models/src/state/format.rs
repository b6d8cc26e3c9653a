//! The one encoding of a state.
//!
//! The file format is safetensors (<https://github.com/huggingface/safetensors>): `u64` little-endian header length, a JSON
//! header, the data. The encoder is our own because a state is hashed and signed: names in byte order, offsets without gaps,
//! words under `__metadata__` in byte order, header padded with blanks to 8 bytes, and [`State::from_bytes`] accepts exactly
//! what [`State::to_bytes`] writes. (The published crate orders metadata by a random hash and pulls in temporary files; it is
//! the oracle in the tests.)
//!
//! Memory: reading holds the bytes given and the values; [`State::digest`] holds neither a second time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{Numbers, State, Tensor};

/// Largest accepted encoding, in bytes: a bound on memory before anything is parsed.
pub const STATE_BYTES_MAX: usize = 256 << 20;
/// Largest accepted header, in bytes.
pub const STATE_HEADER_BYTES_MAX: usize = 4 << 20;

/// Values that are turned into bytes at a time.
const BLOCK: usize = 4096;

const METADATA: &str = "__metadata__";

/// Why bytes are not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// More bytes than any state may have.
    #[error("a state may have at most {STATE_BYTES_MAX} bytes, this has {bytes}")]
    TooLarge {
        /// Bytes offered.
        bytes: usize,
    },
    /// Not a safetensors file of floats.
    #[error("not a model state: {0}")]
    Malformed(&'static str),
    /// A safetensors file, but not in the one encoding that is signed.
    #[error("not the canonical encoding of a model state; encode it again with this software")]
    NotCanonical,
}

impl State {
    /// The one encoding of this state.
    pub fn to_bytes(&self) -> Vec<u8> {
        let (mut bytes, data) = self.head();
        bytes.reserve_exact(data);
        self.each_block(|block| bytes.extend_from_slice(block));
        bytes
    }

    /// SHA-256 of the encoding: what a round's opening message and the ledger name.
    pub fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(self.head().0);
        self.each_block(|block| hash.update(block));
        hash.finalize().into()
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
        let mut read = 0_usize;
        for (name, head) in header {
            match head {
                OwnedHead::Words(words) if name == METADATA => state.words = words,
                OwnedHead::Tensor(info) if name != METADATA => {
                    let tensor = info.read(data, &mut read)?;
                    state.tensors.insert(name, tensor);
                }
                _ => return Err(StateError::Malformed("a header entry is neither tensor nor metadata")),
            }
        }
        // One comparison instead of a rule for each way in which two encodings could differ. Offsets are part of the head
        // and values are read bit by bit, so with the head and the length the data is the same as well.
        let (head, data_bytes) = state.head();
        if bytes.starts_with(&head) && bytes.len() == head.len() + data_bytes {
            Ok(state)
        } else {
            Err(StateError::NotCanonical)
        }
    }

    /// Length field and header, and how many bytes of data follow.
    fn head(&self) -> (Vec<u8>, usize) {
        let mut header: BTreeMap<&str, Head<'_>> = BTreeMap::new();
        if !self.words.is_empty() {
            header.insert(METADATA, Head::Words(&self.words));
        }
        let mut offset = 0;
        for (name, tensor) in &self.tensors {
            let bits = tensor.numbers.bits();
            let end = offset + tensor.numbers.len() * (bits / 8);
            let info = Info { dtype: format!("F{bits}"), shape: tensor.shape.clone(), data_offsets: (offset, end) };
            header.insert(name, Head::Tensor(info));
            offset = end;
        }
        // Maps of strings and integers always serialise; an empty header would be refused by every reader.
        let mut json = serde_json::to_vec(&header).unwrap_or_default();
        json.resize(json.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + json.len());
        bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&json);
        (bytes, offset)
    }

    /// The data, little-endian, in pieces of at most [`BLOCK`] values.
    fn each_block(&self, mut take: impl FnMut(&[u8])) {
        let mut buffer = Vec::with_capacity(BLOCK * 8);
        for tensor in self.tensors.values() {
            match &tensor.numbers {
                Numbers::F64(values) => blocks(values, f64::to_le_bytes, &mut buffer, &mut take),
                Numbers::F32(values) => blocks(values, f32::to_le_bytes, &mut buffer, &mut take),
            }
        }
    }
}

fn blocks<T: Copy, const N: usize>(
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
    buffer: &mut Vec<u8>,
    take: &mut impl FnMut(&[u8]),
) {
    for block in values.chunks(BLOCK) {
        buffer.clear();
        buffer.resize(block.len() * N, 0);
        for (to, value) in buffer.as_chunks_mut::<N>().0.iter_mut().zip(block) {
            *to = bytes(*value);
        }
        take(buffer);
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
    /// `read` counts the data taken so far: tensors that share bytes would make a small file a large state.
    fn read(self, data: &[u8], read: &mut usize) -> Result<Tensor, StateError> {
        let width = match self.dtype.as_str() {
            "F64" => 8,
            "F32" => 4,
            _ => return Err(StateError::Malformed("a tensor is not of 64-bit or 32-bit floats")),
        };
        let mut count = 1_usize;
        for side in &self.shape {
            count = count.checked_mul(*side).ok_or(StateError::Malformed("a tensor is too large"))?;
        }
        let (start, end) = self.data_offsets;
        let bytes = data.get(start..end).ok_or(StateError::Malformed("a tensor lies outside the data"))?;
        if count.checked_mul(width) != Some(bytes.len()) {
            return Err(StateError::Malformed("a tensor's shape does not fit its data"));
        }
        *read = read.saturating_add(bytes.len());
        if *read > data.len() {
            return Err(StateError::Malformed("tensors lie over each other"));
        }
        let numbers = match width {
            8 => Numbers::F64(bytes.as_chunks::<8>().0.iter().map(|chunk| f64::from_le_bytes(*chunk)).collect()),
            _ => Numbers::F32(bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect()),
        };
        Ok(Tensor { shape: self.shape, numbers })
    }
}
