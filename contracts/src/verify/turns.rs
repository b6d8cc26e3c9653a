//! The turns of a folder: each change of who has to sign is covered by its certificate, and nothing else lies beside them.

use super::VerifyError;
use super::folder::{Folder, read};
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::merkle;
use crate::ledger::note::{NOTE_BYTES_MAX, Note};
use crate::ledger::policy::Policy;
use crate::ledger::store::LogReader;
use crate::ledger::turn::{self, Turn, TurnError};
use std::collections::BTreeMap;

/// The certificates found, those not needed yet, and whether the reader's policy was met on the way.
pub(super) struct Certificates {
    notes: BTreeMap<u64, Note>,
    trusted: Option<Policy>,
}

impl Certificates {
    /// Reads the files and compares each with the tree: size, root and origin. Who signed them is for the replay to say.
    pub(super) fn read(
        folder: &Folder<'_>,
        checkpoint: &Checkpoint,
        sizes: &[u64],
        trusted: Option<Policy>,
    ) -> Result<Certificates, VerifyError> {
        let mut notes = BTreeMap::new();
        for size in sizes {
            let name = turn::path(*size);
            if *size > folder.size {
                let why = format!("goes beyond the checkpoint of {} entries, so nothing vouches for it", folder.size);
                return Err(VerifyError::malformed(name, why));
            }
            let malformed = |why: String| VerifyError::malformed(&name, why);
            let note = Note::parse(&read(folder.dir, &name, NOTE_BYTES_MAX)?).map_err(|e| malformed(e.to_string()))?;
            let found = Checkpoint::of(&note).map_err(|e| malformed(e.to_string()))?;
            if found != Checkpoint::new(&checkpoint.origin, *size, root_at(folder, *size)?) {
                let why = "is not the checkpoint of that size of this log".to_owned();
                return Err(VerifyError::Inclusion { place: name, why });
            }
            notes.insert(*size, note);
        }
        Ok(Certificates { notes, trusted })
    }

    /// A turn at entry `index`: its certificate has both quorums.
    pub(super) fn check(&mut self, folder: &Folder<'_>, index: u64, turn: &Turn) -> Result<(), VerifyError> {
        let size = index.saturating_add(1);
        let checked = match self.notes.remove(&size) {
            Some(note) => turn.verify(index, &root_at(folder, size)?, &note),
            None => Err(TurnError::Missing { index }),
        };
        checked.map_err(|error| match &error {
            TurnError::Malformed { .. } => VerifyError::malformed(turn::path(size), error),
            TurnError::Quorum { source, which, .. } => {
                let place = format!("entry {index}: {} ({which} quorum)", turn::path(size));
                VerifyError::policy(&place, source)
            }
            other => VerifyError::Quorum { place: format!("entry {index}"), why: other.to_string() },
        })?;
        if self.trusted.is_some() && self.trusted == turn.new {
            self.trusted = None;
        }
        Ok(())
    }

    /// The whole log was walked, and `policy` is in force at its end.
    pub(super) fn finish(self, policy: &Policy) -> Result<(), VerifyError> {
        if let Some(size) = self.notes.keys().next() {
            let why = "no entry there changes who has to sign; remove it, or find out who put it there";
            return Err(VerifyError::malformed(turn::path(*size), why));
        }
        match self.trusted {
            Some(trusted) if trusted != *policy => Err(super::folder::another_policy()),
            _ => Ok(()),
        }
    }
}

/// The folder extends a checkpoint that the reader kept from before, signed by the log's key of now or by the one that the reader's own policy
/// names: there may be a Handover between them.
pub(super) fn check_known(
    folder: &Folder<'_>,
    policies: [Option<&Policy>; 2],
    checkpoint: &Checkpoint,
    known: Option<&Note>,
) -> Result<(), VerifyError> {
    const PLACE: &str = "the checkpoint kept from before";
    let Some(known) = known else { return Ok(()) };
    let before = Checkpoint::of(known).map_err(|e| VerifyError::malformed(PLACE, e))?;
    let signature = |why: String| VerifyError::Signature { place: PLACE.to_owned(), why };
    let mut signed = Err(signature("it is of another log".to_owned()));
    let ours = before.origin == checkpoint.origin;
    for log in policies.into_iter().flatten().filter_map(|p| p.log(&before.origin)).filter(|_| ours) {
        signed = signed.or_else(|_| known.verify(log).map(drop).map_err(|e| signature(e.to_string())));
    }
    signed?;
    if before.size > checkpoint.size {
        let why = format!("has {} entries, the folder only {}; fetch a newer folder", before.size, checkpoint.size);
        return Err(VerifyError::stale(PLACE, why));
    }
    if root_at(folder, before.size)? != before.root {
        let why = format!(
            "the log has signed two different trees of {} entries; keep both and tell the hospitals",
            before.size
        );
        return Err(VerifyError::Fork { place: PLACE.to_owned(), why });
    }
    Ok(())
}

fn root_at(folder: &Folder<'_>, size: u64) -> Result<merkle::Hash, VerifyError> {
    merkle::root_at(&LogReader::new(folder.dir).nodes(folder.size), size).map_err(|e| VerifyError::malformed("tile", e))
}
