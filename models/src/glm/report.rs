//! From the last round of a model to its table: both scales, standard errors, tests, intervals, deviance, AIC.
//!
//! Covariance is the inverse of the Hessian with the penalty in it (for ridge 0 the classical one; for ridge > 0 the
//! Bayesian posterior's under the matching normal prior, which does not cover the bias of shrinking). Gaussian models
//! multiply it by the residual variance and use Student's t. On the original scale `b_j = beta_j / sd_j` and
//! `b_0 = beta_0 - sum beta_j mean_j / sd_j`, and the covariance follows by the same linear map.

use crate::algorithm::Next;
use crate::design::Family;
use crate::distribution::{NORMAL_97_5, normal_two_sided, student_97_5, student_two_sided};
use crate::finding::Finding;
use crate::linear::Symmetric;
use crate::outcome::{Grid, GridRow, Outcome, Step, figures, finite};
use crate::state::State;

use super::{Glm, INTERCEPT, Round};

/// Deviance and what it is compared with, on the outcome's own scale.
struct Fit {
    deviance: f64,
    null_deviance: f64,
    dispersion: f64,
    df_model: f64,
    df_residual: f64,
    aic: f64,
}

impl Glm {
    pub(super) fn done(&self, state: &State, round: &Round<'_>, inverse: &Symmetric) -> Result<Next, Finding> {
        let beta = state.vector("beta", self.side())?;
        let moments = state.vector("outcome", 2)?;
        let unit = if self.family == Family::Gaussian { moments.get(1).copied().unwrap_or(1.0) } else { 1.0 };
        let fit = self.fit(round, inverse, unit);
        // Dispersion on the standardised outcome's scale, where beta and the inverse live.
        let variance = fit.dispersion / (unit * unit);
        let quantile = match self.family {
            Family::Binomial => NORMAL_97_5,
            Family::Gaussian => student_97_5(fit.df_residual),
        };
        let p_value = |statistic: f64| match self.family {
            Family::Binomial => normal_two_sided(statistic),
            Family::Gaussian => student_two_sided(statistic, fit.df_residual),
        };
        let row = |label: String, estimate: f64, variance: f64| {
            let se = variance.max(0.0).sqrt();
            let statistic = estimate / se;
            let half = quantile * se;
            let values = [estimate, se, statistic, p_value(statistic), estimate - half, estimate + half];
            GridRow { label, values: values.into_iter().map(finite).collect() }
        };
        let mut labels = vec![INTERCEPT.to_owned()];
        labels.extend(self.design.names());
        let terms = labels.iter().zip(beta).enumerate();
        let standardised = terms.map(|(i, (label, b))| row(label.clone(), *b, variance * inverse.at(i, i))).collect();
        let maps = self.to_original(state, unit)?;
        let shift = if self.family == Family::Gaussian { moments.first().copied().unwrap_or(0.0) } else { 0.0 };
        let original = labels
            .iter()
            .zip(&maps)
            .enumerate()
            .map(|(i, (label, map))| {
                let plain: f64 = map.iter().zip(beta).map(|(m, b)| m * b).sum();
                let plain = if i == 0 { plain + shift } else { plain };
                row(label.clone(), plain, variance * inverse.form(map, map))
            })
            .collect();
        let outcome = Outcome {
            algorithm: "glm".to_owned(),
            version: 1,
            title: format!("{} regression of '{}'", self.kind(), self.design.outcome().unwrap_or_default()),
            rows: round.rows.clone(),
            tables: vec![
                self.grid("coefficients", "for one standard deviation of each term", standardised),
                self.grid("coefficients_original", "for one unit of each term", original),
            ],
            figures: self.figures(&fit, state)?,
            curves: Vec::new(),
            trace: trace(state)?,
            warnings: self.warnings(),
            privacy: None,
            disclosure: None,
        };
        let handed_on = self.handed_on(state, inverse, variance)?;
        Ok(Next::Done(outcome, handed_on))
    }

    fn kind(&self) -> &'static str {
        match self.family {
            Family::Binomial => "Logistic",
            Family::Gaussian => "Linear",
        }
    }

    fn fit(&self, round: &Round<'_>, inverse: &Symmetric, unit: f64) -> Fit {
        let n = round.used;
        let side = self.side();
        // Effective degrees of freedom: trace of inverse times the Hessian without the penalty; the side when ridge = 0.
        let df_model = if self.ridge == 0.0 {
            side as f64
        } else {
            (0..side).map(|i| (0..side).map(|j| inverse.at(i, j) * round.hessian.at(j, i)).sum::<f64>()).sum()
        };
        let [total, square] = <[f64; 2]>::try_from(round.outcome).unwrap_or([f64::NAN; 2]);
        let df_residual = n - df_model;
        let deviance = round.deviance * unit * unit;
        match self.family {
            Family::Binomial => {
                let share = total / n;
                let null_deviance = -2.0 * (total * share.ln() + (n - total) * (-share).ln_1p());
                Fit { deviance, null_deviance, dispersion: 1.0, df_model, df_residual, aic: deviance + 2.0 * df_model }
            }
            Family::Gaussian => {
                let null_deviance = (square - total * total / n) * unit * unit;
                let aic = n * ((std::f64::consts::TAU * deviance / n).ln() + 1.0) + 2.0 * (df_model + 1.0);
                Fit { deviance, null_deviance, dispersion: deviance / df_residual, df_model, df_residual, aic }
            }
        }
    }

    /// Row i maps standardised coefficients to the i-th one of the original scale.
    fn to_original(&self, state: &State, unit: f64) -> Result<Vec<Vec<f64>>, Finding> {
        let mean = state.vector("mean", self.design.len())?;
        let sd = state.vector("sd", self.design.len())?;
        let mut intercept = vec![unit];
        intercept.extend(mean.iter().zip(sd).map(|(mean, sd)| -unit * mean / sd));
        let mut maps = vec![intercept];
        for (term, sd) in sd.iter().enumerate() {
            let mut map = vec![0.0; self.side()];
            if let Some(slope) = map.get_mut(term + 1) {
                *slope = unit / sd;
            }
            maps.push(map);
        }
        Ok(maps)
    }

    fn grid(&self, name: &str, scale: &str, rows: Vec<GridRow>) -> Grid {
        let test = if self.family == Family::Binomial { "z" } else { "t" };
        let covariance = if self.ridge == 0.0 {
            "inverse Hessian"
        } else {
            "inverse penalised Hessian, bias of the ridge not included"
        };
        let columns = ["estimate", "se", "statistic", "p", "low95", "high95"];
        Grid {
            name: name.to_owned(),
            note: format!("{scale}; standard errors from the {covariance}; statistic is {test}"),
            columns: columns.iter().map(|column| (*column).to_owned()).collect(),
            rows,
        }
    }

    fn figures(&self, fit: &Fit, state: &State) -> Result<std::collections::BTreeMap<String, f64>, Finding> {
        Ok(figures([
            ("deviance", fit.deviance),
            ("null_deviance", fit.null_deviance),
            ("dispersion", fit.dispersion),
            ("df_model", fit.df_model),
            ("df_residual", fit.df_residual),
            ("aic", fit.aic),
            ("ridge", self.ridge),
            ("rounds", (state.values("trace")?.len() / 4) as f64),
        ]))
    }

    fn warnings(&self) -> Vec<String> {
        if self.ridge == 0.0 {
            return Vec::new();
        }
        vec!["Coefficients are shrunk by the ridge; intervals and p-values do not account for that bias.".to_owned()]
    }

    fn handed_on(&self, state: &State, inverse: &Symmetric, variance: f64) -> Result<State, Finding> {
        let covariance = inverse.packed().iter().map(|value| value * variance).collect();
        Ok(self
            .design
            .describe(State::default())
            .with_word("family", self.family.name())
            .with("mean", state.values("mean")?.to_vec())
            .with("sd", state.values("sd")?.to_vec())
            .with("outcome", state.values("outcome")?.to_vec())
            .with("rows", state.values("rows")?.to_vec())
            .with("beta", state.vector("beta", self.side())?.to_vec())
            .with("covariance", covariance))
    }
}

fn trace(state: &State) -> Result<Vec<Step>, Finding> {
    let step = |[round, deviance, step, halvings]: &[f64; 4]| Step {
        round: *round as u32,
        values: figures([("deviance", *deviance), ("relative_step", *step), ("halvings", *halvings)]),
    };
    Ok(state.values("trace")?.as_chunks::<4>().0.iter().map(step).collect())
}
