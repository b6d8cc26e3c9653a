//! Public keys as the ledger writes them: 32 bytes in lower-case hex, never a weak one.

use ed25519_dalek::{Signature, SigningKey, VerifyingKey};
use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::cmp::Ordering;
use std::fmt;

/// Why a key or a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 64 lower-case hex digits.
    #[error("a public key is 64 lower-case hex digits")]
    Format,
    /// Not the canonical encoding of a point on the curve.
    #[error("this is not an ed25519 public key; make a new one with `keygen`")]
    NotAPoint,
    /// A point of small order, under which anybody's signature could verify.
    #[error("this ed25519 public key is weak (small order) and is refused; make a new one with `keygen`")]
    Weak,
    /// The signature is not this key's signature over these bytes.
    #[error("the signature does not verify under this key")]
    Signature,
}

/// An ed25519 public key (RFC 8032) that is a canonical point and not weak.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Takes 32 bytes in RFC 8032 encoding.
    ///
    /// # Errors
    /// [`KeyError::NotAPoint`], [`KeyError::Weak`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::NotAPoint)?;
        if !is_canonical(bytes) {
            return Err(KeyError::NotAPoint);
        }
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Ok(Self(key))
    }

    /// Takes 64 lower-case hex digits.
    ///
    /// # Errors
    /// [`KeyError::Format`] and those of [`PublicKey::from_bytes`].
    pub fn from_hex(text: &str) -> Result<Self, KeyError> {
        Self::from_bytes(&hash_from_hex(text).ok_or(KeyError::Format)?)
    }

    /// The public half of a signing key.
    #[must_use]
    pub fn of(key: &SigningKey) -> Self {
        Self(key.verifying_key())
    }

    /// The 32 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// 64 lower-case hex digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        hex::encode(self.0.as_bytes())
    }

    /// The key id of an envelope's signature: SHA-256 of the 32 key bytes, 64 lower-case hex digits.
    #[must_use]
    pub fn keyid(&self) -> String {
        hex::encode(Sha256::digest(self.0.as_bytes()))
    }

    /// Verifies strictly (RFC 8032 with cofactorless equation, no small-order components).
    ///
    /// # Errors
    /// [`KeyError::Signature`].
    pub fn verify_strict(&self, message: &[u8], signature: &[u8; 64]) -> Result<(), KeyError> {
        self.0.verify_strict(message, &Signature::from_bytes(signature)).map_err(|_| KeyError::Signature)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_hex())
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.as_bytes().cmp(other.0.as_bytes())
    }
}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_hex())
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(Self::from_hex))
    }
}

/// Reads a value that is written as text, without a copy of the text.
pub(crate) struct Text<F>(pub(crate) F);

impl<T, E: fmt::Display, F: FnOnce(&str) -> Result<T, E>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }
    fn visit_str<D: serde::de::Error>(self, text: &str) -> Result<T, D> {
        (self.0)(text).map_err(D::custom)
    }
}

/// Whether 32 bytes that are a point are its one encoding (RFC 8032, 5.1.3): y below p = 2^255 - 19, and no sign where x is 0, which is
/// where y is 1 or -1. The same as encoding the point again, which takes an inversion.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [low, middle @ .., high] = bytes;
    let (sign, high) = (high & 0x80 != 0, high & 0x7f);
    let top = high == 0x7f && middle.iter().all(|byte| *byte == 0xff);
    let one = *low == 1 && high == 0 && middle.iter().all(|byte| *byte == 0);
    let minus_one = top && *low == 0xec;
    !(top && *low >= 0xed) && !(sign && (one || minus_one))
}

/// Reads a 32-byte value from exactly 64 lower-case hex digits.
#[must_use]
pub fn hash_from_hex(text: &str) -> Option<[u8; 32]> {
    if !is_lower_hex(text) {
        return None;
    }
    let mut out = [0u8; 32];
    hex::decode_to_slice(text, &mut out).ok()?;
    Some(out)
}

/// Whether a string is hex digits without capitals, so that one value has one spelling.
#[must_use]
pub fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::Signer;

    #[test]
    fn weak_and_malformed_keys_are_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(&identity), Err(KeyError::Weak));
        // The encoding of y = p + 1, which a lax reader takes for the identity.
        let mut alias = [0xff; 32];
        alias[0] = 0xee;
        alias[31] = 0x7f;
        assert!(PublicKey::from_bytes(&alias).is_err());
        assert_eq!(PublicKey::from_hex(&"AB".repeat(32)), Err(KeyError::Format));
        assert_eq!(PublicKey::from_hex("ab"), Err(KeyError::Format));
    }

    /// The oracle encodes the point again.
    #[test]
    fn only_the_one_encoding_of_a_point_is_taken() {
        let encoded = |bytes: &[u8; 32]| VerifyingKey::from_bytes(bytes).ok().map(|key| key.to_edwards().compress().0);
        let agrees = |bytes: &[u8; 32]| {
            let got = PublicKey::from_bytes(bytes);
            match encoded(bytes) {
                Some(same) if same == *bytes => assert_ne!(got, Err(KeyError::NotAPoint), "{bytes:?}"),
                _ => assert_eq!(got, Err(KeyError::NotAPoint), "{bytes:?}"),
            }
        };
        for sign in [0, 0x80] {
            // Every y from p - 19 to 2^255 - 1, and from 0 to 18, with either sign.
            for low in 0xda..=0xff {
                let mut bytes = [0xff; 32];
                (bytes[0], bytes[31]) = (low, 0x7f | sign);
                agrees(&bytes);
            }
            for low in 0..0x13 {
                let mut bytes = [0; 32];
                (bytes[0], bytes[31]) = (low, sign);
                agrees(&bytes);
            }
        }
        for seed in 0..=255 {
            let mut bytes = PublicKey::of(&SigningKey::from_bytes(&[seed; 32])).to_bytes();
            agrees(&bytes);
            bytes[usize::from(seed) % 32] ^= 0x81;
            agrees(&bytes);
        }
    }

    #[test]
    fn a_key_round_trips_and_verifies() {
        let signing = SigningKey::from_bytes(&[7; 32]);
        let key = PublicKey::of(&signing);
        let text = serde_json::to_string(&key).unwrap();
        assert_eq!(serde_json::from_str::<PublicKey>(&text).unwrap(), key);
        let mut sig = signing.sign(b"m").to_bytes();
        assert_eq!(key.verify_strict(b"m", &sig), Ok(()));
        assert_eq!(key.verify_strict(b"n", &sig), Err(KeyError::Signature));
        sig[40] ^= 1;
        assert_eq!(key.verify_strict(b"m", &sig), Err(KeyError::Signature));
    }
}
