//! A hospital's eye on the log: the plain [`Witness`] attests that the log only grows; the [`Validator`] also recomputes the tree from
//! the entries and replays the state machine before it signs.
//!
//! Both answer C2SP `add-checkpoint` requests. Neither ever signs a lower size, nor another root at the same size. **The caller stores
//! [`WitnessAnswer::record`] durably before it sends the cosignatures**; a witness restored from an older record would sign a fork.

use super::add_checkpoint::AddCheckpoint;
use super::checkpoint::{Checkpoint, CheckpointError};
use super::follow::Refusal;
use super::merkle::{self, NodeReader, ProofError};
use super::note::{KeyType, Note, NoteError, NoteSigner, SignatureLine, VerifierKey};
pub use super::validator::Validator;

/// How far ahead of this machine's clock an entry may be stamped, in milliseconds: 5 minutes.
pub const CLOCK_AHEAD_MS_MAX: u64 = 5 * 60 * 1000;

/// Why a witness does not sign.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The request, or the stored record, has another form.
    #[error(transparent)]
    Malformed(#[from] CheckpointError),
    /// The checkpoint is of another log.
    #[error("the checkpoint is of the log `{0}`, which this witness does not follow")]
    UnknownOrigin(String),
    /// The log's signature is missing or wrong.
    #[error("the checkpoint is not signed by the log: {0}")]
    LogSignature(NoteError),
    /// A key given to the witness is not a cosignature key.
    #[error("the key `{0}` is not a cosignature key (type 0x04)")]
    Key(String),
    /// The sender believes in another last size than this witness remembers.
    #[error("the last checkpoint signed here has size {size}; send a consistency proof from there")]
    Conflict {
        /// The size remembered.
        size: u64,
    },
    /// The new size is below the old one.
    #[error("the checkpoint is smaller than the size it claims to extend")]
    Shrinks,
    /// The log signed two histories. Both notes together are the evidence: store them and tell people.
    #[error(
        "the log has signed two different trees of {size} entries: this is proof of a fork; both checkpoints are kept as evidence"
    )]
    Fork {
        /// The size at which they differ.
        size: u64,
        /// The checkpoint remembered here.
        mine: String,
        /// The one that contradicts it.
        theirs: String,
    },
    /// The consistency proof does not hold.
    #[error("the consistency proof is refused: {0}")]
    Consistency(#[from] ProofError),
    /// More is mirrored here than the checkpoint covers.
    #[error("this node has already checked {size} entries, more than the checkpoint covers; send a newer checkpoint")]
    Behind {
        /// Entries checked here.
        size: u64,
    },
    /// The entries sent do not make the checkpoint's tree.
    #[error(
        "the {entries} entries from {first_index} on do not lead to the checkpoint's root; an entry was altered, left out or added"
    )]
    Entries {
        /// Index of the first.
        first_index: u64,
        /// How many were sent.
        entries: usize,
    },
    /// An entry comes from the future.
    #[error(
        "entry {index} is stamped {} min ahead of this machine's clock: one of the two clocks is wrong; compare both with a time server, then retry",
        ahead_ms / 60_000
    )]
    Clock {
        /// The entry.
        index: u64,
        /// By how much, milliseconds.
        ahead_ms: u64,
    },
    /// The log signed an entry that its own rules forbid: nothing is signed from here on.
    #[error(
        "entry {index} breaks the ledger's rules, though the log signed it: {refusal}; this node signs nothing more until a person has looked"
    )]
    Illegal {
        /// The entry.
        index: u64,
        /// The rule.
        refusal: Refusal,
    },
}

impl WitnessError {
    /// The HTTP status that C2SP tlog-witness gives this answer. A 409 for [`WitnessError::Conflict`] carries the size as its body.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::Shrinks | Self::Key(_) => 400,
            Self::LogSignature(_) => 403,
            Self::UnknownOrigin(_) => 404,
            Self::Conflict { .. } | Self::Fork { .. } | Self::Behind { .. } => 409,
            Self::Consistency(_) | Self::Entries { .. } | Self::Clock { .. } | Self::Illegal { .. } => 422,
        }
    }
}

/// The last checkpoint signed: what a witness must not forget, and must not roll back. Stored as the note itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessRecord {
    note: Note,
    checkpoint: Checkpoint,
}

impl WitnessRecord {
    /// Reads a stored record; it must be signed by the log.
    ///
    /// # Errors
    /// [`WitnessError::Malformed`], [`WitnessError::UnknownOrigin`], [`WitnessError::LogSignature`].
    pub fn parse(bytes: &[u8], log: &VerifierKey) -> Result<Self, WitnessError> {
        let note = Note::parse(bytes).map_err(CheckpointError::from)?;
        let checkpoint = by_log(&note, log)?;
        Ok(Self { note, checkpoint })
    }

    /// The same, where a Handover has put another key in force since: signed by any of these, all of which the log once had.
    ///
    /// # Errors
    /// As [`WitnessRecord::parse`], of the last one tried.
    pub fn parse_by(bytes: &[u8], logs: &[VerifierKey]) -> Result<Self, WitnessError> {
        let mut refused = WitnessError::Malformed(CheckpointError::Format("there is no key to check it with"));
        for log in logs {
            match Self::parse(bytes, log) {
                Ok(record) => return Ok(record),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The bytes to store.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.note.to_string().into_bytes()
    }

    /// The checkpoint remembered.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint as the log signed it.
    #[must_use]
    pub fn note(&self) -> &Note {
        &self.note
    }
}

fn by_log(note: &Note, log: &VerifierKey) -> Result<Checkpoint, WitnessError> {
    let checkpoint = Checkpoint::of(note)?;
    if checkpoint.origin != log.name() {
        return Err(WitnessError::UnknownOrigin(checkpoint.origin));
    }
    note.verify(log).map_err(WitnessError::LogSignature)?;
    Ok(checkpoint)
}

/// What to do after a request was found good: first store `record` durably, then send `cosignatures`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WitnessAnswer {
    /// One line for each key.
    pub cosignatures: Vec<SignatureLine>,
    /// The new record.
    pub record: WitnessRecord,
}

impl WitnessAnswer {
    /// The response body: the signature lines.
    #[must_use]
    pub fn body(&self) -> String {
        self.cosignatures.iter().map(ToString::to_string).collect()
    }
}

/// Attests that one log only grows.
pub struct Witness {
    log: VerifierKey,
    signers: Vec<NoteSigner>,
    record: Option<WitnessRecord>,
}

impl Witness {
    /// A witness of `log` that signs with each of `signers`, and remembers `record` (`None` only for a log never signed before). The record
    /// may be under a key that the log had earlier; what it is asked to sign is under this one.
    ///
    /// # Errors
    /// [`WitnessError::Key`], or a record of another log.
    pub fn new(
        log: VerifierKey,
        signers: Vec<NoteSigner>,
        record: Option<WitnessRecord>,
    ) -> Result<Self, WitnessError> {
        if let Some(signer) = signers.iter().find(|s| s.vkey().kind() != KeyType::Cosignature) {
            return Err(WitnessError::Key(signer.vkey().name().to_owned()));
        }
        if let Some(record) = record.as_ref().filter(|record| record.checkpoint.origin != log.name()) {
            return Err(WitnessError::UnknownOrigin(record.checkpoint.origin.clone()));
        }
        Ok(Self { log, signers, record })
    }

    /// Signs with other keys from now on. The record stays: it is the same witness. A key of another type is left out.
    pub fn set_signers(&mut self, signers: Vec<NoteSigner>) {
        self.signers = signers;
        self.signers.retain(|signer| signer.vkey().kind() == KeyType::Cosignature);
    }

    /// The log's key.
    #[must_use]
    pub fn log(&self) -> &VerifierKey {
        &self.log
    }

    /// The last checkpoint signed.
    #[must_use]
    pub fn record(&self) -> Option<&WitnessRecord> {
        self.record.as_ref()
    }

    /// Size of the last checkpoint signed; 0 for none.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.record.as_ref().map_or(0, |r| r.checkpoint.size)
    }

    /// Answers an `add-checkpoint` request at `now_ms` (Unix milliseconds).
    ///
    /// # Errors
    /// [`WitnessError`]; nothing was signed and nothing changed.
    pub fn handle_add_checkpoint(&mut self, now_ms: u64, body: &[u8]) -> Result<WitnessAnswer, WitnessError> {
        let request = self.examine(body)?;
        Ok(self.sign(now_ms, request))
    }

    /// C2SP's checks, in C2SP's order.
    pub(super) fn examine(&self, body: &[u8]) -> Result<AddCheckpoint, WitnessError> {
        let request = AddCheckpoint::parse(body)?;
        let checkpoint = by_log(&request.note, &self.log)?;
        if request.old_size > checkpoint.size {
            return Err(WitnessError::Shrinks);
        }
        self.compare(&request.note, &checkpoint)?;
        let size = self.size();
        if request.old_size != size {
            return Err(WitnessError::Conflict { size });
        }
        let old_root = self.record.as_ref().map_or_else(merkle::empty_root, |r| r.checkpoint.root);
        merkle::verify_consistency(&request.proof, size, &old_root, checkpoint.size, &checkpoint.root)?;
        Ok(request)
    }

    /// The checkpoint in a note that the log signed.
    pub(super) fn verify_log(&self, note: &Note) -> Result<Checkpoint, WitnessError> {
        by_log(note, &self.log)
    }

    /// Compares somebody else's view of the log with this one's: gossip. Views of different sizes agree as far as this can tell;
    /// [`find_fork`] tells more where the entries are at hand.
    ///
    /// # Errors
    /// [`WitnessError::Fork`] when the log signed both; a view that the log did not sign is refused as such.
    pub fn handle_view(&self, theirs: &[u8]) -> Result<Checkpoint, WitnessError> {
        let note = Note::parse(theirs).map_err(CheckpointError::from)?;
        let checkpoint = by_log(&note, &self.log)?;
        self.compare(&note, &checkpoint)?;
        Ok(checkpoint)
    }

    /// What a peer is shown: the largest checkpoint signed here, cosigned again at `now_ms`, so that nobody can pass an old view off
    /// as today's. `None` before the first.
    #[must_use]
    pub fn view(&self, now_ms: u64) -> Option<Note> {
        let mut view = self.record.as_ref()?.note.with_lines(|line| line.is_by(&self.log));
        for signer in &self.signers {
            // Two lines more than the log's own: far from the limit.
            view.push(signer.sign(view.text(), (now_ms / 1000).max(1))).ok()?;
        }
        Some(view)
    }

    /// Compares a checkpoint that is known to be the log's, whichever key of it signed, with the last one signed here.
    ///
    /// # Errors
    /// [`WitnessError::Fork`].
    pub fn compare(&self, note: &Note, checkpoint: &Checkpoint) -> Result<(), WitnessError> {
        match &self.record {
            Some(mine) if mine.checkpoint.size == checkpoint.size && mine.checkpoint.root != checkpoint.root => {
                Err(WitnessError::Fork { size: checkpoint.size, mine: mine.note.to_string(), theirs: note.to_string() })
            }
            _ => Ok(()),
        }
    }

    pub(super) fn sign(&mut self, now_ms: u64, request: AddCheckpoint) -> WitnessAnswer {
        let time_s = (now_ms / 1000).max(1);
        let cosignatures = self.signers.iter().map(|s| s.sign(request.note.text(), time_s)).collect();
        let record = WitnessRecord { note: request.note, checkpoint: request.checkpoint };
        self.record = Some(record.clone());
        WitnessAnswer { cosignatures, record }
    }
}

/// Checks somebody else's view of any size up to `mine`'s against the tree that `mine` stands for.
///
/// # Errors
/// `Err(Ok(fork))` is a [`WitnessError`]; `Err(Err(e))` is the reader's own error.
pub fn find_fork<N: NodeReader>(
    log: &VerifierKey,
    mine: &WitnessRecord,
    nodes: &N,
    theirs: &[u8],
) -> Result<Checkpoint, Result<WitnessError, N::Error>> {
    let note = Note::parse(theirs).map_err(|e| Ok(CheckpointError::from(e).into()))?;
    let checkpoint = by_log(&note, log).map_err(Ok)?;
    if checkpoint.size <= mine.checkpoint.size
        && merkle::root_at(nodes, checkpoint.size).map_err(Err)? != checkpoint.root
    {
        let size = checkpoint.size;
        return Err(Ok(WitnessError::Fork { size, mine: mine.note.to_string(), theirs: note.to_string() }));
    }
    Ok(checkpoint)
}
