//! The same model on all rows in one place, with plain sums: what a network must agree with, and what only a demo can do.

use std::collections::BTreeMap;

use leben_models::pooled::{Fitted, fit};
use leben_models::{AlgorithmSpec, Outcome, Param, Table};

use leben_contracts::agreement::terms::{self, Terms};

/// Fits the terms' stages on the table.
pub fn fit_terms(terms: &Terms, table: &Table) -> Result<Vec<Fitted>, String> {
    let specs = terms.stages.iter().map(|stage| {
        let algorithm = terms.algorithm(&stage.algorithm).ok_or_else(|| format!("no algorithm {}", stage.algorithm))?;
        let params = algorithm.params.iter().map(|(key, value)| (key.clone(), param(value)));
        Ok(AlgorithmSpec {
            name: algorithm.name.to_string(),
            version: algorithm.version.as_str().parse().map_err(|_| "a version is a number".to_owned())?,
            params: params.collect::<BTreeMap<_, _>>(),
        })
    });
    let specs = specs.collect::<Result<Vec<_>, String>>()?;
    fit(&specs, table).map_err(|error| error.to_string())
}

fn param(value: &terms::Param) -> Param {
    match value {
        terms::Param::Integer(number) => Param::Integer(*number),
        terms::Param::Text(text) => Param::Text(text.clone()),
    }
}

/// The largest relative difference between two outcomes, over the estimates and standard errors of every coefficient on
/// both scales; infinite when something is missing on either side.
pub fn max_rel_diff(federated: &Outcome, pooled: &Outcome) -> f64 {
    let mut largest = 0.0_f64;
    for table in ["coefficients", "coefficients_original"] {
        let (Some(left), Some(right)) = (federated.grid(table), pooled.grid(table)) else { return f64::INFINITY };
        if left.rows.len() != right.rows.len() || right.rows.is_empty() {
            return f64::INFINITY;
        }
        for column in ["estimate", "se"] {
            for (a, b) in left.column(column).into_iter().zip(right.column(column)) {
                largest = match (a, b) {
                    (Some(a), Some(b)) => largest.max((a - b).abs() / b.abs()),
                    _ => return f64::INFINITY,
                };
            }
        }
    }
    largest
}
