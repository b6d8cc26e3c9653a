//! Tensors that stay outside memory: in the file that a state came in, or wherever a next model is worked out from.
//!
//! Only tensors of f32 with at least [`OUTSIDE_VALUES_MIN`] values: a deep-learning job's model. They are read in blocks, each
//! time somebody asks, so a state may be larger than memory.

use std::sync::Arc;

use leben_privacy::{Source, SourceError};

use super::StateError;

/// Values from which on a tensor of f32 is left where it is: 2^20, 4 MiB.
pub const OUTSIDE_VALUES_MIN: usize = 1 << 20;

/// Values that are read at a time when all are gone over: 2^20, several chunks of a secure sum.
pub(crate) const BLOCK_OUTSIDE: usize = 1 << 20;

/// The bytes of a state in a file. They must be the same each time; several threads read at once.
#[allow(clippy::len_without_is_empty, reason = "an empty state has a head, too")]
pub trait Bytes: Send + Sync {
    /// Number of bytes.
    fn len(&self) -> u64;

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// In words, what kept them from being read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError>;
}

impl Bytes for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        let start = usize::try_from(offset).ok();
        let range = start.and_then(|start| self.get(start..start.checked_add(out.len())?));
        out.copy_from_slice(range.ok_or_else(|| SourceError("the state is shorter than it was".into()))?);
        Ok(())
    }
}

/// A tensor of f32 within a file.
pub(super) struct Stored {
    pub(super) bytes: Arc<dyn Bytes>,
    pub(super) offset: u64,
    pub(super) count: usize,
}

impl Source<f32> for Stored {
    fn count(&self) -> usize {
        self.count
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), SourceError> {
        if first.checked_add(out.len()).is_none_or(|end| end > self.count) {
            return Err(SourceError("the tensor is shorter than what was asked for".into()));
        }
        let mut buffer = vec![0; out.len().saturating_mul(4)];
        self.bytes.read_at(self.offset.saturating_add((first as u64).saturating_mul(4)), &mut buffer)?;
        for (value, bytes) in out.iter_mut().zip(buffer.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*bytes);
        }
        Ok(())
    }
}

/// Hands out all values of a source in order, at most [`BLOCK_OUTSIDE`] at a time, with the position of the first.
pub(crate) fn blocks<E: From<SourceError>>(
    source: &dyn Source<f32>,
    mut take: impl FnMut(usize, &[f32]) -> Result<(), E>,
) -> Result<(), E> {
    let mut buffer = vec![0f32; source.count().min(BLOCK_OUTSIDE)];
    let mut first = 0;
    while first < source.count() {
        buffer.truncate(source.count() - first);
        source.read(first, &mut buffer)?;
        take(first, &buffer)?;
        first += buffer.len();
    }
    Ok(())
}

/// By value, in blocks.
pub(super) fn same(one: &dyn Source<f32>, other: &dyn Source<f32>) -> bool {
    let mut theirs = Vec::new();
    let compared = blocks(one, |first, ours| {
        theirs.resize(ours.len(), 0f32);
        other.read(first, &mut theirs)?;
        match ours == theirs {
            true => Ok(()),
            false => Err(SourceError("they differ".into())),
        }
    });
    one.count() == other.count() && compared.is_ok()
}

impl From<SourceError> for StateError {
    fn from(error: SourceError) -> Self {
        StateError::Unreadable(error.0)
    }
}
