//! A search over everybody and every step, from every phase on: which steps lead from which phase to which. What it finds is the table
//! of CONTRACTS.md, written out below by hand, and nothing more.

use super::body::*;
use super::hash::ContractId;
use super::table::Phase::{self, *};
use super::table::RULES;
use super::table_tests::{bodies, clear, reserve, worlds};
use super::world::*;
use std::collections::{BTreeSet, VecDeque};

type Edge = (Kind, Phase, Phase);

/// Actors whose tries differ from each other's.
const ACTORS: [&str; 9] = ["coord", "admin1", "admin2", "h1", "h2", "h3", "team", "judge", "other"];
/// States looked at; each costs some hundred signed tries.
const STATES_MAX: usize = 100;

/// CONTRACTS' table as edges. A step that several have to take (m of n) stays where it is until the last of them.
fn expected() -> BTreeSet<Edge> {
    let mut edges = BTreeSet::new();
    let mut add = |kind: Kind, from: &[Phase], to: &[Phase]| {
        edges.extend(from.iter().flat_map(|from| to.iter().map(|to| (kind, *from, *to))));
    };
    let mut stays = |kind: Kind, phases: &[Phase]| phases.iter().for_each(|phase| add(kind, &[*phase], &[*phase]));
    let before_delivery = [Proposed, PartlySigned, Signed, Executable, Running, Suspended];
    let undecided = [Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed];
    stays(Kind::Fund, &[Signed]);
    stays(Kind::BudgetReserve, &[PartlySigned, Signed]);
    stays(Kind::BudgetRelease, &[PartlySigned, Signed]);
    stays(Kind::BudgetSpend, &[Delivered, Disputed, Accepted]);
    stays(Kind::KeyRecord, &[Executable, Running]);
    stays(Kind::RoundFreeze, &[Executable, Running]);
    stays(Kind::RoundClose, &[Running]);
    stays(Kind::StageReceipt, &[Running]);
    stays(Kind::StageAccept, &[Running]);
    stays(Kind::Clear, &[Running]);
    stays(Kind::AdminReview, &Phase::ALL);
    // One of two admins, or one of two who suspended.
    stays(Kind::Suspend, &[Executable, Running, Suspended]);
    stays(Kind::Resume, &[Suspended]);
    // One signatory of several.
    stays(Kind::Abort, &undecided);
    // The others go on.
    stays(Kind::Revoke, &before_delivery);
    add(Kind::Amend, &[Proposed, PartlySigned], &[Proposed]);
    add(Kind::Accept, &[Proposed], &[PartlySigned]);
    add(Kind::Accept, &[PartlySigned], &[PartlySigned, Signed]);
    add(Kind::Reject, &[Proposed, PartlySigned], &[Rejected]);
    add(Kind::Withdraw, &[Proposed, PartlySigned], &[Withdrawn]);
    add(Kind::Arm, &[Signed], &[Executable]);
    add(Kind::StageStart, &[Executable, Running], &[Running]);
    add(Kind::Deliver, &[Running], &[Delivered]);
    add(Kind::AcceptResult, &[Delivered], &[Accepted]);
    add(Kind::Dispute, &[Delivered], &[Disputed]);
    add(Kind::Resolve, &[Disputed], &[Accepted, Aborted]);
    add(Kind::Settle, &[Accepted], &[Settled]);
    add(Kind::Suspend, &[Executable, Running], &[Suspended]);
    add(Kind::Resume, &[Suspended], &[Executable, Running]);
    // Too few are left; or everybody left has signed.
    add(Kind::Revoke, &before_delivery, &[Aborted]);
    add(Kind::Revoke, &[PartlySigned], &[Signed]);
    // The owner who had stopped it takes its data out, and the others go on.
    add(Kind::Revoke, &[Suspended], &[Executable, Running]);
    add(Kind::Abort, &undecided, &[Aborted]);
    add(Kind::Expire, &undecided, &[Expired]);
    add(Kind::Expire, &[Accepted], &[Expired]);
    edges
}

/// What tells two states apart here: counts in place of names, since the parties of one kind are alike.
fn likeness(w: &World, c: &ContractId) -> String {
    let late = w.now_ms > T0 + 30 * HOUR;
    let k = w.state.contract(c).unwrap();
    let stages: Vec<bool> = k.stages.values().map(|stage| stage.receipt.is_some()).collect();
    let suspended = (k.suspension.owners.len().min(2), k.suspension.admins.len(), k.suspension.by_admins);
    let agreed = (k.accepts.len(), k.is_funded(), k.reservations.len(), k.key_records.len(), k.directory.is_some());
    let votes = (k.cleared.len(), k.abort_votes.len(), k.decisions.len(), k.resolved.is_some(), k.revoked.len());
    format!("{} {late} {agreed:?} {stages:?} {suspended:?} {votes:?}", k.phase)
}

fn tries(w: &World, c: &ContractId, kind: Kind, actor: &str) -> Vec<Body> {
    let k = w.state.contract(c).unwrap();
    let left: Vec<&str> = HOSPITALS.into_iter().filter(|h| !k.revoked(&id(h))).collect();
    match kind {
        Kind::StageReceipt => [World::receipt(1, &left), World::receipt(2, &left), World::receipt(3, &[])].to_vec(),
        Kind::Resolve => [Outcome::Accepted, Outcome::Aborted]
            .map(|outcome| Resolve { outcome, forfeit_deposit: false }.into())
            .to_vec(),
        Kind::Amend => vec![Amend { terms: later((*k.terms).clone()) }.into()],
        Kind::Abort => {
            [None, Some(1), Some(3)].map(|stage| Abort { code: code("failed"), stage, party: None }.into()).to_vec()
        }
        _ => bodies(w, c, kind, actor),
    }
}

/// Where the search starts: every phase, and the states before a step that needs several hands.
fn starts() -> (Vec<World>, ContractId) {
    let (reached, mut all) = (worlds(), Vec::new());
    let c = reached[&Proposed].1;
    let suspend = |w: &mut World, who: &str| w.act(who, Some(&c), Suspend { code: code("audit") }.into()).unwrap();
    let vote = |w: &mut World, who: &str| {
        w.act(who, Some(&c), Abort { code: code("failed"), stage: None, party: None }.into()).unwrap();
    };
    let revoke =
        |w: &mut World, who: &str| w.act(who, Some(&c), Revoke { datasets: vec![code("breast")] }.into()).unwrap();
    for (phase, (w, _)) in &reached {
        all.push(w.clone());
        let with = |change: &dyn Fn(&mut World)| {
            let mut w = w.clone();
            change(&mut w);
            w
        };
        if expected().contains(&(Kind::Abort, *phase, Aborted)) {
            all.push(with(&|w| ["h1", "h2", "h3", "team"].iter().for_each(|who| vote(w, who))));
        }
        if expected().contains(&(Kind::Revoke, *phase, *phase)) {
            all.push(with(&|w| _ = revoke(w, "h3")));
        }
        match phase {
            PartlySigned => {
                all.extend([with(&|w| w.accept(&c, &["h1", "h2", "coord"])), with(&|w| reserve(w, &c))]);
            }
            Signed => all.push(with(&|w| {
                w.act("team", Some(&c), Fund { amount: 1100 }.into()).unwrap();
                reserve(w, &c);
            })),
            Executable | Running => all.extend([
                with(&|w| _ = suspend(w, "admin1")),
                with(&|w| _ = suspend(w, "h2")),
                with(&|w| ["admin1", "admin2"].iter().for_each(|who| _ = suspend(w, who))),
            ]),
            Suspended => all.push(with(&|w| _ = suspend(w, "h2"))),
            _ => {}
        }
        if *phase == Running {
            all.push(with(&|w| {
                w.act("coord", Some(&c), World::receipt(1, &HOSPITALS)).unwrap();
                w.stage(&c, 2, &HOSPITALS);
                w.stage(&c, 3, &[]);
                clear(w, &c);
            }));
        }
    }
    let mut late: Vec<World> =
        all.iter().filter(|w| !w.state.contract(&c).unwrap().phase.is_terminal()).cloned().collect();
    late.iter_mut().for_each(|w| w.now_ms = T0 + 100 * 24 * HOUR);
    all.extend(late);
    (all, c)
}

#[test]
fn a_search_over_everybody_and_every_step_finds_the_tables_edges_and_no_other() {
    let (starts, c) = starts();
    let phase = |w: &World| w.state.contract(&c).unwrap().phase;
    let (mut edges, mut known) = (BTreeSet::new(), starts.iter().map(|w| likeness(w, &c)).collect::<BTreeSet<_>>());
    let (mut starts, mut found) = (VecDeque::from(starts), VecDeque::new());
    let (mut looked, mut taken) = (0, 0);
    while let Some(mut w) = starts.pop_front().or_else(|| found.pop_front().filter(|_| looked < STATES_MAX)) {
        looked += 1;
        let from = phase(&w);
        for (rule, actor) in RULES.iter().flat_map(|rule| ACTORS.map(|actor| (rule, actor))) {
            for body in tries(&w, &c, rule.kind, actor) {
                if w.can(actor, Some(&c), &body).is_err() {
                    continue;
                }
                let mut next = w.clone();
                next.act(actor, Some(&c), body).unwrap();
                taken += 1;
                // What leads where nothing led before is looked at first.
                let is_new = edges.insert((rule.kind, from, phase(&next)));
                match (known.insert(likeness(&next, &c)), is_new) {
                    (true, true) => found.push_front(next),
                    (true, false) => found.push_back(next),
                    (false, _) => {}
                }
            }
        }
    }
    println!("{looked} states, {taken} steps allowed, {} edges", edges.len());
    let expected = expected();
    let (more, fewer): (Vec<_>, Vec<_>) =
        (edges.difference(&expected).collect(), expected.difference(&edges).collect());
    assert_eq!(more, Vec::<&Edge>::new(), "found, and not in the table");
    assert_eq!(fewer, Vec::<&Edge>::new(), "in the table, and not found in {looked} states");
}
