//! The demo's rows: the breast-cancer data of the crate `smartcore` (UCI, Wolberg, Street and Mangasarian; 569 x 30), split
//! over four hospitals unevenly and not at random: by tumour size, so that no hospital alone sees both ends.

use leben_models::{Column, Kind, Table};
use smartcore::dataset::breast_cancer;

/// Each hospital with its rows.
pub const HOSPITALS: [(&str, usize); 4] =
    [("hospital-a", 230), ("hospital-b", 160), ("hospital-c", 110), ("hospital-d", 69)];

/// All rows, as only the demo has them, in the order in which the hospitals hold them.
pub struct Rows {
    /// The thirty features' names.
    pub features: Vec<String>,
    /// Each row: its features as the decimal texts they were published as, and 1 for benign.
    rows: Vec<(Vec<String>, u32)>,
}

impl Rows {
    /// Reads the embedded data and puts it in order of the mean radius.
    pub fn load() -> Rows {
        let data = breast_cancer::load_dataset();
        let features = data.feature_names.iter().map(|name| name.replace(' ', "_")).collect();
        let mut rows: Vec<(f32, (Vec<String>, u32))> = data
            .data
            .chunks(data.num_features)
            .zip(&data.target)
            .map(|(row, target)| {
                // The shortest decimal text of the stored f32 is the published figure.
                let texts = row.iter().map(ToString::to_string).collect();
                (row.first().copied().unwrap_or(0.0), (texts, *target))
            })
            .collect();
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        Rows { features, rows: rows.into_iter().map(|(_, row)| row).collect() }
    }

    /// One hospital's rows as the CSV file it would have.
    pub fn csv(&self, hospital: usize) -> String {
        let before: usize = HOSPITALS.iter().take(hospital).map(|(_, rows)| rows).sum();
        let count = HOSPITALS.get(hospital).map_or(0, |(_, rows)| *rows);
        let mut text = format!("{},benign\n", self.features.join(","));
        for (cells, target) in self.rows.iter().skip(before).take(count) {
            text.push_str(&format!("{},{target}\n", cells.join(",")));
        }
        text
    }

    /// All rows in one table.
    pub fn table(&self) -> Result<Table, String> {
        let column = |at: usize, name: &String| {
            let cells = self.rows.iter().map(|(cells, _)| cells.get(at).and_then(|cell| cell.parse().ok()));
            (Column::new(name, Kind::Number), cells.map(|cell| cell.unwrap_or(f64::NAN)).collect::<Vec<f64>>())
        };
        let mut columns: Vec<_> = self.features.iter().enumerate().map(|(at, name)| column(at, name)).collect();
        let outcome = self.rows.iter().map(|(_, target)| f64::from(*target)).collect();
        columns.push((Column::new("benign", Kind::Integer), outcome));
        Table::from_columns(columns).map_err(|finding| finding.to_string())
    }

    /// What a hospital writes into its `worker.toml`.
    pub fn worker_toml(&self) -> String {
        let mut text = String::from(
            "[[dataset]]\nname = \"breast\"\npath = \"breast.csv\"\n\
             permission = { duo = [\"GRU\"], ehds = [\"53.1.e.ii\"] }\ncolumns = [\n",
        );
        for feature in &self.features {
            text.push_str(&format!("  {{ name = \"{feature}\", type = \"number\" }},\n"));
        }
        text.push_str("  { name = \"benign\", type = \"integer\", role = \"outcome\", min = 0, max = 1 },\n]\n");
        text
    }

    /// The AI team's job file.
    pub fn job_toml(&self) -> String {
        let sets: Vec<String> = HOSPITALS.iter().map(|(name, _)| format!("\"{name}/breast\"")).collect();
        let features: Vec<String> = self.features.iter().map(|name| format!("\"{name}\"")).collect();
        let splits: Vec<String> = HOSPITALS
            .iter()
            .zip([4_000, 3_000, 2_000, 1_000])
            .map(|((name, _), part)| format!("{name} = {part}"))
            .collect();
        format!(
            r#"[purpose]
duo = ["GRU"]
ehds = "53.1.e.ii"
commercial = false
methods_development = true

[data]
sets = [{}]
cohort_min = 50
row_cap = 1000

[model]
outcome = "benign"
features = [{}]

[[stage]]
name = "standardise"
algorithm = "standardise"

[[stage]]
name = "fit"
algorithm = "glm"
from = "standardise"
params = {{ ridge = "1" }}
timeout = "30 seconds"

[[stage]]
name = "evaluate"
algorithm = "evaluate"
from = "fit"

[privacy]
hospitals_min = 3
on_drop = "repeat"

[price]
total = 1_000
splits = {{ {} }}

[delivery]
outputs = ["coefficients", "figures", "curves"]
delete_after = "365 days"

[windows]
sign_within = "1 hours"
run_within = "2 hours"
accept_within = "1 hours"
"#,
            sets.join(", "),
            features.join(", "),
            splits.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slices_are_all_rows_once_and_uneven_in_the_outcome() {
        let rows = Rows::load();
        let all: usize = HOSPITALS.iter().map(|(_, rows)| rows).sum();
        assert_eq!((all, rows.rows.len(), rows.features.len()), (569, 569, 30));
        let table = rows.table().unwrap();
        assert_eq!(table.rows(), 569);
        let benign = |at| rows.csv(at).lines().skip(1).filter(|line| line.ends_with(",1")).count();
        let lines = |at| rows.csv(at).lines().count() - 1;
        assert_eq!((0..4).map(lines).collect::<Vec<_>>(), [230, 160, 110, 69]);
        assert!(benign(0) > 200 && benign(3) < 3, "{} and {}", benign(0), benign(3));
    }
}
