//! One contract's job with everybody in it.
//!
//! `wire.rs` has the messages, `ledger.rs` the steps on the ledger, `faults.rs` what fails.

mod faults;
mod ledger;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::state::State;
use leben_coordinator::facts::Facts;
use leben_coordinator::record::Record;
use leben_models::{Column, Kind, Table};
use sha2::{Digest, Sha256};

use crate::agreement::{Agreement, START_MS};
use crate::coordinator::Coordinator;
use crate::dice::Dice;
use crate::hospital::{Down, Hospital, Up};
use crate::net::{Link, Queue};
use crate::schedule::{Fault, Trap};
use crate::truth::Truth;

/// More events than any honest story needs.
const EVENTS_MAX: u64 = 400_000;

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The result is recorded.
    Delivered,
    /// The job was given up, and everybody can read so on the ledger.
    Aborted {
        /// Why, in the coordinator's words.
        reason: String,
    },
    /// The contract's time ran out: nobody did anything any more.
    Expired,
}

/// How a network behaves.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Longest time a message takes, milliseconds.
    pub delay_ms_max: u64,
    /// Longest time the local half takes, milliseconds.
    pub compute_ms_max: u64,
    /// Longest time until the coordinator notices a dead link, milliseconds.
    pub notice_ms_max: u64,
    /// Longest time until a step is final on the ledger, milliseconds.
    pub ledger_ms_max: u64,
}

impl Default for Weather {
    fn default() -> Self {
        Weather { delay_ms_max: 200, compute_ms_max: 2_000, notice_ms_max: 3_000, ledger_ms_max: 300 }
    }
}

enum Event {
    Down { seat: u16, life: u64, down: Down },
    Up { seat: u16, life: u64, up: Up },
    Computed { seat: u16, start: u64 },
    LinkUp { seat: u16 },
    Noticed { seat: u16, life: u64 },
    HospitalStart { seat: u16 },
    CoordinatorStart,
    Recorded { record: Record, life: u64 },
    Timer,
    RunBy,
    Fault(Fault),
}

/// One job, from its executable contract to its end.
pub struct World {
    /// The onlooker's book.
    pub truth: Truth,
    /// What happened, one line each.
    pub story: Vec<String>,
    /// What waits for its moment.
    pub traps: Vec<Trap>,
    /// The network.
    pub weather: Weather,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The hospitals, by seat less one.
    pub hospitals: Vec<Hospital>,
    agreement: Arc<Agreement>,
    seed: u64,
    dice: Dice,
    queue: Queue<Event>,
    links: Vec<Link>,
    gone: Vec<bool>,
    starts: Vec<u64>,
    coordinator_life: u64,
    timer_ms: u64,
    sights: BTreeMap<(u16, u8), u32>,
    ledger: State,
    aborted: Option<String>,
    hash: Sha256,
    end: Option<End>,
}

/// Some rows of columns `a` and `b` for one hospital.
pub fn rows(seat: u16, count: usize) -> Table {
    let value = |row: usize, salt: usize| ((row * 37 + salt * 101 + usize::from(seat) * 53) % 997) as f64 / 7.0 - 60.0;
    let column = |name: &str, salt| (Column::new(name, Kind::Number), (0..count).map(|row| value(row, salt)).collect());
    Table::from_columns(vec![column("a", 1), column("b", 2)]).expect("two columns of one length")
}

impl World {
    /// Everybody up and linked within a second; each hospital has some rows.
    pub fn new(seed: u64, agreement: &Arc<Agreement>) -> World {
        let tables = (1..=agreement.deal.hospitals).map(|seat| rows(seat, 20 + usize::from(seat))).collect();
        World::with_tables(seed, agreement, tables)
    }

    /// With these rows, one table a hospital.
    pub fn with_tables(seed: u64, agreement: &Arc<Agreement>, tables: Vec<Table>) -> World {
        let n = tables.len();
        let hospitals =
            (1u16..).zip(tables).map(|(seat, table)| Hospital::new(seat, agreement.contract, table)).collect();
        let mut world = World {
            truth: Truth::default(),
            story: Vec::new(),
            traps: Vec::new(),
            weather: Weather::default(),
            coordinator: Coordinator::new(agreement.plan()),
            hospitals,
            agreement: agreement.clone(),
            seed,
            dice: Dice::new(seed, 0),
            queue: Queue::new(START_MS),
            links: (0..n).map(|_| Link::default()).collect(),
            gone: vec![false; n],
            starts: vec![0; n],
            coordinator_life: 0,
            timer_ms: 0,
            sights: BTreeMap::new(),
            ledger: agreement.state.clone(),
            aborted: None,
            hash: Sha256::new(),
            end: None,
        };
        world.queue.at(START_MS, Event::CoordinatorStart);
        for seat in 1..=agreement.deal.hospitals {
            let wait_ms = world.dice.between(0, 1000);
            world.queue.after(wait_ms, Event::HospitalStart { seat });
        }
        world.queue.at(agreement.terms.windows.run_by_ms + 1, Event::RunBy);
        world
    }

    /// Queues a fault for so many milliseconds after the start.
    pub fn plan_fault(&mut self, after_ms: u64, fault: Fault) {
        self.queue.at(START_MS + after_ms, Event::Fault(fault));
    }

    /// Lets time pass until the job ended.
    ///
    /// # Panics
    /// With the seed, if the story does not end, or if anything was opened that should not have been.
    pub fn run(&mut self) -> End {
        let end = self.run_to_end();
        let checked = self.check();
        match (end, checked) {
            (Ok(end), Ok(())) => end,
            (Err(error), _) | (_, Err(error)) => {
                panic!("seed {}: {error}\nthe story:\n{}", self.seed, self.story.join("\n"))
            }
        }
    }

    fn run_to_end(&mut self) -> Result<End, String> {
        for _ in 0..EVENTS_MAX {
            let Some(event) = self.queue.pop() else { return Err("nothing happens any more".into()) };
            self.step(event)?;
            if let Some(end) = &self.end {
                return Ok(end.clone());
            }
        }
        Err("the story does not end".into())
    }

    /// Checks everything that was opened against the truth, and the journals against each other.
    ///
    /// # Errors
    /// In words.
    pub fn check(&self) -> Result<(), String> {
        self.truth.check(self.agreement.deal.hospitals_min)?;
        let mut agreed = BTreeMap::new();
        for hospital in &self.hospitals {
            for round in &hospital.journal.rounds {
                let set = agreed.entry(round.round_id).or_insert(&round.survivors);
                if *set != &round.survivors {
                    let (mine, other) = (&round.survivors, set);
                    return Err(format!("{:?} was agreed over {mine:?} and over {other:?}", round.round_id));
                }
            }
        }
        for summed in &self.truth.sums {
            if agreed.get(&summed.round_id).is_some_and(|set| **set != summed.survivors) {
                return Err(format!("{:?} was opened over others than were agreed", summed.round_id));
            }
        }
        Ok(())
    }

    /// SHA-256 over everything that was sent and happened.
    pub fn digest(&self) -> String {
        hex::encode(self.hash.clone().finalize())
    }

    /// The job as the ledger shows it.
    pub fn facts(&self) -> Facts {
        Facts::of(self.ledger.contract(&Hash32(self.agreement.contract)).expect("the contract"))
    }

    /// Actions that the coordinator carried out.
    pub fn actions(&self) -> u64 {
        self.coordinator.actions
    }

    fn say(&mut self, line: impl fmt::Display) {
        let line = format!("{:>9} {line}", self.queue.now_ms() - START_MS);
        self.hash.update(line.as_bytes());
        self.story.push(line);
    }

    fn step(&mut self, event: Event) -> Result<(), String> {
        let now_ms = self.queue.now_ms();
        match event {
            Event::Down { seat, life, down } => self.deliver_down(seat, life, down),
            Event::Up { seat, life, up } => self.deliver_up(seat, life, up),
            Event::Computed { seat, start } if self.starts[at(seat)] == start => {
                let out = self.hospitals[at(seat)].handle_computed(&mut self.truth);
                self.send_up(seat, out);
            }
            Event::LinkUp { seat } => self.link_up(seat),
            Event::Noticed { seat, life } if !self.links[at(seat)].up && self.links[at(seat)].life == life => {
                let name = self.hospitals[at(seat)].name.clone();
                self.coordinator.job().into_iter().for_each(|job| job.handle_link(now_ms, &name, false));
            }
            Event::HospitalStart { seat } => self.start_hospital(seat),
            Event::CoordinatorStart => self.start_coordinator(),
            Event::Recorded { record, life } => self.record(&record, life),
            Event::Timer if self.timer_ms == now_ms => self.handle_timer()?,
            Event::RunBy => self.expire(),
            Event::Fault(fault) => self.fail(&fault),
            Event::Computed { .. } | Event::Noticed { .. } | Event::Timer => {}
        }
        self.carry_out();
        Ok(())
    }

    fn handle_timer(&mut self) -> Result<(), String> {
        let now_ms = self.queue.now_ms();
        self.timer_ms = 0;
        let Some(job) = self.coordinator.job() else { return Ok(()) };
        job.handle_timeout(now_ms);
        match job.poll_timeout(now_ms) {
            Some((at_ms, why)) if at_ms <= now_ms => {
                Err(format!("a deadline that was handled stays in the past: {why}"))
            }
            _ => Ok(()),
        }
    }
}

fn at(seat: u16) -> usize {
    usize::from(seat).saturating_sub(1)
}

/// The name of an enum's variant. What is in it, often thousands of numbers, is not even written.
pub(crate) fn first_word(value: &impl fmt::Debug) -> String {
    struct Word(String);
    impl fmt::Write for Word {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let end = text.find(|c: char| !c.is_alphanumeric());
            self.0.push_str(&text[..end.unwrap_or(text.len())]);
            if end.is_some() { Err(fmt::Error) } else { Ok(()) }
        }
    }
    let mut word = Word(String::new());
    // The error says that the word is complete.
    let _ = fmt::write(&mut word, format_args!("{value:?}"));
    word.0
}
