//! The commands of a team: join, look, draft, submit, watch, fetch.

use std::path::Path;
use std::process::ExitCode;

use leben_contracts::ledger::action_file::{ACTION_FILE_BYTES_MAX, ActionFile};
use leben_contracts::ledger::store::{durable_replace, read_at_most};
use leben_protocol::invite::Invite;
use serde_json::json;

use super::{Ended, linked, readable};
use crate::action::price;
use crate::draft::{draft as make_terms, template};
use crate::home::Home;
use crate::io::enrol::{enrol, enrol_signed};
use crate::io::now_ms;
use crate::io::terminal::{Display, Paint, paint, print};
use crate::ledger::short;
use crate::ledger_view::{contract_json, contract_text, contracts_table, waits_for};
use crate::show::utc;
use crate::{action as actions, catalog as offers, fetch as result, io, job};

/// Clocks further apart than this are worth a word: actions are valid from five minutes before their signing.
const CLOCK_AHEAD_MS_MAX: i64 = 2 * 60 * 1000;

pub(super) async fn keygen(root: &Path, invite: &str, signed: Option<&Path>, new_keys: bool) -> Ended {
    let invite = Invite::parse(invite)?;
    if new_keys {
        Home::replace_keys(root, || io::seed().map_err(|error| std::io::Error::other(error.to_string())))?;
    }
    let joined = match (invite.kind.as_str(), signed) {
        ("admin", None) => return ask_admin(root, &invite),
        ("admin", Some(path)) => {
            let bytes = read_at_most(path, ACTION_FILE_BYTES_MAX)?;
            let file = ActionFile::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
            enrol_signed(root, &invite, file).await?
        }
        (_, Some(_)) => return Err("--signed is for the invite of an admin".into()),
        (_, None) => enrol(root, &invite).await?,
    };
    let (home, size) = (&joined.home, joined.ledger.size());
    let enrolled = match joined.index {
        Some(index) => format!("enrolled as {} (entry {index})", home.party()),
        None => format!("already enrolled as {}", home.party()),
    };
    print(&format!("{} in {}\n", paint(Paint::Green, &enrolled), home.network().origin));
    print(&format!("  home       {} (keys in keys/, readable by you alone: keep a copy)\n", root.display()));
    print(&format!("  ledger     {size} entries fetched, verified and replayed\n"));
    if joined.clock_ahead_ms.abs() > CLOCK_AHEAD_MS_MAX {
        let minutes = joined.clock_ahead_ms / 60_000;
        let word = if minutes < 0 { "behind" } else { "ahead of" };
        let note =
            format!("  clock      the coordinator's is {} min {word} this machine's: set the clock", minutes.abs());
        print(&format!("{}\n", paint(Paint::Yellow, &note)));
    }
    print("Next: leben catalog\n");
    Ok(ExitCode::SUCCESS)
}

/// A new admin needs the signature of one who is: the enrolment goes to that one as a file first.
fn ask_admin(root: &Path, invite: &Invite) -> Ended {
    let home = Home::create(root, invite, &io::seeds()?)?;
    let file = actions::enrol_admin(&home, &invite.code, io::fresh()?)?;
    let path = root.join("enrolment.json");
    durable_replace(&path, &file.to_bytes())?;
    let (path, root) = (path.display(), root.display());
    print(&format!("made the keys of {} in {root}, and its enrolment in {path}\n", home.party()));
    print(&format!(
        "Next: an admin signs it:  leben --home <the admin's home> action sign {path} --key <the admin's home>\n"
    ));
    print(&format!("      and then, here:     leben --home {root} keygen --signed {path} <the same invite>\n"));
    Ok(ExitCode::SUCCESS)
}

/// How often the ledger is looked at while offers are waited for.
const CATALOG_POLL: std::time::Duration = std::time::Duration::from_millis(500);

pub(super) async fn catalog(root: &Path, wait: usize, as_json: bool) -> Ended {
    let (_, mut ledger) = readable(root).await?;
    while ledger.state().datasets().len() < wait {
        tokio::time::sleep(CATALOG_POLL).await;
        (_, ledger) = readable(root).await?;
    }
    let state = ledger.state();
    print(&if as_json { format!("{}\n", offers::to_json(state)) } else { offers::to_text(state) });
    Ok(ExitCode::SUCCESS)
}

pub(super) fn draft(from: &str) -> Ended {
    print(template(from).ok_or("there is no such template; there are: regression, heart, private")?);
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn submit(root: &Path, path: &Path, dry_run: bool, as_json: bool) -> Ended {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let named = |error: io::submit::SubmitError| match error {
        io::submit::SubmitError::Job(_) => format!("{}: {error}", path.display()),
        other => other.to_string(),
    };
    // A mistake in the file is found before anybody is dialled.
    let parsed = job::Job::parse(&text).map_err(io::submit::SubmitError::Job).map_err(named)?;
    if dry_run {
        let (home, ledger) = readable(root).await?;
        let me = home.party();
        let offers =
            ledger.offers(me).ok_or_else(|| format!("{me} is not enrolled; run `leben keygen <invite>` first"))?;
        let terms = make_terms(&parsed, &offers, now_ms()).map_err(io::submit::SubmitError::Job).map_err(named)?;
        print(&if as_json { format!("{}\n", json!({ "terms": terms })) } else { terms.text() });
        return Ok(ExitCode::SUCCESS);
    }
    let (home, session, mut ledger) = linked(root).await?;
    let submitted = io::submit::submit(&home, &session, &mut ledger, &text).await.map_err(named)?;
    session.close().await;
    let (id, terms) = (submitted.contract, &submitted.terms);
    if as_json {
        print(&format!(
            "{}\n",
            json!({
                "contract": id, "proposed_index": submitted.proposed_index, "accepted_index": submitted.accepted_index,
                "sign_by_ms": terms.windows.sign_by_ms, "price": price(terms), "terms": terms,
            })
        ));
        return Ok(ExitCode::SUCCESS);
    }
    print(&terms.text());
    print(&format!("\n{} {id}\n", paint(Paint::Green, "contract")));
    print(&format!(
        "  proposed in entry {}, signed by {} in entry {}\n",
        submitted.proposed_index,
        home.party(),
        submitted.accepted_index
    ));
    print(&format!("\nWhat happens next\n{}", next_steps(&submitted)));
    Ok(ExitCode::SUCCESS)
}

fn next_steps(submitted: &io::submit::Submitted) -> String {
    let (id, terms) = (short(&submitted.contract), &submitted.terms);
    let owners: Vec<String> = terms.owners().iter().map(ToString::to_string).collect();
    let mut steps = vec![format!("{} sign by {} UTC", owners.join(", "), utc(terms.windows.sign_by_ms))];
    if price(terms) > 0 {
        steps.push(format!("`leben watch` pays {} credits into escrow once everybody has signed", price(terms)));
    }
    steps.push("the coordinator arms the contract; the hospitals run it; only sums over them can be read".into());
    steps.push(format!("follow it:      leben watch {id}"));
    steps.push(format!("get the result: leben fetch {id}"));
    steps.iter().enumerate().map(|(i, step)| format!("  {}. {step}\n", i + 1)).collect()
}

pub(super) async fn watch(root: &Path, name: &str, as_json: bool) -> Ended {
    let (home, session, mut ledger) = linked(root).await?;
    let id = ledger.find(Some(home.party()), name)?.id;
    if !as_json {
        print(&format!("contract {id}\n"));
    }
    let mut display = Display::new(as_json);
    let watched = io::watch::watch(&home, session, &mut ledger, id, |event| display.show(event)).await;
    display.finish();
    let end = watched?;
    if as_json {
        print(&format!("{}\n", end.to_json()));
    } else {
        let colour = if end.is_success() { Paint::Green } else { Paint::Red };
        print(&format!("{}: {}\nNext: {}\n", paint(colour, &end.phase.to_string()), end.why, end.next));
    }
    Ok(ExitCode::from(end.exit_code()))
}

pub(super) async fn status(root: &Path, name: Option<&str>, as_json: bool) -> Ended {
    let (home, ledger) = readable(root).await?;
    let (me, state) = (home.party(), ledger.state());
    if let Some(name) = name {
        let contract = ledger.find(Some(me), name)?;
        print(&match as_json {
            true => format!("{}\n", contract_json(&ledger, contract)?),
            false => contract_text(&ledger, contract)?,
        });
        return Ok(ExitCode::SUCCESS);
    }
    if as_json {
        let all: Vec<_> = state
            .contracts()
            .map(|c| json!({ "contract": c.id, "phase": c.phase.to_string(), "initiator": c.initiator, "waits_for": waits_for(c) }))
            .collect();
        let (size, credits) = (ledger.size(), state.credits(me));
        let value =
            json!({ "party": me, "origin": state.origin(), "size": size, "credits": credits, "contracts": all });
        print(&format!("{value}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    print(&format!("{me} in {}\n", state.origin()));
    print(&format!("  ledger   {} entries", ledger.size()));
    print(&match state.now_ms() {
        0 => "\n".to_owned(),
        last => format!(", the last of {} UTC\n", utc(last)),
    });
    print(&format!("  credits  {}\n\n", state.credits(me)));
    print(&contracts_table(state, Some(me)));
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn fetch(root: &Path, name: &str, out: Option<&Path>, as_json: bool) -> Ended {
    let (home, session, mut ledger) = linked(root).await?;
    let id = ledger.find(Some(home.party()), name)?.id;
    let dir = out.map_or_else(|| format!("result-{}", short(&id)).into(), Path::to_path_buf);
    let fetched = io::fetch::fetch(&home, &session, &mut ledger, id, &dir).await?;
    session.close().await;
    if as_json {
        let stages: Vec<_> = fetched
            .opened
            .bundle
            .stages
            .iter()
            .map(|s| json!({ "id": s.id, "name": s.name, "figures": s.outcome.figures }))
            .collect();
        let value = json!({
            "contract": id, "out": dir, "files": fetched.files, "entries": fetched.receipt.entries.len(),
            "accepted_index": fetched.accepted_index, "stages": stages,
        });
        print(&format!("{value}\n"));
        return Ok(ExitCode::SUCCESS);
    }
    print(&result::summary(&fetched.opened.bundle));
    print(&format!("\n{} in {}\n", paint(Paint::Green, "Written"), dir.display()));
    for name in &fetched.files {
        print(&format!("  {name}\n"));
    }
    let count = fetched.receipt.entries.len();
    print(&format!(
        "  receipt.json, policy, terms.txt, entries/ ({count} entries of the contract, each with its proof)\n"
    ));
    print("The result is the one that the ledger commits to");
    print(
        &fetched
            .accepted_index
            .map(|index| format!("; it is accepted (entry {index}).\n"))
            .unwrap_or_else(|| ".\n".into()),
    );
    let policy = home.ledger_dir().join("policy");
    print(&format!("Next: leben verify {} --policy {}\n", dir.display(), policy.display()));
    print(
        "That policy follows the ledger: keep a copy of it from today where others can get it, the keys may change.\n",
    );
    Ok(ExitCode::SUCCESS)
}
