//! What was agreed, and what was recorded.
//!
//! Hospitals do not have to trust whoever operates the ledger: it is a transparency log that they witness, and
//! a state machine that anybody can replay. This crate is both halves, pure: bytes and time go in, values come out.
//!
//! **The record** ([`ledger`]). An [action](ledger::entry::Action) is signed as exact bytes inside an
//! [envelope](ledger::entry::Envelope); the [sequencer](ledger::sequencer) gives it a place and becomes an
//! [entry](ledger::entry::Entry), a leaf of a [Merkle tree](ledger::merkle) laid out in [tiles](ledger::tile). The root is signed
//! as a [checkpoint](ledger::checkpoint) in a [signed note](ledger::note); hospitals [witness](ledger::witness) it, and a
//! [policy](ledger::policy) says how many of them make it final. A [proof](ledger::proof) carries one entry out of the network.
//! The files on disk and the order in which they become durable are in `ledger::store` (feature `fs`).
//!
//! **The agreement** ([`agreement`]). Parties, terms, the state machine of a contract, and the accounts; its `State` is the
//! replay of the whole record.
//!
//! **The outsider's view** ([`verify`]). One function for a proof, one for a folder; every byte is checked.
//!
//! **After a coordinator** (`handover`, feature `fs`). Which certificate is the largest, whether two of them contradict each other, and
//! whether a Handover goes on from a given history.
//!
//! Reading order: `ledger/canonical.rs`, `key.rs`, `action.rs`, `entry.rs`, `signed.rs`, `action_file.rs`, `merkle.rs`, `tile.rs`,
//! `builder.rs`, `note.rs`, `checkpoint.rs`, `policy.rs`, `proof.rs`, `prepare.rs`, `follow.rs`, `sequencer.rs`, `witness.rs`,
//! `add_checkpoint.rs`, `validator.rs`, `turn.rs`, `evidence.rs`, `keyfile.rs`, `keyring.rs`, `store/`, then `agreement/`, then `verify.rs`, `handover.rs`.

pub mod agreement;
#[cfg(feature = "fs")]
pub mod handover;
pub mod ledger;
pub mod verify;
