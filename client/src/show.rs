//! Text for terminals: aligned tables, times, sizes, numbers. No colour is decided here; see [`crate::io::terminal`].

use leben_protocol::reject::printable;

/// Millionths of epsilon as a decimal number without trailing zeros.
pub fn epsilon(micro: u64) -> String {
    let text = format!("{}.{:06}", micro / 1_000_000, micro % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// On which side a column is aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// A table of text: a head, a line of dashes, rows; two spaces between columns, no space at the end of a line.
pub struct Table {
    head: Vec<(String, Side)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub fn new(head: &[(&str, Side)]) -> Table {
        Table { head: head.iter().map(|(name, side)| ((*name).to_owned(), *side)).collect(), rows: Vec::new() }
    }

    /// Adds a row; missing cells are empty.
    pub fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(|cell| clean(&cell.into())).collect());
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, each ending in a line break.
    pub fn to_text(&self) -> String {
        let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
        let width = |at: usize, name: &str| {
            self.rows.iter().map(|row| cell(row, at).chars().count()).chain([name.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = self.head.iter().enumerate().map(|(at, (name, _))| width(at, name)).collect();
        let line = |cells: Vec<String>| -> String {
            let padded: Vec<String> = cells
                .iter()
                .zip(&widths)
                .zip(&self.head)
                .map(|((cell, width), (_, side))| match side {
                    Side::Left => format!("{cell:<width$}"),
                    Side::Right => format!("{cell:>width$}"),
                })
                .collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        let names = self.head.iter().map(|(name, _)| name.clone()).collect();
        let rules = widths.iter().map(|width| "-".repeat(*width)).collect();
        let rows = self.rows.iter().map(|row| line((0..self.head.len()).map(|at| cell(row, at)).collect()));
        [line(names), line(rules)].into_iter().chain(rows).collect()
    }
}

/// What others wrote, without anything that could drive a terminal.
pub fn clean(text: &str) -> String {
    // printable cuts to the length of a reason; cells are shorter, and longer texts are cleaned piece by piece.
    let chars: Vec<char> = text.chars().collect();
    chars.chunks(100).map(|piece| printable(&piece.iter().collect::<String>())).collect()
}

/// A time in UTC to the second, `2026-11-22 09:02:31`.
pub fn utc(ms: u64) -> String {
    let text = leben_contracts::agreement::terms_text::utc(ms).replace('T', " ");
    text.split('.').next().unwrap_or_default().to_owned()
}

/// A size, `1.2 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or("TiB");
    if unit == 0 { format!("{count} {name}") } else { format!("{value:.1} {name}") }
}

/// A number with six significant digits, as a person reads it; `-` for none.
pub fn number(value: Option<f64>) -> String {
    let Some(value) = value.filter(|value| value.is_finite()) else { return "-".into() };
    let size = value.abs();
    if value == 0.0 {
        return "0".into();
    }
    if !(1e-4..1e9).contains(&size) {
        return format!("{value:.3e}");
    }
    if value == value.trunc() && size < 1e9 {
        return format!("{value}");
    }
    let digits = (5.0 - size.log10().floor()).clamp(0.0, 10.0) as usize;
    format!("{value:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned_and_end_cleanly() {
        let mut table = Table::new(&[("name", Side::Left), ("rows", Side::Right), ("note", Side::Left)]);
        table.row(["a", "7", ""]);
        table.row(["später", "1234", "x\u{1b}y"]);
        let wanted = "name    rows  note\n------  ----  ----\na          7\nspäter  1234  x\u{fffd}y\n";
        assert_eq!(table.to_text(), wanted);
    }

    #[test]
    fn times_sizes_numbers() {
        assert_eq!(utc(951_782_400_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_767_225_599_999), "2025-12-31 23:59:59");
        assert_eq!(
            (bytes(1023).as_str(), bytes(1536).as_str(), bytes(3 << 30).as_str()),
            ("1023 B", "1.5 KiB", "3.0 GiB")
        );
        let shown: Vec<String> = [0.0, -4.7118906148188, 920.0, 5.9764e-10, 0.844487784358434, 12345.678, 2e12]
            .map(|x| number(Some(x)))
            .into();
        assert_eq!(shown, ["0", "-4.71189", "920", "5.976e-10", "0.844488", "12345.7", "2.000e12"]);
        assert_eq!((number(None), number(Some(f64::NAN))), ("-".into(), "-".into()));
    }

    #[test]
    fn long_text_is_cleaned_not_cut() {
        let text = "ä".repeat(5000);
        assert_eq!(clean(&text), text);
        assert!(!clean("\u{1b}[31m\u{202e}").contains(['\u{1b}', '\u{202e}']));
    }
}
