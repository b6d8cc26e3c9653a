//! Two clocks that have to agree: this hospital's and the coordinator's.

use super::{Action, Agent};
use crate::refusal::{Reason, Refusal};

/// From this difference of the two clocks on people are warned, milliseconds.
pub const CLOCK_WARN_MS: u64 = 5 * 60 * 1000;
/// The audit event of that warning.
pub const CLOCK_WARNING: &str = "clock-warning";
/// From this difference on the hospital takes part in nothing, milliseconds.
pub const CLOCK_REFUSE_MS: u64 = 60 * 60 * 1000;
/// How long after a refusal the two are compared again, milliseconds: a link and some hundred bytes.
const CLOCK_AGAIN_MS: u64 = 60 * 1000;

impl Agent {
    /// Only a new link says what the coordinator's clock shows, and somebody may have set either of them since the last one.
    pub(super) fn compare_clocks_again(&mut self, now_ms: u64) {
        if let Err(refusal) = &self.clock
            && self.linked
            && now_ms.abs_diff(self.clock_at_ms) >= CLOCK_AGAIN_MS
        {
            self.clock_at_ms = now_ms;
            self.actions.push_back(Action::Unlink(refusal.to_reject()));
        }
    }
}

/// By how many milliseconds the coordinator's clock is ahead of this hospital's, or the refusal to go on like that.
pub fn compare_clocks(mine_ms: u64, theirs_ms: u64) -> Result<i64, Refusal> {
    let apart_ms = mine_ms.abs_diff(theirs_ms);
    if apart_ms <= CLOCK_REFUSE_MS {
        let apart = i64::try_from(apart_ms).unwrap_or(i64::MAX);
        return Ok(if theirs_ms >= mine_ms { apart } else { -apart });
    }
    let (minutes, way) = (apart_ms / 60_000, if mine_ms > theirs_ms { "ahead of" } else { "behind" });
    let words = format!(
        "this machine's clock is {minutes} minutes {way} the coordinator's; the hospital takes part in nothing until the \
         two agree. Set the clock (for example by NTP); if it is right, tell the coordinator's operator"
    );
    Err(Refusal::new(Reason::Clock, words))
}
