//! What the streams tell the jobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use leben_protocol::frame::{ContractId, JobReport, Order, Progress, UploadTrailer};
use leben_protocol::reject::Reject;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::spool::UploadId;
use crate::model::Model;
use crate::round::Wanted;

/// Orders that may wait for one worker; a worker that lets more pile up has stopped reading. A new one is shown the certificates of all
/// turns at once.
const ORDERS_MAX: usize = 8192;
/// Bytes of entries that may wait for one worker: twice the largest step that a witness is asked for.
const ORDERS_BYTES_MAX: usize = 256 << 20;

/// Orders to one worker's link.
#[derive(Clone)]
pub struct Orders {
    waiting: mpsc::Sender<Order>,
    bytes: Arc<AtomicUsize>,
    cut: Arc<Notify>,
}

fn weight(order: &Order) -> usize {
    match order {
        Order::Entries { leaves, .. } => leaves.iter().map(Vec::len).sum(),
        _ => 0,
    }
}

impl Orders {
    /// For a new link: what comes of it, and the word that the link is of no use and has to end.
    pub fn new() -> (Orders, mpsc::Receiver<Order>, Arc<Notify>) {
        let (waiting, orders) = mpsc::channel(ORDERS_MAX);
        let cut = Arc::new(Notify::new());
        (Orders { waiting, bytes: Arc::default(), cut: cut.clone() }, orders, cut)
    }

    /// Whether the order waits for the worker now. If it does not read, its link ends: it makes a new one, and is told everything anew.
    pub fn give(&self, party: &str, order: Order) -> bool {
        let weight = weight(&order);
        let fits = self.bytes.fetch_add(weight, Ordering::Relaxed).saturating_add(weight) <= ORDERS_BYTES_MAX;
        let given = if fits { self.waiting.try_send(order) } else { Err(TrySendError::Full(order)) };
        if let Err(TrySendError::Full(_)) = given {
            tracing::warn!(%party, "the worker does not take its orders; its link is cut");
            self.cut();
        }
        given.is_ok()
    }

    /// The order waits no more.
    pub fn taken(&self, order: &Order) {
        self.bytes.fetch_sub(weight(order), Ordering::Relaxed);
    }

    /// Ends the link.
    pub fn cut(&self) {
        self.cut.notify_one();
    }

    /// Whether both are the same link's.
    pub fn is_same(&self, other: &Orders) -> bool {
        self.waiting.same_channel(&other.waiting)
    }
}

/// What happened.
pub enum Event {
    /// A worker's link came up (with its orders) or went down.
    Link {
        /// The hospital.
        hospital: String,
        /// Where its orders go, while it has a link.
        orders: Option<Orders>,
    },
    /// A worker's report on a job.
    Report {
        /// The hospital.
        hospital: String,
        /// The job.
        contract: ContractId,
        /// What it says.
        report: JobReport,
    },
    /// A worker wants to upload.
    Upload {
        /// The hospital.
        hospital: String,
        /// The job.
        contract: ContractId,
        /// The slot.
        slot: u64,
        /// Chunks it has.
        chunks: u64,
        /// What is wanted, or why not.
        reply: oneshot::Sender<Result<Wanted, Reject>>,
    },
    /// So many chunks of an upload are stored.
    Stored {
        /// Which.
        id: UploadId,
        /// How many.
        chunks: u64,
    },
    /// An upload ended with its trailer.
    Trailer {
        /// Which.
        id: UploadId,
        /// The trailer.
        trailer: Box<UploadTrailer>,
        /// Whether it was good.
        reply: oneshot::Sender<Result<(), Reject>>,
    },
    /// A job's model state was written.
    StateWritten {
        /// The job.
        contract: ContractId,
        /// The state as it lies on the disk, or what the disk said.
        written: std::io::Result<Model>,
    },
    /// The ledger would not take a job's record.
    Refused {
        /// The job.
        contract: ContractId,
        /// The step.
        key: String,
        /// Why.
        reject: Reject,
    },
    /// Somebody wants to watch a job.
    Watch {
        /// The job.
        contract: ContractId,
        /// Its progress from now on.
        reply: oneshot::Sender<Option<watch::Receiver<Progress>>>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_that_does_not_read_is_cut_whoever_else_holds_its_orders() {
        let (orders, mut waiting, cut) = Orders::new();
        let held_elsewhere = orders.clone();
        let order = || Order::ViewAsked { by: "basel".to_owned() };
        assert!((0..ORDERS_MAX).all(|_| orders.give("aker", order())));
        assert!(tokio::time::timeout(std::time::Duration::ZERO, cut.notified()).await.is_err(), "nothing is wrong yet");
        assert!(!held_elsewhere.give("aker", order()));
        cut.notified().await;
        assert!(waiting.recv().await.is_some() && orders.is_same(&held_elsewhere));

        let (orders, mut waiting, cut) = Orders::new();
        let entries = || Order::Entries { first_index: 0, leaves: vec![vec![0; ORDERS_BYTES_MAX / 2]] };
        assert!(orders.give("aker", entries()) && orders.give("aker", entries()));
        orders.taken(&waiting.recv().await.unwrap());
        assert!(orders.give("aker", entries()) && !orders.give("aker", entries()));
        cut.notified().await;
    }
}
