//! What each entry of the ledger did, in one plain sentence after the name of who did it; and whether it is good or bad news.

use leben_contracts::agreement::body::{Body, Handover, Outcome, Posting, Propose, Resolve, StageReceipt, Verdict};
use leben_contracts::agreement::party::PartyId;
use leben_contracts::ledger::entry::Entry;

use crate::show::{clean, epsilon};

/// How an entry reads to somebody who reviews the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// The ordinary course.
    Plain,
    /// A contract came a step nearer to its end: executable, delivered, accepted, paid.
    Good,
    /// Who may do what changed: people, keys, policy.
    Rules,
    /// Somebody stopped, refused or withdrew something.
    Bad,
}

/// How an entry reads.
pub fn tone(kind: &str) -> Tone {
    match kind {
        "Arm" | "Deliver" | "AcceptResult" | "Settle" | "Resume" => Tone::Good,
        "Genesis" | "PartyEnrol" | "KeyRotate" | "PolicyChange" | "Handover" => Tone::Rules,
        "KeyRevoke" | "Freeze" | "Reject" | "Withdraw" | "Dispute" | "Suspend" | "Revoke" | "Abort" | "Expire" => {
            Tone::Bad
        }
        _ => Tone::Plain,
    }
}

/// What an entry did: `hospital-a ` and then "signs version 1 of the terms". Safe to print.
pub fn sentence(entry: &Entry) -> String {
    let action = entry.action();
    let text = match Body::parse(&action.kind, &action.body) {
        Ok(body) => network(&body).or_else(|| money(&body)).or_else(|| agreement(&body)).or_else(|| work(&body)),
        Err(_) => None,
    };
    clean(&text.unwrap_or_else(|| format!("records {}", action.kind)))
}

fn network(body: &Body) -> Option<String> {
    Some(match body {
        Body::Genesis(b) => {
            let admins: Vec<PartyId> = b.admins.iter().map(|admin| admin.party.clone()).collect();
            let after = b.embeds.as_ref().map(|embedded| format!(", {embedded}")).unwrap_or_default();
            format!("founds the network {}, reviewed by {}{after}", b.origin, names(&admins))
        }
        Body::PartyEnrol(b) => {
            let roles: Vec<String> = b.roles.iter().map(|role| role.as_str().replace('_', " ")).collect();
            format!("joins as {}", roles.join(", "))
        }
        Body::KeyRotate(_) => "changes its keys".into(),
        Body::KeyRevoke(b) => format!("revokes the keys of {} ({})", b.party, b.code),
        Body::PolicyChange(b) => {
            format!("asks for {} of {} cosignatures: {}", b.quorum, b.validators.len(), names(&b.validators))
        }
        Body::Freeze(b) => format!("freezes the ledger ({})", b.code),
        Body::Handover(Handover { size, .. }) => {
            format!("takes over as coordinator with a new log key, from entry {size} on, by decision of the hospitals")
        }
        Body::DatasetOffer(b) => {
            format!("offers the data set {}: about {} rows, {} columns", b.name, b.rows_rounded, b.schema.len())
        }
        Body::AlgorithmOffer(b) => format!("offers the algorithm {} {}", b.name, b.version),
        Body::ComputeOffer(b) => format!("offers machines {}: {} cores for {} s", b.name, b.cores, b.seconds),
        Body::Heartbeat(_) => "says that it is there".into(),
        _ => return None,
    })
}

fn money(body: &Body) -> Option<String> {
    Some(match body {
        Body::Deposit(b) => format!("books in {} credits for {}", b.credits, b.party),
        Body::Payout(b) => format!("books out {} credits of {}", b.credits, b.party),
        Body::Transfer(b) => format!("gives {} credits to {}", b.credits, b.to),
        Body::Fund(b) => format!("pays {} credits into escrow", b.amount),
        Body::Settle(b) => {
            let paid = |posting: &Posting| format!("{} {}", posting.party, posting.credits);
            let paid: Vec<String> = b.postings.iter().map(paid).collect();
            let paid = if paid.is_empty() { "nobody: it was free".to_owned() } else { paid.join(", ") };
            format!("pays {paid}; {} credits go back", b.returned)
        }
        Body::BudgetGenesis(b) => {
            format!("gives the data set {} a privacy budget of epsilon {}", b.dataset, epsilon(b.epsilon_micro_limit))
        }
        Body::BudgetReserve(b) => format!("reserves epsilon {} of {}", epsilon(b.epsilon_micro), b.dataset),
        Body::BudgetSpend(b) => format!("books epsilon {} of {} as spent", epsilon(b.epsilon_micro), b.dataset),
        Body::BudgetRelease(b) => format!("frees the reserved epsilon of {}", b.dataset),
        _ => return None,
    })
}

fn agreement(body: &Body) -> Option<String> {
    Some(match body {
        Body::Propose(Propose { terms }) => {
            let (stages, credits) = (terms.stages.len(), terms.price.total_credits);
            format!(
                "proposes a contract: {stages} stages over the data of {}, {credits} credits",
                names(&terms.owners())
            )
        }
        Body::Amend(_) => "proposes other terms; whoever had signed signs anew".into(),
        Body::Accept(b) => format!("signs version {} of the terms", b.terms_version),
        Body::Reject(b) => format!("refuses to sign ({})", b.code),
        Body::Withdraw(b) if b.offer.is_some() => "takes an offer back".into(),
        Body::Withdraw(_) => "takes the proposal back".into(),
        Body::Arm(b) => format!("makes it executable: {} have signed", b.accepts.len()),
        Body::Suspend(b) => format!("stops the work ({})", b.code),
        Body::Resume(_) => "lets the work go on".into(),
        Body::Revoke(b) => {
            let sets: Vec<&str> = b.datasets.iter().map(|set| set.as_str()).collect();
            format!("takes its data out: {}", sets.join(", "))
        }
        Body::Abort(b) => format!("wants it to end ({})", b.code),
        Body::Expire(_) => "ends it: its time is over".into(),
        Body::Dispute(b) => format!("objects to the result ({})", b.code),
        Body::Resolve(Resolve { outcome, .. }) => match outcome {
            Outcome::Accepted => "decides that the result stands".into(),
            Outcome::Aborted => "decides that nothing is paid".into(),
            Outcome::Split { basis_points } => {
                format!("decides that {:.2} % is paid", f64::from(*basis_points) / 100.0)
            }
        },
        Body::AdminReview(b) => match b.verdict {
            Verdict::Ok => format!("has looked and found nothing ({})", b.code),
            Verdict::Flag => format!("asks people to look ({})", b.code),
            Verdict::Hold => format!("asks the hospitals to stop it ({})", b.code),
        },
        _ => return None,
    })
}

fn work(body: &Body) -> Option<String> {
    Some(match body {
        Body::KeyRecord(_) => "publishes its keys for the secure sum".into(),
        Body::RoundFreeze(b) => {
            format!(
                "fixes who takes part in the secure sum: {}, threshold {}",
                count(b.members.len(), "hospital"),
                b.threshold
            )
        }
        Body::StageStart(b) => format!("starts stage {}", b.stage),
        Body::RoundClose(b) => {
            format!("closes round {} of stage {} over {}", b.round, b.stage, count(b.survivors.len(), "hospital"))
        }
        Body::StageReceipt(StageReceipt {
            stage, rounds, rows_used, hospitals, epsilon_micro_spent, withheld, ..
        }) => {
            let (rounds, hospitals) = (count(*rounds as usize, "round"), count(hospitals.len(), "hospital"));
            let withheld = match withheld {
                0 => String::new(),
                more => format!("; {} withheld (disclosure control)", count(*more as usize, "number")),
            };
            match epsilon_micro_spent {
                0 => format!("finishes stage {stage}: {rounds}, {rows_used} rows, {hospitals}{withheld}"),
                micro => format!("finishes stage {stage}: {rounds}, {hospitals}, epsilon {}", epsilon(*micro)),
            }
        }
        Body::StageAccept(b) => format!("has the output of stage {}", b.stage),
        Body::Clear(_) => "has looked at the result and lets it go".into(),
        Body::Deliver(b) => format!("delivers the result to {}, encrypted", b.recipient),
        Body::AcceptResult(_) => "accepts the result".into(),
        _ => return None,
    })
}

fn names(parties: &[PartyId]) -> String {
    match parties {
        [] => "nobody".into(),
        few if few.len() <= 5 => few.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
        many => format!("{} and {} more", names(many.get(..4).unwrap_or_default()), many.len().saturating_sub(4)),
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}
