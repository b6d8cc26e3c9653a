//! Linear and logistic regression with differential privacy: noisy sums instead of exact ones, and standard errors that
//! include the noise.
//!
//! **Linear** (one round): the second moments of (1, terms, outcome) with noise, solved once. Noise on sufficient
//! statistics: Dwork, Talwar, Thakurta, Zhang 2014 ("Analyze Gauss"); Sheffet 2017; the damping where the noise could make
//! the system singular is that of Wang 2018 (arXiv:1803.02596, AdaSSP).
//!
//! **Logistic** (`rounds`, default 6): Newton steps from noisy gradients and Hessians, each round with its share of the
//! noise: Avella-Medina, Bradshaw, Loh 2023 (arXiv:2103.11003).
//!
//! With a row r of norm at most R, the upper triangle of r r' with its off-diagonal times sqrt(2) has norm at most R^2:
//!
//! | sum | a row adds | L2 norm |
//! |---|---|---|
//! | moments | r r', r = (1, terms, outcome) | 2 + clip^2 |
//! | gradient | (y - mu) z, z = (1, terms) | sqrt(1 + clip^2) |
//! | Hessian | mu (1 - mu) z z' | (1 + clip^2) / 4 |
//!
//! Coefficients move like the square root of the number of rows over the number of terms squared: below some thousand
//! rows, or with many terms, there is little to see through the noise, and the intervals say so.
//!
//! Parameters: `features`, `outcome`, `bounds`, `clip` (`bounded`), `family` (binomial), `ridge` ("0"), `rounds` (2 to
//! 50, logistic only), the privacy parameters of `private`.

use leben_privacy::dp::guarantee::Release;
use leben_privacy::{Contribution, Layout, Unmasked};

use crate::algorithm::{Algorithm, Next, segment};
use crate::bounded::{Bounded, RowScratch};
use crate::design::Family;
use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::linear::{Symmetric, triangle};
use crate::outcome::{Privacy, whole};
use crate::private::{ANY_HOSPITALS, PARAMS, Part, Terms, noise_sd};
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::state::State;
use crate::table::Table;

mod report;

/// A step beyond this, in coefficients of terms from -1 to 1, is noise or separation.
const STEP_MAX: f64 = 5.0;
const DAMPINGS_MAX: u32 = 200;

/// The algorithm `dp-glm`.
pub struct DpGlm {
    rows: Bounded,
    parts: Vec<Part>,
    ridge: f64,
    rounds: u32,
    terms: Terms,
}

/// A noisy system of equations: `(matrix + ridge) step = right`.
struct System {
    matrix: Symmetric,
    right: Vec<f64>,
    /// Standard deviation of the noise on the diagonal of `matrix`; off it, that over sqrt(2).
    matrix_sd: f64,
    /// Of each value of `right`.
    right_sd: f64,
}

/// A system solved.
struct Solved {
    step: Vec<f64>,
    inverse: Symmetric,
    /// What had to be added to the diagonal because the noise could have made it singular.
    damping: f64,
}

impl DpGlm {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec) -> Result<Self, SpecError> {
        let own = ["features", "outcome", "bounds", "clip", "family", "ridge", "rounds"];
        let known: Vec<&str> = own.into_iter().chain(PARAMS).collect();
        let reader = Reader::new("dp-glm", spec, &known)?;
        let family = Family::read(&reader)?;
        let rows = Bounded::read(&reader, family)?;
        let root = std::f64::consts::SQRT_2;
        let part = |name: &str, len: usize, each: f64, l2: f64| Part { name: name.to_owned(), len, each, l2 };
        let parts = match family {
            Family::Gaussian => vec![part("moments", triangle(rows.side() + 1), root, 1.0 + rows.square())],
            Family::Binomial => vec![
                part("gradient", rows.side(), 1.0, rows.square().sqrt()),
                part("hessian", triangle(rows.side()), root / 4.0, rows.square() / 4.0),
            ],
        };
        let rounds = match family {
            Family::Gaussian => reader.integer("rounds", 1, 1, 1)?,
            Family::Binomial => reader.integer("rounds", 6, 2, 50)?,
        };
        Ok(Self {
            rows,
            parts,
            ridge: reader.decimal("ridge", 0.0, 0.0, 1e12)?,
            rounds: u32::try_from(rounds).unwrap_or(1),
            terms: Terms::read(&reader, true)?,
        })
    }

    fn sums(&self, beta: &[f64], rows: &Table) -> Result<Vec<Vec<f64>>, Finding> {
        let selection = rows.select(self.rows.design.wants())?;
        let new = || (self.parts.iter().map(|part| vec![0.0; part.len]).collect::<Vec<_>>(), self.rows.scratch());
        let (sums, _) = selection.fold(
            new,
            |(sums, scratch): &mut (Vec<Vec<f64>>, RowScratch), block| {
                let mut whole = Vec::with_capacity(self.rows.side() + 1);
                self.rows.rows(block, scratch, |z, y| match (self.rows.family, sums.as_mut_slice()) {
                    (Family::Gaussian, [moments]) => {
                        whole.clear();
                        whole.extend_from_slice(z);
                        whole.push(y);
                        add_square(moments, &whole, 1.0);
                    }
                    (Family::Binomial, [gradient, hessian]) => {
                        let eta: f64 = z.iter().zip(beta).map(|(z, b)| z * b).sum();
                        let mu = 1.0 / (1.0 + libm::exp(-eta));
                        // Of coefficients that are not finite: no row may turn the whole sum into nothing.
                        let mu = if mu.is_nan() { 0.5 } else { mu };
                        gradient.iter_mut().zip(z).for_each(|(sum, z)| *sum += (y - mu) * z);
                        add_square(hessian, z, mu * (1.0 - mu));
                    }
                    _ => {}
                });
            },
            |(total, _), (part, _)| {
                for (total, part) in total.iter_mut().zip(&part) {
                    total.iter_mut().zip(part).for_each(|(total, part)| *total += part);
                }
            },
        );
        Ok(sums.0)
    }

    fn combine_linear(&self, sum: &Unmasked, privacy: Privacy) -> Result<Next, Finding> {
        let side = self.rows.side();
        let sd = noise_sd(sum, "moments")?;
        let moments = unpack(segment(sum, "moments", triangle(side + 1))?, side + 1);
        let mut matrix = Symmetric::zero(side);
        for i in 0..side {
            (i..side).for_each(|j| matrix.add(i, j, moments.at(i, j)));
        }
        let rows = moments.at(0, 0);
        self.enough(rows, sd)?;
        let right = (0..side).map(|i| moments.at(i, side)).collect();
        let system = System { matrix, right, matrix_sd: sd, right_sd: sd * std::f64::consts::FRAC_1_SQRT_2 };
        let solved = self.solve(&system, &vec![0.0; side])?;
        let beta = solved.step.clone();
        let noise = noise_covariance(&system, &solved.inverse, &beta);
        // What is left of the outcome's square; the noise was fitted as well, so it is put back.
        let product: f64 = beta.iter().zip(&system.right).map(|(b, r)| b * r).sum();
        let left = moments.at(side, side) - 2.0 * product + system.matrix.form(&beta, &beta);
        let norm = 1.0 + beta.iter().map(|b| b * b).sum::<f64>();
        let fitted: f64 =
            (0..side).map(|i| (0..side).map(|j| noise.at(i, j) * system.matrix.at(i, j)).sum::<f64>()).sum();
        let variance = (left + fitted.max(0.0)).max(sd * norm) / (rows - side as f64);
        self.done(&report::Fit { beta, rows, variance, noise: &noise, solved: &solved, trace: &[], privacy })
    }

    fn combine_logistic(&self, state: &State, sum: &Unmasked, privacy: Privacy) -> Result<Next, Finding> {
        let side = self.rows.side();
        let beta = self.rows.beta(state)?;
        let round = state.number("round", 0)? + 1.0;
        let matrix = unpack(segment(sum, "hessian", triangle(side))?, side);
        let (matrix_sd, right_sd) = (noise_sd(sum, "hessian")?, noise_sd(sum, "gradient")?);
        // At the first coefficients every row has the weight a quarter.
        let rows = if round == 1.0 { 4.0 * matrix.at(0, 0) } else { state.number("rows", 0)? };
        if round == 1.0 {
            self.enough(rows, 4.0 * matrix_sd)?;
        }
        let system = System { matrix, right: segment(sum, "gradient", side)?.to_vec(), matrix_sd, right_sd };
        let mut solved = self.solve(&system, beta)?;
        let length = solved.step.iter().map(|step| step * step).sum::<f64>().sqrt();
        if length > STEP_MAX {
            solved.step.iter_mut().for_each(|step| *step *= STEP_MAX / length);
        }
        let next: Vec<f64> = beta.iter().zip(&solved.step).map(|(b, step)| b + step).collect();
        let mut trace = state.values("trace")?.to_vec();
        trace.extend([round, length, solved.damping]);
        if round >= f64::from(self.rounds) {
            let noise = noise_covariance(&system, &solved.inverse, &solved.step);
            let fit =
                report::Fit { beta: next, rows, variance: 1.0, noise: &noise, solved: &solved, trace: &trace, privacy };
            return self.done(&fit);
        }
        let state = self.rows.design.describe(State::default()).with("round", vec![round]).with("beta", next);
        Ok(Next::Round(state.with("rows", vec![rows]).with_matrix("trace", 3, trace)))
    }

    /// More rows than coefficients, and than the noise could make up.
    fn enough(&self, rows: f64, sd: f64) -> Result<(), Finding> {
        let needed = self.rows.side() as f64 + 4.0 * sd;
        if rows > needed {
            return Ok(());
        }
        Err(Finding::TooFewRows { used: whole(rows), requested: whole(rows), needed: whole(needed.ceil()) })
    }

    /// Solves for the step. The noise shifts an eigenvalue by about `matrix_sd sqrt(2 side)` at most (Wigner): where the
    /// smallest one is not surely above that, the diagonal is raised until it is.
    fn solve(&self, system: &System, beta: &[f64]) -> Result<Solved, Finding> {
        let side = self.rows.side();
        let reach = system.matrix_sd * (2.0 * side as f64).sqrt();
        let raised = |by: f64| {
            let mut matrix = system.matrix.clone();
            (0..side).for_each(|i| matrix.add(i, i, by + if i > 0 { self.ridge } else { 0.0 }));
            matrix
        };
        let mut damping = 0.0;
        for attempt in 0..DAMPINGS_MAX {
            if raised(damping - reach).factor(0.0).is_ok() {
                break;
            }
            damping = reach * 0.25 * f64::from(attempt + 1);
        }
        let factor = raised(damping).factor(0.0).map_err(|row| {
            let names = self.rows.design.names();
            Finding::Singular { term: row.checked_sub(1).and_then(|i| names.get(i)).cloned().unwrap_or_default() }
        })?;
        let penalised: Vec<f64> = system
            .right
            .iter()
            .zip(beta)
            .enumerate()
            .map(|(i, (right, beta))| right - if i > 0 { self.ridge * beta } else { 0.0 })
            .collect();
        let step = factor.solve(&penalised);
        if step.iter().any(|value| !value.is_finite()) {
            return Err(Finding::NotFinite { what: "a noisy Newton step".to_owned() });
        }
        Ok(Solved { step, inverse: factor.inverse(), damping })
    }
}

/// Adds `weight r r'` to a packed upper triangle with its off-diagonal times sqrt(2).
fn add_square(sums: &mut [f64], r: &[f64], weight: f64) {
    let mut sums = sums.iter_mut();
    for (i, a) in r.iter().enumerate() {
        for (j, b) in r.iter().enumerate().skip(i) {
            let scale = if i == j { weight } else { weight * std::f64::consts::SQRT_2 };
            if let Some(sum) = sums.next() {
                *sum += scale * a * b;
            }
        }
    }
}

fn unpack(sums: &[f64], side: usize) -> Symmetric {
    let mut matrix = Symmetric::new(side, sums.to_vec()).unwrap_or_else(|| Symmetric::zero(side));
    for i in 0..side {
        for j in i + 1..side {
            let excess = matrix.at(i, j) * (1.0 - std::f64::consts::FRAC_1_SQRT_2);
            matrix.add(i, j, -excess);
        }
    }
    matrix
}

/// Covariance that the noise gives a solution x of `(A + E) x = b + e`: x is off by the inverse times `e - E x`, and
/// `e - E x` has covariance `right_sd^2 I + matrix_sd^2 / 2 (|x|^2 I + x x')`.
fn noise_covariance(system: &System, inverse: &Symmetric, x: &[f64]) -> Symmetric {
    let side = inverse.side();
    let half = 0.5 * system.matrix_sd * system.matrix_sd;
    let plain = system.right_sd * system.right_sd + half * x.iter().map(|x| x * x).sum::<f64>();
    let along: Vec<f64> = (0..side).map(|i| x.iter().enumerate().map(|(j, x)| inverse.at(i, j) * x).sum()).collect();
    let mut covariance = Symmetric::zero(side);
    for (i, a) in along.iter().enumerate() {
        for (j, b) in along.iter().enumerate().skip(i) {
            let square: f64 = (0..side).map(|k| inverse.at(i, k) * inverse.at(k, j)).sum();
            covariance.add(i, j, plain * square + half * a * b);
        }
    }
    covariance
}

impl Algorithm for DpGlm {
    fn start(&self, _from: Option<&State>) -> Result<State, Finding> {
        let state = self.rows.design.describe(State::default()).with("round", vec![0.0]);
        Ok(state.with("beta", vec![0.0; self.rows.side()]).with("rows", vec![0.0]).with_matrix("trace", 3, Vec::new()))
    }

    fn columns(&self) -> Vec<String> {
        self.terms.with_patient(self.rows.design.columns())
    }

    fn groups(&self) -> Groups {
        Groups::Exempt
    }

    fn rounds_max(&self) -> u32 {
        self.rounds
    }

    fn layout(&self, _state: &State, hospitals: u16) -> Result<Layout, Finding> {
        self.releases(hospitals)?;
        Ok(self.terms.layout(&self.parts, self.rounds))
    }

    fn local(&self, state: &State, rows: &Table) -> Result<Contribution, Finding> {
        let beta = self.rows.beta(state)?;
        let rows = self.terms.capped(rows)?;
        Ok(self.terms.contribution(&self.parts, self.sums(beta, &rows)?))
    }

    fn releases(&self, hospitals: u16) -> Result<Vec<Release>, Finding> {
        self.terms.promised(&self.parts, self.rounds, hospitals)
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        let mechanism = "discrete Gaussian noise of every hospital inside the secure sum";
        let releases = [self.terms.release(&self.parts, self.rounds, ANY_HOSPITALS)?];
        let privacy = self.terms.report(&releases, mechanism, sum.contributions())?;
        match self.rows.family {
            Family::Gaussian => self.combine_linear(sum, privacy),
            Family::Binomial => self.combine_logistic(state, sum, privacy),
        }
    }
}
