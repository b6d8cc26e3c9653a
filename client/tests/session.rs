//! A team's whole day over real QUIC: join, submit, watch, fetch. The other side answers as a coordinator does, from a ledger
//! that is really signed; the real one is met in `simulation/` and by the tutorial's test.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use leben::draft::template;
use leben::home::Home;
use leben::io::fetch::fetch;
use leben::io::session::Session;
use leben::io::submit::submit;
use leben::io::sync::sync;
use leben::io::watch::watch;
use leben::verify::{Wish, verify};
use leben::watch::Event;
use leben_contracts::agreement::body::Heartbeat;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::agreement::table::Phase;
use leben_contracts::ledger::entry::Envelope;
use leben_protocol::frame::{Answer, Hello, HospitalProgress, HospitalState, Network, Progress, Request};
use leben_protocol::quic::{Blob, BlobSender, Connection, FrameReader, FrameWriter, LinkError, Listener};
use leben_protocol::reject::{Reject, RejectCode};
use support::{HOSPITALS, ORIGIN, Running, World, bundle, invite, log_signer, seed};

/// A coordinator whose hospitals agree to everything and whose jobs take no time.
struct Coordinator {
    world: Mutex<World>,
    dir: tempfile::TempDir,
    address: String,
    /// Links are cut after so many requests more.
    cut_after: Mutex<Option<u32>>,
}

impl Coordinator {
    async fn start() -> (Arc<Coordinator>, tokio::task::JoinHandle<()>) {
        let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &seed("coordinator", "tls")).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let world = World::at(leben::io::now_ms());
        let dir = tempfile::tempdir().unwrap();
        let made = Coordinator { world: Mutex::new(world), dir, address, cut_after: Mutex::new(None) };
        let coordinator = Arc::new(made);
        coordinator.publish();
        let here = coordinator.clone();
        let task = tokio::spawn(async move {
            while let Some(Ok(link)) = listener.accept().await {
                tokio::spawn(here.clone().serve(link));
            }
        });
        (coordinator, task)
    }

    fn public(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn publish(&self) {
        self.world.lock().unwrap().publish(&self.public(), &self.dir.path().join("state"), &HOSPITALS[1..]);
    }

    async fn serve(self: Arc<Self>, link: Connection) {
        while let Ok((writer, mut reader)) = link.accept_bi().await {
            let cut = {
                let mut left = self.cut_after.lock().unwrap();
                *left = left.map(|left| left.saturating_sub(1));
                left.take_if(|left| *left == 0).is_some()
            };
            if cut {
                link.refuse(&Reject::new(RejectCode::ShuttingDown, "restart"));
                return;
            }
            let Ok(Some(hello)) = reader.recv::<Hello>().await else { return };
            let (here, key) = (self.clone(), link.peer_key());
            tokio::spawn(async move { here.answer(hello, &key, writer, reader).await });
        }
    }

    async fn answer(
        &self,
        hello: Hello,
        key: &[u8; 32],
        mut writer: FrameWriter,
        mut reader: FrameReader,
    ) -> Result<(), LinkError> {
        let known = self.world.lock().unwrap().state.party_by_tls_key(key).is_some();
        let answer = match hello {
            _ if !known => Answer::Rejected(Reject::new(RejectCode::Stranger, "")),
            Hello::Request(Request::Network) => {
                let (origin, log_vkey) = (ORIGIN.to_owned(), log_signer().vkey().to_string());
                Answer::Network(Network { origin, log_vkey, size: 0, now_ms: leben::io::now_ms() })
            }
            Hello::Request(Request::LedgerFile { path }) => match std::fs::read(self.public().join(&path)) {
                Ok(bytes) => return send(bytes, writer, reader).await,
                Err(_) => Answer::Rejected(Reject::new(RejectCode::NotFound, path)),
            },
            Hello::Request(Request::Append { envelope, wait_final: true }) => self.append(&envelope),
            Hello::Request(Request::Result { contract }) => {
                let sealing = support::sealing("team").0;
                let bytes = bundle(&Hash32(contract));
                let sealed = leben_protocol::seal::seal(&sealing, &contract, &bytes, [3; 32]).unwrap();
                return send(sealed, writer, reader).await;
            }
            Hello::Watch { contract } => return self.run(Hash32(contract), writer).await,
            _ => Answer::Rejected(Reject::new(RejectCode::UnexpectedFrame, "")),
        };
        writer.send(&answer).await?;
        let ended = writer.finish_and_wait().await;
        reader.stop();
        ended
    }

    /// Takes an action; then everybody else does what is due.
    fn append(&self, envelope: &[u8]) -> Answer {
        let index = {
            let mut world = self.world.lock().unwrap();
            let envelope = Envelope::parse(envelope).unwrap();
            world.now_ms = world.now_ms.max(leben::io::now_ms());
            let index = world.state.next_index();
            let kind = envelope.action().kind.clone();
            let id: Option<ContractId> = envelope.action().contract.as_ref().map(|id| id.parse().unwrap());
            world.push(envelope);
            match (kind.as_str(), id) {
                ("Accept", Some(id)) => world.accept_all(&id),
                ("Fund" | "AcceptResult", Some(id)) => world.due(&id),
                _ => {}
            }
            index
        };
        self.publish();
        Answer::Appended { index, proof: vec![] }
    }

    async fn run(&self, id: ContractId, mut writer: FrameWriter) -> Result<(), LinkError> {
        let hospital = |state| HospitalProgress { party: "va".into(), state, chunks: (1, 2) };
        let mut progress = Progress {
            phase: "Running".into(),
            stages: 3,
            stage: Some((1, "standardise".into())),
            hospitals: vec![hospital(HospitalState::Working)],
            ..Progress::default()
        };
        for round in 1..=3 {
            (progress.sequence, progress.round) = (u64::from(round), round);
            writer.send(&progress).await?;
        }
        self.world.lock().unwrap().run(&id, &bundle(&id));
        self.publish();
        (progress.phase, progress.ended, progress.sequence) = ("Delivered".into(), true, 4);
        writer.send(&progress).await?;
        writer.finish_and_wait().await
    }
}

async fn send(bytes: Vec<u8>, mut writer: FrameWriter, mut reader: FrameReader) -> Result<(), LinkError> {
    let blob = Blob::of(&bytes);
    writer.send(&Answer::Blob { bytes: blob.bytes, digest: blob.digest }).await?;
    let _ = BlobSender::new(blob).send(&mut writer, &mut reader, &mut std::io::Cursor::new(bytes)).await;
    writer.finish_and_wait().await
}

fn home_of(coordinator: &Coordinator, dir: &tempfile::TempDir) -> Home {
    let mut invite = invite();
    invite.address = coordinator.address.clone();
    support::home_with(dir.path(), &invite)
}

#[tokio::test]
async fn a_team_submits_watches_and_fetches_and_the_receipt_verifies() {
    let (coordinator, task) = Coordinator::start().await;
    let dir = tempfile::tempdir().unwrap();
    let home = home_of(&coordinator, &dir);
    let session = Session::connect(&home).await.unwrap();
    assert_eq!(session.network().await.unwrap().origin, ORIGIN);
    let mut ledger = sync(&home, &session).await.unwrap();
    let submitted = submit(&home, &session, &mut ledger, template("heart").unwrap()).await.unwrap();
    assert_eq!(submitted.accepted_index, submitted.proposed_index + 1);
    let mut events = Vec::new();
    let end = watch(&home, session, &mut ledger, submitted.contract, |event| events.push(event.clone())).await.unwrap();
    assert_eq!((end.phase, end.exit_code()), (Phase::Delivered, 0), "{events:#?}");
    assert!(events.iter().any(|event| matches!(event, Event::Funded(_))), "{events:#?}");
    let rounds = events.iter().filter(|event| matches!(event, Event::Running(p) if p.phase == "Running"));
    assert_eq!(rounds.count(), 3);

    let session = Session::connect(&home).await.unwrap();
    let out = dir.path().join("out");
    let fetched = fetch(&home, &session, &mut ledger, submitted.contract, &out).await.unwrap();
    assert!(fetched.accepted_index.is_some());
    assert_eq!(ledger.state().contract(&submitted.contract).unwrap().phase, Phase::Settled);
    assert_eq!(verify(&out, &Wish::default()).unwrap().what, "evidence");
    assert_eq!(verify(&home.ledger_dir(), &Wish::default()).unwrap().size, ledger.size());
    // Once more: the result is there again, nothing is accepted twice.
    assert!(fetch(&home, &session, &mut ledger, submitted.contract, &out).await.unwrap().accepted_index.is_none());
    session.close().await;
    task.abort();
}

/// `leben ledger tail -f` prints what becomes final, and makes the link again when it breaks.
#[tokio::test]
async fn tail_follows_the_coordinator_through_a_cut_link() {
    let (coordinator, task) = Coordinator::start().await;
    let dir = tempfile::tempdir().unwrap();
    let home = home_of(&coordinator, &dir);
    let size = coordinator.world.lock().unwrap().leaves.len();
    let tail = std::process::Command::new(env!("CARGO_BIN_EXE_leben"))
        .arg("--home")
        .arg(dir.path())
        .args(["ledger", "tail", "-f", "-n", "1", "--json"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (said, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let mut tail = Running(tail);
    let printed = BufReader::new(tail.0.stdout.take().unwrap());
    std::thread::spawn(move || printed.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
    for index in size - 1..size + 2 {
        let line: serde_json::Value = serde_json::from_str(&lines.recv().await.unwrap()).unwrap();
        assert_eq!(line["index"], index, "{line}");
        // The next entry comes after the link was cut once.
        *coordinator.cut_after.lock().unwrap() = Some(1);
        coordinator.world.lock().unwrap().act("admin", None, Heartbeat {});
        coordinator.publish();
    }
    *coordinator.cut_after.lock().unwrap() = None;
    assert!(sync(&home, &Session::connect(&home).await.unwrap()).await.unwrap().size() > size as u64);
    task.abort();
}

#[tokio::test]
async fn watching_goes_on_after_the_link_was_cut() {
    let (coordinator, task) = Coordinator::start().await;
    let dir = tempfile::tempdir().unwrap();
    let home = home_of(&coordinator, &dir);
    let session = Session::connect(&home).await.unwrap();
    let mut ledger = sync(&home, &session).await.unwrap();
    let submitted = submit(&home, &session, &mut ledger, template("heart").unwrap()).await.unwrap();
    *coordinator.cut_after.lock().unwrap() = Some(2);
    let mut waits = 0;
    let heard = |event: &Event| waits += u32::from(matches!(event, Event::Waiting { .. }));
    let end = watch(&home, session, &mut ledger, submitted.contract, heard).await.unwrap();
    assert!(end.is_success());
    assert_eq!(waits, 1);
    task.abort();
}

#[tokio::test]
async fn a_stranger_and_a_coordinator_with_another_key_are_told_apart() {
    let (coordinator, task) = Coordinator::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut stranger = invite();
    stranger.address = coordinator.address.clone();
    let home = Home::create(&dir.path().join("a"), &stranger, &leben::io::seeds().unwrap()).unwrap();
    let session = Session::connect(&home).await.unwrap();
    let refused = session.ledger_file("checkpoint", 1000).await.unwrap_err();
    assert_eq!(refused.code(), Some(RejectCode::Stranger));
    stranger.coordinator_key = hex::encode([7; 32]);
    let home = Home::create(&dir.path().join("b"), &stranger, &leben::io::seeds().unwrap()).unwrap();
    let error = Session::connect(&home).await.err().unwrap();
    assert!(error.to_string().contains("another key"), "{error}");
    task.abort();
}

/// Runs the command `leben` in `dir`; gives its exit code and what it printed.
async fn leben(dir: &std::path::Path, args: &[&str]) -> (i32, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_leben"));
    command.current_dir(dir).args(args);
    let run = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = String::from_utf8(run.stdout).unwrap() + &String::from_utf8(run.stderr).unwrap();
    println!("$ leben {}\n{text}", args.join(" "));
    (run.status.code().unwrap(), text)
}

fn assert_has(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is not in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "colours only on a terminal");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_say_what_happens_and_what_comes_next() {
    let (coordinator, task) = Coordinator::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut invite = invite();
    invite.address = coordinator.address.clone();
    support::home_with(&dir.path().join("leben-home"), &invite);
    let here = dir.path();
    let (code, text) = leben(here, &["keygen", &invite.to_text()]).await;
    assert_eq!(code, 0);
    assert_has(&text, &["already enrolled as team", "Next: leben catalog"]);
    let (_, text) = leben(here, &["catalog"]).await;
    assert_has(
        &text,
        &["va/heart: about 200 rows, 9 columns", "HMB (health, medical", "mm[Hg]", "1, 2, 3, 4", "same code"],
    );
    let (_, text) = leben(here, &["catalog", "--json"]).await;
    let catalog: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(catalog["datasets"].as_array().unwrap().len(), 4);
    assert_eq!(catalog["algorithms"].as_array().unwrap().len(), leben_models::registry::all().len());
    let (_, job) = leben(here, &["draft", "--from", "heart"]).await;
    std::fs::write(here.join("heart.toml"), &job).unwrap();
    std::fs::write(here.join("bad.toml"), job.replace("va/heart", "va/hart")).unwrap();
    let (code, text) = leben(here, &["submit", "bad.toml"]).await;
    assert_eq!(code, 1);
    assert_has(&text, &["bad.toml: the job cannot be submitted", "line 12, data.sets: there is no data set 'va/hart'"]);
    let (_, text) = leben(here, &["submit", "heart.toml", "--dry-run"]).await;
    assert_has(&text, &["DATA USE CONTRACT", "10000 credits"]);
    let (code, text) = leben(here, &["submit", "heart.toml"]).await;
    assert_eq!(code, 0);
    assert_has(&text, &["DATA USE CONTRACT", "contract ", "What happens next", "leben watch "]);
    let (_, text) = leben(here, &["status"]).await;
    assert_has(&text, &["team in leben.test/heart", "credits  20000", "Signed", "(you)", "team to pay into escrow"]);
    let (code, text) = leben(here, &["fetch"]).await;
    assert_eq!(code, 1);
    assert_has(&text, &["there is no result yet"]);
    let (code, text) = leben(here, &["watch", "last"]).await;
    assert_eq!(code, 0);
    assert_has(
        &text,
        &["the price is in escrow", "stage 1/3 standardise, round 3", "Delivered: ", "Next: leben fetch"],
    );
    let (code, text) = leben(here, &["watch", "--json"]).await;
    assert_eq!(code, 0);
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!((&last["event"], &last["ok"]), (&"end".into(), &true.into()));
    let (code, text) = leben(here, &["fetch", "--out", "out"]).await;
    assert_eq!(code, 0);
    assert_has(
        &text,
        &["0.0578821", "a word to the wise", "coefficients.csv", "it is accepted", "Next: leben verify out"],
    );
    let (code, text) = leben(here, &["verify", "out", "--policy", "leben-home/ledger/policy"]).await;
    assert_eq!(code, 0);
    assert_has(
        &text,
        &["ok: evidence", "Deliver by coordinator", "the result that the ledger's Deliver entry commits to"],
    );
    let (_, text) = leben(here, &["status", "last"]).await;
    assert_has(&text, &["Settled", "stage 2    fit: done in 2 rounds", "settled    cleveland 3300"]);
    // An export asks for news first, unless it is told not to.
    let held = coordinator.world.lock().unwrap().leaves.len();
    coordinator.world.lock().unwrap().act("admin", None, Heartbeat {});
    coordinator.publish();
    for (args, size) in [(&["old", "--offline"][..], held), (&["new"], held + 1), (&["again", "--offline"], held + 1)] {
        let (_, text) = leben(here, &[&["ledger", "export"], args].concat()).await;
        assert_has(&text, &[&format!("{size} entries in {}", args[0])]);
    }
    std::fs::write(here.join("unsigned.json"), "").unwrap();
    let (_, text) =
        leben(here, &["action", "draft", "key-revoke", "--party", "va", "--code", "key_lost", "-o", "unsigned.json"])
            .await;
    assert_has(&text, &["signed by  nobody yet"]);
    let (code, text) = leben(here, &["action", "submit", "unsigned.json"]).await;
    assert_eq!(code, 1);
    assert_has(&text, &["nobody has signed unsigned.json yet"]);
    task.abort();
    let (code, text) = leben(here, &["ledger", "--offline", "tail", "-n", "4"]).await;
    assert_eq!(code, 0);
    assert_has(&text, &["Settle", "AcceptResult", "Deliver"]);
}
