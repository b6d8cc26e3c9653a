//! The certificate round: what overlaps and what waits; outside witnesses, published when they verify, never shown to hospitals, never counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

use ed25519_dalek::SigningKey;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::policy::{Policy, UnknownSigners};
use leben_coordinator::finality::{Action, Finality};

const ORIGIN: &str = "ledger.example/outside";

fn signer(name: &str, n: u8) -> NoteSigner {
    let kind = if n == 1 { KeyType::Ed25519 } else { KeyType::Cosignature };
    NoteSigner::new(name, kind, SigningKey::from_bytes(&[n; 32])).unwrap()
}

fn log() -> NoteSigner {
    signer(ORIGIN, 1)
}

fn checkpoint(size: u64) -> Note {
    let mut note = Note::new(Checkpoint::new(ORIGIN, size, [size as u8; 32]).to_string()).unwrap();
    note.push(log().sign(note.text(), 0)).unwrap();
    note
}

fn policy() -> Policy {
    let hospitals: Vec<_> = (2..5).map(|n| signer(&format!("h{n}"), n).vkey().clone()).collect();
    Policy::k_of_n(log().vkey(), &hospitals, 2).unwrap()
}

fn actions(finality: &mut Finality) -> Vec<Action> {
    std::iter::from_fn(|| finality.poll_action()).collect()
}

fn published(actions: &[Action]) -> Vec<(Note, Policy)> {
    let publish = |action: &Action| match action {
        Action::Publish { note, policy } => Some((Note::parse(note.as_bytes()).unwrap(), (**policy).clone())),
        _ => None,
    };
    actions.iter().filter_map(publish).collect()
}

fn names(note: &Note) -> Vec<&str> {
    note.signatures().iter().map(|line| line.name.as_str()).collect()
}

/// Two hospitals cosign; what happens.
fn two_cosign(finality: &mut Finality, size: u64) -> Vec<Action> {
    for n in 2..4 {
        let name = format!("h{n}");
        let line = signer(&name, n).sign(checkpoint(size).text(), 5).to_string();
        finality.handle_cosigned(&name, size, &line).unwrap();
    }
    actions(finality)
}

fn certified(finality: &mut Finality, size: u64) -> Vec<Action> {
    ["h2", "h3"].iter().for_each(|name| finality.handle_certified(name, size));
    actions(finality)
}

fn linked() -> Finality {
    let mut finality = Finality::new(0, None, policy());
    (2..5).for_each(|n| finality.handle_up(&format!("h{n}"), 0, 0, 0));
    finality
}

#[test]
fn the_next_checkpoint_is_cosigned_while_one_is_certified_and_published_only_then() {
    let mut finality = linked();
    finality.begin(checkpoint(3), policy()).unwrap();
    assert!(finality.is_busy(), "one is cosigned at a time");
    assert_eq!(published(&two_cosign(&mut finality, 3)).len(), 1);
    assert_eq!((finality.is_busy(), finality.begun_size(), finality.final_size()), (false, 3, 0));

    finality.begin(checkpoint(5), policy()).unwrap();
    let asked = |action: &&Action| matches!(action, Action::Ask { from: 3, old: 3, to: 5, .. });
    assert_eq!(actions(&mut finality).iter().filter(asked).count(), 2, "those who cosigned the first");
    assert!(two_cosign(&mut finality, 5).is_empty(), "the one before is not held by a quorum yet");
    assert_eq!(finality.final_note(), None);
    let done = certified(&mut finality, 3);
    assert_eq!(done.first(), Some(&Action::Final { size: 3 }));
    assert_eq!(Checkpoint::of(&published(&done).remove(0).0).unwrap().size, 5);
    let proven = Note::parse(finality.final_note().unwrap().as_bytes()).unwrap();
    assert_eq!(Checkpoint::of(&proven).unwrap().size, 3, "nothing is proven under what is not final");
    assert_eq!(certified(&mut finality, 5), [Action::Final { size: 5 }]);
}

#[test]
fn nothing_is_begun_before_a_change_of_who_signs_is_final() {
    let mut finality = linked();
    let hospitals: Vec<_> = (2..4).map(|n| signer(&format!("h{n}"), n).vkey().clone()).collect();
    let changed = Policy::k_of_n(log().vkey(), &hospitals, 2).unwrap();
    finality.begin(checkpoint(3), changed).unwrap();
    assert_eq!(published(&two_cosign(&mut finality, 3)).len(), 1);
    assert!(finality.is_busy());
    let remembered = [Action::RememberTurn { size: 3 }, Action::Final { size: 3 }];
    assert_eq!(certified(&mut finality, 3), remembered, "in this order");
    assert!(!finality.is_busy());
}

#[test]
fn early_or_late_it_is_published_and_no_hospital_is_shown_it() {
    let outside = signer("uni.example/w", 9);
    let line = |size, time_s| outside.sign(checkpoint(size).text(), time_s);
    let mut finality = Finality::new(0, None, policy()).with_observers(vec![outside.vkey().clone()]);
    for n in 2..5 {
        finality.handle_up(&format!("h{n}"), 0, 0, 0);
    }
    finality.begin(checkpoint(3), policy()).unwrap();
    assert_eq!(finality.shown(), Some(checkpoint(3).to_string()));
    finality.handle_observed(3, line(3, 7)).unwrap();
    assert!(published(&actions(&mut finality)).is_empty(), "the quorum is not there yet");
    let done = two_cosign(&mut finality, 3);
    let (note, shown) = published(&done).remove(0);
    assert_eq!(names(&note), [ORIGIN, "h2", "h3", "uni.example/w"]);
    assert_eq!(shown.evaluate(&note, UnknownSigners::Refuse).unwrap().cosigners.len(), 3);
    let hospitals: Vec<_> =
        done.iter().filter_map(|a| if let Action::Show { note, .. } = a { Some(note) } else { None }).collect();
    assert!(hospitals.len() == 3 && hospitals.iter().all(|note| !note.contains("uni.example")));
    ["h2", "h3"].iter().for_each(|name| finality.handle_certified(name, 3));
    actions(&mut finality);
    assert_eq!(finality.final_size(), 3);

    // Late: the same checkpoint is published again, with the newer line in place of the older.
    finality.handle_observed(3, line(3, 8)).unwrap();
    let (note, _) = published(&actions(&mut finality)).remove(0);
    assert_eq!(names(&note), [ORIGIN, "h2", "h3", "uni.example/w"]);
    // The next checkpoint starts without it; a line for one that is no longer public changes nothing.
    finality.begin(checkpoint(4), policy()).unwrap();
    let (note, shown) = published(&two_cosign(&mut finality, 4)).remove(0);
    assert_eq!(names(&note), [ORIGIN, "h2", "h3"]);
    assert_eq!(shown.observers().count(), 1, "its key stays listed, so that no reader meets a line without a key");
    finality.handle_observed(3, line(3, 9)).unwrap();
    assert!(published(&actions(&mut finality)).is_empty());
}

#[test]
fn a_restart_keeps_the_line_and_a_wrong_one_is_refused() {
    let (outside, stranger) = (signer("uni.example/w", 9), signer("uni.example/w", 10));
    let mut note = checkpoint(3);
    note.push(signer("h2", 2).sign(note.text(), 5)).unwrap();
    note.push(signer("h3", 3).sign(note.text(), 5)).unwrap();
    let own = note.to_string();
    note.push(outside.sign(note.text(), 6)).unwrap();
    let known = Finality::new(3, Some(note.to_string()), policy()).with_observers(vec![outside.vkey().clone()]);
    assert_eq!(known.final_note(), Some(own.as_str()), "proofs go without it");
    let mut finality =
        Finality::resume(note.clone(), policy(), None).unwrap().with_observers(vec![outside.vkey().clone()]);
    assert_eq!(finality.published(), Some(own.as_str()), "hospitals go without it");
    for line in
        [stranger.sign(note.text(), 7), outside.sign(checkpoint(4).text(), 7), signer("h4", 4).sign(note.text(), 7)]
    {
        assert!(finality.handle_observed(3, line).is_err());
    }
    assert!(published(&actions(&mut finality)).is_empty());
    finality.handle_observed(3, outside.sign(note.text(), 8)).unwrap();
    assert_eq!(names(&published(&actions(&mut finality)).remove(0).0), [ORIGIN, "h2", "h3", "uni.example/w"]);
}

#[test]
fn after_a_restart_what_is_published_is_final_once_a_quorum_says_that_it_holds_it() {
    let mut finality = Finality::resume(checkpoint(3), policy(), None).unwrap();
    let nothing = |finality: &Finality| (finality.final_size(), finality.final_note().map(str::to_owned));
    for n in 2..5 {
        finality.handle_up(&format!("h{n}"), 3, 3, 3);
    }
    let shown = actions(&mut finality).iter().filter(|action| matches!(action, Action::Show { .. })).count();
    assert_eq!((shown, nothing(&finality)), (3, (0, None)));
    // What comes after it is cosigned meanwhile, and not published.
    assert_eq!((finality.is_busy(), finality.begun_size()), (false, 3));
    finality.begin(checkpoint(5), policy()).unwrap();
    assert!(published(&two_cosign(&mut finality, 5)).is_empty());
    finality.handle_certified("h2", 3);
    finality.handle_certified("h2", 3);
    finality.handle_certified("h3", 2);
    finality.handle_certified("team", 3);
    assert_eq!((actions(&mut finality), nothing(&finality)), (Vec::new(), (0, None)), "one is no quorum");
    finality.handle_certified("h4", 3);
    let done = actions(&mut finality);
    assert_eq!((done.first(), finality.final_size()), (Some(&Action::Final { size: 3 }), 3));
    assert_eq!(published(&done).len(), 1, "the next one follows");
}

#[test]
fn after_a_restart_on_a_turn_both_quorums_say_that_they_hold_it() {
    let newcomers: Vec<_> = (5..8).map(|n| signer(&format!("h{n}"), n).vkey().clone()).collect();
    let after = Policy::k_of_n(log().vkey(), &newcomers, 2).unwrap();
    let mut finality = Finality::resume(checkpoint(3), after, Some(policy())).unwrap();
    for (party, is_final) in [("h5", false), ("h6", false), ("h2", false), ("h4", true)] {
        assert!(finality.is_busy(), "nothing is begun before");
        finality.handle_certified(party, 3);
        let remembered = [Action::RememberTurn { size: 3 }, Action::Final { size: 3 }];
        assert_eq!(actions(&mut finality), if is_final { remembered.to_vec() } else { Vec::new() }, "{party}");
    }
    assert!(!finality.is_busy());
}

#[test]
fn a_hospital_is_shown_the_certificates_of_the_turns_that_it_has_not_certified_yet() {
    let mut finality = Finality::new(9, Some(checkpoint(9).to_string()), policy());
    finality.handle_up("h2", 9, 4, 9);
    let shown = actions(&mut finality);
    assert_eq!(shown.first(), Some(&Action::Certificates { party: "h2".into(), from: 4 }), "{shown:?}");
    assert!(matches!(shown.get(1), Some(Action::Show { .. })), "{shown:?}");
}

#[test]
fn with_nobody_to_hold_it_what_is_published_is_final_at_once() {
    let nobody = Policy::k_of_n(log().vkey(), &[], 0).unwrap();
    let mut finality = Finality::resume(checkpoint(3), nobody, None).unwrap();
    assert_eq!((actions(&mut finality), finality.final_size()), (vec![Action::Final { size: 3 }], 3));
}

#[test]
fn whatever_one_party_answers_it_is_asked_a_few_times_only() {
    let asks = |finality: &mut Finality| {
        actions(finality).iter().filter(|action| matches!(action, Action::Ask { party, .. } if party == "h2")).count()
    };
    let mut finality = linked();
    finality.begin(checkpoint(3), policy()).unwrap();
    for i in 0..10_000 {
        finality.handle_not_cosigned("h2", (i + 1) % 2, 0);
    }
    assert!((2..=16).contains(&asks(&mut finality)), "what it holds may be corrected, now and then");
    let mut finality = linked();
    finality.begin(checkpoint(3), policy()).unwrap();
    for size in 0..10_000 {
        finality.handle_cosigned("h2", size % 3, "").unwrap();
    }
    assert_eq!(asks(&mut finality), 1, "nobody had asked for those");
    // The honest ones go on.
    for n in 3..5 {
        let name = format!("h{n}");
        let line = signer(&name, n).sign(checkpoint(3).text(), 5).to_string();
        finality.handle_cosigned(&name, 3, &line).unwrap();
    }
    assert_eq!(published(&actions(&mut finality)).len(), 1);
}
