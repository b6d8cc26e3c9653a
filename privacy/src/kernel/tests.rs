//! Known answers for the AES of every level; `prg` and `pack` hold all of it against the portable paths.

use super::*;

/// NIST SP 800-38A, F.5.5 CTR-AES256.Encrypt: the keystream is plaintext xor ciphertext.
#[cfg(target_arch = "x86_64")]
#[test]
fn nist_sp_800_38a_ctr_aes256() {
    let bytes = |s: &str| hex::decode(s).unwrap();
    let key: [u8; 32] = bytes("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").try_into().unwrap();
    let plain = bytes(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
         30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710",
    );
    let cipher = bytes(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5\
         2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6",
    );
    let expected: Vec<u8> = plain.iter().zip(&cipher).map(|(a, b)| a ^ b).collect();
    let counter = 0xf0f1_f2f3_f4f5_f6f7_f8f9_fafb_fcfd_feff;
    for level in Level::available() {
        let Some(schedule) = level.schedule(&key) else { continue };
        let mut narrow = vec![0u32; 16];
        assert!(level.add_narrow(&schedule, counter, Width::Four, &mut narrow, false));
        assert_eq!(narrow.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>(), expected, "{level:?}");
        let mut wide = vec![0u64; 8];
        assert!(level.add_wide(&schedule, counter, &mut wide, false));
        assert_eq!(wide.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<_>>(), expected, "{level:?}");
    }
}

/// FIPS 197, appendix A.3: the last round keys of the example expansion of a 256-bit key.
#[cfg(target_arch = "x86_64")]
#[test]
fn fips_197_key_expansion() {
    let key = hex::decode("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").unwrap();
    for level in Level::available() {
        let Some(schedule) = level.schedule(&key.clone().try_into().unwrap()) else { continue };
        let words: Vec<String> = schedule.keys.iter().map(hex::encode).collect();
        assert_eq!(words[0], "603deb1015ca71be2b73aef0857d7781");
        assert_eq!(words[2], "9ba354118e6925afa51a8b5f2067fcde");
        assert_eq!(words[14], "fe4890d1e6188d0b046df344706c631e");
    }
}

/// Rounding, the finite check and the way back give the same bits on every level.
#[test]
fn every_level_does_the_same_arithmetic() {
    let values: Vec<f32> = (0..5003).map(|i| ((i * 7919) % 4001) as f32 / 1000.0 - 2.0).collect();
    let words: Vec<u32> = (0..5003u32).map(|i| i.wrapping_mul(0x9e37_79b9)).collect();
    let run = |level: Level| {
        let mut lanes = words.clone();
        assert!(level.round(Rounding::new(32767, 1.7), &values, &mut lanes));
        let mut reals = vec![0f64; lanes.len()];
        level.reals(&lanes, 21, 1.7, 32767, &mut reals);
        (lanes, reals)
    };
    let first = run(Level(Kind::Portable));
    for level in Level::available() {
        assert!(run(level) == first, "{level:?}");
        for (bad, at) in [(f32::NAN, 0), (f32::INFINITY, 2500), (f32::NEG_INFINITY, 5002)] {
            let mut values = values.clone();
            assert!(level.all_finite(&values));
            values[at] = bad;
            assert!(!level.all_finite(&values));
            assert!(!level.round(Rounding::new(127, 1.0), &values, &mut words.clone()));
        }
    }
}

#[test]
fn a_lane_takes_the_fewest_bytes_that_cover_its_ring() {
    for bits in 9..=32 {
        let bytes = Width::for_bits(bits).bytes();
        assert!(bytes * 8 >= bits as usize && (bytes == 2 || (bytes - 1) * 8 < bits as usize), "{bits}");
    }
}
