//! From noisy sums to tables. Every interval holds both errors: that other patients could have come (sampling), and the
//! noise. Noise enters by its known variance, to first order where an estimate is a ratio (the delta method).
//!
//! Quantiles are read off the noisy histogram's distribution function F; the interval of a quantile p goes from the last
//! edge where F is surely below p to the first where it is surely above (Woodruff 1952), with the noise of F in it. A
//! number that the noise swamps is `null`.

use leben_privacy::Unmasked;

use crate::algorithm::segment;
use crate::distribution::NORMAL_97_5;
use crate::finding::Finding;
use crate::outcome::{Grid, GridRow, Outcome, RowCounts, figures, finite, whole};
use crate::private::{ANY_HOSPITALS, Range, noise_sd};

use super::{DpStatistics, Query, Shape};

/// A count below so many standard deviations of its noise is no divisor.
const SWAMPED: f64 = 4.0;

/// An estimate with the variances of its two errors.
#[derive(Clone, Copy)]
struct Estimate {
    value: f64,
    noise: f64,
    sampling: f64,
}

impl Estimate {
    const NONE: Self = Self { value: f64::NAN, noise: f64::NAN, sampling: f64::NAN };

    fn row(self, label: String, low: f64, high: f64) -> GridRow {
        let se = (self.noise + self.sampling).sqrt();
        let (from, to) = (self.value - NORMAL_97_5 * se, self.value + NORMAL_97_5 * se);
        let values = [self.value, self.noise.sqrt(), se, from.max(low), to.min(high)];
        GridRow { label, values: values.into_iter().map(finite).collect() }
    }
}

fn grid(name: String, note: &str, rows: Vec<GridRow>) -> Grid {
    let columns = ["estimate", "noise_sd", "se", "low95", "high95"];
    Grid { name, note: note.to_owned(), columns: columns.iter().map(|column| (*column).to_owned()).collect(), rows }
}

impl DpStatistics {
    pub(super) fn outcome(&self, sum: &Unmasked) -> Result<Outcome, Finding> {
        let mechanism = "discrete Gaussian noise of every hospital inside the secure sum";
        let releases = [self.terms.release(&self.parts, 1, ANY_HOSPITALS)?];
        let privacy = self.terms.report(&releases, mechanism, sum.contributions())?;
        let (mut means, mut variances, mut counted, mut tables) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut rows = RowCounts::default();
        for (query, part) in self.queries.iter().zip(&self.parts) {
            let (values, sd) = (segment(sum, &part.name, part.len)?, noise_sd(sum, &part.name)?);
            match &query.shape {
                Shape::Rows => {
                    let value = values.iter().sum();
                    rows = RowCounts { requested: whole(value), used: whole(value), ..RowCounts::default() };
                    let estimate = Estimate { value, noise: sd * sd, sampling: 0.0 };
                    counted.push(estimate.row("rows".to_owned(), 0.0, f64::INFINITY));
                }
                Shape::Moments(range) => {
                    let (mean, variance) = moments(values, sd, *range);
                    means.push(mean.row(query.column.clone(), range.low, range.high));
                    variances.push(variance.row(query.column.clone(), 0.0, range.half() * range.half()));
                }
                Shape::Histogram(range, bins) => {
                    let edges = edges(*range, *bins);
                    let label = |i: usize| match edges.get(i..=i + 1) {
                        Some([low, high]) => format!("{low} to {high}"),
                        _ => String::new(),
                    };
                    tables.extend(shares(query, values, sd, label));
                    tables.push(self.quantiles(query, values, sd, &edges));
                }
                Shape::Codes(codes) => {
                    let label = |i: usize| codes.get(i).map_or_else(String::new, ToString::to_string);
                    tables.extend(shares(query, values, sd, label));
                }
            }
        }
        let mut all =
            vec![grid("rows".to_owned(), "rows of all hospitals; the interval is that of the noise", counted)];
        if !means.is_empty() {
            let note = "of the values clamped to the bounds of the terms, where the column is there";
            all.push(grid("means".to_owned(), note, means));
            let note = "as the means; intervals are wide, the fourth moment is only bounded (Bhatia and Davis 2000)";
            all.push(grid("variances".to_owned(), note, variances));
        }
        all.extend(tables);
        let swamped = all.iter().any(|grid| grid.rows.iter().any(|row| row.values.contains(&None)));
        let note = "The noise is larger than some of the counts: what cannot be told apart from it is left out.";
        Ok(Outcome {
            algorithm: "dp-statistics".to_owned(),
            version: 1,
            title: format!("Noisy statistics of {} column(s)", self.queries.len() - 1),
            rows,
            tables: all,
            figures: figures([("epsilon", privacy.epsilon), ("delta", privacy.delta), ("sigma", self.terms.sigma)]),
            warnings: swamped.then(|| note.to_owned()).into_iter().collect(),
            privacy: Some(privacy),
            disclosure: None,
            ..Outcome::default()
        })
    }

    fn quantiles(&self, query: &Query, values: &[f64], sd: f64, edges: &[f64]) -> Grid {
        let total: f64 = values.iter().sum();
        let bins = values.len() as f64;
        let sound = total > SWAMPED * sd * bins.sqrt();
        let row = |p: f64| {
            let mut points = vec![None; 3];
            if sound {
                let below = values.iter().scan(0.0, |sum, count| Some(std::mem::replace(sum, *sum + count)));
                let cumulative: Vec<f64> = below.collect();
                let at = |k: usize| cumulative.get(k).copied().unwrap_or(total) / total;
                // F(k) = C / N with C of k bins' noise, N - C of the others'.
                let error = |k: usize| {
                    let k = k as f64;
                    let noise = sd * sd * ((1.0 - p) * (1.0 - p) * k + p * p * (bins - k)) / (total * total);
                    NORMAL_97_5 * (p * (1.0 - p) / total + noise).sqrt()
                };
                let inner = 1..values.len();
                let low = inner.clone().take_while(|k| at(*k) + error(*k) < p).last().unwrap_or(0);
                let high = inner.rev().take_while(|k| at(*k) - error(*k) > p).last().unwrap_or(values.len());
                points = vec![place(values, edges, p * total), edges.get(low).copied(), edges.get(high).copied()];
            }
            GridRow { label: p.to_string(), values: points }
        };
        Grid {
            name: format!("quantiles of {}", query.column),
            note: "from the noisy histogram, linear within a bin; intervals end at edges of bins".to_owned(),
            columns: ["estimate", "low95", "high95"].iter().map(|column| (*column).to_owned()).collect(),
            rows: self.quantiles.iter().map(|p| row(*p)).collect(),
        }
    }
}

/// Where the running sum first reaches `target`, linear within the bin.
fn place(values: &[f64], edges: &[f64], target: f64) -> Option<f64> {
    let mut below = 0.0;
    for (count, edge) in values.iter().zip(edges.windows(2)) {
        if below + count >= target
            && let [low, high] = edge
        {
            let share = ((target - below) / count).clamp(0.0, 1.0);
            return finite(low + share * (high - low));
        }
        below += count;
    }
    edges.last().copied()
}

fn edges(range: Range, bins: usize) -> Vec<f64> {
    (0..=bins).map(|k| range.low + (range.high - range.low) * (k as f64 / bins as f64)).collect()
}

/// Mean and variance of the clamped values from the noisy sums of 1, u and u^2.
fn moments(values: &[f64], sd: f64, range: Range) -> (Estimate, Estimate) {
    let Ok([n, first, second]) = <[f64; 3]>::try_from(values) else { return (Estimate::NONE, Estimate::NONE) };
    if n <= SWAMPED * sd {
        return (Estimate::NONE, Estimate::NONE);
    }
    let (mean, square, noise) = (first / n, second / n, sd * sd / (n * n));
    let variance = (square - mean * mean).max(0.0);
    let half = range.half();
    let location = Estimate {
        value: range.middle() + half * mean,
        noise: half * half * noise * (1.0 + mean * mean),
        sampling: half * half * variance / n,
    };
    // (u - mean)^2 lies between 0 and (1 + |mean|)^2 and has this mean: Bhatia and Davis 2000, theorem 1.
    let spread = (variance * ((1.0 + mean.abs()).powi(2) - variance)).max(0.0);
    let scale = Estimate {
        value: half * half * variance,
        noise: half.powi(4) * noise * (1.0 + 4.0 * mean * mean + (2.0 * mean * mean - square).powi(2)),
        sampling: half.powi(4) * spread / n,
    };
    (location, scale)
}

/// Counts with the noise alone in their interval, and shares of their sum with both errors.
fn shares(query: &Query, values: &[f64], sd: f64, label: impl Fn(usize) -> String) -> [Grid; 2] {
    let total: f64 = values.iter().sum();
    let bins = values.len() as f64;
    let sound = total > SWAMPED * sd * bins.sqrt();
    let noise = sd * sd;
    let count =
        |(i, value): (usize, &f64)| Estimate { value: *value, noise, sampling: 0.0 }.row(label(i), 0.0, f64::INFINITY);
    let share = |(i, value): (usize, &f64)| {
        let p = (value / total).clamp(0.0, 1.0);
        let noise = noise * ((1.0 - p) * (1.0 - p) + p * p * (bins - 1.0)) / (total * total);
        let estimate = Estimate { value: value / total, noise, sampling: p * (1.0 - p) / total };
        if sound { estimate } else { Estimate::NONE }.row(label(i), 0.0, 1.0)
    };
    let name = &query.column;
    [
        grid(
            format!("counts of {name}"),
            "rows; the interval is that of the noise",
            values.iter().enumerate().map(count).collect(),
        ),
        grid(
            format!("shares of {name}"),
            "of the rows counted; the interval holds sampling and noise",
            values.iter().enumerate().map(share).collect(),
        ),
    ]
}
