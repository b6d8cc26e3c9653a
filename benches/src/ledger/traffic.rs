//! What is recorded: contracts on their way from Propose to Settle, three data owners each, every action signed by whom it concerns.
//!
//! Thirteen groups of contracts are under way, each one step ahead of the next, so that every wave holds each kind of step. One
//! contract is 19 entries: Propose, five Accepts, Fund, Arm, three KeyRecords, RoundFreeze, two times StageStart and StageReceipt,
//! Deliver, AcceptResult, Settle.

use std::collections::{BTreeMap, VecDeque};

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{ContractId, Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use leben_contracts::agreement::purpose::{Permission, Purpose};
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::terms::*;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::key::PublicKey;
use rayon::prelude::*;

use crate::Failure;

/// Steps of one contract.
pub(super) const STEPS: usize = 13;
/// Entries of one contract.
pub(super) const ENTRIES: usize = 19;

const HOUR_MS: u64 = 3_600_000;
const OWNERS: [&str; 3] = ["owner-1", "owner-2", "owner-3"];
const TEAM: &str = "team";
/// The coordinator's party.
pub(super) const COORDINATOR: &str = "coordinator";

fn id(name: &str) -> Result<PartyId, Failure> {
    Ok(PartyId::new(name)?)
}

fn code(name: &str) -> Result<Code, Failure> {
    Ok(Code::new(name)?)
}

fn hash(text: &str) -> Hash32 {
    Hash32::plain(text.as_bytes())
}

fn role(name: &str) -> Role {
    match name {
        COORDINATOR => Role::Coordinator,
        "admin" => Role::Admin,
        TEAM => Role::DataUser,
        _ => Role::DataOwner,
    }
}

/// A key made from a name: nothing here is worth keeping.
pub(super) fn key(name: &str, use_of: &str) -> SigningKey {
    SigningKey::from_bytes(&hash(&format!("{name}/{use_of}")).0)
}

/// A party's public keys, all made from its name.
pub(super) fn keys(name: &str, validates: bool) -> PartyKeys {
    let public = |use_of: &str| PublicKey::of(&key(name, use_of));
    PartyKeys {
        party: public("party"),
        witness: validates.then(|| public("witness")),
        validator: validates.then(|| public("validator")),
        tls: public("tls"),
    }
}

/// Where something sealed for a party would go.
pub(super) fn sealing(name: &str) -> X25519Key {
    X25519Key(hash(&format!("{name}/sealing")).0)
}

/// An action to be drafted and signed.
struct Wish {
    actor: &'static str,
    contract: Option<ContractId>,
    body: Body,
}

/// Who writes, and the contracts under way.
pub(super) struct Traffic {
    coordinator: SigningKey,
    parties: BTreeMap<&'static str, SigningKey>,
    nonce: u128,
    groups: VecDeque<Vec<ContractId>>,
    group_len: usize,
}

impl Traffic {
    /// Groups of `group_len` contracts. The coordinator's own steps are signed with its key.
    pub(super) fn new(coordinator: SigningKey, group_len: usize) -> Traffic {
        let parties = OWNERS.into_iter().chain([TEAM]).map(|name| (name, key(name, "party"))).collect();
        Traffic { coordinator, parties, nonce: 0, groups: VecDeque::new(), group_len }
    }

    /// The same parties with other contracts, and nonces of their own.
    pub(super) fn again(other: &Traffic, group_len: usize) -> Traffic {
        let nonce = other.nonce + (1 << 64);
        Traffic { nonce, ..Traffic::new(other.coordinator.clone(), group_len) }
    }

    /// Groups of `group_len` contracts on a log on which the parties are already; `run` tells their nonces from those of other runs.
    pub(super) fn numbered(coordinator: SigningKey, group_len: usize, run: u128) -> Traffic {
        Traffic { nonce: run << 80, ..Traffic::new(coordinator, group_len) }
    }

    fn key_of(&self, actor: &str) -> &SigningKey {
        self.parties.get(actor).unwrap_or(&self.coordinator)
    }

    fn sign(&self, state: &State, now_ms: u64, nonce: u128, wish: &Wish, new: bool) -> Result<Envelope, Failure> {
        let actor = id(wish.actor)?;
        let header =
            Header { actor: &actor, role: role(wish.actor), now_ms, valid_ms: HOUR_MS, nonce: nonce.to_be_bytes() };
        let action = state.draft(&wish.body, wish.contract.as_ref(), &header)?;
        let mut signers = vec![self.key_of(wish.actor)];
        if new {
            signers.push(&self.coordinator);
        }
        Ok(Envelope::sign(&action, &signers)?)
    }

    /// Enrolments, an algorithm, data sets and money: to be recorded one after the other before anything else.
    pub(super) fn prelude(&mut self, state: &State, now_ms: u64) -> Result<Vec<Vec<u8>>, Failure> {
        let mut out = Vec::new();
        for name in OWNERS.into_iter().chain([TEAM]) {
            let kind = if name == TEAM { OrgKind::Team } else { OrgKind::Hospital };
            let body = PartyEnrol {
                party: id(name)?,
                kind,
                roles: vec![role(name)],
                keys: keys(name, false),
                sealing: sealing(name),
                invite_hash: hash(&format!("{name}/invite")),
            };
            self.nonce += 1;
            let wish = Wish { actor: name, contract: None, body: body.into() };
            out.push(self.sign(state, now_ms, self.nonce, &wish, true)?.to_bytes());
        }
        let algorithm = AlgorithmOffer {
            name: code("bench-logistic")?,
            version: code("1")?,
            digest: hash("bench-logistic"),
            trains_model: true,
        };
        let deposit = Deposit { party: id(TEAM)?, credits: 1 << 50, receipt_hash: hash("bank") };
        let mut wishes = vec![
            Wish { actor: COORDINATOR, contract: None, body: algorithm.into() },
            Wish { actor: COORDINATOR, contract: None, body: deposit.into() },
        ];
        for owner in OWNERS {
            wishes.push(Wish { actor: owner, contract: None, body: offer()?.into() });
        }
        for wish in wishes {
            self.nonce += 1;
            out.push(self.sign(state, now_ms, self.nonce, &wish, false)?.to_bytes());
        }
        Ok(out)
    }

    /// The next wave: the next step of every contract under way, and a new group. Those that are settled leave.
    pub(super) fn wave(&mut self, state: &State, now_ms: u64) -> Result<Vec<Vec<u8>>, Failure> {
        let mut wishes = Vec::new();
        for (at, group) in self.groups.iter().enumerate() {
            let step = self.groups.len() - at;
            for contract in group {
                wishes.extend(self.steps(state, contract, step)?);
            }
        }
        let proposals = (0..self.group_len).map(|_| {
            let body = Propose { terms: terms(now_ms)? };
            Ok(Wish { actor: TEAM, contract: None, body: body.into() })
        });
        let proposals = proposals.collect::<Result<Vec<_>, Failure>>()?;
        let known = wishes.len();
        wishes.extend(proposals);
        let first = self.nonce;
        self.nonce += wishes.len() as u128;
        let this = &*self;
        let sign = |(at, wish): (usize, &Wish)| this.sign(state, now_ms, first + 1 + at as u128, wish, false);
        let signed: Vec<Envelope> = wishes.par_iter().enumerate().map(sign).collect::<Result<_, Failure>>()?;
        let new = signed.iter().skip(known).map(|envelope| Hash32(envelope.payload_hash())).collect();
        self.groups.push_back(new);
        if self.groups.len() == STEPS {
            self.groups.pop_front();
        }
        Ok(signed.iter().map(Envelope::to_bytes).collect())
    }

    fn steps(&self, state: &State, contract: &ContractId, step: usize) -> Result<Vec<Wish>, Failure> {
        let known = state.contract(contract).ok_or("a contract is not on the ledger")?;
        let wish = |actor: &'static str, body: Body| Wish { actor, contract: Some(*contract), body };
        let owners = || OWNERS.into_iter();
        let accept = || {
            let (terms_hash, terms_version) = (known.terms_hash, known.terms_version);
            Accept { terms_hash, terms_version, policy_hash: hash("policy") }
        };
        let start = |stage: u32| vec![wish(COORDINATOR, StageStart { stage }.into())];
        Ok(match step {
            1 => owners().chain([TEAM, COORDINATOR]).map(|name| wish(name, accept().into())).collect(),
            2 => vec![wish(TEAM, known.fund_body().ok_or("nothing to fund")?.into())],
            3 => vec![wish(COORDINATOR, known.arm_body()?.into())],
            4 => owners()
                .map(|name| {
                    let job = format!("{contract}/{name}");
                    let record = KeyRecord { verify: PublicKey::of(&key(&job, "job")), channel: sealing(&job) };
                    wish(name, record.into())
                })
                .collect(),
            5 => vec![wish(COORDINATOR, known.freeze_body().ok_or("keys are missing")?.into())],
            6 => start(1),
            7 => vec![wish(COORDINATOR, receipt(1, &OWNERS)?.into())],
            8 => start(2),
            9 => vec![wish(COORDINATOR, receipt(2, &[])?.into())],
            10 => {
                let deliver = Deliver { result_commitment: hash("result"), recipient: id(TEAM)? };
                vec![wish(COORDINATOR, deliver.into())]
            }
            11 => vec![wish(TEAM, AcceptResult {}.into())],
            _ => vec![wish(COORDINATOR, state.settle_body(contract).ok_or("nothing to settle")?)],
        })
    }
}

fn offer() -> Result<DatasetOffer, Failure> {
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
    Ok(DatasetOffer {
        name: code("breast")?,
        schema_hash: schema_hash(&schema)?,
        schema,
        rows_rounded: 100,
        permission: Permission { duo: vec!["GRU".into()], ehds: vec!["53.1.e".into()] },
        price_hint: Some(100),
    })
}

fn input(owner: &str) -> Result<Input, Failure> {
    Ok(Input {
        id: code(&format!("in-{owner}"))?,
        owner: id(owner)?,
        dataset: code("breast")?,
        schema_hash: offer()?.schema_hash,
        cohort: String::new(),
        columns: vec!["radius".into(), "malignant".into()],
        row_cap: 200,
        cohort_min: 10,
    })
}

fn stage(n: u32, name: &str, after: &[u32], inputs: &[&str], on_failure: OnFailure) -> Result<Stage, Failure> {
    Ok(Stage {
        id: n,
        name: code(name)?,
        executor: id(COORDINATOR)?,
        after: after.to_vec(),
        inputs: inputs.iter().map(|owner| code(&format!("in-{owner}"))).collect::<Result<_, _>>()?,
        state_from: after.last().copied(),
        algorithm: code("fit")?,
        rounds_max: 30,
        timeout_ms: 60_000,
        retries: 1,
        on_failure,
        on_drop: OnDrop::Continue,
    })
}

fn terms(now_ms: u64) -> Result<Terms, Failure> {
    let party = |name: &str, roles: &[Role]| Ok(TermsParty { party: id(name)?, roles: roles.to_vec() });
    let split = |name: &str, basis_points| Ok(Split { party: id(name)?, basis_points });
    let mut parties = vec![party(TEAM, &[Role::DataUser])];
    parties.extend(OWNERS.map(|owner| party(owner, &[Role::DataOwner])));
    parties.push(party(COORDINATOR, &[Role::Integrator]));
    let splits = [("owner-1", 3333), ("owner-2", 3333), ("owner-3", 2334), (COORDINATOR, 1000)];
    let terms = Terms {
        v: 1,
        purpose: Purpose {
            duo: vec!["HMB".into()],
            ehds: Some("53.1.e.ii".into()),
            commercial: false,
            methods_development: true,
        },
        parties: parties.into_iter().collect::<Result<_, Failure>>()?,
        inputs: OWNERS.into_iter().map(input).collect::<Result<_, _>>()?,
        algorithms: vec![Algorithm {
            id: code("fit")?,
            name: code("bench-logistic")?,
            version: code("1")?,
            digest: hash("bench-logistic"),
            params: BTreeMap::from([
                ("lambda".into(), Param::Text("0.001".into())),
                ("seed".into(), Param::Integer(7)),
            ]),
        }],
        stages: vec![
            stage(1, "fit", &[], &OWNERS, OnFailure::Continue)?,
            stage(2, "join", &[1], &[], OnFailure::Abort)?,
        ],
        privacy: Privacy {
            mechanism: code("none")?,
            epsilon_micro: 0,
            delta_e12: 0,
            hospitals_min: 2,
            secure_sum: true,
            threshold: 2,
            disclosure: Disclosure::default(),
        },
        price: Price {
            total_credits: 1000,
            splits: splits.into_iter().map(|(name, part)| split(name, part)).collect::<Result<_, Failure>>()?,
            per_round: 0,
            deposit: 100,
        },
        delivery: Delivery {
            recipient: id(TEAM)?,
            sealing: sealing(TEAM),
            outputs: vec![code("coefficients")?],
            review: false,
            delete_by_ms: now_ms + 1000 * HOUR_MS,
        },
        windows: Windows {
            sign_by_ms: now_ms + 10 * HOUR_MS,
            run_by_ms: now_ms + 200 * HOUR_MS,
            accept_within_ms: 5 * HOUR_MS,
        },
        text_hash: Hash32([0; 32]),
    };
    Ok(terms.with_text_hash())
}

fn receipt(stage: u32, hospitals: &[&str]) -> Result<StageReceipt, Failure> {
    let rows = |n: u64| if hospitals.is_empty() { 0 } else { n };
    Ok(StageReceipt {
        stage,
        rounds: 5,
        algorithm_digest: hash("bench-logistic"),
        input_commitment: hash("in"),
        output_commitment: hash("out"),
        rows_requested: rows(300),
        rows_used: rows(290),
        rows_rejected: rows(10),
        withheld: 0,
        hospitals: hospitals.iter().map(|name| id(name)).collect::<Result<_, _>>()?,
        epsilon_micro_spent: 0,
    })
}
