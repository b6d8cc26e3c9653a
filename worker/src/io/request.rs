//! Questions to the coordinator, each on a stream of its own.

use std::time::Duration;

use leben_protocol::frame::{Answer, ContractId, Hello, Request};
use leben_protocol::quic::{Blob, BlobReader, Connection, FrameReader, FrameWriter, LinkError, TransferError};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::io::AsyncWrite;

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

/// Fetches what is missing of a model state, or of a result to look at, into `file`; `reader` has taken up what is there.
///
/// # Errors
/// The link, or something other than what was asked for.
pub async fn fetch_state<W: AsyncWrite + Unpin>(
    link: &Connection,
    contract: ContractId,
    (expected, reader): (Blob, BlobReader),
    file: &mut W,
) -> Result<(), LinkError> {
    let (answer, mut writer, mut from) = ask(link, Request::State { contract, digest: expected.digest }).await?;
    match answer {
        Answer::Rejected(reject) => return Err(LinkError::Refused(reject)),
        Answer::Blob { bytes, digest } if (Blob { bytes, digest }) == expected => {}
        _ => return Err(unexpected("the model state that was ordered")),
    }
    match reader.receive(&mut writer, &mut from, file).await {
        Ok(_) => {
            part(writer, from).await;
            Ok(())
        }
        Err(TransferError::Link(error)) => Err(error),
        Err(TransferError::Local { error, .. }) => Err(LinkError::Local { why: error.to_string() }),
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
