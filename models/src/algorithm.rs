//! The one shape of everything that is computed: a local half at the hospital, a global half at the coordinator.
//!
//! State is public, contributions are secret, and only their sum is ever seen. A stage is
//! `start -> (layout, local at every hospital, secure sum, combine)* -> Done`.

use leben_privacy::dp::guarantee::Release;
use leben_privacy::{Contribution, Encoding, Layout, SegmentSpec, Unmasked, Values};

use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::outcome::Outcome;
use crate::state::State;
use crate::table::Table;

/// Both halves of one algorithm with its parameters fixed. Pure: the same arguments give the same bits.
pub trait Algorithm: Send + Sync {
    /// The first state of the stage. `from` is the last state of the earlier stage that this one builds on.
    ///
    /// # Errors
    /// A [`Finding`] when an earlier stage is needed and `from` is not its output.
    fn start(&self, from: Option<&State>) -> Result<State, Finding>;

    /// The columns it reads; the worker compares them with what the contract allows.
    fn columns(&self) -> Vec<String>;

    /// The most rounds this stage may take.
    fn rounds_max(&self) -> u32;

    /// Names, lengths and bounds of what each of `hospitals` hospitals will contribute in the round that `state` opens.
    ///
    /// # Errors
    /// A [`Finding`] when the state is not one of this algorithm's.
    fn layout(&self, state: &State, hospitals: u16) -> Result<Layout, Finding>;

    /// The local half: one pass over the rows, into the first link of the privacy chain.
    ///
    /// # Errors
    /// A [`Finding`] that names columns and counts, never a value.
    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding>;

    /// The local half of an algorithm that draws random numbers of its own: noise inside the hospital, a sample of patients.
    ///
    /// `secret` is this hospital's, of this round and of these very rows, and goes nowhere. An attempt at the same round on
    /// the same rows has the same one: fresh noise could be averaged away. It cannot come from the state: whoever knows
    /// the randomness can subtract the noise and knows who was sampled, and the state is public.
    ///
    /// # Errors
    /// As [`Algorithm::local`].
    fn local_with(&self, state: &State, rows: &Table, _secret: &[u8; 32]) -> Result<Contribution, Finding> {
        self.local(state, rows)
    }

    /// All that this stage releases about patients with differential privacy, among at most `hospitals` hospitals: what
    /// `leben_privacy::dp::guarantee` makes an epsilon of. Empty: no guarantee. Each has as many
    /// rounds as the stage ([`Algorithm::rounds_max`]), and says how often a round releases it.
    ///
    /// # Errors
    /// [`Finding::Privacy`] where noise and hospitals do not fit, or the epsilon that the parameters promise does not hold.
    fn releases(&self, _hospitals: u16) -> Result<Vec<Release>, Finding> {
        Ok(Vec::new())
    }

    /// Which groups of patients the outcome lets a reader count: the limits of the terms are held to them
    /// ([`crate::disclosure`]).
    fn groups(&self) -> Groups;

    /// The global half: from the sum over the hospitals to the next round or the result.
    ///
    /// # Errors
    /// A [`Finding`]: the stage ends with it.
    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding>;

    /// What the round that led to `state` came to, for a progress display: a deviance or another figure that falls.
    fn loss(&self, _state: &State) -> Option<f64> {
        None
    }
}

/// What follows a round.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one value a round, never stored in bulk")]
pub enum Next {
    /// Another round with this state.
    Round(State),
    /// The stage is done: what is released, and the state that later stages start from.
    Done(Outcome, State),
}

/// An exact segment: every value of one hospital lies within `bound` of zero.
pub(crate) fn spec(name: &str, len: usize, bound: f64) -> SegmentSpec {
    SegmentSpec { name: name.to_owned(), len, encoding: Encoding::Exact { bound }, noise: None }
}

/// A contribution of exact segments in the layout's order.
pub(crate) fn exact(segments: Vec<Vec<f64>>) -> Contribution {
    Contribution::new(segments.into_iter().map(Values::F64).collect())
}

/// A summed segment of exactly `len` values.
pub(crate) fn segment<'a>(sum: &'a Unmasked, name: &str, len: usize) -> Result<&'a [f64], Finding> {
    match sum.segment(name) {
        Ok(values) if values.len() == len => Ok(values),
        _ => Err(Finding::SumMismatch { segment: name.to_owned(), len }),
    }
}
