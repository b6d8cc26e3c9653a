use crate::support::*;
use leben_contracts::ledger::entry::{Action, origin_hash};
use leben_contracts::ledger::follow::Refusal;
use leben_contracts::ledger::sequencer::{BATCH_MAX, Sequencer, SequencerError};
use leben_contracts::ledger::tile::Builder;

#[test]
fn envelopes_of_one_batch_see_each_other() {
    let mut sequencer = sequencer();
    let other_nonce = Action { nonce: "f".repeat(32), ..action("x") };
    let batch = [envelope("x"), sign(&other_nonce), envelope("x"), envelope("y"), b"junk".to_vec()];
    let staged = sequencer.stage(NOW_MS, &batch).unwrap();
    assert_eq!(staged.results[0], Ok(0));
    assert_eq!(staged.results[1], Err(Refusal::State("x is taken".into())));
    assert_eq!(staged.results[2], Ok(0), "the same payload is the same action");
    assert_eq!(staged.results[3], Ok(1));
    assert!(matches!(staged.results[4], Err(Refusal::Malformed(_))));
    assert_eq!(staged.batch.unwrap().size, 2);
    assert_eq!(sequencer.size(), 2);
}

#[test]
fn a_countersigned_copy_is_the_same_action() {
    let mut sequencer = sequencer();
    sequencer.stage(NOW_MS, &[envelope("x")]).unwrap();
    let mut again = leben_contracts::ledger::entry::Envelope::parse(&envelope("x")).unwrap();
    again.countersign(&key(8)).unwrap();
    let staged = sequencer.stage(NOW_MS + 5, &[again.to_bytes()]).unwrap();
    assert_eq!(staged.results, [Ok(0)]);
    assert!(staged.batch.is_none());
}

#[test]
fn time_never_goes_backwards() {
    let mut sequencer = sequencer();
    let first = sequencer.stage(NOW_MS, &[envelope("a")]).unwrap();
    let second = sequencer.stage(NOW_MS - 7_200_000, &[envelope("b")]).unwrap();
    assert_eq!(first.entries[0].seq_ms(), NOW_MS);
    assert_eq!(second.entries[0].seq_ms(), NOW_MS);
}

#[test]
fn other_networks_and_windows_are_refused() {
    let mut sequencer = sequencer();
    let elsewhere = Action { network: origin_hash("other.example"), ..action("a") };
    let late = Action { not_after_ms: NOW_MS - 1, ..action("a") };
    let early = Action { not_before_ms: NOW_MS + 1, ..action("a") };
    let staged = sequencer.stage(NOW_MS, &[sign(&elsewhere), sign(&late), sign(&early)]).unwrap();
    assert!(matches!(staged.results[0], Err(Refusal::Network(_))));
    assert!(matches!(staged.results[1], Err(Refusal::Window { .. })));
    assert!(matches!(staged.results[2], Err(Refusal::Window { .. })));
    assert!(staged.batch.is_none());
}

#[test]
fn what_cannot_go_on_says_so() {
    let too_many = vec![vec![]; BATCH_MAX + 1];
    assert_eq!(sequencer().stage(0, &too_many).unwrap_err(), SequencerError::BatchTooLarge(BATCH_MAX + 1));
    let mut builder = Builder::default();
    builder.append(b"x").unwrap();
    let follower = leben_contracts::ledger::follow::Follower::new(ORIGIN, Names::default());
    let error = Sequencer::new(log_signer(), builder, follower).err();
    assert_eq!(error, Some(SequencerError::OutOfStep { tiles: 1, replayed: 0 }));
}

#[test]
fn a_handover_to_another_key_is_for_the_new_coordinator_to_sequence() {
    let mut sequencer = sequencer();
    let to = |key: &str| Action {
        kind: "Handover".into(),
        body: serde_json::json!({ "log_key": key, "name": key }),
        ..action("x")
    };
    let mine = log_vkey().key().to_hex();
    let staged = sequencer.stage(NOW_MS, &[sign(&to(&"0".repeat(64))), sign(&to(&mine))]).unwrap();
    let refused = staged.results[0].clone().unwrap_err().to_string();
    assert!(refused.contains("the new coordinator sequences it"), "{refused}");
    assert_eq!(staged.results[1], Ok(0));
}
