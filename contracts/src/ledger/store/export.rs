//! A copy of a published log that holds nothing but what its checkpoint covers, and so verifies to the last byte.

use super::durable::{create_once, ensure_dir, names, read_at_most, sync_dir};
use super::{LogReader, StoreError};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::policy::POLICY_BYTES_MAX;
use crate::ledger::tile::paths;
use crate::ledger::turn;
use std::path::Path;

/// Copies `checkpoint`, `policy` (if there is one), the certificates and exactly the tiles of the checkpoint's size from one folder to a new one. Safe while
/// the log is being written. Returns the number of entries.
///
/// # Errors
/// [`StoreError`]; the target folder must be empty or absent.
pub fn export(public: &Path, target: &Path) -> Result<u64, StoreError> {
    ensure_dir(target)?;
    if !names(target)?.is_empty() {
        let why = "an export needs an empty folder, and this one is not".to_owned();
        return Err(StoreError::Corrupt { path: target.to_path_buf(), why });
    }
    let reader = LogReader::new(public);
    let note = reader.checkpoint()?;
    let size = Checkpoint::of(&note)?.size;
    for path in paths(size) {
        let bytes = reader.tile_bytes(&path)?;
        create_once(&target.join(path.to_string()), &bytes)?;
    }
    for at in reader.certificates()?.into_iter().filter(|at| *at <= size) {
        create_once(&target.join(turn::path(at)), reader.certificate(at)?.to_string().as_bytes())?;
    }
    if public.join("policy").is_file() {
        create_once(&target.join("policy"), &read_at_most(&public.join("policy"), POLICY_BYTES_MAX)?)?;
    }
    create_once(&target.join("checkpoint"), note.to_string().as_bytes())?;
    sync_dir(target)?;
    Ok(size)
}
