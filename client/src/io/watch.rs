//! Follows a contract from the table to its end: the ledger while it is signed, the coordinator's progress while it runs, and
//! the ledger again for how it ended. The coordinator's word alone ends nothing.

use std::time::Duration;

use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::table::Phase;
use leben_protocol::frame::Progress;
use leben_protocol::reject::{RejectCode, printable};

use crate::home::Home;
use crate::io::keys::{KeysError, settled};
use crate::io::session::{Session, SessionError};
use crate::io::submit::{SubmitError, fund, is_fund_due};
use crate::io::sync::{SyncError, update};
use crate::ledger::Ledger;
use crate::watch::{End, Event, Signing};

/// The phase in which a coordinator says that it knows no such job, or tells this party nothing about it.
const UNKNOWN: &str = "Unknown";
/// How often the ledger is asked while people sign.
const POLL: Duration = Duration::from_millis(500);
/// How long a running job may say nothing before the ledger is asked.
const QUIET: Duration = Duration::from_secs(10);
/// How long after the coordinator says that a job has ended the ledger has to say so too.
const SETTLING: Duration = Duration::from_millis(200);
/// How long the coordinator has to say in words why a contract ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Watches a contract until it has ended, one way or another; pays into escrow when that is due. Goes on through cuts of the
/// link and restarts of the coordinator for as long as it is left running.
///
/// # Errors
/// [`SubmitError`]: what waiting does not mend.
pub async fn watch(
    home: &Home,
    session: Session,
    ledger: &mut Ledger,
    contract: ContractId,
    mut heard: impl FnMut(&Event),
) -> Result<End, SubmitError> {
    let mut session = session;
    let mut seen = Seen::default();
    // Opened anew when this party's keys were rotated while it watches.
    let mut reopened: Option<Home> = None;
    loop {
        let home = reopened.as_ref().unwrap_or(home);
        match step(home, &session, ledger, contract, &mut seen, &mut heard).await {
            Ok(Some(end)) => {
                session.close().await;
                return Ok(end);
            }
            Ok(None) => {}
            // Somebody else has to act, and may: the contract waits until its window for signing ends.
            Err(error @ SubmitError::Credits { .. }) => {
                seen.say(Event::Waiting { why: error.to_string() }, &mut heard);
                tokio::time::sleep(POLL).await;
            }
            Err(error) if is_temporary(&error) => {
                seen.say(Event::Waiting { why: error.to_string() }, &mut heard);
                tokio::time::sleep(POLL).await;
                session = match Session::connect(home).await {
                    Ok(session) => session,
                    Err(error) if error.is_worth_retrying() => continue,
                    Err(error) => return Err(error.into()),
                };
            }
            Err(error) if may_be_replaced(home, ledger, &error) => {
                let mut again = Home::open(home.root()).map_err(KeysError::from)?;
                (session, *ledger) = settled(&mut again).await?;
                if !signs_as(&again, ledger) {
                    return Err(error);
                }
                reopened = Some(again);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error may come from this party's keys having been replaced while it watches: then the home holds newer ones.
fn may_be_replaced(home: &Home, ledger: &Ledger, error: &SubmitError) -> bool {
    match error {
        SubmitError::Session(error) | SubmitError::Sync(SyncError::Session(error)) => {
            error.code() == Some(RejectCode::KeyRevoked)
        }
        SubmitError::Rules(_) => !signs_as(home, ledger),
        _ => false,
    }
}

/// Whether the home's party key is the one in force.
fn signs_as(home: &Home, ledger: &Ledger) -> bool {
    ledger.state().keys(home.party().as_str()).is_some_and(|keys| keys.party == home.public_keys().party)
}

#[derive(Default)]
struct Seen {
    signing: Option<Signing>,
    waiting: Option<Event>,
    progress: Option<Progress>,
}

impl Seen {
    /// Says a thing once.
    fn say(&mut self, event: Event, heard: &mut impl FnMut(&Event)) {
        if self.waiting.as_ref() != Some(&event) {
            heard(&event);
            self.waiting = Some(event);
        }
    }
}

fn is_temporary(error: &SubmitError) -> bool {
    match error {
        SubmitError::Session(error) | SubmitError::Sync(SyncError::Session(error)) => error.is_worth_retrying(),
        _ => false,
    }
}

async fn step(
    home: &Home,
    session: &Session,
    ledger: &mut Ledger,
    id: ContractId,
    seen: &mut Seen,
    heard: &mut impl FnMut(&Event),
) -> Result<Option<End>, SubmitError> {
    update(home, session, ledger).await?;
    let Some(contract) = ledger.state().contract(&id).cloned() else {
        tokio::time::sleep(POLL).await;
        return Ok(None);
    };
    if contract.phase.is_terminal() && contract.phase != Phase::Settled {
        // The ledger says that it ended; the coordinator may still know why in words. Its silence changes nothing.
        let asked = tokio::time::timeout(LAST_WORDS, session.progress(id.0)).await;
        seen.progress = asked.ok().and_then(Result::ok).or(seen.progress.take());
    }
    if let Some(end) = End::of(ledger, &contract, seen.progress.as_ref()) {
        return Ok(Some(end));
    }
    if matches!(contract.phase, Phase::Executable | Phase::Running | Phase::Suspended) {
        follow(session, id, seen, heard).await?;
        tokio::time::sleep(SETTLING).await;
        return Ok(None);
    }
    let signing = Signing::of(&contract);
    if seen.signing.as_ref() != Some(&signing) {
        heard(&Event::Signing(signing.clone()));
        seen.signing = Some(signing);
    }
    if is_fund_due(home, &contract) {
        let index = fund(home, session, ledger, &contract).await?;
        heard(&Event::Funded(index));
        return Ok(None);
    }
    tokio::time::sleep(POLL).await;
    Ok(None)
}

/// Progress until the coordinator says that it has ended, or says nothing for a while.
async fn follow(
    session: &Session,
    id: ContractId,
    seen: &mut Seen,
    heard: &mut impl FnMut(&Event),
) -> Result<(), SessionError> {
    let mut stream = session.watch(id.0).await?;
    loop {
        let progress = match tokio::time::timeout(QUIET, stream.next()).await {
            Err(_) => return Ok(()),
            Ok(next) => match next? {
                None => return Ok(()),
                Some(progress) => progress,
            },
        };
        if progress.phase == UNKNOWN {
            // The coordinator may not have seen yet what this copy of the ledger holds.
            seen.say(Event::Waiting { why: printable(&progress.message) }, heard);
            return Ok(());
        }
        let over = progress.ended || matches!(progress.phase.as_str(), "Delivered" | "Accepted" | "Settled");
        if seen.progress.as_ref() != Some(&progress) {
            heard(&Event::Running(Box::new(progress.clone())));
            seen.progress = Some(progress);
        }
        if over {
            return Ok(());
        }
    }
}
