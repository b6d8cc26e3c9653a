//! A log of many entries on disk: made by the real sequencer and store, then audited, started from, and indexed anew.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Instant;

use leben::io::now_ms;
use leben_contracts::agreement::body::{Body, Founder, Genesis, PartyEnrol, PolicyChange, quorum};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::{OrgKind, PartyId, Role};
use leben_contracts::agreement::snapshot::Snapshots;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::sequencer::{BATCH_MAX, Sequencer};
use leben_contracts::ledger::store::LogStore;
use leben_contracts::verify::{self, verify_folder};
use leben_coordinator::io::fatal::Fatal;
use leben_coordinator::io::index::Index;
use leben_coordinator::io::ledger::Ledger;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::traffic::{COORDINATOR, Traffic, key, keys, sealing};
use super::{load, rounded};
use crate::Failure;
use crate::child::Child;
use crate::line::Line;

pub(super) const ORIGIN: &str = "ledger.leben.example/past";
pub(super) const VALIDATORS: [&str; 4] = ["hospital-1", "hospital-2", "hospital-3", "hospital-4"];
/// How many entries a coordinator has recorded when it is killed.
const KILLED_AFTER: [u64; 3] = [9_000, 13_000, 10_500];

/// Runs it.
pub(super) fn measure(dir: &Path, entries: u64, pause_ms: u64) -> Result<Line, Failure> {
    let made = Instant::now();
    let mut past = Past::begin(dir, entries, pause_ms)?;
    past.write(entries)?;
    let size = past.publish()?;
    drop(past);
    eprintln!("ledger: {size} entries made in {:.0} s", made.elapsed().as_secs_f64());
    let bytes = bytes_below(&dir.join("ledger"))?;
    let begun = Instant::now();
    let mut state = State::new(ORIGIN);
    let report =
        verify_folder(&dir.join("ledger"), verify::Options { replay: Some(&mut state), ..Default::default() })?;
    let audit_s = begun.elapsed().as_secs_f64();
    eprintln!("ledger: audited {} entries in {audit_s:.1} s", report.replayed);
    drop(state);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let starts = runtime.block_on(starts(dir, size))?;
    Ok(Line::from_iter([
        ("entries".to_owned(), Value::from(size)),
        ("audit_entries_per_s".to_owned(), rounded(size as f64 / audit_s)),
        ("snapshot_bytes".to_owned(), Value::from(starts.snapshot_bytes)),
        ("snapshot_part_bytes".to_owned(), Value::from(starts.part_bytes)),
        ("restart_s".to_owned(), rounded(starts.stopped_s)),
        ("restart_killed_s".to_owned(), starts.killed_s.into_iter().map(rounded).collect()),
        ("restart_killed_entries".to_owned(), starts.killed_entries.into()),
        ("restart_replay_s".to_owned(), rounded(starts.replay_s)),
        ("rebuild_s".to_owned(), rounded(starts.rebuild_s)),
        ("entry_bytes_on_disk".to_owned(), rounded(bytes as f64 / size as f64)),
    ]))
}

struct Starts {
    /// After a stop, which leaves a snapshot of everything.
    stopped_s: f64,
    snapshot_bytes: u64,
    part_bytes: u64,
    /// After each kill: what was committed behind the snapshot is replayed on top of it.
    killed_s: Vec<f64>,
    /// Entries of the log then.
    killed_entries: Vec<u64>,
    /// Without a snapshot, from the first entry.
    replay_s: f64,
    /// The index, from nothing.
    rebuild_s: f64,
}

async fn starts(dir: &Path, size: u64) -> Result<Starts, Failure> {
    let (snapshot_bytes, part_bytes) =
        (fs::metadata(dir.join("state/snapshot"))?.len(), bytes_below(&dir.join("state/snapshot.parts"))?);
    let (running, stopped_s) = Running::start(dir, size)?;
    let begun = Instant::now();
    let index = Index::open(dir.join("state/index"))?;
    index.follow(&running.ledger)?;
    let rebuild_s = begun.elapsed().as_secs_f64();
    if index.size()? != size {
        return Err("the index does not cover the log".into());
    }
    running.stop().await;
    let (mut killed_s, mut killed_entries) = (Vec::new(), Vec::new());
    for (run, after) in (1..).zip(KILLED_AFTER) {
        let said = killed(dir, run, after)?;
        let (running, took_s) = Running::start(dir, said)?;
        killed_s.push(took_s);
        killed_entries.push(running.ledger.final_size());
        running.stop().await;
    }
    fs::remove_file(dir.join("state/snapshot"))?;
    let (running, replay_s) = Running::start(dir, size)?;
    running.stop().await;
    Ok(Starts { stopped_s, snapshot_bytes, part_bytes, killed_s, killed_entries, replay_s, rebuild_s })
}

/// Lets a coordinator record so many more entries, and kills it in the middle of the work. The last final size that it said.
fn killed(dir: &Path, run: u64, after: u64) -> Result<u64, Failure> {
    let arguments: [OsString; 3] = ["bench-ledger-load".into(), dir.into(), run.to_string().into()];
    let mut child = Child::spawn(arguments)?;
    let (mut first, mut last) = (None, 0);
    while first.is_none_or(|first: u64| last < first + after) {
        last = child.line()?.parse()?;
        first.get_or_insert(last);
    }
    child.kill()?;
    eprintln!("ledger: killed at {last} final entries");
    Ok(last)
}

/// The coordinator's ledger, and the task that alone writes it.
struct Running {
    ledger: Ledger,
    writer: JoinHandle<Result<(), Fatal>>,
}

impl Running {
    /// Until it serves again, with at least so many final entries.
    fn start(dir: &Path, size: u64) -> Result<(Running, f64), Failure> {
        let begun = Instant::now();
        let (ledger, writer) = load::start(dir)?;
        let took_s = begun.elapsed().as_secs_f64();
        if ledger.final_size() < size {
            return Err(format!("{} entries after a restart, not {size}", ledger.final_size()).into());
        }
        eprintln!("ledger: started in {took_s:.2} s");
        Ok((Running { ledger, writer }, took_s))
    }

    /// When this returns, nobody holds the folder.
    async fn stop(self) {
        self.writer.abort();
        let _ = self.writer.await;
    }
}

fn bytes_below(dir: &Path) -> Result<u64, Failure> {
    let mut sum = 0;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let facts = entry.metadata()?;
        sum += if facts.is_dir() { bytes_below(&entry.path())? } else { facts.len() };
    }
    Ok(sum)
}

/// The log while it is being made.
struct Past {
    store: LogStore,
    sequencer: Sequencer<State>,
    traffic: Traffic,
    snapshots: Snapshots,
    now_ms: u64,
    /// The log's time between two waves.
    pause_ms: u64,
    note: Option<Note>,
}

impl Past {
    fn begin(dir: &Path, entries: u64, pause_ms: u64) -> Result<Past, Failure> {
        let signer = NoteSigner::new(ORIGIN, KeyType::Ed25519, key(COORDINATOR, "log"))?;
        let store = LogStore::open(&dir.join("ledger"), &dir.join("state"), signer.vkey())?;
        let sequencer = Sequencer::new(signer, store.builder()?, Follower::new(ORIGIN, State::new(ORIGIN)))?;
        let waves = entries.div_ceil(19 * 256) + 20;
        let traffic = Traffic::new(key(COORDINATOR, "party"), 256);
        let snapshots = Snapshots::new(store.state_dir());
        let now_ms = now_ms().saturating_sub(2 * waves * pause_ms);
        let mut past = Past { store, sequencer, traffic, snapshots, now_ms, pause_ms, note: None };
        past.found()?;
        let prelude = past.traffic.prelude(past.sequencer.state(), past.now_ms)?;
        past.append(&prelude)?;
        Ok(past)
    }

    /// Genesis, and four hospitals that validate.
    fn found(&mut self) -> Result<(), Failure> {
        let founder = |name: &str| {
            Ok::<_, Failure>(Founder { party: PartyId::new(name)?, keys: keys(name, false), sealing: sealing(name) })
        };
        let genesis = Genesis {
            origin: ORIGIN.to_owned(),
            coordinator: founder(COORDINATOR)?,
            admins: vec![founder("admin")?],
            log_key: PublicKey::of(&key(COORDINATOR, "log")),
            embeds: None,
        };
        self.act(COORDINATOR, Role::Coordinator, &genesis.into(), &[COORDINATOR])?;
        for name in VALIDATORS {
            let enrol = PartyEnrol {
                party: PartyId::new(name)?,
                kind: OrgKind::Hospital,
                roles: vec![Role::DataOwner],
                keys: keys(name, true),
                sealing: sealing(name),
                invite_hash: Hash32::plain(name.as_bytes()),
            };
            self.act(name, Role::DataOwner, &enrol.into(), &[name, COORDINATOR])?;
        }
        let validators = VALIDATORS.into_iter().map(PartyId::new).collect::<Result<_, _>>()?;
        let policy = PolicyChange { validators, quorum: u32::try_from(quorum(VALIDATORS.len()))? };
        self.act(COORDINATOR, Role::Coordinator, &policy.into(), &[COORDINATOR])
    }

    fn act(&mut self, actor: &str, role: Role, body: &Body, signers: &[&str]) -> Result<(), Failure> {
        let actor = PartyId::new(actor)?;
        let header = Header { actor: &actor, role, now_ms: self.now_ms, valid_ms: 3_600_000, nonce: [0; 16] };
        let action = self.sequencer.state().draft(body, None, &header)?;
        let signers: Vec<_> = signers.iter().map(|name| key(name, "party")).collect();
        let envelope = Envelope::sign(&action, &signers.iter().collect::<Vec<_>>())?;
        self.append(&[envelope.to_bytes()])
    }

    /// Waves of contracts until there are as many entries as asked for, and snapshots as a coordinator writes them; the last as at a stop.
    fn write(&mut self, entries: u64) -> Result<(), Failure> {
        let mut said = Instant::now();
        while self.sequencer.size() < entries {
            let wave = self.traffic.wave(self.sequencer.state(), self.now_ms)?;
            // The last one is cut: its contracts end where they stand.
            let left = usize::try_from(entries.saturating_sub(self.sequencer.size())).unwrap_or(usize::MAX);
            for batch in wave.get(..left.min(wave.len())).unwrap_or_default().chunks(BATCH_MAX) {
                self.append(batch)?;
                self.now_ms += self.pause_ms / 100;
                if self.snapshots.is_due(self.sequencer.size()) {
                    self.save_snapshot()?;
                }
            }
            self.now_ms += self.pause_ms;
            if said.elapsed().as_secs() >= 20 {
                said = Instant::now();
                eprintln!("ledger: {} of {entries} entries made", self.sequencer.size());
            }
        }
        self.save_snapshot()
    }

    fn append(&mut self, envelopes: &[Vec<u8>]) -> Result<(), Failure> {
        let staged = self.sequencer.stage(self.now_ms, envelopes)?;
        for result in staged.results {
            result?;
        }
        if let Some(batch) = staged.batch {
            self.store.commit(&batch)?;
            self.note = Some(batch.note);
        }
        for turn in staged.turns {
            let certificate = cosigned(self.sequencer.sign(turn.size, turn.root)?)?;
            self.store.publish_certificate(&certificate)?;
        }
        Ok(())
    }

    fn save_snapshot(&mut self) -> Result<(), Failure> {
        let size = self.sequencer.size();
        let root = self.store.reader().root_at(size, size)?;
        let cut = self.snapshots.cut(self.sequencer.state(), &root)?;
        Ok(self.snapshots.save(&cut)?)
    }

    /// Cosigned by all four, as of now.
    fn publish(&mut self) -> Result<u64, Failure> {
        let note = cosigned(self.note.take().ok_or("nothing was written")?)?;
        self.store.publish(&note)?;
        self.store.publish_policy(&self.sequencer.state().witness_policy().ok_or("no policy")?)?;
        Ok(self.store.size())
    }
}

fn cosigned(mut note: Note) -> Result<Note, Failure> {
    for name in VALIDATORS {
        let signer = NoteSigner::new(name, KeyType::Cosignature, key(name, "validator"))?;
        note.push(signer.sign(note.text(), now_ms() / 1000))?;
    }
    Ok(note)
}
