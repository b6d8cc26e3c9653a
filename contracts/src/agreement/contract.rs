//! One contract: what was signed, what has happened since, and questions about it.

use super::accounts::TransferId;
use super::body::{Arm, BodyError, KeyRecord, Kind, Member, Outcome, Resolve, RoundClose, StageReceipt, Verdict};
use super::hash::{ContractId, Hash32};
use super::party::{Code, PartyId};
use super::table::Phase;
use super::terms::{OnFailure, Stage, Terms};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A contract as replayed from the ledger. The fields are read freely; only the state machine makes and changes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Contract {
    /// Payload hash of its Propose.
    pub id: ContractId,
    /// Who proposed it.
    pub initiator: PartyId,
    /// Where it stands.
    pub phase: Phase,
    /// The terms in their present version.
    pub terms: Arc<Terms>,
    /// [`Terms::hash`] of them.
    pub terms_hash: Hash32,
    /// From 1; each Amend adds one.
    pub terms_version: u32,
    /// Leaf hash of the last sequential step: what the next one names as `prev`.
    pub head: Hash32,
    /// Index of the entry that proposed it.
    pub proposed_index: u64,
    /// Who has signed this version.
    pub accepts: BTreeMap<PartyId, AcceptRecord>,
    /// What the payer holds for it.
    pub funding: Option<Funding>,
    /// Privacy budget held for it, by data set (`owner/name`).
    pub reservations: BTreeMap<String, Reservation>,
    /// Set by Arm.
    pub armed: Option<Armed>,
    /// The hospitals' keys for this job, latest each.
    pub key_records: BTreeMap<PartyId, KeyRecord>,
    /// The frozen key directory of the secure sum.
    pub directory: Option<Directory>,
    /// Stages that have started, by id.
    pub stages: BTreeMap<u32, StageProgress>,
    /// The last RoundClose: there is one for a slot, and slots only grow.
    pub round_close: Option<RoundClose>,
    /// Which result each hospital has looked at and let go, where the terms ask for that.
    pub cleared: BTreeMap<PartyId, Hash32>,
    /// Set by Deliver.
    pub delivery: Option<DeliveryRecord>,
    /// Set by Dispute: the reason.
    pub disputed: Option<Code>,
    /// What arbiters decided so far.
    pub decisions: BTreeMap<PartyId, Resolve>,
    /// The decision in force.
    pub resolved: Option<Resolve>,
    /// Set by Settle: credits by party, and what went back.
    pub settled: Option<super::body::Settle>,
    /// Owners who took their data out, with the entry's index.
    pub revoked: BTreeMap<PartyId, u64>,
    /// Who stopped it.
    pub suspension: Suspension,
    /// Signatories who want it to end.
    pub abort_votes: BTreeSet<PartyId>,
    /// What admins said, in order.
    pub reviews: Vec<Review>,
    /// How and when it ended, once it is terminal.
    pub ended: Option<Ended>,
}

/// An acceptance in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptRecord {
    /// Payload hash of the Accept: what Arm names.
    pub payload: Hash32,
    /// The signatory's local policy.
    pub policy_hash: Hash32,
    /// Index of the entry.
    pub index: u64,
}

/// Credits held for a contract: one hold for each split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funding {
    /// Payload hash of the Fund.
    pub payload: Hash32,
    /// Total and deposit.
    pub credits: u64,
    /// The holds, in the order of the terms' splits.
    pub holds: Vec<TransferId>,
}

/// Privacy budget held for a contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Payload hash of the BudgetReserve.
    pub payload: Hash32,
    /// The hold.
    pub hold: TransferId,
    /// Millionths of epsilon.
    pub epsilon_micro: u64,
}

/// The contract is executable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Armed {
    /// Index of the Arm entry: what a worker asks a proof for.
    pub index: u64,
    /// Its sequenced time, Unix milliseconds.
    pub at_ms: u64,
    /// Its payload hash.
    pub payload: Hash32,
}

/// The frozen key directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// From 1; each RoundFreeze adds one.
    pub epoch: u32,
    /// By increasing index.
    pub members: Vec<Member>,
    /// Shamir threshold.
    pub threshold: u16,
    /// Index of the RoundFreeze entry.
    pub index: u64,
}

/// A stage that has started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageProgress {
    /// Sequenced time of the latest try, Unix milliseconds.
    pub started_ms: u64,
    /// Tries, from 1.
    pub tries: u32,
    /// Highest round that a RoundClose named; none is skipped.
    pub rounds_closed: u32,
    /// What it did, once it is done.
    pub receipt: Option<StageReceipt>,
    /// Whether the consumer said it has the output.
    pub accepted: bool,
}

/// The result is with the recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeliveryRecord {
    /// Index of the Deliver entry.
    pub index: u64,
    /// Its sequenced time, Unix milliseconds.
    pub at_ms: u64,
    /// Commitment to the encrypted result.
    pub result_commitment: Hash32,
    /// To whom.
    pub recipient: PartyId,
}

/// Who stopped a contract.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// Owners.
    pub owners: BTreeSet<PartyId>,
    /// Admins who want it stopped; it is stopped by a majority of the network's.
    pub admins: BTreeSet<PartyId>,
    /// Admins who want it to go on again.
    pub admins_resume: BTreeSet<PartyId>,
    /// Whether a majority of the admins stopped it.
    pub by_admins: bool,
    /// The phase to go back to.
    pub from: Option<Phase>,
}

/// What an admin said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Review {
    /// Who.
    pub admin: PartyId,
    /// The view.
    pub verdict: Verdict,
    /// Why.
    pub code: Code,
    /// Index of the entry.
    pub index: u64,
}

/// How a contract ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// The step that ended it.
    pub by: Kind,
    /// Who took that step.
    pub actor: PartyId,
    /// Its code, where the step has one.
    pub code: Option<Code>,
    /// Index of the entry.
    pub index: u64,
    /// Its sequenced time, Unix milliseconds.
    pub at_ms: u64,
}

impl Contract {
    /// The data owners of the terms, sorted, revoked ones included.
    #[must_use]
    pub fn owners(&self) -> Vec<PartyId> {
        self.terms.owners()
    }

    /// The data owners who have not revoked, sorted.
    #[must_use]
    pub fn active_owners(&self) -> Vec<PartyId> {
        self.terms.owners().into_iter().filter(|o| !self.revoked(o)).collect()
    }

    /// Whether an owner took its data out.
    #[must_use]
    pub fn revoked(&self, owner: &PartyId) -> bool {
        self.revoked.contains_key(owner)
    }

    /// Who has to sign, sorted; an owner who revoked no longer does.
    #[must_use]
    pub fn signatories(&self) -> Vec<PartyId> {
        self.terms.signatories().into_iter().filter(|p| !self.revoked(p)).collect()
    }

    /// Signatories who have not signed this version.
    #[must_use]
    pub fn missing_accepts(&self) -> Vec<PartyId> {
        self.signatories().into_iter().filter(|p| !self.accepts.contains_key(p)).collect()
    }

    /// Whether the price is held, or nothing is to be paid.
    #[must_use]
    pub fn is_funded(&self) -> bool {
        self.funding.is_some() || self.terms.price.splits.is_empty()
    }

    /// Data sets (`owner/name`) of active owners whose budget the terms use and is not reserved yet, sorted.
    #[must_use]
    pub fn missing_reservations(&self) -> Vec<String> {
        if self.terms.privacy.epsilon_micro == 0 {
            return Vec::new();
        }
        let active = self.terms.inputs.iter().filter(|i| !self.revoked(&i.owner));
        let mut all: Vec<String> = active.map(|i| dataset_key(&i.owner, &i.dataset)).collect();
        all.sort();
        all.dedup();
        all.retain(|key| !self.reservations.contains_key(key));
        all
    }

    /// The body that arms this contract as it stands.
    ///
    /// # Errors
    /// None for terms that passed [`Terms::validate`].
    pub fn arm_body(&self) -> Result<Arm, BodyError> {
        let dag_root = self.terms.dag_root().map_err(|_| BodyError::Number(Kind::Arm))?;
        Ok(Arm {
            terms_hash: self.terms_hash,
            dag_root,
            accepts: self.accepts.values().map(|a| a.payload).collect(),
            funding: self.funding.as_ref().map(|f| f.payload),
            reservations: self.reservations.values().map(|r| r.payload).collect(),
        })
    }

    /// A stage's receipt, once it is done.
    #[must_use]
    pub fn receipt(&self, stage: u32) -> Option<&StageReceipt> {
        self.stages.get(&stage).and_then(|p| p.receipt.as_ref())
    }

    /// Whether a stage has used up all its tries by a sequenced time without a receipt.
    #[must_use]
    pub fn timed_out(&self, stage: &Stage, now_ms: u64) -> bool {
        self.stages.get(&stage.id).is_some_and(|p| {
            let over = now_ms > p.started_ms.saturating_add(stage.timeout_ms);
            p.receipt.is_none() && p.tries > stage.retries && over
        })
    }

    /// Hospitals whose data is in a stage's output and that have not let this result go, sorted; nobody without a review. One that took
    /// its data out since counts too: the output holds them.
    #[must_use]
    pub fn missing_clearances(&self, result: &Hash32) -> Vec<PartyId> {
        if !self.terms.delivery.review {
            return Vec::new();
        }
        let receipts = self.stages.values().filter_map(|stage| stage.receipt.as_ref());
        let concerned: BTreeSet<&PartyId> = receipts.flat_map(|receipt| &receipt.hospitals).collect();
        concerned.into_iter().filter(|party| self.cleared.get(*party) != Some(result)).cloned().collect()
    }

    /// Whether every stage has come to its end, so that there is a result to look at.
    #[must_use]
    pub fn stages_over(&self, now_ms: u64) -> bool {
        self.terms.stages.iter().all(|stage| self.stage_over(stage, now_ms))
            && self.stages.values().any(|progress| progress.receipt.is_some())
    }

    /// Whether later stages need not wait for this one any more: it is done, or it failed and the terms say to go on.
    #[must_use]
    pub fn stage_over(&self, stage: &Stage, now_ms: u64) -> bool {
        self.receipt(stage.id).is_some() || (stage.on_failure == OnFailure::Continue && self.timed_out(stage, now_ms))
    }

    /// The lowest stage that is not done: where the work is.
    #[must_use]
    pub fn current_stage(&self) -> Option<&Stage> {
        self.terms.stages.iter().find(|s| self.receipt(s.id).is_none())
    }

    /// When silence accepts the result, Unix milliseconds.
    #[must_use]
    pub fn accept_by_ms(&self) -> Option<u64> {
        self.delivery.as_ref().map(|d| d.at_ms.saturating_add(self.terms.windows.accept_within_ms))
    }

    /// When even a dispute is over; holds time out right after it, Unix milliseconds: the run window, twice the acceptance window, 30 days.
    #[must_use]
    pub fn final_ms(&self) -> u64 {
        let w = &self.terms.windows;
        w.run_by_ms.saturating_add(w.accept_within_ms.saturating_mul(2)).saturating_add(GRACE_MS)
    }

    /// Whether the others can go on without an owner: every stage that reads it says so, and enough hospitals stay for each.
    #[must_use]
    pub fn goes_on_without(&self, owner: &PartyId) -> bool {
        let stays = |o: &PartyId| o != owner && !self.revoked(o);
        let pending = self.terms.stages.iter().filter(|s| self.receipt(s.id).is_none());
        let mut reads = pending.map(|s| (s, self.terms.stage_owners(s))).filter(|(_, owners)| owners.contains(owner));
        reads.all(|(stage, owners)| {
            let left = owners.iter().filter(|o| stays(o)).count();
            let enough = left >= usize::from(self.terms.privacy.hospitals_min.max(self.terms.privacy.threshold));
            stage.on_failure == OnFailure::Continue && enough
        })
    }

    /// The part of each share that arbiters left, in 1/10,000.
    #[must_use]
    pub fn paid_basis_points(&self) -> u32 {
        match self.resolved.map(|r| r.outcome) {
            None | Some(Outcome::Accepted) => 10_000,
            Some(Outcome::Aborted) => 0,
            Some(Outcome::Split { basis_points }) => basis_points.min(10_000),
        }
    }
}

/// The key of a data set across owners.
#[must_use]
pub fn dataset_key(owner: &PartyId, name: &Code) -> String {
    format!("{owner}/{name}")
}

const GRACE_MS: u64 = 30 * 24 * 3600 * 1000;
