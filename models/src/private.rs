//! What the differentially private algorithms share: their privacy parameters, the noise that follows from them, and the
//! check that the promised epsilon holds. What is a guarantee and what is not: `privacy/DP.md`.
//!
//! Parameters: `sigma`, the noise multiplier of the whole stage: the standard deviation of the noise in a sum over its L2
//! sensitivity, as if everything were released at once; `honest`, the survivors whose noise nobody else knows; `corrupt`
//! (1), further survivors that may tell theirs; `epsilon`, the promise that is checked against the accountant; `delta`
//! ("1e-6"); `rows_max`, most rows of one hospital that the sums have room for (beyond it they are clamped, never
//! refused); `patient` and `rows_cap` (1): the column that says whose row it is, and how many rows of one patient are
//! used. Without `patient` every row counts as a patient of its own.
//!
//! A stage releases `m` parts in each of `r` rounds, each part with its own sensitivity `l2`. Every part gets noise of
//! `sigma l2 sqrt(m r)`, so that all of them together are one Gaussian mechanism with multiplier `sigma`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use leben_privacy::dp::guarantee::{Guarantee, Release, Unit, guarantee};
use leben_privacy::dp::{DpError, Sampling};
use leben_privacy::{Contribution, Encoding, Layout, SegmentNoise, SegmentSpec, Unmasked, Values};

use crate::finding::Finding;
use crate::outcome::Privacy;
use crate::spec::{Reader, SpecError};
use crate::table::Table;

/// The parameters that every private algorithm has.
pub(crate) const PARAMS: [&str; 8] =
    ["sigma", "honest", "corrupt", "epsilon", "delta", "rows_max", "patient", "rows_cap"];

const ROWS_MAX: i64 = 1 << 24;

/// Privacy parameters of one stage.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) sigma: f64,
    pub(crate) honest: u16,
    pub(crate) corrupt: u16,
    pub(crate) epsilon: f64,
    pub(crate) delta: f64,
    pub(crate) rows_max: f64,
    pub(crate) patient: Option<String>,
    pub(crate) rows_cap: f64,
}

/// One noisy segment.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    pub(crate) name: String,
    pub(crate) len: usize,
    /// Largest magnitude that one row adds to a value.
    pub(crate) each: f64,
    /// Largest L2 norm that one row adds to the segment.
    pub(crate) l2: f64,
}

impl Terms {
    /// Reads the parameters; `distributed` says that the noise is that of several hospitals (mode D).
    pub(crate) fn read(reader: &Reader<'_>, distributed: bool) -> Result<Self, SpecError> {
        let hospitals = |param, low: i64, default: i64| -> Result<u16, SpecError> {
            Ok(u16::try_from(reader.integer(param, default, low, i64::from(u16::MAX))?).unwrap_or(u16::MAX))
        };
        let (honest, corrupt) = if distributed {
            reader.needed("honest", "how many hospitals are sure to add noise that nobody else knows")?;
            (hospitals("honest", 1, 0)?, hospitals("corrupt", 0, 1)?)
        } else {
            (1, 0)
        };
        reader.needed("sigma", "the noise multiplier, a decimal number such as \"2.5\"")?;
        reader.needed("epsilon", "the epsilon that is promised, a decimal number such as \"1\"")?;
        let patient = reader.text_maybe("patient")?.map(|column| column.trim().to_owned());
        let rows_cap = reader.integer("rows_cap", 1, 1, 1_000_000)? as f64;
        if patient.is_none() && rows_cap > 1.0 {
            return Err(reader.invalid("rows_cap", "1, or come with 'patient', the column that says whose row it is"));
        }
        Ok(Self {
            sigma: reader.decimal("sigma", 0.0, 0.1, 1e4)?,
            honest,
            corrupt,
            epsilon: reader.decimal("epsilon", 0.0, 1e-6, 1e3)?,
            delta: reader.decimal("delta", 1e-6, 1e-15, 1e-3)?,
            rows_max: reader.integer("rows_max", ROWS_MAX, 1, 1 << 32)? as f64,
            patient,
            rows_cap,
        })
    }

    /// Adds the patient's column to those that are read.
    pub(crate) fn with_patient(&self, mut columns: Vec<String>) -> Vec<String> {
        if let Some(patient) = &self.patient
            && !columns.contains(patient)
        {
            columns.push(patient.clone());
        }
        columns
    }

    /// The rows with at most `rows_cap` of each patient, the first ones; rows without a patient are left out. Whose rows
    /// stay depends on nobody else's.
    pub(crate) fn capped<'a>(&self, rows: &'a Table) -> Result<Cow<'a, Table>, Finding> {
        let Some(patient) = &self.patient else { return Ok(Cow::Borrowed(rows)) };
        let (_, ids) = rows.column(patient).ok_or_else(|| Finding::MissingColumn { column: patient.clone() })?;
        let mut seen: BTreeMap<u64, f64> = BTreeMap::new();
        let keep: Vec<bool> = ids
            .iter()
            .map(|id| {
                // Minus zero is zero.
                let count = seen.entry((id + 0.0).to_bits()).or_default();
                *count += 1.0;
                !id.is_nan() && *count <= self.rows_cap
            })
            .collect();
        Ok(Cow::Owned(rows.filter(&keep)?))
    }

    /// The layout of one round of `rounds` that each release these parts.
    pub(crate) fn layout(&self, parts: &[Part], rounds: u32) -> Layout {
        let releases = (parts.len() as f64 * f64::from(rounds)).sqrt();
        let segment = |part: &Part| SegmentSpec {
            name: part.name.clone(),
            len: part.len,
            encoding: Encoding::Exact { bound: self.rows_max * part.each },
            noise: Some(SegmentNoise {
                sigma: self.sigma * self.moves(part) * releases / f64::from(self.honest).sqrt(),
                norm: None,
            }),
        };
        Layout { segments: parts.iter().map(segment).collect() }
    }

    /// How far one patient moves a part.
    fn moves(&self, part: &Part) -> f64 {
        part.l2 * self.rows_cap
    }

    /// Sums within the bounds of the layout: a sum beyond them would be refused, and a refusal tells. Clamping brings no
    /// two vectors further apart, so the sensitivity stays.
    pub(crate) fn contribution(&self, parts: &[Part], sums: Vec<Vec<f64>>) -> Contribution {
        let clamp = |(part, mut sums): (&Part, Vec<f64>)| {
            let bound = self.rows_max * part.each;
            sums.iter_mut().for_each(|x| *x = if x.is_finite() { x.clamp(-bound, bound) } else { 0.0 });
            Values::F64(sums)
        };
        Contribution::new(parts.iter().zip(sums).map(clamp).collect())
    }

    /// What is released, for the accountant.
    pub(crate) fn release(&self, parts: &[Part], rounds: u32, hospitals: u16) -> Result<Release, Finding> {
        let moves: Vec<f64> = parts.iter().map(|part| self.moves(part)).collect();
        self.bare(Sampling::All, u64::from(rounds), hospitals)
            .of_layout(&self.layout(parts, rounds), &moves)
            .map_err(|error| broken(&error))
    }

    /// The release, once the promise is known to hold: for so many hospitals, and on the coarsest grid, which the report
    /// at the end computes with. A job that passed here cannot fail there, with its budget spent.
    pub(crate) fn promised(&self, parts: &[Part], rounds: u32, hospitals: u16) -> Result<Vec<Release>, Finding> {
        self.check(&[self.release(parts, rounds, ANY_HOSPITALS)?])?;
        let releases = vec![self.release(parts, rounds, hospitals)?];
        self.check(&releases)?;
        Ok(releases)
    }

    pub(crate) fn bare(&self, sampling: Sampling, rounds: u64, hospitals: u16) -> Release {
        let (honest, corrupt) = (self.honest, self.corrupt);
        let (segments, unit, per_round) = (Vec::new(), Unit::Patient, 1);
        Release { segments, unit, honest, corrupt, hospitals, sampling, rounds, per_round }
    }

    /// The accountant's epsilon at this `delta`.
    ///
    /// # Errors
    /// [`Finding::Privacy`] where it is above the promise, or there is none.
    pub(crate) fn check(&self, releases: &[Release]) -> Result<Guarantee, Finding> {
        let guarantee = guarantee(releases, self.delta).map_err(|error| broken(&error))?;
        let (epsilon, promised, delta) = (epsilon_of(guarantee), self.epsilon, self.delta);
        if epsilon > promised {
            let problem = format!(
                "this noise gives epsilon {epsilon} at delta {delta}, above the promised {promised}; raise 'sigma'"
            );
            return Err(Finding::Privacy { problem });
        }
        Ok(guarantee)
    }

    /// The guarantee for the report; the sum of too few hospitals should never have been opened.
    pub(crate) fn report(&self, releases: &[Release], mechanism: &str, survivors: u16) -> Result<Privacy, Finding> {
        for release in releases {
            release.check_survivors(survivors).map_err(|error| broken(&error))?;
        }
        let guarantee = self.check(releases)?;
        let (epsilon, delta) = (epsilon_of(guarantee), guarantee.delta);
        Ok(Privacy { epsilon, delta, mechanism: mechanism.to_owned(), honest: self.honest })
    }
}

/// Hospitals for which the report computes its epsilon: the coarsest grid there is, so never below the one of the terms.
pub(crate) const ANY_HOSPITALS: u16 = u16::MAX;

fn epsilon_of(guarantee: Guarantee) -> f64 {
    guarantee.epsilon_micro as f64 / 1e6
}

/// What the privacy core refuses, as a finding.
pub(crate) fn broken(error: &DpError) -> Finding {
    Finding::Privacy { problem: error.to_string() }
}

/// Standard deviation of the noise in each value of a summed segment, in the unit of its values. The grid is a millionth
/// of it, so rounding does not show.
pub(crate) fn noise_sd(sum: &Unmasked, name: &str) -> Result<f64, Finding> {
    let segment = sum.layout().segments.iter().find(|segment| segment.name == name);
    match segment.and_then(|segment| segment.noise) {
        Some(noise) => Ok(noise.sigma * f64::from(sum.contributions()).sqrt()),
        None => Err(Finding::Privacy { problem: format!("the sum of '{name}' carries no noise") }),
    }
}

/// An interval that the terms name, and never the data: what a value is clamped to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Range {
    /// `low..high`, two decimal numbers.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (low, high) = text.split_once("..")?;
        let (low, high) = (low.trim().parse::<f64>().ok()?, high.trim().parse::<f64>().ok()?);
        let sound = low < high && low.abs() <= 1e15 && high.abs() <= 1e15;
        sound.then_some(Self { low, high })
    }

    pub(crate) fn middle(self) -> f64 {
        self.low / 2.0 + self.high / 2.0
    }

    pub(crate) fn half(self) -> f64 {
        self.high / 2.0 - self.low / 2.0
    }

    /// The value clamped to the interval, as a number from -1 to 1.
    pub(crate) fn unit(self, value: f64) -> f64 {
        ((value - self.middle()) / self.half()).clamp(-1.0, 1.0)
    }
}
