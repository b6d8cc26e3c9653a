//! What the writer hears from its witnesses beside their cosignatures, and from its clock.

use leben_contracts::ledger::checkpoint::{Checkpoint, CheckpointError};
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::store::Head;
use leben_protocol::reject::{Reject, RejectCode};

use super::clock::now_ms;
use super::fatal::Fatal;
use super::ledger::Ledger;
use super::sequence::{Pending, Sequence, broken};

impl Ledger {
    /// The largest checkpoint that a worker says it holds, if this log signed it. One by a key of before a Handover that is not of this
    /// history ends that hospital's link and nothing else: it has not followed the Handover.
    pub fn read_seen(&self, seen: &[u8]) -> Result<Option<Note>, Reject> {
        if seen.is_empty() {
            return Ok(None);
        }
        let refused = |error: CheckpointError| {
            Reject::new(RejectCode::BadSignature, format!("the checkpoint that this hospital holds: {error}"))
        };
        let note = Note::parse(seen).map_err(|error| refused(error.into()))?;
        let head = Head::by(&note, &self.0.keys).map_err(refused)?;
        let whole = self.final_size();
        let fits = || head.size <= whole && self.0.reader.root_at(head.size, whole).is_ok_and(|root| root == head.root);
        if note.verify(&self.0.log).is_err() && !fits() {
            let text = format!(
                "this hospital holds a checkpoint of {} entries by the log's key of before the Handover, which is not part of what goes on: \
                 leben-worker handover follow",
                head.size
            );
            return Err(Reject::new(RejectCode::NotAllowed, text));
        }
        Ok(Some(head.note))
    }
}

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
        match self.finality.is_asked(party) {
            true => tracing::warn!(%party, size, mirror_size, %reject, "a witness did not cosign"),
            false => tracing::debug!(%party, %reject, "a refusal that nobody asked for"),
        }
        match reject.kind() {
            Some(RejectCode::ClockSkew) => {
                self.door.drift.handle_postponed(now_ms());
                self.finality.handle_postponed(party);
            }
            _ => self.finality.handle_not_cosigned(party, mirror_size, size),
        }
    }
}
