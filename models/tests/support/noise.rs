//! The secure sum of noisy contributions without its masks: every hospital's rounded vector with its own integer noise.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

use leben_models::pooled::Fitted;
use leben_models::{Algorithm, AlgorithmSpec, Column, Finding, Kind, Next, State, Table};
use leben_privacy::dp::sample::{Bits, DiscreteGaussian};
use leben_privacy::{Contribution, Encoding, Layout, Unmasked, Values};

/// What one round's hospitals contribute, before noise.
pub struct Plain {
    layout: Layout,
    hospitals: Vec<Vec<Vec<f64>>>,
}

pub fn secret(seed: u64, hospital: usize) -> [u8; 32] {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&seed.to_le_bytes());
    secret[8..16].copy_from_slice(&(hospital as u64).to_le_bytes());
    secret
}

impl Plain {
    pub fn of(algorithm: &dyn Algorithm, state: &State, tables: &[Table], seed: u64) -> Result<Self, Finding> {
        let layout = algorithm.layout(state, u16::try_from(tables.len()).unwrap())?;
        let mut hospitals = Vec::new();
        for (hospital, table) in tables.iter().enumerate() {
            let own = algorithm.local_with(state, table, &secret(seed, hospital))?;
            let own = Unmasked::from_plain(&layout, vec![own]).unwrap();
            hospitals.push(layout.segments.iter().map(|s| own.segment(&s.name).unwrap().to_vec()).collect());
        }
        Ok(Self { layout, hospitals })
    }

    /// The opened sum.
    pub fn noisy(&self, seed: u64) -> Unmasked {
        let geometry = self.layout.geometry(u16::try_from(self.hospitals.len()).unwrap()).unwrap();
        let parts = self.hospitals.iter().enumerate().map(|(hospital, segments)| {
            let noised = segments.iter().enumerate().map(|(i, values)| {
                let steps = geometry.ring(i).unwrap().steps_per_unit();
                let law = geometry.variance(i).map(DiscreteGaussian::new);
                let mut bits = Bits::at(secret(!seed, hospital), i as u64);
                let mut noise = || law.map_or(0.0, |law| law.sample(&mut bits) as f64);
                Values::F64(values.iter().map(|x| ((x * steps).round() + noise()) / steps).collect())
            });
            Contribution::new(noised.collect())
        });
        // Noise may lift a value beyond its bound; the ring has room for it.
        let mut wide = self.layout.clone();
        for segment in &mut wide.segments {
            let room = segment.noise.map_or(0.0, |noise| 12.0 * noise.sigma);
            if let Encoding::Exact { bound } = &mut segment.encoding {
                *bound += room + 1.0;
            }
        }
        Unmasked::from_plain(&wide, parts.collect()).unwrap()
    }
}

/// One stage with noise.
pub fn run(algorithm: &dyn Algorithm, from: Option<&State>, tables: &[Table], seed: u64) -> Result<Fitted, Finding> {
    let mut state = algorithm.start(from)?;
    for rounds in 1..=algorithm.rounds_max() {
        state = State::from_bytes(&state.to_bytes().unwrap()).unwrap();
        let seed = seed * 1000 + u64::from(rounds);
        let sum = Plain::of(algorithm, &state, tables, seed)?.noisy(seed);
        match algorithm.combine(&state, &sum)? {
            Next::Round(next) => state = next,
            Next::Done(outcome, state) => return Ok(Fitted { outcome, state, rounds }),
        }
    }
    panic!("more rounds than rounds_max");
}

pub fn built(spec: &AlgorithmSpec) -> Box<dyn Algorithm + Send + Sync> {
    leben_models::registry::build(spec).unwrap()
}

/// Uniform and normal numbers that are the same everywhere (SplitMix64, Box and Muller).
pub struct Random(pub u64);

impl Random {
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / 2f64.powi(53)
    }

    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

pub fn table(columns: Vec<(&str, Vec<f64>)>) -> Table {
    Table::from_columns(columns.into_iter().map(|(name, values)| (Column::new(name, Kind::Number), values)).collect())
        .unwrap()
}

/// How often the intervals of some rows hold the truth.
#[derive(Default)]
pub struct Coverage {
    inside: u32,
    all: u32,
}

impl Coverage {
    pub fn add(&mut self, fitted: &Fitted, grid: &str, label: &str, truth: f64) {
        let value = |column| fitted.outcome.grid(grid).unwrap().value(label, column).unwrap();
        self.all += 1;
        self.inside += u32::from(value("low95") <= truth && truth <= value("high95"));
    }

    pub fn share(&self) -> f64 {
        f64::from(self.inside) / f64::from(self.all)
    }
}
