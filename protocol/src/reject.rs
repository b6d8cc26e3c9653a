//! What a peer is told when it is refused: a code for the machine, words for the person who meets it.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::CodecError;
use crate::limits::REASON_BYTES_MAX;

/// The peer's fault, as the peer is told. Travels as a frame's field or as the reason of a closed connection.
///
/// `code` is a plain number so that a code of a later version can still be carried and shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reject {
    /// A [`RejectCode`] as its number.
    pub code: u16,
    /// What exactly, for a person: which contract, which entry, by how much. Never a patient's value.
    pub message: String,
}

impl Reject {
    /// A refusal with its words, cut to [`REASON_BYTES_MAX`] so that they fit everywhere.
    pub fn new(code: RejectCode, message: impl AsRef<str>) -> Reject {
        Reject { code: code as u16, message: shorten(message.as_ref()).to_owned() }
    }

    /// The code, or `None` if a later version of the protocol made it.
    pub fn kind(&self) -> Option<RejectCode> {
        RejectCode::from_u16(self.code)
    }

    /// True if the same request may succeed later without anybody doing anything.
    pub fn is_temporary(&self) -> bool {
        matches!(
            self.kind(),
            Some(RejectCode::Busy | RejectCode::TooManyConnections | RejectCode::ShuttingDown | RejectCode::NotReady)
        )
    }
}

impl fmt::Display for Reject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            Some(kind) => write!(f, "{} (code {})", kind.title(), self.code)?,
            None => write!(f, "refused for a reason that this version does not know (code {})", self.code)?,
        }
        if !self.message.is_empty() {
            write!(f, ": {}", printable(&self.message))?;
        }
        match self.kind() {
            Some(kind) => write!(f, ". {}", kind.advice()),
            None => f.write_str(". Update this program."),
        }
    }
}

impl std::error::Error for Reject {}

impl From<CodecError> for Reject {
    fn from(error: CodecError) -> Reject {
        let code = match error {
            CodecError::TooLarge { .. } => RejectCode::FrameTooLarge,
            CodecError::TrailingBytes { .. } => RejectCode::TrailingBytes,
            CodecError::Malformed { .. } => RejectCode::Malformed,
            CodecError::Unencodable { .. } => RejectCode::Internal,
        };
        Reject::new(code, error.to_string())
    }
}

/// What a peer wrote, without anything that could drive a terminal or forge a line of a log.
pub fn printable(text: &str) -> String {
    shorten(text).chars().map(|c| if c.is_control() || is_bidi(c) { '\u{fffd}' } else { c }).collect()
}

fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(REASON_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

macro_rules! reject_codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $title:literal, $advice:literal;)*) => {
        /// Why a peer is refused. Numbers are part of the protocol: they are never given another meaning.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u16)]
        pub enum RejectCode { $($(#[$doc])* $name = $code,)* }

        impl RejectCode {
            /// Every code, by number.
            pub const ALL: &'static [RejectCode] = &[$(RejectCode::$name),*];

            /// The code of this number.
            pub fn from_u16(code: u16) -> Option<RejectCode> {
                match code { $($code => Some(RejectCode::$name),)* _ => None }
            }

            /// What happened, as the start of a sentence.
            pub fn title(self) -> &'static str {
                match self { $(RejectCode::$name => $title,)* }
            }

            /// What the person who is refused can do, as a sentence.
            pub fn advice(self) -> &'static str {
                match self { $(RejectCode::$name => $advice,)* }
            }
        }

        impl fmt::Display for RejectCode {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(self.title()) }
        }
    };
}

reject_codes! {
    // 1..: the bytes
    /// Bytes that are no frame of the kind expected.
    Malformed = 1, "a frame could not be read", "Check that both sides run versions that fit together.";
    /// A frame with bytes after its end.
    TrailingBytes = 2, "a frame has bytes after its end", "Check that both sides run versions that fit together.";
    /// A frame beyond `FRAME_BYTES_MAX`, or a chunk beyond `CHUNK_BYTES_MAX`.
    FrameTooLarge = 3, "a frame is too large", "Large data goes in chunks; check that both sides run versions that fit together.";
    /// A well-formed frame that has no business here and now.
    UnexpectedFrame = 4, "a frame came that does not fit here", "Check that both sides run versions that fit together.";
    /// No version in common.
    UnsupportedVersion = 5, "no protocol version is common to both sides", "Update the older side.";
    /// A chunk with an index other than the next one, or a count that does not fit.
    ChunkOutOfOrder = 6, "a chunk came out of order", "The transfer is started again from the last good chunk.";
    /// What arrived is not what was announced.
    DigestMismatch = 7, "what arrived does not have the announced digest", "Fetch it again; if it stays so, the sender's file is damaged.";
    /// More bytes than the receiver agreed to.
    TooMuchData = 8, "more data was announced than is accepted here", "Ask the receiver for a higher bound, or send less.";

    // 20..: who
    /// The key is enrolled nowhere on the ledger.
    Stranger = 20, "this key is not enrolled on the ledger", "Join with an invite first, or check that the right key folder is used.";
    /// The key was on the ledger and is revoked or rotated away.
    KeyRevoked = 21, "this key is no longer in force", "Use the key that replaced it, or enrol again.";
    /// A signature does not hold.
    BadSignature = 22, "a signature does not verify", "Check that the right key signed exactly these bytes.";
    /// The invite is unknown, used or out of date.
    BadInvite = 23, "the invite is unknown, used up or out of date", "Ask the coordinator for a new invite.";
    /// Known, but not in the role this needs.
    NotAllowed = 24, "this party's role does not allow that", "Ask a party that has the role.";
    /// The same party is already connected; the older link yields.
    Replaced = 25, "another connection of the same party took over", "Nothing is wrong if the agent was restarted; otherwise check that its key is used once.";

    // 40..: what
    /// No such contract.
    UnknownContract = 40, "there is no such contract", "Check the contract's id, and that the ledger's copy is up to date.";
    /// The contract is there, but does not admit this now.
    NotAdmitted = 41, "the contract does not admit this", "See the contract's state and terms.";
    /// Another slot runs.
    WrongSlot = 42, "this belongs to another slot", "The slot is over or has not begun; nothing is lost.";
    /// The budget does not cover it.
    BudgetExhausted = 43, "the privacy budget does not cover this", "See the budget of the data set.";
    /// No such data set or column.
    UnknownData = 44, "there is no such data set or column", "See the catalog for names.";
    /// Past its deadline.
    TooLate = 45, "this came after its deadline", "See the contract's windows.";
    /// Fewer records or hospitals than the terms ask for.
    CohortTooSmall = 46, "too few records or hospitals", "The terms name the smallest cohort.";
    /// No such file, state or result.
    NotFound = 47, "this is not here", "Check the name; it may not exist yet, or may have been removed.";
    /// The ledger's rules forbid the entry.
    EntryRefused = 48, "the ledger's rules do not allow this entry", "See the contract's state; sign the action again after correcting it.";
    /// Already there.
    Duplicate = 49, "this is already recorded", "Nothing is to be done.";
    /// A check of the secure sum failed.
    SecureSum = 50, "a check of the secure sum failed", "Nothing was opened; the words say which check and whose message.";

    // 60..: when
    /// Too much at once.
    Busy = 60, "the other side is busy", "It is tried again by itself.";
    /// The clocks differ by more than the protocol tolerates.
    ClockSkew = 61, "the two clocks differ too much", "Set the clock (for example by NTP) and start again.";
    /// `CONNECTIONS_MAX` is reached.
    TooManyConnections = 62, "the other side holds as many connections as it can", "It is tried again by itself.";
    /// Going down for a restart.
    ShuttingDown = 63, "the other side is shutting down", "It is tried again by itself.";
    /// The ledger is frozen or handed over.
    Frozen = 64, "the ledger is frozen", "Ask the admin which coordinator goes on.";
    /// A witness holds another size, or the quorum is not there.
    NotReady = 65, "the ledger is not ready for this yet", "It is tried again by itself.";

    // 80..: the other side's own trouble
    /// A fault of the side that answers.
    Internal = 80, "the other side met an internal fault", "Its log says more.";
}

#[cfg(test)]
mod tests {
    use super::{Reject, RejectCode, printable};
    use crate::codec::CodecError;

    #[test]
    fn every_code_is_its_number_and_says_what_to_do() {
        for &code in RejectCode::ALL {
            assert_eq!(RejectCode::from_u16(code as u16), Some(code));
            assert!(code as u16 != 0, "0 is peace");
            let words = Reject::new(code, "entry 7").to_string();
            assert!(words.contains("entry 7") && words.ends_with('.'), "{words}");
        }
        assert_eq!(RejectCode::from_u16(0), None);
    }

    #[test]
    fn a_code_of_a_later_version_can_be_shown() {
        let later = Reject { code: 60_000, message: "too blue".into() };
        assert_eq!(later.kind(), None);
        assert!(later.to_string().contains("60000") && later.to_string().contains("too blue"));
    }

    #[test]
    fn a_peer_cannot_drive_the_terminal_or_forge_a_log_line() {
        let hostile = Reject { code: 60, message: "a\u{1b}[2J\nERROR forged\u{202e}".into() };
        assert!(!hostile.to_string().contains(['\u{1b}', '\n', '\u{202e}']));
        assert_eq!(printable(&"\u{20ac}".repeat(400)).len(), 510);
    }

    #[test]
    fn a_codec_error_becomes_the_code_for_it() {
        let tail = CodecError::TrailingBytes { frame: "Hello", used: 3, extra: 1 };
        assert_eq!(Reject::from(tail).kind(), Some(RejectCode::TrailingBytes));
    }
}
