//! The keys that a log has had. A Handover puts another one in force, and what was signed before stays: the checkpoint published last, the
//! certificates of earlier turns. So the folder remembers every key, one C2SP verifier key a line in `state/log-keys`.
//!
//! Which of them may sign *now* is for the replay to say; this file only says what was this log's and nobody else's.

use super::{Head, LogStore, StoreError, durable_replace, read_if_there};
use crate::ledger::checkpoint::CheckpointError;
use crate::ledger::note::{KeyType, Note, VerifierKey};
use std::path::Path;

const FILE: &str = "log-keys";
const BYTES_MAX: usize = 1 << 20;

impl LogStore {
    /// The keys of the log, the one that the folder was opened with first.
    #[must_use]
    pub fn keys(&self) -> &[VerifierKey] {
        &self.keys
    }

    /// Durable: keys that the log has, or had before a Handover, as its own entries or a verified Handover say. Known ones cost nothing.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn know_keys(&mut self, keys: &[VerifierKey]) -> Result<(), StoreError> {
        if keys.iter().all(|key| self.keys.contains(key)) {
            return Ok(());
        }
        self.step(|store| {
            let mut known = store.keys.clone();
            for key in keys.iter().filter(|key| !store.keys.contains(key)) {
                check(key, store.keys.first()).map_err(StoreError::OutOfOrder)?;
                known.push(key.clone());
            }
            write(&store.state, &known)?;
            store.keys = known;
            Ok(())
        })
    }

    pub(super) fn head_of(&self, note: &Note) -> Result<Head, CheckpointError> {
        Head::by(note, &self.keys)
    }
}

pub(super) fn write(state: &Path, keys: &[VerifierKey]) -> Result<(), StoreError> {
    let lines: String = keys.iter().map(|key| format!("{key}\n")).collect();
    durable_replace(&state.join(FILE), lines.as_bytes())
}

/// The key that the folder is opened with, and those that it remembers.
pub(super) fn read(state: &Path, log: &VerifierKey) -> Result<Vec<VerifierKey>, StoreError> {
    let path = state.join(FILE);
    let mut keys = vec![log.clone()];
    let Some(bytes) = read_if_there(&path, BYTES_MAX)? else { return Ok(keys) };
    let damaged = |why: &str| StoreError::Corrupt { path: path.clone(), why: why.to_owned() };
    for line in std::str::from_utf8(&bytes).map_err(|_| damaged("it is not UTF-8"))?.lines() {
        let key = VerifierKey::parse(line).map_err(|error| damaged(&error.to_string()))?;
        check(&key, keys.first()).map_err(damaged)?;
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    Ok(keys)
}

fn check(key: &VerifierKey, log: Option<&VerifierKey>) -> Result<(), &'static str> {
    match key.kind() == KeyType::Ed25519 && log.is_none_or(|log| log.name() == key.name()) {
        true => Ok(()),
        false => Err("a key in it is of another log"),
    }
}
