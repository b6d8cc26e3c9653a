//! Lanes to bytes and back: exactly b bits a lane, least significant bit first, no padding between lanes.
//!
//! Unused bits of the last byte are zero, and [`is_packed`] refuses anything else: one vector has one encoding.

use crate::kernel::Level;

/// Writes the low `bits` (1 to 32) of every lane; the last byte is filled with zero bits. `out` is exactly as long as they need.
pub(crate) fn pack_narrow(level: Level, lanes: &[u32], bits: u32, out: &mut [u8]) {
    let done = level.pack(lanes, bits, out);
    // Groups of 16 lanes end on a byte.
    let (Some(lanes), Some(out)) = (lanes.get(done..), out.get_mut(done * bits as usize / 8..)) else { return };
    let mask = u32::MAX >> (32 - bits);
    let mut held = 0u64;
    let mut held_bits = 0u32;
    let mut bytes = out.iter_mut();
    let mut put =
        |held: u64, count: usize| bytes.by_ref().zip(held.to_le_bytes()).take(count).for_each(|(to, byte)| *to = byte);
    for lane in lanes {
        held |= u64::from(lane & mask) << held_bits;
        held_bits += bits;
        if held_bits >= 32 {
            put(held, 4);
            held >>= 32;
            held_bits -= 32;
        }
    }
    put(held, held_bits.div_ceil(8) as usize);
}

/// Writes every lane as eight little-endian bytes.
pub(crate) fn pack_wide(lanes: &[u64], out: &mut [u8]) {
    for (word, lane) in out.as_chunks_mut::<8>().0.iter_mut().zip(lanes) {
        *word = lane.to_le_bytes();
    }
}

/// Whether `bytes` are exactly as long as `lanes` lanes of `bits` need, and the unused bits of the last one are zero.
pub(crate) fn is_packed(bytes: &[u8], bits: u32, lanes: usize) -> bool {
    let used = lanes * bits as usize;
    let tail_is_zero = match (used % 8, bytes.last()) {
        (0, _) | (_, None) => true,
        (used, Some(last)) => last >> used == 0,
    };
    bytes.len() == used.div_ceil(8) && tail_is_zero
}

/// Adds (or subtracts) packed lanes to `lanes` modulo 2^32. Of the result only the low `bits` mean anything: the ring is
/// 2^bits, and a carry never goes down. The caller has asked [`is_packed`].
pub(crate) fn fold_narrow(level: Level, bytes: &[u8], bits: u32, lanes: &mut [u32], negative: bool) {
    let done = level.unpack(bytes, bits, lanes, negative);
    let (Some(bytes), Some(lanes)) = (bytes.get(done * bits as usize / 8..), lanes.get_mut(done..)) else { return };
    let flip = if negative { u32::MAX } else { 0 };
    let mask = u32::MAX >> (32 - bits);
    for (i, lane) in lanes.iter_mut().enumerate() {
        let bit = i * bits as usize;
        let word = (window(bytes, bit / 8) >> (bit % 8)) as u32 & mask;
        *lane = (*lane ^ flip).wrapping_add(word) ^ flip;
    }
}

/// As [`fold_narrow`] for 64-bit lanes.
pub(crate) fn fold_wide(bytes: &[u8], lanes: &mut [u64], negative: bool) {
    let flip = if negative { u64::MAX } else { 0 };
    for (lane, word) in lanes.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *lane = (*lane ^ flip).wrapping_add(u64::from_le_bytes(*word)) ^ flip;
    }
}

/// Eight bytes from `at` on, zeros beyond the end.
#[inline]
fn window(bytes: &[u8], at: usize) -> u64 {
    if let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        return u64::from_le_bytes(eight);
    }
    let mut eight = [0u8; 8];
    for (to, from) in eight.iter_mut().zip(bytes.iter().skip(at)) {
        *to = *from;
    }
    u64::from_le_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A lane at a time, a bit at a time: slow and obvious.
    fn oracle(lanes: &[u32], bits: u32) -> Vec<u8> {
        let mut out = vec![0u8; (lanes.len() * bits as usize).div_ceil(8)];
        for (i, lane) in lanes.iter().enumerate() {
            for b in 0..bits as usize {
                let at = i * bits as usize + b;
                out[at / 8] |= (((lane >> b) & 1) as u8) << (at % 8);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn packing_is_what_the_bitwise_oracle_says(lanes in prop::collection::vec(any::<u32>(), 0..300), bits in 1u32..=32) {
            let mask = u32::MAX >> (32 - bits);
            let expected = oracle(&lanes, bits);
            for level in Level::available() {
                let mut packed = vec![0xa5; expected.len()];
                pack_narrow(level, &lanes, bits, &mut packed);
                prop_assert_eq!(&packed, &expected);
                prop_assert!(is_packed(&packed, bits, lanes.len()));
                let mut back = vec![3u32; lanes.len()];
                fold_narrow(level, &packed, bits, &mut back, false);
                prop_assert!(back.iter().zip(&lanes).all(|(b, l)| b & mask == l.wrapping_add(3) & mask));
                fold_narrow(level, &packed, bits, &mut back, true);
                prop_assert!(back.iter().all(|b| b & mask == 3 & mask));
            }
        }
    }

    /// Every width of the ring, at the lengths around a group and a register.
    #[test]
    fn every_width_packs_to_exactly_its_bits() {
        for bits in 1..=32 {
            for len in [0usize, 1, 7, 8, 15, 16, 17, 31, 32, 33, 64, 95, 96, 97, 2303, 2304, 2305] {
                let lanes: Vec<u32> = (0..len as u32).map(|i| i.wrapping_mul(0x9e37_79b9) ^ 0x5555_aaaa).collect();
                let expected = oracle(&lanes, bits);
                assert_eq!(expected.len(), (len * bits as usize).div_ceil(8));
                for level in Level::available() {
                    let mut packed = vec![0xff; expected.len()];
                    pack_narrow(level, &lanes, bits, &mut packed);
                    assert_eq!(packed, expected, "{level:?}, {bits} bits, {len} lanes");
                }
            }
        }
    }

    #[test]
    fn a_second_encoding_of_the_same_lanes_is_refused() {
        let mut packed = vec![0; 4];
        pack_narrow(Level::detect(), &[1, 2, 3], 9, &mut packed);
        assert!(is_packed(&packed, 9, 3));
        packed[3] |= 0x80;
        assert!(!is_packed(&packed, 9, 3));
        packed[3] &= 0x7f;
        packed.push(0);
        assert!(!is_packed(&packed, 9, 3));
    }
}
