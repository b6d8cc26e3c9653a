//! How a listener that was killed tells its old peers so, once it is back: stateless resets (RFC 9000, 10.3).
//!
//! A process that ends without a word leaves its peers waiting for the idle timeout. When it listens again with the same
//! key, it answers their next packet with a token that only the holder of that key can make, and they dial anew at once.

use std::sync::Arc;

use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::quic::link::LinkError;

/// Bytes of a connection id: as many as quinn's own have.
const ID_BYTES: usize = 8;

/// The endpoint of whoever holds `seed`: it proves that the connections of its earlier lives were its own.
pub(crate) fn endpoint_config(seed: &[u8; 32]) -> Result<EndpointConfig, LinkError> {
    let mut fresh = [0; 32];
    getrandom::fill(&mut fresh).map_err(|error| LinkError::Local { why: error.to_string() })?;
    let key = Zeroizing::new(derive(b"leben/reset-key/1", seed, &[]));
    let mut config = EndpointConfig::new(Arc::new(ResetKey(key)));
    config.cid_generator(move || Box::new(RandomIds(ChaCha20Rng::from_seed(fresh))));
    Ok(config)
}

/// Random ids. quinn's own would not be recognised, and so not answered, by a later life of this endpoint.
struct RandomIds(ChaCha20Rng);

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; ID_BYTES];
        self.0.fill_bytes(&mut id);
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<std::time::Duration> {
        None
    }
}

/// Makes tokens from connection ids. QUIC sends the first 16 of the 32 bytes, so nothing can be appended to what was hashed.
struct ResetKey(Zeroizing<[u8; 32]>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        for (out, byte) in signature_out.iter_mut().zip(derive(b"leben/reset-token/1", &self.0, data)) {
            *out = byte;
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, _data: &[u8], _signature: &[u8]) -> Result<(), CryptoError> {
        // Tokens are only made here; a peer compares those that it was given, and shows none.
        Err(CryptoError)
    }
}

/// SHA-256 over a domain, 32 secret bytes, and data.
fn derive(domain: &[u8], secret: &[u8; 32], data: &[u8]) -> [u8; 32] {
    Sha256::new().chain_update(domain).chain_update(secret).chain_update(data).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_the_same_in_every_life_of_a_key_and_another_for_every_key_and_id() {
        let token = |seed: u8, id: &[u8]| {
            let mut out = [0; 32];
            ResetKey(Zeroizing::new([seed; 32])).sign(id, &mut out);
            out
        };
        assert_eq!(token(1, b"12345678"), token(1, b"12345678"));
        assert_ne!(token(1, b"12345678"), token(2, b"12345678"));
        assert_ne!(token(1, b"12345678"), token(1, b"12345679"));
    }
}
