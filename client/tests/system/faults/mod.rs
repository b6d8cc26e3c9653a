//! What befalls a ledger's folder: restored backups, lost copies, two processes, kill -9, full disks, wrong clocks.

mod full_disk;
pub mod io_errors;
mod kills;
mod rollback;
mod writers;

use std::fs;
use std::path::{Path, PathBuf};

use crate::deployment::{Deployment, HOSPITALS, files_below};
use crate::rows::{WORKER_TOML, csv};

/// A network of so many hospitals and a team, the team without credits.
fn small(hospitals: usize) -> Deployment {
    let mut deployment = Deployment::new();
    deployment.serve();
    for (seed, hospital) in HOSPITALS[..hospitals].iter().copied().enumerate() {
        deployment.join(hospital, &csv(seed, 40), WORKER_TOML);
        deployment.run(hospital);
    }
    deployment.keygen("team", 0);
    deployment.wait_for_offers(hospitals);
    deployment
}

/// Copies a folder over another one, as `cp -r` does.
fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&path, copy).unwrap();
    }
}

/// Puts a folder in the place of another one.
fn replace(with: &Path, folder: &Path) {
    fs::remove_dir_all(folder).unwrap();
    copy(with, folder);
}

/// The second line of a checkpoint: how many entries it covers.
fn size_of(checkpoint: &Path) -> u64 {
    let text = fs::read_to_string(checkpoint).unwrap();
    text.lines().nth(1).unwrap().parse().unwrap()
}

fn evidence(folder: &Path) -> Vec<PathBuf> {
    if folder.is_dir() { files_below(folder) } else { Vec::new() }
}

#[test]
fn a_second_process_on_a_folder_is_refused_and_the_first_goes_on() {
    let mut deployment = small(1);
    let words = ["is in use by another process; two writers would fork the log; stop the other one first"];
    deployment.coordinator(&["serve"]).complains(&words);
    deployment.worker("aker", &["run"]).complains(&words);
    assert!(deployment.keygen("late", 0) > 0);
    // The lock is the process's: it goes with it, however it ends.
    deployment.coordinator.take().unwrap().kill();
    deployment.serve();
    deployment.keygen("later", 0);
}
