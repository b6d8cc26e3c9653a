//! `leben-coordinator keys`: what the ledger says of the coordinator's keys, read from the published folder, beside what lies in `keys/`.

use std::fmt::Write as _;
use std::path::Path;

use leben_contracts::agreement::party::Party;
use leben_contracts::agreement::state::State;
use leben_contracts::handover::replayed;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::keyring::Keyring;
use leben_contracts::ledger::store::LogReader;
use leben_protocol::key::fingerprint;

use super::config::Config;
use super::fatal::Fatal;
use super::rotation::Generation;

fn start(error: impl std::fmt::Display) -> Fatal {
    Fatal::Start(error.to_string())
}

/// The keys in words: every one the ledger knows, and those that wait for it.
pub fn list(dir: &Path) -> Result<String, Fatal> {
    let config = Config::load(&dir.join("coordinator.toml")).map_err(start)?;
    let state = replay(dir, &config.origin)?;
    let mut text = format!("{:10} {:40} {:>8}  state\n", "use", "fingerprint", "since");
    let mut line = |name: &str, key: &[u8; 32], since: &str, state: &str| {
        let _ = writeln!(text, "{name:10} {:40} {since:>8}  {state}", fingerprint(key));
    };
    let ring = Keyring::new(&dir.join("keys"));
    for (name, key) in ring.next().map_err(start)?.unwrap_or_default() {
        let public = match name.as_str() {
            "sealing" => leben_privacy::seal::public_of(&key.to_bytes()),
            _ => key.verifying_key().to_bytes(),
        };
        line(&name, &public, "-", "waits for the ledger");
    }
    if let Some(party) = state.party(&config.party) {
        for used in party.key_history() {
            let name = if used.role == "tls" { "link" } else { used.role };
            line(name, &used.key, &used.since.to_string(), &used.fate.to_string());
        }
    }
    let here = Generation::load(&dir.join("keys"))?.public();
    let current = state.party(&config.party).and_then(Party::current);
    if current.is_some_and(|period| period.keys.party != here.keys.party) {
        text.push_str("the party key in keys/ is not the one in force: a rotation is being taken over, or the folder is an old copy\n");
    }
    Ok(text)
}

fn replay(dir: &Path, origin: &str) -> Result<State, Fatal> {
    let ledger = dir.join("ledger");
    let size = Checkpoint::of(&LogReader::new(&ledger).checkpoint().map_err(start)?).map_err(start)?.size;
    Ok(replayed(&ledger, Some(&dir.join("state")), origin, size, size)?)
}
