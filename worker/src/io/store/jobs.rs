//! What is on the disk of each job: the secret of its keys, its journal, pinned rows, model states, a result to look at.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::ledger::keyfile::{self, KeyFileError};
use leben_contracts::ledger::store::{durable_replace, ensure_dir};
use leben_privacy::secure_sum::Journal;
use leben_protocol::frame::ContractId;
use zeroize::Zeroizing;

use super::{DiskError, REVIEW, Store, entries_of, keep_private, read_json, to_json};
use crate::agent::StoredJob;
use crate::io::states::StateFolder;

/// Names of pinned rows begin with this; see `work`.
pub(in crate::io) const PIN: &str = "rows-";

impl Store {
    /// Durable: the secret of a job's keys.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_seed(&self, contract: &ContractId, seed: &[u8; 32]) -> Result<(), DiskError> {
        let folder = self.job(contract);
        ensure_dir(&folder)?;
        keep_private(&folder)?;
        let path = folder.join("seed");
        if is_empty(&path) {
            fs::remove_file(&path).map_err(|error| DiskError::Io { what: "remove", path: path.clone(), error })?;
        }
        keyfile::create(&path, seed)?;
        Ok(())
    }

    /// Durable: a job's journal.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_journal(&self, contract: &ContractId, journal: &Journal) -> Result<(), DiskError> {
        let folder = self.job(contract);
        ensure_dir(&folder)?;
        Ok(durable_replace(&folder.join("journal.json"), &to_json(journal))?)
    }

    /// Every job on the disk, whatever is left of it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn jobs(&self) -> Result<BTreeMap<ContractId, StoredJob>, DiskError> {
        let mut jobs = BTreeMap::new();
        for (name, path) in entries_of(&self.folder.join("jobs"))? {
            let Ok(Hash32(id)) = name.parse::<Hash32>() else { continue };
            let seed = match keyfile::load(&path.join("seed")) {
                Err(KeyFileError::Malformed { path }) if is_empty(&path) => None,
                Ok(key) => Some(Zeroizing::new(key.to_bytes())),
                Err(KeyFileError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => None,
                Err(error) => return Err(error.into()),
            };
            let journal = read_json(&path.join("journal.json"))?.unwrap_or_default();
            let pinned = entries_of(&path)?.iter().any(|(name, _)| name.starts_with(PIN));
            jobs.insert(id, StoredJob { seed, journal, pinned });
        }
        Ok(jobs)
    }

    /// Removes what belongs to a job that is over. What a computation wrote there in the meantime goes at the next start.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn forget_job(&self, contract: &ContractId) -> Result<(), DiskError> {
        let path = self.job(contract);
        match fs::remove_dir_all(&path) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(DiskError::Io { what: "remove", path, error })
            }
            _ => Ok(()),
        }
    }

    /// Durable: a result that people are to look at.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_review(&self, contract: &ContractId, bytes: &[u8]) -> Result<(), DiskError> {
        ensure_dir(&self.job(contract))?;
        Ok(durable_replace(&self.job(contract).join(REVIEW), bytes)?)
    }

    /// Where a job's model states lie.
    pub fn states(&self, contract: &ContractId) -> StateFolder {
        StateFolder::new(&self.job(contract))
    }

    fn job(&self, contract: &ContractId) -> PathBuf {
        self.folder.join("jobs").join(hex::encode(contract))
    }
}

/// Of an agent that made its files another way and was killed at it: nothing was said with what is not in it.
fn is_empty(seed: &Path) -> bool {
    fs::metadata(seed).is_ok_and(|file| file.len() == 0)
}
