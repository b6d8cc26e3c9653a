//! A budget that knows less than the ledger: its data set is closed for contracts with a mechanism, and nothing else is. The
//! coordinator alone can write what makes it look so.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::time::Duration;

use leben_contracts::agreement::body::{Abort, RoundClose};
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::terms::{Terms, Windows};
use leben_contracts::ledger::note::Note;
use leben_protocol::quic::Listener;
use leben_worker::agent::{Action, Agent, Setup, Status};
use leben_worker::budget::{Budget, Budgets};
use leben_worker::io::{Config, budgets, config, spawn};
use support::link::*;
use support::private::*;
use support::*;

/// h1 holds for a contract that runs; the coordinator writes down a round of it in which h1 had no part.
fn accused() -> (Net, Budget, ContractId) {
    let (mut net, mut agent) = agent();
    net.settle(&mut agent);
    let contract = net.propose(private());
    let mut actions = net.settle(&mut agent);
    actions.extend(armed(&mut net, &mut agent, &contract));
    start(&mut net, &contract, 1);
    net.settle(&mut agent);
    let survivors = HOSPITALS.iter().map(|name| id(name)).collect();
    let close = RoundClose { stage: 1, round: 1, slot: 1, survivors, transcript: hash("t") };
    net.act("coord", Some(&contract), close.into(), &["coord"]).unwrap();
    (net, newest(&actions), contract)
}

/// Other terms with a mechanism.
fn another() -> Terms {
    Terms { windows: Windows { run_by_ms: T0 + 19 * HOUR, ..private().windows }, ..private() }.with_text_hash()
}

async fn until(statuses: &mut tokio::sync::watch::Receiver<Option<Status>>, what: impl Fn(&Status) -> bool) -> Status {
    let known = |status: &Option<Status>| status.as_ref().is_some_and(&what);
    let found = tokio::time::timeout(Duration::from_secs(120), statuses.wait_for(known)).await;
    found.unwrap().unwrap().clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_budget_is_behind_starts_cosigns_and_signs_no_private_contract_on_that_data_set() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &coordinator()).unwrap();
    let folder = joined(&listener.local_addr().unwrap().to_string());
    let limits =
        "budget = { epsilon = \"1.5\", patients_min = 100, delta = \"0.000001\", job_epsilon = \"1.2\" }\npath =";
    std::fs::write(folder.path().join(config::FILE), DATASET.replace("path =", limits)).unwrap();
    let (mut net, budget, _) = accused();
    budgets::store(folder.path(), &budget).unwrap();
    let config = Config::load(folder.path()).unwrap();
    let handle = spawn(config.clone(), options(&net)).unwrap();
    let (_link, mut writer, mut reader, _) = control(&listener).await;
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, 0, &mut writer, &mut reader).await;
    handle.stop().await.unwrap();

    let handle = spawn(config, options(&net)).expect("whatever the coordinator wrote, this hospital goes on");
    let (_link, mut writer, mut reader, from) = control(&listener).await;
    assert_eq!(from, net.leaves.len() as u64);
    writer.send(&net.welcome()).await.unwrap();
    let second = net.propose(another());
    bring(&net, from, &mut writer, &mut reader).await;
    let mut statuses = handle.status();
    let refused = |status: &Status| {
        let mut contracts = status.contracts.iter().filter(|view| view.id == second.to_string());
        contracts.any(|view| view.obstacle.as_ref().is_some_and(|why| why.contains("budget_behind")) && !view.accepted)
    };
    let status = until(&mut statuses, refused).await;
    let why = "the disk does not count";
    assert!(status.budgets[0].behind.as_ref().unwrap().contains(why), "{:?}", status.budgets);
    assert!(status.worries.iter().any(|worry| worry.contains(why)), "{:?}", status.worries);
    assert_eq!(status.halted, None);
    // Terms without a mechanism are signed as ever.
    let mut plain = terms();
    plain.windows.run_by_ms -= 1;
    let third = net.propose(plain.with_text_hash());
    bring(&net, from + 1, &mut writer, &mut reader).await;
    let approved = |status: &Status| {
        let mut contracts = status.contracts.iter().filter(|view| view.id == third.to_string());
        contracts.any(|view| view.approved.is_some() && view.obstacle.is_none())
    };
    until(&mut statuses, approved).await;
    handle.stop().await.unwrap();
}

/// The same where the disk itself is an older one: nothing is written over it, and nothing is booked from it.
#[test]
fn a_budget_that_is_behind_is_said_once_left_on_the_disk_and_closes_nothing() {
    let (mut net, budget, contract) = accused();
    for stored in [vec![], vec![budget]] {
        let declared = open(Some(LIMITS));
        let budgets = Budgets::open(&declared, stored).unwrap();
        let mut mirror = new_mirror();
        mirror.restore(&net.leaves, Some(Note::parse(&net.certificate(&["h2", "h3"])).unwrap())).unwrap();
        let mut agent = Agent::new(Setup { declared, budgets, mirror, ..setup(true) });
        agent.handle_order(net.now_ms, net.welcome());
        let mut actions = net.settle(&mut agent);
        if !net.contract(&contract).phase.is_terminal() {
            let abort = Abort { code: code("enough"), stage: None, party: None };
            net.act("team", Some(&contract), abort.into(), &["team", "coord", "h1", "h2", "h3"]).unwrap();
        }
        actions.extend(net.settle(&mut agent));
        let said = |a: &&Action| matches!(a, Action::Audit(entry) if entry.event == "budget-behind");
        assert_eq!(actions.iter().filter(said).count(), 1, "{:?}", appended(&actions));
        assert!(!actions.iter().any(|a| matches!(a, Action::StoreBudget(_))), "{:?}", appended(&actions));
    }
}
