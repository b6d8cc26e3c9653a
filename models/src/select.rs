//! Complete cases, block by block: one pass over the rows, in an order of summation that no thread count changes.
//!
//! The rows are cut into at most [`CHUNKS_MAX`] chunks by their number alone. Threads take whole chunks; the partial sums
//! are added in chunk order. So the same table gives the same bits on one core and on sixteen, and memory is the
//! accumulator times the number of chunks, whatever the number of rows.

use std::ops::Range;

use rayon::prelude::*;

use crate::finding::Finding;
use crate::table::Table;

/// Most chunks (and so most threads) one pass is cut into.
pub const CHUNKS_MAX: usize = 32;
/// Rows of one block: 256 rows by 50 columns of `f64` are 100 KiB, the size of a second-level cache.
pub const BLOCK_ROWS: usize = 256;
const CHUNK_ROWS_MIN: usize = 2048;

/// A column that an algorithm reads, and which of its values count as usable.
#[derive(Clone, Debug, PartialEq)]
pub struct Want {
    /// The column's name.
    pub column: String,
    /// What its values must be.
    pub rule: Rule,
}

/// Which values of a column are usable; a missing one never is.
#[derive(Clone, Debug, PartialEq)]
pub enum Rule {
    /// Any number.
    Any,
    /// 0 or 1.
    Binary,
    /// One of these codes.
    OneOf(Vec<f64>),
}

impl Rule {
    fn allows(&self, value: f64) -> bool {
        match self {
            Self::Any => true,
            Self::Binary => value == 0.0 || value == 1.0,
            Self::OneOf(codes) => codes.contains(&value),
        }
    }
}

/// Why rows are left out, in the order of the counting lanes: for each want first missing, then not usable.
pub fn reasons(wants: &[Want]) -> Vec<String> {
    let mut reasons = Vec::with_capacity(wants.len() * 2);
    for want in wants {
        reasons.push(format!("{}: missing", want.column));
        reasons.push(match want.rule {
            Rule::Any => format!("{}: not usable", want.column),
            Rule::Binary => format!("{}: neither 0 nor 1", want.column),
            Rule::OneOf(_) => format!("{}: a code the job does not declare", want.column),
        });
    }
    reasons
}

/// Rows asked for, used and left out. A row is left out for the first reason that holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows in the cohort.
    pub requested: u64,
    /// Rows that are complete and usable.
    pub used: u64,
    /// Rows left out, in the order of [`reasons`].
    pub rejected: Vec<u64>,
}

impl Counts {
    /// Lanes for a sum over hospitals: requested, used, then every reason.
    pub fn lanes(&self) -> Vec<f64> {
        let mut lanes = vec![self.requested as f64, self.used as f64];
        lanes.extend(self.rejected.iter().map(|count| *count as f64));
        lanes
    }

    fn add(&mut self, other: &Self) {
        self.requested += other.requested;
        self.used += other.used;
        for (mine, theirs) in self.rejected.iter_mut().zip(&other.rejected) {
            *mine += theirs;
        }
    }
}

/// The wanted columns of a table.
pub struct Selection<'a> {
    columns: Vec<(&'a [f64], Rule)>,
    rows: usize,
}

/// Complete rows of one block: column slices of equal length, in the order of the wants.
pub struct Block<'a> {
    values: &'a [f64],
    rows: usize,
}

impl Block<'_> {
    /// Rows in this block, 1 to [`BLOCK_ROWS`].
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The values of want number `index`; empty when there is no such want.
    pub fn column(&self, index: usize) -> &[f64] {
        let start = index.saturating_mul(BLOCK_ROWS);
        self.values.get(start..start.saturating_add(self.rows)).unwrap_or(&[])
    }
}

impl Table {
    /// The wanted columns, for one or more passes over their complete rows.
    ///
    /// # Errors
    /// [`Finding::MissingColumn`] naming the first column that is not there.
    pub fn select(&self, wants: &[Want]) -> Result<Selection<'_>, Finding> {
        let mut columns = Vec::with_capacity(wants.len());
        for want in wants {
            let (_, values) =
                self.column(&want.column).ok_or_else(|| Finding::MissingColumn { column: want.column.clone() })?;
            columns.push((values, want.rule.clone()));
        }
        Ok(Selection { columns, rows: self.rows() })
    }
}

impl Selection<'_> {
    /// Folds the complete rows, block by block, and counts every row on the way.
    ///
    /// `new` makes an empty accumulator, `add` takes a block in, `merge` adds a later chunk's accumulator to an earlier
    /// one's. Deterministic for a given table.
    pub fn fold<A, N, F, M>(&self, new: N, add: F, mut merge: M) -> (A, Counts)
    where
        A: Send,
        N: Fn() -> A + Sync,
        F: Fn(&mut A, &Block<'_>) + Sync,
        M: FnMut(&mut A, A),
    {
        let chunks = self.rows.div_ceil(CHUNK_ROWS_MIN).clamp(1, CHUNKS_MAX);
        let chunk_rows = self.rows.div_ceil(chunks);
        let partial: Vec<(A, Counts)> = (0..chunks)
            .into_par_iter()
            .map(|chunk| {
                let start = (chunk * chunk_rows).min(self.rows);
                self.chunk(start..(start + chunk_rows).min(self.rows), new(), &add)
            })
            .collect();
        let mut total = new();
        let mut counts = self.no_counts();
        for (part, part_counts) in partial {
            merge(&mut total, part);
            counts.add(&part_counts);
        }
        (total, counts)
    }

    fn no_counts(&self) -> Counts {
        Counts { requested: 0, used: 0, rejected: vec![0; self.columns.len() * 2] }
    }

    fn chunk<A>(&self, rows: Range<usize>, mut total: A, add: &(impl Fn(&mut A, &Block<'_>) + Sync)) -> (A, Counts) {
        let mut counts = self.no_counts();
        let mut scratch = vec![0.0; self.columns.len() * BLOCK_ROWS];
        let mut start = rows.start;
        while start < rows.end {
            let window = start..(start + BLOCK_ROWS).min(rows.end);
            start = window.end;
            let kept = self.gather(window, &mut scratch, &mut counts);
            if kept > 0 {
                add(&mut total, &Block { values: &scratch, rows: kept });
            }
        }
        (total, counts)
    }

    /// Copies the complete rows of `window` to the front of each scratch column and returns how many there are.
    fn gather(&self, window: Range<usize>, scratch: &mut [f64], counts: &mut Counts) -> usize {
        let rows = window.len();
        let mut keep = [true; BLOCK_ROWS];
        counts.requested += rows as u64;
        for (index, (values, rule)) in self.columns.iter().enumerate() {
            let values = values.get(window.clone()).unwrap_or(&[]);
            for (value, keep) in values.iter().zip(&mut keep) {
                let lane = if value.is_nan() { 0 } else { 1 };
                if *keep && (lane == 0 || !rule.allows(*value)) {
                    *keep = false;
                    if let Some(count) = counts.rejected.get_mut(index * 2 + lane) {
                        *count += 1;
                    }
                }
            }
        }
        let keep = keep.get(..rows).unwrap_or(&keep);
        let kept = keep.iter().filter(|keep| **keep).count();
        counts.used += kept as u64;
        for ((values, _), out) in self.columns.iter().zip(scratch.chunks_mut(BLOCK_ROWS)) {
            let values = values.get(window.clone()).unwrap_or(&[]);
            let complete = values.iter().zip(keep).filter(|(_, keep)| **keep);
            for ((value, _), out) in complete.zip(out) {
                *out = *value;
            }
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Column, Kind};

    fn table(rows: usize) -> Table {
        let a: Vec<f64> = (0..rows).map(|i| if i % 7 == 3 { f64::NAN } else { (i as f64).sin() * 1e3 }).collect();
        let b: Vec<f64> = (0..rows).map(|i| (i % 3) as f64).collect();
        Table::from_columns(vec![(Column::new("a", Kind::Number), a), (Column::new("b", Kind::Integer), b)]).unwrap()
    }

    fn sum(table: &Table) -> (f64, Counts) {
        let wants =
            [Want { column: "a".to_owned(), rule: Rule::Any }, Want { column: "b".to_owned(), rule: Rule::Binary }];
        let selection = table.select(&wants).unwrap();
        selection.fold(|| 0.0, |sum, block| *sum += block.column(0).iter().sum::<f64>(), |sum, part| *sum += part)
    }

    #[test]
    fn counts_say_the_first_reason() {
        let (_, counts) = sum(&table(10_000));
        let missing = (0..10_000).filter(|i| i % 7 == 3).count() as u64;
        let not_binary = (0..10_000).filter(|i| i % 7 != 3 && i % 3 == 2).count() as u64;
        assert_eq!(counts.rejected, vec![missing, 0, 0, not_binary]);
        assert_eq!(counts.used, 10_000 - missing - not_binary);
        assert_eq!(counts.requested, 10_000);
    }

    #[test]
    fn thread_count_changes_no_bit() {
        let table = table(20_001);
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap().install(|| sum(&table));
        let many = rayon::ThreadPoolBuilder::new().num_threads(7).build().unwrap().install(|| sum(&table));
        assert_eq!(one.0.to_bits(), many.0.to_bits());
        assert_eq!(one.1, many.1);
    }

    #[test]
    fn an_empty_table_gives_empty_counts() {
        let (total, counts) = sum(&table(0));
        assert_eq!((total, counts.requested, counts.used), (0.0, 0, 0));
    }
}
