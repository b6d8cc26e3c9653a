//! Clocks that do not agree: the coordinator's behind its own ledger, or ahead of the hospitals'.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::{LogReader, LogStore};
use leben_coordinator::finality::{Action, Finality};
use leben_coordinator::io::clock::now_ms;
use leben_coordinator::io::config::Config;
use leben_coordinator::io::{setup, start};

const ORIGIN: &str = "ledger.example/clock";

/// A coordinator's folder whose one entry was stamped so many milliseconds from now.
fn founded(ahead_ms: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let template = Config::template(ORIGIN, "coordinator").replace(":7443", ":0");
    setup::init(dir, &Config::new(ORIGIN, "coordinator"), &template, "admin").unwrap();
    let genesis = Entry::parse(&LogReader::new(&dir.join("ledger")).entry(0, 1).unwrap()).unwrap();
    for name in ["ledger", "state"] {
        std::fs::remove_dir_all(dir.join(name)).unwrap();
    }
    let key = keyfile::load(&dir.join("keys/log.key")).unwrap();
    let signer = NoteSigner::new(ORIGIN, KeyType::Ed25519, key).unwrap();
    let mut store = LogStore::open(&dir.join("ledger"), &dir.join("state"), signer.vkey()).unwrap();
    let policy = Policy::k_of_n(signer.vkey(), &[], 0).unwrap();
    let follower = Follower::new(ORIGIN, State::new(ORIGIN));
    let mut sequencer = Sequencer::new(signer, store.builder().unwrap(), follower).unwrap();
    let batch = sequencer.stage(now_ms() + ahead_ms, &[genesis.envelope().to_bytes()]).unwrap().batch.unwrap();
    store.commit(&batch).unwrap();
    store.publish(&batch.note).unwrap();
    store.publish_policy(&policy).unwrap();
    folder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_whose_clock_is_far_behind_its_ledger_does_not_start_and_says_by_how_much() {
    let folder = founded(30 * 60_000);
    let Err(error) = start(folder.path(), None).await else { panic!("it started") };
    let error = error.to_string();
    assert!(error.contains("29 min behind the ledger's last entry") && error.contains("by NTP"), "{error}");
    // A little behind: it goes on, and no entry is older than the one before it.
    let folder = founded(60_000);
    let running = start(folder.path(), None).await.unwrap();
    let mut finals = running.ledger.watch_final();
    finals.wait_for(|size| *size > 1).await.unwrap();
    running.stop().await;
    let reader = LogReader::new(&folder.path().join("ledger"));
    let size = Checkpoint::of(&reader.checkpoint().unwrap()).unwrap().size;
    let leaves = reader.entries(0..size, size).unwrap();
    let stamped: Vec<u64> = leaves.iter().map(|leaf| Entry::parse(leaf).unwrap().seq_ms()).collect();
    assert!(stamped.len() > 1 && stamped.iter().all(|at| *at == stamped[0]), "{stamped:?}");
}

#[test]
fn a_witness_whose_clock_was_behind_is_asked_again_and_not_all_the_time() {
    let signer = |name: &str, n: u8, kind| NoteSigner::new(name, kind, SigningKey::from_bytes(&[n; 32])).unwrap();
    let (log, hospital) = (signer(ORIGIN, 1, KeyType::Ed25519), signer("aker", 2, KeyType::Cosignature));
    let policy = Policy::k_of_n(log.vkey(), &[hospital.vkey().clone()], 1).unwrap();
    let mut note = Note::new(Checkpoint::new(ORIGIN, 5, [5; 32]).to_string()).unwrap();
    note.push(log.sign(note.text(), 0)).unwrap();
    let mut finality = Finality::new(0, None, policy.clone());
    let asked = |finality: &mut Finality| {
        let actions: Vec<Action> = std::iter::from_fn(|| finality.poll_action()).collect();
        actions.iter().filter(|action| matches!(action, Action::Ask { .. })).count()
    };
    finality.handle_up("aker", 0, 0, 0);
    finality.begin(note.clone(), policy).unwrap();
    assert_eq!(asked(&mut finality), 1);
    finality.handle_postponed("aker");
    assert_eq!(asked(&mut finality), 0, "not at once");
    finality.handle_retry();
    assert_eq!(asked(&mut finality), 1);
    // For another reason it is not asked again.
    finality.handle_not_cosigned("aker", 0, 0);
    finality.handle_retry();
    assert_eq!(asked(&mut finality), 0);
    // Its clock is right again before it is asked: nothing is in the way of its line.
    finality.handle_up("aker", 0, 0, 0);
    finality.handle_postponed("aker");
    finality.handle_retry();
    finality.handle_cosigned("aker", 5, &hospital.sign(note.text(), 9).to_string()).unwrap();
    assert!(std::iter::from_fn(|| finality.poll_action()).any(|action| matches!(action, Action::Publish { .. })));
}
