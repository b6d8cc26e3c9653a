//! The ledger's writer itself: one task, one log, one order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use leben_contracts::agreement::Recorded;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::follow::Refusal;
use leben_contracts::ledger::note::VerifierKey;
use leben_contracts::ledger::sequencer::{Sequencer, TurnPoint};
use leben_contracts::ledger::store::{LogReader, LogStore};
use leben_protocol::frame::Order;
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::mpsc;

use super::author::Author;
use super::clock::now_ms;
use super::door::Door;
use super::fatal::Fatal;
use super::index::Index;
use super::leaves::frames;
use super::ledger::{Appended, Callers, Command, Ledger, Waiter, no_policy, own_note, sign_own};
use super::metrics::Metrics;
use crate::finality::{Action, Finality};

/// Entries read at a time for a witness.
const ASK_STEP: u64 = 256;

/// Commands taken before something is committed and carried out: reports come from peers, and must not keep appends waiting.
const TAKEN_MAX: usize = 1024;

/// The log, its state machine, and what is on its way to finality.
pub(super) struct Sequence {
    pub(super) store: LogStore,
    /// Replays what is committed; what is not yet final is recorded there.
    pub(super) sequencer: Sequencer<Recorded>,
    pub(super) log: VerifierKey,
    pub(super) author: Author,
    pub(super) finality: Finality,
    /// Entries that are final, and known to be where that has to be remembered.
    pub(super) final_size: u64,
    /// Turns that are not final yet: each goes to the witnesses as a checkpoint of its own.
    pub(super) turns: VecDeque<TurnPoint>,
    pub(super) callers: Callers,
    pub(super) door: Door,
    pub(super) metrics: Arc<Metrics>,
    pub(super) batch_max: usize,
    /// Answers for actions that the state machine has forgotten, once it is there.
    pub(super) index: Arc<Mutex<Option<Index>>>,
    pub(super) snapshot: Option<JoinHandle<Result<(), Fatal>>>,
}

pub(super) fn broken(error: impl std::fmt::Display) -> Fatal {
    Fatal::Ledger(error.to_string())
}

impl Sequence {
    pub(super) fn log_vkey(&self) -> VerifierKey {
        self.log.clone()
    }

    pub(super) fn reader(&self) -> LogReader {
        self.store.reader()
    }

    /// Serves commands until nobody can send any.
    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, ledger: Ledger) -> Result<(), Fatal> {
        self.begin_flight()?;
        self.carry_out(&ledger)?;
        ledger.show(self.finality.shown());
        loop {
            let mut batch = Vec::new();
            let timeout = self.door.poll_timeout();
            let wait = timeout.map(|at_ms| Duration::from_millis(at_ms.saturating_sub(now_ms())));
            match tokio::time::timeout(wait.unwrap_or(Duration::MAX), commands.recv()).await {
                Ok(Some(first)) => self.take(first, &mut batch)?,
                Ok(None) => return Ok(()),
                Err(_) => self.handle_timeout(now_ms()),
            }
            // Whatever else waits already goes into the same batch; an idle ledger commits at once.
            let mut taken = 1;
            while batch.len() < self.batch_max
                && taken < TAKEN_MAX
                && let Ok(next) = commands.try_recv()
            {
                self.take(next, &mut batch)?;
                taken += 1;
            }
            tokio::task::block_in_place(|| self.commit(batch))?;
            self.begin_flight()?;
            tokio::task::block_in_place(|| self.carry_out(&ledger))?;
            ledger.show(self.finality.shown());
        }
    }

    pub(super) fn take(&mut self, command: Command, batch: &mut Vec<Pending>) -> Result<(), Fatal> {
        let Some(command) = self.door.handle_command(now_ms(), command) else { return Ok(()) };
        match command {
            Command::Append { envelope, wait_final, reply } => batch.push(Pending { envelope, wait_final, reply }),
            Command::Own { contract, body, reply } => {
                // Composed against what is committed: an earlier step of the same contract must not wait in this batch.
                tokio::task::block_in_place(|| self.commit(std::mem::take(batch)))?;
                match sign_own(self.sequencer.state().state(), &self.author, contract, &body, now_ms()) {
                    Ok(envelope) => batch.push(Pending { envelope, wait_final: true, reply }),
                    Err(reject) => drop(reply.send(Err(reject))),
                }
            }
            Command::Up { party, holds: (mirror_size, certified_size), seen, orders } => {
                let signed_size = self.hear(&party, seen.as_ref())?;
                if let Some(before) = self.callers.links.insert(party.clone(), orders) {
                    before.cut();
                }
                self.finality.handle_up(&party, mirror_size, certified_size, signed_size);
                self.let_in(&party, batch)?;
            }
            Command::Down { party, orders, reply } => {
                let current = self.callers.links.get(&party).is_some_and(|link| link.is_same(&orders));
                if current {
                    self.callers.links.remove(&party);
                    self.finality.handle_down(&party);
                }
                let _ = reply.send(current);
            }
            Command::Cosigned { party, size, lines } => {
                if let Err(error) = self.finality.handle_cosigned(&party, size, &lines) {
                    tracing::warn!(%party, %error, "a cosignature was refused");
                }
            }
            Command::NotCosigned { party, size, mirror_size, reject } => {
                self.hear_refusal(&party, mirror_size, size, &reject);
            }
            Command::Certified { party, size } => self.finality.handle_certified(&party, size),
            Command::Observed { size, line } => {
                if let Err(error) = self.finality.handle_observed(size, line) {
                    tracing::warn!(%error, "an outside witness's cosignature was refused");
                }
            }
        }
        Ok(())
    }

    /// Steps 1 and 2: validate, then make durable.
    pub(super) fn commit(&mut self, batch: Vec<Pending>) -> Result<(), Fatal> {
        if batch.is_empty() {
            return Ok(());
        }
        let envelopes: Vec<Vec<u8>> = batch.iter().map(|pending| pending.envelope.clone()).collect();
        let now = now_ms();
        if let Some(words) = self.door.drift.handle_stamp(self.sequencer.state().state().now_ms(), now) {
            tracing::warn!("{words}");
        }
        let staged = self.sequencer.stage(now, &envelopes).map_err(broken)?;
        if let Some(batch) = &staged.batch {
            self.store.commit(batch).map_err(broken)?;
        }
        self.turns.extend(staged.turns);
        self.metrics.ledger_size.set(i64::try_from(self.sequencer.size()).unwrap_or(i64::MAX));
        let (since_ms, mut known) = (now_ms(), Vec::new());
        for (pending, result) in batch.into_iter().zip(staged.results) {
            let result = match result {
                Err(refusal @ Refusal::Window { .. }) => self.recorded_before(&pending.envelope)?.ok_or(refusal),
                other => other,
            };
            match result {
                Ok(index) if !pending.wait_final => {
                    let _ = pending.reply.send(Ok(Appended { index, proof: Vec::new() }));
                }
                Ok(index) if index < self.final_size => known.push((index, pending.reply)),
                Ok(index) => self.callers.waiters.push_back(Waiter { index, since_ms, reply: pending.reply }),
                Err(refusal) => {
                    let reject = Reject::new(RejectCode::EntryRefused, refusal.to_string());
                    self.metrics.reject(&reject);
                    let _ = pending.reply.send(Err(reject));
                }
            }
        }
        self.answer_final(known)
    }

    /// Where an action was recorded whose time is over, if it was: the state machine has forgotten it, the index has not.
    fn recorded_before(&self, envelope: &[u8]) -> Result<Option<u64>, Fatal> {
        let index = self.index.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (index, Envelope::parse(envelope)) {
            (Some(index), Ok(envelope)) => index.find(&envelope.payload_hash()),
            _ => Ok(None),
        }
    }

    /// Step 3 begins when the witnesses are free and something is committed: as far as the next turn, which is a checkpoint of
    /// its own, or to the end.
    fn begin_flight(&mut self) -> Result<(), Fatal> {
        let Some(head) = self.store.head() else { return Ok(()) };
        if !self.finality.may_begin(head.size, &mut self.turns) {
            return Ok(());
        }
        let (note, policy) = match self.turns.front() {
            None => (head.note.clone(), self.sequencer.state().state().witness_policy()),
            Some(turn) => (self.sequencer.sign(turn.size, turn.root).map_err(broken)?, turn.policy.clone()),
        };
        let policy = policy.map_or_else(|| no_policy(&self.log), Ok)?;
        self.finality.begin(note, policy).map_err(Fatal::Inconsistent)
    }

    fn carry_out(&mut self, ledger: &Ledger) -> Result<(), Fatal> {
        while let Some(action) = self.finality.poll_action() {
            match action {
                Action::Ask { party, from, old, to, note } => self.ask(&party, from..to, old, note.as_deref())?,
                Action::Certificates { party, from } => self.show_certificates(&party, from)?,
                Action::PublishCertificate { note } => {
                    self.store.publish_certificate(&own_note(&note)?).map_err(broken)?;
                }
                Action::Publish { note, policy } => {
                    self.store.publish(&own_note(&note)?).map_err(broken)?;
                    self.store.publish_policy(&policy).map_err(broken)?;
                    self.begin_flight()?;
                }
                Action::Show { party, note } => self.order(&party, Order::Publish { note: note.into_bytes() }),
                Action::RememberTurn { size } => self.store.remember_turn(size).map_err(broken)?,
                Action::Final { size } => {
                    self.handle_final(size, ledger)?;
                    self.begin_flight()?;
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, party: &str, entries: Range<u64>, old: u64, note: Option<&str>) -> Result<(), Fatal> {
        if !self.callers.links.contains_key(party) {
            return Ok(());
        }
        let reader = self.store.reader();
        let size = self.store.size();
        let to = entries.end;
        let note = match note {
            Some(note) => own_note(note)?,
            None => self.sequencer.sign(to, reader.root_at(to, size).map_err(broken)?).map_err(broken)?,
        };
        let mut first_index = entries.start;
        while first_index < to {
            let upto = to.min(first_index + ASK_STEP);
            for leaves in frames(reader.entries(first_index..upto, size).map_err(broken)?) {
                let count = leaves.len() as u64;
                self.order(party, Order::Entries { first_index, leaves });
                first_index += count;
            }
        }
        let proof = reader.consistency(old, to).map_err(broken)?;
        let request = AddCheckpoint::new(old, proof, note).map_err(broken)?;
        self.order(party, Order::Cosign { body: request.to_string().into_bytes() });
        Ok(())
    }

    /// A hospital that was away while who has to sign changed is shown that the quorum before agreed, each time.
    fn show_certificates(&mut self, party: &str, from: u64) -> Result<(), Fatal> {
        let (reader, published) = (self.store.reader(), self.store.published().map_or(0, |head| head.size));
        for size in reader.certificates().map_err(broken)? {
            if (from..=published).contains(&size) {
                let note = reader.certificate(size).map_err(broken)?.to_string().into_bytes();
                self.order(party, Order::Publish { note });
            }
        }
        Ok(())
    }

    fn order(&mut self, party: &str, order: Order) {
        if let Some(link) = self.callers.links.get(party)
            && !link.give(party, order)
        {
            self.finality.handle_down(party);
        }
    }

    /// Step 5: the entries are everybody's to build on, and those who waited are told.
    fn handle_final(&mut self, size: u64, ledger: &Ledger) -> Result<(), Fatal> {
        self.final_size = size;
        let root = self.store.reader().root_at(size, self.store.size()).map_err(broken)?;
        ledger.update_final(|part| {
            while let Some(applied) = self.sequencer.state_mut().take(size) {
                part.state.follow(applied).map_err(broken)?;
            }
            part.root = root;
            Ok::<(), Fatal>(())
        })?;
        self.metrics.ledger_final_size.set(i64::try_from(size).unwrap_or(i64::MAX));
        let (told, waiting): (Vec<_>, Vec<_>) = self.callers.waiters.drain(..).partition(|waiter| waiter.index < size);
        self.callers.waiters = waiting.into();
        let since = now_ms();
        for waiter in &told {
            self.metrics.final_ms.observe(since.saturating_sub(waiter.since_ms) as f64);
        }
        self.answer_final(told.into_iter().map(|waiter| (waiter.index, waiter.reply)).collect())?;
        self.keep_snapshot(size, ledger)
    }

    /// Proofs under the final checkpoint, which is read, and whose tiles are, once for all of them.
    fn answer_final(&self, told: Vec<(u64, Reply)>) -> Result<(), Fatal> {
        if told.is_empty() {
            return Ok(());
        }
        let note = own_note(self.finality.final_note().unwrap_or_default())?;
        let indices: Vec<u64> = told.iter().map(|(index, _)| *index).collect();
        let proofs = self.store.reader().proofs(&indices, &note).map_err(broken)?;
        for ((index, reply), proof) in told.into_iter().zip(proofs) {
            let _ = reply.send(Ok(Appended { index, proof: proof.to_string().into_bytes() }));
        }
        Ok(())
    }

    /// Now and then, beside everything else.
    fn keep_snapshot(&mut self, size: u64, ledger: &Ledger) -> Result<(), Fatal> {
        if self.snapshot.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return Ok(());
        }
        if let Some(written) = self.snapshot.take() {
            written.join().map_err(|_| Fatal::Inconsistent("the snapshot's writer has failed".into()))??;
        }
        if ledger.snapshot_is_due(size) {
            let ledger = ledger.clone();
            self.snapshot = Some(std::thread::spawn(move || ledger.save_snapshot()));
        }
        Ok(())
    }
}

type Reply = tokio::sync::oneshot::Sender<Result<Appended, Reject>>;

/// An append that waits for its batch.
pub(super) struct Pending {
    envelope: Vec<u8>,
    wait_final: bool,
    reply: Reply,
}
