//! What makes terms valid by themselves, before anybody looks at the ledger. Each rule has its own error.

use super::party::{Code, PartyId, Role};
use super::terms::{Input, Param, Terms};
use crate::ledger::canonical::INTEGER_MAX;
use std::collections::BTreeSet;

/// Most parties, inputs, algorithms, stages, splits or parameters in one list. The entry's 32 KiB bind earlier for long names.
pub const LIST_MAX: usize = 256;
/// Most columns of one input.
pub const COLUMNS_MAX: usize = 1024;
/// Longest cohort query, column name or parameter, in bytes.
pub const TEXT_BYTES_MAX: usize = 2048;
/// Most rounds of one stage.
pub const ROUNDS_MAX: u32 = 1_000_000;
/// Largest smallest cell.
pub const CELL_MAX: u32 = 1_000_000;
/// Most tries after the first.
pub const RETRIES_MAX: u32 = 100;

/// Why terms are not valid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TermsError {
    /// Another format version.
    #[error("the terms have format version {0}; this program knows version 1")]
    Version(u32),
    /// A number beyond 2^53.
    #[error("{0} is beyond 2^53")]
    Number(&'static str),
    /// An empty list that must not be.
    #[error("the terms need at least one of `{0}`")]
    Empty(&'static str),
    /// A list that is too long.
    #[error("the terms have more than {max} `{list}`")]
    TooMany {
        /// Which list.
        list: &'static str,
        /// The limit.
        max: usize,
    },
    /// A name that appears twice.
    #[error("{name:?} appears twice in `{list}`")]
    Duplicate {
        /// Which list.
        list: &'static str,
        /// The name.
        name: String,
    },
    /// Text that is empty, too long or holds control characters.
    #[error("a text in {0} is empty, longer than {TEXT_BYTES_MAX} bytes or holds control characters")]
    Text(String),
    /// Somebody who is not among the parties.
    #[error("{party} is named as {place} but is not among the parties")]
    UnknownParty {
        /// Where.
        place: &'static str,
        /// Who.
        party: PartyId,
    },
    /// A party without a role it needs, or with one it cannot take here.
    #[error("{party} {why}")]
    Role {
        /// Who.
        party: PartyId,
        /// What is wrong.
        why: &'static str,
    },
    /// Not exactly one data user.
    #[error("the terms name {0} data users; exactly one asks and pays")]
    OneDataUser(usize),
    /// Nobody to deliver.
    #[error("the terms name no integrator; somebody has to join the parts and deliver")]
    NoIntegrator,
    /// An input whose numbers contradict each other.
    #[error("input {0}: the row cap must be at least the smallest cohort, and that at least 1")]
    Cohort(Code),
    /// An input that no stage uses: more data than the purpose needs.
    #[error("input {0} is used by no stage; leave it out")]
    UnusedInput(Code),
    /// A stage's id.
    #[error("stage {0}: ids start at 1 and increase along the list")]
    StageOrder(u32),
    /// A dependency that is not an earlier stage.
    #[error("stage {stage} depends on {after}, which is not an earlier stage")]
    Dependency {
        /// The stage.
        stage: u32,
        /// What it names.
        after: u32,
    },
    /// A state that comes from a stage it does not wait for.
    #[error("stage {stage} takes its state from {from}, which is not in its `after`")]
    StateFrom {
        /// The stage.
        stage: u32,
        /// What it names.
        from: u32,
    },
    /// An input or algorithm that is not in the terms.
    #[error("stage {stage} names {name}, which is not in `{list}`")]
    StageReference {
        /// The stage.
        stage: u32,
        /// Which list.
        list: &'static str,
        /// What it names.
        name: Code,
    },
    /// A stage's limits.
    #[error("stage {0}: rounds 1 to {ROUNDS_MAX}, retries at most {RETRIES_MAX}, a time-out of at least 1 ms")]
    StageLimits(u32),
    /// A stage with too few hospitals to hide one among.
    #[error("stage {stage} reads {owners} hospitals, fewer than the minimum of {min}")]
    StageHospitals {
        /// The stage.
        stage: u32,
        /// How many it reads.
        owners: usize,
        /// The minimum agreed.
        min: u16,
    },
    /// More than one owner without the secure sum.
    #[error("with {0} hospitals the secure sum must be on")]
    SecureSumRequired(usize),
    /// The minimum number of hospitals.
    #[error("hospitals_min must be {min} to {max}, the number of hospitals")]
    HospitalsMin {
        /// Least.
        min: u16,
        /// Most.
        max: usize,
    },
    /// The threshold of the secure sum.
    #[error(
        "the threshold must be more than half of the {0} hospitals and at most all of them; 0 without the secure sum"
    )]
    Threshold(usize),
    /// The limits of what a result may show.
    #[error(
        "disclosure: cell_min must be 1 (no limit) or 3 to {CELL_MAX}, cell_hospitals_min 1 to {max} (hospitals_min), dominance_percent at most 100"
    )]
    Disclosure {
        /// `hospitals_min`.
        max: u16,
    },
    /// Epsilon and mechanism contradict each other.
    #[error("mechanism `none` goes with epsilon 0 and delta 0; any other needs a positive epsilon and delta below 1")]
    Epsilon,
    /// The splits.
    #[error(
        "the splits sum to {0} basis points; they must sum to 10000, each positive, and be empty if nothing is paid"
    )]
    Splits(u64),
    /// The payer among the paid.
    #[error("{0} pays and cannot have a share")]
    PayerShare(PartyId),
    /// Price per round above the total.
    #[error("the price per round is above the total")]
    PerRound,
    /// Windows that are not in order.
    #[error("the windows are not in order: sign by, then run by, then delete by; the acceptance window is positive")]
    Windows,
    /// The text's hash.
    #[error("text_hash is not the hash of these terms' own text; render the text again and sign what it says")]
    TextHash,
}

impl Terms {
    /// Checks everything that can be checked without the ledger.
    ///
    /// # Errors
    /// The first rule that does not hold.
    pub fn validate(&self) -> Result<(), TermsError> {
        if self.v != 1 {
            return Err(TermsError::Version(self.v));
        }
        self.check_numbers()?;
        self.check_parties()?;
        self.check_inputs()?;
        self.check_algorithms()?;
        for (i, stage) in self.stages.iter().enumerate() {
            self.check_stage(stage, self.stages.get(..i).unwrap_or_default())?;
        }
        self.check_used()?;
        self.check_privacy()?;
        self.check_price()?;
        self.check_delivery()?;
        if self.text_hash != self.expected_text_hash() {
            return Err(TermsError::TextHash);
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<(), TermsError> {
        let w = &self.windows;
        let numbers = [
            ("epsilon_micro", self.privacy.epsilon_micro),
            ("total_credits", self.price.total_credits),
            ("deposit", self.price.deposit),
            ("per_round", self.price.per_round),
            ("sign_by_ms", w.sign_by_ms),
            ("run_by_ms", w.run_by_ms),
            ("accept_within_ms", w.accept_within_ms),
            ("delete_by_ms", self.delivery.delete_by_ms),
        ];
        match numbers.into_iter().find(|(_, n)| *n > INTEGER_MAX) {
            Some((name, _)) => Err(TermsError::Number(name)),
            None => Ok(()),
        }
    }

    fn check_parties(&self) -> Result<(), TermsError> {
        list("parties", &self.parties, LIST_MAX, |p| p.party.to_string())?;
        for p in &self.parties {
            let role = |why| Err(TermsError::Role { party: p.party.clone(), why });
            if p.roles.is_empty() {
                return role("has no role");
            }
            if p.roles.contains(&Role::Coordinator) {
                return role("cannot be `coordinator` in terms; the coordinator takes part as `integrator`");
            }
            unique("roles", p.roles.iter().map(ToString::to_string))?;
            if p.roles.contains(&Role::DataOwner) && !self.inputs.iter().any(|i| i.owner == p.party) {
                return role("is a data owner but no input is its own");
            }
        }
        let users = self.with_role(Role::DataUser).count();
        if users != 1 {
            return Err(TermsError::OneDataUser(users));
        }
        if self.with_role(Role::Integrator).next().is_none() {
            return Err(TermsError::NoIntegrator);
        }
        Ok(())
    }

    pub(super) fn known(&self, place: &'static str, party: &PartyId) -> Result<(), TermsError> {
        if self.parties.iter().any(|p| p.party == *party) {
            return Ok(());
        }
        Err(TermsError::UnknownParty { place, party: party.clone() })
    }

    fn check_inputs(&self) -> Result<(), TermsError> {
        list("inputs", &self.inputs, LIST_MAX, |i| i.id.to_string())?;
        self.inputs.iter().try_for_each(|input| self.check_input(input))
    }

    fn check_input(&self, input: &Input) -> Result<(), TermsError> {
        self.known("owner", &input.owner)?;
        if !self.has_role(&input.owner, Role::DataOwner) {
            return Err(TermsError::Role {
                party: input.owner.clone(),
                why: "owns an input but is not a data owner here",
            });
        }
        list("columns", &input.columns, COLUMNS_MAX, Clone::clone)?;
        let place = || format!("input {}", input.id);
        if !input.cohort.is_empty() {
            text(&input.cohort, place)?;
        }
        input.columns.iter().try_for_each(|c| text(c, place))?;
        if input.cohort_min == 0 || input.row_cap < input.cohort_min {
            return Err(TermsError::Cohort(input.id.clone()));
        }
        if input.row_cap > INTEGER_MAX {
            return Err(TermsError::Number("row_cap"));
        }
        Ok(())
    }

    fn check_algorithms(&self) -> Result<(), TermsError> {
        list("algorithms", &self.algorithms, LIST_MAX, |a| a.id.to_string())?;
        for algorithm in &self.algorithms {
            if algorithm.params.len() > LIST_MAX {
                return Err(TermsError::TooMany { list: "params", max: LIST_MAX });
            }
            for (key, value) in &algorithm.params {
                let place = || format!("algorithm {}", algorithm.id);
                text(key, place)?;
                match value {
                    Param::Text(t) => text(t, place)?,
                    Param::Integer(n) if n.unsigned_abs() > INTEGER_MAX => return Err(TermsError::Number("params")),
                    Param::Integer(_) => {}
                }
            }
        }
        Ok(())
    }

    fn check_privacy(&self) -> Result<(), TermsError> {
        let p = &self.privacy;
        let owners = self.owners().len();
        if owners > 1 && !p.secure_sum {
            return Err(TermsError::SecureSumRequired(owners));
        }
        let min = if p.secure_sum { 2 } else { 1 };
        if p.hospitals_min < min || usize::from(p.hospitals_min) > owners {
            return Err(TermsError::HospitalsMin { min, max: owners });
        }
        let threshold = usize::from(p.threshold);
        let threshold_ok = if p.secure_sum { threshold > owners / 2 && threshold <= owners } else { threshold == 0 };
        if !threshold_ok {
            return Err(TermsError::Threshold(owners));
        }
        for stage in self.stages.iter().filter(|s| !s.inputs.is_empty()) {
            let count = self.stage_owners(stage).len();
            if count < usize::from(p.hospitals_min) {
                return Err(TermsError::StageHospitals { stage: stage.id, owners: count, min: p.hospitals_min });
            }
        }
        let d = &p.disclosure;
        // Withheld with a minimum of 2 would mean one patient, exactly.
        let cells_ok = (1..=CELL_MAX).contains(&d.cell_min)
            && d.cell_min != 2
            && (1..=p.hospitals_min).contains(&d.cell_hospitals_min);
        if !cells_ok || d.dominance_percent > 100 {
            return Err(TermsError::Disclosure { max: p.hospitals_min });
        }
        let epsilon_ok = match p.mechanism.as_str() {
            "none" => p.epsilon_micro == 0 && p.delta_e12 == 0,
            _ => p.epsilon_micro > 0 && p.delta_e12 < 1_000_000_000_000,
        };
        if epsilon_ok { Ok(()) } else { Err(TermsError::Epsilon) }
    }

    fn check_price(&self) -> Result<(), TermsError> {
        let price = &self.price;
        if price.splits.len() > LIST_MAX {
            return Err(TermsError::TooMany { list: "splits", max: LIST_MAX });
        }
        unique("splits", price.splits.iter().map(|s| s.party.to_string()))?;
        for split in &price.splits {
            self.known("receiver of a share", &split.party)?;
            if self.payer() == Some(&split.party) {
                return Err(TermsError::PayerShare(split.party.clone()));
            }
        }
        let sum: u64 = price.splits.iter().map(|s| u64::from(s.basis_points)).sum();
        let free = price.total_credits == 0 && price.deposit == 0;
        let sum_ok = if free { price.splits.is_empty() } else { sum == 10_000 };
        if !sum_ok || price.splits.iter().any(|s| s.basis_points == 0) {
            return Err(TermsError::Splits(sum));
        }
        if price.per_round > price.total_credits {
            return Err(TermsError::PerRound);
        }
        match price.total_credits.checked_add(price.deposit) {
            Some(held) if held <= INTEGER_MAX => Ok(()),
            _ => Err(TermsError::Number("total_credits + deposit")),
        }
    }

    fn check_delivery(&self) -> Result<(), TermsError> {
        let d = &self.delivery;
        self.known("recipient", &d.recipient)?;
        list("outputs", &d.outputs, LIST_MAX, ToString::to_string)?;
        let w = &self.windows;
        let ordered = w.sign_by_ms < w.run_by_ms && w.run_by_ms < d.delete_by_ms && w.accept_within_ms > 0;
        if ordered { Ok(()) } else { Err(TermsError::Windows) }
    }
}

fn list<T>(name: &'static str, items: &[T], max: usize, key: impl Fn(&T) -> String) -> Result<(), TermsError> {
    if items.is_empty() {
        return Err(TermsError::Empty(name));
    }
    if items.len() > max {
        return Err(TermsError::TooMany { list: name, max });
    }
    unique(name, items.iter().map(key))
}

pub(super) fn unique(list: &'static str, names: impl Iterator<Item = String>) -> Result<(), TermsError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name.clone()) {
            return Err(TermsError::Duplicate { list, name });
        }
    }
    Ok(())
}

fn text(text: &str, place: impl Fn() -> String) -> Result<(), TermsError> {
    if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(TermsError::Text(place()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "terms_tests.rs"]
mod tests;
