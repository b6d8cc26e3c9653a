//! The estimates against independent software: R, statsmodels and scikit-learn, through files made by others.
#![allow(clippy::unwrap_used, reason = "a helper of tests fails the test")]

mod support;

use leben_models::disclosure::Limits;
use leben_models::{AlgorithmSpec, Table, pooled};
use serde_json::Value;
use support::{federated, fixture, from_reference, numbers, relative, shared, split, stages, wdbc, wdbc_stages};

#[test]
fn breast_cancer_ridge_is_that_of_the_reference() {
    let reference = fixture("wdbc_ridge_logit.json");
    let fitted = pooled::fit(&wdbc_stages(), &wdbc()).unwrap();
    let moments = fitted[0].outcome.grid("moments").unwrap();
    let means: Vec<_> = moments.column("mean").into_iter().take(30).collect();
    let sds: Vec<_> = moments.column("sd").into_iter().take(30).collect();
    for (ours, theirs) in [(means, numbers(&reference["mean"])), (sds, numbers(&reference["sd"]))] {
        let worst = ours.iter().zip(&theirs).map(|(a, b)| relative(a.unwrap(), *b)).fold(0.0, f64::max);
        eprintln!("wdbc moments: {worst:.1e}");
        assert!(worst < 1e-13);
    }
    let worst = from_reference(&fitted[1], "coefficients", "estimate", &reference["coef"]);
    eprintln!("wdbc ridge coefficients: {worst:.1e} in {} rounds", fitted[1].rounds);
    assert!(worst < 1e-9);
    let figures = &fitted[2].outcome.figures;
    let auc = reference["auc_in_sample"].as_f64().unwrap();
    eprintln!("wdbc AUC error {:.1e}, bound {:.1e}", (figures["auc"] - auc).abs(), figures["auc_error_max"]);
    assert!((figures["auc"] - auc).abs() <= figures["auc_error_max"] + 1e-12 && figures["auc_error_max"] < 1e-4);
    // Fewer than ten are misclassified either way, and a share would count them.
    assert!(!figures.contains_key("accuracy") && fitted[2].outcome.withheld().contains(&"accuracy".to_owned()));
    let any = Limits { cell_min: 1, ..Limits::default() };
    let told = support::controlled(&wdbc_stages(), any, &split(&wdbc(), 3, |row| row % 3)).unwrap();
    let figures = &told[2].outcome.figures;
    assert!((figures["accuracy"] - reference["accuracy_in_sample"].as_f64().unwrap()).abs() < 1e-12);
}

#[test]
fn models_of_r_on_the_shared_files() {
    let Some(shared) = shared("models_of_r_on_the_shared_files") else { return };
    let text = std::fs::read(shared.join("reference/pooled_models.json")).unwrap();
    let file: Value = serde_json::from_slice(&text).unwrap();
    let models = file.get("models").unwrap_or(&file).as_array().unwrap();
    let mut done = 0;
    for model in models.iter().filter(|model| model["model"] == "glm") {
        let table = support::read_csv(&shared.join("data").join(model["file"].as_str().unwrap()));
        let table = subset(&table, model["where"].as_str());
        let stages = stages_of(model, &table);
        for (how, fitted) in [
            ("plain", pooled::fit(&stages, &table).unwrap()),
            ("federated", federated(&stages, &split(&table, 4, |row| (row * row / 7) % 4)).unwrap()),
        ] {
            compare(model, how, &fitted[1]);
        }
        done += 1;
    }
    assert!(done >= 9, "only {done} models");
}

fn compare(model: &Value, how: &str, fitted: &pooled::Fitted) {
    let id = model["id"].as_str().unwrap();
    let check = |column: &str, key: &str| from_reference(fitted, "coefficients_original", column, &model[key]);
    let (coef, se) = (check("estimate", "coef"), check("se", "se"));
    let (stat, p) = (check("statistic", "stat"), check("p", "p"));
    let figure = |name: &str| relative(fitted.outcome.figures[name], model[name].as_f64().unwrap());
    eprintln!("{id} {how}: coef {coef:.1e} se {se:.1e} stat {stat:.1e} p {p:.1e} rounds {}", fitted.rounds);
    assert!(coef < 1e-9 && se < 1e-9 && stat < 1e-9, "{id} {how}");
    assert!(p < 1e-7, "{id} {how}");
    assert!(figure("deviance") < 1e-9 && figure("aic") < 1e-9 && figure("null_deviance") < 1e-9, "{id} {how}");
    assert_eq!(fitted.outcome.rows.used, model["rows_used"].as_u64().unwrap(), "{id}");
}

fn subset(table: &Table, condition: Option<&str>) -> Table {
    // The only condition in the file is on the column `set`, whose texts sort test before train.
    let Some(condition) = condition else { return table.clone() };
    assert_eq!(condition, "set==\"train\"");
    let (_, set) = table.column("set").unwrap();
    table.filter(&set.iter().map(|code| *code == 1.0).collect::<Vec<_>>()).unwrap()
}

fn stages_of(model: &Value, table: &Table) -> Vec<AlgorithmSpec> {
    let mut features = Vec::new();
    for covariate in model["covariates"].as_array().unwrap() {
        let Some(name) = covariate.as_str() else {
            features.push(factor(covariate, table));
            continue;
        };
        features.push(name.to_owned());
    }
    let family = model["family"].as_str().unwrap();
    let mut stages = stages(&features.join(","), model["response"].as_str().unwrap(), "0");
    stages.truncate(2);
    stages.into_iter().map(|stage| stage.with("family", family)).collect()
}

fn factor(covariate: &Value, table: &Table) -> String {
    let column = covariate["factor"].as_str().unwrap();
    let mut names: Vec<&str> = vec!["cleveland", "hungarian", "switzerland", "va"];
    names.sort_unstable();
    let code = |level: &Value| match level.as_i64() {
        Some(code) => code.to_string(),
        None => names.iter().position(|name| Some(*name) == level.as_str()).unwrap().to_string(),
    };
    assert!(table.column(column).is_some());
    let levels: Vec<String> = covariate["levels"].as_array().unwrap().iter().map(code).collect();
    format!("{column}:{}>{}", code(&covariate["ref"]), levels.join("|"))
}

#[test]
fn heart_test_split_is_scored_as_by_the_reference() {
    let Some(shared) = shared("heart_test_split_is_scored_as_by_the_reference") else { return };
    let file: Value =
        serde_json::from_slice(&std::fs::read(shared.join("reference/penalised_and_eval.json")).unwrap()).unwrap();
    let table = support::read_csv(&shared.join("data/fed_heart_disease/heart_flamby_740.csv"));
    let (_, set) = table.column("set").unwrap();
    let train = table.filter(&set.iter().map(|code| *code == 1.0).collect::<Vec<_>>()).unwrap();
    let test = table.filter(&set.iter().map(|code| *code == 0.0).collect::<Vec<_>>()).unwrap();
    let features = "age,sex,trestbps,chol,fbs,thalach,exang,oldpeak,cp2,cp3,cp4,restecg1,restecg2";
    for (id, ridge) in [("heart_eval_ridge1_poolednorm", "1"), ("heart_eval_ridge10_poolednorm", "10.0")] {
        let reference = &file[id];
        let mut specs = stages(features, "target", ridge);
        let evaluate = specs.pop().unwrap();
        specs[0] = specs[0].clone().with("ddof", 1);
        let fitted = pooled::fit(&specs, &train).unwrap();
        let coef = from_reference(&fitted[1], "coefficients", "estimate", &reference["coef"]);
        let evaluate = leben_models::registry::build(&evaluate).unwrap();
        let scored = pooled::run(evaluate.as_ref(), Some(&fitted[1].state), std::slice::from_ref(&test)).unwrap();
        let figure = |name: &str| scored.outcome.figures[name];
        let known = |name: &str| reference[name].as_f64().unwrap();
        let auc = (figure("auc") - known("auc_pooled_test")).abs();
        eprintln!("{id}: coef {coef:.1e} auc {auc:.1e} bound {:.1e}", figure("auc_error_max"));
        assert!(coef < 1e-9 && auc < 1e-4 && auc <= figure("auc_error_max") + 1e-12);
        assert!(relative(figure("brier"), known("brier")) < 1e-9);
        assert!(relative(figure("log_loss"), known("logloss_pooled_test")) < 1e-9);
        assert!((figure("accuracy") - known("accuracy_pooled_test")).abs() < 1e-12);
    }
}
