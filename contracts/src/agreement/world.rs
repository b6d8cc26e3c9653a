//! A small world for tests: a coordinator, two admins, three hospitals, a team that pays, a laboratory with an algorithm, an
//! arbiter, and somebody who has nothing to do with it. Every action is really signed.

use super::body::*;
use super::due::Header;
use super::error::{Reason, StepError};
use super::hash::{ContractId, Hash32, X25519Key};
use super::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use super::purpose::{Permission, Purpose};
use super::state::State;
use super::terms::*;
use crate::ledger::entry::{Action, Entry, Envelope};
use crate::ledger::key::PublicKey;
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;

pub const ORIGIN: &str = "leben.test/ledger";
pub const T0: u64 = 1_800_000_000_000;
pub const HOUR: u64 = 3_600_000;
pub const HOSPITALS: [&str; 3] = ["h1", "h2", "h3"];
pub const ACTORS: [&str; 10] = ["coord", "admin1", "admin2", "h1", "h2", "h3", "team", "lab", "judge", "other"];

#[derive(Clone)]
pub struct World {
    pub state: State,
    pub now_ms: u64,
    pub entries: Vec<Entry>,
    nonce: u128,
}

pub fn id(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

pub fn code(name: &str) -> Code {
    Code::new(name).unwrap()
}

pub fn hash(text: &str) -> Hash32 {
    Hash32::plain(text.as_bytes())
}

/// A party's signing key; `use_of` is party, tls, witness, validator, log or job.
pub fn key(name: &str, use_of: &str) -> SigningKey {
    SigningKey::from_bytes(&hash(&format!("{name}/{use_of}")).0)
}

pub fn public(name: &str, use_of: &str) -> PublicKey {
    PublicKey::of(&key(name, use_of))
}

pub fn keys(name: &str) -> PartyKeys {
    PartyKeys {
        party: public(name, "party"),
        witness: Some(public(name, "witness")),
        validator: Some(public(name, "validator")),
        tls: public(name, "tls"),
    }
}

pub fn sealing(name: &str) -> X25519Key {
    X25519Key(hash(&format!("{name}/sealing")).0)
}

pub fn main_role(name: &str) -> Role {
    match name {
        "coord" => Role::Coordinator,
        "admin1" | "admin2" => Role::Admin,
        "team" | "other" => Role::DataUser,
        "lab" => Role::AlgorithmProvider,
        "judge" => Role::Arbiter,
        _ => Role::DataOwner,
    }
}

pub fn genesis() -> Body {
    let founder = |name: &str| Founder { party: id(name), keys: keys(name), sealing: sealing(name) };
    let admins = vec![founder("admin1"), founder("admin2")];
    Body::Genesis(Genesis {
        origin: ORIGIN.into(),
        coordinator: founder("coord"),
        admins,
        log_key: public("coord", "log"),
        embeds: None,
    })
}

pub fn enrol(name: &str) -> PartyEnrol {
    let kind = if HOSPITALS.contains(&name) { OrgKind::Hospital } else { OrgKind::Team };
    let invite_hash = hash(&format!("{name}/invite"));
    PartyEnrol {
        party: id(name),
        kind,
        roles: vec![main_role(name)],
        keys: keys(name),
        sealing: sealing(name),
        invite_hash,
    }
}

pub fn offer() -> DatasetOffer {
    let column = |name: &str, role| ColumnSpec {
        column: name.into(),
        column_type: ColumnType::Number,
        unit: "mm".into(),
        role,
        codes: vec![],
    };
    let schema = vec![
        column("patient", ColumnRole::Id),
        column("radius", ColumnRole::Feature),
        column("malignant", ColumnRole::Outcome),
    ];
    DatasetOffer {
        name: code("breast"),
        schema_hash: schema_hash(&schema).unwrap(),
        schema,
        rows_rounded: 100,
        permission: Permission { duo: vec!["GRU".into()], ehds: vec!["53.1.e".into()] },
        price_hint: Some(100),
    }
}

fn input(owner: &str) -> Input {
    Input {
        id: code(&format!("in-{owner}")),
        owner: id(owner),
        dataset: code("breast"),
        schema_hash: offer().schema_hash,
        cohort: String::new(),
        columns: vec!["radius".into(), "malignant".into()],
        row_cap: 200,
        cohort_min: 10,
    }
}

fn stage(n: u32, name: &str, after: &[u32], inputs: &[&str], on_failure: OnFailure) -> Stage {
    Stage {
        id: n,
        name: code(name),
        executor: id("coord"),
        after: after.to_vec(),
        inputs: inputs.iter().map(|o| code(&format!("in-{o}"))).collect(),
        state_from: after.last().copied(),
        algorithm: code("ridge"),
        rounds_max: 30,
        timeout_ms: 60_000,
        retries: 1,
        on_failure,
        on_drop: OnDrop::Continue,
    }
}

/// Three stages: two over all hospitals, one that joins; 1000 credits and a deposit of 100.
pub fn terms() -> Terms {
    let party = |name: &str, roles: &[Role]| TermsParty { party: id(name), roles: roles.to_vec() };
    let split = |name: &str, basis_points| Split { party: id(name), basis_points };
    Terms {
        v: 1,
        purpose: Purpose {
            duo: vec!["HMB".into()],
            ehds: Some("53.1.e.ii".into()),
            commercial: false,
            methods_development: true,
        },
        parties: vec![
            party("team", &[Role::DataUser]),
            party("h1", &[Role::DataOwner]),
            party("h2", &[Role::DataOwner]),
            party("h3", &[Role::DataOwner]),
            party("coord", &[Role::Integrator]),
            party("judge", &[Role::Arbiter]),
        ],
        inputs: HOSPITALS.iter().map(|h| input(h)).collect(),
        algorithms: vec![Algorithm {
            id: code("ridge"),
            name: code("logistic"),
            version: code("1"),
            digest: hash("logistic"),
            params: BTreeMap::from([
                ("lambda".into(), Param::Text("0.001".into())),
                ("seed".into(), Param::Integer(7)),
            ]),
        }],
        stages: vec![
            stage(1, "standardise", &[], &HOSPITALS, OnFailure::Continue),
            stage(2, "fit", &[1], &HOSPITALS, OnFailure::Continue),
            stage(3, "join", &[2], &[], OnFailure::Abort),
        ],
        privacy: Privacy {
            mechanism: code("none"),
            epsilon_micro: 0,
            delta_e12: 0,
            hospitals_min: 2,
            secure_sum: true,
            threshold: 2,
            disclosure: Disclosure::default(),
        },
        price: Price {
            total_credits: 1000,
            splits: vec![split("h1", 3333), split("h2", 3333), split("h3", 2334), split("coord", 1000)],
            per_round: 0,
            deposit: 100,
        },
        delivery: Delivery {
            recipient: id("team"),
            sealing: sealing("team"),
            outputs: vec![code("coefficients")],
            review: false,
            delete_by_ms: T0 + 1000 * HOUR,
        },
        windows: Windows { sign_by_ms: T0 + 10 * HOUR, run_by_ms: T0 + 20 * HOUR, accept_within_ms: 5 * HOUR },
        text_hash: Hash32([0; 32]),
    }
    .with_text_hash()
}

impl World {
    pub fn empty() -> Self {
        Self { state: State::new(ORIGIN), now_ms: T0, entries: vec![], nonce: 0 }
    }

    /// Everybody enrolled, data and algorithm offered, 5000 credits with the team, a witness policy.
    pub fn new() -> Self {
        let mut w = Self::empty();
        w.act("coord", None, genesis()).unwrap();
        for name in ACTORS.iter().filter(|n| !matches!(**n, "coord" | "admin1" | "admin2")) {
            w.signed(name, None, enrol(name).into(), &[name, "coord"]).unwrap();
        }
        w.act("coord", None, PolicyChange { validators: HOSPITALS.map(id).to_vec(), quorum: 2 }.into()).unwrap();
        for h in HOSPITALS {
            w.act(h, None, offer().into()).unwrap();
        }
        let algorithm =
            AlgorithmOffer { name: code("logistic"), version: code("1"), digest: hash("logistic"), trains_model: true };
        w.act("lab", None, algorithm.into()).unwrap();
        w.act("admin1", None, Deposit { party: id("team"), credits: 5000, receipt_hash: hash("bank") }.into()).unwrap();
        w
    }

    pub fn action(&mut self, actor: &str, contract: Option<&ContractId>, body: &Body) -> Action {
        self.nonce += 1;
        let actor = id(actor);
        let header = Header {
            actor: &actor,
            role: main_role(actor.as_str()),
            now_ms: self.now_ms,
            valid_ms: HOUR,
            nonce: self.nonce.to_be_bytes(),
        };
        self.state.draft(body, contract, &header).unwrap()
    }

    pub fn envelope(&mut self, actor: &str, contract: Option<&ContractId>, body: &Body, signers: &[&str]) -> Envelope {
        let action = self.action(actor, contract, body);
        sign(&action, signers)
    }

    pub fn can(&mut self, actor: &str, contract: Option<&ContractId>, body: &Body) -> Result<(), StepError> {
        let envelope = self.envelope(actor, contract, body, &[actor]);
        self.state.check(self.now_ms, &envelope)
    }

    pub fn act(&mut self, actor: &str, contract: Option<&ContractId>, body: Body) -> Result<Hash32, StepError> {
        self.signed(actor, contract, body, &[actor])
    }

    pub fn signed(
        &mut self,
        actor: &str,
        contract: Option<&ContractId>,
        body: Body,
        signers: &[&str],
    ) -> Result<Hash32, StepError> {
        let envelope = self.envelope(actor, contract, &body, signers);
        self.push(envelope)
    }

    pub fn push(&mut self, envelope: Envelope) -> Result<Hash32, StepError> {
        let payload = Hash32(envelope.payload_hash());
        let checked = self.state.check(self.now_ms, &envelope);
        let entry = Entry::new(envelope, self.now_ms).unwrap();
        let before = self.state.clone();
        let applied = self.state.apply(self.state.next_index(), &entry);
        assert_eq!(checked, applied, "check and apply disagree");
        match applied {
            Ok(()) => self.entries.push(entry),
            Err(_) => assert_eq!(self.state, before, "a refused entry changed something"),
        }
        self.state.accounts().verify_balanced().unwrap();
        applied.map(|()| payload)
    }

    pub fn propose(&mut self, terms: Terms) -> ContractId {
        self.act("team", None, Propose { terms }.into()).unwrap()
    }

    pub fn accept_body(&self, c: &ContractId) -> Body {
        let contract = self.state.contract(c).unwrap();
        let (terms_hash, terms_version) = (contract.terms_hash, contract.terms_version);
        Accept { terms_hash, terms_version, policy_hash: hash("policy") }.into()
    }

    pub fn accept(&mut self, c: &ContractId, who: &[&str]) {
        for name in who {
            let body = self.accept_body(c);
            self.act(name, Some(c), body).unwrap();
        }
    }

    /// Acts on whatever the coordinator owes.
    pub fn due(&mut self, c: &ContractId) -> Body {
        let due = self.state.due_steps(self.now_ms).into_iter().find(|d| d.contract == *c).unwrap();
        self.act("coord", Some(c), due.body.clone()).unwrap();
        due.body
    }

    pub fn key_record(name: &str) -> Body {
        KeyRecord { verify: public(name, "job"), channel: X25519Key(hash(&format!("{name}/channel")).0) }.into()
    }

    pub fn arm(&mut self, c: &ContractId) {
        self.accept(c, &["team", "h1", "h2", "h3", "coord"]);
        self.act("team", Some(c), Fund { amount: 1100 }.into()).unwrap();
        self.due(c);
    }

    pub fn freeze(&mut self, c: &ContractId) {
        for h in HOSPITALS {
            if !self.state.contract(c).unwrap().revoked(&id(h)) {
                self.act(h, Some(c), Self::key_record(h)).unwrap();
            }
        }
        self.due(c);
    }

    pub fn receipt(stage: u32, hospitals: &[&str]) -> Body {
        StageReceipt {
            stage,
            rounds: 5,
            algorithm_digest: hash("logistic"),
            input_commitment: hash("in"),
            output_commitment: hash("out"),
            rows_requested: if hospitals.is_empty() { 0 } else { 300 },
            rows_used: if hospitals.is_empty() { 0 } else { 290 },
            rows_rejected: if hospitals.is_empty() { 0 } else { 10 },
            withheld: 0,
            hospitals: hospitals.iter().map(|h| id(h)).collect(),
            epsilon_micro_spent: 0,
        }
        .into()
    }

    pub fn stage(&mut self, c: &ContractId, stage: u32, hospitals: &[&str]) {
        self.act("coord", Some(c), StageStart { stage }.into()).unwrap();
        self.act("coord", Some(c), Self::receipt(stage, hospitals)).unwrap();
    }

    pub fn run_all(&mut self, c: &ContractId) {
        self.stage(c, 1, &HOSPITALS);
        self.stage(c, 2, &HOSPITALS);
        self.stage(c, 3, &[]);
    }

    pub fn deliver(&mut self, c: &ContractId) {
        let body = Deliver { result_commitment: hash("result"), recipient: id("team") };
        self.act("coord", Some(c), body.into()).unwrap();
    }
}

pub fn sign(action: &Action, signers: &[&str]) -> Envelope {
    let signing: Vec<SigningKey> = signers.iter().map(|s| key(s, "party")).collect();
    Envelope::sign(action, &signing.iter().collect::<Vec<_>>()).unwrap()
}

/// The reason of a refusal, as text.
pub fn why<T>(result: Result<T, StepError>) -> Reason {
    match result {
        Ok(_) => panic!("allowed"),
        Err(e) => e.reason,
    }
}

/// The same terms with another window, so that payload and text differ.
pub fn later(mut t: Terms) -> Terms {
    t.windows.run_by_ms += 1;
    t.with_text_hash()
}

/// A contract that is armed, its key directory frozen.
pub fn running() -> (World, ContractId) {
    let mut w = World::new();
    let c = w.propose(terms());
    w.arm(&c);
    w.freeze(&c);
    (w, c)
}
