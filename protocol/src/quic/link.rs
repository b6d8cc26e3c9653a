//! What can go wrong between two endpoints.

use std::net::SocketAddr;

use crate::codec::CodecError;
use crate::key::fingerprint;
use crate::limits::IDLE_TIMEOUT_MS;
use crate::reject::{Reject, RejectCode, printable};

/// Close code of a connection or stream that ends in peace. Every other code is a [`RejectCode`].
pub(crate) const CODE_DONE: u32 = 0;

/// A link did not come about, or ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The local address cannot be used.
    #[error("cannot open a UDP socket on {addr}: {why}. Check that the address is this machine's and the port is free")]
    Bind {
        /// The local address.
        addr: SocketAddr,
        /// What the system said.
        why: String,
    },
    /// The name or address leads nowhere.
    #[error("{target} cannot be reached: {why}. Check the address (host:port) and that UDP may pass")]
    Unreachable {
        /// What was dialled.
        target: String,
        /// What the system said.
        why: String,
    },
    /// Nothing came back in time.
    #[error(
        "no answer within {after_ms} ms while {during}. Check that the other side runs, and that UDP may pass both ways"
    )]
    Timeout {
        /// What was waited for.
        during: &'static str,
        /// How long, in milliseconds.
        after_ms: u64,
    },
    /// Somebody else answered.
    #[error(
        "{addr} holds another key than the expected one: expected {}, got {}. Do not go on: compare both with the invite, or ask the operator by another way",
        fingerprint(expected),
        fingerprint(got)
    )]
    WrongKey {
        /// Who was dialled.
        addr: SocketAddr,
        /// The ed25519 key that should be there.
        expected: [u8; 32],
        /// The ed25519 key that is there.
        got: [u8; 32],
    },
    /// The TLS handshake failed for another reason.
    #[error(
        "no secure link with {addr}: {why}. The other side must prove an ed25519 key (RFC 7250) and speak TLS 1.3 with ALPN leben/1"
    )]
    Handshake {
        /// The other side.
        addr: SocketAddr,
        /// What the TLS library said.
        why: String,
    },
    /// The peer refused; it says why.
    #[error("refused by the other side: {0}")]
    Refused(Reject),
    /// The peer did what it must not; this is what it should be told.
    #[error("the other side broke the protocol: {0}")]
    Misbehaved(Reject),
    /// The link was there and is gone.
    #[error("the link is lost: {why}")]
    Lost {
        /// What the transport said.
        why: String,
    },
    /// The link or stream was closed, by either side and in peace.
    #[error("the link is closed")]
    Closed,
    /// A frame of ours cannot be sent; a fault of this program.
    #[error(transparent)]
    Frame(CodecError),
    /// This side's key or system failed before anything was sent.
    #[error("this side cannot take part: {why}")]
    Local {
        /// What failed.
        why: String,
    },
}

impl LinkError {
    /// True if dialling again by itself makes sense: the network or the other process may come back.
    /// False if a person must look first (another key, a refusal, a fault of ours).
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            LinkError::Unreachable { .. } | LinkError::Timeout { .. } | LinkError::Lost { .. } | LinkError::Closed => {
                true
            }
            LinkError::Refused(reject) => reject.is_temporary(),
            _ => false,
        }
    }

    /// What the peer should be told before the link is closed, if this was its fault.
    pub fn reject(&self) -> Option<&Reject> {
        match self {
            LinkError::Misbehaved(reject) => Some(reject),
            _ => None,
        }
    }

    /// What the peer said when it refused this side, if it did.
    pub fn refusal(&self) -> Option<&Reject> {
        match self {
            LinkError::Refused(reject) => Some(reject),
            _ => None,
        }
    }

    pub(crate) fn misbehaved(code: RejectCode, message: impl AsRef<str>) -> LinkError {
        LinkError::Misbehaved(Reject::new(code, message))
    }

    pub(crate) fn lost(why: impl ToString) -> LinkError {
        LinkError::Lost { why: why.to_string() }
    }

    /// From a code on the wire: 0 is peace, everything else a refusal.
    pub(crate) fn from_code(code: quinn::VarInt, message: &[u8]) -> LinkError {
        match u16::try_from(code.into_inner()) {
            Ok(0) => LinkError::Closed,
            Ok(code) => LinkError::Refused(Reject { code, message: printable(&String::from_utf8_lossy(message)) }),
            Err(_) => LinkError::lost("closed by the other side with a code that is not ours"),
        }
    }
}

impl From<quinn::ConnectionError> for LinkError {
    fn from(error: quinn::ConnectionError) -> LinkError {
        use quinn::ConnectionError::{ApplicationClosed, ConnectionClosed, LocallyClosed, TimedOut};
        match error {
            ApplicationClosed(close) => LinkError::from_code(close.error_code, &close.reason),
            LocallyClosed => LinkError::Closed,
            TimedOut => LinkError::Timeout { during: "keeping the link alive", after_ms: u64::from(IDLE_TIMEOUT_MS) },
            ConnectionClosed(close) => LinkError::lost(printable(&close.to_string())),
            other => LinkError::lost(printable(&other.to_string())),
        }
    }
}

impl From<quinn::WriteError> for LinkError {
    fn from(error: quinn::WriteError) -> LinkError {
        match error {
            quinn::WriteError::Stopped(code) => LinkError::from_code(code, b""),
            quinn::WriteError::ConnectionLost(error) => error.into(),
            quinn::WriteError::ClosedStream => LinkError::Closed,
            other => LinkError::lost(other),
        }
    }
}

impl From<quinn::ReadError> for LinkError {
    fn from(error: quinn::ReadError) -> LinkError {
        match error {
            quinn::ReadError::Reset(code) => LinkError::from_code(code, b""),
            quinn::ReadError::ConnectionLost(error) => error.into(),
            quinn::ReadError::ClosedStream => LinkError::Closed,
            other => LinkError::lost(other),
        }
    }
}
