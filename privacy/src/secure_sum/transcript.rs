//! What a slot is about, hashed once: the transcript T goes into every pad and under every signature of the slot.
//!
//! A coordinator that shows two hospitals two models, cohorts, layouts or ledgers gives them two transcripts: their
//! pads do not cancel and their signatures do not count for one another (against the model-inconsistency attack of
//! arXiv 2111.07380).

use curve25519_dalek::scalar::Scalar;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::errors::Reject;
use super::graph::Graph;
use super::keys::{Directory, MEMBERS_MAX, MEMBERS_MIN, SlotKey, mask_secret, sorted};
use super::messages::Close;
use crate::kdf::{self, Digest};
use crate::layout::Layout;
use crate::prg::{PadKey, Suite};
use crate::seal;

/// One round of a job. A repeated round keeps its id and takes a new slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundId {
    /// Stage of the contract, from 0.
    pub stage: u32,
    /// Round of the stage, from 0.
    pub round: u32,
}

/// D1: what the coordinator says a slot is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// The job's id.
    pub job: [u8; 32],
    /// Which life of the coordinator opened it.
    pub epoch: u32,
    /// Above every slot opened before, from 1. Slot 0 only sets up keys and is never opened.
    pub slot: u64,
    /// The round this slot is an attempt at.
    pub round_id: RoundId,
    /// Digest of the contract.
    pub contract: [u8; 32],
    /// Digest of the model state that the hospitals compute on.
    pub model_digest: [u8; 32],
    /// The hospitals whose vectors are wanted, sorted by index.
    pub cohort: Vec<SlotKey>,
    /// [`Layout::digest`].
    pub layout_digest: [u8; 32],
    /// Number of hospitals that the ring is sized for, at least the cohort.
    pub hospitals_max: u16,
    /// What pads are made from. A hospital takes either suite: both are whole, and T keeps two views apart.
    pub suite: Suite,
    /// Root hash of a ledger checkpoint that the hospital checks against its own copy.
    pub checkpoint: [u8; 32],
}

impl Opening {
    /// T, over all fields and the directory.
    pub fn transcript(&self, directory: &Directory) -> [u8; 32] {
        let digest = Digest::new(b"leben/transcript/v1")
            .field(&directory.digest())
            .field(&self.job)
            .u64(u64::from(self.epoch))
            .u64(self.slot)
            .u64(u64::from(self.round_id.stage))
            .u64(u64::from(self.round_id.round))
            .field(&self.contract)
            .field(&self.model_digest)
            .field(&self.layout_digest)
            .u64(u64::from(self.hospitals_max))
            .u64(self.suite.number())
            .field(&self.checkpoint)
            .u64(self.cohort.len() as u64);
        let add = |digest: Digest, key: &SlotKey| {
            let digest = digest.u64(key.slot).u64(u64::from(key.hospital_index)).field(&key.mask_public);
            digest.field(&key.self_commit).field(&key.signature.0)
        };
        self.cohort.iter().fold(digest, add).finish()
    }

    /// What the noise of a round depends on beside its model: SHA-256 over the layout's digest and the number of hospitals
    /// that the ring is sized for. A repeated round keeps it.
    pub(super) fn shape(&self) -> [u8; 32] {
        let digest = Digest::new(b"leben/round-shape/v1").field(&self.layout_digest);
        digest.u64(u64::from(self.hospitals_max)).finish()
    }

    /// The slot key of one hospital.
    pub fn key(&self, hospital: u16) -> Option<&SlotKey> {
        self.cohort.iter().find(|key| key.hospital_index == hospital)
    }

    /// Who of the cohort shares a pad with whom.
    pub(super) fn pairs(&self, directory: &Directory, hospitals_min: u16) -> Pairs {
        let lost_max = self.cohort.len().saturating_sub(required(directory, hospitals_min));
        let graph = Graph::new(self.cohort.len(), lost_max, directory.colluders_max());
        Pairs { graph, order: self.cohort.iter().map(|key| key.hospital_index).collect() }
    }

    /// The checks that both roles make: job, layout, and every key of the cohort.
    pub(super) fn check(&self, directory: &Directory, layout: &Layout, hospitals_min: u16) -> Result<(), Reject> {
        if self.job != directory.job {
            return Err(Reject::WrongJob);
        }
        if layout.digest() != self.layout_digest {
            return Err(Reject::WrongLayout);
        }
        if usize::from(self.hospitals_max) > MEMBERS_MAX {
            return Err(Reject::Directory("hospitals_max is beyond 1000"));
        }
        layout.validate(self.hospitals_max)?;
        let got = self.cohort.len();
        let want = required(directory, hospitals_min);
        if got < want {
            return Err(Reject::CohortTooSmall { got, want });
        }
        if got > usize::from(self.hospitals_max) {
            return Err(Reject::CohortTooLarge { got, max: self.hospitals_max });
        }
        check_keys(directory, self.slot, &self.cohort)
    }
}

/// The graph of a slot, by the hospitals' indices.
pub(super) struct Pairs {
    graph: Graph,
    order: Vec<u16>,
}

impl Pairs {
    /// Whether two hospitals of the cohort share a pad.
    pub fn contains(&self, a: u16, b: u16) -> bool {
        match (self.order.binary_search(&a), self.order.binary_search(&b)) {
            (Ok(a), Ok(b)) => self.graph.adjacent(a, b),
            _ => false,
        }
    }
}

/// Sorted, all for `slot`, each signed by its member.
pub(super) fn check_keys(directory: &Directory, slot: u64, keys: &[SlotKey]) -> Result<(), Reject> {
    sorted(keys.iter().map(|key| key.hospital_index))?;
    for key in keys {
        if key.slot != slot {
            return Err(Reject::WrongSlot { got: key.slot, want: slot });
        }
        key.verify(directory)?;
    }
    Ok(())
}

/// Smallest cohort and smallest set of survivors.
pub(super) fn required(directory: &Directory, hospitals_min: u16) -> usize {
    // In a sum over two, each would read the other.
    usize::from(directory.threshold.max(hospitals_min)).max(MEMBERS_MIN)
}

/// What the upload signature covers.
pub(super) fn upload_message(transcript: &[u8; 32], root: &[u8; 32]) -> [u8; 32] {
    Digest::new(b"leben/upload/v1").field(transcript).field(root).finish()
}

/// What the agreement signature covers.
pub(super) fn agree_message(transcript: &[u8; 32], close: &[u8; 32]) -> [u8; 32] {
    Digest::new(b"leben/agree/v1").field(transcript).field(close).finish()
}

/// Digest of a close.
pub(super) fn close_digest(close: &Close) -> [u8; 32] {
    let digest = Digest::new(b"leben/close/v1").u64(close.slot).u64(close.survivors.len() as u64);
    let add = |digest: Digest, s: &super::messages::Survivor| {
        digest.u64(u64::from(s.index)).field(&s.root).field(&s.signature.0)
    };
    close.survivors.iter().fold(digest, add).finish()
}

/// Sorted, within the cohort, enough, every signature over this transcript.
pub(super) fn check_close(
    close: &Close,
    opening: &Opening,
    transcript: &[u8; 32],
    directory: &Directory,
    hospitals_min: u16,
) -> Result<(), Reject> {
    if close.slot != opening.slot {
        return Err(Reject::WrongSlot { got: close.slot, want: opening.slot });
    }
    sorted(close.survivors.iter().map(|s| s.index))?;
    if let Some(stranger) = close.survivors.iter().find(|s| opening.key(s.index).is_none()) {
        return Err(Reject::NotInCohort { hospital: stranger.index });
    }
    let (got, want) = (close.survivors.len(), required(directory, hospitals_min));
    if got < want {
        return Err(Reject::TooFewSurvivors { got, want });
    }
    for s in &close.survivors {
        directory.check(s.index, &upload_message(transcript, &s.root), &s.signature, "upload")?;
    }
    Ok(())
}

/// What a sealed share is bound to: both ends and both ends' slot keys.
pub(super) fn share_aad(job: &[u8; 32], from: &SlotKey, to: &SlotKey) -> [u8; 32] {
    let digest = Digest::new(b"leben/share-aad/v1").field(job).u64(from.slot);
    let ends = digest.u64(u64::from(from.hospital_index)).u64(u64::from(to.hospital_index));
    ends.field(&from.digest(job)).field(&to.digest(job)).finish()
}

/// The pad of a self-mask secret.
pub(super) fn self_pad(own: &Scalar, transcript: &[u8; 32], index: u16) -> Zeroizing<[u8; 32]> {
    let bytes = Zeroizing::new(own.to_bytes());
    kdf::derive(transcript, &*bytes, &[b"leben/self-pad/v1", &index.to_be_bytes()])
}

/// The pad between the holder of `mask` and `other`, as `me` applies it: the lower index adds, the higher subtracts.
pub(super) fn pair_pad(mask: &Scalar, me: u16, other: &SlotKey, transcript: &[u8; 32]) -> Result<PadKey, Reject> {
    let hospital = other.hospital_index;
    let shared = seal::agree(&mask_secret(mask), &other.mask_public).map_err(|_| Reject::WeakKey { hospital })?;
    let (low, high) = (me.min(hospital), me.max(hospital));
    let info: [&[u8]; 3] = [b"leben/pair-pad/v1", &low.to_be_bytes(), &high.to_be_bytes()];
    Ok(PadKey { key: kdf::derive(transcript, &*shared, &info), negative: me > hospital })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secure_sum::keys::{JobKeys, SlotSecrets};

    /// Both ends of a pair make the same pad with opposite signs; another transcript, pair or hospital another one.
    #[test]
    fn pads_belong_to_one_pair_and_one_transcript() {
        let job = [1; 32];
        let hospital = |index: u16| {
            let secrets = SlotSecrets::new([index as u8; 32], &job, 1);
            let key = secrets.public(&JobKeys::from_seed([index as u8; 32]), &job, 1, index);
            (secrets, key)
        };
        let ((one, one_key), (two, two_key), (_, three_key)) = (hospital(1), hospital(2), hospital(3));
        let (a, b) = ([0xa; 32], [0xb; 32]);
        let low = pair_pad(&one.mask, 1, &two_key, &a).unwrap();
        let high = pair_pad(&two.mask, 2, &one_key, &a).unwrap();
        assert_eq!(low.key, high.key);
        assert!(!low.negative && high.negative);
        assert_ne!(low.key, pair_pad(&one.mask, 1, &two_key, &b).unwrap().key);
        assert_ne!(low.key, pair_pad(&one.mask, 1, &three_key, &a).unwrap().key);
        assert_ne!(self_pad(&one.own, &a, 1), self_pad(&one.own, &b, 1));
        assert_ne!(self_pad(&one.own, &a, 1), self_pad(&one.own, &a, 2));
        assert_ne!(self_pad(&one.own, &a, 1), self_pad(&two.own, &a, 1));
    }
}
