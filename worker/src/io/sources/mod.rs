//! Where a hospital's rows come from: a declared data set becomes a [`leben_models::Table`].
//!
//! * [`source`]: what a data set declares in `worker.toml`;
//! * [`csv`]: reading it strictly, the first bad cell ends it with file, line, column and what was expected;
//! * [`mod@check`]: reading all of it and counting what is wrong, for `leben-worker check`;
//! * [`cohort`]: the filter that a contract's terms name, over declared columns.
//!
//! Rows stay in this process. No error and no report contains a cell, nor a header cell: a file without a header line has
//! patients' values in its first line.

pub mod check;
pub mod cohort;
pub mod csv;
pub mod source;

#[cfg(test)]
mod tests;

pub use check::{CheckReport, check};
pub use csv::{SourceError, load};
pub use source::{ColumnConfig, ColumnType, DatasetConfig, DeriveConfig};
