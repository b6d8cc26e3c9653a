//! The secure sum's pure halves: Bonawitz et al. 2017 (eprint 2017/281), the malicious-server variant with a PKI.
//!
//! `PROTOCOL.md` beside this crate has the messages, the checks, the threat model and what is not protected.
//! A slot at one hospital, top to bottom:
//!
//! 1. [`Participant::advertise`] and [`Participant::share`], a slot ahead, in the cohort or not;
//! 2. [`Participant::open`] gives the [`Pads`](crate::Pads) of the slot, once;
//! 3. [`Participant::sign_upload`] under the root of the masked chunks;
//! 4. [`Participant::agree`] to the one close (persist [`Participant::journal`] before sending);
//! 5. [`Participant::reveal`] once a threshold of survivors agreed, and, where the threshold is too low for signatures alone,
//!    the ledger has the close.
//!
//! [`Collector`] is the coordinator's side of steps 3 to 5; it sees no secret of a surviving hospital's pairwise masks.
//!
//! Files: [`keys`], [`transcript`], [`messages`], [`graph`], [`participant`], [`journal`], [`collector`], `recover`, [`errors`].

#[cfg(test)]
mod adversary_tests;
pub mod collector;
pub mod errors;
pub mod graph;
pub mod journal;
pub mod keys;
pub mod messages;
pub mod participant;
mod recover;
pub mod transcript;

pub use collector::Collector;
pub use errors::Reject;
pub use journal::{AgreedRound, Journal};
pub use keys::{Consistency, Directory, JobKeys, Member, MemberKeys, Signature, SlotKey, threshold, threshold_ledger};
pub use messages::{Agree, Agreement, Close, FixedClose, Reveal, SHARE_BOX_BYTES, SealedShare, Survivor, Upload};
pub use participant::Participant;
pub use transcript::{Opening, RoundId};
