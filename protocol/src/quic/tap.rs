//! Somebody who may look at every byte before it is encrypted, and after it is decrypted.
//!
//! Two uses: the sentinel test, which searches for planted patient values in everything that leaves a hospital, and
//! counting bytes. Without a tap the cost is one comparison with null a frame.

/// Where a byte was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Flow {
    /// The ed25519 key at the other end.
    pub peer: [u8; 32],
    /// The QUIC stream, or `u64::MAX` for the reason of a closed connection. Bytes of one stream and direction come in order,
    /// so a tap can stitch them together.
    pub stream: u64,
    /// Which way.
    pub direction: Direction,
}

/// Which way bytes went, seen from the endpoint that holds the tap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// About to be encrypted and sent.
    Sent,
    /// Received and decrypted.
    Received,
}

/// Sees all plaintext of an endpoint: lengths, frames, chunks, close reasons.
///
/// Called from the task that sends or receives, so it should return quickly. It cannot change or stop anything.
pub trait Tap: Send + Sync {
    /// `bytes` went through `flow`. Pieces may be cut anywhere; [`Flow::stream`] says how to join them.
    fn see(&self, flow: Flow, bytes: &[u8]);
}
