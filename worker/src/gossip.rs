//! What other eyes see of the same log: two random hospitals, and two of the addresses in `worker.toml`, are asked again and again.
//!
//! A coordinator that shows two groups of hospitals two histories must keep them apart for ever: the first view that crosses over is a
//! checkpoint that the log signed and that this hospital's own copy contradicts. Through the coordinator's relay a view counts only
//! with the other hospital's own fresh cosignature, which the relay cannot make; it can only drop views, and then the silence is
//! seen. What comes from an address needs the log's signature alone: two histories are two histories whoever shows them.
//!
//! A view of at most this copy's size is compared at once, with the root that the copy has at that size. A larger one waits, one for
//! each source, until the copy has grown to it.

use std::collections::{BTreeMap, BTreeSet};

use leben_contracts::ledger::checkpoint::{Checkpoint, CheckpointError};
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::merkle::Hash;
use leben_contracts::ledger::note::{Note, VerifierKey};
use leben_contracts::ledger::witness::CLOCK_AHEAD_MS_MAX;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::refusal::{Reason, Refusal};

/// How often peers are asked, milliseconds: a fork is a matter of minutes, and a view is about a kilobyte.
pub const EVERY_MS: u64 = 60_000;
/// Hospitals, and addresses, asked each time.
pub const ASKED: usize = 2;
/// From this silence of a hospital on people are warned, milliseconds: six hours, a night shift's maintenance and no more.
pub const SILENT_MS: u64 = 6 * 60 * 60 * 1000;
/// From this wait on for entries that a larger view needs people are warned, milliseconds.
pub const UNRECONCILED_MS: u64 = 15 * 60 * 1000;
/// One asker is answered no more often than this, milliseconds: an answer costs a signature.
const ANSWER_EVERY_MS: u64 = 500;
/// Sources whose views are held, and askers remembered.
const SOURCES_MAX: usize = 1024;

/// Keys that each hospital cosigns with, by its party id.
pub type Peers = BTreeMap<String, Vec<VerifierKey>>;

/// Where a view came from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// A hospital, through the coordinator's relay.
    Hospital(String),
    /// An address of `worker.toml`.
    Address(String),
    /// The coordinator itself.
    Coordinator,
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Source::Hospital(party) => f.write_str(party),
            Source::Address(url) => f.write_str(url),
            Source::Coordinator => f.write_str("the coordinator"),
        }
    }
}

/// What this hospital's own copy says about a size.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Root of the copy at that size.
    pub root: Hash,
    /// Consistency proof from there to the copy's whole.
    pub proof: Vec<Hash>,
    /// The checkpoint over the copy's whole.
    pub mine: Note,
}

/// What has been counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Views {
    /// Questions sent.
    pub asked: u64,
    /// Views found to be part of this copy's history.
    pub agreed: u64,
    /// Views that were not believed: not the log's, not that hospital's, not readable.
    pub refused: u64,
    /// Addresses that did not answer.
    pub unanswered: u64,
}

struct Waiting {
    note: Note,
    checkpoint: Checkpoint,
    since_ms: u64,
    asked: bool,
}

/// The memory of what others see. Lost with the process: the next round asks again.
pub struct Gossip {
    log: VerifierKey,
    addresses: Vec<String>,
    every_ms: u64,
    next_ms: u64,
    since_ms: Option<u64>,
    heard: BTreeMap<String, u64>,
    waiting: BTreeMap<Source, Waiting>,
    answered: BTreeMap<String, u64>,
    expected: BTreeSet<String>,
    views: Views,
    rng: ChaCha20Rng,
}

impl Gossip {
    /// About this log; `seed` is 32 fresh random bytes.
    pub fn new(log: VerifierKey, seed: [u8; 32]) -> Gossip {
        Gossip {
            log,
            addresses: Vec::new(),
            every_ms: EVERY_MS,
            next_ms: 0,
            since_ms: None,
            heard: BTreeMap::new(),
            waiting: BTreeMap::new(),
            answered: BTreeMap::new(),
            expected: BTreeSet::new(),
            views: Views::default(),
            rng: ChaCha20Rng::from_seed(seed),
        }
    }

    /// What `worker.toml` says.
    pub fn configure(&mut self, addresses: Vec<String>, every_ms: u64) {
        (self.addresses, self.every_ms) = (addresses, every_ms);
    }

    /// What has been counted.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// Whom to ask now; nobody until the next round.
    pub fn poll_asks(&mut self, now_ms: u64, linked: bool, peers: &Peers) -> Vec<Source> {
        self.since_ms.get_or_insert(now_ms);
        if now_ms < self.next_ms {
            return Vec::new();
        }
        self.next_ms = now_ms.saturating_add(self.every_ms);
        let hospitals = peers.keys().filter(|_| linked).cloned().map(Source::Hospital).collect();
        let addresses = self.addresses.iter().cloned().map(Source::Address).collect();
        let mut asked = self.choose(hospitals);
        asked.extend(self.choose(addresses));
        self.expected = asked
            .iter()
            .filter_map(|source| match source {
                Source::Hospital(party) => Some(party.clone()),
                _ => None,
            })
            .collect();
        self.views.asked = self.views.asked.saturating_add(asked.len() as u64);
        asked
    }

    fn choose(&mut self, mut among: Vec<Source>) -> Vec<Source> {
        let mut chosen = Vec::new();
        while chosen.len() < ASKED && !among.is_empty() {
            // The remainder's bias over a few hospitals is below 2^-50.
            let at = self.rng.next_u64() % among.len() as u64;
            chosen.push(among.swap_remove(usize::try_from(at).unwrap_or(0)));
        }
        chosen
    }

    /// Whether this hospital was asked and has not answered yet: one question, one answer, so that nobody can be flooded.
    pub fn take_expected(&mut self, party: &str) -> bool {
        self.expected.remove(party)
    }

    /// Whether this asker gets an answer now.
    pub fn may_answer(&mut self, now_ms: u64, by: &str) -> bool {
        let before = self.answered.get(by).copied();
        let known = before.is_some() || self.answered.len() < SOURCES_MAX;
        let may = known && before.is_none_or(|at_ms| now_ms.abs_diff(at_ms) >= ANSWER_EVERY_MS);
        if may {
            self.answered.insert(by.to_owned(), now_ms);
        }
        may
    }

    /// A view. It is held until [`Gossip::poll_compare`] says that the copy can judge it.
    ///
    /// # Errors
    /// It is not the log's, or not that hospital's: it says nothing about anybody.
    pub fn handle_view(&mut self, now_ms: u64, source: Source, view: &[u8], peers: &Peers) -> Result<(), Refusal> {
        let read = self.read(now_ms, &source, view, peers);
        let (note, checkpoint) = read.inspect_err(|_| self.views.refused = self.views.refused.saturating_add(1))?;
        // The first one that waits stays: a newer one must not push out the one that gives a fork away.
        if checkpoint.size > 0 && (self.waiting.len() < SOURCES_MAX || self.waiting.contains_key(&source)) {
            let waiting = Waiting { note, checkpoint, since_ms: now_ms, asked: false };
            self.waiting.entry(source).or_insert(waiting);
        }
        Ok(())
    }

    fn read(
        &mut self,
        now_ms: u64,
        source: &Source,
        view: &[u8],
        peers: &Peers,
    ) -> Result<(Note, Checkpoint), Refusal> {
        let wrong = |why: String| Refusal::new(Reason::Ledger, format!("the view of {source} is not believed: {why}"));
        let read = || -> Result<(Note, Checkpoint), CheckpointError> {
            let note = Note::parse(view)?;
            let checkpoint = Checkpoint::of(&note)?;
            note.verify(&self.log)?;
            Ok((note, checkpoint))
        };
        let (note, checkpoint) = read().map_err(|error| wrong(error.to_string()))?;
        if checkpoint.origin != self.log.name() {
            return Err(wrong(format!("it is of the log '{}'", checkpoint.origin)));
        }
        let mut seen = false;
        for (party, keys) in peers {
            let times = keys.iter().filter_map(|key| note.verify(key).ok()?.time_s);
            let Some(time_ms) = times.max().map(|time_s| time_s.saturating_mul(1000)) else { continue };
            if time_ms > now_ms.saturating_add(CLOCK_AHEAD_MS_MAX) {
                continue;
            }
            seen |= *source == Source::Hospital(party.clone());
            let heard = self.heard.entry(party.clone()).or_insert(0);
            *heard = time_ms.min(now_ms).max(*heard);
        }
        match source {
            Source::Hospital(party) if !seen => Err(wrong(format!("{party} has not cosigned it"))),
            _ => Ok((note, checkpoint)),
        }
    }

    /// An address did not answer.
    pub fn handle_unanswered(&mut self) {
        self.views.unanswered = self.views.unanswered.saturating_add(1);
    }

    /// A view that a copy of `size` entries can judge: whose, and at which size the copy's root is wanted.
    pub fn poll_compare(&mut self, size: u64) -> Option<(Source, u64)> {
        let ready = self.waiting.iter_mut().find(|(_, w)| !w.asked && w.checkpoint.size <= size);
        ready.map(|(source, waiting)| {
            waiting.asked = true;
            (source.clone(), waiting.checkpoint.size)
        })
    }

    /// What the copy says. `Some`: the log has signed two histories, and this proves it.
    ///
    /// # Errors
    /// The copy's own answer does not hold together: its disk is to be looked at.
    pub fn handle_compared(&mut self, source: &Source, compared: Compared) -> Result<Option<ForkEvidence>, Refusal> {
        let Some(waiting) = self.waiting.remove(source) else { return Ok(None) };
        if compared.root == waiting.checkpoint.root {
            self.views.agreed = self.views.agreed.saturating_add(1);
            return Ok(None);
        }
        let Compared { root, proof, mine } = compared;
        let evidence = ForkEvidence::new(&self.log, &mine, &waiting.note, root, proof);
        let damaged = |error| format!("this hospital's own copy of the ledger does not fit its checkpoint: {error}");
        evidence.map(Some).map_err(|error| Refusal::new(Reason::Ledger, damaged(error)))
    }

    /// What people should know: who has not been heard, and which views wait for entries that do not come.
    pub fn worries(&self, now_ms: u64, peers: &Peers) -> Vec<String> {
        let Some(since_ms) = self.since_ms else { return Vec::new() };
        let mut worries = Vec::new();
        for party in peers.keys() {
            let silent_ms = now_ms.saturating_sub(self.heard.get(party).copied().unwrap_or(0).max(since_ms));
            if silent_ms >= SILENT_MS {
                worries.push(format!(
                    "{party} has not been heard for {} hours: ask it by telephone which checkpoint it has; if it runs, the \
                     coordinator keeps its views back",
                    silent_ms / 3_600_000
                ));
            }
        }
        for (source, waiting) in &self.waiting {
            let wait_ms = now_ms.saturating_sub(waiting.since_ms);
            if wait_ms >= UNRECONCILED_MS {
                worries.push(format!(
                    "{source} has seen {} entries, and this hospital has not been sent that many for {} minutes: the coordinator \
                     may be showing it another history",
                    waiting.checkpoint.size,
                    wait_ms / 60_000
                ));
            }
        }
        worries
    }
}
