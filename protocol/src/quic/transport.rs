//! How quinn is set: the bounds of [`limits`](crate::limits), in quinn's words.
//!
//! Everything else is quinn's default. Packets up to 9000 bytes were tried and brought nothing on loopback (700 MB/s on one
//! stream with 1452, both ends on 2 cores, `tests/transfer.rs` loopback_speed): segmentation offload has done it already.

use std::sync::Arc;
use std::time::Duration;

use quinn::{IdleTimeout, TransportConfig, VarInt};

use crate::limits::{
    CONNECTION_WINDOW_BYTES, IDLE_TIMEOUT_MS, KEEP_ALIVE_MS, SEND_WINDOW_BYTES, STRANGER_WINDOW_BYTES,
    STREAM_WINDOW_BYTES, STREAMS_MAX,
};

/// Which side the bounds are for.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    /// Knows whom it dialled: full window from the start.
    Dialer,
    /// Knows nobody yet: a stranger's window until the application admits the key.
    Listener,
}

pub(crate) fn transport_config(side: Side) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    let window = match side {
        Side::Dialer => CONNECTION_WINDOW_BYTES,
        Side::Listener => STRANGER_WINDOW_BYTES,
    };
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(STREAMS_MAX))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_TIMEOUT_MS))))
        .keep_alive_interval(Some(Duration::from_millis(KEEP_ALIVE_MS)))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(window))
        .send_window(SEND_WINDOW_BYTES)
        // Nothing of ours is a datagram.
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}
