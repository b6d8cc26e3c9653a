//! A contract as everybody signed it: a real ledger state with really signed entries, up to the frozen key directory.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{self, Body, ColumnRole, ColumnSpec, ColumnType};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use leben_contracts::agreement::purpose::{Permission, Purpose};
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::terms::{
    Algorithm, Delivery, Input, OnDrop, OnFailure, Param, Price, Privacy, Split, Stage, Terms, TermsParty, Windows,
};
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::merkle::{Tree, leaf_hash};
use leben_coordinator::facts::Facts;
use leben_coordinator::plan::{Patience, Plan};
use leben_coordinator::record::{self, Record};
use leben_coordinator::schedule;
use leben_models::{AlgorithmSpec, registry};
use leben_privacy::seal;
use leben_privacy::secure_sum::{self, JobKeys, Journal, Participant};
use leben_protocol::frame::ContractId;
use leben_worker::consent::{self, Admitted, Approval, Desk};
use leben_worker::declared::{Dataset, Declared, LocalPolicy};
use leben_worker::participate::Participation;

/// The log's origin.
pub const ORIGIN: &str = "simulation.leben.test/ledger";
/// When every story begins, Unix milliseconds.
pub const START_MS: u64 = 1_800_000_000_000;
/// An hour in milliseconds.
pub const HOUR_MS: u64 = 3_600_000;
/// The data set that each hospital has.
pub const DATASET: &str = "rows";

/// What is to be agreed.
#[derive(Clone, Debug)]
pub struct Deal {
    /// How many hospitals, at least 3.
    pub hospitals: u16,
    /// Fewest in a sum.
    pub hospitals_min: u16,
    /// Shares that open a secret, as the terms say.
    pub threshold: u16,
    /// What a drop means.
    pub on_drop: OnDrop,
    /// Repeats of a round.
    pub retries: u32,
    /// How long a linked hospital may be silent, milliseconds.
    pub timeout_ms: u64,
    /// How long it may be away before the others go on, milliseconds.
    pub away_ms_max: u64,
    /// The stages, each starting from the one before.
    pub stages: Vec<AlgorithmSpec>,
    /// Columns of the data set.
    pub columns: Vec<String>,
}

impl Deal {
    /// One stage over columns `a` and `b`, going on without hospitals that drop out.
    pub fn new(hospitals: u16) -> Deal {
        Deal {
            hospitals,
            hospitals_min: secure_sum::threshold(hospitals),
            threshold: secure_sum::threshold(hospitals),
            on_drop: OnDrop::Continue,
            retries: 4,
            timeout_ms: 60_000,
            away_ms_max: 15_000,
            stages: vec![AlgorithmSpec::new("standardise", [("features", "a,b")])],
            columns: vec!["a".into(), "b".into()],
        }
    }
}

/// A party's name as a typed id.
pub fn id(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

fn code(text: &str) -> Code {
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

impl Deal {
    /// What each hospital declares.
    pub fn declared(&self) -> Declared {
        let column = |name: &String| ColumnSpec {
            column: name.clone(),
            column_type: ColumnType::Number,
            unit: String::new(),
            role: ColumnRole::Feature,
            codes: Vec::new(),
        };
        let permission = Permission { duo: vec!["GRU".into()], ehds: vec!["53.1.e".into()] };
        let mut dataset = Dataset::new(code(DATASET), self.columns.iter().map(column).collect(), permission).unwrap();
        dataset.rows_rounded = Some(100);
        Declared::new(vec![dataset], Arc::new(|_, _| Err("no cohorts here".into())), LocalPolicy::new(true))
    }

    /// The terms.
    pub fn terms(&self) -> Terms {
        let seats = 1..=self.hospitals;
        let party = |name: &str, role| TermsParty { party: id(name), roles: vec![role] };
        let mut parties = vec![party("team", Role::DataUser), party("coordinator", Role::Integrator)];
        parties.extend(seats.clone().map(|seat| party(&hospital(seat), Role::DataOwner)));
        let schema_hash = self.declared().get(&code(DATASET)).unwrap().schema_hash;
        let input = |seat: u16| Input {
            id: code(&format!("in-{seat}")),
            owner: id(&hospital(seat)),
            dataset: code(DATASET),
            schema_hash,
            cohort: String::new(),
            columns: self.columns.clone(),
            row_cap: 1_000_000,
            cohort_min: 1,
        };
        let share = 10_000 / u32::from(self.hospitals + 1);
        let mut splits: Vec<Split> =
            seats.clone().map(|seat| Split { party: id(&hospital(seat)), basis_points: share }).collect();
        let rest = 10_000 - share * u32::from(self.hospitals);
        splits.push(Split { party: id("coordinator"), basis_points: rest });
        Terms {
            v: 1,
            purpose: Purpose {
                duo: vec!["HMB".into()],
                ehds: Some("53.1.e.ii".into()),
                commercial: false,
                methods_development: true,
            },
            parties,
            inputs: seats.map(input).collect(),
            algorithms: self.algorithms(),
            stages: self.stages(),
            privacy: Privacy {
                mechanism: code("none"),
                epsilon_micro: 0,
                delta_e12: 0,
                hospitals_min: self.hospitals_min,
                secure_sum: true,
                threshold: self.threshold,
            },
            price: Price { total_credits: 1000, splits, per_round: 0, deposit: 100 },
            delivery: Delivery {
                recipient: id("team"),
                sealing: sealing("team"),
                outputs: vec![code("coefficients")],
                review: false,
                delete_by_ms: START_MS + 1000 * HOUR_MS,
            },
            windows: Windows {
                sign_by_ms: START_MS + 10 * HOUR_MS,
                run_by_ms: START_MS + 100 * HOUR_MS,
                accept_within_ms: 5 * HOUR_MS,
            },
            text_hash: Hash32([0; 32]),
        }
        .with_text_hash()
    }

    fn algorithms(&self) -> Vec<Algorithm> {
        let param = |param: &leben_models::Param| match param {
            leben_models::Param::Integer(number) => Param::Integer(*number),
            leben_models::Param::Text(text) => Param::Text(text.clone()),
        };
        let algorithm = |spec: &AlgorithmSpec| Algorithm {
            id: code(&spec.name),
            name: code(&spec.name),
            version: code(&spec.version.to_string()),
            digest: Hash32(registry::digest(&spec.name, spec.version).expect("built in")),
            params: spec.params.iter().map(|(name, value)| (name.clone(), param(value))).collect(),
        };
        self.stages.iter().map(algorithm).collect()
    }

    fn stages(&self) -> Vec<Stage> {
        let stage = |(number, spec): (u32, &AlgorithmSpec)| Stage {
            id: number,
            name: code(&spec.name),
            executor: id("coordinator"),
            after: (number > 1).then_some(number - 1).into_iter().collect(),
            inputs: (1..=self.hospitals).map(|seat| code(&format!("in-{seat}"))).collect(),
            state_from: (number > 1).then_some(number - 1),
            algorithm: code(&spec.name),
            rounds_max: registry::build(spec).expect("a good spec").rounds_max(),
            timeout_ms: self.timeout_ms,
            retries: self.retries,
            on_failure: OnFailure::Abort,
            on_drop: self.on_drop,
        };
        (1..).zip(&self.stages).map(stage).collect()
    }
}

/// Signs an action as a state says, for one party or, of an enrolment, with the coordinator.
pub fn sign(state: &State, now_ms: u64, actor: &str, contract: Option<&ContractId>, body: &Body, nonce: u64) -> Envelope {
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
        let empty = Agreement { deal, terms, contract: [0; 32], state, root: [0; 32], tree: Tree::default(), now_ms: START_MS };
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
        let patience = Patience { away_ms_max: self.deal.away_ms_max };
        Plan::new(self.contract, &self.terms, &patience).unwrap()
    }

    /// What the ledger says.
    pub fn facts(&self) -> Facts {
        Facts::of(self.state.contract(&Hash32(self.contract)).unwrap())
    }

    /// What a hospital may do, by its own reading of the ledger.
    pub fn admitted(&self, name: &str) -> Admitted<consent::Plan> {
        let (me, declared) = (id(name), self.deal.declared());
        let desk = Desk { me: &me, declared: &declared, now_ms: self.now_ms };
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

