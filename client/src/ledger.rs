//! The home's own copy of the ledger: read, replayed, extended by what a quorum has cosigned, never by less.

mod error;

use std::fs;
use std::path::Path;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::snapshot::Snapshots;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::merkle::{Hash, Tree, leaf_hash};
use leben_contracts::ledger::note::{Note, NoteError, VerifierKey};
use leben_contracts::ledger::policy::{Policy, PolicyError, UnknownSigners};
use leben_contracts::ledger::prepare;
use leben_contracts::ledger::proof::TlogProof;
use leben_contracts::ledger::store::{LogReader, Mirror, MirrorError, ReadError, StoreError, durable_replace};
use leben_contracts::ledger::turn::{Turn, TurnError, Turns, may_turn};

pub use error::LedgerError;

use crate::home::Home;
use crate::offers::{BudgetLeft, Offers, Set};

/// A copy of the ledger with everything it says.
pub struct Ledger {
    reader: LogReader,
    state: State,
    size: u64,
    note: Option<Note>,
    /// Beside the copy, where it is a home's.
    snapshots: Option<Snapshots>,
}

impl Ledger {
    /// Reads the home's copy as it stands, without a network. A copy that was never fetched is empty.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(home: &Home) -> Result<Ledger, LedgerError> {
        let (dir, origin) = (home.ledger_dir(), &home.network().origin);
        let mut snapshots = Snapshots::new(&home.ledger_state_dir());
        let state = Ledger::snapshot(&mut snapshots, &dir, origin).unwrap_or_else(|| State::new(origin));
        Ok(Ledger { snapshots: Some(snapshots), ..Ledger::replayed(&dir, state)? })
    }

    /// The replay up to some entry, where an earlier command left one that fits; whatever is wrong with it, the entries are replayed.
    fn snapshot(snapshots: &mut Snapshots, dir: &Path, origin: &str) -> Option<State> {
        let reader = LogReader::new(dir);
        let size = Checkpoint::of(&reader.checkpoint().ok()?).ok()?.size;
        snapshots.load(origin, &reader, size, size).ok()?
    }

    /// Reads any published folder of this origin. Only the rules of entries are checked; see [`crate::verify`] for everything.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn read(dir: &Path, origin: &str) -> Result<Ledger, LedgerError> {
        Ledger::replayed(dir, State::new(origin))
    }

    fn replayed(dir: &Path, state: State) -> Result<Ledger, LedgerError> {
        let begin = state.next_index();
        let mut ledger = Ledger { reader: LogReader::new(dir), state, size: 0, note: None, snapshots: None };
        if dir.join("checkpoint").is_file() {
            let note = ledger.reader.checkpoint()?;
            let size = Checkpoint::of(&note)?.size;
            for first in (begin..size).step_by(STEP) {
                let end = size.min(first.saturating_add(STEP as u64));
                let leaves = ledger.reader.entries(first..end, size)?;
                replay(&mut ledger.state, &mut Tree::default(), first, &leaves, |_, _, _| Ok(()))?;
            }
            (ledger.size, ledger.note) = (size, Some(note));
        }
        Ok(ledger)
    }

    /// Everything the ledger says.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Entries held.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The cosigned checkpoint they lead to.
    pub fn note(&self) -> Option<&Note> {
        self.note.as_ref()
    }

    /// One entry.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn entry(&self, index: u64) -> Result<Entry, LedgerError> {
        let leaf = self.reader.entry(index, self.size)?;
        Entry::parse(&leaf).map_err(|source| LedgerError::Entry { index, source })
    }

    /// Entries of a range, cut to what is held.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn entries(&self, range: std::ops::Range<u64>) -> Result<Vec<(u64, Entry)>, LedgerError> {
        let range = range.start.min(self.size)..range.end.min(self.size);
        let leaves = self.reader.entries(range.clone(), self.size)?;
        let parse = |(index, leaf): (u64, Vec<u8>)| {
            Entry::parse(&leaf).map(|entry| (index, entry)).map_err(|source| LedgerError::Entry { index, source })
        };
        range.zip(leaves).map(parse).collect()
    }

    /// A proof of one entry under the checkpoint held.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn proof(&self, index: u64) -> Result<TlogProof, LedgerError> {
        let missing = ReadError::NoEntry { index, size: self.size };
        let note = self.note.as_ref().ok_or(missing)?;
        Ok(self.reader.proof(index, note)?)
    }

    /// The witness policy that the entries put in force, if any.
    pub fn policy(&self) -> Option<Policy> {
        self.state.witness_policy()
    }

    /// What a draft may refer to; `None` before this party and a coordinator are on the ledger.
    pub fn offers(&self, me: &PartyId) -> Option<Offers> {
        let sets = self.state.datasets().iter().map(|(key, set)| {
            let budget = BudgetLeft::of(&self.state, key);
            Set { owner: set.owner.clone(), offer: set.offer.clone(), budget }
        });
        Some(Offers {
            me: me.clone(),
            sealing: self.state.party(me.as_str())?.current()?.sealing.0,
            coordinator: self.state.coordinator()?.clone(),
            parties: self.state.parties().map(|party| party.id.clone()).collect(),
            sets: sets.collect(),
            algorithms: self.state.algorithms().values().map(|record| record.offer.clone()).collect(),
        })
    }

    /// Whether the log and the quorum that the entries name have signed the checkpoint: for a folder that nobody has verified.
    ///
    /// # Errors
    /// In words: what does not hold.
    pub fn check_cosigned(&self) -> Result<(), String> {
        let note = self.note.as_ref().ok_or("there is none")?;
        match (self.policy(), self.state.log_vkeys().last()) {
            (Some(policy), _) => {
                policy.evaluate(note, UnknownSigners::Ignore).map(drop).map_err(|error| error.to_string())
            }
            (None, Some(log)) => note.verify(log).map(drop).map_err(|error| error.to_string()),
            (None, None) => Err("the entries name no key of the log".to_owned()),
        }
    }

    /// A contract by its id, a unique beginning of it, or `last`: the latest that `me` proposed.
    ///
    /// # Errors
    /// In words: none, or several.
    pub fn find(&self, me: Option<&PartyId>, name: &str) -> Result<&Contract, String> {
        if name == "last" {
            let mine = self.state.recent_contracts().filter(|contract| me.is_none_or(|me| contract.initiator == *me));
            return mine.max_by_key(|contract| contract.proposed_index).ok_or_else(|| {
                "no contract was proposed from here yet; `leben submit job.toml` proposes one".to_owned()
            });
        }
        let fits: Vec<&Contract> =
            self.state.contracts().filter(|contract| contract.id.to_string().starts_with(name)).collect();
        match fits.as_slice() {
            [one] => Ok(one),
            [] => {
                Err(format!("no contract on this copy of the ledger begins with '{name}'; `leben status` lists them"))
            }
            several => {
                let ids: Vec<String> = several.iter().map(|contract| short(&contract.id)).collect();
                Err(format!("'{name}' is the beginning of several contracts ({}); write more of it", ids.join(", ")))
            }
        }
    }

    /// Sizes of the certificates that an extension by these leaves needs (see [`leben_contracts::ledger::turn`]).
    ///
    /// # Errors
    /// An entry that cannot be read or breaks the rules.
    pub fn turns(&self, leaves: &[Vec<u8>]) -> Result<Vec<u64>, LedgerError> {
        // Most extensions have none, and then the state need not be copied.
        let kind = |leaf: &Vec<u8>| Entry::parse(leaf).is_ok_and(|entry| may_turn(&entry.action().kind));
        let mut sizes = Vec::new();
        if leaves.iter().any(kind) {
            replay(&mut self.state.clone(), &mut Tree::default(), self.size, leaves, |index, _, _| {
                sizes.push(index.saturating_add(1));
                Ok(())
            })?;
        }
        Ok(sizes)
    }

    /// Takes a checkpoint, the leaves that are missing, and the certificates of the turns among them. Nothing is kept unless
    /// the log signed it, the entries lead to its root, each keeps the rules, both quorums have cosigned each change of who
    /// has to sign, and the quorum that is then in force has cosigned the checkpoint.
    ///
    /// # Errors
    /// [`LedgerError`]; the copy stands as before.
    pub fn extend(
        &mut self,
        home: &Home,
        note: &Note,
        leaves: &[Vec<u8>],
        certificates: &[Note],
    ) -> Result<(), LedgerError> {
        let checkpoint = self.check_note(home, note)?;
        let mut state = self.state.clone();
        let mut tree = Tree::read(&self.reader.nodes(self.size), self.size)?;
        let mut shown = certificates.iter();
        replay(&mut state, &mut tree, self.size, leaves, |index, turn, root| {
            let note = shown.next().ok_or(TurnError::Missing { index })?;
            Ok(turn.verify(index, root, note)?)
        })?;
        let policy = match state.witness_policy() {
            Some(policy) => policy,
            None => {
                let log = state.log_vkeys().pop().ok_or(LedgerError::Key)?;
                Policy::k_of_n(&log, &[], 0).map_err(|source| policy_error(&checkpoint, source))?
            }
        };
        // From the key that the invite named to the one in force, every step is a Handover that a quorum signed.
        if !state.log_vkeys().contains(home.log()) {
            return Err(LedgerError::Key);
        }
        // Lines of witnesses outside the ledger's policy are for the public log; this copy keeps what it can check by itself.
        let note = &policy.known_lines(note);
        policy.evaluate(note, UnknownSigners::Refuse).map_err(|source| policy_error(&checkpoint, source))?;
        let mut mirror = Mirror::open(&home.ledger_dir(), &home.ledger_state_dir(), home.log())?;
        mirror.know_keys(&state.log_vkeys())?;
        // Another command may have been quicker; what it took is left out here.
        if mirror.next_index() > checkpoint.size {
            drop(mirror);
            *self = Ledger::open(home)?;
            return Ok(());
        }
        let taken = usize::try_from(mirror.next_index().saturating_sub(self.size)).unwrap_or(usize::MAX);
        match mirror.append(leaves.get(taken..).unwrap_or_default(), note) {
            Err(MirrorError::Entries { .. } | MirrorError::Store(StoreError::Forked { .. })) if self.size > 0 => {
                return Err(self.keep_fork(home, note, checkpoint.size)?);
            }
            other => other?,
        }
        for certificate in certificates {
            mirror.publish_certificate(certificate)?;
        }
        mirror.publish(note)?;
        if state.witness_policy().is_some() {
            mirror.publish_policy(&policy)?;
        }
        (self.state, self.size, self.note) = (state, checkpoint.size, Some(note.clone()));
        if let Some(snapshots) = self.snapshots.as_mut().filter(|snapshots| snapshots.is_due(checkpoint.size)) {
            let cut = snapshots.cut(&self.state, &checkpoint.root)?;
            snapshots.save(&cut)?;
        }
        Ok(())
    }

    /// What can be said of a checkpoint before any entry is fetched.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn check_note(&self, home: &Home, note: &Note) -> Result<Checkpoint, LedgerError> {
        let checkpoint = Checkpoint::of(note)?;
        let log: &VerifierKey = home.log();
        if checkpoint.origin != log.name() {
            return Err(LedgerError::Origin { got: checkpoint.origin, wanted: log.name().to_owned() });
        }
        if checkpoint.size < self.size {
            return Err(LedgerError::Stale { got: checkpoint.size, held: self.size });
        }
        let mut keys = self.state.log_vkeys();
        if let Err(unsigned) = note.verify(keys.last().unwrap_or(log)) {
            keys.pop();
            return match keys.iter().any(|earlier| note.verify(earlier).is_ok()) {
                true => Err(LedgerError::Replaced),
                // By a key that this copy has not met: the entries that it lacks may hold the Handover that names it, and
                // `extend` believes nothing else.
                false if checkpoint.size > self.size && matches!(unsigned, NoteError::Missing(_)) => Ok(checkpoint),
                false => Err(unsigned.into()),
            };
        }
        if let Some(held) = &self.note {
            let held = Checkpoint::of(held)?;
            if held.size == checkpoint.size && held.root != checkpoint.root {
                return Err(self.keep_fork(home, note, checkpoint.size)?);
            }
        }
        Ok(checkpoint)
    }

    fn keep_fork(&self, home: &Home, note: &Note, size: u64) -> Result<LedgerError, LedgerError> {
        let evidence = home.evidence_dir();
        let write = |name: String, note: &Note| -> Result<(), StoreError> {
            let failed = |source| StoreError::Io { what: "create", path: evidence.clone(), source };
            fs::create_dir_all(&evidence).map_err(failed)?;
            durable_replace(&evidence.join(name), note.to_string().as_bytes())
        };
        write(format!("checkpoint-{size}-shown"), note)?;
        if let Some(held) = &self.note {
            write(format!("checkpoint-{}-held", self.size), held)?;
        }
        Ok(LedgerError::Fork { size, evidence })
    }
}

const STEP: usize = 4096;

/// Why there is no published log in this folder, in words that follow its name, with the folder inside it that was meant; `None` if
/// there is one.
pub fn no_log(dir: &Path) -> Option<String> {
    if dir.join("checkpoint").is_file() {
        return None;
    }
    if !dir.is_dir() {
        return Some("is no folder".to_owned());
    }
    let inside = ["ledger", "mirror/public", "public"].into_iter().map(|name| dir.join(name));
    let meant = inside.into_iter().find(|dir| dir.join("checkpoint").is_file());
    let hint = meant.map_or_else(String::new, |meant| format!("; did you mean {}?", meant.display()));
    Some(format!("holds no published log: there is no file `checkpoint`{hint}"))
}

/// The first 12 digits of an id: enough for people.
pub fn short(id: &ContractId) -> String {
    id.to_string().chars().take(12).collect()
}

fn policy_error(checkpoint: &Checkpoint, source: PolicyError) -> LedgerError {
    LedgerError::Policy { size: checkpoint.size, source }
}

/// Applies leaves to the state and the tree; `handle_turn` hears of each change of who has to sign: its index, and the root after it.
fn replay(
    state: &mut State,
    tree: &mut Tree,
    first: u64,
    leaves: &[Vec<u8>],
    mut handle_turn: impl FnMut(u64, Turn, &Hash) -> Result<(), LedgerError>,
) -> Result<(), LedgerError> {
    let mut turns = Turns::new(state.witness_policy());
    for ((index, leaf), entry) in (first..).zip(leaves).zip(prepare::entries(leaves, &*state)) {
        let entry = entry.map_err(|source| LedgerError::Entry { index, source })?;
        state.apply(index, &entry).map_err(|source| LedgerError::Rules { index, source: Box::new(source) })?;
        tree.append(leaf_hash(leaf));
        if let Some(turn) = turns.step(&entry.action().kind, || state.witness_policy()) {
            handle_turn(index, turn, &tree.root())?;
        }
    }
    Ok(())
}
