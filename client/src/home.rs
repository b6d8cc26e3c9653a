//! The folder of one AI team: its keys, which network it belongs to, and its own copy of the ledger.
//!
//! ```text
//! leben-home/
//!   keys/party.key tls.key sealing.key   64 hex digits each, readable by the owner alone
//!   network.json                         what the invite said, without its code
//!   ledger/                              a verified copy of the log: any C2SP tool reads it
//!   ledger.state/                        what makes that copy durable
//!   contracts/<id>/                      the job file and the text of each contract proposed from here
//!   evidence/                            contradictory checkpoints, if the log ever forks
//! ```
//!
//! Lost keys: the team enrols anew; results sealed to the lost key stay closed. The rest is fetched again.

use std::fs;
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::{NameError, PartyId, PartyKeys};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile::{self, KeyFileError};
use leben_contracts::ledger::note::{NoteError, VerifierKey};
use leben_contracts::ledger::store::{StoreError, durable_replace};
use leben_protocol::invite::{Invite, InviteError};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

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
    party_key: SigningKey,
    tls_seed: Zeroizing<[u8; 32]>,
    sealing: Zeroizing<[u8; 32]>,
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
        if invite.kind != "team" {
            return Err(HomeError::Kind(invite.kind.clone()));
        }
        let network = HomeNetwork {
            address: invite.address.clone(),
            coordinator_key: hex::encode(invite.coordinator_key()?),
            origin: invite.origin.clone(),
            log_vkey: invite.log_vkey.clone(),
            party: invite.party.clone(),
        };
        let path = root.join("network.json");
        if let Some(old) = read_network(&path)?
            && (old.party != network.party || old.origin != network.origin || old.log_vkey != network.log_vkey)
        {
            return Err(HomeError::Other { root: root.to_owned(), party: old.party, origin: old.origin });
        }
        check(&path, &network)?;
        for (name, seed) in [("party", &seeds.party), ("tls", &seeds.tls), ("sealing", &seeds.sealing)] {
            keyfile::load_or_create(&key_path(root, name), seed)?;
        }
        let text = serde_json::to_vec_pretty(&network)
            .map_err(|error| HomeError::Network { path: path.clone(), why: error.to_string() })?;
        durable_replace(&path, &text)?;
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
        let tls_seed = Zeroizing::new(load("tls")?.to_bytes());
        let sealing = Zeroizing::new(load("sealing")?.to_bytes());
        Ok(Home {
            root: root.to_owned(),
            network,
            party,
            log,
            coordinator_key,
            party_key: load("party")?,
            tls_seed,
            sealing,
        })
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

    /// Signs actions.
    pub fn party_key(&self) -> &SigningKey {
        &self.party_key
    }

    /// Seed of the link key.
    pub fn tls_seed(&self) -> &[u8; 32] {
        &self.tls_seed
    }

    /// Opens results.
    pub fn sealing_secret(&self) -> &[u8; 32] {
        &self.sealing
    }

    /// What results are sealed to.
    pub fn sealing_public(&self) -> X25519Key {
        X25519Key(leben_protocol::seal::public_of(&self.sealing))
    }

    /// The public keys to enrol.
    pub fn public_keys(&self) -> PartyKeys {
        let tls = PublicKey::of(&SigningKey::from_bytes(&self.tls_seed));
        PartyKeys { party: PublicKey::of(&self.party_key), witness: None, validator: None, tls }
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
