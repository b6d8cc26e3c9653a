//! Who takes part: the first entry, enrolment, the witness policy, freeze and handover.

use super::body::{Founder, Genesis, Handover, PartyEnrol, PolicyChange, quorum};
use super::error::{Reason, mismatch};
use super::party::{KeyPeriod, OrgKind, Party, PartyId, Role};
use super::state::{Change, PolicyRecord};
use super::step::Step;
use std::collections::BTreeSet;

const ADMINS_MAX: usize = 64;
/// With more of them a quorum's signatures and the actor's would not fit one action, and nobody could change or hand over anything.
const VALIDATORS_MAX: usize = 94;
/// The coordinator also joins parts and offers the built-in algorithms.
const COORDINATOR_ROLES: [Role; 4] =
    [Role::AlgorithmProvider, Role::ComputeProvider, Role::Integrator, Role::Coordinator];

impl Step<'_> {
    pub(super) fn genesis(&self, body: &Genesis) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        if body.origin != self.state.origin {
            return mismatch(format!(
                "Genesis is for the origin {:?}, this log is {:?}",
                body.origin, self.state.origin
            ));
        }
        if body.coordinator.party != self.actor || !self.new_key_signed {
            return Err(Reason::Signers("Genesis is the coordinator's, signed with its party key".into()));
        }
        if body.admins.is_empty() || body.admins.len() > ADMINS_MAX {
            return mismatch(format!("Genesis names 1 to {ADMINS_MAX} admins"));
        }
        let mut names = BTreeSet::from([&body.coordinator.party]);
        if !body.admins.iter().all(|a| names.insert(&a.party)) {
            return mismatch("a party appears twice in Genesis");
        }
        let founders = || body.admins.iter().chain([&body.coordinator]);
        let mut keys: Vec<[u8; 32]> = founders().flat_map(|f| f.keys.each().map(|(_, k)| k.to_bytes())).collect();
        keys.push(body.log_key.to_bytes());
        if keys.iter().collect::<BTreeSet<_>>().len() != keys.len() {
            return mismatch("a key appears twice in Genesis; each use has its own key");
        }
        if founders().any(|f| f.sealing.is_weak()) {
            return mismatch("a sealing key in Genesis is weak (small order)");
        }
        if let Some(embedded) = &body.embeds {
            let fork = embedded.verify().map_err(|e| Reason::Mismatch(format!("the fork that Genesis embeds: {e}")))?;
            if fork.origin == body.origin || *embedded.fork.log().key() == body.log_key {
                return mismatch(
                    "a network that begins in place of a forked one has an origin and a log key of its own",
                );
            }
        }
        let mut changes = vec![self.founder(&body.coordinator, OrgKind::Coordinator, COORDINATOR_ROLES.to_vec())];
        changes.extend(body.admins.iter().map(|a| self.founder(a, OrgKind::Team, vec![Role::Admin])));
        changes.push(Change::Coordinator(body.coordinator.party.clone(), body.log_key));
        Ok(changes)
    }

    fn founder(&self, founder: &Founder, kind: OrgKind, roles: Vec<Role>) -> Change {
        let period = KeyPeriod {
            from_index: self.index,
            until_index: None,
            keys: founder.keys.clone(),
            sealing: founder.sealing,
        };
        Change::Party(Box::new(Party { id: founder.party.clone(), kind, roles, periods: vec![period] }))
    }

    pub(super) fn party_enrol(&self, body: &PartyEnrol) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        if body.party != self.actor || !self.new_key_signed {
            return Err(Reason::Signers(
                "an enrolment is signed with the new party key, by the party it enrols".into(),
            ));
        }
        let earlier = self.state.parties.get(&body.party);
        if earlier.is_some_and(|p| p.keys().is_some()) {
            return mismatch(format!("{} is enrolled already; rotate its keys instead", body.party));
        }
        let coordinator = self.state.coordinator.clone().into_iter().collect::<Vec<_>>();
        if self.signed_of(&coordinator) == 0 {
            return Err(Reason::Signers("an enrolment is countersigned by the coordinator".into()));
        }
        let admins = self.state.admins();
        self.only_signed_by(&[coordinator, admins.clone()].concat())?;
        if body.roles.contains(&Role::Admin) && self.signed_of(&admins) == 0 {
            return Err(Reason::Signers("a new admin is countersigned by an admin".into()));
        }
        if body.kind == OrgKind::Coordinator || body.roles.contains(&Role::Coordinator) {
            return mismatch("a coordinator comes from Genesis or a Handover, not from an enrolment");
        }
        if body.roles.is_empty() || !body.roles.is_sorted_by(|a, b| a < b) {
            return mismatch("roles are at least one, sorted, each once");
        }
        if self.state.invites.contains(&body.invite_hash) {
            return mismatch("this invite was used already; ask for a new one");
        }
        self.check_keys(&body.party, &body.keys, &body.sealing)?;
        let mut periods = earlier.map(|p| p.periods.clone()).unwrap_or_default();
        periods.push(KeyPeriod {
            from_index: self.index,
            until_index: None,
            keys: body.keys.clone(),
            sealing: body.sealing,
        });
        let party = Party { id: body.party.clone(), kind: body.kind, roles: body.roles.clone(), periods };
        Ok(vec![Change::Party(Box::new(party)), Change::Invite(body.invite_hash)])
    }

    pub(super) fn policy_change(&self, body: &PolicyChange) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.coordinator_or_admin()?;
        if body.validators.is_empty()
            || body.validators.len() > VALIDATORS_MAX
            || !body.validators.is_sorted_by(|a, b| a < b)
        {
            return mismatch(format!("validators are 1 to {VALIDATORS_MAX}, sorted, each once"));
        }
        for id in &body.validators {
            // Its keys pass on with the ledger, by a Handover that the others sign; and it would cosign what it wrote.
            if self.enrolled(id)?.kind == OrgKind::Coordinator {
                return mismatch(format!("{id} keeps the ledger, so it cannot be a validator of it"));
            }
            if self.keys_of(id)?.validator.is_none() {
                return mismatch(format!("{id} is enrolled without a validator key"));
            }
        }
        let (n, needed) = (body.validators.len(), quorum(body.validators.len()));
        if usize::try_from(body.quorum) != Ok(needed) {
            return mismatch(format!("with {n} validators the quorum is {needed}, not {}", body.quorum));
        }
        let agreed = self.agreed(body, u32::try_from(n).map_err(|e| Reason::Internal(e.to_string()))?)?;
        let (validators, quorum) = (body.validators.clone(), body.quorum);
        let before = self.state.policy.as_ref();
        let drops = |before: &PolicyRecord| before.validators.iter().any(|validator| !validators.contains(validator));
        let closed = before.is_some_and(|before| before.closed || drops(before));
        Ok(vec![Change::Policy(PolicyRecord { validators, quorum, agreed, closed, since_index: self.index })])
    }

    /// Whether those in force agree, where they have to: otherwise who has the coordinator's keys alone replaces or outnumbers those who
    /// could hand the ledger over. How many the set counts that was agreed last.
    fn agreed(&self, body: &PolicyChange, n: u32) -> Result<u32, Reason> {
        let Some(policy) = &self.state.policy else { return Ok(n) };
        match self.check_quorum() {
            Ok(()) => Ok(n),
            Err(_) if policy.may_become_unasked(&body.validators) => Ok(policy.agreed.max(n)),
            Err(lacks) => Err(lacks.because("from the first four on, the validators decide who joins or leaves them")),
        }
    }

    pub(super) fn freeze(&self) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        if !self.is_coordinator() {
            self.check_quorum()?;
        }
        Ok(vec![Change::Frozen(true)])
    }

    pub(super) fn check_quorum(&self) -> Result<(), Reason> {
        let policy =
            self.state.policy.as_ref().ok_or_else(|| Reason::Mismatch("there is no witness policy yet".into()))?;
        let signed = self.signed_of(&policy.validators);
        if usize::try_from(policy.quorum).is_ok_and(|q| signed >= q) {
            return Ok(());
        }
        Err(Reason::Signers(format!("{signed} of the validators signed, {} have to", policy.quorum)))
    }

    pub(super) fn handover(&self, body: &Handover) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        let new = &body.coordinator;
        if new.party != self.actor || !self.new_key_signed {
            return Err(Reason::Signers(
                "a Handover is the new coordinator's action, signed with the party key that it brings".into(),
            ));
        }
        if body.size != self.index || body.root != self.state.root() {
            return mismatch(format!(
                "it goes on from {} entries with the root {}, and this log has {} with the root {}: a Handover fits one place of one history",
                body.size,
                body.root,
                self.index,
                self.state.root()
            ));
        }
        self.check_keys(&new.party, &new.keys, &new.sealing)?;
        self.check_unused(&new.party, "log", |period| period.keys.each().any(|(_, key)| key == body.log_key))?;
        if self.state.log_keys.contains(&body.log_key) || new.keys.each().any(|(_, key)| key == body.log_key) {
            return mismatch("the log's key must be a new one, used for nothing else");
        }
        let earlier = self.state.parties.get(&new.party);
        if earlier.is_some_and(|party| party.kind != OrgKind::Coordinator) {
            return mismatch(format!(
                "{} is enrolled as something else; the coordinator needs a party of its own",
                new.party
            ));
        }
        // Last, so that a draft that only lacks signatures is refused for nothing else.
        self.check_quorum()?;
        let validators = self.state.policy.as_ref().map(|policy| policy.validators.clone()).unwrap_or_default();
        self.only_signed_by(&[validators, vec![self.actor.clone()]].concat())?;
        let mut periods = earlier.map(|party| party.periods.clone()).unwrap_or_default();
        if let Some(open) = periods.last_mut().filter(|period| period.until_index.is_none()) {
            open.until_index = Some(self.index);
        }
        let (keys, sealing) = (new.keys.clone(), new.sealing);
        periods.push(KeyPeriod { from_index: self.index, until_index: None, keys, sealing });
        let (id, kind, roles) = (new.party.clone(), OrgKind::Coordinator, COORDINATOR_ROLES.to_vec());
        let mut changes = vec![Change::Party(Box::new(Party { id, kind, roles, periods }))];
        if let Some(old) = self.state.coordinator.as_ref().filter(|old| **old != new.party) {
            changes.extend(self.coordinator_gone(old)?);
        }
        changes.push(Change::Coordinator(new.party.clone(), body.log_key));
        changes.push(Change::Frozen(false));
        Ok(changes)
    }
}

impl Step<'_> {
    /// Another party is the coordinator from here on. Whoever has the keys of the one before must not speak for running contracts.
    fn coordinator_gone(&self, old: &PartyId) -> Result<Vec<Change>, Reason> {
        let mut party = self.enrolled(old)?.clone();
        party.roles.retain(|role| *role != Role::Coordinator);
        self.end_period(&mut party);
        let mut changes = vec![Change::Party(Box::new(party))];
        changes.extend(self.offers_of(old));
        changes.extend(self.contracts_without(old)?);
        Ok(changes)
    }
}

/// More than half.
pub(super) fn majority(n: usize) -> usize {
    n / 2 + 1
}
