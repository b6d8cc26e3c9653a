//! A backup of the ledger's folder, of a hospital's or of its copy is put back: nobody forks the log.

use std::fs;

use super::{copy, evidence, replace, size_of, small};
use crate::deployment::HOSPITALS;
use crate::process::wait_until;

#[test]
fn a_coordinator_restored_from_a_backup_refuses_to_start_and_goes_on_from_a_hospitals_copy() {
    let mut deployment = small(4);
    let (folder, backup) = (deployment.path("coordinator"), deployment.path("backup"));
    deployment.coordinator.take().unwrap().kill();
    copy(&folder, &backup);
    deployment.serve();
    let late = deployment.keygen("late", 0);
    deployment.coordinator.take().unwrap().kill();
    let newest = size_of(&folder.join("state/HEAD"));
    replace(&backup, &folder);
    let (old, head) = (size_of(&folder.join("state/HEAD")), fs::read(folder.join("state/HEAD")).unwrap());
    assert!(newest > old && late >= old);

    // With two of the three hospitals that it needs it neither goes on nor fails: nobody has contradicted it yet.
    deployment.workers.clear();
    deployment.serve();
    let mut waiting = deployment.coordinator.take().unwrap();
    waiting.wait_for("nothing is sequenced until so many more witnesses are linked");
    let invite = deployment.invite("early", "team", 0);
    let mut early = deployment.keygen_unwatched("early", &invite);
    deployment.run("aker");
    let mut refused = waiting;
    assert!(!refused.wait().success(), "a restored backup must not serve");
    let said = refused.complained();
    let sizes = [format!("a checkpoint of {newest} entries"), format!("this folder knows only {old}")];
    for words in ["aker holds", &sizes[0], &sizes[1], "restored from an old backup", "take the newest copy instead"] {
        assert!(said.contains(words), "no '{words}': {said}");
    }
    assert_eq!(fs::read(folder.join("state/HEAD")).unwrap(), head, "nothing was sequenced");
    let kept = evidence(&folder.join("state/evidence"));
    let text = fs::read_to_string(&kept[0]).unwrap();
    assert!(
        kept.len() == 1 && text.contains(&format!("\n{newest}\n")) && text.contains(&format!("\n{old}\n")),
        "{text}"
    );
    early.kill();

    // What the message says to do.
    for hospital in HOSPITALS {
        deployment.run(hospital);
    }
    let mirror = deployment.path("aker/mirror");
    deployment.workers.remove("aker").unwrap().kill();
    replace(&mirror.join("public"), &folder.join("ledger"));
    replace(&mirror.join("state"), &folder.join("state"));
    deployment.serve();
    assert!(deployment.keygen("after", 0) >= newest);
    deployment.leben(&["status"]).ok();
    deployment.export("exported");
}

#[test]
fn a_hospital_restored_from_a_backup_stops_signing_and_one_that_lost_its_copy_fetches_it() {
    let mut deployment = small(4);
    let (folder, backup, kept) = (deployment.path("aker"), deployment.path("backup"), deployment.path("kept"));
    deployment.workers.remove("aker").unwrap().kill();
    copy(&folder, &backup);
    deployment.run("aker");
    // Without delft, every entry needs aker.
    deployment.workers.remove("delft").unwrap().kill();
    let late = deployment.keygen("late", 0);
    deployment.workers.remove("aker").unwrap().kill();
    copy(&folder, &kept);
    let (old, new) = (size_of(&backup.join("witness")), size_of(&folder.join("witness")));
    assert!(new > late && old <= late);

    replace(&backup, &folder);
    deployment.run("aker");
    wait_until("aker's own cosignature is shown to it", || {
        deployment.worker("aker", &["status"]).out.contains("restored from an old backup")
    });
    let status = deployment.worker("aker", &["status"]).ok();
    let words = format!("a checkpoint of {new} entries, and this folder remembers only {old}");
    assert!(status.contains("WARNING") && status.contains(&words), "{status}");
    let found = evidence(&folder.join("evidence"));
    assert!(fs::read_to_string(&found[0]).unwrap().contains("\u{2014} aker "), "its own line is the evidence");
    assert_eq!(size_of(&folder.join("witness")), old, "nothing more was signed");

    // The newest copy is put back, but for the mirror, which was lost: it is fetched again.
    deployment.workers.remove("aker").unwrap().kill();
    replace(&kept, &folder);
    fs::remove_dir_all(folder.join("mirror")).unwrap();
    deployment.run("aker");
    let after = deployment.keygen("after", 0);
    deployment.leben(&["status"]).ok();
    assert!(size_of(&folder.join("witness")) > after, "aker's cosignature was needed");
    wait_until("its copy is whole", || size_of(&folder.join("mirror/state/HEAD")) > after);
    deployment.leben(&["verify", folder.join("mirror/public").to_str().unwrap()]).ok();
}
