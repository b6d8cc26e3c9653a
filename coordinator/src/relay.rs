//! Passing one hospital's view of the log to another that asked for it. The relay can read and drop; it cannot make a view, because each
//! carries its hospital's own fresh cosignature, and whoever is not heard for long is named by those who asked.
//!
//! Bounded: one open question from one hospital to another, so many questions a minute, and an answer only to a question.

use std::collections::BTreeMap;

/// Questions that one hospital may have passed on in a minute.
pub const ASKS_A_MINUTE: u32 = 240;
/// How long a question stays open, milliseconds.
pub const OPEN_MS: u64 = 60_000;
/// Longest view that is passed on, in bytes: the proof of a fork.
pub const VIEW_BYTES_MAX: usize = leben_contracts::ledger::evidence::EVIDENCE_BYTES_MAX;
/// Open questions over everybody.
const OPEN_MAX: usize = 4096;

/// Why something is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// Too many questions in this minute, or one to the same hospital is open.
    TooMany,
    /// Nobody asked.
    NotAsked,
    /// Longer than a view can be.
    TooLong,
    /// Asked about itself.
    Self_,
}

impl Dropped {
    /// As a metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Dropped::TooMany => "too_many",
            Dropped::NotAsked => "not_asked",
            Dropped::TooLong => "too_long",
            Dropped::Self_ => "itself",
        }
    }
}

/// Open questions and recent askers.
#[derive(Debug, Default)]
pub struct Relay {
    /// Asker and asked, and since when.
    open: BTreeMap<(String, String), u64>,
    /// The minute and the questions in it, by asker.
    asked: BTreeMap<String, (u64, u32)>,
}

impl Relay {
    /// `by` asks `of`: whether the question is passed on.
    ///
    /// # Errors
    /// [`Dropped`].
    pub fn handle_ask(&mut self, now_ms: u64, by: &str, of: &str) -> Result<(), Dropped> {
        if by == of {
            return Err(Dropped::Self_);
        }
        self.open.retain(|_, since_ms| now_ms.saturating_sub(*since_ms) < OPEN_MS);
        let minute = now_ms / 60_000;
        let asked = self.asked.entry(by.to_owned()).or_insert((minute, 0));
        if asked.0 != minute {
            *asked = (minute, 0);
        }
        asked.1 = asked.1.saturating_add(1);
        let pair = (by.to_owned(), of.to_owned());
        if asked.1 > ASKS_A_MINUTE || self.open.len() >= OPEN_MAX || self.open.contains_key(&pair) {
            return Err(Dropped::TooMany);
        }
        self.open.insert(pair, now_ms);
        Ok(())
    }

    /// `from` answers `to` with a view of so many bytes: whether it is passed on.
    ///
    /// # Errors
    /// [`Dropped`].
    pub fn handle_view(&mut self, from: &str, to: &str, bytes: usize) -> Result<(), Dropped> {
        self.open.remove(&(to.to_owned(), from.to_owned())).ok_or(Dropped::NotAsked)?;
        match bytes <= VIEW_BYTES_MAX {
            true => Ok(()),
            false => Err(Dropped::TooLong),
        }
    }

    /// A link ended: what it asked, and what it was asked, is asked again.
    pub fn handle_down(&mut self, party: &str) {
        self.open.retain(|(by, of), _| by != party && of != party);
        self.asked.remove(party);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_question_one_answer_and_no_flood() {
        let mut relay = Relay::default();
        assert_eq!(relay.handle_view("b", "a", 10), Err(Dropped::NotAsked));
        relay.handle_ask(0, "a", "b").unwrap();
        assert_eq!(relay.handle_ask(1, "a", "b"), Err(Dropped::TooMany), "one is open");
        assert_eq!(relay.handle_view("a", "b", 10), Err(Dropped::NotAsked), "the other way round");
        relay.handle_view("b", "a", 10).unwrap();
        assert_eq!(relay.handle_view("b", "a", 10), Err(Dropped::NotAsked), "once");
        relay.handle_ask(2, "a", "b").unwrap();
        assert_eq!(relay.handle_view("b", "a", VIEW_BYTES_MAX + 1), Err(Dropped::TooLong));
        assert_eq!(relay.handle_ask(3, "a", "a"), Err(Dropped::Self_));
        relay.handle_ask(4, "a", "b").unwrap();
        relay.handle_ask(4 + OPEN_MS, "a", "b").unwrap();
        let mut passed = 0;
        for n in 0..1000 {
            passed += u32::from(relay.handle_ask(3 * 60_000, "a", &format!("h{n}")).is_ok());
        }
        assert_eq!(passed, ASKS_A_MINUTE);
        relay.handle_ask(4 * 60_000, "a", "z").unwrap();
        relay.handle_down("z");
        assert_eq!(relay.handle_view("z", "a", 1), Err(Dropped::NotAsked));
    }
}
