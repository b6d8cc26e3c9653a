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
use crate::ledger::entry::{Entry, EntryError, Envelope, origin_hash};

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

fn running() -> (World, ContractId) {
    let mut w = World::new();
    let c = w.propose(terms());
    w.arm(&c);
    w.freeze(&c);
    (w, c)
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
    assert_eq!(credits(&w), [4517, 166, 166, 117, 33 + 1 - 1], "done work is paid, the rest goes back");
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
    let mut at = |stage| w.can("coord", Some(&c), &Abort { code: code("failed"), stage: Some(stage), party: Some(id("h1")) }.into());
    assert!(matches!(why(at(1)), Reason::Mismatch(_)), "stage 1 says to go on");
    assert_eq!(at(3), Ok(()));
    w.act("coord", Some(&c), all.into()).unwrap();
    assert_eq!(phase(&w, &c), Phase::Aborted);
    assert_eq!(credits(&w)[0], 5000);
}

#[test]
fn budgets_are_reserved_spent_and_never_overdrawn() {
    let mut w = World::new();
    let mut t = terms();
    (t.privacy.mechanism, t.privacy.epsilon_micro, t.privacy.delta_e12) = (code("discrete-gaussian"), 3_000_000, 1_000_000);
    let c = w.propose(t.clone().with_text_hash());
    w.accept(&c, &["team", "h1", "h2", "h3", "coord"]);
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    assert_eq!(w.state.due_steps(w.now_ms), vec![], "no budget, no arming");
    let reserve = |epsilon_micro| Body::from(BudgetReserve { dataset: code("breast"), epsilon_micro });
    assert!(matches!(why(w.act("h1", Some(&c), reserve(3_000_000))), Reason::Mismatch(_)), "no budget declared");
    for h in HOSPITALS {
        let declare = BudgetGenesis { dataset: code("breast"), rows_floor: 90, epsilon_micro_limit: 5_000_000, delta_e12: 1_000_000 };
        w.act(h, None, declare.clone().into()).unwrap();
        assert!(w.act(h, None, declare.into()).is_err(), "once for its lifetime");
        assert!(w.act(h, Some(&c), reserve(2_999_999)).is_err());
        w.act(h, Some(&c), reserve(3_000_000)).unwrap();
    }
    let second = w.propose(Terms2::from(t).0);
    w.accept(&second, &["h1"]);
    assert!(matches!(why(w.act("h1", Some(&second), reserve(3_000_000))), Reason::Account(_)), "2 of 5 are left");
    w.due(&c);
    w.freeze(&c);
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    let Body::StageReceipt(mut receipt) = World::receipt(1, &HOSPITALS) else { unreachable!() };
    receipt.epsilon_micro_spent = 3_000_001;
    assert!(w.act("coord", Some(&c), receipt.clone().into()).is_err(), "more than the terms allow");
    receipt.epsilon_micro_spent = 1_000_000;
    w.act("coord", Some(&c), receipt.into()).unwrap();
    w.stage(&c, 2, &HOSPITALS);
    w.stage(&c, 3, &[]);
    w.deliver(&c);
    let spend = |epsilon_micro| Body::from(BudgetSpend { dataset: code("breast"), epsilon_micro });
    assert!(w.act("h1", Some(&c), spend(999_999)).is_err(), "less than the receipts say");
    w.act("h1", Some(&c), spend(2_000_000)).unwrap();
    assert!(matches!(why(w.act("h1", Some(&c), spend(2_000_000))), Reason::Account(_)), "once");
    w.act("team", Some(&c), AcceptResult {}.into()).unwrap();
    w.due(&c);
    use super::accounts::{AccountId, Unit};
    let left = |h: &str| w.state.accounts().get(&AccountId::budget(Unit::MicroEpsilon, &format!("{h}/breast"))).unwrap().available();
    assert_eq!([left("h1"), left("h2"), left("h3")], [3_000_000, 4_000_000, 4_000_000]);
}

/// The same terms with another window, so that the payload and text differ.
struct Terms2(super::terms::Terms);
impl From<super::terms::Terms> for Terms2 {
    fn from(mut t: super::terms::Terms) -> Self {
        t.windows.run_by_ms += 1;
        Self(t.with_text_hash())
    }
}

#[test]
fn a_stage_that_ran_without_a_receipt_counts_as_fully_spent() {
    let mut w = World::new();
    let mut t = terms();
    (t.privacy.mechanism, t.privacy.epsilon_micro, t.privacy.delta_e12) = (code("discrete-gaussian"), 3_000_000, 1);
    let c = w.propose(t.with_text_hash());
    w.accept(&c, &["team", "h1", "h2", "h3", "coord"]);
    for h in HOSPITALS {
        let declare = BudgetGenesis { dataset: code("breast"), rows_floor: 90, epsilon_micro_limit: 5_000_000, delta_e12: 1 };
        w.act(h, None, declare.into()).unwrap();
        w.act(h, Some(&c), BudgetReserve { dataset: code("breast"), epsilon_micro: 3_000_000 }.into()).unwrap();
    }
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    w.due(&c);
    w.freeze(&c);
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    w.now_ms = T0 + 20 * HOUR + 1;
    w.due(&c);
    use super::accounts::{AccountId, Unit};
    let account = w.state.accounts().get(&AccountId::budget(Unit::MicroEpsilon, "h1/breast")).unwrap().clone();
    assert_eq!((account.available(), account.debits_pending), (2_000_000, 0));
}

#[test]
fn proposals_are_checked_against_the_ledger() {
    let mut w = World::new();
    let mut refuse = |change: &dyn Fn(&mut super::terms::Terms)| {
        let mut t = terms();
        change(&mut t);
        why(w.act("team", None, Propose { terms: t.with_text_hash() }.into()))
    };
    assert!(matches!(refuse(&|t| t.inputs[0].dataset = code("none")), Reason::Mismatch(m) if m.contains("h1/none is not offered")));
    assert!(matches!(refuse(&|t| t.inputs[0].columns[0] = "age".into()), Reason::Mismatch(m) if m.contains("no column \"age\"")));
    assert!(matches!(refuse(&|t| t.inputs[0].columns[0] = "patient".into()), Reason::Mismatch(m) if m.contains("identifies")));
    assert!(matches!(refuse(&|t| t.inputs[0].schema_hash = hash("x")), Reason::Mismatch(m) if m.contains("another schema")));
    assert!(matches!(refuse(&|t| t.algorithms[0].digest = hash("x")), Reason::Mismatch(m) if m.contains("another digest")));
    assert!(matches!(refuse(&|t| t.algorithms[0].version = code("2")), Reason::Mismatch(m) if m.contains("not offered")));
    assert!(matches!(refuse(&|t| t.purpose.duo = vec!["POA".into(), "XX".into()]), Reason::Purpose { denied: Denied::UnknownCode(_), .. }));
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
    let flipped: String = text.char_indices().map(|(i, c)| if i == at { if c == 'A' { 'B' } else { 'A' } } else { c }).collect();
    assert!(matches!(why(w.push(Envelope::parse(flipped.as_bytes()).unwrap())), Reason::Signature(_)));
    assert_eq!(why(w.act("coord", None, genesis())), Reason::Genesis);
    assert_eq!(why(World::empty().act("coord", None, Heartbeat {}.into())), Reason::Genesis);
}

#[test]
fn steps_on_a_contract_that_moved_on() {
    let mut w = World::new();
    let c = w.propose(terms());
    let stale_accept = w.envelope("h1", Some(&c), &w.clone().accept_body(&c), &["h1"]);
    let stale_amend = w.envelope("h1", Some(&c), &Amend { terms: terms() }.into(), &["h1"]);
    w.accept(&c, &["team", "h2"]);
    w.act("team", Some(&c), Amend { terms: Terms2::from(terms()).0 }.into()).unwrap();
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
    assert!(matches!(why(w.act("coord", Some(&c), unfunded.clone().into())), Reason::Mismatch(m) if m.contains("funded")));
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
    assert!(matches!(why(gone.act("coord", Some(&c), good.clone().into())), Reason::Mismatch(m) if m.contains("no longer offered")));
    w.act("coord", Some(&c), good.into()).unwrap();
}

#[test]
fn the_directory_holds_recorded_keys_only() {
    let mut w = World::new();
    let c = w.propose(terms());
    w.arm(&c);
    for h in ["h1", "h2"] {
        w.act(h, Some(&c), World::key_record(h)).unwrap();
    }
    assert!(w.can("h3", Some(&c), &World::key_record("h1")).is_err(), "another hospital's key");
    assert_eq!(w.state.due_steps(w.now_ms), vec![], "h3 has recorded none");
    w.act("h3", Some(&c), World::key_record("h3")).unwrap();
    let good = w.state.contract(&c).unwrap().freeze_body().unwrap();
    let mut refuse = |change: &dyn Fn(&mut RoundFreeze)| {
        let mut body = good.clone();
        change(&mut body);
        assert!(matches!(why(w.act("coord", Some(&c), body.into())), Reason::Mismatch(_)));
    };
    refuse(&|b| b.members[0].verify = public("coord", "job"));
    refuse(&|b| b.members[0].channel = sealing("coord"));
    refuse(&|b| b.members[0].party = id("h2"));
    refuse(&|b| b.members[0].party = id("other"));
    refuse(&|b| b.members[0].index = 0);
    refuse(&|b| b.members.swap(0, 1));
    refuse(&|b| b.threshold = 1);
    refuse(&|b| b.threshold = 4);
    refuse(&|b| b.members.truncate(1));
    w.act("coord", Some(&c), good.clone().into()).unwrap();
    w.act("h1", Some(&c), KeyRecord { verify: public("h1", "job2"), channel: sealing("h1-2") }.into()).unwrap();
    let second = w.state.contract(&c).unwrap().freeze_body().unwrap();
    let mut moved = second.clone();
    moved.members[2].index = 4;
    assert!(w.can("coord", Some(&c), &moved.into()).is_err(), "a Shamir point is fixed for the job");
    w.act("coord", Some(&c), second.into()).unwrap();
    assert_eq!(w.state.contract(&c).unwrap().directory.as_ref().unwrap().epoch, 2);
}

#[test]
fn receipts_and_rounds_are_checked() {
    let (mut w, c) = running();
    assert!(w.can("coord", Some(&c), &StageStart { stage: 2 }.into()).is_err(), "stage 1 first");
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    let Body::StageReceipt(good) = World::receipt(1, &HOSPITALS) else { unreachable!() };
    let bad = [
        StageReceipt { rounds: 0, ..good.clone() },
        StageReceipt { rounds: 31, ..good.clone() },
        StageReceipt { algorithm_digest: hash("x"), ..good.clone() },
        StageReceipt { hospitals: vec![id("h1")], ..good.clone() },
        StageReceipt { hospitals: vec![id("h2"), id("h1")], ..good.clone() },
        StageReceipt { hospitals: vec![id("h1"), id("other")], ..good.clone() },
        StageReceipt { rows_requested: 601, ..good.clone() },
        StageReceipt { rows_used: 291, ..good.clone() },
        StageReceipt { epsilon_micro_spent: 1, ..good.clone() },
        StageReceipt { stage: 2, ..good.clone() },
        StageReceipt { stage: 9, ..good.clone() },
    ];
    for receipt in bad {
        assert!(w.can("coord", Some(&c), &receipt.clone().into()).is_err(), "{receipt:?}");
    }
    let close = |slot, survivors: &[&str]| -> Body {
        RoundClose { stage: 1, round: 1, slot, survivors: survivors.iter().map(|s| id(s)).collect(), transcript: hash("t") }.into()
    };
    assert!(w.can("coord", Some(&c), &close(1, &["h1"])).is_err());
    assert!(w.can("coord", Some(&c), &close(1, &["h1", "other"])).is_err());
    w.act("coord", Some(&c), close(1, &["h1", "h2"])).unwrap();
    assert!(w.can("coord", Some(&c), &close(1, &["h1", "h2"])).is_err(), "a slot closes once");
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    assert!(w.can("coord", Some(&c), &StageStart { stage: 1 }.into()).is_err(), "one retry");
    w.act("coord", Some(&c), good.into()).unwrap();
    let early = Deliver { result_commitment: hash("r"), recipient: id("team") };
    assert!(w.can("coord", Some(&c), &early.into()).is_err());
}

#[test]
fn enrolment_rotation_and_revocation() {
    let mut w = World::new();
    let new = |name: &str| PartyEnrol { invite_hash: hash("new"), ..enrol(name) };
    assert!(matches!(why(w.signed("h4", None, new("h4").into(), &["h4"])), Reason::Signers(_)), "no countersignature");
    let action = w.action("h4", None, &new("h4").into());
    assert!(matches!(why(w.push(sign(&action, &["coord"]))), Reason::Signers(_)), "no proof of possession");
    let used = PartyEnrol { invite_hash: hash("h1/invite"), ..enrol("h4") };
    assert!(matches!(why(w.signed("h4", None, used.into(), &["h4", "coord"])), Reason::Mismatch(m) if m.contains("invite")));
    let mut stolen = new("h4");
    stolen.keys.tls = public("h1", "tls");
    assert!(matches!(why(w.signed("h4", None, stolen.into(), &["h4", "coord"])), Reason::Mismatch(m) if m.contains("belongs to h1")));
    w.signed("h4", None, new("h4").into(), &["h4", "coord"]).unwrap();
    assert_eq!(w.state.party_by_tls_key(&public("h4", "tls").to_bytes()).unwrap().id, id("h4"));
    assert!(matches!(why(w.signed("h4", None, PartyEnrol { invite_hash: hash("x"), ..enrol("h4") }.into(), &["h4", "coord"])), Reason::Mismatch(_)));

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
    let next = Handover { coordinator: id("lab"), size: 3, root: hash("root"), log_key: public("lab", "log") };
    let mut action = w.action("lab", None, &next.clone().into());
    action.role = "coordinator".into();
    assert!(matches!(why(w.push(sign(&action, &["lab", "h1"]))), Reason::Signers(_)));
    w.push(sign(&action, &["lab", "h1", "h3"])).unwrap();
    assert_eq!(w.state.coordinator(), Some(&id("lab")));
    assert!(matches!(why(w.act("coord", None, Heartbeat {}.into())), Reason::Role { .. }), "no longer the coordinator");
    w.act("team", None, body_transfer(1)).unwrap();
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
    assert_eq!(Hash32(w.entries[0].envelope().payload_hash()), w.state.seen.iter().find(|(_, i)| **i == 0).map(|(h, _)| *h).unwrap());
}
