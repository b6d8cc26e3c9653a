//! The first byte picks the frame type, the rest is the frame. What decodes must have exactly these bytes for its encoding.
#![no_main]

use leben_protocol::codec::{decode, encode};
use leben_protocol::frame::{Answer, Hello, Order, Progress, Report, UploadReply, UploadTrailer};
use leben_protocol::quic::Parcel;
use leben_protocol::quic::transfer::{Resume, Trailer};
use libfuzzer_sys::fuzz_target;

macro_rules! one_of {
    ($which:expr, $bytes:expr, $($frame:ty),*) => {{
        let checks = [$(check::<$frame> as fn(&[u8])),*];
        checks[usize::from($which) % checks.len()]($bytes)
    }};
}

fn check<T: leben_protocol::wire::Wire + serde::de::DeserializeOwned>(bytes: &[u8]) {
    if let Ok(frame) = decode::<T>(bytes) {
        assert_eq!(encode(&frame).as_deref(), Ok(bytes));
    }
}

fuzz_target!(|input: &[u8]| {
    if let Some((which, bytes)) = input.split_first() {
        one_of!(
            *which, bytes, Hello, Answer, Order, Report, UploadTrailer, UploadReply, Progress, Parcel, Trailer, Resume
        );
    }
});
