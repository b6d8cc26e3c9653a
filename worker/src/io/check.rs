//! `leben-worker check`: is this machine fit to take part? In words that an IT person can act on.

use std::path::Path;
use std::process::Command;

use leben_contracts::ledger::store::durable_replace;
use leben_protocol::frame::{Answer, Request};
use leben_protocol::key::fingerprint;

use super::clock::Clock;
use super::config::Config;
use super::join::Network;
use super::keys::Keys;
use super::{handover, request, sources};
use crate::agent::{CLOCK_WARN_MS, compare_clocks};

/// One thing that was looked at.
pub struct Line {
    /// What.
    pub what: String,
    /// Fit, or not.
    pub ok: bool,
    /// In words.
    pub words: String,
}

/// Looks at everything. Nothing is changed beside a probe file that is written and removed.
pub async fn check(folder: &Path, clock: Clock) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut say = |what: &str, found: Result<String, String>| {
        let (ok, words) = match found {
            Ok(words) => (true, words),
            Err(words) => (false, words),
        };
        lines.push(Line { what: what.to_owned(), ok, words });
    };
    let config = Config::load(folder);
    say(
        "configuration",
        config.as_ref().map(|c| format!("{} data sets", c.datasets.len())).map_err(ToString::to_string),
    );
    if !matches!(handover::frozen(folder), Ok(None)) {
        say("handover", Err(handover::FROZEN.to_owned()));
    }
    let keys = Keys::load(&folder.join("keys"));
    let party = keys.as_ref().map(|keys| format!("link key {}", fingerprint(&keys.public().tls.to_bytes())));
    say("keys", party.map_err(ToString::to_string));
    let network = Network::load(folder);
    match (&network, &keys) {
        (Ok(network), Ok(keys)) => {
            let address = config.as_ref().ok().and_then(|config| config.address.clone());
            let (link, time) = check_network(network, keys, address.as_deref(), clock).await;
            say("network", link);
            say("clock", time);
        }
        (Err(why), _) => say("network", Err(why.clone())),
        _ => {}
    }
    let needed_mib = config.as_ref().map_or(256, |config| config.disk_free_min_mib);
    say("disk", check_disk(folder, needed_mib));
    for dataset in config.iter().flat_map(|config| &config.datasets) {
        let found = match sources::check(&dataset.source, folder) {
            Ok(report) if report.is_loadable() => Ok(report.to_string()),
            Ok(report) => Err(report.to_string()),
            Err(error) => Err(error.to_string()),
        };
        // The line names it already.
        let what = format!("data set '{}'", dataset.source.name);
        let named = |words: String| match words.strip_prefix(&what) {
            Some(rest) => rest.trim_start_matches([':', ' ']).to_owned(),
            None => words,
        };
        say(&what, found.map(named).map_err(named));
    }
    lines
}

async fn check_network(
    network: &Network,
    keys: &Keys,
    address: Option<&str>,
    clock: Clock,
) -> (Result<String, String>, Result<String, String>) {
    let unknown = || Err("cannot be compared without a link to the coordinator".to_owned());
    let link = match network.dial(keys, address).await {
        Ok(link) => link,
        Err(why) => return (Err(why), unknown()),
    };
    let asked = request::ask(&link, Request::Network).await;
    // Anybody may ask what network this is; only a key that is enrolled gets a file of the ledger.
    let enrolled = request::ask(&link, Request::LedgerFile { path: "checkpoint".into() }).await;
    let rtt_us = link.rtt_us();
    link.close("checked");
    let said = match asked {
        Ok((Answer::Network(said), ..)) => said,
        Ok(_) => return (Err("the coordinator gave an answer that does not fit".into()), unknown()),
        Err(error) => return (Err(error.to_string()), unknown()),
    };
    let refused = match enrolled {
        Ok((Answer::Rejected(reject), ..)) => Some(reject.to_string()),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    let found = match (said.origin == network.origin && said.log_vkey == network.log_vkey, refused) {
        (true, None) => Ok(format!("{} with {} entries, {} ms away", said.origin, said.size, rtt_us / 1000)),
        (true, Some(why)) => Err(why),
        (false, _) => {
            Err(format!("this hospital joined '{}', the coordinator serves '{}'", network.origin, said.origin))
        }
    };
    let time = match compare_clocks(clock.now_ms(), said.now_ms) {
        Ok(apart_ms) if apart_ms.unsigned_abs() > CLOCK_WARN_MS => {
            let (minutes, way) = (apart_ms.unsigned_abs() / 60_000, if apart_ms < 0 { "ahead of" } else { "behind" });
            Err(format!("this machine is {minutes} minutes {way} the coordinator; set it (for example by NTP)"))
        }
        Ok(apart_ms) => Ok(format!("{} s apart from the coordinator's", apart_ms.unsigned_abs() / 1000)),
        Err(refusal) => Err(refusal.words),
    };
    (found, time)
}

fn check_disk(folder: &Path, needed_mib: u64) -> Result<String, String> {
    let probe = folder.join("check.probe");
    durable_replace(&probe, b"written by leben-worker check\n").map_err(|error| error.to_string())?;
    std::fs::remove_file(&probe).map_err(|error| format!("cannot remove {}: {error}", probe.display()))?;
    // POSIX: the second line's fourth field is the free space in KiB.
    let output = Command::new("df").arg("-Pk").arg(folder).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let free_kib =
        text.lines().nth(1).and_then(|line| line.split_whitespace().nth(3)).and_then(|free| free.parse().ok());
    let Some(free_kib): Option<u64> = free_kib else {
        return Ok(format!("{} can be written; how much is free is not known", folder.display()));
    };
    let free_mib = free_kib / 1024;
    match free_mib >= needed_mib {
        true => Ok(format!("{free_mib} MiB free")),
        false => Err(format!("{free_mib} MiB free, at least {needed_mib} are wanted (limits.disk_free_min_mib)")),
    }
}
