//! The rows of one hospital as numbers: what a source hands to an algorithm.
//!
//! Every cell is an `f64`. A category is its declared code, a date the days since 1970-01-01, a missing value `NaN`.
//! Nothing here prints a value: the error texts and `Debug` speak of names and counts only.

use std::collections::BTreeMap;
use std::fmt;

use ndarray::{Array2, ShapeBuilder};
use serde::{Deserialize, Serialize};

use crate::finding::Finding;

/// The rows of one cohort: named numeric columns of equal length, each contiguous in memory.
#[derive(Clone)]
pub struct Table {
    columns: Vec<Column>,
    /// Shape `[rows, columns]`, column-major, so that one column is one slice.
    values: Array2<f64>,
}

/// What is known of a column without reading a row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name by which jobs ask for it.
    pub name: String,
    /// Unit of measure as declared, for example `mg/dl`.
    pub unit: Option<String>,
    /// What the column is for.
    pub role: Role,
    /// How its numbers are to be read.
    pub kind: Kind,
    /// Number of missing values, counted when the column was added.
    pub missing: usize,
}

/// What a column is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Something to predict from (the default).
    #[default]
    Feature,
    /// Something to predict.
    Outcome,
    /// A follow-up time.
    Time,
    /// Whether the event was seen.
    Event,
    /// The weight of a row.
    Weight,
    /// A grouping, such as the ward.
    Group,
}

/// How a column's numbers are to be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A real number.
    Number,
    /// A whole number, exact up to 2^53.
    Integer,
    /// One of the declared codes, each with its label.
    Category(BTreeMap<i64, String>),
    /// Days since 1970-01-01.
    Date,
}

impl Column {
    /// A feature without a unit; the missing count is filled in by [`Table::push`].
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self { name: name.into(), unit: None, role: Role::Feature, kind, missing: 0 }
    }
}

impl Table {
    /// A table of `rows` rows and no column yet.
    pub fn new(rows: usize) -> Self {
        Self { columns: Vec::new(), values: Array2::from_shape_fn((rows, 0).f(), |_| 0.0) }
    }

    /// Builds a table from whole columns.
    ///
    /// # Errors
    /// [`Finding::TableShape`] when the lengths differ or a name comes twice.
    pub fn from_columns(columns: Vec<(Column, Vec<f64>)>) -> Result<Self, Finding> {
        let rows = columns.first().map_or(0, |(_, values)| values.len());
        let width = columns.len();
        let mut heads: Vec<Column> = Vec::with_capacity(width);
        let mut data: Vec<f64> = Vec::with_capacity(rows.saturating_mul(width));
        for (mut head, values) in columns {
            if values.len() != rows {
                return Err(shape(&head.name, format!("has {} rows where the table has {rows}", values.len())));
            }
            if heads.iter().any(|known| known.name == head.name) {
                return Err(shape(&head.name, "comes twice".to_owned()));
            }
            head.missing = values.iter().filter(|value| value.is_nan()).count();
            heads.push(head);
            data.extend_from_slice(&values);
        }
        let values = Array2::from_shape_vec((rows, width).f(), data)
            .map_err(|_| shape("", "the values do not fill the table".to_owned()))?;
        Ok(Self { columns: heads, values })
    }

    /// Adds one column at the end; used for a derived outcome or a small test table.
    ///
    /// # Errors
    /// [`Finding::TableShape`] when the length differs or the name is there already.
    pub fn push(&mut self, column: Column, values: Vec<f64>) -> Result<(), Finding> {
        if self.columns.is_empty() && self.values.nrows() != values.len() {
            return Err(shape(&column.name, format!("has {} rows where the table has {}", values.len(), self.rows())));
        }
        let mut all: Vec<(Column, Vec<f64>)> = Vec::with_capacity(self.columns.len() + 1);
        for (index, head) in self.columns.iter().enumerate() {
            all.push((head.clone(), self.values.column(index).to_vec()));
        }
        all.push((column, values));
        *self = Self::from_columns(all)?;
        Ok(())
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.nrows()
    }

    /// The columns in order, without their values.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// One column's description and values (`NaN` = missing), or `None` if there is none of that name.
    pub fn column(&self, name: &str) -> Option<(&Column, &[f64])> {
        let index = self.columns.iter().position(|column| column.name == name)?;
        Some((self.columns.get(index)?, self.values.column(index).to_slice()?))
    }

    /// The rows for which `keep` is true, in their order. Rows beyond the mask's end are dropped.
    ///
    /// # Errors
    /// [`Finding::TableShape`] cannot come from a well-formed table.
    pub fn filter(&self, keep: &[bool]) -> Result<Self, Finding> {
        let pick = |index: usize| -> Vec<f64> {
            self.values.column(index).iter().zip(keep).filter(|(_, keep)| **keep).map(|(value, _)| *value).collect()
        };
        if self.columns.is_empty() {
            return Ok(Self::new(keep.iter().take(self.rows()).filter(|keep| **keep).count()));
        }
        Self::from_columns(self.columns.iter().enumerate().map(|(index, head)| (head.clone(), pick(index))).collect())
    }

    /// The tables stacked in order: the pooled rows of a simulation. All must have the same columns in the same order.
    ///
    /// # Errors
    /// [`Finding::TableShape`] when a table's columns differ from the first's.
    pub fn stack(tables: &[Self]) -> Result<Self, Finding> {
        let Some(first) = tables.first() else { return Ok(Self::new(0)) };
        let mut columns = Vec::with_capacity(first.columns.len());
        for head in &first.columns {
            let mut all = Vec::new();
            for table in tables {
                let (_, values) = table
                    .column(&head.name)
                    .ok_or_else(|| shape(&head.name, "is not in every table to be stacked".to_owned()))?;
                all.extend_from_slice(values);
            }
            columns.push((head.clone(), all));
        }
        Self::from_columns(columns)
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").field("rows", &self.rows()).field("columns", &self.columns.len()).finish()
    }
}

fn shape(column: &str, problem: String) -> Finding {
    Finding::TableShape { column: column.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_values_are_counted_and_kept() {
        let table = Table::from_columns(vec![
            (Column::new("a", Kind::Number), vec![1.0, f64::NAN, 3.0]),
            (Column::new("b", Kind::Integer), vec![1.0, 0.0, f64::NAN]),
        ])
        .unwrap();
        let (head, values) = table.column("a").unwrap();
        assert_eq!(head.missing, 1);
        assert!(values[1].is_nan());
        let kept = table.filter(&[true, false, true]).unwrap();
        assert_eq!((kept.rows(), kept.column("a").unwrap().0.missing), (2, 0));
        assert_eq!(Table::stack(&[table.clone(), kept]).unwrap().rows(), 5);
        assert!(table.column("c").is_none());
    }

    #[test]
    fn columns_of_another_length_or_name_are_refused() {
        let mut table = Table::from_columns(vec![(Column::new("a", Kind::Number), vec![1.0])]).unwrap();
        assert!(table.push(Column::new("b", Kind::Number), vec![1.0, 2.0]).is_err());
        assert!(table.push(Column::new("a", Kind::Number), vec![1.0]).is_err());
        table.push(Column::new("b", Kind::Number), vec![2.0]).unwrap();
        assert_eq!(table.columns().len(), 2);
    }

    #[test]
    fn debug_prints_no_value() {
        let table = Table::from_columns(vec![(Column::new("a", Kind::Number), vec![48213.0])]).unwrap();
        assert!(!format!("{table:?}").contains("48213"));
    }
}
