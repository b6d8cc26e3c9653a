//! The vectors that `fixtures/ledger/gen.py` made from the specifications alone.

use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::{Note, NoteError, VerifierKey};
use leben_contracts::ledger::policy::{Policy, PolicyError, UnknownSigners};
use leben_contracts::ledger::store::LogReader;
use leben_contracts::ledger::tile::{Builder, paths};
use leben_contracts::ledger::witness::{Witness, WitnessError, WitnessRecord};
use leben_contracts::verify::{Options, verify_folder, verify_proof};
use std::fs;
use std::path::PathBuf;

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledger").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap()
}

fn vectors() -> serde_json::Value {
    serde_json::from_slice(&bytes("vectors.json")).unwrap()
}

fn policy() -> Policy {
    Policy::parse(&bytes("policy.txt")).unwrap()
}

fn log() -> VerifierKey {
    VerifierKey::parse(vectors()["log_vkey"].as_str().unwrap()).unwrap()
}

fn entry(i: usize) -> Vec<u8> {
    format!("LBE1 test entry {i}{}", "x".repeat(i % 37)).into_bytes()
}

fn evaluate(name: &str) -> Result<u64, PolicyError> {
    let note = Note::parse(&bytes(name)).unwrap();
    policy().evaluate(&note, UnknownSigners::Refuse).map(|s| s.checkpoint.size)
}

#[test]
fn the_good_checkpoints_meet_the_policy() {
    for size in [1, 255, 256, 257, 300] {
        let name = format!("cp/{size}.note");
        assert_eq!(evaluate(&name), Ok(size));
        let note = Note::parse(&bytes(&name)).unwrap();
        assert_eq!(note.to_string().into_bytes(), bytes(&name));
        assert_eq!(
            hex::encode(Checkpoint::of(&note).unwrap().root),
            vectors()["roots"][size.to_string()].as_str().unwrap()
        );
    }
}

#[test]
fn the_four_bad_notes_fail_each_for_its_own_reason() {
    let witness_a = NoteError::Signature("hospitala.example/witness".into());
    assert_eq!(evaluate("bad/cosig_by_wrong_time.note"), Err(PolicyError::Signature(witness_a)));
    let log_key = NoteError::Signature("ledger.leben.example/test1".into());
    assert_eq!(evaluate("bad/log_key_as_witness.note"), Err(PolicyError::Signature(log_key)));
    match evaluate("bad/only2of4.note") {
        Err(PolicyError::Quorum { have, missing, .. }) => {
            assert_eq!((have.as_str(), missing.as_str()), ("W0, W1", "W2, W3"))
        }
        other => panic!("{other:?}"),
    }
    let record = WitnessRecord::parse(&bytes("cp/300.note"), &log()).unwrap();
    let witness = Witness::new(log(), vec![], Some(record)).unwrap();
    assert!(matches!(witness.handle_view(&bytes("bad/fork300.note")), Err(WitnessError::Fork { size: 300, .. })));
    assert!(matches!(evaluate("bad/fork300.note"), Err(PolicyError::Quorum { .. })));
}

#[test]
fn proofs_verify_and_are_rebuilt_from_the_tiles() {
    let reader = LogReader::new(&path("log"));
    let note = reader.checkpoint().unwrap();
    for i in [0, 1, 255, 256, 299] {
        let proof = bytes(&format!("proof/{i}.tlog-proof"));
        assert_eq!(verify_proof(&proof, &policy(), &entry(i)).unwrap().index, i as u64);
        assert_eq!(verify_proof(&proof, &policy(), b"another").unwrap_err().exit_code(), 5);
        assert_eq!(reader.proof(i as u64, &note).unwrap().to_string().into_bytes(), proof);
        assert_eq!(reader.entry(i as u64, 300).unwrap(), entry(i));
    }
}

#[test]
fn every_flipped_byte_of_a_proof_is_found() {
    let good = bytes("proof/256.tlog-proof");
    let all_four: String = String::from_utf8(bytes("policy.txt")).unwrap().replace("group q 3", "group q 4");
    let policy = Policy::parse(all_four.as_bytes()).unwrap();
    for i in 0..good.len() {
        let mut bad = good.clone();
        bad[i] ^= 1 << (i % 8);
        let code = verify_proof(&bad, &policy, &entry(256)).map_err(|e| e.exit_code());
        assert!(matches!(code, Err(2..=5)), "byte {i}: {code:?}");
    }
}

#[test]
fn add_checkpoint_bodies_are_answered() {
    for (old, new) in [(1, 300), (255, 256), (255, 300), (256, 257), (256, 300), (257, 300)] {
        let body = bytes(&format!("add-checkpoint/{old}-{new}.req"));
        let request = AddCheckpoint::parse(&body).unwrap();
        assert_eq!(request.to_string().into_bytes(), body);
        let built = LogReader::new(&path("log")).consistency(old, new).unwrap();
        assert_eq!(request.proof, built);
        let record = WitnessRecord::parse(&bytes(&format!("cp/{old}.note")), &log()).unwrap();
        let mut witness = Witness::new(log(), vec![], Some(record)).unwrap();
        assert_eq!(witness.handle_add_checkpoint(1, &body).unwrap().record.checkpoint().size, new);
        assert_eq!(witness.handle_add_checkpoint(1, &body), Err(WitnessError::Conflict { size: new }));
    }
}

#[test]
fn the_builder_writes_the_same_tiles() {
    let mut builder = Builder::default();
    for i in 0..300 {
        builder.append(entry(i)).unwrap();
    }
    let mut files = builder.take_files();
    files.sort_by_key(|f| f.path);
    let mut expected: Vec<_> = paths(300).collect();
    expected.sort();
    assert_eq!(files.iter().map(|f| f.path).collect::<Vec<_>>(), expected);
    for file in files {
        assert_eq!(file.bytes, bytes(&format!("log/{}", file.path)), "{}", file.path);
    }
}

#[test]
fn the_folder_verifies_with_opaque_entries() {
    let options = || Options { policy: Some(policy()), ..Options::default() };
    let report = verify_folder(&path("log"), options()).unwrap();
    assert_eq!((report.checkpoint.size, report.cosigners.len(), report.files), (300, 4, 6));
    let known = |name| Options { known: Some(Note::parse(&bytes(name)).unwrap()), ..options() };
    verify_folder(&path("log"), known("cp/257.note")).unwrap();
    assert_eq!(verify_folder(&path("log"), known("bad/fork300.note")).unwrap_err().exit_code(), 8);
}
