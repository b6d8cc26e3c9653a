//! Uploads on disk until their root is verified and they are in the sum. Nothing that arrived is asked for again: of a chunk that
//! a cut stopped half way, the first part waits in memory.
//!
//! May be lost: yes, the hospital sends again from where the coordinator says. Rolled back or forged: the signed root is
//! checked over what was received. Grows: one masked vector a hospital, of the open slot alone; emptied at every start.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use leben_privacy::merkle;
use leben_protocol::frame::ContractId;

use super::lanes::LaneFile;

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
    /// Where each chunk ends.
    ends: Vec<u64>,
    leaves: Vec<[u8; 32]>,
    /// The beginning of the next chunk.
    part: Vec<u8>,
    /// Counts the streams that this upload came on; only the last of them may store.
    stream: u64,
    /// Held by the stream that stores.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// How far an upload has come, as its hospital is told on a new stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Number of the stream.
    pub stream: u64,
    /// Index of the next chunk.
    pub next_index: u64,
    /// Bytes of that chunk which are here already.
    pub held_bytes: u32,
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
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        let (ends, leaves, part) = (Vec::new(), Vec::new(), Vec::new());
        let upload = Arc::new(Mutex::new(Upload { file, path, ends, leaves, part, stream: 0, turn: Arc::default() }));
        uploads.insert(id, upload.clone());
        Ok(upload)
    }

    /// Stored chunks of an upload from `first` on, at most `count` of them.
    ///
    /// # Errors
    /// The file cannot be read, or a chunk is not what was stored.
    pub fn read(&self, id: UploadId, first: u64, count: usize) -> io::Result<Vec<Vec<u8>>> {
        let upload = self.upload(id)?;
        let upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
        let first = usize::try_from(first).map_err(io::Error::other)?;
        let mut start = first.checked_sub(1).and_then(|before| upload.ends.get(before)).copied().unwrap_or(0);
        let mut chunks = Vec::new();
        for (end, leaf) in upload.ends.iter().zip(&upload.leaves).skip(first).take(count) {
            let bytes = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
            let mut chunk = vec![0; bytes];
            upload.file.read_exact_at(&mut chunk, start)?;
            if merkle::leaf_hash(&chunk) != *leaf {
                return Err(changed(id, &upload.path));
            }
            chunks.push(chunk);
            start = *end;
        }
        Ok(chunks)
    }

    /// Where the lanes of a slot's sum live: in a file without a name, in the same folder.
    pub fn lanes(&self) -> LaneFile {
        LaneFile::new(&self.dir)
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

    /// Whoever holds it stores. The stream before a new one may still be taking in what arrived while its link went down.
    pub fn turn(&self) -> Arc<tokio::sync::Mutex<()>> {
        self.turn.clone()
    }

    /// A new stream begins; those before it may not store any more.
    pub fn begin(&mut self) -> Standing {
        self.stream = self.stream.saturating_add(1);
        let held_bytes = u32::try_from(self.part.len()).unwrap_or(0);
        Standing { stream: self.stream, next_index: self.chunks(), held_bytes }
    }

    /// Whether this stream is the last one.
    pub fn is_current(&self, stream: u64) -> bool {
        stream == self.stream
    }

    /// Stores the rest of the next chunk, or all of it where nothing of it is held. `fits` sees it whole, and it is stored only
    /// if that says yes.
    pub fn push(&mut self, bytes: &[u8], fits: impl FnOnce(&[u8]) -> bool) -> io::Result<bool> {
        self.part.extend_from_slice(bytes);
        let chunk = std::mem::take(&mut self.part);
        if !fits(&chunk) {
            return Ok(false);
        }
        // Not at the file's cursor: a write that a full disk cut has moved it, and the chunk comes again.
        let start = self.ends.last().copied().unwrap_or(0);
        self.file.write_all_at(&chunk, start)?;
        self.ends.push(start.saturating_add(chunk.len() as u64));
        self.leaves.push(merkle::leaf_hash(&chunk));
        Ok(true)
    }

    /// Keeps what arrived of the next chunk when its stream was cut; less than `bytes_max` bytes of it in all.
    pub fn hold(&mut self, bytes: &[u8], bytes_max: usize) {
        if self.part.len().saturating_add(bytes.len()) < bytes_max {
            self.part.extend_from_slice(bytes);
        }
    }

    /// Root over the chunks, as the hospital must have signed it.
    pub fn root(&self) -> [u8; 32] {
        merkle::root(&self.leaves)
    }
}

fn changed(id: UploadId, path: &Path) -> io::Error {
    let text = format!(
        "the upload of the hospital in seat {} for slot {} is not on the disk as it was stored ({}): check the disk",
        id.seat,
        id.slot,
        path.display()
    );
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, SeekFrom, Write};

    use super::*;

    #[test]
    fn chunks_come_back_in_order_and_a_discarded_slot_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        let id = UploadId { contract: [1; 32], slot: 4, seat: 2 };
        for chunk in [&b"first"[..], b"second one", b"3"] {
            assert!(spool.upload(id).unwrap().lock().unwrap().push(chunk, |_| true).unwrap());
        }
        assert_eq!(spool.read(id, 0, 2).unwrap(), [b"first".to_vec(), b"second one".to_vec()]);
        assert_eq!(spool.read(id, 1, 9).unwrap(), [b"second one".to_vec(), b"3".to_vec()]);
        assert!(spool.read(id, 3, 9).unwrap().is_empty());
        assert_eq!(spool.upload(id).unwrap().lock().unwrap().chunks(), 3);
        spool.discard([1; 32], 3);
        assert_eq!(spool.upload(id).unwrap().lock().unwrap().chunks(), 3);
        spool.discard([1; 32], 4);
        assert_eq!(spool.upload(id).unwrap().lock().unwrap().chunks(), 0);
    }

    /// A full disk cuts a write after some bytes, and the chunk is sent again.
    #[test]
    fn a_cut_write_leaves_nothing_behind_and_a_flipped_bit_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        let id = UploadId { contract: [1; 32], slot: 4, seat: 2 };
        let upload = spool.upload(id).unwrap();
        assert!(upload.lock().unwrap().push(b"first", |_| true).unwrap());
        upload.lock().unwrap().file.seek(SeekFrom::Start(5)).unwrap();
        upload.lock().unwrap().file.write_all(b"seco").unwrap();
        assert!(upload.lock().unwrap().push(b"second one", |_| true).unwrap());
        assert_eq!(spool.read(id, 0, 2).unwrap(), [b"first".to_vec(), b"second one".to_vec()]);
        upload.lock().unwrap().file.write_all_at(b"S", 5).unwrap();
        assert_eq!(spool.read(id, 0, 1).unwrap(), [b"first".to_vec()]);
        let error = spool.read(id, 0, 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        assert!(error.to_string().contains("seat 2 for slot 4"), "{error}");
    }

    /// Whatever was held of a chunk is completed by the rest of it; what does not fit is not stored.
    #[test]
    fn a_chunk_may_come_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(&folder.path().join("spool")).unwrap();
        let id = UploadId { contract: [1; 32], slot: 4, seat: 2 };
        let upload = spool.upload(id).unwrap();
        let mut upload = upload.lock().unwrap();
        assert_eq!(upload.begin(), Standing { stream: 1, next_index: 0, held_bytes: 0 });
        upload.hold(b"ab", 5);
        upload.hold(b"cde", 5);
        upload.hold(b"cd", 5);
        assert_eq!(upload.begin(), Standing { stream: 2, next_index: 0, held_bytes: 4 });
        assert!(!upload.is_current(1) && upload.is_current(2));
        assert!(upload.push(b"e", |chunk| chunk == b"abcde").unwrap());
        assert_eq!(upload.root(), merkle::root(&[merkle::leaf_hash(b"abcde")]));
        assert!(!upload.push(b"too long", |chunk| chunk.len() == 5).unwrap());
        assert_eq!(upload.begin(), Standing { stream: 3, next_index: 1, held_bytes: 0 });
        drop(upload);
        assert_eq!(spool.read(id, 0, 9).unwrap(), [b"abcde".to_vec()]);
    }
}
