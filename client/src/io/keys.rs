//! New keys on their way to the ledger, and the end of old ones.

use std::time::Duration;

use leben_contracts::agreement::body::KeyRevoke;
use leben_contracts::agreement::error::StepError;
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::entry::EntryError;
use leben_contracts::ledger::keyring::KeyringError;
use leben_protocol::reject::RejectCode;

use crate::action::{self, ActionError, VALID_MS};
use crate::home::{Home, HomeError};
use crate::io::session::{Session, SessionError};
use crate::io::sync::{SyncError, sync};
use crate::io::{NoRandomness, fresh, now_ms, seed};
use crate::ledger::Ledger;

/// Looks at the ledger, half a second apart, until a rotation counts as not taken yet.
const LOOKS: u32 = 60;
/// Between them.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why keys could not be changed, or the ledger not be read. Whatever was made is kept, and the same command goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The folder.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The keys.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The action.
    #[error(transparent)]
    Action(#[from] ActionError),
    /// Its signatures.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// No randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// The coordinator.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The coordinator, in the midst of a rotation.
    #[error("{0}\nNew keys that were made are kept; the same command goes on from there")]
    Rotation(SessionError),
    /// The ledger.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The ledger would refuse it.
    #[error("the ledger would not take it: {0}")]
    Refused(Box<StepError>),
    /// Not final in time.
    #[error(
        "the ledger has not taken the new keys yet; the old ones serve until then. Nothing is lost: the same command goes on"
    )]
    Waiting,
}

impl From<StepError> for KeysError {
    fn from(error: StepError) -> KeysError {
        KeysError::Refused(Box::new(error))
    }
}

/// A link and an up-to-date copy; new keys that are in force by now take their places, here and in the home's folder.
///
/// # Errors
/// [`KeysError`].
pub async fn settled(home: &mut Home) -> Result<(Session, Ledger), KeysError> {
    let session = Session::connect(home).await?;
    let ledger = sync(home, &session).await?;
    home.settle_keys(ledger.state(), session.shown())?;
    home.trust(ledger.state())?;
    Ok((session, ledger))
}

/// Rotates: makes new keys of these uses (all when none is named), or goes on with those that wait, and returns the ledger once they
/// are in force and the coordinator has taken them.
///
/// # Errors
/// [`KeysError`].
pub async fn rotate(home: &mut Home, only: &[String]) -> Result<Ledger, KeysError> {
    rotate_once(home, only).await.map_err(|error| match error {
        KeysError::Session(error) | KeysError::Sync(SyncError::Session(error)) => KeysError::Rotation(error),
        other => other,
    })
}

async fn rotate_once(home: &mut Home, only: &[String]) -> Result<Ledger, KeysError> {
    let (session, ledger) = settled(home).await?;
    let random = || seed().map_err(|error| std::io::Error::other(error.to_string()));
    home.propose_keys(only, random)?;
    home.settle_keys(ledger.state(), session.shown())?;
    if !home.is_next_in_force()
        && let Some(envelope) = action::rotate(home, ledger.state(), fresh()?)?
    {
        ledger.state().check(now_ms().max(ledger.state().now_ms()), &envelope)?;
        // With the entry the old link key is out of force, so the answer may be cut off: the ledger is asked instead.
        match session.append(&envelope, true).await {
            Err(error @ SessionError::Refused(_)) if error.code() != Some(RejectCode::KeyRevoked) => {
                return Err(error.into());
            }
            _ => {}
        }
    }
    session.close().await;
    for _ in 0..LOOKS {
        if let Ok((session, ledger)) = settled(home).await {
            session.close().await;
            if home.rotation().is_none() {
                return Ok(ledger);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Err(KeysError::Waiting)
}

/// The home's own revocation, drafted; nothing is signed.
///
/// # Errors
/// [`KeysError`].
pub fn draft_own_revocation(
    home: &Home,
    ledger: &Ledger,
    code: &leben_contracts::agreement::party::Code,
) -> Result<ActionFile, KeysError> {
    let body = KeyRevoke { party: home.party().clone(), code: code.clone() };
    Ok(action::revoke(home, ledger.state(), body, VALID_MS, fresh()?)?)
}

/// Appends what has enough signatures, and returns its index; `None` if the link ended with it, as it does for a party that has
/// revoked its own keys.
///
/// # Errors
/// [`KeysError`].
pub async fn submit(session: &Session, ledger: &Ledger, file: ActionFile) -> Result<Option<u64>, KeysError> {
    let envelope = file.into_envelope()?;
    ledger.state().check(now_ms().max(ledger.state().now_ms()), &envelope)?;
    match session.append(&envelope, true).await {
        Ok(appended) => Ok(Some(appended.index)),
        Err(error) if error.code() == Some(RejectCode::KeyRevoked) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
