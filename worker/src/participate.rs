//! One hospital's part in one job: orders in, reports and work out.
//!
//! The cryptography is `privacy`'s [`Participant`]; this file puts it in order with consent, with the model state that
//! has to be fetched first, and with what must be on disk before an answer leaves.

use std::collections::VecDeque;

use crate::consent::{Admitted, Plan};
use crate::refusal::{Reason, Refusal};
use leben_models::State;
use leben_models::state::StateError;
use leben_privacy::secure_sum::{Consistency, FixedClose, Journal, Opening, Participant, SealedShare, SlotKey};
use leben_privacy::{Layout, Pads};
use leben_protocol::frame::{ContractId, JobOrder, JobReport, UploadTrailer};
use sha2::{Digest, Sha256};

/// What the shell has to do for a job, in this order.
#[derive(Debug)]
pub enum JobAction {
    /// Store the journal durably; what follows may leave only afterwards.
    Remember(Journal),
    /// Send to the coordinator.
    Report(JobReport),
    /// Fetch the model state with this digest, then call [`Participation::handle_state`].
    FetchState {
        /// SHA-256 of the state's bytes.
        digest: [u8; 32],
        /// Its size.
        bytes: u64,
    },
    /// Run the local half and stream the masked vector.
    Work(Box<Work>),
    /// Send this as the last frame of the upload.
    Trailer(Box<UploadTrailer>),
    /// Stop whatever runs for this slot.
    Cancel {
        /// The slot.
        slot: u64,
    },
    /// The job is over for this hospital.
    End {
        /// Why.
        reason: String,
    },
}

/// Everything that the local half of one slot needs, and nothing that is secret outside this process.
#[derive(Debug)]
pub struct Work {
    /// The job's contract.
    pub contract: ContractId,
    /// The slot.
    pub slot: u64,
    /// What was admitted.
    pub plan: Admitted<Plan>,
    /// Stage of the plan.
    pub stage: u32,
    /// Round of the stage, from 1.
    pub round: u32,
    /// What every hospital was told.
    pub state: State,
    /// SHA-256 of its bytes.
    pub model_digest: [u8; 32],
    /// Shape of the contribution.
    pub layout: Layout,
    /// Most hospitals the encoding leaves room for.
    pub hospitals_max: u16,
    /// The slot's masks.
    pub pads: Pads,
    /// Randomness for rounding; of a private round its secret, the same in every slot.
    pub seed: [u8; 32],
}

#[derive(Debug)]
struct Waiting {
    opening: Box<Opening>,
    sealed: Vec<SealedShare>,
    seed: [u8; 32],
}

/// One hospital's state in one job.
#[derive(Debug)]
pub struct Participation {
    contract: ContractId,
    plan: Admitted<Plan>,
    participant: Participant,
    waiting: Option<Waiting>,
    open_slot: Option<u64>,
    fixed: Option<FixedClose>,
    actions: VecDeque<JobAction>,
}

impl Participation {
    /// Takes part in a job that was admitted, with the directory frozen on the ledger.
    pub fn new(contract: ContractId, plan: Admitted<Plan>, participant: Participant) -> Participation {
        Participation {
            contract,
            plan,
            participant,
            waiting: None,
            open_slot: None,
            fixed: None,
            actions: VecDeque::new(),
        }
    }

    /// The last close that the certified ledger holds for this job.
    pub fn handle_fixed(&mut self, fixed: Option<FixedClose>) {
        self.fixed = fixed;
    }

    /// Whether a slot's shares wait for its close on the ledger.
    pub fn awaits_ledger(&self, slot: u64) -> bool {
        let needed = self.participant.directory().consistency() == Consistency::Ledger;
        needed && self.fixed.as_ref().is_none_or(|fixed| fixed.slot < slot)
    }

    /// The slot whose model state is being fetched.
    pub fn waiting_slot(&self) -> Option<u64> {
        self.waiting.as_ref().map(|waiting| waiting.opening.slot)
    }

    /// Next thing for the shell to do.
    pub fn poll_action(&mut self) -> Option<JobAction> {
        self.actions.pop_front()
    }

    /// An order of the coordinator. `seed` is fresh randomness for whatever this order makes necessary.
    pub fn handle_order(&mut self, order: JobOrder, seed: [u8; 32]) -> Result<(), Refusal> {
        match order {
            JobOrder::Advertise { slot } => {
                let key = self.participant.advertise(slot, seed);
                self.report(JobReport::Advertised(key));
                Ok(())
            }
            JobOrder::Keys { slot, keys } => {
                let sealed = self.participant.share(slot, &keys, seed).map_err(refused)?;
                self.report(JobReport::Shares { slot, sealed });
                Ok(())
            }
            JobOrder::Open { opening, sealed, state_bytes } => self.handle_open(opening, sealed, state_bytes, seed),
            JobOrder::Close { close, next } => {
                let agree = self.participant.agree(&close).map_err(refused)?;
                // On disk before the answer: the journal is what keeps a second close of this round from ever being signed.
                self.actions.push_back(JobAction::Remember(self.participant.journal().clone()));
                self.report(JobReport::Agreed(agree));
                self.prepare_next(next, seed)
            }
            JobOrder::Agreed(agreement) => {
                let reveal = self.participant.reveal(&agreement, self.fixed.as_ref()).map_err(refused)?;
                self.report(JobReport::Revealed(reveal));
                Ok(())
            }
            JobOrder::Abandoned { slot } => {
                self.cancel(slot);
                Ok(())
            }
            // The agent's, not the secure sum's.
            JobOrder::Review { .. } => Ok(()),
            JobOrder::Stop { reason } => {
                if let Some(slot) = self.open_slot {
                    self.cancel(slot);
                }
                self.actions.push_back(JobAction::End { reason });
                Ok(())
            }
        }
    }

    fn handle_open(
        &mut self,
        opening: Box<Opening>,
        sealed: Vec<SealedShare>,
        state_bytes: u64,
        seed: [u8; 32],
    ) -> Result<(), Refusal> {
        if self.open_slot == Some(opening.slot) {
            // Told again after a cut: the upload resumes by itself.
            return Ok(());
        }
        self.plan.allows(&opening)?;
        let digest = opening.model_digest;
        if let Some(slot) = self.open_slot.take() {
            self.cancel(slot);
        }
        self.waiting = Some(Waiting { opening, sealed, seed });
        self.actions.push_back(JobAction::FetchState { digest, bytes: state_bytes });
        Ok(())
    }

    /// The model state that [`JobAction::FetchState`] asked for, in memory.
    pub fn handle_state(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.handle_fetched(Sha256::digest(bytes).into(), State::from_bytes(bytes))
    }

    /// The same as it was read from a file: the SHA-256 over all bytes of the file, which the caller has computed, and the state.
    pub fn handle_fetched(&mut self, digest: [u8; 32], state: Result<State, StateError>) -> Result<(), Refusal> {
        let Some(waiting) = self.waiting.take() else { return Ok(()) };
        let opening = &waiting.opening;
        let malformed = |text: String| Refusal::new(Reason::Malformed, text);
        let state = state.map_err(|error| malformed(format!("the model state: {error}")))?;
        if digest != opening.model_digest {
            return Err(malformed("the model state is not the one the slot was opened with".into()));
        }
        let stage = self.plan.stage(opening.round_id.stage)?;
        let layout = stage
            .algorithm
            .layout(&state, opening.hospitals_max)
            .map_err(|finding| malformed(format!("the model state does not fit the algorithm: {finding}")))?;
        let pads = self.participant.open(opening, &layout, &waiting.sealed).map_err(refused)?;
        self.actions.push_back(JobAction::Remember(self.participant.journal().clone()));
        self.open_slot = Some(opening.slot);
        self.report(JobReport::Working { slot: opening.slot });
        self.actions.push_back(JobAction::Work(Box::new(Work {
            contract: self.contract,
            slot: opening.slot,
            plan: self.plan.clone(),
            stage: opening.round_id.stage,
            round: opening.round_id.round,
            hospitals_max: opening.hospitals_max,
            state,
            model_digest: opening.model_digest,
            layout,
            pads,
            seed: waiting.seed,
        })));
        Ok(())
    }

    /// Every chunk of the slot's vector was taken by the coordinator; `root` is over exactly those.
    pub fn handle_streamed(&mut self, slot: u64, root: [u8; 32], seed: [u8; 32]) -> Result<(), Refusal> {
        let upload = self.participant.sign_upload(slot, root).map_err(refused)?;
        let next = Some(self.participant.advertise(slot + 1, seed));
        self.actions.push_back(JobAction::Trailer(Box::new(UploadTrailer { upload, next })));
        Ok(())
    }

    /// The local half could not be done: the hospital says why, without a word about any patient, and leaves the slot, or with
    /// `final_` the job. A slot that it is not in any more has been answered.
    pub fn handle_unworkable(&mut self, slot: u64, refusal: &Refusal, final_: bool) {
        if !final_ && self.open_slot != Some(slot) {
            return;
        }
        self.report(JobReport::Refused { slot, reject: refusal.to_reject(), final_ });
        match final_ {
            true => self.actions.push_back(JobAction::End { reason: "the local half could not be done".into() }),
            false => self.cancel(slot),
        }
    }

    fn prepare_next(&mut self, next: Option<(u64, Vec<SlotKey>)>, seed: [u8; 32]) -> Result<(), Refusal> {
        if let Some((slot, keys)) = next
            && keys.iter().any(|key| key.hospital_index == self.participant.index())
        {
            let sealed = self.participant.share(slot, &keys, seed).map_err(refused)?;
            self.report(JobReport::Shares { slot, sealed });
        }
        Ok(())
    }

    fn cancel(&mut self, slot: u64) {
        if self.open_slot == Some(slot) {
            self.open_slot = None;
        }
        self.waiting = None;
        self.actions.push_back(JobAction::Cancel { slot });
    }

    fn report(&mut self, report: JobReport) {
        self.actions.push_back(JobAction::Report(report));
    }
}

fn refused(error: leben_privacy::secure_sum::Reject) -> Refusal {
    use leben_privacy::secure_sum::Reject;
    let reason = match &error {
        Reject::NotMyKey { .. } | Reject::WrongSlot { .. } | Reject::StaleSlot { .. } | Reject::Phase(_) => {
            Reason::Slot
        }
        _ => Reason::SecureSum,
    };
    Refusal::new(reason, error.to_string())
}
