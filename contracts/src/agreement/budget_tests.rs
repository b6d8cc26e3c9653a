//! Privacy budgets at every way in which a contract can end: what may have run is spent, only what never ran comes back.

use super::accounts::{AccountId, Unit};
use super::body::*;
use super::error::Reason;
use super::table::Phase;
use super::world::*;

const LIMIT: u64 = 5_000_000;
const ASKED: u64 = 3_000_000;
const EVERYBODY: [&str; 5] = ["team", "h1", "h2", "h3", "coord"];

fn private() -> super::Terms {
    let mut t = terms();
    (t.privacy.mechanism, t.privacy.epsilon_micro, t.privacy.delta_e12) = (code("discrete-gaussian"), ASKED, 1_000_000);
    t.with_text_hash()
}

fn reserve() -> Body {
    BudgetReserve { dataset: code("breast"), epsilon_micro: ASKED }.into()
}

fn release() -> Body {
    BudgetRelease { dataset: code("breast") }.into()
}

/// Every hospital with a budget of 5, and a contract that asks for 3.
fn proposed() -> (World, super::ContractId) {
    let mut w = World::new();
    for h in HOSPITALS {
        let limits =
            BudgetGenesis { dataset: code("breast"), rows_floor: 90, epsilon_micro_limit: LIMIT, delta_e12: 1_000_000 };
        w.act(h, None, limits.into()).unwrap();
    }
    let c = w.propose(private());
    (w, c)
}

fn signed() -> (World, super::ContractId) {
    let (mut w, c) = proposed();
    w.accept(&c, &EVERYBODY);
    for h in HOSPITALS {
        w.act(h, Some(&c), reserve()).unwrap();
    }
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    (w, c)
}

fn armed() -> (World, super::ContractId) {
    let (mut w, c) = signed();
    w.due(&c);
    w.freeze(&c);
    (w, c)
}

fn start(w: &mut World, c: &super::ContractId, stage: u32) {
    w.act("coord", Some(c), StageStart { stage }.into()).unwrap();
}

fn receive(w: &mut World, c: &super::ContractId, stage: u32, hospitals: &[&str], epsilon_micro_spent: u64) {
    let Body::StageReceipt(receipt) = World::receipt(stage, hospitals) else { unreachable!() };
    w.act("coord", Some(c), StageReceipt { epsilon_micro_spent, ..receipt }.into()).unwrap();
}

/// Spent and held of a hospital's data set.
fn booked(w: &World, h: &str) -> (u64, u64) {
    let key = format!("{h}/breast");
    let used = w.state.accounts().get(&AccountId::used(Unit::MicroEpsilon, &key)).unwrap();
    let left = w.state.accounts().get(&AccountId::budget(Unit::MicroEpsilon, &key)).unwrap();
    assert_eq!(left.available(), LIMIT - used.credits_posted - used.credits_pending, "{h}: all of it is somewhere");
    (used.credits_posted, used.credits_pending)
}

fn all(w: &World) -> [(u64, u64); 3] {
    HOSPITALS.map(|h| booked(w, h))
}

#[test]
fn a_reservation_is_released_by_its_owner_before_the_contract_is_armed_and_not_after() {
    let (mut w, c) = proposed();
    assert!(w.can("h1", Some(&c), &release()).is_err(), "nobody signed");
    w.accept(&c, &["h1", "h2"]);
    assert!(matches!(why(w.act("h1", Some(&c), release())), Reason::Mismatch(_)), "nothing is reserved");
    w.act("h1", Some(&c), reserve()).unwrap();
    assert_eq!(booked(&w, "h1"), (0, ASKED));
    for other in ["h2", "team", "coord"] {
        assert!(w.can(other, Some(&c), &release()).is_err(), "{other} has reserved nothing");
    }
    assert!(w.can("h1", Some(&c), &BudgetRelease { dataset: code("lungs") }.into()).is_err(), "another data set");
    w.act("h1", Some(&c), release()).unwrap();
    assert_eq!(booked(&w, "h1"), (0, 0));
    assert!(matches!(why(w.act("h1", Some(&c), release())), Reason::Mismatch(_)), "once");
    w.accept(&c, &["team", "h3", "coord"]);
    for h in ["h2", "h3"] {
        w.act(h, Some(&c), reserve()).unwrap();
    }
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    assert!(w.state.due_steps(w.now_ms).is_empty(), "it is not armed without the budget of h1");
    w.act("h1", Some(&c), reserve()).unwrap();
    w.due(&c);
    assert!(w.can("h1", Some(&c), &release()).is_err(), "from now on it may run");
    assert_eq!(all(&w), [(0, ASKED); 3]);
}

#[test]
fn a_contract_that_was_never_armed_gives_everything_back() {
    type End = fn(&mut World, &super::ContractId);
    let ends: [(Phase, End); 4] = [
        (Phase::Rejected, |w, c| {
            w.act("h3", Some(c), Reject { code: code("no") }.into()).unwrap();
        }),
        (Phase::Withdrawn, |w, c| {
            w.act("team", Some(c), Withdraw { offer: None }.into()).unwrap();
        }),
        (Phase::Proposed, |w, c| {
            w.act("h3", Some(c), Amend { terms: later(private()) }.into()).unwrap();
        }),
        (Phase::Expired, |w, c| {
            w.now_ms = T0 + 10 * HOUR + 1;
            w.due(c);
        }),
    ];
    for (phase, end) in ends {
        let (mut w, c) = proposed();
        w.accept(&c, &["h1", "h2"]);
        for h in ["h1", "h2"] {
            w.act(h, Some(&c), reserve()).unwrap();
        }
        end(&mut w, &c);
        assert_eq!(w.state.contract(&c).unwrap().phase, phase);
        assert_eq!(all(&w), [(0, 0); 3], "{phase}");
    }
}

#[test]
fn after_an_abort_stages_that_never_started_come_back_and_one_without_a_receipt_is_spent_whole() {
    type Work = fn(&mut World, &super::ContractId);
    let nothing: Work = |_, _| {};
    let one_done: Work = |w, c| {
        start(w, c, 1);
        receive(w, c, 1, &HOSPITALS, 1_000_000);
    };
    let second_started: Work = |w, c| {
        start(w, c, 1);
        receive(w, c, 1, &HOSPITALS, 1_000_000);
        start(w, c, 2);
    };
    for (work, spent) in [(nothing, 0), (one_done, 1_000_000), (second_started, ASKED)] {
        let (mut w, c) = armed();
        work(&mut w, &c);
        let code = code("enough");
        w.signed("h1", Some(&c), Abort { code, party: None, stage: None }.into(), &EVERYBODY).unwrap();
        assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Aborted);
        assert_eq!(all(&w), [(spent, 0); 3]);

        let (mut w, c) = armed();
        work(&mut w, &c);
        w.now_ms = T0 + 20 * HOUR + 1;
        w.due(&c);
        assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Expired);
        assert_eq!(all(&w), [(spent, 0); 3], "a deadline counts as an abort does");
    }
}

#[test]
fn who_takes_its_data_out_is_charged_what_ran_until_then_and_the_others_at_the_end() {
    let revoke = || Body::from(Revoke { datasets: vec![code("breast")] });
    let (mut w, c) = armed();
    w.act("h1", Some(&c), revoke()).unwrap();
    assert_eq!(all(&w), [(0, 0), (0, ASKED), (0, ASKED)], "before anything ran");

    let (mut w, c) = armed();
    start(&mut w, &c, 1);
    receive(&mut w, &c, 1, &HOSPITALS, 1_000_000);
    w.act("h1", Some(&c), revoke()).unwrap();
    assert_eq!(booked(&w, "h1"), (1_000_000, 0), "the second stage never started");
    start(&mut w, &c, 2);
    w.act("h2", Some(&c), revoke()).unwrap();
    assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Aborted, "one hospital is no sum");
    assert_eq!(all(&w), [(1_000_000, 0), (ASKED, 0), (ASKED, 0)], "the second stage may have run");
}

#[test]
fn a_delivered_contract_is_charged_by_its_receipts_where_the_hospital_says_nothing() {
    let (mut w, c) = armed();
    start(&mut w, &c, 1);
    receive(&mut w, &c, 1, &HOSPITALS, 1_000_000);
    start(&mut w, &c, 2);
    receive(&mut w, &c, 2, &["h1", "h2"], 500_000);
    w.stage(&c, 3, &[]);
    w.deliver(&c);
    let spend = |epsilon_micro| Body::from(BudgetSpend { dataset: code("breast"), epsilon_micro });
    assert!(w.can("h1", Some(&c), &spend(1_499_999)).is_err(), "less than the receipts");
    assert!(w.can("h1", Some(&c), &spend(ASKED + 1)).is_err(), "more than was held");
    assert!(w.can("h1", Some(&c), &release()).is_err(), "it ran");
    w.act("h1", Some(&c), spend(2_000_000)).unwrap();
    w.act("team", Some(&c), AcceptResult {}.into()).unwrap();
    w.due(&c);
    assert_eq!(w.state.contract(&c).unwrap().phase, Phase::Settled);
    assert_eq!(all(&w), [(2_000_000, 0), (1_500_000, 0), (1_500_000, 0)]);
}
