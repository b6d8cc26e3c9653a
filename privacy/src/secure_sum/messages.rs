//! The messages of one slot after the opening. Plain data; who may send what when is checked by
//! [`Participant`](super::Participant) and [`Collector`](super::Collector).

use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::keys::Signature;
use super::transcript::RoundId;

/// Bytes of a sealed share's box: version, salt, two scalars, tag.
pub const SHARE_BOX_BYTES: usize = 1 + 32 + 64 + 16;

/// Shares of one hospital's two secrets for another, readable by these two only. The coordinator passes it on.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedShare {
    /// The slot the shares are for.
    pub slot: u64,
    /// Index of the hospital whose secrets are shared.
    pub from: u16,
    /// Index of the hospital that holds the shares.
    pub to: u16,
    /// [`SHARE_BOX_BYTES`] bytes.
    pub boxed: Vec<u8>,
}

impl std::fmt::Debug for SealedShare {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedShare(slot {}, {} to {}, {} bytes)", self.slot, self.from, self.to, self.boxed.len())
    }
}

/// U1's trailer: which bytes this hospital uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upload {
    /// The slot.
    pub slot: u64,
    /// Merkle root over the chunks ([`crate::merkle`]).
    pub root: [u8; 32],
    /// Over domain, T and root.
    pub signature: Signature,
}

/// One hospital whose whole vector is in the sum.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Index in the directory.
    pub index: u16,
    /// Root of its upload.
    pub root: [u8; 32],
    /// Its signature over the upload.
    pub signature: Signature,
}

/// D2: the set of hospitals whose sum will be opened. A slot has one close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Close {
    /// The slot.
    pub slot: u64,
    /// Sorted by index.
    pub survivors: Vec<Survivor>,
}

/// A survivor's signature under the one close it has seen (round 3 of Bonawitz et al. 2017).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agree {
    /// The slot.
    pub slot: u64,
    /// Over domain, T and the digest of the close.
    pub signature: Signature,
}

/// At least a threshold of survivors saw the same close.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// The slot.
    pub slot: u64,
    /// Sorted by index.
    pub signatures: Vec<(u16, Signature)>,
}

/// U2: one survivor's shares of the secrets that take the pads off. For one hospital never both kinds.
/// `Debug` prints how many there are; wiped when dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Reveal {
    /// The slot.
    pub slot: u64,
    /// For each survivor, its share of the self-mask secret; sorted by index.
    pub self_shares: Vec<(u16, [u8; 32])>,
    /// For each member of the cohort that did not survive, its share of the mask secret; sorted by index.
    pub mask_shares: Vec<(u16, [u8; 32])>,
}

impl std::fmt::Debug for Reveal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (own, mask) = (self.self_shares.len(), self.mask_shares.len());
        write!(f, "Reveal(slot {}, {own} self shares, {mask} mask shares)", self.slot)
    }
}

/// A close as the ledger has it: read by the hospital from entries that the witnesses made final, never from the
/// coordinator. Needed where [`Consistency::Ledger`](super::keys::Consistency) is what makes a close the only one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedClose {
    /// The slot.
    pub slot: u64,
    /// The round it says it closes. The ledger keeps a round from being closed twice by this, so a close opens no other.
    pub round_id: RoundId,
    /// Indices of the survivors, sorted.
    pub survivors: Vec<u16>,
    /// T of the slot.
    pub transcript: [u8; 32],
}
