//! Listen and dial. Workers and clients only dial; the coordinator only listens.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ConnectionError, Endpoint, EndpointConfig, Incoming, TokioRuntime};
use rustls::pki_types::CertificateDer;
use rustls::sign::CertifiedKey;
use tokio::sync::{Mutex, Semaphore, mpsc};
use tokio::time::timeout;

use crate::backoff::Backoff;
use crate::limits::{ACCEPT_QUEUE, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT_MS, HANDSHAKES_BEFORE_RETRY, HANDSHAKES_MAX};
use crate::quic::connection::Connection;
use crate::quic::identity::{LinkKeys, certified_key, client_config, key_from_spki, name_of, server_config};
use crate::quic::link::{CODE_DONE, LinkError};
use crate::quic::reset::endpoint_config;
use crate::quic::tap::Tap;
use crate::quic::transport::{Side, transport_config};

type Accepted = Result<Connection, LinkError>;

/// Takes links from everybody who proves an ed25519 key.
pub struct Listener {
    endpoint: Endpoint,
    ready: Mutex<mpsc::Receiver<Accepted>>,
    greeter: tokio::task::JoinHandle<()>,
}

impl Listener {
    /// Listens on `addr` (port 0: any) with the ed25519 key of `seed`. Must be called within a tokio runtime.
    pub fn bind(addr: SocketAddr, seed: &[u8; 32]) -> Result<Listener, LinkError> {
        Listener::bind_with_tap(addr, seed, seed, None)
    }

    /// The same, with somebody who sees all plaintext. `life` is a secret that outlives rotations of the link key: by it a later life
    /// of this listener tells the peers of an earlier one that their links are gone.
    pub fn bind_with_tap(
        addr: SocketAddr,
        seed: &[u8; 32],
        life: &[u8; 32],
        tap: Option<Arc<dyn Tap>>,
    ) -> Result<Listener, LinkError> {
        let endpoint = open_socket(addr, endpoint_config(life)?, Some(quic_config(&[seed])?))?;
        let (to_ready, ready) = mpsc::channel(ACCEPT_QUEUE);
        let greeter = tokio::spawn(greet(endpoint.clone(), to_ready, tap));
        Ok(Listener { endpoint, ready: Mutex::new(ready), greeter })
    }

    /// From the next handshake on, links are taken with any of these keys: the one that the dialer asks for, the first where it asks
    /// for none of them. Links that are up stay.
    pub fn set_keys(&self, seeds: &[&[u8; 32]]) -> Result<(), LinkError> {
        self.endpoint.set_server_config(Some(quic_config(seeds)?));
        Ok(())
    }

    /// The address that is really listened on.
    pub fn local_addr(&self) -> Result<SocketAddr, LinkError> {
        self.endpoint.local_addr().map_err(local)
    }

    /// The next link; `None` once the listener is closed. An error is one failed handshake: worth a line in the log, never a
    /// reason to stop. Handshakes run beside each other, so a slow peer delays nobody. Cancel-safe.
    pub async fn accept(&self) -> Option<Accepted> {
        self.ready.lock().await.recv().await
    }

    /// Links that are open now, handshakes included.
    pub fn open_connections(&self) -> usize {
        self.endpoint.open_connections()
    }

    /// Stops listening, ends every link in peace and waits until the peers have been told.
    pub async fn close(&self, reason: &str) {
        self.greeter.abort();
        self.endpoint.close(CODE_DONE.into(), reason.as_bytes());
        self.endpoint.wait_idle().await;
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.greeter.abort();
    }
}

/// Dials out with one key.
#[derive(Clone)]
pub struct Dialer {
    key: Arc<CertifiedKey>,
    tap: Option<Arc<dyn Tap>>,
}

impl Dialer {
    /// Dials with the ed25519 key of `seed`.
    pub fn new(seed: &[u8; 32]) -> Result<Dialer, LinkError> {
        Ok(Dialer { key: certified_key(seed)?, tap: None })
    }

    /// The same dialer, with somebody who sees all plaintext.
    pub fn with_tap(self, tap: Arc<dyn Tap>) -> Dialer {
        Dialer { tap: Some(tap), ..self }
    }

    /// Links to the holder of `expected_key` at `addr`, from a fresh local port, within [`HANDSHAKE_TIMEOUT_MS`].
    ///
    /// In TLS 1.3 the dialer is done first: a listener that refuses this side's key says so in the next thing that is read.
    pub async fn dial(&self, addr: SocketAddr, expected_key: [u8; 32]) -> Result<Connection, LinkError> {
        let got = Arc::new(OnceLock::new());
        let tls = client_config(self.key.clone(), expected_key, got.clone())?;
        let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(local)?));
        config.transport_config(transport_config(Side::Dialer));
        let endpoint = open_socket(any_port_towards(addr), EndpointConfig::default(), None)?;
        // The name only tells the listener which of its keys is expected; the key is what is looked at.
        let connecting = endpoint
            .connect_with(config, addr, &name_of(&expected_key))
            .map_err(|error| LinkError::Unreachable { target: addr.to_string(), why: error.to_string() })?;
        let quic = match timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), connecting).await {
            Ok(Ok(quic)) => quic,
            Ok(Err(error)) => {
                let error = match got.get() {
                    Some(&got) => LinkError::WrongKey { addr, expected: expected_key, got },
                    None => handshake_error(addr, error),
                };
                return Err(error);
            }
            Err(_) => return Err(LinkError::Timeout { during: "dialling", after_ms: HANDSHAKE_TIMEOUT_MS }),
        };
        Ok(Connection::new(quic, endpoint, expected_key, self.tap.clone()))
    }

    /// Dials `target` (host:port, looked up again at each try) until it answers, waiting as `backoff` says.
    /// `on_retry` hears of each failure and of the wait in milliseconds that follows.
    ///
    /// Gives up at once on what waiting cannot mend: another key, a refusal, a fault of this side. Does not reset `backoff`:
    /// the caller does, when the first frame has come back.
    pub async fn dial_with_backoff(
        &self,
        target: &str,
        expected_key: [u8; 32],
        backoff: &mut Backoff,
        mut on_retry: impl FnMut(&LinkError, u64),
    ) -> Result<Connection, LinkError> {
        loop {
            let tried = match resolve(target).await {
                Ok(addr) => self.dial(addr, expected_key).await,
                Err(error) => Err(error),
            };
            match tried {
                Err(error) if error.is_worth_retrying() => {
                    let delay_ms = backoff.next_delay_ms();
                    on_retry(&error, delay_ms);
                    tokio::time::sleep(Duration::from_millis(delay_ms)).await;
                }
                ended => return ended,
            }
        }
    }
}

/// The first address of `target` (host:port).
pub async fn resolve(target: &str) -> Result<SocketAddr, LinkError> {
    let unreachable = |why: String| LinkError::Unreachable { target: target.to_owned(), why };
    let mut found = tokio::net::lookup_host(target).await.map_err(|error| unreachable(error.to_string()))?;
    found.next().ok_or_else(|| unreachable("the name has no address".into()))
}

/// Starts a task for each handshake, within the bounds, until the endpoint is closed.
async fn greet(endpoint: Endpoint, ready: mpsc::Sender<Accepted>, tap: Option<Arc<dyn Tap>>) {
    let slots = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() >= CONNECTIONS_MAX {
            incoming.refuse();
            continue;
        }
        let busy = HANDSHAKES_MAX.saturating_sub(slots.available_permits()) >= HANDSHAKES_BEFORE_RETRY;
        if busy && !incoming.remote_address_validated() && incoming.may_retry() {
            // Fails only where a retry was already made, which may_retry has ruled out.
            let _ = incoming.retry();
            continue;
        }
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (endpoint, ready, tap) = (endpoint.clone(), ready.clone(), tap.clone());
        tokio::spawn(async move {
            let accepted = shake_hands(incoming, endpoint, tap).await;
            match accepted {
                Ok(connection) => drop(ready.send(Ok(connection)).await),
                // Failed handshakes are anybody's to make: they may not push honest links out of the queue.
                Err(error) => drop(ready.try_send(Err(error))),
            }
            drop(slot);
        });
    }
}

async fn shake_hands(incoming: Incoming, endpoint: Endpoint, tap: Option<Arc<dyn Tap>>) -> Accepted {
    let addr = incoming.remote_address();
    let connecting = incoming.accept().map_err(|error| handshake_error(addr, error))?;
    let quic = timeout(Duration::from_millis(HANDSHAKE_TIMEOUT_MS), connecting)
        .await
        .map_err(|_| LinkError::Timeout { during: "waiting for a dialer's handshake", after_ms: HANDSHAKE_TIMEOUT_MS })?
        .map_err(|error| handshake_error(addr, error))?;
    let peer =
        peer_key(&quic).ok_or_else(|| LinkError::Handshake { addr, why: "the peer shows no ed25519 key".into() })?;
    Ok(Connection::new(quic, endpoint, peer, tap))
}

/// The key of the handshake. The verifier has let nothing but one ed25519 key through; a surprise is still an error.
fn peer_key(quic: &quinn::Connection) -> Option<[u8; 32]> {
    let identity = quic.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    match identity.as_slice() {
        [spki] => key_from_spki(spki),
        _ => None,
    }
}

fn handshake_error(addr: SocketAddr, error: ConnectionError) -> LinkError {
    match error {
        ConnectionError::TimedOut => LinkError::Timeout { during: "dialling", after_ms: HANDSHAKE_TIMEOUT_MS },
        // What a full listener answers (RFC 9000, 20.1: CONNECTION_REFUSED): worth another try later.
        ConnectionError::ConnectionClosed(close)
            if close.error_code == quinn::TransportErrorCode::CONNECTION_REFUSED =>
        {
            LinkError::Unreachable { target: addr.to_string(), why: "it holds as many connections as it can".into() }
        }
        ConnectionError::ConnectionClosed(_)
        | ConnectionError::TransportError(_)
        | ConnectionError::VersionMismatch => {
            LinkError::Handshake { addr, why: crate::reject::printable(&error.to_string()) }
        }
        other => other.into(),
    }
}

fn quic_config(seeds: &[&[u8; 32]]) -> Result<quinn::ServerConfig, LinkError> {
    let tls = QuicServerConfig::try_from(server_config(LinkKeys::new(seeds)?)?).map_err(local)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
    config.transport_config(transport_config(Side::Listener)).max_incoming(HANDSHAKES_MAX);
    Ok(config)
}

fn open_socket(
    addr: SocketAddr,
    config: EndpointConfig,
    server: Option<quinn::ServerConfig>,
) -> Result<Endpoint, LinkError> {
    let failed = |error: std::io::Error| LinkError::Bind { addr, why: error.to_string() };
    let socket = UdpSocket::bind(addr).map_err(failed)?;
    Endpoint::new(config, server, socket, Arc::new(TokioRuntime)).map_err(failed)
}

fn any_port_towards(addr: SocketAddr) -> SocketAddr {
    match addr {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

fn local(why: impl ToString) -> LinkError {
    LinkError::Local { why: why.to_string() }
}
