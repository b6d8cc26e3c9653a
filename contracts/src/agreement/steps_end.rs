//! How a contract ends, or stops for a while: acceptance, dispute, settlement, suspension, revocation, abort, expiry, review.

use super::body::{Abort, AdminReview, Dispute, Outcome, Resolve, Revoke, Settle};
use super::contract::{Contract, Review};
use super::error::{Reason, mismatch};
use super::party::{Code, PartyId, Role};
use super::settlement::{end_hold, epsilon_used, settlement};
use super::step::Step;
use super::steps_agree::{Money, signed_or_not};
use super::steps_execute::find;
use super::steps_network::majority;
use super::table::Phase;
use super::terms::OnFailure;

const REVIEWS_MAX: usize = 256;

impl Step<'_> {
    pub(super) fn accept_result(&self, contract: &mut Contract) -> Money {
        if contract.terms.delivery.recipient != self.actor {
            let deadline_ms = contract.accept_by_ms().unwrap_or(u64::MAX);
            self.after("the recipient's time to object is not over before", deadline_ms)?;
        }
        contract.phase = Phase::Accepted;
        Ok(Vec::new())
    }

    pub(super) fn dispute(&self, contract: &mut Contract, body: &Dispute) -> Money {
        self.by("the window for disputes ended at", contract.accept_by_ms().unwrap_or(0))?;
        contract.disputed = Some(body.code.clone());
        contract.phase = Phase::Disputed;
        Ok(Vec::new())
    }

    pub(super) fn resolve(&self, contract: &mut Contract, body: &Resolve) -> Money {
        if matches!(body.outcome, Outcome::Split { basis_points } if basis_points > 10_000) {
            return mismatch("a split is 0 to 10000 basis points");
        }
        let arbiters = self.arbiters(contract);
        self.only_signed_by(&arbiters)?;
        for arbiter in &self.signers {
            contract.decisions.insert(arbiter.clone(), *body);
        }
        let agree = contract.decisions.iter().filter(|(who, what)| arbiters.contains(who) && *what == body).count();
        if agree < majority(arbiters.len()) {
            return Ok(Vec::new());
        }
        contract.resolved = Some(*body);
        if body.outcome == Outcome::Aborted {
            return self.finish(contract, Phase::Aborted, contract.disputed.clone(), body.forfeit_deposit);
        }
        contract.phase = Phase::Accepted;
        Ok(Vec::new())
    }

    pub(super) fn settle(&self, contract: &mut Contract, body: &Settle) -> Money {
        self.by("the payer's credits were held until", contract.final_ms())?;
        let expected = settlement(contract);
        if *body != expected {
            return mismatch(format!("the receipts make it {expected:?}"));
        }
        contract.settled = Some(body.clone());
        self.finish(contract, Phase::Settled, None, true)
    }

    pub(super) fn suspend(&self, contract: &mut Contract) -> Money {
        let admin = self.acts_as_admin(contract);
        if admin {
            let admins = self.state.admins();
            self.only_signed_by(&admins)?;
            contract.suspension.admins.extend(self.signers.iter().cloned());
            contract.suspension.admins.retain(|a| admins.contains(a));
            if contract.suspension.admins.len() < majority(admins.len()) {
                return Ok(Vec::new());
            }
            contract.suspension.by_admins = true;
            contract.suspension.admins_resume.clear();
        } else {
            self.only_signed_by(std::slice::from_ref(&self.actor))?;
            if !contract.suspension.owners.insert(self.actor.clone()) {
                return mismatch(format!("{} has suspended this contract already", self.actor));
            }
        }
        if contract.phase != Phase::Suspended {
            contract.suspension.from = Some(contract.phase);
            contract.phase = Phase::Suspended;
        }
        Ok(Vec::new())
    }

    /// An owner acts as owner unless it says `admin` and is one.
    fn acts_as_admin(&self, contract: &Contract) -> bool {
        let owner = contract.owners().contains(&self.actor);
        let admin = self.actor_party().is_ok_and(|p| p.has_role(Role::Admin));
        admin && (!owner || self.action.role == Role::Admin.as_str())
    }

    pub(super) fn resume(&self, contract: &mut Contract) -> Money {
        let stop = &mut contract.suspension;
        if stop.owners.contains(&self.actor) && self.action.role != Role::Admin.as_str() {
            self.only_signed_by(std::slice::from_ref(&self.actor))?;
            stop.owners.remove(&self.actor);
        } else if stop.by_admins && self.actor_party()?.has_role(Role::Admin) {
            let admins = self.state.admins();
            self.only_signed_by(&admins)?;
            stop.admins_resume.extend(self.signers.iter().cloned());
            stop.admins_resume.retain(|a| admins.contains(a));
            if stop.admins_resume.len() < majority(admins.len()) {
                return Ok(Vec::new());
            }
            stop.by_admins = false;
            stop.admins.clear();
            stop.admins_resume.clear();
        } else {
            return Err(Reason::NotEntitled {
                party: self.actor.clone(),
                who: "those who suspended the contract".into(),
            });
        }
        go_on(contract);
        Ok(Vec::new())
    }

    pub(super) fn revoke(&self, contract: &mut Contract, body: &Revoke) -> Money {
        let mut own: Vec<Code> =
            contract.terms.inputs.iter().filter(|i| i.owner == self.actor).map(|i| i.dataset.clone()).collect();
        own.sort();
        own.dedup();
        if body.datasets != own {
            return mismatch(format!("an owner takes all its data sets out of a contract: {own:?}"));
        }
        self.take_out(contract, &self.actor, "revoked")
    }

    /// An owner's data leaves a contract: the others go on where the terms allow it, or it ends as aborted with this code.
    pub(super) fn take_out(&self, contract: &mut Contract, owner: &PartyId, code: &str) -> Money {
        let goes_on = contract.goes_on_without(owner);
        contract.revoked.insert(owner.clone(), self.index);
        contract.suspension.owners.remove(owner);
        contract.abort_votes.remove(owner);
        contract.accepts.remove(owner);
        if !goes_on {
            let code = Code::new(code).map_err(|e| Reason::Internal(e.to_string()))?;
            return self.finish(contract, Phase::Aborted, Some(code), true);
        }
        match contract.phase {
            Phase::Proposed | Phase::PartlySigned => signed_or_not(contract),
            Phase::Suspended => go_on(contract),
            _ => {}
        }
        Ok(self.close_reservations(contract, owner))
    }

    fn close_reservations(&self, contract: &mut Contract, owner: &PartyId) -> Vec<super::accounts::Transfer> {
        let prefix = format!("{owner}/");
        let mut transfers = Vec::new();
        for (key, reservation) in contract.reservations.iter().filter(|(key, _)| key.starts_with(&prefix)) {
            let used = epsilon_used(contract, key, reservation.epsilon_micro);
            end_hold(&mut transfers, &self.state.accounts, self.seq_ms, &reservation.hold, used);
        }
        contract.reservations.retain(|key, _| !key.starts_with(&prefix));
        transfers
    }

    pub(super) fn abort(&self, contract: &mut Contract, body: &Abort) -> Money {
        let signatories = contract.signatories();
        let executing = matches!(contract.phase, Phase::Executable | Phase::Running | Phase::Suspended);
        if self.is_coordinator() && executing && body.stage.is_some() {
            let stage = find(contract, body.stage.unwrap_or_default())?;
            if stage.on_failure != OnFailure::Abort {
                return mismatch(format!("the terms say to go on when stage {} fails", stage.id));
            }
            if contract.receipt(stage.id).is_some() {
                return mismatch(format!("stage {} is done, so it did not fail", stage.id));
            }
            if body.party.as_ref().is_some_and(|p| !contract.terms.parties.iter().any(|t| t.party == *p)) {
                return mismatch("the party that caused it is not a party of the contract");
            }
            return self.finish(contract, Phase::Aborted, Some(body.code.clone()), false);
        }
        if !signatories.contains(&self.actor) {
            return mismatch(
                "the coordinator aborts under the failure rule: once executable, naming the stage that failed",
            );
        }
        self.only_signed_by(&signatories)?;
        contract.abort_votes.extend(self.signers.iter().cloned());
        if signatories.iter().all(|p| contract.abort_votes.contains(p)) {
            return self.finish(contract, Phase::Aborted, Some(body.code.clone()), false);
        }
        Ok(Vec::new())
    }

    pub(super) fn expire(&self, contract: &mut Contract) -> Money {
        let w = &contract.terms.windows;
        let (what, deadline_ms) = match contract.phase {
            Phase::Proposed | Phase::PartlySigned | Phase::Signed => {
                ("the window for signing is not over before", w.sign_by_ms)
            }
            Phase::Executable | Phase::Running | Phase::Suspended => {
                ("the window for running is not over before", w.run_by_ms)
            }
            _ => ("the last window is not over before", contract.final_ms()),
        };
        self.after(what, deadline_ms)?;
        self.finish(contract, Phase::Expired, None, false)
    }

    pub(super) fn admin_review(&self, contract: &mut Contract, body: &AdminReview) -> Money {
        if contract.reviews.len() >= REVIEWS_MAX {
            return mismatch(format!("the contract has {REVIEWS_MAX} reviews already"));
        }
        let review =
            Review { admin: self.actor.clone(), verdict: body.verdict, code: body.code.clone(), index: self.index };
        contract.reviews.push(review);
        Ok(Vec::new())
    }
}

/// Back to work, if nobody stops it any more.
fn go_on(contract: &mut Contract) {
    let stop = &mut contract.suspension;
    if stop.owners.is_empty() && !stop.by_admins {
        contract.phase = stop.from.take().unwrap_or(Phase::Executable);
    }
}
