//! What this node cosigns with, over the rotations of its keys.

use ed25519_dalek::SigningKey;
use leben_contracts::ledger::note::{KeyType, NoteSigner};
use leben_contracts::ledger::witness::WitnessError;

use super::Mirror;

/// Name of the key that attests consistency alone.
pub fn witness_name(party: &str) -> String {
    format!("{party}/witness")
}

/// Name of the key that the ledger's policy counts.
pub fn validator_name(party: &str) -> String {
    party.to_owned()
}

/// The two keys a hospital cosigns with.
#[derive(Clone)]
pub struct MirrorKeys {
    /// Attests consistency.
    pub witness: SigningKey,
    /// Attests that the rules were kept.
    pub validator: SigningKey,
}

impl MirrorKeys {
    pub(super) fn signers(&self, party: &str) -> Result<Vec<NoteSigner>, WitnessError> {
        let named = |name: String, key: &SigningKey| {
            NoteSigner::new(&name, KeyType::Cosignature, key.clone()).map_err(|_| WitnessError::Key(name))
        };
        Ok(vec![named(witness_name(party), &self.witness)?, named(validator_name(party), &self.validator)?])
    }
}

impl Mirror {
    /// While a rotation is on its way this node cosigns with the keys of before and after it. What it has signed for stays
    /// remembered: it is one witness, whatever its keys.
    pub fn set_next_keys(&mut self, next: Option<&MirrorKeys>) {
        let mut signers: Vec<NoteSigner> = Vec::new();
        for keys in [Some(&self.keys), next].into_iter().flatten() {
            for signer in keys.signers(&self.party).unwrap_or_default() {
                if !self.own.contains(signer.vkey()) {
                    self.own.push(signer.vkey().clone());
                }
                if !signers.iter().any(|known| known.vkey() == signer.vkey()) {
                    signers.push(signer);
                }
            }
        }
        self.validator.set_signers(signers);
    }

    /// The keys to cosign with from now on.
    pub fn set_keys(&mut self, keys: MirrorKeys) {
        self.keys = keys;
        self.set_next_keys(None);
    }
}
