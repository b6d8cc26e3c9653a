//! The whole agent, without io: what it signs, publishes, remembers and refuses, and in which order.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeMap;

use leben_contracts::agreement::body::{Body, Kind};
use leben_contracts::agreement::table::Phase;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::note::Note;
use leben_privacy::secure_sum::{AgreedRound, JobKeys, Journal, RoundId};
use leben_protocol::frame::{JobOrder, JobReport, Order, Report};
use leben_protocol::reject::RejectCode;
use leben_worker::agent::{Action, Agent, Command, Setup, StoredJob, Wish};
use leben_worker::refusal::{Reason, Refusal};
use support::*;

/// Kinds that an agent wants appended.
fn kinds(actions: &[Action]) -> Vec<String> {
    let kind = |envelope: &Vec<u8>| Envelope::parse(envelope).unwrap().action().kind.clone();
    actions
        .iter()
        .filter_map(|a| if let Action::Append { envelope, .. } = a { Some(kind(envelope)) } else { None })
        .collect()
}

fn at(actions: &[Action], what: impl Fn(&Action) -> bool) -> usize {
    actions.iter().position(what).unwrap_or_else(|| panic!("missing in {actions:#?}"))
}

fn refusals(actions: &[Action]) -> Vec<(u64, u16, bool, String)> {
    let of = |report: &&Report| match report {
        Report::Job { report: JobReport::Refused { slot, reject, final_ }, .. } => {
            Some((*slot, reject.code, *final_, reject.message.clone()))
        }
        _ => None,
    };
    reports(actions).iter().filter_map(of).collect()
}

#[test]
fn entries_record_and_certificate_are_stored_before_anybody_hears_of_them() {
    let mut net = Net::new();
    let mut agent = Agent::new(setup(false));
    agent.handle_order(net.now_ms, net.welcome());
    let actions = net.bring(&mut agent);
    let entries = at(&actions, |a| matches!(a, Action::StoreEntries { .. }));
    let record = at(&actions, |a| matches!(a, Action::StoreRecord(_)));
    let cosigned = at(&actions, |a| matches!(a, Action::Report(Report::Cosigned { .. })));
    let certificate = at(&actions, |a| matches!(a, Action::StoreCertificate { .. }));
    let certified = at(&actions, |a| matches!(a, Action::Report(Report::Certified { .. })));
    assert!(entries < record && record < cosigned && cosigned < certificate && certificate < certified);
}

#[test]
fn it_offers_what_it_declares_once_and_waits_for_a_person() {
    let mut net = Net::new();
    let mut agent = Agent::new(setup(false));
    agent.handle_order(net.now_ms, net.welcome());
    assert_eq!(kinds(&net.settle(&mut agent)), ["DatasetOffer"]);
    assert_eq!(net.state().datasets()["h1/heart"].offer.rows_rounded, 120);
    let contract = net.propose(terms());
    assert!(kinds(&net.settle(&mut agent)).is_empty(), "nothing is signed by itself");
    let status = agent.status(net.now_ms);
    assert!(status.contracts[0].pending && status.contracts[0].text.contains("heart"));
    let terms_hash = net.contract(&contract).terms_hash;
    agent.handle_command(net.now_ms, Command::Approve { contract, terms_hash: hash("what somebody else saw") });
    assert!(kinds(&net.settle(&mut agent)).is_empty(), "other terms than were shown");
    agent.handle_command(net.now_ms, Command::Approve { contract, terms_hash });
    let actions = drain(&mut agent);
    let stored = at(&actions, |a| matches!(a, Action::StoreStanding { .. }));
    assert!(stored < at(&actions, |a| matches!(a, Action::Append { .. })), "a decision is kept before it is signed");
    assert_eq!(kinds(&actions), ["Accept"]);
}

#[test]
fn an_answer_that_got_lost_leads_to_the_same_envelope_again() {
    let (mut net, mut agent, contract) = proposed(false);
    let terms_hash = net.contract(&contract).terms_hash;
    agent.handle_command(net.now_ms, Command::Approve { contract, terms_hash });
    let append = |actions: Vec<Action>| {
        let append = actions
            .into_iter()
            .find_map(|a| if let Action::Append { key, envelope } = a { Some((key, envelope)) } else { None });
        append.expect("an append")
    };
    let (key, envelope) = append(drain(&mut agent));
    net.append(&envelope).unwrap();
    agent.handle_unlinked();
    agent.handle_order(net.now_ms, net.welcome());
    let (again, same) = append(drain(&mut agent));
    assert_eq!((&again, &same), (&key, &envelope));
    let index = net.append(&same).unwrap();
    agent.handle_appended(net.now_ms, &again, Ok(index));
    net.now_ms += 2 * HOUR;
    assert!(kinds(&net.settle(&mut agent)).is_empty(), "and never a second one");
}

#[test]
fn keys_are_on_the_disk_before_they_are_on_the_ledger() {
    let (net, agent, contract, actions) = frozen();
    let seed = at(&actions, |a| matches!(a, Action::StoreJobSeed { .. }));
    let append = at(&actions, |a| matches!(a, Action::Append { key, .. } if key.starts_with("KeyRecord/")));
    assert!(seed < append);
    let Action::StoreJobSeed { seed, .. } = &actions[seed] else { unreachable!() };
    let public = JobKeys::from_seed(**seed).public();
    assert_eq!(net.contract(&contract).key_records[&id("h1")].verify.to_bytes(), public.verify);
    assert!(agent.status(net.now_ms).contracts[0].running);
}

#[test]
fn a_refusal_goes_to_the_ledger_and_unreviewable_terms_are_never_signed() {
    let (mut net, mut agent, contract) = proposed(false);
    agent.handle_command(net.now_ms, Command::Refuse { contract, code: code("not_wanted") });
    assert_eq!(kinds(&net.settle(&mut agent)), ["Reject"]);
    assert_eq!(net.contract(&contract).phase, Phase::Rejected);

    let mut net = Net::new();
    let mut agent = linked(&mut net, true);
    let mut bad = terms();
    bad.algorithms[0].digest = hash("other code");
    bad.algorithms[0].version = code("9");
    net.offer_algorithm("9", hash("other code"));
    net.propose(bad.with_text_hash());
    assert!(kinds(&net.settle(&mut agent)).is_empty(), "the policy approves only what passes review");
    let status = agent.status(net.now_ms);
    assert!(status.contracts[0].obstacle.as_deref().unwrap().contains("algorithm_digest"));
}

#[test]
fn a_slot_runs_and_its_journal_is_stored_before_the_work_begins() {
    let (net, mut agent, contract, _) = frozen();
    let (open, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, open.clone());
    let actions = drain(&mut agent);
    at(&actions, |a| matches!(a, Action::FetchState { .. }));
    agent.handle_state(net.now_ms, &contract.0, &state);
    let actions = drain(&mut agent);
    let journal = at(&actions, |a| matches!(a, Action::StoreJournal { journal, .. } if journal.last_slot == 1));
    let working =
        at(&actions, |a| matches!(a, Action::Report(Report::Job { report: JobReport::Working { slot: 1 }, .. })));
    let work = at(&actions, |a| matches!(a, Action::Work(_)));
    assert!(journal < working && journal < work, "a crash after this must never open the slot again");
    agent.handle_order(net.now_ms, open);
    assert!(drain(&mut agent).is_empty(), "told again after a cut: the upload goes on by itself");
    agent.handle_streamed(net.now_ms, &contract.0, 1, [8; 32]);
    let actions = drain(&mut agent);
    let Action::Trailer { trailer, .. } = &actions[at(&actions, |a| matches!(a, Action::Trailer { .. }))] else {
        unreachable!()
    };
    assert_eq!((trailer.upload.root, trailer.next.as_ref().unwrap().slot), ([8; 32], 2));
}

#[test]
fn after_a_restart_the_same_slot_is_refused_for_now_and_the_next_one_is_joined() {
    let (mut net, mut agent, contract, actions) = frozen();
    let (open, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, open.clone());
    agent.handle_state(net.now_ms, &contract.0, &state);
    let stored = drain(&mut agent);
    let journal = stored
        .into_iter()
        .find_map(|a| if let Action::StoreJournal { journal, .. } = a { Some(journal) } else { None });
    let seed =
        actions.into_iter().find_map(|a| if let Action::StoreJobSeed { seed, .. } = a { Some(seed) } else { None });
    let standing = leben_worker::agent::Standing {
        approved: Some(net.contract(&contract).terms_hash),
        policy: Some(net.contract(&contract).accepts[&id("h1")].policy_hash),
        ..Default::default()
    };

    let mut mirror = new_mirror();
    let certificate = Note::parse(&net.certificate(&["h2", "h3"])).unwrap();
    mirror.restore(&net.leaves, Some(certificate)).unwrap();
    let job = StoredJob { seed, journal: journal.unwrap(), pinned: false };
    let mut agent = Agent::new(Setup {
        mirror,
        standings: BTreeMap::from([(contract.0, standing)]),
        jobs: BTreeMap::from([(contract.0, job)]),
        seed: [8; 32],
        ..setup(false)
    });
    agent.handle_order(net.now_ms, net.welcome());
    assert!(kinds(&net.settle(&mut agent)).is_empty(), "its keys are still the ones on the ledger");
    agent.handle_order(net.now_ms, open);
    agent.handle_state(net.now_ms, &contract.0, &state);
    let refused = refusals(&drain(&mut agent));
    assert_eq!((refused.len(), refused[0].0, refused[0].2), (1, 1, false), "{refused:?}");
    assert_eq!(refused[0].1, RejectCode::WrongSlot as u16);
    let (open, state) = Others::new(&net, &contract, 2).open(&net, &mut agent, contract.0, 2);
    agent.handle_order(net.now_ms, open);
    agent.handle_state(net.now_ms, &contract.0, &state);
    at(&drain(&mut agent), |a| matches!(a, Action::Work(_)));
}

/// A backup without the secrets, put back: with new keys the job's noise would be fresh, and nothing would be counted.
#[test]
fn a_job_whose_secret_is_gone_while_something_of_it_left_is_left_and_gets_no_new_keys() {
    let agreed = RoundId { stage: 1, round: 1 };
    let agreed = AgreedRound { round_id: agreed, model_digest: [1; 32], shape: None, survivors: vec![1, 2, 3] };
    let empty = Journal::default();
    let with = |last_slot, rounds| Journal { last_slot, rounds };
    for (journal, pinned, goes_on) in [
        (empty.clone(), false, true),
        (with(1, vec![agreed]), false, false),
        (with(1, vec![]), false, false),
        (empty, true, false),
    ] {
        let (mut net, _, contract) = proposed(true);
        let standing = leben_worker::agent::Standing {
            approved: Some(net.contract(&contract).terms_hash),
            policy: Some(net.contract(&contract).accepts[&id("h1")].policy_hash),
            ..Default::default()
        };
        net.accept(&contract, &["h2", "h3", "team", "coord"]);
        let jobs = BTreeMap::from([(contract.0, StoredJob { seed: None, journal, pinned })]);
        let standings = BTreeMap::from([(contract.0, standing)]);
        let mut agent = Agent::new(Setup { jobs, standings, ..setup(true) });
        agent.handle_order(net.now_ms, net.welcome());
        net.settle(&mut agent);
        net.due(&contract);
        let actions = net.settle(&mut agent);
        let keyed = actions.iter().any(|a| matches!(a, Action::StoreJobSeed { .. }));
        assert_eq!((keyed, kinds(&actions).contains(&"KeyRecord".to_owned())), (goes_on, goes_on), "{actions:#?}");
        if !goes_on {
            let order = JobOrder::Advertise { slot: 2 };
            agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order });
            let refused = refusals(&drain(&mut agent));
            assert!(refused[0].2 && refused[0].3.starts_with("secret_lost:"), "{refused:?}");
            assert!(agent.status(net.now_ms).contracts[0].obstacle.as_ref().unwrap().contains("put it back"));
        }
        net.now_ms = T0 + 21 * HOUR;
        net.act("coord", Some(&contract), leben_contracts::agreement::body::Expire {}.into(), &["coord"]).unwrap();
        at(&net.settle(&mut agent), |a| matches!(a, Action::ForgetJob { .. }));
    }
}

#[test]
fn an_order_ahead_of_its_ledger_waits_and_one_without_a_ledger_is_never_obeyed() {
    let (mut net, mut agent, contract, _) = frozen();
    let (open, _) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    let Order::Job { order: JobOrder::Open { mut opening, sealed, state_bytes }, .. } = open else { unreachable!() };
    // The ledger grows, and the slot is opened on it before this hospital has certified it.
    net.enrol("x1");
    opening.checkpoint = leben_contracts::ledger::checkpoint::Checkpoint::of(net.note.as_ref().unwrap()).unwrap().root;
    let order = JobOrder::Open { opening: opening.clone(), sealed: sealed.clone(), state_bytes };
    agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order });
    assert!(drain(&mut agent).is_empty());
    let actions = net.bring(&mut agent);
    at(&actions, |a| matches!(a, Action::FetchState { .. }));
    // A job that is on no ledger at all.
    agent.handle_order(net.now_ms, Order::Job { contract: [9; 32], order: JobOrder::Advertise { slot: 1 } });
    opening.contract = [9; 32];
    let order = JobOrder::Open { opening, sealed, state_bytes };
    agent.handle_order(net.now_ms, Order::Job { contract: [9; 32], order });
    assert!(drain(&mut agent).is_empty());
}

#[test]
fn more_than_was_signed_is_refused_for_good() {
    let (net, mut agent, contract, _) = frozen();
    let (open, _) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    let Order::Job { order: JobOrder::Open { mut opening, sealed, state_bytes }, .. } = open else { unreachable!() };
    opening.round_id.round = 5;
    let order = JobOrder::Open { opening, sealed, state_bytes };
    agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order });
    let refused = refusals(&drain(&mut agent));
    assert!(refused[0].2 && refused[0].3.starts_with("rounds:"), "{refused:?}");
    agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order: JobOrder::Advertise { slot: 2 } });
    assert!(refusals(&drain(&mut agent))[0].2, "and it stays out");
    assert!(!agent.status(net.now_ms).contracts[0].running);
}

#[test]
fn a_local_stop_holds_at_once_whatever_the_ledger_says_and_a_revocation_for_good() {
    let (mut net, mut agent, contract, _) = frozen();
    let (open, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, open);
    agent.handle_state(net.now_ms, &contract.0, &state);
    drain(&mut agent);
    agent.handle_command(net.now_ms, Command::Suspend { contract, code: code("audit") });
    let actions = drain(&mut agent);
    at(&actions, |a| matches!(a, Action::Cancel { slot: 1, .. }));
    assert_eq!(kinds(&actions), ["Suspend"]);
    agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order: JobOrder::Advertise { slot: 2 } });
    let refused = refusals(&drain(&mut agent));
    assert!(!refused[0].2 && refused[0].3.starts_with("suspended:"), "{refused:?}");

    // The coordinator never sequences it: a link later it is asked again, and still nothing runs.
    agent.handle_unlinked();
    agent.handle_order(net.now_ms, net.welcome());
    assert_eq!(kinds(&net.settle(&mut agent)), ["Suspend"]);
    assert_eq!(net.contract(&contract).phase, Phase::Suspended);
    agent.handle_command(net.now_ms, Command::Resume { contract });
    assert_eq!(kinds(&drain_and_append(&mut net, &mut agent)), ["Resume"]);
    assert!(agent.status(net.now_ms).contracts[0].running);

    agent.handle_command(net.now_ms, Command::Revoke { contract });
    assert_eq!(kinds(&drain_and_append(&mut net, &mut agent)), ["Revoke"]);
    agent.handle_command(net.now_ms, Command::Resume { contract });
    agent.handle_order(net.now_ms, Order::Job { contract: contract.0, order: JobOrder::Advertise { slot: 3 } });
    assert!(refusals(&drain(&mut agent))[0].2, "taken out for good");
}

/// The agent's own appends, then everything that follows from them.
fn drain_and_append(net: &mut Net, agent: &mut Agent) -> Vec<Action> {
    let mut all = drain(agent);
    for action in &all {
        if let Action::Append { key, envelope } = action {
            let index = net.append(envelope).unwrap();
            agent.handle_appended(net.now_ms, key, Ok(index));
        }
    }
    all.extend(net.settle(agent));
    all
}

#[test]
fn a_wish_survives_a_restart() {
    let (net, mut agent, contract, _) = frozen();
    agent.handle_command(net.now_ms, Command::Revoke { contract });
    let actions = drain(&mut agent);
    let stored = actions
        .into_iter()
        .find_map(|a| if let Action::StoreStanding { standing, .. } = a { Some(standing) } else { None });
    let standing = stored.unwrap();
    assert_eq!((standing.revoked, &standing.wish), (true, &Some(Wish::Revoke)));
    let text = serde_json::to_string(&standing).unwrap();
    assert_eq!(serde_json::from_str::<leben_worker::agent::Standing>(&text).unwrap(), standing);
    let mut mirror = new_mirror();
    mirror.restore(&net.leaves, Some(Note::parse(&net.certificate(&["h2", "h3"])).unwrap())).unwrap();
    let mut agent = Agent::new(Setup { mirror, standings: BTreeMap::from([(contract.0, standing)]), ..setup(true) });
    agent.handle_order(net.now_ms, net.welcome());
    assert_eq!(kinds(&drain(&mut agent)), ["Revoke"]);
}

#[test]
fn clocks_two_hours_apart_stop_everything_and_say_which_way() {
    for (offset, way) in [(2 * HOUR as i64, "ahead of"), (-2 * HOUR as i64, "behind")] {
        let (mut net, mut agent, contract, _) = frozen();
        let mine_ms = net.now_ms.saturating_add_signed(offset);
        agent.handle_unlinked();
        agent.handle_order(mine_ms, net.welcome());
        let words = agent.status(mine_ms).clock.unwrap();
        assert!(words.contains("120 minutes") && words.contains(way), "{words}");
        drain(&mut agent);
        agent.handle_order(mine_ms, Order::Job { contract: contract.0, order: JobOrder::Advertise { slot: 1 } });
        let refused = refusals(&drain(&mut agent));
        assert_eq!((refused[0].1, refused[0].2), (RejectCode::ClockSkew as u16, false));
        net.enrol("x1");
        let from = agent.mirror().size();
        agent.handle_order(mine_ms, Order::Entries { first_index: from, leaves: net.leaves[from as usize..].to_vec() });
        agent.handle_order(mine_ms, Order::Cosign { body: net.cosign_body(from) });
        assert!(matches!(reports(&drain(&mut agent))[..], [Report::NotCosigned { .. }]));
        // Once a minute it makes a new link to see; when its clock is set right, at once.
        let mut unlinks = |at_ms| {
            agent.handle_timeout(at_ms);
            drain(&mut agent).iter().filter(|action| matches!(action, Action::Unlink(_))).count()
        };
        assert_eq!([0, 59_000, 60_000, 61_000].map(|later_ms| unlinks(mine_ms + later_ms)), [0, 0, 1, 0]);
        assert_eq!([0, 1000].map(|later_ms| unlinks(net.now_ms + later_ms)), [1, 0]);
        agent.handle_unlinked();
        agent.handle_timeout(net.now_ms + HOUR);
        agent.handle_order(net.now_ms, net.welcome());
        assert!(agent.status(net.now_ms).clock.is_none());
        agent.handle_timeout(net.now_ms + HOUR);
        assert!(!drain(&mut agent).iter().any(|action| matches!(action, Action::Unlink(_))));
        agent.handle_order(
            net.now_ms,
            Order::Entries { first_index: from, leaves: net.leaves[from as usize..].to_vec() },
        );
        agent.handle_order(net.now_ms, Order::Cosign { body: net.cosign_body(from) });
        assert!(matches!(reports(&drain(&mut agent))[..], [Report::Cosigned { .. }, ..]));
    }
    let (net, mut agent, ..) = frozen();
    agent.handle_order(net.now_ms + 10 * 60_000, net.welcome());
    assert!(agent.status(net.now_ms).clock.unwrap().contains("10 minutes ahead"), "a warning, no refusal");
}

#[test]
fn another_network_is_not_talked_to() {
    let net = Net::new();
    let mut agent = Agent::new(setup(false));
    let Order::Welcome { version, mut network } = net.welcome() else { unreachable!() };
    network.origin = "evil.test/log".into();
    agent.handle_order(net.now_ms, Order::Welcome { version, network });
    at(&drain(&mut agent), |a| matches!(a, Action::Unlink(_)));
    assert!(!agent.status(net.now_ms).linked);
}

#[test]
fn what_cannot_be_computed_ends_the_hospitals_part_with_its_code() {
    let (net, mut agent, contract, _) = frozen();
    let (open, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, open);
    agent.handle_state(net.now_ms, &contract.0, &state);
    drain(&mut agent);
    let refusal =
        Refusal::new(Reason::SmallCohort, "the cohort of 'heart' has fewer rows than the 10 that the terms ask for");
    agent.handle_unworkable(net.now_ms, &contract.0, 1, &refusal);
    let actions = drain(&mut agent);
    let refused = refusals(&actions);
    assert!(refused[0].2 && refused[0].3.starts_with("small_cohort:"), "{refused:?}");
    at(&actions, |a| matches!(a, Action::Audit(entry) if entry.code.as_deref() == Some("small_cohort")));
    assert_eq!(agent.counters().refusals["small_cohort"], 1);
}

#[test]
fn a_job_that_is_over_leaves_nothing_behind() {
    let (mut net, mut agent, contract, _) = frozen();
    let abort = leben_contracts::agreement::body::Expire {};
    net.now_ms = T0 + 21 * HOUR;
    net.act("coord", Some(&contract), Body::Expire(abort), &["coord"]).unwrap();
    let actions = net.settle(&mut agent);
    at(&actions, |a| matches!(a, Action::ForgetJob { .. }));
    assert!(!agent.status(net.now_ms).contracts[0].running);
    assert_eq!(Kind::Expire.as_str(), "Expire");
}
