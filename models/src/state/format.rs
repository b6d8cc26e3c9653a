//! The one encoding of a state.
//!
//! The file format is safetensors (<https://github.com/huggingface/safetensors>): `u64` little-endian header length, a JSON
//! header, the data. The encoder is our own because a state is hashed and signed: names in byte order, offsets without gaps,
//! words under `__metadata__` in byte order, header padded with blanks to 8 bytes, and [`State::from_bytes`] accepts exactly
//! what [`State::to_bytes`] writes. (The published crate orders metadata by a random hash and pulls in temporary files; it is
//! the oracle in the tests.)
//!
//! Memory: [`State::from_bytes`] holds the bytes given and the values, [`State::open`] only what is not left in the file;
//! [`State::write_to`] and [`State::digest`] hold a block of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;

use leben_privacy::SourceError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::outside::{self, Bytes, OUTSIDE_VALUES_MIN, Stored};
use super::{Numbers, State, Tensor};

/// Most bytes of a state in memory: a bound before anything is parsed.
pub const STATE_BYTES_MAX: usize = 256 << 20;
/// Most bytes of a state in a file, the tensors outside memory included: 8 GiB, two thousand million numbers.
pub const STATE_FILE_BYTES_MAX: u64 = 8 << 30;
/// Largest accepted header, in bytes.
pub const STATE_HEADER_BYTES_MAX: usize = 4 << 20;

/// Values that are turned into bytes at a time.
const BLOCK: usize = 4096;

const METADATA: &str = "__metadata__";

/// Why bytes are not a state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// More bytes than any state may have.
    #[error("a state may have at most {most} bytes, this has {bytes}")]
    TooLarge {
        /// Bytes offered.
        bytes: u64,
        /// Bytes allowed.
        most: u64,
    },
    /// The file, or what a tensor is worked out from, cannot be read.
    #[error("the model state cannot be read: {0}")]
    Unreadable(String),
    /// Not a safetensors file of floats.
    #[error("not a model state: {0}")]
    Malformed(&'static str),
    /// A safetensors file, but not in the one encoding that is signed.
    #[error("not the canonical encoding of a model state; encode it again with this software")]
    NotCanonical,
}

impl State {
    /// The one encoding of this state.
    ///
    /// # Errors
    /// [`StateError::Unreadable`] where a tensor lies outside memory and cannot be read.
    pub fn to_bytes(&self) -> Result<Vec<u8>, StateError> {
        let (mut bytes, data) = self.head();
        bytes.reserve_exact(data);
        self.each_block(|block| {
            bytes.extend_from_slice(block);
            Ok::<_, StateError>(())
        })?;
        Ok(bytes)
    }

    /// Writes the encoding, block by block, and returns its length and SHA-256.
    ///
    /// # Errors
    /// [`StateError::Unreadable`] where a tensor lies outside memory and cannot be read; what the writer says.
    pub fn write_to(&self, to: &mut dyn Write) -> Result<(u64, [u8; 32]), WriteError> {
        let (head, data) = self.head();
        let mut hash = Sha256::new_with_prefix(&head);
        to.write_all(&head)?;
        self.each_block(|block| {
            hash.update(block);
            to.write_all(block).map_err(WriteError::Io)
        })?;
        Ok(((head.len() + data) as u64, hash.finalize().into()))
    }

    /// Whether [`State::open`] would take the encoding: known before anything is written.
    ///
    /// # Errors
    /// [`StateError::TooLarge`], as a whole or what of it has to be in memory; [`StateError::Malformed`] for too long a header.
    pub fn check_size(&self) -> Result<(), StateError> {
        let (head, data) = self.head();
        let outside = |tensor: &Tensor| tensor.numbers.bits() == 32 && tensor.numbers.len() >= OUTSIDE_VALUES_MIN;
        let left = self.tensors.values().filter(|tensor| outside(tensor)).map(|tensor| 4 * tensor.numbers.len() as u64);
        let held = (data as u64).saturating_sub(left.sum());
        if head.len() > STATE_HEADER_BYTES_MAX {
            return Err(StateError::Malformed("header length out of range"));
        }
        let whole = (head.len() + data) as u64;
        for (bytes, most) in [(whole, STATE_FILE_BYTES_MAX), (held, STATE_BYTES_MAX as u64)] {
            if bytes > most {
                return Err(StateError::TooLarge { bytes, most });
            }
        }
        Ok(())
    }

    /// SHA-256 of the encoding: what a round's opening message and the ledger name.
    ///
    /// # Errors
    /// [`StateError::Unreadable`] where a tensor lies outside memory and cannot be read.
    pub fn digest(&self) -> Result<[u8; 32], StateError> {
        let mut hash = Sha256::new_with_prefix(self.head().0);
        self.each_block(|block| {
            hash.update(block);
            Ok::<_, StateError>(())
        })?;
        Ok(hash.finalize().into())
    }

    /// Reads what [`State::to_bytes`] wrote, and nothing else.
    ///
    /// # Errors
    /// [`StateError`]; never a panic, and never more memory than a small multiple of the bytes given.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        Self::read(&bytes, None)
    }

    /// The same from a file. Large tensors of f32 stay there and are read when they are needed; whoever knows the digest that the
    /// file must have compares it before, nothing is hashed here.
    ///
    /// # Errors
    /// As [`State::from_bytes`]; what is to be in memory has at most [`STATE_BYTES_MAX`] bytes, all of it
    /// [`STATE_FILE_BYTES_MAX`].
    pub fn open(file: Arc<dyn Bytes>) -> Result<Self, StateError> {
        Self::read(&*file, Some(&file))
    }

    fn read(bytes: &dyn Bytes, file: Option<&Arc<dyn Bytes>>) -> Result<Self, StateError> {
        let most = if file.is_some() { STATE_FILE_BYTES_MAX } else { STATE_BYTES_MAX as u64 };
        if bytes.len() > most {
            return Err(StateError::TooLarge { bytes: bytes.len(), most });
        }
        let mut length = [0; 8];
        let rest = bytes.len().checked_sub(8).ok_or(StateError::Malformed("shorter than its length field"))?;
        bytes.read_at(0, &mut length)?;
        let length = u64::from_le_bytes(length);
        if length > STATE_HEADER_BYTES_MAX as u64 || length > rest {
            return Err(StateError::Malformed("header length out of range"));
        }
        let mut json = vec![0; usize::try_from(length).unwrap_or(0)];
        bytes.read_at(8, &mut json)?;
        let header: BTreeMap<String, OwnedHead> = serde_json::from_slice(&json)
            .map_err(|_| StateError::Malformed("header is not the JSON of a safetensors file"))?;
        let mut data = Data { bytes, file, start: 8 + length, len: rest - length, read: 0, held: 0 };
        let mut state = Self::default();
        for (name, head) in header {
            match head {
                OwnedHead::Words(words) if name == METADATA => state.words = words,
                OwnedHead::Tensor(info) if name != METADATA => {
                    let tensor = data.read(info)?;
                    state.tensors.insert(name, tensor);
                }
                _ => return Err(StateError::Malformed("a header entry is neither tensor nor metadata")),
            }
        }
        // One comparison instead of a rule for each way in which two encodings could differ. Offsets are part of the head
        // and values are read bit by bit, so with the head and the length the data is the same as well.
        let (head, data_bytes) = state.head();
        let same = head.strip_prefix(&length.to_le_bytes()) == Some(json.as_slice());
        if same && bytes.len() == (head.len() + data_bytes) as u64 { Ok(state) } else { Err(StateError::NotCanonical) }
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

    /// The data, little-endian, in pieces.
    fn each_block<E: From<SourceError>>(&self, mut take: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let mut buffer = Vec::with_capacity(BLOCK * 8);
        for tensor in self.tensors.values() {
            match &tensor.numbers {
                Numbers::F64(values) => blocks(values, f64::to_le_bytes, &mut buffer, &mut take)?,
                Numbers::F32(values) => blocks(values, f32::to_le_bytes, &mut buffer, &mut take)?,
                Numbers::Outside(source) => {
                    outside::blocks(&**source, |_, values| blocks(values, f32::to_le_bytes, &mut buffer, &mut take))?
                }
            }
        }
        Ok(())
    }
}

/// Why a state could not be written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// One of its tensors.
    #[error(transparent)]
    State(#[from] StateError),
    /// Where it goes.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl From<SourceError> for WriteError {
    fn from(error: SourceError) -> Self {
        WriteError::State(error.into())
    }
}

fn blocks<T: Copy, E, const N: usize>(
    values: &[T],
    bytes: impl Fn(T) -> [u8; N],
    buffer: &mut Vec<u8>,
    take: &mut impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    for block in values.chunks(BLOCK) {
        buffer.clear();
        buffer.resize(block.len() * N, 0);
        for (to, value) in buffer.as_chunks_mut::<N>().0.iter_mut().zip(block) {
            *to = bytes(*value);
        }
        take(buffer)?;
    }
    Ok(())
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

/// The data of an encoding that is being read.
struct Data<'a> {
    bytes: &'a dyn Bytes,
    file: Option<&'a Arc<dyn Bytes>>,
    start: u64,
    len: u64,
    /// Bytes taken so far: tensors that share bytes would make a small file a large state.
    read: u64,
    /// Of these, bytes that came into memory.
    held: u64,
}

impl Data<'_> {
    fn read(&mut self, info: Info) -> Result<Tensor, StateError> {
        let width = match info.dtype.as_str() {
            "F64" => 8,
            "F32" => 4,
            _ => return Err(StateError::Malformed("a tensor is not of 64-bit or 32-bit floats")),
        };
        let mut count = 1_usize;
        for side in &info.shape {
            count = count.checked_mul(*side).ok_or(StateError::Malformed("a tensor is too large"))?;
        }
        let (start, end) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
        let bytes = end.checked_sub(start).filter(|_| end <= self.len);
        let bytes = bytes.ok_or(StateError::Malformed("a tensor lies outside the data"))?;
        if (count as u64).checked_mul(width) != Some(bytes) {
            return Err(StateError::Malformed("a tensor's shape does not fit its data"));
        }
        self.read = self.read.saturating_add(bytes);
        if self.read > self.len {
            return Err(StateError::Malformed("tensors lie over each other"));
        }
        let offset = self.start.saturating_add(start);
        if let (Some(file), 4, true) = (self.file, width, count >= OUTSIDE_VALUES_MIN) {
            let stored = Stored { bytes: file.clone(), offset, count };
            return Ok(Tensor { shape: info.shape, numbers: Numbers::Outside(Arc::new(stored)) });
        }
        self.held = self.held.saturating_add(bytes);
        if self.held > STATE_BYTES_MAX as u64 {
            return Err(StateError::TooLarge { bytes: self.held, most: STATE_BYTES_MAX as u64 });
        }
        let numbers = match width {
            8 => Numbers::F64(self.values(offset, count, f64::from_le_bytes)?),
            _ => Numbers::F32(Arc::new(self.values(offset, count, f32::from_le_bytes)?)),
        };
        Ok(Tensor { shape: info.shape, numbers })
    }

    fn values<T, const N: usize>(
        &self,
        offset: u64,
        count: usize,
        value: impl Fn([u8; N]) -> T,
    ) -> Result<Vec<T>, StateError> {
        let mut values = Vec::with_capacity(count);
        let mut buffer = vec![0; BLOCK.min(count) * N];
        while values.len() < count {
            buffer.truncate((count - values.len()) * N);
            self.bytes.read_at(offset.saturating_add((values.len() * N) as u64), &mut buffer)?;
            values.extend(buffer.as_chunks::<N>().0.iter().map(|bytes| value(*bytes)));
        }
        Ok(values)
    }
}
