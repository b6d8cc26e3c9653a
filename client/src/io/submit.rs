//! From a job file to a contract on the ledger: draft, propose, sign, and, once everybody has signed, pay into escrow.

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::error::StepError;
use leben_contracts::agreement::hash::{ContractId, Hash32};
use leben_contracts::agreement::table::Phase;
use leben_contracts::agreement::terms::Terms;
use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::store::{StoreError, durable_replace};

use crate::action::{self, ActionError};
use crate::draft::draft;
use crate::home::Home;
use crate::io::enrol::wait_for;
use crate::io::keys::KeysError;
use crate::io::session::{Session, SessionError};
use crate::io::sync::SyncError;
use crate::io::{NoRandomness, fresh, now_ms};
use crate::job::{Job, Problem};
use crate::ledger::{Ledger, short};

/// Why a job was not submitted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The job file; each problem names its line.
    #[error("{}", problems(.0))]
    Job(Vec<Problem>),
    /// This party is not on the ledger.
    #[error("{0} is not enrolled on the ledger; run `leben keygen <invite>` first")]
    NotEnrolled(String),
    /// The ledger's rules; nothing was sent.
    #[error("the ledger would refuse this: {0}")]
    Rules(#[from] StepError),
    /// The action.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The coordinator.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The ledger.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// This home's keys, which were replaced on the way.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The home's files.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Proposed, and not yet seen on the ledger.
    #[error(
        "the proposal is entry {index}, but no quorum of hospitals has cosigned it yet; `leben watch {contract}` goes on from here once enough of them are reachable"
    )]
    NotFinal {
        /// Index of the proposal.
        index: u64,
        /// The contract.
        contract: String,
    },
    /// Too little money.
    #[error(
        "the contract asks for {asked} credits and {party} has {has}; ask the coordinator to record a deposit, then `leben watch` again"
    )]
    Credits {
        /// Price and deposit.
        asked: u64,
        /// Balance.
        has: u64,
        /// Whose.
        party: String,
    },
}

fn problems(all: &[Problem]) -> String {
    let lines: Vec<String> = all.iter().map(|problem| format!("  {problem}")).collect();
    format!("the job cannot be submitted:\n{}", lines.join("\n"))
}

/// A job that is on the ledger.
#[derive(Clone, Debug)]
pub struct Submitted {
    /// The contract's id.
    pub contract: ContractId,
    /// Its terms.
    pub terms: Terms,
    /// Index of the proposal.
    pub proposed_index: u64,
    /// Index of this party's own signature.
    pub accepted_index: u64,
}

/// Drafts, proposes and signs a job. `ledger` is brought up to date on the way.
///
/// # Errors
/// [`SubmitError`]. A job file with mistakes and terms that the ledger would refuse are found before anything is sent.
pub async fn submit(
    home: &Home,
    session: &Session,
    ledger: &mut Ledger,
    job_text: &str,
) -> Result<Submitted, SubmitError> {
    let job = Job::parse(job_text).map_err(SubmitError::Job)?;
    let offers = ledger.offers(home.party()).ok_or_else(|| SubmitError::NotEnrolled(home.party().to_string()))?;
    let terms = draft(&job, &offers, now_ms()).map_err(SubmitError::Job)?;
    submit_terms(home, session, ledger, &terms, Some(job_text)).await
}

/// Proposes and signs terms that are ready.
///
/// # Errors
/// [`SubmitError`].
pub async fn submit_terms(
    home: &Home,
    session: &Session,
    ledger: &mut Ledger,
    terms: &Terms,
    job_text: Option<&str>,
) -> Result<Submitted, SubmitError> {
    let envelope = action::propose(home, ledger.state(), terms, fresh()?)?;
    let contract = Hash32(envelope.payload_hash());
    keep(home, &contract, terms, job_text)?;
    let proposed_index = append(home, session, ledger, &envelope).await?;
    let Some(proposed) = ledger.state().contract(&contract).cloned() else {
        return Err(SubmitError::NotFinal { index: proposed_index, contract: short(&contract) });
    };
    let envelope = action::accept(home, ledger.state(), &proposed, fresh()?)?;
    let accepted_index = append(home, session, ledger, &envelope).await?;
    Ok(Submitted { contract, terms: terms.clone(), proposed_index, accepted_index })
}

/// Whether it is this party's turn to pay the price into escrow.
pub fn is_fund_due(home: &Home, contract: &Contract) -> bool {
    contract.phase == Phase::Signed && !contract.is_funded() && contract.terms.payer() == Some(home.party())
}

/// Pays price and deposit into escrow. Returns the entry's index.
///
/// # Errors
/// [`SubmitError`], in particular [`SubmitError::Credits`].
pub async fn fund(
    home: &Home,
    session: &Session,
    ledger: &mut Ledger,
    contract: &Contract,
) -> Result<u64, SubmitError> {
    let (asked, has) = (action::price(&contract.terms), ledger.state().credits(home.party()));
    if has < asked {
        return Err(SubmitError::Credits { asked, has, party: home.party().to_string() });
    }
    let envelope = action::fund(home, ledger.state(), contract, fresh()?)?;
    append(home, session, ledger, &envelope).await
}

/// Checks an action against this copy of the ledger, appends it, waits for the quorum and for this copy to hold it.
///
/// # Errors
/// [`SubmitError`].
pub async fn append(
    home: &Home,
    session: &Session,
    ledger: &mut Ledger,
    envelope: &Envelope,
) -> Result<u64, SubmitError> {
    let seq_ms = now_ms().max(ledger.state().now_ms());
    ledger.state().check(seq_ms, envelope)?;
    let index = session.append(envelope, true).await?.index;
    *ledger = wait_for(home, session, index).await?;
    Ok(index)
}

/// The job and the words that were signed, for the people here.
fn keep(home: &Home, contract: &ContractId, terms: &Terms, job_text: Option<&str>) -> Result<(), StoreError> {
    let dir = home.contract_dir(&short(contract));
    let failed = |source| StoreError::Io { what: "create", path: dir.clone(), source };
    std::fs::create_dir_all(&dir).map_err(failed)?;
    durable_replace(&dir.join("terms.txt"), terms.text().as_bytes())?;
    match job_text {
        Some(text) => durable_replace(&dir.join("job.toml"), text.as_bytes()),
        None => Ok(()),
    }
}
