//! A hospital's process reduced to what its shell does: keep the journal, fetch the state, compute, stream the vector.

use std::sync::Arc;

use leben_models::Table;
use leben_privacy::Masked;
use leben_privacy::secure_sum::Journal;
use leben_protocol::frame::{ContractId, JobOrder, JobReport, Order, Report, UploadReply, UploadTrailer};
use leben_protocol::reject::Reject;
use leben_worker::participate::{JobAction, Participation, Work};
use leben_worker::refusal::{Reason, Refusal};

use crate::agreement::{self, Agreement};
use crate::dice::Dice;
use crate::net::Stream;
use crate::truth::Truth;

/// What a hospital sends.
#[derive(Clone, Debug)]
pub enum Up {
    /// On the control stream.
    Report(Report),
    /// Asks for a model state.
    Fetch([u8; 32]),
    /// Wants to upload a vector of so many chunks.
    Hello {
        /// The slot.
        slot: u64,
        /// Chunks in all.
        chunks: u64,
    },
    /// One masked chunk.
    Chunk {
        /// The slot.
        slot: u64,
        /// Its index.
        index: u64,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The signed end of a vector.
    Trailer(Box<UploadTrailer>),
    /// An action for the ledger.
    Append {
        /// Names it in the answer.
        key: String,
        /// The signed envelope.
        envelope: Vec<u8>,
    },
}

/// What a hospital is sent.
#[derive(Clone, Debug)]
pub enum Down {
    /// On the control stream.
    Order(Order),
    /// The model state it asked for.
    State(Vec<u8>),
    /// On the vector's stream.
    Reply {
        /// The slot.
        slot: u64,
        /// What is said.
        reply: UploadReply,
    },
    /// Where its action is on the ledger, or why not.
    Appended {
        /// Which action.
        key: String,
        /// The answer.
        answer: Result<u64, Reject>,
    },
}

impl Up {
    /// The stream it goes on.
    pub fn stream(&self) -> Stream {
        match self {
            Up::Report(_) => Stream::Reports,
            Up::Fetch(_) => Stream::State,
            Up::Append { .. } => Stream::Append,
            Up::Hello { .. } | Up::Chunk { .. } | Up::Trailer(_) => Stream::Upload,
        }
    }
}

impl Down {
    /// The stream it goes on.
    pub fn stream(&self) -> Stream {
        match self {
            Down::Order(_) => Stream::Orders,
            Down::State(_) => Stream::State,
            Down::Reply { .. } => Stream::Replies,
            Down::Appended { .. } => Stream::Append,
        }
    }
}

/// What a process wants from the world.
#[derive(Debug)]
pub enum Out {
    /// Send this.
    Send(Up),
    /// Compute takes time: call `handle_computed` later.
    Compute,
    /// Ask this address for its view of the log.
    FetchView(String),
}

/// A masked vector on its way, over as many links as it takes.
pub struct Upload {
    slot: u64,
    masked: Masked,
    trailer: Option<UploadTrailer>,
    asked: bool,
}

impl Upload {
    /// A vector that nobody has been told of yet.
    pub fn new(slot: u64, masked: Masked) -> Upload {
        Upload { slot, masked, trailer: None, asked: false }
    }

    /// The slot it is for.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// The first message on a new link.
    pub fn hello(&self) -> Up {
        Up::Hello { slot: self.slot, chunks: self.masked.chunk_count() as u64 }
    }

    /// The coordinator has the chunks below this one: the others, then the trailer if it is signed already.
    pub fn rest(&self, next_index: u64) -> Vec<Up> {
        let from = usize::try_from(next_index).unwrap();
        let chunk = |i: usize| Up::Chunk { slot: self.slot, index: i as u64, bytes: self.masked.chunk(i).unwrap() };
        let mut rest: Vec<Up> = (from..self.masked.chunk_count()).map(chunk).collect();
        rest.extend(self.trailer.clone().map(|trailer| Up::Trailer(Box::new(trailer))));
        rest
    }

    /// The root to be signed, asked for once.
    pub fn ask_root(&mut self) -> Option<[u8; 32]> {
        let first = !std::mem::replace(&mut self.asked, true);
        first.then(|| self.masked.root().unwrap())
    }

    /// The agent has signed it.
    pub fn handle_trailer(&mut self, trailer: UploadTrailer) -> Up {
        self.trailer = Some(trailer.clone());
        Up::Trailer(Box::new(trailer))
    }
}

/// Rows to a masked vector; the onlooker sees what is in it.
///
/// # Errors
/// Why the local half could not be done.
pub fn compute(work: Work, seat: u16, table: &Table, truth: &mut Truth) -> Result<Masked, Refusal> {
    let stage = work.plan.stage(work.stage)?;
    let finding = |finding: leben_models::Finding| Refusal::new(Reason::Finding, finding.to_string());
    let encoding = |error: leben_privacy::ContributionError| Refusal::new(Reason::Contribution, error.to_string());
    let contribution = stage.algorithm.local_with(&work.state, table, &work.seed).map_err(finding)?;
    truth.note(work.slot, seat, &work.layout, work.hospitals_max, contribution.clone());
    let clipped = contribution.clip(&work.layout).map_err(encoding)?;
    let quantised = clipped.quantise(work.hospitals_max, work.seed).map_err(encoding)?;
    quantised.noise(work.seed).and_then(|noised| noised.mask(work.pads)).map_err(encoding)
}

/// One hospital.
pub struct Hospital {
    /// Its seat, from 1.
    pub seat: u16,
    /// Its name.
    pub name: String,
    /// On its disk: what the secure sum must not forget.
    pub journal: Journal,
    /// Refusals, as its own log would show them.
    pub refusals: Vec<Refusal>,
    contract: ContractId,
    table: Table,
    process: Option<Process>,
}

/// What a restart loses.
struct Process {
    participation: Participation,
    work: Option<Box<Work>>,
    upload: Option<Upload>,
}

impl Hospital {
    /// A hospital with its rows, not started yet.
    pub fn new(seat: u16, contract: ContractId, table: Table) -> Hospital {
        let name = agreement::hospital(seat);
        Hospital { seat, name, journal: Journal::default(), refusals: Vec::new(), contract, table, process: None }
    }

    /// The process starts, with what is on its disk.
    pub fn start(&mut self, agreement: &Arc<Agreement>) {
        let participation = agreement.participation(&self.name, self.journal.clone());
        self.process = Some(Process { participation, work: None, upload: None });
    }

    /// The process dies.
    pub fn stop(&mut self) {
        self.process = None;
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// The link is up: an upload goes on.
    pub fn handle_linked(&mut self) -> Vec<Out> {
        let upload = self.process.as_ref().and_then(|process| process.upload.as_ref());
        upload.map(|upload| Out::Send(upload.hello())).into_iter().collect()
    }

    /// A message of the coordinator.
    pub fn handle(&mut self, down: Down, dice: &mut Dice, truth: &mut Truth) -> Vec<Out> {
        let Some(process) = &mut self.process else { return Vec::new() };
        let mut out = Vec::new();
        let (slot, done) = match down {
            Down::Order(Order::Job { order, .. }) => {
                let slot = slot_of(&order);
                (slot, process.participation.handle_order(order, dice.bytes()))
            }
            Down::State(bytes) => {
                let slot = process.participation.waiting_slot().unwrap_or(0);
                (slot, process.participation.handle_state(&bytes))
            }
            Down::Reply { slot, reply } => (slot, process.handle_reply(slot, &reply, dice, &mut out)),
            Down::Order(_) | Down::Appended { .. } => return out,
        };
        self.settle(slot, done, truth, &mut out);
        out
    }

    /// The local half is done.
    pub fn handle_computed(&mut self, truth: &mut Truth) -> Vec<Out> {
        let Some(process) = &mut self.process else { return Vec::new() };
        let Some(work) = process.work.take() else { return Vec::new() };
        let (slot, mut out) = (work.slot, Vec::new());
        match compute(*work, self.seat, &self.table, truth) {
            Ok(masked) => {
                let upload = Upload::new(slot, masked);
                out.push(Out::Send(upload.hello()));
                process.upload = Some(upload);
            }
            Err(refusal) => process.participation.handle_unworkable(slot, &refusal, true),
        }
        self.settle(slot, Ok(()), truth, &mut out);
        out
    }

    fn settle(&mut self, slot: u64, done: Result<(), Refusal>, truth: &mut Truth, out: &mut Vec<Out>) {
        let Some(process) = &mut self.process else { return };
        let contract = self.contract;
        let report = |report| Out::Send(Up::Report(Report::Job { contract, report }));
        while let Some(action) = process.participation.poll_action() {
            match action {
                JobAction::Remember(journal) => self.journal = journal,
                JobAction::Report(said) => {
                    if let JobReport::Revealed(reveal) = &said {
                        truth.note_reveal(reveal);
                    }
                    out.push(report(said));
                }
                JobAction::FetchState { digest, .. } => out.push(Out::Send(Up::Fetch(digest))),
                JobAction::Work(work) => {
                    process.upload = None;
                    process.work = Some(work);
                    out.push(Out::Compute);
                }
                JobAction::Trailer(trailer) => {
                    out.extend(process.upload.as_mut().map(|upload| Out::Send(upload.handle_trailer(*trailer))));
                }
                JobAction::Cancel { slot } => {
                    process.work.take_if(|work| work.slot == slot);
                    process.upload.take_if(|upload| upload.slot == slot);
                }
                JobAction::End { .. } => {}
            }
        }
        if let Err(refusal) = done {
            let final_ = !matches!(refusal.reason, Reason::Slot | Reason::SecureSum | Reason::Malformed);
            out.push(report(JobReport::Refused { slot, reject: refusal.to_reject(), final_ }));
            self.refusals.push(refusal);
        }
    }
}

impl Process {
    fn handle_reply(
        &mut self,
        slot: u64,
        reply: &UploadReply,
        dice: &mut Dice,
        out: &mut Vec<Out>,
    ) -> Result<(), Refusal> {
        let Some(upload) = self.upload.as_mut().filter(|upload| upload.slot == slot) else { return Ok(()) };
        match reply {
            UploadReply::From { next_index, .. } => {
                out.extend(upload.rest(*next_index).into_iter().map(Out::Send));
                match upload.ask_root() {
                    Some(root) => self.participation.handle_streamed(slot, root, dice.bytes()),
                    None => Ok(()),
                }
            }
            UploadReply::Stored | UploadReply::Rejected(_) => {
                self.upload = None;
                Ok(())
            }
        }
    }
}

/// The slot that an order is about; 0 for the whole job.
pub fn slot_of(order: &JobOrder) -> u64 {
    match order {
        JobOrder::Advertise { slot } | JobOrder::Keys { slot, .. } | JobOrder::Abandoned { slot } => *slot,
        JobOrder::Open { opening, .. } => opening.slot,
        JobOrder::Close { close, .. } => close.slot,
        JobOrder::Agreed(agreement) => agreement.slot,
        JobOrder::Review { .. } | JobOrder::Stop { .. } => 0,
    }
}
