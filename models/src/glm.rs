//! Generalised linear models by Newton steps: logistic (`binomial`) and linear (`gaussian`), with an optional ridge.
//!
//! Every hospital sums, over its complete rows and at the current coefficients, the gradient, the Hessian and the deviance on
//! the standardised scale; the coordinator solves one small system. That is iteratively reweighted least squares
//! (McCullagh and Nelder 1989, section 2.5), and its answer is that of the pooled rows, however they are split.
//!
//! The objective is `sum_i loss_i + ridge / 2 * |w|^2` with the intercept not penalised. A step that does not lower it is
//! halved. When a step is below `tolerance` (relative, on the standardised scale) one more round evaluates everything at
//! the stepped coefficients, so that standard errors belong to the final estimate and not to the one before.
//!
//! Bounds: with terms standardised over the same n rows, `sum z^2 = n`, so by Cauchy and Schwarz `|gradient| <= n` and
//! `|Hessian| <= n`; the layout grants four times that.
//!
//! Parameters: `features`, `outcome`, `family` (binomial), `ridge` ("0"), `tolerance` ("1e-9", at least 1e-11: below it
//! lies the grid of the fixed point), `rounds_max` (40).

use leben_privacy::{Contribution, Layout, Unmasked};

use crate::algorithm::{Algorithm, Next, exact, segment, spec};
use crate::design::{Design, Family};
use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::linear::{Symmetric, triangle};
use crate::outcome::RowCounts;
use crate::select::Counts;
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::state::State;
use crate::table::Table;

mod report;
mod sums;

use sums::Sums;

/// Relative pivot below which a term is a combination of the ones before it (R's `glm.fit` uses the same figure).
const SINGULAR: f64 = 1e-11;
/// A step this small changes nothing that is reported, so no further round is spent on it.
const POLISHED: f64 = 1e-12;
const HALVINGS_MAX: f64 = 20.0;

/// The algorithm `glm`.
pub struct Glm {
    design: Design,
    family: Family,
    ridge: f64,
    tolerance: f64,
    rounds_max: u32,
}

/// What a round's sum says, in the units of the standardised scale.
struct Round<'a> {
    rows: RowCounts,
    used: f64,
    gradient: &'a [f64],
    hessian: Symmetric,
    deviance: f64,
    outcome: &'a [f64],
}

impl Glm {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec) -> Result<Self, SpecError> {
        let known = ["features", "outcome", "family", "ridge", "tolerance", "rounds_max"];
        let reader = Reader::new("glm", spec, &known)?;
        let family = Family::read(&reader)?;
        Ok(Self {
            design: Design::read(&reader, family, true)?,
            family,
            ridge: reader.decimal("ridge", 0.0, 0.0, 1e12)?,
            tolerance: reader.decimal("tolerance", 1e-9, 1e-11, 1e-3)?,
            rounds_max: u32::try_from(reader.integer("rounds_max", 40, 2, 1000)?).unwrap_or(40),
        })
    }

    /// Coefficients, the intercept first.
    fn side(&self) -> usize {
        self.design.len() + 1
    }

    fn lanes(&self) -> usize {
        self.design.wants().len() * 2 + 2
    }

    fn sums(&self, state: &State, rows: &Table) -> Result<(Sums, Counts), Finding> {
        let beta = state.vector("beta", self.side())?;
        let mean = state.vector("mean", self.design.len())?;
        let sd = state.vector("sd", self.design.len())?;
        let moments = state.vector("outcome", 2)?;
        let (shift, scale) = match (self.family, moments) {
            (Family::Gaussian, [mean, sd]) => (*mean, *sd),
            _ => (0.0, 1.0),
        };
        let selection = rows.select(self.design.wants())?;
        let (sums, counts) = selection.fold(
            || Sums::new(self.side()),
            |sums, block| {
                sums.standardise(&self.design, block, mean, sd);
                let outcome = self.design.outcome_values(block);
                for (y, value) in sums.outcome.iter_mut().zip(outcome) {
                    *y = (value - shift) / scale;
                }
                sums.add(self.family, beta, block.rows());
            },
            Sums::merge,
        );
        Ok((sums, counts))
    }

    fn round<'a>(&self, sum: &'a Unmasked) -> Result<Round<'a>, Finding> {
        let side = self.side();
        let lanes = segment(sum, "rows", self.lanes())?;
        let rows = RowCounts::from_lanes(lanes, &crate::select::reasons(self.design.wants()));
        if rows.used <= side as u64 {
            return Err(Finding::TooFewRows { used: rows.used, requested: rows.requested, needed: side as u64 });
        }
        let upper = segment(sum, "hessian", triangle(side))?.to_vec();
        let hessian = Symmetric::new(side, upper).ok_or_else(|| mismatch("hessian", triangle(side)))?;
        Ok(Round {
            used: rows.used as f64,
            rows,
            gradient: segment(sum, "gradient", side)?,
            hessian,
            deviance: segment(sum, "deviance", 1)?.iter().sum(),
            outcome: segment(sum, "outcome", 2)?,
        })
    }

    /// The Newton direction at `beta`, with the penalised Hessian factorised.
    fn direction(&self, beta: &[f64], round: &Round<'_>, iteration: u32) -> Result<(Vec<f64>, Symmetric), Finding> {
        let mut penalised = round.hessian.clone();
        let mut gradient = round.gradient.to_vec();
        for (index, (gradient, beta)) in gradient.iter_mut().zip(beta).enumerate().skip(1) {
            penalised.add(index, index, self.ridge);
            *gradient -= self.ridge * beta;
        }
        let factor = penalised.factor(SINGULAR).map_err(|row| self.not_solvable(beta, row, iteration))?;
        let step = factor.solve(&gradient);
        if step.iter().any(|value| !value.is_finite()) {
            return Err(Finding::NotFinite { what: "a Newton step".to_owned() });
        }
        Ok((step, factor.inverse()))
    }

    /// At the first coefficients a missing pivot is collinearity; later, with weights gone to zero, it is separation.
    fn not_solvable(&self, beta: &[f64], row: usize, iteration: u32) -> Finding {
        if self.family == Family::Binomial && iteration > 0 {
            return self.separation(beta, iteration);
        }
        Finding::Singular { term: self.label(row) }
    }

    fn separation(&self, beta: &[f64], rounds: u32) -> Finding {
        let largest = beta.iter().enumerate().skip(1).max_by(|a, b| a.1.abs().total_cmp(&b.1.abs()));
        Finding::Separation { term: self.label(largest.map_or(0, |(index, _)| index)), rounds }
    }

    fn label(&self, row: usize) -> String {
        row.checked_sub(1)
            .and_then(|term| self.design.names().get(term).cloned())
            .unwrap_or_else(|| INTERCEPT.to_owned())
    }

    fn penalty(&self, beta: &[f64]) -> f64 {
        self.ridge * beta.iter().skip(1).map(|value| value * value).sum::<f64>()
    }

    fn combine_round(&self, state: &State, round: &Round<'_>) -> Result<Next, Finding> {
        let beta = state.vector("beta", self.side())?;
        let [iteration, halvings, last, before, used_before] = progress(state)?;
        let rounds = iteration as u32 + 1;
        let objective = round.deviance + self.penalty(beta);
        if !objective.is_finite() {
            return Err(Finding::NotFinite { what: "the deviance".to_owned() });
        }
        if rounds == 1 {
            self.check_outcome(round)?;
        }
        // The slack is the grid of the summed deviance: at the optimum it may wander by that much.
        let slack = 1e-10 * (before.abs() + 1.0);
        // A hospital that left or came back changes what is minimised: such an objective says nothing about the last step,
        // and a step that was the last for other rows is not the last for these.
        let same_rows = used_before == round.used;
        let last = if same_rows { last } else { 0.0 };
        if same_rows && last == 0.0 && iteration > 0.0 && objective > before + slack {
            return self.halve(state, halvings, rounds, objective);
        }
        let (step, covariance) = self.direction(beta, round, rounds - 1)?;
        let relative = step.iter().zip(beta).map(|(s, b)| s.abs() / b.abs().max(1.0)).fold(0.0, f64::max);
        let traced = self.traced(state, rounds, round.deviance, relative, halvings)?;
        if last > 0.0 || relative <= POLISHED {
            return self.done(&traced, round, &covariance);
        }
        if self.family == Family::Binomial && self.ridge == 0.0 && round.deviance < 1e-7 * round.used {
            return Err(self.separation(beta, rounds));
        }
        if rounds >= self.rounds_max {
            let stuck = self.family == Family::Binomial && self.ridge == 0.0 && relative > 1e-3;
            return Err(if stuck {
                self.separation(beta, rounds)
            } else {
                Finding::NotConverged { rounds, step: relative }
            });
        }
        let next: Vec<f64> = beta.iter().zip(&step).map(|(b, s)| b + s).collect();
        let last = f64::from(u8::from(relative <= self.tolerance));
        Ok(Next::Round(
            traced
                .with("beta_before", beta.to_vec())
                .with("beta", next)
                .with("step", step)
                .with("progress", vec![f64::from(rounds), 0.0, last, objective, round.used]),
        ))
    }

    fn halve(&self, state: &State, halvings: f64, rounds: u32, objective: f64) -> Result<Next, Finding> {
        let before = state.vector("beta_before", self.side())?;
        let step = state.vector("step", self.side())?;
        if halvings >= HALVINGS_MAX || rounds >= self.rounds_max {
            return Err(Finding::NotConverged { rounds, step: step.iter().fold(0.0, |most, s| s.abs().max(most)) });
        }
        let halvings = halvings + 1.0;
        let share = 0.5_f64.powf(halvings);
        let beta = before.iter().zip(step).map(|(b, s)| b + share * s).collect();
        let (known, used) = (state.number("progress", 3)?, state.number("progress", 4)?);
        let traced = self.traced(state, rounds, objective, f64::NAN, halvings)?;
        Ok(Next::Round(traced.with("beta", beta).with("progress", vec![f64::from(rounds), halvings, 0.0, known, used])))
    }

    fn check_outcome(&self, round: &Round<'_>) -> Result<(), Finding> {
        let total = round.outcome.first().copied().unwrap_or(0.0);
        if self.family == Family::Binomial && (total < 0.5 || total > round.used - 0.5) {
            return Err(Finding::OneClass { rows: round.rows.used });
        }
        Ok(())
    }

    fn traced(&self, state: &State, rounds: u32, deviance: f64, step: f64, halvings: f64) -> Result<State, Finding> {
        let mut trace = state.values("trace")?.to_vec();
        trace.extend([f64::from(rounds), deviance, step, halvings]);
        Ok(state.clone().with_matrix("trace", 4, trace))
    }
}

impl Algorithm for Glm {
    fn start(&self, from: Option<&State>) -> Result<State, Finding> {
        let from = from.ok_or_else(|| Finding::StateMismatch {
            problem: "a model starts from the means and standard deviations of a 'standardise' stage".to_owned(),
        })?;
        self.design.check(from)?;
        from.vector("mean", self.design.len())?;
        let sd = from.vector("sd", self.design.len())?;
        if let Some(index) = sd.iter().position(|sd| sd.is_nan() || *sd <= 0.0) {
            return Err(Finding::ConstantTerm { term: self.label(index + 1) });
        }
        let mut beta = vec![0.0; self.side()];
        let centre = from.number("outcome", 0)?;
        match self.family {
            Family::Gaussian if from.number("outcome", 1)?.max(0.0) == 0.0 => {
                return Err(Finding::OneClass { rows: from.number("rows", 1)? as u64 });
            }
            Family::Binomial if centre > 0.0 && centre < 1.0 => {
                if let Some(intercept) = beta.first_mut() {
                    *intercept = (centre / (1.0 - centre)).ln();
                }
            }
            _ => {}
        }
        Ok(from
            .clone()
            .with_word("family", self.family.name())
            .with("beta_before", beta.clone())
            .with("step", vec![0.0; self.side()])
            .with("beta", beta)
            .with("progress", vec![0.0; 5])
            .with_matrix("trace", 4, Vec::new()))
    }

    fn columns(&self) -> Vec<String> {
        self.design.columns()
    }

    fn groups(&self) -> Groups {
        self.design.census(self.family == Family::Binomial, self.side() as u64, true)
    }

    fn rounds_max(&self) -> u32 {
        self.rounds_max
    }

    fn layout(&self, state: &State, _hospitals: u16) -> Result<Layout, Finding> {
        let bound = sum_bound(state)?;
        let rows = 4.0 * state.number("rows", 0)?.max(16.0);
        Ok(Layout {
            segments: vec![
                spec("rows", self.lanes(), rows),
                spec("gradient", self.side(), bound),
                spec("hessian", triangle(self.side()), bound),
                spec("deviance", 1, deviance_bound(state)?),
                spec("outcome", 2, bound),
            ],
        })
    }

    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        let limit = (4.0 * state.number("rows", 0)?.max(16.0)) as u64;
        if rows.rows() as u64 > limit {
            return Err(Finding::TooManyRows { rows: rows.rows() as u64, limit });
        }
        let (sums, counts) = self.sums(state, rows)?;
        // A deviance beyond its bound only says "worse than any start": the coordinator halves the step.
        let deviance = sums.deviance.min(deviance_bound(state)?);
        let outcome = vec![sums.outcome_sum, sums.outcome_square];
        Ok(exact(vec![counts.lanes(), sums.gradient, sums.hessian, vec![deviance], outcome]))
    }

    fn loss(&self, state: &State) -> Option<f64> {
        let last = state.values("trace").ok()?.chunks_exact(4).next_back()?;
        last.get(1).copied()
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        self.design.check(state)?;
        let round = self.round(sum)?;
        self.combine_round(state, &round)
    }
}

pub(crate) const INTERCEPT: &str = "(Intercept)";

fn progress(state: &State) -> Result<[f64; 5], Finding> {
    let values = state.vector("progress", 5)?;
    values.try_into().map_err(|_| Finding::StateMismatch { problem: "tensor 'progress' is not of length 5".to_owned() })
}

fn sum_bound(state: &State) -> Result<f64, Finding> {
    Ok(4.0 * state.number("rows", 1)?.max(16.0))
}

/// The deviance of a useful step is at most that of the start, 1.4 for each row; beyond 64 it saturates.
fn deviance_bound(state: &State) -> Result<f64, Finding> {
    Ok(16.0 * sum_bound(state)?)
}

fn mismatch(segment: &str, len: usize) -> Finding {
    Finding::SumMismatch { segment: segment.to_owned(), len }
}
