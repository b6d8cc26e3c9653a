//! Questions to the coordinator, each on a stream of its own.

use std::time::Duration;

use leben_models::state::STATE_BYTES_MAX;
use leben_protocol::frame::{Answer, ContractId, Hello, Request};
use leben_protocol::quic::{Blob, BlobReader, Connection, FrameReader, FrameWriter, LinkError, TransferError};
use leben_protocol::reject::{Reject, RejectCode};

/// How long the other side's end of stream is awaited.
const PART_MAX: Duration = Duration::from_secs(2);

/// Asks, and returns the answer with the stream it came on.
///
/// # Errors
/// The link.
pub async fn ask(link: &Connection, request: Request) -> Result<(Answer, FrameWriter, FrameReader), LinkError> {
    let (mut writer, mut reader) = link.open_bi().await?;
    writer.send(&Hello::Request(request)).await?;
    let answer = reader.expect().await?;
    Ok((answer, writer, reader))
}

/// Appends an envelope: its index, or the refusal.
///
/// # Errors
/// The link.
pub async fn append(link: &Connection, envelope: Vec<u8>) -> Result<Result<u64, Reject>, LinkError> {
    let (answer, writer, reader) = ask(link, Request::Append { envelope, wait_final: false }).await?;
    part(writer, reader).await;
    match answer {
        Answer::Appended { index, .. } => Ok(Ok(index)),
        Answer::Rejected(reject) => Ok(Err(reject)),
        _ => Err(unexpected("an answer to Append")),
    }
}

/// Fetches a model state into `bytes`, which keeps what an earlier try has stored.
///
/// # Errors
/// The link, or something other than what was asked for.
pub async fn fetch_state(
    link: &Connection,
    contract: ContractId,
    expected: Blob,
    bytes: &mut Vec<u8>,
) -> Result<(), LinkError> {
    let (answer, mut writer, mut reader) = ask(link, Request::State { contract, digest: expected.digest }).await?;
    match answer {
        Answer::Rejected(reject) => return Err(LinkError::Refused(reject)),
        Answer::Blob { bytes, digest } if (Blob { bytes, digest }) == expected => {}
        _ => return Err(unexpected("the model state that was ordered")),
    }
    let mut blob = BlobReader::new(expected, STATE_BYTES_MAX as u64)?;
    let kept = blob.resume(&mut bytes.as_slice()).await.map_err(local)?;
    bytes.truncate(usize::try_from(kept).unwrap_or(0));
    let received = blob.receive(&mut writer, &mut reader, bytes).await;
    if received.is_ok() {
        part(writer, reader).await;
    }
    match received {
        Ok(_) => Ok(()),
        Err(TransferError::Link(error)) => {
            if error.reject().and_then(Reject::kind) == Some(RejectCode::DigestMismatch) {
                bytes.clear();
            }
            Err(error)
        }
        Err(TransferError::Local { error, .. }) => Err(local(error)),
    }
}

/// Ends a stream in peace: a reader that is dropped before the other side's end of stream looks like a refusal there.
pub async fn part(mut writer: FrameWriter, mut reader: FrameReader) {
    let _ = writer.finish().await;
    let _ = tokio::time::timeout(PART_MAX, reader.recv::<Answer>()).await;
}

fn unexpected(what: &str) -> LinkError {
    LinkError::Misbehaved(Reject::new(RejectCode::UnexpectedFrame, format!("{what} was expected")))
}

fn local(error: std::io::Error) -> LinkError {
    LinkError::Local { why: error.to_string() }
}
