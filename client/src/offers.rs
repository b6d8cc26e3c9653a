//! What the ledger offers, as a draft and the catalogue need it.

use leben_contracts::agreement::body::{AlgorithmOffer, DatasetOffer};
use leben_contracts::agreement::party::PartyId;

/// What a draft may refer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offers {
    /// The party that drafts: data user and recipient.
    pub me: PartyId,
    /// Its x25519 key for results.
    pub sealing: [u8; 32],
    /// Who integrates.
    pub coordinator: PartyId,
    /// Everybody enrolled, by name.
    pub parties: Vec<PartyId>,
    /// The data sets on offer, by hospital and name.
    pub sets: Vec<Set>,
    /// The algorithms on offer.
    pub algorithms: Vec<AlgorithmOffer>,
}

/// One data set on offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// The hospital.
    pub owner: PartyId,
    /// Its offer.
    pub offer: DatasetOffer,
}

impl Set {
    /// `hospital/dataset`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.owner, self.offer.name)
    }
}
