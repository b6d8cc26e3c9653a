//! Every phase, actor and step: what the state machine allows is exactly the table below, which is CONTRACTS' table written out.

use super::body::*;
use super::hash::{ContractId, X25519Key};
use super::party::{PartyId, PartyKeys};
use super::table::{Phase, RULES};
use super::terms::Terms;
use super::world::*;
use std::collections::{BTreeMap, BTreeSet};

const OWNERS: &[&str] = &["h1", "h2", "h3"];
const SIGNATORIES: &[&str] = &["coord", "h1", "h2", "h3", "team"];
const ADMINS: &[&str] = &["admin1", "admin2"];
const ALL: &[&str] = &ACTORS;
/// Everybody who tries: those who are enrolled, one who never was, and one whose keys are revoked.
const TRIED: [&str; 12] =
    ["coord", "admin1", "admin2", "h1", "h2", "h3", "team", "lab", "judge", "other", "stranger", "gone"];

/// Step, phase, who; inside every window. Whatever is not here is refused.
fn in_time() -> Vec<(Kind, Vec<Phase>, &'static [&'static str])> {
    use Phase::*;
    vec![
        (Kind::Amend, vec![Proposed, PartlySigned], SIGNATORIES),
        (Kind::Accept, vec![Proposed], SIGNATORIES),
        // In the world's PartlySigned the team has signed already.
        (Kind::Accept, vec![PartlySigned], &["coord", "h1", "h2", "h3"]),
        (Kind::Reject, vec![Proposed, PartlySigned], SIGNATORIES),
        (Kind::Withdraw, vec![Proposed, PartlySigned], &["team"]),
        (Kind::Fund, vec![Signed], &["team"]),
        (Kind::BudgetReserve, vec![PartlySigned, Signed], OWNERS),
        (Kind::BudgetRelease, vec![PartlySigned, Signed], OWNERS),
        (Kind::BudgetSpend, vec![Delivered, Disputed, Accepted], OWNERS),
        (Kind::Arm, vec![Signed], &["coord"]),
        (Kind::KeyRecord, vec![Executable, Running], OWNERS),
        (Kind::RoundFreeze, vec![Executable, Running], &["coord"]),
        (Kind::StageStart, vec![Executable, Running], &["coord"]),
        (Kind::RoundClose, vec![Running], &["coord"]),
        (Kind::StageReceipt, vec![Running], &["coord"]),
        (Kind::StageAccept, vec![Running], &["coord", "team"]),
        (Kind::Clear, vec![Running], OWNERS),
        (Kind::Deliver, vec![Running], &["coord"]),
        (Kind::AcceptResult, vec![Delivered], &["team"]),
        (Kind::Dispute, vec![Delivered], SIGNATORIES),
        (Kind::Resolve, vec![Disputed], &["judge"]),
        (Kind::Settle, vec![Accepted], &["coord"]),
        (Kind::Suspend, vec![Executable, Running], &["admin1", "admin2", "h1", "h2", "h3"]),
        // In the world's Suspended, h1 has stopped the contract.
        (Kind::Suspend, vec![Suspended], &["admin1", "admin2", "h2", "h3"]),
        (Kind::Resume, vec![Suspended], &["h1"]),
        (Kind::Revoke, vec![Proposed, PartlySigned, Signed, Executable, Running, Suspended], OWNERS),
        (
            Kind::Abort,
            vec![Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed],
            SIGNATORIES,
        ),
        (Kind::AdminReview, Phase::ALL.to_vec(), ADMINS),
    ]
}

/// The same after every window has passed.
fn too_late() -> Vec<(Kind, Vec<Phase>, &'static [&'static str])> {
    use Phase::*;
    vec![
        (
            Kind::Expire,
            vec![Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed, Accepted],
            ALL,
        ),
        (Kind::Reject, vec![Proposed, PartlySigned], SIGNATORIES),
        (Kind::Withdraw, vec![Proposed, PartlySigned], &["team"]),
        (Kind::BudgetReserve, vec![PartlySigned, Signed], OWNERS),
        (Kind::BudgetRelease, vec![PartlySigned, Signed], OWNERS),
        (Kind::BudgetSpend, vec![Delivered, Disputed, Accepted], OWNERS),
        (Kind::StageAccept, vec![Running], &["coord", "team"]),
        (Kind::AcceptResult, vec![Delivered], &["coord", "team"]),
        (Kind::Resolve, vec![Disputed], &["judge"]),
        (Kind::Suspend, vec![Executable, Running], &["admin1", "admin2", "h1", "h2", "h3"]),
        (Kind::Suspend, vec![Suspended], &["admin1", "admin2", "h2", "h3"]),
        (Kind::Resume, vec![Suspended], &["h1"]),
        (Kind::Revoke, vec![Proposed, PartlySigned, Signed, Executable, Running, Suspended], OWNERS),
        (
            Kind::Abort,
            vec![Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed],
            SIGNATORIES,
        ),
        (Kind::AdminReview, Phase::ALL.to_vec(), ADMINS),
    ]
}

/// Terms that use privacy budget and have the result reviewed, so that their steps are part of the way.
fn terms() -> Terms {
    let mut t = super::world::terms();
    (t.privacy.mechanism, t.privacy.epsilon_micro, t.privacy.delta_e12) = (code("discrete-gaussian"), EPSILON_MICRO, 1);
    t.delivery.review = true;
    t.with_text_hash()
}

const EPSILON_MICRO: u64 = 3_000_000;

pub(super) fn reserve(w: &mut World, c: &ContractId) {
    for h in HOSPITALS {
        w.act(h, Some(c), BudgetReserve { dataset: code("breast"), epsilon_micro: EPSILON_MICRO }.into()).unwrap();
    }
}

pub(super) fn clear(w: &mut World, c: &ContractId) {
    for h in HOSPITALS {
        w.act(h, Some(c), Clear { result_commitment: hash("result") }.into()).unwrap();
    }
}

/// A network with privacy budgets, and somebody whose keys are revoked.
fn network() -> World {
    let mut w = World::new();
    for h in HOSPITALS {
        let limit = BudgetGenesis {
            dataset: code("breast"),
            rows_floor: 90,
            epsilon_micro_limit: 2 * EPSILON_MICRO,
            delta_e12: 1,
        };
        w.act(h, None, limit.into()).unwrap();
    }
    w.signed("gone", None, enrol("gone").into(), &["gone", "coord"]).unwrap();
    w.act("gone", None, KeyRevoke { party: id("gone"), code: code("key_lost") }.into()).unwrap();
    w
}

/// One world for each phase, each reached by real steps.
pub(super) fn worlds() -> BTreeMap<Phase, (World, ContractId)> {
    let mut all = BTreeMap::new();
    let mut put = |w: &World, c: ContractId| all.insert(w.state.contract(&c).unwrap().phase, (w.clone(), c));
    let mut w = network();
    let c = w.propose(terms());
    put(&w, c);
    let mut ended = w.clone();
    ended.act("team", Some(&c), Withdraw { offer: None }.into()).unwrap();
    put(&ended, c);
    let mut ended = w.clone();
    ended.act("h1", Some(&c), Reject { code: code("no") }.into()).unwrap();
    put(&ended, c);
    let mut ended = w.clone();
    ended.now_ms = T0 + 11 * HOUR;
    ended.act("other", Some(&c), Expire {}.into()).unwrap();
    ended.now_ms = T0 + HOUR / 2;
    put(&ended, c);
    w.accept(&c, &["team"]);
    put(&w, c);
    w.accept(&c, &["h1", "h2", "h3", "coord"]);
    put(&w, c);
    w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
    reserve(&mut w, &c);
    w.due(&c);
    w.freeze(&c);
    put(&w, c);
    let mut stopped = w.clone();
    stopped.act("h1", Some(&c), Suspend { code: code("audit") }.into()).unwrap();
    put(&stopped, c);
    w.act("coord", Some(&c), StageStart { stage: 1 }.into()).unwrap();
    put(&w, c);
    let mut ended = w.clone();
    ended.act("coord", Some(&c), Abort { code: code("failed"), stage: Some(3), party: None }.into()).unwrap();
    put(&ended, c);
    w.act("coord", Some(&c), World::receipt(1, &HOSPITALS)).unwrap();
    w.stage(&c, 2, &HOSPITALS);
    w.stage(&c, 3, &[]);
    clear(&mut w, &c);
    w.deliver(&c);
    put(&w, c);
    let mut disputed = w.clone();
    disputed.act("h2", Some(&c), Dispute { code: code("wrong") }.into()).unwrap();
    put(&disputed, c);
    w.act("team", Some(&c), AcceptResult {}.into()).unwrap();
    put(&w, c);
    w.due(&c);
    put(&w, c);
    all
}

/// Bodies of one kind, of which at least one fits the present state if any could. What is no step on a contract gets a body that is good
/// outside of one.
pub(super) fn bodies(w: &World, c: &ContractId, kind: Kind, actor: &str) -> Vec<Body> {
    let contract = w.state.contract(c).unwrap();
    let stage_bodies = |make: fn(u32) -> Body| (1..=3).map(make).collect::<Vec<_>>();
    let members = contract.freeze_body();
    vec![match kind {
        Kind::Amend => Amend { terms: terms() }.into(),
        Kind::Accept => w.accept_body(c),
        Kind::Reject => Reject { code: code("no") }.into(),
        Kind::Withdraw => Withdraw { offer: None }.into(),
        Kind::Fund => Fund { amount: 1100 }.into(),
        Kind::Arm => contract.arm_body().unwrap().into(),
        Kind::KeyRecord => {
            KeyRecord { verify: public(actor, "job2"), channel: X25519Key(hash(&format!("{actor}/channel2")).0) }.into()
        }
        Kind::RoundFreeze => members.unwrap_or(RoundFreeze { members: vec![], threshold: 2 }).into(),
        Kind::StageStart => return stage_bodies(|stage| StageStart { stage }.into()),
        Kind::RoundClose => {
            let survivors: Vec<PartyId> = ["h1", "h2"].map(id).to_vec();
            RoundClose { stage: 1, round: 1, slot: 1, survivors, transcript: hash("t") }.into()
        }
        Kind::StageReceipt => World::receipt(1, &HOSPITALS),
        Kind::StageAccept => return stage_bodies(|stage| StageAccept { stage }.into()),
        Kind::Clear => Clear { result_commitment: hash("result") }.into(),
        Kind::Deliver => Deliver { result_commitment: hash("result"), recipient: id("team") }.into(),
        Kind::AcceptResult => AcceptResult {}.into(),
        Kind::Dispute => Dispute { code: code("wrong") }.into(),
        Kind::Resolve => Resolve { outcome: Outcome::Accepted, forfeit_deposit: false }.into(),
        Kind::Settle => w.state.settle_body(c).unwrap(),
        Kind::Suspend => Suspend { code: code("audit") }.into(),
        Kind::Resume => Resume {}.into(),
        Kind::Revoke => Revoke { datasets: vec![code("breast")] }.into(),
        Kind::Abort => Abort { code: code("failed"), stage: None, party: None }.into(),
        Kind::Expire => Expire {}.into(),
        Kind::AdminReview => AdminReview { verdict: Verdict::Flag, code: code("look") }.into(),
        Kind::BudgetReserve => BudgetReserve { dataset: code("breast"), epsilon_micro: EPSILON_MICRO }.into(),
        Kind::BudgetRelease => BudgetRelease { dataset: code("breast") }.into(),
        Kind::BudgetSpend => BudgetSpend { dataset: code("breast"), epsilon_micro: EPSILON_MICRO }.into(),
        other => outside(w, other, actor),
    }]
}

/// A body that the actor, or another, could use where no contract is named.
fn outside(w: &World, kind: Kind, actor: &str) -> Body {
    let keys = PartyKeys { tls: public(actor, "tls-2"), ..keys(actor) };
    match kind {
        Kind::Genesis => genesis(),
        Kind::PartyEnrol => enrol("new").into(),
        Kind::KeyRotate => KeyRotate { keys, sealing: sealing(actor) }.into(),
        Kind::KeyRevoke => KeyRevoke { party: id(actor), code: code("key_lost") }.into(),
        Kind::PolicyChange => PolicyChange { validators: HOSPITALS.map(id).to_vec(), quorum: 2 }.into(),
        Kind::Freeze => Freeze { code: code("stop") }.into(),
        Kind::Handover => {
            let coordinator = Founder { party: id(actor), keys, sealing: sealing(actor) };
            let (size, root) = (w.state.next_index(), w.state.root());
            Handover { coordinator, size, root, log_key: public(actor, "log") }.into()
        }
        Kind::DatasetOffer => offer().into(),
        Kind::AlgorithmOffer => {
            let digest = hash("other");
            AlgorithmOffer { name: code("other"), version: code("1"), digest, trains_model: false }.into()
        }
        Kind::ComputeOffer => ComputeOffer { name: code("box"), cores: 8, memory_mib: 1024, seconds: 3600 }.into(),
        Kind::Propose => Propose { terms: later(terms()) }.into(),
        Kind::BudgetGenesis => {
            BudgetGenesis { dataset: code("breast"), rows_floor: 90, epsilon_micro_limit: 1, delta_e12: 1 }.into()
        }
        Kind::Deposit => Deposit { party: id("team"), credits: 5, receipt_hash: hash("another") }.into(),
        Kind::Payout => Payout { party: id("team"), credits: 5, receipt_hash: hash("another") }.into(),
        Kind::Transfer => Transfer { to: id("h1"), credits: 5 }.into(),
        _ => Heartbeat {}.into(),
    }
}

/// Prepares what a step needs beside its phase, so that a refusal is the table's and not a missing detail's.
fn prepared(w: &World, c: &ContractId, kind: Kind) -> World {
    let mut w = w.clone();
    let phase = w.state.contract(c).unwrap().phase;
    match (kind, phase) {
        (Kind::Arm, Phase::Signed) => {
            w.act("team", Some(c), Fund { amount: 1100 }.into()).unwrap();
            reserve(&mut w, c);
        }
        (Kind::BudgetRelease, Phase::PartlySigned | Phase::Signed) => reserve(&mut w, c),
        (Kind::StageAccept, Phase::Running) => _ = w.act("coord", Some(c), World::receipt(1, &HOSPITALS)).unwrap(),
        (Kind::Clear | Kind::Deliver, Phase::Running) => {
            w.act("coord", Some(c), World::receipt(1, &HOSPITALS)).unwrap();
            w.stage(c, 2, &HOSPITALS);
            w.stage(c, 3, &[]);
            if kind == Kind::Deliver {
                clear(&mut w, c);
            }
        }
        _ => {}
    }
    w
}

fn allowed(at_ms: Option<u64>) -> BTreeSet<(Kind, Phase, &'static str)> {
    let mut found = BTreeSet::new();
    for (phase, (world, c)) in worlds() {
        for kind in Kind::ALL.iter().copied() {
            let mut w = prepared(&world, &c, kind);
            w.now_ms = at_ms.unwrap_or(w.now_ms.max(w.state.now_ms()));
            for actor in TRIED {
                if bodies(&w, &c, kind, actor).iter().any(|body| w.can(actor, Some(&c), body).is_ok()) {
                    found.insert((kind, phase, actor));
                }
            }
        }
    }
    found
}

fn expected(table: Vec<(Kind, Vec<Phase>, &'static [&'static str])>) -> BTreeSet<(Kind, Phase, &'static str)> {
    table
        .into_iter()
        .flat_map(|(kind, phases, who)| phases.into_iter().flat_map(move |p| who.iter().map(move |w| (kind, p, *w))))
        .collect()
}

fn same(found: &BTreeSet<(Kind, Phase, &'static str)>, table: &BTreeSet<(Kind, Phase, &'static str)>) {
    assert_eq!(
        found.difference(table).collect::<Vec<_>>(),
        Vec::<&(Kind, Phase, &str)>::new(),
        "allowed but not in the table"
    );
    assert_eq!(
        table.difference(found).collect::<Vec<_>>(),
        Vec::<&(Kind, Phase, &str)>::new(),
        "in the table but refused"
    );
}

#[test]
fn every_phase_is_reached() {
    let reached = worlds();
    assert_eq!(reached.keys().copied().collect::<Vec<_>>(), Phase::ALL.to_vec());
    for (phase, (w, c)) in reached {
        assert_eq!(w.state.open_contracts().any(|k| k.id == c), !phase.is_terminal(), "{phase}");
    }
}

#[test]
fn inside_the_windows_the_allowed_set_is_the_table() {
    same(&allowed(None), &expected(in_time()));
}

#[test]
fn after_the_windows_the_allowed_set_is_the_table() {
    same(&allowed(Some(T0 + 100 * 24 * HOUR)), &expected(too_late()));
}

#[test]
fn nothing_leaves_a_terminal_phase() {
    for rule in RULES.iter().filter(|r| r.kind != Kind::AdminReview) {
        assert!(!rule.from.iter().any(|p| p.is_terminal()), "{}", rule.kind);
    }
}

/// Random steps by random parties at random times: `World::push` asserts after each that check and apply agree, that a refused
/// entry changed nothing and that the accounts balance; here, that no row's boundary is crossed.
#[test]
fn random_walks_keep_to_the_table() {
    let start = worlds();
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move |n: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % n as u64) as usize
    };
    let mut taken = 0;
    for _ in 0..150 {
        let (world, c) = start.values().nth(next(8)).unwrap();
        let mut w = world.clone();
        w.now_ms = w.now_ms.max(w.state.now_ms());
        for _ in 0..40 {
            let before = w.state.contract(c).unwrap().phase;
            let (rule, actor) = (&RULES[next(RULES.len())], ACTORS[next(ACTORS.len())]);
            let bodies = bodies(&w, c, rule.kind, actor);
            let Some(body) = bodies.get(next(bodies.len().max(1))) else { continue };
            let allowed = w.act(actor, Some(c), body.clone()).is_ok();
            let after = w.state.contract(c).unwrap().phase;
            assert!(if allowed { rule.from.contains(&before) && rule.to.contains(&after) } else { before == after });
            assert!(!before.is_terminal() || before == after);
            taken += usize::from(allowed);
            w.now_ms += if next(10) == 0 { HOUR } else { 1000 };
        }
    }
    assert!(taken > 200, "{taken} steps were allowed");
}
