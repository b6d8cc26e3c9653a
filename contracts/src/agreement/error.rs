//! Why a step is refused: which step, on which contract, and the reason with what to do.

use super::accounts::AccountError;
use super::body::BodyError;
use super::hash::{ContractId, Hash32};
use super::party::PartyId;
use super::purpose::Denied;
use super::table::Phase;
use super::terms_check::TermsError;
use super::terms_text::utc;
use crate::ledger::canonical::CanonicalError;
use crate::ledger::entry::EntryError;
use crate::ledger::follow::Refusal;

/// A refused step. Nothing of it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepError {
    /// The kind that the action names.
    pub kind: String,
    /// The contract that the action names.
    pub contract: Option<String>,
    /// Why.
    pub reason: Reason,
}

impl std::fmt::Display for StepError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.contract {
            Some(id) => write!(f, "{} on contract {id}: {}", self.kind, self.reason),
            None => write!(f, "{}: {}", self.kind, self.reason),
        }
    }
}

impl std::error::Error for StepError {}

impl From<StepError> for Refusal {
    fn from(error: StepError) -> Self {
        match error.reason {
            Reason::Signature(_) | Reason::Signers(_) | Reason::UnknownParty(_) => Self::Signature(error.to_string()),
            _ => Self::State(error.to_string()),
        }
    }
}

/// The reasons.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// The body does not fit its kind.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// A signature is missing, by a key not in force, or does not verify.
    #[error(transparent)]
    Signature(#[from] EntryError),
    /// Meant for another log.
    #[error("the action is meant for the network {named}, this is {this}; sign it again for this log")]
    Network {
        /// What the action says.
        named: String,
        /// This log.
        this: Hash32,
    },
    /// Outside the action's own window.
    #[error(
        "the action is valid from {} to {} but was sequenced at {}; the clock at {actor} is off by about {off_min} min, set it and sign again",
        utc(*from_ms), utc(*to_ms), utc(*seq_ms)
    )]
    Clock {
        /// Who signed.
        actor: PartyId,
        /// Start of the window, Unix milliseconds.
        from_ms: u64,
        /// End of the window, Unix milliseconds.
        to_ms: u64,
        /// When it was sequenced, Unix milliseconds.
        seq_ms: u64,
        /// Distance to the window, minutes, rounded up.
        off_min: u64,
    },
    /// The entry is earlier than the one before it.
    #[error("the entry was sequenced at {}, before the entry in front of it ({})", utc(*seq_ms), utc(*last_ms))]
    TimeBackwards {
        /// Its time.
        seq_ms: u64,
        /// The time before it.
        last_ms: u64,
    },
    /// The same payload again.
    #[error("this action is on the ledger already, at index {0}")]
    Replayed(u64),
    /// An entry at another place than the next.
    #[error("the entry is for index {got}, the next is {next}")]
    Index {
        /// Where it should go.
        got: u64,
        /// Where the log is.
        next: u64,
    },
    /// The log is frozen.
    #[error("the ledger is frozen; only a Handover is accepted")]
    Frozen,
    /// The first entry must be Genesis, and only it.
    #[error("the first entry must be Genesis, and no other may be")]
    Genesis,
    /// Somebody who is not enrolled, or whose keys are revoked.
    #[error("{0} is not enrolled with keys in force; enrol it, or rotate its keys")]
    UnknownParty(String),
    /// A role that does not exist or is not held.
    #[error("{party} does not hold the role {role:?}")]
    Role {
        /// Who.
        party: PartyId,
        /// What the action names.
        role: String,
    },
    /// Signatures that are missing, or by somebody who has no say.
    #[error("{0}")]
    Signers(String),
    /// The actor may not take this step.
    #[error("{party} may not take this step; it is for {who}")]
    NotEntitled {
        /// Who tried.
        party: PartyId,
        /// Who may.
        who: String,
    },
    /// No such contract.
    #[error("there is no such contract on the ledger; check its id")]
    NoContract,
    /// A field of the action that its kind does not take, or needs.
    #[error("{0}")]
    Header(&'static str),
    /// The contract is in another phase.
    #[error("the contract is {phase}; this step is for {allowed}")]
    Phase {
        /// Where it is.
        phase: Phase,
        /// Where it would have to be.
        allowed: String,
    },
    /// Compare-and-swap failed.
    #[error("the contract has moved on: the step builds on {named}, the last one is {head}; look again and sign anew")]
    Prev {
        /// What the action names.
        named: String,
        /// The contract's head.
        head: Hash32,
    },
    /// Another version of the terms.
    #[error("the step is about version {named} of the terms, version {version} is on the table; read it and sign anew")]
    TermsVersion {
        /// What the action names.
        named: u32,
        /// The present one.
        version: u32,
    },
    /// The terms are not valid.
    #[error(transparent)]
    Terms(#[from] TermsError),
    /// A data set may not be used for that.
    #[error("data set {dataset}: {denied}")]
    Purpose {
        /// Which, `owner/name`.
        dataset: String,
        /// Why.
        denied: Denied,
    },
    /// The accounts refuse.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// A deadline has passed, or has not passed yet.
    #[error("{what} {}; the step was sequenced at {}", utc(*deadline_ms), utc(*seq_ms))]
    Deadline {
        /// Which, with "ended at" or "is not over before".
        what: &'static str,
        /// The deadline, Unix milliseconds.
        deadline_ms: u64,
        /// When the step was sequenced, Unix milliseconds.
        seq_ms: u64,
    },
    /// Something the body names is not on the ledger, or not as the body says.
    #[error("{0}")]
    Mismatch(String),
    /// A bug here: a step ended in a phase its row does not allow.
    #[error("internal: {0}; report this with the entry")]
    Internal(String),
}

impl From<CanonicalError> for Reason {
    fn from(e: CanonicalError) -> Self {
        Self::Mismatch(e.to_string())
    }
}

impl Reason {
    /// The same, with why so many have to sign.
    pub(super) fn because(self, why: &str) -> Self {
        match self {
            Self::Signers(lacks) => Self::Signers(format!("{why}: {lacks}")),
            other => other,
        }
    }
}

/// Shorthand for [`Reason::Mismatch`].
pub(super) fn mismatch<T>(text: impl Into<String>) -> Result<T, Reason> {
    Err(Reason::Mismatch(text.into()))
}

/// An id as text, for errors.
pub(super) fn short(id: &ContractId) -> String {
    id.to_string().chars().take(12).collect()
}
