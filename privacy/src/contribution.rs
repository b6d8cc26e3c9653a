//! The first type of the chain: what the local half of an algorithm hands over. It can only be clipped.

use std::sync::Arc;

use crate::layout::{Encoding, Layout, LayoutError};

/// The values of one segment, in memory.
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

/// Values that are read when they are needed: from a file, a memory map, a running model. Nobody above it ever holds more than a
/// few thousand of them, so a contribution can be larger than memory.
///
/// Several threads read at once, each range more than once: when everything is looked over before anything is sent, and whenever
/// a chunk is made. **The values must be the same each time**: a chunk that is sent again after a cut must have the bytes it had.
pub trait Source<T>: Send + Sync {
    /// Number of values.
    fn count(&self) -> usize;

    /// Fills `out` with the values from position `first` on; the range lies within [`Source::count`].
    ///
    /// # Errors
    /// Whatever kept the values from being read. The message must hold no value.
    fn read(&self, first: usize, out: &mut [T]) -> Result<(), SourceError>;
}

/// Why values could not be read, in words and without a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceError(pub String);

impl<T: Copy + Send + Sync> Source<T> for Vec<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn read(&self, first: usize, out: &mut [T]) -> Result<(), SourceError> {
        let end = first.checked_add(out.len());
        let range =
            end.and_then(|end| self.get(first..end)).ok_or_else(|| SourceError("it is shorter than it was".into()))?;
        out.copy_from_slice(range);
        Ok(())
    }
}

/// Where the values of one segment come from.
#[derive(Clone)]
pub enum Segment {
    /// For an `Exact` segment.
    F64(Arc<dyn Source<f64>>),
    /// For a `Compact` segment.
    F32(Arc<dyn Source<f32>>),
}

impl Segment {
    fn count(&self) -> usize {
        match self {
            Segment::F64(source) => source.count(),
            Segment::F32(source) => source.count(),
        }
    }
}

impl From<Values> for Segment {
    fn from(values: Values) -> Self {
        match values {
            Values::F64(v) => Segment::F64(Arc::new(v)),
            Values::F32(v) => Segment::F32(Arc::new(v)),
        }
    }
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = if matches!(self, Segment::F64(_)) { "F64" } else { "F32" };
        write!(f, "Segment::{kind}({} values)", self.count())
    }
}

/// One hospital's raw vector: one [`Segment`] per segment of the layout, in order.
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
    pub(crate) segments: Vec<Segment>,
}

impl Contribution {
    /// One entry per segment of the layout, in order. Nothing is checked yet: [`Contribution::clip`] does.
    pub fn new(segments: Vec<Values>) -> Self {
        Contribution { segments: segments.into_iter().map(Segment::from).collect() }
    }

    /// The same with further segments after its own.
    #[must_use]
    pub fn with(mut self, segments: Vec<Values>) -> Self {
        self.segments.extend(segments.into_iter().map(Segment::from));
        self
    }

    /// As [`Contribution::new`], from values that stay where they are until a chunk needs them.
    pub fn from_sources(segments: Vec<Segment>) -> Self {
        Contribution { segments }
    }

    /// Checks shape and type of every segment against the layout.
    pub(crate) fn check_shape(&self, layout: &Layout) -> Result<(), ContributionError> {
        if self.segments.len() != layout.segments.len() {
            let (got, want) = (self.segments.len(), layout.segments.len());
            return Err(ContributionError::SegmentCount { got, want });
        }
        for (values, spec) in self.segments.iter().zip(&layout.segments) {
            let segment = || spec.name.clone();
            let exact = matches!(spec.encoding, Encoding::Exact { .. });
            if exact != matches!(values, Segment::F64(_)) {
                return Err(ContributionError::Type { segment: segment() });
            }
            if values.count() != spec.len {
                return Err(ContributionError::Length { segment: segment(), got: values.count(), want: spec.len });
            }
        }
        Ok(())
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
    /// The values could not be read.
    #[error("segment '{segment}': its values cannot be read from position {position} on: {error}")]
    Source {
        /// Name of the segment.
        segment: String,
        /// First position of the range that was asked for.
        position: usize,
        /// What the source says.
        error: SourceError,
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
    /// The L2 norm of a segment is beyond what its noise is for. Nothing says by how much: that is about patients.
    #[error(
        "segment '{segment}': its L2 norm is beyond the limit that its noise protects; clip the vector to the limit"
    )]
    NormExceeded {
        /// Name of the segment.
        segment: String,
    },
    /// There is no such chunk.
    #[error("chunk {chunk} does not exist, there are {count}")]
    NoSuchChunk {
        /// The chunk asked for.
        chunk: usize,
        /// Number of chunks.
        count: usize,
    },
}
