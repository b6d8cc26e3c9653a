//! Snapshots of the agreements' state: power cuts and refused calls at every step of writing one, and what somebody else does to the files.

use crate::disk::Disk;
use crate::driver::FAILED;
use crate::power::cut_everywhere;
use crate::strace::{self, Call};
use crate::support::{Dirs, ORIGIN, key, log_signer, log_vkey};
use leben_contracts::agreement::body::{Body, Deposit, Founder, Genesis};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::hash::{Hash32, X25519Key};
use leben_contracts::agreement::party::{PartyId, PartyKeys, Role};
use leben_contracts::agreement::snapshot::{SnapshotError, Snapshots};
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::{LogReader, LogStore};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const NOW_MS: u64 = 1_790_000_000_000;
/// Entries of the log.
const SIZE: u64 = 24;

fn founder(name: &str, seed: u8) -> Founder {
    let public = |n: u8| PublicKey::of(&key(seed + n));
    let keys = PartyKeys { party: public(0), witness: None, validator: None, tls: public(1) };
    Founder { party: PartyId::new(name).unwrap(), keys, sealing: X25519Key([seed; 32]) }
}

fn draft(state: &State, body: &Body, nonce: u8) -> Vec<u8> {
    let actor = PartyId::new("coordinator").unwrap();
    let header =
        Header { actor: &actor, role: Role::Coordinator, now_ms: NOW_MS, valid_ms: 3_600_000, nonce: [nonce; 16] };
    Envelope::sign(&state.draft(body, None, &header).unwrap(), &[&key(40)]).unwrap().to_bytes()
}

/// A log of a Genesis and deposits below `root`, which nobody has taken a snapshot of.
fn write_log(root: &Path) {
    let mut store = LogStore::open(&root.join("public"), &root.join("state"), &log_vkey()).unwrap();
    let follower = Follower::new(ORIGIN, State::new(ORIGIN));
    let mut sequencer = Sequencer::new(log_signer(), store.builder().unwrap(), follower).unwrap();
    let (coordinator, admins) = (founder("coordinator", 40), vec![founder("admin", 50)]);
    let log_key = PublicKey::of(&key(1));
    let genesis = Genesis { origin: ORIGIN.into(), coordinator, admins, log_key, embeds: None };
    let first = draft(sequencer.state(), &genesis.into(), 0);
    let mut append = |envelopes: &[Vec<u8>]| {
        let staged = sequencer.stage(NOW_MS, envelopes).unwrap();
        assert!(staged.results.iter().all(Result::is_ok));
        store.commit(&staged.batch.unwrap()).unwrap();
        sequencer.state().clone()
    };
    let state = append(&[first]);
    let deposits = (1..u8::try_from(SIZE).unwrap()).map(|n| {
        let deposit = Deposit { party: PartyId::new("admin").unwrap(), credits: 10, receipt_hash: Hash32([n; 32]) };
        draft(&state, &deposit.into(), n)
    });
    append(&deposits.collect::<Vec<_>>());
}

fn reader(root: &Path) -> LogReader {
    LogReader::new(&root.join("public"))
}

fn load(root: &Path) -> (Snapshots, Result<Option<State>, SnapshotError>) {
    let mut snapshots = Snapshots::new(&root.join("state"));
    let state = snapshots.load(ORIGIN, &reader(root), SIZE, SIZE);
    (snapshots, state)
}

fn advance(state: &mut State, root: &Path, to: u64) {
    let from = state.next_index();
    for (index, leaf) in (from..).zip(reader(root).entries(from..to, SIZE).unwrap()) {
        state.apply(index, &Entry::parse(&leaf).unwrap()).unwrap();
    }
}

fn save(
    snapshots: &mut Snapshots,
    state: &State,
    root: &Path,
) -> Result<(), leben_contracts::ledger::store::StoreError> {
    let log_root = reader(root).root_at(state.next_index(), SIZE).unwrap();
    let cut = snapshots.cut(state, &log_root)?;
    snapshots.save(&cut)
}

fn replayed(root: &Path, to: u64) -> Vec<u8> {
    let mut state = State::new(ORIGIN);
    advance(&mut state, root, to);
    state.to_bytes().unwrap()
}

fn parts(root: &Path) -> Vec<PathBuf> {
    let folder = root.join("state/snapshot.parts");
    let mut parts: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    parts.sort();
    parts
}

/// This test again as a process of its own that takes up what lies in `folder` and saves at these sizes.
fn driver(folder: &Path, sizes: &[u64]) -> Command {
    let sizes: Vec<String> = sizes.iter().map(u64::to_string).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "snapshots::saves_snapshots", "--nocapture", "--test-threads=1"]);
    command.env("LEBEN_TEST_SNAPSHOTS", folder).env("LEBEN_TEST_SIZES", sizes.join(" "));
    command.env_remove("NEXTEST_EXECUTION_MODE");
    command
}

/// Run as a process of its own; in an ordinary run of the tests it has nothing to do.
#[test]
fn saves_snapshots() {
    let (Ok(folder), Ok(sizes)) = (std::env::var("LEBEN_TEST_SNAPSHOTS"), std::env::var("LEBEN_TEST_SIZES")) else {
        return;
    };
    let root = Path::new(&folder);
    let (mut snapshots, loaded) = load(root);
    let mut state = loaded.ok().flatten().unwrap_or_else(|| State::new(ORIGIN));
    for size in sizes.split_whitespace() {
        advance(&mut state, root, size.parse().unwrap());
        if let Err(error) = save(&mut snapshots, &state, root) {
            eprintln!("{error}");
            std::process::exit(FAILED);
        }
        std::io::stdout().write_all(format!("\nack {size}\n").as_bytes()).unwrap();
    }
}

/// The next start: there is a snapshot, not older than the last that was said to be saved, it is the state of a full replay, and it
/// can be gone on from. Before any was saved, one that was of no use may still be there.
fn recover(root: &Path, saved: u64) -> Result<(), String> {
    let (mut snapshots, loaded) = load(root);
    let loaded = match loaded {
        Err(_) if saved == 0 => None,
        loaded => loaded.map_err(|error| error.to_string())?,
    };
    let mut state = loaded.unwrap_or_else(|| State::new(ORIGIN));
    let size = state.next_index();
    if size < saved || size != snapshots.size() {
        return Err(format!("{saved} entries were saved, {size} are there"));
    }
    if size > 0 && state.to_bytes().unwrap() != replayed(root, size) {
        return Err(format!("the state of {size} entries is another one"));
    }
    advance(&mut state, root, SIZE);
    save(&mut snapshots, &state, root).map_err(|error| error.to_string())?;
    let left = parts(root);
    match load(root).1 {
        Ok(Some(again)) if again != state => Err("the state of all entries is another one".into()),
        Ok(Some(_)) if left.iter().any(|part| part.extension().is_some()) => Err(format!("{left:?} are left")),
        Ok(Some(_)) => Ok(()),
        other => Err(format!("{other:?} after going on")),
    }
}

/// A log with snapshots of these sizes.
fn saved(sizes: &[u64]) -> Dirs {
    let dirs = Dirs::in_memory();
    write_log(dirs.temp.path());
    go_on(dirs.temp.path(), sizes);
    dirs
}

fn go_on(root: &Path, sizes: &[u64]) {
    let (mut snapshots, loaded) = load(root);
    let mut state = loaded.unwrap().unwrap_or_else(|| State::new(ORIGIN));
    for size in sizes {
        advance(&mut state, root, *size);
        save(&mut snapshots, &state, root).unwrap();
    }
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_power_cut_anywhere_in_writing_a_snapshot_leaves_one_to_start_from() {
    if !strace::available() {
        return;
    }
    let cut = |dirs: Dirs, acknowledged: u64, sizes: &[u64]| {
        let root = dirs.temp.path();
        let disk = Disk::new(root);
        let (output, calls) = strace::record(driver(root, sizes), root);
        assert!(output.status.success(), "{output:?}");
        let found = cut_everywhere(disk, &calls, acknowledged, 10, recover);
        assert!(found.lost.is_empty(), "{:#?}", found.lost);
        assert!(found.points > 8 * sizes.len() && found.states > 8 * sizes.len(), "{found:?}");
    };
    cut(saved(&[]), 0, &[3, 9]);
    cut(saved(&[3, 9]), 9, &[10, 20]);
    // A part is damaged: everything is written anew, and what was there is removed.
    let damaged = saved(&[3, 9]);
    flip(&parts(damaged.temp.path())[0]);
    cut(damaged, 0, &[10, 20]);
}

#[test]
fn without_any_one_of_these_fsyncs_a_power_cut_would_leave_none() {
    if !strace::available() {
        return;
    }
    let dirs = saved(&[3]);
    let root = dirs.temp.path();
    let disk = Disk::new(root);
    let (output, calls) = strace::record(driver(root, &[9, 20]), root);
    assert!(output.status.success(), "{output:?}");
    let mut needless = Vec::new();
    for (at, call) in calls.iter().enumerate().filter(|(_, call)| call.is(&["fsync"])) {
        let mut lying = calls.clone();
        lying.remove(at);
        if cut_everywhere(disk.clone(), &lying, 3, 1, recover).lost.is_empty() {
            needless.push(call.path().strip_prefix(root).unwrap().display().to_string());
        }
    }
    assert_eq!(needless, Vec::<String>::new());
}

#[test]
fn every_call_of_writing_a_snapshot_may_fail() {
    if !strace::available() {
        return;
    }
    let base = saved(&[3, 9]);
    // Something to be removed, too.
    fs::write(base.temp.path().join("state/snapshot.parts/left.tmp"), b"by a crash").unwrap();
    let trial = base.copy();
    let root = trial.temp.path();
    let (output, calls) = strace::record(driver(root, &[10, 20]), root);
    assert!(output.status.success(), "{output:?}");
    let mut seen: BTreeMap<(String, &Path), usize> = BTreeMap::new();
    let (mut broken, mut wrong) = (0, Vec::new());
    let ours = |call: &&Call| call.name != "say" && !call.path().starts_with(root.join("public"));
    for (at, call) in calls.iter().filter(ours).enumerate() {
        let nth = seen.entry((call.name.clone(), call.path())).or_default();
        *nth += 1;
        let error = ["EIO", "ENOSPC"][at % 2];
        wrong.extend(break_one(&base, call.path().strip_prefix(root).unwrap(), (&call.name, *nth), error).err());
        broken += 1;
    }
    assert!(wrong.is_empty(), "{} of {broken} faults:\n{}", wrong.len(), wrong.join("\n"));
    assert!(broken > 30, "{broken}");
}

fn break_one(base: &Dirs, place: &Path, (call, nth): (&str, usize), error: &str) -> Result<(), String> {
    let trial = base.copy();
    let root = trial.temp.path();
    let what = format!("{error} in {call} {nth} of {}", place.display());
    let output = strace::inject(driver(root, &[10, 20]), call, &root.join(place), &format!("error={error}"), nth);
    let said = String::from_utf8_lossy(&output.stdout);
    let acks = said.lines().filter_map(|line| line.strip_prefix("ack ")?.parse::<u64>().ok());
    let (said, words) = (acks.max().unwrap_or(9), String::from_utf8_lossy(&output.stderr));
    // What cannot be read at the start is replayed; what cannot be written is said.
    let ended =
        output.status.success() && said == 20 || output.status.code() == Some(FAILED) && words.contains("os error");
    match ended {
        true => recover(root, said).map_err(|why| format!("{what}: {said} saved, then {why}; {words}")),
        false => Err(format!("{what}: ended with {} and said: {words}", output.status)),
    }
}

#[test]
fn whatever_happens_to_the_files_is_noticed_and_mended() {
    let refused = |change: &dyn Fn(&Path)| {
        let dirs = saved(&[3, 9, 20]);
        let root = dirs.temp.path();
        change(root);
        let error = load(root).1.unwrap_err();
        recover(root, 0).unwrap();
        assert_eq!(load(root).1.unwrap().unwrap().next_index(), SIZE);
        error
    };
    let damaged = |error: SnapshotError| assert!(matches!(error, SnapshotError::Damaged(_)), "{error}");
    for at in 0..3 {
        damaged(refused(&|root| flip(&parts(root)[at])));
        damaged(refused(&|root| fs::remove_file(&parts(root)[at]).unwrap()));
        damaged(refused(&|root| {
            let part = &parts(root)[at];
            let bytes = fs::read(part).unwrap();
            fs::write(part, &bytes[..bytes.len() - 1]).unwrap();
        }));
        damaged(refused(&|root| {
            let part = &parts(root)[at];
            fs::write(part, [fs::read(part).unwrap(), vec![0]].concat()).unwrap();
        }));
        damaged(refused(&|root| _ = fs::copy(&parts(root)[at], &parts(root)[(at + 1) % 3]).unwrap()));
    }
    damaged(refused(&|root| flip(&root.join("state/snapshot"))));
    damaged(refused(&|root| fs::remove_dir_all(root.join("state/snapshot.parts")).unwrap()));
}

#[test]
fn an_older_snapshot_beside_newer_parts_is_a_snapshot() {
    let dirs = saved(&[3, 9]);
    let root = dirs.temp.path();
    let old = fs::read(root.join("state/snapshot")).unwrap();
    go_on(root, &[10, 20]);
    assert_eq!(parts(root).len(), 4);
    fs::write(root.join("state/snapshot"), old).unwrap();
    assert_eq!(load(root).1.unwrap().unwrap().next_index(), 9);
    recover(root, 9).unwrap();
    // What the older one does not name is gone.
    assert_eq!(parts(root).len(), 3);
    // Nothing but parts: as if there were nothing.
    fs::remove_file(root.join("state/snapshot")).unwrap();
    assert_eq!(load(root).1, Ok(None));
    recover(root, 0).unwrap();
    assert_eq!(parts(root).len(), 1);
}

#[test]
fn what_somebody_else_wrote_meanwhile_is_not_built_on() {
    let dirs = saved(&[3, 9]);
    let root = dirs.temp.path();
    let (mut late, state) = load(root);
    let mut state = state.unwrap().unwrap();
    go_on(root, &[12, 15]);
    advance(&mut state, root, 20);
    save(&mut late, &state, root).unwrap();
    assert_eq!((load(root).1, late.size()), (Ok(Some(state.clone())), 20));
    assert_eq!(parts(root).len(), 1);
    fs::remove_dir_all(root.join("state")).unwrap();
    fs::create_dir(root.join("state")).unwrap();
    save(&mut late, &state, root).unwrap();
    assert_eq!(load(root).1, Ok(Some(state)));
}

#[test]
fn a_snapshot_of_entries_that_are_not_final_or_of_another_history_is_not_used() {
    let dirs = saved(&[3, 9]);
    let root = dirs.temp.path();
    let mut snapshots = Snapshots::new(&root.join("state"));
    assert_eq!(snapshots.load(ORIGIN, &reader(root), SIZE, 8), Err(SnapshotError::Log));
    assert_eq!(snapshots.size(), 0);
    assert_eq!(snapshots.load("another.example", &reader(root), SIZE, SIZE), Err(SnapshotError::Log));
    let wrong = saved(&[]);
    let mut state = State::new(ORIGIN);
    advance(&mut state, root, 5);
    let mut snapshots = Snapshots::new(&wrong.temp.path().join("state"));
    let cut = snapshots.cut(&state, &[1; 32]).unwrap();
    snapshots.save(&cut).unwrap();
    assert_eq!(load(wrong.temp.path()).1, Err(SnapshotError::Log));
}
