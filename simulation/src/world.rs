//! One contract's job with everybody in it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_coordinator::facts::Facts;
use leben_coordinator::record::Record;
use leben_coordinator::schedule as due;
use leben_models::{Column, Kind, Table};
use leben_protocol::codec;
use leben_protocol::frame::{JobOrder, Order, Report};
use sha2::{Digest, Sha256};

use crate::agreement::{self, Agreement, START_MS};
use crate::coordinator::{Coordinator, Effect};
use crate::dice::Dice;
use crate::hospital::{Down, Hospital, Out, Up};
use crate::net::{Link, Queue};
use crate::schedule::{Fault, Sight, Trap};
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
        let hospitals = (1u16..).zip(tables).map(|(seat, table)| Hospital::new(seat, agreement.contract, table)).collect();
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
        self.truth.check(self.agreement.deal.hospitals, self.agreement.deal.hospitals_min)?;
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
            Some((at_ms, why)) if at_ms <= now_ms => Err(format!("a deadline that was handled stays in the past: {why}")),
            _ => Ok(()),
        }
    }

    /// Does what the coordinator wants done, and sets its clock.
    fn carry_out(&mut self) {
        let now_ms = self.queue.now_ms();
        let sums = self.coordinator.take_sums();
        for summed in &sums {
            self.say(format_args!("the sum of {:?} is open over {:?}", summed.round_id, summed.survivors));
        }
        self.truth.sums.extend(sums);
        for effect in self.coordinator.carry_out(now_ms) {
            match effect {
                Effect::Send { hospital, order } => self.send_order(&hospital, order),
                Effect::Append(record) => self.append(record),
                Effect::End => self.finish(),
                Effect::Died => self.fail(&Fault::RestartCoordinator { down_ms: 500 }),
            }
        }
        let timeout = self.coordinator.job().and_then(|job| job.poll_timeout(now_ms));
        if let Some((at_ms, _)) = timeout
            && self.timer_ms != at_ms.max(now_ms)
        {
            self.timer_ms = at_ms.max(now_ms);
            self.queue.at(self.timer_ms, Event::Timer);
        }
    }

    fn send_order(&mut self, hospital: &str, order: JobOrder) {
        let seat = self.hospitals.iter().find(|h| h.name == hospital).expect("a hospital of the job").seat;
        self.send_down(seat, Down::Order(Order::Job { contract: self.agreement.contract, order }));
    }

    fn send_down(&mut self, seat: u16, down: Down) {
        let link = &mut self.links[at(seat)];
        if link.up {
            let life = link.life;
            let now_ms = self.queue.now_ms();
            let at_ms = link.arrival_ms(now_ms, down.stream(), &mut self.dice, self.weather.delay_ms_max);
            self.queue.at(at_ms, Event::Down { seat, life, down });
        }
    }

    fn send_up(&mut self, seat: u16, out: Vec<Out>) {
        for out in out {
            match out {
                Out::Compute => {
                    let (wait_ms, start) = (self.dice.between(1, self.weather.compute_ms_max), self.starts[at(seat)]);
                    self.queue.after(wait_ms, Event::Computed { seat, start });
                }
                Out::Send(up) => {
                    let link = &mut self.links[at(seat)];
                    if link.up {
                        let life = link.life;
                        let now_ms = self.queue.now_ms();
                        let at_ms = link.arrival_ms(now_ms, up.stream(), &mut self.dice, self.weather.delay_ms_max);
                        self.queue.at(at_ms, Event::Up { seat, life, up });
                    }
                }
            }
        }
    }

    /// Springs the traps that wait for this message. Whether it still arrives.
    fn pass_traps(&mut self, seat: u16, sight: Option<Sight>, life: u64, before: bool) -> bool {
        let Some(sight) = sight else { return self.links[at(seat)].life == life };
        let count = self.sights.entry((seat, sight as u8)).or_default();
        *count += u32::from(before);
        let nth = *count;
        let sprung = |trap: &Trap| (trap.seat, trap.sight, trap.nth, trap.before) == (seat, sight, nth, before);
        let faults: Vec<Fault> = self.traps.iter().filter(|trap| sprung(trap)).map(|trap| trap.fault.clone()).collect();
        self.traps.retain(|trap| !sprung(trap));
        faults.iter().for_each(|fault| self.fail(fault));
        self.links[at(seat)].life == life
    }

    fn deliver_down(&mut self, seat: u16, life: u64, down: Down) {
        if self.links[at(seat)].life != life {
            return;
        }
        let sight = match &down {
            Down::Order(Order::Job { order, .. }) => Sight::of_order(order),
            _ => None,
        };
        if !self.pass_traps(seat, sight, life, true) {
            return;
        }
        let down = self.over_the_wire_down(seat, down);
        let out = self.hospitals[at(seat)].handle(down, &mut self.dice, &mut self.truth);
        self.send_up(seat, out);
        self.pass_traps(seat, sight, life, false);
    }

    fn deliver_up(&mut self, seat: u16, life: u64, up: Up) {
        if self.links[at(seat)].life != life {
            return;
        }
        let sight = match &up {
            Up::Report(Report::Job { report, .. }) => Sight::of_report(report),
            Up::Chunk { .. } => Some(Sight::Chunk),
            Up::Trailer(_) => Some(Sight::Trailer),
            _ => None,
        };
        if !self.pass_traps(seat, sight, life, true) || !self.coordinator.is_running() {
            return;
        }
        self.take_up(seat, up);
        self.carry_out();
        self.pass_traps(seat, sight, life, false);
    }

    fn take_up(&mut self, seat: u16, up: Up) {
        let (now_ms, name) = (self.queue.now_ms(), self.hospitals[at(seat)].name.clone());
        match up {
            Up::Report(report) => {
                let bytes = codec::encode(&report).expect("a frame");
                self.hash.update(&bytes);
                let Report::Job { report, .. } = codec::decode(&bytes).expect("the same frame") else { return };
                self.say(format_args!("{name} reports {}", first_word(&report)));
                if let Some(refused) = self.coordinator.handle_report(now_ms, &name, report) {
                    self.say(format_args!("that is refused: {refused}"));
                }
            }
            Up::Fetch(digest) => {
                let state = self.coordinator.disk.states.get(&hex::encode(digest)).cloned();
                state.into_iter().for_each(|bytes| self.send_down(seat, Down::State(bytes)));
            }
            Up::Hello { slot, chunks } => {
                let reply = self.coordinator.handle_hello(&name, slot, chunks);
                reply.into_iter().for_each(|reply| self.send_down(seat, Down::Reply { slot, reply }));
            }
            Up::Chunk { slot, index, bytes } => {
                self.hash.update(&bytes);
                self.coordinator.handle_chunk(now_ms, seat, slot, index, bytes);
            }
            Up::Trailer(trailer) => {
                let slot = trailer.upload.slot;
                self.say(format_args!("{name} ends its vector for slot {slot}"));
                let reply = self.coordinator.handle_trailer(now_ms, seat, *trailer);
                reply.into_iter().for_each(|reply| self.send_down(seat, Down::Reply { slot, reply }));
            }
            Up::Append { .. } => {}
        }
    }

    fn over_the_wire_down(&mut self, seat: u16, down: Down) -> Down {
        let Down::Order(order) = down else { return down };
        let bytes = codec::encode(&order).expect("a frame");
        self.hash.update(&bytes);
        let order = codec::decode(&bytes).expect("the same frame");
        if let Order::Job { order, .. } = &order {
            let slot = crate::hospital::slot_of(order);
            self.say(format_args!("{} is told {} of slot {slot}", agreement::hospital(seat), first_word(order)));
        }
        Down::Order(order)
    }

    fn link_up(&mut self, seat: u16) {
        let link = &mut self.links[at(seat)];
        if link.up || self.gone[at(seat)] || !self.hospitals[at(seat)].is_running() {
            return;
        }
        if !self.coordinator.is_running() {
            let wait_ms = self.dice.between(200, 2000);
            return self.queue.after(wait_ms, Event::LinkUp { seat });
        }
        link.connect();
        let (now_ms, name) = (self.queue.now_ms(), self.hospitals[at(seat)].name.clone());
        self.say(format_args!("{name} is linked"));
        self.coordinator.job().into_iter().for_each(|job| job.handle_link(now_ms, &name, true));
        let out = self.hospitals[at(seat)].handle_linked();
        self.send_up(seat, out);
    }

    fn start_hospital(&mut self, seat: u16) {
        self.starts[at(seat)] += 1;
        self.hospitals[at(seat)].start(&self.agreement);
        let wait_ms = self.dice.between(1, 500);
        self.queue.after(wait_ms, Event::LinkUp { seat });
    }

    fn start_coordinator(&mut self) {
        if self.coordinator.is_running() {
            return;
        }
        self.coordinator_life += 1;
        let (now_ms, facts, seed) = (self.queue.now_ms(), self.facts(), self.dice.bytes());
        self.say("the coordinator starts");
        self.coordinator.start(now_ms, &facts, self.agreement.root, seed);
        for seat in 1..=self.agreement.deal.hospitals {
            let wait_ms = self.dice.between(100, 2000);
            self.queue.after(wait_ms, Event::LinkUp { seat });
        }
    }

    fn fail(&mut self, fault: &Fault) {
        self.say(format_args!("{fault:?}"));
        match fault {
            Fault::Cut { seat, down_ms } => {
                self.cut(*seat);
                match down_ms {
                    Some(down_ms) => self.queue.after(*down_ms, Event::LinkUp { seat: *seat }),
                    None => self.gone[at(*seat)] = true,
                }
            }
            Fault::RestartHospital { seat, down_ms } => {
                self.cut(*seat);
                self.hospitals[at(*seat)].stop();
                self.starts[at(*seat)] += 1;
                self.queue.after(*down_ms, Event::HospitalStart { seat: *seat });
            }
            Fault::RestartCoordinator { down_ms } => {
                self.coordinator.stop();
                self.timer_ms = 0;
                self.links.iter_mut().for_each(Link::cut);
                self.queue.after(*down_ms, Event::CoordinatorStart);
            }
        }
    }

    fn cut(&mut self, seat: u16) {
        let link = &mut self.links[at(seat)];
        if link.up {
            link.cut();
            let (life, wait_ms) = (link.life, self.dice.between(0, self.weather.notice_ms_max));
            self.queue.after(wait_ms, Event::Noticed { seat, life });
        }
    }

    /// The process asked for a step; a process that dies now may or may not have got it on its way.
    fn append(&mut self, record: Record) {
        if let Record::Abort { reason, .. } = &record {
            self.aborted.get_or_insert_with(|| reason.clone());
        }
        let (wait_ms, life) = (self.dice.between(1, self.weather.ledger_ms_max), self.coordinator_life);
        self.queue.after(wait_ms, Event::Recorded { record, life });
    }

    fn record(&mut self, record: &Record, life: u64) {
        if life != self.coordinator_life && self.dice.chance(500) {
            return;
        }
        let now_ms = self.queue.now_ms();
        let body = due::body_of(record).expect("a body");
        let nonce = self.ledger.next_index();
        let contract = self.agreement.contract;
        let envelope = agreement::sign(&self.ledger, now_ms, "coordinator", Some(&contract), &body, nonce);
        match self.push(envelope) {
            Ok(()) => self.say(format_args!("on the ledger: {}", record.key())),
            Err(reason) => {
                self.say(format_args!("the ledger refuses {}: {reason}", record.key()));
                self.coordinator.job().into_iter().for_each(|job| job.handle_append_refused(&record.key(), &reason));
            }
        }
    }

    fn expire(&mut self) {
        let now_ms = self.queue.now_ms();
        for step in self.ledger.due_steps(now_ms) {
            let nonce = self.ledger.next_index();
            let contract = self.agreement.contract;
            let envelope = agreement::sign(&self.ledger, now_ms, "coordinator", Some(&contract), &step.body, nonce);
            self.push(envelope).expect("a step that is due");
        }
    }

    fn push(&mut self, envelope: Envelope) -> Result<(), String> {
        let now_ms = self.queue.now_ms();
        let entry = Entry::new(envelope, now_ms).map_err(|error| error.to_string())?;
        self.ledger.apply(self.ledger.next_index(), &entry).map_err(|error| error.to_string())?;
        let (facts, root) = (self.facts(), self.agreement.root);
        self.coordinator.job().into_iter().for_each(|job| job.handle_facts(now_ms, &facts, root));
        Ok(())
    }

    fn finish(&mut self) {
        let facts = self.facts();
        let reason = self.aborted.clone().unwrap_or_default();
        self.end = Some(match (facts.delivered, facts.phase.as_str()) {
            (true, _) => End::Delivered,
            (_, "Expired") => End::Expired,
            _ => End::Aborted { reason },
        });
    }
}

fn at(seat: u16) -> usize {
    usize::from(seat).saturating_sub(1)
}

/// The name of an enum's variant.
fn first_word(value: &impl fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.chars().take_while(|c| c.is_alphanumeric()).collect()
}
