//! Quantised, masked, added up, opened: against sums in i64 that know nothing of rings. Pads are dealt here (hospital i has
//! one of its own, adds one and takes off the next one's, so that they cancel around the table); `tests/secure_sum.rs` has the
//! protocol that deals them in truth.

use std::collections::BTreeMap;
use std::sync::Mutex;

use zeroize::Zeroizing;

use super::*;
use crate::contribution::{Segment, Source, SourceError};
use crate::mask::Masked;
use crate::prg::{PadKey, Suite};
use crate::{Contribution, Encoding, SegmentSpec, StoreError, Values};

fn key(kind: u8, i: u16, negative: bool) -> PadKey {
    let mut key = [kind; 32];
    key[..2].copy_from_slice(&i.to_le_bytes());
    PadKey { key: Zeroizing::new(key), negative }
}

fn masking(layout: &Layout, n: u16, i: u16, suite: Suite) -> Pads {
    let keys = vec![key(1, i, false), key(2, i, false), key(2, (i + 1) % n, true)];
    Pads { purpose: Purpose::Mask, layout_digest: layout.digest(), hospitals: n, suite, keys }
}

fn unmasking(layout: &Layout, n: u16, suite: Suite) -> Pads {
    let keys = (0..n).map(|i| key(1, i, false)).collect();
    Pads { purpose: Purpose::Unmask { survivors: n }, layout_digest: layout.digest(), hospitals: n, suite, keys }
}

fn masked(layout: &Layout, n: u16, i: u16, suite: Suite, contribution: Contribution) -> Masked {
    let quantised = contribution.clip(layout).unwrap().quantise(n, [i as u8; 32]).unwrap();
    quantised.noise([3; 32]).unwrap().mask(masking(layout, n, i, suite)).unwrap()
}

fn compact(len: usize, bits: u8) -> (Layout, f32) {
    let levels = f32::from(i16::try_from((1i32 << (bits - 1)) - 1).unwrap());
    let encoding = Encoding::Compact { clip: levels, bits };
    (Layout { segments: vec![SegmentSpec { name: "w".into(), len, encoding, noise: None }] }, levels)
}

/// The sum of n hospitals whose vectors are whole levels, from `value(hospital, position)`.
fn check_compact(n: u16, len: usize, bits: u8, suite: Suite, value: impl Fn(u16, usize, i64) -> i64 + Sync) {
    let (layout, clip) = compact(len, bits);
    let levels = clip as i64;
    let mut sum = Sum::new(layout.clone(), n).unwrap();
    let mut expected = vec![0i64; len];
    for i in 0..n {
        let values: Vec<i64> = (0..len).map(|j| value(i, j, levels)).collect();
        expected.iter_mut().zip(&values).for_each(|(sum, x)| *sum += x);
        let reals = values.into_iter().map(|x| x as f32).collect();
        let masked = masked(&layout, n, i, suite, Contribution::new(vec![Values::F32(reals)]));
        let chunks = masked.chunks_par(0..masked.chunk_count()).unwrap();
        sum.add_uploads(0, &[&chunks]).unwrap();
    }
    let sum = sum.unmask(unmasking(&layout, n, suite)).unwrap();
    let reference: Vec<f64> = expected.into_iter().map(|x| x as f64).collect();
    assert!(sum.segment("w").unwrap() == reference, "n {n}, len {len}, {bits} bits, {suite:?}");
}

/// No overflow: everybody at one end, at the other, and alternating, for every width and for cohorts around the powers of two at
/// which the ring grows.
#[test]
fn sums_at_both_ends_are_the_i64_sums() {
    for bits in [8u8, 12, 16] {
        for n in [3u16, 4, 5, 7, 8, 9, 16, 17, 20, 31, 32, 33, 64, 65, 100, 127, 128, 129, 199, 200] {
            check_compact(n, 70, bits, Suite::Aes256Ctr, |_, _, levels| levels);
            check_compact(n, 70, bits, Suite::Aes256Ctr, |_, _, levels| -levels);
            check_compact(
                n,
                70,
                bits,
                Suite::Aes256Ctr,
                |i, j, levels| if (usize::from(i) + j) % 2 == 0 { levels } else { -levels },
            );
        }
    }
}

#[test]
fn sums_of_every_length_are_the_i64_sums() {
    let value = |i: u16, j: usize, levels: i64| (j as i64 * 7919 + i64::from(i) * 104_729) % (2 * levels + 1) - levels;
    for len in [1usize, 10, 63, 64, 65, 2303, 2304, 2305, 4095, 4096, 4097, 1_000_003] {
        for bits in [8u8, 12, 16] {
            for suite in [Suite::Aes256Ctr, Suite::ChaCha20] {
                if len < 10_000 || suite == Suite::Aes256Ctr {
                    check_compact(if len < 10_000 { 20 } else { 5 }, len, bits, suite, value);
                }
            }
        }
    }
}

/// Real numbers: the sum is, bit for bit, the i64 sum of what each hospital rounded to; and that is within one level each.
#[test]
fn rounded_sums_are_the_i64_sums_of_the_rounded() {
    let (n, len) = (20u16, 30_000usize);
    let encoding = Encoding::Compact { clip: 0.3, bits: 16 };
    let layout = Layout { segments: vec![SegmentSpec { name: "w".into(), len, encoding, noise: None }] };
    let mut sum = Sum::new(layout.clone(), n).unwrap();
    let (mut expected, mut real) = (vec![0i64; len], vec![0f64; len]);
    for i in 0..n {
        let values: Vec<f32> =
            (0..len).map(|j| ((j * 31 + usize::from(i) * 17) % 1009) as f32 / 1500.0 - 0.336).collect();
        real.iter_mut().zip(&values).for_each(|(sum, x)| *sum += f64::from(x.clamp(-0.3, 0.3)));
        let contribution = Contribution::new(vec![Values::F32(values)]);
        let mut lanes = vec![0u32; len];
        let quantised = contribution.clone().clip(&layout).unwrap().quantise(n, [i as u8; 32]).unwrap();
        quantised.narrow(0, 0, &mut lanes).unwrap();
        expected.iter_mut().zip(&lanes).for_each(|(sum, lane)| *sum += i64::from(lane.cast_signed()));
        let masked = masked(&layout, n, i, Suite::Aes256Ctr, contribution);
        (0..masked.chunk_count()).for_each(|k| sum.add_chunk(k, &masked.chunk(k).unwrap()).unwrap());
    }
    let sum = sum.unmask(unmasking(&layout, n, Suite::Aes256Ctr)).unwrap();
    let level = f64::from(0.3f32) / 32767.0;
    for ((sum, expected), real) in sum.segment("w").unwrap().iter().zip(expected).zip(real) {
        assert_eq!(*sum, expected as f64 * f64::from(0.3f32) / 32767.0);
        assert!((sum - real).abs() < f64::from(n) * level);
    }
}

/// Exact segments at their bound, against i128.
#[test]
fn exact_sums_at_the_bound_are_the_integer_sums() {
    for n in [3u16, 20, 200] {
        for bound in [1.0, 1000.0, 0.1, 1e15] {
            let layout = Layout {
                segments: vec![SegmentSpec {
                    name: "x".into(),
                    len: 5,
                    encoding: Encoding::Exact { bound },
                    noise: None,
                }],
            };
            let fraction_bits = match layout.geometry(n).unwrap().ring(0) {
                Some(crate::layout::Ring::Wide { fraction_bits }) => fraction_bits as i32,
                other => unreachable!("{other:?}"),
            };
            let mut sum = Sum::new(layout.clone(), n).unwrap();
            let mut expected = [0i128; 5];
            for i in 0..n {
                let values = [bound, -bound, 0.0, bound / f64::from(i + 3), -bound * 0.7];
                let fixed = values.map(|x| (x * 2f64.powi(fraction_bits)).round_ties_even() as i128);
                expected.iter_mut().zip(fixed).for_each(|(sum, x)| *sum += x);
                let masked =
                    masked(&layout, n, i, Suite::Aes256Ctr, Contribution::new(vec![Values::F64(values.to_vec())]));
                sum.add_chunk(0, &masked.chunk(0).unwrap()).unwrap();
            }
            let sum = sum.unmask(unmasking(&layout, n, Suite::Aes256Ctr)).unwrap();
            let reference = expected.map(|x| x as i64 as f64 / 2f64.powi(fraction_bits));
            assert!(expected.iter().all(|x| i64::try_from(*x).is_ok()));
            assert_eq!(sum.segment("x").unwrap(), reference, "{n} hospitals, bound {bound}");
        }
    }
}

/// A store that notices being asked for what was never written, or for another length.
#[derive(Default)]
struct Blocks(Mutex<BTreeMap<u64, Vec<u8>>>);

impl LaneStore for Blocks {
    fn read(&self, chunk: &ChunkGeometry, block: &mut [u8]) -> Result<(), StoreError> {
        let blocks = self.0.lock().unwrap();
        let kept = blocks.get(&chunk.offset).ok_or(StoreError("never written".into()))?;
        assert_eq!(kept.len(), block.len());
        block.copy_from_slice(kept);
        Ok(())
    }

    fn write(&self, chunk: &ChunkGeometry, block: &[u8]) -> Result<(), StoreError> {
        assert_eq!(block.len(), chunk.bytes);
        self.0.lock().unwrap().insert(chunk.offset, block.to_vec());
        Ok(())
    }
}

fn two_segments(len: usize) -> Layout {
    let segment = |name: &str, len, encoding| SegmentSpec { name: name.into(), len, encoding, noise: None };
    Layout {
        segments: vec![
            segment("exact", 40_001, Encoding::Exact { bound: 20.0 }),
            segment("compact", len, Encoding::Compact { clip: 1.0, bits: 12 }),
        ],
    }
}

fn values(layout: &Layout, i: u16) -> Vec<Values> {
    let exact = (0..layout.segments[0].len).map(|j| (j % 19) as f64 - f64::from(i)).collect();
    let compact = (0..layout.segments[1].len).map(|j| (j % 23) as f32 / 12.0 - f32::from(i) / 9.0).collect();
    vec![Values::F64(exact), Values::F32(compact)]
}

/// In memory or in a store, one at a time or all at once, added and taken out again, in any order: the same sum.
#[test]
fn every_way_of_adding_gives_the_same_sum() {
    let (n, layout) = (4u16, two_segments(250_000));
    let uploads: Vec<Vec<Vec<u8>>> = (0..n)
        .map(|i| {
            let masked = masked(&layout, n, i, Suite::Aes256Ctr, Contribution::new(values(&layout, i)));
            masked.chunks_par(0..masked.chunk_count()).unwrap()
        })
        .collect();
    let count = uploads[0].len();
    assert!(count >= 4);
    let open = |sum: Sum| sum.unmask(unmasking(&layout, n, Suite::Aes256Ctr)).unwrap();

    let mut one_by_one = Sum::new(layout.clone(), n).unwrap();
    for upload in &uploads {
        upload.iter().enumerate().for_each(|(i, chunk)| one_by_one.add_chunk(i, chunk).unwrap());
    }
    let reference = open(one_by_one);

    let blocks = Arc::new(Blocks::default());
    let mut stored = Sum::stored(layout.clone(), n, blocks.clone()).unwrap();
    let mut memory = Sum::new(layout.clone(), n).unwrap();
    for sum in [&mut stored, &mut memory] {
        for i in (0..count).rev() {
            let chunks: Vec<&[Vec<u8>]> = uploads.iter().map(|upload| &upload[i..=i]).collect();
            sum.add_uploads(i, &chunks[1..]).unwrap();
            sum.remove_chunk(i, &uploads[1][i]).unwrap();
            sum.add_uploads(i, &[chunks[0], chunks[1]]).unwrap();
        }
    }
    assert_eq!(open(memory), reference);
    // What lies in the store is exactly as long as one upload.
    let bytes: usize = blocks.0.lock().unwrap().values().map(Vec::len).sum();
    assert_eq!(bytes as u64, layout.wire_bytes(n).unwrap());

    let opened = stored.unmasking(unmasking(&layout, n, Suite::Aes256Ctr)).unwrap();
    let mut values = Vec::new();
    for i in (0..opened.chunk_count()).rev() {
        let chunk = opened.chunk_geometry(i).unwrap();
        opened.chunk_into(i, &mut values).unwrap();
        let name = &layout.segments[chunk.segment].name;
        assert_eq!(values, reference.segment(name).unwrap()[chunk.lane..][..chunk.lanes]);
    }
    assert_eq!(opened.chunk_into(count, &mut values), Err(SumError::NoSuchChunk { chunk: count, count }));
    // Pieces of any length and place, some of whole chunks; nothing of them is kept.
    let opened = opened.into_sum();
    for (name, len) in [("exact", 40_001), ("compact", 250_000)] {
        let source = opened.source(name).unwrap();
        assert_eq!(source.count(), len);
        for (first, piece) in [(0, len), (0, 1), (1, 39_999), (32_768, 7_000), (len - 3, 3), (len, 0)] {
            let mut out = vec![0f64; piece];
            source.read(first, &mut out).unwrap();
            assert_eq!(out, reference.segment(name).unwrap()[first..][..piece], "{name} {first} {piece}");
        }
        assert!(source.read(len - 2, &mut [0.0; 3]).is_err());
        assert!(source.read(usize::MAX, &mut [0.0; 3]).is_err());
    }
    assert!(matches!(opened.source("none"), Err(SumError::NoSegment(_))));
    assert_eq!(opened, reference);
}

#[test]
fn a_run_that_does_not_fit_adds_nothing() {
    let (n, layout) = (3u16, two_segments(9));
    let good: Vec<Vec<u8>> = vec![vec![0; 262_144], vec![0; 57_864], vec![0; 16]];
    let mut sum = Sum::new(layout.clone(), n).unwrap();
    assert_eq!((0..3).map(|i| sum.chunk_geometry(i).unwrap().bytes).collect::<Vec<_>>(), [262_144, 57_864, 16]);
    let mut bad = good.clone();
    bad[2].push(0);
    let malformed = SumError::Malformed { chunk: 2, got: 17, want: 16 };
    assert_eq!(sum.add_uploads(0, &[&good, &bad]), Err(malformed));
    assert_eq!(sum.add_uploads(0, &[&good, &good[..2]]), Err(SumError::NoSuchChunk { chunk: 2, count: 3 }));
    assert_eq!(sum.add_uploads(1, &[&good]), Err(SumError::NoSuchChunk { chunk: 3, count: 3 }));
    assert_eq!(sum.add_uploads(usize::MAX, &[&good]), Err(SumError::NoSuchChunk { chunk: usize::MAX, count: 3 }));
    assert_eq!(sum.add_uploads(0, &[&good[..]; 4]), Err(SumError::Count { chunk: 0, count: 0, hospitals: 3 }));
    let empty = sum.unmask(unmasking(&layout, n, Suite::Aes256Ctr)).unwrap_err();
    assert_eq!(empty, SumError::Incomplete { chunk: 0, got: 0, want: 3 });
}

#[test]
fn a_store_that_fails_loses_the_sum_and_says_why() {
    struct Broken;
    impl LaneStore for Broken {
        fn read(&self, _: &ChunkGeometry, _: &mut [u8]) -> Result<(), StoreError> {
            Err(StoreError("no such disk".into()))
        }
        fn write(&self, _: &ChunkGeometry, _: &[u8]) -> Result<(), StoreError> {
            Err(StoreError("disk full".into()))
        }
    }
    let mut sum = Sum::stored(two_segments(9), 3, Arc::new(Broken)).unwrap();
    let error = sum.add_chunk(2, &[0; 16]).unwrap_err();
    assert_eq!(error, SumError::Store(StoreError("disk full".into())));
}

/// A source that makes its values up as it is asked, and counts what it is asked for at most.
struct Made {
    count: usize,
    asked_max: Mutex<usize>,
    bad_from: Mutex<Option<usize>>,
}

impl Source<f32> for Made {
    fn count(&self) -> usize {
        self.count
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), SourceError> {
        let mut asked = self.asked_max.lock().unwrap();
        *asked = (*asked).max(out.len());
        assert!(first + out.len() <= self.count);
        let bad_from = self.bad_from.lock().unwrap().unwrap_or(usize::MAX);
        for (j, x) in out.iter_mut().enumerate() {
            *x = if first + j >= bad_from { f32::NAN } else { ((first + j) % 101) as f32 / 50.0 - 1.0 };
        }
        if bad_from == 0 { Err(SourceError("the file is gone".into())) } else { Ok(()) }
    }
}

/// What is read as it goes has the bytes of what lies in memory, and nobody asks for more than a tile.
#[test]
fn streamed_values_have_the_bytes_of_values_in_memory() {
    let len = 300_007;
    let (layout, _) = compact(len, 16);
    let made = Arc::new(Made { count: len, asked_max: Mutex::default(), bad_from: Mutex::default() });
    let mut all = vec![0f32; len];
    made.read(0, &mut all).unwrap();
    *made.asked_max.lock().unwrap() = 0;
    let streamed =
        masked(&layout, 3, 1, Suite::Aes256Ctr, Contribution::from_sources(vec![Segment::F32(made.clone())]));
    let memory = masked(&layout, 3, 1, Suite::Aes256Ctr, Contribution::new(vec![Values::F32(all)]));
    assert_eq!(streamed.root().unwrap(), memory.root().unwrap());
    assert_eq!(streamed.chunk(1).unwrap(), memory.chunk(1).unwrap());
    assert_eq!(*made.asked_max.lock().unwrap(), crate::layout::TILE_LANES);

    // A source that changes after it was looked over, or goes away: the chunk is refused, and the others stay as they are.
    let before = streamed.chunk(0).unwrap();
    *made.bad_from.lock().unwrap() = Some(250_000);
    let error = streamed.chunk(2).unwrap_err();
    assert_eq!(error, ContributionError::NotFinite { segment: "w".into(), position: 250_000 });
    assert_eq!(streamed.chunk(0).unwrap(), before);
    *made.bad_from.lock().unwrap() = Some(0);
    let gone = SourceError("the file is gone".into());
    assert_eq!(
        streamed.chunk(0).unwrap_err(),
        ContributionError::Source { segment: "w".into(), position: 0, error: gone }
    );
    // And before anything is sent.
    *made.bad_from.lock().unwrap() = Some(299_999);
    let refused = Contribution::from_sources(vec![Segment::F32(made)]).clip(&layout).map(|_| ());
    assert_eq!(refused, Err(ContributionError::NotFinite { segment: "w".into(), position: 299_999 }));
}

/// Threads change who makes a chunk, not what is in it.
#[test]
fn any_number_of_threads_gives_the_same_bytes() {
    let layout = two_segments(500_000);
    let masked = masked(&layout, 5, 2, Suite::ChaCha20, Contribution::new(values(&layout, 2)));
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| (masked.root().unwrap(), masked.chunks_par(0..masked.chunk_count()).unwrap()))
    };
    let one = with(1);
    for threads in [2, 3, 8] {
        assert!(with(threads) == one, "{threads} threads");
    }
}

/// How an average is weighted: each hospital multiplies by its weight before rounding, the weights' total is one exact lane beside.
/// The quotient is the weighted mean to within one level a hospital, whatever the weights are; the lane itself is exact.
#[test]
fn weights_go_in_before_rounding_and_their_total_is_one_lane() {
    let (n, len, rows_max) = (20u16, 5_000usize, 1_000.0);
    let segment = |name: &str, len, encoding| SegmentSpec { name: name.into(), len, encoding, noise: None };
    let layout = Layout {
        segments: vec![
            segment("rows", 1, Encoding::Exact { bound: rows_max }),
            segment("weighted", len, Encoding::Compact { clip: 1.0, bits: 16 }),
        ],
    };
    let rows = |i: u16| f64::from(1 + i * 49 % 1000);
    let value = |i: u16, j: usize| ((j * 13 + usize::from(i) * 7) % 401) as f64 / 200.0 - 1.0;
    let mut sum = Sum::new(layout.clone(), n).unwrap();
    for i in 0..n {
        let weighted = (0..len).map(|j| (value(i, j) * rows(i) / rows_max) as f32).collect();
        let contribution = Contribution::new(vec![Values::F64(vec![rows(i)]), Values::F32(weighted)]);
        let masked = masked(&layout, n, i, Suite::Aes256Ctr, contribution);
        (0..masked.chunk_count()).for_each(|k| sum.add_chunk(k, &masked.chunk(k).unwrap()).unwrap());
    }
    let sum = sum.unmask(unmasking(&layout, n, Suite::Aes256Ctr)).unwrap();
    let total = (0..n).map(rows).sum::<f64>();
    assert_eq!(sum.segment("rows").unwrap(), [total]);
    for (j, weighted) in sum.segment("weighted").unwrap().iter().enumerate() {
        let mean = (0..n).map(|i| rows(i) * value(i, j)).sum::<f64>() / total;
        let got = weighted * rows_max / total;
        assert!((got - mean).abs() < f64::from(n) / 32767.0 * rows_max / total + 1e-6, "{j}: {got} {mean}");
    }
}
