//! # What is computed
//!
//! Every analysis in Leben is written as *local(state, rows) -> numbers* at the hospital, a *sum* over the hospitals, and
//! *combine(state, sum) -> next state or result* at the coordinator. This crate holds the analyses, both halves of each in
//! one place, and nothing else: no network, no clock, no file, and no randomness but what a secret handed in gives.
//!
//! Read it in this order:
//!
//! 1. [`table`]: a hospital's rows as named columns of numbers; [`select`]: one pass over the complete ones.
//! 2. [`state`]: the public state of a job, as bytes that are hashed and signed.
//! 3. [`algorithm`]: the trait; [`finding`]: what it says when it cannot go on; [`outcome`]: what it releases.
//! 4. [`spec`] and [`registry`]: how a contract names an algorithm and gets it.
//! 5. The algorithms: [`standardise`], [`glm`], [`evaluate`], on the [`design`] matrix that a job declares, with
//!    [`linear`] algebra and [`distribution`] functions of their own size; [`probe`], which measures a network and reads no
//!    patient's value.
//! 6. With differential privacy: `private` (what they share), [`dp_statistics`]; `bounded` (a design
//!    with bounds), [`dp_glm`], [`dp_sgd`]; [`promise`]: the epsilon of several stages together.
//! 7. Without: [`disclosure`], what keeps small groups of patients out of a result.
//! 8. [`bundle`]: what is delivered; [`picture`]: SVG of a result; [`pooled`]: the same stages on rows that lie in one place, for comparison.
//!
//! Contributions are the secret side: [`algorithm::Algorithm::local`] wraps them in the first type of the privacy chain
//! (`leben_privacy::Contribution`), and only the masked end of that chain has an encoding.

pub mod algorithm;
mod bounded;
pub mod bundle;
pub mod design;
pub mod disclosure;
pub mod distribution;
pub mod dp_glm;
pub mod dp_sgd;
pub mod dp_statistics;
pub mod evaluate;
pub mod finding;
pub mod glm;
pub mod linear;
pub mod outcome;
pub mod picture;
pub mod pooled;
mod private;
pub mod probe;
pub mod promise;
pub mod registry;
pub mod select;
pub mod spec;
pub mod standardise;
pub mod state;
pub mod table;

pub use algorithm::{Algorithm, Next};
pub use finding::Finding;
pub use outcome::Outcome;
pub use spec::{AlgorithmSpec, Param, SpecError};
pub use state::{State, StateError};
pub use table::{Column, Kind, Role, Table};
