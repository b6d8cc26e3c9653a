//! Everything: a ledger that witnesses have to cosign, hospitals that read nothing but their own certified copy of it, and one
//! contract from its proposal to its settlement.
//!
//! `steps.rs` says who takes which step, `wire.rs` has the messages, `faults.rs` what fails.

mod faults;
mod steps;
mod wire;

pub use steps::operator;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::table::Phase;
use leben_coordinator::relay::Relay;
use leben_models::Table;
use leben_protocol::frame::ContractId;
use sha2::{Digest, Sha256};

use crate::agreement::START_MS;
use crate::coordinator::Coordinator;
use crate::deal::Deal;
use crate::dice::Dice;
use crate::hospital::{Down, Up};
use crate::log::Log;
use crate::member::Member;
use crate::net::{Link, Queue};
use crate::schedule::Fault;
use crate::truth::Truth;
use crate::world::Weather;

const EVENTS_MAX: u64 = 400_000;
const TICK_MS: u64 = 5_000;

enum Event {
    Down { seat: u16, life: u64, down: Down },
    Up { seat: u16, life: u64, up: Up },
    Computed { seat: u16, start: u64 },
    LinkUp { seat: u16 },
    Noticed { seat: u16, life: u64 },
    MemberStart { seat: u16 },
    CoordinatorStart,
    Tick,
    Fault(Fault),
}

/// A network with one contract.
pub struct Network {
    /// The onlooker's book.
    pub truth: Truth,
    /// What happened, one line each.
    pub story: Vec<String>,
    /// How the network behaves.
    pub weather: Weather,
    /// The hospitals, by seat less one.
    pub members: Vec<Member>,
    /// The coordinator's job, once there is one.
    pub coordinator: Option<Coordinator>,
    /// The ledger.
    pub log: Log,
    /// The contract, once it is proposed.
    pub contract: ContractId,
    deal: Deal,
    relay: Relay,
    seed: u64,
    dice: Dice,
    queue: Queue<Event>,
    links: Vec<Link>,
    starts: Vec<u64>,
    up: bool,
    asked: BTreeSet<String>,
    hash: Sha256,
    nonce: u64,
}

fn at(seat: u16) -> usize {
    usize::from(seat).saturating_sub(1)
}

impl Network {
    /// A coordinator that is up, and hospitals that start within a second.
    pub fn new(seed: u64, deal: Deal, tables: Vec<Table>) -> Network {
        let n = tables.len();
        let mut network = Network {
            truth: Truth::default(),
            story: Vec::new(),
            weather: Weather::default(),
            members: (1u16..).zip(tables).map(|(seat, table)| Member::new(seat, table)).collect(),
            coordinator: None,
            log: Log::default(),
            contract: [0; 32],
            deal,
            relay: Relay::default(),
            seed,
            dice: Dice::new(seed, 0),
            queue: Queue::new(START_MS),
            links: (0..n).map(|_| Link::default()).collect(),
            starts: vec![0; n],
            up: false,
            asked: BTreeSet::new(),
            hash: Sha256::new(),
            nonce: 0,
        };
        network.queue.at(START_MS, Event::CoordinatorStart);
        network.queue.at(START_MS + TICK_MS, Event::Tick);
        for seat in 1..=network.deal.hospitals {
            let wait_ms = network.dice.between(100, 1000);
            network.queue.after(wait_ms, Event::MemberStart { seat });
        }
        network
    }

    /// Lets something go wrong now.
    pub fn fail_now(&mut self, fault: &Fault) {
        self.fail(fault);
    }

    /// Queues a fault for so many milliseconds after the start.
    pub fn plan_fault(&mut self, after_ms: u64, fault: Fault) {
        self.queue.at(START_MS + after_ms, Event::Fault(fault));
    }

    /// The contract as the final part of the ledger shows it.
    pub fn standing(&self) -> Option<&Contract> {
        self.log.certain().and_then(|(state, _)| state.contract(&Hash32(self.contract)))
    }

    /// SHA-256 over everything that happened.
    pub fn digest(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// Lets time pass until the contract has ended; the phase it ended in.
    ///
    /// # Panics
    /// With the seed, if the story does not end or anything was opened that should not have been.
    pub fn run(&mut self) -> Phase {
        self.run_until(Phase::is_terminal);
        match self.truth.check(self.deal.hospitals_min) {
            Ok(()) => self.standing().map_or(Phase::Proposed, |contract| contract.phase),
            Err(error) => self.give_up(&error),
        }
    }

    /// Lets time pass until the final part of the ledger shows the contract in such a phase.
    ///
    /// # Panics
    /// With the seed, if that does not happen.
    pub fn run_until(&mut self, there: impl Fn(Phase) -> bool) {
        for _ in 0..EVENTS_MAX {
            if self.standing().is_some_and(|contract| there(contract.phase)) {
                return;
            }
            let Some(event) = self.queue.pop() else { break };
            self.step(event);
        }
        self.give_up("the story does not get there")
    }

    fn give_up(&self, error: &str) -> ! {
        let audits: Vec<String> = self.members.iter().map(|m| format!("{}: {:#?}", m.name, m.audit)).collect();
        panic!("seed {}: {error}\n{}\n{}", self.seed, self.story.join("\n"), audits.join("\n"));
    }

    fn say(&mut self, line: impl fmt::Display) {
        let line = format!("{:>9} {line}", self.queue.now_ms() - START_MS);
        self.hash.update(line.as_bytes());
        self.story.push(line);
    }

    fn step(&mut self, event: Event) {
        let now_ms = self.queue.now_ms();
        match event {
            Event::Down { seat, life, down } if self.links[at(seat)].life == life => self.take_down(seat, Some(down)),
            Event::Up { seat, life, up } if self.links[at(seat)].life == life && self.up => self.take_up(seat, up),
            Event::Computed { seat, start } if self.starts[at(seat)] == start => {
                let out = self.members[at(seat)].handle_computed(now_ms, &mut self.truth);
                self.send_up(seat, out);
            }
            Event::LinkUp { seat } => self.link_up(seat),
            Event::Noticed { seat, life } if self.links[at(seat)].life == life => self.notice(seat),
            Event::MemberStart { seat } => {
                self.starts[at(seat)] += 1;
                let seed = self.dice.bytes();
                self.members[at(seat)].start(&self.deal, seed);
                self.queue.after(50, Event::LinkUp { seat });
            }
            Event::CoordinatorStart => self.start_coordinator(),
            Event::Tick => self.tick(),
            Event::Fault(fault) => self.fail(&fault),
            _ => {}
        }
        self.carry_out();
        self.check_final();
    }

    /// What is acknowledged outlives the coordinator: a quorum has it on its disks.
    fn check_final(&self) {
        let (size, Some((state, _))) = (self.log.final_size(), self.log.certain()) else { return };
        let Some(policy) = state.witness_policy().filter(|_| size > 0 && self.log.is_certified()) else { return };
        let holders = self.members.iter().filter(|member| member.disk.certified_size() >= size);
        let holders: Vec<&str> = holders.map(|member| member.name.as_str()).collect();
        assert!(
            policy.is_quorum(holders.iter().copied()),
            "seed {}: {size} entries are final, and only {holders:?} hold them",
            self.seed
        );
    }

    fn tick(&mut self) {
        self.queue.after(TICK_MS, Event::Tick);
        let now_ms = self.queue.now_ms();
        (1..=self.deal.hospitals).for_each(|seat| self.take_down(seat, None));
        if let Some(job) = self.coordinator.as_mut().and_then(Coordinator::job) {
            job.handle_timeout(now_ms);
        }
        self.act();
    }

    /// Rounds that each hospital agreed to, compared.
    ///
    /// # Errors
    /// Two hospitals that agreed to different sums of one round.
    pub fn check_journals(&self) -> Result<(), String> {
        let mut agreed = BTreeMap::new();
        for round in self.members.iter().flat_map(|m| m.disk.journals.values()).flat_map(|journal| &journal.rounds) {
            if *agreed.entry(round.round_id).or_insert(&round.survivors) != &round.survivors {
                return Err(format!("{:?} was agreed over different hospitals", round.round_id));
            }
        }
        Ok(())
    }
}
