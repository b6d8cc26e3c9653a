//! Links on loopback: who may link, what a frame may be, what a tap sees.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is wrong, and may look at the clock"
)]

#[path = "support/note.rs"]
mod note;
mod support;
#[path = "support/raw.rs"]
mod support_raw;

use std::sync::{Arc, Mutex};

use leben_protocol::backoff::Backoff;
use leben_protocol::key::fingerprint;
use leben_protocol::limits::FRAME_BYTES_MAX;
use leben_protocol::quic::{Dialer, Direction, Flow, LinkError, Listener, Tap, public_key};
use leben_protocol::reject::{Reject, RejectCode};
use note::Note;
use support::{COORDINATOR, STRANGER, WORKER, anywhere, dial, link, listen};

#[tokio::test]
async fn both_sides_know_each_other_by_their_keys() {
    let listener = listen();
    let (here, there) = link(&listener).await;
    assert_eq!(here.peer_key(), public_key(&WORKER).unwrap());
    assert_eq!(there.peer_key(), public_key(&COORDINATOR).unwrap());
    assert!(there.stats().sent_bytes > 0 && there.stats().received_bytes > 0);
    assert_eq!(there.remote_address(), listener.local_addr().unwrap());
}

#[tokio::test]
async fn a_listener_with_another_key_is_refused_and_both_keys_are_named() {
    let listener = Listener::bind(anywhere(), &STRANGER).unwrap();
    let addr = listener.local_addr().unwrap();
    let (expected, got) = (public_key(&COORDINATOR).unwrap(), public_key(&STRANGER).unwrap());
    let error = dial(&listener).await.unwrap_err();
    assert_eq!(error, LinkError::WrongKey { addr, expected, got });
    assert!(!error.is_worth_retrying());
    let words = error.to_string();
    assert!(words.contains(&fingerprint(&expected)) && words.contains(&fingerprint(&got)), "{words}");
    assert!(matches!(listener.accept().await, Some(Err(LinkError::Handshake { .. }))));
}

#[tokio::test]
async fn a_listener_with_two_keys_shows_the_one_that_is_asked_for() {
    let listener = listen();
    let (up, _up) = link(&listener).await;
    listener.set_keys(&[&STRANGER, &COORDINATOR]).unwrap();
    let addr = listener.local_addr().unwrap();
    let dialer = Dialer::new(&WORKER).unwrap();
    for seed in [COORDINATOR, STRANGER] {
        let there = dialer.dial(addr, public_key(&seed).unwrap()).await.unwrap();
        assert_eq!(there.peer_key(), public_key(&seed).unwrap());
        listener.accept().await.unwrap().unwrap();
    }
    let error = dialer.dial(addr, [7; 32]).await.unwrap_err();
    let got = public_key(&STRANGER).unwrap();
    assert_eq!(error, LinkError::WrongKey { addr, expected: [7; 32], got }, "the first where another is asked for");
    assert_eq!(up.close_reason(), None, "links that are up stay");
    listener.set_keys(&[&STRANGER]).unwrap();
    assert!(matches!(dial(&listener).await, Err(LinkError::WrongKey { .. })), "the old key is gone");
}

#[tokio::test]
async fn a_refusal_arrives_with_its_code_and_words() {
    let listener = listen();
    let (here, there) = link(&listener).await;
    let (mut writer, mut reader) = there.open_bi().await.unwrap();
    writer.send(&Note::Text("let me in".into())).await.unwrap();
    let reject = Reject::new(RejectCode::Stranger, "no party of this ledger has this key");
    here.refuse(&reject);
    assert_eq!(reader.recv::<Note>().await, Err(LinkError::Refused(reject.clone())));
    assert_eq!(there.closed().await, LinkError::Refused(reject));
    assert!(!there.closed().await.is_worth_retrying());
    assert!(there.open_bi().await.is_err());
}

#[tokio::test]
async fn an_overlong_reason_is_cut_not_lost() {
    let listener = listen();
    let (here, there) = link(&listener).await;
    here.refuse(&Reject { code: RejectCode::Busy as u16, message: "é".repeat(100_000) });
    let LinkError::Refused(reject) = there.closed().await else { panic!("not a refusal") };
    assert_eq!(reject.message, "é".repeat(256));
    assert!(reject.is_temporary());
}

#[tokio::test]
async fn frames_go_both_ways_on_many_streams() {
    let listener = listen();
    let (here, there) = link(&listener).await;
    let echo = tokio::spawn(async move {
        while let Ok((mut writer, mut reader)) = here.accept_bi().await {
            tokio::spawn(async move {
                while let Some(note) = reader.recv::<Note>().await.unwrap() {
                    writer.send(&note).await.unwrap();
                }
                writer.finish().await.unwrap();
            });
        }
    });
    for size in [0usize, 1, 1000, 70_000, FRAME_BYTES_MAX - 100] {
        let (mut writer, mut reader) = there.open_bi().await.unwrap();
        for note in [Note::Bytes(vec![7; size]), Note::Table(vec![vec![1, 2], vec![]]), Note::Text("ß".into())] {
            writer.send(&note).await.unwrap();
            assert_eq!(reader.recv().await, Ok(Some(note)));
        }
        writer.finish().await.unwrap();
        assert_eq!(reader.recv::<Note>().await, Ok(None));
    }
    there.close_and_wait("done").await;
    echo.await.unwrap();
}

#[tokio::test]
async fn a_recv_that_was_cancelled_in_the_middle_goes_on() {
    let listener = listen();
    let (here, there) = link(&listener).await;
    let (mut raw, _) = there.open_bi().await.unwrap();
    let reading = tokio::spawn(async move {
        let (_, mut reader) = here.accept_bi().await.unwrap();
        let mut got = Vec::new();
        let mut cancelled = 0u32;
        while got.len() < 40 {
            tokio::select! {
                biased;
                note = reader.recv::<Note>() => got.push(note.unwrap().unwrap()),
                // One turn of the scheduler: recv has often read a part by then.
                () = tokio::task::yield_now() => cancelled += 1,
            }
        }
        (got, cancelled)
    });
    for size in 0..40usize {
        raw.send(&Note::Bytes(vec![size as u8; size * 9_000])).await.unwrap();
    }
    let (got, cancelled) = reading.await.unwrap();
    assert!(cancelled > 0);
    for (size, note) in got.into_iter().enumerate() {
        assert_eq!(note, Note::Bytes(vec![size as u8; size * 9_000]));
    }
}

/// Sends raw bytes on a stream and says what the reader makes of them.
async fn read_raw(bytes: Vec<u8>) -> (LinkError, usize) {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let raw = support_raw::dial(addr, support_raw::Key::Own, b"leben/1").await.unwrap();
    let here = listener.accept().await.unwrap().unwrap();
    let (mut send, _receive) = raw.open_bi().await.unwrap();
    send.write_all(&bytes).await.unwrap();
    send.finish().unwrap();
    let (_, mut reader) = here.accept_bi().await.unwrap();
    let error = loop {
        match reader.recv::<Note>().await {
            Ok(Some(_)) => {}
            Ok(None) => break LinkError::Closed,
            Err(error) => break error,
        }
    };
    (error, reader.buffered_bytes())
}

fn code(error: &LinkError) -> Option<RejectCode> {
    error.reject().and_then(Reject::kind)
}

#[tokio::test]
async fn a_length_beyond_the_limit_is_refused_before_anything_is_allocated() {
    for length in [FRAME_BYTES_MAX as u32 + 1, u32::MAX] {
        let (error, buffered) = read_raw(length.to_le_bytes().to_vec()).await;
        assert_eq!(code(&error), Some(RejectCode::FrameTooLarge), "{error}");
        assert_eq!(buffered, 0);
    }
}

#[tokio::test]
async fn memory_follows_what_came_not_what_was_announced() {
    let mut bytes = (FRAME_BYTES_MAX as u32).to_le_bytes().to_vec();
    bytes.extend([0; 10]);
    let (error, buffered) = read_raw(bytes).await;
    assert_eq!(code(&error), Some(RejectCode::Malformed), "{error}");
    assert!(buffered <= leben_protocol::limits::READ_STEP_BYTES, "{buffered}");
}

#[tokio::test]
async fn a_frame_with_a_tail_or_cut_anywhere_is_refused() {
    let mut frame = Vec::new();
    leben_protocol::codec::encode_prefixed(&Note::Text("abc".into()), &mut frame).unwrap();
    let mut tail = frame.clone();
    tail[0] += 1;
    tail.push(0);
    assert_eq!(code(&read_raw(tail).await.0), Some(RejectCode::TrailingBytes));
    for cut in 1..frame.len() {
        assert_eq!(code(&read_raw(frame[..cut].to_vec()).await.0), Some(RejectCode::Malformed), "cut at {cut}");
    }
    assert_eq!(read_raw(frame).await.0, LinkError::Closed);
}

#[tokio::test]
async fn nobody_links_without_proving_an_ed25519_key() {
    use support_raw::Key;
    for (key, alpn) in [
        (Key::NoneAsX509, &b"leben/1"[..]),
        (Key::NoneAsRaw, b"leben/1"),
        (Key::OtherKind, b"leben/1"),
        (Key::SomebodyElses, b"leben/1"),
        (Key::Chain, b"leben/1"),
        (Key::Own, b"h3"),
    ] {
        let listener = listen();
        let dialled = support_raw::dial(listener.local_addr().unwrap(), key, alpn).await;
        let accepted = listener.accept().await.unwrap();
        assert!(matches!(accepted, Err(LinkError::Handshake { .. })), "{key:?}: {accepted:?}");
        if let Ok(link) = dialled {
            link.closed().await; // the dialer learns of it too
        }
    }
}

#[derive(Default)]
struct Seen(Mutex<Vec<(Flow, Vec<u8>)>>);

impl Tap for Seen {
    fn see(&self, flow: Flow, bytes: &[u8]) {
        self.0.lock().unwrap().push((flow, bytes.to_vec()));
    }
}

impl Seen {
    fn bytes(&self, direction: Direction) -> Vec<u8> {
        let seen = self.0.lock().unwrap();
        seen.iter().filter(|(flow, _)| flow.direction == direction).flat_map(|(_, bytes)| bytes.clone()).collect()
    }
}

#[tokio::test]
async fn a_tap_sees_every_byte_of_both_directions() {
    let (up, down) = (Arc::new(Seen::default()), Arc::new(Seen::default()));
    let listener = Listener::bind_with_tap(anywhere(), &COORDINATOR, &COORDINATOR, Some(up.clone())).unwrap();
    let dialer = Dialer::new(&WORKER).unwrap().with_tap(down.clone());
    let (here, there) =
        tokio::join!(listener.accept(), dialer.dial(listener.local_addr().unwrap(), public_key(&COORDINATOR).unwrap()));
    let (here, there) = (here.unwrap().unwrap(), there.unwrap());
    let (mut writer, mut reader) = there.open_bi().await.unwrap();
    let (mut sent, mut answered) = (Vec::new(), Vec::new());
    let (question, answer) = (Note::Text("SENTINEL-4711".into()), Note::Bytes(vec![5; 300]));
    leben_protocol::codec::encode_prefixed(&question, &mut sent).unwrap();
    leben_protocol::codec::encode_prefixed(&answer, &mut answered).unwrap();
    writer.send(&question).await.unwrap();
    let (mut back, mut asked) = here.accept_bi().await.unwrap();
    assert_eq!(asked.recv().await, Ok(Some(question)));
    back.send(&answer).await.unwrap();
    assert_eq!(reader.recv().await, Ok(Some(answer)));
    there.close("bye");
    here.closed().await;
    assert_eq!(up.bytes(Direction::Received), sent);
    assert_eq!(up.bytes(Direction::Sent), answered);
    assert_eq!(down.bytes(Direction::Sent), [&sent[..], b"bye"].concat());
    assert_eq!(down.bytes(Direction::Received), answered);
    let peers: Vec<_> = down.0.lock().unwrap().iter().map(|(flow, _)| flow.peer).collect();
    assert!(peers.iter().all(|peer| *peer == public_key(&COORDINATOR).unwrap()));
}

#[tokio::test]
async fn dialling_with_backoff_gives_up_where_waiting_cannot_help() {
    let listener = Listener::bind(anywhere(), &STRANGER).unwrap();
    let target = listener.local_addr().unwrap().to_string();
    let mut backoff = Backoff::between([0; 32], 1, 2);
    let dialer = Dialer::new(&WORKER).unwrap();
    let key = public_key(&COORDINATOR).unwrap();
    let ended = dialer.dial_with_backoff(&target, key, &mut backoff, |_, _| panic!("must not retry")).await;
    assert!(matches!(ended, Err(LinkError::WrongKey { .. })));
    assert_eq!(backoff.attempts(), 0);
}

#[tokio::test]
async fn a_port_in_use_and_a_name_that_is_none_are_named() {
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let Err(error) = Listener::bind(addr, &WORKER) else { panic!("bound twice") };
    assert!(matches!(error, LinkError::Bind { .. }) && error.to_string().contains(&addr.to_string()), "{error}");
    let error = leben_protocol::quic::resolve("no port here").await.unwrap_err();
    assert!(error.to_string().contains("no port here"), "{error}");
}
