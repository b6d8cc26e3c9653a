//! `leben-coordinator`: makes a network, serves it, invites to it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use leben_coordinator::io::clock::now_ms;
use leben_coordinator::io::config::Config;
use leben_coordinator::io::fatal::Fatal;
use leben_coordinator::io::store::Invited;
use leben_coordinator::io::{handover, keys, rotation, setup, start};

/// The coordinator of a Leben network: keeps the ledger, runs the rounds, reads no hospital's update.
#[derive(Parser)]
#[command(name = "leben-coordinator", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The coordinator's folder.
    #[arg(long, global = true, default_value = "leben-coordinator")]
    dir: PathBuf,
}

#[derive(Subcommand)]
enum Command {
    /// Make a new network: keys, settings and the first ledger entry.
    Init {
        /// Name of the log, part of every checkpoint, for example ledger.example.org/2026.
        #[arg(long, default_value = "ledger.leben.example/1")]
        origin: String,
        /// This organisation's party id on the ledger.
        #[arg(long, default_value = "coordinator")]
        party: String,
        /// The first admin's party id.
        #[arg(long, default_value = "admin")]
        admin: String,
        /// In place of a network whose log has signed two histories that were both certified: the proof (handover.fork.json, or a hospital's evidence/fork-..json), which becomes part of the
        /// first entry. Takes an --origin of its own.
        #[arg(long, value_name = "FORK_EVIDENCE")]
        embed: Option<PathBuf>,
    },
    /// Serve the network until stopped.
    Serve,
    /// Issue a one-time invite; prints one line to hand over.
    Invite {
        /// The newcomer's party id.
        party: String,
        /// What it is.
        #[arg(long, value_parser = ["hospital", "team", "admin"], default_value = "hospital")]
        kind: String,
        /// Credits that the newcomer is given.
        #[arg(long, default_value_t = 0)]
        credits: u64,
        /// Hours until the invite ends.
        #[arg(long, default_value_t = 72)]
        hours: u64,
    },
    /// A new coordinator for a network whose coordinator is lost or not trusted any more: its ledger goes on here.
    #[command(subcommand)]
    Handover(HandoverCommand),
    /// The coordinator's own keys: which, since when, and what became of earlier ones. The log's key changes by handover alone.
    Keys {
        #[command(subcommand)]
        what: Option<KeysCommand>,
    },
}

#[derive(Subcommand)]
enum HandoverCommand {
    /// Verifies the copy of the ledger with the largest certificate, compares the others with it, makes the new coordinator's keys, and
    /// drafts the Handover from there, for the hospitals to sign. Exit code 8: two copies prove a fork; where a copy does not verify,
    /// those of `leben verify`; anything else 1.
    Prepare {
        /// A copy of the ledger: a frozen hospital's folder, its mirror/public, or an export. Once for each; as many as there are.
        #[arg(long, value_name = "DIR", required = true)]
        from: Vec<PathBuf>,
        /// The policy that you trust; without it the copies vouch for themselves.
        #[arg(long, value_name = "FILE")]
        policy: Option<PathBuf>,
        /// Party id of the new coordinator: the one of before, whose contracts then go on, or a new one.
        #[arg(long)]
        party: Option<String>,
        /// Days until enough hospitals have to have signed.
        #[arg(long, default_value_t = 7)]
        days: u64,
        /// Where to write the Handover.
        #[arg(short, long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Takes the Handover that enough hospitals have signed, and makes it the first entry that this coordinator sequences.
    Finish {
        /// The file.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum KeysCommand {
    /// Makes new keys here; whoever serves the folder, now or later, brings them to the ledger. The old ones serve until then.
    Rotate {
        /// Only this use; again for another one. All when absent.
        #[arg(long, value_parser = rotation::USES)]
        only: Vec<String>,
    },
}

/// `println!` that does not panic when whoever reads has gone (`| head`).
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write;
        // Nobody reads: there is nobody to tell.
        let _ = writeln!(std::io::stdout(), $($text)*);
    }};
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("leben-coordinator: {error}");
            match error {
                Fatal::Handover(error) => ExitCode::from(error.exit_code()),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fatal> {
    let dir = arguments.dir.as_path();
    match &arguments.command {
        Command::Init { origin, party, admin, embed } => {
            let (config, template) = (Config::new(origin, party), Config::template(origin, party));
            match embed {
                None => setup::init(dir, &config, &template, admin)?,
                Some(evidence) => say!("{}", setup::init_after_fork(dir, &config, &template, admin, evidence)?),
            }
            say!("made the network '{origin}' in {}", dir.display());
            say!("settings: {}", dir.join("coordinator.toml").display());
            let home = dir.join("admin");
            say!("the first admin's home: {} (its own keys: leben --home {} ..)", home.display(), home.display());
            say!("next: leben-coordinator --dir {} serve", dir.display());
            Ok(())
        }
        Command::Serve => serve(dir),
        Command::Handover(HandoverCommand::Prepare { from, policy, party, days, out }) => {
            let wish = handover::Wish { from, policy: policy.as_deref(), party: party.as_deref(), days: *days, out };
            say!("{}", handover::prepare(dir, &wish)?.trim_end());
            Ok(())
        }
        Command::Handover(HandoverCommand::Finish { file }) => {
            say!("{}", handover::finish(dir, file)?.trim_end());
            Ok(())
        }
        Command::Keys { what: None } => {
            say!("{}", keys::list(dir)?.trim_end());
            Ok(())
        }
        Command::Keys { what: Some(KeysCommand::Rotate { only }) } => {
            let made = rotation::propose(&dir.join("keys"), only).map_err(|error| Fatal::Start(error.to_string()))?;
            say!("made new keys ({}) in {}", made.join(", "), dir.join("keys/next").display());
            say!(
                "the coordinator brings them to the ledger as soon as it serves, and takes them over when a quorum has cosigned that:"
            );
            say!("  leben-coordinator --dir {} keys", dir.display());
            Ok(())
        }
        Command::Invite { party, kind, credits, hours } => {
            let expires_ms = now_ms().saturating_add(hours.saturating_mul(3_600_000));
            let invited = Invited { party: party.clone(), kind: kind.clone(), credits: *credits, expires_ms };
            let invite = setup::invite(dir, &invited, None)?.to_text();
            if setup::is_enrolled(dir, party) == Some(true) {
                eprintln!(
                    "leben-coordinator: {party} is enrolled already: with this invite it learns the address of now, and new keys only after \
                     its old ones were revoked"
                );
            }
            say!("{invite}");
            Ok(())
        }
    }
}

#[tokio::main]
async fn serve(dir: &Path) -> Result<(), Fatal> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Colours are for a terminal: in a log file they are noise.
    let colours = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours).init();
    let mut running = start(dir, None).await?;
    say!("listening on {} (stop with Ctrl-C)", running.address);
    if let Some(http) = running.http {
        say!("metrics on http://{http}/metrics, the ledger on http://{http}/ledger/checkpoint");
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = running.wait() => return result,
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    running.stop().await;
    say!("stopped");
    Ok(())
}
