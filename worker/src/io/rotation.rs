//! The shell's part in a rotation: keys on the disk, and which link key to show.
//!
//! `leben-worker keys rotate` leaves new keys in `keys/next`, whole; the agent finds them there, now or at its next start. When the
//! ledger has put them in force, each takes its place. The old link key goes last, once the coordinator has taken the new one: until
//! then either may be the one that it knows.

use std::path::Path;
use std::sync::Arc;

use leben_contracts::agreement::state::State;
use leben_contracts::ledger::keyring::{Keyring, KeyringError};
use leben_protocol::quic::{Dialer, LinkError, Tap};
use tokio::sync::watch;

use super::keys::Keys;
use super::link::{Target, Way};
use super::store::DiskError;
use crate::agent::Generation;

/// Every use of a hospital's keys.
pub const USES: [&str; 5] = ["party", "witness", "validator", "tls", "sealing"];
/// Keys that go on opening what was sealed to them.
pub const KEPT: [&str; 1] = ["sealing"];
/// What is in force as soon as the ledger says so; the link key waits for the coordinator.
const AT_ONCE: [&str; 4] = ["party", "witness", "validator", "sealing"];

/// Keys in their folder, and the link that shows one of them.
pub(super) struct Rotation {
    ring: Keyring,
    keys: Keys,
    tap: Option<Arc<dyn Tap>>,
    next_tls: Option<[u8; 32]>,
    linked: Option<[u8; 32]>,
    invited: [u8; 32],
    target: watch::Sender<Target>,
}

impl Rotation {
    pub(super) fn new(
        folder: &Path,
        keys: Keys,
        tap: Option<Arc<dyn Tap>>,
        address: String,
        coordinator: [u8; 32],
    ) -> Result<Rotation, LinkError> {
        let ways = vec![way(&keys, tap.as_ref())?];
        let target = watch::channel(Target { address, key: coordinator, ways }).0;
        Ok(Rotation {
            ring: Keyring::new(&folder.join("keys")),
            keys,
            tap,
            next_tls: None,
            linked: None,
            invited: coordinator,
            target,
        })
    }

    /// Where to dial, and as whom; changes while the link is kept up.
    pub(super) fn target(&self) -> watch::Receiver<Target> {
        self.target.subscribe()
    }

    /// Believes the coordinator's link key that the ledger has in force. Not where the invite's is one that the ledger has never seen:
    /// then the invite is the newer of the two, given to a hospital that was away while the key changed.
    pub(super) fn trust(&self, state: &State) {
        let now = state.coordinator().and_then(|party| state.keys(party.as_str())).map(|keys| keys.tls.to_bytes());
        let Some(now) = now.filter(|_| state.has_tls_key(&self.invited)) else { return };
        self.target.send_if_modified(|target| std::mem::replace(&mut target.key, now) != now);
    }

    /// The new generation, if somebody has left one on the disk.
    pub(super) fn find(&mut self) -> Result<Option<Generation>, DiskError> {
        let Some(next) = self.ring.next()? else { return Ok(None) };
        if self.next_tls.is_some() && next.keys().all(|name| name == "tls") {
            // In force already; it waits only for the coordinator to take it.
            return Ok(None);
        }
        let whole = self.keys.with(&next);
        if next.contains_key("tls") {
            self.next_tls = Some(whole.public().tls.to_bytes());
            let (old, new) = (self.way(&self.keys)?, self.way(&whole)?);
            self.target.send_modify(|target| target.ways = vec![old, new]);
        }
        Ok(Some(whole.generation()))
    }

    /// The ledger has put the new keys in force.
    pub(super) fn promote(&mut self) -> Result<(), DiskError> {
        let mut next = self.ring.next()?.unwrap_or_default();
        next.remove("tls");
        self.ring.promote(&AT_ONCE, &KEPT)?;
        self.keys = self.keys.with(&next);
        // The coordinator may know either by now; the new one is the likelier.
        let new = self.next_tls;
        self.target.send_modify(|target| target.ways.sort_by_key(|way| Some(way.public) != new));
        self.link_taken()
    }

    /// The coordinator has taken a link with this key. Once it is the new one, the old one is of no use any more.
    pub(super) fn linked_as(&mut self, public: [u8; 32], rotating: bool) -> Result<(), DiskError> {
        self.linked = Some(public);
        if rotating { Ok(()) } else { self.link_taken() }
    }

    fn link_taken(&mut self) -> Result<(), DiskError> {
        if self.next_tls.is_none() || self.next_tls != self.linked {
            return Ok(());
        }
        let next = self.ring.next()?.unwrap_or_default();
        self.ring.promote(&USES, &KEPT)?;
        self.keys = self.keys.with(&next);
        let new = self.next_tls.take();
        self.target.send_modify(|target| target.ways.retain(|way| Some(way.public) == new));
        Ok(())
    }

    fn way(&self, keys: &Keys) -> Result<Way, DiskError> {
        way(keys, self.tap.as_ref()).map_err(|error| DiskError::Keyring(no_link(error)))
    }
}

fn way(keys: &Keys, tap: Option<&Arc<dyn Tap>>) -> Result<Way, LinkError> {
    let dialer = Dialer::new(&keys.tls.to_bytes())?;
    let dialer = match tap {
        Some(tap) => dialer.with_tap(tap.clone()),
        None => dialer,
    };
    Ok(Way { public: keys.public().tls.to_bytes(), dialer })
}

fn no_link(error: LinkError) -> KeyringError {
    let error = std::io::Error::other(error.to_string());
    KeyringError::Io { what: "use the link key in", path: "keys/next".into(), error }
}
