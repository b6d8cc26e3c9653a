//! Frames to bytes and back. The one file that knows bincode.
//!
//! Form: bincode 2 through serde, little-endian, integers at their full width. Full width, because then the limit that
//! bincode counts down is exactly the number of bytes of the frame, and because every value has one encoding: variable
//! integers would let the same number be written in several ways. A frame's own length is not part of the bytes.
//!
//! Nothing here is ever signed or hashed, so the codec can be replaced without touching a signature.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;
use serde::de::DeserializeOwned;

use crate::limits::{FRAME_BYTES_MAX, LENGTH_BYTES};
use crate::wire::Wire;

/// Why a frame could not be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The frame is larger than [`FRAME_BYTES_MAX`].
    #[error(
        "{frame} of {bytes} bytes is larger than the {FRAME_BYTES_MAX} bytes a frame may have; send large data in chunks"
    )]
    TooLarge {
        /// Name of the frame type.
        frame: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// The bytes are no frame of this type.
    #[error("{frame} of {bytes} bytes cannot be read: {why}; the peer may speak another version")]
    Malformed {
        /// Name of the frame type.
        frame: &'static str,
        /// Length of what was given.
        bytes: usize,
        /// What is wrong, without any of the bytes.
        why: &'static str,
    },
    /// A whole frame, and then more.
    #[error("{frame} ends after {used} bytes, but {extra} more follow; the peer may speak another version")]
    TrailingBytes {
        /// Name of the frame type.
        frame: &'static str,
        /// Bytes of the frame.
        used: usize,
        /// Bytes after it.
        extra: usize,
    },
    /// A value of ours cannot be encoded; a fault of this program.
    #[error("{frame} cannot be encoded: {why}")]
    Unencodable {
        /// Name of the frame type.
        frame: &'static str,
        /// What the encoder said.
        why: String,
    },
}

/// The bytes of a frame, at most [`FRAME_BYTES_MAX`] of them.
pub fn encode<T: Wire>(frame: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = Vec::new();
    append(frame, &mut bytes)?;
    Ok(bytes)
}

/// Appends the length (u32, little-endian) and the bytes of a frame to `to`: what stands on a stream.
/// On error `to` is as it was.
pub fn encode_prefixed<T: Wire>(frame: &T, to: &mut Vec<u8>) -> Result<(), CodecError> {
    let start = to.len();
    to.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = append(frame, to).inspect_err(|_| to.truncate(start))?;
    let length = u32::try_from(written).map_err(|_| too_large::<T>(written))?;
    if let Some(prefix) = to.get_mut(start..start + LENGTH_BYTES) {
        prefix.copy_from_slice(&length.to_le_bytes());
    }
    Ok(())
}

/// The frame that `bytes` are, all of them.
///
/// Allocates no more than the bytes can honestly hold: strings and byte strings are claimed against the limit before they
/// are allocated, and a sequence starts at 1 MiB at most (serde's own bound), whatever length it announces.
pub fn decode<T: Wire + DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    if bytes.len() > FRAME_BYTES_MAX {
        return Err(too_large::<T>(bytes.len()));
    }
    let (frame, used) = bincode::serde::decode_from_slice(bytes, FORMAT).map_err(|error| CodecError::Malformed {
        frame: T::name(),
        bytes: bytes.len(),
        why: words(&error),
    })?;
    if used != bytes.len() {
        return Err(CodecError::TrailingBytes { frame: T::name(), used, extra: bytes.len().saturating_sub(used) });
    }
    Ok(frame)
}

fn append<T: Wire>(frame: &T, to: &mut Vec<u8>) -> Result<usize, CodecError> {
    let start = to.len();
    bincode::serde::encode_into_std_write(frame, &mut *to, FORMAT).map_err(|error| {
        to.truncate(start);
        CodecError::Unencodable { frame: T::name(), why: error.to_string() }
    })?;
    let written = to.len().saturating_sub(start);
    if written > FRAME_BYTES_MAX {
        to.truncate(start);
        return Err(too_large::<T>(written));
    }
    Ok(written)
}

fn too_large<T: Wire>(bytes: usize) -> CodecError {
    CodecError::TooLarge { frame: T::name(), bytes: u64::try_from(bytes).unwrap_or(u64::MAX) }
}

// bincode's own messages may quote what was read; a frame may hold things that do not belong in a log.
fn words(error: &DecodeError) -> &'static str {
    match error {
        DecodeError::UnexpectedEnd { .. } => "it ends too early",
        DecodeError::LimitExceeded => "it announces more bytes than a frame may have",
        DecodeError::UnexpectedVariant { .. } => "it names a message that is not known here",
        DecodeError::Utf8 { .. } | DecodeError::InvalidCharEncoding(_) => "a text is not UTF-8",
        DecodeError::InvalidBooleanValue(_) => "a yes-or-no value is neither",
        DecodeError::OutsideUsizeRange(_) => "a length does not fit this machine",
        _ => "a value has the wrong form",
    }
}

type Format = Configuration<LittleEndian, Fixint, Limit<FRAME_BYTES_MAX>>;

const FORMAT: Format =
    bincode::config::standard().with_little_endian().with_fixed_int_encoding().with_limit::<FRAME_BYTES_MAX>();
