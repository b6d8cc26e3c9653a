//! Files as hospitals have them, and as nobody should have them.

use std::path::Path;

use leben_models::{AlgorithmSpec, Table, pooled};
use proptest::prelude::*;

use super::cohort::{self, CohortError};
use super::csv::Problem;
use super::{DatasetConfig, SourceError, check, load};

/// The 14 columns of the UCI heart files, which have no header.
const UCI: &str = r#"
name = "heart"
path = "data.csv"
header = false
columns = [
  { name = "age", type = "integer", unit = "years", min = 18, max = 120 },
  { name = "sex", type = "category", codes = { "0" = 0, "1" = 1 } },
  { name = "cp", type = "category", codes = { "1" = 1, "2" = 2, "3" = 3, "4" = 4 } },
  { name = "oldpeak", type = "number" },
  { name = "num", type = "integer" },
]
derive = [{ name = "target", from = "num", rule = "gt 0" }]
"#;

const NAMED: &str = r#"
name = "visits"
path = "data.csv"
id_column = "id"
columns = [
  { name = "id", type = "text" },
  { name = "seen", type = "date" },
  { name = "sex", type = "category", codes = { Male = 1, Female = 0 } },
  { name = "note", type = "text" },
  { name = "weight", type = "number", unit = "kg", max = 500 },
]
"#;

fn config(text: &str) -> DatasetConfig {
    toml::from_str(text).unwrap()
}

fn with_file<T>(content: &[u8], run: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("data.csv"), content).unwrap();
    run(folder.path())
}

fn read(text: &str, content: &[u8]) -> Result<Table, SourceError> {
    with_file(content, |base| load(&config(text), base))
}

fn column(table: &Table, name: &str) -> Vec<Option<f64>> {
    table.column(name).unwrap().1.iter().map(|value| (!value.is_nan()).then_some(*value)).collect()
}

#[test]
fn uci_lines_without_a_header() {
    let table = read(UCI, b"63.0,1.0,1.0,2.3,0\r\n67,1,4,?,2\r\n\r\n54,0,3,.7,\r\n").unwrap();
    assert_eq!(column(&table, "age"), [Some(63.0), Some(67.0), Some(54.0)]);
    assert_eq!(column(&table, "oldpeak"), [Some(2.3), None, Some(0.7)]);
    assert_eq!(column(&table, "target"), [Some(0.0), Some(1.0), None]);
    let (head, _) = table.column("oldpeak").unwrap();
    assert_eq!(head.missing, 1);
    assert_eq!(table.column("age").unwrap().0.unit.as_deref(), Some("years"));
}

#[test]
fn header_with_mark_blanks_other_columns_and_quoted_line_breaks() {
    let content = "\u{feff}extra, seen ,id,sex,note,weight\r\n\
                   x,1970-01-02,p1,Male,\"two\r\nlines, \"\"quoted\"\"\",70.5\r\n\
                   y,2024-02-29,p2,Female,,\r\n";
    let table = read(NAMED, content.as_bytes()).unwrap();
    assert_eq!(column(&table, "seen"), [Some(1.0), Some(19_782.0)]);
    assert_eq!(column(&table, "sex"), [Some(1.0), Some(0.0)]);
    assert_eq!(column(&table, "weight"), [Some(70.5), None]);
    assert!(table.column("id").is_none() && table.column("note").is_none());
}

#[test]
fn a_byte_order_mark_before_a_headerless_file_is_no_cell() {
    assert_eq!(read(UCI, b"\xef\xbb\xbf63,1,1,2.3,0\n").unwrap().rows(), 1);
}

#[test]
fn every_fault_has_its_place() {
    let place = |content: &[u8]| match read(UCI, content).unwrap_err() {
        SourceError::Cell { line, column, problem, .. } => (line, column, problem),
        other => panic!("{other}"),
    };
    assert_eq!(place(b"63,1,1,2.3,0\n>89,1,1,2.3,0\n"), (2, "age".to_owned(), Problem::Unparsable));
    assert_eq!(place(b"630,1,1,2.3,0\n"), (1, "age".to_owned(), Problem::OutOfRange));
    assert_eq!(place(b"63.5,1,1,2.3,0\n"), (1, "age".to_owned(), Problem::Unparsable));
    assert_eq!(place(b"63,1,9,2.3,0\n"), (1, "cp".to_owned(), Problem::UnknownCode));
    assert_eq!(place(b"63,1,1,nan,0\n"), (1, "oldpeak".to_owned(), Problem::Unparsable));
    assert_eq!(place(b"63,1,1,1e999,0\n"), (1, "oldpeak".to_owned(), Problem::Unparsable));
    assert_eq!(place(b"63,1,1,\xff,0\n"), (1, "oldpeak".to_owned(), Problem::NotUtf8));
    assert_eq!(place(b"63,1,1,\"2,3\",0\n"), (1, "oldpeak".to_owned(), Problem::Unparsable));
    let dated = b"id,seen,sex,note,weight\np1,2023-02-29,Male,,70\n";
    assert!(matches!(read(NAMED, dated), Err(SourceError::Cell { line: 2, column, .. }) if column == "seen"));
}

#[test]
fn ragged_empty_absent_and_misdeclared_files() {
    assert!(matches!(
        read(UCI, b"63,1,1,2.3,0\n63,1,1\n"),
        Err(SourceError::Ragged { line: 2, found: 3, expected: 5, .. })
    ));
    assert!(matches!(read(UCI, b"63,1,1,\"2.3,0\n63,1,1,2,0\n"), Err(SourceError::Ragged { line: 1, .. })));
    assert!(matches!(read(NAMED, b""), Err(SourceError::Empty { .. })));
    assert!(matches!(read(UCI, b""), Err(SourceError::Empty { .. })));
    assert_eq!(
        read(NAMED, b"id,seen,sex,note,weight\n").unwrap().rows(),
        0,
        "a header without rows is an empty cohort"
    );
    assert!(
        matches!(read(NAMED, b"id,seen,sex,note\n"), Err(SourceError::MissingColumn { column, found: 4, .. }) if column == "weight")
    );
    let twice = b"id,seen,sex,note,weight,sex\n";
    assert!(matches!(read(NAMED, twice), Err(SourceError::DuplicateColumn { column, .. }) if column == "sex"));
    let absent = load(&config(UCI), Path::new("/nonexistent")).unwrap_err();
    assert!(matches!(absent, SourceError::Io { kind: std::io::ErrorKind::NotFound, .. }));
    assert!(load(&config(&UCI.replace("data.csv", ".")), Path::new("/")).is_err(), "a folder is no file");
    for (from, to) in [
        ("gt 0", "lt 0"),
        ("gt 0", "gt zero"),
        ("\"num\", rule", "\"none\", rule"),
        ("\"target\"", "\"age\""),
        ("\"oldpeak\"", "\"age\""),
        ("\"oldpeak\"", "\"a,b\""),
        ("header = false", "header = false\nid_column = \"mrn\""),
        ("header = false", "header = false\ndelimiter = \"\u{e9}\""),
    ] {
        let fault = read(&UCI.replace(from, to), b"").unwrap_err();
        assert!(matches!(fault, SourceError::Config { .. }), "{to}: {fault}");
    }
    assert!(toml::from_str::<DatasetConfig>(&UCI.replace("unit", "units")).is_err());
}

#[test]
fn check_counts_everything_and_shows_nothing() {
    let content = b"id,seen,sex,note,weight\n\
        p1,2020-01-01,Male,SECRET1,70\n\
        p2,2020-13-01,Diverse,SECRET2,70\n\
        p1,1999-31-31,Female,SECRET3,70\n\
        p4\n\
        ,2020-01-04,Female,SECRET4,SECRET5\n\
        p6,2020-01-05,Female,,99871\n";
    let report = with_file(content, |base| check(&config(NAMED), base)).unwrap();
    assert_eq!((report.rows, report.ragged.count, report.ragged.first_line), (5, 1, 5));
    assert_eq!((report.duplicate_ids, report.missing_ids), (Some(1), Some(1)));
    let of = |name: &str| report.columns.iter().find(|column| column.name == name).unwrap();
    assert_eq!((of("seen").unparsable.count, of("seen").unparsable.first_line), (2, 3));
    assert_eq!(of("sex").unknown_code.count, 1);
    assert_eq!((of("weight").unparsable.count, of("weight").out_of_range.count), (1, 1));
    assert!(of("weight").constant && !of("sex").constant);
    assert!(!report.is_loadable());
    // The path of a temporary folder is random and may hold anything.
    let text = report.to_string().replace(&report.file.display().to_string(), "FILE");
    for cell in ["SECRET", "99871", "Diverse", "p1", "2020", "1999"] {
        assert!(!text.contains(cell), "{cell} in {text}");
    }
    assert!(text.contains("ERROR 'sex': undeclared code: 1, first on line 3"), "{text}");
    let good = with_file(b"63,1,1,2.3,0\n?,1,2,2.3,1\n", |base| check(&config(UCI), base)).unwrap();
    assert!(good.is_loadable() && good.to_string().contains("'age': 1 of 2 missing"));
}

#[test]
fn no_error_contains_a_cell() {
    // Each cell of a good file in turn becomes a sentinel; so does the whole header, as when a file has none.
    let sentinel = "SENTINEL48213";
    let rows = [["p1", "2020-01-01", "Male", "n", "70"], ["p2", "2020-01-02", "Female", "n", "71"]];
    for line in 0..3 {
        for field in 0..5 {
            let mut lines: Vec<Vec<&str>> = vec![vec!["id", "seen", "sex", "note", "weight"]];
            lines.extend(rows.iter().map(|row| row.to_vec()));
            lines[line][field] = sentinel;
            let text: String = lines.iter().map(|line| line.join(",") + "\n").collect();
            for content in [text.clone(), text.replace(sentinel, &format!("\"{sentinel}")), text.replacen(',', "", 1)] {
                if let Err(error) = read(NAMED, content.as_bytes()) {
                    assert!(!format!("{error} {error:?}").contains(sentinel), "{error:?}");
                }
                match with_file(content.as_bytes(), |base| check(&config(NAMED), base)) {
                    Ok(report) => assert!(!format!("{report} {report:?}").contains(sentinel)),
                    Err(error) => assert!(!format!("{error} {error:?}").contains(sentinel)),
                }
            }
        }
    }
}

#[test]
fn cohorts_select_as_sql_does() {
    let table = read(
        &UCI.replace("\"0\" = 0, \"1\" = 1", "female = 0, male = 1"),
        b"63,male,1,2.3,0\n17.0,female,4,?,2\n?,male,2,0,1\n45,?,3,1,0\n".as_slice(),
    );
    assert!(matches!(table, Err(SourceError::Cell { .. })), "17 is below the declared minimum");
    let text = UCI.replace("\"0\" = 0, \"1\" = 1", "female = 0, male = 1");
    let table = read(&text, b"63,male,1,2.3,0\n19,female,4,?,2\n?,male,2,0,1\n45,?,3,1,0\n").unwrap();
    let rows = |condition: &str| -> Vec<usize> {
        let mask = cohort::parse(condition).unwrap().mask(&table).unwrap();
        mask.iter().enumerate().filter(|(_, keep)| **keep).map(|(row, _)| row).collect()
    };
    assert_eq!(rows("all"), [0, 1, 2, 3]);
    assert_eq!(rows(""), [0, 1, 2, 3]);
    assert_eq!(rows("age >= 18 and sex = 1"), [0]);
    assert_eq!(rows("sex = 'male'"), [0, 2]);
    assert_eq!(rows("not (age > 40)"), [1], "unknown stays unknown");
    assert_eq!(rows("age > 40 or age is missing"), [0, 2, 3]);
    assert_eq!(rows("oldpeak is not missing and not cp in (1, 3)"), [2]);
    assert_eq!(rows("cp NOT IN (1,2) OR oldpeak = -0.0"), [1, 2, 3]);
    assert_eq!(rows("\"age\" <> 63 and cp<=3"), [3]);
    assert_eq!(cohort::parse("b > 1 and a is missing or b = 2").unwrap().columns(), ["a", "b"]);
    let unknown = cohort::parse("weight > 3").unwrap().mask(&table).unwrap_err();
    assert_eq!(unknown, CohortError::UnknownColumn { column: "weight".to_owned() });
    let label = cohort::parse("sex = 'other'").unwrap().mask(&table).unwrap_err();
    assert_eq!(label, CohortError::UnknownLabel { column: "sex".to_owned() });
}

#[test]
fn cohort_dates_and_wrong_conditions() {
    let table = read(NAMED, b"id,seen,sex,note,weight\np1,2020-02-29,Male,,70\np2,2021-01-01,Male,,71\n").unwrap();
    let mask = |condition: &str| cohort::parse(condition).unwrap().mask(&table);
    assert_eq!(mask("seen < '2020-12-31'").unwrap(), [true, false]);
    assert!(mask("seen < '2020-02-30'").is_err());
    for (condition, place) in [
        ("age >=", 7),
        ("age 18", 5),
        ("(age > 18", 10),
        ("age > 18)", 9),
        ("age > 18 sex = 1", 10),
        ("age > 'x", 7),
        ("age => 18", 5),
        ("and", 1),
        ("age in 1", 8),
        ("age > 1; drop table x", 8),
        ("age > (select 1)", 7),
        ("age > nan", 7),
    ] {
        match cohort::parse(condition).unwrap_err() {
            CohortError::Syntax { at, .. } => assert_eq!(at, place, "{condition}"),
            other => panic!("{condition}: {other}"),
        }
    }
    assert_eq!(cohort::parse(&"(".repeat(100)).unwrap_err(), CohortError::TooDeep);
    assert_eq!(cohort::parse(&"not ".repeat(1000)).unwrap_err(), CohortError::TooDeep);
    assert_eq!(cohort::parse(&" ".repeat(5000)).unwrap_err(), CohortError::TooLong);
}

/// The four UCI heart files, pooled: coefficients and standard errors of R 4.2 `glm` on the same 920 rows
/// (`heart_all920_logit_age_sex_cp`), and the counts of missing cells.
#[test]
fn the_four_heart_files_give_the_published_model() {
    let shared = std::env::var_os("LEBEN_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared"), std::path::PathBuf::from);
    let base = shared.join("data/fed_heart_disease");
    if !base.is_dir() {
        eprintln!("SKIPPED the_four_heart_files_give_the_published_model: no folder shared/ (set LEBEN_SHARED)");
        return;
    }
    let mut tables = Vec::new();
    for (site, rows, missing_ca) in
        [("cleveland", 303, 4), ("hungarian", 294, 291), ("switzerland", 123, 118), ("va", 200, 198)]
    {
        let config = config(&HEART.replace("SITE", site));
        let report = check(&config, &base).unwrap();
        assert!(report.is_loadable(), "{report}");
        assert_eq!(report.rows, rows);
        assert_eq!(report.columns.iter().find(|column| column.name == "ca").unwrap().missing, missing_ca);
        let constant = report.columns.iter().any(|column| column.name == "chol" && column.constant);
        assert_eq!(constant, site == "switzerland");
        tables.push(load(&config, &base).unwrap());
    }
    let pooled = Table::stack(&tables).unwrap();
    let stage = |name| AlgorithmSpec::new(name, [("features", "age,sex,cp:1>2|3|4"), ("outcome", "target")]);
    let fitted = pooled::fit(&[stage("standardise"), stage("glm")], &pooled).unwrap();
    let grid = fitted[1].outcome.grid("coefficients_original").unwrap();
    for (term, coefficient, se) in [
        ("(Intercept)", -4.711_890_614_818_8, 0.655_115_212_306_696),
        ("age", 0.057_882_056_197_107_5, 0.009_349_309_604_775_87),
        ("sex", 1.524_884_835_269_26, 0.214_903_087_094_102),
        ("cp[4]", 1.690_865_947_216_66, 0.343_421_483_483_868),
    ] {
        assert!((grid.value(term, "estimate").unwrap() / coefficient - 1.0).abs() < 1e-9, "{term}");
        assert!((grid.value(term, "se").unwrap() / se - 1.0).abs() < 1e-9, "{term}");
    }
}

const HEART: &str = r#"
name = "heart"
path = "processed.SITE.data"
header = false
columns = [
  { name = "age", type = "integer", unit = "years", min = 18, max = 120 },
  { name = "sex", type = "category", codes = { female = 0, male = 1, "0" = 0, "1" = 1 } },
  { name = "cp", type = "category", codes = { "1" = 1, "2" = 2, "3" = 3, "4" = 4 } },
  { name = "trestbps", type = "number", unit = "mmHg" },
  { name = "chol", type = "number", unit = "mg/dl" },
  { name = "fbs", type = "category" },
  { name = "restecg", type = "category" },
  { name = "thalach", type = "number" },
  { name = "exang", type = "category" },
  { name = "oldpeak", type = "number" },
  { name = "slope", type = "category" },
  { name = "ca", type = "integer" },
  { name = "thal", type = "category" },
  { name = "num", type = "integer", min = 0, max = 4 },
]
derive = [{ name = "target", from = "num", rule = "gt 0" }]
"#;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_condition_panics(condition in "[a-z0-9 ()<>=!'\",.é-]{0,60}") {
        let _ = cohort::parse(&condition);
    }

    #[test]
    fn no_file_panics(content in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = read(UCI, &content);
        let _ = with_file(&content, |base| check(&config(UCI), base));
        let mut named = b"id,seen,sex,note,weight\n".to_vec();
        named.extend(&content);
        let _ = read(NAMED, &named);
    }
}
