//! Vectors in chunks: backpressure from end to end, and memory that does not know how long the vector is.
//!
//! On the stream: a [`Parcel`] (what, how many chunks in all, from which on), then the chunks, each with its index, then a
//! [`Trailer`]. Where a transfer goes on after a cut, the receiver says the next index it needs *before* the parcel: in a
//! frame of its own kind (`UploadReply::From` for an upload, [`Resume`] for a blob), because only it knows what it has stored.
//! An upload goes on in the middle of a chunk where a cut left one ([`ChunkReader::partial`]); its first frame is then shorter.
//!
//! The sender asks its source for one chunk at a time and waits until QUIC has taken it, so what is in memory is one chunk,
//! [`SEND_WINDOW_BYTES`](crate::limits::SEND_WINDOW_BYTES) unacknowledged, and at the other end
//! [`STREAM_WINDOW_BYTES`](crate::limits::STREAM_WINDOW_BYTES) unread plus one chunk.

use serde::{Deserialize, Serialize};

use crate::limits::{CHUNK_BYTES_MAX, CHUNKS_MAX};
use crate::quic::link::LinkError;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::reject::RejectCode;
use crate::wire::Wire;

/// What a transfer carries, as both sides must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// What the chunks are.
    pub kind: ParcelKind,
    /// Chunks in all, at most [`CHUNKS_MAX`].
    pub chunks: u64,
    /// Index of the first chunk that is sent, from 0; `chunks` if nothing is missing.
    pub start: u64,
}

/// What the chunks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParcelKind {
    /// A hospital's masked vector (`leben_privacy::Masked`).
    Masked,
    /// A file: model state, ledger file, result.
    Blob,
}

/// Says that the sender believes to have sent everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// The parcel's `chunks`, once more.
    pub chunks: u64,
}

/// The next chunk that the receiver needs; everything before it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resume {
    /// Index from 0.
    pub next_index: u64,
}

impl Wire for Parcel {}
impl Wire for Trailer {}
impl Wire for Resume {}

/// A transfer ended: the link's fault or the peer's, or that of the chunk source or the store on this side.
#[derive(Debug, thiserror::Error)]
pub enum TransferError<E> {
    /// Between the two ends.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// This side's source could not make a chunk, or its store could not take one.
    #[error("chunk {index} failed on this side: {error}")]
    Local {
        /// Index of the chunk.
        index: u64,
        /// Why.
        error: E,
    },
}

/// Sends the chunks `parcel.start..parcel.chunks` that `source` makes, each of 1..=[`CHUNK_BYTES_MAX`] bytes.
/// Returns the bytes of payload sent.
///
/// If the source fails, the stream is abandoned, so that the receiver cannot take the part for the whole.
pub async fn send_chunks<E>(
    writer: &mut FrameWriter,
    parcel: Parcel,
    mut source: impl FnMut(u64) -> Result<Vec<u8>, E>,
) -> Result<u64, TransferError<E>> {
    check_parcel(&parcel).map_err(|why| LinkError::Local { why })?;
    writer.send(&parcel).await?;
    let mut sent_bytes = 0u64;
    for index in parcel.start..parcel.chunks {
        let chunk = source(index).map_err(|error| {
            writer.abandon(RejectCode::Internal);
            TransferError::Local { index, error }
        })?;
        writer.send_chunk(index, &chunk).await?;
        sent_bytes = sent_bytes.saturating_add(chunk.len() as u64);
    }
    writer.send(&Trailer { chunks: parcel.chunks }).await?;
    Ok(sent_bytes)
}

/// Takes chunks one by one, each checked for its place and size before it is handed out.
pub struct ChunkReader<'a> {
    reader: &'a mut FrameReader,
    parcel: Parcel,
    next_index: u64,
    ended: bool,
}

impl<'a> ChunkReader<'a> {
    /// Reads the sender's parcel, which must be `expected` in every field.
    pub async fn open(reader: &'a mut FrameReader, expected: Parcel) -> Result<ChunkReader<'a>, LinkError> {
        check_parcel(&expected).map_err(|why| LinkError::Local { why })?;
        let parcel: Parcel = reader.expect().await?;
        if parcel != expected {
            let words = format!("expected {expected:?}, got {parcel:?}");
            return Err(LinkError::misbehaved(RejectCode::ChunkOutOfOrder, words));
        }
        Ok(ChunkReader { reader, parcel, next_index: parcel.start, ended: false })
    }

    /// The next chunk with its index; `None` after the last one, once the trailer has been read and agrees.
    /// As long as it is not called, the sender waits. Cancel-safe.
    pub async fn next(&mut self) -> Result<Option<(u64, &[u8])>, LinkError> {
        if self.ended {
            return Ok(None);
        }
        if self.next_index == self.parcel.chunks {
            let trailer: Trailer = self.reader.expect().await?;
            if trailer.chunks != self.parcel.chunks {
                let words = format!("the trailer counts {} chunks of {}", trailer.chunks, self.parcel.chunks);
                return Err(LinkError::misbehaved(RejectCode::ChunkOutOfOrder, words));
            }
            self.ended = true;
            return Ok(None);
        }
        let expected = self.next_index;
        let Some((index, bytes)) = self.reader.recv_chunk().await? else {
            let words = format!("the stream ended before chunk {expected} of {}", self.parcel.chunks);
            return Err(LinkError::misbehaved(RejectCode::ChunkOutOfOrder, words));
        };
        if index != expected || bytes.is_empty() {
            let words = format!("expected chunk {expected}, got chunk {index} of {} bytes", bytes.len());
            return Err(LinkError::misbehaved(RejectCode::ChunkOutOfOrder, words));
        }
        self.next_index = expected.saturating_add(1);
        Ok(Some((index, bytes)))
    }

    /// After an error of [`next`](ChunkReader::next): what has arrived of the chunk under way, with its index, if it is the one
    /// that should come. A receiver that keeps it need not be sent it again.
    pub fn partial(&self) -> Option<(u64, &[u8])> {
        self.reader.partial_chunk().filter(|(index, bytes)| *index == self.next_index && !bytes.is_empty())
    }

    /// Index of the chunk that comes next: what to ask for after a cut.
    pub fn next_index(&self) -> u64 {
        self.next_index
    }
}

/// Takes a whole transfer, handing each chunk to `handle` in order. Returns the bytes of payload received.
///
/// While `handle` works nothing more is read, and once the windows are full the sender waits. If it fails, reading stops.
pub async fn receive_chunks<E>(
    reader: &mut FrameReader,
    expected: Parcel,
    mut handle: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<u64, TransferError<E>> {
    let mut received_bytes = 0u64;
    let mut chunks = ChunkReader::open(reader, expected).await?;
    let failed = loop {
        match chunks.next().await? {
            None => return Ok(received_bytes),
            Some((index, bytes)) => {
                received_bytes = received_bytes.saturating_add(bytes.len() as u64);
                if let Err(error) = handle(index, bytes) {
                    break TransferError::Local { index, error };
                }
            }
        }
    };
    reader.refuse(RejectCode::Internal);
    Err(failed)
}

/// Chunks of [`CHUNK_BYTES_MAX`] that `bytes` bytes fill, the last one partly.
pub fn chunks_of(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES_MAX as u64)
}

fn check_parcel(parcel: &Parcel) -> Result<(), String> {
    if parcel.chunks > CHUNKS_MAX {
        return Err(format!("{} chunks are more than the {CHUNKS_MAX} of one transfer", parcel.chunks));
    }
    if parcel.start > parcel.chunks {
        return Err(format!("chunk {} lies behind the end of {} chunks", parcel.start, parcel.chunks));
    }
    Ok(())
}
