//! Who sits in a job, and whether their link is up.

/// One hospital's place in a job.
#[derive(Clone, Debug)]
pub struct Seat {
    /// Shamir point, from 1, fixed for the job.
    pub index: u16,
    /// The hospital's party id.
    pub hospital: String,
    /// Since when it has no link, milliseconds; `None` while it has one.
    pub away_since_ms: Option<u64>,
    /// Why it will not take part any more.
    pub refused: Option<String>,
}

/// All seats of a job, in the order of their index.
#[derive(Clone, Debug, Default)]
pub struct Roster {
    seats: Vec<Seat>,
}

impl Roster {
    /// Everybody starts away, since `now_ms`.
    pub fn new(now_ms: u64, hospitals: impl IntoIterator<Item = (u16, String)>) -> Roster {
        let seats = hospitals
            .into_iter()
            .map(|(index, hospital)| Seat { index, hospital, away_since_ms: Some(now_ms), refused: None })
            .collect();
        Roster { seats }
    }

    /// All seats.
    pub fn seats(&self) -> &[Seat] {
        &self.seats
    }

    /// The seat with this Shamir point.
    pub fn seat(&self, index: u16) -> Option<&Seat> {
        self.seats.iter().find(|seat| seat.index == index)
    }

    /// The Shamir point of this hospital.
    pub fn index_of(&self, hospital: &str) -> Option<u16> {
        self.seats.iter().find(|seat| seat.hospital == hospital).map(|seat| seat.index)
    }

    /// The name at a seat, for messages.
    pub fn name(&self, index: u16) -> &str {
        self.seat(index).map_or("a hospital outside the job", |seat| &seat.hospital)
    }

    /// A link came up or went down.
    pub fn set_linked(&mut self, now_ms: u64, hospital: &str, linked: bool) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.hospital == hospital) {
            seat.away_since_ms = match (linked, seat.away_since_ms) {
                (true, _) => None,
                (false, Some(since_ms)) => Some(since_ms),
                (false, None) => Some(now_ms),
            };
        }
    }

    /// A hospital will not take part any more.
    pub fn set_refused(&mut self, hospital: &str, reason: String) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.hospital == hospital) {
            seat.refused.get_or_insert(reason);
        }
    }

    /// Linked and willing.
    pub fn is_present(&self, index: u16) -> bool {
        self.seat(index).is_some_and(|seat| seat.away_since_ms.is_none() && seat.refused.is_none())
    }

    /// Refused, or away for longer than `away_ms_max`.
    pub fn is_lost(&self, now_ms: u64, index: u16, away_ms_max: u64) -> bool {
        self.lost_ms(index, away_ms_max).is_some_and(|at_ms| now_ms >= at_ms)
    }

    /// When a seat counts, or counted, as lost: 0 if it refused, `None` while it has a link.
    pub fn lost_ms(&self, index: u16, away_ms_max: u64) -> Option<u64> {
        match self.seat(index) {
            Some(seat) if seat.refused.is_none() => {
                seat.away_since_ms.map(|since_ms| since_ms.saturating_add(away_ms_max))
            }
            _ => Some(0),
        }
    }

    /// When the next seat that is away will count as lost.
    pub fn next_loss_ms(&self, now_ms: u64, away_ms_max: u64) -> Option<(u64, &'static str)> {
        self.seats
            .iter()
            .filter_map(|seat| seat.away_since_ms.map(|since_ms| since_ms.saturating_add(away_ms_max)))
            .filter(|at_ms| *at_ms > now_ms)
            .min()
            .map(|at_ms| (at_ms, "a hospital is away too long"))
    }
}
