//! Bad contributions and layouts end in a named error at the hospital; bad chunks at the coordinator.

// Helpers outside a #[test] function count as production code to clippy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Fate, Job, inputs, layout, reference};
use leben_privacy::layout::{FRACTION_BITS_MAX, Ring};
use leben_privacy::{
    CHUNK_BYTES_MAX, Contribution, ContributionError, Encoding, Layout, LayoutError, SegmentSpec, Sum, SumError,
    Unmasked, Values,
};

fn one(name: &str, len: usize, encoding: Encoding) -> Layout {
    Layout { segments: vec![SegmentSpec { name: name.into(), len, encoding, noise: None }] }
}

fn exact(bound: f64) -> Layout {
    one("x", 3, Encoding::Exact { bound })
}

fn clip(layout: &Layout, values: Values) -> Result<(), ContributionError> {
    Contribution::new(vec![values]).clip(layout).map(|_| ())
}

#[test]
fn bits_on_the_wire_are_the_designs_numbers() {
    let bits = |bits, hospitals| {
        let geometry = one("w", 8, Encoding::Compact { clip: 1.0, bits }).geometry(hospitals).unwrap();
        geometry.ring(0).unwrap().wire_bits()
    };
    assert_eq!([bits(16, 3), bits(16, 20), bits(16, 200)], [18, 21, 24]);
    // ceil(log2(2 n L + 1)) in big integers: the smallest power of two that holds all sums.
    for levels_bits in [8u8, 12, 16] {
        let levels = (1u64 << (levels_bits - 1)) - 1;
        for n in 1..=u16::MAX {
            let b = bits(levels_bits, n);
            let sums = 2 * u64::from(n) * levels + 1;
            assert!(1u64 << b >= sums && 1u64 << (b - 1) < sums, "{levels_bits} bits, {n} hospitals");
        }
    }
}

#[test]
fn a_megaparameter_upload_has_exactly_b_bits_a_value() {
    let layout = one("w", 1_000_000, Encoding::Compact { clip: 1.0, bits: 16 });
    assert_eq!(layout.wire_bytes(20).unwrap(), 1_000_000 * 21 / 8);
    let geometry = layout.geometry(20).unwrap();
    let chunks: Vec<_> = (0..geometry.chunk_count()).map(|i| geometry.chunk(i).unwrap()).collect();
    assert!(chunks.iter().all(|c| c.bytes <= CHUNK_BYTES_MAX));
    assert_eq!(chunks.iter().map(|c| c.bytes as u64).sum::<u64>(), layout.wire_bytes(20).unwrap());
    let mut lane = 0;
    for chunk in &chunks {
        assert_eq!(chunk.lane, lane);
        lane += chunk.lanes;
    }
    assert_eq!(lane, 1_000_000);
    assert_eq!(geometry.chunk(chunks.len()), None);
}

#[test]
fn fraction_bits_follow_the_bound() {
    let bits = |bound, hospitals| match exact(bound).geometry(hospitals).unwrap().ring(0) {
        Some(Ring::Wide { fraction_bits }) => fraction_bits,
        other => panic!("{other:?}"),
    };
    assert_eq!(bits(1.0, 4), FRACTION_BITS_MAX);
    assert_eq!(bits(1024.0, 1), 52);
    assert_eq!(bits(1024.0, 2), 51);
    assert_eq!(bits(1000.0, 4), 50);
    assert_eq!(bits((1u64 << 60) as f64, 4), 0);
    assert_eq!(bits(f64::MIN_POSITIVE / 8.0, 4), 52);
    let overflow = LayoutError::Overflow("x".into(), 5);
    assert_eq!(exact((1u64 << 60) as f64).validate(5), Err(overflow.clone()));
    assert_eq!(exact(f64::MAX).validate(5), Err(overflow));
}

#[test]
fn bad_layouts_are_named() {
    let x = || String::from("x");
    for bound in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert_eq!(exact(bound).validate(3), Err(LayoutError::Bound(x())));
        let compact = one("x", 3, Encoding::Compact { clip: bound as f32, bits: 8 });
        assert_eq!(compact.validate(3), Err(LayoutError::Clip(x())));
    }
    let bits = one("x", 3, Encoding::Compact { clip: 1.0, bits: 9 });
    assert_eq!(bits.validate(3), Err(LayoutError::Bits(x(), 9)));
    assert_eq!(one("x", 0, Encoding::Exact { bound: 1.0 }).validate(3), Err(LayoutError::Empty(x())));
    assert_eq!(one("", 1, Encoding::Exact { bound: 1.0 }).validate(3), Err(LayoutError::Name(0, 0)));
    let long = one(&"n".repeat(65), 1, Encoding::Exact { bound: 1.0 });
    assert_eq!(long.validate(3), Err(LayoutError::Name(0, 65)));
    assert_eq!(exact(1.0).validate(0), Err(LayoutError::NoHospitals));
    assert_eq!(Layout { segments: vec![] }.validate(3), Err(LayoutError::SegmentCount(0)));
    let spec = exact(1.0).segments[0].clone();
    let same = Layout { segments: vec![spec.clone(), spec.clone()] };
    assert_eq!(same.validate(3), Err(LayoutError::DuplicateName(x())));
    assert_eq!(Layout { segments: vec![spec; 4097] }.validate(3), Err(LayoutError::SegmentCount(4097)));
    for len in [usize::MAX, (2 << 30) + 1] {
        assert_eq!(one("x", len, Encoding::Exact { bound: 1.0 }).validate(3), Err(LayoutError::TooLarge));
    }
    assert_eq!(one("x", 2 << 30, Encoding::Exact { bound: 1.0 }).validate(3), Ok(()));
}

#[test]
fn every_part_of_a_layout_is_in_its_digest() {
    let base = layout(10, 16);
    let changed: [&dyn Fn(&mut Layout); 6] = [
        &|l| l.segments[0].name.push('s'),
        &|l| l.segments[0].len += 1,
        &|l| l.segments[0].encoding = Encoding::Exact { bound: 1001.0 },
        &|l| l.segments[1].encoding = Encoding::Compact { clip: 32767.0, bits: 12 },
        &|l| l.segments[1].encoding = Encoding::Compact { clip: 1.0, bits: 16 },
        &|l| l.segments.swap(0, 1),
    ];
    let mut seen = std::collections::BTreeSet::from([base.digest()]);
    for change in changed {
        let mut other = base.clone();
        change(&mut other);
        assert!(seen.insert(other.digest()));
    }
}

#[test]
fn bad_contributions_are_named_and_never_quoted() {
    let (wide, narrow) = (exact(10.0), one("w", 3, Encoding::Compact { clip: 1.0, bits: 8 }));
    for (bad, finite) in
        [(f64::NAN, false), (f64::INFINITY, false), (f64::NEG_INFINITY, false), (10.5, true), (-10.5, true)]
    {
        let error = clip(&wide, Values::F64(vec![0.0, 10.0, bad])).unwrap_err();
        let segment = String::from("x");
        let want = if finite {
            ContributionError::OutOfBound { segment, position: 2 }
        } else {
            ContributionError::NotFinite { segment, position: 2 }
        };
        assert_eq!(error, want);
        assert!(!error.to_string().contains("10.5"));
    }
    let error = clip(&narrow, Values::F32(vec![f32::NAN, 0.0, 0.0])).unwrap_err();
    assert_eq!(error, ContributionError::NotFinite { segment: "w".into(), position: 0 });
    assert!(clip(&narrow, Values::F32(vec![5.0, -5.0, 0.0])).is_ok());
    let short = clip(&wide, Values::F64(vec![0.0; 2])).unwrap_err();
    assert_eq!(short, ContributionError::Length { segment: "x".into(), got: 2, want: 3 });
    assert_eq!(clip(&wide, Values::F32(vec![0.0; 3])), Err(ContributionError::Type { segment: "x".into() }));
    assert_eq!(clip(&narrow, Values::F64(vec![0.0; 3])), Err(ContributionError::Type { segment: "w".into() }));
    let none = Contribution::new(vec![]).clip(&wide).err();
    assert_eq!(none, Some(ContributionError::SegmentCount { got: 0, want: 1 }));
    assert_eq!(format!("{:?}", Values::F64(vec![42.0])), "Values::F64(1 values)");
}

#[test]
fn chunks_of_the_wrong_length_place_or_number_are_refused() {
    let mut sum = Sum::new(layout(10, 16), 3).unwrap();
    assert_eq!(sum.chunk_count(), 2);
    let refused = |sum: &mut Sum, i: usize, len: usize| sum.add_chunk(i, &vec![0; len]).unwrap_err();
    assert_eq!(refused(&mut sum, 0, 79), SumError::Malformed { chunk: 0, got: 79, want: 80 });
    assert_eq!(refused(&mut sum, 0, 81), SumError::Malformed { chunk: 0, got: 81, want: 80 });
    // Ten lanes of 18 bits: 22.5 bytes.
    assert_eq!(refused(&mut sum, 1, 22), SumError::Malformed { chunk: 1, got: 22, want: 23 });
    let mut padded = vec![0; 23];
    padded[22] = 0x10;
    assert_eq!(sum.add_chunk(1, &padded).unwrap_err(), SumError::Malformed { chunk: 1, got: 23, want: 23 });
    assert_eq!(refused(&mut sum, 2, 80), SumError::NoSuchChunk { chunk: 2, count: 2 });
    let none = sum.remove_chunk(0, &[0; 80]).unwrap_err();
    assert_eq!(none, SumError::Count { chunk: 0, count: 0, hospitals: 3 });
    for _ in 0..3 {
        sum.add_chunk(0, &[0; 80]).unwrap();
    }
    assert_eq!(refused(&mut sum, 0, 80), SumError::Count { chunk: 0, count: 3, hospitals: 3 });
}

/// A hospital cut off in the middle of its upload: its chunks are taken out again and the sum is exact.
#[test]
fn half_an_upload_can_be_taken_out() {
    let (n, layout) = (4u16, layout(40_000, 16));
    let inputs = inputs(n, &layout);
    let mut job = Job::new(n);
    let opening = job.opening(&layout);
    let mut collector =
        leben_privacy::Collector::new(job.directory.clone(), opening.clone(), layout.clone(), 3).unwrap();
    let mut sum = Sum::new(layout.clone(), n).unwrap();
    let shares = job.shares_for(2, &opening);
    let pads = job.get(2).open(&opening, &layout, &shares).unwrap();
    let quantised = Contribution::new(inputs[1].clone()).clip(&layout).unwrap().quantise(n, [0; 32]).unwrap();
    let masked = quantised.noise([7; 32]).unwrap().mask(pads).unwrap();
    assert!(masked.chunk_count() > 2);
    let half: Vec<_> = (0..2).map(|i| masked.chunk(i).unwrap()).collect();
    half.iter().enumerate().for_each(|(i, c)| sum.add_chunk(i, c).unwrap());
    for me in [1, 3, 4] {
        let upload = job.upload(me, &opening, &layout, inputs[usize::from(me) - 1].clone(), &mut sum).unwrap();
        collector.handle_upload(me, upload).unwrap();
    }
    let close = collector.close().unwrap();
    let mut agreement = None;
    for me in [1, 3, 4] {
        let agree = job.get(me).agree(&close).unwrap();
        agreement = agreement.or(collector.handle_agree(me, agree).unwrap());
    }
    let mut pads = None;
    for me in [1, 3, 4] {
        let reveal = job.get(me).reveal(agreement.as_ref().unwrap(), None).unwrap();
        pads = pads.or(collector.handle_reveal(me, reveal).unwrap());
    }
    half.iter().enumerate().for_each(|(i, c)| sum.remove_chunk(i, c).unwrap());
    let sum = sum.unmask(pads.unwrap()).unwrap();
    let mut fates = [Fate::Stays; 4];
    fates[1] = Fate::BeforeUpload;
    let [exact, compact] = reference(n, 50, &fates, &inputs);
    assert_eq!((sum.segment("exact").unwrap(), sum.segment("compact").unwrap()), (&exact[..], &compact[..]));
    assert_eq!(sum.segment("other").unwrap_err(), SumError::NoSegment("other".into()));
}

#[test]
fn plain_sums_are_for_data_in_one_place() {
    let layout = layout(2, 8);
    let one = |x: f64| Contribution::new(vec![Values::F64(vec![x, 1.0]), Values::F32(vec![200.0, -1.0])]);
    let sum = Unmasked::from_plain(&layout, vec![one(1.5), one(2.0)]).unwrap();
    assert_eq!(sum.segment("exact").unwrap(), [3.5, 2.0]);
    assert_eq!(sum.segment("compact").unwrap(), [254.0, -2.0]);
    assert_eq!(sum.contributions(), 2);
    assert!(matches!(Unmasked::from_plain(&layout, vec![one(1e9)]), Err(SumError::Contribution(_))));
}

/// What comes over the wire is looked at before it is kept: any other length, and bits after the last lane, are not a chunk.
#[test]
fn a_chunk_fits_its_place_in_the_layout_or_not_at_all() {
    let layout = layout(10, 16);
    let geometry = layout.geometry(3).unwrap();
    let chunk = geometry.chunk(1).unwrap();
    let (bytes, used) =
        (vec![0; chunk.bytes], chunk.lanes * geometry.ring(chunk.segment).unwrap().wire_bits() as usize);
    assert!(used % 8 != 0 && geometry.fits(1, &bytes));
    assert!(
        !geometry.fits(1, &bytes[1..]) && !geometry.fits(1, &[&bytes[..], &[0]].concat()) && !geometry.fits(1, &[])
    );
    assert!(!geometry.fits(geometry.chunk_count(), &bytes));
    let mut beyond = bytes;
    *beyond.last_mut().unwrap() = 0x80;
    assert!(!geometry.fits(1, &beyond));
}
