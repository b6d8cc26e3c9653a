//! What the network offers: data sets with their columns and permissions, and algorithms.

use leben_contracts::agreement::body::{ColumnRole, ColumnType};
use leben_contracts::agreement::purpose_table::DUO;
use leben_contracts::agreement::state::State;
use leben_models::registry;
use serde_json::{Value, json};

use crate::offers::BudgetLeft;
use crate::show::{Side, Table, clean, epsilon};

/// For people.
pub fn to_text(state: &State) -> String {
    let mut out = String::new();
    if state.datasets().is_empty() {
        out.push_str("No data set is on offer yet.\n");
    }
    for (name, set) in state.datasets() {
        let offer = &set.offer;
        out += &format!("{}: about {} rows, {} columns\n", clean(name), offer.rows_rounded, offer.schema.len());
        out += &format!("  permits: {}\n", permission(&offer.permission.duo));
        if !offer.permission.ehds.is_empty() {
            out += &format!("  EHDS purposes: {}\n", clean(&offer.permission.ehds.join(", ")));
        }
        if let Some(price) = offer.price_hint {
            out += &format!("  asks about {price} credits\n");
        }
        if let Some(budget) = BudgetLeft::of(state, name) {
            let (left, limit) = (epsilon(budget.left_micro), epsilon(budget.limit_micro));
            let delta = budget.delta_e12 as f64 * 1e-12;
            out += &format!("  privacy budget: epsilon {left} of {limit} is left, delta at most {delta:e}\n");
        }
        let mut table = Table::new(&[
            ("column", Side::Left),
            ("type", Side::Left),
            ("unit", Side::Left),
            ("role", Side::Left),
            ("codes", Side::Left),
        ]);
        for column in &offer.schema {
            let (kind, role) = (type_word(column.column_type), role_word(column.role));
            table.row([column.column.clone(), kind.into(), column.unit.clone(), role.into(), column.codes.join(", ")]);
        }
        out += &table.to_text().lines().map(|line| format!("  {line}\n")).collect::<String>();
        out.push('\n');
    }
    out += "Algorithms\n";
    let mut table = Table::new(&[
        ("name", Side::Left),
        ("version", Side::Right),
        ("digest", Side::Left),
        ("here", Side::Left),
        ("what it does", Side::Left),
    ]);
    for algorithm in algorithms(state) {
        let digest: String = algorithm.digest.chars().take(12).collect();
        table.row([algorithm.name, algorithm.version, digest, algorithm.here.to_owned(), algorithm.summary.to_owned()]);
    }
    out += &table.to_text().lines().map(|line| format!("  {line}\n")).collect::<String>();
    out
}

/// For scripts.
pub fn to_json(state: &State) -> Value {
    let sets: Vec<Value> = state
        .datasets()
        .iter()
        .map(|(name, set)| {
            let budget = BudgetLeft::of(state, name).map(|budget| {
                json!({
                    "left_micro": budget.left_micro, "limit_micro": budget.limit_micro, "delta_e12": budget.delta_e12,
                })
            });
            json!({
                "name": name, "hospital": set.owner, "rows_rounded": set.offer.rows_rounded,
                "schema_hash": set.offer.schema_hash, "columns": set.offer.schema, "permission": set.offer.permission,
                "price_hint": set.offer.price_hint, "index": set.index, "budget": budget,
            })
        })
        .collect();
    let algorithms: Vec<Value> = algorithms(state)
        .into_iter()
        .map(
            |a| json!({"name": a.name, "version": a.version, "digest": a.digest, "here": a.here, "summary": a.summary}),
        )
        .collect();
    json!({ "datasets": sets, "algorithms": algorithms })
}

struct Offered {
    name: String,
    version: String,
    digest: String,
    /// Whether this program has the same code.
    here: &'static str,
    summary: &'static str,
}

/// The algorithms on the ledger, and those that only this program has.
fn algorithms(state: &State) -> Vec<Offered> {
    let mut all: Vec<Offered> = Vec::new();
    for record in state.algorithms().values() {
        let (name, version) = (record.offer.name.to_string(), record.offer.version.to_string());
        let built =
            registry::all().into_iter().find(|entry| entry.name == name && entry.version.to_string() == version);
        let here = match &built {
            Some(entry) if entry.digest == record.offer.digest.0 => "same code",
            Some(_) => "other code",
            None => "not built in",
        };
        let summary = built.map_or("", |entry| entry.summary);
        all.push(Offered { name, version, digest: record.offer.digest.to_string(), here, summary });
    }
    for entry in registry::all() {
        let version = entry.version.to_string();
        if !all.iter().any(|known| known.name == entry.name && known.version == version) {
            let (name, digest) = (entry.name.to_owned(), hex::encode(entry.digest));
            all.push(Offered { name, version, digest, here: "not on offer", summary: entry.summary });
        }
    }
    all.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    all
}

fn permission(codes: &[String]) -> String {
    let word = |code: &String| {
        let name = code.split('=').next().unwrap_or_default();
        let row = DUO.iter().find(|row| row.id == name || (!row.shorthand.is_empty() && row.shorthand == name));
        row.map_or_else(|| clean(code), |row| format!("{} ({})", clean(code), row.label))
    };
    codes.iter().map(word).collect::<Vec<_>>().join("; ")
}

fn type_word(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Number => "number",
        ColumnType::Integer => "integer",
        ColumnType::Category => "category",
        ColumnType::Text => "text",
        ColumnType::Date => "date",
    }
}

fn role_word(role: ColumnRole) -> &'static str {
    match role {
        ColumnRole::Feature => "feature",
        ColumnRole::Outcome => "outcome",
        ColumnRole::Id => "id",
        ColumnRole::Time => "time",
        ColumnRole::Event => "event",
    }
}
