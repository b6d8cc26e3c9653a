//! What is agreed: the terms of one contract. Immutable; a change is a new version that everybody signs again.
//!
//! Read `terms_check.rs` for what makes terms valid by themselves, `terms_text.rs` for the words a person signs.

use super::hash::{Hash32, X25519Key};
use super::party::{Code, PartyId, Role};
use super::purpose::Purpose;
use crate::ledger::canonical::{self, CanonicalError};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The terms of a contract. Every amount is an integer with its unit in the name; every list has a bound (`terms_check.rs`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// Format version, 1.
    pub v: u32,
    /// What the data may be used for.
    pub purpose: Purpose,
    /// Everybody concerned, with the roles they take here.
    pub parties: Vec<TermsParty>,
    /// The data.
    pub inputs: Vec<Input>,
    /// The code.
    pub algorithms: Vec<Algorithm>,
    /// The work, in an order in which it can be done.
    pub stages: Vec<Stage>,
    /// What protects each contribution.
    pub privacy: Privacy,
    /// Who pays whom.
    pub price: Price,
    /// Who receives what.
    pub delivery: Delivery,
    /// By when.
    pub windows: Windows,
    /// SHA-256 of [`Terms::text`]: a person and a machine read one contract.
    pub text_hash: Hash32,
}

/// A party and the roles it takes in this contract.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TermsParty {
    /// Its name on the ledger.
    pub party: PartyId,
    /// Its roles here; each must be among those it is enrolled with.
    pub roles: Vec<Role>,
}

/// A data set, and which part of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Name within the terms.
    pub id: Code,
    /// The hospital.
    pub owner: PartyId,
    /// The name under which the owner offers the data set.
    pub dataset: Code,
    /// The schema the offer had when the terms were written; another schema is another agreement.
    pub schema_hash: Hash32,
    /// Which rows: a cohort query, empty for all rows.
    pub cohort: String,
    /// Which columns, by name.
    pub columns: Vec<String>,
    /// Most rows that may be used.
    pub row_cap: u64,
    /// Fewest rows below which the hospital refuses, at least 1.
    pub cohort_min: u64,
}

/// A parameter of an algorithm. Real numbers are decimal strings (`"0.001"`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Param {
    /// An integer, |n| <= 2^53.
    Integer(i64),
    /// Text or a decimal number.
    Text(String),
}

/// Code by digest, with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Algorithm {
    /// Name within the terms.
    pub id: Code,
    /// The offered algorithm's name.
    pub name: Code,
    /// Its version.
    pub version: Code,
    /// Digest of its code, as offered.
    pub digest: Hash32,
    /// Its parameters.
    pub params: BTreeMap<String, Param>,
}

/// What a stage's failure, or an owner's leaving, means for the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The contract is aborted.
    Abort,
    /// The others go on.
    Continue,
}

/// What a hospital dropping out in the middle of a round means for that round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDrop {
    /// The round ends with the sum of those who took part.
    Continue,
    /// The round is repeated.
    Repeat,
}

/// One piece of work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its number, 1 or more; stages are listed in increasing order.
    pub id: u32,
    /// A readable name.
    pub name: Code,
    /// Who runs it.
    pub executor: PartyId,
    /// Stages that must be done before, each with a lower id: the graph is acyclic by construction.
    pub after: Vec<u32>,
    /// Inputs it reads, by id.
    pub inputs: Vec<Code>,
    /// The earlier stage whose output is its first state; must be in `after`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_from: Option<u32>,
    /// The algorithm, by id.
    pub algorithm: Code,
    /// Most rounds, at least 1.
    pub rounds_max: u32,
    /// Longest time of one try, milliseconds.
    pub timeout_ms: u64,
    /// Tries after the first.
    pub retries: u32,
    /// What failure means.
    pub on_failure: OnFailure,
    /// What a drop in a round means.
    pub on_drop: OnDrop,
}

/// Names of privacy mechanisms: noise of all hospitals together, of each hospital by itself, and for whole hospitals.
pub const MECHANISMS: &[&str] = &["discrete-gaussian", "dp-sgd", "silo"];

/// What protects a contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// `none`, or the differential-privacy mechanism by name: one of [`MECHANISMS`].
    pub mechanism: Code,
    /// Budget of the whole contract for each data set, in millionths of epsilon; 0 with mechanism `none`, else positive.
    pub epsilon_micro: u64,
    /// Delta in units of 10^-12.
    pub delta_e12: u64,
    /// Fewest hospitals whose sum may be opened; at least 2 with the secure sum.
    pub hospitals_min: u16,
    /// Whether only the sum over the hospitals can be read; required as soon as there is more than one owner.
    pub secure_sum: bool,
    /// Shamir threshold of the secure sum, more than half of the owners; 0 without the secure sum.
    pub threshold: u16,
    /// What a result without noise may not show.
    pub disclosure: Disclosure,
}

/// What a result may not show where no noise protects the patients; with a privacy mechanism nothing of it applies.
///
/// A row counts as a patient. Sources: Griffiths et al. 2019, *Handbook on Statistical Disclosure Control for Outputs*
/// (threshold 10, residual degrees of freedom, dominance); Hundepool et al. 2012, *Statistical Disclosure Control*
/// (p % rule, secondary suppression).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disclosure {
    /// Smallest group of patients that a result may tell about, all hospitals together; 1 allows any, 2 is none.
    pub cell_min: u32,
    /// Fewest hospitals whose patients are in such a group; 1 allows that one hospital alone fills it.
    pub cell_hospitals_min: u16,
    /// p of the p % rule, for the numbers that one hospital adds up; 0 leaves it out.
    pub dominance_percent: u16,
}

impl Default for Disclosure {
    /// Ten patients, two hospitals, 10 %.
    fn default() -> Self {
        Self { cell_min: 10, cell_hospitals_min: 2, dominance_percent: 10 }
    }
}

/// Who pays whom. Credits are the network's unit of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Most that is paid, without the deposit.
    pub total_credits: u64,
    /// Shares; sum 10,000 basis points. Empty exactly when nothing is paid.
    pub splits: Vec<Split>,
    /// If positive, only this much per completed round is earned, up to the total; if 0 the total is earned stage by stage.
    pub per_round: u64,
    /// Held beside the total and returned, unless arbiters decide against the payer.
    pub deposit: u64,
}

/// One party's share of the price.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Who.
    pub party: PartyId,
    /// Share in 1/10,000.
    pub basis_points: u32,
}

/// Who receives what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delivery {
    /// Who receives the result.
    pub recipient: PartyId,
    /// The x25519 key it is encrypted to.
    pub sealing: X25519Key,
    /// Kinds of output allowed, for example `coefficients`, `auc`.
    pub outputs: Vec<Code>,
    /// Whether a person reviews the output before it leaves.
    pub review: bool,
    /// When the recipient must have deleted it, Unix milliseconds.
    pub delete_by_ms: u64,
}

/// Deadlines; each is compared with an entry's sequenced time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Windows {
    /// Everybody has signed, and the contract is armed, by then; Unix milliseconds.
    pub sign_by_ms: u64,
    /// Everything has run and is delivered by then; Unix milliseconds.
    pub run_by_ms: u64,
    /// How long the recipient may take to accept or dispute, milliseconds; silence accepts.
    pub accept_within_ms: u64,
}

impl Terms {
    /// `SHA-256("leben/terms/1" LF canonical JSON)`: what every acceptance names.
    ///
    /// # Errors
    /// Numbers beyond 2^53, which [`Terms::validate`] would refuse too.
    pub fn hash(&self) -> Result<Hash32, CanonicalError> {
        Ok(Hash32::of("leben/terms/1", &canonical::to_bytes(self)?))
    }

    /// The terms with `text_hash` set to the hash of their own text: the last step of drafting.
    #[must_use]
    pub fn with_text_hash(mut self) -> Self {
        self.text_hash = self.expected_text_hash();
        self
    }

    /// SHA-256 of [`Terms::text`].
    #[must_use]
    pub fn expected_text_hash(&self) -> Hash32 {
        Hash32::plain(self.text().as_bytes())
    }

    /// Parties holding a role here, in the order of the terms.
    pub fn with_role(&self, role: Role) -> impl Iterator<Item = &PartyId> {
        self.parties.iter().filter(move |p| p.roles.contains(&role)).map(|p| &p.party)
    }

    /// Whether a party holds a role here.
    #[must_use]
    pub fn has_role(&self, party: &PartyId, role: Role) -> bool {
        self.with_role(role).any(|p| p == party)
    }

    /// Who has to sign, sorted: everybody but arbiters and admins, who only observe until they are called.
    #[must_use]
    pub fn signatories(&self) -> Vec<PartyId> {
        let observes = |role: &Role| matches!(role, Role::Arbiter | Role::Admin);
        let mut all: Vec<PartyId> =
            self.parties.iter().filter(|p| !p.roles.iter().all(observes)).map(|p| p.party.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// The hospitals whose data is used, sorted.
    #[must_use]
    pub fn owners(&self) -> Vec<PartyId> {
        let mut all: Vec<PartyId> = self.inputs.iter().map(|i| i.owner.clone()).collect();
        all.sort();
        all.dedup();
        all
    }

    /// Who pays: the one data user.
    #[must_use]
    pub fn payer(&self) -> Option<&PartyId> {
        self.with_role(Role::DataUser).next()
    }

    /// An input by id.
    #[must_use]
    pub fn input(&self, id: &Code) -> Option<&Input> {
        self.inputs.iter().find(|i| i.id == *id)
    }

    /// An algorithm by id.
    #[must_use]
    pub fn algorithm(&self, id: &Code) -> Option<&Algorithm> {
        self.algorithms.iter().find(|a| a.id == *id)
    }

    /// A stage by id.
    #[must_use]
    pub fn stage(&self, id: u32) -> Option<&Stage> {
        self.stages.iter().find(|s| s.id == id)
    }

    /// The hospitals whose data a stage reads, sorted.
    #[must_use]
    pub fn stage_owners(&self, stage: &Stage) -> Vec<PartyId> {
        let mut all: Vec<PartyId> =
            stage.inputs.iter().filter_map(|id| self.input(id)).map(|i| i.owner.clone()).collect();
        all.sort();
        all.dedup();
        all
    }
}
