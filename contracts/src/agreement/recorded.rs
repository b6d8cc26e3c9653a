//! One replay behind another. A ledger is followed twice: up to what was validated, and up to what is final. The second replay takes over
//! what each entry changed in the first, without checking it again, and shares the contracts with it.

use super::state::{Applied, State};
use crate::ledger::Replay;
use crate::ledger::entry::{Entry, Envelope};
use crate::ledger::follow::Refusal;
use crate::ledger::key::PublicKey;
use crate::ledger::policy;
use std::collections::VecDeque;

/// A state that keeps what its latest entries changed, for one that follows at a distance.
#[derive(Debug, Clone)]
pub struct Recorded {
    state: State,
    applied: VecDeque<Applied>,
}

impl Recorded {
    /// From this state on.
    #[must_use]
    pub fn new(state: State) -> Self {
        Self { state, applied: VecDeque::new() }
    }

    /// The state after the last entry.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What the entries that were not taken yet changed, in order.
    pub fn applied(&self) -> impl Iterator<Item = &Applied> {
        self.applied.iter()
    }

    /// Takes what the next entry below `size` changed, if it was applied and not taken yet.
    pub fn take(&mut self, size: u64) -> Option<Applied> {
        match self.applied.front() {
            Some(applied) if applied.index() < size => self.applied.pop_front(),
            _ => None,
        }
    }
}

impl Replay for Recorded {
    fn check(&self, seq_ms: u64, envelope: &Envelope) -> Result<(), Refusal> {
        Replay::check(&self.state, seq_ms, envelope)
    }

    fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), Refusal> {
        self.applied.push_back(self.state.advance(index, entry)?);
        Ok(())
    }

    fn find(&self, payload_hash: &[u8; 32]) -> Option<u64> {
        Replay::find(&self.state, payload_hash)
    }

    fn key_of(&self, keyid: &str) -> Option<PublicKey> {
        Replay::key_of(&self.state, keyid)
    }

    fn policy(&self) -> Option<policy::Policy> {
        self.state.witness_policy()
    }
}
