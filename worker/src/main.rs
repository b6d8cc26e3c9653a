//! `leben-worker`: the agent's command line.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use leben_contracts::ledger::note::VerifierKey;
use leben_worker::io::cli::{self, Decision};
use leben_worker::io::clock::Clock;
use leben_worker::io::witness::{self, StandAlone};
use leben_worker::io::{Options, check, cli_keys, config, evidence, handover, review, rotation};

/// The agent inside a hospital: runs agreed algorithms on local data and returns only a masked contribution.
#[derive(Parser)]
#[command(name = "leben-worker", version, about)]
struct Cli {
    /// The state folder: configuration, keys, the hospital's copy of the ledger, its audit log.
    #[arg(long, global = true, default_value = "./leben-worker")]
    dir: PathBuf,
    /// Sets this process's clock off by so many seconds.
    #[arg(long, global = true, hide = true, default_value_t = 0, allow_hyphen_values = true)]
    clock_offset_s: i64,
    /// Logs as JSON, one object a line.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: What,
}

#[derive(Subcommand)]
enum What {
    /// Joins a network: makes keys here, enrols their public halves.
    Join {
        /// After a revocation: makes new keys; the old ones move to keys-revoked-N.
        #[arg(long)]
        new_keys: bool,
        /// The line that the network's admin sent.
        invite: String,
    },
    /// Says whether network, clock, disk and each data set are fit.
    Check,
    /// Runs the agent until it is stopped.
    Run,
    /// Says what the agent does.
    Status {
        /// As one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Shows the contracts that wait for a decision, as text.
    Contracts {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Shows each data set's privacy budget: its limit, what is spent, held and left, and by which contracts.
    Budget {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Signs a contract.
    Approve {
        /// The first digits of its id.
        contract: String,
    },
    /// Refuses a contract.
    Refuse {
        /// The first digits of its id.
        contract: String,
        /// Why: 1 to 64 of a-z 0-9 . - _; it goes on the ledger.
        #[arg(long, default_value = "refused_by_steward")]
        code: String,
    },
    /// Stops a contract's work within one round.
    Suspend {
        /// The first digits of its id.
        contract: String,
        /// Why: 1 to 64 of a-z 0-9 . - _; it goes on the ledger.
        #[arg(long, default_value = "suspended_by_steward")]
        code: String,
    },
    /// Lets a suspended contract go on.
    Resume {
        /// The first digits of its id.
        contract: String,
    },
    /// Takes this hospital's data out of a contract, for good.
    Revoke {
        /// The first digits of its id.
        contract: String,
    },
    /// Shows a result that waits until somebody here has looked at it, where the contract asks for that.
    Review {
        /// The first digits of the contract's id.
        contract: String,
    },
    /// Lets the result go that `review` shows.
    Clear {
        /// The first digits of the contract's id.
        contract: String,
    },
    /// This hospital's keys: which, since when, and what became of earlier ones. With a command: new ones, or none.
    Keys {
        #[command(subcommand)]
        what: Option<KeysCommand>,
        /// JSON for scripts.
        #[arg(long)]
        json: bool,
    },
    /// When the coordinator is lost, or not trusted any more: stop for it, sign who goes on, follow the new one.
    #[command(subcommand)]
    Handover(HandoverCommand),
    /// Shows the audit log and checks that no line is missing.
    Audit,
    /// Prints the annotated default configuration.
    Config,
    /// Shows and clears why this agent signs nothing: proofs that the ledger has forked, an entry that breaks the rules, a cosignature of its
    /// own that its folder does not remember.
    Evidence {
        /// What to do.
        #[command(subcommand)]
        what: Option<EvidenceCommand>,
    },
    /// Runs a plain witness (C2SP tlog-witness) of somebody's log, and nothing else: no network to join, no data.
    Witness {
        /// Where it answers `POST /add-checkpoint`, plain HTTP.
        #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7490")]
        listen: std::net::SocketAddr,
        /// Name of its key, such as university.example/witness.
        #[arg(long)]
        name: String,
        /// Key of a log to follow (name+id+base64), as its operator publishes it; once for each log.
        #[arg(long = "log", value_name = "VKEY", required = true)]
        logs: Vec<String>,
    },
}

#[derive(Subcommand)]
enum EvidenceCommand {
    /// The files and what each proves.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// One file, as it is.
    Show {
        /// Its name.
        name: String,
    },
    /// Copies all of them; others check the proofs of a fork with `leben verify`.
    Export {
        /// The new folder.
        target: PathBuf,
    },
    /// Puts the proofs aside; the agent signs again from its next start on.
    Clear {
        /// Say that you have looked and spoken with the other hospitals.
        #[arg(long)]
        yes_i_have_looked: bool,
    },
}

#[derive(Subcommand)]
enum HandoverCommand {
    /// Stops this hospital for its coordinator: nothing is signed, stored or computed for it any more. A running agent ends its link and waits.
    Freeze,
    /// Takes the stop back, as long as no Handover was signed.
    Unfreeze,
    /// Compares a Handover with this hospital's copy of the ledger, shows it, and signs it.
    Sign {
        /// The file from `leben-coordinator handover prepare`.
        file: PathBuf,
        /// A published folder with the history it goes on from, where this hospital's own copy is behind.
        #[arg(long, value_name = "DIR")]
        ledger: Option<PathBuf>,
        /// In place of another Handover that was signed here; that one must never be used.
        #[arg(long)]
        replace: bool,
        /// Signs; without it the Handover is only shown.
        #[arg(long)]
        yes: bool,
    },
    /// Goes on with the new coordinator that a quorum of the hospitals has signed for.
    Follow {
        /// The signed file.
        file: PathBuf,
        /// Where the new coordinator listens, host:port.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
        /// A published folder with the history it goes on from, where this hospital's own copy is behind, or goes too far.
        #[arg(long, value_name = "DIR")]
        ledger: Option<PathBuf>,
        /// Goes back behind a certificate that this hospital holds and the others go on without. It is said what is lost, and set aside.
        #[arg(long, requires = "ledger")]
        drop_certificate: bool,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Makes new keys here; the agent puts them in force, and the old ones serve until then.
    Rotate {
        /// Only this use; again for another one. All when absent.
        #[arg(long, value_parser = rotation::USES)]
        only: Vec<String>,
        /// Does not wait until the ledger has taken them.
        #[arg(long)]
        no_wait: bool,
    },
    /// Withdraws all keys of this hospital for good, for example because they were stolen. It can join again with a new invite.
    Revoke {
        /// Why: 1 to 64 of a-z 0-9 . - _; it goes on the ledger.
        #[arg(long)]
        code: String,
        /// Signs; without it the action is only shown.
        #[arg(long)]
        yes: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = tokio::runtime::Runtime::new()
        .map_err(|error| format!("cannot start: {error}"))
        .and_then(|runtime| runtime.block_on(act(cli)));
    match ended {
        Ok(code) => code,
        Err(words) => {
            eprintln!("leben-worker: {words}");
            ExitCode::FAILURE
        }
    }
}

async fn act(cli: Cli) -> Result<ExitCode, String> {
    let (dir, clock) = (cli.dir.as_path(), Clock { offset_ms: cli.clock_offset_s.saturating_mul(1000) });
    let decide = |contract: &str, decision: Decision| cli::decide(dir, contract, decision);
    let said = match &cli.command {
        What::Join { invite, new_keys } => join(invite, dir, clock, *new_keys).await?,
        What::Check => return Ok(print_check(&check::check(dir, clock).await)),
        What::Run => {
            start_log(cli.log_json);
            handover::run(dir, &Options { tap: None, clock }, stopped()).await?;
            "stopped".to_owned()
        }
        What::Status { json: true } => to_json(&cli::status(dir)?)?,
        What::Status { json: false } => cli::status_text(&cli::status(dir)?),
        What::Contracts { json: true } => to_json(&cli::status(dir)?.contracts)?,
        What::Contracts { json: false } => cli::contracts_text(&cli::status(dir)?),
        What::Budget { json: true } => to_json(&cli::status(dir)?.budgets)?,
        What::Budget { json: false } => cli::budget_text(&cli::status(dir)?),
        What::Approve { contract } => decide(contract, Decision::Approve)?,
        What::Refuse { contract, code } => decide(contract, Decision::Refuse(code.clone()))?,
        What::Suspend { contract, code } => decide(contract, Decision::Suspend(code.clone()))?,
        What::Resume { contract } => decide(contract, Decision::Resume)?,
        What::Revoke { contract } => decide(contract, Decision::Revoke)?,
        What::Review { contract } => review::text(dir, contract)?,
        What::Clear { contract } => decide(contract, Decision::Clear)?,
        What::Keys { what, json } => keys(what.as_ref(), *json, dir, clock).await?,
        What::Handover(HandoverCommand::Freeze) => handover::freeze(dir, clock).await?,
        What::Handover(HandoverCommand::Unfreeze) => handover::unfreeze(dir, clock).await?,
        What::Handover(HandoverCommand::Sign { file, ledger, replace, yes }) => {
            let wish = handover::Wish { file, ledger: ledger.as_deref(), drop_certificate: false };
            handover::sign(dir, wish, *replace, *yes, clock).await?
        }
        What::Handover(HandoverCommand::Follow { file, ledger, address, drop_certificate }) => {
            let wish = handover::Wish { file, ledger: ledger.as_deref(), drop_certificate: *drop_certificate };
            handover::follow(dir, wish, address, clock).await?
        }
        What::Audit => cli::audit_text(dir)?,
        What::Config => config::TEMPLATE.to_owned(),
        What::Evidence { what: Some(EvidenceCommand::List { json: true }) } => to_json(&evidence::list(dir)?)?,
        What::Evidence { what: None | Some(EvidenceCommand::List { json: false }) } => evidence::list_text(dir)?,
        What::Evidence { what: Some(EvidenceCommand::Show { name }) } => evidence::show(dir, name)?,
        What::Evidence { what: Some(EvidenceCommand::Export { target }) } => evidence::export(dir, target)?,
        What::Evidence { what: Some(EvidenceCommand::Clear { yes_i_have_looked }) } => {
            evidence::clear(dir, *yes_i_have_looked, clock.now_ms())?
        }
        What::Witness { listen, name, logs } => {
            start_log(cli.log_json);
            let logs = logs.iter().map(|log| VerifierKey::parse(log).map_err(|error| format!("--log {log}: {error}")));
            let options =
                witness::Options { listen: *listen, name: name.clone(), logs: logs.collect::<Result<_, _>>()? };
            let witness = StandAlone::open(dir, options, clock).await?;
            say(&format!("witness {}", witness.vkey()));
            say(&format!("listening on http://{} (stop with Ctrl-C)", witness.address()?));
            witness.serve(stopped()).await?;
            "stopped".to_owned()
        }
    };
    say(said.trim_end());
    Ok(ExitCode::SUCCESS)
}

async fn join(invite: &str, dir: &Path, clock: Clock, new_keys: bool) -> Result<String, String> {
    let index = match new_keys {
        true => leben_worker::io::join_again(invite, dir, clock).await?,
        false => leben_worker::io::join(invite, dir, clock).await?,
    };
    let joined = match index {
        Some(index) => format!("joined: entry {index} of the ledger"),
        None => "joined before: the address and the coordinator's key are taken from this invite".to_owned(),
    };
    let (dir, file) = (dir.display(), config::FILE);
    Ok(format!("{joined}. Declare data sets in {dir}/{file}, then: leben-worker --dir {dir} check, and run"))
}

async fn keys(what: Option<&KeysCommand>, json: bool, dir: &Path, clock: Clock) -> Result<String, String> {
    match what {
        None if json => to_json(&cli::status(dir)?.keys),
        None => cli_keys::text(dir),
        Some(KeysCommand::Rotate { only, no_wait }) => cli_keys::rotate(dir, only, !no_wait).await,
        Some(KeysCommand::Revoke { code, yes }) => cli_keys::revoke(dir, code, *yes, clock).await,
    }
}

fn print_check(lines: &[check::Line]) -> ExitCode {
    for line in lines {
        say(&format!("{} {}: {}", if line.ok { "ok  " } else { "FAIL" }, line.what, line.words.trim_end()));
    }
    match lines.iter().all(|line| line.ok) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, String> {
    serde_json::to_string(value).map_err(|error| error.to_string())
}

fn start_log(json: bool) {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    // Colours are for a terminal: in a log file they are noise.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    match json {
        true => log.json().init(),
        false => log.init(),
    }
}

/// Ctrl-C, or the termination that a service manager sends.
async fn stopped() {
    let mut terminate = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(terminate) => terminate,
        Err(_) => return drop(tokio::signal::ctrl_c().await),
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// `println!` that does not panic when whoever reads has gone (`| head`).
fn say(text: &str) {
    use std::io::Write;
    // Nobody reads: there is nobody to tell.
    let _ = writeln!(std::io::stdout(), "{text}");
}
