//! One link to the coordinator, and every question that an AI team asks over it.

use std::sync::Arc;
use std::time::Duration;

use leben_contracts::ledger::entry::Envelope;
use leben_contracts::ledger::note::NOTE_BYTES_MAX;
use leben_protocol::backoff::Backoff;
use leben_protocol::frame::{Answer, ContractId, Hello, Network, Progress, Request};
use leben_protocol::quic::{
    Blob, BlobReader, Connection, Dialer, FrameReader, FrameWriter, LinkError, TransferError, resolve,
};
use leben_protocol::reject::{Reject, RejectCode};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::fetch::RESULT_BYTES_MAX;
use crate::home::Home;

/// Tries to reach the coordinator before giving up; with the backoff between them about 15 seconds.
const TRIES: u32 = 6;
/// An answer that needs no quorum comes within this time.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// An answer that waits for a quorum of hospitals.
const FINAL_TIMEOUT: Duration = Duration::from_secs(120);
/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The link.
    #[error("the coordinator at {address}: {source}")]
    Link {
        /// Where it should be.
        address: String,
        /// What happened.
        source: LinkError,
    },
    /// The coordinator says no.
    #[error("{0}")]
    Refused(Reject),
    /// Nothing came in time.
    #[error(
        "the coordinator at {address} did not answer within {seconds} s ({what}). Nothing is lost: ask again later"
    )]
    Timeout {
        /// Where it is.
        address: String,
        /// How long.
        seconds: u64,
        /// What was asked.
        what: &'static str,
    },
    /// An answer to something else.
    #[error(
        "the coordinator at {address} answered something else than was asked ({what}); check that both sides run versions that fit together"
    )]
    Unexpected {
        /// Where it is.
        address: String,
        /// What was asked.
        what: &'static str,
    },
    /// Another network than the home's.
    #[error("the coordinator at {address} keeps the log '{got}', this home belongs to '{wanted}'")]
    Network {
        /// Where it is.
        address: String,
        /// What it keeps.
        got: String,
        /// What it should keep.
        wanted: String,
    },
}

impl SessionError {
    /// The refusal's code, if it is one.
    pub fn code(&self) -> Option<RejectCode> {
        match self {
            SessionError::Refused(reject) => reject.kind(),
            SessionError::Link { source: LinkError::Refused(reject), .. } => reject.kind(),
            _ => None,
        }
    }

    /// True if the same question may be answered later without anybody doing anything.
    pub fn is_worth_retrying(&self) -> bool {
        match self {
            SessionError::Link { source, .. } => source.is_worth_retrying(),
            SessionError::Refused(reject) => reject.is_temporary(),
            SessionError::Timeout { .. } => true,
            _ => false,
        }
    }
}

/// Where an appended action stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Index of the entry.
    pub index: u64,
    /// tlog-proof text; empty if only sequenced.
    pub proof: Vec<u8>,
}

/// A link to the coordinator, known by its key.
#[derive(Clone)]
pub struct Session {
    link: Connection,
    address: String,
    origin: String,
    shown: Arc<Zeroizing<[u8; 32]>>,
}

impl Session {
    /// Dials the home's coordinator; a few tries, so that a restarting one is met again.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn connect(home: &Home) -> Result<Session, SessionError> {
        let seeds = home.tls_seeds();
        let Some((last, earlier)) = seeds.split_last() else { return Session::connect_as(home, &[0; 32]).await };
        for seed in earlier {
            let session = Session::connect_as(home, seed).await?;
            // A rotation is under way: which key the coordinator knows shows in what it lets this one ask.
            match session.ledger_file("checkpoint", NOTE_BYTES_MAX).await {
                Err(error) if matches!(error.code(), Some(RejectCode::Stranger | RejectCode::KeyRevoked)) => {
                    session.close().await;
                }
                _ => return Ok(session),
            }
        }
        Session::connect_as(home, last).await
    }

    async fn connect_as(home: &Home, shown: &[u8; 32]) -> Result<Session, SessionError> {
        let (address, origin) = (home.network().address.clone(), home.network().origin.clone());
        let failed = |source| SessionError::Link { address: address.clone(), source };
        let dialer = Dialer::new(shown).map_err(failed)?;
        let seed = crate::io::seed().map_err(|error| failed(LinkError::Local { why: error.to_string() }))?;
        let mut backoff = Backoff::new(*seed);
        let mut tries = 1;
        loop {
            let dialled = match resolve(&address).await {
                Ok(found) => dialer.dial(found, home.coordinator_key()).await,
                Err(error) => Err(error),
            };
            match dialled {
                Ok(link) => return Ok(Session { link, address, origin, shown: Zeroizing::new(*shown).into() }),
                Err(error) if error.is_worth_retrying() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(Duration::from_millis(backoff.next_delay_ms())).await;
                }
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Seed of the link key that was shown.
    pub fn shown(&self) -> &[u8; 32] {
        &self.shown
    }

    /// Ends the link in peace.
    pub async fn close(self) {
        self.link.close_and_wait("done").await;
    }

    fn failed(&self, source: LinkError) -> SessionError {
        SessionError::Link { address: self.address.clone(), source }
    }

    fn unexpected(&self, what: &'static str) -> SessionError {
        SessionError::Unexpected { address: self.address.clone(), what }
    }

    async fn open(&self, hello: &Hello) -> Result<(FrameWriter, FrameReader), SessionError> {
        let (mut writer, reader) = self.link.open_bi().await.map_err(|error| self.failed(error))?;
        writer.send(hello).await.map_err(|error| self.failed(error))?;
        Ok((writer, reader))
    }

    async fn ask(
        &self,
        request: Request,
        what: &'static str,
        within: Duration,
    ) -> Result<(Answer, FrameWriter, FrameReader), SessionError> {
        let asked = async {
            let (writer, mut reader) = self.open(&Hello::Request(request)).await?;
            let answer: Answer = reader.expect().await.map_err(|error| self.failed(error))?;
            match answer {
                Answer::Rejected(reject) => Err(SessionError::Refused(reject)),
                answer => Ok((answer, writer, reader)),
            }
        };
        match timeout(within, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(SessionError::Timeout { address: self.address.clone(), seconds: within.as_secs(), what }),
        }
    }

    /// What network the coordinator keeps; it must be the home's.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn network(&self) -> Result<Network, SessionError> {
        let what = "which network it keeps";
        let (answer, ..) = self.ask(Request::Network, what, ANSWER_TIMEOUT).await?;
        let Answer::Network(network) = answer else { return Err(self.unexpected(what)) };
        if network.origin != self.origin {
            let (address, wanted) = (self.address.clone(), self.origin.clone());
            return Err(SessionError::Network { address, got: network.origin, wanted });
        }
        Ok(network)
    }

    /// Enrols with the one-time code of an invite.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn enrol(&self, envelope: &Envelope, code: &str) -> Result<Appended, SessionError> {
        let request = Request::Enrol { envelope: envelope.to_bytes(), code: code.to_owned() };
        self.appended(request, "enrolment").await
    }

    /// Appends an action; with `wait_final`, answers when a quorum of hospitals has cosigned it.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn append(&self, envelope: &Envelope, wait_final: bool) -> Result<Appended, SessionError> {
        self.appended(Request::Append { envelope: envelope.to_bytes(), wait_final }, "an entry of the ledger").await
    }

    async fn appended(&self, request: Request, what: &'static str) -> Result<Appended, SessionError> {
        match self.ask(request, what, FINAL_TIMEOUT).await? {
            (Answer::Appended { index, proof }, ..) => Ok(Appended { index, proof }),
            _ => Err(self.unexpected(what)),
        }
    }

    /// One file of the published ledger folder.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn ledger_file(&self, path: &str, bytes_max: usize) -> Result<Vec<u8>, SessionError> {
        let request = Request::LedgerFile { path: path.to_owned() };
        self.blob(request, "a file of the ledger", bytes_max as u64).await
    }

    /// The sealed result of a job.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn result(&self, contract: ContractId) -> Result<Vec<u8>, SessionError> {
        self.blob(Request::Result { contract }, "the result", RESULT_BYTES_MAX).await
    }

    async fn blob(&self, request: Request, what: &'static str, bytes_max: u64) -> Result<Vec<u8>, SessionError> {
        let (answer, mut writer, mut reader) = self.ask(request, what, ANSWER_TIMEOUT).await?;
        let Answer::Blob { bytes, digest } = answer else { return Err(self.unexpected(what)) };
        let blob = BlobReader::new(Blob { bytes, digest }, bytes_max).map_err(|error| self.failed(error))?;
        let mut sink = Vec::new();
        blob.receive(&mut writer, &mut reader, &mut sink).await.map_err(|error| match error {
            TransferError::Link(error) => self.failed(error),
            TransferError::Local { error, .. } => self.failed(LinkError::Local { why: error.to_string() }),
        })?;
        Ok(sink)
    }

    /// Where a job stands.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn progress(&self, contract: ContractId) -> Result<Progress, SessionError> {
        let what = "where the job stands";
        match self.ask(Request::Progress { contract }, what, ANSWER_TIMEOUT).await? {
            (Answer::Progress(progress), ..) => Ok(*progress),
            _ => Err(self.unexpected(what)),
        }
    }

    /// Where a job stands, again and again until it has ended.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn watch(&self, contract: ContractId) -> Result<Watch, SessionError> {
        let (writer, reader) = self.open(&Hello::Watch { contract }).await?;
        Ok(Watch { _writer: writer, reader, address: self.address.clone() })
    }
}

/// A stream of [`Progress`].
pub struct Watch {
    // Dropping it would reset the stream's other half.
    _writer: FrameWriter,
    reader: FrameReader,
    address: String,
}

impl Watch {
    /// The next change; `None` when the job has ended. Cancel-safe.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn next(&mut self) -> Result<Option<Progress>, SessionError> {
        let address = self.address.clone();
        self.reader.recv().await.map_err(|source| SessionError::Link { address, source })
    }
}
