//! Files with a known length and digest: model state, ledger files, results.
//!
//! The reader speaks first: [`Resume`] with the next chunk it needs. Then the sender sends that part in chunks. The reader
//! hashes all of it, the part it already had included, and says at the end whether the SHA-256 is the announced one.

use std::io::SeekFrom;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncSeek, AsyncSeekExt, AsyncWrite, AsyncWriteExt};

use crate::limits::{BLOB_BYTES_MAX, CHUNK_BYTES_MAX};
use crate::quic::link::LinkError;
use crate::quic::stream::{FrameReader, FrameWriter};
use crate::quic::transfer::{ChunkReader, Parcel, ParcelKind, Resume, Trailer, TransferError, chunks_of};
use crate::reject::RejectCode;

/// What a blob is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Length in bytes, at most [`BLOB_BYTES_MAX`].
    pub bytes: u64,
    /// SHA-256 of all of it.
    pub digest: [u8; 32],
}

impl Blob {
    /// The blob that `bytes` are.
    pub fn of(bytes: &[u8]) -> Blob {
        Blob { bytes: bytes.len() as u64, digest: Sha256::digest(bytes).into() }
    }

    fn parcel(&self, start: u64) -> Parcel {
        Parcel { kind: ParcelKind::Blob, chunks: chunks_of(self.bytes), start }
    }

    fn chunk_bytes(&self, index: u64) -> usize {
        let before = index.saturating_mul(CHUNK_BYTES_MAX as u64);
        let rest = self.bytes.saturating_sub(before).min(CHUNK_BYTES_MAX as u64);
        usize::try_from(rest).unwrap_or(CHUNK_BYTES_MAX)
    }
}

/// Sends one blob.
pub struct BlobSender {
    blob: Blob,
    sent_bytes: u64,
}

impl BlobSender {
    /// For a blob that was announced as `blob`.
    pub fn new(blob: Blob) -> BlobSender {
        BlobSender { blob, sent_bytes: 0 }
    }

    /// Bytes that QUIC has taken so far, also where sending them ended in an error.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// Waits for the reader's [`Resume`], then sends from there on. `source` is the whole blob, from its beginning.
    /// Returns the bytes sent. Memory: one chunk.
    pub async fn send<R: AsyncRead + AsyncSeek + Unpin>(
        &mut self,
        writer: &mut FrameWriter,
        reader: &mut FrameReader,
        source: &mut R,
    ) -> Result<u64, TransferError<std::io::Error>> {
        let resume: Resume = reader.expect().await?;
        let parcel = self.blob.parcel(resume.next_index);
        if parcel.start > parcel.chunks {
            let words = format!("chunk {} was asked for; the blob has {}", parcel.start, parcel.chunks);
            return Err(LinkError::misbehaved(RejectCode::ChunkOutOfOrder, words).into());
        }
        writer.send(&parcel).await?;
        let sent = self.send_from(writer, parcel, source).await;
        if matches!(sent, Err(TransferError::Local { .. })) {
            writer.abandon(RejectCode::Internal);
        }
        sent
    }

    async fn send_from<R: AsyncRead + AsyncSeek + Unpin>(
        &mut self,
        writer: &mut FrameWriter,
        parcel: Parcel,
        source: &mut R,
    ) -> Result<u64, TransferError<std::io::Error>> {
        let here = |index| move |error| TransferError::Local { index, error };
        let offset = parcel.start.saturating_mul(CHUNK_BYTES_MAX as u64);
        source.seek(SeekFrom::Start(offset)).await.map_err(here(parcel.start))?;
        let mut buffer = vec![0; self.blob.chunk_bytes(parcel.start)];
        for index in parcel.start..parcel.chunks {
            buffer.truncate(self.blob.chunk_bytes(index));
            source.read_exact(&mut buffer).await.map_err(here(index))?;
            writer.send_chunk(index, &buffer).await?;
            self.sent_bytes = self.sent_bytes.saturating_add(buffer.len() as u64);
        }
        writer.send(&Trailer { chunks: parcel.chunks }).await?;
        Ok(self.sent_bytes)
    }
}

/// Receives one blob, wholly or from where an earlier try ended.
pub struct BlobReader {
    blob: Blob,
    next_index: u64,
    hasher: Sha256,
}

impl BlobReader {
    /// For the blob that the peer announces, of at most `bytes_max` bytes: the bound is this side's own knowledge of what
    /// such a blob may be.
    pub fn new(blob: Blob, bytes_max: u64) -> Result<BlobReader, LinkError> {
        let bytes_max = bytes_max.min(BLOB_BYTES_MAX);
        if blob.bytes > bytes_max {
            let words = format!("a blob of {} bytes was announced; {bytes_max} are accepted", blob.bytes);
            return Err(LinkError::misbehaved(RejectCode::TooMuchData, words));
        }
        Ok(BlobReader { blob, next_index: 0, hasher: Sha256::new() })
    }

    /// Takes up what an earlier try has stored: hashes whole chunks from `stored` and asks only for the rest.
    /// Returns the bytes taken up; cut the file to that length and append to it.
    pub async fn resume<R: AsyncRead + Unpin>(&mut self, stored: &mut R) -> std::io::Result<u64> {
        let mut buffer = Vec::new();
        let mut taken_bytes = 0u64;
        while self.next_index < chunks_of(self.blob.bytes) {
            let wanted = self.blob.chunk_bytes(self.next_index);
            buffer.clear();
            if (&mut *stored).take(wanted as u64).read_to_end(&mut buffer).await? < wanted {
                break;
            }
            self.hasher.update(&buffer);
            self.next_index = self.next_index.saturating_add(1);
            taken_bytes = taken_bytes.saturating_add(wanted as u64);
        }
        Ok(taken_bytes)
    }

    /// Whether nothing is missing: whoever has it all need not ask for it, but must [`verify`](BlobReader::verify) it.
    pub fn is_whole(&self) -> bool {
        self.next_index == chunks_of(self.blob.bytes)
    }

    /// Compares what was taken up with the announced digest, without asking anybody.
    ///
    /// # Errors
    /// [`LinkError::Misbehaved`] with `DigestMismatch`, also where something is missing: throw it away.
    pub fn verify(self) -> Result<(), LinkError> {
        let digest: [u8; 32] = self.hasher.finalize().into();
        if digest == self.blob.digest {
            return Ok(());
        }
        let words = format!("announced SHA-256 {}, received {}", hex::encode(self.blob.digest), hex::encode(digest));
        Err(LinkError::misbehaved(RejectCode::DigestMismatch, words))
    }

    /// Asks for what is missing and writes it to `sink`, which is flushed. Returns the bytes received.
    /// An error names what is wrong; what was written before it stays good for [`resume`](BlobReader::resume), except after
    /// `DigestMismatch`: then throw it away.
    pub async fn receive<W: AsyncWrite + Unpin>(
        mut self,
        writer: &mut FrameWriter,
        reader: &mut FrameReader,
        sink: &mut W,
    ) -> Result<u64, TransferError<std::io::Error>> {
        writer.send(&Resume { next_index: self.next_index }).await?;
        let mut received_bytes = 0u64;
        let mut chunks = ChunkReader::open(reader, self.blob.parcel(self.next_index)).await?;
        while let Some((index, bytes)) = chunks.next().await? {
            let wanted = self.blob.chunk_bytes(index);
            if bytes.len() != wanted {
                let words = format!("chunk {index} has {} bytes in place of {wanted}", bytes.len());
                return Err(LinkError::misbehaved(RejectCode::ChunkOutOfOrder, words).into());
            }
            self.hasher.update(bytes);
            sink.write_all(bytes).await.map_err(|error| TransferError::Local { index, error })?;
            received_bytes = received_bytes.saturating_add(bytes.len() as u64);
        }
        let last = chunks.next_index();
        sink.flush().await.map_err(|error| TransferError::Local { index: last, error })?;
        self.verify()?;
        Ok(received_bytes)
    }
}
