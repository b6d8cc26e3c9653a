//! What stands behind one entry: whose keys signed it, and which cosigned checkpoint proves it.

use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::{Entry, pre_authentication};
use leben_contracts::verify::{ProofReport, verify_proof};
use serde_json::{Value, json};

use crate::ledger::Ledger;

/// One signature on an entry, looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key's id.
    pub keyid: String,
    /// Whose key it is, if anybody's.
    pub party: Option<String>,
    /// Whether the key was in force at that entry.
    pub in_force: bool,
    /// Whether the signature verifies under it.
    pub verifies: bool,
}

impl Signer {
    /// Whether it counts.
    pub fn is_good(&self) -> bool {
        self.party.is_some() && self.in_force && self.verifies
    }

    /// In words.
    pub fn to_text(&self) -> String {
        let key: String = self.keyid.chars().take(16).collect();
        let party = self.party.as_deref().unwrap_or("nobody that is enrolled");
        let why = match (self.party.is_some(), self.in_force, self.verifies) {
            (false, ..) => "",
            (true, false, _) => ": NOT IN FORCE at this entry",
            (true, true, false) => ": DOES NOT VERIFY",
            (true, true, true) => ", verified",
        };
        format!("{party} (key {key}{why})")
    }
}

/// The signatures of the entry at `index`, under the keys that its ledger had in force there.
pub fn signers(state: &State, index: u64, entry: &Entry) -> Vec<Signer> {
    let message = pre_authentication(entry.envelope().payload());
    let look = |keyid: &str, sig: &[u8; 64]| {
        let periods = state.parties().flat_map(|party| party.periods.iter().map(move |period| (party, period)));
        let mut by_key: Vec<_> = periods.filter(|(_, period)| period.keys.party.keyid() == keyid).collect();
        // A key signs its own enrolment and the entry that ends it.
        let covers = |from: u64, until: Option<u64>| from <= index && until.is_none_or(|until| index <= until);
        by_key.sort_by_key(|(_, period)| !covers(period.from_index, period.until_index));
        let found = by_key.first();
        Signer {
            keyid: keyid.to_owned(),
            party: found.map(|(party, _)| party.id.to_string()),
            in_force: found.is_some_and(|(_, period)| covers(period.from_index, period.until_index)),
            verifies: found.is_some_and(|(_, period)| period.keys.party.verify_strict(&message, sig).is_ok()),
        }
    };
    entry.envelope().signatures().iter().map(|s| look(&s.keyid, &s.sig)).collect()
}

/// What proves an entry, as far as this copy of the ledger can tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proven {
    /// A checkpoint over it carries the quorum that the ledger asks for.
    Final(ProofReport),
    /// The ledger does not ask for cosignatures yet.
    LogAlone {
        /// Entries under the checkpoint.
        size: u64,
    },
    /// It is not, and why.
    Not(String),
}

/// Proves one entry under the checkpoint of this copy and the policy that its entries put in force.
pub fn proven(ledger: &Ledger, index: u64, entry: &Entry) -> Proven {
    let proof = match ledger.proof(index) {
        Ok(proof) => proof.to_string(),
        Err(error) => return Proven::Not(error.to_string()),
    };
    match ledger.policy() {
        None => Proven::LogAlone { size: ledger.size() },
        Some(policy) => match verify_proof(proof.as_bytes(), &policy, entry.bytes()) {
            Ok(report) => Proven::Final(report),
            Err(error) => Proven::Not(error.to_string()),
        },
    }
}

impl Proven {
    /// In words.
    pub fn to_text(&self) -> String {
        match self {
            Self::Final(report) => {
                let names: Vec<&str> = report.cosigners.iter().map(|(name, _)| name.as_str()).collect();
                format!(
                    "final: in the checkpoint of {} entries, cosigned by {}",
                    report.checkpoint.size,
                    names.join(", ")
                )
            }
            Self::LogAlone { size } => {
                format!("in the checkpoint of {size} entries; the ledger asks for no cosignatures yet")
            }
            Self::Not(why) => format!("NOT PROVEN: {why}"),
        }
    }

    /// For scripts.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Final(report) => {
                let names: Vec<&str> = report.cosigners.iter().map(|(name, _)| name.as_str()).collect();
                json!({ "final": true, "size": report.checkpoint.size, "cosigners": names })
            }
            Self::LogAlone { size } => json!({ "final": false, "size": size, "cosigners": [] }),
            Self::Not(why) => json!({ "final": false, "error": why }),
        }
    }
}
