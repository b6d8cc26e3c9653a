//! The home's keys over time. New keys lie in `keys/next` before anybody hears of them; the ledger says when they are in force.

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::KeyRotate;
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::{Party, PartyKeys};
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyring::{self, Keyring, KeyringError};
use zeroize::Zeroizing;

use super::Home;

/// The uses of a team's keys.
pub const USES: [&str; 3] = ["party", "tls", "sealing"];
/// Keys that go on opening what was sealed to them.
pub const KEPT: [&str; 1] = ["sealing"];

/// One generation.
pub(super) struct HomeKeys {
    pub(super) party: SigningKey,
    pub(super) tls: Zeroizing<[u8; 32]>,
    pub(super) sealing: Zeroizing<[u8; 32]>,
}

impl HomeKeys {
    /// These keys with those of a rotation in their places.
    pub(super) fn with(&self, next: &keyring::Keys) -> HomeKeys {
        let seed = |name: &str, now: &Zeroizing<[u8; 32]>| {
            next.get(name).map_or_else(|| now.clone(), |key| Zeroizing::new(key.to_bytes()))
        };
        HomeKeys {
            party: next.get("party").unwrap_or(&self.party).clone(),
            tls: seed("tls", &self.tls),
            sealing: seed("sealing", &self.sealing),
        }
    }

    pub(super) fn public(&self) -> KeyRotate {
        let tls = PublicKey::of(&SigningKey::from_bytes(&self.tls));
        let keys = PartyKeys { party: PublicKey::of(&self.party), witness: None, validator: None, tls };
        KeyRotate { keys, sealing: X25519Key(leben_protocol::seal::public_of(&self.sealing)) }
    }
}

impl Home {
    pub(super) fn active(&self) -> &HomeKeys {
        self.next.as_ref().filter(|_| self.next_in_force).unwrap_or(&self.keys)
    }

    /// Signs actions.
    pub fn party_key(&self) -> &SigningKey {
        &self.active().party
    }

    /// Seeds of the link keys that the coordinator may know, the likelier first: two while a rotation is under way.
    pub fn tls_seeds(&self) -> Vec<&[u8; 32]> {
        let mut seeds: Vec<&[u8; 32]> = vec![&self.keys.tls];
        seeds.extend(self.next.iter().map(|next| &*next.tls).filter(|seed| **seed != *self.keys.tls));
        if self.next_in_force {
            seeds.reverse();
        }
        seeds
    }

    /// Everything that results may have been sealed to, the newest last.
    pub fn sealing_secrets(&self) -> impl Iterator<Item = &[u8; 32]> {
        let generations = [Some(&self.keys), self.next.as_ref()].into_iter().flatten();
        self.old_sealing.iter().map(|secret| &**secret).chain(generations.map(|keys| &*keys.sealing))
    }

    /// What results are sealed to.
    pub fn sealing_public(&self) -> X25519Key {
        self.active().public().sealing
    }

    /// The public keys in force.
    pub fn public_keys(&self) -> PartyKeys {
        self.active().public().keys
    }

    /// The rotation that waits, as the ledger is asked for it, with the key that signs it beside the one in force.
    pub fn rotation(&self) -> Option<(KeyRotate, &SigningKey)> {
        self.next.as_ref().map(|next| (next.public(), &next.party))
    }

    /// Whether the ledger has put the waiting keys in force.
    pub fn is_next_in_force(&self) -> bool {
        self.next_in_force
    }

    fn ring(&self) -> Keyring {
        Keyring::new(&self.root.join("keys"))
    }

    /// Makes new keys of these uses, all when none is named, or takes up those that wait already.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn propose_keys(
        &mut self,
        only: &[String],
        seed: impl FnMut() -> std::io::Result<Zeroizing<[u8; 32]>>,
    ) -> Result<(), KeyringError> {
        let ring = self.ring();
        if ring.next()?.is_none() {
            let all = USES.into_iter();
            let uses: Vec<&str> = all.filter(|name| only.is_empty() || only.iter().any(|o| o == name)).collect();
            ring.propose(&uses, seed)?;
        }
        self.next = ring.next()?.map(|next| self.keys.with(&next));
        Ok(())
    }

    /// Looks at what the ledger has in force. New keys that are, sign from now on; once the coordinator has taken a link with the new
    /// link key (`shown` is the seed of the one it took), the old ones are removed, except what opens results.
    ///
    /// # Errors
    /// [`KeyringError`]; call it again.
    pub fn settle_keys(&mut self, state: &State, shown: &[u8; 32]) -> Result<(), KeyringError> {
        let Some(next) = &self.next else { return Ok(()) };
        let body = next.public();
        let current = state.party(self.party.as_str()).and_then(Party::current);
        self.next_in_force = current.is_some_and(|now| now.keys == body.keys && now.sealing == body.sealing);
        if !self.next_in_force || *next.tls != *shown {
            return Ok(());
        }
        self.ring().promote(&USES, &KEPT)?;
        let old = std::mem::replace(&mut self.keys.sealing, next.sealing.clone());
        self.old_sealing.push(old);
        if let Some(next) = self.next.take() {
            self.keys = next;
        }
        self.next_in_force = false;
        Ok(())
    }

    /// After a revocation: new keys, the old ones put aside; what opens results stays.
    ///
    /// # Errors
    /// [`KeyringError`].
    pub fn replace_keys(
        root: &std::path::Path,
        seed: impl FnMut() -> std::io::Result<Zeroizing<[u8; 32]>>,
    ) -> Result<(), KeyringError> {
        Keyring::new(&root.join("keys")).replace_all(&USES, &KEPT, seed)
    }
}
