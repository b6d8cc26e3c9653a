//! From a committed checkpoint to a final one: the witnesses are shown the new entries, cosign, and store what the quorum signed.
//!
//! A checkpoint is **published** when its policy is met, and **final** when a quorum has said that it holds the cosigned
//! checkpoint durably (the certificate round of LEDGER): from then on no loss of the coordinator can take it back. One is being
//! cosigned at a time, and while one is certified the next is cosigned already, unless the first changes who has to sign; what is
//! committed meanwhile goes with the one after.
//!
//! A coordinator that starts knows what it has published, and not whether a quorum got to hold it: its witnesses say so again before
//! anything is acknowledged.
//!
//! `asking.rs`: what a witness is asked; `observed.rs`: cosignatures that stand on a checkpoint and count for nothing.

mod asking;
mod observed;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::{Note, SignatureLine, VerifierKey};
use leben_contracts::ledger::policy::{Policy, UnknownSigners};
use leben_contracts::ledger::sequencer::TurnPoint;

pub use asking::ASK_ENTRIES_MAX;
use asking::{CORRECTIONS_MAX, Witness};
use observed::Observed;

/// What the shell has to do, in this order.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Send the leaves `from..to`, then ask for a cosignature of the checkpoint of size `to`, proven from `old`.
    Ask {
        /// The witness's party.
        party: String,
        /// Entries it holds already.
        from: u64,
        /// Size of the checkpoint it cosigned last.
        old: u64,
        /// Size of the checkpoint.
        to: u64,
        /// The checkpoint, signed by the log; none for a size on the way there, for a witness that takes up a long log in steps:
        /// the shell signs one.
        note: Option<String>,
    },
    /// Send a witness the certificates of the turns from this size on: it may have been away when they were published.
    Certificates {
        /// The witness's party.
        party: String,
        /// Entries that it has certified.
        from: u64,
    },
    /// At a turn, before the checkpoint is published: store its certificate durably.
    PublishCertificate {
        /// The note with the cosignatures of the policy and of the one before.
        note: String,
    },
    /// Store the cosigned checkpoint durably as the published one.
    Publish {
        /// The note with the cosignatures of the policy.
        note: String,
        /// The policy in force after its entries, which is published beside it.
        policy: Box<Policy>,
    },
    /// Send the published checkpoint to one witness.
    Show {
        /// The witness's party.
        party: String,
        /// The note.
        note: String,
    },
    /// A turn is final: remember its size durably before anything is acknowledged. Who signed before it may never be seen again.
    RememberTurn {
        /// That many entries.
        size: u64,
    },
    /// Entries below `size` are final.
    Final {
        /// That many.
        size: u64,
    },
}

#[derive(Debug)]
struct Flight {
    size: u64,
    note: Note,
    policies: Vec<Policy>,
    /// The last entry changes who has to sign.
    turns: bool,
    certified: BTreeSet<String>,
}

/// What is on its way to finality.
#[derive(Debug)]
pub struct Finality {
    final_size: u64,
    published: Option<String>,
    final_note: Option<String>,
    policy: Policy,
    /// Shown to the witnesses; its policy is not met yet.
    cosigning: Option<Flight>,
    /// Published; not yet final.
    certifying: Option<Flight>,
    observers: Vec<VerifierKey>,
    observed: Observed,
    witnesses: BTreeMap<String, Witness>,
    actions: VecDeque<Action>,
}

impl Finality {
    /// At start-up, where all that is published is known to be final: the policy in force at that size.
    pub fn new(final_size: u64, published: Option<String>, policy: Policy) -> Finality {
        Finality {
            final_size,
            final_note: published.clone(),
            published,
            policy,
            cosigning: None,
            certifying: None,
            observers: Vec::new(),
            observed: Observed::default(),
            witnesses: BTreeMap::new(),
            actions: VecDeque::new(),
        }
    }

    /// At start-up, where nobody knows whether a quorum holds what is published: nothing is final until one says so. `policy` is in
    /// force at that size, `before` was until its last entry, if that is a turn.
    pub fn resume(published: Note, policy: Policy, before: Option<Policy>) -> Result<Finality, String> {
        let size = Checkpoint::of(&published).map_err(|error| error.to_string())?.size;
        let mut finality = Finality::new(0, None, before.clone().unwrap_or_else(|| policy.clone()));
        finality.published = Some(published.to_string());
        let turns = before.is_some();
        let policies = std::iter::once(policy).chain(before).collect();
        finality.certifying = Some(Flight { size, note: published, policies, turns, certified: BTreeSet::new() });
        // With nobody to hold it, it is final at once.
        finality.finish();
        Ok(finality)
    }

    /// Next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Entries that are known to be final.
    pub fn final_size(&self) -> u64 {
        self.final_size
    }

    /// The published checkpoint.
    pub fn published(&self) -> Option<&str> {
        self.published.as_deref()
    }

    /// The checkpoint of what is final: what proofs are given under.
    pub fn final_note(&self) -> Option<&str> {
        self.final_note.as_deref()
    }

    /// Size of the largest checkpoint on its way, or of what is final.
    pub fn begun_size(&self) -> u64 {
        self.cosigning.as_ref().or(self.certifying.as_ref()).map_or(self.final_size, |flight| flight.size)
    }

    /// Whether the next checkpoint has to wait: one is being cosigned, or who has to sign the next is not final.
    pub fn is_busy(&self) -> bool {
        self.cosigning.is_some() || self.certifying.as_ref().is_some_and(|flight| flight.turns)
    }

    /// Whether the next checkpoint may be taken on its way, now that so many entries are committed: the one that ends with the first of
    /// `turns`, or where none is left the newest. Turns that are on their way or final already are taken off.
    pub fn may_begin(&self, committed: u64, turns: &mut VecDeque<TurnPoint>) -> bool {
        let begun = self.begun_size();
        if self.is_busy() || committed <= begun {
            return false;
        }
        while turns.front().is_some_and(|turn| turn.size <= begun) {
            turns.pop_front();
        }
        true
    }

    /// Takes a committed checkpoint on its way. `policy` is the one in force after its entries; when it differs from the
    /// one before, the last entry is a turn and both must be met: a change of the witnesses needs the old quorum and the new one.
    pub fn begin(&mut self, note: Note, policy: Policy) -> Result<(), String> {
        let checkpoint = Checkpoint::of(&note).map_err(|error| error.to_string())?;
        let turns = policy != self.policy;
        let mut policies = vec![policy];
        if turns {
            policies.push(self.policy.clone());
        }
        self.cosigning = Some(Flight { size: checkpoint.size, note, policies, turns, certified: BTreeSet::new() });
        self.advance();
        Ok(())
    }

    /// A witness has a link: it holds so many entries, so many of them certified, and the checkpoint it cosigned last is of `signed_size`.
    pub fn handle_up(&mut self, party: &str, mirror_size: u64, certified_size: u64, signed_size: u64) {
        let witness = Witness {
            holds: mirror_size,
            signed: signed_size,
            asked: None,
            cosigned: 0,
            declined: 0,
            corrections: 0,
            postponed: false,
        };
        self.witnesses.insert(party.to_owned(), witness);
        if let Some(note) = self.published.clone() {
            // Shown before anything is asked: a witness restored from a backup finds its own cosignature there, and stops.
            // From what it has certified, not from what it holds: it may have been killed between a turn's entries and its certificate.
            self.actions.push_back(Action::Certificates { party: party.to_owned(), from: certified_size });
            self.actions.push_back(Action::Show { party: party.to_owned(), note: note.clone() });
            if self.cosigning.is_none() {
                self.ask(party, &note);
            }
        }
        self.advance();
    }

    /// A witness lost its link.
    pub fn handle_down(&mut self, party: &str) {
        self.witnesses.remove(party);
    }

    /// Cosignature lines of a witness for the checkpoint on its way. Lines that do not verify are an error of that witness.
    pub fn handle_cosigned(&mut self, party: &str, size: u64, lines: &str) -> Result<(), String> {
        // Only an answer: what nobody asked for must not have it asked again.
        if let Some(witness) = self.witnesses.get_mut(party).filter(|witness| witness.is_asked(size)) {
            witness.asked = None;
            witness.holds = witness.holds.max(size);
            witness.signed = witness.signed.max(size);
            witness.cosigned = witness.cosigned.max(size);
        }
        let Some(flight) = self.cosigning.as_mut().filter(|flight| flight.size == size) else {
            // The answer to an earlier question: the next one may be asked now.
            self.go_on(party);
            self.advance();
            return Ok(());
        };
        let mut note = flight.note.clone();
        for line in lines.lines() {
            let line = SignatureLine::parse(line).map_err(|error| error.to_string())?;
            // A witness speaks for itself alone, and only a line that verifies is ever attached.
            if line.name != party {
                continue;
            }
            let vkey = flight.policies.iter().flat_map(Policy::witnesses).find(|(_, vkey, _)| line.is_by(vkey));
            if let Some((_, vkey, _)) = vkey {
                vkey.verify(note.text(), &line).map_err(|error| error.to_string())?;
                note.push(line).map_err(|error| error.to_string())?;
            }
        }
        flight.note = note;
        self.advance();
        Ok(())
    }

    /// Whether the witness has a question to answer.
    pub fn is_asked(&self, party: &str) -> bool {
        self.witnesses.get(party).is_some_and(|witness| witness.asked.is_some())
    }

    /// The checkpoint that outside witnesses should see: the one being cosigned, or else the published one.
    pub fn shown(&self) -> Option<String> {
        self.cosigning.as_ref().map(|flight| flight.note.to_string()).or_else(|| self.published.clone())
    }

    /// The witness would not sign; if it merely holds or has signed another size, it is asked again from there, a few times.
    pub fn handle_not_cosigned(&mut self, party: &str, mirror_size: u64, signed_size: u64) {
        if let Some(witness) = self.witnesses.get_mut(party)
            && let Some(asked) = witness.asked.take()
        {
            let same = (asked.holds, asked.signed) == (mirror_size, signed_size);
            let taken_in = asked.is_taken_in(mirror_size, signed_size);
            (witness.holds, witness.signed) = (mirror_size, signed_size);
            if taken_in {
                self.go_on(party);
            } else if same || witness.corrections >= CORRECTIONS_MAX {
                witness.declined = asked.to;
            } else {
                witness.corrections += 1;
            }
        }
        self.advance();
    }

    /// The witness would not sign now, but may later: its clock is behind an entry's time. It is asked again after
    /// [`Finality::handle_retry`].
    pub fn handle_postponed(&mut self, party: &str) {
        if let Some(witness) = self.witnesses.get_mut(party)
            && let Some(asked) = witness.asked.take()
        {
            (witness.declined, witness.postponed) = (asked.to, true);
        }
        self.advance();
    }

    /// Some time has passed: whoever postponed is asked again.
    pub fn handle_retry(&mut self) {
        for witness in self.witnesses.values_mut().filter(|witness| witness.postponed) {
            (witness.declined, witness.postponed) = (0, false);
        }
        self.advance();
    }

    /// The witness holds the cosigned checkpoint of this size durably.
    pub fn handle_certified(&mut self, party: &str, size: u64) {
        if let Some(flight) = self.certifying.as_mut().filter(|flight| flight.size == size) {
            flight.certified.insert(party.to_owned());
        }
        self.advance();
    }

    fn advance(&mut self) {
        self.finish();
        if self.certifying.is_none()
            && let Some(flight) = self.cosigning.take_if(|flight| is_cosigned(flight))
        {
            self.publish(flight);
            self.finish();
        }
        let Some(flight) = &self.cosigning else { return };
        let note = flight.note.to_string();
        let parties: Vec<String> = self.witnesses.keys().cloned().collect();
        for party in parties {
            self.ask(&party, &note);
        }
    }

    fn publish(&mut self, flight: Flight) {
        let note = flight.note.to_string();
        let policy = flight.policies.first().unwrap_or(&self.policy).clone();
        // Those whom the turn removed signed the certificate; the published checkpoint names those who sign now.
        let published = policy.known_lines(&flight.note);
        if flight.turns {
            self.actions.push_back(Action::PublishCertificate { note: note.clone() });
        }
        self.published = Some(published.to_string());
        self.actions.push_back(self.observed.publish(&published, &policy, &self.observers));
        for party in self.witnesses.keys() {
            self.actions.push_back(Action::Show { party: party.clone(), note: note.clone() });
        }
        self.certifying = Some(flight);
    }

    /// The published checkpoint is final when every quorum it needed holds it.
    fn finish(&mut self) {
        let is_held = |flight: &mut Flight| {
            let certified = || flight.certified.iter().map(String::as_str);
            flight.policies.iter().all(|policy| policy.is_quorum(certified()))
        };
        let Some(flight) = self.certifying.take_if(is_held) else { return };
        self.final_size = flight.size;
        self.final_note = self.published.clone();
        if let Some(policy) = flight.policies.into_iter().next() {
            self.policy = policy;
        }
        if flight.turns {
            self.actions.push_back(Action::RememberTurn { size: self.final_size });
        }
        self.actions.push_back(Action::Final { size: self.final_size });
    }
}

/// Whether the log's own signature is by the key that is in force now, and every quorum has cosigned.
fn is_cosigned(flight: &Flight) -> bool {
    let now = flight.policies.first().is_some_and(|p| p.evaluate(&flight.note, UnknownSigners::Ignore).is_ok());
    now && flight.policies.iter().skip(1).all(|old| old.evaluate_witnesses(&flight.note).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use leben_contracts::ledger::note::{KeyType, NoteSigner};

    #[test]
    fn who_lost_its_copy_is_given_what_it_has_signed_before_in_steps() {
        let mut finality = long();
        let note = finality.published.clone().unwrap();
        finality.handle_up("hospital", 0, 0, 9000);
        let ask = |from, old, to, note| Some(Action::Ask { party: "hospital".into(), from, old, to, note });
        assert_eq!(asked(&mut finality), ask(0, 0, 4096, None));
        finality.handle_not_cosigned("hospital", 4096, 9000);
        assert_eq!(asked(&mut finality), ask(4096, 0, 8192, None));
        finality.handle_not_cosigned("hospital", 8192, 9000);
        assert_eq!(asked(&mut finality), ask(8192, 9000, 10_000, Some(note)));
        // It would not: it is not asked for the same again.
        finality.handle_not_cosigned("hospital", 8192, 9000);
        assert_eq!(finality.poll_action(), None);
    }

    fn asked(finality: &mut Finality) -> Option<Action> {
        std::iter::from_fn(|| finality.poll_action()).find(|action| matches!(action, Action::Ask { .. }))
    }

    /// Ten thousand entries, published.
    fn long() -> Finality {
        let log = NoteSigner::new("leben.test/log", KeyType::Ed25519, SigningKey::from_bytes(&[1; 32])).unwrap();
        let mut note = Note::new(Checkpoint::new("leben.test/log", 10_000, [2; 32]).to_string()).unwrap();
        note.push(log.sign(note.text(), 0)).unwrap();
        Finality::new(10_000, Some(note.to_string()), Policy::k_of_n(log.vkey(), &[], 0).unwrap())
    }

    #[test]
    fn a_long_log_is_taken_up_in_steps() {
        let mut finality = long();
        let note = finality.published.clone().unwrap();
        finality.handle_up("hospital", 0, 0, 0);
        let mut holds = 0;
        for to in [4096, 8192, 10_000] {
            let shown = (to == 10_000).then(|| note.clone());
            let ask = Action::Ask { party: "hospital".into(), from: holds, old: holds, to, note: shown };
            let asked: Vec<Action> = std::iter::from_fn(|| finality.poll_action()).collect();
            assert!(asked.contains(&ask), "{asked:?}");
            finality.handle_cosigned("hospital", to, "").unwrap();
            holds = to;
        }
        assert_eq!(finality.poll_action(), None);
    }
}
