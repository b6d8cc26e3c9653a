//! The lifetime budget: no sequence of reservations, spends and closes gets beyond it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use leben_privacy::dp::filter::Filter;
use leben_privacy::dp::rdp::{self, Curve};
use leben_privacy::dp::{DpError, Sampling, default_delta, gaussian};
use proptest::prelude::*;

const LIMIT: u64 = 10_000_000;
const DELTA: u64 = 1_000_000;

fn budget() -> Filter {
    Filter::genesis(LIMIT, DELTA, Filter::default_orders(LIMIT, DELTA).unwrap()).unwrap()
}

fn gauss(filter: &Filter, z: f64) -> Curve {
    rdp::gaussian(&filter.orders().unwrap(), z, Sampling::All).unwrap()
}

#[test]
fn defaults_are_those_of_the_design() {
    assert_eq!(default_delta(0), 1e-6);
    assert_eq!(default_delta(1000), 1e-6);
    assert_eq!(default_delta(1_000_000), 1e-7);
}

#[test]
fn a_job_that_fits_is_held_spent_and_closed() {
    let mut filter = budget();
    let curve = gauss(&filter, 5.0);
    filter.reserve("job", &curve, 10).unwrap();
    assert_eq!(filter.epsilon_spent_micro(), 0);
    assert!(filter.epsilon_counted_micro() > 0);
    filter.spend("job", 4).unwrap();
    assert_eq!(filter.reservation("job"), Some((10, 4)));
    let spent = filter.epsilon_spent_micro();
    assert_eq!(filter.spend("job", 7), Err(DpError::StepsExceeded { steps: 7, left: 6 }));
    assert_eq!(filter.close("job"), Ok(4));
    assert_eq!((filter.epsilon_spent_micro(), filter.epsilon_counted_micro()), (spent, spent));
    assert_eq!(filter.close("job"), Err(DpError::NoReservation));
    assert_eq!(filter.spend("job", 1), Err(DpError::NoReservation));
    // The filter's figure is an upper bound of the truth: four Gaussians at the lifetime's delta.
    let truth = gaussian::epsilon(5.0 / 2.0, filter.delta()).unwrap();
    assert!(spent as f64 * 1e-6 >= truth);
}

#[test]
fn what_never_ran_is_free_again_and_two_jobs_cannot_both_have_the_last_of_it() {
    let mut filter = budget();
    let curve = gauss(&filter, 1.0);
    filter.reserve("a", &curve, 1).unwrap();
    let untouched = filter.clone();
    let mut last = 0;
    for i in 0.. {
        if filter.reserve(&format!("fill {i}"), &curve, 1) == Err(DpError::BudgetExceeded) {
            break;
        }
        last = i;
    }
    let full = filter.clone();
    assert_eq!(filter.reserve("b", &curve, 1), Err(DpError::BudgetExceeded));
    assert_eq!(filter, full, "a refusal changes nothing");
    assert_eq!(filter.close(&format!("fill {last}")), Ok(0));
    filter.reserve("b", &curve, 1).unwrap();
    assert_eq!(filter.reserve("b", &curve, 1), Err(DpError::ReservationExists));
    assert!(full.generation() > untouched.generation());
}

#[test]
fn sums_of_steps_are_not_rounded_step_by_step() {
    let mut filter = budget();
    let orders = filter.orders().unwrap();
    // A hundred thousand steps of a ten-millionth each at every order.
    let curve = Curve::of(&orders, |_| 1e-8);
    filter.reserve("small", &curve, 100_000).unwrap();
    filter.spend("small", 50_000).unwrap();
    filter.close("small").unwrap();
    let json = serde_json::to_value(&filter).unwrap();
    let closed: Vec<u64> = serde_json::from_value(json["closed_micro"].clone()).unwrap();
    assert!(closed.iter().all(|c| (500..=502).contains(c)), "{closed:?}");
}

#[test]
fn a_stored_state_reads_back_and_a_forged_one_is_refused() {
    let mut filter = budget();
    let curve = gauss(&filter, 5.0);
    filter.reserve("a", &curve, 10).unwrap();
    let text = serde_json::to_string(&filter).unwrap();
    let back: Filter = serde_json::from_str(&text).unwrap();
    assert_eq!((back.check(), &back), (Ok(()), &filter));
    assert!(!text.contains('.'), "integers only: {text}");
    let forged = |from: &str, to: &str| {
        assert!(text.contains(from), "{from} in {text}");
        serde_json::from_str::<Filter>(&text.replace(from, to)).map(|f| f.check())
    };
    assert!(matches!(forged("\"steps\":10", "\"steps\":0"), Ok(Err(DpError::State(_)))));
    assert!(matches!(forged("\"steps_spent\":0", "\"steps_spent\":11"), Ok(Err(DpError::State(_)))));
    assert!(matches!(forged("\"epsilon_micro\":10000000", "\"epsilon_micro\":3000000"), Ok(Err(DpError::State(_)))));
    assert!(matches!(forged("\"epsilon_micro\":10000000", "\"epsilon_micro\":0"), Ok(Err(DpError::Epsilon(_)))));
    assert!(matches!(forged("\"closed_micro\":[0,0,0]", "\"closed_micro\":[0,0]"), Ok(Err(DpError::State(_)))));
    assert!(forged("\"generation\"", "\"other\"").is_err());
}

#[test]
fn budgets_that_make_no_sense_are_refused() {
    for (epsilon, delta) in [(0, DELTA), (2_000_000_000, DELTA)] {
        assert!(matches!(Filter::genesis(epsilon, delta, vec![4000]), Err(DpError::Epsilon(_))));
    }
    for delta in [0, 1_000_000_000_000, u64::MAX] {
        assert!(matches!(Filter::genesis(LIMIT, delta, vec![4000]), Err(DpError::Delta(_))));
    }
    for orders in [vec![], vec![4000, 4000], vec![5000, 4000], (2000..2017).collect()] {
        assert_eq!(Filter::genesis(LIMIT, DELTA, orders), Err(DpError::Orders));
    }
    assert!(matches!(Filter::genesis(LIMIT, DELTA, vec![1000]), Err(DpError::Order(_))));
    assert!(matches!(Filter::genesis(100_000, 1, vec![2000]), Err(DpError::NoEpsilon(_))));
    let mut filter = budget();
    let other = Curve::zero(&rdp::Orders::new(vec![2.0]).unwrap());
    assert_eq!(filter.reserve("x", &other, 1), Err(DpError::OrdersDiffer));
    let curve = gauss(&filter, 5.0);
    assert!(matches!(filter.reserve("x", &curve, 0), Err(DpError::Nothing(_))));
    let endless = Curve::of(&filter.orders().unwrap(), |_| f64::INFINITY);
    assert_eq!(filter.reserve("x", &endless, 1), Err(DpError::BudgetExceeded));
}

#[derive(Debug, Clone)]
enum Act {
    Reserve { z: f64, q: f64, steps: u64 },
    Spend { which: usize, steps: u64 },
    Close { which: usize },
}

fn act() -> impl Strategy<Value = Act> {
    let reserve = (0.4f64..20.0, prop_oneof![Just(1.0), 0.001f64..0.5], 1u64..300)
        .prop_map(|(z, q, steps)| Act::Reserve { z, q, steps });
    prop_oneof![
        2 => reserve,
        2 => (0usize..8, 1u64..300).prop_map(|(which, steps)| Act::Spend { which, steps }),
        1 => (0usize..8).prop_map(|which| Act::Close { which }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// An adversary that chooses each mechanism after seeing everything: the divergences of what was really released,
    /// summed in f64 from the formulas, stay convertible to the limit at one order at least, at all times.
    #[test]
    fn no_adaptive_sequence_gets_beyond_the_limit(acts in prop::collection::vec(act(), 1..60)) {
        let mut filter = budget();
        let orders = filter.orders().unwrap();
        let mut truth = vec![0.0f64; orders.as_slice().len()];
        let mut open: Vec<(String, Curve, u64)> = Vec::new();
        for (i, act) in acts.into_iter().enumerate() {
            let (before, spent_before) = (filter.clone(), filter.epsilon_spent_micro());
            let outcome = match act {
                Act::Reserve { z, q, steps } => {
                    let curve = rdp::gaussian(&orders, z, Sampling::Poisson(q)).unwrap();
                    let id = format!("job {i}");
                    let outcome = filter.reserve(&id, &curve, steps);
                    if outcome.is_ok() {
                        open.push((id, curve, steps));
                    }
                    outcome
                }
                Act::Spend { which, steps } if !open.is_empty() => {
                    let at = which % open.len();
                    let (id, curve, left) = &mut open[at];
                    let outcome = filter.spend(id, steps);
                    prop_assert_eq!(outcome.is_ok(), steps <= *left);
                    if outcome.is_ok() {
                        *left -= steps;
                        truth.iter_mut().zip(curve.values()).for_each(|(sum, r)| *sum += r * steps as f64);
                    }
                    outcome
                }
                Act::Close { which } if !open.is_empty() => {
                    let (id, _, _) = open.remove(which % open.len());
                    filter.close(&id).map(|_| ())
                }
                _ => continue,
            };
            prop_assert!(outcome.is_ok() || filter == before);
            prop_assert!(filter.check().is_ok());
            prop_assert!(filter.epsilon_spent_micro() >= spent_before, "spending never shrinks");
            // Each order has its share of delta.
            let share = filter.delta() / truth.len() as f64;
            let epsilon = orders.as_slice().iter().zip(&truth).map(|(a, r)| {
                r + (1.0 - 1.0 / a).ln() - (share.ln() + a.ln()) / (a - 1.0)
            }).fold(f64::INFINITY, f64::min);
            prop_assert!(truth.iter().all(|r| *r == 0.0) || epsilon <= LIMIT as f64 * 1e-6);
            let released = if truth[0] == 0.0 { 0.0 } else { epsilon * 1e6 };
            prop_assert!(filter.epsilon_spent_micro() as f64 >= released);
            prop_assert!(filter.epsilon_counted_micro() <= LIMIT);
        }
    }
}
