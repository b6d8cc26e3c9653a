//! The table of a private model. The covariance of the coefficients is the sum of that of the sampling (the inverse
//! Hessian) and that of the noise; intervals and p-values are of the normal distribution.

use crate::algorithm::Next;
use crate::design::Family;
use crate::distribution::{NORMAL_97_5, normal_two_sided};
use crate::finding::Finding;
use crate::linear::{Symmetric, triangle};
use crate::outcome::{Grid, GridRow, Outcome, Privacy, RowCounts, Step, figures, finite, whole};

use super::{DpGlm, Solved};

/// The last round, solved.
pub(super) struct Fit<'a> {
    pub(super) beta: Vec<f64>,
    /// Noisy number of rows.
    pub(super) rows: f64,
    /// Residual variance on the mapped outcome's scale; 1 for a logistic model.
    pub(super) variance: f64,
    /// Covariance that the noise gives.
    pub(super) noise: &'a Symmetric,
    pub(super) solved: &'a Solved,
    /// Round, length of the step and damping, in threes.
    pub(super) trace: &'a [f64],
    pub(super) privacy: Privacy,
}

impl DpGlm {
    pub(super) fn done(&self, fit: &Fit<'_>) -> Result<Next, Finding> {
        let side = self.rows.side();
        let row = |label: &str, estimate: f64, sampling: f64, noise: f64| {
            let se = (sampling + noise).max(0.0).sqrt();
            let (statistic, half) = (estimate / se, NORMAL_97_5 * se);
            let p = normal_two_sided(statistic);
            let values = [estimate, se, statistic, p, estimate - half, estimate + half, noise.max(0.0).sqrt()];
            GridRow { label: label.to_owned(), values: values.into_iter().map(finite).collect() }
        };
        let mut labels = vec!["(Intercept)".to_owned()];
        labels.extend(self.rows.design.names());
        let sampling = &fit.solved.inverse;
        let mapped = labels.iter().zip(&fit.beta).enumerate();
        let mapped = mapped.map(|(i, (label, b))| row(label, *b, fit.variance * sampling.at(i, i), fit.noise.at(i, i)));
        let (maps, shift) = self.rows.to_original();
        let original = labels.iter().zip(&maps).enumerate().map(|(i, (label, map))| {
            let estimate: f64 = map.iter().zip(&fit.beta).map(|(m, b)| m * b).sum();
            let estimate = if i == 0 { estimate + shift } else { estimate };
            row(label, estimate, fit.variance * sampling.form(map, map), fit.noise.form(map, map))
        });
        let tables = vec![
            grid("coefficients", "for half of each term's bounds", mapped.collect()),
            grid("coefficients_original", "for one unit of each term", original.collect()),
        ];
        let mut covariance = Vec::with_capacity(triangle(side));
        for i in 0..side {
            covariance.extend((i..side).map(|j| fit.variance * sampling.at(i, j) + fit.noise.at(i, j)));
        }
        let handed_on = self.rows.handed_on(fit.beta.clone(), covariance, fit.rows);
        Ok(Next::Done(self.outcome(fit, tables), handed_on))
    }

    fn outcome(&self, fit: &Fit<'_>, tables: Vec<Grid>) -> Outcome {
        let kind = match self.rows.family {
            Family::Binomial => "logistic",
            Family::Gaussian => "linear",
        };
        let used = whole(fit.rows);
        let step = |[round, step, damping]: &[f64; 3]| Step {
            round: *round as u32,
            values: figures([("step", *step), ("damping", *damping)]),
        };
        Outcome {
            algorithm: "dp-glm".to_owned(),
            version: 1,
            title: format!("Noisy {kind} regression of '{}'", self.rows.design.outcome().unwrap_or_default()),
            rows: RowCounts { requested: used, used, ..RowCounts::default() },
            tables,
            figures: figures([
                ("epsilon", fit.privacy.epsilon),
                ("delta", fit.privacy.delta),
                ("sigma", self.terms.sigma),
                ("residual_variance", fit.variance * self.rows.outcome.half() * self.rows.outcome.half()),
                ("ridge", self.ridge),
                ("damping", fit.solved.damping),
                ("rounds", f64::from(self.rounds)),
            ]),
            trace: fit.trace.as_chunks::<3>().0.iter().map(step).collect(),
            warnings: self.warnings(fit),
            privacy: Some(fit.privacy.clone()),
            disclosure: None,
            ..Outcome::default()
        }
    }

    fn warnings(&self, fit: &Fit<'_>) -> Vec<String> {
        let mut warnings = Vec::new();
        let last = fit.trace.as_chunks::<3>().0.last().map_or(0.0, |[_, step, _]| *step);
        if fit.solved.damping > 0.0 {
            warnings.push(
                "The noise is as large as what it hides: the system had to be damped, coefficients are pulled towards \
                 zero and the intervals do not cover that. Use more rows, fewer terms or a larger epsilon."
                    .to_owned(),
            );
        }
        if self.ridge > 0.0 {
            warnings.push("Coefficients are shrunk by the ridge; intervals do not account for that bias.".to_owned());
        }
        if self.rows.clips {
            warnings
                .push("Rows beyond 'clip' were shortened; coefficients are those of the shortened rows.".to_owned());
        }
        // At the end a step is the difference of two rounds' noise.
        let noise: f64 = (0..self.rows.side()).map(|i| fit.noise.at(i, i)).sum();
        if last * last > 18.0 * noise + 1e-4 {
            warnings.push(
                "The last step was larger than the noise explains; use more rounds, a ridge or more rows.".to_owned(),
            );
        }
        warnings
    }
}

fn grid(name: &str, scale: &str, rows: Vec<GridRow>) -> Grid {
    let columns = ["estimate", "se", "statistic", "p", "low95", "high95", "noise_se"];
    Grid {
        name: name.to_owned(),
        note: format!("{scale}; standard errors hold sampling and noise, 'noise_se' the noise alone; statistic is z"),
        columns: columns.iter().map(|column| (*column).to_owned()).collect(),
        rows,
    }
}
