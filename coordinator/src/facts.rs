//! What the final part of the ledger says about one contract, in the words a job needs.

use std::collections::{BTreeMap, BTreeSet};

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::table::Phase;
use leben_privacy::secure_sum::{Directory, Member, MemberKeys};

/// Where a contract stands, by entries that a quorum has cosigned.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The phase's word in CONTRACTS' table.
    pub phase: String,
    /// Nothing leaves this phase.
    pub terminal: bool,
    /// No new round may begin.
    pub suspended: bool,
    /// Owners that took their data back.
    pub revoked: BTreeSet<String>,
    /// Each hospital's keys for this job.
    pub key_records: BTreeMap<String, MemberKeys>,
    /// The frozen directory.
    pub directory: Option<Directory>,
    /// Stages whose start is recorded.
    pub started: BTreeSet<u32>,
    /// Stages whose receipt is recorded.
    pub receipts: BTreeSet<u32>,
    /// Slot of the last close on the ledger, 0 for none.
    pub closed_slot: u64,
    /// Which result each hospital let go.
    pub cleared: BTreeMap<String, [u8; 32]>,
    /// The result's commitment is recorded.
    pub delivered: bool,
}

impl Facts {
    /// Reads a contract.
    pub fn of(contract: &Contract) -> Facts {
        let keys = contract.key_records.iter().map(|(party, record)| {
            let keys = MemberKeys { verify: record.verify.to_bytes(), channel: record.channel.0 };
            (party.to_string(), keys)
        });
        let directory = contract.directory.as_ref().map(|directory| Directory {
            job: contract.id.0,
            threshold: directory.threshold,
            members: directory
                .members
                .iter()
                .map(|member| Member {
                    index: member.index,
                    hospital: member.party.to_string(),
                    keys: MemberKeys { verify: member.verify.to_bytes(), channel: member.channel.0 },
                })
                .collect(),
        });
        let stages = &contract.stages;
        Facts {
            phase: contract.phase.to_string(),
            terminal: contract.phase.is_terminal(),
            suspended: contract.phase == Phase::Suspended,
            revoked: contract.revoked.keys().map(ToString::to_string).collect(),
            key_records: keys.collect(),
            directory,
            started: stages.keys().copied().collect(),
            receipts: stages.iter().filter(|(_, stage)| stage.receipt.is_some()).map(|(id, _)| *id).collect(),
            closed_slot: contract.round_close.as_ref().map_or(0, |close| u64::from(close.slot)),
            cleared: contract.cleared.iter().map(|(party, result)| (party.to_string(), result.0)).collect(),
            delivered: contract.delivery.is_some(),
        }
    }

    /// Whether a job runs, or should, for a contract in this phase.
    pub fn is_executable(contract: &Contract) -> bool {
        contract.armed.is_some()
    }
}
