//! What the coordinator has to do next, and how anybody writes the next action: pure functions of the state.

use super::body::{AcceptResult, Body, BodyError, Expire, Fund, Member, RoundFreeze};
use super::contract::Contract;
use super::hash::{ContractId, Hash32};
use super::party::{PartyId, Role};
use super::settlement::settlement;
use super::state::State;
use super::table::{Order, Phase, rule_of};
use crate::ledger::entry::Action;

/// A step that is due, for the coordinator to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// On which contract.
    pub contract: ContractId,
    /// The step, complete.
    pub body: Body,
}

impl State {
    /// The steps that the coordinator owes at a time: Arm once everybody signed and what is needed is held, RoundFreeze once every
    /// active owner recorded its keys, AcceptResult when the recipient stayed silent, Settle, Expire. At most one for each contract.
    #[must_use]
    pub fn due_steps(&self, now_ms: u64) -> Vec<Due> {
        self.open_contracts()
            .filter_map(|contract| contract.due_step(now_ms).map(|body| Due { contract: contract.id, body }))
            .collect()
    }

    /// The body that settles an accepted contract.
    #[must_use]
    pub fn settle_body(&self, id: &ContractId) -> Option<Body> {
        self.contract(id).map(|contract| Body::Settle(settlement(contract)))
    }

    /// An action for a body, with `network`, `prev` and `terms_version` as the state says now. Valid from `now_ms` less five minutes
    /// for `valid_ms`. The nonce is 16 random bytes.
    ///
    /// # Errors
    /// A body with a number beyond 2^53.
    pub fn draft(&self, body: &Body, contract: Option<&ContractId>, header: &Header<'_>) -> Result<Action, BodyError> {
        let order = contract.and_then(|_| rule_of(body.kind())).map(|rule| rule.order);
        let known = contract.and_then(|id| self.contract(id));
        Ok(Action {
            v: 1,
            kind: body.kind().as_str().to_owned(),
            network: self.network().to_string(),
            contract: contract.map(ToString::to_string),
            terms_version: known.filter(|_| order == Some(Order::Parallel)).map(|c| c.terms_version),
            prev: known.filter(|_| order == Some(Order::Sequential)).map(|c| c.head.to_string()),
            actor: header.actor.to_string(),
            role: header.role.as_str().to_owned(),
            not_before_ms: header.now_ms.saturating_sub(SKEW_MS),
            not_after_ms: header.now_ms.saturating_add(header.valid_ms),
            nonce: hex::encode(header.nonce),
            body: body.to_value()?,
        })
    }
}

/// Who writes an action, and when.
#[derive(Debug, Clone, Copy)]
pub struct Header<'a> {
    /// The party that acts.
    pub actor: &'a PartyId,
    /// The role in which it acts.
    pub role: Role,
    /// The writer's clock, Unix milliseconds.
    pub now_ms: u64,
    /// How long the action may wait for its place on the ledger, milliseconds.
    pub valid_ms: u64,
    /// Random.
    pub nonce: [u8; 16],
}

impl Contract {
    /// The step that the coordinator owes on this contract at a time; see [`State::due_steps`].
    #[must_use]
    pub fn due_step(&self, now_ms: u64) -> Option<Body> {
        let w = &self.terms.windows;
        match self.phase {
            Phase::Proposed | Phase::PartlySigned | Phase::Signed if now_ms > w.sign_by_ms => {
                Some(Body::Expire(Expire {}))
            }
            Phase::Executable | Phase::Running | Phase::Suspended if now_ms > w.run_by_ms => {
                Some(Body::Expire(Expire {}))
            }
            Phase::Delivered | Phase::Disputed | Phase::Accepted if now_ms > self.final_ms() => {
                Some(Body::Expire(Expire {}))
            }
            Phase::Signed if self.is_funded() && self.missing_reservations().is_empty() => {
                self.arm_body().ok().map(Body::Arm)
            }
            Phase::Executable if self.directory.is_none() => self.freeze_body().map(Body::RoundFreeze),
            Phase::Delivered if self.accept_by_ms().is_some_and(|by_ms| now_ms > by_ms) => {
                Some(Body::AcceptResult(AcceptResult {}))
            }
            Phase::Accepted => Some(Body::Settle(settlement(self))),
            _ => None,
        }
    }

    /// The key directory, once every active owner has recorded its keys: Shamir points by name over all owners, so that they stay the
    /// same when one leaves.
    #[must_use]
    pub fn freeze_body(&self) -> Option<RoundFreeze> {
        if !self.terms.privacy.secure_sum {
            return None;
        }
        let mut members = Vec::new();
        for (index, party) in (1u16..).zip(self.owners()) {
            if self.revoked(&party) {
                continue;
            }
            let keys = self.key_records.get(&party)?;
            members.push(Member { index, party, verify: keys.verify, channel: keys.channel });
        }
        let half = u16::try_from(members.len()).ok()? / 2;
        let threshold = self.terms.privacy.threshold.max(half.saturating_add(1));
        Some(RoundFreeze { members, threshold })
    }

    /// The body with which the payer holds the price; none if nothing is paid or it is held.
    #[must_use]
    pub fn fund_body(&self) -> Option<Fund> {
        let price = &self.terms.price;
        let amount = price.total_credits.saturating_add(price.deposit);
        (self.funding.is_none() && amount > 0).then_some(Fund { amount })
    }

    /// The hash that `prev` of the next sequential step names.
    #[must_use]
    pub fn prev(&self) -> Hash32 {
        self.head
    }
}

/// How far a writer's clock may be ahead of the sequencer's.
const SKEW_MS: u64 = 5 * 60 * 1000;
