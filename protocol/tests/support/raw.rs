//! A dialer that does not keep the rules.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme};

/// What the dialer shows for a key.
#[derive(Clone, Copy, Debug)]
pub enum Key {
    /// Its own ed25519 key, as it should be.
    Own,
    /// Nothing, as one who knows only X.509.
    NoneAsX509,
    /// Nothing, though it can do raw keys.
    NoneAsRaw,
    /// An X25519 key of the same length.
    OtherKind,
    /// Another party's ed25519 key, signed with its own.
    SomebodyElses,
    /// Its own key twice.
    Chain,
}

pub async fn dial(addr: SocketAddr, key: Key, alpn: &[u8]) -> Result<quinn::Connection, quinn::ConnectionError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAnybody))
        .with_client_cert_resolver(Arc::new(Shows(key)));
    config.alpn_protocols = vec![alpn.to_vec()];
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(config).unwrap()));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    endpoint.connect_with(config, addr, "anything").unwrap().await
}

#[derive(Debug)]
struct Shows(Key);

impl rustls::client::ResolvesClientCert for Shows {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let own = rustls::crypto::ring::sign::any_eddsa_type(&PrivatePkcs8KeyDer::from(
            [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20], &[9u8; 32][..]].concat(),
        ))
        .unwrap();
        let mut spki = own.public_key().unwrap().as_ref().to_vec();
        let copies = match self.0 {
            Key::NoneAsX509 | Key::NoneAsRaw => return None,
            Key::Own => 1,
            Key::Chain => 2,
            Key::OtherKind => {
                spki[8] = 0x6e;
                1
            }
            Key::SomebodyElses => {
                let other = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
                spki[12..].copy_from_slice(other.verifying_key().as_bytes());
                1
            }
        };
        Some(Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki); copies], own)))
    }

    fn has_certs(&self) -> bool {
        true
    }

    fn only_raw_public_keys(&self) -> bool {
        !matches!(self.0, Key::NoneAsX509)
    }
}

#[derive(Debug)]
struct TrustsAnybody;

impl ServerCertVerifier for TrustsAnybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
