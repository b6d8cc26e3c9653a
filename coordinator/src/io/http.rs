//! Over plain HTTP, read only: metrics, a sign of life, and the published ledger for whoever wants to watch it.
//!
//! `/ledger/` is the tlog-tiles folder (C2SP), `policy` beside it. Tiles never change and may be kept for ever; checkpoint and
//! policy must be asked for again, which costs a 304 while nothing has changed. Paths are read as tile paths, never as file names.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::ledger::Ledger;
use super::metrics::Metrics;

/// Answers that are being made at once; a bundle of entries has 16 MiB at most, so this is 256 MiB at worst.
const ANSWERS_MAX: usize = 16;
/// How long a question waits for its turn before it is sent away.
const TURN: Duration = Duration::from_secs(5);

/// What the checkpoint and the policy are kept as by caches: not at all without asking.
const ASK_AGAIN: &str = "no-cache";
/// What a tile is kept as.
const FOR_EVER: &str = "public, max-age=31536000, immutable";

#[derive(Clone)]
struct Shown {
    ledger: Ledger,
    metrics: Arc<Metrics>,
    turns: Arc<Semaphore>,
}

/// Serves until `stop` says so. Binding is done by the caller, so that a taken port is an error at start-up.
pub async fn serve(
    listener: tokio::net::TcpListener,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let shown = Shown { ledger, metrics, turns: Arc::new(Semaphore::new(ANSWERS_MAX)) };
    let router = Router::new()
        .route("/metrics", get(|State(shown): State<Shown>| async move { shown.metrics.text() }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/ledger/{*path}", get(ledger_file))
        .with_state(shown);
    let stopped = async move {
        // An error means that the sender is gone, and then the process is ending too.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    axum::serve(listener, router).with_graceful_shutdown(stopped).await
}

async fn ledger_file(State(shown): State<Shown>, Path(path): Path<String>, headers: HeaderMap) -> Response {
    let Ok(Ok(_turn)) = tokio::time::timeout(TURN, shown.turns.acquire()).await else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "5")]).into_response();
    };
    let (ledger, name) = (shown.ledger.clone(), path.clone());
    let read = tokio::task::spawn_blocking(move || ledger.file(&name)).await;
    let Ok(Ok(bytes)) = read else { return StatusCode::NOT_FOUND.into_response() };
    if path != "checkpoint" && path != "policy" {
        let kept = [(header::CACHE_CONTROL, FOR_EVER), (header::CONTENT_TYPE, "application/octet-stream")];
        return (kept, bytes).into_response();
    }
    let tag = format!("\"{}\"", hex::encode(Sha256::digest(&bytes)));
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|known| is_among(known, &tag));
    let head = [
        (header::CACHE_CONTROL, ASK_AGAIN.to_owned()),
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::ETAG, tag),
    ];
    match known {
        true => (StatusCode::NOT_MODIFIED, head).into_response(),
        false => (head, bytes).into_response(),
    }
}

/// RFC 9110, 13.1.2: `*`, or a list of tags compared weakly.
fn is_among(known: &HeaderValue, tag: &str) -> bool {
    let tags = known.to_str().unwrap_or_default().split(',').map(str::trim);
    tags.map(|known| known.strip_prefix("W/").unwrap_or(known)).any(|known| known == tag || known == "*")
}

/// Binds the address.
pub async fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(address).await
}
