//! `/metrics` for Prometheus and `/healthz`, on a local address, off by default. Counts only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::http::StatusCode;
use axum::routing::get;
use prometheus::{Encoder, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use tokio::task::JoinHandle;

use crate::agent::Status;

/// What is counted. One registry for each agent, so that several can live in one process.
pub struct Metrics {
    registry: Registry,
    rounds: IntGauge,
    refusals: IntGaugeVec,
    bytes: IntGaugeVec,
    reconnects: IntGauge,
    cosignatures: IntGauge,
    mirror: IntGaugeVec,
    linked: IntGauge,
    forks: IntGauge,
    views: IntGaugeVec,
    unheard: IntGauge,
    halted: IntGauge,
    clock: AtomicBool,
    scrapes: IntCounterVec,
}

impl Metrics {
    /// Nothing counted yet.
    ///
    /// # Errors
    /// None: the names are fixed.
    pub fn new() -> prometheus::Result<Metrics> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str| -> prometheus::Result<IntGauge> {
            let gauge = IntGauge::new(name, help)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauges = |name: &str, help: &str, label: &str| -> prometheus::Result<IntGaugeVec> {
            let gauges = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauges.clone()))?;
            Ok(gauges)
        };
        let scrapes =
            IntCounterVec::new(Opts::new("leben_worker_scrapes_total", "Times this page was read"), &["path"])?;
        registry.register(Box::new(scrapes.clone()))?;
        Ok(Metrics {
            rounds: gauge("leben_worker_rounds_total", "Masked vectors sent since the start")?,
            refusals: gauges("leben_worker_refusals_total", "Refusals since the start, by their code", "code")?,
            bytes: gauges("leben_worker_bytes_total", "UDP payload bytes over all links", "direction")?,
            reconnects: gauge("leben_worker_reconnects_total", "Links made after the first")?,
            cosignatures: gauge("leben_worker_cosignatures_total", "Checkpoints cosigned since the start")?,
            mirror: gauges("leben_worker_ledger_entries", "Entries in this hospital's copy of the ledger", "state")?,
            forks: gauge("leben_worker_forks_total", "1 once the log is proven to have signed two histories")?,
            views: gauges("leben_worker_views_total", "Other eyes' views of the ledger since the start", "ended")?,
            unheard: gauge("leben_worker_views_worries", "Hospitals not heard for hours, and views not reconciled")?,
            linked: gauge("leben_worker_linked", "1 while linked to the coordinator")?,
            halted: gauge("leben_worker_halted", "1 while this hospital signs nothing: see its status")?,
            clock: AtomicBool::new(false),
            scrapes,
            registry,
        })
    }

    /// Takes over what the agent and the link have counted.
    pub fn set(&self, status: &Status, traffic: (u64, u64), reconnects: u64) {
        let int = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        self.rounds.set(int(status.counters.rounds));
        for (code, count) in &status.counters.refusals {
            self.refusals.with_label_values(&[code.as_str()]).set(int(*count));
        }
        self.bytes.with_label_values(&["sent"]).set(int(traffic.0));
        self.bytes.with_label_values(&["received"]).set(int(traffic.1));
        self.reconnects.set(int(reconnects));
        self.cosignatures.set(int(status.counters.cosignatures));
        self.mirror.with_label_values(&["validated"]).set(int(status.validated));
        self.mirror.with_label_values(&["certified"]).set(int(status.certified));
        self.forks.set(i64::from(status.forked));
        let views = &status.views;
        let ended = [
            ("asked", views.asked),
            ("agreed", views.agreed),
            ("refused", views.refused),
            ("unanswered", views.unanswered),
        ];
        for (name, count) in ended {
            self.views.with_label_values(&[name]).set(int(count));
        }
        self.unheard.set(int(status.worries.len() as u64));
        self.linked.set(i64::from(status.linked));
        self.halted.set(i64::from(status.halted.is_some()));
        self.clock.store(status.clock.is_some(), Ordering::Relaxed);
    }

    /// The page.
    pub fn text(&self) -> String {
        self.scrapes.with_label_values(&["metrics"]).inc();
        let mut page = Vec::new();
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut page);
        String::from_utf8_lossy(&page).into_owned()
    }

    /// Healthy: linked, clocks agree, nothing halted.
    pub fn is_healthy(&self) -> bool {
        self.linked.get() == 1 && self.halted.get() == 0 && !self.clock.load(Ordering::Relaxed)
    }
}

/// Serves both pages until the task is aborted.
///
/// # Errors
/// In words: the address cannot be used.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>) -> Result<JoinHandle<()>, String> {
    let listener = tokio::net::TcpListener::bind(address).await;
    let listener =
        listener.map_err(|error| format!("cannot serve metrics on {address}: {error}; see metrics.address"))?;
    let health = metrics.clone();
    let pages = Router::new().route("/metrics", get(move || async move { metrics.text() })).route(
        "/healthz",
        get(move || async move {
            match health.is_healthy() {
                true => (StatusCode::OK, "ok\n"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "not linked, or halted; see `leben-worker status`\n"),
            }
        }),
    );
    Ok(tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, pages).await {
            tracing::error!(%error, "metrics are no longer served");
        }
    }))
}
