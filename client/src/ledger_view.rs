//! Entries and contracts as a person or a script reads them: `leben ledger`, `leben status`.

use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::party::PartyId;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::Entry;
use serde_json::{Value, json};

use crate::ledger::{Ledger, LedgerError, short};
use crate::show::{Side, Table, clean, utc};
use crate::story::sentence;
use crate::vouched::{proven, signers};

/// Which entries.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this kind, whatever the case of its letters.
    pub kind: Option<String>,
    /// By this party.
    pub actor: Option<String>,
    /// On contracts whose id begins so; the proposal itself counts.
    pub contract: Option<String>,
    /// Sequenced at this time or later, Unix milliseconds.
    pub since_ms: u64,
    /// With this text in kind, actor, contract, body or in the sentence that says what happened, whatever the case.
    pub text: Option<String>,
}

impl Filter {
    /// Whether an entry is wanted.
    pub fn admits(&self, entry: &Entry) -> bool {
        let action = entry.action();
        let same =
            |wanted: &Option<String>, got: &str| wanted.as_ref().is_none_or(|text| text.eq_ignore_ascii_case(got));
        let contract = contract_of(entry).unwrap_or_default();
        let on =
            self.contract.as_ref().is_none_or(|start| !contract.is_empty() && contract.starts_with(start.as_str()));
        let found = self.text.as_ref().is_none_or(|text| {
            let what = sentence(entry);
            let whole = format!("{} {} {contract} {} {} {what}", action.kind, action.actor, action.role, action.body);
            whole.to_lowercase().contains(&text.to_lowercase())
        });
        let recent = entry.seq_ms() >= self.since_ms;
        recent && same(&self.kind, &action.kind) && same(&self.actor, &action.actor) && on && found
    }
}

/// The contract an entry belongs to; a proposal makes one.
pub fn contract_of(entry: &Entry) -> Option<String> {
    let action = entry.action();
    match action.kind.as_str() {
        "Propose" => Some(hex::encode(entry.envelope().payload_hash())),
        _ => action.contract.clone(),
    }
}

/// One line an entry, after two lines of heading.
pub fn table(entries: &[(u64, Entry)]) -> String {
    let head = [
        ("entry", Side::Right),
        ("time (UTC)", Side::Left),
        ("kind", Side::Left),
        ("by", Side::Left),
        ("contract", Side::Left),
        ("what", Side::Left),
    ];
    let mut table = Table::new(&head);
    for (index, entry) in entries {
        let action = entry.action();
        let contract: String = contract_of(entry).unwrap_or_default().chars().take(12).collect();
        let (time, what) = (utc(entry.seq_ms()), sentence(entry));
        table.row([index.to_string(), time, action.kind.clone(), action.actor.clone(), contract, what]);
    }
    table.to_text()
}

/// One entry for scripts.
pub fn entry_json(index: u64, entry: &Entry) -> Value {
    let action = entry.action();
    json!({
        "index": index, "seq_ms": entry.seq_ms(), "kind": action.kind, "actor": action.actor, "role": action.role,
        "contract": contract_of(entry), "what": sentence(entry), "leaf_hash": hex::encode(entry.leaf_hash()),
        "payload_hash": hex::encode(entry.envelope().payload_hash()),
        "signed_by": entry.envelope().signatures().iter().map(|s| s.keyid.clone()).collect::<Vec<_>>(),
        "body": action.body,
    })
}

/// One entry for scripts, with who signed it and what proves it.
pub fn entry_json_whole(ledger: &Ledger, index: u64, entry: &Entry) -> Value {
    let mut value = entry_json(index, entry);
    let signers = signers(ledger.state(), index, entry);
    value["signatures"] =
        signers.iter().map(|s| json!({"keyid": s.keyid, "party": s.party, "ok": s.is_good()})).collect();
    value["proof"] = proven(ledger, index, entry).to_json();
    value
}

/// One entry for people, with whose keys signed it and what proves it.
pub fn entry_text(ledger: &Ledger, index: u64, entry: &Entry) -> String {
    let action = entry.action();
    let mut out = format!("entry {index}: {} {}\n", clean(&action.actor), sentence(entry));
    out += &format!("  kind       {}, as {}\n", action.kind, clean(&action.role));
    out += &format!("  recorded   {} UTC\n", utc(entry.seq_ms()));
    if let Some(contract) = contract_of(entry) {
        out += &format!("  contract   {}\n", clean(&contract));
    }
    out += &format!("  leaf hash  {}\n", hex::encode(entry.leaf_hash()));
    for signer in signers(ledger.state(), index, entry) {
        out += &format!("  signed by  {}\n", signer.to_text());
    }
    out += &format!("  proof      {}\n", proven(ledger, index, entry).to_text());
    let body = serde_json::to_string_pretty(&action.body).unwrap_or_default();
    out += "  body\n";
    out += &body.lines().map(|line| format!("    {}\n", clean(line))).collect::<String>();
    out
}

/// The contracts, latest first; those of `me` are marked.
pub fn contracts_table(state: &State, me: Option<&PartyId>) -> String {
    let mut all: Vec<&Contract> = state.contracts().collect();
    all.sort_by_key(|contract| std::cmp::Reverse(contract.proposed_index));
    let head = [
        ("contract", Side::Left),
        ("phase", Side::Left),
        ("proposed by", Side::Left),
        ("hospitals", Side::Left),
        ("stages", Side::Right),
        ("waits for", Side::Left),
    ];
    let mut table = Table::new(&head);
    for contract in all {
        let mine = if me == Some(&contract.initiator) { " (you)" } else { "" };
        let hospitals: Vec<String> = contract.owners().iter().map(ToString::to_string).collect();
        let done = contract.stages.values().filter(|stage| stage.receipt.is_some()).count();
        table.row([
            short(&contract.id),
            contract.phase.to_string(),
            format!("{}{mine}", contract.initiator),
            hospitals.join(", "),
            format!("{done}/{}", contract.terms.stages.len()),
            waits_for(contract),
        ]);
    }
    if table.is_empty() { "No contract is on the ledger yet.\n".into() } else { table.to_text() }
}

/// What a contract waits for, in words.
pub fn waits_for(contract: &Contract) -> String {
    use leben_contracts::agreement::table::Phase;
    let names = |parties: Vec<PartyId>| parties.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match contract.phase {
        Phase::Proposed | Phase::PartlySigned => format!("the signature of {}", names(contract.missing_accepts())),
        Phase::Signed if !contract.is_funded() => {
            format!("{} to pay into escrow", contract.terms.payer().map(ToString::to_string).unwrap_or_default())
        }
        Phase::Signed => "the coordinator to arm it".into(),
        Phase::Executable | Phase::Running => "the hospitals".into(),
        Phase::Suspended => "whoever suspended it".into(),
        Phase::Delivered => format!("{} to accept the result", contract.terms.delivery.recipient),
        Phase::Disputed => "arbiters".into(),
        Phase::Accepted => "the coordinator to settle".into(),
        _ => String::new(),
    }
}

/// Entries read at once.
const STEP: u64 = 4096;

/// Every entry on a contract, from its proposal on.
///
/// # Errors
/// [`LedgerError`].
pub fn story(ledger: &Ledger, contract: &Contract) -> Result<Vec<(u64, Entry)>, LedgerError> {
    let filter = Filter { contract: Some(contract.id.to_string()), ..Filter::default() };
    let mut all = Vec::new();
    for start in (contract.proposed_index..ledger.size()).step_by(STEP as usize) {
        let read = ledger.entries(start..start.saturating_add(STEP))?;
        all.extend(read.into_iter().filter(|(_, entry)| filter.admits(entry)));
    }
    Ok(all)
}

fn story_text(entries: &[(u64, Entry)]) -> String {
    let head = [("time (UTC)", Side::Left), ("entry", Side::Right), ("who", Side::Left), ("what", Side::Left)];
    let mut table = Table::new(&head);
    for (index, entry) in entries {
        table.row([utc(entry.seq_ms()), index.to_string(), entry.action().actor.clone(), sentence(entry)]);
    }
    table.to_text()
}

/// One contract for people: where it stands, its story entry by entry, then the terms.
///
/// # Errors
/// [`LedgerError`].
pub fn contract_text(ledger: &Ledger, contract: &Contract) -> Result<String, LedgerError> {
    let story = story(ledger, contract)?;
    let head = contract_head(contract);
    Ok(format!("{head}\n{}\n{}", story_text(&story), contract.terms.text()))
}

fn contract_head(contract: &Contract) -> String {
    let mut out = format!("contract {}\n  phase      {}\n", contract.id, contract.phase);
    let waits = waits_for(contract);
    if !waits.is_empty() {
        out += &format!("  waits for  {waits}\n");
    }
    out += &format!("  proposed   by {}, entry {}\n", contract.initiator, contract.proposed_index);
    let signed: Vec<String> = contract.accepts.keys().map(ToString::to_string).collect();
    if !signed.is_empty() {
        let all = contract.signatories().len();
        out += &format!("  signed     by {} of {all}: {}\n", signed.len(), signed.join(", "));
    }
    if let Some(armed) = &contract.armed {
        out += &format!("  armed      entry {}, {} UTC\n", armed.index, utc(armed.at_ms));
    }
    for stage in &contract.terms.stages {
        let word = match contract.stages.get(&stage.id) {
            None => "not started".to_owned(),
            Some(progress) => match &progress.receipt {
                None => format!("running, try {}", progress.tries),
                Some(receipt) => format!(
                    "done in {} rounds, {} rows used of {}{}, {} hospitals, {} withheld",
                    receipt.rounds,
                    receipt.rows_used,
                    if receipt.withheld > 0 { "at least " } else { "" },
                    receipt.rows_requested,
                    receipt.hospitals.len(),
                    receipt.withheld
                ),
            },
        };
        out += &format!("  stage {}    {}: {word}\n", stage.id, stage.name);
    }
    if let Some(delivery) = &contract.delivery {
        out += &format!(
            "  delivered  entry {}, {} UTC, result {}\n",
            delivery.index,
            utc(delivery.at_ms),
            delivery.result_commitment
        );
    }
    if let Some(settled) = &contract.settled {
        let shares = settled.postings.iter().map(|share| format!("{} {}", share.party, share.credits));
        out +=
            &format!("  settled    {} credits; returned {}\n", shares.collect::<Vec<_>>().join(", "), settled.returned);
    }
    if let Some(ended) = &contract.ended {
        let code = ended.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
        out += &format!(
            "  ended      {} by {}{code}, entry {}, {} UTC\n",
            ended.by,
            ended.actor,
            ended.index,
            utc(ended.at_ms)
        );
    }
    for review in &contract.reviews {
        out += &format!(
            "  review     {} by {} ({}), entry {}\n",
            format!("{:?}", review.verdict).to_lowercase(),
            review.admin,
            review.code,
            review.index
        );
    }
    out
}

/// One contract for scripts.
///
/// # Errors
/// [`LedgerError`].
pub fn contract_json(ledger: &Ledger, contract: &Contract) -> Result<Value, LedgerError> {
    let told = |(index, entry): &(u64, Entry)| {
        let action = entry.action();
        json!({ "index": index, "seq_ms": entry.seq_ms(), "kind": action.kind, "actor": action.actor, "what": sentence(entry) })
    };
    let story: Vec<Value> = story(ledger, contract)?.iter().map(told).collect();
    Ok(json!({
        "contract": contract.id, "phase": contract.phase.to_string(), "waits_for": waits_for(contract),
        "state": serde_json::to_value(contract).unwrap_or(Value::Null), "story": story,
    }))
}
