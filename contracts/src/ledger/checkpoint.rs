//! Checkpoints (C2SP tlog-checkpoint): origin, size and root of a log, as the text of a signed note.

use super::merkle::Hash;
use super::note::{Note, NoteError};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::fmt;

/// Why a text is not a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The text has another form.
    #[error("not a checkpoint: {0}")]
    Format(&'static str),
    /// The note around it has another form.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// The tree a log stands for: `origin LF size LF base64(root) LF`, then optional extension lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name, for example `ledger.example/2026`.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree of those entries.
    pub root: Hash,
    /// Lines after the root, opaque; this project writes none.
    pub extensions: Vec<String>,
}

impl Checkpoint {
    /// A checkpoint without extension lines.
    #[must_use]
    pub fn new(origin: &str, size: u64, root: Hash) -> Self {
        Self { origin: origin.to_owned(), size, root, extensions: Vec::new() }
    }

    /// Parses a note's text.
    ///
    /// # Errors
    /// [`CheckpointError::Format`] for anything but the one spelling.
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let body = text.strip_suffix('\n').ok_or(CheckpointError::Format("no newline at the end"))?;
        let mut lines = body.split('\n');
        let mut next = |what| lines.next().filter(|l| !l.is_empty()).ok_or(CheckpointError::Format(what));
        let origin = next("the origin is missing")?.to_owned();
        let size = parse_size(next("the size is missing")?)
            .ok_or(CheckpointError::Format("the size is a decimal without leading zeros"))?;
        let root = parse_hash(next("the root is missing")?)
            .ok_or(CheckpointError::Format("the root is 32 bytes in base64"))?;
        let extensions: Vec<String> = lines.map(str::to_owned).collect();
        if extensions.iter().any(String::is_empty) {
            return Err(CheckpointError::Format("an empty extension line"));
        }
        Ok(Self { origin, size, root, extensions })
    }

    /// Parses the text of a note.
    ///
    /// # Errors
    /// As [`Checkpoint::parse`].
    pub fn of(note: &Note) -> Result<Self, CheckpointError> {
        Self::parse(note.text())
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n{}\n", self.origin, self.size, BASE64.encode(self.root))?;
        self.extensions.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// Reads a decimal without sign or leading zeros.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let size: u64 = text.parse().ok()?;
    (size.to_string() == text).then_some(size)
}

/// Reads one line of base64 that holds a hash.
#[must_use]
pub fn parse_hash(line: &str) -> Option<Hash> {
    BASE64.decode(line).ok()?.try_into().ok()
}

/// Writes a hash as a line of base64, newline included.
#[must_use]
pub fn hash_line(hash: &Hash) -> String {
    format!("{}\n", BASE64.encode(hash))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling() {
        let text = Checkpoint::new("a.example/l", 20, [7; 32]).to_string();
        assert_eq!(Checkpoint::parse(&text).unwrap().to_string(), text);
        let extended = format!("{text}ext 1\n");
        assert_eq!(Checkpoint::parse(&extended).unwrap().extensions, ["ext 1"]);
        for bad in [
            text.replace("\n20\n", "\n020\n"),
            text.replace("\n20\n", "\n+20\n"),
            text.replace("\n20\n", "\n18446744073709551616\n"),
            text.replace("a.example/l", ""),
            text.trim_end().to_owned(),
            text.replace('=', ""),
            format!("{text}\n"),
            "a\n1\n".to_owned(),
        ] {
            assert!(Checkpoint::parse(&bad).is_err(), "{bad:?}");
        }
    }
}
