//! What runs beside the loop: questions to the coordinator, the local half, its upload. Each tells the loop how it ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::terms::Input;
use leben_contracts::ledger::evidence::EVIDENCE_BYTES_MAX;
use leben_models::State;
use leben_models::state::StateError;
use leben_protocol::frame::{ContractId, Report, UploadTrailer};
use leben_protocol::http::{self, Url};
use leben_protocol::quic::{Blob, BlobReader, LinkError};
use leben_protocol::reject::Reject;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::link::Shared;
use super::request;
use super::states::StateFolder;
use super::store::DiskError;
use super::upload::{self, Ended, Upload};
use super::work::{Tables, WorkError, cohort_of, compute};
use crate::agent::{AppendKey, REVIEW_BYTES_MAX};
use crate::participate::Work;
use crate::refusal::{Reason, Refusal};

/// What tasks tell the loop.
pub(super) enum Event {
    Appended(AppendKey, Result<u64, Option<Reject>>),
    State(ContractId, [u8; 32], Result<State, StateError>),
    NoState(ContractId, Reject),
    Review(ContractId, Vec<u8>),
    Streamed(ContractId, u64, [u8; 32]),
    Unworkable(ContractId, u64, Refusal),
    /// The disk failed below a computation.
    Broken(DiskError),
    Uploaded(ContractId, u64, Ended),
    Counted(Code, u64),
    Cohorts(Hash32, Result<(), Refusal>),
    View(String, Result<Vec<u8>, String>),
}

/// The local half of one slot, or its upload.
pub(super) struct Running {
    pub(super) slot: u64,
    task: AbortHandle,
    trailer: Option<oneshot::Sender<UploadTrailer>>,
}

/// Everything under way.
pub(super) struct Tasks {
    pub(super) shared: Arc<Shared>,
    /// Where reports go while there is a link.
    pub(super) reports: Option<mpsc::Sender<Report>>,
    pub(super) running: HashMap<ContractId, Running>,
    fetching: HashMap<ContractId, AbortHandle>,
    tables: Arc<Tables>,
    pool: Arc<rayon::ThreadPool>,
    events: mpsc::Sender<Event>,
}

impl Tasks {
    pub(super) fn new(
        shared: Arc<Shared>,
        tables: Tables,
        pool: rayon::ThreadPool,
        events: mpsc::Sender<Event>,
    ) -> Tasks {
        let (running, fetching) = (HashMap::new(), HashMap::new());
        Tasks { shared, reports: None, running, fetching, tables: Arc::new(tables), pool: Arc::new(pool), events }
    }

    /// Stops everything.
    pub(super) fn abort(&self) {
        self.running.values().for_each(|running| running.task.abort());
        self.fetching.values().for_each(AbortHandle::abort);
    }

    /// Asks an address for its view of the log: `/view` of a hospital, or the file that the address names.
    pub(super) fn fetch_view(&self, address: String) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let asked = async {
                let url = Url::parse(&address)?;
                let url = if url.is_bare() { url.join("view") } else { url };
                http::get(&url, EVIDENCE_BYTES_MAX).await
            };
            let view = match asked.await {
                Ok(answer) if answer.status == 200 => Ok(answer.body),
                Ok(answer) => Err(format!("{address} answers with status {}", answer.status)),
                Err(error) => Err(error.to_string()),
            };
            let _ = events.send(Event::View(address, view)).await;
        });
    }

    /// Hands the signed trailer to the upload that waits for it.
    pub(super) fn trailer(&mut self, contract: &ContractId, trailer: UploadTrailer) {
        let waiting = self.running.get_mut(contract).and_then(|running| running.trailer.take());
        if let Some(waiting) = waiting {
            let _ = waiting.send(trailer);
        }
    }

    /// Every table once, so that it can be offered and the first round does not wait for the disk.
    pub(super) fn count_rows(&self, names: Vec<Code>) {
        let (tables, events) = (self.tables.clone(), self.events.clone());
        tokio::spawn(async move {
            for name in names {
                let (tables, dataset) = (tables.clone(), name.clone());
                let read = tokio::task::spawn_blocking(move || tables.get(dataset.as_str()).map(|table| table.rows()));
                match read.await {
                    Ok(Ok(rows)) => drop(events.send(Event::Counted(name, rows as u64)).await),
                    Ok(Err(refusal)) => tracing::error!(dataset = %name, %refusal, "the data set cannot be read"),
                    Err(error) => tracing::error!(dataset = %name, %error, "the data set cannot be read"),
                }
            }
        });
    }

    /// Whether each of these inputs of a contract with a privacy mechanism has the rows that its terms ask for.
    pub(super) fn check_cohorts(&self, terms_hash: Hash32, inputs: Vec<Input>) {
        let (tables, events) = (self.tables.clone(), self.events.clone());
        tokio::spawn(async move {
            let one = move |input: &Input| {
                let table = tables.get(input.dataset.as_str())?;
                cohort_of(&table, input, true).map(drop)
            };
            let looked = tokio::task::spawn_blocking(move || inputs.iter().try_for_each(one)).await;
            let found = looked.unwrap_or_else(|error| Err(Refusal::new(Reason::Source, error.to_string())));
            let _ = events.send(Event::Cohorts(terms_hash, found)).await;
        });
    }

    pub(super) fn report(&mut self, report: Report) {
        let Some(reports) = &self.reports else { return };
        if let Err(mpsc::error::TrySendError::Full(_)) = reports.try_send(report) {
            tracing::warn!("the coordinator does not read; the link is made anew");
            let _ = self.shared.cut.try_send(Duration::ZERO);
        }
    }

    pub(super) fn append(&self, key: AppendKey, envelope: Vec<u8>) {
        let (events, link) = (self.events.clone(), self.shared.connection.borrow().clone());
        tokio::spawn(async move {
            let answer = match link {
                Some(link) => match request::append(&link, envelope).await {
                    Ok(Ok(index)) => Ok(index),
                    Ok(Err(reject)) => Err(Some(reject)),
                    Err(_) => Err(None),
                },
                None => Err(None),
            };
            if matches!(answer, Err(None)) {
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            let _ = events.send(Event::Appended(key, answer)).await;
        });
    }

    pub(super) fn fetch(&mut self, contract: ContractId, blob: Blob, folder: StateFolder) {
        let (events, shared) = (self.events.clone(), self.shared.clone());
        let task = tokio::spawn(async move {
            while let Some(link) = shared.connected().await {
                match folder.fetch(&link, contract, blob).await {
                    Ok(state) => return drop(events.send(Event::State(contract, blob.digest, state)).await),
                    Err(LinkError::Refused(reject)) if !reject.is_temporary() && link.close_reason().is_none() => {
                        return drop(events.send(Event::NoState(contract, reject)).await);
                    }
                    Err(error @ LinkError::Local { .. }) => tracing::warn!(%error, "the model state is fetched again"),
                    Err(error) => tracing::debug!(%error, "the model state is fetched again"),
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        if let Some(before) = self.fetching.insert(contract, task.abort_handle()) {
            before.abort();
        }
    }

    /// A result to look at, into memory; it is small.
    pub(super) fn fetch_review(&mut self, contract: ContractId, blob: Blob) {
        let (events, shared) = (self.events.clone(), self.shared.clone());
        let task = tokio::spawn(async move {
            while let Some(link) = shared.connected().await {
                let mut bytes = Vec::new();
                let Ok(reader) = BlobReader::new(blob, REVIEW_BYTES_MAX) else { return };
                match request::fetch_state(&link, contract, (blob, reader), &mut bytes).await {
                    Ok(()) => return drop(events.send(Event::Review(contract, bytes)).await),
                    Err(error) => tracing::debug!(%error, "the result is fetched again"),
                }
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        });
        if let Some(before) = self.fetching.insert(contract, task.abort_handle()) {
            before.abort();
        }
    }

    pub(super) fn work(&mut self, work: Work) {
        let (contract, slot) = (work.contract, work.slot);
        let (tables, pool) = (self.tables.clone(), self.pool.clone());
        let (events, shared) = (self.events.clone(), self.shared.clone());
        let (trailer_in, trailer) = oneshot::channel();
        let task = tokio::spawn(async move {
            let computed = tokio::task::spawn_blocking(move || pool.install(|| compute(&tables, work))).await;
            let failed = |error: tokio::task::JoinError| Err(Refusal::new(Reason::Finding, error.to_string()).into());
            let masked = match computed.unwrap_or_else(failed) {
                Ok(masked) => masked,
                Err(WorkError::Refused(refusal)) => {
                    return drop(events.send(Event::Unworkable(contract, slot, refusal)).await);
                }
                Err(WorkError::Disk(error)) => return drop(events.send(Event::Broken(error)).await),
            };
            let (ask, root) = oneshot::channel();
            let asking = events.clone();
            tokio::spawn(async move {
                if let Ok(root) = root.await {
                    let _ = asking.send(Event::Streamed(contract, slot, root)).await;
                }
            });
            let upload = Upload { contract, slot, masked, ask_trailer: Some(ask), trailer: Some(trailer) };
            let _ = events
                .send(match upload::run(upload, shared).await {
                    Ended::Unreadable(error) => {
                        Event::Unworkable(contract, slot, Refusal::new(Reason::Contribution, error.to_string()))
                    }
                    ended => Event::Uploaded(contract, slot, ended),
                })
                .await;
        });
        let running = Running { slot, task: task.abort_handle(), trailer: Some(trailer_in) };
        if let Some(before) = self.running.insert(contract, running) {
            before.task.abort();
        }
    }

    /// What ran for a slot has ended by itself.
    pub(super) fn ended(&mut self, contract: &ContractId, slot: u64) {
        if self.running.get(contract).is_some_and(|running| running.slot == slot) {
            self.running.remove(contract);
        }
    }

    /// Stops what runs for a slot, or for the whole job.
    pub(super) fn cancel(&mut self, contract: &ContractId, slot: Option<u64>) {
        if let Some(fetching) = self.fetching.remove(contract) {
            fetching.abort();
        }
        let is_it = |running: &Running| slot.is_none_or(|slot| slot == running.slot);
        if self.running.get(contract).is_some_and(is_it)
            && let Some(running) = self.running.remove(contract)
        {
            running.task.abort();
        }
    }
}
