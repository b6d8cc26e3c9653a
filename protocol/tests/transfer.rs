//! Transfers on loopback: whole, resumed, cut, stalled, wrong.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test stops at the first thing that is wrong, and may look at the clock"
)]

#[allow(dead_code, reason = "one of its keys is enough here")]
#[path = "support/raw.rs"]
mod raw;
mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use leben_protocol::backoff::Backoff;
use leben_protocol::codec::encode_prefixed;
use leben_protocol::limits::{CHUNK_BYTES_MAX, CONNECTION_WINDOW_BYTES, SEND_WINDOW_BYTES, STREAM_WINDOW_BYTES};
use leben_protocol::quic::transfer::{ParcelKind, Resume, Trailer};
use leben_protocol::quic::{
    Blob, BlobReader, BlobSender, ChunkReader, Connection, Dialer, LinkError, Listener, Parcel, TransferError,
    public_key, receive_chunks, send_chunks,
};
use leben_protocol::reject::{Reject, RejectCode};
use support::{COORDINATOR, WORKER, link, listen};

fn parcel(chunks: u64, start: u64) -> Parcel {
    Parcel { kind: ParcelKind::Masked, chunks, start }
}

/// Bytes that name their chunk and place, so that a chunk in the wrong place is seen.
fn chunk(index: u64) -> Vec<u8> {
    let mut bytes = vec![index as u8; CHUNK_BYTES_MAX];
    bytes[..8].copy_from_slice(&index.to_le_bytes());
    bytes
}

fn source(index: u64) -> Result<Vec<u8>, Infallible> {
    Ok(chunk(index))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_does_not_grow_with_the_vector() {
    const CHUNKS: u64 = 256; // 64 MiB
    let listener = listen();
    let (here, there) = link(&listener).await;
    here.admit();
    let outstanding = Arc::new([const { AtomicU64::new(0) }; 3]); // made, handled, most at once
    let counters = outstanding.clone();
    let sending = tokio::spawn(async move {
        let (mut writer, _reader) = there.open_bi().await.unwrap();
        let sent = send_chunks(&mut writer, parcel(CHUNKS, 0), |index| {
            let made = counters[0].fetch_add(CHUNK_BYTES_MAX as u64, Ordering::SeqCst) + CHUNK_BYTES_MAX as u64;
            counters[2].fetch_max(made - counters[1].load(Ordering::SeqCst), Ordering::SeqCst);
            source(index)
        })
        .await
        .unwrap();
        writer.finish_and_wait().await.unwrap();
        sent
    });
    let (_writer, mut reader) = here.accept_bi().await.unwrap();
    let mut chunks = ChunkReader::open(&mut reader, parcel(CHUNKS, 0)).await.unwrap();
    // Nobody reads until the sender has filled both windows and stands still.
    let mut made = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = outstanding[0].load(Ordering::SeqCst);
        if now > 0 && now == made {
            break;
        }
        made = now;
    }
    assert!(made < CHUNKS * CHUNK_BYTES_MAX as u64, "the sender did not wait");
    let mut expected = 0;
    while let Some((index, bytes)) = chunks.next().await.unwrap() {
        assert_eq!((index, bytes), (expected, &chunk(expected)[..]));
        outstanding[1].fetch_add(bytes.len() as u64, Ordering::SeqCst);
        expected += 1;
    }
    assert_eq!(expected, CHUNKS);
    assert_eq!(sending.await.unwrap(), CHUNKS * CHUNK_BYTES_MAX as u64);
    assert!(reader.buffered_bytes() <= CHUNK_BYTES_MAX + 8);
    let most = outstanding[2].load(Ordering::SeqCst);
    let bound = SEND_WINDOW_BYTES + u64::from(STREAM_WINDOW_BYTES) + 3 * CHUNK_BYTES_MAX as u64;
    assert!(most <= bound, "{most} bytes were under way at once; {bound} are allowed");
    assert!(u64::from(CONNECTION_WINDOW_BYTES) >= u64::from(STREAM_WINDOW_BYTES));
}

/// The coordinator of the next test: takes chunks into `stored`, tells each new link where to go on.
async fn collect(here: &Connection, chunks: u64, stored: &mut Vec<u64>, stop_after: Option<usize>) -> bool {
    let (mut writer, mut reader) = here.accept_bi().await.unwrap();
    let _hello: Resume = reader.expect().await.unwrap();
    let next_index = stored.len() as u64;
    writer.send(&Resume { next_index }).await.unwrap();
    let mut incoming = ChunkReader::open(&mut reader, parcel(chunks, next_index)).await.unwrap();
    while let Some((index, bytes)) = incoming.next().await.unwrap() {
        assert_eq!(bytes, chunk(index));
        stored.push(index);
        if Some(stored.len()) == stop_after {
            return false;
        }
    }
    writer.send(&Resume { next_index: chunks }).await.unwrap();
    true
}

async fn upload(there: &Connection, chunks: u64) -> Result<u64, TransferError<Infallible>> {
    let (mut writer, mut reader) = there.open_bi().await?;
    writer.send(&Resume { next_index: 0 }).await?;
    let Resume { next_index } = reader.expect().await?;
    let sent = send_chunks(&mut writer, parcel(chunks, next_index), source).await?;
    // A link that is closed takes unread bytes with it: the receiver's word comes first.
    assert_eq!(reader.expect::<Resume>().await?, Resume { next_index: chunks });
    Ok(sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_in_the_middle_redialled_with_backoff_and_gone_on() {
    const CHUNKS: u64 = 60;
    let listener = listen();
    let addr = listener.local_addr().unwrap();
    let (failed, mut failures) = tokio::sync::mpsc::unbounded_channel();
    let worker = tokio::spawn(async move {
        let dialer = Dialer::new(&WORKER).unwrap();
        let mut backoff = Backoff::between([4; 32], 10, 40);
        let (mut links, mut ends) = (0, Vec::new());
        loop {
            let there = dialer
                .dial_with_backoff(
                    &addr.to_string(),
                    public_key(&COORDINATOR).unwrap(),
                    &mut backoff,
                    |error, delay_ms| {
                        failed.send((error.clone(), delay_ms)).unwrap();
                    },
                )
                .await
                .unwrap();
            links += 1;
            match upload(&there, CHUNKS).await {
                Ok(sent) => return (links, ends, sent),
                Err(TransferError::Link(error)) => ends.push(error),
                Err(TransferError::Local { error, .. }) => match error {},
            }
        }
    });
    let mut stored = Vec::new();
    let here = listener.accept().await.unwrap().unwrap();
    assert!(!collect(&here, CHUNKS, &mut stored, Some(23)).await);
    listener.close("restarting").await;
    // The port answers "refused" twice; then a new process has it.
    for _ in 0..2 {
        let (error, delay_ms) = failures.recv().await.unwrap();
        assert!(matches!(error, LinkError::Unreachable { .. }), "{error}");
        assert!((5..=40).contains(&delay_ms));
    }
    drop((here, listener));
    let listener = loop {
        match Listener::bind(addr, &COORDINATOR) {
            Ok(listener) => break listener,
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let here = listener.accept().await.unwrap().unwrap();
    assert!(collect(&here, CHUNKS, &mut stored, None).await);
    assert_eq!(stored, (0..CHUNKS).collect::<Vec<_>>());
    let (links, ends, sent) = worker.await.unwrap();
    assert_eq!((links, ends), (2, vec![LinkError::Closed]));
    assert_eq!(sent, (CHUNKS - 23) * CHUNK_BYTES_MAX as u64, "what had arrived was sent again");
}

/// Every byte position of a transfer as the place of a cut: the receiver keeps what came, asks for the rest, and in all not one
/// byte of payload goes twice.
#[tokio::test]
async fn cut_at_every_byte_and_nothing_that_arrived_goes_again() {
    const SIZES: [usize; 3] = [41, 40, 7];
    let data = |index: u64| (0..SIZES[index as usize]).map(|i| (index as usize * 50 + i) as u8).collect::<Vec<u8>>();
    // What a sender writes that leaves out `held` bytes of chunk `start`.
    let stream = |start: u64, held: usize| {
        let mut bytes = Vec::new();
        encode_prefixed(&parcel(3, start), &mut bytes).unwrap();
        for index in start..3 {
            let chunk = data(index);
            let rest = &chunk[if index == start { held } else { 0 }..];
            bytes.extend((rest.len() as u32 + 8).to_le_bytes());
            bytes.extend(index.to_le_bytes());
            bytes.extend(rest);
        }
        encode_prefixed(&Trailer { chunks: 3 }, &mut bytes).unwrap();
        bytes
    };
    let listener = listen();
    let raw = raw::dial(listener.local_addr().unwrap(), raw::Key::Own, b"leben/1");
    let (there, here) = tokio::join!(raw, listener.accept());
    let (there, here) = (there.unwrap(), here.unwrap().unwrap());
    let whole = stream(0, 0).len();
    for cut in 0..whole {
        let (mut stored, mut part, mut received) = (Vec::<Vec<u8>>::new(), Vec::new(), 0);
        for attempt in 0..2 {
            let bytes = stream(stored.len() as u64, part.len());
            let (mut writer, _reader) = there.open_bi().await.unwrap();
            let until = if attempt == 0 { cut } else { bytes.len() };
            writer.write_all(&bytes[..until]).await.unwrap();
            writer.finish().unwrap();
            let (_writer, mut reader) = here.accept_bi().await.unwrap();
            let expected = parcel(3, stored.len() as u64);
            let Ok(mut incoming) = ChunkReader::open(&mut reader, expected).await else { continue };
            loop {
                match incoming.next().await {
                    Ok(Some((index, bytes))) => {
                        received += bytes.len();
                        part.extend_from_slice(bytes);
                        assert_eq!(part, data(index), "cut at {cut}");
                        stored.push(std::mem::take(&mut part));
                    }
                    Ok(None) => break,
                    Err(_) => {
                        if let Some((index, bytes)) = incoming.partial() {
                            assert_eq!(index, stored.len() as u64);
                            received += bytes.len();
                            part.extend_from_slice(bytes);
                        }
                        break;
                    }
                }
            }
        }
        assert_eq!(stored, [data(0), data(1), data(2)], "cut at {cut}");
        assert_eq!(received, SIZES.iter().sum::<usize>(), "cut at {cut}: bytes came twice");
    }
}

/// What the receiver says when `send` does its worst with a stream that should carry `expected`.
async fn misbehaviour(expected: Parcel, announced: Parcel, send: impl Fn(u64) -> Vec<u8>) -> TransferError<Infallible> {
    let listener = listen();
    let (here, there) = link(&listener).await;
    let (mut writer, _reader) = there.open_bi().await.unwrap();
    send_chunks(&mut writer, announced, |index| Ok::<_, Infallible>(send(index))).await.unwrap();
    writer.finish().await.unwrap();
    let (_writer, mut reader) = here.accept_bi().await.unwrap();
    receive_chunks(&mut reader, expected, |_, _| Ok(())).await.unwrap_err()
}

#[tokio::test]
async fn a_parcel_that_is_not_the_expected_one_is_refused() {
    let small = |_| vec![1, 2, 3];
    for (expected, announced) in [
        (parcel(3, 0), parcel(4, 0)),
        (parcel(3, 0), parcel(3, 1)),
        (parcel(3, 0), Parcel { kind: ParcelKind::Blob, ..parcel(3, 0) }),
    ] {
        let error = misbehaviour(expected, announced, small).await;
        let TransferError::Link(error) = error;
        assert_eq!(error.reject().and_then(Reject::kind), Some(RejectCode::ChunkOutOfOrder), "{error}");
    }
    let error = misbehaviour(parcel(3, 0), parcel(3, 0), |_| vec![]).await;
    assert!(error.to_string().contains("of 0 bytes"), "{error}");
}

#[tokio::test]
async fn bounds_of_this_side_are_kept_too() {
    let listener = listen();
    let (_here, there) = link(&listener).await;
    let (mut writer, _reader) = there.open_bi().await.unwrap();
    for bad in [parcel(u64::MAX, 0), parcel(3, 4)] {
        let sent = send_chunks(&mut writer, bad, source).await;
        assert!(matches!(sent, Err(TransferError::Link(LinkError::Local { .. }))));
    }
    let sent = send_chunks(&mut writer, parcel(1, 0), |_| Ok::<_, Infallible>(vec![0; CHUNK_BYTES_MAX + 1])).await;
    assert!(matches!(sent, Err(TransferError::Link(LinkError::Frame(_)))));
}

#[tokio::test]
async fn a_source_or_store_that_fails_ends_both_sides() {
    let listener = listen();
    let (here, there) = link(&listener).await;
    let (mut writer, _reader) = there.open_bi().await.unwrap();
    let sent =
        send_chunks(&mut writer, parcel(9, 0), |index| if index < 2 { Ok(vec![1]) } else { Err("no pad") }).await;
    assert_eq!(sent.unwrap_err().to_string(), "chunk 2 failed on this side: no pad");
    let (_writer, mut reader) = here.accept_bi().await.unwrap();
    let received = receive_chunks(&mut reader, parcel(9, 0), |_, _| Ok::<_, Infallible>(())).await;
    assert!(matches!(received, Err(TransferError::Link(LinkError::Refused(_)))));

    let (mut writer, _reader) = there.open_bi().await.unwrap();
    let sending = tokio::spawn(async move { send_chunks(&mut writer, parcel(900, 0), source).await });
    let (_writer, mut reader) = here.accept_bi().await.unwrap();
    let received = receive_chunks(&mut reader, parcel(900, 0), |_, _| Err("disk full")).await;
    assert_eq!(received.unwrap_err().to_string(), "chunk 0 failed on this side: disk full");
    assert!(matches!(sending.await.unwrap(), Err(TransferError::Link(LinkError::Refused(_)))));
}

/// Moves `data` as a blob that was announced as `blob`, to a reader that already has `stored`.
async fn fetch(data: &[u8], blob: Blob, stored: &[u8]) -> Result<(u64, Vec<u8>), TransferError<std::io::Error>> {
    let listener = listen();
    let (here, there) = link(&listener).await;
    let data = data.to_vec();
    let sending = tokio::spawn(async move {
        let (mut writer, mut reader) = here.accept_bi().await.unwrap();
        let sent = BlobSender::new(blob).send(&mut writer, &mut reader, &mut std::io::Cursor::new(data)).await;
        drop(writer.finish_and_wait().await);
        (sent, here)
    });
    let (mut writer, mut reader) = there.open_bi().await.unwrap();
    let mut incoming = BlobReader::new(blob, 1 << 30)?;
    let kept = incoming.resume(&mut &stored[..]).await.unwrap();
    let mut sink = stored[..kept as usize].to_vec();
    let received = incoming.receive(&mut writer, &mut reader, &mut sink).await;
    let (sent, _here) = sending.await.unwrap();
    let received = received?;
    assert_eq!(sent.unwrap(), received);
    Ok((received, sink))
}

#[tokio::test]
async fn blobs_of_every_size_arrive_whole_or_resumed() {
    let data: Vec<u8> = (0..3 * CHUNK_BYTES_MAX + 17).map(|i| (i * 31 % 251) as u8).collect();
    for bytes in [0, 1, CHUNK_BYTES_MAX - 1, CHUNK_BYTES_MAX, CHUNK_BYTES_MAX + 1, data.len()] {
        let whole = &data[..bytes];
        let (received, got) = fetch(whole, Blob::of(whole), &[]).await.unwrap();
        assert_eq!((received, &got[..]), (bytes as u64, whole));
    }
    for stored in [10, CHUNK_BYTES_MAX, 2 * CHUNK_BYTES_MAX + 9, data.len()] {
        let (received, got) = fetch(&data, Blob::of(&data), &data[..stored]).await.unwrap();
        let kept = if stored == data.len() { stored } else { stored / CHUNK_BYTES_MAX * CHUNK_BYTES_MAX };
        assert_eq!((received, &got[..]), ((data.len() - kept) as u64, &data[..]));
    }
}

#[tokio::test]
async fn a_blob_that_is_not_the_announced_one_is_refused() {
    let data = vec![7u8; CHUNK_BYTES_MAX + 5];
    let mut other = data.clone();
    other[CHUNK_BYTES_MAX] ^= 1;
    let error = fetch(&other, Blob::of(&data), &[]).await.unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    // Damage in the part that was already stored is found as well.
    let error = fetch(&data, Blob::of(&data), &vec![8u8; CHUNK_BYTES_MAX]).await.unwrap_err();
    assert!(error.to_string().contains("SHA-256"), "{error}");
    let Err(error) = BlobReader::new(Blob { bytes: 1001, digest: [0; 32] }, 1000) else { panic!("accepted") };
    assert_eq!(error.reject().and_then(Reject::kind), Some(RejectCode::TooMuchData));
    let short = fetch(&data[..9], Blob::of(&data), &[]).await.unwrap_err();
    assert!(matches!(short, TransferError::Link(LinkError::Refused(_))), "{short}");
}

/// `cargo test --release -p leben-protocol --features quic --test transfer -- --ignored --nocapture`
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement, not a check"]
async fn loopback_speed() {
    const CHUNKS: u64 = 4096; // 1 GiB
    let listener = listen();
    let (here, there) = link(&listener).await;
    here.admit();
    for _ in 0..3 {
        let dialled = there.clone();
        let sending = tokio::spawn(async move {
            let (mut writer, _reader) = dialled.open_bi().await.unwrap();
            let ready = vec![7u8; CHUNK_BYTES_MAX];
            send_chunks(&mut writer, parcel(CHUNKS, 0), |_| Ok::<_, Infallible>(ready.clone())).await.unwrap();
            writer.finish_and_wait().await.unwrap();
        });
        let (_writer, mut reader) = here.accept_bi().await.unwrap();
        let from = std::time::Instant::now();
        let received = receive_chunks(&mut reader, parcel(CHUNKS, 0), |_, _| Ok::<_, Infallible>(())).await.unwrap();
        let seconds = from.elapsed().as_secs_f64();
        sending.await.unwrap();
        println!("{:.0} MB/s on one stream; {:?}", received as f64 / 1e6 / seconds, there.stats());
    }
}
