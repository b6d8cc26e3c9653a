//! How a hospital comes in: it makes its keys here, and sends only the public ones, signed by the new party key.

use std::fs;
use std::path::Path;

use leben_contracts::agreement::body::{Body, PartyEnrol};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::party::{OrgKind, PartyId, Role};
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::keyring::Keyring;
use leben_contracts::ledger::note::VerifierKey;
use leben_contracts::ledger::store::{durable_replace, ensure_dir};
use leben_protocol::frame::{Answer, Request};
use leben_protocol::invite::{Invite, code_hash};
use leben_protocol::quic::{Connection, Dialer, resolve};
use serde::{Deserialize, Serialize};

use super::clock::{Clock, fresh_seed};
use super::config::{FILE, TEMPLATE};
use super::keys::Keys;
use super::request;
use super::rotation::{KEPT, USES};
use crate::agent::compare_clocks;

/// How long a signed enrolment may be on its way, milliseconds.
const ENROL_VALID_MS: u64 = 60 * 60 * 1000;

/// Which network this is: written once, from the invite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Network {
    /// Where the coordinator listens, `host:port`.
    pub address: String,
    /// Its ed25519 link key, hex.
    pub coordinator_key: String,
    /// Origin of the log.
    pub origin: String,
    /// The log's key in C2SP form.
    pub log_vkey: String,
    /// This hospital.
    pub party: String,
}

impl Network {
    /// Reads `network.json`.
    ///
    /// # Errors
    /// In words.
    pub fn load(folder: &Path) -> Result<Network, String> {
        let path = folder.join("network.json");
        let bytes = fs::read(&path).map_err(|error| {
            format!("cannot read {}: {error}; join a network first: leben-worker join <invite>", path.display())
        })?;
        serde_json::from_slice(&bytes).map_err(|error| format!("{} is damaged: {error}", path.display()))
    }

    /// The coordinator's key as bytes.
    ///
    /// # Errors
    /// In words.
    pub fn key(&self) -> Result<[u8; 32], String> {
        let mut key = [0; 32];
        hex::decode_to_slice(&self.coordinator_key, &mut key)
            .map_err(|_| "network.json: coordinator_key is not 64 hex digits".to_owned())?;
        Ok(key)
    }

    /// Dials the coordinator once.
    ///
    /// # Errors
    /// In words.
    pub async fn dial(&self, keys: &Keys, address: Option<&str>) -> Result<Connection, String> {
        let dialer = Dialer::new(&keys.tls.to_bytes()).map_err(|error| error.to_string())?;
        let address = resolve(address.unwrap_or(&self.address)).await.map_err(|error| error.to_string())?;
        dialer.dial(address, self.key()?).await.map_err(|error| error.to_string())
    }
}

/// Joins: makes what is missing in `folder`, enrols, and returns the index of the enrolment; `None` where these keys are enrolled
/// already, so that a newer invite only says where the coordinator is now, and with which link key. Running it again after a
/// cut goes on where it was; keys are never made twice.
///
/// # Errors
/// In words for the person at the command line.
pub async fn join(invite: &str, folder: &Path, clock: Clock) -> Result<Option<u64>, String> {
    come_in(invite, folder, clock, false).await
}

/// The same for a hospital whose keys were revoked: the old ones are put aside and new ones made.
///
/// # Errors
/// As [`join`].
pub async fn join_again(invite: &str, folder: &Path, clock: Clock) -> Result<Option<u64>, String> {
    come_in(invite, folder, clock, true).await
}

async fn come_in(invite: &str, folder: &Path, clock: Clock, new_keys: bool) -> Result<Option<u64>, String> {
    let invite = Invite::parse(invite).map_err(|error| error.to_string())?;
    if invite.kind != "hospital" {
        return Err(format!("this invite is for a {}, not for a hospital; a team uses `leben keygen`", invite.kind));
    }
    let network = Network {
        address: invite.address.clone(),
        coordinator_key: invite.coordinator_key.clone(),
        origin: invite.origin.clone(),
        log_vkey: invite.log_vkey.clone(),
        party: invite.party.clone(),
    };
    let log = VerifierKey::parse(&network.log_vkey).map_err(|error| format!("the invite's log key: {error}"))?;
    if log.name() != network.origin {
        return Err("the invite's log key is of another log than the invite; ask for a new one".into());
    }
    if let Ok(before) = Network::load(folder)
        && (before.origin != network.origin || before.party != network.party)
    {
        let (party, origin) = (before.party, before.origin);
        return Err(format!(
            "{} belongs to {party} on {origin} already; use another folder with --dir",
            folder.display()
        ));
    }
    if Network::load(folder).is_ok_and(|before| before.log_vkey != network.log_vkey) {
        return Err("this invite is of another coordinator than this hospital follows, with another key of the log: hospitals go over to it \
                    with the Handover that they signed: leben-worker handover follow"
            .into());
    }
    let disk = |error: leben_contracts::ledger::store::StoreError| error.to_string();
    ensure_dir(folder).map_err(disk)?;
    if new_keys {
        let ring = Keyring::new(&folder.join("keys"));
        ring.replace_all(&USES, &KEPT, fresh_seed).map_err(|error| error.to_string())?;
    }
    let keys = Keys::load_or_create(&folder.join("keys")).map_err(|error| error.to_string())?;
    let configuration = folder.join(FILE);
    if !configuration.exists() {
        durable_replace(&configuration, TEMPLATE.as_bytes()).map_err(disk)?;
    }
    let bytes = serde_json::to_vec_pretty(&network).map_err(|error| error.to_string())?;
    durable_replace(&folder.join("network.json"), &bytes).map_err(disk)?;
    enrol(&invite, &network, &keys, clock).await
}

async fn enrol(invite: &Invite, network: &Network, keys: &Keys, clock: Clock) -> Result<Option<u64>, String> {
    let link = network.dial(keys, None).await?;
    let (answer, writer, reader) = request::ask(&link, Request::Network).await.map_err(|error| error.to_string())?;
    request::part(writer, reader).await;
    let Answer::Network(said) = answer else {
        return Err("the coordinator does not say which network it serves".into());
    };
    if said.origin != network.origin || said.log_vkey != network.log_vkey {
        return Err(format!("the invite is for '{}', the coordinator serves '{}'", network.origin, said.origin));
    }
    compare_clocks(clock.now_ms(), said.now_ms).map_err(|refusal| refusal.words)?;
    // Only a key that is enrolled gets a file of the ledger.
    let asked = request::ask(&link, Request::LedgerFile { path: "checkpoint".into() }).await;
    if matches!(asked, Ok((Answer::Blob { .. }, ..))) {
        link.close_and_wait("joined").await;
        return Ok(None);
    }
    let envelope = envelope(invite, network, keys, clock.now_ms())?;
    let request = Request::Enrol { envelope, code: invite.code.clone() };
    let (answer, writer, reader) = request::ask(&link, request).await.map_err(|error| error.to_string())?;
    request::part(writer, reader).await;
    link.close_and_wait("joined").await;
    match answer {
        Answer::Appended { index, .. } => Ok(Some(index)),
        Answer::Rejected(reject) => Err(reject.to_string()),
        _ => {
            Err("the coordinator gave an answer that does not fit; check that both run versions that fit together"
                .into())
        }
    }
}

fn envelope(invite: &Invite, network: &Network, keys: &Keys, now_ms: u64) -> Result<Vec<u8>, String> {
    let party = PartyId::new(&invite.party).map_err(|error| format!("the invite: {error}"))?;
    let code = code_hash(&invite.code);
    let body = Body::PartyEnrol(PartyEnrol {
        party: party.clone(),
        kind: OrgKind::Hospital,
        roles: vec![Role::DataOwner],
        keys: keys.public(),
        sealing: keys.sealing_public(),
        invite_hash: code.parse().map_err(|_| "the invite's code cannot be hashed".to_owned())?,
    });
    let random = fresh_seed().map_err(|error| error.to_string())?;
    let nonce = random.first_chunk::<16>().copied().unwrap_or_default();
    let header = Header { actor: &party, role: Role::DataOwner, now_ms, valid_ms: ENROL_VALID_MS, nonce };
    let action = State::new(&network.origin).draft(&body, None, &header).map_err(|error| error.to_string())?;
    Envelope::sign(&action, &[&keys.party]).map(|envelope| envelope.to_bytes()).map_err(|error| error.to_string())
}
