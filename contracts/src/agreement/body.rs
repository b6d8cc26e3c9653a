//! What an action says: one type for each kind, unknown fields denied. The fields are in `body_network.rs` (who takes part, what is
//! offered), `body_contract.rs` (a contract's steps) and `body_money.rs` (credits and budgets).

pub use super::body_contract::*;
pub use super::body_money::*;
pub use super::body_network::*;
use super::written::is_written_as;
use crate::ledger::canonical::INTEGER_MAX;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;

/// Why a body is not what its kind needs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// No such kind.
    #[error("the kind {0:?} is not known; this program may be older than the action, upgrade it")]
    UnknownKind(String),
    /// The fields do not fit.
    #[error("the body of {kind} does not fit: {why}")]
    Fields {
        /// The kind.
        kind: Kind,
        /// What does not.
        why: String,
    },
    /// Fields that mean the same but are written otherwise (an explicit null, a default written out).
    #[error(
        "the body of {0} is not written in its one canonical form; leave out absent fields instead of writing null"
    )]
    Form(Kind),
    /// A number beyond 2^53.
    #[error("the body of {0} holds a number beyond 2^53")]
    Number(Kind),
}

macro_rules! bodies {
    ($($name:ident($body:ty),)*) => {
        /// The kinds of action, as `Action::kind` names them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[allow(missing_docs)] // each is documented at the body of its name
        pub enum Kind { $($name,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word on the ledger.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }

        /// A typed body.
        #[derive(Debug, Clone, PartialEq, Eq)]
        #[allow(missing_docs)] // each is documented at its own type
        pub enum Body { $($name($body),)* }

        impl Body {
            /// Its kind.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$name(_) => Kind::$name,)* }
            }

            /// Reads the body of an action.
            ///
            /// # Errors
            /// [`BodyError`].
            pub fn parse(kind: &str, value: &Value) -> Result<Self, BodyError> {
                let kind = Kind::parse(kind).ok_or_else(|| BodyError::UnknownKind(kind.chars().take(40).collect()))?;
                let body = match kind {
                    $(Kind::$name => <$body>::deserialize(value).map(Self::$name),)*
                };
                let body = body.map_err(|e| BodyError::Fields { kind, why: e.to_string() })?;
                let written = match &body { $(Self::$name(body) => is_written_as(body, value),)* };
                // Only what does not seem to be written so is written anew, for the reason's name.
                if !(written && integers_fit(value)) && body.to_value()? != *value {
                    return Err(BodyError::Form(kind));
                }
                Ok(body)
            }

            /// Writes the body of an action.
            ///
            /// # Errors
            /// [`BodyError::Number`].
            pub fn to_value(&self) -> Result<Value, BodyError> {
                let kind = self.kind();
                let value = match self { $(Self::$name(body) => serde_json::to_value(body),)* };
                let value = value.map_err(|e| BodyError::Fields { kind, why: e.to_string() })?;
                if integers_fit(&value) { Ok(value) } else { Err(BodyError::Number(kind)) }
            }
        }

        $(impl From<$body> for Body {
            fn from(body: $body) -> Self {
                Self::$name(body)
            }
        })*
    };
}

bodies! {
    Genesis(Genesis),
    PartyEnrol(PartyEnrol),
    KeyRotate(KeyRotate),
    KeyRevoke(KeyRevoke),
    PolicyChange(PolicyChange),
    Freeze(Freeze),
    Handover(Handover),
    DatasetOffer(DatasetOffer),
    AlgorithmOffer(AlgorithmOffer),
    ComputeOffer(ComputeOffer),
    Withdraw(Withdraw),
    Propose(Propose),
    Amend(Amend),
    Accept(Accept),
    Reject(Reject),
    Fund(Fund),
    Arm(Arm),
    KeyRecord(KeyRecord),
    RoundFreeze(RoundFreeze),
    StageStart(StageStart),
    RoundClose(RoundClose),
    StageReceipt(StageReceipt),
    StageAccept(StageAccept),
    Clear(Clear),
    Deliver(Deliver),
    AcceptResult(AcceptResult),
    Dispute(Dispute),
    Resolve(Resolve),
    Settle(Settle),
    Suspend(Suspend),
    Resume(Resume),
    Revoke(Revoke),
    Abort(Abort),
    Expire(Expire),
    AdminReview(AdminReview),
    BudgetGenesis(BudgetGenesis),
    BudgetReserve(BudgetReserve),
    BudgetSpend(BudgetSpend),
    BudgetRelease(BudgetRelease),
    Deposit(Deposit),
    Payout(Payout),
    Transfer(Transfer),
    Heartbeat(Heartbeat),
}

impl Kind {
    /// Reads the word on the ledger.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == text)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn integers_fit(value: &Value) -> bool {
    match value {
        Value::Number(n) => match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => n <= INTEGER_MAX,
            (None, Some(n)) => n.unsigned_abs() <= INTEGER_MAX,
            (None, None) => false,
        },
        Value::Array(items) => items.iter().all(integers_fit),
        Value::Object(map) => map.values().all(integers_fit),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bodies_are_strict() {
        assert_eq!(Body::parse("Heartbeat", &json!({})), Ok(Body::Heartbeat(Heartbeat {})));
        assert_eq!(Body::parse("Fund", &json!({"amount": 5})), Ok(Body::Fund(Fund { amount: 5 })));
        assert!(matches!(Body::parse("Fund", &json!({"amount": 5, "x": 1})), Err(BodyError::Fields { .. })));
        assert!(matches!(Body::parse("Fund", &json!({"amount": 5.0})), Err(BodyError::Fields { .. })));
        assert_eq!(
            Body::parse("Fund", &json!({"amount": 9_007_199_254_740_993u64})),
            Err(BodyError::Number(Kind::Fund))
        );
        assert_eq!(Body::parse("Abort", &json!({"code": "x", "party": null})), Err(BodyError::Form(Kind::Abort)));
        assert_eq!(Body::parse("fund", &json!({})), Err(BodyError::UnknownKind("fund".into())));
    }

    #[test]
    fn kinds_have_one_word_each() {
        for (i, kind) in Kind::ALL.iter().enumerate() {
            assert_eq!(Kind::parse(kind.as_str()), Some(*kind));
            assert!(kind.as_str().len() <= 32);
            assert!(!Kind::ALL.iter().skip(i + 1).any(|other| other.as_str() == kind.as_str()));
        }
        assert_eq!(Kind::ALL.len(), 43);
    }
}
