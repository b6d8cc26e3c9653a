//! Pads from AES-256-CTR: seekable by block, so every chunk can be made alone, in any order, on any thread.
//!
//! A pad key is used for one pad only (it is bound to the transcript of one slot), so the counter starts at zero and
//! the whole 128-bit block is the counter. At most 2^36 bytes come from one key: 2^32 blocks, a distinguishing
//! advantage below 2^-64 (PRP/PRF switching lemma).

use aes::Aes256;
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use zeroize::{Zeroize, Zeroizing};

/// Keystream bytes made at a time: with the lanes they are added to it stays in the first-level cache.
const TILE_BYTES: usize = 8 * 1024;

/// The keystream of one key, from one block on.
pub(crate) struct Stream(Ctr128BE<Aes256>);

impl Stream {
    pub fn at(key: &[u8; 32], block: u64) -> Self {
        Self::counting_from(key, u128::from(block))
    }

    fn counting_from(key: &[u8; 32], counter: u128) -> Self {
        Stream(Ctr128BE::<Aes256>::new(key.into(), &counter.to_be_bytes().into()))
    }

    /// The next `out.len()` bytes; every call but the last of a stream asks for whole blocks.
    pub fn fill(&mut self, out: &mut [u8]) {
        // The counter is 128 bits wide: its end is out of reach.
        self.0.unchecked_write_keystream(out);
    }
}

/// One pad: its key, and whether it is added or subtracted.
pub(crate) struct PadKey {
    pub key: Zeroizing<[u8; 32]>,
    pub negative: bool,
}

/// Adds all pads to wide lanes, starting at AES block `block`. `invert` subtracts them instead.
pub(crate) fn add_wide(keys: &[PadKey], block: u64, lanes: &mut [u64], invert: bool) {
    each_tile(keys, block, lanes, 8, |lanes, tile, negative| {
        let (words, _) = tile.as_chunks::<8>();
        let words = words.iter().map(|w| u64::from_le_bytes(*w));
        if negative != invert {
            lanes.iter_mut().zip(words).for_each(|(a, w)| *a = a.wrapping_sub(w));
        } else {
            lanes.iter_mut().zip(words).for_each(|(a, w)| *a = a.wrapping_add(w));
        }
    });
}

/// As [`add_wide`] for narrow lanes; `pad_bytes` is 2 or 4.
pub(crate) fn add_narrow(keys: &[PadKey], block: u64, pad_bytes: usize, lanes: &mut [u32], invert: bool) {
    each_tile(keys, block, lanes, pad_bytes, |lanes, tile, negative| match (pad_bytes, negative != invert) {
        (2, false) => words2(tile).zip(lanes).for_each(|(w, a)| *a = a.wrapping_add(w)),
        (2, true) => words2(tile).zip(lanes).for_each(|(w, a)| *a = a.wrapping_sub(w)),
        (_, false) => words4(tile).zip(lanes).for_each(|(w, a)| *a = a.wrapping_add(w)),
        (_, true) => words4(tile).zip(lanes).for_each(|(w, a)| *a = a.wrapping_sub(w)),
    });
}

fn words2(tile: &[u8]) -> impl Iterator<Item = u32> {
    tile.as_chunks::<2>().0.iter().map(|w| u32::from(u16::from_le_bytes(*w)))
}

fn words4(tile: &[u8]) -> impl Iterator<Item = u32> {
    tile.as_chunks::<4>().0.iter().map(|w| u32::from_le_bytes(*w))
}

/// Walks the lanes tile by tile; within a tile, generates each pad and hands it to `add` while both are in cache.
fn each_tile<T>(keys: &[PadKey], block: u64, lanes: &mut [T], pad_bytes: usize, add: impl Fn(&mut [T], &[u8], bool)) {
    let mut streams: Vec<_> = keys.iter().map(|k| (Stream::at(&k.key, block), k.negative)).collect();
    let mut tile = [0u8; TILE_BYTES];
    for lanes in lanes.chunks_mut(TILE_BYTES / pad_bytes) {
        let bytes = (lanes.len() * pad_bytes).min(TILE_BYTES);
        for (stream, negative) in &mut streams {
            if let Some(tile) = tile.get_mut(..bytes) {
                stream.fill(tile);
                add(lanes, tile, *negative);
            }
        }
    }
    tile.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8, negative: bool) -> PadKey {
        PadKey { key: Zeroizing::new([byte; 32]), negative }
    }

    /// NIST SP 800-38A, F.5.5 CTR-AES256.Encrypt: keystream is plaintext xor ciphertext.
    #[test]
    fn nist_sp_800_38a_ctr_aes256() {
        let bytes = |s: &str| hex::decode(s).unwrap();
        let key = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4");
        let plain = bytes(
            "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
             30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
        );
        let cipher = bytes(
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
             2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
        );
        let mut stream = [0u8; 64];
        let counter = 0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feff;
        Stream::counting_from(&key.try_into().unwrap(), counter).fill(&mut stream);
        let sum: Vec<u8> = stream.iter().zip(&plain).map(|(a, b)| a ^ b).collect();
        assert_eq!(sum, cipher);
    }

    #[test]
    fn any_block_can_be_reached_alone() {
        let mut whole = vec![0u8; 4096];
        Stream::at(&[3; 32], 0).fill(&mut whole);
        for block in [0usize, 1, 17, 255] {
            let mut one = [0u8; 16];
            Stream::at(&[3; 32], block as u64).fill(&mut one);
            assert_eq!(one, whole[block * 16..][..16]);
        }
    }

    /// Against one keystream read straight through, lane by lane, for every lane width, at odd lengths.
    #[test]
    fn tiles_are_the_plain_keystream() {
        for (pad_bytes, len) in [(2, 10_001), (4, 10_001), (4, 1), (2, 4096), (8, 5_001)] {
            let keys = [key(1, false), key(2, true), key(3, false)];
            let mut expected = vec![7u64; len];
            for k in &keys {
                let mut stream = vec![0u8; len * pad_bytes];
                Stream::at(&k.key, 5).fill(&mut stream);
                for (lane, word) in expected.iter_mut().zip(stream.chunks(pad_bytes)) {
                    let word = word.iter().rev().fold(0u64, |w, b| w << 8 | u64::from(*b));
                    *lane = if k.negative { lane.wrapping_sub(word) } else { lane.wrapping_add(word) };
                }
            }
            if pad_bytes == 8 {
                let mut lanes = vec![7u64; len];
                add_wide(&keys, 5, &mut lanes, false);
                assert_eq!(lanes, expected);
                add_wide(&keys, 5, &mut lanes, true);
                assert_eq!(lanes, vec![7; len]);
            } else {
                let mut lanes = vec![7u32; len];
                add_narrow(&keys, 5, pad_bytes, &mut lanes, false);
                assert_eq!(lanes, expected.iter().map(|w| *w as u32).collect::<Vec<_>>());
                add_narrow(&keys, 5, pad_bytes, &mut lanes, true);
                assert_eq!(lanes, vec![7; len]);
            }
        }
    }
}
