//! When the coordinator is lost, or not trusted any more: which history goes on, and who says so.
//!
//! The hospitals *freeze* (they sign and store nothing more for the old key), and the largest certificate among them goes on under a new
//! log key. Its first entry is the [`Handover`], which names that certificate's size and root, so that it fits one place of one history, and
//! which a quorum of the hospitals has signed. Each of them compares it with its own copy before it signs. That is why nothing
//! final is lost: an entry was acknowledged as final when k of n hospitals had stored its certificate; k have signed the Handover, so at
//! least 2k - n of them had stored it, more than the f that may lie, and an honest one does not sign what leaves it out (see [`Promise`]).
//!
//! That holds for a coordinator that ran the round in which the certificate is stored. A malicious one can keep a certificate to itself and
//! give a team a proof that k hospitals signed and none of them stored; such an entry can be missing afterwards. A hospital that cosigned
//! beyond what goes on says so before it signs.

use crate::agreement::body::{Body, Handover, liars_max, quorum};
use crate::agreement::error::{Reason, StepError};
use crate::agreement::hash::Hash32;
use crate::agreement::snapshot::Snapshots;
use crate::agreement::state::State;
use crate::ledger::action_file::{ACTION_FILE_BYTES_MAX, ActionFile};
use crate::ledger::checkpoint::{Checkpoint, CheckpointError};
use crate::ledger::entry::EntryError;
use crate::ledger::evidence::ForkEvidence;
use crate::ledger::note::Note;
use crate::ledger::policy::Policy;
use crate::ledger::prepare;
use crate::ledger::store::{LogReader, ReadError, StoreError, read_at_most};
use crate::verify::{Options, VerifyError, verify_folder};
use std::path::{Path, PathBuf};

/// Entries replayed at a time.
const STEP: u64 = 4096;

/// Why a log is not handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// A copy of the log that does not verify.
    #[error("{}: {error}", dir.display())]
    Verify {
        /// The copy.
        dir: PathBuf,
        /// What is wrong with it.
        error: VerifyError,
    },
    /// No log there.
    #[error("{} holds no published log: give a hospital's folder, its mirror/public, or what `leben ledger export` made", .0.display())]
    NoLog(PathBuf),
    /// Copies of different logs.
    #[error("{} is of the log '{got}', the others are of '{wanted}'", dir.display())]
    Origin {
        /// The copy.
        dir: PathBuf,
        /// Its log.
        got: String,
        /// The log of the first one.
        wanted: String,
    },
    /// Two copies that are both certified contradict each other.
    #[error(
        "fork: the certificates of {} and {} contradict each other at {size} entries: the log has signed two histories, and both were \
         cosigned by a quorum. Neither can go on; begin a new network whose first entry holds the proof (leben-coordinator init --embed)",
        one.display(), other.display()
    )]
    Fork {
        /// The smaller one.
        one: PathBuf,
        /// The larger one.
        other: PathBuf,
        /// Entries of the smaller one.
        size: u64,
        /// The proof, for anybody.
        evidence: Option<Box<ForkEvidence>>,
    },
    /// A log that no hospital cosigns.
    #[error("no hospital cosigns this log yet, so nobody could hand it over; make a new network instead")]
    NoQuorum,
    /// An action of another kind.
    #[error("{}: this is a {kind}, not a Handover", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// Its kind.
        kind: String,
    },
    /// A file that is no action.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: EntryError,
    },
    /// The new coordinator did not sign.
    #[error(
        "the new coordinator's own signature is missing; take the file that `leben-coordinator handover prepare` wrote"
    )]
    Unsigned,
    /// The ledger would not take it there.
    #[error("the Handover is refused: {0}")]
    Refused(Box<StepError>),
    /// An entry of the copy that cannot be replayed.
    #[error("entry {index} of {}: {why}", dir.display())]
    Entry {
        /// The copy.
        dir: PathBuf,
        /// The entry.
        index: u64,
        /// Why.
        why: String,
    },
    /// Reading a copy.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Reading or writing a file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A checkpoint.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

impl HandoverError {
    /// Exit code of the command: `leben verify`'s where a copy does not verify, 8 for a fork, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Verify { error, .. } => error.exit_code(),
            Self::Fork { .. } => 8,
            _ => 1,
        }
    }
}

/// The copy to go on from.
#[derive(Debug)]
pub struct Chosen {
    /// Its published folder.
    pub dir: PathBuf,
    /// Its checkpoint.
    pub checkpoint: Checkpoint,
    /// Who cosigned it.
    pub cosigners: Vec<String>,
    /// The state after all of its entries.
    pub state: State,
    /// Every copy, with its entries: the chosen one, verified, then those that are its beginning.
    pub copies: Vec<(PathBuf, u64)>,
}

/// The published folder of a copy: the folder itself, a hospital's, or a coordinator's or a team's.
///
/// # Errors
/// [`HandoverError::NoLog`].
pub fn published(dir: &Path) -> Result<PathBuf, HandoverError> {
    let found = ["", "mirror/public", "ledger"].into_iter().map(|inner| dir.join(inner));
    found.into_iter().find(|dir| dir.join("checkpoint").is_file()).ok_or_else(|| HandoverError::NoLog(dir.to_owned()))
}

/// Verifies the copy with the largest certificate to the last byte, and returns it. All others must be its beginning; one that is not is verified
/// as well, and if it holds, that is a fork. `policy` is the one that the reader trusts; without it the copies vouch for themselves alone.
///
/// # Errors
/// [`HandoverError`], in particular [`HandoverError::Fork`].
pub fn choose(dirs: &[PathBuf], policy: Option<&Policy>) -> Result<Chosen, HandoverError> {
    let mut copies = Vec::new();
    for dir in dirs {
        let dir = published(dir)?;
        let note = LogReader::new(&dir).checkpoint()?;
        copies.push((Checkpoint::of(&note)?, dir, note));
    }
    // The first of the largest: the sort is stable.
    copies.sort_by_key(|(checkpoint, ..)| std::cmp::Reverse(checkpoint.size));
    let mut copies = copies.into_iter();
    let (_, dir, note) = copies.next().ok_or(HandoverError::NoQuorum)?;
    let mut chosen = read(&dir, &note, policy)?;
    chosen.copies.push((dir, chosen.checkpoint.size));
    for (checkpoint, dir, other) in copies {
        if checkpoint.origin != chosen.checkpoint.origin {
            let wanted = chosen.checkpoint.origin.clone();
            return Err(HandoverError::Origin { dir, got: checkpoint.origin, wanted });
        }
        compare(&chosen, &note, &dir, &other, policy)?;
        chosen.copies.push((dir, checkpoint.size));
    }
    if chosen.state.policy().is_none() {
        return Err(HandoverError::NoQuorum);
    }
    Ok(chosen)
}

fn read(dir: &Path, note: &Note, policy: Option<&Policy>) -> Result<Chosen, HandoverError> {
    let mut state = State::new(&Checkpoint::of(note)?.origin);
    // What a hospital cosigned beyond its certificate lies there as well.
    let options = Options { policy: policy.cloned(), growing: true, replay: Some(&mut state), ..Options::default() };
    let report = verify_folder(dir, options).map_err(|error| HandoverError::Verify { dir: dir.to_owned(), error })?;
    let cosigners = report.cosigners.into_iter().map(|(name, _)| name).collect();
    let (dir, checkpoint) = (dir.to_owned(), report.checkpoint);
    Ok(Chosen { dir, checkpoint, cosigners, state, copies: Vec::new() })
}

/// Another copy must be the beginning of the chosen one. Then nothing else in it matters; a certified copy of anything else is a fork.
fn compare(
    chosen: &Chosen,
    largest: &Note,
    dir: &Path,
    note: &Note,
    policy: Option<&Policy>,
) -> Result<(), HandoverError> {
    let (Checkpoint { size, root, .. }, whole) = (Checkpoint::of(note)?, chosen.checkpoint.size);
    let reader = LogReader::new(&chosen.dir);
    let mine = reader.root_at(size, whole)?;
    if mine == root {
        return Ok(());
    }
    read(dir, note, policy)?;
    let proof = if size == whole { Vec::new() } else { reader.consistency(size, whole)? };
    let keys = chosen.state.log_vkeys();
    let prove = |log| ForkEvidence::new(log, note, largest, mine, proof.clone()).ok().map(Box::new);
    let (one, other, evidence) = (dir.to_owned(), chosen.dir.clone(), keys.iter().rev().find_map(prove));
    Err(HandoverError::Fork { one, other, size, evidence })
}

/// The state after the first `size` of the `of` entries in a published folder that was verified before. The replay begins at the snapshot in
/// `state_dir`, of a copy of one's own, where there is one that is of use.
///
/// # Errors
/// [`HandoverError::Entry`], [`HandoverError::Read`].
pub fn replayed(
    dir: &Path,
    state_dir: Option<&Path>,
    origin: &str,
    size: u64,
    of: u64,
) -> Result<State, HandoverError> {
    let reader = LogReader::new(dir);
    let taken_up = state_dir.and_then(|dir| Snapshots::new(dir).load(origin, &reader, of, size).ok().flatten());
    let mut state = taken_up.unwrap_or_else(|| State::new(origin));
    while state.next_index() < size {
        let from = state.next_index();
        let leaves = reader.entries(from..size.min(from.saturating_add(STEP)), of)?;
        for (index, entry) in (from..).zip(prepare::entries(&leaves, &state)) {
            let wrong = |why: String| HandoverError::Entry { dir: dir.to_owned(), index, why };
            let entry = entry.map_err(|error| wrong(error.to_string()))?;
            state.apply(index, &entry).map_err(|error| wrong(error.to_string()))?;
        }
    }
    Ok(state)
}

/// Reads a file with a Handover.
///
/// # Errors
/// [`HandoverError::File`], [`HandoverError::Kind`].
pub fn read_file(path: &Path) -> Result<(ActionFile, Handover), HandoverError> {
    let bytes = read_at_most(path, ACTION_FILE_BYTES_MAX)?;
    let wrong = |error| HandoverError::File { path: path.to_owned(), error };
    let file = ActionFile::parse(&bytes).map_err(wrong)?;
    let action = file.action();
    match Body::parse(&action.kind, &action.body) {
        Ok(Body::Handover(body)) => Ok((file, body)),
        _ => Err(HandoverError::Kind { path: path.to_owned(), kind: action.kind.clone() }),
    }
}

/// Whether a Handover goes on from this state: `Ok(None)` if it does and a quorum has signed, `Ok(Some(words))` if all it lacks is
/// signatures. A file whose time is over is judged as of its last moment: the entry may have been sequenced then.
///
/// # Errors
/// [`HandoverError::Refused`], [`HandoverError::Unsigned`].
pub fn check(state: &State, file: &ActionFile, now_ms: u64) -> Result<Option<String>, HandoverError> {
    let action = file.action();
    let brought = action.body.pointer("/coordinator/keys/party").and_then(|key| key.as_str());
    let keyid = brought.and_then(|key| crate::ledger::key::PublicKey::from_hex(key).ok()).map(|key| key.keyid());
    if file.as_envelope().signatures().iter().all(|signature| Some(&signature.keyid) != keyid.as_ref()) {
        return Err(HandoverError::Unsigned);
    }
    let at_ms = now_ms.max(action.not_before_ms).min(action.not_after_ms).max(state.now_ms());
    match state.check(at_ms, file.as_envelope()) {
        Ok(()) => Ok(None),
        Err(StepError { reason: Reason::Signers(words), .. }) => Ok(Some(words)),
        Err(refused) => Err(HandoverError::Refused(Box::new(refused))),
    }
}

/// What a Handover can promise, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// Validators.
    pub n: usize,
    /// How many of them may lie: floor((n-1)/3).
    pub f: usize,
    /// How many make an entry final, and how many sign a Handover.
    pub k: usize,
}

impl Promise {
    /// For this many validators.
    #[must_use]
    pub fn of(n: usize) -> Self {
        Self { n, f: liars_max(n), k: quorum(n) }
    }

    /// At least so many hospitals have both stored the certificate of any one final entry and signed the Handover: s + q - n, where s = q = k.
    #[must_use]
    pub fn overlap(&self) -> usize {
        (2 * self.k).saturating_sub(self.n)
    }

    /// In words, with what it does not cover.
    #[must_use]
    pub fn to_text(&self) -> String {
        let Self { n, f, k } = self;
        format!(
            "{k} of the {n} hospitals have to sign.\n\
             Every entry whose certificate {k} of them stored, as an honest coordinator sees to before it\n\
             calls an entry final, is kept: at least {} of those who sign have it, and no more than {f} may lie.\n\
             A proof that a malicious coordinator gave to somebody, and whose certificate it kept from the\n\
             hospitals, may be of an entry that is missing",
            self.overlap()
        )
    }
}

/// How many parties' validators cosign, by this state; none before the first.
#[must_use]
pub fn promise(state: &State) -> Option<Promise> {
    state.policy().map(|policy| Promise::of(policy.validators.len()))
}

/// Whether the copy that ends with `checkpoint` is the beginning of the history that a Handover goes on from, which is `state`'s in the folder
/// `dir` of `of` entries.
///
/// # Errors
/// [`HandoverError::Read`].
pub fn extends(dir: &Path, of: u64, size: u64, root: &Hash32) -> Result<bool, HandoverError> {
    Ok(size <= of && LogReader::new(dir).root_at(size, of)? == root.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_signs_a_handover_outnumbers_those_who_may_lie() {
        for n in 1..=300 {
            let promise = Promise::of(n);
            assert!(promise.overlap() > promise.f, "{promise:?}");
        }
        assert_eq!([4, 7, 10].map(|n| Promise::of(n).overlap()), [2, 3, 4]);
    }
}
