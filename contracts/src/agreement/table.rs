//! The one table of a contract's steps: from which phase, by whom, in which order, to which phase. The state machine asks it before
//! anything else; the test of every phase, actor and step reads it back from the outside.

use super::body::Kind;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a contract stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Terms are on the ledger, nobody has signed this version.
    Proposed,
    /// Some have signed.
    PartlySigned,
    /// Everybody has signed.
    Signed,
    /// Armed: this is the executable contract.
    Executable,
    /// A stage has started.
    Running,
    /// An owner, or the admins, stopped it.
    Suspended,
    /// The result is with the recipient.
    Delivered,
    /// Somebody objects.
    Disputed,
    /// The result stands.
    Accepted,
    /// Paid. Terminal.
    Settled,
    /// A signatory refused. Terminal.
    Rejected,
    /// The initiator took it back. Terminal.
    Withdrawn,
    /// Ended without a result. Terminal.
    Aborted,
    /// A window passed. Terminal.
    Expired,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Self; 14] = [
        Self::Proposed,
        Self::PartlySigned,
        Self::Signed,
        Self::Executable,
        Self::Running,
        Self::Suspended,
        Self::Delivered,
        Self::Disputed,
        Self::Accepted,
        Self::Settled,
        Self::Rejected,
        Self::Withdrawn,
        Self::Aborted,
        Self::Expired,
    ];

    /// Whether nothing leaves it.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Settled | Self::Rejected | Self::Withdrawn | Self::Aborted | Self::Expired)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Who may take a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// Who proposed.
    Initiator,
    /// Everybody who has to sign, less owners who revoked.
    Signatory,
    /// The data user.
    Payer,
    /// An owner who has not revoked.
    Owner,
    /// The network's coordinator.
    Coordinator,
    /// The executor of the stage that the body names.
    Executor,
    /// The recipient, or the executor of a stage that depends on the one named.
    Consumer,
    /// An integrator of the terms.
    Integrator,
    /// The recipient of the result.
    Recipient,
    /// An arbiter of the terms; an admin of the network where the terms name no arbiter.
    Arbiter,
    /// An admin of the network.
    Admin,
    /// Any enrolled party.
    Anyone,
}

/// How a step is kept from being taken on a contract that has moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// It names the leaf hash of the last sequential step as `prev`.
    Sequential,
    /// Several parties take it at once; it names the terms' version.
    Parallel,
}

/// One row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The step.
    pub kind: Kind,
    /// Phases in which it may be taken.
    pub from: &'static [Phase],
    /// Who may take it.
    pub who: &'static [Who],
    /// Compare-and-swap or version.
    pub order: Order,
    /// Phases in which it may end; a phase of `from` where it changes nothing.
    pub to: &'static [Phase],
}

use Order::{Parallel, Sequential};
use Phase::{
    Aborted, Accepted, Delivered, Disputed, Executable, Expired, PartlySigned, Proposed, Rejected, Running, Settled,
    Signed, Suspended, Withdrawn,
};

const fn rule(kind: Kind, from: &'static [Phase], who: &'static [Who], order: Order, to: &'static [Phase]) -> Rule {
    Rule { kind, from, who, order, to }
}

const OPEN: &[Phase] = &[Proposed, PartlySigned];
const LIVE: &[Phase] = &[Executable, Running];
const BEFORE_DELIVERY: &[Phase] = &[Proposed, PartlySigned, Signed, Executable, Running, Suspended];
const UNTIL_DECIDED: &[Phase] = &[Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed];

/// Every step on a contract that exists. Propose makes one and is not in the table.
pub const RULES: &[Rule] = &[
    rule(Kind::Amend, OPEN, &[Who::Signatory], Sequential, &[Proposed]),
    rule(Kind::Accept, OPEN, &[Who::Signatory], Parallel, &[PartlySigned, Signed]),
    rule(Kind::Reject, OPEN, &[Who::Signatory], Parallel, &[Rejected]),
    rule(Kind::Withdraw, OPEN, &[Who::Initiator], Parallel, &[Withdrawn]),
    rule(Kind::Fund, &[Signed], &[Who::Payer], Parallel, &[Signed]),
    rule(Kind::BudgetReserve, &[PartlySigned, Signed], &[Who::Owner], Parallel, &[PartlySigned, Signed]),
    rule(Kind::BudgetRelease, &[PartlySigned, Signed], &[Who::Owner], Parallel, &[PartlySigned, Signed]),
    rule(
        Kind::BudgetSpend,
        &[Delivered, Disputed, Accepted],
        &[Who::Owner],
        Parallel,
        &[Delivered, Disputed, Accepted],
    ),
    rule(Kind::Arm, &[Signed], &[Who::Coordinator], Sequential, &[Executable]),
    rule(Kind::KeyRecord, LIVE, &[Who::Owner], Parallel, LIVE),
    rule(Kind::RoundFreeze, LIVE, &[Who::Coordinator], Sequential, LIVE),
    rule(Kind::StageStart, LIVE, &[Who::Executor], Sequential, &[Running]),
    rule(Kind::RoundClose, &[Running], &[Who::Coordinator], Sequential, &[Running]),
    rule(Kind::StageReceipt, &[Running], &[Who::Executor], Sequential, &[Running]),
    rule(Kind::StageAccept, &[Running], &[Who::Consumer, Who::Coordinator], Parallel, &[Running]),
    rule(Kind::Clear, &[Running], &[Who::Owner], Parallel, &[Running]),
    rule(Kind::Deliver, &[Running], &[Who::Integrator], Sequential, &[Delivered]),
    rule(Kind::AcceptResult, &[Delivered], &[Who::Recipient, Who::Coordinator], Sequential, &[Accepted]),
    rule(Kind::Dispute, &[Delivered], &[Who::Signatory], Sequential, &[Disputed]),
    rule(Kind::Resolve, &[Disputed], &[Who::Arbiter], Parallel, &[Disputed, Accepted, Aborted]),
    rule(Kind::Settle, &[Accepted], &[Who::Coordinator], Sequential, &[Settled]),
    // Suspended -> Suspended: a second owner makes sure that the first one's Resume does not start the work again.
    rule(
        Kind::Suspend,
        &[Executable, Running, Suspended],
        &[Who::Owner, Who::Admin],
        Parallel,
        &[Executable, Running, Suspended],
    ),
    rule(Kind::Resume, &[Suspended], &[Who::Owner, Who::Admin], Parallel, &[Suspended, Executable, Running]),
    rule(
        Kind::Revoke,
        BEFORE_DELIVERY,
        &[Who::Owner],
        Parallel,
        &[Proposed, PartlySigned, Signed, Executable, Running, Suspended, Aborted],
    ),
    rule(
        Kind::Abort,
        UNTIL_DECIDED,
        &[Who::Signatory, Who::Coordinator],
        Parallel,
        &[Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed, Aborted],
    ),
    // From Delivered on only after the holds have timed out: nobody can be paid any more.
    rule(
        Kind::Expire,
        &[Proposed, PartlySigned, Signed, Executable, Running, Suspended, Delivered, Disputed, Accepted],
        &[Who::Anyone],
        Parallel,
        &[Expired],
    ),
    rule(Kind::AdminReview, &Phase::ALL, &[Who::Admin], Parallel, &Phase::ALL),
];

/// The row of a step; none for an action that is not a step on a contract.
#[must_use]
pub fn rule_of(kind: Kind) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.kind == kind)
}
