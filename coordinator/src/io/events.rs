//! What the streams tell the jobs.

use leben_protocol::frame::{ContractId, JobReport, Order, Progress, UploadTrailer};
use leben_protocol::reject::Reject;
use tokio::sync::{mpsc, oneshot, watch};

use super::spool::UploadId;
use crate::model::Model;
use crate::round::Wanted;

/// Orders to one worker's link.
pub type Orders = mpsc::Sender<Order>;

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
