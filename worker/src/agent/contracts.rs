//! Each contract from its proposal to its end, as the certified ledger shows it.
//!
//! [`Agent::advance`] is run whenever anything may have changed. It compares what is certified with what is wanted and
//! asks for the difference, so that a restart takes the same way as the first start.

use std::sync::Arc;

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::contract::{Contract, dataset_key};
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::table::Phase;
use leben_contracts::ledger::key::PublicKey;
use leben_protocol::frame::ContractId;

use super::{Action, Agent, Wish};
use crate::audit::AuditEntry;
use crate::consent;
use crate::refusal::{Reason, Refusal};

impl Agent {
    /// Takes every step that the certified ledger allows and people want.
    pub(super) fn advance(&mut self, now_ms: u64) {
        if self.clock.is_ok() && self.mirror.halted().is_none() {
            let enrolled =
                self.mirror.certified().party(self.party.as_str()).is_some_and(|party| party.keys().is_some());
            if enrolled {
                self.advance_keys(now_ms);
                self.offer_datasets(now_ms);
                self.advance_budgets(now_ms);
                let contracts: Vec<Arc<Contract>> = self.my_contracts();
                contracts.iter().for_each(|contract| self.advance_contract(now_ms, contract));
            }
            self.replay_held(now_ms);
        }
        self.forget_ended();
        self.send_appends();
    }

    /// Contracts that have not ended and read this hospital's data, in the order of their proposals: of two that want
    /// the last of a budget, every hospital that signs by itself signs the earlier one.
    fn my_contracts(&self) -> Vec<Arc<Contract>> {
        let open = self.mirror.open_contracts();
        let mut contracts: Vec<Arc<Contract>> = open.map(|contract| Arc::new(contract.clone())).collect();
        contracts.sort_by_key(|contract| contract.proposed_index);
        contracts
    }

    /// The rows of a data set were counted, so that it can be offered.
    pub fn handle_counted(&mut self, now_ms: u64, dataset: &Code, rows: u64) {
        self.declared.set_rows(dataset, rows);
        self.advance(now_ms);
    }

    fn offer_datasets(&mut self, now_ms: u64) {
        let offers: Vec<_> = self.declared.iter().filter_map(|dataset| dataset.offer()).collect();
        for offer in offers {
            let on_ledger = self.mirror.certified().datasets().get(&dataset_key(&self.party, &offer.name));
            let same = on_ledger.is_some_and(|known| {
                known.offer.schema_hash == offer.schema_hash
                    && known.offer.permission == offer.permission
                    && known.offer.price_hint == offer.price_hint
            });
            if !same {
                self.append(now_ms, None, Body::DatasetOffer(offer));
            }
        }
    }

    fn advance_contract(&mut self, now_ms: u64, contract: &Contract) {
        self.carry_wish(now_ms, contract);
        self.advance_budget_of(now_ms, contract);
        match contract.phase {
            Phase::Proposed | Phase::PartlySigned => self.advance_signing(now_ms, contract),
            Phase::Executable | Phase::Running => {
                self.advance_clearance(now_ms, contract);
                self.advance_work(now_ms, contract);
            }
            phase => self.leave_job(now_ms, &contract.id.0, &format!("the contract is {phase}")),
        }
    }

    /// Suspend, Resume and Revoke, until the certified ledger shows them.
    fn carry_wish(&mut self, now_ms: u64, contract: &Contract) {
        let id = contract.id.0;
        let Some(wish) = self.standings.get(&id).and_then(|standing| standing.wish.clone()) else { return };
        let stopped = contract.suspension.owners.contains(&self.party);
        let (done, body) = match wish {
            Wish::Suspend { code } => (stopped, Body::Suspend(body::Suspend { code })),
            Wish::Resume => (!stopped, Body::Resume(body::Resume {})),
            Wish::Revoke => {
                (contract.revoked(&self.party), Body::Revoke(body::Revoke { datasets: self.datasets_in(contract) }))
            }
        };
        if !matches!(body, Body::Resume(_)) {
            self.leave_job(now_ms, &id, "stopped by a person at this hospital");
        }
        if done {
            if let Some(standing) = self.standings.get_mut(&id) {
                standing.wish = None;
            }
            return self.store_standing(id);
        }
        self.append(now_ms, Some(contract), body);
    }

    fn datasets_in(&self, contract: &Contract) -> Vec<Code> {
        let mine = contract.terms.inputs.iter().filter(|input| input.owner == self.party);
        let mut names: Vec<Code> = mine.map(|input| input.dataset.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    fn advance_signing(&mut self, now_ms: u64, contract: &Contract) {
        let id = contract.id.0;
        let desk = self.desk(now_ms);
        let review = consent::review(contract, &desk).map(|_| ());
        let changed = self.reviews.get(&id) != Some(&review);
        self.reviews.insert(id, review.clone());
        if changed {
            self.audit(now_ms, "proposed", Some(&id), review.as_ref().err());
        }
        if contract.accepts.contains_key(&self.party) || contract.revoked(&self.party) {
            return;
        }
        let standing = self.standings.get(&id).cloned().unwrap_or_default();
        if let Some(code) = standing.refused {
            return self.append(now_ms, Some(contract), Body::Reject(body::Reject { code }));
        }
        if review.is_err() || standing.suspended || standing.revoked || !self.cohorts_are_there(contract) {
            return;
        }
        if self.declared.policy.auto_approve && standing.approved != Some(contract.terms_hash) {
            self.approve_by_policy(now_ms, contract);
        }
        let approval = self.standings.get(&id).and_then(super::Standing::approval);
        let Some(approval) = approval.filter(|approval| approval.terms_hash == contract.terms_hash) else { return };
        // Held before it is signed: of two contracts that want the last of a budget one is signed.
        if let Err(refusal) = self.hold_budget(now_ms, contract) {
            self.reviews.insert(id, Err(refusal));
            return;
        }
        let accept = body::Accept {
            terms_hash: contract.terms_hash,
            terms_version: contract.terms_version,
            policy_hash: approval.policy_hash,
        };
        self.append(now_ms, Some(contract), Body::Accept(accept));
    }

    fn approve_by_policy(&mut self, now_ms: u64, contract: &Contract) {
        let policy = self.declared.policy.hash();
        let standing = self.standings.entry(contract.id.0).or_default();
        standing.approved = Some(contract.terms_hash);
        standing.policy = Some(policy);
        standing.by_policy = true;
        self.store_standing(contract.id.0);
        self.audit(now_ms, "approved-by-policy", Some(&contract.id.0), None);
    }

    /// Executable: publish keys, then take part once the directory is frozen.
    fn advance_work(&mut self, now_ms: u64, contract: &Contract) {
        let id = contract.id.0;
        let standing = self.standings.get(&id).cloned().unwrap_or_default();
        let desk = self.desk(now_ms);
        let allowed = standing.check().and_then(|()| {
            consent::ready(self.mirror.certified(), &id, &desk, standing.approval().as_ref()).map(|_| ())
        });
        if self.reviews.get(&id) != Some(&allowed) {
            self.reviews.insert(id, allowed.clone());
            self.audit(now_ms, "executable", Some(&id), allowed.as_ref().err());
        }
        if let Err(refusal) = allowed {
            return self.leave_job(now_ms, &id, refusal.reason.code());
        }
        if self.jobs.get(&id).is_some_and(|job| job.left.is_some()) {
            return;
        }
        let Some(keys) = self.job_keys(&id) else { return };
        let on_ledger = contract.key_records.get(&self.party);
        if !on_ledger.is_some_and(|record| *record == keys) {
            return self.append(now_ms, Some(contract), Body::KeyRecord(keys));
        }
        if contract.directory.is_some()
            && let Err(refusal) = self.join_job(now_ms, &id)
        {
            let known = self.reviews.insert(id, Err(refusal.clone()));
            if known != Some(Err(refusal.clone())) {
                self.audit(now_ms, "not-joined", Some(&id), Some(&refusal));
            }
        }
    }

    /// The job's public keys; its secret is made, and stored, when there is none.
    fn job_keys(&mut self, id: &ContractId) -> Option<body::KeyRecord> {
        if self.jobs.get(id).is_none_or(|job| job.seed.is_none()) {
            let seed = self.fresh_seed();
            self.actions.push_back(Action::StoreJobSeed { contract: *id, seed: seed.clone() });
            self.jobs.entry(*id).or_default().seed = Some(seed);
        }
        let keys = self.jobs.get(id)?.public_keys()?;
        let verify = PublicKey::from_bytes(&keys.verify).ok()?;
        Some(body::KeyRecord { verify, channel: X25519Key(keys.channel) })
    }

    /// Drops what belongs to contracts that are over; a journal lives as long as its contract can open a slot.
    fn forget_ended(&mut self) {
        let state = self.mirror.certified();
        let over = |id: &ContractId| {
            let contract = state.contract(&leben_contracts::agreement::hash::Hash32(*id));
            contract.is_some_and(|contract| contract.phase.is_terminal())
        };
        let ended: Vec<ContractId> = self.jobs.keys().filter(|id| over(id)).copied().collect();
        for id in ended {
            self.jobs.remove(&id);
            self.actions.push_back(Action::ForgetJob { contract: id });
        }
        self.reviews.retain(|id, _| !over(id));
    }

    pub(super) fn audit_words(&mut self, at_ms: u64, event: &'static str, id: &ContractId, words: String) {
        let contract = Some(hex::encode(id));
        self.actions.push_back(Action::Audit(AuditEntry { at_ms, event, contract, code: None, words }));
    }

    /// What stands in the way of a contract here, if anything does.
    pub(super) fn obstacle(&self, id: &ContractId) -> Option<&Refusal> {
        let left = self.jobs.get(id).and_then(|job| job.left.as_ref());
        left.or_else(|| self.reviews.get(id).and_then(|review| review.as_ref().err()))
            .filter(|refusal| refusal.reason != Reason::NoDirectory)
    }
}
