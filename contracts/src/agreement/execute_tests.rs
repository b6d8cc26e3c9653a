//! The work and what it costs: key directory, rounds, receipts, privacy budgets.

use super::accounts::{AccountId, Unit};
use super::body::*;
use super::error::Reason;
use super::world::*;

#[test]
fn budgets_are_reserved_spent_and_never_overdrawn() {
    let mut w = World::new();
    let mut t = terms();
    (t.privacy.mechanism, t.privacy.epsilon_micro, t.privacy.delta_e12) =
        (code("discrete-gaussian"), 3_000_000, 1_000_000);
    let c = w.propose(t.clone().with_text_hash());
    w.accept(&c, &["team", "h1", "h2", "h3", "coord"]);
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    assert_eq!(w.state.due_steps(w.now_ms), vec![], "no budget, no arming");
    let reserve = |epsilon_micro| Body::from(BudgetReserve { dataset: code("breast"), epsilon_micro });
    assert!(matches!(why(w.act("h1", Some(&c), reserve(3_000_000))), Reason::Mismatch(_)), "no budget declared");
    for h in HOSPITALS {
        let declare = BudgetGenesis {
            dataset: code("breast"),
            rows_floor: 90,
            epsilon_micro_limit: 5_000_000,
            delta_e12: 1_000_000,
        };
        w.act(h, None, declare.clone().into()).unwrap();
        assert!(w.act(h, None, declare.into()).is_err(), "once for its lifetime");
        assert!(w.act(h, Some(&c), reserve(2_999_999)).is_err());
        w.act(h, Some(&c), reserve(3_000_000)).unwrap();
    }
    let second = w.propose(later(t));
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
    let left = |h: &str| {
        w.state.accounts().get(&AccountId::budget(Unit::MicroEpsilon, &format!("{h}/breast"))).unwrap().available()
    };
    assert_eq!([left("h1"), left("h2"), left("h3")], [3_000_000, 4_000_000, 4_000_000]);
}

#[test]
fn a_stage_that_ran_without_a_receipt_counts_as_fully_spent() {
    let mut w = World::new();
    let mut t = terms();
    (t.privacy.mechanism, t.privacy.epsilon_micro, t.privacy.delta_e12) = (code("discrete-gaussian"), 3_000_000, 1);
    let c = w.propose(t.with_text_hash());
    w.accept(&c, &["team", "h1", "h2", "h3", "coord"]);
    for h in HOSPITALS {
        let declare =
            BudgetGenesis { dataset: code("breast"), rows_floor: 90, epsilon_micro_limit: 5_000_000, delta_e12: 1 };
        w.act(h, None, declare.into()).unwrap();
        w.act(h, Some(&c), BudgetReserve { dataset: code("breast"), epsilon_micro: 3_000_000 }.into()).unwrap();
    }
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    w.due(&c);
    w.freeze(&c);
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    w.now_ms = T0 + 20 * HOUR + 1;
    w.due(&c);
    let account = w.state.accounts().get(&AccountId::budget(Unit::MicroEpsilon, "h1/breast")).unwrap().clone();
    assert_eq!((account.available(), account.debits_pending), (2_000_000, 0));
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
fn an_index_is_the_place_among_the_owners_and_cannot_be_handed_on() {
    let mut w = World::new();
    let c = w.propose(terms());
    w.arm(&c);
    for h in HOSPITALS {
        w.act(h, Some(&c), World::key_record(h)).unwrap();
    }
    let all = w.state.contract(&c).unwrap().freeze_body().unwrap();
    let only = |members: &[(usize, u16)]| {
        let members = members.iter().map(|(at, index)| Member { index: *index, ..all.members[*at].clone() }).collect();
        Body::from(RoundFreeze { members, threshold: 2 })
    };
    assert!(w.can("coord", Some(&c), &only(&[(0, 1), (2, 2)])).is_err(), "h3 on the place of h2, before any freeze");
    // h2 leaves the directory, and comes back when nobody remembers where it was.
    w.act("coord", Some(&c), only(&[(0, 1), (1, 2)])).unwrap();
    w.act("coord", Some(&c), only(&[(0, 1), (2, 3)])).unwrap();
    assert!(w.can("coord", Some(&c), &only(&[(0, 1), (1, 3)])).is_err(), "h2 on the place of h3");
    assert!(w.can("coord", Some(&c), &only(&[(1, 1), (2, 3)])).is_err(), "h2 on the place of h1");
    assert!(w.can("coord", Some(&c), &only(&[(0, 1), (1, 4)])).is_err(), "h2 on a place of nobody");
    w.act("coord", Some(&c), only(&[(0, 1), (1, 2)])).unwrap();
}

#[test]
fn a_round_is_closed_again_only_over_the_same_hospitals_and_never_after_a_later_one() {
    let (mut w, c) = running();
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    let close = |round, slot, survivors: &[&str]| -> Body {
        let survivors = survivors.iter().map(|s| id(s)).collect();
        RoundClose { stage: 1, round, slot, survivors, transcript: hash("t") }.into()
    };
    w.act("coord", Some(&c), close(1, 1, &["h1", "h2", "h3"])).unwrap();
    for others in [["h1", "h2"], ["h1", "h3"], ["h2", "h3"]] {
        let why = why(w.can("coord", Some(&c), &close(1, 2, &others))).to_string();
        assert!(why.contains("round 1 of stage 1 was closed already"), "{why}");
    }
    w.act("coord", Some(&c), close(1, 2, &["h1", "h2", "h3"])).unwrap();
    w.act("coord", Some(&c), close(2, 3, &["h1", "h2"])).unwrap();
    assert!(w.can("coord", Some(&c), &close(1, 4, &["h1", "h2", "h3"])).is_err(), "a later round was closed");
    assert!(w.can("coord", Some(&c), &close(2, 4, &["h2", "h3"])).is_err());
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    assert!(w.can("coord", Some(&c), &close(2, 4, &["h2", "h3"])).is_err(), "another try of the stage changes nothing");
    w.act("coord", Some(&c), close(3, 4, &["h2", "h3"])).unwrap();
}

#[test]
fn no_close_skips_a_round() {
    let (mut w, c) = running();
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    let close = |round, slot| -> Body {
        let survivors = HOSPITALS.iter().map(|h| id(h)).collect();
        RoundClose { stage: 1, round, slot, survivors, transcript: hash("t") }.into()
    };
    assert!(w.can("coord", Some(&c), &close(2, 1)).is_err(), "round 1 comes first");
    w.act("coord", Some(&c), close(1, 1)).unwrap();
    let why = why(w.can("coord", Some(&c), &close(3, 2))).to_string();
    assert!(why.contains("round 3 of stage 1: round 2 was not closed yet"), "{why}");
    w.act("coord", Some(&c), close(2, 2)).unwrap();
    w.act("coord", Some(&c), close(3, 3)).unwrap();
}

#[test]
fn a_reviewed_result_is_delivered_as_every_hospital_saw_it_or_not_at_all() {
    let mut w = World::new();
    let mut reviewed = terms();
    reviewed.delivery.review = true;
    let c = w.propose(reviewed.with_text_hash());
    w.arm(&c);
    w.freeze(&c);
    let clear = |what: &str| -> Body { Clear { result_commitment: hash(what) }.into() };
    let deliver: Body = Deliver { result_commitment: hash("result"), recipient: id("team") }.into();
    w.stage(&c, 1, &HOSPITALS);
    assert!(w.can("h1", Some(&c), &clear("result")).is_err(), "there is no result yet");
    w.stage(&c, 2, &["h1", "h2"]);
    w.stage(&c, 3, &[]);
    assert!(why(w.can("coord", Some(&c), &deliver)).to_string().contains("h1, h2, h3"));
    for nobody in ["team", "coord", "other"] {
        assert!(w.can(nobody, Some(&c), &clear("result")).is_err(), "{nobody}");
    }
    w.act("h1", Some(&c), clear("result")).unwrap();
    w.act("h2", Some(&c), clear("another result")).unwrap();
    w.act("h3", Some(&c), clear("result")).unwrap();
    assert!(why(w.can("coord", Some(&c), &deliver)).to_string().contains("h2 did not"));
    // Taking its data out does not let a result go that has them in it.
    let mut without = w.clone();
    without.act("h2", Some(&c), Revoke { datasets: vec![code("breast")] }.into()).unwrap();
    assert!(without.can("coord", Some(&c), &deliver).is_err());
    w.act("h2", Some(&c), clear("result")).unwrap();
    w.act("coord", Some(&c), deliver).unwrap();
    // Without a review nobody is asked, and nobody can pretend to have been.
    let (mut w, c) = running();
    w.run_all(&c);
    assert!(w.can("h1", Some(&c), &clear("result")).is_err());
    w.deliver(&c);
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
        RoundClose {
            stage: 1,
            round: 1,
            slot,
            survivors: survivors.iter().map(|s| id(s)).collect(),
            transcript: hash("t"),
        }
        .into()
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
