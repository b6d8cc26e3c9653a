//! # Coordinator and hospitals on one simulated clock
//!
//! The pure cores of `leben-coordinator` and `leben-worker` run here unmodified: no socket, no thread, no disk, no clock. One
//! number, the seed, decides every delay, every cut link, every restart and every key; the same seed tells the same story
//! twice, to the byte. What a test is after is therefore always found again.
//!
//! What the network may do is what QUIC may do. While a link lives, the messages of one stream arrive, in order; streams and
//! hospitals overtake each other. A cut link loses everything under way; what is told again after it comes twice. A process
//! that restarts has lost its memory and keeps only what its own actions said to store.
//!
//! Read it in this order:
//!
//! 1. `tests/one_round.rs`: one round, told in 60 lines
//! 2. [`dice`], [`net`]: chance, the clock with its queue, and links that can be cut
//! 3. [`deal`], [`agreement`]: a contract as everybody signed it, on a real ledger
//! 4. [`hospital`], [`coordinator`]: the two shells, reduced to what they do
//! 5. [`truth`]: what only an onlooker knows: every contribution in the clear, and so what each sum has to be
//! 6. [`world`]: all of it together, with a [`schedule`] of faults
//! 7. [`log`], [`member`], [`network`]: the same with the whole ledger: proposed, signed, armed, run, delivered and settled
//! 8. [`fork`]: a coordinator that shows two histories, and hospitals that look at each other's

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "an instrument of tests: what must not happen stops it, with the seed in the message"
)]

pub mod agreement;
pub mod coordinator;
pub mod deal;
pub mod dice;
pub mod fork;
pub mod hospital;
pub mod log;
pub mod member;
pub mod net;
pub mod network;
pub mod schedule;
pub mod truth;
pub mod world;

pub use agreement::Agreement;
pub use deal::Deal;
pub use schedule::{Fault, Sight, Trap};
pub use world::{End, World};
