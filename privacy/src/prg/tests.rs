use proptest::prelude::*;

use super::*;

const SUITES: [Suite; 2] = [Suite::Aes256Ctr, Suite::ChaCha20];

/// The keystream read straight through by the RustCrypto crates, from its beginning.
fn oracle(suite: Suite, key: &[u8; 32], bytes: usize) -> Vec<u8> {
    let mut out = vec![0u8; bytes];
    match suite {
        Suite::Aes256Ctr => Ctr128BE::<Aes256>::new(key.into(), &[0; 16].into()).apply_keystream(&mut out),
        Suite::ChaCha20 => ChaCha20::new(key.into(), &[0; 12].into()).apply_keystream(&mut out),
    }
    out
}

fn words(stream: &[u8], bytes: usize) -> Vec<u64> {
    stream.chunks_exact(bytes).map(|word| word.iter().rev().fold(0, |w, b| w << 8 | u64::from(*b))).collect()
}

fn keystream(level: Level, suite: Suite, key: &[u8; 32], block: u64, lanes: usize) -> Vec<u8> {
    let mut out = vec![0u32; lanes];
    Stream::at_level(level, suite, key).add_narrow(block, Width::Four, &mut out, false);
    out.into_iter().flat_map(u32::to_le_bytes).collect()
}

/// RFC 8439, appendix A.1, test vectors 1 and 2: key and nonce zero, blocks 0 and 1.
#[test]
fn rfc_8439_chacha20_keystream() {
    let first = "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586";
    let second = "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f";
    let stream = keystream(Level::detect(), Suite::ChaCha20, &[0; 32], 0, 32);
    assert_eq!(hex::encode(stream), [first, second].concat());
    assert_eq!(hex::encode(keystream(Level::detect(), Suite::ChaCha20, &[0; 32], 4, 16)), second);
}

#[test]
fn any_block_can_be_reached_alone() {
    for suite in SUITES {
        let whole = oracle(suite, &[3; 32], 4096);
        for level in Level::available() {
            for block in [0usize, 1, 3, 17, 255] {
                assert_eq!(keystream(level, suite, &[3; 32], block as u64, 4), whole[block * 16..][..16]);
            }
        }
    }
}

/// Positions behind the first carries of the counter, against the crates' own seeking.
#[test]
fn far_positions_are_the_crates_positions() {
    for block in [255u64, 256, 65_535, (1 << 24) - 2, (1 << 32) - 3, (1 << 32) + 5] {
        for level in Level::available() {
            let mut expected = vec![0u8; 3200];
            let mut stream = Ctr128BE::<Aes256>::new(&[9; 32].into(), &[0; 16].into());
            stream.seek(u128::from(block) * 16);
            stream.apply_keystream(&mut expected);
            assert_eq!(keystream(level, Suite::Aes256Ctr, &[9; 32], block, 800), expected, "{level:?} {block}");
        }
    }
    // ChaCha20's counter has 32 bits of 64-byte blocks; a layout stays far below.
    let mut expected = vec![0u8; 3200];
    let mut stream = ChaCha20::new(&[9; 32].into(), &[0; 12].into());
    stream.seek(((1u64 << 32) - 3) * 16);
    stream.apply_keystream(&mut expected);
    assert_eq!(keystream(Level::detect(), Suite::ChaCha20, &[9; 32], (1 << 32) - 3, 800), expected);
}

fn check(suite: Suite, keys: &[(u8, bool)], block: u64, len: usize, start: u64) {
    for level in Level::available() {
        for width in [Width::Two, Width::Three, Width::Four] {
            let mut expected = vec![start as u32; len];
            let mut lanes = expected.clone();
            for (key, negative) in keys {
                let stream = oracle(suite, &[*key; 32], block as usize * 16 + len * width.bytes());
                for (lane, word) in expected.iter_mut().zip(words(&stream[block as usize * 16..], width.bytes())) {
                    let word = word as u32;
                    *lane = if *negative { lane.wrapping_sub(word) } else { lane.wrapping_add(word) };
                }
                Stream::at_level(level, suite, &[*key; 32]).add_narrow(block, width, &mut lanes, *negative);
            }
            assert_eq!(lanes, expected, "{level:?} {suite:?} {width:?} {len}");
        }
        let mut expected = vec![start; len];
        let mut lanes = expected.clone();
        for (key, negative) in keys {
            let stream = oracle(suite, &[*key; 32], block as usize * 16 + len * 8);
            for (lane, word) in expected.iter_mut().zip(words(&stream[block as usize * 16..], 8)) {
                *lane = if *negative { lane.wrapping_sub(word) } else { lane.wrapping_add(word) };
            }
            Stream::at_level(level, suite, &[*key; 32]).add_wide(block, &mut lanes, *negative);
        }
        assert_eq!(lanes, expected, "{level:?} {suite:?} wide {len}");
    }
}

/// At every length around a register, a batch and a tile.
#[test]
fn every_length_is_the_oracles() {
    let edges = [95usize, 191, 255, 383, 767, 1535, 2303, 3071, 9215];
    let lengths = (0..70).chain(edges.into_iter().flat_map(|edge| edge..edge + 3));
    for len in lengths {
        check(Suite::Aes256Ctr, &[(1, false), (2, true)], 5, len, 7);
    }
    for len in [0, 1, 5, 64, 2303, 10_001] {
        check(Suite::ChaCha20, &[(1, false), (2, true)], 5, len, 7);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_path_is_the_plain_keystream(
        keys in prop::collection::vec(any::<(u8, bool)>(), 1..4),
        block in 0u64..700,
        len in 0usize..4000,
        start: u64,
        chacha: bool,
    ) {
        check(SUITES[usize::from(chacha)], &keys, block, len, start);
    }
}
