//! The transcript T: whatever two hospitals are shown differently, their pads and signatures have nothing in common.

// Helpers outside a #[test] function count as production code to clippy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Job, directory, inputs, layout};
use leben_privacy::{Opening, RoundId, Suite};

const N: u16 = 4;

/// Every input of T: one changed bit, and the two transcripts have nothing to do with each other.
#[test]
fn every_input_of_the_transcript_counts() {
    let job = Job::new(N);
    let opening = job.opening(&layout(10, 16));
    let base = opening.transcript(&job.directory);
    let changed: [&dyn Fn(&mut Opening); 14] = [
        &|o| o.job[31] ^= 1,
        &|o| o.epoch ^= 1,
        &|o| o.slot ^= 1,
        &|o| o.round_id = RoundId { stage: 1, round: 0 },
        &|o| o.round_id = RoundId { stage: 0, round: 1 },
        &|o| o.contract[0] ^= 1,
        &|o| o.model_digest[7] ^= 0x80,
        &|o| o.layout_digest[0] ^= 1,
        &|o| o.hospitals_max ^= 1,
        &|o| o.suite = Suite::ChaCha20,
        &|o| o.checkpoint[0] ^= 1,
        &|o| o.cohort.truncate(3),
        &|o| o.cohort[0].mask_public[0] ^= 1,
        &|o| o.cohort[3].signature.0[63] ^= 1,
    ];
    let mut seen = std::collections::BTreeSet::from([base]);
    for change in changed {
        let mut other = opening.clone();
        change(&mut other);
        assert!(seen.insert(other.transcript(&job.directory)));
    }
    assert!(seen.insert(opening.transcript(&directory(5))));
}

/// Two hospitals shown two models: their pads do not cancel and half of all wire bits differ.
#[test]
fn another_model_gives_unrelated_bytes() {
    let layout = layout(4000, 16);
    let chunk = |model: u8| {
        let mut job = Job::new(N);
        let opening = Opening { model_digest: [model; 32], ..job.opening(&layout) };
        let shares = job.shares_for(1, &opening);
        let pads = job.get(1).open(&opening, &layout, &shares).unwrap();
        let values = leben_privacy::Contribution::new(inputs(N, &layout)[0].clone());
        let quantised = values.clip(&layout).unwrap().quantise(N, [1; 32]).unwrap();
        let masked = quantised.noise([7; 32]).unwrap().mask(pads).unwrap();
        [masked.chunk(0).unwrap(), masked.chunk(1).unwrap()].concat()
    };
    let (a, b) = (chunk(1), chunk(2));
    assert_eq!(a, chunk(1));
    let differing: u32 = a.iter().zip(&b).map(|(a, b)| (a ^ b).count_ones()).sum();
    let bits = a.len() as f64 * 8.0;
    assert!((f64::from(differing) - bits / 2.0).abs() < 6.0 * bits.sqrt() / 2.0, "{differing} of {bits}");
}
