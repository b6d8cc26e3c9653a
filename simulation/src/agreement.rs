//! A contract as everybody signed it: a real ledger state with really signed entries, up to the frozen key directory.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::terms::Terms;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::merkle::{Tree, leaf_hash};
use leben_coordinator::facts::Facts;
use leben_coordinator::plan::{Operator, Plan};
use leben_coordinator::record::{self, Record};
use leben_coordinator::schedule;
use leben_models::{AlgorithmSpec, registry};
use leben_privacy::secure_sum::{JobKeys, Journal, Participant};
use leben_privacy::{Suite, seal};
use leben_protocol::frame::ContractId;
use leben_worker::budget::Budgets;
use leben_worker::consent::{self, Admitted, Approval, Desk};
use leben_worker::declared::Dataset;
use leben_worker::participate::Participation;

use crate::deal::Deal;

/// The log's origin.
pub const ORIGIN: &str = "simulation.leben.test/ledger";
/// When every story begins, Unix milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;
/// An hour in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// The data set that each hospital has.
pub const DATASET: &str = "rows";

/// A party's name as a typed id.
pub fn id(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

/// A code of the ledger.
pub fn code(text: &str) -> Code {
    Code::new(text).unwrap()
}

/// Name of the hospital at this seat, from 1.
pub fn hospital(seat: u16) -> String {
    format!("hospital-{seat:03}")
}

/// A secret of a party: `what` is party, tls, witness, validator, log, sealing or job.
pub fn secret(name: &str, what: &str) -> [u8; 32] {
    Hash32::plain(format!("{name}/{what}").as_bytes()).0
}

/// A party's signing key.
pub fn key(name: &str, what: &str) -> SigningKey {
    SigningKey::from_bytes(&secret(name, what))
}

/// The keys under which a party enrols.
pub fn party_keys(name: &str) -> PartyKeys {
    let public = |what| PublicKey::of(&key(name, what));
    PartyKeys {
        party: public("party"),
        witness: Some(public("witness")),
        validator: Some(public("validator")),
        tls: public("tls"),
    }
}

/// A party's public sealing key.
pub fn sealing(name: &str) -> X25519Key {
    X25519Key(seal::public_of(&secret(name, "sealing")))
}

fn role(name: &str) -> Role {
    match name {
        "coordinator" => Role::Coordinator,
        "admin" => Role::Admin,
        "team" => Role::DataUser,
        _ => Role::DataOwner,
    }
}

/// The first entry.
pub fn genesis() -> Body {
    let founder = |name: &str| body::Founder { party: id(name), keys: party_keys(name), sealing: sealing(name) };
    Body::Genesis(body::Genesis {
        origin: ORIGIN.into(),
        coordinator: founder("coordinator"),
        admins: vec![founder("admin")],
        log_key: PublicKey::of(&key("coordinator", "log")),
        embeds: None,
    })
}

/// A party joins.
pub fn enrolment(name: &str) -> Body {
    let kind = if role(name) == Role::DataOwner { OrgKind::Hospital } else { OrgKind::Team };
    Body::PartyEnrol(body::PartyEnrol {
        party: id(name),
        kind,
        roles: vec![role(name)],
        keys: party_keys(name),
        sealing: sealing(name),
        invite_hash: Hash32::plain(name.as_bytes()),
    })
}

/// A built-in algorithm, offered.
pub fn algorithm_offer(spec: &AlgorithmSpec) -> Body {
    let digest = registry::digest(&spec.name, spec.version).expect("built in");
    Body::AlgorithmOffer(body::AlgorithmOffer {
        name: code(&spec.name),
        version: code(&spec.version.to_string()),
        digest: Hash32(digest),
        trains_model: true,
    })
}

/// Signs an action as a state says, for one party or, of an enrolment, with the coordinator.
pub fn sign(
    state: &State,
    now_ms: u64,
    actor: &str,
    contract: Option<&ContractId>,
    body: &Body,
    nonce: u64,
) -> Envelope {
    let party = id(actor);
    let mut random = [0; 16];
    random[..8].copy_from_slice(&nonce.to_le_bytes());
    let header = Header { actor: &party, role: role(actor), now_ms, valid_ms: HOUR_MS, nonce: random };
    let contract = contract.map(|id| Hash32(*id));
    let action = state.draft(body, contract.as_ref(), &header).unwrap();
    let mut keys = vec![key(actor, "party")];
    if matches!(body, Body::PartyEnrol(_)) {
        keys.push(key("coordinator", "party"));
    }
    Envelope::sign(&action, &keys.iter().collect::<Vec<_>>()).unwrap()
}

/// An executable contract with its frozen directory.
pub struct Agreement {
    /// What was agreed.
    pub deal: Deal,
    /// The terms.
    pub terms: Terms,
    /// The contract's id.
    pub contract: ContractId,
    /// The ledger's state.
    pub state: State,
    /// Root over the entries.
    pub root: [u8; 32],
    tree: Tree,
    now_ms: u64,
}

impl Agreement {
    /// Enrols, offers, proposes, signs, funds, arms and freezes.
    pub fn new(deal: Deal) -> Arc<Agreement> {
        let (terms, state) = (deal.terms(), State::new(ORIGIN));
        let empty =
            Agreement { deal, terms, contract: [0; 32], state, root: [0; 32], tree: Tree::default(), now_ms: START_MS };
        Arc::new(empty.agreed())
    }

    fn agreed(mut self) -> Agreement {
        let hospitals: Vec<String> = (1..=self.deal.hospitals).map(hospital).collect();
        self.act("coordinator", genesis());
        for name in hospitals.iter().map(String::as_str).chain(["team"]) {
            self.act(name, enrolment(name));
        }
        let offers: Vec<Body> =
            self.deal.declared().iter().filter_map(Dataset::offer).map(Body::DatasetOffer).collect();
        for name in &hospitals {
            offers.iter().for_each(|offer| self.act(name, offer.clone()));
        }
        for spec in self.deal.stages.clone() {
            self.act("coordinator", algorithm_offer(&spec));
        }
        let receipt_hash = Hash32::plain(b"bank");
        self.act("admin", Body::Deposit(body::Deposit { party: id("team"), credits: 5000, receipt_hash }));
        self.contract = self.propose();
        let hash = self.terms.hash().unwrap();
        let policy_hash = self.deal.declared().policy.hash();
        for name in hospitals.iter().map(String::as_str).chain(["team", "coordinator"]) {
            self.step(name, Body::Accept(body::Accept { terms_hash: hash, terms_version: 1, policy_hash }));
        }
        self.step("team", Body::Fund(body::Fund { amount: 1100 }));
        let due = self.state.due_steps(self.now_ms);
        due.into_iter().for_each(|due| self.step("coordinator", due.body));
        for name in &hospitals {
            let keys = job_keys(name).public();
            let verify = PublicKey::from_bytes(&keys.verify).unwrap();
            self.step(name, Body::KeyRecord(body::KeyRecord { verify, channel: X25519Key(keys.channel) }));
        }
        let directory = record::directory(&self.plan(), &self.facts().key_records);
        self.step("coordinator", schedule::body_of(&Record::RoundFreeze(directory)).unwrap());
        self
    }

    fn propose(&mut self) -> ContractId {
        let body = Body::Propose(body::Propose { terms: self.terms.clone() });
        let envelope = self.envelope("team", None, &body);
        let id = envelope.payload_hash();
        self.push(envelope);
        id
    }

    fn envelope(&self, actor: &str, contract: Option<&ContractId>, body: &Body) -> Envelope {
        sign(&self.state, self.now_ms, actor, contract, body, self.state.next_index())
    }

    fn act(&mut self, actor: &str, body: Body) {
        let envelope = self.envelope(actor, None, &body);
        self.push(envelope);
    }

    fn step(&mut self, actor: &str, body: Body) {
        let envelope = self.envelope(actor, Some(&self.contract), &body);
        self.push(envelope);
    }

    fn push(&mut self, envelope: Envelope) {
        let entry = Entry::new(envelope, self.now_ms).unwrap();
        self.state.apply(self.state.next_index(), &entry).unwrap();
        self.tree.append(leaf_hash(entry.bytes()));
        self.root = self.tree.root();
    }

    /// What the coordinator makes of the terms.
    pub fn plan(&self) -> Plan {
        let operator = Operator { away_ms_max: self.deal.away_ms_max, suite: Suite::default() };
        Plan::new(self.contract, &self.terms, &operator).unwrap()
    }

    /// What the ledger says.
    pub fn facts(&self) -> Facts {
        Facts::of(self.state.contract(&Hash32(self.contract)).unwrap())
    }

    /// What a hospital may do, by its own reading of the ledger.
    pub fn admitted(&self, name: &str) -> Admitted<consent::Plan> {
        let (me, declared) = (id(name), self.deal.declared());
        let desk = Desk { me: &me, declared: &declared, budgets: &Budgets::default(), now_ms: self.now_ms };
        let approval = Approval { terms_hash: self.terms.hash().unwrap(), policy_hash: declared.policy.hash() };
        consent::admit(&self.state, &self.contract, &desk, Some(&approval), &job_keys(name).public()).unwrap()
    }

    /// A hospital's part in the job, from what is on its disk.
    pub fn participation(&self, name: &str, journal: Journal) -> Participation {
        let plan = self.admitted(name);
        let participant =
            Participant::new(job_keys(name), plan.me, plan.directory.clone(), plan.hospitals_min, journal).unwrap();
        Participation::new(self.contract, plan, participant)
    }
}

/// A hospital's keys for the job.
pub fn job_keys(name: &str) -> JobKeys {
    JobKeys::from_seed(secret(name, "job"))
}
