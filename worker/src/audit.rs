//! The hospital's own audit log: one line for everything that was decided, refused or computed here. No line holds a
//! value from a row.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What happened, a stable word.
    pub event: &'static str,
    /// The contract, hex.
    pub contract: Option<String>,
    /// A refusal's code.
    pub code: Option<String>,
    /// In words.
    pub words: String,
}

/// A line of the file: the event, chained to the line before by its SHA-256, so that a line taken out is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditLine {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// What happened.
    pub event: String,
    /// The contract, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// A refusal's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// In words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub words: String,
    /// SHA-256 of the line before without its newline, hex; of nothing for the first.
    pub prev: String,
}

impl AuditEntry {
    /// The line that follows a line with this digest.
    pub fn line(&self, prev: &[u8; 32]) -> AuditLine {
        AuditLine {
            at_ms: self.at_ms,
            event: self.event.to_owned(),
            contract: self.contract.clone(),
            code: self.code.clone(),
            words: self.words.clone(),
            prev: hex::encode(prev),
        }
    }
}

/// What the next line names as `prev`.
pub fn digest(line: &[u8]) -> [u8; 32] {
    Sha256::digest(line).into()
}

/// Checks the chain of a whole file. Returns its lines, or the number of the first that does not fit, from 1.
///
/// # Errors
/// The line's number and what is wrong with it.
pub fn verify(text: &str) -> Result<Vec<AuditLine>, (usize, String)> {
    let mut prev = digest(b"");
    let mut lines = Vec::new();
    for (at, text) in text.lines().enumerate() {
        let line: AuditLine = serde_json::from_str(text).map_err(|error| (at + 1, error.to_string()))?;
        if line.prev != hex::encode(prev) {
            return Err((at + 1, "the line before it was changed or taken out".into()));
        }
        prev = digest(text.as_bytes());
        lines.push(line);
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_or_missing_line_is_found() {
        let entry = |at_ms| AuditEntry { at_ms, event: "e", contract: None, code: None, words: "w".into() };
        let mut prev = digest(b"");
        let mut text = String::new();
        for at_ms in 0..4 {
            let line = serde_json::to_string(&entry(at_ms).line(&prev)).unwrap();
            prev = digest(line.as_bytes());
            text.push_str(&line);
            text.push('\n');
        }
        assert_eq!(verify(&text).unwrap().len(), 4);
        let without: String =
            text.lines().enumerate().filter(|(at, _)| *at != 1).map(|(_, l)| format!("{l}\n")).collect();
        assert_eq!(verify(&without).unwrap_err().0, 2);
        assert_eq!(verify(&text.replacen("\"at_ms\":1", "\"at_ms\":9", 1)).unwrap_err().0, 3);
    }
}
