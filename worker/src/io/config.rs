//! `worker.toml`: every key with its unit, default and limit. An unknown key is an error, so that a typing mistake never
//! becomes a default.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use leben_contracts::agreement::body::{ColumnRole, ColumnSpec, ColumnType};
use leben_contracts::agreement::party::Code;
use leben_contracts::agreement::purpose::Permission;
use leben_models::Role;
use leben_protocol::http::Url;
use serde::Deserialize;

use super::sources::{self, DatasetConfig, cohort};
use crate::budget::Limits;
use crate::declared::{Dataset, Declared, Floors, LocalPolicy};

/// Name of the file in the state folder.
pub const FILE: &str = "worker.toml";

/// The annotated default, as `leben-worker config` prints it.
pub const TEMPLATE: &str = include_str!("worker.toml");

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It cannot be read.
    #[error("cannot read {}: {error}; `leben-worker config` prints one to start from", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// Not TOML of the right keys.
    #[error("{}: {why}", path.display())]
    Toml {
        /// The file.
        path: PathBuf,
        /// Line, key and what is wrong.
        why: String,
    },
    /// A value that does not fit.
    #[error("{}: {key} {why}", path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// What it must be.
        why: String,
    },
}

/// The configuration and the state folder it belongs to.
#[derive(Clone, Debug)]
pub struct Config {
    /// The state folder: everything the agent keeps.
    pub folder: PathBuf,
    /// Where the coordinator is, if not where the invite said.
    pub address: Option<String>,
    /// Sign every contract that passes review, without a person.
    pub auto_approve: bool,
    /// `[disclosure]`: what any terms must keep to.
    pub floors: Floors,
    /// Where `/metrics` and `/healthz` are served; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Free disk below which `check` complains, MiB.
    pub disk_free_min_mib: u64,
    /// Threads for computing; 0: one for each core.
    pub threads: usize,
    /// Other eyes on the same log.
    pub gossip: GossipSection,
    /// The data sets.
    pub datasets: Vec<DeclaredSource>,
}

/// `[gossip]`: whom this hospital asks for their view of the log besides the relay, and who may ask it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GossipSection {
    /// `http://host:port` of other hospitals' `listen_view`, or the address of any file that is a `checkpoint` of this log.
    pub peers: Vec<String>,
    /// Where this hospital's own view is shown; `None`: nowhere.
    pub listen_view: Option<SocketAddr>,
    /// Seconds between two rounds of questions.
    pub every_s: u64,
}

impl Default for GossipSection {
    fn default() -> Self {
        GossipSection { peers: Vec::new(), listen_view: None, every_s: crate::gossip::EVERY_MS / 1000 }
    }
}

impl GossipSection {
    fn check(&self) -> Result<(), String> {
        if !(1..=3600).contains(&self.every_s) {
            return Err("every_s must be 1 to 3600".into());
        }
        if self.peers.len() > 64 {
            return Err("peers must be 64 addresses at most".into());
        }
        self.peers.iter().try_for_each(|peer| Url::parse(peer).map(drop)).map_err(|error| format!("peers: {error}"))
    }
}

/// A data set with what is offered.
#[derive(Clone, Debug)]
pub struct DeclaredSource {
    /// Where its rows are.
    pub source: DatasetConfig,
    /// What it may be used for.
    pub permission: Permission,
    /// What the hospital has in mind to ask, credits.
    pub price_hint: Option<u64>,
    /// Its privacy budget; `None`: not open for privacy mechanisms.
    pub budget: Option<Limits>,
    /// `private_only`: contracts without a privacy mechanism are refused.
    pub private_only: bool,
}

/// `budget = { epsilon = "10", patients_min = 200 }` of a data set. Epsilons and delta are decimal numbers in quotes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetSection {
    epsilon: String,
    #[serde(default)]
    delta: Option<String>,
    patients_min: u64,
    #[serde(default)]
    job_epsilon: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    network: NetworkSection,
    #[serde(default)]
    policy: PolicySection,
    #[serde(default)]
    disclosure: Floors,
    #[serde(default)]
    metrics: MetricsSection,
    #[serde(default)]
    limits: LimitsSection,
    #[serde(default)]
    gossip: GossipSection,
    #[serde(default)]
    dataset: Vec<toml::Table>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct NetworkSection {
    address: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicySection {
    #[serde(default)]
    auto_approve: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MetricsSection {
    address: Option<SocketAddr>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LimitsSection {
    disk_free_min_mib: u64,
    threads: usize,
}

impl Default for LimitsSection {
    fn default() -> Self {
        LimitsSection { disk_free_min_mib: 256, threads: 0 }
    }
}

impl Config {
    /// Reads `worker.toml` of a state folder.
    ///
    /// # Errors
    /// [`ConfigError`] naming the file, the key and what to do.
    pub fn load(folder: &Path) -> Result<Config, ConfigError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|error| ConfigError::Read { path, error })?;
        Config::parse(folder, &text)
    }

    /// Reads the text of a `worker.toml` that would lie in `folder`.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(folder: &Path, text: &str) -> Result<Config, ConfigError> {
        let path = folder.join(FILE);
        let file: File = toml::from_str(text)
            .map_err(|error| ConfigError::Toml { path: path.clone(), why: error.to_string().trim_end().to_owned() })?;
        if file.limits.threads > 1024 {
            return Err(ConfigError::Value { path, key: "limits.threads".into(), why: "must be 0 to 1024".into() });
        }
        let wrong = |why| ConfigError::Value { path: path.clone(), key: "gossip:".into(), why };
        file.gossip.check().map_err(wrong)?;
        let datasets =
            file.dataset.into_iter().map(|table| read_dataset(&path, table)).collect::<Result<Vec<_>, _>>()?;
        for (at, dataset) in datasets.iter().enumerate() {
            if datasets.iter().take(at).any(|earlier| earlier.source.name == dataset.source.name) {
                let key = format!("dataset '{}'", dataset.source.name);
                return Err(ConfigError::Value { path, key, why: "is declared twice".into() });
            }
        }
        let config = Config {
            folder: folder.to_owned(),
            address: file.network.address,
            auto_approve: file.policy.auto_approve,
            floors: file.disclosure,
            metrics: file.metrics.address,
            disk_free_min_mib: file.limits.disk_free_min_mib,
            threads: file.limits.threads,
            gossip: file.gossip,
            datasets,
        };
        config.declared()?;
        Ok(config)
    }

    /// What the agent's core is told of it.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn declared(&self) -> Result<Declared, ConfigError> {
        let datasets = self.datasets.iter().map(|dataset| self.declare(dataset)).collect::<Result<Vec<_>, _>>()?;
        Ok(Declared::new(datasets, Arc::new(check_cohort), LocalPolicy::new(self.auto_approve, self.floors)))
    }

    fn declare(&self, declared: &DeclaredSource) -> Result<Dataset, ConfigError> {
        let source = &declared.source;
        let wrong = |why: String| ConfigError::Value {
            path: self.folder.join(FILE),
            key: format!("dataset '{}':", source.name),
            why,
        };
        source.validate().map_err(|error| wrong(error.to_string()))?;
        let name = Code::new(&source.name).map_err(|error| wrong(error.to_string()))?;
        let dataset = Dataset::new(name, columns(source), declared.permission.clone()).map_err(wrong)?;
        let (price_hint, budget, private_only) = (declared.price_hint, declared.budget, declared.private_only);
        Ok(Dataset { price_hint, budget, private_only, ..dataset })
    }
}

fn read_dataset(path: &Path, mut table: toml::Table) -> Result<DeclaredSource, ConfigError> {
    let name = table.get("name").and_then(|name| name.as_str()).unwrap_or("without a name").to_owned();
    let wrong = |why: String| ConfigError::Value { path: path.to_owned(), key: format!("dataset '{name}':"), why };
    let permission = table
        .remove("permission")
        .ok_or_else(|| wrong("lacks `permission`, for example { duo = [\"HMB\", \"NPUNCU\"], ehds = [] }".into()))?;
    let permission = permission.try_into().map_err(|error: toml::de::Error| wrong(format!("permission: {error}")))?;
    let price_hint = table.remove("price_hint").map(toml::Value::try_into).transpose();
    let price_hint = price_hint.map_err(|error| wrong(format!("price_hint: {error}")))?;
    let budget = table.remove("budget").map(toml::Value::try_into::<BudgetSection>).transpose();
    let budget = budget.map_err(|error| wrong(format!("budget: {}", error.message())))?;
    let budget = budget.map(|section| limits(&section)).transpose().map_err(|why| wrong(format!("budget: {why}")))?;
    let private_only = table.remove("private_only").map(toml::Value::try_into).transpose();
    let private_only = private_only.map_err(|_| wrong("private_only must be true or false".into()))?.unwrap_or(false);
    if private_only && budget.is_none() {
        return Err(wrong("private_only goes with a `budget`: without one no contract at all could be signed".into()));
    }
    let source = toml::Value::Table(table).try_into().map_err(|error: toml::de::Error| wrong(error.to_string()))?;
    Ok(DeclaredSource { source, permission, price_hint, budget, private_only })
}

fn limits(section: &BudgetSection) -> Result<Limits, String> {
    let epsilon = |key: &str, text: &str| {
        let micro = decimal(text, 6).filter(|micro| (1..=1_000_000_000).contains(micro));
        micro.ok_or_else(|| format!("{key} is \"{text}\"; it must be a number above 0 and at most 1000, to 6 places"))
    };
    if section.patients_min == 0 {
        return Err("patients_min must be at least 1".into());
    }
    let epsilon_micro = epsilon("epsilon", &section.epsilon)?;
    let delta_e12 = match section.delta.as_deref() {
        None | Some("auto") => Limits::delta_e12_for(section.patients_min),
        Some(text) => decimal(text, 12).filter(|delta| (1..1_000_000_000_000).contains(delta)).ok_or_else(|| {
            format!("delta is \"{text}\"; it must be \"auto\" or a number between 0 and 1, to 12 places, as 0.000001")
        })?,
    };
    let job_epsilon_micro = match &section.job_epsilon {
        Some(text) => epsilon("job_epsilon", text)?,
        None => (leben_privacy::dp::JOB_EPSILON * 1e6).round() as u64,
    };
    let limits = Limits { patients_min: section.patients_min, epsilon_micro, delta_e12, job_epsilon_micro };
    let name = Code::new("budget").map_err(|error| error.to_string())?;
    crate::budget::Budget::genesis(name, &limits).map_err(|error| error.to_string())?;
    Ok(limits)
}

/// A plain decimal number in units of 10^-`places`, exactly; `None` for anything else, or more places.
fn decimal(text: &str, places: usize) -> Option<u64> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > places || text.ends_with('.') {
        return None;
    }
    format!("{whole}{part:0<places$}").parse().ok()
}

/// The schema that is offered: names, types, units, roles and codes. The id column is offered as what it is.
fn columns(source: &DatasetConfig) -> Vec<ColumnSpec> {
    let role = |name: &str, role: Role| match role {
        _ if source.id_column.as_deref() == Some(name) => ColumnRole::Id,
        Role::Outcome => ColumnRole::Outcome,
        Role::Time => ColumnRole::Time,
        Role::Event => ColumnRole::Event,
        Role::Feature | Role::Weight | Role::Group => ColumnRole::Feature,
    };
    let declared = source.columns.iter().map(|column| ColumnSpec {
        column: column.name.clone(),
        column_type: match column.kind {
            sources::ColumnType::Number => ColumnType::Number,
            sources::ColumnType::Integer => ColumnType::Integer,
            sources::ColumnType::Category => ColumnType::Category,
            sources::ColumnType::Date => ColumnType::Date,
            sources::ColumnType::Text => ColumnType::Text,
        },
        unit: column.unit.clone().unwrap_or_default(),
        role: role(&column.name, column.role),
        codes: column.codes.iter().map(|(text, code)| format!("{code}={text}")).collect(),
    });
    let derived = source.derive.iter().map(|derive| ColumnSpec {
        column: derive.name.clone(),
        column_type: ColumnType::Category,
        unit: String::new(),
        role: role(&derive.name, derive.role),
        codes: vec!["0=no".into(), "1=yes".into()],
    });
    declared.chain(derived).collect()
}

/// A cohort query may read declared numeric columns other than the id.
fn check_cohort(query: &str, columns: &[ColumnSpec]) -> Result<(), String> {
    let cohort = cohort::parse(query).map_err(|error| error.to_string())?;
    let readable = |name: &String| {
        let known = columns.iter().find(|column| column.column == *name);
        known.is_some_and(|known| known.role != ColumnRole::Id && known.column_type != ColumnType::Text)
    };
    match cohort.columns().iter().find(|name| !readable(name)) {
        Some(name) => Err(format!("column '{name}' is not declared, or may not be computed on")),
        None => Ok(()),
    }
}
