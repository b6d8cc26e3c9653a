//! What is on the hospital's disk, beside its data.
//!
//! ```text
//! worker.toml            what people configure
//! network.json           which network this is, from the invite
//! keys/*.key             private keys, 0600;  next/, old/ of a rotation
//! mirror/public, state   the hospital's own copy of the ledger, verifiable offline
//! witness                the checkpoint cosigned last
//! frozen.json            stopped for a Handover, see `handover`;  mirror-before-<size>-<new log key>: the copy of before
//! jobs/<contract>/seed   secret of the job's keys, 0600;  journal.json;  state-<digest>, `states`;  rows-*, `work`;  result.json to look at
//! approvals/<contract>.json   what people decided;  inbox/  what the command line asks for
//! budget/<data set>.json      its privacy budget (`budgets.rs`)
//! evidence/              why it stopped signing, until a person has looked (see `evidence`): halt-*.txt; fork-*.json prove two histories;
//!                        cleared-*/ was looked at; dropped-*.txt, see `handover`
//! audit.ndjson           everything decided, refused, computed; each line names the one before
//! status.json            what `leben-worker status` shows
//! ```
//!
//! | file | may be lost | may be rolled back | forged by | grows by |
//! |---|---|---|---|---|
//! | `witness` | no: new keys | no: it would sign a fork; seen by its own cosignature, and it halts | nobody (the log's signature) | nothing |
//! | `mirror/` | yes: fetched again, checked against `witness` | yes | nobody (its root) | the ledger |
//! | `frozen.json` | no: it would sign for the old key again | no, the same | whoever can write the folder | nothing |
//! | `seed` | until a slot was opened: new keys; then the job is left, its noise came from it | yes | whoever can write the folder | 65 bytes a job, removed at its end |
//! | `journal.json`, `rows-*` | no: two sums of one round could be told apart | no | the same | 114 bytes a round, removed at its end |
//! | `budget/` | no: the data set takes no more jobs with a mechanism | no: seen by the ledger, the journals and its generation | whoever can write the folder | 300 bytes a job |
//! | `approvals/` | yes: asked again | yes | the same | one file a contract |
//! | `evidence/` | yes: the cause is found again; a cleared fork may stop it again | yes, the same | `fork-*` nobody (the log's signatures), the rest who can write the folder | the first of each |
//! | `audit.ndjson` | no | seen by its chain | the same | about 200 bytes an event |

mod jobs;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::ledger::keyfile::KeyFileError;
use leben_contracts::ledger::keyring::KeyringError;
use leben_contracts::ledger::note::{Note, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::store::{Mirror as LedgerMirror, MirrorError, StoreError, durable_replace, ensure_dir};
use leben_contracts::ledger::witness::WitnessRecord;
use leben_protocol::frame::ContractId;
use serde::de::DeserializeOwned;

use crate::agent::{Standing, Status};
use crate::audit::{self, AuditEntry};
use crate::gossip::Compared;

pub(super) use jobs::PIN;

/// A result to look at, in a job's folder.
pub(super) const REVIEW: &str = "result.json";
const NOTE_BYTES_MAX: usize = 64 * 1024;
const FILE_BYTES_MAX: usize = 64 << 20;

/// The disk failed, or holds what it must not. The process ends; the next start recovers or says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The operating system refused.
    #[error("cannot {what} {}: {error}; stopping, nothing acknowledged is lost. Free space or repair the disk, then start again", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        error: io::Error,
    },
    /// A file does not hold what it must.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The ledger's files.
    #[error(transparent)]
    Ledger(#[from] StoreError),
    /// Entries that do not fit the copy.
    #[error(transparent)]
    Mirror(#[from] MirrorError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The folder of keys.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// The state folder, held by one process.
pub struct Store {
    folder: PathBuf,
    ledger: LedgerMirror,
    audit: File,
    audit_prev: [u8; 32],
}

/// A file of the state folder.
pub fn path(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

impl Store {
    /// Opens or creates the folder; refuses a second process.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(folder: &Path, log: &VerifierKey) -> Result<Store, DiskError> {
        for name in ["jobs", "approvals/inbox", "evidence", "mirror"] {
            ensure_dir(&folder.join(name))?;
        }
        keep_private(&folder.join("jobs"))?;
        let mirror = folder.join("mirror");
        let ledger = LedgerMirror::open(&mirror.join("public"), &mirror.join("state"), log)?;
        let (audit, audit_prev) = open_audit(&folder.join("audit.ndjson"))?;
        Ok(Store { folder: folder.to_owned(), ledger, audit, audit_prev })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The copy of the ledger.
    pub fn ledger(&self) -> &LedgerMirror {
        &self.ledger
    }

    /// What the witness signed last.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn record(&self) -> Result<Option<WitnessRecord>, DiskError> {
        let path = self.folder.join("witness");
        let Some(bytes) = read(&path, NOTE_BYTES_MAX)? else { return Ok(None) };
        let record = WitnessRecord::parse_by(&bytes, self.ledger.store().keys());
        record.map(Some).map_err(|error| DiskError::Damaged { path, why: error.to_string() })
    }

    /// Durable: keys that the log has, or had before a Handover.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn know_keys(&mut self, keys: &[VerifierKey]) -> Result<(), DiskError> {
        Ok(self.ledger.know_keys(keys)?)
    }

    /// What the copy says about a checkpoint of `size` entries; `None` if it has not as many.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn compare(&self, size: u64) -> Result<Option<Compared>, DiskError> {
        let Some(head) = self.ledger.store().head().filter(|head| head.size >= size) else { return Ok(None) };
        let reader = self.ledger.reader();
        let root = reader.root_at(size, head.size).map_err(StoreError::from)?;
        let proof = match size == head.size {
            true => Vec::new(),
            false => reader.consistency(size, head.size).map_err(StoreError::from)?,
        };
        Ok(Some(Compared { root, proof, mine: head.note.clone() }))
    }

    /// Durable: leaves under the log's checkpoint.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_entries(&mut self, entries: &[Vec<u8>], note: &Note) -> Result<(), DiskError> {
        Ok(self.ledger.append(entries, note)?)
    }

    /// Durable: what the witness signed last.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_record(&self, record: &WitnessRecord) -> Result<(), DiskError> {
        Ok(durable_replace(&self.folder.join("witness"), &record.to_bytes())?)
    }

    /// Durable: the certificate, and beside it the policy it met, so that the folder verifies offline.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_certificate(
        &mut self,
        note: &Note,
        turn: Option<&Note>,
        policy: Option<&Policy>,
    ) -> Result<(), DiskError> {
        if let Some(turn) = turn {
            self.ledger.publish_certificate(turn)?;
        }
        self.ledger.publish(note)?;
        if let Some(policy) = policy {
            self.ledger.publish_policy(policy)?;
        }
        Ok(())
    }

    /// Durable: what people decided about a contract.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_standing(&self, contract: &ContractId, standing: &Standing) -> Result<(), DiskError> {
        let path = self.folder.join(format!("approvals/{}.json", hex::encode(contract)));
        Ok(durable_replace(&path, &to_json(standing))?)
    }

    /// Everything people decided.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn standings(&self) -> Result<BTreeMap<ContractId, Standing>, DiskError> {
        let mut standings = BTreeMap::new();
        for (name, path) in entries_of(&self.folder.join("approvals"))? {
            let Some(Ok(Hash32(id))) = name.strip_suffix(".json").map(str::parse::<Hash32>) else { continue };
            if let Some(standing) = read_json(&path)? {
                standings.insert(id, standing);
            }
        }
        Ok(standings)
    }

    /// Appends to the audit log; on the disk when this returns.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn append_audit(&mut self, entry: &AuditEntry) -> Result<(), DiskError> {
        let mut line = to_json(&entry.line(&self.audit_prev));
        let prev = audit::digest(&line);
        line.push(b'\n');
        let path = self.folder.join("audit.ndjson");
        let written = self.audit.write_all(&line).and_then(|()| self.audit.sync_data());
        written.map_err(|error| DiskError::Io { what: "write", path, error })?;
        self.audit_prev = prev;
        Ok(())
    }

    /// Shows the status to the command line.
    ///
    /// # Errors
    /// [`DiskError`]: stop.
    pub fn store_status(&self, status: &Status) -> Result<(), DiskError> {
        // Not durable: it says what is now, and a new process writes a new one.
        let path = self.folder.join("status.json");
        let temporary = self.folder.join("status.json.tmp");
        let written = fs::write(&temporary, to_json(status)).and_then(|()| fs::rename(&temporary, &path));
        written.map_err(|error| DiskError::Io { what: "write", path, error })
    }
}

/// JSON of a file, or `None` when there is none.
///
/// # Errors
/// [`DiskError`].
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, DiskError> {
    let Some(bytes) = read(path, FILE_BYTES_MAX)? else { return Ok(None) };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|error| DiskError::Damaged { path: path.to_owned(), why: error.to_string() })
}

/// Names and paths in a folder, sorted.
///
/// # Errors
/// [`DiskError`].
pub fn entries_of(folder: &Path) -> Result<Vec<(String, PathBuf)>, DiskError> {
    let fail = |error| DiskError::Io { what: "read", path: folder.to_owned(), error };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, DiskError> {
    Ok(leben_contracts::ledger::store::read_if_there(path, bytes_max)?)
}

fn to_json<T: serde::Serialize>(value: &T) -> Vec<u8> {
    // Every type written here is a struct of strings, numbers and lists: it cannot fail.
    serde_json::to_vec(value).unwrap_or_default()
}

fn keep_private(folder: &Path) -> Result<(), DiskError> {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700)).map_err(|error| DiskError::Io {
        what: "protect",
        path: folder.to_owned(),
        error,
    })
}

/// Opens the log at its end. A last line that a crash cut short is taken off: it was never acknowledged.
fn open_audit(path: &Path) -> Result<(File, [u8; 32]), DiskError> {
    let fail = |what| move |error| DiskError::Io { what, path: path.to_owned(), error };
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        text => text.map_err(fail("read"))?,
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(fail("open"))?;
    if whole < text.len() {
        file.set_len(whole as u64).map_err(fail("mend"))?;
    }
    let kept = text.get(..whole).unwrap_or_default();
    let last = kept.strip_suffix(b"\n").unwrap_or_default();
    let start = last.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    Ok((file, audit::digest(last.get(start..).unwrap_or_default())))
}
