//! A model's file at a hospital: fetched once, taken up where a cut or a restart left it, never believed unseen.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test stops at the first thing that is wrong"
)]

use std::fs;
use std::io::Cursor;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use leben_models::State;
use leben_models::state::{OUTSIDE_VALUES_MIN, StateError};
use leben_protocol::frame::{Answer, Hello, Request};
use leben_protocol::limits::CHUNK_BYTES_MAX;
use leben_protocol::quic::{Blob, BlobSender, Connection, Dialer, LinkError, Listener, public_key};
use leben_protocol::reject::{Reject, RejectCode};
use leben_worker::io::states::StateFolder;

const CONTRACT: [u8; 32] = [4; 32];

/// What the coordinator was asked for.
#[derive(Default)]
struct Served {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A coordinator that gives whoever asks `bytes`, and counts.
async fn serve(listener: Listener, bytes: Vec<u8>, served: Arc<Served>) {
    let link = listener.accept().await.unwrap().unwrap();
    while let Ok((mut writer, mut reader)) = link.accept_bi().await {
        let hello: Hello = reader.expect().await.unwrap();
        let Hello::Request(Request::State { contract, digest }) = hello else { panic!("{hello:?}") };
        assert_eq!(contract, CONTRACT);
        served.requests.fetch_add(1, Ordering::SeqCst);
        let blob = Blob { bytes: bytes.len() as u64, digest };
        writer.send(&Answer::Blob { bytes: blob.bytes, digest }).await.unwrap();
        let mut sender = BlobSender::new(blob);
        let _ = sender.send(&mut writer, &mut reader, &mut Cursor::new(&bytes)).await;
        served.bytes.fetch_add(sender.sent_bytes(), Ordering::SeqCst);
        let _ = writer.finish_and_wait().await;
    }
}

struct Hospital {
    dir: tempfile::TempDir,
    link: Connection,
    served: Arc<Served>,
}

impl Hospital {
    /// Linked to a coordinator that has these bytes.
    async fn new(bytes: &[u8]) -> Hospital {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &[1; 32]).unwrap();
        let address = listener.local_addr().unwrap();
        let served = Arc::<Served>::default();
        tokio::spawn(serve(listener, bytes.to_vec(), served.clone()));
        let link = Dialer::new(&[2; 32]).unwrap().dial(address, public_key(&[1; 32]).unwrap()).await.unwrap();
        Hospital { dir: tempfile::tempdir().unwrap(), link, served }
    }

    async fn fetch(&self, blob: Blob) -> Result<Result<State, StateError>, LinkError> {
        StateFolder::new(self.dir.path()).fetch(&self.link, CONTRACT, blob).await
    }

    /// Requests and bytes since the last call.
    fn asked(&self) -> (u64, u64) {
        (self.served.requests.swap(0, Ordering::SeqCst), self.served.bytes.swap(0, Ordering::SeqCst))
    }

    fn path(&self, blob: &Blob) -> std::path::PathBuf {
        self.dir.path().join(format!("state-{}", hex::encode(blob.digest)))
    }
}

fn model() -> (State, Vec<u8>, Blob) {
    let values = (0..OUTSIDE_VALUES_MIN + 77).map(|i| i as f32).collect();
    let state = State::default().with("round", vec![1.0]).with32("model", values);
    let bytes = state.to_bytes().unwrap();
    let blob = Blob::of(&bytes);
    (state, bytes, blob)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_here_is_not_asked_for_and_a_part_of_one_is_completed() {
    let (state, bytes, blob) = model();
    let hospital = Hospital::new(&bytes).await;
    fs::write(hospital.dir.path().join("seed"), "not a state").unwrap();
    fs::write(hospital.dir.path().join("state-of-an-earlier-round"), "old").unwrap();
    assert_eq!(hospital.fetch(blob).await.unwrap().unwrap(), state);
    assert_eq!(hospital.asked(), (1, blob.bytes));
    assert!(!hospital.dir.path().join("state-of-an-earlier-round").exists());
    assert!(hospital.dir.path().join("seed").exists());
    // Here already, as after a repeated slot or a restart.
    assert_eq!(hospital.fetch(blob).await.unwrap().unwrap(), state);
    assert_eq!(hospital.asked(), (0, 0));
    // A part of it, cut anywhere: whole chunks of it stay.
    let chunk = CHUNK_BYTES_MAX;
    for cut in [0, 1, chunk - 1, chunk, chunk + 1, 5 * chunk + 1_000, bytes.len() - 1] {
        fs::write(hospital.path(&blob), &bytes[..cut]).unwrap();
        assert_eq!(hospital.fetch(blob).await.unwrap().unwrap(), state);
        assert_eq!(hospital.asked(), (1, (bytes.len() - cut / chunk * chunk) as u64), "cut at {cut}");
        assert_eq!(fs::read(hospital.path(&blob)).unwrap(), bytes);
    }
    // Longer than it should be.
    fs::write(hospital.path(&blob), [&bytes[..], b"more"].concat()).unwrap();
    assert_eq!(hospital.fetch(blob).await.unwrap().unwrap(), state);
    assert_eq!(hospital.asked(), (0, 0));
    // What is open is still read after the next round's model has taken its place.
    let kept = hospital.fetch(blob).await.unwrap().unwrap();
    let _ = hospital.fetch(Blob { bytes: 3, digest: [9; 32] }).await;
    assert!(!hospital.path(&blob).exists());
    assert_eq!(kept, state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_file_is_found_by_its_digest_and_fetched_again() {
    let (state, bytes, blob) = model();
    let hospital = Hospital::new(&bytes).await;
    let mut damaged = bytes.clone();
    damaged[2_000_000] ^= 1;
    for stored in [&damaged[..], &damaged[..3_000_000]] {
        fs::write(hospital.path(&blob), stored).unwrap();
        let error = hospital.fetch(blob).await.unwrap_err();
        assert_eq!(error.reject().and_then(Reject::kind), Some(RejectCode::DigestMismatch), "{error}");
        assert_eq!(hospital.fetch(blob).await.unwrap().unwrap(), state);
        // Of the first what was missing, then all of it.
        let missing = (bytes.len() - stored.len().div_euclid(CHUNK_BYTES_MAX) * CHUNK_BYTES_MAX) as u64;
        let expected = if stored.len() == bytes.len() { (1, blob.bytes) } else { (2, missing + blob.bytes) };
        assert_eq!(hospital.asked(), expected);
    }
    // Bytes with the right digest that are no state, and a size that none has.
    let noise = vec![7; 1000];
    let other = Hospital::new(&noise).await;
    assert!(other.fetch(Blob::of(&noise)).await.unwrap().is_err());
    let error = other.fetch(Blob { bytes: u64::MAX, digest: [1; 32] }).await.unwrap_err();
    assert_eq!(error.reject().and_then(Reject::kind), Some(RejectCode::TooMuchData), "{error}");
}
