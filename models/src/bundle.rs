//! What an AI team gets: every stage's outcome in one JSON object that any tool opens, and what the ledger holds of it.
//!
//! The coordinator makes one and seals it to the team; the team opens it, compares its exact bytes with the commitment on
//! the ledger, and writes its tables and pictures.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::outcome::Outcome;

/// A delivered result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bundle {
    /// Format version, 1.
    pub v: u32,
    /// The contract, hex.
    pub contract: String,
    /// 32 random bytes, hex: keeps the commitment on the ledger from being guessed.
    pub salt: String,
    /// What each stage found, in order.
    pub stages: Vec<StageResult>,
}

/// What one stage found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageResult {
    /// Stage id.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Rounds it took.
    pub rounds: u32,
    /// Hospitals in the last round's sum.
    pub hospitals: Vec<String>,
    /// One loss for each round.
    pub trace: Vec<f64>,
    /// The outcome.
    pub outcome: Outcome,
}

/// What the ledger holds of a result: SHA-256("leben/result/1" || bundle bytes).
pub fn commitment(bundle: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(b"leben/result/1").chain_update(bundle).finalize().into()
}
