//! # leben: the AI team's door to a Leben network
//!
//! A team asks hospitals for a computation and gets a result that it can prove. This crate is the command `leben` and the
//! library behind it.
//!
//! **Ask.** A [`job`] file says what is wanted; [`draft`] compares it with what the [`offers`] on the ledger allow and makes terms of
//! it that a person and a machine read alike; [`action`] signs them.
//!
//! **Follow.** The [`ledger`] is this home's own copy of the log, extended only by what a quorum of hospitals has cosigned and
//! replayed entry by entry; [`watch`] says what a job does and how it ended, by that copy's word and not by the coordinator's.
//!
//! **Get.** [`fetch`] opens the sealed result, compares it with the ledger and writes tables, pictures and a [`receipt`];
//! [`verify`] checks a log, a receipt or a single proof offline, without a network.
//!
//! The network, the clock, the terminal and the machine's randomness are in [`io`]; everything else is handed bytes and time.
//! [`home`] is the folder that holds keys and copy. [`catalog`], [`ledger_view`] and [`show`] are words and tables for people: [`story`] says what an
//! entry did, [`vouched`] what stands behind it, [`since`] reads a time.
//! `demo` (feature `demo`) runs a whole network in one process.
//!
//! Reading order: `home.rs`, `job/`, `draft/`, `action.rs`, `ledger.rs`, `watch.rs`, `fetch.rs`, `receipt.rs`, `verify.rs`, then `io/`.

pub mod action;
pub mod catalog;
#[cfg(feature = "demo")]
pub mod demo;
pub mod draft;
pub mod fetch;
pub mod home;
pub mod io;
pub mod job;
pub mod ledger;
pub mod ledger_view;
pub mod offers;
pub mod receipt;
pub mod show;
pub mod since;
pub mod story;
pub mod verify;
pub mod vouched;
pub mod watch;

pub use home::Home;
pub use io::session::Session;
pub use ledger::Ledger;
