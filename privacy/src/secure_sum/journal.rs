//! What a hospital must remember about a job, whatever happens to its memory.
//!
//! May it be lost? No: without it a repeated round could be closed over other hospitals, and the difference of the two
//! sums is somebody's vector. Rolled back? No, for the same reason. Forged? It never leaves the hospital. Growth: one
//! record of about 80 bytes plus 2 per survivor for each round agreed to; removed with the job.

use serde::{Deserialize, Serialize};

use super::errors::Reject;
use super::transcript::{Opening, RoundId};

/// A round this hospital agreed to close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedRound {
    /// The round.
    pub round_id: RoundId,
    /// The model it computed on.
    pub model_digest: [u8; 32],
    /// SHA-256 over the layout and the number of hospitals that the ring is sized for: a repeat in another shape would carry
    /// other noise. Empty in a journal that did not keep it, whose rounds are not repeated.
    #[serde(default)]
    pub shape: Option<[u8; 32]>,
    /// Who was in the sum, sorted.
    pub survivors: Vec<u16>,
}

/// A hospital's durable state of one job. The caller writes it to disk before it sends what the call returned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// The last slot opened; 0 before the first.
    pub last_slot: u64,
    /// Rounds agreed to, sorted by id.
    pub rounds: Vec<AgreedRound>,
}

impl Journal {
    /// The record of one round.
    pub fn round(&self, id: RoundId) -> Option<&AgreedRound> {
        self.rounds.binary_search_by_key(&id, |r| r.round_id).ok().and_then(|at| self.rounds.get(at))
    }

    /// A slot is opened once, and a round agreed before only with the same model, in the same shape and with
    /// everybody of its sum.
    pub(super) fn check_opening(&self, opening: &Opening) -> Result<(), Reject> {
        if opening.slot <= self.last_slot {
            return Err(Reject::StaleSlot { slot: opening.slot, last: self.last_slot });
        }
        let RoundId { stage, round } = opening.round_id;
        let Some(agreed) = self.round(opening.round_id) else { return Ok(()) };
        if agreed.model_digest != opening.model_digest {
            return Err(Reject::ModelChanged { stage, round });
        }
        let other_shape = agreed.shape != Some(opening.shape());
        if other_shape || agreed.survivors.iter().any(|index| opening.key(*index).is_none()) {
            return Err(Reject::RepeatDiffers { stage, round });
        }
        Ok(())
    }

    /// A round agreed before closes over exactly the same hospitals.
    pub(super) fn check_close(&self, id: RoundId, survivors: &[u16]) -> Result<(), Reject> {
        match self.round(id) {
            Some(agreed) if agreed.survivors != survivors => {
                Err(Reject::RepeatDiffers { stage: id.stage, round: id.round })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn record(&mut self, agreed: AgreedRound) {
        if let Err(at) = self.rounds.binary_search_by_key(&agreed.round_id, |r| r.round_id) {
            self.rounds.insert(at, agreed);
        }
    }

    /// A journal read back from disk must still be what this code wrote.
    pub(super) fn check(&self) -> Result<(), Reject> {
        if self.rounds.is_sorted_by(|a, b| a.round_id < b.round_id) {
            Ok(())
        } else {
            Err(Reject::Phase("the journal's rounds are not sorted: the stored state is damaged"))
        }
    }
}
