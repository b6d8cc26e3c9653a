//! The stand-alone witness over real HTTP, asked with the golden request bodies.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::note::{KeyType, Note, SignatureLine, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::verify::{VerifyError, verify_evidence};
use leben_protocol::http::{self, Response, Url};
use leben_worker::io::clock::Clock;
use leben_worker::io::witness::{Options, StandAlone};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

fn golden(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/tests/fixtures/ledger").join(name)).unwrap()
}

fn log() -> VerifierKey {
    let vectors: serde_json::Value = serde_json::from_slice(&golden("vectors.json")).unwrap();
    VerifierKey::parse(vectors["log_vkey"].as_str().unwrap()).unwrap()
}

fn options(logs: Vec<VerifierKey>) -> Options {
    Options { listen: "127.0.0.1:0".parse().unwrap(), name: "university.example/witness".into(), logs }
}

/// Where the witness keeps its memory of the golden log.
fn memory(dir: &Path) -> PathBuf {
    let mut files: Vec<_> = fs::read_dir(dir.join("logs")).unwrap().map(|file| file.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// The memory is a note with this checkpoint.
fn remembers(dir: &Path, checkpoint: &str) {
    let note = Note::parse(&fs::read(memory(dir)).unwrap()).unwrap();
    assert_eq!(note.text(), Note::parse(&golden(checkpoint)).unwrap().text());
}

struct Served {
    url: Url,
    vkey: VerifierKey,
    stop: oneshot::Sender<()>,
    ended: JoinHandle<Result<(), String>>,
}

impl Served {
    async fn new(dir: &Path) -> Served {
        let witness = StandAlone::open(dir, options(vec![log()]), Clock::default()).await.unwrap();
        let url = Url::parse(&format!("http://{}", witness.address().unwrap())).unwrap().join("add-checkpoint");
        let (stop, stopped) = oneshot::channel::<()>();
        let vkey = witness.vkey().clone();
        let ended = tokio::spawn(witness.serve(async move {
            let _ = stopped.await;
        }));
        Served { url, vkey, stop, ended }
    }

    async fn post(&self, body: &[u8]) -> Response {
        http::post(&self.url, body.to_vec(), 100_000).await.unwrap()
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }

    /// The answer is one line, and it verifies under this checkpoint.
    fn cosigned(&self, answer: &Response, checkpoint: &str) {
        let text = String::from_utf8(answer.body.clone()).unwrap();
        assert_eq!(answer.status, 200, "{text}");
        let line = SignatureLine::parse(text.strip_suffix('\n').unwrap()).unwrap();
        let note = Note::parse(&golden(checkpoint)).unwrap();
        assert!(self.vkey.verify(note.text(), &line).unwrap().time_s.is_some());
    }
}

fn conflict(answer: &Response, size: u64) {
    assert_eq!((answer.status, answer.content_type.as_str()), (409, "text/x.tlog.size"));
    assert_eq!(answer.body, format!("{size}\n").as_bytes());
}

/// The first request of all: from nothing to one entry.
fn first() -> Vec<u8> {
    [b"old 0\n\n".to_vec(), golden("cp/1.note")].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_requests_are_cosigned_once_remembered_and_never_rolled_back() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path()).await;
    conflict(&served.post(&golden("add-checkpoint/255-300.req")).await, 0);
    served.cosigned(&served.post(&first()).await, "cp/1.note");
    conflict(&served.post(&golden("add-checkpoint/257-300.req")).await, 1);
    served.cosigned(&served.post(&golden("add-checkpoint/1-300.req")).await, "cp/300.note");
    for old in ["1-300", "255-256", "256-257", "256-300"] {
        conflict(&served.post(&golden(&format!("add-checkpoint/{old}.req"))).await, 300);
    }
    // The same checkpoint again is signed again, with its own time.
    let again = [b"old 300\n\n".to_vec(), golden("cp/300.note")].concat();
    served.cosigned(&served.post(&again).await, "cp/300.note");
    let vkey = served.vkey.clone();
    served.stop().await;
    remembers(dir.path(), "cp/300.note");

    let served = Served::new(dir.path()).await;
    assert_eq!(served.vkey, vkey, "the key is made once");
    conflict(&served.post(&golden("add-checkpoint/256-300.req")).await, 300);
    served.stop().await;
    // Restored from a backup: it says what it remembers, and is led on from there.
    fs::write(memory(dir.path()), golden("cp/256.note")).unwrap();
    let served = Served::new(dir.path()).await;
    conflict(&served.post(&golden("add-checkpoint/255-300.req")).await, 256);
    served.cosigned(&served.post(&golden("add-checkpoint/256-300.req")).await, "cp/300.note");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_wrong_request_has_the_status_that_the_specification_gives_it() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path()).await;
    served.cosigned(&served.post(&first()).await, "cp/1.note");
    let good = String::from_utf8(golden("add-checkpoint/1-300.req")).unwrap();
    let proof = good.lines().nth(1).unwrap().to_owned();
    let origin = log().name().to_owned();
    let note = good.split_once("\n\n").unwrap().1;
    let logs_line = note.lines().find(|line| line.starts_with("\u{2014} ")).unwrap();
    let hospitals = String::from_utf8(golden("cp/300.note")).unwrap();
    let hospitals_line = hospitals.lines().last().unwrap().to_owned();
    for (status, body) in [
        (400, String::new()),
        (400, "old 1\n".into()),
        (400, good.replacen("old 1", "old 01", 1)),
        (400, good.replacen("old 1", "old 301", 1)),
        (400, good.replacen(&proof, &format!("{proof}x"), 1)),
        (403, good.replacen(logs_line, &hospitals_line, 1)),
        (403, good.replacen("\n300\n", "\n301\n", 1)),
        (404, good.replace(&origin, "other.example/log")),
        (422, good.replacen(&format!("{proof}\n"), "", 1)),
        (422, good.replacen(&proof, &format!("{}=", "A".repeat(43)), 1)),
        (413, "x".repeat(200_000)),
    ] {
        let answer = served.post(body.as_bytes()).await;
        assert_eq!(answer.status, status, "{}: {body:.300}", String::from_utf8_lossy(&answer.body));
    }
    assert_eq!(http::get(&served.url, 1000).await.unwrap().status, 405);
    assert_eq!(http::get(&served.url.join("x"), 1000).await.unwrap().status, 404);
    served.cosigned(&served.post(good.as_bytes()).await, "cp/300.note");
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fork_is_never_signed_and_its_proof_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path()).await;
    served.cosigned(&served.post(&first()).await, "cp/1.note");
    served.cosigned(&served.post(&golden("add-checkpoint/1-300.req")).await, "cp/300.note");
    let fork = [b"old 300\n\n".to_vec(), golden("bad/fork300.note")].concat();
    conflict(&served.post(&fork).await, 300);
    remembers(dir.path(), "cp/300.note");
    let file = fs::read_dir(dir.path().join("evidence")).unwrap().next().unwrap().unwrap().path();
    let evidence = fs::read(file).unwrap();
    let policy = Policy::parse(&golden("policy.txt")).unwrap();
    for policy in [None, Some(&policy)] {
        let verdict = verify_evidence("the file", &evidence, policy);
        assert!(matches!(verdict, VerifyError::Fork { .. }), "{verdict}");
        assert_eq!(verdict.exit_code(), 8);
    }
    served.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_in_use_a_damaged_memory_and_a_wrong_key_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::new(dir.path()).await;
    served.cosigned(&served.post(&first()).await, "cp/1.note");
    let refused = |logs: Vec<VerifierKey>| {
        let dir = dir.path().to_owned();
        async move { StandAlone::open(&dir, options(logs), Clock::default()).await.err().unwrap() }
    };
    assert!(refused(vec![log()]).await.contains("in use"));
    served.stop().await;
    assert!(refused(vec![log(), log()]).await.contains("twice"));
    let mut other = [3; 32];
    other[0] = 9;
    let other = ed25519_dalek::SigningKey::from_bytes(&other);
    let other = VerifierKey::new(log().name(), KeyType::Ed25519, PublicKey::of(&other)).unwrap();
    assert!(refused(vec![other]).await.contains("damaged"), "the memory is signed by another log's key");
    let mut bytes = golden("cp/1.note");
    bytes[3] ^= 1;
    fs::write(memory(dir.path()), bytes).unwrap();
    assert!(refused(vec![log()]).await.contains("damaged"));
}
