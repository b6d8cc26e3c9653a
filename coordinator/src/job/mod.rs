//! One job: a contract that became executable, worked through stage by stage.
//!
//! Where it stands is read from the ledger ([`Facts`]) and from its [`Checkpoint`], never remembered elsewhere, so that a
//! restart goes the same way as the first start. Each step on the ledger is asked for once and believed when it is
//! there: `Step` names what is awaited.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use leben_models::State;
use leben_privacy::secure_sum::Directory;
use leben_protocol::frame::{JobOrder, Progress, UploadTrailer};
use leben_protocol::reject::{Reject, RejectCode};

use crate::checkpoint::{Checkpoint, Finished};
use crate::facts::Facts;
use crate::model::Model;
use crate::plan::{Plan, StagePlan};
use crate::progress::View;
use crate::record::Record;
use crate::roster::Roster;
use crate::round::prepare::Preparation;
use crate::round::{Lanes, Round, Wanted};

/// What the shell has to do for a job, in this order.
#[derive(Debug)]
pub enum Action {
    /// Send an order to a hospital; drop it if there is no link.
    Send {
        /// The hospital.
        hospital: String,
        /// The order.
        order: JobOrder,
    },
    /// Write to the ledger; [`Job::handle_facts`] will see it.
    Append(Record),
    /// Store a model state durably under its digest, then [`Job::handle_stored`]; hospitals fetch it. Other things may happen in
    /// between. A large one is worked out while it is written.
    StoreState(State),
    /// Replace the job's checkpoint durably.
    Remember(Checkpoint),
    /// Add a stored upload to the sum: [`Job::handle_fold`] from its first chunk to its last, then [`Job::handle_folded`]. Other
    /// things may happen in between.
    Fold {
        /// The slot.
        slot: u64,
        /// Seat.
        seat: u16,
    },
    /// Stored uploads of this slot are of no more use.
    Discard {
        /// The slot.
        slot: u64,
        /// Whether it ended in a sum.
        summed: bool,
    },
    /// Store a result that hospitals are to look at durably under its digest; they fetch it as they do a state.
    StoreReview {
        /// SHA-256 of the bytes.
        digest: [u8; 32],
        /// The result.
        bytes: Vec<u8>,
    },
    /// Store the sealed result durably.
    StoreResult(Vec<u8>),
    /// The job is over; nothing more will come.
    End,
}

mod follow;
mod reports;
mod rounds;

#[derive(Debug)]
enum Step {
    /// Hospitals publish their keys; then the directory is frozen.
    Keys { since_ms: u64 },
    /// The stage's start is being recorded.
    Start,
    /// A state is on its way to the disk.
    Store(Then),
    /// Its rounds run.
    Run { model: Model, round: Box<Round> },
    /// Paused by the ledger between two rounds.
    Paused { model: Model },
    /// The stage's receipt is being recorded.
    Receipt,
    /// The result is being recorded.
    Deliver,
    /// Over.
    Ended,
}

/// What a state is stored for.
#[derive(Debug)]
enum Then {
    /// The next round starts from it.
    Round,
    /// The stage with this id is done; the state's digest is still missing here.
    Finish(u32, Box<Finished>),
}

/// One job.
pub struct Job {
    plan: Plan,
    roster: Roster,
    directory: Option<Arc<Directory>>,
    checkpoint: Checkpoint,
    root: [u8; 32],
    step: Step,
    preparation: Option<Preparation>,
    facts: Facts,
    /// The step that gives the job up, until the ledger shows it.
    given_up: Option<Record>,
    suspended: bool,
    asked: BTreeSet<String>,
    message: String,
    /// When time was looked at last.
    looked_ms: u64,
    sequence: u64,
    ended: bool,
    phase_word: String,
    states: BTreeMap<String, Model>,
    lanes: Option<Lanes>,
    actions: VecDeque<Action>,
}

impl Job {
    /// A job at its first start, or at a restart with the checkpoint and the states it names, by digest in hex. `seed` is fresh randomness.
    pub fn new(
        now_ms: u64,
        plan: Plan,
        checkpoint: Option<Checkpoint>,
        states: BTreeMap<String, Model>,
        seed: [u8; 32],
    ) -> Job {
        let roster = Roster::new(now_ms, plan.seats());
        let mut checkpoint = checkpoint.unwrap_or_default();
        checkpoint.epoch += 1;
        checkpoint.round = checkpoint.round.max(1);
        if checkpoint.seed.is_empty() {
            checkpoint.seed = hex::encode(seed);
        }
        Job {
            roster,
            directory: None,
            root: [0; 32],
            step: Step::Keys { since_ms: now_ms },
            preparation: Some(Preparation::new(checkpoint.slot + 1)),
            facts: Facts::default(),
            given_up: None,
            suspended: false,
            asked: BTreeSet::new(),
            message: "waiting for the hospitals' keys".into(),
            looked_ms: now_ms,
            sequence: 0,
            ended: false,
            phase_word: "Executable".into(),
            actions: VecDeque::from([Action::Remember(checkpoint.clone())]),
            states,
            lanes: None,
            plan,
            checkpoint,
        }
    }

    /// Large sums live in what this makes, not in memory.
    #[must_use]
    pub fn with_lanes(self, lanes: Lanes) -> Job {
        Job { lanes: Some(lanes), ..self }
    }

    /// Next thing for the shell to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// What the contract orders.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Whether nothing more will happen.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// When to call [`Job::handle_timeout`], and why.
    pub fn poll_timeout(&self, now_ms: u64) -> Option<(u64, &'static str)> {
        match &self.step {
            Step::Run { round, .. } => round.poll_timeout(now_ms, &self.roster),
            Step::Keys { since_ms } => {
                let at_ms = since_ms.saturating_add(self.keys_patience_ms());
                (at_ms > self.looked_ms).then_some((at_ms, "hospitals' keys are awaited"))
            }
            _ => None,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.looked_ms = now_ms;
        match &mut self.step {
            Step::Run { round, .. } => round.handle_timeout(now_ms, &self.roster),
            Step::Keys { .. } => {
                let facts = self.facts.clone();
                self.follow_keys(now_ms, &facts);
            }
            _ => {}
        }
        self.settle_down();
    }

    /// A hospital's link came up or went down.
    pub fn handle_link(&mut self, now_ms: u64, hospital: &str, linked: bool) {
        let Some(seat) = self.roster.index_of(hospital) else { return };
        self.roster.set_linked(now_ms, hospital, linked);
        if !linked && !self.ended {
            self.say(format!("{hospital} lost its link"));
        }
        if let Step::Run { round, .. } = &mut self.step {
            match linked {
                true => round.handle_linked(now_ms, seat, &self.roster),
                false => round.handle_timeout(now_ms, &self.roster),
            }
        } else if let (true, Step::Deliver) = (linked, &self.step) {
            // Whoever comes back has not seen the result yet.
            let facts = self.facts.clone();
            self.follow(now_ms, &facts);
        } else if let (true, Some(preparation)) = (linked, &mut self.preparation) {
            let mut actions = VecDeque::new();
            preparation.retell(seat, &mut actions);
            self.forward(actions);
        }
        self.settle_down();
    }

    /// The final part of the ledger grew; `root` is its root hash.
    pub fn handle_facts(&mut self, now_ms: u64, facts: &Facts, root: [u8; 32]) {
        self.root = root;
        self.phase_word.clone_from(&facts.phase);
        self.suspended = facts.suspended;
        self.looked_ms = now_ms;
        self.facts.clone_from(facts);
        for hospital in &facts.revoked {
            self.roster.set_refused(hospital, "revoked its data".into());
        }
        if facts.terminal {
            // Why this coordinator gave up says more than that it did.
            let gave_up = matches!(self.step, Step::Ended);
            self.end(if gave_up { self.message.clone() } else { format!("the contract is {}", facts.phase) });
            return;
        }
        if let Some(directory) = &facts.directory {
            self.directory.get_or_insert_with(|| Arc::new(directory.clone()));
        }
        if let Step::Run { round, .. } = &mut self.step {
            round.handle_fixed(now_ms, facts.closed_slot, &self.roster);
        }
        self.follow(now_ms, facts);
        self.settle_down();
    }

    /// The ledger would not take a record: the job cannot go on honestly.
    pub fn handle_append_refused(&mut self, key: &str, reason: &str) {
        // A step that lost a race against another party's is asked for again when the ledger moves.
        self.asked.remove(key);
        self.say(format!("the ledger refused a step: {reason}"));
    }

    /// May this hospital upload for this slot, so many chunks?
    pub fn expects_upload(&self, hospital: &str, slot: u64, chunks: u64) -> Result<Wanted, Reject> {
        let seat = self.seat(hospital)?;
        match &self.step {
            Step::Run { round, .. } => round.expects_upload(seat, slot, chunks),
            _ => Err(Reject::new(RejectCode::WrongSlot, "no slot is open")),
        }
    }

    /// So many chunks of a hospital's upload are stored.
    pub fn handle_chunk_stored(&mut self, now_ms: u64, seat: u16, slot: u64, chunks: u64) {
        self.sequence += 1;
        if let Step::Run { round, .. } = &mut self.step {
            round.handle_chunk_stored(now_ms, seat, slot, chunks);
        }
    }

    /// An upload is complete; `root` was computed over what is stored.
    pub fn handle_trailer(
        &mut self,
        now_ms: u64,
        seat: u16,
        root: [u8; 32],
        trailer: UploadTrailer,
    ) -> Result<(), Reject> {
        let Step::Run { round, .. } = &mut self.step else {
            return Err(Reject::new(RejectCode::WrongSlot, "no slot is open"));
        };
        round.handle_trailer(now_ms, seat, root, trailer, &self.roster)?;
        self.settle_down();
        Ok(())
    }

    /// A run of chunks of the upload that [`Action::Fold`] named, the first of them with this index.
    ///
    /// # Errors
    /// [`RejectCode::WrongSlot`]: the slot has ended, the rest is of no use. Anything else is this coordinator's fault.
    pub fn handle_fold(&mut self, slot: u64, first: u64, chunks: &[Vec<u8>]) -> Result<(), Reject> {
        match &mut self.step {
            Step::Run { round, .. } => round.handle_fold(slot, first, chunks),
            _ => Err(Reject::new(RejectCode::WrongSlot, "no slot is open")),
        }
    }

    /// Its last chunk is in the sum.
    pub fn handle_folded(&mut self, now_ms: u64, seat: u16, slot: u64) {
        if let Step::Run { round, .. } = &mut self.step {
            round.handle_folded(now_ms, seat, slot, &self.roster);
        }
        self.settle_down();
    }

    /// The display.
    pub fn progress(&self) -> Progress {
        let (running, slot) = match &self.step {
            Step::Run { round, .. } => (Some(round.as_ref()), round.slot()),
            _ => (None, self.checkpoint.slot),
        };
        let stage = self.current_stage();
        let view = View {
            sequence: self.sequence,
            phase: &self.phase_word,
            ended: self.ended,
            stages: self.plan.stages.len(),
            stage: stage.map(|stage| (stage.id, stage.name.clone())),
            round: self.checkpoint.round,
            rounds_max: stage.map_or(0, |stage| stage.rounds_max),
            slot,
            seats: self.roster.seats(),
            running,
            trace: &self.checkpoint.trace,
            message: &self.message,
        };
        view.progress()
    }

    fn seat(&self, hospital: &str) -> Result<u16, Reject> {
        let not_here = || Reject::new(RejectCode::NotAdmitted, format!("{hospital} has no seat in this job"));
        self.roster.index_of(hospital).ok_or_else(not_here)
    }

    fn keys_patience_ms(&self) -> u64 {
        self.plan.stages.first().map_or(60_000, |stage| stage.rules.silent_ms_max)
    }

    fn current_stage(&self) -> Option<&StagePlan> {
        self.plan.stages.get(self.checkpoint.stage)
    }

    /// The job cannot go on: said on the ledger, so that everybody sees the same end.
    fn fail(&mut self, code: &str, reason: String) {
        self.say(reason.clone());
        self.step = Step::Ended;
        let stage = self.current_stage().or(self.plan.stages.first()).map(|stage| stage.id);
        let abort = Record::Abort { code: code.to_owned(), reason, stage };
        self.given_up = Some(abort.clone());
        self.ask_once(Some(abort));
    }

    fn end(&mut self, message: String) {
        if self.ended {
            return;
        }
        self.ended = true;
        self.step = Step::Ended;
        for hospital in self.plan.hospitals.clone() {
            self.actions.push_back(Action::Send { hospital, order: JobOrder::Stop { reason: message.clone() } });
        }
        self.actions.push_back(Action::End);
        self.say(message);
    }

    fn say(&mut self, message: String) {
        self.sequence += 1;
        self.message = message;
    }
}

fn join(names: &[&String]) -> String {
    names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
}
