//! 256-bit registers, for processors with vector AES and without (or before full) AVX-512. There are sixteen registers, so the
//! keystream goes through a small buffer in the first-level cache and is added from there.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi64, _mm256_aesenc_epi128, _mm256_aesenclast_epi128,
    _mm256_broadcastsi128_si256, _mm256_loadu_si256, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_storeu_si256,
    _mm256_xor_si256,
};

use zeroize::Zeroize;

use super::Width;
use super::portable::{self, Rounding};
use super::schedule::Schedule;

/// Registers in flight.
const BATCH: usize = 8;
/// Keystream bytes made at a time.
const BUFFER: usize = 768;

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("aes") && is_x86_feature_detected!("vaes") && is_x86_feature_detected!("avx2")
}

struct Generator {
    keys: [__m256i; 15],
    /// Two counters as pairs of 64-bit numbers, high half first.
    counter: __m256i,
}

impl Generator {
    #[target_feature(enable = "avx2")]
    fn new(schedule: &Schedule, block: u128) -> Self {
        let mut keys = [_mm256_setzero_si256(); 15];
        for (register, key) in keys.iter_mut().zip(&schedule.keys) {
            // SAFETY: the reference is to sixteen readable bytes; the instruction asks for no alignment.
            *register = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(key.as_ptr().cast()) });
        }
        // The caller keeps the low half from running over.
        let (high, low) = ((block >> 64) as u64, block as u64);
        Generator { keys, counter: load(&[high, low, high, low.wrapping_add(1)]) }
    }

    #[target_feature(enable = "avx2,vaes")]
    fn fill(&mut self, out: &mut [u8; BUFFER]) {
        // The counter block is big endian: both halves are swapped byte by byte.
        let swap = [0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f, 0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f];
        let (swap, two) = (load(&swap), load(&[0, 2, 0, 2]));
        let [first, middle @ .., last] = &self.keys;
        for out in out.as_chunks_mut::<{ BATCH * 32 }>().0 {
            let mut blocks = [_mm256_setzero_si256(); BATCH];
            for block in &mut blocks {
                *block = _mm256_xor_si256(_mm256_shuffle_epi8(self.counter, swap), *first);
                self.counter = _mm256_add_epi64(self.counter, two);
            }
            for key in middle {
                for block in &mut blocks {
                    *block = _mm256_aesenc_epi128(*block, *key);
                }
            }
            for (block, out) in blocks.iter().zip(out.as_chunks_mut::<32>().0) {
                store(out, _mm256_aesenclast_epi128(*block, *last));
            }
        }
    }
}

#[target_feature(enable = "avx2,vaes")]
pub(super) fn add_narrow(schedule: &Schedule, block: u128, width: Width, lanes: &mut [u32], negative: bool) {
    // Two's complement: a - w = !(!a + w), so one loop serves both signs.
    let flip = if negative { u32::MAX } else { 0 };
    let mut generator = Generator::new(schedule, block);
    let mut buffer = [0u8; BUFFER];
    for lanes in lanes.chunks_mut(BUFFER / width.bytes()) {
        generator.fill(&mut buffer);
        match width {
            Width::Two => add(lanes, buffer.as_chunks::<2>().0, flip, |w| u32::from(u16::from_le_bytes(*w))),
            Width::Three => {
                add(lanes, buffer.as_chunks::<3>().0, flip, |[a, b, c]| u32::from_le_bytes([*a, *b, *c, 0]))
            }
            Width::Four => add(lanes, buffer.as_chunks::<4>().0, flip, |w| u32::from_le_bytes(*w)),
        }
    }
    buffer.zeroize();
}

#[inline(always)]
fn add<const N: usize>(lanes: &mut [u32], words: &[[u8; N]], flip: u32, read: impl Fn(&[u8; N]) -> u32) {
    for (lane, word) in lanes.iter_mut().zip(words) {
        *lane = (*lane ^ flip).wrapping_add(read(word)) ^ flip;
    }
}

#[target_feature(enable = "avx2,vaes")]
pub(super) fn add_wide(schedule: &Schedule, block: u128, lanes: &mut [u64], negative: bool) {
    let flip = if negative { u64::MAX } else { 0 };
    let mut generator = Generator::new(schedule, block);
    let mut buffer = [0u8; BUFFER];
    for lanes in lanes.chunks_mut(BUFFER / 8) {
        generator.fill(&mut buffer);
        for (lane, word) in lanes.iter_mut().zip(buffer.as_chunks::<8>().0) {
            *lane = (*lane ^ flip).wrapping_add(u64::from_le_bytes(*word)) ^ flip;
        }
    }
    buffer.zeroize();
}

#[target_feature(enable = "avx2")]
pub(super) fn round(rounding: Rounding, values: &[f32], random: &mut [u32]) -> bool {
    portable::round(rounding, values, random)
}

#[target_feature(enable = "avx2")]
pub(super) fn all_finite(values: &[f32]) -> bool {
    portable::all_finite(values)
}

#[target_feature(enable = "avx2")]
pub(super) fn reals(lanes: &[u32], bits: u32, clip: f32, levels: i32, out: &mut [f64]) {
    portable::reals(lanes, bits, clip, levels, out);
}

#[target_feature(enable = "avx2")]
fn load(words: &[u64; 4]) -> __m256i {
    // SAFETY: the reference is to 32 readable bytes; the instruction asks for no alignment.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn store(out: &mut [u8; 32], words: __m256i) {
    // SAFETY: the reference is to 32 writable bytes; the instruction asks for no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), words) }
}
