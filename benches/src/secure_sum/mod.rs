//! `secure-sum`: what protecting a vector costs its hospital and the coordinator, without a network: keys, shares, clipping,
//! rounding, masks, packing, hashes, the running sum, recovery, unmasking. All of it is the product's own code; the sum is compared
//! with the one that must come out.
//!
//! Each case runs in a process of its own ([`slot`]), so that its memory and its threads are its own. Beside it, in the same run,
//! Flower's SecAgg+ primitives where a Python that has them is given ([`flower`]).

mod flower;
mod slot;

use std::path::Path;
use std::process::Command;

use clap::Args;
use serde_json::json;

use crate::Failure;
use crate::line::Line;

/// One case.
#[derive(Args, Clone, Copy, Debug)]
pub struct Case {
    /// Hospitals of the cohort.
    hospitals: u16,
    /// Numbers of each.
    params: usize,
    /// Bits of one hospital's number.
    bits: u8,
    /// Hospitals that leave before they upload.
    dropped: u16,
    /// Threads that one side may use.
    threads: usize,
    /// Masks from ChaCha20 instead of AES.
    #[arg(long)]
    chacha20: bool,
}

impl Case {
    /// What names it in its line.
    fn keys(&self) -> Line {
        let suite = if self.chacha20 { "chacha20" } else { "aes-256-ctr" };
        Line::from([
            ("system", json!("leben")),
            ("suite", json!(suite)),
            ("hospitals", json!(self.hospitals)),
            ("params", json!(self.params)),
            ("bits", json!(self.bits)),
            ("dropped", json!(self.dropped)),
            ("threads", json!(self.threads)),
        ])
    }

    fn arguments(&self) -> Vec<String> {
        let numbers = [usize::from(self.hospitals), self.params, self.bits.into(), self.dropped.into(), self.threads];
        let flag = self.chacha20.then(|| "--chacha20".to_owned());
        numbers.iter().map(ToString::to_string).chain(flag).collect()
    }
}

/// What one case came to, ours or Flower's.
struct Figures {
    client_s: f64,
    server_s: f64,
    client_cpu_s: f64,
    server_cpu_s: f64,
    bytes_per_param: f64,
}

impl Figures {
    /// As keys of a line, with the processor time that 10^8 numbers would take at this rate.
    fn extend(&self, line: &mut Line, params: usize) {
        let per_1e8 = |cpu_s: f64| crate::seconds(cpu_s * 1e8 / params as f64);
        let keys = [
            ("client_s", crate::seconds(self.client_s)),
            ("server_s", crate::seconds(self.server_s)),
            ("client_cpu_s", crate::seconds(self.client_cpu_s)),
            ("server_cpu_s", crate::seconds(self.server_cpu_s)),
            ("client_cpu_s_per_1e8", per_1e8(self.client_cpu_s)),
            ("server_cpu_s_per_1e8", per_1e8(self.server_cpu_s)),
            ("bytes_per_param", crate::seconds(self.bytes_per_param)),
        ];
        line.extend(keys.map(|(key, value)| (key.to_owned(), value)));
    }
}

/// Runs every case whose line holds `only`; `flower` is a Python that has flwr.
pub fn run(quick: bool, only: &str, flower: Option<&Path>) -> Result<(), Failure> {
    for case in cases(quick) {
        if !serde_json::to_string(&case.keys())?.contains(only) {
            continue;
        }
        let status = Command::new(std::env::current_exe()?).arg("bench-secure-sum").args(case.arguments()).status()?;
        if !status.success() {
            return Err(format!("{case:?} failed").into());
        }
        if let Some(python) = flower.filter(|_| case.threads == 1 && !case.chacha20) {
            flower::measure(python, case)?;
        }
    }
    Ok(())
}

/// Runs one case in this process.
pub fn run_one(case: Case) -> Result<(), Failure> {
    slot::measure(case)
}

fn cases(quick: bool) -> Vec<Case> {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let base = Case { hospitals: 20, params: 1_000_000, bits: 16, dropped: 0, threads: 1, chacha20: false };
    if quick {
        return vec![Case { hospitals: 3, ..base }, base, Case { dropped: 6, ..base }];
    }
    let mut cases = Vec::new();
    for hospitals in [3u16, 10, 20, 100] {
        // A hundred hospitals' uploads of 10^8 numbers are 3 * 10^12 bytes of masks: minutes for each line.
        let params = if hospitals > 20 { 10_000_000 } else { 100_000_000 };
        // Three hospitals have a threshold of three: none can drop.
        let drops = if hospitals == 3 { vec![0] } else { vec![0, 1, hospitals * 3 / 10] };
        for dropped in drops {
            for threads in if cores > 1 { vec![1, cores] } else { vec![1] } {
                cases.push(Case { hospitals, params, dropped, threads, ..base });
            }
        }
    }
    // How cost grows with the numbers, with their bits, and the other suite.
    cases.extend([1_000, 100_000, 1_000_000, 10_000_000].map(|params| Case { params, ..base }));
    cases.extend([8, 12].map(|bits| Case { params: 10_000_000, bits, ..base }));
    cases.push(Case { params: 10_000_000, chacha20: true, ..base });
    cases
}
