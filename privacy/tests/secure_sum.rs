//! A whole slot in memory: every drop ends in the exact sum of those who uploaded, or opens nothing.

// Helpers outside a #[test] function count as production code to clippy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{FATES, Fate, Job, inputs, layout, reference};
use leben_privacy::secure_sum::threshold;
use leben_privacy::{Layout, Reject};
use rayon::prelude::*;

/// Fraction bits of the exact segment (bound 1000) for n hospitals, worked out by hand: 62 - ceil(log2(1000 n)).
fn fraction_bits(n: u16) -> i32 {
    62 - (1000.0 * f64::from(n)).log2().ceil() as i32
}

/// One slot, and what the paper says must come out of it.
fn check(n: u16, layout: &Layout, fates: &[Fate]) {
    let inputs = inputs(n, layout);
    let outcome = Job::new(n).run(layout, fates, &inputs);
    let t = usize::from(threshold(n));
    let count = |gone: &[Fate]| fates.iter().filter(|f| !gone.contains(f)).count();
    let uploaded = count(&[Fate::BeforeUpload]);
    let revealed = count(&[Fate::BeforeUpload, Fate::BeforeAgree, Fate::BeforeReveal]);
    if uploaded < t {
        assert_eq!(outcome.unwrap_err(), Reject::TooFewSurvivors { got: uploaded, want: t }, "{fates:?}");
    } else if revealed < t {
        assert!(outcome.unwrap().is_none(), "{fates:?}");
    } else {
        let sum = outcome.unwrap().unwrap();
        let [exact, compact] = reference(n, fraction_bits(n), fates, &inputs);
        assert_eq!(sum.segment("exact").unwrap(), exact, "{fates:?}");
        assert_eq!(sum.segment("compact").unwrap(), compact, "{fates:?}");
        assert_eq!(usize::from(sum.contributions()), uploaded);
    }
}

#[test]
fn every_mix_of_drops_with_three_and_four_hospitals() {
    for n in [3u16, 4] {
        (0..4usize.pow(n.into())).into_par_iter().for_each(|mix| {
            let fates: Vec<_> = (0..n).map(|h| FATES[mix >> (2 * h) & 3]).collect();
            check(n, &layout(10, 8), &fates);
        });
    }
}

#[test]
fn every_subset_dropping_at_each_step_with_five_to_seven_hospitals() {
    for n in 5..=7u16 {
        (0..3usize << n).into_par_iter().for_each(|case| {
            let fate = FATES[1 + (case >> n)];
            // Seven hospitals can lose two: four and more lost ones all end as three do, and cost seconds.
            if n == 7 && (case & 127).count_ones() > 3 {
                return;
            }
            let fates: Vec<_> = (0..n).map(|h| if case >> h & 1 == 1 { fate } else { Fate::Stays }).collect();
            check(n, &layout(3, 12), &fates);
        });
    }
}

#[test]
fn mixed_drops_with_eight_to_ten_hospitals() {
    for n in 8..=10u16 {
        (0..24u64).into_par_iter().for_each(|case| {
            // Mostly staying, so that both outcomes happen.
            let dice = |h: u16| (case + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(u32::from(h) * 5) % 16;
            let fates: Vec<_> = (0..n).map(|h| FATES.get(dice(h) as usize).copied().unwrap_or(Fate::Stays)).collect();
            check(n, &layout(5, 16), &fates);
        });
    }
}

#[test]
fn lengths_around_every_boundary() {
    for len in [1, 10, 4095, 4096, 4097, 100_003] {
        for bits in [8, 12, 16] {
            let mut fates = vec![Fate::Stays; 4];
            fates[2] = if bits == 12 { Fate::BeforeUpload } else { Fate::BeforeReveal };
            check(4, &layout(len, bits), &fates);
        }
    }
}

#[test]
fn forty_hospitals_with_a_quarter_lost() {
    let mut fates = vec![Fate::Stays; 40];
    fates.iter_mut().step_by(4).for_each(|f| *f = Fate::BeforeUpload);
    check(40, &layout(17, 16), &fates);
}

#[test]
fn the_whole_cohort_at_both_ends_of_the_range_does_not_overflow() {
    use leben_privacy::Values;
    for n in [3u16, 5, 10] {
        for (sign, bits) in [(1.0f32, 8), (-1.0, 12), (1.0, 16), (-1.0, 16)] {
            let layout = layout(9, bits);
            let leben_privacy::Encoding::Compact { clip, .. } = layout.segments[1].encoding else { panic!("compact") };
            let one = vec![Values::F64(vec![1000.0 * f64::from(sign); 9]), Values::F32(vec![clip * sign; 9])];
            let inputs = vec![one; usize::from(n)];
            let sum = Job::new(n).run(&layout, &vec![Fate::Stays; usize::from(n)], &inputs).unwrap().unwrap();
            let n = f64::from(n) * f64::from(sign);
            assert_eq!(sum.segment("exact").unwrap(), [1000.0 * n; 9]);
            assert_eq!(sum.segment("compact").unwrap(), [f64::from(clip) * n; 9]);
        }
    }
}

#[test]
fn slots_follow_each_other_and_a_hospital_that_was_away_comes_back() {
    let (n, layout) = (4u16, layout(10, 16));
    let inputs = inputs(n, &layout);
    let mut job = Job::new(n);
    for (slot, away) in [(1u64, Some(2usize)), (2, None), (3, Some(0)), (4, None)] {
        let mut fates = vec![Fate::Stays; 4];
        if let Some(h) = away {
            fates[h] = Fate::BeforeUpload;
        }
        assert_eq!(job.slot, slot);
        // Each slot is its own round here; repeats of a round are in tests/journal.rs.
        let sum = job.run_round(&layout, slot as u32, &fates, &inputs).unwrap().unwrap();
        let [exact, _] = reference(n, fraction_bits(n), &fates, &inputs);
        assert_eq!(sum.segment("exact").unwrap(), exact, "slot {slot}");
        job.advance();
    }
}
