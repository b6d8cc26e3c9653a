//! A job as the AI team sees it.

use leben_protocol::frame::{HospitalProgress, HospitalState, Progress};

use crate::roster::Seat;
use crate::round::Round;

/// What a job knows of itself, for the display.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) sequence: u64,
    pub(crate) phase: &'a str,
    pub(crate) ended: bool,
    pub(crate) stages: usize,
    pub(crate) stage: Option<(u32, String)>,
    pub(crate) round: u32,
    pub(crate) rounds_max: u32,
    pub(crate) slot: u64,
    pub(crate) seats: &'a [Seat],
    pub(crate) running: Option<&'a Round>,
    pub(crate) trace: &'a [f64],
    pub(crate) message: &'a str,
}

impl View<'_> {
    pub(crate) fn progress(&self) -> Progress {
        Progress {
            sequence: self.sequence,
            phase: self.phase.to_owned(),
            ended: self.ended,
            stages: u32::try_from(self.stages).unwrap_or(u32::MAX),
            stage: self.stage.clone(),
            round: self.round,
            rounds_max: self.rounds_max,
            slot: self.slot,
            hospitals: self.seats.iter().map(|seat| self.hospital(seat)).collect(),
            trace: self.trace.to_vec(),
            message: self.message.to_owned(),
            bytes_up: 0,
            bytes_down: 0,
        }
    }

    fn hospital(&self, seat: &Seat) -> HospitalProgress {
        let chunks = self.running.map_or((0, 0), |round| round.chunks(seat.index));
        let uploaded = self.running.is_some_and(|round| round.is_uploaded(seat.index));
        let state = match (&seat.refused, seat.away_since_ms) {
            (Some(_), _) => HospitalState::Refused,
            (None, Some(_)) => HospitalState::Away,
            (None, None) if uploaded => HospitalState::Uploaded,
            (None, None) if chunks.0 > 0 => HospitalState::Uploading,
            (None, None) if self.running.is_some_and(Round::is_collecting) => HospitalState::Working,
            (None, None) => HospitalState::Ready,
        };
        HospitalProgress { party: seat.hospital.clone(), state, chunks }
    }
}
