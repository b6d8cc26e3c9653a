//! `round`: a whole round over QUIC on loopback, every party in a process of its own.
//!
//! **Secure** is the product, unchanged: a coordinator, hospitals' agents and an AI team with their own keys and folders, a
//! contract that all of them sign on the ledger, and the algorithm `probe` (`leben_models::probe`) with 16 bits a number:
//! fresh keys and shares each round, the masked vectors spooled and hashed at the coordinator, the close signed by every
//! hospital, the sum opened, the next model stored durably and sent out under its digest. See [`network`].
//!
//! **Plain** is what the same transport does when nothing is protected: f32 vectors as they are, added up by a coordinator
//! that sees each of them; no ledger, no contract, no signature beyond TLS. It exists in this crate alone. The product has
//! no unmasked path. See [`plain`].
//!
//! **Raw** is quinn alone moving as many bytes as the secure side does, which nobody reads: the floor. See [`raw`].
//!
//! The first two send the model down as f32 with its SHA-256 checked, average the same numbers, and start the next round from the
//! average. What comes out is compared with the average computed here in one process; a wrong one fails the run.

mod network;
mod plain;
mod raw;

use clap::Subcommand;
use leben_models::probe::Probe;
use leben_models::{AlgorithmSpec, Table, pooled};
use serde_json::{Value, json};

use crate::line::Line;
use crate::{Failure, machine, print, seconds};

/// Bits of one hospital's number in the secure case.
const BITS: i64 = 16;

/// One side of this comparison, in its own process.
#[derive(Subcommand)]
pub enum Side {
    /// The coordinator of a network.
    #[command(name = "bench-coordinator", hide = true)]
    Coordinator {
        /// Its folder.
        dir: std::path::PathBuf,
    },
    /// A hospital's agent.
    #[command(name = "bench-worker", hide = true)]
    Worker {
        /// Its folder.
        dir: std::path::PathBuf,
    },
    /// The plain coordinator.
    #[command(name = "bench-plain-coordinator", hide = true)]
    PlainCoordinator {
        /// How many workers come.
        hospitals: u16,
        /// Numbers of each.
        params: usize,
        /// Rounds.
        rounds: u32,
    },
    /// A plain worker.
    #[command(name = "bench-plain-worker", hide = true)]
    PlainWorker {
        /// Where the coordinator listens.
        address: std::net::SocketAddr,
        /// Which of the workers this is, from 0.
        seat: u16,
        /// Its numbers.
        params: usize,
    },
    /// Quinn alone, listening.
    #[command(name = "bench-raw-coordinator", hide = true)]
    RawCoordinator {
        /// How many workers come.
        hospitals: u16,
        /// Numbers of each.
        params: usize,
        /// Rounds.
        rounds: u32,
    },
    /// Quinn alone, dialling.
    #[command(name = "bench-raw-worker", hide = true)]
    RawWorker {
        /// Where the coordinator listens.
        address: std::net::SocketAddr,
        /// Its certificate, DER in hex.
        certificate: String,
        /// How many workers there are.
        hospitals: u16,
        /// Numbers of each.
        params: usize,
        /// Rounds.
        rounds: u32,
    },
}

impl Side {
    /// Runs it to its end.
    pub fn run(self) -> Result<(), Failure> {
        crate::child::log();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(async {
            match self {
                Side::Coordinator { dir } => network::coordinate(&dir).await,
                Side::Worker { dir } => network::work(&dir).await,
                Side::PlainCoordinator { hospitals, params, rounds } => {
                    plain::coordinate(hospitals, params, rounds).await
                }
                Side::PlainWorker { address, seat, params } => plain::work(address, seat, params).await,
                Side::RawCoordinator { hospitals, params, rounds } => raw::coordinate(hospitals, params, rounds).await,
                Side::RawWorker { address, certificate, hospitals, params, rounds } => {
                    raw::work(address, &certificate, hospitals, params, rounds).await
                }
            }
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Raw,
    Plain,
    Secure,
}

/// One case.
#[derive(Clone, Copy)]
struct Case {
    hospitals: u16,
    params: usize,
    mode: Mode,
    rounds: u32,
}

/// What one case came to.
struct Measured {
    /// Seconds from the start of one round to the start of the next, in order; the last round has no successor.
    rounds_s: Vec<f64>,
    /// UDP payload bytes of all workers, from the start of the first round to the end of the job.
    up_bytes: u64,
    down_bytes: u64,
    coordinator_peak_mib: f64,
    worker_peak_mib: f64,
    submit_to_result_s: f64,
    /// Of the same span as the bytes.
    work: machine::Reading,
    /// `checksum`, `mean` and `mean_square` of the last model.
    figures: Vec<(String, f64)>,
}

/// Rows of the hospital at this seat: each another number, since `probe` makes its values from it.
fn rows(seat: u16) -> usize {
    20 + usize::from(seat)
}

/// Runs every case.
pub fn run(quick: bool, only: &str) -> Result<(), Failure> {
    for case in cases(quick) {
        if !serde_json::to_string(&case.keys())?.contains(only) {
            continue;
        }
        let measured = match case.mode {
            Mode::Raw => raw::measure(case)?,
            Mode::Plain => plain::measure(case)?,
            Mode::Secure => network::measure(case)?,
        };
        let error = if case.mode == Mode::Raw { 0.0 } else { check(case, &measured.figures)? };
        print(case.line(&measured, error))?;
    }
    Ok(())
}

fn cases(quick: bool) -> Vec<Case> {
    let (hospitals, params): (&[u16], &[usize]) =
        if quick { (&[3], &[1_000, 1_000_000]) } else { (&[3, 8], &[1_000, 1_000_000, 10_000_000, 100_000_000]) };
    let mut cases = Vec::new();
    for hospitals in hospitals {
        for params in params {
            // Eight hospitals with 10^8 numbers each: more memory and time than the comparison is worth.
            if *hospitals > 3 && *params > 10_000_000 {
                continue;
            }
            for mode in [Mode::Raw, Mode::Plain, Mode::Secure] {
                let rounds = match *params {
                    ..=1_000_000 => 8,
                    1_000_001..=10_000_000 => 5,
                    _ => 3,
                };
                cases.push(Case { hospitals: *hospitals, params: *params, mode, rounds });
            }
        }
    }
    cases
}

impl Case {
    fn keys(self) -> Line {
        let (mode, bits) = match self.mode {
            Mode::Raw => ("raw", i64::from(raw::lane_bits(self.hospitals))),
            Mode::Plain => ("plain", 32),
            Mode::Secure => ("secure", BITS),
        };
        Line::from([
            ("bench", Value::from("round")),
            ("hospitals", self.hospitals.into()),
            ("params", self.params.into()),
            ("mode", mode.into()),
            ("bits", bits.into()),
            ("rounds", self.rounds.into()),
        ])
    }

    fn line(self, measured: &Measured, error: f64) -> Line {
        let rounds = u64::from(self.rounds.max(1));
        let mut sorted = measured.rounds_s.clone();
        sorted.sort_by(f64::total_cmp);
        let mut line = self.keys();
        let figures = [
            ("median_round_s", seconds(median(&sorted))),
            ("min_round_s", seconds(sorted.first().copied().unwrap_or(f64::NAN))),
            ("max_round_s", seconds(sorted.last().copied().unwrap_or(f64::NAN))),
            ("bytes_up_per_round", json!(measured.up_bytes / rounds)),
            ("bytes_down_per_round", json!(measured.down_bytes / rounds)),
            ("coordinator_peak_mib", json!(measured.coordinator_peak_mib)),
            ("worker_peak_mib", json!(measured.worker_peak_mib)),
            ("submit_to_result_s", seconds(measured.submit_to_result_s)),
            ("cpu_s_per_round", seconds(measured.work.cpu_s / rounds as f64)),
            ("others_cores", json!(measured.work.others_cores)),
            ("checksum_error", json!(error)),
        ];
        line.extend(figures.into_iter().map(|(key, value)| (key.to_owned(), value)));
        line
    }
}

fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
    if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}

/// The contract's stage as the algorithm reads it.
fn spec(case: Case) -> AlgorithmSpec {
    let params = i64::try_from(case.params).unwrap_or(i64::MAX);
    AlgorithmSpec::new("probe", [("length", params), ("bits", BITS), ("rounds", i64::from(case.rounds))])
}

/// Compares with the same rounds computed here, in plain sums. Returns the largest difference among the figures.
fn check(case: Case, figures: &[(String, f64)]) -> Result<f64, Failure> {
    let tables: Vec<Table> = (0..case.hospitals).map(|seat| Table::new(rows(seat))).collect();
    let fitted = pooled::run(&Probe::new(&spec(case))?, None, &tables)?;
    // Six standard deviations of what the rounding to 16 bits does to a mean over so many values (see `figures_of`), and what
    // f32 loses.
    let level = 1.0 / f64::from((1_u32 << (BITS - 1)) - 1);
    let values = case.params as f64 * f64::from(case.hospitals);
    let allowed = if case.mode == Mode::Secure { 6.0 * 1.16 * level / 2.0 / values.sqrt() } else { 0.0 } + 1e-6;
    let mut largest = 0.0_f64;
    for name in ["checksum", "mean", "mean_square"] {
        let expected = fitted.outcome.figures.get(name).ok_or("the pooled run has no such figure")?;
        let got = figures.iter().find(|(known, _)| known == name).ok_or("the result has no such figure")?.1;
        let error = (got - expected).abs();
        if error.is_nan() || error > allowed {
            return Err(format!("{name} is {got}, the plain average has {expected}: the sum is wrong").into());
        }
        largest = largest.max(error);
    }
    Ok(largest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_few() {
        assert_eq!(median(&[1.0, 2.0, 9.0]), 2.0);
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn the_raw_side_moves_the_bits_of_the_secure_one() {
        assert_eq!([3, 8, 20, 200].map(raw::lane_bits), [18, 19, 21, 24]);
    }

    #[test]
    fn a_wrong_sum_is_found() {
        let case = Case { hospitals: 3, params: 1000, mode: Mode::Plain, rounds: 3 };
        let tables: Vec<Table> = (0..3).map(|seat| Table::new(rows(seat))).collect();
        let fitted = pooled::run(&Probe::new(&spec(case)).unwrap(), None, &tables).unwrap();
        let model = fitted.state.values32("model").unwrap().to_vec();
        let figures = |model: &[f32]| {
            leben_models::probe::figures_of(model).map(|(name, value)| (name.to_owned(), value)).to_vec()
        };
        assert!(check(case, &figures(&model)).unwrap() < 1e-12);
        let mut wrong = model;
        wrong[17] += 0.01;
        assert!(check(case, &figures(&wrong)).is_err());
    }
}
