//! Results that people look at before they leave the network, where the terms ask for that.
//!
//! The coordinator shows the result to every hospital in it; a steward lets this very result go, or it is never delivered: the
//! ledger takes a Deliver only of the commitment that all of them have signed. Who does nothing lets the contract expire at
//! the end of its run window. What is shown is the sums' outcome, the same for all; nobody sees another's data.

use std::collections::BTreeMap;

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::table::Phase;
use leben_protocol::frame::ContractId;
use sha2::{Digest, Sha256};

use super::{Action, Agent};

/// Largest result that is fetched, bytes.
pub const REVIEW_BYTES_MAX: u64 = 64 << 20;

/// Digests of results that were announced: on the way, or here.
pub(super) type Results = BTreeMap<ContractId, ([u8; 32], bool)>;

impl Agent {
    /// Every stage is done, the coordinator says, and this is the result.
    pub(super) fn handle_review(&mut self, id: ContractId, digest: [u8; 32], bytes: u64) {
        let known = self.mirror.certified().contract(&Hash32(id));
        let expected = known.is_some_and(|contract| {
            let mine = contract.terms.inputs.iter().any(|input| input.owner == self.party);
            mine && contract.terms.delivery.review && contract.phase == Phase::Running
        });
        let here = self.results.get(&id).is_some_and(|(known, _)| *known == digest);
        if expected && !here && bytes <= REVIEW_BYTES_MAX {
            self.results.insert(id, (digest, false));
            self.actions.push_back(Action::FetchReview { contract: id, digest, bytes });
        }
    }

    /// The result that [`Action::FetchReview`] asked for.
    pub fn handle_result(&mut self, now_ms: u64, id: &ContractId, bytes: Vec<u8>) {
        let Some((digest, here)) = self.results.get_mut(id) else { return };
        if *here || *digest != <[u8; 32]>::from(Sha256::digest(&bytes)) {
            return;
        }
        *here = true;
        self.actions.push_back(Action::StoreReview { contract: *id, bytes });
        self.audit(now_ms, "result-to-review", Some(id), None);
    }

    /// Puts what a person let go on the ledger, until the certified ledger shows it.
    pub(super) fn advance_clearance(&mut self, now_ms: u64, contract: &Contract) {
        let wanted = self.standings.get(&contract.id.0).and_then(|standing| standing.cleared);
        let Some(result_commitment) = wanted.filter(|_| contract.terms.delivery.review) else { return };
        if contract.stages_over(now_ms) && contract.cleared.get(&self.party) != Some(&result_commitment) {
            self.append(now_ms, Some(contract), Body::Clear(body::Clear { result_commitment }));
        }
    }

    /// Whether a result of this contract lies here and nobody has let it go.
    pub(super) fn awaits_clearance(&self, contract: &Contract) -> bool {
        let cleared = self.standings.get(&contract.id.0).is_some_and(|standing| standing.cleared.is_some());
        contract.phase == Phase::Running && !cleared && self.results.get(&contract.id.0).is_some_and(|(_, here)| *here)
    }
}
