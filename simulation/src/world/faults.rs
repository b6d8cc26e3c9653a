//! Processes and links: how they start, and how they fail.

use super::{Event, World, at};
use crate::net::Link;
use crate::schedule::Fault;

impl World {
    pub(super) fn link_up(&mut self, seat: u16) {
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

    pub(super) fn start_hospital(&mut self, seat: u16) {
        self.starts[at(seat)] += 1;
        self.hospitals[at(seat)].start(&self.agreement);
        let wait_ms = self.dice.between(1, 500);
        self.queue.after(wait_ms, Event::LinkUp { seat });
    }

    pub(super) fn start_coordinator(&mut self) {
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

    pub(super) fn fail(&mut self, fault: &Fault) {
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

    pub(super) fn cut(&mut self, seat: u16) {
        let link = &mut self.links[at(seat)];
        if link.up {
            link.cut();
            let (life, wait_ms) = (link.life, self.dice.between(0, self.weather.notice_ms_max));
            self.queue.after(wait_ms, Event::Noticed { seat, life });
        }
    }
}
