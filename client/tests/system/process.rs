//! The three programs as processes of their own: built once, started with their output in files, killed when dropped.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long anything that is waited for may take on a slow, busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Where `leben`, `leben-coordinator` and `leben-worker` lie, built with this test's own profile.
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).join(name)
}

fn build() -> PathBuf {
    // target/<profile>/deps/system-<hash>
    let exe = env::current_exe().unwrap();
    let folder = exe.ancestors().nth(2).unwrap().to_owned();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--bins", "--quiet", "-p", "leben", "-p", "leben-coordinator", "-p", "leben-worker"]);
    cargo.arg("--target-dir").arg(folder.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
    if folder.file_name().unwrap() == "release" {
        cargo.arg("--release");
    }
    // What cargo tells this test about itself would make build scripts run again that look at it.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let about_this_test =
            ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_", "NEXTEST"];
        if about_this_test.iter().any(|start| text.starts_with(start)) || text == "OUT_DIR" {
            cargo.env_remove(&name);
        }
    }
    let built = cargo.status().unwrap();
    assert!(built.success(), "the programs under test do not build");
    folder
}

/// A process, its output in `<log>.out` and `<log>.err`.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command.
    pub fn start(mut command: Command, log: &Path) -> Process {
        fs::create_dir_all(log.parent().unwrap()).unwrap();
        let file = |end: &str| File::create(log.with_extension(end)).unwrap();
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        let mut tries = 0;
        let child = loop {
            match command.spawn() {
                Ok(child) => break child,
                // Another test's build may be putting the program in its place.
                Err(error) if tries < 20 => {
                    tries += 1;
                    eprintln!("{command:?}: {error}");
                    std::thread::sleep(Duration::from_millis(100));
                }
                Err(error) => panic!("{command:?}: {error}"),
            }
        };
        Process { child, log: log.to_owned() }
    }

    /// Most memory that it has ever had resident, MiB.
    pub fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything it has printed.
    pub fn printed(&self) -> String {
        fs::read_to_string(self.log.with_extension("out")).unwrap_or_default()
    }

    /// Everything it has logged or complained about.
    pub fn complained(&self) -> String {
        fs::read_to_string(self.log.with_extension("err")).unwrap_or_default()
    }

    /// Waits until it has printed or logged this.
    pub fn wait_for(&mut self, text: &str) {
        let what = format!("'{text}' of {}", self.log.display());
        wait_until(&what, || {
            let found = self.printed().contains(text) || self.complained().contains(text);
            if let (false, Ok(Some(status))) = (found, self.child.try_wait()) {
                panic!("{what}: ended with {status}:\n{}{}", self.printed(), self.complained());
            }
            found
        });
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until(&format!("the end of {}", self.log.display()), || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks again and again until something is so.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {} s", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(20));
    }
}
