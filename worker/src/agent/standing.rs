//! What people at the hospital decided about a contract.

use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::party::Code;
use leben_protocol::frame::ContractId;
use serde::{Deserialize, Serialize};

use super::{Action, Agent};
use crate::consent::Approval;
use crate::refusal::{Reason, Refusal};

/// A decision, kept durably. Lost: the contract waits for approval again, nothing runs. Rolled back: the same, or an approval
/// that was given. Forged: by whoever can write the hospital's folder. Grows: one small file a contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standing {
    /// Terms that were approved, by hash.
    pub approved: Option<Hash32>,
    /// The local policy in force then, by hash.
    pub policy: Option<Hash32>,
    /// Whether the policy approved, not a person.
    #[serde(default)]
    pub by_policy: bool,
    /// Refused, with a code for the ledger.
    pub refused: Option<Code>,
    /// Stopped here, whatever the ledger says.
    #[serde(default)]
    pub suspended: bool,
    /// The data was taken out, whatever the ledger says.
    #[serde(default)]
    pub revoked: bool,
    /// The result that a person looked at and let go.
    #[serde(default)]
    pub cleared: Option<Hash32>,
    /// What the ledger does not show yet.
    pub wish: Option<Wish>,
}

/// A step that a person wants on the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Wish {
    /// Stop the work within one round.
    Suspend {
        /// Why.
        code: Code,
    },
    /// Let it go on.
    Resume,
    /// Take the data out.
    Revoke,
}

/// What a person asks the agent to do, by the command line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Sign these terms.
    Approve {
        /// The contract, hex.
        contract: Hash32,
        /// The terms that were shown.
        terms_hash: Hash32,
    },
    /// Do not sign.
    Refuse {
        /// The contract, hex.
        contract: Hash32,
        /// Why.
        code: Code,
    },
    /// Stop.
    Suspend {
        /// The contract, hex.
        contract: Hash32,
        /// Why.
        code: Code,
    },
    /// Go on.
    Resume {
        /// The contract, hex.
        contract: Hash32,
    },
    /// Take the data out.
    Revoke {
        /// The contract, hex.
        contract: Hash32,
    },
    /// Let the result go.
    Clear {
        /// The contract, hex.
        contract: Hash32,
        /// Commitment to the result that was shown.
        result: Hash32,
    },
}

impl Standing {
    /// The approval, where there is one and nothing stands against it.
    pub fn approval(&self) -> Option<Approval> {
        let live = !self.suspended && !self.revoked && self.refused.is_none();
        match (self.approved, self.policy) {
            (Some(terms_hash), Some(policy_hash)) if live => Some(Approval { terms_hash, policy_hash }),
            _ => None,
        }
    }

    /// What a person's decision rules out, whatever the ledger says.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.revoked {
            return Err(Refusal::new(Reason::Revoked, "this hospital took its data out of the contract"));
        }
        if self.suspended {
            return Err(Refusal::new(Reason::Suspended, "a person at this hospital stopped the contract"));
        }
        match &self.refused {
            Some(code) => Err(Refusal::new(Reason::Steward, format!("a person at this hospital refused it: {code}"))),
            None => Ok(()),
        }
    }
}

impl Command {
    /// The contract it is about.
    pub fn contract(&self) -> ContractId {
        match self {
            Command::Approve { contract, .. }
            | Command::Refuse { contract, .. }
            | Command::Suspend { contract, .. }
            | Command::Resume { contract }
            | Command::Clear { contract, .. }
            | Command::Revoke { contract } => contract.0,
        }
    }

    fn event(&self) -> &'static str {
        match self {
            Command::Approve { .. } => "approved",
            Command::Refuse { .. } => "refused-by-steward",
            Command::Suspend { .. } => "suspended",
            Command::Resume { .. } => "resumed",
            Command::Revoke { .. } => "revoked",
            Command::Clear { .. } => "result-cleared",
        }
    }
}

impl Agent {
    /// A person's decision. It is stored first, holds here at once, and then goes to the ledger.
    pub fn handle_command(&mut self, now_ms: u64, command: Command) {
        let id = command.contract();
        let policy = self.declared.policy.hash();
        let standing = self.standings.entry(id).or_default();
        match &command {
            Command::Approve { terms_hash, .. } => {
                standing.approved = Some(*terms_hash);
                standing.policy = Some(policy);
                standing.by_policy = false;
                standing.refused = None;
            }
            Command::Refuse { code, .. } => {
                standing.approved = None;
                standing.refused = Some(code.clone());
            }
            Command::Suspend { code, .. } => {
                standing.suspended = true;
                standing.wish = Some(Wish::Suspend { code: code.clone() });
            }
            // A revoked contract is not taken up again by a later `resume`.
            Command::Resume { .. } if !standing.revoked => {
                standing.suspended = false;
                standing.wish = Some(Wish::Resume);
            }
            Command::Resume { .. } => {}
            Command::Clear { result, .. } => standing.cleared = Some(*result),
            Command::Revoke { .. } => {
                standing.revoked = true;
                standing.wish = Some(Wish::Revoke);
            }
        }
        self.store_standing(id);
        self.audit(now_ms, command.event(), Some(&id), None);
        self.advance(now_ms);
    }

    pub(super) fn store_standing(&mut self, id: ContractId) {
        let standing = self.standings.get(&id).cloned().unwrap_or_default();
        self.actions.push_back(Action::StoreStanding { contract: id, standing });
    }
}
