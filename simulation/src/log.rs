//! The ledger's writer, reduced to what its shell does: commit, ask the witnesses, publish, and only then believe.

use std::collections::{BTreeMap, VecDeque};

use leben_contracts::agreement::state::State;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::merkle::{self, Hash, NodeReader, leaf_hash, root_of};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::sequencer::{Sequencer, TurnPoint};
use leben_contracts::ledger::tile::Builder;
use leben_contracts::ledger::turn::Turns;
use leben_coordinator::finality::{Action, Finality};
use leben_protocol::frame::Order;
use leben_worker::gossip::Compared;

use crate::agreement::{self, ORIGIN};

/// What the writer wants from the world.
#[derive(Debug)]
pub enum Wish {
    /// Send this to a witness.
    Order(String, Order),
    /// More of the ledger is final.
    Final,
}

/// The log of one network.
#[derive(Default)]
pub struct Log {
    leaves: Vec<Vec<u8>>,
    head: Option<Note>,
    published: Option<String>,
    certificates: BTreeMap<u64, String>,
    final_turn: u64,
    writer: Option<Writer>,
}

/// What a restart loses, and replays.
struct Writer {
    sequencer: Sequencer<State>,
    finality: Finality,
    committed: VecDeque<Entry>,
    turns: VecDeque<TurnPoint>,
    certain: State,
    root: Hash,
}

struct Hashes(Vec<Hash>);

impl NodeReader for Hashes {
    type Error = ();
    fn node(&self, level: u32, index: u64) -> Result<Hash, ()> {
        let (from, to) = ((index as usize) << level, (index as usize + 1) << level);
        self.0.get(from..to).map(root_of).ok_or(())
    }
}

/// The log's public key.
pub fn log_vkey() -> VerifierKey {
    signer().vkey().clone()
}

fn signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, agreement::key("coordinator", "log")).unwrap()
}

fn policy_of(state: &State) -> Policy {
    state.witness_policy().unwrap_or_else(|| Policy::k_of_n(&log_vkey(), &[], 0).unwrap())
}

/// What a copy with these leaves, under this checkpoint, says about a size.
pub fn compare(leaves: &[Vec<u8>], mine: &Note, size: u64) -> Compared {
    let hashes = Hashes(leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
    let proof = merkle::consistency(&hashes, size, leaves.len() as u64).unwrap();
    Compared { root: merkle::root_at(&hashes, size).unwrap(), proof, mine: mine.clone() }
}

impl Log {
    /// A second log with the same key and the same past, not running yet.
    pub fn copy(&self) -> Log {
        Log {
            leaves: self.leaves.clone(),
            head: self.head.clone(),
            published: self.published.clone(),
            certificates: self.certificates.clone(),
            final_turn: self.final_turn,
            writer: None,
        }
    }

    /// The process starts and replays its disk: the state is that of what was published; a quorum says again that it holds it.
    pub fn start(&mut self) -> Vec<Wish> {
        let mut follower = Follower::new(ORIGIN, State::new(ORIGIN));
        let (mut builder, mut certain, mut committed) = (Builder::default(), State::new(ORIGIN), VecDeque::new());
        let published = self.published.as_ref().map(|note| Note::parse(note.as_bytes()).unwrap());
        let checkpoint = published.as_ref().map(|note| Checkpoint::of(note).unwrap());
        let final_size = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.size);
        let is_final = self.final_turn >= final_size;
        let (mut points, mut turns, mut before) = (VecDeque::new(), Turns::default(), None);
        let mut policy = None;
        for (index, leaf) in (0..).zip(&self.leaves) {
            let entry = Entry::parse(leaf).unwrap();
            builder.append(leaf.clone()).unwrap();
            follower.apply(&entry).unwrap();
            if let Some(turn) = turns.step(&entry.action().kind, || follower.replay().witness_policy()) {
                points.push_back(TurnPoint { size: index + 1, root: builder.tree().root(), policy: turn.new });
                before = turn.old.filter(|_| index + 1 == final_size && !is_final).or(before);
            }
            if index + 1 == final_size {
                policy = turns.policy().cloned();
            }
            committed.push_back(entry);
        }
        for index in 0..final_size - u64::from(before.is_some()) {
            certain.apply(index, &committed.pop_front().unwrap()).unwrap();
        }
        let hashes: Vec<Hash> =
            self.leaves[..certain.next_index() as usize].iter().map(|leaf| leaf_hash(leaf)).collect();
        let root = if hashes.is_empty() { [0; 32] } else { root_of(&hashes) };
        let policy = policy.unwrap_or_else(|| policy_of(&State::new(ORIGIN)));
        let finality = match published {
            Some(note) if !is_final => Finality::resume(note, policy, before).unwrap(),
            note => Finality::new(final_size, note.map(|note| note.to_string()), policy),
        };
        let sequencer = Sequencer::new(signer(), builder, follower).unwrap();
        self.writer = Some(Writer { sequencer, finality, committed, turns: points, certain, root });
        self.carry_out()
    }

    /// The process dies.
    pub fn stop(&mut self) {
        self.writer = None;
    }

    /// Entries committed.
    pub fn size(&self) -> u64 {
        self.leaves.len() as u64
    }

    /// The state after everything that is final, and the root over it.
    pub fn certain(&self) -> Option<(&State, Hash)> {
        self.writer.as_ref().map(|writer| (&writer.certain, writer.root))
    }

    /// Entries that the coordinator would acknowledge.
    pub fn final_size(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.finality.final_size())
    }

    /// Whether a quorum is known to hold all that was published.
    pub fn is_certified(&self) -> bool {
        self.writer.as_ref().is_some_and(|writer| writer.finality.final_size() == writer.certain.next_index())
    }

    /// The state after everything that is committed.
    pub fn committed(&self) -> Option<&State> {
        self.writer.as_ref().map(|writer| writer.sequencer.state())
    }

    /// Commits one envelope: its index, or why not.
    pub fn append(&mut self, now_ms: u64, envelope: &[u8]) -> (Result<u64, String>, Vec<Wish>) {
        let Some(writer) = &mut self.writer else { return (Err("down".into()), Vec::new()) };
        let staged = writer.sequencer.stage(now_ms, &[envelope.to_vec()]).unwrap();
        if let Some(batch) = staged.batch {
            self.leaves.extend(staged.entries.iter().map(|entry| entry.bytes().to_vec()));
            self.head = Some(batch.note);
        }
        writer.committed.extend(staged.entries);
        writer.turns.extend(staged.turns);
        let result = staged.results.into_iter().next().unwrap().map_err(|refusal| refusal.to_string());
        (result, self.carry_out())
    }

    /// A witness's link came up or went down, or it said something.
    pub fn tell(&mut self, tell: impl FnOnce(&mut Finality)) -> Vec<Wish> {
        match &mut self.writer {
            Some(writer) => tell(&mut writer.finality),
            None => return Vec::new(),
        }
        self.carry_out()
    }

    fn carry_out(&mut self) -> Vec<Wish> {
        let mut wishes = Vec::new();
        let Some(writer) = &mut self.writer else { return wishes };
        loop {
            if let Some(head) = &self.head
                && writer.finality.may_begin(self.leaves.len() as u64, &mut writer.turns)
            {
                let (note, policy) = match writer.turns.front() {
                    None => (head.clone(), policy_of(writer.sequencer.state())),
                    Some(turn) => (writer.sequencer.sign(turn.size, turn.root).unwrap(), turn.policy.clone().unwrap()),
                };
                writer.finality.begin(note, policy).unwrap();
            }
            let Some(action) = writer.finality.poll_action() else { return wishes };
            match action {
                Action::Ask { party, from, old, to, note } => {
                    let hashes = Hashes(self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect());
                    let proof = merkle::consistency(&hashes, old, to).unwrap();
                    let leaves = self.leaves[from as usize..to as usize].to_vec();
                    if !leaves.is_empty() {
                        wishes.push(Wish::Order(party.clone(), Order::Entries { first_index: from, leaves }));
                    }
                    let note = match note {
                        Some(note) => Note::parse(note.as_bytes()).unwrap(),
                        None => writer.sequencer.sign(to, merkle::root_at(&hashes, to).unwrap()).unwrap(),
                    };
                    let request = AddCheckpoint::new(old, proof, note).unwrap();
                    wishes.push(Wish::Order(party, Order::Cosign { body: request.to_string().into_bytes() }));
                }
                Action::Certificates { party, from } => {
                    let shown = self.certificates.range(from..).map(|(_, note)| note.clone().into_bytes());
                    wishes.extend(shown.map(|note| Wish::Order(party.clone(), Order::Publish { note })));
                }
                Action::PublishCertificate { note } => {
                    let size = Checkpoint::of(&Note::parse(note.as_bytes()).unwrap()).unwrap().size;
                    self.certificates.insert(size, note);
                }
                Action::Publish { note, .. } => self.published = Some(note),
                Action::Show { party, note } => {
                    wishes.push(Wish::Order(party, Order::Publish { note: note.into_bytes() }))
                }
                Action::RememberTurn { size } => self.final_turn = size,
                Action::Final { size } => {
                    while writer.certain.next_index() < size {
                        let entry = writer.committed.pop_front().expect("a committed entry");
                        writer.certain.apply(writer.certain.next_index(), &entry).unwrap();
                    }
                    let hashes: Vec<Hash> = self.leaves[..size as usize].iter().map(|leaf| leaf_hash(leaf)).collect();
                    writer.root = root_of(&hashes);
                    wishes.push(Wish::Final);
                }
            }
        }
    }
}
