//! A copy that was lost is taken up again, however long the log is: in steps, and below what was signed before without a signature.

use leben_contracts::ledger::add_checkpoint::AddCheckpoint;

use super::{Mirror, NotCosigned};
use crate::refusal::{Reason, Refusal};

impl Mirror {
    /// Whether this copy was lost and has not reached what was signed: until then nothing shows that it is the history which was signed, so
    /// nothing in it is believed.
    pub(super) fn is_below_record(&self) -> bool {
        self.size() < self.signed_size()
    }

    /// A step up to a checkpoint below the one signed last: nothing to cosign, and asked for as if nothing had been signed yet.
    pub(super) fn step_below(&self, body: &[u8]) -> Option<AddCheckpoint> {
        let below = self.size()..self.signed_size();
        let step = AddCheckpoint::parse(body).ok()?;
        (step.old_size == 0 && step.checkpoint.size > below.start && below.contains(&step.checkpoint.size))
            .then_some(step)
    }

    pub(super) fn take_in(&mut self, now_ms: u64, step: AddCheckpoint, body: &[u8]) -> NotCosigned {
        let first_index = self.size();
        if let Err(error) = self.validator.handle_lost(now_ms, &step.note, &self.buffer) {
            return self.refuse(&error, body, first_index);
        }
        let entries = self.take_validated();
        let words = format!(
            "{} entries are taken in; this hospital has signed for {} before and signs nothing smaller",
            step.checkpoint.size,
            self.signed_size()
        );
        let taken_in = Some(Box::new((entries, step.note)));
        NotCosigned { taken_in, ..self.not_cosigned(Refusal::new(Reason::Ledger, words), None) }
    }
}
