//! Asks each outside witness, in a task of its own, for its cosignature of whatever checkpoint is on its way or published. Slow,
//! absent or wrong: it is logged, counted and tried again later, and the ledger goes on.

use std::sync::Arc;
use std::time::Duration;

use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::Note;
use leben_protocol::backoff::Backoff;
use leben_protocol::http::{self, Url};

use super::config::OutsideWitness;
use super::fatal::Fatal;
use super::ledger::Ledger;
use super::metrics::Metrics;
use super::random;
use crate::outside::{ANSWER_BYTES_MAX, Outside, Said};

/// Questions about one checkpoint in a row: one to learn the size that the witness remembers, one from there, one to spare.
const TRIES: u32 = 3;

/// Goes on for as long as the ledger's writer lives.
pub async fn keep(witness: OutsideWitness, ledger: Ledger, metrics: Arc<Metrics>) -> Result<(), Fatal> {
    let name = witness.vkey.name().to_owned();
    let url = witness.url.join("add-checkpoint");
    let mut outside = Outside::new(witness.vkey);
    let mut backoff = Backoff::new(random());
    let mut shown = ledger.watch_shown();
    loop {
        let note = shown.borrow_and_update().clone();
        let asked = match note.as_deref().map(|text| Note::parse(text.as_bytes())) {
            Some(Ok(note)) => ask(&mut outside, &url, &note, &ledger).await,
            _ => Ok(None),
        };
        let failed = match asked {
            Ok(Some(size)) => {
                metrics.outside.with_label_values(&[name.as_str(), "cosigned"]).inc();
                tracing::debug!(%name, size, "an outside witness cosigned");
                backoff.reset();
                false
            }
            Ok(None) => false,
            Err(why) => {
                metrics.outside.with_label_values(&[name.as_str(), "failed"]).inc();
                tracing::warn!(%name, %why, "an outside witness did not cosign; it is asked again later");
                true
            }
        };
        // A witness that fails is left alone for a while even when there is news; one that cosigned is asked when there is.
        if failed {
            tokio::time::sleep(Duration::from_millis(backoff.next_delay_ms())).await;
        } else if shown.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// The size that was cosigned.
async fn ask(outside: &mut Outside, url: &Url, note: &Note, ledger: &Ledger) -> Result<Option<u64>, String> {
    let size = Checkpoint::of(note).map_err(|error| error.to_string())?.size;
    for _ in 0..TRIES {
        let from = outside.from(size);
        let proof = ledger.consistency(from, size).map_err(|error| error.to_string())?;
        let request = AddCheckpoint::new(from, proof, note.clone()).map_err(|error| error.to_string())?;
        let body = request.to_string().into_bytes();
        let answer = http::post(url, body, ANSWER_BYTES_MAX).await.map_err(|error| error.to_string())?;
        match outside.handle_answer(note, (from, size), answer.status, &answer.content_type, &answer.body) {
            Said::Cosigned(line) => {
                ledger.observed(size, line).await;
                return Ok(Some(size));
            }
            Said::Again => {}
            Said::Ahead(holds) => {
                return Err(format!(
                    "it has signed a checkpoint of {holds} entries, and this one has {size}: if no newer one was ever published, \
                     somebody else signs with this log's key; if one was, this folder was restored from an old backup"
                ));
            }
            Said::Refused(why) => return Err(why),
        }
    }
    Err("it names another size each time it is asked".into())
}
