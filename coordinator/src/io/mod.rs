//! The shell: sockets, disks, the clock.
//!
//! [`config`] and [`store`] (the folder), [`setup`] (a new network), [`handover`] (another one's ledger), [`ledger`] (the one writer, with
//! `recover`, `door`, `sequence`, `hear` and `leaves`), [`server`] (who is at the other end), [`author`], [`rotation`] and [`keys`] (the
//! coordinator's own keys over time), [`requests`], [`enrol`], [`uploads`], [`spool`], [`lanes`] and [`states`] (what they want, and where
//! vectors and models lie meanwhile), [`jobs`] with its [`events`] (the shell around the core's jobs), [`index`] and [`caches`]
//! (what can be rebuilt), [`http`], [`metrics`] and [`traffic`] (what is shown), [`outside`] (witnesses elsewhere),
//! [`views`] (what hospitals show each other), [`fatal`] and [`clock`].

pub mod author;
pub mod caches;
pub mod clock;
pub mod config;
mod door;
pub mod enrol;
pub mod events;
pub mod fatal;
pub mod handover;
mod hear;
pub mod http;
pub mod index;
pub mod jobs;
pub mod keys;
pub mod lanes;
mod leaves;
pub mod ledger;
pub mod metrics;
pub mod outside;
mod recover;
pub mod requests;
pub mod rotation;
mod sequence;
pub mod server;
pub mod setup;
pub mod spool;
pub mod states;
pub mod store;
pub mod traffic;
pub mod uploads;
pub mod views;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, VerifierKey};
use leben_contracts::ledger::store::LogStore;
use leben_protocol::quic::{Listener, Tap};
use tokio::sync::{mpsc, watch};
use zeroize::Zeroizing;

use crate::plan::Operator;
use author::Author;
use config::Config;
use fatal::Fatal;
use jobs::Jobs;
use ledger::Ledger;
use metrics::Metrics;
use rotation::{Generation, Rotation};
use server::Service;
use spool::Spool;
use store::Store;
use traffic::Traffic;

/// How many events may wait for the jobs.
const EVENTS_MAX: usize = 4096;

/// 32 bytes from the operating system.
pub(crate) fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    // Without randomness nothing here is safe to do; the system has told no one yet, so the process ends.
    if getrandom::fill(&mut bytes).is_err() {
        std::process::abort();
    }
    bytes
}

/// 16 of them: the nonce of an action.
pub(crate) fn nonce() -> [u8; 16] {
    let mut nonce = [0; 16];
    nonce.copy_from_slice(random().get(..16).unwrap_or(&[0; 16]));
    nonce
}

/// A coordinator that runs.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it shows metrics, if it does.
    pub http: Option<SocketAddr>,
    /// Its ledger.
    pub ledger: Ledger,
    /// Its counters.
    pub metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    tasks: tokio::task::JoinSet<Result<(), Fatal>>,
}

impl Running {
    /// Waits until something of ours breaks; the process should then end.
    pub async fn wait(&mut self) -> Result<(), Fatal> {
        match self.tasks.join_next().await {
            Some(Ok(result)) => result,
            Some(Err(error)) => Err(Fatal::Inconsistent(error.to_string())),
            None => Ok(()),
        }
    }

    /// Stops in peace: links are closed, nothing that was acknowledged is lost.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let server = async {
            while let Some(ended) = self.tasks.join_next().await {
                if matches!(ended, Ok(Ok(()))) {
                    break;
                }
            }
        };
        let _ = tokio::time::timeout(std::time::Duration::from_secs(5), server).await;
        // While this process still holds the folder. Only a cache: the next start replays where it is missing.
        let ledger = self.ledger.clone();
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || ledger.save_snapshot()).await {
            tracing::warn!(%error, "no snapshot was written");
        }
        self.tasks.shutdown().await;
    }
}

/// Starts the coordinator in `dir`, recovering whatever an earlier run left. `tap` sees all plaintext of its links.
pub async fn start(dir: &Path, tap: Option<Arc<dyn Tap>>) -> Result<Running, Fatal> {
    let config = Config::load(&dir.join("coordinator.toml")).map_err(|error| Fatal::Start(error.to_string()))?;
    if let Err(error) = setup::readdress_admin(dir, &config) {
        tracing::warn!(%error, "the admin's home here may know another address");
    }
    let store = Store::open(dir)?;
    let key =
        |name: &str| keyfile::load(&store.path("keys").join(name)).map_err(|error| Fatal::Start(error.to_string()));
    let log_key = key("log.key")?;
    let keys = Generation::load(&store.path("keys"))?;
    let log = VerifierKey::new(&config.origin, KeyType::Ed25519, PublicKey::of(&log_key))
        .map_err(|error| Fatal::Start(error.to_string()))?;
    let log_store = LogStore::open(&store.path("ledger"), &store.path("state"), &log)
        .map_err(|error| Fatal::Ledger(error.to_string()))?;
    let metrics = Arc::new(Metrics::new().map_err(|error| Fatal::Start(error.to_string()))?);
    let party = PartyId::new(&config.party).map_err(|error| Fatal::Start(error.to_string()))?;
    let author = Author::new(party, keys.party.clone());
    let mut tasks = tokio::task::JoinSet::new();
    let witnesses = config.outside_witnesses().map_err(Fatal::Start)?;
    let observers = witnesses.iter().map(|witness| witness.vkey.clone()).collect();
    let batch_max = config.batch_entries_max;
    let committed = log_store.size();
    // Where links are ended for the peers of an earlier life; the log's key outlives every link key.
    let life = Zeroizing::new(log_key.to_bytes());
    let (ledger, writer) =
        Ledger::start(log_store, log_key, &config.origin, author.clone(), metrics.clone(), batch_max, observers)?;
    tasks.spawn(async move { writer.await.map_err(|error| Fatal::Inconsistent(error.to_string()))? });
    for witness in witnesses {
        tasks.spawn(outside::keep(witness, ledger.clone(), metrics.clone()));
    }
    setup::offer_algorithms(&ledger, committed);
    tasks.spawn(index::keep(store.path("state/index"), ledger.clone()));
    let (events, waiting) = mpsc::channel(EVENTS_MAX);
    let spool = Arc::new(Spool::open(&store.path("spool"))?);
    let operator = Operator { away_ms_max: config.away_ms_max, suite: config.mask_suite };
    let traffic = Arc::new(Traffic::default());
    let shared =
        jobs::Shared { spool: spool.clone(), store: store.clone(), metrics: metrics.clone(), traffic: traffic.clone() };
    let jobs = Jobs::new(ledger.clone(), shared, operator, events.clone());
    tasks.spawn(jobs.run(waiting));
    let (stop, stopped) = watch::channel(false);
    let http = match config.http {
        None => None,
        Some(address) => {
            let listener = http::bind(address).await.map_err(Fatal::io("listen for HTTP"))?;
            let bound = listener.local_addr()?;
            let (ledger, metrics, stopped) = (ledger.clone(), metrics.clone(), stopped.clone());
            tasks.spawn(async move {
                http::serve(listener, ledger, metrics, stopped).await.map_err(Fatal::io("serve HTTP"))
            });
            Some(bound)
        }
    };
    let listener = Listener::bind_with_tap(config.listen, &keys.link.to_bytes(), &life, tap);
    let listener = Arc::new(listener.map_err(|error| Fatal::Start(error.to_string()))?);
    let address = listener.local_addr().map_err(|error| Fatal::Start(error.to_string()))?;
    let rotation = Rotation::new(&store.path("keys"), keys, author.clone(), ledger.clone(), listener.clone())?;
    tasks.spawn(rotation.keep());
    let views = views::Views::new(log, store.path("state/evidence"), metrics.clone());
    let service =
        Service { views, ledger: ledger.clone(), store, spool, traffic, metrics: metrics.clone(), events, author };
    tasks.spawn(async move {
        server::serve(listener, Arc::new(service), stopped).await;
        Ok(())
    });
    tracing::info!(%address, origin = %config.origin, entries = ledger.final_size(), "the coordinator listens");
    Ok(Running { address, http, ledger, metrics, stop, tasks })
}
