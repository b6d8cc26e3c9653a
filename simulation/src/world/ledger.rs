//! The job's steps on a ledger that is final at once: one state machine, no witnesses (those are in [`network`](crate::network)).

use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_coordinator::record::Record;
use leben_coordinator::schedule as due;

use super::{End, Event, World};
use crate::agreement;

impl World {
    /// The process asked for a step; a process that dies now may or may not have got it on its way.
    pub(super) fn append(&mut self, record: Record) {
        if let Record::Abort { reason, .. } = &record {
            self.aborted.get_or_insert_with(|| reason.clone());
        }
        let (wait_ms, life) = (self.dice.between(1, self.weather.ledger_ms_max), self.coordinator_life);
        self.queue.after(wait_ms, Event::Recorded { record, life });
    }

    pub(super) fn record(&mut self, record: &Record, life: u64) {
        if life != self.coordinator_life && self.dice.chance(500) {
            return;
        }
        let now_ms = self.queue.now_ms();
        let body = due::body_of(record).expect("a body");
        let nonce = self.ledger.next_index();
        let contract = self.agreement.contract;
        let envelope = agreement::sign(&self.ledger, now_ms, "coordinator", Some(&contract), &body, nonce);
        match self.push(envelope) {
            Ok(()) => self.say(format_args!("on the ledger: {}", record.key())),
            Err(reason) => {
                self.say(format_args!("the ledger refuses {}: {reason}", record.key()));
                self.coordinator.job().into_iter().for_each(|job| job.handle_append_refused(&record.key(), &reason));
            }
        }
    }

    pub(super) fn expire(&mut self) {
        let now_ms = self.queue.now_ms();
        for step in self.ledger.due_steps(now_ms) {
            let nonce = self.ledger.next_index();
            let contract = self.agreement.contract;
            let envelope = agreement::sign(&self.ledger, now_ms, "coordinator", Some(&contract), &step.body, nonce);
            self.push(envelope).expect("a step that is due");
        }
    }

    pub(super) fn push(&mut self, envelope: Envelope) -> Result<(), String> {
        let now_ms = self.queue.now_ms();
        let entry = Entry::new(envelope, now_ms).map_err(|error| error.to_string())?;
        self.ledger.apply(self.ledger.next_index(), &entry).map_err(|error| error.to_string())?;
        let (facts, root) = (self.facts(), self.agreement.root);
        self.coordinator.job().into_iter().for_each(|job| job.handle_facts(now_ms, &facts, root));
        Ok(())
    }

    pub(super) fn finish(&mut self) {
        let facts = self.facts();
        let reason = self.aborted.clone().unwrap_or_default();
        self.end = Some(match (facts.delivered, facts.phase.as_str()) {
            (true, _) => End::Delivered,
            (_, "Expired") => End::Expired,
            _ => End::Aborted { reason },
        });
    }
}
