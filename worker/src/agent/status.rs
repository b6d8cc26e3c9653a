//! What people see: one value that the shell writes to `status.json` and counts into metrics. Names, counts and words
//! only; never a value from a row.

use std::collections::BTreeMap;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::table::Phase;
use serde::{Deserialize, Serialize};

use super::{Agent, CLOCK_WARN_MS};
use crate::gossip::Views;

/// What has been counted since the start of the process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Vectors that went into a slot.
    pub rounds: u64,
    /// Refusals, by their code.
    pub refusals: BTreeMap<String, u64>,
    /// Checkpoints cosigned.
    pub cosignatures: u64,
}

/// One contract as this hospital sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContractView {
    /// Its id, hex.
    pub id: String,
    /// Its phase, a word of CONTRACTS' table.
    pub phase: String,
    /// Hash of the terms, hex: what an approval names.
    pub terms_hash: String,
    /// Who asks.
    pub initiator: String,
    /// Waits for a person here.
    pub pending: bool,
    /// Approved here: `steward`, `policy`, or nothing.
    pub approved: Option<String>,
    /// This hospital's signature is on the ledger.
    pub accepted: bool,
    /// Stopped or refused by a person here.
    pub stopped: Option<String>,
    /// What stands in the way here: a code and words.
    pub obstacle: Option<String>,
    /// The job runs here now.
    pub running: bool,
    /// The terms in words.
    pub text: String,
}

/// One declared data set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatasetView {
    /// Its name.
    pub name: String,
    /// Columns declared.
    pub columns: usize,
    /// Rows, rounded; `None` if the table has not been read.
    pub rows_rounded: Option<u64>,
    /// The offer is on the certified ledger.
    pub offered: bool,
}

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This hospital.
    pub party: String,
    /// The network's log.
    pub origin: String,
    /// When this was written, Unix milliseconds.
    pub at_ms: u64,
    /// Linked to the coordinator.
    pub linked: bool,
    /// The coordinator's clock less this one, milliseconds.
    pub clock_ms: i64,
    /// The clocks, where they are a worry.
    pub clock: Option<String>,
    /// Entries checked here.
    pub validated: u64,
    /// Entries that are final.
    pub certified: u64,
    /// Why nothing more is signed.
    pub halted: Option<String>,
    /// The log has signed two histories, and the proof is on this hospital's disk.
    #[serde(default)]
    pub forked: bool,
    /// What is not heard from others, in words.
    #[serde(default)]
    pub worries: Vec<String>,
    /// Views of the log that others gave.
    #[serde(default)]
    pub views: Views,
    /// Data sets.
    pub datasets: Vec<DatasetView>,
    /// Contracts that concern this hospital, newest first.
    pub contracts: Vec<ContractView>,
    /// Counters.
    pub counters: Counters,
}

impl Agent {
    /// A picture of this moment.
    pub fn status(&self, now_ms: u64) -> Status {
        let state = self.mirror.certified();
        let mine = |contract: &&Contract| contract.terms.inputs.iter().any(|input| input.owner == self.party);
        let mut contracts: Vec<&Contract> = state.contracts().filter(mine).collect();
        contracts.sort_by_key(|contract| std::cmp::Reverse(contract.proposed_index));
        let datasets = self.declared.iter().map(|dataset| DatasetView {
            name: dataset.name.to_string(),
            columns: dataset.columns.len(),
            rows_rounded: dataset.rows_rounded,
            offered: state.datasets().contains_key(&format!("{}/{}", self.party, dataset.name)),
        });
        Status {
            party: self.party.to_string(),
            origin: state.origin().to_owned(),
            at_ms: now_ms,
            linked: self.linked,
            clock_ms: self.clock.as_ref().copied().unwrap_or(0),
            clock: self.clock_worry(),
            validated: self.mirror.size(),
            certified: self.mirror.certified_size(),
            halted: self.mirror.halted().map(|refusal| refusal.words.clone()),
            forked: self.fork.is_some(),
            worries: self.gossip.worries(now_ms, &self.peers()),
            views: self.gossip.views().clone(),
            datasets: datasets.collect(),
            contracts: contracts.into_iter().map(|contract| self.view(contract)).collect(),
            counters: self.counters.clone(),
        }
    }

    /// The two clocks in words, where they are a worry.
    pub(super) fn clock_worry(&self) -> Option<String> {
        match &self.clock {
            Ok(ms) if ms.unsigned_abs() > CLOCK_WARN_MS => {
                let (minutes, way) = (ms.unsigned_abs() / 60_000, if *ms < 0 { "ahead of" } else { "behind" });
                Some(format!("this machine's clock is {minutes} minutes {way} the coordinator's; set it"))
            }
            Ok(_) => None,
            Err(refusal) => Some(refusal.words.clone()),
        }
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn view(&self, contract: &Contract) -> ContractView {
        let id = contract.id.0;
        let standing = self.standings.get(&id).cloned().unwrap_or_default();
        let accepted = contract.accepts.contains_key(&self.party);
        let open = matches!(contract.phase, Phase::Proposed | Phase::PartlySigned);
        let approved_these = standing.approved == Some(contract.terms_hash);
        ContractView {
            id: contract.id.to_string(),
            phase: contract.phase.to_string(),
            terms_hash: contract.terms_hash.to_string(),
            initiator: contract.initiator.to_string(),
            pending: open
                && !accepted
                && !approved_these
                && standing.refused.is_none()
                && !contract.revoked(&self.party),
            approved: approved_these.then(|| if standing.by_policy { "policy" } else { "steward" }.to_owned()),
            accepted,
            stopped: standing.check().err().map(|refusal| refusal.to_string()),
            obstacle: self.obstacle(&id).map(ToString::to_string),
            running: self.jobs.get(&id).is_some_and(|job| job.participation.is_some()),
            text: contract.terms.text(),
        }
    }
}
