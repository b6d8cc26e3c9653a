//! A coordinator built to fork: it shows one history to some hospitals and another to the rest, and some hospitals are in the plot. Every
//! way of doing that with up to seven hospitals, against unmodified validators and unmodified policies.

use crate::support::*;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::merkle::{Tree, leaf_hash};
use leben_contracts::ledger::note::{Note, SignatureLine, VerifierKey};
use leben_contracts::ledger::policy::{Policy, UnknownSigners, safe_threshold};
use leben_contracts::ledger::witness::{Validator, Witness, WitnessAnswer, WitnessError};
use std::collections::BTreeSet;

const HOSPITALS_MAX: u8 = 7;

/// Which of two histories a hospital is shown, if it is honest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Shown {
    Left,
    Right,
    /// In the plot: it signs both.
    Both,
}

const SHOWN: [Shown; 3] = [Shown::Left, Shown::Right, Shown::Both];

fn leaves(names: &[&str]) -> Vec<Vec<u8>> {
    let leaf = |name: &&str| {
        let envelope = Envelope::sign(&action(name), &[&key(9)]).unwrap();
        Entry::new(envelope, NOW_MS).unwrap().bytes().to_vec()
    };
    names.iter().map(leaf).collect()
}

/// One history: entries and the checkpoint that the log signed over them.
struct History {
    entries: Vec<Vec<u8>>,
    note: Note,
}

impl History {
    fn new(names: &[&str]) -> Self {
        let (entries, mut tree) = (leaves(names), Tree::default());
        entries.iter().for_each(|entry| tree.append(leaf_hash(entry)));
        let note = checkpoint_note(tree.size(), tree.root());
        Self { entries, note }
    }

    /// The request of a coordinator that claims that this hospital has signed nothing yet.
    fn request(&self) -> Vec<u8> {
        AddCheckpoint::new(0, vec![], self.note.clone()).unwrap().to_string().into_bytes()
    }

    fn ask(&self, validator: &mut Validator<Names>) -> Result<WitnessAnswer, WitnessError> {
        let new = self.entries.get(usize::try_from(validator.next_index()).unwrap()..).unwrap_or_default();
        validator.handle_add_checkpoint(NOW_MS, &self.request(), new)
    }
}

fn validator(n: u8) -> Validator<Names> {
    Validator::new(Witness::new(log_vkey(), vec![witness_signer(n)], None).unwrap(), Names::default())
}

/// What one honest hospital gives a coordinator that shows it this history first, and then the other.
fn honest(n: u8, first: &History, then: &History) -> SignatureLine {
    let mut validator = validator(n);
    let signed = first.ask(&mut validator).unwrap();
    let refused = then.ask(&mut validator).unwrap_err();
    assert!(matches!(refused, WitnessError::Fork { .. } | WitnessError::Conflict { .. }), "{refused}");
    // Nor does it help to claim what the hospital remembers.
    let size = signed.record.checkpoint().size;
    let claim = AddCheckpoint::new(size, vec![], then.note.clone()).unwrap().to_string();
    let refused = validator.handle_add_checkpoint(NOW_MS, claim.as_bytes(), &[]).unwrap_err();
    assert!(!matches!(refused, WitnessError::Illegal { .. }), "{refused}");
    signed.cosignatures[0].clone()
}

/// The signature lines of each hospital under each of the two histories, made once: honest ones from real validators.
struct Lines {
    left: Vec<SignatureLine>,
    right: Vec<SignatureLine>,
}

impl Lines {
    fn of(left: &History, right: &History) -> Self {
        let all = || 0..HOSPITALS_MAX;
        Self {
            left: all().map(|n| honest(n, left, right)).collect(),
            right: all().map(|n| honest(n, right, left)).collect(),
        }
    }
}

fn k_of_n(n: u8, k: u32) -> Policy {
    let witnesses: Vec<VerifierKey> = (0..n).map(|n| witness_signer(n).vkey().clone()).collect();
    Policy::k_of_n(&log_vkey(), &witnesses, k as usize).unwrap()
}

/// Whether this history is final for somebody who sees these signatures.
fn is_final(policy: &Policy, history: &History, lines: &[SignatureLine], split: &[Shown], side: Shown) -> bool {
    let mut note = history.note.clone();
    for (line, shown) in lines.iter().zip(split) {
        if *shown == side || *shown == Shown::Both {
            note.push(line.clone()).unwrap();
        }
    }
    policy.evaluate(&note, UnknownSigners::Refuse).is_ok()
}

/// Every way of dividing `n` hospitals.
fn splits(n: u8) -> impl Iterator<Item = Vec<Shown>> {
    (0..3usize.pow(u32::from(n))).map(move |code| (0..n).map(|i| SHOWN[code / 3usize.pow(u32::from(i)) % 3]).collect())
}

fn no_fork_is_final(left: &History, right: &History) {
    let lines = Lines::of(left, right);
    for n in 1..=HOSPITALS_MAX {
        let policies: Vec<Policy> = (1..=u32::from(n)).map(|k| k_of_n(n, k)).collect();
        let mut broken_one_lower = BTreeSet::new();
        for split in splits(n) {
            let f = split.iter().filter(|shown| **shown == Shown::Both).count();
            let safe = safe_threshold(u32::from(n), u32::try_from(f).unwrap());
            let both_final = |k: u32| {
                let policy = &policies[k as usize - 1];
                is_final(policy, left, &lines.left, &split, Shown::Left)
                    && is_final(policy, right, &lines.right, &split, Shown::Right)
            };
            if safe <= u32::from(n) {
                assert!(!both_final(safe), "n {n}, f {f}, k {safe}: {split:?}");
            }
            if safe > 1 && both_final(safe - 1) {
                broken_one_lower.insert(f);
            }
        }
        // The bound is the least: with one signature less there is a split that makes both final, wherever one less is not none.
        let expected: BTreeSet<usize> = (0..=usize::from(n)).filter(|f| (usize::from(n) + f) / 2 > 0).collect();
        assert_eq!(broken_one_lower, expected, "n {n}");
    }
}

#[test]
fn two_histories_of_the_same_length_are_never_both_final() {
    no_fork_is_final(&History::new(&["a", "b", "c"]), &History::new(&["a", "b", "x"]));
}

#[test]
fn a_longer_history_without_an_old_entry_is_never_final_beside_the_first() {
    no_fork_is_final(&History::new(&["a", "b", "c"]), &History::new(&["a", "x", "c", "d"]));
}

#[test]
fn the_networks_own_quorum_is_the_least_safe_one() {
    for n in 1..=100u32 {
        let f = (n - 1) / 3;
        let quorum = u32::try_from(leben_contracts::agreement::body::quorum(n as usize)).unwrap();
        assert_eq!(quorum, safe_threshold(n, f));
        assert!(quorum <= n - f, "{n} hospitals of which {f} are gone still make a quorum of {quorum}");
    }
}

/// Two honest hospitals that compare what they signed have the proof in their hands: both checkpoints carry the log's signature.
#[test]
fn two_hospitals_that_compare_hold_the_evidence() {
    let (left, right) = (History::new(&["a", "b", "c"]), History::new(&["a", "b", "x"]));
    let (mut one, mut other) = (validator(0), validator(1));
    let (_, theirs) = (left.ask(&mut one).unwrap(), right.ask(&mut other).unwrap());
    let error = one.witness().handle_view(&theirs.record.to_bytes()).unwrap_err();
    let WitnessError::Fork { size: 3, mine, theirs } = error else { panic!("{error}") };
    let roots: BTreeSet<[u8; 32]> = [mine, theirs]
        .iter()
        .map(|text| {
            let note = Note::parse(text.as_bytes()).unwrap();
            note.verify(&log_vkey()).unwrap();
            Checkpoint::of(&note).unwrap().root
        })
        .collect();
    assert_eq!(roots.len(), 2);
}

/// A coordinator that is honest about the size but not about what it changed.
#[test]
fn a_changed_old_entry_is_refused_whatever_proof_comes_with_it() {
    let (first, changed) = (History::new(&["a", "b", "c"]), History::new(&["a", "x", "c", "d", "e"]));
    let mut hospital = validator(0);
    first.ask(&mut hospital).unwrap();
    for proof in [vec![], vec![[7; 32]; 3], vec![leaf_hash(&first.entries[2]), leaf_hash(&changed.entries[3])]] {
        let request = AddCheckpoint::new(3, proof, changed.note.clone()).unwrap().to_string();
        let error = hospital.handle_add_checkpoint(NOW_MS, request.as_bytes(), &changed.entries[3..]).unwrap_err();
        assert!(matches!(error, WitnessError::Consistency(_)), "{error}");
    }
}
