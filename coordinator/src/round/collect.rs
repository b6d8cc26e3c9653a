//! Phase 2: the slot is open; masked vectors arrive and go into one running sum.
//!
//! A vector is stored chunk by chunk as it arrives and added to the sum only when its signed root has been checked, so
//! that a hospital cut off in the middle leaves no trace in the sum. Memory: one sum of at most [`SUM_BYTES_MAX`], whatever the
//! number of hospitals; a larger one lives where [`Lanes`] says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use leben_privacy::layout::Geometry;
use leben_privacy::secure_sum::{Collector, Directory, Opening, RoundId, SealedShare, Upload};
use leben_privacy::{LaneStore, Layout, Sum};
use leben_protocol::frame::JobOrder;
use leben_protocol::reject::{Reject, RejectCode};

use super::prepare::Ready;
use super::{Action, Rules};
use crate::roster::Roster;

/// Most bytes on the wire of a vector whose sum is kept in memory: 16 MiB, which are up to 29 MB of lanes.
pub const SUM_BYTES_MAX: u64 = 16 << 20;

/// Makes the store of a sum that is larger than [`SUM_BYTES_MAX`], one for each slot.
#[derive(Clone)]
pub struct Lanes(Arc<dyn Fn() -> Arc<dyn LaneStore> + Send + Sync>);

impl Lanes {
    /// From what makes one.
    pub fn new(make: impl Fn() -> Arc<dyn LaneStore> + Send + Sync + 'static) -> Lanes {
        Lanes(Arc::new(make))
    }
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Lanes")
    }
}

/// An upload that is wanted.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Whose.
    pub seat: u16,
    /// What its chunks must look like.
    pub geometry: Arc<Geometry>,
}

/// What the hospitals are told when a slot of this round opens: the same for every slot of the round.
#[derive(Clone, Debug)]
pub struct Opened {
    /// Who may take part, frozen on the ledger.
    pub directory: Arc<Directory>,
    /// The contract.
    pub contract: [u8; 32],
    /// Stage and round.
    pub round_id: RoundId,
    /// SHA-256 of the model state.
    pub model_digest: [u8; 32],
    /// Size of the model state in bytes.
    pub state_bytes: u64,
    /// Shape of the contribution.
    pub layout: Arc<Layout>,
    /// Most hospitals the encoding leaves room for.
    pub hospitals_max: u16,
    /// Root of the ledger the round builds on.
    pub checkpoint: [u8; 32],
    /// Counts starts of the job by the coordinator, so that two starts never share a transcript.
    pub epoch: u32,
    /// Where a large sum lives; `None`: in memory like a small one.
    pub lanes: Option<Lanes>,
}

/// The open slot.
#[derive(Debug)]
pub struct Collect {
    opening: Opening,
    cohort: Vec<u16>,
    sealed: BTreeMap<u16, Vec<SealedShare>>,
    state_bytes: u64,
    geometry: Arc<Geometry>,
    chunks_total: u64,
    threshold: u16,
    collector: Collector,
    sum: Sum,
    seen_ms: BTreeMap<u16, u64>,
    chunks: BTreeMap<u16, u64>,
    folding: BTreeSet<u16>,
    folded: BTreeSet<u16>,
    gone: BTreeSet<u16>,
}

/// Whether the slot can close.
#[derive(Debug)]
pub enum Poll {
    /// Vectors are still on their way.
    Wait,
    /// Every hospital of the cohort is in the sum.
    Complete,
    /// The missing ones are lost.
    Lost {
        /// Who.
        names: String,
        /// Whether those in the sum are as many as the terms ask for.
        enough: bool,
    },
}

impl Collect {
    /// Opens the slot and tells the cohort.
    pub fn open(
        now_ms: u64,
        opened: &Opened,
        rules: &Rules,
        ready: Ready,
        actions: &mut VecDeque<Action>,
    ) -> Result<Collect, Reject> {
        let opening = Opening {
            job: opened.directory.job,
            epoch: opened.epoch,
            slot: ready.slot,
            round_id: opened.round_id,
            contract: opened.contract,
            model_digest: opened.model_digest,
            cohort: ready.cohort,
            layout_digest: opened.layout.digest(),
            hospitals_max: opened.hospitals_max,
            suite: rules.suite,
            checkpoint: opened.checkpoint,
        };
        let layout = opened.layout.as_ref().clone();
        let geometry = Arc::new(layout.geometry(opened.hospitals_max).map_err(refused)?);
        let sum = match &opened.lanes {
            Some(lanes) if geometry.wire_bytes() > SUM_BYTES_MAX => {
                Sum::stored(layout.clone(), opened.hospitals_max, (lanes.0)())
            }
            _ => Sum::new(layout.clone(), opened.hospitals_max),
        };
        let sum = sum.map_err(refused)?;
        let collector = Collector::new(opened.directory.as_ref().clone(), opening.clone(), layout, rules.hospitals_min)
            .map_err(refused)?;
        let cohort: Vec<u16> = opening.cohort.iter().map(|key| key.hospital_index).collect();
        let phase = Collect {
            chunks_total: geometry.chunk_count() as u64,
            geometry,
            state_bytes: opened.state_bytes,
            seen_ms: cohort.iter().map(|seat| (*seat, now_ms)).collect(),
            chunks: BTreeMap::new(),
            folding: BTreeSet::new(),
            folded: BTreeSet::new(),
            gone: BTreeSet::new(),
            sealed: ready.sealed,
            threshold: opened.directory.threshold,
            opening,
            cohort,
            collector,
            sum,
        };
        actions.push_back(Action::Remember { slot: phase.slot(), pinned: None });
        for seat in &phase.cohort {
            phase.retell(*seat, actions);
        }
        Ok(phase)
    }

    /// The slot's number.
    pub fn slot(&self) -> u64 {
        self.opening.slot
    }

    /// Seats that take part.
    pub fn cohort(&self) -> &[u16] {
        &self.cohort
    }

    /// Seats that take part and have not dropped out: their keys for the next slot ride on their uploads.
    pub fn taking_part(&self) -> Vec<u16> {
        self.cohort.iter().copied().filter(|seat| !self.gone.contains(seat)).collect()
    }

    /// Is the seat's vector in the sum?
    pub fn is_folded(&self, seat: u16) -> bool {
        self.folded.contains(&seat)
    }

    /// Chunks stored for a seat, and chunks expected.
    pub fn chunks(&self, seat: u16) -> (u64, u64) {
        (self.chunks.get(&seat).copied().unwrap_or(0), self.chunks_total)
    }

    /// Tells a hospital of the cohort that the slot is open.
    pub fn retell(&self, seat: u16, actions: &mut VecDeque<Action>) {
        let waits = self.cohort.contains(&seat) && !self.folded.contains(&seat) && !self.folding.contains(&seat);
        if waits && !self.gone.contains(&seat) {
            let sealed = self.sealed.get(&seat).cloned().unwrap_or_default();
            let order =
                JobOrder::Open { opening: Box::new(self.opening.clone()), sealed, state_bytes: self.state_bytes };
            actions.push_back(Action::Send { seat, order });
        }
    }

    /// May this hospital upload now?
    pub fn expects_upload(&self, seat: u16, slot: u64, chunks: u64) -> Result<Wanted, Reject> {
        if slot != self.slot() || !self.cohort.contains(&seat) {
            return Err(super::wrong_slot(slot, self.slot()));
        }
        if chunks != self.chunks_total {
            let text = format!("{chunks} chunks announced, the layout has {}", self.chunks_total);
            return Err(Reject::new(RejectCode::Malformed, text));
        }
        Ok(Wanted { seat, geometry: self.geometry.clone() })
    }

    /// A hospital cannot take part in this slot (it lost the slot's secrets in a restart, say).
    pub fn handle_gone(&mut self, seat: u16) {
        if !self.folding.contains(&seat) && !self.folded.contains(&seat) {
            self.gone.insert(seat);
        }
    }

    /// The hospital is alive: so many chunks are stored.
    pub fn handle_chunk_stored(&mut self, now_ms: u64, seat: u16, slot: u64, chunks: u64) {
        if slot == self.slot() {
            self.seen_ms.insert(seat, now_ms);
            self.chunks.insert(seat, chunks);
        }
    }

    /// The signed end of an upload; `root` was computed here over what is stored.
    pub fn handle_trailer(
        &mut self,
        now_ms: u64,
        seat: u16,
        root: [u8; 32],
        upload: Upload,
        actions: &mut VecDeque<Action>,
    ) -> Result<(), Reject> {
        self.expects_upload(seat, upload.slot, self.chunks_total)?;
        self.seen_ms.insert(seat, now_ms);
        if upload.root != root {
            return Err(Reject::new(RejectCode::Malformed, "the signed root is not the root of the chunks received"));
        }
        if self.folding.contains(&seat) || self.folded.contains(&seat) {
            return Ok(());
        }
        self.collector.handle_upload(seat, upload).map_err(refused)?;
        self.folding.insert(seat);
        actions.push_back(Action::Fold { slot: self.slot(), seat });
        Ok(())
    }

    /// Adds a run of stored chunks of the seat being folded, the first of them with this index.
    pub fn handle_fold(&mut self, slot: u64, first: u64, chunks: &[Vec<u8>]) -> Result<(), Reject> {
        if slot != self.slot() {
            return Err(super::wrong_slot(slot, self.slot()));
        }
        let first = usize::try_from(first).map_err(refused)?;
        self.sum.add_uploads(first, &[chunks]).map_err(refused)
    }

    /// The seat's last chunk was added.
    pub fn handle_folded(&mut self, seat: u16, slot: u64) {
        if slot == self.slot() && self.folding.remove(&seat) {
            self.folded.insert(seat);
        }
    }

    /// When the next missing hospital will count as lost.
    pub fn deadline_ms(&self, now_ms: u64, rules: &Rules, roster: &Roster) -> Option<(u64, &'static str)> {
        let missing = self.cohort.iter().filter(|seat| !self.folded.contains(seat));
        let lost_ms: Vec<u64> = missing.map(|seat| self.lost_ms(*seat, rules, roster)).collect();
        let next = lost_ms.iter().filter(|at_ms| **at_ms > now_ms).min();
        // Those that are lost already are no reason to look again, unless nobody else is waited for.
        next.or(lost_ms.iter().max()).map(|at_ms| (*at_ms, "a hospital's vector is awaited"))
    }

    /// When a hospital whose vector is missing counts, or counted, as lost; 0 if it said so itself.
    fn lost_ms(&self, seat: u16, rules: &Rules, roster: &Roster) -> u64 {
        if self.gone.contains(&seat) {
            return 0;
        }
        let silent_ms = self.seen_ms.get(&seat).copied().unwrap_or(0).saturating_add(rules.silent_ms_max);
        roster.lost_ms(seat, rules.away_ms_max).map_or(silent_ms, |away_ms| away_ms.min(silent_ms))
    }

    /// Can the slot close?
    pub fn poll(&self, now_ms: u64, rules: &Rules, roster: &Roster) -> Poll {
        if !self.folding.is_empty() {
            return Poll::Wait;
        }
        let missing: Vec<u16> = self.cohort.iter().copied().filter(|seat| !self.folded.contains(seat)).collect();
        if missing.is_empty() {
            return Poll::Complete;
        }
        if missing.iter().any(|seat| now_ms < self.lost_ms(*seat, rules, roster)) {
            return Poll::Wait;
        }
        let names: Vec<&str> = missing.iter().map(|seat| roster.name(*seat)).collect();
        let enough = self.folded.len() >= usize::from(rules.hospitals_min.max(self.threshold));
        Poll::Lost { names: names.join(", "), enough }
    }

    /// Ends the slot without opening anything.
    pub fn abandon(self, actions: &mut VecDeque<Action>) {
        let slot = self.slot();
        for seat in self.cohort {
            actions.push_back(Action::Send { seat, order: JobOrder::Abandoned { slot } });
        }
        actions.push_back(Action::Discard { slot, summed: false });
    }

    /// What the next phase needs.
    pub(super) fn into_parts(self) -> (Collector, Sum, Vec<u16>) {
        (self.collector, self.sum, self.folded.into_iter().collect())
    }
}

/// The secure sum's own refusal as a wire code.
pub(super) fn refused(error: impl std::fmt::Display) -> Reject {
    Reject::new(RejectCode::SecureSum, error.to_string())
}
