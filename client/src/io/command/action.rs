//! `leben action`: one action that several people sign, as a file that goes from hand to hand.

use std::io::{BufRead, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{Freeze, KeyRevoke};
use leben_contracts::agreement::party::{Code, PartyId};
use leben_contracts::ledger::action_file::{ACTION_FILE_BYTES_MAX, ActionFile};
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::store::{durable_replace, read_at_most};

use super::{Ended, linked, readable};
use crate::action as actions;
use crate::io::cli::{ActionCommand, DraftCommand, Drafted, Kept};
use crate::io::terminal::{Paint, paint, print};
use crate::io::{fresh, keys, now_ms};
use crate::job::duration;
use crate::ledger::Ledger;

type Failed = Box<dyn std::error::Error>;

pub(super) async fn run(root: &Path, command: ActionCommand) -> Ended {
    match command {
        ActionCommand::Draft(draft) => make(root, draft).await,
        ActionCommand::Show { file, folder } => {
            let ledger = ledger(root, folder.as_deref()).await?;
            print(&ledger.state().action_text(&read(&file)?, now_ms()));
            Ok(ExitCode::SUCCESS)
        }
        ActionCommand::Sign { file, key, folder, yes } => sign(root, &file, &key, folder.as_deref(), yes).await,
        ActionCommand::Join { file, others } => join(&file, &others),
        ActionCommand::Submit { file } => submit(root, &file).await,
    }
}

fn read(path: &Path) -> Result<ActionFile, Failed> {
    let bytes = read_at_most(path, ACTION_FILE_BYTES_MAX)?;
    Ok(ActionFile::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?)
}

fn write(path: &Path, file: &ActionFile) -> Result<(), Failed> {
    Ok(durable_replace(path, &file.to_bytes())?)
}

/// What the file is compared with: a published folder, or the home's own copy, brought up to date if that is possible.
async fn ledger(root: &Path, folder: Option<&Path>) -> Result<Ledger, Failed> {
    match folder {
        Some(folder) => super::ledger::published(folder),
        None => Ok(readable(root).await?.1),
    }
}

async fn make(root: &Path, draft: DraftCommand) -> Ended {
    let (DraftCommand::PolicyChange { kept, .. }
    | DraftCommand::KeyRevoke { drafted: Drafted { kept, .. }, .. }
    | DraftCommand::Freeze(Drafted { kept, .. })) = &draft;
    let Kept { valid, out } = kept;
    let valid_ms = duration::parse(valid).ok_or_else(|| format!("--valid {valid}: write a time such as \"7 days\""))?;
    let (home, ledger) = readable(root).await?;
    let file = match &draft {
        DraftCommand::PolicyChange { add, drop, .. } => {
            let named = |names: &[String]| names.iter().map(|name| PartyId::new(name)).collect::<Result<Vec<_>, _>>();
            let body = actions::validators(ledger.state(), &named(add)?, &named(drop)?)?;
            actions::policy_change(&home, ledger.state(), body, valid_ms, fresh()?)?
        }
        DraftCommand::KeyRevoke { party, drafted } => {
            let body = KeyRevoke { party: PartyId::new(party)?, code: Code::new(&drafted.code)? };
            actions::revoke(&home, ledger.state(), body, valid_ms, fresh()?)?
        }
        DraftCommand::Freeze(drafted) => {
            let body = Freeze { code: Code::new(&drafted.code)? };
            actions::freeze(&home, ledger.state(), body, valid_ms, fresh()?)?
        }
    };
    write(out, &file)?;
    print(&ledger.state().action_text(&file, now_ms()));
    let out = out.display();
    print(&format!(
        "Nobody has signed yet. Next: leben action sign {out} --key <folder of keys>, then hand {out} on\n"
    ));
    Ok(ExitCode::SUCCESS)
}

/// Shows what would be signed; asks, where somebody can answer.
pub(super) fn confirm(ledger: &Ledger, file: &ActionFile, yes: bool) -> Result<bool, Failed> {
    print(&ledger.state().action_text(file, now_ms()));
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err("nothing is signed: read the above, then add --yes".into());
    }
    print("Sign this? [y/N] ");
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    let signs = ["y", "yes"].contains(&answer.trim().to_lowercase().as_str());
    if !signs {
        print("nothing is signed\n");
    }
    Ok(signs)
}

/// `party.key` of a folder, or of the folder `keys` in it.
fn load(folder: &Path) -> Result<SigningKey, Failed> {
    let inner = folder.join("keys/party.key");
    let path = if inner.is_file() { inner } else { folder.join("party.key") };
    Ok(keyfile::load(&path)?)
}

async fn sign(root: &Path, path: &Path, key: &Path, folder: Option<&Path>, yes: bool) -> Ended {
    let (mut file, key) = (read(path)?, load(key)?);
    if file.action().kind == "Handover" {
        let why = "a hospital signs a Handover with `leben-worker handover sign`, which compares it with what the hospital holds";
        return Err(why.into());
    }
    let ledger = ledger(root, folder).await?;
    if !confirm(&ledger, &file, yes)? {
        return Ok(ExitCode::FAILURE);
    }
    file.sign(&key)?;
    write(path, &file)?;
    let path = path.display();
    match ledger.state().check(now_ms().max(ledger.state().now_ms()), file.as_envelope()) {
        Ok(()) => {
            print(&format!("{}. Next: leben action submit {path}\n", paint(Paint::Green, "signed, and complete")))
        }
        Err(refused) => print(&format!("{}; {}. Hand {path} on\n", paint(Paint::Green, "signed"), refused.reason)),
    }
    Ok(ExitCode::SUCCESS)
}

fn join(path: &Path, others: &[PathBuf]) -> Ended {
    let mut file = read(path)?;
    for other in others {
        file.join(&read(other)?).map_err(|error| format!("{}: {error}", other.display()))?;
    }
    write(path, &file)?;
    print(&format!("{} signatures in {}\n", file.as_envelope().signatures().len(), path.display()));
    Ok(ExitCode::SUCCESS)
}

async fn submit(root: &Path, path: &Path) -> Ended {
    let file = read(path)?;
    if file.as_envelope().signatures().is_empty() {
        let path = path.display();
        return Err(format!("nobody has signed {path} yet: leben action sign {path} --key <folder of keys>").into());
    }
    let (_, session, ledger) = linked(root).await?;
    print(&ledger.state().action_text(&file, now_ms()));
    let index = keys::submit(&session, &ledger, file).await?;
    session.close().await;
    let entry = index.map(|index| format!(" in entry {index}")).unwrap_or_default();
    print(&format!("{}\n", paint(Paint::Green, &format!("final{entry}"))));
    Ok(ExitCode::SUCCESS)
}
