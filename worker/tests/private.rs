//! Contracts with a privacy mechanism: what is refused before a row is read, what is held, counted, spent and shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::{Param, Stage, Terms};
use leben_models::registry;
use leben_worker::agent::Action;
use leben_worker::budget::{Budgets, Limits};
use leben_worker::consent::{self, Desk};
use leben_worker::declared::Declared;
use leben_worker::io::cli;
use leben_worker::refusal::{Reason, Refusal};
use support::private::*;
use support::*;

fn review(limits: Option<Limits>, change: impl FnOnce(&mut Terms)) -> Result<(), Refusal> {
    review_by(&open(limits), change)
}

fn review_by(declared: &Declared, change: impl FnOnce(&mut Terms)) -> Result<(), Refusal> {
    let mut net = Net::new();
    net.offer_data("h1");
    let proposed = net.propose(terms());
    let mut terms = private();
    change(&mut terms);
    let terms = terms.with_text_hash();
    let mut contract = net.contract(&proposed).clone();
    contract.terms_hash = terms.hash().unwrap();
    contract.terms = Arc::new(terms);
    let me = id("h1");
    let budgets = Budgets::open(declared, vec![]).unwrap();
    consent::review(&contract, &Desk { me: &me, declared, budgets: &budgets, now_ms: T0 }).map(|_| ())
}

#[test]
fn terms_are_computed_not_believed() {
    assert_eq!(review(Some(LIMITS), |_| {}), Ok(()));
    let reason = |limits, change: &dyn Fn(&mut Terms)| review(limits, |t| change(t)).unwrap_err().reason;
    let plain = |t: &mut Terms| t.algorithms = terms().algorithms;
    let param = |t: &mut Terms, key: &str, value: &str| {
        t.algorithms[0].params.insert(key.into(), Param::Text(value.into()));
    };
    assert_eq!(reason(None, &|_| {}), Reason::NoBudget);
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.mechanism = code("geometric")), Reason::Mechanism);
    assert_eq!(reason(Some(LIMITS), &plain), Reason::NoNoise);
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.epsilon_micro = 500_000), Reason::Guarantee, "promises too much");
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.epsilon_micro = 1_200_001), Reason::JobEpsilon);
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.delta_e12 = 1_000_001), Reason::Delta);
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.delta_e12 = 0), Reason::Guarantee);
    assert_eq!(reason(Some(LIMITS), &|t| t.stages[0].rounds_max = 2), Reason::Guarantee, "noise for one round");
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.mechanism = code("silo")), Reason::Guarantee, "protects patients");
    assert_eq!(reason(Some(LIMITS), &|t| t.privacy.hospitals_min = 2), Reason::Guarantee, "noise of three");
    assert_eq!(reason(Some(LIMITS), &|t| param(t, "sigma", "0.5")), Reason::Guarantee);
    let little = Limits { epsilon_micro: 900_000, ..LIMITS };
    assert_eq!(reason(Some(little), &|_| {}), Reason::Budget);
    let none = |t: &mut Terms| t.privacy = terms().privacy;
    assert_eq!(review(None, none), Ok(()), "noise without a promise is nobody's loss");
    // Of the 123 rows 120 are offered: there may be 129.
    assert_eq!(reason(Some(LIMITS), &|t| t.inputs[0].row_cap = 128), Reason::RowCap);
    assert_eq!(review(Some(LIMITS), |t| t.inputs[0].row_cap = 129), Ok(()));
    assert_eq!(review(None, |t| (t.inputs[0].row_cap, t.privacy) = (50, terms().privacy)), Ok(()), "no promise");
}

/// A second stage, of the same or of other code.
fn add_stage(terms: &mut Terms, algorithm: leben_contracts::agreement::terms::Algorithm) {
    let again = Stage {
        id: 2,
        name: code("again"),
        after: vec![1],
        algorithm: algorithm.id.clone(),
        ..terms.stages[0].clone()
    };
    terms.algorithms.push(algorithm);
    terms.stages.push(again);
}

#[test]
fn a_stage_without_noise_after_a_private_one_is_refused() {
    let plain = |t: &mut Terms| {
        let algorithm = terms().algorithms[0].clone();
        add_stage(t, leben_contracts::agreement::terms::Algorithm { id: code("plain"), ..algorithm });
    };
    let refused = review(Some(LIMITS), plain).unwrap_err();
    assert_eq!(refused.reason, Reason::NoNoise);
    assert!(refused.words.contains("stage 'again' releases its sums without noise"), "{refused}");
    let twice = |t: &mut Terms| {
        let mut algorithm = private().algorithms[0].clone();
        algorithm.params.insert("sigma".into(), Param::Text("5".into()));
        add_stage(t, leben_contracts::agreement::terms::Algorithm { id: code("more"), ..algorithm });
    };
    let refused = review(Some(LIMITS), twice).unwrap_err();
    assert_eq!(refused.reason, Reason::Guarantee, "each keeps the promise, both together do not");
    // A stage that reads nothing of this hospital is not this hospital's to judge.
    let elsewhere = |t: &mut Terms| {
        plain(t);
        t.stages[1].inputs.retain(|input| *input != code("in-h1"));
    };
    assert_eq!(review(Some(LIMITS), elsewhere), Ok(()));
}

#[test]
fn every_local_step_of_a_round_counts() {
    let sgd = |steps: i64| {
        move |t: &mut Terms| {
            let text = |text: &str| Param::Text(text.into());
            let algorithm = &mut t.algorithms[0];
            algorithm.name = code("dp-sgd");
            algorithm.digest = Hash32(registry::digest("dp-sgd", 1).unwrap());
            algorithm.params = BTreeMap::from([
                ("features".into(), text("age,sex")),
                ("outcome".into(), text("target")),
                ("bounds".into(), text("age:18..90,sex:0..1")),
                ("sigma".into(), text("4")),
                ("rate".into(), text("0.2")),
                ("batch".into(), Param::Integer(20)),
                ("rounds".into(), Param::Integer(3)),
                ("steps".into(), Param::Integer(steps)),
                ("epsilon".into(), text("3")),
            ]);
            t.stages[0].rounds_max = 3;
        }
    };
    assert_eq!(review(Some(LIMITS), sgd(1)), Ok(()));
    let refused = review(Some(LIMITS), sgd(20)).unwrap_err();
    assert_eq!(refused.reason, Reason::Guarantee);
    assert!(refused.words.contains("the terms promise epsilon 1"), "{refused}");
}

#[test]
fn a_hospital_may_open_a_data_set_for_private_contracts_only() {
    let mut declared = open(Some(LIMITS));
    let only = leben_worker::declared::Dataset { private_only: true, ..declared.get(&code("heart")).unwrap().clone() };
    declared = Declared::new(vec![only], Arc::new(|_, _| Ok(())), declared.policy.clone());
    declared.set_rows(&code("heart"), 123);
    assert_eq!(review_by(&declared, |_| {}), Ok(()));
    let none = |t: &mut Terms| t.privacy = terms().privacy;
    let refused = review_by(&declared, none).unwrap_err();
    assert_eq!(refused.reason, Reason::NotPrivate);
    assert!(refused.words.contains("'heart'") && refused.words.contains("private_only"), "{refused}");
}

#[test]
fn promises_that_are_no_numbers_a_noise_can_keep_are_refused() {
    // The ledger takes none of these; a hospital does not rest on that.
    let reason = |change: &dyn Fn(&mut Terms)| review(Some(LIMITS), |t| change(t)).unwrap_err().reason;
    let param = |t: &mut Terms, key: &str, value: &str| {
        t.algorithms[0].params.insert(key.into(), Param::Text(value.into()));
    };
    assert_eq!(reason(&|t| t.privacy.epsilon_micro = 0), Reason::Guarantee, "a mechanism that promises nothing left");
    for bad in ["0", "-1", "nan", "inf", "1e999", ""] {
        assert_eq!(reason(&|t| param(t, "sigma", bad)), Reason::AlgorithmParams, "sigma {bad}");
        assert_eq!(reason(&|t| param(t, "epsilon", bad)), Reason::AlgorithmParams, "epsilon {bad}");
    }
    assert_eq!(reason(&|t| param(t, "delta", "0")), Reason::AlgorithmParams);
    let honest =
        |number| move |t: &mut Terms| drop(t.algorithms[0].params.insert("honest".into(), Param::Integer(number)));
    assert_eq!(reason(&honest(0)), Reason::AlgorithmParams, "nobody's noise");
    assert_eq!(reason(&honest(3)), Reason::Guarantee, "three honest and one corrupt of three hospitals");
    assert_eq!(reason(&honest(4)), Reason::Guarantee);
}

#[test]
fn a_budget_is_declared_held_counted_spent_and_shown() {
    let (mut net, mut agent) = agent();
    let actions = net.settle(&mut agent);
    assert_eq!(appended(&actions), ["disk 0", "DatasetOffer", "BudgetGenesis"]);
    let contract = net.propose(private());
    let mut actions = net.settle(&mut agent);
    let disk_before_signature = appended(&actions);
    assert_eq!(disk_before_signature, ["disk 1", "Accept", "BudgetReserve"]);
    let shown = cli::budget_text(&agent.status(net.now_ms));
    assert!(shown.contains("spent 0, held 1, left 0.5") && shown.contains("held: 1 of 1, 0 rounds"), "{shown}");

    // A second contract wants what the first one holds: it is not signed.
    let second = net.propose(
        Terms {
            windows: leben_contracts::agreement::terms::Windows { run_by_ms: T0 + 19 * HOUR, ..private().windows },
            ..private()
        }
        .with_text_hash(),
    );
    assert!(appended(&net.settle(&mut agent)).is_empty());
    let status = agent.status(net.now_ms);
    let view = status.contracts.iter().find(|view| view.id == second.to_string()).unwrap();
    assert!(view.obstacle.as_ref().unwrap().contains("(budget)"), "{view:?}");
    assert!(view.asks[0].contains("asks epsilon 1 at delta 1e-6 of the privacy budget of 'heart': 0.5 of 1.5 is left"));

    actions.extend(armed(&mut net, &mut agent, &contract));
    let (order, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, order);
    agent.handle_state(net.now_ms, &contract.0, &state);
    let worked = drain(&mut agent);
    assert_eq!(appended(&worked), ["disk 2", "work"], "counted before anything can leave");
    assert_eq!(newest(&worked).job(&contract).unwrap().rounds(1), 1);

    finish(&mut net, &contract);
    let ended = net.settle(&mut agent);
    assert_eq!(appended(&ended), ["disk 3", "BudgetSpend"]);
    let spent = newest(&ended).booked_micro();
    assert!((600_000..1_000_000).contains(&spent), "{spent}");
    assert_eq!(on_ledger(&net), (spent, 0), "the ledger says the same");
    assert!(appended(&net.settle(&mut agent)).is_empty(), "and once");
    assert!(cli::budget_text(&agent.status(net.now_ms)).contains("spent: 0."));

    // The disk of before the round, after the ledger has seen the work; and no disk at all.
    let old = actions.iter().filter_map(|a| if let Action::StoreBudget(b) = a { Some(b) } else { None }).next_back();
    for (stored, why) in [(vec![old.unwrap().as_ref().clone()], "does not count"), (vec![], "reserved or spent")] {
        let mut restored = Budgets::open(&open(Some(LIMITS)), stored).unwrap();
        restored.compare(&id("h1"), net.state());
        let behind = restored.take_unsaid();
        assert!(behind.len() == 1 && behind[0].words.contains(why), "{behind:?}");
        assert!(restored.take_unsaid().is_empty(), "said once");
        assert_eq!(restored.count(&contract, &code("heart"), 1, 1).unwrap_err().reason, Reason::BudgetBehind);
    }
    let mut good = Budgets::open(&open(Some(LIMITS)), vec![newest(&ended)]).unwrap();
    good.compare(&id("h1"), net.state());
    assert_eq!(good.behind(&code("heart")), None);
}

fn finish(net: &mut Net, contract: &ContractId) {
    start(net, contract, 1);
    receive(net, contract, 1, epsilon_of(&private(), 1));
    let deliver = Deliver { result_commitment: hash("result"), recipient: id("team") };
    net.act("coord", Some(contract), deliver.into(), &["coord"]).unwrap();
}

#[test]
fn a_contract_that_never_runs_gives_everything_back() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(private());
    net.settle(&mut agent);
    net.act("h2", Some(&contract), Reject { code: code("no") }.into(), &["h2"]).unwrap();
    let actions = net.settle(&mut agent);
    assert_eq!(net.contract(&contract).phase, Phase::Rejected);
    assert_eq!(newest(&actions).left_micro(), LIMITS.epsilon_micro);
    assert!(cli::budget_text(&agent.status(net.now_ms)).contains("released: 0 of 1, 0 rounds"));
}
