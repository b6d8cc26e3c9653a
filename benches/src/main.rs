//! # leben-benches: what it costs, measured
//!
//! `cargo run --release -p leben-benches -- NAME [--quick]` runs one comparison and prints one JSON object a line and case,
//! with the machine and the commit in it. `benches/README.md` says what each key means and how it is measured.
//!
//! [`machine`] reads what the operating system knows of a process, [`child`] runs one side of a comparison in a process of its
//! own, by starting this very program again under a hidden name; [`mod@line`] is one line of figures. The comparisons:
//!
//! * [`round`]: whole rounds over QUIC on loopback, protected and plain.
//! * [`secure_sum`]: what protecting a vector costs a hospital and the coordinator, beside Flower's primitives.
//! * [`ledger`]: entries sequenced and final, one step's latency, and what a long log costs.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod child;
mod ledger;
mod line;
mod machine;
mod round;
mod secure_sum;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use line::Line;
use serde_json::Value;

/// Whatever went wrong, in words.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Measures Leben; one JSON object a line and case.
#[derive(Parser)]
#[command(name = "leben-benches")]
struct Arguments {
    #[command(subcommand)]
    name: Name,
}

#[derive(Subcommand)]
enum Name {
    /// Whole rounds over QUIC on loopback, 3 and 8 hospitals, 10^3 to 10^8 numbers: protected, plain, and quinn alone.
    Round {
        /// 3 hospitals, 10^3 and 10^6 numbers.
        #[arg(long)]
        quick: bool,
        /// Only the cases whose line holds this text, for example `"params":1000000,"mode":"secure"`.
        #[arg(long, default_value = "")]
        only: String,
    },
    /// Masking, summing and unmasking without a network, 3 to 100 hospitals, up to 10^8 numbers.
    SecureSum {
        /// 10^6 numbers, 3 and 20 hospitals.
        #[arg(long)]
        quick: bool,
        /// Only the cases whose line holds this text, for example `"hospitals":20,`.
        #[arg(long, default_value = "")]
        only: String,
        /// A Python that has flwr: its SecAgg+ primitives are measured beside.
        #[arg(long)]
        flower: Option<PathBuf>,
    },
    /// One case of `secure-sum`, in a process of its own.
    #[command(name = "bench-secure-sum", hide = true)]
    SecureSumCase(secure_sum::Case),
    /// The ledger: entries sequenced and final a second, latency of a step, proofs, audit, restart, index.
    Ledger(ledger::Options),
    /// A coordinator on a long log, under load.
    #[command(name = "bench-ledger-load", hide = true)]
    LedgerLoad {
        /// Its folder.
        dir: PathBuf,
        /// Which of several runs on this log.
        run: u64,
    },
    /// One side of a comparison.
    #[command(flatten)]
    Side(round::Side),
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().name {
        Name::Round { quick, only } => round::run(quick, &only),
        Name::SecureSum { quick, only, flower } => secure_sum::run(quick, &only, flower.as_deref()),
        Name::SecureSumCase(case) => secure_sum::run_one(case),
        Name::Ledger(options) => ledger::run(&options),
        Name::LedgerLoad { dir, run } => ledger::load::run(&dir, run),
        Name::Side(side) => side.run(),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leben-benches: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints one case: its own keys, then the machine's.
fn print(case: Line) -> Result<(), Failure> {
    let mut line = case;
    line.extend(machine::facts());
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &line)?;
    writeln!(out)?;
    Ok(out.flush()?)
}

/// Rounded to six digits behind the point: more would be noise.
fn seconds(seconds: f64) -> Value {
    Value::from((seconds * 1e6).round() / 1e6)
}
