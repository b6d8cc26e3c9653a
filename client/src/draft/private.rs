//! What a job promises the patients: a mechanism with its epsilon and delta. Each hospital computes by itself whether the
//! stages' noise keeps it.

use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::terms::MECHANISMS;

use super::Drafting;

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

fn units(value: f64, scale: f64) -> u64 {
    ((value * scale).round() as u64).max(1)
}
