//! A running agent, for a process that holds one, or several of them.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use leben_contracts::ledger::keyfile::KeyFileError;
use leben_protocol::quic::{LinkError, Tap};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::clock::Clock;
use super::config::{Config, ConfigError};
use super::link::Shared;
use super::shell::Shell;
use super::store::DiskError;
use crate::agent::{Command, Status};

/// Why the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// `worker.toml`.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// Not joined yet, or the file is damaged.
    #[error("{0}")]
    Network(String),
    /// The hospital's own copy of the ledger does not hold.
    #[error("{0}")]
    Ledger(String),
    /// A socket of this side.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The operating system.
    #[error("{0}")]
    System(String),
}

/// What a process may set beside the configuration.
#[derive(Clone, Default)]
pub struct Options {
    /// Sees every byte before it is encrypted.
    pub tap: Option<Arc<dyn Tap>>,
    /// This hospital's clock.
    pub clock: Clock,
}

/// A running agent, for a process that holds several of them.
pub struct Handle {
    shared: Arc<Shared>,
    status: watch::Receiver<Option<Status>>,
    commands: mpsc::Sender<Command>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<Result<(), RunError>>,
}

impl Handle {
    /// Drops the link now and stays away this long.
    pub async fn cut(&self, away: Duration) {
        let _ = self.shared.cut.send(away).await;
    }

    /// Drops the link in the middle of the `nth` upload from now (1: the next), before its first chunk, and stays away
    /// this long.
    pub fn cut_in_upload(&self, nth: u64, away: Duration) {
        let (uploads, away_ms) = &self.shared.cut_in_upload;
        away_ms.store(u64::try_from(away.as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        uploads.store(nth, Ordering::Release);
    }

    /// Hears of every change of the status; `None` until the first.
    pub fn status(&self) -> watch::Receiver<Option<Status>> {
        self.status.clone()
    }

    /// UDP payload bytes sent and received over all links so far.
    pub fn traffic(&self) -> (u64, u64) {
        self.shared.traffic()
    }

    /// Links made after the first.
    pub fn reconnects(&self) -> u64 {
        self.shared.reconnects.load(Ordering::Relaxed)
    }

    /// A person's decision, without the detour over the inbox.
    pub async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    /// Whether it has ended by itself.
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Ends it in peace and says how it ended.
    ///
    /// # Errors
    /// What ended it before.
    pub async fn stop(mut self) -> Result<(), RunError> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        self.task.await.unwrap_or_else(|error| Err(RunError::System(error.to_string())))
    }
}

/// Starts an agent as a task of this runtime.
///
/// # Errors
/// [`RunError`]: everything that can be known before the first link.
pub fn spawn(config: Config, options: Options) -> Result<Handle, RunError> {
    let (shell, cuts) = Shell::new(&config, options)?;
    let (stop, stopped) = oneshot::channel::<()>();
    let shared = shell.shared.clone();
    let (status, commands) = (shell.status.subscribe(), shell.commands_in.clone());
    let task = tokio::spawn(shell.run(cuts, async move {
        // A dropped handle is no order to stop: only a sent one is.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    }));
    Ok(Handle { shared, status, commands, stop: Some(stop), task })
}

/// Runs an agent until `shutdown`.
///
/// # Errors
/// [`RunError`].
pub async fn run(config: Config, options: Options, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let (shell, cuts) = Shell::new(&config, options)?;
    shell.run(cuts, shutdown).await
}
