//! The ledger's writer itself: one task, one log, one order.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::note::{KeyType, NoteSigner, VerifierKey};
use leben_contracts::ledger::policy::{Policy, UnknownSigners};
use leben_contracts::ledger::sequencer::{Sequencer, TurnPoint};
use leben_contracts::ledger::store::{LogReader, LogStore};
use leben_contracts::ledger::turn::Turns;
use leben_protocol::frame::Order;
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::mpsc;

use super::author::Author;
use super::clock::now_ms;
use super::door::Door;
use super::fatal::Fatal;
use super::leaves::frames;
use super::ledger::{Appended, Callers, Command, Final, Ledger, Waiter, no_policy, own_note, policy_of, sign_own};
use super::metrics::Metrics;
use crate::drift;
use crate::finality::{Action, Finality};
use crate::roll_call::RollCall;

/// Entries replayed at a time when a log is taken up.
const REPLAY_STEP: u64 = 4096;

/// The log, its state machine, and what is on its way to finality.
pub(super) struct Sequence {
    pub(super) store: LogStore,
    sequencer: Sequencer<State>,
    log: VerifierKey,
    author: Author,
    pub(super) finality: Finality,
    committed: VecDeque<Entry>,
    /// Turns that are not final yet: each goes to the witnesses as a checkpoint of its own.
    turns: VecDeque<TurnPoint>,
    callers: Callers,
    pub(super) door: Door,
    metrics: Arc<Metrics>,
    pub(super) batch_max: usize,
}

pub(super) fn broken(error: impl std::fmt::Display) -> Fatal {
    Fatal::Ledger(error.to_string())
}

impl Sequence {
    /// Replays the log. What is published was final or becomes it: its entries count as final; the rest goes to the
    /// witnesses again.
    pub(super) fn recover(
        store: LogStore,
        log_key: SigningKey,
        origin: &str,
        author: Author,
        metrics: Arc<Metrics>,
        batch_max: usize,
        observers: Vec<VerifierKey>,
    ) -> Result<(Sequence, Final), Fatal> {
        let signer = NoteSigner::new(origin, KeyType::Ed25519, log_key).map_err(broken)?;
        let log = signer.vkey().clone();
        let (size, reader) = (store.size(), store.reader());
        let published = store.published().map_or(0, |head| head.size);
        let mut follower = Follower::new(origin, State::new(origin));
        let mut final_part = Final { state: State::new(origin), root: [0; 32] };
        let mut committed = VecDeque::new();
        // Every quorum that may have made a checkpoint final which this folder does not know: the one of the published
        // size and those of everything committed since.
        let mut policies: Vec<Policy> = Vec::new();
        let (mut points, mut turns) = (VecDeque::new(), Turns::default());
        let mut from = 0;
        while from < size {
            let to = size.min(from + REPLAY_STEP);
            for (index, leaf) in (from..to).zip(reader.entries(from..to, size).map_err(broken)?) {
                let entry = Entry::parse(&leaf).map_err(broken)?;
                follower.apply(&entry).map_err(broken)?;
                let turn = turns.step(&entry.action().kind, || follower.replay().witness_policy());
                if index + 1 >= published
                    && let Some(policy) = turns.policy()
                    && policies.last() != Some(policy)
                {
                    policies.push(policy.clone());
                }
                if let Some(turn) = turn.filter(|_| index >= published) {
                    let root = reader.root_at(index + 1, size).map_err(broken)?;
                    points.push_back(TurnPoint { size: index + 1, root, policy: turn.new });
                }
                match index < published {
                    true => final_part.state.apply(index, &entry).map_err(broken)?,
                    false => committed.push_back(entry),
                }
            }
            from = to;
        }
        if published > 0 {
            final_part.root = reader.root_at(published, size).map_err(broken)?;
        }
        let policy = policy_of(&final_part.state, &log)?;
        let note = match published {
            0 => None,
            _ => Some(reader.checkpoint().map_err(broken)?),
        };
        if let Some(note) = &note {
            // It was cosigned when it was published: what is not, any more, was changed since.
            // An outside witness that the settings name no longer may still stand on it; then the policy beside it has its key.
            let beside = reader.policy().map_err(broken)?;
            let listed = beside.iter().flat_map(Policy::observers).chain(&observers);
            policy.with_observers(listed).evaluate(note, UnknownSigners::Refuse).map_err(|error| {
                let path = reader.dir().join("checkpoint");
                broken(format!("{} is damaged: {error}; copy it from a hospital's mirror/public", path.display()))
            })?;
        }
        let builder = store.builder().map_err(broken)?;
        let sequencer = Sequencer::new(signer, builder, follower).map_err(broken)?;
        let note = note.map(|note| policy.with_observers(&observers).known_lines(&note).to_string());
        let finality = Finality::new(published, note, policy).with_observers(observers);
        let callers = Callers::default();
        drift::check(sequencer.state().now_ms(), now_ms())?;
        let (door, turns) = (Door::new(RollCall::new(policies), metrics.clone()), points);
        let sequence =
            Sequence { store, sequencer, log, author, finality, committed, turns, callers, door, metrics, batch_max };
        Ok((sequence, final_part))
    }

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
            while batch.len() < self.batch_max
                && let Ok(next) = commands.try_recv()
            {
                self.take(next, &mut batch)?;
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
                match sign_own(self.sequencer.state(), &self.author, contract, &body, now_ms()) {
                    Ok(envelope) => batch.push(Pending { envelope, wait_final: true, reply }),
                    Err(reject) => drop(reply.send(Err(reject))),
                }
            }
            Command::Up { party, mirror_size, seen, orders } => {
                let signed_size = self.hear(&party, seen.as_ref())?;
                self.callers.links.insert(party.clone(), orders);
                self.finality.handle_up(&party, mirror_size, signed_size);
                self.let_in(&party, batch)?;
            }
            Command::Down { party, orders, reply } => {
                let current = self.callers.links.get(&party).is_some_and(|link| link.same_channel(&orders));
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
        if let Some(words) = self.door.drift.handle_stamp(self.sequencer.state().now_ms(), now) {
            tracing::warn!("{words}");
        }
        let staged = self.sequencer.stage(now, &envelopes).map_err(broken)?;
        if let Some(batch) = &staged.batch {
            self.store.commit(batch).map_err(broken)?;
        }
        self.committed.extend(staged.entries);
        self.turns.extend(staged.turns);
        self.metrics.ledger_size.set(i64::try_from(self.sequencer.size()).unwrap_or(i64::MAX));
        let since_ms = now_ms();
        for (pending, result) in batch.into_iter().zip(staged.results) {
            match result {
                Ok(index) if !pending.wait_final => {
                    let _ = pending.reply.send(Ok(Appended { index, proof: Vec::new() }));
                }
                Ok(index) if index < self.finality.final_size() => self.answer_final(index, pending.reply)?,
                Ok(index) => self.callers.waiters.push_back(Waiter { index, since_ms, reply: pending.reply }),
                Err(refusal) => {
                    let reject = Reject::new(RejectCode::EntryRefused, refusal.to_string());
                    self.metrics.reject(&reject);
                    let _ = pending.reply.send(Err(reject));
                }
            }
        }
        Ok(())
    }

    /// Step 3 begins when nothing is on its way and something is committed: as far as the next turn, which is a checkpoint of
    /// its own, or to the end.
    fn begin_flight(&mut self) -> Result<(), Fatal> {
        let head = match self.store.head() {
            Some(head) if !self.finality.is_busy() && head.size > self.finality.final_size() => head,
            _ => return Ok(()),
        };
        while self.turns.front().is_some_and(|turn| turn.size <= self.finality.final_size()) {
            self.turns.pop_front();
        }
        let (note, policy) = match self.turns.front() {
            None => (head.note.clone(), self.sequencer.state().witness_policy()),
            Some(turn) => (self.sequencer.sign(turn.size, turn.root).map_err(broken)?, turn.policy.clone()),
        };
        let policy = policy.map_or_else(|| no_policy(&self.log), Ok)?;
        self.finality.begin(note, policy).map_err(Fatal::Inconsistent)
    }

    fn carry_out(&mut self, ledger: &Ledger) -> Result<(), Fatal> {
        while let Some(action) = self.finality.poll_action() {
            match action {
                Action::Ask { party, from, old, to, note } => self.ask(&party, from..to, old, &note)?,
                Action::Certificates { party, from } => self.show_certificates(&party, from)?,
                Action::PublishCertificate { note } => {
                    self.store.publish_certificate(&own_note(&note)?).map_err(broken)?;
                }
                Action::Publish { note, policy } => {
                    self.store.publish(&own_note(&note)?).map_err(broken)?;
                    self.store.publish_policy(&policy).map_err(broken)?;
                }
                Action::Show { party, note } => self.order(&party, Order::Publish { note: note.into_bytes() }),
                Action::Final { size } => {
                    self.handle_final(size, ledger)?;
                    self.begin_flight()?;
                }
            }
        }
        Ok(())
    }

    fn ask(&mut self, party: &str, entries: Range<u64>, old: u64, note: &str) -> Result<(), Fatal> {
        let reader = self.store.reader();
        let size = self.store.size();
        let mut first_index = entries.start;
        while first_index < entries.end {
            let upto = entries.end.min(first_index + REPLAY_STEP.min(256));
            for leaves in frames(reader.entries(first_index..upto, size).map_err(broken)?) {
                let count = leaves.len() as u64;
                self.order(party, Order::Entries { first_index, leaves });
                first_index += count;
            }
        }
        let proof = reader.consistency(old, entries.end).map_err(broken)?;
        let request = AddCheckpoint::new(old, proof, own_note(note)?).map_err(broken)?;
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
        let Some(link) = self.callers.links.get(party) else { return };
        if link.try_send(order).is_err() {
            tracing::warn!(%party, "the witness does not take its orders; its link is given up");
            self.callers.links.remove(party);
            self.finality.handle_down(party);
        }
    }

    /// Step 5: the entries are everybody's to build on, and those who waited are told.
    fn handle_final(&mut self, size: u64, ledger: &Ledger) -> Result<(), Fatal> {
        let root = self.store.reader().root_at(size, self.store.size()).map_err(broken)?;
        let mut entries = Vec::new();
        let from = ledger.final_size();
        for _ in from..size {
            entries.extend(self.committed.pop_front());
        }
        ledger.update_final(|part| {
            for (index, entry) in (from..).zip(&entries) {
                part.state.apply(index, entry).map_err(broken)?;
            }
            part.root = root;
            Ok::<(), Fatal>(())
        })?;
        self.metrics.ledger_final_size.set(i64::try_from(size).unwrap_or(i64::MAX));
        let waiters = std::mem::take(&mut self.callers.waiters);
        for waiter in waiters {
            match waiter.index < size {
                true => {
                    self.metrics.final_ms.observe(now_ms().saturating_sub(waiter.since_ms) as f64);
                    self.answer_final(waiter.index, waiter.reply)?;
                }
                false => self.callers.waiters.push_back(waiter),
            }
        }
        Ok(())
    }

    fn answer_final(
        &self,
        index: u64,
        reply: tokio::sync::oneshot::Sender<Result<Appended, Reject>>,
    ) -> Result<(), Fatal> {
        let note = self.finality.published().unwrap_or_default();
        let proof = self.store.reader().proof(index, &own_note(note)?).map_err(broken)?;
        let _ = reply.send(Ok(Appended { index, proof: proof.to_string().into_bytes() }));
        Ok(())
    }
}

/// An append that waits for its batch.
pub(super) struct Pending {
    envelope: Vec<u8>,
    wait_final: bool,
    reply: tokio::sync::oneshot::Sender<Result<Appended, Reject>>,
}
