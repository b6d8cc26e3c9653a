//! The listening side: who is at the other end, and what each stream is for.
//!
//! Anybody who proves an ed25519 key gets a link; whether the key belongs to a party is asked of the final ledger. A
//! stranger may ask what network this is and enrol with an invite, nothing else.

use std::sync::Arc;

use leben_contracts::ledger::note::Note;
use leben_protocol::frame::{Answer, Hello, Network, Order, Report, Request};
use leben_protocol::limits;
use leben_protocol::quic::{Connection, FrameReader, FrameWriter, LinkError, Listener};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::{mpsc, watch};

use super::author::Author;
use super::clock::now_ms;
use super::events::{Event, Orders};
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::spool::Spool;
use super::store::Store;
use super::traffic::Traffic;
use super::views::Views;
use super::{requests, uploads};

/// The protocol version this program speaks.
pub const VERSION: u16 = 1;

/// How long a link whose key is out of force has for answers that are on their way.
const ANSWERS: std::time::Duration = std::time::Duration::from_millis(300);

/// What every stream's handler needs.
pub struct Service {
    /// The ledger.
    pub ledger: Ledger,
    /// The folder.
    pub store: Store,
    /// Uploads.
    pub spool: Arc<Spool>,
    /// Bytes of each job.
    pub traffic: Arc<Traffic>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// What hospitals show each other.
    pub views: Views,
    /// To the jobs.
    pub events: mpsc::Sender<Event>,
    /// As whom the coordinator countersigns enrolments.
    pub author: Author,
}

/// Takes links until `stop` says so.
pub async fn serve(listener: Arc<Listener>, service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            link = listener.accept() => match link {
                None => break,
                Some(Ok(link)) => {
                    tokio::spawn(serve_link(link, service.clone()));
                }
                Some(Err(error)) => tracing::debug!(%error, "a handshake failed"),
            },
        }
    }
    listener.close("the coordinator stops").await;
}

async fn serve_link(link: Connection, service: Arc<Service>) {
    let link = Arc::new(link);
    // Before the question whose answer it may change.
    let mut finals = service.ledger.watch_final();
    let party = service.ledger.party_of_link_key(&link.peer_key());
    if let Some(party) = &party {
        link.admit();
        tracing::info!(%party, address = %link.remote_address(), "linked");
    }
    loop {
        tokio::select! {
            stream = link.accept_bi() => match stream {
                Ok((writer, reader)) => {
                    tokio::spawn(serve_stream(link.clone(), writer, reader, service.clone()));
                }
                Err(error) => {
                    tracing::debug!(party = party.as_deref().unwrap_or("a stranger"), %error, "link ended");
                    return;
                }
            },
            Ok(()) = finals.changed(), if party.is_some() => {
                if service.ledger.party_of_link_key(&link.peer_key()) != party {
                    let reject = service.ledger.stranger(&link.peer_key());
                    // Whoever brought that very entry still gets its answer; new streams are refused already.
                    tokio::time::sleep(ANSWERS).await;
                    tracing::info!(party = party.as_deref().unwrap_or_default(), %reject, "the key of a link is out of force");
                    link.refuse(&reject);
                    return;
                }
            }
        }
    }
}

async fn serve_stream(link: Arc<Connection>, mut writer: FrameWriter, mut reader: FrameReader, service: Arc<Service>) {
    // Asked anew for every stream: a key may have been enrolled or revoked since the link came up.
    let party = service.ledger.party_of_link_key(&link.peer_key());
    let result = match reader.recv::<Hello>().await {
        Ok(Some(hello)) => dispatch(&link, party.as_deref(), hello, &mut writer, &mut reader, &service).await,
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        let who = party.as_deref().unwrap_or("a stranger");
        if let Some(reject) = error.reject() {
            service.metrics.reject(reject);
            tracing::warn!(%who, %reject, "a peer broke the protocol; its link is closed");
            link.refuse(reject);
        } else if matches!(error, LinkError::Local { .. }) {
            tracing::error!(%who, %error, "a stream could not be served");
        } else {
            tracing::debug!(%who, %error, "a stream ended");
        }
    }
}

async fn dispatch(
    link: &Connection,
    party: Option<&str>,
    hello: Hello,
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    service: &Arc<Service>,
) -> Result<(), LinkError> {
    let stranger = || service.ledger.stranger(&link.peer_key());
    match (hello, party) {
        (Hello::Request(request @ (Request::Network | Request::Enrol { .. })), _) => {
            requests::answer(link, None, request, writer, reader, service).await
        }
        (Hello::Request(request), Some(party)) => {
            requests::answer(link, Some(party), request, writer, reader, service).await
        }
        (Hello::Control { versions, mirror_size, certified_size, seen }, Some(party)) => {
            let seen = service.ledger.read_seen(&seen).map_err(LinkError::Misbehaved)?;
            control(link, party, &versions, (mirror_size, certified_size, seen), writer, reader, service).await
        }
        (Hello::Upload { contract, slot, chunks }, Some(party)) => {
            uploads::receive(party, contract, slot, chunks, writer, reader, service).await
        }
        (Hello::Watch { contract }, Some(party)) => requests::watch(party, contract, writer, service).await,
        (Hello::Request(_), None) => {
            service.metrics.reject(&stranger());
            writer.send(&Answer::Rejected(stranger())).await?;
            writer.finish_and_wait().await
        }
        (_, None) => Err(LinkError::Misbehaved(stranger())),
    }
}

/// A worker's long-lived stream: orders down, reports up.
async fn control(
    link: &Connection,
    party: &str,
    versions: &[u16],
    (mirror_size, certified_size, seen): (u64, u64, Option<Note>),
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    service: &Arc<Service>,
) -> Result<(), LinkError> {
    if !versions.contains(&VERSION) {
        let text = format!("the coordinator speaks version {VERSION}, the worker {versions:?}");
        writer.send(&Order::Rejected(Reject::new(RejectCode::UnsupportedVersion, text))).await?;
        return writer.finish_and_wait().await;
    }
    writer.send(&Order::Welcome { version: VERSION, network: network(&service.ledger) }).await?;
    let (orders, mut waiting, cut) = Orders::new();
    service.ledger.witness_up(party, (mirror_size, certified_size), seen, orders.clone()).await;
    service.views.up(party, orders.clone());
    let up = Event::Link { hospital: party.to_owned(), orders: Some(orders.clone()) };
    let _ = service.events.send(up).await;
    let serve = async {
        loop {
            tokio::select! {
                order = waiting.recv() => match order {
                    Some(order) => {
                        orders.taken(&order);
                        if let Err(error) = writer.send(&order).await {
                            break Err(error);
                        }
                    }
                    None => break Ok(()),
                },
                report = reader.recv::<Report>() => match report {
                    Ok(Some(report)) => handle_report(party, report, service).await,
                    Ok(None) => break Ok(()),
                    Err(error) => break Err(error),
                },
                error = link.closed() => break Err(error),
            }
        }
    };
    let result = tokio::select! {
        result = serve => result,
        // Sending may be what it hangs in.
        () = cut.notified() => {
            let text = "more orders wait for this worker than it takes; it is told everything anew on a new link";
            Err(LinkError::Misbehaved(Reject::new(RejectCode::Busy, text)))
        }
    };
    service.views.down(party, &orders);
    if service.ledger.witness_down(party, &orders).await {
        let down = Event::Link { hospital: party.to_owned(), orders: None };
        let _ = service.events.send(down).await;
    }
    tracing::info!(%party, "unlinked");
    result
}

async fn handle_report(party: &str, report: Report, service: &Arc<Service>) {
    match report {
        Report::Cosigned { size, lines } => service.ledger.cosigned(party, size, lines).await,
        Report::NotCosigned { size, mirror_size, reject } => {
            service.ledger.not_cosigned(party, size, mirror_size, reject).await
        }
        Report::Certified { size } => service.ledger.certified(party, size).await,
        Report::AskView { of } => service.views.ask(party, &of),
        Report::View { to, view } => service.views.answer(party, &to, view),
        Report::Job { contract, report } => {
            let _ = service.events.send(Event::Report { hospital: party.to_owned(), contract, report }).await;
        }
    }
}

/// What this coordinator says about its network.
pub fn network(ledger: &Ledger) -> Network {
    Network {
        origin: ledger.origin().to_owned(),
        log_vkey: ledger.log_vkey(),
        size: ledger.final_size(),
        now_ms: now_ms(),
    }
}

/// Reads at most this much of a folder's file for a peer.
pub const FILE_BYTES_MAX: u64 = limits::BLOB_BYTES_MAX;
