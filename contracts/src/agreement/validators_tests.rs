//! Who changes the set of validators, and with whose signatures: every set, every group of signers; and a thief who has the keys of the
//! coordinator and of all admins, and makes every move there is.

use super::body::*;
use super::error::Reason;
use super::party::{PartyId, Role};
use super::world::*;
use std::collections::{BTreeMap, BTreeSet};

type Set = BTreeSet<&'static str>;

const ALL: [&str; 6] = ["h1", "h2", "h3", "h4", "h5", "h6"];

fn change(set: &Set) -> Body {
    let validators: Vec<PartyId> = set.iter().map(|name| id(name)).collect();
    PolicyChange { quorum: u32::try_from(quorum(validators.len())).unwrap(), validators }.into()
}

fn revoke(name: &str) -> Body {
    KeyRevoke { party: id(name), code: code("key_stolen") }.into()
}

fn enrolled(w: &mut World, name: &str) {
    let body = PartyEnrol { kind: super::OrgKind::Hospital, roles: vec![Role::DataOwner], ..enrol(name) };
    let mut action = w.action(name, None, &body.into());
    action.role = "data_owner".into();
    w.push(sign(&action, &[name, "coord"])).unwrap();
}

/// A coordinator, two admins, and hospitals of which nobody cosigns yet.
fn founded(hospitals: &[&str]) -> World {
    let mut w = World::empty();
    w.act("coord", None, genesis()).unwrap();
    hospitals.iter().for_each(|name| enrolled(&mut w, name));
    w
}

fn set_of(names: &[&'static str]) -> Set {
    names.iter().copied().collect()
}

fn subsets(of: &[&'static str]) -> Vec<Set> {
    let chosen = |bits: u32| of.iter().enumerate().filter(move |(i, _)| bits >> i & 1 == 1).map(|(_, name)| *name);
    (0..1u32 << of.len()).map(|bits| chosen(bits).collect()).collect()
}

fn in_force(w: &World) -> Set {
    let policy = w.state.policy().unwrap();
    ALL.into_iter().filter(|name| policy.validators.contains(&id(name))).collect()
}

/// What CONTRACTS and LEDGER leave to the coordinator alone, said without the state machine's words.
fn alone(now: &Set, next: &Set, revoked: bool) -> bool {
    now.is_subset(next) && (next == now || (!revoked && next.len() <= 4))
}

#[test]
fn every_set_that_follows_another_has_the_signatures_that_it_needs() {
    let mut taken = BTreeMap::from([(true, 0), (false, 0)]);
    for (first, later, gone) in [
        (&ALL[..1], &ALL[..0], None),
        (&ALL[..2], &ALL[..0], None),
        (&ALL[..3], &ALL[..0], None),
        (&ALL[..4], &ALL[..0], None),
        (&ALL[..4], &ALL[4..5], None),
        (&ALL[..4], &ALL[..0], Some("h2")),
        (&ALL[..3], &ALL[..0], Some("h3")),
    ] {
        let mut w = founded(&ALL);
        for end in 1..=first.len() {
            w.act("coord", None, change(&set_of(&first[..end]))).unwrap();
        }
        if !later.is_empty() {
            let all = set_of(&[first, later].concat());
            w.signed("coord", None, change(&all), &["coord", "h1", "h2", "h3"]).unwrap();
        }
        if let Some(name) = gone {
            w.signed("admin1", None, revoke(name), &["admin1", "admin2"]).unwrap();
        }
        let now = in_force(&w);
        let living: Vec<_> = ALL[..5].iter().copied().filter(|name| Some(*name) != gone).collect();
        for next in subsets(&living).into_iter().filter(|next| !next.is_empty()) {
            let actor = if next.len() % 2 == 0 { "coord" } else { "admin1" };
            for hands in subsets(&living) {
                let signers: Vec<&str> = [actor].into_iter().chain(hands.iter().copied()).collect();
                let envelope = w.envelope(actor, None, &change(&next), &signers);
                let said = w.state.check(w.now_ms, &envelope).map_err(|e| e.reason);
                let consent = hands.intersection(&now).count() >= quorum(now.len());
                let allowed = consent || alone(&now, &next, gone.is_some());
                assert_eq!(said.is_ok(), allowed, "{now:?} {gone:?} -> {next:?} by {signers:?}: {said:?}");
                assert!(allowed || matches!(said, Err(Reason::Signers(_))), "{said:?}");
                *taken.get_mut(&allowed).unwrap() += 1;
            }
        }
    }
    assert!(taken.values().all(|count| *count > 1000), "{taken:?}");
}

#[test]
fn nobody_else_changes_the_set() {
    let mut w = founded(&ALL);
    w.act("coord", None, change(&set_of(&ALL[..4]))).unwrap();
    let before = w.state.witness_policy();
    let next = change(&set_of(&ALL[..5]));
    for actor in ALL {
        let others: Vec<&str> = ALL.into_iter().filter(|other| *other != actor).collect();
        let refused = why(w.signed(actor, None, next.clone(), &[&[actor, "coord"], &others[..]].concat()));
        assert!(matches!(refused, Reason::NotEntitled { .. }), "{actor}: {refused}");
    }
    enrolled(&mut w, "h7");
    assert_eq!(w.state.witness_policy(), before, "who is enrolled does not cosign");
    w.signed("h6", None, KeyRotate { keys: keys("h6-new"), sealing: sealing("h6-new") }.into(), &["h6", "h6-new"])
        .unwrap();
    w.act("h5", None, revoke("h5")).unwrap();
    assert_eq!(w.state.witness_policy(), before, "nor does it matter what becomes of who does not");
}

/// One place that the thief can reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    honest: Set,
    his: Set,
    agreed: u32,
}

const HIS: [&str; 5] = ["t1", "t2", "t3", "t4", "t5"];

/// Whatever the coordinator, all admins and the thief's own hospitals sign together.
fn moves(w: &World, at: &Place) -> Vec<World> {
    let mut found = Vec::new();
    let mut signers = vec!["coord", "admin1", "admin2"];
    signers.extend(&at.his);
    let set: Set = at.honest.union(&at.his).copied().collect();
    for extra in subsets(&HIS) {
        for dropped in subsets(&at.honest.iter().copied().collect::<Vec<_>>()) {
            let next: Set = set.union(&extra).copied().filter(|name| !dropped.contains(name)).collect();
            let mut then = w.clone();
            if !next.is_empty() && then.signed("coord", None, change(&next), &signers).is_ok() {
                found.push(then);
            }
        }
    }
    for name in &set {
        let hands: Vec<&str> = signers.iter().copied().filter(|hand| *hand != "coord").collect();
        let admins = &hands[..2];
        for (actor, hands) in [("admin1", &hands[..]), ("admin1", admins), (name, &[*name][..])] {
            let mut then = w.clone();
            let own = actor == *name && at.honest.contains(name);
            if !own && then.signed(actor, None, revoke(name), hands).is_ok() {
                found.push(then);
            }
        }
    }
    found
}

#[test]
fn who_has_the_keys_of_the_coordinator_and_all_admins_never_outnumbers_three_honest_hospitals() {
    for honest in 3..=5 {
        let mut w = founded(&[&ALL[..honest], &HIS].concat());
        for end in 1..=honest {
            let body = change(&set_of(&ALL[..end]));
            w.signed("coord", None, body, &[&["coord"], &ALL[..end - 1]].concat()).unwrap();
        }
        let place = |w: &World| {
            let policy = w.state.policy().unwrap();
            let there = |names: &[&'static str]| -> Set {
                names.iter().copied().filter(|name| policy.validators.contains(&id(name))).collect()
            };
            Place { honest: there(&ALL), his: there(&HIS), agreed: policy.agreed }
        };
        let (mut seen, mut open) = (BTreeSet::from([place(&w)]), vec![w]);
        while let Some(w) = open.pop() {
            let at = place(&w);
            let n = at.honest.len() + at.his.len();
            assert!(at.honest.len() >= quorum(n), "the hospitals cannot hand over any more: {at:?}");
            assert!(at.his.len() < quorum(n), "the thief is the quorum: {at:?}");
            for then in moves(&w, &at) {
                if seen.insert(place(&then)) {
                    open.push(then);
                }
            }
        }
        assert!(seen.len() > 1, "he can do something: {seen:?}");
    }
}

#[test]
fn no_step_leaves_a_ledger_that_nobody_could_cosign() {
    // The coordinator's keys pass on by a Handover, and a validator's place would not.
    let mut w = founded(&ALL);
    let refused = w.act("coord", None, change(&set_of(&["coord", "h1", "h2"])));
    assert!(matches!(why(refused), Reason::Mismatch(why) if why.contains("cannot be a validator")));
    // Words of the policy file are nobody's name.
    for name in super::party::NOT_PARTIES {
        let error = PartyId::new(name).unwrap_err().to_string();
        assert!(error.contains("choose another"), "{error}");
        assert!(super::party::Code::new(name).is_ok());
    }
    // Whatever the step: a validator without its key, or whose keys ended, and a policy of nobody.
    w.act("coord", None, change(&set_of(&ALL[..4]))).unwrap();
    let without = |change: &dyn Fn(&mut super::party::KeyPeriod)| {
        let mut party = w.state.party("h1").unwrap().clone();
        change(party.periods.last_mut().unwrap());
        w.state.leaves_a_policy(&[super::state::Change::Party(Box::new(party))])
    };
    assert!(without(&|_| {}));
    assert!(!without(&|period| period.keys.validator = None));
    assert!(!without(&|period| period.until_index = Some(9)));
    assert!(!founded(&[]).state.leaves_a_policy(&[super::state::Change::Policy(w.state.policy().unwrap().clone())]));
}

#[test]
fn whom_a_quorum_has_let_go_nobody_brings_back_unasked() {
    for count in 2..=4 {
        let mut w = founded(&ALL);
        w.act("coord", None, change(&set_of(&ALL[..count]))).unwrap();
        let signers = [&["coord"], &ALL[..count]].concat();
        w.signed("coord", None, change(&set_of(&ALL[..count - 1])), &signers).unwrap();
        let back = change(&set_of(&ALL[..count]));
        assert!(w.act("coord", None, back.clone()).is_err(), "{count}");
        assert_eq!(w.state.policy().unwrap().room(), 0);
        w.signed("coord", None, back, &signers).unwrap();
    }
}
