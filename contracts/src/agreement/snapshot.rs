//! A replay on disk, so that a start need not begin at the first entry. Only a cache: it is bound to the log by the root over the
//! entries it stands for, to the code by a number for its source text, and to itself by hashes; whoever cannot use one replays.
//!
//! Nearly all of a state is its past, which does not change any more. It lies in *parts*, files that are written once and named by their SHA-256;
//! each snapshot adds one with what is new. Only the rest, which is about as large as what is going on in the network, is written every time:
//!
//! ```text
//! "leben-snapshot/2\n"  source (16 hex digits)  size  root  number of contracts
//! number of parts, each: length, SHA-256        length and JSON of the state without what is in the parts and without contracts
//! contracts that have not ended, see `snapshot_part.rs`      SHA-256 of everything before
//! ```
//!
//! Numbers are 8 bytes, big-endian. For how the files become durable see `snapshot_files.rs`.
//!
//! | grows | with | where |
//! |---|---|---|
//! | ended contracts, receipts of deposits | entries, for ever | parts |
//! | payload hashes | entries of the time in which an action is valid, and an hour | parts, 49 bytes each |
//! | open contracts, what is held, parties, offers, budgets | what is going on | every snapshot |
//! | the list of the parts | one in [`ENTRIES_MIN`] entries, 40 bytes | every snapshot |

use super::contract::Contract;
use super::snapshot_part::{Marks, News, Reader, join, open};
use super::state::State;
use crate::ledger::merkle::Hash;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::sync::Arc;

#[cfg(feature = "fs")]
pub use super::snapshot_files::Snapshots;

const HEADER: &[u8] = b"leben-snapshot/2\n";
/// Changes with every change of this crate's source text.
const SOURCE: &[u8] = env!("LEBEN_CONTRACTS_SOURCE").as_bytes();
/// A snapshot is due after so many entries, or after one for every [`BYTES_PER_ENTRY`] of the last one, whichever is more.
pub const ENTRIES_MIN: u64 = 4096;
/// See [`ENTRIES_MIN`]: no more than about this is written for an entry, however much is going on in the network.
pub const BYTES_PER_ENTRY: u64 = 8192;
/// A part is not much longer.
const PART_BYTES_MAX: usize = 1 << 23;

/// Why a snapshot is not used. Nothing is lost by it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Not what was written.
    #[error("it is damaged: {0}")]
    Damaged(&'static str),
    /// Written by another build.
    #[error("it was written by another version of this program")]
    Version,
    /// Of another log, or of a history that this log does not have.
    #[error("it belongs to another log or another history")]
    Log,
}

/// Whether it is time for a new one: `size` entries are final, the last one stands for `last` and was `bytes` long without its parts.
pub(super) fn is_due(size: u64, last: u64, bytes: u64) -> bool {
    size.saturating_sub(last) >= ENTRIES_MIN.max(bytes / BYTES_PER_ENTRY)
}

/// A file that many snapshots name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) len: u64,
    pub(super) digest: [u8; 32],
}

impl Part {
    pub(super) fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len() as u64, digest: Sha256::digest(bytes).into() }
    }
}

/// What one snapshot says, taken from a state in little time.
#[derive(Debug)]
pub struct Cut {
    rest: State,
    open: Vec<Arc<Contract>>,
    contracts: u64,
    news: News,
    root: Hash,
    pub(super) marks: Marks,
}

impl Cut {
    pub(super) fn new(state: &State, root: &Hash, since: &Marks) -> Self {
        Self {
            rest: state.without_past(),
            open: state.contracts.open_shared().cloned().collect(),
            contracts: state.contracts.len() as u64,
            news: News::since(since, state),
            root: *root,
            marks: Marks::of(state),
        }
    }

    /// Entries that it stands for.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.rest.next_index()
    }

    /// The parts to add.
    pub(super) fn parts(&self) -> Vec<Vec<u8>> {
        self.news.files(PART_BYTES_MAX)
    }

    /// The snapshot, given all its parts.
    pub(super) fn encode(&self, parts: &[Part]) -> Result<Vec<u8>, SnapshotError> {
        let rest = serde_json::to_vec(&self.rest).map_err(|_| SnapshotError::Damaged("the state has no JSON"))?;
        let open = open(&self.open)?;
        let mut out = [HEADER, SOURCE, &self.size().to_be_bytes(), &self.root, &self.contracts.to_be_bytes()].concat();
        out.extend_from_slice(&(parts.len() as u64).to_be_bytes());
        for part in parts {
            out.extend_from_slice(&part.len.to_be_bytes());
            out.extend_from_slice(&part.digest);
        }
        out.extend_from_slice(&(rest.len() as u64).to_be_bytes());
        out.extend_from_slice(&rest);
        out.extend_from_slice(&open);
        let digest = Sha256::digest(&out);
        out.extend_from_slice(&digest);
        Ok(out)
    }
}

/// A snapshot without its parts.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) root: Hash,
    pub(super) parts: Vec<Part>,
    contracts: u64,
    rest: State,
    open: Vec<u8>,
}

/// Decodes a snapshot of the log with this origin. The caller compares the root with the log's own.
pub(super) fn decode(bytes: &[u8], origin: &str) -> Result<Frame, SnapshotError> {
    let (body, digest) = bytes.split_last_chunk::<32>().ok_or(SnapshotError::Damaged("it is too short"))?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(SnapshotError::Damaged("its hash does not match its content"));
    }
    let body = body.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix(SOURCE)).ok_or(SnapshotError::Version)?;
    let mut reader = Reader::new(body);
    let (size, root, contracts) = (reader.number()?, reader.chunk()?, reader.number()?);
    let mut parts = Vec::new();
    for _ in 0..reader.number()? {
        parts.push(Part { len: reader.number()?, digest: reader.chunk()? });
    }
    let rest: State =
        serde_json::from_slice(reader.run()?).map_err(|_| SnapshotError::Damaged("the state cannot be read"))?;
    if rest.origin() != origin || rest.next_index() != size {
        return Err(SnapshotError::Log);
    }
    Ok(Frame { root, parts, contracts, rest, open: reader.rest().to_vec() })
}

impl Frame {
    /// Entries that it stands for.
    pub(super) fn size(&self) -> u64 {
        self.rest.next_index()
    }

    /// The state, from the parts as they are read.
    pub(super) fn state(
        self,
        read: impl Fn(&Part) -> Result<Vec<u8>, SnapshotError> + Sync,
    ) -> Result<State, SnapshotError> {
        let checked = |part: &Part| match read(part)? {
            bytes if Part::of(&bytes) == *part => Ok(bytes),
            _ => Err(SnapshotError::Damaged("a part is not what was written")),
        };
        let mut files: Vec<Vec<u8>> = self.parts.par_iter().map(checked).collect::<Result<_, _>>()?;
        files.push(self.open);
        let mut state = self.rest;
        join(&mut state, files)?;
        match state.contracts_len() as u64 == self.contracts {
            true => Ok(state),
            false => Err(SnapshotError::Damaged("a contract is missing")),
        }
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
