//! One connection to the coordinator, kept up for ever: dial, say hello, pass orders in and reports out, come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leben_contracts::ledger::store::Mirror;
use leben_contracts::ledger::witness::WitnessRecord;
use leben_protocol::backoff::Backoff;
use leben_protocol::frame::{Hello, Order, Report};
use leben_protocol::quic::{Connection, Dialer, FrameWriter, LinkError};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::{mpsc, watch};

use super::clock::fresh_seed;
use crate::agent::VERSIONS;

/// What the shell hears of the link, in order.
#[derive(Debug)]
pub enum LinkEvent {
    /// A connection is up; reports go into this channel until it is closed.
    Up {
        /// Where reports go.
        reports: mpsc::Sender<Report>,
        /// This hospital's key that the coordinator took.
        key: [u8; 32],
    },
    /// An order of the coordinator.
    Order(Box<Order>),
    /// The connection is gone.
    Down(String),
    /// It could not be made; it is tried again.
    Retry(String),
}

/// What this hospital holds of the ledger.
#[derive(Clone, Debug, Default)]
pub struct Holds {
    /// Entries in its copy.
    pub mirror_size: u64,
    /// Entries of it that are certified.
    pub certified_size: u64,
    /// The largest checkpoint on its disk, a note signed by the log; empty: none.
    pub seen: Vec<u8>,
}

impl Holds {
    /// What is on the disk, given what the witness signed last.
    pub fn of(copy: &Mirror, record: Option<&WitnessRecord>) -> Holds {
        let copied = copy.store().head().map(|head| (head.size, &head.note));
        let signed = record.map(|record| (record.checkpoint().size, record.note()));
        let newest = copied.into_iter().chain(signed).max_by_key(|(size, _)| *size);
        let seen = newest.map_or_else(Vec::new, |(_, note)| note.to_string().into_bytes());
        let certified_size = copy.store().published().map_or(0, |head| head.size);
        Holds { mirror_size: copy.next_index(), certified_size, seen }
    }
}

/// What every task that needs the link shares.
pub struct Shared {
    /// The live connection, if there is one.
    pub connection: watch::Sender<Option<Connection>>,
    /// What the next hello says.
    pub holds: watch::Sender<Holds>,
    /// Bytes sent over all connections so far, headers included.
    pub sent_bytes: AtomicU64,
    /// Bytes received, the same.
    pub received_bytes: AtomicU64,
    /// Connections made after the first.
    pub reconnects: AtomicU64,
    /// Drop the connection and stay away this long; tests and the demo.
    pub cut: mpsc::Sender<Duration>,
    /// Which upload from now cuts the link before its first chunk (0: none), and for how many milliseconds.
    pub cut_in_upload: (AtomicU64, AtomicU64),
}

impl Shared {
    /// Bytes sent and received, the live connection included.
    pub fn traffic(&self) -> (u64, u64) {
        let live = self.connection.borrow().as_ref().map(Connection::stats).unwrap_or_default();
        let sent = self.sent_bytes.load(Ordering::Relaxed).saturating_add(live.sent_bytes);
        (sent, self.received_bytes.load(Ordering::Relaxed).saturating_add(live.received_bytes))
    }

    /// For how long this upload, which is about to send its first chunk, has to cut the link.
    pub fn cut_now(&self) -> Option<Duration> {
        let (uploads, away_ms) = &self.cut_in_upload;
        let left = uploads.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1));
        (left == Ok(1)).then(|| Duration::from_millis(away_ms.load(Ordering::Acquire)))
    }

    /// Waits for a live connection.
    pub async fn connected(&self) -> Option<Connection> {
        let mut connection = self.connection.subscribe();
        let live = connection.wait_for(|c| c.as_ref().is_some_and(|c| c.close_reason().is_none())).await.ok()?;
        live.clone()
    }
}

/// Where to dial, as whom, whom to believe.
#[derive(Clone)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// The coordinator's ed25519 key.
    pub key: [u8; 32],
    /// This hospital's end: its link key, or two while a rotation is under way, the likelier one first.
    pub ways: Vec<Way>,
}

/// One of this hospital's link keys.
#[derive(Clone)]
pub struct Way {
    /// Its public half.
    pub public: [u8; 32],
    /// Dials with it.
    pub dialer: Dialer,
}

/// Keeps the link up until the channel of events is closed.
pub async fn keep_up(
    target: watch::Receiver<Target>,
    shared: Arc<Shared>,
    events: mpsc::Sender<LinkEvent>,
    mut cuts: mpsc::Receiver<Duration>,
) {
    let seed = fresh_seed().map(|seed| *seed).unwrap_or_default();
    let mut backoff = Backoff::new(seed);
    let mut strange = 0;
    loop {
        let ended = match dial(&target, strange).await {
            Ok((connection, key)) => live(&connection, key, &shared, &events, &mut cuts, &mut backoff).await,
            Err(error) => Ended::Failed(error),
        };
        // The coordinator does not know the key that was shown: the next try shows the other one, if there is one.
        strange = if ended.is_stranger() { strange.wrapping_add(1) } else { 0 };
        if events.is_closed() {
            return;
        }
        match ended {
            Ended::Cut(away) => {
                let _ = events.send(LinkEvent::Down("cut on purpose".into())).await;
                tokio::time::sleep(away).await;
            }
            Ended::Lost(error) => {
                let _ = events.send(LinkEvent::Down(error.to_string())).await;
                wait(&mut backoff).await;
            }
            Ended::Failed(error) => {
                // A wrong key or a refusal is said loudly and tried again all the same: an operator may mend it there.
                let _ = events.send(LinkEvent::Retry(error.to_string())).await;
                wait(&mut backoff).await;
            }
        }
    }
}

enum Ended {
    Cut(Duration),
    Lost(LinkError),
    Failed(LinkError),
}

impl Ended {
    fn is_stranger(&self) -> bool {
        let code = |error: &LinkError| error.refusal().and_then(Reject::kind);
        matches!(self, Ended::Failed(error) if matches!(code(error), Some(RejectCode::Stranger | RejectCode::KeyRevoked)))
    }
}

async fn wait(backoff: &mut Backoff) {
    tokio::time::sleep(Duration::from_millis(backoff.next_delay_ms())).await;
}

async fn dial(target: &watch::Receiver<Target>, turn: usize) -> Result<(Connection, [u8; 32]), LinkError> {
    let target = target.borrow().clone();
    let address = leben_protocol::quic::resolve(&target.address).await?;
    let way = turn.checked_rem(target.ways.len()).and_then(|turn| target.ways.get(turn));
    let way = way.ok_or_else(|| LinkError::Local { why: "there is no link key".into() })?;
    let connection = way.dialer.dial(address, target.key).await?;
    Ok((connection, way.public))
}

async fn live(
    connection: &Connection,
    key: [u8; 32],
    shared: &Arc<Shared>,
    events: &mpsc::Sender<LinkEvent>,
    cuts: &mut mpsc::Receiver<Duration>,
    backoff: &mut Backoff,
) -> Ended {
    let mut was_up = false;
    let up = || {
        was_up = true;
        backoff.reset();
    };
    let ended = control(connection, key, shared, events, cuts, up).await;
    shared.connection.send_replace(None);
    connection.close("the worker ends this link");
    let stats = connection.stats();
    shared.sent_bytes.fetch_add(stats.sent_bytes, Ordering::Relaxed);
    shared.received_bytes.fetch_add(stats.received_bytes, Ordering::Relaxed);
    match ended {
        Ok(away) => Ended::Cut(away),
        Err(error) if was_up => Ended::Lost(error),
        Err(error) => Ended::Failed(error),
    }
}

async fn control(
    connection: &Connection,
    key: [u8; 32],
    shared: &Arc<Shared>,
    events: &mpsc::Sender<LinkEvent>,
    cuts: &mut mpsc::Receiver<Duration>,
    up: impl FnOnce(),
) -> Result<Duration, LinkError> {
    let (mut writer, mut reader) = connection.open_bi().await?;
    writer.set_priority(1);
    let Holds { mirror_size, certified_size, seen } = shared.holds.borrow().clone();
    writer.send(&Hello::Control { versions: VERSIONS.to_vec(), mirror_size, certified_size, seen }).await?;
    let first: Order = reader.expect().await?;
    if let Order::Rejected(reject) = first {
        return Err(LinkError::Refused(reject));
    }
    up();
    let (reports_in, reports) = mpsc::channel(1024);
    if events.send(LinkEvent::Up { reports: reports_in, key }).await.is_err() {
        return Err(LinkError::Closed);
    }
    shared.connection.send_replace(Some(connection.clone()));
    let mut next = Some(first);
    let sending = send_reports(&mut writer, reports);
    tokio::pin!(sending);
    loop {
        if let Some(order) = next.take()
            && events.send(LinkEvent::Order(Box::new(order))).await.is_err()
        {
            return Err(LinkError::Closed);
        }
        tokio::select! {
            order = reader.expect::<Order>() => next = Some(order?),
            ended = &mut sending => return Err(ended),
            Some(away) = cuts.recv() => return Ok(away),
        }
    }
}

async fn send_reports(writer: &mut FrameWriter, mut reports: mpsc::Receiver<Report>) -> LinkError {
    while let Some(report) = reports.recv().await {
        if let Err(error) = writer.send(&report).await {
            return error;
        }
    }
    LinkError::Closed
}
