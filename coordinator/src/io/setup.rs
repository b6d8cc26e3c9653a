//! A new network: keys made here, a genesis entry, settings. And what a running coordinator offers by itself.

use std::path::Path;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{AlgorithmOffer, Body, Embedded, Founder, Genesis};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, PartyId, PartyKeys, Role};
use leben_contracts::agreement::state::State;
use leben_contracts::handover::replayed;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::evidence::{EVIDENCE_BYTES_MAX, EvidenceError};
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, NoteSigner, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::{LogReader, LogStore, durable_replace, read_at_most, read_if_there};
use leben_privacy::seal;
use leben_protocol::invite::Invite;

use super::clock::now_ms;
use super::config::Config;
use super::fatal::Fatal;
use super::ledger::Ledger;
use super::store::{Invited, Store};
use super::{nonce, random};

/// Largest `network.json` of a home, in bytes.
const HOME_BYTES_MAX: usize = 64 << 10;

fn start(error: impl std::fmt::Display) -> Fatal {
    Fatal::Start(error.to_string())
}

/// Makes a new network in `dir`: settings, keys of the coordinator and of a first admin, and the genesis entry.
pub fn init(dir: &Path, config: &Config, template: &str, admin: &str) -> Result<(), Fatal> {
    begin(dir, config, template, admin, None)
}

/// The same in place of a network whose log has forked: its genesis entry embeds the proof, which is returned in words.
///
/// # Errors
/// [`Fatal::Start`]: among others a file that proves no fork; nothing is made.
pub fn init_after_fork(
    dir: &Path,
    config: &Config,
    template: &str,
    admin: &str,
    evidence: &Path,
) -> Result<String, Fatal> {
    let bytes = read_at_most(evidence, EVIDENCE_BYTES_MAX).map_err(start)?;
    let refused = |error: EvidenceError| Fatal::Start(format!("{}: {error}", evidence.display()));
    let embedded = Embedded::new(&bytes).map_err(refused)?;
    let (fork, log) = (embedded.verify().map_err(refused)?, embedded.fork.log().to_string());
    if fork.origin == config.origin {
        let words = format!("'{}' is the log that has forked; give the new one another --origin", fork.origin);
        return Err(Fatal::Start(words));
    }
    let words = format!("{embedded}\nIs that the key of the log before? {log}");
    begin(dir, config, template, admin, Some(Box::new(embedded)))?;
    Ok(words)
}

fn begin(dir: &Path, config: &Config, template: &str, admin: &str, embeds: Option<Box<Embedded>>) -> Result<(), Fatal> {
    if dir.join("coordinator.toml").exists() {
        return Err(Fatal::Start(format!("{} holds a coordinator already; choose another --dir", dir.display())));
    }
    let party = PartyId::new(&config.party).map_err(start)?;
    let admin_party = PartyId::new(admin).map_err(start)?;
    let make = |folder: &str, name: &str| keyfile::create(&dir.join(folder).join(name), &random()).map_err(start);
    let log_key = make("keys", "log.key")?;
    let coordinator = founder(&dir.join("keys"), "link", party.clone())?;
    // A home as `leben keygen` makes one: the admin works with the `leben` command, here or wherever the folder is moved to.
    let admin = founder(&dir.join("admin/keys"), "tls", admin_party)?;
    let log = VerifierKey::new(&config.origin, KeyType::Ed25519, PublicKey::of(&log_key)).map_err(start)?;
    let home = serde_json::json!({
        "address": config.public_address.clone().unwrap_or_else(|| config.listen.to_string()),
        "coordinator_key": coordinator.keys.tls.to_hex(),
        "origin": config.origin,
        "log_vkey": log.to_string(),
        "party": admin.party,
    });
    durable_replace(&dir.join("admin/network.json"), &serde_json::to_vec_pretty(&home).map_err(start)?)
        .map_err(start)?;
    let body = Body::Genesis(Genesis {
        origin: config.origin.clone(),
        log_key: PublicKey::of(&log_key),
        coordinator,
        admins: vec![admin],
        embeds,
    });
    let header =
        Header { actor: &party, role: Role::Coordinator, now_ms: now_ms(), valid_ms: 3_600_000, nonce: nonce() };
    let action = State::new(&config.origin).draft(&body, None, &header).map_err(start)?;
    let party_key = keyfile::load(&dir.join("keys/party.key")).map_err(start)?;
    let envelope = Envelope::sign(&action, &[&party_key]).map_err(start)?;
    write_genesis(dir, config, log_key, envelope)?;
    // Last: a folder without settings is not a coordinator, so a crash before this line leaves nothing half made.
    durable_replace(&dir.join("coordinator.toml"), template.as_bytes()).map_err(start)
}

/// Tells the first admin's home, where it still lies here, the address that the settings give by now.
///
/// # Errors
/// A file that cannot be read or written.
pub fn readdress_admin(dir: &Path, config: &Config) -> Result<(), Fatal> {
    let path = dir.join("admin/network.json");
    let address = match (&config.public_address, config.listen) {
        (Some(public), _) => public.clone(),
        // A port that the system chooses is not known before.
        (None, listen) if listen.port() == 0 => return Ok(()),
        (None, listen) if listen.ip().is_unspecified() => format!("127.0.0.1:{}", listen.port()),
        (None, listen) => listen.to_string(),
    };
    let Some(bytes) = read_if_there(&path, HOME_BYTES_MAX).map_err(start)? else { return Ok(()) };
    let mut home: serde_json::Value = serde_json::from_slice(&bytes).map_err(start)?;
    match home.get_mut("address") {
        Some(old) if *old != address => *old = address.into(),
        _ => return Ok(()),
    }
    durable_replace(&path, &serde_json::to_vec_pretty(&home).map_err(start)?).map_err(start)
}

fn founder(folder: &Path, link: &str, party: PartyId) -> Result<Founder, Fatal> {
    let make = |name: &str| keyfile::create(&folder.join(format!("{name}.key")), &random()).map_err(start);
    let (party_key, link_key, sealing_key) = (make("party")?, make(link)?, make("sealing")?);
    Ok(Founder {
        party,
        keys: PartyKeys {
            party: PublicKey::of(&party_key),
            witness: None,
            validator: None,
            tls: PublicKey::of(&link_key),
        },
        sealing: X25519Key(seal::public_of(&sealing_key.to_bytes())),
    })
}

fn write_genesis(dir: &Path, config: &Config, log_key: SigningKey, envelope: Envelope) -> Result<(), Fatal> {
    let signer = NoteSigner::new(&config.origin, KeyType::Ed25519, log_key).map_err(start)?;
    let log = signer.vkey().clone();
    let mut store = LogStore::open(&dir.join("ledger"), &dir.join("state"), &log).map_err(start)?;
    let follower = Follower::new(&config.origin, State::new(&config.origin));
    let builder = store.builder().map_err(start)?;
    let mut sequencer = Sequencer::new(signer, builder, follower).map_err(start)?;
    let staged = sequencer.stage(now_ms(), &[envelope.to_bytes()]).map_err(start)?;
    for result in staged.results {
        result.map_err(start)?;
    }
    if let Some(batch) = &staged.batch {
        store.commit(batch).map_err(start)?;
        // Nobody else witnesses the first entry: it is public as the log alone signed it.
        store.publish(&batch.note).map_err(start)?;
        let policy = Policy::k_of_n(&log, &[], 0).map_err(start)?;
        store.publish_policy(&policy).map_err(start)?;
    }
    Ok(())
}

/// Whether this party has keys in force on the published ledger; not known where that cannot be read.
pub fn is_enrolled(dir: &Path, party: &str) -> Option<bool> {
    let (public, state) = (dir.join("ledger"), dir.join("state"));
    let checkpoint = Checkpoint::of(&LogReader::new(&public).checkpoint().ok()?).ok()?;
    let (origin, size) = (&checkpoint.origin, checkpoint.size);
    let state = replayed(&public, Some(&state), origin, size, size).ok()?;
    Some(state.party(party).is_some_and(|party| party.current().is_some()))
}

/// Issues a one-time invite. `address` is where the newcomer dials; left out, the settings say.
pub fn invite(dir: &Path, invited: &Invited, address: Option<String>) -> Result<Invite, Fatal> {
    let config = Config::load(&dir.join("coordinator.toml")).map_err(start)?;
    PartyId::new(&invited.party).map_err(start)?;
    let key = |name: &str| keyfile::load(&dir.join("keys").join(name)).map_err(start);
    let log = VerifierKey::new(&config.origin, KeyType::Ed25519, PublicKey::of(&key("log.key")?)).map_err(start)?;
    let code = hex::encode(nonce());
    Store::open(dir)?.keep_invite(&code, invited)?;
    Ok(Invite {
        address: address.or(config.public_address).unwrap_or_else(|| config.listen.to_string()),
        coordinator_key: PublicKey::of(&key("link.key")?).to_hex(),
        origin: config.origin,
        log_vkey: log.to_string(),
        party: invited.party.clone(),
        kind: invited.kind.clone(),
        code,
    })
}

/// Offers the built-in algorithms that are not on the ledger, once the `committed` entries are final: a Handover among them may withdraw
/// those of the coordinator of before. Beside everything else: with hospitals as witnesses that waits until they are linked.
pub fn offer_algorithms(ledger: &Ledger, committed: u64) {
    let ledger = ledger.clone();
    tokio::spawn(async move {
        if ledger.watch_final().wait_for(|size| *size >= committed).await.is_err() {
            return;
        }
        let known: Vec<Hash32> =
            ledger.with_final(|state, _| state.algorithms().values().map(|record| record.offer.digest).collect());
        for built_in in leben_models::registry::all().into_iter().filter(|b| !known.contains(&Hash32(b.digest))) {
            let (name, version) = (Code::new(built_in.name), Code::new(&built_in.version.to_string()));
            let (Ok(name), Ok(version)) = (name, version) else { continue };
            let body = AlgorithmOffer { name, version, digest: Hash32(built_in.digest), trains_model: true };
            let ledger = ledger.clone();
            tokio::spawn(async move {
                if let Err(reject) = ledger.append_own(None, Body::AlgorithmOffer(body)).await {
                    tracing::warn!(%reject, "an algorithm could not be offered");
                }
            });
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admins_home_follows_the_settings_and_nobody_elses_does() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path();
        let mut config = Config::new("ledger.example/one", "coordinator");
        readdress_admin(dir, &config).unwrap();
        init(dir, &config, &Config::template("ledger.example/one", "coordinator"), "admin").unwrap();
        let path = dir.join("admin/network.json");
        let read = || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap() };
        let made = read();
        let mut address_of = |public: Option<&str>, listen: &str| {
            (config.public_address, config.listen) = (public.map(str::to_owned), listen.parse().unwrap());
            readdress_admin(dir, &config).unwrap();
            read()["address"].as_str().unwrap().to_owned()
        };
        assert_eq!(address_of(None, "10.1.2.3:443"), "10.1.2.3:443");
        assert_eq!(address_of(None, "0.0.0.0:0"), "10.1.2.3:443", "a port that nobody knows yet");
        assert_eq!(address_of(None, "0.0.0.0:444"), "127.0.0.1:444");
        assert_eq!(address_of(Some("leben.example:443"), "0.0.0.0:444"), "leben.example:443");
        let mut expected = made;
        expected["address"] = "leben.example:443".into();
        assert_eq!(read(), expected, "nothing else is changed");
        std::fs::remove_dir_all(dir.join("admin")).unwrap();
        readdress_admin(dir, &config).unwrap();
        assert!(!path.exists(), "a home that was moved elsewhere is not made again");
        assert_eq!((is_enrolled(dir, "admin"), is_enrolled(dir, "cleveland")), (Some(true), Some(false)));
        assert_eq!(is_enrolled(&dir.join("nowhere"), "admin"), None);
    }
}
