//! A disk that lies, and a disk that is full.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::acknowledged::{Bystander, verify_all};
use crate::deployment::{Deployment, HOSPITALS, files_below};
use crate::process::wait_until;
use crate::rows::{WORKER_TOML, csv};

/// A small network: three hospitals, so that every entry waits for all cosignatures.
fn small() -> Deployment {
    let mut deployment = Deployment::new();
    deployment.serve();
    for (seed, hospital) in HOSPITALS[..3].iter().copied().enumerate() {
        deployment.join(hospital, &csv(seed, 40), WORKER_TOML);
        deployment.run(hospital);
    }
    deployment.keygen("team", 0);
    deployment.wait_for_offers(3);
    deployment
}

/// The newest file of a kind: the one of the largest size.
fn newest(folder: &Path) -> PathBuf {
    let size = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().parse::<u64>().unwrap_or(0);
    files_below(folder).into_iter().max_by_key(size).unwrap()
}

/// What a refusal to start names: the file, or the folder of tiles that contradict each other, and what to do.
fn damaged(path: &Path) -> Vec<String> {
    let text = path.to_str().unwrap();
    // A hospital that replays its copy finds out that it does not hold, not which byte of it.
    let place = match (text.split_once("/mirror/"), text.split_once("/tile/")) {
        (Some((folder, _)), _) => format!("{folder}/mirror"),
        (None, Some((folder, _))) => format!("{folder}/tile"),
        (None, None) => text.to_owned(),
    };
    vec![place, "is damaged".into()]
}

/// Flips a byte at each of these tenths of a file, and looks.
fn flip_parts(path: &Path, tenths: std::ops::Range<usize>, mut look: impl FnMut()) {
    let good = fs::read(path).unwrap();
    for tenth in tenths {
        let mut bad = good.clone();
        bad[good.len() * tenth / 10] ^= 1;
        fs::write(path, bad).unwrap();
        look();
    }
    fs::write(path, good).unwrap();
}

fn flip(path: &Path) -> Vec<u8> {
    let good = fs::read(path).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(path, bad).unwrap();
    good
}

#[test]
fn a_tampered_ledger_is_found_at_start_up_and_by_verify() {
    let mut deployment = small();
    deployment.coordinator = None;
    deployment.workers.clear();
    let files = |root: &str| {
        let root = deployment.path(root);
        [newest(&root.join("tile/entries")), newest(&root.join("tile/0")), root.join("checkpoint")]
    };
    let coordinator = |path: &Path| deployment.coordinator(&["serve"]).complains(&damaged(path));
    for path in files("coordinator/ledger").iter().chain([&deployment.path("coordinator/state/HEAD")]) {
        flip_parts(path, 1..10, || coordinator(path));
    }
    let worker = |path: &Path| deployment.worker("aker", &["run"]).complains(&damaged(path));
    for path in files("aker/mirror/public").iter().chain([&deployment.path("aker/witness")]) {
        // A hospital's certificate may lose the name of a cosigner that it does not need: the text and the log's signature.
        let tenths = if path.ends_with("checkpoint") { 1..4 } else { 1..10 };
        flip_parts(path, tenths, || worker(path));
    }
    for (path, codes) in files("team/ledger").into_iter().zip([&[2, 5][..], &[2, 5], &[2, 3]]) {
        let good = flip(&path);
        let said = deployment.leben(&["verify", "team/ledger"]);
        assert!(codes.contains(&said.code), "{}: {said:?}", path.display());
        said.complains(&["not verified (exit code"]);
        fs::write(&path, good).unwrap();
    }
    // As it was, everything goes on; a hospital whose copy is damaged fetches it anew.
    deployment.serve();
    fs::remove_dir_all(deployment.path("aker/mirror")).unwrap();
    deployment.run("aker");
    deployment.run("basel");
    deployment.run("cluj");
    deployment.keygen("late", 0);
    deployment.leben(&["status"]).ok();
    deployment.export("exported");
}

/// From now on, whoever writes this file is told that the disk is full.
fn fill(path: &Path) {
    // The process may be writing it this moment.
    wait_until("a moment without the file", || symlink("/dev/full", path).is_ok());
}

#[test]
fn a_full_disk_stops_the_process_and_loses_nothing_acknowledged() {
    let mut deployment = small();
    let bystander = Bystander::start(&deployment);
    let words =
        ["No space left on device", "nothing acknowledged is lost", "free space or repair the disk, then start again"];
    // Where the next entry is committed and published: a link to a device that is always full.
    for name in ["coordinator/state/HEAD.tmp", "coordinator/ledger/checkpoint.tmp"] {
        bystander.wait_for_more(2);
        let full = deployment.path(name);
        fill(&full);
        let coordinator = deployment.coordinator.as_mut().unwrap();
        assert!(!coordinator.wait().success(), "{name}: a coordinator with a full disk must stop");
        let said = coordinator.complained();
        assert!(words.iter().all(|word| said.contains(word)), "{name}: {said}");
        // With the disk still full it does not start either, if it has anything to write there.
        let _ = fs::remove_file(&full);
        deployment.serve();
        deployment.leben(&["status"]).ok();
    }
    bystander.wait_for_more(2);
    let full = deployment.path("aker/mirror/state/HEAD.tmp");
    fill(&full);
    let agent = deployment.workers.get_mut("aker").unwrap();
    assert!(!agent.wait().success(), "a hospital with a full disk must stop");
    let said = agent.complained();
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
    fs::remove_file(&full).unwrap();
    deployment.run("aker");
    bystander.wait_for_more(2);
    let acknowledged = bystander.stop();
    assert!(acknowledged.len() > 5, "only {} appends were acknowledged", acknowledged.len());
    deployment.leben(&["status"]).ok();
    verify_all(&deployment.export("exported"), &acknowledged);
}
