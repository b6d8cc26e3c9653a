//! What a hospital remembers keeps a repeated round from opening a difference, also across a restart.

// Helpers outside a #[test] function count as production code to clippy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Fate, Job, inputs, layout, participant};
use leben_privacy::{Journal, Opening, Reject, RoundId};

const N: u16 = 4;
const REPEATED: RoundId = RoundId { stage: 0, round: 0 };

fn fates(away: Option<usize>) -> Vec<Fate> {
    (0..usize::from(N)).map(|h| if Some(h) == away { Fate::BeforeUpload } else { Fate::Stays }).collect()
}

#[test]
fn a_round_repeats_only_over_the_same_hospitals() {
    let layout = layout(4, 16);
    let inputs = inputs(N, &layout);
    let mut job = Job::new(N);
    job.run(&layout, &fates(None), &inputs).unwrap().unwrap();
    job.advance();
    // The same round without hospital 4: the difference would be its vector.
    let refused = Reject::RepeatDiffers { stage: 0, round: 0 };
    assert_eq!(job.run(&layout, &fates(Some(3)), &inputs).unwrap_err(), refused);
    job.advance();
    assert!(job.run(&layout, &fates(None), &inputs).unwrap().is_some());
    job.advance();
    // Another round is free to lose somebody.
    assert!(job.run_round(&layout, 1, &fates(Some(3)), &inputs).unwrap().is_some());
    job.advance();
    // And once agreed without hospital 4, it cannot be repeated with it.
    assert_eq!(
        job.run_round(&layout, 1, &fates(None), &inputs).unwrap_err(),
        Reject::RepeatDiffers { stage: 0, round: 1 }
    );
}

#[test]
fn a_cohort_without_an_earlier_survivor_is_refused_at_the_opening() {
    let layout = layout(4, 16);
    let mut job = Job::new(N);
    job.run(&layout, &fates(None), &inputs(N, &layout)).unwrap().unwrap();
    job.advance();
    let mut opening = job.opening(&layout);
    opening.cohort.pop();
    let shares = job.shares_for(1, &opening);
    let refused = Reject::RepeatDiffers { stage: 0, round: 0 };
    assert_eq!(job.get(1).open(&opening, &layout, &shares).unwrap_err(), refused);
}

#[test]
fn a_repeated_round_keeps_its_model() {
    let layout = layout(4, 16);
    let mut job = Job::new(N);
    job.run(&layout, &fates(None), &inputs(N, &layout)).unwrap().unwrap();
    job.advance();
    let opening = Opening { model_digest: [0; 32], ..job.opening(&layout) };
    let shares = job.shares_for(1, &opening);
    let refused = Reject::ModelChanged { stage: 0, round: 0 };
    assert_eq!(job.get(1).open(&opening, &layout, &shares).unwrap_err(), refused);
}

#[test]
fn a_repeated_round_keeps_its_shape_and_one_without_a_shape_is_not_repeated() {
    let layout = layout(4, 16);
    let mut job = Job::new(N);
    job.run(&layout, &fates(None), &inputs(N, &layout)).unwrap().unwrap();
    job.advance();
    let same = job.opening(&layout);
    let refused = Reject::RepeatDiffers { stage: 0, round: 0 };
    // A directory that was frozen anew with a member more: the noise would be fresh, the round counted once.
    let larger = Opening { hospitals_max: N + 1, ..same.clone() };
    let other = common::layout(5, 16);
    let shares = job.shares_for(1, &same);
    assert_eq!(job.get(1).open(&larger, &layout, &shares).unwrap_err(), refused);
    assert_eq!(job.get(1).open(&job_opening(&same, &other), &other, &shares).unwrap_err(), refused);

    let mut stored = serde_json::to_value(job.get(1).journal()).unwrap();
    stored["rounds"][0].as_object_mut().unwrap().remove("shape").unwrap();
    let old: Journal = serde_json::from_value(stored).unwrap();
    assert_eq!(old.rounds[0].survivors, [1, 2, 3, 4]);
    let mut restarted = participant(1, &job.directory, old);
    assert_eq!(restarted.open(&same, &layout, &shares).unwrap_err(), refused, "an older journal knows no shape");
    job.get(1).open(&same, &layout, &shares).unwrap();
}

fn job_opening(opening: &Opening, layout: &leben_privacy::Layout) -> Opening {
    Opening { layout_digest: layout.digest(), ..opening.clone() }
}

#[test]
fn the_rules_survive_a_restart_and_a_round_trip_through_json() {
    let layout = layout(4, 16);
    let inputs = inputs(N, &layout);
    let mut job = Job::new(N);
    job.run(&layout, &fates(Some(1)), &inputs).unwrap().unwrap();
    for me in 1..=N {
        let stored = serde_json::to_vec(job.get(me).journal()).unwrap();
        let journal: Journal = serde_json::from_slice(&stored).unwrap();
        assert_eq!(&journal, job.get(me).journal());
        // Hospital 2 was away: it has opened nothing and agreed to nothing.
        assert_eq!(journal.last_slot, if me == 2 { 0 } else { 1 });
        assert_eq!(journal.round(REPEATED).map(|r| r.survivors.clone()), (me != 2).then(|| vec![1, 3, 4]));
        let restarted = participant(me, &job.directory, journal);
        job.participants.insert(me, restarted);
    }
    job.advance();
    assert_eq!(job.run(&layout, &fates(None), &inputs).unwrap_err(), Reject::RepeatDiffers { stage: 0, round: 0 });
    job.advance();
    assert!(job.run(&layout, &fates(Some(1)), &inputs).unwrap().is_some());
}

#[test]
fn the_journal_is_written_before_the_answer_and_only_with_it() {
    let layout = layout(4, 16);
    let inputs = inputs(N, &layout);
    let mut job = Job::new(N);
    // Everybody agrees, nobody reveals: the record stays, because a later reveal could still come.
    let outcome = job.run(&layout, &[Fate::BeforeReveal; 4], &inputs).unwrap();
    assert!(outcome.is_none());
    assert_eq!(job.get(1).journal().rounds.len(), 1);
    job.advance();
    // Nobody agrees: the slot is noted, the round is not.
    assert!(job.run_round(&layout, 1, &[Fate::BeforeAgree; 4], &inputs).unwrap().is_none());
    assert_eq!((job.get(1).journal().last_slot, job.get(1).journal().rounds.len()), (2, 1));
}

#[test]
fn a_restarted_hospital_has_lost_its_slot_and_joins_the_next() {
    let layout = layout(4, 16);
    let mut job = Job::new(N);
    let opening = job.opening(&layout);
    let mut restarted = participant(1, &job.directory, Journal::default());
    let shares = job.shares_for(1, &opening);
    let lost = Reject::NotMyKey { hospital: 1, slot: 1 };
    assert_eq!(restarted.open(&opening, &layout, &shares).unwrap_err(), lost);
    job.participants.insert(1, restarted);
    job.advance();
    assert!(job.run(&layout, &fates(None), &inputs(N, &layout)).unwrap().is_some());
}

#[test]
fn a_damaged_journal_is_refused() {
    let layout = layout(4, 16);
    let mut job = Job::new(N);
    job.run(&layout, &fates(None), &inputs(N, &layout)).unwrap().unwrap();
    let mut journal = job.get(1).journal().clone();
    journal.rounds.push(journal.rounds[0].clone());
    let new = leben_privacy::Participant::new(common::job_keys(1), 1, job.directory.clone(), 3, journal);
    assert!(matches!(new.unwrap_err(), Reject::Phase(_)));
}
