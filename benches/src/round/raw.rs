//! The floor: quinn alone, as it comes, moving as many bytes as the secure side does. No frame, no digest, no sum, no disk.
//!
//! One stream for each worker. Each round 4 bytes a number go down and the sum's lanes, packed, go up; nobody looks at them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use quinn::{ClientConfig, Connection, Endpoint, RecvStream, SendStream, ServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::task::JoinSet;

use super::plain::drive;
use super::{BITS, Case, Measured};
use crate::Failure;
use crate::child::{self, Child};

const NAME: &str = "localhost";
/// Written and read at a time.
const PIECE_BYTES: usize = 256 << 10;

/// Bits of a lane of the sum over so many hospitals: the values are from `-(2^(BITS-1) - 1)` to `2^(BITS-1) - 1`.
pub(super) fn lane_bits(hospitals: u16) -> u32 {
    let levels = 2 * u64::from(hospitals) * ((1 << (BITS - 1)) - 1);
    u64::BITS - levels.leading_zeros()
}

/// Bytes of one worker's round: down, up.
fn bytes(hospitals: u16, params: usize) -> (u64, u64) {
    (params as u64 * 4, (params as u64 * u64::from(lane_bits(hospitals))).div_ceil(8))
}

/// Runs one case.
pub(super) fn measure(case: Case) -> Result<Measured, Failure> {
    let (params, rounds) = (case.params.to_string(), case.rounds.to_string());
    let hospitals = case.hospitals.to_string();
    let mut coordinator = Child::spawn(["bench-raw-coordinator", &hospitals, &params, &rounds].map(str::to_owned))?;
    let (address, certificate) = (coordinator.line()?, coordinator.line()?);
    let mut workers = Vec::new();
    for _ in 0..case.hospitals {
        let arguments = ["bench-raw-worker", &address, &certificate, &hospitals, &params, &rounds];
        workers.push(Child::spawn(arguments.map(str::to_owned))?);
    }
    let (rounds_s, measured) = drive::<Vec<f64>>(coordinator, workers)?;
    Ok(Measured { rounds_s, ..measured })
}

/// The coordinator's process.
pub(super) async fn coordinate(hospitals: u16, params: usize, rounds: u32) -> Result<(), Failure> {
    let mut parent = child::lines();
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![made.cert.der().clone()], key.into())?;
    let endpoint = Endpoint::server(config, SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    child::say(&endpoint.local_addr()?.to_string())?;
    child::say(&made.cert.der().iter().map(|byte| format!("{byte:02x}")).collect::<String>())?;
    let mut links = Vec::new();
    while links.len() < usize::from(hospitals) {
        let link = endpoint.accept().await.ok_or("the endpoint ended")?.await?;
        let (writer, mut reader) = link.accept_bi().await?;
        take(&mut reader, 1).await?;
        links.push((writer, reader, link));
    }
    child::say("ready")?;
    parent.recv().await.ok_or("nobody said go")?;
    let (down, up) = bytes(hospitals, params);
    let mut starts = vec![Instant::now()];
    for _ in 0..rounds {
        let mut running = JoinSet::new();
        for (mut writer, mut reader, link) in links.drain(..) {
            running.spawn(async move {
                give(&mut writer, down).await?;
                take(&mut reader, up).await?;
                Ok::<_, Failure>((writer, reader, link))
            });
        }
        while let Some(ended) = running.join_next().await {
            links.push(ended??);
        }
        starts.push(Instant::now());
    }
    let rounds_s: Vec<f64> =
        starts.windows(2).filter_map(|pair| Some((*pair.get(1)? - *pair.first()?).as_secs_f64())).collect();
    child::say(&serde_json::to_string(&rounds_s)?)?;
    while parent.recv().await.is_some() {}
    Ok(())
}

/// A worker's process.
pub(super) async fn work(
    address: SocketAddr,
    certificate: &str,
    hospitals: u16,
    params: usize,
    rounds: u32,
) -> Result<(), Failure> {
    let mut parent = child::lines();
    let digits = certificate.as_bytes().chunks(2).map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from(digits.collect::<Result<Vec<u8>, Failure>>()?))?;
    let mut endpoint = Endpoint::client(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)))?;
    endpoint.set_default_client_config(ClientConfig::with_root_certificates(Arc::new(roots))?);
    let link: Connection = endpoint.connect(address, NAME)?.await?;
    let (mut writer, mut reader) = link.open_bi().await?;
    give(&mut writer, 1).await?;
    let (down, up) = bytes(hospitals, params);
    let moved = tokio::spawn(async move {
        for _ in 0..rounds {
            take(&mut reader, down).await?;
            give(&mut writer, up).await?;
        }
        Ok::<_, Failure>((writer, reader))
    });
    while let Some(line) = parent.recv().await {
        if line == "traffic" {
            let stats = link.stats();
            child::say(&format!("{} {}", stats.udp_tx.bytes, stats.udp_rx.bytes))?;
        }
    }
    moved.await??;
    Ok(())
}

async fn give(writer: &mut SendStream, bytes: u64) -> Result<(), Failure> {
    let piece = vec![7; PIECE_BYTES];
    let mut left = bytes;
    while left > 0 {
        let now = left.min(PIECE_BYTES as u64);
        writer.write_all(piece.get(..usize::try_from(now)?).unwrap_or_default()).await?;
        left -= now;
    }
    Ok(())
}

async fn take(reader: &mut RecvStream, bytes: u64) -> Result<(), Failure> {
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left.min(PIECE_BYTES as u64))?;
        let chunk = reader.read_chunk(most, true).await?.ok_or("the stream ended early")?;
        left -= chunk.bytes.len() as u64;
    }
    Ok(())
}
