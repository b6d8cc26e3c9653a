//! The folder that `leben fetch` writes: each of its files follows from entries that are proven, or the folder is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use leben_contracts::agreement::body::Body;
use leben_contracts::agreement::terms::Terms;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{ENTRY_BYTES_MAX, Entry};
use leben_contracts::ledger::policy::{POLICY_BYTES_MAX, Policy};
use leben_contracts::ledger::proof::PROOF_BYTES_MAX;
use leben_contracts::verify::{VerifyError, verify_proof};

use super::{Good, Wish, check_reader, entry_line, good, is_there, malformed, policy_for, read_plain};
use crate::fetch::{RESULT_BYTES_MAX, make_files, read_bundle};
use crate::receipt::{RECEIPT_BYTES_MAX, Receipt};

/// What makes a folder a published log.
const LOG: [&str; 3] = ["checkpoint", "tile", "certificate"];

/// Verifies a result's folder.
pub(super) fn verify(dir: &Path, wish: &Wish) -> Result<Good, VerifyError> {
    // Each is checked in its own way, and neither vouches for the other's files.
    if let Some(name) = LOG.iter().find(|name| is_there(&dir.join(name))) {
        let why = format!(
            "holds `receipt.json`, as a result does, and `{name}`, as a log does; verify each in a folder of its own"
        );
        return Err(malformed(dir, why));
    }
    let path = dir.join("receipt.json");
    let receipt =
        Receipt::from_bytes(&read_plain(&path, RECEIPT_BYTES_MAX)?).map_err(|error| malformed(&path, error))?;
    let found = files(dir)?;
    let policy = policy_for(dir, wish)?;
    let mut proven = prove(dir, &receipt, &policy)?;
    check_reader(&policy, &proven.checkpoint, &proven.cosigners, wish)?;

    let result_path = dir.join("result.json");
    let bytes_max = usize::try_from(RESULT_BYTES_MAX).unwrap_or(usize::MAX);
    let result = read_plain(&result_path, bytes_max)?;
    receipt.check_result(&result).map_err(|why| differs("result.json", &why))?;
    proven.lines.push("result.json is the result that the ledger's Deliver entry commits to".into());
    let bundle = read_bundle(&result, &receipt.contract).map_err(|error| malformed(&result_path, error))?;
    let mut made: BTreeMap<String, Vec<u8>> = make_files(&bundle).into_iter().collect();
    made.insert("terms.txt".into(), proven.terms.text().into_bytes());
    let compared = compare(dir, &found, &receipt, &made)?;
    if !compared.is_empty() {
        proven.lines.push(format!("{} say what these entries and the result say", compared.join(", ")));
    }
    proven.lines.extend(own_policy(dir, &policy)?);
    proven.lines.push(
        "that these are all entries of the contract is not provable from them: a whole log shows it, `leben ledger export`".into(),
    );
    Ok(good("evidence", &proven.checkpoint, proven.cosigners, wish.policy.is_some(), proven.lines))
}

/// What the entries with their proofs say.
struct Proven {
    checkpoint: Checkpoint,
    cosigners: Vec<(String, u64)>,
    /// The terms that were armed.
    terms: Terms,
    lines: Vec<String>,
}

fn prove(dir: &Path, receipt: &Receipt, policy: &Policy) -> Result<Proven, VerifyError> {
    let path = dir.join("receipt.json");
    let (mut lines, mut under, mut terms) = (Vec::new(), None::<(Checkpoint, Vec<(String, u64)>)>, None);
    for item in &receipt.entries {
        let (proof, entry_path) = (dir.join(&item.proof), dir.join(&item.entry));
        let leaf = read_plain(&entry_path, ENTRY_BYTES_MAX)?;
        let report = verify_proof(&read_plain(&proof, PROOF_BYTES_MAX)?, policy, &leaf)?;
        let entry = Entry::parse(&leaf).map_err(|error| malformed(&entry_path, error))?;
        if report.index != item.index || entry.action().kind != item.kind {
            return Err(malformed(&path, format!("{} is not the {} that it is listed as", item.entry, item.kind)));
        }
        let body = receipt.check_entry(&entry).map_err(|why| malformed(&entry_path, why))?;
        if let Body::Propose(leben_contracts::agreement::body::Propose { terms: said })
        | Body::Amend(leben_contracts::agreement::body::Amend { terms: said }) = body
            && said.hash().is_ok_and(|hash| hash == receipt.terms_hash)
        {
            terms = Some(said);
        }
        lines.push(entry_line(report.index, &entry));
        let now = (report.checkpoint, report.cosigners);
        match under.replace(now.clone()) {
            Some(before) if before != now => return Err(two_checkpoints(&proof, &before.0, &now.0)),
            _ => {}
        }
    }
    let (checkpoint, cosigners) = under.ok_or_else(|| malformed(&path, "lists no entries"))?;
    if checkpoint.origin != receipt.origin {
        let why = format!("names the log {}, its entries are in {}", receipt.origin, checkpoint.origin);
        return Err(malformed(&path, why));
    }
    let terms = terms.ok_or_else(|| malformed(&path, "lists no entry with the terms that were armed"))?;
    Ok(Proven { checkpoint, cosigners, terms, lines })
}

/// `leben fetch` writes all proofs under one checkpoint.
fn two_checkpoints(proof: &Path, one: &Checkpoint, other: &Checkpoint) -> VerifyError {
    if one.origin == other.origin && one.size == other.size && one.root != other.root {
        let why = format!(
            "the log has signed two different trees of {} entries; keep this folder and tell the hospitals",
            one.size
        );
        return VerifyError::Fork { place: proof.display().to_string(), why };
    }
    malformed(proof, "stands under another checkpoint than the proofs before it; run `leben fetch` again")
}

/// Every file below the folder, by its name from there.
fn files(dir: &Path) -> Result<BTreeSet<String>, VerifyError> {
    let mut found = BTreeSet::new();
    for (folder, prefix) in [(dir.to_path_buf(), ""), (dir.join("entries"), "entries/")] {
        let unlisted = |error| malformed(&folder, format!("cannot be listed: {error}"));
        for entry in fs::read_dir(&folder).map_err(unlisted)? {
            let entry = entry.map_err(unlisted)?;
            let (name, kind) = (entry.file_name(), entry.file_type().map_err(unlisted)?);
            let name = name.to_str().ok_or_else(|| malformed(&entry.path(), "the name is not UTF-8"))?;
            match (kind.is_file(), kind.is_dir() && prefix.is_empty() && name == "entries") {
                (true, _) => drop(found.insert(format!("{prefix}{name}"))),
                (_, true) => {}
                _ => return Err(foreign(&entry.path())),
            }
        }
    }
    Ok(found)
}

fn foreign(path: &Path) -> VerifyError {
    malformed(path, "does not belong in a result's folder; remove it, or find out who put it there")
}

fn differs(name: &str, why: &str) -> VerifyError {
    VerifyError::Inclusion { place: name.to_owned(), why: why.to_owned() }
}

/// Compares the files for people with those made here. Returns the names of those that are there.
fn compare(
    dir: &Path,
    found: &BTreeSet<String>,
    receipt: &Receipt,
    made: &BTreeMap<String, Vec<u8>>,
) -> Result<Vec<String>, VerifyError> {
    let listed: BTreeSet<&str> =
        receipt.entries.iter().flat_map(|item| [item.entry.as_str(), item.proof.as_str()]).collect();
    let mut compared = Vec::new();
    for name in found {
        let path = dir.join(name);
        let Some(bytes) = made.get(name) else {
            let ours = ["receipt.json", "result.json", "policy"].contains(&name.as_str());
            match ours || listed.contains(name.as_str()) {
                true => continue,
                false => return Err(foreign(&path)),
            }
        };
        let len = fs::symlink_metadata(&path).map_err(|error| malformed(&path, error))?.len();
        if u64::try_from(bytes.len()) != Ok(len) || read_plain(&path, bytes.len())? != *bytes {
            let why = "is not what the result and the entries give: it was changed, or another version of this program wrote it; \
                       remove it, or run `leben fetch` again";
            return Err(differs(name, why));
        }
        compared.push(name.clone());
    }
    Ok(compared)
}

/// The folder's own policy file, where the reader brought another.
fn own_policy(dir: &Path, used: &Policy) -> Result<Option<String>, VerifyError> {
    let path = dir.join("policy");
    if !is_there(&path) {
        return Ok(None);
    }
    let bytes = read_plain(&path, POLICY_BYTES_MAX)?;
    let own = Policy::parse(&bytes).map_err(|error| malformed(&path, error))?;
    if own.to_string().as_bytes() != bytes {
        return Err(malformed(&path, "is not in the plain spelling in which `leben fetch` writes it"));
    }
    let other = own.without_observers() != used.without_observers();
    Ok(other.then(|| "the folder's own policy file is another than the one given, and was not used".into()))
}
