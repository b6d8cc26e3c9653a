//! From one step on the ledger to the next.

use std::collections::BTreeSet;

use leben_protocol::frame::JobOrder;
use sha2::{Digest, Sha256};

use super::{Action, Job, Step, join};
use crate::facts::Facts;
use crate::record::{self, Made, Record};

/// Fewest members of a secure sum: in a sum of two each would read the other.
const MEMBERS_MIN: usize = 3;

impl Job {
    /// Moves from one step on the ledger to the next.
    pub(super) fn follow(&mut self, now_ms: u64, facts: &Facts) {
        if let Some(abort) = self.given_up.clone() {
            return self.ask_once(Some(abort));
        }
        if facts.directory.is_none() {
            return self.follow_keys(now_ms, facts);
        }
        if matches!(self.step, Step::Keys { .. }) {
            self.step = Step::Start;
        }
        let Some(stage) = self.current_stage() else { return self.follow_delivery(facts) };
        let id = stage.id;
        if facts.receipts.contains(&id) {
            // The receipt of the running stage is final: on to the next one.
            self.checkpoint.stage += 1;
            self.checkpoint.round = 1;
            self.checkpoint.state = None;
            self.checkpoint.pinned = None;
            self.checkpoint.started = None;
            self.checkpoint.trace.clear();
            self.checkpoint.transcripts.clear();
            self.actions.push_back(Action::Remember(self.checkpoint.clone()));
            self.step = Step::Start;
            return self.follow(now_ms, facts);
        }
        if self.checkpoint.finished.contains_key(&id) {
            self.step = Step::Receipt;
            return self.ask_once(record::receipt(&self.plan, &self.checkpoint, id));
        }
        match &self.step {
            Step::Start if facts.started.contains(&id) => self.begin_stage(now_ms),
            Step::Start => self.ask_once(Some(Record::StageStart { stage: id })),
            Step::Paused { .. } if !self.suspended => {
                if let Step::Paused { model } = std::mem::replace(&mut self.step, Step::Start) {
                    self.begin_round(now_ms, model);
                }
            }
            _ => {}
        }
    }

    pub(super) fn follow_keys(&mut self, now_ms: u64, facts: &Facts) {
        let Step::Keys { since_ms } = self.step else { return };
        let have = facts.key_records.len();
        let missing: Vec<&String> =
            self.plan.hospitals.iter().filter(|h| !facts.key_records.contains_key(*h)).collect();
        self.message = match missing.is_empty() {
            true => "every hospital's key is on the ledger".into(),
            false => format!("waiting for the keys of {}", join(&missing)),
        };
        let hospitals_min = self.plan.stages.first().map_or(0, |stage| stage.rules.hospitals_min);
        let needed = usize::from(hospitals_min.max(self.plan.threshold)).max(MEMBERS_MIN);
        let patience_over = now_ms >= since_ms.saturating_add(self.keys_patience_ms());
        if missing.is_empty() || (patience_over && have >= needed) {
            let directory = record::directory(&self.plan, &facts.key_records);
            self.ask_once(Some(Record::RoundFreeze(directory)));
        } else if patience_over {
            let reason = format!("{} did not publish keys for this job", join(&missing));
            self.fail("no-keys", reason);
        }
    }

    fn follow_delivery(&mut self, facts: &Facts) {
        if facts.delivered {
            return self.end("the result is delivered".into());
        }
        self.step = Step::Deliver;
        match record::result(&self.plan, &self.checkpoint) {
            Ok(made) if self.is_cleared(&made, facts) => {
                if self.asked.insert(made.record.key()) {
                    self.actions.push_back(Action::StoreResult(made.sealed));
                    self.actions.push_back(Action::Append(made.record));
                }
            }
            Ok(_) => {}
            Err(reason) => self.fail("no-result", reason),
        }
    }

    /// Whether each hospital in the result has looked at it and let it go; shows it to those that have not.
    fn is_cleared(&mut self, made: &Made, facts: &Facts) -> bool {
        if !self.plan.review {
            return true;
        }
        let concerned: BTreeSet<&String> =
            self.checkpoint.finished.values().flat_map(|finished| &finished.hospitals).collect();
        let missing: Vec<&String> =
            concerned.into_iter().filter(|name| facts.cleared.get(*name) != Some(&made.commitment)).collect();
        if missing.is_empty() {
            return true;
        }
        self.message = format!("the result waits until {} looked at it", join(&missing));
        let digest: [u8; 32] = Sha256::digest(&made.bundle).into();
        let bytes = made.bundle.len() as u64;
        let orders: Vec<Action> = missing
            .into_iter()
            .map(|name| Action::Send { hospital: name.clone(), order: JobOrder::Review { digest, bytes } })
            .collect();
        let name = hex::encode(digest);
        if self.asked.insert(format!("review-{name}")) {
            // Named first: what the checkpoint does not name is removed.
            self.checkpoint.review = Some(name);
            self.actions.push_back(Action::Remember(self.checkpoint.clone()));
            self.actions.push_back(Action::StoreReview { digest, bytes: made.bundle.clone() });
        }
        self.actions.extend(orders);
        self.sequence += 1;
        false
    }

    /// A step is asked for once; [`Facts`] show when it is there.
    pub(super) fn ask_once(&mut self, record: Option<Record>) {
        if let Some(record) = record.filter(|record| !self.asked.contains(&record.key())) {
            self.asked.insert(record.key());
            self.actions.push_back(Action::Append(record));
        }
    }
}
