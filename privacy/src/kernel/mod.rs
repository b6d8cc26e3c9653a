//! The hot loops for x86-64 processors that have vector AES, chosen when the program runs: AES-256-CTR keystream added to lanes
//! in one pass, and b-bit packing. **The only folder of Leben with `unsafe` in it.**
//!
//! What is fast is said again slowly elsewhere, and tests hold the two together at every width, length, position and sign:
//! the `aes` and `ctr` crates for the keystream (`prg`), plain loops for packing (`pack`). Those are also what runs on every other
//! processor.
//!
//! # Why this is sound
//!
//! * A function that needs instructions is reached only through a [`Level`], and a [`Level`] that names them exists only
//!   where the processor reported them ([`Level::detect`], [`Level::available`]).
//! * Memory is read and written through references to arrays of the size of one register, never through computed
//!   addresses; slices are cut with `as_chunks` and `get`.
//! * AES runs in the processor's own instructions, the key schedule too: no table, no branch and no address depends on a
//!   secret.
//!
//! Round keys are wiped when a [`Schedule`] is dropped. Copies that the compiler may leave in registers or in a dead stack
//! frame are not ours to find.
//!
//! Files: `avx512` (512-bit registers), `avx2` (256-bit), `schedule` (FIPS 197 section 5.2 by AESKEYGENASSIST), `portable` (loops
//! in plain Rust, compiled once for each level).
#![allow(unsafe_code, reason = "vector instructions are reached through unsafe calls and loads; see above")]

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;
#[cfg(target_arch = "x86_64")]
mod schedule;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use schedule::Schedule;

pub(crate) use portable::Rounding;

/// Keystream bytes that one pad spends on one narrow lane: the fewest that cover the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Two,
    Three,
    Four,
}

impl Width {
    /// For a ring of 2^bits.
    pub fn for_bits(bits: u32) -> Self {
        match bits {
            ..=16 => Width::Two,
            17..=24 => Width::Three,
            _ => Width::Four,
        }
    }

    /// Bytes a lane.
    pub fn bytes(self) -> usize {
        match self {
            Width::Two => 2,
            Width::Three => 3,
            Width::Four => 4,
        }
    }
}

/// What this processor can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Level(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Vaes256,
    #[cfg(target_arch = "x86_64")]
    Vaes512,
}

impl Level {
    /// The best level of this processor.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if avx512::is_available() {
                return Level(Kind::Vaes512);
            }
            if avx2::is_available() {
                return Level(Kind::Vaes256);
            }
        }
        Level(Kind::Portable)
    }

    /// Every level that this processor can run, slowest first.
    #[cfg(test)]
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Level(Kind::Portable)];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(avx2::is_available().then_some(Level(Kind::Vaes256)));
            levels.extend(avx512::is_available().then_some(Level(Kind::Vaes512)));
        }
        levels
    }

    /// The round keys of an AES-256 key; `None` where this processor has no kernel for them.
    #[cfg(target_arch = "x86_64")]
    pub fn schedule(self, key: &[u8; 32]) -> Option<Schedule> {
        match self.0 {
            Kind::Portable => None,
            // SAFETY: both levels exist only where AES instructions were reported.
            Kind::Vaes256 | Kind::Vaes512 => Some(unsafe { Schedule::expand(key) }),
        }
    }

    /// Adds (or subtracts) the keystream from AES block `block` on to narrow lanes, little endian, `width` bytes a lane.
    /// `false` where this level has no kernel; nothing was added then. The counter block is 128 bits, big endian; `block` plus
    /// the blocks used stays below 2^64 (a pad has at most 2^34 of them).
    #[cfg(target_arch = "x86_64")]
    pub fn add_narrow(self, schedule: &Schedule, block: u128, width: Width, lanes: &mut [u32], negative: bool) -> bool {
        match self.0 {
            Kind::Portable => return false,
            // SAFETY: this level exists only where `avx2::is_available`.
            Kind::Vaes256 => unsafe { avx2::add_narrow(schedule, block, width, lanes, negative) },
            // SAFETY: this level exists only where `avx512::is_available`.
            Kind::Vaes512 => unsafe { avx512::add_narrow(schedule, block, width, lanes, negative) },
        }
        true
    }

    /// As [`Level::add_narrow`] for 64-bit lanes, eight bytes each.
    #[cfg(target_arch = "x86_64")]
    pub fn add_wide(self, schedule: &Schedule, block: u128, lanes: &mut [u64], negative: bool) -> bool {
        match self.0 {
            Kind::Portable => return false,
            // SAFETY: this level exists only where `avx2::is_available`.
            Kind::Vaes256 => unsafe { avx2::add_wide(schedule, block, lanes, negative) },
            // SAFETY: this level exists only where `avx512::is_available`.
            Kind::Vaes512 => unsafe { avx512::add_wide(schedule, block, lanes, negative) },
        }
        true
    }

    /// Packs as many leading groups of 16 lanes as it can, `bits` (9 to 32) each, least significant bit first; gives the number of
    /// lanes packed, a multiple of 16.
    pub fn pack(self, lanes: &[u32], bits: u32, out: &mut [u8]) -> usize {
        match self.0 {
            // SAFETY: this level exists only where `avx512::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes512 => unsafe { avx512::pack(lanes, bits, out) },
            _ => 0,
        }
    }

    /// Adds (or subtracts) leading groups of 16 packed lanes to `lanes` modulo 2^32; gives the number of lanes done. Bits of a
    /// lane above `bits` are undefined afterwards: the ring is 2^bits, and carries only go up.
    pub fn unpack(self, bytes: &[u8], bits: u32, lanes: &mut [u32], negative: bool) -> usize {
        match self.0 {
            // SAFETY: this level exists only where `avx512::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes512 => unsafe { avx512::unpack(bytes, bits, lanes, negative) },
            _ => 0,
        }
    }

    /// Stochastic rounding of one tile, see [`Rounding`].
    pub fn round(self, rounding: Rounding, values: &[f32], random: &mut [u32]) -> bool {
        match self.0 {
            Kind::Portable => portable::round(rounding, values, random),
            // SAFETY: this level exists only where `avx2::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes256 => unsafe { avx2::round(rounding, values, random) },
            // SAFETY: this level exists only where `avx512::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes512 => unsafe { avx512::round(rounding, values, random) },
        }
    }

    /// Whether all values are finite.
    pub fn all_finite(self, values: &[f32]) -> bool {
        match self.0 {
            Kind::Portable => portable::all_finite(values),
            // SAFETY: this level exists only where `avx2::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes256 => unsafe { avx2::all_finite(values) },
            // SAFETY: this level exists only where `avx512::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes512 => unsafe { avx512::all_finite(values) },
        }
    }

    /// The low `bits` of each lane as a signed number, times `clip`, divided by `levels`.
    pub fn reals(self, lanes: &[u32], bits: u32, clip: f32, levels: i32, out: &mut [f64]) {
        match self.0 {
            Kind::Portable => portable::reals(lanes, bits, clip, levels, out),
            // SAFETY: this level exists only where `avx2::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes256 => unsafe { avx2::reals(lanes, bits, clip, levels, out) },
            // SAFETY: this level exists only where `avx512::is_available`.
            #[cfg(target_arch = "x86_64")]
            Kind::Vaes512 => unsafe { avx512::reals(lanes, bits, clip, levels, out) },
        }
    }
}
