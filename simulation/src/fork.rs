//! A coordinator that shows two groups of hospitals two histories, with its own real key, and hospitals that look at each other's.
//!
//! Messages arrive at once and in order: here it is not the network that is hostile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_coordinator::relay::Relay;
use leben_coordinator::schedule as due;
use leben_protocol::frame::{self, Order, Report};
use leben_protocol::reject::{Reject, RejectCode};

use crate::agreement::{self, ORIGIN, START_MS};
use crate::deal::Deal;
use crate::dice::Dice;
use crate::hospital::{Down, Out, Up};
use crate::log::{Log, Wish, log_vkey};
use crate::member::Member;
use crate::network::operator;
use crate::truth::Truth;
use crate::world::rows;

/// How time passes here, milliseconds a step.
pub const STEP_MS: u64 = 20_000;

enum Message {
    Up(u16, Up),
    Down(u16, Down),
}

/// The whole network.
pub struct Forked {
    /// The hospitals, by seat less one.
    pub members: Vec<Member>,
    /// Whether the coordinator passes views on.
    pub relays: bool,
    /// Who can reach whose `listen_view`, by the address `http://<hospital>`.
    pub reachable: bool,
    sides: [Log; 2],
    second: BTreeSet<u16>,
    relay: Relay,
    queue: VecDeque<Message>,
    asked: [BTreeSet<String>; 2],
    stolen: BTreeSet<(usize, u64)>,
    now_ms: u64,
    nonce: u64,
}

impl Forked {
    /// `hospitals` of them, all witnesses, and still one history.
    pub fn new(hospitals: u16, seed: u64) -> Forked {
        let deal = Deal::new(hospitals);
        let mut dice = Dice::new(seed, 7);
        let mut members: Vec<Member> = (1..=hospitals).map(|seat| Member::new(seat, rows(seat, 20))).collect();
        members.iter_mut().for_each(|member| member.start(&deal, dice.bytes()));
        let mut forked = Forked {
            members,
            relays: true,
            reachable: false,
            sides: [Log::default(), Log::default()],
            second: BTreeSet::new(),
            relay: Relay::default(),
            queue: VecDeque::new(),
            asked: [BTreeSet::new(), BTreeSet::new()],
            stolen: BTreeSet::new(),
            now_ms: START_MS,
            nonce: 0,
        };
        let wishes = forked.sides[0].start();
        forked.grant(wishes);
        forked.append(0, "coordinator", &agreement::genesis());
        for name in (1..=hospitals).map(agreement::hospital).chain(["team".to_owned()]) {
            forked.append(0, &name, &agreement::enrolment(&name));
        }
        (1..=hospitals).for_each(|seat| forked.link(seat));
        forked.pass(10);
        forked
    }

    /// From here on these hospitals are shown a copy that goes its own way.
    pub fn divide(&mut self, second: &[u16]) {
        self.sides[1] = self.sides[0].copy();
        self.asked[1] = self.asked[0].clone();
        let wishes = self.sides[1].start();
        self.second = second.iter().copied().collect();
        self.grant(wishes);
        for seat in second {
            let name = agreement::hospital(*seat);
            let wishes = self.sides[0].tell(|finality| finality.handle_down(&name));
            self.grant(wishes);
            self.members[usize::from(*seat) - 1].handle_link(false);
            self.link(*seat);
        }
        self.settle();
    }

    /// One more entry on one side; `what` makes it differ from the other's.
    pub fn write(&mut self, side: usize, what: &str) {
        let receipt_hash = Hash32::plain(what.as_bytes());
        let deposit = body::Deposit { party: agreement::id("team"), credits: 1, receipt_hash };
        self.append(side, "admin", &Body::Deposit(deposit));
        self.settle();
    }

    /// Entries on each side.
    pub fn sizes(&self) -> (u64, u64) {
        (self.sides[0].size(), self.sides[1].size())
    }

    /// So many steps of time pass.
    pub fn pass(&mut self, steps: usize) {
        for _ in 0..steps {
            self.now_ms += STEP_MS;
            for seat in 1..=self.members.len() as u16 {
                self.give(seat, None);
            }
            self.settle();
        }
    }

    /// The proofs that hospitals have found, by name; each is checked with the log's key alone.
    ///
    /// # Panics
    /// On a proof that proves nothing.
    pub fn proofs(&self) -> BTreeMap<String, ForkEvidence> {
        let mut proofs = BTreeMap::new();
        for member in &self.members {
            if let Some(fork) = &member.disk.fork {
                fork.verify(&log_vkey()).unwrap();
                proofs.insert(member.name.clone(), (**fork).clone());
            }
        }
        proofs
    }

    /// The clock.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    fn side(&self, seat: u16) -> usize {
        usize::from(self.second.contains(&seat))
    }

    fn link(&mut self, seat: u16) {
        let (side, now_ms) = (self.side(seat), self.now_ms);
        let (name, (size, certified, signed)) = {
            let member = &self.members[usize::from(seat) - 1];
            (member.name.clone(), member.holds())
        };
        let size_there = self.sides[side].size();
        let network =
            frame::Network { origin: ORIGIN.into(), log_vkey: log_vkey().to_string(), size: size_there, now_ms };
        self.queue.push_back(Message::Down(seat, Down::Order(Order::Welcome { version: 1, network })));
        let wishes = self.sides[side].tell(|finality| finality.handle_up(&name, size, certified, signed));
        self.grant(wishes);
    }

    fn append(&mut self, side: usize, actor: &str, body: &Body) {
        self.nonce += 1;
        let envelope = {
            let state = self.sides[side].committed().expect("a log that runs");
            agreement::sign(state, self.now_ms, actor, None, body, self.nonce)
        };
        let (result, wishes) = self.sides[side].append(self.now_ms, &envelope.to_bytes());
        result.unwrap();
        self.grant(wishes);
    }

    fn grant(&mut self, wishes: Vec<Wish>) {
        for wish in wishes {
            if let Wish::Order(party, order) = wish {
                let seat = self.seat(&party).expect("a hospital");
                self.queue.push_back(Message::Down(seat, Down::Order(order)));
            }
        }
    }

    fn seat(&self, name: &str) -> Option<u16> {
        self.members.iter().find(|member| member.name == name).map(|member| member.seat)
    }

    fn give(&mut self, seat: u16, down: Option<Down>) {
        let mut truth = Truth::default();
        let out = self.members[usize::from(seat) - 1].handle(self.now_ms, &[0; 32], down, &mut truth);
        for out in out {
            match out {
                Out::Send(up) => self.queue.push_back(Message::Up(seat, up)),
                Out::FetchView(address) => self.fetch(seat, &address),
                Out::Compute => panic!("no job runs here"),
            }
        }
    }

    fn fetch(&mut self, seat: u16, address: &str) {
        let other = address.strip_prefix("http://").and_then(|name| self.seat(name)).filter(|_| self.reachable);
        let view = other.and_then(|other| self.members[usize::from(other) - 1].view(self.now_ms));
        self.members[usize::from(seat) - 1].handle_view(self.now_ms, address, view);
        self.give(seat, None);
    }

    /// Until nobody has anything to say.
    fn settle(&mut self) {
        loop {
            while let Some(message) = self.queue.pop_front() {
                match message {
                    Message::Down(seat, down) => self.give(seat, Some(down)),
                    Message::Up(seat, up) => self.take(seat, up),
                }
            }
            let stepped = self.take_steps();
            if !(self.steal(0) | self.steal(1) | stepped) {
                return;
            }
        }
    }

    fn take(&mut self, seat: u16, up: Up) {
        let (side, name) = (self.side(seat), agreement::hospital(seat));
        let wishes = match up {
            Up::Append { key, envelope } => {
                let (result, wishes) = self.sides[side].append(self.now_ms, &envelope);
                let answer = result.map_err(|reason| Reject::new(RejectCode::EntryRefused, reason));
                self.queue.push_back(Message::Down(seat, Down::Appended { key, answer }));
                wishes
            }
            Up::Report(Report::Cosigned { size, lines }) => self.sides[side]
                .tell(|finality| finality.handle_cosigned(&name, size, &lines).expect("an honest witness")),
            Up::Report(Report::NotCosigned { size, mirror_size, .. }) => {
                self.sides[side].tell(|finality| finality.handle_not_cosigned(&name, mirror_size, size))
            }
            Up::Report(Report::Certified { size }) => {
                self.sides[side].tell(|finality| finality.handle_certified(&name, size))
            }
            Up::Report(Report::AskView { of }) => {
                let asked = self.seat(&of).filter(|_| self.relays);
                if let Some(other) = asked.filter(|_| self.relay.handle_ask(self.now_ms, &name, &of).is_ok()) {
                    self.queue.push_back(Message::Down(other, Down::Order(Order::ViewAsked { by: name })));
                }
                return;
            }
            Up::Report(Report::View { to, view }) => {
                let asked = self.relay.handle_view(&name, &to, view.len()).is_ok();
                if let Some(other) = self.seat(&to).filter(|_| asked) {
                    self.queue.push_back(Message::Down(other, Down::Order(Order::View { of: name, view })));
                }
                return;
            }
            _ => return,
        };
        self.grant(wishes);
    }

    /// Two of four hospitals' keys are in the wrong hands, one more than the quorum tolerates: each history becomes final where it is
    /// shown. Whether there was anything to sign.
    fn steal(&mut self, side: usize) -> bool {
        if self.second.is_empty() {
            return false;
        }
        let (name, time_s) = (agreement::hospital(if side == 0 { 3 } else { 2 }), self.now_ms / 1000);
        let key = agreement::key(&name, "validator");
        let signer = NoteSigner::new(&name, KeyType::Cosignature, key).unwrap();
        let mut signed = None;
        let wishes = self.sides[side].tell(|finality| {
            let note = finality.shown().filter(|_| finality.is_busy());
            let Some(note) = note.map(|note| Note::parse(note.as_bytes()).unwrap()) else { return };
            let size = Checkpoint::of(&note).unwrap().size;
            signed = Some(size).filter(|size| !self.stolen.contains(&(side, *size)));
            if signed.is_some() {
                let line = signer.sign(note.text(), time_s).to_string();
                finality.handle_cosigned(&name, size, &line).unwrap();
                finality.handle_certified(&name, size);
            }
        });
        self.grant(wishes);
        signed.is_some_and(|size| self.stolen.insert((side, size)))
    }

    /// The coordinator's own steps on each side; whether there were any.
    fn take_steps(&mut self) -> bool {
        let mut any = false;
        for side in 0..2 {
            let linked = self.members.iter().filter(|member| self.side(member.seat) == side);
            let linked: BTreeSet<String> = linked.map(|member| member.name.clone()).collect();
            let Some((state, _)) = self.sides[side].certain() else { continue };
            // Only what made the hospitals witnesses: a coordinator that forks does not change the quorum.
            let steps = match self.second.is_empty() {
                true => due::due(state, self.now_ms, &linked, &operator(&Deal::new(1))),
                false => Vec::new(),
            };
            for step in steps {
                if self.asked[side].insert(step.key.clone()) {
                    self.append(side, "coordinator", &step.body);
                    any = true;
                }
            }
        }
        any
    }
}
