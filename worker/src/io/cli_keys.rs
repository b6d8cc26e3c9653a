//! `leben-worker keys`: which keys are in force, new ones, or none.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use leben_contracts::agreement::body::{Body, KeyRevoke};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::party::{Code, PartyId, Role};
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::keyring::Keyring;
use leben_protocol::frame::{Answer, Request};
use leben_protocol::reject::{Reject, RejectCode};

use super::cli::{is_running, status};
use super::clock::{Clock, fresh_seed};
use super::config::Config;
use super::join::Network;
use super::keys::Keys;
use super::request;
use super::rotation::USES;

/// How long a rotation is waited for, milliseconds.
const ROTATION_MAX_MS: u64 = 60_000;
/// How long a signed revocation may wait for its place on the ledger, milliseconds.
const REVOKE_VALID_MS: u64 = 60 * 60 * 1000;

/// The keys as the agent sees them, in words.
///
/// # Errors
/// In words.
pub fn text(folder: &Path) -> Result<String, String> {
    let status = status(folder)?;
    let mut text = format!("{:10} {:40} {:>8}  state\n", "use", "fingerprint", "since");
    for key in &status.keys {
        let since = key.since.map_or("-".to_owned(), |index| index.to_string());
        let _ = writeln!(text, "{:10} {:40} {since:>8}  {}", key.role, key.fingerprint, key.state);
    }
    if status.keys.is_empty() {
        text.push_str("this hospital is not on the copy of the ledger here yet\n");
    }
    let waiting = Keyring::new(&folder.join("keys")).next().map_err(|error| error.to_string())?;
    if let Some(waiting) = waiting.filter(|_| !is_running(&status)) {
        let uses: Vec<&str> = waiting.keys().map(String::as_str).collect();
        let _ = writeln!(
            text,
            "new keys lie in keys/next ({}); the agent puts them in force when it runs",
            uses.join(", ")
        );
    }
    Ok(text)
}

/// Makes new keys of these uses (all when none is named), and waits until the agent has put them in force.
///
/// # Errors
/// In words.
pub async fn rotate(folder: &Path, only: &[String], wait: bool) -> Result<String, String> {
    Network::load(folder)?;
    Keys::load(&folder.join("keys")).map_err(|error| error.to_string())?;
    let uses: Vec<&str> = USES.into_iter().filter(|name| only.is_empty() || only.iter().any(|o| o == name)).collect();
    let ring = Keyring::new(&folder.join("keys"));
    ring.propose(&uses, fresh_seed).map_err(|error| error.to_string())?;
    let made = format!("made new keys ({}) in {}", uses.join(", "), folder.join("keys/next").display());
    if !wait || !status(folder).is_ok_and(|status| is_running(&status)) {
        return Ok(format!("{made}\nthe agent puts them in force as soon as it runs and is linked: leben-worker keys"));
    }
    let until_ms = Clock::default().now_ms().saturating_add(ROTATION_MAX_MS);
    while ring.next().map_err(|error| error.to_string())?.is_some() {
        if Clock::default().now_ms() > until_ms {
            return Ok(format!(
                "{made}\nthe ledger has not taken them yet; the agent goes on trying and the old keys serve until then: leben-worker keys"
            ));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(format!("{made}\nin force, and the old ones are gone: leben-worker keys"))
}

/// Withdraws all keys of this hospital; shows what is signed, and signs it with `yes`.
///
/// # Errors
/// In words.
pub async fn revoke(folder: &Path, code: &str, yes: bool, clock: Clock) -> Result<String, String> {
    let network = Network::load(folder)?;
    let keys = Keys::load(&folder.join("keys")).map_err(|error| error.to_string())?;
    let party = PartyId::new(&network.party).map_err(|error| error.to_string())?;
    let code = Code::new(code).map_err(|error| error.to_string())?;
    let body = Body::KeyRevoke(KeyRevoke { party: party.clone(), code });
    let random = fresh_seed().map_err(|error| error.to_string())?;
    let nonce = random.first_chunk::<16>().copied().unwrap_or_default();
    let now_ms = clock.now_ms();
    let header = Header { actor: &party, role: Role::DataOwner, now_ms, valid_ms: REVOKE_VALID_MS, nonce };
    let action = State::new(&network.origin).draft(&body, None, &header).map_err(|error| error.to_string())?;
    let mut file = ActionFile::draft(&action).map_err(|error| error.to_string())?;
    let shown = format!(
        "KeyRevoke of all keys of {party} on {}: its signatures are refused from then on, its links are dropped, its data leaves \
         every contract that has not delivered, its offers are withdrawn. It cannot be undone; it can join again with a new invite.",
        network.origin
    );
    if !yes {
        return Err(format!("Nothing is signed. To sign it: add --yes. This is what it says:\n\n{shown}"));
    }
    file.sign(&keys.party).map_err(|error| error.to_string())?;
    let envelope = file.into_envelope().map_err(|error| error.to_string())?.to_bytes();
    let address = Config::load(folder).ok().and_then(|config| config.address);
    let link = network.dial(&keys, address.as_deref()).await?;
    let request = Request::Append { envelope, wait_final: true };
    let comes_back = "To come back: ask the network's admin for an invite, then: leben-worker join --new-keys <invite>";
    let (answer, writer, reader) = match request::ask(&link, request).await {
        Ok(asked) => asked,
        // The entry ends this very link; its answer may be lost with it.
        Err(error) if error.refusal().and_then(Reject::kind) == Some(RejectCode::KeyRevoked) => {
            return Ok(format!("{shown}\nrevoked. {comes_back}"));
        }
        Err(error) => return Err(error.to_string()),
    };
    request::part(writer, reader).await;
    link.close_and_wait("revoked").await;
    match answer {
        Answer::Appended { index, .. } => Ok(format!("{shown}\nrevoked in entry {index}. {comes_back}")),
        Answer::Rejected(reject) => Err(reject.to_string()),
        _ => Err("the coordinator gave an answer that does not fit".into()),
    }
}
