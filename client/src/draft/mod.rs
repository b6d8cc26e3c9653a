//! From a job file to terms that a hospital can sign: names are looked up in what the ledger offers, code becomes a digest,
//! "14 days" becomes a date. Every wrong thing is named with its line and with what exists instead.

mod check;
mod private;
mod stages;

use leben_contracts::agreement::hash::{Hash32, X25519Key};
use leben_contracts::agreement::party::{Code, PartyId, Role};
use leben_contracts::agreement::terms::{Delivery, Input, Price, Privacy, Split, Terms, TermsParty, Windows};

use self::stages::{Built, input_id};
use crate::job::{At, DataSet, Job, Problem};
use crate::offers::{Offers, Set};

/// Fewest hospitals in a secure sum.
const HOSPITALS_MIN: u64 = 3;

/// An annotated job file: `regression` (every key), `heart` (the tutorial's) or `private` (the same data, with
/// differential privacy).
pub fn template(name: &str) -> Option<&'static str> {
    match name {
        "regression" => Some(include_str!("../../examples/regression.toml")),
        "heart" => Some(include_str!("../../examples/heart.toml")),
        "private" => Some(include_str!("../../examples/private.toml")),
        _ => None,
    }
}

/// Makes terms of a job.
///
/// `now_ms` (Unix milliseconds) turns the job's spans into dates.
///
/// # Errors
/// Everything that does not fit, in the order of the file's lines.
pub fn draft(job: &Job, offers: &Offers, now_ms: u64) -> Result<Terms, Vec<Problem>> {
    let none = Code::new("none").map_err(|error| vec![job.purpose_at.problem(error.to_string())])?;
    let mut drafting =
        Drafting { job, offers, none, noiseless: Vec::new(), complete: true, problems: Vec::new(), shared: Vec::new() };
    let terms = drafting.terms(now_ms);
    let mut problems = drafting.problems;
    let told = |one: Shared| one.at.problem(format!("{} {}{}", one.before, one.sets.join(", "), one.after));
    problems.extend(drafting.shared.into_iter().map(told));
    if problems.is_empty()
        && let Err(error) = terms.validate()
    {
        // Each rule has its check above; this one says so if a rule was added since.
        problems.push(Problem { line: 1, key: "job file".into(), why: error.to_string() });
    }
    problems.sort_by_key(|problem| problem.line);
    problems.dedup();
    if problems.is_empty() { Ok(terms) } else { Err(problems) }
}

struct Drafting<'a> {
    job: &'a Job,
    offers: &'a Offers,
    /// The mechanism's name where there is none.
    none: Code,
    /// Algorithms of stages that release without noise, or whose noise does not fit, and why.
    noiseless: Vec<Problem>,
    /// Whether every data set was found; if not, what depends on who owns them is not complained about as well.
    complete: bool,
    problems: Vec<Problem>,
    /// Problems of several data sets at one place: said once, with all their names.
    shared: Vec<Shared>,
}

/// `BEFORE name, name AFTER`.
struct Shared {
    at: At<()>,
    before: String,
    after: String,
    sets: Vec<String>,
}

impl<'a> Drafting<'a> {
    fn complain<T>(&mut self, at: &At<T>, why: impl Into<String>) {
        self.problems.push(at.problem(why));
    }

    fn complain_of(&mut self, at: &At<()>, before: String, set: &Set, after: String) {
        let same = |one: &&mut Shared| one.at == *at && one.before == before && one.after == after;
        match self.shared.iter_mut().find(same) {
            Some(one) => one.sets.push(set.name()),
            None => self.shared.push(Shared { at: at.clone(), before, after, sets: vec![set.name()] }),
        }
    }

    fn terms(&mut self, now_ms: u64) -> Terms {
        let sets: Vec<(&DataSet, &Set)> =
            self.job.data.iter().filter_map(|data| Some((data, self.set(data)?))).collect();
        self.complete = sets.len() == self.job.data.len();
        let built = self.algorithms();
        let stages = self.stages(&built);
        let inputs = self.inputs(&sets, &built);
        let mut owners: Vec<PartyId> = sets.iter().map(|(_, set)| set.owner.clone()).collect();
        owners.sort();
        owners.dedup();
        self.check_purpose(&sets);
        self.check_units(&sets, &inputs);
        self.check_model(&sets);
        let (run_by_ms, windows) = self.windows(now_ms);
        let privacy = self.privacy(&owners);
        self.check_private(&privacy, &sets, &built, owners.len());
        let terms = Terms {
            v: 1,
            purpose: self.job.purpose.clone(),
            parties: self.parties(&owners),
            inputs,
            algorithms: built.into_iter().flatten().map(|built| built.algorithm).collect(),
            stages,
            privacy,
            price: self.price(&owners),
            delivery: self.delivery(run_by_ms),
            windows,
            text_hash: Hash32([0; 32]),
        };
        terms.with_text_hash()
    }

    fn set(&mut self, data: &DataSet) -> Option<&'a Set> {
        let name = &data.set.value;
        if name.is_empty() {
            return None;
        }
        let found = self.offers.sets.iter().find(|set| set.name() == *name);
        if found.is_none() {
            let names: Vec<String> = self.offers.sets.iter().map(Set::name).collect();
            self.complain(&data.set, check::unknown("data set", name, &names));
        }
        let first = self.job.data.iter().find(|other| other.set.value == *name);
        if first.is_some_and(|first| !std::ptr::eq(first, data)) {
            self.complain(&data.set, format!("'{name}' is named twice"));
            return None;
        }
        found
    }

    fn inputs(&mut self, sets: &[(&DataSet, &Set)], built: &[Option<Built>]) -> Vec<Input> {
        let mut inputs = Vec::new();
        for (data, set) in sets {
            let columns = self.columns(data, set, built);
            let place = self.job.data.iter().position(|other| std::ptr::eq(other, *data)).unwrap_or(0);
            let Some(id) = input_id(place, &data.set.value) else { continue };
            let used = |stage: &crate::job::Stage| {
                stage.data.as_ref().is_none_or(|names| names.iter().any(|name| name.value == data.set.value))
            };
            if !self.job.stages.is_empty() && !self.job.stages.iter().any(used) {
                self.complain(&data.set, "no stage reads this data set; take it out, or name it in a stage's data");
            }
            if data.row_cap < data.cohort_min {
                self.complain(&data.set, format!("row_cap {} is below cohort_min {}", data.row_cap, data.cohort_min));
            }
            if data.cohort.len() > 2048 || data.cohort.chars().any(char::is_control) {
                self.complain(&data.set, "its cohort is longer than 2048 bytes or holds control characters");
            }
            inputs.push(Input {
                id,
                owner: set.owner.clone(),
                dataset: set.offer.name.clone(),
                schema_hash: set.offer.schema_hash,
                cohort: data.cohort.clone(),
                columns,
                row_cap: data.row_cap,
                cohort_min: data.cohort_min,
            });
        }
        inputs
    }

    fn parties(&mut self, owners: &[PartyId]) -> Vec<TermsParty> {
        let offers = self.offers;
        let one = |party: &PartyId, role| TermsParty { party: party.clone(), roles: vec![role] };
        let mut parties = vec![one(&offers.me, Role::DataUser), one(&offers.coordinator, Role::Integrator)];
        for owner in owners {
            match parties.iter_mut().find(|known| known.party == *owner) {
                Some(known) => known.roles.push(Role::DataOwner),
                None => parties.push(one(owner, Role::DataOwner)),
            }
        }
        for arbiter in &self.job.arbiters {
            let Some(known) = offers.parties.iter().find(|party| party.as_str() == arbiter.value) else {
                let names: Vec<String> = offers.parties.iter().map(ToString::to_string).collect();
                self.complain(arbiter, check::unknown("party", &arbiter.value, &names));
                continue;
            };
            match parties.iter_mut().find(|party| party.party == *known) {
                Some(party) if party.roles.contains(&Role::Arbiter) => {
                    self.complain(arbiter, format!("'{known}' is named twice"));
                }
                Some(party) => party.roles.push(Role::Arbiter),
                None => parties.push(one(known, Role::Arbiter)),
            }
        }
        parties
    }

    fn windows(&self, now_ms: u64) -> (u64, Windows) {
        let asked = &self.job.windows;
        let run_by_ms = now_ms.saturating_add(asked.run_within_ms);
        let sign_by_ms = now_ms.saturating_add(asked.sign_within_ms);
        (run_by_ms, Windows { sign_by_ms, run_by_ms, accept_within_ms: asked.accept_within_ms })
    }

    fn delivery(&mut self, run_by_ms: u64) -> Delivery {
        let asked = &self.job.delivery;
        let outputs: Vec<Code> = asked.outputs.iter().filter_map(|output| self.code(output)).collect();
        for (i, output) in asked.outputs.iter().enumerate() {
            if asked.outputs.iter().take(i).any(|other| other.value == output.value) {
                self.complain(output, format!("'{}' is named twice", output.value));
            }
        }
        Delivery {
            recipient: self.offers.me.clone(),
            sealing: X25519Key(self.offers.sealing),
            outputs,
            review: asked.review,
            delete_by_ms: run_by_ms.saturating_add(asked.delete_after_ms),
        }
    }

    fn privacy(&mut self, owners: &[PartyId]) -> Privacy {
        let asked = &self.job.privacy;
        let count = owners.len() as u64;
        let secure_sum = count > 1;
        // So many that signatures alone keep two sets of hospitals from being shown different closes. Fewer, down to more than
        // half, are enough where each close is put on the ledger: one entry a round buys tolerance of more losses.
        let half = if secure_sum { count / 2 + 1 } else { 0 };
        let two_thirds = if secure_sum { count * 2 / 3 + 1 } else { 0 };
        let threshold = asked.threshold.as_ref().map_or(two_thirds, |at| at.value);
        let least = if secure_sum { 2 } else { 1 };
        let hospitals_min = asked.hospitals_min.as_ref().map_or(two_thirds.max(least), |at| at.value);
        if let Some(at) = asked
            .hospitals_min
            .as_ref()
            .filter(|_| self.complete)
            .filter(|at| !(least..=count.max(least)).contains(&at.value))
        {
            self.complain(at, format!("must be {least} to {count}, the number of hospitals in data.sets"));
        }
        if let Some(at) = asked
            .threshold
            .as_ref()
            .filter(|_| self.complete)
            .filter(|at| !(half..=count.max(half)).contains(&at.value))
        {
            self.complain(
                at,
                format!("must be {half} to {count}: more than half of the {count} hospitals (below {two_thirds} each round is an entry on the ledger)"),
            );
        }
        if let Some(first) = self.job.data.first().filter(|_| self.complete && count < HOSPITALS_MIN) {
            let why = format!("names {count} hospital(s); a sum needs {HOSPITALS_MIN}, or one could be read out of it");
            self.complain(&first.set, why);
        }
        self.check_stage_hospitals(hospitals_min);
        let (mechanism, epsilon_micro, delta_e12) = self.promise();
        Privacy {
            mechanism,
            epsilon_micro,
            delta_e12,
            hospitals_min: u16::try_from(hospitals_min).unwrap_or(u16::MAX),
            secure_sum,
            threshold: u16::try_from(threshold).unwrap_or(u16::MAX),
            disclosure: self.disclosure(hospitals_min),
        }
    }

    fn price(&mut self, owners: &[PartyId]) -> Price {
        let asked = &self.job.price;
        let paid = asked.total > 0 || asked.deposit > 0;
        let splits = match (&asked.splits, paid) {
            (None, false) => Vec::new(),
            (None, true) => equal_splits(owners),
            (Some(splits), _) => self.splits(splits),
        };
        let sum: u64 = splits.iter().map(|split| u64::from(split.basis_points)).sum();
        if !paid && asked.splits.as_ref().is_some_and(|splits| !splits.is_empty()) {
            self.complain(
                &asked.at,
                "shares are given, but total and deposit are 0; set a total or take the splits out",
            );
        } else if paid
            && sum != 10_000
            && self.complete
            && asked.splits.as_ref().is_none_or(|all| all.len() == splits.len())
        {
            self.complain(&asked.at, format!("the splits sum to {sum}; they are in 1/10,000 and must sum to 10000"));
        }
        if asked.per_round > asked.total {
            self.complain(&asked.at, format!("per_round {} is above the total {}", asked.per_round, asked.total));
        }
        if asked.total.saturating_add(asked.deposit) > 1 << 53 {
            self.complain(&asked.at, "total and deposit together are above 2^53");
        }
        Price { total_credits: asked.total, splits, per_round: asked.per_round, deposit: asked.deposit }
    }

    fn splits(&mut self, asked: &[(At<String>, u32)]) -> Vec<Split> {
        let mut splits = Vec::new();
        for (party, basis_points) in asked {
            let concerned = self.concerned();
            match concerned.iter().find(|known| known.as_str() == party.value) {
                Some(known) if *known == self.offers.me => {
                    self.complain(party, format!("'{known}' pays and cannot have a share"));
                }
                Some(known) => splits.push(Split { party: known.clone(), basis_points: *basis_points }),
                None if !self.complete => {}
                None => {
                    let names: Vec<String> = concerned.iter().map(ToString::to_string).collect();
                    self.complain(party, check::unknown("party of this job", &party.value, &names));
                }
            }
        }
        splits
    }

    /// Everybody the terms will name.
    fn concerned(&self) -> Vec<PartyId> {
        let offers = self.offers;
        let named = self.job.data.iter().filter_map(|data| offers.sets.iter().find(|set| set.name() == data.set.value));
        let arbiters = self.job.arbiters.iter().filter_map(|at| PartyId::new(&at.value).ok());
        let mut all: Vec<PartyId> = named.map(|set| set.owner.clone()).chain(arbiters).collect();
        all.extend([offers.me.clone(), offers.coordinator.clone()]);
        all.sort();
        all.dedup();
        all
    }
}

fn equal_splits(owners: &[PartyId]) -> Vec<Split> {
    let count = u32::try_from(owners.len()).unwrap_or(u32::MAX).max(1);
    let (each, rest) = (10_000 / count, 10_000 % count);
    let share =
        |(place, party): (u32, &PartyId)| Split { party: party.clone(), basis_points: each + u32::from(place < rest) };
    (0..).zip(owners).map(share).collect()
}
