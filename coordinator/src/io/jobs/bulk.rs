//! What takes as long as a vector is: adding uploads to a sum, in steps between the events; writing states, beside them.

use std::io;
use std::sync::PoisonError;

use leben_models::State;
use leben_protocol::frame::ContractId;
use leben_protocol::reject::RejectCode;

use super::Jobs;
use crate::io::clock::now_ms;
use crate::io::events::Event;
use crate::io::fatal::Fatal;
use crate::model::Model;

/// Chunks of an upload that are added to a sum between two looks at the events: 16 MiB, some 50 ms.
const FOLD_CHUNKS: usize = 64;

impl Jobs {
    /// Adds a few chunks of a stored upload to its job's sum.
    pub(super) fn fold_step(&mut self) -> Result<(), Fatal> {
        let Some((id, first)) = self.folding.pop_front() else { return Ok(()) };
        let Some(job) = self.jobs.get_mut(&id.contract) else { return Ok(()) };
        let spool = &self.shared.spool;
        let added = tokio::task::block_in_place(|| {
            let chunks = spool.read(id, first, FOLD_CHUNKS)?;
            Ok((job.handle_fold(id.slot, first, &chunks), first.saturating_add(chunks.len() as u64)))
        });
        let (added, next) = added.map_err(Fatal::io("read a spooled upload"))?;
        match added {
            Ok(()) => {}
            // The slot ended in between.
            Err(reject) if reject.kind() == Some(RejectCode::WrongSlot) => return Ok(()),
            Err(reject) => {
                let error = io::Error::other(reject.message);
                return Err(Fatal::Io { what: "add an upload to the sum", error });
            }
        }
        if next < spool.upload(id)?.lock().unwrap_or_else(PoisonError::into_inner).chunks() {
            self.folding.push_front((id, next));
            return Ok(());
        }
        job.handle_folded(now_ms(), id.seat, id.slot);
        self.carry_out(id.contract)
    }

    /// Writes a state beside the events; its end comes back as one.
    pub(super) fn write_state(&self, contract: ContractId, state: State) {
        let (store, events) = (self.shared.store.clone(), self.events.clone());
        tokio::task::spawn_blocking(move || {
            let written = store.write_state(&contract, &state);
            // Whoever would hear of it is gone only when the process ends.
            let _ = events.blocking_send(Event::StateWritten { contract, written });
        });
    }

    /// The state has a name before the core hears that it is there.
    pub(super) fn handle_written(
        &mut self,
        now_ms: u64,
        contract: ContractId,
        written: io::Result<Model>,
    ) -> Result<(), Fatal> {
        let model = written.map_err(Fatal::io("store a model state"))?;
        match self.jobs.get_mut(&contract).filter(|job| job.awaits_state()) {
            Some(job) => {
                let named = self.shared.store.name_state(&contract, &model.digest);
                named.map_err(Fatal::io("store a model state"))?;
                job.handle_stored(now_ms, model);
            }
            // The job ended in between.
            None => {
                let forgotten = self.shared.store.forget_unnamed(&contract);
                forgotten.map_err(Fatal::io("remove a model state"))?;
            }
        }
        self.carry_out(contract)
    }
}
