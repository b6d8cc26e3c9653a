//! The privacy budget alone: never above its limit, never less than what left, whatever order things happen in and
//! wherever a crash falls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use leben_contracts::agreement::hash::Hash32;
use leben_privacy::dp::Sampling;
use leben_privacy::dp::guarantee::{NoisySegment, Release, Unit, guarantee};
use leben_worker::budget::{Ask, Budget, BudgetError, Budgets, Limits, Standing};
use leben_worker::declared::{Dataset, Declared, Floors, LocalPolicy};
use leben_worker::io::budgets::{load, store};
use leben_worker::io::store::DiskError;
use proptest::prelude::*;
use support::*;

const LIMITS: Limits =
    Limits { patients_min: 100, epsilon_micro: 3_000_000, delta_e12: 1_000_000, job_epsilon_micro: 2_000_000 };

fn release(sigma: f64, rounds: u64) -> Release {
    Release {
        segments: vec![NoisySegment { sigma: sigma * 1000.0, l2: 1000.0, dim: 3 }],
        unit: Unit::Patient,
        honest: 1,
        corrupt: 1,
        hospitals: 3,
        sampling: Sampling::All,
        rounds,
        per_round: 1,
    }
}

fn ask(contract: u8, epsilon_micro: u64, sigma: f64, rounds: u64) -> Ask {
    Ask {
        contract: Hash32([contract; 32]),
        terms_hash: hash("terms"),
        epsilon_micro,
        stages: BTreeMap::from([(1, vec![release(sigma, rounds)])]),
    }
}

fn budget() -> Budget {
    Budget::genesis(code("heart"), &LIMITS).unwrap()
}

#[test]
fn of_two_jobs_that_race_for_the_last_of_it_one_gets_it() {
    for first in [1, 2] {
        let mut budget = budget();
        budget.reserve(&ask(first, 2_000_000, 12.0, 4)).unwrap();
        let before = budget.clone();
        let late = budget.reserve(&ask(3 - first, 2_000_000, 12.0, 4));
        assert_eq!(late, Err(BudgetError::Left { asked_micro: 2_000_000, left_micro: 1_000_000 }));
        assert_eq!(budget, before, "a refusal changes nothing");
        assert_eq!(budget.reserve(&ask(first, 2_000_000, 12.0, 4)), Err(BudgetError::Known));
        budget.close(&Hash32([first; 32]), 0).unwrap();
        assert_eq!(budget.job(&Hash32([first; 32])).unwrap().standing, Standing::Released);
        budget.reserve(&ask(3 - first, 2_000_000, 12.0, 4)).unwrap();
    }
}

#[test]
fn a_job_that_promises_little_and_releases_much_does_not_fit() {
    let refused = budget().reserve(&ask(1, 10, 0.5, 50)).unwrap_err();
    assert!(matches!(refused, BudgetError::Dp(_)), "{refused}");
}

#[test]
fn rounds_count_once_and_only_while_the_job_is_held() {
    let (mut budget, id) = (budget(), Hash32([1; 32]));
    assert_eq!(budget.count(&id, 1, 1), Err(BudgetError::NotHeld));
    budget.reserve(&ask(1, 1_000_000, 12.0, 3)).unwrap();
    assert_eq!(budget.count(&id, 2, 1), Err(BudgetError::NotHeld), "nothing was reserved for that stage");
    assert_eq!((budget.count(&id, 1, 1), budget.count(&id, 1, 1)), (Ok(true), Ok(false)), "tried again");
    let one = budget.released_micro();
    assert_eq!(budget.count(&id, 1, 3), Ok(true), "a round that was skipped is counted with the next");
    assert!(budget.released_micro() > one);
    budget.check().unwrap();
    let released = budget.released_micro();
    budget.close(&id, 700_000).unwrap();
    assert_eq!((budget.booked_micro(), budget.released_micro()), (700_000, released), "what left stays counted");
    assert_eq!(budget.count(&id, 1, 4), Err(BudgetError::NotHeld));
    assert_eq!(budget.reserve(&ask(1, 1_000_000, 12.0, 3)), Err(BudgetError::Known), "a contract spends once");
}

#[derive(Clone, Debug)]
enum Op {
    Reserve(u8),
    /// Counted, and then it leaves, unless a crash comes between.
    Round {
        job: u8,
        crash: bool,
    },
    Close(u8),
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        (0..4u8).prop_map(Op::Reserve),
        (0..4u8, any::<bool>()).prop_map(|(job, crash)| Op::Round { job, crash }),
        (0..4u8).prop_map(Op::Close),
        Just(Op::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn no_interleaving_of_jobs_crashes_and_restarts_gets_beyond_the_limit(
        ops in prop::collection::vec(op(), 1..40),
        sizes in prop::collection::vec((2..16u8, 1..6u64, 1..25u64), 4),
    ) {
        let asks: Vec<Ask> = (0u8..).zip(&sizes)
            .map(|(job, (sigma, rounds, tenths))| ask(job, tenths * 100_000, f64::from(*sigma), *rounds))
            .collect();
        let mut disk = serde_json::to_vec(&budget()).unwrap();
        let mut live = budget();
        // What really left, by job: the truth that no counting may fall short of.
        let mut left = [0u64; 4];
        for op in ops {
            let before = live.clone();
            match &op {
                Op::Reserve(job) => drop(live.reserve(&asks[usize::from(*job)])),
                Op::Round { job, crash } => {
                    let (job, most) = (usize::from(*job), sizes[usize::from(*job)].1);
                    let next = left[job] + 1;
                    if next <= most && live.count(&asks[job].contract, 1, u32::try_from(next).unwrap()).is_ok() && !crash {
                        left[job] = next;
                    }
                }
                Op::Close(job) => {
                    let epsilon_micro = if left[usize::from(*job)] > 0 { asks[usize::from(*job)].epsilon_micro } else { 0 };
                    drop(live.close(&asks[usize::from(*job)].contract, epsilon_micro));
                }
                Op::Restart => live = serde_json::from_slice(&disk).unwrap(),
            }
            prop_assert!(live.generation() >= before.generation());
            prop_assert!(live == before || live.generation() > before.generation());
            disk = serde_json::to_vec(&live).unwrap();
            live.check().unwrap();
            prop_assert!(live.booked_micro() <= live.limit_micro());
            let released: Vec<Release> = asks.iter().zip(left).filter(|(_, rounds)| *rounds > 0)
                .map(|(ask, rounds)| ask.stages[&1][0].after(rounds)).collect();
            for (ask, rounds) in asks.iter().zip(left) {
                let counted = live.job(&ask.contract).map_or(0, |job| u64::from(job.rounds(1)));
                prop_assert!(counted >= rounds, "{counted} rounds are counted, {rounds} left");
            }
            if !released.is_empty() {
                // The accountant of jobs, which knows nothing of the filter.
                let all = guarantee(&released, 1e-6).unwrap();
                prop_assert!(all.epsilon_micro <= live.limit_micro(), "{all:?}");
            }
        }
    }
}

/// A life of a budget, state by state.
fn life() -> Vec<Budget> {
    let mut states = vec![budget()];
    let mut push = |change: &dyn Fn(&mut Budget)| {
        let mut next = states.last().unwrap().clone();
        change(&mut next);
        states.push(next);
    };
    let (one, two) = (Hash32([1; 32]), Hash32([2; 32]));
    push(&|b| b.reserve(&ask(1, 1_000_000, 12.0, 3)).unwrap());
    push(&|b| assert!(b.count(&one, 1, 1).unwrap()));
    push(&|b| b.reserve(&ask(2, 2_000_000, 12.0, 3)).unwrap());
    push(&|b| assert!(b.count(&one, 1, 2).unwrap()));
    push(&|b| b.close(&two, 0).unwrap());
    push(&|b| b.close(&one, 800_000).unwrap());
    states
}

#[test]
fn at_every_byte_of_every_write_a_crash_leaves_the_state_before_or_the_one_after() {
    let states = life();
    for (at, pair) in states.windows(2).enumerate() {
        let [before, after] = pair else { unreachable!() };
        let bytes = serde_json::to_vec(after).unwrap();
        let folder = tempfile::tempdir().unwrap();
        store(folder.path(), before).unwrap();
        let next = folder.path().join("budget/heart.json.tmp");
        for cut in 0..=bytes.len() {
            // As far as the writer came before the rename.
            fs::write(&next, &bytes[..cut]).unwrap();
            assert_eq!(load(folder.path()).unwrap(), std::slice::from_ref(before), "write {at}, byte {cut}");
        }
        for cut in [0, 1, bytes.len() / 2, bytes.len()] {
            let folder = tempfile::tempdir().unwrap();
            store(folder.path(), before).unwrap();
            fs::write(folder.path().join("budget/heart.json.tmp"), &bytes[..cut]).unwrap();
            store(folder.path(), after).unwrap();
            assert_eq!(load(folder.path()).unwrap(), std::slice::from_ref(after), "and it goes on from there");
        }
    }
}

#[test]
fn an_older_state_never_replaces_a_newer_one_and_a_damaged_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let states = life();
    store(folder.path(), &states[4]).unwrap();
    for older in &states[..4] {
        let error = store(folder.path(), older).unwrap_err();
        assert!(matches!(error, DiskError::Damaged { .. }) && error.to_string().contains("generation"), "{error}");
    }
    let path = folder.path().join("budget/heart.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"steps_spent\":2"));
    fs::write(&path, text.replace("\"steps_spent\":2", "\"steps_spent\":1")).unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().contains("rounds of a job"));
    fs::rename(&path, folder.path().join("budget/lungs.json")).unwrap();
    fs::write(folder.path().join("budget/lungs.json"), text).unwrap();
    assert!(load(folder.path()).unwrap_err().to_string().contains("the budget of 'heart'"));
}

#[test]
fn the_limits_are_for_life() {
    let declared = |limits| {
        let dataset = Dataset { budget: Some(limits), ..dataset() };
        Declared::new(vec![dataset], Arc::new(|_, _| Ok(())), LocalPolicy::new(false, Floors::NONE))
    };
    let stored = vec![budget()];
    assert!(Budgets::open(&declared(LIMITS), stored.clone()).is_ok());
    assert!(Budgets::open(&declared(Limits { job_epsilon_micro: 1, ..LIMITS }), stored.clone()).is_ok());
    let more = Limits { epsilon_micro: 20_000_000, ..LIMITS };
    let refused = Budgets::open(&declared(more), stored).unwrap_err();
    assert!(refused.contains("epsilon 3, delta 1e-6, 100 patients"), "{refused}");
}
