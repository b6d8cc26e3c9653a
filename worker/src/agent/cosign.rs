//! The hospital as witness and validator: what it is asked to cosign, and what became final.

use leben_protocol::frame::Report;

use super::{Action, Agent};
use crate::mirror::{NotCosigned, Published};
use crate::refusal::{Reason, Refusal};

impl Agent {
    pub(super) fn handle_cosign(&mut self, now_ms: u64, body: &[u8]) {
        if let Err(refusal) = &self.clock {
            let refusal = refusal.clone();
            return self.not_cosigned(now_ms, self.mirror.not_cosigned(refusal, None));
        }
        match self.mirror.handle_cosign(now_ms, body) {
            Ok(cosigned) => {
                // A crash after the entries and before the record: the next start has checked more than it signed for.
                // A crash after the record and before the report: the coordinator asks again and gets fresh lines.
                if !cosigned.entries.is_empty() {
                    let note = cosigned.record.note().clone();
                    self.actions.push_back(Action::StoreEntries { entries: cosigned.entries, note });
                }
                self.actions.push_back(Action::StoreRecord(Box::new(cosigned.record)));
                self.counters.cosignatures += 1;
                let (size, lines) = (cosigned.size, cosigned.lines);
                self.actions.push_back(Action::Report(Report::Cosigned { size, lines }));
                self.look_at_early(now_ms);
            }
            Err(mut not) => match not.taken_in.take() {
                Some(taken_in) => {
                    let (entries, note) = *taken_in;
                    self.actions.push_back(Action::StoreEntries { entries, note });
                    self.report_not_cosigned(&not);
                    self.look_at_early(now_ms);
                }
                None => self.not_cosigned(now_ms, not),
            },
        }
    }

    /// The copy has grown.
    fn look_at_early(&mut self, now_ms: u64) {
        let mut grown = false;
        while let Some(early) = self.mirror.poll_early() {
            grown |= self.take_certified(now_ms, early);
        }
        // Once, at the last: what stood in between is past, and nothing is to be done about it.
        if grown {
            self.advance(now_ms);
        }
        self.compare_views();
    }

    fn report_not_cosigned(&mut self, not: &NotCosigned) {
        let (size, mirror_size) = (not.size, not.mirror_size);
        let report = Report::NotCosigned { size, mirror_size, reject: not.refusal.to_reject() };
        self.actions.push_back(Action::Report(report));
    }

    pub(super) fn not_cosigned(&mut self, now_ms: u64, not: NotCosigned) {
        if let Some(evidence) = &not.evidence {
            self.actions.push_back(Action::StoreEvidence(evidence.clone()));
        }
        self.audit(now_ms, "not-cosigned", None, Some(&not.refusal));
        self.report_not_cosigned(&not);
        self.look_into(now_ms);
    }

    pub(super) fn certified(&mut self, now_ms: u64, published: Result<Published, Refusal>) {
        if self.take_certified(now_ms, published) {
            self.advance(now_ms);
        }
    }

    /// Whether more is certified now.
    fn take_certified(&mut self, now_ms: u64, published: Result<Published, Refusal>) -> bool {
        match published {
            Ok(Published::Early) => false,
            Ok(Published::Known(size)) => {
                self.actions.push_back(Action::Report(Report::Certified { size }));
                false
            }
            Ok(Published::New(certified)) => {
                let size = certified.size;
                let (note, turn, policy) = (certified.note, certified.turn, certified.policy);
                self.actions.push_back(Action::StoreCertificate { note, turn, policy });
                self.actions.push_back(Action::Report(Report::Certified { size }));
                true
            }
            Err(refusal) => {
                self.actions.extend(self.mirror.take_evidence().map(Action::StoreEvidence));
                self.audit(now_ms, "not-certified", None, Some(&refusal));
                self.look_into(now_ms);
                if self.mirror.take_early_dropped() {
                    let words = "a certificate came before its entries and there was no room for it; over the next link it is shown again";
                    self.actions.push_back(Action::Unlink(Refusal::new(Reason::Ledger, words).to_reject()));
                }
                false
            }
        }
    }
}
