//! Sealed boxes: x25519, HKDF-SHA256, ChaCha20-Poly1305 (RFC 7748, 5869, 8439), with associated data.
//!
//! * [`seal`] / [`open`]: anybody to the holder of a key (results to an AI team). It says nothing about the sender.
//! * `seal_between` / `open_between`: from one member to another, both keys in the derivation, so only the two of them
//!   can make or read it (Shamir shares; the authenticated encryption that the secure sum's proof asks for).
//!
//! Every box has its own key, so the nonce is fixed. The box's salt is derived from the seed *and* everything that goes
//! into the box: a seed used twice gives two keys, or the same box.

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use crate::kdf::{self, Digest};

/// Bytes that a box of [`seal`] adds: version, the ephemeral key, the tag.
pub const SEAL_OVERHEAD_BYTES: usize = 1 + 32 + 16;

const VERSION: u8 = 1;

/// Why a box cannot be made or opened. On purpose it does not say more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The public key is of low order: whatever is sealed to it, everybody can read.
    #[error("the public key is of low order and protects nothing; ask its owner for a new one")]
    WeakKey,
    /// Too short, another version, another key, other associated data, or changed on the way.
    #[error("the box does not open: wrong key, wrong associated data, or changed on the way")]
    DoesNotOpen,
    /// The plaintext is beyond what the cipher takes (256 GiB).
    #[error("the plaintext is too long for one box")]
    TooLong,
}

/// The public key of a secret one.
pub fn public_of(secret: &[u8; 32]) -> [u8; 32] {
    PublicKey::from(&StaticSecret::from(*secret)).to_bytes()
}

/// x25519 that refuses low-order points.
pub(crate) fn agree(secret: &[u8; 32], public: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let shared = StaticSecret::from(*secret).diffie_hellman(&PublicKey::from(*public));
    if !shared.was_contributory() {
        return Err(SealError::WeakKey);
    }
    Ok(Zeroizing::new(shared.to_bytes()))
}

/// Seals `plaintext` to the holder of `to_public`: version, ephemeral public key, ciphertext and tag.
/// `aad` is not in the box, but the box opens only with the same. `seed` must be fresh and secret.
///
/// # Errors
/// [`SealError::WeakKey`], [`SealError::TooLong`].
pub fn seal(to_public: &[u8; 32], aad: &[u8], plaintext: &[u8], seed: [u8; 32]) -> Result<Vec<u8>, SealError> {
    let bound = Digest::new(b"leben/seal-input/v1").field(to_public).field(aad).field(plaintext).finish();
    let ephemeral = kdf::derive(b"leben/seal-ephemeral/v1", &seed, &[&bound]);
    let ephemeral_public = public_of(&ephemeral);
    let shared = agree(&ephemeral, to_public)?;
    let key = kdf::derive(b"leben/seal/v1", &*shared, &[&ephemeral_public, to_public]);
    let mut out = vec![VERSION];
    out.extend_from_slice(&ephemeral_public);
    out.extend(encrypt(&key, aad, plaintext)?);
    Ok(out)
}

/// Opens a box of [`seal`].
///
/// # Errors
/// [`SealError::DoesNotOpen`].
pub fn open(secret: &[u8; 32], aad: &[u8], boxed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (ephemeral_public, ciphertext) = split(boxed)?;
    let shared = agree(secret, &ephemeral_public).map_err(|_| SealError::DoesNotOpen)?;
    let key = kdf::derive(b"leben/seal/v1", &*shared, &[&ephemeral_public, &public_of(secret)]);
    decrypt(&key, aad, ciphertext)
}

/// Seals from the holder of `from_secret` to the holder of `to_public`: version, salt, ciphertext and tag.
pub(crate) fn seal_between(
    from_secret: &[u8; 32],
    to_public: &[u8; 32],
    aad: &[u8],
    plaintext: &[u8],
    seed: &[u8; 32],
) -> Result<Vec<u8>, SealError> {
    let bound = Digest::new(b"leben/share-input/v1").field(to_public).field(aad).field(plaintext).finish();
    let salt = kdf::derive(b"leben/share-salt/v1", seed, &[&bound]);
    let shared = agree(from_secret, to_public)?;
    let key = between_key(&shared, &salt, &public_of(from_secret), to_public);
    let mut out = vec![VERSION];
    out.extend_from_slice(&*salt);
    out.extend(encrypt(&key, aad, plaintext)?);
    Ok(out)
}

/// Opens a box of [`seal_between`].
pub(crate) fn open_between(
    to_secret: &[u8; 32],
    from_public: &[u8; 32],
    aad: &[u8],
    boxed: &[u8],
) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (salt, ciphertext) = split(boxed)?;
    let shared = agree(to_secret, from_public).map_err(|_| SealError::DoesNotOpen)?;
    let key = between_key(&shared, &salt, from_public, &public_of(to_secret));
    decrypt(&key, aad, ciphertext).map(Zeroizing::new)
}

fn between_key(shared: &[u8; 32], salt: &[u8; 32], from: &[u8; 32], to: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    kdf::derive(salt, shared, &[b"leben/share/v1", from, to])
}

fn split(boxed: &[u8]) -> Result<([u8; 32], &[u8]), SealError> {
    let (version, rest) = boxed.split_first().ok_or(SealError::DoesNotOpen)?;
    let (head, ciphertext) = rest.split_first_chunk::<32>().ok_or(SealError::DoesNotOpen)?;
    if *version == VERSION { Ok((*head, ciphertext)) } else { Err(SealError::DoesNotOpen) }
}

fn encrypt(key: &[u8; 32], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.encrypt(&[0u8; 12].into(), Payload { msg: plaintext, aad }).map_err(|_| SealError::TooLong)
}

fn decrypt(key: &[u8; 32], aad: &[u8], ciphertext: &[u8]) -> Result<Vec<u8>, SealError> {
    let cipher = ChaCha20Poly1305::new(key.into());
    cipher.decrypt(&[0u8; 12].into(), Payload { msg: ciphertext, aad }).map_err(|_| SealError::DoesNotOpen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_flipped_bit_is_noticed() {
        let (secret, other) = ([7u8; 32], [8u8; 32]);
        let boxed = seal(&public_of(&secret), b"job 1", b"coefficients", [1; 32]).unwrap();
        assert_eq!(boxed.len(), b"coefficients".len() + SEAL_OVERHEAD_BYTES);
        assert_eq!(open(&secret, b"job 1", &boxed).unwrap(), b"coefficients");
        assert_eq!(open(&other, b"job 1", &boxed), Err(SealError::DoesNotOpen));
        assert_eq!(open(&secret, b"job 2", &boxed), Err(SealError::DoesNotOpen));
        for bit in 0..boxed.len() * 8 {
            let mut bad = boxed.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            // x25519 ignores the top bit of a public key (RFC 7748 section 5), but the key derivation does not.
            assert_eq!(open(&secret, b"job 1", &bad), Err(SealError::DoesNotOpen), "bit {bit}");
        }
        for len in 0..boxed.len() {
            assert_eq!(open(&secret, b"job 1", &boxed[..len]), Err(SealError::DoesNotOpen));
        }
    }

    #[test]
    fn a_repeated_seed_does_not_repeat_a_key() {
        let public = public_of(&[7; 32]);
        let one = seal(&public, b"", b"aaaa", [1; 32]).unwrap();
        let two = seal(&public, b"", b"bbbb", [1; 32]).unwrap();
        assert_ne!(one[1..33], two[1..33]);
    }

    #[test]
    fn low_order_keys_are_refused() {
        assert_eq!(seal(&[0; 32], b"", b"x", [1; 32]), Err(SealError::WeakKey));
    }

    #[test]
    fn between_two_members_only() {
        let (a, b, c) = ([1u8; 32], [2u8; 32], [3u8; 32]);
        let boxed = seal_between(&a, &public_of(&b), b"slot", b"share", &[4; 32]).unwrap();
        assert_eq!(*open_between(&b, &public_of(&a), b"slot", &boxed).unwrap(), b"share");
        for (secret, public) in [(&b, &c), (&c, &a), (&a, &b)] {
            assert!(open_between(secret, &public_of(public), b"slot", &boxed).is_err());
        }
        assert!(open_between(&b, &public_of(&a), b"slot 2", &boxed).is_err());
    }

    /// RFC 7748 section 5.2, first vector.
    #[test]
    fn x25519_known_answer() {
        let bytes = |s: &str| <[u8; 32]>::try_from(hex::decode(s).unwrap()).unwrap();
        let scalar = bytes("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4");
        let point = bytes("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c");
        let want = bytes("c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552");
        assert_eq!(*agree(&scalar, &point).unwrap(), want);
    }
}
