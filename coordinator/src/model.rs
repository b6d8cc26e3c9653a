//! A model state as it lies on the disk: what hospitals fetch, by its digest.

use leben_models::State;
use leben_models::state::StateError;
use sha2::{Digest, Sha256};

/// One state. A large model is not in memory: its tensors are read from the file.
#[derive(Clone, Debug)]
pub struct Model {
    /// The state.
    pub state: State,
    /// SHA-256 of its encoding.
    pub digest: [u8; 32],
    /// Length of its encoding.
    pub bytes: u64,
}

impl Model {
    /// Of an encoding in memory.
    ///
    /// # Errors
    /// Bytes that are no state.
    pub fn from_bytes(bytes: &[u8]) -> Result<Model, StateError> {
        let state = State::from_bytes(bytes)?;
        Ok(Model { state, digest: Sha256::digest(bytes).into(), bytes: bytes.len() as u64 })
    }
}
