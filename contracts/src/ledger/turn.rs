//! Turns: entries after which somebody else has to sign, and the certificate that makes such a change believable offline.
//!
//! A **turn** is an entry that changes the witness policy: another set of validators, a validator's key, or the log's key. Its
//! **certificate** is the checkpoint that ends with it (`size = index + 1`), signed by the log's key in force after it and cosigned by
//! the quorum in force before it *and* the one in force after it. It is published as `certificate/<size>` and never changes. So a reader
//! who trusts one policy that was ever in force, or the Genesis, can follow the log to any later one and needs nobody's word for it.

use super::action::Action;
use super::checkpoint::{Checkpoint, CheckpointError, parse_size};
use super::merkle::Hash;
use super::note::Note;
use super::policy::{Policy, PolicyError, UnknownSigners};

/// The folder of the published log that holds certificates.
pub const FOLDER: &str = "certificate";

/// Why a turn is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TurnError {
    /// There is no certificate for it.
    #[error(
        "entry {index} changes who has to sign, and certificate/{} is missing: nothing shows that the quorum before it agreed; \
         fetch it from a hospital's mirror",
        index.saturating_add(1)
    )]
    Missing {
        /// The entry.
        index: u64,
    },
    /// The certificate is no checkpoint.
    #[error("certificate/{}: {source}", index.saturating_add(1))]
    Malformed {
        /// The entry.
        index: u64,
        /// What is wrong.
        source: CheckpointError,
    },
    /// The certificate is of something else.
    #[error("certificate/{} is of {what}, so it says nothing about entry {index}", index.saturating_add(1))]
    Other {
        /// The entry.
        index: u64,
        /// Another size, or another tree.
        what: &'static str,
    },
    /// One of the two quorums is missing.
    #[error("entry {index} changes who has to sign, and certificate/{} lacks the {which} quorum: {source}", index.saturating_add(1))]
    Quorum {
        /// The entry.
        index: u64,
        /// `old` or `new`.
        which: &'static str,
        /// Which signatures are missing or wrong.
        source: PolicyError,
    },
    /// After the entry nobody would have to sign.
    #[error("after entry {index} nobody would have to sign any more")]
    Nobody {
        /// The entry.
        index: u64,
    },
}

/// Path of the certificate of the turn that ends a log of `size` entries.
#[must_use]
pub fn path(size: u64) -> String {
    format!("{FOLDER}/{size}")
}

/// The size in a certificate's path, if it is one in its one spelling.
#[must_use]
pub fn size_of_path(path: &str) -> Option<u64> {
    path.strip_prefix(FOLDER)?.strip_prefix('/').and_then(parse_size)
}

/// Whether an entry of this kind can be a turn; of others the policy need not be looked at.
#[must_use]
pub fn may_turn(kind: &str) -> bool {
    matches!(kind, "PolicyChange" | "Handover" | "KeyRotate" | "KeyRevoke" | "PartyEnrol")
}

/// The log's key that an action puts in force, if it is of the kind that brings one: 64 hex digits.
#[must_use]
pub fn handed_to(action: &Action) -> Option<&str> {
    match action.kind.as_str() {
        "Handover" => action.body.get("log_key")?.as_str(),
        _ => None,
    }
}

/// Verifies the certificate of the turn at entry `index`: `old` and `new` are the policies in force before and after it, `root` is that of
/// the tree that ends with it. Every line must be by a key that one of the two lists, so that no byte of the file is unchecked.
///
/// # Errors
/// [`TurnError`].
pub fn verify_turn(
    index: u64,
    old: Option<&Policy>,
    new: Option<&Policy>,
    root: &Hash,
    note: &Note,
) -> Result<(), TurnError> {
    let checkpoint = Checkpoint::of(note).map_err(|source| TurnError::Malformed { index, source })?;
    if checkpoint.size != index.saturating_add(1) {
        return Err(TurnError::Other { index, what: "another size" });
    }
    if checkpoint.root != *root {
        return Err(TurnError::Other { index, what: "another tree" });
    }
    let new = new.ok_or(TurnError::Nobody { index })?;
    let unmet = |which| move |source| TurnError::Quorum { index, which, source };
    if let Some(old) = old {
        old.evaluate_witnesses(note).map_err(unmet("old"))?;
    }
    new.evaluate(note, UnknownSigners::Ignore).map_err(unmet("new"))?;
    let listed = |line| new.is_listed(line) || old.is_some_and(|old| old.is_witness(line));
    match note.signatures().iter().find(|line| !listed(line)) {
        Some(line) => Err(unmet("new")(PolicyError::UnknownSigner(line.name.clone()))),
        None => Ok(()),
    }
}

/// The policy in force while a log is walked, and where it turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Turns {
    policy: Option<Policy>,
}

/// One change of the policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// In force before the entry.
    pub old: Option<Policy>,
    /// In force after it.
    pub new: Option<Policy>,
}

impl Turns {
    /// From where `policy` is in force.
    #[must_use]
    pub fn new(policy: Option<Policy>) -> Self {
        Self { policy }
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Option<&Policy> {
        self.policy.as_ref()
    }

    /// An entry of this kind was applied; `policy` says what is in force now and is asked only where the kind can change it.
    pub fn step(&mut self, kind: &str, policy: impl FnOnce() -> Option<Policy>) -> Option<Turn> {
        if !may_turn(kind) {
            return None;
        }
        let new = policy();
        if new == self.policy {
            return None;
        }
        let old = std::mem::replace(&mut self.policy, new.clone());
        Some(Turn { old, new })
    }
}

impl Turn {
    /// Verifies the certificate of this turn, which is entry `index`; see [`verify_turn`].
    ///
    /// # Errors
    /// [`TurnError`].
    pub fn verify(&self, index: u64, root: &Hash, note: &Note) -> Result<(), TurnError> {
        verify_turn(index, self.old.as_ref(), self.new.as_ref(), root, note)
    }
}
