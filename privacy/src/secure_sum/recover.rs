//! From revealed shares to secrets, each checked against what its owner committed to before it is used.
//!
//! The paper recovers from any threshold of shares. Here a recovered mask secret must give the advertised public key
//! and a recovered self-mask secret the advertised hash, so a wrong share is noticed. Where more than a threshold of
//! shares is there, single and paired liars are found by leaving them out.

use std::collections::{BTreeMap, BTreeSet};

use curve25519_dalek::scalar::Scalar;
use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::errors::Reject;
use super::keys::{mask_secret, self_commit};
use super::messages::Reveal;
use super::transcript::Opening;
use crate::seal;
use crate::shamir::{interpolate, lagrange};

/// Choices of shares tried for one slot before more shares are waited for: bounds what a liar can make us compute.
const CHOICES_MAX: usize = 512;

/// The secrets of a slot, wiped when dropped.
pub(super) struct Recovered {
    /// Self-mask secret of each survivor.
    pub own: Vec<(u16, Scalar)>,
    /// Mask secret of each member of the cohort that did not survive.
    pub mask: Vec<(u16, Scalar)>,
}

impl Drop for Recovered {
    fn drop(&mut self) {
        self.own.iter_mut().chain(&mut self.mask).for_each(|(_, secret)| secret.zeroize());
    }
}

/// Shares revealed so far.
pub(super) struct Reveals {
    survivors: Vec<u16>,
    lost: Vec<u16>,
    /// By sender: one scalar per survivor, then one per lost member.
    shares: BTreeMap<u16, Vec<Scalar>>,
    blamed: BTreeSet<u16>,
}

impl Drop for Reveals {
    fn drop(&mut self) {
        self.shares.values_mut().for_each(Zeroize::zeroize);
    }
}

impl Reveals {
    pub fn new(survivors: Vec<u16>, lost: Vec<u16>) -> Self {
        Reveals { survivors, lost, shares: BTreeMap::new(), blamed: BTreeSet::new() }
    }

    pub fn blamed(&self) -> &BTreeSet<u16> {
        &self.blamed
    }

    /// Takes a reveal that holds exactly the shares the close asks for.
    pub fn insert(&mut self, hospital: u16, reveal: &Reveal) -> Result<(), Reject> {
        let bad = Reject::BadReveal { hospital };
        let own = reveal.self_shares.iter().map(|(index, _)| index);
        let mask = reveal.mask_shares.iter().map(|(index, _)| index);
        if !own.eq(&self.survivors) || !mask.eq(&self.lost) {
            return Err(bad);
        }
        let all = reveal.self_shares.iter().chain(&reveal.mask_shares);
        let scalars: Option<Vec<Scalar>> =
            all.map(|(_, bytes)| Option::from(Scalar::from_canonical_bytes(*bytes))).collect();
        let scalars = scalars.ok_or(bad)?;
        match self.shares.get(&hospital) {
            Some(first) if *first == scalars => Ok(()),
            Some(_) => Err(Reject::Twice { what: "reveal", hospital }),
            None => {
                self.shares.insert(hospital, scalars);
                Ok(())
            }
        }
    }

    /// All secrets, or `None` while more shares are needed.
    pub fn recover(&mut self, opening: &Opening, threshold: u16) -> Result<Option<Recovered>, Reject> {
        if self.shares.len() < usize::from(threshold) {
            return Ok(None);
        }
        let mut recovered = Recovered { own: Vec::new(), mask: Vec::new() };
        let mut choices = Choices::new(self.shares.keys().copied().collect(), usize::from(threshold));
        let owners = self.survivors.iter().map(|owner| (*owner, true));
        let owners = owners.chain(self.lost.iter().map(|owner| (*owner, false)));
        for (at, (owner, own)) in owners.enumerate() {
            // A choice that gave one owner's secret is tried first for the next: without liars there is only one.
            let Some(secret) = choices.find(|senders, to_zero| {
                let secret = self.value(at, senders, to_zero)?;
                fits(&secret, opening, owner, own).then_some(secret)
            }) else {
                let last = self.shares.len() == self.survivors.len();
                return if last { Err(Reject::SharesDoNotFit { hospital: owner }) } else { Ok(None) };
            };
            let liars = self.liars(at, choices.current());
            self.blamed.extend(liars);
            if own { &mut recovered.own } else { &mut recovered.mask }.push((owner, secret));
        }
        Ok(Some(recovered))
    }

    fn value(&self, at: usize, senders: &[u16], coefficients: &[Scalar]) -> Option<Scalar> {
        let shares: Option<Vec<Scalar>> = senders.iter().map(|s| self.shares.get(s)?.get(at).copied()).collect();
        let mut shares = shares?;
        let value = interpolate(coefficients, &shares);
        shares.zeroize();
        Some(value)
    }

    /// Senders whose share at `at` is not on the polynomial through the good ones.
    fn liars(&self, at: usize, good: &[u16]) -> Vec<u16> {
        // Without an earlier failure nobody is suspected, and each check costs t^2 multiplications.
        let first = self.shares.keys().take(good.len());
        if first.eq(good.iter()) {
            return Vec::new();
        }
        let off = |sender: &u16| {
            let expected = lagrange(good, *sender).and_then(|c| self.value(at, good, &c));
            expected != self.shares.get(sender).and_then(|s| s.get(at)).copied()
        };
        self.shares.keys().copied().filter(|sender| !good.contains(sender) && off(sender)).collect()
    }
}

/// Whether a secret is the one its owner advertised.
fn fits(secret: &Scalar, opening: &Opening, owner: u16, own: bool) -> bool {
    let Some(key) = opening.key(owner) else { return false };
    let (got, want) = if own {
        (self_commit(secret, &opening.job, opening.slot, owner), key.self_commit)
    } else {
        (seal::public_of(&mask_secret(secret)), key.mask_public)
    };
    got.ct_eq(&want).into()
}

/// Sets of `threshold` senders with their coefficients, least exclusions first: nobody left out, each one, each two.
struct Choices {
    senders: Vec<u16>,
    threshold: usize,
    current: Vec<u16>,
    coefficients: Vec<Scalar>,
    tried: usize,
}

impl Choices {
    fn new(senders: Vec<u16>, threshold: usize) -> Self {
        let current: Vec<u16> = senders.iter().copied().take(threshold).collect();
        let coefficients = lagrange(&current, 0).unwrap_or_default();
        Choices { senders, threshold, current, coefficients, tried: 0 }
    }

    fn current(&self) -> &[u16] {
        &self.current
    }

    fn find(&mut self, mut fits: impl FnMut(&[u16], &[Scalar]) -> Option<Scalar>) -> Option<Scalar> {
        if let Some(secret) = fits(&self.current, &self.coefficients) {
            return Some(secret);
        }
        let spare = self.senders.len() - self.threshold;
        let senders = self.senders.clone();
        let singles = senders.iter().map(|a| (*a, *a));
        let pairs = senders.iter().enumerate().flat_map(|(i, a)| senders.iter().skip(i + 1).map(move |b| (*a, *b)));
        let exclusions = singles.filter(|_| spare >= 1).chain(pairs.filter(|_| spare >= 2));
        for (a, b) in exclusions {
            self.tried += 1;
            if self.tried > CHOICES_MAX {
                return None;
            }
            let left = senders.iter().copied().filter(|s| *s != a && *s != b).take(self.threshold).collect::<Vec<_>>();
            let Some(coefficients) = lagrange(&left, 0) else { continue };
            if let Some(secret) = fits(&left, &coefficients) {
                self.current = left;
                self.coefficients = coefficients;
                return Some(secret);
            }
        }
        None
    }
}
