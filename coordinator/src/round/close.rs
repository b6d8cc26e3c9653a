//! Phase 3: who is in the sum is fixed, and enough survivors sign the same close.
//!
//! Without this consistency round (Bonawitz et al. 2017, round 3) a coordinator that shows different closes to different
//! hospitals could open a sum over fewer of them than the contract's minimum. Where the terms' threshold is too low for
//! signatures alone, the ledger has to hold the close before shares are asked for.

use std::collections::{BTreeSet, VecDeque};

use leben_privacy::Sum;
use leben_privacy::secure_sum::{Agree, Agreement, Close, Collector, Consistency, SlotKey};
use leben_protocol::frame::JobOrder;
use leben_protocol::reject::Reject;

use super::collect::{Collect, refused};
use super::{Action, Rules};
use crate::roster::Roster;

/// The close is out, signatures come in.
#[derive(Debug)]
pub struct Closing {
    slot: u64,
    since_ms: u64,
    collector: Collector,
    sum: Sum,
    survivors: Vec<u16>,
    close: Close,
    next: Option<(u64, Vec<SlotKey>)>,
    agreed: BTreeSet<u16>,
    agreement: Option<Agreement>,
    fixing: Fixing,
}

/// What the ledger is needed for.
#[derive(Debug, PartialEq, Eq)]
enum Fixing {
    /// Nothing: the signatures are enough.
    Unneeded,
    /// The close, once enough survivors signed it.
    Needed,
    /// It was told.
    Asked,
    /// It has it.
    Fixed,
}

/// Whether shares may be asked for.
#[derive(Debug)]
pub enum Poll {
    /// Signatures are missing.
    Wait,
    /// Enough survivors signed.
    Agreed,
    /// Too few will.
    Lost(String),
}

impl Closing {
    /// Fixes the survivors and tells them.
    pub fn new(
        now_ms: u64,
        phase: Collect,
        next: Option<(u64, Vec<SlotKey>)>,
        actions: &mut VecDeque<Action>,
    ) -> Result<Closing, Reject> {
        let slot = phase.slot();
        let (mut collector, sum, survivors) = phase.into_parts();
        let close = collector.close().map_err(refused)?;
        // Remembered before anybody is told: a coordinator that restarts here may open this round's sum only over
        // exactly these hospitals, and it has to know that.
        actions.push_back(Action::Remember { slot, pinned: Some(survivors.clone()) });
        let fixing = match collector.consistency() {
            Consistency::Signatures => Fixing::Unneeded,
            Consistency::Ledger => Fixing::Needed,
        };
        let closing = Closing {
            fixing,
            slot,
            since_ms: now_ms,
            collector,
            sum,
            survivors,
            close,
            next,
            agreed: BTreeSet::new(),
            agreement: None,
        };
        for seat in &closing.survivors {
            closing.retell(*seat, actions);
        }
        Ok(closing)
    }

    /// The slot's number.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// Seats in the sum.
    pub fn survivors(&self) -> &[u16] {
        &self.survivors
    }

    /// Tells a survivor who is in the sum.
    pub fn retell(&self, seat: u16, actions: &mut VecDeque<Action>) {
        if self.survivors.contains(&seat) && !self.agreed.contains(&seat) {
            let order = JobOrder::Close { close: self.close.clone(), next: self.next.clone() };
            actions.push_back(Action::Send { seat, order });
        }
    }

    /// A survivor's signature under the close.
    pub fn handle_agree(&mut self, now_ms: u64, seat: u16, agree: Agree) -> Result<(), Reject> {
        self.since_ms = now_ms;
        let agreement = self.collector.handle_agree(seat, agree).map_err(refused)?;
        self.agreed.insert(seat);
        if self.agreement.is_none() {
            self.agreement = agreement;
        }
        Ok(())
    }

    /// Asks, once, for the close to be put on the ledger where that is needed.
    pub fn fix(&mut self, actions: &mut VecDeque<Action>) {
        if self.fixing == Fixing::Needed && self.agreement.is_some() {
            self.fixing = Fixing::Asked;
            let (survivors, transcript) = (self.survivors.clone(), self.collector.transcript());
            actions.push_back(Action::Fix { slot: self.slot, survivors, transcript });
        }
    }

    /// The ledger's final part holds the close of this slot.
    pub fn handle_fixed(&mut self, slot: u64) {
        if slot == self.slot && self.fixing == Fixing::Asked {
            self.fixing = Fixing::Fixed;
        }
    }

    /// When the signatures have been awaited long enough.
    pub fn deadline_ms(&self, rules: &Rules) -> Option<(u64, &'static str)> {
        Some((self.since_ms.saturating_add(rules.silent_ms_max), "signatures under the close are awaited"))
    }

    /// Is the close agreed?
    pub fn poll(&self, now_ms: u64, rules: &Rules, roster: &Roster) -> Poll {
        if self.agreement.is_some() && matches!(self.fixing, Fixing::Unneeded | Fixing::Fixed) {
            return Poll::Agreed;
        }
        if now_ms < self.since_ms.saturating_add(rules.silent_ms_max) {
            return Poll::Wait;
        }
        if self.agreement.is_some() {
            return Poll::Lost("the witnesses did not make the close final on the ledger in time".into());
        }
        let silent = self.survivors.iter().filter(|seat| !self.agreed.contains(seat));
        let names: Vec<&str> = silent.map(|seat| roster.name(*seat)).collect();
        Poll::Lost(format!("{} did not sign who is in the sum", names.join(", ")))
    }

    /// What the next phase needs.
    pub(super) fn into_parts(self) -> Parts {
        Parts {
            slot: self.slot,
            collector: self.collector,
            sum: self.sum,
            survivors: self.survivors,
            close: self.close,
            next: self.next,
            agreement: self.agreement,
        }
    }
}

/// What goes from this phase to the next.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) slot: u64,
    pub(super) collector: Collector,
    pub(super) sum: Sum,
    pub(super) survivors: Vec<u16>,
    pub(super) close: Close,
    pub(super) next: Option<(u64, Vec<SlotKey>)>,
    pub(super) agreement: Option<Agreement>,
}
