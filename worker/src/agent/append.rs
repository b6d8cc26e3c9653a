//! The hospital's own actions on their way to the ledger: signed once, sent until they are there, never twice.

use std::collections::BTreeMap;

use leben_contracts::agreement::body::{self, Body};
use leben_contracts::agreement::contract::Contract;
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::party::Role;
use leben_contracts::ledger::entry::Envelope;
use leben_protocol::reject::Reject;

use super::{Action, Agent};
use crate::refusal::{Reason, Refusal};

/// What is being appended, for example `Accept/<contract>`: one of its kind at a time.
pub type AppendKey = String;

/// How long a signed action may wait before it is signed anew, milliseconds.
const LATE_MS: u64 = 10 * 60 * 1000;
/// How long after a refusal the same is tried again, milliseconds.
const RETRY_MS: u64 = 60 * 1000;

/// Everything under way.
#[derive(Default)]
pub(super) struct Appends(BTreeMap<AppendKey, Sent>);

struct Sent {
    envelope: Vec<u8>,
    signed_ms: u64,
    stage: Stage,
}

enum Stage {
    /// To be sent when there is a link.
    Waiting,
    /// Sent, no answer yet.
    Asked,
    /// Sequenced under this index; the certified ledger will show it.
    Sequenced(u64),
    /// Refused; not tried again before this time.
    Refused(u64),
}

impl Appends {
    pub(super) fn handle_linked(&mut self) {
        self.handle_unlinked();
    }

    pub(super) fn handle_unlinked(&mut self) {
        for sent in self.0.values_mut().filter(|sent| matches!(sent.stage, Stage::Asked)) {
            sent.stage = Stage::Waiting;
        }
    }

    /// Other keys are in force: what the ledger does not have yet is signed again.
    pub(super) fn sign_anew(&mut self) {
        self.0.retain(|_, sent| matches!(sent.stage, Stage::Sequenced(_)));
    }
}

impl Agent {
    /// Wants an action on the ledger. Says nothing where it is under way already, or the ledger would refuse it.
    pub(super) fn append(&mut self, now_ms: u64, contract: Option<&Contract>, body: Body) {
        let kind = body.kind().as_str();
        let key = match (&body, contract) {
            (Body::DatasetOffer(offer), _) => format!("{kind}/{}", offer.name),
            (Body::BudgetGenesis(body), _) => format!("{kind}/{}", body.dataset),
            (Body::BudgetReserve(body::BudgetReserve { dataset, .. }), Some(contract))
            | (Body::BudgetSpend(body::BudgetSpend { dataset, .. }), Some(contract))
            | (Body::BudgetRelease(body::BudgetRelease { dataset }), Some(contract)) => {
                format!("{kind}/{}/{dataset}", contract.id)
            }
            (_, Some(contract)) => format!("{kind}/{}", contract.id),
            (_, None) => kind.to_owned(),
        };
        let certified = self.mirror.certified_size();
        if let Some(sent) = self.appends.0.get(&key) {
            let under_way = match sent.stage {
                Stage::Waiting | Stage::Asked => now_ms < sent.signed_ms.saturating_add(LATE_MS),
                Stage::Sequenced(index) => index >= certified,
                Stage::Refused(until_ms) => now_ms < until_ms,
            };
            if under_way {
                return;
            }
        }
        let signed = match self.sign(now_ms, contract, &body) {
            Ok(signed) => signed,
            Err(words) => return self.refused_here(now_ms, key, contract, words),
        };
        // Not final yet, but this copy has seen it already, or something that rules it out.
        let seq_ms = now_ms.max(self.mirror.validated().now_ms());
        if self.mirror.validated().check(seq_ms, &signed).is_err() {
            return;
        }
        self.appends.0.insert(key, Sent { envelope: signed.to_bytes(), signed_ms: now_ms, stage: Stage::Waiting });
    }

    /// Sends what waits for a link.
    pub(super) fn send_appends(&mut self) {
        if !self.linked {
            return;
        }
        for (key, sent) in &mut self.appends.0 {
            if matches!(sent.stage, Stage::Waiting) {
                sent.stage = Stage::Asked;
                self.actions.push_back(Action::Append { key: key.clone(), envelope: sent.envelope.clone() });
            }
        }
    }

    /// The answer to an [`Action::Append`]: its index, or why not. `Err(None)`: the link broke before there was one.
    pub fn handle_appended(&mut self, now_ms: u64, key: &AppendKey, answer: Result<u64, Option<Reject>>) {
        let Some(sent) = self.appends.0.get_mut(key) else { return };
        match answer {
            Ok(index) => sent.stage = Stage::Sequenced(index),
            Err(None) => sent.stage = Stage::Waiting,
            Err(Some(reject)) => {
                sent.stage = Stage::Refused(now_ms.saturating_add(RETRY_MS));
                let refusal = Refusal::new(Reason::Ledger, format!("the ledger refused {key}: {reject}"));
                self.audit(now_ms, "append-refused", None, Some(&refusal));
            }
        }
        self.advance(now_ms);
    }

    fn sign(&mut self, now_ms: u64, contract: Option<&Contract>, body: &Body) -> Result<Envelope, String> {
        let random = self.fresh_seed();
        let nonce = random.first_chunk::<16>().copied().unwrap_or_default();
        let now_ms = now_ms.max(self.mirror.validated().now_ms());
        let header = Header { actor: &self.party, role: Role::DataOwner, now_ms, valid_ms: LATE_MS, nonce };
        let id = contract.map(|contract| contract.id);
        let action = self.mirror.certified().draft(body, id.as_ref(), &header).map_err(|error| error.to_string())?;
        let keys = self.signing_keys(body);
        Envelope::sign(&action, &keys.iter().collect::<Vec<_>>()).map_err(|error| error.to_string())
    }

    fn refused_here(&mut self, now_ms: u64, key: AppendKey, contract: Option<&Contract>, words: String) {
        let until_ms = now_ms.saturating_add(RETRY_MS);
        let refusal = Refusal::new(Reason::Ledger, format!("{key} could not be signed: {words}"));
        self.appends.0.insert(key, Sent { envelope: Vec::new(), signed_ms: now_ms, stage: Stage::Refused(until_ms) });
        let id = contract.map(|contract| contract.id.0);
        self.audit(now_ms, "append-refused", id.as_ref(), Some(&refusal));
    }
}
