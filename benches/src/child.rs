//! One side of a comparison in a process of its own: this program again, under a hidden name.
//!
//! The two talk in lines over the child's standard input and output. The child ends when its input ends, so a parent that
//! dies leaves nothing behind.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::{Failure, machine};

/// How long a child may take to end by itself.
const STOP: Duration = Duration::from_secs(10);

/// A running side.
pub struct Child {
    child: std::process::Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Child {
    /// Starts this program with these arguments.
    pub fn spawn<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Result<Child, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(arguments.into_iter().map(Into::into)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a child has no pipes".into());
        };
        Ok(Child { child, stdin: Some(stdin), stdout: BufReader::new(stdout) })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints. Blocks.
    pub fn line(&mut self) -> Result<String, Failure> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line)? {
            0 => Err("one side ended before it answered; its words are above".into()),
            _ => Ok(line.trim_end().to_owned()),
        }
    }

    /// Says a line to it.
    pub fn say(&mut self, line: &str) -> Result<(), Failure> {
        let stdin = self.stdin.as_mut().ok_or("the child's input is closed")?;
        writeln!(stdin, "{line}")?;
        Ok(stdin.flush()?)
    }

    /// UDP payload bytes that it has sent and received over all its links so far.
    pub fn traffic(&mut self) -> Result<(u64, u64), Failure> {
        self.say("traffic")?;
        let line = self.line()?;
        let (sent, received) = line.split_once(' ').ok_or("an answer that is no traffic")?;
        Ok((sent.parse()?, received.parse()?))
    }

    /// Its peak memory so far, MiB.
    pub fn peak_mib(&self) -> Result<f64, Failure> {
        machine::peak_mib(self.pid())
    }

    /// Ends it as a loss of power would, in the middle of whatever it does.
    pub fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it in peace.
    pub fn stop(mut self) -> Result<(), Failure> {
        drop(self.stdin.take());
        let asked = Instant::now();
        while asked.elapsed() < STOP {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => return Err(format!("one side ended with {status}").into()),
                None => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        Err(format!("one side did not end within {} s", STOP.as_secs()).into())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the child: the parent's lines, until it closes them.
pub fn lines() -> mpsc::UnboundedReceiver<String> {
    let (into, lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines() {
            if line.is_ok_and(|line| into.send(line).is_ok()) {
                continue;
            }
            return;
        }
    });
    lines
}

/// In the child: says a line to the parent.
pub fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

/// In the child: what goes wrong is said on standard error, nothing else.
pub fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}
