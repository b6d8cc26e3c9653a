//! Pads: a keystream that can be entered at any block, so every chunk can be made alone, in any order, on any thread.
//!
//! A pad key is used for one pad only (it is bound to the transcript of one slot), so the counter starts at zero and there is no
//! nonce. A position counts blocks of 16 bytes, whatever the suite. A lane takes the fewest whole bytes that cover its ring, little
//! endian: 2, 3 or 4 for a narrow lane, 8 for a wide one. At most 2^36 bytes come from one key: for AES 2^32 blocks, a distinguishing
//! advantage below 2^-64 (PRP/PRF switching lemma); for ChaCha20 2^30 of its 64-byte blocks, the counter has 32 bits.

use aes::Aes256;
use chacha20::ChaCha20;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher, StreamCipherSeek};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use crate::kernel::{Level, Width};

/// What pads are made from. Part of a slot's opening and so of its transcript: hospitals that disagree have pads that do not cancel.
/// Both are believed to be as hard to tell from random as a 256-bit key allows, so a hospital takes either.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Suite {
    /// AES-256 in counter mode (FIPS 197, NIST SP 800-38A), 128-bit big-endian counter from zero. For processors with AES
    /// instructions: all of the last decade's servers.
    #[default]
    #[serde(rename = "aes-256-ctr")]
    Aes256Ctr,
    /// ChaCha20 (RFC 8439, section 2.4), nonce zero, counter from zero. For cohorts with processors that have no AES instructions.
    #[serde(rename = "chacha20")]
    ChaCha20,
}

impl Suite {
    /// A number for digests; never reused.
    pub(crate) fn number(self) -> u64 {
        match self {
            Suite::Aes256Ctr => 1,
            Suite::ChaCha20 => 2,
        }
    }
}

/// One pad: its key, and whether it is added or subtracted.
pub(crate) struct PadKey {
    pub key: Zeroizing<[u8; 32]>,
    pub negative: bool,
}

/// Bytes of keystream that the portable path makes at a time: a multiple of every lane width.
const TILE_BYTES: usize = 6 * 1024;

/// The keystream of one key.
pub(crate) enum Stream {
    /// On this processor's AES units.
    #[cfg(target_arch = "x86_64")]
    Kernel(Level, Box<crate::kernel::Schedule>),
    /// AES-256-CTR anywhere.
    Aes(Box<Ctr128BE<Aes256>>),
    /// ChaCha20 anywhere.
    ChaCha(Box<ChaCha20>),
}

impl Stream {
    pub fn new(suite: Suite, key: &[u8; 32]) -> Self {
        Self::at_level(Level::detect(), suite, key)
    }

    pub fn at_level(level: Level, suite: Suite, key: &[u8; 32]) -> Self {
        #[cfg(target_arch = "x86_64")]
        if let (Suite::Aes256Ctr, Some(schedule)) = (suite, level.schedule(key)) {
            return Stream::Kernel(level, Box::new(schedule));
        }
        let _ = level;
        match suite {
            Suite::Aes256Ctr => Stream::Aes(Box::new(Ctr128BE::new(key.into(), &[0; 16].into()))),
            Suite::ChaCha20 => Stream::ChaCha(Box::new(ChaCha20::new(key.into(), &[0; 12].into()))),
        }
    }

    /// Adds or subtracts the keystream from block `block` on, `width` bytes a lane.
    pub fn add_narrow(&mut self, block: u64, width: Width, lanes: &mut [u32], negative: bool) {
        #[cfg(target_arch = "x86_64")]
        if let Stream::Kernel(level, schedule) = self {
            level.add_narrow(schedule, u128::from(block), width, lanes, negative);
            return;
        }
        let flip = if negative { u32::MAX } else { 0 };
        self.each_tile(block, lanes, width.bytes(), |lanes, tile| match width {
            Width::Two => add_u32(lanes, tile, flip, |[a, b]: &[u8; 2]| u32::from_le_bytes([*a, *b, 0, 0])),
            Width::Three => add_u32(lanes, tile, flip, |[a, b, c]: &[u8; 3]| u32::from_le_bytes([*a, *b, *c, 0])),
            Width::Four => add_u32(lanes, tile, flip, |word: &[u8; 4]| u32::from_le_bytes(*word)),
        });
    }

    /// As [`Stream::add_narrow`] for wide lanes, eight bytes each.
    pub fn add_wide(&mut self, block: u64, lanes: &mut [u64], negative: bool) {
        #[cfg(target_arch = "x86_64")]
        if let Stream::Kernel(level, schedule) = self {
            level.add_wide(schedule, u128::from(block), lanes, negative);
            return;
        }
        let flip = if negative { u64::MAX } else { 0 };
        self.each_tile(block, lanes, 8, |lanes, tile| {
            for (lane, word) in lanes.iter_mut().zip(tile.as_chunks::<8>().0) {
                *lane = (*lane ^ flip).wrapping_add(u64::from_le_bytes(*word)) ^ flip;
            }
        });
    }

    /// The portable path: makes a tile of keystream, hands it to `add` while it is in cache.
    fn each_tile<T>(&mut self, block: u64, lanes: &mut [T], pad_bytes: usize, add: impl Fn(&mut [T], &[u8])) {
        let mut tile = [0u8; TILE_BYTES];
        let mut position = u128::from(block) * 16;
        for lanes in lanes.chunks_mut(TILE_BYTES / pad_bytes) {
            let bytes = (lanes.len() * pad_bytes).min(TILE_BYTES);
            let Some(tile) = tile.get_mut(..bytes) else { return };
            self.fill(position, tile);
            add(lanes, tile);
            position += bytes as u128;
        }
        tile.zeroize();
    }

    /// Keystream from a position in bytes, a multiple of 16. The end of either counter is out of reach of a layout.
    fn fill(&mut self, position: u128, out: &mut [u8]) {
        out.fill(0);
        match self {
            #[cfg(target_arch = "x86_64")]
            Stream::Kernel(..) => {}
            Stream::Aes(stream) => {
                stream.seek(position);
                stream.apply_keystream(out);
            }
            Stream::ChaCha(stream) => {
                stream.seek(position);
                stream.apply_keystream(out);
            }
        }
    }
}

/// Two's complement: `a - w = !(!a + w)`, so one loop serves both signs.
fn add_u32<const N: usize>(lanes: &mut [u32], tile: &[u8], flip: u32, read: impl Fn(&[u8; N]) -> u32) {
    for (lane, word) in lanes.iter_mut().zip(tile.as_chunks::<N>().0) {
        *lane = (*lane ^ flip).wrapping_add(read(word)) ^ flip;
    }
}

/// All pads of one vector or sum, their keys expanded once.
pub(crate) struct PadStreams(Vec<(Stream, bool)>);

impl PadStreams {
    /// `invert` takes the pads off instead of putting them on.
    pub fn new(suite: Suite, keys: &[PadKey], invert: bool) -> Self {
        PadStreams(keys.iter().map(|pad| (Stream::new(suite, &pad.key), pad.negative != invert)).collect())
    }

    /// Adds all pads from block `block` on. The lanes should fit the first-level cache: every pad passes over them once.
    pub fn add_narrow(&mut self, block: u64, width: Width, lanes: &mut [u32]) {
        for (stream, negative) in &mut self.0 {
            stream.add_narrow(block, width, lanes, *negative);
        }
    }

    /// As [`PadStreams::add_narrow`] for wide lanes.
    pub fn add_wide(&mut self, block: u64, lanes: &mut [u64]) {
        for (stream, negative) in &mut self.0 {
            stream.add_wide(block, lanes, *negative);
        }
    }
}

#[cfg(test)]
#[path = "prg/tests.rs"]
mod tests;
