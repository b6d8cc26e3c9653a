//! Reads a whole data set and counts what is wrong with it, so that a hospital knows before any contract does.

use std::collections::HashSet;
use std::fmt;
use std::path::{Path, PathBuf};

use super::csv::{Problem, Rows, SourceError};
use super::source::{ColumnType, DatasetConfig};

/// What was found. Counts and places only; `Display` is the text for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The data set's name.
    pub dataset: String,
    /// Its file.
    pub file: PathBuf,
    /// Rows with the right number of fields.
    pub rows: u64,
    /// Rows with too few or too many.
    pub ragged: Findings,
    /// Rows whose id was there before, when an id column is declared.
    pub duplicate_ids: Option<u64>,
    /// Rows without an id, when an id column is declared.
    pub missing_ids: Option<u64>,
    /// The declared columns in order.
    pub columns: Vec<ColumnReport>,
}

/// What was found in one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// What a cell must be.
    pub expected: String,
    /// Cells without a value.
    pub missing: u64,
    /// Cells that are not of the declared type or not UTF-8.
    pub unparsable: Findings,
    /// Cells outside `min` and `max`.
    pub out_of_range: Findings,
    /// Cells with a code that is not declared.
    pub unknown_code: Findings,
    /// Whether all values are the same: such a column cannot be a feature of a model on this hospital's data alone.
    pub constant: bool,
}

/// How often something was found, and the line where it was first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How often.
    pub count: u64,
    /// First line, from 1; 0 when it was never found.
    pub first_line: u64,
}

impl Findings {
    fn note(&mut self, line: u64) {
        if self.count == 0 {
            self.first_line = line;
        }
        self.count += 1;
    }
}

/// Checks a data set; `base` is the folder that a relative path starts at.
///
/// # Errors
/// [`SourceError`] only where reading cannot begin or go on: the declaration, the file, the header.
pub fn check(config: &DatasetConfig, base: &Path) -> Result<CheckReport, SourceError> {
    let mut rows = Rows::open(config, base)?;
    let mut report = CheckReport {
        dataset: config.name.clone(),
        file: rows.file.clone(),
        rows: 0,
        ragged: Findings::default(),
        duplicate_ids: config.id_column.as_ref().map(|_| 0),
        missing_ids: config.id_column.as_ref().map(|_| 0),
        columns: config.columns.iter().map(|column| ColumnReport::new(&column.name, column.expected())).collect(),
    };
    let mut ids: HashSet<Vec<u8>> = HashSet::new();
    let mut first: Vec<Option<f64>> = vec![None; config.columns.len()];
    while let Some(row) = rows.next_row() {
        let row = match row {
            Ok(row) => row,
            Err(SourceError::Ragged { line, .. }) => {
                report.ragged.note(line);
                continue;
            }
            Err(error) => return Err(error),
        };
        report.rows += 1;
        for ((cell, column), first) in row.cells.iter().zip(&mut report.columns).zip(&mut first) {
            column.note(*cell, row.line, first);
        }
        if let Some(id) = row.id {
            let lacking = config.missing.iter().any(|word| word.as_bytes() == id);
            let count = if lacking { &mut report.missing_ids } else { &mut report.duplicate_ids };
            if lacking || !ids.insert(id) {
                *count = count.map(|count| count + 1);
            }
        }
    }
    for ((column, first), declared) in report.columns.iter_mut().zip(first).zip(&config.columns) {
        column.constant &= first.is_some() && declared.kind != ColumnType::Text;
        if declared.kind == ColumnType::Text {
            column.missing = 0;
        }
    }
    Ok(report)
}

impl ColumnReport {
    fn new(name: &str, expected: String) -> Self {
        let none = Findings::default();
        Self {
            name: name.to_owned(),
            expected,
            missing: 0,
            unparsable: none,
            out_of_range: none,
            unknown_code: none,
            constant: true,
        }
    }

    fn note(&mut self, cell: Result<f64, Problem>, line: u64, first: &mut Option<f64>) {
        match cell {
            Ok(value) if value.is_nan() => self.missing += 1,
            Ok(value) => self.constant &= *first.get_or_insert(value) == value,
            Err(Problem::NotUtf8 | Problem::Unparsable) => self.unparsable.note(line),
            Err(Problem::OutOfRange) => self.out_of_range.note(line),
            Err(Problem::UnknownCode) => self.unknown_code.note(line),
        }
    }
}

impl CheckReport {
    /// Whether every row can be loaded: missing values, constant columns and duplicate ids are told, not refused.
    pub fn is_loadable(&self) -> bool {
        let bad =
            |column: &ColumnReport| column.unparsable.count + column.out_of_range.count + column.unknown_code.count;
        self.rows > 0 && self.ragged.count == 0 && self.columns.iter().all(|column| bad(column) == 0)
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "data set '{}': {} rows in {}", self.dataset, self.rows, self.file.display())?;
        if self.rows == 0 {
            writeln!(f, "  ERROR no rows")?;
        }
        problem(f, "lines with a wrong number of fields", self.ragged, "look for a stray delimiter or quote")?;
        for (count, what) in
            [(self.duplicate_ids, "rows with an id seen before"), (self.missing_ids, "rows without an id")]
        {
            if let Some(count) = count.filter(|count| *count > 0) {
                writeln!(f, "  note  {count} {what}")?;
            }
        }
        for column in &self.columns {
            let name = &column.name;
            problem(f, &format!("'{name}': not of the declared type"), column.unparsable, &column.expected)?;
            problem(f, &format!("'{name}': out of range"), column.out_of_range, &column.expected)?;
            problem(f, &format!("'{name}': undeclared code"), column.unknown_code, &column.expected)?;
            if column.missing > 0 {
                writeln!(f, "  note  '{name}': {} of {} missing", column.missing, self.rows)?;
            }
            if column.constant {
                writeln!(f, "  note  '{name}': the same in every row")?;
            }
        }
        writeln!(
            f,
            "  {}",
            if self.is_loadable() { "fit to be used" } else { "not fit: correct the ERROR lines above" }
        )
    }
}

fn problem(f: &mut fmt::Formatter<'_>, what: &str, found: Findings, hint: &str) -> fmt::Result {
    if found.count == 0 {
        return Ok(());
    }
    writeln!(f, "  ERROR {what}: {}, first on line {} (expected: {hint})", found.count, found.first_line)
}
