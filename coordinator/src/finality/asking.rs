//! What a witness is asked, and in which steps.

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::Note;

use super::{Action, Finality};

/// Most entries that a witness is asked to take in at once: it holds them in memory until it has signed.
pub const ASK_ENTRIES_MAX: u64 = 4096;

/// How often one link may correct what was thought to be held, and be asked again at once: once is what a lost copy needs.
pub(super) const CORRECTIONS_MAX: u8 = 8;

#[derive(Debug)]
pub(super) struct Witness {
    /// Entries in its copy of the log.
    pub(super) holds: u64,
    /// Size of the checkpoint it cosigned last, ever. More than it holds when its copy was lost.
    pub(super) signed: u64,
    /// The question that it has not answered yet.
    pub(super) asked: Option<Asked>,
    /// Largest size it has cosigned over this link.
    pub(super) cosigned: u64,
    /// Size that it will not cosign, for a reason that asking again does not change.
    pub(super) declined: u64,
    /// Answers over this link that said it holds something else than was thought.
    pub(super) corrections: u8,
    /// It would cosign that size later.
    pub(super) postponed: bool,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) holds: u64,
    pub(super) signed: u64,
    pub(super) to: u64,
}

impl Asked {
    /// Whether this answers that it has taken in a step below what it has signed, and so has not signed it.
    pub(super) fn is_taken_in(&self, mirror_size: u64, signed_size: u64) -> bool {
        self.to < self.signed && (mirror_size, signed_size) == (self.to, self.signed)
    }
}

impl Witness {
    /// Whether this is the size it was asked to cosign.
    pub(super) fn is_asked(&self, size: u64) -> bool {
        self.asked.as_ref().is_some_and(|asked| asked.to == size)
    }
}

impl Finality {
    /// A witness on its way through a long log is asked for the next step, whether or not something new is on its way.
    pub(super) fn go_on(&mut self, party: &str) {
        let note = match (&self.cosigning, &self.published) {
            (Some(flight), _) => Some(flight.note.to_string()),
            (None, published) => published.clone(),
        };
        let holds = self.witnesses.get(party).map(|witness| witness.holds);
        if let Some(note) = note.filter(|note| checkpoint_size(note) > holds) {
            self.ask(party, &note);
        }
    }

    pub(super) fn ask(&mut self, party: &str, note: &str) {
        let Some(to) = checkpoint_size(note) else { return };
        let Some(witness) = self.witnesses.get_mut(party) else { return };
        if witness.asked.is_some() || witness.cosigned >= to {
            return;
        }
        // It would have to sign a smaller tree than it has signed.
        if witness.signed > to {
            return;
        }
        let from = witness.holds.min(to);
        let step = to.min(from.saturating_add(ASK_ENTRIES_MAX));
        // A copy that was lost takes in what was signed before: that is not signed again, and leads on from nothing.
        let old = if step < witness.signed { 0 } else { witness.signed };
        if witness.declined >= step {
            return;
        }
        witness.asked = Some(Asked { holds: witness.holds, signed: witness.signed, to: step });
        let note = (step == to).then(|| note.to_owned());
        self.actions.push_back(Action::Ask { party: party.to_owned(), from, old, to: step, note });
    }
}

pub(super) fn checkpoint_size(note: &str) -> Option<u64> {
    let note = Note::parse(note.as_bytes()).ok()?;
    Checkpoint::of(&note).ok().map(|checkpoint| checkpoint.size)
}
