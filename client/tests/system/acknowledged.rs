//! A team that appends to the ledger all the time and remembers every answer: what was acknowledged must stay.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use leben::action;
use leben::draft::draft;
use leben::io::sync::sync;
use leben::io::{fresh, now_ms};
use leben::job::Job;
use leben::verify::{Wish, verify};
use leben::{Home, Session};
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::proof::TlogProof;
use leben_contracts::ledger::store::LogReader;

use crate::deployment::Deployment;
use crate::process::wait_until;
use crate::rows::JobFile;

/// Entries that are enough: more would only make the log longer.
const ENTRIES_MAX: usize = 80;
/// Between two appends.
const PAUSE: Duration = Duration::from_millis(400);

/// An answer of the coordinator.
#[derive(Clone)]
pub struct Acknowledged {
    pub index: u64,
    pub payload_hash: [u8; 32],
    /// tlog-proof, where the team waited for the quorum.
    pub proof: Vec<u8>,
}

/// A team beside the one under test.
pub struct Bystander {
    known: Arc<Mutex<Vec<Acknowledged>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Bystander {
    /// Enrols and begins to append.
    pub fn start(deployment: &Deployment) -> Bystander {
        deployment.keygen("bystander", 0);
        let home = deployment.path("bystander");
        let (known, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (answers, stopped) = (known.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
            while !stopped.load(Ordering::Relaxed) {
                // A broken link is what this test is about: it begins anew.
                if let Err(error) = runtime.block_on(append(&home, &answers, &stopped)) {
                    eprintln!("bystander: {error}");
                    std::thread::sleep(PAUSE);
                }
            }
        });
        Bystander { known, stop, thread: Some(thread) }
    }

    /// Waits until so many more appends are acknowledged.
    pub fn wait_for_more(&self, count: usize) {
        let before = self.known.lock().unwrap().len();
        wait_until("more acknowledged appends", || self.known.lock().unwrap().len() >= before + count);
    }

    /// Stops appending; what was acknowledged.
    pub fn stop(mut self) -> Vec<Acknowledged> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.known.lock().unwrap().clone()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

async fn append(
    root: &Path,
    answers: &Mutex<Vec<Acknowledged>>,
    stopped: &AtomicBool,
) -> Result<(), Box<dyn std::error::Error>> {
    let home = Home::open(root)?;
    let session = Session::connect(&home).await?;
    let ledger = sync(&home, &session).await?;
    // Whatever is offered; nobody is going to sign it.
    let offers = ledger.offers(home.party()).ok_or("not enrolled")?;
    let sets: Vec<String> = offers.sets.iter().map(leben::offers::Set::name).collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let job = JobFile { sets: &sets, ..JobFile::default() }.text().replace("total = 100", "total = 0");
    let job = Job::parse(&job).unwrap();
    let terms = draft(&job, &offers, now_ms()).unwrap();
    loop {
        let count = answers.lock().unwrap().len();
        if stopped.load(Ordering::Relaxed) {
            session.close().await;
            return Ok(());
        }
        if count < ENTRIES_MAX {
            let envelope = action::propose(&home, ledger.state(), &terms, fresh()?)?;
            // Both kinds of answer: sequenced, and final with a proof.
            let appended =
                tokio::time::timeout(Duration::from_secs(20), session.append(&envelope, count.is_multiple_of(2)))
                    .await??;
            let payload_hash = envelope.payload_hash();
            answers.lock().unwrap().push(Acknowledged { index: appended.index, payload_hash, proof: appended.proof });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Every acknowledged entry is where the answer said, and every proof still proves it; the log extends each of the
/// checkpoints that the proofs were made under.
pub fn verify_all(folder: &Path, acknowledged: &[Acknowledged]) {
    let policy = Policy::parse(&fs::read(folder.join("policy")).unwrap()).unwrap();
    let reader = LogReader::new(folder);
    let size = verify(folder, &Wish::default()).unwrap().size;
    for answer in acknowledged {
        assert!(answer.index < size, "entry {} was acknowledged; the log has {size}", answer.index);
        let leaf = reader.entry(answer.index, size).unwrap();
        let entry = Entry::parse(&leaf).unwrap();
        assert_eq!(entry.envelope().payload_hash(), answer.payload_hash, "entry {}", answer.index);
        if answer.proof.is_empty() {
            continue;
        }
        let proof = TlogProof::parse(&answer.proof).unwrap();
        assert_eq!(proof.index, answer.index);
        proof.verify(&policy, &leaf).unwrap();
    }
    let last = acknowledged.iter().rev().filter(|answer| !answer.proof.is_empty()).take(3);
    for (at, answer) in last.enumerate() {
        let known = folder.with_extension(format!("known-{at}"));
        fs::write(&known, TlogProof::parse(&answer.proof).unwrap().note.to_string()).unwrap();
        verify(folder, &Wish { known: Some(known), ..Wish::default() }).unwrap();
    }
}
