//! Taking up what lies on this hospital's own disk: from a snapshot of the certified state, or from the first entry.

use leben_contracts::agreement::Recorded;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::merkle::{Hash, Tree, leaf_hash};
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::policy::UnknownSigners;

use super::concerned::Concerned;
use super::{Mirror, ROOTS_KEPT};
use crate::refusal::{Reason, Refusal};

/// A copy up to some entry, without its entries.
pub struct Start {
    /// The state after them, all of which are certified.
    pub state: State,
    /// The tree before the last of them.
    pub before: Tree,
    /// Hashes of the last of them: as many as roots are kept.
    pub leaves: Vec<Hash>,
}

impl Start {
    /// How far before `size` the leaf hashes of a start begin.
    pub fn first_leaf(size: u64) -> u64 {
        size.saturating_sub(ROOTS_KEPT)
    }
}

fn damaged(why: impl std::fmt::Display) -> Refusal {
    Refusal::new(Reason::Ledger, format!("this hospital's own copy of the ledger: {why}"))
}

impl Mirror {
    /// Begins behind entries that were certified before; for a copy that holds nothing yet.
    ///
    /// # Errors
    /// It is not what this node signed.
    pub fn resume(&mut self, start: Start) -> Result<(), Refusal> {
        let Start { state, before, leaves } = start;
        self.tree = before;
        for leaf in leaves {
            self.tree.append(leaf);
            self.roots.push(&self.tree);
        }
        if self.tree.size() != state.next_index() {
            return Err(damaged("its snapshot stands for another number of entries than its tree"));
        }
        if let Some(signed) = self.validator.witness().record().map(|record| record.checkpoint())
            && self.roots.get(signed.size).is_some_and(|root| root != signed.root)
        {
            return Err(damaged("this node has signed another tree than it holds"));
        }
        self.validator.take_up(self.tree.clone(), state.now_ms(), Recorded::new(state.clone()));
        self.concerned = Concerned::of(&state, &self.party);
        self.certified = state;
        Ok(())
    }

    /// Takes up what lies on the disk: leaves in order, and the certificate stored last.
    ///
    /// # Errors
    /// The files do not hold what this node once checked.
    pub fn restore(&mut self, leaves: &[Vec<u8>], certificate: Option<Note>) -> Result<(), Refusal> {
        let size = certificate.as_ref().and_then(|note| Checkpoint::of(note).ok()).map_or(0, |c| c.size);
        self.restore_step(leaves, size)?;
        self.restore_certificate(certificate)
    }

    /// Takes up the next leaves, of which those below `certified` are covered by the certificate.
    ///
    /// # Errors
    /// As [`Mirror::restore`].
    pub fn restore_step(&mut self, leaves: &[Vec<u8>], certified: u64) -> Result<(), Refusal> {
        self.validator.catch_up(leaves).map_err(damaged)?;
        for leaf in leaves {
            // Older roots would be dropped again.
            self.tree.append(leaf_hash(leaf));
            if self.tree.size().saturating_add(ROOTS_KEPT) > certified {
                self.roots.push(&self.tree);
            }
        }
        self.advance(certified.min(self.size()))
    }

    /// Takes up the certificate, after the leaves.
    ///
    /// # Errors
    /// As [`Mirror::restore`].
    pub fn restore_certificate(&mut self, certificate: Option<Note>) -> Result<(), Refusal> {
        let Some(note) = certificate else { return Ok(()) };
        let Checkpoint { size, root, .. } = self.checkpoint_of(&note)?;
        if self.roots.get(size) != Some(root) {
            return Err(damaged(format!("its certificate over {size} entries does not fit its entries")));
        }
        if let Some(policy) = self.certified.witness_policy() {
            let unmet = |error| damaged(format!("its certificate is not what was stored: {error}"));
            policy.evaluate(&note, UnknownSigners::Ignore).map_err(unmet)?;
        }
        self.certified_note = Some(note);
        Ok(())
    }

    /// The certified state with the root over its entries: what a snapshot holds.
    pub fn snapshot(&self) -> Option<(&State, Hash)> {
        self.roots.get(self.certified_size()).map(|root| (&self.certified, root))
    }
}
