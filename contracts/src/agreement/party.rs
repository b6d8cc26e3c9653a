//! Who takes part: an organisation's name, what it may do, and the public keys it signs with.

use super::hash::X25519Key;
use crate::ledger::key::{PublicKey, Text};
use serde::{Deserialize, Deserializer, Serialize};
use std::borrow::Borrow;
use std::fmt;

/// Longest name of a party, offer, input, stage or code, in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Names that no party has: in a witness policy, where validators stand by their names, they mean the group and that there is no quorum.
pub const NOT_PARTIES: [&str; 2] = ["hospitals", "none"];

/// A name that breaks the rule `[a-z0-9.-]{1,64}` (codes may also hold `_`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name: use 1 to {NAME_BYTES_MAX} of a-z, 0-9, '.', '-'{1}")]
pub struct NameError(pub String, pub &'static str);

/// The name of an organisation on the ledger, `[a-z0-9.-]{1,64}`, not one of [`NOT_PARTIES`]. Never a person's name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct PartyId(String);

/// A short machine-readable token, `[a-z0-9._-]{1,64}`: reason codes, names of offers, inputs and outputs. No free text is on the log.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Code(String);

fn check_party(text: &str) -> Result<(), NameError> {
    match NOT_PARTIES.contains(&text) {
        true => Err(NameError(text.to_owned(), "; this one means something else in a witness policy, choose another")),
        false => check_name(text, false),
    }
}

fn check_code(text: &str) -> Result<(), NameError> {
    check_name(text, true)
}

fn check_name(text: &str, underscore: bool) -> Result<(), NameError> {
    let allowed =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-' || (underscore && b == b'_');
    if text.is_empty() || text.len() > NAME_BYTES_MAX || !text.bytes().all(allowed) {
        let extra = if underscore { ", '_'" } else { "" };
        return Err(NameError(text.chars().take(80).collect(), extra));
    }
    Ok(())
}

macro_rules! name {
    ($name:ident, $check:ident) => {
        impl $name {
            /// Checks the rule.
            ///
            /// # Errors
            /// [`NameError`] quotes the text.
            pub fn new(text: &str) -> Result<Self, NameError> {
                $check(text).map(|()| Self(text.to_owned()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<&str> for $name {
            type Error = NameError;
            fn try_from(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                d.deserialize_str(Text(Self::new))
            }
        }
    };
}

name!(PartyId, check_party);
name!(Code, check_code);

/// What a party may do; an action names the role it is taken in, and the party must hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Asks for a computation and receives its result; pays.
    DataUser,
    /// A hospital that owns data sets.
    DataOwner,
    /// Offers code.
    AlgorithmProvider,
    /// Offers machines.
    ComputeProvider,
    /// Runs the stages that join, and delivers.
    Integrator,
    /// Decides disputes of a contract that names it.
    Arbiter,
    /// Reviews the ledger, enrols organisations.
    Admin,
    /// Sequences the ledger, arms and settles contracts. One party at a time, from Genesis or a Handover.
    Coordinator,
}

impl Role {
    /// Every role, in order.
    pub const ALL: [Self; 8] = [
        Self::DataUser,
        Self::DataOwner,
        Self::AlgorithmProvider,
        Self::ComputeProvider,
        Self::Integrator,
        Self::Arbiter,
        Self::Admin,
        Self::Coordinator,
    ];

    /// The word on the ledger.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DataUser => "data_user",
            Self::DataOwner => "data_owner",
            Self::AlgorithmProvider => "algorithm_provider",
            Self::ComputeProvider => "compute_provider",
            Self::Integrator => "integrator",
            Self::Arbiter => "arbiter",
            Self::Admin => "admin",
            Self::Coordinator => "coordinator",
        }
    }

    /// Reads the word on the ledger.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an organisation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OrgKind {
    /// Owns data and runs a worker; witnesses the ledger.
    Hospital,
    /// An AI team, an algorithm provider, an arbiter, an admin's office.
    Team,
    /// Operates the ledger.
    Coordinator,
}

/// An organisation's ed25519 keys, each for one use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyKeys {
    /// Signs actions.
    pub party: PublicKey,
    /// Cosigns consistency of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub witness: Option<PublicKey>,
    /// Cosigns after replaying the state machine; counted by the policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validator: Option<PublicKey>,
    /// Identifies the organisation's end of a connection.
    pub tls: PublicKey,
}

impl PartyKeys {
    /// The keys with the name of their use.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, PublicKey)> {
        [("party", Some(self.party)), ("witness", self.witness), ("validator", self.validator), ("tls", Some(self.tls))]
            .into_iter()
            .filter_map(|(name, key)| key.map(|key| (name, key)))
    }
}

/// Keys in force from one entry until another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPeriod {
    /// The entry that put the keys in force (they may sign from the next entry on).
    pub from_index: u64,
    /// The entry that replaced or revoked them.
    pub until_index: Option<u64>,
    /// The keys.
    pub keys: PartyKeys,
    /// The x25519 key that results and sealed shares for this party are encrypted to.
    pub sealing: X25519Key,
}

/// One key of a party over its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse {
    /// `party`, `witness`, `validator`, `tls` or `sealing`.
    pub role: &'static str,
    /// The 32 bytes of the public key.
    pub key: [u8; 32],
    /// The entry that put it in force.
    pub since: u64,
    /// What became of it.
    pub fate: KeyFate,
}

/// What became of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFate {
    /// In force.
    InForce,
    /// Another one took its place, in this entry.
    Replaced(u64),
    /// Revoked in this entry, with nothing in its place.
    Revoked(u64),
}

impl fmt::Display for KeyFate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InForce => f.write_str("in force"),
            Self::Replaced(index) => write!(f, "replaced in entry {index}"),
            Self::Revoked(index) => write!(f, "revoked in entry {index}"),
        }
    }
}

/// An enrolled organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Party {
    /// Its name.
    pub id: PartyId,
    /// What it is.
    pub kind: OrgKind,
    /// What it may do; sorted.
    pub roles: Vec<Role>,
    /// Its keys over time, oldest first.
    pub periods: Vec<KeyPeriod>,
}

impl Party {
    /// The keys in force now; none after a revocation.
    #[must_use]
    pub fn current(&self) -> Option<&KeyPeriod> {
        self.periods.last().filter(|p| p.until_index.is_none())
    }

    /// The keys in force now; none after a revocation.
    #[must_use]
    pub fn keys(&self) -> Option<&PartyKeys> {
        self.current().map(|p| &p.keys)
    }

    /// The entry that revoked the party's keys, where none took their place.
    #[must_use]
    pub fn revoked_in(&self) -> Option<u64> {
        self.periods.last().and_then(|last| last.until_index)
    }

    /// The keys that an entry at `index` had to be signed with.
    #[must_use]
    pub fn keys_at(&self, index: u64) -> Option<&PartyKeys> {
        let in_force = |p: &&KeyPeriod| p.from_index <= index && p.until_index.is_none_or(|until| index <= until);
        self.periods.iter().find(in_force).map(|p| &p.keys)
    }

    /// Each key that the party ever had, once for its use; newest first.
    #[must_use]
    pub fn key_history(&self) -> Vec<KeyUse> {
        let mut found: Vec<KeyUse> = Vec::new();
        for (i, period) in self.periods.iter().enumerate() {
            let rotated = |until: u64| self.periods.get(i + 1).is_some_and(|next| next.from_index == until);
            let fate = match period.until_index {
                None => KeyFate::InForce,
                Some(until) if rotated(until) => KeyFate::Replaced(until),
                Some(until) => KeyFate::Revoked(until),
            };
            let uses =
                period.keys.each().map(|(role, key)| (role, key.to_bytes())).chain([("sealing", period.sealing.0)]);
            for (role, key) in uses {
                match found.iter_mut().find(|known| known.role == role && known.key == key) {
                    Some(known) => known.fate = fate,
                    None => found.push(KeyUse { role, key, since: period.from_index, fate }),
                }
            }
        }
        found.reverse();
        found
    }

    /// Whether the party holds a role.
    #[must_use]
    pub fn has_role(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for good in ["ukl", "st-mary.example", "a", &"x".repeat(64)] {
            assert!(PartyId::new(good).is_ok(), "{good}");
        }
        for bad in ["", "UKL", "a b", "ü", "a_b", "a/b", &"x".repeat(65)] {
            assert!(PartyId::new(bad).is_err(), "{bad}");
        }
        assert!(Code::new("cell_count").is_ok());
        assert!(serde_json::from_str::<PartyId>("\"A\"").is_err());
    }

    #[test]
    fn role_words_are_the_serde_words() {
        for role in Role::ALL {
            assert_eq!(serde_json::to_value(role).unwrap(), serde_json::json!(role.as_str()));
            assert_eq!(Role::parse(role.as_str()), Some(role));
        }
        assert_eq!(Role::parse("root"), None);
    }
}
