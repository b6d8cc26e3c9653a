//! The tail probabilities that tests of coefficients need: normal and Student's t.
//!
//! The complementary error function is `libm`'s port of FreeBSD's `s_erf.c` (Sun Microsystems 1993, below 1 ulp); the
//! incomplete beta function is Lentz's continued fraction (Numerical Recipes, 3rd ed., section 6.4).

/// Two-sided p-value of a standard normal statistic: `P(|Z| >= |z|)`, in [0, 1].
pub fn normal_two_sided(z: f64) -> f64 {
    libm::erfc(z.abs() * std::f64::consts::FRAC_1_SQRT_2)
}

/// The standard normal's 97.5 % point: half width of a 95 % confidence interval in standard errors.
pub const NORMAL_97_5: f64 = 1.959_963_984_540_054;

/// Two-sided p-value of Student's t with `df` degrees of freedom, `df > 0`; `NaN` otherwise.
pub fn student_two_sided(t: f64, df: f64) -> f64 {
    if df.is_nan() || df <= 0.0 || t.is_nan() {
        return f64::NAN;
    }
    incomplete_beta(df / 2.0, 0.5, df / (df + t * t))
}

/// The 97.5 % point of Student's t with `df` degrees of freedom, by bisection to full precision; `NaN` for `df <= 0`.
pub fn student_97_5(df: f64) -> f64 {
    if df.is_nan() || df <= 0.0 {
        return f64::NAN;
    }
    let (mut low, mut high) = (1.0_f64, 1e3_f64);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        if student_two_sided(middle, df) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// The regularised incomplete beta function `I_x(a, b)`, `a, b > 0`, `x` in [0, 1].
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = (libm::lgamma(a + b) - libm::lgamma(a) - libm::lgamma(b) + a * x.ln() + b * (-x).ln_1p()).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        front * beta_fraction(a, b, x) / a
    } else {
        1.0 - front * beta_fraction(b, a, 1.0 - x) / b
    }
}

fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    let guard = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..=10_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / guard(1.0 + term * d);
            c = guard(1.0 + term / c);
            change = c * d;
            fraction *= change;
        }
        if (change - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of R 4.2: `2*pnorm(-z)`, `2*pt(-t, df)`, `qt(0.975, df)`.
    #[test]
    fn tails_are_those_of_r() {
        let near = |a: f64, b: f64| assert!((a / b - 1.0).abs() < 1e-10, "{a} is not {b}");
        near(normal_two_sided(1.96), 0.049_995_790_296_440_87);
        near(normal_two_sided(-10.0), 1.523_970_604_832_107e-23);
        near(student_two_sided(2.0, 10.0), 0.073_388_034_770_740_33);
        near(student_97_5(10.0), 2.228_138_851_986_273_7);
        near(student_97_5(1.0), 12.706_204_736_432_095);
        assert!((normal_two_sided(NORMAL_97_5) - 0.05).abs() < 1e-15);
        assert!(student_two_sided(1.0, 0.0).is_nan());
    }
}
