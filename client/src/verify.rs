//! `leben verify`: one entry's proof, an evidence folder, or a whole published log, checked offline. The checks are
//! `leben_contracts::verify`'s; here is what to check, and the words.
//!
//! Exit codes: 0 ok, 2 malformed, 3 signature, 4 quorum, 5 inclusion or consistency, 6 state machine, 7 stale, 8 fork.

use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::agreement::body::{Body, Embedded};
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{ENTRY_BYTES_MAX, Entry};
use leben_contracts::ledger::evidence::EVIDENCE_BYTES_MAX;
use leben_contracts::ledger::note::{NOTE_BYTES_MAX, Note};
use leben_contracts::ledger::policy::{POLICY_BYTES_MAX, Policy};
use leben_contracts::ledger::proof::PROOF_BYTES_MAX;
use leben_contracts::ledger::store::{LogReader, read_at_most};
use leben_contracts::verify::{
    Options, Progress, VerifyError, check_fresh, check_kept, verify_evidence, verify_folder, verify_proof,
};
use serde_json::{Value, json};

use crate::ledger::no_log;
use crate::show::{clean, utc};

mod evidence;

/// What to check against.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// The policy file that the reader trusts.
    pub policy: Option<PathBuf>,
    /// A checkpoint kept from before, which a log must extend, and a proof must agree with.
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
    /// Who else cosigned it: outside witnesses whom the folder's policy names and the reader's does not.
    pub others: Vec<(String, u64)>,
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
        if is_there(&path.join("receipt.json")) {
            return evidence::verify(path, wish);
        }
        if let Some(why) = no_log(path) {
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

/// A file that somebody else put into a folder: no link is followed, no pipe waited for.
fn read_plain(path: &Path, bytes_max: usize) -> Result<Vec<u8>, VerifyError> {
    let found = fs::symlink_metadata(path).map_err(|error| malformed(path, error))?;
    match found.is_file() {
        true => read(path, bytes_max),
        false => Err(malformed(path, "is no plain file; a published folder holds no links, pipes or devices")),
    }
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
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
    let note = Note::parse(&read_plain(&checkpoint, NOTE_BYTES_MAX)?).map_err(|error| malformed(&checkpoint, error))?;
    let origin = Checkpoint::of(&note).map_err(|error| malformed(&checkpoint, error))?.origin;
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
    let mut lines = vec![
        format!("{} files read, every byte of them checked", report.files),
        format!(
            "{} entries replayed: {} parties, {} data sets, {contracts} contract{}; accounts balance",
            report.replayed,
            state.parties().count(),
            state.datasets().len(),
            if contracts == 1 { "" } else { "s" },
        ),
    ];
    if let Some(embedded) = embedded(path, report.checkpoint.size)? {
        lines.push(format!("it begins {embedded}"));
    }
    let good = good("log", &report.checkpoint, report.cosigners, report.policy_was_given, lines);
    Ok(Good { others: report.outside, ..good })
}

/// What the first entry of a verified log embeds: the replay has checked that it proves a fork.
fn embedded(path: &Path, size: u64) -> Result<Option<Box<Embedded>>, VerifyError> {
    let leaf = LogReader::new(path).entry(0, size).map_err(|error| malformed(path, error))?;
    let entry = Entry::parse(&leaf).map_err(|error| malformed(path, error))?;
    Ok(match Body::parse(&entry.action().kind, &entry.action().body) {
        Ok(Body::Genesis(genesis)) => genesis.embeds,
        _ => None,
    })
}

fn good(
    what: &'static str,
    checkpoint: &Checkpoint,
    cosigners: Vec<(String, u64)>,
    policy_was_given: bool,
    lines: Vec<String>,
) -> Good {
    let (origin, size, root) = (checkpoint.origin.clone(), checkpoint.size, hex::encode(checkpoint.root));
    Good { what, origin, size, root, cosigners, others: Vec::new(), policy_was_given, lines }
}

/// What the reader brought, for proofs under one checkpoint.
fn check_reader(
    policy: &Policy,
    checkpoint: &Checkpoint,
    cosigners: &[(String, u64)],
    wish: &Wish,
) -> Result<(), VerifyError> {
    if let Some(known) = &wish.known {
        check_kept(checkpoint, policy, &read_note(known)?)?;
    }
    check_fresh("the proof's checkpoint", policy, cosigners, wish.freshness)
}

/// The reader's policy, or the one that lies beside the files, which proves only that they agree with each other.
fn policy_for(dir: &Path, wish: &Wish) -> Result<Policy, VerifyError> {
    match &wish.policy {
        Some(path) => read_policy(path),
        None => {
            let path = dir.join("policy");
            if !is_there(&path) {
                return Err(malformed(&path, "is missing; pass the policy that you trust with --policy"));
            }
            Policy::parse(&read_plain(&path, POLICY_BYTES_MAX)?).map_err(|error| malformed(&path, error))
        }
    }
}

fn proof_file(path: &Path, wish: &Wish) -> Result<Good, VerifyError> {
    let proof = read(path, PROOF_BYTES_MAX)?;
    let dir = path.parent().unwrap_or(Path::new("."));
    let beside = path.with_extension("json");
    let (entry_path, leaf) = match &wish.entry {
        Some(named) => (named, read(named, ENTRY_BYTES_MAX)?),
        None if is_there(&beside) => (&beside, read_plain(&beside, ENTRY_BYTES_MAX)?),
        None => return Err(malformed(&beside, "is missing: a proof is about an entry; pass its file with --entry")),
    };
    let policy_dir = if is_there(&dir.join("policy")) { dir.to_path_buf() } else { dir.join("..") };
    let policy = policy_for(&policy_dir, wish)?;
    let report = verify_proof(&proof, &policy, &leaf)?;
    check_reader(&policy, &report.checkpoint, &report.cosigners, wish)?;
    let entry = Entry::parse(&leaf).map_err(|error| malformed(entry_path, error))?;
    let lines = vec![entry_line(report.index, &entry)];
    Ok(good("proof", &report.checkpoint, report.cosigners, wish.policy.is_some(), lines))
}

fn entry_line(index: u64, entry: &Entry) -> String {
    let action = entry.action();
    format!("entry {index}: {} by {}, recorded {} UTC", action.kind, action.actor, utc(entry.seq_ms()))
}

impl Good {
    /// For people.
    pub fn to_text(&self) -> String {
        // Names come from files that others wrote.
        let names =
            |of: &[(String, u64)]| clean(&of.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "));
        let mut text = format!("ok: {} of {}\n", self.what, clean(&self.origin));
        text.push_str(&format!("  checkpoint of {} entries, root {}\n", self.size, self.root));
        text.push_str(&match names(&self.cosigners) {
            none if none.is_empty() => "  nobody cosigned it; the policy asks for no witness\n".to_owned(),
            names => format!("  cosigned by {names}\n"),
        });
        if !self.others.is_empty() {
            let others = names(&self.others);
            text.push_str(&format!("  also, by keys that only the folder's own policy names: {others}\n"));
        }
        for line in &self.lines {
            text.push_str(&format!("  {}\n", clean(line)));
        }
        if !self.policy_was_given {
            text.push_str("  The policy was the folder's own: this proves that the files agree with each other. Pass --policy with a\n");
            text.push_str("  policy file that you got another way to know whose log it is.\n");
        }
        text
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        let told = |of: &[(String, u64)]| -> Vec<Value> {
            of.iter().map(|(name, time_s)| json!({"name": name, "time_s": time_s})).collect()
        };
        json!({
            "ok": true, "exit_code": 0, "what": self.what, "origin": self.origin, "size": self.size, "root": self.root,
            "cosigners": told(&self.cosigners), "others": told(&self.others),
            "policy_was_given": self.policy_was_given, "notes": self.lines,
        })
    }
}

/// A failure for scripts.
pub fn error_json(error: &VerifyError) -> Value {
    json!({ "ok": false, "exit_code": error.exit_code(), "error": clean(&error.to_string()) })
}
