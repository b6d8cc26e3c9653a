//! The noise step: in the layout, through the whole secure sum, and back as an interval.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod common;

use common::{Fate, Job};
use leben_privacy::dp::guarantee::{Release, Unit, guarantee};
use leben_privacy::dp::{DpError, Sampling, gaussian};
use leben_privacy::noise::standard_deviation;
use leben_privacy::{Encoding, Layout, LayoutError, SegmentNoise, SegmentSpec, Values};

fn segment(name: &str, len: usize, encoding: Encoding, sigma: Option<f64>) -> SegmentSpec {
    SegmentSpec { name: name.into(), len, encoding, noise: sigma.map(|sigma| SegmentNoise { sigma, norm: None }) }
}

/// An exact and a compact segment with noise, and an exact one without.
fn layout(len: usize) -> Layout {
    Layout {
        segments: vec![
            segment("exact", len, Encoding::Exact { bound: 1000.0 }, Some(3.0)),
            segment("compact", len, Encoding::Compact { clip: 1.0, bits: 12 }, Some(0.05)),
            segment("plain", 3, Encoding::Exact { bound: 10.0 }, None),
        ],
    }
}

fn inputs(n: u16, len: usize) -> Vec<Vec<Values>> {
    let one = |h: u16| {
        let plain = Values::F64(vec![f64::from(h), 0.5, -10.0]);
        vec![Values::F64(vec![f64::from(h) * 7.25; len]), Values::F32(vec![0.5; len]), plain]
    };
    (1..=n).map(one).collect()
}

fn moments(values: &[f64], mean: f64) -> (f64, f64) {
    let n = values.len() as f64;
    (values.iter().sum::<f64>() / n - mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

#[test]
fn the_sum_carries_the_noise_of_its_survivors_and_the_interval_says_so() {
    let (n, len) = (5u16, 40_000);
    let layout = layout(len);
    let inputs = inputs(n, len);
    let fates = [Fate::Stays, Fate::BeforeUpload, Fate::Stays, Fate::Stays, Fate::Stays];
    let sum = Job::new(n).run(&layout, &fates, &inputs).unwrap().unwrap();
    assert_eq!(sum.segment("plain").unwrap(), [13.0, 2.0, -40.0], "a segment without noise stays exact");
    for (i, name, mean) in [(0, "exact", 13.0 * 7.25), (1, "compact", 2.0)] {
        let sd = standard_deviation(&layout, n, i, sum.contributions()).unwrap();
        let (bias, variance) = moments(sum.segment(name).unwrap(), mean);
        assert!(bias.abs() < 5.0 * sd / (len as f64).sqrt(), "{name}: bias {bias}");
        let ratio = variance / (sd * sd);
        assert!((ratio - 1.0).abs() < 5.0 * (2.0 / len as f64).sqrt() + 1e-3, "{name}: variance {ratio} of the stated");
        // Ninety-five per cent intervals hold the exact sum that often.
        let inside = sum.segment(name).unwrap().iter().filter(|x| (*x - mean).abs() < 1.959_964 * sd).count();
        assert!((inside as f64 / len as f64 - 0.95).abs() < 0.006, "{name}: {inside} of {len} inside");
    }
    assert_eq!(standard_deviation(&layout, n, 2, 4), Ok(0.0));
    assert!((standard_deviation(&layout, n, 0, 4).unwrap() - 6.0).abs() < 1e-4);
}

/// Chunks asked for again, in another order, are the same bytes; another seed, another noise.
#[test]
fn the_noise_of_a_chunk_depends_on_the_seed_and_nothing_else() {
    let len = 150_000;
    let layout = layout(len);
    let inputs = inputs(3, len);
    let chunks = |seed: u8, order: &dyn Fn(usize) -> Vec<usize>| {
        let mut job = Job::new(3);
        let opening = job.opening(&layout);
        let shares = job.shares_for(1, &opening);
        let pads = job.get(1).open(&opening, &layout, &shares).unwrap();
        let contribution = leben_privacy::Contribution::new(inputs[0].clone());
        let quantised = contribution.clip(&layout).unwrap().quantise(3, [4; 32]).unwrap();
        let masked = quantised.noise([seed; 32]).unwrap().mask(pads).unwrap();
        let mut out = vec![Vec::new(); masked.chunk_count()];
        order(masked.chunk_count()).into_iter().for_each(|i| out[i] = masked.chunk(i).unwrap());
        out
    };
    let forward = chunks(1, &|n| (0..n).collect());
    let backward = chunks(1, &|n| (0..n).rev().chain(0..n).collect());
    let other = chunks(2, &|n| (0..n).collect());
    assert!(forward.len() > 5);
    assert!(forward == backward, "the same seed gives the same bytes in any order");
    let same = forward.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert_eq!(same, 1, "only the segment without noise is the same under another seed");
}

/// The same positions in two segments, and neighbouring blocks, have unrelated noise.
#[test]
fn noise_is_unrelated_between_segments_and_blocks() {
    let len = 20_000;
    let encoding = Encoding::Exact { bound: 1.0 };
    let layout =
        Layout { segments: vec![segment("a", len, encoding, Some(1.0)), segment("b", len, encoding, Some(1.0))] };
    let zeros = vec![vec![Values::F64(vec![0.0; len]); 2]; 3];
    let sum = Job::new(3).run(&layout, &[Fate::Stays; 3], &zeros).unwrap().unwrap();
    let (a, b) = (sum.segment("a").unwrap(), sum.segment("b").unwrap());
    let correlation = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>() / x.len() as f64 / 3.0;
    let limit = 5.0 / (len as f64).sqrt();
    assert!(correlation(a, b).abs() < limit);
    for lag in [1, 2, 63, 64, 65, 128, 4096] {
        assert!(correlation(&a[lag..], &a[..len - lag]).abs() < limit * 1.2, "lag {lag}");
    }
    assert!((correlation(a, a) - 1.0 * 3.0 / 3.0).abs() < 0.06);
}

/// Rings by hand: the room for noise is 12 standard deviations of the sum.
#[test]
fn rings_leave_room_for_the_noise() {
    let bits = |n: u16, bits: u8, sigma: Option<f64>| {
        let layout = Layout { segments: vec![segment("w", 8, Encoding::Compact { clip: 1.0, bits }, sigma)] };
        layout.geometry(n).map(|g| g.ring(0).unwrap().wire_bits())
    };
    assert_eq!(bits(20, 16, None), Ok(21));
    // 20 * 32767 + 12 * sqrt(20) * 6553.4 = 1,007,029 < 2^20; with twice the noise 1,358,719 > 2^20.
    assert_eq!(bits(20, 16, Some(0.2)), Ok(21));
    assert_eq!(bits(20, 16, Some(0.4)), Ok(22));
    assert_eq!(bits(u16::MAX, 16, Some(30.0)), Err(LayoutError::Overflow("w".into(), u16::MAX)));
    let fraction = |bound: f64, sigma: f64| {
        let layout = Layout { segments: vec![segment("w", 8, Encoding::Exact { bound }, Some(sigma))] };
        layout.geometry(20).map(|g| (g.ring(0).unwrap().steps_per_unit().log2() as u32, g.variance(0).unwrap().sigma()))
    };
    assert_eq!(fraction(1.0, 1.0).unwrap().0, 20);
    assert_eq!(fraction(1.0, 0.75).unwrap().0, 20);
    assert_eq!(fraction(1.0, 1.5).unwrap().0, 19);
    let (f, sigma) = fraction(1000.0, 3.0).unwrap();
    assert_eq!(f, 18);
    assert!(sigma >= 3.0 * f64::from(1 << 18) && sigma < 3.000_001 * f64::from(1 << 18));
    // A bound so large that the sum leaves four steps and less for the noise.
    assert_eq!(fraction(2f64.powi(56), 1.0), Err(LayoutError::NoiseTooSmall("w".into())));
    assert_eq!(fraction(1.0, 2f64.powi(21)), Err(LayoutError::NoiseTooLarge("w".into())));
}

#[test]
fn noise_that_makes_no_sense_is_refused_by_the_layout() {
    for sigma in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let bad = Layout { segments: vec![segment("w", 8, Encoding::Exact { bound: 1.0 }, Some(sigma))] };
        assert_eq!(bad.validate(3), Err(LayoutError::Noise("w".into())));
    }
    let compact =
        |sigma| Layout { segments: vec![segment("w", 8, Encoding::Compact { clip: 1.0, bits: 8 }, Some(sigma))] };
    assert_eq!(compact(3.9 / 127.0).validate(3), Err(LayoutError::NoiseTooSmall("w".into())));
    assert_eq!(compact(4.1 / 127.0).validate(3), Ok(()));
    assert_eq!(compact(1e4).validate(3), Err(LayoutError::NoiseTooLarge("w".into())));
    let with = |sigma| compact(sigma).digest();
    assert_ne!(with(0.1), with(0.2), "who adds other noise has another layout, so other pads");
    let mut without = compact(0.1);
    without.segments[0].noise = None;
    assert_ne!(without.digest(), with(0.1));
}

/// Mode S: a hospital's rounded vector is within the stated norm, or nothing is masked.
#[test]
fn a_vector_beyond_the_norm_of_its_noise_is_refused_and_one_within_is_rounded_within() {
    let len = 5000;
    let noise = Some(SegmentNoise { sigma: 0.05, norm: Some(1.0) });
    let encoding = Encoding::Compact { clip: 1.0, bits: 8 };
    let compact = Layout { segments: vec![SegmentSpec { name: "w".into(), len, encoding, noise }] };
    let exact = Layout {
        segments: vec![SegmentSpec { name: "w".into(), len, encoding: Encoding::Exact { bound: 1.0 }, noise }],
    };
    let step = |layout: &Layout, values: Values, seed: u8| {
        let clipped = leben_privacy::Contribution::new(vec![values]).clip(layout).unwrap();
        clipped.quantise(3, [seed; 32]).unwrap().noise([seed; 32]).map(|_| ())
    };
    let refused = Err(leben_privacy::ContributionError::NormExceeded { segment: "w".into() });
    // Norm 1 over 5000 values: 1.8 steps of the compact grid each. Every try of the rounding is a coin of its own.
    let at_limit = (1.0 / (len as f64).sqrt()) as f32;
    (0..20).for_each(|seed| assert_eq!(step(&compact, Values::F32(vec![at_limit; len]), seed), Ok(())));
    assert_eq!(step(&compact, Values::F32(vec![at_limit * 1.1; len]), 1), refused);
    assert_eq!(step(&exact, Values::F64(vec![0.999 / (len as f64).sqrt(); len]), 1), Ok(()));
    assert_eq!(step(&exact, Values::F64(vec![1.01 / (len as f64).sqrt(); len]), 1), refused);
    // The accountant uses the norm that was enforced: (127, 5000 values, beta) by the paper's formula.
    let (unit, sampling) = (Unit::Hospital { forced: true }, Sampling::All);
    let terms =
        || Release { segments: vec![], unit, honest: 2, corrupt: 1, hospitals: 3, sampling, rounds: 1, per_round: 1 };
    let release = terms().of_layout(&compact, &[1.0]).unwrap();
    let by_hand = (127.0f64 * 127.0 + 1250.0 + (127.0 + 0.5 * 5000f64.sqrt())).sqrt();
    assert!((release.segments[0].l2 - by_hand).abs() < 1e-9, "{} {by_hand}", release.segments[0].l2);
    assert_eq!(terms().of_layout(&layout(10), &[1.0, 0.0, 0.0]), Err(DpError::NoNorm("exact".into())));
    let mut bad = compact.clone();
    bad.segments[0].noise = Some(SegmentNoise { sigma: 0.05, norm: Some(f64::NAN) });
    assert_eq!(bad.validate(3), Err(LayoutError::Noise("w".into())));
}

/// From the layout to an epsilon: the closed form for the noise that the test above measured.
#[test]
fn a_layout_and_its_sensitivities_give_the_guarantee() {
    let layout = layout(10);
    let (unit, sampling) = (Unit::Patient, Sampling::All);
    let terms =
        || Release { segments: vec![], unit, honest: 4, corrupt: 1, hospitals: 5, sampling, rounds: 2, per_round: 1 };
    let release = terms().of_layout(&layout, &[5.0, 0.0, 0.0]).unwrap();
    let got = guarantee(&[release], 1e-6).unwrap();
    let truth = gaussian::epsilon(3.0 * 2.0 / (5.0 * 2.0f64.sqrt()), 1e-6).unwrap();
    let epsilon = got.epsilon_micro as f64 * 1e-6;
    assert!(epsilon >= truth && epsilon < truth * 1.001, "{epsilon}, {truth}");
    // Rounding counts: the compact segment's grid is coarse, sqrt(10) steps on 0.05 * 2047.
    let coarse = terms().of_layout(&layout, &[0.0, 0.05, 0.0]).unwrap();
    assert!((coarse.segments[0].l2 - (0.05 * 2047.0 + 10f64.sqrt())).abs() < 1e-4);
    assert_eq!(terms().of_layout(&layout, &[5.0, 0.0, 1.0]), Err(DpError::NoNoise("plain".into())));
    assert_eq!(terms().of_layout(&layout, &[5.0]), Err(DpError::Segments { got: 1, want: 3 }));
    assert_eq!(terms().of_layout(&layout, &[-1.0, 0.0, 0.0]), Err(DpError::Sensitivity(-1.0)));
    assert!(matches!(guarantee(&[terms().of_layout(&layout, &[0.0; 3]).unwrap()], 1e-6), Err(DpError::Nothing(_))));
}
