//! One masked vector on its way in: stored chunk by chunk, resumed where it was cut.

use std::sync::{Arc, PoisonError};

use leben_protocol::frame::{ContractId, UploadReply, UploadTrailer};
use leben_protocol::quic::transfer::ParcelKind;
use leben_protocol::quic::{ChunkReader, FrameReader, FrameWriter, LinkError, Parcel};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::oneshot;

use super::events::Event;
use super::server::Service;
use super::spool::UploadId;

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
    let seat = match expected(party, contract, slot, chunks, service).await {
        Ok(seat) => seat,
        Err(reject) => return refuse(writer, reject, service).await,
    };
    let id = UploadId { contract, slot, seat };
    let disk = |error: std::io::Error| LinkError::Local { why: format!("the coordinator's disk: {error}") };
    let upload = service.spool.upload(id).map_err(disk)?;
    let start = upload.lock().unwrap_or_else(PoisonError::into_inner).chunks();
    writer.send(&UploadReply::From { next_index: start }).await?;
    let parcel = Parcel { kind: ParcelKind::Masked, chunks, start };
    let mut incoming = ChunkReader::open(reader, parcel).await?;
    while let Some((index, bytes)) = incoming.next().await? {
        {
            let mut upload = upload.lock().unwrap_or_else(PoisonError::into_inner);
            if upload.chunks() != index {
                // Another stream of the same hospital went ahead of this one; that one is the live one.
                let reject = Reject::new(RejectCode::Replaced, "another upload of this hospital took over");
                return Err(LinkError::Misbehaved(reject));
            }
            upload.push(bytes).map_err(disk)?;
        }
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

async fn expected(
    party: &str,
    contract: ContractId,
    slot: u64,
    chunks: u64,
    service: &Arc<Service>,
) -> Result<u16, Reject> {
    let (reply, answer) = oneshot::channel();
    let _ = service.events.send(Event::Upload { hospital: party.to_owned(), contract, slot, chunks, reply }).await;
    answer.await.unwrap_or_else(|_| Err(Reject::new(RejectCode::ShuttingDown, "")))
}

async fn refuse(writer: &mut FrameWriter, reject: Reject, service: &Arc<Service>) -> Result<(), LinkError> {
    service.metrics.reject(&reject);
    writer.send(&UploadReply::Rejected(reject)).await?;
    writer.finish_and_wait().await
}
