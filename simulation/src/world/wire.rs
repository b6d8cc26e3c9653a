//! Messages on their way: sent, trapped, delivered.

use leben_protocol::codec;
use leben_protocol::frame::{JobOrder, Order, Report};
use sha2::Digest;

use super::{Event, World, at, first_word};
use crate::agreement;
use crate::coordinator::Effect;
use crate::hospital::{Down, Out, Up};
use crate::schedule::{Fault, Sight, Trap};

impl World {
    /// Does what the coordinator wants done, and sets its clock.
    pub(super) fn carry_out(&mut self) {
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

    pub(super) fn send_order(&mut self, hospital: &str, order: JobOrder) {
        let seat = self.hospitals.iter().find(|h| h.name == hospital).expect("a hospital of the job").seat;
        self.send_down(seat, Down::Order(Order::Job { contract: self.agreement.contract, order }));
    }

    pub(super) fn send_down(&mut self, seat: u16, down: Down) {
        let link = &mut self.links[at(seat)];
        if link.up {
            let life = link.life;
            let now_ms = self.queue.now_ms();
            let at_ms = link.arrival_ms(now_ms, down.stream(), &mut self.dice, self.weather.delay_ms_max);
            self.queue.at(at_ms, Event::Down { seat, life, down });
        }
    }

    pub(super) fn send_up(&mut self, seat: u16, out: Vec<Out>) {
        for out in out {
            match out {
                Out::FetchView(address) => panic!("nobody has addresses here, and yet: {address}"),
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
    pub(super) fn pass_traps(&mut self, seat: u16, sight: Option<Sight>, life: u64, before: bool) -> bool {
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

    pub(super) fn deliver_down(&mut self, seat: u16, life: u64, down: Down) {
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

    pub(super) fn deliver_up(&mut self, seat: u16, life: u64, up: Up) {
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

    pub(super) fn take_up(&mut self, seat: u16, up: Up) {
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

    pub(super) fn over_the_wire_down(&mut self, seat: u16, down: Down) -> Down {
        let Down::Order(order) = down else { return down };
        let bytes = codec::encode(&order).expect("a frame");
        self.hash.update(&bytes);
        let order = codec::decode(&bytes).expect("the same frame");
        if let Order::Job { order, .. } = &order {
            if let JobOrder::Open { opening, .. } = order {
                let directory = self.facts().directory.expect("a frozen directory");
                self.truth.transcripts.insert(opening.slot, opening.transcript(&directory));
            }
            let slot = crate::hospital::slot_of(order);
            self.say(format_args!("{} is told {} of slot {slot}", agreement::hospital(seat), first_word(order)));
        }
        Down::Order(order)
    }
}
