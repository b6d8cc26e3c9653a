//! A rare code is planted in the rows of four hospitals, and a column that one of them alone fills: what would tell of them is in no
//! file, on no terminal and in no log, and everything says that something is withheld.

use std::fs;

use crate::deployment::{Deployment, HOSPITALS, files_below};
use crate::process::wait_until;
use crate::rows;

/// Two patients at each of three hospitals have the rare kind.
const RARE: usize = 6;
const ROWS: usize = 120;

fn worker_toml() -> String {
    let columns = r#"  { name = "kind", type = "category", codes = { "1" = 1, "2" = 2, "3" = 3 } },
  { name = "trial", type = "number" },
  { name = "benign""#;
    format!("[disclosure]\ncell_min = 8\n{}", rows::WORKER_TOML.replacen("  { name = \"benign\"", columns, 1))
}

fn kind(seed: usize, row: usize) -> usize {
    match row {
        1 | 2 if seed < 3 => 3,
        row if row % 11 < 4 => 2,
        _ => 1,
    }
}

/// `kind` is 3 for the planted patients, `trial` is measured by the second hospital alone.
fn csv(seed: usize) -> String {
    let mut text = String::new();
    for (at, line) in rows::csv(seed, ROWS).lines().enumerate() {
        let (front, last) = line.rsplit_once(',').unwrap();
        let kind = kind(seed, at);
        let trial = if seed == 1 { (at % 17) as f64 * 1.25 } else { 0.0 };
        text += &match at {
            0 => format!("{front},kind,trial,{last}\n"),
            _ => format!("{front},{kind},{trial},{last}\n"),
        };
    }
    text
}

fn network() -> Deployment {
    let mut deployment = Deployment::new();
    deployment.serve();
    for (seed, hospital) in HOSPITALS.into_iter().enumerate() {
        deployment.join(hospital, &csv(seed), &worker_toml());
        deployment.run(hospital);
    }
    deployment.keygen("team", 5_000);
    deployment.wait_for_offers(HOSPITALS.len());
    deployment
}

fn job(algorithms: &[&str], cell_min: u64) -> String {
    let job = rows::JobFile {
        features: r#"["age", { column = "kind", levels = [1, 2, 3] }, "trial"]"#,
        ..Default::default()
    };
    let text = job.text();
    let (head, stages) = text.split_once("[[stage]]").unwrap();
    let (_, tail) = stages.split_once("[privacy]").unwrap();
    let mut text = head.to_owned();
    for (at, algorithm) in algorithms.iter().enumerate() {
        let from = if at > 0 { format!("from = \"{}\"\n", algorithms[at - 1]) } else { String::new() };
        text += &format!(
            "[[stage]]\nname = \"{algorithm}\"\nalgorithm = \"{algorithm}\"\n{from}timeout = \"20 seconds\"\nretries = 20\n\n"
        );
    }
    format!("{text}[privacy]\ncell_min = {cell_min}{tail}")
}

/// The numbers that would tell of the rare kind or of the one hospital's column, as programs print them.
fn telling() -> Vec<String> {
    let rows = (HOSPITALS.len() * ROWS) as f64;
    let share = RARE as f64 / rows;
    let trial: f64 = (1..=ROWS).map(|at| (at % 17) as f64 * 1.25).sum::<f64>() / rows;
    let all = (0..HOSPITALS.len()).flat_map(|seed| (1..=ROWS).map(move |row| kind(seed, row)));
    let common = all.filter(|kind| *kind == 2).count() as f64 / rows;
    // The mean of the rare kind, its deviation, the mean of the one column, and that of the kind that gives the rare one away.
    let numbers = [share, (share * (1.0 - share)).sqrt(), trial, common, (common * (1.0 - common)).sqrt()];
    numbers.iter().map(|number| number.to_string().chars().take(9).collect()).collect()
}

/// Every file that is not a hospital's own table.
fn said_anywhere(deployment: &Deployment, needles: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files_below(&deployment.path("")) {
        // The coordinator keeps the sums' states: PROTOCOL.md says that its operator sees them.
        let operators = path.starts_with(deployment.path("coordinator"))
            && !path.starts_with(deployment.path("coordinator/ledger"));
        if path.ends_with("rows.csv") || operators {
            continue;
        }
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        found.extend(
            needles
                .iter()
                .filter(|needle| text.contains(*needle))
                .map(|needle| format!("{needle} in {}", path.display())),
        );
    }
    found
}

#[test]
fn a_rare_code_and_a_column_of_one_hospital_never_show_and_the_result_says_so() {
    let mut deployment = network();
    let contract = deployment.submit(&job(&["standardise"], 10))["contract"].as_str().unwrap().to_owned();
    deployment.approve(&HOSPITALS, &contract);
    let mut watch = deployment.watch(&contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!(end["phase"], "Delivered", "{end}");
    let mut heard = deployment.leben(&["fetch", &contract, "--out", "result"]).ok();
    for what in
        ["Withheld", "fewer than 10 patients", "moments of 'kind[3]'", "moments of 'kind[2]'", "moments of 'trial'"]
    {
        assert!(heard.contains(what), "no {what} in {heard}");
    }
    heard += &deployment.leben(&["ledger", "show", &contract]).ok();
    assert!(heard.contains("3 withheld"), "{heard}");
    heard += &deployment.leben(&["ledger", "list", "--kind", "StageReceipt"]).ok();
    assert!(heard.contains("3 numbers withheld (disclosure control)"), "{heard}");
    heard += &fs::read_to_string(deployment.path("result/terms.txt")).unwrap();
    assert!(heard.contains("no group of fewer than 10 patients, none of fewer than 2 hospitals"), "{heard}");
    let table = fs::read_to_string(deployment.path("result/moments.csv")).unwrap();
    assert!(table.contains("kind[3],,\n") && table.contains("trial,,\n") && !table.contains("age,,"), "{table}");
    let needles = telling();
    let shown: Vec<&String> = needles.iter().filter(|needle| heard.contains(*needle)).collect();
    assert!(shown.is_empty(), "{shown:?} in {heard}");
    assert_eq!(said_anywhere(&deployment, &needles), Vec::<String>::new());

    // A model has no other table row to hide it behind: it is refused, and named.
    let contract = deployment.submit(&job(&["standardise", "glm"], 10))["contract"].as_str().unwrap().to_owned();
    deployment.approve(&HOSPITALS, &contract);
    let mut watch = deployment.watch(&contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!(end["phase"], "Aborted", "{end}");
    let words = format!("{}{}", watch.printed(), watch.complained());
    assert!(
        words.contains("kind[3]") && words.contains("trial") && words.contains("fewer than 10 patients"),
        "{words}"
    );
    assert_eq!(said_anywhere(&deployment, &needles), Vec::<String>::new());
}

#[test]
fn a_contract_that_asks_for_less_than_the_hospital_is_not_signed() {
    let deployment = network();
    let contract = deployment.submit(&job(&["standardise"], 7))["contract"].as_str().unwrap().to_owned();
    wait_until("the hospital sees the contract", || deployment.worker("aker", &["contracts"]).out.contains(&contract));
    let seen = deployment.worker("aker", &["contracts"]).ok();
    let why = "the terms have cell_min 7; worker.toml, [disclosure], asks for at least 8";
    assert!(seen.contains(why), "{seen}");
}

#[test]
fn a_reviewed_result_leaves_when_every_hospital_has_looked_at_it() {
    let mut deployment = network();
    let reviewed = job(&["standardise"], 10) + "\n[delivery]\nreview = true\n";
    let contract = deployment.submit(&reviewed)["contract"].as_str().unwrap().to_owned();
    deployment.approve(&HOSPITALS, &contract);
    let mut watch = deployment.watch(&contract);
    for (at, hospital) in HOSPITALS.into_iter().enumerate() {
        if at == 3 {
            // The last one was away: it is shown the result when it comes back, and so is everybody whom a new coordinator finds.
            deployment.workers.remove(hospital);
            deployment.coordinator = None;
            deployment.serve();
            deployment.run(hospital);
        }
        wait_until(&format!("{hospital} has a result to look at"), || {
            deployment.worker(hospital, &["status"]).out.contains("a result waits until you have looked at it")
        });
        let shown = deployment.worker(hospital, &["review", &contract[..12]]).ok();
        assert!(shown.contains("withheld: moments of 'kind[3]'") && shown.contains("table moments"), "{shown}");
        assert!(shown.contains("     age: ") && shown.contains("     kind[3]: -, -"), "{shown}");
        // Nobody outside has it while one has not let it go.
        deployment.leben(&["fetch", &contract, "--out", "early"]).complains(&["there is no result yet"]);
        deployment.worker(hospital, &["clear", &contract[..12]]).ok();
    }
    let end = deployment.end_of(&mut watch);
    assert_eq!(end["phase"], "Delivered", "{end}");
    deployment.leben(&["fetch", &contract, "--out", "result"]).ok();
    let cleared = deployment.leben(&["ledger", "list", "--kind", "Clear"]).ok();
    assert_eq!(cleared.matches("has looked at the result and lets it go").count(), HOSPITALS.len(), "{cleared}");
    deployment.worker("aker", &["review", &contract[..12]]).complains(&["no result of it waits here"]);
}
