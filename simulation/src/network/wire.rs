//! Messages on their way.

use leben_protocol::codec;
use leben_protocol::frame::{JobReport, Order, Report};
use leben_protocol::reject::{Reject, RejectCode};
use sha2::Digest;

use super::{Event, Network, at};
use crate::hospital::{Down, Out, Up};
use crate::world::first_word;

impl Network {
    pub(super) fn send_order(&mut self, party: &str, order: Order) {
        let seat = self.members.iter().find(|member| member.name == party).expect("a hospital").seat;
        self.send_down(seat, Down::Order(order));
    }

    pub(super) fn send_down(&mut self, seat: u16, down: Down) {
        let (link, now_ms) = (&mut self.links[at(seat)], self.queue.now_ms());
        if link.up {
            let life = link.life;
            let at_ms = link.arrival_ms(now_ms, down.stream(), &mut self.dice, self.weather.delay_ms_max);
            self.queue.at(at_ms, Event::Down { seat, life, down });
        }
    }

    pub(super) fn send_up(&mut self, seat: u16, out: Vec<Out>) {
        for out in out {
            let (link, now_ms) = (&mut self.links[at(seat)], self.queue.now_ms());
            match out {
                Out::Compute => {
                    let (wait_ms, start) = (self.dice.between(1, self.weather.compute_ms_max), self.starts[at(seat)]);
                    self.queue.after(wait_ms, Event::Computed { seat, start });
                }
                Out::Send(up) if link.up => {
                    let life = link.life;
                    let at_ms = link.arrival_ms(now_ms, up.stream(), &mut self.dice, self.weather.delay_ms_max);
                    self.queue.at(at_ms, Event::Up { seat, life, up });
                }
                Out::Send(_) => {}
                Out::FetchView(address) => panic!("nobody has addresses here, and yet: {address}"),
            }
        }
    }

    pub(super) fn take_down(&mut self, seat: u16, down: Option<Down>) {
        let now_ms = self.queue.now_ms();
        let down = down.map(|down| match down {
            Down::Order(order) => {
                let bytes = codec::encode(&order).expect("a frame");
                self.hash.update(&bytes);
                Down::Order(codec::decode(&bytes).expect("the same frame"))
            }
            other => other,
        });
        let out = self.members[at(seat)].handle(now_ms, &self.contract, down, &mut self.truth);
        let forked = self.members[at(seat)].disk.fork.as_ref();
        assert!(forked.is_none(), "seed {}: an honest log, and yet: {forked:?}", self.seed);
        self.send_up(seat, out);
    }

    pub(super) fn take_up(&mut self, seat: u16, up: Up) {
        let (now_ms, name) = (self.queue.now_ms(), self.members[at(seat)].name.clone());
        match up {
            Up::Report(report) => self.take_report(seat, &name, report),
            Up::Append { key, envelope } => {
                let (result, wishes) = self.log.append(now_ms, &envelope);
                self.say(format_args!("{name}: {key} is {result:?}"));
                let answer = result.map_err(|reason| Reject::new(RejectCode::EntryRefused, reason));
                self.send_down(seat, Down::Appended { key, answer });
                self.grant(wishes);
            }
            Up::Fetch(digest) => {
                let disk = self.coordinator.as_ref().map(|coordinator| &coordinator.disk);
                let state = disk.and_then(|disk| disk.states.get(&hex::encode(digest)).cloned());
                state.into_iter().for_each(|bytes| self.send_down(seat, Down::State(bytes)));
            }
            Up::Hello { slot, chunks } => {
                let reply = self.coordinator.as_mut().and_then(|c| c.handle_hello(&name, slot, chunks));
                reply.into_iter().for_each(|reply| self.send_down(seat, Down::Reply { slot, reply }));
            }
            Up::Chunk { slot, index, bytes } => {
                self.coordinator.iter_mut().for_each(|c| c.handle_chunk(now_ms, seat, slot, index, bytes.clone()));
            }
            Up::Trailer(trailer) => {
                let slot = trailer.upload.slot;
                let reply = self.coordinator.as_mut().and_then(|c| c.handle_trailer(now_ms, seat, *trailer));
                reply.into_iter().for_each(|reply| self.send_down(seat, Down::Reply { slot, reply }));
            }
        }
    }

    pub(super) fn take_report(&mut self, seat: u16, name: &str, report: Report) {
        let now_ms = self.queue.now_ms();
        let wishes = match report {
            Report::Job { report, .. } => {
                self.say(format_args!("{name} reports {}", first_word(&report)));
                if let JobReport::Refused { slot, reject, .. } = &report {
                    self.say(format_args!("{name} refuses slot {slot}: {reject}"));
                }
                self.coordinator.as_mut().and_then(|c| c.handle_report(now_ms, name, report));
                return;
            }
            Report::Cosigned { size, lines } => {
                self.log.tell(|finality| finality.handle_cosigned(name, size, &lines).expect("an honest witness"))
            }
            Report::NotCosigned { size, mirror_size, reject } => {
                self.say(format_args!("{name} (seat {seat}) does not cosign: {reject}"));
                self.log.tell(|finality| finality.handle_not_cosigned(name, mirror_size, size))
            }
            Report::AskView { of } => {
                let linked = self.members.iter().any(|member| member.name == of && self.links[at(member.seat)].up);
                if linked && self.relay.handle_ask(now_ms, name, &of).is_ok() {
                    self.send_order(&of, Order::ViewAsked { by: name.to_owned() });
                }
                return;
            }
            Report::View { to, view } => {
                if self.relay.handle_view(name, &to, view.len()).is_ok() {
                    self.send_order(&to, Order::View { of: name.to_owned(), view });
                }
                return;
            }
            Report::Certified { size } => self.log.tell(|finality| finality.handle_certified(name, size)),
        };
        self.grant(wishes);
    }
}
