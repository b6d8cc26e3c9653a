//! What a contribution looks like: named segments, how each is put into a ring, and how that is cut into chunks.
//!
//! A [`Layout`] is agreed before anybody computes: its digest is in the round's transcript, so two hospitals that
//! disagree about it produce masks that do not cancel. Everything about sizes follows from the layout and from
//! `hospitals`, the largest number of hospitals that can take part (`hospitals_max` of the opening):
//!
//! | encoding | ring | value of one hospital | a lane on the wire |
//! |---|---|---|---|
//! | `Exact { bound }` | 2^64 | `round(x * 2^f)`, `f = min(52, 62 - ceil(log2(bound * hospitals)))` | 8 bytes, little endian |
//! | `Compact { clip, bits }` | 2^b, `b = ceil(log2(2 n L + 1))`, `L = 2^(bits-1) - 1` | stochastically rounded `x * L / clip` | exactly b bits |
//!
//! Overflow is impossible by construction: `|sum| <= n * (bound * 2^f + 1/2) <= 2^62 + n/2 < 2^63` and
//! `|sum| <= n * L < 2^(b-1)`.
//!
//! `ring.rs` has that arithmetic, with the room that noise takes.
//!
//! A chunk never straddles two segments. It holds a multiple of 64 lanes (except the last of its segment), so it starts on a
//! byte boundary, and its pads and its rounding words on a 16-byte block.

use serde::{Deserialize, Serialize};

use crate::dp::sample::Variance;
use crate::kdf::Digest;
use crate::pack::is_packed;
use crate::ring::{integer_norm, ring};

pub use crate::ring::Ring;

/// Largest number of bytes in one chunk on the wire (256 KiB).
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// A chunk that is not the last of its segment holds a multiple of this many lanes.
pub(crate) const CHUNK_LANES_MULTIPLE: usize = 64;
/// Lanes that go through the chain at a time: with their values they stay in the first-level cache. A whole number of keystream
/// batches (768 bytes) at every lane width, and of [`CHUNK_LANES_MULTIPLE`].
pub(crate) const TILE_LANES: usize = 2304;
/// Largest number of segments in a layout.
pub const SEGMENTS_MAX: usize = 4096;
/// Largest length of a segment's name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Largest number of wire bytes of one contribution (16 GiB).
pub const WIRE_BYTES_MAX: u64 = 16 << 30;
/// Largest number of fraction bits of an `Exact` segment: an f64 holds no more below one.
pub const FRACTION_BITS_MAX: u32 = 52;

/// How the values of one segment are put into a ring.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum Encoding {
    /// 64-bit fixed point, for statistics and Newton steps. `Contribution` values are f64.
    Exact {
        /// `|x| <= bound` for every value of one hospital; finite, greater than zero. A value beyond it is an error.
        bound: f64,
    },
    /// Clamped, stochastically rounded and bit-packed, for deep learning. `Contribution` values are f32.
    Compact {
        /// `|x|` is clamped to this; finite, greater than zero.
        clip: f32,
        /// Bits of one hospital's value: 8, 12 or 16.
        bits: u8,
    },
}

/// Integer noise that every hospital adds to a segment ([`crate::noise`]). Part of the layout's digest: who adds other
/// noise has other pads.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SegmentNoise {
    /// Standard deviation of one hospital's noise, in the unit of the values; finite, above zero. For noise of standard
    /// deviation s over h honest hospitals it is `s / sqrt(h)`.
    pub sigma: f64,
    /// Where whole hospitals are protected (mode S): the largest L2 norm of one hospital's segment, in the unit of the
    /// values; finite, above zero. The noise step refuses a vector beyond it. `None` where patients are protected: the
    /// algorithm bounds what each of them adds.
    pub norm: Option<f64>,
}

/// One named run of values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentSpec {
    /// Unique in its layout, 1 to 64 bytes.
    pub name: String,
    /// Number of values, at least one.
    pub len: usize,
    /// How the values are encoded.
    pub encoding: Encoding,
    /// Noise for differential privacy; `None` for an exact sum.
    pub noise: Option<SegmentNoise>,
}

/// The shape of every contribution of a round, in wire order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Layout {
    /// 1 to 4096 segments.
    pub segments: Vec<SegmentSpec>,
}

/// Why a layout cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LayoutError {
    /// No segments, or more than [`SEGMENTS_MAX`].
    #[error("a layout needs 1 to {SEGMENTS_MAX} segments, this one has {0}")]
    SegmentCount(usize),
    /// The name is empty or longer than [`NAME_BYTES_MAX`].
    #[error("segment {0} has a name of {1} bytes; use 1 to {NAME_BYTES_MAX}")]
    Name(usize, usize),
    /// Two segments have the same name.
    #[error("two segments are called '{0}'; give each its own name")]
    DuplicateName(String),
    /// The segment has no values.
    #[error("segment '{0}' has no values; leave it out")]
    Empty(String),
    /// The bound is not a finite number above zero.
    #[error("segment '{0}': its bound must be a finite number above zero")]
    Bound(String),
    /// `bound * hospitals` is beyond 2^62, so a sum could overflow.
    #[error("segment '{0}': bound times {1} hospitals is above 2^62, the sum could overflow; rescale the values")]
    Overflow(String, u16),
    /// The clip is not a finite number above zero.
    #[error("segment '{0}': its clip must be a finite number above zero")]
    Clip(String),
    /// Compact values have 8, 12 or 16 bits.
    #[error("segment '{0}': {1} bits are not offered; use 8, 12 or 16")]
    Bits(String, u8),
    /// The noise, or the norm that it is for, is not a finite number above zero.
    #[error("segment '{0}': the standard deviation of its noise and its norm must be finite numbers above zero")]
    Noise(String),
    /// Less than four steps of the finest grid on which the sum fits.
    #[error("segment '{0}': its noise is below 4 steps of the grid; lower the bound, use more bits or more noise")]
    NoiseTooSmall(String),
    /// More than 2^20 steps of the coarsest grid.
    #[error("segment '{0}': its noise is above 2^20 steps of the grid; rescale the values or use fewer bits")]
    NoiseTooLarge(String),
    /// Nobody takes part.
    #[error("a layout for zero hospitals has no ring; give the largest number that can take part")]
    NoHospitals,
    /// More than [`WIRE_BYTES_MAX`].
    #[error("the contribution would be larger than {WIRE_BYTES_MAX} bytes on the wire")]
    TooLarge,
}

impl Layout {
    /// SHA-256 of a canonical, domain-separated encoding of all segments.
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = Digest::new(b"leben/layout/v1").u64(self.segments.len() as u64);
        for segment in &self.segments {
            digest = digest.field(segment.name.as_bytes()).u64(segment.len as u64);
            digest = match segment.encoding {
                Encoding::Exact { bound } => digest.u64(1).u64(bound.to_bits()).u64(0),
                Encoding::Compact { clip, bits } => digest.u64(2).u64(u64::from(clip.to_bits())).u64(u64::from(bits)),
            };
            digest = match segment.noise {
                None => digest.u64(0),
                Some(SegmentNoise { sigma, norm: None }) => digest.u64(1).u64(sigma.to_bits()),
                Some(SegmentNoise { sigma, norm: Some(norm) }) => {
                    digest.u64(2).u64(sigma.to_bits()).u64(norm.to_bits())
                }
            };
        }
        digest.finish()
    }

    /// Checks every bound for at most `hospitals` hospitals.
    ///
    /// # Errors
    /// A [`LayoutError`] that names the segment.
    pub fn validate(&self, hospitals: u16) -> Result<(), LayoutError> {
        self.geometry(hospitals).map(|_| ())
    }

    /// Bytes of one whole contribution on the wire, chunks only.
    ///
    /// # Errors
    /// As [`Layout::validate`].
    pub fn wire_bytes(&self, hospitals: u16) -> Result<u64, LayoutError> {
        Ok(self.geometry(hospitals)?.wire_bytes())
    }

    /// Number of chunks of one whole contribution.
    ///
    /// # Errors
    /// As [`Layout::validate`].
    pub fn chunk_count(&self, hospitals: u16) -> Result<usize, LayoutError> {
        Ok(self.geometry(hospitals)?.chunk_count())
    }

    /// The ring and the chunks of this layout for at most `hospitals` hospitals.
    ///
    /// # Errors
    /// As [`Layout::validate`].
    pub fn geometry(&self, hospitals: u16) -> Result<Geometry, LayoutError> {
        Geometry::new(self, hospitals)
    }

    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.segments.iter().position(|s| s.name == name)
    }
}

/// Where one segment lies in the wire and pad streams.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SegmentGeometry {
    pub ring: Ring,
    /// Of one hospital's noise, in steps.
    pub variance: Option<Variance>,
    /// Largest L2 norm of one hospital's integers.
    pub norm: Option<f64>,
    pub len: usize,
    pub lanes_per_chunk: usize,
    pub first_chunk: usize,
    /// Bytes of all chunks of the segments before it.
    pub offset: u64,
    /// First 16-byte block of this segment's pads.
    pub pad_block: u64,
}

/// One chunk: a run of lanes of one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkGeometry {
    /// Position of the segment in the layout.
    pub segment: usize,
    /// First lane in the segment.
    pub lane: usize,
    /// Number of lanes.
    pub lanes: usize,
    /// Bytes on the wire, at most [`CHUNK_BYTES_MAX`].
    pub bytes: usize,
    /// Bytes of all chunks before it: where it begins in a file that holds the chunks one after the other.
    pub offset: u64,
    pub(crate) pad_block: u64,
}

/// Rings and chunks of a layout that passed all checks.
#[derive(Debug, Clone, PartialEq)]
pub struct Geometry {
    pub(crate) hospitals: u16,
    pub(crate) segments: Vec<SegmentGeometry>,
    chunks: usize,
    wire_bytes: u64,
}

impl Geometry {
    fn new(layout: &Layout, hospitals: u16) -> Result<Self, LayoutError> {
        if hospitals == 0 {
            return Err(LayoutError::NoHospitals);
        }
        if layout.segments.is_empty() || layout.segments.len() > SEGMENTS_MAX {
            return Err(LayoutError::SegmentCount(layout.segments.len()));
        }
        let mut names = std::collections::BTreeSet::new();
        let mut geometry = Geometry { hospitals, segments: Vec::new(), chunks: 0, wire_bytes: 0 };
        let mut pad_block = 0u64;
        for (i, spec) in layout.segments.iter().enumerate() {
            let name_bytes = spec.name.len();
            if name_bytes == 0 || name_bytes > NAME_BYTES_MAX {
                return Err(LayoutError::Name(i, name_bytes));
            }
            if !names.insert(spec.name.as_str()) {
                return Err(LayoutError::DuplicateName(spec.name.clone()));
            }
            pad_block = geometry.push(spec, pad_block)?;
        }
        Ok(geometry)
    }

    /// Adds one segment; returns the first block after its pads.
    fn push(&mut self, spec: &SegmentSpec, pad_block: u64) -> Result<u64, LayoutError> {
        let (ring, variance) = ring(spec, self.hospitals)?;
        if spec.len == 0 {
            return Err(LayoutError::Empty(spec.name.clone()));
        }
        let len = spec.len as u64;
        // A lane has at least nine bits on the wire, so this bound keeps every product below in range.
        if len > WIRE_BYTES_MAX {
            return Err(LayoutError::TooLarge);
        }
        let lanes_per_chunk = ring.lanes_per_chunk();
        let full = spec.len / lanes_per_chunk;
        let rest = spec.len % lanes_per_chunk;
        let bits = ring.wire_bits() as usize;
        let bytes = full * (lanes_per_chunk * bits / 8) + (rest * bits).div_ceil(8);
        let offset = self.wire_bytes;
        self.wire_bytes = self.wire_bytes.saturating_add(bytes as u64);
        if self.wire_bytes > WIRE_BYTES_MAX {
            return Err(LayoutError::TooLarge);
        }
        let chunks = full + usize::from(rest > 0);
        let first_chunk = self.chunks;
        let norm = spec.noise.and_then(|noise| noise.norm).map(|norm| integer_norm(ring, norm, len));
        self.segments.push(SegmentGeometry {
            ring,
            variance,
            norm,
            len: spec.len,
            lanes_per_chunk,
            first_chunk,
            offset,
            pad_block,
        });
        self.chunks += chunks;
        Ok(pad_block + (len * ring.pad_bytes() as u64).div_ceil(16))
    }

    /// The number of hospitals the rings were sized for.
    pub fn hospitals(&self) -> u16 {
        self.hospitals
    }

    /// Number of chunks of one whole contribution.
    pub fn chunk_count(&self) -> usize {
        self.chunks
    }

    /// Bytes of all chunks of one contribution.
    pub fn wire_bytes(&self) -> u64 {
        self.wire_bytes
    }

    /// The ring of segment `i`, `None` beyond the last.
    pub fn ring(&self, i: usize) -> Option<Ring> {
        self.segments.get(i).map(|s| s.ring)
    }

    /// Variance in steps of the noise that one hospital adds to segment `i`; `None` where it adds none.
    pub fn variance(&self, i: usize) -> Option<Variance> {
        self.segments.get(i).and_then(|s| s.variance)
    }

    /// Largest L2 norm in steps of one hospital's segment `i`, where the layout limits it.
    pub fn norm(&self, i: usize) -> Option<f64> {
        self.segments.get(i).and_then(|s| s.norm)
    }

    /// Whether `bytes` can be chunk `i` on the wire: its length, and zero bits after the last lane.
    pub fn fits(&self, i: usize, bytes: &[u8]) -> bool {
        let chunk = self.chunk(i).and_then(|chunk| Some((chunk.lanes, self.ring(chunk.segment)?)));
        chunk.is_some_and(|(lanes, ring)| is_packed(bytes, ring.wire_bits(), lanes))
    }

    /// Where chunk `i` lies, `None` beyond the last.
    pub fn chunk(&self, i: usize) -> Option<ChunkGeometry> {
        if i >= self.chunks {
            return None;
        }
        let segment = self.segments.partition_point(|s| s.first_chunk <= i).checked_sub(1)?;
        let s = self.segments.get(segment)?;
        let lane = (i - s.first_chunk) * s.lanes_per_chunk;
        let lanes = s.lanes_per_chunk.min(s.len - lane);
        let pad_block = s.pad_block + (lane * s.ring.pad_bytes() / 16) as u64;
        let bytes = (lanes * s.ring.wire_bits() as usize).div_ceil(8);
        // Every lane before it lies in whole chunks, which end on a byte.
        let offset = s.offset + lane as u64 * u64::from(s.ring.wire_bits()) / 8;
        Some(ChunkGeometry { segment, lane, lanes, bytes, offset, pad_block })
    }
}
