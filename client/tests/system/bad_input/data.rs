//! A hospital's own mistakes with its file.

use crate::deployment::Deployment;
use crate::process::wait_until;
use crate::rows::{WORKER_TOML, csv};

/// A cell that no message may repeat.
const CELL: &str = "sixty-one";

/// Hospital, what is wrong with its file, and what its messages must say.
fn faults() -> [(&'static str, String, &'static [&'static str]); 5] {
    let good = csv(1, 30);
    let line = |at: usize| good.lines().nth(at - 1).unwrap().to_owned();
    let extra = good.replacen(&line(5), &format!("{},{CELL}", line(5)), 1);
    let typed = good.replacen(&line(7), &format!("p,{CELL},3.0,1.0,1"), 1);
    let coded = good.replacen(&line(9), "p,50.0,3.0,1.0,0.5", 1);
    [
        (
            "ragged",
            extra,
            &["rows.csv", "line 5", "6 fields where 5 were expected", "look for a stray delimiter or quote"],
        ),
        (
            "unnamed",
            good.replacen("dose", "dosis", 1),
            &["rows.csv", "none of the 5 names in the header is 'dose'", "correct worker.toml"],
        ),
        ("typed", typed, &["rows.csv", "line 7, column 'age'", "not of the declared type, expected a number"]),
        ("coded", coded, &["rows.csv", "line 9, column 'benign'", "expected a whole number"]),
        ("empty", String::new(), &["rows.csv: the file is empty"]),
    ]
}

#[test]
fn a_faulty_file_is_named_with_line_and_column_never_with_its_content() {
    let mut deployment = Deployment::new();
    deployment.serve();
    deployment.keygen("team", 0);
    for (hospital, file, words) in faults() {
        deployment.join(hospital, &file, WORKER_TOML);
        let check = deployment.worker(hospital, &["check"]);
        check.complains(&["FAIL data set 'cohort'"]);
        assert!(!check.out.contains(CELL), "{}", check.out);
        deployment.run(hospital);
        let agent = deployment.workers.get_mut(hospital).unwrap();
        agent.wait_for(words[words.len() - 1]);
        let log = agent.complained();
        assert!(words.iter().all(|word| log.contains(word)), "{words:?} in {log}");
        assert!(!log.contains(CELL), "{log}");
    }
    // Nobody offers what cannot be read; a mended file is offered at the next start.
    let sets = || deployment.leben(&["catalog", "--json"]).json()["datasets"].as_array().unwrap().len();
    assert_eq!(sets(), 0);
    std::fs::write(deployment.path("typed/rows.csv"), csv(1, 30)).unwrap();
    deployment.worker("typed", &["check"]).ok();
    deployment.workers.remove("typed");
    deployment.run("typed");
    wait_until("the mended file is offered", || {
        deployment.leben(&["catalog", "--json"]).json()["datasets"].as_array().unwrap().len() == 1
    });
}

#[test]
fn a_faulty_configuration_is_named_with_its_key() {
    let deployment = Deployment::new();
    let check = |text: &str, words: &[&str]| {
        let folder = deployment.path("hospital");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("worker.toml"), text).unwrap();
        deployment.worker("hospital", &["check"]).complains(words);
    };
    let file = "hospital/worker.toml";
    check("[polcy]\nauto_approve = true", &["FAIL configuration", file, "polcy"]);
    check(&WORKER_TOML.replace("\"number\"", "\"nmber\""), &[file, "nmber", "number"]);
    check(&WORKER_TOML.replace("permission", "permitted"), &[file, "dataset 'cohort'", "permission"]);
    check(&format!("{WORKER_TOML}{WORKER_TOML}"), &[file, "'cohort'", "is declared twice"]);
    check(WORKER_TOML, &["join a network first: leben-worker join <invite>"]);
}
