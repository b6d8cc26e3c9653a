//! What wants to be sequenced waits here until the roll call is over.

use std::collections::VecDeque;
use std::sync::Arc;

use leben_protocol::reject::{Reject, RejectCode};

use super::ledger::Command;
use super::metrics::Metrics;
use crate::drift::Drift;
use crate::roll_call::RollCall;

/// Appends that wait at most.
const HELD_MAX: usize = 4096;
/// How long an append waits before it is told to come again, milliseconds.
const HELD_MS: u64 = 20_000;

/// Open once the roll call is over.
pub(super) struct Door {
    roll: Option<RollCall>,
    held: VecDeque<(u64, Command)>,
    metrics: Arc<Metrics>,
    /// The clock, beside it.
    pub(super) drift: Drift,
}

impl Door {
    /// Closed until enough witnesses have answered.
    pub(super) fn new(roll: RollCall, metrics: Arc<Metrics>) -> Door {
        let mut door = Door { roll: Some(roll), held: VecDeque::new(), metrics, drift: Drift::default() };
        door.look();
        door
    }

    /// Gives the command back if its turn is now.
    pub(super) fn handle_command(&mut self, now_ms: u64, command: Command) -> Option<Command> {
        let writes = matches!(command, Command::Append { .. } | Command::Own { .. });
        if self.roll.is_none() || !writes {
            return Some(command);
        }
        match self.held.len() < HELD_MAX {
            true => self.held.push_back((now_ms.saturating_add(HELD_MS), command)),
            false => self.refuse(command),
        }
        None
    }

    /// A witness told what it holds, and that is part of this log. Returns what may go on now, in its order.
    pub(super) fn handle_answer(&mut self, party: &str) -> Vec<Command> {
        if let Some(roll) = &mut self.roll {
            roll.handle_answer(party);
            self.look();
        }
        match self.roll {
            Some(_) => Vec::new(),
            None => self.held.drain(..).map(|(_, command)| command).collect(),
        }
    }

    /// When the first append has waited long enough, or witnesses are to be asked again, Unix milliseconds.
    pub(super) fn poll_timeout(&self) -> Option<u64> {
        let waits = |(_, command): &&(u64, Command)| matches!(command, Command::Append { .. });
        let held = self.held.iter().find(waits).map(|(until_ms, _)| *until_ms);
        held.into_iter().chain(self.drift.poll_timeout()).min()
    }

    /// Tells those who have waited long enough what they wait for. The coordinator's own actions wait on.
    pub(super) fn handle_timeout(&mut self, now_ms: u64) {
        for (until_ms, command) in std::mem::take(&mut self.held) {
            match command {
                Command::Append { .. } if until_ms <= now_ms => self.refuse(command),
                command => self.held.push_back((until_ms, command)),
            }
        }
    }

    fn look(&mut self) {
        let (count, names) = self.roll.as_ref().map(RollCall::missing).unwrap_or_default();
        self.metrics.witnesses_awaited.set(i64::try_from(count).unwrap_or(i64::MAX));
        if count > 0 {
            tracing::warn!(count, of = names.join(" "), "nothing is sequenced until so many more witnesses are linked");
        } else if self.roll.take().is_some() {
            tracing::info!("no witness has seen more than this folder holds: the log goes on");
        }
    }

    fn refuse(&self, command: Command) {
        let (count, names) = self.roll.as_ref().map(RollCall::missing).unwrap_or_default();
        let words = format!(
            "the coordinator was started and waits for {count} more of its witnesses ({}) to say what they have seen",
            names.join(", ")
        );
        let reject = Reject::new(RejectCode::NotReady, words);
        self.metrics.reject(&reject);
        // Whoever waited may have gone.
        match command {
            Command::Append { reply, .. } | Command::Own { reply, .. } => drop(reply.send(Err(reject))),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use leben_contracts::ledger::key::PublicKey;
    use leben_contracts::ledger::note::{KeyType, VerifierKey};
    use leben_contracts::ledger::policy::Policy;
    use tokio::sync::oneshot;

    fn append() -> (Command, oneshot::Receiver<Result<crate::io::ledger::Appended, Reject>>) {
        let (reply, answer) = oneshot::channel();
        (Command::Append { envelope: Vec::new(), wait_final: false, reply }, answer)
    }

    #[test]
    fn appends_wait_for_the_witnesses_and_are_told_so_after_a_while() {
        let vkey = |name, kind, seed: u8| {
            VerifierKey::new(name, kind, PublicKey::of(&SigningKey::from_bytes(&[seed; 32]))).unwrap()
        };
        let witnesses = [vkey("aker", KeyType::Cosignature, 1), vkey("basel", KeyType::Cosignature, 2)];
        let policy = Policy::k_of_n(&vkey("log", KeyType::Ed25519, 3), &witnesses, 2).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let mut door = Door::new(RollCall::new(vec![policy]), metrics.clone());
        assert_eq!((metrics.witnesses_awaited.get(), door.poll_timeout()), (2, None));

        let (first, mut told) = append();
        assert!(door.handle_command(1_000, first).is_none());
        let (second, mut let_in) = append();
        assert!(door.handle_command(2_000, second).is_none());
        assert_eq!(door.poll_timeout(), Some(1_000 + HELD_MS));
        assert!(door.handle_answer("aker").is_empty());
        door.handle_timeout(1_000 + HELD_MS);
        let reject = told.try_recv().unwrap().unwrap_err();
        assert!(reject.is_temporary() && reject.message.contains("1 more of its witnesses (basel)"), "{reject}");
        assert!(let_in.try_recv().is_err(), "the later one still waits");

        assert_eq!(door.handle_answer("basel").len(), 1);
        assert_eq!((metrics.witnesses_awaited.get(), door.poll_timeout()), (0, None));
        assert!(door.handle_command(3_000, append().0).is_some());
    }
}
