//! The shell: the clock, the machine's randomness, the network, the terminal. Everything else in this crate is handed bytes
//! and time.

pub mod cli;
pub mod command;
pub mod enrol;
pub mod fetch;
pub mod keys;
pub mod session;
pub mod submit;
pub mod sync;
pub mod terminal;
pub mod watch;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zeroize::Zeroizing;

use crate::action::Fresh;
use crate::home::Seeds;

/// The machine's random source does not answer.
#[derive(Debug, thiserror::Error)]
#[error("this machine gives no random bytes: {0}")]
pub struct NoRandomness(String);

/// Unix milliseconds; 0 on a machine whose clock stands before 1970.
#[allow(clippy::disallowed_methods, reason = "the shell is where the clock is read")]
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 32 random bytes.
///
/// # Errors
/// [`NoRandomness`].
pub fn seed() -> Result<Zeroizing<[u8; 32]>, NoRandomness> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(bytes)
}

/// Seeds for a new home.
///
/// # Errors
/// [`NoRandomness`].
pub fn seeds() -> Result<Seeds, NoRandomness> {
    Ok(Seeds { party: seed()?, tls: seed()?, sealing: seed()? })
}

/// The clock and a nonce for one action.
///
/// # Errors
/// [`NoRandomness`].
pub fn fresh() -> Result<Fresh, NoRandomness> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| NoRandomness(error.to_string()))?;
    Ok(Fresh { now_ms: now_ms(), nonce })
}
