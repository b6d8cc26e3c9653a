//! The inner loop of a model: residual, information and deviance of each row, and the sums over a block's rows.

use crate::design::{Design, Family};
use crate::linear::{dot, triangle};
use crate::select::{BLOCK_ROWS, Block};

/// One hospital's sums and the scratch space of one block.
pub(super) struct Sums {
    pub(super) gradient: Vec<f64>,
    pub(super) hessian: Vec<f64>,
    pub(super) deviance: f64,
    pub(super) outcome_sum: f64,
    pub(super) outcome_square: f64,
    /// Standardised terms of the block, the column of ones first, stride [`BLOCK_ROWS`].
    terms: Vec<f64>,
    pub(super) outcome: Vec<f64>,
    linear: Vec<f64>,
    residual: Vec<f64>,
    weight: Vec<f64>,
    weighted: Vec<f64>,
}

impl Sums {
    pub(super) fn new(side: usize) -> Self {
        let mut terms = vec![0.0; side * BLOCK_ROWS];
        terms.iter_mut().take(BLOCK_ROWS).for_each(|one| *one = 1.0);
        let block = || vec![0.0; BLOCK_ROWS];
        Self {
            gradient: vec![0.0; side],
            hessian: vec![0.0; triangle(side)],
            deviance: 0.0,
            outcome_sum: 0.0,
            outcome_square: 0.0,
            terms,
            outcome: block(),
            linear: block(),
            residual: block(),
            weight: block(),
            weighted: block(),
        }
    }

    pub(super) fn standardise(&mut self, design: &Design, block: &Block<'_>, mean: &[f64], sd: &[f64]) {
        let Some(terms) = self.terms.get_mut(BLOCK_ROWS..) else { return };
        design.expand(block, terms);
        for ((column, mean), sd) in terms.chunks_mut(BLOCK_ROWS).zip(mean).zip(sd) {
            column.iter_mut().take(block.rows()).for_each(|value| *value = (*value - mean) / sd);
        }
    }

    pub(super) fn add(&mut self, family: Family, beta: &[f64], rows: usize) {
        self.linear.iter_mut().for_each(|eta| *eta = 0.0);
        for (column, beta) in self.terms.chunks(BLOCK_ROWS).zip(beta) {
            self.linear.iter_mut().zip(column).for_each(|(eta, z)| *eta += beta * z);
        }
        let linear = self.linear.iter().zip(&self.outcome).take(rows);
        let (mut deviance, mut sum, mut square) = (0.0, 0.0, 0.0);
        for ((eta, y), (residual, weight)) in linear.zip(self.residual.iter_mut().zip(&mut self.weight)) {
            let (error, information, loss) = unit(family, *eta, *y);
            *residual = error;
            *weight = information;
            deviance += loss;
            sum += y;
            square += y * y;
        }
        self.deviance += deviance;
        self.outcome_sum += sum;
        self.outcome_square += square;
        let mut triangle = self.hessian.iter_mut();
        for (i, column) in self.terms.chunks(BLOCK_ROWS).enumerate() {
            let column = column.get(..rows).unwrap_or(column);
            if let Some(gradient) = self.gradient.get_mut(i) {
                *gradient += dot(column, &self.residual);
            }
            self.weighted.iter_mut().zip(column).zip(&self.weight).for_each(|((out, z), w)| *out = z * w);
            let weighted = self.weighted.get(..rows).unwrap_or(&self.weighted);
            for (other, element) in self.terms.chunks(BLOCK_ROWS).skip(i).zip(&mut triangle) {
                *element += dot(weighted, other);
            }
        }
    }

    pub(super) fn merge(total: &mut Self, part: Self) {
        total.gradient.iter_mut().zip(&part.gradient).for_each(|(total, part)| *total += part);
        total.hessian.iter_mut().zip(&part.hessian).for_each(|(total, part)| *total += part);
        total.deviance += part.deviance;
        total.outcome_sum += part.outcome_sum;
        total.outcome_square += part.outcome_square;
    }
}

/// Residual, information and deviance of one row with linear predictor `eta`.
fn unit(family: Family, eta: f64, y: f64) -> (f64, f64, f64) {
    match family {
        Family::Gaussian => (y - eta, 1.0, (y - eta) * (y - eta)),
        Family::Binomial => {
            // e <= 1, so neither the logistic function nor log(1 + e^-|eta|) overflows.
            let e = (-eta.abs()).exp();
            let far = e / (1.0 + e);
            let near = 1.0 / (1.0 + e);
            let mu = if eta >= 0.0 { near } else { far };
            let loss = e.ln_1p() + if eta >= 0.0 { (1.0 - y) * eta } else { -y * eta };
            (y - mu, near * far, 2.0 * loss)
        }
    }
}
