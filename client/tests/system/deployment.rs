//! A network as an operator, four stewards and an AI team would set it up, each with the commands of the README.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{PATIENCE, Process, program, wait_until};
use crate::rows;

/// The hospitals of a test network.
pub const HOSPITALS: [&str; 4] = ["aker", "basel", "cluj", "delft"];

/// What a command printed and how it ended.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Its output, if it went well.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// Its last line as JSON, if it went well.
    #[track_caller]
    pub fn json(self) -> Value {
        let out = self.ok();
        serde_json::from_str(out.lines().last().unwrap()).unwrap_or_else(|error| panic!("{error}: {out}"))
    }

    /// Its complaint holds each of these; it has failed.
    #[track_caller]
    pub fn complains<T: AsRef<str>>(&self, words: &[T]) {
        assert_ne!(self.code, 0, "{self:?}");
        for word in words.iter().map(AsRef::as_ref) {
            assert!(self.err.contains(word) || self.out.contains(word), "no '{word}' in {self:#?}");
        }
    }
}

/// Everything of one network.
pub struct Deployment {
    dir: tempfile::TempDir,
    pub address: String,
    pub coordinator: Option<Process>,
    pub workers: BTreeMap<String, Process>,
    starts: usize,
}

impl Deployment {
    /// A coordinator that is made and does not serve yet.
    pub fn new() -> Deployment {
        let dir = tempfile::tempdir().unwrap();
        // An invite names the address before anybody listens: a port that was free a moment ago.
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let deployment = Deployment { dir, address, coordinator: None, workers: BTreeMap::new(), starts: 0 };
        deployment.coordinator(&["init", "--origin", "ledger.example/system"]).ok();
        let settings = deployment.path("coordinator/coordinator.toml");
        let text = fs::read_to_string(&settings).unwrap();
        let text = text.replace("127.0.0.1:7443", &deployment.address).replace("= 30000", "= 4000");
        fs::write(settings, text).unwrap();
        deployment
    }

    /// One that serves, with its hospitals linked, their data on the ledger, and a team with 5,000 credits.
    pub fn running(rows_each: usize) -> Deployment {
        let mut deployment = Deployment::new();
        deployment.serve();
        for (seed, hospital) in HOSPITALS.into_iter().enumerate() {
            deployment.join(hospital, &rows::csv(seed, rows_each), rows::WORKER_TOML);
            deployment.run(hospital);
        }
        deployment.keygen("team", 5_000);
        deployment.wait_for_offers(HOSPITALS.len());
        deployment
    }

    /// A file or folder of the network.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `leben-coordinator ..`
    pub fn coordinator(&self, args: &[&str]) -> Said {
        said(Command::new(program("leben-coordinator")).arg("--dir").arg(self.path("coordinator")).args(args))
    }

    /// `leben-worker ..` of a hospital.
    pub fn worker(&self, hospital: &str, args: &[&str]) -> Said {
        said(Command::new(program("leben-worker")).arg("--dir").arg(self.path(hospital)).args(args))
    }

    /// `leben ..` of the team.
    pub fn leben(&self, args: &[&str]) -> Said {
        let mut command = Command::new(program("leben"));
        said(command.current_dir(self.dir.path()).args(["--home", "team"]).args(args))
    }

    /// A one-time invite.
    pub fn invite(&self, party: &str, kind: &str, credits: u64) -> String {
        let invite = self.coordinator(&["invite", party, "--kind", kind, "--credits", &credits.to_string()]).ok();
        invite.trim().to_owned()
    }

    fn log(&mut self, name: &str) -> PathBuf {
        self.starts += 1;
        self.path("logs").join(format!("{:02}-{name}", self.starts))
    }

    /// Starts the coordinator and waits until it listens.
    pub fn serve(&mut self) {
        let mut process = self.serve_unwatched();
        process.wait_for("listening on");
        self.coordinator = Some(process);
    }

    /// Starts the coordinator.
    pub fn serve_unwatched(&mut self) -> Process {
        self.serve_below(&[])
    }

    /// Starts the coordinator below another command, such as a tracer.
    pub fn serve_below(&mut self, above: &[&str]) -> Process {
        let program = program("leben-coordinator");
        let mut words = above.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--dir").arg(self.path("coordinator")).arg("serve").env("RUST_LOG", "info");
        Process::start(command, &self.log("coordinator"))
    }

    /// A hospital with these rows joins; the index of its enrolment.
    pub fn join(&self, hospital: &str, csv: &str, worker_toml: &str) -> u64 {
        fs::create_dir_all(self.path(hospital)).unwrap();
        fs::write(self.path(hospital).join("rows.csv"), csv).unwrap();
        fs::write(self.path(hospital).join("worker.toml"), worker_toml).unwrap();
        let said = self.worker(hospital, &["join", &self.invite(hospital, "hospital", 0)]).ok();
        number_after(&said, "entry ")
    }

    /// Starts a hospital's agent.
    pub fn run(&mut self, hospital: &str) {
        self.run_with(hospital, &[]);
    }

    /// The same with options.
    pub fn run_with(&mut self, hospital: &str, options: &[&str]) {
        self.run_below(hospital, &[], options);
    }

    /// The same below another command, such as a tracer.
    pub fn run_below(&mut self, hospital: &str, above: &[&str], options: &[&str]) {
        // One process holds the folder at a time.
        self.workers.remove(hospital);
        let program = program("leben-worker");
        let mut words = above.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).arg("--dir").arg(self.path(hospital)).args(options).arg("run").env("RUST_LOG", "info");
        let process = Process::start(command, &self.log(hospital));
        self.workers.insert(hospital.to_owned(), process);
    }

    /// The team, or another one, enrols; the index of its enrolment.
    pub fn keygen(&self, home: &str, credits: u64) -> u64 {
        let invite = self.invite(home, "team", credits);
        let mut command = Command::new(program("leben"));
        let said = said(command.arg("--home").arg(self.path(home)).args(["keygen", &invite])).ok();
        number_after(&said, "(entry ")
    }

    /// A party with this invite begins to enrol.
    pub fn keygen_unwatched(&mut self, home: &str, invite: &str) -> Process {
        let mut command = Command::new(program("leben"));
        command.arg("--home").arg(self.path(home)).args(["keygen", invite]);
        Process::start(command, &self.log(home))
    }

    /// Waits until so many data sets are on the ledger, with as many hospitals as witnesses.
    pub fn wait_for_offers(&self, count: usize) {
        wait_until("data sets on the ledger", || {
            let catalog = self.leben(&["catalog", "--json"]);
            let sets = catalog.json()["datasets"].as_array().map_or(0, Vec::len);
            sets >= count
        });
        wait_until("hospitals as witnesses", || {
            let policies = self.leben(&["ledger", "list", "--kind", "PolicyChange", "--json"]).ok();
            let last = policies.lines().last().unwrap_or("").to_owned();
            HOSPITALS.iter().filter(|hospital| last.contains(**hospital)).count() >= count.min(HOSPITALS.len())
        });
    }

    /// Submits a job; `leben submit --json`'s answer.
    pub fn submit(&self, job: &str) -> Value {
        self.try_submit(job).json()
    }

    /// The same, which may fail.
    pub fn try_submit(&self, job: &str) -> Said {
        fs::write(self.path("job.toml"), job).unwrap();
        self.leben(&["submit", "job.toml", "--json"])
    }

    /// Each of these hospitals' stewards signs, as soon as the contract is on the hospital's table.
    pub fn approve(&self, hospitals: &[&str], contract: &str) {
        for hospital in hospitals {
            wait_until(&format!("{hospital} sees the contract"), || {
                self.worker(hospital, &["contracts"]).out.contains(contract)
            });
            self.worker(hospital, &["approve", &contract[..12]]).ok();
        }
    }

    /// Starts `leben watch --json`.
    pub fn watch(&mut self, contract: &str) -> Process {
        let log = self.log("watch");
        let mut command = Command::new(program("leben"));
        command.arg("--home").arg(self.path("team")).args(["watch", contract, "--json"]);
        Process::start(command, &log)
    }

    /// The end of a watched contract.
    pub fn end_of(&self, watch: &mut Process) -> Value {
        watch.wait();
        let out = watch.printed();
        let last = out.lines().last().unwrap_or_else(|| panic!("no end: {}", watch.complained()));
        serde_json::from_str(last).unwrap()
    }

    /// Verifies a copy of the team's ledger; its folder.
    pub fn export(&self, name: &str) -> PathBuf {
        let folder = self.path(name);
        self.leben(&["ledger", "export", folder.to_str().unwrap()]).ok();
        self.leben(&["verify", folder.to_str().unwrap()]).ok();
        folder
    }
}

/// Runs a command to its end; one that does not end is a failure.
pub fn said(command: &mut Command) -> Said {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break Some(status),
            None if started.elapsed() > PATIENCE => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let text = |file: &mut File| {
        let mut bytes = Vec::new();
        file.rewind().unwrap();
        file.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (out, err) = (text(&mut out), text(&mut err));
    let Some(status) = status else {
        let _ = child.kill();
        let _ = child.wait();
        panic!("{command:?} does not end:\n{out}{err}");
    };
    Said { code: status.code().unwrap_or(-1), out, err }
}

/// The number behind some words.
pub fn number_after(text: &str, words: &str) -> u64 {
    let rest = text.split(words).nth(1).unwrap_or_else(|| panic!("no '{words}' in {text}"));
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// Every file below a folder.
pub fn files_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}
