//! What is kept of the ledger beside it, to be found or started from quickly: the snapshot, and what the index is made of.

use std::sync::PoisonError;

use leben_contracts::ledger::{NoReplay, prepare};

use super::fatal::Fatal;
use super::index::Index;
use super::ledger::Ledger;

/// One entry as an index lists it.
pub struct Listed {
    /// Its index.
    pub index: u64,
    /// Payload hash of its action.
    pub payload: [u8; 32],
    /// The contract that it names or proposes, in hex.
    pub contract: Option<String>,
}

impl Ledger {
    /// Whether it is time for a new snapshot when `size` entries are final.
    pub(super) fn snapshot_is_due(&self, size: u64) -> bool {
        self.0.snapshots.lock().unwrap_or_else(PoisonError::into_inner).is_due(size)
    }

    /// Writes the final part as it stands into the state folder, so that the next start need not replay it, and knows that it is final.
    ///
    /// # Errors
    /// The disk's.
    pub fn save_snapshot(&self) -> Result<(), Fatal> {
        let mut snapshots = self.0.snapshots.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_certified() && self.final_size() > snapshots.size() {
            let cut = self.with_final(|state, root| snapshots.cut(state, &root));
            cut.and_then(|cut| snapshots.save(&cut)).map_err(|error| Fatal::Ledger(error.to_string()))?;
        }
        Ok(())
    }

    /// What an index needs of each entry of this part.
    pub fn list(&self, range: std::ops::Range<u64>) -> Result<Vec<Listed>, Fatal> {
        let size = self.final_size();
        let leaves = self.0.reader.entries(range.clone(), size).map_err(|error| Fatal::Ledger(error.to_string()))?;
        let mut found = Vec::with_capacity(leaves.len());
        for (index, entry) in range.zip(prepare::entries(&leaves, &NoReplay)) {
            let entry = entry.map_err(|error| Fatal::Ledger(error.to_string()))?;
            let payload = entry.envelope().payload_hash();
            let proposed = (entry.action().kind == "Propose").then(|| hex::encode(payload));
            found.push(Listed { index, payload, contract: entry.action().contract.clone().or(proposed) });
        }
        Ok(found)
    }

    /// The index, if one is kept, answers from now on for actions that the state machine has forgotten, since their time is over.
    pub fn set_index(&self, index: Option<Index>) {
        *self.0.index.lock().unwrap_or_else(PoisonError::into_inner) = index;
    }
}
