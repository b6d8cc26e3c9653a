//! An action that several people sign, as a file that goes from hand to hand: a draft, then one signature more at each stop.
//!
//! The file is the DSSE envelope itself with a line end, so once enough people have signed, its bytes are what is appended. Unlike
//! an [`Envelope`], which somebody has signed, a draft may carry no signature yet. Several people may also sign copies at the same
//! time and [join](ActionFile::join) them. What it says in words, and who of the ledger's parties signed, is
//! [`State::action_text`](crate::agreement::State::action_text): every tool shows it before it signs.

use super::action::{Action, EntryError, field};
use super::entry::{ENVELOPE_BYTES_MAX, Envelope};
use ed25519_dalek::SigningKey;

/// Largest file, in bytes: the largest envelope and a line end.
pub const ACTION_FILE_BYTES_MAX: usize = ENVELOPE_BYTES_MAX + 2;

/// A drafted action with the signatures gathered so far: none to [`SIGNATURES_MAX`](super::entry::SIGNATURES_MAX).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionFile(Envelope);

impl ActionFile {
    /// A draft that nobody has signed.
    ///
    /// # Errors
    /// An action out of range or too large.
    pub fn draft(action: &Action) -> Result<Self, EntryError> {
        Envelope::unsigned(action).map(Self)
    }

    /// Reads a file. A line end (LF or CRLF) after the envelope is part of the form, and may be missing.
    ///
    /// # Errors
    /// Anything else that is not exactly what [`ActionFile::to_bytes`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Self, EntryError> {
        let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        Envelope::parse_unsigned(line.strip_suffix(b"\r").unwrap_or(line)).map(Self)
    }

    /// The file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.0.to_bytes();
        bytes.push(b'\n');
        bytes
    }

    /// Adds a signature. Whether the key has a say is for the ledger to judge.
    ///
    /// # Errors
    /// The key has signed already, too many signatures, an entry that would be too large.
    pub fn sign(&mut self, key: &SigningKey) -> Result<(), EntryError> {
        let mut with = self.0.clone();
        with.push_signature(key);
        self.replace(with)
    }

    /// Adds the signatures that another copy of the same action carries and this one does not.
    ///
    /// # Errors
    /// Another action; too many signatures.
    pub fn join(&mut self, other: &Self) -> Result<(), EntryError> {
        if self.0.payload() != other.0.payload() {
            return Err(field("payload", "is of another action: only copies of one draft can be joined"));
        }
        let mut with = self.0.clone();
        with.join_signatures(&other.0);
        self.replace(with)
    }

    fn replace(&mut self, with: Envelope) -> Result<(), EntryError> {
        with.check_signers()?;
        with.check_size()?;
        self.0 = with;
        Ok(())
    }

    /// What is signed.
    #[must_use]
    pub fn action(&self) -> &Action {
        self.0.action()
    }

    /// The envelope as it stands, for questions; its signatures are unverified and may be none.
    #[must_use]
    pub fn as_envelope(&self) -> &Envelope {
        &self.0
    }

    /// The envelope to append.
    ///
    /// # Errors
    /// Nobody has signed.
    pub fn into_envelope(self) -> Result<Envelope, EntryError> {
        self.0.checked()
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::{ENTRY_BYTES_MAX, Entry, PublicKey, SIGNATURES_MAX, origin_hash};
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn action(code: &str) -> Action {
        Action {
            v: 1,
            kind: "KeyRevoke".into(),
            network: origin_hash("ledger.example/test"),
            contract: None,
            terms_version: None,
            prev: None,
            actor: "admin".into(),
            role: "admin".into(),
            not_before_ms: 1,
            not_after_ms: 2,
            nonce: "00112233445566778899aabbccddeeff".into(),
            body: json!({"code": code, "party": "hospital-c"}),
        }
    }

    fn key(n: usize) -> SigningKey {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(n as u64).to_le_bytes());
        SigningKey::from_bytes(&seed)
    }

    #[test]
    fn a_draft_goes_from_hand_to_hand() {
        let draft = ActionFile::draft(&action("key_stolen")).unwrap();
        assert!(matches!(draft.clone().into_envelope(), Err(EntryError::Field { field: "signatures", .. })));
        let mut one = ActionFile::parse(&draft.to_bytes()).unwrap();
        one.sign(&key(1)).unwrap();
        assert!(matches!(one.sign(&key(1)), Err(EntryError::Field { field: "signatures", .. })), "twice by one key");
        let mut two = draft;
        two.sign(&key(2)).unwrap();
        one.join(&two).unwrap();
        one.join(&two).unwrap();
        let mut crlf = one.to_bytes();
        crlf.pop();
        crlf.extend_from_slice(b"\r\n");
        assert_eq!(ActionFile::parse(&crlf).unwrap(), one, "a mail program's line end");
        let envelope = one.clone().into_envelope().unwrap();
        envelope.verify(&[PublicKey::of(&key(1)), PublicKey::of(&key(2))]).unwrap();
        assert_eq!(Envelope::parse(&envelope.to_bytes()).unwrap(), envelope);
        let mut other = ActionFile::draft(&action("key_lost")).unwrap();
        assert!(matches!(other.join(&one), Err(EntryError::Field { field: "payload", .. })));
        for edited in ["\n\n", " \n", "x\n"] {
            let mut bytes = one.to_bytes();
            bytes.pop();
            bytes.extend_from_slice(edited.as_bytes());
            assert!(ActionFile::parse(&bytes).is_err(), "{edited:?}");
        }
    }

    #[test]
    fn as_many_signatures_as_a_quorum_needs_fit_into_an_entry_and_no_more() {
        let mut file = ActionFile::draft(&action("fork")).unwrap();
        for n in 0..SIGNATURES_MAX {
            file.sign(&key(n)).unwrap();
        }
        let full = file.clone();
        assert!(matches!(file.sign(&key(SIGNATURES_MAX)), Err(EntryError::Field { field: "signatures", .. })));
        assert_eq!(file, full, "a refused signature changes nothing");
        assert!(file.to_bytes().len() <= ACTION_FILE_BYTES_MAX);
        let entry = Entry::new(file.into_envelope().unwrap(), 7).unwrap();
        assert!(entry.bytes().len() < ENTRY_BYTES_MAX / 2, "{}", entry.bytes().len());
        assert_eq!(Entry::parse(entry.bytes()).unwrap(), entry);
        let long = Action { body: json!({"x": "y".repeat(16_000)}), ..action("long") };
        let mut file = ActionFile::draft(&long).unwrap();
        let refused = (0..SIGNATURES_MAX).find_map(|n| file.sign(&key(n)).err());
        assert!(matches!(refused, Some(EntryError::TooLarge { .. })), "the entry's limit stands: {refused:?}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = ActionFile::parse(&bytes);
        }

        #[test]
        fn a_changed_byte_is_refused_or_another_signature(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let mut file = ActionFile::draft(&action("key_stolen")).unwrap();
            file.sign(&key(1)).unwrap();
            let mut bytes = file.to_bytes();
            bytes.pop();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let taken = ActionFile::parse(&bytes).and_then(ActionFile::into_envelope);
            prop_assert!(!taken.is_ok_and(|e| e.verify(&[PublicKey::of(&key(1))]).is_ok()));
        }
    }
}
