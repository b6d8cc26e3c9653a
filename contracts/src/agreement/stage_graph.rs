//! The graph of stages: acyclic because dependencies have lower ids, and named by one Merkle root.

use super::hash::Hash32;
use super::terms::{Stage, Terms};
use crate::ledger::canonical::{self, CanonicalError};
use crate::ledger::merkle;

impl Terms {
    /// The Merkle root (RFC 6962 section 2.1) over the stages in order, each leaf a stage's canonical JSON. The entry that arms the
    /// contract names it, so one stage can be proved to an executor without the whole terms.
    ///
    /// # Errors
    /// Numbers beyond 2^53.
    pub fn dag_root(&self) -> Result<Hash32, CanonicalError> {
        let leaves = self.stages.iter().map(stage_leaf).collect::<Result<Vec<_>, _>>()?;
        Ok(Hash32(merkle::root_of(&leaves)))
    }
}

fn stage_leaf(stage: &Stage) -> Result<[u8; 32], CanonicalError> {
    Ok(merkle::leaf_hash(&canonical::to_bytes(stage)?))
}
