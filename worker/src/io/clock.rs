//! This machine's clock and randomness: the only place of the worker that asks for either.
#![allow(clippy::disallowed_methods, reason = "the shell reads the clock so that the core need not")]

use std::time::{SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

/// A clock that may be set off, for tests of hospitals whose clock is wrong.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Added to this machine's time, milliseconds.
    pub offset_ms: i64,
}

impl Clock {
    /// Unix milliseconds.
    pub fn now_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        now_ms.saturating_add_signed(self.offset_ms)
    }
}

/// 32 fresh random bytes.
///
/// # Errors
/// The operating system has none.
pub fn fresh_seed() -> std::io::Result<Zeroizing<[u8; 32]>> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *seed).map_err(std::io::Error::other)?;
    Ok(seed)
}
