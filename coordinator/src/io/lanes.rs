//! The lanes of a running sum in a file, for sums larger than memory.
//!
//! May be lost: yes, the slot is abandoned then. Rolled back or forged: a partial sum under masks is as good as random to
//! who reads it; who can write here can spoil a sum, as the coordinator can anyway. Grows: one upload's bytes a slot that is open;
//! the file has no name, so nothing is left behind.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use leben_privacy::layout::ChunkGeometry;
use leben_privacy::{LaneStore, StoreError};

/// One file, blocks at the places their chunks have in an upload.
pub struct LaneFile(File);

impl LaneFile {
    /// A new, empty one in `dir`, which is made if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn create(dir: &Path, name: &str) -> io::Result<LaneFile> {
        fs::create_dir_all(dir)?;
        let path = dir.join(name);
        let file = File::options().create(true).truncate(true).read(true).write(true).open(&path)?;
        fs::remove_file(&path)?;
        Ok(LaneFile(file))
    }
}

impl LaneStore for LaneFile {
    fn read(&self, chunk: &ChunkGeometry, block: &mut [u8]) -> Result<(), StoreError> {
        self.0.read_exact_at(block, chunk.offset).map_err(|error| StoreError(error.to_string()))
    }

    fn write(&self, chunk: &ChunkGeometry, block: &[u8]) -> Result<(), StoreError> {
        self.0.write_all_at(block, chunk.offset).map_err(|error| StoreError(error.to_string()))
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
        let lanes = LaneFile::create(&dir.path().join("lanes"), "slot-1").unwrap();
        assert_eq!(fs::read_dir(dir.path().join("lanes")).unwrap().count(), 0);
        let lanes = Arc::new(lanes);
        let mut sum = Sum::stored(layout, 3, lanes.clone()).unwrap();
        let chunks: Vec<ChunkGeometry> = (0..sum.chunk_count()).filter_map(|i| sum.chunk_geometry(i)).collect();
        for (i, chunk) in chunks.iter().enumerate().rev() {
            sum.add_chunk(i, &vec![0; chunk.bytes]).unwrap();
            let mut one = vec![0; chunk.bytes];
            one[0] = i as u8 + 1;
            sum.add_chunk(i, &one).unwrap();
        }
        for (i, chunk) in chunks.iter().enumerate() {
            let mut block = vec![9; chunk.bytes];
            lanes.read(chunk, &mut block).unwrap();
            assert_eq!(block[0], i as u8 + 1);
            assert!(block[1..].iter().all(|byte| *byte == 0));
        }
        let full = LaneFile(File::options().read(true).write(true).open("/dev/full").unwrap());
        assert!(full.write(&chunks[0], &[0; 16]).unwrap_err().to_string().contains("space"));
    }
}
