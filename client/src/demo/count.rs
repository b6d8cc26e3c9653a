//! Counts the bytes of each link at the coordinator, where they are not encrypted yet: the frames themselves, without what
//! QUIC and UDP add.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use leben_protocol::quic::{Direction, Flow, Tap};

/// Bytes a peer sent and received, as the coordinator counts them.
#[derive(Default)]
pub struct Counter {
    bytes: Mutex<HashMap<([u8; 32], Direction), u64>>,
}

impl Counter {
    /// Bytes received from and sent to these peers.
    pub fn up_and_down(&self, peers: &HashSet<[u8; 32]>) -> (u64, u64) {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |direction| {
            let of_peers = bytes.iter().filter(|((peer, way), _)| peers.contains(peer) && *way == direction);
            of_peers.map(|(_, bytes)| bytes).sum()
        };
        (sum(Direction::Received), sum(Direction::Sent))
    }
}

impl Tap for Counter {
    fn see(&self, flow: Flow, bytes: &[u8]) {
        let mut all = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        *all.entry((flow.peer, flow.direction)).or_default() += bytes.len() as u64;
    }
}
