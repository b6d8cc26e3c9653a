//! Phase 1: every hospital's fresh key for the slot, then every hospital's shares of its secrets.
//!
//! From the second slot on both ride on the messages of the slot before, so that this phase passes in no time. A
//! hospital that missed slots is asked on its own, while the others work, and joins the next one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leben_privacy::secure_sum::{Directory, SealedShare, SlotKey};
use leben_protocol::frame::JobOrder;
use leben_protocol::reject::{Reject, RejectCode};

use super::{Action, Rules};
use crate::roster::Roster;

/// Keys and shares for one slot to come.
#[derive(Debug)]
pub struct Preparation {
    slot: u64,
    /// Since when keys are waited for: from the moment at which nothing but this slot is worked on. What rode along on the
    /// slot before came early, and does not use up anybody's patience.
    since_ms: Option<u64>,
    /// Since when shares are waited for.
    shares_since_ms: Option<u64>,
    asked: BTreeSet<u16>,
    keys: BTreeMap<u16, SlotKey>,
    frozen: Option<Vec<SlotKey>>,
    shares: BTreeMap<u16, Vec<SealedShare>>,
    /// Seats that lost the secrets of their fixed key: they can only join a slot with a new one.
    gone: BTreeSet<u16>,
}

/// What is needed to open the slot.
#[derive(Debug)]
pub struct Ready {
    /// The slot.
    pub slot: u64,
    /// Keys of those who take part, by index.
    pub cohort: Vec<SlotKey>,
    /// For each of them, the shares that the others sealed for it.
    pub sealed: BTreeMap<u16, Vec<SealedShare>>,
}

/// Whether the slot can open.
#[derive(Debug)]
pub enum Poll {
    /// Somebody is still waited for.
    Wait,
    /// Too few shares came for the keys that were fixed: begin again with a new slot.
    Again,
    /// A hospital that the terms want came back after the keys were fixed: begin again with it. Costs no repeat, since
    /// nothing was opened; it cannot go round in circles, since keys are fixed without a hospital once, when patience is over.
    Widen,
    /// Too few hospitals, and the terms' patience is over.
    Hopeless(String),
    /// It can.
    Ready(Ready),
}

impl Preparation {
    /// Nothing there yet.
    pub fn new(slot: u64) -> Preparation {
        Preparation {
            slot,
            since_ms: None,
            shares_since_ms: None,
            asked: BTreeSet::new(),
            keys: BTreeMap::new(),
            frozen: None,
            shares: BTreeMap::new(),
            gone: BTreeSet::new(),
        }
    }

    /// The slot to come.
    pub fn slot(&self) -> u64 {
        self.slot
    }

    /// Forgets what was gathered and takes the next slot number: a slot's keys are never used twice.
    pub fn begin_again(&mut self, now_ms: u64) {
        let keep_unfrozen = self.frozen.is_none() && self.shares.is_empty();
        if !keep_unfrozen {
            *self = Preparation::new(self.slot + 1);
        }
        self.since_ms = Some(now_ms);
    }

    /// A hospital's key. Until the keys are fixed a later one takes its place: the hospital was restarted in between.
    pub fn handle_key(&mut self, seat: u16, key: SlotKey, directory: &Directory) -> Result<(), Reject> {
        if key.slot != self.slot {
            return Ok(());
        }
        if key.hospital_index != seat {
            return Err(Reject::new(RejectCode::BadSignature, "a slot key under another hospital's number"));
        }
        key.verify(directory).map_err(|error| Reject::new(RejectCode::BadSignature, error.to_string()))?;
        if self.frozen.is_none() {
            self.keys.insert(seat, key);
        }
        Ok(())
    }

    /// A hospital's shares for everybody whose key was fixed.
    pub fn handle_shares(&mut self, seat: u16, slot: u64, sealed: Vec<SealedShare>) -> Result<(), Reject> {
        let Some(frozen) = self.frozen.as_ref().filter(|_| slot == self.slot) else { return Ok(()) };
        let receivers: BTreeSet<u16> = sealed.iter().map(|share| share.to).collect();
        let complete = sealed.len() == frozen.len()
            && sealed.iter().all(|share| share.from == seat && share.slot == slot)
            && frozen.iter().all(|key| receivers.contains(&key.hospital_index));
        if !complete {
            return Err(Reject::new(RejectCode::Malformed, "shares are not one for each key of the slot"));
        }
        self.shares.entry(seat).or_insert(sealed);
        Ok(())
    }

    /// A hospital refused this slot. If its key is fixed already, it is not waited for any more.
    pub fn handle_gone(&mut self, seat: u16, slot: u64) {
        if slot == self.slot && self.frozen.is_some() && !self.shares.contains_key(&seat) {
            self.gone.insert(seat);
        }
    }

    /// Fixes the keys so that they can ride on a close.
    pub fn freeze(&mut self) -> Option<(u64, Vec<SlotKey>)> {
        if self.keys.is_empty() {
            return None;
        }
        let keys = self.frozen.get_or_insert_with(|| self.keys.values().cloned().collect());
        Some((self.slot, keys.clone()))
    }

    /// Tells the fixed keys to those who have one among them and did not get them with a close.
    pub fn tell_keys(&self, told: &[u16], roster: &Roster, actions: &mut VecDeque<Action>) {
        let Some(keys) = &self.frozen else { return };
        for seat in keys.iter().map(|key| key.hospital_index) {
            if !told.contains(&seat) && roster.is_present(seat) {
                actions.push_back(Action::Send { seat, order: self.keys_order(keys) });
            }
        }
    }

    /// Asks those who are linked but not in the open slot for a key, once each.
    pub fn ask_bystanders(&mut self, cohort: &[u16], roster: &Roster, actions: &mut VecDeque<Action>) {
        if self.frozen.is_some() {
            return;
        }
        for seat in roster.seats().iter().map(|seat| seat.index) {
            if roster.is_present(seat) && !cohort.contains(&seat) && !self.keys.contains_key(&seat) {
                self.ask(seat, actions);
            }
        }
    }

    /// What a hospital that came back has to be told again.
    pub fn retell(&mut self, seat: u16, actions: &mut VecDeque<Action>) {
        self.asked.remove(&seat);
        if !self.keys.contains_key(&seat) {
            return;
        }
        match &self.frozen {
            Some(keys) if !self.shares.contains_key(&seat) => {
                actions.push_back(Action::Send { seat, order: self.keys_order(keys) });
            }
            Some(_) => {}
            // It may have been restarted: then the secrets of its key are lost, and it makes a new one.
            None => self.ask(seat, actions),
        }
    }

    /// When the patience of this phase ends next.
    pub fn deadline_ms(&self, now_ms: u64, rules: &Rules) -> Option<(u64, &'static str)> {
        let over_ms = |since_ms: Option<u64>| since_ms.map(|since_ms| since_ms.saturating_add(rules.silent_ms_max));
        let (keys_ms, shares_ms) = (over_ms(self.since_ms), over_ms(self.shares_since_ms));
        match (keys_ms, shares_ms) {
            (Some(keys_ms), Some(shares_ms)) if keys_ms <= now_ms => Some((shares_ms, "shares are awaited")),
            (Some(keys_ms), _) => Some((keys_ms, "keys or shares are awaited")),
            _ => None,
        }
    }

    /// Moves the phase as far as it goes.
    pub fn poll(
        &mut self,
        now_ms: u64,
        rules: &Rules,
        roster: &Roster,
        pinned: Option<&[u16]>,
        actions: &mut VecDeque<Action>,
    ) -> Poll {
        let over = |since_ms: u64| now_ms >= since_ms.saturating_add(rules.silent_ms_max);
        let keys_over = over(*self.since_ms.get_or_insert(now_ms));
        let wants_all = rules.repeat_on_drop || pinned.is_some();
        // Who is wanted in any case is waited for as long as patience lasts, however long it is away.
        let away_ms_max = if wants_all { u64::MAX } else { rules.away_ms_max };
        let willing = |seat: u16| !roster.is_lost(now_ms, seat, away_ms_max);
        let wanted: Vec<u16> = match pinned {
            Some(seats) => seats.to_vec(),
            None => roster.seats().iter().map(|seat| seat.index).collect(),
        };
        if self.frozen.is_none() {
            for seat in wanted.iter().copied().filter(|seat| roster.is_present(*seat)) {
                if !self.keys.contains_key(&seat) {
                    self.ask(seat, actions);
                }
            }
            if !keys_over && wanted.iter().any(|seat| !self.keys.contains_key(seat) && willing(*seat)) {
                return Poll::Wait;
            }
            let here: Vec<u16> = wanted.iter().copied().filter(|seat| self.keys.contains_key(seat)).collect();
            if let Some(reason) = too_few(&here, &wanted, rules, roster, pinned.is_some()) {
                return Poll::Hopeless(reason);
            }
            self.freeze();
            self.tell_keys(&[], roster, actions);
        }
        // A hospital that came back after the keys were fixed is worth a new slot when the terms want everybody.
        if wants_all && !keys_over && wanted.iter().any(|seat| !self.keys.contains_key(seat) && willing(*seat)) {
            let back = wanted.iter().any(|seat| !self.keys.contains_key(seat) && roster.is_present(*seat));
            return if back { Poll::Widen } else { Poll::Wait };
        }
        if wants_all && wanted.iter().any(|seat| self.gone.contains(seat) && roster.is_present(*seat)) {
            return Poll::Again;
        }
        let shares_over = over(*self.shares_since_ms.get_or_insert(now_ms));
        let waited_for = |seat: u16| !shares_over && willing(seat);
        self.poll_shares(rules, roster, &wanted, pinned, waited_for)
    }

    fn poll_shares(
        &self,
        rules: &Rules,
        roster: &Roster,
        wanted: &[u16],
        pinned: Option<&[u16]>,
        waited_for: impl Fn(u16) -> bool,
    ) -> Poll {
        let awaited =
            |seat: &u16| self.keys.contains_key(seat) && !self.shares.contains_key(seat) && !self.gone.contains(seat);
        if wanted.iter().any(|seat| awaited(seat) && waited_for(*seat)) {
            return Poll::Wait;
        }
        let cohort: Vec<u16> = wanted
            .iter()
            .copied()
            .filter(|seat| self.shares.contains_key(seat) && roster.seat(*seat).is_some_and(|s| s.refused.is_none()))
            .filter(|seat| roster.is_present(*seat) || waited_for(*seat))
            .collect();
        if too_few(&cohort, wanted, rules, roster, pinned.is_some()).is_some() {
            return Poll::Again;
        }
        Poll::Ready(self.ready(&cohort))
    }

    fn ready(&self, cohort: &[u16]) -> Ready {
        let keys = self.frozen.iter().flatten().filter(|key| cohort.contains(&key.hospital_index)).cloned().collect();
        let sealed_for = |to: u16| {
            let from_cohort = cohort.iter().filter_map(|from| self.shares.get(from));
            from_cohort.flatten().filter(|share| share.to == to).cloned().collect()
        };
        let sealed = cohort.iter().map(|to| (*to, sealed_for(*to))).collect();
        Ready { slot: self.slot, cohort: keys, sealed }
    }

    fn ask(&mut self, seat: u16, actions: &mut VecDeque<Action>) {
        if self.asked.insert(seat) {
            actions.push_back(Action::Send { seat, order: JobOrder::Advertise { slot: self.slot } });
        }
    }

    fn keys_order(&self, keys: &[SlotKey]) -> JobOrder {
        JobOrder::Keys { slot: self.slot, keys: keys.to_vec() }
    }
}

fn too_few(here: &[u16], wanted: &[u16], rules: &Rules, roster: &Roster, all: bool) -> Option<String> {
    let needed = if all { wanted.len() } else { usize::from(rules.hospitals_min) };
    if here.len() >= needed {
        return None;
    }
    let missing: Vec<String> = wanted
        .iter()
        .filter(|seat| !here.contains(seat))
        .map(|seat| match roster.seat(*seat).and_then(|seat| seat.refused.as_deref()) {
            Some(reason) => format!("{} (refused: {reason})", roster.name(*seat)),
            None => format!("{} (no answer)", roster.name(*seat)),
        })
        .collect();
    Some(format!("{} of {needed} hospitals needed are here; missing: {}", here.len(), missing.join(", ")))
}
