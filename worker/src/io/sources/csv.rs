//! Reads a declared CSV file. Strict: a cell that is not what was declared ends it, with its place but never its content.

use std::fs::File;
use std::path::{Path, PathBuf};

use ::csv::{ByteRecord, Reader, ReaderBuilder, Trim};
use leben_models::{Finding, Table};

use super::source::{ColumnConfig, ColumnType, DatasetConfig, days};

/// Why a data set cannot be read. No variant can hold a cell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The declaration itself is wrong.
    #[error("data set '{dataset}' in worker.toml: {problem}")]
    Config {
        /// The data set.
        dataset: String,
        /// What is wrong.
        problem: String,
    },
    /// The file cannot be opened or read.
    #[error("{file}: cannot be read ({kind}); check the path and that the worker's user may read it")]
    Io {
        /// The file.
        file: PathBuf,
        /// The operating system's reason.
        kind: std::io::ErrorKind,
    },
    /// There is not even a header, or no row.
    #[error("{file}: the file is empty")]
    Empty {
        /// The file.
        file: PathBuf,
    },
    /// The header lacks a declared column.
    #[error(
        "{file}: none of the {found} names in the header is '{column}'; correct worker.toml, or set header = false"
    )]
    MissingColumn {
        /// The file.
        file: PathBuf,
        /// The declared column.
        column: String,
        /// Number of header fields.
        found: usize,
    },
    /// The header has a declared column more than once.
    #[error("{file}: column '{column}' is in the header more than once")]
    DuplicateColumn {
        /// The file.
        file: PathBuf,
        /// The declared column.
        column: String,
    },
    /// A line has too few or too many fields.
    #[error("{file}, line {line}: {found} fields where {expected} were expected; look for a stray delimiter or quote")]
    Ragged {
        /// The file.
        file: PathBuf,
        /// Line on which the record starts, from 1.
        line: u64,
        /// Fields there.
        found: usize,
        /// Fields in the header or the declaration.
        expected: usize,
    },
    /// A cell is not what was declared.
    #[error(
        "{file}, line {line}, column '{column}': {problem}, expected {expected}; 'leben-worker check' counts all such cells"
    )]
    Cell {
        /// The file.
        file: PathBuf,
        /// Line on which the record starts, from 1.
        line: u64,
        /// The declared column.
        column: String,
        /// What kind of fault.
        problem: Problem,
        /// What was declared.
        expected: String,
    },
    /// The columns do not make a table.
    #[error(transparent)]
    Table(#[from] Finding),
}

/// What is wrong with a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Not UTF-8 text.
    NotUtf8,
    /// Not of the declared type.
    Unparsable,
    /// A code that is not declared.
    UnknownCode,
    /// Outside `min` and `max`.
    OutOfRange,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::NotUtf8 => "not UTF-8 text",
            Self::Unparsable => "not of the declared type",
            Self::UnknownCode => "a code that is not declared",
            Self::OutOfRange => "out of range",
        })
    }
}

/// Reads all rows of a data set; `base` is the folder that a relative path starts at.
///
/// The table has the declared columns except text and the id, then the derived ones. A missing value is `NaN`.
///
/// # Errors
/// [`SourceError`] with the first thing that is wrong.
pub fn load(config: &DatasetConfig, base: &Path) -> Result<Table, SourceError> {
    let mut rows = Rows::open(config, base)?;
    let mut values: Vec<Vec<f64>> = vec![Vec::new(); config.columns.len()];
    while let Some(row) = rows.next_row() {
        let row = row?;
        for ((cell, values), column) in row.cells.into_iter().zip(&mut values).zip(&config.columns) {
            match cell {
                Ok(value) => values.push(value),
                Err(problem) => {
                    let (file, line, column_name) = (rows.file.clone(), row.line, column.name.clone());
                    return Err(SourceError::Cell {
                        file,
                        line,
                        column: column_name,
                        problem,
                        expected: column.expected(),
                    });
                }
            }
        }
    }
    let mut columns = Vec::new();
    for (column, values) in config.columns.iter().zip(&values) {
        if config.id_column.as_ref() == Some(&column.name) {
            continue;
        }
        if let Some(head) = column.column() {
            columns.push((head, values.clone()));
        }
    }
    for derive in &config.derive {
        let from = config.columns.iter().position(|column| column.name == derive.from);
        if let (Some(recode), Some(source)) = (derive.recode(), from.and_then(|index| values.get(index))) {
            columns.push((derive.column(), source.iter().map(|value| recode.apply(*value)).collect()));
        }
    }
    Ok(Table::from_columns(columns)?)
}

/// The rows of a file, one at a time, each cell read as declared.
pub(super) struct Rows<'a> {
    pub(super) file: PathBuf,
    config: &'a DatasetConfig,
    reader: Reader<File>,
    record: ByteRecord,
    width: usize,
    /// For each declared column its field.
    fields: Vec<usize>,
    id: Option<usize>,
}

/// One row: each declared column's value (`NaN` = missing; text is always `NaN`) or its fault, and the id's bytes.
pub(super) struct Row {
    pub(super) line: u64,
    pub(super) cells: Vec<Result<f64, Problem>>,
    pub(super) id: Option<Vec<u8>>,
}

impl<'a> Rows<'a> {
    pub(super) fn open(config: &'a DatasetConfig, base: &Path) -> Result<Self, SourceError> {
        config.validate()?;
        let file = base.join(&config.path);
        let opened = File::open(&file).map_err(|error| SourceError::Io { file: file.clone(), kind: error.kind() })?;
        if opened.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() == 0) {
            return Err(SourceError::Empty { file });
        }
        let mut reader = ReaderBuilder::new()
            .delimiter(u8::try_from(config.delimiter).unwrap_or(b','))
            .has_headers(config.header)
            .flexible(true)
            .trim(Trim::All)
            .from_reader(opened);
        let mut header = ByteRecord::new();
        if config.header {
            header = reader.byte_headers().map_err(|error| unreadable(&file, &error))?.clone();
            if header.is_empty() {
                return Err(SourceError::Empty { file });
            }
        }
        let place = |name: &str| -> Result<usize, SourceError> {
            let mut found = header.iter().enumerate().filter(|(_, field)| *field == name.as_bytes());
            let Some((index, _)) = found.next() else {
                return Err(SourceError::MissingColumn {
                    file: file.clone(),
                    column: name.to_owned(),
                    found: header.len(),
                });
            };
            match found.next() {
                None => Ok(index),
                Some(_) => Err(SourceError::DuplicateColumn { file: file.clone(), column: name.to_owned() }),
            }
        };
        let (fields, id) = if config.header {
            let fields = config.columns.iter().map(|column| place(&column.name)).collect::<Result<Vec<_>, _>>()?;
            (fields, config.id_column.as_deref().map(place).transpose()?)
        } else {
            let id = |id: &String| config.columns.iter().position(|column| column.name == *id);
            ((0..config.columns.len()).collect(), config.id_column.as_ref().and_then(id))
        };
        let width = if config.header { header.len() } else { config.columns.len() };
        Ok(Self { file, config, reader, record: ByteRecord::new(), width, fields, id })
    }

    /// The next row; a ragged one is an error after which reading may go on.
    pub(super) fn next_row(&mut self) -> Option<Result<Row, SourceError>> {
        match self.reader.read_byte_record(&mut self.record) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => return Some(Err(unreadable(&self.file, &error))),
        }
        let line = self.record.position().map_or(0, ::csv::Position::line);
        if self.record.len() != self.width {
            let (file, found) = (self.file.clone(), self.record.len());
            return Some(Err(SourceError::Ragged { file, line, found, expected: self.width }));
        }
        let read = |(column, field): (&ColumnConfig, &usize)| {
            cell(column, self.record.get(*field).unwrap_or_default(), &self.config.missing)
        };
        let cells = self.config.columns.iter().zip(&self.fields).map(read).collect();
        let id = self.id.and_then(|field| self.record.get(field)).map(<[u8]>::to_vec);
        Some(Ok(Row { line, cells, id }))
    }
}

/// Reads one cell as its column declares.
fn cell(column: &ColumnConfig, bytes: &[u8], missing: &[String]) -> Result<f64, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::NotUtf8)?.trim();
    if column.kind == ColumnType::Text || missing.iter().any(|word| word == text) {
        return Ok(f64::NAN);
    }
    let value = match column.kind {
        ColumnType::Date => days(text).ok_or(Problem::Unparsable)?,
        ColumnType::Category if !column.codes.is_empty() => coded(column, text)?,
        ColumnType::Integer | ColumnType::Category => {
            decimal(text).filter(|value| value.fract() == 0.0 && value.abs() <= EXACT_MAX).ok_or(Problem::Unparsable)?
        }
        ColumnType::Number | ColumnType::Text => decimal(text).ok_or(Problem::Unparsable)?,
    };
    if column.min.is_some_and(|min| value < min) || column.max.is_some_and(|max| value > max) {
        return Err(Problem::OutOfRange);
    }
    Ok(value)
}

fn coded(column: &ColumnConfig, text: &str) -> Result<f64, Problem> {
    if let Some(code) = column.codes.get(text) {
        return Ok(*code as f64);
    }
    let number = decimal(text);
    let same = column.codes.iter().find(|(known, _)| number.is_some() && decimal(known) == number);
    same.map(|(_, code)| *code as f64).ok_or(Problem::UnknownCode)
}

/// A decimal number; not the words `nan` and `inf`, which Rust's parser would take.
fn decimal(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E'));
    if plain { text.parse().ok().filter(|value: &f64| value.is_finite()) } else { None }
}

fn unreadable(file: &Path, error: &::csv::Error) -> SourceError {
    let kind = match error.kind() {
        ::csv::ErrorKind::Io(error) => error.kind(),
        _ => std::io::ErrorKind::InvalidData,
    };
    SourceError::Io { file: file.to_owned(), kind }
}

/// Largest whole number that a float holds exactly, 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
