//! What a job must find on its disk to go on after a crash.
//!
//! Lost: the job ends as aborted, nothing is revealed. Rolled back: slots would be opened twice, which every hospital's
//! journal refuses. Forged: by the operator only, with the same effect. Grows with the stages of one job, never with rounds.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Durable state of one job; replaced before anything that builds on it leaves the process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// 32 random bytes, hex, drawn at the first start: salt and seal of the result come from it, so that a restart before
    /// the delivery is recorded makes the same result again.
    pub seed: String,
    /// How often the job was started, so that two starts never share a transcript.
    pub epoch: u32,
    /// Largest slot number ever opened.
    pub slot: u64,
    /// Position of the running stage among the contract's stages.
    pub stage: usize,
    /// Round of that stage that is next or running, from 1.
    pub round: u32,
    /// Digest of the state that the round starts from, hex; its bytes lie beside this file.
    pub state: Option<String>,
    /// Digest of the state that the running stage started from, hex.
    pub started: Option<String>,
    /// Survivors of the close that was sent for the running round, if one was.
    pub pinned: Option<Vec<u16>>,
    /// One loss for each finished round of the running stage.
    pub trace: Vec<f64>,
    /// Hash chain over the transcripts of the running stage's finished rounds, hex; empty before the first.
    pub transcripts: String,
    /// Digest of the result while the hospitals look at it, hex; its bytes lie beside this file.
    #[serde(default)]
    pub review: Option<String>,
    /// What finished stages left, by stage id.
    pub finished: BTreeMap<u32, Finished>,
}

impl Checkpoint {
    /// Digests of the states it names, hex.
    pub fn states(&self) -> impl Iterator<Item = &String> {
        self.state.iter().chain(self.finished.values().map(|finished| &finished.state))
    }
}

/// What one finished stage left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finished {
    /// Digest of the state for later stages, hex.
    pub state: String,
    /// Digest of the state that its first round started from, hex.
    pub started_from: String,
    /// Rounds it took.
    pub rounds: u32,
    /// The outcome as the algorithm gave it.
    pub outcome: leben_models::Outcome,
    /// Hospitals in the sum of its last round.
    pub hospitals: Vec<String>,
    /// One loss for each round.
    pub trace: Vec<f64>,
    /// Hash chain over the transcripts of its rounds, hex: which rounds made this outcome.
    pub transcripts: String,
}
