//! One question, one answer.

use std::io::Cursor;
use std::path::PathBuf;
use std::sync::Arc;

use leben_contracts::ledger::entry::Envelope;
use leben_protocol::frame::{Answer, ContractId, Progress, Request};
use leben_protocol::quic::{Blob, BlobSender, Connection, FrameReader, FrameWriter, LinkError, TransferError};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::io::{AsyncRead, AsyncSeek};
use tokio::sync::{oneshot, watch};

use super::enrol;
use super::events::Event;
use super::server::{FILE_BYTES_MAX, Service, network};

/// Answers one request. `party` is who asks, by the key of the link; `None` for a stranger.
pub async fn answer(
    link: &Connection,
    party: Option<&str>,
    request: Request,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    service: &Arc<Service>,
) -> Result<(), LinkError> {
    let answer = match (request, party) {
        (Request::Network, _) => Ok(Answer::Network(network(&service.ledger))),
        (Request::Enrol { envelope, code }, _) => enrol::enrol(link, &envelope, &code, service).await,
        (Request::Append { envelope, wait_final }, Some(party)) => append(party, envelope, wait_final, service).await,
        (Request::LedgerFile { path }, Some(_)) => match service.ledger.file(&path) {
            Ok(bytes) => return send_bytes(bytes, writer, reader).await,
            Err(reject) => Err(reject),
        },
        (Request::State { contract, digest }, Some(party)) => {
            match may_read_state(party, &contract, service).and_then(|()| state_path(&contract, &digest, service)) {
                Ok(path) => {
                    let (sent_bytes, sent) = send_state(path, digest, writer, reader).await;
                    service.traffic.add_down(&contract, sent_bytes);
                    return sent;
                }
                Err(reject) => Err(reject),
            }
        }
        (Request::Result { contract }, Some(party)) => match result_path(party, &contract, service) {
            Ok(path) => return send_file(path, writer, reader).await,
            Err(reject) => Err(reject),
        },
        (Request::Progress { contract }, Some(party)) => subscribe(party, contract, service)
            .await
            .map(|progress| Answer::Progress(Box::new(progress.borrow().clone()))),
        (_, None) => Err(Reject::new(RejectCode::Stranger, "")),
    };
    let answer = answer.unwrap_or_else(|reject| {
        service.metrics.reject(&reject);
        Answer::Rejected(reject)
    });
    writer.send(&answer).await?;
    writer.finish_and_wait().await
}

/// Sends a job's progress whenever it changes, until the job has ended.
pub async fn watch(
    party: &str,
    contract: ContractId,
    writer: &mut FrameWriter,
    service: &Arc<Service>,
) -> Result<(), LinkError> {
    let mut progress = match subscribe(party, contract, service).await {
        Ok(progress) => progress,
        Err(reject) => {
            let refused =
                Progress { ended: true, phase: "Unknown".into(), message: reject.to_string(), ..Progress::default() };
            writer.send(&refused).await?;
            return writer.finish_and_wait().await;
        }
    };
    loop {
        let now = progress.borrow_and_update().clone();
        writer.send(&now).await?;
        if now.ended {
            return writer.finish_and_wait().await;
        }
        tokio::select! {
            changed = progress.changed() => if changed.is_err() { return Ok(()) },
            error = writer.stopped() => return Err(error),
        }
    }
}

async fn subscribe(
    party: &str,
    contract: ContractId,
    service: &Arc<Service>,
) -> Result<watch::Receiver<Progress>, Reject> {
    service.ledger.may_see(party, &contract)?;
    let (reply, answer) = oneshot::channel();
    let _ = service.events.send(Event::Watch { contract, reply }).await;
    let unknown = || Reject::new(RejectCode::UnknownContract, hex::encode(contract));
    answer.await.ok().flatten().ok_or_else(unknown)
}

async fn append(party: &str, envelope: Vec<u8>, wait_final: bool, service: &Arc<Service>) -> Result<Answer, Reject> {
    let parsed =
        Envelope::parse(&envelope).map_err(|error| Reject::new(RejectCode::EntryRefused, error.to_string()))?;
    // An action that several sign is brought by whichever of them comes last.
    if parsed.action().actor != party && !service.ledger.is_signer(party, &parsed) {
        let text =
            format!("the link is {party}'s, the action is {}'s and not signed by {party}", parsed.action().actor);
        return Err(Reject::new(RejectCode::NotAllowed, text));
    }
    let appended = service.ledger.append(envelope, wait_final).await?;
    Ok(Answer::Appended { index: appended.index, proof: appended.proof })
}

fn may_read_state(party: &str, contract: &ContractId, service: &Arc<Service>) -> Result<(), Reject> {
    match service.ledger.is_owner(party, contract) {
        true => service.ledger.must_be_certified(),
        false => Err(Reject::new(RejectCode::NotAllowed, format!("{party} is no data owner of this contract"))),
    }
}

fn state_path(contract: &ContractId, digest: &[u8; 32], service: &Arc<Service>) -> Result<PathBuf, Reject> {
    service.store.state_path(contract, digest).map_err(|error| Reject::new(RejectCode::Internal, error.to_string()))
}

fn result_path(party: &str, contract: &ContractId, service: &Arc<Service>) -> Result<PathBuf, Reject> {
    if !service.ledger.is_recipient(party, contract) {
        let text = format!("{party} is not the recipient of this contract");
        return Err(Reject::new(RejectCode::NotAllowed, text));
    }
    service.ledger.must_be_certified()?;
    if !service.ledger.is_delivered(contract) {
        return Err(Reject::new(RejectCode::NotFound, "the result is not delivered yet"));
    }
    service.store.result_path(contract).map_err(|error| Reject::new(RejectCode::Internal, error.to_string()))
}

async fn send_file(path: PathBuf, writer: &mut FrameWriter, reader: &mut FrameReader) -> Result<(), LinkError> {
    match tokio::fs::read(&path).await {
        Ok(bytes) if bytes.len() as u64 <= FILE_BYTES_MAX => send_bytes(bytes, writer, reader).await,
        Ok(_) => reject(writer, RejectCode::TooMuchData, "the file is too large").await,
        Err(_) => reject(writer, RejectCode::NotFound, "there is no such file").await,
    }
}

async fn reject(writer: &mut FrameWriter, code: RejectCode, text: &str) -> Result<(), LinkError> {
    writer.send(&Answer::Rejected(Reject::new(code, text))).await?;
    writer.finish_and_wait().await
}

/// Returns the bytes sent, also those before an error. From the disk chunk by chunk: every hospital asks for the same state at the same time. The file's name is its digest, so it is
/// not hashed again; what a broken disk made of it, the hospital's own check finds.
async fn send_state(
    path: PathBuf,
    digest: [u8; 32],
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> (u64, Result<(), LinkError>) {
    let opened = async {
        let file = tokio::fs::File::open(&path).await?;
        let bytes = file.metadata().await?.len();
        Ok::<_, std::io::Error>((file, bytes))
    };
    match opened.await {
        Ok((mut file, bytes)) => send_blob(Blob { bytes, digest }, &mut file, writer, reader).await,
        Err(_) => (0, reject(writer, RejectCode::NotFound, "there is no such model state").await),
    }
}

async fn send_bytes(bytes: Vec<u8>, writer: &mut FrameWriter, reader: &mut FrameReader) -> Result<(), LinkError> {
    send_blob(Blob::of(&bytes), &mut Cursor::new(bytes), writer, reader).await.1
}

async fn send_blob<S: AsyncRead + AsyncSeek + Unpin>(
    blob: Blob,
    source: &mut S,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
) -> (u64, Result<(), LinkError>) {
    let mut sender = BlobSender::new(blob);
    let sent = async {
        writer.send(&Answer::Blob { bytes: blob.bytes, digest: blob.digest }).await?;
        match sender.send(writer, reader, source).await {
            Ok(_) => writer.finish_and_wait().await,
            Err(TransferError::Link(error)) => Err(error),
            Err(TransferError::Local { error, .. }) => Err(LinkError::Local { why: error.to_string() }),
        }
    };
    let sent = sent.await;
    (sender.sent_bytes(), sent)
}
