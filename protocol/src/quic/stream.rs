//! Frames on a stream: a length (u32, little-endian), then that many bytes.
//!
//! Both ends are cancel-safe: a `send` or `recv` that loses a `select!` has kept what it had and goes on next time.

use std::sync::Arc;

use quinn::VarInt;
use serde::de::DeserializeOwned;

use crate::codec::{self, CodecError};
use crate::limits::{CHUNK_BYTES_MAX, CHUNK_OVERHEAD_BYTES, FRAME_BYTES_MAX, LENGTH_BYTES, READ_STEP_BYTES};
use crate::quic::link::{CODE_DONE, LinkError};
use crate::quic::tap::{Flow, Tap};
use crate::reject::{Reject, RejectCode};
use crate::wire::Wire;

/// The sending end of a stream.
pub struct FrameWriter {
    stream: quinn::SendStream,
    track: Track,
    /// Bytes of frames already begun; those before `done` are with QUIC.
    pending: Vec<u8>,
    done: usize,
}

impl FrameWriter {
    pub(crate) fn new(stream: quinn::SendStream, track: Track) -> FrameWriter {
        FrameWriter { stream, track, pending: Vec::new(), done: 0 }
    }

    /// Sends one frame; waits while the peer does not read. If cancelled, the frame counts as begun: its rest goes out with
    /// the next call.
    pub async fn send<T: Wire>(&mut self, frame: &T) -> Result<(), LinkError> {
        self.flush().await?;
        codec::encode_prefixed(frame, &mut self.pending).map_err(LinkError::Frame)?;
        self.track.see(&self.pending);
        self.flush().await
    }

    /// Sends one chunk of a transfer with its index. Only [`transfer`](crate::quic::transfer) calls it, so that no other
    /// bytes than a chunk source's go out without a codec.
    pub(crate) async fn send_chunk(&mut self, index: u64, bytes: &[u8]) -> Result<(), LinkError> {
        self.flush().await?;
        if bytes.len() > CHUNK_BYTES_MAX {
            return Err(LinkError::Frame(CodecError::TooLarge { frame: "Chunk", bytes: bytes.len() as u64 }));
        }
        let length = u32::try_from(bytes.len() + CHUNK_OVERHEAD_BYTES)
            .map_err(|_| LinkError::Local { why: "a chunk's length does not fit".into() })?;
        self.pending.extend_from_slice(&length.to_le_bytes());
        self.pending.extend_from_slice(&index.to_le_bytes());
        self.pending.extend_from_slice(bytes);
        self.track.see(&self.pending);
        self.flush().await
    }

    /// Sends what a cancelled `send` has left behind.
    pub async fn flush(&mut self) -> Result<(), LinkError> {
        while let Some(rest) = self.pending.get(self.done..).filter(|rest| !rest.is_empty()) {
            self.done += self.stream.write(rest).await?;
        }
        self.pending.clear();
        self.done = 0;
        Ok(())
    }

    /// Says that no more frames come. QUIC goes on delivering what was sent, as long as the link lives.
    pub async fn finish(&mut self) -> Result<(), LinkError> {
        self.flush().await?;
        self.stream.finish().map_err(|_| LinkError::Closed)
    }

    /// [`finish`](FrameWriter::finish), then waits until the peer's QUIC has acknowledged every byte. Its application may not
    /// have read them yet, and a link that is closed takes unread bytes with it: before closing, wait for the peer's last
    /// frame, or let the peer close.
    pub async fn finish_and_wait(&mut self) -> Result<(), LinkError> {
        self.finish().await?;
        match self.stream.stopped().await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(LinkError::from_code(code, b"")),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(other) => Err(LinkError::lost(other)),
        }
    }

    /// Waits until the peer stops reading (a refusal: [`FrameReader::refuse`]) or the link ends. Cancel-safe.
    pub async fn stopped(&self) -> LinkError {
        match self.stream.stopped().await {
            Ok(None) => LinkError::Closed,
            Ok(Some(code)) => LinkError::from_code(code, b""),
            Err(quinn::StoppedError::ConnectionLost(error)) => error.into(),
            Err(other) => LinkError::lost(other),
        }
    }

    /// Gives up on this stream: unsent bytes are dropped, the peer meets [`LinkError::Refused`] with this code.
    pub fn abandon(&mut self, code: RejectCode) {
        // Already closed is as good.
        let _ = self.stream.reset(VarInt::from_u32(u32::from(code as u16)));
    }

    /// Of several streams with bytes to send, those of higher priority go first; 0 is the default. The control stream takes
    /// a positive one, so that a large upload does not hold it up.
    pub fn set_priority(&mut self, priority: i32) {
        let _ = self.stream.set_priority(priority);
    }
}

/// The receiving end of a stream.
pub struct FrameReader {
    stream: quinn::RecvStream,
    track: Track,
    head: [u8; LENGTH_BYTES],
    head_filled: usize,
    /// Kept from frame to frame and as long as the longest so far; `body_filled` bytes of it are this frame's.
    body: Vec<u8>,
    body_filled: usize,
    delivered: bool,
}

impl FrameReader {
    pub(crate) fn new(stream: quinn::RecvStream, track: Track) -> FrameReader {
        FrameReader {
            stream,
            track,
            head: [0; LENGTH_BYTES],
            head_filled: 0,
            body: Vec::new(),
            body_filled: 0,
            delivered: false,
        }
    }

    /// The next frame; `None` if the peer has finished the stream between two frames.
    ///
    /// A length beyond [`FRAME_BYTES_MAX`] is refused before anything is allocated, and memory grows with the bytes
    /// that come. What cannot be read is [`LinkError::Misbehaved`] with the [`Reject`] that the peer should get.
    pub async fn recv<T: Wire + DeserializeOwned>(&mut self) -> Result<Option<T>, LinkError> {
        match self.read(FRAME_BYTES_MAX, T::name()).await? {
            Some(bytes) => codec::decode(bytes).map(Some).map_err(|error| LinkError::Misbehaved(error.into())),
            None => Ok(None),
        }
    }

    /// [`recv`](FrameReader::recv) where the stream must go on: its end is the peer's fault.
    pub async fn expect<T: Wire + DeserializeOwned>(&mut self) -> Result<T, LinkError> {
        self.recv().await?.ok_or_else(|| {
            LinkError::misbehaved(
                RejectCode::UnexpectedFrame,
                format!("the stream ended where {} should come", T::name()),
            )
        })
    }

    /// The next chunk of a transfer: its index and its bytes. Valid until the next call.
    pub(crate) async fn recv_chunk(&mut self) -> Result<Option<(u64, &[u8])>, LinkError> {
        let Some(frame) = self.read(CHUNK_BYTES_MAX + CHUNK_OVERHEAD_BYTES, "Chunk").await? else { return Ok(None) };
        let (index, bytes) = frame.split_first_chunk().ok_or_else(|| {
            LinkError::misbehaved(RejectCode::Malformed, format!("a chunk of {} bytes has no index", frame.len()))
        })?;
        Ok(Some((u64::from_le_bytes(*index), bytes)))
    }

    /// What has arrived of a chunk when reading it ended in an error: its index, and the first of its bytes.
    pub(crate) fn partial_chunk(&self) -> Option<(u64, &[u8])> {
        if self.delivered || self.head_filled < LENGTH_BYTES {
            return None;
        }
        let (index, bytes) = self.body.get(..self.body_filled)?.split_first_chunk()?;
        Some((u64::from_le_bytes(*index), bytes))
    }

    /// Stops reading: the peer's writes fail with [`LinkError::Refused`] and this code. The words, if any, must be said in a
    /// frame before.
    pub fn refuse(&mut self, code: RejectCode) {
        let _ = self.stream.stop(VarInt::from_u32(u32::from(code as u16)));
    }

    /// Stops reading because enough is known; the peer's writes fail with [`LinkError::Closed`].
    pub fn stop(&mut self) {
        let _ = self.stream.stop(VarInt::from_u32(CODE_DONE));
    }

    /// Bytes held for a frame under way or just delivered. At most one frame, whatever the peer announces.
    pub fn buffered_bytes(&self) -> usize {
        self.body.capacity()
    }

    async fn read(&mut self, bytes_max: usize, what: &'static str) -> Result<Option<&[u8]>, LinkError> {
        if self.delivered {
            self.delivered = false;
            self.head_filled = 0;
            self.body_filled = 0;
        }
        while let Some(rest) = self.head.get_mut(self.head_filled..).filter(|rest| !rest.is_empty()) {
            match self.stream.read(rest).await? {
                Some(read) => self.head_filled += read,
                None if self.head_filled == 0 => return Ok(None),
                None => return Err(cut_short(what)),
            }
        }
        let length = u32::from_le_bytes(self.head) as usize;
        if length > bytes_max {
            let words = format!("{what} of {length} bytes; {bytes_max} are allowed");
            return Err(LinkError::misbehaved(RejectCode::FrameTooLarge, words));
        }
        while self.body_filled < length {
            if self.body_filled == self.body.len() {
                // Doubling, so that a byte is moved once on average; never beyond the frame.
                let grown = self.body.len().saturating_mul(2).max(READ_STEP_BYTES).min(length);
                self.body.reserve_exact(grown.saturating_sub(self.body.len()));
                self.body.resize(grown, 0);
            }
            let end = self.body.len().min(length);
            let rest = self.body.get_mut(self.body_filled..end).unwrap_or_default();
            match self.stream.read(rest).await? {
                Some(read) => self.body_filled += read,
                None => return Err(cut_short(what)),
            }
        }
        self.delivered = true;
        let body = self.body.get(..length).unwrap_or_default();
        self.track.see(&self.head);
        self.track.see(body);
        Ok(Some(body))
    }
}

fn cut_short(what: &'static str) -> LinkError {
    LinkError::Misbehaved(Reject::new(RejectCode::Malformed, format!("the stream ended within {what}")))
}

/// The tap of one stream and direction, or nothing.
pub(crate) struct Track {
    tap: Option<Arc<dyn Tap>>,
    flow: Flow,
}

impl Track {
    pub(crate) fn new(tap: Option<Arc<dyn Tap>>, flow: Flow) -> Track {
        Track { tap, flow }
    }

    #[inline]
    pub(crate) fn see(&self, bytes: &[u8]) {
        if let Some(tap) = &self.tap {
            tap.see(self.flow, bytes);
        }
    }
}
