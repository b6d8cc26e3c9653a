//! The work on entries that depends on nothing before them, on every core: reading them, and verifying signatures ahead of their turn.
//!
//! What comes out is the same as one by one. A signature verified here under some key is a fact about bytes; whether that key was in
//! force at the entry's place is asked in order, by the state machine ([`Envelope::verify_with`]).

use super::Replay;
use super::entry::{Entry, EntryError, Envelope};
use rayon::prelude::*;

/// Parses leaves of the log, in order.
pub fn entries<R: Replay + ?Sized>(leaves: &[Vec<u8>], replay: &R) -> Vec<Result<Entry, EntryError>> {
    let one = |leaf: &Vec<u8>| {
        let mut entry = Entry::parse(leaf)?;
        entry.envelope_mut().preverify(|keyid| replay.key_of(keyid));
        Ok(entry)
    };
    leaves.par_iter().map(one).collect()
}

/// Parses envelopes, in order.
pub fn envelopes<R: Replay + ?Sized>(sent: &[Vec<u8>], replay: &R) -> Vec<Result<Envelope, EntryError>> {
    let one = |bytes: &Vec<u8>| {
        let mut envelope = Envelope::parse(bytes)?;
        envelope.preverify(|keyid| replay.key_of(keyid));
        Ok(envelope)
    };
    sent.par_iter().map(one).collect()
}
