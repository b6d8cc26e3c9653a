//! What the rows say without any noise, computed here from the hospitals' files: none of it by the network's code.

use super::{COLUMNS, rows_of};

/// All rows of all hospitals.
pub fn rows() -> Vec<Vec<Option<f64>>> {
    let cells = |line: &str| line.split(',').map(|cell| cell.trim().parse().ok()).collect();
    let text: String = (0..4).map(rows_of).collect();
    text.lines().filter(|line| !line.is_empty()).map(cells).collect()
}

fn at(column: &str) -> usize {
    COLUMNS.iter().position(|name| *name == column).unwrap()
}

/// Mean of a column, each value moved to the bounds, and how many rows have one.
pub fn mean(column: &str, low: f64, high: f64) -> (f64, f64) {
    let all: Vec<f64> = rows().iter().filter_map(|row| row[at(column)]).map(|x| x.clamp(low, high)).collect();
    (all.iter().sum::<f64>() / all.len() as f64, all.len() as f64)
}

/// Rows with a code.
pub fn count(column: &str, code: f64) -> f64 {
    rows().iter().filter(|row| row[at(column)] == Some(code)).count() as f64
}

/// Logistic regression of disease on age (moved to 25 to 80) and sex by Newton's method: intercept, age, sex.
pub fn regression() -> [f64; 3] {
    let rows: Vec<([f64; 3], f64)> = rows()
        .iter()
        .filter_map(|row| {
            let (age, sex, num) = (row[at("age")]?, row[at("sex")]?, row[at("num")]?);
            Some(([1.0, age.clamp(25.0, 80.0), sex], f64::from(u8::from(num > 0.0))))
        })
        .collect();
    let mut beta = [0.0; 3];
    for _ in 0..30 {
        let (mut gradient, mut hessian) = ([0.0; 3], [[0.0; 3]; 3]);
        for (x, y) in &rows {
            let eta: f64 = x.iter().zip(&beta).map(|(x, b)| x * b).sum();
            let mu = 1.0 / (1.0 + (-eta).exp());
            for i in 0..3 {
                gradient[i] += (y - mu) * x[i];
                for j in 0..3 {
                    hessian[i][j] += mu * (1.0 - mu) * x[i] * x[j];
                }
            }
        }
        let step = solve(hessian, gradient);
        (0..3).for_each(|i| beta[i] += step[i]);
    }
    beta
}

/// Gauss's elimination.
fn solve(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> [f64; 3] {
    for i in 0..3 {
        let pivot = (i..3).max_by(|x, y| a[*x][i].abs().total_cmp(&a[*y][i].abs())).unwrap();
        a.swap(i, pivot);
        b.swap(i, pivot);
        for j in i + 1..3 {
            let factor = a[j][i] / a[i][i];
            let row = a[i];
            a[j].iter_mut().zip(row).for_each(|(x, y)| *x -= factor * y);
            b[j] -= factor * b[i];
        }
    }
    for i in (0..3).rev() {
        for j in i + 1..3 {
            b[i] -= a[i][j] * b[j];
        }
        b[i] /= a[i][i];
    }
    b
}
