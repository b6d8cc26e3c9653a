//! 512-bit registers: four AES blocks at a time, twelve registers in flight, which hides the latency of the AES units.

use std::arch::x86_64::{
    __m512i, _mm_loadu_si128, _mm512_add_epi32, _mm512_add_epi64, _mm512_aesenc_epi128, _mm512_aesenclast_epi128,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_castsi512_si256, _mm512_cvtepu16_epi32, _mm512_extracti64x4_epi64,
    _mm512_loadu_si512, _mm512_maskz_permutex2var_epi8, _mm512_maskz_permutexvar_epi8, _mm512_or_si512,
    _mm512_permutexvar_epi8, _mm512_permutexvar_epi64, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_shuffle_epi8, _mm512_sllv_epi64, _mm512_srli_epi64, _mm512_srlv_epi32, _mm512_srlv_epi64,
    _mm512_storeu_si512, _mm512_sub_epi32, _mm512_sub_epi64, _mm512_xor_si512,
};

use super::Width;
use super::portable::{self, Rounding};
use super::schedule::Schedule;

/// Registers of keystream made at a time: a multiple of three, so that three-byte lanes come out whole.
const BATCH: usize = 12;
/// 64-bit words of one batch.
type Keystream = [__m512i; BATCH];

pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512vbmi")
}

/// The keystream of one key, from one block on.
struct Generator {
    keys: [__m512i; 15],
    /// Four counters as pairs of 64-bit numbers, high half first.
    counter: __m512i,
}

impl Generator {
    #[target_feature(enable = "avx512f,avx512bw")]
    fn new(schedule: &Schedule, block: u128) -> Self {
        let mut keys = [_mm512_setzero_si512(); 15];
        for (register, key) in keys.iter_mut().zip(&schedule.keys) {
            // SAFETY: the reference is to sixteen readable bytes; the instruction asks for no alignment.
            *register = _mm512_broadcast_i32x4(unsafe { _mm_loadu_si128(key.as_ptr().cast()) });
        }
        let (high, low) = ((block >> 64) as u64, block as u64);
        // The caller keeps the low half from running over.
        let counter = [0, 1, 2, 3].map(|i| [high, low.wrapping_add(i)]);
        Generator { keys, counter: load64(&four_pairs(counter)) }
    }

    /// The next 768 bytes.
    #[target_feature(enable = "avx512f,avx512bw,vaes")]
    fn next(&mut self) -> Keystream {
        // The counter block is big endian: both halves are swapped byte by byte.
        let swap = load64(&four_pairs([[0x0001_0203_0405_0607, 0x0809_0a0b_0c0d_0e0f]; 4]));
        let four = load64(&four_pairs([[0, 4]; 4]));
        let [first, middle @ .., last] = &self.keys;
        let mut blocks = [_mm512_setzero_si512(); BATCH];
        for block in &mut blocks {
            *block = _mm512_xor_si512(_mm512_shuffle_epi8(self.counter, swap), *first);
            self.counter = _mm512_add_epi64(self.counter, four);
        }
        for key in middle {
            for block in &mut blocks {
                *block = _mm512_aesenc_epi128(*block, *key);
            }
        }
        for block in &mut blocks {
            *block = _mm512_aesenclast_epi128(*block, *last);
        }
        blocks
    }
}

/// Runs `$add` over whole batches of `$lanes` lanes, and over a padded copy of what is left.
macro_rules! each_batch {
    ($schedule:expr, $block:expr, $slice:expr, $zero:expr, $lanes:literal, $add:expr) => {{
        let mut generator = Generator::new($schedule, $block);
        let (batches, rest) = $slice.as_chunks_mut::<$lanes>();
        for batch in batches {
            $add(&generator.next(), batch);
        }
        if !rest.is_empty() {
            let mut padded = [$zero; $lanes];
            padded.iter_mut().zip(&*rest).for_each(|(to, from)| *to = *from);
            $add(&generator.next(), &mut padded);
            rest.iter_mut().zip(&padded).for_each(|(to, from)| *to = *from);
        }
    }};
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vaes")]
pub(super) fn add_narrow(schedule: &Schedule, block: u128, width: Width, lanes: &mut [u32], negative: bool) {
    match (width, negative) {
        (Width::Two, false) => each_batch!(schedule, block, lanes, 0u32, 384, add_two::<false>),
        (Width::Two, true) => each_batch!(schedule, block, lanes, 0u32, 384, add_two::<true>),
        (Width::Three, false) => each_batch!(schedule, block, lanes, 0u32, 256, add_three::<false>),
        (Width::Three, true) => each_batch!(schedule, block, lanes, 0u32, 256, add_three::<true>),
        (Width::Four, false) => each_batch!(schedule, block, lanes, 0u32, 192, add_four::<false>),
        (Width::Four, true) => each_batch!(schedule, block, lanes, 0u32, 192, add_four::<true>),
    }
}

#[target_feature(enable = "avx512f,avx512bw,vaes")]
pub(super) fn add_wide(schedule: &Schedule, block: u128, lanes: &mut [u64], negative: bool) {
    if negative {
        each_batch!(schedule, block, lanes, 0u64, 96, add_eight::<true>);
    } else {
        each_batch!(schedule, block, lanes, 0u64, 96, add_eight::<false>);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn add_two<const NEGATIVE: bool>(stream: &Keystream, lanes: &mut [u32; 384]) {
    let (rows, _) = lanes.as_chunks_mut::<32>();
    for (words, row) in stream.iter().zip(rows) {
        let (halves, _) = row.as_chunks_mut::<16>();
        let low = _mm512_cvtepu16_epi32(_mm512_castsi512_si256(*words));
        let high = _mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64::<1>(*words));
        for (words, row) in [low, high].into_iter().zip(halves) {
            add32::<NEGATIVE>(row, words);
        }
    }
}

/// Three registers are 64 lanes of three bytes: bytes 0..48 of the first, 48..96 across the first two, and so on.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn add_three<const NEGATIVE: bool>(stream: &Keystream, lanes: &mut [u32; 256]) {
    const THREE_OF_FOUR: u64 = 0x7777_7777_7777_7777;
    let [from_0, from_48, from_32, from_16] = [0, 48, 32, 16].map(|first| load8(&three_bytes_from(first)));
    let (triples, _) = stream.as_chunks::<3>();
    let (rows, _) = lanes.as_chunks_mut::<64>();
    for ([a, b, c], row) in triples.iter().zip(rows) {
        let words = [
            _mm512_maskz_permutexvar_epi8(THREE_OF_FOUR, from_0, *a),
            _mm512_maskz_permutex2var_epi8(THREE_OF_FOUR, *a, from_48, *b),
            _mm512_maskz_permutex2var_epi8(THREE_OF_FOUR, *b, from_32, *c),
            _mm512_maskz_permutexvar_epi8(THREE_OF_FOUR, from_16, *c),
        ];
        let (rows, _) = row.as_chunks_mut::<16>();
        for (words, row) in words.into_iter().zip(rows) {
            add32::<NEGATIVE>(row, words);
        }
    }
}

/// Byte positions of sixteen three-byte numbers that follow one another, each with a fourth byte that a mask clears.
const fn three_bytes_from(first: u8) -> [u8; 64] {
    let mut at = [0u8; 64];
    let (mut lane, mut from) = (0, first);
    while lane < 16 {
        at[lane * 4] = from;
        at[lane * 4 + 1] = from + 1;
        at[lane * 4 + 2] = from + 2;
        from += 3;
        lane += 1;
    }
    at
}

#[target_feature(enable = "avx512f,avx512bw")]
fn add_four<const NEGATIVE: bool>(stream: &Keystream, lanes: &mut [u32; 192]) {
    let (rows, _) = lanes.as_chunks_mut::<16>();
    for (words, row) in stream.iter().zip(rows) {
        add32::<NEGATIVE>(row, *words);
    }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn add_eight<const NEGATIVE: bool>(stream: &Keystream, lanes: &mut [u64; 96]) {
    let (rows, _) = lanes.as_chunks_mut::<8>();
    for (words, row) in stream.iter().zip(rows) {
        let old = load64(row);
        store64(row, if NEGATIVE { _mm512_sub_epi64(old, *words) } else { _mm512_add_epi64(old, *words) });
    }
}

#[target_feature(enable = "avx512f")]
fn add32<const NEGATIVE: bool>(row: &mut [u32; 16], words: __m512i) {
    let old = load32(row);
    store32(row, if NEGATIVE { _mm512_sub_epi32(old, words) } else { _mm512_add_epi32(old, words) });
}

/// Sixteen lanes become eight numbers of 2b bits; each 64-bit word of the output is made of the two to five that reach into it.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn pack(lanes: &[u32], bits: u32, out: &mut [u8]) -> usize {
    if !(9..=32).contains(&bits) {
        return 0;
    }
    let group_bytes = 2 * bits as usize;
    let plan = PackPlan::new(u64::from(bits));
    let mask = _mm512_set1_epi32((u32::MAX >> (32 - bits)).cast_signed());
    let low_half = _mm512_set1_epi64(0xffff_ffff);
    let up = _mm512_set1_epi64(i64::from(bits));
    let (first, first_shift) = (load64(&plan.from[0]), load64(&plan.shift[0]));
    let mut done = 0;
    let mut at = 0;
    for row in lanes.as_chunks::<16>().0 {
        // A whole register is stored; what it writes beyond this group is written again by the next ones.
        let Some(Ok(to)) = out.get_mut(at..at + 64).map(<&mut [u8; 64]>::try_from) else { break };
        let row = _mm512_and_si512(load32(row), mask);
        let high = _mm512_sllv_epi64(_mm512_srli_epi64::<32>(row), up);
        let pairs = _mm512_or_si512(_mm512_and_si512(row, low_half), high);
        let mut words = _mm512_srlv_epi64(_mm512_permutexvar_epi64(first, pairs), first_shift);
        for (from, shift) in plan.from.iter().zip(&plan.shift).take(plan.terms).skip(1) {
            let term = _mm512_sllv_epi64(_mm512_permutexvar_epi64(load64(from), pairs), load64(shift));
            words = _mm512_or_si512(words, term);
        }
        store8(to, words);
        done += 16;
        at += group_bytes;
    }
    done
}

/// For each term: which pair goes into each output word, and by how far it is shifted (the first right, the others left).
struct PackPlan {
    from: [[u64; 8]; 5],
    shift: [[u64; 8]; 5],
    terms: usize,
}

impl PackPlan {
    fn new(bits: u64) -> Self {
        let pair_bits = 2 * bits;
        let mut plan =
            PackPlan { from: [[0; 8]; 5], shift: [[64; 8]; 5], terms: 1 + 64u64.div_ceil(pair_bits) as usize };
        for (term, (from, shift)) in plan.from.iter_mut().zip(&mut plan.shift).enumerate() {
            for (word, (from, shift)) in from.iter_mut().zip(shift).enumerate() {
                let start = 64 * word as u64;
                let pair = start / pair_bits + term as u64;
                if pair < 8 {
                    *from = pair;
                    // The first begins at or before the word, the others behind its start; 64 and more shifts all bits out.
                    *shift = (pair * pair_bits).abs_diff(start);
                }
            }
        }
        plan
    }
}

/// A lane of up to 25 bits lies within four bytes: fetch them, shift it down, add. Bits above it are left as they fall.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) fn unpack(bytes: &[u8], bits: u32, lanes: &mut [u32], negative: bool) -> usize {
    if !(9..=25).contains(&bits) {
        return 0;
    }
    let group_bytes = 2 * bits as usize;
    let (mut from, mut shift) = ([0u8; 64], [0u32; 16]);
    for (lane, (from, shift)) in from.as_chunks_mut::<4>().0.iter_mut().zip(&mut shift).enumerate() {
        let bit = lane * bits as usize;
        *shift = (bit % 8) as u32;
        *from = [0, 1, 2, 3].map(|byte| (bit / 8 + byte) as u8);
    }
    let (from, shift) = (load8(&from), load32(&shift));
    let mut done = 0;
    let mut at = 0;
    for row in lanes.as_chunks_mut::<16>().0 {
        let Some(Ok(window)) = bytes.get(at..at + 64).map(<&[u8; 64]>::try_from) else { break };
        let words = _mm512_srlv_epi32(_mm512_permutexvar_epi8(from, load8(window)), shift);
        if negative {
            add32::<true>(row, words);
        } else {
            add32::<false>(row, words);
        }
        done += 16;
        at += group_bytes;
    }
    done
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn round(rounding: Rounding, values: &[f32], random: &mut [u32]) -> bool {
    portable::round(rounding, values, random)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn all_finite(values: &[f32]) -> bool {
    portable::all_finite(values)
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn reals(lanes: &[u32], bits: u32, clip: f32, levels: i32, out: &mut [f64]) {
    portable::reals(lanes, bits, clip, levels, out);
}

fn four_pairs(pairs: [[u64; 2]; 4]) -> [u64; 8] {
    let [[a, b], [c, d], [e, f], [g, h]] = pairs;
    [a, b, c, d, e, f, g, h]
}

/// References to whole registers of memory, read and written without alignment.
macro_rules! registers {
    ($load:ident, $store:ident, $array:ty) => {
        #[target_feature(enable = "avx512f")]
        fn $load(row: &$array) -> __m512i {
            // SAFETY: the reference is to 64 readable bytes; the instruction asks for no alignment.
            unsafe { _mm512_loadu_si512(row.as_ptr().cast()) }
        }
        #[target_feature(enable = "avx512f")]
        fn $store(row: &mut $array, words: __m512i) {
            // SAFETY: the reference is to 64 writable bytes; the instruction asks for no alignment.
            unsafe { _mm512_storeu_si512(row.as_mut_ptr().cast(), words) }
        }
    };
}
registers!(load8, store8, [u8; 64]);
registers!(load32, store32, [u32; 16]);
registers!(load64, store64, [u64; 8]);
