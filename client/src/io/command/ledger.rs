//! `leben ledger`: the log for people and scripts.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::store::{LogReader, export};
use serde_json::json;
use tokio::runtime::Runtime;

use super::{Ended, readable};
use crate::home::Home;
use crate::io::cli::{LedgerArgs, LedgerCommand, Wanted};
use crate::io::now_ms;
use crate::io::session::Session;
use crate::io::sync::{SyncError, update};
use crate::io::terminal::{Paint, is_colourful, paint, print, try_print};
use crate::job::nearest;
use crate::ledger::{Ledger, no_log};
use crate::ledger_view::{Filter, contract_json, contract_text, entry_json, entry_json_whole, entry_text, table};
use crate::show::clean;
use crate::since;
use crate::story::{Tone, tone};

/// Entries read at once.
const STEP: usize = 4096;
/// How often new entries are looked for.
const FOLLOW_EVERY: Duration = Duration::from_secs(1);

pub(super) fn run(root: &Path, args: LedgerArgs, runtime: &Runtime) -> Ended {
    if let LedgerCommand::Export { dir } = &args.command {
        return copy(root, &args, dir, runtime);
    }
    let (home, ledger) = open(root, &args, runtime)?;
    let me = home.as_ref().map(|home| home.party().clone());
    let filter = |wanted: &Wanted, text: Option<&String>| filter(&ledger, me.as_ref(), wanted, text);
    match &args.command {
        LedgerCommand::List { wanted } => {
            list(&read(&ledger, &filter(wanted, None)?, 0, usize::MAX)?, args.json, "no entries\n");
        }
        LedgerCommand::Search { text, wanted } => {
            let found = read(&ledger, &filter(wanted, Some(text))?, 0, usize::MAX)?;
            list(&found, args.json, &format!("no entry says '{}'\n", clean(text)));
        }
        LedgerCommand::Tail { lines, follow, wanted } => {
            let filter = filter(wanted, None)?;
            let empty = if *follow { "" } else { "no entries\n" };
            list(&read(&ledger, &filter, 0, *lines)?, args.json, empty);
            if *follow {
                return match (&args.folder, home) {
                    (Some(folder), _) => runtime.block_on(follow_folder(folder, ledger.size(), &filter, args.json)),
                    (None, Some(home)) => runtime.block_on(follow_coordinator(&home, ledger, &filter, args.json)),
                    (None, None) => Ok(ExitCode::SUCCESS),
                };
            }
        }
        LedgerCommand::Show { what, proof } => return show(&ledger, me.as_ref(), what, proof.as_deref(), args.json),
        LedgerCommand::Export { .. } => {}
    }
    Ok(ExitCode::SUCCESS)
}

fn open(root: &Path, args: &LedgerArgs, runtime: &Runtime) -> Result<(Option<Home>, Ledger), Box<dyn Error>> {
    if let Some(folder) = &args.folder {
        let ledger = published(folder)?;
        if let Err(why) = ledger.check_cosigned() {
            eprintln!(
                "leben: the checkpoint does not hold ({why}), so nothing here is proven: leben verify {}",
                folder.display()
            );
        }
        return Ok((None, ledger));
    }
    let (home, ledger) = match args.offline {
        false => runtime.block_on(readable(root))?,
        true => {
            let home = Home::open(root)?;
            let ledger = Ledger::open(&home)?;
            (home, ledger)
        }
    };
    Ok((Some(home), ledger))
}

/// A folder that somebody published, as it stands.
pub(super) fn published(folder: &Path) -> Result<Ledger, Box<dyn Error>> {
    let named = |why: &dyn std::fmt::Display| format!("{} {why}", folder.display());
    if let Some(why) = no_log(folder) {
        return Err(named(&why).into());
    }
    let note = LogReader::new(folder).checkpoint().map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(Ledger::read(folder, &Checkpoint::of(&note)?.origin)?)
}

/// A slip of the finger must not read as if nothing had happened.
fn known_party(ledger: &Ledger, name: &str) -> Result<(), String> {
    let known: Vec<&str> = ledger.state().parties().map(|party| party.id.as_str()).collect();
    if known.iter().any(|id| id.eq_ignore_ascii_case(name)) {
        return Ok(());
    }
    let meant = nearest(&name.to_lowercase(), known.iter().copied());
    let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {meant}?"));
    Err(format!("no party '{}' is on this copy of the ledger of {} entries{hint}", clean(name), ledger.size()))
}

fn filter(
    ledger: &Ledger,
    me: Option<&PartyId>,
    wanted: &Wanted,
    text: Option<&String>,
) -> Result<Filter, Box<dyn Error>> {
    let contract = wanted.contract.as_ref().map(|name| ledger.find(me, name).map(|c| c.id.to_string())).transpose()?;
    let since_ms = match &wanted.since {
        None => 0,
        Some(text) => {
            since::parse(text, now_ms()).ok_or_else(|| format!("--since {text}: write {}", since::EXPECTED))?
        }
    };
    let (kind, actor) = (wanted.kind.clone(), wanted.party.clone());
    actor.as_deref().map_or(Ok(()), |name| known_party(ledger, name))?;
    Ok(Filter { kind, actor, contract, since_ms, text: text.cloned() })
}

/// The last `lines_max` entries from `first` on that the filter admits.
fn read(ledger: &Ledger, filter: &Filter, first: u64, lines_max: usize) -> Result<Vec<(u64, Entry)>, Box<dyn Error>> {
    let mut wanted: Vec<(u64, Entry)> = Vec::new();
    for start in (first..ledger.size()).step_by(STEP) {
        let read = ledger.entries(start..start.saturating_add(STEP as u64))?;
        wanted.extend(read.into_iter().filter(|(_, entry)| filter.admits(entry)));
        wanted.drain(..wanted.len().saturating_sub(lines_max));
    }
    Ok(wanted)
}

fn lines_json(entries: &[(u64, Entry)]) -> String {
    entries.iter().map(|(index, entry)| format!("{}\n", entry_json(*index, entry))).collect()
}

fn list(entries: &[(u64, Entry)], as_json: bool, empty: &str) {
    if as_json {
        print(&lines_json(entries));
    } else if entries.is_empty() {
        print(empty);
    } else {
        print(&coloured(entries, &table(entries)));
    }
}

/// The table with a colour for each kind of news, on a terminal alone.
fn coloured(entries: &[(u64, Entry)], table: &str) -> String {
    if !is_colourful() {
        return table.to_owned();
    }
    let tones = entries.iter().map(|(_, entry)| match tone(&entry.action().kind) {
        Tone::Plain => None,
        Tone::Good => Some(Paint::Green),
        Tone::Rules => Some(Paint::Yellow),
        Tone::Bad => Some(Paint::Red),
    });
    let line = |(line, colour): (&str, Option<Paint>)| match colour {
        Some(colour) => format!("{}\n", paint(colour, line)),
        None => format!("{line}\n"),
    };
    table.lines().zip([Some(Paint::Bold), None].into_iter().chain(tones)).map(line).collect()
}

/// New entries without a second heading.
fn more(entries: &[(u64, Entry)], as_json: bool) -> std::io::Result<()> {
    if as_json || entries.is_empty() {
        return try_print(&lines_json(entries));
    }
    let text = coloured(entries, &table(entries));
    try_print(&text.lines().skip(2).map(|line| format!("{line}\n")).collect::<String>())
}

/// Follows a published folder that somebody else writes.
async fn follow_folder(folder: &Path, mut seen: u64, filter: &Filter, as_json: bool) -> Ended {
    let reader = LogReader::new(folder);
    loop {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let size = Checkpoint::of(&reader.checkpoint()?)?.size;
        let leaves = reader.entries(seen.min(size)..size, size)?;
        let mut new = Vec::new();
        for (index, leaf) in (seen..).zip(leaves) {
            let entry = Entry::parse(&leaf).map_err(|error| format!("entry {index}: {error}"))?;
            new.extend(filter.admits(&entry).then_some((index, entry)));
        }
        more(&new, as_json)?;
        seen = seen.max(size);
    }
}

/// Follows the coordinator: each entry once it is final. A link that breaks is made again; a ledger that contradicts this copy ends it.
async fn follow_coordinator(home: &Home, mut ledger: Ledger, filter: &Filter, as_json: bool) -> Ended {
    let mut is_away = false;
    loop {
        let why: Box<dyn Error> = match Session::connect(home).await {
            Ok(session) => loop {
                let seen = ledger.size();
                match update(home, &session, &mut ledger).await {
                    Ok(true) => more(&read(&ledger, filter, seen, usize::MAX)?, as_json)?,
                    Ok(false) => tokio::time::sleep(FOLLOW_EVERY).await,
                    Err(SyncError::Session(error)) => break error.into(),
                    Err(error) => return Err(error.into()),
                }
                is_away = false;
            },
            Err(error) => error.into(),
        };
        if !is_away {
            eprintln!("leben: trying again: {why}");
        }
        is_away = true;
        tokio::time::sleep(FOLLOW_EVERY).await;
    }
}

fn show(ledger: &Ledger, me: Option<&PartyId>, what: &str, proof: Option<&Path>, as_json: bool) -> Ended {
    // Short numbers are indexes; the beginning of a contract's id that looks like one needs more digits.
    let number = what.parse::<u64>().ok();
    let Some(index) = number.filter(|index| *index < ledger.size()) else {
        let contract = ledger.find(me, what).map_err(|error| match number {
            Some(index) if !ledger.state().contracts().any(|c| c.id.to_string().starts_with(what)) => {
                no_entry(ledger, index)
            }
            _ => error,
        })?;
        if proof.is_some() {
            return Err("--proof is for one entry; give its index".into());
        }
        print(&match as_json {
            true => format!("{}\n", contract_json(ledger, contract)?),
            false => contract_text(ledger, contract)?,
        });
        return Ok(ExitCode::SUCCESS);
    };
    let entry = ledger.entry(index)?;
    print(&match as_json {
        true => format!("{}\n", entry_json_whole(ledger, index, &entry)),
        false => entry_text(ledger, index, &entry),
    });
    if let Some(dir) = proof {
        let file = write_proof(ledger, index, &entry, dir)?;
        if !as_json {
            print(&format!("Next: leben verify {} --policy POLICY\n", file.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn no_entry(ledger: &Ledger, index: u64) -> String {
    match ledger.size().checked_sub(1) {
        Some(last) => format!(
            "there is no entry {index}: this copy holds the entries 0 to {last}; no contract's id begins so either"
        ),
        None => "this copy of the ledger holds no entries yet".to_owned(),
    }
}

/// `<dir>/<index>-<kind>.tlog-proof` and the entry's exact bytes beside it.
fn write_proof(ledger: &Ledger, index: u64, entry: &Entry, dir: &Path) -> Result<PathBuf, Box<dyn Error>> {
    fs::create_dir_all(dir)?;
    let file = dir.join(format!("{index:06}-{}.tlog-proof", entry.action().kind));
    fs::write(&file, ledger.proof(index)?.to_string())?;
    fs::write(file.with_extension("json"), entry.bytes())?;
    Ok(file)
}

fn copy(root: &Path, args: &LedgerArgs, dir: &Path, runtime: &Runtime) -> Ended {
    let from = match &args.folder {
        Some(folder) => folder.clone(),
        None if args.offline => Home::open(root)?.ledger_dir(),
        None => runtime.block_on(readable(root))?.0.ledger_dir(),
    };
    if let Some(why) = no_log(&from) {
        return Err(format!("{} {why}", from.display()).into());
    }
    let size = export(&from, dir)?;
    print(&match args.json {
        true => format!("{}\n", json!({ "size": size, "out": dir })),
        false => format!("{size} entries in {}\nNext: leben verify {} --policy POLICY\n", dir.display(), dir.display()),
    });
    Ok(ExitCode::SUCCESS)
}
