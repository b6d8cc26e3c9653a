//! The witness that has read everything: it signs only what it has recomputed and replayed.

use super::Replay;
use super::checkpoint::Checkpoint;
use super::entry::{Entry, EntryError};
use super::follow::{Follower, Refusal};
use super::merkle::{Hash, Tree, leaf_hash};
use super::note::{Note, NoteSigner};
use super::prepare;
use super::witness::{CLOCK_AHEAD_MS_MAX, Witness, WitnessAnswer, WitnessError};

/// A witness that has read every entry: it recomputes the root from them and replays the state machine before it signs.
pub struct Validator<R> {
    witness: Witness,
    tree: Tree,
    follower: Follower<R>,
    /// Hashes of the leaves that the last checkpoint added.
    leaves: Vec<Hash>,
    halted: Option<WitnessError>,
}

impl<R: Replay> Validator<R> {
    /// A validator before the first entry; feed it what is mirrored already with [`Validator::catch_up`].
    pub fn new(witness: Witness, replay: R) -> Self {
        let follower = Follower::new(witness.log().name(), replay);
        Self { witness, tree: Tree::default(), follower, leaves: Vec::new(), halted: None }
    }

    /// Begins behind the entries of `tree`, the last of them sequenced at `last_seq_ms`, all of which `replay` has taken into account and
    /// this node has validated before.
    pub fn take_up(&mut self, tree: Tree, last_seq_ms: u64, replay: R) {
        self.follower = Follower::resume(self.witness.log().name(), tree.size(), last_seq_ms, replay);
        self.tree = tree;
    }

    /// The plain witness in it.
    pub fn witness(&self) -> &Witness {
        &self.witness
    }

    /// Signs with other keys from now on; see [`Witness::set_signers`].
    pub fn set_signers(&mut self, signers: Vec<NoteSigner>) {
        self.witness.set_signers(signers);
    }

    /// The state machine after every entry checked so far.
    pub fn state(&self) -> &R {
        self.follower.replay()
    }

    /// The state machine, to take from it what it keeps for others.
    pub fn state_mut(&mut self) -> &mut R {
        self.follower.replay_mut()
    }

    /// Follower of the log: last sequenced time, indices of actions.
    pub fn follower(&self) -> &Follower<R> {
        &self.follower
    }

    /// Index of the first entry not checked yet: where the entries of the next request have to start.
    pub fn next_index(&self) -> u64 {
        self.tree.size()
    }

    /// The tree over every entry checked so far.
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Hashes of the leaves that the last checkpoint signed here added.
    pub fn leaves(&self) -> &[Hash] {
        &self.leaves
    }

    /// Feeds entries from this node's own mirror, in order, at start-up.
    ///
    /// # Errors
    /// [`WitnessError::Illegal`], or [`WitnessError::Entries`] when they contradict the stored record.
    pub fn catch_up(&mut self, entries: &[Vec<u8>]) -> Result<(), WitnessError> {
        for entry in prepare::entries(entries, self.state()) {
            let first_index = self.next_index();
            let entry = entry.map_err(|e| WitnessError::Illegal { index: first_index, refusal: e.into() })?;
            self.tree.append(entry.leaf_hash());
            self.apply(&entry)?;
            if let Some(record) = self.witness.record()
                && record.checkpoint().size == self.tree.size()
                && record.checkpoint().root != self.tree.root()
            {
                return Err(WitnessError::Entries { first_index, entries: 1 });
            }
        }
        Ok(())
    }

    /// Answers an `add-checkpoint` request at `now_ms`, given the entries from [`Validator::next_index`] to the checkpoint's size.
    /// The caller stores the entries, then the record, then sends.
    ///
    /// # Errors
    /// [`WitnessError`]; nothing was signed. After [`WitnessError::Illegal`] nothing will be.
    pub fn handle_add_checkpoint(
        &mut self,
        now_ms: u64,
        body: &[u8],
        entries: &[Vec<u8>],
    ) -> Result<WitnessAnswer, WitnessError> {
        if let Some(halted) = &self.halted {
            return Err(halted.clone());
        }
        let request = self.witness.examine(body)?;
        self.follow(now_ms, &request.checkpoint, entries)?;
        Ok(self.witness.sign(now_ms, request))
    }

    /// Takes entries up to a checkpoint smaller than the one signed last, without signing: this node has lost its copy, and takes up a
    /// long log in steps. What it signs next has to lead on from the record, as ever: either these entries are part of what it has
    /// signed before, or it signs nothing.
    ///
    /// # Errors
    /// [`WitnessError`]; [`WitnessError::Conflict`] for a checkpoint that is not smaller than the record.
    pub fn handle_lost(&mut self, now_ms: u64, note: &Note, entries: &[Vec<u8>]) -> Result<(), WitnessError> {
        if let Some(halted) = &self.halted {
            return Err(halted.clone());
        }
        let checkpoint = self.witness.verify_log(note)?;
        let size = self.witness.size();
        if checkpoint.size >= size {
            return Err(WitnessError::Conflict { size });
        }
        self.follow(now_ms, &checkpoint, entries)
    }

    fn follow(&mut self, now_ms: u64, checkpoint: &Checkpoint, entries: &[Vec<u8>]) -> Result<(), WitnessError> {
        let read = prepare::entries(entries, self.state());
        let hash = |(entry, bytes): (&Result<Entry, EntryError>, &Vec<u8>)| match entry {
            Ok(entry) => entry.leaf_hash(),
            Err(_) => leaf_hash(bytes),
        };
        let leaves: Vec<Hash> = read.iter().zip(entries).map(hash).collect();
        let tree = self.extend(checkpoint, &leaves)?;
        // The log signed exactly these bytes: from here on, what is wrong with them is the log's doing.
        let first_index = self.next_index();
        let mut parsed = Vec::with_capacity(entries.len());
        for (index, entry) in (first_index..).zip(read) {
            let entry = entry.map_err(|e| self.halt(index, e.into()))?;
            let ahead_ms = entry.seq_ms().saturating_sub(now_ms);
            if ahead_ms > CLOCK_AHEAD_MS_MAX {
                return Err(WitnessError::Clock { index, ahead_ms });
            }
            parsed.push(entry);
        }
        for entry in &parsed {
            self.apply(entry)?;
        }
        self.tree = tree;
        self.leaves = leaves;
        Ok(())
    }

    fn extend(&self, checkpoint: &Checkpoint, leaves: &[Hash]) -> Result<Tree, WitnessError> {
        if self.tree.size() > checkpoint.size {
            return Err(WitnessError::Behind { size: self.tree.size() });
        }
        let mut tree = self.tree.clone();
        leaves.iter().for_each(|leaf| tree.append(*leaf));
        if tree.size() != checkpoint.size || tree.root() != checkpoint.root {
            return Err(WitnessError::Entries { first_index: self.next_index(), entries: leaves.len() });
        }
        Ok(tree)
    }

    fn apply(&mut self, entry: &Entry) -> Result<(), WitnessError> {
        let index = self.follower.next_index();
        self.follower.apply(entry).map_err(|refusal| self.halt(index, refusal))
    }

    fn halt(&mut self, index: u64, refusal: Refusal) -> WitnessError {
        let error = WitnessError::Illegal { index, refusal };
        self.halted = Some(error.clone());
        error
    }
}
