//! The plain side: the product's transport with nothing protected. For comparison only; nothing here is in the product.
//!
//! One stream for each worker. Each round the coordinator sends a blob, the model; the worker makes its numbers from it and
//! sends them as chunks of f32, which the coordinator adds to the one sum of the round as they arrive.

use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use leben_models::probe;
use leben_protocol::limits::CHUNK_BYTES_MAX;
use leben_protocol::quic::transfer::{ParcelKind, chunks_of};
use leben_protocol::quic::{
    Blob, BlobReader, BlobSender, Connection, Dialer, FrameReader, FrameWriter, Listener, Parcel, public_key,
    receive_chunks, send_chunks,
};
use leben_protocol::wire::Wire;
use rayon::prelude::*;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Case, Measured, rows};
use crate::Failure;
use crate::child::{self, Child};
use crate::machine::Meter;

/// Keys of this comparison, good for nothing else.
const COORDINATOR: [u8; 32] = [1; 32];

/// What goes over the stream beside blobs and chunks.
#[derive(Serialize, Deserialize)]
enum Frame {
    /// A worker: I am here.
    Ready,
    /// The coordinator: a round begins with this model.
    Round { bytes: u64, digest: [u8; 32] },
    /// The coordinator: it was the last one.
    Done,
}

impl Wire for Frame {}

/// What the coordinator tells the parent at the end.
#[derive(Serialize, Deserialize)]
struct Ended {
    rounds_s: Vec<f64>,
    figures: Vec<(String, f64)>,
}

/// Runs one case.
pub(super) fn measure(case: Case) -> Result<Measured, Failure> {
    let numbers = [u64::from(case.hospitals), case.params as u64, u64::from(case.rounds)].map(|n| n.to_string());
    let mut coordinator = Child::spawn([vec!["bench-plain-coordinator".to_owned()], numbers.to_vec()].concat())?;
    let address = coordinator.line()?;
    let mut workers = Vec::new();
    for seat in 0..case.hospitals {
        let arguments =
            ["bench-plain-worker", &address, &seat.to_string(), &case.params.to_string()].map(str::to_owned);
        workers.push(Child::spawn(arguments)?);
    }
    let (ended, measured) = drive::<Ended>(coordinator, workers)?;
    Ok(Measured { rounds_s: ended.rounds_s, figures: ended.figures, ..measured })
}

/// Waits until everybody is there, lets the rounds run and ends both sides: what the coordinator says at the end, and all that is measured
/// from here.
pub(super) fn drive<T: DeserializeOwned>(
    mut coordinator: Child,
    mut workers: Vec<Child>,
) -> Result<(T, Measured), Failure> {
    coordinator.line()?;
    let before = traffic(&mut workers)?;
    let meter = Meter::start(std::iter::once(&coordinator).chain(&workers).map(Child::pid).collect())?;
    coordinator.say("go")?;
    let ended = serde_json::from_str(&coordinator.line()?)?;
    let work = meter.read()?;
    let after = traffic(&mut workers)?;
    let peaks = workers.iter().map(Child::peak_mib).collect::<Result<Vec<_>, _>>()?;
    let coordinator_peak_mib = coordinator.peak_mib()?;
    workers.into_iter().try_for_each(Child::stop)?;
    coordinator.stop()?;
    let measured = Measured {
        rounds_s: Vec::new(),
        up_bytes: after.0 - before.0,
        down_bytes: after.1 - before.1,
        coordinator_peak_mib,
        worker_peak_mib: peaks.into_iter().fold(0.0, f64::max),
        submit_to_result_s: work.wall_s,
        work,
        figures: Vec::new(),
    };
    Ok((ended, measured))
}

/// Bytes that the workers have sent and received, together.
pub(super) fn traffic(workers: &mut [Child]) -> Result<(u64, u64), Failure> {
    workers.iter_mut().try_fold((0, 0), |total, worker| {
        let (sent, received) = worker.traffic()?;
        Ok((total.0 + sent, total.1 + received))
    })
}

/// The coordinator's process.
pub(super) async fn coordinate(hospitals: u16, params: usize, rounds: u32) -> Result<(), Failure> {
    let mut parent = child::lines();
    let listener = Listener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), &COORDINATOR)?;
    child::say(&listener.local_addr()?.to_string())?;
    let mut links = Vec::new();
    while links.len() < usize::from(hospitals) {
        let link = listener.accept().await.ok_or("the listener ended")??;
        link.admit();
        let (writer, mut reader) = link.accept_bi().await?;
        reader.expect::<Frame>().await?;
        links.push((writer, reader, link));
    }
    child::say("ready")?;
    parent.recv().await.ok_or("nobody said go")?;
    let mut model = vec![0.0_f32; params];
    let mut starts = vec![Instant::now()];
    for _ in 0..rounds {
        let bytes: Arc<[u8]> = bytes_of(&model).into();
        let sum = Arc::new(Mutex::new(std::mem::take(&mut model)));
        sum.lock().unwrap_or_else(PoisonError::into_inner).fill(0.0);
        let blob = Blob::of(&bytes);
        let mut running = tokio::task::JoinSet::new();
        for (writer, reader, link) in links.drain(..) {
            running.spawn(exchange(writer, reader, link, blob, bytes.clone(), sum.clone()));
        }
        drop(bytes);
        while let Some(ended) = running.join_next().await {
            links.push(ended??);
        }
        model = std::mem::take(&mut *sum.lock().unwrap_or_else(PoisonError::into_inner));
        let share = 1.0 / f32::from(hospitals);
        model.par_iter_mut().for_each(|value| *value *= share);
        starts.push(Instant::now());
    }
    let rounds_s = starts.windows(2).filter_map(|pair| Some((*pair.get(1)? - *pair.first()?).as_secs_f64())).collect();
    let figures = probe::figures_of(&model).map(|(name, value)| (name.to_owned(), value)).to_vec();
    for (writer, _, _) in &mut links {
        writer.send(&Frame::Done).await?;
    }
    child::say(&serde_json::to_string(&Ended { rounds_s, figures })?)?;
    while parent.recv().await.is_some() {}
    Ok(())
}

type Link = (FrameWriter, FrameReader, Connection);

/// One worker's round: the model down, its numbers up and into the sum.
async fn exchange(
    mut writer: FrameWriter,
    mut reader: FrameReader,
    link: Connection,
    blob: Blob,
    model: Arc<[u8]>,
    sum: Arc<Mutex<Vec<f32>>>,
) -> Result<Link, Failure> {
    writer.send(&Frame::Round { bytes: blob.bytes, digest: blob.digest }).await?;
    BlobSender::new(blob).send(&mut writer, &mut reader, &mut Cursor::new(model.clone())).await?;
    drop(model);
    receive_chunks(&mut reader, parcel(blob.bytes), |index, bytes| {
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(CHUNK_BYTES_MAX / 4);
        let mut sum = sum.lock().unwrap_or_else(PoisonError::into_inner);
        let into = sum.get_mut(start..start + bytes.len() / 4).ok_or("a chunk behind the end")?;
        into.iter_mut().zip(bytes.as_chunks::<4>().0).for_each(|(sum, value)| *sum += f32::from_le_bytes(*value));
        Ok::<_, &str>(())
    })
    .await?;
    Ok((writer, reader, link))
}

fn parcel(bytes: u64) -> Parcel {
    Parcel { kind: ParcelKind::Blob, chunks: chunks_of(bytes), start: 0 }
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; values.len() * 4];
    bytes.as_chunks_mut::<4>().0.par_iter_mut().zip(values).for_each(|(to, value)| *to = value.to_le_bytes());
    bytes
}

/// A worker's process.
pub(super) async fn work(address: SocketAddr, seat: u16, params: usize) -> Result<(), Failure> {
    let mut parent = child::lines();
    let mut seed = [2; 32];
    seed[..2].copy_from_slice(&seat.to_le_bytes());
    let link = Dialer::new(&seed)?.dial(address, public_key(&COORDINATOR)?).await?;
    let (mut writer, mut reader) = link.open_bi().await?;
    writer.send(&Frame::Ready).await?;
    let rounds = tokio::spawn(async move {
        while let Frame::Round { bytes, digest } = reader.expect().await? {
            answer(&mut writer, &mut reader, Blob { bytes, digest }, seat, params).await?;
        }
        Ok::<_, Failure>((writer, reader))
    });
    while let Some(line) = parent.recv().await {
        if line == "traffic" {
            let stats = link.stats();
            child::say(&format!("{} {}", stats.sent_bytes, stats.received_bytes))?;
        }
    }
    rounds.await??;
    Ok(())
}

async fn answer(
    writer: &mut FrameWriter,
    reader: &mut FrameReader,
    blob: Blob,
    seat: u16,
    params: usize,
) -> Result<(), Failure> {
    let mut bytes = Vec::with_capacity(params * 4);
    BlobReader::new(blob, params as u64 * 4)?.receive(writer, reader, &mut bytes).await?;
    let rows = rows(seat) as u64;
    let value = |(index, model): (usize, &[u8; 4])| probe::value(f32::from_le_bytes(*model), index as u64, rows);
    let values: Vec<f32> = bytes.as_chunks::<4>().0.par_iter().enumerate().map(value).collect();
    drop(bytes);
    let sent = send_chunks(writer, parcel(blob.bytes), |index| {
        let start = usize::try_from(index).unwrap_or(usize::MAX).saturating_mul(CHUNK_BYTES_MAX / 4);
        let end = start.saturating_add(CHUNK_BYTES_MAX / 4).min(values.len());
        Ok::<_, std::convert::Infallible>(bytes_of(values.get(start..end).unwrap_or_default()))
    });
    sent.await?;
    Ok(())
}
