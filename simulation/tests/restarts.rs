//! The coordinator dies between any two of its actions: the job ends in the same coefficients, and never in a second sum over
//! other hospitals (`World::run` compares the journals of all hospitals, and the sums).
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use std::collections::BTreeMap;

use common::long_deal;
use leben_contracts::agreement::terms::OnDrop;
use leben_coordinator::record::chain_transcript;
use leben_models::Outcome;
use leben_simulation::{Agreement, End, Fault, Sight, Trap, World};

fn outcomes(world: &World) -> Vec<Outcome> {
    let checkpoint = world.coordinator.disk.checkpoint.as_ref().unwrap();
    checkpoint.finished.values().map(|stage| stage.outcome.clone()).collect()
}

#[test]
fn the_same_result_wherever_it_dies() {
    let agreement = Agreement::new(long_deal(4, OnDrop::Continue));
    let mut whole = World::new(7, &agreement);
    assert_eq!(whole.run(), End::Delivered);
    let actions = whole.actions();
    assert!(actions > 100, "{actions}");
    for dies_at in 1..=actions {
        let mut world = World::new(7, &agreement);
        world.coordinator.dies_at.insert(dies_at);
        assert_eq!(world.run(), End::Delivered, "died at {dies_at}: {:#?}", world.story);
        assert_eq!(outcomes(&world), outcomes(&whole), "died at {dies_at}");
        check_receipts(&world, dies_at);
    }
}

/// The receipt names the transcripts of all rounds that made the result, also of those before a restart.
fn check_receipts(world: &World, dies_at: u64) {
    let checkpoint = world.coordinator.disk.checkpoint.as_ref().unwrap();
    for (stage, finished) in &checkpoint.finished {
        let of_stage = world.truth.sums.iter().filter(|sum| sum.round_id.stage == *stage);
        // Where a round's sum was opened twice, the second one is what the next round was made of.
        let slots: BTreeMap<u32, u64> = of_stage.map(|sum| (sum.round_id.round, sum.slot)).collect();
        assert_eq!(slots.len(), finished.rounds as usize);
        let transcripts = slots.values().map(|slot| &world.truth.transcripts[slot]);
        let chain = transcripts.fold(String::new(), |chain, transcript| chain_transcript(&chain, transcript));
        assert_eq!(finished.transcripts, chain, "died at {dies_at}, stage {stage}");
    }
    let [first, second] = [1, 2].map(|stage| &checkpoint.finished[&stage]);
    assert_eq!(first.started_from.len(), 64);
    assert_ne!(first.started_from, second.started_from);
}

#[test]
fn after_a_close_the_sum_is_over_the_same_hospitals_or_none() {
    // Hospital 2 is lost right after the close was remembered and the coordinator dies: the others may not be summed alone.
    let agreement = Agreement::new(long_deal(5, OnDrop::Continue));
    let mut ends = [0, 0];
    for seed in 1..=12 {
        let mut world = World::new(seed, &agreement);
        let lost = Fault::Cut { seat: 2, down_ms: if seed % 2 == 0 { None } else { Some(20_000) } };
        for fault in [lost, Fault::RestartCoordinator { down_ms: 1000 }] {
            world.traps.push(Trap { seat: 3, sight: Sight::Agree, nth: 1, before: true, fault });
        }
        match world.run() {
            End::Delivered => ends[0] += 1,
            End::Aborted { reason } => {
                assert!(reason.contains("hospital-002"), "{reason}");
                ends[1] += 1;
            }
            End::Expired => panic!("seed {seed}: {:#?}", world.story),
        }
        assert!(world.truth.sums.first().is_none_or(|sum| sum.survivors == [1, 2, 3, 4, 5]), "seed {seed}");
    }
    assert_eq!(ends, [6, 6], "with hospital 2 back it goes on, without it the job is given up");
}

#[test]
fn who_was_left_out_of_a_close_stays_left_out_when_it_is_back() {
    let agreement = Agreement::new(long_deal(5, OnDrop::Continue));
    for seed in 1..=6 {
        let mut world = World::new(seed, &agreement);
        world.traps.push(Trap::cut_before(2, Sight::Open, Some(25_000)));
        let fault = Fault::RestartCoordinator { down_ms: 20_000 };
        world.traps.push(Trap { seat: 3, sight: Sight::Agree, nth: 1, before: true, fault });
        assert_eq!(world.run(), End::Delivered, "seed {seed}: {:#?}", world.story);
        assert_eq!(world.truth.sums[0].survivors, [1, 3, 4, 5], "seed {seed}");
        assert!(world.truth.sums[0].slot > 1, "seed {seed}");
        assert_eq!(world.truth.sums.last().unwrap().survivors, [1, 2, 3, 4, 5], "seed {seed}");
    }
}
