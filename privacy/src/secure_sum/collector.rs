//! The coordinator's half of one slot. It sees masked vectors, signatures, and in the end for each hospital either its
//! self-mask secret or its mask secret, never both.

use std::collections::{BTreeMap, BTreeSet};

use super::errors::Reject;
use super::keys::{Consistency, Directory, Signature};
use super::messages::{Agree, Agreement, Close, Reveal, Survivor, Upload};
use super::recover::{Recovered, Reveals};
use super::transcript::{Opening, Pairs, agree_message, close_digest, pair_pad, required, self_pad, upload_message};
use crate::layout::Layout;
use crate::mask::{Pads, Purpose};
use crate::prg::PadKey;

/// Collects one slot: uploads, agreement, reveals.
pub struct Collector {
    directory: Directory,
    opening: Opening,
    hospitals_min: u16,
    transcript: [u8; 32],
    uploads: BTreeMap<u16, Upload>,
    closed: Option<Closed>,
}

/// What exists from the close on.
struct Closed {
    close: Close,
    digest: [u8; 32],
    agrees: BTreeMap<u16, Signature>,
    agreement: Option<Agreement>,
    reveals: Reveals,
    opened: bool,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (slot, uploads, closed) = (self.opening.slot, self.uploads.len(), self.closed.is_some());
        write!(f, "Collector(slot {slot}, {uploads} uploads, closed: {closed})")
    }
}

impl Collector {
    /// Checks the opening as the hospitals will, every slot key included.
    ///
    /// # Errors
    /// The [`Reject`] that a hospital would answer with.
    pub fn new(directory: Directory, opening: Opening, layout: Layout, hospitals_min: u16) -> Result<Self, Reject> {
        directory.verify()?;
        opening.check(&directory, &layout, hospitals_min)?;
        if opening.slot == 0 {
            return Err(Reject::StaleSlot { slot: 0, last: 0 });
        }
        let transcript = opening.transcript(&directory);
        Ok(Collector { directory, opening, hospitals_min, transcript, uploads: BTreeMap::new(), closed: None })
    }

    /// T of this slot.
    pub fn transcript(&self) -> [u8; 32] {
        self.transcript
    }

    /// What makes the close of this slot the only one.
    pub fn consistency(&self) -> Consistency {
        self.directory.consistency()
    }

    /// The opening of this slot.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// Hospitals whose upload is in, sorted.
    pub fn uploaded(&self) -> impl Iterator<Item = u16> + '_ {
        self.uploads.keys().copied()
    }

    /// Takes a hospital's upload trailer. Call it once all chunks are there and give the trailer's root: the hospital
    /// becomes a survivor. The same trailer again is fine.
    ///
    /// # Errors
    /// [`Reject::WrongSlot`], [`Reject::NotInCohort`], [`Reject::Late`], [`Reject::Signature`], [`Reject::Twice`].
    pub fn handle_upload(&mut self, index: u16, upload: Upload) -> Result<(), Reject> {
        let (got, want) = (upload.slot, self.opening.slot);
        if got != want {
            return Err(Reject::WrongSlot { got, want });
        }
        if self.opening.key(index).is_none() {
            return Err(Reject::NotInCohort { hospital: index });
        }
        match self.uploads.get(&index) {
            Some(first) if *first == upload => return Ok(()),
            Some(_) => return Err(Reject::Twice { what: "upload", hospital: index }),
            None => {}
        }
        if self.closed.is_some() {
            return Err(Reject::Late { hospital: index, slot: want });
        }
        self.directory.check(index, &upload_message(&self.transcript, &upload.root), &upload.signature, "upload")?;
        self.uploads.insert(index, upload);
        Ok(())
    }

    /// Fixes the survivors: everybody whose upload is in. Asked again, it gives the same close.
    ///
    /// # Errors
    /// [`Reject::TooFewSurvivors`]; the slot stays open for more uploads.
    pub fn close(&mut self) -> Result<Close, Reject> {
        if let Some(closed) = &self.closed {
            return Ok(closed.close.clone());
        }
        let (got, want) = (self.uploads.len(), required(&self.directory, self.hospitals_min));
        if got < want {
            return Err(Reject::TooFewSurvivors { got, want });
        }
        let survivor = |(index, upload): (&u16, &Upload)| Survivor {
            index: *index,
            root: upload.root,
            signature: upload.signature,
        };
        let close = Close { slot: self.opening.slot, survivors: self.uploads.iter().map(survivor).collect() };
        let digest = close_digest(&close);
        let lost = self.opening.cohort.iter().map(|key| key.hospital_index);
        let lost = lost.filter(|index| !self.uploads.contains_key(index)).collect();
        let reveals = Reveals::new(self.uploads.keys().copied().collect(), lost);
        self.closed = Some(Closed {
            close: close.clone(),
            digest,
            agrees: BTreeMap::new(),
            agreement: None,
            reveals,
            opened: false,
        });
        Ok(close)
    }

    /// Takes a survivor's signature under the close. `Some` once, when the threshold is reached: send it to every
    /// survivor that agreed. A later one gets it from [`Collector::agreement`].
    ///
    /// # Errors
    /// [`Reject::Phase`], [`Reject::WrongSlot`], [`Reject::NotSurvivor`], [`Reject::Signature`].
    pub fn handle_agree(&mut self, index: u16, agree: Agree) -> Result<Option<Agreement>, Reject> {
        let (got, want) = (agree.slot, self.opening.slot);
        if got != want {
            return Err(Reject::WrongSlot { got, want });
        }
        let closed = self.closed.as_mut().ok_or(Reject::Phase("the slot is not closed yet"))?;
        if !self.uploads.contains_key(&index) {
            return Err(Reject::NotSurvivor { hospital: index });
        }
        let message = agree_message(&self.transcript, &closed.digest);
        self.directory.check(index, &message, &agree.signature, "agreement")?;
        closed.agrees.insert(index, agree.signature);
        if closed.agreement.is_some() || closed.agrees.len() < usize::from(self.directory.threshold) {
            return Ok(None);
        }
        let signatures = closed.agrees.iter().map(|(index, signature)| (*index, *signature)).collect();
        closed.agreement = Some(Agreement { slot: want, signatures });
        Ok(closed.agreement.clone())
    }

    /// The agreement, once there is one.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.closed.as_ref().and_then(|closed| closed.agreement.as_ref())
    }

    /// Takes a survivor's shares. `Some` once, when every secret is recovered and checked against the slot keys: pass
    /// the pads to [`Sum::unmask`](crate::Sum::unmask). `None` while more are needed, which is also the answer where a
    /// threshold is there but some of them are wrong: more shares can still outvote them.
    ///
    /// # Errors
    /// [`Reject::Phase`], [`Reject::WrongSlot`], [`Reject::NotSurvivor`], [`Reject::BadReveal`], [`Reject::Twice`];
    /// [`Reject::SharesDoNotFit`] where all survivors revealed and a secret still does not fit: the slot is lost.
    pub fn handle_reveal(&mut self, index: u16, reveal: Reveal) -> Result<Option<Pads>, Reject> {
        let (got, want) = (reveal.slot, self.opening.slot);
        if got != want {
            return Err(Reject::WrongSlot { got, want });
        }
        let closed = self.closed.as_mut().ok_or(Reject::Phase("the slot is not closed yet"))?;
        if closed.agreement.is_none() {
            return Err(Reject::Phase("the close has not been agreed to by a threshold"));
        }
        if !self.uploads.contains_key(&index) {
            return Err(Reject::NotSurvivor { hospital: index });
        }
        closed.reveals.insert(index, &reveal)?;
        if closed.opened {
            return Ok(None);
        }
        let Some(recovered) = closed.reveals.recover(&self.opening, self.directory.threshold)? else {
            return Ok(None);
        };
        let pairs = self.opening.pairs(&self.directory, self.hospitals_min);
        let pads = unmasking(&recovered, &self.opening, &pairs, &self.transcript)?;
        closed.opened = true;
        Ok(Some(pads))
    }

    /// Hospitals whose revealed shares were wrong (they lie off the polynomial that the commitment confirms), sorted.
    pub fn blamed(&self) -> BTreeSet<u16> {
        self.closed.as_ref().map(|closed| closed.reveals.blamed().clone()).unwrap_or_default()
    }
}

/// What is left on the sum: each survivor's self pad, and its pads with those whose vectors are missing.
fn unmasking(recovered: &Recovered, opening: &Opening, pairs: &Pairs, transcript: &[u8; 32]) -> Result<Pads, Reject> {
    let mut keys = Vec::new();
    for (index, own) in &recovered.own {
        keys.push(PadKey { key: self_pad(own, transcript, *index), negative: false });
    }
    for (lost, mask) in &recovered.mask {
        for (survivor, _) in recovered.own.iter().filter(|(survivor, _)| pairs.contains(*lost, *survivor)) {
            let hospital = *survivor;
            let other = opening.key(hospital).ok_or(Reject::NotInCohort { hospital })?;
            // Derived from the lost hospital's side; the survivor applied it with the opposite sign.
            let pad = pair_pad(mask, *lost, other, transcript)?;
            keys.push(PadKey { negative: !pad.negative, ..pad });
        }
    }
    let survivors = u16::try_from(recovered.own.len()).map_err(|_| Reject::Phase("too many survivors"))?;
    let (layout_digest, hospitals, suite) = (opening.layout_digest, opening.hospitals_max, opening.suite);
    Ok(Pads { purpose: Purpose::Unmask { survivors }, layout_digest, hospitals, suite, keys })
}
