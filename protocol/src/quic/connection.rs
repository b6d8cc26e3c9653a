//! One live link to one key.

use std::net::SocketAddr;
use std::sync::Arc;

use quinn::VarInt;

use crate::limits::CONNECTION_WINDOW_BYTES;
use crate::quic::link::{CODE_DONE, LinkError};
use crate::quic::stream::{FrameReader, FrameWriter, Track};
use crate::quic::tap::{Direction, Flow, Tap};
use crate::reject::{Reject, RejectCode};

/// A link whose two ends have proven their ed25519 keys. Clones are handles to the same link; the link is closed when
/// the last of them and the last of its streams are dropped.
#[derive(Clone)]
pub struct Connection {
    quic: quinn::Connection,
    endpoint: quinn::Endpoint,
    peer: [u8; 32],
    tap: Option<Arc<dyn Tap>>,
}

/// What a link has moved and how it does, from QUIC's own counters: everything on the wire, headers and repeats included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// UDP payload bytes sent.
    pub sent_bytes: u64,
    /// UDP payload bytes received.
    pub received_bytes: u64,
    /// Round-trip time, smoothed, in microseconds.
    pub rtt_us: u64,
    /// Packets that had to be sent again.
    pub lost_packets: u64,
}

impl Connection {
    pub(crate) fn new(
        quic: quinn::Connection,
        endpoint: quinn::Endpoint,
        peer: [u8; 32],
        tap: Option<Arc<dyn Tap>>,
    ) -> Connection {
        Connection { quic, endpoint, peer, tap }
    }

    /// The ed25519 key that the peer has proven in this link's handshake.
    pub fn peer_key(&self) -> [u8; 32] {
        self.peer
    }

    /// Where the peer is now; may change while the link lives, when a NAT gives it another port.
    pub fn remote_address(&self) -> SocketAddr {
        self.quic.remote_address()
    }

    /// The application knows this key: gives it the window of
    /// [`CONNECTION_WINDOW_BYTES`] in place of a stranger's. Listeners call it once the ledger has been asked; a dialer
    /// need not.
    pub fn admit(&self) {
        self.quic.set_receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    }

    /// Opens a stream in both directions. Waits while the peer has as many open as it allows.
    /// The peer learns of it with the first frame, so the side that opens must speak first.
    pub async fn open_bi(&self) -> Result<(FrameWriter, FrameReader), LinkError> {
        let (send, receive) = self.quic.open_bi().await?;
        Ok(self.pair(send, receive))
    }

    /// Waits for a stream that the peer opens in both directions. Cancel-safe.
    pub async fn accept_bi(&self) -> Result<(FrameWriter, FrameReader), LinkError> {
        let (send, receive) = self.quic.accept_bi().await?;
        Ok(self.pair(send, receive))
    }

    /// Opens a stream to the peer alone.
    pub async fn open_uni(&self) -> Result<FrameWriter, LinkError> {
        let send = self.quic.open_uni().await?;
        let track = self.track(send.id(), Direction::Sent);
        Ok(FrameWriter::new(send, track))
    }

    /// Waits for a stream from the peer alone. Cancel-safe.
    pub async fn accept_uni(&self) -> Result<FrameReader, LinkError> {
        let receive = self.quic.accept_uni().await?;
        let track = self.track(receive.id(), Direction::Received);
        Ok(FrameReader::new(receive, track))
    }

    /// Ends the link in peace. Whatever was not yet acknowledged is lost: finish streams first
    /// ([`FrameWriter::finish_and_wait`]).
    pub fn close(&self, reason: &str) {
        self.close_with(VarInt::from_u32(CODE_DONE), reason);
    }

    /// Ends the link and tells the peer why; it meets [`LinkError::Refused`].
    pub fn refuse(&self, reject: &Reject) {
        self.close_with(VarInt::from_u32(u32::from(reject.code)), &reject.message);
    }

    /// [`close`](Connection::close) and waits until the peer has been told (or three round trips have passed).
    /// A process that exits without it leaves its peer waiting for the idle timeout. On a listener's link use
    /// [`Listener::close`](crate::quic::Listener::close) instead, which does this for all of them.
    pub async fn close_and_wait(&self, reason: &str) {
        self.close(reason);
        self.endpoint.wait_idle().await;
    }

    /// Waits until the link has ended, and says how.
    pub async fn closed(&self) -> LinkError {
        self.quic.closed().await.into()
    }

    /// How the link ended, if it has.
    pub fn close_reason(&self) -> Option<LinkError> {
        self.quic.close_reason().map(LinkError::from)
    }

    /// Round-trip time, smoothed, in microseconds.
    pub fn rtt_us(&self) -> u64 {
        u64::try_from(self.quic.rtt().as_micros()).unwrap_or(u64::MAX)
    }

    /// What the link has moved so far.
    pub fn stats(&self) -> LinkStats {
        let stats = self.quic.stats();
        LinkStats {
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            rtt_us: self.rtt_us(),
            lost_packets: stats.path.lost_packets,
        }
    }

    fn pair(&self, send: quinn::SendStream, receive: quinn::RecvStream) -> (FrameWriter, FrameReader) {
        let out = self.track(send.id(), Direction::Sent);
        let back = self.track(receive.id(), Direction::Received);
        (FrameWriter::new(send, out), FrameReader::new(receive, back))
    }

    fn track(&self, stream: quinn::StreamId, direction: Direction) -> Track {
        let flow = Flow { peer: self.peer, stream: VarInt::from(stream).into_inner(), direction };
        Track::new(self.tap.clone(), flow)
    }

    fn close_with(&self, code: VarInt, reason: &str) {
        // Cut again here: a Reject's fields are public, and quinn would send an empty reason if it did not fit.
        let reason = Reject::new(RejectCode::Internal, reason).message;
        Track::new(self.tap.clone(), Flow { peer: self.peer, stream: u64::MAX, direction: Direction::Sent })
            .see(reason.as_bytes());
        self.quic.close(code, reason.as_bytes());
    }
}

impl core::fmt::Debug for Connection {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Connection")
            .field("peer", &crate::key::fingerprint(&self.peer))
            .field("remote_address", &self.remote_address())
            .finish_non_exhaustive()
    }
}
