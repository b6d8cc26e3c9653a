//! A masked vector on its way: chunk by chunk, from the byte up to which the coordinator has it, over as many links as it takes.

use std::sync::Arc;
use std::time::Duration;

use leben_privacy::merkle::{ChunkRoot, leaf_hash};
use leben_privacy::{ContributionError, Masked};
use leben_protocol::frame::{ContractId, Hello, UploadReply, UploadTrailer};
use leben_protocol::quic::transfer::ParcelKind;
use leben_protocol::quic::{Connection, LinkError, Parcel, TransferError, send_chunks};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::oneshot;

use super::link::Shared;
use super::request;

/// How long after a refusal that may pass, or a broken stream, the upload is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// One vector on its way.
pub struct Upload {
    /// The job's contract.
    pub contract: ContractId,
    /// The slot.
    pub slot: u64,
    /// The vector.
    pub masked: Masked,
    /// Called with the root once every chunk was taken; the answer is the trailer.
    pub ask_trailer: Option<oneshot::Sender<[u8; 32]>>,
    /// The trailer, when the agent has signed it.
    pub trailer: Option<oneshot::Receiver<UploadTrailer>>,
}

/// How an upload ended.
#[derive(Debug)]
pub enum Ended {
    /// Stored, and the trailer accepted.
    Stored,
    /// Not wanted any more.
    Unwanted(Reject),
    /// The agent gave no trailer: the slot is over here.
    Dropped,
    /// The values could not be read a second time.
    Unreadable(ContributionError),
}

/// Sends until it is stored or not wanted.
pub async fn run(mut upload: Upload, shared: Arc<Shared>) -> Ended {
    let mut roots = ChunkRoot::new(upload.masked.chunk_count());
    let mut signed = None;
    loop {
        let Some(link) = shared.connected().await else { return Ended::Dropped };
        match attempt(&mut upload, &mut roots, &mut signed, &link, &shared).await {
            Ok(ended) => return ended,
            Err(LinkError::Refused(reject)) if !reject.is_temporary() && link.close_reason().is_none() => {
                return Ended::Unwanted(reject);
            }
            Err(error) => tracing::debug!(slot = upload.slot, %error, "the upload was interrupted and goes on"),
        }
        tokio::time::sleep(RETRY).await;
    }
}

async fn attempt(
    upload: &mut Upload,
    roots: &mut ChunkRoot,
    signed: &mut Option<UploadTrailer>,
    link: &Connection,
    shared: &Arc<Shared>,
) -> Result<Ended, LinkError> {
    let chunks = upload.masked.chunk_count() as u64;
    let (mut writer, mut reader) = link.open_bi().await?;
    writer.send(&Hello::Upload { contract: upload.contract, slot: upload.slot, chunks }).await?;
    let masked = &upload.masked;
    let (start, held) = match reader.expect::<UploadReply>().await? {
        UploadReply::From { next_index, held_bytes } => (next_index, place(masked, next_index, held_bytes)?),
        UploadReply::Stored => return Ok(Ended::Stored),
        UploadReply::Rejected(reject) => return Err(LinkError::Refused(reject)),
    };
    if let Some(away) = shared.cut_now() {
        let _ = shared.cut.send(away).await;
        return Err(link.closed().await);
    }
    let parcel = Parcel { kind: ParcelKind::Masked, chunks, start };
    let sent = send_chunks(&mut writer, parcel, |index| {
        let at = usize::try_from(index).unwrap_or(usize::MAX);
        let mut chunk = masked.chunk(at)?;
        roots.note(at, leaf_hash(&chunk));
        if index == start {
            // The coordinator has these already.
            chunk.drain(..held);
        }
        Ok::<_, ContributionError>(chunk)
    });
    match sent.await {
        Ok(_) => {}
        Err(TransferError::Link(error)) => return Err(error),
        Err(TransferError::Local { error, .. }) => return Ok(Ended::Unreadable(error)),
    }
    let trailer = match trailer(upload, roots, signed).await {
        Ok(Some(trailer)) => trailer,
        Ok(None) => return Ok(Ended::Dropped),
        Err(error) => return Ok(Ended::Unreadable(error)),
    };
    writer.send(&trailer).await?;
    match reader.expect::<UploadReply>().await? {
        UploadReply::Stored => {
            request::part(writer, reader).await;
            Ok(Ended::Stored)
        }
        UploadReply::Rejected(reject) => Err(LinkError::Refused(reject)),
        UploadReply::From { .. } => Err(unexpected("it asks for chunks after the trailer")),
    }
}

/// The signed trailer: asked for once, sent as often as it takes.
async fn trailer(
    upload: &mut Upload,
    roots: &mut ChunkRoot,
    signed: &mut Option<UploadTrailer>,
) -> Result<Option<UploadTrailer>, ContributionError> {
    if signed.is_none() {
        // Chunks that the coordinator said it had, and that this task did not send: they count as they are here.
        for index in 0..upload.masked.chunk_count() {
            if !roots.has(index) {
                roots.note(index, leaf_hash(&upload.masked.chunk(index)?));
            }
        }
        let (Some(root), Some(ask), Some(trailer)) = (roots.root(), upload.ask_trailer.take(), upload.trailer.take())
        else {
            return Ok(None);
        };
        if ask.send(root).is_err() {
            return Ok(None);
        }
        match trailer.await {
            Ok(trailer) => *signed = Some(trailer),
            Err(_) => return Ok(None),
        }
    }
    Ok(signed.clone())
}

/// How many bytes of the first chunk are left out; the place must lie within the vector.
fn place(masked: &Masked, next_index: u64, held_bytes: u32) -> Result<usize, LinkError> {
    let held = usize::try_from(held_bytes).unwrap_or(usize::MAX);
    let index = usize::try_from(next_index).unwrap_or(usize::MAX);
    let within = match masked.chunk_bytes(index) {
        Some(bytes) => held < bytes,
        None => index == masked.chunk_count() && held == 0,
    };
    if within { Ok(held) } else { Err(unexpected("a place behind the end is asked for; one within the vector")) }
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Misbehaved(Reject::new(RejectCode::UnexpectedFrame, what))
}
