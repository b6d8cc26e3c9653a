//! Where the lanes of a running sum live: in memory, or in a file of the coordinator's when a sum is larger than memory.

use std::sync::Arc;

use crate::kernel::Level;
use crate::layout::{ChunkGeometry, Geometry, Ring};
use crate::pack::{fold_narrow, fold_wide, pack_narrow, pack_wide};

/// Blocks of bytes, one a chunk, of exactly the length and order of the chunks on the wire
/// ([`ChunkGeometry::bytes`] at [`ChunkGeometry::offset`]). A block is a partial sum under pads: as little to be learnt from as
/// what came over the wire.
///
/// Blocks of different chunks are read and written from several threads at once, one block never. Nothing has to survive a restart.
pub trait LaneStore: Send + Sync {
    /// Fills `block` with what was last written for this chunk. Never asked for a block that was not written.
    ///
    /// # Errors
    /// Whatever kept it from being read; the sum is lost.
    fn read(&self, chunk: &ChunkGeometry, block: &mut [u8]) -> Result<(), StoreError>;

    /// Keeps `block` for this chunk.
    ///
    /// # Errors
    /// Whatever kept it from being written; the sum is lost.
    fn write(&self, chunk: &ChunkGeometry, block: &[u8]) -> Result<(), StoreError>;
}

/// Why a block could not be read or written, in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(pub String);

/// The lanes of one chunk.
#[derive(Clone)]
pub(crate) enum Lanes {
    Wide(Vec<u64>),
    Narrow { lanes: Vec<u32>, bits: u32 },
}

impl Lanes {
    /// All zero; empty for a chunk that does not exist.
    pub fn zero(geometry: &Geometry, i: usize) -> Self {
        let chunk = geometry.chunk(i);
        let lanes = chunk.map_or(0, |chunk| chunk.lanes);
        match chunk.and_then(|chunk| geometry.ring(chunk.segment)) {
            Some(Ring::Narrow { bits, .. }) => Lanes::Narrow { lanes: vec![0; lanes], bits },
            _ => Lanes::Wide(vec![0; lanes]),
        }
    }

    /// Adds or subtracts a chunk whose length was checked.
    pub fn fold(&mut self, level: Level, bytes: &[u8], negative: bool) {
        match self {
            Lanes::Wide(lanes) => fold_wide(bytes, lanes, negative),
            Lanes::Narrow { lanes, bits } => fold_narrow(level, bytes, *bits, lanes, negative),
        }
    }

    fn pack(&self, level: Level, out: &mut [u8]) {
        match self {
            Lanes::Wide(lanes) => pack_wide(lanes, out),
            Lanes::Narrow { lanes, bits } => pack_narrow(level, lanes, *bits, out),
        }
    }
}

/// The lanes of every chunk.
pub(crate) enum Storage {
    /// `None` until the first chunk is added.
    Memory(Vec<Option<Lanes>>),
    Outside(Arc<dyn LaneStore>),
}

/// The lanes of chunk `i` from a store; zero where nothing was written yet.
pub(crate) fn load(store: &dyn LaneStore, geometry: &Geometry, i: usize, written: bool) -> Result<Lanes, StoreError> {
    let mut lanes = Lanes::zero(geometry, i);
    if let (Some(chunk), true) = (geometry.chunk(i), written) {
        let mut block = vec![0; chunk.bytes];
        store.read(&chunk, &mut block)?;
        lanes.fold(Level::detect(), &block, false);
    }
    Ok(lanes)
}

/// Puts the lanes of one chunk back into a store.
pub(crate) fn keep(store: &dyn LaneStore, chunk: &ChunkGeometry, lanes: &Lanes) -> Result<(), StoreError> {
    let mut block = vec![0; chunk.bytes];
    lanes.pack(Level::detect(), &mut block);
    store.write(chunk, &block)
}
