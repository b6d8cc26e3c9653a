//! The codec against hostile bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is wrong, and may look at the clock"
)]

#[path = "support/note.rs"]
mod note;

use leben_protocol::codec::{CodecError, decode, encode, encode_prefixed};
use leben_protocol::limits::FRAME_BYTES_MAX;
use note::Note;
use proptest::prelude::*;

fn notes() -> Vec<Note> {
    vec![
        Note::Text("Grüß Gott".into()),
        Note::Bytes((0..100).collect()),
        Note::Table(vec![vec![1, 2, 3], vec![], vec![u32::MAX]]),
        Note::Maybe { key: [7; 32], at_ms: Some(u64::MAX), yes: true, real: -0.0 },
        Note::Maybe { key: [0; 32], at_ms: None, yes: false, real: f64::INFINITY },
    ]
}

#[test]
fn the_bytes_are_little_endian_and_full_width() {
    let bytes = encode(&Note::Table(vec![vec![0x0102_0304]])).unwrap();
    assert_eq!(hex::encode(&bytes), "02000000010000000000000001000000000000000403020 1".replace(' ', ""));
    let mut stream = vec![0xee];
    encode_prefixed(&Note::Text("a".into()), &mut stream).unwrap();
    assert_eq!(hex::encode(stream), "ee0d00000000000000010000000000000061");
}

#[test]
fn every_frame_comes_back() {
    for note in notes() {
        assert_eq!(decode::<Note>(&encode(&note).unwrap()).unwrap(), note);
    }
}

#[test]
fn every_truncation_and_every_tail_is_refused() {
    for note in notes() {
        let bytes = encode(&note).unwrap();
        for cut in 0..bytes.len() {
            assert!(
                matches!(decode::<Note>(&bytes[..cut]), Err(CodecError::Malformed { .. })),
                "{note:?} cut at {cut}"
            );
        }
        for tail in 1..9 {
            let longer = [&bytes[..], &vec![0; tail]].concat();
            let error = CodecError::TrailingBytes { frame: "Note", used: bytes.len(), extra: tail };
            assert_eq!(decode::<Note>(&longer), Err(error));
        }
    }
}

#[test]
fn what_is_too_large_is_refused_on_both_sides() {
    let overhead = encode(&Note::Bytes(vec![])).unwrap().len();
    let largest = Note::Bytes(vec![1; FRAME_BYTES_MAX - overhead]);
    let bytes = encode(&largest).unwrap();
    assert_eq!(bytes.len(), FRAME_BYTES_MAX);
    assert_eq!(decode::<Note>(&bytes), Ok(largest));
    let mut to = vec![9];
    let error = encode_prefixed(&Note::Bytes(vec![1; FRAME_BYTES_MAX]), &mut to).unwrap_err();
    assert!(matches!(error, CodecError::TooLarge { .. }) && error.to_string().contains("chunks"), "{error}");
    assert_eq!(to, [9], "a failed frame left bytes behind");
    assert!(matches!(decode::<Note>(&vec![0; FRAME_BYTES_MAX + 1]), Err(CodecError::TooLarge { .. })));
}

/// A length is a claim of eight bytes; believing it would cost up to 2^64 of them.
#[test]
fn hostile_lengths_do_not_allocate() {
    let before = peak_bytes();
    for variant in 0..3u32 {
        for length in [1 << 20, 1 << 21, 1 << 32, 1 << 40, u64::MAX / 24, u64::MAX / 4, i64::MAX as u64, u64::MAX] {
            let claim = [&variant.to_le_bytes()[..], &length.to_le_bytes()].concat();
            for filler in [0, 8, 16, 64] {
                let bytes = [&claim[..], &vec![0; filler]].concat();
                assert!(matches!(decode::<Note>(&bytes), Err(CodecError::Malformed { .. })), "{variant} {length}");
            }
            // Nested: an honest outer length, a hostile inner one.
            let nested = [&2u32.to_le_bytes()[..], &1u64.to_le_bytes(), &length.to_le_bytes()].concat();
            assert!(decode::<Note>(&nested).is_err());
        }
    }
    if let (Some(before), Some(after)) = (before, peak_bytes()) {
        assert!(after - before < 16 << 20, "decoding hostile lengths took {} bytes", after - before);
    }
}

/// The most memory this process has ever held, where the system says so.
fn peak_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[test]
fn an_error_shows_nothing_of_what_was_read() {
    let mut bytes = encode(&Note::Text("Jane Doe".into())).unwrap();
    *bytes.last_mut().unwrap() = 0xff;
    let error = decode::<Note>(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Note of 20 bytes cannot be read: a text is not UTF-8; the peer may speak another version"
    );
}

fn note() -> impl Strategy<Value = Note> {
    prop_oneof![
        any::<String>().prop_map(Note::Text),
        any::<Vec<u8>>().prop_map(Note::Bytes),
        prop::collection::vec(any::<Vec<u32>>(), 0..8).prop_map(Note::Table),
        (any::<[u8; 32]>(), any::<Option<u64>>(), any::<bool>(), any::<f64>())
            .prop_map(|(key, at_ms, yes, real)| Note::Maybe { key, at_ms, yes, real }),
    ]
}

proptest! {
    #[test]
    fn any_frame_comes_back(note in note()) {
        prop_assert_eq!(decode::<Note>(&encode(&note).unwrap()).unwrap(), note);
    }

    #[test]
    fn no_bytes_panic_and_what_decodes_has_one_encoding(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(note) = decode::<Note>(&bytes) {
            prop_assert_eq!(encode(&note).unwrap(), bytes);
        }
    }
}
