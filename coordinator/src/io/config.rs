//! `coordinator.toml`: what the operator sets.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use leben_contracts::ledger::note::{KeyType, VerifierKey};
use leben_privacy::Suite;
use leben_protocol::http::Url;
use serde::{Deserialize, Serialize};

/// The annotated default, as `leben-coordinator init` writes it.
pub const TEMPLATE: &str = r#"# The coordinator's settings. Every key is shown with its default; times are milliseconds.

# Name of the log, part of every checkpoint. Fixed when the ledger is made.
origin = "@ORIGIN@"

# This organisation's party id on the ledger: [a-z0-9.-], at most 64.
party = "@PARTY@"

# Where workers and AI teams reach this coordinator over QUIC (UDP).
listen = "127.0.0.1:7443"

# What invites tell newcomers to dial, host:port. Left out: the same as `listen`.
# public_address = "leben.example:443"

# Prometheus metrics over HTTP, and the published ledger folder under /ledger/. Left out: no HTTP at all.
# http = "127.0.0.1:7480"

# How long a hospital may be away before its seat in a round counts as lost. 500 to 3600000.
away_ms_max = 30000

# What hospitals make their masks from: "aes-256-ctr", or "chacha20" where their processors have no AES instructions.
mask_suite = "aes-256-ctr"

# Most entries in one batch of the ledger (1 to 256).
batch_entries_max = 256

# Witnesses outside the network (C2SP tlog-witness) that are asked for a cosignature of every checkpoint. It is published with the
# hospitals' own; nothing waits for it. One block each.
# [[outside_witness]]
# vkey = "university.example/witness+1234abcd+AAAA..."
# url = "http://witness.university.example:7490"
"#;

/// What the operator sets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Name of the log.
    pub origin: String,
    /// This organisation's party id.
    pub party: String,
    /// UDP address to listen on.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// What invites tell newcomers to dial.
    #[serde(default)]
    pub public_address: Option<String>,
    /// TCP address for metrics and the published ledger.
    #[serde(default)]
    pub http: Option<SocketAddr>,
    /// Milliseconds until an absent hospital counts as lost.
    #[serde(default = "default_away_ms_max")]
    pub away_ms_max: u64,
    /// What hospitals make their masks from: `aes-256-ctr`, or `chacha20` where processors have no AES instructions.
    #[serde(default)]
    pub mask_suite: Suite,
    /// Most entries in a batch.
    #[serde(default = "default_batch_entries_max")]
    pub batch_entries_max: usize,
    /// Witnesses outside the network.
    #[serde(default)]
    pub outside_witness: Vec<OutsideEntry>,
}

/// One `[[outside_witness]]` as it is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutsideEntry {
    /// Its key in C2SP form, of type 0x04.
    pub vkey: String,
    /// What comes before `/add-checkpoint`.
    pub url: String,
}

/// The same, read.
#[derive(Clone, Debug)]
pub struct OutsideWitness {
    /// Its key.
    pub vkey: VerifierKey,
    /// Where it is asked.
    pub url: Url,
}

impl OutsideEntry {
    fn read(&self) -> Result<OutsideWitness, String> {
        let vkey = VerifierKey::parse(&self.vkey).map_err(|error| error.to_string())?;
        if vkey.kind() != KeyType::Cosignature {
            return Err(format!("{} is not a witness's key (type 0x04)", vkey.name()));
        }
        let url = Url::parse(&self.url).map_err(|error| error.to_string())?;
        Ok(OutsideWitness { vkey, url })
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file.
    #[error("{path} cannot be read: {error}; make it with: leben-coordinator init")]
    Read {
        /// Where.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Its content.
    #[error("{path}: {error}")]
    Parse {
        /// Where.
        path: PathBuf,
        /// Line, key and what was expected.
        error: Box<toml::de::Error>,
    },
    /// A value out of its range.
    #[error("{path}: `{key}` must be {expected}")]
    Range {
        /// Where.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// Its range.
        expected: &'static str,
    },
    /// An outside witness that cannot be asked.
    #[error("{path}: [[outside_witness]] {why}")]
    Outside {
        /// Where.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7443))
}

fn default_away_ms_max() -> u64 {
    30_000
}

fn default_batch_entries_max() -> usize {
    256
}

impl Config {
    /// Defaults for this origin and party.
    pub fn new(origin: &str, party: &str) -> Config {
        Config {
            origin: origin.to_owned(),
            party: party.to_owned(),
            listen: default_listen(),
            public_address: None,
            http: None,
            away_ms_max: default_away_ms_max(),
            mask_suite: Suite::default(),
            batch_entries_max: default_batch_entries_max(),
            outside_witness: Vec::new(),
        }
    }

    /// Reads and checks the file.
    pub fn load(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        let config: Config = toml::from_str(&text)
            .map_err(|error| ConfigError::Parse { path: path.to_owned(), error: Box::new(error) })?;
        let range = |key, expected| Err(ConfigError::Range { path: path.to_owned(), key, expected });
        if !(500..=3_600_000).contains(&config.away_ms_max) {
            return range("away_ms_max", "from 500 to 3600000 milliseconds");
        }
        if !(1..=256).contains(&config.batch_entries_max) {
            return range("batch_entries_max", "from 1 to 256 entries");
        }
        let outside = |why| ConfigError::Outside { path: path.to_owned(), why };
        config.outside_witnesses().map_err(outside)?;
        Ok(config)
    }

    /// The witnesses outside the network.
    pub fn outside_witnesses(&self) -> Result<Vec<OutsideWitness>, String> {
        self.outside_witness.iter().map(OutsideEntry::read).collect()
    }

    /// The template with this origin and party filled in.
    pub fn template(origin: &str, party: &str) -> String {
        TEMPLATE.replace("@ORIGIN@", origin).replace("@PARTY@", party)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_is_the_default_and_mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coordinator.toml");
        std::fs::write(&path, Config::template("ledger.example/one", "coordinator")).unwrap();
        assert_eq!(Config::load(&path).unwrap(), Config::new("ledger.example/one", "coordinator"));
        for (text, named) in [
            ("origin = 'a'\nparty = 'b'\nlissten = '1.2.3.4:5'", "lissten"),
            ("origin = 'a'\nparty = 'b'\naway_ms_max = 3", "away_ms_max"),
            ("origin = 'a'", "party"),
            ("origin = 'a'\nparty = 'b'\n[[outside_witness]]\nvkey = 'w'\nurl = 'http://w'", "outside_witness"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(Config::load(&path).unwrap_err().to_string().contains(named), "{named}");
        }
    }
}
