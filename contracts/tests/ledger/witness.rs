use crate::support::*;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::entry::{Action, Entry, Envelope};
use leben_contracts::ledger::merkle::{self, Tree, leaf_hash};
use leben_contracts::ledger::note::{Note, NoteError, NoteSigner};
use leben_contracts::ledger::tile::{Builder, TileError, TileNodes, TilePath, TileReader, decode_hashes};
use leben_contracts::ledger::witness::*;
use std::collections::BTreeMap;

struct Tiles(BTreeMap<TilePath, Vec<u8>>);
impl TileReader for Tiles {
    type Error = TileError;
    fn hashes(&self, path: &TilePath) -> Result<Vec<merkle::Hash>, TileError> {
        decode_hashes(&self.0[path], path.width)
    }
}

fn request(entries: &[Vec<u8>], old: u64) -> Vec<u8> {
    let mut builder = Builder::default();
    entries.iter().for_each(|e| builder.append(e.clone()).unwrap());
    let (size, root) = (builder.tree().size(), builder.tree().root());
    let tiles = Tiles(builder.take_files().into_iter().map(|f| (f.path, f.bytes)).collect());
    let proof = merkle::consistency(&TileNodes::new(&tiles, size), old, size).unwrap();
    AddCheckpoint::new(old, proof, checkpoint_note(size, root)).unwrap().to_string().into_bytes()
}

fn leaves(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|n| leaf(&action(n), NOW_MS)).collect()
}

fn leaf(action: &Action, seq_ms: u64) -> Vec<u8> {
    Entry::new(Envelope::sign(action, &[&key(9)]).unwrap(), seq_ms).unwrap().bytes().to_vec()
}

fn validator() -> Validator<Names> {
    let witness = Witness::new(log_vkey(), vec![witness_signer(0)], None).unwrap();
    Validator::new(witness, Names::default())
}

#[test]
fn a_validator_signs_what_it_has_replayed() {
    let mut validator = validator();
    let all = leaves(&["a", "b", "c", "d", "e"]);
    let answer = validator.handle_add_checkpoint(NOW_MS, &request(&all[..3], 0), &all[..3]).unwrap();
    let mut note = answer.record.note().clone();
    note.push(answer.cosignatures[0].clone()).unwrap();
    assert_eq!(note.verify(witness_signer(0).vkey()).unwrap().time_s, Some(NOW_MS / 1000));
    assert_eq!(WitnessRecord::parse(&answer.record.to_bytes(), &log_vkey()).unwrap(), answer.record);
    validator.handle_add_checkpoint(NOW_MS, &request(&all, 3), &all[3..]).unwrap();
    assert_eq!((validator.next_index(), validator.state().0.len()), (5, 5));
    // The same checkpoint again is signed again, with a newer time.
    validator.handle_add_checkpoint(NOW_MS + 60_000, &request(&all, 5), &[]).unwrap();
}

#[test]
fn it_never_signs_less_or_something_else() {
    let mut validator = validator();
    let all = leaves(&["a", "b", "c"]);
    validator.handle_add_checkpoint(NOW_MS, &request(&all, 0), &all).unwrap();
    let mut refuse =
        |body: &[u8], entries: &[Vec<u8>]| validator.handle_add_checkpoint(NOW_MS, body, entries).unwrap_err();
    let smaller = refuse(&request(&all[..2], 2), &[]);
    assert_eq!((smaller.status(), smaller), (409, WitnessError::Conflict { size: 3 }));
    let forked = leaves(&["a", "b", "x"]);
    let error = refuse(&request(&forked, 0), &forked);
    assert!(matches!(error, WitnessError::Fork { size: 3, .. }) && error.status() == 409, "{error}");
    let forked_longer = leaves(&["a", "x", "c", "d"]);
    assert!(matches!(refuse(&request(&forked_longer, 3), &forked_longer[3..]), WitnessError::Consistency(_)));
}

#[test]
fn every_c2sp_refusal_has_its_status() {
    let mut witness = Witness::new(log_vkey(), vec![witness_signer(0)], None).unwrap();
    let all = leaves(&["a", "b"]);
    let good = request(&all, 0);
    let text = String::from_utf8(good.clone()).unwrap();
    let mut status = |body: &str| witness.handle_add_checkpoint(NOW_MS, body.as_bytes()).unwrap_err().status();
    assert_eq!(status(&text.replace("old 0", "old 00")), 400);
    assert_eq!(status(&text.replace("old 0", "old 9")), 400);
    assert_eq!(status(&text.replace(ORIGIN, "other.example")), 404);
    assert_eq!(status(&text.replace("\n2\n", "\n3\n")), 403);
    assert_eq!(status(&text.replace("old 0", "old 1")), 409);
    let hash = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
    assert_eq!(status(&text.replace("old 0\n", &format!("old 0\n{hash}"))), 422);
    assert_eq!(status(&text.replace("old 0\n", &format!("old 0\n{}", hash.repeat(64)))), 400);
    let stranger = NoteSigner::new(ORIGIN, leben_contracts::ledger::note::KeyType::Ed25519, key(77)).unwrap();
    let mut note = Note::new(AddCheckpoint::parse(&good).unwrap().note.text().to_owned()).unwrap();
    note.push(stranger.sign(note.text(), 0)).unwrap();
    assert_eq!(status(&format!("old 0\n\n{note}")), 403);
    witness.handle_add_checkpoint(NOW_MS, &good).unwrap();
    assert!(matches!(Witness::new(log_vkey(), vec![log_signer()], None), Err(WitnessError::Key(_))));
}

#[test]
fn entries_that_are_not_the_checkpoints_are_refused_without_harm() {
    let mut validator = validator();
    let all = leaves(&["a", "b", "c"]);
    let body = request(&all, 0);
    for wrong in [leaves(&["a", "b"]), leaves(&["a", "c", "b"]), leaves(&["a", "b", "c", "d"]), vec![]] {
        let error = validator.handle_add_checkpoint(NOW_MS, &body, &wrong).unwrap_err();
        assert!(matches!(error, WitnessError::Entries { first_index: 0, .. }), "{error}");
    }
    validator.handle_add_checkpoint(NOW_MS, &body, &all).unwrap();
}

#[test]
fn a_clock_two_hours_off_is_named_and_heals() {
    let mut validator = validator();
    let all = leaves(&["a"]);
    let slow = NOW_MS - 7_200_000;
    let error = validator.handle_add_checkpoint(slow, &request(&all, 0), &all).unwrap_err();
    assert_eq!(error, WitnessError::Clock { index: 0, ahead_ms: 7_200_000 });
    assert!(error.to_string().contains("120 min ahead"), "{error}");
    validator.handle_add_checkpoint(NOW_MS - CLOCK_AHEAD_MS_MAX, &request(&all, 0), &all).unwrap();
}

#[test]
fn an_illegal_entry_that_the_log_signed_stops_the_node() {
    let forbidden = leaf(&Action { kind: "Forbidden".into(), ..action("x") }, NOW_MS);
    let backwards = leaf(&action("b"), NOW_MS - 1);
    let late = leaf(&Action { not_after_ms: NOW_MS - 1, ..action("l") }, NOW_MS);
    let twice = leaf(&action("a"), NOW_MS + 1);
    for bad in [forbidden, backwards, late, twice, b"junk".to_vec()] {
        let mut validator = validator();
        let all = vec![leaf(&action("a"), NOW_MS), bad];
        let error = validator.handle_add_checkpoint(NOW_MS, &request(&all, 0), &all).unwrap_err();
        assert!(matches!(error, WitnessError::Illegal { index: 1, .. }), "{error}");
        assert_eq!(validator.handle_add_checkpoint(NOW_MS, &request(&all[..1], 0), &all[..1]), Err(error));
    }
}

#[test]
fn a_node_catches_up_from_its_mirror_and_its_record() {
    let all = leaves(&["a", "b", "c", "d"]);
    let mut first = validator();
    let record = first.handle_add_checkpoint(NOW_MS, &request(&all[..2], 0), &all[..2]).unwrap().record;
    let restart = || {
        let witness = Witness::new(log_vkey(), vec![witness_signer(0)], Some(record.clone())).unwrap();
        Validator::new(witness, Names::default())
    };
    let mut again = restart();
    again.catch_up(&all[..3]).unwrap();
    let behind = again.handle_add_checkpoint(NOW_MS, &request(&all[..2], 2), &[]);
    assert_eq!(behind, Err(WitnessError::Behind { size: 3 }));
    again.handle_add_checkpoint(NOW_MS, &request(&all, 2), &all[3..]).unwrap();
    let error = restart().catch_up(&leaves(&["a", "x", "c"])).unwrap_err();
    assert!(matches!(error, WitnessError::Entries { first_index: 1, .. }), "{error}");
}

#[test]
fn gossip_finds_a_fork_at_any_size_with_the_tiles() {
    let mine = leaves(&["a", "b", "c", "d"]);
    let mut builder = Builder::default();
    mine.iter().for_each(|e| builder.append(e.clone()).unwrap());
    let tiles = Tiles(builder.take_files().into_iter().map(|f| (f.path, f.bytes)).collect());
    let nodes = TileNodes::new(&tiles, 4);
    let note = |entries: &[Vec<u8>]| {
        let mut tree = Tree::default();
        entries.iter().for_each(|e| tree.append(leaf_hash(e)));
        checkpoint_note(tree.size(), tree.root()).to_string().into_bytes()
    };
    let record = WitnessRecord::parse(&note(&mine), &log_vkey()).unwrap();
    assert_eq!(find_fork(&log_vkey(), &record, &nodes, &note(&mine[..2])).unwrap().size, 2);
    match find_fork(&log_vkey(), &record, &nodes, &note(&leaves(&["a", "x"]))) {
        Err(Ok(WitnessError::Fork { size: 2, theirs, .. })) => assert!(Note::parse(theirs.as_bytes()).is_ok()),
        other => panic!("{:?}", other.is_ok()),
    }
    let unsigned = String::from_utf8(note(&mine)).unwrap().replace(ORIGIN, "x");
    let witness = Witness::new(log_vkey(), vec![], Some(record)).unwrap();
    assert!(witness.handle_view(unsigned.as_bytes()).is_err());
    assert_eq!(WitnessError::LogSignature(NoteError::Missing("x".into())).status(), 403);
}
