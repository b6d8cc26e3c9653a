//! A small network: one log, four witnesses, a state machine that refuses the same name twice and anything forbidden.

use ed25519_dalek::SigningKey;
use leben_contracts::ledger::Replay;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{Action, Entry, Envelope, origin_hash};
use leben_contracts::ledger::follow::{Follower, Refusal};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::LogStore;
use leben_contracts::ledger::tile::{Batch, Builder};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

pub const ORIGIN: &str = "ledger.example/test";
pub const NOW_MS: u64 = 1_790_000_000_000;

#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Names(pub BTreeSet<String>, pub BTreeMap<[u8; 32], u64>);

impl Replay for Names {
    fn check(&self, _seq_ms: u64, envelope: &Envelope) -> Result<(), Refusal> {
        let action = envelope.action();
        if action.kind == "Forbidden" {
            return Err(Refusal::State("this kind is forbidden".into()));
        }
        let name = action.body["name"].as_str().ok_or(Refusal::State("no name".into()))?;
        if self.0.contains(name) { Err(Refusal::State(format!("{name} is taken"))) } else { Ok(()) }
    }
    fn apply(&mut self, index: u64, entry: &Entry) -> Result<(), Refusal> {
        self.check(entry.seq_ms(), entry.envelope())?;
        self.1.insert(entry.envelope().payload_hash(), index);
        self.0.insert(entry.action().body["name"].as_str().unwrap().to_owned());
        Ok(())
    }
    fn find(&self, payload_hash: &[u8; 32]) -> Option<u64> {
        self.1.get(payload_hash).copied()
    }
}

pub fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

pub fn log_signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, key(1)).unwrap()
}

pub fn log_vkey() -> VerifierKey {
    log_signer().vkey().clone()
}

pub fn witness_signer(n: u8) -> NoteSigner {
    NoteSigner::new(&format!("hospital{n}.example/witness"), KeyType::Cosignature, key(10 + n)).unwrap()
}

pub fn policy() -> Policy {
    let witnesses: Vec<VerifierKey> = (0..4).map(|n| witness_signer(n).vkey().clone()).collect();
    Policy::k_of_n(&log_vkey(), &witnesses, 3).unwrap()
}

pub fn action(name: &str) -> Action {
    Action {
        v: 1,
        kind: "Heartbeat".into(),
        network: origin_hash(ORIGIN),
        contract: None,
        terms_version: None,
        prev: None,
        actor: "a".into(),
        role: "owner".into(),
        not_before_ms: 0,
        not_after_ms: NOW_MS * 2,
        nonce: "0".repeat(32),
        body: serde_json::json!({ "name": name }),
    }
}

pub fn envelope(name: &str) -> Vec<u8> {
    sign(&action(name))
}

pub fn sign(action: &Action) -> Vec<u8> {
    Envelope::sign(action, &[&key(9)]).unwrap().to_bytes()
}

pub fn envelopes(range: std::ops::Range<u32>) -> Vec<Vec<u8>> {
    range.map(|n| envelope(&format!("n{n}"))).collect()
}

pub fn sequencer() -> Sequencer<Names> {
    Sequencer::new(log_signer(), Builder::default(), Follower::new(ORIGIN, Names::default())).unwrap()
}

/// A checkpoint with the witnesses' cosignatures.
pub fn cosign(note: &Note, witnesses: &[u8], time_s: u64) -> Note {
    let mut note = note.clone();
    for n in witnesses {
        note.push(witness_signer(*n).sign(note.text(), time_s)).unwrap();
    }
    note
}

pub fn checkpoint_note(size: u64, root: [u8; 32]) -> Note {
    let mut note = Note::new(Checkpoint::new(ORIGIN, size, root).to_string()).unwrap();
    note.push(log_signer().sign(note.text(), 0)).unwrap();
    note
}

/// Public and state folder of one log.
pub struct Dirs {
    pub temp: tempfile::TempDir,
}

impl Dirs {
    pub fn new() -> Self {
        Self { temp: tempfile::tempdir().unwrap() }
    }
    /// In memory where the machine has such a folder: a crash test asks what was ordered, not how long it takes.
    pub fn in_memory() -> Self {
        match tempfile::tempdir_in("/dev/shm") {
            Ok(temp) => Self { temp },
            Err(_) => Self::new(),
        }
    }
    pub fn public(&self) -> PathBuf {
        self.temp.path().join("public")
    }
    pub fn state(&self) -> PathBuf {
        self.temp.path().join("state")
    }
    pub fn open(&self) -> Result<LogStore, leben_contracts::ledger::store::StoreError> {
        LogStore::open(&self.public(), &self.state(), &log_vkey())
    }
    /// What a crash now would leave behind.
    pub fn copy(&self) -> Self {
        let copy = Self { temp: tempfile::tempdir_in(self.temp.path().parent().unwrap()).unwrap() };
        copy_dir(self.temp.path(), copy.temp.path());
        copy
    }
}

pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below a folder with its bytes.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fn walk(root: &Path, dir: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(root, &path, out);
            } else {
                let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                out.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    let mut out = BTreeMap::new();
    walk(dir, dir, &mut out);
    out
}

/// Writes batches of these sizes, publishing after each.
pub fn write_log(dirs: &Dirs, batches: &[u32]) -> Vec<Batch> {
    let (mut store, mut sequencer) = (dirs.open().unwrap(), sequencer());
    store.publish_policy(&policy()).unwrap();
    let mut next = 0;
    let mut out = Vec::new();
    for (i, count) in (0u64..).zip(batches) {
        let staged = sequencer.stage(NOW_MS + i, &envelopes(next..next + count)).unwrap();
        next += count;
        let batch = staged.batch.unwrap();
        store.commit(&batch).unwrap();
        store.publish(&cosign(&batch.note, &[0, 1, 2, 3], NOW_MS / 1000 + i)).unwrap();
        out.push(batch);
    }
    out
}
