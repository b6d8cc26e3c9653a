//! A hospital's copy of the ledger over a Handover: the new key counts once a quorum has signed for it, and the old one no more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::path::{Path, PathBuf};

use leben_contracts::agreement::body::{Founder, Handover};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::{PartyKeys, Role};
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::merkle::{Tree, leaf_hash};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::export;
use leben_contracts::ledger::tile::Builder;
use leben_contracts::ledger::witness::WitnessRecord;
use leben_worker::io::clock::Clock;
use leben_worker::io::handover::{Wish, follow, freeze, frozen, sign, unfreeze};
use leben_worker::io::join::Network;
use leben_worker::io::store::Store;
use leben_worker::mirror::{Mirror, Published};
use support::*;

fn new_log() -> NoteSigner {
    signer_of("coord2")
}

fn signer_of(coordinator: &str) -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, key(coordinator, "log")).unwrap()
}

/// A Handover from here on, to these keys, as these sign.
fn file_of(net: &Net, next: &str, signers: &[&str]) -> ActionFile {
    let state = net.state();
    let keys = PartyKeys { party: public(next, "party"), witness: None, validator: None, tls: public(next, "tls") };
    let body = Handover {
        coordinator: Founder { party: id("coord"), keys, sealing: X25519Key(hash(&format!("{next}/sealing")).0) },
        size: state.next_index(),
        root: state.root(),
        log_key: public(next, "log"),
    };
    let (actor, role) = (id("coord"), Role::Coordinator);
    let header = Header { actor: &actor, role, now_ms: net.now_ms, valid_ms: HOUR, nonce: [9; 16] };
    let mut file = ActionFile::draft(&state.draft(&body.into(), None, &header).unwrap()).unwrap();
    [&[next], signers].concat().iter().for_each(|name| file.sign(&key(name, "party")).unwrap());
    file
}

/// A new coordinator goes on from here, as these sign.
fn hand_over(net: &mut Net, signers: &[&str]) -> Result<u64, String> {
    let envelope = file_of(net, "coord2", signers).into_envelope().unwrap();
    let state = net.state().clone();
    let size = state.next_index();
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
        assert!(refused.contains("of the validators signed, 2 have to"), "{signers:?}: {refused}");
    }
}

/// The folder of `h1`, which has everything and the certificate of it.
fn folder_of(net: &Net) -> tempfile::TempDir {
    folder_by(net, &["h2", "h3"])
}

fn folder_by(net: &Net, cosigners: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in ["party", "witness", "validator", "tls", "sealing"] {
        keyfile::create(&folder.path().join(format!("keys/{name}.key")), &key("h1", name).to_bytes()).unwrap();
    }
    let network = Network {
        address: "old.example:1".into(),
        coordinator_key: public("coord", "tls").to_hex(),
        origin: ORIGIN.into(),
        log_vkey: log_vkey().to_string(),
        party: "h1".into(),
    };
    std::fs::write(folder.path().join("network.json"), serde_json::to_vec(&network).unwrap()).unwrap();
    let mut store = Store::open(folder.path(), &log_vkey()).unwrap();
    store.store_entries(&net.leaves, net.note.as_ref().unwrap()).unwrap();
    let note = |bytes: Vec<u8>| Note::parse(&bytes).unwrap();
    let turns = net.turns(0, cosigners);
    let last = note(net.certificate(cosigners));
    let policy = net.state().witness_policy();
    for turn in turns {
        store.store_certificate(&last, Some(&note(turn)), policy.as_ref()).unwrap();
    }
    folder
}

fn saved(folder: &Path, name: &str, file: &ActionFile) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, file.to_bytes()).unwrap();
    path
}

fn wish(file: &Path) -> Wish<'_> {
    Wish { file, ledger: None, drop_certificate: false }
}

fn files(folder: &Path, names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| std::fs::read(folder.join(name)).unwrap()).collect()
}

/// The copy goes on beyond the certificate.
fn take_uncertified(folder: &Path, net: &Net, from: u64, log: &NoteSigner) {
    let mut store = Store::open(folder, log.vkey()).unwrap();
    let mut note = Note::new(net.note.as_ref().unwrap().text().to_owned()).unwrap();
    note.push(log.sign(note.text(), 0)).unwrap();
    store.store_entries(&net.leaves[usize::try_from(from).unwrap()..], &note).unwrap();
}

#[tokio::test]
async fn a_handover_that_was_followed_before_lifts_no_freeze() {
    let net = Net::new();
    let folder = folder_of(&net);
    let (folder, clock) = (folder.path(), Clock::default());
    let first = saved(folder, "first.json", &file_of(&net, "coord2", &["h2", "h3"]));
    let unsigned = saved(folder, "unsigned.json", &file_of(&net, "coord2", &[]));
    let second = saved(folder, "second.json", &file_of(&net, "coord3", &["h2"]));
    follow(folder, wish(&first), "next.example:1", clock).await.unwrap();
    follow(folder, wish(&first), "next.example:1", clock).await.unwrap();
    assert!(frozen(folder).unwrap().is_none());

    freeze(folder, clock).await.unwrap();
    let stays = async |file: &Path| {
        let before = files(folder, &["frozen.json", "network.json"]);
        let refused = follow(folder, wish(file), "next.example:1", clock).await.unwrap_err();
        assert!(refused.contains("it stays frozen"), "{refused}");
        assert_eq!(files(folder, &["frozen.json", "network.json"]), before);
    };
    stays(&first).await;
    sign(folder, wish(&second), false, true, clock).await.unwrap();
    for file in [&first, &unsigned] {
        stays(file).await;
        let refused = unfreeze(folder, clock).await.unwrap_err();
        assert!(refused.contains("has signed the Handover"), "{refused}");
    }
    follow(folder, wish(&second), "third.example:1", clock).await.unwrap();
    assert!(frozen(folder).unwrap().is_none());
}

#[tokio::test]
async fn entries_that_no_quorum_cosigned_do_not_say_who_the_quorum_is() {
    let mut net = Net::new();
    let folder = folder_of(&net);
    let (folder, clock, size) = (folder.path(), Clock::default(), net.leaves.len() as u64);
    let added = ["e1", "e2", "e3", "e4", "e5", "e6"];
    added.iter().for_each(|name| net.enrol(name));
    net.set_policy(&[&added[..], &HOSPITALS].concat(), 6);
    take_uncertified(folder, &net, size, &log_signer());
    let file = saved(folder, "handover.json", &file_of(&net, "coord2", &added));
    let before = files(folder, &["network.json"]);
    let refused = follow(folder, wish(&file), "evil.example:1", clock).await.unwrap_err();
    assert!(refused.contains("who has to sign changed"), "{refused}");
    let refused = sign(folder, wish(&file), false, true, clock).await.unwrap_err();
    assert!(refused.contains("add --ledger with a certified folder"), "{refused}");
    // A folder with the same entries and no better certificate does not help.
    let public = folder.join("mirror/public");
    let refused =
        follow(folder, Wish { file: &file, ledger: Some(&public), drop_certificate: false }, "evil.example:1", clock)
            .await
            .unwrap_err();
    assert!(refused.contains("is not the history"), "{refused}");
    assert_eq!(files(folder, &["network.json"]), before);
    unfreeze(folder, clock).await.unwrap();
}

#[tokio::test]
async fn a_hospital_that_missed_the_certificate_of_a_new_quorum_takes_it_from_another() {
    let mut net = Net::new();
    let (folder, empty, size) = (folder_of(&net), folder_of(&net), net.leaves.len() as u64);
    let (folder, empty, clock) = (folder.path(), empty.path(), Clock::default());
    net.enrol("e1");
    net.set_policy(&["e1", "h1", "h2", "h3"], 3);
    let other = folder_by(&net, &HOSPITALS);
    let public = other.path().join("mirror/public");
    take_uncertified(folder, &net, size, &log_signer());
    // This one has lost its copy and its certificates altogether.
    std::fs::remove_dir_all(empty.join("mirror")).unwrap();
    let file = saved(folder, "handover.json", &file_of(&net, "coord2", &["e1", "h2", "h3"]));
    for folder in [folder, empty] {
        let refused = follow(folder, wish(&file), "next.example:1", clock).await.unwrap_err();
        assert!(refused.contains("add --ledger with a certified folder"), "{refused}");
        freeze(folder, clock).await.unwrap();
        let wish = Wish { file: &file, ledger: Some(&public), drop_certificate: false };
        let shown = sign(folder, wish, false, false, clock).await.unwrap_err();
        assert!(shown.contains("Nothing is signed. To sign it"), "{shown}");
        follow(folder, wish, "next.example:1", clock).await.unwrap();
        assert!(frozen(folder).unwrap().is_none());
    }
}

#[tokio::test]
async fn who_followed_to_a_wrong_address_follows_to_the_right_one() {
    let net = Net::new();
    let folder = folder_of(&net);
    let (folder, clock) = (folder.path(), Clock::default());
    let file = saved(folder, "handover.json", &file_of(&net, "coord2", &["h2", "h3"]));
    follow(folder, wish(&file), "nxet.example:1", clock).await.unwrap();
    let said = follow(folder, wish(&file), "next.example:1", clock).await.unwrap();
    assert!(said.contains("next.example:1") && said.contains("restart the agent"), "{said}");
    assert_eq!(Network::load(folder).unwrap().address, "next.example:1");
    let said = follow(folder, wish(&file), "next.example:1", clock).await.unwrap();
    assert!(said.contains("goes on by itself"), "{said}");
}

/// Killed between the two moves of the copy, and then any other command: nothing that it had certified or signed is forgotten.
#[tokio::test]
async fn whatever_comes_after_a_killed_follow_the_copy_is_taken_back_first() {
    let net = Net::new();
    let (first, second) = (file_of(&net, "coord2", &["h2", "h3"]), file_of(&net, "coord3", &["h2", "h3"]));
    let size = net.leaves.len() as u64;
    for then in ["freeze", "sign", "follow"] {
        let folder = folder_of(&net);
        let (folder, clock) = (folder.path(), Clock::default());
        let (first, second) = (saved(folder, "first.json", &first), saved(folder, "second.json", &second));
        freeze(folder, clock).await.unwrap();
        sign(folder, wish(&first), false, true, clock).await.unwrap();
        let mut killed = frozen(folder).unwrap().unwrap();
        let aside = format!("mirror-before-{size}-{}", &public("coord2", "log").to_hex()[..8]);
        killed.aside = Some(aside.clone());
        std::fs::write(folder.join("frozen.json"), serde_json::to_vec(&killed).unwrap()).unwrap();
        std::fs::rename(folder.join("mirror"), folder.join(aside)).unwrap();
        match then {
            "freeze" => drop(freeze(folder, clock).await.unwrap()),
            "sign" => drop(sign(folder, wish(&second), true, true, clock).await.unwrap()),
            _ => drop(follow(folder, wish(&second), "next.example:1", clock).await.unwrap()),
        }
        let log = if then == "follow" { signer_of("coord3") } else { log_signer() };
        let store = Store::open(folder, log.vkey()).unwrap();
        assert_eq!(store.ledger().store().published().map(|head| head.size), Some(size), "{then}");
    }
}

#[tokio::test]
async fn two_handovers_from_one_place_set_two_copies_aside_and_what_was_cosigned_beyond_is_said() {
    let mut net = Net::new();
    let folder = folder_of(&net);
    let (folder, clock, size) = (folder.path(), Clock::default(), net.leaves.len() as u64);
    let (mut mirror, ..) = certified(&net);
    let first = saved(folder, "first.json", &file_of(&net, "coord2", &["h2", "h3"]));
    let second = saved(folder, "second.json", &file_of(&net, "coord3", &["h2", "h3"]));
    net.enrol("late");
    take_uncertified(folder, &net, size, &log_signer());
    mirror.handle_entries(size, net.leaves[usize::try_from(size).unwrap()..].to_vec()).unwrap();
    let record = mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap().record;
    Store::open(folder, &log_vkey()).unwrap().store_record(&record).unwrap();

    freeze(folder, clock).await.unwrap();
    let shown = sign(folder, wish(&first), false, false, clock).await.unwrap_err();
    assert!(shown.contains(&format!("cosigned {} entries and this goes on from {size}", size + 1)), "{shown}");
    follow(folder, wish(&first), "next.example:1", clock).await.unwrap();
    take_uncertified(folder, &net, size, &new_log());
    follow(folder, wish(&second), "third.example:1", clock).await.unwrap();
    for next in ["coord2", "coord3"] {
        let aside = format!("mirror-before-{size}-{}", &public(next, "log").to_hex()[..8]);
        assert!(folder.join(&aside).is_dir(), "{aside}");
    }
}

/// A copy that a new coordinator has chosen.
fn source(folder: &Path, target: &Path, net: &Net) -> PathBuf {
    export(&folder.join("mirror/public"), target).unwrap();
    std::fs::write(target.join("policy"), net.state().witness_policy().unwrap().to_string()).unwrap();
    target.to_owned()
}

#[tokio::test]
async fn a_later_certificate_is_dropped_when_a_person_says_so_and_never_otherwise() {
    let mut net = Net::new();
    net.offer_data("h1");
    let (folder, elsewhere) = (folder_of(&net), tempfile::tempdir().unwrap());
    let (folder, clock, size) = (folder.path(), Clock::default(), net.leaves.len() as u64);
    let before = source(folder, &elsewhere.path().join("source"), &net);
    let (mut mirror, ..) = certified(&net);
    let file = saved(folder, "handover.json", &file_of(&net, "coord2", &["h2", "h3"]));
    let unsigned = saved(folder, "unsigned.json", &file_of(&net, "coord3", &["h2"]));
    let mut other = Net::new();
    other.offer_data("h1");
    other.enrol("somebody");
    let forked = saved(folder, "forked.json", &file_of(&other, "coord2", &["h2", "h3"]));

    // One more entry and a contract, certified for this hospital alone.
    net.enrol("late");
    let contract = net.propose(terms()).to_string();
    let end = net.leaves.len() as u64;
    take_uncertified(folder, &net, size, &log_signer());
    mirror.handle_entries(size, net.leaves[usize::try_from(size).unwrap()..].to_vec()).unwrap();
    let record = mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap().record;
    let mut store = Store::open(folder, &log_vkey()).unwrap();
    let certificate = Note::parse(&net.certificate(&["h2", "h3"])).unwrap();
    store.store_certificate(&certificate, None, None).unwrap();
    store.store_record(&record).unwrap();
    drop(store);
    let later = source(folder, &elsewhere.path().join("later"), &net);

    let with = |file, ledger, drop_certificate| Wish { file, ledger, drop_certificate };
    let held = files(folder, &["network.json", "witness", "mirror/public/checkpoint", "mirror/state/HEAD"]);
    for (wish, said) in [
        (
            with(&file, None, false),
            vec!["all of which were final", "PartyEnrol by late", &contract, "--drop-certificate"],
        ),
        (with(&file, Some(&before), false), vec!["it would lose the rest", &format!("entries {size} to {}", end - 1)]),
        (with(&file, None, true), vec!["add --ledger"]),
        (with(&file, Some(&later), true), vec!["give `source`"]),
        (with(&unsigned, Some(&before), true), vec!["1 of the validators signed, 2 have to"]),
        (with(&forked, Some(&before), true), vec!["of two histories"]),
    ] {
        let refused = follow(folder, wish, "next.example:1", clock).await.unwrap_err();
        said.iter().for_each(|said| assert!(refused.contains(said), "no '{said}' in {refused}"));
        assert!(frozen(folder).unwrap().is_some_and(|frozen| frozen.signed.is_none()), "{refused}");
    }
    let refused = sign(folder, with(&file, Some(&before), true), false, true, clock).await.unwrap_err();
    assert!(refused.contains("Prepare another one"), "{refused}");
    assert_eq!(files(folder, &["network.json", "witness", "mirror/public/checkpoint", "mirror/state/HEAD"]), held);

    let said = follow(folder, with(&file, Some(&before), true), "next.example:1", clock).await.unwrap();
    for words in ["PartyEnrol by late", &contract, "set aside in", "following coord"] {
        assert!(said.contains(words), "no '{words}' in {said}");
    }
    let store = Store::open(folder, new_log().vkey()).unwrap();
    assert_eq!((store.ledger().next_index(), store.record().unwrap().unwrap().checkpoint().size), (size, size));
    assert_eq!(store.ledger().store().published().unwrap().size, size);
    let kept = std::fs::read_to_string(folder.join(format!("evidence/dropped-{size}-to-{}.txt", end - 1))).unwrap();
    assert!(kept.contains(&certificate.to_string()) && kept.contains(&contract), "{kept}");
    assert!(leben_worker::io::evidence::list_text(folder).unwrap().contains("a later certificate"));
    let aside = folder.join(format!("mirror-before-{size}-{}/public", &public("coord2", "log").to_hex()[..8]));
    assert_eq!(std::fs::read(aside.join("checkpoint")).unwrap(), certificate.to_string().as_bytes());
    assert!(std::fs::read_to_string(folder.join("audit.ndjson")).unwrap().contains("certificate-dropped"));
}
