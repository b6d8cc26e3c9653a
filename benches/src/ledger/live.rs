//! A coordinator and four hospitals that witness, over QUIC on loopback, each hospital in a process and a folder of its own.
//!
//! The coordinator's ledger and its listening side are the product's, unchanged; the part that runs jobs is left out, since the
//! contracts recorded here are nobody's to run. The hospitals are whole agents; no contract concerns them, so they only witness.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use leben::io::now_ms;
use leben_contracts::agreement::body::{Body, PolicyChange, quorum};
use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::store::{LogReader, LogStore};
use leben_contracts::verify::verify_proof;
use leben_coordinator::io::author::Author;
use leben_coordinator::io::config::Config;
use leben_coordinator::io::ledger::Ledger;
use leben_coordinator::io::metrics::Metrics;
use leben_coordinator::io::server::{self, Service};
use leben_coordinator::io::setup;
use leben_coordinator::io::spool::Spool;
use leben_coordinator::io::store::{Invited, Store};
use leben_coordinator::io::traffic::Traffic as Bytes;
use leben_coordinator::io::views::Views;
use leben_protocol::quic::Listener;
use leben_worker::io::clock::Clock;
use leben_worker::io::join;
use serde_json::Value;
use tokio::sync::{mpsc, watch};

use super::traffic::{COORDINATOR, ENTRIES, STEPS, Traffic};
use super::{percentile, rounded};
use crate::Failure;
use crate::child::Child;
use crate::line::Line;
use crate::machine::Meter;

const ORIGIN: &str = "ledger.leben.example/bench";
const WITNESSES: usize = 4;
const READY: Duration = Duration::from_secs(300);

struct Sizes {
    /// Contracts in a group: a wave is 19 times as many entries.
    group: usize,
    /// Waves measured, after those in which the groups fill up.
    waves: usize,
    /// Single steps measured.
    steps: usize,
}

/// Runs it.
pub(super) fn measure(dir: &Path, quick: bool) -> Result<Line, Failure> {
    let sizes = match quick {
        true => Sizes { group: 32, waves: 4, steps: 40 },
        false => Sizes { group: 256, waves: 8, steps: 400 },
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(play(dir, &sizes))
}

struct Coordinator {
    dir: PathBuf,
    ledger: Ledger,
    reader: LogReader,
    address: SocketAddr,
}

/// The product's start without its jobs, its index and its HTTP.
async fn start(dir: &Path) -> Result<Coordinator, Failure> {
    let config = Config { listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..Config::new(ORIGIN, COORDINATOR) };
    setup::init(dir, &config, &toml::to_string(&config)?, "admin")?;
    let store = Store::open(dir)?;
    let key = |name: &str| keyfile::load(&dir.join("keys").join(name));
    let (log_key, party_key, link_key) = (key("log.key")?, key("party.key")?, key("link.key")?);
    let log = VerifierKey::new(ORIGIN, KeyType::Ed25519, PublicKey::of(&log_key))?;
    let log_store = LogStore::open(&dir.join("ledger"), &dir.join("state"), &log)?;
    let reader = log_store.reader();
    let metrics = Arc::new(Metrics::new()?);
    let author = Author::new(PartyId::new(COORDINATOR)?, party_key);
    let life = log_key.to_bytes();
    let (ledger, _writer) = Ledger::start(
        log_store,
        log_key,
        ORIGIN,
        author.clone(),
        metrics.clone(),
        config.batch_entries_max,
        Vec::new(),
    )?;
    let listener = Arc::new(Listener::bind_with_tap(config.listen, &link_key.to_bytes(), &life, None)?);
    let address = listener.local_addr()?;
    let (events, mut unheard) = mpsc::channel(64);
    tokio::spawn(async move { while unheard.recv().await.is_some() {} });
    let views = Views::new(log, store.path("state/evidence"), metrics.clone());
    let service = Service {
        views,
        ledger: ledger.clone(),
        spool: Arc::new(Spool::open(&store.path("spool"))?),
        store,
        traffic: Arc::new(Bytes::default()),
        metrics,
        events,
        author,
    };
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        server::serve(listener, Arc::new(service), stopped).await;
        drop(stop);
    });
    Ok(Coordinator { dir: dir.to_owned(), ledger, reader, address })
}

async fn play(root: &Path, sizes: &Sizes) -> Result<Line, Failure> {
    let here = start(&root.join("coordinator")).await?;
    let mut traffic = Traffic::new(keyfile::load(&here.dir.join("keys/party.key"))?, sizes.group);
    for envelope in here.ledger.with_final(|state, _| traffic.prelude(state, now_ms()))? {
        here.ledger.append(envelope, true).await?;
    }
    eprintln!("ledger: sequencing");
    let sequenced = waves(&here.ledger, &mut traffic, sizes, &[]).await?;
    eprintln!("ledger: {WITNESSES} witnesses join and read {} entries", here.ledger.final_size());
    let joined = Instant::now();
    let workers = witnesses(root, &here).await?;
    let first_copy_s = joined.elapsed().as_secs_f64();
    eprintln!("ledger: one step at a time");
    let mut steps = steps(&here.ledger, &mut Traffic::again(&traffic, 1), sizes).await?;
    eprintln!("ledger: final");
    let pids: Vec<u32> = workers.iter().map(Child::pid).collect();
    let finals = waves(&here.ledger, &mut traffic, sizes, &pids).await?;
    let (build_us, verify_us) = proofs(&here)?;
    workers.into_iter().try_for_each(Child::stop)?;
    Ok(Line::from_iter([
        ("n".to_owned(), Value::from(WITNESSES)),
        ("k".to_owned(), Value::from(quorum(WITNESSES))),
        ("batch".to_owned(), Value::from(256)),
        ("sequenced_per_s".to_owned(), rounded(sequenced.per_s)),
        ("final_per_s".to_owned(), rounded(finals.per_s)),
        ("sequenced_cpu_us".to_owned(), rounded(sequenced.cpu_us)),
        ("final_cpu_us".to_owned(), rounded(finals.cpu_us)),
        ("final_others_cores".to_owned(), rounded(finals.others_cores)),
        ("step_final_p50_ms".to_owned(), rounded(percentile(&mut steps, 50))),
        ("step_final_p99_ms".to_owned(), rounded(percentile(&mut steps, 99))),
        ("proof_build_us".to_owned(), rounded(build_us)),
        ("proof_verify_us".to_owned(), rounded(verify_us)),
        ("first_copy_s".to_owned(), rounded(first_copy_s)),
        ("live_entries".to_owned(), Value::from(here.ledger.final_size())),
    ]))
}

/// What a number of waves came to.
struct Waves {
    /// Entries a second.
    per_s: f64,
    /// Processor time of every process for one entry, microseconds.
    cpu_us: f64,
    /// Cores that everything else on the machine used meanwhile, on average.
    others_cores: f64,
}

/// Whole waves at a time: from a wave's first append to its last answer. Drafting and signing is the parties' work and is done between
/// the waves. With `witnesses`, processes, an answer is that the entry is final; without, that it is sequenced.
async fn waves(ledger: &Ledger, traffic: &mut Traffic, sizes: &Sizes, witnesses: &[u32]) -> Result<Waves, Failure> {
    let wait_final = !witnesses.is_empty();
    let pids: Vec<u32> = witnesses.iter().copied().chain([std::process::id()]).collect();
    let (mut entries, mut spent, mut cpu_s, mut others_s) = (0, Duration::ZERO, 0.0, 0.0);
    for wave in 0..STEPS + sizes.waves {
        let envelopes = ledger.with_final(|state, _| traffic.wave(state, now_ms()))?;
        let count = envelopes.len();
        let (begun, meter) = (Instant::now(), Meter::start(pids.clone())?);
        let asked = envelopes.into_iter().map(|envelope| {
            let ledger = ledger.clone();
            tokio::spawn(async move { ledger.append(envelope, wait_final).await })
        });
        let mut last = 0;
        for answer in asked.collect::<Vec<_>>() {
            last = last.max(answer.await??.index);
        }
        if wave >= STEPS {
            entries += count;
            spent += begun.elapsed();
            let work = meter.read()?;
            cpu_s += work.cpu_s;
            others_s += work.others_cores * work.wall_s;
        }
        let mut finals = ledger.watch_final();
        finals.wait_for(|size| *size > last).await?;
    }
    let (entries, spent_s) = (entries as f64, spent.as_secs_f64());
    Ok(Waves { per_s: entries / spent_s, cpu_us: cpu_s * 1e6 / entries, others_cores: others_s / spent_s })
}

/// One contract's steps one after the other on an idle network, milliseconds each: from the append to the proof.
async fn steps(ledger: &Ledger, traffic: &mut Traffic, sizes: &Sizes) -> Result<Vec<f64>, Failure> {
    let mut spent = Vec::new();
    // Thirteen contracts are under way; a wave is their 19 entries, each of which waits for the one before.
    for wave in 0..STEPS + sizes.steps.div_ceil(ENTRIES) {
        for envelope in ledger.with_final(|state, _| traffic.wave(state, now_ms()))? {
            let begun = Instant::now();
            let appended = ledger.append(envelope, true).await?;
            if appended.proof.is_empty() {
                return Err("an entry became final without a proof".into());
            }
            if wave >= STEPS {
                spent.push(begun.elapsed().as_secs_f64() * 1e3);
            }
        }
    }
    Ok(spent)
}

/// Makes the witnesses' folders and keys, enrols them, starts them and puts their policy in force.
async fn witnesses(root: &Path, here: &Coordinator) -> Result<Vec<Child>, Failure> {
    let mut names = Vec::new();
    let mut workers = Vec::new();
    for seat in 1..=WITNESSES {
        let name = format!("hospital-{seat}");
        let folder = root.join(&name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("worker.toml"), "[policy]\nauto_approve = true\n")?;
        let expires_ms = now_ms() + 3_600_000;
        let invited = Invited { party: name.clone(), kind: "hospital".into(), credits: 0, expires_ms };
        let invite = setup::invite(&here.dir, &invited, Some(here.address.to_string()))?;
        join(&invite.to_text(), &folder, Clock::default()).await?;
        workers.push(Child::spawn(["bench-worker".into(), folder.into_os_string()])?);
        names.push(PartyId::new(&name)?);
    }
    let policy = PolicyChange { quorum: u32::try_from(quorum(names.len()))?, validators: names };
    let final_policy = here.ledger.append_own(None, Body::PolicyChange(policy));
    tokio::time::timeout(READY, final_policy).await.map_err(|_| "the witnesses are not ready in time")??;
    Ok(workers)
}

/// Building and verifying one proof offline, microseconds each.
fn proofs(here: &Coordinator) -> Result<(f64, f64), Failure> {
    let note = here.reader.checkpoint()?;
    let size = here.ledger.final_size();
    let policy = Policy::parse(&std::fs::read(here.dir.join("ledger/policy"))?)?;
    let mut proofs = Vec::new();
    let begun = Instant::now();
    for at in 0..200 {
        let index = size * at / 200;
        proofs.push((index, here.reader.proof(index, &note)?.to_string().into_bytes()));
    }
    let build_us = begun.elapsed().as_secs_f64() * 1e6 / proofs.len() as f64;
    let leaves = proofs.iter().map(|(index, _)| here.reader.entry(*index, size)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    for ((_, proof), leaf) in proofs.iter().zip(&leaves) {
        verify_proof(proof, &policy, leaf)?;
    }
    Ok((build_us, begun.elapsed().as_secs_f64() * 1e6 / proofs.len() as f64))
}
