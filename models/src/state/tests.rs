use leben_privacy::SourceError;
use proptest::prelude::*;
use safetensors::SafeTensors;

use sha2::{Digest, Sha256};

use super::*;

fn sample() -> State {
    State::default()
        .with("beta", vec![0.5, -1.25, f64::MIN_POSITIVE])
        .with_matrix("trace", 2, vec![1.0, 2.0, 3.0, 4.0])
        .with32("model", vec![0.1, -2.5, f32::MAX])
        .with_word("terms", "[\"age\",\"sex\"]")
        .with_word("outcome", "ta\"rget\u{e9}")
}

#[test]
fn published_reader_sees_the_same_tensors() {
    let bytes = sample().to_bytes().unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(read.names().len(), 3);
    let model = read.tensor("model").unwrap();
    assert_eq!((model.dtype(), model.shape()), (safetensors::Dtype::F32, &[3][..]));
    assert_eq!(model.data(), [0.1_f32, -2.5, f32::MAX].map(f32::to_le_bytes).concat());
    let trace = read.tensor("trace").unwrap();
    assert_eq!(trace.shape(), &[2, 2]);
    assert_eq!(trace.data()[8..16], 2.0_f64.to_le_bytes());
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["outcome"], "ta\"rget\u{e9}");
}

#[test]
fn round_trip_and_digest_do_not_depend_on_the_order_of_insertion() {
    let state = sample();
    assert_eq!(State::from_bytes(&state.to_bytes().unwrap()).unwrap(), state);
    let other = State::default()
        .with_word("outcome", "ta\"rget\u{e9}")
        .with_word("terms", "[\"age\",\"sex\"]")
        .with32("model", vec![0.1, -2.5, f32::MAX])
        .with_matrix("trace", 2, vec![1.0, 2.0, 3.0, 4.0])
        .with("beta", vec![0.5, -1.25, f64::MIN_POSITIVE]);
    assert_eq!(other.digest().unwrap(), state.digest().unwrap());
    assert_eq!(State::from_bytes(&State::default().to_bytes().unwrap()).unwrap(), State::default());
}

#[test]
fn an_encoding_with_blanks_or_another_order_is_refused() {
    let bytes = sample().to_bytes().unwrap();
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(State::from_bytes(&longer).is_err());
    let mut padded = bytes.clone();
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    padded[..8].copy_from_slice(&(length + 8).to_le_bytes());
    let at = 8 + usize::try_from(length).unwrap();
    padded.splice(at..at, [b' '; 8]);
    assert_eq!(State::from_bytes(&padded), Err(StateError::NotCanonical));
    assert!(State::from_bytes(&[255; 16]).is_err());
}

#[test]
fn a_tensor_is_read_as_what_it_is() {
    let state = sample();
    assert_eq!(state.values32("model").unwrap(), [0.1, -2.5, f32::MAX]);
    assert_eq!(state.vector32("model", 3).unwrap().len(), 3);
    let text = |finding: Finding| finding.to_string();
    assert!(text(state.values("model").unwrap_err()).contains("holds 32-bit floats where 64-bit"));
    assert!(text(state.values32("beta").unwrap_err()).contains("holds 64-bit floats where 32-bit"));
    assert!(text(state.vector32("model", 4).unwrap_err()).contains("3 values, not 4"));
    assert!(text(state.values32("gamma").unwrap_err()).contains("no tensor 'gamma'"));
    assert_ne!(state.digest().unwrap(), sample().with("model", vec![0.1, -2.5, 3.0]).digest().unwrap());
}

/// The digest is made block by block; it must be that of the whole.
#[test]
fn the_digest_is_that_of_the_bytes() {
    let long = sample().with32("long", vec![1.5; 10_001]).with("wide", vec![-0.5; 9_000]);
    for state in [long, sample(), State::default()] {
        let whole: [u8; 32] = Sha256::digest(state.to_bytes().unwrap()).into();
        assert_eq!(state.digest().unwrap(), whole);
        assert_eq!(State::from_bytes(&state.to_bytes().unwrap()).unwrap(), state);
    }
}

/// A header and data that are put together by hand, for what no encoder of ours would write.
fn by_hand(json: &str, data: &[u8]) -> Vec<u8> {
    let mut json = json.as_bytes().to_vec();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json, data].concat()
}

#[test]
fn other_types_gaps_and_shared_bytes_are_refused() {
    let good = r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
    assert!(State::from_bytes(&by_hand(good, &[0; 8])).is_ok());
    let malformed = [
        good.replace("F32", "F16"),
        good.replace("F32", "f32"),
        good.replace("F32", "F64"),
        good.replace("[2]", "[3]"),
        good.replace("[0,8]", "[0,9]"),
        good.replace("[2]", "[18446744073709551615,4]"),
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#.into(),
    ];
    for json in malformed {
        assert!(matches!(State::from_bytes(&by_hand(&json, &[0; 8])), Err(StateError::Malformed(_))), "{json}");
    }
    // A byte that no tensor covers, in front, between or behind, is a second encoding of the same state.
    let gap = good.replace("[0,8]", "[4,12]");
    assert_eq!(State::from_bytes(&by_hand(&gap, &[0; 12])), Err(StateError::NotCanonical));
    assert_eq!(State::from_bytes(&by_hand(good, &[0; 12])), Err(StateError::NotCanonical));
    let twice = good.replacen("\"a\"", "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},\"a\"", 1);
    assert_eq!(State::from_bytes(&by_hand(&twice, &[0; 8])), Err(StateError::NotCanonical));
}

/// A source of numbers that lie nowhere; it breaks from `bad_from` on.
struct Made {
    count: usize,
    bad_from: usize,
}

impl Source<f32> for Made {
    fn count(&self) -> usize {
        self.count
    }

    fn read(&self, first: usize, out: &mut [f32]) -> Result<(), SourceError> {
        if first + out.len() > self.bad_from {
            return Err(SourceError("the disk is gone".into()));
        }
        out.iter_mut().enumerate().for_each(|(i, value)| *value = (first + i) as f32);
        Ok(())
    }
}

fn made(bad_from: usize) -> Arc<Made> {
    Arc::new(Made { count: OUTSIDE_VALUES_MIN + 4_099, bad_from })
}

fn opened(bytes: Vec<u8>) -> Result<State, StateError> {
    let bytes: &'static [u8] = bytes.leak();
    State::open(Arc::new(bytes))
}

/// In memory, worked out when asked, left in a file: one state, one encoding.
#[test]
fn a_tensor_outside_memory_has_the_bytes_of_one_inside() {
    let count = OUTSIDE_VALUES_MIN + 4_099;
    let outside = sample().with_source32("model", made(usize::MAX)).unwrap();
    let inside = sample().with32("model", (0..count).map(|i| i as f32).collect());
    let bytes = inside.to_bytes().unwrap();
    assert_eq!(outside.to_bytes().unwrap(), bytes);
    let digest: [u8; 32] = Sha256::digest(&bytes).into();
    assert_eq!(outside.digest().unwrap(), digest);
    let mut written = Vec::new();
    assert_eq!(outside.write_to(&mut written).unwrap(), (bytes.len() as u64, digest));
    assert_eq!(written, bytes);

    let file = opened(bytes.clone()).unwrap();
    assert_eq!((&file, &file), (&inside, &outside));
    assert_ne!(file, sample());
    assert_eq!(file.digest().unwrap(), digest);
    assert_eq!(file.values("beta").unwrap(), inside.values("beta").unwrap());
    let mut some = [0.0; 3];
    file.source32("model", count).unwrap().read(OUTSIDE_VALUES_MIN, &mut some).unwrap();
    assert_eq!(some, [0.0, 1.0, 2.0].map(|i| i + OUTSIDE_VALUES_MIN as f32));
    assert!(file.source32("model", count).unwrap().read(count - 1, &mut some).is_err());
    assert!(file.source32("model", count - 1).err().unwrap().to_string().contains("values, not"));
    assert!(file.values32("model").unwrap_err().to_string().contains("in blocks"));

    // A file that is too short, or longer than it says, is no state.
    assert!(matches!(opened(bytes[..bytes.len() - 1].to_vec()), Err(StateError::Malformed(_))));
    assert_eq!(opened([bytes, vec![0]].concat()), Err(StateError::NotCanonical));
}

#[test]
fn a_state_that_nobody_would_open_is_known_before_it_is_written() {
    assert_eq!(sample().check_size(), Ok(()));
    let of = |count| sample().with_source32("model", Arc::new(Made { count, bad_from: 0 })).unwrap();
    assert_eq!(of(2_000_000_000).check_size(), Ok(()));
    assert!(matches!(of(2_200_000_000).check_size(), Err(StateError::TooLarge { most: STATE_FILE_BYTES_MAX, .. })));
    let wide = sample().with("wide", vec![0.0; STATE_BYTES_MAX / 8]);
    assert!(matches!(wide.check_size(), Err(StateError::TooLarge { .. })));
    let words = sample().with_word("long", "x".repeat(STATE_HEADER_BYTES_MAX));
    assert!(matches!(words.check_size(), Err(StateError::Malformed(_))));
}

#[test]
fn a_tensor_that_cannot_be_read_is_an_error_in_words() {
    let state = sample().with_source32("model", made(OUTSIDE_VALUES_MIN)).unwrap();
    let gone = StateError::Unreadable("the disk is gone".into());
    assert_eq!(state.to_bytes(), Err(gone.clone()));
    assert_eq!(state.digest(), Err(gone));
    assert!(state.write_to(&mut std::io::sink()).unwrap_err().to_string().contains("the disk is gone"));
    assert_ne!(state, state.clone());
    let full = &mut [0u8; 100][..];
    let state = sample().with_source32("model", made(usize::MAX)).unwrap();
    assert!(matches!(state.write_to(&mut &mut *full), Err(WriteError::Io(_))));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = State::from_bytes(&bytes);
    }

    #[test]
    fn a_flipped_bit_never_gives_the_same_state(position in 0_usize..400, bit in 0_u8..8) {
        let state = sample();
        let mut bytes = state.to_bytes().unwrap();
        let position = position % bytes.len();
        bytes[position] ^= 1 << bit;
        if let Ok(other) = State::from_bytes(&bytes) {
            prop_assert_ne!(other.digest().unwrap(), state.digest().unwrap());
        }
    }

    #[test]
    fn any_vector_round_trips(values in proptest::collection::vec(any::<f64>(), 0..50)) {
        let bytes = State::default().with("v", values).to_bytes().unwrap();
        prop_assert_eq!(State::from_bytes(&bytes).unwrap().to_bytes().unwrap(), bytes);
    }

    #[test]
    fn any_vector_of_f32_round_trips(values in proptest::collection::vec(any::<u32>(), 0..50)) {
        // Every bit pattern, NaN payloads included.
        let floats: Vec<f32> = values.iter().map(|bits| f32::from_bits(*bits)).collect();
        let bytes = State::default().with32("v", floats).to_bytes().unwrap();
        let back = State::from_bytes(&bytes).unwrap();
        prop_assert_eq!(back.values32("v").unwrap().iter().map(|v| v.to_bits()).collect::<Vec<_>>(), values);
        prop_assert_eq!(back.to_bytes().unwrap(), bytes);
    }
}
