//! From a proposal to an executable contract: propose, amend, accept, reject, withdraw, fund, arm.

use super::accounts::{AccountId, Pending, Transfer};
use super::body::{Accept, Amend, Arm, Fund, Propose, Withdraw};
use super::contract::{AcceptRecord, Armed, Contract, Ended, Funding, Suspension, dataset_key};
use super::error::{Reason, mismatch, short};
use super::kept::Kept;
use super::party::Code;
use super::settlement::{closing_transfers, shares};
use super::state::Change;
use super::step::Step;
use super::table::Phase;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Transfers that go with a step.
pub(super) type Money = Result<Vec<Transfer>, Reason>;

impl Step<'_> {
    pub(super) fn propose(&self, body: &Propose) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.check_terms(&body.terms)?;
        if !body.terms.signatories().contains(&self.actor) {
            return mismatch(format!("{} proposes terms to which it is not a party", self.actor));
        }
        let contract = Contract {
            id: self.payload,
            initiator: self.actor.clone(),
            phase: Phase::Proposed,
            terms_hash: body.terms.hash()?,
            terms: Arc::new(body.terms.clone()),
            terms_version: 1,
            head: self.leaf,
            proposed_index: self.index,
            accepts: BTreeMap::new(),
            funding: None,
            reservations: BTreeMap::new(),
            armed: None,
            key_records: BTreeMap::new(),
            directory: None,
            stages: BTreeMap::new(),
            round_close: None,
            delivery: None,
            disputed: None,
            decisions: BTreeMap::new(),
            resolved: None,
            settled: None,
            revoked: BTreeMap::new(),
            suspension: Suspension::default(),
            cleared: BTreeMap::new(),
            abort_votes: BTreeSet::new(),
            reviews: Vec::new(),
            ended: None,
        };
        Ok(vec![Change::Contract(Kept::new(contract, self.index))])
    }

    pub(super) fn amend(&self, contract: &mut Contract, body: &Amend) -> Money {
        self.check_terms(&body.terms)?;
        let signatories = body.terms.signatories();
        if let Some(gone) = [&contract.initiator, &self.actor].into_iter().find(|p| !signatories.contains(p)) {
            return mismatch(format!("the new terms leave out {gone}"));
        }
        if let Some(owner) = body.terms.owners().into_iter().find(|o| contract.revoked(o)) {
            return mismatch(format!("{owner} has taken its data out; leave it out of the new terms"));
        }
        let money = closing_transfers(contract, &self.state.accounts, self.seq_ms, false);
        contract.terms_hash = body.terms.hash()?;
        contract.terms = Arc::new(body.terms.clone());
        contract.terms_version = contract.terms_version.saturating_add(1);
        contract.phase = Phase::Proposed;
        contract.accepts.clear();
        contract.abort_votes.clear();
        contract.reservations.clear();
        Ok(money)
    }

    pub(super) fn accept(&self, contract: &mut Contract, body: &Accept) -> Money {
        if body.terms_version != contract.terms_version {
            return Err(Reason::TermsVersion { named: body.terms_version, version: contract.terms_version });
        }
        if body.terms_hash != contract.terms_hash {
            return mismatch(format!(
                "the acceptance is for terms {}, on the table are {}",
                short(&body.terms_hash),
                short(&contract.terms_hash)
            ));
        }
        self.by("the window for signing ended at", contract.terms.windows.sign_by_ms)?;
        if contract.accepts.contains_key(&self.actor) {
            return mismatch(format!("{} has accepted this version already", self.actor));
        }
        let record = AcceptRecord { payload: self.payload, policy_hash: body.policy_hash, index: self.index };
        contract.accepts.insert(self.actor.clone(), record);
        signed_or_not(contract);
        Ok(Vec::new())
    }

    pub(super) fn withdraw_contract(&self, contract: &mut Contract, body: &Withdraw) -> Money {
        if body.offer.is_some() {
            return mismatch("a step on a contract names no offer");
        }
        self.finish(contract, Phase::Withdrawn, None, false)
    }

    pub(super) fn fund(&self, contract: &mut Contract, body: &Fund) -> Money {
        let price = &contract.terms.price;
        let total = price.total_credits.saturating_add(price.deposit);
        self.by("the window for signing ended at", contract.terms.windows.sign_by_ms)?;
        if contract.funding.is_some() {
            return mismatch("the contract is funded already");
        }
        if body.amount != total || total == 0 {
            return mismatch(format!("the price and deposit are {total} credits, not {}", body.amount));
        }
        let timeout_ms = Some(contract.final_ms().saturating_add(1));
        let (mut holds, mut transfers) = (Vec::new(), Vec::new());
        let parts = shares(price, price.total_credits).into_iter().zip(shares(price, price.deposit));
        for (n, (split, (share, deposit))) in price.splits.iter().zip(parts).enumerate() {
            let amount = share.saturating_add(deposit);
            let id = self.hold_id(n);
            holds.push(id.clone());
            // A share that rounds to nothing needs no hold; the name keeps its place beside its split.
            if amount > 0 {
                let (debit, credit) = (AccountId::credits(&self.actor), AccountId::credits(&split.party));
                transfers.push(Transfer::Hold { id, pending: Pending { debit, credit, amount, timeout_ms } });
            }
        }
        contract.funding = Some(Funding { payload: self.payload, credits: total, holds });
        Ok(transfers)
    }

    pub(super) fn arm(&self, contract: &mut Contract, body: &Arm) -> Money {
        self.by("the window for signing ended at", contract.terms.windows.sign_by_ms)?;
        if !contract.is_funded() {
            return mismatch("the contract is not funded yet");
        }
        if let Some(dataset) = contract.missing_reservations().first() {
            return mismatch(format!("the privacy budget of {dataset} is not reserved yet"));
        }
        for input in contract.terms.inputs.iter().filter(|i| !contract.revoked(&i.owner)) {
            let key = dataset_key(&input.owner, &input.dataset);
            let offered = self.state.datasets.get(&key).is_some_and(|d| d.offer.schema_hash == input.schema_hash);
            if !offered {
                return mismatch(format!(
                    "the data set {key} is no longer offered as it was when the terms were signed"
                ));
            }
        }
        let expected = contract.arm_body()?;
        if *body != expected {
            return mismatch(
                "the arming does not name the terms, acceptances, funding and reservations that are on the ledger",
            );
        }
        contract.armed = Some(Armed { index: self.index, at_ms: self.seq_ms, payload: self.payload });
        contract.phase = Phase::Executable;
        Ok(Vec::new())
    }

    /// Ends a contract: what is held goes back, or is paid as earned first.
    pub(super) fn finish(&self, contract: &mut Contract, phase: Phase, code: Option<Code>, pay: bool) -> Money {
        contract.phase = phase;
        contract.ended =
            Some(Ended { by: self.kind, actor: self.actor.clone(), code, index: self.index, at_ms: self.seq_ms });
        Ok(closing_transfers(contract, &self.state.accounts, self.seq_ms, pay))
    }
}

/// Sets the phase by who has signed, before the contract is armed.
pub(super) fn signed_or_not(contract: &mut Contract) {
    contract.phase = match (contract.accepts.is_empty(), contract.missing_accepts().is_empty()) {
        (_, true) => Phase::Signed,
        (true, false) => Phase::Proposed,
        (false, false) => Phase::PartlySigned,
    };
}
