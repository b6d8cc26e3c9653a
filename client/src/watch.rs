//! What a person or a script hears of a job while it is signed and while it runs, and how it ended.

use leben_contracts::agreement::body::Body;
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::table::Phase;
use leben_protocol::frame::{HospitalProgress, HospitalState, Progress};
use leben_protocol::reject::printable;
use serde_json::{Value, json};

use crate::ledger::{Ledger, short};

/// Something changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The contract is on the table.
    Signing(Signing),
    /// The price was paid into escrow, with the entry's index.
    Funded(u64),
    /// The job runs.
    Running(Box<Progress>),
    /// The coordinator cannot be reached; it is tried again.
    Waiting {
        /// Why.
        why: String,
    },
}

/// Who has signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signing {
    /// The phase.
    pub phase: Phase,
    /// Parties that have signed.
    pub signed: Vec<String>,
    /// Parties that have not.
    pub missing: Vec<String>,
    /// Data sets whose privacy budget does not hold the job's epsilon yet.
    pub unheld: Vec<String>,
    /// Whether the price is in escrow, or nothing is to be paid.
    pub funded: bool,
}

impl Signing {
    /// As the ledger says.
    pub fn of(contract: &Contract) -> Signing {
        Signing {
            phase: contract.phase,
            signed: contract.accepts.keys().map(ToString::to_string).collect(),
            missing: contract.missing_accepts().iter().map(ToString::to_string).collect(),
            unheld: contract.missing_reservations(),
            funded: contract.is_funded(),
        }
    }

    /// One line.
    pub fn to_text(&self) -> String {
        if !self.missing.is_empty() {
            return format!("{}: waiting for the signature of {}", self.phase, self.missing.join(", "));
        }
        if !self.funded {
            return format!("{}: everybody has signed; the price is not in escrow yet", self.phase);
        }
        if !self.unheld.is_empty() {
            let sets = self.unheld.join(", ");
            return format!("{}: everybody has signed; waiting for the privacy budget of {sets}", self.phase);
        }
        format!("{}: everybody has signed; waiting for the coordinator to arm the contract", self.phase)
    }
}

/// How a job ended, by what the ledger says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The contract.
    pub contract: String,
    /// The last phase.
    pub phase: Phase,
    /// In words: what happened, who, why.
    pub why: String,
    /// The hospital that stood in the way, if one did.
    pub hospital: Option<String>,
    /// What to do next.
    pub next: String,
}

impl End {
    /// The end of a contract; `None` while it can still go on. `last` is the last progress heard, for the words.
    pub fn of(ledger: &Ledger, contract: &Contract, last: Option<&Progress>) -> Option<End> {
        let id = short(&contract.id);
        let words = |why: String, hospital, next: String| {
            Some(End { contract: contract.id.to_string(), phase: contract.phase, why, hospital, next })
        };
        match contract.phase {
            Phase::Delivered => {
                words("the result is ready and recorded on the ledger".into(), None, format!("leben fetch {id}"))
            }
            Phase::Accepted => words("the result was accepted".into(), None, format!("leben fetch {id}")),
            Phase::Settled => words("the result was accepted and paid".into(), None, format!("leben fetch {id}")),
            Phase::Disputed => {
                let code = contract.disputed.as_ref().map(ToString::to_string).unwrap_or_default();
                words(
                    format!("a party objects to the result ({code}); arbiters decide"),
                    None,
                    format!("leben status {id}"),
                )
            }
            phase if phase.is_terminal() => {
                let (why, hospital) = failure(ledger, contract, last);
                words(why, hospital, format!("leben ledger show {id}"))
            }
            _ => None,
        }
    }

    /// True for Delivered, Accepted and Settled.
    pub fn is_success(&self) -> bool {
        matches!(self.phase, Phase::Delivered | Phase::Accepted | Phase::Settled)
    }

    /// 0 for a result, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_success())
    }

    /// The last line of `leben watch --json`.
    pub fn to_json(&self) -> Value {
        json!({
            "event": "end", "contract": self.contract, "phase": self.phase.to_string(), "ok": self.is_success(),
            "why": self.why, "hospital": self.hospital, "next": self.next,
        })
    }
}

/// Why a contract ended without a result, and the hospital that the ledger, or else the last progress, names.
fn failure(ledger: &Ledger, contract: &Contract, last: Option<&Progress>) -> (String, Option<String>) {
    let Some(ended) = &contract.ended else { return (format!("the contract is {}", contract.phase), None) };
    let code = ended.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    let mut why = format!("{} by {}{code}, entry {}", ended.by, ended.actor, ended.index);
    let mut hospital = None;
    if let Ok(entry) = ledger.entry(ended.index)
        && let Ok(Body::Abort(abort)) = Body::parse(&entry.action().kind, &entry.action().body)
    {
        hospital = abort.party.map(|party| party.to_string());
        if let Some(stage) = abort.stage {
            why.push_str(&format!(", in stage {stage}"));
        }
    }
    if contract.owners().contains(&ended.actor) {
        hospital = Some(ended.actor.to_string());
    }
    let revoked = contract.revoked.keys().next().map(ToString::to_string);
    let in_the_way = last.and_then(in_the_way).map(|one| one.party.clone());
    hospital = hospital.or(revoked).or(in_the_way);
    if let Some(hospital) = &hospital {
        why.push_str(&format!("; hospital: {hospital}"));
    }
    if let Some(message) = last.map(|last| printable(&last.message)).filter(|message| !message.is_empty()) {
        why.push_str(&format!(". The coordinator says: {message}"));
    }
    (why, hospital)
}

fn in_the_way(progress: &Progress) -> Option<&HospitalProgress> {
    let by = |state| progress.hospitals.iter().find(move |one| one.state == state);
    by(HospitalState::Refused).or_else(|| by(HospitalState::Away))
}

/// What a hospital does, as a word.
pub fn state_word(state: HospitalState) -> &'static str {
    match state {
        HospitalState::Away => "away",
        HospitalState::Ready => "ready",
        HospitalState::Working => "working",
        HospitalState::Uploading => "uploading",
        HospitalState::Uploaded => "uploaded",
        HospitalState::Done => "done",
        HospitalState::Refused => "refused",
    }
}

impl Event {
    /// One JSON object.
    pub fn to_json(&self) -> Value {
        match self {
            Event::Signing(signing) => json!({
                "event": "signing", "phase": signing.phase.to_string(), "signed": signing.signed,
                "missing": signing.missing, "unheld": signing.unheld,
                "funded": signing.funded,
            }),
            Event::Funded(index) => json!({ "event": "funded", "index": index }),
            Event::Waiting { why } => json!({ "event": "waiting", "why": why }),
            Event::Running(progress) => running_json(progress),
        }
    }
}

fn running_json(progress: &Progress) -> Value {
    let hospitals: Vec<Value> = progress
        .hospitals
        .iter()
        .map(|one| {
            json!({
                "hospital": printable(&one.party), "state": state_word(one.state),
                "chunks": one.chunks.0, "chunks_total": one.chunks.1,
            })
        })
        .collect();
    json!({
        "event": "progress", "sequence": progress.sequence, "phase": printable(&progress.phase), "ended": progress.ended,
        "stage": progress.stage.as_ref().map(|(id, _)| id),
        "stage_name": progress.stage.as_ref().map(|(_, name)| printable(name)),
        "stages": progress.stages, "round": progress.round, "rounds_max": progress.rounds_max, "slot": progress.slot,
        "hospitals": hospitals, "loss": progress.trace.last(), "trace": progress.trace,
        "message": printable(&progress.message), "bytes_up": progress.bytes_up, "bytes_down": progress.bytes_down,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_one_json_object_and_control_characters_are_gone() {
        let progress = Progress {
            phase: "Running".into(),
            stage: Some((2, "fit\u{1b}[2J".into())),
            trace: vec![10.0, 3.5],
            hospitals: vec![HospitalProgress { party: "a".into(), state: HospitalState::Away, chunks: (1, 4) }],
            ..Progress::default()
        };
        let value = Event::Running(Box::new(progress.clone())).to_json();
        assert_eq!(value["loss"], 3.5);
        assert_eq!(value["hospitals"][0]["state"], "away");
        assert!(!value.to_string().contains('\u{1b}') && !value.to_string().contains("\\u001b"));
        assert_eq!(in_the_way(&progress).unwrap().party, "a");
    }
}
