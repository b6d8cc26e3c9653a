//! The ledger's one writer: batches what comes, commits it, takes it through the witnesses, and says what is final.
//!
//! The order of LEDGER, and what a crash after each step means:
//!
//! 1. validate and stage in memory: nothing has happened;
//! 2. commit (staged, HEAD swapped, tiles applied): the batch stands, start-up finishes it; only now may its signature leave;
//! 3. witnesses cosign ([`crate::finality`]): asked again after a restart;
//! 4. publish: the checkpoint is public;
//! 5. witnesses hold it: final, and acknowledged. Data, money and stages start here only.
//!
//! Any error of the disk stops the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::Body;
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Role;
use leben_contracts::agreement::snapshot::Snapshots;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::merkle::Hash;
use leben_contracts::ledger::note::{NOTE_BYTES_MAX, Note, SignatureLine, VerifierKey};
use leben_contracts::ledger::policy::{POLICY_BYTES_MAX, Policy};
use leben_contracts::ledger::store::{LogReader, LogStore, ReadError, read_at_most};
use leben_contracts::ledger::tile::TilePath;
use leben_contracts::ledger::turn;
use leben_protocol::frame::ContractId;
use leben_protocol::reject::{Reject, RejectCode};
use tokio::sync::{mpsc, oneshot, watch};

use super::author::Author;
use super::events::Orders;
use super::fatal::Fatal;
use super::index::Index;
use super::sequence::Sequence;

/// How many commands may wait for the writer.
const COMMANDS_MAX: usize = 4096;

/// How long an action of the coordinator's own may wait for its place, milliseconds.
const ACTION_VALID_MS: u64 = 3_600_000;

/// Where an entry is.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its index.
    pub index: u64,
    /// tlog-proof text, empty if only sequenced.
    pub proof: Vec<u8>,
}

/// To the writer.
pub(super) enum Command {
    /// A signed action.
    Append { envelope: Vec<u8>, wait_final: bool, reply: oneshot::Sender<Result<Appended, Reject>> },
    /// An action of the coordinator's own, composed as the ledger stands when its turn comes.
    Own { contract: Option<ContractId>, body: Box<Body>, reply: oneshot::Sender<Result<Appended, Reject>> },
    /// A witness has a link.
    Up { party: String, holds: (u64, u64), seen: Option<Note>, orders: Orders },
    /// A witness's link ended; answered with whether it was the current one.
    Down { party: String, orders: Orders, reply: oneshot::Sender<bool> },
    /// Cosignature lines.
    Cosigned { party: String, size: u64, lines: String },
    /// No cosignature.
    NotCosigned { party: String, size: u64, mirror_size: u64, reject: Reject },
    /// A witness holds the published checkpoint.
    Certified { party: String, size: u64 },
    /// A cosignature line of a witness outside the network.
    Observed { size: u64, line: SignatureLine },
}

/// The final part of the ledger, replayed.
pub(super) struct Final {
    pub(super) state: State,
    pub(super) root: [u8; 32],
}

pub(super) struct Shared {
    origin: String,
    pub(super) log: VerifierKey,
    /// Keys that the log has or had before a Handover.
    pub(super) keys: Vec<VerifierKey>,
    pub(super) reader: LogReader,
    pub(super) index: Arc<Mutex<Option<Index>>>,
    /// Held while one is written.
    pub(super) snapshots: Mutex<Snapshots>,
    final_part: RwLock<Final>,
    finals: watch::Sender<u64>,
    shown: watch::Sender<Option<String>>,
    commands: mpsc::Sender<Command>,
}

/// A handle to the ledger.
#[derive(Clone)]
pub struct Ledger(pub(super) Arc<Shared>);

impl Ledger {
    /// Takes up the log in `store` and starts its writer, whose end is a fault of ours.
    pub fn start(
        store: LogStore,
        log_key: SigningKey,
        origin: &str,
        author: Author,
        metrics: Arc<super::metrics::Metrics>,
        batch_max: usize,
        observers: Vec<VerifierKey>,
    ) -> Result<(Ledger, tokio::task::JoinHandle<Result<(), Fatal>>), Fatal> {
        let (commands, waiting) = mpsc::channel(COMMANDS_MAX);
        let (sequence, final_part, snapshots) =
            Sequence::recover(store, log_key, origin, author, metrics, batch_max, observers)?;
        let finals = watch::Sender::new(sequence.finality.final_size());
        let ledger = Ledger(Arc::new(Shared {
            origin: origin.to_owned(),
            log: sequence.log_vkey(),
            keys: sequence.store.keys().to_vec(),
            reader: sequence.reader(),
            index: sequence.index.clone(),
            snapshots: Mutex::new(snapshots),
            final_part: RwLock::new(final_part),
            finals,
            shown: watch::Sender::new(None),
            commands,
        }));
        let writer = tokio::spawn(sequence.run(waiting, ledger.clone()));
        Ok((ledger, writer))
    }

    /// Name of the log.
    pub fn origin(&self) -> &str {
        &self.0.origin
    }

    /// The log's key in C2SP form.
    pub fn log_vkey(&self) -> String {
        self.0.log.to_string()
    }

    /// Entries that are final; after a start, those that were published: see [`Ledger::is_certified`].
    pub fn final_size(&self) -> u64 {
        self.with_final(|state, _| state.next_index())
    }

    /// Whether a quorum is known to hold all of the final part: not from a start on, until it has said so.
    pub fn is_certified(&self) -> bool {
        self.with_final(|state, _| *self.0.finals.borrow() == state.next_index())
    }

    /// What is done on the ground of something final waits for that.
    pub fn must_be_certified(&self) -> Result<(), Reject> {
        let text = "the coordinator was started, and goes on once a quorum has said that it holds what is published";
        self.is_certified().then_some(()).ok_or_else(|| Reject::new(RejectCode::NotReady, text))
    }

    /// Hears of each growth of the final part, and when a quorum is known to hold what was published before a start.
    pub fn watch_final(&self) -> watch::Receiver<u64> {
        self.0.finals.subscribe()
    }

    /// Hears of each checkpoint that witnesses outside should see.
    pub fn watch_shown(&self) -> watch::Receiver<Option<String>> {
        self.0.shown.subscribe()
    }

    pub(super) fn show(&self, note: Option<String>) {
        self.0.shown.send_if_modified(|shown| {
            let changed = *shown != note;
            *shown = note;
            changed
        });
    }

    /// A witness outside the network cosigned.
    pub async fn observed(&self, size: u64, line: SignatureLine) {
        self.tell(Command::Observed { size, line }).await;
    }

    /// Consistency proof between two committed sizes; empty from nothing and to the same.
    pub fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, ReadError> {
        match from == 0 || from == to {
            true => Ok(Vec::new()),
            false => self.0.reader.consistency(from, to),
        }
    }

    /// Looks at the final part.
    pub fn with_final<T>(&self, look: impl FnOnce(&State, [u8; 32]) -> T) -> T {
        let part = self.0.final_part.read().unwrap_or_else(PoisonError::into_inner);
        look(&part.state, part.root)
    }

    pub(super) fn update_final<E>(&self, change: impl FnOnce(&mut Final) -> Result<(), E>) -> Result<(), E> {
        let mut part = self.0.final_part.write().unwrap_or_else(PoisonError::into_inner);
        change(&mut part)?;
        self.0.finals.send_replace(part.state.next_index());
        Ok(())
    }

    /// Records a signed action.
    pub async fn append(&self, envelope: Vec<u8>, wait_final: bool) -> Result<Appended, Reject> {
        self.ask(|reply| Command::Append { envelope, wait_final, reply }).await?
    }

    /// Records an action of the coordinator's own and waits until it is final.
    pub async fn append_own(&self, contract: Option<ContractId>, body: Body) -> Result<Appended, Reject> {
        self.ask(|reply| Command::Own { contract, body: Box::new(body), reply }).await?
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Reject> {
        let stopping = || Reject::new(RejectCode::ShuttingDown, "the ledger's writer has stopped");
        let (reply, answer) = oneshot::channel();
        self.0.commands.send(command(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())
    }

    async fn tell(&self, command: Command) {
        // Fails only when the writer has stopped, and then the process is ending.
        let _ = self.0.commands.send(command).await;
    }

    /// A worker's control stream is open. `holds`: entries in its copy, and those of them that are certified; `seen`: the largest
    /// checkpoint it holds.
    pub async fn witness_up(&self, party: &str, holds: (u64, u64), seen: Option<Note>, orders: Orders) {
        self.tell(Command::Up { party: party.to_owned(), holds, seen, orders }).await;
    }

    /// It ended; true if no newer link of the same party took over.
    pub async fn witness_down(&self, party: &str, orders: &Orders) -> bool {
        let (party, orders) = (party.to_owned(), orders.clone());
        self.ask(|reply| Command::Down { party, orders, reply }).await.unwrap_or(false)
    }

    /// Cosignature lines came.
    pub async fn cosigned(&self, party: &str, size: u64, lines: String) {
        self.tell(Command::Cosigned { party: party.to_owned(), size, lines }).await;
    }

    /// A witness would not sign.
    pub async fn not_cosigned(&self, party: &str, size: u64, mirror_size: u64, reject: Reject) {
        self.tell(Command::NotCosigned { party: party.to_owned(), size, mirror_size, reject }).await;
    }

    /// A witness holds the published checkpoint.
    pub async fn certified(&self, party: &str, size: u64) {
        self.tell(Command::Certified { party: party.to_owned(), size }).await;
    }

    /// The party whose link carries this key.
    pub fn party_of_link_key(&self, key: &[u8; 32]) -> Option<String> {
        self.with_final(|state, _| state.party_by_tls_key(key).map(|party| party.id.to_string()))
    }

    /// What somebody is told whose link key is nobody's: never enrolled, replaced, or revoked.
    pub fn stranger(&self, key: &[u8; 32]) -> Reject {
        let fingerprint = leben_protocol::key::fingerprint(key);
        self.with_final(|state, _| match state.former_tls_key(key) {
            Some((party, index)) if party.keys().is_some() => {
                let text = format!("the key {fingerprint} of {} was replaced in entry {index}", party.id);
                Reject::new(RejectCode::KeyRevoked, text)
            }
            Some((party, index)) => {
                let text = format!(
                    "the keys of {} were revoked in entry {index}; join again with new keys and a new invite",
                    party.id
                );
                Reject::new(RejectCode::KeyRevoked, text)
            }
            None => {
                Reject::new(RejectCode::Stranger, format!("the key {fingerprint} belongs to no party of this ledger"))
            }
        })
    }

    /// Whether the party's key in force is among those that signed, by its id; whether it holds is checked when it is appended.
    pub fn is_signer(&self, party: &str, envelope: &Envelope) -> bool {
        let keyid = self.with_final(|state, _| state.keys(party).map(|keys| keys.party.keyid()));
        keyid.is_some_and(|keyid| envelope.signatures().iter().any(|signature| signature.keyid == keyid))
    }

    /// Parties of a contract, the coordinator's own and admins may watch it.
    pub fn may_see(&self, party: &str, contract: &ContractId) -> Result<(), Reject> {
        self.with_final(|state, _| {
            let unknown = || Reject::new(RejectCode::UnknownContract, hex::encode(contract));
            let contract = state.contract(&Hash32(*contract)).ok_or_else(unknown)?;
            let named = contract.terms.parties.iter().any(|named| named.party.as_str() == party);
            let admin = state.admins().iter().any(|admin| admin.as_str() == party);
            match named || admin {
                true => Ok(()),
                false => Err(Reject::new(RejectCode::NotAllowed, format!("{party} is no party of this contract"))),
            }
        })
    }

    /// Whether the party owns data of this contract and has not taken it back.
    pub fn is_owner(&self, party: &str, contract: &ContractId) -> bool {
        self.with_final(|state, _| {
            let contract = state.contract(&Hash32(*contract));
            contract.is_some_and(|contract| contract.active_owners().iter().any(|owner| owner.as_str() == party))
        })
    }

    /// Whether the party is to receive this contract's result.
    pub fn is_recipient(&self, party: &str, contract: &ContractId) -> bool {
        self.with_final(|state, _| {
            let contract = state.contract(&Hash32(*contract));
            contract.is_some_and(|contract| contract.terms.delivery.recipient.as_str() == party)
        })
    }

    /// Whether this contract's result is recorded as delivered.
    pub fn is_delivered(&self, contract: &ContractId) -> bool {
        self.with_final(|state, _| state.contract(&Hash32(*contract)).is_some_and(|c| c.delivery.is_some()))
    }

    /// A file of the published folder: `checkpoint`, `policy`, a certificate, or a tile of a committed part. Nothing else lies there. A partial tile
    /// that has grown since a reader's checkpoint is cut to what that reader asks for.
    pub fn file(&self, path: &str) -> Result<Vec<u8>, Reject> {
        let found = match path {
            "checkpoint" => read_at_most(&self.0.reader.dir().join(path), NOTE_BYTES_MAX).ok(),
            "policy" => read_at_most(&self.0.reader.dir().join(path), POLICY_BYTES_MAX).ok(),
            certificate if turn::size_of_path(certificate).is_some() => {
                read_at_most(&self.0.reader.dir().join(path), NOTE_BYTES_MAX).ok()
            }
            tile => TilePath::parse(tile).ok().and_then(|tile| self.0.reader.tile_bytes(&tile).ok()),
        };
        found.ok_or_else(|| Reject::new(RejectCode::NotFound, format!("the ledger has no file '{path}'")))
    }
}

/// Someone who waits for an entry to become final.
pub(super) struct Waiter {
    pub(super) index: u64,
    pub(super) since_ms: u64,
    pub(super) reply: oneshot::Sender<Result<Appended, Reject>>,
}

/// The writer's waiting callers and linked witnesses.
#[derive(Default)]
pub(super) struct Callers {
    pub(super) waiters: VecDeque<Waiter>,
    pub(super) links: BTreeMap<String, Orders>,
}

/// The policy before the first validators: the log's signature alone.
pub(super) fn no_policy(log: &VerifierKey) -> Result<Policy, Fatal> {
    Policy::k_of_n(log, &[], 0).map_err(|error| Fatal::Ledger(error.to_string()))
}

/// Signs an action of the coordinator's own as the ledger stands.
pub(super) fn sign_own(
    state: &State,
    author: &Author,
    contract: Option<ContractId>,
    body: &Body,
    now_ms: u64,
) -> Result<Vec<u8>, Reject> {
    let refused = |text: String| Reject::new(RejectCode::EntryRefused, text);
    let id = contract.map(Hash32);
    let header = Header {
        actor: &author.party,
        role: Role::Coordinator,
        now_ms,
        valid_ms: ACTION_VALID_MS,
        nonce: super::nonce(),
    };
    let action = state.draft(body, id.as_ref(), &header).map_err(|error| refused(error.to_string()))?;
    let keys = author.keys_for(state, body)?;
    let keys: Vec<&SigningKey> = keys.iter().collect();
    let envelope = Envelope::sign(&action, &keys).map_err(|error| refused(error.to_string()))?;
    Ok(envelope.to_bytes())
}

/// Reads a note that this process wrote.
pub(super) fn own_note(text: &str) -> Result<Note, Fatal> {
    Note::parse(text.as_bytes()).map_err(|error| Fatal::Inconsistent(error.to_string()))
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
