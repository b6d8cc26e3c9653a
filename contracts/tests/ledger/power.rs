//! Power cuts at every system call: whatever was not fsynced is dropped, and nothing acknowledged is lost.

use crate::disk::Disk;
use crate::driver::{driver, leaves};
use crate::faults::recover;
use crate::strace::{self, Call};
use crate::support::*;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// More than any of these tests writes.
const LEAVES: u64 = 270;

/// What the search through all power cuts of a run found.
#[derive(Debug, Default)]
pub struct Found {
    pub points: usize,
    pub states: usize,
    pub lost: Vec<String>,
}

/// The size that the driver said was acknowledged, if this call said so.
fn acknowledgement(call: &Call) -> Option<u64> {
    String::from_utf8_lossy(&call.data).trim().strip_prefix("ack ")?.parse().ok()
}

/// The next start of a log, given its entries.
fn start(leaves: Vec<Vec<u8>>) -> impl Fn(&Path, u64) -> Result<(), String> {
    move |root, acknowledged| recover(root, acknowledged, &leaves).map(drop)
}

/// Cuts the power behind every call, until so many cuts were found from which the next start does not `recover` what was acknowledged.
pub fn cut_everywhere(
    mut disk: Disk,
    calls: &[Call],
    mut acknowledged: u64,
    lost_max: usize,
    recover: impl Fn(&Path, u64) -> Result<(), String>,
) -> Found {
    let (mut found, mut seen) = (Found::default(), BTreeSet::new());
    for (at, call) in calls.iter().enumerate() {
        let said = acknowledgement(call);
        acknowledged = said.unwrap_or(acknowledged);
        if !disk.handle(call) && said.is_none() {
            continue;
        }
        found.points += 1;
        for wreck in disk.wrecks() {
            if !seen.insert((wreck.digest(), acknowledged)) {
                continue;
            }
            found.states += 1;
            let trial = Dirs::in_memory();
            wreck.lay_out(trial.temp.path());
            if let Err(why) = recover(trial.temp.path(), acknowledged) {
                let (name, path) = (&call.name, call.paths[0].display());
                let left = wreck.names();
                found
                    .lost
                    .push(format!("after call {at}, {name} of {path}, {acknowledged} acknowledged: {why}; {left:?}"));
                if found.lost.len() >= lost_max {
                    return found;
                }
            }
        }
    }
    found
}

/// A run of the driver behind `before` entries that are safely on the disk.
fn recorded(before: u32, batches: &[u32]) -> (Dirs, Disk, Vec<Call>) {
    let dirs = Dirs::in_memory();
    let root = dirs.temp.path();
    if before > 0 {
        assert!(driver(root, &[before]).output().unwrap().status.success());
    }
    let disk = Disk::new(root);
    let (output, calls) = strace::record(driver(root, batches), root);
    assert!(output.status.success(), "{output:?}");
    (dirs, disk, calls)
}

fn power_cuts(before: u32, batches: &[u32]) {
    let (_dirs, disk, calls) = recorded(before, batches);
    let found = cut_everywhere(disk, &calls, u64::from(before), 10, start(leaves(LEAVES)));
    assert!(found.lost.is_empty(), "{:#?}", found.lost);
    assert!(found.points > 20 * batches.len() && found.states > 50 * batches.len(), "{found:?}");
    eprintln!("{} power cuts, {} states of the disk", found.points, found.states);
}

#[test]
fn a_power_cut_anywhere_in_a_batch_loses_nothing_acknowledged() {
    if strace::available() {
        power_cuts(0, &[2]);
        power_cuts(3, &[2, 1]);
    }
}

/// Where the driver has opened the log: from here on it commits.
fn opened(calls: &[Call]) -> usize {
    calls.iter().position(|call| call.data.starts_with(b"\nopen")).unwrap()
}

/// What a call works on, within the log's folder.
fn place(call: &Call, root: &Path) -> PathBuf {
    call.paths.last().unwrap().strip_prefix(root).unwrap_or(Path::new("")).to_path_buf()
}

#[test]
fn every_file_is_fsynced_before_its_name_and_its_name_before_the_acknowledgement() {
    if !strace::available() {
        return;
    }
    let (dirs, mut disk, calls) = recorded(3, &[2, 1, 1]);
    let root = dirs.temp.path();
    let acknowledged: Vec<usize> = (0..calls.len()).filter(|at| acknowledgement(&calls[*at]).is_some()).collect();
    assert_eq!(acknowledged.len(), 3);
    let mut from = opened(&calls);
    calls[..from].iter().for_each(|call| {
        disk.handle(call);
    });
    for ack in acknowledged {
        let batch = &calls[from..ack];
        let at = |name: &str, path: &Path| batch.iter().position(|call| call.is(&[name]) && call.path() == path);
        let mut renamed = Vec::new();
        for (here, call) in batch.iter().enumerate().filter(|(_, call)| call.is(&["rename"])) {
            let fsync = at("fsync", call.path()).unwrap_or_else(|| panic!("no fsync before {call:?}"));
            assert!(fsync < here, "{call:?} comes before its content is durable");
            let folder = call.paths[1].parent().unwrap();
            let behind = batch[here..].iter().any(|later| later.is(&["fsync"]) && later.path() == folder);
            assert!(behind, "{call:?} is acknowledged before its name is durable");
            renamed.push((here, place(call, root)));
        }
        // Staged, then HEAD, then the tiles: LEDGER's order.
        let order = |path: &str| renamed.iter().find(|(_, place)| place.starts_with(path)).unwrap().0;
        let staged = at("fsync", &root.join("state/staging")).unwrap();
        let head = at("fsync", &root.join("state")).unwrap();
        assert!(order("state/staging") < staged && staged < order("state/HEAD"));
        assert!(order("state/HEAD") < head && head < order("public/tile"));
        // Nothing at all is left to the system's own time but the removal of the staged file.
        calls[from..=ack].iter().for_each(|call| {
            disk.handle(call);
        });
        let left = disk.unsynced();
        assert!(left.iter().all(|change| change.starts_with("Unlink") && change.contains("state/staging")), "{left:?}");
        from = ack + 1;
    }
}

#[test]
fn without_any_one_of_these_fsyncs_a_power_cut_would_lose_something() {
    if !strace::available() {
        return;
    }
    let (dirs, _, calls) = recorded(0, &[2]);
    let empty = Dirs::in_memory();
    let moved = |path: &PathBuf| empty.temp.path().join(path.strip_prefix(dirs.temp.path()).unwrap_or(path));
    let calls: Vec<Call> =
        calls.iter().map(|call| Call { paths: call.paths.iter().map(moved).collect(), ..call.clone() }).collect();
    let (mut needless, start) = (Vec::new(), start(leaves(LEAVES)));
    let from = opened(&calls);
    for (at, call) in calls.iter().enumerate().skip(from).filter(|(_, call)| call.is(&["fsync"])) {
        let mut lying = calls.clone();
        lying.remove(at);
        if cut_everywhere(Disk::new(empty.temp.path()), &lying, 0, 1, &start).lost.is_empty() {
            needless.push(place(call, empty.temp.path()).display().to_string());
        }
    }
    // A folder made beside another one is covered by the later fsync of the same parent; nobody was told yet what the names
    // of checkpoint and policy say; and the policy is written again before it is needed.
    assert_eq!(needless, ["public/tile", "public", "public/policy.tmp", "public"]);
}

/// The process dies at a call, the next one takes up what the machine still knows, and then the power goes.
fn deaths_then_power_cuts(before: u32, then: &[u32], every: usize) {
    let (dirs, _, calls) = recorded(before, &[1]);
    drop(dirs);
    let mut nth = std::collections::BTreeMap::new();
    let (mut deaths, mut states) = (0, 0);
    for call in calls.iter().filter(|call| call.is(&["rename", "fsync", "mkdir", "unlink"])) {
        let nth = nth.entry(call.name.clone()).or_insert(0);
        *nth += 1;
        deaths += 1;
        if deaths % every != 0 {
            continue;
        }
        let dirs = Dirs::in_memory();
        let root = dirs.temp.path();
        if before > 0 {
            assert!(driver(root, &[before]).output().unwrap().status.success());
        }
        let mut disk = Disk::new(root);
        let fault = format!("inject={}:error=EIO:signal=KILL:when={nth}", call.name);
        let (output, first) = strace::record_with(driver(root, &[1]), root, &["-e", &fault]);
        assert!(!output.status.success(), "{output:?}");
        let said = first.iter().filter_map(acknowledgement).next_back().unwrap_or(u64::from(before));
        first.iter().for_each(|call| {
            disk.handle(call);
        });
        let (output, second) = strace::record(driver(root, then), root);
        assert!(output.status.success(), "{output:?}");
        let found = cut_everywhere(disk, &second, said, 3, start(leaves(LEAVES)));
        assert!(found.lost.is_empty(), "killed at {} {nth} of {:?}: {:#?}", call.name, call.paths, found.lost);
        states += found.states;
    }
    eprintln!("{deaths} deaths, every {every}. looked at, {states} states of the disk");
}

#[test]
fn a_death_and_then_a_power_cut_lose_nothing_acknowledged() {
    if strace::available() {
        deaths_then_power_cuts(0, &[1], 4);
        deaths_then_power_cuts(3, &[], 3);
    }
}

#[test]
#[ignore = "five minutes; ./test.sh --long runs it"]
fn deaths_at_every_call_and_then_power_cuts_lose_nothing_acknowledged() {
    if strace::available() {
        for then in [&[][..], &[1]] {
            deaths_then_power_cuts(0, then, 1);
            deaths_then_power_cuts(3, then, 1);
        }
        power_cuts(254, &[4]);
    }
}
