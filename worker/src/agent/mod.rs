//! The whole agent of one hospital, without a socket, a disk or a clock: orders in, actions out.
//!
//! It ties the [`Mirror`] (what is true), the stewards' [`Standing`] decisions (what is wanted), [`consent`](crate::consent) (what is allowed) and the
//! [`Participation`](crate::participate::Participation)s (what is done) together. The files, in the order in which a contract meets them: `setup.rs`
//! (what it starts from), `cosign.rs` (the ledger), `contracts.rs` (offer, sign, take part), `budgets.rs`, `jobs.rs`, `append.rs` (its own actions), `keys.rs`, `clocks.rs`,
//! `standing.rs` (people's decisions), `reviews.rs` (results that wait for a person), `gossip.rs`, `status.rs`.
//!
//! Whatever must survive a crash comes out as a `Store..` action *before* the action that lets anybody else build on it. The
//! shell carries actions out in order and ends the process when one of the `Store..` fails.

mod append;
mod budgets;
mod clocks;
mod contracts;
mod cosign;
mod gossip;
mod jobs;
mod keys;
mod reviews;
mod setup;
mod standing;
mod status;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::terms::Input;
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::witness::WitnessRecord;
use leben_privacy::secure_sum::Journal;
use leben_protocol::frame::{ContractId, Network, Order, Report, UploadTrailer};
use leben_protocol::reject::Reject;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use zeroize::Zeroizing;

pub use append::AppendKey;
pub use clocks::{CLOCK_REFUSE_MS, CLOCK_WARN_MS, CLOCK_WARNING, compare_clocks};
pub use keys::{Generation, KeyView};
pub use reviews::REVIEW_BYTES_MAX;
pub use setup::{Setup, StoredJob};
pub use standing::{Command, Standing, Wish};
pub use status::{BudgetView, ContractView, Counters, DatasetView, JobView, Status};

use crate::audit::AuditEntry;
use crate::budget::{Budget, Budgets};
use crate::declared::Declared;
use crate::gossip::{Gossip, Source};
use crate::mirror::Mirror;
use crate::participate::Work;
use crate::refusal::{Reason, Refusal};

/// The protocol versions this agent speaks, newest last.
pub const VERSIONS: &[u16] = &[1];
/// What the shell has to do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Durably: append leaves to the copy of the ledger, under the log's own checkpoint.
    StoreEntries {
        /// New leaves.
        entries: Vec<Vec<u8>>,
        /// The checkpoint that covers them.
        note: Note,
    },
    /// Durably: what the witness signed last.
    StoreRecord(Box<WitnessRecord>),
    /// Durably: the certificate, and the policy it met.
    StoreCertificate {
        /// The cosigned checkpoint.
        note: Note,
        /// The same with both quorums, where its last entry changes who has to sign.
        turn: Option<Note>,
        /// The quorum in force.
        policy: Option<Policy>,
    },
    /// Durably: why this node signs nothing more, in the first line, with the checkpoints that show it. While it lies there the agent
    /// signs nothing.
    StoreEvidence(String),
    /// Durably: proof that the log signed two histories. While it lies there the agent signs nothing.
    StoreFork(Box<ForkEvidence>),
    /// Read the copy's root at this size, with its proof, then [`Agent::handle_compared`].
    CompareView {
        /// Whose view it is for.
        source: Source,
        /// At most the entries of the copy.
        size: u64,
    },
    /// Ask this address for its view, then [`Agent::handle_view`] or [`Agent::handle_no_view`].
    FetchView(String),
    /// Durably: the secret that a job's keys come from.
    StoreJobSeed {
        /// The job's contract.
        contract: ContractId,
        /// 32 secret bytes.
        seed: Zeroizing<[u8; 32]>,
    },
    /// Durably: what the secure sum must not forget.
    StoreJournal {
        /// The job's contract.
        contract: ContractId,
        /// The journal.
        journal: Journal,
    },
    /// Durably: what people decided.
    StoreStanding {
        /// The contract.
        contract: ContractId,
        /// The decision.
        standing: Standing,
    },
    /// Durably: a result that people are to look at.
    StoreReview {
        /// The contract.
        contract: ContractId,
        /// The result, in the bytes that it is committed to.
        bytes: Vec<u8>,
    },
    /// Durably: a data set's privacy budget.
    StoreBudget(Box<Budget>),
    /// See whether these inputs have the rows that the terms of this hash ask for, then [`Agent::handle_cohorts`].
    CheckCohorts(Hash32, Vec<Input>),
    /// A contract is over: its job's seed and journal may go.
    ForgetJob {
        /// The contract.
        contract: ContractId,
    },
    /// Send on the control stream; drop it if there is no link.
    Report(Report),
    /// Append to the ledger, then [`Agent::handle_appended`].
    Append {
        /// Names it in the answer.
        key: AppendKey,
        /// DSSE envelope bytes.
        envelope: Vec<u8>,
    },
    /// Fetch a model state, then [`Agent::handle_state`].
    FetchState {
        /// The job's contract.
        contract: ContractId,
        /// SHA-256 of its bytes.
        digest: [u8; 32],
        /// Its size.
        bytes: u64,
    },
    /// Fetch a result that people are to look at, then [`Agent::handle_result`].
    FetchReview {
        /// The contract.
        contract: ContractId,
        /// SHA-256 of its bytes.
        digest: [u8; 32],
        /// Its size.
        bytes: u64,
    },
    /// Run the local half and stream it, then [`Agent::handle_streamed`] or [`Agent::handle_unworkable`].
    Work(Box<Work>),
    /// Send as the last frame of the slot's upload.
    Trailer {
        /// The job's contract.
        contract: ContractId,
        /// The trailer.
        trailer: Box<UploadTrailer>,
    },
    /// Stop whatever runs for a slot.
    Cancel {
        /// The job's contract.
        contract: ContractId,
        /// The slot.
        slot: u64,
    },
    /// The ledger has put the keys of `keys/next` in force.
    PromoteKeys,
    /// Write to the hospital's own audit log.
    Audit(AuditEntry),
    /// End the link and tell the peer why; a person has to look.
    Unlink(Reject),
}

/// One hospital's agent.
pub struct Agent {
    party: PartyId,
    keys: keys::OwnKeys,
    declared: Declared,
    mirror: Mirror,
    standings: BTreeMap<ContractId, Standing>,
    jobs: BTreeMap<ContractId, jobs::Job>,
    budgets: Budgets,
    appends: append::Appends,
    reviews: BTreeMap<ContractId, Result<(), Refusal>>,
    results: reviews::Results,
    clock: Result<i64, Refusal>,
    clock_at_ms: u64,
    linked: bool,
    no_link: Option<String>,
    gossip: Gossip,
    fork: Option<ForkEvidence>,
    cleared: BTreeSet<gossip::Differing>,
    counters: Counters,
    rng: ChaCha20Rng,
    actions: VecDeque<Action>,
}

impl Agent {
    /// An agent at its start or restart.
    pub fn new(setup: Setup) -> Agent {
        let mut rng = ChaCha20Rng::from_seed(setup.seed);
        let mut gossip_seed = [0; 32];
        rng.fill_bytes(&mut gossip_seed);
        let gossip = Gossip::new(setup.mirror.log().clone(), gossip_seed);
        let mut budgets = setup.budgets;
        for (id, stored) in &setup.jobs {
            budgets.compare_journal(&Hash32(*id), &stored.journal);
        }
        budgets.compare(&setup.party, setup.mirror.certified());
        // Where the newest copy is missing, none is made in its place.
        let known = |budget: &&Budget| budgets.behind(&budget.dataset).is_none();
        let new = budgets.iter().filter(known).filter(|budget| budget.generation() == 0);
        let actions = new.map(|budget| Action::StoreBudget(Box::new(budget.clone()))).collect();
        let jobs = setup.jobs.into_iter().map(|(id, stored)| (id, jobs::Job::restored(stored))).collect();
        Agent {
            party: setup.party,
            keys: keys::OwnKeys::new(setup.party_key),
            declared: setup.declared,
            mirror: setup.mirror,
            standings: setup.standings,
            jobs,
            budgets,
            appends: append::Appends::default(),
            reviews: BTreeMap::new(),
            results: reviews::Results::default(),
            clock: Ok(0),
            clock_at_ms: 0,
            linked: false,
            no_link: None,
            gossip,
            fork: None,
            cleared: BTreeSet::new(),
            counters: Counters::default(),
            rng,
            actions,
        }
    }

    /// Next thing for the shell to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// This hospital.
    pub fn party(&self) -> &PartyId {
        &self.party
    }

    /// Its copy of the ledger.
    pub fn mirror(&self) -> &Mirror {
        &self.mirror
    }

    /// What it declares.
    pub fn declared(&self) -> &Declared {
        &self.declared
    }

    /// The coordinator accepted the link. `now_ms` is this hospital's clock.
    pub fn handle_welcome(&mut self, now_ms: u64, version: u16, network: &Network) {
        let origin = self.mirror.validated().origin();
        if !VERSIONS.contains(&version) || network.origin != origin {
            let words = format!("this hospital joined '{origin}', the other side serves '{}'", network.origin);
            let refusal = Refusal::new(Reason::Ledger, words);
            self.audit(now_ms, "link-refused", None, Some(&refusal));
            self.actions.push_back(Action::Unlink(refusal.to_reject()));
            return;
        }
        (self.linked, self.no_link) = (true, None);
        let agreed = self.clock.is_ok();
        (self.clock, self.clock_at_ms) = (compare_clocks(now_ms, network.now_ms), now_ms);
        match self.clock.clone() {
            // Said once, and not over every link that is made to see whether it still holds.
            Err(refusal) if agreed => self.audit(now_ms, "clock", None, Some(&refusal)),
            Err(_) => {}
            Ok(_) => {
                if let Some(words) = self.clock_worry() {
                    let entry = AuditEntry { at_ms: now_ms, event: CLOCK_WARNING, contract: None, code: None, words };
                    self.actions.push_back(Action::Audit(entry));
                }
            }
        }
        self.appends.handle_linked();
        self.advance(now_ms);
    }

    /// No link could be made, for this reason: people see it until there is one.
    pub fn handle_no_link(&mut self, why: String) {
        self.no_link = Some(why);
    }

    /// The link is gone. What was on its way is asked for, or sent, again.
    pub fn handle_unlinked(&mut self) {
        self.linked = false;
        self.mirror.handle_unlinked();
        self.appends.handle_unlinked();
    }

    /// An order of the coordinator.
    pub fn handle_order(&mut self, now_ms: u64, order: Order) {
        match order {
            Order::Welcome { version, network } => self.handle_welcome(now_ms, version, &network),
            Order::Rejected(reject) => {
                let refusal = Refusal::new(Reason::Malformed, reject.to_string());
                self.audit(now_ms, "rejected-by-coordinator", None, Some(&refusal));
            }
            Order::Entries { first_index, leaves } => {
                if let Err(refusal) = self.mirror.handle_entries(first_index, leaves) {
                    self.not_cosigned(now_ms, self.mirror.not_cosigned(refusal, None));
                }
            }
            Order::Cosign { body } => self.handle_cosign(now_ms, &body),
            Order::Publish { note } => {
                let published = self.mirror.handle_publish(&note);
                self.certified(now_ms, published);
            }
            Order::Job { contract, order } => self.handle_job_order(now_ms, contract, order),
            Order::ViewAsked { by } => self.handle_view_asked(now_ms, by),
            Order::View { of, view } => self.handle_view(now_ms, Source::Hospital(of), &view),
        }
    }

    /// A second, or more, passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.advance(now_ms);
        self.compare_clocks_again(now_ms);
        self.gossip(now_ms);
    }

    fn audit(&mut self, at_ms: u64, event: &'static str, contract: Option<&ContractId>, refusal: Option<&Refusal>) {
        if let Some(refusal) = refusal {
            *self.counters.refusals.entry(refusal.reason.code().to_owned()).or_default() += 1;
        }
        self.actions.push_back(Action::Audit(AuditEntry {
            at_ms,
            event,
            contract: contract.map(hex::encode),
            code: refusal.map(|refusal| refusal.reason.code().to_owned()),
            words: refusal.map(|refusal| refusal.words.clone()).unwrap_or_default(),
        }));
    }

    fn fresh_seed(&mut self) -> Zeroizing<[u8; 32]> {
        let mut seed = Zeroizing::new([0; 32]);
        self.rng.fill_bytes(&mut *seed);
        seed
    }
}
