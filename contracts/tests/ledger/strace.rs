//! System calls of a driver, watched and broken with strace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// The calls with which a log is written and read.
pub const CALLS: &str = "/^(openat|read|write|pwrite64|fsync|fdatasync|rename(at2?)?|mkdir(at)?|unlink(at)?|rmdir|statx|newfstatat|getdents64|flock|ftruncate|link(at)?)$";

/// One system call on a path, in the order in which it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    pub name: String,
    /// Of the open file, or as given; a rename has two.
    pub paths: Vec<PathBuf>,
    /// What was written, where something was.
    pub data: Vec<u8>,
    /// The arguments as strace prints them: flags.
    pub text: String,
    pub ok: bool,
}

impl Call {
    pub fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.name.as_str())
    }
    pub fn path(&self) -> &Path {
        &self.paths[0]
    }
}

/// Whether a process can be traced here; if not, why, for the test to say.
pub fn available() -> bool {
    let traced = Command::new("strace").args(["-o", "/dev/null", "true"]).output();
    let why = match traced {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(error) => format!("strace: {error}; on Debian: apt-get install strace"),
    };
    eprintln!("skipped: no process can be traced here: {why}");
    false
}

fn strace(driver: Command, arguments: &[&str]) -> Command {
    let mut command = Command::new("strace");
    command.args(arguments).arg("--").arg(driver.get_program()).args(driver.get_args());
    for (name, value) in driver.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// Runs the driver and returns every call that it made on files below `folder`, and those that wrote to its output.
pub fn record(driver: Command, folder: &Path) -> (Output, Vec<Call>) {
    record_with(driver, folder, &[])
}

/// The same, while one call fails or is the last one.
pub fn record_with(driver: Command, folder: &Path, more: &[&str]) -> (Output, Vec<Call>) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let trace = format!("trace={CALLS}");
    let mut arguments = vec!["-f", "-y", "-xx", "-s", "100000000", "-o", log.path().to_str().unwrap(), "-e", &trace];
    arguments.extend(more);
    let output = strace(driver, &arguments).output().unwrap();
    let text = std::fs::read_to_string(log.path()).unwrap();
    let calls = whole_lines(&text).iter().filter_map(|line| parse(line, folder)).collect();
    (output, calls)
}

/// Runs the driver while the `nth` such call on this path does what `fault` says, as `error=EIO`.
pub fn inject(driver: Command, call: &str, path: &Path, fault: &str, nth: usize) -> Output {
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={nth}"));
    let path = path.to_str().unwrap();
    strace(driver, &["-f", "-qq", "-o", "/dev/null", "-P", path, "-e", &trace, "-e", &inject]).output().unwrap()
}

/// A call that another thread's line cut in two is one line again. One that a kill cut short never says how it ended.
fn whole_lines(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    let mut open = BTreeMap::new();
    for line in text.lines() {
        let pid = line.split(' ').next().unwrap_or_default();
        if let Some(begun) = line.strip_suffix("<unfinished ...>") {
            open.insert(pid, lines.len());
            lines.push(begun.to_owned());
        } else if let Some((_, rest)) = line.split_once(" resumed>") {
            let at = open.remove(pid).unwrap_or_else(|| panic!("a call that never began: {line}"));
            lines[at].push_str(rest);
        } else {
            lines.push(line.to_owned());
        }
    }
    lines
}

/// `123 name(arg, "\x61", 3<\x62>) = 0`
fn parse(line: &str, folder: &Path) -> Option<Call> {
    let (_pid, rest) = line.split_once(' ')?;
    let (name, rest) = rest.trim_start().split_once('(')?;
    let (text, result) = rest.rsplit_once(" = ").unwrap_or((rest, "?"));
    let strings = |open: char, close: char| -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let mut rest = text;
        while let Some((_, after)) = rest.split_once(open) {
            let Some((inside, after)) = after.split_once(close) else { break };
            found.extend(hex::decode(inside.replace("\\x", "")));
            rest = after;
        }
        found
    };
    let path = |bytes: Vec<u8>| PathBuf::from(String::from_utf8_lossy(&bytes).into_owned());
    let on_descriptor = ["read", "write", "pwrite64", "fsync", "fdatasync", "getdents64", "flock", "ftruncate"];
    let mut call = Call {
        name: name.to_owned(),
        paths: Vec::new(),
        data: Vec::new(),
        text: text.to_owned(),
        ok: !result.starts_with(['-', '?']),
    };
    if on_descriptor.contains(&name) {
        call.paths.extend(strings('<', '>').into_iter().next().map(path));
        call.data = strings('"', '"').into_iter().next().filter(|_| name.contains("write")).unwrap_or_default();
        if name == "write" && text.starts_with("1<") {
            call.name = "say".into();
            return Some(call);
        }
    } else {
        call.paths.extend(strings('"', '"').into_iter().map(path));
    }
    (!call.paths.is_empty() && call.path().starts_with(folder)).then_some(call)
}
