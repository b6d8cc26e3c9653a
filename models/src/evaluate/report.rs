//! From the summed histograms to AUC with its error, the ROC curve, calibration and the other figures.

use leben_privacy::Unmasked;

use crate::algorithm::{Next, segment};
use crate::distribution::NORMAL_97_5;
use crate::finding::Finding;
use crate::outcome::{Curve, Disclosure, Grid, GridRow, Outcome, RowCounts, Step, figures, finite};
use crate::select::reasons;
use crate::state::State;

use super::{CALIBRATION_BINS, Evaluate};

/// Figures that are withheld where there are few scores and hardly anybody has one of them: whoever has the model knows the scores
/// that codes can give, and each of these is one more equation for how many patients have which. So is each mean score of calibration.
const TELLING: [&str; 7] = ["brier", "log_loss", "auc", "auc_se", "auc_error_max", "auc_low95", "auc_high95"];

/// Few scores: so many unknown numbers at most, for which the digits of a handful of figures could be enough.
const SCORES_FEW: usize = 64;

/// The column of the calibration grid with the mean score of each row.
const PREDICTED: usize = 1;

/// The area under the ROC curve from two histograms.
struct Area {
    auc: f64,
    se: f64,
    error_max: f64,
}

impl Evaluate {
    pub(super) fn report(&self, state: &State, sum: &Unmasked) -> Result<Next, Finding> {
        let lanes = segment(sum, "rows", self.lanes())?;
        let rows = RowCounts::from_lanes(lanes, &reasons(self.design.wants()));
        if rows.used == 0 {
            return Err(Finding::TooFewRows { used: 0, requested: rows.requested, needed: 0 });
        }
        let used = rows.used as f64;
        let positives = segment(sum, "positives", self.bins)?;
        let negatives = segment(sum, "negatives", self.bins)?;
        let losses: Vec<f64> = segment(sum, "losses", 2)?.iter().map(|total| total / used).collect();
        let mut warnings = Vec::new();
        let mut numbers = vec![
            ("brier", losses.first().copied().unwrap_or(f64::NAN)),
            ("log_loss", losses.get(1).copied().unwrap_or(f64::NAN)),
            ("bins", self.bins as f64),
            ("positives", positives.iter().sum()),
            ("negatives", negatives.iter().sum()),
        ];
        let (shares, mut withheld) = self.confusion(segment(sum, "confusion", 4)?);
        numbers.extend(shares);
        let mut curves = Vec::new();
        match area(positives, negatives) {
            Some(area) => {
                let half = NORMAL_97_5 * area.se;
                numbers.extend([("auc", area.auc), ("auc_se", area.se), ("auc_error_max", area.error_max)]);
                numbers.extend([("auc_low95", (area.auc - half).max(0.0)), ("auc_high95", (area.auc + half).min(1.0))]);
                curves.push(self.roc(positives, negatives));
            }
            None => warnings.push("Every row has the same outcome, so there is no ROC curve and no AUC.".to_owned()),
        }
        let (mut grid, curve) = self.calibration(segment(sum, "calibration", CALIBRATION_BINS * 3)?);
        if self.is_solvable(positives, negatives, !withheld.is_empty()) {
            let (away, told) = numbers.into_iter().partition(|(name, _)| TELLING.contains(name));
            let away: Vec<(&str, f64)> = away;
            withheld.extend(away.into_iter().map(|(name, _)| name.to_owned()));
            withheld.push("calibration: predicted".to_owned());
            numbers = told;
            grid.rows.iter_mut().flat_map(|row| row.values.get_mut(PREDICTED)).for_each(|mean| *mean = None);
        } else {
            curves.push(curve);
        }
        let outcome = Outcome {
            algorithm: "evaluate".to_owned(),
            version: 1,
            title: format!("Discrimination and calibration for '{}'", self.design.outcome().unwrap_or_default()),
            rows,
            tables: vec![grid],
            figures: figures(numbers),
            curves,
            trace: vec![Step { round: 1, ..Step::default() }, Step { round: 2, ..Step::default() }],
            warnings,
            privacy: None,
            disclosure: Some(Disclosure {
                cell_min: self.limits.cell_min,
                cell_hospitals_min: self.limits.cell_hospitals_min,
                withheld,
            }),
        };
        Ok(Next::Done(outcome, state.clone()))
    }

    /// The curve from the highest score down. Between two points, and after the last, each class has nobody or `cell_min` patients.
    fn roc(&self, positives: &[f64], negatives: &[f64]) -> Curve {
        let (all, none): (f64, f64) = (positives.iter().sum(), negatives.iter().sum());
        let fit = |hits: f64, alarms: f64| self.is_fit(hits) && self.is_fit(alarms) && hits + alarms > 0.5;
        let mut points = vec![(0.0, 0.0)];
        let (mut hits, mut alarms) = (0.0, 0.0);
        let mut told = (0.0, 0.0);
        for (p, q) in positives.iter().zip(negatives).rev() {
            hits += p;
            alarms += q;
            if fit(hits - told.0, alarms - told.1) && fit(all - hits, none - alarms) {
                points.push((alarms / none, hits / all));
                told = (hits, alarms);
            }
        }
        points.push((1.0, 1.0));
        Curve { name: "roc".to_owned(), x: "1 - specificity".to_owned(), y: "sensitivity".to_owned(), points }
    }

    /// Whether figures over all scores could be solved for a group of few patients: where one of few scores is theirs.
    fn is_solvable(&self, positives: &[f64], negatives: &[f64], share_withheld: bool) -> bool {
        let scores = || positives.iter().zip(negatives).filter(|(p, n)| **p + **n > 0.5);
        let small = scores().any(|(p, n)| !self.is_fit(*p) || !self.is_fit(*n));
        (share_withheld || small) && scores().count() <= SCORES_FEW
    }

    /// Nobody, or enough patients.
    fn is_fit(&self, rows: f64) -> bool {
        rows < 0.5 || rows >= self.cell_min()
    }

    /// Neighbouring rows are joined until each has enough patients of both classes, so that nothing has to be withheld and no
    /// total gives a row away.
    fn calibration(&self, cells: &[f64]) -> (Grid, Curve) {
        let mut joined: Vec<(usize, usize, [f64; 3])> = Vec::new();
        let mut open = None;
        for (index, cell) in cells.as_chunks::<3>().0.iter().enumerate() {
            let (first, sums) = open.take().unwrap_or((index, [0.0; 3]));
            let sums = add(&sums, cell);
            if self.is_told(&sums) {
                joined.push((first, index + 1, sums));
            } else {
                open = Some((first, sums));
            }
        }
        if let (Some((_, rest)), Some((_, end, sums))) = (open, joined.last_mut()) {
            *sums = add(sums, &rest);
            *end = CALIBRATION_BINS;
        }
        let mut grid = Grid {
            name: "calibration".to_owned(),
            note: format!(
                "by predicted probability; rows are joined until each class has {} patients in it",
                self.limits.cell_min
            ),
            columns: ["rows", "predicted", "observed"].iter().map(|column| (*column).to_owned()).collect(),
            rows: Vec::with_capacity(joined.len()),
        };
        let mut points = Vec::new();
        let edge = |index: usize| index as f64 / CALIBRATION_BINS as f64;
        for (first, end, [count, predicted, observed]) in joined {
            points.push((predicted / count, observed / count));
            let values = vec![finite(count), finite(predicted / count), finite(observed / count)];
            grid.rows.push(GridRow { label: format!("{:.1} to {:.1}", edge(first), edge(end)), values });
        }
        let (x, y) = ("predicted probability".to_owned(), "observed share".to_owned());
        (grid, Curve { name: "calibration".to_owned(), x, y, points })
    }

    fn is_told(&self, [count, _, observed]: &[f64; 3]) -> bool {
        *observed >= self.cell_min() && count - observed >= self.cell_min()
    }

    /// Accuracy, sensitivity and specificity at a probability of 0.5, and the names of those that are withheld: with the number of
    /// positives and negatives known, each share counts two cells, and accuracy with one of the others tells the third.
    fn confusion(&self, cells: &[f64]) -> (Vec<(&'static str, f64)>, Vec<String>) {
        let [hit, alarm, rest, miss] = <[f64; 4]>::try_from(cells).unwrap_or([f64::NAN; 4]);
        let positives = self.is_fit(hit) && self.is_fit(miss);
        let negatives = self.is_fit(rest) && self.is_fit(alarm);
        let shares = [
            ("accuracy", (hit + rest) / (hit + alarm + rest + miss), positives && negatives),
            ("sensitivity", hit / (hit + miss), positives),
            ("specificity", rest / (rest + alarm), negatives),
        ];
        let told = shares.iter().filter(|(_, _, told)| *told).map(|(name, share, _)| (*name, *share)).collect();
        let withheld = shares.iter().filter(|(_, _, told)| !told).map(|(name, _, _)| (*name).to_owned()).collect();
        (told, withheld)
    }
}

fn add(a: &[f64; 3], b: &[f64; 3]) -> [f64; 3] {
    let ([a0, a1, a2], [b0, b1, b2]) = (a, b);
    [a0 + b0, a1 + b1, a2 + b2]
}

fn area(positives: &[f64], negatives: &[f64]) -> Option<Area> {
    let (p_all, q_all): (f64, f64) = (positives.iter().sum(), negatives.iter().sum());
    if p_all < 0.5 || q_all < 0.5 {
        return None;
    }
    // Share of negatives below each positive and of positives above each negative, ties as one half: DeLong's V10 and V01.
    let mut below = 0.0;
    let mut hits = 0.0;
    let (mut auc, mut shared) = (0.0, 0.0);
    for (p, q) in positives.iter().zip(negatives) {
        auc += p * (below + q / 2.0);
        shared += p * q;
        below += q;
    }
    auc /= p_all * q_all;
    below = 0.0;
    let (mut s10, mut s01) = (0.0, 0.0);
    for (p, q) in positives.iter().zip(negatives) {
        let v10 = (below + q / 2.0) / q_all;
        let v01 = (p_all - hits - p / 2.0) / p_all;
        s10 += p * (v10 - auc) * (v10 - auc);
        s01 += q * (v01 - auc) * (v01 - auc);
        below += q;
        hits += p;
    }
    let variance = |sum: f64, n: f64| if n > 1.5 { sum / (n - 1.0) / n } else { 0.0 };
    let se = (variance(s10, p_all) + variance(s01, q_all)).sqrt();
    Some(Area { auc, se, error_max: shared / (2.0 * p_all * q_all) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn area_counts_pairs() {
        // Scores by bin: positives 1 and 3 and 3, negatives 0 and 1 and 2: of 9 pairs 8 in order, 1 tied.
        let area = area(&[0.0, 1.0, 0.0, 2.0], &[1.0, 1.0, 1.0, 0.0]).unwrap();
        // (1: above 0, tied with 1, below 2) = 1.5; twice 3.
        assert!((area.auc - 7.5 / 9.0).abs() < 1e-15);
        assert!((area.error_max - 0.5 / 9.0).abs() < 1e-15);
        // DeLong by hand: V10 = .5, 1, 1; V01 = 1, 5/6, 2/3; each variance (n - 1) over n, added.
        let v10 = [0.5, 1.0, 1.0_f64];
        let v01 = [1.0, 5.0 / 6.0, 2.0 / 3.0_f64];
        let part = |v: [f64; 3]| v.iter().map(|x| (x - 7.5 / 9.0).powi(2)).sum::<f64>() / 2.0 / 3.0;
        assert!((area.se - (part(v10) + part(v01)).sqrt()).abs() < 1e-15);
        assert!(super::area(&[1.0], &[0.0]).is_none());
    }
}
