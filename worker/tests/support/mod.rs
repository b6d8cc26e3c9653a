//! A small network for the worker's tests: the log with its real state machine and keys, three hospitals, a team. The agent
//! under test is `h1`; what the other hospitals would cosign is signed here with their keys.
#![allow(dead_code)] // each test file uses its own part

pub mod link;
pub mod private;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{ContractId, Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use leben_contracts::agreement::purpose::{Permission, Purpose};
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::terms::*;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::merkle::{self, Hash, NodeReader, leaf_hash};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner, VerifierKey};
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::tile::Builder;
use leben_models::disclosure::Limits;
use leben_models::{AlgorithmSpec, registry};
use leben_privacy::Suite;
use leben_privacy::secure_sum::{self, Directory, JobKeys, MemberKeys, Opening, Participant, RoundId, SlotKey};
use leben_protocol::frame::{JobOrder, JobReport, Network, Order, Report};
use leben_worker::agent::{Action, Agent, Setup};
use leben_worker::budget::Budgets;
use leben_worker::declared::{Dataset, Declared, Floors, LocalPolicy};
use leben_worker::mirror::{Mirror, MirrorKeys};
use leben_worker::refusal::Refusal;

pub const ORIGIN: &str = "leben.test/worker";
pub const T0: u64 = 1_800_000_000_000;
pub const HOUR: u64 = 3_600_000;
pub const HOSPITALS: [&str; 3] = ["h1", "h2", "h3"];

pub fn id(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

pub fn code(name: &str) -> Code {
    Code::new(name).unwrap()
}

pub fn hash(text: &str) -> Hash32 {
    Hash32::plain(text.as_bytes())
}

pub fn key(name: &str, use_of: &str) -> SigningKey {
    SigningKey::from_bytes(&hash(&format!("{name}/{use_of}")).0)
}

pub fn public(name: &str, use_of: &str) -> PublicKey {
    PublicKey::of(&key(name, use_of))
}

pub fn log_signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, key("coord", "log")).unwrap()
}

pub fn log_vkey() -> VerifierKey {
    log_signer().vkey().clone()
}

fn keys(name: &str) -> PartyKeys {
    PartyKeys {
        party: public(name, "party"),
        witness: Some(public(name, "witness")),
        validator: Some(public(name, "validator")),
        tls: public(name, "tls"),
    }
}

fn role(name: &str) -> Role {
    match name {
        "coord" => Role::Coordinator,
        "admin" => Role::Admin,
        "team" => Role::DataUser,
        _ => Role::DataOwner,
    }
}

pub fn columns() -> Vec<ColumnSpec> {
    let column = |name: &str, role, column_type| ColumnSpec {
        column: name.into(),
        column_type,
        unit: String::new(),
        role,
        codes: vec![],
    };
    vec![
        column("patient", ColumnRole::Id, ColumnType::Text),
        column("age", ColumnRole::Feature, ColumnType::Number),
        column("sex", ColumnRole::Feature, ColumnType::Integer),
        column("target", ColumnRole::Outcome, ColumnType::Integer),
    ]
}

pub fn permission() -> Permission {
    Permission { duo: vec!["GRU".into()], ehds: vec!["53.1.e".into()] }
}

pub fn dataset() -> Dataset {
    Dataset::new(code("heart"), columns(), permission()).unwrap()
}

pub fn declared(auto_approve: bool) -> Declared {
    let check = |query: &str, _: &[ColumnSpec]| match query.contains("??") {
        true => Err("not a condition".to_owned()),
        false => Ok(()),
    };
    let mut declared = Declared::new(vec![dataset()], Arc::new(check), LocalPolicy::new(auto_approve, Floors::NONE));
    declared.set_rows(&code("heart"), 123);
    declared
}

pub fn terms() -> Terms {
    let party = |name: &str, role| TermsParty { party: id(name), roles: vec![role] };
    let input = |owner: &str| Input {
        id: code(&format!("in-{owner}")),
        owner: id(owner),
        dataset: code("heart"),
        schema_hash: dataset().schema_hash,
        cohort: String::new(),
        columns: vec!["age".into(), "sex".into(), "target".into()],
        row_cap: 200,
        cohort_min: 10,
    };
    Terms {
        v: 1,
        purpose: Purpose {
            duo: vec!["HMB".into()],
            ehds: Some("53.1.e.ii".into()),
            commercial: false,
            methods_development: false,
        },
        parties: vec![
            party("team", Role::DataUser),
            party("h1", Role::DataOwner),
            party("h2", Role::DataOwner),
            party("h3", Role::DataOwner),
            party("coord", Role::Integrator),
        ],
        inputs: HOSPITALS.iter().map(|h| input(h)).collect(),
        algorithms: vec![Algorithm {
            id: code("scale"),
            name: code("standardise"),
            version: code("1"),
            digest: Hash32(registry::digest("standardise", 1).unwrap()),
            params: BTreeMap::from([
                ("features".into(), Param::Text("age,sex".into())),
                ("outcome".into(), Param::Text("target".into())),
            ]),
        }],
        stages: vec![Stage {
            id: 1,
            name: code("scale"),
            executor: id("coord"),
            after: vec![],
            inputs: HOSPITALS.iter().map(|h| code(&format!("in-{h}"))).collect(),
            state_from: None,
            algorithm: code("scale"),
            rounds_max: 4,
            timeout_ms: 60_000,
            retries: 1,
            on_failure: OnFailure::Abort,
            on_drop: OnDrop::Repeat,
        }],
        privacy: Privacy {
            mechanism: code("none"),
            epsilon_micro: 0,
            delta_e12: 0,
            hospitals_min: 3,
            secure_sum: true,
            threshold: 3,
            disclosure: Disclosure::default(),
        },
        price: Price { total_credits: 0, splits: vec![], per_round: 0, deposit: 0 },
        delivery: Delivery {
            recipient: id("team"),
            sealing: X25519Key(hash("team/sealing").0),
            outputs: vec![code("coefficients")],
            review: false,
            delete_by_ms: T0 + 1000 * HOUR,
        },
        windows: Windows { sign_by_ms: T0 + 10 * HOUR, run_by_ms: T0 + 20 * HOUR, accept_within_ms: 5 * HOUR },
        text_hash: hash(""),
    }
    .with_text_hash()
}

struct Leaves<'a>(&'a [Vec<u8>]);

impl NodeReader for Leaves<'_> {
    type Error = Infallible;
    fn node(&self, level: u32, index: u64) -> Result<Hash, Infallible> {
        let (from, width) = (usize::try_from(index << level).unwrap(), 1usize << level);
        let hashes: Vec<Hash> = self.0[from..from + width].iter().map(|leaf| leaf_hash(leaf)).collect();
        Ok(merkle::root_of(&hashes))
    }
}

/// The log and everybody but `h1`.
pub struct Net {
    pub now_ms: u64,
    pub leaves: Vec<Vec<u8>>,
    pub note: Option<Note>,
    /// Checkpoints that end with a change of who has to sign.
    pub turns: Vec<Note>,
    pub sequencer: Sequencer<State>,
    nonce: u128,
    /// What is found where h1 looks for its rows.
    pub cohorts: Result<(), Refusal>,
}

impl Net {
    /// Genesis only.
    pub fn empty() -> Net {
        let follower = Follower::new(ORIGIN, State::new(ORIGIN));
        let sequencer = Sequencer::new(log_signer(), Builder::default(), follower).unwrap();
        let mut net =
            Net { now_ms: T0, leaves: vec![], note: None, turns: vec![], sequencer, nonce: 0, cohorts: Ok(()) };
        let founder = |name: &str| Founder { party: id(name), keys: keys(name), sealing: X25519Key(hash(name).0) };
        let genesis = Genesis {
            origin: ORIGIN.into(),
            coordinator: founder("coord"),
            admins: vec![founder("admin")],
            log_key: public("coord", "log"),
            embeds: None,
        };
        net.act("coord", None, genesis.into(), &["coord"]).unwrap();
        net
    }

    /// Everybody enrolled; `h2` and `h3` offer their data, `h1` does it itself.
    pub fn new() -> Net {
        let mut net = Net::empty();
        for name in ["h1", "h2", "h3", "team"] {
            net.enrol(name);
        }
        net.set_policy(&HOSPITALS, 2);
        net.offer_data("h2");
        net.offer_data("h3");
        net.offer_algorithm("1", Hash32(registry::digest("standardise", 1).unwrap()));
        net
    }

    pub fn offer_data(&mut self, name: &str) {
        let offer = declared(false).iter().next().unwrap().offer().unwrap();
        self.act(name, None, offer.into(), &[name]).unwrap();
    }

    pub fn offer_algorithm(&mut self, version: &str, digest: Hash32) {
        self.offer_code("standardise", version, digest);
    }

    pub fn offer_code(&mut self, name: &str, version: &str, digest: Hash32) {
        let offer = AlgorithmOffer { name: code(name), version: code(version), digest, trains_model: false };
        self.act("coord", None, offer.into(), &["coord"]).unwrap();
    }

    pub fn enrol(&mut self, name: &str) {
        self.enrol_by(name, "coord");
    }

    pub fn enrol_by(&mut self, name: &str, coordinator: &str) {
        let kind = if name == "team" { OrgKind::Team } else { OrgKind::Hospital };
        let enrol = PartyEnrol {
            party: id(name),
            kind,
            roles: vec![role(name)],
            keys: keys(name),
            sealing: X25519Key(hash(&format!("{name}/sealing")).0),
            invite_hash: hash(&format!("{name}/invite")),
        };
        self.act(name, None, enrol.into(), &[name, coordinator]).unwrap();
    }

    /// Signed by those in force as well, without whom none of them can be dropped.
    pub fn set_policy(&mut self, validators: &[&str], quorum: u32) {
        let validators = validators.iter().map(|name| id(name)).collect();
        let before = self.state().policy().map_or_else(Vec::new, |policy| policy.validators.clone());
        let signers: Vec<&str> = std::iter::once("coord").chain(before.iter().map(PartyId::as_str)).collect();
        self.act("coord", None, PolicyChange { validators, quorum }.into(), &signers).unwrap();
    }

    pub fn state(&self) -> &State {
        self.sequencer.state()
    }

    pub fn contract(&self, contract: &ContractId) -> &Contract {
        self.state().contract(contract).unwrap()
    }

    /// Signs and appends; the payload's hash, or why not.
    pub fn act(
        &mut self,
        actor: &str,
        contract: Option<&ContractId>,
        body: Body,
        signers: &[&str],
    ) -> Result<Hash32, String> {
        self.nonce += 1;
        let party = id(actor);
        let header = Header {
            actor: &party,
            role: role(actor),
            now_ms: self.now_ms,
            valid_ms: HOUR,
            nonce: self.nonce.to_be_bytes(),
        };
        let action = self.state().draft(&body, contract, &header).unwrap();
        let keys: Vec<SigningKey> = signers.iter().map(|name| key(name, "party")).collect();
        let envelope = Envelope::sign(&action, &keys.iter().collect::<Vec<_>>()).unwrap();
        let payload = Hash32(envelope.payload_hash());
        self.append(&envelope.to_bytes()).map(|_| payload)
    }

    pub fn append(&mut self, envelope: &[u8]) -> Result<u64, String> {
        let staged = self.sequencer.stage(self.now_ms, &[envelope.to_vec()]).unwrap();
        self.leaves.extend(staged.entries.iter().map(|entry| entry.bytes().to_vec()));
        for turn in &staged.turns {
            self.turns.push(self.sequencer.sign(turn.size, turn.root).unwrap());
        }
        if let Some(batch) = staged.batch {
            self.note = Some(batch.note);
        }
        staged.results.into_iter().next().unwrap().map_err(|error| error.to_string())
    }

    pub fn propose(&mut self, terms: Terms) -> ContractId {
        self.act("team", None, Propose { terms }.into(), &["team"]).unwrap()
    }

    pub fn accept(&mut self, contract: &ContractId, who: &[&str]) {
        for name in who {
            let known = self.contract(contract);
            let (terms_hash, terms_version) = (known.terms_hash, known.terms_version);
            let body = Accept { terms_hash, terms_version, policy_hash: hash("their policy") };
            // The coordinator signs as the integrator that it is in these terms.
            self.act(name, Some(contract), body.into(), &[name]).unwrap();
        }
    }

    /// What the coordinator owes.
    pub fn due(&mut self, contract: &ContractId) {
        let due = self.state().due_steps(self.now_ms).into_iter().find(|due| due.contract == *contract).unwrap();
        self.act("coord", Some(contract), due.body, &["coord"]).unwrap();
    }

    pub fn key_record(&mut self, contract: &ContractId, name: &str) {
        let keys = JobKeys::from_seed(hash(&format!("{name}/job")).0).public();
        let record =
            KeyRecord { verify: PublicKey::from_bytes(&keys.verify).unwrap(), channel: X25519Key(keys.channel) };
        self.act(name, Some(contract), record.into(), &[name]).unwrap();
    }

    /// A consistency proof between two sizes.
    pub fn proof(&self, from: u64, to: u64) -> Vec<Hash> {
        let Ok(proof) = merkle::consistency(&Leaves(&self.leaves), from, to);
        proof
    }

    /// The body of an add-checkpoint request for everything so far.
    pub fn cosign_body(&self, old_size: u64) -> Vec<u8> {
        let size = self.leaves.len() as u64;
        let Ok(proof) = merkle::consistency(&Leaves(&self.leaves), old_size, size);
        AddCheckpoint::new(old_size, proof, self.note.clone().unwrap()).unwrap().to_string().into_bytes()
    }

    /// The newest checkpoint with these hospitals' cosignatures.
    pub fn certificate(&self, cosigners: &[&str]) -> Vec<u8> {
        self.with_lines(self.note.clone().unwrap(), cosigners)
    }

    /// The certificates of turns beyond this size, with these hospitals' cosignatures.
    pub fn turns(&self, beyond: u64, cosigners: &[&str]) -> Vec<Vec<u8>> {
        let beyond = |note: &&Note| Checkpoint::of(note).unwrap().size > beyond;
        self.turns.iter().filter(beyond).map(|note| self.with_lines(note.clone(), cosigners)).collect()
    }

    fn with_lines(&self, mut note: Note, cosigners: &[&str]) -> Vec<u8> {
        for name in cosigners {
            let signer = NoteSigner::new(name, KeyType::Cosignature, key(name, "validator")).unwrap();
            note.push(signer.sign(note.text(), self.now_ms / 1000)).unwrap();
        }
        note.to_string().into_bytes()
    }

    pub fn welcome(&self) -> Order {
        let network = Network {
            origin: ORIGIN.into(),
            log_vkey: log_vkey().to_string(),
            size: self.leaves.len() as u64,
            now_ms: self.now_ms,
        };
        Order::Welcome { version: 1, network }
    }

    /// Everything new to the agent: entries, cosignature, certificate. What it does comes back.
    pub fn bring(&mut self, agent: &mut Agent) -> Vec<Action> {
        let from = agent.mirror().size();
        let leaves = self.leaves[usize::try_from(from).unwrap()..].to_vec();
        agent.handle_order(self.now_ms, Order::Entries { first_index: from, leaves });
        agent.handle_order(self.now_ms, Order::Cosign { body: self.cosign_body(from) });
        for note in self.turns(agent.mirror().certified_size(), &["h2", "h3"]) {
            agent.handle_order(self.now_ms, Order::Publish { note });
        }
        agent.handle_order(self.now_ms, Order::Publish { note: self.certificate(&["h2", "h3"]) });
        follows_its_own(agent.mirror());
        drain(agent)
    }

    /// Brings, appends what the agent signs, and so on, until nothing new comes. Everything it did.
    pub fn settle(&mut self, agent: &mut Agent) -> Vec<Action> {
        let mut all = Vec::new();
        loop {
            let mut actions = std::collections::VecDeque::from(self.bring(agent));
            let mut appended = false;
            while let Some(action) = actions.pop_front() {
                if let Action::Append { key, envelope } = &action {
                    let index = self.append(envelope).unwrap_or_else(|error| panic!("{key}: {error}"));
                    agent.handle_appended(self.now_ms, key, Ok(index));
                    appended = true;
                }
                if let Action::CheckCohorts(terms_hash, _) = &action {
                    agent.handle_cohorts(self.now_ms, terms_hash, self.cohorts.clone());
                }
                all.push(action);
                actions.extend(drain(agent));
            }
            if !appended {
                return all;
            }
        }
    }
}

/// What the copy follows entry by entry is what looking through all contracts finds.
pub fn follows_its_own(mirror: &Mirror) {
    let mine = |contract: &&Contract| contract.terms.inputs.iter().any(|input| input.owner.as_str() == "h1");
    let ids = |found: Vec<&Contract>| found.iter().map(|contract| contract.id).collect::<Vec<_>>();
    assert_eq!(
        ids(mirror.recent_contracts().collect()),
        ids(mirror.certified().recent_contracts().filter(mine).collect())
    );
    assert_eq!(ids(mirror.open_contracts().collect()), ids(mirror.certified().open_contracts().filter(mine).collect()));
}

pub fn drain(agent: &mut Agent) -> Vec<Action> {
    std::iter::from_fn(|| agent.poll_action()).collect()
}

pub fn mirror_keys(name: &str) -> MirrorKeys {
    MirrorKeys { witness: key(name, "witness"), validator: key(name, "validator") }
}

pub fn new_mirror() -> Mirror {
    Mirror::new(&log_vkey(), "h1", mirror_keys("h1"), None).unwrap()
}

pub fn setup(auto_approve: bool) -> Setup {
    Setup {
        party: id("h1"),
        party_key: key("h1", "party"),
        declared: declared(auto_approve),
        mirror: new_mirror(),
        standings: BTreeMap::new(),
        jobs: BTreeMap::new(),
        budgets: Budgets::default(),
        seed: [7; 32],
    }
}

/// A linked agent that has seen everything.
pub fn linked(net: &mut Net, auto_approve: bool) -> Agent {
    let mut agent = Agent::new(setup(auto_approve));
    agent.handle_order(net.now_ms, net.welcome());
    net.settle(&mut agent);
    agent
}

/// A network, an agent, and a contract that waits for a decision.
pub fn proposed(auto_approve: bool) -> (Net, Agent, ContractId) {
    let mut net = Net::new();
    let mut agent = linked(&mut net, auto_approve);
    let contract = net.propose(terms());
    net.settle(&mut agent);
    (net, agent, contract)
}

/// The same, signed by everybody, armed, with the agent's keys and the others' on the ledger and the directory frozen.
pub fn frozen() -> (Net, Agent, ContractId, Vec<Action>) {
    let (mut net, mut agent, contract) = proposed(true);
    net.accept(&contract, &["h2", "h3", "team", "coord"]);
    net.settle(&mut agent);
    net.due(&contract);
    let actions = net.settle(&mut agent);
    net.key_record(&contract, "h2");
    net.key_record(&contract, "h3");
    net.due(&contract);
    net.settle(&mut agent);
    (net, agent, contract, actions)
}

pub fn reports(actions: &[Action]) -> Vec<&Report> {
    actions.iter().filter_map(|action| if let Action::Report(report) = action { Some(report) } else { None }).collect()
}

/// What the coordinator and the other hospitals do in a slot.
pub struct Others {
    participants: Vec<Participant>,
    keys: Vec<SlotKey>,
    directory: Directory,
}

impl Others {
    pub fn new(net: &Net, contract: &ContractId, slot: u64) -> Others {
        let frozen = net.contract(contract).directory.as_ref().unwrap();
        let member = |m: &Member| secure_sum::Member {
            index: m.index,
            hospital: m.party.to_string(),
            keys: MemberKeys { verify: m.verify.to_bytes(), channel: m.channel.0 },
        };
        let members = frozen.members.iter().map(member).collect();
        let directory = Directory { job: contract.0, members, threshold: frozen.threshold };
        let join = |(index, name): (u16, &str)| {
            let keys = JobKeys::from_seed(hash(&format!("{name}/job")).0);
            Participant::new(keys, index, directory.clone(), 3, Default::default()).unwrap()
        };
        let mut participants: Vec<Participant> = [(2, "h2"), (3, "h3")].into_iter().map(join).collect();
        let keys = participants.iter_mut().map(|p| p.advertise(slot, [p.index() as u8; 32])).collect();
        Others { participants, keys, directory }
    }

    /// Takes the agent through its key and its shares, and makes the order that opens the slot.
    pub fn open(&mut self, net: &Net, agent: &mut Agent, contract: [u8; 32], slot: u64) -> (Order, Vec<u8>) {
        let job = |order| Order::Job { contract, order };
        agent.handle_order(net.now_ms, job(JobOrder::Advertise { slot }));
        let actions = drain(agent);
        let mine = reports(&actions).iter().find_map(|report| match report {
            Report::Job { report: JobReport::Advertised(key), .. } => Some(key.clone()),
            _ => None,
        });
        let mut keys = vec![mine.unwrap_or_else(|| panic!("no key in {actions:#?}"))];
        keys.extend(self.keys.clone());
        agent.handle_order(net.now_ms, job(JobOrder::Keys { slot, keys: keys.clone() }));
        let actions = drain(agent);
        let mut sealed: Vec<_> = reports(&actions)
            .iter()
            .find_map(|report| match report {
                Report::Job { report: JobReport::Shares { sealed, .. }, .. } => Some(sealed.clone()),
                _ => None,
            })
            .unwrap();
        for participant in &mut self.participants {
            sealed.extend(participant.share(slot, &keys, [5; 32]).unwrap());
        }
        let named = net.contract(&Hash32(contract)).terms.algorithms[0].clone();
        let param = |param: Param| match param {
            Param::Integer(number) => leben_models::Param::Integer(number),
            Param::Text(text) => leben_models::Param::Text(text),
        };
        let params = named.params.into_iter().map(|(key, value)| (key, param(value))).collect();
        let spec = AlgorithmSpec { name: named.name.to_string(), version: 1, params };
        let algorithm = registry::controlled(&spec, Limits::default()).unwrap();
        let state = algorithm.start(None).unwrap();
        let layout = algorithm.layout(&state, 3).unwrap();
        let root = leben_contracts::ledger::checkpoint::Checkpoint::of(net.note.as_ref().unwrap()).unwrap().root;
        let opening = Opening {
            job: self.directory.job,
            epoch: 1,
            slot,
            round_id: RoundId { stage: 1, round: 1 },
            contract,
            model_digest: state.digest().unwrap(),
            cohort: keys,
            layout_digest: layout.digest(),
            hospitals_max: 3,
            suite: Suite::default(),
            checkpoint: root,
        };
        let sealed = sealed.into_iter().filter(|share| share.to == 1).collect();
        let bytes = state.to_bytes().unwrap();
        let order = JobOrder::Open { opening: Box::new(opening), sealed, state_bytes: bytes.len() as u64 };
        (job(order), bytes)
    }
}
