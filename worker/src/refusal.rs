//! Why a hospital refuses, as a code that logs and counters keep and words that a person can act on.

use leben_protocol::reject::{Reject, RejectCode};

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $wire:ident;)*) => {
        /// Every reason. The names are stable: they are in audit logs and in counters.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason, in order.
            pub const ALL: &'static [Reason] = &[$(Reason::$name,)*];

            /// The stable name.
            pub fn code(self) -> &'static str {
                match self { $(Reason::$name => $code,)* }
            }

            /// What the coordinator is told.
            pub fn wire(self) -> RejectCode {
                match self { $(Reason::$name => RejectCode::$wire,)* }
            }
        }
    };
}

reasons! {
    /// The certified part of the ledger has no such contract.
    UnknownContract = "unknown_contract", UnknownContract;
    /// It is not armed, or it is over.
    NotExecutable = "not_executable", NotAdmitted;
    /// An owner or the admins stopped it.
    Suspended = "suspended", NotAdmitted;
    /// This hospital took its data out.
    Revoked = "revoked", NotAdmitted;
    /// No data set of this hospital is in the terms.
    NotOwner = "not_owner", NotAdmitted;
    /// This hospital's signature is not on the ledger.
    NotAccepted = "not_accepted", NotAdmitted;
    /// Another signatory's signature is not on the ledger.
    NotSigned = "not_signed", NotAdmitted;
    /// Nobody at this hospital approved it.
    NotApproved = "not_approved", NotAdmitted;
    /// Other terms were approved than are in force.
    OtherTerms = "other_terms", NotAdmitted;
    /// The hospital does not declare the data set.
    UnknownDataset = "unknown_dataset", UnknownData;
    /// The declared schema is not the agreed one.
    SchemaChanged = "schema_changed", UnknownData;
    /// A column that is not declared, or may not be computed on.
    UnknownColumn = "unknown_column", UnknownData;
    /// An algorithm reads a column that the terms do not grant.
    ColumnNotGranted = "column_not_granted", NotAdmitted;
    /// More than one data set of this hospital in one stage.
    SeveralInputs = "several_inputs", NotAdmitted;
    /// The declared permission does not cover the purpose.
    Purpose = "purpose", NotAdmitted;
    /// The algorithm is not built into this worker, or is other code under the same name.
    AlgorithmDigest = "algorithm_digest", NotAdmitted;
    /// Its parameters do not fit.
    AlgorithmParams = "algorithm_params", NotAdmitted;
    /// The cohort query cannot be read.
    CohortQuery = "cohort_query", UnknownData;
    /// The terms do without the secure sum.
    SecureSumOff = "secure_sum_off", NotAdmitted;
    /// A privacy mechanism that this worker does not have.
    Mechanism = "mechanism", NotAdmitted;
    /// The data set is not open for privacy mechanisms.
    NoBudget = "no_budget", NotAdmitted;
    /// The data set's privacy budget does not cover it, or nothing is held for it.
    Budget = "budget", NotAdmitted;
    /// The disk knows less of the budget than the ledger.
    BudgetBehind = "budget_behind", NotAdmitted;
    /// More epsilon than this hospital gives one job.
    JobEpsilon = "job_epsilon", NotAdmitted;
    /// A larger delta than the data set's.
    Delta = "delta", NotAdmitted;
    /// A stage releases without noise what the terms promise to protect.
    NoNoise = "no_noise", NotAdmitted;
    /// The noise does not give what the terms promise.
    Guarantee = "guarantee", NotAdmitted;
    /// The data set takes only contracts with a privacy mechanism.
    NotPrivate = "not_private", NotAdmitted;
    /// Fewer rows than there are, in a contract with a privacy mechanism: leaving a patient out would let another in.
    RowCap = "row_cap", NotAdmitted;
    /// The rows changed since a round with a privacy mechanism was first computed: its repeat would show the change.
    RowsChanged = "rows_changed", NotAdmitted;
    /// A receipt says another epsilon than the noise gives.
    Receipt = "receipt", NotAdmitted;
    /// A deadline has passed.
    TooLate = "too_late", TooLate;
    /// The key directory is not frozen yet.
    NoDirectory = "no_directory", NotAdmitted;
    /// The secret of the job's keys, from which its noise came, is not on the disk any more.
    SecretLost = "secret_lost", NotAdmitted;
    /// The frozen directory lacks this hospital or holds other keys of it.
    DirectoryKeys = "directory_keys", NotAdmitted;
    /// The frozen directory contradicts the terms.
    Directory = "directory", NotAdmitted;
    /// The order names a stage that the terms do not hold, or one that does not read this hospital's data.
    UnknownStage = "unknown_stage", NotAdmitted;
    /// More rounds than were signed.
    Rounds = "rounds", NotAdmitted;
    /// The opening is for another contract, or contradicts the directory.
    Opening = "opening", NotAdmitted;
    /// Fewer hospitals than the terms ask for.
    FewHospitals = "few_hospitals", CohortTooSmall;
    /// Fewer records than the terms ask for.
    SmallCohort = "small_cohort", CohortTooSmall;
    /// The terms let a result show more than this hospital allows.
    Disclosure = "disclosure", NotAdmitted;
    /// The table could not be read.
    Source = "source", UnknownData;
    /// The local half found a reason not to go on.
    Finding = "finding", NotAdmitted;
    /// The contribution cannot be encoded.
    Contribution = "contribution", NotAdmitted;
    /// The slot's secrets are gone, or another slot runs.
    Slot = "slot", WrongSlot;
    /// A check of the secure sum failed.
    SecureSum = "secure_sum", SecureSum;
    /// The clocks differ too much.
    Clock = "clock", ClockSkew;
    /// The ledger shows two histories, or one that cannot be.
    Ledger = "ledger", NotReady;
    /// A person refused.
    Steward = "steward", NotAdmitted;
    /// A message that cannot be read, or does not fit.
    Malformed = "malformed", Malformed;
}

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// A refusal: the code and the words. The words never hold a patient's value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{words} ({reason})")]
pub struct Refusal {
    /// The code.
    pub reason: Reason,
    /// What, where, and what to do.
    pub words: String,
}

impl Refusal {
    /// A refusal with its words.
    pub fn new(reason: Reason, words: impl Into<String>) -> Refusal {
        Refusal { reason, words: words.into() }
    }

    /// What the coordinator is told: the wire's code, and the same words led by this refusal's own code.
    pub fn to_reject(&self) -> Reject {
        Reject::new(self.reason.wire(), format!("{}: {}", self.reason, self.words))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_one_name_of_its_own() {
        for (at, reason) in Reason::ALL.iter().enumerate() {
            assert!(reason.code().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{reason}");
            assert!(Reason::ALL.iter().skip(at + 1).all(|other| other.code() != reason.code()), "{reason}");
        }
    }
}
