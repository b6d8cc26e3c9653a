//! The second type of the chain: every value is finite and within what the contract allows.
//!
//! Clipping bounds what one hospital can add to the sum. It is not differential privacy: that needs noise as well.

use std::sync::Arc;

use rayon::prelude::*;

use crate::contribution::{Contribution, ContributionError, Segment, Source};
use crate::kernel::Level;
use crate::layout::{Encoding, Layout, TILE_LANES};

/// One hospital's vector after clipping: `|x| <= bound` in exact segments, `|x| <= clip` in compact ones
/// (per value, that is in the maximum norm).
///
/// ```compile_fail,E0599
/// # fn leak(clipped: leben_privacy::Clipped) {
/// clipped.chunk(0);
/// # }
/// ```
/// ```compile_fail,E0277
/// fn encode<T: serde::Serialize>(_: T) {}
/// # fn leak(clipped: leben_privacy::Clipped) {
/// encode(clipped);
/// # }
/// ```
pub struct Clipped {
    pub(crate) layout: Layout,
    pub(crate) segments: Vec<Segment>,
}

impl Contribution {
    /// Checks shape and type, then looks at every value: finite, and in exact segments within the bound. Compact values are
    /// clamped to the clip, when a chunk is made of them.
    ///
    /// # Errors
    /// A [`ContributionError`] that names the segment and the first position, never the value.
    pub fn clip(self, layout: &Layout) -> Result<Clipped, ContributionError> {
        layout.validate(1)?;
        self.check_shape(layout)?;
        for (values, spec) in self.segments.iter().zip(&layout.segments) {
            let name = spec.name.as_str();
            match (values, spec.encoding) {
                (Segment::F64(source), Encoding::Exact { bound }) => {
                    scan(source, name, 0.0, |tile, at| check_exact(tile, bound, name, at))?;
                }
                (Segment::F32(source), Encoding::Compact { .. }) => {
                    scan(source, name, 0.0, |tile, at| check_compact(tile, name, at))?;
                }
                _ => return Err(ContributionError::Type { segment: name.to_owned() }),
            }
        }
        Ok(Clipped { layout: layout.clone(), segments: self.segments })
    }
}

/// Shows every tile of a source to `check`, on all threads; the error is the one at the first position.
fn scan<T: Copy + Send + Sync>(
    source: &Arc<dyn Source<T>>,
    name: &str,
    zero: T,
    check: impl Fn(&[T], usize) -> Result<(), ContributionError> + Sync,
) -> Result<(), ContributionError> {
    let tiles = source.count().div_ceil(TILE_LANES);
    let bad = (0..tiles).into_par_iter().find_map_first(|i| {
        let first = i * TILE_LANES;
        let mut tile = [zero; TILE_LANES];
        let tile = tile.get_mut(..TILE_LANES.min(source.count().saturating_sub(first)))?;
        read(source, name, first, tile).and_then(|()| check(tile, first)).err()
    });
    bad.map_or(Ok(()), Err)
}

/// Reads a range of a source.
pub(crate) fn read<T>(
    source: &Arc<dyn Source<T>>,
    name: &str,
    first: usize,
    out: &mut [T],
) -> Result<(), ContributionError> {
    source.read(first, out).map_err(|error| ContributionError::Source {
        segment: name.to_owned(),
        position: first,
        error,
    })
}

/// `first` is the position of the tile in its segment.
pub(crate) fn check_exact(tile: &[f64], bound: f64, name: &str, first: usize) -> Result<(), ContributionError> {
    // NaN is within no bound.
    if tile.iter().fold(true, |all, x| all & (x.abs() <= bound)) {
        return Ok(());
    }
    let at = tile.iter().position(|x| x.is_nan() || x.abs() > bound).unwrap_or(0);
    let (segment, position) = (name.to_owned(), first + at);
    Err(if tile.get(at).is_some_and(|x| x.is_finite()) {
        ContributionError::OutOfBound { segment, position }
    } else {
        ContributionError::NotFinite { segment, position }
    })
}

/// `first` is the position of the tile in its segment.
pub(crate) fn check_compact(tile: &[f32], name: &str, first: usize) -> Result<(), ContributionError> {
    if Level::detect().all_finite(tile) {
        return Ok(());
    }
    let at = tile.iter().position(|x| !x.is_finite()).unwrap_or(0);
    Err(ContributionError::NotFinite { segment: name.to_owned(), position: first + at })
}
