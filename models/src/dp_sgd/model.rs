//! The models that are trained here, with the gradient of one row.

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// A logistic regression (`hidden` is 0: the coefficients, the intercept first), or one hidden layer: the weights of each
/// unit (its intercept first), then the output's intercept and its weight of each unit.
pub(super) struct Model {
    /// Length of a row with its leading one.
    pub(super) side: usize,
    /// Units of the hidden layer.
    pub(super) hidden: usize,
}

impl Model {
    /// Number of weights.
    pub(super) fn len(&self) -> usize {
        if self.hidden == 0 { self.side } else { self.hidden * self.side + self.hidden + 1 }
    }

    /// Zeros, or small numbers for the hidden layer, whose units would all be the same otherwise; public, the same for all.
    pub(super) fn first(&self) -> Vec<f64> {
        if self.hidden == 0 {
            return vec![0.0; self.side];
        }
        let mut random = ChaCha20Rng::from_seed([0; 32]);
        let spread = 2.0 / (self.side as f64).sqrt();
        let weight = |_| spread * (f64::from(random.next_u32()) / f64::from(u32::MAX) * 2.0 - 1.0);
        (0..self.len()).map(weight).collect()
    }

    /// Adds the gradient of the log loss of one row.
    pub(super) fn add_gradient(&self, theta: &[f64], z: &[f64], y: f64, gradient: &mut [f32]) {
        let dot = |a: &[f64]| a.iter().zip(z).map(|(a, z)| a * z).sum::<f64>();
        let logistic = |eta: f64| 1.0 / (1.0 + libm::exp(-eta));
        if self.hidden == 0 {
            let error = logistic(dot(theta)) - y;
            gradient.iter_mut().zip(z).for_each(|(g, z)| *g += (error * z) as f32);
            return;
        }
        let (first, last) = theta.split_at(theta.len().min(self.hidden * self.side));
        let (first_gradient, last_gradient) = gradient.split_at_mut(first.len());
        let Some((intercept, output)) = last.split_first() else { return };
        let Some((intercept_gradient, output_gradient)) = last_gradient.split_first_mut() else { return };
        let units: Vec<f64> = first.chunks(self.side).map(|weights| libm::tanh(dot(weights))).collect();
        let error = logistic(intercept + output.iter().zip(&units).map(|(v, a)| v * a).sum::<f64>()) - y;
        *intercept_gradient += error as f32;
        let gradients = first_gradient.chunks_mut(self.side).zip(output_gradient);
        for ((inner, outer), (unit, v)) in gradients.zip(units.iter().zip(output)) {
            *outer += (error * unit) as f32;
            let back = error * v * (1.0 - unit * unit);
            inner.iter_mut().zip(z).for_each(|(g, z)| *g += (back * z) as f32);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gradients_are_those_of_finite_differences() {
        for hidden in [0, 3] {
            let model = Model { side: 4, hidden };
            let mut theta: Vec<f64> = (0..model.len()).map(|i| (i as f64 * 0.7).sin()).collect();
            let z = [1.0, -0.4, 0.9, 0.2];
            let score = |theta: &[f64]| -> f64 {
                let dot = |w: &[f64]| w.iter().zip(z).map(|(w, z)| w * z).sum::<f64>();
                if hidden == 0 {
                    return dot(theta);
                }
                theta[12] + (0..3).map(|j| theta[13 + j] * dot(&theta[4 * j..4 * j + 4]).tanh()).sum::<f64>()
            };
            for y in [0.0, 1.0] {
                let loss = |theta: &[f64]| (1.0 + score(theta).exp()).ln() - y * score(theta);
                let mut gradient = vec![0_f32; model.len()];
                model.add_gradient(&theta, &z, y, &mut gradient);
                for i in 0..model.len() {
                    let at = theta[i];
                    theta[i] = at + 1e-5;
                    let above = loss(&theta);
                    theta[i] = at - 1e-5;
                    let below = loss(&theta);
                    theta[i] = at;
                    let difference = (above - below) / 2e-5;
                    assert!((difference - f64::from(gradient[i])).abs() < 1e-6, "weight {i} of {hidden} units");
                }
            }
        }
    }
}
