//! What was agreed: terms, signatures over them, and the state machine that drives the work.
//!
//! Somebody drafts [`Terms`], which render to a [text](terms_text) that a person reads; the text's hash is in the
//! terms, so both sign one thing. A Propose puts them on the ledger, if every data set's [permission](purpose) allows the
//! [purpose]. Every signatory accepts; the payer's [credits and the privacy budget](accounts) are held; the coordinator arms the
//! contract, and that entry is what a hospital's worker asks a proof of before it reads a row. Stages run and leave receipts, the
//! result is delivered and accepted, and the price is [settled](settlement) by a pure function of the receipts. An owner can stop it or
//! leave at any time before delivery.
//!
//! [`State`] is the replay of the whole ledger; which step is possible when and for whom is one [table]. Nothing here
//! knows a clock: deadlines are compared with an entry's own sequenced time.
//!
//! Reading order: `party.rs`, `terms.rs`, `terms_check.rs`, `terms_text.rs`, `stage_graph.rs`, `purpose.rs`, `body.rs`, `written.rs`, `table.rs`,
//! `contract.rs`, `kept.rs`, `seen.rs`, `grown.rs`, `state.rs`, `state_view.rs`, `recorded.rs`, `snapshot.rs`, `snapshot_part.rs`, `snapshot_files.rs`, `step.rs`, then the `steps_*.rs`, `accounts.rs`, `settlement.rs`, `due.rs`,
//! `action_text.rs`.

pub mod accounts;
mod accounts_plan;
mod action_text;
pub mod body;
mod body_contract;
mod body_money;
mod body_network;
#[cfg(test)]
mod budget_tests;
pub mod contract;
pub mod due;
pub mod error;
#[cfg(test)]
mod execute_tests;
#[cfg(test)]
mod genesis_tests;
mod grown;
pub mod hash;
mod kept;
#[cfg(test)]
mod keys_tests;
#[cfg(test)]
mod network_tests;
pub mod party;
pub mod purpose;
pub mod purpose_table;
pub mod recorded;
mod seen;
pub mod settlement;
pub mod snapshot;
#[cfg(feature = "fs")]
mod snapshot_files;
mod snapshot_part;
mod stage_graph;
pub mod state;
#[cfg(test)]
mod state_tests;
mod state_view;
mod step;
mod steps_agree;
mod steps_end;
mod steps_execute;
mod steps_keys;
mod steps_money;
mod steps_network;
mod steps_offers;
pub mod table;
#[cfg(test)]
mod table_search_tests;
#[cfg(test)]
mod table_tests;
pub mod terms;
pub mod terms_check;
mod terms_check_stages;
pub mod terms_text;
#[cfg(test)]
mod validators_tests;
#[cfg(test)]
mod world;
mod written;

pub use body::{Body, Kind};
pub use contract::Contract;
pub use due::{Due, Header};
pub use error::{Reason, StepError};
pub use hash::{ContractId, Hash32, X25519Key};
pub use party::{Code, OrgKind, Party, PartyId, PartyKeys, Role};
pub use recorded::Recorded;
pub use state::State;
pub use table::Phase;
pub use terms::Terms;
