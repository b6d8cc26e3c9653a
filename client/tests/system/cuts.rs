//! Links that are cut in the middle of uploads and downloads, again and again. The network is one process here, so that a cut can
//! be told to come with the very next byte.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leben::io::sync::{sync, update};
use leben::io::{enrol::enrol, fetch::fetch, now_ms, submit::submit, watch::watch};
use leben::{Home, Session};
use leben_coordinator::io as coordinator;
use leben_protocol::limits::{CHUNK_BYTES_MAX, SEND_WINDOW_BYTES};
use leben_protocol::quic::{Direction, Flow, Tap};
use leben_worker::io as worker;
use leben_worker::io::clock::Clock;
use tokio::sync::mpsc;

use crate::deployment::HOSPITALS;
use crate::streaming::{WORKER_TOML, check, expected, job, visits};

/// Numbers of one hospital: a model of 12 MB, an upload of 27 chunks.
const LENGTH: usize = 3_000_000;
/// Chunks of a hospital's life at which its link is cut: as they are handed to QUIC, so up to a window of them is under way and
/// the cut falls anywhere.
const CUTS: [u64; 9] = [2, 3, 9, 16, 31, 32, 40, 47, 55];

/// Counts the chunks of one hospital, sent or received, and says when one of [`CUTS`] has come.
struct Ear {
    place: usize,
    chunks: AtomicU64,
    sent_bytes: AtomicU64,
    cut: mpsc::UnboundedSender<usize>,
}

impl Tap for Ear {
    fn see(&self, flow: Flow, bytes: &[u8]) {
        if bytes.len() < CHUNK_BYTES_MAX / 2 {
            return;
        }
        if flow.direction == Direction::Sent {
            self.sent_bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        }
        let chunks = self.chunks.fetch_add(1, Ordering::Relaxed) + 1;
        if CUTS.contains(&chunks) {
            let _ = self.cut.send(self.place);
        }
    }
}

struct World {
    dir: tempfile::TempDir,
    coordinator: coordinator::Running,
    hospitals: Vec<worker::Handle>,
    ears: Vec<Arc<Ear>>,
    cuts: mpsc::UnboundedReceiver<usize>,
    team: Home,
}

async fn start() -> World {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("coordinator");
    let config = coordinator::config::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..coordinator::config::Config::new("ledger.example/cuts", "coordinator")
    };
    coordinator::setup::init(&folder, &config, &toml::to_string(&config).unwrap(), "admin").unwrap();
    let running = coordinator::start(&folder, None).await.unwrap();
    let address = running.address.to_string();
    let invite = |party: &str, kind: &str, credits: u64| {
        let (party, kind, expires_ms) = (party.to_owned(), kind.to_owned(), now_ms() + 3_600_000);
        let invited = coordinator::store::Invited { party, kind, credits, expires_ms };
        coordinator::setup::invite(&folder, &invited, Some(address.clone())).unwrap()
    };
    let (cut, cuts) = mpsc::unbounded_channel();
    let (mut hospitals, mut ears) = (Vec::new(), Vec::new());
    for (place, name) in HOSPITALS.into_iter().take(3).enumerate() {
        let own = dir.path().join(name);
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("rows.csv"), visits(place)).unwrap();
        fs::write(own.join("worker.toml"), WORKER_TOML).unwrap();
        worker::join(&invite(name, "hospital", 0).to_text(), &own, Clock::default()).await.unwrap();
        let (chunks, sent_bytes) = (AtomicU64::default(), AtomicU64::default());
        let ear = Arc::new(Ear { place, chunks, sent_bytes, cut: cut.clone() });
        let options = worker::Options { tap: Some(ear.clone()), clock: Clock::default() };
        hospitals.push(worker::spawn(worker::Config::load(&own).unwrap(), options).unwrap());
        ears.push(ear);
    }
    let team = enrol(&dir.path().join("team"), &invite("team", "team", 5_000)).await.unwrap().home;
    World { dir, coordinator: running, hospitals, ears, cuts, team }
}

/// Bytes that a job moved, as its last progress says.
async fn traffic(session: &Session, contract: [u8; 32]) -> (u64, u64) {
    let mut progress = session.watch(contract).await.unwrap();
    let (mut up, mut down) = (0, 0);
    while let Some(progress) = progress.next().await.unwrap() {
        (up, down) = (progress.bytes_up.max(up), progress.bytes_down.max(down));
    }
    (up, down)
}

/// What has arrived is never sent again: after 27 cuts, the bytes that came are those of three vectors, to the byte. What was under
/// way at a cut is at most a window.
#[tokio::test(flavor = "multi_thread")]
async fn cut_anywhere_an_upload_goes_on_and_no_byte_arrives_twice() {
    let World { dir, coordinator, hospitals, ears, mut cuts, team } = start().await;
    let session = Session::connect(&team).await.unwrap();
    let mut ledger = sync(&team, &session).await.unwrap();
    let offered = async {
        while ledger.state().datasets().len() < 3 || ledger.state().policy().is_none_or(|p| p.validators.len() < 3) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            update(&team, &session, &mut ledger).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), offered).await.unwrap();
    let submitted = submit(&team, &session, &mut ledger, &job(3, LENGTH, 1, "120 seconds")).await.unwrap();
    let contract = submitted.contract;

    let watched = Session::connect(&team).await.unwrap();
    let counted = tokio::spawn(async move { traffic(&watched, contract.0).await });
    let cutting = async {
        let mut cut = 0;
        while let Some(place) = cuts.recv().await {
            hospitals[place].cut(Duration::from_millis(30)).await;
            cut += 1;
        }
        cut
    };
    let watched = Session::connect(&team).await.unwrap();
    let end = tokio::select! {
        end = watch(&team, watched, &mut ledger, contract, |_| {}) => end.unwrap(),
        _ = cutting => unreachable!("the ears are still there"),
    };
    assert!(end.is_success(), "{end:?}");
    let fetched = fetch(&team, &session, &mut ledger, contract, &dir.path().join("result")).await.unwrap();
    let outcome = &fetched.opened.bundle.stages[0].outcome;
    check(&serde_json::to_value(&outcome.figures).unwrap(), expected(3, LENGTH, 1), LENGTH);

    // 18 bits a number, and the hospital's row count as one lane of 8 bytes.
    let vector = LENGTH as u64 * 18 / 8 + 8;
    let (up, down) = counted.await.unwrap();
    assert_eq!(up, 3 * vector, "bytes arrived twice, or were counted twice");
    let cuts: u64 = hospitals.iter().map(worker::Handle::reconnects).sum();
    let window = SEND_WINDOW_BYTES + CHUNK_BYTES_MAX as u64;
    assert!(down <= 3 * 4 * LENGTH as u64 + (cuts + 3) * window, "{down} bytes went down in {cuts} cuts");
    println!("{cuts} cuts: {down} bytes of the model handed to QUIC for three of {}", 4 * LENGTH);
    for (hospital, ear) in hospitals.iter().zip(&ears) {
        let (reconnects, sent) = (hospital.reconnects(), ear.sent_bytes.load(Ordering::Relaxed));
        assert!(reconnects >= 4, "the link was cut only {reconnects} times");
        let most = vector + (reconnects + 1) * window;
        assert!(sent <= most, "{sent} bytes were sent, {reconnects} cuts, of a vector of {vector}");
        println!("{reconnects} cuts: {sent} bytes handed to QUIC for {vector} that arrived");
    }
    session.close().await;
    for hospital in hospitals {
        hospital.stop().await.unwrap();
    }
    coordinator.stop().await;
}
