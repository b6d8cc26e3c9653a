//! `leben ledger`: the log for people and scripts.

use std::path::Path;
use std::process::ExitCode;

use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::store::{LogReader, export};
use tokio::runtime::Runtime;

use super::{Ended, readable};
use crate::home::Home;
use crate::io::cli::{LedgerArgs, LedgerCommand};
use crate::io::terminal::print;
use crate::ledger::Ledger;
use crate::ledger_view::{Filter, contract_json, contract_text, entry_json, entry_text, table};

/// Entries read at once.
const STEP: usize = 4096;

pub(super) fn run(root: &Path, args: LedgerArgs, runtime: &Runtime) -> Ended {
    if let LedgerCommand::Export { dir } = &args.command {
        return copy(root, args.folder.as_deref(), dir);
    }
    let (me, ledger) = open(root, &args, runtime)?;
    let me = me.as_ref();
    match &args.command {
        LedgerCommand::List { kind, actor, contract } => {
            let contract = contract.as_ref().map(|name| ledger.find(me, name).map(|c| c.id.to_string())).transpose()?;
            let filter = Filter { kind: kind.clone(), actor: actor.clone(), contract, text: None };
            list(&ledger, 0, &filter, args.json)
        }
        LedgerCommand::Search { text } => {
            list(&ledger, 0, &Filter { text: Some(text.clone()), ..Filter::default() }, args.json)
        }
        LedgerCommand::Tail { lines } => {
            list(&ledger, ledger.size().saturating_sub(*lines), &Filter::default(), args.json)
        }
        LedgerCommand::Show { what } => show(&ledger, me, what, args.json),
        LedgerCommand::Export { .. } => Ok(ExitCode::SUCCESS),
    }
}

fn open(
    root: &Path,
    args: &LedgerArgs,
    runtime: &Runtime,
) -> Result<(Option<PartyId>, Ledger), Box<dyn std::error::Error>> {
    if let Some(folder) = &args.folder {
        let note = LogReader::new(folder).checkpoint().map_err(|error| format!("{}: {error}", folder.display()))?;
        return Ok((None, Ledger::read(folder, &Checkpoint::of(&note)?.origin)?));
    }
    let (home, ledger) = match args.offline {
        false => runtime.block_on(readable(root))?,
        true => {
            let home = Home::open(root)?;
            let ledger = Ledger::open(&home)?;
            (home, ledger)
        }
    };
    Ok((Some(home.party().clone()), ledger))
}

fn list(ledger: &Ledger, first: u64, filter: &Filter, as_json: bool) -> Ended {
    let mut wanted: Vec<(u64, Entry)> = Vec::new();
    for start in (first..ledger.size()).step_by(STEP) {
        let read = ledger.entries(start..start.saturating_add(STEP as u64))?;
        wanted.extend(read.into_iter().filter(|(_, entry)| filter.admits(entry)));
    }
    if as_json {
        for (index, entry) in &wanted {
            print(&format!("{}\n", entry_json(*index, entry)));
        }
    } else if wanted.is_empty() {
        print("no entries\n");
    } else {
        print(&table(&wanted));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(ledger: &Ledger, me: Option<&PartyId>, what: &str, as_json: bool) -> Ended {
    // Short numbers are indexes; the beginning of a contract's id that looks like one needs more digits.
    let index = what.parse::<u64>().ok().filter(|index| *index < ledger.size());
    let text = match index {
        Some(index) => {
            let entry = ledger.entry(index)?;
            if as_json { format!("{}\n", entry_json(index, &entry)) } else { entry_text(ledger.state(), index, &entry) }
        }
        None => {
            let contract = ledger.find(me, what)?;
            if as_json { format!("{}\n", contract_json(contract)) } else { contract_text(ledger, contract) }
        }
    };
    print(&text);
    Ok(ExitCode::SUCCESS)
}

fn copy(root: &Path, folder: Option<&Path>, dir: &Path) -> Ended {
    let from = match folder {
        Some(folder) => folder.to_path_buf(),
        None => Home::open(root)?.ledger_dir(),
    };
    let size = export(&from, dir)?;
    print(&format!("{size} entries in {}\nNext: leben verify {}\n", dir.display(), dir.display()));
    Ok(ExitCode::SUCCESS)
}
