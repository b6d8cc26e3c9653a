//! Signed notes (C2SP signed-note): a text, an empty line, and signature lines `— name base64(key id || signature)`.
//!
//! Two kinds of signature are known: 0x01, ed25519 over the text, by which a log signs its checkpoint; and 0x04,
//! `cosignature/v1`, by which a witness adds the time at which it saw that checkpoint. Other kinds are carried, never trusted.

use super::key::{KeyError, PublicKey};
use super::merkle::Hash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use sha2::{Digest, Sha256};
use std::fmt;

/// Largest note, in bytes. A checkpoint with 100 cosignatures is below 20 KiB.
pub const NOTE_BYTES_MAX: usize = 64 * 1024;
/// Most signature lines.
pub const SIGNATURES_MAX: usize = 256;

/// Why a note or a key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not a signed note in its one spelling.
    #[error("not a signed note: {0}")]
    Format(&'static str),
    /// Not a verifier key `name+id+base64`.
    #[error("not a verifier key (name+id+base64): {0}")]
    Vkey(&'static str),
    /// A key inside a verifier key is refused.
    #[error("the verifier key is refused: {0}")]
    Key(#[from] KeyError),
    /// A line claims to be by a known key, and does not verify.
    #[error("the signature by {0} does not verify: it, or the text above it, was altered")]
    Signature(String),
    /// No line is by this key.
    #[error("there is no signature by {0}")]
    Missing(String),
}

/// What a key may sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyType {
    /// 0x01: ed25519 over the note's text; the log's own signature.
    Ed25519,
    /// 0x04: timestamped ed25519 cosignature, `cosignature/v1`; a witness's.
    Cosignature,
}

impl KeyType {
    fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::Cosignature => 0x04,
        }
    }
}

/// A verifier key, written `name+id+base64(type || key)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VerifierKey {
    name: String,
    kind: KeyType,
    key: PublicKey,
}

impl VerifierKey {
    /// Names a public key.
    ///
    /// # Errors
    /// A name that is empty, or holds white space or `+`.
    pub fn new(name: &str, kind: KeyType, key: PublicKey) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(NoteError::Vkey("a key name is not empty and holds neither white space nor `+`"));
        }
        Ok(Self { name: name.to_owned(), kind, key })
    }

    /// Parses `name+id+base64`.
    ///
    /// # Errors
    /// Anything but the one spelling, an unknown type, an id that does not belong to the key, a weak key.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let (name, rest) = text.split_once('+').ok_or(NoteError::Vkey("no `+`"))?;
        let (_, data) = rest.split_once('+').ok_or(NoteError::Vkey("only one `+`"))?;
        let data = BASE64.decode(data).map_err(|_| NoteError::Vkey("the key is not base64"))?;
        let (kind, key) = data.split_first().ok_or(NoteError::Vkey("the key is empty"))?;
        let kind = match kind {
            0x01 => KeyType::Ed25519,
            0x04 => KeyType::Cosignature,
            _ => return Err(NoteError::Vkey("the type is neither 0x01 (ed25519) nor 0x04 (cosignature)")),
        };
        let key: [u8; 32] = key.try_into().map_err(|_| NoteError::Vkey("the key is not 32 bytes"))?;
        let vkey = Self::new(name, kind, PublicKey::from_bytes(&key)?)?;
        if vkey.to_string() == text {
            Ok(vkey)
        } else {
            Err(NoteError::Vkey("the id does not belong to this name and key"))
        }
    }

    /// The key's name; a log's is its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key may sign.
    #[must_use]
    pub fn kind(&self) -> KeyType {
        self.kind
    }

    /// The public key itself.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// First four bytes of SHA-256(name || LF || type || key).
    #[must_use]
    pub fn id(&self) -> [u8; 4] {
        let digest: Hash = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', self.kind.byte()])
            .chain_update(self.key.to_bytes())
            .finalize()
            .into();
        let [a, b, c, d, ..] = digest;
        [a, b, c, d]
    }

    /// Verifies one line's signature over a note's text.
    ///
    /// # Errors
    /// [`NoteError::Signature`].
    pub fn verify(&self, text: &str, line: &SignatureLine) -> Result<Verified, NoteError> {
        let refused = || NoteError::Signature(self.name.clone());
        let (time_s, signature) = match self.kind {
            KeyType::Ed25519 => (None, line.signature.as_slice()),
            KeyType::Cosignature => {
                let (time, signature) = line.signature.split_first_chunk::<8>().ok_or_else(refused)?;
                (Some(u64::from_be_bytes(*time)), signature)
            }
        };
        let signature: &[u8; 64] = signature.try_into().map_err(|_| refused())?;
        let message = match time_s {
            None => text.as_bytes().to_vec(),
            // C2SP tlog-cosignature: not 0, and it fits a signed integer of 64 bits.
            Some(time_s) if time_s == 0 || i64::try_from(time_s).is_err() => return Err(refused()),
            Some(time_s) => cosignature_message(text, time_s),
        };
        self.key.verify_strict(&message, signature).map_err(|_| refused())?;
        Ok(Verified { time_s })
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = vec![self.kind.byte()];
        data.extend_from_slice(&self.key.to_bytes());
        write!(f, "{}+{}+{}", self.name, hex::encode(self.id()), BASE64.encode(data))
    }
}

/// What a verified line says beside the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// When a witness saw the checkpoint, Unix seconds; `None` for a log's own signature.
    pub time_s: Option<u64>,
}

/// A key that signs notes.
pub struct NoteSigner {
    vkey: VerifierKey,
    key: SigningKey,
}

impl NoteSigner {
    /// Names a signing key.
    ///
    /// # Errors
    /// As [`VerifierKey::new`].
    pub fn new(name: &str, kind: KeyType, key: SigningKey) -> Result<Self, NoteError> {
        let vkey = VerifierKey::new(name, kind, PublicKey::of(&key))?;
        Ok(Self { vkey, key })
    }

    /// The public half.
    #[must_use]
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Signs a note's text. `time_s` (Unix seconds, not 0) is part of a cosignature and ignored by a plain key.
    #[must_use]
    pub fn sign(&self, text: &str, time_s: u64) -> SignatureLine {
        let signature = match self.vkey.kind {
            KeyType::Ed25519 => self.key.sign(text.as_bytes()).to_bytes().to_vec(),
            KeyType::Cosignature => {
                let mut out = time_s.to_be_bytes().to_vec();
                out.extend_from_slice(&self.key.sign(&cosignature_message(text, time_s)).to_bytes());
                out
            }
        };
        SignatureLine { name: self.vkey.name.clone(), id: self.vkey.id(), signature }
    }
}

fn cosignature_message(text: &str, time_s: u64) -> Vec<u8> {
    format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()
}

/// One line `— name base64(id || signature)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignatureLine {
    /// Name of the key, as claimed.
    pub name: String,
    /// Id of the key, as claimed.
    pub id: [u8; 4],
    /// The signature, whose form depends on the key's type.
    pub signature: Vec<u8>,
}

impl SignatureLine {
    /// Parses one line without its newline.
    ///
    /// # Errors
    /// [`NoteError::Format`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let rest = line
            .strip_prefix("\u{2014} ")
            .ok_or(NoteError::Format("a signature line starts with an em dash and a space"))?;
        let (name, data) = rest.split_once(' ').ok_or(NoteError::Format("a signature line holds a name and base64"))?;
        if !is_key_name(name) {
            return Err(NoteError::Format("the key name of a signature line"));
        }
        let data = BASE64.decode(data).map_err(|_| NoteError::Format("the base64 of a signature line"))?;
        let (id, signature) =
            data.split_first_chunk::<4>().ok_or(NoteError::Format("a signature too short for its key id"))?;
        if signature.is_empty() {
            return Err(NoteError::Format("an empty signature"));
        }
        Ok(Self { name: name.to_owned(), id: *id, signature: signature.to_vec() })
    }

    /// Whether the line claims to be by this key.
    #[must_use]
    pub fn is_by(&self, vkey: &VerifierKey) -> bool {
        self.name == vkey.name && self.id == vkey.id()
    }
}

impl fmt::Display for SignatureLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut data = self.id.to_vec();
        data.extend_from_slice(&self.signature);
        writeln!(f, "\u{2014} {} {}", self.name, BASE64.encode(data))
    }
}

/// A text with signatures. Parsing checks form; [`Note::verify`] checks a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<SignatureLine>,
}

impl Note {
    /// A note without signatures yet; `text` ends in a newline.
    ///
    /// # Errors
    /// A text that is empty, does not end in a newline or holds other control characters.
    pub fn new(text: String) -> Result<Self, NoteError> {
        if !text.ends_with('\n') || text.chars().any(|c| c < ' ' && c != '\n') {
            return Err(NoteError::Format("the text ends in a newline and holds no other control character"));
        }
        Ok(Self { text, signatures: Vec::new() })
    }

    /// Parses a note with at least one signature.
    ///
    /// # Errors
    /// [`NoteError::Format`] for anything but the one spelling.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_BYTES_MAX {
            return Err(NoteError::Format("longer than 64 KiB"));
        }
        let note = std::str::from_utf8(bytes).map_err(|_| NoteError::Format("not UTF-8"))?;
        let at = note.rfind("\n\n").ok_or(NoteError::Format("no empty line before the signatures"))?;
        let (text, lines) = (note.get(..=at), note.get(at + 2..));
        let (Some(text), Some(lines)) = (text, lines) else { return Err(NoteError::Format("no signatures")) };
        let lines =
            lines.strip_suffix('\n').ok_or(NoteError::Format("no newline at the end; it was cut or extended"))?;
        let mut parsed = Self::new(text.to_owned())?;
        for line in lines.split('\n') {
            parsed.push(SignatureLine::parse(line)?)?;
        }
        Ok(parsed)
    }

    /// Adds a signature line. A line that is there already is not added again.
    ///
    /// # Errors
    /// More than [`SIGNATURES_MAX`] lines.
    pub fn push(&mut self, line: SignatureLine) -> Result<(), NoteError> {
        if self.signatures.contains(&line) {
            return Err(NoteError::Format("the same signature line twice"));
        }
        if self.signatures.len() >= SIGNATURES_MAX {
            return Err(NoteError::Format("more than 256 signatures"));
        }
        self.signatures.push(line);
        Ok(())
    }

    /// The signed text, ending in a newline.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines, unverified.
    #[must_use]
    pub fn signatures(&self) -> &[SignatureLine] {
        &self.signatures
    }

    /// The note with those of its lines that are wanted.
    #[must_use]
    pub fn with_lines(&self, wanted: impl FnMut(&&SignatureLine) -> bool) -> Self {
        Self { text: self.text.clone(), signatures: self.signatures.iter().filter(wanted).cloned().collect() }
    }

    /// Verifies that this key signed. As the specification demands, every line that claims to be by the key must verify.
    ///
    /// # Errors
    /// [`NoteError::Missing`], [`NoteError::Signature`].
    pub fn verify(&self, vkey: &VerifierKey) -> Result<Verified, NoteError> {
        let mut last = None;
        for line in self.signatures.iter().filter(|line| line.is_by(vkey)) {
            last = Some(vkey.verify(&self.text, line)?);
        }
        last.ok_or_else(|| NoteError::Missing(vkey.name.clone()))
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|line| write!(f, "{line}"))
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && !name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+')
}

#[cfg(test)]
#[path = "note_tests.rs"]
mod tests;
