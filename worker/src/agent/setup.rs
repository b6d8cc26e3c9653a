//! What an agent starts from.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::party::PartyId;
use leben_privacy::secure_sum::Journal;
use leben_protocol::frame::ContractId;
use zeroize::Zeroizing;

use super::Standing;
use crate::budget::Budgets;
use crate::declared::Declared;
use crate::mirror::Mirror;

/// A job's durable part, as read from disk.
pub struct StoredJob {
    /// The secret that its keys come from; `None` where it was not made yet, or is lost.
    pub seed: Option<Zeroizing<[u8; 32]>>,
    /// The journal stored last.
    pub journal: Journal,
    /// The rows of a private round were pinned: it was computed at least once.
    pub pinned: bool,
}

/// All that an agent starts from.
pub struct Setup {
    /// This hospital.
    pub party: PartyId,
    /// Signs its actions.
    pub party_key: SigningKey,
    /// What it declares.
    pub declared: Declared,
    /// Its copy of the ledger, restored.
    pub mirror: Mirror,
    /// Decisions of people, from disk.
    pub standings: BTreeMap<ContractId, Standing>,
    /// Jobs, from disk.
    pub jobs: BTreeMap<ContractId, StoredJob>,
    /// Privacy budgets, from disk.
    pub budgets: Budgets,
    /// 32 fresh random bytes.
    pub seed: [u8; 32],
}
