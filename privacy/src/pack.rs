//! Lanes to bytes and back: exactly b bits a lane, least significant bit first, no padding between lanes.
//!
//! Unused bits of the last byte are zero, and [`fold_narrow`] refuses anything else: one vector has one encoding.

/// Appends the low `bits` (1 to 32) of every lane; the last byte is filled with zero bits.
pub(crate) fn pack_narrow(lanes: &[u32], bits: u32, out: &mut Vec<u8>) {
    let mask = u32::MAX >> (32 - bits);
    let mut held = 0u64;
    let mut held_bits = 0u32;
    for lane in lanes {
        held |= u64::from(lane & mask) << held_bits;
        held_bits += bits;
        if held_bits >= 32 {
            out.extend_from_slice(&(held as u32).to_le_bytes());
            held >>= 32;
            held_bits -= 32;
        }
    }
    let rest = held_bits.div_ceil(8) as usize;
    out.extend(held.to_le_bytes().into_iter().take(rest));
}

/// Appends every lane as eight little-endian bytes.
pub(crate) fn pack_wide(lanes: &[u64], out: &mut Vec<u8>) {
    for lane in lanes {
        out.extend_from_slice(&lane.to_le_bytes());
    }
}

/// Reads `lanes.len()` packed lanes and hands each to `fold`. `false` where `bytes` is not exactly as long as they
/// need or the unused bits of the last byte are not zero; nothing is folded then.
pub(crate) fn fold_narrow(bytes: &[u8], bits: u32, lanes: &mut [u32], fold: impl Fn(&mut u32, u32)) -> bool {
    let used = lanes.len() * bits as usize;
    if bytes.len() != used.div_ceil(8) || !tail_is_zero(bytes, used) {
        return false;
    }
    let mask = u32::MAX >> (32 - bits);
    for (i, lane) in lanes.iter_mut().enumerate() {
        let bit = i * bits as usize;
        let window = window(bytes, bit / 8) >> (bit % 8);
        fold(lane, window as u32 & mask);
    }
    true
}

/// As [`fold_narrow`] for 64-bit lanes.
pub(crate) fn fold_wide(bytes: &[u8], lanes: &mut [u64], fold: impl Fn(&mut u64, u64)) -> bool {
    let (words, rest) = bytes.as_chunks::<8>();
    if words.len() != lanes.len() || !rest.is_empty() {
        return false;
    }
    lanes.iter_mut().zip(words).for_each(|(lane, word)| fold(lane, u64::from_le_bytes(*word)));
    true
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

fn tail_is_zero(bytes: &[u8], used_bits: usize) -> bool {
    match (used_bits % 8, bytes.last()) {
        (0, _) | (_, None) => true,
        (used, Some(last)) => last >> used == 0,
    }
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
        fn packing_is_what_the_bitwise_oracle_says(lanes in prop::collection::vec(any::<u32>(), 0..70), bits in 1u32..=32) {
            let mut packed = Vec::new();
            pack_narrow(&lanes, bits, &mut packed);
            prop_assert_eq!(&packed, &oracle(&lanes, bits));
            let mut back = vec![0u32; lanes.len()];
            prop_assert!(fold_narrow(&packed, bits, &mut back, |a, v| *a = v));
            let mask = u32::MAX >> (32 - bits);
            prop_assert_eq!(back, lanes.iter().map(|l| l & mask).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_second_encoding_of_the_same_lanes_is_refused() {
        let mut packed = Vec::new();
        pack_narrow(&[1, 2, 3], 9, &mut packed);
        let mut back = [0u32; 3];
        assert!(fold_narrow(&packed, 9, &mut back, |a, v| *a = v));
        packed[3] |= 0x80;
        assert!(!fold_narrow(&packed, 9, &mut back, |a, v| *a = v));
        packed[3] &= 0x7f;
        packed.push(0);
        assert!(!fold_narrow(&packed, 9, &mut back, |a, v| *a = v));
    }
}
