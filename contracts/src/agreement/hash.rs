//! 32-byte values written as lower-case hex: hashes and x25519 public keys.

use crate::ledger::key::{Text, hash_from_hex};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use std::fmt;
use std::str::FromStr;

/// Text that is not 64 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not 64 lower-case hex digits")]
pub struct HexError(pub String);

/// Written into `digits`, without an allocation: an entry holds many.
fn to_hex<'a>(bytes: &[u8; 32], digits: &'a mut [u8; 64]) -> &'a str {
    hex::encode_to_slice(bytes, digits).ok().and_then(|()| std::str::from_utf8(digits).ok()).unwrap_or_default()
}

macro_rules! hex32 {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; 64];
                f.write_str(to_hex(&self.0, &mut digits))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl FromStr for $name {
            type Err = HexError;
            fn from_str(text: &str) -> Result<Self, HexError> {
                hash_from_hex(text).map(Self).ok_or_else(|| HexError(text.chars().take(80).collect()))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                let mut digits = [0; 64];
                s.serialize_str(to_hex(&self.0, &mut digits))
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(Text(str::parse::<Self>))
            }
        }
    };
}

hex32!(Hash32, "A SHA-256 value: of a payload, of terms, of a schema, of a piece of code. 64 hex digits in JSON.");
hex32!(X25519Key, "An x25519 public key (RFC 7748). 64 hex digits in JSON.");

impl X25519Key {
    /// Whether the key is a point of small order, in any encoding: whatever is sealed to it, everybody can read (RFC 7748, 6.1).
    #[must_use]
    pub fn is_weak(&self) -> bool {
        // x25519 does not look at the top bit.
        let mut bytes = self.0;
        if let Some(top) = bytes.last_mut() {
            *top &= 0x7f;
        }
        let text = hex::encode(bytes);
        SMALL_ORDER.contains(&text.as_str())
    }
}

/// Every encoding below 2^255 of an x25519 point of order 1, 2, 4 or 8: u = 0, 1, the two of order 8, and p - 1, p, p + 1 for
/// p = 2^255 - 19, as Bernstein's "Curve25519" pages list them.
const SMALL_ORDER: [&str; 7] = [
    "0000000000000000000000000000000000000000000000000000000000000000",
    "0100000000000000000000000000000000000000000000000000000000000000",
    "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
    "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
];

/// The id of a contract: the payload hash of the action that proposed it.
pub type ContractId = Hash32;

impl Hash32 {
    /// `SHA-256(domain || "\n" || bytes)`; a domain string per use keeps one kind of hash from passing as another.
    #[must_use]
    pub fn of(domain: &str, bytes: &[u8]) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(domain.as_bytes());
        hasher.update(b"\n");
        hasher.update(bytes);
        Self(hasher.finalize().into())
    }

    /// Plain SHA-256, for what people hash with their own tools (the human-readable text of terms).
    #[must_use]
    pub fn plain(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_sealing_keys_are_known_in_every_encoding() {
        for text in SMALL_ORDER {
            let mut key: X25519Key = text.parse().unwrap();
            assert!(key.is_weak(), "{text}");
            key.0[31] |= 0x80;
            assert!(key.is_weak(), "{text} with the bit that x25519 ignores");
            key.0[3] ^= 4;
            assert!(!key.is_weak(), "{text}, changed");
        }
        let mut base = [0; 32];
        base[0] = 9;
        assert!(!X25519Key(base).is_weak(), "the base point");
    }

    #[test]
    fn hex_is_strict() {
        let h = Hash32::plain(b"abc");
        assert_eq!(h.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(h.to_string().parse::<Hash32>(), Ok(h));
        assert!(h.to_string().to_uppercase().parse::<Hash32>().is_err());
        assert!("ab".parse::<Hash32>().is_err());
    }
}
