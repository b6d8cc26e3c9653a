//! Four hospitals, a coordinator, an admin and a team on one ledger, every action really signed, every checkpoint really
//! cosigned. No network.
#![allow(dead_code, reason = "each test file uses its part of the world")]

use std::path::Path;

use ed25519_dalek::SigningKey;
use leben::home::{Home, Seeds};
use leben::offers::{BudgetLeft, Offers, Set};
use leben::receipt::commitment;
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{ContractId, Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use leben_contracts::agreement::purpose::Permission;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::merkle::{leaf_hash, root_of};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::store::Mirror;
use leben_contracts::ledger::turn::Turns;
use leben_models::registry;
use leben_protocol::invite::Invite;
use zeroize::Zeroizing;

pub const ORIGIN: &str = "leben.test/heart";
pub const T0: u64 = 1_800_000_000_000;
pub const HOSPITALS: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];

/// A program that runs on by itself, and ends with the test.
pub struct Running(pub std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
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

pub fn seed(name: &str, use_of: &str) -> [u8; 32] {
    hash(&format!("{name}/{use_of}")).0
}

pub fn key(name: &str, use_of: &str) -> SigningKey {
    SigningKey::from_bytes(&seed(name, use_of))
}

pub fn public(name: &str, use_of: &str) -> PublicKey {
    PublicKey::of(&key(name, use_of))
}

fn keys(name: &str) -> PartyKeys {
    let validator = HOSPITALS.contains(&name).then(|| public(name, "validator"));
    PartyKeys { party: public(name, "party"), witness: None, validator, tls: public(name, "tls") }
}

pub fn sealing(name: &str) -> X25519Key {
    X25519Key(leben_protocol::seal::public_of(&seed(name, "sealing")))
}

fn role(name: &str) -> Role {
    match name {
        "coordinator" => Role::Coordinator,
        "admin" => Role::Admin,
        "team" => Role::DataUser,
        _ => Role::DataOwner,
    }
}

/// The raw UCI columns, and the outcome that each hospital derives.
pub fn heart() -> DatasetOffer {
    use ColumnRole::{Feature, Id, Outcome};
    use ColumnType::{Category, Integer, Number};
    let one = |column: &str, column_type, unit: &str, role, codes: &[i64]| ColumnSpec {
        column: column.into(),
        column_type,
        unit: unit.into(),
        role,
        codes: codes.iter().map(i64::to_string).collect(),
    };
    let schema = vec![
        one("patient", Integer, "", Id, &[]),
        one("age", Number, "a", Feature, &[]),
        one("sex", Category, "", Feature, &[0, 1]),
        one("cp", Category, "", Feature, &[1, 2, 3, 4]),
        one("trestbps", Number, "mm[Hg]", Feature, &[]),
        one("chol", Number, "mg/dL", Feature, &[]),
        one("note", ColumnType::Text, "", Feature, &[]),
        one("num", Integer, "", Outcome, &[]),
        one("target", Category, "", Outcome, &[0, 1]),
    ];
    DatasetOffer {
        name: code("heart"),
        schema_hash: schema_hash(&schema).unwrap(),
        schema,
        rows_rounded: 200,
        permission: Permission { duo: vec!["HMB".into()], ehds: vec!["53.1.e".into()] },
        price_hint: None,
    }
}

pub fn algorithm_offers() -> Vec<AlgorithmOffer> {
    let offer = |entry: registry::Entry| AlgorithmOffer {
        name: code(entry.name),
        version: code(&entry.version.to_string()),
        digest: Hash32(entry.digest),
        trains_model: entry.name == "glm",
    };
    registry::all().into_iter().map(offer).collect()
}

pub fn offers() -> Offers {
    let budget = BudgetLeft { left_micro: 7_000_000, limit_micro: 10_000_000, delta_e12: 1_000_000 };
    let sets = HOSPITALS.map(|owner| Set { owner: id(owner), offer: heart(), budget: Some(budget) });
    let mut parties: Vec<PartyId> = ["admin", "coordinator", "team"].iter().chain(&HOSPITALS).map(|n| id(n)).collect();
    parties.sort();
    Offers {
        me: id("team"),
        sealing: sealing("team").0,
        coordinator: id("coordinator"),
        parties,
        sets: sets.to_vec(),
        algorithms: algorithm_offers(),
    }
}

#[derive(Clone)]
pub struct World {
    pub state: State,
    pub leaves: Vec<Vec<u8>>,
    pub now_ms: u64,
    nonce: u128,
}

impl World {
    /// Everybody enrolled, data and code offered, three of four hospitals a quorum, 20,000 credits with the team.
    pub fn new() -> World {
        World::at(T0)
    }

    /// The same, at another time.
    pub fn at(now_ms: u64) -> World {
        let mut world = World { state: State::new(ORIGIN), leaves: vec![], now_ms, nonce: 0 };
        let founder = |name: &str| Founder { party: id(name), keys: keys(name), sealing: sealing(name) };
        let (coordinator, admins, log_key) =
            (founder("coordinator"), vec![founder("admin")], public("coordinator", "log"));
        world.act("coordinator", None, Genesis { origin: ORIGIN.into(), coordinator, admins, log_key, embeds: None });
        for name in HOSPITALS.iter().chain(&["team"]) {
            let kind = if *name == "team" { OrgKind::Team } else { OrgKind::Hospital };
            let body = PartyEnrol {
                party: id(name),
                kind,
                roles: vec![role(name)],
                keys: keys(name),
                sealing: sealing(name),
                invite_hash: hash(&format!("{name}/invite")),
            };
            world.signed(name, None, body, &[name, "coordinator"]);
        }
        world.act("coordinator", None, PolicyChange { validators: HOSPITALS.map(id).to_vec(), quorum: 3 });
        for hospital in HOSPITALS {
            world.act(hospital, None, heart());
        }
        for offer in algorithm_offers() {
            world.nonce += 1;
            let actor = id("coordinator");
            let header = world.header(&actor, Role::AlgorithmProvider);
            let action = world.state.draft(&offer.into(), None, &header).unwrap();
            world.push(Envelope::sign(&action, &[&key("coordinator", "party")]).unwrap());
        }
        world.act("admin", None, Deposit { party: id("team"), credits: 20_000, receipt_hash: hash("bank") });
        world
    }

    pub fn header<'a>(&self, actor: &'a PartyId, role: Role) -> Header<'a> {
        Header { actor, role, now_ms: self.now_ms, valid_ms: 3_600_000, nonce: self.nonce.to_be_bytes() }
    }

    pub fn act(&mut self, actor: &str, contract: Option<&ContractId>, body: impl Into<Body>) -> Hash32 {
        self.signed(actor, contract, body, &[actor])
    }

    pub fn signed(
        &mut self,
        actor: &str,
        contract: Option<&ContractId>,
        body: impl Into<Body>,
        signers: &[&str],
    ) -> Hash32 {
        self.nonce += 1;
        let party = id(actor);
        let action = self.state.draft(&body.into(), contract, &self.header(&party, role(actor))).unwrap();
        let keys: Vec<SigningKey> = signers.iter().map(|name| key(name, "party")).collect();
        self.push(Envelope::sign(&action, &keys.iter().collect::<Vec<_>>()).unwrap())
    }

    pub fn push(&mut self, envelope: Envelope) -> Hash32 {
        let payload = Hash32(envelope.payload_hash());
        let entry = Entry::new(envelope, self.now_ms).unwrap();
        self.state.apply(self.state.next_index(), &entry).unwrap();
        self.leaves.push(entry.bytes().to_vec());
        payload
    }

    /// Whatever the coordinator owes on a contract.
    pub fn due(&mut self, contract: &ContractId) {
        let due = self.state.due_steps(self.now_ms).into_iter().find(|due| due.contract == *contract).unwrap();
        self.act("coordinator", Some(contract), due.body);
    }

    /// Everybody but the team signs.
    pub fn accept_all(&mut self, contract: &ContractId) {
        let terms_hash = self.state.contract(contract).unwrap().terms_hash;
        for who in HOSPITALS.iter().chain(&["coordinator"]) {
            self.act(who, Some(contract), Accept { terms_hash, terms_version: 1, policy_hash: hash("policy") });
        }
    }

    /// Everything that the hospitals and the coordinator record until the result is delivered.
    pub fn run(&mut self, contract: &ContractId, result: &[u8]) {
        for hospital in HOSPITALS {
            let verify = PublicKey::of(&key(hospital, "job"));
            self.act(hospital, Some(contract), KeyRecord { verify, channel: X25519Key(seed(hospital, "channel")) });
        }
        self.due(contract);
        let terms = self.state.contract(contract).unwrap().terms.clone();
        for stage in &terms.stages {
            self.act("coordinator", Some(contract), StageStart { stage: stage.id });
            let receipt = StageReceipt {
                stage: stage.id,
                rounds: 2,
                algorithm_digest: terms.algorithm(&stage.algorithm).unwrap().digest,
                input_commitment: hash("in"),
                output_commitment: hash("out"),
                rows_requested: 920,
                rows_used: 920,
                rows_rejected: 0,
                withheld: 0,
                hospitals: HOSPITALS.map(id).to_vec(),
                epsilon_micro_spent: 0,
            };
            self.act("coordinator", Some(contract), receipt);
        }
        let body = Deliver { result_commitment: commitment(result), recipient: id("team") };
        self.act("coordinator", Some(contract), body);
    }

    /// The checkpoint of everything so far, cosigned by these hospitals.
    pub fn note(&self, cosigners: &[&str]) -> Note {
        note(&self.leaves, cosigners)
    }

    /// The certificates of turns from this size on, cosigned by these hospitals.
    pub fn certificates(&self, from: u64, cosigners: &[&str]) -> Vec<Note> {
        let sizes = turn_sizes(&self.leaves).into_iter().filter(|size| *size > from);
        sizes.map(|size| note(&self.leaves[..usize::try_from(size).unwrap()], cosigners)).collect()
    }

    /// Publishes everything so far.
    pub fn publish(&self, public: &Path, state: &Path, cosigners: &[&str]) {
        publish(&self.leaves, self.state.witness_policy().as_ref(), public, state, cosigners);
    }
}

pub fn log_signer() -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, key("coordinator", "log")).unwrap()
}

pub fn note(leaves: &[Vec<u8>], cosigners: &[&str]) -> Note {
    note_by(&log_signer(), leaves, cosigners)
}

pub fn note_by(log: &NoteSigner, leaves: &[Vec<u8>], cosigners: &[&str]) -> Note {
    let hashes: Vec<_> = leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    assert!(hashes.len() <= 256, "root_of is for one tile");
    let mut tree = leben_contracts::ledger::merkle::Tree::default();
    hashes.iter().for_each(|hash| tree.append(*hash));
    if hashes.len().is_power_of_two() {
        assert_eq!(tree.root(), root_of(&hashes));
    }
    let mut note = Note::new(Checkpoint::new(ORIGIN, leaves.len() as u64, tree.root()).to_string()).unwrap();
    note.push(log.sign(note.text(), 0)).unwrap();
    for name in cosigners {
        let signer = NoteSigner::new(name, KeyType::Cosignature, key(name, "validator")).unwrap();
        note.push(signer.sign(note.text(), T0 / 1000)).unwrap();
    }
    note
}

/// Sizes of the logs that end with a change of who has to sign. Leaves that break the rules end it.
pub fn turn_sizes(leaves: &[Vec<u8>]) -> Vec<u64> {
    let (mut state, mut turns, mut sizes) = (State::new(ORIGIN), Turns::default(), vec![]);
    for (index, leaf) in (0..).zip(leaves) {
        let Ok(entry) = Entry::parse(leaf) else { break };
        if state.apply(index, &entry).is_err() {
            break;
        }
        sizes.extend(turns.step(&entry.action().kind, || state.witness_policy()).map(|_| index + 1));
    }
    sizes
}

pub fn publish(leaves: &[Vec<u8>], policy: Option<&Policy>, public: &Path, state: &Path, cosigners: &[&str]) {
    let mut mirror = Mirror::open(public, state, log_signer().vkey()).unwrap();
    let note = note(leaves, cosigners);
    let from = usize::try_from(mirror.next_index()).unwrap();
    mirror.append(&leaves[from..], &note).unwrap();
    for size in turn_sizes(leaves) {
        let note = self::note(&leaves[..usize::try_from(size).unwrap()], &HOSPITALS);
        mirror.publish_certificate(&note).unwrap();
    }
    mirror.publish(&note).unwrap();
    if let Some(policy) = policy {
        mirror.publish_policy(policy).unwrap();
    }
}

pub fn invite() -> Invite {
    Invite {
        address: "127.0.0.1:1".into(),
        coordinator_key: hex::encode(key("coordinator", "tls").verifying_key().to_bytes()),
        origin: ORIGIN.into(),
        log_vkey: log_signer().vkey().to_string(),
        party: "team".into(),
        kind: "team".into(),
        code: "0123456789abcdef".into(),
    }
}

pub fn home(root: &Path) -> Home {
    home_with(root, &invite())
}

pub fn home_with(root: &Path, invite: &Invite) -> Home {
    let seed = |use_of: &str| Zeroizing::new(seed("team", use_of));
    Home::create(root, invite, &Seeds { party: seed("party"), tls: seed("tls"), sealing: seed("sealing") }).unwrap()
}

/// A result as a coordinator delivers it.
pub fn bundle(contract: &ContractId) -> Vec<u8> {
    let outcome = serde_json::json!({
        "algorithm": "glm", "version": 1, "title": "binomial regression of 'target'",
        "rows": {"requested": 920, "used": 920, "rejected": {}},
        "tables": [{"name": "coefficients_original", "note": "for one unit of each term", "columns": ["estimate", "se"],
            "rows": [{"label": "age", "values": [0.0578820561971075, 0.00934930960477587]}]}],
        "figures": {"deviance": 883.512044333464}, "curves": [], "trace": [], "warnings": ["a word to the wise"],
    });
    let stage = serde_json::json!({"id": 2, "name": "fit", "rounds": 5, "hospitals": HOSPITALS, "trace": [883.5], "outcome": outcome});
    serde_json::to_vec(&serde_json::json!({"v": 1, "contract": contract.to_string(), "salt": "00", "stages": [stage]}))
        .unwrap()
}
