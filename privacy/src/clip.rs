//! The second type of the chain: every value is finite and within what the contract allows.
//!
//! Clipping bounds what one hospital can add to the sum. It is not differential privacy: that needs noise as well.

use crate::contribution::{Contribution, ContributionError, Values, check_shape};
use crate::layout::{Encoding, Layout};

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
    pub(crate) segments: Vec<Values>,
}

impl Contribution {
    /// Checks shape, type and finiteness; refuses exact values beyond their bound; clamps compact ones to the clip.
    ///
    /// # Errors
    /// A [`ContributionError`] that names the segment and the position, never the value.
    pub fn clip(self, layout: &Layout) -> Result<Clipped, ContributionError> {
        layout.validate(1)?;
        check_shape(&self.segments, layout)?;
        let mut segments = self.segments;
        for (values, spec) in segments.iter_mut().zip(&layout.segments) {
            let name = spec.name.as_str();
            match (values, spec.encoding) {
                (Values::F64(v), Encoding::Exact { bound }) => check_exact(v, bound, name)?,
                (Values::F32(v), Encoding::Compact { clip, .. }) => clamp_compact(v, clip, name)?,
                _ => return Err(ContributionError::Type { segment: name.to_owned() }),
            }
        }
        Ok(Clipped { layout: layout.clone(), segments })
    }
}

fn check_exact(values: &[f64], bound: f64, name: &str) -> Result<(), ContributionError> {
    match values.iter().position(|x| !x.is_finite() || x.abs() > bound) {
        None => Ok(()),
        Some(position) => {
            let segment = name.to_owned();
            let finite = values.get(position).is_some_and(|x| x.is_finite());
            Err(if finite {
                ContributionError::OutOfBound { segment, position }
            } else {
                ContributionError::NotFinite { segment, position }
            })
        }
    }
}

fn clamp_compact(values: &mut [f32], clip: f32, name: &str) -> Result<(), ContributionError> {
    if let Some(position) = values.iter().position(|x| !x.is_finite()) {
        return Err(ContributionError::NotFinite { segment: name.to_owned(), position });
    }
    for x in values {
        *x = x.clamp(-clip, clip);
    }
    Ok(())
}
