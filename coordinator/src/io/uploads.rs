//! One masked vector on its way in: stored chunk by chunk, resumed at the byte where it was cut.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use leben_protocol::frame::{ContractId, UploadReply, UploadTrailer};
use leben_protocol::quic::transfer::ParcelKind;
use leben_protocol::quic::{ChunkReader, FrameReader, FrameWriter, LinkError, Parcel};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::oneshot;

use super::events::Event;
use super::server::Service;
use super::spool::{Standing, Upload, UploadId};
use crate::round::Wanted;

/// How long the stream before a new one may still take in what has arrived. One whose link is gone ends within milliseconds; one
/// that hears nothing is given up.
const TURN_MAX: Duration = Duration::from_secs(2);
/// How many chunks pass between two signs of life to the job.
const CHUNKS_PER_SIGN: u64 = 16;

/// Takes one upload stream to its end.
pub async fn receive(
    party: &str,
    contract: ContractId,
    slot: u64,
    chunks: u64,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    service: &Arc<Service>,
) -> Result<(), LinkError> {
    let wanted = match expected(party, contract, slot, chunks, service).await {
        Ok(wanted) => wanted,
        Err(reject) => return refuse(writer, reject, service).await,
    };
    let id = UploadId { contract, slot, seat: wanted.seat };
    let upload = service.spool.upload(id).map_err(disk)?;
    let turn = upload.lock().unwrap_or_else(PoisonError::into_inner).turn();
    let _turn = tokio::time::timeout(TURN_MAX, turn.lock_owned()).await;
    let Standing { stream, next_index, held_bytes } = upload.lock().unwrap_or_else(PoisonError::into_inner).begin();
    writer.send(&UploadReply::From { next_index, held_bytes }).await?;
    let parcel = Parcel { kind: ParcelKind::Masked, chunks, start: next_index };
    let mut incoming = ChunkReader::open(reader, parcel).await?;
    loop {
        let (index, bytes) = match incoming.next().await {
            Ok(Some(next)) => next,
            Ok(None) => break,
            Err(error) => {
                if let Some((index, part)) = incoming.partial() {
                    hold(&upload, stream, index, part, &wanted);
                    service.traffic.add_up(&contract, part.len() as u64);
                }
                return Err(error);
            }
        };
        store(&upload, stream, index, bytes, &wanted)?;
        service.metrics.upload_bytes.inc_by(bytes.len() as u64);
        service.traffic.add_up(&contract, bytes.len() as u64);
        if index % CHUNKS_PER_SIGN == 0 {
            let _ = service.events.send(Event::Stored { id, chunks: index + 1 }).await;
        }
    }
    let _ = service.events.send(Event::Stored { id, chunks }).await;
    let trailer: UploadTrailer = reader.expect().await?;
    let (reply, answer) = oneshot::channel();
    let _ = service.events.send(Event::Trailer { id, trailer: Box::new(trailer), reply }).await;
    match answer.await {
        Ok(Ok(())) => writer.send(&UploadReply::Stored).await?,
        Ok(Err(reject)) => return refuse(writer, reject, service).await,
        Err(_) => return refuse(writer, Reject::new(RejectCode::WrongSlot, "the job is over"), service).await,
    }
    writer.finish_and_wait().await
}

fn disk(error: std::io::Error) -> LinkError {
    LinkError::Local { why: format!("the coordinator's disk: {error}") }
}

/// Stores a chunk, or the rest of one.
fn store(upload: &Mutex<Upload>, stream: u64, index: u64, bytes: &[u8], wanted: &Wanted) -> Result<(), LinkError> {
    let mut upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
    if !upload.is_current(stream) {
        // Another stream of the same hospital went ahead of this one; that one is the live one.
        let reject = Reject::new(RejectCode::Replaced, "another upload of this hospital took over");
        return Err(LinkError::Misbehaved(reject));
    }
    let fits = |chunk: &[u8]| usize::try_from(index).is_ok_and(|index| wanted.geometry.fits(index, chunk));
    if upload.push(bytes, fits).map_err(disk)? {
        return Ok(());
    }
    let words = format!("chunk {index} is not what the layout makes it: so many bytes, zero bits at the end");
    Err(LinkError::Misbehaved(Reject::new(RejectCode::Malformed, words)))
}

/// Keeps what arrived of a chunk before a cut.
fn hold(upload: &Mutex<Upload>, stream: u64, index: u64, part: &[u8], wanted: &Wanted) {
    let mut upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
    let chunk = usize::try_from(index).ok().and_then(|index| wanted.geometry.chunk(index));
    if let (Some(chunk), true) = (chunk, upload.is_current(stream) && index == upload.chunks()) {
        upload.hold(part, chunk.bytes);
    }
}

async fn expected(
    party: &str,
    contract: ContractId,
    slot: u64,
    chunks: u64,
    service: &Arc<Service>,
) -> Result<Wanted, Reject> {
    let (reply, answer) = oneshot::channel();
    let _ = service.events.send(Event::Upload { hospital: party.to_owned(), contract, slot, chunks, reply }).await;
    answer.await.unwrap_or_else(|_| Err(Reject::new(RejectCode::ShuttingDown, "")))
}

async fn refuse(writer: &mut FrameWriter, reject: Reject, service: &Arc<Service>) -> Result<(), LinkError> {
    service.metrics.reject(&reject);
    writer.send(&UploadReply::Rejected(reject)).await?;
    writer.finish_and_wait().await
}
