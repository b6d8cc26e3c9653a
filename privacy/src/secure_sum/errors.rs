//! Why a message of the secure sum is refused: the peer's fault, with a stable wire code and, where it is known, the
//! hospital it is about. After a refusal nothing has changed: everything is checked before anything is applied.

use crate::layout::LayoutError;

/// A refused message. [`Reject::code`] is stable on the wire; new refusals get new numbers.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// The directory is not usable.
    #[error("directory: {0}")]
    Directory(&'static str),
    /// The opening belongs to another job.
    #[error("the opening is for another job than the directory")]
    WrongJob,
    /// The message belongs to another slot.
    #[error("the message is for slot {got}, slot {want} is open")]
    WrongSlot {
        /// Slot of the message.
        got: u64,
        /// Slot that is open.
        want: u64,
    },
    /// The slot was opened before, or a later one was. A slot is opened once: its pads hide one vector only.
    #[error("slot {slot} is not above {last}, the last slot this hospital opened; use a new slot")]
    StaleSlot {
        /// Slot of the opening.
        slot: u64,
        /// Last slot opened, from the journal.
        last: u64,
    },
    /// Nobody of that index is in the directory.
    #[error("hospital {hospital} is not in the job's directory")]
    UnknownMember {
        /// Index in the message.
        hospital: u16,
    },
    /// A signature does not verify over the bytes it has to cover.
    #[error("the {what} signature of hospital {hospital} is not valid for this job, slot and transcript")]
    Signature {
        /// What was signed.
        what: &'static str,
        /// The alleged signer.
        hospital: u16,
    },
    /// An index appears twice, or the list is not sorted.
    #[error("hospital {hospital} is listed twice or out of order")]
    NotSorted {
        /// The offending index.
        hospital: u16,
    },
    /// The hospital has no place in this slot's cohort.
    #[error("hospital {hospital} is not in this slot's cohort")]
    NotInCohort {
        /// The hospital.
        hospital: u16,
    },
    /// Fewer keys than the threshold or the contract's minimum.
    #[error("{got} hospitals are in the cohort, at least {want} are needed")]
    CohortTooSmall {
        /// Size of the cohort.
        got: usize,
        /// Smallest size allowed.
        want: usize,
    },
    /// More hospitals than the ring was sized for.
    #[error("{got} hospitals are in the cohort, the encoding is sized for {max}")]
    CohortTooLarge {
        /// Size of the cohort.
        got: usize,
        /// `hospitals_max` of the opening.
        max: u16,
    },
    /// The key listed for this hospital is not the one it holds secrets for: replaced, replayed, or lost in a restart.
    #[error("the slot key listed for hospital {hospital} is not the one it made for slot {slot}; join the next slot")]
    NotMyKey {
        /// This hospital.
        hospital: u16,
        /// The slot.
        slot: u64,
    },
    /// The layout handed over is not the one in the opening.
    #[error("the layout's digest is not the one in the opening")]
    WrongLayout,
    /// The layout cannot be used with this many hospitals.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The round was agreed before with another model.
    #[error("stage {stage} round {round} was agreed before with another model; a repeated round has the same model")]
    ModelChanged {
        /// Stage of the round.
        stage: u32,
        /// Round of the stage.
        round: u32,
    },
    /// A member of the cohort sent no share, or more than one.
    #[error("hospital {hospital} has not exactly one sealed share for this hospital and slot")]
    MissingShare {
        /// Sender of the share.
        hospital: u16,
    },
    /// The share does not open, or is not two scalars.
    #[error("the sealed share of hospital {hospital} does not open or holds no valid share")]
    BadShare {
        /// Sender of the share.
        hospital: u16,
    },
    /// The member's public key is of low order.
    #[error("a public key of hospital {hospital} is of low order and protects nothing")]
    WeakKey {
        /// Owner of the key.
        hospital: u16,
    },
    /// Fewer survivors than the threshold or the contract's minimum.
    #[error("{got} hospitals survived, at least {want} are needed; repeat the round in a new slot")]
    TooFewSurvivors {
        /// Number of survivors.
        got: usize,
        /// Smallest number allowed.
        want: usize,
    },
    /// The close does not contain this hospital's vector.
    #[error("hospital {hospital} is not among the survivors of this close")]
    NotSurvivor {
        /// This hospital.
        hospital: u16,
    },
    /// Another close of the same slot: two of them would open a difference.
    #[error("slot {slot} was closed before with other survivors; nothing more is signed for it")]
    SecondClose {
        /// The slot.
        slot: u64,
    },
    /// The round was agreed before over another set of hospitals, or in another shape: a second sum would open a
    /// difference, or show the same vectors under other noise.
    #[error(
        "stage {stage} round {round} was agreed before over other hospitals, or with another layout or room for another number of them; it can only be repeated as it was"
    )]
    RepeatDiffers {
        /// Stage of the round.
        stage: u32,
        /// Round of the stage.
        round: u32,
    },
    /// The message is not expected now.
    #[error("not expected now: {0}")]
    Phase(&'static str),
    /// Fewer signatures than the threshold on the close.
    #[error("{got} hospitals agreed to this close, at least {want} are needed")]
    TooFewAgreed {
        /// Valid signatures.
        got: usize,
        /// The threshold.
        want: usize,
    },
    /// The threshold is too low for signatures alone, and the ledger does not hold this close of this slot.
    #[error("the close of slot {slot} is not the one that the witnesses made final on the ledger; nothing is revealed")]
    NotOnLedger {
        /// The slot.
        slot: u64,
    },
    /// The reveal does not list exactly the shares the close asks for.
    #[error("the reveal of hospital {hospital} does not hold exactly one share of the right kind for each member")]
    BadReveal {
        /// Sender of the reveal.
        hospital: u16,
    },
    /// No choice of the revealed shares gives the secret that the hospital committed to.
    #[error("the shares of hospital {hospital} do not give the secret it committed to; repeat without it")]
    SharesDoNotFit {
        /// Owner of the secret: it dealt bad shares, or too many others revealed wrong ones.
        hospital: u16,
    },
    /// A second, different message where one is allowed.
    #[error("hospital {hospital} sent a second, different {what} for this slot")]
    Twice {
        /// Which message.
        what: &'static str,
        /// The sender.
        hospital: u16,
    },
    /// The vector came after the close.
    #[error("hospital {hospital} came after the close of slot {slot}; it can join the next one")]
    Late {
        /// The sender.
        hospital: u16,
        /// The slot.
        slot: u64,
    },
}

impl Reject {
    /// Stable number for the wire.
    pub fn code(&self) -> u16 {
        match self {
            Reject::Directory(_) => 200,
            Reject::WrongJob => 201,
            Reject::WrongSlot { .. } => 202,
            Reject::StaleSlot { .. } => 203,
            Reject::UnknownMember { .. } => 204,
            Reject::Signature { .. } => 205,
            Reject::NotSorted { .. } => 206,
            Reject::NotInCohort { .. } => 207,
            Reject::CohortTooSmall { .. } => 208,
            Reject::CohortTooLarge { .. } => 209,
            Reject::NotMyKey { .. } => 210,
            Reject::WrongLayout => 211,
            Reject::Layout(_) => 212,
            Reject::ModelChanged { .. } => 213,
            Reject::MissingShare { .. } => 214,
            Reject::BadShare { .. } => 215,
            Reject::WeakKey { .. } => 216,
            Reject::TooFewSurvivors { .. } => 217,
            Reject::NotSurvivor { .. } => 218,
            Reject::SecondClose { .. } => 219,
            Reject::RepeatDiffers { .. } => 220,
            Reject::Phase(_) => 221,
            Reject::TooFewAgreed { .. } => 222,
            Reject::BadReveal { .. } => 223,
            Reject::SharesDoNotFit { .. } => 224,
            Reject::Twice { .. } => 225,
            Reject::Late { .. } => 226,
            Reject::NotOnLedger { .. } => 227,
        }
    }

    /// The hospital the refusal is about, where there is one.
    pub fn hospital(&self) -> Option<u16> {
        match self {
            Reject::UnknownMember { hospital }
            | Reject::Signature { hospital, .. }
            | Reject::NotSorted { hospital }
            | Reject::NotInCohort { hospital }
            | Reject::NotMyKey { hospital, .. }
            | Reject::MissingShare { hospital }
            | Reject::BadShare { hospital }
            | Reject::WeakKey { hospital }
            | Reject::NotSurvivor { hospital }
            | Reject::BadReveal { hospital }
            | Reject::SharesDoNotFit { hospital }
            | Reject::Twice { hospital, .. }
            | Reject::Late { hospital, .. } => Some(*hospital),
            _ => None,
        }
    }
}
