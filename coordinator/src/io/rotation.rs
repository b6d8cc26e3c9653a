//! The coordinator's own keys over time. `leben-coordinator keys rotate` leaves new ones whole in `keys/next`; whoever serves the
//! folder, now or at the next start, brings them to the ledger and takes them over once their entry is final.
//!
//! The log's key is no party's key and changes by Handover alone. Old link keys stay in `keys/old` and are served to workers and
//! teams who have not heard of the rotation: they ask for the key they know, read the ledger, and ask for the new one from then on.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{Body, KeyRotate};
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::{Party, PartyKeys};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::keyring::{self, Keyring, KeyringError};
use leben_privacy::seal;
use leben_protocol::quic::Listener;
use zeroize::Zeroizing;

use super::author::Author;
use super::fatal::Fatal;
use super::ledger::Ledger;

/// The uses of the coordinator's keys, by their files; `link` is `tls` on the ledger.
pub const USES: [&str; 3] = ["party", "link", "sealing"];
/// Old keys that go on serving.
pub const KEPT: [&str; 2] = ["link", "sealing"];
/// How often the folder is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long after a refusal the same is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

fn start(error: impl std::fmt::Display) -> Fatal {
    Fatal::Start(error.to_string())
}

/// The coordinator's keys of one generation.
#[derive(Clone)]
pub struct Generation {
    /// Signs actions.
    pub party: SigningKey,
    /// Proves the coordinator's end of a link.
    pub link: SigningKey,
    /// The seed of the x25519 key that things for it are sealed to.
    pub sealing: SigningKey,
}

impl Generation {
    /// Reads the keys of a folder.
    pub fn load(folder: &Path) -> Result<Generation, Fatal> {
        let key = |name: &str| keyfile::load(&folder.join(format!("{name}.key"))).map_err(start);
        Ok(Generation { party: key("party")?, link: key("link")?, sealing: key("sealing")? })
    }

    fn with(&self, next: &keyring::Keys) -> Generation {
        let key = |name: &str, now: &SigningKey| next.get(name).unwrap_or(now).clone();
        Generation {
            party: key("party", &self.party),
            link: key("link", &self.link),
            sealing: key("sealing", &self.sealing),
        }
    }

    /// The public halves, as the ledger names them.
    pub fn public(&self) -> KeyRotate {
        let (party, tls) = (PublicKey::of(&self.party), PublicKey::of(&self.link));
        let sealing = X25519Key(seal::public_of(&self.sealing.to_bytes()));
        KeyRotate { keys: PartyKeys { party, witness: None, validator: None, tls }, sealing }
    }
}

/// The folder's keys, and those who use them.
pub(super) struct Rotation {
    ring: Keyring,
    current: Generation,
    author: Author,
    ledger: Ledger,
    listener: Arc<Listener>,
}

impl Rotation {
    pub(super) fn new(
        folder: &Path,
        current: Generation,
        author: Author,
        ledger: Ledger,
        listener: Arc<Listener>,
    ) -> Result<Rotation, Fatal> {
        let rotation = Rotation { ring: Keyring::new(folder), current, author, ledger, listener };
        let next = rotation.ring.next().map_err(start)?;
        if let Some(next) = &next {
            rotation.author.learn(rotation.current.with(next).party);
        }
        rotation.serve_links(next.as_ref())?;
        Ok(rotation)
    }

    /// Looks at the folder for ever.
    pub(super) async fn keep(mut self) -> Result<(), Fatal> {
        loop {
            let wait = match self.step().await? {
                true => LOOK_EVERY,
                false => RETRY_AFTER,
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Brings what lies in `keys/next` one step further; false if the ledger would not have it.
    async fn step(&mut self) -> Result<bool, Fatal> {
        let Some(next) = self.ring.next().map_err(start)? else { return Ok(true) };
        let whole = self.current.with(&next);
        self.author.learn(whole.party.clone());
        let party = self.author.party.clone();
        let in_force = self.ledger.with_final(|state, _| state.party(party.as_str()).and_then(Party::current).cloned());
        let body = whole.public();
        if in_force.is_some_and(|period| period.keys == body.keys && period.sealing == body.sealing) {
            self.ring.promote(&USES, &KEPT).map_err(start)?;
            self.current = whole;
            self.serve_links(None)?;
            tracing::info!("the coordinator's new keys are in force");
            return Ok(true);
        }
        match self.ledger.append_own(None, Body::KeyRotate(body)).await {
            Ok(_) => Ok(true),
            Err(reject) => {
                tracing::error!(%reject, "the ledger does not take the coordinator's new keys; the old ones serve on");
                Ok(false)
            }
        }
    }

    /// The key in force first; then what the ledger will have soon, and what it had before.
    fn serve_links(&self, next: Option<&keyring::Keys>) -> Result<(), Fatal> {
        let mut seeds = vec![Zeroizing::new(self.current.link.to_bytes())];
        let old = self.ring.old("link").map_err(start)?;
        let others = next.and_then(|next| next.get("link")).into_iter().chain(&old);
        seeds.extend(others.map(|key| Zeroizing::new(key.to_bytes())));
        let seeds: Vec<&[u8; 32]> = seeds.iter().map(|seed| &**seed).collect();
        self.listener.set_keys(&seeds).map_err(start)
    }
}

/// Makes new keys in `folder` (`keys/`) of these uses, all when none is named; whoever serves the folder brings them to the ledger.
pub fn propose(folder: &Path, only: &[String]) -> Result<Vec<&'static str>, KeyringError> {
    let uses: Vec<&str> = USES.into_iter().filter(|name| only.is_empty() || only.iter().any(|o| o == name)).collect();
    Keyring::new(folder).propose(&uses, || Ok(Zeroizing::new(super::random())))?;
    Ok(uses)
}
