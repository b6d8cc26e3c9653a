//! The loop that carries out what the agent says, in its order: durable before visible, and the end of the process when
//! the disk fails.

use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::snapshot::Snapshots;
use leben_contracts::ledger::note::VerifierKey;
use leben_protocol::quic::Blob;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::clock::{Clock, fresh_seed};
use super::config::Config;
use super::handle::{Options, RunError};
use super::join::Network;
use super::keys::Keys;
use super::link::{self, Holds, LinkEvent, Shared};
use super::replay::{Keeper, replay};
use super::rotation::Rotation;
use super::store::{DiskError, Store};
use super::tasks::{Event, Tasks};
use super::work::Tables;
use super::{approvals, budgets, evidence, handover, metrics, view};
use crate::agent::{Action, Agent, Command, Setup, Status};
use crate::audit::AuditEntry;
use crate::budget::Budgets;
use crate::gossip::Source;
use crate::mirror::Mirror;

/// How often the status is looked at; every fifth time the inbox and the agent's deadlines.
const TICK: Duration = Duration::from_millis(200);
const TICKS_PER_ROUND: u32 = 5;

/// An agent with its disk, its link and its tasks.
pub(super) struct Shell {
    agent: Agent,
    store: Store,
    clock: Clock,
    pub(super) shared: Arc<Shared>,
    rotation: Rotation,
    metrics_at: Option<std::net::SocketAddr>,
    view_at: Option<std::net::SocketAddr>,
    view: watch::Sender<Option<String>>,
    metrics: Arc<metrics::Metrics>,
    tasks: Tasks,
    was_linked: bool,
    events: mpsc::Receiver<Event>,
    pub(super) commands_in: mpsc::Sender<Command>,
    commands: mpsc::Receiver<Command>,
    pub(super) status: watch::Sender<Option<Status>>,
    ticks: u32,
    snapshots: Keeper,
}

impl Shell {
    pub(super) fn new(config: &Config, options: Options) -> Result<(Shell, mpsc::Receiver<Duration>), RunError> {
        let network = Network::load(&config.folder).map_err(RunError::Network)?;
        let log = VerifierKey::parse(&network.log_vkey).map_err(|error| RunError::Network(error.to_string()))?;
        let party = PartyId::new(&network.party).map_err(|error| RunError::Network(error.to_string()))?;
        let keys = Keys::load(&config.folder.join("keys"))?;
        let store = Store::open(&config.folder, &log)?;
        let record = store.record()?;
        let (mirror, snapshots) = restored(&log, &party, &keys, &store)?;
        let holds = Holds::of(store.ledger(), record.as_ref());
        let (declared, jobs) = (config.declared()?, store.jobs()?);
        let budgets = Budgets::open(&declared, budgets::load(&config.folder)?).map_err(RunError::Ledger)?;
        let seed = fresh_seed().map_err(|error| RunError::System(error.to_string()))?;
        let mut agent = Agent::new(Setup {
            party,
            party_key: keys.party.clone(),
            declared,
            mirror,
            standings: store.standings()?,
            jobs,
            budgets,
            seed: *seed,
        });
        agent.configure_gossip(config.gossip.peers.clone(), config.gossip.every_s.saturating_mul(1000));
        take_up_evidence(&mut agent, &config.folder)?;
        let address = config.address.clone().unwrap_or_else(|| network.address.clone());
        let coordinator = network.key().map_err(RunError::Network)?;
        let rotation = Rotation::new(&config.folder, keys, options.tap, address, coordinator)?;
        let (cut, cuts) = mpsc::channel(4);
        let shared = Arc::new(Shared {
            connection: watch::channel(None).0,
            holds: watch::channel(holds).0,
            sent_bytes: AtomicU64::new(0),
            received_bytes: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            cut,
            cut_in_upload: (AtomicU64::new(0), AtomicU64::new(0)),
        });
        let pool = rayon::ThreadPoolBuilder::new().num_threads(config.threads).build();
        let pool = pool.map_err(|error| RunError::System(error.to_string()))?;
        let (events_in, events) = mpsc::channel(256);
        let (commands_in, commands) = mpsc::channel(16);
        let metrics = metrics::Metrics::new().map_err(|error| RunError::System(error.to_string()))?;
        let shell = Shell {
            agent,
            store,
            clock: options.clock,
            shared: shared.clone(),
            rotation,
            metrics_at: config.metrics,
            view_at: config.gossip.listen_view,
            view: watch::channel(None).0,
            metrics: Arc::new(metrics),
            tasks: Tasks::new(shared, Tables::new(&config.folder, &config.datasets), pool, events_in),
            was_linked: false,
            events,
            commands_in,
            commands,
            status: watch::channel(None).0,
            ticks: 0,
            snapshots: Keeper::Idle(snapshots),
        };
        shell.rotation.trust(shell.agent.mirror().certified());
        Ok((shell, cuts))
    }

    pub(super) async fn run(
        mut self,
        cuts: mpsc::Receiver<Duration>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), RunError> {
        let (link_in, mut link) = mpsc::channel(64);
        let keeper = tokio::spawn(link::keep_up(self.rotation.target(), self.shared.clone(), link_in, cuts));
        let served = match self.metrics_at {
            Some(address) => Some(metrics::serve(address, self.metrics.clone()).await.map_err(RunError::System)?),
            None => None,
        };
        let shown = match self.view_at {
            Some(address) => Some(view::serve(address, self.view.subscribe()).await.map_err(RunError::System)?),
            None => None,
        };
        self.tasks.count_rows(self.agent.declared().iter().map(|dataset| dataset.name.clone()).collect());
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        tokio::pin!(shutdown);
        let ended = loop {
            tokio::select! {
                Some(event) = link.recv() => if let Err(error) = self.handle_link(event) { break Err(error) },
                Some(event) = self.events.recv() => if let Err(error) = self.handle_event(event) { break Err(error) },
                Some(command) = self.commands.recv() => self.agent.handle_command(self.clock.now_ms(), command),
                _ = tick.tick() => if let Err(error) = self.handle_tick() { break Err(error) },
                () = &mut shutdown => break Ok(()),
            }
            if let Err(error) = self.carry_out() {
                break Err(error);
            }
        };
        self.tasks.abort();
        let live = self.shared.connection.borrow().clone();
        keeper.abort();
        served.iter().chain(&shown).for_each(JoinHandle::abort);
        if let Some(link) = live {
            let told = link.close_and_wait("the worker stops");
            let _ = tokio::time::timeout(Duration::from_secs(2), told).await;
        }
        self.agent.handle_unlinked();
        // Only a cache: without it the next start replays more.
        if let (Ok(()), Err(error)) = (&ended, self.snapshots.end(self.agent.mirror())) {
            tracing::warn!(%error, "no snapshot was written");
        }
        let _ = self.store.store_status(&self.agent.status(self.clock.now_ms()));
        ended.map_err(RunError::from)
    }

    fn handle_link(&mut self, event: LinkEvent) -> Result<(), DiskError> {
        let now_ms = self.clock.now_ms();
        match event {
            LinkEvent::Up { reports, key } => {
                self.rotation.linked_as(key, self.agent.is_rotating())?;
                if self.was_linked {
                    self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
                }
                self.was_linked = true;
                self.tasks.reports = Some(reports);
                tracing::info!("linked to the coordinator");
            }
            LinkEvent::Order(order) => self.agent.handle_order(now_ms, *order),
            LinkEvent::Down(why) => {
                tracing::warn!(why, "the link is down; it is made again");
                self.tasks.reports = None;
                self.agent.handle_unlinked();
            }
            LinkEvent::Retry(why) => {
                tracing::warn!(why, "no link; it is tried again");
                self.agent.handle_no_link(why);
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Result<(), DiskError> {
        let now_ms = self.clock.now_ms();
        match event {
            Event::Appended(key, answer) => self.agent.handle_appended(now_ms, &key, answer),
            Event::Review(contract, bytes) => self.agent.handle_result(now_ms, &contract, bytes),
            Event::State(contract, digest, state) => self.agent.handle_fetched(now_ms, &contract, digest, state),
            Event::NoState(contract, reject) => self.agent.handle_no_state(now_ms, &contract, &reject),
            Event::Streamed(contract, slot, root) => self.agent.handle_streamed(now_ms, &contract, slot, root),
            Event::Broken(error) => return Err(error),
            Event::Unworkable(contract, slot, refusal) => {
                self.tasks.ended(&contract, slot);
                self.agent.handle_unworkable(now_ms, &contract, slot, &refusal);
            }
            Event::Uploaded(contract, slot, ended) => {
                tracing::debug!(contract = hex::encode(contract), slot, ?ended, "an upload ended");
                self.tasks.ended(&contract, slot);
            }
            Event::Counted(dataset, rows) => self.agent.handle_counted(now_ms, &dataset, rows),
            Event::Cohorts(terms_hash, found) => self.agent.handle_cohorts(now_ms, &terms_hash, found),
            Event::View(address, Ok(view)) => self.agent.handle_view(now_ms, Source::Address(address), &view),
            Event::View(_, Err(why)) => {
                tracing::debug!(why, "no view");
                self.agent.handle_no_view();
            }
        }
        Ok(())
    }

    fn handle_tick(&mut self) -> Result<(), DiskError> {
        let now_ms = self.clock.now_ms();
        self.snapshots.keep(self.agent.mirror())?;
        self.ticks = self.ticks.wrapping_add(1);
        if self.ticks % TICKS_PER_ROUND == 1 {
            self.read_inbox(now_ms)?;
            self.look_for_keys(now_ms)?;
            self.agent.handle_timeout(now_ms);
            if self.view_at.is_some() {
                self.view.send_replace(self.agent.shown_view(now_ms));
            }
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
                Err(why) => {
                    tracing::warn!(file = %waiting.path.display(), why, "a decision cannot be read; it is dropped")
                }
            }
            // The decision is on the disk before the file that asked for it goes away.
            self.carry_out()?;
            approvals::remove(&waiting.path)?;
        }
        Ok(())
    }

    /// A rotation that somebody left on the disk.
    fn look_for_keys(&mut self, now_ms: u64) -> Result<(), DiskError> {
        if !self.agent.is_rotating()
            && let Some(next) = self.rotation.find()?
        {
            self.agent.handle_next_keys(now_ms, next);
            self.carry_out()?;
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), DiskError> {
        while let Some(action) = self.agent.poll_action() {
            match action {
                Action::StoreEntries { entries, note } => {
                    self.store.store_entries(&entries, &note)?;
                    let mirror_size = self.store.ledger().next_index();
                    self.shared.holds.send_modify(|holds| holds.mirror_size = mirror_size);
                }
                Action::StoreRecord(record) => {
                    self.store.store_record(&record)?;
                    self.shared.holds.send_replace(Holds::of(self.store.ledger(), Some(&record)));
                }
                Action::StoreCertificate { note, turn, policy } => {
                    self.store.know_keys(&self.agent.mirror().validated().log_vkeys())?;
                    self.store.store_certificate(&note, turn.as_ref(), policy.as_ref())?;
                    let certified = self.agent.mirror().certified();
                    self.rotation.trust(certified);
                    self.shared.holds.send_modify(|holds| holds.certified_size = certified.next_index());
                }
                Action::StoreFork(fork) => evidence::keep(self.store.folder(), self.clock.now_ms(), &fork)?,
                Action::CompareView { source, size } => {
                    if let Some(compared) = self.store.compare(size)? {
                        self.agent.handle_compared(self.clock.now_ms(), &source, compared);
                    }
                }
                Action::FetchView(address) => self.tasks.fetch_view(address),
                Action::StoreEvidence(text) => evidence::keep_halt(self.store.folder(), self.clock.now_ms(), &text)?,
                Action::StoreJobSeed { contract, seed } => self.store.store_seed(&contract, &seed)?,
                Action::StoreJournal { contract, journal } => self.store.store_journal(&contract, &journal)?,
                Action::StoreStanding { contract, standing } => self.store.store_standing(&contract, &standing)?,
                Action::StoreBudget(budget) => budgets::store(self.store.folder(), &budget)?,
                Action::CheckCohorts(terms_hash, inputs) => self.tasks.check_cohorts(terms_hash, inputs),
                Action::ForgetJob { contract } => {
                    self.tasks.cancel(&contract, None);
                    self.store.forget_job(&contract)?;
                }
                Action::Report(report) => self.tasks.report(report),
                Action::Append { key, envelope } => self.tasks.append(key, envelope),
                Action::StoreReview { contract, bytes } => self.store.store_review(&contract, &bytes)?,
                Action::FetchReview { contract, digest, bytes } => {
                    self.tasks.fetch_review(contract, Blob { bytes, digest });
                }
                Action::FetchState { contract, digest, bytes } => {
                    self.tasks.fetch(contract, Blob { bytes, digest }, self.store.states(&contract));
                }
                Action::Work(work) => self.tasks.work(*work),
                Action::Trailer { contract, trailer } => self.tasks.trailer(&contract, *trailer),
                Action::Cancel { contract, slot } => self.tasks.cancel(&contract, Some(slot)),
                Action::PromoteKeys => self.rotation.promote()?,
                Action::Audit(entry) => {
                    log(&entry);
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
}

/// What this agent stopped for before, and what somebody has looked at since.
fn take_up_evidence(agent: &mut Agent, folder: &Path) -> Result<(), DiskError> {
    agent.restore_cleared(&evidence::cleared(folder)?);
    if let Some((name, fork)) = evidence::uncleared(folder)?.into_iter().next() {
        tracing::error!(name, "the log has forked: this agent signs nothing until `leben-worker evidence clear`");
        agent.restore_fork(fork);
    }
    if let Some(words) = evidence::halted(folder)? {
        tracing::error!(words, "this agent signs nothing until `leben-worker evidence clear`");
        agent.restore_halt(words);
    }
    Ok(())
}

/// The copy of the ledger as it lies on the disk, and its snapshots.
fn restored(log: &VerifierKey, party: &PartyId, keys: &Keys, store: &Store) -> Result<(Mirror, Snapshots), RunError> {
    if handover::frozen(store.folder())?.is_some() {
        return Err(RunError::Ledger(handover::FROZEN.to_owned()));
    }
    let mirror_keys = keys.mirror();
    let mut mirror = Mirror::new(log, party.as_str(), mirror_keys, store.record()?)
        .map_err(|error| RunError::Ledger(error.to_string()))?;
    let snapshots = replay(&mut mirror, store)?;
    Ok((mirror, snapshots))
}

/// The audit log's events, for whoever watches the process.
fn log(entry: &AuditEntry) {
    let (event, code) = (entry.event, entry.code.as_deref().unwrap_or(""));
    let contract = entry.contract.as_deref().unwrap_or("");
    match entry.code.is_some() || event == crate::agent::CLOCK_WARNING {
        true => tracing::warn!(event, contract, code, words = entry.words, "take note"),
        false => tracing::info!(event, contract, words = entry.words, "recorded"),
    }
}
