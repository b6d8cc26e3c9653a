//! The record: a transparency log in public formats (C2SP signed-note, tlog-checkpoint, tlog-cosignature, tlog-tiles, tlog-proof,
//! tlog-policy, tlog-witness) over RFC 6962 hashing, so that tools nobody here wrote can read and check it.

pub mod action;
pub mod action_file;
pub mod add_checkpoint;
pub mod builder;
pub mod canonical;
pub mod checkpoint;
pub mod entry;
pub mod evidence;
pub mod follow;
pub mod key;
#[cfg(feature = "fs")]
pub mod keyfile;
#[cfg(feature = "fs")]
pub mod keyring;
pub mod merkle;
pub mod note;
pub mod policy;
pub mod prepare;
pub mod proof;
pub mod sequencer;
mod signed;
#[cfg(feature = "fs")]
pub mod store;
pub mod tile;
pub mod turn;
pub mod validator;
pub mod witness;

use follow::Refusal;

/// A state machine that follows the log: the sequencer asks it before an entry is admitted, validators and the offline
/// verifier feed it every entry in order. The same entries always give the same answers.
pub trait Replay: Sync {
    /// Whether an envelope may become the next entry if it is sequenced at `seq_ms`. Changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Signature`] or [`Refusal::State`], for the person who sent the envelope.
    fn check(&self, seq_ms: u64, envelope: &entry::Envelope) -> Result<(), Refusal>;

    /// Takes the entry at `index` into account. Either the whole entry is applied or nothing changed.
    ///
    /// # Errors
    /// [`Refusal::Signature`] or [`Refusal::State`]: why this entry should not be where it is.
    fn apply(&mut self, index: u64, entry: &entry::Entry) -> Result<(), Refusal>;

    /// Where an action was recorded first, by its payload hash; a second copy of it is refused. An action whose time is over for good
    /// may be forgotten: it cannot be recorded again.
    fn find(&self, _payload_hash: &[u8; 32]) -> Option<u64> {
        None
    }

    /// The public key that a key id names at this moment, if any: signatures are verified under it ahead of their turn.
    fn key_of(&self, _keyid: &str) -> Option<key::PublicKey> {
        None
    }

    /// The witness policy that the ledger itself says is in force after the entries applied so far, if its entries say so. A
    /// published `policy` file that says otherwise is refused by the verifier.
    fn policy(&self) -> Option<policy::Policy> {
        None
    }
}

/// The state machine that allows everything: for logs whose entries mean nothing, such as a plain witness's view.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoReplay;

impl Replay for NoReplay {
    fn check(&self, _seq_ms: u64, _envelope: &entry::Envelope) -> Result<(), Refusal> {
        Ok(())
    }
    fn apply(&mut self, _index: u64, _entry: &entry::Entry) -> Result<(), Refusal> {
        Ok(())
    }
}

impl<R: Replay + ?Sized> Replay for &mut R {
    fn check(&self, seq_ms: u64, envelope: &entry::Envelope) -> Result<(), Refusal> {
        (**self).check(seq_ms, envelope)
    }
    fn apply(&mut self, index: u64, entry: &entry::Entry) -> Result<(), Refusal> {
        (**self).apply(index, entry)
    }
    fn find(&self, payload_hash: &[u8; 32]) -> Option<u64> {
        (**self).find(payload_hash)
    }
    fn key_of(&self, keyid: &str) -> Option<key::PublicKey> {
        (**self).key_of(keyid)
    }
    fn policy(&self) -> Option<policy::Policy> {
        (**self).policy()
    }
}
