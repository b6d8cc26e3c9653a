//! Bodies of the actions about who takes part and what is offered.

use super::hash::{Hash32, X25519Key};
use super::party::{Code, OrgKind, PartyId, PartyKeys, Role};
use super::purpose::Permission;
use crate::ledger::canonical::{self, CanonicalError};
use crate::ledger::evidence::{EvidenceError, Fork, ForkEvidence};
use crate::ledger::key::PublicKey;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The first entry: the log's name, its coordinator, its admins. Signed by the coordinator's party key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The log's origin; its hash is every action's `network`.
    pub origin: String,
    /// Who sequences.
    pub coordinator: Founder,
    /// Who reviews and enrols; at least one.
    pub admins: Vec<Founder>,
    /// The key that signs checkpoints.
    pub log_key: PublicKey,
    /// The log in whose place this one begins, because its key signed two histories.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embeds: Option<Box<Embedded>>,
}

/// Two checkpoints of another log that contradict each other: what a new network begins with after a fork that nobody can mend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// SHA-256 of the evidence file, which has the cosignatures as well.
    pub file_sha256: Hash32,
    /// The proof, with the log's own signatures alone.
    pub fork: ForkEvidence,
}

impl Embedded {
    /// From an evidence file.
    ///
    /// # Errors
    /// As [`ForkEvidence::parse`], [`ForkEvidence::verify`].
    pub fn new(file: &[u8]) -> Result<Self, EvidenceError> {
        let embedded = Self { file_sha256: Hash32::plain(file), fork: ForkEvidence::parse(file)?.bare() };
        embedded.verify().map(|_| embedded)
    }

    /// What it proves: that the holder of the key in it signed two histories. Whose key that is the reader has to know.
    ///
    /// # Errors
    /// [`EvidenceError`]: nothing.
    pub fn verify(&self) -> Result<Fork, EvidenceError> {
        if self.fork != self.fork.bare() {
            return Err(EvidenceError::Format("it carries signatures that nothing here can check".to_owned()));
        }
        self.fork.verify(self.fork.log())
    }
}

impl fmt::Display for Embedded {
    /// In words, without believing anything: for a Genesis that was replayed, or an embedded proof that was verified.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.verify() {
            Ok(Fork { origin, size, claimed, proven, larger_size }) => write!(
                f,
                "in place of {origin}, whose key signed two histories: at {size} entries with the root {}, and, beginning a checkpoint of {larger_size}, \
                 with the root {} (evidence file: SHA-256 {})",
                Hash32(claimed),
                Hash32(proven),
                self.file_sha256
            ),
            Err(error) => write!(f, "in place of a log of which it proves no fork: {error}"),
        }
    }
}

/// A party that the first entry, or a Handover, enrols.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Founder {
    /// Its name.
    pub party: PartyId,
    /// Its keys.
    pub keys: PartyKeys,
    /// Its x25519 key for things encrypted to it.
    pub sealing: X25519Key,
}

/// An organisation joins. Signed by its own new party key (proof of possession) and by the coordinator; by an admin too if it is to be an admin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartyEnrol {
    /// Its name; the actor.
    pub party: PartyId,
    /// What it is.
    pub kind: OrgKind,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Its keys.
    pub keys: PartyKeys,
    /// Its x25519 key for things encrypted to it.
    pub sealing: X25519Key,
    /// Hash of the one-time invite; used once.
    pub invite_hash: Hash32,
}

/// New keys for the actor. Signed by the old party key and the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotate {
    /// The keys from now on.
    pub keys: PartyKeys,
    /// The x25519 key from now on.
    pub sealing: X25519Key,
}

/// A party's keys are no longer trusted. By the party itself, or by a majority of the admins in one envelope; who would so take away more
/// validators than may lie among those agreed on last needs a quorum of those in force as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRevoke {
    /// Whose keys.
    pub party: PartyId,
    /// Why, for example `key_lost`, `key_stolen`.
    pub code: Code,
}

/// Who cosigns, and how many of them make a checkpoint final. By the coordinator or an admin, and signed by a quorum of those in force as
/// well, unless it only adds to the first few ([`PolicyRecord::room`](super::state::PolicyRecord::room)).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyChange {
    /// Parties with validator keys, sorted.
    pub validators: Vec<PartyId>,
    /// floor((n+f)/2)+1 with f = floor((n-1)/3); see [`quorum`].
    pub quorum: u32,
}

/// Stop: nothing but a Handover is accepted afterwards. By the coordinator, or by a quorum of validators in one envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Freeze {
    /// Why.
    pub code: Code,
}

/// Another coordinator goes on, or the same one with other keys. Signed by the party key that it brings and by a quorum of the
/// validators' party keys. Where it is another party, the keys of the one before are revoked by the same entry. It names the log that it goes on from, its own place included, so it fits one history and one index of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Handover {
    /// The new coordinator, enrolled by this; the actor. It may be the party of before, whose keys were lost.
    pub coordinator: Founder,
    /// Entries it goes on from: the index of this one.
    pub size: u64,
    /// Root of the tree over them.
    pub root: Hash32,
    /// The key that signs checkpoints from now on; never used before.
    pub log_key: PublicKey,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// Real numbers.
    Number,
    /// Whole numbers.
    Integer,
    /// One of `codes`.
    Category,
    /// Text.
    Text,
    /// A calendar date.
    Date,
}

/// What a column is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRole {
    /// Explains.
    Feature,
    /// Is explained.
    Outcome,
    /// Names a patient or row; never computed on.
    Id,
    /// Time to an event.
    Time,
    /// Whether the event happened.
    Event,
}

/// One column of an offered data set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// Its name.
    pub column: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub column_type: ColumnType,
    /// Its unit, UCUM, empty if it has none.
    pub unit: String,
    /// What it is for.
    pub role: ColumnRole,
    /// The values of a category: `code=label`, or the code alone where there is no label.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub codes: Vec<String>,
}

/// What numbers of rows are rounded down to a multiple of before they are offered.
pub const ROWS_STEP: u64 = 10;

/// A hospital offers a data set. An offer with the same name replaces the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetOffer {
    /// Its name, unique within the owner.
    pub name: Code,
    /// Its columns.
    pub schema: Vec<ColumnSpec>,
    /// [`schema_hash`] of `schema`.
    pub schema_hash: Hash32,
    /// How many rows, rounded so that no patient can be told from it.
    pub rows_rounded: u64,
    /// What it may be used for.
    pub permission: Permission,
    /// What the owner has in mind to ask, credits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_hint: Option<u64>,
}

impl DatasetOffer {
    /// The most rows that the data set had when it was offered.
    #[must_use]
    pub fn rows_most(&self) -> u64 {
        self.rows_rounded.saturating_add(ROWS_STEP - 1)
    }
}

/// Somebody offers code by digest. By an algorithm provider, an integrator or the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlgorithmOffer {
    /// Its name.
    pub name: Code,
    /// Its version.
    pub version: Code,
    /// Digest of its code.
    pub digest: Hash32,
    /// Whether it trains a model: that is methods development, whatever the purpose claims.
    pub trains_model: bool,
}

/// Somebody offers machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ComputeOffer {
    /// Its name, unique within the provider.
    pub name: Code,
    /// Processor cores.
    pub cores: u32,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Seconds offered; opens an account of that many.
    pub seconds: u64,
}

/// Takes back an offer (outside a contract), or a proposal (inside one, `offer` absent).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Withdraw {
    /// Payload hash of the offer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offer: Option<Hash32>,
}

/// An admin's view of a contract; changes nothing by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdminReview {
    /// The view.
    pub verdict: Verdict,
    /// Why.
    pub code: Code,
}

/// What an admin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing found.
    Ok,
    /// Somebody should look.
    Flag,
    /// It should not go on; owners are asked to suspend.
    Hold,
}

/// A party is alive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Heartbeat {}

/// The hash of a schema: `SHA-256("leben/schema/1" LF canonical JSON)`.
///
/// # Errors
/// None for a schema that was read from JSON.
pub fn schema_hash(schema: &[ColumnSpec]) -> Result<Hash32, CanonicalError> {
    Ok(Hash32::of("leben/schema/1", &canonical::to_bytes(schema)?))
}

/// How many of `n` validators make a checkpoint final: `floor((n+f)/2)+1` with `f = floor((n-1)/3)`, so 4 -> 3, 7 -> 5, 10 -> 7.
#[must_use]
pub fn quorum(n: usize) -> usize {
    (n + liars_max(n)) / 2 + 1
}

/// How many of `n` validators may sign anything: floor((n-1)/3).
#[must_use]
pub fn liars_max(n: usize) -> usize {
    n.saturating_sub(1) / 3
}
