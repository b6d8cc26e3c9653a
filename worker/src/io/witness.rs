//! A stand-alone witness (C2SP tlog-witness) that anybody can run, with no network, no data and no contract: `leben-worker witness`.
//!
//! It attests for each log it is told to follow that the log only grows, and nothing else. What it must never forget is one file a
//! log, replaced durably **before** an answer leaves:
//!
//! ```text
//! witness.key              ed25519 seed, 0600
//! logs/<sha256 of origin>  the checkpoint cosigned last; may not be rolled back: it would sign a fork
//! evidence/                two histories, if a log ever shows them; see contracts' `evidence`
//! lock                     held while a process works on this folder
//! ```

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use leben_contracts::ledger::add_checkpoint::{AddCheckpoint, PROOF_LINES_MAX};
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, NOTE_BYTES_MAX, Note, NoteSigner, VerifierKey};
use leben_contracts::ledger::store::{durable_replace, ensure_dir, read_at_most};
use leben_contracts::ledger::witness::{Witness, WitnessError, WitnessRecord};
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::clock::{Clock, fresh_seed};
use super::store::entries_of;

/// Longest request: the old size, the proof, a note.
const BODY_BYTES_MAX: usize = 32 + PROOF_LINES_MAX * 45 + NOTE_BYTES_MAX;
/// How long a request may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Forks kept; each is proof enough, and whoever holds a log's key could make any number.
const EVIDENCE_FILES_MAX: usize = 64;

/// Which logs, under which name, where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Name of its key, for example `university.example/witness`.
    pub name: String,
    /// Keys of the logs it follows.
    pub logs: Vec<VerifierKey>,
}

/// A witness that is ready to serve.
pub struct StandAlone {
    listener: TcpListener,
    vkey: VerifierKey,
    desk: Arc<Desk>,
    failed: mpsc::Receiver<String>,
    _lock: File,
}

/// Everything one request needs.
struct Desk {
    dir: PathBuf,
    clock: Clock,
    logs: BTreeMap<String, Mutex<Witness>>,
    fail: mpsc::Sender<String>,
}

impl StandAlone {
    /// Takes up the folder and binds the address. The key is made at the first start.
    ///
    /// # Errors
    /// In words for the person at the command line.
    pub async fn open(dir: &Path, options: Options, clock: Clock) -> Result<StandAlone, String> {
        let words = |error: leben_contracts::ledger::store::StoreError| error.to_string();
        for folder in ["logs", "evidence"] {
            ensure_dir(&dir.join(folder)).map_err(words)?;
        }
        let lock = lock(&dir.join("lock"))?;
        let seed = fresh_seed().map_err(|error| error.to_string())?;
        let key = keyfile::load_or_create(&dir.join("witness.key"), &seed).map_err(|error| error.to_string())?;
        let signer = || NoteSigner::new(&options.name, KeyType::Cosignature, key.clone()).map_err(|e| e.to_string());
        let vkey = signer()?.vkey().clone();
        let mut logs = BTreeMap::new();
        for log in options.logs {
            let path = dir.join("logs").join(file_of(log.name()));
            let record = match path.exists() {
                true => {
                    let bytes = read_at_most(&path, NOTE_BYTES_MAX).map_err(words)?;
                    let damaged = |error| {
                        format!("{} is damaged: {error}; without it this witness could sign a fork", path.display())
                    };
                    Some(WitnessRecord::parse(&bytes, &log).map_err(damaged)?)
                }
                false => None,
            };
            let origin = log.name().to_owned();
            let witness = Witness::new(log, vec![signer()?], record).map_err(|error| error.to_string())?;
            if logs.insert(origin.clone(), Mutex::new(witness)).is_some() {
                return Err(format!("the log '{origin}' is named twice"));
            }
        }
        let listener = TcpListener::bind(options.listen).await;
        let listener = listener.map_err(|error| format!("cannot listen on {}: {error}", options.listen))?;
        let (fail, failed) = mpsc::channel(1);
        let desk = Arc::new(Desk { dir: dir.to_owned(), clock, logs, fail });
        Ok(StandAlone { listener, vkey, desk, failed, _lock: lock })
    }

    /// Its key, for those who want its cosignature.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// Where it listens.
    ///
    /// # Errors
    /// In words.
    pub fn address(&self) -> Result<SocketAddr, String> {
        self.listener.local_addr().map_err(|error| error.to_string())
    }

    /// Answers until `stopped`, or until its disk fails: then it must not answer any more.
    ///
    /// # Errors
    /// In words.
    pub async fn serve(mut self, stopped: impl Future<Output = ()>) -> Result<(), String> {
        let router = Router::new().route("/add-checkpoint", post(add_checkpoint)).with_state(self.desk.clone());
        tokio::select! {
            served = axum::serve(self.listener, router).into_future() => served.map_err(|error| error.to_string()),
            why = self.failed.recv() => Err(why.unwrap_or_default()),
            () = stopped => Ok(()),
        }
    }
}

async fn add_checkpoint(State(desk): State<Arc<Desk>>, body: Body) -> Response {
    let body = match tokio::time::timeout(BODY_TIMEOUT, axum::body::to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(body)) => body,
        Ok(Err(_)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, "the request is too long, or was cut off\n").into_response();
        }
        Err(_) => return (StatusCode::REQUEST_TIMEOUT, "the request did not arrive in time\n").into_response(),
    };
    let fail = desk.fail.clone();
    match tokio::task::spawn_blocking(move || desk.answer(&body)).await {
        Ok(Ok(response)) => response,
        failed => {
            let why = failed.map_or_else(|error| error.to_string(), |answered| answered.err().unwrap_or_default());
            // One failure is enough to end the process.
            let _ = fail.try_send(why);
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

impl Desk {
    /// The answer to one request; `Err` is the disk's, and ends the process.
    fn answer(&self, body: &[u8]) -> Result<Response, String> {
        let request = match AddCheckpoint::parse(body) {
            Ok(request) => request,
            Err(error) => return Ok(refusal(&WitnessError::from(error))),
        };
        let origin = &request.checkpoint.origin;
        let Some(witness) = self.logs.get(origin) else {
            return Ok(refusal(&WitnessError::UnknownOrigin(origin.clone())));
        };
        // Held until the record is on the disk: the next request must not overtake it. A thread that died holding it has
        // ended the process.
        let mut witness = witness.lock().unwrap_or_else(PoisonError::into_inner);
        match witness.handle_add_checkpoint(self.clock.now_ms(), body) {
            Ok(answer) => {
                let path = self.dir.join("logs").join(file_of(origin));
                durable_replace(&path, &answer.record.to_bytes()).map_err(|error| error.to_string())?;
                let checkpoint = answer.record.checkpoint();
                tracing::info!(log = %checkpoint.origin, size = checkpoint.size, "cosigned");
                Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], answer.body()).into_response())
            }
            Err(error) => {
                tracing::warn!(log = %origin, %error, "not cosigned");
                if let WitnessError::Fork { mine, theirs, .. } = &error {
                    self.keep_fork(witness.log(), mine, theirs)?;
                    return Ok(conflict(witness.size()));
                }
                Ok(refusal(&error))
            }
        }
    }

    fn keep_fork(&self, log: &VerifierKey, mine: &str, theirs: &str) -> Result<(), String> {
        let notes = (Note::parse(mine.as_bytes()), Note::parse(theirs.as_bytes()));
        let (Ok(mine), Ok(theirs)) = notes else { return Ok(()) };
        let Ok(evidence) = ForkEvidence::of_one_size(log, &mine, &theirs) else { return Ok(()) };
        let folder = self.dir.join("evidence");
        if entries_of(&folder).map_err(|error| error.to_string())?.len() >= EVIDENCE_FILES_MAX {
            return Ok(());
        }
        let path = folder.join(format!("fork-{}.json", self.clock.now_ms()));
        durable_replace(&path, evidence.to_json().as_bytes()).map_err(|error| error.to_string())?;
        tracing::error!(file = %path.display(), "the log signed two histories: the proof is kept; tell the hospitals");
        Ok(())
    }
}

/// Name of a log's file: origins hold slashes.
fn file_of(origin: &str) -> String {
    hex::encode(Sha256::digest(origin.as_bytes()))
}

fn conflict(size: u64) -> Response {
    (StatusCode::CONFLICT, [(header::CONTENT_TYPE, "text/x.tlog.size")], format!("{size}\n")).into_response()
}

fn refusal(error: &WitnessError) -> Response {
    if let WitnessError::Conflict { size } = error {
        return conflict(*size);
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::BAD_REQUEST);
    (status, format!("{error}\n")).into_response()
}

fn lock(path: &Path) -> Result<File, String> {
    let fail = |error: std::io::Error| format!("cannot lock {}: {error}", path.display());
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(fail)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(format!(
            "{} is in use by another process; two witnesses with one key and one memory would sign a fork",
            path.parent().unwrap_or(path).display()
        )),
        Err(TryLockError::Error(error)) => Err(fail(error)),
    }
}
