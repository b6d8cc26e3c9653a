//! A proof that travels alone (C2SP tlog-proof): index, inclusion path and cosigned checkpoint of one entry, verified offline.

use super::checkpoint::{Checkpoint, CheckpointError, hash_line, parse_hash, parse_size};
use super::merkle::{self, Hash, ProofError, leaf_hash};
use super::note::Note;
use super::policy::{Policy, PolicyError, Satisfied, UnknownSigners};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;

/// Largest proof file, in bytes.
pub const PROOF_BYTES_MAX: usize = 128 * 1024;

const HEADER: &str = "c2sp.org/tlog-proof@v1\n";
const PATH_LEN_MAX: usize = 63;

/// Why a proof is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// The file has another form.
    #[error("not a proof file: {0}")]
    Format(&'static str),
    /// Its checkpoint has another form.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Its checkpoint does not meet the policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The entry is not where it says.
    #[error("entry {index} is not proven to be in the log: {source}")]
    Inclusion {
        /// The index claimed.
        index: u64,
        /// Why.
        source: ProofError,
    },
}

/// One entry's proof.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlogProof {
    /// Opaque data for the application; this project writes none. Not signed by anybody.
    pub extra: Option<Vec<u8>>,
    /// The entry's index.
    pub index: u64,
    /// Inclusion path, nearest sibling first.
    pub path: Vec<Hash>,
    /// The checkpoint whose tree holds the entry.
    pub note: Note,
}

impl TlogProof {
    /// Parses a proof file.
    ///
    /// # Errors
    /// Anything but the one spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        let format = TlogProofError::Format;
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(format("longer than 128 KiB"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| format("not UTF-8"))?;
        let text = text.strip_prefix(HEADER).ok_or(format("the first line is not `c2sp.org/tlog-proof@v1`"))?;
        let (head, note) = text.split_once("\n\n").ok_or(format("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        let extra = lines.next_if(|l| l.starts_with("extra ")).and_then(|l| l.strip_prefix("extra "));
        let extra = extra.map(|e| BASE64.decode(e).map_err(|_| format("the extra data is not base64"))).transpose()?;
        let index = lines.next().and_then(|l| l.strip_prefix("index ")).and_then(parse_size);
        let index = index.ok_or(format("the `index` line is missing or malformed"))?;
        let path: Option<Vec<Hash>> = lines.map(parse_hash).collect();
        let path = path
            .filter(|p| p.len() <= PATH_LEN_MAX)
            .ok_or(format("the path is up to 63 lines of 32 bytes in base64"))?;
        let note = Note::parse(note.as_bytes()).map_err(CheckpointError::from)?;
        Ok(Self { extra, index, path, note })
    }

    /// Verifies that `entry` (the exact leaf bytes) is in a log that the policy knows, under a checkpoint that meets its quorum.
    ///
    /// # Errors
    /// [`TlogProofError::Policy`], [`TlogProofError::Inclusion`].
    pub fn verify(&self, policy: &Policy, entry: &[u8]) -> Result<Satisfied, TlogProofError> {
        let satisfied = policy.evaluate(&self.note, UnknownSigners::Ignore)?;
        let Checkpoint { size, root, .. } = &satisfied.checkpoint;
        merkle::verify_inclusion(&self.path, self.index, &leaf_hash(entry), *size, root)
            .map_err(|source| TlogProofError::Inclusion { index: self.index, source })?;
        Ok(satisfied)
    }
}

impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADER)?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", BASE64.encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| f.write_str(&hash_line(hash)))?;
        write!(f, "\n{}", self.note)
    }
}
