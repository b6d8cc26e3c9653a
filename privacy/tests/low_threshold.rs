//! Jobs whose threshold is just above half: the ledger, not signatures, makes a close the only one of its slot.

// Helpers outside a #[test] function count as production code to clippy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Fate, Job, inputs, layout, reference};
use leben_privacy::secure_sum::{Agreement, Close, Consistency, FixedClose, RoundId, threshold, threshold_ledger};
use leben_privacy::{Collector, Reject, Sum};

#[test]
fn the_threshold_says_what_makes_a_close_the_only_one() {
    for n in 3..=200 {
        for t in threshold_ledger(n)..=n {
            let directory = leben_privacy::Directory { threshold: t, ..common::directory(3) };
            let members =
                (1..=n).map(|index| leben_privacy::Member { index, ..directory.members[0].clone() }).collect();
            let directory = leben_privacy::Directory { members, ..directory };
            let (n, t) = (usize::from(n), usize::from(t));
            match directory.consistency() {
                // Two sets of t overlap in more than all colluders: in an honest hospital, which signs once.
                Consistency::Signatures => assert!(2 * t - n > directory.colluders_max()),
                Consistency::Ledger => assert!(t < 2 * n / 3 + 1 && directory.colluders_max() < t),
            }
        }
    }
    assert_eq!((threshold_ledger(3), threshold(3)), (2, 3));
    assert_eq!((threshold_ledger(10), threshold(10)), (6, 7));
}

/// Three of five uploads are enough, and three of the five reveals.
#[test]
fn nearly_half_may_be_lost_at_any_step() {
    for fate in [Fate::BeforeUpload, Fate::BeforeAgree, Fate::BeforeReveal] {
        let layout = layout(10, 16);
        let mut fates = [Fate::Stays; 5];
        fates[1] = fate;
        fates[4] = fate;
        let inputs = inputs(5, &layout);
        let sum = Job::with_threshold(5, 3).run(&layout, &fates, &inputs).unwrap().unwrap();
        let [exact, compact] = reference(5, 62 - 13, &fates, &inputs);
        assert_eq!((sum.segment("exact").unwrap(), sum.segment("compact").unwrap()), (&exact[..], &compact[..]));
        // With the threshold for signatures alone, the same losses open nothing.
        let outcome = Job::new(5).run(&layout, &fates, &inputs);
        assert!(!matches!(outcome, Ok(Some(_))), "{fate:?}");
    }
}

/// Whatever the threshold, a sum over two is not opened: each would read the other.
#[test]
fn two_survivors_are_too_few() {
    let layout = layout(10, 16);
    let fates = [Fate::Stays, Fate::Stays, Fate::BeforeUpload];
    let outcome = Job::with_threshold(3, 2).run(&layout, &fates, &inputs(3, &layout));
    assert_eq!(outcome.unwrap_err(), Reject::TooFewSurvivors { got: 2, want: 3 });
    // All three uploaded, one is gone before the reveal: two shares open it.
    let fates = [Fate::Stays, Fate::Stays, Fate::BeforeReveal];
    assert!(Job::with_threshold(3, 2).run(&layout, &fates, &inputs(3, &layout)).unwrap().is_some());
}

/// A coordinator with one helper shows two sets of survivors and gathers a threshold of signatures under each. Nobody
/// reveals anything for a close that is not on the ledger; for the other one they do.
#[test]
fn of_two_closes_with_enough_signatures_only_the_one_on_the_ledger_opens() {
    let (mut job, layout) = (Job::with_threshold(5, 3), layout(10, 16));
    let opening = job.opening(&layout);
    let mut collector = Collector::new(job.directory.clone(), opening.clone(), layout.clone(), 3).unwrap();
    let mut sum = Sum::new(layout.clone(), 5).unwrap();
    for (me, values) in (1..=5).zip(inputs(5, &layout)) {
        let upload = job.upload(me, &opening, &layout, values, &mut sum).unwrap();
        collector.handle_upload(me, upload).unwrap();
    }
    let all = collector.close().unwrap();
    let without = |gone: u16| {
        let survivors = all.survivors.iter().filter(|s| s.index != gone).cloned().collect();
        Close { survivors, ..all.clone() }
    };
    let (first, second) = (without(4), without(2));
    let mut helper = common::participant(5, &job.directory, leben_privacy::Journal::default());
    helper.advertise(1, common::seed([2, 5, 1, 0]));
    let keys = job.keys.clone();
    helper.share(1, &keys, common::seed([3, 5, 1, 0])).unwrap();
    helper.open(&opening, &layout, &job.shares_for(5, &opening)).unwrap();
    let mut sign = |close: &Close, honest: [u16; 2], twin: bool| {
        let mut signatures: Vec<_> =
            honest.iter().map(|me| (*me, job.get(*me).agree(close).unwrap().signature)).collect();
        let fifth = if twin { helper.agree(close) } else { job.get(5).agree(close) };
        signatures.push((5, fifth.unwrap().signature));
        Agreement { slot: 1, signatures }
    };
    let (one, two) = (sign(&first, [1, 2], false), sign(&second, [3, 4], true));
    let fixed = |close: &Close| FixedClose {
        slot: 1,
        round_id: opening.round_id,
        survivors: close.survivors.iter().map(|s| s.index).collect(),
        transcript: collector.transcript(),
    };
    let refused = Reject::NotOnLedger { slot: 1 };
    assert_eq!(job.get(1).reveal(&one, None).unwrap_err(), refused);
    assert_eq!(job.get(3).reveal(&two, None).unwrap_err(), refused);
    assert_eq!(job.get(3).reveal(&two, Some(&fixed(&first))).unwrap_err(), refused);
    let other = FixedClose { transcript: [0; 32], ..fixed(&first) };
    assert_eq!(job.get(1).reveal(&one, Some(&other)).unwrap_err(), refused);
    let late = FixedClose { slot: 2, ..fixed(&first) };
    assert_eq!(job.get(1).reveal(&one, Some(&late)).unwrap_err(), refused);
    for (stage, round) in [(0, 1), (1, 0)] {
        let other = FixedClose { round_id: RoundId { stage, round }, ..fixed(&first) };
        assert_eq!(job.get(1).reveal(&one, Some(&other)).unwrap_err(), refused, "the close of another round");
    }
    assert!(job.get(1).reveal(&one, Some(&fixed(&first))).is_ok());
}

/// Above 64 hospitals each shares pads with two thirds of the others, and the sum is as exact as before.
#[test]
fn seventy_hospitals_on_a_graph_with_losses_at_every_step() {
    let layout = layout(3, 16);
    let mut job = Job::new(70);
    let opening = job.opening(&layout);
    let shares = job.shares_for(70, &opening);
    let pads = job.get(70).open(&opening, &layout, &shares).unwrap();
    assert_eq!(format!("{pads:?}"), "Pads(49 pads, Mask)", "its own and 48 of 69 others");
    let mut fates = [Fate::Stays; 70];
    fates[10..20].fill(Fate::BeforeUpload);
    fates[30..37].fill(Fate::BeforeAgree);
    fates[40..45].fill(Fate::BeforeReveal);
    let inputs = inputs(70, &layout);
    let sum = Job::new(70).run(&layout, &fates, &inputs).unwrap().unwrap();
    let [exact, compact] = reference(70, 62 - 17, &fates, &inputs);
    assert_eq!((sum.segment("exact").unwrap(), sum.segment("compact").unwrap()), (&exact[..], &compact[..]));
}
