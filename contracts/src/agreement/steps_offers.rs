//! What is offered, and the match of a request against it.

use super::accounts::{AccountId, Transfer, Unit};
use super::body::{AlgorithmOffer, ColumnRole, ColumnType, ComputeOffer, DatasetOffer, Withdraw, schema_hash};
use super::contract::dataset_key;
use super::error::{Reason, mismatch};
use super::party::{PartyId, Role};
use super::purpose::{Purpose, check_permission, permits};
use super::state::{AlgorithmRecord, Change, ComputeRecord, Dataset};
use super::step::Step;
use super::terms::{Input, Terms};
use std::collections::BTreeSet;

const COLUMNS_MAX: usize = 1024;
const TEXT_BYTES_MAX: usize = 256;

impl Step<'_> {
    fn needs_role(&self, roles: &[Role], who: &str) -> Result<(), Reason> {
        let party = self.actor_party()?;
        if roles.iter().any(|role| party.has_role(*role)) {
            return Ok(());
        }
        Err(Reason::NotEntitled { party: self.actor.clone(), who: who.to_owned() })
    }

    pub(super) fn dataset_offer(&self, body: &DatasetOffer) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.needs_role(&[Role::DataOwner], "a data owner")?;
        check_schema(body)?;
        let dataset = dataset_key(&self.actor, &body.name);
        check_permission(&body.permission).map_err(|denied| Reason::Purpose { dataset, denied })?;
        let offer =
            Dataset { owner: self.actor.clone(), payload: self.payload, index: self.index, offer: body.clone() };
        Ok(vec![Change::Dataset(Box::new(offer))])
    }

    pub(super) fn algorithm_offer(&self, body: &AlgorithmOffer) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.needs_role(&[Role::AlgorithmProvider], "an algorithm provider")?;
        let same = |r: &AlgorithmRecord| r.offer.name == body.name && r.offer.version == body.version;
        if self.state.algorithms.values().any(same) {
            return mismatch(format!("{} {} is offered already; a change is a new version", body.name, body.version));
        }
        Ok(vec![Change::Algorithm(self.payload, AlgorithmRecord { provider: self.actor.clone(), offer: body.clone() })])
    }

    pub(super) fn compute_offer(&self, body: &ComputeOffer) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        self.needs_role(&[Role::ComputeProvider], "a compute provider")?;
        if body.cores == 0 || body.memory_mib == 0 || body.seconds == 0 {
            return mismatch("a compute offer has cores, memory and seconds");
        }
        let same = |r: &ComputeRecord| r.provider == self.actor && r.offer.name == body.name;
        if self.state.computes.values().any(same) {
            return mismatch(format!("{} offers {} already; withdraw it first", self.actor, body.name));
        }
        let record = ComputeRecord { provider: self.actor.clone(), offer: body.clone() };
        let (unit, quota) = (Unit::ComputeSeconds, AccountId::budget(Unit::ComputeSeconds, &self.payload.to_string()));
        let money = self.money(&[
            Transfer::Open { id: quota.clone(), unit, guarded: true },
            Transfer::Post { debit: AccountId::outside(unit), credit: quota, amount: body.seconds },
        ])?;
        Ok(vec![Change::Compute(self.payload, record), money])
    }

    pub(super) fn withdraw_offer(&self, body: &Withdraw) -> Result<Vec<Change>, Reason> {
        self.outside_contract()?;
        let Some(id) = body.offer else {
            return mismatch("name the offer to withdraw, or the contract in `contract`");
        };
        let own =
            |party: &PartyId| if *party == self.actor { Ok(()) } else { mismatch("the offer is somebody else's") };
        if let Some((key, dataset)) = self.state.datasets.iter().find(|(_, d)| d.payload == id) {
            return own(&dataset.owner).map(|()| vec![Change::DatasetGone(key.clone())]);
        }
        if let Some(record) = self.state.algorithms.get(&id) {
            return own(&record.provider).map(|()| vec![Change::AlgorithmGone(id)]);
        }
        if let Some(record) = self.state.computes.get(&id) {
            return own(&record.provider).map(|()| vec![Change::ComputeGone(id)]);
        }
        mismatch(format!("there is no offer {id} on the ledger"))
    }

    /// Whether the terms fit the ledger: parties and roles, data sets and their permissions, algorithms by digest.
    pub(super) fn check_terms(&self, terms: &Terms) -> Result<(), Reason> {
        terms.validate()?;
        for p in &terms.parties {
            let party = self.enrolled(&p.party)?;
            if let Some(role) = p.roles.iter().find(|r| !party.has_role(**r)) {
                return Err(Reason::Role { party: p.party.clone(), role: role.to_string() });
            }
        }
        self.by("the window for signing ended at", terms.windows.sign_by_ms)?;
        let mut trains = false;
        for algorithm in &terms.algorithms {
            let same = |r: &&AlgorithmRecord| r.offer.name == algorithm.name && r.offer.version == algorithm.version;
            let Some(record) = self.state.algorithms.values().find(same) else {
                return mismatch(format!("the algorithm {} {} is not offered", algorithm.name, algorithm.version));
            };
            if record.offer.digest != algorithm.digest {
                return mismatch(format!(
                    "the algorithm {} {} has another digest on the ledger",
                    algorithm.name, algorithm.version
                ));
            }
            trains |= record.offer.trains_model;
        }
        let purpose =
            Purpose { methods_development: terms.purpose.methods_development || trains, ..terms.purpose.clone() };
        terms.inputs.iter().try_for_each(|input| self.check_input(input, &purpose))
    }

    fn check_input(&self, input: &Input, purpose: &Purpose) -> Result<(), Reason> {
        let key = dataset_key(&input.owner, &input.dataset);
        let Some(dataset) = self.state.datasets.get(&key) else {
            return mismatch(format!("the data set {key} is not offered"));
        };
        if dataset.offer.schema_hash != input.schema_hash {
            return mismatch(format!("the data set {key} has another schema on the ledger; draft the terms anew"));
        }
        for name in &input.columns {
            match dataset.offer.schema.iter().find(|c| c.column == *name) {
                None => return mismatch(format!("the data set {key} has no column {name:?}")),
                Some(c) if c.role == ColumnRole::Id => {
                    return mismatch(format!("column {name:?} of {key} identifies patients and is never computed on"));
                }
                Some(_) => {}
            }
        }
        permits(&dataset.offer.permission, purpose).map_err(|denied| Reason::Purpose { dataset: key, denied })
    }
}

fn check_schema(body: &DatasetOffer) -> Result<(), Reason> {
    if body.schema.is_empty() || body.schema.len() > COLUMNS_MAX {
        return mismatch(format!("a schema has 1 to {COLUMNS_MAX} columns"));
    }
    let plain = |t: &str| t.len() <= TEXT_BYTES_MAX && !t.chars().any(char::is_control);
    let mut names = BTreeSet::new();
    for c in &body.schema {
        if c.column.is_empty() || !plain(&c.column) || !plain(&c.unit) || !c.codes.iter().all(|t| plain(t)) {
            return mismatch(format!(
                "column {:?}: names, units and codes are short and without control characters",
                c.column
            ));
        }
        if !names.insert(&c.column) {
            return mismatch(format!("column {:?} appears twice", c.column));
        }
        if (c.column_type == ColumnType::Category) == c.codes.is_empty() {
            return mismatch(format!("column {:?}: a category lists its codes, and only a category does", c.column));
        }
    }
    if schema_hash(&body.schema)? != body.schema_hash {
        return mismatch("schema_hash is not the hash of the schema");
    }
    Ok(())
}
