//! Planted small groups never show: not in an outcome, not in a refusal, not by subtraction from what is told.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod support;

use std::collections::BTreeSet;

use leben_models::disclosure::Limits;
use leben_models::pooled::Fitted;
use leben_models::{AlgorithmSpec, Column, Finding, Kind, Outcome, Table, registry};
use support::{controlled, federated, stages, wdbc};

const LIMITS: Limits = Limits { cell_min: 10, cell_hospitals_min: 2, dominance_percent: 10, cohort_min: 10 };
/// The size of every planted group: no other count of the test data is near it.
const PLANTED: u64 = 7;

/// A hospital's rows: columns by name, each a function of the row.
fn hospital(rows: usize, columns: &[(&str, &dyn Fn(usize) -> f64)]) -> Table {
    let columns =
        columns.iter().map(|(name, value)| (Column::new(*name, Kind::Number), (0..rows).map(value).collect()));
    Table::from_columns(columns.collect()).unwrap()
}

/// Three hospitals of 120, 130 and 140 rows; `kind` is 1, 2 or 3, where `planted` hospitals share out the patients of kind 3.
fn kinds(planted: [usize; 3]) -> Vec<Table> {
    let one = |(index, planted): (usize, usize)| {
        let kind = move |row: usize| if row < planted { 3.0 } else { [1.0, 2.0, 1.0][row % 3] };
        let age = move |row: usize| 40.0 + ((row * 37 + index * 11) % 41) as f64;
        let sick = move |row: usize| f64::from(u8::from((row * 31 + index) % 5 < 2));
        hospital(120 + 10 * index, &[("kind", &kind), ("age", &age), ("sick", &sick)])
    };
    planted.into_iter().enumerate().map(one).collect()
}

fn standardise(features: &str) -> Vec<AlgorithmSpec> {
    vec![AlgorithmSpec::new("standardise", [("features", features)])]
}

fn outcome(fitted: Result<Vec<Fitted>, Finding>) -> Outcome {
    fitted.unwrap().pop().unwrap().outcome
}

fn refused(fitted: Result<Vec<Fitted>, Finding>) -> Finding {
    match fitted {
        Err(finding) => finding,
        Ok(_) => panic!("it was released"),
    }
}

/// Every whole number that a reader of an outcome can make of it: numbers as they are, as shares of the rows used, and sums and
/// differences of up to three of those.
fn countable(outcome: &Outcome) -> BTreeSet<u64> {
    let json: serde_json::Value = serde_json::from_slice(&outcome.to_bytes()).unwrap();
    let mut numbers = Vec::new();
    collect(&json, &mut numbers);
    let used = outcome.rows.used as f64;
    let scaled = numbers.iter().flat_map(|number| [*number, number * used]);
    let whole = scaled.filter(|number| (number - number.round()).abs() < 1e-6 && (0.5..1e6).contains(number));
    let counts: BTreeSet<i64> = whole.map(|number| number.round() as i64).collect();
    let mut reached: BTreeSet<i64> = counts.clone();
    for _ in 0..2 {
        let more: Vec<i64> = reached.iter().flat_map(|a| counts.iter().flat_map(move |b| [a - b, b - a])).collect();
        reached.extend(more);
    }
    reached.into_iter().filter_map(|number| u64::try_from(number).ok()).collect()
}

fn collect(json: &serde_json::Value, numbers: &mut Vec<f64>) {
    match json {
        serde_json::Value::Number(number) => numbers.extend(number.as_f64()),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect(item, numbers)),
        // The limits are not counts, and versions and rounds are not of patients.
        serde_json::Value::Object(fields) => fields
            .iter()
            .filter(|(name, _)| !["disclosure", "version", "trace"].contains(&name.as_str()))
            .for_each(|(_, item)| collect(item, numbers)),
        _ => {}
    }
}

#[test]
fn a_small_level_and_a_partner_are_withheld_and_the_reader_cannot_subtract() {
    let tables = kinds([3, 2, 2]);
    // Without the limits it is there for everybody to read: the reader of this test finds it.
    let open = outcome(federated(&standardise("kind:1|2|3,age"), &tables));
    assert!(countable(&open).contains(&PLANTED));
    let told = outcome(controlled(&standardise("kind:1|2|3,age"), LIMITS, &tables));
    assert!(!countable(&told).contains(&PLANTED), "{:?}", countable(&told));
    let moments = told.grid("moments").unwrap();
    assert_eq!(moments.value("kind[3]", "mean"), None);
    assert_eq!(moments.value("kind[3]", "sd"), None);
    // Kinds are complete: with 1 and 2 told, what is missing would be 3.
    assert_eq!(moments.value("kind[2]", "mean"), None);
    assert!(moments.value("kind[1]", "mean").is_some() && moments.value("age", "sd").is_some());
    assert_eq!(told.withheld(), ["moments of 'kind[2]'", "moments of 'kind[3]'"]);
    // What is told is what it was.
    assert_eq!(moments.value("age", "mean"), open.grid("moments").unwrap().value("age", "mean"));
}

#[test]
fn a_level_of_one_hospital_alone_is_withheld_however_large() {
    let labels = |told: &Outcome| told.withheld().to_vec();
    let alone = outcome(controlled(&standardise("kind:2|3,age"), LIMITS, &kinds([0, 60, 0])));
    assert_eq!(labels(&alone), ["moments of 'kind[3]'"]);
    assert!(labels(&outcome(controlled(&standardise("kind:2|3,age"), LIMITS, &kinds([30, 60, 0])))).is_empty());
    let three = Limits { cell_hospitals_min: 3, ..LIMITS };
    assert!(!labels(&outcome(controlled(&standardise("kind:2|3,age"), three, &kinds([30, 60, 0])))).is_empty());
    // And a column of numbers that is nought everywhere else.
    let drug = |given: bool| move |row: usize| if given { (row % 9) as f64 * 2.5 } else { 0.0 };
    let tables = [false, true, false].map(|given| hospital(100, &[("age", &|row| row as f64), ("dose", &drug(given))]));
    let told = outcome(controlled(&standardise("dose,age"), LIMITS, &tables));
    assert_eq!(labels(&told), ["moments of 'dose'"]);
    assert_eq!(told.grid("moments").unwrap().value("dose", "mean"), None);
}

#[test]
fn noughts_and_ones_as_numbers_are_counted_too() {
    for few in [0.0, 1.0] {
        let sex = |planted: usize| move |row: usize| if row < planted { few } else { 1.0 - few };
        let tables =
            [3, 4, 0].map(|planted| hospital(90, &[("sex", &sex(planted)), ("age", &|row| row as f64 + 20.0)]));
        assert!(countable(&outcome(federated(&standardise("sex,age"), &tables))).contains(&PLANTED));
        let told = outcome(controlled(&standardise("sex,age"), LIMITS, &tables));
        assert_eq!(told.withheld(), ["moments of 'sex'"]);
        assert!(!countable(&told).contains(&PLANTED));
    }
}

#[test]
fn codes_as_numbers_are_counted_too() {
    let tables = kinds([3, 2, 2]);
    let told = outcome(controlled(&standardise("kind,age"), LIMITS, &tables));
    assert_eq!(told.withheld(), ["moments of 'kind'"]);
    let moments = told.grid("moments").unwrap();
    assert!(moments.value("kind", "mean").is_none() && moments.value("kind", "sd").is_none());
    assert!(moments.value("age", "mean").is_some());
    // What a reader makes of the two: three equations for three kinds. E(kind - 1)(kind - 2) = 2 n3 / n.
    let open = outcome(federated(&standardise("kind,age"), &tables));
    let used = open.rows.used as f64;
    let value = |column| open.grid("moments").unwrap().value("kind", column).unwrap();
    let (mean, sd) = (value("mean"), value("sd"));
    let third = (sd * sd + mean * mean - 3.0 * mean + 2.0) * used / 2.0;
    assert!((third - PLANTED as f64).abs() < 1e-6, "{third}");
    // As many as anybody may count, and a real measurement with few patients at one value.
    assert!(outcome(controlled(&standardise("kind,age"), LIMITS, &kinds([30, 20, 20]))).withheld().is_empty());
    let visits = |row: usize| if row < 2 { 3.0 } else { (row % 7) as f64 * 2.0 };
    let tables = [100, 110, 120].map(|rows| hospital(rows, &[("visits", &visits), ("age", &|row| row as f64 + 20.0)]));
    assert!(outcome(controlled(&standardise("visits,age"), LIMITS, &tables)).withheld().is_empty());
}

#[test]
fn a_model_refuses_a_small_code_that_is_used_as_a_number() {
    let side = |few: usize| move |row: usize| if row < few { 2.0 } else { 1.0 };
    let tables = |few: [usize; 3]| {
        few.map(|few| {
            let sick = |row: usize| f64::from(u8::from((row * 31) % 5 < 2));
            hospital(120, &[("side", &side(few)), ("age", &|row| 40.0 + (row * 37 % 41) as f64), ("sick", &sick)])
        })
    };
    let model = stages("side,age", "sick", "0");
    // Its mean is not told, and its slope must not be either.
    let finding = refused(controlled(&model, LIMITS, &tables([3, 4, 0])));
    let Finding::SmallCells { cells, .. } = &finding else { panic!("{finding}") };
    assert!(cells.contains(&"side = 2".to_owned()), "{finding}");
    assert!(!finding.to_string().contains(&PLANTED.to_string()), "{finding}");
    assert!(controlled(&model, LIMITS, &tables([40, 40, 40])).is_ok());
}

#[test]
fn a_model_refuses_what_it_cannot_withhold_and_names_it_without_a_count() {
    let model = |features: &str| stages(features, "sick", "0");
    let finding = refused(controlled(&model("kind:1>2|3,age"), LIMITS, &kinds([3, 2, 2])));
    let Finding::SmallCells { cells, .. } = &finding else { panic!("{finding}") };
    assert_eq!(cells, &["kind[3]"]);
    assert!(!finding.to_string().contains(&PLANTED.to_string()), "{finding}");
    let one = refused(controlled(&model("kind:1>2|3,age"), LIMITS, &kinds([0, 60, 0])));
    assert!(matches!(&one, Finding::SmallCells { cells, .. } if cells == &["kind[3]"]), "{one}");
    // Enough patients in the level, but hardly any of one class: the coefficient would tell of those.
    let mut tables = kinds([40, 40, 40]);
    for table in &mut tables {
        let (_, kind) = table.column("kind").unwrap();
        let (_, age) = table.column("age").unwrap();
        let (kind, age) = (kind.to_vec(), age.to_vec());
        let sick = |row: usize| if kind[row] == 3.0 { f64::from(u8::from(row == 0)) } else { (row % 2) as f64 };
        *table = hospital(kind.len(), &[("kind", &|row| kind[row]), ("age", &|row| age[row]), ("sick", &sick)]);
    }
    let finding = refused(controlled(&model("kind:1>2|3,age"), LIMITS, &tables));
    assert!(matches!(&finding, Finding::SmallCells { cells, .. } if cells == &["kind[3] with sick = 1"]), "{finding}");
    // All is well: the same model as without limits, to the last bit.
    let tables = kinds([60, 60, 60]);
    let fit = |fitted: Result<Vec<Fitted>, Finding>| fitted.unwrap()[1].outcome.clone();
    let (open, told) =
        (fit(federated(&model("kind:1>2|3,age"), &tables)), fit(controlled(&model("kind:1>2|3,age"), LIMITS, &tables)));
    assert_eq!(open.tables, told.tables);
    assert!(told.withheld().is_empty() && told.disclosure.is_some());
}

#[test]
fn more_parameters_than_patients_can_carry_are_refused() {
    let column = |at: usize| move |row: usize| ((row * (at + 7) + at * at) % 29) as f64 + row as f64 * 0.01;
    let columns: Vec<_> = (0..20).map(|at| (format!("x{at}"), column(at))).collect();
    let table = |_| {
        let mut all: Vec<(&str, &dyn Fn(usize) -> f64)> =
            columns.iter().map(|(name, f)| (name.as_str(), f as _)).collect();
        all.push(("sick", &|row| (row % 2) as f64));
        hospital(10, &all)
    };
    let tables: Vec<Table> = (0..3).map(table).collect();
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let finding = refused(controlled(&stages(&names.join(","), "sick", "1"), LIMITS, &tables));
    assert_eq!(finding, Finding::TooManyParameters { parameters: 21, spare: 10 });
    assert!(controlled(&stages(&names[..18].join(","), "sick", "1")[..2], LIMITS, &tables).is_ok());
}

#[test]
fn a_hospital_keeps_a_small_cohort_and_an_outlier_to_itself() {
    let mut tables = kinds([40, 40, 40]);
    tables[1] = hospital(
        200,
        &[("kind", &|row| (row % 3) as f64 + 1.0), ("age", &|row| if row < 7 { 50.0 } else { f64::NAN })],
    );
    // The cohort is large; the rows that can be used are not.
    let finding = refused(controlled(&standardise("kind:2|3,age"), LIMITS, &tables));
    assert_eq!(finding, Finding::SmallCohort { needed: 10 });
    assert!(!finding.to_string().contains('7'));
    let cost = |row: usize| if row == 0 { 90_000.0 } else { 10.0 + (row % 5) as f64 };
    tables[1] = hospital(200, &[("kind", &|row| (row % 3) as f64 + 1.0), ("age", &cost)]);
    let finding = refused(controlled(&standardise("kind:2|3,age"), LIMITS, &tables));
    assert_eq!(finding, Finding::Dominance { column: "age".into(), percent: 10 });
    assert!(!finding.to_string().contains("90"));
    let off = Limits { dominance_percent: 0, ..LIMITS };
    assert!(controlled(&standardise("kind:2|3,age"), off, &tables).is_ok());
}

#[test]
fn few_rows_left_out_are_withheld_with_the_total_that_would_tell() {
    let age = |missing: usize| move |row: usize| if row < missing { f64::NAN } else { row as f64 };
    let kind = |row: usize| if row >= 150 { f64::NAN } else { (row % 2) as f64 };
    let tables = [3, 4, 0].map(|missing| hospital(200, &[("kind", &kind), ("age", &age(missing))]));
    let open = outcome(federated(&standardise("kind,age"), &tables));
    assert_eq!((open.rows.requested, open.rows.rejected["age: missing"]), (600, PLANTED));
    let told = outcome(controlled(&standardise("kind,age"), LIMITS, &tables));
    assert_eq!(told.withheld(), ["rows left out, age: missing"]);
    assert_eq!((told.rows.used, told.rows.requested), (443, 593));
    assert_eq!(told.rows.rejected.iter().collect::<Vec<_>>(), [(&"kind: missing".to_owned(), &150)]);
    assert!(!countable(&told).contains(&PLANTED));
}

const MINIMUM: u64 = 55;
const FEWEST: f64 = MINIMUM as f64 - 1e-6;

#[test]
fn an_evaluation_joins_rows_and_withholds_shares_that_count_a_few() {
    let table = wdbc();
    let tables = support::split(&table, 3, |row| row % 3);
    let features = "mean texture,mean smoothness";
    let limits = Limits { cell_min: MINIMUM, ..LIMITS };
    let fitted = controlled(&stages(features, "benign", "1"), limits, &tables).unwrap();
    let told = &fitted[2].outcome;
    let grid = told.grid("calibration").unwrap();
    let column = |name: &str| grid.column(name).into_iter().map(Option::unwrap).collect::<Vec<_>>();
    let (rows, observed) = (column("rows"), column("observed"));
    assert!(rows.len() > 1, "{grid:?}");
    assert_eq!(rows.iter().sum::<f64>(), told.rows.used as f64);
    for (rows, observed) in rows.iter().zip(&observed) {
        let sick = rows * observed;
        assert!(sick > FEWEST && rows - sick > FEWEST, "{sick} of {rows}");
    }
    let (positives, negatives) = (told.figures["positives"], told.figures["negatives"]);
    let roc = told.curves.iter().find(|curve| curve.name == "roc").unwrap();
    for step in roc.points.windows(2) {
        for cell in [(step[1].0 - step[0].0) * negatives, (step[1].1 - step[0].1) * positives] {
            assert!(!(1e-6..=FEWEST).contains(&cell), "a step of {cell}");
        }
    }
    // About 40 benign ones are missed: below the minimum, everything that counts them is gone.
    let open = &federated(&stages(features, "benign", "1"), &tables).unwrap()[2].outcome;
    let missed = (1.0 - open.figures["sensitivity"]) * positives;
    assert!((1.0..FEWEST).contains(&missed), "{missed}");
    // Nobody needs accuracy hidden for its own sake: with specificity it would tell sensitivity.
    assert_eq!(told.withheld(), ["accuracy", "sensitivity"]);
    assert!(told.figures.contains_key("specificity"));
    assert!(!["accuracy", "sensitivity"].iter().any(|name| told.figures.contains_key(*name)));
    assert!(!countable(told).contains(&(missed.round() as u64)));
    // Hardly two patients share a score: nobody solves an area for those missed.
    assert_eq!(told.figures["auc"], open.figures["auc"]);
}

#[test]
fn a_class_of_a_few_patients_is_not_evaluated() {
    let mut tables = kinds([60, 60, 60]);
    for table in &mut tables {
        let rows = table.rows();
        let age: Vec<f64> = table.column("age").unwrap().1.to_vec();
        *table = hospital(rows, &[("age", &|row| age[row]), ("sick", &|row| f64::from(u8::from(row < 2)))]);
    }
    let finding = refused(controlled(&stages("age", "sick", "1"), LIMITS, &tables));
    assert!(matches!(&finding, Finding::SmallCells { cells, .. } if cells == &["sick = 1"]), "{finding}");
    assert!(!finding.to_string().contains('6'));
}

/// Each of three hospitals has 150 patients with one of two codes, or none; each of the first `planted` has both and is sick, if `ill`. Of
/// those without a code a fifth is sick, of those with one `fifths`.
fn with_both_codes(planted: [usize; 3], ill: bool, fifths: usize) -> [Table; 3] {
    planted.map(|planted| {
        let both = move |row: usize| row < planted;
        let left = move |row: usize| f64::from(u8::from(both(row) || row.is_multiple_of(3)));
        let right = move |row: usize| f64::from(u8::from(both(row) || row % 3 == 1));
        let other = move |row: usize| (row / 3) % 5 < if row % 3 == 2 { 1 } else { fifths };
        let sick = move |row: usize| f64::from(u8::from(if both(row) { ill } else { other(row) }));
        hospital(150, &[("left", &left), ("right", &right), ("sick", &sick)])
    })
}

/// Seven patients have both codes. With four scores, all of them known, a Brier score, a log loss and the mean score of a row of
/// calibration count the patients that have each; whether they alone are predicted to be sick makes no difference.
#[test]
fn few_scores_take_the_figures_along_that_would_count_them() {
    let scores = ["brier", "log_loss", "auc", "auc_se", "auc_error_max", "auc_low95", "auc_high95"];
    let model = stages("left,right", "sick", "0");
    for (ill, fifths, shares) in [(true, 2, &["accuracy", "sensitivity"][..]), (false, 1, &[])] {
        let tables = with_both_codes([3, 2, 2], ill, fifths);
        let told = &controlled(&model, LIMITS, &tables).unwrap()[2].outcome;
        assert_eq!(told.withheld(), [shares, &scores[..], &["calibration: predicted"]].concat());
        assert!(scores.iter().all(|name| !told.figures.contains_key(*name)), "{:?}", told.figures);
        assert!(!countable(told).contains(&PLANTED));
        let grid = told.grid("calibration").unwrap();
        assert!(grid.column("predicted").into_iter().all(|mean| mean.is_none()), "{grid:?}");
        assert!(!told.curves.iter().any(|curve| curve.name == "calibration"));
    }
    let ample = Limits { cell_min: 5, ..LIMITS };
    let told = &controlled(&model, ample, &with_both_codes([3, 2, 2], true, 2)).unwrap()[2].outcome;
    assert!(told.withheld().is_empty() && scores.iter().all(|name| told.figures.contains_key(*name)));
    // What is withheld above would have told: (mean - s1) / (s2 - s1) of its rows have both codes.
    let grid = told.grid("calibration").unwrap();
    let last = |name: &str| grid.column(name).last().copied().flatten().unwrap();
    assert!(last("predicted") > 0.0 && last("rows") >= 7.0);
}

#[test]
fn whoever_has_the_model_learns_of_no_small_code_among_the_rows_evaluated() {
    let model = stages("kind:1>2|3", "sick", "1");
    let fitted = controlled(&model, LIMITS, &kinds([60, 60, 60])).unwrap();
    let evaluate = registry::controlled(&model[2], LIMITS).unwrap();
    let run = |planted| support::run(evaluate.as_ref(), Some(&fitted[1].state), &kinds(planted));
    assert!(run([50, 40, 60]).is_ok());
    let finding = refused(run([3, 2, 2]).map(|fitted| vec![fitted]));
    assert!(matches!(&finding, Finding::SmallCells { cells, .. } if cells == &["kind[3]"]), "{finding}");
}

#[test]
fn everything_that_reads_patients_has_noise_or_groups() {
    use leben_models::disclosure::Groups;
    for entry in registry::all().into_iter().filter(|entry| !entry.name.starts_with("dp-")) {
        let spec = match entry.name {
            "probe" => AlgorithmSpec::new("probe", [("length", 9)]),
            name => AlgorithmSpec::new(name, [("features", "age"), ("outcome", "sick")]),
        };
        let algorithm = registry::controlled(&spec, LIMITS).unwrap();
        let exempt = algorithm.groups() == Groups::Exempt;
        assert_eq!(exempt, algorithm.columns().is_empty(), "{}", entry.name);
    }
}
