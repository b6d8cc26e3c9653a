//! A coordinator that takes up a long log in a process of its own and then records as fast as it can, until somebody kills it.
//!
//! Its ledger is the product's. The four hospitals whose quorum makes entries final are played in the same process by their keys alone:
//! they sign what they are shown, so that nearly all of both cores is the coordinator's.

use std::path::Path;
use std::sync::Arc;

use leben::io::now_ms;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::sequencer::BATCH_MAX;
use leben_contracts::ledger::store::LogStore;
use leben_coordinator::io::author::Author;
use leben_coordinator::io::events::Orders;
use leben_coordinator::io::fatal::Fatal;
use leben_coordinator::io::ledger::Ledger;
use leben_coordinator::io::metrics::Metrics;
use leben_protocol::frame::Order;
use tokio::task::JoinHandle;

use super::past::{ORIGIN, VALIDATORS};
use super::traffic::{COORDINATOR, Traffic, key};
use crate::{Failure, child};

/// Contracts in a group: a wave is 19 times as many entries.
const GROUP: usize = 256;

/// The product's ledger on this folder, and the task that alone writes it.
pub(super) fn start(dir: &Path) -> Result<(Ledger, JoinHandle<Result<(), Fatal>>), Failure> {
    let log_key = key(COORDINATOR, "log");
    let signer = NoteSigner::new(ORIGIN, KeyType::Ed25519, log_key.clone())?;
    let store = LogStore::open(&dir.join("ledger"), &dir.join("state"), signer.vkey())?;
    let author = Author::new(PartyId::new(COORDINATOR)?, key(COORDINATOR, "party"));
    Ok(Ledger::start(store, log_key, ORIGIN, author, Arc::new(Metrics::new()?), BATCH_MAX, Vec::new())?)
}

/// The child: says the final size whenever it has grown, and never ends by itself but with its input. `run` tells its payloads from
/// those of other runs.
pub fn run(dir: &Path, run: u64) -> Result<(), Failure> {
    child::log();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let (ledger, writer) = start(dir)?;
        for name in VALIDATORS {
            tokio::spawn(sign(ledger.clone(), name, dir.to_owned()));
        }
        tokio::spawn(report(ledger.clone()));
        let mut parent = child::lines();
        tokio::select! {
            ended = record(&ledger, run) => ended,
            ended = writer => Err(format!("the ledger's writer ended: {ended:?}").into()),
            _ = parent.recv() => Ok(()),
        }
    })
}

async fn report(ledger: Ledger) -> Result<(), Failure> {
    let mut finals = ledger.watch_final();
    while finals.changed().await.is_ok() {
        let size = *finals.borrow_and_update();
        child::say(&size.to_string())?;
    }
    Ok(())
}

/// Wave after wave.
async fn record(ledger: &Ledger, run: u64) -> Result<(), Failure> {
    let mut traffic = Traffic::numbered(key(COORDINATOR, "party"), GROUP, u128::from(run));
    loop {
        let envelopes = ledger.with_final(|state, _| traffic.wave(state, now_ms()))?;
        let asked = envelopes.into_iter().map(|envelope| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.append(envelope, true).await })
        });
        for answer in asked.collect::<Vec<_>>() {
            answer.await??;
        }
    }
}

/// A hospital that signs what it is shown.
async fn sign(ledger: Ledger, name: &'static str, dir: std::path::PathBuf) -> Result<(), Failure> {
    let signer = NoteSigner::new(name, KeyType::Cosignature, key(name, "validator"))?;
    let seen = Note::parse(&std::fs::read(dir.join("ledger/checkpoint"))?)?;
    let held = Checkpoint::of(&seen)?.size;
    let (orders, mut ordered, _cut) = Orders::new();
    ledger.witness_up(name, (held, held), Some(seen), orders).await;
    while let Some(order) = ordered.recv().await {
        match order {
            Order::Cosign { body } => {
                let asked = AddCheckpoint::parse(&body)?;
                let line = signer.sign(asked.note.text(), now_ms() / 1000);
                ledger.cosigned(name, asked.checkpoint.size, line.to_string()).await;
            }
            Order::Publish { note } => ledger.certified(name, Checkpoint::of(&Note::parse(&note)?)?.size).await,
            _ => {}
        }
    }
    Ok(())
}
