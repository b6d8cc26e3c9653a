//! The ledger from outside: golden vectors, other people's implementations, crashes, liars and flipped bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test says what is wrong by panicking")]

mod bad_input;
mod disk;
mod driver;
mod faults;
mod folder;
mod forks;
mod golden;
mod oracles;
mod parsers;
mod power;
mod sequencer;
mod snapshots;
mod store;
mod strace;
mod support;
mod witness;
