//! Default deny: each wrong thing is refused by its own code.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::sync::Arc;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::terms::{Param, Terms};
use leben_privacy::secure_sum::{JobKeys, MemberKeys, Opening, RoundId, SlotKey};
use leben_worker::agent::Agent;
use leben_worker::budget::Budgets;
use leben_worker::consent::{self, Admitted, Approval, Desk, Plan};
use leben_worker::declared::{Dataset, Declared, Floors, LocalPolicy};
use leben_worker::refusal::{Reason, Refusal};
use support::*;

fn desk(declared: &Declared) -> Desk<'_> {
    static ME: std::sync::LazyLock<leben_contracts::agreement::party::PartyId> = std::sync::LazyLock::new(|| id("h1"));
    static NONE: std::sync::LazyLock<Budgets> = std::sync::LazyLock::new(Budgets::default);
    Desk { me: &ME, declared, budgets: &NONE, now_ms: T0 }
}

/// The proposed contract with something changed, as a hostile coordinator might get it signed by the others.
fn with(change: impl FnOnce(&mut Terms)) -> Contract {
    let mut net = Net::new();
    net.offer_data("h1");
    let proposed = net.propose(terms());
    let mut contract = net.contract(&proposed).clone();
    let mut terms = contract.terms.as_ref().clone();
    change(&mut terms);
    contract.terms = Arc::new(terms);
    contract
}

fn review(change: impl FnOnce(&mut Terms)) -> Result<(), Reason> {
    let declared = declared(false);
    consent::review(&with(change), &desk(&declared)).map(|_| ()).map_err(|refusal| refusal.reason)
}

#[test]
fn terms_as_declared_pass() {
    assert_eq!(review(|_| {}), Ok(()));
    let declared = declared(false);
    let draft = consent::review(&with(|_| {}), &desk(&declared)).unwrap();
    assert_eq!(draft.stages.len(), 1);
    assert_eq!((draft.hospitals_min, draft.recipient.as_str()), (3, "team"));
}

type Change = Box<dyn FnOnce(&mut Terms)>;

#[test]
fn each_wrong_term_has_its_own_code() {
    let cases: Vec<(Reason, Change)> = vec![
        (Reason::NotOwner, Box::new(|t| t.inputs.retain(|input| input.owner != id("h1")))),
        (Reason::SecureSumOff, Box::new(|t| t.privacy.secure_sum = false)),
        (Reason::Mechanism, Box::new(|t| t.privacy.mechanism = code("gaussian"))),
        (Reason::UnknownDataset, Box::new(|t| t.inputs[0].dataset = code("lungs"))),
        (Reason::SchemaChanged, Box::new(|t| t.inputs[0].schema_hash = hash("another schema"))),
        (Reason::UnknownColumn, Box::new(|t| t.inputs[0].columns.push("weight".into()))),
        (Reason::UnknownColumn, Box::new(|t| t.inputs[0].columns.push("patient".into()))),
        (Reason::Purpose, Box::new(|t| t.purpose.duo = vec!["no-such-code".into()])),
        (Reason::Purpose, Box::new(|t| t.purpose.ehds = Some("53.1.a".into()))),
        (Reason::CohortQuery, Box::new(|t| t.inputs[0].cohort = "age ?? 3".into())),
        (Reason::AlgorithmDigest, Box::new(|t| t.algorithms[0].digest = hash("other code"))),
        (Reason::AlgorithmDigest, Box::new(|t| t.algorithms[0].version = code("2"))),
        (Reason::AlgorithmDigest, Box::new(|t| t.algorithms[0].name = code("exfiltrate"))),
        (Reason::AlgorithmDigest, Box::new(|t| t.stages[0].algorithm = code("missing"))),
        (
            Reason::AlgorithmParams,
            Box::new(|t| drop(t.algorithms[0].params.insert("rigde".into(), Param::Text("1".into())))),
        ),
        (Reason::ColumnNotGranted, Box::new(|t| t.inputs[0].columns.retain(|column| column != "sex"))),
        (
            Reason::SeveralInputs,
            Box::new(|t| {
                let second = leben_contracts::agreement::terms::Input { id: code("again"), ..t.inputs[0].clone() };
                t.inputs.push(second);
                t.stages[0].inputs.push(code("again"));
            }),
        ),
        (Reason::TooLate, Box::new(|t| t.windows.run_by_ms = T0 - 1)),
    ];
    for (reason, change) in cases {
        assert_eq!(review(change), Err(reason), "{reason}");
    }
}

#[test]
fn what_the_hospital_declares_decides_not_what_the_ledger_once_said() {
    let narrow = leben_contracts::agreement::purpose::Permission { duo: vec!["DS=MONDO:0005068".into()], ehds: vec![] };
    let narrow = Dataset::new(code("heart"), columns(), narrow).unwrap();
    let nothing = Declared::new(vec![], Arc::new(|_, _| Ok(())), LocalPolicy::new(false, Floors::NONE));
    let narrowed = Declared::new(vec![narrow], Arc::new(|_, _| Ok(())), LocalPolicy::new(false, Floors::NONE));
    let contract = with(|_| {});
    assert_eq!(consent::review(&contract, &desk(&nothing)).unwrap_err().reason, Reason::UnknownDataset);
    assert_eq!(consent::review(&contract, &desk(&narrowed)).unwrap_err().reason, Reason::Purpose);
    let text = Dataset::new(code("heart"), [columns(), columns()].concat(), permission());
    assert!(text.unwrap_err().contains("twice"));
}

#[test]
fn terms_that_show_more_than_the_hospital_allows_are_refused_by_the_number() {
    type Lower = fn(&mut Terms);
    let floors = Floors {
        hospitals_min: 3,
        cohort_min: 10,
        cell_min: 10,
        cell_hospitals_min: 2,
        dominance_percent: 10,
        review: false,
    };
    let review = |floors: Floors, change: Lower| {
        let declared = Declared::new(vec![dataset()], Arc::new(|_, _| Ok(())), LocalPolicy::new(false, floors));
        let contract = with(change);
        consent::review(&contract, &desk(&declared)).map(|_| ()).map_err(|refusal| (refusal.reason, refusal.words))
    };
    assert_eq!(review(floors, |_| {}), Ok(()));
    let smaller: [(&str, Lower); 3] = [
        ("cell_min 9", |t| t.privacy.disclosure.cell_min = 9),
        ("cell_hospitals_min 1", |t| t.privacy.disclosure.cell_hospitals_min = 1),
        ("dominance_percent 0", |t| t.privacy.disclosure.dominance_percent = 0),
    ];
    for (words, change) in smaller {
        let (reason, said) = review(floors, change).unwrap_err();
        assert_eq!(reason, Reason::Disclosure);
        assert!(said.contains(words), "{said}");
        assert_eq!(review(Floors::NONE, change), Ok(()));
    }
    let more = [
        Floors { hospitals_min: 4, ..floors },
        Floors { cohort_min: 1000, ..floors },
        Floors { review: true, ..floors },
    ];
    for floors in more {
        assert_eq!(review(floors, |_| {}).unwrap_err().0, Reason::Disclosure);
    }
    assert_eq!(review(Floors { review: true, ..floors }, |t| t.delivery.review = true), Ok(()));
    // Whoever asks for other numbers has another policy: the hash that stands in an acceptance changes with each.
    let changed = [
        Floors { hospitals_min: 4, ..floors },
        Floors { cohort_min: 11, ..floors },
        Floors { cell_min: 11, ..floors },
        Floors { cell_hospitals_min: 3, ..floors },
        Floors { dominance_percent: 11, ..floors },
        Floors { review: true, ..floors },
    ];
    for other in changed {
        assert_ne!(LocalPolicy::new(false, floors).hash(), LocalPolicy::new(false, other).hash());
    }
}

fn approval(net: &Net, contract: &leben_contracts::agreement::hash::ContractId) -> Approval {
    let known = net.contract(contract);
    Approval { terms_hash: known.terms_hash, policy_hash: known.accepts[&id("h1")].policy_hash }
}

fn reason(result: Result<Admitted<Plan>, Refusal>) -> Reason {
    result.map(|_| ()).unwrap_err().reason
}

/// The keys that the agent of [`frozen`] published.
fn published_keys(net: &Net, contract: &leben_contracts::agreement::hash::ContractId) -> MemberKeys {
    let record = &net.contract(contract).key_records[&id("h1")];
    MemberKeys { verify: record.verify.to_bytes(), channel: record.channel.0 }
}

#[test]
fn nothing_runs_before_everybody_signed_armed_approved_and_the_directory_is_frozen() {
    let (mut net, mut agent, contract) = proposed(true);
    let declared = declared(false);
    let desk = desk(&declared);
    let keys = JobKeys::from_seed([1; 32]).public();
    let admit = |net: &Net, approval: Option<&Approval>| {
        reason(consent::admit(net.state(), &contract.0, &desk, approval, &keys))
    };
    let none = Approval { terms_hash: hash(""), policy_hash: hash("") };
    let stranger = reason(consent::admit(net.state(), &[9; 32], &desk, Some(&none), &keys));
    assert_eq!(stranger, Reason::UnknownContract);
    assert_eq!(admit(&net, Some(&none)), Reason::NotExecutable);
    net.accept(&contract, &["h2", "h3", "team", "coord"]);
    net.settle(&mut agent);
    assert_eq!(admit(&net, Some(&approval(&net, &contract))), Reason::NotExecutable, "signed, not armed");
    net.due(&contract);
    assert_eq!(admit(&net, None), Reason::NotApproved);
    assert_eq!(admit(&net, Some(&none)), Reason::OtherTerms);
    let other_policy = Approval { policy_hash: hash("another policy"), ..approval(&net, &contract) };
    assert_eq!(admit(&net, Some(&other_policy)), Reason::OtherTerms);
    assert_eq!(admit(&net, Some(&approval(&net, &contract))), Reason::NoDirectory);
}

#[test]
fn keys_in_the_directory_must_be_the_hospitals_own_and_the_plan_holds_what_was_signed() {
    let (net, _, contract, _) = frozen();
    let declared = declared(false);
    let desk = desk(&declared);
    let approval = approval(&net, &contract);
    let other = JobKeys::from_seed([1; 32]).public();
    let refused = reason(consent::admit(net.state(), &contract.0, &desk, Some(&approval), &other));
    assert_eq!(refused, Reason::DirectoryKeys);
    let keys = published_keys(&net, &contract);
    let plan = consent::admit(net.state(), &contract.0, &desk, Some(&approval), &keys).unwrap();
    assert_eq!((plan.me, plan.directory.members.len(), plan.contract), (1, 3, contract.0));
    let late = Desk { now_ms: T0 + 21 * HOUR, ..desk };
    let refused = reason(consent::admit(net.state(), &contract.0, &late, Some(&approval), &keys));
    assert_eq!(refused, Reason::TooLate);
}

#[test]
fn a_suspension_or_a_revocation_by_anybody_entitled_stops_it() {
    use leben_contracts::agreement::body::{Revoke, Suspend};
    for (actor, body, expected) in [
        ("h2", Suspend { code: code("audit") }.into(), Reason::Suspended),
        ("h1", Suspend { code: code("audit") }.into(), Reason::Suspended),
        // With one hospital gone the others are too few: the contract ends.
        ("h2", Revoke { datasets: vec![code("heart")] }.into(), Reason::NotExecutable),
    ] {
        let (mut net, _, contract, _) = frozen();
        let (approval, keys) = (approval(&net, &contract), published_keys(&net, &contract));
        net.act(actor, Some(&contract), body, &[actor]).unwrap();
        let declared = declared(false);
        let refused = reason(consent::admit(net.state(), &contract.0, &desk(&declared), Some(&approval), &keys));
        assert_eq!(refused, expected, "{actor}");
    }
}

fn slot_key(index: u16, slot: u64) -> SlotKey {
    SlotKey {
        slot,
        hospital_index: index,
        mask_public: [1; 32],
        self_commit: [2; 32],
        signature: leben_privacy::secure_sum::Signature([0; 64]),
    }
}

#[test]
fn an_opening_keeps_to_the_plan_or_is_refused() {
    let (net, _, contract, _): (Net, Agent, _, _) = frozen();
    let declared = declared(false);
    let (approval, keys) = (approval(&net, &contract), published_keys(&net, &contract));
    let plan = consent::admit(net.state(), &contract.0, &desk(&declared), Some(&approval), &keys).unwrap();
    let good = Opening {
        job: contract.0,
        epoch: 1,
        slot: 1,
        round_id: RoundId { stage: 1, round: 1 },
        contract: contract.0,
        model_digest: [3; 32],
        cohort: [1, 2, 3].map(|index| slot_key(index, 1)).to_vec(),
        layout_digest: [4; 32],
        hospitals_max: 3,
        suite: leben_privacy::Suite::default(),
        checkpoint: [5; 32],
    };
    assert_eq!(plan.allows(&good), Ok(()));
    let cases: Vec<(Reason, Opening)> = vec![
        (Reason::Opening, Opening { contract: [9; 32], ..good.clone() }),
        (Reason::Opening, Opening { job: [9; 32], ..good.clone() }),
        (Reason::UnknownStage, Opening { round_id: RoundId { stage: 2, round: 1 }, ..good.clone() }),
        (Reason::Rounds, Opening { round_id: RoundId { stage: 1, round: 0 }, ..good.clone() }),
        (Reason::Rounds, Opening { round_id: RoundId { stage: 1, round: 5 }, ..good.clone() }),
        (Reason::Opening, Opening { hospitals_max: 30, ..good.clone() }),
        (Reason::Opening, Opening { cohort: [1, 1, 2, 3].map(|i| slot_key(i, 1)).to_vec(), ..good.clone() }),
        (Reason::Opening, Opening { cohort: [1, 2, 9].map(|i| slot_key(i, 1)).to_vec(), ..good.clone() }),
        (Reason::FewHospitals, Opening { cohort: [1, 2].map(|i| slot_key(i, 1)).to_vec(), ..good.clone() }),
        (Reason::FewHospitals, Opening { cohort: vec![], ..good.clone() }),
    ];
    for (expected, opening) in cases {
        assert_eq!(plan.allows(&opening).unwrap_err().reason, expected, "{opening:?}");
    }
}
