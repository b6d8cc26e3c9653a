//! This hospital's own copy of the ledger, as witness and validator.
//!
//! Entries pass two lines. **Validated**: this node recomputed the root from the entries, replayed the state machine and
//! cosigned (or, taking up a lost copy, had signed for more before). **Certified**: the quorum that the ledger itself names cosigned too; only this is final, and jobs look at
//! nothing else. A change of the quorum needs the old one and the new one, each time it changes, so a coordinator cannot
//! vote itself a new quorum. A fork, an entry that breaks the rules, or a cosignature of its own that its folder does not
//! remember halts this node's signing until a person has looked.

mod certify;
mod concerned;
mod halt;
mod keys;
mod lost;
mod restore;
mod roots;

use std::collections::BTreeMap;

use leben_contracts::agreement::Recorded;
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::ENTRY_BYTES_MAX;
use leben_contracts::ledger::merkle::{Hash, Tree};
use leben_contracts::ledger::note::{Note, NoteError, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::witness::{Validator, Witness, WitnessError, WitnessRecord};

use concerned::Concerned;
pub use keys::{MirrorKeys, validator_name, witness_name};
pub use restore::Start;
use roots::Roots;

use crate::refusal::{Reason, Refusal};

/// Most bytes of entries held while the checkpoint that covers them is awaited: 256 MiB. A long log comes in steps of 4,096 entries.
pub const BUFFER_BYTES_MAX: usize = 256 << 20;
/// Checkpoints held that came before their entries.
const EARLY_MAX: usize = 1024;
/// Roots kept of sizes already certified, so that an order may name a ledger a little older than the newest.
const ROOTS_KEPT: u64 = 4096;

/// What to do after a checkpoint was found good: store `entries`, then `record`, then send `lines`.
#[derive(Debug, Clone)]
pub struct Cosigned {
    /// Entries the checkpoint covers.
    pub size: u64,
    /// Leaves that are new in this copy.
    pub entries: Vec<Vec<u8>>,
    /// What the witness must never forget.
    pub record: WitnessRecord,
    /// Signed-note signature lines.
    pub lines: String,
}

/// Why nothing was signed.
#[derive(Debug, Clone)]
pub struct NotCosigned {
    /// Entries this witness has signed for.
    pub size: u64,
    /// Entries in this copy: fewer than `size` after the copy was lost.
    pub mirror_size: u64,
    /// Why.
    pub refusal: Refusal,
    /// Both checkpoints, if the log signed two histories: proof for anybody.
    pub evidence: Option<String>,
    /// Entries of a copy that was lost, now taken in again, and the log's checkpoint that covers them: to be stored.
    pub taken_in: Option<Box<(Vec<Vec<u8>>, Note)>>,
}

/// A checkpoint became final: store `note`, then say so.
#[derive(Debug, Clone)]
pub struct Certified {
    /// Entries it covers.
    pub size: u64,
    /// The cosigned checkpoint.
    pub note: Note,
    /// Where its last entry changes who has to sign: the same with the cosignatures of the quorum before as well.
    pub turn: Option<Note>,
    /// The quorum that it met, if the ledger names one.
    pub policy: Option<Policy>,
}

/// What a published checkpoint meant here.
#[derive(Debug, Clone)]
pub enum Published {
    /// Its entries are not here yet; it is looked at again when they are.
    Early,
    /// It, or a later one, is stored durably already: say so again, the answer may have been lost.
    Known(u64),
    /// It is final now.
    New(Box<Certified>),
}

/// The copy.
pub struct Mirror {
    log: VerifierKey,
    party: String,
    keys: MirrorKeys,
    /// Replays what is validated; what is not yet certified is recorded there.
    validator: Validator<Recorded>,
    certified: State,
    /// Contracts of the certified state that read this hospital's data.
    concerned: Concerned,
    certified_note: Option<Note>,
    roots: Roots,
    tree: Tree,
    buffer: Vec<Vec<u8>>,
    buffer_bytes: usize,
    /// By size, each size's in the order in which they came: of a turn the certificate is needed, and not what is published of it.
    early: BTreeMap<(u64, usize), Note>,
    early_dropped: bool,
    /// Keys that this hospital cosigns with, or did before a rotation.
    own: Vec<VerifierKey>,
    halted: Option<Refusal>,
    evidence: Option<String>,
    suspect: Option<Note>,
}

impl Mirror {
    /// A copy that holds nothing yet. `record` is what the witness signed last, from its disk.
    ///
    /// # Errors
    /// A key or record that is not fit.
    pub fn new(
        log: &VerifierKey,
        party: &str,
        keys: MirrorKeys,
        record: Option<WitnessRecord>,
    ) -> Result<Mirror, WitnessError> {
        let signers = keys.signers(party)?;
        let own = signers.iter().map(|signer| signer.vkey().clone()).collect();
        let witness = Witness::new(log.clone(), signers, record)?;
        let state = State::new(log.name());
        Ok(Mirror {
            log: log.clone(),
            party: party.to_owned(),
            keys,
            validator: Validator::new(witness, Recorded::new(state.clone())),
            certified: state,
            concerned: Concerned::default(),
            certified_note: None,
            roots: Roots::default(),
            tree: Tree::default(),
            buffer: Vec::new(),
            buffer_bytes: 0,
            early: BTreeMap::new(),
            early_dropped: false,
            own,
            halted: None,
            evidence: None,
            suspect: None,
        })
    }

    /// The log's key.
    pub fn log(&self) -> &VerifierKey {
        &self.log
    }

    /// Entries validated: where the coordinator goes on sending.
    pub fn size(&self) -> u64 {
        self.validator.next_index()
    }

    /// Size of the checkpoint cosigned last; more than [`Mirror::size`] after the copy was lost.
    pub fn signed_size(&self) -> u64 {
        self.validator.witness().size()
    }

    /// Entries certified.
    pub fn certified_size(&self) -> u64 {
        self.certified.next_index()
    }

    /// The final state: the only one that contracts are read from.
    pub fn certified(&self) -> &State {
        &self.certified
    }

    /// Contracts of the final state that read this hospital's data and have not ended, by id.
    pub fn open_contracts(&self) -> impl Iterator<Item = &Contract> {
        self.concerned.open(&self.certified)
    }

    /// The same, and those among the latest 256 on the ledger that have ended.
    pub fn recent_contracts(&self) -> impl Iterator<Item = &Contract> {
        self.open_contracts().chain(self.concerned.ended(&self.certified))
    }

    /// The state after everything validated, final or not: good for not asking twice, never for consent.
    pub fn validated(&self) -> &State {
        self.validator.state().state()
    }

    /// The certificate, if there is one.
    pub fn certificate(&self) -> Option<&Note> {
        self.certified_note.as_ref()
    }

    /// Why this node signs nothing more.
    pub fn halted(&self) -> Option<&Refusal> {
        self.halted.as_ref()
    }

    /// What made this node halt, to be kept for people: once.
    pub fn take_evidence(&mut self) -> Option<String> {
        self.evidence.take()
    }

    /// The refusal of an order to cosign.
    pub fn not_cosigned(&self, refusal: Refusal, evidence: Option<String>) -> NotCosigned {
        NotCosigned { size: self.signed_size(), mirror_size: self.size(), refusal, evidence, taken_in: None }
    }

    /// Whether a root is that of a certified part of this copy.
    pub fn is_certified_root(&self, root: &Hash) -> bool {
        self.roots.contains(root, self.certified_size())
    }

    /// Leaves ahead of the checkpoint that covers them. Nothing is believed yet.
    ///
    /// # Errors
    /// Leaves out of place, too large, or more than is held.
    pub fn handle_entries(&mut self, first_index: u64, leaves: Vec<Vec<u8>>) -> Result<(), Refusal> {
        let wrong = |words: String| Err(Refusal::new(Reason::Malformed, words));
        let next = self.size().saturating_add(self.buffer.len() as u64);
        // Told again after a cut: what is held already is left out.
        let known = usize::try_from(next.saturating_sub(first_index)).unwrap_or(usize::MAX);
        if first_index > next {
            return wrong(format!("entries from {first_index} on were sent, the next one is {next}"));
        }
        for leaf in leaves.into_iter().skip(known) {
            if leaf.len() > ENTRY_BYTES_MAX {
                return wrong(format!("an entry of {} bytes; {ENTRY_BYTES_MAX} are allowed", leaf.len()));
            }
            self.buffer_bytes = self.buffer_bytes.saturating_add(leaf.len());
            if self.buffer_bytes > BUFFER_BYTES_MAX {
                self.clear_buffer();
                return wrong(format!("more than {BUFFER_BYTES_MAX} bytes of entries came without a checkpoint"));
            }
            self.buffer.push(leaf);
        }
        Ok(())
    }

    /// A checkpoint to be cosigned (tlog-witness add-checkpoint), after the entries it covers.
    ///
    /// # Errors
    /// [`NotCosigned`]; nothing was signed.
    pub fn handle_cosign(&mut self, now_ms: u64, body: &[u8]) -> Result<Cosigned, NotCosigned> {
        if let Some(halted) = self.halted.clone() {
            return Err(self.not_cosigned(halted, None));
        }
        if let Some(step) = self.step_below(body) {
            return Err(self.take_in(now_ms, step, body));
        }
        let first_index = self.size();
        let answer = match self.validator.handle_add_checkpoint(now_ms, body, &self.buffer) {
            Ok(answer) => answer,
            Err(error) => return Err(self.refuse(&error, body, first_index)),
        };
        let entries = self.take_validated();
        let size = answer.record.checkpoint().size;
        Ok(Cosigned { size, entries, lines: answer.body(), record: answer.record })
    }

    /// A checkpoint with the quorum's cosignatures.
    ///
    /// # Errors
    /// The log's signature or a quorum is missing, or it contradicts this copy.
    pub fn handle_publish(&mut self, note: &[u8]) -> Result<Published, Refusal> {
        let malformed = |error: String| Refusal::new(Reason::Ledger, format!("a published checkpoint: {error}"));
        let note = Note::parse(note).map_err(|error| malformed(error.to_string()))?;
        if let Some(size) = self.awaits_its_key(&note) {
            return Ok(self.hold_early(size, note));
        }
        let checkpoint = self.checkpoint_of(&note)?;
        match note.verify(&self.log).is_ok() {
            true => {
                self.check_root(&checkpoint, &note)?;
                self.check_own(&checkpoint, &note)?;
            }
            false => self.check_earlier(&checkpoint)?,
        }
        if checkpoint.size <= self.certified_size() {
            return Ok(Published::Known(checkpoint.size));
        }
        if checkpoint.size > self.size() || self.is_below_record() {
            return Ok(self.hold_early(checkpoint.size, note));
        }
        self.certify(&checkpoint, note).map(|certified| Published::New(Box::new(certified)))
    }

    /// The next certificate that came before its entries and can be looked at now.
    pub fn poll_early(&mut self) -> Option<Result<Published, Refusal>> {
        if self.is_below_record() {
            return None;
        }
        let due = self.early.first_entry().filter(|early| early.key().0 <= self.validator.next_index())?;
        let note = due.remove().to_string();
        Some(self.handle_publish(note.as_bytes()))
    }

    /// The link was lost: what was on its way is sent again.
    pub fn handle_unlinked(&mut self) {
        self.clear_buffer();
        self.early.clear();
        self.early_dropped = false;
    }

    /// Whether there was no room for a checkpoint that came over this link before its entries. They are shown again over the next: once.
    pub fn take_early_dropped(&mut self) -> bool {
        std::mem::take(&mut self.early_dropped)
    }

    fn hold_early(&mut self, size: u64, note: Note) -> Published {
        let of_size = || self.early.range((size, 0)..=(size, usize::MAX));
        if !of_size().any(|(_, held)| *held == note) {
            match self.early.len() < EARLY_MAX {
                true => drop(self.early.insert((size, of_size().count()), note)),
                false => self.early_dropped = true,
            }
        }
        Published::Early
    }

    fn advance(&mut self, size: u64) -> Result<(), Refusal> {
        while self.certified.next_index() < size {
            let index = self.certified.next_index();
            let missing = || Refusal::new(Reason::Ledger, format!("entry {index} is missing in this copy"));
            let applied = self.validator.state_mut().take(size).ok_or_else(missing)?;
            let changed: Vec<_> = applied.contracts().collect();
            self.certified.follow(applied).map_err(|error| Refusal::new(Reason::Ledger, error.to_string()))?;
            for id in changed {
                self.concerned.handle_changed(&self.certified, &self.party, id);
            }
        }
        self.roots.drop_below(size.saturating_sub(ROOTS_KEPT));
        Ok(())
    }

    /// A certificate from before a Handover, ahead of the entries that name the key it was signed with: while the entries here do not lead
    /// to the key that this hospital follows.
    fn awaits_its_key(&self, note: &Note) -> Option<u64> {
        let checkpoint = Checkpoint::of(note).ok().filter(|checkpoint| checkpoint.origin == self.log.name())?;
        let unsigned = matches!(note.verify(&self.log), Err(NoteError::Missing(_)));
        let on_the_way = !self.validated().log_vkeys().contains(&self.log);
        (unsigned && on_the_way && checkpoint.size > self.size() && self.checkpoint_of(note).is_err())
            .then_some(checkpoint.size)
    }

    fn checkpoint_of(&self, note: &Note) -> Result<Checkpoint, Refusal> {
        let wrong = |why: String| Refusal::new(Reason::Ledger, format!("a published checkpoint: {why}"));
        let checkpoint = Checkpoint::of(note).map_err(|error| wrong(error.to_string()))?;
        if checkpoint.origin != self.log.name() {
            return Err(wrong(format!("it is of the log '{}', not '{}'", checkpoint.origin, self.log.name())));
        }
        // By the key of now, or by one that the log's own entries once named: before a Handover another one signed. Which of them had to
        // is for the policy in force at that size.
        let signed = note.verify(&self.log).map(drop);
        let earlier = || self.validated().log_vkeys().iter().any(|log| note.verify(log).is_ok());
        match signed {
            Err(error) if !earlier() => Err(wrong(error.to_string())),
            _ => Ok(checkpoint),
        }
    }

    /// The entries that the validator took last become part of this copy.
    fn take_validated(&mut self) -> Vec<Vec<u8>> {
        for leaf in self.validator.leaves() {
            self.tree.append(*leaf);
            self.roots.push(&self.tree);
        }
        self.buffer_bytes = 0;
        std::mem::take(&mut self.buffer)
    }

    fn clear_buffer(&mut self) {
        self.buffer.clear();
        self.buffer_bytes = 0;
    }
}
