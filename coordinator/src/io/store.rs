//! The coordinator's folder, ledger apart.
//!
//! ```text
//! coordinator.toml          the operator's settings
//! keys/*.key                log, party, link, sealing; next/ and old/ of a rotation (see `rotation`)
//! ledger/                   the published log (tlog-tiles); any web server may serve it
//! state/                    what the ledger needs to restart, see `leben_contracts::ledger::store`; and index/, which can be rebuilt
//! admin/                    the first admin's home, until it is moved elsewhere
//! invites/<code hash>       lost: the newcomer asks again · rolled back: a code could work twice, which the ledger refuses
//! jobs/<contract>/job.json  lost: the job ends as aborted · rolled back: hospitals refuse the used slots
//! jobs/<contract>/<digest>  model states, public to the job's hospitals; grows with stages, not rounds; one that a crash damaged is
//!                           found by its digest, and the job ends as aborted
//! jobs/<contract>/state.part  a state that is being written; lost: worked out again
//! jobs/<contract>/result    sealed to the AI team; the operator can delete it
//! spool/                    see `spool`
//! source/, handover.json    of a Handover: the history that goes on here, and the file that the hospitals signed; see `handover`
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use leben_contracts::ledger::store::durable_replace;
use leben_models::State;
use leben_protocol::frame::ContractId;
use leben_protocol::invite;
use serde::{Deserialize, Serialize};

use super::states;
use crate::checkpoint::Checkpoint;
use crate::model::Model;

/// What an admin fixed when issuing an invite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invited {
    /// The party id the newcomer must take.
    pub party: String,
    /// `hospital`, `team` or `admin`.
    pub kind: String,
    /// Credits that the newcomer is given, for a team.
    pub credits: u64,
    /// When the invite ends, milliseconds since 1970.
    pub expires_ms: u64,
}

/// A job's checkpoint, and the states that it names by digest in hex.
pub type Kept = (Checkpoint, BTreeMap<String, Model>);

/// The name of a state until it has one.
const UNNAMED: &str = "state.part";

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// The folder at `dir`; sub-folders are made.
    pub fn open(dir: &Path) -> io::Result<Store> {
        for folder in ["keys", "invites", "jobs"] {
            fs::create_dir_all(dir.join(folder))?;
        }
        Ok(Store { dir: dir.to_owned() })
    }

    /// A path below the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Keeps an invite until it is used or its time is over.
    pub fn keep_invite(&self, code: &str, invited: &Invited) -> io::Result<()> {
        let bytes = serde_json::to_vec(invited)?;
        durable_replace(&self.dir.join("invites").join(invite::code_hash(code)), &bytes).map_err(io::Error::other)
    }

    /// The invite of this code, if it was issued and not used.
    pub fn invite(&self, code: &str) -> io::Result<Option<Invited>> {
        match fs::read(self.dir.join("invites").join(invite::code_hash(code))) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The code was used.
    pub fn drop_invite(&self, code: &str) -> io::Result<()> {
        match fs::remove_file(self.dir.join("invites").join(invite::code_hash(code))) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Replaces a job's checkpoint durably, then removes states that it no longer names.
    pub fn keep_checkpoint(&self, contract: &ContractId, checkpoint: &Checkpoint) -> io::Result<()> {
        let folder = self.job_folder(contract)?;
        durable_replace(&folder.join("job.json"), &serde_json::to_vec_pretty(checkpoint)?).map_err(io::Error::other)?;
        let named: BTreeSet<&String> = checkpoint.states().chain(&checkpoint.review).collect();
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.len() == 64 && !named.contains(&name) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// A job's checkpoint and the states it names, by digest in hex; without those that are missing or damaged.
    pub fn job(&self, contract: &ContractId) -> io::Result<Option<Kept>> {
        let folder = self.job_folder(contract)?;
        let bytes = match fs::read(folder.join("job.json")) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let checkpoint: Checkpoint = serde_json::from_slice(&bytes)?;
        self.forget_unnamed(contract)?;
        let mut states = BTreeMap::new();
        for name in checkpoint.states() {
            match states::read(&folder.join(name), name) {
                Ok(Some(model)) => drop(states.insert(name.clone(), model)),
                Ok(None) => tracing::error!(state = %name, "a model state is damaged on the disk"),
                Err(error) => tracing::error!(state = %name, %error, "a model state cannot be read from the disk"),
            }
        }
        Ok(Some((checkpoint, states)))
    }

    /// Writes a model state durably to a file that has no name yet. One at a time in each job; takes as long as its size.
    pub fn write_state(&self, contract: &ContractId, state: &State) -> io::Result<Model> {
        states::write(&self.job_folder(contract)?.join(UNNAMED), state)
    }

    /// Gives the state that was written last its digest as its name, durably.
    pub fn name_state(&self, contract: &ContractId, digest: &[u8; 32]) -> io::Result<()> {
        let folder = self.job_folder(contract)?;
        fs::rename(folder.join(UNNAMED), folder.join(hex::encode(digest)))?;
        File::open(&folder)?.sync_all()
    }

    /// A state that was written and is of no use any more.
    pub fn forget_unnamed(&self, contract: &ContractId) -> io::Result<()> {
        match fs::remove_file(self.job_folder(contract)?.join(UNNAMED)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Where a model state lies.
    pub fn state_path(&self, contract: &ContractId, digest: &[u8; 32]) -> io::Result<PathBuf> {
        Ok(self.job_folder(contract)?.join(hex::encode(digest)))
    }

    /// Stores a result that hospitals are to look at.
    pub fn keep_review(&self, contract: &ContractId, digest: &[u8; 32], bytes: &[u8]) -> io::Result<()> {
        durable_replace(&self.state_path(contract, digest)?, bytes).map_err(io::Error::other)
    }

    /// Stores a job's sealed result.
    pub fn keep_result(&self, contract: &ContractId, sealed: &[u8]) -> io::Result<()> {
        durable_replace(&self.result_path(contract)?, sealed).map_err(io::Error::other)
    }

    /// Where a job's sealed result lies.
    pub fn result_path(&self, contract: &ContractId) -> io::Result<PathBuf> {
        Ok(self.job_folder(contract)?.join("result"))
    }

    fn job_folder(&self, contract: &ContractId) -> io::Result<PathBuf> {
        let folder = self.dir.join("jobs").join(hex::encode(contract));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}
