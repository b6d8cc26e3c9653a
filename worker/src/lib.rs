//! The agent inside a hospital: it runs agreed algorithms on local data and returns only a masked contribution.
//!
//! The core is pure: bytes and time go in, actions come out; it names no socket, no disk, no clock, and the simulation
//! runs it as it is. The coordinator is taken for hostile throughout.
//!
//! Reading order:
//!
//! 1. [`declared`]: what the hospital offers, and its local policy
//! 2. [`mirror`]: its own copy of the ledger, as witness and validator; what is validated and what is final; [`gossip`]: what others see of the same log
//! 3. [`budget`]: what each data set may still release about its patients
//! 4. [`consent`]: may it sign, publish keys, compute? Default deny; the only maker of `Admitted`
//! 5. [`participate`]: its part in one job
//! 6. [`agent`]: all of it together, orders in and actions out
//! 7. [`refusal`], [`audit`]: why it refuses, and what it writes down
//! 8. [`io`]: the shell: QUIC, files, tables, metrics, the command line's inbox

pub mod agent;
pub mod audit;
pub mod budget;
pub mod consent;
pub mod declared;
pub mod gossip;
pub mod io;
pub mod mirror;
pub mod participate;
pub mod refusal;

pub use agent::{Agent, Setup};
