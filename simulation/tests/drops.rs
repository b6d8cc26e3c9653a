//! A hospital's link is cut at every boundary between two phases of a slot: the round ends in the exact sum of those who took
//! part, or is repeated, as the contract says. `World::run` checks every sum, bit for bit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use common::{deal, long_deal, survivors};
use leben_contracts::agreement::terms::OnDrop;
use leben_simulation::{Agreement, Deal, End, Fault, Sight, Trap, World};

/// Every boundary, and whether the vector is complete by then.
const MOMENTS: [(Sight, bool, bool); 9] = [
    (Sight::Open, true, false),
    (Sight::Open, false, false),
    (Sight::Chunk, false, false),
    (Sight::Trailer, true, false),
    (Sight::Trailer, false, true),
    (Sight::Close, true, true),
    (Sight::Agree, false, true),
    (Sight::Agreement, true, true),
    (Sight::Reveal, true, true),
];

fn cut(sight: Sight, before: bool, down_ms: Option<u64>) -> Trap {
    Trap { seat: 2, sight, nth: 1, before, fault: Fault::Cut { seat: 2, down_ms } }
}

#[test]
fn a_short_cut_costs_nobody_the_round() {
    for on_drop in [OnDrop::Continue, OnDrop::Repeat] {
        let agreement = Agreement::new(deal(5, on_drop));
        for (seed, (sight, before, _)) in (1..).zip(MOMENTS) {
            let mut world = World::new(seed, &agreement);
            world.traps.push(cut(sight, before, Some(1000)));
            assert_eq!(world.run(), End::Delivered, "{sight:?}");
            assert!(world.traps.is_empty(), "{sight:?} was never seen");
            assert!(survivors(&world).iter().all(|seats| *seats == [1, 2, 3, 4, 5]), "{sight:?}: {:#?}", world.story);
        }
    }
}

#[test]
fn a_hospital_that_never_comes_back_is_left_out_of_the_sum_unless_its_vector_was_complete() {
    let agreement = Agreement::new(deal(5, OnDrop::Continue));
    for (seed, (sight, before, complete)) in (1..).zip(MOMENTS) {
        let mut world = World::new(seed, &agreement);
        world.traps.push(cut(sight, before, None));
        assert_eq!(world.run(), End::Delivered, "{sight:?}");
        let sums = survivors(&world);
        let first: &[u16] = if complete { &[1, 2, 3, 4, 5] } else { &[1, 3, 4, 5] };
        assert_eq!(sums[0], first, "{sight:?}");
        assert_eq!(world.truth.sums[0].slot, 1, "{sight:?}: the round was not repeated");
        assert!(sums[1..].iter().all(|seats| *seats == [1, 3, 4, 5]), "{sight:?}");
    }
}

#[test]
fn where_the_contract_says_so_the_round_is_repeated() {
    let agreement = Agreement::new(deal(5, OnDrop::Repeat));
    for (seed, (sight, before, complete)) in (1..).zip(MOMENTS) {
        // Longer than a hospital may be away, shorter than the patience with a slot to come.
        let mut world = World::new(seed, &agreement);
        world.traps.push(cut(sight, before, Some(30_000)));
        assert_eq!(world.run(), End::Delivered, "{sight:?}");
        let slot = world.truth.sums[0].slot;
        assert_eq!(slot > 1, !complete, "{sight:?}: slot {slot}\n{:#?}", world.story);
        assert!(survivors(&world).iter().all(|seats| *seats == [1, 2, 3, 4, 5]), "{sight:?}: {:#?}", world.story);
    }
}

#[test]
fn too_few_hospitals_end_in_an_abort_with_a_reason_and_nothing_is_opened() {
    let agreement = Agreement::new(deal(4, OnDrop::Continue));
    for (seed, (sight, before, complete)) in (1..).zip(MOMENTS) {
        let mut world = World::new(seed, &agreement);
        for seat in [2, 3] {
            world.traps.push(Trap { seat, sight, nth: 1, before, fault: Fault::Cut { seat, down_ms: None } });
        }
        let End::Aborted { reason } = world.run() else { panic!("{sight:?}: {:#?}", world.story) };
        assert!(reason.contains("hospital-002") || reason.contains("shares"), "{sight:?}: {reason}");
        assert!(complete || world.truth.sums.is_empty());
    }
}

#[test]
fn a_hospital_that_missed_a_slot_is_in_a_later_one() {
    let agreement = Agreement::new(Deal { away_ms_max: 3_000, ..long_deal(5, OnDrop::Continue) });
    for seed in 1..6 {
        let mut world = World::new(seed, &agreement);
        world.weather.compute_ms_max = 4_000;
        world.traps.push(cut(Sight::Open, false, Some(9_000)));
        assert_eq!(world.run(), End::Delivered);
        let sums = survivors(&world);
        assert_eq!(sums[0], [1, 3, 4, 5], "seed {seed}");
        assert_eq!(sums.last().unwrap(), &[1, 2, 3, 4, 5], "seed {seed}: {:#?}", world.story);
    }
}

#[test]
fn a_hospital_that_lost_its_secrets_stands_by_until_the_next_slot() {
    let agreement = Agreement::new(long_deal(5, OnDrop::Continue));
    for (seed, (sight, before, complete)) in (1..).zip(MOMENTS) {
        let mut world = World::new(seed, &agreement);
        let fault = Fault::RestartHospital { seat: 2, down_ms: 1000 };
        world.traps.push(Trap { seat: 2, sight, nth: 1, before, fault });
        assert_eq!(world.run(), End::Delivered, "{sight:?}");
        let sums = survivors(&world);
        let first: &[u16] = if complete { &[1, 2, 3, 4, 5] } else { &[1, 3, 4, 5] };
        assert_eq!(sums[0], first, "{sight:?}: {:#?}", world.story);
        assert_eq!(world.truth.sums[0].slot, 1);
        assert_eq!(sums.last().unwrap(), &[1, 2, 3, 4, 5], "{sight:?}: {:#?}", world.story);
    }
}

#[test]
fn a_contract_that_repeats_goes_on_in_the_end_without_a_hospital_that_never_comes_back() {
    let agreement = Agreement::new(deal(5, OnDrop::Repeat));
    for (seed, (sight, before, complete)) in (1..).zip(MOMENTS) {
        let mut world = World::new(seed, &agreement);
        world.traps.push(cut(sight, before, None));
        assert_eq!(world.run(), End::Delivered, "{sight:?}: {:#?}", world.story);
        assert_eq!(world.truth.sums[0].slot > 1, !complete, "{sight:?}");
        assert_eq!(survivors(&world).last().unwrap(), &[1, 3, 4, 5], "{sight:?}");
    }
}

#[test]
fn slow_is_not_lost() {
    // Each message takes up to 12 s and the local half up to 30 s; a hospital may be silent for 60 s.
    let agreement = Agreement::new(long_deal(5, OnDrop::Continue));
    for seed in 1..30 {
        let mut world = World::new(seed, &agreement);
        (world.weather.delay_ms_max, world.weather.compute_ms_max) = (12_000, 30_000);
        assert_eq!(world.run(), End::Delivered, "seed {seed}");
        assert!(survivors(&world).iter().all(|seats| seats.len() == 5), "seed {seed}: {:#?}", world.story);
    }
}

#[test]
fn hospitals_that_are_silent_for_too_long_are_lost_one_after_the_other() {
    // Nobody's link is cut: the local half simply takes too long for some of them.
    let agreement = Agreement::new(deal(7, OnDrop::Continue));
    for seed in 1..10 {
        let mut world = World::new(seed, &agreement);
        (world.weather.delay_ms_max, world.weather.compute_ms_max) = (3_000, 90_000);
        assert_ne!(world.run(), End::Expired, "seed {seed}: {:#?}", world.story);
    }
}

#[test]
fn a_restart_between_upload_and_close_does_not_hold_up_the_next_slot() {
    // The key for slot 2 rode on the vector for slot 1, and its secrets died with the process.
    for on_drop in [OnDrop::Continue, OnDrop::Repeat] {
        let agreement = Agreement::new(long_deal(5, on_drop));
        for seed in 1..6 {
            let mut world = World::new(seed, &agreement);
            world.weather.compute_ms_max = 10_000;
            let fault = Fault::RestartHospital { seat: 2, down_ms: 100 };
            world.traps.push(Trap { seat: 2, sight: Sight::Trailer, nth: 1, before: false, fault });
            assert_eq!(world.run(), End::Delivered);
            let last_ms: u64 = world.story.last().unwrap().split_whitespace().next().unwrap().parse().unwrap();
            assert!(last_ms < 60_000, "seed {seed}, {on_drop:?}: {last_ms} ms: {:#?}", world.story);
            assert_eq!(survivors(&world).last().unwrap(), &[1, 2, 3, 4, 5], "seed {seed}, {on_drop:?}");
        }
    }
}

#[test]
fn with_a_low_threshold_and_no_ledger_that_holds_the_close_nothing_is_opened() {
    let agreement = Agreement::new(Deal { threshold: 3, hospitals_min: 3, ..deal(5, OnDrop::Continue) });
    let mut world = World::new(1, &agreement);
    assert!(matches!(world.run(), End::Aborted { .. }));
    assert!(world.truth.sums.is_empty());
}

#[test]
fn a_fit_converges_though_a_hospital_was_left_out_of_one_of_its_rounds() {
    let agreement = Agreement::new(long_deal(5, OnDrop::Continue));
    for (seed, nth) in [3, 4, 5, 6].into_iter().flat_map(|nth| (1..4).map(move |seed| (seed, nth))) {
        let mut world = World::new(seed, &agreement);
        let fault = Fault::RestartHospital { seat: 2, down_ms: 100 };
        world.traps.push(Trap { seat: 2, sight: Sight::Open, nth, before: false, fault });
        assert_eq!(world.run(), End::Delivered, "seed {seed}, opening {nth}: {:?}", survivors(&world));
    }
}
