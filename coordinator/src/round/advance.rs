//! The declared transitions of a round: which phase follows which, and why.

use super::close::Closing;
use super::collect::Collect;
use super::prepare::Preparation;
use super::unmask::Unmasking;
use super::{Action, Outcome, Phase, Round, close, collect, prepare, unmask};
use crate::roster::Roster;

impl Round {
    /// The declared transitions. Loops until nothing moves.
    pub(super) fn advance(&mut self, now_ms: u64, roster: &Roster) {
        loop {
            let phase = std::mem::replace(&mut self.phase, Phase::Ended);
            let (next, moved) = match phase {
                Phase::Prepare => self.advance_prepare(now_ms, roster),
                Phase::Collect(phase) => self.advance_collect(now_ms, phase, roster),
                Phase::Close(phase) => self.advance_close(now_ms, phase, roster),
                Phase::Unmask(phase) => self.advance_unmask(now_ms, phase),
                Phase::Ended => (Phase::Ended, false),
            };
            self.phase = next;
            if !moved {
                return;
            }
        }
    }

    fn advance_prepare(&mut self, now_ms: u64, roster: &Roster) -> (Phase, bool) {
        match self.preparation.poll(now_ms, &self.rules, roster, self.pinned.as_deref(), &mut self.actions) {
            prepare::Poll::Wait => (Phase::Prepare, false),
            prepare::Poll::Again => self.repeat(now_ms, "not every share for the slot arrived".into()),
            prepare::Poll::Widen => {
                self.preparation.begin_again(now_ms);
                (Phase::Prepare, true)
            }
            prepare::Poll::Hopeless(reason) => self.fail(reason),
            prepare::Poll::Ready(ready) => {
                let slot = self.preparation.slot();
                self.preparation = Preparation::new(slot + 1);
                match Collect::open(now_ms, &self.opened, &self.rules, ready, &mut self.actions) {
                    Ok(phase) => {
                        self.preparation.ask_bystanders(phase.cohort(), roster, &mut self.actions);
                        (Phase::Collect(Box::new(phase)), true)
                    }
                    Err(reject) => self.fail(format!("the slot could not be opened: {reject}")),
                }
            }
        }
    }

    fn advance_collect(&mut self, now_ms: u64, phase: Box<Collect>, roster: &Roster) -> (Phase, bool) {
        match phase.poll(now_ms, &self.rules, roster) {
            collect::Poll::Wait => {
                self.preparation.ask_bystanders(&phase.taking_part(), roster, &mut self.actions);
                (Phase::Collect(phase), false)
            }
            collect::Poll::Complete => self.enter_close(now_ms, *phase, roster),
            collect::Poll::Lost { names, enough } => {
                let may_go_on = enough && self.pinned.is_none();
                if may_go_on && (!self.rules.repeat_on_drop || self.repeats >= self.rules.retries) {
                    return self.enter_close(now_ms, *phase, roster);
                }
                phase.abandon(&mut self.actions);
                self.repeat(now_ms, format!("{names} dropped out before the sum was complete"))
            }
        }
    }

    fn enter_close(&mut self, now_ms: u64, phase: Collect, roster: &Roster) -> (Phase, bool) {
        let next = self.preparation.freeze();
        match Closing::new(now_ms, phase, next, &mut self.actions) {
            Ok(phase) => {
                self.pinned = Some(phase.survivors().to_vec());
                self.preparation.tell_keys(phase.survivors(), roster, &mut self.actions);
                (Phase::Close(Box::new(phase)), true)
            }
            Err(reject) => self.fail(format!("the slot could not be closed: {reject}")),
        }
    }

    fn advance_close(&mut self, now_ms: u64, mut phase: Box<Closing>, roster: &Roster) -> (Phase, bool) {
        phase.fix(&mut self.actions);
        match phase.poll(now_ms, &self.rules, roster) {
            close::Poll::Wait => (Phase::Close(phase), false),
            close::Poll::Agreed => (Phase::Unmask(Box::new(Unmasking::new(now_ms, *phase, &mut self.actions))), true),
            close::Poll::Lost(reason) => {
                self.actions.push_back(Action::Discard { slot: phase.slot(), summed: false });
                self.repeat(now_ms, reason)
            }
        }
    }

    fn advance_unmask(&mut self, now_ms: u64, phase: Box<Unmasking>) -> (Phase, bool) {
        let (slot, survivors, transcript) = (phase.slot(), phase.survivors().to_vec(), phase.transcript());
        match phase.poll(now_ms, &self.rules) {
            unmask::Poll::Wait(phase) => (Phase::Unmask(phase), false),
            unmask::Poll::Summed(sum) => {
                self.actions.push_back(Action::Discard { slot, summed: true });
                self.outcome = Some(Outcome::Summed { sum, survivors, transcript });
                (Phase::Ended, false)
            }
            unmask::Poll::Lost(reason) => {
                self.actions.push_back(Action::Discard { slot, summed: false });
                self.repeat(now_ms, reason)
            }
        }
    }

    fn repeat(&mut self, now_ms: u64, reason: String) -> (Phase, bool) {
        if self.repeats >= self.rules.retries {
            return self.fail(format!("{reason}; the terms allow {} repeats of a round", self.rules.retries));
        }
        self.repeats += 1;
        self.preparation.begin_again(now_ms);
        (Phase::Prepare, true)
    }

    fn fail(&mut self, reason: String) -> (Phase, bool) {
        self.outcome = Some(Outcome::Failed { reason });
        (Phase::Ended, false)
    }
}
