//! `leben verify`: one entry's proof, an evidence folder, or a whole published log, checked offline. The checks are
//! `leben_contracts::verify`'s; here is what to check, and the words.
//!
//! Exit codes: 0 ok, 2 malformed, 3 signature, 4 quorum, 5 inclusion or consistency, 6 state machine, 7 stale, 8 fork.

use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{ENTRY_BYTES_MAX, Entry};
use leben_contracts::ledger::evidence::EVIDENCE_BYTES_MAX;
use leben_contracts::ledger::note::{NOTE_BYTES_MAX, Note};
use leben_contracts::ledger::policy::{POLICY_BYTES_MAX, Policy};
use leben_contracts::ledger::proof::PROOF_BYTES_MAX;
use leben_contracts::ledger::store::read_at_most;
use leben_contracts::verify::{Options, Progress, VerifyError, verify_evidence, verify_folder, verify_proof};
use serde_json::{Value, json};

use crate::receipt::{RECEIPT_BYTES_MAX, Receipt};
use crate::show::utc;

/// What to check against.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The policy file that the reader trusts.
    pub policy: Option<PathBuf>,
    /// A checkpoint kept from before, which a folder must extend.
    pub known: Option<PathBuf>,
    /// The reader's clock and the greatest age, both in milliseconds.
    pub freshness: Option<(u64, u64)>,
    /// The entry that a proof is about, when it does not lie beside it.
    pub entry: Option<PathBuf>,
}

/// What was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Good {
    /// `log`, `evidence` or `proof`.
    pub what: &'static str,
    /// The log.
    pub origin: String,
    /// Entries under the checkpoint.
    pub size: u64,
    /// Root under the checkpoint, hex.
    pub root: String,
    /// Who cosigned, with the time each stated, Unix seconds.
    pub cosigners: Vec<(String, u64)>,
    /// Whether the policy was the reader's own.
    pub policy_was_given: bool,
    /// One line for each thing that was checked beyond that.
    pub lines: Vec<String>,
}

/// Verifies a proof file, an evidence folder (`receipt.json`), a published log, or the proof that a log has forked: then the error is
/// [`VerifyError::Fork`], with exit code 8.
///
/// # Errors
/// The first [`VerifyError`]; its exit code says of which kind.
pub fn verify(path: &Path, wish: &Wish) -> Result<Good, VerifyError> {
    verify_telling(path, wish, &mut |_| {})
}

/// As [`verify`]; `tell` hears how far the work on a whole log is.
///
/// # Errors
/// As [`verify`].
pub fn verify_telling(path: &Path, wish: &Wish, tell: &mut dyn FnMut(Progress)) -> Result<Good, VerifyError> {
    if path.is_dir() {
        if path.join("receipt.json").is_file() {
            return evidence(path, wish);
        }
        if !path.join("checkpoint").is_file() && path.join("ledger").join("checkpoint").is_file() {
            let why = format!("holds no log itself; verify {}", path.join("ledger").display());
            return Err(malformed(path, why));
        }
        return folder(path, wish, tell);
    }
    // The first byte tells a proof of a fork, which is JSON, from a tlog-proof.
    let bytes = read(path, PROOF_BYTES_MAX.max(EVIDENCE_BYTES_MAX))?;
    if bytes.first() == Some(&b'{') {
        let policy = wish.policy.as_deref().map(read_policy).transpose()?;
        return Err(verify_evidence(&path.display().to_string(), &bytes, policy.as_ref()));
    }
    proof_file(path, wish)
}

fn malformed(path: &Path, why: impl ToString) -> VerifyError {
    VerifyError::Malformed { place: path.display().to_string(), why: why.to_string() }
}

fn read(path: &Path, bytes_max: usize) -> Result<Vec<u8>, VerifyError> {
    read_at_most(path, bytes_max).map_err(|error| malformed(path, error))
}

fn read_policy(path: &Path) -> Result<Policy, VerifyError> {
    Policy::parse(&read(path, POLICY_BYTES_MAX)?).map_err(|error| malformed(path, error))
}

fn read_note(path: &Path) -> Result<Note, VerifyError> {
    Note::parse(&read(path, NOTE_BYTES_MAX)?).map_err(|error| malformed(path, error))
}

fn folder(path: &Path, wish: &Wish, tell: &mut dyn FnMut(Progress)) -> Result<Good, VerifyError> {
    let checkpoint = path.join("checkpoint");
    // The origin is not trusted: every signature and entry is checked against it below.
    let origin = Checkpoint::of(&read_note(&checkpoint)?).map_err(|error| malformed(&checkpoint, error))?.origin;
    let mut state = State::new(&origin);
    let options = Options {
        policy: wish.policy.as_deref().map(read_policy).transpose()?,
        freshness: wish.freshness,
        known: wish.known.as_deref().map(read_note).transpose()?,
        replay: Some(&mut state),
        progress: Some(tell),
        growing: false,
    };
    let report = verify_folder(path, options)?;
    let contracts = state.contracts_len();
    let lines = vec![
        format!("{} files read, every byte of them checked", report.files),
        format!(
            "{} entries replayed: {} parties, {} data sets, {contracts} contract{}; accounts balance",
            report.replayed,
            state.parties().count(),
            state.datasets().len(),
            if contracts == 1 { "" } else { "s" },
        ),
    ];
    let cosigners = report.cosigners;
    Ok(good("log", &report.checkpoint, cosigners, report.policy_was_given, lines))
}

fn good(
    what: &'static str,
    checkpoint: &Checkpoint,
    cosigners: Vec<(String, u64)>,
    policy_was_given: bool,
    lines: Vec<String>,
) -> Good {
    let (origin, size, root) = (checkpoint.origin.clone(), checkpoint.size, hex::encode(checkpoint.root));
    Good { what, origin, size, root, cosigners, policy_was_given, lines }
}

/// The reader's policy, or the one that lies beside the files, which proves only that they agree with each other.
fn policy_for(dir: &Path, wish: &Wish) -> Result<Policy, VerifyError> {
    match &wish.policy {
        Some(path) => read_policy(path),
        None if dir.join("policy").is_file() => read_policy(&dir.join("policy")),
        None => Err(malformed(&dir.join("policy"), "is missing; pass the policy that you trust with --policy")),
    }
}

fn proof_file(path: &Path, wish: &Wish) -> Result<Good, VerifyError> {
    let proof = read(path, PROOF_BYTES_MAX)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let entry_path = wish.entry.clone().unwrap_or_else(|| path.with_extension("json"));
    if !entry_path.is_file() {
        return Err(malformed(&entry_path, "is missing: a proof is about an entry; pass its file with --entry"));
    }
    let leaf = read(&entry_path, ENTRY_BYTES_MAX)?;
    let beside = if dir.join("policy").is_file() { dir.to_path_buf() } else { dir.join("..") };
    let report = verify_proof(&proof, &policy_for(&beside, wish)?, &leaf)?;
    let entry = Entry::parse(&leaf).map_err(|error| malformed(&entry_path, error))?;
    let lines = vec![entry_line(report.index, &entry)];
    Ok(good("proof", &report.checkpoint, report.cosigners, wish.policy.is_some(), lines))
}

fn entry_line(index: u64, entry: &Entry) -> String {
    let action = entry.action();
    format!("entry {index}: {} by {}, recorded {} UTC", action.kind, action.actor, utc(entry.seq_ms()))
}

fn evidence(dir: &Path, wish: &Wish) -> Result<Good, VerifyError> {
    let path = dir.join("receipt.json");
    let receipt = Receipt::from_bytes(&read(&path, RECEIPT_BYTES_MAX)?).map_err(|error| malformed(&path, error))?;
    let policy = policy_for(dir, wish)?;
    let (mut lines, mut last) = (Vec::new(), None);
    for item in &receipt.entries {
        let proof = read(&dir.join(&item.proof), PROOF_BYTES_MAX)?;
        let leaf = read(&dir.join(&item.entry), ENTRY_BYTES_MAX)?;
        let report = verify_proof(&proof, &policy, &leaf)?;
        let entry = Entry::parse(&leaf).map_err(|error| malformed(&dir.join(&item.entry), error))?;
        if report.index != item.index || entry.action().kind != item.kind {
            return Err(malformed(&path, format!("{} is not the {} that it is listed as", item.entry, item.kind)));
        }
        receipt.check_entry(&entry).map_err(|why| malformed(&dir.join(&item.entry), why))?;
        lines.push(entry_line(report.index, &entry));
        last = Some((report.checkpoint, report.cosigners));
    }
    let result = fs::read(dir.join("result.json")).map_err(|error| malformed(&dir.join("result.json"), error))?;
    receipt.check_result(&result).map_err(|why| VerifyError::Inclusion { place: "result.json".into(), why })?;
    lines.push("result.json is the result that the ledger's Deliver entry commits to".into());
    let (checkpoint, cosigners) = last.ok_or_else(|| malformed(&path, "lists no entries"))?;
    Ok(good("evidence", &checkpoint, cosigners, wish.policy.is_some(), lines))
}

impl Good {
    /// For people.
    pub fn to_text(&self) -> String {
        let names: Vec<&str> = self.cosigners.iter().map(|(name, _)| name.as_str()).collect();
        let mut text = format!("ok: {} of {}\n", self.what, self.origin);
        text.push_str(&format!("  checkpoint of {} entries, root {}\n", self.size, self.root));
        text.push_str(&match names.as_slice() {
            [] => "  nobody cosigned it; the policy asks for no witness\n".to_owned(),
            names => format!("  cosigned by {}\n", names.join(", ")),
        });
        for line in &self.lines {
            text.push_str(&format!("  {line}\n"));
        }
        if !self.policy_was_given {
            text.push_str("  The policy was the folder's own: this proves that the files agree with each other. Pass --policy with a\n");
            text.push_str("  policy file that you got another way to know whose log it is.\n");
        }
        text
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        json!({
            "ok": true, "exit_code": 0, "what": self.what, "origin": self.origin, "size": self.size, "root": self.root,
            "cosigners": self.cosigners.iter().map(|(name, time_s)| json!({"name": name, "time_s": time_s})).collect::<Vec<_>>(),
            "policy_was_given": self.policy_was_given, "notes": self.lines,
        })
    }
}

/// A failure for scripts.
pub fn error_json(error: &VerifyError) -> Value {
    json!({ "ok": false, "exit_code": error.exit_code(), "error": error.to_string() })
}
