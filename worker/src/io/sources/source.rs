//! What a data set declares in `worker.toml`, and what its declaration may not say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use leben_models::{Column, Kind, Role};
use serde::Deserialize;

use super::csv::SourceError;

/// One declared data set.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// The name under which it is offered.
    pub name: String,
    /// The file; a relative path starts at the folder of `worker.toml`.
    pub path: PathBuf,
    /// How the file is written.
    #[serde(default)]
    pub format: Format,
    /// What separates the fields: one ASCII character, default `,`.
    #[serde(default = "comma")]
    pub delimiter: char,
    /// Whether the first line holds column names (default). Without it, `columns` are the file's fields in order.
    #[serde(default = "yes")]
    pub header: bool,
    /// Texts that mean "no value", default the empty field and `?`.
    #[serde(default = "missing")]
    pub missing: Vec<String>,
    /// The column that names the patient: checked for duplicates, never handed to an algorithm.
    #[serde(default)]
    pub id_column: Option<String>,
    /// The columns. With a header, others in the file are not read.
    pub columns: Vec<ColumnConfig>,
    /// Columns made from declared ones.
    #[serde(default)]
    pub derive: Vec<DeriveConfig>,
}

/// How a file is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Delimited text as of RFC 4180, with any line ending, with or without a byte order mark.
    #[default]
    Csv,
}

/// One declared column.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnConfig {
    /// Its name in the header, and the name by which jobs ask for it.
    pub name: String,
    /// What its cells are.
    #[serde(rename = "type")]
    pub kind: ColumnType,
    /// Unit of measure.
    #[serde(default)]
    pub unit: Option<String>,
    /// What it is for.
    #[serde(default)]
    pub role: Role,
    /// For a category: cell text to whole-number code. A number as cell text also matches other spellings of it (`1.0`).
    #[serde(default)]
    pub codes: BTreeMap<String, i64>,
    /// Smallest value that can be right (a date as days since 1970-01-01).
    #[serde(default)]
    pub min: Option<f64>,
    /// Largest value that can be right.
    #[serde(default)]
    pub max: Option<f64>,
}

/// What a column's cells are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ColumnType {
    /// A decimal number.
    Number,
    /// A whole number; `63.0` is one.
    Integer,
    /// One of the codes.
    Category,
    /// A calendar date, `YYYY-MM-DD`.
    Date,
    /// Any text: not a number, so never handed to an algorithm. For the id, or a field to step over.
    Text,
}

/// A 0/1 column made by a rule from another column; missing stays missing.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeriveConfig {
    /// The new column's name.
    pub name: String,
    /// The declared column it is made from.
    pub from: String,
    /// `gt 0`, `ge 0`, `eq 1` or `in 1|2|3`: 1 where it holds.
    pub rule: String,
    /// What it is for, default outcome.
    #[serde(default = "outcome")]
    pub role: Role,
}

/// A derive rule as read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Recode {
    Gt(f64),
    Ge(f64),
    In(Vec<f64>),
}

impl Recode {
    pub(super) fn apply(&self, value: f64) -> f64 {
        if value.is_nan() {
            return f64::NAN;
        }
        let holds = match self {
            Self::Gt(limit) => value > *limit,
            Self::Ge(limit) => value >= *limit,
            Self::In(codes) => codes.contains(&value),
        };
        f64::from(u8::from(holds))
    }
}

impl DeriveConfig {
    pub(super) fn recode(&self) -> Option<Recode> {
        let (rule, operand) = self.rule.trim().split_once(char::is_whitespace)?;
        let number = |text: &str| text.trim().parse().ok().filter(|number: &f64| number.is_finite());
        match rule {
            "gt" => Some(Recode::Gt(number(operand)?)),
            "ge" => Some(Recode::Ge(number(operand)?)),
            "eq" => Some(Recode::In(vec![number(operand)?])),
            "in" => Some(Recode::In(operand.split('|').map(number).collect::<Option<_>>()?)),
            _ => None,
        }
    }

    pub(super) fn column(&self) -> Column {
        let labels = BTreeMap::from([(0, "no".to_owned()), (1, "yes".to_owned())]);
        Column { role: self.role, ..Column::new(self.name.clone(), Kind::Category(labels)) }
    }
}

impl ColumnConfig {
    /// What the table says of this column; `None` for text.
    pub(super) fn column(&self) -> Option<Column> {
        let kind = match self.kind {
            ColumnType::Number => Kind::Number,
            ColumnType::Integer => Kind::Integer,
            ColumnType::Date => Kind::Date,
            ColumnType::Category => {
                Kind::Category(self.codes.iter().map(|(text, code)| (*code, text.clone())).collect())
            }
            ColumnType::Text => return None,
        };
        Some(Column { unit: self.unit.clone(), role: self.role, ..Column::new(self.name.clone(), kind) })
    }

    /// What a cell must be, for an error text.
    pub(super) fn expected(&self) -> String {
        let kind = match self.kind {
            ColumnType::Number => "a number",
            ColumnType::Integer => "a whole number",
            ColumnType::Category if self.codes.is_empty() => "a whole-number code",
            ColumnType::Category => "one of the declared codes",
            ColumnType::Date => "a date as YYYY-MM-DD",
            ColumnType::Text => "a text",
        };
        match (self.min, self.max) {
            (None, None) => kind.to_owned(),
            (Some(min), None) => format!("{kind} of at least {min}"),
            (None, Some(max)) => format!("{kind} of at most {max}"),
            (Some(min), Some(max)) => format!("{kind} from {min} to {max}"),
        }
    }
}

impl DatasetConfig {
    /// Finds what no file could satisfy.
    ///
    /// # Errors
    /// [`SourceError::Config`] naming the key.
    pub fn validate(&self) -> Result<(), SourceError> {
        let fault = |problem: String| SourceError::Config { dataset: self.name.clone(), problem };
        if !self.delimiter.is_ascii() || matches!(self.delimiter, '"' | '\r' | '\n') {
            return Err(fault("'delimiter' must be one ASCII character other than a quote or a line break".to_owned()));
        }
        if self.columns.is_empty() {
            return Err(fault("'columns' is empty; declare at least one".to_owned()));
        }
        let mut names = BTreeSet::new();
        for column in &self.columns {
            if column.name.is_empty() || column.name.contains([',', ':', '|', '>']) {
                return Err(fault(format!("column name '{}' must not be empty or contain , : | >", column.name)));
            }
            if !names.insert(column.name.as_str()) {
                return Err(fault(format!("column '{}' is declared twice", column.name)));
            }
            if !column.codes.is_empty() && column.kind != ColumnType::Category {
                return Err(fault(format!("column '{}' has 'codes' but is not of type category", column.name)));
            }
        }
        for derive in &self.derive {
            let source = self.columns.iter().find(|column| column.name == derive.from);
            if source.is_none_or(|column| column.kind == ColumnType::Text)
                || self.id_column.as_ref() == Some(&derive.from)
            {
                return Err(fault(format!("derived column '{}' needs a declared, numeric 'from'", derive.name)));
            }
            if derive.recode().is_none() {
                return Err(fault(format!("'rule' of '{}' must be gt N, ge N, eq N or in N|N|..", derive.name)));
            }
            if derive.name.contains([',', ':', '|', '>']) || !names.insert(derive.name.as_str()) {
                return Err(fault(format!("derived column '{}' needs a name of its own without , : | >", derive.name)));
            }
        }
        match &self.id_column {
            Some(id) if !self.header && !self.columns.iter().any(|column| column.name == *id) => {
                Err(fault(format!("id_column '{id}' must be among 'columns' when the file has no header")))
            }
            _ => Ok(()),
        }
    }
}

/// Days since 1970-01-01 of a date `YYYY-MM-DD` of the Gregorian calendar, years 0001 to 9999.
///
/// Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `days_from_civil`.
pub(super) fn days(text: &str) -> Option<f64> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    let digits = |text: &str, len: usize| -> Option<i64> {
        (text.len() == len && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
    };
    let (year, month, day) = (digits(year, 4)?, digits(month, 2)?, digits(day, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        _ => return None,
    };
    if year < 1 || !(1..=length).contains(&day) {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some((era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468) as f64)
}

fn comma() -> char {
    ','
}

fn yes() -> bool {
    true
}

fn missing() -> Vec<String> {
    vec![String::new(), "?".to_owned()]
}

fn outcome() -> Role {
    Role::Outcome
}
