//! The one string that a newcomer gets from an admin: where the coordinator is, which keys to believe, and a one-time code.
//!
//! `leben1:` and the base64url of a small JSON object with a checksum, so that it survives a mail and a mistyped
//! character is found before anything is dialled. It holds no private key; the code works once and then never again.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const PREFIX: &str = "leben1:";
const CHECKSUM_BYTES: usize = 4;
const TEXT_BYTES_MAX: usize = 4096;

/// What an invite says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// Where the coordinator listens, `host:port`.
    pub address: String,
    /// The coordinator's ed25519 link key, 64 hex digits: the only one the newcomer will talk to.
    pub coordinator_key: String,
    /// Origin of the log.
    pub origin: String,
    /// The log's key in C2SP form.
    pub log_vkey: String,
    /// The party id that the newcomer will have.
    pub party: String,
    /// `hospital`, `team` or `admin`.
    pub kind: String,
    /// The one-time code.
    pub code: String,
}

/// Why a text is not an invite.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InviteError {
    /// Another kind of text.
    #[error("this is not an invite: one starts with '{PREFIX}'; copy the whole line that the admin sent")]
    Prefix,
    /// A character was lost or changed.
    #[error("the invite is damaged (its checksum does not fit); copy the whole line again")]
    Damaged,
    /// Made by another version.
    #[error("the invite cannot be read by this version: {0}")]
    Content(String),
}

impl Invite {
    /// The text to hand over.
    pub fn to_text(&self) -> String {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        let checksum = checksum(&bytes);
        bytes.extend_from_slice(&checksum);
        format!("{PREFIX}{}", BASE64.encode(bytes))
    }

    /// Reads such a text.
    pub fn parse(text: &str) -> Result<Invite, InviteError> {
        let body = text.trim().strip_prefix(PREFIX).ok_or(InviteError::Prefix)?;
        if body.len() > TEXT_BYTES_MAX {
            return Err(InviteError::Damaged);
        }
        let bytes = BASE64.decode(body).map_err(|_| InviteError::Damaged)?;
        let split = bytes.len().checked_sub(CHECKSUM_BYTES).ok_or(InviteError::Damaged)?;
        let (json, sum) = bytes.split_at(split);
        if checksum(json) != sum {
            return Err(InviteError::Damaged);
        }
        serde_json::from_slice(json).map_err(|error| InviteError::Content(error.to_string()))
    }

    /// The coordinator's key as bytes.
    pub fn coordinator_key(&self) -> Result<[u8; 32], InviteError> {
        let mut key = [0; 32];
        hex::decode_to_slice(&self.coordinator_key, &mut key)
            .map_err(|_| InviteError::Content("the coordinator's key is not 64 hex digits".into()))?;
        Ok(key)
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let digest = Sha256::new().chain_update(b"leben/invite-text/1").chain_update(bytes).finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    sum.copy_from_slice(digest.get(..CHECKSUM_BYTES).unwrap_or(&[0; CHECKSUM_BYTES]));
    sum
}

/// What the ledger holds of a code: SHA-256("leben/invite/1" || code), hex.
pub fn code_hash(code: &str) -> String {
    hex::encode(Sha256::new().chain_update(b"leben/invite/1").chain_update(code.as_bytes()).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invite() -> Invite {
        Invite {
            address: "127.0.0.1:7443".into(),
            coordinator_key: "ab".repeat(32),
            origin: "ledger.example/test".into(),
            log_vkey: "ledger.example/test+00000000+AAAA".into(),
            party: "hospital-a".into(),
            kind: "hospital".into(),
            code: "0123456789abcdef".into(),
        }
    }

    #[test]
    fn an_invite_survives_and_every_changed_character_is_found() {
        let text = invite().to_text();
        assert_eq!(Invite::parse(&format!("  {text}\n")).unwrap(), invite());
        for at in PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            if changed != text {
                assert!(Invite::parse(&changed).is_err(), "character {at}");
            }
        }
        assert_eq!(Invite::parse("hello"), Err(InviteError::Prefix));
    }
}
