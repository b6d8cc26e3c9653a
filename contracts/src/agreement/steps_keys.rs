//! Keys over time: which keys a party may bring, rotation, and what the rest of the ledger makes of a revocation.
//!
//! A revoked party cannot sign, so nothing may wait for it any more. In the very entry that revokes its keys it leaves the witness
//! policy, its offers are withdrawn, its data leaves the contracts that have not delivered yet (as by its own Revoke), and contracts
//! that cannot do without it end as aborted. A Handover to another party does the same to the coordinator of before. What was signed before
//! stays as it was signed.

use super::accounts::Transfer;
use super::body::{KeyRevoke, KeyRotate, quorum};
use super::contract::Contract;
use super::error::{Reason, mismatch};
use super::hash::X25519Key;
use super::kept::Kept;
use super::party::{Code, KeyPeriod, Party, PartyId, PartyKeys, Role};
use super::state::{Change, PolicyRecord};
use super::step::Step;
use super::steps_network::majority;
use super::table::Phase;
use crate::ledger::key::PublicKey;

/// The code of contracts that end because a party's keys were revoked.
const KEYS_REVOKED: &str = "keys_revoked";

impl Step<'_> {
    /// Each use has its own key; no key belongs, or ever belonged, to somebody else; and a key of the party's own that was replaced or
    /// revoked never comes back.
    pub(super) fn check_keys(&self, party: &PartyId, keys: &PartyKeys, sealing: &X25519Key) -> Result<(), Reason> {
        let own = self.state.parties.get(party);
        let current = own.and_then(Party::current);
        let new: Vec<_> = keys.each().collect();
        for (i, (name, key)) in new.iter().enumerate() {
            if new.iter().take(i).any(|(_, k)| k == key) || self.state.log_keys.contains(key) {
                return mismatch(format!("the {name} key is used for something else as well; make a key for each use"));
            }
            let stays = current.is_some_and(|period| period.keys.each().any(|known| known == (*name, *key)));
            if !stays {
                self.check_unused(party, name, |period| period.keys.each().any(|(_, k)| k == *key))?;
            }
        }
        if sealing.is_weak() {
            return mismatch(
                "the sealing key is weak (small order): everybody could read what is sealed to it; make a new one",
            );
        }
        if current.is_some_and(|period| period.sealing == *sealing) {
            return Ok(());
        }
        self.check_unused(party, "sealing", |period| period.sealing == *sealing)
    }

    pub(super) fn check_unused(
        &self,
        party: &PartyId,
        name: &str,
        holds: impl Fn(&KeyPeriod) -> bool,
    ) -> Result<(), Reason> {
        let held = |p: &&Party| p.periods.iter().any(&holds);
        match self.state.parties.values().find(held) {
            None => Ok(()),
            Some(other) if other.id != *party => mismatch(format!("the {name} key belongs to {}", other.id)),
            Some(_) => mismatch(format!(
                "the {name} key was a key of {party} before, and was replaced or revoked; make a new one"
            )),
        }
    }

    pub(super) fn key_rotate(&self, body: &KeyRotate) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        let mut party = self.actor_party()?.clone();
        let now = party.current().ok_or_else(|| Reason::UnknownParty(self.actor.to_string()))?;
        if !self.new_key_signed && body.keys.party != now.keys.party {
            return Err(Reason::Signers("a rotation is signed with the old party key and with the new one".into()));
        }
        self.only_signed_by(std::slice::from_ref(&self.actor))?;
        if body.keys == now.keys && body.sealing == now.sealing {
            return mismatch(format!(
                "these are the keys of {} already; a rotation brings at least one new one",
                self.actor
            ));
        }
        let validates = self.state.policy.as_ref().is_some_and(|p| p.validators.contains(&self.actor));
        if validates && body.keys.validator.is_none() {
            return mismatch(format!("{} is a validator by the policy in force and needs a validator key", self.actor));
        }
        self.check_keys(&self.actor, &body.keys, &body.sealing)?;
        self.end_period(&mut party);
        let period =
            KeyPeriod { from_index: self.index, until_index: None, keys: body.keys.clone(), sealing: body.sealing };
        party.periods.push(period);
        Ok(vec![Change::Party(Box::new(party))])
    }

    pub(super) fn end_period(&self, party: &mut Party) {
        if let Some(period) = party.periods.last_mut() {
            period.until_index = Some(self.index);
        }
    }

    pub(super) fn key_revoke(&self, body: &KeyRevoke) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        let admins = self.state.admins();
        if body.party == self.actor {
            self.only_signed_by(std::slice::from_ref(&self.actor))?;
        } else {
            let policy = self.state.policy.as_ref().filter(|policy| policy.validators.contains(&body.party));
            let ask = policy.filter(|policy| !policy.may_lose_unasked());
            let validators = ask.map(|policy| policy.validators.clone()).unwrap_or_default();
            self.only_signed_by(&[admins.as_slice(), &validators].concat())?;
            let (signed, needed) = (self.signed_of(&admins), majority(admins.len()));
            if signed < needed {
                return Err(Reason::Signers(format!(
                    "a revocation is signed by a majority of the {} admins together: {needed} have to, {signed} did",
                    admins.len()
                )));
            }
            if ask.is_some() {
                let why = "as many validators as may lie were revoked since they were agreed on";
                self.check_quorum().map_err(|lacks| lacks.because(why))?;
            }
        }
        if self.state.coordinator.as_ref() == Some(&body.party) {
            return mismatch("the coordinator's keys are replaced by KeyRotate, or by Handover");
        }
        if admins == [body.party.clone()] {
            return mismatch(format!(
                "{} is the only admin: nobody could enrol another one; enrol one first, or rotate the keys",
                body.party
            ));
        }
        let mut party = self.enrolled(&body.party)?.clone();
        self.end_period(&mut party);
        let mut changes = vec![Change::Party(Box::new(party))];
        changes.extend(self.policy_without(&body.party)?);
        changes.extend(self.offers_of(&body.party));
        changes.extend(self.contracts_without(&body.party)?);
        Ok(changes)
    }

    /// The witness policy without a validator, with the quorum of those who stay.
    fn policy_without(&self, id: &PartyId) -> Result<Option<Change>, Reason> {
        let Some(policy) = self.state.policy.as_ref().filter(|p| p.validators.contains(id)) else { return Ok(None) };
        let validators: Vec<PartyId> = policy.validators.iter().filter(|v| *v != id).cloned().collect();
        if validators.is_empty() {
            return mismatch(format!(
                "{id} is the only validator: nobody could cosign that it is gone; let another hospital join, or rotate the keys"
            ));
        }
        let quorum = u32::try_from(quorum(validators.len())).map_err(|e| Reason::Internal(e.to_string()))?;
        Ok(Some(Change::Policy(PolicyRecord { validators, quorum, since_index: self.index, ..policy.clone() })))
    }

    /// Its offers go: nobody could sign a contract about them.
    pub(super) fn offers_of(&self, id: &PartyId) -> Vec<Change> {
        let datasets = self.state.datasets.iter().filter(|(_, d)| d.owner == *id);
        let algorithms = self.state.algorithms.iter().filter(|(_, a)| a.provider == *id);
        let computes = self.state.computes.iter().filter(|(_, c)| c.provider == *id);
        let mut gone: Vec<Change> = datasets.map(|(key, _)| Change::DatasetGone(key.clone())).collect();
        gone.extend(algorithms.map(|(key, _)| Change::AlgorithmGone(*key)));
        gone.extend(computes.map(|(key, _)| Change::ComputeGone(*key)));
        gone
    }

    pub(super) fn contracts_without(&self, id: &PartyId) -> Result<Vec<Change>, Reason> {
        let (mut changes, mut money): (Vec<Change>, Vec<Transfer>) = (Vec::new(), Vec::new());
        for before in self.state.open_contracts() {
            let mut after = before.clone();
            if let Some(transfers) = self.without(&mut after, id)? {
                money.extend(transfers);
                changes.push(Change::Contract(Kept::new(after, self.index)));
            }
        }
        if !money.is_empty() {
            changes.push(self.money(&money)?);
        }
        Ok(changes)
    }

    /// A contract without a party that cannot sign any more; `None` where nothing has to change.
    fn without(&self, contract: &mut Contract, id: &PartyId) -> Result<Option<Vec<Transfer>>, Reason> {
        let armed = match contract.phase {
            Phase::Proposed | Phase::PartlySigned | Phase::Signed => false,
            Phase::Executable | Phase::Running | Phase::Suspended => true,
            // The result is out: the coordinator accepts and settles where others stay silent.
            _ => return Ok(None),
        };
        if contract.owners().contains(id) {
            if contract.revoked(id) {
                return Ok(None);
            }
            return self.take_out(contract, id, KEYS_REVOKED).map(Some);
        }
        let terms = &contract.terms;
        let pending = |stage: u32| contract.receipt(stage).is_none();
        let needed = terms.delivery.recipient == *id
            || terms.payer() == Some(id)
            || terms.has_role(id, Role::Integrator)
            || terms.stages.iter().any(|stage| stage.executor == *id && pending(stage.id));
        let waits = !armed && contract.signatories().contains(id);
        if !needed && !waits {
            return Ok(None);
        }
        let code = Code::new(KEYS_REVOKED).map_err(|e| Reason::Internal(e.to_string()))?;
        self.finish(contract, Phase::Aborted, Some(code), true).map(Some)
    }
}

impl super::state::State {
    /// The party that used this TLS key once and does not any more, with the entry that ended it.
    #[must_use]
    pub fn former_tls_key(&self, key: &[u8; 32]) -> Option<(&Party, u64)> {
        let key = PublicKey::from_bytes(key).ok()?;
        let ended = |party: &Party| party.periods.iter().rev().find(|p| p.keys.tls == key).and_then(|p| p.until_index);
        self.parties.values().find_map(|party| ended(party).map(|index| (party, index)))
    }

    /// Whether this TLS key is, or ever was, some party's.
    #[must_use]
    pub fn has_tls_key(&self, key: &[u8; 32]) -> bool {
        self.party_by_tls_key(key).is_some() || self.former_tls_key(key).is_some()
    }
}
