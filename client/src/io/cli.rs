//! The command line of `leben`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Args, Parser, Subcommand};
use leben_contracts::agreement::body::Kind;

use crate::io::command;

/// `leben`: ask hospitals for a computation, and get a result that proves itself.
#[derive(Debug, Parser)]
#[command(name = "leben", version, about, propagate_version = true)]
pub struct Cli {
    /// The folder with this team's keys and its copy of the ledger.
    #[arg(long, global = true, value_name = "DIR", default_value = "leben-home")]
    pub home: PathBuf,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make this team's keys and join a network with the invite that its admin gave you.
    Keygen {
        /// The invite: one line that starts with `leben1:`.
        invite: String,
        /// For an admin: the enrolment that this command wrote before, signed by another admin.
        #[arg(long, value_name = "FILE")]
        signed: Option<PathBuf>,
        /// After a revocation: make new keys; the old ones move to keys-revoked-N.
        #[arg(long)]
        new_keys: bool,
    },
    /// What the network offers: data sets with columns and permissions, algorithms.
    Catalog {
        /// Wait until so many data sets are offered.
        #[arg(long, value_name = "COUNT", default_value_t = 0)]
        wait: usize,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Print an annotated job file to start from.
    Draft {
        /// Which template.
        #[arg(long, value_name = "TEMPLATE", default_value = "regression", value_parser = ["regression", "heart", "private"])]
        from: String,
    },
    /// Turn a job file into a contract: check it, propose it, sign it.
    Submit {
        /// The job file.
        job: PathBuf,
        /// Print the terms and send nothing.
        #[arg(long)]
        dry_run: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Follow a contract until it has ended; pays into escrow when everybody has signed. Exit code 0 only with a result.
    Watch {
        /// The contract's id, a beginning of it, or `last`.
        #[arg(default_value = "last")]
        contract: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// This team, its credits and the contracts; or one contract in full.
    Status {
        /// The contract's id, a beginning of it, or `last`; all when absent.
        contract: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Get the result: tables, pictures, and a receipt that verifies offline. Accepts it.
    Fetch {
        /// The contract's id, a beginning of it, or `last`.
        #[arg(default_value = "last")]
        contract: String,
        /// Where to write; `result-<contract>` when absent.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// This party's keys: which, since when, and what became of earlier ones. With a command: new ones, or none.
    Keys {
        /// What to do; the list when absent.
        #[command(subcommand)]
        command: Option<KeysCommand>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// One action that several people sign, as a file that goes from hand to hand.
    Action {
        /// What to do.
        #[command(subcommand)]
        command: ActionCommand,
    },
    /// Go on with another coordinator, after the hospitals have handed the ledger over to it.
    Follow {
        /// The Handover that the hospitals signed.
        file: PathBuf,
        /// Where the new coordinator listens, host:port.
        #[arg(long, value_name = "HOST:PORT")]
        address: String,
    },
    /// Check a published log, a result's folder or a single proof, without a network.
    ///
    /// Exit codes: 0 ok, 2 malformed, 3 signature, 4 quorum, 5 inclusion or consistency, 6 state machine, 7 stale, 8 fork.
    Verify(VerifyArgs),
    /// Read the ledger.
    Ledger(LedgerArgs),
    /// Run a whole network on this machine and play every part.
    #[cfg(feature = "demo")]
    Demo(crate::demo::DemoArgs),
}

/// The commands of `leben keys`.
#[derive(Debug, Subcommand)]
pub enum KeysCommand {
    /// Make new keys and put them in force; the old ones serve until then, and go on opening earlier results.
    Rotate {
        /// Only this use; again for another one. All when absent.
        #[arg(long, value_parser = crate::home::USES)]
        only: Vec<String>,
    },
    /// Withdraw this party's keys for good, for example because they were stolen. It can join again with a new invite.
    Revoke {
        /// Why: 1 to 64 of a-z 0-9 . - _; it goes on the ledger.
        #[arg(long)]
        code: String,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
}

/// The commands of `leben action`.
#[derive(Debug, Subcommand)]
pub enum ActionCommand {
    /// Draft an action that needs several signatures.
    #[command(subcommand)]
    Draft(DraftCommand),
    /// Say in words what a file asks for, who has signed it, and whether the ledger would take it.
    Show {
        /// The file.
        file: PathBuf,
        /// Compare it with this published folder in place of the home's own copy.
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
    },
    /// Show a file, and add a signature to it.
    Sign {
        /// The file.
        file: PathBuf,
        /// The folder with the party key: a home, or the `keys` of a worker or a coordinator.
        #[arg(long, value_name = "DIR")]
        key: PathBuf,
        /// Compare it with this published folder in place of the home's own copy.
        #[arg(long, value_name = "DIR")]
        folder: Option<PathBuf>,
        /// Sign without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Take over the signatures of copies that others signed at the same time.
    Join {
        /// The file that takes them.
        file: PathBuf,
        /// The copies.
        #[arg(required = true)]
        others: Vec<PathBuf>,
    },
    /// Send a file to the ledger; any of those who signed may.
    Submit {
        /// The file.
        file: PathBuf,
    },
}

/// What can be drafted.
#[derive(Debug, Subcommand)]
pub enum DraftCommand {
    /// Stop the ledger, before it is handed over: nothing but a Handover is recorded from then on. A quorum of the hospitals signs, and
    /// this party.
    Freeze(Drafted),
    /// Which hospitals cosign the ledger, beyond the first four: others join them, or some leave. A quorum of those in force signs, and this
    /// admin.
    PolicyChange {
        /// A hospital that is to cosign. Once for each.
        #[arg(long, value_name = "PARTY")]
        add: Vec<String>,
        /// A hospital that is to cosign no more. Once for each.
        #[arg(long, value_name = "PARTY")]
        drop: Vec<String>,
        /// The same for every draft.
        #[command(flatten)]
        kept: Kept,
    },
    /// Withdraw a party's keys; a majority of the admins signs.
    KeyRevoke {
        /// Whose.
        #[arg(long)]
        party: String,
        /// The same for every draft.
        #[command(flatten)]
        drafted: Drafted,
    },
}

/// What such a draft says.
#[derive(Debug, Args)]
pub struct Drafted {
    /// Why: 1 to 64 of a-z 0-9 . - _; it goes on the ledger.
    #[arg(long)]
    pub code: String,
    /// The rest.
    #[command(flatten)]
    pub kept: Kept,
}

/// For how long, and where.
#[derive(Debug, Args)]
pub struct Kept {
    /// How long it may take until all have signed.
    #[arg(long, value_name = "TIME", default_value = "7 days")]
    pub valid: String,
    /// Where to write it.
    #[arg(short, long, value_name = "FILE")]
    pub out: PathBuf,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// JSON for scripts in place of text for people.
    #[arg(long)]
    pub json: bool,
}

/// `leben verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// A folder with a published log, a folder that `leben fetch` wrote, a proof file, or the proof that a log has forked (exit code 8).
    pub path: PathBuf,
    /// The policy that you trust; without it the folder's own is used.
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// A checkpoint you kept from before: the log must extend it.
    #[arg(long, value_name = "FILE")]
    pub known: Option<PathBuf>,
    /// The entry that a proof is about, if it does not lie beside it.
    #[arg(long, value_name = "FILE")]
    pub entry: Option<PathBuf>,
    /// Refuse a checkpoint that the quorum cosigned longer ago, such as "2 days".
    #[arg(long, value_name = "TIME")]
    pub max_age: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// `leben ledger`.
#[derive(Debug, Args)]
pub struct LedgerArgs {
    /// Read this published folder in place of the home's own copy.
    #[arg(long, global = true, value_name = "DIR")]
    pub folder: Option<PathBuf>,
    /// Do not ask the coordinator for news.
    #[arg(long, global = true)]
    pub offline: bool,
    /// JSON for scripts, one object a line.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: LedgerCommand,
}

/// The commands of `leben ledger`.
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// The entries, oldest first: who did what, when, on which contract.
    List {
        /// Which.
        #[command(flatten)]
        wanted: Wanted,
    },
    /// One entry by its index, with its signatures and its proof; or one contract by its id, a beginning of it, or `last`: its whole story.
    Show {
        /// Index or contract.
        what: String,
        /// Write an entry's proof and the entry to this folder, for `leben verify`.
        #[arg(long, value_name = "DIR")]
        proof: Option<PathBuf>,
    },
    /// The newest entries.
    Tail {
        /// How many.
        #[arg(short = 'n', long, default_value_t = 20)]
        lines: usize,
        /// Go on with each new entry, until interrupted.
        #[arg(short = 'f', long)]
        follow: bool,
        /// Which.
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Entries with this text in kind, party, contract, body or in the words that say what happened.
    Search {
        /// The text.
        text: String,
        /// Which.
        #[command(flatten)]
        wanted: Wanted,
    },
    /// Copy the published log to a new folder that verifies to the last byte.
    Export {
        /// The new folder.
        dir: PathBuf,
    },
}

/// Which entries; all of it has to fit.
#[derive(Clone, Debug, Default, Args)]
pub struct Wanted {
    /// Of this kind, such as Accept.
    #[arg(long, ignore_case = true, value_parser = PossibleValuesParser::new(Kind::ALL.iter().map(|kind| kind.as_str())))]
    pub kind: Option<String>,
    /// By this party.
    #[arg(long, alias = "actor")]
    pub party: Option<String>,
    /// On this contract (id, a beginning of it, or `last`).
    #[arg(long)]
    pub contract: Option<String>,
    /// Since a UTC date ("2026-11-22"), a time ("2026-11-22 11:47") or a span back from now ("2 days").
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Verification needs no network, so it gets nothing that could open one.
    if let Command::Verify(args) = &cli.command {
        return ended(command::run_verify(args));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("leben: this machine gives no threads: {error}");
            return ExitCode::FAILURE;
        }
    };
    // The demo runs on this thread: it may not stop the runtime's timers.
    ended(command::run(cli, &runtime))
}

fn ended(result: Result<ExitCode, Box<dyn std::error::Error>>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("leben: {error}");
            ExitCode::FAILURE
        }
    }
}
