//! The ledger: how fast entries are sequenced and become final, how long one step takes, what a million of them cost to audit, to
//! start from and to index.
//!
//! [`live`] is a coordinator with four witnesses over QUIC on loopback, [`past`] a log of `--entries` entries on disk, [`traffic`] what is
//! recorded in both, [`load`] a coordinator that is killed while it records.

mod live;
pub(crate) mod load;
mod past;
mod traffic;

use std::path::{Path, PathBuf};
use std::time::Instant;

use leben_contracts::ledger::store::durable_replace;
use serde_json::Value;

use crate::line::Line;
use crate::{Failure, print};

/// What to measure.
#[derive(clap::Args)]
pub struct Options {
    /// Entries of the log that is audited, started from and indexed.
    #[arg(long, default_value_t = 1_000_000)]
    entries: u64,
    /// The long log's time between two waves of 4,864 entries, milliseconds: a million entries are about four days. With 1000 they are a few
    /// minutes, and the payload hash of each is still remembered.
    #[arg(long, default_value_t = 1_300_000)]
    pause_ms: u64,
    /// Small: 20,000 entries, fewer steps.
    #[arg(long)]
    quick: bool,
    /// Where the folders are made; its disk is what is measured.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// The folders are left where they are, and it is said where: `leben verify FOLDER/past/ledger` reads the long log.
    #[arg(long)]
    keep: bool,
    /// Only this half: `live` or `past`.
    #[arg(long, default_value = "")]
    only: String,
}

/// Prints one line.
pub fn run(options: &Options) -> Result<(), Failure> {
    let mut folder = tempfile::Builder::new();
    folder.prefix("leben-bench-").disable_cleanup(options.keep);
    let folder = match &options.dir {
        Some(dir) => folder.tempdir_in(dir)?,
        None => folder.tempdir()?,
    };
    let mut case = Line::default();
    case.insert("bench".into(), "ledger".into());
    case.extend(disk(folder.path())?);
    if options.only != "past" {
        case.extend(live::measure(&folder.path().join("live"), options.quick)?);
    }
    if options.only != "live" {
        let entries = if options.quick { 20_000 } else { options.entries };
        case.extend(past::measure(&folder.path().join("past"), entries, options.pause_ms)?);
    }
    if options.keep {
        eprintln!("ledger: the folders are in {}", folder.path().display());
    }
    print(case)
}

/// Type of the file system, and what its fsync costs: the median of 64 durable replacements of a small file, milliseconds.
fn disk(dir: &Path) -> Result<Line, Failure> {
    let mounts = std::fs::read_to_string("/proc/mounts")?;
    let real = dir.canonicalize()?;
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let under = fields.filter_map(|f| Some((f.get(1)?.to_string(), f.get(2)?.to_string())));
    let mount = under.filter(|(at, _)| real.starts_with(at)).max_by_key(|(at, _)| at.len());
    let mut costs = Vec::new();
    for round in 0..64_u8 {
        let begun = Instant::now();
        durable_replace(&dir.join("probe"), &[round; 512])?;
        costs.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    std::fs::remove_file(dir.join("probe"))?;
    Ok(Line::from_iter([
        ("disk".to_owned(), mount.map_or("unknown".to_owned(), |(_, kind)| kind).into()),
        ("durable_replace_ms".to_owned(), rounded(percentile(&mut costs, 50))),
    ]))
}

/// The value below which that many in a hundred lie.
fn percentile(values: &mut [f64], percent: usize) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() * percent / 100).min(values.len().saturating_sub(1))).copied().unwrap_or(f64::NAN)
}

/// To three digits behind the point.
fn rounded(value: f64) -> Value {
    Value::from((value * 1e3).round() / 1e3)
}
