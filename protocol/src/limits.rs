//! Every bound of the protocol, in one place, each with its reason. A peer that goes past one of them gets a
//! [`Reject`](crate::reject::Reject); nothing is allocated on a peer's word alone.

/// Bytes of one encoded control frame, at most: 1 MiB.
///
/// The largest honest frame carries ledger leaves (32 KiB each) or one sealed share for each hospital; both stay below with
/// room to spare, and 1 MiB is what a coordinator can afford to hold for every stream of every connection at once.
pub const FRAME_BYTES_MAX: usize = 1 << 20;

/// Bytes of payload in one chunk of a transfer, at most: 256 KiB.
///
/// Large enough that the frame header, the system calls and one hash a chunk vanish beside the copy; small enough that a
/// chunk on the way through a worker and a coordinator fits the second-level cache. The same number as
/// `leben_privacy::layout` cuts a masked vector into.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// Bytes of a chunk frame beyond its payload: the chunk's index, a u64.
pub const CHUNK_OVERHEAD_BYTES: usize = 8;

/// Bytes of the length that stands before every frame: a u32, little-endian.
pub const LENGTH_BYTES: usize = 4;

/// Chunks in one transfer, at most: 2^20, so 256 GiB. Keeps `index * CHUNK_BYTES_MAX` far from overflow.
pub const CHUNKS_MAX: u64 = 1 << 20;

/// Bytes of one blob (model state, ledger file, result), at most: 256 GiB. A reader passes its own, tighter bound.
pub const BLOB_BYTES_MAX: u64 = CHUNKS_MAX * CHUNK_BYTES_MAX as u64;

/// Bytes that a frame's buffer grows by before more has arrived: 64 KiB.
///
/// A length prefix is a claim: memory follows the bytes that came, not the bytes that were announced.
pub const READ_STEP_BYTES: usize = 64 << 10;

/// Bytes of the words in a close reason, at most: it must fit one QUIC packet of 1200 bytes beside the headers.
pub const REASON_BYTES_MAX: usize = 512;

/// Streams of each kind that a peer may have open at once: one control stream, one upload for each running job, a handful of
/// requests. Beyond it the peer waits, which is backpressure, not an error.
pub const STREAMS_MAX: u32 = 64;

/// Connections a listener holds at once. With [`STRANGER_WINDOW_BYTES`] each, unknown peers can pin 1 GiB at most.
pub const CONNECTIONS_MAX: usize = 1024;

/// Handshakes a listener runs at once. A handshake costs about 1 ms of CPU, so 64 keep the wait of an honest peer below 0.1 s.
pub const HANDSHAKES_MAX: usize = 64;

/// Handshakes under way from which on an unproven source address must first answer a Retry (RFC 9000, 8.1.2), so that a
/// flood from forged addresses costs the listener no memory and no signatures.
pub const HANDSHAKES_BEFORE_RETRY: usize = HANDSHAKES_MAX / 2;

/// Finished handshakes that wait for the application to accept them. Beyond it, handshakes wait and the listener slows down.
pub const ACCEPT_QUEUE: usize = 32;

/// Milliseconds that a handshake may take: three losses on a 300 ms path still fit.
pub const HANDSHAKE_TIMEOUT_MS: u64 = 10_000;

/// Milliseconds of silence after which a connection counts as lost (RFC 9308, 3.2 recommends 30 s).
pub const IDLE_TIMEOUT_MS: u32 = 30_000;

/// Milliseconds between keep-alives: a third of the shortest NAT binding seen in the field (30 s for UDP, RFC 4787 asks for
/// 120 s), and so that two may be lost before [`IDLE_TIMEOUT_MS`].
pub const KEEP_ALIVE_MS: u64 = 8_000;

/// Milliseconds before the first redial: a restarted coordinator is back in about this time.
pub const BACKOFF_MIN_MS: u64 = 250;

/// Milliseconds between redials at most: a hospital is back half a minute after its network is, and a thousand of them ask
/// 33 times a second at worst.
pub const BACKOFF_MAX_MS: u64 = 30_000;

/// Bytes that a peer may have sent on one stream without their being read: 8 MiB, one bandwidth-delay product of
/// 1 Gbit/s at 64 ms. This, not the length of the vector, is the memory of a slow reader.
pub const STREAM_WINDOW_BYTES: u32 = 8 << 20;

/// The same over all streams of one admitted connection: 16 MiB, so that one stalled upload leaves room for the control stream.
pub const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

/// The same for a peer whose key the application has not admitted yet: 1 MiB, enough for the largest frame.
pub const STRANGER_WINDOW_BYTES: u32 = 1 << 20;

/// Bytes written but not yet acknowledged that a connection keeps for sending again, at most: 8 MiB.
pub const SEND_WINDOW_BYTES: u64 = 8 << 20;

const _: () = assert!(CHUNK_BYTES_MAX + CHUNK_OVERHEAD_BYTES <= FRAME_BYTES_MAX);
const _: () = assert!(FRAME_BYTES_MAX + LENGTH_BYTES <= u32::MAX as usize);
const _: () = assert!(KEEP_ALIVE_MS * 3 < IDLE_TIMEOUT_MS as u64);
