//! What the reader brings: a clock, and a checkpoint kept from before.

use super::VerifyError;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::note::Note;
use crate::ledger::policy::Policy;
use std::cmp::Ordering;

/// How far ahead of this machine's clock a cosignature may be, in seconds.
const CLOCK_AHEAD_S_MAX: u64 = 300;

const KEPT: &str = "the checkpoint kept from before";

/// Refuses a checkpoint of which no quorum of the policy says that it was there lately. `freshness` is the reader's clock (Unix
/// milliseconds) and the greatest age in milliseconds; `cosigners` are those that [`Policy::evaluate`] found, with the time each stated
/// (Unix seconds). One whose clock is ahead of the reader's by more than five minutes counts for nothing here.
///
/// # Errors
/// [`VerifyError::Stale`].
pub fn check_fresh(
    place: &str,
    policy: &Policy,
    cosigners: &[(String, u64)],
    freshness: Option<(u64, u64)>,
) -> Result<(), VerifyError> {
    let Some((now_ms, age_ms_max)) = freshness else { return Ok(()) };
    let latest_s = (now_ms / 1000).saturating_add(CLOCK_AHEAD_S_MAX);
    let (ahead, told): (Vec<_>, Vec<_>) = cosigners.iter().cloned().partition(|(_, time_s)| *time_s > latest_s);
    let Some(time_s) = policy.quorum_time(&told) else {
        let names: Vec<String> = ahead.iter().map(|(name, time_s)| format!("{name} at {time_s} s")).collect();
        return Err(VerifyError::stale(
            place,
            match names.is_empty() {
                true => "the policy asks for no witness, so nobody says how old it is".to_owned(),
                false => format!(
                    "cosigned by {}, ahead of this machine's clock, and without them there is no quorum; compare the clocks",
                    names.join(", ")
                ),
            },
        ));
    };
    let age_ms = now_ms.saturating_sub(time_s.saturating_mul(1000));
    if age_ms > age_ms_max {
        let why = format!(
            "the quorum cosigned it {} s ago, {} s are allowed; fetch a newer one",
            age_ms / 1000,
            age_ms_max / 1000
        );
        return Err(VerifyError::stale(place, why));
    }
    Ok(())
}

/// Compares the checkpoint that a single proof stands under with one that the reader kept from before. Only two of one size can be compared:
/// that a log grew from one to the other shows in its tiles.
///
/// # Errors
/// [`VerifyError::Fork`], [`VerifyError::Stale`] when the one kept is the larger; [`VerifyError::Malformed`] when it is the smaller, as
/// the wish cannot be granted; [`VerifyError::Signature`] when the log did not sign it.
pub fn check_kept(checkpoint: &Checkpoint, policy: &Policy, known: &Note) -> Result<(), VerifyError> {
    let before = kept(known, [policy], &checkpoint.origin)?;
    match before.size.cmp(&checkpoint.size) {
        Ordering::Equal if before.root == checkpoint.root => Ok(()),
        Ordering::Equal => Err(two_trees(before.size)),
        Ordering::Greater => Err(shorter(&before, checkpoint, "proof")),
        Ordering::Less => {
            let why = format!(
                "has {} entries, and a proof of {} entries cannot show that the log only grew in between; verify the whole log with it",
                before.size, checkpoint.size
            );
            Err(VerifyError::malformed(KEPT, why))
        }
    }
}

/// The checkpoint kept from before, if one of these policies' keys of this log signed it.
pub(super) fn kept<'a>(
    known: &Note,
    policies: impl IntoIterator<Item = &'a Policy>,
    origin: &str,
) -> Result<Checkpoint, VerifyError> {
    let before = Checkpoint::of(known).map_err(|e| VerifyError::malformed(KEPT, e))?;
    let signature = |why: String| VerifyError::Signature { place: KEPT.to_owned(), why };
    let mut signed = Err(signature("it is of another log".to_owned()));
    let ours = before.origin == origin;
    for log in policies.into_iter().flat_map(Policy::logs).filter(|log| ours && log.name() == origin) {
        signed = signed.or_else(|_| known.verify(log).map(drop).map_err(|e| signature(e.to_string())));
    }
    signed.map(|()| before)
}

pub(super) fn shorter(before: &Checkpoint, now: &Checkpoint, what: &str) -> VerifyError {
    let why = format!("has {} entries, the {what} only {}; fetch a newer {what}", before.size, now.size);
    VerifyError::stale(KEPT, why)
}

pub(super) fn two_trees(size: u64) -> VerifyError {
    let why = format!("the log has signed two different trees of {size} entries; keep both and tell the hospitals");
    VerifyError::Fork { place: KEPT.to_owned(), why }
}
