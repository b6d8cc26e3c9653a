//! The sequencer: envelopes in, one batch of the log out. Pure; the files and their order of commit are `store`'s.

use super::Replay;
use super::checkpoint::Checkpoint;
use super::entry::{Entry, EntryError, Envelope};
use super::follow::{Follower, Refusal};
use super::merkle::Hash;
use super::note::{KeyType, Note, NoteError, NoteSigner};
use super::policy::Policy;
use super::prepare;
use super::tile::{Batch, Builder, TileError};
use super::turn::{self, Turns};

/// Most envelopes in one batch (LEDGER, commit order step 1).
pub const BATCH_MAX: usize = 256;

/// Why no batch can be made at all: stop the process. What is wrong with one envelope is a [`Refusal`] in its own result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SequencerError {
    /// The log's key is not a plain ed25519 key named after the log's origin.
    #[error("the log's key is named `{0}` and must be an ed25519 key (0x01) named after the log's origin")]
    Key(String),
    /// More envelopes than [`BATCH_MAX`].
    #[error("a batch of {0} envelopes; at most {BATCH_MAX} at a time")]
    BatchTooLarge(usize),
    /// The builder and the follower stand at different sizes.
    #[error("the tiles hold {tiles} entries and the state machine has seen {replayed}; replay the log from its files")]
    OutOfStep {
        /// Entries in the tiles.
        tiles: u64,
        /// Entries replayed.
        replayed: u64,
    },
    /// A tile could not be made.
    #[error(transparent)]
    Tile(#[from] TileError),
    /// A note could not be made.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// What one call to [`Sequencer::stage`] made.
#[derive(Debug, Clone)]
pub struct Staged {
    /// Where each envelope is or will be: a new index, or the first one if the same action is there already; or why not.
    pub results: Vec<Result<u64, Refusal>>,
    /// The new leaves, in order.
    pub entries: Vec<Entry>,
    /// What to commit; `None` when nothing new was admitted. Its signature must not leave the process before HEAD names it.
    pub batch: Option<Batch>,
    /// The checkpoints that end with a turn (see [`super::turn`]): each has to be cosigned by itself.
    pub turns: Vec<TurnPoint>,
}

/// A log that ends with a turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TurnPoint {
    /// Entries, the turn included.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The policy in force after them.
    pub policy: Option<Policy>,
}

/// Orders actions. Any error after a batch was staged means: exit, and let start-up recover; this value has moved on.
pub struct Sequencer<R> {
    origin: String,
    signer: NoteSigner,
    builder: Builder,
    follower: Follower<R>,
    turns: Turns,
}

impl<R: Replay> Sequencer<R> {
    /// Takes up a log: `builder` at the right edge of its tiles, `follower` having replayed all its entries.
    ///
    /// # Errors
    /// [`SequencerError::Key`], [`SequencerError::OutOfStep`].
    pub fn new(signer: NoteSigner, builder: Builder, follower: Follower<R>) -> Result<Self, SequencerError> {
        let origin = signer.vkey().name().to_owned();
        if signer.vkey().kind() != KeyType::Ed25519 {
            return Err(SequencerError::Key(origin));
        }
        let (tiles, replayed) = (builder.tree().size(), follower.next_index());
        if tiles != replayed {
            return Err(SequencerError::OutOfStep { tiles, replayed });
        }
        let turns = Turns::new(follower.replay().policy());
        Ok(Self { origin, signer, builder, follower, turns })
    }

    /// The log's origin.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of entries staged so far.
    pub fn size(&self) -> u64 {
        self.builder.tree().size()
    }

    /// The state machine after everything staged so far.
    pub fn state(&self) -> &R {
        self.follower.replay()
    }

    /// The state machine, to take from it what it keeps for others.
    pub fn state_mut(&mut self) -> &mut R {
        self.follower.replay_mut()
    }

    /// Where an action was first recorded, by its payload hash.
    pub fn find(&self, payload_hash: &[u8; 32]) -> Option<u64> {
        self.follower.find(payload_hash)
    }

    /// Admits envelopes one after the other, so that those of one batch see each other, and builds tiles and checkpoint.
    /// All get the time `max(now_ms, last)`: sequenced time never goes backwards.
    ///
    /// # Errors
    /// [`SequencerError`]: stop.
    pub fn stage(&mut self, now_ms: u64, envelopes: &[Vec<u8>]) -> Result<Staged, SequencerError> {
        if envelopes.len() > BATCH_MAX {
            return Err(SequencerError::BatchTooLarge(envelopes.len()));
        }
        let first_index = self.size();
        let seq_ms = now_ms.max(self.follower.last_seq_ms());
        let (mut results, mut entries, mut turns) = (Vec::with_capacity(envelopes.len()), Vec::new(), Vec::new());
        for envelope in prepare::envelopes(envelopes, self.follower.replay()) {
            match self.admit(seq_ms, envelope) {
                Ok(entry) => {
                    results.push(Ok(self.size()));
                    self.builder.append(entry.bytes())?;
                    turns.extend(self.turn(&entry));
                    entries.push(entry);
                }
                Err(Refusal::Twice { first_index }) => results.push(Ok(first_index)),
                Err(refusal) => results.push(Err(refusal)),
            }
        }
        let batch = if entries.is_empty() { None } else { Some(self.batch(first_index)?) };
        Ok(Staged { results, entries, batch, turns })
    }

    /// A checkpoint of an earlier size, for example one that ends with a turn. The caller knows the root from the log itself.
    ///
    /// # Errors
    /// [`SequencerError::Note`].
    pub fn sign(&self, size: u64, root: Hash) -> Result<Note, SequencerError> {
        let mut note = Note::new(Checkpoint::new(&self.origin, size, root).to_string())?;
        note.push(self.signer.sign(note.text(), 0))?;
        Ok(note)
    }

    fn turn(&mut self, entry: &Entry) -> Option<TurnPoint> {
        let turn = self.turns.step(&entry.action().kind, || self.follower.replay().policy())?;
        let tree = self.builder.tree();
        Some(TurnPoint { size: tree.size(), root: tree.root(), policy: turn.new })
    }

    fn admit(&mut self, seq_ms: u64, envelope: Result<Envelope, EntryError>) -> Result<Entry, Refusal> {
        let entry = Entry::new(envelope?, seq_ms)?;
        // Signed with the old key it could never become final, and whoever holds the old key would go on beside the new one.
        if turn::handed_to(entry.action()).is_some_and(|key| key != self.signer.vkey().key().to_hex()) {
            let why = "this Handover names another log key than this coordinator's; the new coordinator sequences it: leben-coordinator handover finish";
            return Err(Refusal::State(why.to_owned()));
        }
        self.follower.apply(&entry)?;
        Ok(entry)
    }

    fn batch(&mut self, first_index: u64) -> Result<Batch, SequencerError> {
        let files = self.builder.take_files();
        let tree = self.builder.tree();
        let note = self.sign(tree.size(), tree.root())?;
        Ok(Batch { first_index, size: tree.size(), files, note })
    }
}
