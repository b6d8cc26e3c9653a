//! Counts, histograms, means, variances and quantiles of all hospitals together, with differential privacy, in one round.
//!
//! Every query is a sum over rows of a vector with bounded norm, and gets its share of the noise (`private`): the Gaussian
//! mechanism (Dwork and Roth 2014, section 3.5.3) with integer noise that the hospitals add before the secure sum. Values
//! are clamped to the bounds that the terms name before anything is added up. Each query uses the rows where its own
//! column is there; no exact count leaves a hospital, not even of rows.
//!
//! | query | a row adds | L2 norm |
//! |---|---|---|
//! | all rows | 1 | 1 |
//! | mean and variance of u in \[-1, 1\] | 1, u, u^2 | sqrt(3) |
//! | histogram, codes | 1 at one place | 1 |
//!
//! Parameters, at least one of the first three: `means` (`age:18..90,chol:100..600`), `histograms`
//! (`age:0..100/20`: twenty equal bins; a value outside counts in the nearest), `counts` (`cp:1|2|3|4`: codes);
//! `quantiles` of each histogram ("0.25,0.5,0.75"); the privacy parameters of `private`.

use leben_privacy::dp::guarantee::Release;
use leben_privacy::{Contribution, Layout, Unmasked};

use crate::algorithm::{Algorithm, Next};
use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::private::{PARAMS, Part, Range, Terms};
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::state::State;
use crate::table::Table;

mod report;

/// Most bins of a histogram, and codes of a count.
const BINS_MAX: usize = 4096;
/// Most queries of one stage.
const QUERIES_MAX: usize = 1000;

/// The algorithm `dp-statistics`.
pub struct DpStatistics {
    queries: Vec<Query>,
    parts: Vec<Part>,
    quantiles: Vec<f64>,
    terms: Terms,
}

struct Query {
    column: String,
    shape: Shape,
}

enum Shape {
    /// Rows of the cohort, whatever is in them.
    Rows,
    Moments(Range),
    Histogram(Range, usize),
    Codes(Vec<f64>),
}

impl DpStatistics {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec) -> Result<Self, SpecError> {
        let own = ["means", "histograms", "counts", "quantiles"];
        let known: Vec<&str> = own.into_iter().chain(PARAMS).collect();
        let reader = Reader::new("dp-statistics", spec, &known)?;
        let mut queries = vec![Query { column: String::new(), shape: Shape::Rows }];
        for (param, read, expected) in [
            ("means", moments as fn(&str) -> Option<Shape>, "columns with bounds, such as age:18..90"),
            ("histograms", histogram, "columns with bounds and 1 to 4096 bins, such as age:0..100/20"),
            ("counts", codes, "columns with whole-number codes, each once, such as cp:1|2|3|4"),
        ] {
            let from = queries.len();
            for item in reader.text_maybe(param)?.into_iter().flat_map(|list| list.split(',')) {
                let wrong = || reader.invalid(param, &format!("{expected}; '{}' is not", item.trim()));
                let (column, rest) = item.split_once(':').ok_or_else(wrong)?;
                let (column, shape) = (column.trim().to_owned(), read(rest).ok_or_else(wrong)?);
                let twice = queries.iter().skip(from).any(|query| query.column == column);
                if column.is_empty() || twice {
                    return Err(wrong());
                }
                queries.push(Query { column, shape });
            }
        }
        if !(2..=QUERIES_MAX).contains(&queries.len()) {
            return Err(reader.invalid("means", "given, or 'histograms' or 'counts'; 999 queries at most"));
        }
        let mut quantiles = Vec::new();
        for text in reader.text_maybe("quantiles")?.unwrap_or("0.25,0.5,0.75").split(',') {
            let p = text.trim().parse().unwrap_or(f64::NAN);
            if !(p > 0.0 && p < 1.0) {
                return Err(reader.invalid("quantiles", "decimal numbers above 0 and below 1, such as 0.25,0.5,0.75"));
            }
            quantiles.push(p);
        }
        let parts = queries.iter().enumerate().map(|(index, query)| query.part(index)).collect();
        Ok(Self { queries, parts, quantiles, terms: Terms::read(&reader, true)? })
    }
}

impl Query {
    fn part(&self, index: usize) -> Part {
        let (len, l2) = match &self.shape {
            Shape::Rows => (1, 1.0),
            Shape::Moments(_) => (3, 3.0_f64.sqrt()),
            Shape::Histogram(_, bins) => (*bins, 1.0),
            Shape::Codes(codes) => (codes.len(), 1.0),
        };
        let kind = match &self.shape {
            Shape::Rows => "rows",
            Shape::Moments(_) => "moments",
            Shape::Histogram(..) => "histogram",
            Shape::Codes(_) => "codes",
        };
        Part { name: format!("{kind} {index}"), len, each: 1.0, l2 }
    }

    /// The sums over the rows where the column is there, in the order of the rows.
    fn sums(&self, rows: &Table, len: usize) -> Result<Vec<f64>, Finding> {
        let mut sums = vec![0.0; len];
        if let Shape::Rows = self.shape {
            return Ok(vec![rows.rows() as f64; len]);
        }
        let missing = || Finding::MissingColumn { column: self.column.clone() };
        let (_, values) = rows.column(&self.column).ok_or_else(missing)?;
        for value in values.iter().filter(|value| !value.is_nan()) {
            match &self.shape {
                Shape::Moments(range) => {
                    let u = range.unit(*value);
                    sums.iter_mut().zip([1.0, u, u * u]).for_each(|(sum, x)| *sum += x);
                }
                Shape::Histogram(range, bins) => {
                    let place = (value - range.low) / (range.high - range.low) * *bins as f64;
                    // A cast of a float saturates: values outside, infinite ones too, count in the first or last bin.
                    let bin = (place.floor().max(0.0) as usize).min(bins.saturating_sub(1));
                    sums.iter_mut().skip(bin).take(1).for_each(|sum| *sum += 1.0);
                }
                Shape::Codes(codes) => {
                    sums.iter_mut().zip(codes).filter(|(_, code)| *code == value).for_each(|(sum, _)| *sum += 1.0);
                }
                Shape::Rows => {}
            }
        }
        Ok(sums)
    }
}

fn moments(text: &str) -> Option<Shape> {
    Range::parse(text).map(Shape::Moments)
}

fn histogram(text: &str) -> Option<Shape> {
    let (range, bins) = text.split_once('/')?;
    let bins = bins.trim().parse().ok().filter(|bins| (1..=BINS_MAX).contains(bins))?;
    Some(Shape::Histogram(Range::parse(range)?, bins))
}

fn codes(text: &str) -> Option<Shape> {
    let mut codes: Vec<f64> = Vec::new();
    for code in text.split('|') {
        let code = code.trim().parse::<i32>().map(f64::from).ok().filter(|code| !codes.contains(code))?;
        codes.push(code);
    }
    (codes.len() <= BINS_MAX).then_some(Shape::Codes(codes))
}

impl Algorithm for DpStatistics {
    fn start(&self, _from: Option<&State>) -> Result<State, Finding> {
        Ok(State::default().with("round", vec![0.0]))
    }

    fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for query in self.queries.iter().skip(1) {
            if !columns.contains(&query.column) {
                columns.push(query.column.clone());
            }
        }
        self.terms.with_patient(columns)
    }

    fn groups(&self) -> Groups {
        Groups::Exempt
    }

    fn rounds_max(&self) -> u32 {
        1
    }

    fn layout(&self, _state: &State, hospitals: u16) -> Result<Layout, Finding> {
        self.releases(hospitals)?;
        Ok(self.terms.layout(&self.parts, 1))
    }

    fn local(&self, _state: &State, rows: &Table) -> Result<Contribution, Finding> {
        let rows = self.terms.capped(rows)?;
        let sums = self.queries.iter().zip(&self.parts).map(|(query, part)| query.sums(&rows, part.len));
        Ok(self.terms.contribution(&self.parts, sums.collect::<Result<_, _>>()?))
    }

    fn releases(&self, hospitals: u16) -> Result<Vec<Release>, Finding> {
        self.terms.promised(&self.parts, 1, hospitals)
    }

    fn combine(&self, _state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        Ok(Next::Done(self.outcome(sum)?, State::default().with("round", vec![1.0])))
    }
}
