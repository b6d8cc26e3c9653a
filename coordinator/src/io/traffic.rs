//! Bytes that each job moved, for the display: masked chunks up, model states down.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use leben_protocol::frame::{ContractId, Progress};

/// Grows by one pair of numbers a job since the start of the process.
#[derive(Debug, Default)]
pub struct Traffic {
    jobs: Mutex<HashMap<ContractId, (u64, u64)>>,
}

impl Traffic {
    /// Bytes came from a hospital.
    pub fn add_up(&self, contract: &ContractId, bytes: u64) {
        self.change(contract, |(up, _)| *up += bytes);
    }

    /// Bytes went to a hospital.
    pub fn add_down(&self, contract: &ContractId, bytes: u64) {
        self.change(contract, |(_, down)| *down += bytes);
    }

    /// Puts the job's figures into its progress.
    pub fn fill(&self, contract: &ContractId, progress: Progress) -> Progress {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes_up, bytes_down) = jobs.get(contract).copied().unwrap_or_default();
        Progress { bytes_up, bytes_down, ..progress }
    }

    fn change(&self, contract: &ContractId, change: impl FnOnce(&mut (u64, u64))) {
        change(self.jobs.lock().unwrap_or_else(PoisonError::into_inner).entry(*contract).or_default());
    }
}
