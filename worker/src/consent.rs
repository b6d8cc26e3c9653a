//! May this hospital sign, publish keys, compute? Pure, and default deny: only this file makes an [`Admitted`].
//!
//! The coordinator is taken for hostile. Everything is read from this hospital's own replay of the certified part of the
//! ledger, its own declarations and its own approvals; an order is only ever compared with them. Three gates, each
//! wider than the next: [`review`] (may it be signed), [`ready`] (is it executable, and did this hospital sign and
//! approve exactly this), [`admit`] (is the key directory frozen with this hospital in it).

mod stages;

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::state::State;
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::{Input, Terms};
use leben_models::Algorithm;
use leben_privacy::secure_sum::{Directory, FixedClose, Member, MemberKeys, Opening, RoundId};
use leben_protocol::frame::ContractId;

use crate::budget::Budgets;
use crate::budget::ask::is_private;
use crate::declared::{Declared, Floors};
use crate::refusal::{Reason, Refusal};

pub(crate) use stages::{algorithms, plan_stages};

/// Something that passed every check of this file. Nothing else can make one.
#[derive(Clone, Debug)]
pub struct Admitted<T>(T);

impl<T> Deref for Admitted<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

/// One stage that reads this hospital's data.
#[derive(Clone)]
pub struct StagePlan {
    /// Its id in the terms.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The code, with its parameters as signed.
    pub algorithm: Arc<dyn Algorithm>,
    /// The input it reads here.
    pub input: Input,
    /// Most rounds that were signed.
    pub rounds_max: u32,
}

impl fmt::Debug for StagePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StagePlan({} {}, {} rounds at most)", self.id, self.name, self.rounds_max)
    }
}

/// What the terms order of this hospital.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The contract.
    pub contract: ContractId,
    /// Stages that read this hospital's data.
    pub stages: Vec<StagePlan>,
    /// Fewest hospitals in a sum.
    pub hospitals_min: u16,
    /// Everything has run by then, Unix milliseconds.
    pub run_by_ms: u64,
    /// Who receives the result.
    pub recipient: String,
    /// What for: DUO codes as signed.
    pub purpose: Vec<String>,
    /// Whether the terms name a privacy mechanism: every round is then counted against the budget.
    pub private: bool,
}

/// A draft with its frozen key directory: all that a job needs.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What was signed.
    pub draft: Draft,
    /// Everybody who can take part, with their keys, as frozen on the ledger.
    pub directory: Directory,
    /// This hospital's Shamir point.
    pub me: u16,
}

impl Deref for Plan {
    type Target = Draft;
    fn deref(&self) -> &Draft {
        &self.draft
    }
}

/// A steward's, or the local policy's, decision about one version of the terms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    /// [`Terms::hash`] of what was shown.
    pub terms_hash: Hash32,
    /// Hash of the local policy under which it was decided.
    pub policy_hash: Hash32,
}

/// Who asks, and what this hospital knows by itself.
pub struct Desk<'a> {
    /// This hospital.
    pub me: &'a PartyId,
    /// What it declares.
    pub declared: &'a Declared,
    /// What its data sets may still release.
    pub budgets: &'a Budgets,
    /// Unix milliseconds.
    pub now_ms: u64,
}

impl Draft {
    /// A stage that was signed and reads this hospital's data.
    pub fn stage(&self, id: u32) -> Result<&StagePlan, Refusal> {
        let missing =
            || Refusal::new(Reason::UnknownStage, format!("stage {id} is not one that reads this hospital's data"));
        self.stages.iter().find(|stage| stage.id == id).ok_or_else(missing)
    }
}

impl Plan {
    /// Does the order to open a slot keep to what was signed? The secure sum checks keys, shares and masks after this.
    pub fn allows(&self, opening: &Opening) -> Result<(), Refusal> {
        let wrong = |words: String| Err(Refusal::new(Reason::Opening, words));
        if opening.contract != self.contract || opening.job != self.directory.job {
            return wrong("the opening is for another contract".into());
        }
        let stage = self.stage(opening.round_id.stage)?;
        let round = opening.round_id.round;
        if round < 1 || round > stage.rounds_max {
            let words =
                format!("round {round} of stage '{}'; rounds 1 to {} were signed", stage.name, stage.rounds_max);
            return Err(Refusal::new(Reason::Rounds, words));
        }
        if usize::from(opening.hospitals_max) != self.directory.members.len() {
            let (said, have) = (opening.hospitals_max, self.directory.members.len());
            return wrong(format!("the encoding is sized for {said} hospitals, the frozen directory has {have}"));
        }
        let seats: BTreeSet<u16> = opening.cohort.iter().map(|key| key.hospital_index).collect();
        if seats.len() != opening.cohort.len() || !seats.iter().all(|seat| self.directory.member(*seat).is_some()) {
            return wrong("a hospital is in the cohort twice, or is not in the frozen directory".into());
        }
        if seats.len() < usize::from(self.hospitals_min) {
            let words =
                format!("{} hospitals are in the cohort, the terms ask for {}", seats.len(), self.hospitals_min);
            return Err(Refusal::new(Reason::FewHospitals, words));
        }
        Ok(())
    }
}

/// May this hospital sign these terms? Everything that can be judged before anybody signs.
pub fn review(contract: &Contract, desk: &Desk<'_>) -> Result<Draft, Refusal> {
    let terms = contract.terms.as_ref();
    let mine: Vec<&Input> = terms.inputs.iter().filter(|input| input.owner == *desk.me).collect();
    if mine.is_empty() {
        return Err(Refusal::new(Reason::NotOwner, "no data set of this hospital is in the terms"));
    }
    let private = check_protection(terms)?;
    check_disclosure(terms, &mine, &desk.declared.policy.floors, private)?;
    for input in &mine {
        check_input(terms, input, desk)?;
        check_private(input, desk, private)?;
    }
    let stages = plan_stages(terms, desk.me)?;
    desk.budgets.review(desk.me, contract, &stages)?;
    if desk.now_ms > terms.windows.run_by_ms {
        return Err(Refusal::new(Reason::TooLate, "the time in which everything had to run is over"));
    }
    Ok(Draft {
        contract: contract.id.0,
        stages,
        hospitals_min: terms.privacy.hospitals_min,
        run_by_ms: terms.windows.run_by_ms,
        recipient: terms.delivery.recipient.to_string(),
        purpose: terms.purpose.duo.clone(),
        private,
    })
}

/// Is the contract executable, signed by everybody, and approved here word for word?
pub fn ready(state: &State, id: &ContractId, desk: &Desk<'_>, approval: Option<&Approval>) -> Result<Draft, Refusal> {
    let unknown = || {
        let words = "this hospital's certified copy of the ledger has no such contract; it may not be final yet";
        Refusal::new(Reason::UnknownContract, words)
    };
    let contract = state.contract(&Hash32(*id)).ok_or_else(unknown)?;
    check_phase(contract)?;
    if contract.revoked(desk.me) {
        return Err(Refusal::new(Reason::Revoked, "this hospital took its data out of the contract"));
    }
    let Some(accept) = contract.accepts.get(desk.me) else {
        return Err(Refusal::new(Reason::NotAccepted, "this hospital's signature is not on the ledger"));
    };
    if !contract.missing_accepts().is_empty() || contract.armed.is_none() {
        return Err(Refusal::new(Reason::NotSigned, "not every signature is on the ledger"));
    }
    let Some(approval) = approval else {
        let words = "nobody approved it here; see `leben-worker contracts`, then `leben-worker approve`";
        return Err(Refusal::new(Reason::NotApproved, words));
    };
    if approval.terms_hash != contract.terms_hash || approval.policy_hash != accept.policy_hash {
        return Err(Refusal::new(Reason::OtherTerms, "other terms, or another local policy, were approved here"));
    }
    let draft = review(contract, desk)?;
    if let Some(differs) = desk.budgets.distrusted(&contract.id) {
        return Err(differs.clone());
    }
    if draft.private && !desk.budgets.is_held(desk.me, contract) {
        return Err(Refusal::new(Reason::Budget, "no privacy budget is held here for these terms"));
    }
    Ok(draft)
}

/// May this hospital compute? `keys` are those it made for this job.
pub fn admit(
    state: &State,
    id: &ContractId,
    desk: &Desk<'_>,
    approval: Option<&Approval>,
    keys: &MemberKeys,
) -> Result<Admitted<Plan>, Refusal> {
    let draft = ready(state, id, desk, approval)?;
    let no_directory = || Refusal::new(Reason::NoDirectory, "the key directory of the job is not frozen yet");
    let contract = state.contract(&Hash32(*id)).ok_or_else(no_directory)?;
    let frozen = contract.directory.as_ref().ok_or_else(no_directory)?;
    let members = frozen.members.iter().map(|member| Member {
        index: member.index,
        hospital: member.party.to_string(),
        keys: MemberKeys { verify: member.verify.to_bytes(), channel: member.channel.0 },
    });
    let directory = Directory { job: *id, members: members.collect(), threshold: frozen.threshold };
    check_directory(contract, &directory)?;
    let mine = directory.members.iter().find(|member| member.hospital == desk.me.as_str());
    let Some(mine) = mine.filter(|member| member.keys == *keys) else {
        let words = "the frozen directory lacks this hospital, or holds keys that are not the ones on its disk";
        return Err(Refusal::new(Reason::DirectoryKeys, words));
    };
    let me = mine.index;
    Ok(Admitted(Plan { draft, directory, me }))
}

/// The last close of a job that the ledger holds, with the seats of the frozen directory.
pub fn fixed_close(contract: &Contract) -> Option<FixedClose> {
    let (close, directory) = (contract.round_close.as_ref()?, contract.directory.as_ref()?);
    let members = directory.members.iter().filter(|member| close.survivors.contains(&member.party));
    let survivors = members.map(|member| member.index).collect();
    let round_id = RoundId { stage: close.stage, round: close.round };
    Some(FixedClose { slot: close.slot.into(), round_id, survivors, transcript: close.transcript.0 })
}

fn check_phase(contract: &Contract) -> Result<(), Refusal> {
    match contract.phase {
        Phase::Executable | Phase::Running => Ok(()),
        Phase::Suspended => Err(Refusal::new(Reason::Suspended, "the contract is suspended")),
        phase => Err(Refusal::new(Reason::NotExecutable, format!("the contract is {phase}, not executable"))),
    }
}

/// Whether the terms name a privacy mechanism.
fn check_protection(terms: &Terms) -> Result<bool, Refusal> {
    if !terms.privacy.secure_sum {
        let words = "the terms do without the secure sum; this hospital never sends a vector that others can read";
        return Err(Refusal::new(Reason::SecureSumOff, words));
    }
    is_private(terms)
}

/// Do the terms keep small groups out of a result as this hospital asks?
fn check_disclosure(terms: &Terms, mine: &[&Input], floors: &Floors, private: bool) -> Result<(), Refusal> {
    if floors.review && !terms.delivery.review {
        let words = "the terms let the result go without a review; worker.toml, [disclosure], asks for one";
        return Err(Refusal::new(Reason::Disclosure, words));
    }
    let (privacy, asked) = (&terms.privacy, &terms.privacy.disclosure);
    let cohort_min = mine.iter().map(|input| input.cohort_min).min().unwrap_or(0);
    let everywhere = [
        ("hospitals_min", u64::from(privacy.hospitals_min), u64::from(floors.hospitals_min)),
        ("cohort_min", cohort_min, floors.cohort_min),
    ];
    let without_noise = [
        ("cell_min", u64::from(asked.cell_min), u64::from(floors.cell_min)),
        ("cell_hospitals_min", u64::from(asked.cell_hospitals_min), u64::from(floors.cell_hospitals_min)),
        ("dominance_percent", u64::from(asked.dominance_percent), u64::from(floors.dominance_percent)),
    ];
    let rules = everywhere.into_iter().chain(without_noise.into_iter().filter(|_| !private));
    match rules.into_iter().find(|(_, terms, floor)| terms < floor) {
        None => Ok(()),
        Some((name, terms, floor)) => {
            let words = format!("the terms have {name} {terms}; worker.toml, [disclosure], asks for at least {floor}");
            Err(Refusal::new(Reason::Disclosure, words))
        }
    }
}

fn check_input(terms: &Terms, input: &Input, desk: &Desk<'_>) -> Result<(), Refusal> {
    let Some(dataset) = desk.declared.get(&input.dataset) else {
        let words = format!("worker.toml declares no data set '{}'", input.dataset);
        return Err(Refusal::new(Reason::UnknownDataset, words));
    };
    if dataset.schema_hash != input.schema_hash {
        let words = format!("the columns of '{}' are declared otherwise than the terms say", input.dataset);
        return Err(Refusal::new(Reason::SchemaChanged, words));
    }
    for column in &input.columns {
        if !dataset.may_compute_on(column) {
            let words = format!("'{}' has no column '{column}' that may be computed on", input.dataset);
            return Err(Refusal::new(Reason::UnknownColumn, words));
        }
    }
    let denied = |denied: leben_contracts::agreement::purpose::Denied| {
        Refusal::new(Reason::Purpose, format!("data set '{}': {denied}", input.dataset))
    };
    leben_contracts::agreement::purpose::permits(&dataset.permission, &terms.purpose).map_err(denied)?;
    desk.declared
        .check_cohort(dataset, &input.cohort)
        .map_err(|words| Refusal::new(Reason::CohortQuery, format!("cohort of '{}': {words}", input.dataset)))
}

/// What a hospital asks of contracts for the privacy of its patients, beyond noise and budget.
fn check_private(input: &Input, desk: &Desk<'_>, private: bool) -> Result<(), Refusal> {
    let Some(dataset) = desk.declared.get(&input.dataset) else { return Ok(()) };
    let name = &dataset.name;
    if !private && dataset.private_only {
        let words = format!("worker.toml opens '{name}' only for contracts with a privacy mechanism (private_only)");
        return Err(Refusal::new(Reason::NotPrivate, words));
    }
    // Judged by what the ledger shows of the data set, never by how many rows the cohort really has: that a hospital
    // refuses is public.
    match dataset.rows_most() {
        Some(rows) if private && input.row_cap < rows => {
            let cap = input.row_cap;
            let words = format!(
                "row_cap {cap} may cut the rows of '{name}', of which there may be {rows}: with a privacy mechanism \
                 leaving one patient out would let another in; raise it, or name fewer rows by a cohort"
            );
            Err(Refusal::new(Reason::RowCap, words))
        }
        _ => Ok(()),
    }
}

fn check_directory(contract: &Contract, directory: &Directory) -> Result<(), Refusal> {
    let wrong = |words: String| Refusal::new(Reason::Directory, words);
    directory.verify().map_err(|error| wrong(error.to_string()))?;
    let owners = contract.active_owners();
    for member in &directory.members {
        let keys =
            owners.iter().find(|owner| owner.as_str() == member.hospital).and_then(|o| contract.key_records.get(o));
        let same =
            keys.is_some_and(|k| k.verify.to_bytes() == member.keys.verify && k.channel.0 == member.keys.channel);
        if !same {
            return Err(wrong(format!("{} is in the directory with keys it did not sign", member.hospital)));
        }
    }
    let privacy = &contract.terms.privacy;
    if directory.threshold < privacy.threshold || directory.members.len() < usize::from(privacy.hospitals_min) {
        return Err(wrong("the directory has fewer members, or a lower threshold, than the terms ask for".into()));
    }
    Ok(())
}
