//! A newcomer with an invite becomes a party: it signs with its new key, the coordinator countersigns.

use std::sync::Arc;

use leben_contracts::agreement::body::{Body, Deposit, PartyEnrol};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::{OrgKind, Role};
use leben_contracts::ledger::entry::Envelope;
use leben_protocol::frame::Answer;
use leben_protocol::invite;
use leben_protocol::quic::Connection;
use leben_protocol::reject::{Reject, RejectCode};

use super::clock::now_ms;
use super::server::Service;
use super::store::Invited;

/// Enrols the sender of `envelope`, whose link key must be the one it enrols.
pub async fn enrol(link: &Connection, envelope: &[u8], code: &str, service: &Arc<Service>) -> Result<Answer, Reject> {
    let bad_invite = |text: &str| Reject::new(RejectCode::BadInvite, text);
    let internal = |error: std::io::Error| Reject::new(RejectCode::Internal, error.to_string());
    let invited =
        service.store.invite(code).map_err(internal)?.ok_or_else(|| bad_invite("the code is not known here"))?;
    if now_ms() > invited.expires_ms {
        return Err(bad_invite("its time is over"));
    }
    let mut envelope =
        Envelope::parse(envelope).map_err(|error| Reject::new(RejectCode::EntryRefused, error.to_string()))?;
    let action = envelope.action();
    let body =
        Body::parse(&action.kind, &action.body).map_err(|e| Reject::new(RejectCode::EntryRefused, e.to_string()))?;
    let Body::PartyEnrol(body) = body else {
        return Err(Reject::new(RejectCode::NotAllowed, "an invite is for an enrolment, nothing else"));
    };
    check(&body, code, &invited, &link.peer_key())?;
    let author = service.ledger.with_final(|state, _| service.author.key(state))?;
    envelope.countersign(&author).map_err(|error| Reject::new(RejectCode::EntryRefused, error.to_string()))?;
    let appended = service.ledger.append(envelope.to_bytes(), true).await?;
    service.store.drop_invite(code).map_err(internal)?;
    tracing::info!(party = %body.party, "enrolled");
    if invited.credits > 0 {
        let deposit = Deposit {
            party: body.party.clone(),
            credits: invited.credits,
            receipt_hash: Hash32::of("leben/invite-credits/1", code.as_bytes()),
        };
        service.ledger.append_own(None, Body::Deposit(deposit)).await?;
    }
    Ok(Answer::Appended { index: appended.index, proof: appended.proof })
}

fn check(body: &PartyEnrol, code: &str, invited: &Invited, link_key: &[u8; 32]) -> Result<(), Reject> {
    let refused = |text: String| Err(Reject::new(RejectCode::BadInvite, text));
    if body.party.as_str() != invited.party {
        return refused(format!("it was issued for '{}', not '{}'", invited.party, body.party));
    }
    let (kind, allowed) = match invited.kind.as_str() {
        "hospital" => (OrgKind::Hospital, vec![Role::DataOwner]),
        // The ledger takes an admin's enrolment only with another admin's signature on it.
        "admin" => (OrgKind::Team, vec![Role::Admin]),
        _ => (OrgKind::Team, vec![Role::DataUser]),
    };
    if body.kind != kind || body.roles != allowed {
        return refused(format!("it was issued for a {}", invited.kind));
    }
    if body.invite_hash.to_string() != invite::code_hash(code) {
        return refused("the enrolment names another invite".into());
    }
    if body.keys.tls.to_bytes() != *link_key {
        return Err(Reject::new(RejectCode::BadSignature, "the enrolment names another link key than this link's"));
    }
    Ok(())
}
