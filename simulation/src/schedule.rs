//! Faults: what goes wrong, and when.

use leben_protocol::frame::{JobOrder, JobReport};

/// Something that goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A hospital's link is cut and comes back after so many milliseconds; `None`: never.
    Cut {
        /// The hospital's seat, from 1.
        seat: u16,
        /// For how long.
        down_ms: Option<u64>,
    },
    /// A hospital's process dies and starts again.
    RestartHospital {
        /// Its seat, from 1.
        seat: u16,
        /// For how long it is down.
        down_ms: u64,
    },
    /// The coordinator's process dies and starts again.
    RestartCoordinator {
        /// For how long it is down.
        down_ms: u64,
    },
}

/// A message by which a moment of a slot is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// The coordinator opens the slot.
    Open,
    /// A piece of the masked vector.
    Chunk,
    /// The signed end of the vector.
    Trailer,
    /// The coordinator says who is in the sum.
    Close,
    /// The hospital signs that.
    Agree,
    /// The coordinator shows the signatures.
    Agreement,
    /// The hospital gives its shares.
    Reveal,
    /// The hospital's key for a slot to come.
    Key,
    /// Its shares for a slot to come.
    Shares,
}

impl Sight {
    /// What this order is a sign of.
    pub fn of_order(order: &JobOrder) -> Option<Sight> {
        match order {
            JobOrder::Open { .. } => Some(Sight::Open),
            JobOrder::Close { .. } => Some(Sight::Close),
            JobOrder::Agreed(_) => Some(Sight::Agreement),
            _ => None,
        }
    }

    /// What this report is a sign of.
    pub fn of_report(report: &JobReport) -> Option<Sight> {
        match report {
            JobReport::Advertised(_) => Some(Sight::Key),
            JobReport::Shares { .. } => Some(Sight::Shares),
            JobReport::Agreed(_) => Some(Sight::Agree),
            JobReport::Revealed(_) => Some(Sight::Reveal),
            _ => None,
        }
    }
}

/// A fault that waits for its moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// At whose message, by seat.
    pub seat: u16,
    /// At which message.
    pub sight: Sight,
    /// At the how-manieth of them, from 1.
    pub nth: u32,
    /// True: just before it arrives, so that it is lost if its link is cut. False: just after.
    pub before: bool,
    /// What then goes wrong.
    pub fault: Fault,
}

impl Trap {
    /// The link of this hospital is cut just before its first such message arrives.
    pub fn cut_before(seat: u16, sight: Sight, down_ms: Option<u64>) -> Trap {
        Trap { seat, sight, nth: 1, before: true, fault: Fault::Cut { seat, down_ms } }
    }

    /// The link of this hospital is cut just after its first such message arrived.
    pub fn cut_after(seat: u16, sight: Sight, down_ms: Option<u64>) -> Trap {
        Trap { before: false, ..Trap::cut_before(seat, sight, down_ms) }
    }

    /// The same trap at a later message of the kind.
    #[must_use]
    pub fn nth(mut self, nth: u32) -> Trap {
        self.nth = nth;
        self
    }
}
