//! Groups of patients, counted in the hospital and judged in the sum.

use super::{Census, Limits};
use crate::finding::Finding;
use crate::select::{BLOCK_ROWS, Block};
use crate::table::Table;

/// The groups of one column: each level, and every other value.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// Which want.
    pub want: usize,
    /// Its name.
    pub column: String,
    /// Codes that are told apart, each with the label of the table row that tells of it.
    pub levels: Vec<(f64, String)>,
    /// Whether the column holds numbers. Its levels are 0 to 9 then: they matter where hardly a row has another value, as a
    /// column of codes is then read as numbers, and the mean of noughts and ones counts the ones; with the standard deviation,
    /// or in a model, so do those of three codes.
    pub numeric: bool,
}

/// Levels of a column of numbers: every code of one digit.
const CODES: u8 = 10;

impl Group {
    /// A column of codes.
    pub(crate) fn codes(want: usize, column: &str, levels: Vec<(f64, String)>) -> Self {
        Self { want, column: column.to_owned(), levels, numeric: false }
    }

    /// A column of numbers.
    pub(crate) fn numbers(want: usize, column: &str) -> Self {
        let levels = (0..CODES).map(|level| (f64::from(level), column.to_owned())).collect();
        Self { want, column: column.to_owned(), levels, numeric: true }
    }

    fn cells(&self) -> usize {
        self.levels.len() + 1
    }

    fn cell_of(&self, value: f64) -> usize {
        if self.numeric {
            let code = value as u8;
            return if f64::from(code) == value { usize::from(code.min(CODES)) } else { usize::from(CODES) };
        }
        self.levels.iter().position(|(level, _)| *level == value).unwrap_or(self.levels.len())
    }

    fn label(&self, cell: usize) -> String {
        match self.levels.get(cell) {
            Some((level, _)) if self.numeric => format!("{} = {level}", self.column),
            Some((_, label)) => label.clone(),
            None => format!("{}, other values", self.column),
        }
    }
}

/// What one hospital counts. Nothing of it is printed.
pub(super) struct Tally {
    count: Vec<u64>,
    tops: Vec<Top>,
}

/// The largest magnitudes of a column.
#[derive(Clone, Copy, Default)]
struct Top {
    want: usize,
    first: f64,
    second: f64,
    total: f64,
    /// Whether there is a value besides 0 and 1.
    measured: bool,
}

impl Tally {
    pub(super) fn used(&self) -> u64 {
        self.count.first().copied().unwrap_or(0)
    }

    pub(super) fn lanes(&self) -> Vec<f64> {
        self.count.iter().map(|rows| *rows as f64).collect()
    }

    /// A column that the second largest row could use to tell the largest to within `percent`: p % rule.
    pub(super) fn outweighed(&self, percent: u64) -> Option<usize> {
        let share = percent as f64 / 100.0;
        let outweighs = |top: &&Top| top.measured && top.total - top.first - top.second < share * top.first;
        self.tops.iter().find(outweighs).map(|top| top.want)
    }

    fn add(&mut self, census: &Census, block: &Block<'_>) {
        if let Some(used) = self.count.first_mut() {
            *used += block.rows() as u64;
        }
        let classes = census.classes.map(|want| block.column(want));
        for (lane, group) in census.places() {
            let crossed = census.is_crossed(group);
            for (row, value) in block.column(group.want).iter().enumerate().take(BLOCK_ROWS) {
                let at = lane + group.cell_of(*value) * census.stride(group);
                self.bump(at);
                if crossed && let Some(class) = classes.and_then(|classes| classes.get(row)) {
                    self.bump(at + 1 + usize::from(*class == 1.0));
                }
            }
        }
        for top in &mut self.tops {
            for value in block.column(top.want) {
                top.take(value.abs());
                top.measured |= *value != 0.0 && *value != 1.0;
            }
        }
    }

    fn bump(&mut self, lane: usize) {
        if let Some(rows) = self.count.get_mut(lane) {
            *rows += 1;
        }
    }

    fn merge(&mut self, part: &Self) {
        self.count.iter_mut().zip(&part.count).for_each(|(total, part)| *total += part);
        for (top, part) in self.tops.iter_mut().zip(&part.tops) {
            let total = top.total + part.total;
            top.take(part.first);
            top.take(part.second);
            top.total = total;
            top.measured |= part.measured;
        }
    }
}

impl Top {
    fn take(&mut self, size: f64) {
        self.total += size;
        if size > self.first {
            self.second = self.first;
            self.first = size;
        } else if size > self.second {
            self.second = size;
        }
    }
}

/// The opened lanes of a census.
pub(super) struct Sums<'a> {
    pub(super) count: &'a [f64],
    pub(super) holders: &'a [f64],
    pub(super) limits: Limits,
}

impl Sums<'_> {
    pub(super) fn rows(&self) -> u64 {
        self.at(0)
    }

    fn at(&self, lane: usize) -> u64 {
        self.count.get(lane).map_or(0, |rows| crate::outcome::whole(*rows))
    }

    /// Nobody, or enough patients of enough hospitals.
    pub(super) fn is_fit(&self, lane: usize) -> bool {
        let rows = self.at(lane);
        rows == 0 || (rows >= self.limits.cell_min && self.is_shared(lane))
    }

    fn is_shared(&self, lane: usize) -> bool {
        let holders = self.holders.get(lane).map_or(0, |holders| crate::outcome::whole(*holders));
        holders >= u64::from(self.limits.cell_hospitals_min)
    }
}

impl Census {
    /// Lanes: all usable rows, then by group, by cell: its rows, and within crossed groups those of either class.
    pub(super) fn lanes(&self) -> usize {
        1 + self.groups.iter().map(|group| group.cells() * self.stride(group)).sum::<usize>()
    }

    fn is_crossed(&self, group: &Group) -> bool {
        self.classes.is_some_and(|want| want != group.want)
    }

    fn stride(&self, group: &Group) -> usize {
        if self.is_crossed(group) { 3 } else { 1 }
    }

    fn places(&self) -> impl Iterator<Item = (usize, &Group)> {
        let mut next = 1;
        self.groups.iter().map(move |group| {
            let lane = next;
            next += group.cells() * self.stride(group);
            (lane, group)
        })
    }

    /// One pass over a hospital's complete rows.
    pub(super) fn tally(&self, rows: &Table) -> Result<Tally, Finding> {
        let numeric = self.groups.iter().filter(|group| group.numeric);
        let tops: Vec<Top> = numeric.map(|group| Top { want: group.want, ..Top::default() }).collect();
        let new = || Tally { count: vec![0; self.lanes()], tops: tops.clone() };
        let selection = rows.select(&self.wants)?;
        let add = |tally: &mut Tally, block: &Block<'_>| tally.add(self, block);
        Ok(selection.fold(new, add, |total, part| total.merge(&part)).0)
    }

    /// Every group that is too small, in words.
    pub(super) fn small(&self, sums: &Sums<'_>) -> Vec<String> {
        let mut small = Vec::new();
        for (lane, group) in self.places() {
            let at = |cell: usize| lane + cell * self.stride(group);
            let rest = at(group.levels.len());
            if group.numeric && sums.at(rest) >= sums.limits.cell_min {
                if !sums.is_shared(rest) {
                    small.push(group.column.clone());
                }
                continue;
            }
            for cell in 0..group.cells() {
                if !sums.is_fit(at(cell)) {
                    small.push(group.label(cell));
                } else if self.is_crossed(group) {
                    let name = self.classes.and_then(|want| self.wants.get(want)).map(|want| want.column.as_str());
                    let class = (0..2).filter(|class| !sums.is_fit(at(cell) + 1 + class));
                    small.extend(
                        class.map(|class| format!("{} with {} = {class}", group.label(cell), name.unwrap_or(""))),
                    );
                }
            }
        }
        small
    }

    /// Labels of the table rows that must stay away: of small groups, and of others that would give those away.
    pub(super) fn withheld(&self, sums: &Sums<'_>) -> Vec<String> {
        let mut labels = Vec::new();
        for (lane, group) in self.places() {
            let at = |cell: usize| lane + cell * self.stride(group);
            let rest = at(group.levels.len());
            if group.numeric {
                let measured = sums.at(rest) >= sums.limits.cell_min;
                let fit = if measured { sums.is_shared(rest) } else { (0..group.cells()).all(|c| sums.is_fit(at(c))) };
                labels.extend((!fit).then(|| group.column.clone()));
                continue;
            }
            let rows: Vec<u64> = (0..group.cells()).map(|cell| sums.at(at(cell))).collect();
            let fit: Vec<bool> = (0..group.cells()).map(|cell| sums.is_fit(at(cell))).collect();
            let away = withhold(&rows, &fit, sums.limits.cell_min);
            let levels = group.levels.iter().zip(away).filter(|(_, away)| *away);
            labels.extend(levels.map(|((_, label), _)| label.clone()));
        }
        labels
    }
}

/// Which cells of one margin stay away, where the margin's total is known and the last cell is never told by itself.
///
/// The small ones, the last, and then the smallest others until those that are withheld together hold more rows than a
/// reader could divide among them in few ways: at least `cell_min` beyond one for each.
pub fn withhold(rows: &[u64], fit: &[bool], cell_min: u64) -> Vec<bool> {
    let mut away: Vec<bool> = fit.iter().map(|fit| !fit).collect();
    if away.iter().all(|away| !away) {
        return away;
    }
    if let Some(rest) = away.last_mut() {
        *rest = true;
    }
    loop {
        let gone = rows.iter().zip(&away).filter(|(_, away)| **away);
        let add = |(cells, total): (u64, u64), (rows, _): (&u64, _)| (cells + 1, total.saturating_add(*rows));
        let (cells, total) = gone.fold((0, 0), add);
        if cells >= 2 && total >= cell_min.saturating_add(cells) {
            return away;
        }
        let told = rows.iter().enumerate().filter(|(cell, rows)| away.get(*cell) == Some(&false) && **rows > 0);
        let next = told.min_by_key(|(_, rows)| **rows).map(|(cell, _)| cell);
        match next.and_then(|cell| away.get_mut(cell)) {
            Some(away) => *away = true,
            // So few in all that even an empty cell would tell of the others.
            None => return vec![true; rows.len()],
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Every table of `cells` cells with `total` rows.
    fn tables(cells: usize, total: u64) -> Vec<Vec<u64>> {
        if cells == 1 {
            return vec![vec![total]];
        }
        let with =
            |first: u64| tables(cells - 1, total - first).into_iter().map(move |rest| [vec![first], rest].concat());
        (0..=total).flat_map(with).collect()
    }

    fn told(rows: &[u64], cell_min: u64) -> Vec<Option<u64>> {
        let fit: Vec<bool> = rows.iter().map(|rows| *rows == 0 || *rows >= cell_min).collect();
        let away = withhold(rows, &fit, cell_min);
        let last = rows.len() - 1;
        rows.iter().zip(away).enumerate().map(|(cell, (rows, away))| (!away && cell < last).then_some(*rows)).collect()
    }

    /// The reader knows the rule and the total, and tries every table: those that would have been told the same way. Each cell
    /// that is withheld must have several possible numbers, unless it is the last and nothing is withheld.
    #[test]
    fn no_cell_comes_back_by_subtraction() {
        // A stage with fewer rows in all tells nothing; with a minimum of 2, withheld means one patient, so terms cannot say that.
        for cell_min in [3_u64, 4, 5, 6] {
            for cells in 2..=4 {
                for total in cell_min..=24 {
                    let mut alike: BTreeMap<Vec<Option<u64>>, Vec<Vec<u64>>> = BTreeMap::new();
                    for table in tables(cells, total) {
                        alike.entry(told(&table, cell_min)).or_default().push(table);
                    }
                    for (seen, tables) in alike {
                        if seen.iter().take(cells - 1).all(Option::is_some) {
                            continue;
                        }
                        for cell in (0..cells).filter(|cell| seen[*cell].is_none()) {
                            let possible: BTreeSet<u64> = tables.iter().map(|table| table[cell]).collect();
                            let small = tables.iter().any(|table| (1..cell_min).contains(&table[cell]));
                            let surely = possible.len() == 1 && small;
                            assert!(!surely, "{seen:?} of {total}, minimum {cell_min}: cell {cell} is {possible:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn large_cells_are_told_and_a_small_one_takes_a_partner_along() {
        assert_eq!(told(&[40, 50, 60], 10), [Some(40), Some(50), None]);
        assert_eq!(told(&[40, 3, 60], 10), [Some(40), None, None]);
        // The last cell is small: without a partner, it would be the total less the others.
        assert_eq!(told(&[40, 50, 3], 10), [None, Some(50), None]);
        // Both small, and together hardly more than one could guess.
        assert_eq!(told(&[40, 50, 2, 1], 10), [None, Some(50), None, None]);
        assert_eq!(told(&[0, 50, 60], 10), [Some(0), Some(50), None]);
    }

    #[test]
    fn the_largest_row_is_hidden_by_the_others_or_not() {
        let top = |values: &[f64]| {
            let mut top = Top { measured: true, ..Top::default() };
            values.iter().for_each(|value| top.take(*value));
            Tally { count: vec![values.len() as u64], tops: vec![top] }.outweighed(10).is_some()
        };
        assert!(top(&[1000.0, 50.0, 40.0, 30.0]));
        assert!(!top(&[1000.0, 50.0, 40.0, 30.0, 31.0]));
        assert!(top(&[5.0, 5.0]) && top(&[5.0]) && !top(&[0.0, 0.0]));
        assert!(!top(&[50.0; 20]));
    }
}
