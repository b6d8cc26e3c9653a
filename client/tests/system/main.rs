//! Whole networks under test: real processes, real QUIC on loopback, real files.
//!
//! Read [`deployment`] first: a coordinator, hospitals and an AI team, each in a folder of its own, and every command a
//! person would type. Then one file for each promise: [`sentinel`] (no patient's value and no private key ever leaves),
//! [`disclosure`] (small groups of patients are in no result),
//! [`restarts`] (kill -9 loses nothing that was acknowledged), [`bad_input`] (every mistake has a message that says what,
//! where and what to do), [`private`] (differential privacy, and the budget that each hospital keeps), [`keys`] (keys change, and
//! nobody is lost), [`handover`] (the coordinator is lost, and nothing final is), [`refounded`] (it forked, and a new network says so), [`streaming`] (vectors larger than anybody's memory) and [`cuts`] (nothing that arrived is sent again),
//! [`verify_flip`] (any byte of a published ledger matters).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first surprise, and real processes need real time"
)]

mod acknowledged;
mod bad_input;
mod cuts;
mod demo;
mod deployment;
mod disclosure;
mod faults;
mod gossip;
mod handover;
mod keys;
mod metrics;
mod needles;
mod outside;
mod private;
mod process;
mod raw;
mod refounded;
mod restarts;
mod rows;
mod sentinel;
mod streaming;
mod tutorial;
mod verify_flip;
