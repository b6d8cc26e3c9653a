//! `leben keys`: which keys are in force, new ones, or none.

use std::path::Path;
use std::process::ExitCode;

use leben_contracts::agreement::party::Code;
use leben_protocol::key::fingerprint;
use serde_json::json;

use super::{Ended, linked, readable};
use crate::home::Home;
use crate::io::cli::KeysCommand;
use crate::io::keys::{draft_own_revocation, rotate, submit};
use crate::io::now_ms;
use crate::io::terminal::{Paint, paint, print};
use crate::ledger::Ledger;

pub(super) async fn run(root: &Path, command: Option<KeysCommand>, as_json: bool) -> Ended {
    match command {
        None => list(&mut readable(root).await?, as_json),
        Some(KeysCommand::Rotate { only }) => {
            let mut home = Home::open(root)?;
            let ledger = rotate(&mut home, &only).await?;
            print(&format!(
                "{}\n",
                paint(Paint::Green, "the new keys are in force; what opens earlier results is kept")
            ));
            list(&mut (home, ledger), as_json)
        }
        Some(KeysCommand::Revoke { code, yes }) => revoke(root, &code, yes).await,
    }
}

fn list((home, ledger): &mut (Home, Ledger), as_json: bool) -> Ended {
    let mut rows: Vec<(String, String, Option<u64>, String)> = Vec::new();
    let known = ledger.state().party(home.party().as_str()).map(|party| party.key_history()).unwrap_or_default();
    if let Some((waiting, _)) = home.rotation() {
        let uses =
            waiting.keys.each().map(|(role, key)| (role, key.to_bytes())).chain([("sealing", waiting.sealing.0)]);
        for (role, key) in uses.filter(|(role, key)| !known.iter().any(|used| used.role == *role && used.key == *key)) {
            rows.push((role.to_owned(), fingerprint(&key), None, "waits for the ledger: leben keys rotate".to_owned()));
        }
    }
    let known = known.into_iter();
    rows.extend(
        known.map(|used| (used.role.to_owned(), fingerprint(&used.key), Some(used.since), used.fate.to_string())),
    );
    if as_json {
        let rows: Vec<_> = rows
            .into_iter()
            .map(|(role, fingerprint, since, state)| json!({ "role": role, "fingerprint": fingerprint, "since": since, "state": state }))
            .collect();
        print(&format!("{}\n", json!(rows)));
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{:10} {:40} {:>8}  state\n", "use", "fingerprint", "since"));
    for (role, fingerprint, since, state) in rows {
        let since = since.map_or("-".to_owned(), |index| index.to_string());
        print(&format!("{role:10} {fingerprint:40} {since:>8}  {state}\n"));
    }
    Ok(ExitCode::SUCCESS)
}

async fn revoke(root: &Path, code: &str, yes: bool) -> Ended {
    let (home, session, ledger) = linked(root).await?;
    let mut file = draft_own_revocation(&home, &ledger, &Code::new(code)?)?;
    if !super::action::confirm(&ledger, &file, yes)? {
        return Ok(ExitCode::FAILURE);
    }
    file.sign(home.party_key())?;
    print(&ledger.state().action_text(&file, now_ms()));
    let index = submit(&session, &ledger, file).await?;
    session.close().await;
    let entry = index.map(|index| format!(" in entry {index}")).unwrap_or_default();
    print(&format!("{}\n", paint(Paint::Green, &format!("revoked{entry}"))));
    print("To come back, ask an admin for an invite: leben keygen --new-keys <invite>\n");
    Ok(ExitCode::SUCCESS)
}
