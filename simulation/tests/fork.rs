//! A coordinator that forks its log is caught as soon as one view crosses over, whatever the sizes; and one that lets none cross is
//! named for its silence.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that panics has failed")]

use leben_simulation::fork::{Forked, STEP_MS};
use leben_worker::gossip::SILENT_MS;

/// Two groups, with these entries more on each side than they share.
fn forked(seed: u64, more: (usize, usize)) -> Forked {
    let mut forked = Forked::new(4, seed);
    let (shared, _) = forked.sizes();
    assert!(forked.members.iter().all(|member| member.certified_size() == shared), "one history, final for all");
    assert!(forked.proofs().is_empty());
    forked.divide(&[3, 4]);
    (0..more.0).for_each(|n| forked.write(0, &format!("for the first group {n}")));
    (0..more.1).for_each(|n| forked.write(1, &format!("for the second group {n}")));
    assert_eq!(forked.sizes(), (shared + more.0 as u64, shared + more.1 as u64));
    forked
}

#[test]
fn through_the_relay_every_hospital_proves_it_and_signs_nothing_more() {
    for (seed, more) in [(1, 1), (2, 2), (1, 3), (5, 2), (7, 1)].into_iter().enumerate() {
        let mut forked = forked(seed as u64, more);
        forked.pass(40);
        let proofs = forked.proofs();
        assert_eq!(proofs.len(), 4, "{more:?}: {:?}", forked.members.iter().map(|m| &m.audit).collect::<Vec<_>>());
        let held: Vec<_> = forked.members.iter().map(|member| member.holds()).collect();
        forked.write(0, "later");
        forked.write(1, "later too");
        forked.pass(5);
        assert!(forked.members.iter().zip(held).all(|(member, before)| member.holds() == before), "nothing is signed");
        assert!(forked.members.iter().all(|member| member.halted().is_some()));
    }
}

#[test]
fn one_history_that_only_some_have_seen_all_of_is_no_fork() {
    for seed in 1..=5 {
        let mut forked = Forked::new(4, seed);
        // The second group is cut off: its copy stands still while the first grows.
        forked.divide(&[3, 4]);
        (0..5).for_each(|n| forked.write(0, &format!("{n}")));
        forked.pass(60);
        assert!(forked.proofs().is_empty(), "seed {seed}");
        assert!(forked.members.iter().all(|member| member.halted().is_none()));
        // Two who have been sent nothing for a quarter of an hour hear that others have seen more.
        let worries = forked.members[2].worries(forked.now_ms());
        assert!(worries.iter().any(|worry| worry.contains("another history")), "{worries:?}");
    }
}

#[test]
fn a_coordinator_that_passes_nothing_on_is_caught_directly() {
    for more in [(2, 2), (1, 4)] {
        let mut forked = forked(9, more);
        forked.relays = false;
        forked.reachable = true;
        // One hospital of the first group can reach one of the second.
        forked.members[0].configure_gossip(vec!["http://hospital-003".into()]);
        forked.pass(40);
        // What the other has seen is larger than its own copy in the second case: it waits until the copy has grown to it.
        (more.0..more.1).for_each(|n| forked.write(0, &format!("growing {n}")));
        assert_eq!(forked.proofs().len(), 1, "{more:?}");
        assert!(forked.members[0].halted().is_some());
        // From there it spreads to whoever asks, as soon as anything passes.
        forked.relays = true;
        forked.pass(40);
        assert_eq!(forked.proofs().len(), 4);
    }
}

#[test]
fn silence_is_named() {
    let mut forked = forked(3, (2, 2));
    forked.relays = false;
    forked.pass(usize::try_from(SILENT_MS / STEP_MS).unwrap() + 2);
    assert!(forked.proofs().is_empty());
    for member in &forked.members {
        let worries = member.worries(forked.now_ms());
        assert_eq!(
            worries.iter().filter(|worry| worry.contains("has not been heard for 6 hours")).count(),
            3,
            "{worries:?}"
        );
    }
}
