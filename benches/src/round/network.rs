//! The secure side: the product, each party in a process and a folder of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use leben::io::enrol::enrol;
use leben::io::session::Watch;
use leben::io::sync::{sync, update};
use leben::io::{fetch, now_ms, submit, watch};
use leben::{Home, Ledger, Session};
use leben_contracts::agreement::state::FOUNDERS;
use leben_coordinator::io::config::Config;
use leben_coordinator::io::store::Invited;
use leben_coordinator::io::{setup, start};
use leben_protocol::invite::Invite;
use leben_worker::io::clock::Clock;
use leben_worker::io::{Options, join, spawn};

use super::plain::traffic;
use super::{BITS, Case, Measured, rows};
use crate::Failure;
use crate::child::{self, Child};
use crate::machine::{Meter, Reading};

/// How long the network may take to be ready, and how long a case may take.
const READY: Duration = Duration::from_secs(120);
const CASE: Duration = Duration::from_secs(900);

/// The coordinator's process.
pub(super) async fn coordinate(dir: &Path) -> Result<(), Failure> {
    let mut parent = child::lines();
    let mut running = start(dir, None).await?;
    child::say(&running.address.to_string())?;
    loop {
        tokio::select! {
            ended = running.wait() => return Ok(ended?),
            line = parent.recv() => if line.is_none() { break },
        }
    }
    running.stop().await;
    Ok(())
}

/// A hospital's process.
pub(super) async fn work(dir: &Path) -> Result<(), Failure> {
    let mut parent = child::lines();
    let agent = spawn(leben_worker::io::Config::load(dir)?, Options::default())?;
    while let Some(line) = parent.recv().await {
        if line == "traffic" {
            let (sent, received) = agent.traffic();
            child::say(&format!("{sent} {received}"))?;
        }
    }
    Ok(agent.stop().await?)
}

/// Runs one case.
pub(super) fn measure(case: Case) -> Result<Measured, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(async { tokio::time::timeout(CASE, play(case)).await.map_err(|_| "the case takes too long")? })
}

struct Parties {
    coordinator: Child,
    workers: Vec<Child>,
}

async fn play(case: Case) -> Result<Measured, Failure> {
    let folder = tempfile::Builder::new().prefix("leben-bench-").tempdir()?;
    let (parties, team) = build(folder.path(), case).await?;
    let session = Session::connect(&team).await?;
    let mut ledger = sync(&team, &session).await?;
    ready(&team, &session, &mut ledger, case.hospitals).await?;

    let submitted = Instant::now();
    let contract = submit::submit(&team, &session, &mut ledger, &job(case)).await?.contract;
    let rounds = tokio::spawn(observe(session.watch(contract.0).await?, parties));
    let watched = Session::connect(&team).await?;
    let end = watch::watch(&team, watched, &mut ledger, contract, |_| {}).await?;
    if !end.is_success() {
        return Err(format!("the job ended as {}: {}", end.phase, end.why).into());
    }
    let fetched = fetch::fetch(&team, &session, &mut ledger, contract, &folder.path().join("result")).await?;
    let submit_to_result_s = submitted.elapsed().as_secs_f64();

    let (rounds, mut parties) = rounds.await??;
    let begun = rounds.begun.ok_or("the first round was not seen")?;
    let work = rounds.work.ok_or("the last round was not seen")?;
    let after = traffic(&mut parties.workers)?;
    let peaks = parties.workers.iter().map(Child::peak_mib).collect::<Result<Vec<_>, _>>()?;
    let coordinator_peak_mib = parties.coordinator.peak_mib()?;
    session.close().await;
    parties.workers.into_iter().try_for_each(Child::stop)?;
    parties.coordinator.stop()?;
    let outcome = fetched.opened.bundle.stages.into_iter().next().ok_or("the result has no stage")?.outcome;
    Ok(Measured {
        rounds_s: durations(&rounds.starts),
        up_bytes: after.0 - begun.traffic.0,
        down_bytes: after.1 - begun.traffic.1,
        coordinator_peak_mib,
        worker_peak_mib: peaks.into_iter().fold(0.0, f64::max),
        submit_to_result_s,
        work,
        figures: outcome.figures.into_iter().collect(),
    })
}

/// When each round began, as the coordinator tells whoever watches the job.
#[derive(Default)]
struct Rounds {
    starts: Vec<(u32, Instant)>,
    begun: Option<Begun>,
    work: Option<Reading>,
}

/// What had been used when the first round began.
struct Begun {
    meter: Meter,
    traffic: (u64, u64),
}

/// Watches from the proposal to the delivery. The AI team's own watch asks the ledger twice a second until the job runs, which
/// is too late for rounds of milliseconds.
async fn observe(mut progress: Watch, mut parties: Parties) -> Result<(Rounds, Parties), Failure> {
    let mut rounds = Rounds::default();
    while let Some(progress) = progress.next().await? {
        // Before that, the job waits for signatures, for the hospitals' keys and for the ledger.
        if progress.phase != "Running" || progress.stage.is_none() {
            continue;
        }
        if rounds.starts.last().is_none_or(|(round, _)| *round < progress.round) {
            rounds.starts.push((progress.round, Instant::now()));
        }
        if rounds.begun.is_none() {
            rounds.begun = Some(begin(&mut parties)?);
        }
    }
    rounds.work = rounds.begun.as_ref().map(|begun| begun.meter.read()).transpose()?;
    Ok((rounds, parties))
}

fn begin(parties: &mut Parties) -> Result<Begun, Failure> {
    let processes = std::iter::once(&parties.coordinator).chain(&parties.workers);
    Ok(Begun { meter: Meter::start(processes.map(Child::pid).collect())?, traffic: traffic(&mut parties.workers)? })
}

/// Seconds a round, from start to start. A watch that missed one start gives the mean of the two rounds.
fn durations(starts: &[(u32, Instant)]) -> Vec<f64> {
    let pairs = starts.windows(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?)));
    let each = pairs.flat_map(|((round, began), (next, ended))| {
        let rounds = next.saturating_sub(*round).max(1);
        std::iter::repeat_n((*ended - *began).as_secs_f64() / f64::from(rounds), rounds as usize)
    });
    each.collect()
}

/// Makes the folders and keys, starts everybody and enrols them.
async fn build(root: &Path, case: Case) -> Result<(Parties, Home), Failure> {
    let dir = root.join("coordinator");
    let config = Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..Config::new("ledger.leben.example/bench", "coordinator")
    };
    setup::init(&dir, &config, &toml::to_string(&config)?, "admin")?;
    let mut coordinator = Child::spawn(["bench-coordinator".into(), dir.clone().into_os_string()])?;
    let address = coordinator.line()?;
    let mut workers = Vec::new();
    for seat in 0..case.hospitals {
        let folder = hospital(root, seat)?;
        let invite = invite(&dir, &name(seat), "hospital", &address)?;
        join(&invite.to_text(), &folder, Clock::default()).await?;
        workers.push(Child::spawn(["bench-worker".into(), folder.into_os_string()])?);
    }
    let team = enrol(&root.join("team"), &invite(&dir, "team", "team", &address)?).await?.home;
    Ok((Parties { coordinator, workers }, team))
}

fn name(seat: u16) -> String {
    format!("hospital-{:02}", seat + 1)
}

fn invite(dir: &Path, party: &str, kind: &str, address: &str) -> Result<Invite, Failure> {
    let expires_ms = now_ms() + 3_600_000;
    let invited = Invited { party: party.into(), kind: kind.into(), credits: 0, expires_ms };
    Ok(setup::invite(dir, &invited, Some(address.to_owned()))?)
}

/// A hospital's folder with a table that says nothing, and the will to sign every contract that passes its checks.
fn hospital(root: &Path, seat: u16) -> Result<PathBuf, Failure> {
    let folder = root.join(name(seat));
    fs::create_dir_all(&folder)?;
    let visits: String = (1..=rows(seat)).map(|visit| format!("{visit}\n")).collect();
    fs::write(folder.join("visits.csv"), format!("visit\n{visits}"))?;
    fs::write(
        folder.join("worker.toml"),
        "[policy]\nauto_approve = true\n\n[[dataset]]\nname = \"visits\"\npath = \"visits.csv\"\n\
         permission = { duo = [\"GRU\"], ehds = [] }\ncolumns = [{ name = \"visit\", type = \"integer\" }]\n",
    )?;
    Ok(folder)
}

/// Waits until everybody's data, the first witnesses and the algorithm are final on the ledger.
async fn ready(team: &Home, session: &Session, ledger: &mut Ledger, hospitals: u16) -> Result<(), Failure> {
    let begun = Instant::now();
    loop {
        let state = ledger.state();
        let witnesses = state.policy().map_or(0, |policy| policy.validators.len());
        let probe = state.algorithms().values().any(|record| record.offer.name.as_str() == "probe");
        // More than the first four cosign once those have signed for it, and rounds wait for no other.
        let enough = witnesses >= usize::from(hospitals).min(FOUNDERS);
        if probe && enough && state.datasets().len() == usize::from(hospitals) {
            return Ok(());
        }
        if begun.elapsed() > READY {
            return Err("the network is not ready in time".into());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        update(team, session, ledger).await?;
    }
}

fn job(case: Case) -> String {
    let sets: Vec<String> = (0..case.hospitals).map(|seat| format!("\"{}/visits\"", name(seat))).collect();
    format!(
        r#"[purpose]
duo = ["GRU"]

[data]
sets = [{}]
columns = ["visit"]
cohort_min = 20

[[stage]]
name = "probe"
algorithm = "probe"
params = {{ length = {}, bits = {BITS}, rounds = {} }}
timeout = "10 minutes"

[privacy]
hospitals_min = {}
threshold = {}
on_drop = "repeat"

[delivery]
outputs = ["figures"]

[windows]
sign_within = "1 hours"
run_within = "2 hours"
accept_within = "1 hours"
"#,
        sets.join(", "),
        case.params,
        case.rounds,
        case.hospitals,
        2 * case.hospitals / 3 + 1
    )
}
