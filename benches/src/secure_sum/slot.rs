//! One slot in one process: real participants, a real collector, chunks handed over in memory.
//!
//! The hospital that is measured is the first; the others' uploads are made meanwhile and not counted. What counts as the client:
//! keys and shares for the slot, opening it, looking over the values, every chunk with its hash, the signed root, agreement and
//! reveal. As the server: taking all survivors' chunks into the sum, their trailers, agreement and reveals, recovery, and reading the
//! sum chunk by chunk. Hashing what arrived, which the coordinator does as it stores it, is `server_hash_cpu_s`, by itself.

use std::sync::Arc;
use std::time::Instant;

use leben_privacy::merkle::leaf_hash;
use leben_privacy::secure_sum::{Agreement, Close, SealedShare, SlotKey, threshold};
use leben_privacy::{
    Collector, Contribution, Directory, Encoding, JobKeys, Journal, Layout, Masked, Member, Opening, Pads, Participant,
    RoundId, Segment, SegmentSpec, Suite, Sum, Unmasking,
};
use rayon::prelude::*;
use serde_json::Value;

use super::{Case, Figures};
use crate::{Failure, machine, print, seconds};

/// The compact values' clip.
const CLIP: f32 = 1.0;

/// Wall and processor seconds of a side, added up over its parts.
#[derive(Default)]
struct Cost {
    wall_s: f64,
    cpu_s: f64,
}

impl Cost {
    fn add<T, E: Into<Failure>>(&mut self, part: impl FnOnce() -> Result<T, E>) -> Result<T, Failure> {
        let (wall, cpu_s) = (Instant::now(), machine::own_cpu_s());
        let made = part().map_err(Into::into)?;
        self.cpu_s += machine::own_cpu_s() - cpu_s;
        self.wall_s += wall.elapsed().as_secs_f64();
        Ok(made)
    }
}

/// A cohort with the keys of one slot.
struct Cohort {
    case: Case,
    layout: Layout,
    participants: Vec<Participant>,
    opening: Opening,
    shares: Vec<SealedShare>,
    client: Cost,
    server: Cost,
    hash: Cost,
}

/// Runs a case in this process and prints its line.
pub fn measure(case: Case) -> Result<(), Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(case.threads).build()?;
    let meter = machine::Meter::start(vec![std::process::id()])?;
    // Twelve digits of a linear congruence, spread over the clip and a little beyond.
    let model: Vec<f32> = (0..case.params).map(|i| (i * 7919 % 10_007) as f32 / 4_900.0 - 1.02).collect();
    let model = Arc::new(model);
    let mut cohort = Cohort::new(case)?;
    let collector = Collector::new(cohort.directory(), cohort.opening.clone(), cohort.layout.clone(), 3)?;

    machine::reset_peak()?;
    let before_mib = machine::resident_mib()?;
    let masked = cohort.upload_all(&model, &pool)?;
    let client_extra_mib = machine::peak_mib(std::process::id())? - before_mib;

    machine::reset_peak()?;
    let (unmasking, bytes) = cohort.collect(&masked, collector, &pool)?;
    let error_levels = cohort.read(&unmasking, &model, &pool)?;
    // The sum's own lanes, four bytes a number, are what the model is: not beyond it.
    let lanes_mib = case.params as f64 * 4.0 / 1_048_576.0;
    let server_extra_mib = machine::peak_mib(std::process::id())? - before_mib - lanes_mib;

    let mut line = case.keys();
    let figures = Figures {
        client_s: cohort.client.wall_s,
        server_s: cohort.server.wall_s,
        client_cpu_s: cohort.client.cpu_s,
        server_cpu_s: cohort.server.cpu_s,
        bytes_per_param: bytes as f64 / case.params as f64,
    };
    figures.extend(&mut line, case.params);
    let mib = |mib: f64| Value::from((mib.max(0.0) * 10.0).round() / 10.0);
    let more = [
        ("extra_mib", mib(client_extra_mib.max(server_extra_mib))),
        ("client_extra_mib", mib(client_extra_mib)),
        ("server_extra_mib", mib(server_extra_mib)),
        ("server_hash_cpu_s", seconds(cohort.hash.cpu_s)),
        ("error_levels", seconds(error_levels)),
        ("others_cores", Value::from(meter.read()?.others_cores)),
    ];
    line.extend(more.map(|(key, value)| (key.to_owned(), value)));
    print(line)
}

impl Cohort {
    /// Keys and shares of everybody for slot 1.
    fn new(case: Case) -> Result<Cohort, Failure> {
        let n = case.hospitals;
        let encoding = Encoding::Compact { clip: CLIP, bits: case.bits };
        let layout =
            Layout { segments: vec![SegmentSpec { name: "w".into(), len: case.params, encoding, noise: None }] };
        let keys = |index| JobKeys::from_seed(seed(1, index));
        let member = |index| Member { index, hospital: format!("hospital {index}"), keys: keys(index).public() };
        let directory = Directory { job: [7; 32], members: (1..=n).map(member).collect(), threshold: threshold(n) };
        let participant = |index| Participant::new(keys(index), index, directory.clone(), 3, Journal::default());
        let mut participants = (1..=n).map(participant).collect::<Result<Vec<_>, _>>()?;
        let mut client = Cost::default();
        let mut slot_keys: Vec<SlotKey> = Vec::new();
        for participant in &mut participants {
            let index = participant.index();
            let mut own = Cost::default();
            slot_keys.push(own.add(|| Ok::<_, Failure>(participant.advertise(1, seed(2, index))))?);
            if index == 1 {
                client = own;
            }
        }
        let mut shares = Vec::new();
        for participant in &mut participants {
            let index = participant.index();
            let mut share = || participant.share(1, &slot_keys, seed(3, index));
            shares.extend(if index == 1 { client.add(share)? } else { share()? });
        }
        let opening = Opening {
            job: directory.job,
            epoch: 1,
            slot: 1,
            round_id: RoundId { stage: 0, round: 0 },
            contract: [1; 32],
            model_digest: [2; 32],
            cohort: slot_keys,
            layout_digest: layout.digest(),
            hospitals_max: n,
            suite: if case.chacha20 { Suite::ChaCha20 } else { Suite::Aes256Ctr },
            checkpoint: [3; 32],
        };
        Ok(Cohort {
            case,
            layout,
            participants,
            opening,
            shares,
            client,
            server: Cost::default(),
            hash: Cost::default(),
        })
    }

    fn directory(&self) -> Directory {
        self.participants.first().map(|p| p.directory().clone()).unwrap_or_else(|| Directory {
            job: [0; 32],
            members: Vec::new(),
            threshold: 0,
        })
    }

    fn survivors(&self) -> usize {
        usize::from(self.case.hospitals - self.case.dropped)
    }

    /// Masked vectors of the survivors; everybody opens the slot. The first one's are counted, with every byte made and hashed.
    fn upload_all(
        &mut self,
        model: &Arc<Vec<f32>>,
        pool: &rayon::ThreadPool,
    ) -> Result<Vec<(Masked, [u8; 32])>, Failure> {
        let mut masked = Vec::new();
        let survivors = self.survivors();
        for participant in &mut self.participants {
            let index = participant.index();
            let shares: Vec<_> = self.shares.iter().filter(|share| share.to == index).cloned().collect();
            let opening = &self.opening;
            let layout = &self.layout;
            let mut upload = || -> Result<(Masked, [u8; 32]), Failure> {
                let pads = participant.open(opening, layout, &shares)?;
                let contribution = Contribution::from_sources(vec![Segment::F32(model.clone())]);
                let quantised = contribution.clip(layout)?.quantise(opening.hospitals_max, seed(4, index))?;
                let masked = quantised.noise(seed(5, index))?.mask(pads)?;
                let root = if index == 1 { masked.root()? } else { [0; 32] };
                Ok((masked, root))
            };
            let made = match index {
                1 => self.client.add(|| pool.install(upload))?,
                _ if masked.len() < survivors => upload()?,
                _ => continue,
            };
            masked.push(made);
        }
        Ok(masked)
    }

    /// Every chunk of every survivor into the sum, then the messages that open it. Gives the bytes of one upload.
    fn collect(
        &mut self,
        masked: &[(Masked, [u8; 32])],
        mut collector: Collector,
        pool: &rayon::ThreadPool,
    ) -> Result<(Unmasking, u64), Failure> {
        let mut sum = self.server.add(|| Sum::new(self.layout.clone(), self.case.hospitals))?;
        // One chunk a thread of every hospital is on its way at a time.
        let mut arrived: Vec<Vec<Vec<u8>>> = masked.iter().map(|_| vec![Vec::new(); self.case.threads]).collect();
        let mut leaves: Vec<Vec<[u8; 32]>> = masked.iter().map(|_| Vec::new()).collect();
        let count = sum.chunk_count();
        for first in (0..count).step_by(self.case.threads) {
            let run = self.case.threads.min(count - first);
            for ((masked, _), chunks) in masked.iter().zip(&mut arrived) {
                chunks.truncate(run);
                let make = |(k, chunk): (usize, &mut Vec<u8>)| masked.chunk_into(first + k, chunk);
                pool.install(|| chunks.par_iter_mut().enumerate().try_for_each(make))?;
            }
            let chunks: Vec<&[Vec<u8>]> = arrived.iter().map(Vec::as_slice).collect();
            self.server.add(|| pool.install(|| sum.add_uploads(first, &chunks)))?;
            self.hash.add(|| {
                let hash = |(leaves, chunks): (&mut Vec<[u8; 32]>, &Vec<Vec<u8>>)| {
                    leaves.extend(chunks.iter().map(|c| leaf_hash(c)))
                };
                pool.install(|| leaves.par_iter_mut().zip(&arrived).for_each(hash));
                Ok::<_, Failure>(())
            })?;
        }
        for ((participant, leaves), (_, root)) in self.participants.iter_mut().zip(&leaves).zip(masked) {
            let here = leben_privacy::merkle::root(leaves);
            if participant.index() == 1 && here != *root {
                return Err("the root of what arrived is not the one that was signed".into());
            }
            let upload = participant.sign_upload(1, here)?;
            self.server.add(|| collector.handle_upload(participant.index(), upload))?;
        }
        let pads = self.agree(&mut collector)?;
        let bytes = masked.first().map_or(0, |(masked, _)| masked.wire_bytes());
        Ok((self.server.add(|| sum.unmasking(pads))?, bytes))
    }

    fn agree(&mut self, collector: &mut Collector) -> Result<Pads, Failure> {
        let close: Close = self.server.add(|| collector.close())?;
        let mut agreement: Option<Agreement> = None;
        let survivors = self.survivors();
        for participant in self.participants.iter_mut().take(survivors) {
            let index = participant.index();
            let mut agree = || participant.agree(&close);
            let agree = if index == 1 { self.client.add(agree)? } else { agree()? };
            agreement = agreement.or(self.server.add(|| collector.handle_agree(index, agree))?);
        }
        let agreement = agreement.ok_or("too few agreed")?;
        for participant in self.participants.iter_mut().take(survivors) {
            let index = participant.index();
            let mut reveal = || participant.reveal(&agreement, None);
            let reveal = if index == 1 { self.client.add(reveal)? } else { reveal()? };
            if let Some(pads) = self.server.add(|| collector.handle_reveal(index, reveal))? {
                return Ok(pads);
            }
        }
        Err("too few revealed".into())
    }

    /// Reads the sum chunk by chunk; gives the largest difference from the survivors times the model, in levels of one hospital.
    ///
    /// Each hospital's rounding is off by less than one level, so anything from `survivors` levels on is a wrong sum.
    fn read(&mut self, unmasking: &Unmasking, model: &[f32], pool: &rayon::ThreadPool) -> Result<f64, Failure> {
        let survivors = self.survivors() as f64;
        let levels = f64::from((1u32 << (self.case.bits - 1)) - 1);
        let mut worst = 0f64;
        let mut buffers = vec![Vec::new(); self.case.threads];
        for first in (0..unmasking.chunk_count()).step_by(self.case.threads) {
            buffers.truncate(unmasking.chunk_count() - first);
            let open = |(k, values): (usize, &mut Vec<f64>)| unmasking.chunk_into(first + k, values);
            self.server.add(|| pool.install(|| buffers.par_iter_mut().enumerate().try_for_each(open)))?;
            for (k, values) in buffers.iter().enumerate() {
                let lane = unmasking.chunk_geometry(first + k).map_or(0, |chunk| chunk.lane);
                let expected = model.get(lane..).unwrap_or_default().iter().map(|x| f64::from(x.clamp(-CLIP, CLIP)));
                for (sum, x) in values.iter().zip(expected) {
                    worst = worst.max((sum - survivors * x).abs() * levels);
                }
            }
        }
        if worst >= survivors { Err(format!("the sum is wrong by {worst} levels").into()) } else { Ok(worst) }
    }
}

fn seed(kind: u8, index: u16) -> [u8; 32] {
    let mut seed = [kind; 32];
    let [low, high] = index.to_le_bytes();
    (seed[0], seed[1]) = (low, high);
    seed
}
