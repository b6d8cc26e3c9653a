//! The agent's part in gossip: whom it asks, what it answers, and what it does when the log has signed two histories.

use std::collections::BTreeMap;

use leben_contracts::agreement::party::OrgKind;
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::merkle::Hash;
use leben_contracts::ledger::note::{KeyType, VerifierKey};
use leben_protocol::frame::Report;

use super::{Action, Agent};
use crate::gossip::{Compared, Peers, Source};
use crate::mirror::{validator_name, witness_name};
use crate::refusal::{Reason, Refusal};

/// A fork, whoever proves it with which checkpoints: the log, the size, the two roots of that size.
pub(super) type Differing = (String, u64, [Hash; 2]);

fn differing(evidence: &ForkEvidence) -> Option<Differing> {
    let fork = evidence.verify(evidence.log()).ok()?;
    let mut roots = [fork.claimed, fork.proven];
    roots.sort_unstable();
    Some((evidence.log().to_string(), fork.size, roots))
}

impl Agent {
    /// What `worker.toml` says: addresses that are asked for a view, and how often anybody is.
    pub fn configure_gossip(&mut self, addresses: Vec<String>, every_ms: u64) {
        self.gossip.configure(addresses, every_ms);
    }

    /// A proof of a fork that lies in `evidence/` and that nobody has cleared: nothing is signed.
    pub fn restore_fork(&mut self, evidence: ForkEvidence) {
        self.mirror.halt_for_fork();
        self.fork = Some(evidence);
    }

    /// Proofs that a person has looked at and put aside: these forks stop nothing any more, though others still show them.
    pub fn restore_cleared(&mut self, cleared: &[ForkEvidence]) {
        self.cleared.extend(cleared.iter().filter_map(differing));
    }

    /// Why it halted before this start, where nobody has cleared it: nothing is signed.
    pub fn restore_halt(&mut self, words: String) {
        self.mirror.restore_halt(words);
    }

    /// What peers are shown at `now_ms`: this hospital's checkpoint, cosigned anew, or the proof that the log has forked.
    pub fn shown_view(&self, now_ms: u64) -> Option<String> {
        match (&self.fork, self.mirror.halted()) {
            (Some(fork), _) => Some(fork.to_json()),
            (None, Some(_)) => None,
            (None, None) => self.mirror.view(now_ms).map(|note| note.to_string()),
        }
    }

    /// Time passed: ask, and look at what has come in.
    pub(super) fn gossip(&mut self, now_ms: u64) {
        let peers = self.peers();
        for source in self.gossip.poll_asks(now_ms, self.linked, &peers) {
            match source {
                Source::Hospital(of) => self.actions.push_back(Action::Report(Report::AskView { of })),
                Source::Address(url) => self.actions.push_back(Action::FetchView(url)),
                Source::Coordinator => {}
            }
        }
        self.compare_views();
    }

    /// A view that can be judged is compared with the copy on the disk.
    pub(super) fn compare_views(&mut self) {
        while let Some((source, size)) = self.gossip.poll_compare(self.mirror.size()) {
            self.actions.push_back(Action::CompareView { source, size });
        }
    }

    pub(super) fn handle_view_asked(&mut self, now_ms: u64, by: String) {
        if !self.gossip.may_answer(now_ms, &by) {
            return;
        }
        if let Some(view) = self.shown_view(now_ms) {
            self.actions.push_back(Action::Report(Report::View { to: by, view: view.into_bytes() }));
        }
    }

    /// Somebody's view: a note, or the proof of a fork.
    pub fn handle_view(&mut self, now_ms: u64, source: Source, view: &[u8]) {
        if let Source::Hospital(party) = &source
            && !self.gossip.take_expected(party)
        {
            return;
        }
        // A note starts with the log's name, which is no brace.
        if view.first() == Some(&b'{') {
            return match ForkEvidence::parse(view)
                .and_then(|evidence| evidence.verify(self.mirror.log()).map(|_| evidence))
            {
                Ok(evidence) => self.handle_fork(now_ms, &source, evidence),
                Err(error) => {
                    let words = format!("{source} sent what should prove a fork and does not: {error}");
                    self.audit(now_ms, "view-refused", None, Some(&Refusal::new(Reason::Ledger, words)));
                }
            };
        }
        match self.gossip.handle_view(now_ms, source, view, &self.peers()) {
            Ok(()) => self.compare_views(),
            Err(refusal) => self.audit(now_ms, "view-refused", None, Some(&refusal)),
        }
    }

    /// An address did not answer.
    pub fn handle_no_view(&mut self) {
        self.gossip.handle_unanswered();
    }

    /// What the copy on the disk says about a view.
    pub fn handle_compared(&mut self, now_ms: u64, source: &Source, compared: Compared) {
        match self.gossip.handle_compared(source, compared) {
            Ok(None) => {}
            Ok(Some(evidence)) => self.handle_fork(now_ms, source, evidence),
            Err(refusal) => self.audit(now_ms, "view-refused", None, Some(&refusal)),
        }
    }

    /// The checkpoint that made the mirror halt, if it did: looked at like any view, so that a proof for others comes of it.
    pub(super) fn look_into(&mut self, now_ms: u64) {
        if let Some(note) = self.mirror.take_suspect() {
            self.handle_view(now_ms, Source::Coordinator, note.to_string().as_bytes());
        }
    }

    fn handle_fork(&mut self, now_ms: u64, source: &Source, evidence: ForkEvidence) {
        if self.fork.is_some() || differing(&evidence).is_some_and(|fork| self.cleared.contains(&fork)) {
            return;
        }
        self.mirror.halt_for_fork();
        self.actions.push_back(Action::StoreFork(Box::new(evidence.clone())));
        self.fork = Some(evidence);
        let words = format!(
            "the log has signed two histories; shown by what {source} has seen. This node signs nothing more. The proof is in \
             `evidence/`: look at it with `leben-worker evidence show`, and call the other hospitals"
        );
        self.audit(now_ms, "fork", None, Some(&Refusal::new(Reason::Ledger, words)));
    }

    /// Who else cosigns, as the certified ledger has it.
    pub(super) fn peers(&self) -> Peers {
        let mut peers = BTreeMap::new();
        for party in self.mirror.certified().parties().filter(|party| party.kind == OrgKind::Hospital) {
            if party.id == self.party {
                continue;
            }
            let Some(keys) = party.keys() else { continue };
            let named = |name: String, key: Option<_>| VerifierKey::new(&name, KeyType::Cosignature, key?).ok();
            let name = party.id.as_str();
            let keys = [named(witness_name(name), keys.witness), named(validator_name(name), keys.validator)];
            let keys: Vec<VerifierKey> = keys.into_iter().flatten().collect();
            if !keys.is_empty() {
                peers.insert(name.to_owned(), keys);
            }
        }
        peers
    }
}
