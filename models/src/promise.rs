//! What the stages of a job release together with differential privacy: one function for the draft of the terms, the
//! coordinator's receipts and the hospital that checks them. Together stages are worth less than the sum of each alone,
//! so a receipt says what its stage adds to those before it.

use leben_privacy::dp::guarantee::{Release, guarantee};

use crate::algorithm::Algorithm;
use crate::finding::Finding;
use crate::private::broken;

/// Epsilon in millionths, rounded up, of so many rounds of each stage together at `delta`, among at most `hospitals`
/// hospitals. 0 where no stage releases with noise; one without noise counts nothing, and has no guarantee.
///
/// # Errors
/// [`Finding::Privacy`] where noise and hospitals do not fit, or no epsilon is finite.
pub fn epsilon_micro<'a>(
    stages: impl IntoIterator<Item = (&'a dyn Algorithm, u32)>,
    hospitals: u16,
    delta: f64,
) -> Result<u64, Finding> {
    let mut releases: Vec<Release> = Vec::new();
    for (algorithm, rounds) in stages {
        let after = algorithm.releases(hospitals)?.into_iter().map(|release| release.after(u64::from(rounds)));
        releases.extend(after.filter(|release| release.rounds > 0));
    }
    if releases.is_empty() {
        return Ok(0);
    }
    guarantee(&releases, delta).map(|guarantee| guarantee.epsilon_micro).map_err(|error| broken(&error))
}

/// What the last of `stages` adds to the others: both sums at most `promised_micro`, and all of that where there is no
/// finite epsilon.
pub fn epsilon_added_micro(stages: &[(&dyn Algorithm, u32)], hospitals: u16, delta: f64, promised_micro: u64) -> u64 {
    let sum = |stages: &[(&dyn Algorithm, u32)]| match epsilon_micro(stages.iter().copied(), hospitals, delta) {
        Ok(micro) => micro.min(promised_micro),
        Err(_) => promised_micro,
    };
    let before = stages.split_last().map_or(0, |(_, before)| sum(before));
    sum(stages).saturating_sub(before)
}
