//! The loop that carries out what the agent says, in its order: durable before visible, and the end of the process when
//! the disk fails.

use std::collections::HashMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leben_contracts::agreement::party::{Code, PartyId};
use leben_contracts::ledger::keyfile::KeyFileError;
use leben_contracts::ledger::note::VerifierKey;
use leben_protocol::frame::{ContractId, Report, UploadTrailer};
use leben_protocol::quic::{Blob, Dialer, LinkError, Tap};
use leben_protocol::reject::Reject;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{AbortHandle, JoinHandle};

use super::clock::{Clock, fresh_seed};
use super::config::{Config, ConfigError};
use super::join::Network;
use super::keys::Keys;
use super::link::{self, LinkEvent, Shared, Target};
use super::store::{DiskError, Store};
use super::upload::{self, Ended, Upload};
use super::work::{Tables, compute};
use super::{approvals, metrics, request};
use crate::agent::{Action, Agent, AppendKey, Command, Setup, Status};
use crate::mirror::{Mirror, MirrorKeys};
use crate::participate::Work;
use crate::refusal::{Reason, Refusal};

/// How often the status is looked at; every fifth time the inbox and the agent's deadlines.
const TICK: Duration = Duration::from_millis(200);
const TICKS_PER_ROUND: u32 = 5;
const REPORTS_WAITING_MAX: usize = 1024;

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `worker.toml`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Not joined yet, or the file is damaged.
    #[error("{0}")]
    Network(String),
    /// The hospital's own copy of the ledger does not hold.
    #[error("{0}")]
    Ledger(String),
    /// A socket of this side.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The operating system.
    #[error("{0}")]
    System(String),
}

/// What a process may set beside the configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// Sees every byte before it is encrypted.
    pub tap: Option<Arc<dyn Tap>>,
    /// This hospital's clock.
    pub clock: Clock,
}

/// A running agent, for a process that holds several of them.
pub struct Handle {
    shared: Arc<Shared>,
    status: watch::Receiver<Option<Status>>,
    commands: mpsc::Sender<Command>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Handle {
    /// Drops the link now and stays away this long.
    pub async fn cut(&self, away: Duration) {
        let _ = self.shared.cut.send(away).await;
    }

    /// Drops the link in the middle of the `nth` upload from now (1: the next), before its first chunk, and stays away
    /// this long.
    pub fn cut_in_upload(&self, nth: u64, away: Duration) {
        let (uploads, away_ms) = &self.shared.cut_in_upload;
        away_ms.store(u64::try_from(away.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        uploads.store(nth, Ordering::Release);
    }

    /// Hears of every change of the status; `None` until the first.
    pub fn status(&self) -> watch::Receiver<Option<Status>> {
        self.status.clone()
    }

    /// UDP payload bytes sent and received over all links so far.
    pub fn traffic(&self) -> (u64, u64) {
        self.shared.traffic()
    }

    /// Links made after the first.
    pub fn reconnects(&self) -> u64 {
        self.shared.reconnects.load(Ordering::Relaxed)
    }

    /// A person's decision, without the detour over the inbox.
    pub async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it in peace and says how it ended.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn stop(mut self) -> Result<(), RunError> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.unwrap_or_else(|error| Err(RunError::System(error.to_string())))
    }
}

/// Starts an agent as a task of this runtime.
///
/// # Errors
/// [`RunError`]: everything that can be known before the first link.
pub fn spawn(config: Config, options: Options) -> Result<Handle, RunError> {
    let (shell, cuts) = Shell::new(&config, options)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let shared = shell.shared.clone();
    let (status, commands) = (shell.status.subscribe(), shell.commands_in.clone());
    let task = tokio::spawn(shell.run(cuts, async move {
        // A dropped handle is no order to stop: only a sent one is.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    }));
    Ok(Handle { shared, status, commands, stop: Some(stop), task })
}

/// Runs an agent until `shutdown`.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, options: Options, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let (shell, cuts) = Shell::new(&config, options)?;
    shell.run(cuts, shutdown).await
}

/// What tasks tell the loop.
enum Event {
    Appended(AppendKey, Result<u64, Option<Reject>>),
    State(ContractId, Vec<u8>),
    NoState(ContractId, Reject),
    Streamed(ContractId, u64, [u8; 32]),
    Unworkable(ContractId, u64, Refusal),
    Uploaded(ContractId, u64, Ended),
    Counted(Code, u64),
}

/// The local half of one slot, or its upload.
struct Running {
    slot: u64,
    task: AbortHandle,
    trailer: Option<oneshot::Sender<UploadTrailer>>,
}

struct Shell {
    agent: Agent,
    store: Store,
    clock: Clock,
    shared: Arc<Shared>,
    target: Option<Target>,
    metrics_at: Option<std::net::SocketAddr>,
    metrics: Arc<metrics::Metrics>,
    tables: Arc<Tables>,
    pool: Arc<rayon::ThreadPool>,
    reports: Option<mpsc::Sender<Report>>,
    was_linked: bool,
    running: HashMap<ContractId, Running>,
    fetching: HashMap<ContractId, AbortHandle>,
    events_in: mpsc::Sender<Event>,
    events: mpsc::Receiver<Event>,
    commands_in: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
    status: watch::Sender<Option<Status>>,
    ticks: u32,
}

impl Shell {
    fn new(config: &Config, options: Options) -> Result<(Shell, mpsc::Receiver<Duration>), RunError> {
        let network = Network::load(&config.folder).map_err(RunError::Network)?;
        let log = VerifierKey::parse(&network.log_vkey).map_err(|error| RunError::Network(error.to_string()))?;
        let party = PartyId::new(&network.party).map_err(|error| RunError::Network(error.to_string()))?;
        let keys = Keys::load(&config.folder.join("keys"))?;
        let store = Store::open(&config.folder, &log)?;
        let mirror_keys = MirrorKeys { witness: keys.witness.clone(), validator: keys.validator.clone() };
        let mut mirror = Mirror::new(&log, party.as_str(), mirror_keys, store.record(&log)?)
            .map_err(|error| RunError::Ledger(error.to_string()))?;
        let (leaves, certificate) = store.ledger()?;
        mirror.restore(&leaves, certificate).map_err(|refusal| RunError::Ledger(refusal.to_string()))?;
        let size = mirror.size();
        let seed = fresh_seed().map_err(|error| RunError::System(error.to_string()))?;
        let agent = Agent::new(Setup {
            party,
            party_key: keys.party.clone(),
            declared: config.declared()?,
            mirror,
            standings: store.standings()?,
            jobs: store.jobs()?,
            seed: *seed,
        });
        let mut dialer = Dialer::new(&keys.tls.to_bytes())?;
        if let Some(tap) = options.tap {
            dialer = dialer.with_tap(tap);
        }
        let address = config.address.clone().unwrap_or_else(|| network.address.clone());
        let target = Some(Target { address, key: network.key().map_err(RunError::Network)?, dialer });
        let (cut, cuts) = mpsc::channel(4);
        let shared = Arc::new(Shared {
            connection: watch::channel(None).0,
            mirror_size: AtomicU64::new(size),
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            cut,
            cut_in_upload: (AtomicU64::new(0), AtomicU64::new(0)),
        });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build();
        let (events_in, events) = mpsc::channel(256);
        let (commands_in, commands) = mpsc::channel(16);
        let metrics = metrics::Metrics::new().map_err(|error| RunError::System(error.to_string()))?;
        let shell = Shell {
            agent,
            store,
            clock: options.clock,
            shared,
            target,
            metrics_at: config.metrics,
            metrics: Arc::new(metrics),
            tables: Arc::new(Tables::new(&config.folder, &config.datasets)),
            pool: Arc::new(pool.map_err(|error| RunError::System(error.to_string()))?),
            reports: None,
            was_linked: false,
            running: HashMap::new(),
            fetching: HashMap::new(),
            events_in,
            events,
            commands_in,
            commands,
            status: watch::channel(None).0,
            ticks: 0,
        };
        Ok((shell, cuts))
    }

    async fn run(mut self, cuts: mpsc::Receiver<Duration>, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let (link_in, mut link) = mpsc::channel(64);
        let keeper = self.target.take().map(|target| tokio::spawn(link::keep_up(target, self.shared.clone(), link_in, cuts)));
        let served = match self.metrics_at {
            Some(address) => Some(metrics::serve(address, self.metrics.clone()).await.map_err(RunError::System)?),
            None => None,
        };
        self.count_rows();
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tokio::pin!(shutdown);
        let ended = loop {
            tokio::select! {
                Some(event) = link.recv() => self.handle_link(event),
                Some(event) = self.events.recv() => self.handle_event(event),
                Some(command) = self.commands.recv() => self.agent.handle_command(self.clock.now_ms(), command),
                _ = tick.tick() => if let Err(error) = self.handle_tick() { break Err(error) },
                () = &mut shutdown => break Ok(()),
            }
            if let Err(error) = self.carry_out() {
                break Err(error);
            }
        };
        self.running.values().for_each(|running| running.task.abort());
        self.fetching.values().for_each(AbortHandle::abort);
        let live = self.shared.connection.borrow().clone();
        keeper.iter().for_each(JoinHandle::abort);
        served.iter().for_each(JoinHandle::abort);
        if let Some(link) = live {
            let told = link.close_and_wait("the worker stops");
            let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
        }
        self.agent.handle_unlinked();
        let _ = self.store.store_status(&self.agent.status(self.clock.now_ms()));
        ended.map_err(RunError::from)
    }

    /// Every table once, so that it can be offered and the first round does not wait for the disk.
    fn count_rows(&self) {
        let names: Vec<Code> = self.agent.declared().iter().map(|dataset| dataset.name.clone()).collect();
        let (tables, events) = (self.tables.clone(), self.events_in.clone());
        tokio::spawn(async move {
            for name in names {
                let (tables, dataset) = (tables.clone(), name.clone());
                let read = tokio::task::spawn_blocking(move || tables.get(dataset.as_str()).map(|table| table.rows()));
                match read.await {
                    Ok(Ok(rows)) => drop(events.send(Event::Counted(name, rows as u64)).await),
                    Ok(Err(refusal)) => tracing::error!(dataset = %name, %refusal, "the data set cannot be read"),
                    Err(error) => tracing::error!(dataset = %name, %error, "the data set cannot be read"),
                }
            }
        });
    }

    fn handle_link(&mut self, event: LinkEvent) {
        let now_ms = self.clock.now_ms();
        match event {
            LinkEvent::Up(reports) => {
                if self.was_linked {
                    self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                self.was_linked = true;
                self.reports = Some(reports);
                tracing::info!("linked to the coordinator");
            }
            LinkEvent::Order(order) => self.agent.handle_order(now_ms, *order),
            LinkEvent::Down(why) => {
                tracing::warn!(why, "the link is down; it is made again");
                self.reports = None;
                self.agent.handle_unlinked();
            }
            LinkEvent::Retry(why) => tracing::warn!(why, "no link; it is tried again"),
        }
    }

    fn handle_event(&mut self, event: Event) {
        let now_ms = self.clock.now_ms();
        match event {
            Event::Appended(key, answer) => self.agent.handle_appended(now_ms, &key, answer),
            Event::State(contract, bytes) => self.agent.handle_state(now_ms, &contract, &bytes),
            Event::NoState(contract, reject) => self.agent.handle_no_state(now_ms, &contract, &reject),
            Event::Streamed(contract, slot, root) => self.agent.handle_streamed(now_ms, &contract, slot, root),
            Event::Unworkable(contract, slot, refusal) => {
                self.running.remove(&contract);
                self.agent.handle_unworkable(now_ms, &contract, slot, &refusal);
            }
            Event::Uploaded(contract, slot, ended) => {
                tracing::debug!(contract = hex::encode(contract), slot, ?ended, "an upload ended");
                if self.running.get(&contract).is_some_and(|running| running.slot == slot) {
                    self.running.remove(&contract);
                }
            }
            Event::Counted(dataset, rows) => self.agent.handle_counted(now_ms, &dataset, rows),
        }
    }

    fn handle_tick(&mut self) -> Result<(), DiskError> {
        let now_ms = self.clock.now_ms();
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks % TICKS_PER_ROUND == 1 {
            self.read_inbox(now_ms)?;
            self.agent.handle_timeout(now_ms);
        }
        let status = self.agent.status(now_ms);
        let timeless = |status: &Status| Status { at_ms: 0, ..status.clone() };
        let same = self.status.borrow().as_ref().map(timeless) == Some(timeless(&status));
        if !same || self.ticks % (TICKS_PER_ROUND * 10) == 1 {
            self.store.store_status(&status)?;
            self.metrics.set(&status, self.shared.traffic(), self.shared.reconnects.load(Ordering::Relaxed));
            self.status.send_replace(Some(status));
        }
        Ok(())
    }

    fn read_inbox(&mut self, now_ms: u64) -> Result<(), DiskError> {
        for waiting in approvals::waiting(self.store.folder())? {
            match waiting.command {
                Ok(command) => self.agent.handle_command(now_ms, command),
                Err(why) => tracing::warn!(file = %waiting.path.display(), why, "a decision cannot be read; it is dropped"),
            }
            // The decision is on the disk before the file that asked for it goes away.
            self.carry_out()?;
            approvals::remove(&waiting.path)?;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), DiskError> {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::StoreEntries { entries, note } => self.store.store_entries(&entries, &note)?,
                Action::StoreRecord(record) => {
                    self.store.store_record(&record)?;
                    self.shared.mirror_size.store(record.checkpoint().size, Ordering::Release);
                }
                Action::StoreCertificate { note, policy } => self.store.store_certificate(&note, policy.as_ref())?,
                Action::StoreEvidence(text) => self.store.store_evidence(self.clock.now_ms(), &text)?,
                Action::StoreJobSeed { contract, seed } => self.store.store_seed(&contract, &seed)?,
                Action::StoreJournal { contract, journal } => self.store.store_journal(&contract, &journal)?,
                Action::StoreStanding { contract, standing } => self.store.store_standing(&contract, &standing)?,
                Action::ForgetJob { contract } => {
                    self.cancel(&contract, None);
                    self.store.forget_job(&contract)?;
                }
                Action::Report(report) => self.report(report),
                Action::Append { key, envelope } => self.append(key, envelope),
                Action::FetchState { contract, digest, bytes } => self.fetch(contract, Blob { bytes, digest }),
                Action::Work(work) => self.work(*work),
                Action::Trailer { contract, trailer } => {
                    let waiting = self.running.get_mut(&contract).and_then(|running| running.trailer.take());
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(*trailer);
                    }
                }
                Action::Cancel { contract, slot } => self.cancel(&contract, Some(slot)),
                Action::Audit(entry) => {
                    let (event, code) = (entry.event, entry.code.as_deref().unwrap_or(""));
                    let contract = entry.contract.as_deref().unwrap_or("");
                    match entry.code.is_some() {
                        true => tracing::warn!(event, contract, code, words = entry.words, "refused"),
                        false => tracing::info!(event, contract, words = entry.words, "recorded"),
                    }
                    self.store.append_audit(&entry)?;
                }
                Action::Unlink(reject) => {
                    if let Some(link) = self.shared.connection.borrow().as_ref() {
                        link.refuse(&reject);
                    }
                }
            }
        }
        Ok(())
    }

    fn report(&mut self, report: Report) {
        let Some(reports) = &self.reports else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = reports.try_send(report) {
            tracing::warn!(waiting = REPORTS_WAITING_MAX, "the coordinator does not read; the link is made anew");
            let _ = self.shared.cut.try_send(Duration::ZERO);
        }
    }

    fn append(&self, key: AppendKey, envelope: Vec<u8>) {
        let (events, link) = (self.events_in.clone(), self.shared.connection.borrow().clone());
        tokio::spawn(async move {
            let answer = match link {
                Some(link) => match request::append(&link, envelope).await {
                    Ok(Ok(index)) => Ok(index),
                    Ok(Err(reject)) => Err(Some(reject)),
                    Err(_) => Err(None),
                },
                None => Err(None),
            };
            if matches!(answer, Err(None)) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let _ = events.send(Event::Appended(key, answer)).await;
        });
    }

    fn fetch(&mut self, contract: ContractId, blob: Blob) {
        let (events, shared) = (self.events_in.clone(), self.shared.clone());
        let task = tokio::spawn(async move {
            let mut bytes = Vec::new();
            while let Some(link) = shared.connected().await {
                match request::fetch_state(&link, contract, blob, &mut bytes).await {
                    Ok(()) => return drop(events.send(Event::State(contract, bytes)).await),
                    Err(LinkError::Refused(reject)) if !reject.is_temporary() && link.close_reason().is_none() => {
                        return drop(events.send(Event::NoState(contract, reject)).await);
                    }
                    Err(error) => tracing::debug!(%error, "the model state is fetched again"),
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        if let Some(before) = self.fetching.insert(contract, task.abort_handle()) {
            before.abort();
        }
    }

    fn work(&mut self, work: Work) {
        let (contract, slot) = (work.contract, work.slot);
        let (tables, pool) = (self.tables.clone(), self.pool.clone());
        let (events, shared) = (self.events_in.clone(), self.shared.clone());
        let (trailer_in, trailer) = oneshot::channel();
        let task = tokio::spawn(async move {
            let computed = tokio::task::spawn_blocking(move || pool.install(|| compute(&tables, work))).await;
            let failed = |error: tokio::task::JoinError| Err(Refusal::new(Reason::Finding, error.to_string()));
            let masked = match computed.unwrap_or_else(failed) {
                Ok(masked) => masked,
                Err(refusal) => return drop(events.send(Event::Unworkable(contract, slot, refusal)).await),
            };
            let (ask, root) = oneshot::channel();
            let asking = events.clone();
            tokio::spawn(async move {
                if let Ok(root) = root.await {
                    let _ = asking.send(Event::Streamed(contract, slot, root)).await;
                }
            });
            let upload = Upload { contract, slot, masked, ask_trailer: Some(ask), trailer: Some(trailer) };
            let ended = upload::run(upload, shared).await;
            let _ = events.send(Event::Uploaded(contract, slot, ended)).await;
        });
        let running = Running { slot, task: task.abort_handle(), trailer: Some(trailer_in) };
        if let Some(before) = self.running.insert(contract, running) {
            before.task.abort();
        }
    }

    /// Stops what runs for a slot, or for the whole job.
    fn cancel(&mut self, contract: &ContractId, slot: Option<u64>) {
        if let Some(fetching) = self.fetching.remove(contract) {
            fetching.abort();
        }
        let is_it = |running: &Running| slot.is_none_or(|slot| slot == running.slot);
        if self.running.get(contract).is_some_and(is_it)
            && let Some(running) = self.running.remove(contract)
        {
            running.task.abort();
        }
    }
}

/// The state folder of a hospital's agent, by default.
pub fn default_folder() -> PathBuf {
    PathBuf::from("./leben-worker")
}
