//! Orders of running jobs: every one is compared with the certified ledger first, and answered, if only with a refusal.

use std::collections::VecDeque;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::table::Phase;
use leben_models::State;
use leben_models::state::StateError;
use leben_privacy::secure_sum::{JobKeys, Journal, MemberKeys, Participant};
use leben_protocol::frame::{ContractId, JobOrder, JobReport, Report};
use leben_protocol::reject::Reject;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{Action, Agent, StoredJob};
use crate::budget::{Budget, Budgets};
use crate::consent::{self, Desk};
use crate::participate::{JobAction, Participation, Work};
use crate::refusal::{Reason, Refusal};

/// Orders kept of one job until the ledger that they build on is certified here.
const HELD_MAX: usize = 16;
/// Jobs of which orders are kept.
const HELD_JOBS_MAX: usize = 64;

/// One job at this hospital.
#[derive(Default)]
pub(super) struct Job {
    pub(super) seed: Option<Zeroizing<[u8; 32]>>,
    pub(super) journal: Journal,
    pub(super) participation: Option<Participation>,
    /// Epoch of the directory that the participation was made with.
    pub(super) epoch: u32,
    /// Orders that came before the ledger they build on.
    held: VecDeque<JobOrder>,
    /// Why the hospital left it.
    pub(super) left: Option<Refusal>,
}

impl Job {
    pub(super) fn restored(stored: StoredJob) -> Job {
        // With another secret a round that was closed would be repeated under fresh noise.
        let begun = stored.pinned || stored.journal != Journal::default();
        let lost = "the secret of this job's keys (`seed` in its folder below jobs/) is gone, and something of the job has left \
                    this hospital: stop the agent and put it back, or leave the contract";
        let left = (begun && stored.seed.is_none()).then(|| Refusal::new(Reason::SecretLost, lost));
        Job { seed: stored.seed, journal: stored.journal, left, ..Job::default() }
    }

    pub(super) fn keys(&self) -> Option<JobKeys> {
        self.seed.as_ref().map(|seed| JobKeys::from_seed(**seed))
    }

    pub(super) fn public_keys(&self) -> Option<MemberKeys> {
        self.keys().map(|keys| keys.public())
    }
}

/// Reasons that may pass by themselves: the hospital stays in the job.
fn may_pass(reason: Reason) -> bool {
    use Reason::{
        Clock, DirectoryKeys, Ledger, Malformed, NoDirectory, NotExecutable, RowsChanged, SecureSum, Slot, Suspended,
        UnknownContract,
    };
    matches!(
        reason,
        Clock
            | DirectoryKeys
            | Ledger
            | Malformed
            | NoDirectory
            | NotExecutable
            | RowsChanged
            | SecureSum
            | Slot
            | Suspended
            | UnknownContract
    )
}

/// Counts the round of a job with a privacy mechanism.
fn count_round(budgets: &mut Budgets, work: &Work) -> Result<Option<Budget>, Refusal> {
    if !work.plan.private {
        return Ok(None);
    }
    let dataset = &work.plan.stage(work.stage)?.input.dataset;
    budgets.count(&Hash32(work.contract), dataset, work.stage, work.round)
}

/// What the noise of a private round is drawn from, together with the rows. A round that was closed may be opened again in
/// another slot, and counts once: with fresh noise whoever opens it often enough would average the noise away.
fn round_secret(seed: &[u8; 32], work: &Work) -> [u8; 32] {
    Sha256::new_with_prefix(b"leben/round-secret/1")
        .chain_update(seed)
        .chain_update(work.contract)
        .chain_update(work.stage.to_be_bytes())
        .chain_update(work.round.to_be_bytes())
        .chain_update(work.hospitals_max.to_be_bytes())
        .chain_update(work.model_digest)
        .chain_update(work.layout.digest())
        .finalize()
        .into()
}

/// The slot that an order is about; 0 for the whole job.
fn slot_of(order: &JobOrder) -> u64 {
    match order {
        JobOrder::Advertise { slot } | JobOrder::Keys { slot, .. } | JobOrder::Abandoned { slot } => *slot,
        JobOrder::Open { opening, .. } => opening.slot,
        JobOrder::Close { close, .. } => close.slot,
        JobOrder::Agreed(agreement) => agreement.slot,
        JobOrder::Review { .. } | JobOrder::Stop { .. } => 0,
    }
}

impl Agent {
    pub(super) fn handle_job_order(&mut self, now_ms: u64, id: ContractId, order: JobOrder) {
        let slot = slot_of(&order);
        if let JobOrder::Review { digest, bytes } = order {
            return self.handle_review(id, digest, bytes);
        }
        match &order {
            JobOrder::Stop { .. } | JobOrder::Abandoned { .. } => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.held.retain(|held| !matches!(order, JobOrder::Stop { .. }) && slot_of(held) != slot);
                }
                if self.jobs.get(&id).is_none_or(|job| job.participation.is_none()) {
                    return;
                }
            }
            _ => {}
        }
        if let Err(refusal) = self.may_listen(now_ms, &id, &order) {
            return match self.is_early(&id, &refusal) {
                true => self.hold(id, order),
                false => self.refuse_job(now_ms, &id, slot, &refusal),
            };
        }
        let seed = *self.fresh_seed();
        let Some(participation) = self.jobs.get_mut(&id).and_then(|job| job.participation.as_mut()) else { return };
        let done = participation.handle_order(order, seed);
        self.settle_job(now_ms, &id, slot, done);
    }

    /// The model state that [`Action::FetchState`] asked for, in memory.
    pub fn handle_state(&mut self, now_ms: u64, id: &ContractId, bytes: &[u8]) {
        self.handle_fetched(now_ms, id, Sha256::digest(bytes).into(), State::from_bytes(bytes));
    }

    /// The same as it was read from a file: the SHA-256 over all bytes of the file, and the state.
    pub fn handle_fetched(&mut self, now_ms: u64, id: &ContractId, digest: [u8; 32], state: Result<State, StateError>) {
        let Some(participation) = self.jobs.get_mut(id).and_then(|job| job.participation.as_mut()) else { return };
        let slot = participation.waiting_slot().unwrap_or(0);
        let done = participation.handle_fetched(digest, state);
        self.settle_job(now_ms, id, slot, done);
    }

    /// The coordinator does not give the model state that it ordered.
    pub fn handle_no_state(&mut self, now_ms: u64, id: &ContractId, reject: &Reject) {
        let slot = self.jobs.get(id).and_then(|job| job.participation.as_ref()?.waiting_slot()).unwrap_or(0);
        let refusal = Refusal::new(Reason::Malformed, format!("the model state could not be fetched: {reject}"));
        self.refuse_job(now_ms, id, slot, &refusal);
    }

    /// Every chunk of the slot's vector was taken; `root` is over exactly those.
    pub fn handle_streamed(&mut self, now_ms: u64, id: &ContractId, slot: u64, root: [u8; 32]) {
        let seed = *self.fresh_seed();
        self.counters.rounds += 1;
        let Some(participation) = self.jobs.get_mut(id).and_then(|job| job.participation.as_mut()) else { return };
        let done = participation.handle_streamed(slot, root, seed);
        self.settle_job(now_ms, id, slot, done);
    }

    /// The local half of a slot could not be done. The hospital stays in the job only where that may pass: a person can put a file
    /// back as it was before the round is attempted again.
    pub fn handle_unworkable(&mut self, now_ms: u64, id: &ContractId, slot: u64, refusal: &Refusal) {
        self.audit(now_ms, "unworkable", Some(id), Some(refusal));
        let final_ = !may_pass(refusal.reason);
        if let Some(job) = self.jobs.get_mut(id) {
            if final_ {
                job.left = Some(refusal.clone());
            }
            if let Some(participation) = job.participation.as_mut() {
                participation.handle_unworkable(slot, refusal, final_);
            }
        }
        self.settle_job(now_ms, id, slot, Ok(()));
    }

    /// Orders that waited for the ledger, in their order.
    pub(super) fn replay_held(&mut self, now_ms: u64) {
        let waiting: Vec<ContractId> =
            self.jobs.iter().filter(|(_, job)| !job.held.is_empty()).map(|(id, _)| *id).collect();
        for id in waiting {
            let held = self.jobs.get_mut(&id).map(|job| std::mem::take(&mut job.held)).unwrap_or_default();
            held.into_iter().for_each(|order| self.handle_job_order(now_ms, id, order));
        }
    }

    /// Takes part, if consent allows it now.
    pub(super) fn join_job(&mut self, now_ms: u64, id: &ContractId) -> Result<(), Refusal> {
        let standing = self.standings.get(id).cloned().unwrap_or_default();
        standing.check()?;
        let job = self.jobs.entry(*id).or_default();
        let desk = Desk { me: &self.party, declared: &self.declared, budgets: &self.budgets, now_ms };
        let keys = job.public_keys().unwrap_or(MemberKeys { verify: [0; 32], channel: [0; 32] });
        let state = self.mirror.certified();
        let plan = consent::admit(state, id, &desk, standing.approval().as_ref(), &keys)?;
        let epoch = state.contract(&Hash32(*id)).and_then(|c| c.directory.as_ref()).map_or(0, |d| d.epoch);
        if job.participation.is_some() && job.epoch == epoch {
            return Ok(());
        }
        let lost = || Refusal::new(Reason::DirectoryKeys, "the keys of this job are not on the disk");
        let keys = job.keys().ok_or_else(lost)?;
        let participant =
            Participant::new(keys, plan.me, plan.directory.clone(), plan.hospitals_min, job.journal.clone())
                .map_err(|error| Refusal::new(Reason::SecureSum, error.to_string()))?;
        job.participation = Some(Participation::new(*id, plan, participant));
        job.epoch = epoch;
        self.audit(now_ms, "joined", Some(id), None);
        Ok(())
    }

    /// Stops a job that may not go on, or is over.
    pub(super) fn leave_job(&mut self, now_ms: u64, id: &ContractId, reason: &str) {
        let Some(participation) = self.jobs.get_mut(id).and_then(|job| job.participation.as_mut()) else { return };
        // A stop is never refused.
        let done = participation.handle_order(JobOrder::Stop { reason: reason.to_owned() }, [0; 32]);
        self.settle_job(now_ms, id, 0, done);
    }

    /// Whatever the coordinator says: may this hospital listen to it?
    fn may_listen(&mut self, now_ms: u64, id: &ContractId, order: &JobOrder) -> Result<(), Refusal> {
        if matches!(order, JobOrder::Stop { .. } | JobOrder::Abandoned { .. }) {
            return Ok(());
        }
        self.clock.clone().map(|_| ())?;
        if let Some(halted) = self.mirror.halted() {
            return Err(halted.clone());
        }
        if let Some(left) = self.jobs.get(id).and_then(|job| job.left.clone()) {
            return Err(left);
        }
        self.join_job(now_ms, id)?;
        if let JobOrder::Open { opening, .. } = order
            && !self.mirror.is_certified_root(&opening.checkpoint)
        {
            let words = "the slot builds on a ledger that is not certified here";
            return Err(Refusal::new(Reason::NoDirectory, words));
        }
        if let JobOrder::Agreed(agreement) = order {
            self.look_at_close(id, agreement.slot)?;
        }
        Ok(())
    }

    /// Tells the job which close its certified ledger holds.
    fn look_at_close(&mut self, id: &ContractId, slot: u64) -> Result<(), Refusal> {
        let fixed = self.mirror.certified().contract(&Hash32(*id)).and_then(consent::fixed_close);
        let Some(participation) = self.jobs.get_mut(id).and_then(|job| job.participation.as_mut()) else {
            return Ok(());
        };
        participation.handle_fixed(fixed);
        match participation.awaits_ledger(slot) {
            true => Err(Refusal::new(Reason::NoDirectory, "the close of the slot is not certified on the ledger here")),
            false => Ok(()),
        }
    }

    /// Whether a refusal only says that the ledger has not come this far yet.
    fn is_early(&self, id: &ContractId, refusal: &Refusal) -> bool {
        let phase = self.mirror.certified().contract(&Hash32(*id)).map(|contract| contract.phase);
        match refusal.reason {
            Reason::UnknownContract | Reason::NoDirectory => true,
            Reason::NotExecutable => matches!(phase, Some(Phase::Proposed | Phase::PartlySigned | Phase::Signed)),
            _ => false,
        }
    }

    fn hold(&mut self, id: ContractId, order: JobOrder) {
        let others = self.jobs.iter().filter(|(other, job)| **other != id && !job.held.is_empty()).count();
        if others >= HELD_JOBS_MAX {
            return;
        }
        let job = self.jobs.entry(id).or_default();
        job.held.push_back(order);
        if job.held.len() > HELD_MAX {
            job.held.pop_front();
        }
    }

    fn settle_job(&mut self, now_ms: u64, id: &ContractId, slot: u64, done: Result<(), Refusal>) {
        let (mut ended, mut done) = (None, done);
        if let Some(job) = self.jobs.get_mut(id) {
            while let Some(action) = job.participation.as_mut().and_then(Participation::poll_action) {
                let contract = *id;
                let action = match action {
                    JobAction::Remember(journal) => {
                        job.journal = journal.clone();
                        Action::StoreJournal { contract, journal }
                    }
                    JobAction::Report(report) => Action::Report(Report::Job { contract, report }),
                    JobAction::FetchState { digest, bytes } => Action::FetchState { contract, digest, bytes },
                    // Counted on the disk before anything of the round can leave.
                    JobAction::Work(mut work) => match count_round(&mut self.budgets, &work) {
                        Ok(changed) => {
                            if let Some(seed) = job.seed.as_ref().filter(|_| work.plan.private) {
                                work.seed = round_secret(seed, &work);
                            }
                            self.actions.extend(changed.map(|budget| Action::StoreBudget(Box::new(budget))));
                            Action::Work(work)
                        }
                        Err(refusal) => {
                            done = Err(refusal);
                            continue;
                        }
                    },
                    JobAction::Trailer(trailer) => Action::Trailer { contract, trailer },
                    JobAction::Cancel { slot } => Action::Cancel { contract, slot },
                    JobAction::End { reason } => {
                        ended = Some(reason);
                        continue;
                    }
                };
                self.actions.push_back(action);
            }
            if ended.is_some() {
                job.participation = None;
                job.held.clear();
            }
        }
        if let Some(reason) = ended {
            self.audit_words(now_ms, "left", id, reason);
        }
        if let Err(refusal) = done {
            self.refuse_job(now_ms, id, slot, &refusal);
        }
    }

    fn refuse_job(&mut self, now_ms: u64, id: &ContractId, slot: u64, refusal: &Refusal) {
        let final_ = !may_pass(refusal.reason);
        self.audit(now_ms, "refused", Some(id), Some(refusal));
        let report = JobReport::Refused { slot: if final_ { 0 } else { slot }, reject: refusal.to_reject(), final_ };
        self.actions.push_back(Action::Report(Report::Job { contract: *id, report }));
        if final_ {
            if let Some(job) = self.jobs.get_mut(id) {
                job.left.get_or_insert_with(|| refusal.clone());
            }
            self.leave_job(now_ms, id, "refused");
        }
    }
}
