//! The last type of the chain: a ring vector plus pads, uniform to anyone without the pads, and the only one with bytes.

use std::ops::Range;

use rayon::prelude::*;

use crate::contribution::ContributionError;
use crate::kernel::{Level, Width};
use crate::layout::{ChunkGeometry, Ring, TILE_LANES};
use crate::merkle;
use crate::noise::Noised;
use crate::pack::{pack_narrow, pack_wide};
use crate::prg::{PadKey, PadStreams, Suite};

/// What a set of pads may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Added to one hospital's vector.
    Mask,
    /// Subtracted from the sum of this many hospitals.
    Unmask { survivors: u16 },
}

/// Keys of the pads of one slot. Only the secure sum makes them:
/// [`Participant::open`](crate::secure_sum::Participant::open) for one hospital's vector and
/// [`Collector::handle_reveal`](crate::secure_sum::Collector::handle_reveal) for the sum.
///
/// Not `Clone` and consumed by their use: two vectors under the same pads would show their difference.
/// Wiped when dropped. `Debug` prints how many there are, nothing else.
pub struct Pads {
    pub(crate) purpose: Purpose,
    pub(crate) layout_digest: [u8; 32],
    pub(crate) hospitals: u16,
    pub(crate) suite: Suite,
    pub(crate) keys: Vec<PadKey>,
}

impl std::fmt::Debug for Pads {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pads({} pads, {:?})", self.keys.len(), self.purpose)
    }
}

/// One hospital's masked vector. Chunk bytes are made when asked for, from the values, the seeds and the pads: the same bytes
/// each time, in any order, with O(chunk) memory, so an upload can be resumed. From source to bytes a chunk goes through in tiles
/// that stay in the first-level cache.
pub struct Masked {
    noised: Noised,
    pads: Pads,
}

impl std::fmt::Debug for Masked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Masked({} chunks)", self.chunk_count())
    }
}

impl Noised {
    /// Adds the pads of one slot (lazily, chunk by chunk).
    ///
    /// # Errors
    /// [`ContributionError::WrongPads`] where the pads were made for another layout, another `hospitals_max` or for
    /// unmasking.
    pub fn mask(self, pads: Pads) -> Result<Masked, ContributionError> {
        let fits = pads.purpose == Purpose::Mask
            && pads.layout_digest == self.0.layout_digest
            && pads.hospitals == self.0.geometry.hospitals()
            && !pads.keys.is_empty();
        if fits { Ok(Masked { noised: self, pads }) } else { Err(ContributionError::WrongPads) }
    }
}

impl Masked {
    /// Number of chunks.
    pub fn chunk_count(&self) -> usize {
        self.noised.0.geometry.chunk_count()
    }

    /// Bytes of all chunks.
    pub fn wire_bytes(&self) -> u64 {
        self.noised.0.geometry.wire_bytes()
    }

    /// Length of chunk `i` in bytes, without making it.
    pub fn chunk_bytes(&self, i: usize) -> Option<usize> {
        self.noised.0.geometry.chunk(i).map(|c| c.bytes)
    }

    /// The bytes of chunk `i`, at most 256 KiB.
    ///
    /// # Errors
    /// [`ContributionError::NoSuchChunk`]; what reading a source gives: [`ContributionError::Source`], and
    /// [`ContributionError::NotFinite`] or [`ContributionError::OutOfBound`] where it changed after it was clipped.
    pub fn chunk(&self, i: usize) -> Result<Vec<u8>, ContributionError> {
        let mut out = Vec::new();
        self.chunk_into(i, &mut out)?;
        Ok(out)
    }

    /// As [`Masked::chunk`], into a buffer that is used again; what was in it is gone, also after an error.
    ///
    /// # Errors
    /// As [`Masked::chunk`].
    pub fn chunk_into(&self, i: usize, out: &mut Vec<u8>) -> Result<(), ContributionError> {
        let no_such = || ContributionError::NoSuchChunk { chunk: i, count: self.chunk_count() };
        let chunk = self.noised.0.geometry.chunk(i).ok_or_else(no_such)?;
        let ring = self.noised.0.geometry.ring(chunk.segment).ok_or_else(no_such)?;
        out.clear();
        out.resize(chunk.bytes, 0);
        self.fill(&chunk, ring, out)
    }

    /// Several chunks, made in parallel. The caller bounds the memory by the length of the range.
    ///
    /// # Errors
    /// As [`Masked::chunk`].
    pub fn chunks_par(&self, range: Range<usize>) -> Result<Vec<Vec<u8>>, ContributionError> {
        range.into_par_iter().map(|i| self.chunk(i)).collect()
    }

    /// The Merkle root over all chunks (see [`merkle`]). It makes every chunk once; an uploader that hashes the chunks
    /// as it sends them uses [`merkle::ChunkRoot`] instead.
    ///
    /// # Errors
    /// As [`Masked::chunk`].
    pub fn root(&self) -> Result<[u8; 32], ContributionError> {
        let chunks = 0..self.chunk_count();
        let leaf = |buffer: &mut Vec<u8>, i| self.chunk_into(i, buffer).map(|()| merkle::leaf_hash(buffer));
        let leaves: Vec<_> = chunks.into_par_iter().map_init(Vec::new, leaf).collect::<Result<_, _>>()?;
        Ok(merkle::root(&leaves))
    }

    fn fill(&self, chunk: &ChunkGeometry, ring: Ring, out: &mut [u8]) -> Result<(), ContributionError> {
        let level = Level::detect();
        let mut pads = PadStreams::new(self.pads.suite, &self.pads.keys, false);
        let tile_bytes = TILE_LANES * ring.wire_bits() as usize / 8;
        let mut left = chunk.lanes;
        for (i, out) in out.chunks_mut(tile_bytes).enumerate() {
            let first = chunk.lane + i * TILE_LANES;
            let block = chunk.pad_block + (i * TILE_LANES * ring.pad_bytes() / 16) as u64;
            let lanes = left.min(TILE_LANES);
            left -= lanes;
            match ring {
                Ring::Wide { .. } => {
                    let mut tile = [0u64; TILE_LANES];
                    let Some(tile) = tile.get_mut(..lanes) else { continue };
                    self.noised.wide(chunk.segment, first, tile)?;
                    pads.add_wide(block, tile);
                    pack_wide(tile, out);
                }
                Ring::Narrow { bits, .. } => {
                    let mut tile = [0u32; TILE_LANES];
                    let Some(tile) = tile.get_mut(..lanes) else { continue };
                    self.noised.narrow(chunk.segment, first, tile)?;
                    pads.add_narrow(block, Width::for_bits(bits), tile);
                    pack_narrow(level, tile, bits, out);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Level;
    use crate::{Contribution, Encoding, Layout, SegmentSpec, Values};
    use aes::Aes256;
    use ctr::Ctr128BE;
    use ctr::cipher::{KeyIvInit, StreamCipher};
    use zeroize::Zeroizing;

    const HOSPITALS: u16 = 20;

    fn layout(len: usize) -> Layout {
        let segment = |name: &str, encoding| SegmentSpec { name: name.into(), len, encoding, noise: None };
        Layout {
            segments: vec![
                segment("wide", Encoding::Exact { bound: 1.0 }),
                segment("narrow", Encoding::Compact { clip: 1.0, bits: 16 }),
            ],
        }
    }

    fn pads(layout: &Layout, keys: &[u8]) -> Pads {
        let key = |byte: &u8| PadKey { key: Zeroizing::new([*byte; 32]), negative: byte.is_multiple_of(2) };
        let (layout_digest, keys) = (layout.digest(), keys.iter().map(key).collect());
        Pads { purpose: Purpose::Mask, layout_digest, hospitals: HOSPITALS, suite: Suite::Aes256Ctr, keys }
    }

    fn masked(len: usize, x: f32, keys: &[u8]) -> Masked {
        let layout = layout(len);
        let values = vec![Values::F64(vec![f64::from(x); len]), Values::F32(vec![x; len])];
        let clipped = Contribution::new(values).clip(&layout).unwrap();
        clipped.quantise(HOSPITALS, [1; 32]).unwrap().noise([1; 32]).unwrap().mask(pads(&layout, keys)).unwrap()
    }

    fn bytes(masked: &Masked) -> Vec<u8> {
        (0..masked.chunk_count()).flat_map(|i| masked.chunk(i).unwrap()).collect()
    }

    /// Pearson's statistic over the byte values; 255 degrees of freedom, so 6 sigma is 255 + 6 * sqrt(510) = 390.
    fn chi_square(bytes: &[u8]) -> f64 {
        let mut counts = [0f64; 256];
        bytes.iter().for_each(|b| counts[usize::from(*b)] += 1.0);
        let expected = bytes.len() as f64 / 256.0;
        counts.iter().map(|c| (c - expected).powi(2) / expected).sum()
    }

    /// A zero vector under one pad is the bare keystream, packed: checked against the cipher read straight through.
    #[test]
    fn a_masked_zero_vector_is_the_keystream() {
        let len = 100_003;
        let masked = masked(len, 0.0, &[1]);
        let mut stream = vec![0u8; len * 8 + 8];
        let key = [1u8; 32];
        Ctr128BE::<Aes256>::new(&key.into(), &[0; 16].into()).apply_keystream(&mut stream);
        let mut narrow = vec![0u8; stream.len() + len * 3];
        Ctr128BE::<Aes256>::new(&key.into(), &[0; 16].into()).apply_keystream(&mut narrow);
        let lanes = narrow[(len * 8).div_ceil(16) * 16..].chunks_exact(3).take(len);
        let lanes: Vec<u32> = lanes.map(|w| u32::from_le_bytes([w[0], w[1], w[2], 0])).collect();
        stream.truncate(len * 8);
        let per_chunk = CHUNK / 21 / 64 * 64;
        for lanes in lanes.chunks(per_chunk) {
            let mut packed = vec![0; (lanes.len() * 21).div_ceil(8)];
            pack_narrow(Level::available()[0], lanes, 21, &mut packed);
            stream.extend(packed);
        }
        assert_eq!(bytes(&masked), stream);
        assert_eq!(masked.wire_bytes(), stream.len() as u64);
    }
    const CHUNK: usize = crate::CHUNK_BYTES_MAX * 8;

    /// Shannon entropy of the byte values, bits a byte: what an order-0 compressor could reach.
    fn entropy(bytes: &[u8]) -> f64 {
        let mut counts = [0f64; 256];
        bytes.iter().for_each(|b| counts[usize::from(*b)] += 1.0);
        let p = counts.iter().map(|c| c / bytes.len() as f64).filter(|p| *p > 0.0);
        -p.map(|p| p * p.log2()).sum::<f64>()
    }

    #[test]
    fn masked_zero_and_maximal_vectors_look_uniform_and_their_own_values_do_not() {
        for x in [0.0, 1.0, -1.0] {
            let bytes = bytes(&masked(100_003, x, &[1, 2, 3]));
            assert!(chi_square(&bytes) < 390.0, "{x}: {}", chi_square(&bytes));
            assert!(entropy(&bytes) > 7.999, "{x}: {}", entropy(&bytes));
            let words: Vec<u8> = bytes.chunks_exact(8).map(|w| w.iter().fold(0u8, |a, b| a ^ b)).collect();
            assert!(chi_square(&words) < 390.0);
        }
        // The test has power: the same statistic on unmasked lanes is enormous.
        let mut plain = vec![0; 800_024];
        pack_wide(&vec![1u64 << 52; 100_003], &mut plain);
        assert!(chi_square(&plain) > 1e6);
    }

    /// With all but one of the pads known, what is left is still uniform, and it is not the vector.
    #[test]
    fn subtracting_all_but_one_pad_leaves_a_uniform_vector() {
        let masked = masked(100_003, 1.0, &[1, 2, 3, 4, 5]);
        let known = pads(&layout(100_003), &[1, 2, 4, 5]);
        let mut known = PadStreams::new(known.suite, &known.keys, true);
        let mut left = Vec::new();
        for i in 0..masked.chunk_count() {
            let chunk = masked.noised.0.geometry.chunk(i).unwrap();
            if chunk.segment == 0 {
                let bytes = masked.chunk(i).unwrap();
                let mut lanes: Vec<u64> = bytes.chunks(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
                known.add_wide(chunk.pad_block, &mut lanes);
                left.extend(lanes.iter().flat_map(|lane| lane.to_le_bytes()));
            }
        }
        assert!(chi_square(&left) < 390.0, "{}", chi_square(&left));
    }

    #[test]
    fn chunks_are_the_same_in_any_order_on_any_thread() {
        let masked = masked(200_000, 0.5, &[1, 2]);
        let count = masked.chunk_count();
        let forward: Vec<_> = (0..count).map(|i| masked.chunk(i).unwrap()).collect();
        let backward: Vec<_> = (0..count).rev().map(|i| masked.chunk(i).unwrap()).collect();
        assert!(forward.iter().eq(backward.iter().rev()));
        assert_eq!(masked.chunks_par(0..count).unwrap(), forward);
        let leaves: Vec<_> = forward.iter().map(|c| merkle::leaf_hash(c)).collect();
        assert_eq!(masked.root().unwrap(), merkle::root(&leaves));
        assert!(forward.iter().all(|c| c.len() <= crate::CHUNK_BYTES_MAX));
        assert_eq!(masked.chunk(count), Err(ContributionError::NoSuchChunk { chunk: count, count }));
    }

    #[test]
    fn pads_of_another_layout_ring_or_purpose_are_refused() {
        let noised = || {
            let values = vec![Values::F64(vec![0.0; 9]), Values::F32(vec![0.0; 9])];
            let quantised = Contribution::new(values).clip(&layout(9)).unwrap().quantise(HOSPITALS, [1; 32]).unwrap();
            quantised.noise([1; 32]).unwrap()
        };
        let good = || pads(&layout(9), &[1]);
        let purpose = Purpose::Unmask { survivors: 3 };
        let bad = [
            pads(&layout(10), &[1]),
            Pads { hospitals: 21, ..good() },
            Pads { purpose, ..good() },
            pads(&layout(9), &[]),
        ];
        assert!(noised().mask(good()).is_ok());
        for pads in bad {
            assert_eq!(noised().mask(pads).err(), Some(ContributionError::WrongPads));
        }
    }
}
