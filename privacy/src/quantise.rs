//! The third type of the chain: integers in the ring, so that a sum is exact and a mask can be uniform.
//!
//! * Exact segments round half to even at `fraction_bits` (deterministic): error at most `2^-(f+1)` per hospital.
//! * Compact segments round stochastically: `E[q] = x * L / clip`, error below one level, unbiased to 2^-32.
//!   The random bits come from AES-256-CTR under a key derived from the seed, one 32-bit word per lane, so a lane's integer depends
//!   on the seed, its segment and its position and on nothing else: not on the number of threads, not on the chunk it is asked for
//!   with, not on the processor.
//!
//! Integers are made when they are asked for and not kept: a tile at a time, they go from the source through the mask into bytes.

use std::sync::Arc;

use rayon::prelude::*;
use zeroize::Zeroizing;

use crate::clip::{Clipped, check_compact, check_exact, read};
use crate::contribution::{ContributionError, Segment, Source};
use crate::kdf;
use crate::kernel::{Level, Rounding, Width};
use crate::layout::{Encoding, Geometry, Ring, TILE_LANES};
use crate::prg::{Stream, Suite};

/// A ring vector of one hospital, still plain.
///
/// ```compile_fail,E0599
/// # fn leak(quantised: leben_privacy::Quantised) {
/// quantised.chunk(0);
/// # }
/// ```
/// ```compile_fail,E0277
/// fn encode<T: serde::Serialize>(_: T) {}
/// # fn leak(quantised: leben_privacy::Quantised) {
/// encode(quantised);
/// # }
/// ```
pub struct Quantised {
    pub(crate) geometry: Arc<Geometry>,
    pub(crate) layout_digest: [u8; 32],
    segments: Vec<Rounder>,
}

/// How the values of one segment become lanes.
enum Rounder {
    Wide { name: String, source: Arc<dyn Source<f64>>, bound: f64, scale: f64 },
    Narrow { name: String, source: Arc<dyn Source<f32>>, rounding: Rounding, key: Zeroizing<[u8; 32]> },
}

impl Clipped {
    /// Fixes how every value goes into its ring, sized for at most `hospitals` hospitals (the opening's `hospitals_max`).
    /// `seed` must be another one for every contribution: it decides the stochastic rounding.
    ///
    /// # Errors
    /// [`ContributionError::Layout`] where a sum over `hospitals` could overflow.
    pub fn quantise(self, hospitals: u16, seed: [u8; 32]) -> Result<Quantised, ContributionError> {
        let seed = Zeroizing::new(seed);
        let geometry = Arc::new(self.layout.geometry(hospitals)?);
        let layout_digest = self.layout.digest();
        let mut segments = Vec::with_capacity(self.segments.len());
        for (i, (values, spec)) in self.segments.into_iter().zip(&self.layout.segments).enumerate() {
            let name = spec.name.clone();
            segments.push(match (values, spec.encoding, geometry.ring(i)) {
                (Segment::F64(source), Encoding::Exact { bound }, Some(ring)) => {
                    // 2^f is exact and |x| * 2^f <= 2^62, so only the rounding to an integer loses anything.
                    Rounder::Wide { name, source, bound, scale: ring.fraction_scale() }
                }
                (Segment::F32(source), Encoding::Compact { clip, .. }, Some(ring)) => {
                    let key = kdf::derive(b"leben/rounding/v1", &*seed, &[&(i as u64).to_be_bytes()]);
                    Rounder::Narrow { name, source, rounding: Rounding::new(ring.levels(), clip), key }
                }
                _ => return Err(ContributionError::Type { segment: name }),
            });
        }
        Ok(Quantised { geometry, layout_digest, segments })
    }
}

impl Quantised {
    /// The integers of lanes `first ..` of an exact segment.
    ///
    /// # Errors
    /// [`ContributionError::Source`]; [`ContributionError::NotFinite`] or [`ContributionError::OutOfBound`] where a source
    /// changed after it was looked over; [`ContributionError::Type`] where the segment is not an exact one.
    pub(crate) fn wide(&self, segment: usize, first: usize, lanes: &mut [u64]) -> Result<(), ContributionError> {
        let Some(Rounder::Wide { name, source, bound, scale }) = self.segments.get(segment) else {
            return Err(ContributionError::Type { segment: segment.to_string() });
        };
        let mut first = first;
        for lanes in lanes.chunks_mut(TILE_LANES) {
            let mut tile = [0f64; TILE_LANES];
            let Some(tile) = tile.get_mut(..lanes.len()) else { continue };
            read(source, name, first, tile)?;
            check_exact(tile, *bound, name, first)?;
            for (lane, x) in lanes.iter_mut().zip(&*tile) {
                *lane = ((x * scale).round_ties_even() as i64).cast_unsigned();
            }
            first += lanes.len();
        }
        Ok(())
    }

    /// The square of a segment's L2 norm, in steps.
    ///
    /// # Errors
    /// As [`Quantised::wide`].
    pub(crate) fn norm_square(&self, segment: usize) -> Result<f64, ContributionError> {
        let geometry = self.geometry.segments.get(segment);
        let (len, wide) = geometry.map_or((0, true), |s| (s.len, matches!(s.ring, Ring::Wide { .. })));
        let tile = |i: usize| -> Result<f64, ContributionError> {
            let first = i * TILE_LANES;
            let lanes = TILE_LANES.min(len - first);
            if wide {
                let mut tile = vec![0u64; lanes];
                self.wide(segment, first, &mut tile)?;
                Ok(tile.iter().map(|lane| (lane.cast_signed() as f64).powi(2)).sum())
            } else {
                let mut tile = vec![0u32; lanes];
                self.narrow(segment, first, &mut tile)?;
                Ok(tile.iter().map(|lane| f64::from(lane.cast_signed()).powi(2)).sum())
            }
        };
        // Summed in order, so that every machine comes to the same decision.
        let tiles: Vec<f64> = (0..len.div_ceil(TILE_LANES)).into_par_iter().map(tile).collect::<Result<_, _>>()?;
        Ok(tiles.iter().sum())
    }

    /// The name of a segment, empty beyond the last.
    pub(crate) fn segment_name(&self, segment: usize) -> String {
        match self.segments.get(segment) {
            Some(Rounder::Wide { name, .. } | Rounder::Narrow { name, .. }) => name.clone(),
            None => String::new(),
        }
    }

    /// Takes other random bits for the rounding of a compact segment.
    pub(crate) fn round_again(&mut self, segment: usize, fresh: Zeroizing<[u8; 32]>) {
        if let Some(Rounder::Narrow { key, .. }) = self.segments.get_mut(segment) {
            *key = fresh;
        }
    }

    /// The integers of lanes `first ..` of a compact segment; `first` is a multiple of four, the words in a block.
    ///
    /// # Errors
    /// As [`Quantised::wide`].
    pub(crate) fn narrow(&self, segment: usize, first: usize, lanes: &mut [u32]) -> Result<(), ContributionError> {
        let Some(Rounder::Narrow { name, source, rounding, key }) = self.segments.get(segment) else {
            return Err(ContributionError::Type { segment: segment.to_string() });
        };
        let level = Level::detect();
        let mut words = Stream::new(Suite::Aes256Ctr, key);
        let mut first = first;
        for lanes in lanes.chunks_mut(TILE_LANES) {
            let mut tile = [0f32; TILE_LANES];
            let Some(tile) = tile.get_mut(..lanes.len()) else { continue };
            read(source, name, first, tile)?;
            lanes.fill(0);
            words.add_narrow(first as u64 / 4, Width::Four, lanes, false);
            if !level.round(*rounding, tile, lanes) {
                check_compact(tile, name, first)?;
            }
            first += lanes.len();
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "quantise/tests.rs"]
mod tests;
