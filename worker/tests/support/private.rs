//! Contracts with a privacy mechanism: terms, an agent whose data set has a budget, and how a contract comes to run.

use std::collections::BTreeMap;
use std::sync::Arc;

use leben_contracts::agreement::accounts::{AccountId, Unit};
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::agreement::terms::{Param, Stage, Terms};
use leben_contracts::ledger::entry::Envelope;
use leben_models::promise::epsilon_added_micro;
use leben_models::{Algorithm as Runnable, AlgorithmSpec, registry};
use leben_worker::agent::{Action, Agent, Setup};
use leben_worker::budget::{Budget, Budgets, Limits};
use leben_worker::declared::{Dataset, Declared, Floors, LocalPolicy};

use super::*;

pub const LIMITS: Limits =
    Limits { patients_min: 100, epsilon_micro: 1_500_000, delta_e12: 1_000_000, job_epsilon_micro: 1_200_000 };

pub fn open(limits: Option<Limits>) -> Declared {
    let dataset = Dataset { budget: limits, ..dataset() };
    let mut declared = Declared::new(vec![dataset], Arc::new(|_, _| Ok(())), LocalPolicy::new(true, Floors::NONE));
    declared.set_rows(&code("heart"), 123);
    declared
}

/// Terms whose one stage adds noise; sigma 6 is worth epsilon 0.8 or so.
pub fn private() -> Terms {
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

pub fn agent() -> (Net, Agent) {
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

pub fn appended(actions: &[Action]) -> Vec<String> {
    let kind = |a: &Action| match a {
        Action::Append { envelope, .. } => Some(Envelope::parse(envelope).unwrap().action().kind.clone()),
        Action::StoreBudget(budget) => Some(format!("disk {}", budget.generation())),
        Action::Work(_) => Some("work".to_owned()),
        _ => None,
    };
    actions.iter().filter_map(kind).collect()
}

pub fn newest(actions: &[Action]) -> Budget {
    let stored = |a: &Action| if let Action::StoreBudget(budget) = a { Some(budget.as_ref().clone()) } else { None };
    actions.iter().filter_map(stored).next_back().unwrap()
}

/// Signed by everybody with the budgets held, armed, the directory frozen.
pub fn armed(net: &mut Net, agent: &mut Agent, contract: &ContractId) -> Vec<Action> {
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

/// Spent and held of h1's data set, as the ledger adds them, millionths of epsilon.
pub fn on_ledger(net: &Net) -> (u64, u64) {
    let used = AccountId::used(Unit::MicroEpsilon, "h1/heart");
    let account = net.state().accounts().get(&used).unwrap();
    (account.credits_posted, account.credits_pending)
}

/// What a true receipt of a stage says, after one round of it and of those before it.
pub fn epsilon_of(terms: &Terms, stage: u32) -> u64 {
    let param = |param: &Param| match param {
        Param::Integer(number) => leben_models::Param::Integer(*number),
        Param::Text(text) => leben_models::Param::Text(text.clone()),
    };
    let build = |stage: &Stage| {
        let named = terms.algorithm(&stage.algorithm).unwrap();
        let params = named.params.iter().map(|(key, value)| (key.clone(), param(value))).collect();
        registry::build(&AlgorithmSpec { name: named.name.to_string(), version: 1, params }).unwrap()
    };
    let until: Vec<_> = terms.stages.iter().filter(|other| other.id <= stage).map(build).collect();
    let ran: Vec<(&dyn Runnable, u32)> =
        until.iter().map(|algorithm| (algorithm.as_ref() as &dyn Runnable, 1)).collect();
    let delta = terms.privacy.delta_e12 as f64 * 1e-12;
    epsilon_added_micro(&ran, 3, delta, terms.privacy.epsilon_micro)
}

/// The coordinator begins a stage.
pub fn start(net: &mut Net, contract: &ContractId, stage: u32) {
    net.act("coord", Some(contract), StageStart { stage }.into(), &["coord"]).unwrap();
}

/// The coordinator's receipt of one round of a stage.
pub fn receive(net: &mut Net, contract: &ContractId, stage: u32, epsilon_micro_spent: u64) {
    let receipt = StageReceipt {
        stage,
        rounds: 1,
        algorithm_digest: private().algorithms[0].digest,
        input_commitment: hash("in"),
        output_commitment: hash("out"),
        rows_requested: 300,
        rows_used: 300,
        rows_rejected: 0,
        withheld: 0,
        hospitals: HOSPITALS.iter().map(|name| id(name)).collect(),
        epsilon_micro_spent,
    };
    net.act("coord", Some(contract), receipt.into(), &["coord"]).unwrap();
}
