//! Processes and links: how they start, and how they fail.

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::hash::Hash32;
use leben_protocol::frame::{self, Order};

use super::{Event, Network, at};
use crate::agreement::{self, ORIGIN};
use crate::coordinator::Coordinator;
use crate::hospital::Down;
use crate::log::log_vkey;
use crate::schedule::Fault;

impl Network {
    pub(super) fn start_coordinator(&mut self) {
        let first = self.log.size() == 0;
        self.up = true;
        self.say("the coordinator starts");
        let wishes = self.log.start();
        self.grant(wishes);
        if first {
            let names: Vec<String> = self.members.iter().map(|member| member.name.clone()).collect();
            self.append("coordinator", None, &agreement::genesis()).unwrap();
            for name in names.iter().map(String::as_str).chain(["team"]) {
                self.append(name, None, &agreement::enrolment(name)).unwrap();
            }
            for spec in self.deal.stages.clone() {
                self.append("coordinator", None, &agreement::algorithm_offer(&spec)).unwrap();
            }
            let receipt_hash = Hash32::plain(b"bank");
            let deposit = body::Deposit { party: agreement::id("team"), credits: 5000, receipt_hash };
            self.append("admin", None, &Body::Deposit(deposit)).unwrap();
        }
        self.asked.clear();
        if self.log.is_certified() {
            self.resume_job();
        }
        for seat in 1..=self.deal.hospitals {
            let wait_ms = self.dice.between(100, 1500);
            self.queue.after(wait_ms, Event::LinkUp { seat });
        }
    }

    pub(super) fn link_up(&mut self, seat: u16) {
        let (now_ms, member) = (self.queue.now_ms(), &self.members[at(seat)]);
        if self.links[at(seat)].up || !member.is_running() {
            return;
        }
        if !self.up {
            return self.queue.after(700, Event::LinkUp { seat });
        }
        let (name, (size, certified, signed)) = (member.name.clone(), member.holds());
        self.links[at(seat)].connect();
        self.say(format_args!("{name} is linked, with {size} entries"));
        let network =
            frame::Network { origin: ORIGIN.into(), log_vkey: log_vkey().to_string(), size: self.log.size(), now_ms };
        self.send_down(seat, Down::Order(Order::Welcome { version: 1, network }));
        let wishes = self.log.tell(|finality| finality.handle_up(&name, size, certified, signed));
        self.grant(wishes);
        if let Some(job) = self.coordinator.as_mut().and_then(Coordinator::job) {
            job.handle_link(now_ms, &name, true);
        }
        let out = self.members[at(seat)].handle_link(true);
        self.send_up(seat, out);
        self.act();
    }

    pub(super) fn notice(&mut self, seat: u16) {
        let (now_ms, name) = (self.queue.now_ms(), self.members[at(seat)].name.clone());
        let wishes = self.log.tell(|finality| finality.handle_down(&name));
        self.grant(wishes);
        if let Some(job) = self.coordinator.as_mut().and_then(Coordinator::job) {
            job.handle_link(now_ms, &name, false);
        }
    }

    pub(super) fn fail(&mut self, fault: &Fault) {
        self.say(format_args!("{fault:?}"));
        match fault {
            Fault::Cut { seat, down_ms } => {
                self.cut(*seat);
                match down_ms {
                    Some(down_ms) => self.queue.after(*down_ms, Event::LinkUp { seat: *seat }),
                    None => self.members[at(*seat)].stop(),
                }
            }
            Fault::RestartHospital { seat, down_ms } => {
                self.cut(*seat);
                self.members[at(*seat)].stop();
                self.starts[at(*seat)] += 1;
                self.queue.after(*down_ms, Event::MemberStart { seat: *seat });
            }
            Fault::RestartCoordinator { down_ms } => {
                self.up = false;
                self.log.stop();
                self.coordinator.iter_mut().for_each(Coordinator::stop);
                (1..=self.deal.hospitals).for_each(|seat| self.cut(seat));
                self.queue.after(*down_ms, Event::CoordinatorStart);
            }
        }
    }

    pub(super) fn cut(&mut self, seat: u16) {
        let link = &mut self.links[at(seat)];
        if link.up {
            link.cut();
            let (life, wait_ms) = (link.life, self.dice.between(0, self.weather.notice_ms_max));
            self.queue.after(wait_ms, Event::Noticed { seat, life });
            self.members[at(seat)].handle_link(false);
        }
    }
}
