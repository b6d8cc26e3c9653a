//! The hospital's own keys over time: a rotation on its way to the ledger, and which key signs meanwhile.
//!
//! New keys lie on this hospital's disk before anybody hears of them. The rotation is signed by the old party key and by the new one,
//! and the ledger alone says when it is in force: the keys are taken into use when the entry is certified here. Until then this node
//! cosigns with both generations, because the checkpoint that ends with a rotation needs the quorum before it and the one after it.
//! A crash at any point is answered by looking: at the disk, which has both generations, and at the ledger.

use ed25519_dalek::SigningKey;
use leben_contracts::agreement::body::{Body, KeyRotate};
use leben_contracts::agreement::hash::X25519Key;
use leben_contracts::agreement::party::{KeyPeriod, Party, PartyKeys};
use leben_contracts::ledger::key::PublicKey;
use leben_protocol::key::fingerprint;
use serde::{Deserialize, Serialize};

use super::{Action, Agent};
use crate::mirror::MirrorKeys;
use crate::refusal::{Reason, Refusal};

/// One generation of the keys that an agent signs with, and the public halves of all of it.
#[derive(Clone)]
pub struct Generation {
    /// Signs actions.
    pub party: SigningKey,
    /// Cosign.
    pub mirror: MirrorKeys,
    /// The keys as a rotation names them.
    pub public: PartyKeys,
    /// The x25519 key that things for this hospital are sealed to.
    pub sealing: X25519Key,
}

/// One key as people see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// `party`, `witness`, `validator`, `tls` or `sealing`.
    pub role: String,
    /// Its fingerprint.
    pub fingerprint: String,
    /// The entry that put it in force; `None` while it waits.
    pub since: Option<u64>,
    /// `in force`, `waits for the ledger`, `replaced in entry N`, `revoked in entry N`.
    pub state: String,
}

/// The keys that an agent signs with now, and those that wait.
pub(super) struct OwnKeys {
    party: SigningKey,
    next: Option<Generation>,
    /// Said once that the ledger has other keys in force.
    strange: bool,
}

impl OwnKeys {
    pub(super) fn new(party: SigningKey) -> OwnKeys {
        OwnKeys { party, next: None, strange: false }
    }
}

impl Agent {
    /// A rotation was found on the disk, whole: it goes to the ledger, unless the ledger has it already.
    pub fn handle_next_keys(&mut self, now_ms: u64, next: Generation) {
        self.mirror.set_next_keys(Some(&next.mirror));
        self.keys.next = Some(next);
        self.advance(now_ms);
    }

    /// Whether a rotation waits.
    pub fn is_rotating(&self) -> bool {
        self.keys.next.is_some()
    }

    /// Sends the rotation to the ledger, or takes it over once it is certified.
    pub(super) fn advance_keys(&mut self, now_ms: u64) {
        let certified = self.mirror.certified().party(self.party.as_str()).and_then(Party::current).cloned();
        let Some(in_force) = certified else { return };
        if let Some(next) = self.keys.next.clone().filter(|next| is_of(&in_force, next)) {
            return self.take_over(now_ms, next);
        }
        if in_force.keys.party == PublicKey::of(&self.keys.party) {
            let next =
                self.keys.next.as_ref().map(|next| KeyRotate { keys: next.public.clone(), sealing: next.sealing });
            if let Some(rotate) = next {
                self.append(now_ms, None, Body::KeyRotate(rotate));
            }
        } else if !std::mem::replace(&mut self.keys.strange, true) {
            let words = "the ledger has put other keys of this hospital in force than those in its folder keys/; if nobody \
                         here did that, have the keys revoked by the network's admins at once";
            self.audit(now_ms, "strange-keys", None, Some(&Refusal::new(Reason::Ledger, words)));
        }
    }

    fn take_over(&mut self, now_ms: u64, next: Generation) {
        self.mirror.set_keys(next.mirror);
        self.keys.party = next.party;
        self.keys.next = None;
        self.appends.sign_anew();
        self.actions.push_back(Action::PromoteKeys);
        self.audit(now_ms, "keys-rotated", None, None);
    }

    /// The keys that sign a body: both generations a rotation; else the one in force after everything validated here, which is
    /// where the ledger will look.
    pub(super) fn signing_keys(&self, body: &Body) -> Vec<SigningKey> {
        let Some(next) = &self.keys.next else { return vec![self.keys.party.clone()] };
        if matches!(body, Body::KeyRotate(_)) {
            let same = PublicKey::of(&next.party) == PublicKey::of(&self.keys.party);
            return if same { vec![next.party.clone()] } else { vec![self.keys.party.clone(), next.party.clone()] };
        }
        let now = self.mirror.validated().keys(self.party.as_str()).map(|keys| keys.party);
        let key = if now == Some(PublicKey::of(&next.party)) { &next.party } else { &self.keys.party };
        vec![key.clone()]
    }

    /// Every key that the ledger knows of this hospital, newest first, after those that wait.
    pub(super) fn key_views(&self) -> Vec<KeyView> {
        let party = self.mirror.certified().party(self.party.as_str());
        let in_force = party.and_then(Party::current);
        let mut views = Vec::new();
        if let Some(next) = &self.keys.next {
            let waiting = uses(&next.public, next.sealing).into_iter();
            for (role, key) in waiting.filter(|use_| in_force.is_none_or(|now| !uses_of(now).contains(use_))) {
                let (fingerprint, state) = (fingerprint(&key), "waits for the ledger".to_owned());
                views.push(KeyView { role: role.to_owned(), fingerprint, since: None, state });
            }
        }
        for used in party.map(Party::key_history).unwrap_or_default() {
            let (role, fingerprint) = (used.role.to_owned(), fingerprint(&used.key));
            views.push(KeyView { role, fingerprint, since: Some(used.since), state: used.fate.to_string() });
        }
        views
    }
}

fn is_of(period: &KeyPeriod, generation: &Generation) -> bool {
    period.keys == generation.public && period.sealing == generation.sealing
}

type Use = (&'static str, [u8; 32]);

fn uses(keys: &PartyKeys, sealing: X25519Key) -> Vec<Use> {
    keys.each().map(|(role, key)| (role, key.to_bytes())).chain([("sealing", sealing.0)]).collect()
}

fn uses_of(period: &KeyPeriod) -> Vec<Use> {
    uses(&period.keys, period.sealing)
}
