//! What is the coordinator's to do on the ledger: records of jobs as actions, and steps that fall due by themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::due::Due;
use leben_contracts::agreement::hash::{Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, PartyId};
use leben_contracts::agreement::state::{FOUNDERS, PolicyRecord, State};
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::Terms;
use leben_contracts::ledger::key::PublicKey;
use leben_protocol::frame::{ContractId, HospitalProgress, HospitalState, Progress};

use crate::facts::Facts;
use crate::plan::{Operator, Plan};
use crate::record::{Receipt, Record};

/// A step to append.
#[derive(Clone, Debug)]
pub struct Step {
    /// Names it, so that it is asked for once.
    pub key: String,
    /// The contract, if it is a step of one.
    pub contract: Option<ContractId>,
    /// What.
    pub body: Body,
}

/// Contracts that a job runs, or should run, for: id, standing, terms. Of those that are over only the ones in `jobs`, so that the
/// past of the ledger costs nothing.
pub fn executable(state: &State, jobs: &BTreeSet<ContractId>) -> Vec<(ContractId, Facts, Arc<Terms>)> {
    let ended = jobs.iter().filter_map(|id| state.contract(&Hash32(*id))).filter(|c| c.phase.is_terminal());
    let begins_or_goes_on = |c: &&Contract| c.delivery.is_none() || jobs.contains(&c.id.0);
    let found = state.open_contracts().filter(begins_or_goes_on).chain(ended);
    found
        .filter(|contract| Facts::is_executable(contract))
        .map(|contract| (contract.id.0, Facts::of(contract), contract.terms.clone()))
        .collect()
}

/// A record of a job as the body of an action.
pub fn body_of(record: &Record) -> Result<Body, String> {
    match record {
        Record::StageStart { stage } => Ok(Body::StageStart(body::StageStart { stage: *stage })),
        Record::RoundClose { stage, round, slot, survivors, transcript } => {
            let mut survivors = survivors.iter().map(|name| party(name)).collect::<Result<Vec<_>, _>>()?;
            survivors.sort();
            let slot = u32::try_from(*slot).map_err(|_| "the job has used up its slots".to_owned())?;
            let (stage, round, transcript) = (*stage, *round, Hash32(*transcript));
            Ok(Body::RoundClose(body::RoundClose { stage, round, slot, survivors, transcript }))
        }
        Record::StageReceipt(receipt) => receipt_body(receipt),
        Record::Deliver { recipient, result_commitment } => Ok(Body::Deliver(body::Deliver {
            result_commitment: Hash32(*result_commitment),
            recipient: party(recipient)?,
        })),
        Record::Abort { code, stage, .. } => {
            Ok(Body::Abort(body::Abort { code: self::code(code)?, stage: *stage, party: None }))
        }
        Record::RoundFreeze(directory) => {
            let member = |member: &leben_privacy::secure_sum::Member| {
                Ok(body::Member {
                    index: member.index,
                    party: party(&member.hospital)?,
                    verify: PublicKey::from_bytes(&member.keys.verify).map_err(|error| error.to_string())?,
                    channel: X25519Key(member.keys.channel),
                })
            };
            let members = directory.members.iter().map(member).collect::<Result<_, String>>()?;
            Ok(Body::RoundFreeze(body::RoundFreeze { members, threshold: directory.threshold }))
        }
    }
}

fn receipt_body(receipt: &Receipt) -> Result<Body, String> {
    Ok(Body::StageReceipt(body::StageReceipt {
        stage: receipt.stage,
        rounds: receipt.rounds,
        algorithm_digest: Hash32(receipt.algorithm_digest),
        input_commitment: Hash32(receipt.input_commitment),
        output_commitment: Hash32(receipt.output_commitment),
        rows_requested: receipt.rows_requested,
        rows_used: receipt.rows_used,
        rows_rejected: receipt.rows_rejected,
        withheld: receipt.withheld,
        hospitals: receipt.hospitals.iter().map(|hospital| party(hospital)).collect::<Result<_, _>>()?,
        epsilon_micro_spent: receipt.epsilon_micro_spent,
    }))
}

/// Steps that fall due by what the ledger says, the time, and who is linked.
pub fn due(state: &State, now_ms: u64, linked: &BTreeSet<String>, operator: &Operator) -> Vec<Step> {
    let mut steps: Vec<Step> = state.due_steps(now_ms).into_iter().filter_map(due_step).collect();
    steps.extend(state.open_contracts().filter_map(|contract| accept_step(state, contract, operator)));
    steps.extend(policy_step(state, linked));
    steps
}

fn due_step(due: Due) -> Option<Step> {
    // The directory is the running job's to freeze: it also knows whose keys are no longer waited for.
    if matches!(due.body, Body::RoundFreeze(_)) {
        return None;
    }
    Some(Step { key: format!("{}-{}", due.body.kind(), due.contract), contract: Some(due.contract.0), body: due.body })
}

/// Terms that name the coordinator as integrator wait for its signature: given if this build can run every stage of them.
fn accept_step(state: &State, contract: &Contract, operator: &Operator) -> Option<Step> {
    let me = state.coordinator()?;
    let open = matches!(contract.phase, Phase::Proposed | Phase::PartlySigned);
    if !open || !contract.missing_accepts().contains(me) {
        return None;
    }
    Plan::new(contract.id.0, &contract.terms, operator).ok()?;
    let body = Body::Accept(body::Accept {
        terms_hash: contract.terms_hash,
        terms_version: contract.terms_version,
        policy_hash: Hash32::of("leben/coordinator-policy/1", b"accept what this build can run"),
    });
    let key = format!("Accept-{}-{}", contract.id, contract.terms_version);
    Some(Step { key, contract: Some(contract.id.0), body })
}

/// Hospitals that wait for the consent of the validators in force, by name; `None` if nobody does.
pub fn uninvited(state: &State, linked: &BTreeSet<String>) -> Option<String> {
    let waiting = newcomers(state, linked);
    let names = waiting.iter().map(PartyId::as_str).collect::<Vec<_>>().join(", ");
    (!waiting.is_empty() && state.policy().is_some_and(|policy| policy.room() == 0)).then_some(names)
}

/// Hospitals that are linked, have a validator key, and are not among the validators.
fn newcomers(state: &State, linked: &BTreeSet<String>) -> Vec<PartyId> {
    let current = state.policy().map(|policy| policy.validators.as_slice()).unwrap_or_default();
    let fit = |party: &&String| state.keys(party).is_some_and(|keys| keys.validator.is_some());
    let here = linked.iter().filter(fit).filter_map(|party| PartyId::new(party).ok());
    here.filter(|party| !current.contains(party)).collect()
}

/// The first hospitals that are linked become validators by themselves; later ones when those in force have signed for them.
fn policy_step(state: &State, linked: &BTreeSet<String>) -> Option<Step> {
    let room = state.policy().map_or(FOUNDERS, PolicyRecord::room);
    let mut validators: Vec<PartyId> = newcomers(state, linked).into_iter().take(room).collect();
    if validators.is_empty() {
        return None;
    }
    validators.extend(state.policy().into_iter().flat_map(|policy| policy.validators.clone()));
    validators.sort();
    let quorum = u32::try_from(body::quorum(validators.len())).ok()?;
    // Named by the policy it replaces too: the same set may be right again after a revocation.
    let since = state.policy().map_or(0, |policy| policy.since_index);
    let key = format!("policy-{since}-{}", validators.iter().map(PartyId::as_str).collect::<Vec<_>>().join("+"));
    Some(Step { key, contract: None, body: Body::PolicyChange(body::PolicyChange { validators, quorum }) })
}

/// Where a contract stands when no job runs for it: before it is armed, or after its end.
pub fn standing_progress(state: &State, contract: &ContractId) -> Option<Progress> {
    let contract = state.contract(&Hash32(*contract))?;
    let ended = contract.phase.is_terminal() || contract.delivery.is_some();
    let accepted = |party: &PartyId| match contract.accepts.contains_key(party) {
        true => HospitalState::Done,
        false => HospitalState::Ready,
    };
    let hospital =
        |party: &PartyId| HospitalProgress { party: party.to_string(), state: accepted(party), chunks: (0, 0) };
    Some(Progress {
        sequence: state.next_index(),
        phase: contract.phase.to_string(),
        ended,
        stages: u32::try_from(contract.terms.stages.len()).unwrap_or(u32::MAX),
        hospitals: contract.owners().iter().map(hospital).collect(),
        message: standing_message(contract),
        ..Progress::default()
    })
}

fn standing_message(contract: &Contract) -> String {
    if let Some(ended) = &contract.ended {
        let code = ended.code.as_ref().map(|code| format!(": {code}")).unwrap_or_default();
        return format!("{} by {}{code}", contract.phase, ended.actor);
    }
    let missing = contract.missing_accepts();
    if !missing.is_empty() {
        let names: Vec<&str> = missing.iter().map(PartyId::as_str).collect();
        return format!("waiting for the signature of {}", names.join(", "));
    }
    if !contract.is_funded() {
        return "signed by all; waiting for the payer to fund it".into();
    }
    format!("{}", contract.phase)
}

fn party(name: &str) -> Result<PartyId, String> {
    PartyId::new(name).map_err(|error| error.to_string())
}

fn code(text: &str) -> Result<Code, String> {
    Code::new(text).map_err(|error| error.to_string())
}
