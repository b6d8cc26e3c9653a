use super::*;
use crate::ledger::key::PublicKey;
use crate::ledger::merkle::{NodeReader, leaf_hash, root_of};
use crate::ledger::note::{KeyType, NoteSigner};
use ed25519_dalek::SigningKey;

const ORIGIN: &str = "ledger.example/forked";

struct Leaves(Vec<Hash>);

impl NodeReader for Leaves {
    type Error = ();
    fn node(&self, level: u32, index: u64) -> Result<Hash, ()> {
        let (from, to) = ((index as usize) << level, (index as usize + 1) << level);
        self.0.get(from..to).map(root_of).ok_or(())
    }
}

fn signer(n: u8) -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, SigningKey::from_bytes(&[n; 32])).unwrap()
}

fn note(n: u8, size: u64, root: Hash) -> Note {
    let mut note = Note::new(Checkpoint::new(ORIGIN, size, root).to_string()).unwrap();
    note.push(signer(n).sign(note.text(), 0)).unwrap();
    note
}

/// A history whose entries differ from the other's from `at` on.
fn history(size: u64, differs_from: u64) -> Leaves {
    Leaves(
        (0..size).map(|i| leaf_hash(format!("{i}{}", if i >= differs_from { "b" } else { "" }).as_bytes())).collect(),
    )
}

#[test]
fn every_pair_of_sizes_of_two_histories_is_proven_and_checked_from_the_file_alone() {
    let (a, b) = (history(40, u64::MAX), history(40, 5));
    let log = signer(1).vkey().clone();
    for smaller in 1..=40u64 {
        for larger in smaller..=40 {
            let theirs = note(1, smaller, root_of(&b.0[..smaller as usize]));
            let mine = note(1, larger, root_of(&a.0[..larger as usize]));
            let root = merkle::root_at(&a, smaller).unwrap();
            let proof = merkle::consistency(&a, smaller, larger).unwrap();
            let made = ForkEvidence::new(&log, &mine, &theirs, root, proof);
            if smaller <= 5 {
                assert_eq!(made, Err(EvidenceError::NoFork), "{smaller} {larger}: the histories are one up to there");
                continue;
            }
            let file = made.unwrap().to_json();
            let fork = ForkEvidence::parse(file.as_bytes()).unwrap().verify(&log).unwrap();
            assert_eq!((fork.size, fork.larger_size, fork.proven), (smaller, larger, root));
        }
    }
}

#[test]
fn who_cosigned_which_side_is_told_as_far_as_the_policy_knows_them() {
    let (a, b) = (history(8, u64::MAX), history(8, 3));
    let hospital =
        |n: u8| NoteSigner::new(&format!("h{n}"), KeyType::Cosignature, SigningKey::from_bytes(&[n; 32])).unwrap();
    let (mut one, mut other) = (note(1, 8, root_of(&a.0)), note(1, 8, root_of(&b.0)));
    for (note, by) in [(&mut one, [11, 12]), (&mut other, [12, 13])] {
        by.into_iter().for_each(|n| note.push(hospital(n).sign(note.text(), 7)).unwrap());
    }
    // A line in the name of the first hospital, by another key.
    let mut forged = hospital(99).sign(other.text(), 7);
    (forged.name, forged.id) = ("h11".to_owned(), hospital(11).vkey().id());
    other.push(forged).unwrap();
    let evidence = ForkEvidence::of_one_size(signer(1).vkey(), &one, &other).unwrap();
    let vkeys = [11, 12, 13].map(|n| hospital(n).vkey().clone());
    let policy = Policy::k_of_n(signer(1).vkey(), &vkeys, 2).unwrap();
    let text = evidence.cosigners_text(Some(&policy));
    assert!(
        text.contains("first was cosigned by h11, h12, the second by h12, h13;") && text.contains("as h12 did"),
        "{text}"
    );
    let text = evidence.cosigners_text(None);
    assert!(text.contains("the second by h12, h13, h11 (as the lines claim"), "{text}");
}

#[test]
fn what_accuses_an_innocent_log_proves_nothing() {
    let (a, b) = (history(20, u64::MAX), history(20, 3));
    let log = signer(1).vkey().clone();
    let roots = |h: &Leaves, n: usize| root_of(&h.0[..n]);
    let (mine, theirs) = (note(1, 20, roots(&a, 20)), note(1, 12, roots(&b, 12)));
    let proof = merkle::consistency(&a, 12, 20).unwrap();
    let root = merkle::root_at(&a, 12).unwrap();
    ForkEvidence::new(&log, &mine, &theirs, root, proof.clone()).unwrap();
    // A checkpoint that the accuser signed, not the log.
    let forged = ForkEvidence::new(&log, &mine, &note(2, 12, roots(&b, 12)), root, proof.clone());
    assert!(matches!(forged, Err(EvidenceError::Signature { which: "smaller", .. })), "{forged:?}");
    // A path that leads elsewhere; a root made up to differ.
    assert!(matches!(ForkEvidence::new(&log, &mine, &theirs, [7; 32], proof.clone()), Err(EvidenceError::Proof(_))));
    let mut bent = proof.clone();
    bent[0][3] ^= 1;
    assert!(matches!(ForkEvidence::new(&log, &mine, &theirs, root, bent), Err(EvidenceError::Proof(_))));
    assert!(matches!(ForkEvidence::of_one_size(&log, &mine, &theirs), Err(EvidenceError::Proof(_))));
    assert_eq!(ForkEvidence::of_one_size(&log, &mine, &mine), Err(EvidenceError::NoFork));
    // Of another log.
    let other = VerifierKey::new("other.example", KeyType::Ed25519, PublicKey::of(&SigningKey::from_bytes(&[1; 32])));
    let good = ForkEvidence::new(&log, &mine, &theirs, root, proof).unwrap();
    assert!(matches!(good.verify(&other.unwrap()), Err(EvidenceError::Format(_))));
}

#[test]
fn a_flipped_byte_of_the_file_never_proves_another_fork() {
    let (a, b) = (history(9, u64::MAX), history(9, 3));
    let log = signer(1).vkey().clone();
    let (mine, theirs) = (note(1, 9, root_of(&a.0)), note(1, 9, root_of(&b.0)));
    let file = ForkEvidence::of_one_size(&log, &mine, &theirs).unwrap().to_json();
    let fork = ForkEvidence::parse(file.as_bytes()).unwrap().verify(&log).unwrap();
    for at in 0..file.len() {
        let mut flipped = file.clone().into_bytes();
        flipped[at] ^= 1;
        // A flip may fall on white space or on the key named for people; what it proves then is the same.
        if let Ok(evidence) = ForkEvidence::parse(&flipped)
            && let Ok(proven) = evidence.verify(&log)
        {
            assert_eq!(proven, fork, "byte {at}");
        }
    }
    assert!(ForkEvidence::parse(&vec![b' '; EVIDENCE_BYTES_MAX + 1]).is_err());
}
