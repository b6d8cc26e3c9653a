//! Jobs with differential privacy on the heart data of four hospitals, each with a budget of its own: what such a job
//! tells, what it costs, who is refused, how it ends, and what a crash can do to it.

mod ends;
mod kills;
mod oracle;
mod race;
mod whole;

use std::fs;

use serde_json::Value;

use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;
use crate::tutorial::{heart_data, root};

const SITES: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];
/// Columns of the raw files.
pub const COLUMNS: [&str; 14] = [
    "age", "sex", "cp", "trestbps", "chol", "fbs", "restecg", "thalach", "exang", "oldpeak", "slope", "ca", "thal",
    "num",
];

/// The raw rows of a hospital; where they are not on this machine, rows of the same columns.
pub fn rows_of(at: usize) -> String {
    match heart_data() {
        Some(folder) => fs::read_to_string(folder.join(format!("processed.{}.data", SITES[at]))).unwrap(),
        None => made_up(at),
    }
}

fn made_up(at: usize) -> String {
    let mut random = 0x2545_f491_4f6c_dd1d_u64.wrapping_mul(at as u64 + 1);
    let mut below = |count: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % count
    };
    let mut text = String::new();
    for _ in 0..[303, 294, 123, 200][at] {
        let (age, sex) = (30 + below(45), below(2));
        let sick = below(100) < age - 10 + 20 * sex;
        let num = if sick { 1 + below(4) } else { 0 };
        let cp = 1 + below(4);
        text.push_str(&format!("{age},{sex},{cp},{},?,0,0,{},0,0.5,2,?,3,{num}\n", 110 + below(50), 90 + below(90)));
    }
    text
}

/// What a hospital declares: the tutorial's, with a budget of this epsilon for the life of its data set.
pub fn declaration(epsilon: &str, more: &str) -> String {
    let text = fs::read_to_string(root().join("deploy/heart/worker.toml")).unwrap();
    let budget = text.lines().find(|line| line.starts_with("budget = ")).unwrap().to_owned();
    let new = format!("budget = {{ epsilon = \"{epsilon}\", patients_min = 100, job_epsilon = \"3\" }}\n{more}");
    text.replace("processed.HOSPITAL.data", "rows.csv").replace(&budget, &new)
}

/// Four hospitals, each with a budget of this epsilon on the ledger, and a team. `more` stands in each declaration.
pub fn network(epsilon: &str, more: &str) -> Deployment {
    let mut deployment = Deployment::new();
    deployment.serve();
    for (at, hospital) in HOSPITALS.into_iter().enumerate() {
        deployment.join(hospital, &rows_of(at), &declaration(epsilon, more));
        deployment.run(hospital);
    }
    deployment.keygen("team", 0);
    deployment.wait_for_offers(HOSPITALS.len());
    wait_until("every budget on the ledger", || entries(&deployment, "BudgetGenesis", "").len() == HOSPITALS.len());
    deployment
}

/// A stage of statistics.
pub const DESCRIBE: &str = r#"name = "describe"
algorithm = "dp-statistics"
params = { means = "age:25..80", counts = "cp:1|2|3|4", sigma = "SIGMA", epsilon = "3", honest = 2 }"#;

/// A stage of regression.
pub const FIT: &str = r#"name = "fit"
algorithm = "dp-glm"
params = { features = "age,sex", outcome = "target", bounds = "age:25..80,sex:0..1", rounds = ROUNDS, sigma = "SIGMA", epsilon = "3", honest = 2 }"#;

/// A job that promises this epsilon.
pub fn job(epsilon: &str, stages: &[String]) -> String {
    let sets: Vec<String> = HOSPITALS.iter().map(|hospital| format!("\"{hospital}/heart\"")).collect();
    let mut text = format!(
        "[purpose]\nduo = [\"HMB\"]\nehds = \"53.1.e.ii\"\n\n[data]\nsets = [{}]\ncohort_min = 50\nrow_cap = 1000\n",
        sets.join(", ")
    );
    for stage in stages {
        text.push_str(&format!("\n[[stage]]\n{stage}\ntimeout = \"20 seconds\"\nretries = 20\n"));
    }
    text.push_str(&format!(
        "\n[privacy]\nmechanism = \"discrete-gaussian\"\nepsilon = {epsilon}\nhospitals_min = 3\non_drop = \"repeat\"\n\n\
         [windows]\nsign_within = \"1 hours\"\nrun_within = \"2 hours\"\naccept_within = \"1 hours\"\n"
    ));
    text
}

/// Statistics with so much noise.
pub fn describe(sigma: &str) -> String {
    DESCRIBE.replace("SIGMA", sigma)
}

/// A logistic regression of so many rounds with so much noise.
pub fn fit(rounds: u32, sigma: &str) -> String {
    FIT.replace("ROUNDS", &rounds.to_string()).replace("SIGMA", sigma)
}

/// What `leben-worker budget --json` says of the hospital's data set.
pub fn budget(deployment: &Deployment, hospital: &str) -> Value {
    deployment.worker(hospital, &["budget", "--json"]).json()[0].clone()
}

/// Spent, held and left at a hospital.
pub fn amounts(deployment: &Deployment, hospital: &str) -> [f64; 3] {
    let budget = budget(deployment, hospital);
    ["spent", "held", "left"].map(|name| number(&budget[name]))
}

/// A decimal number in quotes.
pub fn number(value: &Value) -> f64 {
    value.as_str().unwrap_or_else(|| panic!("{value}")).parse().unwrap()
}

/// What a hospital's budget says of a contract: how it stands and what it takes.
pub fn standing(deployment: &Deployment, hospital: &str, contract: &str) -> Option<(String, f64, u64)> {
    let budget = budget(deployment, hospital);
    let job = budget["jobs"].as_array()?.iter().find(|job| job["contract"] == contract)?.clone();
    Some((job["standing"].as_str()?.to_owned(), number(&job["booked"]), job["rounds"].as_u64()?))
}

/// Entries of a kind, on a contract or on any.
pub fn entries(deployment: &Deployment, kind: &str, contract: &str) -> Vec<Value> {
    let mut args = vec!["ledger", "list", "--json", "--kind", kind];
    if !contract.is_empty() {
        args.extend(["--contract", contract]);
    }
    deployment.leben(&args).ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Parties that made such entries, sorted.
pub fn actors(entries: &[Value]) -> Vec<&str> {
    let mut actors: Vec<&str> = entries.iter().map(|entry| entry["actor"].as_str().unwrap()).collect();
    actors.sort_unstable();
    actors
}

/// What stands in the way of a contract at a hospital.
pub fn obstacle(deployment: &Deployment, hospital: &str, contract: &str) -> Option<String> {
    let contracts = deployment.worker(hospital, &["contracts", "--json"]).json();
    let view = contracts.as_array()?.iter().find(|view| view["id"] == contract)?.clone();
    view["obstacle"].as_str().map(str::to_owned)
}

/// Vectors that a hospital's agent has sent since it started.
pub fn vectors_sent(deployment: &Deployment, hospital: &str) -> u64 {
    deployment.worker(hospital, &["status", "--json"]).json()["counters"]["rounds"].as_u64().unwrap()
}
