//! The coordinator's half of the vector: one running sum, whatever the number of hospitals, and what is left when the
//! pads are taken off.
//!
//! A [`Sum`] is uniform noise until it is complete. It holds one lane vector (8 bytes a value in exact segments, 4 in
//! compact ones) and a counter a chunk; nothing of a single hospital stays.

use rayon::prelude::*;

use crate::contribution::{Contribution, ContributionError, Values};
use crate::layout::{ChunkGeometry, Geometry, Layout, LayoutError, Ring};
use crate::mask::{Pads, Purpose};
use crate::pack::{fold_narrow, fold_wide};
use crate::prg::{add_narrow, add_wide};
use crate::quantise::Lanes;

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
    /// [`Unmasked::from_plain`] was handed something that is no contribution.
    #[error(transparent)]
    Contribution(#[from] ContributionError),
}

/// The running sum of masked contributions.
pub struct Sum {
    layout: Layout,
    geometry: Geometry,
    lanes: Vec<Lanes>,
    counts: Vec<u16>,
}

impl std::fmt::Debug for Sum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sum({} chunks)", self.counts.len())
    }
}

impl Sum {
    /// An empty sum for at most `hospitals` hospitals (the opening's `hospitals_max`).
    ///
    /// # Errors
    /// [`SumError::Layout`].
    pub fn new(layout: Layout, hospitals: u16) -> Result<Self, SumError> {
        let geometry = layout.geometry(hospitals)?;
        let lanes = geometry
            .segments
            .iter()
            .map(|s| match s.ring {
                Ring::Wide { .. } => Lanes::Wide(vec![0; s.len]),
                Ring::Narrow { .. } => Lanes::Narrow(vec![0; s.len]),
            })
            .collect();
        let counts = vec![0; geometry.chunk_count()];
        Ok(Sum { layout, geometry, lanes, counts })
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
    /// [`SumError::NoSuchChunk`], [`SumError::Malformed`], [`SumError::Count`]; nothing was added then.
    pub fn add_chunk(&mut self, i: usize, bytes: &[u8]) -> Result<(), SumError> {
        let count = self.counts.get(i).copied().unwrap_or(0);
        if count >= self.geometry.hospitals() {
            return Err(SumError::Count { chunk: i, count, hospitals: self.geometry.hospitals() });
        }
        self.fold(i, bytes, false)?;
        self.set_count(i, count + 1);
        Ok(())
    }

    /// Takes one hospital's chunk `i` out again (same bytes), for an upload that stopped half way.
    ///
    /// # Errors
    /// As [`Sum::add_chunk`].
    pub fn remove_chunk(&mut self, i: usize, bytes: &[u8]) -> Result<(), SumError> {
        let count = self.counts.get(i).copied().unwrap_or(0);
        if count == 0 && i < self.counts.len() {
            return Err(SumError::Count { chunk: i, count, hospitals: self.geometry.hospitals() });
        }
        self.fold(i, bytes, true)?;
        self.set_count(i, count.saturating_sub(1));
        Ok(())
    }

    fn set_count(&mut self, i: usize, count: u16) {
        if let Some(place) = self.counts.get_mut(i) {
            *place = count;
        }
    }

    fn fold(&mut self, i: usize, bytes: &[u8], remove: bool) -> Result<(), SumError> {
        let no_such = SumError::NoSuchChunk { chunk: i, count: self.counts.len() };
        let Some(chunk) = self.geometry.chunk(i) else { return Err(no_such) };
        let range = chunk.lane..chunk.lane + chunk.lanes;
        let whole = match (self.lanes.get_mut(chunk.segment), self.geometry.ring(chunk.segment)) {
            (Some(Lanes::Wide(lanes)), Some(Ring::Wide { .. })) => match (lanes.get_mut(range), remove) {
                (None, _) => return Err(no_such),
                (Some(lanes), false) => fold_wide(bytes, lanes, |a, v| *a = a.wrapping_add(v)),
                (Some(lanes), true) => fold_wide(bytes, lanes, |a, v| *a = a.wrapping_sub(v)),
            },
            (Some(Lanes::Narrow(lanes)), Some(Ring::Narrow { bits, .. })) => match (lanes.get_mut(range), remove) {
                (None, _) => return Err(no_such),
                (Some(lanes), false) => fold_narrow(bytes, bits, lanes, |a, v| *a = a.wrapping_add(v)),
                (Some(lanes), true) => fold_narrow(bytes, bits, lanes, |a, v| *a = a.wrapping_sub(v)),
            },
            _ => return Err(no_such),
        };
        if whole { Ok(()) } else { Err(SumError::Malformed { chunk: i, got: bytes.len(), want: chunk.bytes }) }
    }

    /// Takes the pads off and reads the sum: bit for bit the integer sum of the survivors' quantised vectors.
    ///
    /// # Errors
    /// [`SumError::WrongPads`], [`SumError::Incomplete`] where a chunk is not the sum of exactly the survivors.
    pub fn unmask(self, pads: Pads) -> Result<Unmasked, SumError> {
        let Purpose::Unmask { survivors } = pads.purpose else { return Err(SumError::WrongPads) };
        if pads.layout_digest != self.layout.digest() || pads.hospitals != self.geometry.hospitals() {
            return Err(SumError::WrongPads);
        }
        if let Some((chunk, got)) = self.counts.iter().enumerate().find(|(_, got)| **got != survivors) {
            return Err(SumError::Incomplete { chunk, got: *got, want: survivors });
        }
        let mut segments = Vec::with_capacity(self.lanes.len());
        for (lanes, geometry) in self.lanes.into_iter().zip(&self.geometry.segments) {
            let pad_bytes = geometry.ring.pad_bytes();
            let per_chunk = geometry.lanes_per_chunk;
            let block = |i: usize| geometry.pad_block + (i * per_chunk * pad_bytes / 16) as u64;
            let mut values = vec![0f64; geometry.len];
            match (lanes, geometry.ring) {
                (Lanes::Wide(mut lanes), Ring::Wide { fraction_bits }) => {
                    let unit = 1.0 / (1u64 << fraction_bits) as f64;
                    let chunks = lanes.par_chunks_mut(per_chunk).zip(values.par_chunks_mut(per_chunk)).enumerate();
                    chunks.for_each(|(i, (lanes, values))| {
                        add_wide(&pads.keys, block(i), lanes, true);
                        let signed = lanes.iter().map(|a| a.cast_signed() as f64 * unit);
                        values.iter_mut().zip(signed).for_each(|(v, x)| *v = x);
                    });
                }
                (Lanes::Narrow(mut lanes), Ring::Narrow { bits, levels, clip }) => {
                    let chunks = lanes.par_chunks_mut(per_chunk).zip(values.par_chunks_mut(per_chunk)).enumerate();
                    chunks.for_each(|(i, (lanes, values))| {
                        add_narrow(&pads.keys, block(i), pad_bytes, lanes, true);
                        let signed = lanes.iter().map(|a| (a << (32 - bits)).cast_signed() >> (32 - bits));
                        let reals = signed.map(|s| f64::from(s) * f64::from(clip) / f64::from(levels));
                        values.iter_mut().zip(reals).for_each(|(v, x)| *v = x);
                    });
                }
                _ => return Err(SumError::WrongPads),
            }
            segments.push(values);
        }
        Ok(Unmasked { layout: self.layout, segments, contributions: survivors })
    }
}

/// The sum over the survivors, in reals. The first thing of a round that anyone may read.
#[derive(Debug, Clone, PartialEq)]
pub struct Unmasked {
    layout: Layout,
    segments: Vec<Vec<f64>>,
    contributions: u16,
}

impl Unmasked {
    /// Plain f64 sum of contributions that are all in one place: pooled fits, `simulate`, tests. Clipped as in the
    /// chain, neither quantised nor masked.
    ///
    /// # Errors
    /// [`SumError::Contribution`] as [`Contribution::clip`] gives it; [`SumError::Layout`].
    pub fn from_plain(layout: &Layout, contributions: Vec<Contribution>) -> Result<Self, SumError> {
        layout.validate(1)?;
        let mut segments: Vec<Vec<f64>> = layout.segments.iter().map(|s| vec![0.0; s.len]).collect();
        let count = u16::try_from(contributions.len()).map_err(|_| LayoutError::TooLarge)?;
        for contribution in contributions {
            let clipped = contribution.clip(layout)?;
            for (sum, values) in segments.iter_mut().zip(&clipped.segments) {
                match values {
                    Values::F64(v) => sum.iter_mut().zip(v).for_each(|(s, x)| *s += x),
                    Values::F32(v) => sum.iter_mut().zip(v).for_each(|(s, x)| *s += f64::from(*x)),
                }
            }
        }
        Ok(Unmasked { layout: layout.clone(), segments, contributions: count })
    }

    /// The summed values of one segment, f64 for both encodings.
    ///
    /// # Errors
    /// [`SumError::NoSegment`].
    pub fn segment(&self, name: &str) -> Result<&[f64], SumError> {
        let at = self.layout.position(name).and_then(|i| self.segments.get(i));
        at.map(Vec::as_slice).ok_or_else(|| SumError::NoSegment(name.to_owned()))
    }

    /// How many hospitals are in the sum.
    pub fn contributions(&self) -> u16 {
        self.contributions
    }

    /// The layout of the sum.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }
}
