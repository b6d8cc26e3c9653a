//! A hospital's keys change under a running agent: what it signs with before, between and after, and after a crash.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use leben_contracts::agreement::body::{Body, KeyRevoke, KeyRotate};
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::PartyKeys;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::note::SignatureLine;
use leben_protocol::frame::{Order, Report};
use leben_worker::agent::{Action, Agent, Generation};
use leben_worker::mirror::Mirror;
use support::*;

fn generation(name: &str) -> Generation {
    let public = PartyKeys {
        party: public(name, "party"),
        witness: Some(public(name, "witness")),
        validator: Some(public(name, "validator")),
        tls: public(name, "tls"),
    };
    Generation { party: key(name, "party"), mirror: mirror_keys(name), public, sealing: X25519Key(hash(name).0) }
}

fn rotation(actions: &[Action]) -> Option<Envelope> {
    let of = |action: &Action| match action {
        Action::Append { envelope, .. } => Some(Envelope::parse(envelope).unwrap()),
        _ => None,
    };
    actions.iter().filter_map(of).find(|envelope| envelope.action().kind == "KeyRotate")
}

/// The generations whose validator key made a line of a cosignature.
fn cosigned_by(actions: &[Action]) -> Vec<&'static str> {
    let lines = actions.iter().rev().find_map(|action| match action {
        Action::Report(Report::Cosigned { lines, .. }) => Some(lines.clone()),
        _ => None,
    });
    let lines: Vec<SignatureLine> = lines.unwrap().lines().map(|line| SignatureLine::parse(line).unwrap()).collect();
    let vkey = |name| {
        leben_contracts::ledger::note::VerifierKey::new(
            "h1",
            leben_contracts::ledger::note::KeyType::Cosignature,
            public(name, "validator"),
        )
    };
    ["h1", "h1-new"].into_iter().filter(|name| lines.iter().any(|line| line.is_by(&vkey(name).unwrap()))).collect()
}

fn promoted(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::PromoteKeys))
}

#[test]
fn both_generations_serve_until_the_entry_is_certified_and_then_the_new_one_alone() {
    let (mut net, mut agent, contract, _) = frozen();
    agent.handle_next_keys(net.now_ms, generation("h1-new"));
    let actions = drain(&mut agent);
    let envelope = rotation(&actions).expect("the rotation goes to the ledger");
    envelope.verify(&[public("h1", "party"), public("h1-new", "party")]).unwrap();
    assert!(agent.is_rotating() && !promoted(&actions));
    let waits = agent.status(net.now_ms).keys;
    assert_eq!(waits.iter().filter(|key| key.state == "waits for the ledger").count(), 5);
    let index = net.append(&envelope.to_bytes()).unwrap();

    let actions = net.bring(&mut agent);
    assert_eq!(cosigned_by(&actions), ["h1", "h1-new"], "the quorum before and the one after");
    let certificate = actions.iter().position(|a| matches!(a, Action::StoreCertificate { .. })).unwrap();
    let promote = actions.iter().position(|a| matches!(a, Action::PromoteKeys)).unwrap();
    assert!(certificate < promote, "a crash between the two finds the new keys in force");
    assert!(!agent.is_rotating());
    assert!(agent.status(net.now_ms).contracts[0].running, "the job goes on with its own keys");

    net.offer_data("h2");
    assert_eq!(cosigned_by(&net.bring(&mut agent)), ["h1-new"]);
    let second = net.propose(terms());
    let actions = net.settle(&mut agent);
    let accept = actions.iter().find_map(|action| match action {
        Action::Append { key, envelope } if key.starts_with("Accept") => Some(Envelope::parse(envelope).unwrap()),
        _ => None,
    });
    accept.unwrap().verify(&[public("h1-new", "party")]).unwrap();
    assert_ne!(second, contract);
    let keys = agent.status(net.now_ms).keys;
    let party: Vec<_> = keys.iter().filter(|key| key.role == "party").map(|key| (key.since, &*key.state)).collect();
    assert_eq!(party, [(Some(index), "in force"), (Some(1), &*format!("replaced in entry {index}"))]);
}

#[test]
fn between_sequenced_and_certified_the_new_key_signs_what_the_ledger_will_check_with_it() {
    let (mut net, mut agent, contract) = proposed(false);
    agent.handle_next_keys(net.now_ms, generation("h1-new"));
    let envelope = rotation(&drain(&mut agent)).unwrap();
    net.append(&envelope.to_bytes()).unwrap();
    let from = agent.mirror().size();
    let leaves = net.leaves[usize::try_from(from).unwrap()..].to_vec();
    agent.handle_order(net.now_ms, Order::Entries { first_index: from, leaves });
    agent.handle_order(net.now_ms, Order::Cosign { body: net.cosign_body(from) });
    drain(&mut agent);
    let terms_hash = net.contract(&contract).terms_hash;
    agent.handle_command(net.now_ms, leben_worker::agent::Command::Approve { contract, terms_hash });
    let accepts: Vec<_> = drain(&mut agent)
        .into_iter()
        .filter_map(|a| {
            if let Action::Append { envelope, .. } = a { Some(Envelope::parse(&envelope).unwrap()) } else { None }
        })
        .collect();
    let accept = accepts.iter().find(|envelope| envelope.action().kind == "Accept").unwrap();
    accept.verify(&[public("h1-new", "party")]).unwrap();
    net.append(&accept.to_bytes()).unwrap();
}

/// The same hospital after kill -9: old keys and new ones on the disk, and this much of the ledger.
fn restarted(net: &Net, leaves: usize) -> Agent {
    let mut mirror = Mirror::new(&log_vkey(), "h1", mirror_keys("h1"), None).unwrap();
    let certificate = Some(leben_contracts::ledger::note::Note::parse(&net.certificate(&["h2", "h3"])).unwrap());
    mirror.restore(&net.leaves[..leaves], certificate).unwrap();
    let mut agent = Agent::new(leben_worker::agent::Setup { mirror, ..setup(true) });
    agent.handle_order(net.now_ms, net.welcome());
    drain(&mut agent);
    agent
}

#[test]
fn a_crash_at_each_step_of_a_rotation_ends_with_the_new_keys_and_one_entry() {
    let mut net = Net::new();
    let mut agent = linked(&mut net, true);
    agent.handle_next_keys(net.now_ms, generation("h1-new"));
    // Made here, not sent.
    let before = net.leaves.len();
    let mut again = restarted(&net, before);
    again.handle_next_keys(net.now_ms, generation("h1-new"));
    assert!(rotation(&drain(&mut again)).is_some());

    let envelope = rotation(&drain(&mut agent)).unwrap();
    net.append(&envelope.to_bytes()).unwrap();
    // On the ledger, of which this hospital's copy has nothing yet.
    let mut behind = Agent::new(setup(true));
    behind.handle_next_keys(net.now_ms, generation("h1-new"));
    behind.handle_order(net.now_ms, net.welcome());
    assert!(rotation(&drain(&mut behind)).is_none());
    let actions = net.bring(&mut behind);
    assert!(promoted(&actions) && rotation(&actions).is_none());
    // On the ledger and certified here, not yet taken over.
    let mut late = restarted(&net, net.leaves.len());
    late.handle_next_keys(net.now_ms, generation("h1-new"));
    let actions = drain(&mut late);
    assert!(promoted(&actions) && rotation(&actions).is_none());
    assert_eq!(net.leaves.len(), before + 1);
    // Taken over in part: the party key is in its place, the rest still lies in next.
    let mut partly = Agent::new(leben_worker::agent::Setup {
        mirror: {
            let mut mirror = Mirror::new(&log_vkey(), "h1", mirror_keys("h1"), None).unwrap();
            let note = leben_contracts::ledger::note::Note::parse(&net.certificate(&["h2", "h3"])).unwrap();
            mirror.restore(&net.leaves, Some(note)).unwrap();
            mirror
        },
        party_key: key("h1-new", "party"),
        ..setup(true)
    });
    partly.handle_next_keys(net.now_ms, generation("h1-new"));
    assert!(promoted(&drain(&mut partly)));
}

#[test]
fn keys_that_somebody_else_put_in_force_are_named_once() {
    let mut net = Net::new();
    let mut agent = linked(&mut net, true);
    let thief = generation("thief");
    let body = KeyRotate { keys: thief.public, sealing: thief.sealing };
    net.act("h1", None, Body::KeyRotate(body), &["h1", "thief"]).unwrap();
    let actions = net.bring(&mut agent);
    let named = |actions: &[Action]| {
        actions.iter().filter(|a| matches!(a, Action::Audit(entry) if entry.event == "strange-keys")).count()
    };
    assert_eq!(named(&actions), 1);
    agent.handle_timeout(net.now_ms);
    assert_eq!(named(&drain(&mut agent)), 0);
}

#[test]
fn a_hospital_whose_keys_were_revoked_says_so_and_what_to_do() {
    let (mut net, mut agent, ..) = frozen();
    let worries = |agent: &Agent, now_ms| agent.status(now_ms).worries.join("\n");
    assert!(!worries(&agent, net.now_ms).contains("revoked"));
    net.act("h1", None, KeyRevoke { party: id("h1"), code: code("key_stolen") }.into(), &["h1"]).unwrap();
    let index = net.leaves.len() - 1;
    net.bring(&mut agent);
    let said = worries(&agent, net.now_ms);
    assert!(said.contains(&format!("the keys of h1 were revoked in entry {index}: ask for an invite")), "{said}");
}
