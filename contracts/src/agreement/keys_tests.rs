//! Keys over time: in force at an index, never twice, and what is left of a party whose keys are revoked.

use super::body::*;
use super::error::Reason;
use super::hash::X25519Key;
use super::party::{PartyKeys, Role};
use super::table::Phase;
use super::world::*;
use crate::ledger::entry::{Entry, Envelope};
use crate::ledger::key::PublicKey;
use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn rotate(to: &str) -> KeyRotate {
    KeyRotate { keys: keys(to), sealing: sealing(to) }
}

fn revoke(party: &str) -> Body {
    KeyRevoke { party: id(party), code: code("key_stolen") }.into()
}

#[track_caller]
fn mismatch_says<T: std::fmt::Debug>(result: Result<T, super::StepError>, words: &str) {
    let reason = why(result.map(|_| ()));
    assert!(matches!(&reason, Reason::Mismatch(m) if m.contains(words)), "{reason:?} lacks {words:?}");
}

#[test]
fn keys_have_one_use_and_one_party_and_never_come_back() {
    let mut w = World::new();
    let mut both_uses = rotate("h1-new");
    both_uses.keys.tls = both_uses.keys.party;
    mismatch_says(w.signed("h1", None, both_uses.into(), &["h1", "h1-new"]), "make a key for each use");
    for (taken, of) in [("h2", "validator"), ("team", "tls"), ("admin1", "party")] {
        let mut stolen = rotate("h1-new");
        stolen.keys.witness = Some(public(taken, of));
        mismatch_says(w.signed("h1", None, stolen.into(), &["h1", "h1-new"]), &format!("belongs to {taken}"));
    }
    let mut log = rotate("h1-new");
    log.keys.tls = public("coord", "log");
    mismatch_says(w.signed("h1", None, log.into(), &["h1", "h1-new"]), "something else");
    let swapped =
        KeyRotate { keys: PartyKeys { tls: public("h1", "party"), ..keys("h1-new") }, sealing: sealing("h1") };
    mismatch_says(w.signed("h1", None, swapped.into(), &["h1", "h1-new"]), "was a key of h1 before");
    mismatch_says(w.signed("h1", None, rotate("h1").into(), &["h1"]), "already");
    let nothing = KeyRotate { keys: PartyKeys { validator: None, ..keys("h1-new") }, sealing: sealing("h1") };
    mismatch_says(w.signed("h1", None, nothing.into(), &["h1", "h1-new"]), "needs a validator key");

    let tls_alone =
        KeyRotate { keys: PartyKeys { tls: public("h1-new", "tls"), ..keys("h1") }, sealing: sealing("h1") };
    w.act("h1", None, tls_alone.into()).unwrap();
    assert_eq!(w.state.former_tls_key(&public("h1", "tls").to_bytes()).unwrap().0.id, id("h1"));
    assert!(w.state.former_tls_key(&public("h1-new", "tls").to_bytes()).is_none(), "in force");
    mismatch_says(w.signed("h1", None, rotate("h1").into(), &["h1"]), "was a key of h1 before");
    let mut back = rotate("h1-newer");
    back.sealing = sealing("h2");
    mismatch_says(w.signed("h1", None, back.into(), &["h1", "h1-newer"]), "the sealing key belongs to h2");

    w.act("h1", None, revoke("h1")).unwrap();
    let again = PartyEnrol { invite_hash: hash("second"), ..enrol("h1") };
    mismatch_says(w.signed("h1", None, again.into(), &["h1", "coord"]), "was a key of h1 before");
    let fresh = PartyEnrol { keys: keys("h1-2"), sealing: sealing("h1-2"), invite_hash: hash("second"), ..enrol("h1") };
    w.signed("h1", None, fresh.into(), &["h1-2", "coord"]).unwrap();
    assert_eq!(w.state.keys("h1").unwrap(), &keys("h1-2"));
    assert_eq!(w.state.party("h1").unwrap().periods.len(), 3);
}

#[test]
fn weak_keys_are_refused_at_enrolment_and_rotation() {
    let mut identity = [0u8; 32];
    identity[0] = 1;
    let mut alias = [0xff; 32];
    (alias[0], alias[31]) = (0xee, 0x7f);
    for (weak, words) in [(identity, "weak"), (alias, "not an ed25519 public key")] {
        for body in [Body::from(enrol("h4")), rotate("h4").into()] {
            let mut value = body.to_value().unwrap();
            value["keys"]["validator"] = serde_json::json!(hex::encode(weak));
            let refused = Body::parse(body.kind().as_str(), &value).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
    let mut w = World::new();
    let weak = KeyRotate { keys: keys("h1-new"), sealing: X25519Key([0; 32]) };
    mismatch_says(w.signed("h1", None, weak.into(), &["h1", "h1-new"]), "weak");
    let weak = PartyEnrol { sealing: X25519Key(identity), invite_hash: hash("h4"), ..enrol("h4") };
    mismatch_says(w.signed("h4", None, weak.into(), &["h4", "coord"]), "weak");
}

#[test]
fn the_policy_follows_rotations_and_revocations() {
    let mut w = World::new();
    let vkeys = |w: &World| {
        let policy = w.state.witness_policy().unwrap();
        policy.witnesses().map(|(name, vkey, _)| (name.to_owned(), *vkey.key())).collect::<BTreeMap<_, _>>()
    };
    w.signed("h2", None, rotate("h2-new").into(), &["h2", "h2-new"]).unwrap();
    assert_eq!(vkeys(&w)["h2"], public("h2-new", "validator"));
    assert_eq!(vkeys(&w)["h1"], public("h1", "validator"));
    w.signed("admin1", None, revoke("h2"), &["admin1", "admin2"]).unwrap();
    let record = w.state.policy().unwrap();
    assert_eq!((record.validators.clone(), record.quorum), (vec![id("h1"), id("h3")], 2));
    assert!(w.state.witness_policy().unwrap().is_quorum(["h1", "h3"]));
    assert!(!w.state.datasets().contains_key("h2/breast"), "its offers are gone");
    w.act("h1", None, revoke("h1")).unwrap();
    assert_eq!(w.state.policy().unwrap().quorum, 1);
    mismatch_says(w.act("h3", None, revoke("h3")), "the only validator");
}

#[test]
fn who_may_revoke_whom() {
    let mut w = World::new();
    assert!(matches!(why(w.act("h1", None, revoke("h2"))), Reason::Signers(_)));
    assert!(matches!(why(w.act("admin1", None, revoke("h2"))), Reason::Signers(m) if m.contains("2 have to, 1 did")));
    assert!(matches!(why(w.signed("admin1", None, revoke("h2"), &["admin1", "admin2", "h1"])), Reason::Signers(_)));
    assert!(matches!(why(w.signed("h2", None, revoke("h2"), &["h2", "h1"])), Reason::Signers(_)));
    mismatch_says(w.signed("admin1", None, revoke("coord"), &["admin1", "admin2"]), "or by Handover");
    w.act("admin2", None, revoke("admin2")).unwrap();
    mismatch_says(w.act("admin1", None, revoke("admin1")), "the only admin");
    w.act("admin1", None, revoke("h2")).unwrap();
    assert!(matches!(why(w.act("admin1", None, revoke("h2"))), Reason::UnknownParty(_)), "twice");
    let admin = PartyEnrol { roles: vec![Role::Admin], ..enrol("second") };
    let mut action = w.action("second", None, &admin.into());
    action.role = "admin".into();
    assert!(
        matches!(why(w.push(sign(&action, &["second", "coord"]))), Reason::Signers(m) if m.contains("by an admin"))
    );
    w.push(sign(&action, &["second", "admin1", "coord"])).unwrap();
    assert_eq!(w.state.admins(), [id("admin1"), id("second")]);
}

#[test]
fn a_running_contract_goes_on_without_a_revoked_owner_where_its_terms_say_so() {
    let (mut w, c) = running();
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    w.signed("admin1", None, revoke("h3"), &["admin1", "admin2"]).unwrap();
    let contract = w.state.contract(&c).unwrap();
    assert_eq!((contract.phase, contract.active_owners().len()), (Phase::Running, 2));
    assert!(contract.revoked(&id("h3")));
    let head = contract.head;
    w.act("h2", None, revoke("h2")).unwrap();
    let contract = w.state.contract(&c).unwrap();
    assert_eq!(contract.phase, Phase::Aborted, "one hospital is less than the terms ask for");
    let ended = contract.ended.as_ref().unwrap();
    assert_eq!((ended.by, ended.code.clone()), (Kind::KeyRevoke, Some(code("keys_revoked"))));
    assert_eq!(contract.head, head);
    assert_eq!(w.state.credits(&id("team")), 5000, "nothing was earned, everything went back");
}

#[test]
fn every_phase_and_party_ends_or_goes_on_and_money_balances() {
    let ends = |w: &mut World, c: &super::ContractId, who: &str| {
        w.signed("admin1", None, revoke(who), &["admin1", "admin2"]).unwrap();
        w.state.contract(c).unwrap().phase
    };
    let mut proposed = World::new();
    let c = proposed.propose(terms());
    proposed.accept(&c, &["h1"]);
    assert_eq!(ends(&mut proposed.clone(), &c, "team"), Phase::Aborted);
    assert_eq!(ends(&mut proposed.clone(), &c, "h3"), Phase::PartlySigned);
    assert_eq!(ends(&mut proposed.clone(), &c, "judge"), Phase::PartlySigned);
    assert_eq!(ends(&mut proposed.clone(), &c, "other"), Phase::PartlySigned);
    let (run, c) = running();
    for (who, phase) in
        [("team", Phase::Aborted), ("h1", Phase::Executable), ("judge", Phase::Executable), ("lab", Phase::Executable)]
    {
        assert_eq!(ends(&mut run.clone(), &c, who), phase, "{who}");
    }
    let mut done = run;
    done.run_all(&c);
    done.deliver(&c);
    for who in ["team", "h1", "judge"] {
        let mut w = done.clone();
        assert_eq!(ends(&mut w, &c, who), Phase::Delivered, "{who}");
        w.now_ms += 6 * HOUR;
        w.due(&c);
        w.due(&c);
        assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Settled, "silence accepts, the coordinator settles");
    }
    let mut disputed = done;
    disputed.act("h1", Some(&c), Dispute { code: code("wrong") }.into()).unwrap();
    ends(&mut disputed, &c, "judge");
    let decision = Body::from(Resolve { outcome: Outcome::Accepted, forfeit_deposit: false });
    disputed.act("admin1", Some(&c), decision.clone()).unwrap();
    disputed.act("admin2", Some(&c), decision).unwrap();
    assert_eq!(disputed.state.contract(&c).unwrap().phase, Phase::Accepted, "the admins decide in its place");
}

/// One step of a random life.
#[derive(Debug, Clone, Copy)]
enum Life {
    Rotate { party: usize, tls_alone: bool },
    Revoke { party: usize },
    Return { party: usize },
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        4 => (0usize..4, any::<bool>()).prop_map(|(party, tls_alone)| Life::Rotate { party, tls_alone }),
        1 => (0usize..4).prop_map(|party| Life::Revoke { party }),
        2 => (0usize..4).prop_map(|party| Life::Return { party }),
    ]
}

/// What the test itself believes: the generation whose party key and whose TLS key are in force.
#[derive(Default, Clone, Copy)]
struct Belief {
    made: usize,
    party: Option<usize>,
    tls: usize,
}

const LIVES: [&str; 4] = ["h1", "h2", "team", "lab"];

fn generation(party: usize, n: usize) -> String {
    if n == 0 { LIVES[party].to_owned() } else { format!("{}-gen{n}", LIVES[party]) }
}

/// A heartbeat of every generation that was ever made is taken exactly if its key is in force.
fn check_all(w: &mut World, beliefs: &[Belief]) {
    for (i, belief) in beliefs.iter().enumerate() {
        for n in 0..=belief.made {
            let beat = w.action(LIVES[i], None, &Heartbeat {}.into());
            let envelope = Envelope::sign(&beat, &[&key(&generation(i, n), "party")]).unwrap();
            let taken = w.state.check(w.now_ms, &envelope).is_ok();
            assert_eq!(taken, belief.party == Some(n), "{} generation {n} at {}", LIVES[i], w.state.next_index());
            let linked = w.state.party_by_tls_key(&public(&generation(i, n), "tls").to_bytes()).is_some();
            assert_eq!(linked, belief.party.is_some() && belief.tls == n, "{} link {n}", LIVES[i]);
        }
    }
}

fn live(w: &mut World, beliefs: &mut [Belief], step: Life) {
    let (Life::Rotate { party, .. } | Life::Revoke { party } | Life::Return { party }) = step;
    let (name, belief) = (LIVES[party], &mut beliefs[party]);
    let next = generation(party, belief.made + 1);
    match (step, belief.party) {
        (Life::Rotate { tls_alone: true, .. }, Some(now)) => {
            let keys = PartyKeys { tls: public(&next, "tls"), ..w.state.keys(name).unwrap().clone() };
            let body = KeyRotate { keys, sealing: w.state.party(name).unwrap().current().unwrap().sealing };
            let action = w.action(name, None, &body.into());
            w.push(sign(&action, &[&generation(party, now)])).unwrap();
            (belief.made, belief.tls) = (belief.made + 1, belief.made + 1);
        }
        (Life::Rotate { .. }, Some(now)) => {
            let action = w.action(name, None, &rotate(&next).into());
            w.push(sign(&action, &[&generation(party, now), &next])).unwrap();
            *belief = Belief { made: belief.made + 1, party: Some(belief.made + 1), tls: belief.made + 1 };
        }
        (Life::Revoke { .. }, Some(now)) => {
            // The admins do not revoke one validator after the other.
            let own = generation(party, now);
            let (actor, signers) =
                if party < 2 { (name, vec![own.as_str()]) } else { ("admin1", vec!["admin1", "admin2"]) };
            w.signed(actor, None, revoke(name), &signers).unwrap();
            belief.party = None;
        }
        (Life::Return { .. }, None) => {
            let invite_hash = hash(&format!("return {next}"));
            let body = PartyEnrol { keys: keys(&next), sealing: sealing(&next), invite_hash, ..enrol(name) };
            w.signed(name, None, body.into(), &[&next, "coord"]).unwrap();
            *belief = Belief { made: belief.made + 1, party: Some(belief.made + 1), tls: belief.made + 1 };
        }
        _ => {}
    }
}

/// The signer of every entry of the log, found without the state machine: by trying every key that was ever made.
fn signer_of(entry: &Entry, made: &BTreeMap<String, PublicKey>) -> Vec<PublicKey> {
    entry.envelope().signatures().iter().filter_map(|s| made.get(&s.keyid).copied()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_signature_counts_exactly_while_its_key_is_in_force(steps in prop::collection::vec(life(), 1..14)) {
        let mut w = World::new();
        let mut beliefs = [Belief { party: Some(0), ..Belief::default() }; 4];
        for step in steps {
            live(&mut w, &mut beliefs, step);
            check_all(&mut w, &beliefs);
            w.now_ms += 1;
        }
        // Looking back: the keys in force at an index are those that signed the entry there.
        let mut made = BTreeMap::new();
        for (i, belief) in beliefs.iter().enumerate() {
            for n in 0..=belief.made {
                let public = PublicKey::of(&SigningKey::from_bytes(&key(&generation(i, n), "party").to_bytes()));
                made.insert(public.keyid(), public);
            }
        }
        for (index, entry) in w.entries.iter().enumerate() {
            let Some(party) = w.state.party(&entry.action().actor) else { continue };
            if !LIVES.contains(&party.id.as_str()) {
                continue;
            }
            let at = party.keys_at(index as u64).unwrap_or_else(|| panic!("{} had no keys at {index}", party.id));
            prop_assert!(signer_of(entry, &made).contains(&at.party), "{} at {index}", party.id);
        }
    }
}
