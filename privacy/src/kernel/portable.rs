//! Loops in plain Rust, written so that a compiler can vectorise them. Each level compiles them for its own instructions; the
//! arithmetic is IEEE 754 without fused operations, so every level gives the same bits.

/// How f32 values become integers: `floor(x * levels / clip + u)`, `u` uniform in `[0, 1)` with 32 bits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounding {
    clip: f32,
    scale: f64,
}

/// 1.5 * 2^52. Added to a number below 2^51 in size it leaves that number, rounded to the nearest integer, in the low bits of
/// the sum's representation.
const MAGIC: f64 = 6_755_399_441_055_744.0;

impl Rounding {
    /// `levels` is at most 2^15, so `x * levels / clip * 2^32` is below 2^48 in size.
    pub fn new(levels: i32, clip: f32) -> Self {
        Rounding { clip, scale: f64::from(levels) / f64::from(clip) * 4_294_967_296.0 }
    }
}

/// Replaces each random word by its value, clamped to the clip and rounded. `false` where a value is NaN or infinite; the words
/// are then of no use.
///
/// With `t = x * levels / clip` in fixed point with 32 fraction bits and a uniform 32-bit word `r`, `floor(t + r / 2^32)` is
/// `ceil(t)` with a chance of exactly the fraction of `t`. At `x = +-clip` the product is within 2^-5 units of
/// `+-levels * 2^32` (three roundings of 2^-53 of at most 2^47), so `t` is exact there and no word carries it beyond `levels`.
#[inline(always)]
pub(crate) fn round(rounding: Rounding, values: &[f32], random: &mut [u32]) -> bool {
    let Rounding { clip, scale } = rounding;
    for (word, x) in random.iter_mut().zip(values) {
        let x = x.clamp(-clip, clip);
        let fixed = (f64::from(x) * scale + MAGIC).to_bits().wrapping_sub(MAGIC.to_bits());
        *word = (fixed.wrapping_add(u64::from(*word)) >> 32) as u32;
    }
    all_finite(values)
}

#[inline(always)]
pub(crate) fn all_finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    values.iter().fold(true, |all, x| all & (x.to_bits() & EXPONENT != EXPONENT))
}

#[inline(always)]
pub(crate) fn reals(lanes: &[u32], bits: u32, clip: f32, levels: i32, out: &mut [f64]) {
    let (clip, levels, unused) = (f64::from(clip), f64::from(levels), 32 - bits);
    for (real, lane) in out.iter_mut().zip(lanes) {
        *real = f64::from((lane << unused).cast_signed() >> unused) * clip / levels;
    }
}
