//! What is left when the pads are taken off: the sum over the survivors, in reals.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use crate::clip::read;
use crate::contribution::{Contribution, Segment, Source, SourceError};
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

    /// The sum as algorithms read it: a segment at a time, or in pieces of any length. Nothing is read before it is asked for.
    pub fn into_sum(self) -> Unmasked {
        let segments = self.layout.segments.iter().map(|_| OnceLock::new()).collect();
        let (layout, contributions) = (self.layout.clone(), self.survivors);
        Unmasked { layout, segments: Arc::new(segments), contributions, opening: Some(Arc::new(self)) }
    }

    /// The summed values of one segment from position `first` on, on all threads.
    ///
    /// # Errors
    /// [`SumError::NoSuchChunk`] beyond the segment's end, [`SumError::Store`].
    pub(crate) fn range_into(&self, segment: usize, first: usize, out: &mut [f64]) -> Result<(), SumError> {
        let no_such = || SumError::NoSuchChunk { chunk: self.chunk_count(), count: self.chunk_count() };
        let of = self.geometry.segments.get(segment).ok_or_else(no_such)?;
        if first.checked_add(out.len()).is_none_or(|end| end > of.len) {
            return Err(no_such());
        }
        let mut pieces = Vec::new();
        let (mut rest, mut at) = (out, first);
        while !rest.is_empty() {
            let within = at % of.lanes_per_chunk;
            let (piece, later) = rest.split_at_mut((of.lanes_per_chunk - within).min(rest.len()));
            let chunk = of.first_chunk + at / of.lanes_per_chunk;
            at += piece.len();
            pieces.push((chunk, within, piece));
            rest = later;
        }
        pieces.into_par_iter().try_for_each(|(i, within, piece)| {
            let chunk = self.geometry.chunk(i).ok_or_else(no_such)?;
            if piece.len() == chunk.lanes {
                return self.open(i, &chunk, piece);
            }
            let mut whole = vec![0f64; chunk.lanes];
            self.open(i, &chunk, &mut whole)?;
            let part = whole.get(within..within + piece.len()).ok_or_else(no_such)?;
            piece.copy_from_slice(part);
            Ok(())
        })
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
///
/// A segment comes into memory, 8 bytes a value, when [`Unmasked::segment`] asks for it. [`Unmasked::source`] reads it in
/// pieces instead and keeps none: a sum larger than memory goes through.
#[derive(Debug, Clone)]
pub struct Unmasked {
    layout: Layout,
    /// What was read so far.
    segments: Arc<Vec<OnceLock<Vec<f64>>>>,
    contributions: u16,
    /// Where the rest is; `None` if everything is in `segments`.
    opening: Option<Arc<Unmasking>>,
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
        let segments = Arc::new(segments.into_iter().map(OnceLock::from).collect());
        Ok(Unmasked { layout: layout.clone(), segments, contributions: count, opening: None })
    }

    /// The summed values of one segment, f64 for both encodings, all of them in memory from then on.
    ///
    /// # Errors
    /// [`SumError::NoSegment`], [`SumError::Store`].
    pub fn segment(&self, name: &str) -> Result<&[f64], SumError> {
        let none = || SumError::NoSegment(name.to_owned());
        let position = self.layout.position(name).ok_or_else(none)?;
        let kept = self.segments.get(position).ok_or_else(none)?;
        if let Some(values) = kept.get() {
            return Ok(values);
        }
        let len = self.layout.segments.get(position).map_or(0, |segment| segment.len);
        let mut values = vec![0f64; len];
        self.read(position, 0, &mut values)?;
        Ok(kept.get_or_init(|| values))
    }

    /// The same values, each read when it is asked for. Reading goes by whole chunks (about 10^5 values of a compact segment), so
    /// short pieces are dear: ask for several chunks at a time.
    ///
    /// # Errors
    /// [`SumError::NoSegment`].
    pub fn source(&self, name: &str) -> Result<Arc<dyn Source<f64>>, SumError> {
        let position = self.layout.position(name).ok_or_else(|| SumError::NoSegment(name.to_owned()))?;
        Ok(Arc::new(Summed { sum: self.clone(), position }))
    }

    fn read(&self, position: usize, first: usize, out: &mut [f64]) -> Result<(), SumError> {
        if let Some(values) = self.segments.get(position).and_then(OnceLock::get) {
            let range = first.checked_add(out.len()).and_then(|end| values.get(first..end));
            let no_such = SumError::NoSuchChunk { chunk: position, count: self.segments.len() };
            out.copy_from_slice(range.ok_or(no_such)?);
            return Ok(());
        }
        match &self.opening {
            Some(opening) => opening.range_into(position, first, out),
            None => Err(SumError::NoSegment(position.to_string())),
        }
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

impl PartialEq for Unmasked {
    // By value: what one of them has not read yet is read. A sum that cannot be read equals none.
    fn eq(&self, other: &Self) -> bool {
        let same = |name: &str| matches!((self.segment(name), other.segment(name)), (Ok(a), Ok(b)) if a == b);
        let head = self.layout == other.layout && self.contributions == other.contributions;
        head && self.layout.segments.iter().all(|segment| same(&segment.name))
    }
}

/// One segment of a sum.
struct Summed {
    sum: Unmasked,
    position: usize,
}

impl Source<f64> for Summed {
    fn count(&self) -> usize {
        self.sum.layout.segments.get(self.position).map_or(0, |segment| segment.len)
    }

    fn read(&self, first: usize, out: &mut [f64]) -> Result<(), SourceError> {
        self.sum.read(self.position, first, out).map_err(|error| SourceError(error.to_string()))
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
