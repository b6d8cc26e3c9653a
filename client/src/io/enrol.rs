//! Joining a network: keys made here, public halves sent, the entry that enrols them awaited.

use std::path::Path;

use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::entry::Envelope;
use leben_protocol::invite::Invite;

use crate::action::{self, ActionError};
use crate::home::{Home, HomeError};
use crate::io::session::{Session, SessionError};
use crate::io::sync::{SyncError, sync};
use crate::io::{NoRandomness, fresh, seeds};
use crate::ledger::Ledger;

/// Why a team could not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The folder or the invite.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The action.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// The coordinator. The keys are made and kept; the same command goes on from there.
    #[error("{0}\nThe keys are kept; the same command tries again")]
    Session(#[from] SessionError),
    /// The ledger.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The name is another key's.
    #[error(
        "'{0}' is enrolled on the ledger with other keys than this home's: use the home that enrolled, or ask for an invite under another name"
    )]
    Taken(String),
}

/// A team that has joined.
pub struct Joined {
    /// Its home.
    pub home: Home,
    /// The ledger that names it.
    pub ledger: Ledger,
    /// Index of its enrolment; `None` if it was enrolled before.
    pub index: Option<u64>,
    /// By how much the coordinator's clock is ahead of this machine's, milliseconds.
    pub clock_ahead_ms: i64,
}

/// Makes or reopens the home at `root`, and enrols it unless the ledger knows it already.
///
/// # Errors
/// [`EnrolError`]; whatever was made is kept, and the same call goes on from there.
pub async fn enrol(root: &Path, invite: &Invite) -> Result<Joined, EnrolError> {
    come_in(root, invite, None).await
}

/// The same for an admin, with the enrolment that another admin has signed as well.
///
/// # Errors
/// [`EnrolError`].
pub async fn enrol_signed(root: &Path, invite: &Invite, file: ActionFile) -> Result<Joined, EnrolError> {
    let envelope = file.into_envelope().map_err(ActionError::from)?;
    come_in(root, invite, Some(envelope)).await
}

async fn come_in(root: &Path, invite: &Invite, signed: Option<Envelope>) -> Result<Joined, EnrolError> {
    let home = Home::create(root, invite, &seeds()?)?;
    let session = Session::connect(&home).await?;
    let network = session.network().await?;
    let clock_ahead_ms = i64::try_from(i128::from(network.now_ms) - i128::from(crate::io::now_ms())).unwrap_or(0);
    let known = known(&home, &session).await?;
    let (ledger, index) = match known {
        Some(ledger) => (ledger, None),
        None => {
            let envelope = match signed {
                Some(envelope) => envelope,
                None => action::enrol(&home, &invite.code, fresh()?)?,
            };
            let index = session.enrol(&envelope, &invite.code).await?.index;
            let ledger = wait_for(&home, &session, index).await?;
            (ledger, Some(index))
        }
    };
    session.close().await;
    Ok(Joined { home, ledger, index, clock_ahead_ms })
}

/// The ledger, if it names this party already. A stranger is refused the ledger's files; then it is not enrolled yet.
async fn known(home: &Home, session: &Session) -> Result<Option<Ledger>, EnrolError> {
    let Ok(ledger) = sync(home, session).await else { return Ok(None) };
    match ledger.state().keys(home.party().as_str()) {
        None => Ok(None),
        Some(keys) if keys.party == home.public_keys().party => Ok(Some(ledger)),
        Some(_) => Err(EnrolError::Taken(home.party().to_string())),
    }
}

/// The copy of the ledger, once it holds the entry at `index`: a sequenced entry is published when a quorum has cosigned it.
///
/// # Errors
/// [`SyncError`] of the last try, after about ten seconds.
pub async fn wait_for(home: &Home, session: &Session, index: u64) -> Result<Ledger, SyncError> {
    let mut tries = 0;
    loop {
        let ledger = sync(home, session).await?;
        tries += 1;
        if ledger.size() > index || tries >= 100 {
            return Ok(ledger);
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
