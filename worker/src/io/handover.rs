//! `leben-worker handover`: when the coordinator is lost, or not trusted any more.
//!
//! *Freeze* stops this hospital for it, durably and altogether: while `frozen.json` lies in the folder no agent runs on it, so nothing is
//! cosigned, no certificate is stored, no data leaves. *Sign* compares a Handover with the own copy: what this hospital holds a certificate
//! of must be the beginning of what goes on. *Follow* takes a Handover that a quorum has signed. What this hospital cosigned beyond its own last
//! certificate was never final and may not be part of what goes on: the copy is cut back to that certificate, and the witness
//! remembers that one from then on. This is the only way in which a witness ever goes back, and it goes under another key of the log.
//! Where the others go on without something that this hospital holds a certificate of, it goes back behind that only when a person
//! says so, and sets it aside.
//!
//! `copy.rs`: what becomes of the own copy; `later.rs`: of what goes beyond a Handover.

mod copy;
mod later;

use std::future::Future;
use std::io;
use std::path::Path;
use std::time::Duration;

use leben_contracts::agreement::body::Handover;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::state::State;
use leben_contracts::handover::{self, promise, read_file};
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::note::{KeyType, VerifierKey};
use leben_contracts::ledger::store::{StoreError, durable_replace};
use serde::{Deserialize, Serialize};

use self::copy::History;
use super::clock::Clock;
use super::config::Config;
use super::evidence;
use super::handle::{Options, run as run_agent};
use super::join::Network;
use super::keys::Keys;
use super::store::{DiskError, Store, read_json};
use crate::audit::AuditEntry;

/// What a frozen hospital says.
pub const FROZEN: &str = "frozen for a Handover: nothing is signed or computed for the coordinator. When the new one is agreed on: \
                          leben-worker handover follow; if it was a false alarm: leben-worker handover unfreeze";

const FILE: &str = "frozen.json";
/// How often a frozen agent, and who waits for one to stop, looks again.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a running agent has to stop, looks.
const LOOKS: u32 = 150;

/// That this hospital has stopped, and what it has signed since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Frozen {
    /// When, Unix milliseconds.
    pub at_ms: u64,
    /// The key of the log it has stopped for, C2SP.
    pub log_vkey: String,
    /// Identity of the Handover that it has signed, or begun to follow.
    pub signed: Option<Hash32>,
    /// Where the copy is set aside by the Handover that it has begun to follow, a folder beside it.
    pub aside: Option<String>,
}

/// A Handover, and where the history is that it goes on from.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The file.
    pub file: &'a Path,
    /// A published folder, where the own copy does not reach that far, or goes too far.
    pub ledger: Option<&'a Path>,
    /// Follow without entries that this hospital holds a certificate of.
    pub drop_certificate: bool,
}

/// Whether this hospital has stopped.
///
/// # Errors
/// [`DiskError`].
pub fn frozen(folder: &Path) -> Result<Option<Frozen>, DiskError> {
    read_json(&folder.join(FILE))
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn keep(folder: &Path, frozen: &Frozen) -> Result<(), String> {
    durable_replace(&folder.join(FILE), &serde_json::to_vec_pretty(frozen).map_err(words)?).map_err(words)
}

fn remove(folder: &Path) -> Result<(), String> {
    match std::fs::remove_file(folder.join(FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(format!("cannot remove {}: {error}", folder.join(FILE).display()))
        }
        _ => Ok(()),
    }
}

fn keep_network(folder: &Path, network: &Network) -> Result<(), String> {
    durable_replace(&folder.join("network.json"), &serde_json::to_vec_pretty(network).map_err(words)?).map_err(words)
}

fn log_of(network: &Network) -> Result<VerifierKey, String> {
    VerifierKey::parse(&network.log_vkey).map_err(words)
}

/// Runs the agent until `stop`; while the hospital is frozen it waits, and goes on when it follows somebody again.
///
/// # Errors
/// In words.
pub async fn run(folder: &Path, options: &Options, stop: impl Future<Output = ()>) -> Result<(), String> {
    tokio::pin!(stop);
    let mut told = false;
    loop {
        if frozen(folder).map_err(words)?.is_some() {
            if !std::mem::replace(&mut told, true) {
                tracing::warn!("{FROZEN}");
            }
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(LOOK_EVERY) => continue,
            }
        }
        told = false;
        let config = Config::load(folder).map_err(words)?;
        let ended = std::cell::Cell::new(false);
        let until = async {
            tokio::select! {
                () = &mut stop => ended.set(true),
                () = until_frozen(folder) => {}
            }
        };
        run_agent(config, options.clone(), until).await.map_err(words)?;
        if ended.get() {
            return Ok(());
        }
    }
}

async fn until_frozen(folder: &Path) {
    // A disk that does not answer ends the agent by its own writes.
    while matches!(frozen(folder), Ok(None)) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The folder, once no agent runs on it, with the copy in its place.
async fn held(folder: &Path, log: &VerifierKey) -> Result<Store, String> {
    if let Some(aside) = frozen(folder).map_err(words)?.and_then(|frozen| frozen.aside) {
        copy::take_back(folder, &aside)?;
    }
    let mut looks = 0;
    loop {
        match Store::open(folder, log) {
            Err(DiskError::Ledger(StoreError::Locked(_))) if looks < LOOKS => {
                looks += 1;
                tokio::time::sleep(LOOK_EVERY).await;
            }
            other => return other.map_err(words),
        }
    }
}

fn audit(store: &mut Store, at_ms: u64, event: &'static str, text: &str) -> Result<(), String> {
    let entry = AuditEntry { at_ms, event, contract: None, code: None, words: text.to_owned() };
    store.append_audit(&entry).map_err(words)
}

/// Stops this hospital, and waits until a running agent has let go.
///
/// # Errors
/// In words.
pub async fn freeze(folder: &Path, clock: Clock) -> Result<String, String> {
    let network = Network::load(folder)?;
    let (log, now_ms) = (log_of(&network)?, clock.now_ms());
    if frozen(folder).map_err(words)?.is_none() {
        keep(folder, &Frozen { at_ms: now_ms, log_vkey: network.log_vkey.clone(), signed: None, aside: None })?;
    }
    let mut store = held(folder, &log).await?;
    let size = store.ledger().store().published().map_or(0, |head| head.size);
    let text = format!("{} has stopped for the coordinator; it holds the certificate of {size} entries", network.party);
    audit(&mut store, now_ms, "frozen", &text)?;
    Ok(format!(
        "{text}\nIts copy of the ledger, to hand to whoever prepares the new coordinator: {}",
        folder.join("mirror/public").display()
    ))
}

/// Takes the stop back.
///
/// # Errors
/// In words: a Handover was signed.
pub async fn unfreeze(folder: &Path, clock: Clock) -> Result<String, String> {
    let Some(frozen) = frozen(folder).map_err(words)? else { return Ok("this hospital is not frozen".to_owned()) };
    if let Some(identity) = frozen.signed {
        return Err(format!(
            "this hospital has signed the Handover {identity}, or begun to follow it: the others may go on with it at any time. If it signed for the old coordinator \
             again there could be two histories. Follow the new one: leben-worker handover follow"
        ));
    }
    let mut store = held(folder, &log_of(&Network::load(folder)?)?).await?;
    audit(&mut store, clock.now_ms(), "unfrozen", "it was a false alarm")?;
    remove(folder)?;
    Ok("this hospital goes on with its coordinator".to_owned())
}

/// Shows a Handover, and signs it with `yes`.
///
/// # Errors
/// In words: what does not fit.
pub async fn sign(folder: &Path, wish: Wish<'_>, replace: bool, yes: bool, clock: Clock) -> Result<String, String> {
    let (mut file, body) = read_file(wish.file).map_err(words)?;
    let identity = Hash32(file.as_envelope().payload_hash());
    let network = Network::load(folder)?;
    let frozen = frozen(folder).map_err(words)?;
    let frozen = frozen.filter(|frozen| frozen.log_vkey == network.log_vkey).ok_or(
        "this hospital still works for its coordinator: freeze it first, so that nothing becomes final behind the Handover's back: \
         leben-worker handover freeze",
    )?;
    let mut store = held(folder, &log_of(&network)?).await?;
    // Nobody signs away what was certified.
    let state = copy::history(&store, &body, Wish { drop_certificate: false, ..wish })?.state;
    handover::check(&state, &file, clock.now_ms()).map_err(words)?;
    if let Some(other) = frozen.signed.filter(|other| *other != identity)
        && !replace
    {
        return Err(format!(
            "this hospital has signed another Handover, {other}: if both were used there would be two histories. If you are sure that nobody \
             has that file with enough signatures, and nobody will: --replace"
        ));
    }
    let cosigned = store.record().map_err(words)?.map_or(0, |record| record.checkpoint().size);
    let shown = shown(&state, &file, &body, cosigned, clock);
    if !yes {
        return Err(format!("Nothing is signed. To sign it: add --yes. This is what it says:\n\n{}", shown.trim_end()));
    }
    let keys = Keys::load(&folder.join("keys")).map_err(words)?;
    file.sign(&keys.party).map_err(words)?;
    let lacks = handover::check(&state, &file, clock.now_ms()).map_err(words)?;
    // Remembered before the signature exists.
    keep(folder, &Frozen { signed: Some(identity), ..frozen })?;
    audit(&mut store, clock.now_ms(), "handover-signed", &format!("{identity}: from {} entries on", body.size))?;
    durable_replace(wish.file, &file.to_bytes()).map_err(words)?;
    let next = match lacks {
        None => "signed, and complete: leben-coordinator handover finish".to_owned(),
        Some(lacks) => format!("signed; {lacks}. Hand {} on", wish.file.display()),
    };
    Ok(format!("{shown}{next}"))
}

fn shown(state: &State, file: &ActionFile, body: &Handover, cosigned: u64, clock: Clock) -> String {
    let promised = promise(state).map(|promise| promise.to_text()).unwrap_or_default();
    let (goes_on, rest) = (body.size, "somebody may hold a proof of the rest");
    let beyond = format!("NOTE: this hospital cosigned {cosigned} entries and this goes on from {goes_on}: {rest}.\n");
    let beyond = if cosigned > goes_on { beyond } else { String::new() };
    format!(
        "{}It goes on from the {goes_on} entries that this hospital knows: everything it holds a certificate of is kept.\n{beyond}{promised}\n",
        state.action_text(file, clock.now_ms())
    )
}

/// Goes on with the new coordinator.
///
/// # Errors
/// In words: what does not fit. The same command goes on after a crash.
pub async fn follow(folder: &Path, wish: Wish<'_>, address: &str, clock: Clock) -> Result<String, String> {
    let (file, body) = read_file(wish.file).map_err(words)?;
    let network = Network::load(folder)?;
    let (before, now_ms) = (log_of(&network)?, clock.now_ms());
    let log = VerifierKey::new(&network.origin, KeyType::Ed25519, body.log_key).map_err(words)?;
    let mut dropped = String::new();
    if before != log {
        let frozen = frozen(folder).map_err(words)?;
        // From here until the end, whatever happens, this hospital signs for nobody.
        let fresh = || Frozen { at_ms: now_ms, log_vkey: network.log_vkey.clone(), signed: None, aside: None };
        keep(folder, &frozen.unwrap_or_else(fresh))?;
        let mut store = held(folder, &before).await?;
        let History { state, later } = copy::history(&store, &body, wish)?;
        if let Some(lacks) = handover::check(&state, &file, now_ms).map_err(words)? {
            return Err(format!(
                "{lacks}: without a quorum of the hospitals nobody may go on. This hospital stays frozen"
            ));
        }
        // Whoever is interrupted in what follows can only go on with it: the old key's record may be cut back already.
        let identity = Hash32(file.as_envelope().payload_hash());
        let (signed, aside) = (Some(identity), copy::aside(&body));
        let begun = Frozen { at_ms: now_ms, log_vkey: network.log_vkey.clone(), signed, aside: Some(aside.clone()) };
        keep(folder, &begun)?;
        let keys = [vec![log.clone()], state.log_vkeys()].concat();
        if let Some(later) = &later {
            dropped = later.set_aside(&mut store, &folder.join(&aside), now_ms)?;
        }
        let kept = copy::cut_back(folder, store, &aside, &keys, later.as_ref())?;
        let network = Network {
            address: address.to_owned(),
            coordinator_key: body.coordinator.keys.tls.to_hex(),
            log_vkey: log.to_string(),
            ..network
        };
        // From here on the new key is this hospital's, over everything that was made ready above.
        keep_network(folder, &network)?;
        let mut store = held(folder, &log).await?;
        let text = format!("{} from {} entries on; this copy goes on from {kept}", body.coordinator.party, body.size);
        audit(&mut store, now_ms, "followed", &text)?;
    } else if let Some(frozen) = frozen(folder).map_err(words)? {
        // Only who was interrupted after the new key had become this hospital's has come that far with this very file.
        let identity = Hash32(file.as_envelope().payload_hash());
        if frozen.log_vkey == network.log_vkey || frozen.signed != Some(identity) {
            return Err("this Handover brings the key that this hospital has stopped for: it stays frozen".to_owned());
        }
    }
    let said = match Network::load(folder)? {
        network if network.address != address => {
            keep_network(folder, &Network { address: address.to_owned(), ..network })?;
            "restart the agent if it runs: it knows another address"
        }
        _ => "the agent goes on by itself if it runs",
    };
    remove(folder)?;
    let stopped =
        evidence::halted(folder).map_err(words)?.is_some() || !evidence::uncleared(folder).map_err(words)?.is_empty();
    let but = if stopped {
        "\nBUT this hospital signs nothing yet: look at leben-worker evidence list, then leben-worker evidence clear"
    } else {
        ""
    };
    let said = format!("{dropped}following {} at {address}; {said}{but}", body.coordinator.party);
    Ok(match Config::load(folder).ok().and_then(|config| config.address) {
        Some(other) if other != address => format!("{said}\nBUT worker.toml says address = \"{other}\": change it"),
        _ => said,
    })
}
