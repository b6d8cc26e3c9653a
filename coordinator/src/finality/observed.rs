//! Cosignatures of witnesses outside the ledger's policy.

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::{Note, SignatureLine, VerifierKey};
use leben_contracts::ledger::policy::Policy;

use super::asking::checkpoint_size;
use super::{Action, Finality};

/// Cosignatures of outside witnesses for one size. Hospitals are shown checkpoints without them: what a hospital keeps must be
/// checkable with the ledger's own policy.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) size: u64,
    lines: Vec<SignatureLine>,
}

impl Observed {
    /// The checkpoint as outsiders see it, and the policy that names everybody whose line may stand on it.
    pub(super) fn publish(&self, note: &Note, policy: &Policy, observers: &[VerifierKey]) -> Action {
        let mut shown = note.clone();
        if Checkpoint::of(note).is_ok_and(|checkpoint| checkpoint.size == self.size) {
            // Too many lines for a note, or one twice: the hospitals' are what counts.
            self.lines.iter().for_each(|line| drop(shown.push(line.clone())));
        }
        Action::Publish { note: shown.to_string(), policy: Box::new(policy.with_observers(observers)) }
    }
}

impl Finality {
    /// Witnesses outside the ledger's policy, whose cosignatures are published too. Those on a published checkpoint are kept on it.
    #[must_use]
    pub fn with_observers(mut self, observers: Vec<VerifierKey>) -> Finality {
        let wider = self.policy.with_observers(&observers);
        self.observers = wider.observers().cloned().collect();
        if let Some(note) = self.published.take().and_then(|text| Note::parse(text.as_bytes()).ok()) {
            let observed = |line: &SignatureLine| self.observers.iter().any(|vkey| line.is_by(vkey));
            self.observed.size = Checkpoint::of(&note).map_or(0, |checkpoint| checkpoint.size);
            self.observed.lines = note.signatures().iter().filter(|line| observed(line)).cloned().collect();
            self.published = Some(note.with_lines(|line| !observed(line)).to_string());
            self.final_note = self.final_note.take().and_then(|_| self.published.clone());
        }
        self
    }

    /// A line of an outside witness for the checkpoint of this size; published at once if that checkpoint is public already.
    ///
    /// # Errors
    /// The line is by no outside witness, or does not verify.
    pub fn handle_observed(&mut self, size: u64, line: SignatureLine) -> Result<(), String> {
        let vkey = self.observers.iter().find(|vkey| line.is_by(vkey));
        let vkey = vkey.ok_or_else(|| format!("'{}' is no outside witness", line.name))?;
        let awaited = self.cosigning.as_ref().filter(|flight| flight.size == size);
        let note = match (awaited, &self.published) {
            (Some(flight), _) => flight.note.clone(),
            // Its successor, cosigned already, carries more.
            _ if self.observed.size > size => return Ok(()),
            (None, Some(text)) if checkpoint_size(text) == Some(size) => {
                Note::parse(text.as_bytes()).map_err(|error| error.to_string())?
            }
            // It was cosigned after its successor became public.
            _ => return Ok(()),
        };
        vkey.verify(note.text(), &line).map_err(|error| error.to_string())?;
        if self.observed.size != size {
            self.observed = Observed { size, lines: Vec::new() };
        }
        // Both stand for the same tree; the later one says that it still does.
        self.observed.lines.retain(|known| !known.is_by(vkey));
        self.observed.lines.push(line);
        if awaited.is_none() {
            // The policy in force at that size: a larger checkpoint on its way may change it.
            let certifying = self.certifying.as_ref().and_then(|flight| flight.policies.first());
            let policy = certifying.unwrap_or(&self.policy).clone();
            self.actions.push_back(self.observed.publish(&note, &policy, &self.observers));
        }
        Ok(())
    }
}
