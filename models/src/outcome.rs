//! What a stage releases: tables of estimates, single figures, curves, what was used and how it converged.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::picture;

/// A stage's result. Public once delivered: it holds summed quantities only. A number that does not exist is `null`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The algorithm's name.
    pub algorithm: String,
    /// Its version.
    pub version: u32,
    /// One sentence saying what this is.
    pub title: String,
    /// Rows of all hospitals together.
    pub rows: RowCounts,
    /// Tables of estimates, the main one first.
    pub tables: Vec<Grid>,
    /// Single figures by name, for example `auc`.
    pub figures: BTreeMap<String, f64>,
    /// Curves for pictures.
    pub curves: Vec<Curve>,
    /// One row a round.
    pub trace: Vec<Step>,
    /// What the reader should know before using the numbers.
    pub warnings: Vec<String>,
    /// The differential privacy of everything above; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// What disclosure control kept away; absent where noise protects the patients instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disclosure: Option<Disclosure>,
}

/// How the name of a withheld number of rows begins; the reason why they were left out follows.
pub const ROWS_WITHHELD: &str = "rows left out, ";

/// The limits that a result was held to, and what they keep away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// Smallest group of patients that it may tell about.
    pub cell_min: u64,
    /// Fewest hospitals whose patients are in such a group.
    pub cell_hospitals_min: u16,
    /// What is withheld, by name. Where rows left out are among it, `rows.requested` is without them: at least so many.
    pub withheld: Vec<String>,
}

/// What is known about the privacy of a result: neighbours differ by one patient's rows at one hospital.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Epsilon of the whole stage, rounded up to millionths.
    pub epsilon: f64,
    /// Delta.
    pub delta: f64,
    /// How the noise came about.
    pub mechanism: String,
    /// Hospitals on whose noise it rests: 1 where each adds all of it by itself.
    pub honest: u16,
}

/// Rows of all hospitals together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowCounts {
    /// Rows in the cohorts; without those whose number is withheld.
    pub requested: u64,
    /// Rows used.
    pub used: u64,
    /// Rows left out by reason; reasons without rows are not listed.
    pub rejected: BTreeMap<String, u64>,
}

/// A table of numbers with named rows and columns.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// Its name, for example `coefficients`.
    pub name: String,
    /// Scale, unit and how uncertainty was computed.
    pub note: String,
    /// Column names.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<GridRow>,
}

/// A labelled row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GridRow {
    /// Its label, for example a term.
    pub label: String,
    /// One value for each column.
    pub values: Vec<Option<f64>>,
}

/// A curve: points in drawing order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Curve {
    /// Its name, for example `roc`.
    pub name: String,
    /// Label of the horizontal axis.
    pub x: String,
    /// Label of the vertical axis.
    pub y: String,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

/// One round of the convergence trace.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Round of this stage, from 1.
    pub round: u32,
    /// What was watched, by name.
    pub values: BTreeMap<String, f64>,
}

impl Outcome {
    /// A table by name.
    pub fn grid(&self, name: &str) -> Option<&Grid> {
        self.tables.iter().find(|grid| grid.name == name)
    }

    /// What is withheld.
    pub fn withheld(&self) -> &[String] {
        self.disclosure.as_ref().map_or(&[], |told| &told.withheld)
    }

    /// The bytes that a contract commits to: JSON with fields in declaration order, numbers in shortest round-trip form.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Structs, strings and finite numbers always serialise; non-finite ones become null in `Option` fields only.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// Reads [`Outcome::to_bytes`]; the numbers come back bit for bit.
    ///
    /// # Errors
    /// When the bytes are not an outcome.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Pictures of this outcome: file name and SVG text. Each has a title and a description for a screen reader and
    /// follows the viewer's light or dark scheme.
    pub fn pictures(&self) -> Vec<(String, String)> {
        let mut pictures = Vec::new();
        for curve in &self.curves {
            match curve.name.as_str() {
                "roc" => {
                    let auc = self.figures.get("auc").copied();
                    pictures.push(("roc.svg".to_owned(), picture::roc(curve, auc)));
                }
                "calibration" => pictures.push(("calibration.svg".to_owned(), picture::calibration(curve))),
                _ => {}
            }
        }
        if let Some(grid) = self.grid("coefficients") {
            pictures.push(("coefficients.svg".to_owned(), picture::forest(grid)));
        }
        pictures
    }
}

impl RowCounts {
    /// From summed counting lanes (requested, used, reasons) and the reasons' names.
    pub(crate) fn from_lanes(lanes: &[f64], reasons: &[String]) -> Self {
        let count = |index: usize| lanes.get(index).map_or(0, |lane| whole(*lane));
        let mut rejected = BTreeMap::new();
        for (index, reason) in reasons.iter().enumerate() {
            let rows = count(index + 2);
            if rows > 0 {
                rejected.insert(reason.clone(), rows);
            }
        }
        Self { requested: count(0), used: count(1), rejected }
    }
}

impl Grid {
    /// The value in the row of that label and the column of that name.
    pub fn value(&self, label: &str, column: &str) -> Option<f64> {
        let index = self.columns.iter().position(|name| name == column)?;
        let row = self.rows.iter().find(|row| row.label == label)?;
        row.values.get(index).copied().flatten()
    }

    /// A whole column in row order.
    pub fn column(&self, column: &str) -> Vec<Option<f64>> {
        let index = self.columns.iter().position(|name| name == column).unwrap_or(usize::MAX);
        self.rows.iter().map(|row| row.values.get(index).copied().flatten()).collect()
    }
}

/// A summed count as an integer: sums of whole numbers come back whole, a rounding is for safety.
pub(crate) fn whole(lane: f64) -> u64 {
    if lane.is_finite() && lane > 0.0 { lane.round() as u64 } else { 0 }
}

/// `Some` of a finite number.
pub(crate) fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

/// Keeps the figures that are numbers.
pub(crate) fn figures<'a>(pairs: impl IntoIterator<Item = (&'a str, f64)>) -> BTreeMap<String, f64> {
    pairs.into_iter().filter(|(_, value)| value.is_finite()).map(|(name, value)| (name.to_owned(), value)).collect()
}
