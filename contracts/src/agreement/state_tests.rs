//! Whole stories through the ledger: what a contract does to parties, money and budgets, and what is refused before it does anything.

use super::body::*;
use super::error::Reason;
use super::hash::{ContractId, Hash32};
use super::party::Role;
use super::purpose::{Denied, Permission};
use super::state::State;
use super::table::Phase;
use super::world::*;
use crate::ledger::Replay;
use crate::ledger::entry::Entry;

fn credits(w: &World) -> Vec<u64> {
    ["team", "h1", "h2", "h3", "coord"].iter().map(|p| w.state.credits(&id(p))).collect()
}

fn phase(w: &World, c: &ContractId) -> Phase {
    w.state.contract(c).unwrap().phase
}

fn settled(mut w: World, c: &ContractId) -> Vec<u64> {
    w.deliver(c);
    w.act("team", Some(c), AcceptResult {}.into()).unwrap();
    w.due(c);
    assert_eq!(phase(&w, c), Phase::Settled);
    credits(&w)
}

#[test]
fn from_a_proposal_to_the_settlement() {
    let (mut w, c) = running();
    let contract = w.state.contract(&c).unwrap();
    assert_eq!(contract.directory.as_ref().unwrap().members.len(), 3);
    assert_eq!(contract.directory.as_ref().unwrap().epoch, 1);
    assert_eq!(credits(&w)[0], 3900, "1100 are held");
    w.run_all(&c);
    assert_eq!(settled(w, &c), [4000, 333, 333, 234, 100], "largest remainders: 333.3, 333.3, 233.4, 100");
}

#[test]
fn silence_accepts_and_expiry_frees() {
    let (mut w, c) = running();
    w.run_all(&c);
    w.deliver(&c);
    assert_eq!(w.state.due_steps(w.now_ms), vec![]);
    assert!(matches!(why(w.act("coord", Some(&c), AcceptResult {}.into())), Reason::Deadline { .. }));
    w.now_ms += 5 * HOUR + 1;
    assert_eq!(w.due(&c), AcceptResult {}.into());
    assert_eq!(w.due(&c).kind(), Kind::Settle);
    let (mut w, c) = running();
    w.now_ms = T0 + 20 * HOUR + 1;
    assert_eq!(w.due(&c), Expire {}.into());
    assert_eq!(credits(&w)[0], 5000);
}

#[test]
fn one_owner_leaves_and_the_others_go_on() {
    let (mut w, c) = running();
    w.stage(&c, 1, &HOSPITALS);
    w.act("h3", Some(&c), Revoke { datasets: vec![code("breast")] }.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Running);
    let contract = w.state.contract(&c).unwrap();
    assert!(contract.revoked(&id("h3")) && !contract.signatories().contains(&id("h3")));
    let mut two = w.clone();
    two.stage(&c, 2, &["h1", "h2"]);
    two.stage(&c, 3, &[]);
    assert_eq!(settled(two, &c), [4117, 333, 333, 117, 100], "h3 did one of its two stages");
    w.act("h2", Some(&c), Revoke { datasets: vec![code("breast")] }.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Aborted, "one hospital is below the minimum of two");
    assert_eq!(credits(&w), [4518, 166, 166, 117, 33], "done work is paid, the rest goes back");
}

#[test]
fn revocation_before_arming() {
    let mut w = World::new();
    let c = w.propose(terms());
    w.accept(&c, &["team", "h1", "h2", "coord"]);
    w.act("h3", Some(&c), Revoke { datasets: vec![code("breast")] }.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Signed, "nobody else has to sign");
    let half = Revoke { datasets: vec![] };
    assert!(matches!(why(w.act("h1", Some(&c), half.into())), Reason::Mismatch(_)));
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    w.due(&c);
    w.freeze(&c);
    let members = &w.state.contract(&c).unwrap().directory.as_ref().unwrap().members;
    assert_eq!(members.iter().map(|m| (m.index, m.party.as_str())).collect::<Vec<_>>(), [(1, "h1"), (2, "h2")]);
}

#[test]
fn price_per_round_and_arbiters_split() {
    let mut w = World::new();
    let mut t = terms();
    t.price.per_round = 40;
    let c = w.propose(t.with_text_hash());
    w.arm(&c);
    w.freeze(&c);
    w.run_all(&c);
    w.deliver(&c);
    w.act("team", Some(&c), Dispute { code: code("late") }.into()).unwrap();
    let outcome = Outcome::Split { basis_points: 5000 };
    w.act("judge", Some(&c), Resolve { outcome, forfeit_deposit: true }.into()).unwrap();
    w.due(&c);
    // Hospitals: 10 rounds x 40 = 400 of 1000, half of it: 66, 66, 46, and the deposit's 33, 33, 24; coord: 15 rounds = 600.
    assert_eq!(credits(&w), [5000 - 66 - 66 - 46 - 30 - 100, 66 + 33, 66 + 33, 46 + 24, 30 + 10]);
}

#[test]
fn suspension_by_owners_and_by_admins() {
    let (mut w, c) = running();
    let stop = || Body::from(Suspend { code: code("audit") });
    w.act("h1", Some(&c), stop()).unwrap();
    w.act("h2", Some(&c), stop()).unwrap();
    w.act("h1", Some(&c), Resume {}.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Suspended, "h2 still stops it");
    assert!(matches!(why(w.act("coord", Some(&c), StageStart { stage: 1 }.into())), Reason::Phase { .. }));
    w.act("h2", Some(&c), Resume {}.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Executable);
    w.act("admin1", Some(&c), stop()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Executable, "one admin of two is no majority");
    w.signed("admin2", Some(&c), stop(), &["admin2", "admin1"]).unwrap();
    assert_eq!(phase(&w, &c), Phase::Suspended);
    assert!(matches!(why(w.act("h1", Some(&c), Resume {}.into())), Reason::NotEntitled { .. }));
    w.signed("admin1", Some(&c), Resume {}.into(), &["admin1", "admin2"]).unwrap();
    assert_eq!(phase(&w, &c), Phase::Executable);
}

#[test]
fn abort_needs_everybody_or_the_failure_rule() {
    let (mut w, c) = running();
    let all = Abort { code: code("moot"), stage: None, party: None };
    for p in ["team", "h1", "h2", "h3"] {
        w.act(p, Some(&c), all.clone().into()).unwrap();
        assert_eq!(phase(&w, &c), Phase::Executable);
    }
    let mut at = |stage| {
        w.can("coord", Some(&c), &Abort { code: code("failed"), stage: Some(stage), party: Some(id("h1")) }.into())
    };
    assert!(matches!(why(at(1)), Reason::Mismatch(_)), "stage 1 says to go on");
    assert_eq!(at(3), Ok(()));
    w.act("coord", Some(&c), all.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Aborted);
    assert_eq!(credits(&w)[0], 5000);
}

#[test]
fn proposals_are_checked_against_the_ledger() {
    let mut w = World::new();
    let mut refuse = |change: &dyn Fn(&mut super::terms::Terms)| {
        let mut t = terms();
        change(&mut t);
        why(w.act("team", None, Propose { terms: t.with_text_hash() }.into()))
    };
    assert!(
        matches!(refuse(&|t| t.inputs[0].dataset = code("none")), Reason::Mismatch(m) if m.contains("h1/none is not offered"))
    );
    assert!(
        matches!(refuse(&|t| t.inputs[0].columns[0] = "age".into()), Reason::Mismatch(m) if m.contains("no column \"age\""))
    );
    assert!(
        matches!(refuse(&|t| t.inputs[0].columns[0] = "patient".into()), Reason::Mismatch(m) if m.contains("identifies"))
    );
    assert!(
        matches!(refuse(&|t| t.inputs[0].schema_hash = hash("x")), Reason::Mismatch(m) if m.contains("another schema"))
    );
    assert!(
        matches!(refuse(&|t| t.algorithms[0].digest = hash("x")), Reason::Mismatch(m) if m.contains("another digest"))
    );
    assert!(
        matches!(refuse(&|t| t.algorithms[0].version = code("2")), Reason::Mismatch(m) if m.contains("not offered"))
    );
    assert!(matches!(
        refuse(&|t| t.purpose.duo = vec!["POA".into(), "XX".into()]),
        Reason::Purpose { denied: Denied::UnknownCode(_), .. }
    ));
    assert!(matches!(refuse(&|t| t.parties[4].roles = vec![Role::DataUser]), Reason::Terms(_)));
    assert!(matches!(refuse(&|t| t.parties[5].party = id("nobody")), Reason::UnknownParty(_)));
    assert!(matches!(refuse(&|t| t.parties[5].roles = vec![Role::ComputeProvider]), Reason::Role { .. }));
    assert!(matches!(refuse(&|t| t.windows.sign_by_ms = T0 - 1), Reason::Deadline { .. }));
    let mut t = terms();
    t.privacy.hospitals_min = 3;
    assert!(matches!(why(w.act("team", None, Propose { terms: t }.into())), Reason::Terms(_)), "the text is stale");
    assert!(w.act("other", None, Propose { terms: terms() }.into()).is_err(), "not a party");
}

#[test]
fn nmds_forbids_training_whatever_the_purpose_claims() {
    let mut w = World::new();
    let mut no_methods = offer();
    no_methods.permission = Permission { duo: vec!["GRU".into(), "NMDS".into()], ehds: vec!["53.1.e".into()] };
    w.act("h1", None, no_methods.into()).unwrap();
    let mut t = terms();
    t.purpose.methods_development = false;
    let denied = why(w.act("team", None, Propose { terms: t.with_text_hash() }.into()));
    assert_eq!(denied, Reason::Purpose { dataset: "h1/breast".into(), denied: Denied::Methods("NMDS") });
}

#[test]
fn steps_on_a_contract_that_moved_on() {
    let mut w = World::new();
    let c = w.propose(terms());
    let stale_accept = w.envelope("h1", Some(&c), &w.clone().accept_body(&c), &["h1"]);
    let stale_amend = w.envelope("h1", Some(&c), &Amend { terms: terms() }.into(), &["h1"]);
    w.accept(&c, &["team", "h2"]);
    w.act("team", Some(&c), Amend { terms: later(terms()) }.into()).unwrap();
    let contract = w.state.contract(&c).unwrap();
    assert_eq!((contract.phase, contract.terms_version, contract.accepts.len()), (Phase::Proposed, 2, 0));
    assert_eq!(why(w.push(stale_accept)), Reason::TermsVersion { named: 1, version: 2 });
    assert!(matches!(why(w.push(stale_amend)), Reason::Prev { .. }));
    let unknown = hash("no contract");
    assert_eq!(why(w.act("h1", Some(&unknown), Resume {}.into())), Reason::NoContract);
}

#[test]
fn arming_must_name_what_is_on_the_ledger() {
    let mut w = World::new();
    let c = w.propose(terms());
    w.accept(&c, &["team", "h1", "h2", "h3", "coord"]);
    let unfunded = w.state.contract(&c).unwrap().arm_body().unwrap();
    assert!(
        matches!(why(w.act("coord", Some(&c), unfunded.clone().into())), Reason::Mismatch(m) if m.contains("funded"))
    );
    assert!(matches!(why(w.act("team", Some(&c), Fund { amount: 1 }.into())), Reason::Mismatch(_)));
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    let good = w.state.contract(&c).unwrap().arm_body().unwrap();
    let forged = [
        Arm { terms_hash: hash("x"), ..good.clone() },
        Arm { dag_root: hash("x"), ..good.clone() },
        Arm { accepts: good.accepts[1..].to_vec(), ..good.clone() },
        Arm { reservations: vec![hash("x")], ..good.clone() },
        unfunded,
    ];
    for arm in forged {
        assert!(matches!(why(w.act("coord", Some(&c), arm.into())), Reason::Mismatch(_)));
    }
    let withdraw = Withdraw { offer: Some(w.state.datasets()["h1/breast"].payload) };
    assert!(w.can("h2", None, &withdraw.clone().into()).is_err(), "somebody else's");
    let mut gone = w.clone();
    gone.act("h1", None, withdraw.into()).unwrap();
    assert!(
        matches!(why(gone.act("coord", Some(&c), good.clone().into())), Reason::Mismatch(m) if m.contains("no longer offered"))
    );
    w.act("coord", Some(&c), good.into()).unwrap();
}

#[test]
fn the_replay_is_deterministic_byte_for_byte() {
    let (mut w, c) = running();
    w.run_all(&c);
    w.deliver(&c);
    w.act("team", Some(&c), AcceptResult {}.into()).unwrap();
    w.due(&c);
    let mut again = State::new(ORIGIN);
    for (index, entry) in w.entries.iter().enumerate() {
        let parsed = Entry::parse(entry.bytes()).unwrap();
        Replay::check(&again, parsed.seq_ms(), parsed.envelope()).unwrap();
        Replay::apply(&mut again, index as u64, &parsed).unwrap();
    }
    assert_eq!(again.to_bytes().unwrap(), w.state.to_bytes().unwrap());
    assert!(Replay::policy(&again).is_some());
    let mut other = State::new("another.log");
    assert!(Replay::apply(&mut other, 0, &w.entries[0]).is_err());
    assert!(matches!(why(again.apply(7, &w.entries[7])), Reason::Index { .. }));
    let mut gap = State::new(ORIGIN);
    gap.apply(0, &w.entries[0]).unwrap();
    assert!(gap.apply(1, &w.entries[2]).is_ok(), "enrolments are independent");
    assert!(gap.apply(2, &w.entries[12]).is_err(), "an offer by a party that was never enrolled");
    assert_eq!(w.state.seen(&Hash32(w.entries[0].envelope().payload_hash())), Some(0));
}
