//! What each command of `leben` does: asks, prints, and says by its exit code how it went.

mod action;
mod follow;
mod keys;
mod ledger;
mod team;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use leben_contracts::verify::VerifyError;
use tokio::runtime::Runtime;

use crate::home::Home;
use crate::io::cli::{Cli, Command, VerifyArgs};
use crate::io::keys::settled;
use crate::io::session::Session;
use crate::io::terminal::{Counting, Paint, paint, print};
use crate::job::duration;
use crate::ledger::Ledger;
use crate::show::clean;
use crate::verify::{Wish, error_json, verify_telling};

type Ended = Result<ExitCode, Box<dyn Error>>;

/// Runs one command.
///
/// # Errors
/// In words for the person who typed it.
pub fn run(cli: Cli, runtime: &Runtime) -> Ended {
    let root = cli.home;
    match cli.command {
        Command::Keygen { invite, signed, new_keys } => {
            runtime.block_on(team::keygen(&root, &invite, signed.as_deref(), new_keys))
        }
        Command::Catalog { wait, output } => runtime.block_on(team::catalog(&root, wait, output.json)),
        Command::Draft { from } => team::draft(&from),
        Command::Submit { job, dry_run, output } => runtime.block_on(team::submit(&root, &job, dry_run, output.json)),
        Command::Watch { contract, output } => runtime.block_on(team::watch(&root, &contract, output.json)),
        Command::Status { contract, output } => runtime.block_on(team::status(&root, contract.as_deref(), output.json)),
        Command::Fetch { contract, out, output } => {
            runtime.block_on(team::fetch(&root, &contract, out.as_deref(), output.json))
        }
        Command::Keys { command, output } => runtime.block_on(keys::run(&root, command, output.json)),
        Command::Action { command } => runtime.block_on(action::run(&root, command)),
        Command::Follow { file, address } => runtime.block_on(follow::run(&root, &file, &address)),
        Command::Verify(args) => run_verify(&args),
        Command::Ledger(args) => ledger::run(&root, args, runtime),
        #[cfg(feature = "demo")]
        Command::Demo(args) => crate::demo::run(args),
    }
}

/// The home, a link, and an up-to-date copy of the ledger.
async fn linked(root: &Path) -> Result<(Home, Session, Ledger), Box<dyn Error>> {
    let mut home = Home::open(root)?;
    let (session, ledger) = settled(&mut home).await?;
    Ok((home, session, ledger))
}

/// The home and its copy of the ledger, brought up to date if the coordinator can be reached; else as it stands, saying so.
async fn readable(root: &Path) -> Result<(Home, Ledger), Box<dyn Error>> {
    let mut home = Home::open(root)?;
    match settled(&mut home).await {
        Ok((session, ledger)) => {
            session.close().await;
            Ok((home, ledger))
        }
        Err(why) => {
            let ledger = Ledger::open(&home)?;
            eprintln!(
                "leben: showing this home's copy of {} entries; it could not be brought up to date: {why}",
                ledger.size()
            );
            Ok((home, ledger))
        }
    }
}

/// The clock of this machine, and the age that was asked for.
fn freshness(max_age: Option<&str>) -> Result<Option<(u64, u64)>, VerifyError> {
    let Some(text) = max_age else { return Ok(None) };
    let why = || "write a time such as \"2 days\"".to_owned();
    let age_ms = duration::parse(text)
        .ok_or_else(|| VerifyError::Malformed { place: format!("--max-age {text}"), why: why() })?;
    Ok(Some((crate::io::now_ms(), age_ms)))
}

pub(super) fn run_verify(args: &VerifyArgs) -> Ended {
    let bar = Counting::new();
    let verified = freshness(args.max_age.as_deref()).and_then(|freshness| {
        let wish =
            Wish { policy: args.policy.clone(), known: args.known.clone(), freshness, entry: args.entry.clone() };
        verify_telling(&args.path, &wish, &mut |progress| bar.show(progress.what, progress.done, progress.total))
    });
    drop(bar);
    match (&verified, args.output.json) {
        (Ok(good), true) => print(&format!("{}\n", good.to_json())),
        (Ok(good), false) => print(&good.to_text().replacen("ok:", &format!("{}:", paint(Paint::Green, "ok")), 1)),
        (Err(error), true) => print(&format!("{}\n", error_json(error))),
        (Err(error), false) => {
            eprintln!("leben: not verified (exit code {}): {}", error.exit_code(), clean(&error.to_string()));
        }
    }
    Ok(verified.map_or_else(|error| ExitCode::from(error.exit_code()), |_| ExitCode::SUCCESS))
}
