//! Whether the signatures on an envelope hold, each computed once.

use super::entry::{EntryError, Envelope, EnvelopeSignature, PublicKey, pre_authentication};

/// Under which key each signature was verified already: a fact about the envelope's own bytes, whatever the ledger says later.
#[derive(Debug, Clone, Default)]
pub(super) struct Verified(Vec<Option<PublicKey>>);

impl PartialEq for Verified {
    /// What was looked at is no part of what an envelope is.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Verified {}

impl Envelope {
    /// Verifies that all of `keys` signed, and that nobody else did.
    ///
    /// # Errors
    /// [`EntryError::Unsigned`], [`EntryError::UnknownKey`], [`EntryError::Signature`], each with the key id.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(), EntryError> {
        let ids: Vec<String> = keys.iter().map(PublicKey::keyid).collect();
        if let Some(missing) = ids.iter().find(|id| !self.signatures.iter().any(|s| s.keyid == **id)) {
            return Err(EntryError::Unsigned { keyid: missing.clone() });
        }
        self.verify_with(|keyid| ids.iter().position(|id| id == keyid).and_then(|i| keys.get(i).copied()))
    }

    /// Verifies every signature under the key that `key_of` finds for its key id; an id it does not know is an error.
    ///
    /// # Errors
    /// [`EntryError::UnknownKey`], [`EntryError::Signature`].
    pub fn verify_with(&self, key_of: impl Fn(&str) -> Option<PublicKey>) -> Result<(), EntryError> {
        let mut message = None;
        for (i, s) in self.signatures.iter().enumerate() {
            let key = key_of(&s.keyid).ok_or_else(|| EntryError::UnknownKey { keyid: s.keyid.clone() })?;
            if self.verified.0.get(i) == Some(&Some(key)) {
                continue;
            }
            let message = message.get_or_insert_with(|| pre_authentication(&self.payload));
            if !s.is_by(&key, message) {
                return Err(EntryError::Signature { keyid: s.keyid.clone() });
            }
        }
        Ok(())
    }

    /// Verifies a single signature ahead of its turn: one that holds under the key that `key_of` finds is not computed again when
    /// [`Envelope::verify_with`] asks for that same key. Decides nothing; a signature that does not hold is found out there. Where
    /// several signed, the state machine first says whether several may.
    pub(super) fn preverify(&mut self, key_of: impl Fn(&str) -> Option<PublicKey>) {
        let [signature] = self.signatures.as_slice() else { return };
        let Some(key) = key_of(&signature.keyid) else { return };
        if signature.is_by(&key, &pre_authentication(&self.payload)) {
            self.verified = Verified(vec![Some(key)]);
        }
    }
}

impl EnvelopeSignature {
    fn is_by(&self, key: &PublicKey, message: &[u8]) -> bool {
        key.keyid() == self.keyid && key.verify_strict(message, &self.sig).is_ok()
    }
}
