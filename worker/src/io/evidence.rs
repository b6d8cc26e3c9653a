//! `evidence/` and `leben-worker evidence`: why this agent signs nothing. `fork-*.json` are proofs that the log signed two histories,
//! each one file that anybody can check with `leben verify`. `halt-*.txt` say in their first line why it stopped, and hold what shows it:
//! an entry that breaks the rules, this hospital's own cosignature that its folder does not remember, two checkpoints. While one of
//! either lies there the agent signs nothing, over restarts too; a person who has looked clears them. A fork in `cleared-*/` stops it
//! no more, whoever still shows it.
//!
//! May be lost: the cause is found again, if it still shows. Rolled back: the same. Forged: `fork-*` by nobody (the log's signatures),
//! `halt-*` by whoever can write the folder. Grows: by the first of each; once one is there no more are kept.

use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::ledger::evidence::{EVIDENCE_BYTES_MAX, ForkEvidence};
use leben_contracts::ledger::store::{LogReader, durable_replace, ensure_dir, read_at_most};
use serde::Serialize;

use super::cli::utc;
use super::store::{DiskError, entries_of};

/// Longest file of words that is read: twice what the agent writes.
const TEXT_BYTES_MAX: usize = 16 << 20;

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

/// Durable: why the agent stopped signing, with what shows it. The first line says why.
///
/// # Errors
/// [`DiskError`]: stop.
pub fn keep_halt(folder: &Path, now_ms: u64, text: &str) -> Result<(), DiskError> {
    Ok(durable_replace(&folder_of(folder).join(format!("halt-{now_ms}.txt")), text.as_bytes())?)
}

/// Why the agent stopped signing, the first time of those that nobody has cleared. Whatever the file holds: it signs nothing.
///
/// # Errors
/// [`DiskError`].
pub fn halted(folder: &Path) -> Result<Option<String>, DiskError> {
    let Some((name, path)) = halts(folder)?.into_iter().next() else { return Ok(None) };
    let text = read_at_most(&path, TEXT_BYTES_MAX)?;
    let words = String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned();
    Ok(Some(format!("it stopped before this start, see evidence/{name}: {words}")))
}

fn halts(folder: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let mut found = entries_of(&folder_of(folder))?;
    found.retain(|(name, path)| name.starts_with("halt-") && name.ends_with(".txt") && path.is_file());
    Ok(found)
}

/// The proofs that nobody has cleared, oldest first. A file that proves nothing is named: it is not taken for one.
///
/// # Errors
/// [`DiskError`].
pub fn uncleared(folder: &Path) -> Result<Vec<(String, ForkEvidence)>, DiskError> {
    proofs(&folder_of(folder))
}

/// The proofs that a person has looked at. One that cannot be read any more counts as none.
///
/// # Errors
/// [`DiskError`].
pub fn cleared(folder: &Path) -> Result<Vec<ForkEvidence>, DiskError> {
    let mut found = Vec::new();
    for (name, path) in entries_of(&folder_of(folder))? {
        if name.starts_with("cleared-") && path.is_dir() {
            match proofs(&path) {
                Ok(proofs) => found.extend(proofs.into_iter().map(|(_, evidence)| evidence)),
                Err(error) => tracing::warn!(%error, "what was cleared may stop this agent again"),
            }
        }
    }
    Ok(found)
}

fn proofs(dir: &Path) -> Result<Vec<(String, ForkEvidence)>, DiskError> {
    let mut found = Vec::new();
    for (name, path) in entries_of(dir)? {
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

/// A mistyped folder must not read as if no fork had been seen.
fn is_agents(folder: &Path) -> Result<(), String> {
    match folder_of(folder).is_dir() {
        true => Ok(()),
        false => Err(format!("no agent has run in {} yet, so there is no evidence; see --dir", folder.display())),
    }
}

/// One file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// What it is, in words.
    pub what: String,
    /// Of a proof of a fork: when it was found, Unix milliseconds.
    pub found_ms: Option<u64>,
    /// The size at which the two histories differ.
    pub size: Option<u64>,
    /// Who cosigned the smaller and the larger checkpoint, where this hospital's own policy knows them.
    pub cosigners: Option<[Vec<String>; 2]>,
}

/// Every file, and what each proves.
///
/// # Errors
/// In words.
pub fn list(folder: &Path) -> Result<Vec<Listed>, String> {
    is_agents(folder)?;
    // Names and keys as this hospital's own copy has them; without it the lines' own words are shown as such.
    let policy = LogReader::new(&folder.join("mirror/public")).policy().ok().flatten();
    let mut listed = Vec::new();
    for (name, evidence) in uncleared(folder).map_err(|error| error.to_string())? {
        let fork = evidence.verify(evidence.log()).map_err(|error| error.to_string())?;
        let found_ms = name.trim_start_matches("fork-").trim_end_matches(".json").parse().unwrap_or(0);
        let who = evidence.cosigners_text(policy.as_ref());
        let (found, origin, size) = (utc(found_ms), &fork.origin, fork.size);
        let what = format!("found {found} UTC: two histories of {origin} at {size} entries. {who}");
        let cosigners = Some(evidence.cosigners(policy.as_ref()));
        listed.push(Listed { name, what, found_ms: Some(found_ms), size: Some(size), cosigners });
    }
    for (name, path) in entries_of(&folder_of(folder)).map_err(|error| error.to_string())? {
        if name.ends_with(".txt") && path.is_file() {
            let what = match name.starts_with("dropped-") {
                true => "a later certificate that this hospital dropped to follow a Handover",
                false => "a note about why the agent stopped signing",
            };
            listed.push(Listed { name, what: what.to_owned(), found_ms: None, size: None, cosigners: None });
        }
    }
    Ok(listed)
}

/// The same as text.
///
/// # Errors
/// In words.
pub fn list_text(folder: &Path) -> Result<String, String> {
    let text: String = list(folder)?.iter().map(|one| format!("{}  {}\n", one.name, one.what)).collect();
    Ok(if text.is_empty() {
        "nothing: no fork has been seen, and nothing else has stopped this agent's signing\n".to_owned()
    } else {
        text
    })
}

/// One file as it is.
///
/// # Errors
/// In words.
pub fn show(folder: &Path, name: &str) -> Result<String, String> {
    let path = file(folder, name)?;
    let bytes = read_at_most(&path, TEXT_BYTES_MAX).map_err(|error| error.to_string())?;
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

/// Puts the proofs and the reasons aside, so that the agent signs again from its next start on; `looked` is a person's word.
///
/// # Errors
/// In words.
pub fn clear(folder: &Path, looked: bool, now_ms: u64) -> Result<String, String> {
    is_agents(folder)?;
    let mut names: Vec<String> =
        uncleared(folder).map_err(|error| error.to_string())?.into_iter().map(|(name, _)| name).collect();
    names.extend(halts(folder).map_err(|error| error.to_string())?.into_iter().map(|(name, _)| name));
    if names.is_empty() {
        return Ok("nothing to clear".to_owned());
    }
    if !looked {
        return Err("what lies there means that somebody was shown another ledger, or that this folder is not the newest: look at it \
                    (evidence show), call the other hospitals, then say --yes-i-have-looked"
            .to_owned());
    }
    let aside = folder_of(folder).join(format!("cleared-{now_ms}"));
    ensure_dir(&aside).map_err(|error| error.to_string())?;
    for name in &names {
        let moved = fs::rename(folder_of(folder).join(name), aside.join(name));
        moved.map_err(|error| format!("cannot move {name}: {error}"))?;
    }
    for changed in [&aside, &folder_of(folder)] {
        let synced = fs::File::open(changed).and_then(|folder| folder.sync_all());
        synced.map_err(|error| format!("cannot make {} durable: {error}", changed.display()))?;
    }
    Ok(format!(
        "{} put aside in {}. Restart the agent: it signs again, what its own copy extends and nothing else",
        names.len(),
        aside.display()
    ))
}

/// A name as `list` shows it: nothing that leads elsewhere.
fn file(folder: &Path, name: &str) -> Result<PathBuf, String> {
    let entries = entries_of(&folder_of(folder)).map_err(|error| error.to_string())?;
    let found = entries.into_iter().find(|(known, path)| known == name && path.is_file());
    found.map(|(_, path)| path).ok_or_else(|| format!("there is no '{name}'; see leben-worker evidence list"))
}
