//! When this hospital signs nothing more, until a person has looked.

use std::fmt::Write as _;

use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::witness::WitnessError;

use super::{Mirror, NotCosigned};
use crate::refusal::{Reason, Refusal};

/// Longest evidence, bytes: 8 MiB. A step of 4,096 entries of the usual size fits.
const SHOWN_BYTES_MAX: usize = 8 << 20;

impl Mirror {
    /// The log signed it: if this copy knows that size with another root, it is a fork.
    pub(super) fn check_root(&mut self, checkpoint: &Checkpoint, note: &Note) -> Result<(), Refusal> {
        let known = self.roots.get(checkpoint.size).is_none_or(|root| root == checkpoint.root);
        if known && self.validator.witness().compare(note, checkpoint).is_ok() {
            return Ok(());
        }
        let words = format!(
            "the log has signed another tree of {} entries than the one that this hospital has seen: proof of a fork; this \
             node signs nothing more until a person has looked. Both checkpoints are kept in `evidence/`",
            checkpoint.size
        );
        Err(self.halt(words, note))
    }

    /// A key of before a Handover signed it. It accuses nobody who goes on; it is believed where it is part of this copy.
    pub(super) fn check_earlier(&self, checkpoint: &Checkpoint) -> Result<(), Refusal> {
        match self.roots.get(checkpoint.size).is_none_or(|root| root == checkpoint.root) {
            true => Ok(()),
            false => Err(Refusal::new(
                Reason::Ledger,
                format!(
                    "a checkpoint of {} entries by the log's key of before the Handover is not of this history",
                    checkpoint.size
                ),
            )),
        }
    }

    /// Whoever holds a cosignature of this hospital that this folder does not remember can be shown a second history by it.
    pub(super) fn check_own(&mut self, checkpoint: &Checkpoint, note: &Note) -> Result<(), Refusal> {
        let known = self.size().max(self.signed_size());
        if checkpoint.size <= known || self.own.iter().all(|key| note.verify(key).is_err()) {
            return Ok(());
        }
        let words = format!(
            "this hospital's own cosignature stands under a checkpoint of {} entries, and this folder remembers only {known}: \
             it was restored from an old backup, or its keys are used elsewhere. This node signs nothing more, lest it sign a \
             second history. Put back the newest `witness` and `mirror/`, or give this hospital new keys, then run leben-worker \
             evidence clear; the checkpoint is kept in `evidence/`",
            checkpoint.size
        );
        Err(self.halt(words, note))
    }

    /// A fork is proven, here or elsewhere.
    pub fn halt_for_fork(&mut self) {
        let words = "the log has signed two histories; the proof is in `evidence/`. This node signs nothing more until a person has \
                     looked: leben-worker evidence show";
        self.halted.get_or_insert_with(|| Refusal::new(Reason::Ledger, words));
    }

    /// The checkpoint that made this node halt: once.
    pub fn take_suspect(&mut self) -> Option<Note> {
        self.suspect.take()
    }

    /// The largest checkpoint signed here, cosigned again at `now_ms`.
    pub fn view(&self, now_ms: u64) -> Option<Note> {
        self.validator.witness().view(now_ms)
    }

    fn halt(&mut self, words: String, note: &Note) -> Refusal {
        let refusal = Refusal::new(Reason::Ledger, words);
        if self.halted.is_none() {
            let mine = self.validator.witness().record().map_or_else(String::new, |record| record.note().to_string());
            self.suspect = Some(note.clone());
            self.evidence = Some(format!("{}\n\n{note}\n{mine}", refusal.words));
            self.halted = Some(refusal.clone());
        }
        refusal
    }

    /// `body` asked for a cosignature over the entries held, which begin with `first_index`.
    pub(super) fn refuse(&mut self, error: &WitnessError, body: &[u8], first_index: u64) -> NotCosigned {
        let refusal = match error {
            WitnessError::Clock { .. } => Refusal::new(Reason::Clock, error.to_string()),
            _ => Refusal::new(Reason::Ledger, error.to_string()),
        };
        let evidence = match error {
            WitnessError::Fork { mine, theirs, .. } => Some(format!("{}\n\n{mine}\n{theirs}", refusal.words)),
            WitnessError::Illegal { index, .. } => Some(self.show_illegal(&refusal, body, first_index, *index)),
            _ => None,
        };
        if let WitnessError::Fork { theirs, .. } = error {
            self.suspect = Note::parse(theirs.as_bytes()).ok();
        }
        if evidence.is_some() {
            self.halted = Some(refusal.clone());
        }
        // What the log did not prove to be its own is thrown away; the entries are asked for again.
        self.clear_buffer();
        self.not_cosigned(refusal, evidence)
    }

    /// The log's checkpoint and the entries under it: with the copy in `mirror/` anybody can make its tree again.
    fn show_illegal(&self, refusal: &Refusal, body: &[u8], first_index: u64, index: u64) -> String {
        let note = AddCheckpoint::parse(body).map_or_else(|_| String::new(), |request| request.note.to_string());
        let mut text =
            format!("{}\n\n{note}\nEntries that it adds to this hospital's copy, in hexadecimal:\n", refusal.words);
        let entries = || (first_index..).zip(&self.buffer);
        // The one that breaks the rules is there in any case.
        for (at, leaf) in entries().filter(|(at, _)| *at == index).chain(entries().filter(|(at, _)| *at != index)) {
            if text.len().saturating_add(leaf.len().saturating_mul(2)) > SHOWN_BYTES_MAX {
                text.push_str("and more, for which there is no room\n");
                break;
            }
            let _ = writeln!(text, "{at} {}", hex::encode(leaf));
        }
        text
    }

    /// It halted before this start, and no person has looked since.
    pub fn restore_halt(&mut self, words: String) {
        self.halted.get_or_insert_with(|| Refusal::new(Reason::Ledger, words));
    }
}
