//! How the command line talks to the agent: one small durable file for each decision, in a folder both can write. No
//! port is open, and a decision made while the agent is stopped waits for it.

use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::ledger::store::{durable_replace, ensure_dir};

use super::clock::{Clock, fresh_seed};
use super::store::{DiskError, entries_of};
use crate::agent::Command;

fn inbox(folder: &Path) -> PathBuf {
    folder.join("approvals").join("inbox")
}

/// Leaves a decision for the agent.
///
/// # Errors
/// [`DiskError`].
pub fn leave(folder: &Path, command: &Command) -> Result<(), DiskError> {
    let inbox = inbox(folder);
    ensure_dir(&inbox)?;
    let random = fresh_seed().map_err(|error| DiskError::Io { what: "name a file in", path: inbox.clone(), error })?;
    let name = format!("{}-{}.json", Clock::default().now_ms(), hex::encode(random.get(..4).unwrap_or_default()));
    let bytes = serde_json::to_vec(command).unwrap_or_default();
    Ok(durable_replace(&inbox.join(name), &bytes)?)
}

/// One decision that waits.
pub struct Waiting {
    /// Its file: remove it once the decision is stored.
    pub path: PathBuf,
    /// What it says, or what is wrong with it.
    pub command: Result<Command, String>,
}

/// Decisions that wait, oldest first.
///
/// # Errors
/// [`DiskError`].
pub fn waiting(folder: &Path) -> Result<Vec<Waiting>, DiskError> {
    let files = entries_of(&inbox(folder))?.into_iter().filter(|(name, _)| name.ends_with(".json"));
    let read = |path: &Path| {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    };
    Ok(files.map(|(_, path)| Waiting { command: read(&path), path }).collect())
}

/// Removes a decision that was taken over.
///
/// # Errors
/// [`DiskError`].
pub fn remove(path: &Path) -> Result<(), DiskError> {
    fs::remove_file(path).map_err(|error| DiskError::Io { what: "remove", path: path.to_owned(), error })
}
