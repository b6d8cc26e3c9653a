//! A result for a person to look at before the AI team gets it.

use std::fmt::Write as _;
use std::path::Path;

use leben_contracts::agreement::hash::Hash32;
use leben_models::bundle::{Bundle, commitment};
use leben_models::outcome::Grid;
use leben_protocol::reject::printable;

use super::cli;
use super::store::REVIEW;

/// The result of a contract as it lies here, and what the ledger would hold of it.
///
/// # Errors
/// In words: there is none, or it is no result.
pub fn load(folder: &Path, prefix: &str) -> Result<(Bundle, Hash32), String> {
    let status = cli::status(folder)?;
    let contract = cli::find(&status, prefix)?;
    let path = folder.join("jobs").join(&contract.id).join(REVIEW);
    let bytes = std::fs::read(&path).map_err(|_| {
        let (id, phase) = (&contract.id, &contract.phase);
        format!("contract {id} is {phase}: no result of it waits here to be looked at")
    })?;
    let bundle: Bundle = serde_json::from_slice(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    if bundle.contract != contract.id {
        return Err(format!("{} is the result of another contract", path.display()));
    }
    Ok((bundle, Hash32(commitment(&bytes))))
}

/// The whole result as text: every table, figure and note.
///
/// # Errors
/// As [`load`].
pub fn text(folder: &Path, prefix: &str) -> Result<String, String> {
    let (bundle, commitment) = load(folder, prefix)?;
    let mut out = String::new();
    for stage in &bundle.stages {
        let outcome = &stage.outcome;
        let hospitals: Vec<String> = stage.hospitals.iter().map(|name| printable(name)).collect();
        let _ = writeln!(out, "{}. {}: {}", stage.id, printable(&stage.name), printable(&outcome.title));
        let _ = writeln!(out, "   {} rows used, sums over {}", outcome.rows.used, hospitals.join(", "));
        for (why, rows) in &outcome.rows.rejected {
            let _ = writeln!(out, "   {rows} rows left out, {}", printable(why));
        }
        outcome.tables.iter().for_each(|grid| write_grid(&mut out, grid));
        for (name, value) in &outcome.figures {
            let _ = writeln!(out, "   {} {value}", printable(name));
        }
        for curve in &outcome.curves {
            let points: Vec<String> = curve.points.iter().map(|(x, y)| format!("({x}, {y})")).collect();
            let _ = writeln!(out, "   curve {}: {}", printable(&curve.name), points.join(" "));
        }
        for what in outcome.withheld() {
            let _ = writeln!(out, "   withheld: {}", printable(what));
        }
        for warning in &outcome.warnings {
            let _ = writeln!(out, "   note: {}", printable(warning));
        }
        out.push('\n');
    }
    let short = bundle.contract.get(..12).unwrap_or(&bundle.contract);
    let _ = writeln!(
        out,
        "The ledger would hold {commitment} of it; no other result can be delivered once you let this one go."
    );
    let _ = writeln!(out, "To let it go:  leben-worker clear {short}");
    let _ = writeln!(out, "If it must not leave: do nothing, and the contract expires; or leben-worker revoke {short}");
    Ok(out)
}

fn write_grid(out: &mut String, grid: &Grid) {
    let _ = writeln!(out, "   table {} ({})", printable(&grid.name), printable(&grid.note));
    let _ = writeln!(out, "     term: {}", grid.columns.join(", "));
    for row in &grid.rows {
        let values: Vec<String> =
            row.values.iter().map(|value| value.map_or_else(|| "-".to_owned(), |value| value.to_string())).collect();
        let _ = writeln!(out, "     {}: {}", printable(&row.label), values.join(", "));
    }
}
