//! How good a logistic model is on a cohort: ROC curve and AUC, calibration, Brier score, log loss, accuracy.
//!
//! Two rounds. The first sums the linear predictor and its square, so that the second can place its bins where the scores
//! are: bin edges are equal steps of `u = 1 / (1 + exp(-1.702 (eta - m) / s))`, close to the normal distribution function
//! of the standardised score. The second sums one histogram of scores for each class. From them
//!
//! * AUC counts a pair in one bin as one half, so it is off by at most `auc_error_max = 1/2 sum p_b q_b / (P Q)`, which
//!   is reported; at the default of 8192 bins that is 6e-5 for a large cohort, and the error itself, which mostly cancels
//!   within a bin, about 1e-6;
//! * its standard error is DeLong's (DeLong, DeLong and Clarke-Pearson 1988) from the same histograms.
//!
//! Cells of fewer than the terms' `cell_min` patients of a class do not show: a step of the curve has none or so many of either
//! class, rows of the calibration table are joined until both classes have so many, and shares of a class that would count fewer
//! are withheld. Where patients share few scores (64 bins or fewer are taken) and fewer than `cell_min` of a class have one of them, so
//! are the figures from which whoever has the model, and so the scores, could work out how many have each: Brier score, log loss, AUC and
//! the mean scores of calibration. From 65 on there are more unknown numbers than told digits could settle; that bound is a judgement, no
//! theorem. Features that are codes are held to the same rules as in a model.
//!
//! Parameters: `features`, `outcome`, `bins` (8192), `rows_max` (most rows of one hospital, 2^24).

use leben_privacy::{Contribution, Layout, Unmasked};

use crate::algorithm::{Algorithm, Next, exact, segment, spec};
use crate::design::{Design, Family};
use crate::disclosure::{Groups, Limits};
use crate::finding::Finding;
use crate::outcome::RowCounts;
use crate::select::{BLOCK_ROWS, Block, Counts, reasons};
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::standardise::ROWS_MAX;
use crate::state::State;
use crate::table::Table;

mod report;

/// Rows of the calibration table: equal widths of the predicted probability.
pub const CALIBRATION_BINS: usize = 10;
/// A linear predictor is counted as at most this in the first round.
const LINEAR_MAX: f64 = 1e3;
/// The log loss of one row is counted as at most this: a probability of 1e-16.
const LOSS_MAX: f64 = 36.841_361_487_904_734;
/// Scales a logistic function to the normal distribution function (Haley 1952): the two differ by less than 0.01.
const LOGISTIC_TO_NORMAL: f64 = 1.702;

/// The algorithm `evaluate`.
pub struct Evaluate {
    design: Design,
    bins: usize,
    limits: Limits,
    rows_max: i64,
}

impl Evaluate {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec, limits: &Limits) -> Result<Self, SpecError> {
        let reader = Reader::new("evaluate", spec, &["features", "outcome", "bins", "rows_max"])?;
        Ok(Self {
            design: Design::read(&reader, Family::Binomial, true)?,
            bins: usize::try_from(reader.integer("bins", 8192, 16, 1 << 20)?).unwrap_or(8192),
            limits: *limits,
            rows_max: reader.integer("rows_max", ROWS_MAX, 1, 1 << 32)?,
        })
    }

    fn cell_min(&self) -> f64 {
        self.limits.cell_min as f64
    }

    fn lanes(&self) -> usize {
        self.design.wants().len() * 2 + 2
    }

    /// One pass; `visit` gets the block's linear predictors and outcomes.
    fn scores<A: Send>(
        &self,
        state: &State,
        rows: &Table,
        new: impl Fn() -> A + Sync,
        visit: impl Fn(&mut A, f64, f64) + Sync,
        merge: impl FnMut(&mut (A, Vec<f64>), (A, Vec<f64>)),
    ) -> Result<(A, Counts), Finding> {
        let terms = self.design.len();
        let beta = state.vector("beta", terms + 1)?;
        let mean = state.vector("mean", terms)?;
        let sd = state.vector("sd", terms)?;
        let selection = rows.select(self.design.wants())?;
        let ((sums, _), counts) = selection.fold(
            || (new(), vec![0.0; (terms + 1) * BLOCK_ROWS]),
            |(sums, scratch), block: &Block<'_>| {
                let (linear, raw) = scratch.split_at_mut(BLOCK_ROWS);
                self.design.expand(block, raw);
                let intercept = beta.first().copied().unwrap_or(0.0);
                linear.iter_mut().for_each(|eta| *eta = intercept);
                let parameters = beta.iter().skip(1).zip(mean).zip(sd);
                for (column, ((beta, mean), sd)) in raw.chunks(BLOCK_ROWS).zip(parameters) {
                    linear.iter_mut().zip(column).for_each(|(eta, value)| *eta += beta * ((value - mean) / sd));
                }
                for (eta, y) in linear.iter().zip(self.design.outcome_values(block)) {
                    visit(sums, *eta, *y);
                }
            },
            merge,
        );
        Ok((sums, counts))
    }

    fn range(&self, state: &State, rows: &Table) -> Result<Vec<Vec<f64>>, Finding> {
        let (sums, counts) = self.scores(
            state,
            rows,
            || [0.0; 3],
            |sums, eta, y| {
                let eta = eta.clamp(-LINEAR_MAX, LINEAR_MAX);
                sums[0] += eta;
                sums[1] += eta * eta;
                sums[2] += y;
            },
            |total, part| total.0.iter_mut().zip(part.0).for_each(|(total, part)| *total += part),
        )?;
        Ok(vec![counts.lanes(), vec![sums[0], sums[1]], vec![sums[2]]])
    }

    fn histogram(&self, state: &State, rows: &Table) -> Result<Vec<Vec<f64>>, Finding> {
        let centre = state.number("range", 0)?;
        let scale = state.number("range", 1)?;
        let (sums, counts) = self.scores(
            state,
            rows,
            || Scores::new(self.bins),
            |sums, eta, y| {
                let u = 1.0 / (1.0 + (-LOGISTIC_TO_NORMAL * (eta - centre) / scale).exp());
                sums.add((u * self.bins as f64) as usize, eta, y);
            },
            |total, part| total.0.merge(&part.0),
        )?;
        let [positives, negatives] = sums.classes;
        Ok(vec![counts.lanes(), positives, negatives, sums.calibration, sums.losses.to_vec(), sums.confusion.to_vec()])
    }

    fn ranged(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        let lanes = segment(sum, "rows", self.lanes())?;
        let rows = RowCounts::from_lanes(lanes, &reasons(self.design.wants()));
        if rows.used < 2 {
            return Err(Finding::TooFewRows { used: rows.used, requested: rows.requested, needed: 1 });
        }
        let used = rows.used as f64;
        let linear = segment(sum, "linear", 2)?;
        let at = |index: usize| linear.get(index).copied().unwrap_or(0.0) / used;
        let spread = (at(1) - at(0) * at(0)).max(0.0).sqrt();
        let scale = if spread > 1e-6 { spread } else { 1.0 };
        let state = state.clone().with("round", vec![1.0]).with("range", vec![at(0), scale]);
        Ok(Next::Round(state.with("rows", vec![rows.requested as f64, used])))
    }
}

impl Algorithm for Evaluate {
    fn start(&self, from: Option<&State>) -> Result<State, Finding> {
        let from = from.ok_or_else(|| Finding::StateMismatch {
            problem: "an evaluation starts from the coefficients of a 'glm' stage".to_owned(),
        })?;
        self.design.check(from)?;
        if from.word("family")? != Family::Binomial.name() {
            return Err(Finding::StateMismatch { problem: "it is not a logistic model".to_owned() });
        }
        from.vector("beta", self.design.len() + 1)?;
        from.vector("mean", self.design.len())?;
        from.vector("sd", self.design.len())?;
        Ok(from.clone().with("round", vec![0.0]))
    }

    fn columns(&self) -> Vec<String> {
        self.design.columns()
    }

    fn groups(&self) -> Groups {
        // The model may be anybody's, and these rows others than it was made of.
        self.design.census(true, 0, true)
    }

    fn rounds_max(&self) -> u32 {
        2
    }

    fn layout(&self, state: &State, _hospitals: u16) -> Result<Layout, Finding> {
        let rows_max = self.rows_max as f64;
        if state.number("round", 0)? == 0.0 {
            let linear = rows_max * LINEAR_MAX * LINEAR_MAX;
            let rows = spec("rows", self.lanes(), rows_max);
            return Ok(Layout { segments: vec![rows, spec("linear", 2, linear), spec("outcome", 1, rows_max)] });
        }
        let rows = row_bound(state)?;
        Ok(Layout {
            segments: vec![
                spec("rows", self.lanes(), rows),
                spec("positives", self.bins, rows),
                spec("negatives", self.bins, rows),
                spec("calibration", CALIBRATION_BINS * 3, rows),
                spec("losses", 2, rows * LOSS_MAX),
                spec("confusion", 4, rows),
            ],
        })
    }

    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        let first = state.number("round", 0)? == 0.0;
        let limit = if first { self.rows_max as u64 } else { row_bound(state)? as u64 };
        if rows.rows() as u64 > limit {
            return Err(Finding::TooManyRows { rows: rows.rows() as u64, limit });
        }
        let segments = if first { self.range(state, rows)? } else { self.histogram(state, rows)? };
        Ok(exact(segments))
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        self.design.check(state)?;
        if state.number("round", 0)? == 0.0 { self.ranged(state, sum) } else { self.report(state, sum) }
    }
}

/// Four times the first round's rows, for a hospital that was away in it.
fn row_bound(state: &State) -> Result<f64, Finding> {
    Ok(4.0 * state.number("rows", 0)?.max(16.0))
}

/// One hospital's histograms.
struct Scores {
    classes: [Vec<f64>; 2],
    /// For each calibration bin: rows, summed probability, summed outcome.
    calibration: Vec<f64>,
    /// Summed squared error and log loss.
    losses: [f64; 2],
    /// True positive, false positive, true negative, false negative at 0.5.
    confusion: [f64; 4],
}

impl Scores {
    fn new(bins: usize) -> Self {
        Self {
            classes: [vec![0.0; bins], vec![0.0; bins]],
            calibration: vec![0.0; CALIBRATION_BINS * 3],
            losses: [0.0; 2],
            confusion: [0.0; 4],
        }
    }

    fn add(&mut self, bin: usize, eta: f64, y: f64) {
        let positive = y == 1.0;
        let class = usize::from(!positive);
        let histogram = &mut self.classes[class];
        let last = histogram.len().saturating_sub(1);
        if let Some(count) = histogram.get_mut(bin.min(last)) {
            *count += 1.0;
        }
        let p = 1.0 / (1.0 + (-eta).exp());
        let decile = ((p * CALIBRATION_BINS as f64) as usize).min(CALIBRATION_BINS - 1);
        let cell = self.calibration.iter_mut().skip(decile * 3);
        cell.zip([1.0, p, y]).for_each(|(total, value)| *total += value);
        // log(1 + e^-margin), by the sign of the margin so that nothing overflows.
        let margin = if positive { eta } else { -eta };
        let loss = (-margin.abs()).exp().ln_1p() + (-margin).max(0.0);
        self.losses[0] += (p - y) * (p - y);
        self.losses[1] += loss.min(LOSS_MAX);
        let cell = match (p >= 0.5, positive) {
            (true, true) => 0,
            (true, false) => 1,
            (false, false) => 2,
            (false, true) => 3,
        };
        self.confusion[cell] += 1.0;
    }

    fn merge(&mut self, part: &Self) {
        let add = |total: &mut [f64], part: &[f64]| total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
        for (total, part) in self.classes.iter_mut().zip(&part.classes) {
            add(total, part);
        }
        add(&mut self.calibration, &part.calibration);
        add(&mut self.losses, &part.losses);
        add(&mut self.confusion, &part.confusion);
    }
}
