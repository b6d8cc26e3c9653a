//! One private job from its file to its receipt, beside what the same rows say without noise; then those that are refused.

use std::fs;

use leben::action;
use leben::draft::draft;
use leben::io::sync::sync;
use leben::io::{fresh, now_ms};
use leben::job::Job;
use leben::{Home, Session};
use leben_contracts::agreement::terms::Terms;
use serde_json::Value;

use super::{
    actors, amounts, budget, describe, entries, fit, job, network, number, obstacle, oracle, standing, vectors_sent,
};
use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;
use crate::tutorial::root;

/// The example, with the names of this network.
fn example() -> String {
    let mut text = fs::read_to_string(root().join("client/examples/private.toml")).unwrap();
    for (site, hospital) in super::SITES.iter().zip(HOSPITALS) {
        text = text.replace(&format!("{site}/heart"), &format!("{hospital}/heart"));
    }
    text.replace("total = 10_000", "total = 0")
}

#[test]
fn a_private_job_costs_what_it_says_and_its_intervals_hold_what_the_rows_say() {
    let mut deployment = network("5", "");
    for hospital in HOSPITALS {
        assert_eq!(amounts(&deployment, hospital), [0.0, 0.0, 5.0]);
        assert_eq!(budget(&deployment, hospital)["declared"], true);
    }
    let contract = deployment.submit(&example())["contract"].as_str().unwrap().to_owned();
    wait_until("the steward reads what it asks", || {
        let text = deployment.worker("aker", &["contracts"]).out;
        text.contains("asks epsilon 3 at delta 1e-6 of the privacy budget of 'heart': 5 of 5 is left")
    });
    let mut watch = deployment.watch(&contract);
    deployment.approve(&HOSPITALS[..3], &contract);
    wait_until("aker holds it", || amounts(&deployment, "aker") == [0.0, 3.0, 2.0]);
    assert_eq!(amounts(&deployment, "delft"), [0.0, 0.0, 5.0], "nobody approved it there");
    deployment.approve(&HOSPITALS[3..], &contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Delivered".into(), &true.into()), "{end}");

    let said = deployment.leben(&["fetch", &contract, "--out", "result"]).ok();
    assert!(said.contains("Differential privacy: epsilon") && said.contains("at delta 1e-6"), "{said}");
    deployment.leben(&["verify", "result"]).ok();
    let result: Value = serde_json::from_slice(&fs::read(deployment.path("result/result.json")).unwrap()).unwrap();
    statistics(&result["stages"][0]["outcome"]);
    coefficients(&result["stages"][1]["outcome"]);

    // The ledger, the hospitals and the receipt say one and the same.
    for kind in ["BudgetGenesis", "BudgetReserve", "BudgetSpend"] {
        wait_until(kind, || actors(&entries(&deployment, kind, "")) == HOSPITALS);
    }
    let receipts = entries(&deployment, "StageReceipt", &contract);
    let micro = |value: &Value| value["body"]["epsilon_micro_spent"].as_u64().unwrap();
    let received: u64 = receipts.iter().map(micro).sum();
    assert!(receipts.len() == 2 && (2_300_000..=2_600_000).contains(&received), "{received}");
    for (stage, receipt) in receipts.iter().enumerate() {
        let told = result["stages"][stage]["outcome"]["privacy"]["epsilon"].as_f64().unwrap();
        assert!(stage > 0 || (micro(receipt) as f64 * 1e-6) <= told, "what a stage adds is at most what it is alone");
    }
    for spend in entries(&deployment, "BudgetSpend", &contract) {
        assert_eq!(spend["body"]["epsilon_micro"], received, "{spend}");
    }
    let spent = received as f64 * 1e-6;
    for hospital in HOSPITALS {
        wait_until("the budget is booked", || amounts(&deployment, hospital)[1] == 0.0);
        let [booked, _, left] = amounts(&deployment, hospital);
        assert!((booked - spent).abs() < 1e-9 && (left - (5.0 - spent)).abs() < 1e-9, "{booked} and {left}");
        assert_eq!(standing(&deployment, hospital, &contract).unwrap().2, 4, "one round and three");
        assert!(number(&budget(&deployment, hospital)["released"]) > 0.0);
        let audit = deployment.worker(hospital, &["audit"]).ok();
        assert!(!audit.contains("receipt-differs") && audit.contains("budget-closed"), "{audit}");
    }
    learned(&mut deployment);
    refused(&deployment);
    deployment.export("exported");
}

/// DP-SGD inside each hospital: the ledger counts every local step, as the result does.
fn learned(deployment: &mut Deployment) {
    let stage = r#"name = "learn"
algorithm = "dp-sgd"
params = { features = "age,sex", outcome = "target", bounds = "age:25..80,sex:0..1", sigma = "5", rate = "0.2", batch = 40, rounds = 3, steps = 10, epsilon = "3" }"#;
    let text = |epsilon| job(epsilon, &[stage.to_owned()]).replace("discrete-gaussian", "dp-sgd");
    deployment.try_submit(&text("0.5")).complains(&["privacy.epsilon", "the noise of the stages together gives"]);
    let contract = deployment.submit(&text("1.2"))["contract"].as_str().unwrap().to_owned();
    let mut watch = deployment.watch(&contract);
    deployment.approve(&HOSPITALS, &contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Delivered".into(), &true.into()), "{end}");
    let said = deployment.leben(&["fetch", &contract, "--out", "learned"]).ok();
    assert!(said.contains("rows are not counted") && said.contains("DP-SGD inside every hospital"), "{said}");
    let result: Value = serde_json::from_slice(&fs::read(deployment.path("learned/result.json")).unwrap()).unwrap();
    let told = result["stages"][0]["outcome"]["privacy"]["epsilon"].as_f64().unwrap();
    let receipt = entries(deployment, "StageReceipt", &contract).remove(0);
    let received = receipt["body"]["epsilon_micro_spent"].as_u64().unwrap() as f64 * 1e-6;
    assert!(
        (0.6..=1.2).contains(&told) && (told - received).abs() < 1e-3,
        "{told} in the result, {received} in the receipt"
    );
    for hospital in HOSPITALS {
        wait_until("the budget is booked", || amounts(deployment, hospital)[1] == 0.0);
        let (how, booked, rounds) = standing(deployment, hospital, &contract).unwrap();
        assert!(how == "spent" && (booked - received).abs() < 1e-5 && rounds == 3, "{how} {booked} {rounds}");
    }
}

/// Value of a row and a column of a table.
fn cell(outcome: &Value, table: &str, row: &str, column: &str) -> f64 {
    let table = outcome["tables"].as_array().unwrap().iter().find(|grid| grid["name"] == table).unwrap();
    let place = table["columns"].as_array().unwrap().iter().position(|name| name == column).unwrap();
    let row = table["rows"].as_array().unwrap().iter().find(|found| found["label"] == row).unwrap();
    row["values"][place].as_f64().unwrap_or_else(|| panic!("{row} has no {column}"))
}

/// The released number is off by the noise it says, and its interval is wider than that noise.
fn within_the_noise(what: &str, truth: f64, estimate: f64, noise_sd: f64, high95: f64) {
    // Six standard deviations: one in 500 million.
    assert!((estimate - truth).abs() <= 6.0 * noise_sd, "{what}: {estimate} for {truth}, noise of {noise_sd}");
    assert!(estimate != truth && noise_sd > 0.0, "{what}: no noise");
    assert!(high95 - estimate > 1.95 * noise_sd, "{what}: the interval leaves the noise out");
}

fn statistics(outcome: &Value) {
    let privacy = &outcome["privacy"];
    let (epsilon, delta) = (privacy["epsilon"].as_f64().unwrap(), privacy["delta"].as_f64().unwrap());
    assert!((0.9..=1.0).contains(&epsilon) && delta == 1e-6 && privacy["honest"] == 2, "{privacy}");
    let (mean, rows) = oracle::mean("age", 25.0, 80.0);
    let mut all = vec![("rows".to_owned(), "rows".to_owned(), rows), ("means".to_owned(), "age".to_owned(), mean)];
    for code in 1..=4 {
        all.push(("counts of cp".to_owned(), code.to_string(), oracle::count("cp", f64::from(code))));
    }
    for (table, row, truth) in all {
        let value = |column| cell(outcome, &table, &row, column);
        let noise = value("noise_sd");
        within_the_noise(&row, truth, value("estimate"), noise, value("high95"));
        assert!(value("se") >= noise, "{row}: the noise is in the standard error");
    }
    assert!(cell(outcome, "rows", "rows", "noise_sd") < 40.0, "and there is something to see through it");
}

fn coefficients(outcome: &Value) {
    let epsilon = outcome["privacy"]["epsilon"].as_f64().unwrap();
    assert!((2.0..=3.0).contains(&epsilon), "{outcome}");
    for (term, truth) in ["(Intercept)", "age", "sex"].into_iter().zip(oracle::regression()) {
        let value = |column| cell(outcome, "coefficients_original", term, column);
        let noise = value("noise_se");
        let estimate = value("estimate");
        assert!((estimate - truth).abs() <= 6.0 * noise, "{term}: {estimate} for {truth}, noise of {noise}");
        assert!(value("se") > noise && estimate != truth, "{term}: {outcome}");
    }
}

/// Everything of a hospital that a refusal must not change.
fn untouched(deployment: &Deployment) -> Vec<(Value, u64)> {
    HOSPITALS.iter().map(|hospital| (budget(deployment, hospital), vectors_sent(deployment, hospital))).collect()
}

/// Jobs that no hospital signs, whoever approves them: by the job file, and by terms that no draft would make.
fn refused(deployment: &Deployment) {
    let before = untouched(deployment);
    let plain = "name = \"fit\"\nalgorithm = \"glm\"\nparams = { features = \"age\", outcome = \"target\" }".to_owned();
    for (text, words) in [
        (job("2", &[describe("2.5")]), &["aker/heart, basel/heart", "of 5 left, the job asks for 2"] as &[&str]),
        (job("0", &[describe("6")]), &["privacy.epsilon", "must be above 0"]),
        (job("-1", &[describe("6")]), &["privacy.epsilon", "must be above 0"]),
        (job("nan", &[describe("6")]), &["privacy.epsilon", "must be above 0"]),
        (job("0.3", &[describe("6")]), &["privacy.epsilon", "the noise of the stages together gives epsilon 0.6"]),
        (job("1", &[describe("6"), plain]), &["stage[2].algorithm", "adds no noise"]),
        (
            job("1", &[describe("6")]).replace("row_cap = 1000", "row_cap = 290"),
            &["row_cap 290 is below the 309 rows", "aker/heart", "let another in"],
        ),
        (job("1", &[describe("6")]).replace("hospitals_min = 3", "hospitals_min = 2"), &["3 hospitals", "of 2"]),
        (job("1", &[describe("6").replace("honest = 2", "honest = 4")]), &["hospitals"]),
    ] {
        deployment.try_submit(&text).complains(words);
    }
    let one = job("1", &[describe("6")])
        .replace(r#"sets = ["aker/heart", "basel/heart", "cluj/heart", "delft/heart"]"#, r#"sets = ["aker/heart"]"#);
    deployment.try_submit(&one).complains(&["names 1 hospital(s); a sum needs 3"]);
    assert_eq!(entries(deployment, "Propose", "").len(), 2, "nothing was sent");

    let nobody = |terms: &mut Terms| terms.inputs.iter_mut().for_each(|input| input.cohort = "age > 200".into());
    let proposals: [(&str, Terms); 5] = [
        ("(small_cohort)", terms_of(deployment, &job("1", &[describe("6")]), nobody)),
        (
            "(budget)",
            terms_of(deployment, &job("1", &[describe("6")]), |terms| terms.privacy.epsilon_micro = 2_000_000),
        ),
        (
            "(job_epsilon)",
            terms_of(deployment, &job("1", &[describe("6")]), |terms| terms.privacy.epsilon_micro = 3_500_000),
        ),
        (
            "(guarantee)",
            terms_of(deployment, &job("1", &[describe("6")]), |terms| terms.privacy.epsilon_micro = 300_000),
        ),
        ("(row_cap)", terms_of(deployment, &job("1", &[describe("6")]), |terms| terms.inputs[0].row_cap = 290)),
    ];
    let mut refused = Vec::new();
    for (code, terms) in proposals {
        let contract = propose(deployment, &terms);
        refused.push(contract.clone());
        wait_until(&format!("aker says {code}"), || {
            obstacle(deployment, "aker", &contract).is_some_and(|why| why.contains(code))
        });
        deployment.worker("aker", &["approve", &contract[..12]]).ok();
        assert!(deployment.worker("aker", &["contracts"]).ok().contains("This hospital cannot sign it as it is"));
    }
    // A contract that can be signed comes after them: when it is, they had their chance.
    let good = deployment.submit(&job("1", &[fit(2, "6")]))["contract"].as_str().unwrap().to_owned();
    assert_eq!(untouched(deployment), before);
    deployment.approve(&["aker"], &good);
    let signed = |contract: &str| actors(&entries(deployment, "Accept", contract)).contains(&"aker");
    wait_until("aker signs the good one", || signed(&good));
    assert!(refused.iter().all(|contract| !signed(contract)));
    assert_eq!(amounts(deployment, "aker")[1], 1.0, "and nothing else is held");
}

/// The terms of a job, changed.
fn terms_of(deployment: &Deployment, text: &str, change: impl FnOnce(&mut Terms)) -> Terms {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let home = Home::open(&deployment.path("team")).unwrap();
        let session = Session::connect(&home).await.unwrap();
        let ledger = sync(&home, &session).await.unwrap();
        let mut terms = draft(&Job::parse(text).unwrap(), &ledger.offers(home.party()).unwrap(), now_ms()).unwrap();
        session.close().await;
        change(&mut terms);
        terms.with_text_hash()
    })
}

/// Puts terms on the ledger; the contract.
fn propose(deployment: &Deployment, terms: &Terms) -> String {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let home = Home::open(&deployment.path("team")).unwrap();
        let session = Session::connect(&home).await.unwrap();
        let ledger = sync(&home, &session).await.unwrap();
        let envelope = action::propose(&home, ledger.state(), terms, fresh().unwrap()).unwrap();
        session.append(&envelope, true).await.unwrap();
        session.close().await;
        hex::encode(envelope.payload_hash())
    })
}
