//! What the commands of `leben-worker` print and leave for the agent.

use std::fmt::Write as _;
use std::path::Path;

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;

use super::clock::Clock;
use super::store::read_json;
use super::{approvals, handover};
use crate::agent::{Command, ContractView, Status};
use crate::audit;
use crate::gossip::Views;

/// From this age on a status is that of an agent that does not run, milliseconds.
const STALE_MS: u64 = 30_000;

/// The status as the agent wrote it last.
///
/// # Errors
/// In words.
pub fn status(folder: &Path) -> Result<Status, String> {
    let path = folder.join("status.json");
    let found: Option<Status> = read_json(&path).map_err(|error| error.to_string())?;
    let mut status =
        found.ok_or_else(|| format!("there is no {}; start the agent with `leben-worker run`", path.display()))?;
    if handover::frozen(folder).map_err(|error| error.to_string())?.is_some() {
        status.halted = Some(handover::FROZEN.to_owned());
    }
    Ok(status)
}

/// Whether the agent that wrote a status still runs.
pub fn is_running(status: &Status) -> bool {
    Clock::default().now_ms().saturating_sub(status.at_ms) < STALE_MS
}

/// The status in words.
pub fn status_text(status: &Status) -> String {
    let mut text = String::new();
    let age_ms = Clock::default().now_ms().saturating_sub(status.at_ms);
    let running = match age_ms < STALE_MS {
        true if status.linked => "running, linked to the coordinator".to_owned(),
        true => "running, without a link to the coordinator".to_owned(),
        false => format!("not running (last seen {} s ago)", age_ms / 1000),
    };
    let _ = writeln!(text, "{} on {}: {running}", status.party, status.origin);
    let _ = writeln!(text, "ledger     {} entries checked here, {} final", status.validated, status.certified);
    let no_link = status.no_link.as_ref().map(|why| format!("no link to the coordinator: {why}"));
    for worry in no_link.iter().chain(&status.clock).chain(&status.halted).chain(&status.worries) {
        let _ = writeln!(text, "WARNING    {worry}");
    }
    for dataset in &status.datasets {
        let rows = dataset.rows_rounded.map_or("not read".to_owned(), |rows| format!("about {rows} rows"));
        let offered = if dataset.offered { "offered" } else { "not offered yet" };
        let _ = writeln!(text, "data set   {}: {} columns, {rows}, {offered}", dataset.name, dataset.columns);
    }
    for contract in &status.contracts {
        let _ = writeln!(text, "contract   {}", contract_line(contract));
    }
    let _ = writeln!(text, "other eyes {}", views_text(&status.views));
    let refused: u64 = status.counters.refusals.values().sum();
    let _ = writeln!(text, "since start: {} vectors sent, {refused} refusals", status.counters.rounds);
    let pending = status.contracts.iter().filter(|contract| contract.pending).count();
    if pending > 0 {
        let _ = writeln!(text, "{pending} wait for a decision: leben-worker contracts");
    }
    for contract in status.contracts.iter().filter(|contract| contract.to_review) {
        let short = contract.id.get(..12).unwrap_or(&contract.id);
        let _ = writeln!(text, "a result waits until you have looked at it: leben-worker review {short}");
    }
    text
}

fn views_text(views: &Views) -> String {
    let &Views { asked, agreed, refused, unanswered } = views;
    let open = asked.saturating_sub(agreed).saturating_sub(refused).saturating_sub(unanswered);
    let mut text = format!("{asked} asked, {agreed} agree with this copy");
    for (count, words) in
        [(unanswered, "did not answer"), (refused, "not believed"), (open, "without a view to compare yet")]
    {
        if count > 0 {
            let _ = write!(text, ", {count} {words}");
        }
    }
    text
}

fn contract_line(contract: &ContractView) -> String {
    let short = contract.id.get(..12).unwrap_or(&contract.id);
    let mut line = format!("{short} {} from {}", contract.phase, contract.initiator);
    if contract.pending {
        line.push_str(", waits for a decision here");
    }
    if let Some(by) = &contract.approved {
        let _ = write!(line, ", approved by the {by}");
    }
    if contract.running {
        line.push_str(", runs");
    }
    for why in contract.stopped.iter().chain(&contract.obstacle) {
        let _ = write!(line, "; {why}");
    }
    line
}

/// The contracts that wait for a decision, as text.
pub fn contracts_text(status: &Status) -> String {
    let mut text = String::new();
    for contract in status.contracts.iter().filter(|contract| contract.pending) {
        let short = contract.id.get(..12).unwrap_or(&contract.id);
        let _ = writeln!(text, "contract {}\n\n{}", contract.id, contract.text);
        for ask in &contract.asks {
            let _ = writeln!(text, "\nIt {ask}.");
        }
        match &contract.obstacle {
            Some(why) => drop(writeln!(text, "\nThis hospital cannot sign it as it is: {why}")),
            None => drop(writeln!(text, "\nTo sign:   leben-worker approve {short}")),
        }
        let _ = writeln!(text, "To refuse: leben-worker refuse {short} --code not_wanted\n");
    }
    if text.is_empty() {
        text.push_str("No contract waits for a decision.\n");
    }
    text
}

/// The privacy budgets in words.
pub fn budget_text(status: &Status) -> String {
    let mut text = String::new();
    for budget in &status.budgets {
        let delta = budget.delta_e12 as f64 * 1e-12;
        let declared = if budget.declared { "declared on the ledger" } else { "not on the ledger yet" };
        let _ = writeln!(
            text,
            "data set {}: epsilon {} for its life at delta {delta:e}, {declared}",
            budget.dataset, budget.limit
        );
        let (spent, held, left) = (&budget.spent, &budget.held, &budget.left);
        let _ = writeln!(
            text,
            "  spent {spent}, held {held}, left {left}; what left so far is worth {} however the jobs were chosen",
            budget.released
        );
        match &budget.job_limit {
            Some(limit) => drop(writeln!(text, "  one contract may ask for at most {limit}")),
            None => text
                .push_str("  worker.toml sets no budget for it: it takes no new contracts with a privacy mechanism\n"),
        }
        if let Some(why) = &budget.behind {
            let _ = writeln!(text, "  WARNING {why}");
        }
        for job in &budget.jobs {
            let short = job.contract.get(..12).unwrap_or(&job.contract);
            let (standing, booked, asked, rounds) = (&job.standing, &job.booked, &job.epsilon, job.rounds);
            let _ = writeln!(
                text,
                "  contract {short} {standing}: {booked} of {asked}, {rounds} rounds left this hospital"
            );
        }
    }
    if text.is_empty() {
        text.push_str("No data set has a privacy budget; see `budget` in `leben-worker config`.\n");
    }
    text
}

/// The one contract whose id starts with `prefix`.
///
/// # Errors
/// In words: none, or several.
pub fn find<'a>(status: &'a Status, prefix: &str) -> Result<&'a ContractView, String> {
    let mut found = status.contracts.iter().filter(|contract| contract.id.starts_with(prefix));
    match (prefix.len() >= 4, found.next(), found.next()) {
        (false, ..) => Err("give at least 4 digits of the contract's id".into()),
        (_, None, _) => Err(format!("no contract of this hospital starts with '{prefix}'; see `leben-worker status`")),
        (_, Some(contract), None) => Ok(contract),
        (_, Some(_), Some(_)) => Err(format!("several contracts start with '{prefix}'; give more digits")),
    }
}

/// What a person wants done with a contract.
pub enum Decision {
    /// Sign.
    Approve,
    /// Do not sign, with a code.
    Refuse(String),
    /// Stop, with a code.
    Suspend(String),
    /// Go on.
    Resume,
    /// Take the data out.
    Revoke,
    /// Let the result go that `review` showed.
    Clear,
}

/// Leaves a decision for the agent and says so.
///
/// # Errors
/// In words.
pub fn decide(folder: &Path, prefix: &str, decision: Decision) -> Result<String, String> {
    let status = status(folder)?;
    let found = find(&status, prefix)?;
    let hash = |text: &str| text.parse::<Hash32>().map_err(|error| error.to_string());
    let contract = hash(&found.id)?;
    let code = |text: &str| Code::new(text).map_err(|error| error.to_string());
    let (command, done) = match decision {
        Decision::Approve => {
            if !found.pending {
                return Err(format!("contract {} does not wait for a decision: it is {}", found.id, found.phase));
            }
            let done = match &found.obstacle {
                None => "approved; the agent signs it".to_owned(),
                Some(why) => format!("approved, but it cannot be signed as it is: {why}"),
            };
            (Command::Approve { contract, terms_hash: hash(&found.terms_hash)? }, done)
        }
        Decision::Refuse(text) => (Command::Refuse { contract, code: code(&text)? }, "refused".to_owned()),
        Decision::Suspend(text) => {
            (Command::Suspend { contract, code: code(&text)? }, "suspended; work stops within one round".to_owned())
        }
        Decision::Resume => (Command::Resume { contract }, "resumed".to_owned()),
        Decision::Revoke => (Command::Revoke { contract }, "revoked; this hospital's data is taken out".to_owned()),
        Decision::Clear => {
            let (_, result) = super::review::load(folder, &found.id)?;
            let done = "cleared; the agent signs that this result may be delivered";
            (Command::Clear { contract, result }, done.to_owned())
        }
    };
    approvals::leave(folder, &command).map_err(|error| error.to_string())?;
    Ok(format!("contract {} {done}", found.id))
}

/// The audit log in words, its chain checked.
///
/// # Errors
/// In words: the file, or the line that does not fit.
pub fn audit_text(folder: &Path) -> Result<String, String> {
    let path = folder.join("audit.ndjson");
    let text = std::fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let whole = text.rfind('\n').map_or("", |end| text.get(..=end).unwrap_or_default());
    let lines = audit::verify(whole).map_err(|(line, why)| format!("{} line {line}: {why}", path.display()))?;
    let mut out = String::new();
    for line in &lines {
        let contract = line.contract.as_deref().and_then(|id| id.get(..12)).unwrap_or("-");
        let code = line.code.as_deref().unwrap_or("");
        let _ = writeln!(out, "{} {:24} {contract:12} {code} {}", utc(line.at_ms), line.event, line.words);
    }
    let _ = writeln!(out, "{} events, the chain is whole", lines.len());
    Ok(out)
}

/// `YYYY-MM-DD hh:mm:ss` in UTC. Source: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
pub(super) fn utc(at_ms: u64) -> String {
    let at_s = at_ms / 1000;
    let (day, second) = (at_s / 86_400, at_s % 86_400);
    let shifted = day + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day_of_month:02} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_view_that_was_asked_for_is_accounted_for() {
        let views = |asked, agreed, refused, unanswered| views_text(&Views { asked, agreed, refused, unanswered });
        assert_eq!(views(14, 14, 0, 0), "14 asked, 14 agree with this copy");
        assert_eq!(
            views(16, 12, 1, 2),
            "16 asked, 12 agree with this copy, 2 did not answer, 1 not believed, 1 without a view to compare yet"
        );
        assert_eq!(views(3, 5, 0, 0), "3 asked, 5 agree with this copy", "some come without being asked for");
    }

    // date -u -d @1798761599, @951782400 and @0
    #[test]
    fn utc_is_what_date_says() {
        assert_eq!(utc(1_798_761_599_000), "2026-12-31 23:59:59");
        assert_eq!(utc(951_782_400_999), "2000-02-29 00:00:00");
        assert_eq!(utc(0), "1970-01-01 00:00:00");
    }
}
