//! A ledger whose only party is its coordinator: every entry is final at once. What start-up makes of snapshot and index.

use super::super::config::Config;
use super::super::setup;
use super::*;
use leben_contracts::agreement::body::Deposit;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::KeyType;
use std::fs;
use std::path::Path;

const ORIGIN: &str = "leben.test/coordinator";

fn init(dir: &Path) {
    let config = Config::new(ORIGIN, "coordinator");
    setup::init(dir, &config, &toml::to_string(&config).unwrap(), "admin").unwrap();
}

struct Started {
    ledger: Ledger,
    writer: tokio::task::JoinHandle<Result<(), Fatal>>,
}

fn start(dir: &Path) -> Started {
    let key = |name: &str| keyfile::load(&dir.join("keys").join(name)).unwrap();
    let log = VerifierKey::new(ORIGIN, KeyType::Ed25519, PublicKey::of(&key("log.key"))).unwrap();
    let store = LogStore::open(&dir.join("ledger"), &dir.join("state"), &log).unwrap();
    let author = Author::new(PartyId::new("coordinator").unwrap(), key("party.key"));
    let metrics = Arc::new(super::super::metrics::Metrics::new().unwrap());
    let (ledger, writer) = Ledger::start(store, key("log.key"), ORIGIN, author, metrics, 256, Vec::new()).unwrap();
    Started { ledger, writer }
}

impl Started {
    async fn deposit(&self, n: u8) {
        let (party, receipt_hash) = (PartyId::new("admin").unwrap(), Hash32([n; 32]));
        self.ledger.append_own(None, Deposit { party, credits: 10, receipt_hash }.into()).await.unwrap();
    }

    fn state(&self) -> Vec<u8> {
        self.ledger.with_final(|state, root| [state.to_bytes().unwrap(), root.to_vec()].concat())
    }

    fn snapshot_size(&self) -> u64 {
        self.ledger.0.snapshots.lock().unwrap().size()
    }

    async fn stop(self) {
        self.writer.abort();
        assert!(self.writer.await.is_err());
    }
}

async fn ledger_of(dir: &Path, first: u8) -> Vec<u8> {
    init(dir);
    let started = start(dir);
    for n in first..first + 5 {
        started.deposit(n).await;
    }
    started.ledger.save_snapshot().unwrap();
    for n in first + 5..first + 8 {
        started.deposit(n).await;
    }
    let state = started.state();
    started.stop().await;
    state
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_snapshot_is_the_state_is_that_of_a_full_replay() {
    let (here, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let state = ledger_of(here.path(), 1).await;
    ledger_of(elsewhere.path(), 1).await;
    let path = here.path().join("state/snapshot");
    let good = fs::read(&path).unwrap();
    let of_another_log = fs::read(elsewhere.path().join("state/snapshot")).unwrap();
    let mut altered = good.clone();
    altered[good.len() / 2] ^= 1;
    let cases = [(Some(good), 6), (None, 0), (Some(altered), 0), (Some(of_another_log), 0), (Some(vec![]), 0)];
    for (snapshot, taken_up) in cases {
        fs::remove_file(&path).unwrap();
        if let Some(bytes) = snapshot {
            fs::write(&path, bytes).unwrap();
        }
        let started = start(here.path());
        assert_eq!(started.state(), state);
        assert_eq!(started.snapshot_size(), taken_up);
        started.ledger.save_snapshot().unwrap();
        assert_eq!(started.snapshot_size(), 9);
        started.stop().await;
    }
    // What it stands on does not change any more, and is looked at all the same.
    let part = fs::read_dir(here.path().join("state/snapshot.parts")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&part).unwrap();
    let mut altered = good.clone();
    altered[good.len() / 3] ^= 8;
    fs::write(&part, altered).unwrap();
    let started = start(here.path());
    assert_eq!((started.state(), started.snapshot_size()), (state.clone(), 0));
    started.ledger.save_snapshot().unwrap();
    started.stop().await;
    // The one that was written last stands for everything.
    let started = start(here.path());
    assert_eq!((started.state(), started.snapshot_size()), (state, 9));
    started.deposit(99).await;
    assert_eq!(started.ledger.final_size(), 10);
    started.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_index_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path());
    let started = start(dir.path());
    let path = dir.path().join("state/index");
    let index = Index::open(path.clone()).unwrap();
    for n in 0..7 {
        started.deposit(n).await;
        index.follow(&started.ledger).unwrap();
    }
    let kept = index.content().unwrap();
    drop(index);
    fs::remove_dir_all(&path).unwrap();
    let index = Index::open(path).unwrap();
    index.follow(&started.ledger).unwrap();
    assert_eq!(index.content().unwrap(), kept);
    assert_eq!(index.size().unwrap(), 8);
    for listed in started.ledger.list(0..8).unwrap() {
        assert_eq!(index.find(&listed.payload).unwrap(), Some(listed.index));
    }
    assert_eq!(index.find(&[9; 32]).unwrap(), None);
    started.stop().await;
}
