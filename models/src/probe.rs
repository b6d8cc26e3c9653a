//! Measures a deployment before real work: a round of any size that reads nothing but how many rows there are.
//!
//! Every hospital contributes `length` numbers between -1 and 1, made from their position, the model that all were told and
//! the number of rows in its cohort; their average is the next model. No column is read, no value of any patient goes in, and
//! nothing is random, so whoever knows the hospitals' row counts can say beforehand what must come out: the figures of the
//! outcome (see [`figures_of`]) show whether the network added up what it should have. The numbers are of one size and as hard
//! to compress as noise, like a network's weights.
//!
//! It is written so that no whole vector is ever in memory where there are more than a million numbers: the contribution is made
//! from the model's file as its chunks are sent, the next model from the sum as it is written down.
//!
//! Parameters: `length` (1 to 2^30), `bits` of one hospital's number on the way (8, 12 or 16; default 16), `rounds`
//! (1 to 10,000; default 5), `rows_max` (most rows of one hospital, default 2^24).

use std::sync::Arc;

use leben_privacy::{Contribution, Encoding, Layout, Segment, SegmentSpec, Source, SourceError, Unmasked, Values};
use rayon::prelude::*;

use crate::algorithm::{Algorithm, Next, segment, spec};
use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::outcome::{Outcome, RowCounts, Step, figures};
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::standardise::ROWS_MAX;
use crate::state::{State, StateError, blocks};
use crate::table::Table;

/// Most values: their f32 model is a state of 4.3 GB.
pub const LENGTH_MAX: i64 = 1 << 30;

/// No value is larger: [`value`] and the average of any number of them stay within.
const CLIP: f32 = 1.0;
/// Share of the model that a hospital keeps in its own contribution.
const KEPT: f32 = 0.5;

/// The algorithm `probe`.
pub struct Probe {
    length: usize,
    bits: u8,
    rounds: u32,
    rows_max: i64,
}

impl Probe {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec) -> Result<Self, SpecError> {
        let reader = Reader::new("probe", spec, &["length", "bits", "rounds", "rows_max"])?;
        if !spec.params.contains_key("length") {
            let expected = "how many numbers a hospital contributes";
            return Err(SpecError::Missing { algorithm: "probe", param: "length", expected });
        }
        let bits = reader.integer("bits", 16, 8, 16)?;
        if !matches!(bits, 8 | 12 | 16) {
            return Err(reader.invalid("bits", "8, 12 or 16"));
        }
        Ok(Self {
            length: usize::try_from(reader.integer("length", 0, 1, LENGTH_MAX)?).unwrap_or(1),
            bits: u8::try_from(bits).unwrap_or(16),
            rounds: u32::try_from(reader.integer("rounds", 5, 1, 10_000)?).unwrap_or(1),
            rows_max: reader.integer("rows_max", ROWS_MAX, 1, 1 << 40)?,
        })
    }

    fn model(&self, state: &State) -> Result<Arc<dyn Source<f32>>, Finding> {
        state.source32("model", self.length)
    }

    fn outcome(&self, round: u32, model: &dyn Source<f32>, rows: f64) -> Result<Outcome, Finding> {
        let rows = RowCounts::from_lanes(&[rows, rows], &[]);
        let mut numbers = vec![("length", self.length as f64), ("bits", f64::from(self.bits))];
        let mut sums = [0.0; 3];
        blocks::<StateError>(model, |first, values| {
            sums = add_figures(sums, first, values);
            Ok(())
        })?;
        numbers.extend(means(sums, self.length));
        Ok(Outcome {
            algorithm: "probe".to_owned(),
            version: 1,
            title: format!("Average of {} numbers over the hospitals, {round} times", self.length),
            rows,
            figures: figures(numbers),
            trace: (1..=round).map(|round| Step { round, ..Step::default() }).collect(),
            warnings: vec!["A measurement of the network; it says nothing about any patient.".to_owned()],
            ..Outcome::default()
        })
    }
}

impl Algorithm for Probe {
    fn start(&self, _from: Option<&State>) -> Result<State, Finding> {
        State::default().with("round", vec![0.0]).with_source32("model", Arc::new(Zeros(self.length)))
    }

    fn columns(&self) -> Vec<String> {
        Vec::new()
    }

    fn groups(&self) -> Groups {
        Groups::Exempt
    }

    fn rounds_max(&self) -> u32 {
        self.rounds
    }

    fn layout(&self, state: &State, _hospitals: u16) -> Result<Layout, Finding> {
        let len = self.model(state)?.count();
        let encoding = Encoding::Compact { clip: CLIP, bits: self.bits };
        let model = SegmentSpec { name: "model".to_owned(), len, encoding, noise: None };
        Ok(Layout { segments: vec![spec("rows", 1, self.rows_max as f64), model] })
    }

    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        let held = rows.rows() as u64;
        if held as f64 > self.rows_max as f64 {
            return Err(Finding::TooManyRows { rows: held, limit: self.rows_max as u64 });
        }
        let values = Contributed { model: self.model(state)?, rows: held };
        let rows = Values::F64(vec![held as f64]);
        Ok(Contribution::from_sources(vec![rows.into(), Segment::F32(Arc::new(values))]))
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        self.model(state)?;
        let hospitals = f64::from(sum.contributions().max(1));
        let rows = segment(sum, "rows", 1)?.iter().sum();
        let mismatch = || Finding::SumMismatch { segment: "model".to_owned(), len: self.length };
        let total = sum.source("model").map_err(|_| mismatch())?;
        if total.count() != self.length {
            return Err(mismatch());
        }
        let round = state.number("round", 0)? + 1.0;
        let last = round >= f64::from(self.rounds);
        let average = Arc::new(Average { total, hospitals });
        let next = State::default().with("round", vec![round]).with_source32("model", average)?;
        Ok(match last {
            true => Next::Done(self.outcome(round as u32, &*self.model(&next)?, rows)?, next),
            false => Next::Round(next),
        })
    }
}

/// The first model.
struct Zeros(usize);

impl Source<f32> for Zeros {
    fn count(&self) -> usize {
        self.0
    }

    fn read(&self, _first: usize, out: &mut [f32]) -> Result<(), SourceError> {
        out.fill(0.0);
        Ok(())
    }
}

/// What one hospital contributes, worked out from the model whenever it is asked for.
struct Contributed {
    model: Arc<dyn Source<f32>>,
    rows: u64,
}

impl Source<f32> for Contributed {
    fn count(&self) -> usize {
        self.model.count()
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), SourceError> {
        self.model.read(first, out)?;
        for (index, number) in (first as u64..).zip(out) {
            *number = value(*number, index, self.rows);
        }
        Ok(())
    }
}

/// The next model.
struct Average {
    total: Arc<dyn Source<f64>>,
    hospitals: f64,
}

impl Source<f32> for Average {
    fn count(&self) -> usize {
        self.total.count()
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let mut totals = vec![0.0; out.len()];
        self.total.read(first, &mut totals)?;
        out.par_iter_mut().zip(totals).for_each(|(mean, total)| *mean = (total / self.hospitals) as f32);
        Ok(())
    }
}

/// What a hospital with so many rows contributes at a position where the model stands at `model`; between -1 and 1.
pub fn value(model: f32, index: u64, rows: u64) -> f32 {
    // 24 bits, so that the number is exact in f32.
    let share = (mix(index ^ rows.rotate_left(40)) >> 40) as f32 / (1_u32 << 24) as f32;
    (KEPT * model + (1.0 - KEPT) * (2.0 * share - 1.0)).clamp(-CLIP, CLIP)
}

/// What shows that the values are right, each at its place: `checksum`, the mean of the values with a sign that depends on
/// their position; `mean`; `mean_square`.
///
/// The secure sum rounds each hospital's value at random to one of two neighbouring levels, `1 / (2^(bits-1) - 1)` apart, so an
/// average over `n` hospitals differs from the exact one by half a level over the root of `n` (one standard deviation, at
/// most), and `checksum` and `mean` by that over the root of `length`; what earlier rounds left of it adds a sixth.
pub fn figures_of(model: &[f32]) -> [(&'static str, f64); 3] {
    means(add_figures([0.0; 3], 0, model), model.len())
}

/// The sums behind the figures, continued by the values from position `first` on.
fn add_figures(sums: [f64; 3], first: usize, values: &[f32]) -> [f64; 3] {
    const BLOCK: usize = 1 << 16;
    let block = |(block, values): (usize, &[f32])| {
        let mut sums = [0.0; 3];
        for (offset, value) in values.iter().enumerate() {
            let value = f64::from(*value);
            let sign = if mix((first + block * BLOCK + offset) as u64) & 1 == 0 { 1.0 } else { -1.0 };
            sums = [sums[0] + sign * value, sums[1] + value, sums[2] + value * value];
        }
        sums
    };
    // Blocks are added in their order, so that the figures do not depend on the number of threads.
    let blocks: Vec<[f64; 3]> = values.par_chunks(BLOCK).enumerate().map(block).collect();
    blocks.iter().fold(sums, |a, b| [a[0] + b[0], a[1] + b[1], a[2] + b[2]])
}

fn means(sums: [f64; 3], count: usize) -> [(&'static str, f64); 3] {
    let mean = |sum: f64| sum / count as f64;
    [("checksum", mean(sums[0])), ("mean", mean(sums[1])), ("mean_square", mean(sums[2]))]
}

/// The finaliser of SplitMix64 (Steele, Lea and Flood 2014): every bit of the result depends on every bit of the argument.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {

    use super::*;
    use crate::pooled;

    fn probe(length: i64, rounds: i64) -> AlgorithmSpec {
        AlgorithmSpec::new("probe", [("length", length), ("rounds", rounds)])
    }

    fn figure(outcome: &Outcome, name: &str) -> f64 {
        outcome.figures[name]
    }

    #[test]
    fn mix_is_splitmix64() {
        // First outputs of SplitMix64 with seed 1234567, as in the Rosetta Code reference.
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let outputs = (0..3_u64).map(|i| mix(1_234_567_u64.wrapping_add(gamma.wrapping_mul(i))));
        let known = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423];
        assert!(outputs.eq(known));
    }

    /// The rounds, written out as a loop over positions: the oracle of `start`, `local` and `combine` together.
    #[test]
    fn the_network_averages_what_the_hospitals_hold() {
        let rows = [20_usize, 35, 1000];
        let tables: Vec<Table> = rows.iter().map(|rows| Table::new(*rows)).collect();
        let algorithm = Probe::new(&probe(1000, 4)).unwrap();
        let fitted = pooled::run(&algorithm, None, &tables).unwrap();
        let mut model = vec![0.0_f32; 1000];
        for _ in 0..4 {
            for (index, value_now) in model.iter_mut().enumerate() {
                let sum: f64 = rows.iter().map(|rows| f64::from(value(*value_now, index as u64, *rows as u64))).sum();
                *value_now = (sum / 3.0) as f32;
            }
        }
        assert_eq!(fitted.rounds, 4);
        assert_eq!(fitted.state.values32("model").unwrap(), model);
        assert_eq!(fitted.outcome.rows.used, 1055);
        for (name, expected) in figures_of(&model) {
            assert_eq!(figure(&fitted.outcome, name), expected, "{name}");
        }
        // Spread over the whole range, and no two hospitals alike.
        assert!(figure(&fitted.outcome, "mean").abs() < 0.05);
        let whole = figures_of(&(0..100_000).map(|i| value(0.0, i, 20)).collect::<Vec<_>>());
        assert!((whole[2].1 - 0.25 / 3.0).abs() < 1e-3, "uniform between -0.5 and 0.5 has the mean square 1/12");
    }

    /// A model that is never in memory, against the same loop.
    #[test]
    fn a_model_outside_memory_is_the_same_model() {
        let length = crate::state::OUTSIDE_VALUES_MIN + 70_001;
        let tables: Vec<Table> = [20, 35, 1000].map(Table::new).to_vec();
        let algorithm = Probe::new(&probe(length as i64, 2)).unwrap();
        let fitted = pooled::run(&algorithm, None, &tables).unwrap();
        assert!(fitted.state.values32("model").is_err());
        let mut model = vec![0.0_f32; length];
        for _ in 0..2 {
            for (index, value_now) in model.iter_mut().enumerate() {
                let sum: f64 = [20, 35, 1000].map(|rows| f64::from(value(*value_now, index as u64, rows))).iter().sum();
                *value_now = (sum / 3.0) as f32;
            }
        }
        let mut got = vec![0.0; length];
        fitted.state.source32("model", length).unwrap().read(0, &mut got).unwrap();
        assert!(got == model);
        // Larger blocks are added first, so the last digits may differ.
        for (name, expected) in figures_of(&model) {
            assert!((figure(&fitted.outcome, name) - expected).abs() < 1e-12, "{name}");
        }
    }

    #[test]
    fn the_checksum_sees_two_values_that_changed_places() {
        let mut model: Vec<f32> = (0..1000).map(|i| value(0.0, i, 7)).collect();
        let before = figures_of(&model);
        let other = (1..1000).find(|i| (mix(0) ^ mix(*i)) & 1 == 1).unwrap() as usize;
        model.swap(0, other);
        let after = figures_of(&model);
        assert!((before[0].1 - after[0].1).abs() > 1e-9);
        assert!((before[1].1 - after[1].1).abs() < 1e-12);
    }

    #[test]
    fn a_contribution_passes_the_chain_at_every_width_and_nothing_is_clipped() {
        for bits in [8, 12, 16] {
            let algorithm = Probe::new(&probe(5000, 1).with("bits", bits)).unwrap();
            let state = algorithm.start(None).unwrap().with32("model", vec![1.0; 5000]);
            let layout = algorithm.layout(&state, 8).unwrap();
            let contribution = algorithm.local(&state, &Table::new(30)).unwrap();
            let sum = Unmasked::from_plain(&layout, vec![contribution.clone()]).unwrap();
            let values = sum.segment("model").unwrap();
            let expected: Vec<f64> = (0..5000).map(|i| f64::from(value(1.0, i, 30))).collect();
            assert_eq!(values, expected);
            contribution.clip(&layout).unwrap().quantise(8, [1; 32]).unwrap().noise([1; 32]).unwrap();
        }
    }

    #[test]
    fn wrong_parameters_and_states_are_named() {
        let text = |spec: &AlgorithmSpec| Probe::new(spec).err().unwrap().to_string();
        assert!(text(&AlgorithmSpec::new("probe", [("rounds", 3)])).contains("'length'"));
        assert!(text(&probe(0, 1)).contains("'length'"));
        assert!(text(&probe(LENGTH_MAX + 1, 1)).contains("'length'"));
        assert!(text(&probe(5, 1).with("bits", 10)).contains("8, 12 or 16"));
        assert!(text(&probe(5, 0)).contains("'rounds'"));
        assert!(text(&probe(5, 1).with("features", "age")).contains("no parameter 'features'"));
        let algorithm = Probe::new(&probe(5, 1)).unwrap();
        let other = State::default().with("round", vec![0.0]).with32("model", vec![0.0; 6]);
        assert!(matches!(algorithm.layout(&other, 3), Err(Finding::StateMismatch { .. })));
        assert!(matches!(algorithm.local(&other, &Table::new(3)), Err(Finding::StateMismatch { .. })));
        let few = Probe::new(&probe(5, 1).with("rows_max", 10)).unwrap();
        let state = few.start(None).unwrap();
        assert!(matches!(few.local(&state, &Table::new(11)), Err(Finding::TooManyRows { .. })));
    }
}
