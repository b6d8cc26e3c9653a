//! Who is at the other end: an ed25519 key and nothing else.
//!
//! Leben has no certificate authority. The ledger says which key belongs to which party, so TLS carries the bare key
//! (raw public keys, RFC 7250, in the 44-byte form of RFC 8410) and proves that the peer holds its secret half.
//! * A **dialer** knows whom it dials: any key but the expected one ends the handshake, and the error names both. It says which key it
//!   expects, as the name that it asks for, so that a listener can serve two keys while a rotation spreads.
//! * A **listener** takes any ed25519 key: whether that key is enrolled is the application's question to the ledger, because a
//!   stranger must be able to enrol and nothing else.
//!
//! TLS 1.3 only; no session tickets and no early data, so every link is a fresh proof and nothing can be replayed.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::quic::link::LinkError;

/// The application protocol (RFC 7301) that both sides must name.
pub const ALPN: &[u8] = b"leben/1";

/// DER before the 32 bytes of an ed25519 public key (RFC 8410, 4):
/// `SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING (0 unused bits) }`.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// DER before the 32 bytes of an ed25519 secret (RFC 8410, 7, PKCS#8 version 1 without the public half):
/// `SEQUENCE { INTEGER 0, SEQUENCE { OID 1.3.101.112 }, OCTET STRING { OCTET STRING } }`.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// The ed25519 public key that belongs to a 32-byte seed (RFC 8032, 5.1.5).
pub fn public_key(seed: &[u8; 32]) -> Result<[u8; 32], LinkError> {
    let key = certified_key(seed)?;
    let spki = key.cert.first().ok_or_else(|| local("no public key"))?;
    key_from_spki(spki).ok_or_else(|| local("the public key has the wrong form"))
}

/// The name under which a listener is asked for one of its keys (SNI): a digest of the key, so that it is a legal name. It says no
/// more than the key itself, which the listener shows to everybody.
pub(crate) fn name_of(key: &[u8; 32]) -> String {
    let digest = Sha256::new().chain_update(b"leben/link-name/1").chain_update(key).finalize();
    format!("{}.leben.invalid", hex::encode(digest.get(..16).unwrap_or_default()))
}

/// A listener's keys by their names: after a rotation, whoever has not heard of it still asks for the old one.
#[derive(Debug)]
pub(crate) struct LinkKeys {
    keys: Vec<(String, Arc<CertifiedKey>)>,
}

impl LinkKeys {
    /// The first is shown to whoever names none of them.
    pub(crate) fn new(seeds: &[&[u8; 32]]) -> Result<LinkKeys, LinkError> {
        let key = |seed: &&[u8; 32]| Ok((name_of(&public_key(seed)?), certified_key(seed)?));
        Ok(LinkKeys { keys: seeds.iter().map(key).collect::<Result<_, LinkError>>()? })
    }
}

impl ResolvesServerCert for LinkKeys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let asked = hello.server_name().and_then(|name| self.keys.iter().find(|(known, _)| known == name));
        asked.or_else(|| self.keys.first()).map(|(_, key)| key.clone())
    }

    fn only_raw_public_keys(&self) -> bool {
        true
    }
}

/// The TLS side of a listener: proves one of its keys, asks every peer for its own.
pub(crate) fn server_config(keys: LinkKeys) -> Result<rustls::ServerConfig, LinkError> {
    let provider = provider();
    let verifier = Arc::new(AnyEd25519 { provider: provider.clone() });
    let resolver = Arc::new(keys);
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(local)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// The TLS side of a dialer's one connection. If the peer shows another ed25519 key, it is left in `got`.
pub(crate) fn client_config(
    own: Arc<CertifiedKey>,
    expected: [u8; 32],
    got: Arc<OnceLock<[u8; 32]>>,
) -> Result<rustls::ClientConfig, LinkError> {
    let provider = provider();
    let verifier = Arc::new(OneEd25519 { provider: provider.clone(), expected, got });
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(local)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(own)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

/// The key pair of a seed in the form that rustls takes. The secret is copied once, into ring; the DER is wiped.
pub(crate) fn certified_key(seed: &[u8; 32]) -> Result<Arc<CertifiedKey>, LinkError> {
    let mut der = Zeroizing::new([0u8; 48]);
    let (prefix, secret) = der.split_at_mut(PKCS8_PREFIX.len());
    prefix.copy_from_slice(&PKCS8_PREFIX);
    secret.copy_from_slice(seed);
    let signer = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(&der[..])).map_err(local)?;
    let spki = signer.public_key().ok_or_else(|| local("the key has no public half"))?;
    let public = CertificateDer::from(spki.as_ref().to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![public], signer)))
}

/// The ed25519 key in a peer's SubjectPublicKeyInfo; `None` for every other kind of key and every other form.
pub(crate) fn key_from_spki(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()
}

/// Accepts the holder of any ed25519 key. Whether it is enrolled is the ledger's to say.
#[derive(Debug)]
struct AnyEd25519 {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyEd25519 {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        bare_key(end_entity, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_proof(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Accepts the holder of one ed25519 key.
#[derive(Debug)]
struct OneEd25519 {
    provider: Arc<CryptoProvider>,
    expected: [u8; 32],
    got: Arc<OnceLock<[u8; 32]>>,
}

impl ServerCertVerifier for OneEd25519 {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = bare_key(end_entity, intermediates)?;
        if key == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let _ = self.got.set(key);
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(only_tls13())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_proof(&self.provider, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

fn bare_key(end_entity: &CertificateDer<'_>, intermediates: &[CertificateDer<'_>]) -> Result<[u8; 32], Error> {
    if !intermediates.is_empty() {
        return Err(Error::InvalidCertificate(CertificateError::BadEncoding));
    }
    key_from_spki(end_entity).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))
}

fn verify_proof(
    provider: &CryptoProvider,
    message: &[u8],
    key: &CertificateDer<'_>,
    proof: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    // The scheme is the peer's choice: without this line a future provider could let another algorithm read these bytes.
    if proof.scheme != SignatureScheme::ED25519 {
        return Err(Error::PeerIncompatible(PeerIncompatible::NoSignatureSchemesInCommon));
    }
    let spki = SubjectPublicKeyInfoDer::from(key.as_ref());
    verify_tls13_signature_with_raw_key(message, &spki, proof, &provider.signature_verification_algorithms)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn only_tls13() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}

fn local(why: impl ToString) -> LinkError {
    LinkError::Local { why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::{SPKI_PREFIX, key_from_spki, public_key};

    // RFC 8032, 7.1, TEST 1 and TEST 2.
    #[test]
    fn the_public_key_is_that_of_rfc_8032() {
        for (seed, public) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
            ),
        ] {
            let seed: [u8; 32] = hex::decode(seed).unwrap().try_into().unwrap();
            assert_eq!(hex::encode(public_key(&seed).unwrap()), public);
            assert_eq!(
                ed25519_dalek::SigningKey::from_bytes(&seed).verifying_key().to_bytes(),
                public_key(&seed).unwrap()
            );
        }
    }

    #[test]
    fn only_the_44_byte_ed25519_form_is_a_key() {
        let spki: Vec<u8> = SPKI_PREFIX.into_iter().chain([9; 32]).collect();
        assert_eq!(key_from_spki(&spki), Some([9; 32]));
        assert_eq!(key_from_spki(&spki[..43]), None);
        assert_eq!(key_from_spki(&[&spki[..], &[0]].concat()), None);
        for bit in 0..SPKI_PREFIX.len() * 8 {
            let mut flipped = spki.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key_from_spki(&flipped), None, "bit {bit} of the prefix flipped");
        }
    }
}
