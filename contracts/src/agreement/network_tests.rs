//! Who may sign what, when and where: envelopes, keys, policy, credits.

use super::body::*;
use super::error::{Reason, StepError};
use super::hash::Hash32;
use super::party::Role;
use super::table::Phase;
use super::world::*;
use crate::ledger::entry::{EntryError, Envelope, origin_hash};

#[test]
fn wrong_network_key_time_and_replay() {
    let mut w = World::new();
    let beat = Body::from(Heartbeat {});
    let mut action = w.action("h1", None, &beat);
    action.network = origin_hash("another.log");
    assert!(matches!(why(w.push(sign(&action, &["h1"]))), Reason::Network { .. }));
    let action = w.action("h1", None, &beat);
    assert!(matches!(why(w.push(sign(&action, &["h2"]))), Reason::Signers(_)), "another party's key");
    let stranger = Envelope::sign(&action, &[&key("stranger", "party")]).unwrap();
    assert!(matches!(why(w.push(stranger)), Reason::Signature(EntryError::UnknownKey { .. })));
    let wrong_use = Envelope::sign(&action, &[&key("h1", "tls")]).unwrap();
    assert!(matches!(why(w.push(wrong_use)), Reason::Signature(EntryError::UnknownKey { .. })));
    assert!(matches!(why(w.push(sign(&action, &["h1", "h2"]))), Reason::Signers(_)), "one signature is enough");
    let envelope = sign(&action, &["h1"]);
    w.push(envelope.clone()).unwrap();
    let first = w.state.next_index() - 1;
    assert_eq!(why(w.push(envelope)), Reason::Replayed(first));
    let mut late = w.action("h1", None, &beat);
    (late.not_before_ms, late.not_after_ms) = (T0 - 3 * HOUR, T0 - 2 * HOUR);
    let e = w.push(sign(&late, &["h1"])).unwrap_err();
    assert_eq!(
        e.to_string(),
        "Heartbeat: the action is valid from 2027-01-15T05:00:00.000Z to 2027-01-15T06:00:00.000Z but was sequenced at \
         2027-01-15T08:00:00.000Z; the clock at h1 is off by about 120 min, set it and sign again"
    );
    w.now_ms = T0 - 1;
    assert!(matches!(why(w.act("h1", None, beat)), Reason::TimeBackwards { .. }));
}

#[test]
fn a_flipped_signature_bit_and_a_second_genesis_are_refused() {
    let mut w = World::new();
    let envelope = w.envelope("h1", None, &Heartbeat {}.into(), &["h1"]);
    let text = String::from_utf8(envelope.to_bytes()).unwrap();
    let at = text.find("\"sig\":\"").unwrap() + 20;
    let flipped: String =
        text.char_indices().map(|(i, c)| if i == at { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
    assert!(matches!(why(w.push(Envelope::parse(flipped.as_bytes()).unwrap())), Reason::Signature(_)));
    assert_eq!(why(w.act("coord", None, genesis())), Reason::Genesis);
    assert_eq!(why(World::empty().act("coord", None, Heartbeat {}.into())), Reason::Genesis);
}

#[test]
fn enrolment_rotation_and_revocation() {
    let mut w = World::new();
    let new = |name: &str| PartyEnrol { invite_hash: hash("new"), ..enrol(name) };
    assert!(matches!(why(w.signed("h4", None, new("h4").into(), &["h4"])), Reason::Signers(_)), "no countersignature");
    let action = w.action("h4", None, &new("h4").into());
    assert!(matches!(why(w.push(sign(&action, &["coord"]))), Reason::Signers(_)), "no proof of possession");
    let used = PartyEnrol { invite_hash: hash("h1/invite"), ..enrol("h4") };
    assert!(
        matches!(why(w.signed("h4", None, used.into(), &["h4", "coord"])), Reason::Mismatch(m) if m.contains("invite"))
    );
    let mut stolen = new("h4");
    stolen.keys.tls = public("h1", "tls");
    assert!(
        matches!(why(w.signed("h4", None, stolen.into(), &["h4", "coord"])), Reason::Mismatch(m) if m.contains("belongs to h1"))
    );
    w.signed("h4", None, new("h4").into(), &["h4", "coord"]).unwrap();
    assert_eq!(w.state.party_by_tls_key(&public("h4", "tls").to_bytes()).unwrap().id, id("h4"));
    assert!(matches!(
        why(w.signed("h4", None, PartyEnrol { invite_hash: hash("x"), ..enrol("h4") }.into(), &["h4", "coord"])),
        Reason::Mismatch(_)
    ));

    let rotate = KeyRotate { keys: keys("h4-new"), sealing: sealing("h4-new") };
    assert!(matches!(why(w.act("h4", None, rotate.clone().into())), Reason::Signers(_)), "the new key must sign too");
    let from = w.state.next_index();
    w.signed("h4", None, rotate.into(), &["h4", "h4-new"]).unwrap();
    let party = w.state.party("h4").unwrap();
    assert_eq!(party.keys_at(from).unwrap().party, public("h4", "party"));
    assert_eq!(party.keys_at(from + 1).unwrap().party, public("h4-new", "party"));
    assert!(matches!(why(w.act("h4", None, Heartbeat {}.into())), Reason::Signature(_)), "the old key is out of force");
    let action = w.action("h4", None, &Heartbeat {}.into());
    w.push(sign(&action, &["h4-new"])).unwrap();

    let revoke = KeyRevoke { party: id("h4"), code: code("key_stolen") };
    assert!(matches!(why(w.act("admin1", None, revoke.clone().into())), Reason::Signers(_)));
    w.signed("admin1", None, revoke.into(), &["admin1", "admin2"]).unwrap();
    assert!(w.state.keys("h4").is_none() && w.state.party_by_tls_key(&public("h4-new", "tls").to_bytes()).is_none());
}

#[test]
fn policy_freeze_and_handover() {
    let mut w = World::new();
    let policy = |quorum| Body::from(PolicyChange { validators: HOSPITALS.map(id).to_vec(), quorum });
    assert!(matches!(why(w.act("coord", None, policy(1))), Reason::Mismatch(m) if m.contains("the quorum is 2")));
    assert!(matches!(why(w.act("h1", None, policy(2))), Reason::NotEntitled { .. }));
    assert!(w.state.witness_policy().is_some_and(|p| p.is_quorum(["h1", "h3"]) && !p.is_quorum(["h1"])));
    assert_eq!([1, 3, 4, 7, 10].map(quorum), [1, 2, 3, 5, 7]);
    let freeze = || Body::from(Freeze { code: code("fork") });
    assert!(matches!(why(w.act("h1", None, freeze())), Reason::Signers(_)));
    w.signed("h1", None, freeze(), &["h1", "h2"]).unwrap();
    assert_eq!(why(w.act("team", None, body_transfer(1))), Reason::Frozen);
    assert_eq!(
        why(w.act("h1", None, Heartbeat {}.into())),
        Reason::Frozen,
        "it would move the place that a Handover names"
    );
    handed(&mut w, "coord", "coord-new").unwrap();
    assert!(!w.state.is_frozen());
    w.act("team", None, body_transfer(1)).unwrap();
}

#[test]
fn whoever_drops_a_validator_needs_the_quorum_in_force() {
    let mut w = World::new();
    w.signed("h4", None, enrol("h4").into(), &["h4", "coord"]).unwrap();
    let policy = |names: &[&str]| {
        let validators: Vec<_> = names.iter().map(|name| id(name)).collect();
        let quorum = u32::try_from(quorum(validators.len())).unwrap();
        Body::from(PolicyChange { validators, quorum })
    };
    for validators in [&["h4"][..], &["h1", "h2"], &["h1", "h2", "h4"]] {
        for signers in [&["coord"][..], &["coord", "h1"], &["coord", "h1", "h4"]] {
            let refused = why(w.signed("coord", None, policy(validators), signers));
            assert!(matches!(refused, Reason::Signers(_)), "{validators:?} {signers:?}: {refused}");
        }
    }
    assert!(matches!(why(w.act("admin1", None, policy(&["h4"]))), Reason::Signers(_)));
    w.act("coord", None, policy(&["h1", "h2", "h3", "h4"])).unwrap();
    w.signed("coord", None, policy(&["h1", "h2", "h3"]), &["coord", "h1", "h2", "h4"]).unwrap();
    w.signed("coord", None, policy(&["h1", "h3"]), &["coord", "h1", "h2"]).unwrap();
}

fn handover(w: &World, party: &str, keyname: &str) -> Handover {
    let coordinator = Founder { party: id(party), keys: keys(keyname), sealing: sealing(keyname) };
    Handover { coordinator, size: w.state.next_index(), root: w.state.root(), log_key: public(keyname, "log") }
}

fn hand(w: &mut World, body: Handover, keyname: &str, signers: &[&str]) -> Result<Hash32, StepError> {
    let party = body.coordinator.party.to_string();
    let mut action = w.action(&party, None, &body.into());
    action.role = "coordinator".into();
    w.push(sign(&action, &[&[keyname], signers].concat()))
}

fn handed(w: &mut World, party: &str, keyname: &str) -> Result<Hash32, StepError> {
    let body = handover(w, party, keyname);
    hand(w, body, keyname, &["h1", "h3"])
}

#[test]
fn a_handover_fits_one_place_and_takes_a_quorum_and_new_keys() {
    let mut w = World::new();
    let good = handover(&w, "coord", "coord-new");
    let says = |w: &mut World, body: &Handover, key: &str, signers: &[&str], words: &str| {
        let why = why(hand(w, body.clone(), key, signers));
        assert!(why.to_string().contains(words), "{why}");
    };
    says(&mut w, &good, "coord-new", &["h1"], "1 of the validators signed, 2 have to");
    says(&mut w, &good, "coord-new", &["h1", "team"], "1 of the validators signed, 2 have to");
    says(&mut w, &good, "coord-new", &["h1", "h2", "team"], "team signed but has no say");
    says(&mut w, &good, "coord", &["h1", "h2"], "signed with the party key that it brings");
    for (size, root) in [(good.size + 1, good.root), (good.size - 1, good.root), (good.size, hash("another history"))] {
        let body = Handover { size, root, ..good.clone() };
        says(&mut w, &body, "coord-new", &["h1", "h2"], "fits one place of one history");
    }
    for (log_key, words) in [
        (public("coord", "log"), "must be a new one"),
        (public("coord-new", "tls"), "must be a new one"),
        (public("h2", "party"), "the log key belongs to h2"),
    ] {
        says(&mut w, &Handover { log_key, ..good.clone() }, "coord-new", &["h1", "h2"], words);
    }
    let taken = handover(&w, "lab", "lab-new");
    says(&mut w, &taken, "lab-new", &["h1", "h2"], "a party of its own");
    let mut stolen = good.clone();
    stolen.coordinator.keys.tls = public("h2", "tls");
    says(&mut w, &stolen, "coord-new", &["h1", "h2"], "belongs to h2");

    let (at, before) = (good.size, w.state.witness_policy());
    hand(&mut w, good.clone(), "coord-new", &["h1", "h3"]).unwrap();
    assert_eq!(w.state.coordinator(), Some(&id("coord")));
    assert_eq!(w.state.keys("coord").unwrap().party, public("coord-new", "party"));
    assert_eq!(w.state.log_vkeys().len(), 2);
    assert_eq!(w.state.log_key(), Some(public("coord-new", "log")));
    assert_ne!(w.state.witness_policy(), before, "a turn: the log's key is part of the policy");
    assert_eq!(w.state.party("coord").unwrap().keys_at(at).unwrap().party, public("coord", "party"));
    says(&mut w, &good, "coord-new", &["h1", "h3"], "");
    assert!(
        matches!(why(w.act("coord", None, Heartbeat {}.into())), Reason::Signature(_)),
        "the lost keys are out of force"
    );

    // Another party takes over: the one before keeps its name and loses the role.
    handed(&mut w, "coord2", "coord2").unwrap();
    assert_eq!(w.state.coordinator(), Some(&id("coord2")));
    assert!(!w.state.party("coord").unwrap().has_role(Role::Coordinator) && w.state.keys("coord").is_none());
    let back = handover(&w, "coord2", "coord2-newer");
    says(
        &mut w,
        &Handover { log_key: public("coord", "log"), ..back },
        "coord2-newer",
        &["h1", "h2"],
        "must be a new one",
    );
    w.signed("newcomer", None, enrol("newcomer").into(), &["newcomer", "coord2"]).unwrap();
}

#[test]
fn contracts_go_on_under_the_same_party_and_end_with_another_one() {
    let (mut w, c) = running();
    handed(&mut w, "coord", "coord-new").unwrap();
    assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Executable);
    let held = w.state.credits(&id("team"));
    handed(&mut w, "coord2", "coord2").unwrap();
    assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Aborted);
    assert!(w.state.credits(&id("team")) > held, "what was in escrow goes back");
}

fn body_transfer(credits: u64) -> Body {
    Transfer { to: id("other"), credits }.into()
}

#[test]
fn credits_come_go_and_never_run_out() {
    let mut w = World::new();
    assert!(matches!(why(w.act("team", None, body_transfer(5001))), Reason::Account(_)));
    w.act("team", None, body_transfer(2000)).unwrap();
    let again = Deposit { party: id("team"), credits: 1, receipt_hash: hash("bank") };
    assert!(matches!(why(w.act("coord", None, again.into())), Reason::Mismatch(_)), "a receipt is booked once");
    let deposit = Deposit { party: id("team"), credits: 1, receipt_hash: hash("bank2") };
    assert!(matches!(why(w.act("team", None, deposit.into())), Reason::NotEntitled { .. }));
    let payout = |credits, receipt| Payout { party: id("other"), credits, receipt_hash: hash(receipt) };
    assert!(matches!(why(w.act("coord", None, payout(2001, "out").into())), Reason::Account(_)));
    w.act("coord", None, payout(2000, "out").into()).unwrap();
    assert_eq!((w.state.credits(&id("team")), w.state.credits(&id("other"))), (3000, 0));
    let compute = ComputeOffer { name: code("gpu"), cores: 1, memory_mib: 1, seconds: 5 };
    w.act("coord", None, compute.into()).unwrap();
}
