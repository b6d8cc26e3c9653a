//! Every system call of a batch fails, in turn: the process ends and says at which file, and nothing acknowledged is lost.

use crate::driver::{FAILED, acknowledged, driver, leaves};
use crate::strace::{self, Call};
use crate::support::*;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::LogStore;
use leben_contracts::verify::{Options, verify_folder};
use std::collections::BTreeMap;
use std::path::Path;

/// Calls that change something: when one fails, nobody knows what the disk holds.
const CHANGES: [&str; 12] = [
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "mkdir",
    "mkdirat",
    "unlink",
    "unlinkat",
    "rmdir",
];

/// The next start on what is left: it knows every acknowledged entry, each in its place, and goes on. Its size before that.
pub fn recover(root: &Path, acknowledged: u64, leaves: &[Vec<u8>]) -> Result<u64, String> {
    let public = root.join("public");
    let mut store = LogStore::open(&public, &root.join("state"), &log_vkey()).map_err(|e| e.to_string())?;
    let size = store.size();
    if size < acknowledged {
        return Err(format!("{acknowledged} entries were acknowledged, {size} are there"));
    }
    let found = store.reader().entries(0..size, size).map_err(|e| e.to_string())?;
    if leaves.get(..found.len()) != Some(&found) {
        return Err("an entry is not the one that was appended there".into());
    }
    let mut follower = Follower::new(ORIGIN, Names::default());
    for leaf in &found {
        follower.apply(&Entry::parse(leaf).unwrap()).map_err(|e| e.to_string())?;
    }
    let builder = store.builder().map_err(|e| e.to_string())?;
    let mut sequencer = Sequencer::new(log_signer(), builder, follower).map_err(|e| e.to_string())?;
    let batch = sequencer.stage(NOW_MS, &[envelope("afterwards")]).unwrap().batch.unwrap();
    store.commit(&batch).map_err(|e| e.to_string())?;
    store.publish(&cosign(&batch.note, &[0, 1, 2], NOW_MS / 1000)).map_err(|e| e.to_string())?;
    store.publish_policy(&policy()).map_err(|e| e.to_string())?;
    let mut names = Names::default();
    let options = Options { policy: Some(policy()), replay: Some(&mut names), ..Options::default() };
    match verify_folder(&public, options) {
        Ok(verified) if verified.checkpoint.size == size + 1 => Ok(size),
        Ok(verified) => Err(format!("{} entries verify, not {}", verified.checkpoint.size, size + 1)),
        Err(error) => Err(error.to_string()),
    }
}

/// Breaks each call of the driver, for one of the errors or for both.
fn break_every_call(before: u32, batches: &[u32], both: bool) {
    let base = Dirs::in_memory();
    assert!(driver(base.temp.path(), &[before]).output().unwrap().status.success());
    let leaves = leaves(u64::from(before + batches.iter().sum::<u32>()));
    let trial = base.copy();
    let root = trial.temp.path();
    let (output, calls) = strace::record(driver(root, batches), root);
    assert!(output.status.success(), "{output:?}");
    let mut seen: BTreeMap<(String, &Path), usize> = BTreeMap::new();
    let (mut broken, mut wrong) = (0, Vec::new());
    for (at, call) in calls.iter().filter(|call| call.name != "say").enumerate() {
        let nth = seen.entry((call.name.clone(), call.path())).or_default();
        *nth += 1;
        for (which, error) in ["EIO", "ENOSPC"].into_iter().enumerate() {
            if both || at % 2 == which {
                wrong.extend(break_one(&base, batches, (call, root, *nth), error, &leaves).err());
                broken += 1;
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {broken} faults:\n{}", wrong.len(), wrong.join("\n"));
    assert!(broken > 100, "{broken}");
}

fn break_one(
    base: &Dirs,
    batches: &[u32],
    (call, recorded, nth): (&Call, &Path, usize),
    error: &str,
    leaves: &[Vec<u8>],
) -> Result<(), String> {
    let trial = base.copy();
    let root = trial.temp.path();
    let place = call.path().strip_prefix(recorded).unwrap();
    let what = format!("{error} in {} {nth} of {}", call.name, place.display());
    let output = strace::inject(driver(root, batches), &call.name, &root.join(place), &format!("error={error}"), nth);
    let (acknowledged, done) = acknowledged(&output.stdout);
    let said = String::from_utf8_lossy(&output.stderr);
    // To look whether a file is there may fail and change nothing; the rest of the run is then as good as ever.
    let harmless = done && output.status.success() && !call.is(&CHANGES);
    let code = if error == "EIO" { "os error 5" } else { "os error 28" };
    // The file itself, or the one that takes its place.
    let named = root.join(place.with_extension("")).display().to_string();
    if !harmless && (done || output.status.code() != Some(FAILED) || !said.contains(&named) || !said.contains(code)) {
        return Err(format!("{what}: ended with {} and said: {said}", output.status));
    }
    recover(root, acknowledged, leaves)
        .map_err(|why| format!("{what}: {acknowledged} acknowledged, then {why}; {said}"))?;
    Ok(())
}

#[test]
fn every_call_of_a_batch_may_fail() {
    if strace::available() {
        break_every_call(3, &[2, 1], false);
    }
}

#[test]
#[ignore = "three minutes; ./test.sh --long runs it"]
fn every_call_of_batches_across_a_full_tile_may_fail() {
    if strace::available() {
        break_every_call(254, &[4, 1, 1], true);
    }
}
