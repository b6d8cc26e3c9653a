//! What an outsider runs: a proof, or a whole folder, checked with no network, no index and no trust in whoever published it.
//!
//! [`verify_proof`] checks one entry's proof file, [`verify_evidence`] the proof that a log has forked, [`check_fresh`] and [`check_kept`]
//! compare either with what the reader brings. `folder::verify_folder` (feature `fs`) reads every file of a published log, recomputes every
//! hash, checks every signature against a policy and replays every entry. Each failure has an exit code
//! ([`VerifyError::exit_code`]) and says which file or entry is wrong and what to do.

#[cfg(feature = "fs")]
pub mod folder;
mod reader;
#[cfg(feature = "fs")]
mod turns;
#[cfg(feature = "fs")]
pub use folder::{Options, Progress, Report, verify_folder};
pub use reader::{check_fresh, check_kept};

use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::evidence::{EvidenceError, ForkEvidence};
use crate::ledger::note::NoteError;
use crate::ledger::policy::{Policy, PolicyError};
use crate::ledger::proof::{TlogProof, TlogProofError};

/// Why verification fails; each kind has its exit code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// 2: a file is missing, unreadable, superfluous or has another form.
    #[error("malformed: {place}: {why}")]
    Malformed {
        /// Which file or entry.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// 3: a signature is missing, wrong, or by a key nobody listed.
    #[error("signature: {place}: {why}")]
    Signature {
        /// Which file or entry.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// 4: too few witnesses, or the policy file is not the one it should be.
    #[error("quorum: {place}: {why}")]
    Quorum {
        /// Which file.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// 5: an entry, a tile or a root do not belong together.
    #[error("inclusion: {place}: {why}")]
    Inclusion {
        /// Which file or entry.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// 6: an entry breaks the ledger's rules.
    #[error("state machine: entry {index}: {why}")]
    State {
        /// The entry.
        index: u64,
        /// The rule.
        why: String,
    },
    /// 7: the checkpoint is older than allowed, or than one already seen.
    #[error("stale: {place}: {why}")]
    Stale {
        /// Which file.
        place: String,
        /// How old, and what to do.
        why: String,
    },
    /// 8: the log has signed two histories.
    #[error("fork: {place}: {why}")]
    Fork {
        /// Which file.
        place: String,
        /// Which two checkpoints.
        why: String,
    },
}

impl VerifyError {
    /// The exit code of `leben verify`: 2 malformed, 3 signature, 4 quorum, 5 inclusion or consistency, 6 state machine, 7 stale, 8 fork.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Malformed { .. } => 2,
            Self::Signature { .. } => 3,
            Self::Quorum { .. } => 4,
            Self::Inclusion { .. } => 5,
            Self::State { .. } => 6,
            Self::Stale { .. } => 7,
            Self::Fork { .. } => 8,
        }
    }

    fn malformed(place: impl ToString, why: impl ToString) -> Self {
        Self::Malformed { place: place.to_string(), why: why.to_string() }
    }

    fn inclusion(place: impl ToString, why: impl ToString) -> Self {
        Self::Inclusion { place: place.to_string(), why: why.to_string() }
    }

    fn stale(place: impl ToString, why: impl ToString) -> Self {
        Self::Stale { place: place.to_string(), why: why.to_string() }
    }

    fn policy(place: &str, error: &PolicyError) -> Self {
        let (place, why) = (place.to_owned(), error.to_string());
        match error {
            PolicyError::Line { .. } | PolicyError::Checkpoint(_) => Self::Malformed { place, why },
            PolicyError::Signature(NoteError::Format(_)) => Self::Malformed { place, why },
            PolicyError::UnknownLog(_) | PolicyError::Signature(_) | PolicyError::UnknownSigner(_) => {
                Self::Signature { place, why }
            }
            PolicyError::Quorum { .. } => Self::Quorum { place, why },
        }
    }
}

/// What a good proof proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofReport {
    /// Where the entry is.
    pub index: u64,
    /// Under which checkpoint.
    pub checkpoint: Checkpoint,
    /// Who cosigned it, with the time each stated (Unix seconds).
    pub cosigners: Vec<(String, u64)>,
}

/// Verifies a proof file for `entry` (the exact leaf bytes) under `policy`.
///
/// # Errors
/// [`VerifyError`] with exit code 2, 3, 4 or 5.
pub fn verify_proof(proof: &[u8], policy: &Policy, entry: &[u8]) -> Result<ProofReport, VerifyError> {
    const PLACE: &str = "the proof";
    let refused = |error: TlogProofError| match &error {
        TlogProofError::Format(_) | TlogProofError::Checkpoint(_) => VerifyError::malformed(PLACE, error),
        TlogProofError::Policy(policy) => VerifyError::policy(PLACE, policy),
        TlogProofError::Inclusion { .. } => VerifyError::inclusion(PLACE, error),
    };
    let proof = TlogProof::parse(proof).map_err(refused)?;
    let satisfied = proof.verify(policy, entry).map_err(refused)?;
    Ok(ProofReport { index: proof.index, checkpoint: satisfied.checkpoint, cosigners: satisfied.cosigners })
}

/// Checks a file of fork evidence (see [`ForkEvidence`]) against the log's key in `policy`, or, without one, against the key that the
/// file names itself. There is no good case: [`VerifyError::Fork`] says that the fork is proven.
#[must_use]
pub fn verify_evidence(place: &str, bytes: &[u8], policy: Option<&Policy>) -> VerifyError {
    let refused = |error: EvidenceError| match &error {
        EvidenceError::Signature { .. } => VerifyError::Signature { place: place.to_owned(), why: error.to_string() },
        EvidenceError::Proof(_) | EvidenceError::NoFork => VerifyError::inclusion(place, error),
        EvidenceError::Format(_) | EvidenceError::Checkpoint(_) => VerifyError::malformed(place, error),
    };
    let evidence = match ForkEvidence::parse(bytes) {
        Ok(evidence) => evidence,
        Err(error) => return refused(error),
    };
    let named = evidence.log();
    let log = match policy.map(|policy| policy.logs().find(|log| *log == named).or_else(|| policy.log(named.name()))) {
        None => named,
        Some(Some(log)) => log,
        Some(None) => return VerifyError::policy(place, &PolicyError::UnknownLog(named.name().to_owned())),
    };
    let fork = match evidence.verify(log) {
        Ok(fork) => fork,
        Err(error) => return refused(error),
    };
    let whose = match policy {
        Some(_) => "the key that the policy names",
        None => "the key that this file names; compare it with your own policy's, or pass --policy",
    };
    let why = format!(
        "proven: the log {} signed two histories. At {} entries it signed the root {}, and a checkpoint of {} entries in which that \
         root is {}. Signed with {whose}. {}. Keep this file and show it to everybody who relies on the log",
        fork.origin,
        fork.size,
        hex::encode(fork.claimed),
        fork.larger_size,
        hex::encode(fork.proven),
        evidence.cosigners_text(policy),
    );
    VerifyError::Fork { place: place.to_owned(), why }
}
