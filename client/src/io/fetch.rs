//! Fetches a result, accepts it, and writes the receipt that proves it.

use std::path::Path;

use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::table::Phase;

use crate::action::{self, ActionError};
use crate::fetch::{FetchError, Opened, not_delivered, open, write_receipt, write_result};
use crate::home::Home;
use crate::io::session::{Session, SessionError};
use crate::io::submit::{SubmitError, append};
use crate::io::sync::update;
use crate::io::{NoRandomness, fresh};
use crate::ledger::Ledger;
use crate::receipt::Receipt;

/// Why a result was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchFailure {
    /// The result itself.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// The coordinator.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The acceptance. The result's files are written; the same command tries again.
    #[error("the result is written, but accepting it failed: {0}")]
    Accept(#[from] SubmitError),
    /// The action.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// No such contract.
    #[error("this copy of the ledger holds no contract {0}")]
    NoContract(ContractId),
}

/// A result on this machine.
pub struct Fetched {
    /// What it says.
    pub opened: Opened,
    /// Names of its files.
    pub files: Vec<String>,
    /// The receipt.
    pub receipt: Receipt,
    /// Index of the acceptance, if it was made now.
    pub accepted_index: Option<u64>,
}

/// Fetches the result of a contract into `dir`; `ledger` must be up to date and is brought up to date again.
///
/// # Errors
/// [`FetchFailure`]. A result that the ledger does not commit to is neither written nor accepted.
pub async fn fetch(
    home: &Home,
    session: &Session,
    ledger: &mut Ledger,
    id: ContractId,
    dir: &Path,
) -> Result<Fetched, FetchFailure> {
    let contract = ledger.state().contract(&id).cloned().ok_or(FetchFailure::NoContract(id))?;
    if contract.delivery.is_none() {
        return Err(not_delivered(&contract).into());
    }
    let sealed = session.result(id.0).await?;
    let opened = open(home, &contract, &sealed)?;
    let files = write_result(dir, &opened).map_err(FetchError::from)?;
    let mut accepted_index = None;
    if contract.phase == Phase::Delivered && contract.terms.delivery.recipient == *home.party() {
        let envelope = action::accept_result(home, ledger.state(), &contract, fresh()?)?;
        match append(home, session, ledger, &envelope).await {
            Ok(index) => accepted_index = Some(index),
            Err(error) => {
                // The acceptance window may have ended, or another command was quicker: then all is well.
                update(home, session, ledger).await.map_err(SubmitError::from)?;
                if ledger.state().contract(&id).is_some_and(|now| now.phase == Phase::Delivered) {
                    return Err(error.into());
                }
            }
        }
    }
    let contract = ledger.state().contract(&id).cloned().ok_or(FetchFailure::NoContract(id))?;
    let receipt = write_receipt(dir, ledger, &contract)?;
    Ok(Fetched { opened, files, receipt, accepted_index })
}
