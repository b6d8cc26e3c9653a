//! Over plain HTTP, read only: metrics, a sign of life, and the published ledger for whoever wants to watch it.
//!
//! Tiles never change and may be kept for ever; the checkpoint must be asked for again (C2SP tlog-tiles).

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::sync::watch;

use super::ledger::Ledger;
use super::metrics::Metrics;

#[derive(Clone)]
struct Shown {
    ledger: Ledger,
    metrics: Arc<Metrics>,
}

/// Serves until `stop` says so. Binding is done by the caller, so that a taken port is an error at start-up.
pub async fn serve(
    listener: tokio::net::TcpListener,
    ledger: Ledger,
    metrics: Arc<Metrics>,
    mut stop: watch::Receiver<bool>,
) -> std::io::Result<()> {
    let shown = Shown { ledger, metrics };
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

async fn ledger_file(State(shown): State<Shown>, Path(path): Path<String>) -> Response {
    let caching = match path.as_str() {
        "checkpoint" => "no-cache",
        _ => "public, max-age=31536000, immutable",
    };
    let content = match path.as_str() {
        "checkpoint" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    match shown.ledger.file(&path) {
        Ok(bytes) => ([(header::CACHE_CONTROL, caching), (header::CONTENT_TYPE, content)], bytes).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// Binds the address.
pub async fn bind(address: SocketAddr) -> std::io::Result<tokio::net::TcpListener> {
    tokio::net::TcpListener::bind(address).await
}
