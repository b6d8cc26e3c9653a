//! What the hospitals report, and whom it concerns: the running round, the next slot's preparation, or the roster.

use leben_protocol::frame::JobReport;
use leben_protocol::reject::Reject;

use super::{Job, Step};

impl Job {
    /// A hospital's report.
    pub fn handle_report(&mut self, now_ms: u64, hospital: &str, report: JobReport) -> Result<(), Reject> {
        let seat = self.seat(hospital)?;
        if let JobReport::Refused { slot, reject, final_ } = report {
            return self.handle_refusal(now_ms, hospital, seat, slot, &reject, final_);
        }
        match &mut self.step {
            Step::Run { round, .. } => {
                let roster = &self.roster;
                match report {
                    JobReport::Advertised(key) => round.handle_key(now_ms, seat, key, roster)?,
                    JobReport::Shares { slot, sealed } => round.handle_shares(now_ms, seat, slot, sealed, roster)?,
                    JobReport::Agreed(agree) => round.handle_agree(now_ms, seat, agree, roster)?,
                    JobReport::Revealed(reveal) => round.handle_reveal(now_ms, seat, reveal, roster)?,
                    JobReport::Working { slot } => round.handle_chunk_stored(now_ms, seat, slot, 0),
                    JobReport::Refused { .. } => {}
                }
            }
            _ => self.handle_report_between_rounds(seat, report)?,
        }
        self.settle_down();
        Ok(())
    }

    fn handle_report_between_rounds(&mut self, seat: u16, report: JobReport) -> Result<(), Reject> {
        let (Some(preparation), Some(directory)) = (&mut self.preparation, &self.directory) else { return Ok(()) };
        match report {
            JobReport::Advertised(key) => preparation.handle_key(seat, key, directory),
            JobReport::Shares { slot, sealed } => preparation.handle_shares(seat, slot, sealed),
            // Answers to a phase that ended without them.
            JobReport::Agreed(_) | JobReport::Revealed(_) | JobReport::Working { .. } | JobReport::Refused { .. } => {
                Ok(())
            }
        }
    }

    fn handle_refusal(
        &mut self,
        now_ms: u64,
        hospital: &str,
        seat: u16,
        slot: u64,
        reject: &Reject,
        for_good: bool,
    ) -> Result<(), Reject> {
        self.say(format!("{hospital} refused: {reject}"));
        if for_good {
            self.roster.set_refused(hospital, reject.message.clone());
        }
        if let Step::Run { round, .. } = &mut self.step {
            round.handle_gone(now_ms, seat, slot, &self.roster);
        } else if let Some(preparation) = &mut self.preparation {
            preparation.handle_gone(seat, slot);
        }
        self.settle_down();
        Ok(())
    }
}
