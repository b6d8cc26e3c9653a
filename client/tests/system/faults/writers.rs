//! Many clients of one team that append at the same time, and send again what was not answered when the coordinator died.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leben::io::session::SessionError;
use leben::io::{fresh, now_ms};
use leben::{Home, Session};
use leben_contracts::agreement::body::{Body, Heartbeat};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::party::Role;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::store::{LogReader, export};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use super::size_of;
use crate::acknowledged::{Acknowledged, verify_all};
use crate::deployment::Deployment;
use crate::process::wait_until;

/// Appends of one writer while the coordinator lives: enough to be at it when it dies, few enough for a short log.
const APPENDS_MAX: usize = 12;

/// The writers, each a task with a link of its own.
pub struct Writers {
    known: Arc<Mutex<Vec<Acknowledged>>>,
    /// Odd while the coordinator is up.
    life: watch::Sender<u64>,
    _runtime: Runtime,
}

impl Writers {
    /// One for each of these, of the party in this folder: whether it waits for finality. All wait until they are told that the
    /// coordinator is up.
    pub fn start(home: &Path, finals: &[bool]) -> Writers {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (known, life) = (Arc::new(Mutex::new(Vec::new())), watch::channel(0).0);
        for wait_final in finals.iter().copied() {
            let (home, known, life) = (home.to_owned(), known.clone(), life.subscribe());
            runtime.spawn(async move { write(&Home::open(&home).unwrap(), wait_final, &known, life).await });
        }
        Writers { known, life, _runtime: runtime }
    }

    /// The coordinator listens.
    pub fn up(&self) {
        self.life.send_modify(|life| *life |= 1);
    }

    /// The coordinator is dead.
    pub fn down(&self) {
        self.life.send_modify(|life| *life = (*life | 1) + 1);
    }

    /// How many appends were acknowledged.
    pub fn count(&self) -> usize {
        self.known.lock().unwrap().len()
    }

    /// One more than the largest index that was acknowledged.
    pub fn size(&self) -> u64 {
        self.known.lock().unwrap().iter().map(|answer| answer.index + 1).max().unwrap_or(0)
    }

    /// Waits until so many more are.
    pub fn wait_for_more(&self, count: usize) {
        let before = self.count();
        wait_until("more acknowledged appends", || self.count() >= before + count);
    }

    /// No more writing; every acknowledged entry is at its index, with its proof, and nothing is there twice.
    pub fn verify(self, deployment: &Deployment) -> usize {
        self.down();
        let folder = deployment.path("exported");
        let published = deployment.path("coordinator/ledger/checkpoint");
        wait_until("all that was acknowledged is published", || size_of(&published) >= self.size());
        export(&deployment.path("coordinator/ledger"), &folder).unwrap();
        deployment.leben(&["verify", folder.to_str().unwrap()]).ok();
        let known = self.known.lock().unwrap().clone();
        verify_all(&folder, &known);
        let indices: BTreeSet<u64> = known.iter().map(|answer| answer.index).collect();
        assert_eq!(indices.len(), known.len(), "an index was given away twice");
        let reader = LogReader::new(&folder);
        let size = leben_contracts::ledger::checkpoint::Checkpoint::of(&reader.checkpoint().unwrap()).unwrap().size;
        let mut payloads = BTreeSet::new();
        for leaf in reader.entries(0..size, size).unwrap() {
            let payload = Entry::parse(&leaf).unwrap().envelope().payload_hash();
            assert!(payloads.insert(payload), "an action is on the ledger twice");
        }
        std::fs::remove_dir_all(folder).unwrap();
        known.len()
    }
}

fn heartbeat(home: &Home) -> Envelope {
    let fresh = fresh().unwrap();
    let header =
        Header { actor: home.party(), role: Role::DataUser, now_ms: now_ms(), valid_ms: 3_600_000, nonce: fresh.nonce };
    let action = State::new(&home.network().origin).draft(&Body::from(Heartbeat {}), None, &header).unwrap();
    Envelope::sign(&action, &[home.party_key()]).unwrap()
}

async fn write(home: &Home, wait_final: bool, known: &Mutex<Vec<Acknowledged>>, mut life: watch::Receiver<u64>) {
    let mut envelope = heartbeat(home);
    while life.wait_for(|life| life % 2 == 1).await.is_ok() {
        let now = *life.borrow();
        let written = async {
            let session = Session::connect(home).await?;
            for _ in 0..APPENDS_MAX {
                let appended = session.append(&envelope, wait_final).await?;
                let payload_hash = envelope.payload_hash();
                known.lock().unwrap().push(Acknowledged { index: appended.index, payload_hash, proof: appended.proof });
                envelope = heartbeat(home);
            }
            life.clone().wait_for(|life| *life != now).await.ok();
            Ok::<(), SessionError>(())
        };
        let mut dead = life.clone();
        tokio::select! {
            ended = written => if let Err(error) = ended { eprintln!("writer: {error}") },
            _ = dead.wait_for(|life| *life != now) => {}
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
