//! What is written: an [`Action`], signed as exact bytes in an [`Envelope`] (DSSE), given a time and a place as an [`Entry`].
//!
//! Nothing is ever re-serialised before it is checked: the envelope carries the action as the bytes that were signed, the leaf of
//! the tree is the entry's own bytes, and each layer is canonical JSON, so equal meaning is equal bytes.

use super::action::field;
pub use super::action::{Action, EntryError};
use super::canonical;
pub use super::key::{KeyError, PublicKey, hash_from_hex};
use super::merkle::leaf_hash;
use super::signed::Verified;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer, SigningKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Largest entry (one leaf of the log), in bytes: 32 KiB.
pub const ENTRY_BYTES_MAX: usize = 32 * 1024;
/// Largest envelope, in bytes: an entry less what the sequencer wraps around it.
pub const ENVELOPE_BYTES_MAX: usize = ENTRY_BYTES_MAX - 64;
/// Most signatures on one envelope: the quorum of 85 validators, who freeze the log or hand it over in one envelope. They take
/// about 11 KiB of the 32 that an entry may have.
pub const SIGNATURES_MAX: usize = 64;
/// The DSSE payload type of an action.
pub const PAYLOAD_TYPE: &str = "application/vnd.leben.action+json;v=1";

/// The value of [`Action::network`]: SHA-256(`leben/network/1` || origin) in hex.
#[must_use]
pub fn origin_hash(origin: &str) -> String {
    hex::encode(domain_hash(b"leben/network/1", origin.as_bytes()))
}

fn domain_hash(domain: &[u8], bytes: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(domain).chain_update(bytes).finalize().into()
}

/// The bytes a DSSE signature covers: `DSSEv1 SP len SP type SP len SP body`.
#[must_use]
pub fn pre_authentication(payload: &[u8]) -> Vec<u8> {
    let mut out = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len()).into_bytes();
    out.extend_from_slice(payload);
    out
}

/// One signature on an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvelopeSignature {
    /// [`PublicKey::keyid`] of the signer. A hint: only a verified signature says who signed.
    pub keyid: String,
    /// ed25519 over [`pre_authentication`] of the payload.
    pub sig: [u8; 64],
}

/// A signed action: the DSSE object `{"payload":base64,"payloadType":..,"signatures":[{"keyid":..,"sig":base64}]}`.
///
/// Parsing checks form, not signatures: which keys may sign depends on the ledger's state; see [`Envelope::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    action: Action,
    pub(super) payload: Vec<u8>,
    payload_hash: [u8; 32],
    pub(super) signatures: Vec<EnvelopeSignature>,
    pub(super) verified: Verified,
}

/// With texts of its own, or (`&str`) those of the bytes it was read from, which then hold no escapes.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeJson<S> {
    payload: S,
    #[serde(rename = "payloadType")]
    payload_type: S,
    signatures: Vec<SignatureJson<S>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SignatureJson<S> {
    keyid: S,
    sig: S,
}

impl Envelope {
    /// Encodes the action and signs it with each key, in the order given.
    ///
    /// # Errors
    /// An action out of range or too large, no key, too many keys, the same key twice.
    pub fn sign(action: &Action, keys: &[&SigningKey]) -> Result<Self, EntryError> {
        let mut envelope = Self::unsigned(action)?;
        for key in keys {
            envelope.push_signature(key);
        }
        envelope.check()?;
        envelope.check_size()?;
        Ok(envelope)
    }

    /// The same before anybody has signed: no envelope yet, only [`super::action_file`] holds one.
    pub(super) fn unsigned(action: &Action) -> Result<Self, EntryError> {
        action.validate()?;
        let envelope = Self::around(action.clone(), canonical::to_bytes(action)?, Vec::new());
        envelope.check_size()?;
        Ok(envelope)
    }

    fn around(action: Action, payload: Vec<u8>, signatures: Vec<EnvelopeSignature>) -> Self {
        let payload_hash = domain_hash(b"leben/payload/1", &payload);
        Self { action, payload, payload_hash, signatures, verified: Verified::default() }
    }

    /// Whether it may go to the ledger: somebody signed, nobody twice.
    pub(super) fn checked(self) -> Result<Self, EntryError> {
        self.check()?;
        Ok(self)
    }

    /// Adds the signatures of another copy that this one lacks.
    pub(super) fn join_signatures(&mut self, other: &Self) {
        for signature in &other.signatures {
            if !self.signatures.iter().any(|mine| mine.keyid == signature.keyid) {
                self.signatures.push(signature.clone());
            }
        }
    }

    /// Adds one more signature over the same bytes, for example the coordinator's beside a party's.
    ///
    /// # Errors
    /// As [`Envelope::sign`].
    pub fn countersign(&mut self, key: &SigningKey) -> Result<(), EntryError> {
        let mut with = self.clone();
        with.push_signature(key);
        with.check()?;
        with.check_size()?;
        *self = with;
        Ok(())
    }

    pub(super) fn push_signature(&mut self, key: &SigningKey) {
        let sig = key.sign(&pre_authentication(&self.payload)).to_bytes();
        self.signatures.push(EnvelopeSignature { keyid: PublicKey::of(key).keyid(), sig });
    }

    /// Parses an envelope and the action in it.
    ///
    /// # Errors
    /// Anything that is not exactly what [`Envelope::to_bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        // What re-encodes to the same bytes is canonical; only what does not is read again, for the reason's name.
        if bytes.len() <= ENVELOPE_BYTES_MAX
            && let Ok(json) = serde_json::from_slice::<EnvelopeJson<&str>>(bytes)
            && let Ok(envelope) = Self::from_json(&json)
            && json.encode(Vec::with_capacity(bytes.len())) == bytes
        {
            return Ok(envelope);
        }
        Self::from_json(&canonical::from_bytes_exact::<EnvelopeJson<String>>(bytes, ENVELOPE_BYTES_MAX)?)
    }

    fn from_json<S: AsRef<str>>(json: &EnvelopeJson<S>) -> Result<Self, EntryError> {
        Self::from_json_unsigned(json)?.checked()
    }

    fn from_json_unsigned<S: AsRef<str>>(json: &EnvelopeJson<S>) -> Result<Self, EntryError> {
        if json.payload_type.as_ref() != PAYLOAD_TYPE {
            return Err(field("payloadType", "must be `application/vnd.leben.action+json;v=1`"));
        }
        let payload = BASE64
            .decode(json.payload.as_ref())
            .map_err(|_| field("payload", "must be standard base64 with padding"))?;
        let action = Action::parse(&payload, ENVELOPE_BYTES_MAX)?;
        let signatures = json.signatures.iter().map(read_signature).collect::<Result<_, _>>()?;
        let envelope = Self::around(action, payload, signatures);
        envelope.check_signers()?;
        Ok(envelope)
    }

    /// As [`Envelope::parse`], where nobody may have signed yet.
    pub(super) fn parse_unsigned(bytes: &[u8]) -> Result<Self, EntryError> {
        Self::from_json_unsigned(&canonical::from_bytes_exact::<EnvelopeJson<String>>(bytes, ENVELOPE_BYTES_MAX)?)
    }

    fn check(&self) -> Result<(), EntryError> {
        if self.signatures.is_empty() {
            return Err(field("signatures", "must be 1 to 64 signatures"));
        }
        self.check_signers()
    }

    pub(super) fn check_signers(&self) -> Result<(), EntryError> {
        if self.signatures.len() > SIGNATURES_MAX {
            return Err(field("signatures", "must be 1 to 64 signatures"));
        }
        for (i, s) in self.signatures.iter().enumerate() {
            if self.signatures.iter().take(i).any(|earlier| earlier.keyid == s.keyid) {
                return Err(field("signatures", "must be by different keys"));
            }
        }
        Ok(())
    }

    pub(super) fn check_size(&self) -> Result<(), EntryError> {
        let bytes = self.to_bytes().len();
        if bytes > ENVELOPE_BYTES_MAX {
            return Err(EntryError::TooLarge { bytes, bytes_max: ENVELOPE_BYTES_MAX });
        }
        Ok(())
    }

    /// The envelope as canonical JSON. Every field is plain ASCII, so this is the canonical encoding by construction.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode(Vec::new())
    }

    /// Behind what `out` holds already.
    fn encode(&self, mut out: Vec<u8>) -> Vec<u8> {
        let signature =
            |s: &EnvelopeSignature| SignatureJson { keyid: s.keyid.clone(), sig: BASE64.encode(s.sig.as_slice()) };
        let json = EnvelopeJson {
            payload: BASE64.encode(&self.payload),
            payload_type: PAYLOAD_TYPE.to_owned(),
            signatures: self.signatures.iter().map(signature).collect(),
        };
        out.reserve(json.payload.len() + 192 * self.signatures.len() + 192);
        json.encode(out)
    }

    /// The action, parsed from exactly the signed bytes.
    #[must_use]
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The signed bytes: the action as canonical JSON.
    #[must_use]
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// What identifies an action, whoever signed it and however: SHA-256(`leben/payload/1` || payload).
    #[must_use]
    pub fn payload_hash(&self) -> [u8; 32] {
        self.payload_hash
    }

    /// The signatures, unverified.
    #[must_use]
    pub fn signatures(&self) -> &[EnvelopeSignature] {
        &self.signatures
    }
}

impl<S: AsRef<str>> EnvelopeJson<S> {
    /// The one encoding, behind what `out` holds already: nothing in it needs an escape.
    fn encode(&self, mut out: Vec<u8>) -> Vec<u8> {
        let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
        put(r#"{"payload":""#);
        put(self.payload.as_ref());
        put(r#"","payloadType":""#);
        put(self.payload_type.as_ref());
        put(r#"","signatures":["#);
        for (i, s) in self.signatures.iter().enumerate() {
            put(if i == 0 { r#"{"keyid":""# } else { r#",{"keyid":""# });
            put(s.keyid.as_ref());
            put(r#"","sig":""#);
            put(s.sig.as_ref());
            put(r#""}"#);
        }
        put("]}");
        out
    }
}

fn read_signature<S: AsRef<str>>(json: &SignatureJson<S>) -> Result<EnvelopeSignature, EntryError> {
    let keyid = json.keyid.as_ref();
    if hash_from_hex(keyid).is_none() {
        return Err(field("keyid", "must be the SHA-256 of a public key in 64 lower-case hex digits"));
    }
    let sig = BASE64.decode(json.sig.as_ref()).ok().and_then(|s| <[u8; 64]>::try_from(s).ok());
    let sig = sig.ok_or_else(|| field("sig", "must be 64 bytes in base64"))?;
    Ok(EnvelopeSignature { keyid: keyid.to_owned(), sig })
}

/// One leaf of the log: the exact bytes `{"envelope":{..},"seq_ms":N,"v":1}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    envelope: Envelope,
    seq_ms: u64,
    bytes: Vec<u8>,
    leaf_hash: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct EntryJson<S> {
    envelope: EnvelopeJson<S>,
    seq_ms: u64,
    v: u32,
}

const BEFORE: &[u8] = br#"{"envelope":"#;

fn after(seq_ms: u64) -> String {
    format!(r#","seq_ms":{seq_ms},"v":1}}"#)
}

impl Entry {
    /// Gives an envelope its sequenced time, Unix milliseconds.
    ///
    /// # Errors
    /// A time beyond 2^53, an entry above [`ENTRY_BYTES_MAX`].
    pub fn new(envelope: Envelope, seq_ms: u64) -> Result<Self, EntryError> {
        if seq_ms > canonical::INTEGER_MAX {
            return Err(field("seq_ms", "must be at most 2^53"));
        }
        let mut bytes = envelope.encode(BEFORE.to_vec());
        bytes.extend_from_slice(after(seq_ms).as_bytes());
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(EntryError::TooLarge { bytes: bytes.len(), bytes_max: ENTRY_BYTES_MAX });
        }
        Ok(Self::around(envelope, seq_ms, bytes))
    }

    fn around(envelope: Envelope, seq_ms: u64, bytes: Vec<u8>) -> Self {
        let leaf_hash = leaf_hash(&bytes);
        Self { envelope, seq_ms, bytes, leaf_hash }
    }

    /// Parses a leaf.
    ///
    /// # Errors
    /// Anything that is not exactly what [`Entry::new`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        if bytes.len() <= ENTRY_BYTES_MAX
            && let Ok(EntryJson::<&str> { envelope: json, seq_ms, v: 1 }) = serde_json::from_slice(bytes)
            && seq_ms <= canonical::INTEGER_MAX
            && let Ok(envelope) = Envelope::from_json(&json)
        {
            let mut own = Vec::with_capacity(bytes.len());
            own.extend_from_slice(BEFORE);
            own = json.encode(own);
            own.extend_from_slice(after(seq_ms).as_bytes());
            if own == bytes {
                return Ok(Self::around(envelope, seq_ms, own));
            }
        }
        let json: EntryJson<String> = canonical::from_bytes_exact(bytes, ENTRY_BYTES_MAX)?;
        if json.v != 1 {
            return Err(field("v", "must be 1; this program is older than the log, upgrade it"));
        }
        let envelope = Envelope::from_json(&json.envelope)?;
        Ok(Self::around(envelope, json.seq_ms, bytes.to_vec()))
    }

    /// The signed action.
    #[must_use]
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub(super) fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// Shorthand for `envelope().action()`.
    #[must_use]
    pub fn action(&self) -> &Action {
        self.envelope.action()
    }

    /// The time the sequencer gave it, Unix milliseconds; never goes backwards along the log.
    #[must_use]
    pub fn seq_ms(&self) -> u64 {
        self.seq_ms
    }

    /// The leaf's exact bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// RFC 6962 leaf hash, SHA-256(0x00 || bytes): what `prev` names, in hex.
    #[must_use]
    pub fn leaf_hash(&self) -> [u8; 32] {
        self.leaf_hash
    }
}

#[cfg(test)]
#[path = "entry_tests.rs"]
mod tests;
