//! The lanes of a running sum in a file, for sums larger than memory.
//!
//! May be lost: yes, the slot is abandoned then. Rolled back or forged: a partial sum under masks is as good as random to
//! who reads it; who can write here can spoil a sum, as the coordinator can anyway. Grows: one upload's bytes a slot that is open;
//! the file has no name, so nothing is left behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use leben_privacy::layout::ChunkGeometry;
use leben_privacy::{LaneStore, StoreError};

/// One file, made with the first block, blocks at the places their chunks have in an upload.
pub struct LaneFile {
    dir: PathBuf,
    file: Mutex<Option<Arc<File>>>,
}

impl LaneFile {
    /// Nothing yet; its file will be in `dir`.
    pub fn new(dir: &Path) -> LaneFile {
        LaneFile { dir: dir.to_owned(), file: Mutex::default() }
    }

    fn file(&self) -> io::Result<Arc<File>> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = &*file {
            return Ok(file.clone());
        }
        let path = self.dir.join(format!("lanes-{:p}", std::ptr::from_ref(self)));
        let made = Arc::new(File::options().create(true).truncate(true).read(true).write(true).open(&path)?);
        fs::remove_file(&path)?;
        *file = Some(made.clone());
        Ok(made)
    }
}

impl LaneStore for LaneFile {
    fn read(&self, chunk: &ChunkGeometry, block: &mut [u8]) -> Result<(), StoreError> {
        let read = self.file().and_then(|file| file.read_exact_at(block, chunk.offset));
        read.map_err(|error| StoreError(error.to_string()))
    }

    fn write(&self, chunk: &ChunkGeometry, block: &[u8]) -> Result<(), StoreError> {
        let written = self.file().and_then(|file| file.write_all_at(block, chunk.offset));
        written.map_err(|error| StoreError(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use leben_privacy::{Encoding, Layout, SegmentSpec, Sum};

    use super::*;

    /// Chunks that come in any order find their place; nothing is left in the folder; a full disk is an error in words.
    #[test]
    fn a_sum_lives_in_a_file_without_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let encoding = Encoding::Compact { clip: 1.0, bits: 16 };
        let layout = Layout { segments: vec![SegmentSpec { name: "w".into(), len: 300_000, encoding, noise: None }] };
        let lanes = Arc::new(LaneFile::new(dir.path()));
        let mut sum = Sum::stored(layout, 3, lanes.clone()).unwrap();
        let chunks: Vec<ChunkGeometry> = (0..sum.chunk_count()).filter_map(|i| sum.chunk_geometry(i)).collect();
        for (i, chunk) in chunks.iter().enumerate().rev() {
            sum.add_chunk(i, &vec![0; chunk.bytes]).unwrap();
            let mut one = vec![0; chunk.bytes];
            one[0] = i as u8 + 1;
            sum.add_chunk(i, &one).unwrap();
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        for (i, chunk) in chunks.iter().enumerate() {
            let mut block = vec![9; chunk.bytes];
            lanes.read(chunk, &mut block).unwrap();
            assert_eq!(block[0], i as u8 + 1);
            assert!(block[1..].iter().all(|byte| *byte == 0));
        }
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let full = LaneFile { dir: dir.path().to_owned(), file: Mutex::new(Some(Arc::new(full))) };
        assert!(full.write(&chunks[0], &[0; 16]).unwrap_err().to_string().contains("space"));
        let nowhere = LaneFile::new(&dir.path().join("gone"));
        assert!(nowhere.write(&chunks[0], &[0; 16]).is_err());
    }
}
