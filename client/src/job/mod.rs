//! A job file: what an AI team wants computed, on which data, for which purpose, by when and for how much.
//!
//! The file alone is read here; [`crate::draft`] compares it with what the network offers and makes terms of it.
//! Every key, its default and its meaning stand in the annotated template that `leben draft` prints.

pub mod duration;
mod model;
mod reader;

use std::collections::BTreeMap;

use leben_contracts::agreement::purpose::Purpose;
use leben_contracts::agreement::terms::{OnDrop, OnFailure, Param};
use toml::de::{DeTable, DeValue};

pub use model::{Feature, Model};
pub use reader::{At, Problem, nearest};
use reader::{Problems, Section};

/// The file may be this long, in bytes. An entry on the ledger takes 32 KiB.
pub const JOB_BYTES_MAX: usize = 256 * 1024;

/// Smallest cohort where the job does not say: a hospital with fewer rows refuses.
pub const COHORT_MIN: u64 = 20;
/// Most rows of one data set where the job does not say.
pub const ROW_CAP: u64 = 1_000_000;
/// Tries after the first where the job does not say.
pub const RETRIES: u32 = 3;
/// Longest time of one try where the job does not say, milliseconds.
pub const TIMEOUT_MS: u64 = 10 * 60 * 1000;

const INTEGER_MAX: u64 = 1 << 53;

/// A job as the file says it, before the network is asked.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What the data is wanted for.
    pub purpose: Purpose,
    /// Line of the purpose, for what the draft finds.
    pub purpose_at: At<()>,
    /// The data sets.
    pub data: Vec<DataSet>,
    /// Outcome and features that the stages share.
    pub model: Model,
    /// The work, in order.
    pub stages: Vec<Stage>,
    /// What protects the hospitals.
    pub privacy: Privacy,
    /// Who is paid.
    pub price: Price,
    /// What is delivered.
    pub delivery: Delivery,
    /// By when, milliseconds from now.
    pub windows: Windows,
    /// Parties that decide disputes.
    pub arbiters: Vec<At<String>>,
}

/// One data set of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct DataSet {
    /// `hospital/dataset`.
    pub set: At<String>,
    /// Which rows; empty for all.
    pub cohort: String,
    /// Columns; those the stages read when absent.
    pub columns: Option<Vec<At<String>>>,
    /// Most rows.
    pub row_cap: u64,
    /// Fewest rows.
    pub cohort_min: u64,
}

/// One stage of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Stage {
    /// Its name.
    pub name: At<String>,
    /// `glm`, or `glm@1`.
    pub algorithm: At<String>,
    /// Parameters; those of `[model]` are added where they are missing.
    pub params: BTreeMap<String, At<Param>>,
    /// The stage whose output it starts from.
    pub from: Option<At<String>>,
    /// Stages it waits for; the one before it when absent.
    pub after: Option<Vec<At<String>>>,
    /// Data sets it reads; all when absent.
    pub data: Option<Vec<At<String>>>,
    /// Most rounds; the algorithm's own limit when absent.
    pub rounds_max: Option<u32>,
    /// Longest time of one try, milliseconds.
    pub timeout_ms: u64,
    /// Tries after the first.
    pub retries: u32,
    /// What failure means.
    pub on_failure: OnFailure,
    /// What a hospital that drops out means for the round; the job's own word when absent.
    pub on_drop: Option<OnDrop>,
}

/// `[privacy]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Privacy {
    /// Fewest hospitals in a sum.
    pub hospitals_min: Option<At<u64>>,
    /// Shamir threshold.
    pub threshold: Option<At<u64>>,
    /// Privacy mechanism; `none` when absent.
    pub mechanism: Option<At<String>>,
    /// Epsilon of the whole job for each data set.
    pub epsilon: Option<At<f64>>,
    /// Delta.
    pub delta: Option<At<f64>>,
    /// Smallest group of patients that a result may tell about.
    pub cell_min: Option<At<u64>>,
    /// Fewest hospitals whose patients are in such a group.
    pub cell_hospitals_min: Option<At<u64>>,
    /// p of the p % rule.
    pub dominance_percent: Option<At<u64>>,
    /// What a drop means in stages that do not say.
    pub on_drop: OnDrop,
}

/// `[price]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    /// Most that is paid, credits.
    pub total: u64,
    /// Held and returned, credits.
    pub deposit: u64,
    /// Earned per round, credits; 0: stage by stage.
    pub per_round: u64,
    /// Shares in 1/10,000; equal over the hospitals when absent.
    pub splits: Option<Vec<(At<String>, u32)>>,
    /// Line, for what the draft finds.
    pub at: At<()>,
}

/// `[delivery]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Kinds of output.
    pub outputs: Vec<At<String>>,
    /// Whether a person reviews.
    pub review: bool,
    /// Deleted so long after the run's end, milliseconds.
    pub delete_after_ms: u64,
}

/// `[windows]`, relative to the moment of drafting.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Everybody has signed, milliseconds from now.
    pub sign_within_ms: u64,
    /// Everything is delivered, milliseconds from now.
    pub run_within_ms: u64,
    /// The recipient has accepted or disputed, milliseconds from delivery.
    pub accept_within_ms: u64,
}

impl Job {
    /// Reads a job file.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the lines.
    pub fn parse(text: &str) -> Result<Job, Vec<Problem>> {
        let whole = |line, why: String| vec![Problem { line, key: "job file".into(), why }];
        if text.len() > JOB_BYTES_MAX {
            return Err(whole(1, format!("longer than {JOB_BYTES_MAX} bytes")));
        }
        let document = DeTable::parse(text).map_err(|error| {
            let line = error.span().map_or(1, |span| reader::line_of(text, span.start));
            whole(line, format!("not TOML: {}", error.message()))
        })?;
        let problems = Problems::default();
        let known = ["purpose", "data", "model", "stage", "privacy", "price", "delivery", "windows", "parties"];
        let root = Section::root(text, document.get_ref(), &known, &problems);
        let job = read(&root);
        let found = problems.take();
        if found.is_empty() { Ok(job) } else { Err(found) }
    }
}

fn read(root: &Section<'_>) -> Job {
    let (purpose, purpose_at) = read_purpose(root);
    let stages = root.sections("stage", STAGE_KEYS);
    if stages.is_empty() {
        root.problem("stage", "a job needs at least one [[stage]] with a name and an algorithm");
    }
    let parties = root.section("parties", &["arbiters"]);
    Job {
        purpose,
        purpose_at,
        data: read_data(root),
        model: model::read(&root.section("model", &["outcome", "features", "family"])),
        stages: stages.iter().map(read_stage).collect(),
        privacy: read_privacy(&root.section("privacy", PRIVACY_KEYS)),
        price: read_price(root),
        delivery: read_delivery(&root.section("delivery", &["outputs", "review", "delete_after"])),
        windows: read_windows(&root.section("windows", &["sign_within", "run_within", "accept_within"])),
        arbiters: parties.texts("arbiters").unwrap_or_default(),
    }
}

fn read_purpose(root: &Section<'_>) -> (Purpose, At<()>) {
    let part = root.section("purpose", &["duo", "ehds", "commercial", "methods_development"]);
    if !part.has("duo") {
        part.problem("duo", "say what the data is for, in codes of the Data Use Ontology: duo = [\"HMB\"]");
    }
    let duo = part.texts("duo").unwrap_or_default().into_iter().map(|code| code.value).collect();
    let purpose = Purpose {
        duo,
        ehds: part.text("ehds").map(|code| code.value),
        commercial: part.flag("commercial").unwrap_or(false),
        methods_development: part.flag("methods_development").unwrap_or(true),
    };
    (purpose, At { value: (), line: part.line, key: "purpose".into() })
}

fn read_data(root: &Section<'_>) -> Vec<DataSet> {
    let keys = ["sets", "cohort", "columns", "row_cap", "cohort_min"];
    let part = root.section("data", &keys);
    let cohort = part.text("cohort").map(|text| text.value).unwrap_or_default();
    let columns = part.texts("columns");
    let cohort_min = part.integer("cohort_min", 1, INTEGER_MAX).map_or(COHORT_MIN, |at| at.value);
    let row_cap = part.integer("row_cap", 1, INTEGER_MAX).map_or(ROW_CAP.max(cohort_min), |at| at.value);
    let mut sets = Vec::new();
    for value in part.list("sets") {
        let mut one = DataSet {
            set: part.at("sets", value, String::new()),
            cohort: cohort.clone(),
            columns: columns.clone(),
            row_cap,
            cohort_min,
        };
        if let DeValue::Table(_) = value.get_ref() {
            let own = part.as_section("data.sets", value, Some(&["set", "cohort", "columns", "row_cap", "cohort_min"]));
            if !own.has("set") {
                own.problem("set", "name the data set: { set = \"hospital/dataset\" }");
            }
            one.set = own.text("set").unwrap_or(one.set);
            one.cohort = own.text("cohort").map_or(one.cohort, |text| text.value);
            one.columns = own.texts("columns").or(one.columns);
            one.row_cap = own.integer("row_cap", 1, INTEGER_MAX).map_or(one.row_cap, |at| at.value);
            one.cohort_min = own.integer("cohort_min", 1, INTEGER_MAX).map_or(one.cohort_min, |at| at.value);
        } else if let Some(name) = part.as_text("sets", value) {
            one.set = name;
        }
        sets.push(one);
    }
    if sets.is_empty() {
        part.problem("sets", "name the data: sets = [\"hospital/dataset\", ..]; `leben catalog` lists what is offered");
    }
    sets
}

const STAGE_KEYS: &[&str] = &[
    "name",
    "algorithm",
    "params",
    "from",
    "after",
    "data",
    "rounds_max",
    "timeout",
    "retries",
    "on_failure",
    "on_drop",
];

const PRIVACY_KEYS: &[&str] = &[
    "hospitals_min",
    "threshold",
    "mechanism",
    "epsilon",
    "delta",
    "cell_min",
    "cell_hospitals_min",
    "dominance_percent",
    "on_drop",
];
const ON_DROP: &[(&str, OnDrop)] = &[("continue", OnDrop::Continue), ("repeat", OnDrop::Repeat)];
const ON_FAILURE: &[(&str, OnFailure)] = &[("abort", OnFailure::Abort), ("continue", OnFailure::Continue)];

fn read_stage(part: &Section<'_>) -> Stage {
    let needed = |name: &str| {
        let text = part.text(name);
        if !part.has(name) {
            part.problem(name, "every stage needs one");
        }
        text.unwrap_or(At { value: String::new(), line: part.line, key: name.to_owned() })
    };
    let small =
        |name: &str, low: u64, high: u64| part.integer(name, low, high).and_then(|at| u32::try_from(at.value).ok());
    Stage {
        name: needed("name"),
        algorithm: needed("algorithm"),
        params: read_params(part),
        from: part.text("from"),
        after: part.texts("after"),
        data: part.texts("data"),
        rounds_max: small("rounds_max", 1, 1_000_000),
        timeout_ms: part.duration("timeout").map_or(TIMEOUT_MS, |at| at.value),
        retries: small("retries", 0, 100).unwrap_or(RETRIES),
        on_failure: part.word("on_failure", ON_FAILURE).unwrap_or(OnFailure::Abort),
        on_drop: part.word("on_drop", ON_DROP),
    }
}

/// Numbers with a fraction become decimal texts, as they stand in the file: terms hold no fractions.
fn read_params(part: &Section<'_>) -> BTreeMap<String, At<Param>> {
    let Some(value) = part.value("params") else { return BTreeMap::new() };
    let inner = part.as_section(&part.key("params"), value, None);
    let mut params = BTreeMap::new();
    for (name, value) in inner.each() {
        let param = match value.get_ref() {
            DeValue::String(text) => Some(Param::Text(text.as_ref().to_owned())),
            DeValue::Float(number) => Some(Param::Text(number.as_str().replace('_', ""))),
            DeValue::Boolean(flag) => Some(Param::Text(flag.to_string())),
            other => reader::whole(other).map(Param::Integer),
        };
        match param {
            Some(param) => drop(params.insert(name.to_owned(), inner.at(name, value, param))),
            None => inner.problem(name, "must be a number or a text; a list is a text with commas"),
        }
    }
    params
}

fn read_privacy(part: &Section<'_>) -> Privacy {
    Privacy {
        hospitals_min: part.integer("hospitals_min", 1, u64::from(u16::MAX)),
        threshold: part.integer("threshold", 1, u64::from(u16::MAX)),
        mechanism: part.text("mechanism"),
        epsilon: part.number("epsilon"),
        delta: part.number("delta"),
        cell_min: part.integer("cell_min", 1, 1_000_000),
        cell_hospitals_min: part.integer("cell_hospitals_min", 1, u64::from(u16::MAX)),
        dominance_percent: part.integer("dominance_percent", 0, 100),
        on_drop: part.word("on_drop", ON_DROP).unwrap_or(OnDrop::Continue),
    }
}

fn read_price(root: &Section<'_>) -> Price {
    let part = root.section("price", &["total", "deposit", "per_round", "splits"]);
    let credits = |name: &str| part.integer(name, 0, INTEGER_MAX).map_or(0, |at| at.value);
    let equal = part.value("splits").is_some_and(|value| value.get_ref().as_str() == Some("equal"));
    let splits = part.value("splits").filter(|_| !equal).map(|value| {
        let inner = part.as_section("price.splits", value, None);
        let each = inner.each();
        each.filter_map(|(party, value)| {
            let share = inner.as_integer(party, value, 1, 10_000)?;
            Some((inner.at(party, value, party.to_owned()), u32::try_from(share.value).ok()?))
        })
        .collect()
    });
    let at = At { value: (), line: part.line, key: "price".into() };
    Price { total: credits("total"), deposit: credits("deposit"), per_round: credits("per_round"), splits, at }
}

fn read_delivery(part: &Section<'_>) -> Delivery {
    let default = ["coefficients", "figures", "curves"].map(|name| At {
        value: name.to_owned(),
        line: part.line,
        key: "delivery.outputs".into(),
    });
    Delivery {
        outputs: part.texts("outputs").unwrap_or_else(|| default.to_vec()),
        review: part.flag("review").unwrap_or(false),
        delete_after_ms: part.duration("delete_after").map_or(365 * duration::DAY_MS, |at| at.value),
    }
}

fn read_windows(part: &Section<'_>) -> Windows {
    let or = |name: &str, days: u64| part.duration(name).map_or(days * duration::DAY_MS, |at| at.value);
    let windows = Windows {
        sign_within_ms: or("sign_within", 14),
        run_within_ms: or("run_within", 28),
        accept_within_ms: or("accept_within", 7),
    };
    if windows.run_within_ms <= windows.sign_within_ms {
        part.problem("run_within", "must be longer than sign_within: both count from now");
    }
    windows
}
