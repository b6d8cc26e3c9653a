//! The coordinator's process around one job, reduced to what its shell does: a disk, stored uploads, a ledger to write to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use leben_coordinator::checkpoint::Checkpoint;
use leben_coordinator::facts::Facts;
use leben_coordinator::job::{Action, Job};
use leben_coordinator::model::Model;
use leben_coordinator::plan::Plan;
use leben_coordinator::record::Record;
use leben_models::disclosure::Groups;
use leben_models::{Algorithm, Finding, Next, State, Table};
use leben_privacy::dp::guarantee::Release;
use leben_privacy::merkle;
use leben_privacy::secure_sum::RoundId;
use leben_privacy::{Contribution, Layout, Unmasked};
use leben_protocol::frame::{JobOrder, JobReport, UploadReply, UploadTrailer};

use crate::truth::Summed;

/// What survives the process.
#[derive(Default)]
pub struct Disk {
    /// The job's checkpoint.
    pub checkpoint: Option<Checkpoint>,
    /// Model states by digest, hex.
    pub states: BTreeMap<String, Vec<u8>>,
    /// The sealed result.
    pub result: Option<Vec<u8>>,
    uploads: BTreeMap<(u64, u16), Vec<Vec<u8>>>,
}

/// What the process wants from the world.
#[derive(Debug)]
pub enum Effect {
    /// Send an order.
    Send {
        /// To this hospital.
        hospital: String,
        /// The order.
        order: JobOrder,
    },
    /// Write to the ledger.
    Append(Record),
    /// The job is over.
    End,
    /// The process died between two actions.
    Died,
}

/// Sums that were opened and not looked at yet.
type Seen = Arc<Mutex<Vec<Unmasked>>>;

/// One of the plan's algorithms, which also shows the onlooker what it is handed.
struct Watched {
    inner: Arc<dyn Algorithm + Send + Sync>,
    seen: Seen,
}

impl Algorithm for Watched {
    fn start(&self, from: Option<&State>) -> Result<State, Finding> {
        self.inner.start(from)
    }
    fn columns(&self) -> Vec<String> {
        self.inner.columns()
    }
    fn groups(&self) -> Groups {
        self.inner.groups()
    }
    fn rounds_max(&self) -> u32 {
        self.inner.rounds_max()
    }
    fn layout(&self, state: &State, hospitals: u16) -> Result<Layout, Finding> {
        self.inner.layout(state, hospitals)
    }
    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        self.inner.local(state, rows)
    }
    fn local_with(&self, state: &State, rows: &Table, secret: &[u8; 32]) -> Result<Contribution, Finding> {
        self.inner.local_with(state, rows, secret)
    }
    fn releases(&self, hospitals: u16) -> Result<Vec<Release>, Finding> {
        self.inner.releases(hospitals)
    }
    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(sum.clone());
        self.inner.combine(state, sum)
    }
    fn loss(&self, state: &State) -> Option<f64> {
        self.inner.loss(state)
    }
}

/// The coordinator's process.
pub struct Coordinator {
    /// Its disk.
    pub disk: Disk,
    /// Actions carried out so far, over all its lives.
    pub actions: u64,
    /// The process dies just before it carries out the action of this number, counted from 1.
    pub dies_at: BTreeSet<u64>,
    plan: Plan,
    seen: Seen,
    job: Option<Job>,
}

impl Coordinator {
    /// Not started yet.
    pub fn new(mut plan: Plan) -> Coordinator {
        let seen = Seen::default();
        for stage in &mut plan.stages {
            stage.algorithm = Arc::new(Watched { inner: stage.algorithm.clone(), seen: seen.clone() });
        }
        Coordinator { disk: Disk::default(), actions: 0, dies_at: BTreeSet::new(), plan, seen, job: None }
    }

    /// The process starts, with what is on its disk.
    pub fn start(&mut self, now_ms: u64, facts: &Facts, root: [u8; 32], seed: [u8; 32]) {
        let named = self.disk.checkpoint.iter().flat_map(Checkpoint::states);
        let model = |digest: &String| Model::from_bytes(self.disk.states.get(digest)?).ok();
        let states = named.filter_map(|digest| Some((digest.clone(), model(digest)?))).collect();
        let mut job = Job::new(now_ms, self.plan.clone(), self.disk.checkpoint.clone(), states, seed);
        job.handle_facts(now_ms, facts, root);
        self.job = Some(job);
    }

    /// The process dies.
    pub fn stop(&mut self) {
        self.job = None;
    }

    /// The job, while the process runs.
    pub fn job(&mut self) -> Option<&mut Job> {
        self.job.as_mut()
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.job.is_some()
    }

    /// A hospital's report. What is wrong with it is the hospital's to know; here it is only logged.
    pub fn handle_report(&mut self, now_ms: u64, hospital: &str, report: JobReport) -> Option<String> {
        self.job.as_mut()?.handle_report(now_ms, hospital, report).err().map(|reject| reject.to_string())
    }

    /// A hospital wants to upload.
    pub fn handle_hello(&mut self, hospital: &str, slot: u64, chunks: u64) -> Option<UploadReply> {
        let expected = self.job.as_ref()?.expects_upload(hospital, slot, chunks);
        Some(match expected {
            Ok(wanted) => {
                let next_index = self.disk.uploads.get(&(slot, wanted.seat)).map_or(0, Vec::len) as u64;
                UploadReply::From { next_index, held_bytes: 0 }
            }
            Err(reject) => UploadReply::Rejected(reject),
        })
    }

    /// A chunk of a vector; only the next one is stored.
    pub fn handle_chunk(&mut self, now_ms: u64, seat: u16, slot: u64, index: u64, bytes: Vec<u8>) {
        let Some(job) = &mut self.job else { return };
        let chunks = self.disk.uploads.entry((slot, seat)).or_default();
        if index == chunks.len() as u64 {
            chunks.push(bytes);
            job.handle_chunk_stored(now_ms, seat, slot, chunks.len() as u64);
        }
    }

    /// The signed end of a vector.
    pub fn handle_trailer(&mut self, now_ms: u64, seat: u16, trailer: UploadTrailer) -> Option<UploadReply> {
        let job = self.job.as_mut()?;
        let stored = self.disk.uploads.get(&(trailer.upload.slot, seat));
        let leaves: Vec<[u8; 32]> = stored.into_iter().flatten().map(|chunk| merkle::leaf_hash(chunk)).collect();
        Some(match job.handle_trailer(now_ms, seat, merkle::root(&leaves), trailer) {
            Ok(()) => UploadReply::Stored,
            Err(reject) => UploadReply::Rejected(reject),
        })
    }

    /// The sums that were opened since the last call.
    pub fn take_sums(&mut self) -> Vec<Summed> {
        let seen = std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(checkpoint) = &self.disk.checkpoint else { return Vec::new() };
        // What is on the disk is from before the sum was opened: the close was remembered before anybody was told.
        let Some(stage) = self.plan.stages.get(checkpoint.stage) else { return Vec::new() };
        let round_id = RoundId { stage: stage.id, round: checkpoint.round };
        let survivors = checkpoint.pinned.clone().unwrap_or_default();
        seen.into_iter()
            .map(|sum| Summed { round_id, slot: checkpoint.slot, survivors: survivors.clone(), sum })
            .collect()
    }

    /// Does what the job wants done; what concerns others is handed on, in order.
    pub fn carry_out(&mut self, now_ms: u64) -> Vec<Effect> {
        let mut effects = Vec::new();
        while let Some(action) = self.job.as_mut().and_then(Job::poll_action) {
            self.actions += 1;
            if self.dies_at.remove(&self.actions) {
                self.job = None;
                effects.push(Effect::Died);
                return effects;
            }
            match action {
                Action::Send { hospital, order } => effects.push(Effect::Send { hospital, order }),
                Action::Append(record) => effects.push(Effect::Append(record)),
                Action::StoreState(state) => self.store(now_ms, &state),
                Action::Remember(checkpoint) => self.disk.checkpoint = Some(checkpoint),
                Action::Fold { slot, seat } => self.fold(now_ms, slot, seat),
                Action::Discard { slot, .. } => self.disk.uploads.retain(|(of, _), _| *of != slot),
                // No deal here asks for a review.
                Action::StoreReview { .. } => {}
                Action::StoreResult(sealed) => self.disk.result = Some(sealed),
                Action::End => effects.push(Effect::End),
            }
        }
        effects
    }

    fn store(&mut self, now_ms: u64, state: &State) {
        let Some(job) = &mut self.job else { return };
        let bytes = state.to_bytes().expect("a state in memory");
        let model = Model::from_bytes(&bytes).expect("a state");
        self.disk.states.insert(hex::encode(model.digest), bytes);
        job.handle_stored(now_ms, model);
    }

    fn fold(&mut self, now_ms: u64, slot: u64, seat: u16) {
        let Some(job) = &mut self.job else { return };
        let chunks = self.disk.uploads.get(&(slot, seat)).map_or(&[][..], Vec::as_slice);
        job.handle_fold(slot, 0, chunks).expect("chunks whose root was signed");
        job.handle_folded(now_ms, seat, slot);
    }
}
