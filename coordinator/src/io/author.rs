//! As whom the coordinator signs: its party and the party keys it holds, of which the ledger says which one is in force.

use std::sync::{Arc, PoisonError, RwLock};

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::Body;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::key::PublicKey;
use leben_protocol::reject::{Reject, RejectCode};

/// Who writes, and as whom. Clones share their keys.
#[derive(Clone)]
pub struct Author {
    /// The coordinator's party.
    pub party: PartyId,
    keys: Arc<RwLock<Vec<SigningKey>>>,
}

impl Author {
    /// With the key that is in force as far as the folder knows.
    pub fn new(party: PartyId, key: SigningKey) -> Author {
        Author { party, keys: Arc::new(RwLock::new(vec![key])) }
    }

    /// One more key, of a rotation that is on its way.
    pub(super) fn learn(&self, key: SigningKey) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }

    fn find(&self, public: PublicKey) -> Option<SigningKey> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.iter().find(|key| PublicKey::of(key) == public).cloned()
    }

    /// The party key in force in a state; before the first entry, whichever there is.
    pub(super) fn key(&self, state: &State) -> Result<SigningKey, Reject> {
        let missing = || {
            let text = format!("this folder does not hold the key that the ledger has in force for {}", self.party);
            Reject::new(RejectCode::Internal, text)
        };
        match state.keys(self.party.as_str()) {
            Some(keys) => self.find(keys.party).ok_or_else(missing),
            None => self.keys.read().unwrap_or_else(PoisonError::into_inner).first().cloned().ok_or_else(missing),
        }
    }

    /// The keys that sign a body: a rotation also the new one.
    pub(super) fn keys_for(&self, state: &State, body: &Body) -> Result<Vec<SigningKey>, Reject> {
        let mut keys = vec![self.key(state)?];
        if let Body::KeyRotate(rotate) = body {
            keys.extend(self.find(rotate.keys.party).filter(|new| !keys.contains(new)));
        }
        Ok(keys)
    }
}
