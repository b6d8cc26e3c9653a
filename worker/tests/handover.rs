//! A hospital's copy of the ledger over a Handover: the new key counts once a quorum has signed for it, and the old one no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use leben_contracts::agreement::body::{Founder, Handover};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::{PartyKeys, Role};
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::merkle::{Tree, leaf_hash};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::tile::Builder;
use leben_contracts::ledger::witness::WitnessRecord;
use leben_worker::mirror::{Mirror, Published};
use support::*;

fn new_log() -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, key("coord2", "log")).unwrap()
}

/// A new coordinator goes on from here, as these sign.
fn hand_over(net: &mut Net, signers: &[&str]) -> Result<u64, String> {
    let state = net.state().clone();
    let size = state.next_index();
    let keys =
        PartyKeys { party: public("coord2", "party"), witness: None, validator: None, tls: public("coord2", "tls") };
    let body = Handover {
        coordinator: Founder { party: id("coord"), keys, sealing: X25519Key(hash("coord2/sealing").0) },
        size,
        root: state.root(),
        log_key: public("coord2", "log"),
    };
    let (actor, role) = (id("coord"), Role::Coordinator);
    let header = Header { actor: &actor, role, now_ms: net.now_ms, valid_ms: HOUR, nonce: [9; 16] };
    let action = state.draft(&body.into(), None, &header).unwrap();
    let keys: Vec<_> = [&["coord2"], signers].concat().iter().map(|name| key(name, "party")).collect();
    let envelope = Envelope::sign(&action, &keys.iter().collect::<Vec<_>>()).unwrap();
    let mut builder = Builder::default();
    net.leaves.iter().for_each(|leaf| builder.append(leaf.clone()).unwrap());
    let follower = Follower::resume(ORIGIN, size, state.now_ms(), state);
    net.sequencer = Sequencer::new(new_log(), builder, follower).unwrap();
    net.append(&envelope.to_bytes())
}

/// A hospital that has certified everything: its copy, its record, its certificate.
fn certified(net: &Net) -> (Mirror, WitnessRecord, Note) {
    let mut mirror = new_mirror();
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    let record = mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap().record;
    for note in net.turns(0, &["h2", "h3"]) {
        assert!(matches!(mirror.handle_publish(&note), Ok(Published::New(_))));
    }
    let Ok(Published::New(last)) = mirror.handle_publish(&net.certificate(&["h2", "h3"])) else { panic!() };
    (mirror, record, last.note)
}

fn followed(net: &Net, size: u64, record: WitnessRecord, certificate: Note) -> Mirror {
    let mut mirror = Mirror::new(new_log().vkey(), "h1", mirror_keys("h1"), Some(record)).unwrap();
    mirror.restore(&net.leaves[..usize::try_from(size).unwrap()], Some(certificate)).unwrap();
    assert_eq!((mirror.size(), mirror.certified_size()), (size, size));
    mirror
}

/// The checkpoint of everything by the key of before.
fn by_the_old_key(net: &Net) -> Note {
    let note = net.note.as_ref().unwrap();
    let mut old = Note::new(note.text().to_owned()).unwrap();
    old.push(log_signer().sign(note.text(), 0)).unwrap();
    old
}

fn tree(leaves: &[Vec<u8>]) -> Tree {
    let mut tree = Tree::default();
    leaves.iter().for_each(|leaf| tree.append(leaf_hash(leaf)));
    tree
}

#[test]
fn a_hospital_that_follows_signs_for_the_new_key_and_never_again_for_the_old_one() {
    let mut net = Net::new();
    let (mut before, record, certificate) = certified(&net);
    let size = net.leaves.len() as u64;
    hand_over(&mut net, &["h2", "h3"]).unwrap();
    let new = net.leaves[usize::try_from(size).unwrap()..].to_vec();

    // Who does not follow signs nothing for the new one.
    before.handle_entries(size, new.clone()).unwrap();
    let not = before.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap_err();
    assert!(not.refusal.words.contains("not signed by the log"), "{}", not.refusal);
    assert!(before.halted().is_none());

    let mut mirror = followed(&net, size, record, certificate);
    // The old coordinator has come back from a backup, and goes on over the very same entries.
    let old = by_the_old_key(&net);
    let body = String::from_utf8(net.cosign_body(size)).unwrap();
    let proof = body.split("\n\n").next().unwrap().to_owned();
    mirror.handle_entries(size, new.clone()).unwrap();
    let not = mirror.handle_cosign(net.now_ms, format!("{proof}\n\n{old}").as_bytes()).unwrap_err();
    assert!(not.refusal.words.contains("not signed by the log"), "{}", not.refusal);

    mirror.handle_entries(size, new).unwrap();
    let cosigned = mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap();
    assert_eq!(cosigned.size, size + 1);
    let mut forged = old;
    for name in ["h2", "h3"] {
        let signer = NoteSigner::new(name, KeyType::Cosignature, key(name, "validator")).unwrap();
        forged.push(signer.sign(forged.text(), net.now_ms / 1000)).unwrap();
    }
    let refused = mirror.handle_publish(forged.to_string().as_bytes()).unwrap_err();
    assert!(refused.words.contains("new quorum"), "{refused}");
    assert!(mirror.halted().is_none() && mirror.certified_size() == size);
    for note in net.turns(size, &["h2", "h3"]) {
        assert!(matches!(mirror.handle_publish(&note), Ok(Published::New(_))));
    }
    assert_eq!(mirror.certified().log_key(), Some(public("coord2", "log")));
    assert_eq!(mirror.certified().log_vkeys().len(), 2);
    net.enrol_by("late", "coord2");
    let from = mirror.size();
    mirror.handle_entries(from, net.leaves[usize::try_from(from).unwrap()..].to_vec()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(from)).unwrap();
    assert!(matches!(mirror.handle_publish(&net.certificate(&["h2", "h3"])), Ok(Published::New(_))));
}

#[test]
fn a_hospital_that_joins_later_takes_the_whole_past_with_the_certificates_of_the_old_key() {
    let mut net = Net::new();
    let size = net.leaves.len() as u64;
    hand_over(&mut net, &["h2", "h3"]).unwrap();
    let mut mirror = Mirror::new(new_log().vkey(), "h1", mirror_keys("h1"), None).unwrap();
    // As the coordinator sends them: certificates first, while nobody here knows the key of before.
    let turns = net.turns(0, &["h2", "h3"]);
    assert_eq!(turns.len(), 2);
    for note in &turns {
        assert!(matches!(mirror.handle_publish(note), Ok(Published::Early)));
    }
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
    for _ in &turns {
        assert!(matches!(mirror.poll_early(), Some(Ok(Published::New(_)))));
    }
    assert_eq!(mirror.certified_size(), size + 1);

    // In steps, each under a checkpoint by the new key, though the old one was in force there.
    let mut stepwise = Mirror::new(new_log().vkey(), "h1", mirror_keys("h1"), None).unwrap();
    for (from, to) in [(0, 4), (4, size)] {
        let leaves = &net.leaves[..usize::try_from(to).unwrap()];
        let mut note = Note::new(Checkpoint::new(ORIGIN, to, tree(leaves).root()).to_string()).unwrap();
        note.push(new_log().sign(note.text(), 0)).unwrap();
        let proof = net.proof(from, to);
        stepwise.handle_entries(from, leaves[usize::try_from(from).unwrap()..].to_vec()).unwrap();
        let body = AddCheckpoint::new(from, proof, note).unwrap().to_string();
        assert_eq!(stepwise.handle_cosign(net.now_ms, body.as_bytes()).unwrap().size, to);
    }
    stepwise.handle_entries(size, net.leaves[usize::try_from(size).unwrap()..].to_vec()).unwrap();
    stepwise.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap();
    for note in &turns {
        assert!(matches!(stepwise.handle_publish(note), Ok(Published::New(_))));
    }

    // A stranger's key is nobody's, before and after.
    let stranger = NoteSigner::new(ORIGIN, KeyType::Ed25519, key("stranger", "log")).unwrap();
    let checkpoint = Checkpoint::new(ORIGIN, size + 1, [7; 32]);
    let mut note = Note::new(checkpoint.to_string()).unwrap();
    note.push(stranger.sign(note.text(), 0)).unwrap();
    assert!(mirror.handle_publish(note.to_string().as_bytes()).is_err());
    let body = AddCheckpoint::new(size + 1, vec![], note).unwrap().to_string();
    assert!(mirror.handle_cosign(net.now_ms, body.as_bytes()).is_err());
    assert!(mirror.halted().is_none());
}

#[test]
fn without_a_quorum_nobody_hands_over() {
    for signers in [&[][..], &["h2"], &["h2", "team"], &["admin", "coord"]] {
        let mut net = Net::new();
        let refused = hand_over(&mut net, signers).unwrap_err();
        assert!(refused.contains("validators signed, 2 have to"), "{signers:?}: {refused}");
    }
}
