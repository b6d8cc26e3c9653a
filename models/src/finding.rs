//! What an algorithm says instead of a result: a named finding that a person can act on. Never a patient's value.

use serde::{Deserialize, Serialize};

/// Why a stage cannot go on. It travels to the AI team as the job's outcome, so it names columns and counts only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    /// The table lacks a column that the job reads.
    #[error("the data set has no column '{column}'; correct the job's features or declare the column")]
    MissingColumn {
        /// The column asked for.
        column: String,
    },
    /// The columns given do not make a table.
    #[error("the table cannot be built: column '{column}' {problem}")]
    TableShape {
        /// The offending column.
        column: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A hospital holds more rows than the job allows for.
    #[error("{rows} rows are more than the {limit} that one hospital may bring to this job; raise 'rows_max'")]
    TooManyRows {
        /// Rows at this hospital.
        rows: u64,
        /// The job's limit.
        limit: u64,
    },
    /// Fewer complete rows than the model needs.
    #[error("only {used} of {requested} rows are complete, the model needs more than {needed}")]
    TooFewRows {
        /// Complete rows over all hospitals.
        used: u64,
        /// Rows asked for.
        requested: u64,
        /// The least that would do is one more.
        needed: u64,
    },
    /// A column holds a number that cannot be summed safely.
    #[error("column '{column}' has {count} value(s) larger than {limit:e} or not finite; check its unit")]
    OutOfRange {
        /// The column.
        column: String,
        /// How many rows are affected at this hospital.
        count: u64,
        /// Largest magnitude allowed.
        limit: f64,
    },
    /// A term has the same value in every row of every hospital.
    #[error("term '{term}' is the same in every row, so it cannot be part of a model; leave it out")]
    ConstantTerm {
        /// The term.
        term: String,
    },
    /// A term is a linear combination of earlier ones.
    #[error("term '{term}' follows exactly from the terms before it (collinear); leave it out or use ridge")]
    Singular {
        /// The first term that adds nothing.
        term: String,
    },
    /// The outcome is perfectly predicted by some combination of terms.
    #[error(
        "the outcome is separated: the coefficient of '{term}' grows without bound after {rounds} rounds; use ridge"
    )]
    Separation {
        /// The term with the largest coefficient.
        term: String,
        /// Rounds done.
        rounds: u32,
    },
    /// Every used row has the same outcome.
    #[error("all {rows} used rows have the same outcome, so there is nothing to learn")]
    OneClass {
        /// Rows used.
        rows: u64,
    },
    /// The rounds are used up before the steps became small.
    #[error("not converged after {rounds} rounds (last step {step:e}); raise 'rounds_max'")]
    NotConverged {
        /// Rounds done.
        rounds: u32,
        /// Largest relative step of the last round.
        step: f64,
    },
    /// The state handed over by an earlier stage does not fit this stage.
    #[error("the earlier stage's output does not fit: {problem}")]
    StateMismatch {
        /// What was expected.
        problem: String,
    },
    /// The sum does not have the announced segments.
    #[error("the sum lacks segment '{segment}' of length {len}")]
    SumMismatch {
        /// The segment.
        segment: String,
        /// Its announced length.
        len: usize,
    },
    /// The contributions could not be added.
    #[error("the contributions cannot be added: {problem}")]
    NotSummed {
        /// What the privacy chain says.
        problem: String,
    },
    /// The privacy that the terms promise is not what their noise gives, or cannot be computed.
    #[error("the promised privacy does not hold: {problem}")]
    Privacy {
        /// What is wrong, and what to change.
        problem: String,
    },
    /// A calculation gave infinity or not-a-number.
    #[error("{what} is not a finite number")]
    NotFinite {
        /// What was calculated.
        what: String,
    },
}
