//! A coordinator whose disk refuses one call of a batch: it ends, says at which file, and has acknowledged nothing.

use std::process::Command;
use std::time::Duration;

use super::writers::Writers;
use super::{size_of, small};
use crate::deployment::files_below;
use crate::process::wait_until;

/// Whether a process can be traced here; if not, the test says why and passes.
pub fn can_trace() -> bool {
    match Command::new("strace").args(["-o", "/dev/null", "true"]).output() {
        Ok(traced) if traced.status.success() => true,
        Ok(traced) => {
            eprintln!("skipped: no process can be traced here: {}", String::from_utf8_lossy(&traced.stderr));
            false
        }
        Err(error) => {
            eprintln!("skipped: strace: {error}; on Debian: apt-get install strace");
            false
        }
    }
}

/// Every call here comes before the acknowledgement, so the writer hears nothing: neither that its entry is sequenced, nor, where
/// the checkpoint fails, that it is final.
#[test]
fn a_coordinator_exits_at_any_failing_call_of_a_batch_before_it_acknowledges() {
    if !can_trace() {
        return;
    }
    let mut deployment = small(0);
    let [sequenced, certain] = [false, true].map(|wait_final| Writers::start(&deployment.path("team"), &[wait_final]));
    let next = "@/state/staging/#.tmp";
    let calls = [
        ("write", next, "ENOSPC"),
        ("fsync", next, "EIO"),
        ("rename", next, "EIO"),
        ("fsync", "@/state/staging", "EIO"),
        ("fsync", "@/state/HEAD.tmp", "EIO"),
        ("rename", "@/state/HEAD.tmp", "ENOSPC"),
        ("openat", "@/ledger/tile/entries/000.p/#.tmp", "ENOSPC"),
        ("fsync", "@/ledger/tile/0/000.p", "EIO"),
        ("unlink", "@/state/staging/#", "EIO"),
        ("fsync", "@/ledger/checkpoint.tmp", "EIO"),
    ];
    let folder = deployment.path("coordinator");
    for (call, place, error) in calls {
        let writers = if place.contains("ledger/checkpoint") { &certain } else { &sequenced };
        [&sequenced, &certain].iter().for_each(|writers| writers.down());
        // Nothing is left for start-up to finish: the call that fails is the next batch's.
        wait_until("no batch is under way", || files_below(&folder.join("state/staging")).is_empty());
        deployment.coordinator.take().unwrap().kill();
        let size = size_of(&folder.join("state/HEAD"));
        let path = place.replace('@', folder.to_str().unwrap()).replace('#', &(size + 1).to_string());
        let (trace, inject) = (format!("trace={call}"), format!("inject={call}:error={error}:when=1"));
        let above = ["strace", "-f", "-qq", "-o", "/dev/null", "-P", &path, "-e", &trace, "-e", &inject, "--"];
        let mut broken = deployment.serve_below(&above);
        broken.wait_for("listening on");
        writers.up();
        let what = format!("{error} in {call} of {path}");
        assert!(!broken.wait().success(), "{what}: the coordinator must end");
        // An answer that was sent before the end would be here by now. One about an earlier entry may be.
        std::thread::sleep(Duration::from_millis(100));
        assert!(writers.size() <= size, "{what}: acknowledged before it was durable");
        let said = broken.complained();
        let (named, code) = (path.trim_end_matches(".tmp"), if error == "EIO" { "os error 5" } else { "os error 28" });
        for words in [named, code, "nothing acknowledged is lost; free space or repair the disk, then start again"] {
            assert!(said.contains(words), "{what}: no '{words}': {said}");
        }
        writers.down();
        deployment.serve();
        writers.up();
        writers.wait_for_more(1);
    }
    [sequenced, certain].into_iter().for_each(|writers| assert!(writers.verify(&deployment) > 0));
}
