//! The shell around the jobs: one task that hands them what happened and does what they want done.
//!
//! Actions are carried out in the order the core gave them, each to its end before the next, so that what must be on disk
//! is there before what builds on it leaves. Two take as long as a vector is: a state is written by a thread of its own, an
//! upload is added in steps between the events (`bulk.rs`). The core waits for both.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use leben_contracts::agreement::body::Body;
use leben_protocol::frame::{ContractId, Order, Progress, UploadTrailer};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::{mpsc, oneshot, watch};

use super::clock::now_ms;
use super::events::{Event, Orders};
use super::fatal::Fatal;
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::spool::{Spool, UploadId};
use super::store::Store;
use super::traffic::Traffic;
use crate::job::{Action, Job};
use crate::plan::{Operator, Plan};
use crate::round::Lanes;
use crate::schedule;

mod bulk;

/// What the jobs share with the streams.
pub struct Shared {
    /// Stored uploads.
    pub spool: Arc<Spool>,
    /// The folder.
    pub store: Store,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Bytes of each job.
    pub traffic: Arc<Traffic>,
}

/// The jobs and who watches them.
pub struct Jobs {
    ledger: Ledger,
    shared: Shared,
    operator: Operator,
    jobs: BTreeMap<ContractId, Job>,
    watchers: HashMap<ContractId, watch::Sender<Progress>>,
    links: BTreeMap<String, Orders>,
    asked: BTreeSet<String>,
    /// Uploads that are being added, each with its next chunk.
    folding: VecDeque<(UploadId, u64)>,
    events: mpsc::Sender<Event>,
}

impl Jobs {
    /// No job yet; [`Jobs::run`] finds them on the ledger.
    pub fn new(ledger: Ledger, shared: Shared, operator: Operator, events: mpsc::Sender<Event>) -> Jobs {
        Jobs {
            ledger,
            shared,
            operator,
            jobs: BTreeMap::new(),
            watchers: HashMap::new(),
            links: BTreeMap::new(),
            asked: BTreeSet::new(),
            folding: VecDeque::new(),
            events,
        }
    }

    /// Works until the events end or something of ours breaks.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>) -> Result<(), Fatal> {
        let mut finals = self.ledger.watch_final();
        self.handle_ledger()?;
        loop {
            let timeout = self.next_timeout();
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle_event(event)?,
                    None => return Ok(()),
                },
                changed = finals.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    finals.mark_unchanged();
                    self.handle_ledger()?;
                }
                () = std::future::ready(()), if !self.folding.is_empty() => self.fold_step()?,
                () = tokio::time::sleep(timeout) => self.handle_timeouts()?,
            }
            self.publish_progress();
        }
    }

    fn next_timeout(&self) -> Duration {
        let now = now_ms();
        let next = self.jobs.values().filter_map(|job| job.poll_timeout(now)).map(|(at_ms, _)| at_ms).min();
        // Windows of contracts are in hours and days; once a second is soon enough to look at them.
        let wait_ms = next.map_or(1_000, |at_ms| at_ms.saturating_sub(now).clamp(1, 1_000));
        Duration::from_millis(wait_ms)
    }

    fn handle_timeouts(&mut self) -> Result<(), Fatal> {
        let now = now_ms();
        for contract in self.running() {
            if let Some(job) = self.jobs.get_mut(&contract) {
                job.handle_timeout(now);
            }
            self.carry_out(contract)?;
        }
        self.handle_due(now)
    }

    /// The final ledger grew: new jobs, steps of running ones, due steps of contracts.
    fn handle_ledger(&mut self) -> Result<(), Fatal> {
        if !self.ledger.is_certified() {
            return Ok(());
        }
        let now = now_ms();
        let ledger = self.ledger.clone();
        let jobs = self.jobs.keys().copied().collect();
        let (standing, root) = ledger.with_final(|state, root| (schedule::executable(state, &jobs), root));
        for (contract, facts, terms) in standing {
            if !self.jobs.contains_key(&contract) {
                self.begin_job(now, contract, &terms)?;
            }
            if let Some(job) = self.jobs.get_mut(&contract) {
                job.handle_facts(now, &facts, root);
            }
            self.carry_out(contract)?;
        }
        self.handle_due(now)
    }

    fn begin_job(
        &mut self,
        now: u64,
        contract: ContractId,
        terms: &leben_contracts::agreement::terms::Terms,
    ) -> Result<(), Fatal> {
        let plan = match Plan::new(contract, terms, &self.operator) {
            Ok(plan) => plan,
            Err(error) => {
                tracing::error!(contract = %hex::encode(contract), %error, "this contract cannot be run here");
                return self.abort(contract, "unplannable", terms.stages.first().map(|stage| stage.id));
            }
        };
        let kept = self.shared.store.job(&contract).map_err(Fatal::io("read a job's checkpoint"))?;
        let (checkpoint, states) =
            kept.map_or((None, BTreeMap::new()), |(checkpoint, states)| (Some(checkpoint), states));
        tracing::info!(contract = %hex::encode(contract), restarted = checkpoint.is_some(), "job begins");
        let spool = self.shared.spool.clone();
        let lanes = Lanes::new(move || Arc::new(spool.lanes()));
        let mut job = Job::new(now, plan, checkpoint, states, super::random()).with_lanes(lanes);
        for hospital in self.links.keys() {
            job.handle_link(now, hospital, true);
        }
        self.jobs.insert(contract, job);
        Ok(())
    }

    /// Steps that are the coordinator's to take: arm, settle, expire, and the witnesses' policy.
    fn handle_due(&mut self, now: u64) -> Result<(), Fatal> {
        if !self.ledger.is_certified() {
            return Ok(());
        }
        let linked: BTreeSet<String> = self.links.keys().cloned().collect();
        let ledger = self.ledger.clone();
        let operator = &self.operator;
        let (due, waiting) = ledger
            .with_final(|state, _| (schedule::due(state, now, &linked, operator), schedule::uninvited(state, &linked)));
        if let Some(names) = waiting.filter(|names| self.asked.insert(format!("uninvited-{names}"))) {
            tracing::warn!(
                "{names} cosign once those who do have signed for it: an admin drafts `leben action draft policy-change`"
            );
        }
        for step in due {
            if self.asked.insert(step.key.clone()) {
                self.append(step.contract, step.key, step.body);
            }
        }
        Ok(())
    }

    fn handle_event(&mut self, event: Event) -> Result<(), Fatal> {
        let now = now_ms();
        match event {
            Event::Link { hospital, orders } => self.handle_link(now, &hospital, orders),
            Event::Report { hospital, contract, report } => {
                let Some(job) = self.jobs.get_mut(&contract) else { return Ok(()) };
                let refused = tokio::task::block_in_place(|| job.handle_report(now, &hospital, report)).err();
                if let Some(reject) = refused {
                    self.shared.metrics.reject(&reject);
                    tracing::warn!(%hospital, %reject, "a report was refused");
                }
                self.carry_out(contract)
            }
            Event::Upload { hospital, contract, slot, chunks, reply } => {
                let unknown = || Reject::new(RejectCode::UnknownContract, "no job of this contract runs here");
                let certified = self.ledger.must_be_certified();
                let answer = certified.and_then(|()| self.jobs.get(&contract).ok_or_else(unknown));
                let _ = reply.send(answer.and_then(|job| job.expects_upload(&hospital, slot, chunks)));
                Ok(())
            }
            Event::Stored { id, chunks } => {
                if let Some(job) = self.jobs.get_mut(&id.contract) {
                    job.handle_chunk_stored(now, id.seat, id.slot, chunks);
                }
                Ok(())
            }
            Event::Trailer { id, trailer, reply } => self.handle_trailer(now, id, *trailer, reply),
            Event::StateWritten { contract, written } => self.handle_written(now, contract, written),
            Event::Refused { contract, key, reject } => {
                tracing::error!(contract = %hex::encode(contract), %key, %reject, "the ledger refused a step");
                // A step that lost a race against another party's may be right the next time the ledger moves.
                self.asked.remove(&key);
                if let Some(job) = self.jobs.get_mut(&contract) {
                    job.handle_append_refused(&key, &reject.to_string());
                }
                Ok(())
            }
            Event::Watch { contract, reply } => {
                let _ = reply.send(self.watch(contract));
                Ok(())
            }
        }
    }

    fn handle_link(&mut self, now: u64, hospital: &str, orders: Option<Orders>) -> Result<(), Fatal> {
        let linked = orders.is_some();
        match orders {
            Some(orders) => self.links.insert(hospital.to_owned(), orders),
            None => self.links.remove(hospital),
        };
        self.shared.metrics.workers_linked.set(i64::try_from(self.links.len()).unwrap_or(i64::MAX));
        for contract in self.running() {
            if let Some(job) = self.jobs.get_mut(&contract) {
                job.handle_link(now, hospital, linked);
            }
            self.carry_out(contract)?;
        }
        self.handle_due(now)
    }

    fn handle_trailer(
        &mut self,
        now: u64,
        id: UploadId,
        trailer: UploadTrailer,
        reply: oneshot::Sender<Result<(), Reject>>,
    ) -> Result<(), Fatal> {
        let Some(job) = self.jobs.get_mut(&id.contract) else { return Ok(()) };
        let upload = self.shared.spool.upload(id).map_err(Fatal::io("open a spooled upload"))?;
        let root = upload.lock().unwrap_or_else(std::sync::PoisonError::into_inner).root();
        let answer = job.handle_trailer(now, id.seat, root, trailer);
        if let Err(reject) = &answer {
            self.shared.metrics.reject(reject);
        }
        let _ = reply.send(answer);
        self.carry_out(id.contract)
    }

    /// Does what a job wants done, until it wants nothing more.
    fn carry_out(&mut self, contract: ContractId) -> Result<(), Fatal> {
        while let Some(action) = self.jobs.get_mut(&contract).and_then(Job::poll_action) {
            match action {
                Action::Send { hospital, order } => self.send(contract, &hospital, order),
                Action::Append(record) => {
                    let key = record.key();
                    if let crate::record::Record::Abort { reason, .. } = &record {
                        tracing::warn!(contract = %hex::encode(contract), %reason, "the job cannot go on");
                    }
                    match schedule::body_of(&record) {
                        Ok(body) => self.append(Some(contract), key, body),
                        Err(error) => return Err(Fatal::Inconsistent(error)),
                    }
                }
                Action::StoreState(state) => self.write_state(contract, state),
                Action::Remember(checkpoint) => {
                    self.shared
                        .store
                        .keep_checkpoint(&contract, &checkpoint)
                        .map_err(Fatal::io("store a job's checkpoint"))?;
                }
                Action::Fold { slot, seat } => self.folding.push_back((UploadId { contract, slot, seat }, 0)),
                Action::Discard { slot, summed } => {
                    let counter =
                        if summed { &self.shared.metrics.rounds } else { &self.shared.metrics.slots_abandoned };
                    counter.inc();
                    self.folding.retain(|(id, _)| id.contract != contract || id.slot > slot);
                    self.shared.spool.discard(contract, slot);
                }
                Action::StoreReview { digest, bytes } => {
                    let kept = self.shared.store.keep_review(&contract, &digest, &bytes);
                    kept.map_err(Fatal::io("store a result to look at"))?;
                }
                Action::StoreResult(sealed) => {
                    self.shared.store.keep_result(&contract, &sealed).map_err(Fatal::io("store a result"))?;
                }
                Action::End => tracing::info!(contract = %hex::encode(contract), "job ended"),
            }
        }
        Ok(())
    }

    fn send(&mut self, contract: ContractId, hospital: &str, order: leben_protocol::frame::JobOrder) {
        if let Some(orders) = self.links.get(hospital) {
            // Full or closed: the link's end is reported by the task that owns it.
            orders.give(hospital, Order::Job { contract, order });
        }
    }

    /// Appends beside the events; a refusal comes back as one.
    fn append(&self, contract: Option<ContractId>, key: String, body: Body) {
        let (ledger, events) = (self.ledger.clone(), self.events.clone());
        tokio::spawn(async move {
            if let Err(reject) = ledger.append_own(contract, body).await {
                let _ = events.send(Event::Refused { contract: contract.unwrap_or_default(), key, reject }).await;
            }
        });
    }

    fn abort(&mut self, contract: ContractId, code: &str, first: Option<u32>) -> Result<(), Fatal> {
        let record = crate::record::Record::Abort { code: code.to_owned(), reason: code.to_owned(), stage: first };
        let key = format!("{}-{}", record.key(), hex::encode(contract));
        if self.asked.insert(key.clone()) {
            let body = schedule::body_of(&record).map_err(Fatal::Inconsistent)?;
            self.append(Some(contract), key, body);
        }
        Ok(())
    }

    fn running(&self) -> Vec<ContractId> {
        self.jobs.iter().filter(|(_, job)| !job.is_ended()).map(|(contract, _)| *contract).collect()
    }

    fn watch(&mut self, contract: ContractId) -> Option<watch::Receiver<Progress>> {
        let progress = match self.jobs.get(&contract) {
            Some(job) => self.shared.traffic.fill(&contract, job.progress()),
            None => self.ledger.with_final(|state, _| schedule::standing_progress(state, &contract))?,
        };
        let sender = self.watchers.entry(contract).or_insert_with(|| watch::Sender::new(progress));
        Some(sender.subscribe())
    }

    fn publish_progress(&mut self) {
        for (contract, sender) in &self.watchers {
            let progress = match self.jobs.get(contract) {
                Some(job) => Some(self.shared.traffic.fill(contract, job.progress())),
                None => self.ledger.with_final(|state, _| schedule::standing_progress(state, contract)),
            };
            if let Some(progress) = progress {
                sender.send_if_modified(|last| {
                    let changed = *last != progress;
                    if changed {
                        *last = progress;
                    }
                    changed
                });
            }
        }
    }
}
