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
    #[error("there are more rows than the {limit} that one hospital may bring to this job; raise 'rows_max'")]
    TooManyRows {
        /// Rows at this hospital.
        rows: u64,
        /// The job's limit.
        limit: u64,
    },
    /// Fewer complete rows than the model needs.
    #[error("only {used} rows are complete, the model needs more than {needed}")]
    TooFewRows {
        /// Complete rows over all hospitals.
        used: u64,
        /// Rows asked for.
        requested: u64,
        /// The least that would do is one more.
        needed: u64,
    },
    /// A hospital has too few complete rows to hide one among.
    #[error("fewer complete rows than the {needed} that the terms ask for")]
    SmallCohort {
        /// The terms' smallest cohort.
        needed: u64,
    },
    /// One row of a hospital outweighs its others.
    #[error(
        "one row outweighs the others in column '{column}' (p % rule, {percent} %); limit its values or leave it out"
    )]
    Dominance {
        /// The column.
        column: String,
        /// p.
        percent: u16,
    },
    /// The result would tell of too few patients, or of too few hospitals.
    #[error(
        "withheld: fewer than {cell_min} patients, or of fewer than {cell_hospitals_min} hospitals, in {}; \
         join levels or leave the column out", some(.cells)
    )]
    SmallCells {
        /// The groups.
        cells: Vec<String>,
        /// Smallest group.
        cell_min: u64,
        /// Fewest hospitals.
        cell_hospitals_min: u16,
    },
    /// A model with so many parameters that it tells of single patients.
    #[error("withheld: {parameters} parameters need {spare} rows more than that, and there are fewer; leave terms out")]
    TooManyParameters {
        /// Parameters.
        parameters: u64,
        /// Rows needed beyond them.
        spare: u64,
    },
    /// A column holds a number that cannot be summed safely.
    #[error("column '{column}' has values larger than {limit:e} or not finite; check its unit")]
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

/// The first of them.
fn some(cells: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<&str> = cells.iter().take(SHOWN).map(String::as_str).collect();
    match cells.len().saturating_sub(SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}
