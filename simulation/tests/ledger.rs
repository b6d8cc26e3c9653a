//! One contract on a ledger that hospitals cosign: proposed, signed, armed, run, delivered, settled; and the same with restarts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use common::long_deal;
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::OnDrop;
use leben_models::Table;
use leben_simulation::dice::Dice;
use leben_simulation::network::Network;
use leben_simulation::world::rows;
use leben_simulation::{Deal, Fault};

fn tables(hospitals: u16) -> Vec<Table> {
    (1..=hospitals).map(|seat| rows(seat, 20 + usize::from(seat))).collect()
}

#[test]
fn from_the_proposal_to_the_settlement() {
    let mut network = Network::new(1, long_deal(4, OnDrop::Continue), tables(4));
    assert_eq!(network.run(), Phase::Settled);
    let contract = network.standing().unwrap();
    assert_eq!(contract.settled.as_ref().unwrap().postings.len(), 5);
    let receipts: Vec<usize> = [1, 2].iter().map(|stage| contract.receipt(*stage).unwrap().hospitals.len()).collect();
    assert_eq!(receipts, [4, 4], "every hospital is in both stages");
    assert!(network.truth.sums.iter().all(|sum| sum.survivors == [1, 2, 3, 4]));
    assert_eq!(network.check_journals(), Ok(()));
}

#[test]
fn it_is_settled_whoever_restarts_on_the_way() {
    for seed in 1..=20 {
        let mut dice = Dice::new(seed, 2);
        let mut network = Network::new(seed, long_deal(4, OnDrop::Continue), tables(4));
        for _ in 0..3 {
            let (seat, down_ms) = (dice.between(1, 4) as u16, dice.between(10, 4_000));
            let fault = match dice.between(1, 3) {
                1 => Fault::Cut { seat, down_ms: Some(down_ms) },
                2 => Fault::RestartHospital { seat, down_ms },
                _ => Fault::RestartCoordinator { down_ms },
            };
            network.plan_fault(dice.between(0, 30_000), fault);
        }
        let end = network.run();
        assert_eq!(end, Phase::Settled, "seed {seed}:\n{}", network.story.join("\n"));
        assert_eq!(network.check_journals(), Ok(()), "seed {seed}");
    }
}

#[test]
fn a_hospital_that_never_publishes_its_keys_is_left_out_of_the_directory() {
    for seed in 1..=3 {
        let mut network = Network::new(seed, long_deal(5, OnDrop::Continue), tables(5));
        network.run_until(|phase| phase == Phase::Signed);
        network.fail_now(&Fault::Cut { seat: 5, down_ms: None });
        assert_eq!(network.run(), Phase::Settled, "seed {seed}");
        let contract = network.standing().unwrap();
        let members: Vec<u16> = contract.directory.as_ref().unwrap().members.iter().map(|m| m.index).collect();
        assert_eq!(members, [1, 2, 3, 4]);
        assert_eq!(contract.receipt(1).unwrap().hospitals.len(), 4);
    }
}

#[test]
fn too_few_keys_end_the_contract_and_the_money_goes_back() {
    let mut network = Network::new(1, long_deal(7, OnDrop::Continue), tables(7));
    network.run_until(|phase| phase == Phase::Signed);
    // Two of seven: five could still make the ledger final and the secure sum needs five, the terms ask for six.
    for seat in [6, 7] {
        network.fail_now(&Fault::Cut { seat, down_ms: None });
    }
    assert_eq!(network.run(), Phase::Settled, "five are enough for threshold 5");
    let mut network = Network::new(1, Deal { hospitals_min: 6, ..long_deal(7, OnDrop::Continue) }, tables(7));
    network.run_until(|phase| phase == Phase::Signed);
    for seat in [6, 7] {
        network.fail_now(&Fault::Cut { seat, down_ms: None });
    }
    assert_eq!(network.run(), Phase::Aborted);
    let contract = network.standing().unwrap();
    assert_eq!(contract.ended.as_ref().unwrap().code.as_ref().unwrap().as_str(), "no-keys");
    let (state, _) = network.log.certain().unwrap();
    assert_eq!(state.credits(&leben_simulation::agreement::id("team")), 5000);
    assert!(network.truth.sums.is_empty());
}

/// A threshold just above half: every round's close is an entry before anything is revealed, and two of five hospitals that are
/// away in the middle of a round do not stop it.
#[test]
fn with_a_low_threshold_every_close_is_on_the_ledger() {
    for seed in 1..=3 {
        let low = Deal { threshold: 3, hospitals_min: 3, away_ms_max: 1_000, ..long_deal(5, OnDrop::Continue) };
        let mut network = Network::new(seed, low, tables(5));
        network.run_until(|phase| phase == Phase::Running);
        for seat in [2, 5] {
            network.fail_now(&Fault::Cut { seat, down_ms: Some(20_000) });
        }
        assert_eq!(network.run(), Phase::Settled, "seed {seed}:\n{}", network.story.join("\n"));
        let sums = &network.truth.sums;
        assert!(sums.iter().any(|sum| sum.survivors == [1, 3, 4]), "seed {seed}: {sums:?}");
        let closes = network.story.iter().filter(|line| line.contains("coordinator: RoundClose is entry")).count();
        assert!(closes >= sums.len() && !sums.is_empty(), "seed {seed}: {closes} closes for {} sums", sums.len());
        assert_eq!(network.check_journals(), Ok(()), "seed {seed}");
    }
    // With the usual threshold the signatures are enough, and no round costs an entry.
    let mut network = Network::new(1, long_deal(5, OnDrop::Continue), tables(5));
    assert_eq!(network.run(), Phase::Settled);
    assert!(!network.story.iter().any(|line| line.contains("RoundClose")));
}

/// A hospital's file was another one, and is put back: that costs repeats of the round, and nobody leaves.
#[test]
fn a_file_that_is_put_back_costs_a_repeat_and_not_the_hospital() {
    for seed in 1..=3 {
        let mut network = Network::new(seed, long_deal(4, OnDrop::Repeat), tables(4));
        network.members[1].changed_slots = 2;
        assert_eq!(network.run(), Phase::Settled, "seed {seed}:\n{}", network.story.join("\n"));
        let sums = &network.truth.sums;
        assert_eq!(sums[0].slot, 3, "seed {seed}: two slots were refused");
        assert!(sums.iter().all(|sum| sum.survivors == [1, 2, 3, 4]), "seed {seed}: {sums:?}");
        assert_eq!(network.check_journals(), Ok(()), "seed {seed}");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let digest = |seed| {
        let mut network = Network::new(seed, long_deal(4, OnDrop::Continue), tables(4));
        network.run();
        network.digest()
    };
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}
