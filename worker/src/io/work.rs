//! The local half: rows to a masked vector, on threads of its own. Nothing here is sent or logged, and stored only a digest of
//! the rows of each private round; what leaves this file is a [`Masked`], uniform to anyone without the pads, or a refusal that names columns and counts.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use leben_contracts::agreement::terms::Input;
use leben_contracts::ledger::store::{StoreError, durable_replace, read_if_there};
use leben_models::Table;
use leben_privacy::Masked;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::config::DeclaredSource;
use super::sources::{cohort, load};
use super::store::{DiskError, PIN};
use crate::participate::Work;
use crate::refusal::{Reason, Refusal};

/// Longest pin that is read.
const PIN_BYTES_MAX: usize = 4096;

/// Why a slot's vector is not there.
#[derive(Debug, thiserror::Error)]
pub enum WorkError {
    /// This hospital does not compute it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The disk failed under what must be on it before anything leaves: stop.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What tells one version of a file from another without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Identity {
    path: PathBuf,
    bytes: u64,
    modified: Option<SystemTime>,
}

/// Every table once, until its file changes. A job reads the table it started with.
pub struct Tables {
    folder: PathBuf,
    sources: HashMap<String, DeclaredSource>,
    loaded: Mutex<HashMap<String, (Identity, Arc<Table>)>>,
    pins: Mutex<()>,
}

impl Tables {
    /// Of these data sets; relative paths start at `folder`.
    pub fn new(folder: &Path, sources: &[DeclaredSource]) -> Tables {
        let sources = sources.iter().map(|source| (source.source.name.clone(), source.clone())).collect();
        Tables { folder: folder.to_owned(), sources, loaded: Mutex::default(), pins: Mutex::default() }
    }

    /// The whole table of a data set, from memory if its file has not changed. Blocks.
    ///
    /// # Errors
    /// [`Reason::UnknownDataset`], [`Reason::Source`] with file, line and column, never a cell.
    pub fn get(&self, name: &str) -> Result<Arc<Table>, Refusal> {
        let unknown = || Refusal::new(Reason::UnknownDataset, format!("worker.toml declares no data set '{name}'"));
        let source = &self.sources.get(name).ok_or_else(unknown)?.source;
        let identity = identify(&self.folder.join(&source.path));
        // Held while reading: two stages that need the same table read it once.
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, table)) = loaded.get(name)
            && *known == identity
        {
            return Ok(table.clone());
        }
        let table = load(source, &self.folder).map_err(|error| Refusal::new(Reason::Source, error.to_string()))?;
        let table = Arc::new(table);
        loaded.insert(name.to_owned(), (identity, table.clone()));
        Ok(table)
    }

    /// Writes durably which rows a private round is computed on, or compares them with what was written. With other rows this
    /// hospital's noise alone would differ, and stand bare in the difference of the two sums. Blocks.
    fn pin_rows(&self, work: &Work, rows: &Table) -> Result<(), WorkError> {
        let pin = Sha256::new_with_prefix(b"leben/rows-pin/1").chain_update(*rows_secret(&work.contract, rows));
        let pin = hex::encode(pin.finalize());
        let job = self.folder.join("jobs").join(hex::encode(work.contract));
        let path = job.join(format!("{PIN}{}-{}", work.stage, work.round));
        // Held from the look to the write: a computation that was given up may still run beside its successor.
        let _alone = self.pins.lock().unwrap_or_else(PoisonError::into_inner);
        match read_if_there(&path, PIN_BYTES_MAX).map_err(DiskError::from)? {
            Some(there) if there == pin.as_bytes() => Ok(()),
            Some(_) => Err(WorkError::Refused(Refusal::new(
                Reason::RowsChanged,
                format!(
                    "the rows changed since this round was first computed (round {} of stage {}): put the file back as it was \
                     and the round can be attempted again, or leave the contract",
                    work.round, work.stage
                ),
            ))),
            None => {
                // A computation that cannot be stopped may outlive its job, whose folder was removed: it must not come back.
                match durable_replace(&path, pin.as_bytes()) {
                    Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                        let words = "the folder of the job is not on the disk any more; nothing is computed for it";
                        Err(WorkError::Refused(Refusal::new(Reason::SecretLost, words)))
                    }
                    written => Ok(written.map_err(DiskError::from)?),
                }
            }
        }
    }
}

fn identify(path: &Path) -> Identity {
    let metadata = fs::metadata(path).ok();
    Identity {
        path: path.to_owned(),
        bytes: metadata.as_ref().map_or(0, fs::Metadata::len),
        modified: metadata.and_then(|metadata| metadata.modified().ok()),
    }
}

/// The rows that the terms name, and never fewer than they allow: checked before anything is computed. With a privacy
/// mechanism (`private`) none is cut off: whose row stays must depend on nobody else's.
///
/// # Errors
/// [`Reason::CohortQuery`], [`Reason::SmallCohort`], [`Reason::RowCap`].
pub fn cohort_of(table: &Table, input: &Input, private: bool) -> Result<Table, Refusal> {
    let name = &input.dataset;
    let query = |error: String| Refusal::new(Reason::CohortQuery, format!("cohort of '{name}': {error}"));
    let cohort = cohort::parse(&input.cohort).map_err(|error| query(error.to_string()))?;
    let mut keep = cohort.mask(table).map_err(|error| query(error.to_string()))?;
    let cap = usize::try_from(input.row_cap).unwrap_or(usize::MAX);
    if private && keep.iter().filter(|keep| **keep).count() > cap {
        let words = format!("the cohort of '{name}' has more rows than row_cap {cap}, and none may be left out");
        return Err(Refusal::new(Reason::RowCap, words));
    }
    let mut kept = 0usize;
    for keep in &mut keep {
        *keep &= kept < cap;
        kept += usize::from(*keep);
    }
    if (kept as u64) < input.cohort_min.max(1) {
        // How many there are is itself about patients: only the limit is named.
        let words =
            format!("the cohort of '{name}' has fewer rows than the {} that the terms ask for", input.cohort_min);
        return Err(Refusal::new(Reason::SmallCohort, words));
    }
    let cohort = table.filter(&keep).map_err(|finding| query(finding.to_string()))?;
    // Columns that the terms do not grant are not even in memory when the algorithm runs.
    let granted = input.columns.iter().map(|column| {
        let missing = || Refusal::new(Reason::UnknownColumn, format!("'{name}' has no column '{column}'"));
        let (head, values) = cohort.column(column).ok_or_else(missing)?;
        Ok((head.clone(), values.to_vec()))
    });
    Table::from_columns(granted.collect::<Result<_, _>>()?)
        .map_err(|finding| Refusal::new(Reason::Source, finding.to_string()))
}

/// A round's secret with the rows in it: the same rows in another attempt at the round carry the same noise, and rows that
/// differ by a patient unrelated noise, or the difference would show that patient.
pub fn rows_secret(seed: &[u8; 32], rows: &Table) -> Zeroizing<[u8; 32]> {
    let mut hash = Sha256::new_with_prefix(b"leben/rows-secret/1").chain_update(seed);
    hash.update((rows.rows() as u64).to_be_bytes());
    for (name, values) in rows.columns().iter().filter_map(|column| Some((&column.name, rows.column(&column.name)?.1)))
    {
        hash.update((name.len() as u64).to_be_bytes());
        hash.update(name);
        for values in values.chunks(1024) {
            let bytes: Zeroizing<Vec<u8>> =
                Zeroizing::new(values.iter().flat_map(|x| x.to_bits().to_be_bytes()).collect());
            hash.update(&*bytes);
        }
    }
    Zeroizing::new(hash.finalize().into())
}

/// Rows to a masked vector. Blocks; call it on a thread that may.
///
/// # Errors
/// [`WorkError`]; nothing has left.
pub fn compute(tables: &Tables, work: Work) -> Result<Masked, WorkError> {
    let stage = work.plan.stage(work.stage)?;
    let table = tables.get(stage.input.dataset.as_str())?;
    let cohort = cohort_of(&table, &stage.input, work.plan.private)?;
    let finding = |finding: leben_models::Finding| Refusal::new(Reason::Finding, finding.to_string());
    let encoding = |error: leben_privacy::ContributionError| Refusal::new(Reason::Contribution, error.to_string());
    if work.plan.private {
        tables.pin_rows(&work, &cohort)?;
    }
    let seed = match work.plan.private {
        true => rows_secret(&work.seed, &cohort),
        false => Zeroizing::new(work.seed),
    };
    let contribution = stage.algorithm.local_with(&work.state, &cohort, &seed).map_err(finding)?;
    let clipped = contribution.clip(&work.layout).map_err(encoding)?;
    let quantised = clipped.quantise(work.hospitals_max, *seed).map_err(encoding)?;
    Ok(quantised.noise(*seed).and_then(|noised| noised.mask(work.pads)).map_err(encoding)?)
}
