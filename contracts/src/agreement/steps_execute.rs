//! The work: keys of the secure sum, stages and their receipts, delivery.

use super::body::{Clear, Deliver, KeyRecord, RoundClose, RoundFreeze, StageAccept, StageReceipt, StageStart};
use super::contract::{Contract, DeliveryRecord, Directory, StageProgress};
use super::error::{Reason, mismatch};
use super::party::PartyId;
use super::step::Step;
use super::steps_agree::Money;
use super::table::Phase;
use super::terms::Stage;

impl Step<'_> {
    fn in_time(&self, contract: &Contract) -> Result<(), Reason> {
        self.by("the window for running ended at", contract.terms.windows.run_by_ms)
    }

    pub(super) fn key_record(&self, contract: &mut Contract, body: &KeyRecord) -> Money {
        self.in_time(contract)?;
        if !contract.terms.privacy.secure_sum {
            return mismatch("this contract has no secure sum, so no keys for one");
        }
        let same =
            |(p, k): (&PartyId, &KeyRecord)| *p != self.actor && (k.verify == body.verify || k.channel == body.channel);
        if contract.key_records.iter().any(same) {
            return mismatch("another hospital recorded the same key for this job; make fresh keys for each job");
        }
        contract.key_records.insert(self.actor.clone(), body.clone());
        Ok(Vec::new())
    }

    pub(super) fn round_freeze(&self, contract: &mut Contract, body: &RoundFreeze) -> Money {
        self.in_time(contract)?;
        let privacy = &contract.terms.privacy;
        if !privacy.secure_sum {
            return mismatch("this contract has no secure sum, so no key directory");
        }
        let (n, t) = (body.members.len(), usize::from(body.threshold));
        if n < usize::from(privacy.hospitals_min) || t < usize::from(privacy.threshold) || t <= n / 2 || t > n {
            let (min, threshold) = (privacy.hospitals_min, privacy.threshold);
            return mismatch(format!(
                "{n} members with threshold {t}: the terms ask for {min} members, a threshold of {threshold}, more than half, at most all"
            ));
        }
        if body.members.first().is_none_or(|m| m.index == 0) || !body.members.is_sorted_by(|a, b| a.index < b.index) {
            return mismatch("members are listed by increasing index, from 1");
        }
        for (i, member) in body.members.iter().enumerate() {
            let party = &member.party;
            if body.members.iter().take(i).any(|m| m.party == *party) {
                return mismatch(format!("{party} is a member twice"));
            }
            if !contract.active_owners().contains(party) {
                return mismatch(format!("{party} is no data owner of this contract, or took its data out"));
            }
            let expected = KeyRecord { verify: member.verify, channel: member.channel };
            if contract.key_records.get(party) != Some(&expected) {
                return mismatch(format!("the keys of {party} are not the ones it recorded for this job"));
            }
            // A Shamir point is fixed for the job, and journals keep points: whoever gets another's could be left out of a
            // repeated sum in that one's name.
            let seat = contract.owners().iter().position(|owner| owner == party).and_then(|at| at.checked_add(1));
            if seat != Some(usize::from(member.index)) {
                return mismatch(format!("the index of {party} is not its place among the owners of this contract"));
            }
        }
        contract.directory = Some(Directory {
            epoch: contract.directory.as_ref().map_or(0, |d| d.epoch).saturating_add(1),
            members: body.members.clone(),
            threshold: body.threshold,
            index: self.index,
        });
        Ok(Vec::new())
    }

    pub(super) fn stage_start(&self, contract: &mut Contract, body: &StageStart) -> Money {
        self.in_time(contract)?;
        let stage = find(contract, body.stage)?.clone();
        for id in &stage.after {
            if !contract.stage_over(find(contract, *id)?, self.seq_ms) {
                return mismatch(format!("stage {} waits for stage {id}", stage.id));
            }
        }
        if let Some(from) = stage.state_from.filter(|from| contract.receipt(*from).is_none()) {
            return mismatch(format!("stage {} starts from the output of stage {from}, which has none", stage.id));
        }
        if contract.terms.privacy.secure_sum && !stage.inputs.is_empty() && contract.directory.is_none() {
            return mismatch("the key directory of the secure sum is not frozen yet");
        }
        let mut progress = contract.stages.get(&stage.id).cloned().unwrap_or(StageProgress {
            started_ms: 0,
            tries: 0,
            rounds_closed: 0,
            receipt: None,
            accepted: false,
        });
        if progress.receipt.is_some() {
            return mismatch(format!("stage {} is done", stage.id));
        }
        if progress.tries > stage.retries {
            return mismatch(format!(
                "stage {} was tried {} times, which is all the terms allow",
                stage.id, progress.tries
            ));
        }
        progress.tries = progress.tries.saturating_add(1);
        progress.started_ms = self.seq_ms;
        contract.stages.insert(stage.id, progress);
        contract.phase = Phase::Running;
        Ok(Vec::new())
    }

    pub(super) fn round_close(&self, contract: &mut Contract, body: &RoundClose) -> Money {
        self.in_time(contract)?;
        let stage = find(contract, body.stage)?.clone();
        let Some(directory) = &contract.directory else {
            return mismatch("there is no key directory, so no round of a secure sum");
        };
        let members: Vec<&PartyId> = directory.members.iter().map(|m| &m.party).collect();
        let enough = usize::from(contract.terms.privacy.hospitals_min).max(usize::from(directory.threshold));
        if body.survivors.len() < enough || !body.survivors.is_sorted_by(|a, b| a < b) {
            return mismatch(format!("survivors are at least {enough}, sorted, each once"));
        }
        if let Some(stranger) = body.survivors.iter().find(|s| !members.contains(s)) {
            return mismatch(format!("{stranger} is not in the key directory"));
        }
        let last = contract.round_close.as_ref().map_or(0, |close| close.slot);
        if body.slot <= last {
            return mismatch(format!("slot {} was used already; the next is {}", body.slot, last.saturating_add(1)));
        }
        let Some(progress) = contract.stages.get_mut(&stage.id).filter(|p| p.receipt.is_none()) else {
            return mismatch(format!("stage {} is not running", stage.id));
        };
        if body.round == 0 || body.round > stage.rounds_max {
            return mismatch(format!(
                "round {} of stage {}: the terms allow 1 to {}",
                body.round, stage.id, stage.rounds_max
            ));
        }
        let next = progress.rounds_closed.saturating_add(1);
        if body.round > next {
            let (round, id) = (body.round, stage.id);
            return mismatch(format!("round {round} of stage {id}: round {next} was not closed yet"));
        }
        // Two sums of one round over different hospitals differ by what some of them sent.
        let same = |close: &RoundClose| {
            (close.stage, close.round) == (body.stage, body.round) && close.survivors == body.survivors
        };
        if body.round <= progress.rounds_closed && !contract.round_close.as_ref().is_some_and(same) {
            return mismatch(format!(
                "round {} of stage {} was closed already: only the round closed last may be closed again, over the same hospitals",
                body.round, stage.id
            ));
        }
        progress.rounds_closed = body.round;
        contract.round_close = Some(body.clone());
        Ok(Vec::new())
    }

    pub(super) fn stage_receipt(&self, contract: &mut Contract, body: &StageReceipt) -> Money {
        self.in_time(contract)?;
        let stage = find(contract, body.stage)?.clone();
        self.check_receipt(contract, &stage, body)?;
        let Some(progress) = contract.stages.get_mut(&stage.id).filter(|p| p.receipt.is_none()) else {
            return mismatch(format!("stage {} is not running", stage.id));
        };
        progress.receipt = Some(body.clone());
        Ok(Vec::new())
    }

    fn check_receipt(&self, contract: &Contract, stage: &Stage, body: &StageReceipt) -> Result<(), Reason> {
        let terms = &contract.terms;
        if body.rounds == 0 || body.rounds > stage.rounds_max {
            return mismatch(format!("{} rounds: the terms allow 1 to {}", body.rounds, stage.rounds_max));
        }
        if terms.algorithm(&stage.algorithm).is_none_or(|a| a.digest != body.algorithm_digest) {
            return mismatch("another algorithm ran than the terms name");
        }
        let owners = terms.stage_owners(stage);
        if !body.hospitals.is_sorted_by(|a, b| a < b) || !body.hospitals.iter().all(|h| owners.contains(h)) {
            return mismatch("hospitals are owners of this stage's inputs, sorted, each once");
        }
        if !owners.is_empty() && body.hospitals.len() < usize::from(terms.privacy.hospitals_min) {
            return mismatch(format!(
                "{} hospitals took part, the terms ask for {}",
                body.hospitals.len(),
                terms.privacy.hospitals_min
            ));
        }
        let inputs = stage.inputs.iter().filter_map(|id| terms.input(id)).filter(|i| body.hospitals.contains(&i.owner));
        let cap: u64 = inputs.fold(0, |sum, i| sum.saturating_add(i.row_cap));
        let counted = body.rows_used.saturating_add(body.rows_rejected);
        if body.rows_requested > cap || counted > body.rows_requested {
            let requested = body.rows_requested;
            return mismatch(format!("{counted} rows used and rejected of {requested} requested, of at most {cap}"));
        }
        let earlier = contract.stages.values().filter_map(|p| p.receipt.as_ref());
        let spent = earlier.fold(body.epsilon_micro_spent, |sum, r| sum.saturating_add(r.epsilon_micro_spent));
        if spent > terms.privacy.epsilon_micro {
            let budget = terms.privacy.epsilon_micro;
            return mismatch(format!("{spent} micro-epsilon spent in all, the terms allow {budget}"));
        }
        Ok(())
    }

    pub(super) fn stage_accept(&self, contract: &mut Contract, body: &StageAccept) -> Money {
        let Some(progress) = contract.stages.get_mut(&body.stage).filter(|p| p.receipt.is_some()) else {
            return mismatch(format!("stage {} has no receipt yet", body.stage));
        };
        let depends = contract.terms.stages.iter().any(|s| s.after.contains(&body.stage) && s.executor == self.actor);
        if self.is_coordinator() && !depends && contract.terms.delivery.recipient != self.actor {
            let window_ms = contract.terms.windows.accept_within_ms;
            self.after("the consumer's time is not over before", progress.started_ms.saturating_add(window_ms))?;
        }
        progress.accepted = true;
        Ok(Vec::new())
    }

    pub(super) fn clear(&self, contract: &mut Contract, body: &Clear) -> Money {
        self.in_time(contract)?;
        if !contract.terms.delivery.review {
            return mismatch("these terms ask for no review of the result");
        }
        if !contract.stages_over(self.seq_ms) {
            return mismatch("not every stage is done, so there is no result to look at");
        }
        contract.cleared.insert(self.actor.clone(), body.result_commitment);
        Ok(Vec::new())
    }

    pub(super) fn deliver(&self, contract: &mut Contract, body: &Deliver) -> Money {
        self.in_time(contract)?;
        if body.recipient != contract.terms.delivery.recipient {
            return mismatch(format!("the recipient is {}", contract.terms.delivery.recipient));
        }
        if let Some(stage) = contract.terms.stages.iter().find(|s| !contract.stage_over(s, self.seq_ms)) {
            return mismatch(format!("stage {} ({}) is not done", stage.id, stage.name));
        }
        if contract.stages.values().all(|p| p.receipt.is_none()) {
            return mismatch("no stage has a receipt, so there is nothing to deliver");
        }
        let missing: Vec<String> =
            contract.missing_clearances(&body.result_commitment).iter().map(ToString::to_string).collect();
        if !missing.is_empty() {
            return mismatch(format!("{} did not look at this result and let it go", missing.join(", ")));
        }
        contract.delivery = Some(DeliveryRecord {
            index: self.index,
            at_ms: self.seq_ms,
            result_commitment: body.result_commitment,
            recipient: body.recipient.clone(),
        });
        contract.phase = Phase::Delivered;
        Ok(Vec::new())
    }
}

pub(super) fn find(contract: &Contract, stage: u32) -> Result<&Stage, Reason> {
    contract.terms.stage(stage).ok_or_else(|| Reason::Mismatch(format!("the terms have no stage {stage}")))
}
