//! Bodies of a contract's steps, in the order in which they happen.

use super::hash::{Hash32, X25519Key};
use super::party::{Code, PartyId};
use super::terms::Terms;
use crate::ledger::key::PublicKey;
use serde::{Deserialize, Serialize};

/// Terms for others to sign. The payload's hash is the contract's id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Propose {
    /// The terms.
    pub terms: Terms,
}

/// New terms; earlier acceptances are void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Amend {
    /// The terms.
    pub terms: Terms,
}

/// A signatory agrees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// [`Terms::hash`] of what it agrees to.
    pub terms_hash: Hash32,
    /// Their version, from 1.
    pub terms_version: u32,
    /// Hash of the local policy it decided by.
    pub policy_hash: Hash32,
}

/// A signatory does not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reject {
    /// Why.
    pub code: Code,
}

/// The payer's credits are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fund {
    /// Total and deposit, credits.
    pub amount: u64,
}

/// The contract becomes executable. `Contract::arm_body` makes it; every field must be what the ledger says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// The terms.
    pub terms_hash: Hash32,
    /// [`Terms::dag_root`].
    pub dag_root: Hash32,
    /// Payload hashes of the Accepts, in the order of the parties' names.
    pub accepts: Vec<Hash32>,
    /// Payload hash of the Fund, if something is paid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub funding: Option<Hash32>,
    /// Payload hashes of the BudgetReserves, in the order of the data sets' names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reservations: Vec<Hash32>,
}

/// A hospital's keys for this job's secure sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRecord {
    /// Signs what it sends.
    pub verify: PublicKey,
    /// Shares are encrypted to it.
    pub channel: X25519Key,
}

/// One member of the key directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its Shamir point, from 1, fixed for the job.
    pub index: u16,
    /// The hospital.
    pub party: PartyId,
    /// From its KeyRecord.
    pub verify: PublicKey,
    /// From its KeyRecord.
    pub channel: X25519Key,
}

/// The key directory is frozen before the first round; a second one (after a hospital lost its keys) starts a new epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundFreeze {
    /// By increasing index.
    pub members: Vec<Member>,
    /// Shamir threshold: at least the terms', more than half of the members.
    pub threshold: u16,
}

/// A stage begins, or is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageStart {
    /// Which.
    pub stage: u32,
}

/// A round's survivors are fixed, where the log records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundClose {
    /// Which stage.
    pub stage: u32,
    /// Which round, from 1.
    pub round: u32,
    /// Which attempt, from 1; greater than any before in this contract.
    pub slot: u32,
    /// Who took part, sorted.
    pub survivors: Vec<PartyId>,
    /// Hash of the round's transcript.
    pub transcript: Hash32,
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageReceipt {
    /// Which.
    pub stage: u32,
    /// Rounds completed.
    pub rounds: u32,
    /// Digest of the code that ran.
    pub algorithm_digest: Hash32,
    /// Commitment to what went in.
    pub input_commitment: Hash32,
    /// Commitment to what came out.
    pub output_commitment: Hash32,
    /// Rows asked for, all hospitals together; at least so many where something is withheld.
    pub rows_requested: u64,
    /// Rows computed on.
    pub rows_used: u64,
    /// Rows left out, for missing or invalid values, as far as their number may be told.
    pub rows_rejected: u64,
    /// Numbers that disclosure control keeps out of the result and out of this receipt.
    pub withheld: u32,
    /// Hospitals whose data is in the output, sorted.
    pub hospitals: Vec<PartyId>,
    /// Privacy budget spent, millionths of epsilon for each data set.
    pub epsilon_micro_spent: u64,
}

/// The consumer of a stage's output has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageAccept {
    /// Which.
    pub stage: u32,
}

/// A hospital has looked at the result, and lets it go to the recipient: what [`super::terms::Delivery::review`] asks of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Clear {
    /// Commitment to the result that it looked at; only that one may be delivered.
    pub result_commitment: Hash32,
}

/// The result is ready.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deliver {
    /// Commitment to the encrypted result.
    pub result_commitment: Hash32,
    /// To whom.
    pub recipient: PartyId,
}

/// The recipient has the result, or its time to object has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptResult {}

/// A signatory objects to the result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dispute {
    /// Why.
    pub code: Code,
}

/// What arbiters decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Outcome {
    /// The result stands and is paid.
    Accepted,
    /// Nothing is paid.
    Aborted,
    /// Each share is paid in part.
    Split {
        /// The part, in 1/10,000.
        basis_points: u32,
    },
}

/// One arbiter's decision; in force when a majority of the arbiters decided the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resolve {
    /// The decision.
    pub outcome: Outcome,
    /// Whether the payer's deposit goes to the others.
    pub forfeit_deposit: bool,
}

/// One party's share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Posting {
    /// Who.
    pub party: PartyId,
    /// How much, credits.
    pub credits: u64,
}

/// What is paid: a pure function of the receipts (`settlement.rs`), written down so that everybody can compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settle {
    /// In the order of the terms' splits; parties that earned nothing included.
    pub postings: Vec<Posting>,
    /// Goes back to the payer, credits.
    pub returned: u64,
}

/// Work stops within one round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Suspend {
    /// Why.
    pub code: Code,
}

/// Who suspended lets it go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {}

/// An owner takes its data out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revoke {
    /// Names of its data sets in the terms: all of them, sorted. A part cannot be taken out of a sum.
    pub datasets: Vec<Code>,
}

/// The contract ends without a result: when every signatory said so, or by the coordinator under the failure rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Abort {
    /// Why.
    pub code: Code,
    /// The stage that failed; needed by the failure rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<u32>,
    /// Who caused it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub party: Option<PartyId>,
}

/// A window has passed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expire {}
