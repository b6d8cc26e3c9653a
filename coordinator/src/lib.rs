//! # leben-coordinator: one role, a pure core in a thin shell
//!
//! The coordinator sequences the ledger, runs the rounds of executable contracts and never reads one hospital's update.
//!
//! The core, handed bytes and time: [`plan`] (terms as work), [`facts`] (where the final ledger stands), [`roster`] (who is here),
//! [`job`] (stage by stage), [`round`] (one file a phase), [`roll_call`], [`finality`], [`outside`] and [`relay`] (what the witnesses
//! say, also to each other), [`drift`] (a clock behind the ledger), [`schedule`] (what falls due on it), [`record`]
//! (what is written and delivered), [`checkpoint`] and [`model`] (what a crash must leave), `progress` (what is shown). The shell, which owns
//! sockets, disks and the clock: [`io`].

pub mod checkpoint;
pub mod drift;
pub mod facts;
pub mod finality;
pub mod io;
pub mod job;
pub mod model;
pub mod outside;
pub mod plan;
pub(crate) mod progress;
pub mod record;
pub mod relay;
pub mod roll_call;
pub mod roster;
pub mod round;
pub mod schedule;
