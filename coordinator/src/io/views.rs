//! The relay's shell: who is linked, what is passed on, and the copy of a fork's proof that this side keeps for its operator.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::note::VerifierKey;
use leben_contracts::ledger::store::{StoreError, durable_replace, ensure_dir};
use leben_protocol::frame::Order;
use sha2::{Digest, Sha256};

use super::clock::now_ms;
use super::events::Orders;
use super::metrics::Metrics;
use crate::relay::{Dropped, Relay};

/// Passes views on.
pub struct Views {
    state: Mutex<State>,
    log: VerifierKey,
    evidence: PathBuf,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    relay: Relay,
    links: BTreeMap<String, Orders>,
}

impl Views {
    /// Of this log; proofs of forks are kept in the folder `evidence`.
    pub fn new(log: VerifierKey, evidence: PathBuf, metrics: Arc<Metrics>) -> Views {
        Views { state: Mutex::default(), log, evidence, metrics }
    }

    /// A hospital has a link.
    pub fn up(&self, party: &str, orders: Orders) {
        self.with(|state| drop(state.links.insert(party.to_owned(), orders)));
    }

    /// It ended, unless a newer one has taken its place.
    pub fn down(&self, party: &str, orders: &Orders) {
        self.with(|state| {
            if state.links.get(party).is_some_and(|link| link.is_same(orders)) {
                state.links.remove(party);
                state.relay.handle_down(party);
            }
        });
    }

    /// `by` asks what `of` sees.
    pub fn ask(&self, by: &str, of: &str) {
        let passed = self.with(|state| {
            let Some(link) = state.links.get(of).cloned() else { return Ok(false) };
            state.relay.handle_ask(now_ms(), by, of)?;
            Ok(link.give(of, Order::ViewAsked { by: by.to_owned() }))
        });
        self.count(passed);
    }

    /// `from` answers `to`.
    pub fn answer(&self, from: &str, to: &str, view: Vec<u8>) {
        if view.first() == Some(&b'{') {
            self.keep(from, &view);
        }
        let passed = self.with(|state| {
            state.relay.handle_view(from, to, view.len())?;
            let Some(link) = state.links.get(to) else { return Ok(false) };
            Ok(link.give(to, Order::View { of: from.to_owned(), view }))
        });
        self.count(passed);
    }

    fn count(&self, passed: Result<bool, Dropped>) {
        let ended = match passed {
            Ok(true) => "passed",
            Ok(false) => "not_linked",
            Err(dropped) => dropped.label(),
        };
        self.metrics.views.with_label_values(&[ended]).inc();
    }

    /// A proof that this log has signed two histories: the operator has to know, whoever holds the key.
    fn keep(&self, from: &str, view: &[u8]) {
        let proven = ForkEvidence::parse(view).and_then(|evidence| evidence.verify(&self.log).map(|_| evidence));
        let Ok(evidence) = proven else { return };
        // Named by what it proves, so that many who bring the same proof fill no disk.
        let file = evidence.to_json();
        let name: String = hex::encode(Sha256::digest(file.as_bytes())).chars().take(16).collect();
        let path = self.evidence.join(format!("fork-{name}.json"));
        let store = || -> Result<bool, StoreError> {
            ensure_dir(&self.evidence)?;
            let full = std::fs::read_dir(&self.evidence).is_ok_and(|files| files.count() >= 64);
            if path.exists() || full {
                return Ok(false);
            }
            durable_replace(&path, file.as_bytes())?;
            Ok(true)
        };
        match store() {
            Ok(false) => {}
            Ok(true) => {
                self.metrics.forks.inc();
                tracing::error!(%from, file = %path.display(), "a hospital proves that this log has signed two histories: stop, find out who holds its key, and tell everybody");
            }
            Err(error) => tracing::error!(%error, "the proof of a fork could not be kept"),
        }
    }

    fn with<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
