//! All stages on rows that lie in one place, with plain sums: the oracle of the simulation, the demo and the tests.
//!
//! No fixed point, no clip, no mask, and none of the noise that goes on in the privacy chain: each table's numbers are added as `f64` in order. What a network delivers must agree
//! with this to 1e-9; that this agrees with independent software is shown by `tests/reference.rs`.

use leben_privacy::Unmasked;
use sha2::{Digest, Sha256};

use crate::algorithm::{Algorithm, Next};
use crate::finding::Finding;
use crate::outcome::Outcome;
use crate::registry;
use crate::spec::{AlgorithmSpec, SpecError};
use crate::state::State;
use crate::table::Table;

/// A stage that was run to its end.
#[derive(Debug)]
pub struct Fitted {
    /// What it released.
    pub outcome: Outcome,
    /// What later stages start from.
    pub state: State,
    /// Rounds it took.
    pub rounds: u32,
}

/// Why a fit has no result.
#[derive(Debug, thiserror::Error)]
pub enum PooledError {
    /// A stage's spec is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A stage ended with a finding.
    #[error("stage {stage}: {finding}")]
    Finding {
        /// Stage number from 1.
        stage: usize,
        /// The finding.
        finding: Finding,
    },
}

/// Runs the stages one after the other, each from the state of the one before, over all rows in `table`.
///
/// # Errors
/// [`PooledError`] with the stage that failed.
pub fn fit(stages: &[AlgorithmSpec], table: &Table) -> Result<Vec<Fitted>, PooledError> {
    let mut fitted: Vec<Fitted> = Vec::with_capacity(stages.len());
    for (index, spec) in stages.iter().enumerate() {
        let algorithm = registry::build(spec)?;
        let from = fitted.last().map(|before| &before.state);
        let stage = run(algorithm.as_ref(), from, std::slice::from_ref(table))
            .map_err(|finding| PooledError::Finding { stage: index + 1, finding })?;
        fitted.push(stage);
    }
    Ok(fitted)
}

/// What stands in for a hospital's secret where everything lies in one place: known, so a fit can be repeated, and nothing
/// that comes of it is private.
fn known_secret(owner: usize, round: u32) -> [u8; 32] {
    let place = Sha256::new().chain_update(b"leben/pooled/v1").chain_update((owner as u64).to_be_bytes());
    place.chain_update(round.to_be_bytes()).finalize().into()
}

/// Runs one stage over the tables of several owners, adding their numbers in order.
///
/// # Errors
/// The [`Finding`] that ends the stage.
pub fn run(algorithm: &dyn Algorithm, from: Option<&State>, tables: &[Table]) -> Result<Fitted, Finding> {
    let mut state = algorithm.start(from)?;
    let hospitals = u16::try_from(tables.len()).unwrap_or(u16::MAX);
    for round in 1..=algorithm.rounds_max() {
        let layout = algorithm.layout(&state, hospitals)?;
        let local = |(owner, table)| algorithm.local_with(&state, table, &known_secret(owner, round));
        let parts = tables.iter().enumerate().map(local).collect::<Result<Vec<_>, _>>()?;
        let sum =
            Unmasked::from_plain(&layout, parts).map_err(|error| Finding::NotSummed { problem: error.to_string() })?;
        match algorithm.combine(&state, &sum)? {
            Next::Round(next) => state = next,
            Next::Done(outcome, state) => return Ok(Fitted { outcome, state, rounds: round }),
        }
    }
    Err(Finding::NotConverged { rounds: algorithm.rounds_max(), step: f64::NAN })
}
