//! What is left when the pads are taken off: the sum over the survivors, in reals.

use rayon::prelude::*;

use crate::clip::read;
use crate::contribution::{Contribution, Segment};
use crate::kernel::{Level, Width};
use crate::layout::{ChunkGeometry, Encoding, Geometry, Layout, LayoutError, Ring, SegmentSpec, TILE_LANES};
use crate::mask::Pads;
use crate::prg::PadStreams;
use crate::store::{Lanes, Storage, load};
use crate::sum::SumError;

/// A complete sum with the pads that open it. It reads chunk by chunk, each as often as asked for, in any order, on any thread.
pub struct Unmasking {
    layout: Layout,
    geometry: Geometry,
    storage: Storage,
    pads: Pads,
    survivors: u16,
}

impl std::fmt::Debug for Unmasking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unmasking({} chunks, {} survivors)", self.chunk_count(), self.survivors)
    }
}

impl Unmasking {
    pub(crate) fn new(layout: Layout, geometry: Geometry, storage: Storage, pads: Pads, survivors: u16) -> Self {
        Unmasking { layout, geometry, storage, pads, survivors }
    }

    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.geometry.chunk_count()
    }

    /// Where the values of chunk `i` belong: segment, first lane, number of lanes.
    pub fn chunk_geometry(&self, i: usize) -> Option<ChunkGeometry> {
        self.geometry.chunk(i)
    }

    /// How many hospitals are in the sum.
    pub fn contributions(&self) -> u16 {
        self.survivors
    }

    /// The layout of the sum.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The summed values of chunk `i`, into a buffer that is used again.
    ///
    /// # Errors
    /// [`SumError::NoSuchChunk`], [`SumError::Store`].
    pub fn chunk_into(&self, i: usize, out: &mut Vec<f64>) -> Result<(), SumError> {
        let no_such = SumError::NoSuchChunk { chunk: i, count: self.chunk_count() };
        let Some(chunk) = self.geometry.chunk(i) else { return Err(no_such) };
        out.clear();
        out.resize(chunk.lanes, 0.0);
        self.open(i, &chunk, out)
    }

    /// All chunks at once, on all threads.
    ///
    /// # Errors
    /// As [`Unmasking::chunk_into`].
    pub fn collect(self) -> Result<Unmasked, SumError> {
        let mut segments = Vec::with_capacity(self.geometry.segments.len());
        for segment in &self.geometry.segments {
            let mut values = vec![0f64; segment.len];
            values.par_chunks_mut(segment.lanes_per_chunk).enumerate().try_for_each(|(k, values)| {
                let i = segment.first_chunk + k;
                let no_such = SumError::NoSuchChunk { chunk: i, count: self.chunk_count() };
                self.open(i, &self.geometry.chunk(i).ok_or(no_such)?, values)
            })?;
            segments.push(values);
        }
        Ok(Unmasked { layout: self.layout, segments, contributions: self.survivors })
    }

    fn open(&self, i: usize, chunk: &ChunkGeometry, out: &mut [f64]) -> Result<(), SumError> {
        let no_such = || SumError::NoSuchChunk { chunk: i, count: self.chunk_count() };
        let ring = self.geometry.ring(chunk.segment).ok_or_else(no_such)?;
        let read;
        let lanes = match &self.storage {
            Storage::Memory(blocks) => blocks.get(i).and_then(Option::as_ref),
            Storage::Outside(store) => {
                read = load(&**store, &self.geometry, i, true)?;
                Some(&read)
            }
        };
        let lanes = lanes.ok_or_else(no_such)?;
        let level = Level::detect();
        let mut pads = PadStreams::new(self.pads.suite, &self.pads.keys, true);
        let block = |tile: usize| chunk.pad_block + (tile * TILE_LANES * ring.pad_bytes() / 16) as u64;
        match (lanes, ring) {
            (Lanes::Wide(lanes), Ring::Wide { .. }) => {
                let unit = 1.0 / ring.fraction_scale();
                for (k, (lanes, out)) in lanes.chunks(TILE_LANES).zip(out.chunks_mut(TILE_LANES)).enumerate() {
                    let mut tile = [0u64; TILE_LANES];
                    let Some(tile) = tile.get_mut(..lanes.len()) else { continue };
                    tile.copy_from_slice(lanes);
                    pads.add_wide(block(k), tile);
                    out.iter_mut().zip(&*tile).for_each(|(real, lane)| *real = lane.cast_signed() as f64 * unit);
                }
            }
            (Lanes::Narrow { lanes, .. }, Ring::Narrow { bits, levels, clip }) => {
                for (k, (lanes, out)) in lanes.chunks(TILE_LANES).zip(out.chunks_mut(TILE_LANES)).enumerate() {
                    let mut tile = [0u32; TILE_LANES];
                    let Some(tile) = tile.get_mut(..lanes.len()) else { continue };
                    tile.copy_from_slice(lanes);
                    pads.add_narrow(block(k), Width::for_bits(bits), tile);
                    level.reals(tile, bits, clip, levels, out);
                }
            }
            _ => return Err(no_such()),
        }
        Ok(())
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
            for ((sum, values), spec) in segments.iter_mut().zip(&clipped.segments).zip(&layout.segments) {
                add_plain(sum, values, spec)?;
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

/// Adds the clipped values of one segment.
fn add_plain(sum: &mut [f64], values: &Segment, spec: &SegmentSpec) -> Result<(), SumError> {
    for (i, sum) in sum.chunks_mut(TILE_LANES).enumerate() {
        match (values, spec.encoding) {
            (Segment::F64(source), Encoding::Exact { .. }) => {
                let mut tile = vec![0f64; sum.len()];
                read(source, &spec.name, i * TILE_LANES, &mut tile)?;
                sum.iter_mut().zip(&tile).for_each(|(sum, x)| *sum += x);
            }
            (Segment::F32(source), Encoding::Compact { clip, .. }) => {
                let mut tile = vec![0f32; sum.len()];
                read(source, &spec.name, i * TILE_LANES, &mut tile)?;
                sum.iter_mut().zip(&tile).for_each(|(sum, x)| *sum += f64::from(x.clamp(-clip, clip)));
            }
            _ => {}
        }
    }
    Ok(())
}
