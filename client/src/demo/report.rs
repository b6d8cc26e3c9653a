//! What happened, for people and for scripts.

use std::path::{Path, PathBuf};
use std::time::Duration;

use leben_contracts::agreement::contract::Contract;
use leben_models::pooled::Fitted;
use serde_json::{Value, json};

use super::Slots;
use super::data::HOSPITALS;
use super::pooled::max_rel_diff;
use crate::fetch::summary;
use crate::verify::Good;
use leben_models::bundle::Bundle;

/// The comparison must be below this for the demo to have succeeded.
const REL_DIFF_MAX: f64 = 1e-9;

/// What happened.
pub struct Report {
    out: PathBuf,
    rounds: u32,
    auc: f64,
    max_rel_diff: f64,
    verified: Result<Good, String>,
    cosignatures: usize,
    bytes_up: u64,
    bytes_down: u64,
    seconds: f64,
    summary: String,
    payments: Vec<(String, u64)>,
    cut: String,
}

impl Report {
    /// Puts it together.
    #[allow(clippy::too_many_arguments, reason = "one call, at the end of the story, with what the story left")]
    pub fn new(
        out: &Path,
        bundle: &Bundle,
        pooled: &[Fitted],
        contract: &Contract,
        verified: Result<Good, String>,
        bytes: (u64, u64),
        slots: Slots,
        elapsed: Duration,
    ) -> Result<Report, String> {
        let stage = |at: usize| bundle.stages.get(at).map(|stage| &stage.outcome);
        let (Some(fit), Some(evaluate), Some(pooled_fit)) = (stage(1), stage(2), pooled.get(1)) else {
            return Err("the result has not three stages".into());
        };
        let rounds = bundle.stages.iter().map(|stage| stage.rounds).sum();
        // The means and deviations are in the folder; what people look for first is the model and how good it is.
        let shown = Bundle { stages: bundle.stages.iter().skip(1).cloned().collect(), ..bundle.clone() };
        let payments = contract.settled.iter().flat_map(|settled| &settled.postings);
        Ok(Report {
            out: out.to_owned(),
            rounds,
            auc: evaluate.figures.get("auc").copied().unwrap_or(f64::NAN),
            max_rel_diff: max_rel_diff(fit, &pooled_fit.outcome),
            cosignatures: verified.as_ref().map_or(0, |good| good.cosigners.len()),
            verified,
            bytes_up: bytes.0,
            bytes_down: bytes.1,
            seconds: elapsed.as_secs_f64(),
            summary: summary(&shown),
            payments: payments.map(|posting| (posting.party.to_string(), posting.credits)).collect(),
            cut: slots.to_text(rounds),
        })
    }

    /// Whether everything is as it must be.
    pub fn is_ok(&self) -> bool {
        self.verified.is_ok() && self.max_rel_diff < REL_DIFF_MAX && self.auc.is_finite() && !self.payments.is_empty()
    }

    /// The last line of `leben demo --json`.
    pub fn to_json(&self) -> Value {
        json!({
            "ok": self.is_ok(),
            "hospitals": HOSPITALS.len(),
            "rounds": self.rounds,
            "auc": self.auc,
            "max_rel_diff_from_pooled": self.max_rel_diff,
            "ledger": {
                "size": self.verified.as_ref().map_or(0, |good| good.size),
                "verified": self.verified.is_ok(),
                "cosignatures": self.cosignatures,
            },
            "bytes": { "up": self.bytes_up, "down": self.bytes_down },
            "seconds": (self.seconds * 1000.0).round() / 1000.0,
            "out": self.out.display().to_string(),
        })
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let out = self.out.display();
        let ledger = match &self.verified {
            Ok(good) => format!("verified: {} entries, cosigned by {} hospitals", good.size, self.cosignatures),
            Err(error) => format!("NOT VERIFIED: {error}"),
        };
        let agrees = if self.max_rel_diff < REL_DIFF_MAX { "agrees with" } else { "DIFFERS FROM" };
        let paid: Vec<String> = self.payments.iter().map(|(party, credits)| format!("{party} {credits}")).collect();
        let mut text = format!("  ledger            {ledger}\n");
        text += &format!(
            "  pooled fit        {agrees} the same model on all rows in one place: largest relative difference {:.1e}\n",
            self.max_rel_diff
        );
        text += &format!("\n{}\n", self.summary.trim_end());
        text += &format!(
            "\nWhat happened\n  {} hospitals, {} rounds of the secure sum, {:.1} s\n",
            HOSPITALS.len(),
            self.rounds,
            self.seconds
        );
        text += &format!("  the cut           {}\n", self.cut);
        text += &format!("  paid              {}\n", paid.join(", "));
        text += &format!(
            "  bytes             {} from the hospitals, {} to them\n",
            grouped(self.bytes_up),
            grouped(self.bytes_down)
        );
        text += &format!("\nWhat to look at in {out}\n");
        text += "  result/           coefficients.csv, roc.svg, coefficients.svg, calibration.svg, result.json, receipt.json\n";
        text += "  ledger/           the published log; policy.txt says who must have cosigned it\n";
        text +=
            "  hospital-a/ ..    what each hospital keeps: its rows, its keys, its copy of the log, its audit log\n";
        let leben = std::env::args().next().unwrap_or_else(|| "leben".into());
        text += &format!("\nNext\n  {leben} verify {out}/ledger --policy {out}/policy.txt\n");
        text += &format!("  {leben} ledger list --folder {out}/ledger\n");
        text += "  README.md, \"A real deployment on one machine\"\n";
        text
    }
}

/// 1234567 as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}
