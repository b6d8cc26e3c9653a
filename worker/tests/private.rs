//! Contracts with a privacy mechanism: what is refused before a row is read, what is held, counted, spent and shown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use leben_contracts::agreement::accounts::{AccountId, Unit};
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::{Param, Terms};
use leben_contracts::ledger::entry::Envelope;
use leben_models::registry;
use leben_worker::agent::{Action, Agent, Setup};
use leben_worker::budget::{Budget, Budgets, Limits};
use leben_worker::consent::{self, Desk};
use leben_worker::declared::{Dataset, Declared, LocalPolicy};
use leben_worker::io::cli;
use leben_worker::refusal::{Reason, Refusal};
use support::*;

const LIMITS: Limits =
    Limits { patients_min: 100, epsilon_micro: 1_500_000, delta_e12: 1_000_000, job_epsilon_micro: 1_200_000 };

fn open(limits: Option<Limits>) -> Declared {
    let dataset = Dataset { budget: limits, ..dataset() };
    let mut declared = Declared::new(vec![dataset], Arc::new(|_, _| Ok(())), LocalPolicy::new(true));
    declared.set_rows(&code("heart"), 123);
    declared
}

/// Terms whose one stage adds noise; sigma 6 is worth epsilon 0.8 or so.
fn private() -> Terms {
    let mut terms = terms();
    terms.algorithms[0].name = code("dp-statistics");
    terms.algorithms[0].digest = Hash32(registry::digest("dp-statistics", 1).unwrap());
    let text = |text: &str| Param::Text(text.into());
    terms.algorithms[0].params = BTreeMap::from([
        ("means".into(), text("age:18..90")),
        ("sigma".into(), text("6")),
        ("epsilon".into(), text("1")),
        ("honest".into(), Param::Integer(2)),
    ]);
    terms.stages[0].rounds_max = 1;
    terms.privacy.mechanism = code("discrete-gaussian");
    terms.privacy.epsilon_micro = 1_000_000;
    terms.privacy.delta_e12 = 1_000_000;
    terms.with_text_hash()
}

fn review(limits: Option<Limits>, change: impl FnOnce(&mut Terms)) -> Result<(), Refusal> {
    let mut net = Net::new();
    net.offer_data("h1");
    let proposed = net.propose(terms());
    let mut terms = private();
    change(&mut terms);
    let terms = terms.with_text_hash();
    let mut contract = net.contract(&proposed).clone();
    contract.terms_hash = terms.hash().unwrap();
    contract.terms = Arc::new(terms);
    let (me, declared) = (id("h1"), open(limits));
    let budgets = Budgets::open(&declared, vec![]).unwrap();
    consent::review(&contract, &Desk { me: &me, declared: &declared, budgets: &budgets, now_ms: T0 }).map(|_| ())
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
}

fn agent() -> (Net, Agent) {
    let mut net = Net::new();
    net.offer_code("dp-statistics", "1", Hash32(registry::digest("dp-statistics", 1).unwrap()));
    for name in ["h2", "h3"] {
        let genesis = BudgetGenesis {
            dataset: code("heart"),
            rows_floor: 100,
            epsilon_micro_limit: 10_000_000,
            delta_e12: 1_000_000,
        };
        net.act(name, None, genesis.into(), &[name]).unwrap();
    }
    let declared = open(Some(LIMITS));
    let budgets = Budgets::open(&declared, vec![]).unwrap();
    let mut agent = Agent::new(Setup { declared, budgets, ..setup(true) });
    agent.handle_order(net.now_ms, net.welcome());
    (net, agent)
}

fn appended(actions: &[Action]) -> Vec<String> {
    let kind = |a: &Action| match a {
        Action::Append { envelope, .. } => Some(Envelope::parse(envelope).unwrap().action().kind.clone()),
        Action::StoreBudget(budget) => Some(format!("disk {}", budget.generation())),
        Action::Work(_) => Some("work".to_owned()),
        _ => None,
    };
    actions.iter().filter_map(kind).collect()
}

fn newest(actions: &[Action]) -> Budget {
    let stored = |a: &Action| if let Action::StoreBudget(budget) = a { Some(budget.as_ref().clone()) } else { None };
    actions.iter().filter_map(stored).next_back().unwrap()
}

/// Signed by everybody with the budgets held, armed, the directory frozen.
fn armed(net: &mut Net, agent: &mut Agent, contract: &ContractId) -> Vec<Action> {
    net.accept(contract, &["h2", "h3", "team", "coord"]);
    for name in ["h2", "h3"] {
        let reserve = BudgetReserve { dataset: code("heart"), epsilon_micro: 1_000_000 };
        net.act(name, Some(contract), reserve.into(), &[name]).unwrap();
    }
    let mut actions = net.settle(agent);
    net.due(contract);
    actions.extend(net.settle(agent));
    net.key_record(contract, "h2");
    net.key_record(contract, "h3");
    net.due(contract);
    actions.extend(net.settle(agent));
    actions
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
    let used = AccountId::used(Unit::MicroEpsilon, "h1/heart");
    let account = net.state().accounts().get(&used).unwrap().clone();
    assert_eq!((account.credits_posted, account.credits_pending), (spent, 0), "the ledger says the same");
    assert!(appended(&net.settle(&mut agent)).is_empty(), "and once");
    assert!(cli::budget_text(&agent.status(net.now_ms)).contains("spent: 0."));

    // The disk of before the round, after the ledger has seen the work; and no disk at all.
    let old = actions.iter().filter_map(|a| if let Action::StoreBudget(b) = a { Some(b) } else { None }).next_back();
    for (stored, why) in [(vec![old.unwrap().as_ref().clone()], "does not count"), (vec![], "reserved or spent")] {
        let mut restored = Budgets::open(&open(Some(LIMITS)), stored).unwrap();
        let behind = restored.compare(&id("h1"), net.state());
        assert!(behind.len() == 1 && behind[0].words.contains(why), "{behind:?}");
        assert_eq!(restored.count(&contract, &code("heart"), 1, 1).unwrap_err().reason, Reason::BudgetBehind);
    }
    let mut good = Budgets::open(&open(Some(LIMITS)), vec![newest(&ended)]).unwrap();
    assert!(good.compare(&id("h1"), net.state()).is_empty());
}

fn finish(net: &mut Net, contract: &ContractId) {
    net.act("coord", Some(contract), StageStart { stage: 1 }.into(), &["coord"]).unwrap();
    let receipt = StageReceipt {
        stage: 1,
        rounds: 1,
        algorithm_digest: private().algorithms[0].digest,
        input_commitment: hash("in"),
        output_commitment: hash("out"),
        rows_requested: 300,
        rows_used: 300,
        rows_rejected: 0,
        hospitals: HOSPITALS.iter().map(|name| id(name)).collect(),
        epsilon_micro_spent: 500_000,
    };
    net.act("coord", Some(contract), receipt.into(), &["coord"]).unwrap();
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
