//! What a job promises the patients: a mechanism with its epsilon and delta. Each hospital computes by itself whether the
//! stages' noise keeps it.

use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::terms::{Disclosure, MECHANISMS, Privacy};
use leben_models::Algorithm;
use leben_models::promise::epsilon_micro;

use super::Drafting;
use super::stages::Built;
use crate::job::{At, DataSet};
use crate::offers::Set;
use crate::show::epsilon;

/// Delta where the job names none, in units of 10^-12.
const DELTA_E12: u64 = 1_000_000;
/// Beyond this an epsilon protects nothing.
const EPSILON_MAX: f64 = 1000.0;

impl Drafting<'_> {
    /// Mechanism, epsilon in millionths, delta in units of 10^-12.
    pub(super) fn promise(&mut self) -> (Code, u64, u64) {
        let asked = &self.job.privacy;
        let none = (self.none.clone(), 0, 0);
        let named = asked.mechanism.as_ref().filter(|at| at.value != "none");
        let Some(named) = named else {
            for (at, name) in [(&asked.epsilon, "epsilon"), (&asked.delta, "delta")] {
                if let Some(at) = at {
                    self.complain(at, format!("{name} goes with a mechanism: {}", MECHANISMS.join(", ")));
                }
            }
            return none;
        };
        let mechanism = match Code::new(&named.value) {
            Ok(code) if MECHANISMS.contains(&code.as_str()) => code,
            _ => {
                self.complain(named, format!("is none of: none, {}", MECHANISMS.join(", ")));
                return none;
            }
        };
        let before = self.problems.len();
        let epsilon_micro = match &asked.epsilon {
            None => {
                self.complain(
                    named,
                    "needs an epsilon: how much may be learned about one patient, for example epsilon = 1",
                );
                1
            }
            Some(at) if at.value > 0.0 && at.value <= EPSILON_MAX => units(at.value, 1e6),
            Some(at) => {
                self.complain(
                    at,
                    format!("must be above 0 and at most {EPSILON_MAX}; hospitals rarely give a job more than 3"),
                );
                1
            }
        };
        let delta_e12 = match &asked.delta {
            None => DELTA_E12,
            Some(at) if at.value >= 1e-12 && at.value < 1.0 => units(at.value, 1e12),
            Some(at) => {
                self.complain(at, "must be at least 1e-12 and below 1; well below one over the number of patients");
                DELTA_E12
            }
        };
        let noiseless = std::mem::take(&mut self.noiseless);
        if self.problems.len() == before {
            self.problems.extend(noiseless);
        }
        (mechanism, epsilon_micro, delta_e12)
    }
}

impl Drafting<'_> {
    /// What every hospital will compute before it signs: that no row is cut, that the stages together keep the promise,
    /// and that enough hospitals add noise.
    pub(super) fn check_private(
        &mut self,
        privacy: &Privacy,
        sets: &[(&DataSet, &Set)],
        built: &[Option<Built>],
        owners: usize,
    ) {
        let Some(named) = self.job.privacy.mechanism.clone().filter(|_| privacy.epsilon_micro > 0) else { return };
        for (data, set) in sets.iter().filter(|(data, set)| data.row_cap < set.offer.rows_most()) {
            let (cap, most) = (data.row_cap, set.offer.rows_most());
            let before = format!("row_cap {cap} is below the {most} rows that there may be in");
            let after = "; with a privacy mechanism leaving one patient out would let another in: raise it, or name \
                         fewer rows by a cohort";
            self.complain_of(&data.set.place(), before, set, after.into());
        }
        for (data, set) in sets {
            self.check_budget(privacy, data, set);
        }
        if !self.problems.is_empty() || !self.shared.is_empty() {
            return;
        }
        let hospitals = u16::try_from(owners).unwrap_or(u16::MAX);
        let job = self.job;
        for data in &job.data {
            let reads = |stage: &crate::job::Stage| {
                stage.data.as_ref().is_none_or(|names| names.iter().any(|name| name.value == data.set.value))
            };
            let stages = job.stages.iter().zip(built).filter(|(stage, _)| reads(stage));
            let stages: Vec<(&dyn Algorithm, u32)> = stages
                .filter_map(|(stage, built)| {
                    let built = built.as_ref()?;
                    Some((built.runnable.as_ref() as &dyn Algorithm, stage.rounds_max.unwrap_or(built.rounds_max)))
                })
                .collect();
            let at: At<()> = job.privacy.epsilon.as_ref().map_or_else(|| named.place(), At::place);
            match epsilon_micro(stages.iter().copied(), hospitals, privacy.delta_e12 as f64 * 1e-12) {
                Ok(micro) if micro <= privacy.epsilon_micro => {}
                Ok(micro) => {
                    let (is, delta) = (micro as f64 * 1e-6, privacy.delta_e12 as f64 * 1e-12);
                    let why = format!(
                        "the noise of the stages together gives epsilon {is:.6} at delta {delta:e}, which is more; \
                         raise their sigma, or take out rounds or stages, or promise a larger one"
                    );
                    return self.complain(&at, why);
                }
                Err(finding) => return self.complain(&at, finding.to_string()),
            }
        }
        self.check_noise_of(privacy, built, hospitals);
    }

    /// What the ledger shows of the data set's budget.
    fn check_budget(&mut self, privacy: &Privacy, data: &DataSet, set: &Set) {
        let after = match set.budget {
            None => " has no privacy budget: it takes no job with a privacy mechanism".to_owned(),
            Some(budget) if privacy.delta_e12 > budget.delta_e12 => {
                format!(
                    " has a privacy budget at delta {:e}; privacy.delta is above it",
                    budget.delta_e12 as f64 * 1e-12
                )
            }
            Some(budget) if privacy.epsilon_micro > budget.left_micro => {
                let (asked, left) = (epsilon(privacy.epsilon_micro), epsilon(budget.left_micro));
                format!(" has epsilon {left} of {} left, the job asks for {asked}", epsilon(budget.limit_micro))
            }
            Some(_) => return,
        };
        self.complain_of(&data.set.place(), "the data set".into(), set, after);
    }

    /// A sum is opened only over as many hospitals as its noise needs.
    fn check_noise_of(&mut self, privacy: &Privacy, built: &[Option<Built>], hospitals: u16) {
        for (stage, built) in self.job.stages.iter().zip(built) {
            let releases = built.as_ref().and_then(|built| built.runnable.releases(hospitals).ok()).unwrap_or_default();
            let needed = releases.iter().map(|release| release.needed()).max().unwrap_or(0);
            if needed > privacy.hospitals_min {
                let min = privacy.hospitals_min;
                let why = format!(
                    "its noise is that of {needed} hospitals (honest and corrupt), but privacy.hospitals_min opens a sum \
                     of {min}"
                );
                self.complain(&stage.algorithm, why);
            }
        }
    }

    /// What the result may not show.
    pub(super) fn disclosure(&mut self, hospitals_min: u64) -> Disclosure {
        let asked = &self.job.privacy;
        let usual = Disclosure::default();
        if let Some(at) = asked.cell_hospitals_min.as_ref().filter(|at| self.complete && at.value > hospitals_min) {
            self.complain(at, format!("must be at most hospitals_min, {hospitals_min}"));
        }
        if let Some(at) = asked.cell_min.as_ref().filter(|at| at.value == 2) {
            self.complain(at, "must be 1, for no limit, or at least 3: with 2, withheld would mean one patient");
        }
        let most = u16::try_from(hospitals_min).unwrap_or(u16::MAX).max(1);
        let or = |at: &Option<At<u64>>, usual: u64| at.as_ref().map_or(usual, |at| at.value);
        let small = |value: u64| u16::try_from(value).unwrap_or(u16::MAX);
        Disclosure {
            cell_min: u32::try_from(or(&asked.cell_min, usual.cell_min.into())).unwrap_or(u32::MAX),
            cell_hospitals_min: small(or(&asked.cell_hospitals_min, usual.cell_hospitals_min.min(most).into())),
            dominance_percent: small(or(&asked.dominance_percent, usual.dominance_percent.into())),
        }
    }
}

fn units(value: f64, scale: f64) -> u64 {
    ((value * scale).round() as u64).max(1)
}
