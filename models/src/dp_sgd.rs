//! Private learning inside the hospital (mode R): DP-SGD (Abadi et al. 2016, arXiv:1607.00133) on the hospital's own rows,
//! then averaging of the models through the secure sum (McMahan et al. 2017, federated averaging).
//!
//! In each of `steps` local steps every patient comes in by an own coin (Poisson sampling, really done: the accountant's
//! gain from sampling rests on it), the gradient of each patient is clipped to `gradient_clip`, integer Gaussian noise goes
//! on the sum, and the model moves. So what leaves the hospital is private before the secure sum, whoever sees it; nothing
//! rests on other hospitals (`honest` is 1), and averaging is post-processing. Coins and noise come from a secret of the
//! hospital, the round and the rows ([`Algorithm::local_with`]).
//!
//! The sum is divided by `batch`, a number of the terms, and never by how many came in; hospitals weigh the same: both
//! would be counts of patients. Models: logistic regression, or one hidden layer of `hidden` tanh units.
//!
//! Neighbours: one patient more or less at one hospital moves the rounded sum of a step by at most
//! `gradient_clip / grid + sqrt(d)` (`leben_privacy::dp::sensitivity`), against noise of 2^16 steps of the grid.
//!
//! Parameters: `features`, `outcome`, `bounds`, `clip` (`bounded`), `sigma` (noise of a step over `gradient_clip`), `rate`
//! (the coin), `batch`, `gradient_clip` ("1"), `learning_rate` ("0.5"), `rounds` (10), `steps` (10 in each round),
//! `hidden` (0), `epsilon`, `delta`, `patient`, `rows_cap`.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use leben_privacy::dp::Sampling;
use leben_privacy::dp::guarantee::{NoisySegment, Release};
use leben_privacy::dp::sample::{Bits, DiscreteGaussian, Variance};
use leben_privacy::dp::sensitivity::{clip_l2, rounded_difference_l2};
use leben_privacy::{Contribution, Layout, Unmasked};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::algorithm::{Algorithm, Next, exact, segment, spec};
use crate::bounded::Bounded;
use crate::design::Family;
use crate::disclosure::Groups;
use crate::finding::Finding;
use crate::outcome::{Grid, GridRow, Outcome, Privacy, Step, figures, finite};
use crate::private::{PARAMS, Terms, broken};
use crate::spec::{AlgorithmSpec, Reader, SpecError};
use crate::state::State;
use crate::table::Table;

mod model;

use model::Model;

/// Standard deviation of the noise of a step, in steps of its grid.
const SIGMA_STEPS: f64 = 65_536.0;
/// No weight moves further in a round; a model that wants to is lost.
const UPDATE_MAX: f64 = 1000.0;

/// The algorithm `dp-sgd`.
pub struct DpSgd {
    rows: Bounded,
    model: Model,
    terms: Terms,
    rate: f64,
    batch: f64,
    gradient_clip: f64,
    learning_rate: f64,
    rounds: u32,
    steps: u32,
    /// The accountant takes its time over many sampled steps: asked once.
    checked: OnceLock<Result<Privacy, Finding>>,
}

/// A hospital's rows, mapped; row-major.
struct Rows {
    z: Vec<f64>,
    y: Vec<f64>,
    /// Row numbers of each patient.
    patients: Vec<Vec<usize>>,
}

impl DpSgd {
    /// Reads the parameters.
    ///
    /// # Errors
    /// [`SpecError`] naming the parameter.
    pub fn new(spec: &AlgorithmSpec) -> Result<Self, SpecError> {
        let own = ["features", "outcome", "bounds", "clip", "rate", "batch", "gradient_clip", "learning_rate"];
        let more = ["rounds", "steps", "hidden"];
        // Every hospital adds all the noise by itself: there is nothing to say about the others.
        let private = PARAMS.into_iter().filter(|param| !matches!(*param, "honest" | "corrupt" | "rows_max"));
        let known: Vec<&str> = own.into_iter().chain(more).chain(private).collect();
        let reader = Reader::new("dp-sgd", spec, &known)?;
        let rows = Bounded::read(&reader, Family::Binomial)?;
        reader.needed("rate", "the chance of each patient to come into a step, a decimal number such as \"0.05\"")?;
        reader.needed("batch", "how many patients a hospital is expected to have in one step")?;
        let hidden = usize::try_from(reader.integer("hidden", 0, 0, 256)?).unwrap_or(0);
        let whole = |param, default, high| -> Result<u32, SpecError> {
            Ok(u32::try_from(reader.integer(param, default, 1, high)?).unwrap_or(1))
        };
        Ok(Self {
            model: Model { side: rows.side(), hidden },
            rows,
            terms: Terms::read(&reader, false)?,
            rate: reader.decimal("rate", 1.0, 1e-6, 1.0)?,
            batch: f64::from(whole("batch", 1, 1 << 30)?),
            gradient_clip: reader.decimal("gradient_clip", 1.0, 1e-6, 1e6)?,
            learning_rate: reader.decimal("learning_rate", 0.5, 1e-6, 1e3)?,
            rounds: whole("rounds", 10, 10_000)?,
            steps: whole("steps", 10, 10_000)?,
            checked: OnceLock::new(),
        })
    }

    fn release(&self, hospitals: u16) -> Result<Release, Finding> {
        let dim = self.model.len() as u64;
        let l2 = rounded_difference_l2(SIGMA_STEPS / self.terms.sigma, dim).map_err(|error| broken(&error))?;
        let bare = self.terms.bare(Sampling::Poisson(self.rate), u64::from(self.rounds), hospitals.max(1));
        let segments = vec![NoisySegment { sigma: SIGMA_STEPS, l2, dim }];
        Ok(Release { segments, per_round: u64::from(self.steps), ..bare })
    }

    fn privacy(&self) -> Result<Privacy, Finding> {
        let mechanism = "DP-SGD inside every hospital: Poisson sampling, clipped gradients, discrete Gaussian noise";
        self.checked.get_or_init(|| self.terms.report(&[self.release(1)?], mechanism, 1)).clone()
    }

    fn theta<'a>(&self, state: &'a State) -> Result<&'a [f64], Finding> {
        self.rows.design.check(state)?;
        state.vector("theta", self.model.len())
    }

    fn rows(&self, table: &Table) -> Result<Rows, Finding> {
        let mut wants = self.rows.design.wants().to_vec();
        if let Some(patient) = &self.terms.patient {
            wants.push(crate::select::Want { column: patient.clone(), rule: crate::select::Rule::Any });
        }
        let selection = table.select(&wants)?;
        let new = || (Vec::new(), Vec::new(), Vec::new(), self.rows.scratch());
        let ((z, y, ids, _), _) = selection.fold(
            new,
            |(z, y, ids, scratch): &mut (Vec<f64>, Vec<f64>, Vec<f64>, _), block| {
                self.rows.rows(block, scratch, |row, outcome| {
                    z.extend_from_slice(row);
                    y.push(outcome);
                });
                if self.terms.patient.is_some() {
                    ids.extend_from_slice(block.column(wants.len() - 1));
                }
            },
            |total, part| {
                total.0.extend(part.0);
                total.1.extend(part.1);
                total.2.extend(part.2);
            },
        );
        let patients = match self.terms.patient {
            None => (0..y.len()).map(|row| vec![row]).collect(),
            Some(_) => {
                let mut by_id: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
                for (row, id) in ids.iter().enumerate() {
                    by_id.entry((id + 0.0).to_bits()).or_default().push(row);
                }
                by_id.into_values().collect()
            }
        };
        Ok(Rows { z, y, patients })
    }

    /// All local steps; the model that comes out is private.
    fn train(&self, theta: &mut [f64], rows: &Rows, secret: &[u8; 32], state: &[u8; 32]) -> Result<(), Finding> {
        let grid = self.gradient_clip * self.terms.sigma / SIGMA_STEPS;
        let law = DiscreteGaussian::new(Variance::at_least(SIGMA_STEPS).map_err(|error| broken(&error))?);
        let (coins, noise) = (key(b"coins", secret, state), key(b"noise", secret, state));
        // Rounded down: nobody comes in more often than the accountant counts.
        let below = (self.rate * 2f64.powi(64)) as u64;
        let mut gradient = vec![0_f32; self.model.len()];
        for step in 0..u64::from(self.steps) {
            let mut coin = ChaCha20Rng::from_seed(*coins);
            coin.set_stream(step);
            let mut sum = vec![0.0; self.model.len()];
            for patient in &rows.patients {
                if coin.next_u64() >= below && self.rate < 1.0 {
                    continue;
                }
                gradient.fill(0.0);
                for row in patient {
                    let z = rows.z.get(row * self.rows.side()..(row + 1) * self.rows.side()).unwrap_or(&[]);
                    let y = rows.y.get(*row).copied().unwrap_or(0.0);
                    self.model.add_gradient(theta, z, y, &mut gradient);
                }
                clip_l2(&mut gradient, self.gradient_clip).map_err(|error| broken(&error))?;
                sum.iter_mut().zip(&gradient).for_each(|(sum, g)| *sum += f64::from(*g));
            }
            let mut bits = Bits::at(*noise, step);
            for (theta, sum) in theta.iter_mut().zip(&sum) {
                let noisy = (sum / grid).round_ties_even() as i64;
                let noisy = noisy.saturating_add(law.sample(&mut bits)) as f64 * grid;
                *theta -= self.learning_rate / self.batch * noisy;
            }
        }
        Ok(())
    }

    fn done(&self, state: State, theta: &[f64], privacy: Privacy) -> Result<Next, Finding> {
        let column = |label: &str, value: f64| GridRow { label: label.to_owned(), values: vec![finite(value)] };
        let grid = |name: &str, note: &str, rows: Vec<GridRow>| Grid {
            name: name.to_owned(),
            note: note.to_owned(),
            columns: vec!["estimate".to_owned()],
            rows,
        };
        let (mut tables, mut handed_on) = (Vec::new(), state.clone());
        if self.model.hidden == 0 {
            let mut labels = vec!["(Intercept)".to_owned()];
            labels.extend(self.rows.design.names());
            let (maps, _) = self.rows.to_original();
            let mapped = labels.iter().zip(theta).map(|(label, value)| column(label, *value)).collect();
            let original = labels
                .iter()
                .zip(&maps)
                .map(|(label, map)| column(label, map.iter().zip(theta).map(|(m, b)| m * b).sum()));
            let note = "for half of each term's bounds; no standard errors: the steps need not have converged";
            tables.push(grid("weights", note, mapped));
            tables.push(grid("weights_original", "for one unit of each term", original.collect()));
            let none = vec![0.0; crate::linear::triangle(self.rows.side())];
            handed_on = self.rows.handed_on(theta.to_vec(), none, 0.0).with("theta", theta.to_vec());
        }
        let norm = |[round, norm]: &[f64; 2]| Step { round: *round as u32, values: figures([("update", *norm)]) };
        let outcome = Outcome {
            algorithm: "dp-sgd".to_owned(),
            version: 1,
            title: format!("Private model of '{}'", self.rows.design.outcome().unwrap_or_default()),
            tables,
            figures: figures([
                ("epsilon", privacy.epsilon),
                ("delta", privacy.delta),
                ("sigma", self.terms.sigma),
                ("rate", self.rate),
                ("weights", self.model.len() as f64),
                ("steps", f64::from(self.rounds) * f64::from(self.steps)),
            ]),
            trace: state.values("trace")?.as_chunks::<2>().0.iter().map(norm).collect(),
            warnings: vec!["Rows are not counted: a count would be about patients.".to_owned()],
            privacy: Some(privacy),
            ..Outcome::default()
        };
        Ok(Next::Done(outcome, handed_on))
    }
}

/// A key of this secret, this model and one purpose.
fn key(purpose: &[u8; 5], secret: &[u8; 32], state: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    let hash = Sha256::new().chain_update(b"leben/dp-sgd/v1").chain_update(purpose);
    Zeroizing::new(hash.chain_update(secret).chain_update(state).finalize().into())
}

impl Algorithm for DpSgd {
    fn start(&self, _from: Option<&State>) -> Result<State, Finding> {
        let state = self.rows.design.describe(State::default()).with("round", vec![0.0]);
        Ok(state.with("theta", self.model.first()).with_matrix("trace", 2, Vec::new()))
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

    fn layout(&self, _state: &State, _hospitals: u16) -> Result<Layout, Finding> {
        self.privacy()?;
        // No noise here: it is in the model already.
        Ok(Layout { segments: vec![spec("update", self.model.len(), UPDATE_MAX)] })
    }

    fn local(&self, _state: &State, _rows: &Table) -> Result<Contribution, Finding> {
        let problem = "'dp-sgd' draws noise inside the hospital and needs a secret; call its local half with one";
        Err(Finding::Privacy { problem: problem.to_owned() })
    }

    fn local_with(&self, state: &State, rows: &Table, secret: &[u8; 32]) -> Result<Contribution, Finding> {
        let from = self.theta(state)?;
        let rows = self.terms.capped(rows)?;
        let rows = self.rows(&rows)?;
        let mut theta = from.to_vec();
        self.train(&mut theta, &rows, secret, &state.digest()?)?;
        let update = theta.iter().zip(from).map(|(to, from)| {
            let update = to - from;
            if update.is_finite() { update.clamp(-UPDATE_MAX, UPDATE_MAX) } else { 0.0 }
        });
        Ok(exact(vec![update.collect()]))
    }

    fn releases(&self, hospitals: u16) -> Result<Vec<Release>, Finding> {
        self.privacy()?;
        Ok(vec![self.release(hospitals)?])
    }

    fn combine(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        let privacy = self.privacy()?;
        let hospitals = f64::from(sum.contributions().max(1));
        let update: Vec<f64> = segment(sum, "update", self.model.len())?.iter().map(|sum| sum / hospitals).collect();
        let theta: Vec<f64> = self.theta(state)?.iter().zip(&update).map(|(theta, update)| theta + update).collect();
        let round = state.number("round", 0)? + 1.0;
        let mut trace = state.values("trace")?.to_vec();
        trace.extend([round, update.iter().map(|x| x * x).sum::<f64>().sqrt()]);
        let next = self.rows.design.describe(State::default()).with("round", vec![round]);
        let next = next.with("theta", theta.clone()).with_matrix("trace", 2, trace);
        if round >= f64::from(self.rounds) { self.done(next, &theta, privacy) } else { Ok(Next::Round(next)) }
    }
}
