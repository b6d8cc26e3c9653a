use super::*;
use crate::{Contribution, Layout, SegmentSpec, Values};

fn quantised(values: Values, encoding: Encoding, seed: u8) -> Quantised {
    let layout = Layout { segments: vec![SegmentSpec { name: "x".into(), len: values.len(), encoding, noise: None }] };
    Contribution::new(vec![values]).clip(&layout).unwrap().quantise(1, [seed; 32]).unwrap()
}

fn exact(values: &[f64], bound: f64) -> Vec<i64> {
    let mut lanes = vec![0; values.len()];
    quantised(Values::F64(values.to_vec()), Encoding::Exact { bound }, 1).wide(0, 0, &mut lanes).unwrap();
    lanes.into_iter().map(u64::cast_signed).collect()
}

fn compact(values: &[f32], bits: u8, clip: f32, seed: u8) -> Vec<i32> {
    let mut lanes = vec![0; values.len()];
    let quantised = quantised(Values::F32(values.to_vec()), Encoding::Compact { clip, bits }, seed);
    quantised.narrow(0, 0, &mut lanes).unwrap();
    lanes.into_iter().map(u32::cast_signed).collect()
}

#[test]
fn exact_rounds_half_to_even() {
    // A bound of 2^62 for one hospital leaves no fraction bits.
    let none = (1u64 << 62) as f64;
    assert_eq!(exact(&[0.5, 1.5, 2.5, -0.5, -1.5, 0.25, -0.75], none), [0, 2, 2, 0, -2, 0, -1]);
    assert_eq!(exact(&[none, -none], none), [1 << 62, -1 << 62]);
    assert_eq!(exact(&[-1.0], 1.0), [-1i64 << 52]);
}

/// Seeds are fixed: five sigma once, not five sigma each time it runs.
#[test]
fn stochastic_rounding_is_unbiased_and_within_one_level() {
    let draws = 200_000;
    for (bits, levels) in [(8u8, 127f32), (12, 2047.0), (16, 32767.0)] {
        for x in [0.3f32, -0.3, 12.75, -126.5, 0.0078125, -0.99] {
            let lanes = compact(&vec![x; draws], bits, levels, 5);
            assert!(lanes.iter().all(|q| (f64::from(*q) - f64::from(x)).abs() < 1.0));
            let mean = lanes.iter().map(|q| f64::from(*q)).sum::<f64>() / draws as f64;
            let fraction = f64::from(x) - f64::from(x).floor();
            let sigma = (fraction * (1.0 - fraction) / draws as f64).sqrt();
            assert!((mean - f64::from(x)).abs() < 5.0 * sigma, "{bits} bits, {x}: {mean}");
        }
    }
}

/// Neighbours are rounded independently: were they not, errors would add up in a model.
#[test]
fn neighbours_are_rounded_independently() {
    let lanes = compact(&vec![0.5; 400_000], 8, 127.0, 6);
    for distance in [1, 2, 3, 4, 8, 64, 2304] {
        let pairs = lanes.len() - distance;
        let equal = lanes.iter().zip(&lanes[distance..]).filter(|(a, b)| a == b).count();
        let sigma = (pairs as f64 / 4.0).sqrt();
        assert!((equal as f64 - pairs as f64 / 2.0).abs() < 5.0 * sigma, "distance {distance}: {equal}");
    }
}

#[test]
fn the_ends_stay_at_the_ends() {
    assert_eq!(compact(&[1.0, -1.0, 0.0], 16, 1.0, 5), [32767, -32767, 0]);
    // Also beyond them, and where the clip's inverse is not exact.
    for clip in [0.1f32, 0.3, 3.7, 1e-30, 1e30, f32::MIN_POSITIVE, f32::MAX] {
        for (bits, levels) in [(8u8, 127), (12, 2047), (16, 32767)] {
            for x in [clip, (clip * 1.0000001).min(f32::MAX), f32::MAX] {
                assert!(compact(&vec![x; 3000], bits, clip, 5).into_iter().all(|q| q == levels), "{clip} {bits}");
                assert!(compact(&vec![-x; 3000], bits, clip, 5).into_iter().all(|q| q == -levels), "{clip} {bits}");
            }
            // The largest value below the clip is at most one level off.
            let below = compact(&vec![f32::from_bits(clip.to_bits() - 1); 3000], bits, clip, 5);
            assert!(below.into_iter().all(|q| q == levels || q == levels - 1), "{clip} {bits}");
        }
    }
}

/// The exact probability, against big rationals: of the 2^32 words, those that round up are the fraction in units of 2^-32.
#[test]
fn the_chance_of_rounding_up_is_the_fraction() {
    let level = Level::detect();
    for x in [0.25f32, -0.25, 0.75, 100.125, -0.0625] {
        let fraction = f64::from(x) - f64::from(x).floor();
        let last_down = ((1.0 - fraction) * 4_294_967_296.0) as u64 - 1;
        let mut words = [last_down as u32, (last_down + 1) as u32];
        assert!(level.round(Rounding::new(127, 127.0), &[x, x], &mut words));
        let floor = f64::from(x).floor() as i32;
        assert_eq!(words.map(u32::cast_signed), [floor, floor + 1], "{x}");
    }
}

/// A lane's integer depends on its position, not on the range it is asked for with.
#[test]
fn any_range_gives_the_same_lanes() {
    let values: Vec<f32> = (0..20_000).map(|i| (i % 97) as f32 / 97.0).collect();
    let quantised = quantised(Values::F32(values), Encoding::Compact { clip: 1.0, bits: 16 }, 3);
    let mut whole = vec![0; 20_000];
    quantised.narrow(0, 0, &mut whole).unwrap();
    for (first, len) in [(0usize, 1usize), (4, 3), (64, 9000), (2304, 2304), (12_000, 8000), (19_996, 4)] {
        let mut part = vec![7; len];
        quantised.narrow(0, first, &mut part).unwrap();
        assert_eq!(part, whole[first..][..len]);
    }
}
