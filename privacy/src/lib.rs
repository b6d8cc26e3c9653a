//! What is done to a contribution before it leaves a hospital, and how the sum over the hospitals is opened.
//!
//! The privacy chain is a chain of types. Each step consumes the one before it, and only the last has bytes:
//!
//! ```text
//! Contribution --clip--> Clipped --quantise--> Quantised --noise--> Noised --mask(Pads)--> Masked --chunk--> bytes
//!                                                                                                             |
//!                      reals <--segment-- Unmasked <--unmask(Pads)-- Sum <--add_chunk-------------------------+
//! ```
//!
//! The [`Pads`] of both ends come from the secure sum ([`secure_sum`]): double masking with Shamir recovery, so the
//! coordinator can open the sum over the hospitals that stayed, and nothing else. That a raw vector cannot reach the
//! wire is a compile error, not a review comment: see the `compile_fail` examples at [`Contribution`], [`Clipped`],
//! [`Quantised`] and [`Noised`].
//!
//! # Reading order
//!
//! 1. [`layout`], `ring`: what a contribution looks like, its rings and chunks; overflow impossible by construction
//! 2. [`contribution`], [`clip`], [`quantise`], [`noise`]: the steps before the mask
//! 3. [`mask`], [`sum`], [`store`], [`unmask`]: adding the pads at a hospital, the running sum, taking them off it
//! 4. `prg`, `pack`, [`merkle`]: pads from AES-256-CTR or ChaCha20, b bits a lane, the root over the chunks
//! 5. `kernel`: the same once more in vector instructions, the one folder with `unsafe` in it
//! 6. `kdf`, `shamir`, [`seal`]: HKDF, secret sharing, sealed boxes
//! 7. [`dp`]: differential privacy, from exact integer noise to the budget across jobs; `DP.md` has its claims
//! 8. [`secure_sum`]: the protocol's two pure halves; `PROTOCOL.md` has its messages, checks and limits
//!
//! Nothing here reads a clock, a disk, a socket or the machine's randomness: seeds are arguments. The crate depends on
//! nothing else of Leben, so it can be audited alone.

pub mod clip;
pub mod contribution;
pub mod dp;
mod kdf;
mod kernel;
pub mod layout;
pub mod mask;
pub mod merkle;
pub mod noise;
mod pack;
mod prg;
pub mod quantise;
mod ring;
pub mod seal;
pub mod secure_sum;
mod shamir;
pub mod store;
pub mod sum;
pub mod unmask;

pub use clip::Clipped;
pub use contribution::{Contribution, ContributionError, Segment, Source, SourceError, Values};
pub use layout::{CHUNK_BYTES_MAX, Encoding, Layout, LayoutError, SegmentNoise, SegmentSpec};
pub use mask::{Masked, Pads};
pub use noise::Noised;
pub use prg::Suite;
pub use quantise::Quantised;
pub use secure_sum::{
    Collector, Directory, JobKeys, Journal, Member, MemberKeys, Opening, Participant, Reject, RoundId,
};
pub use store::{LaneStore, StoreError};
pub use sum::{Sum, SumError};
pub use unmask::{Unmasked, Unmasking};
