//! What one party asks to have recorded, before anybody signs it.

use super::canonical::{self, CanonicalError};
use super::key::{hash_from_hex, is_lower_hex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

const NAME_BYTES_MAX: usize = 128;

/// Why an action, an envelope or an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// Not canonical JSON of the right shape.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
    /// The signed action inside is not canonical JSON of the right shape.
    #[error("the signed action in it: {0}")]
    Payload(CanonicalError),
    /// A field is out of its range.
    #[error("the field `{field}` {why}")]
    Field {
        /// Name of the field.
        field: &'static str,
        /// What it must be.
        why: &'static str,
    },
    /// The envelope or entry would be larger than the log takes.
    #[error("the entry is {bytes} bytes, the log takes {bytes_max}; detach the body and record its hash")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// A signature names a key that is not among those expected.
    #[error("a signature is by the unexpected key {keyid}; sign with a key that is in force for this party")]
    UnknownKey {
        /// The key id on the signature.
        keyid: String,
    },
    /// A key that had to sign did not.
    #[error("the signature of the key {keyid} is missing")]
    Unsigned {
        /// Id of the key.
        keyid: String,
    },
    /// A signature does not verify.
    #[error(
        "the signature by key {keyid} does not verify; the action was altered after signing, or signed for something else"
    )]
    Signature {
        /// Id of the key.
        keyid: String,
    },
}

pub(super) fn field(field: &'static str, why: &'static str) -> EntryError {
    EntryError::Field { field, why }
}

/// What one party wants recorded. Field order and meaning are LEDGER's; absent options are absent keys, never `null`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Format version, 1.
    pub v: u32,
    /// Kind of action, for example `Propose`; decides the body's type.
    pub kind: String,
    /// The log it is meant for: [`origin_hash`](super::entry::origin_hash) of the log's origin, 64 hex digits, so that nothing replays elsewhere.
    pub network: String,
    /// The contract it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contract: Option<String>,
    /// The version of that contract's terms, named by steps that parties take in parallel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_version: Option<u32>,
    /// Leaf hash of the step it builds on, 64 hex digits: a compare-and-swap on the contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// Id of the party that acts.
    pub actor: String,
    /// The role in which it acts.
    pub role: String,
    /// Earliest sequenced time at which the action may be recorded, Unix milliseconds.
    pub not_before_ms: u64,
    /// Latest sequenced time at which the action may be recorded, Unix milliseconds.
    pub not_after_ms: u64,
    /// 16 random bytes, 32 hex digits, so that the same wish twice is two actions.
    pub nonce: String,
    /// The kind's own fields.
    pub body: Value,
}

impl Action {
    /// Parses canonical JSON of at most `bytes_max` bytes, and checks the fields as [`Action::validate`] does.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn parse(bytes: &[u8], bytes_max: usize) -> Result<Self, EntryError> {
        let plain = || {
            let action: Self = serde_json::from_slice(bytes).ok()?;
            (bytes.len() <= bytes_max && action.encode().ok()? == bytes).then_some(action)
        };
        // What re-encodes to the same bytes is canonical; only what does not is read again, for the reason's name.
        let action = match plain() {
            Some(action) => action,
            None => canonical::from_bytes_exact(bytes, bytes_max).map_err(EntryError::Payload)?,
        };
        action.validate()?;
        Ok(action)
    }

    /// The action as canonical JSON: its fields in the order of their names, the same bytes as [`canonical::to_bytes`] makes.
    ///
    /// # Errors
    /// A body with a number that is no integer within 2^53, or nested too deep.
    pub fn encode(&self) -> Result<Vec<u8>, CanonicalError> {
        let mut out = canonical::Fields::new();
        out.text("actor", &self.actor);
        out.value("body", &self.body)?;
        self.contract.iter().for_each(|contract| out.text("contract", contract));
        out.text("kind", &self.kind);
        out.text("network", &self.network);
        out.text("nonce", &self.nonce);
        out.number("not_after_ms", self.not_after_ms)?;
        out.number("not_before_ms", self.not_before_ms)?;
        self.prev.iter().for_each(|prev| out.text("prev", prev));
        out.text("role", &self.role);
        self.terms_version.iter().try_for_each(|version| out.number("terms_version", u64::from(*version)))?;
        out.number("v", u64::from(self.v))?;
        Ok(out.end())
    }

    /// Checks the fields that mean the same for every kind.
    ///
    /// # Errors
    /// [`EntryError::Field`].
    pub fn validate(&self) -> Result<(), EntryError> {
        if self.v != 1 {
            return Err(field("v", "must be 1; this program is older than the action, upgrade it"));
        }
        if self.kind.is_empty() || self.kind.len() > 32 || !self.kind.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(field("kind", "must be 1 to 32 letters"));
        }
        if hash_from_hex(&self.network).is_none() {
            return Err(field("network", "must be the 64 hex digits of the log's origin hash"));
        }
        if self.contract.as_deref().is_some_and(|c| !is_name(c)) {
            return Err(field("contract", "must be 1 to 128 printable ASCII characters without spaces"));
        }
        if self.prev.as_deref().is_some_and(|p| hash_from_hex(p).is_none()) {
            return Err(field("prev", "must be the 64 hex digits of a leaf hash"));
        }
        if !is_name(&self.actor) {
            return Err(field("actor", "must be 1 to 128 printable ASCII characters without spaces"));
        }
        if !is_name(&self.role) {
            return Err(field("role", "must be 1 to 128 printable ASCII characters without spaces"));
        }
        if self.not_after_ms > canonical::INTEGER_MAX || self.not_before_ms > self.not_after_ms {
            return Err(field("not_before_ms", "must not be later than `not_after_ms`"));
        }
        if self.nonce.len() != 32 || !is_lower_hex(&self.nonce) {
            return Err(field("nonce", "must be 16 random bytes in 32 lower-case hex digits"));
        }
        if !self.body.is_object() {
            return Err(field("body", "must be a JSON object"));
        }
        Ok(())
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic())
}
