//! A file system that is full to the last block.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::writers::Writers;
use super::{copy, small};
use crate::deployment::Deployment;

/// A small file system in memory, mounted on a folder until it is dropped.
struct Mount(PathBuf);

impl Mount {
    fn on(folder: &Path) -> Option<Mount> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=16m", "leben-test"]).arg(folder).output();
        mounted.is_ok_and(|done| done.status.success()).then(|| Mount(folder.to_owned()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Fills the file system below `folder` but for so many bytes.
fn fill(folder: &Path, room: u64) -> PathBuf {
    let path = folder.join("filler");
    let mut filler = File::create(&path).unwrap();
    while filler.write_all(&[1; 4096]).is_ok() {}
    let full = filler.metadata().unwrap().len();
    filler.set_len(full.saturating_sub(room)).unwrap();
    path
}

fn ends_of_a_full_disk(deployment: &mut Deployment, writers: &Writers, words: &str, serve: &[&str]) {
    let mut full = deployment.serve_below(serve);
    writers.up();
    assert!(!full.wait().success(), "a coordinator with a full disk must end");
    let said = full.complained();
    assert!(said.contains(words) && said.contains("start"), "{said}");
    writers.down();
}

#[test]
fn a_full_file_system_ends_the_coordinator_and_loses_nothing_acknowledged() {
    let mut deployment = small(0);
    let folder = deployment.path("coordinator");
    let writers = Writers::start(&deployment.path("team"), &[true, false, true, false]);
    deployment.coordinator.take().unwrap().kill();
    let aside = deployment.path("aside");
    fs::rename(&folder, &aside).unwrap();
    fs::create_dir(&folder).unwrap();
    let mount = Mount::on(&folder);
    copy(&aside, &folder);
    if mount.is_some() {
        for room in [0, 16 << 10, 48 << 10] {
            let filler = fill(&folder, room);
            ends_of_a_full_disk(&mut deployment, &writers, "No space left on device", &[]);
            fs::remove_file(filler).unwrap();
            deployment.serve();
            writers.up();
            writers.wait_for_more(2);
            deployment.coordinator.take().unwrap().kill();
            writers.down();
        }
    } else {
        eprintln!("no file system can be mounted here: a limit on the size of a file stands for the full disk");
        let limited = ["sh", "-c", "trap '' XFSZ; ulimit -f 32; exec \"$0\" \"$@\""];
        ends_of_a_full_disk(&mut deployment, &writers, "File too large", &limited);
    }
    deployment.serve();
    writers.up();
    writers.wait_for_more(2);
    writers.verify(&deployment);
    deployment.coordinator.take().unwrap().kill();
    drop(mount);
}
