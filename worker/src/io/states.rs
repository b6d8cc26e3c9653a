//! Model states in files: fetched once a round, taken up after a cut or a restart, and not fetched at all where they are here.
//!
//! May be lost: yes, fetched again. Rolled back or forged: nothing is used before its SHA-256 is the one that the slot was opened
//! with. Grows: one state a job, of the round that runs; removed with the job.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leben_models::State;
use leben_models::state::{Bytes, STATE_FILE_BYTES_MAX, StateError};
use leben_privacy::SourceError;
use leben_protocol::frame::ContractId;
use leben_protocol::quic::{Blob, BlobReader, Connection, LinkError};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::fs::{self, File};
use tokio::io::AsyncSeekExt;

use super::request;

/// A file that a state's large tensors are read from, for as long as somebody holds it.
struct StateFile {
    file: std::fs::File,
    bytes: u64,
}

impl Bytes for StateFile {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.file.read_exact_at(out, offset).map_err(|error| SourceError(format!("the model's file: {error}")))
    }
}

/// Where a job's states lie.
#[derive(Clone, Debug)]
pub struct StateFolder(PathBuf);

impl StateFolder {
    /// In the folder of a job.
    pub fn new(job: &Path) -> StateFolder {
        StateFolder(job.to_owned())
    }

    fn path(&self, blob: &Blob) -> PathBuf {
        self.0.join(format!("state-{}", hex::encode(blob.digest)))
    }

    /// Removes the states of earlier rounds. What is open stays readable.
    async fn keep_only(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(&self.0).await?;
        let mut entries = fs::read_dir(&self.0).await?;
        while let Some(entry) = entries.next_entry().await? {
            let is_state = entry.file_name().to_string_lossy().starts_with("state-");
            if is_state && entry.path() != path {
                fs::remove_file(entry.path()).await?;
            }
        }
        Ok(())
    }

    /// The state with this digest, from the disk as far as it is there and from the coordinator for the rest. What came before an
    /// error stays for the next try.
    ///
    /// # Errors
    /// The link, the disk as [`LinkError::Local`], or something other than what was asked for.
    pub async fn fetch(
        &self,
        link: &Connection,
        contract: ContractId,
        blob: Blob,
    ) -> Result<Result<State, StateError>, LinkError> {
        let path = self.path(&blob);
        self.keep_only(&path).await.map_err(local)?;
        let mut file =
            File::options().create(true).truncate(false).read(true).write(true).open(&path).await.map_err(local)?;
        let mut reader = BlobReader::new(blob, STATE_FILE_BYTES_MAX)?;
        let kept = reader.resume(&mut file).await.map_err(local)?;
        file.set_len(kept).await.map_err(local)?;
        file.seek(io::SeekFrom::Start(kept)).await.map_err(local)?;
        let fetched = match reader.is_whole() {
            true => reader.verify(),
            false => request::fetch_state(link, contract, (blob, reader), &mut file).await,
        };
        if let Err(error) = &fetched
            && error.reject().and_then(Reject::kind) == Some(RejectCode::DigestMismatch)
        {
            file.set_len(0).await.map_err(local)?;
        }
        fetched?;
        let file = StateFile { file: file.into_std().await, bytes: blob.bytes };
        let read = tokio::task::spawn_blocking(move || State::open(Arc::new(file))).await;
        read.map_err(|error| LinkError::Local { why: error.to_string() })
    }
}

fn local(error: io::Error) -> LinkError {
    LinkError::Local { why: format!("the model state's file: {error}") }
}
