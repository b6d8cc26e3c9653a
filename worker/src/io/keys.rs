//! The hospital's private keys: made here, never sent anywhere, one file for each use.

use std::path::Path;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::PartyKeys;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::keyfile::{self, KeyFileError};
use leben_contracts::ledger::keyring;
use leben_privacy::seal;

use super::clock::fresh_seed;
use crate::agent::Generation;
use crate::mirror::MirrorKeys;

/// All of them.
pub struct Keys {
    /// Signs actions.
    pub party: SigningKey,
    /// Cosigns consistency.
    pub witness: SigningKey,
    /// Cosigns after replaying the rules.
    pub validator: SigningKey,
    /// Proves this end of a link.
    pub tls: SigningKey,
    /// The seed of the x25519 key that things for this hospital are sealed to.
    pub sealing: SigningKey,
}

impl Keys {
    /// Reads the keys, or makes those that are missing.
    ///
    /// # Errors
    /// [`KeyFileError`] naming the file.
    pub fn load_or_create(folder: &Path) -> Result<Keys, KeyFileError> {
        let key = |name: &str| {
            let path = folder.join(format!("{name}.key"));
            let seed = fresh_seed().map_err(|error| KeyFileError::Io { path: path.clone(), what: "made", error })?;
            keyfile::load_or_create(&path, &seed)
        };
        Keys::each(key)
    }

    /// Reads the keys.
    ///
    /// # Errors
    /// [`KeyFileError`] naming the file.
    pub fn load(folder: &Path) -> Result<Keys, KeyFileError> {
        Keys::each(|name| keyfile::load(&folder.join(format!("{name}.key"))))
    }

    fn each(key: impl Fn(&str) -> Result<SigningKey, KeyFileError>) -> Result<Keys, KeyFileError> {
        Ok(Keys {
            party: key("party")?,
            witness: key("witness")?,
            validator: key("validator")?,
            tls: key("tls")?,
            sealing: key("sealing")?,
        })
    }

    /// These keys with those of a rotation in their places.
    pub fn with(&self, next: &keyring::Keys) -> Keys {
        let key = |name: &str, now: &SigningKey| next.get(name).unwrap_or(now).clone();
        Keys {
            party: key("party", &self.party),
            witness: key("witness", &self.witness),
            validator: key("validator", &self.validator),
            tls: key("tls", &self.tls),
            sealing: key("sealing", &self.sealing),
        }
    }

    /// What the agent signs with.
    pub fn generation(&self) -> Generation {
        Generation {
            party: self.party.clone(),
            mirror: self.mirror(),
            public: self.public(),
            sealing: self.sealing_public(),
        }
    }

    /// What the mirror cosigns with.
    pub fn mirror(&self) -> MirrorKeys {
        MirrorKeys { witness: self.witness.clone(), validator: self.validator.clone() }
    }

    /// The public halves, as an enrolment names them.
    pub fn public(&self) -> PartyKeys {
        PartyKeys {
            party: PublicKey::of(&self.party),
            witness: Some(PublicKey::of(&self.witness)),
            validator: Some(PublicKey::of(&self.validator)),
            tls: PublicKey::of(&self.tls),
        }
    }

    /// The public x25519 key.
    pub fn sealing_public(&self) -> X25519Key {
        X25519Key(seal::public_of(&self.sealing.to_bytes()))
    }
}
