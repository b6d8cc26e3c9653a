//! Values planted in the rows, and every private key, are searched for in all that leaves a hospital: each byte before it is
//! encrypted, each log line, each file of everybody. The network is one process here, so that all plaintext can be seen.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use leben::io::sync::{sync, update};
use leben::io::{enrol::enrol, fetch::fetch, now_ms, submit::submit, watch::watch};
use leben::ledger::Ledger;
use leben::watch::End;
use leben::{Home, Session};
use leben_coordinator::io as coordinator;
use leben_protocol::invite::Invite;
use leben_protocol::quic::{Flow, Tap};
use leben_worker::agent::Command;
use leben_worker::io as worker;
use leben_worker::io::clock::Clock;

use crate::deployment::{HOSPITALS, files_below};
use crate::needles::Needles;
use crate::rows::{JobFile, WORKER_TOML, csv};

const ORIGIN: &str = "ledger.example/sentinel";
/// In columns that the job computes on, two by two.
const USED: &str = "57.271828182845";
/// In a column that is declared and never asked for.
const UNUSED: &str = "271828.18284590455";
/// In the outcome of the job that fails: no logistic regression takes it.
const OUTCOME: &str = "31415.926535897";
/// In a column that is not even declared.
const NAME: &str = "Xanthippe Oyelaran-Quist";
/// An id.
const ID: &str = "MRN-86753099-QX";
/// In a file that cannot be read, in place of a number.
const BROKEN: &str = "quetzalcoatl-4711";

/// Every byte before encryption and after decryption, stitched together by who, with whom, which stream and which way.
#[derive(Default)]
struct Wire(Mutex<BTreeMap<(String, Flow), Vec<u8>>>);

struct Ear {
    who: String,
    wire: Arc<Wire>,
}

impl Tap for Ear {
    fn see(&self, flow: Flow, bytes: &[u8]) {
        let mut wire = self.wire.0.lock().unwrap();
        wire.entry((self.who.clone(), flow)).or_default().extend_from_slice(bytes);
    }
}

impl Wire {
    fn ear(self: &Arc<Wire>, who: &str) -> Arc<dyn Tap> {
        Arc::new(Ear { who: who.to_owned(), wire: self.clone() })
    }
}

struct World {
    dir: tempfile::TempDir,
    wire: Arc<Wire>,
    coordinator: Option<coordinator::Running>,
    hospitals: Vec<worker::Handle>,
    team: Home,
    /// Secrets of running jobs, as they were found on the hospitals' disks.
    job_seeds: BTreeSet<(PathBuf, String)>,
}

fn rows(seed: usize) -> String {
    let mut text = String::from("name,score,");
    for (at, line) in csv(seed, 120).lines().enumerate() {
        let planted = match at {
            0 => line.to_owned(),
            7 | 8 => format!("{NAME},{OUTCOME},{ID}-{at},{USED},{USED},{UNUSED},{}", at % 2),
            _ => format!("N. N.,{at},{line}"),
        };
        text.push_str(&planted);
        text.push('\n');
    }
    text
}

fn worker_toml() -> String {
    let score = "  { name = \"score\", type = \"number\" },\n  { name = \"benign\"";
    let good = WORKER_TOML.replacen("  { name = \"benign\"", score, 1);
    let broken = WORKER_TOML.replace("\"cohort\"", "\"broken\"").replace("rows.csv", "broken.csv");
    format!("{good}{broken}")
}

fn log_to(path: &Path) {
    let ours = ["", "_coordinator", "_worker", "_protocol", "_contracts", "_models", "_privacy"];
    let ours: Vec<String> = ours.iter().map(|name| format!("leben{name}=trace")).collect();
    let file = Mutex::new(fs::File::create(path).unwrap());
    let filter = tracing_subscriber::EnvFilter::new(format!("debug,{}", ours.join(",")));
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_writer(file).init();
}

async fn start() -> World {
    let dir = tempfile::tempdir().unwrap();
    log_to(&dir.path().join("log.txt"));
    let wire = Arc::new(Wire::default());
    let folder = dir.path().join("coordinator");
    let config = coordinator::config::Config {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        ..coordinator::config::Config::new(ORIGIN, "coordinator")
    };
    let settings = toml::to_string(&config).unwrap();
    coordinator::setup::init(&folder, &config, &settings, "admin").unwrap();
    let running = coordinator::start(&folder, Some(wire.ear("coordinator"))).await.unwrap();
    let address = running.address.to_string();
    let invite = |party: &str, kind: &str, credits: u64| -> Invite {
        let (party, kind, expires_ms) = (party.to_owned(), kind.to_owned(), now_ms() + 3_600_000);
        let invited = coordinator::store::Invited { party, kind, credits, expires_ms };
        coordinator::setup::invite(&folder, &invited, Some(address.clone())).unwrap()
    };
    let mut hospitals = Vec::new();
    for (seed, name) in HOSPITALS.into_iter().enumerate() {
        let own = dir.path().join(name);
        fs::create_dir_all(&own).unwrap();
        fs::write(own.join("rows.csv"), rows(seed)).unwrap();
        fs::write(own.join("broken.csv"), format!("patient,age,dose,cost,benign\n{ID},{BROKEN},1,{UNUSED},1\n"))
            .unwrap();
        fs::write(own.join("worker.toml"), worker_toml()).unwrap();
        worker::join(&invite(name, "hospital", 0).to_text(), &own, Clock::default()).await.unwrap();
        let options = worker::Options { tap: Some(wire.ear(name)), clock: Clock::default() };
        hospitals.push(worker::spawn(worker::Config::load(&own).unwrap(), options).unwrap());
    }
    let team = enrol(&dir.path().join("team"), &invite("team", "team", 5_000)).await.unwrap().home;
    World { dir, wire, coordinator: Some(running), hospitals, team, job_seeds: BTreeSet::new() }
}

impl World {
    /// Submits a job, has everybody sign it, and follows it to its end.
    async fn play(
        &mut self,
        ledger: &mut Ledger,
        job: &JobFile<'_>,
    ) -> (leben_contracts::agreement::hash::ContractId, End) {
        let session = Session::connect(&self.team).await.unwrap();
        let submitted = submit(&self.team, &session, ledger, &job.text()).await.unwrap();
        let (contract, terms_hash) = (submitted.contract, submitted.terms.hash().unwrap());
        for hospital in &self.hospitals {
            hospital.command(Command::Approve { contract, terms_hash }).await;
        }
        let (root, over) = (self.dir.path().to_owned(), Arc::new(AtomicBool::new(false)));
        let is_over = over.clone();
        // A job's secrets are gone when it ends: looked for all the time, not only when there is news.
        let looking = std::thread::spawn(move || {
            let mut seeds = BTreeSet::new();
            while !is_over.load(Ordering::Acquire) {
                seeds.extend(job_seeds(&root));
                std::thread::sleep(Duration::from_millis(5));
            }
            seeds
        });
        let end = watch(&self.team, session, ledger, contract, |_| {}).await.unwrap();
        over.store(true, Ordering::Release);
        self.job_seeds.extend(looking.join().unwrap());
        (contract, end)
    }

    /// Everything that must never be seen, and the file in which each private key may stand.
    fn needles(&self) -> (Needles, Needles, BTreeMap<PathBuf, Vec<u8>>) {
        let (mut values, mut keys, mut files) = (Needles::default(), Needles::default(), BTreeMap::new());
        [USED, UNUSED, OUTCOME].iter().for_each(|number| values.add_number(number));
        [NAME, ID, BROKEN].iter().for_each(|text| values.add_text(text));
        for path in
            files_below(self.dir.path()).into_iter().filter(|path| path.extension().is_some_and(|end| end == "key"))
        {
            let seed = hex::decode(fs::read_to_string(&path).unwrap().trim()).unwrap();
            let name = path.strip_prefix(self.dir.path()).unwrap().display().to_string();
            keys.add_key(&name, &seed);
            files.insert(path, seed);
        }
        for (path, seed) in &self.job_seeds {
            keys.add_key(&path.display().to_string(), &hex::decode(seed).unwrap());
        }
        (values, keys, files)
    }
}

/// The secrets of running jobs that lie on the hospitals' disks now.
fn job_seeds(root: &Path) -> Vec<(PathBuf, String)> {
    let folders = HOSPITALS.iter().map(|name| root.join(name).join("jobs")).filter(|folder| folder.is_dir());
    let found = folders.flat_map(|folder| fs::read_dir(folder).into_iter().flatten().flatten());
    let jobs = found.map(|job| job.path().join("seed"));
    let read = jobs.filter_map(|path| Some((path.clone(), fs::read_to_string(path).ok()?.trim().to_owned())));
    // One that is being written at this moment is whole the next time.
    read.filter(|(_, seed)| seed.len() == 64).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_planted_value_and_no_private_key_is_ever_seen_outside_its_file() {
    let mut world = start().await;
    let session = Session::connect(&world.team).await.unwrap();
    let mut ledger = sync(&world.team, &session).await.unwrap();
    let offered = async {
        while ledger.state().datasets().len() < 4 || ledger.state().policy().is_none_or(|p| p.validators.len() < 4) {
            tokio::time::sleep(Duration::from_millis(50)).await;
            update(&world.team, &session, &mut ledger).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), offered).await.unwrap();
    let (contract, end) = world.play(&mut ledger, &JobFile::default()).await;
    assert!(end.is_success(), "{end:?}");
    let counted = &world.coordinator.as_ref().unwrap().metrics;
    assert!(counted.rounds.get() >= 4 && counted.slots_abandoned.get() == 0, "rounds are counted for Prometheus");
    fetch(&world.team, &session, &mut ledger, contract, &world.dir.path().join("result")).await.unwrap();
    let (_, failed) = world.play(&mut ledger, &JobFile { outcome: "score", ..JobFile::default() }).await;
    assert!(!failed.is_success(), "{failed:?}");
    let mut said = format!("{failed:?}");
    for name in HOSPITALS {
        for line in worker::check::check(&world.dir.path().join(name), Clock::default()).await {
            said.push_str(&format!("{}: {}\n", line.what, line.words));
        }
    }
    assert!(said.contains("not of the declared type"), "the broken file was noticed: {said}");
    fs::write(world.dir.path().join("said.txt"), said).unwrap();
    session.close().await;
    // Files are searched when nobody replaces them any more.
    for hospital in std::mem::take(&mut world.hospitals) {
        hospital.stop().await.unwrap();
    }
    world.coordinator.take().unwrap().stop().await;
    search(&world);
}

fn search(world: &World) {
    let (values, keys, key_files) = world.needles();
    assert!(key_files.len() >= 7 + 4 * 5 + 3, "every key file was found: {}", key_files.len());
    assert!(world.job_seeds.len() >= 4, "the secrets of the job were seen: {}", world.job_seeds.len());
    let mut leaks = Vec::new();
    let wire = world.wire.0.lock().unwrap();
    let mut bytes = 0;
    for ((who, flow), seen) in wire.iter() {
        bytes += seen.len();
        let found = values.find(seen).into_iter().chain(keys.find(seen));
        leaks.extend(found.map(|needle| format!("{needle}: {who}, {flow:?}")));
    }
    assert!(bytes > 500_000, "the taps heard only {bytes} bytes");
    // What may be seen is seen: the taps and the log are not deaf.
    let mut public = Needles::default();
    public.add_text(ORIGIN);
    for who in HOSPITALS.iter().chain(&["coordinator"]) {
        let heard = wire.iter().any(|((by, _), seen)| by == who && !public.find(seen).is_empty());
        assert!(heard, "the tap of {who} is deaf");
    }
    let log = fs::read_to_string(world.dir.path().join("log.txt")).unwrap();
    for line in ["INFO leben_coordinator", "INFO leben_worker", "ERROR leben_worker", "DEBUG leben_"] {
        assert!(log.contains(line), "no '{line}' in the log");
    }
    let mut controls = 0;
    for path in files_below(world.dir.path()) {
        let seen = fs::read(&path).unwrap();
        let name = path.strip_prefix(world.dir.path()).unwrap().display();
        if path.extension().is_some_and(|end| end == "csv")
            && HOSPITALS.iter().any(|h| path.starts_with(world.dir.path().join(h)))
        {
            // The positive control: where the values are, they are found.
            let expected: &[&str] =
                if path.ends_with("rows.csv") { &[USED, UNUSED, OUTCOME, NAME, ID] } else { &[BROKEN, ID, UNUSED] };
            let found = values.find(&seen);
            assert!(expected.iter().all(|value| found.contains(&format!("'{value}'").as_str())), "{name}: {found:?}");
            controls += 1;
            continue;
        }
        leaks.extend(values.find(&seen).into_iter().map(|needle| format!("{needle}: {name}")));
        let own = key_files.get(&path).map(|_| name.to_string());
        let foreign = |needle: &&str| own.as_ref().is_none_or(|own| !needle.starts_with(own.as_str()));
        let seeds = keys.find(&seen).into_iter().filter(foreign);
        leaks.extend(seeds.map(|needle| format!("{needle}: {name}")));
    }
    assert_eq!(controls, 2 * HOSPITALS.len(), "rows and broken files");
    for (path, seed) in &key_files {
        assert!(!keys.find(seed).is_empty() && !keys.find(&fs::read(path).unwrap()).is_empty(), "{}", path.display());
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}
