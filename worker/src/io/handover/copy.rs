//! The own copy in a Handover: compared with what goes on, and cut back to the last certificate.

use std::path::Path;

use leben_contracts::agreement::body::Handover;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::state::State;
use leben_contracts::handover::{Chosen, choose, extends, replayed};
use leben_contracts::ledger::note::{Note, VerifierKey};
use leben_contracts::ledger::store::{branch, durable_replace, ensure_dir};

use super::later::Later;
use super::{Wish, words};
use crate::io::store::Store;

/// What a Handover goes on from.
pub(super) struct History {
    /// After all of it.
    pub(super) state: State,
    /// What this hospital holds a certificate of and goes back behind.
    pub(super) later: Option<Later>,
}

/// The state after so many entries of the own copy.
pub(super) fn state_at(store: &Store, size: u64) -> Result<State, String> {
    let (own, public) = (store.ledger().store(), store.folder().join("mirror/public"));
    let origin = own.keys().first().map_or("", VerifierKey::name);
    replayed(&public, Some(own.state_dir()), origin, size, own.size()).map_err(words)
}

/// The state that a Handover goes on from, in the own copy or else in the folder that was given; nothing that this hospital holds a
/// certificate of may be missing in it, unless a person has said that it may.
pub(super) fn history(store: &Store, body: &Handover, wish: Wish<'_>) -> Result<History, String> {
    let own = store.ledger().store();
    let (certified, root) = own.published().map_or((0, None), |head| (head.size, Some(Hash32(head.root))));
    if let Some(head) = own.published().filter(|head| head.size > body.size) {
        let later = Later::found(store, body, head, wish)?;
        return Ok(History { state: state_at(store, body.size)?, later: Some(later) });
    }
    let (public, head) = (store.folder().join("mirror/public"), own.size());
    let mut lacks =
        format!("this hospital's own copy does not reach the {} entries that the Handover goes on from", body.size);
    if extends(&public, head, body.size, &body.root).map_err(words)? {
        let state = state_at(store, body.size)?;
        if certified == body.size || state_at(store, certified)?.witness_policy() == state.witness_policy() {
            return Ok(History { state, later: None });
        }
        // What no quorum has cosigned does not say who the quorum is.
        lacks = "who has to sign changed after this hospital's last certificate".to_owned();
    }
    let Some(ledger) = wish.ledger else {
        return Err(format!(
            "{lacks}; add --ledger with a certified folder that reaches them, such as `source` of the new coordinator's folder, or another \
             hospital's mirror/public"
        ));
    };
    let chosen = chosen(store, body, ledger)?;
    let of = chosen.checkpoint.size;
    if let Some(root) = root
        && !extends(&chosen.dir, of, certified, &root).map_err(words)?
    {
        return Err(format!(
            "fork: this hospital's certificate of {certified} entries is not part of {}. Sign nothing; compare both with: leben-coordinator \
             handover prepare",
            ledger.display()
        ));
    }
    let state = match of == body.size {
        true => chosen.state,
        false => replayed(&chosen.dir, None, &chosen.checkpoint.origin, body.size, of).map_err(words)?,
    };
    Ok(History { state, later: None })
}

/// A certified copy of this log that begins with what the Handover goes on from.
pub(super) fn chosen(store: &Store, body: &Handover, ledger: &Path) -> Result<Chosen, String> {
    let chosen = choose(&[ledger.to_owned()], None).map_err(words)?;
    let ours = store.ledger().store().keys().first().is_some_and(|log| chosen.state.log_vkeys().contains(log));
    if !ours || !extends(&chosen.dir, chosen.checkpoint.size, body.size, &body.root).map_err(words)? {
        return Err(format!("{} is not the history that this Handover goes on from", ledger.display()));
    }
    Ok(chosen)
}

/// Where the copy is set aside, a folder beside it.
pub(super) fn aside(body: &Handover) -> String {
    // Two Handovers may go on from one place.
    format!("mirror-before-{}-{:.8}", body.size, body.log_key.to_hex())
}

fn moved(from: &Path, to: &Path) -> Result<(), String> {
    std::fs::rename(from, to).map_err(|error| format!("cannot move {} to {}: {error}", from.display(), to.display()))
}

/// After a crash between the two moves of [`cut_back`], whatever command comes next.
pub(super) fn take_back(folder: &Path, aside: &str) -> Result<(), String> {
    let (mirror, aside) = (folder.join("mirror"), folder.join(aside));
    match !mirror.exists() && aside.exists() {
        true => moved(&aside, &mirror),
        false => Ok(()),
    }
}

/// Cuts the copy and the witness's memory back to the last certificate that goes on, where they go beyond it, and makes both readable under
/// the new key. Durable once a file of the folder is replaced durably. Returns the entries that are left.
pub(super) fn cut_back(
    folder: &Path,
    mut store: Store,
    aside: &str,
    keys: &[VerifierKey],
    later: Option<&Later>,
) -> Result<u64, String> {
    let record = store.record().map_err(words)?;
    let ledger = store.ledger().store();
    let own = ledger.published().map(|head| (head.size, head.note.clone()));
    let certificate: Option<(u64, Note)> = later.map(|later| (later.from, later.until.clone())).or(own);
    let certified = certificate.as_ref().map_or(0, |(size, _)| *size);
    if ledger.size() == certified {
        store.know_keys(keys).map_err(words)?;
    } else {
        drop(store);
        let (mirror, next) = (folder.join("mirror"), folder.join("mirror.next"));
        if next.exists() {
            std::fs::remove_dir_all(&next).map_err(|error| format!("cannot remove {}: {error}", next.display()))?;
        }
        let from = later.map_or_else(|| mirror.join("public"), |later| later.copy.clone());
        if certificate.is_some() {
            branch(&from, &next.join("public"), &next.join("state"), keys).map_err(words)?;
        } else {
            ensure_dir(&next).map_err(words)?;
        }
        moved(&mirror, &folder.join(aside))?;
        moved(&next, &mirror)?;
    }
    let path = folder.join("witness");
    match (record.map(|record| record.checkpoint().size), certificate) {
        (Some(signed), Some((_, note))) if signed > certified => {
            durable_replace(&path, note.to_string().as_bytes()).map_err(words)?;
        }
        (Some(_), None) => {
            std::fs::remove_file(&path).map_err(|error| format!("cannot remove {}: {error}", path.display()))?;
        }
        _ => {}
    }
    Ok(certified)
}
