//! What the writer hears from its witnesses beside their cosignatures, and from its clock.

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::Note;
use leben_protocol::reject::{Reject, RejectCode};

use super::clock::now_ms;
use super::fatal::Fatal;
use super::sequence::{Pending, Sequence, broken};

impl Sequence {
    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        self.door.handle_timeout(now_ms);
        if self.door.drift.handle_timeout(now_ms) {
            self.finality.handle_retry();
        }
    }

    /// What a witness holds must be part of this log: at start-up before anything is sequenced, and on every link after.
    pub(super) fn hear(&mut self, party: &str, seen: Option<&Note>) -> Result<u64, Fatal> {
        let Some(note) = seen else { return Ok(0) };
        if let Err(error) = self.store.verify_seen(note) {
            let evidence = self.store.keep_evidence(note).map_err(broken)?;
            return Err(Fatal::Seen { party: party.to_owned(), error, evidence });
        }
        Ok(Checkpoint::of(note).map_err(broken)?.size)
    }

    /// The roll call goes on; after its last answer, what was held back takes its place in the batch.
    pub(super) fn let_in(&mut self, party: &str, batch: &mut Vec<Pending>) -> Result<(), Fatal> {
        for command in self.door.handle_answer(party) {
            if batch.len() >= self.batch_max {
                tokio::task::block_in_place(|| self.commit(std::mem::take(batch)))?;
            }
            self.take(command, batch)?;
        }
        Ok(())
    }

    /// One whose clock is behind an entry's time is asked again later, any other refusal stands.
    pub(super) fn hear_refusal(&mut self, party: &str, mirror_size: u64, size: u64, reject: &Reject) {
        tracing::warn!(%party, size, mirror_size, %reject, "a witness did not cosign");
        match reject.kind() {
            Some(RejectCode::ClockSkew) => {
                self.door.drift.handle_postponed(now_ms());
                self.finality.handle_postponed(party);
            }
            _ => self.finality.handle_not_cosigned(party, mirror_size, size),
        }
    }
}
