//! Every frame type against mutated bytes, from a fixed seed. To go on for longer than a test may: `protocol/fuzz`.
//!
//! A new frame type is one more word in the list below.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is wrong, and may look at the clock"
)]

mod dream;

use leben_protocol::codec::{decode, encode};
use leben_protocol::frame::{Answer, Hello, Order, Progress, Report, UploadReply, UploadTrailer};
use leben_protocol::wire::Wire;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::de::DeserializeOwned;

macro_rules! fuzz_frames {
    ($($test:ident $frame:ty;)*) => { $(
        #[test]
        fn $test() {
            fuzz_decode::<$frame>();
        }
    )* };
}

fuzz_frames! {
    hello Hello;
    answer Answer;
    order Order;
    report Report;
    upload_trailer UploadTrailer;
    upload_reply UploadReply;
    progress Progress;
}

#[cfg(feature = "quic")]
fuzz_frames! {
    parcel leben_protocol::quic::Parcel;
    trailer leben_protocol::quic::transfer::Trailer;
    resume leben_protocol::quic::transfer::Resume;
}

const CASES: u32 = 20_000;

/// Draws [`CASES`] frames, checks that each comes back, then damages its bytes: whatever they are now, decoding does not panic,
/// and what still decodes has exactly these bytes for its encoding.
fn fuzz_decode<T: Wire + DeserializeOwned>() {
    let mut rng = ChaCha20Rng::from_seed(*b"leben-protocol: fuzz_decode, v1.");
    let (mut drawn, mut survived) = (0, 0);
    let mut before = Vec::new();
    for _ in 0..CASES {
        let Ok(frame) = dream::dream::<T>(&mut rng) else { continue };
        drawn += 1;
        let bytes = encode(&frame).unwrap();
        let back: T = decode(&bytes).unwrap();
        assert_eq!(encode(&back).unwrap(), bytes, "a {} does not come back as it was", T::name());
        let damaged = damage(&mut rng, &bytes, &before);
        if let Ok(other) = decode::<T>(&damaged) {
            survived += 1;
            assert_eq!(encode(&other).unwrap(), damaged, "two encodings of one {}", T::name());
        }
        before = bytes;
    }
    assert!(drawn > CASES / 2, "only {drawn} of {CASES} draws were frames: the fuzz does not reach this type");
    println!("{}: {drawn} frames, {survived} still frames after damage", T::name());
}

fn damage(rng: &mut ChaCha20Rng, bytes: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + rng.next_u32() % 3 {
        let at = rng.next_u32() as usize % (bytes.len() + 1);
        match rng.next_u32() % 6 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, rng.next_u32() as u8),
            2 if at < bytes.len() => bytes[at] ^= 1 << (rng.next_u32() % 8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            // A length as an attacker likes it.
            4 if at + 8 <= bytes.len() => {
                let hostile = [0, 1, 1 << 16, 1 << 20, u64::from(u32::MAX), 1 << 40, i64::MAX as u64, u64::MAX];
                bytes[at..at + 8].copy_from_slice(&hostile[rng.next_u32() as usize % hostile.len()].to_le_bytes());
            }
            // The head of one frame, the tail of another.
            _ => {
                bytes.truncate(at);
                bytes.extend_from_slice(other.get(rng.next_u32() as usize % (other.len() + 1)..).unwrap_or_default());
            }
        }
    }
    bytes
}
