//! A witness outside the network, asked over plain HTTP as C2SP tlog-witness has it: litewitness, omniwitness, a university's
//! `leben-worker witness`. It attests that the log only grows; nothing waits for it.
//!
//! What it remembers is what it says it remembers: this side keeps no file about it. A witness restored from an old backup answers
//! 409 with its smaller size, and is led on from there with the right proof.

use leben_contracts::ledger::checkpoint::parse_size;
use leben_contracts::ledger::note::{Note, SignatureLine, VerifierKey};

/// Longest answer that is read, in bytes: a few signature lines.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// The media type of a 409's body.
pub const SIZE_TYPE: &str = "text/x.tlog.size";

/// One outside witness, as this coordinator knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outside {
    vkey: VerifierKey,
    holds: u64,
}

/// What an answer means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It cosigned: this line verifies.
    Cosigned(SignatureLine),
    /// It remembers another size than was thought: ask again, from there.
    Again,
    /// It has signed a larger checkpoint than the one it was asked for. Either this coordinator's folder is older than what was once
    /// published, or a newer checkpoint is on its way there already.
    Ahead(u64),
    /// It will not, for a reason that asking again does not change.
    Refused(String),
}

impl Outside {
    /// A witness of which nothing is known yet but its key.
    pub fn new(vkey: VerifierKey) -> Outside {
        Outside { vkey, holds: 0 }
    }

    /// Its key.
    pub fn vkey(&self) -> &VerifierKey {
        &self.vkey
    }

    /// From which size a checkpoint of `size` entries has to be proven to it.
    pub fn from(&self, size: u64) -> u64 {
        self.holds.min(size)
    }

    /// Its answer to a request to extend `from` to the `size` of `note`.
    pub fn handle_answer(
        &mut self,
        note: &Note,
        (from, size): (u64, u64),
        status: u16,
        content_type: &str,
        body: &[u8],
    ) -> Said {
        let text = std::str::from_utf8(body).unwrap_or_default();
        match status {
            200 => self.cosigned(note, size, text),
            409 if content_type == SIZE_TYPE => self.conflict(from, size, text),
            409 => Said::Refused(
                "it remembers another tree of this size (409): one of the two logs is not this one".into(),
            ),
            400 => Said::Refused("it cannot read the request (400)".into()),
            403 => Said::Refused(
                "it does not know the key that signed the checkpoint (403): give it this log's vkey".into(),
            ),
            404 => Said::Refused(
                "it does not follow this log (404): ask its operator to add the origin and the vkey".into(),
            ),
            422 => {
                // Led on from a size that it did not say: the next question starts at the beginning.
                self.holds = 0;
                Said::Refused("it refuses the consistency proof (422)".into())
            }
            other => Said::Refused(format!("it answered with status {other}")),
        }
    }

    fn cosigned(&mut self, note: &Note, size: u64, text: &str) -> Said {
        let lines = text.lines().filter_map(|line| SignatureLine::parse(line).ok());
        let Some(line) = lines.into_iter().find(|line| line.is_by(&self.vkey)) else {
            return Said::Refused(format!("its answer holds no line by {}", self.vkey.name()));
        };
        match self.vkey.verify(note.text(), &line) {
            Ok(_) => {
                self.holds = size;
                Said::Cosigned(line)
            }
            Err(error) => Said::Refused(error.to_string()),
        }
    }

    fn conflict(&mut self, from: u64, size: u64, text: &str) -> Said {
        match text.strip_suffix('\n').and_then(parse_size) {
            Some(holds) if holds == from => Said::Refused(
                "it remembers another tree of the size that it names (409): keep both checkpoints, this is a fork"
                    .into(),
            ),
            Some(holds) if holds > size => {
                self.holds = holds;
                Said::Ahead(holds)
            }
            Some(holds) => {
                self.holds = holds;
                Said::Again
            }
            None => Said::Refused("its 409 names no size".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use leben_contracts::ledger::checkpoint::Checkpoint;
    use leben_contracts::ledger::note::{KeyType, NoteSigner};

    fn signer(name: &str, n: u8) -> NoteSigner {
        NoteSigner::new(name, KeyType::Cosignature, SigningKey::from_bytes(&[n; 32])).unwrap()
    }

    fn note(size: u64) -> Note {
        Note::new(Checkpoint::new("log.example", size, [1; 32]).to_string()).unwrap()
    }

    #[test]
    fn only_a_line_that_verifies_is_taken() {
        let (mine, other) = (signer("uni.example/w", 1), signer("uni.example/w", 2));
        let line = |signer: &NoteSigner, size| signer.sign(note(size).text(), 1_800_000_000).to_string();
        let mut outside = Outside::new(mine.vkey().clone());
        let mut answer = |body: String| outside.handle_answer(&note(9), (0, 9), 200, "text/plain", body.as_bytes());
        assert!(matches!(answer(String::new()), Said::Refused(_)));
        assert!(matches!(answer(line(&other, 9)), Said::Refused(_)), "another key of the same name");
        assert!(matches!(answer(line(&mine, 8)), Said::Refused(_)), "another checkpoint");
        assert!(matches!(answer("<html>".into()), Said::Refused(_)));
        assert!(matches!(answer(format!("{}{}", line(&other, 9), line(&mine, 9))), Said::Cosigned(_)));
        assert_eq!(outside.from(20), 9);
    }

    #[test]
    fn a_conflict_says_where_to_go_on() {
        let mut outside = Outside::new(signer("uni.example/w", 1).vkey().clone());
        let mut answer = |from, media: &str, body: &str| {
            let said = outside.handle_answer(&note(9), (from, 9), 409, media, body.as_bytes());
            (said, outside.from(9))
        };
        assert_eq!(answer(0, SIZE_TYPE, "5\n"), (Said::Again, 5));
        assert_eq!(answer(5, SIZE_TYPE, "2\n"), (Said::Again, 2), "restored from an older file");
        assert_eq!(answer(2, SIZE_TYPE, "12\n"), (Said::Ahead(12), 9));
        assert!(matches!(answer(9, SIZE_TYPE, "9\n").0, Said::Refused(_)), "another root");
        for (media, body) in
            [("text/plain", "5\n"), (SIZE_TYPE, "5"), (SIZE_TYPE, "05\n"), (SIZE_TYPE, "-5\n"), (SIZE_TYPE, "")]
        {
            assert!(matches!(answer(0, media, body).0, Said::Refused(_)), "{media} {body:?}");
        }
        for status in [400, 403, 404, 422, 500, 302] {
            assert!(matches!(outside.handle_answer(&note(9), (0, 9), status, "", b""), Said::Refused(_)));
        }
    }
}
