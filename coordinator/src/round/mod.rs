//! One round: from the state every hospital is told, to the one sum anybody may read.
//!
//! A **slot** is one attempt at a round. The files are its phases, in order:
//!
//! 1. [`prepare`]: every hospital's fresh key and shares for the slot are there (they ride on the slot before);
//! 2. [`collect`]: the slot is open, masked vectors arrive and go into one running sum;
//! 3. [`close`]: who is in the sum is fixed and signed by the survivors;
//! 4. [`unmask`]: shares come in until the pads can be taken off the sum.
//!
//! Transitions are declared in `advance.rs` and nowhere else. Bytes and time come in through `handle_`, [`Action`]s go out; nothing
//! here waits, reads a clock or touches a disk.

mod advance;
pub mod close;
pub mod collect;
pub mod prepare;
pub mod unmask;

use std::collections::VecDeque;

use leben_privacy::secure_sum::{Agree, Reveal, SealedShare, SlotKey};
use leben_privacy::{Suite, Unmasked};
use leben_protocol::frame::{JobOrder, UploadTrailer};
use leben_protocol::reject::{Reject, RejectCode};

use crate::roster::Roster;
use close::Closing;
use collect::Collect;
use prepare::Preparation;
use unmask::Unmasking;

pub use collect::{Lanes, Opened, Wanted};

/// What the shell has to do, in this order; a later one may rely on an earlier one having reached the disk.
#[derive(Debug)]
pub enum Action {
    /// Send an order to one hospital. If it is not linked, drop it: it is told again when it comes back.
    Send {
        /// Seat of the hospital.
        seat: u16,
        /// The order.
        order: JobOrder,
    },
    /// Store durably that this slot number is used and, once a close exists, who is in it.
    Remember {
        /// The slot.
        slot: u64,
        /// The survivors of the close that was sent, if one was.
        pinned: Option<Vec<u16>>,
    },
    /// The close of this slot has to be on the ledger before anything is revealed; then [`Round::handle_fixed`].
    Fix {
        /// The slot.
        slot: u64,
        /// Seats in the sum, sorted.
        survivors: Vec<u16>,
        /// What the slot's masks and signatures are bound to.
        transcript: [u8; 32],
    },
    /// The upload of this seat is complete and its trailer good: add its chunks to the sum, from the first to the last with
    /// [`Round::handle_fold`], then [`Round::handle_folded`]. Other things may happen in between.
    Fold {
        /// The slot.
        slot: u64,
        /// The seat.
        seat: u16,
    },
    /// The slot's stored uploads are of no more use.
    Discard {
        /// The slot.
        slot: u64,
        /// Whether it ended in a sum.
        summed: bool,
    },
}

/// What a round came to.
#[derive(Debug)]
pub enum Outcome {
    /// The sum over these seats.
    Summed {
        /// The sum.
        sum: Box<Unmasked>,
        /// Seats in it.
        survivors: Vec<u16>,
        /// The transcript of the slot, for the receipt.
        transcript: [u8; 32],
    },
    /// The contract's patience is over. Nothing was opened that may not be.
    Failed {
        /// Which hospital and why, in words.
        reason: String,
    },
}

/// What the terms say about one stage's rounds, and what the operator set.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Fewest hospitals in a sum.
    pub hospitals_min: u16,
    /// True: a slot that lost a hospital is repeated with it. False: the round ends in the sum of the others.
    pub repeat_on_drop: bool,
    /// How many slots of one round may be repeated.
    pub retries: u32,
    /// How long a linked hospital may be silent in one phase, milliseconds.
    pub silent_ms_max: u64,
    /// How long a hospital may be away before its seat counts as lost, milliseconds.
    pub away_ms_max: u64,
    /// What pads are made from.
    pub suite: Suite,
}

#[derive(Debug)]
enum Phase {
    Prepare,
    Collect(Box<Collect>),
    Close(Box<Closing>),
    Unmask(Box<Unmasking>),
    Ended,
}

/// One round of one stage, across as many slots as it takes.
#[derive(Debug)]
pub struct Round {
    rules: Rules,
    opened: Opened,
    preparation: Preparation,
    phase: Phase,
    repeats: u32,
    pinned: Option<Vec<u16>>,
    outcome: Option<Outcome>,
    actions: VecDeque<Action>,
}

impl Round {
    /// Begins a round. `preparation` is what already rode along on the slot before; `pinned` are the survivors of an
    /// earlier close of this very round (see `privacy`'s journal rule): the sum may only be over exactly them.
    pub fn new(rules: Rules, opened: Opened, preparation: Preparation, pinned: Option<Vec<u16>>) -> Round {
        Round {
            rules,
            opened,
            preparation,
            phase: Phase::Prepare,
            repeats: 0,
            pinned,
            outcome: None,
            actions: VecDeque::new(),
        }
    }

    /// The slot that is open or being prepared.
    pub fn slot(&self) -> u64 {
        match &self.phase {
            Phase::Collect(phase) => phase.slot(),
            Phase::Close(phase) => phase.slot(),
            Phase::Unmask(phase) => phase.slot(),
            Phase::Prepare | Phase::Ended => self.preparation.slot(),
        }
    }

    /// Next thing for the shell to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// How the round ended, once; with it the preparation for the slot to come.
    pub fn poll_outcome(&mut self) -> Option<(Outcome, Preparation)> {
        let outcome = self.outcome.take()?;
        let next = Preparation::new(self.preparation.slot() + 1);
        Some((outcome, std::mem::replace(&mut self.preparation, next)))
    }

    /// When to call [`Round::handle_timeout`], and why.
    pub fn poll_timeout(&self, now_ms: u64, roster: &Roster) -> Option<(u64, &'static str)> {
        let phase = match &self.phase {
            Phase::Prepare => self.preparation.deadline_ms(now_ms, &self.rules),
            Phase::Collect(phase) => phase.deadline_ms(now_ms, &self.rules, roster),
            Phase::Close(phase) => phase.deadline_ms(&self.rules),
            Phase::Unmask(phase) => phase.deadline_ms(&self.rules),
            Phase::Ended => None,
        };
        [phase, roster.next_loss_ms(now_ms, self.rules.away_ms_max)].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// A hospital's link came up, went down, or time passed: whatever may move, moves.
    pub fn handle_timeout(&mut self, now_ms: u64, roster: &Roster) {
        self.advance(now_ms, roster);
    }

    /// A hospital came back: it is told what it missed of the phase that runs.
    pub fn handle_linked(&mut self, now_ms: u64, seat: u16, roster: &Roster) {
        match &self.phase {
            Phase::Collect(phase) => phase.retell(seat, &mut self.actions),
            Phase::Close(phase) => phase.retell(seat, &mut self.actions),
            Phase::Unmask(phase) => phase.retell(seat, &mut self.actions),
            Phase::Prepare | Phase::Ended => {}
        }
        self.preparation.retell(seat, &mut self.actions);
        self.advance(now_ms, roster);
    }

    /// A hospital's key for the slot to come.
    pub fn handle_key(&mut self, now_ms: u64, seat: u16, key: SlotKey, roster: &Roster) -> Result<(), Reject> {
        self.preparation.handle_key(seat, key, &self.opened.directory)?;
        self.advance(now_ms, roster);
        Ok(())
    }

    /// A hospital's shares for the slot to come.
    pub fn handle_shares(
        &mut self,
        now_ms: u64,
        seat: u16,
        slot: u64,
        sealed: Vec<SealedShare>,
        roster: &Roster,
    ) -> Result<(), Reject> {
        self.preparation.handle_shares(seat, slot, sealed)?;
        self.advance(now_ms, roster);
        Ok(())
    }

    /// Some of a hospital's chunks arrived: it is alive.
    pub fn handle_chunk_stored(&mut self, now_ms: u64, seat: u16, slot: u64, chunks: u64) {
        if let Phase::Collect(phase) = &mut self.phase {
            phase.handle_chunk_stored(now_ms, seat, slot, chunks);
        }
    }

    /// A hospital cannot take part in this slot, but may in the next.
    pub fn handle_gone(&mut self, now_ms: u64, seat: u16, slot: u64, roster: &Roster) {
        if let Phase::Collect(phase) = &mut self.phase
            && phase.slot() == slot
        {
            phase.handle_gone(seat);
        }
        if !matches!(self.phase, Phase::Prepare | Phase::Ended) && self.slot() == slot {
            // What rides on the messages of this slot does not reach it: it is told on its own.
            self.preparation.retell(seat, &mut self.actions);
        }
        self.preparation.handle_gone(seat, slot);
        self.advance(now_ms, roster);
    }

    /// All chunks of a hospital are stored and `root` was computed over them here; this is its trailer.
    pub fn handle_trailer(
        &mut self,
        now_ms: u64,
        seat: u16,
        root: [u8; 32],
        trailer: UploadTrailer,
        roster: &Roster,
    ) -> Result<(), Reject> {
        let Phase::Collect(phase) = &mut self.phase else { return Err(wrong_slot(trailer.upload.slot, self.slot())) };
        phase.handle_trailer(now_ms, seat, root, trailer.upload, &mut self.actions)?;
        if let Some(key) = trailer.next {
            self.preparation.handle_key(seat, key, &self.opened.directory)?;
        }
        self.advance(now_ms, roster);
        Ok(())
    }

    /// A run of stored chunks of the seat that [`Action::Fold`] named, in order, the first of them with this index.
    ///
    /// # Errors
    /// [`RejectCode::WrongSlot`]: the slot has ended, the rest is of no use. Anything else is this coordinator's fault.
    pub fn handle_fold(&mut self, slot: u64, first: u64, chunks: &[Vec<u8>]) -> Result<(), Reject> {
        match &mut self.phase {
            Phase::Collect(phase) => phase.handle_fold(slot, first, chunks),
            _ => Err(wrong_slot(slot, self.slot())),
        }
    }

    /// The seat's last chunk is in the sum.
    pub fn handle_folded(&mut self, now_ms: u64, seat: u16, slot: u64, roster: &Roster) {
        if let Phase::Collect(phase) = &mut self.phase {
            phase.handle_folded(seat, slot);
        }
        self.advance(now_ms, roster);
    }

    /// A survivor signed the close.
    pub fn handle_agree(&mut self, now_ms: u64, seat: u16, agree: Agree, roster: &Roster) -> Result<(), Reject> {
        let Phase::Close(phase) = &mut self.phase else {
            // A signature beyond the threshold comes late and is of no use; that is not the hospital's fault.
            return Ok(());
        };
        phase.handle_agree(now_ms, seat, agree)?;
        self.advance(now_ms, roster);
        Ok(())
    }

    /// The ledger's final part holds the close of this slot.
    pub fn handle_fixed(&mut self, now_ms: u64, slot: u64, roster: &Roster) {
        if let Phase::Close(phase) = &mut self.phase {
            phase.handle_fixed(slot);
        }
        self.advance(now_ms, roster);
    }

    /// A survivor's shares of what opens the sum.
    pub fn handle_reveal(&mut self, now_ms: u64, seat: u16, reveal: Reveal, roster: &Roster) -> Result<(), Reject> {
        if let Phase::Unmask(phase) = &mut self.phase {
            phase.handle_reveal(now_ms, seat, reveal)?;
        }
        self.advance(now_ms, roster);
        Ok(())
    }

    /// Chunks received from a seat in the open slot, and chunks expected.
    pub fn chunks(&self, seat: u16) -> (u64, u64) {
        match &self.phase {
            Phase::Collect(phase) => phase.chunks(seat),
            _ => (0, 0),
        }
    }

    /// Whether vectors are on their way.
    pub fn is_collecting(&self) -> bool {
        matches!(self.phase, Phase::Collect(_))
    }

    /// The seats whose vectors are complete, for the display.
    pub fn is_uploaded(&self, seat: u16) -> bool {
        match &self.phase {
            Phase::Collect(phase) => phase.is_folded(seat),
            Phase::Close(phase) => phase.survivors().contains(&seat),
            Phase::Unmask(phase) => phase.survivors().contains(&seat),
            Phase::Prepare | Phase::Ended => false,
        }
    }

    /// Is this upload wanted, and what must its chunks look like?
    pub fn expects_upload(&self, seat: u16, slot: u64, chunks: u64) -> Result<Wanted, Reject> {
        match &self.phase {
            Phase::Collect(phase) => phase.expects_upload(seat, slot, chunks),
            _ => Err(wrong_slot(slot, self.slot())),
        }
    }
}

fn wrong_slot(got: u64, open: u64) -> Reject {
    Reject::new(RejectCode::WrongSlot, format!("slot {got} is not collecting; slot {open} is the current one"))
}
