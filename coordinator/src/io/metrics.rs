//! What Prometheus reads. Counts and times only: no hospital's number, no patient's anything.

use prometheus::{Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder};

/// The coordinator's metrics.
pub struct Metrics {
    registry: Registry,
    /// Entries in the log, sequenced.
    pub ledger_size: IntGauge,
    /// Entries in the log, final.
    pub ledger_final_size: IntGauge,
    /// Witnesses still to be heard before anything is sequenced.
    pub witnesses_awaited: IntGauge,
    /// Milliseconds from an append to its finality.
    pub final_ms: Histogram,
    /// Peers told no, by code.
    pub rejects: IntCounterVec,
    /// Links that are open, workers only.
    pub workers_linked: IntGauge,
    /// Bytes of masked chunks received.
    pub upload_bytes: IntCounter,
    /// Rounds that ended in a sum.
    pub rounds: IntCounter,
    /// Slots that ended without one.
    pub slots_abandoned: IntCounter,
    /// Questions to outside witnesses, by witness and by how they ended.
    pub outside: IntCounterVec,
    /// Questions and views passed between hospitals, by how that ended.
    pub views: IntCounterVec,
    /// Proofs that this log has signed two histories.
    pub forks: IntCounter,
}

impl Metrics {
    /// All at zero.
    pub fn new() -> Result<Metrics, prometheus::Error> {
        let gauge = |name: &str, help: &str| IntGauge::with_opts(Opts::new(name, help));
        let counter = |name: &str, help: &str| IntCounter::with_opts(Opts::new(name, help));
        let buckets = vec![5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 1000.0, 5000.0, 30000.0];
        let metrics = Metrics {
            registry: Registry::new(),
            ledger_size: gauge("leben_ledger_size", "Entries sequenced")?,
            ledger_final_size: gauge("leben_ledger_final_size", "Entries cosigned by the quorum")?,
            witnesses_awaited: gauge(
                "leben_ledger_witnesses_awaited",
                "Witnesses still to be heard after the start, before anything is sequenced",
            )?,
            final_ms: Histogram::with_opts(
                HistogramOpts::new("leben_ledger_final_ms", "Milliseconds from append to finality").buckets(buckets),
            )?,
            rejects: IntCounterVec::new(Opts::new("leben_rejects_total", "Peers told no, by code"), &["code"])?,
            workers_linked: gauge("leben_workers_linked", "Workers with an open link")?,
            upload_bytes: counter("leben_upload_bytes_total", "Bytes of masked chunks received")?,
            rounds: counter("leben_rounds_total", "Rounds that ended in a sum")?,
            slots_abandoned: counter("leben_slots_abandoned_total", "Slots that ended without a sum")?,
            outside: IntCounterVec::new(
                Opts::new("leben_outside_witness_total", "Questions to outside witnesses, by how they ended"),
                &["witness", "ended"],
            )?,
            views: IntCounterVec::new(
                Opts::new("leben_views_total", "Views passed between hospitals, by end"),
                &["ended"],
            )?,
            forks: counter("leben_forks_total", "Proofs that this log has signed two histories")?,
        };
        metrics.registry.register(Box::new(metrics.ledger_size.clone()))?;
        metrics.registry.register(Box::new(metrics.ledger_final_size.clone()))?;
        metrics.registry.register(Box::new(metrics.witnesses_awaited.clone()))?;
        metrics.registry.register(Box::new(metrics.final_ms.clone()))?;
        metrics.registry.register(Box::new(metrics.rejects.clone()))?;
        metrics.registry.register(Box::new(metrics.workers_linked.clone()))?;
        metrics.registry.register(Box::new(metrics.upload_bytes.clone()))?;
        metrics.registry.register(Box::new(metrics.rounds.clone()))?;
        metrics.registry.register(Box::new(metrics.slots_abandoned.clone()))?;
        metrics.registry.register(Box::new(metrics.outside.clone()))?;
        metrics.registry.register(Box::new(metrics.views.clone()))?;
        metrics.registry.register(Box::new(metrics.forks.clone()))?;
        Ok(metrics)
    }

    /// Counts a refusal.
    pub fn reject(&self, reject: &leben_protocol::reject::Reject) {
        self.rejects.with_label_values(&[&reject.code.to_string()]).inc();
    }

    /// The text that Prometheus reads.
    pub fn text(&self) -> String {
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("# the metrics could not be written: {error}\n"),
        }
    }
}
