//! From a job file to terms: the tutorial's job word for word, and every mistake by its line and name.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use leben::draft::{draft, template};
use leben::job::{Job, Problem};
use leben::offers::{BudgetLeft, Offers, Set};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::terms::Terms;
use proptest::prelude::*;
use support::{T0, code, heart, offers};

fn heart_job() -> &'static str {
    template("heart").unwrap()
}

fn run(text: &str, offers: &Offers) -> Result<Terms, Vec<Problem>> {
    draft(&Job::parse(text)?, offers, T0)
}

/// The digests change with every change of an algorithm's source, and the text with its wording, which is not this crate's;
/// everything else in the golden file must not change.
fn without_digests(mut terms: Terms) -> Terms {
    for algorithm in &mut terms.algorithms {
        algorithm.digest = Hash32([0; 32]);
    }
    Terms { text_hash: Hash32([0; 32]), ..terms }
}

#[test]
fn the_tutorial_job_is_these_terms() {
    let terms = run(heart_job(), &offers()).unwrap();
    terms.validate().unwrap();
    for stage in ["standardise", "fit", "evaluate"] {
        assert!(terms.text().contains(stage), "{stage}");
    }
    let terms = without_digests(terms);
    let json = serde_json::to_string_pretty(&terms).unwrap() + "\n";
    if std::env::var_os("LEBEN_WRITE_GOLDEN").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/heart.terms.json"), &json).unwrap();
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/heart.terms.json");
    assert_eq!(
        json,
        std::fs::read_to_string(path).unwrap(),
        "if the change is wanted: LEBEN_WRITE_GOLDEN=1 writes {path}"
    );
}

#[test]
fn the_template_is_a_job_that_fits_its_own_network() {
    let job = Job::parse(template("regression").unwrap()).unwrap();
    assert_eq!(job.stages.len(), 3);
    // What the comments call a default is one: taking the line out changes nothing.
    let bare: String = template("regression")
        .unwrap()
        .lines()
        .filter(|line| !line.contains("# default:"))
        .map(|l| format!("{l}\n"))
        .collect();
    let mut bare = Job::parse(&bare).unwrap();
    bare.purpose_at = job.purpose_at.clone();
    let mut offers = offers();
    for (set, name) in offers.sets.iter_mut().zip(["hospital-a", "hospital-b", "hospital-c"]) {
        set.owner = support::id(name);
        set.offer.name = code("cohort");
        set.offer.schema.retain(|column| column.column != "target");
        set.offer.schema.push(leben_contracts::agreement::body::ColumnSpec {
            column: "outcome".into(),
            ..heart().schema.pop().unwrap()
        });
    }
    assert_eq!(draft(&job, &offers, T0).unwrap(), draft(&bare, &offers, T0).unwrap());
}

/// Replaces one piece of the tutorial's job, and gives line, key and words of the only problem.
fn only(from: &str, to: &str) -> (usize, String, String) {
    assert!(heart_job().contains(from), "{from}");
    let problems = run(&heart_job().replacen(from, to, 1), &offers()).unwrap_err();
    assert_eq!(problems.len(), 1, "{from} -> {to}: {problems:#?}");
    let problem = problems.into_iter().next().unwrap();
    (problem.line, problem.key, problem.why)
}

#[test]
fn every_mistake_is_named_with_its_line_and_what_exists_instead() {
    let line_of = |text: &str| heart_job().lines().position(|line| line.contains(text)).unwrap() + 1;
    let cases: &[(&str, &str, &str, &str, &[&str])] = &[
        (
            "\"va/heart\"",
            "\"va/hart\"",
            "sets = ",
            "data.sets",
            &["no data set 'va/hart'", "did you mean 'va/heart'", "cleveland/heart"],
        ),
        ("\"va/heart\"", "\"cleveland/heart\", \"va/heart\"", "sets = ", "data.sets", &["named twice"]),
        (
            "outcome = \"target\"",
            "outcome = \"tarket\"",
            "outcome = ",
            "model.outcome",
            &["no column 'tarket' in cleveland/heart, hungarian/heart", "did you mean 'target'"],
        ),
        (
            "[\"age\",",
            "[\"note\",",
            "features = ",
            "model.features",
            &["column 'note' of cleveland/heart", "holds text"],
        ),
        ("[\"age\",", "[\"patient\",", "features = ", "model.features", &["never computed on"]),
        ("[2, 3, 4]", "[2, 3, 5]", "features = ", "model.features", &["no code 5", "1, 2, 3, 4"]),
        ("[2, 3, 4]", "[2, \"x\"]", "features = ", "model.features.column", &["levels are whole numbers"]),
        (
            "algorithm = \"glm\"",
            "algorithm = \"gml\"",
            "algorithm = \"glm\"",
            "stage[2].algorithm",
            &["no algorithm 'gml'", "glm@1"],
        ),
        (
            "algorithm = \"glm\"",
            "algorithm = \"glm@9\"",
            "algorithm = \"glm\"",
            "stage[2].algorithm",
            &["no algorithm 'glm@9'"],
        ),
        ("ridge = \"0\"", "rigde = \"0\"", "params = ", "stage[2].params.rigde", &["no parameter 'rigde'", "ridge"]),
        ("ridge = \"0\"", "ridge = -1.5", "params = ", "stage[2].params.ridge", &["decimal number"]),
        (
            "from = \"standardise\"",
            "from = \"standardize\"",
            "from = \"standardise\"",
            "stage[2].from",
            &["did you mean 'standardise'"],
        ),
        ("from = \"fit\"", "from = \"evaluate\"", "from = \"fit\"", "stage[3].from", &["no earlier stage 'evaluate'"]),
        (
            "name = \"evaluate\"",
            "name = \"fit\"",
            "name = \"evaluate\"",
            "stage[3].name",
            &["name of an earlier stage"],
        ),
        ("name = \"evaluate\"", "name = \"Big Fit\"", "name = \"evaluate\"", "stage[3].name", &["is not a name"]),
        ("hospitals_min = 3", "hospitals_min = 5", "hospitals_min", "privacy.hospitals_min", &["2 to 4"]),
        (
            "hospitals_min = 3",
            "hospital_min = 3",
            "hospitals_min",
            "privacy.hospital_min",
            &["did you mean 'hospitals_min'"],
        ),
        ("hospitals_min = 3", "threshold = 2", "hospitals_min", "privacy.threshold", &["3 to 4", "more than half"]),
        ("hospitals_min = 3", "mechanism = \"laplace\"", "hospitals_min", "privacy.mechanism", &["discrete-gaussian"]),
        ("hospitals_min = 3", "mechanism = \"dp-sgd\"", "hospitals_min", "privacy.mechanism", &["needs an epsilon"]),
        ("hospitals_min = 3", "epsilon = 1", "hospitals_min", "privacy.epsilon", &["goes with a mechanism"]),
        ("hospitals_min = 3", "epsilon = 0\nmechanism = \"silo\"", "hospitals_min", "privacy.epsilon", &["must be"]),
        ("hospitals_min = 3", "epsilon = -1\nmechanism = \"silo\"", "hospitals_min", "privacy.epsilon", &["must be"]),
        ("hospitals_min = 3", "epsilon = nan\nmechanism = \"silo\"", "hospitals_min", "privacy.epsilon", &["must be"]),
        ("hospitals_min = 3", "epsilon = 1e9\nmechanism = \"silo\"", "hospitals_min", "privacy.epsilon", &["must be"]),
        (
            "hospitals_min = 3",
            "epsilon = \"much\"\nmechanism = \"silo\"",
            "hospitals_min",
            "privacy.epsilon",
            &["must be"],
        ),
        (
            "hospitals_min = 3",
            "delta = 0\nmechanism = \"silo\"\nepsilon = 1",
            "hospitals_min",
            "privacy.delta",
            &["below 1"],
        ),
        (
            "hospitals_min = 3",
            "delta = 1.0\nmechanism = \"silo\"\nepsilon = 1",
            "hospitals_min",
            "privacy.delta",
            &["below 1"],
        ),
        ("on_drop = \"repeat\"", "on_drop = \"retry\"", "on_drop", "privacy.on_drop", &["\"continue\" or \"repeat\""]),
        ("va = 2200", "va = 2300", "[price]", "price", &["sum to 10100", "10000"]),
        ("va = 2200", "team = 2200", "splits", "price.splits.team", &["'team' pays"]),
        ("va = 2200", "vaa = 2200", "splits", "price.splits.vaa", &["no party of this job 'vaa'", "did you mean 'va'"]),
        ("total = 10_000", "per_round = 5\ntotal = 1", "[price]", "price", &["per_round 5 is above"]),
        ("total = 10_000", "total = \"much\"", "total", "price.total", &["whole number", "\"much\""]),
        ("duo = [\"HMB\"]", "duo = [\"POA\"]", "[purpose]", "purpose", &["\"POA\"", "Permitted: HMB", "va/heart"]),
        ("ehds = \"53.1.e.ii\"", "ehds = \"53.1.c\"", "[purpose]", "purpose", &["53.1.c"]),
        (
            "sign_within = \"14 days\"",
            "sign_within = \"14\"",
            "sign_within",
            "windows.sign_within",
            &["\"14 days\"", "is \"14\""],
        ),
        (
            "sign_within = \"14 days\"",
            "sign_within = \"28 days\"",
            "run_within",
            "windows.run_within",
            &["longer than sign_within"],
        ),
        ("cohort_min = 50", "cohort_min = 0", "cohort_min", "data.cohort_min", &["from 1"]),
        (
            "[windows]",
            "[parties]\narbiters = [\"judge\"]\n[windows]",
            "[windows]",
            "parties.arbiters",
            &["no party 'judge'"],
        ),
        ("[delivery]", "[[delivery]]", "[delivery]", "delivery", &["must be a table"]),
    ];
    for (from, to, line, key, words) in cases {
        let (got_line, got_key, why) = only(from, to);
        assert_eq!(got_key, *key, "{to}: {why}");
        assert!(got_line.abs_diff(line_of(line)) <= 1, "{to}: line {got_line}, {}", line_of(line));
        for word in *words {
            assert!(why.contains(word), "{to}: {word:?} is not in {why:?}");
        }
    }
}

#[test]
fn a_promise_that_no_noise_keeps_is_named_at_each_stage() {
    let promise = "hospitals_min = 3\nmechanism = \"discrete-gaussian\"\nepsilon = 1.5\ndelta = 1e-7";
    let problems = run(&heart_job().replace("hospitals_min = 3", promise), &offers()).unwrap_err();
    assert_eq!(problems.len(), 3, "{problems:?}");
    for (at, problem) in problems.iter().enumerate() {
        assert_eq!(problem.key, format!("stage[{}].algorithm", at + 1));
        assert!(problem.why.contains("adds no noise"), "{problem:?}");
    }
    let none = run(&heart_job().replace("hospitals_min = 3", "mechanism = \"none\""), &offers()).unwrap();
    assert_eq!((none.privacy.mechanism.as_str(), none.privacy.epsilon_micro), ("none", 0));
}

#[test]
fn a_private_job_is_checked_as_the_hospitals_will() {
    let text = template("private").unwrap();
    let terms = run(text, &offers()).unwrap();
    terms.validate().unwrap();
    let privacy = &terms.privacy;
    assert_eq!((privacy.mechanism.as_str(), privacy.epsilon_micro), ("discrete-gaussian", 3_000_000));
    assert_eq!((privacy.delta_e12, terms.stages.len()), (1_000_000, 2));
    for (from, to, key, words) in [
        (
            "epsilon = 3\n",
            "epsilon = 2.4\n",
            "privacy.epsilon",
            &["together gives epsilon 2.4", "raise their sigma"] as &[&str],
        ),
        ("delta = 0.000001", "delta = 1e-9", "privacy.epsilon", &["together gives epsilon 3."]),
        (
            "row_cap = 1000",
            "row_cap = 208",
            "data.sets",
            &["row_cap 208 is below the 209 rows", "va/heart", "let another in"],
        ),
        ("sigma = \"2\"", "sigma = \"0\"", "stage[2].params.sigma", &["sigma"]),
        ("sigma = \"2\"", "sigma = \"nan\"", "stage[2].params.sigma", &["sigma"]),
        ("epsilon = \"3\"", "epsilon = \"0\"", "stage[2].params.epsilon", &["epsilon"]),
        ("epsilon = \"3\"", "epsilon = \"-1\"", "stage[2].params.epsilon", &["epsilon"]),
        ("epsilon = \"3\"", "epsilon = \"NaN\"", "stage[2].params.epsilon", &["epsilon"]),
        ("epsilon = \"3\"", "epsilon = \"1\"", "stage[2].algorithm", &["above the promised 1"]),
        ("\"sex\"]", "\"sex\", \"chol\"]", "stage[2].params.bounds", &["bounds for column 'chol'"]),
        ("hospitals_min = 3", "threshold = 2", "privacy.threshold", &["3 to 4"]),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        let problems = run(&text.replace(from, to), &offers()).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{to}: {problems:?}") };
        assert_eq!(problem.key, key, "{to}: {problem:?}");
        assert!(words.iter().all(|word| problem.why.contains(word)), "{to}: {problem:?}");
    }
    for (from, to, words) in [
        ("hospitals_min = 3", "hospitals_min = 2", "its noise is that of 3 hospitals"),
        ("honest = 2", "honest = 4", "hospitals"),
        ("honest = 2", "honest = 0", "honest"),
    ] {
        let problems = run(&text.replace(from, to), &offers()).unwrap_err();
        assert!(problems.len() == 2 && problems.iter().all(|one| one.why.contains(words)), "{to}: {problems:?}");
    }
    let of_sets = |change: &dyn Fn(&mut Set)| {
        let mut offers = offers();
        offers.sets.iter_mut().for_each(change);
        let problems = run(text, &offers).unwrap_err();
        let [problem] = problems.as_slice() else { panic!("{problems:?}") };
        assert!(problem.key == "data.sets" && problem.why.contains("cleveland/heart, hungarian/heart"), "{problem:?}");
        problem.why.clone()
    };
    let budget = offers().sets[0].budget.unwrap();
    let with = |budget| move |set: &mut Set| set.budget = budget;
    assert!(of_sets(&with(None)).contains("has no privacy budget"));
    let little = of_sets(&with(Some(BudgetLeft { left_micro: 2_999_999, ..budget })));
    assert!(little.contains("has epsilon 2.999999 of 10 left, the job asks for 3"), "{little}");
    assert!(of_sets(&with(Some(BudgetLeft { delta_e12: 999_999, ..budget }))).contains("privacy.delta is above it"));
    let alone =
        text.replace(r#""cleveland/heart", "hungarian/heart", "switzerland/heart", "va/heart""#, r#""va/heart""#);
    let problems = run(&alone, &offers()).unwrap_err();
    assert!(problems.iter().any(|one| one.why.contains("names 1 hospital(s); a sum needs 3")), "{problems:?}");
}

#[test]
fn all_mistakes_are_named_at_once_in_the_order_of_the_lines() {
    let text = heart_job()
        .replace("va = 2200", "va = 2201")
        .replace("hospitals_min = 3", "hospitals_min = 9")
        .replace("\"target\"", "\"x\"");
    let problems = run(&text, &offers()).unwrap_err();
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["model.outcome", "privacy.hospitals_min", "price"]);
    assert!(problems.is_sorted_by_key(|problem| problem.line));
    let broken = run("[purpose\n", &offers()).unwrap_err();
    assert_eq!((broken.len(), broken[0].line), (1, 1));
    assert!(broken[0].why.starts_with("not TOML"), "{broken:?}");
}

#[test]
fn what_differs_between_hospitals_or_programs_is_named() {
    let mut other_unit = offers();
    other_unit.sets[3].offer.schema[1].unit = "mo".into();
    let problems = run(heart_job(), &other_unit).unwrap_err();
    assert!(problems[0].why.contains("'age' has 'a' in cleveland/heart and 'mo' in va/heart"), "{problems:?}");
    let mut other_code = offers();
    other_code.algorithms.iter_mut().for_each(|offer| offer.digest = Hash32([7; 32]));
    let problems = run(heart_job(), &other_code).unwrap_err();
    assert!(
        problems.len() == 3 && problems[0].why.contains("install the version that the network runs"),
        "{problems:?}"
    );
    let nothing = Offers { sets: vec![], algorithms: vec![], ..offers() };
    let problems = run(heart_job(), &nothing).unwrap_err();
    assert!(problems.iter().any(|problem| problem.why.contains("There is none")), "{problems:?}");
}

#[test]
fn training_counts_as_methods_development_whatever_the_job_says() {
    let mut strict = offers();
    strict.sets[0].offer.permission.duo.push("NMDS".into());
    let text = heart_job().replace("methods_development = true", "methods_development = false");
    let problems = run(&text, &strict).unwrap_err();
    assert!(problems[0].why.contains("NMDS"), "{problems:?}");
}

#[test]
fn equal_splits_are_whole_and_sum_up() {
    let text =
        heart_job().replace("splits = { cleveland = 3300, hungarian = 3200, switzerland = 1300, va = 2200 }", "");
    let terms = run(&text, &offers()).unwrap();
    assert_eq!(terms.price.splits.iter().map(|split| split.basis_points).collect::<Vec<_>>(), [2500; 4]);
}

fn piece() -> impl Strategy<Value = String> {
    let lines: Vec<String> =
        heart_job().lines().chain(template("regression").unwrap().lines()).map(str::to_owned).collect();
    prop_oneof![proptest::sample::select(lines), "[a-z_\\[\\]=\"{}., 0-9\\-]{0,40}", "\\PC{0,30}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_text_makes_the_draft_panic(pieces in prop::collection::vec(piece(), 0..40)) {
        let _ = run(&pieces.join("\n"), &offers());
    }

    #[test]
    fn no_change_of_the_tutorial_job_makes_it_panic_or_gives_invalid_terms(
        at in 0usize..1600, with in "[a-z0-9\"\\[\\]{}=,.\\-\n]{0,6}", cut in 0usize..12
    ) {
        let mut text: Vec<char> = heart_job().chars().collect();
        let at = at.min(text.len());
        let end = (at + cut).min(text.len());
        text.splice(at..end, with.chars());
        if let Ok(terms) = run(&text.into_iter().collect::<String>(), &offers()) {
            prop_assert!(terms.validate().is_ok());
        }
    }
}
