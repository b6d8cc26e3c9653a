//! A delivered result: opened, compared with the ledger, written as files that people and tools read.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::ledger::store::{StoreError, durable_replace};
use leben_models::bundle::Bundle;
use leben_models::outcome::{Grid, Outcome, ROWS_WITHHELD};
use leben_protocol::seal;

use crate::home::Home;
use crate::ledger::{Ledger, LedgerError, short};
use crate::receipt::{Item, Receipt, commitment};
use crate::show::{Side, Table, clean, number};

/// A result larger than this is refused: 4 GiB.
pub const RESULT_BYTES_MAX: u64 = 4 << 30;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The contract has none.
    #[error("contract {contract} is {phase}: there is no result{hint}")]
    NotDelivered {
        /// The contract.
        contract: String,
        /// Its phase.
        phase: String,
        /// What to do.
        hint: &'static str,
    },
    /// Sealed to another key.
    #[error(
        "the result of {0} does not open with this home's sealing key; open it with the home that submitted the job"
    )]
    Sealed(String),
    /// Not what the ledger says.
    #[error(
        "the result that the coordinator sent is not the one that the ledger commits to (ledger {ledger}, got {got}). It is not kept; do not accept it, and tell the hospitals"
    )]
    Commitment {
        /// What the ledger says.
        ledger: Hash32,
        /// What came.
        got: Hash32,
    },
    /// No result in it.
    #[error("the result cannot be read: {0}; update this program")]
    Malformed(String),
    /// This side's disk.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// This side's copy of the ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// A result that is what the ledger commits to.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// What it says.
    pub bundle: Bundle,
    /// Its exact bytes.
    pub bytes: Vec<u8>,
}

/// Opens a sealed result and compares it with the contract's Deliver entry.
///
/// # Errors
/// [`FetchError`]; then nothing of it should be used.
pub fn open(home: &Home, contract: &Contract, sealed: &[u8]) -> Result<Opened, FetchError> {
    let Some(delivery) = &contract.delivery else { return Err(not_delivered(contract)) };
    let id = short(&contract.id);
    // The terms name the key that was in force when they were made; it may have been replaced since.
    let opened = home.sealing_secrets().find_map(|secret| seal::open(secret, &contract.id.0, sealed).ok());
    let bytes = opened.ok_or(FetchError::Sealed(id))?;
    let got = commitment(&bytes);
    if got != delivery.result_commitment {
        return Err(FetchError::Commitment { ledger: delivery.result_commitment, got });
    }
    let bundle = read_bundle(&bytes, &contract.id)?;
    Ok(Opened { bundle, bytes })
}

/// Reads the result of this contract.
///
/// # Errors
/// [`FetchError::Malformed`].
pub fn read_bundle(bytes: &[u8], contract: &ContractId) -> Result<Bundle, FetchError> {
    let bundle: Bundle = serde_json::from_slice(bytes).map_err(|error| FetchError::Malformed(error.to_string()))?;
    if bundle.v != 1 || bundle.contract != contract.to_string() {
        let why = format!("it is version {} of contract {}", bundle.v, clean(&bundle.contract));
        return Err(FetchError::Malformed(why));
    }
    Ok(bundle)
}

/// The refusal for a contract without a result.
pub fn not_delivered(contract: &Contract) -> FetchError {
    let hint = if contract.phase.is_terminal() { "" } else { " yet; `leben watch` says when there is" };
    FetchError::NotDelivered { contract: short(&contract.id), phase: contract.phase.to_string(), hint }
}

/// Writes `result.json`, the tables as CSV and the pictures. Returns the names of the files.
///
/// # Errors
/// [`StoreError`].
pub fn write_result(dir: &Path, opened: &Opened) -> Result<Vec<String>, StoreError> {
    let mut files = vec![("result.json".to_owned(), opened.bytes.clone())];
    files.extend(make_files(&opened.bundle));
    create_dir(dir)?;
    for (name, bytes) in &files {
        durable_replace(&dir.join(name), bytes)?;
    }
    Ok(files.into_iter().map(|(name, _)| name).collect())
}

/// What people read of a result: the tables as CSV and the pictures, each by its file's name. They follow from the result alone, so
/// that a verifier makes them again.
pub fn make_files(bundle: &Bundle) -> Vec<(String, Vec<u8>)> {
    let (mut files, mut taken) = (Vec::new(), BTreeSet::new());
    for stage in &bundle.stages {
        let tables = stage.outcome.tables.iter();
        let tables = tables.map(|grid| (format!("{}.csv", csv_name(grid, &stage.outcome)), csv(grid).into_bytes()));
        let pictures = stage.outcome.pictures().into_iter().map(|(name, svg)| (name, svg.into_bytes()));
        for (name, bytes) in tables.chain(pictures) {
            let name = file_name(&name);
            let name = if taken.contains(&name) { format!("{}-{name}", file_name(&stage.name)) } else { name };
            taken.insert(name.clone());
            files.push((name, bytes));
        }
    }
    files
}

/// Coefficients for one unit of each term are what people publish, so they have the plain name.
fn csv_name(grid: &Grid, outcome: &Outcome) -> String {
    match grid.name.as_str() {
        "coefficients_original" => "coefficients".into(),
        "coefficients" if outcome.grid("coefficients_original").is_some() => "coefficients_standardised".into(),
        name => name.to_owned(),
    }
}

/// A name that is safe as a file's: what the coordinator wrote never leaves the folder.
fn file_name(name: &str) -> String {
    let safe: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    safe.trim_start_matches('.').chars().take(100).collect()
}

/// RFC 4180, numbers in shortest form that reads back to the same bits, nothing for a number that does not exist.
fn csv(grid: &Grid) -> String {
    let quote = |text: &str| match text.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text.to_owned(),
    };
    let head = std::iter::once("term".to_owned()).chain(grid.columns.iter().map(|column| quote(column)));
    let mut out = head.collect::<Vec<_>>().join(",") + "\n";
    for row in &grid.rows {
        let values = row.values.iter().map(|value| value.map(|value| format!("{value:?}")).unwrap_or_default());
        out += &(std::iter::once(quote(&row.label)).chain(values).collect::<Vec<_>>().join(",") + "\n");
    }
    out
}

/// Writes `receipt.json`, the policy, and every entry of the contract with its proof. Returns the receipt.
///
/// # Errors
/// [`FetchError`].
pub fn write_receipt(dir: &Path, ledger: &Ledger, contract: &Contract) -> Result<Receipt, FetchError> {
    let delivery = contract.delivery.as_ref().ok_or_else(|| not_delivered(contract))?;
    let id = contract.id.to_string();
    create_dir(&dir.join("entries"))?;
    let mut entries = Vec::new();
    for (index, entry) in ledger.entries(contract.proposed_index..ledger.size())? {
        if index != contract.proposed_index && entry.action().contract.as_deref() != Some(id.as_str()) {
            continue;
        }
        let item = Item::new(index, &entry.action().kind);
        durable_replace(&dir.join(&item.entry), entry.bytes())?;
        durable_replace(&dir.join(&item.proof), ledger.proof(index)?.to_string().as_bytes())?;
        entries.push(item);
    }
    if let Some(policy) = ledger.policy() {
        durable_replace(&dir.join("policy"), policy.to_string().as_bytes())?;
    }
    let receipt = Receipt {
        v: 1,
        origin: ledger.state().origin().to_owned(),
        contract: contract.id,
        terms_hash: contract.terms_hash,
        result_commitment: delivery.result_commitment,
        entries,
    };
    let bytes = serde_json::to_vec_pretty(&receipt).map_err(|error| FetchError::Malformed(error.to_string()))?;
    durable_replace(&dir.join("receipt.json"), &bytes)?;
    durable_replace(&dir.join("terms.txt"), contract.terms.text().as_bytes())?;
    Ok(receipt)
}

fn create_dir(dir: &Path) -> Result<(), StoreError> {
    let failed = |source| StoreError::Io { what: "create", path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)
}

/// The result for people: tables, figures, warnings.
pub fn summary(bundle: &Bundle) -> String {
    let mut out = String::new();
    for stage in &bundle.stages {
        let outcome = &stage.outcome;
        let rows = &outcome.rows;
        out += &format!("\n{}. {}: {}\n", stage.id, clean(&stage.name), clean(&outcome.title));
        let names: Vec<String> = stage.hospitals.iter().map(|name| clean(name)).collect();
        let rejected: u64 = rows.rejected.values().sum();
        let counted = match &outcome.privacy {
            None if rows_withheld(outcome) => {
                format!("{} rows used of at least {} (at least {rejected} left out)", rows.used, rows.requested)
            }
            None => format!("{} rows used of {} ({rejected} left out)", rows.used, rows.requested),
            // No exact count leaves a hospital.
            Some(_) if rows.used == 0 => "rows are not counted".to_owned(),
            Some(_) => format!("about {} rows", rows.used),
        };
        let (count, names, rounds) = (names.len(), names.join(", "), stage.rounds);
        out += &format!("   {counted}, {count} hospitals ({names}), {rounds} rounds\n");
        if let Some(privacy) = &outcome.privacy {
            let (epsilon, delta, mechanism) = (privacy.epsilon, privacy.delta, clean(&privacy.mechanism));
            out += &format!(
                "   Differential privacy: epsilon {epsilon} at delta {delta:e} for one patient at one hospital\n   by {mechanism}\n"
            );
        }
        for grid in shown(outcome) {
            out += &format!("\n{}", indent(&grid_text(grid)));
        }
        if !outcome.figures.is_empty() {
            let mut table = Table::new(&[("figure", Side::Left), ("value", Side::Right)]);
            for (name, value) in &outcome.figures {
                table.row([name.clone(), number(Some(*value))]);
            }
            out += &format!("\n{}", indent(&table.to_text()));
        }
        if let Some(told) = outcome.disclosure.as_ref().filter(|told| !told.withheld.is_empty()) {
            out += &format!(
                "\n   Withheld, as it would tell of fewer than {} patients or of fewer than {} hospitals:\n",
                told.cell_min, told.cell_hospitals_min
            );
            out += &told.withheld.iter().map(|what| format!("   - {}\n", clean(what))).collect::<String>();
        }
        for warning in &outcome.warnings {
            out += &format!("\n   Note: {}\n", clean(warning));
        }
    }
    out
}

/// Coefficients for one unit of each term, or the main table; statistics are a table each.
fn shown(outcome: &Outcome) -> Vec<&Grid> {
    const ROWS_MAX: usize = 20;
    let small = |grid: &&Grid| !grid.rows.is_empty() && grid.rows.len() <= ROWS_MAX;
    let main = outcome.grid("coefficients_original").or_else(|| outcome.tables.first());
    match outcome.privacy.is_some() && outcome.grid("coefficients_original").is_none() {
        true => outcome.tables.iter().filter(small).collect(),
        false => main.filter(|grid| !grid.rows.is_empty()).into_iter().collect(),
    }
}

/// Whether the number of rows left out is told in part only.
fn rows_withheld(outcome: &Outcome) -> bool {
    outcome.withheld().iter().any(|what| what.starts_with(ROWS_WITHHELD))
}

fn grid_text(grid: &Grid) -> String {
    let head =
        std::iter::once(("term", Side::Left)).chain(grid.columns.iter().map(|name| (name.as_str(), Side::Right)));
    let mut table = Table::new(&head.collect::<Vec<_>>());
    for row in &grid.rows {
        let values = row.values.iter().map(|value| number(*value));
        table.row(std::iter::once(row.label.clone()).chain(values));
    }
    format!("{}{}: {}\n", table.to_text(), clean(&grid.name), clean(&grid.note))
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("   {line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use leben_models::bundle::StageResult;
    use leben_models::outcome::GridRow;

    fn outcome() -> Outcome {
        let grid = |name: &str| Grid {
            name: name.into(),
            note: "for one unit".into(),
            columns: vec!["estimate".into(), "a,b".into()],
            rows: vec![GridRow { label: "age \"x\"".into(), values: vec![Some(0.1 + 0.2), None] }],
        };
        Outcome { tables: vec![grid("coefficients"), grid("coefficients_original")], ..Outcome::default() }
    }

    #[test]
    fn results_are_written_with_safe_names_and_exact_numbers() {
        let stage = |id, name: &str| StageResult {
            id,
            name: name.into(),
            rounds: 1,
            hospitals: vec![],
            trace: vec![],
            outcome: outcome(),
        };
        let bundle = Bundle {
            v: 1,
            contract: String::new(),
            salt: String::new(),
            stages: vec![stage(1, "fit"), stage(2, "../x")],
        };
        let opened = Opened { bytes: b"{}".to_vec(), bundle };
        let dir = tempfile::tempdir().unwrap();
        let files = write_result(dir.path(), &opened).unwrap();
        assert!(
            files.contains(&"coefficients.csv".to_owned())
                && files.contains(&"coefficients_standardised.csv".to_owned())
        );
        assert!(files.iter().all(|name| !name.contains('/') && !name.starts_with('.')), "{files:?}");
        let text = fs::read_to_string(dir.path().join("coefficients.csv")).unwrap();
        assert_eq!(text, "term,estimate,\"a,b\"\n\"age \"\"x\"\"\",0.30000000000000004,\n");
        assert!(summary(&opened.bundle).contains("0.3"));
    }
}
