//! Phase 4: survivors reveal shares until every pad can be taken off the sum.

use std::collections::{BTreeSet, VecDeque};

use leben_privacy::secure_sum::{Agreement, Close, Collector, Reveal, SlotKey};
use leben_privacy::{Pads, Sum, Unmasked};
use leben_protocol::frame::JobOrder;
use leben_protocol::reject::Reject;

use super::close::Closing;
use super::collect::refused;
use super::{Action, Rules};

/// Shares come in.
#[derive(Debug)]
pub struct Unmasking {
    slot: u64,
    since_ms: u64,
    collector: Collector,
    sum: Sum,
    survivors: Vec<u16>,
    close: Close,
    next: Option<(u64, Vec<SlotKey>)>,
    agreement: Option<Agreement>,
    revealed: BTreeSet<u16>,
    pads: Option<Pads>,
}

/// Whether the sum is open.
#[derive(Debug)]
pub enum Poll {
    /// Shares are missing.
    Wait(Box<Unmasking>),
    /// Here it is.
    Summed(Box<Unmasked>),
    /// Too few shares came.
    Lost(String),
}

impl Unmasking {
    /// Shows the survivors the signatures of the others and asks for their shares.
    pub fn new(now_ms: u64, phase: Closing, actions: &mut VecDeque<Action>) -> Unmasking {
        let parts = phase.into_parts();
        let phase = Unmasking {
            slot: parts.slot,
            since_ms: now_ms,
            collector: parts.collector,
            sum: parts.sum,
            survivors: parts.survivors,
            close: parts.close,
            next: parts.next,
            agreement: parts.agreement,
            revealed: BTreeSet::new(),
            pads: None,
        };
        for seat in &phase.survivors {
            phase.ask(*seat, actions);
        }
        phase
    }

    /// The slot's number.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// Seats in the sum.
    pub fn survivors(&self) -> &[u16] {
        &self.survivors
    }

    /// What the slot's masks and signatures are bound to.
    pub fn transcript(&self) -> [u8; 32] {
        self.collector.transcript()
    }

    /// A survivor that came back: the close first, which it may have missed, then the agreement.
    pub fn retell(&self, seat: u16, actions: &mut VecDeque<Action>) {
        if self.survivors.contains(&seat) && !self.revealed.contains(&seat) {
            let order = JobOrder::Close { close: self.close.clone(), next: self.next.clone() };
            actions.push_back(Action::Send { seat, order });
            self.ask(seat, actions);
        }
    }

    fn ask(&self, seat: u16, actions: &mut VecDeque<Action>) {
        if let Some(agreement) = &self.agreement {
            actions.push_back(Action::Send { seat, order: JobOrder::Agreed(agreement.clone()) });
        }
    }

    /// A survivor's shares.
    pub fn handle_reveal(&mut self, now_ms: u64, seat: u16, reveal: Reveal) -> Result<(), Reject> {
        self.since_ms = now_ms;
        if self.pads.is_none() {
            self.pads = self.collector.handle_reveal(seat, reveal).map_err(refused)?;
        }
        self.revealed.insert(seat);
        Ok(())
    }

    /// When the shares have been awaited long enough.
    pub fn deadline_ms(&self, rules: &Rules) -> Option<(u64, &'static str)> {
        Some((self.since_ms.saturating_add(rules.silent_ms_max), "shares that open the sum are awaited"))
    }

    /// Opens the sum once it can be.
    pub fn poll(mut self: Box<Self>, now_ms: u64, rules: &Rules) -> Poll {
        let Some(pads) = self.pads.take() else {
            if now_ms < self.since_ms.saturating_add(rules.silent_ms_max) {
                return Poll::Wait(self);
            }
            return Poll::Lost("too few hospitals gave the shares that open the sum".into());
        };
        // Nothing is computed yet: the algorithm reads what it needs, as it needs it.
        match self.sum.unmask(pads) {
            Ok(sum) => Poll::Summed(Box::new(sum)),
            Err(error) => Poll::Lost(error.to_string()),
        }
    }
}
