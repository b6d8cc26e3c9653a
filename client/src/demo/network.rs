//! The demo's network: a coordinator and four hospitals, each in a folder of its own, joined by QUIC over loopback alone.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use leben_coordinator::io as coordinator;
use leben_coordinator::io::config::Config;
use leben_coordinator::io::store::Invited;
use leben_protocol::invite::Invite;
use leben_worker::io as worker;
use leben_worker::io::clock::Clock;

use super::count::Counter;
use super::data::{HOSPITALS, Rows};
use crate::home::Home;
use crate::io::enrol::enrol;
use crate::io::now_ms;

/// How long a hospital may be away before its seat counts as lost: short, so that the demo's cut is felt.
const AWAY_MS_MAX: u64 = 1_000;
/// How long the cut lasts: longer than that.
const CUT: Duration = Duration::from_millis(2_500);
/// The hospital that is cut off.
const CUT_HOSPITAL: usize = 2;
/// Before the first chunk of which of its uploads: two rounds standardise, this is the third round of the fit.
const CUT_UPLOAD: u64 = 5;
/// Credits the AI team starts with.
const CREDITS: u64 = 5_000;

/// Everything that runs.
pub struct Network {
    /// The coordinator.
    pub coordinator: coordinator::Running,
    /// The hospitals.
    pub hospitals: Vec<Hospital>,
    /// The AI team.
    pub team: Home,
    /// Bytes on the coordinator's links.
    pub counter: Arc<Counter>,
    dir: PathBuf,
}

/// One hospital.
pub struct Hospital {
    /// Its party id.
    pub name: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its agent.
    pub agent: worker::Handle,
}

impl Network {
    /// Makes folders and keys, starts everybody and enrols them.
    pub async fn start(out: &Path, rows: &Rows, mut say: impl FnMut(String)) -> Result<Network, String> {
        let dir = out.join("coordinator");
        let config = Config {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            away_ms_max: AWAY_MS_MAX,
            ..Config::new("ledger.leben.example/demo", "coordinator")
        };
        let settings = toml::to_string(&config).map_err(words)?;
        coordinator::setup::init(&dir, &config, &settings, "admin").map_err(words)?;
        let counter = Arc::new(Counter::default());
        let running = coordinator::start(&dir, Some(counter.clone())).await.map_err(words)?;
        say(format!("coordinator on {} (QUIC, TLS 1.3, both sides known by their keys)", running.address));
        let address = running.address.to_string();
        let mut hospitals = Vec::new();
        for (at, (name, count)) in HOSPITALS.into_iter().enumerate() {
            let invite = invite(&dir, name, "hospital", 0, &address)?;
            let agent = hospital(out, at, rows, &invite).await?;
            say(format!("{name}: its own folder, its own keys, {count} rows that never leave it"));
            hospitals.push(agent);
        }
        let invite = invite(&dir, "ai-team", "team", CREDITS, &address)?;
        let team = enrol(&out.join("ai-team"), &invite).await.map_err(words)?.home;
        say(format!("ai-team: enrolled with {CREDITS} credits"));
        Ok(Network { coordinator: running, hospitals, team, counter, dir })
    }

    /// The hospitals' link keys, for counting their bytes.
    pub fn hospital_keys(&self) -> HashSet<[u8; 32]> {
        self.coordinator.ledger.with_final(|state, _| {
            let key = |hospital: &Hospital| state.keys(&hospital.name).map(|keys| keys.tls.to_bytes());
            self.hospitals.iter().filter_map(key).collect()
        })
    }

    /// The published ledger's folder.
    pub fn ledger_folder(&self) -> PathBuf {
        self.dir.join("ledger")
    }

    /// Lets one hospital be cut off in the middle of a later upload; it comes back by itself.
    pub fn cut_later(&self) {
        if let Some(hospital) = self.hospitals.get(CUT_HOSPITAL) {
            hospital.agent.cut_in_upload(CUT_UPLOAD, CUT);
        }
    }

    /// Stops everybody in peace.
    pub async fn stop(self) {
        for hospital in self.hospitals {
            // Everything worth saying has been said; how an agent ended is in its own log.
            let _ = hospital.agent.stop().await;
        }
        self.coordinator.stop().await;
    }
}

fn invite(dir: &Path, party: &str, kind: &str, credits: u64, address: &str) -> Result<Invite, String> {
    let expires_ms = now_ms() + 3_600_000;
    let invited = Invited { party: party.into(), kind: kind.into(), credits, expires_ms };
    coordinator::setup::invite(dir, &invited, Some(address.to_owned())).map_err(words)
}

async fn hospital(out: &Path, at: usize, rows: &Rows, invite: &Invite) -> Result<Hospital, String> {
    let folder = out.join(&invite.party);
    fs::create_dir_all(&folder).map_err(words)?;
    fs::write(folder.join("breast.csv"), rows.csv(at)).map_err(words)?;
    fs::write(folder.join("worker.toml"), rows.worker_toml()).map_err(words)?;
    worker::join(&invite.to_text(), &folder, Clock::default()).await?;
    let config = worker::Config::load(&folder).map_err(words)?;
    let agent = worker::spawn(config, worker::Options::default()).map_err(words)?;
    Ok(Hospital { name: invite.party.clone(), folder, agent })
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
