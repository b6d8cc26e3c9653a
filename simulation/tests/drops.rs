//! A hospital's link is cut at every boundary between two phases of a slot: the round ends in the exact sum of those who took
//! part, or is repeated, as the contract says. `World::run` checks every sum, bit for bit.

mod common;

use common::{deal, long_deal, survivors};
use leben_contracts::agreement::terms::OnDrop;
use leben_simulation::{Agreement, End, Fault, Sight, Trap, World};

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
    let agreement = Agreement::new(long_deal(5, OnDrop::Continue));
    for seed in 1..6 {
        let mut world = World::new(seed, &agreement);
        world.weather.compute_ms_max = 4_000;
        world.traps.push(cut(Sight::Open, false, Some(16_000)));
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
