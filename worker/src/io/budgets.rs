//! Privacy budgets on the disk: `budget/<data set>.json`, one whole state each, replaced durably before anything follows
//! from it.

use std::path::{Path, PathBuf};

use leben_contracts::ledger::store::{durable_replace, ensure_dir};

use super::store::{DiskError, entries_of, read_json};
use crate::budget::Budget;

fn folder_of(folder: &Path) -> PathBuf {
    folder.join("budget")
}

/// Every budget in a state folder.
///
/// # Errors
/// [`DiskError`]; [`DiskError::Damaged`] for a file that is not a budget or does not hold together.
pub fn load(folder: &Path) -> Result<Vec<Budget>, DiskError> {
    let folder = folder_of(folder);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut budgets = Vec::new();
    for (name, path) in entries_of(&folder)? {
        let Some(name) = name.strip_suffix(".json") else { continue };
        let Some(budget) = read_json::<Budget>(&path)? else { continue };
        let wrong = |why: String| DiskError::Damaged { path: path.clone(), why };
        budget.check().map_err(|error| wrong(error.to_string()))?;
        if budget.dataset.as_str() != name {
            return Err(wrong(format!("it is the budget of '{}'", budget.dataset)));
        }
        budgets.push(budget);
    }
    Ok(budgets)
}

/// Durable: a budget. Never replaces a newer one.
///
/// # Errors
/// [`DiskError`]: stop.
pub fn store(folder: &Path, budget: &Budget) -> Result<(), DiskError> {
    let folder = folder_of(folder);
    ensure_dir(&folder)?;
    let path = folder.join(format!("{}.json", budget.dataset));
    let known = read_json::<Budget>(&path)?.map_or(0, |known| known.generation());
    if known > budget.generation() {
        let (here, mine) = (known, budget.generation());
        let why = format!("it has generation {here}, this process holds {mine}: another process, or a copy put back");
        return Err(DiskError::Damaged { path, why });
    }
    let bytes = serde_json::to_vec(budget)
        .map_err(|error| DiskError::Damaged { path: path.clone(), why: error.to_string() })?;
    Ok(durable_replace(&path, &bytes)?)
}
