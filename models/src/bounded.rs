//! The design matrix of a private model: every term clamped to bounds that the terms of the contract name and mapped to
//! -1 to 1, every row clipped to a norm. Nothing is standardised by what the data look like.
//!
//! Parameters: `features` and `outcome` as elsewhere; `bounds` of each numeric feature (and of the outcome of a linear
//! model), `age:18..90,chol:100..600`; `clip`, the largest L2 norm of one row's mapped terms (default: the square root of
//! their number, which clips nothing).

use std::collections::BTreeMap;

use crate::design::{Design, Family};
use crate::finding::Finding;
use crate::private::Range;
use crate::select::{BLOCK_ROWS, Block};
use crate::spec::{Reader, SpecError};
use crate::state::State;

/// What stays as it is: an indicator, an outcome of 0 or 1.
const UNIT: Range = Range { low: -1.0, high: 1.0 };

/// A design with bounds.
pub(crate) struct Bounded {
    pub(crate) design: Design,
    pub(crate) family: Family,
    /// One for each term.
    pub(crate) ranges: Vec<Range>,
    pub(crate) outcome: Range,
    pub(crate) clip: f64,
    /// Whether the clip can change a row.
    pub(crate) clips: bool,
}

/// One row at a time, without an allocation for each.
pub(crate) struct RowScratch {
    columns: Vec<f64>,
    row: Vec<f64>,
}

impl Bounded {
    pub(crate) fn read(reader: &Reader<'_>, family: Family) -> Result<Self, SpecError> {
        let design = Design::read(reader, family, true)?;
        let mut bounds: BTreeMap<&str, Range> = BTreeMap::new();
        for item in reader.text_maybe("bounds")?.into_iter().flat_map(|list| list.split(',')) {
            let range = item.split_once(':').and_then(|(column, range)| Some((column.trim(), Range::parse(range)?)));
            let wrong = || {
                let item = item.trim();
                reader
                    .invalid("bounds", &format!("columns with bounds, each once, such as age:18..90; '{item}' is not"))
            };
            let (column, range) = range.ok_or_else(wrong)?;
            if bounds.insert(column, range).is_some() {
                return Err(wrong());
            }
        }
        let mut take = |column: &str| {
            let range = bounds.remove(column);
            range.ok_or_else(|| reader.invalid("bounds", &format!("a list with bounds for column '{column}'")))
        };
        let columns = design.columns();
        let mut ranges = Vec::with_capacity(design.len());
        for term in 0..design.len() {
            let column = columns.get(design.source(term)).map_or("", String::as_str);
            ranges.push(if design.is_indicator(term) { UNIT } else { take(column)? });
        }
        let outcome = match family {
            Family::Binomial => UNIT,
            Family::Gaussian => take(design.outcome().unwrap_or_default())?,
        };
        if let Some(column) = bounds.keys().next() {
            let expected = format!("without '{column}', which is neither a numeric feature nor a numeric outcome");
            return Err(reader.invalid("bounds", &expected));
        }
        let root = (design.len() as f64).sqrt();
        let clip = reader.decimal("clip", root, 1e-3, 1e3)?;
        Ok(Self { design, family, ranges, outcome, clip: clip.min(root), clips: clip < root })
    }

    /// Coefficients, the intercept first.
    pub(crate) fn side(&self) -> usize {
        self.design.len() + 1
    }

    /// Largest square of the norm of a row with its leading one.
    pub(crate) fn square(&self) -> f64 {
        1.0 + self.clip * self.clip
    }

    pub(crate) fn scratch(&self) -> RowScratch {
        RowScratch { columns: vec![0.0; self.design.len() * BLOCK_ROWS], row: vec![1.0; self.side()] }
    }

    /// Hands on every row of a block: a one and the mapped terms, and the mapped outcome.
    pub(crate) fn rows(&self, block: &Block<'_>, scratch: &mut RowScratch, mut each: impl FnMut(&[f64], f64)) {
        self.design.expand(block, &mut scratch.columns);
        for (at, y) in self.design.outcome_values(block).iter().enumerate() {
            let (columns, terms) = (scratch.columns.chunks(BLOCK_ROWS), scratch.row.iter_mut().skip(1));
            let mut square = 0.0;
            for ((column, range), term) in columns.zip(&self.ranges).zip(terms) {
                *term = range.unit(column.get(at).copied().unwrap_or(0.0));
                square += *term * *term;
            }
            if square > self.clip * self.clip {
                let factor = self.clip / square.sqrt();
                scratch.row.iter_mut().skip(1).for_each(|term| *term *= factor);
            }
            each(&scratch.row, self.outcome.unit(*y));
        }
    }

    /// Row i maps coefficients of the mapped terms to the i-th one in the units of the columns; what is to be added to
    /// the intercept comes second.
    pub(crate) fn to_original(&self) -> (Vec<Vec<f64>>, f64) {
        let (unit, shift) = match self.family {
            Family::Binomial => (1.0, 0.0),
            Family::Gaussian => (self.outcome.half(), self.outcome.middle()),
        };
        let mut intercept = vec![unit];
        intercept.extend(self.ranges.iter().map(|range| -unit * range.middle() / range.half()));
        let mut maps = vec![intercept];
        for (term, range) in self.ranges.iter().enumerate() {
            let mut map = vec![0.0; self.side()];
            map.iter_mut().skip(term + 1).take(1).for_each(|slope| *slope = unit / range.half());
            maps.push(map);
        }
        (maps, shift)
    }

    /// What a later stage starts from; `evaluate` reads it as it reads a `glm`'s.
    pub(crate) fn handed_on(&self, beta: Vec<f64>, covariance: Vec<f64>, rows: f64) -> State {
        let outcome = match self.family {
            Family::Binomial => vec![0.0, 1.0],
            Family::Gaussian => vec![self.outcome.middle(), self.outcome.half()],
        };
        self.design
            .describe(State::default())
            .with_word("family", self.family.name())
            .with("mean", self.ranges.iter().map(|range| range.middle()).collect())
            .with("sd", self.ranges.iter().map(|range| range.half()).collect())
            .with("outcome", outcome)
            .with("rows", vec![rows, rows])
            .with("beta", beta)
            .with("covariance", covariance)
    }

    /// Checks a state's coefficients.
    pub(crate) fn beta<'a>(&self, state: &'a State) -> Result<&'a [f64], Finding> {
        self.design.check(state)?;
        state.vector("beta", self.side())
    }
}
