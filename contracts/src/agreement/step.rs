//! One action on its way to the ledger: everything that is checked for every kind, and where each kind is sent.

use super::accounts::Transfer;
use super::body::{Body, Kind};
use super::contract::Contract;
use super::error::{Reason, mismatch};
use super::hash::{ContractId, Hash32};
use super::kept::Kept;
use super::party::{Party, PartyId, PartyKeys, Role};
use super::state::{Change, State};
use super::table::{Order, Phase, Rule, Who, rule_of};
use crate::ledger::entry::{Action, Envelope};
use crate::ledger::key::PublicKey;
use std::collections::BTreeSet;

/// An action whose signatures, network, time and actor hold.
pub(super) struct Step<'a> {
    pub(super) state: &'a State,
    pub(super) action: &'a Action,
    pub(super) kind: Kind,
    pub(super) body: Body,
    /// Index the entry will have.
    pub(super) index: u64,
    pub(super) seq_ms: u64,
    pub(super) payload: Hash32,
    pub(super) leaf: Hash32,
    pub(super) actor: PartyId,
    /// Enrolled parties whose keys in force signed.
    pub(super) signers: BTreeSet<PartyId>,
    /// Whether the key that the body brings signed: proof of possession.
    pub(super) new_key_signed: bool,
}

impl<'a> Step<'a> {
    pub(super) fn new(state: &'a State, seq_ms: u64, envelope: &'a Envelope, leaf: Hash32) -> Result<Self, Reason> {
        let action = envelope.action();
        let payload = Hash32(envelope.payload_hash());
        if action.network != state.network.to_string() {
            return Err(Reason::Network { named: action.network.clone(), this: state.network });
        }
        if let Some(index) = state.seen(&payload) {
            return Err(Reason::Replayed(index));
        }
        let body = Body::parse(&action.kind, &action.body)?;
        let kind = body.kind();
        let actor = PartyId::new(&action.actor).map_err(|e| Reason::UnknownParty(e.to_string()))?;
        check_time(state, action, &actor, seq_ms)?;
        if (kind == Kind::Genesis) != (state.next_index == 0) {
            return Err(Reason::Genesis);
        }
        if state.frozen && kind != Kind::Handover {
            return Err(Reason::Frozen);
        }
        let mut step = Self {
            state,
            action,
            kind,
            body,
            index: state.next_index,
            seq_ms,
            payload,
            leaf,
            actor,
            signers: BTreeSet::new(),
            new_key_signed: false,
        };
        step.check_role()?;
        step.verify_signatures(envelope)?;
        Ok(step)
    }

    /// The role must exist and be held; parties that an action enrols hold what it gives them.
    fn check_role(&self) -> Result<(), Reason> {
        let wrong = || Reason::Role { party: self.actor.clone(), role: self.action.role.clone() };
        let role = Role::parse(&self.action.role).ok_or_else(wrong)?;
        let holds = match &self.body {
            Body::Genesis(_) => role == Role::Coordinator,
            Body::PartyEnrol(enrol) => enrol.roles.contains(&role),
            Body::Handover(_) => role == Role::Coordinator,
            _ => self.actor_party()?.has_role(role),
        };
        if holds { Ok(()) } else { Err(wrong()) }
    }

    /// The key that an envelope's body brings, if it is of a kind that brings one.
    pub(super) fn brought_key(envelope: &Envelope) -> Option<PublicKey> {
        let action = envelope.action();
        new_key(&Body::parse(&action.kind, &action.body).ok()?)
    }

    fn verify_signatures(&mut self, envelope: &Envelope) -> Result<(), Reason> {
        // Where one signature is enough, a second one says something that nobody reads: refused, before it costs anything.
        if !SIGNED_TOGETHER.contains(&self.kind) && envelope.signatures().len() > 1 {
            return Err(Reason::Signers(format!("{} carries one signature, the actor's", self.kind)));
        }
        let new_key = new_key(&self.body);
        let new_keyid = new_key.map(|k| k.keyid());
        envelope.verify_with(|keyid| match self.state.signers.get(keyid) {
            Some(signer) => Some(signer.key),
            None => new_key.filter(|_| new_keyid.as_deref() == Some(keyid)),
        })?;
        for signature in envelope.signatures() {
            if let Some(signer) = self.state.signers.get(&signature.keyid) {
                self.signers.insert(signer.party.clone());
            }
            self.new_key_signed |= new_keyid.as_ref() == Some(&signature.keyid);
        }
        let enrols = matches!(self.kind, Kind::Genesis | Kind::PartyEnrol | Kind::Handover);
        if !enrols && !self.signers.contains(&self.actor) {
            return Err(Reason::Signers(format!("{} is the actor but did not sign", self.actor)));
        }
        Ok(())
    }

    /// What the step changes, if it is allowed.
    pub(super) fn changes(&self) -> Result<Vec<Change>, Reason> {
        match &self.body {
            Body::Genesis(b) => self.genesis(b),
            Body::PartyEnrol(b) => self.party_enrol(b),
            Body::KeyRotate(b) => self.key_rotate(b),
            Body::KeyRevoke(b) => self.key_revoke(b),
            Body::PolicyChange(b) => self.policy_change(b),
            Body::Freeze(_) => self.freeze(),
            Body::Handover(b) => self.handover(b),
            Body::DatasetOffer(b) => self.dataset_offer(b),
            Body::AlgorithmOffer(b) => self.algorithm_offer(b),
            Body::ComputeOffer(b) => self.compute_offer(b),
            Body::Withdraw(b) if self.action.contract.is_none() => self.withdraw_offer(b),
            Body::Propose(b) => self.propose(b),
            Body::BudgetGenesis(b) => self.budget_genesis(b),
            Body::Deposit(b) => self.deposit(b),
            Body::Payout(b) => self.payout(b),
            Body::Transfer(b) => self.transfer(b),
            Body::Heartbeat(_) => self.outside_contract().map(|()| Vec::new()),
            _ => self.contract_step(),
        }
    }

    fn contract_step(&self) -> Result<Vec<Change>, Reason> {
        let rule = rule_of(self.kind).ok_or(Reason::Header("this kind is not a step on a contract"))?;
        let before = self.contract()?;
        self.check_rule(rule, before)?;
        let mut after = before.clone();
        let money = match &self.body {
            Body::Amend(b) => self.amend(&mut after, b),
            Body::Accept(b) => self.accept(&mut after, b),
            Body::Reject(b) => self.finish(&mut after, Phase::Rejected, Some(b.code.clone()), false),
            Body::Withdraw(b) => self.withdraw_contract(&mut after, b),
            Body::Fund(b) => self.fund(&mut after, b),
            Body::BudgetReserve(b) => self.budget_reserve(&mut after, b),
            Body::BudgetSpend(b) => self.budget_spend(&after, b),
            Body::BudgetRelease(b) => self.budget_release(&mut after, b),
            Body::Arm(b) => self.arm(&mut after, b),
            Body::KeyRecord(b) => self.key_record(&mut after, b),
            Body::RoundFreeze(b) => self.round_freeze(&mut after, b),
            Body::StageStart(b) => self.stage_start(&mut after, b),
            Body::RoundClose(b) => self.round_close(&mut after, b),
            Body::StageReceipt(b) => self.stage_receipt(&mut after, b),
            Body::StageAccept(b) => self.stage_accept(&mut after, b),
            Body::Clear(b) => self.clear(&mut after, b),
            Body::Deliver(b) => self.deliver(&mut after, b),
            Body::AcceptResult(_) => self.accept_result(&mut after),
            Body::Dispute(b) => self.dispute(&mut after, b),
            Body::Resolve(b) => self.resolve(&mut after, b),
            Body::Settle(b) => self.settle(&mut after, b),
            Body::Suspend(_) => self.suspend(&mut after),
            Body::Resume(_) => self.resume(&mut after),
            Body::Revoke(b) => self.revoke(&mut after, b),
            Body::Abort(b) => self.abort(&mut after, b),
            Body::Expire(_) => self.expire(&mut after),
            Body::AdminReview(b) => self.admin_review(&mut after, b),
            _ => mismatch("this kind is not a step on a contract"),
        }?;
        let stays = after.phase == before.phase;
        if !rule.to.contains(&after.phase) || (stays && !rule.from.contains(&after.phase)) {
            return Err(Reason::Internal(format!("{} led from {} to {}", self.kind, before.phase, after.phase)));
        }
        if rule.order == Order::Sequential {
            after.head = self.leaf;
        }
        let mut changes = vec![Change::Contract(Kept::new(after, self.index))];
        if !money.is_empty() {
            changes.push(Change::Money(self.state.accounts.plan(self.seq_ms, &money)?));
        }
        Ok(changes)
    }

    fn check_rule(&self, rule: &Rule, contract: &Contract) -> Result<(), Reason> {
        if !rule.from.contains(&contract.phase) {
            let allowed: Vec<String> = rule.from.iter().map(ToString::to_string).collect();
            return Err(Reason::Phase { phase: contract.phase, allowed: allowed.join(", ") });
        }
        if !rule.who.iter().any(|who| self.actor_is(*who, contract)) {
            return Err(Reason::NotEntitled { party: self.actor.clone(), who: format!("{:?}", rule.who) });
        }
        match (rule.order, &self.action.prev, self.action.terms_version) {
            (Order::Sequential, Some(prev), None) if *prev == contract.head.to_string() => Ok(()),
            (Order::Sequential, Some(prev), None) => Err(Reason::Prev { named: prev.clone(), head: contract.head }),
            (Order::Sequential, ..) => {
                Err(Reason::Header("this step names `prev`, the leaf hash it builds on, and no `terms_version`"))
            }
            (Order::Parallel, None, Some(version)) if version == contract.terms_version => Ok(()),
            (Order::Parallel, None, Some(named)) => {
                Err(Reason::TermsVersion { named, version: contract.terms_version })
            }
            (Order::Parallel, ..) => Err(Reason::Header("this step names `terms_version` and no `prev`")),
        }
    }

    fn actor_is(&self, who: Who, contract: &Contract) -> bool {
        let (terms, actor) = (&contract.terms, &self.actor);
        let executes = |id: u32| terms.stage(id).is_some_and(|s| s.executor == *actor);
        let named = match &self.body {
            Body::StageStart(b) => Some(b.stage),
            Body::StageReceipt(b) => Some(b.stage),
            Body::StageAccept(b) => Some(b.stage),
            _ => None,
        };
        match who {
            Who::Initiator => contract.initiator == *actor,
            Who::Signatory => contract.signatories().contains(actor),
            Who::Payer => terms.payer() == Some(actor),
            Who::Owner => terms.inputs.iter().any(|i| i.owner == *actor) && !contract.revoked(actor),
            Who::Coordinator => self.state.coordinator.as_ref() == Some(actor),
            Who::Executor => named.is_some_and(executes),
            Who::Consumer => {
                let depends = |id: u32| terms.stages.iter().any(|s| s.after.contains(&id) && s.executor == *actor);
                terms.delivery.recipient == *actor || named.is_some_and(depends)
            }
            Who::Integrator => terms.has_role(actor, Role::Integrator),
            Who::Recipient => terms.delivery.recipient == *actor,
            Who::Arbiter => self.arbiters(contract).contains(actor),
            Who::Admin => self.actor_party().is_ok_and(|p| p.has_role(Role::Admin)),
            Who::Anyone => true,
        }
    }

    /// Who decides disputes: the arbiters of the terms who have keys in force, or else the admins.
    pub(super) fn arbiters(&self, contract: &Contract) -> Vec<PartyId> {
        let named = contract.terms.with_role(Role::Arbiter).filter(|a| self.state.keys(a.as_str()).is_some());
        let named: Vec<PartyId> = named.cloned().collect();
        if named.is_empty() { self.state.admins() } else { named }
    }

    pub(super) fn actor_party(&self) -> Result<&'a Party, Reason> {
        self.enrolled(&self.actor)
    }

    /// An enrolled party with keys in force.
    pub(super) fn enrolled(&self, id: &PartyId) -> Result<&'a Party, Reason> {
        let party = self.state.parties.get(id).filter(|p| p.keys().is_some());
        party.ok_or_else(|| Reason::UnknownParty(id.to_string()))
    }

    pub(super) fn keys_of(&self, id: &PartyId) -> Result<&'a PartyKeys, Reason> {
        self.enrolled(id)?.keys().ok_or_else(|| Reason::UnknownParty(id.to_string()))
    }

    pub(super) fn is_coordinator(&self) -> bool {
        self.state.coordinator.as_ref() == Some(&self.actor)
    }

    /// Signers among a set of parties.
    pub(super) fn signed_of(&self, parties: &[PartyId]) -> usize {
        parties.iter().filter(|p| self.signers.contains(*p)).count()
    }

    /// Cosigners of a step that several take together must each be of `parties`.
    pub(super) fn only_signed_by(&self, parties: &[PartyId]) -> Result<(), Reason> {
        match self.signers.iter().find(|s| !parties.contains(s)) {
            Some(stranger) => Err(Reason::Signers(format!("{stranger} signed but has no say in this step"))),
            None => Ok(()),
        }
    }

    pub(super) fn coordinator_or_admin(&self) -> Result<(), Reason> {
        if self.is_coordinator() || self.actor_party()?.has_role(Role::Admin) {
            return Ok(());
        }
        Err(Reason::NotEntitled { party: self.actor.clone(), who: "the coordinator or an admin".into() })
    }

    /// Refuses contract, version and prev on an action that has nothing to do with a contract.
    pub(super) fn outside_contract(&self) -> Result<(), Reason> {
        if self.action.contract.is_some() || self.action.terms_version.is_some() || self.action.prev.is_some() {
            return Err(Reason::Header("this kind names no `contract`, `terms_version` or `prev`"));
        }
        Ok(())
    }

    fn contract(&self) -> Result<&'a Contract, Reason> {
        let id = self
            .action
            .contract
            .as_ref()
            .ok_or(Reason::Header("this kind is a step on a contract: name it in `contract`"))?;
        let id: ContractId = id.parse().map_err(|_| Reason::NoContract)?;
        self.state.contract(&id).ok_or(Reason::NoContract)
    }

    /// The step must be sequenced at or before a deadline.
    pub(super) fn by(&self, what: &'static str, deadline_ms: u64) -> Result<(), Reason> {
        if self.seq_ms <= deadline_ms {
            return Ok(());
        }
        Err(Reason::Deadline { what, deadline_ms, seq_ms: self.seq_ms })
    }

    /// The step must be sequenced after a deadline.
    pub(super) fn after(&self, what: &'static str, deadline_ms: u64) -> Result<(), Reason> {
        if self.seq_ms > deadline_ms {
            return Ok(());
        }
        Err(Reason::Deadline { what, deadline_ms, seq_ms: self.seq_ms })
    }

    /// Name of the step's `n`th hold.
    pub(super) fn hold_id(&self, n: usize) -> String {
        format!("{}/{n}", self.payload)
    }

    /// Checks transfers and wraps them.
    pub(super) fn money(&self, transfers: &[Transfer]) -> Result<Change, Reason> {
        Ok(Change::Money(self.state.accounts.plan(self.seq_ms, transfers)?))
    }
}

/// Keys that a body brings, which may sign beside those in force.
fn new_key(body: &Body) -> Option<PublicKey> {
    match body {
        Body::Genesis(genesis) => Some(genesis.coordinator.keys.party),
        Body::PartyEnrol(enrol) => Some(enrol.keys.party),
        Body::KeyRotate(rotate) => Some(rotate.keys.party),
        Body::Handover(handover) => Some(handover.coordinator.keys.party),
        _ => None,
    }
}

/// Kinds that several parties may sign in one envelope.
const SIGNED_TOGETHER: [Kind; 11] = [
    Kind::Genesis,
    Kind::PartyEnrol,
    Kind::KeyRotate,
    Kind::KeyRevoke,
    Kind::Freeze,
    Kind::Handover,
    Kind::PolicyChange,
    Kind::Abort,
    Kind::Resolve,
    Kind::Suspend,
    Kind::Resume,
];

fn check_time(state: &State, action: &Action, actor: &PartyId, seq_ms: u64) -> Result<(), Reason> {
    if seq_ms < state.now_ms {
        return Err(Reason::TimeBackwards { seq_ms, last_ms: state.now_ms });
    }
    let early_ms = action.not_before_ms.saturating_sub(seq_ms);
    let late_ms = seq_ms.saturating_sub(action.not_after_ms);
    let off_ms = early_ms.max(late_ms);
    if off_ms == 0 {
        return Ok(());
    }
    Err(Reason::Clock {
        actor: actor.clone(),
        from_ms: action.not_before_ms,
        to_ms: action.not_after_ms,
        seq_ms,
        off_min: off_ms.div_ceil(60_000),
    })
}
