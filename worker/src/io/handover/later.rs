//! What this hospital holds a certificate of and a Handover goes on without: named, refused, or, when a person says so, set aside.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use leben_contracts::agreement::body::Handover;
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::handover::extends;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::store::{Head, LogReader, durable_replace};

use super::copy::chosen;
use super::{Wish, audit, words};
use crate::io::store::Store;

/// Entries named on the terminal; the file in `evidence/` has all.
const NAMED_MAX: usize = 12;

/// The later certificate, and the entries that only it covers.
pub(super) struct Later {
    /// A certified copy that ends where the Handover goes on from.
    pub(super) copy: PathBuf,
    /// Its checkpoint.
    pub(super) until: Note,
    /// Entries kept.
    pub(super) from: u64,
    /// The certificate of more.
    certificate: Note,
    /// Entries it covers.
    to: u64,
    entries: Vec<String>,
    contracts: Vec<String>,
}

impl Later {
    /// What `head`, the own certificate, covers beyond the Handover, with a copy to go back to; refused unless a person has said that it may
    /// be dropped.
    pub(super) fn found(store: &Store, body: &Handover, head: &Head, wish: Wish<'_>) -> Result<Later, String> {
        let (public, of) = (store.folder().join("mirror/public"), store.ledger().store().size());
        let (from, to, certificate) = (body.size, head.size, head.note.clone());
        if !extends(&public, of, from, &body.root).map_err(words)? {
            return Err(format!(
                "fork: this hospital's certificate of {to} entries and this Handover, which goes on from {from}, are of two histories. Sign \
                 and follow nothing; prove it with: leben-coordinator handover prepare"
            ));
        }
        let (entries, contracts) = named(&public, from, to, of)?;
        let (copy, until) = (PathBuf::new(), certificate.clone());
        let later = Later { copy, until, from, certificate, to, entries, contracts };
        if !wish.drop_certificate {
            return Err(format!(
                "this hospital holds the certificate of {to} entries, all of which were final, and this Handover goes on from {from}: it would \
                 lose the rest. Prepare another one from this hospital's copy, {}\n{}If the others have signed this one and go on without it \
                 all the same, and you know why: leben-worker handover follow .. --drop-certificate",
                public.display(),
                later.to_text(NAMED_MAX)
            ));
        }
        let Some(ledger) = wish.ledger else {
            return Err(format!(
                "to go back to {from} entries takes a certified copy that ends there: add --ledger with `source` of the new coordinator's folder"
            ));
        };
        let chosen = chosen(store, body, ledger)?;
        if chosen.checkpoint.size != from {
            return Err(format!(
                "{} is a copy of {} entries and the Handover goes on from {from}: give `source` of the new coordinator's folder",
                ledger.display(),
                chosen.checkpoint.size
            ));
        }
        let until = LogReader::new(&chosen.dir).checkpoint().map_err(words)?;
        Ok(Later { copy: chosen.dir, until, ..later })
    }

    /// Durable, before anything is cut: what this hospital goes back behind, in words and with the later certificate. The entries themselves lie
    /// in the copy that is moved to `aside`.
    pub(super) fn set_aside(&self, store: &mut Store, aside: &Path, now_ms: u64) -> Result<String, String> {
        let name = format!("evidence/dropped-{}-to-{}.txt", self.from, self.to.saturating_sub(1));
        let (path, all) = (store.folder().join(name), self.to_text(usize::MAX));
        let text = format!(
            "{all}The copy of the ledger with them: {}\nThe certificate:\n\n{}",
            aside.display(),
            self.certificate
        );
        durable_replace(&path, text.as_bytes()).map_err(words)?;
        let words = format!("{}set aside in {} and {}\n", self.to_text(NAMED_MAX), path.display(), aside.display());
        audit(store, now_ms, "certificate-dropped", words.trim_end())?;
        Ok(words)
    }

    /// What is lost, with at most so many entries by name.
    fn to_text(&self, named_max: usize) -> String {
        let (first, last) = (self.from, self.to.saturating_sub(1));
        let mut text =
            format!("What this hospital knows as final and the others go on without: entries {first} to {last}\n");
        self.entries.iter().take(named_max).for_each(|line| text.push_str(&format!("  {line}\n")));
        if let Some(more) = self.entries.len().checked_sub(named_max).filter(|more| *more > 0) {
            let _ = writeln!(text, "  and {more} more");
        }
        let _ = match self.contracts.as_slice() {
            [] => writeln!(text, "No contract is in them."),
            contracts => writeln!(text, "They belong to these contracts: {}", contracts.join(", ")),
        };
        text
    }
}

/// The entries from `from` up to `to` in words, and the contracts that they are about.
fn named(public: &Path, from: u64, to: u64, of: u64) -> Result<(Vec<String>, Vec<String>), String> {
    let (mut lines, mut contracts) = (Vec::new(), Vec::new());
    let leaves = LogReader::new(public).entries(from..to, of).map_err(words)?;
    for (index, leaf) in (from..).zip(&leaves) {
        let entry = Entry::parse(leaf).map_err(|error| format!("entry {index}: {error}"))?;
        let action = entry.action();
        let proposed = (action.kind == "Propose").then(|| Hash32(entry.envelope().payload_hash()).to_string());
        let mut line = format!("entry {index}: {} by {}", action.kind, action.actor);
        if let Some(contract) = action.contract.clone().or(proposed) {
            let _ = write!(line, " on contract {}", contract.get(..12).unwrap_or(&contract));
            if !contracts.contains(&contract) {
                contracts.push(contract);
            }
        }
        lines.push(line);
    }
    Ok((lines, contracts))
}
