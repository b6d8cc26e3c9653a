//! Which contracts concern this hospital: those that read its data. Followed entry by entry, so that nobody has to look through
//! everybody's contracts to find a few.

use std::collections::{BTreeSet, VecDeque};

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::state::State;

/// As many of those that ended as the state finds without looking through all.
const ENDED_MAX: usize = 256;

/// Contracts that read this hospital's data.
#[derive(Debug, Default)]
pub(super) struct Concerned {
    open: BTreeSet<ContractId>,
    /// The latest to end, in the order in which they did.
    ended: VecDeque<ContractId>,
}

fn reads(contract: &Contract, party: &str) -> bool {
    contract.terms.inputs.iter().any(|input| input.owner.as_str() == party)
}

impl Concerned {
    /// As a state has them.
    pub(super) fn of(state: &State, party: &str) -> Self {
        let (mut open, mut ended) = (BTreeSet::new(), VecDeque::new());
        for contract in state.recent_contracts().filter(|contract| reads(contract, party)) {
            match contract.phase.is_terminal() {
                true => ended.push_back(contract.id),
                false => _ = open.insert(contract.id),
            }
        }
        Self { open, ended }
    }

    /// An entry changed a contract; `state` is the one after it.
    pub(super) fn handle_changed(&mut self, state: &State, party: &str, id: ContractId) {
        match state.open_contract(&id) {
            Some(contract) if reads(contract, party) => _ = self.open.insert(id),
            open => {
                // Amended terms may leave out what they read before.
                if self.open.remove(&id) && open.is_none() {
                    self.ended.push_back(id);
                }
                if self.ended.len() > ENDED_MAX {
                    self.ended.pop_front();
                }
            }
        }
    }

    /// Those that have not ended, by id.
    pub(super) fn open<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Contract> {
        self.open.iter().filter_map(|id| state.open_contract(id))
    }

    /// Those among the latest on the ledger to end, in the order in which they did.
    pub(super) fn ended<'a>(&'a self, state: &'a State) -> impl Iterator<Item = &'a Contract> {
        state.ended_contracts(|id| self.ended.contains(id))
    }
}
