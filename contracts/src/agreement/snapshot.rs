//! A replay as bytes, so that a start need not begin at the first entry. Only a cache: it is bound to the log by the root over the
//! entries it stands for, to the code by a number for its source text, and to itself by a hash; whoever cannot use one replays.
//!
//! ```text
//! "leben-snapshot/1\n"  source (16 hex digits)  size  root  length and JSON of the state without ended contracts
//! count of ended contracts, each: id, length, JSON        SHA-256 of everything before
//! ```
//!
//! Numbers are 8 bytes, big-endian.

use super::hash::Hash32;
use super::state::State;
use crate::ledger::merkle::Hash;
use sha2::{Digest, Sha256};

const HEADER: &[u8] = b"leben-snapshot/1\n";
/// Changes with every change of this crate's source text.
const SOURCE: &[u8] = env!("LEBEN_CONTRACTS_SOURCE").as_bytes();
/// A snapshot is due after so many entries, or after one in [`SPACING`] of what it stands for, whichever is more.
pub const ENTRIES_MIN: u64 = 32_768;
/// See [`ENTRIES_MIN`].
pub const SPACING: u64 = 32;

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

/// Whether it is time for a new one: `size` entries are final, the last one stands for `last`.
#[must_use]
pub fn is_due(size: u64, last: u64) -> bool {
    size.saturating_sub(last) >= ENTRIES_MIN.max(size / SPACING)
}

/// Encodes a state and the root of the log's first [`State::next_index`] entries.
///
/// # Errors
/// None for a state that came from entries.
pub fn encode(state: &State, root: &Hash) -> Result<Vec<u8>, SnapshotError> {
    let (live, ended) = state.split();
    let live = serde_json::to_vec(&live).map_err(|_| SnapshotError::Damaged("the state has no JSON"))?;
    let mut out = Vec::with_capacity(live.len().saturating_add(1 << 16));
    out.extend_from_slice(HEADER);
    out.extend_from_slice(SOURCE);
    out.extend_from_slice(&state.next_index().to_be_bytes());
    out.extend_from_slice(root);
    put(&mut out, &live);
    let count_at = out.len();
    out.extend_from_slice(&[0; 8]);
    let mut count = 0u64;
    for (id, json) in ended {
        out.extend_from_slice(&id.0);
        put(&mut out, json);
        count = count.saturating_add(1);
    }
    if let Some(place) = out.get_mut(count_at..).and_then(<[u8]>::first_chunk_mut::<8>) {
        *place = count.to_be_bytes();
    }
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    Ok(out)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u64).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Decodes a snapshot of the log with this origin. The caller compares the root with the log's own.
///
/// # Errors
/// [`SnapshotError`].
pub fn decode(bytes: &[u8], origin: &str) -> Result<(State, Hash), SnapshotError> {
    let (body, digest) = bytes.split_last_chunk::<32>().ok_or(SnapshotError::Damaged("it is too short"))?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(SnapshotError::Damaged("its hash does not match its content"));
    }
    let rest = body.strip_prefix(HEADER).and_then(|rest| rest.strip_prefix(SOURCE)).ok_or(SnapshotError::Version)?;
    let mut rest = Reader(rest);
    let size = rest.number()?;
    let root = *rest.chunk::<32>()?;
    let mut state: State =
        serde_json::from_slice(rest.run()?).map_err(|_| SnapshotError::Damaged("the state cannot be read"))?;
    for _ in 0..rest.number()? {
        let id = Hash32(*rest.chunk::<32>()?);
        state.join(id, rest.run()?.to_vec());
    }
    if !rest.0.is_empty() {
        return Err(SnapshotError::Damaged("it goes on behind its end"));
    }
    if state.origin() != origin || state.next_index() != size {
        return Err(SnapshotError::Log);
    }
    Ok((state, root))
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn chunk<const N: usize>(&mut self) -> Result<&'a [u8; N], SnapshotError> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(SnapshotError::Damaged("it ends early"))?;
        self.0 = rest;
        Ok(chunk)
    }

    fn number(&mut self) -> Result<u64, SnapshotError> {
        self.chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
    }

    fn run(&mut self) -> Result<&'a [u8], SnapshotError> {
        let early = SnapshotError::Damaged("it ends early");
        let len = usize::try_from(self.number()?).map_err(|_| early.clone())?;
        let (run, rest) = self.0.split_at_checked(len).ok_or(early)?;
        self.0 = rest;
        Ok(run)
    }
}

#[cfg(feature = "fs")]
mod file {
    use super::{Hash, SnapshotError, State, decode, encode};
    use crate::ledger::store::{LogReader, StoreError, durable_replace, read_if_there};
    use std::path::{Path, PathBuf};

    const BYTES_MAX: usize = 1 << 36;

    fn path(dir: &Path) -> PathBuf {
        dir.join("snapshot")
    }

    /// Writes the snapshot into a state folder, durably; the one before is replaced.
    ///
    /// # Errors
    /// [`StoreError`]: exit.
    pub fn save(dir: &Path, state: &State, root: &Hash) -> Result<(), StoreError> {
        match encode(state, root) {
            Ok(bytes) => durable_replace(&path(dir), &bytes),
            Err(error) => Err(StoreError::Corrupt { path: path(dir), why: error.to_string() }),
        }
    }

    /// Reads the snapshot from a state folder. It is of use if it stands for the beginning of `log`, of which `size` entries are
    /// committed, and for no more than the `size_max` that are final. None when there is none.
    ///
    /// # Errors
    /// [`SnapshotError`]: replay the log from its first entry.
    pub fn load(
        dir: &Path,
        origin: &str,
        log: &LogReader,
        size: u64,
        size_max: u64,
    ) -> Result<Option<State>, SnapshotError> {
        let unread = |_| SnapshotError::Damaged("it cannot be read");
        let Some(bytes) = read_if_there(&path(dir), BYTES_MAX).map_err(unread)? else { return Ok(None) };
        let (state, root) = decode(&bytes, origin)?;
        let taken = state.next_index();
        if taken > size_max || log.root_at(taken, size).ok() != Some(root) {
            return Err(SnapshotError::Log);
        }
        Ok(Some(state))
    }
}
#[cfg(feature = "fs")]
pub use file::{load, save};

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
