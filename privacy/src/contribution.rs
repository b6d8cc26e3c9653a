//! The first type of the chain: what the local half of an algorithm hands over. It can only be clipped.

use crate::layout::{Layout, LayoutError};

/// The values of one segment.
#[derive(Clone, PartialEq)]
pub enum Values {
    /// For an `Exact` segment.
    F64(Vec<f64>),
    /// For a `Compact` segment.
    F32(Vec<f32>),
}

impl Values {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Values::F64(v) => v.len(),
            Values::F32(v) => v.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl std::fmt::Debug for Values {
    // Values of one hospital are never printed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if matches!(self, Values::F64(_)) { "F64" } else { "F32" };
        write!(f, "Values::{kind}({} values)", self.len())
    }
}

/// One hospital's raw vector: one [`Values`] per segment of the layout, in order.
///
/// It has no bytes: it cannot be encoded, only clipped.
///
/// ```compile_fail,E0599
/// # fn leak(raw: leben_privacy::Contribution) {
/// raw.chunk(0);
/// # }
/// ```
/// ```compile_fail,E0277
/// fn encode<T: serde::Serialize>(_: T) {}
/// # fn leak(raw: leben_privacy::Contribution) {
/// encode(raw);
/// # }
/// ```
/// The same lines with the last type of the chain compile, so the ones above fail for the right reason:
/// ```
/// fn encode<T: serde::Serialize>(_: T) {}
/// fn send(masked: &leben_privacy::Masked) {
///     encode(masked.chunk(0).unwrap_or_default());
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Contribution {
    pub(crate) segments: Vec<Values>,
}

impl Contribution {
    /// One entry per segment of the layout, in order. Nothing is checked yet: [`Contribution::clip`] does.
    pub fn new(segments: Vec<Values>) -> Self {
        Contribution { segments }
    }
}

/// Why a contribution cannot become a masked one. Nothing was sent. No message holds a value.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ContributionError {
    /// The layout itself is unusable.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// Not one entry per segment.
    #[error("the contribution has {got} segments, its layout {want}")]
    SegmentCount {
        /// Segments handed over.
        got: usize,
        /// Segments of the layout.
        want: usize,
    },
    /// f32 where f64 belongs, or the other way round.
    #[error("segment '{segment}': exact segments take f64 values, compact ones f32")]
    Type {
        /// Name of the segment.
        segment: String,
    },
    /// Wrong number of values.
    #[error("segment '{segment}' has {got} values, its layout says {want}")]
    Length {
        /// Name of the segment.
        segment: String,
        /// Values handed over.
        got: usize,
        /// Values of the layout.
        want: usize,
    },
    /// NaN or infinity.
    #[error(
        "segment '{segment}', position {position}: not a finite number; look for a division by zero or a missing value in the rows"
    )]
    NotFinite {
        /// Name of the segment.
        segment: String,
        /// Position in the segment, from zero.
        position: usize,
    },
    /// Beyond the bound of an exact segment. Clamping it would make the statistic wrong without a word.
    #[error(
        "segment '{segment}', position {position}: beyond the bound the contract states; look at the column's range"
    )]
    OutOfBound {
        /// Name of the segment.
        segment: String,
        /// Position in the segment, from zero.
        position: usize,
    },
    /// The pads belong to another layout, another number of hospitals, or to the coordinator's unmasking.
    #[error("the pads were made for another layout, cohort size or purpose; nothing was masked")]
    WrongPads,
    /// There is no such chunk.
    #[error("chunk {chunk} does not exist, there are {count}")]
    NoSuchChunk {
        /// The chunk asked for.
        chunk: usize,
        /// Number of chunks.
        count: usize,
    },
}

/// Checks shape and type of every segment against the layout.
pub(crate) fn check_shape(segments: &[Values], layout: &Layout) -> Result<(), ContributionError> {
    if segments.len() != layout.segments.len() {
        return Err(ContributionError::SegmentCount { got: segments.len(), want: layout.segments.len() });
    }
    for (values, spec) in segments.iter().zip(&layout.segments) {
        let segment = || spec.name.clone();
        let exact = matches!(spec.encoding, crate::layout::Encoding::Exact { .. });
        if exact != matches!(values, Values::F64(_)) {
            return Err(ContributionError::Type { segment: segment() });
        }
        if values.len() != spec.len {
            return Err(ContributionError::Length { segment: segment(), got: values.len(), want: spec.len });
        }
    }
    Ok(())
}
