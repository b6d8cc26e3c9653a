//! The shell: everything that touches a socket, a disk, a clock or the machine's randomness.
//!
//! Reading order: [`config`] (`worker.toml`), [`keys`] and [`mod@join`] (how a hospital comes in), [`store`] and [`budgets`] (what is on disk),
//! `replay` (the copy of the ledger at a start), [`approvals`] (how the command line talks to the agent), [`sources`] (the rows), [`link`] (one
//! connection, kept up), [`rotation`] (its key over time), [`request`] (questions on it), [`states`] (models on the disk), [`work`] and
//! [`upload`] (the local half, and its masked vector on the way), [`shell`] (the loop that carries out the agent's
//! actions) and `tasks` (what runs beside it), [`handle`] (a running agent), [`clock`], [`view`] and [`evidence`] (what others are shown, and what
//! was found), [`metrics`], [`check`], [`cli`], [`review`], [`cli_keys`], [`handover`] (another coordinator). By itself stands [`witness`]: a plain witness for outsiders.

pub mod approvals;
pub mod budgets;
pub mod check;
pub mod cli;
pub mod cli_keys;
pub mod clock;
pub mod config;
pub mod evidence;
pub mod handle;
pub mod handover;
pub mod join;
pub mod keys;
pub mod link;
pub mod metrics;
mod replay;
pub mod request;
pub mod review;
pub mod rotation;
pub mod shell;
pub mod sources;
pub mod states;
pub mod store;
mod tasks;
pub mod upload;
pub mod view;
pub mod witness;
pub mod work;

pub use config::Config;
pub use handle::{Handle, Options, RunError, run, spawn};
pub use join::{join, join_again};
