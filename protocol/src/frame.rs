//! Every message. One enum for each direction of each kind of stream, so that a frame that makes no sense where it
//! arrives cannot be decoded there.

use leben_privacy::secure_sum::{Agree, Agreement, Close, Opening, Reveal, SealedShare, SlotKey, Upload};
use serde::{Deserialize, Serialize};

use crate::reject::Reject;
use crate::wire::Wire;

/// The id of a contract: the payload hash of the action that proposed it.
pub type ContractId = [u8; 32];

/// The first frame on every stream that a dialer opens: what the stream is for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Hello {
    /// The one long-lived stream of a worker.
    Control {
        /// The protocol versions this side speaks, newest last.
        versions: Vec<u16>,
        /// Entries in the worker's own copy of the ledger.
        mirror_size: u64,
        /// Entries of it that are certified: a change of who has to sign beyond them needs its certificate yet.
        certified_size: u64,
        /// The largest checkpoint it holds, a note signed by the log: what the log must never fall behind. Empty: none.
        seen: Vec<u8>,
    },
    /// One masked vector for one slot of one job.
    Upload {
        /// The job's contract.
        contract: ContractId,
        /// The slot the vector was masked for.
        slot: u64,
        /// Chunks in all, as the layout says.
        chunks: u64,
    },
    /// One question, one [`Answer`].
    Request(Request),
    /// Asks for [`Progress`] frames until the job reaches its end.
    Watch {
        /// The job's contract.
        contract: ContractId,
    },
}

/// One question of a dialer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// What network is this? Answered with [`Answer::Network`]; open to strangers.
    Network,
    /// A stranger with an invite enrols: the signed `PartyEnrol` envelope and the one-time code.
    Enrol {
        /// DSSE envelope bytes, signed by the party's new key.
        envelope: Vec<u8>,
        /// The code of the invite.
        code: String,
    },
    /// Append a signed action. `wait_final`: answer when a quorum has cosigned it, not when it is sequenced.
    Append {
        /// DSSE envelope bytes.
        envelope: Vec<u8>,
        /// Wait for the quorum.
        wait_final: bool,
    },
    /// A file of the published ledger folder, by its tlog-tiles path. Answered with [`Answer::Blob`] and a blob.
    LedgerFile {
        /// `checkpoint`, `tile/0/000`, ...
        path: String,
    },
    /// The model state of a running job. Answered with [`Answer::Blob`] and a blob.
    State {
        /// The job's contract.
        contract: ContractId,
        /// SHA-256 of the state's bytes.
        digest: [u8; 32],
    },
    /// The sealed result of a job. Answered with [`Answer::Blob`] and a blob.
    Result {
        /// The job's contract.
        contract: ContractId,
    },
    /// Where a job stands. Answered with [`Answer::Progress`].
    Progress {
        /// The job's contract.
        contract: ContractId,
    },
}

/// The answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// It was not done; the code and the words say why.
    Rejected(Reject),
    /// What network this is.
    Network(Network),
    /// The entry has an index; `proof` is a tlog-proof when the quorum was waited for.
    Appended {
        /// Index of the entry.
        index: u64,
        /// tlog-proof text, empty if only sequenced.
        proof: Vec<u8>,
    },
    /// A blob of this many bytes with this SHA-256 follows on the stream.
    Blob {
        /// Length in bytes.
        bytes: u64,
        /// SHA-256.
        digest: [u8; 32],
    },
    /// Where the job stands.
    Progress(Box<Progress>),
}

/// What a coordinator says about its network. Nothing here is trusted: a worker and a client compare it with the invite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// Origin line of the log.
    pub origin: String,
    /// Key of the log in C2SP form.
    pub log_vkey: String,
    /// Entries in the log.
    pub size: u64,
    /// The coordinator's clock, milliseconds since 1970, so that a peer can say by how much the two differ.
    pub now_ms: u64,
}

/// What the coordinator tells a worker on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Order {
    /// Accepted: the version both will speak.
    Welcome {
        /// One of the versions offered.
        version: u16,
        /// What network this is.
        network: Network,
    },
    /// The link ends here, for this reason.
    Rejected(Reject),
    /// Leaves of the log from `first_index` on, ahead of a [`Order::Cosign`] that covers them.
    Entries {
        /// Index of the first leaf.
        first_index: u64,
        /// Leaf bytes.
        #[serde(with = "crate::leaves")]
        leaves: Vec<Vec<u8>>,
    },
    /// A tlog-witness add-checkpoint body.
    Cosign {
        /// Body text.
        body: Vec<u8>,
    },
    /// The checkpoint with the quorum's cosignatures: the certificate round.
    Publish {
        /// Signed note.
        note: Vec<u8>,
    },
    /// Something for one job.
    Job {
        /// The job's contract.
        contract: ContractId,
        /// What.
        order: JobOrder,
    },
    /// Another hospital asks what this one sees of the log; answered with [`Report::View`], or not at all.
    ViewAsked {
        /// Who asks.
        by: String,
    },
    /// What another hospital sees.
    View {
        /// Whose view it is said to be; its own cosignature in it says whether that is so.
        of: String,
        /// A cosigned checkpoint, or the proof of a fork.
        view: Vec<u8>,
    },
}

/// What the coordinator tells a hospital's job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobOrder {
    /// Make fresh keys for this slot and send the public half.
    Advertise {
        /// The slot to come.
        slot: u64,
    },
    /// Every hospital's key for a slot to come: seal a share for each.
    Keys {
        /// The slot to come.
        slot: u64,
        /// One signed key a hospital.
        keys: Vec<SlotKey>,
    },
    /// D1: a slot opens.
    Open {
        /// Everything that goes into the transcript.
        opening: Box<Opening>,
        /// Shares that the others sealed for this hospital.
        sealed: Vec<SealedShare>,
        /// Size of the model state in bytes; its digest is in the opening.
        state_bytes: u64,
    },
    /// D2: who is in the sum; the keys of the next slot ride along.
    Close {
        /// The survivors with their signatures.
        close: Close,
        /// Keys for the slot to come, if the job goes on.
        next: Option<(u64, Vec<SlotKey>)>,
    },
    /// Enough survivors signed the same close.
    Agreed(Agreement),
    /// The slot ended without a sum; nothing was opened.
    Abandoned {
        /// The slot that ended.
        slot: u64,
    },
    /// Every stage is done: the result is a state to fetch, look at and let go.
    Review {
        /// SHA-256 of its bytes.
        digest: [u8; 32],
        /// Its size.
        bytes: u64,
    },
    /// The job is over for this hospital.
    Stop {
        /// Why.
        reason: String,
    },
}

/// What a worker tells the coordinator on the control stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// Cosignature lines for the checkpoint of this size.
    Cosigned {
        /// Entries the checkpoint covers.
        size: u64,
        /// Signed-note signature lines.
        lines: String,
    },
    /// The witness will not sign.
    NotCosigned {
        /// Size of the checkpoint it cosigned last (tlog-witness: the body of a 409).
        size: u64,
        /// Entries in its own copy of the ledger: the next one is where to go on sending.
        mirror_size: u64,
        /// Why.
        reject: Reject,
    },
    /// The cosigned checkpoint of this size is stored durably here.
    Certified {
        /// Entries the checkpoint covers.
        size: u64,
    },
    /// Something of one job.
    Job {
        /// The job's contract.
        contract: ContractId,
        /// What.
        report: JobReport,
    },
    /// Asks another hospital, through the coordinator, what it sees of the log.
    AskView {
        /// Who is asked.
        of: String,
    },
    /// The answer to [`Order::ViewAsked`].
    View {
        /// Who asked.
        to: String,
        /// The largest checkpoint cosigned here, with a fresh cosignature; or the proof of a fork.
        view: Vec<u8>,
    },
}

/// What a hospital's job tells the coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum JobReport {
    /// The hospital's fresh key for a slot.
    Advertised(SlotKey),
    /// Its shares for a slot to come, one sealed for each hospital.
    Shares {
        /// The slot to come.
        slot: u64,
        /// Sealed shares.
        sealed: Vec<SealedShare>,
    },
    /// The local half runs.
    Working {
        /// The slot.
        slot: u64,
    },
    /// Its signature under the close.
    Agreed(Agree),
    /// U2: shares of self seeds and mask seeds, which open the sum.
    Revealed(Reveal),
    /// The hospital refuses, with a reason for people.
    Refused {
        /// The slot it refuses, 0 for the whole job.
        slot: u64,
        /// Code and words.
        reject: Reject,
        /// True when the hospital will not take part in this job any more.
        final_: bool,
    },
}

/// The worker's last frame on an upload stream, after every chunk was stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UploadTrailer {
    /// Root over the chunks, signed together with the transcript.
    pub upload: Upload,
    /// The hospital's fresh key for the next slot.
    pub next: Option<SlotKey>,
}

/// What the coordinator says on an upload stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum UploadReply {
    /// Send from this place on.
    From {
        /// Index of the first chunk that is not here as a whole.
        next_index: u64,
        /// Bytes of that chunk which arrived before a cut: its frame carries only those after them. Less than all.
        held_bytes: u32,
    },
    /// Everything is stored and the trailer verified.
    Stored,
    /// Not wanted.
    Rejected(Reject),
}

/// Where one job stands, as the AI team sees it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Grows by one with each change.
    pub sequence: u64,
    /// The contract's phase, a word of CONTRACTS' table.
    pub phase: String,
    /// True when nothing will change any more.
    pub ended: bool,
    /// Stages in all.
    pub stages: u32,
    /// Id and name of the stage that runs.
    pub stage: Option<(u32, String)>,
    /// Round of that stage, from 1.
    pub round: u32,
    /// Rounds the terms allow it.
    pub rounds_max: u32,
    /// Slots used so far, repeated ones included.
    pub slot: u64,
    /// Each hospital.
    pub hospitals: Vec<HospitalProgress>,
    /// One figure for each finished round of the stage: the deviance, or what the algorithm calls its loss.
    pub trace: Vec<f64>,
    /// What happened last, in words.
    pub message: String,
    /// Bytes received from the hospitals' uploads and sent to them, for this job.
    pub bytes_up: u64,
    /// Bytes sent to the hospitals for this job.
    pub bytes_down: u64,
}

/// Where one hospital stands in a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HospitalProgress {
    /// The hospital.
    pub party: String,
    /// What it does.
    pub state: HospitalState,
    /// Chunks received of the running slot, and chunks expected.
    pub chunks: (u64, u64),
}

/// What a hospital does right now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum HospitalState {
    /// No link.
    Away,
    /// Linked, nothing to do.
    Ready,
    /// Runs the local half.
    Working,
    /// Sends its masked vector.
    Uploading,
    /// Its vector is complete.
    Uploaded,
    /// It gave the shares that open the sum.
    Done,
    /// It refused; the message says why.
    Refused,
}

impl Wire for Hello {}
impl Wire for Answer {}
impl Wire for Order {}
impl Wire for Report {}
impl Wire for UploadTrailer {}
impl Wire for UploadReply {}
impl Wire for Progress {}
