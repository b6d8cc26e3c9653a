//! Somebody with the coordinator's whole memory and the disks of some hospitals, after one hospital's vector.

use curve25519_dalek::scalar::Scalar;

use super::keys::{JobKeys, Member, SlotSecrets, threshold};
use super::messages::SealedShare;
use super::transcript::{Opening, pair_pad, self_pad, share_aad};
use super::{Directory, Journal, Participant, RoundId};
use crate::prg::{PadKey, PadStreams, Suite};
use crate::shamir::{interpolate, lagrange};
use crate::{Contribution, Encoding, Layout, SegmentSpec, Values, seal};

const N: u16 = 7;
const TARGET: u16 = 4;
const LEN: usize = 8192;
const JOB: [u8; 32] = [9; 32];

fn seed(kind: u8, index: u16) -> [u8; 32] {
    [kind * 16 + index as u8; 32]
}

/// What the coordinator has seen of a slot, and the target's vector as it lies in the ring.
struct Seen {
    directory: Directory,
    opening: Opening,
    shares: Vec<SealedShare>,
    masked: Vec<u64>,
    plain: Vec<u64>,
}

fn lanes(bytes: &[u8]) -> Vec<u64> {
    bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect()
}

fn slot() -> Seen {
    let keys = |index| JobKeys::from_seed(seed(1, index));
    let member = |index| Member { index, hospital: format!("h{index}"), keys: keys(index).public() };
    let directory = Directory { job: JOB, members: (1..=N).map(member).collect(), threshold: threshold(N) };
    let mut all: Vec<_> =
        (1..=N).map(|me| Participant::new(keys(me), me, directory.clone(), 3, Journal::default()).unwrap()).collect();
    let cohort: Vec<_> = (1..=N).zip(&mut all).map(|(me, p)| p.advertise(1, seed(2, me))).collect();
    let shares: Vec<_> = (1..=N).zip(&mut all).flat_map(|(me, p)| p.share(1, &cohort, seed(3, me)).unwrap()).collect();
    let spec = SegmentSpec { name: "x".into(), len: LEN, encoding: Encoding::Exact { bound: 1.0 }, noise: None };
    let layout = Layout { segments: vec![spec] };
    let opening = Opening {
        job: JOB,
        epoch: 1,
        slot: 1,
        round_id: RoundId { stage: 0, round: 0 },
        contract: [1; 32],
        model_digest: [2; 32],
        cohort,
        layout_digest: layout.digest(),
        hospitals_max: N,
        suite: Suite::default(),
        checkpoint: [3; 32],
    };
    let mine: Vec<_> = shares.iter().filter(|share| share.to == TARGET).cloned().collect();
    let pads = all[usize::from(TARGET) - 1].open(&opening, &layout, &mine).unwrap();
    let values: Vec<f64> = (0..LEN).map(|i| (i as f64 / LEN as f64) - 0.5).collect();
    // Bound 1 and 7 hospitals: 62 - 3 bits behind the point, capped at 52.
    let plain = values.iter().map(|x| (x * 2f64.powi(52)).round_ties_even() as i64 as u64).collect();
    let clipped = Contribution::new(vec![Values::F64(values)]).clip(&layout).unwrap();
    let masked = clipped.quantise(N, [5; 32]).unwrap().noise([5; 32]).unwrap().mask(pads).unwrap();
    let bytes: Vec<u8> = (0..masked.chunk_count()).flat_map(|i| masked.chunk(i).unwrap()).collect();
    Seen { directory, opening, shares, masked: lanes(&bytes), plain }
}

impl Seen {
    /// Both secrets of the target from the shares that the helpers hold, and from made-up ones where these are too few.
    fn secrets(&self, helpers: &[u16]) -> (Scalar, Scalar) {
        let target = self.opening.key(TARGET).unwrap();
        let open = |helper: &u16| {
            let sealed = self.shares.iter().find(|s| s.from == TARGET && s.to == *helper).unwrap();
            let aad = share_aad(&JOB, target, self.opening.key(*helper).unwrap());
            let keys = JobKeys::from_seed(seed(1, *helper));
            let from = &self.directory.member(TARGET).unwrap().keys.channel;
            let plain = seal::open_between(keys.channel(), from, &aad, &sealed.boxed).unwrap();
            let scalar = |bytes: &[u8]| Scalar::from_canonical_bytes(bytes.try_into().unwrap()).unwrap();
            (scalar(&plain[..32]), scalar(&plain[32..]))
        };
        let (mut points, mut shares) = (helpers.to_vec(), helpers.iter().map(open).collect::<Vec<_>>());
        for made_up in (1..=N).filter(|i| !helpers.contains(i)) {
            if points.len() < usize::from(self.directory.threshold) {
                points.push(made_up);
                shares.push((Scalar::from(u64::from(made_up)), Scalar::from(77u64)));
            }
        }
        points.truncate(usize::from(self.directory.threshold));
        shares.truncate(points.len());
        let coefficients = lagrange(&points, 0).unwrap();
        let (mask, own): (Vec<_>, Vec<_>) = shares.into_iter().unzip();
        (interpolate(&coefficients, &mask), interpolate(&coefficients, &own))
    }

    /// Everything the adversary can take off the target's vector with these secrets.
    fn stripped(&self, helpers: &[u16], own: Option<Scalar>, mask: Option<Scalar>) -> Vec<u64> {
        let transcript = self.opening.transcript(&self.directory);
        let mut keys: Vec<PadKey> = Vec::new();
        if let Some(own) = own {
            keys.push(PadKey { key: self_pad(&own, &transcript, TARGET), negative: false });
        }
        for other in (1..=N).filter(|i| *i != TARGET) {
            let from_helper = helpers.contains(&other).then(|| {
                let secrets = SlotSecrets::new(seed(2, other), &JOB, 1);
                let pad = pair_pad(&secrets.mask, other, self.opening.key(TARGET).unwrap(), &transcript).unwrap();
                PadKey { negative: !pad.negative, ..pad }
            });
            let from_target =
                mask.map(|mask| pair_pad(&mask, TARGET, self.opening.key(other).unwrap(), &transcript).unwrap());
            keys.extend(from_target.or(from_helper));
        }
        let mut lanes = self.masked.clone();
        PadStreams::new(self.opening.suite, &keys, true).add_wide(0, &mut lanes);
        lanes
    }
}

/// Pearson's statistic over the byte values; 255 degrees of freedom, so 6 sigma is 390.
fn chi_square(lanes: &[u64]) -> f64 {
    let mut counts = [0f64; 256];
    lanes.iter().flat_map(|lane| lane.to_le_bytes()).for_each(|byte| counts[usize::from(byte)] += 1.0);
    let expected = lanes.len() as f64 * 8.0 / 256.0;
    counts.iter().map(|c| (c - expected).powi(2) / expected).sum()
}

/// `t - 1` helpers know all of their own pads with the target and `t - 1` shares of its secrets: what is left is
/// uniform. One more, and the same steps read the vector: the attack works, so the test means something.
#[test]
fn one_helper_below_the_threshold_sees_noise_and_at_the_threshold_the_vector() {
    let seen = slot();
    let t = usize::from(seen.directory.threshold);
    let helpers: Vec<u16> = (1..=N).filter(|i| *i != TARGET).collect();

    let few = &helpers[..t - 1];
    let (mask, own) = seen.secrets(few);
    for (own, mask) in [(None, None), (Some(own), None), (Some(own), Some(mask))] {
        let left = seen.stripped(few, own, mask);
        assert!(chi_square(&left) < 390.0, "{}", chi_square(&left));
        assert!(left.iter().zip(&seen.plain).all(|(a, b)| a != b));
    }

    let enough = &helpers[..t];
    let (mask, own) = seen.secrets(enough);
    assert_eq!(seen.stripped(enough, Some(own), Some(mask)), seen.plain);
    assert!(chi_square(&seen.plain) > 10_000.0);
}

/// With the self pad gone (the target survived) and all but one of its pairs on the adversary's side, the last pair
/// hides it; with the mask secret instead (it was lost), its self pad does.
#[test]
fn one_pad_is_enough() {
    let seen = slot();
    let secrets = SlotSecrets::new(seed(2, TARGET), &JOB, 1);
    let all_but_one: Vec<u16> = (1..N).filter(|i| *i != TARGET).collect();
    let survived = seen.stripped(&all_but_one, Some(secrets.own), None);
    let lost = seen.stripped(&all_but_one, None, Some(secrets.mask));
    for left in [&survived, &lost] {
        assert!(chi_square(left) < 390.0, "{}", chi_square(left));
    }
    // Both secrets at once, which nobody ever gets, would be the end of it.
    assert_eq!(seen.stripped(&all_but_one, Some(secrets.own), Some(secrets.mask)), seen.plain);
}
