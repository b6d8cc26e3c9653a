//! When a checkpoint is final here: the quorum in force has cosigned it, and at a turn the quorum before as well.

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::policy::{Policy, UnknownSigners};
use leben_contracts::ledger::turn::{Turn, TurnError, Turns, may_turn, verify_turn};

use super::{Certified, Mirror};
use crate::refusal::{Reason, Refusal};

impl Mirror {
    pub(super) fn certify(&mut self, checkpoint: &Checkpoint, note: Note) -> Result<Certified, Refusal> {
        let size = checkpoint.size;
        let refused = |error: String| Refusal::new(Reason::Ledger, error);
        let (turn, policy) = self.walk(size)?;
        let (note, turn) = match turn {
            Some(Turn { old, new: Some(new) }) => {
                let turned = note.with_lines(|line| new.is_listed(line) || old.iter().any(|old| old.is_witness(line)));
                verify_turn(size.saturating_sub(1), old.as_ref(), Some(&new), &checkpoint.root, &turned)
                    .map_err(|error| refused(error.to_string()))?;
                (new.known_lines(&note), Some(turned))
            }
            Some(_) => return Err(refused(TurnError::Nobody { index: size.saturating_sub(1) }.to_string())),
            None => {
                if let Some(policy) = &policy {
                    policy
                        .evaluate(&note, UnknownSigners::Ignore)
                        .map_err(|error| refused(format!("the checkpoint of {size} entries is not final: {error}")))?;
                }
                (note, None)
            }
        };
        self.advance(size)?;
        self.certified_note = Some(note.clone());
        Ok(Certified { size, note, turn, policy })
    }

    /// From what is certified to `size`: whether its last entry is a turn, and the policy in force then. A turn on the way
    /// needs its own certificate first.
    fn walk(&self, size: u64) -> Result<(Option<Turn>, Option<Policy>), Refusal> {
        let refused = |error: String| Refusal::new(Reason::Ledger, error);
        let mut turns = Turns::new(self.certified.witness_policy());
        let ahead = || self.validator.state().applied().take_while(|applied| applied.index() < size);
        if !ahead().any(|applied| may_turn(applied.kind())) {
            return Ok((None, turns.policy().cloned()));
        }
        let mut state = self.certified.clone();
        for applied in ahead() {
            let index = applied.index();
            state.follow(applied.clone()).map_err(|error| refused(error.to_string()))?;
            match turns.step(applied.kind(), || state.witness_policy()) {
                Some(turn) if state.next_index() == size => return Ok((Some(turn), turns.policy().cloned())),
                Some(_) => return Err(refused(TurnError::Missing { index }.to_string())),
                None => {}
            }
        }
        Ok((None, turns.policy().cloned()))
    }
}
