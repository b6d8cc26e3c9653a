//! `evidence/` and `leben-worker evidence`: proofs that the log signed two histories, each one file that anybody can check with
//! `leben verify`. While one lies there the agent signs nothing, over restarts too; a person who has looked clears it.
//!
//! May be lost: the fork is found again, if it still shows. Rolled back: the same. Forged: by nobody (the log's signatures). Grows: by
//! the first proof; once one is there no more are kept.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::ledger::evidence::{EVIDENCE_BYTES_MAX, ForkEvidence};
use leben_contracts::ledger::store::{durable_replace, ensure_dir, read_at_most};

use super::cli::utc;
use super::store::{DiskError, entries_of};

fn folder_of(folder: &Path) -> PathBuf {
    folder.join("evidence")
}

/// Durable: a proof of a fork. Its name says when it was found.
///
/// # Errors
/// [`DiskError`]: stop.
pub fn keep(folder: &Path, now_ms: u64, evidence: &ForkEvidence) -> Result<(), DiskError> {
    let path = folder_of(folder).join(format!("fork-{now_ms}.json"));
    Ok(durable_replace(&path, evidence.to_json().as_bytes())?)
}

/// The proofs that nobody has cleared, oldest first. A file that proves nothing is named: it is not taken for one.
///
/// # Errors
/// [`DiskError`].
pub fn uncleared(folder: &Path) -> Result<Vec<(String, ForkEvidence)>, DiskError> {
    let mut found = Vec::new();
    for (name, path) in entries_of(&folder_of(folder))? {
        if !(name.starts_with("fork-") && name.ends_with(".json")) {
            continue;
        }
        let bytes = read_at_most(&path, EVIDENCE_BYTES_MAX)?;
        match ForkEvidence::parse(&bytes).and_then(|evidence| evidence.verify(evidence.log()).map(|_| evidence)) {
            Ok(evidence) => found.push((name, evidence)),
            Err(error) => return Err(DiskError::Damaged { path, why: error.to_string() }),
        }
    }
    Ok(found)
}

/// Every file, and what each proves.
///
/// # Errors
/// In words.
pub fn list_text(folder: &Path) -> Result<String, String> {
    let mut text = String::new();
    for (name, evidence) in uncleared(folder).map_err(|error| error.to_string())? {
        let fork = evidence.verify(evidence.log()).map_err(|error| error.to_string())?;
        let found_ms = name.trim_start_matches("fork-").trim_end_matches(".json").parse().unwrap_or(0);
        let _ = writeln!(
            text,
            "{name}  found {} UTC: two histories of {} at {} entries",
            utc(found_ms),
            fork.origin,
            fork.size
        );
    }
    for (name, path) in entries_of(&folder_of(folder)).map_err(|error| error.to_string())? {
        if name.ends_with(".txt") && path.is_file() {
            let what = match name.starts_with("dropped-") {
                true => "a later certificate that this hospital dropped to follow a Handover",
                false => "a note about why the agent stopped signing",
            };
            let _ = writeln!(text, "{name}  {what}");
        }
    }
    Ok(if text.is_empty() { "nothing: no fork has been seen\n".to_owned() } else { text })
}

/// One file as it is.
///
/// # Errors
/// In words.
pub fn show(folder: &Path, name: &str) -> Result<String, String> {
    let path = file(folder, name)?;
    let bytes = read_at_most(&path, EVIDENCE_BYTES_MAX).map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Copies every file of evidence to a new folder.
///
/// # Errors
/// In words.
pub fn export(folder: &Path, target: &Path) -> Result<String, String> {
    ensure_dir(target).map_err(|error| error.to_string())?;
    let mut count = 0;
    for (name, path) in entries_of(&folder_of(folder)).map_err(|error| error.to_string())? {
        if path.is_file() {
            let copied = fs::copy(&path, target.join(&name));
            copied.map_err(|error| format!("cannot copy {}: {error}", path.display()))?;
            count += 1;
        }
    }
    Ok(format!(
        "{count} files copied to {}; check a proof anywhere with: leben verify fork-..json --policy POLICY",
        target.display()
    ))
}

/// Puts the proofs aside, so that the agent signs again from its next start on.
///
/// # Errors
/// In words.
pub fn clear(folder: &Path, now_ms: u64) -> Result<String, String> {
    let proofs = uncleared(folder).map_err(|error| error.to_string())?;
    if proofs.is_empty() {
        return Ok("nothing to clear".to_owned());
    }
    let aside = folder_of(folder).join(format!("cleared-{now_ms}"));
    ensure_dir(&aside).map_err(|error| error.to_string())?;
    for (name, _) in &proofs {
        let moved = fs::rename(folder_of(folder).join(name), aside.join(name));
        moved.map_err(|error| format!("cannot move {name}: {error}"))?;
    }
    Ok(format!(
        "{} put aside in {}. Restart the agent: it signs again, what its own copy extends and nothing else",
        proofs.len(),
        aside.display()
    ))
}

/// A name as `list` shows it: nothing that leads elsewhere.
fn file(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let entries = entries_of(&folder_of(folder)).map_err(|error| error.to_string())?;
    let found = entries.into_iter().find(|(known, path)| known == name && path.is_file());
    found.map(|(_, path)| path).ok_or_else(|| format!("there is no '{name}'; see leben-worker evidence list"))
}
