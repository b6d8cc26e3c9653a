//! What this hospital declares: its data sets with their columns and permissions, and the local policy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use leben_contracts::agreement::body::{ColumnRole, ColumnSpec, ColumnType, DatasetOffer, ROWS_STEP, schema_hash};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::purpose::{Permission, check_permission};

use serde::Deserialize;

use crate::budget::Limits;

/// Reads a cohort query against declared columns: `Err` says in words what does not fit.
pub type CohortCheck = Arc<dyn Fn(&str, &[ColumnSpec]) -> Result<(), String> + Send + Sync>;

/// One data set, without a row of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// Its name, unique within the hospital.
    pub name: Code,
    /// Its columns.
    pub columns: Vec<ColumnSpec>,
    /// [`schema_hash`] of the columns.
    pub schema_hash: Hash32,
    /// What it may be used for.
    pub permission: Permission,
    /// What the hospital has in mind to ask, credits.
    pub price_hint: Option<u64>,
    /// How many rows, rounded so that no patient can be told from it; `None` until the table has been counted.
    pub rows_rounded: Option<u64>,
    /// What may be released about its patients with a privacy mechanism; `None`: nothing.
    pub budget: Option<Limits>,
    /// Contracts without a privacy mechanism are refused.
    pub private_only: bool,
}

/// What a hospital asks of any terms, whoever approves them: where they have smaller numbers it refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Floors {
    /// Hospitals in a sum.
    pub hospitals_min: u16,
    /// Rows of its own that it takes part with.
    pub cohort_min: u64,
    /// Patients in a group that a result without noise tells about.
    pub cell_min: u32,
    /// Hospitals whose patients are in such a group.
    pub cell_hospitals_min: u16,
    /// p of the p % rule.
    pub dominance_percent: u16,
    /// Whether somebody here must look at each result before it is delivered.
    pub review: bool,
}

impl Default for Floors {
    /// What README.md says under "What a result may show".
    fn default() -> Self {
        Self {
            hospitals_min: 3,
            cohort_min: 10,
            cell_min: 5,
            cell_hospitals_min: 2,
            dominance_percent: 10,
            review: false,
        }
    }
}

impl Floors {
    /// Anything goes.
    pub const NONE: Self = Self {
        hospitals_min: 0,
        cohort_min: 0,
        cell_min: 0,
        cell_hospitals_min: 0,
        dominance_percent: 0,
        review: false,
    };
}

/// Which contracts are approved, and which without a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalPolicy {
    /// Approve every contract that passes review.
    pub auto_approve: bool,
    /// The least that terms must keep to.
    pub floors: Floors,
    /// SHA-256 over the policy's text as configured: goes into every Accept.
    pub hash: Option<Hash32>,
}

impl LocalPolicy {
    /// The policy with its hash.
    pub fn new(auto_approve: bool, floors: Floors) -> LocalPolicy {
        let Floors { hospitals_min, cohort_min, cell_min, cell_hospitals_min, dominance_percent, review } = floors;
        let text = format!(
            "{{\"auto_approve\":{auto_approve},\"cell_hospitals_min\":{cell_hospitals_min},\"cell_min\":{cell_min},\
             \"cohort_min\":{cohort_min},\"dominance_percent\":{dominance_percent},\"hospitals_min\":{hospitals_min},\"review\":{review},\"v\":2}}"
        );
        LocalPolicy { auto_approve, floors, hash: Some(Hash32::of("leben/local-policy/1", text.as_bytes())) }
    }

    /// The hash that an Accept names.
    pub fn hash(&self) -> Hash32 {
        self.hash.unwrap_or(Hash32([0; 32]))
    }
}

/// Everything declared.
#[derive(Clone)]
pub struct Declared {
    datasets: BTreeMap<Code, Dataset>,
    cohort_check: CohortCheck,
    /// The local policy.
    pub policy: LocalPolicy,
}

/// Rounds a number of rows so that one patient more or less is rarely seen: down to a multiple of 10.
pub fn round_rows(rows: u64) -> u64 {
    rows - rows % ROWS_STEP
}

impl Dataset {
    /// A data set from its declared columns.
    ///
    /// # Errors
    /// In words: a column that comes twice, a permission that permits nothing.
    pub fn new(name: Code, columns: Vec<ColumnSpec>, permission: Permission) -> Result<Dataset, String> {
        for (at, column) in columns.iter().enumerate() {
            if columns.iter().take(at).any(|earlier| earlier.column == column.column) {
                return Err(format!("data set '{name}': column '{}' is declared twice", column.column));
            }
        }
        check_permission(&permission).map_err(|denied| format!("data set '{name}', permission: {denied}"))?;
        let schema_hash = schema_hash(&columns).map_err(|error| format!("data set '{name}': {error}"))?;
        let (price_hint, rows_rounded, budget) = (None, None, None);
        Ok(Dataset { name, columns, schema_hash, permission, price_hint, rows_rounded, budget, private_only: false })
    }

    /// The most rows that it can have by what is offered; `None` until they have been counted.
    pub fn rows_most(&self) -> Option<u64> {
        self.offer().map(|offer| offer.rows_most())
    }

    /// Whether a contract may compute on the column: declared, numeric, and not one that names a patient.
    pub fn may_compute_on(&self, column: &str) -> bool {
        let known = self.columns.iter().find(|known| known.column == column);
        known.is_some_and(|known| known.role != ColumnRole::Id && known.column_type != ColumnType::Text)
    }

    /// The offer as the ledger should hold it; `None` until the rows have been counted.
    pub fn offer(&self) -> Option<DatasetOffer> {
        Some(DatasetOffer {
            name: self.name.clone(),
            schema: self.columns.clone(),
            schema_hash: self.schema_hash,
            rows_rounded: self.rows_rounded?,
            permission: self.permission.clone(),
            price_hint: self.price_hint,
        })
    }
}

impl Declared {
    /// Puts the declarations together.
    pub fn new(datasets: Vec<Dataset>, cohort_check: CohortCheck, policy: LocalPolicy) -> Declared {
        let datasets = datasets.into_iter().map(|dataset| (dataset.name.clone(), dataset)).collect();
        Declared { datasets, cohort_check, policy }
    }

    /// A data set by name.
    pub fn get(&self, name: &Code) -> Option<&Dataset> {
        self.datasets.get(name)
    }

    /// All data sets.
    pub fn iter(&self) -> impl Iterator<Item = &Dataset> {
        self.datasets.values()
    }

    /// The rows of a data set were counted.
    pub fn set_rows(&mut self, name: &Code, rows: u64) {
        if let Some(dataset) = self.datasets.get_mut(name) {
            dataset.rows_rounded = Some(round_rows(rows));
        }
    }

    /// Whether a cohort query can be read against the data set's columns.
    ///
    /// # Errors
    /// In words.
    pub fn check_cohort(&self, dataset: &Dataset, query: &str) -> Result<(), String> {
        match query.is_empty() {
            true => Ok(()),
            false => (self.cohort_check)(query, &dataset.columns),
        }
    }
}

impl fmt::Debug for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Declared")
            .field("datasets", &self.datasets)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}
