//! # leben-protocol: what crosses a boundary
//!
//! Two organisations must agree byte for byte on nothing but this crate. A worker or an AI team **dials**; the
//! coordinator only listens. Every bi-directional stream starts with one [`frame::Hello`] that says what it is for:
//!
//! | stream | who speaks | what |
//! |---|---|---|
//! | control | both, for as long as the link lives | [`frame::Order`] down, [`frame::Report`] up |
//! | upload | worker | one masked vector in chunks, resumable, with a signed trailer |
//! | request | dialer, one answer | enrol, append to the ledger, read a ledger file, fetch a state or a result |
//! | watch | coordinator | [`frame::Progress`] until the job ends |
//!
//! Read in this order: [`limits`] (every bound), [`frame`] (every message), [`codec`] and [`wire`] (the only way to
//! bytes, and who may take it), [`reject`] (what a peer is told), [`invite`] and [`key`] (what a person pastes and reads), [`backoff`],
//! `leaves` (many byte strings in one frame),
//! then, with the feature `quic`, `quic` (mutual TLS by ed25519 keys, framed streams, chunked transfer); with the
//! feature `http`, `http` (one question to a witness or a mirror nobody here wrote).
//!
//! Nothing here is signed or hashed in its bincode form: signatures cover bytes defined in `privacy` and `contracts`.

pub mod backoff;
pub mod codec;
pub mod frame;
#[cfg(feature = "http")]
pub mod http;
pub mod invite;
pub mod key;
mod leaves;
pub mod limits;
#[cfg(feature = "quic")]
pub mod quic;
pub mod reject;
pub mod wire;

/// Sealed boxes, for whoever opens a result: the client's arrow ends at this crate.
pub use leben_privacy::seal;
