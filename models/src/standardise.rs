//! Mean and standard deviation of every term over all hospitals, to 13 digits whatever the unit of the column.
//!
//! Fixed point has an absolute grid, columns have any scale. So the first round is coarse: each value goes into the lane of
//! its magnitude (a factor of 4096 each), where it is between -1 and 1, and the lanes of `x` and `x^2` are summed. From
//! them come a centre `m` and a scale `s`, good to a few digits. The next round sums `t = (x - m) / s` and `t^2`, which
//! are of order one: `mean = m + s E[t]` and `var = s^2 (E[t^2] - E[t]^2)` (the shifted-data formula; Chan, Golub and
//! LeVeque 1983) lose nothing. It is repeated for a column whose scale was still off by more than a factor of two.
//! A column whose standard deviation is below 1e-12 of its mean is constant: sd 0 and a warning.
//!
//! Parameters: `features`, `outcome` (optional; with it the same rows are used as by the model that follows), `family`
//! (binomial: rows whose outcome is neither 0 nor 1 are left out), `ddof` 0 or 1 (default 0: divide by n),
//! `rows_max` (most rows of one hospital, default 2^24), `rounds_max` (default 8).

use leben_privacy::{Contribution, Layout, Unmasked};

use crate::algorithm::{Algorithm, Next, exact, segment, spec};
use crate::design::{Design, Family};
use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::outcome::{Grid, GridRow, Outcome, RowCounts, Step, figures, finite};
use crate::select::{BLOCK_ROWS, Counts, reasons};
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::state::State;
use crate::table::Table;

/// Default for the most rows of one hospital while the true number is not known yet.
pub const ROWS_MAX: i64 = 1 << 24;
/// Largest magnitude of a value, 2^60.
pub const VALUE_MAX: f64 = (1_u64 << 60) as f64;

/// Lane `k` takes magnitudes up to 2^(12 k - 36).
const LANES: usize = 9;
/// Below this share of the mean, a standard deviation is rounding error.
const CONSTANT: f64 = 1e-12;

/// The algorithm `standardise`.
pub struct Standardise {
    design: Design,
    ddof: f64,
    rows_max: i64,
    rounds_max: u32,
}

impl Standardise {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec) -> Result<Self, SpecError> {
        let known = ["features", "outcome", "family", "ddof", "rows_max", "rounds_max"];
        let reader = Reader::new("standardise", spec, &known)?;
        let family = Family::read(&reader)?;
        Ok(Self {
            design: Design::read(&reader, family, false)?,
            ddof: reader.integer("ddof", 0, 0, 1)? as f64,
            rows_max: reader.integer("rows_max", ROWS_MAX, 1, 1 << 40)?,
            rounds_max: u32::try_from(reader.integer("rounds_max", 8, 2, 100)?).unwrap_or(8),
        })
    }

    /// Terms and, last, the outcome.
    fn width(&self) -> usize {
        self.design.len() + usize::from(self.design.outcome().is_some())
    }

    fn lanes(&self) -> usize {
        self.design.wants().len() * 2 + 2
    }

    /// The moments of one hospital's rows around what the state says.
    fn sums(&self, state: &State, rows: &Table) -> Result<(Sums, Counts), Finding> {
        let width = self.width();
        let coarse = state.number("round", 0)? == 0.0;
        let centre = state.vector("centre", width)?;
        let scale = state.vector("scale", width)?;
        let selection = rows.select(self.design.wants())?;
        let per_column = if coarse { LANES } else { 1 };
        let new = || Sums::new(width, per_column);
        let (sums, counts) = selection.fold(
            new,
            |sums, block| {
                let (terms, outcome) = sums.scratch.split_at_mut(self.design.len() * BLOCK_ROWS);
                self.design.expand(block, terms);
                outcome.iter_mut().zip(self.design.outcome_values(block)).for_each(|(out, value)| *out = *value);
                for column in 0..width {
                    let (Some(centre), Some(scale)) = (centre.get(column), scale.get(column)) else { continue };
                    if coarse {
                        sums.coarse(column, block.rows());
                    } else if *scale > 0.0 {
                        sums.refine(column, block.rows(), *centre, *scale);
                    }
                }
            },
            Sums::merge,
        );
        Ok((sums, counts))
    }

    fn combine_coarse(&self, state: &State, sum: &Unmasked) -> Result<State, Finding> {
        let width = self.width();
        let rows = segment(sum, "rows", self.lanes())?;
        let first = segment(sum, "first", width * LANES)?;
        let second = segment(sum, "second", width * LANES)?;
        let used = self.used(rows)?;
        let mut centre = Vec::with_capacity(width);
        let mut scale = Vec::with_capacity(width);
        for (first, second) in first.chunks(LANES).zip(second.chunks(LANES)) {
            let mut mean = 0.0;
            let mut square = 0.0;
            for (lane, (first, second)) in first.iter().zip(second).enumerate() {
                mean += first * lane_limit(lane) / used;
                square += second * lane_limit(lane).powi(2) / used;
            }
            // Where the mean hides the spread, start 2^-10 below it; the refinement finds the rest.
            let variance = (square - mean * mean).max(mean * mean * 2f64.powi(-20));
            centre.push(mean);
            scale.push(if square > 0.0 { variance.sqrt() } else { 0.0 });
        }
        let open = scale.iter().filter(|scale| **scale > 0.0).count();
        self.next(state, centre, scale, rows, open)
    }

    fn combine_refined(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        let width = self.width();
        let rows = segment(sum, "rows", self.lanes())?;
        let used = self.used(rows)?;
        let first = segment(sum, "first", width)?;
        let second = segment(sum, "second", width)?;
        let far = segment(sum, "far", width)?;
        let mut centre = state.vector("centre", width)?.to_vec();
        let mut scale = state.vector("scale", width)?.to_vec();
        let mut mean = Vec::with_capacity(width);
        let mut sd = Vec::with_capacity(width);
        let mut open = 0;
        for (column, (centre, scale)) in centre.iter_mut().zip(&mut scale).enumerate() {
            let at = |values: &[f64]| values.get(column).copied().unwrap_or(0.0);
            let shift = at(first) / used;
            let spread = (at(second) / used - shift * shift).max(0.0);
            mean.push(*centre + *scale * shift);
            sd.push(*scale * (spread * used / (used - self.ddof)).sqrt());
            if *scale == 0.0 || at(far) == 0.0 && (0.25..=4.0).contains(&spread) && shift.abs() <= 2.0 {
                continue;
            }
            if at(far) > 0.0 {
                *scale *= 256.0;
            } else {
                *centre += *scale * shift;
                *scale *= if spread < 2f64.powi(-36) { 2f64.powi(-18) } else { spread.sqrt() };
            }
            if *scale < centre.abs() * CONSTANT || *scale < VALUE_MAX.recip() * CONSTANT {
                *scale = 0.0;
                sd.pop();
                sd.push(0.0);
            } else {
                open += 1;
            }
        }
        let next = self.next(state, centre, scale, rows, open)?;
        if open > 0 {
            if next.number("round", 0)? >= f64::from(self.rounds_max) {
                return Err(Finding::NotConverged { rounds: self.rounds_max, step: open as f64 });
            }
            return Ok(Next::Round(next));
        }
        Ok(self.done(&next, &mean, &sd, rows))
    }

    fn used(&self, rows: &[f64]) -> Result<f64, Finding> {
        let counts = RowCounts::from_lanes(rows, &[]);
        if counts.used < 2 {
            return Err(Finding::TooFewRows { used: counts.used, requested: counts.requested, needed: 1 });
        }
        Ok(counts.used as f64)
    }

    fn next(
        &self,
        state: &State,
        centre: Vec<f64>,
        scale: Vec<f64>,
        rows: &[f64],
        open: usize,
    ) -> Result<State, Finding> {
        if centre.iter().chain(&scale).any(|value| !value.is_finite()) {
            return Err(Finding::NotFinite { what: "a mean or standard deviation".to_owned() });
        }
        let round = state.number("round", 0)? + 1.0;
        let mut trace = state.values("trace")?.to_vec();
        trace.extend([round, open as f64]);
        let rows = rows.iter().take(2).copied().collect();
        Ok(self
            .design
            .describe(State::default())
            .with("round", vec![round])
            .with("centre", centre)
            .with("scale", scale)
            .with("rows", rows)
            .with_matrix("trace", 2, trace))
    }

    fn done(&self, state: &State, mean: &[f64], sd: &[f64], rows: &[f64]) -> Next {
        let counts = RowCounts::from_lanes(rows, &reasons(self.design.wants()));
        let mut labels = self.design.names();
        labels.extend(self.design.outcome().map(str::to_owned));
        let mut warnings = Vec::new();
        let mut grid = Grid {
            name: "moments".to_owned(),
            note: format!("over {} complete rows of all hospitals; sd divides by n - {}", counts.used, self.ddof),
            columns: vec!["mean".to_owned(), "sd".to_owned()],
            rows: Vec::with_capacity(labels.len()),
        };
        for ((label, mean), sd) in labels.iter().zip(mean).zip(sd) {
            if *sd == 0.0 {
                warnings.push(format!("'{label}' is the same in every row; a model cannot use it"));
            }
            grid.rows.push(GridRow { label: label.clone(), values: vec![finite(*mean), finite(*sd)] });
        }
        let trace = state.values("trace").unwrap_or(&[]);
        let step =
            |pair: &[f64; 2]| Step { round: pair[0] as u32, values: figures([("columns_not_settled", pair[1])]) };
        let outcome = Outcome {
            algorithm: "standardise".to_owned(),
            version: 1,
            title: format!("Mean and standard deviation of {} columns", labels.len()),
            rows: counts,
            tables: vec![grid],
            figures: figures([]),
            curves: Vec::new(),
            trace: trace.as_chunks::<2>().0.iter().map(step).collect(),
            warnings,
            privacy: None,
            disclosure: None,
        };
        let terms = self.design.len();
        let moments = |values: &[f64]| values.get(..terms).unwrap_or(values).to_vec();
        let last = |values: &[f64]| values.get(terms).copied().unwrap_or(0.0);
        let handed_on = self
            .design
            .describe(State::default())
            .with("mean", moments(mean))
            .with("sd", moments(sd))
            .with("outcome", vec![last(mean), last(sd)])
            .with("rows", rows.iter().take(2).copied().collect());
        Next::Done(outcome, handed_on)
    }
}

impl Algorithm for Standardise {
    fn start(&self, _from: Option<&State>) -> Result<State, Finding> {
        let zeros = || vec![0.0; self.width()];
        let state = self.design.describe(State::default()).with("round", vec![0.0]).with("rows", vec![0.0, 0.0]);
        Ok(state.with("centre", zeros()).with("scale", zeros()).with_matrix("trace", 2, Vec::new()))
    }

    fn columns(&self) -> Vec<String> {
        self.design.columns()
    }

    fn groups(&self) -> Groups {
        self.design.census(false, 0, false)
    }

    fn rounds_max(&self) -> u32 {
        self.rounds_max
    }

    fn layout(&self, state: &State, _hospitals: u16) -> Result<Layout, Finding> {
        let rows_max = self.rows_max as f64;
        let rows = spec("rows", self.lanes(), rows_max);
        let width = self.width();
        if state.number("round", 0)? == 0.0 {
            let first = spec("first", width * LANES, rows_max);
            return Ok(Layout { segments: vec![rows, first, spec("second", width * LANES, rows_max)] });
        }
        let bound = moment_bound(state)?;
        let segments = vec![rows, spec("first", width, bound), spec("second", width, bound), spec("far", width, bound)];
        Ok(Layout { segments })
    }

    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        let held = rows.rows() as u64;
        if held as f64 > self.rows_max as f64 {
            return Err(Finding::TooManyRows { rows: held, limit: self.rows_max as u64 });
        }
        let (sums, counts) = self.sums(state, rows)?;
        let columns = self.design.columns();
        if let Some((column, count)) = sums.outside.iter().enumerate().find(|(_, count)| **count > 0) {
            let name = columns.get(self.source(column)).cloned().unwrap_or_default();
            return Err(Finding::OutOfRange { column: name, count: *count, limit: VALUE_MAX });
        }
        let lanes = counts.lanes();
        if state.number("round", 0)? == 0.0 {
            return Ok(exact(vec![lanes, sums.first, sums.second]));
        }
        let (first, second, far) = sums.within(moment_bound(state)?);
        Ok(exact(vec![lanes, first, second, far]))
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        self.design.check(state)?;
        if state.number("round", 0)? == 0.0 {
            return Ok(Next::Round(self.combine_coarse(state, sum)?));
        }
        self.combine_refined(state, sum)
    }
}

impl Standardise {
    fn source(&self, column: usize) -> usize {
        if column < self.design.len() { self.design.source(column) } else { self.design.wants().len() - 1 }
    }
}

/// Four times the rows: with the pooled mean and sd, `sum t^2 = n` and, by Cauchy and Schwarz, `sum |t| <= n`; the rest is
/// for a scale that is still off by a factor of two, or a hospital that was away when the rows were counted.
fn moment_bound(state: &State) -> Result<f64, Finding> {
    Ok(4.0 * state.number("rows", 1)?.max(16.0))
}

fn lane_limit(lane: usize) -> f64 {
    2f64.powi(i32::try_from(lane).unwrap_or(0) * 12 - 36)
}

/// Running sums of `t` and `t^2` by column (and lane, in the coarse round).
struct Sums {
    lanes: usize,
    first: Vec<f64>,
    second: Vec<f64>,
    outside: Vec<u64>,
    scratch: Vec<f64>,
}

impl Sums {
    fn new(width: usize, lanes: usize) -> Self {
        Self {
            lanes,
            first: vec![0.0; width * lanes],
            second: vec![0.0; width * lanes],
            outside: vec![0; width],
            scratch: vec![0.0; width * BLOCK_ROWS],
        }
    }

    fn coarse(&mut self, column: usize, rows: usize) {
        let values = self.scratch.iter().skip(column * BLOCK_ROWS).take(rows);
        for value in values {
            let magnitude = value.abs();
            let Some(lane) = (0..LANES).find(|lane| magnitude <= lane_limit(*lane)) else {
                if let Some(outside) = self.outside.get_mut(column) {
                    *outside += 1;
                }
                continue;
            };
            let t = value / lane_limit(lane);
            let index = column * self.lanes + lane;
            if let (Some(first), Some(second)) = (self.first.get_mut(index), self.second.get_mut(index)) {
                *first += t;
                *second += t * t;
            }
        }
    }

    fn refine(&mut self, column: usize, rows: usize, centre: f64, scale: f64) {
        let (mut first, mut second) = (0.0, 0.0);
        for value in self.scratch.iter().skip(column * BLOCK_ROWS).take(rows) {
            let t = (value - centre) / scale;
            first += t;
            second += t * t;
            if value.abs() > VALUE_MAX
                && let Some(outside) = self.outside.get_mut(column)
            {
                *outside += 1;
            }
        }
        if let (Some(sum), Some(square)) = (self.first.get_mut(column), self.second.get_mut(column)) {
            *sum += first;
            *square += second;
        }
    }

    fn merge(total: &mut Self, part: Self) {
        total.first.iter_mut().zip(&part.first).for_each(|(total, part)| *total += part);
        total.second.iter_mut().zip(&part.second).for_each(|(total, part)| *total += part);
        total.outside.iter_mut().zip(&part.outside).for_each(|(total, part)| *total += part);
    }

    /// The sums, or 0 with a raised flag where one would leave its bound: the coordinator then widens that scale.
    fn within(self, bound: f64) -> (Vec<f64>, Vec<f64>, Vec<f64>) {
        let outside = |first: f64, second: f64| first.is_nan() || first.abs() > bound || second > bound;
        let flags: Vec<f64> =
            self.first.iter().zip(&self.second).map(|(f, s)| f64::from(u8::from(outside(*f, *s)))).collect();
        let keep =
            |values: Vec<f64>| values.iter().zip(&flags).map(|(v, flag)| if *flag > 0.0 { 0.0 } else { *v }).collect();
        (keep(self.first), keep(self.second), flags)
    }
}
