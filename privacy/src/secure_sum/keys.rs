//! Who takes part and with which keys: a job's directory (from the ledger), and fresh keys for every slot.

use curve25519_dalek::scalar::Scalar;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::errors::Reject;
use crate::kdf::{self, Digest};
use crate::{seal, shamir};

/// Largest number of members in a directory.
pub const MEMBERS_MAX: usize = 1000;
/// Smallest number of members: with two, each reads the other out of the sum.
pub const MEMBERS_MIN: usize = 3;
/// Largest length of a hospital's name in a directory, in bytes.
pub const HOSPITAL_BYTES_MAX: usize = 256;

/// An ed25519 signature (RFC 8032), verified strictly.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "([u8; 32], [u8; 32])", from = "([u8; 32], [u8; 32])")]
pub struct Signature(pub [u8; 64]);

impl From<Signature> for ([u8; 32], [u8; 32]) {
    fn from(signature: Signature) -> Self {
        let mut halves = ([0; 32], [0; 32]);
        let (a, b) = signature.0.split_at(32);
        halves.0.copy_from_slice(a);
        halves.1.copy_from_slice(b);
        halves
    }
}

impl From<([u8; 32], [u8; 32])> for Signature {
    fn from((a, b): ([u8; 32], [u8; 32])) -> Self {
        let mut bytes = [0; 64];
        let (low, high) = bytes.split_at_mut(32);
        low.copy_from_slice(&a);
        high.copy_from_slice(&b);
        Signature(bytes)
    }
}

impl std::fmt::Debug for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a, b, ..] = self.0;
        write!(f, "Signature({a:02x}{b:02x}..)")
    }
}

/// One hospital's public keys for one job, as its enrolled key signed them into the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberKeys {
    /// ed25519, signs round messages.
    pub verify: [u8; 32],
    /// x25519, seals shares.
    pub channel: [u8; 32],
}

/// One hospital's secret keys for one job. Wiped when dropped; `Debug` prints the public half.
pub struct JobKeys {
    signing: SigningKey,
    channel: Zeroizing<[u8; 32]>,
}

impl JobKeys {
    /// Derived from 32 secret uniform bytes, the same every time.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        let seed = Zeroizing::new(seed);
        let signing = kdf::derive(b"leben/job-keys/v1", &*seed, &[b"sign"]);
        let channel = kdf::derive(b"leben/job-keys/v1", &*seed, &[b"channel"]);
        JobKeys { signing: SigningKey::from_bytes(&signing), channel }
    }

    /// The half that goes into the ledger.
    pub fn public(&self) -> MemberKeys {
        MemberKeys { verify: self.signing.verifying_key().to_bytes(), channel: seal::public_of(&self.channel) }
    }

    pub(super) fn sign(&self, message: &[u8; 32]) -> Signature {
        Signature(self.signing.sign(message).to_bytes())
    }

    pub(super) fn channel(&self) -> &[u8; 32] {
        &self.channel
    }
}

impl std::fmt::Debug for JobKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "JobKeys({:?})", self.public())
    }
}

/// One hospital of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The hospital's Shamir point, from 1, fixed for the job.
    pub index: u16,
    /// Its name on the ledger, at most 256 bytes.
    pub hospital: String,
    /// Its keys for this job.
    pub keys: MemberKeys,
}

/// Everybody who can take part in a job, frozen before its first slot. The ledger is the PKI that the proof asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The job's id.
    pub job: [u8; 32],
    /// Sorted by index.
    pub members: Vec<Member>,
    /// Shares that open a secret, at least [`threshold`] of the number of members.
    pub threshold: u16,
}

/// What makes a set of survivors the only one of its slot. Which one a job uses follows from its threshold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// The survivors' signatures: two sets of [`threshold`] members share an honest one, and an honest one signs once.
    Signatures,
    /// The ledger: the close is an entry that the witnesses made final before anything is revealed, one for each slot.
    Ledger,
}

/// `floor(n/2) + 1`: the smallest threshold there is, for jobs whose closes are on the ledger.
pub fn threshold_ledger(n: u16) -> u16 {
    (n / 2).saturating_add(1)
}

/// `floor(2n/3) + 1`: with fewer than a third of the members on the coordinator's side, no two sets of this size
/// agree to different closes (Bonawitz et al. 2017, theorem 6.5).
pub fn threshold(n: u16) -> u16 {
    // 2n/3 + 1 <= 43691 for every u16.
    u16::try_from(u32::from(n) * 2 / 3 + 1).unwrap_or(u16::MAX)
}

impl Directory {
    /// Checks size, order, keys and threshold.
    ///
    /// # Errors
    /// [`Reject::Directory`], [`Reject::NotSorted`], [`Reject::WeakKey`].
    pub fn verify(&self) -> Result<(), Reject> {
        let count = self.members.len();
        if !(MEMBERS_MIN..=MEMBERS_MAX).contains(&count) {
            return Err(Reject::Directory("a job needs 3 to 1000 hospitals"));
        }
        if self.threshold < threshold_ledger(self.len()) || usize::from(self.threshold) > count {
            return Err(Reject::Directory("the threshold must be between floor(n/2) + 1 and n"));
        }
        sorted(self.members.iter().map(|m| m.index))?;
        let mut seen = std::collections::BTreeSet::new();
        for member in &self.members {
            let weak = Reject::WeakKey { hospital: member.index };
            if member.index == 0 {
                return Err(Reject::Directory("an index of 0 would be the secret itself; count from 1"));
            }
            if member.hospital.is_empty() || member.hospital.len() > HOSPITAL_BYTES_MAX {
                return Err(Reject::Directory("a hospital's name must have 1 to 256 bytes"));
            }
            // The same organisation or key twice would count as two towards the threshold.
            let keys = [&member.keys.verify[..], &member.keys.channel[..], member.hospital.as_bytes()];
            if !keys.into_iter().all(|key| seen.insert(key)) {
                return Err(Reject::Directory("two members share a name or a key"));
            }
            match VerifyingKey::from_bytes(&member.keys.verify) {
                Ok(key) if !key.is_weak() => {}
                _ => return Err(weak),
            }
            // Any clamped scalar shows whether the point is of low order.
            seal::agree(&[8; 32], &member.keys.channel).map_err(|_| weak)?;
        }
        Ok(())
    }

    fn len(&self) -> u16 {
        u16::try_from(self.members.len()).unwrap_or(u16::MAX)
    }

    /// What makes a close of this job the only one of its slot.
    pub fn consistency(&self) -> Consistency {
        if self.threshold >= threshold(self.len()) { Consistency::Signatures } else { Consistency::Ledger }
    }

    /// How many members may be on the coordinator's side before the protocol promises nothing: fewer than `2t - n` where
    /// signatures make a close the only one, fewer than `t` where the ledger does.
    pub fn colluders_max(&self) -> usize {
        let (t, n) = (usize::from(self.threshold), self.members.len());
        match self.consistency() {
            Consistency::Signatures => (2 * t).saturating_sub(n + 1),
            Consistency::Ledger => t.saturating_sub(1),
        }
    }

    /// The member with this index.
    pub fn member(&self, index: u16) -> Option<&Member> {
        self.members.iter().find(|m| m.index == index)
    }

    /// SHA-256 of a canonical, domain-separated encoding.
    pub fn digest(&self) -> [u8; 32] {
        let digest = Digest::new(b"leben/directory/v1").field(&self.job).u64(u64::from(self.threshold));
        let start = digest.u64(self.members.len() as u64);
        let add = |digest: Digest, m: &Member| {
            let named = digest.u64(u64::from(m.index)).field(m.hospital.as_bytes());
            named.field(&m.keys.verify).field(&m.keys.channel)
        };
        self.members.iter().fold(start, add).finish()
    }

    pub(super) fn check(
        &self,
        hospital: u16,
        message: &[u8; 32],
        signature: &Signature,
        what: &'static str,
    ) -> Result<(), Reject> {
        let member = self.member(hospital).ok_or(Reject::UnknownMember { hospital })?;
        let signature = ed25519_dalek::Signature::from_bytes(&signature.0);
        VerifyingKey::from_bytes(&member.keys.verify)
            .and_then(|key| key.verify_strict(message, &signature))
            .map_err(|_| Reject::Signature { what, hospital })
    }
}

/// Strictly ascending, or the first index that is not.
pub(super) fn sorted(indices: impl Iterator<Item = u16>) -> Result<(), Reject> {
    let mut last = None;
    for hospital in indices {
        if last.is_some_and(|last| last >= hospital) {
            return Err(Reject::NotSorted { hospital });
        }
        last = Some(hospital);
    }
    Ok(())
}

/// One hospital's public keys for one slot, signed by its job key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotKey {
    /// The slot, from 1.
    pub slot: u64,
    /// Index of the hospital in the directory.
    pub hospital_index: u16,
    /// x25519 public key of the pairwise masks.
    pub mask_public: [u8; 32],
    /// Hash of the self-mask secret: a wrongly recovered one is noticed instead of spoiling the sum.
    pub self_commit: [u8; 32],
    /// Over domain, job, slot, index and both keys.
    pub signature: Signature,
}

impl SlotKey {
    /// Checks the signature against the job's directory.
    ///
    /// # Errors
    /// [`Reject::UnknownMember`], [`Reject::Signature`].
    pub fn verify(&self, directory: &Directory) -> Result<(), Reject> {
        directory.check(self.hospital_index, &self.digest(&directory.job), &self.signature, "slot key")
    }

    /// What is signed.
    pub(super) fn digest(&self, job: &[u8; 32]) -> [u8; 32] {
        let digest = Digest::new(b"leben/slot-key/v1").field(job).u64(self.slot).u64(u64::from(self.hospital_index));
        digest.field(&self.mask_public).field(&self.self_commit).finish()
    }
}

/// The two secrets of one hospital for one slot. Both are scalars, so both can be shared. Memory only, wiped.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct SlotSecrets {
    pub mask: Scalar,
    pub own: Scalar,
}

impl SlotSecrets {
    pub fn new(seed: [u8; 32], job: &[u8; 32], slot: u64) -> Self {
        let seed = Zeroizing::new(seed);
        let bound = kdf::derive(b"leben/slot-secrets/v1", &*seed, &[job, &slot.to_be_bytes()]);
        let mut rng = ChaCha20Rng::from_seed(*bound);
        SlotSecrets { mask: shamir::scalar(&mut rng), own: shamir::scalar(&mut rng) }
    }

    pub fn public(&self, keys: &JobKeys, job: &[u8; 32], slot: u64, hospital_index: u16) -> SlotKey {
        let mask_public = seal::public_of(&mask_secret(&self.mask));
        let self_commit = self_commit(&self.own, job, slot, hospital_index);
        let mut key = SlotKey { slot, hospital_index, mask_public, self_commit, signature: Signature([0; 64]) };
        key.signature = keys.sign(&key.digest(job));
        key
    }
}

/// The x25519 secret of a mask scalar. The scalar is what Shamir shares; the hash keeps clamping away from it.
pub(super) fn mask_secret(mask: &Scalar) -> Zeroizing<[u8; 32]> {
    let bytes = Zeroizing::new(mask.to_bytes());
    kdf::derive(b"leben/mask-secret/v1", &*bytes, &[])
}

/// Commitment to a self-mask scalar: hiding because the scalar has 252 bits of entropy.
pub(super) fn self_commit(own: &Scalar, job: &[u8; 32], slot: u64, hospital: u16) -> [u8; 32] {
    let bytes = Zeroizing::new(own.to_bytes());
    let digest = Digest::new(b"leben/self-commit/v1").field(job).u64(slot).u64(u64::from(hospital));
    digest.field(&*bytes).finish()
}
