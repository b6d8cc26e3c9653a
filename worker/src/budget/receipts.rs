//! What the coordinator's receipts say of the privacy that was spent, against what the stages' noise gives.
//!
//! The ledger takes an epsilon from whoever runs a stage: its state machine knows no algorithm. This hospital knows them,
//! computes the same figure, and where the two differ it says so and takes no further part in the contract. Its own
//! budget never rests on the receipt: what is booked is the larger of the two.

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::PartyId;
use leben_models::Algorithm;
use leben_models::promise::epsilon_added_micro;

use super::ask::delta_of;
use super::book::Budgets;
use super::show;
use crate::consent;
use crate::refusal::{Reason, Refusal};

/// Last millionths in which two processors may differ (`privacy/DP.md`, Numbers).
const TOLERANCE_MICRO: u64 = 10;

impl Budgets {
    /// Compares the receipts of a contract with a privacy mechanism, each once. Returns those that differ and are new.
    pub fn compare_receipts(&mut self, me: &PartyId, contract: &Contract) -> Vec<Refusal> {
        let mut new = Vec::new();
        for stage in &contract.terms.stages {
            let key = (contract.id, stage.id);
            if contract.receipt(stage.id).is_none() || self.receipts.contains_key(&key) {
                continue;
            }
            let differs = self.check_receipt(me, contract, stage.id).err();
            new.extend(differs.clone());
            self.receipts.insert(key, differs);
        }
        new
    }

    /// Why nothing more is computed for a contract: a receipt of it is not true.
    pub fn distrusted(&self, contract: &Hash32) -> Option<&Refusal> {
        self.distrusts().find(|(id, _)| *id == contract).map(|(_, why)| why)
    }

    /// Every receipt that is not true, in words.
    pub fn distrusts(&self) -> impl Iterator<Item = (&Hash32, &Refusal)> {
        self.receipts.iter().filter_map(|((contract, _), why)| Some((contract, why.as_ref()?)))
    }

    fn check_receipt(&self, me: &PartyId, contract: &Contract, id: u32) -> Result<(), Refusal> {
        let terms = contract.terms.as_ref();
        let (Some(stage), Some(receipt)) = (terms.stage(id), contract.receipt(id)) else { return Ok(()) };
        let mine = |input: &&leben_contracts::agreement::terms::Input| input.owner == *me;
        let Some(input) = stage.inputs.iter().filter_map(|id| terms.input(id)).find(mine) else { return Ok(()) };
        let differs = |words: String| {
            let words = format!("the receipt of stage '{}' says {words}; ask the coordinator's operator", stage.name);
            Err(Refusal::new(Reason::Receipt, words))
        };
        let left_here = self.get(&input.dataset).and_then(|budget| budget.job(&contract.id));
        let left_here = left_here.map_or(0, |job| job.rounds(id));
        if left_here > receipt.rounds {
            return differs(format!("{} round(s), {left_here} left this hospital", receipt.rounds));
        }
        // Code that this worker does not have was never signed here.
        let Ok(algorithms) = consent::algorithms(terms) else { return Ok(()) };
        let rounds = |stage: u32| contract.receipt(stage).map_or(0, |receipt| receipt.rounds);
        let until = terms.stages.iter().position(|other| other.id == id).map_or(0, |at| at + 1);
        let ran: Vec<(&dyn Algorithm, u32)> = terms
            .stages
            .iter()
            .zip(&algorithms)
            .take(until)
            .map(|(stage, algorithm)| (algorithm.as_ref(), rounds(stage.id)))
            .collect();
        let hospitals = u16::try_from(contract.owners().len()).unwrap_or(u16::MAX);
        let promised_micro = terms.privacy.epsilon_micro;
        let computed = epsilon_added_micro(&ran, hospitals, delta_of(terms), promised_micro);
        if computed.abs_diff(receipt.epsilon_micro_spent) > TOLERANCE_MICRO {
            let (said, is, rounds) = (show(receipt.epsilon_micro_spent), show(computed), receipt.rounds);
            return differs(format!("epsilon {said}, its noise and {rounds} round(s) give {is}"));
        }
        Ok(())
    }
}
