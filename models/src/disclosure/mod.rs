//! Disclosure control for results that no noise protects: what would tell about a few patients, or about one hospital, is
//! withheld or refused, and said to be.
//!
//! The secure sum hides one hospital's numbers, so the rules are held to the opened sum, with what each hospital can see of
//! itself in front:
//!
//! * **In the hospital**, before anything is masked: fewer usable rows than the terms' smallest cohort, or a column in which
//!   one row outweighs the others (p % rule), and it takes no part. A small cell of its own is no reason: nobody reads it.
//! * **In the sum**: each group of patients that the outcome lets a reader count ([`Algorithm::groups`]) has two lanes more,
//!   its patients and the hospitals that have any. Fewer than `cell_min` of the one or `cell_hospitals_min` of the other, and
//!   what tells of the group stays away: a row of a table with another one, so that it cannot be found by subtraction
//!   (`cells.rs`), or, where the outcome cannot do without it, the whole stage. A group without a patient may be told.
//!   A column of numbers in which fewer than `cell_min` patients have anything but 0 to 9 is taken for one of codes.
//! * **In a model**: at least `cell_min` rows more than parameters, and where the outcome is a class, both classes in every
//!   level: a logistic model of one category is nothing else than that table.
//!
//! A row counts as a patient. Whoever opens the sum, the coordinator, sees it before this file does; `privacy/PROTOCOL.md` says
//! what that means. Nothing here sees differences between jobs over nearly the same rows: only noise covers those.
//!
//! Sources: Griffiths, Greci, Kotrotsios, Parker, Scott, Welpton, Wolters and Woods 2019, *Handbook on Statistical Disclosure
//! Control for Outputs* (threshold of 10, 10 residual degrees of freedom, dominance); Hundepool et al. 2012, *Statistical
//! Disclosure Control*, chapters 4 and 5 (p % rule, secondary suppression); DataSHIELD's `nfilter` options for the same in
//! single sites (Gaye et al. 2014).

mod cells;

use leben_privacy::dp::guarantee::Release;
use leben_privacy::{Contribution, Layout, Unmasked, Values};

use crate::algorithm::{Algorithm, Next, segment, spec};
use crate::finding::Finding;
use crate::outcome::{Disclosure, Outcome, ROWS_WITHHELD};
use crate::select::Want;
use crate::state::State;
use crate::table::Table;

pub use cells::{Group, withhold};

use cells::Tally;

/// The numbers of the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Smallest group of patients that an outcome may tell about.
    pub cell_min: u64,
    /// Fewest hospitals whose patients are in such a group.
    pub cell_hospitals_min: u16,
    /// p of the p % rule; 0 leaves it out.
    pub dominance_percent: u16,
    /// Fewest usable rows with which this hospital takes part; a coordinator has no use for it.
    pub cohort_min: u64,
}

impl Default for Limits {
    /// Ten patients, two hospitals, 10 %, any cohort.
    fn default() -> Self {
        Self { cell_min: 10, cell_hospitals_min: 2, dominance_percent: 10, cohort_min: 1 }
    }
}

/// Which patients an outcome lets a reader count.
#[derive(Clone, Debug, PartialEq)]
pub enum Groups {
    /// None: noise protects them, or no value of any patient goes in.
    Exempt,
    /// Those of these columns.
    Of(Census),
}

/// The columns whose groups are counted, over their complete rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Census {
    /// The columns, and what makes a row complete.
    pub wants: Vec<Want>,
    /// The groups, by column.
    pub groups: Vec<Group>,
    /// The want whose classes 0 and 1 are counted within each group too.
    pub classes: Option<usize>,
    /// Parameters that are estimated; 0 for none.
    pub parameters: u64,
    /// Whether one small group ends the stage; otherwise the rows of tables that tell of it are withheld.
    pub whole: bool,
}

/// An algorithm under the limits of the terms.
pub(crate) struct Controlled {
    inner: Box<dyn Algorithm + Send + Sync>,
    census: Census,
    limits: Limits,
}

/// Puts an algorithm under limits; one that is exempt stays as it is.
pub(crate) fn controlled(inner: Box<dyn Algorithm + Send + Sync>, limits: Limits) -> Box<dyn Algorithm + Send + Sync> {
    match inner.groups() {
        Groups::Exempt => inner,
        Groups::Of(census) => Box::new(Controlled { inner, census, limits }),
    }
}

/// The lanes of a census: for each cell its rows, then for each cell whether this hospital has any.
const CELLS: &str = "cells";
const HOLDERS: &str = "holders";
/// The segment of every algorithm here whose bound is that of a count of rows.
const ROWS: &str = "rows";

impl Controlled {
    fn check_rows(&self, tally: &Tally) -> Result<(), Finding> {
        if tally.used() < self.limits.cohort_min {
            return Err(Finding::SmallCohort { needed: self.limits.cohort_min });
        }
        match tally.outweighed(u64::from(self.limits.dominance_percent)) {
            None => Ok(()),
            Some(want) => {
                let column = self.census.wants.get(want).map(|want| want.column.clone()).unwrap_or_default();
                Err(Finding::Dominance { column, percent: self.limits.dominance_percent })
            }
        }
    }

    fn small(&self, cells: Vec<String>) -> Finding {
        let Limits { cell_min, cell_hospitals_min, .. } = self.limits;
        Finding::SmallCells { cells, cell_min, cell_hospitals_min }
    }

    /// What must stay away of an outcome that may be told otherwise.
    fn judge(&self, sum: &Unmasked) -> Result<Vec<String>, Finding> {
        let lanes = self.census.lanes();
        let (count, holders) = (segment(sum, CELLS, lanes)?, segment(sum, HOLDERS, lanes)?);
        let sums = cells::Sums { count, holders, limits: self.limits };
        if !sums.is_fit(0) {
            return Err(self.small(vec!["all usable rows together".to_owned()]));
        }
        let parameters = self.census.parameters;
        if parameters > 0 && sums.rows() < parameters.saturating_add(self.limits.cell_min) {
            return Err(Finding::TooManyParameters { parameters, spare: self.limits.cell_min });
        }
        if self.census.whole {
            let small = self.census.small(&sums);
            return if small.is_empty() { Ok(small) } else { Err(self.small(small)) };
        }
        Ok(self.census.withheld(&sums))
    }

    /// Takes out of an outcome what must stay away, and says so.
    fn release(&self, mut outcome: Outcome, labels: &[String]) -> Outcome {
        let mut withheld = outcome.disclosure.take().map(|told| told.withheld).unwrap_or_default();
        for grid in &mut outcome.tables {
            for row in grid.rows.iter_mut().filter(|row| labels.contains(&row.label)) {
                row.values.iter_mut().for_each(|value| *value = None);
                withheld.push(format!("{} of '{}'", grid.name, row.label));
            }
        }
        // A warning about a column tells of it as well.
        outcome.warnings.retain(|warning| !labels.iter().any(|label| warning.contains(&format!("'{label}'"))));
        let rows = &mut outcome.rows;
        let told = |rows: &u64| *rows == 0 || *rows >= self.limits.cell_min;
        let small = rows.rejected.iter().filter(|(_, rows)| !told(rows));
        withheld.extend(small.map(|(why, _)| format!("{ROWS_WITHHELD}{why}")));
        rows.rejected.retain(|_, rows| told(rows));
        // The total with the withheld ones in it would give them away.
        rows.requested = rows.used.saturating_add(rows.rejected.values().sum());
        let Limits { cell_min, cell_hospitals_min, .. } = self.limits;
        outcome.disclosure = Some(Disclosure { cell_min, cell_hospitals_min, withheld });
        outcome
    }
}

impl Algorithm for Controlled {
    fn start(&self, from: Option<&State>) -> Result<State, Finding> {
        self.inner.start(from)
    }

    fn columns(&self) -> Vec<String> {
        self.inner.columns()
    }

    fn rounds_max(&self) -> u32 {
        self.inner.rounds_max()
    }

    fn groups(&self) -> Groups {
        Groups::Of(self.census.clone())
    }

    fn layout(&self, state: &State, hospitals: u16) -> Result<Layout, Finding> {
        let mut layout = self.inner.layout(state, hospitals)?;
        let bound = layout.segments.iter().find(|segment| segment.name == ROWS).map(|segment| &segment.encoding);
        let Some(leben_privacy::Encoding::Exact { bound }) = bound else {
            return Err(Finding::SumMismatch { segment: ROWS.to_owned(), len: 1 });
        };
        let (lanes, bound) = (self.census.lanes(), *bound);
        layout.segments.push(spec(CELLS, lanes, bound));
        layout.segments.push(spec(HOLDERS, lanes, 1.0));
        Ok(layout)
    }

    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        self.local_with(state, rows, &[0; 32])
    }

    fn local_with(&self, state: &State, rows: &Table, secret: &[u8; 32]) -> Result<Contribution, Finding> {
        let tally = self.census.tally(rows)?;
        self.check_rows(&tally)?;
        let contribution = self.inner.local_with(state, rows, secret)?;
        let count = tally.lanes();
        let holders = count.iter().map(|rows| f64::from(u8::from(*rows > 0.0))).collect();
        Ok(contribution.with(vec![Values::F64(count), Values::F64(holders)]))
    }

    fn releases(&self, hospitals: u16) -> Result<Vec<Release>, Finding> {
        self.inner.releases(hospitals)
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        // Before anything is made of the sum: what comes of it may end up in a message.
        let labels = self.judge(sum)?;
        Ok(match self.inner.combine(state, sum)? {
            Next::Round(state) => Next::Round(state),
            Next::Done(outcome, state) => Next::Done(self.release(outcome, &labels), state),
        })
    }

    fn loss(&self, state: &State) -> Option<f64> {
        self.inner.loss(state)
    }
}
