//! What the operating system knows: memory and processor time of a process, the machine, the commit.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::Failure;
use crate::line::Line;

/// Clock ticks a second in `/proc/*/stat`: `USER_HZ`, 100 on every Linux architecture that Rust runs on.
const TICKS_PER_S: f64 = 100.0;

/// Processor seconds that a process has used, its threads included (`proc(5)`: utime and stime).
pub fn cpu_s(pid: u32) -> Result<f64, Failure> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    let (user, system) = ticks(11).zip(ticks(12)).ok_or("/proc/PID/stat has another form")?;
    Ok((user + system) / TICKS_PER_S)
}

/// The most memory that a process has had resident so far, MiB (`proc(5)`: VmHWM).
pub fn peak_mib(pid: u32) -> Result<f64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("/proc/PID/status has no VmHWM")?;
    let kib: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok((kib / 102.4).round() / 10.0)
}

/// Memory that this process has resident now, MiB (`proc(5)`: VmRSS).
pub fn resident_mib() -> Result<f64, Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("/proc/self/status has no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// From now on [`peak_mib`] of this process counts from what it holds now (`proc(5)`: clear_refs, 5).
pub fn reset_peak() -> Result<(), Failure> {
    Ok(fs::write("/proc/self/clear_refs", "5")?)
}

/// Processor seconds that this process has used, to the nanosecond.
pub fn own_cpu_s() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// Processor seconds that the whole machine has been busy since it started.
pub fn busy_s() -> Result<f64, Failure> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("/proc/stat is empty")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).map(|field| field.parse().unwrap_or(0.0)).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal: idle and iowait are not work.
    let work = ticks.iter().take(8).enumerate().filter(|(at, _)| *at != 3 && *at != 4);
    Ok(work.map(|(_, ticks)| ticks).sum::<f64>() / TICKS_PER_S)
}

/// Cores, processor and commit.
pub fn facts() -> Line {
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(':'));
    let cpu = model.map_or("unknown", |(_, name)| name.trim());
    Line::from_iter([
        ("cores".to_owned(), Value::from(cores)),
        ("cpu".to_owned(), Value::from(cpu)),
        ("commit".to_owned(), Value::from(commit())),
    ])
}

/// Short hash of the commit that was checked out, `+dirty` when tracked files differ from it; `unknown` outside a checkout.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").current_dir(env!("CARGO_MANIFEST_DIR")).args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(hash) = git(&["rev-parse", "--short", "HEAD"]) else { return "unknown".to_owned() };
    match git(&["--no-optional-locks", "status", "--porcelain"]) {
        Some(changes) if changes.is_empty() => hash,
        _ => format!("{hash}+dirty"),
    }
}

/// Work and memory of some processes between two moments.
pub struct Meter {
    pids: Vec<u32>,
    started: std::time::Instant,
    ours_s: f64,
    busy_s: f64,
}

/// What a [`Meter`] read.
pub struct Reading {
    /// Wall-clock seconds.
    pub wall_s: f64,
    /// Processor seconds of the processes.
    pub cpu_s: f64,
    /// Cores that everything else on the machine used meanwhile, on average.
    pub others_cores: f64,
}

impl Meter {
    /// From now on.
    pub fn start(pids: Vec<u32>) -> Result<Meter, Failure> {
        let ours_s = total_s(&pids)?;
        Ok(Meter { pids, started: std::time::Instant::now(), ours_s, busy_s: busy_s()? })
    }

    /// Until now.
    pub fn read(&self) -> Result<Reading, Failure> {
        let wall_s = self.started.elapsed().as_secs_f64();
        let cpu_s = total_s(&self.pids)? - self.ours_s;
        let others_cores = ((busy_s()? - self.busy_s - cpu_s) / wall_s).max(0.0);
        Ok(Reading { wall_s, cpu_s, others_cores: (others_cores * 100.0).round() / 100.0 })
    }
}

fn total_s(pids: &[u32]) -> Result<f64, Failure> {
    pids.iter().map(|pid| cpu_s(*pid)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_time() {
        let me = std::process::id();
        let before = peak_mib(me).unwrap();
        let block = vec![1_u8; 64 << 20];
        assert!(block.iter().map(|byte| u64::from(*byte)).sum::<u64>() == 64 << 20);
        assert!(peak_mib(me).unwrap() >= before + 32.0);
        assert!(cpu_s(me).unwrap() <= busy_s().unwrap());
    }
}
