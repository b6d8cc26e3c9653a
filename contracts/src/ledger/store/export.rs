//! A copy of a published log that holds nothing but what its checkpoint covers, and so verifies to the last byte.

use super::durable::{create_once, ensure_dir, names, read_at_most, sync_dir};
use super::{Head, LogReader, StoreError, durable_replace, keys};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::VerifierKey;
use crate::ledger::policy::POLICY_BYTES_MAX;
use crate::ledger::tile::paths;
use crate::ledger::turn;
use std::collections::BTreeSet;
use std::path::Path;

/// Copies `checkpoint`, `policy` (if there is one), the certificates and exactly the tiles of the checkpoint's size from one folder to a new one. Safe while
/// the log is being written. Returns the number of entries.
///
/// # Errors
/// [`StoreError`]; the target folder must be empty or absent.
pub fn export(public: &Path, target: &Path) -> Result<u64, StoreError> {
    ensure_dir(target)?;
    if !names(target)?.is_empty() {
        return Err(StoreError::NotEmpty(target.to_path_buf()));
    }
    let reader = LogReader::new(public);
    let note = reader.checkpoint()?;
    let size = Checkpoint::of(&note)?.size;
    let mut written = BTreeSet::new();
    for path in paths(size) {
        let bytes = reader.tile_bytes(&path)?;
        let path = target.join(path.to_string());
        create_once(&path, &bytes)?;
        written.extend(path.parent().map(Path::to_path_buf));
    }
    for at in reader.certificates()?.into_iter().filter(|at| *at <= size) {
        create_once(&target.join(turn::path(at)), reader.certificate(at)?.to_string().as_bytes())?;
        written.insert(target.join(turn::FOLDER));
    }
    if public.join("policy").is_file() {
        create_once(&target.join("policy"), &read_at_most(&public.join("policy"), POLICY_BYTES_MAX)?)?;
    }
    create_once(&target.join("checkpoint"), note.to_string().as_bytes())?;
    written.iter().try_for_each(|dir| sync_dir(dir))?;
    sync_dir(target)?;
    Ok(size)
}

/// A new folder to go on in from what is published in another one: its tiles, its certificates, and its checkpoint as HEAD, signed by one of
/// `keys`. What was committed behind that checkpoint is left out. Durable when this returns. Returns the number of entries.
///
/// # Errors
/// [`StoreError`]; both target folders must be empty or absent.
pub fn branch(public: &Path, target: &Path, state: &Path, keys: &[VerifierKey]) -> Result<u64, StoreError> {
    let size = export(public, target)?;
    ensure_dir(state)?;
    keys::write(state, keys)?;
    let note = LogReader::new(target).checkpoint()?;
    durable_replace(&state.join("HEAD"), Head::by(&note, keys)?.note.to_string().as_bytes())?;
    Ok(size)
}
