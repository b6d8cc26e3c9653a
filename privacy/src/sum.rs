//! The coordinator's half of the vector: one running sum, whatever the number of hospitals.
//!
//! A [`Sum`] is uniform noise until it is complete. It holds one lane vector (8 bytes a value in exact segments, 4 in compact
//! ones), or nothing but a counter a chunk where the lanes live in a [`LaneStore`]; nothing of a single hospital stays.

use std::sync::Arc;

use rayon::prelude::*;

use crate::contribution::ContributionError;
use crate::kernel::Level;
use crate::layout::{ChunkGeometry, Geometry, Layout, LayoutError};
use crate::mask::{Pads, Purpose};
use crate::pack::is_packed;
use crate::store::{LaneStore, Lanes, Storage, StoreError, keep, load};
use crate::unmask::{Unmasked, Unmasking};

/// Why a chunk cannot be added or the sum cannot be read.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SumError {
    /// The layout is unusable.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// There is no such chunk.
    #[error("chunk {chunk} does not exist, there are {count}")]
    NoSuchChunk {
        /// The chunk offered.
        chunk: usize,
        /// Number of chunks.
        count: usize,
    },
    /// Wrong length, or bits set beyond the last lane.
    #[error("chunk {chunk} has {got} bytes, its layout says {want} with zero bits at the end; nothing was added")]
    Malformed {
        /// The chunk offered.
        chunk: usize,
        /// Bytes handed over.
        got: usize,
        /// Bytes of the layout.
        want: usize,
    },
    /// More additions than hospitals, or a removal without an addition.
    #[error("chunk {chunk} was added {count} times; the sum is for at most {hospitals} hospitals and never below zero")]
    Count {
        /// The chunk offered.
        chunk: usize,
        /// How often it has been added.
        count: u16,
        /// The largest number of hospitals.
        hospitals: u16,
    },
    /// Not every survivor's chunk is in the sum, or somebody else's is.
    #[error("chunk {chunk} is the sum of {got} uploads, the round closed over {want}; the sum stays closed")]
    Incomplete {
        /// The first chunk that differs.
        chunk: usize,
        /// Uploads in it.
        got: u16,
        /// Survivors of the round.
        want: u16,
    },
    /// The pads belong to another layout, another `hospitals_max`, or to one hospital.
    #[error("the pads were made for another layout, cohort size or purpose; the sum stays closed")]
    WrongPads,
    /// The result has no such segment.
    #[error("the sum has no segment called '{0}'")]
    NoSegment(String),
    /// The lanes are kept outside and could not be read or written.
    #[error("the running sum's storage failed, the sum is lost: {0}")]
    Store(#[from] StoreError),
    /// [`Unmasked::from_plain`](crate::Unmasked::from_plain) was handed something that is no contribution.
    #[error(transparent)]
    Contribution(#[from] ContributionError),
}

/// The running sum of masked contributions.
pub struct Sum {
    layout: Layout,
    geometry: Geometry,
    storage: Storage,
    counts: Vec<u16>,
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sum({} chunks)", self.counts.len())
    }
}

impl Sum {
    /// An empty sum for at most `hospitals` hospitals (the opening's `hospitals_max`), in memory.
    ///
    /// # Errors
    /// [`SumError::Layout`].
    pub fn new(layout: Layout, hospitals: u16) -> Result<Self, SumError> {
        Self::with_storage(layout, hospitals, |chunks| Storage::Memory(vec![None; chunks]))
    }

    /// An empty sum whose lanes live in `store`: memory grows by two bytes a chunk and nothing else.
    ///
    /// # Errors
    /// [`SumError::Layout`].
    pub fn stored(layout: Layout, hospitals: u16, store: Arc<dyn LaneStore>) -> Result<Self, SumError> {
        Self::with_storage(layout, hospitals, |_| Storage::Outside(store))
    }

    fn with_storage(layout: Layout, hospitals: u16, storage: impl FnOnce(usize) -> Storage) -> Result<Self, SumError> {
        let geometry = layout.geometry(hospitals)?;
        let chunks = geometry.chunk_count();
        Ok(Sum { layout, geometry, storage: storage(chunks), counts: vec![0; chunks] })
    }

    /// Number of chunks of one contribution.
    pub fn chunk_count(&self) -> usize {
        self.counts.len()
    }

    /// Where chunk `i` lies and how long it is.
    pub fn chunk_geometry(&self, i: usize) -> Option<ChunkGeometry> {
        self.geometry.chunk(i)
    }

    /// Adds one hospital's chunk `i`. Who sent it, and that nobody sends one twice, is the caller's to know.
    ///
    /// # Errors
    /// [`SumError::NoSuchChunk`], [`SumError::Malformed`], [`SumError::Count`]; nothing was added then. [`SumError::Store`].
    pub fn add_chunk(&mut self, i: usize, bytes: &[u8]) -> Result<(), SumError> {
        self.fold(i, &[&[bytes]], false)
    }

    /// Adds the same run of chunks of several uploads: `uploads[h][k]` is chunk `first + k` of one hospital. Chunks go in parallel;
    /// each chunk's lanes are gone over once per upload while they are in cache, and read and written once where they live outside.
    ///
    /// # Errors
    /// As [`Sum::add_chunk`], for the first chunk that does not fit; nothing was added then. All runs are equally long:
    /// [`SumError::NoSuchChunk`] names the first chunk that one of them lacks.
    pub fn add_uploads<B: AsRef<[u8]> + Sync>(&mut self, first: usize, uploads: &[&[B]]) -> Result<(), SumError> {
        self.fold(first, uploads, false)
    }

    /// Takes one hospital's chunk `i` out again (same bytes), for an upload that stopped half way.
    ///
    /// # Errors
    /// As [`Sum::add_chunk`].
    pub fn remove_chunk(&mut self, i: usize, bytes: &[u8]) -> Result<(), SumError> {
        self.fold(i, &[&[bytes]], true)
    }

    fn fold<B: AsRef<[u8]> + Sync>(&mut self, first: usize, uploads: &[&[B]], remove: bool) -> Result<(), SumError> {
        let run = uploads.iter().map(|chunks| chunks.len()).max().unwrap_or(0);
        let count = self.counts.len();
        let end = first.checked_add(run).filter(|end| *end <= count);
        let end = end.ok_or(SumError::NoSuchChunk { chunk: first.max(count), count })?;
        for i in first..end {
            self.check(i, uploads.iter().map(|chunks| chunks.get(i - first).map(AsRef::as_ref)), remove)?;
        }
        let (level, geometry) = (Level::detect(), &self.geometry);
        let fold_all = |i: usize, lanes: &mut Lanes| {
            let chunks = uploads.iter().filter_map(|chunks| chunks.get(i - first));
            chunks.for_each(|bytes| lanes.fold(level, bytes.as_ref(), remove));
        };
        let counts = self.counts.get(first..end).unwrap_or_default();
        match &mut self.storage {
            Storage::Memory(blocks) => {
                let blocks = blocks.get_mut(first..end).unwrap_or_default();
                blocks.par_iter_mut().enumerate().for_each(|(k, block)| {
                    let zero = || Lanes::zero(geometry, first + k);
                    fold_all(first + k, block.get_or_insert_with(zero));
                });
            }
            Storage::Outside(store) => counts.par_iter().enumerate().try_for_each(|(k, count)| {
                let Some(chunk) = geometry.chunk(first + k) else { return Ok(()) };
                let mut lanes = load(&**store, geometry, first + k, *count > 0)?;
                fold_all(first + k, &mut lanes);
                keep(&**store, &chunk, &lanes)
            })?,
        }
        let by = u16::try_from(uploads.len()).unwrap_or(u16::MAX);
        for count in self.counts.get_mut(first..end).unwrap_or_default() {
            *count = if remove { count.saturating_sub(by) } else { count.saturating_add(by) };
        }
        Ok(())
    }

    /// Whether these chunks can all be folded into chunk `i`.
    fn check<'a>(
        &self,
        i: usize,
        uploads: impl ExactSizeIterator<Item = Option<&'a [u8]>>,
        remove: bool,
    ) -> Result<(), SumError> {
        let no_such = SumError::NoSuchChunk { chunk: i, count: self.counts.len() };
        let Some(chunk) = self.geometry.chunk(i) else { return Err(no_such) };
        let Some(ring) = self.geometry.ring(chunk.segment) else { return Err(no_such) };
        let (count, hospitals) = (self.counts.get(i).copied().unwrap_or(0), self.geometry.hospitals());
        let room = usize::from(if remove { count } else { hospitals.saturating_sub(count) });
        if uploads.len() > room {
            return Err(SumError::Count { chunk: i, count, hospitals });
        }
        for bytes in uploads {
            let bytes = bytes.ok_or(no_such.clone())?;
            if !is_packed(bytes, ring.wire_bits(), chunk.lanes) {
                return Err(SumError::Malformed { chunk: i, got: bytes.len(), want: chunk.bytes });
            }
        }
        Ok(())
    }

    /// Takes the pads off, chunk by chunk when asked: O(chunk) memory.
    ///
    /// # Errors
    /// [`SumError::WrongPads`], [`SumError::Incomplete`] where a chunk is not the sum of exactly the survivors.
    pub fn unmasking(self, pads: Pads) -> Result<Unmasking, SumError> {
        let Purpose::Unmask { survivors } = pads.purpose else { return Err(SumError::WrongPads) };
        if pads.layout_digest != self.layout.digest() || pads.hospitals != self.geometry.hospitals() {
            return Err(SumError::WrongPads);
        }
        if let Some((chunk, got)) = self.counts.iter().enumerate().find(|(_, got)| **got != survivors) {
            return Err(SumError::Incomplete { chunk, got: *got, want: survivors });
        }
        Ok(Unmasking::new(self.layout, self.geometry, self.storage, pads, survivors))
    }

    /// Takes the pads off: bit for bit the integer sum of the survivors' quantised vectors. Each segment is computed when it is
    /// asked for.
    ///
    /// # Errors
    /// As [`Sum::unmasking`].
    pub fn unmask(self, pads: Pads) -> Result<Unmasked, SumError> {
        Ok(self.unmasking(pads)?.into_sum())
    }
}

#[cfg(test)]
#[path = "sum/tests.rs"]
mod tests;
