//! Following a log entry by entry: the rules that hold for every entry whatever its kind, before the state machine is asked.

use super::Replay;
use super::entry::{Entry, EntryError, Envelope, origin_hash};

/// Why an envelope may not become, or an entry may not be, the next one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The bytes are not an envelope or an entry.
    #[error(transparent)]
    Malformed(#[from] EntryError),
    /// Signed for another log.
    #[error("the action was signed for another network ({0}); sign it again for this one")]
    Network(String),
    /// Too early or too late.
    #[error(
        "the ledger's time is {} the time in which the action is valid; if it has not waited that long, this machine's clock is wrong: set it (for example by NTP) and sign again",
        distance(*not_before_ms, *not_after_ms, *seq_ms)
    )]
    Window {
        /// Start of its window.
        not_before_ms: u64,
        /// End of its window.
        not_after_ms: u64,
        /// The time it would be, or was, sequenced at.
        seq_ms: u64,
    },
    /// The sequenced time went backwards.
    #[error("its sequenced time {seq_ms} ms is before the entry before it ({last_seq_ms} ms)")]
    Backwards {
        /// Its time.
        seq_ms: u64,
        /// The time of its predecessor.
        last_seq_ms: u64,
    },
    /// The same action again.
    #[error("the action is already entry {first_index}")]
    Twice {
        /// Where it was first recorded.
        first_index: u64,
    },
    /// A signature is missing, is by a key that is not in force, or does not verify.
    #[error("{0}")]
    Signature(String),
    /// The state machine says no.
    #[error("{0}")]
    State(String),
}

/// How far a time lies outside a window, in minutes rounded up.
fn distance(not_before_ms: u64, not_after_ms: u64, seq_ms: u64) -> String {
    match not_before_ms.checked_sub(seq_ms) {
        Some(early_ms) if early_ms > 0 => format!("{} min before", early_ms.div_ceil(60_000)),
        _ => format!("{} min after", seq_ms.saturating_sub(not_after_ms).div_ceil(60_000)),
    }
}

/// A state machine with its place in the log.
#[derive(Debug, Clone)]
pub struct Follower<R> {
    network: String,
    next_index: u64,
    last_seq_ms: u64,
    replay: R,
}

impl<R: Replay> Follower<R> {
    /// At the start of the log with this origin.
    pub fn new(origin: &str, replay: R) -> Self {
        Self::resume(origin, 0, 0, replay)
    }

    /// Behind `next_index` entries, the last of them sequenced at `last_seq_ms`, all of which `replay` has taken into account.
    pub fn resume(origin: &str, next_index: u64, last_seq_ms: u64, replay: R) -> Self {
        Self { network: origin_hash(origin), next_index, last_seq_ms, replay }
    }

    /// Index of the entry that comes next.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }

    /// Sequenced time of the last entry, Unix milliseconds; 0 at the start.
    pub fn last_seq_ms(&self) -> u64 {
        self.last_seq_ms
    }

    /// The state machine.
    pub fn replay(&self) -> &R {
        &self.replay
    }

    /// The state machine, to take from it what it keeps for others. Entries reach it through [`Follower::apply`] alone.
    pub fn replay_mut(&mut self) -> &mut R {
        &mut self.replay
    }

    /// Where an action was first recorded, by its payload hash, as far as the state machine remembers.
    pub fn find(&self, payload_hash: &[u8; 32]) -> Option<u64> {
        self.replay.find(payload_hash)
    }

    /// Whether an envelope may become the next entry at `seq_ms`.
    ///
    /// # Errors
    /// [`Refusal`], for the person who sent it.
    pub fn check(&self, seq_ms: u64, envelope: &Envelope) -> Result<(), Refusal> {
        self.check_place(seq_ms, envelope)?;
        self.replay.check(seq_ms, envelope)
    }

    /// Takes the next entry; nothing changes when it is refused.
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn apply(&mut self, entry: &Entry) -> Result<(), Refusal> {
        self.check_place(entry.seq_ms(), entry.envelope())?;
        self.replay.apply(self.next_index, entry)?;
        self.last_seq_ms = entry.seq_ms();
        self.next_index = self.next_index.saturating_add(1);
        Ok(())
    }

    fn check_place(&self, seq_ms: u64, envelope: &Envelope) -> Result<(), Refusal> {
        let action = envelope.action();
        if action.network != self.network {
            return Err(Refusal::Network(action.network.clone()));
        }
        if let Some(first_index) = self.find(&envelope.payload_hash()) {
            return Err(Refusal::Twice { first_index });
        }
        if seq_ms < self.last_seq_ms {
            return Err(Refusal::Backwards { seq_ms, last_seq_ms: self.last_seq_ms });
        }
        let (not_before_ms, not_after_ms) = (action.not_before_ms, action.not_after_ms);
        if seq_ms < not_before_ms || seq_ms > not_after_ms {
            return Err(Refusal::Window { not_before_ms, not_after_ms, seq_ms });
        }
        Ok(())
    }
}
