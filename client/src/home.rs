//! The folder of one AI team: its keys, which network it belongs to, and its own copy of the ledger.
//!
//! ```text
//! leben-home/
//!   keys/party.key tls.key sealing.key   64 hex digits each, readable by the owner alone
//!   keys/next/ old/                      new keys on their way to the ledger; old ones that still open results
//!   network.json                         what the invite said, without its code
//!   ledger/                              a verified copy of the log: any C2SP tool reads it
//!   ledger.state/                        what makes that copy durable
//!   contracts/<id>/                      the job file and the text of each contract proposed from here
//!   evidence/                            contradictory checkpoints, if the log ever forks
//! ```
//!
//! Lost keys: the team enrols anew; results sealed to the lost key stay closed. The rest is fetched again.

mod keys;

use std::fs;
use std::path::{Path, PathBuf};

use leben_contracts::agreement::party::{NameError, PartyId};
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::keyfile::{self, KeyFileError};
use leben_contracts::ledger::keyring::{Keyring, KeyringError};
use leben_contracts::ledger::note::{NoteError, VerifierKey};
use leben_contracts::ledger::store::{StoreError, durable_replace};
use leben_protocol::invite::{Invite, InviteError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

pub use keys::USES;

use keys::HomeKeys;

/// Where the keys of a new home come from: fresh randomness, made in `io`.
pub struct Seeds {
    /// Signs actions.
    pub party: Zeroizing<[u8; 32]>,
    /// Identifies this end of a connection.
    pub tls: Zeroizing<[u8; 32]>,
    /// Opens results.
    pub sealing: Zeroizing<[u8; 32]>,
}

/// Which network a home belongs to. Public.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HomeNetwork {
    /// Where the coordinator listens, `host:port`.
    pub address: String,
    /// Its ed25519 link key, 64 hex digits.
    pub coordinator_key: String,
    /// Origin of the log.
    pub origin: String,
    /// The log's key in C2SP form.
    pub log_vkey: String,
    /// This party's name.
    pub party: String,
}

/// An opened home.
pub struct Home {
    root: PathBuf,
    network: HomeNetwork,
    party: PartyId,
    log: VerifierKey,
    coordinator_key: [u8; 32],
    keys: HomeKeys,
    next: Option<HomeKeys>,
    next_in_force: bool,
    old_sealing: Vec<Zeroizing<[u8; 32]>>,
}

/// Why a home cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// No home there.
    #[error(
        "{0} is not a home yet: run `leben keygen <invite> --home {0}` with the invite that the coordinator's admin gave you"
    )]
    Missing(PathBuf),
    /// The home is another party's or another network's.
    #[error("{root} belongs to {party} in {origin}; the invite is for another one: choose another folder with --home")]
    Other {
        /// The folder.
        root: PathBuf,
        /// Whose it is.
        party: String,
        /// Where.
        origin: String,
    },
    /// An invite of another kind.
    #[error("this invite is for a {0}; a hospital joins with `leben-worker join <invite>`")]
    Kind(String),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// The folder of keys.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The invite.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// network.json holds something else.
    #[error("{path} cannot be read: {why}; write it again with `leben keygen <invite>`")]
    Network {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The disk.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Home {
    /// Makes a home from an invite, or opens the one that the same invite made before. Keys that exist are kept.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn create(root: &Path, invite: &Invite, seeds: &Seeds) -> Result<Home, HomeError> {
        if !["team", "admin"].contains(&invite.kind.as_str()) {
            return Err(HomeError::Kind(invite.kind.clone()));
        }
        let mut network = HomeNetwork {
            address: invite.address.clone(),
            coordinator_key: hex::encode(invite.coordinator_key()?),
            origin: invite.origin.clone(),
            log_vkey: invite.log_vkey.clone(),
            party: invite.party.clone(),
        };
        let path = root.join("network.json");
        if let Some(old) = read_network(&path)? {
            if old.party != network.party || old.origin != network.origin {
                return Err(HomeError::Other { root: root.to_owned(), party: old.party, origin: old.origin });
            }
            // Another key in a newer invite is believed only as far as the ledger itself leads from the first one to it.
            network.log_vkey = old.log_vkey;
        }
        check(&path, &network)?;
        for (name, seed) in [("party", &seeds.party), ("tls", &seeds.tls), ("sealing", &seeds.sealing)] {
            keyfile::load_or_create(&key_path(root, name), seed)?;
        }
        write_network(&path, &network)?;
        Home::open(root)
    }

    /// Opens a home.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn open(root: &Path) -> Result<Home, HomeError> {
        let path = root.join("network.json");
        let network = read_network(&path)?.ok_or_else(|| HomeError::Missing(root.to_owned()))?;
        let (party, log, coordinator_key) = check(&path, &network)?;
        let load = |name: &str| keyfile::load(&key_path(root, name));
        let seed = |name: &str| load(name).map(|key| Zeroizing::new(key.to_bytes()));
        let keys = HomeKeys { party: load("party")?, tls: seed("tls")?, sealing: seed("sealing")? };
        let ring = Keyring::new(&root.join("keys"));
        let next = ring.next()?.map(|next| keys.with(&next));
        let old = ring.old("sealing")?.iter().map(|key| Zeroizing::new(key.to_bytes())).collect();
        let (root, next_in_force, old_sealing) = (root.to_owned(), false, old);
        Ok(Home { root, network, party, log, coordinator_key, keys, next, next_in_force, old_sealing })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Which network.
    pub fn network(&self) -> &HomeNetwork {
        &self.network
    }

    /// This party's name on the ledger.
    pub fn party(&self) -> &PartyId {
        &self.party
    }

    /// The log's key.
    pub fn log(&self) -> &VerifierKey {
        &self.log
    }

    /// The coordinator's link key.
    pub fn coordinator_key(&self) -> [u8; 32] {
        self.coordinator_key
    }

    /// Believes the coordinator's link key that the ledger has in force, where the one kept here was replaced on the ledger; a newer
    /// invite may know more than this copy of the ledger.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn trust(&mut self, state: &State) -> Result<(), HomeError> {
        let now = state.coordinator().and_then(|party| state.keys(party.as_str())).map(|keys| keys.tls.to_bytes());
        let Some(now) = now.filter(|_| state.former_tls_key(&self.coordinator_key).is_some()) else { return Ok(()) };
        self.network.coordinator_key = hex::encode(now);
        self.coordinator_key = now;
        write_network(&self.root.join("network.json"), &self.network)
    }

    /// Another coordinator, after a Handover: where it is, and its link key. What it shows is still checked against this home's own copy.
    ///
    /// # Errors
    /// [`HomeError`].
    pub fn set_coordinator(&mut self, address: &str, key: [u8; 32]) -> Result<(), HomeError> {
        self.network.address = address.to_owned();
        self.network.coordinator_key = hex::encode(key);
        self.coordinator_key = key;
        write_network(&self.root.join("network.json"), &self.network)
    }

    /// The copy of the published log.
    pub fn ledger_dir(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// What makes that copy durable.
    pub fn ledger_state_dir(&self) -> PathBuf {
        self.root.join("ledger.state")
    }

    /// Where contradictory checkpoints are kept.
    pub fn evidence_dir(&self) -> PathBuf {
        self.root.join("evidence")
    }

    /// The folder of one contract.
    pub fn contract_dir(&self, contract: &str) -> PathBuf {
        self.root.join("contracts").join(contract)
    }
}

fn key_path(root: &Path, name: &str) -> PathBuf {
    root.join("keys").join(format!("{name}.key"))
}

fn write_network(path: &Path, network: &HomeNetwork) -> Result<(), HomeError> {
    let wrong = |error: serde_json::Error| HomeError::Network { path: path.to_owned(), why: error.to_string() };
    Ok(durable_replace(path, &serde_json::to_vec_pretty(network).map_err(wrong)?)?)
}

fn read_network(path: &Path) -> Result<Option<HomeNetwork>, HomeError> {
    let wrong = |why: String| HomeError::Network { path: path.to_owned(), why };
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| wrong(error.to_string())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(wrong(error.to_string())),
    }
}

fn check(path: &Path, network: &HomeNetwork) -> Result<(PartyId, VerifierKey, [u8; 32]), HomeError> {
    let wrong = |why: String| HomeError::Network { path: path.to_owned(), why };
    let party = PartyId::new(&network.party).map_err(|error: NameError| wrong(error.to_string()))?;
    let log = VerifierKey::parse(&network.log_vkey).map_err(|error: NoteError| wrong(error.to_string()))?;
    if log.name() != network.origin {
        return Err(wrong(format!("the log's key is named '{}', the log '{}'", log.name(), network.origin)));
    }
    let mut key = [0; 32];
    hex::decode_to_slice(&network.coordinator_key, &mut key)
        .map_err(|_| wrong("the coordinator's key is not 64 hex digits".into()))?;
    Ok((party, log, key))
}
