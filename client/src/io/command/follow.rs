//! `leben follow`: another coordinator, after a Handover.

use std::path::Path;
use std::process::ExitCode;

use leben_contracts::handover;
use leben_contracts::ledger::note::{KeyType, VerifierKey};

use super::Ended;
use crate::home::Home;
use crate::io::keys::settled;
use crate::io::terminal::{Paint, paint, print};

pub(super) async fn run(root: &Path, file: &Path, address: &str) -> Ended {
    let (_, body) = handover::read_file(file)?;
    let mut home = Home::open(root)?;
    let (before, before_key) = (home.network().address.clone(), home.coordinator_key());
    // The file only says whom to ask. Whether a quorum of the hospitals agreed is for the ledger to show: it holds the Handover, and the
    // certificate of that entry.
    home.set_coordinator(address, body.coordinator.keys.tls.to_bytes())?;
    let (session, ledger) = match settled(&mut home).await {
        Ok(linked) => linked,
        Err(error) => {
            home.set_coordinator(&before, before_key)?;
            return Err(format!("{error}\nThis home still follows the coordinator at {before}").into());
        }
    };
    session.close().await;
    let named = VerifierKey::new(ledger.state().origin(), KeyType::Ed25519, body.log_key)?;
    if !ledger.state().log_vkeys().contains(&named) {
        home.set_coordinator(&before, before_key)?;
        let size = ledger.size();
        let words = format!(
            "the ledger at {address} has {size} entries and the Handover is not among them: too few hospitals follow it yet. Try again later; \
             this home still follows the coordinator at {before}"
        );
        return Err(words.into());
    }
    let done = paint(Paint::Green, "following");
    print(&format!(
        "{done} {} at {address}: {} entries, all that this home held before among them\n",
        body.coordinator.party,
        ledger.size()
    ));
    Ok(ExitCode::SUCCESS)
}
