//! Rows, declarations and jobs of the test networks.

/// Declares `rows.csv` as the data set `cohort`.
pub const WORKER_TOML: &str = r#"
[[dataset]]
name = "cohort"
path = "rows.csv"
id_column = "patient"
permission = { duo = ["GRU"], ehds = ["53.1.e.ii"] }
columns = [
  { name = "patient", type = "text" },
  { name = "age", type = "number", unit = "a" },
  { name = "dose", type = "number", unit = "mg" },
  { name = "cost", type = "number" },
  { name = "benign", type = "integer", role = "outcome" },
]
"#;

/// A hospital's rows: the outcome depends on age and dose, and on chance.
pub fn csv(seed: usize, rows: usize) -> String {
    let mut random = 0x2545_f491_4f6c_dd1d_u64.wrapping_mul(seed as u64 + 1);
    let mut unit = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) as f64 / (1u64 << 53) as f64
    };
    let mut text = String::from("patient,age,dose,cost,benign\n");
    for row in 0..rows {
        let (age, dose) = (30.0 + 40.0 * unit(), 10.0 * unit());
        let chance = 1.0 / (1.0 + (-(age - 50.0) / 15.0 + (dose - 5.0) / 4.0).exp());
        let benign = u8::from(unit() < chance);
        text.push_str(&format!("p{seed}-{row},{age:.3},{dose:.3},{:.2},{benign}\n", 1000.0 * unit()));
    }
    text
}

/// What a job asks for, beyond what all of them do.
pub struct JobFile<'a> {
    pub sets: &'a [&'a str],
    pub features: &'a str,
    pub outcome: &'a str,
    pub cohort: &'a str,
    pub cohort_min: u64,
    /// Fits after the first, each a stage of its own.
    pub more_fits: usize,
}

impl Default for JobFile<'_> {
    fn default() -> Self {
        JobFile {
            sets: &["aker/cohort", "basel/cohort", "cluj/cohort", "delft/cohort"],
            features: r#"["age", "dose"]"#,
            outcome: "benign",
            cohort: "",
            cohort_min: 20,
            more_fits: 0,
        }
    }
}

impl JobFile<'_> {
    /// The job file.
    pub fn text(&self) -> String {
        let sets: Vec<String> = self.sets.iter().map(|set| format!("\"{set}\"")).collect();
        let mut text = format!(
            r#"[purpose]
duo = ["GRU"]
ehds = "53.1.e.ii"

[data]
sets = [{}]
cohort_min = {}
{}

[model]
outcome = "{}"
features = {}

[[stage]]
name = "standardise"
algorithm = "standardise"
timeout = "20 seconds"
retries = 20
"#,
            sets.join(", "),
            self.cohort_min,
            if self.cohort.is_empty() { String::new() } else { format!("cohort = \"{}\"", self.cohort) },
            self.outcome,
            self.features,
        );
        for fit in 0..=self.more_fits {
            text.push_str(&format!(
                "\n[[stage]]\nname = \"fit-{fit}\"\nalgorithm = \"glm\"\nfrom = \"standardise\"\n\
                 params = {{ ridge = \"{}\" }}\ntimeout = \"20 seconds\"\nretries = 20\n",
                fit + 1
            ));
        }
        text.push_str(
            r#"
[[stage]]
name = "evaluate"
algorithm = "evaluate"
from = "fit-0"
timeout = "20 seconds"
retries = 20

[privacy]
hospitals_min = 3
on_drop = "repeat"

[price]
total = 100

[windows]
sign_within = "1 hours"
run_within = "2 hours"
accept_within = "1 hours"
"#,
        );
        text
    }
}
