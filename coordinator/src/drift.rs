//! This machine's clock against the ledger: the time of entries never goes backwards, so a clock that is behind the last entry
//! makes every new one carry that entry's time.

/// From here on the log is not taken up: every deadline would be wrong by as much. As far ahead as a validator lets an entry be.
pub const BEHIND_MS_MAX: u64 = leben_contracts::ledger::witness::CLOCK_AHEAD_MS_MAX;
/// Less than this is what two clocks always differ by, milliseconds.
const WORTH_SAYING_MS: u64 = 2_000;
/// How often it is said, milliseconds.
const SAY_EVERY_MS: u64 = 60_000;
/// How long after a witness's clock was in the way it is asked again, milliseconds.
const RETRY_MS: u64 = 60_000;

/// The last entry is from this machine's future.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this machine's clock is {} behind the ledger's last entry: one of the two was stamped by a wrong clock. Set this machine's clock (for example by NTP) and start again; if it is right, start again when that time has come",
    words(*behind_ms)
)]
pub struct ClockBehind {
    /// By how much, milliseconds.
    pub behind_ms: u64,
}

/// The ledger may be taken up: its last entry is not more than [`BEHIND_MS_MAX`] ahead of this clock.
///
/// # Errors
/// [`ClockBehind`].
pub fn check(last_ms: u64, now_ms: u64) -> Result<(), ClockBehind> {
    let behind_ms = last_ms.saturating_sub(now_ms);
    if behind_ms > BEHIND_MS_MAX { Err(ClockBehind { behind_ms }) } else { Ok(()) }
}

/// What was said about the clock, so that it is not said with every entry; and when witnesses whose clock was in the way are asked
/// again.
#[derive(Debug, Default)]
pub struct Drift {
    said_ms: Option<u64>,
    retry_ms: Option<u64>,
}

impl Drift {
    /// A witness would not cosign because an entry is ahead of its clock.
    pub fn handle_postponed(&mut self, now_ms: u64) {
        self.retry_ms.get_or_insert(now_ms.saturating_add(RETRY_MS));
    }

    /// When the witnesses are to be asked again, Unix milliseconds.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.retry_ms
    }

    /// Whether they are to be asked now: said once.
    pub fn handle_timeout(&mut self, now_ms: u64) -> bool {
        self.retry_ms.take_if(|at_ms| *at_ms <= now_ms).is_some()
    }

    /// An entry is about to be stamped; the last one carries `last_ms`. Words for the operator, now and then.
    pub fn handle_stamp(&mut self, last_ms: u64, now_ms: u64) -> Option<String> {
        let behind_ms = last_ms.saturating_sub(now_ms);
        // Both ways: a clock that is set back must not silence this for as long as it was set back.
        if behind_ms < WORTH_SAYING_MS || self.said_ms.is_some_and(|said| said.abs_diff(now_ms) < SAY_EVERY_MS) {
            return None;
        }
        self.said_ms = Some(now_ms);
        let behind = words(behind_ms);
        Some(format!(
            "this machine's clock is {behind} behind the ledger's last entry: new entries carry that entry's time until it is reached"
        ))
    }
}

fn words(ms: u64) -> String {
    match ms / 60_000 {
        0 => format!("{} s", ms / 1000),
        minutes => format!("{minutes} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_800_000_000_000;

    #[test]
    fn a_clock_far_behind_the_last_entry_is_named_with_by_how_much() {
        assert_eq!(check(NOW_MS, NOW_MS + 1_000_000_000), Ok(()));
        assert_eq!(check(NOW_MS + BEHIND_MS_MAX, NOW_MS), Ok(()));
        let error = check(NOW_MS + 2 * 3_600_000, NOW_MS).unwrap_err().to_string();
        assert!(error.contains("120 min behind") && error.contains("Set this machine's clock"), "{error}");
    }

    #[test]
    fn witnesses_are_asked_again_once_for_all_that_postponed() {
        let mut drift = Drift::default();
        assert!(drift.poll_timeout().is_none() && !drift.handle_timeout(NOW_MS));
        drift.handle_postponed(NOW_MS);
        drift.handle_postponed(NOW_MS + 30_000);
        assert_eq!(drift.poll_timeout(), Some(NOW_MS + RETRY_MS));
        assert!(!drift.handle_timeout(NOW_MS + RETRY_MS - 1) && drift.handle_timeout(NOW_MS + RETRY_MS));
        assert!(drift.poll_timeout().is_none() && !drift.handle_timeout(NOW_MS + RETRY_MS), "no busy loop");
    }

    #[test]
    fn a_clock_a_little_behind_is_said_once_a_minute() {
        let mut drift = Drift::default();
        assert_eq!(drift.handle_stamp(NOW_MS, NOW_MS), None);
        assert_eq!(drift.handle_stamp(NOW_MS + 1_999, NOW_MS), None);
        let said = drift.handle_stamp(NOW_MS + 90_000, NOW_MS).unwrap();
        assert!(said.contains("1 min behind"), "{said}");
        assert_eq!(drift.handle_stamp(NOW_MS + 90_000, NOW_MS + 59_000), None);
        assert!(drift.handle_stamp(NOW_MS + 90_000, NOW_MS + 61_000).unwrap().contains("29 s behind"));
        assert!(drift.handle_stamp(NOW_MS, NOW_MS - 3_600_000).is_some(), "set back by an hour");
    }
}
