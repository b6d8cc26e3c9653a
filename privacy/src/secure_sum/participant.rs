//! The hospital's half. Every call checks everything first and changes state last; a refused call changed nothing.
//!
//! Slot secrets live in memory only: a restarted hospital has lost them and joins the next slot as a bystander. What
//! must survive is the [`Journal`].

use std::collections::BTreeMap;

use curve25519_dalek::scalar::Scalar;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::errors::Reject;
use super::journal::{AgreedRound, Journal};
use super::keys::{Consistency, Directory, JobKeys, SlotKey, SlotSecrets, sorted};
use super::messages::{Agree, Agreement, Close, FixedClose, Reveal, SHARE_BOX_BYTES, SealedShare, Upload};
use super::transcript::{
    Opening, Pairs, agree_message, check_close, check_keys, close_digest, pair_pad, self_pad, share_aad, upload_message,
};
use crate::kdf;
use crate::layout::Layout;
use crate::mask::{Pads, Purpose};
use crate::prg::PadKey;
use crate::seal;
use crate::shamir::Polynomial;

/// Slots whose secrets are kept while they wait to be opened: the next one, and a few that a busy coordinator skipped.
const PENDING_SLOTS_MAX: usize = 4;

/// One hospital in one job.
pub struct Participant {
    keys: JobKeys,
    me: u16,
    directory: Directory,
    hospitals_min: u16,
    journal: Journal,
    pending: BTreeMap<u64, Pending>,
    active: Option<Active>,
}

/// A slot whose keys are out and which has not been opened.
struct Pending {
    key: SlotKey,
    secrets: SlotSecrets,
    /// Drawn at the first `share`; later calls for the same slot hand out points of the same polynomials.
    polynomials: Option<(Polynomial, Polynomial)>,
}

/// The slot that was opened last.
struct Active {
    opening: Opening,
    transcript: [u8; 32],
    shares: BTreeMap<u16, HeldShare>,
    agreed: Option<Agreed>,
    revealed: Option<Reveal>,
}

struct Agreed {
    close: [u8; 32],
    survivors: Vec<u16>,
}

/// One hospital's shares, mask and self, as the directory member with index `me` holds them.
#[derive(Zeroize, ZeroizeOnDrop)]
struct HeldShare {
    mask: [u8; 32],
    own: [u8; 32],
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Participant(hospital {}, last slot {})", self.me, self.journal.last_slot)
    }
}

impl Participant {
    /// `me` is this hospital's index in the directory, `hospitals_min` the contract's smallest cohort, `journal` what
    /// was stored last (`Journal::default()` for a job never taken part in).
    ///
    /// # Errors
    /// A directory that fails [`Directory::verify`], or does not hold these keys under `me`; a damaged journal.
    pub fn new(
        keys: JobKeys,
        me: u16,
        directory: Directory,
        hospitals_min: u16,
        journal: Journal,
    ) -> Result<Self, Reject> {
        directory.verify()?;
        journal.check()?;
        let member = directory.member(me).ok_or(Reject::UnknownMember { hospital: me })?;
        if member.keys != keys.public() {
            return Err(Reject::Directory("the directory lists other keys for this hospital"));
        }
        if usize::from(hospitals_min) > directory.members.len() {
            return Err(Reject::Directory("the contract wants more hospitals than the directory has"));
        }
        Ok(Participant { keys, me, directory, hospitals_min, journal, pending: BTreeMap::new(), active: None })
    }

    /// Fresh keys for a slot. Asked again for the same slot, it gives the same keys and ignores the seed.
    pub fn advertise(&mut self, slot: u64, seed: [u8; 32]) -> SlotKey {
        if let Some(pending) = self.pending.get(&slot) {
            return pending.key.clone();
        }
        let secrets = SlotSecrets::new(seed, &self.directory.job, slot);
        let key = secrets.public(&self.keys, &self.directory.job, slot, self.me);
        self.pending.insert(slot, Pending { key: key.clone(), secrets, polynomials: None });
        while self.pending.len() > PENDING_SLOTS_MAX {
            self.pending.pop_first();
        }
        key
    }

    /// One sealed share for every hospital in `keys`, this one included. Asked again for the same slot, the shares lie
    /// on the same polynomials, so a hospital that renewed its key gets the same point.
    ///
    /// # Errors
    /// A key that is unsorted, unsigned or for another slot; my own key missing or replaced; fewer than a threshold.
    pub fn share(&mut self, slot: u64, keys: &[SlotKey], seed: [u8; 32]) -> Result<Vec<SealedShare>, Reject> {
        check_keys(&self.directory, slot, keys)?;
        let (got, want) = (keys.len(), usize::from(self.directory.threshold));
        if got < want {
            return Err(Reject::CohortTooSmall { got, want });
        }
        let not_mine = Reject::NotMyKey { hospital: self.me, slot };
        let mine = keys.iter().find(|key| key.hospital_index == self.me);
        let pending = self.pending.get_mut(&slot).filter(|p| Some(&p.key) == mine).ok_or(not_mine)?;
        let seed = Zeroizing::new(seed);
        let threshold = self.directory.threshold;
        let (mask, own) = pending.polynomials.get_or_insert_with(|| {
            let coins = |kind: &[u8]| *kdf::derive(b"leben/polynomial/v1", &*seed, &[kind, &slot.to_be_bytes()]);
            let mask = Polynomial::new(pending.secrets.mask, threshold, coins(b"mask"));
            (mask, Polynomial::new(pending.secrets.own, threshold, coins(b"self")))
        });
        let deal = |to: &SlotKey| {
            let hospital = to.hospital_index;
            let weak = Reject::WeakKey { hospital };
            let member = self.directory.member(hospital).ok_or(Reject::UnknownMember { hospital })?;
            let (Some(mask), Some(own)) = (mask.share(hospital), own.share(hospital)) else { return Err(weak) };
            let mut plain = Zeroizing::new([0u8; 64]);
            let (low, high) = plain.split_at_mut(32);
            low.copy_from_slice(mask.as_bytes());
            high.copy_from_slice(own.as_bytes());
            let aad = share_aad(&self.directory.job, &pending.key, to);
            let boxed = seal::seal_between(self.keys.channel(), &member.keys.channel, &aad, &*plain, &seed)
                .map_err(|_| weak)?;
            Ok(SealedShare { slot, from: self.me, to: hospital, boxed })
        };
        keys.iter().map(deal).collect()
    }

    /// Enters a slot: checks the opening, takes in the shares addressed to this hospital, and gives the pads for one
    /// vector. Persist the journal before the first masked byte leaves.
    ///
    /// The caller has checked contract, model, epoch and checkpoint against its own copy of the ledger.
    ///
    /// # Errors
    /// A [`Reject`] that names what does not fit; nothing has changed, the slot can still be opened.
    pub fn open(&mut self, opening: &Opening, layout: &Layout, sealed: &[SealedShare]) -> Result<Pads, Reject> {
        self.journal.check_opening(opening)?;
        opening.check(&self.directory, layout, self.hospitals_min)?;
        let mine = opening.key(self.me).ok_or(Reject::NotInCohort { hospital: self.me })?;
        let not_mine = Reject::NotMyKey { hospital: self.me, slot: opening.slot };
        let pending = self.pending.get(&opening.slot).filter(|p| p.key == *mine).ok_or(not_mine)?;
        let shares = self.unseal(opening, mine, sealed)?;
        let transcript = opening.transcript(&self.directory);
        let pairs = opening.pairs(&self.directory, self.hospitals_min);
        let pads = pads(&pending.secrets, self.me, opening, &pairs, &transcript)?;

        self.journal.last_slot = opening.slot;
        self.pending = self.pending.split_off(&(opening.slot.saturating_add(1)));
        self.active = Some(Active { opening: opening.clone(), transcript, shares, agreed: None, revealed: None });
        Ok(pads)
    }

    /// Exactly one good share from every member of the cohort.
    fn unseal(
        &self,
        opening: &Opening,
        mine: &SlotKey,
        sealed: &[SealedShare],
    ) -> Result<BTreeMap<u16, HeldShare>, Reject> {
        let mut held = BTreeMap::new();
        for share in sealed {
            let hospital = share.from;
            if share.slot != opening.slot {
                return Err(Reject::WrongSlot { got: share.slot, want: opening.slot });
            }
            let from = opening.key(hospital).ok_or(Reject::NotInCohort { hospital })?;
            let member = self.directory.member(hospital).ok_or(Reject::UnknownMember { hospital })?;
            let bad = Reject::BadShare { hospital };
            if share.to != self.me || share.boxed.len() != SHARE_BOX_BYTES {
                return Err(bad);
            }
            let aad = share_aad(&self.directory.job, from, mine);
            let plain = seal::open_between(self.keys.channel(), &member.keys.channel, &aad, &share.boxed)
                .map_err(|_| bad.clone())?;
            if held.insert(hospital, HeldShare::parse(&plain).ok_or(bad)?).is_some() {
                return Err(Reject::MissingShare { hospital });
            }
        }
        match opening.cohort.iter().find(|key| !held.contains_key(&key.hospital_index)) {
            Some(key) => Err(Reject::MissingShare { hospital: key.hospital_index }),
            None => Ok(held),
        }
    }

    /// Signs the root of this slot's masked chunks.
    ///
    /// # Errors
    /// [`Reject::Phase`] before the first opening, [`Reject::WrongSlot`].
    pub fn sign_upload(&self, slot: u64, root: [u8; 32]) -> Result<Upload, Reject> {
        let active = self.active(slot)?;
        Ok(Upload { slot, root, signature: self.keys.sign(&upload_message(&active.transcript, &root)) })
    }

    /// Agrees to the close of the slot, the first one only; the same close again gives the same answer. The journal is
    /// updated before this returns: persist it before the answer is sent.
    ///
    /// # Errors
    /// A close that is not of this transcript, too small, without this hospital, a second one, or, for a repeated
    /// round, over other hospitals than before.
    pub fn agree(&mut self, close: &Close) -> Result<Agree, Reject> {
        let active = self.active(close.slot)?;
        check_close(close, &active.opening, &active.transcript, &self.directory, self.hospitals_min)?;
        let survivors: Vec<u16> = close.survivors.iter().map(|s| s.index).collect();
        if survivors.binary_search(&self.me).is_err() {
            return Err(Reject::NotSurvivor { hospital: self.me });
        }
        let digest = close_digest(close);
        if active.agreed.as_ref().is_some_and(|agreed| agreed.close != digest) {
            return Err(Reject::SecondClose { slot: close.slot });
        }
        let round_id = active.opening.round_id;
        self.journal.check_close(round_id, &survivors)?;
        let signature = self.keys.sign(&agree_message(&active.transcript, &digest));

        let (model_digest, shape) = (active.opening.model_digest, Some(active.opening.shape()));
        self.journal.record(AgreedRound { round_id, model_digest, shape, survivors: survivors.clone() });
        if let Some(active) = &mut self.active {
            active.agreed = Some(Agreed { close: digest, survivors });
        }
        Ok(Agree { slot: close.slot, signature })
    }

    /// Gives up this hospital's shares: of the self-mask secret for each survivor, of the mask secret for everybody
    /// else in the cohort. All held shares are wiped with the first answer; asked again, it repeats that answer.
    ///
    /// # Errors
    /// [`Reject::Phase`] without an agreed close; signatures that are too few, unsorted, not of survivors or not valid;
    /// [`Reject::NotOnLedger`] where the directory asks for the close on the ledger and `fixed` is not this one.
    pub fn reveal(&mut self, agreement: &Agreement, fixed: Option<&FixedClose>) -> Result<Reveal, Reject> {
        let active = self.active(agreement.slot)?;
        let agreed = active.agreed.as_ref().ok_or(Reject::Phase("no close of this slot was agreed to"))?;
        sorted(agreement.signatures.iter().map(|(index, _)| *index))?;
        let message = agree_message(&active.transcript, &agreed.close);
        for (index, signature) in &agreement.signatures {
            if agreed.survivors.binary_search(index).is_err() {
                return Err(Reject::NotSurvivor { hospital: *index });
            }
            self.directory.check(*index, &message, signature, "agreement")?;
        }
        let (got, want) = (agreement.signatures.len(), usize::from(self.directory.threshold));
        if got < want {
            return Err(Reject::TooFewAgreed { got, want });
        }
        let same = |fixed: &FixedClose| {
            (fixed.slot, fixed.round_id) == (agreement.slot, active.opening.round_id)
                && fixed.survivors == agreed.survivors
                && fixed.transcript == active.transcript
        };
        if self.directory.consistency() == Consistency::Ledger && !fixed.is_some_and(same) {
            return Err(Reject::NotOnLedger { slot: agreement.slot });
        }
        let active = self.active.as_mut().ok_or(Reject::Phase("no slot is open"))?;
        Ok(active.reveal().clone())
    }

    /// The durable state; store it whenever [`Participant::open`] or [`Participant::agree`] succeeded.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The directory this hospital works with.
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// This hospital's index in the directory.
    pub fn index(&self) -> u16 {
        self.me
    }

    fn active(&self, slot: u64) -> Result<&Active, Reject> {
        let active = self.active.as_ref().ok_or(Reject::Phase("no slot is open"))?;
        let want = active.opening.slot;
        if slot == want { Ok(active) } else { Err(Reject::WrongSlot { got: slot, want }) }
    }
}

impl Active {
    fn reveal(&mut self) -> &Reveal {
        // Taking the map out wipes whatever the answer does not contain: the other kind can never follow.
        let shares = std::mem::take(&mut self.shares);
        let slot = self.opening.slot;
        let survivors = self.agreed.as_ref().map(|a| a.survivors.as_slice()).unwrap_or_default();
        self.revealed.get_or_insert_with(|| {
            let survived = |index: &u16| survivors.binary_search(index).is_ok();
            let (own, mask): (Vec<_>, Vec<_>) = shares.iter().partition(|(index, _)| survived(index));
            Reveal {
                slot,
                self_shares: own.into_iter().map(|(index, share)| (*index, share.own)).collect(),
                mask_shares: mask.into_iter().map(|(index, share)| (*index, share.mask)).collect(),
            }
        })
    }
}

impl HeldShare {
    fn parse(plain: &[u8]) -> Option<Self> {
        let (mask, rest) = plain.split_first_chunk::<32>()?;
        let (own, rest) = rest.split_first_chunk::<32>()?;
        let canonical = |bytes: &[u8; 32]| bool::from(Scalar::from_canonical_bytes(*bytes).is_some());
        (rest.is_empty() && canonical(mask) && canonical(own)).then_some(HeldShare { mask: *mask, own: *own })
    }
}

/// `PRG(b, T)` plus the signed pairwise pads.
fn pads(
    secrets: &SlotSecrets,
    me: u16,
    opening: &Opening,
    pairs: &Pairs,
    transcript: &[u8; 32],
) -> Result<Pads, Reject> {
    let mut keys = vec![PadKey { key: self_pad(&secrets.own, transcript, me), negative: false }];
    for other in opening.cohort.iter().filter(|key| pairs.contains(me, key.hospital_index)) {
        keys.push(pair_pad(&secrets.mask, me, other, transcript)?);
    }
    let (layout_digest, hospitals, suite) = (opening.layout_digest, opening.hospitals_max, opening.suite);
    Ok(Pads { purpose: Purpose::Mask, layout_digest, hospitals, suite, keys })
}
