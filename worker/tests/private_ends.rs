//! How a private contract ends, and what of its budget comes back: only what never ran. And receipts that are not true.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::{Algorithm, Param, Stage, Terms};
use leben_protocol::frame::{JobOrder, JobReport, Order, Report};
use leben_worker::agent::{Action, Agent, Command};
use leben_worker::budget::{Budgets, Standing};
use leben_worker::refusal::{Reason, Refusal};
use support::private::*;
use support::*;

const ASKED: u64 = 1_000_000;

#[test]
fn a_contract_whose_rows_are_not_there_is_not_signed_and_costs_nothing() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let few = "the cohort of 'heart' has fewer rows than the 10 that the terms ask for";
    net.cohorts = Err(Refusal::new(Reason::SmallCohort, few));
    let contract = net.propose(private());
    let actions = net.settle(&mut agent);
    assert!(actions.iter().any(|a| matches!(a, Action::CheckCohorts(_, inputs) if inputs.len() == 1)));
    assert!(appended(&actions).is_empty(), "nothing is held, nothing is signed: {:?}", appended(&actions));
    let status = agent.status(net.now_ms);
    let view = status.contracts.iter().find(|view| view.id == contract.to_string()).unwrap();
    assert!(view.obstacle.as_ref().unwrap().contains("fewer rows than the 10") && !view.accepted, "{view:?}");
    assert_eq!((status.budgets[0].held.as_str(), on_ledger(&net)), ("0", (0, 0)));
    let again = net.settle(&mut agent);
    assert!(!again.iter().any(|a| matches!(a, Action::CheckCohorts(..) | Action::Audit(_))), "looked at and said once");
    // A contract without a mechanism reads no row before it is signed.
    let mut open = terms();
    open.windows.run_by_ms -= 1;
    net.propose(open.with_text_hash());
    assert_eq!(appended(&net.settle(&mut agent)), ["Accept"]);
}

/// Two noisy stages, one after the other, that together keep the promise.
fn two_stages() -> Terms {
    let mut terms = private();
    let again = Algorithm { id: code("more"), ..terms.algorithms[0].clone() };
    let second =
        Stage { id: 2, name: code("again"), after: vec![1], algorithm: again.id.clone(), ..terms.stages[0].clone() };
    terms.algorithms.push(again);
    terms.stages.push(second);
    for algorithm in &mut terms.algorithms {
        algorithm.params.insert("sigma".into(), Param::Text("7".into()));
    }
    terms.with_text_hash()
}

/// A contract of two stages that runs; the first round of the first stage has left h1.
fn running() -> (Net, Agent, ContractId) {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(two_stages());
    net.settle(&mut agent);
    armed(&mut net, &mut agent, &contract);
    start(&mut net, &contract, 1);
    net.settle(&mut agent);
    let (order, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, order);
    agent.handle_state(net.now_ms, &contract.0, &state);
    assert!(appended(&drain(&mut agent)).contains(&"work".to_owned()));
    (net, agent, contract)
}

fn abort(net: &mut Net, contract: &ContractId) {
    let body = Abort { code: code("enough"), stage: None, party: None };
    net.act("team", Some(contract), body.into(), &["team", "coord", "h1", "h2", "h3"]).unwrap();
    assert_eq!(net.contract(contract).phase, Phase::Aborted);
}

#[test]
fn before_it_is_armed_a_person_who_stops_it_frees_the_ledgers_hold_and_one_who_resumes_holds_again() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(private());
    net.settle(&mut agent);
    assert_eq!(on_ledger(&net), (0, ASKED));
    agent.handle_command(net.now_ms, Command::Suspend { contract, code: code("holiday") });
    let actions = net.settle(&mut agent);
    assert_eq!(appended(&actions), ["BudgetRelease"]);
    assert_eq!(on_ledger(&net), (0, 0));
    let held = |agent: &Agent| agent.status(T0).budgets[0].held.clone();
    assert_eq!(held(&agent), "1", "it may still be armed: the hospital holds it until the contract is over");
    agent.handle_command(net.now_ms, Command::Resume { contract });
    assert_eq!(appended(&net.settle(&mut agent)), ["BudgetReserve"]);
    assert_eq!(on_ledger(&net), (0, ASKED));
    armed(&mut net, &mut agent, &contract);
    agent.handle_command(net.now_ms, Command::Suspend { contract, code: code("holiday") });
    let actions = appended(&net.settle(&mut agent));
    assert!(!actions.contains(&"BudgetRelease".to_owned()), "it is armed and may have run: {actions:?}");
    assert_eq!((on_ledger(&net), held(&agent).as_str()), ((0, ASKED), "1"));
}

#[test]
fn after_an_abort_between_two_stages_the_one_that_never_ran_comes_back() {
    let (mut net, mut agent, contract) = running();
    let first = epsilon_of(&two_stages(), 1);
    receive(&mut net, &contract, 1, first);
    net.settle(&mut agent);
    abort(&mut net, &contract);
    let ended = net.settle(&mut agent);
    let budget = newest(&ended);
    assert!((500_000..700_000).contains(&first), "{first}");
    assert_eq!(budget.job(&contract).unwrap().standing, Standing::Spent(first));
    assert_eq!((on_ledger(&net), budget.left_micro()), ((first, 0), LIMITS.epsilon_micro - first));
    let one_round = budget.released_micro();
    assert!(one_round > 0, "what left stays in the other sum as well");

    // In the middle of the second stage: the ledger cannot know what ran, and takes all of it.
    let (mut net, mut agent, contract) = running();
    receive(&mut net, &contract, 1, first);
    start(&mut net, &contract, 2);
    net.settle(&mut agent);
    abort(&mut net, &contract);
    let budget = newest(&net.settle(&mut agent));
    assert_eq!(budget.job(&contract).unwrap().standing, Standing::Spent(ASKED));
    assert_eq!((on_ledger(&net), budget.released_micro()), ((ASKED, 0), one_round), "the round that ran, and no more");
}

#[test]
fn after_an_abort_before_anything_ran_all_of_it_comes_back() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(two_stages());
    net.settle(&mut agent);
    armed(&mut net, &mut agent, &contract);
    abort(&mut net, &contract);
    let budget = newest(&net.settle(&mut agent));
    assert_eq!(budget.job(&contract).unwrap().standing, Standing::Released);
    assert_eq!((on_ledger(&net), budget.left_micro(), budget.released_micro()), ((0, 0), LIMITS.epsilon_micro, 0));
}

#[test]
fn a_hospital_that_takes_its_data_out_never_books_less_than_left_it_or_than_the_ledger_charges() {
    let first = epsilon_of(&two_stages(), 1);
    for (stage_two_started, charged) in [(false, first), (true, ASKED)] {
        let (mut net, mut agent, contract) = running();
        receive(&mut net, &contract, 1, first);
        if stage_two_started {
            start(&mut net, &contract, 2);
        }
        net.settle(&mut agent);
        agent.handle_command(net.now_ms, Command::Revoke { contract });
        let ended = net.settle(&mut agent);
        assert!(appended(&ended).contains(&"Revoke".to_owned()));
        let budget = newest(&ended);
        assert_eq!(on_ledger(&net), (charged, 0));
        assert!(budget.booked_micro() >= charged.max(first), "{}", budget.booked_micro());
        assert!(budget.released_micro() > 0);
    }
}

#[test]
fn a_receipt_with_another_epsilon_than_the_noise_gives_is_noticed_and_ends_the_hospitals_part() {
    let truth = epsilon_of(&two_stages(), 1);
    for said in [0, truth - 100_000, truth + 100_000, truth] {
        let (mut net, mut agent, contract) = running();
        receive(&mut net, &contract, 1, said);
        let actions = net.settle(&mut agent);
        let audited = |actions: &[Action]| {
            let is = |a: &&Action| matches!(a, Action::Audit(entry) if entry.event == "receipt-differs");
            actions.iter().filter(is).count()
        };
        assert_eq!(audited(&actions), usize::from(said != truth), "receipt of {said}");
        let status = agent.status(net.now_ms);
        let view = status.contracts.iter().find(|view| view.id == contract.to_string()).unwrap();
        let advertise = Order::Job { contract: contract.0, order: JobOrder::Advertise { slot: 2 } };
        agent.handle_order(net.now_ms, advertise);
        let answers = drain(&mut agent);
        let refused = reports(&answers).iter().find_map(|report| match report {
            Report::Job { report: JobReport::Refused { reject, final_, .. }, .. } => Some((reject.clone(), *final_)),
            _ => None,
        });
        if said == truth {
            assert!(view.running && refused.is_none(), "{view:?} {refused:?}");
            continue;
        }
        let words = format!("says epsilon 0.{}", format!("{said:06}").trim_end_matches('0'));
        let words = if said == 0 { "says epsilon 0," } else { &words };
        let why = view.obstacle.as_ref().unwrap();
        assert!(
            !view.running && why.contains(words) && why.contains("stage 'scale'") && why.contains("(receipt)"),
            "{why}"
        );
        assert!(status.worries.iter().any(|worry| worry.contains(words)), "{:?}", status.worries);
        let (reject, final_) = refused.unwrap();
        assert!(final_ && reject.message.starts_with("receipt: "), "{reject:?}");
        // What is booked never rests on the receipt.
        abort(&mut net, &contract);
        let budget = newest(&net.settle(&mut agent));
        assert_eq!(budget.job(&contract).unwrap().standing, Standing::Spent(said.max(truth)));
        assert_eq!(audited(&net.settle(&mut agent)), 0, "and said once");
    }
}

#[test]
fn a_receipt_with_fewer_rounds_than_left_the_hospital_is_noticed() {
    let (mut net, mut agent, contract) = running();
    let mut budget = agent.budgets().get(&code("heart")).unwrap().clone();
    assert_eq!(budget.job(&contract).unwrap().rounds(1), 1);
    assert!(budget.count(&contract, 1, 2).unwrap());
    let mut budgets = Budgets::open(&open(Some(LIMITS)), vec![budget]).unwrap();
    receive(&mut net, &contract, 1, epsilon_of(&two_stages(), 1));
    net.settle(&mut agent);
    let differs = budgets.compare_receipts(&id("h1"), net.contract(&contract));
    assert!(differs.len() == 1 && differs[0].words.contains("says 1 round(s), 2 left this hospital"), "{differs:?}");
    assert!(budgets.compare_receipts(&id("h1"), net.contract(&contract)).is_empty(), "once");
}

#[test]
fn of_two_contracts_that_want_the_last_of_the_budget_the_earlier_one_is_held_however_long_its_rows_take() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    // The ids decide the order in the state: try until the later proposal has the smaller one.
    let mut run_by_ms = T0 + 19 * HOUR;
    let (first, second) = loop {
        let propose = |net: &mut Net, run_by_ms| {
            let mut terms = private();
            terms.windows.run_by_ms = run_by_ms;
            net.propose(terms.with_text_hash())
        };
        let (first, second) = (propose(&mut net, run_by_ms), propose(&mut net, run_by_ms + 1));
        if second < first {
            break (first, second);
        }
        for contract in [first, second] {
            net.act("team", Some(&contract), Withdraw { offer: None }.into(), &["team"]).unwrap();
        }
        run_by_ms += 2;
    };
    let asked: Vec<Action> = net.bring(&mut agent);
    let looked: Vec<_> =
        asked.iter().filter_map(|a| if let Action::CheckCohorts(hash, _) = a { Some(*hash) } else { None }).collect();
    assert_eq!(looked, [net.contract(&first).terms_hash], "one after the other");
    agent.handle_cohorts(net.now_ms, &looked[0], Ok(()));
    net.settle(&mut agent);
    assert!(agent.budgets().get(&code("heart")).unwrap().job(&first).is_some());
    assert!(agent.budgets().get(&code("heart")).unwrap().job(&second).is_none());
}

/// What the local half would be given in a slot.
fn work_of(net: &Net, agent: &mut Agent, contract: &ContractId, slot: u64) -> leben_worker::participate::Work {
    let (order, state) = Others::new(net, contract, slot).open(net, agent, contract.0, slot);
    agent.handle_order(net.now_ms, order);
    agent.handle_state(net.now_ms, &contract.0, &state);
    let work = drain(agent).into_iter().find_map(|a| if let Action::Work(work) = a { Some(work) } else { None });
    agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order: JobOrder::Abandoned { slot } });
    drain(agent);
    *work.unwrap()
}

#[test]
fn a_private_round_that_is_opened_again_carries_the_same_noise_and_counts_once() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(private());
    net.settle(&mut agent);
    armed(&mut net, &mut agent, &contract);
    let first = work_of(&net, &mut agent, &contract, 1);
    let released = agent.budgets().get(&code("heart")).unwrap().released_micro();
    let again = work_of(&net, &mut agent, &contract, 2);
    assert_eq!((first.stage, first.round, first.seed), (again.stage, again.round, again.seed));
    assert_eq!(agent.budgets().get(&code("heart")).unwrap().released_micro(), released);

    // Without a mechanism the seed only rounds, and is fresh.
    let (net, mut agent, contract, _) = frozen();
    assert_ne!(work_of(&net, &mut agent, &contract, 1).seed, work_of(&net, &mut agent, &contract, 2).seed);
}

#[test]
fn rows_that_changed_are_refused_for_now_and_as_they_were_they_are_computed_in_the_next_slot() {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(private());
    net.settle(&mut agent);
    armed(&mut net, &mut agent, &contract);
    let (order, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, order);
    agent.handle_state(net.now_ms, &contract.0, &state);
    drain(&mut agent);
    let changed = Refusal::new(Reason::RowsChanged, "the rows changed: put the file back as it was");
    agent.handle_unworkable(net.now_ms, &contract.0, 1, &changed);
    let actions = drain(&mut agent);
    let refused = reports(&actions).into_iter().find_map(|report| match report {
        Report::Job { report: JobReport::Refused { slot, final_, .. }, .. } => Some((*slot, *final_)),
        _ => None,
    });
    assert_eq!(refused, Some((1, false)), "{actions:?}");
    assert!(agent.status(net.now_ms).contracts[0].running, "it may come back");

    // The file is put back, and the round is attempted again.
    let (order, state) = Others::new(&net, &contract, 2).open(&net, &mut agent, contract.0, 2);
    agent.handle_order(net.now_ms, order);
    // What was given up for slot 1 may say so once more.
    agent.handle_unworkable(net.now_ms, &contract.0, 1, &changed);
    agent.handle_state(net.now_ms, &contract.0, &state);
    let actions = drain(&mut agent);
    assert!(actions.iter().any(|a| matches!(a, Action::Work(work) if work.slot == 2)), "{actions:?}");
    assert_eq!(agent.budgets().get(&code("heart")).unwrap().job(&contract).unwrap().rounds(1), 1, "counted once");
}
