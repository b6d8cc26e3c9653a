//! Uploads on disk until their root is verified and they are in the sum.
//!
//! May be lost: yes, the hospital sends again from where the coordinator says. Rolled back or forged: the signed root is
//! checked over what was received. Grows: one masked vector a hospital, of the open slot alone; emptied at every start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use leben_privacy::merkle;
use leben_protocol::frame::ContractId;

/// Which upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UploadId {
    /// The job's contract.
    pub contract: ContractId,
    /// The slot.
    pub slot: u64,
    /// The hospital's seat.
    pub seat: u16,
}

/// One upload: its file, and what its chunks are.
pub struct Upload {
    file: File,
    path: PathBuf,
    chunk_bytes: Vec<u32>,
    leaves: Vec<[u8; 32]>,
}

/// All uploads of the open slots.
pub struct Spool {
    dir: PathBuf,
    uploads: Mutex<HashMap<UploadId, Arc<Mutex<Upload>>>>,
}

impl Spool {
    /// An empty spool in `dir`.
    pub fn open(dir: &Path) -> io::Result<Spool> {
        if dir.exists() {
            fs::remove_dir_all(dir)?;
        }
        fs::create_dir_all(dir)?;
        Ok(Spool { dir: dir.to_owned(), uploads: Mutex::default() })
    }

    /// The upload, begun or found as far as it came.
    pub fn upload(&self, id: UploadId) -> io::Result<Arc<Mutex<Upload>>> {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(upload) = uploads.get(&id) {
            return Ok(upload.clone());
        }
        let path = self.dir.join(format!("{}-{}-{}", hex::encode(id.contract), id.slot, id.seat));
        let file = File::options().create(true).truncate(true).write(true).open(&path)?;
        let upload = Arc::new(Mutex::new(Upload { file, path, chunk_bytes: Vec::new(), leaves: Vec::new() }));
        uploads.insert(id, upload.clone());
        Ok(upload)
    }

    /// Hands the stored chunks of an upload to `take`, in order.
    pub fn read<E: From<io::Error>>(
        &self,
        id: UploadId,
        mut take: impl FnMut(u64, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let upload = self.upload(id)?;
        let upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = File::open(&upload.path)?;
        let mut chunk = Vec::new();
        for (index, bytes) in (0u64..).zip(&upload.chunk_bytes) {
            chunk.resize(*bytes as usize, 0);
            file.read_exact(&mut chunk)?;
            take(index, &chunk)?;
        }
        Ok(())
    }

    /// Throws away all uploads of a slot, and of earlier slots of the same job.
    pub fn discard(&self, contract: ContractId, slot: u64) {
        let mut uploads = self.uploads.lock().unwrap_or_else(PoisonError::into_inner);
        uploads.retain(|id, upload| {
            let stale = id.contract == contract && id.slot <= slot;
            if stale {
                let upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
                if let Err(error) = fs::remove_file(&upload.path) {
                    tracing::warn!(%error, "a spooled upload could not be removed");
                }
            }
            !stale
        });
    }
}

impl Upload {
    /// Chunks stored so far: the index of the next one.
    pub fn chunks(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// Stores the next chunk.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.chunk_bytes.push(u32::try_from(bytes.len()).map_err(io::Error::other)?);
        self.leaves.push(merkle::leaf_hash(bytes));
        Ok(())
    }

    /// Root over the chunks, as the hospital must have signed it.
    pub fn root(&self) -> [u8; 32] {
        merkle::root(&self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_come_back_in_order_and_a_discarded_slot_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        let id = UploadId { contract: [1; 32], slot: 4, seat: 2 };
        for chunk in [&b"first"[..], b"second one"] {
            spool.upload(id).unwrap().lock().unwrap().push(chunk).unwrap();
        }
        let mut seen = Vec::new();
        spool
            .read::<io::Error>(id, |index, bytes| {
                seen.push((index, bytes.to_vec()));
                Ok(())
            })
            .unwrap();
        assert_eq!(seen, [(0, b"first".to_vec()), (1, b"second one".to_vec())]);
        assert_eq!(spool.upload(id).unwrap().lock().unwrap().chunks(), 2);
        spool.discard([1; 32], 3);
        assert_eq!(spool.upload(id).unwrap().lock().unwrap().chunks(), 2);
        spool.discard([1; 32], 4);
        assert_eq!(spool.upload(id).unwrap().lock().unwrap().chunks(), 0);
    }
}
