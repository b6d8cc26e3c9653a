//! Who takes which step on the ledger, and when.

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::table::Phase;
use leben_coordinator::facts::Facts;
use leben_coordinator::plan::{Operator, Plan};
use leben_coordinator::record::Record;
use leben_coordinator::schedule as due;
use leben_privacy::Suite;
use leben_protocol::frame::{ContractId, Order};

use super::{Network, at};
use crate::agreement;
use crate::coordinator::{Coordinator, Effect};
use crate::deal::Deal;
use crate::log::Wish;
use crate::schedule::Fault;

impl Network {
    pub(super) fn append(&mut self, actor: &str, contract: Option<&ContractId>, body: &Body) -> Result<u64, String> {
        let now_ms = self.queue.now_ms();
        self.nonce += 1;
        let Some(state) = self.log.committed() else { return Err("down".into()) };
        let envelope = agreement::sign(state, now_ms, actor, contract, body, self.nonce);
        if matches!(body, Body::Propose(_)) {
            self.contract = envelope.payload_hash();
        }
        let (result, wishes) = self.log.append(now_ms, &envelope.to_bytes());
        let outcome = result.as_ref().map_or_else(Clone::clone, |index| format!("entry {index}"));
        self.say(format_args!("{actor}: {} is {outcome}", body.kind()));
        self.grant(wishes);
        result
    }

    pub(super) fn grant(&mut self, wishes: Vec<Wish>) {
        for wish in wishes {
            match wish {
                Wish::Order(party, order) => self.send_order(&party, order),
                Wish::Final => {
                    let size = self.log.certain().map_or(0, |(state, _)| state.next_index());
                    self.say(format_args!("{size} entries are final"));
                    self.handle_final();
                }
            }
        }
    }

    /// More is final: the job is told, and whoever owes a step takes it.
    pub(super) fn handle_final(&mut self) {
        self.resume_job();
        let now_ms = self.queue.now_ms();
        let Some((state, root)) = self.log.certain() else { return };
        if let Some((id, facts, terms)) =
            due::executable(state, &state.contracts().map(|contract| contract.id.0).collect()).into_iter().next()
        {
            if self.coordinator.is_none() {
                let plan = Plan::new(id, &terms, &self.operator()).unwrap();
                let mut coordinator = Coordinator::new(plan);
                coordinator.start(now_ms, &facts, root, self.dice.bytes());
                let linked = self.members.iter().filter(|member| self.links[at(member.seat)].up);
                for member in linked {
                    coordinator.job().into_iter().for_each(|job| job.handle_link(now_ms, &member.name, true));
                }
                self.coordinator = Some(coordinator);
            } else if let Some(job) = self.coordinator.as_mut().and_then(Coordinator::job) {
                job.handle_facts(now_ms, &facts, root);
            }
        }
        self.act();
    }

    /// A job that a restart of the coordinator ended goes on from its disk.
    pub(super) fn resume_job(&mut self) {
        let now_ms = self.queue.now_ms();
        let stopped = self.coordinator.as_mut().filter(|coordinator| !coordinator.is_running());
        if let (Some(coordinator), Some((state, root))) = (stopped, self.log.certain())
            && let Some(contract) = state.contract(&Hash32(self.contract))
        {
            coordinator.start(now_ms, &Facts::of(contract), root, self.dice.bytes());
            let linked = self.members.iter().filter(|member| self.links[at(member.seat)].up);
            for member in linked {
                coordinator.job().into_iter().for_each(|job| job.handle_link(now_ms, &member.name, true));
            }
        }
    }

    pub(super) fn operator(&self) -> Operator {
        operator(&self.deal)
    }

    /// The coordinator's own steps, and the team's.
    pub(super) fn act(&mut self) {
        let now_ms = self.queue.now_ms();
        let Some((state, _)) = self.log.certain() else { return };
        let linked = self.members.iter().filter(|member| self.links[at(member.seat)].up).map(|m| m.name.clone());
        let mut steps: Vec<(&str, String, Option<ContractId>, Body)> = Vec::new();
        for step in due::due(state, now_ms, &linked.collect(), &self.operator()) {
            steps.push(("coordinator", step.key, step.contract, step.body));
        }
        if let Some((body, contract)) = self.team_step(state) {
            steps.push(("team", format!("team-{}", body.kind()), contract, body));
        }
        for (actor, key, contract, body) in steps {
            if self.asked.insert(key.clone()) && self.append(actor, contract.as_ref(), &body).is_err() {
                self.asked.remove(&key);
            }
        }
    }

    pub(super) fn team_step(&self, state: &State) -> Option<(Body, Option<ContractId>)> {
        let Some(contract) = state.contract(&Hash32(self.contract)) else {
            let ready = state.datasets().len() == self.members.len();
            return ready.then(|| (Body::Propose(body::Propose { terms: self.deal.terms() }), None));
        };
        let team = agreement::id("team");
        let body = match contract.phase {
            Phase::Proposed | Phase::PartlySigned if !contract.accepts.contains_key(&team) => {
                Body::Accept(body::Accept {
                    terms_hash: contract.terms_hash,
                    terms_version: contract.terms_version,
                    policy_hash: Hash32::plain(b"team"),
                })
            }
            Phase::Signed => Body::Fund(contract.fund_body()?),
            Phase::Delivered => Body::AcceptResult(body::AcceptResult {}),
            _ => return None,
        };
        Some((body, Some(self.contract)))
    }

    pub(super) fn carry_out(&mut self) {
        let now_ms = self.queue.now_ms();
        while let Some(coordinator) = &mut self.coordinator {
            self.truth.sums.extend(coordinator.take_sums());
            let effects = coordinator.carry_out(now_ms);
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                match effect {
                    Effect::Send { hospital, order } => {
                        self.send_order(&hospital, Order::Job { contract: self.contract, order });
                    }
                    Effect::Append(record) => {
                        if let Record::Abort { reason, .. } = &record {
                            self.say(format_args!("the job is given up: {reason}"));
                        }
                        let (key, body, contract) = (record.key(), due::body_of(&record).unwrap(), self.contract);
                        if let Err(reason) = self.append("coordinator", Some(&contract), &body) {
                            let job = self.coordinator.as_mut().and_then(Coordinator::job);
                            job.into_iter().for_each(|job| job.handle_append_refused(&key, &reason));
                        }
                    }
                    Effect::End => self.say("the job has ended"),
                    Effect::Died => self.fail(&Fault::RestartCoordinator { down_ms: 500 }),
                }
            }
        }
    }
}

/// What the coordinator's settings say, for a deal.
pub fn operator(deal: &Deal) -> Operator {
    Operator { away_ms_max: deal.away_ms_max, suite: Suite::default() }
}
