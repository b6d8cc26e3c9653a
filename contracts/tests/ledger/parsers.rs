//! Bytes from anywhere: no parser panics, and what a parser accepts it writes back exactly as it came, so that nothing has two spellings
//! and nothing is signed or hashed that was not read.
//!
//! Random bytes never get far, so most of the input is good input with a few edits.

use crate::support::*;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner, SignatureLine, VerifierKey};
use leben_contracts::ledger::policy::{Policy, UnknownSigners};
use leben_contracts::ledger::proof::TlogProof;
use leben_contracts::ledger::tile::{TilePath, decode_bundle, decode_hashes, encode_bundle, encode_hashes};
use leben_contracts::ledger::witness::WitnessRecord;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};
use std::cell::Cell;

/// One edit of a text or of bytes.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    Delete(Index, usize),
    Repeat(Index, usize),
    SwapLines(Index, Index),
    DropLine(Index),
    RepeatLine(Index),
    Word(Index, Index),
}

/// What formats are made of; inserted where it does not belong.
const WORDS: [&str; 22] = [
    "\n",
    "\n\n",
    " ",
    "\t",
    "\r\n",
    "\u{2014} ",
    "+",
    "=",
    "0",
    "-0",
    "18446744073709551616",
    "1.0",
    "1e3",
    "null",
    "\\u0041",
    "\u{feff}",
    "\u{85}",
    "\u{2028}",
    "extra ",
    "quorum none",
    "{}",
    "AAAA",
];

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let index = any::<Index>;
    let edit = prop_oneof![
        (index(), 0u8..8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        (index(), prop::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (index(), 1usize..6).prop_map(|(at, len)| Edit::Delete(at, len)),
        (index(), 1usize..40).prop_map(|(at, len)| Edit::Repeat(at, len)),
        (index(), index()).prop_map(|(a, b)| Edit::SwapLines(a, b)),
        index().prop_map(Edit::DropLine),
        index().prop_map(Edit::RepeatLine),
        (index(), index()).prop_map(|(at, word)| Edit::Word(at, word)),
    ];
    prop::collection::vec(edit, 0..4)
}

fn apply(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        if bytes.is_empty() {
            return bytes;
        }
        let len = bytes.len();
        let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|b| *b == b'\n').map(<[u8]>::to_vec).collect();
        match edit {
            Edit::Flip(at, bit) => bytes[at.index(len)] ^= 1 << bit,
            Edit::Insert(at, more) => drop(bytes.splice(at.index(len)..at.index(len), more.clone())),
            Edit::Delete(at, count) => drop(bytes.drain(at.index(len)..len.min(at.index(len) + count))),
            Edit::Repeat(at, count) => {
                let (from, to) = (at.index(len), len.min(at.index(len) + count));
                let again = bytes[from..to].to_vec();
                drop(bytes.splice(to..to, again));
            }
            Edit::SwapLines(a, b) => {
                let (a, b) = (a.index(lines.len()), b.index(lines.len()));
                lines.swap(a, b);
                bytes = lines.concat();
            }
            Edit::DropLine(at) => {
                lines.remove(at.index(lines.len()));
                bytes = lines.concat();
            }
            Edit::RepeatLine(at) => {
                let again = lines[at.index(lines.len())].clone();
                lines.insert(at.index(lines.len()), again);
                bytes = lines.concat();
            }
            Edit::Word(at, word) => {
                let at = at.index(len + 1);
                drop(bytes.splice(at..at, WORDS[word.index(WORDS.len())].bytes()));
            }
        }
    }
    bytes
}

/// Runs `read` over edited copies of good input and over noise. It returns what it read, written again, if it accepted the input. Some
/// input has to be accepted and some refused, or nothing was tested.
fn exact(good: &[Vec<u8>], read: impl Fn(&[u8]) -> Option<Vec<u8>>) {
    for bytes in good {
        assert_eq!(read(bytes).as_ref(), Some(bytes), "good input is accepted and written back");
    }
    let (accepted, refused) = (Cell::new(0), Cell::new(0));
    let edited =
        (any::<Index>(), edits()).prop_map(|(which, edits)| apply(good[which.index(good.len())].clone(), &edits));
    let input = prop_oneof![8 => edited, 1 => prop::collection::vec(any::<u8>(), 0..300)];
    let checked =
        TestRunner::new(Config { cases: 1500, failure_persistence: None, ..Config::default() }).run(&input, |bytes| {
            match read(&bytes) {
                None => refused.set(refused.get() + 1),
                Some(again) => {
                    accepted.set(accepted.get() + 1);
                    prop_assert_eq!(again, bytes);
                }
            }
            Ok(())
        });
    checked.unwrap_or_else(|error| panic!("{error}"));
    assert!(accepted.get() > 50 && refused.get() > 500, "accepted {}, refused {}", accepted.get(), refused.get());
}

fn golden(name: &str) -> Vec<u8> {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ledger");
    std::fs::read(root.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn all(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| golden(name)).collect()
}

const NOTES: [&str; 6] = [
    "cp/1.note",
    "cp/300.note",
    "bad/only2of4.note",
    "bad/fork300.note",
    "bad/cosig_by_wrong_time.note",
    "bad/log_key_as_witness.note",
];

fn spelled(value: &impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[test]
fn notes() {
    exact(&all(&NOTES), |bytes| Note::parse(bytes).ok().as_ref().map(spelled));
}

#[test]
fn checkpoints() {
    let texts: Vec<Vec<u8>> =
        all(&NOTES).iter().map(|note| Note::parse(note).unwrap().text().as_bytes().to_vec()).collect();
    let extended: Vec<Vec<u8>> = texts.iter().map(|text| [text, &b"an extension\n"[..]].concat()).collect();
    let read = |bytes: &[u8]| Checkpoint::parse(std::str::from_utf8(bytes).ok()?).ok().as_ref().map(spelled);
    exact(&[texts, extended].concat(), read);
}

#[test]
fn proofs() {
    let mut good = all(&["proof/0.tlog-proof", "proof/256.tlog-proof", "proof/299.tlog-proof"]);
    good.push(String::from_utf8(good[0].clone()).unwrap().replacen("index", "extra AAEC\nindex", 1).into_bytes());
    exact(&good, |bytes| TlogProof::parse(bytes).ok().as_ref().map(spelled));
}

#[test]
fn requests_to_witnesses() {
    let good = all(&["add-checkpoint/1-300.req", "add-checkpoint/255-300.req", "add-checkpoint/256-257.req"]);
    exact(&good, |bytes| AddCheckpoint::parse(bytes).ok().as_ref().map(spelled));
}

#[test]
fn stored_records_of_witnesses() {
    let vkey = String::from_utf8(golden("policy.txt")).unwrap();
    let vkey = VerifierKey::parse(vkey.split_whitespace().nth(1).unwrap()).unwrap();
    exact(&all(&["cp/1.note", "cp/257.note", "cp/300.note"]), |bytes| {
        WitnessRecord::parse(bytes, &vkey).ok().map(|record| record.to_bytes())
    });
}

#[test]
fn signature_lines_and_verifier_keys() {
    let text = String::from_utf8(golden("cp/300.note")).unwrap();
    let lines: Vec<Vec<u8>> =
        text.lines().filter(|l| l.starts_with('\u{2014}')).map(|l| l.as_bytes().to_vec()).collect();
    exact(&lines, |bytes| {
        let line = SignatureLine::parse(std::str::from_utf8(bytes).ok()?).ok()?;
        line.to_string().strip_suffix('\n').map(|text| text.as_bytes().to_vec())
    });
    let keys: Vec<Vec<u8>> = String::from_utf8(golden("policy.txt"))
        .unwrap()
        .split_whitespace()
        .filter(|word| word.matches('+').count() >= 2)
        .map(|word| word.as_bytes().to_vec())
        .collect();
    exact(&keys, |bytes| VerifierKey::parse(std::str::from_utf8(bytes).ok()?).ok().as_ref().map(spelled));
}

/// Comments and spacing of a policy are not kept, so here what is written again means the same and is then exact.
#[test]
fn policies() {
    let good = vec![golden("policy.txt"), policy().to_string().into_bytes()];
    let plain = |bytes: &[u8]| -> Option<Vec<u8>> {
        let policy = Policy::parse(bytes).ok()?;
        let again = policy.to_string();
        assert_eq!(Policy::parse(again.as_bytes()).as_ref(), Ok(&policy), "{again}");
        Some(if again.as_bytes() == bytes { again.into_bytes() } else { bytes.to_vec() })
    };
    exact(&good, plain);
}

#[test]
fn envelopes_and_entries() {
    let actions = ["a", "\u{e4}\u{1f600}\"\\\n", "1"].map(action);
    let envelopes: Vec<Envelope> =
        actions.iter().map(|action| Envelope::sign(action, &[&key(9), &key(8)]).unwrap()).collect();
    let bytes: Vec<Vec<u8>> = envelopes.iter().map(Envelope::to_bytes).collect();
    exact(&bytes, |bytes| Envelope::parse(bytes).ok().map(|envelope| envelope.to_bytes()));
    let entries: Vec<Vec<u8>> =
        envelopes.iter().map(|envelope| Entry::new(envelope.clone(), NOW_MS).unwrap().bytes().to_vec()).collect();
    exact(&entries, |bytes| {
        let entry = Entry::parse(bytes).ok()?;
        let again = Entry::new(entry.envelope().clone(), entry.seq_ms()).unwrap();
        assert_eq!(Envelope::parse(&again.envelope().to_bytes()).as_ref(), Ok(entry.envelope()));
        Some(again.bytes().to_vec())
    });
}

#[test]
fn tiles_bundles_and_paths() {
    let bundle = golden("log/tile/entries/001.p/44");
    exact(&[bundle], |bytes| decode_bundle(bytes, 44).ok().map(|entries| encode_bundle(&entries).unwrap()));
    let tile = golden("log/tile/0/001.p/44");
    exact(&[tile], |bytes| decode_hashes(bytes, 44).ok().map(|hashes| encode_hashes(&hashes)));
    let paths = ["tile/0/x001/x234/067", "tile/7/000.p/1", "tile/entries/999", "tile/entries/x001/000.p/255"];
    let paths: Vec<Vec<u8>> = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    exact(&paths, |bytes| TilePath::parse(std::str::from_utf8(bytes).ok()?).ok().as_ref().map(spelled));
}

/// A line by a key of a kind that does not exist yet (here the size of a cosignature of type 0x06, ML-DSA-44): it is carried to the
/// byte, a quorum stands without it and never through it, and the verifier of whole folders says that it cannot check it.
#[test]
fn signatures_of_later_kinds_are_carried_and_never_counted() {
    let note = cosign(&checkpoint_note(3, [7; 32]), &[0, 1, 2], 5);
    let later = |name: &str| SignatureLine { name: name.into(), id: [6, 6, 6, 6], signature: vec![6; 8 + 2420] };
    let mut with = note.clone();
    with.push(later("hospital3.example/witness")).unwrap();
    with.push(later("someone.example/else")).unwrap();
    assert_eq!(Note::parse(with.to_string().as_bytes()).unwrap(), with);
    let satisfied = policy().evaluate(&with, UnknownSigners::Ignore).unwrap();
    assert_eq!(satisfied, policy().evaluate(&note, UnknownSigners::Refuse).unwrap());
    let refused = policy().evaluate(&with, UnknownSigners::Refuse).unwrap_err();
    assert!(refused.to_string().contains("hospital3.example/witness"), "{refused}");
    let mut two = cosign(&checkpoint_note(3, [7; 32]), &[0, 1], 5);
    two.push(later("hospital3.example/witness")).unwrap();
    assert!(policy().evaluate(&two, UnknownSigners::Ignore).is_err());
    // One name may have keys of several kinds; a log's own key never stands for a witness.
    let plain = NoteSigner::new("hospital0.example/witness", KeyType::Ed25519, key(10)).unwrap();
    let mut both = note.clone();
    both.push(plain.sign(both.text(), 0)).unwrap();
    assert_eq!(policy().evaluate(&both, UnknownSigners::Ignore).unwrap().cosigners.len(), 3);
    // A verifier key of a later kind is refused by name, not misread.
    let error = VerifierKey::parse("w+06060606+BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYG").unwrap_err();
    assert!(error.to_string().contains("neither 0x01"), "{error}");
}
