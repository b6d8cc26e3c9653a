//! A job in memory: n hospitals, one coordinator, hospitals that drop at a chosen step.
// Helpers of tests, which clippy does not count as tests; not every test file uses all of them.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;

use leben_privacy::secure_sum::{FixedClose, SealedShare, SlotKey, Upload, threshold};
use leben_privacy::{
    Collector, Contribution, Directory, Encoding, JobKeys, Journal, Layout, Member, Opening, Participant, Reject,
    RoundId, SegmentSpec, Suite, Sum, Unmasked, Values,
};

/// When a hospital goes away for the rest of the slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Stays,
    BeforeUpload,
    BeforeAgree,
    BeforeReveal,
}
pub const FATES: [Fate; 4] = [Fate::Stays, Fate::BeforeUpload, Fate::BeforeAgree, Fate::BeforeReveal];

pub fn seed(parts: [u64; 4]) -> [u8; 32] {
    let mut seed = [0; 32];
    for (to, part) in seed.chunks_mut(8).zip(parts) {
        to.copy_from_slice(&part.to_le_bytes());
    }
    seed
}

pub fn job_keys(index: u16) -> JobKeys {
    JobKeys::from_seed(seed([1, index.into(), 0, 0]))
}

pub fn directory(n: u16) -> Directory {
    let member = |index| Member { index, hospital: format!("hospital {index}"), keys: job_keys(index).public() };
    Directory { job: [0x4a; 32], members: (1..=n).map(member).collect(), threshold: threshold(n) }
}

pub fn participant(me: u16, directory: &Directory, journal: Journal) -> Participant {
    Participant::new(job_keys(me), me, directory.clone(), 3, journal).unwrap()
}

/// One exact segment and one compact one whose clip is L, so that whole numbers are levels and nothing is random.
pub fn layout(len: usize, bits: u8) -> Layout {
    let levels = f32::from((1i16 << (bits - 1)).wrapping_sub(1));
    Layout {
        segments: vec![
            SegmentSpec { name: "exact".into(), len, encoding: Encoding::Exact { bound: 1000.0 }, noise: None },
            SegmentSpec {
                name: "compact".into(),
                len,
                encoding: Encoding::Compact { clip: levels, bits },
                noise: None,
            },
        ],
    }
}

/// A job whose hospitals have slot keys and shares for the slot to be opened.
pub struct Job {
    pub n: u16,
    pub directory: Directory,
    pub participants: BTreeMap<u16, Participant>,
    pub keys: Vec<SlotKey>,
    pub shares: Vec<SealedShare>,
    pub slot: u64,
    pub suite: Suite,
}

impl Job {
    /// Slot 0: everybody advertises and shares for slot 1.
    pub fn new(n: u16) -> Self {
        Job::with_threshold(n, threshold(n))
    }

    pub fn with_threshold(n: u16, threshold: u16) -> Self {
        let directory = Directory { threshold, ..directory(n) };
        let participants = (1..=n).map(|me| (me, participant(me, &directory, Journal::default()))).collect();
        let mut job =
            Job { n, directory, participants, keys: vec![], shares: vec![], slot: 0, suite: Suite::default() };
        job.advance();
        job
    }

    /// Keys and shares of everybody for the next slot.
    pub fn advance(&mut self) {
        self.slot += 1;
        let slot = self.slot;
        let advertise = |(me, p): (&u16, &mut Participant)| p.advertise(slot, seed([2, (*me).into(), slot, 0]));
        self.keys = self.participants.iter_mut().map(advertise).collect();
        let keys = &self.keys;
        let share = |(me, p): (&u16, &mut Participant)| p.share(slot, keys, seed([3, (*me).into(), slot, 0])).unwrap();
        self.shares = self.participants.iter_mut().flat_map(share).collect();
    }

    pub fn opening(&self, layout: &Layout) -> Opening {
        Opening {
            job: self.directory.job,
            epoch: 1,
            slot: self.slot,
            round_id: RoundId { stage: 0, round: 0 },
            contract: [0xc0; 32],
            model_digest: [0x3d; 32],
            cohort: self.keys.clone(),
            layout_digest: layout.digest(),
            hospitals_max: self.n,
            suite: self.suite,
            checkpoint: [0x1e; 32],
        }
    }

    /// The shares addressed to one hospital from the cohort of an opening.
    pub fn shares_for(&self, me: u16, opening: &Opening) -> Vec<SealedShare> {
        let wanted = |share: &&SealedShare| share.to == me && opening.key(share.from).is_some();
        self.shares.iter().filter(wanted).cloned().collect()
    }

    pub fn get(&mut self, me: u16) -> &mut Participant {
        self.participants.get_mut(&me).unwrap()
    }

    /// Opens at one hospital, masks, adds all chunks to the sum, signs the root.
    pub fn upload(
        &mut self,
        me: u16,
        opening: &Opening,
        layout: &Layout,
        values: Vec<Values>,
        sum: &mut Sum,
    ) -> Result<Upload, Reject> {
        let shares = self.shares_for(me, opening);
        let pads = self.get(me).open(opening, layout, &shares)?;
        let clipped = Contribution::new(values).clip(layout).unwrap();
        let quantised = clipped.quantise(opening.hospitals_max, seed([4, me.into(), 0, 0])).unwrap();
        let masked = quantised.noise(seed([5, me.into(), opening.slot, 0])).unwrap().mask(pads).unwrap();
        for i in 0..masked.chunk_count() {
            sum.add_chunk(i, &masked.chunk(i).unwrap()).unwrap();
        }
        self.get(me).sign_upload(opening.slot, masked.root().unwrap())
    }

    /// A whole slot of round 0. `Ok(None)` where too few are left to open anything.
    pub fn run(&mut self, layout: &Layout, fates: &[Fate], inputs: &[Vec<Values>]) -> Result<Option<Unmasked>, Reject> {
        self.run_round(layout, 0, fates, inputs)
    }

    pub fn run_round(
        &mut self,
        layout: &Layout,
        round: u32,
        fates: &[Fate],
        inputs: &[Vec<Values>],
    ) -> Result<Option<Unmasked>, Reject> {
        let round_id = RoundId { stage: 0, round };
        let opening = Opening { round_id, ..self.opening(layout) };
        let mut collector = Collector::new(self.directory.clone(), opening.clone(), layout.clone(), 3)?;
        let mut sum = Sum::new(layout.clone(), opening.hospitals_max).unwrap();
        let fate = |me: u16| fates[usize::from(me) - 1];
        for me in (1..=self.n).filter(|me| fate(*me) != Fate::BeforeUpload) {
            let upload = self.upload(me, &opening, layout, inputs[usize::from(me) - 1].clone(), &mut sum)?;
            collector.handle_upload(me, upload)?;
        }
        let close = collector.close()?;
        let survivors: Vec<u16> = close.survivors.iter().map(|s| s.index).collect();
        let agreeing: Vec<u16> = survivors.iter().copied().filter(|me| fate(*me) != Fate::BeforeAgree).collect();
        let mut agreement = None;
        for me in &agreeing {
            let agree = self.get(*me).agree(&close)?;
            agreement = agreement.or(collector.handle_agree(*me, agree)?);
        }
        let Some(agreement) = agreement else { return Ok(None) };
        let fixed = FixedClose { slot: self.slot, round_id, survivors, transcript: collector.transcript() };
        for me in agreeing.into_iter().filter(|me| fate(*me) != Fate::BeforeReveal) {
            let reveal = self.get(me).reveal(&agreement, Some(&fixed))?;
            if let Some(pads) = collector.handle_reveal(me, reveal)? {
                return Ok(Some(sum.unmask(pads).unwrap()));
            }
        }
        Ok(None)
    }
}

/// Inputs that exercise the whole range: both ends, zero, fractions of every size.
pub fn inputs(n: u16, layout: &Layout) -> Vec<Vec<Values>> {
    let len = layout.segments[0].len;
    let Encoding::Compact { clip, .. } = layout.segments[1].encoding else { panic!("second segment is compact") };
    let exact = |h: u16, j: usize| match (usize::from(h) + j) % 5 {
        0 => 1000.0,
        1 => -1000.0,
        2 => 0.0,
        3 => 1.0 / (1.0 + j as f64) + f64::from(h),
        _ => -1e-9 * (j as f64 + 0.3) * f64::from(h),
    };
    let compact = |h: u16, j: usize| match (usize::from(h) + j) % 4 {
        0 => clip,
        1 => -clip,
        2 => 0.0,
        _ => ((usize::from(h) * 31 + j * 17) % 200) as f32 - 100.0,
    };
    let one = |h: u16| {
        vec![
            Values::F64((0..len).map(|j| exact(h, j)).collect()),
            Values::F32((0..len).map(|j| compact(h, j)).collect()),
        ]
    };
    (1..=n).map(one).collect()
}

/// The reference: i64 sums of fixed-point values, none of it through the crate.
pub fn reference(n: u16, fraction_bits: i32, fates: &[Fate], inputs: &[Vec<Values>]) -> [Vec<f64>; 2] {
    let (Values::F64(first), Values::F32(_)) = (&inputs[0][0], &inputs[0][1]) else { panic!("exact, then compact") };
    let mut exact = vec![0i64; first.len()];
    let mut compact = vec![0i64; first.len()];
    for h in (0..usize::from(n)).filter(|h| fates[*h] != Fate::BeforeUpload) {
        let (Values::F64(a), Values::F32(b)) = (&inputs[h][0], &inputs[h][1]) else { panic!("exact, then compact") };
        for j in 0..first.len() {
            exact[j] += (a[j] * 2f64.powi(fraction_bits)).round_ties_even() as i64;
            compact[j] += b[j] as i64;
        }
    }
    let real = |sum: &i64| *sum as f64 / 2f64.powi(fraction_bits);
    [exact.iter().map(real).collect(), compact.iter().map(|s| *s as f64).collect()]
}
