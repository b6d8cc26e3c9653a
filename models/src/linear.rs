//! Symmetric positive definite systems of a model's size: packed Cholesky factorisation, solution and inverse.
//!
//! Source: Golub and Van Loan, Matrix Computations, 4th ed., algorithm 4.2.2. A model has at most a few thousand terms, so
//! the plain cubic loops are not worth a library.

/// A symmetric matrix as its upper triangle, row by row: `(0,0) (0,1) .. (0,k-1) (1,1) ..`, `k (k + 1) / 2` values.
#[derive(Clone, Debug, PartialEq)]
pub struct Symmetric {
    side: usize,
    upper: Vec<f64>,
}

/// The lower-triangular factor `L` of `A = L L'`.
pub struct Factor {
    side: usize,
    lower: Vec<f64>,
}

/// Number of values in the upper triangle of a `side` by `side` matrix.
pub fn triangle(side: usize) -> usize {
    side.saturating_mul(side.saturating_add(1)) / 2
}

impl Symmetric {
    /// From the packed upper triangle; `None` when the length is not a triangle's.
    pub fn new(side: usize, upper: Vec<f64>) -> Option<Self> {
        (upper.len() == triangle(side)).then_some(Self { side, upper })
    }

    /// The matrix of zeros.
    pub(crate) fn zero(side: usize) -> Self {
        Self { side, upper: vec![0.0; triangle(side)] }
    }

    /// The element at `(row, column)`, either triangle; 0 outside the matrix.
    pub fn at(&self, row: usize, column: usize) -> f64 {
        self.upper.get(self.index(row, column)).copied().unwrap_or(0.0)
    }

    /// Adds to the element at `(row, column)`.
    pub fn add(&mut self, row: usize, column: usize, value: f64) {
        let index = self.index(row, column);
        if let Some(element) = self.upper.get_mut(index) {
            *element += value;
        }
    }

    /// Number of rows.
    pub fn side(&self) -> usize {
        self.side
    }

    /// The packed upper triangle.
    pub fn packed(&self) -> &[f64] {
        &self.upper
    }

    /// `x' A y` for vectors of this matrix's side.
    pub fn form(&self, x: &[f64], y: &[f64]) -> f64 {
        let row = |(i, xi): (usize, &f64)| xi * y.iter().enumerate().map(|(j, yj)| self.at(i, j) * yj).sum::<f64>();
        x.iter().enumerate().map(row).sum()
    }

    /// Factorises, or returns the first row whose pivot is below `tolerance` times its diagonal: that row is, to this
    /// precision, a linear combination of the rows before it.
    ///
    /// # Errors
    /// The index of that row.
    pub fn factor(&self, tolerance: f64) -> Result<Factor, usize> {
        let side = self.side;
        let mut lower = vec![0.0; side * side];
        for j in 0..side {
            let (done, rest) = lower.split_at_mut(j * side);
            let Some(current) = rest.get_mut(..side) else { return Err(j) };
            for (i, row) in done.chunks_exact(side).enumerate() {
                let known: f64 = row.iter().zip(current.iter()).take(i).map(|(a, b)| a * b).sum();
                let pivot = row.get(i).copied().unwrap_or(1.0);
                if let Some(element) = current.get_mut(i) {
                    *element = (self.at(i, j) - known) / pivot;
                }
            }
            let diagonal = self.at(j, j);
            let pivot = diagonal - current.iter().take(j).map(|value| value * value).sum::<f64>();
            if !(pivot > tolerance * diagonal && pivot > 0.0 && pivot.is_finite()) {
                return Err(j);
            }
            if let Some(element) = current.get_mut(j) {
                *element = pivot.sqrt();
            }
        }
        Ok(Factor { side, lower })
    }

    fn index(&self, row: usize, column: usize) -> usize {
        let (low, high) = if row <= column { (row, column) } else { (column, row) };
        if high >= self.side {
            return usize::MAX;
        }
        low * (2 * self.side - low + 1) / 2 + (high - low)
    }
}

impl Factor {
    /// Solves `A x = b`.
    pub fn solve(&self, b: &[f64]) -> Vec<f64> {
        let at = |row: usize, column: usize| self.lower.get(row * self.side + column).copied().unwrap_or(0.0);
        let mut x: Vec<f64> = b.to_vec();
        for i in 0..self.side {
            let known: f64 = x.iter().enumerate().take(i).map(|(j, xj)| at(i, j) * xj).sum();
            if let Some(xi) = x.get_mut(i) {
                *xi = (*xi - known) / at(i, i);
            }
        }
        for i in (0..self.side).rev() {
            let known: f64 = x.iter().enumerate().skip(i + 1).map(|(j, xj)| at(j, i) * xj).sum();
            if let Some(xi) = x.get_mut(i) {
                *xi = (*xi - known) / at(i, i);
            }
        }
        x
    }

    /// The inverse of `A`.
    pub fn inverse(&self) -> Symmetric {
        let mut upper = Vec::with_capacity(triangle(self.side));
        for i in 0..self.side {
            let mut unit = vec![0.0; self.side];
            if let Some(one) = unit.get_mut(i) {
                *one = 1.0;
            }
            upper.extend(self.solve(&unit).into_iter().skip(i));
        }
        Symmetric { side: self.side, upper }
    }
}

/// The inner product of two slices, in eight running sums so that the compiler can use vector registers; the order of
/// addition is fixed. Of slices of unequal length the longer one's tail is left out.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    let shared = a.len().min(b.len());
    let (a, b) = (a.get(..shared).unwrap_or(a), b.get(..shared).unwrap_or(b));
    let mut lanes = [0.0_f64; 8];
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for ((lane, x), y) in lanes.iter_mut().zip(x).zip(y) {
            *lane += x * y;
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum();
    let [a0, a1, a2, a3, a4, a5, a6, a7] = lanes;
    ((a0 + a4) + (a1 + a5)) + ((a2 + a6) + (a3 + a7)) + rest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_collinear_row_is_named() {
        // Rows 0 and 2 are the same.
        let matrix = Symmetric::new(3, vec![4.0, 2.0, 4.0, 3.0, 2.0, 4.0]).unwrap();
        assert_eq!(matrix.factor(1e-11).err(), Some(2));
        assert!(Symmetric::new(3, vec![0.0; 5]).is_none());
    }

    proptest! {
        #[test]
        fn solution_and_inverse_solve(side in 1_usize..9, seed in proptest::collection::vec(-1.0_f64..1.0, 81)) {
            let b = |i: usize, j: usize| seed[i * 9 + j];
            let mut matrix = Symmetric::new(side, vec![0.0; triangle(side)]).unwrap();
            for i in 0..side {
                for j in i..side {
                    let sum: f64 = (0..side).map(|k| b(i, k) * b(j, k)).sum();
                    matrix.add(i, j, sum + if i == j { 0.5 } else { 0.0 });
                }
            }
            let factor = matrix.factor(1e-12).unwrap();
            let x = factor.solve(&seed[..side]);
            let inverse = factor.inverse();
            for (i, right) in seed.iter().enumerate().take(side) {
                let back: f64 = (0..side).map(|j| matrix.at(i, j) * x[j]).sum();
                prop_assert!((back - right).abs() < 1e-9);
                for k in 0..side {
                    let unit: f64 = (0..side).map(|j| matrix.at(i, j) * inverse.at(j, k)).sum();
                    prop_assert!((unit - f64::from(u8::from(i == k))).abs() < 1e-9);
                }
            }
        }

        #[test]
        fn dot_is_the_inner_product(values in proptest::collection::vec(-10.0_f64..10.0, 0..40)) {
            let plain: f64 = values.iter().map(|value| value * value).sum();
            prop_assert!((dot(&values, &values) - plain).abs() <= 1e-12 * plain.max(1.0));
        }
    }
}
