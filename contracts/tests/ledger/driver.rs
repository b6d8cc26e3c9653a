//! A process of its own that commits batches and says so, for the tests that break what it stands on.
//!
//! It is this very test binary, started again with `LEBEN_TEST_LOG` set to a folder and `LEBEN_TEST_BATCHES` to sizes.

use crate::support::*;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::{LogStore, StoreError};
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// How the process ends when the store fails.
pub const FAILED: i32 = 7;

/// The command that commits batches of these sizes to the log below `folder`, behind what lies there.
pub fn driver(folder: &Path, batches: &[u32]) -> Command {
    let sizes: Vec<String> = batches.iter().map(u32::to_string).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "driver::commits_batches", "--nocapture", "--test-threads=1"]);
    command
        .env("LEBEN_TEST_LOG", folder)
        .env("LEBEN_TEST_BATCHES", sizes.join(" "))
        .env_remove("NEXTEST_EXECUTION_MODE");
    command
}

/// What a driver said: the size after the last batch that it acknowledged, and whether it came to its end.
pub fn acknowledged(said: &[u8]) -> (u64, bool) {
    let said = String::from_utf8_lossy(said);
    let mut acks = said.lines().filter_map(|line| line.strip_prefix("ack ")?.parse().ok());
    (acks.next_back().unwrap_or(0), said.lines().any(|line| line == "done"))
}

/// Entry `index` of every log that the driver writes.
pub fn leaves(size: u64) -> Vec<Vec<u8>> {
    let mut sequencer = sequencer();
    let size = u32::try_from(size).unwrap();
    let mut out = Vec::new();
    for from in (0..size).step_by(200) {
        let staged = sequencer.stage(NOW_MS, &envelopes(from..size.min(from + 200))).unwrap();
        out.extend(staged.entries.iter().map(|entry| entry.bytes().to_vec()));
    }
    out
}

/// Run as a process of its own; in an ordinary run of the tests it has nothing to do.
#[test]
fn commits_batches() {
    let (Ok(folder), Ok(batches)) = (std::env::var("LEBEN_TEST_LOG"), std::env::var("LEBEN_TEST_BATCHES")) else {
        return;
    };
    if let Err(error) = commit(Path::new(&folder), &batches) {
        eprintln!("{error}");
        std::process::exit(FAILED);
    }
    say("done");
}

fn say(line: &str) {
    // One write for a whole line; the harness may have left the cursor behind the test's name.
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
    std::io::stdout().flush().unwrap();
}

fn commit(folder: &Path, batches: &str) -> Result<(), StoreError> {
    let mut store = LogStore::open(&folder.join("public"), &folder.join("state"), &log_vkey())?;
    let mut follower = Follower::new(ORIGIN, Names::default());
    for leaf in store.reader().entries(0..store.size(), store.size())? {
        follower.apply(&Entry::parse(&leaf).unwrap()).unwrap();
    }
    let mut sequencer = Sequencer::new(log_signer(), store.builder()?, follower).unwrap();
    say(&format!("open {}", store.size()));
    for count in batches.split_whitespace() {
        let (from, count): (u32, u32) = (store.size().try_into().unwrap(), count.parse().unwrap());
        let batch = sequencer.stage(NOW_MS, &envelopes(from..from + count)).unwrap().batch.unwrap();
        store.commit(&batch)?;
        say(&format!("ack {}", store.size()));
        store.publish(&cosign(&batch.note, &[0, 1, 2], NOW_MS / 1000))?;
        store.publish_policy(&policy())?;
        say(&format!("published {}", store.size()));
    }
    Ok(())
}
