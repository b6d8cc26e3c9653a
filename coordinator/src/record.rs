//! What a job writes on the ledger, and the result it delivers.

use std::collections::BTreeMap;

use leben_models::bundle::{Bundle, StageResult, commitment};
use leben_privacy::seal;
use leben_privacy::secure_sum::{self, Directory, Member, MemberKeys};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, Finished};
use crate::plan::Plan;

/// One step that a job asks the ledger to record.
#[derive(Clone, Debug)]
pub enum Record {
    /// The directory of the secure sum, fixed before the first round.
    RoundFreeze(Directory),
    /// A stage begins.
    StageStart {
        /// Its id.
        stage: u32,
    },
    /// Who is in the sum of one slot, where the ledger is what makes it the only answer.
    RoundClose {
        /// Stage id.
        stage: u32,
        /// Round, from 1.
        round: u32,
        /// Slot, from 1.
        slot: u64,
        /// Hospitals in the sum.
        survivors: Vec<String>,
        /// What the slot's masks and signatures are bound to.
        transcript: [u8; 32],
    },
    /// A stage is done.
    StageReceipt(Box<Receipt>),
    /// The result is there.
    Deliver {
        /// Who can open it.
        recipient: String,
        /// See [`commitment`].
        result_commitment: [u8; 32],
    },
    /// The job cannot go on.
    Abort {
        /// What the ledger holds: it takes no free text.
        code: String,
        /// In words, for logs and the display.
        reason: String,
        /// The stage that could not be done.
        stage: Option<u32>,
    },
}

impl Record {
    /// Names the step, so that it is asked for once.
    pub fn key(&self) -> String {
        match self {
            Record::RoundFreeze(_) => "freeze".into(),
            Record::StageStart { stage } => format!("start-{stage}"),
            Record::RoundClose { slot, .. } => format!("close-{slot}"),
            Record::StageReceipt(receipt) => format!("receipt-{}", receipt.stage),
            Record::Deliver { .. } => "deliver".into(),
            Record::Abort { .. } => "abort".into(),
        }
    }
}

/// What a finished stage puts on the ledger.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// Stage id.
    pub stage: u32,
    /// Rounds it took.
    pub rounds: u32,
    /// Digest of the algorithm that ran.
    pub algorithm_digest: [u8; 32],
    /// Digest of the state it started from.
    pub input_commitment: [u8; 32],
    /// Digest of the state it left, with the transcripts of its rounds.
    pub output_commitment: [u8; 32],
    /// Rows the hospitals looked at, summed.
    pub rows_requested: u64,
    /// Rows used, summed.
    pub rows_used: u64,
    /// Rows left out, summed, as far as their number may be told.
    pub rows_rejected: u64,
    /// Numbers that disclosure control withholds.
    pub withheld: u32,
    /// Hospitals in the last round's sum.
    pub hospitals: Vec<String>,
    /// What this stage adds to the privacy spent by those before it, millionths of epsilon.
    pub epsilon_micro_spent: u64,
}

/// The directory of those hospitals whose keys are on the ledger. Seats keep their numbers.
pub fn directory(plan: &Plan, keys: &BTreeMap<String, MemberKeys>) -> Directory {
    let member = |(index, hospital): (u16, String)| {
        keys.get(&hospital).map(|keys| Member { index, hospital: hospital.clone(), keys: *keys })
    };
    let members: Vec<Member> = plan.seats().filter_map(member).collect();
    // The terms may ask for more shares than the secure sum needs, never for fewer. Below two thirds each close goes on the
    // ledger.
    let least = secure_sum::threshold_ledger(u16::try_from(members.len()).unwrap_or(u16::MAX));
    Directory { job: plan.contract, members, threshold: plan.threshold.max(least) }
}

/// The receipt of a finished stage.
pub fn receipt(plan: &Plan, checkpoint: &Checkpoint, id: u32) -> Option<Record> {
    let stage = plan.stages.iter().find(|stage| stage.id == id)?;
    let finished = checkpoint.finished.get(&id)?;
    let rows = &finished.outcome.rows;
    // Counts with noise may be above what there can be; the ledger takes no such receipt.
    let capped = finished.hospitals.iter().filter_map(|hospital| stage.row_caps.get(hospital));
    let cap = capped.fold(0u64, |sum, cap| sum.saturating_add(*cap));
    let (requested, used) = (rows.requested.min(cap), rows.used.min(cap));
    let rounds = |stage: u32| checkpoint.finished.get(&stage).map_or(0, |finished| finished.rounds);
    Some(Record::StageReceipt(Box::new(Receipt {
        stage: id,
        rounds: finished.rounds,
        algorithm_digest: stage.digest,
        input_commitment: unhex(&finished.started_from),
        output_commitment: output_commitment(finished),
        rows_requested: requested,
        rows_used: used,
        rows_rejected: rows.rejected.values().sum(),
        withheld: u32::try_from(finished.outcome.withheld().len()).unwrap_or(u32::MAX),
        hospitals: finished.hospitals.clone(),
        epsilon_micro_spent: plan.epsilon_added(id, rounds),
    })))
}

/// A result, the same after every restart.
pub struct Made {
    /// What it says, in the bytes that it is committed to.
    pub bundle: Vec<u8>,
    /// The same, for the recipient alone.
    pub sealed: Vec<u8>,
    /// What the ledger holds of it.
    pub commitment: [u8; 32],
    /// The step that delivers it.
    pub record: Record,
}

/// The result and the step that records it.
pub fn result(plan: &Plan, checkpoint: &Checkpoint) -> Result<Made, String> {
    let seed = unhex(&checkpoint.seed);
    let stages = plan.stages.iter().filter_map(|stage| {
        let finished = checkpoint.finished.get(&stage.id)?;
        Some(StageResult {
            id: stage.id,
            name: stage.name.clone(),
            rounds: finished.rounds,
            hospitals: finished.hospitals.clone(),
            trace: finished.trace.clone(),
            outcome: finished.outcome.clone(),
        })
    });
    let bundle = Bundle {
        v: 1,
        contract: hex::encode(plan.contract),
        salt: hex::encode(derive(&seed, b"salt")),
        stages: stages.collect(),
    };
    let bytes = serde_json::to_vec(&bundle).map_err(|error| format!("the result could not be written: {error}"))?;
    let sealed = seal::seal(&plan.sealing, &plan.contract, &bytes, derive(&seed, b"seal"))
        .map_err(|error| format!("the result could not be sealed to {}: {error}", plan.recipient))?;
    let commitment = commitment(&bytes);
    let record = Record::Deliver { recipient: plan.recipient.clone(), result_commitment: commitment };
    Ok(Made { bundle: bytes, sealed, commitment, record })
}

/// One more link of the hash chain over a stage's transcripts: SHA-256("leben/transcripts/1" || chain || transcript), hex.
/// A chain, so that a restart in the middle of a stage goes on with it.
pub fn chain_transcript(chain: &str, transcript: &[u8; 32]) -> String {
    let link = Sha256::new_with_prefix(b"leben/transcripts/1").chain_update(chain).chain_update(transcript);
    hex::encode(link.finalize())
}

fn output_commitment(finished: &Finished) -> [u8; 32] {
    Sha256::new()
        .chain_update(b"leben/output/1")
        .chain_update(unhex(&finished.state))
        .chain_update(unhex(&finished.transcripts))
        .finalize()
        .into()
}

fn derive(seed: &[u8; 32], what: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"leben/result-seed/1").chain_update(seed).chain_update(what).finalize().into()
}

/// A digest this process wrote as hex; anything else reads as zeros and then fits no ledger entry.
fn unhex(text: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    if hex::decode_to_slice(text, &mut bytes).is_err() {
        bytes = [0; 32];
    }
    bytes
}
