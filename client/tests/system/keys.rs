//! Keys change under a running network: a hospital's, the team's, the coordinator's; and a hospital's are withdrawn by the admins.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use leben_protocol::invite::Invite;
use serde_json::Value;

use crate::deployment::{Deployment, HOSPITALS, Said, said};
use crate::process::{program, wait_until};
use crate::rows::JobFile;

/// `leben ..` of any home.
fn leben_of(deployment: &Deployment, home: &Path, args: &[&str]) -> Said {
    said(Command::new(program("leben")).current_dir(deployment.path("")).arg("--home").arg(home).args(args))
}

/// The stage (from 1) and round that the coordinator would go on with.
fn standing(deployment: &Deployment, contract: &str) -> (u64, u64) {
    let text = fs::read(deployment.path("coordinator/jobs").join(contract).join("job.json")).unwrap_or_default();
    let job: Value = serde_json::from_slice(&text).unwrap_or_default();
    (job["stage"].as_u64().map_or(0, |stage| stage + 1), job["round"].as_u64().unwrap_or(0))
}

/// A job that is signed by everybody and followed.
fn started(deployment: &mut Deployment, job: &JobFile<'_>) -> (String, crate::process::Process) {
    let contract = deployment.submit(&job.text())["contract"].as_str().unwrap().to_owned();
    let sets: Vec<&str> = job.sets.iter().map(|set| set.split('/').next().unwrap()).collect();
    deployment.approve(&sets, &contract);
    let watch = deployment.watch(&contract);
    (contract, watch)
}

fn delivered(deployment: &Deployment, contract: &str, watch: &mut crate::process::Process) {
    let end = deployment.end_of(watch);
    assert_eq!(
        (&end["phase"], &end["ok"]),
        (&"Delivered".into(), &true.into()),
        "{contract}: {end} {}",
        watch.complained()
    );
}

/// State of one use in `keys --json`: the fingerprint in force, and since which entry.
fn in_force(keys: &Value, role: &str) -> (String, u64) {
    let found = keys.as_array().unwrap().iter().find(|key| key["role"] == role && key["state"] == "in force").unwrap();
    (found["fingerprint"].as_str().unwrap().to_owned(), found["since"].as_u64().unwrap())
}

fn worker_keys(deployment: &Deployment, hospital: &str) -> Value {
    deployment.worker(hospital, &["keys", "--json"]).json()
}

fn rotations(deployment: &Deployment, actor: &str) -> usize {
    let list = deployment.leben(&["ledger", "list", "--kind", "KeyRotate", "--actor", actor, "--json"]).ok();
    list.lines().filter(|line| !line.trim().is_empty()).count()
}

#[test]
fn a_hospital_rotates_between_two_jobs_and_in_the_middle_of_one() {
    let mut deployment = Deployment::running(4_000);
    let (first, mut watch) = started(&mut deployment, &JobFile::default());
    delivered(&deployment, &first, &mut watch);
    deployment.leben(&["fetch", &first, "--out", "before", "--json"]).json();
    let old_policy = fs::read(deployment.path("team/ledger/policy")).unwrap();
    fs::write(deployment.path("old-policy"), &old_policy).unwrap();

    let before = worker_keys(&deployment, "basel");
    let said = deployment.worker("basel", &["keys", "rotate"]).ok();
    assert!(said.contains("in force"), "{said}");
    wait_until("the status shows the new keys", || worker_keys(&deployment, "basel") != before);
    let after = worker_keys(&deployment, "basel");
    for role in ["party", "witness", "validator", "tls", "sealing"] {
        let ((old, _), (new, since)) = (in_force(&before, role), in_force(&after, role));
        assert_ne!(old, new, "{role}");
        let fate = format!("replaced in entry {since}");
        assert!(
            after.as_array().unwrap().iter().any(|key| key["fingerprint"] == *old && key["state"] == *fate),
            "{after}"
        );
    }
    wait_until("the old link key is gone", || !deployment.path("basel/keys/next").exists());
    deployment.worker("basel", &["check"]).ok();

    // In the middle of a job; its keys and its journal are not the hospital's.
    let (second, mut watch) = started(&mut deployment, &JobFile { more_fits: 2, ..JobFile::default() });
    wait_until("the second job fits", || standing(&deployment, &second) >= (2, 2));
    deployment.worker("aker", &["keys", "rotate"]).ok();
    deployment.worker("cluj", &["keys", "rotate", "--only", "tls", "--only", "validator"]).ok();
    delivered(&deployment, &second, &mut watch);
    assert_eq!(rotations(&deployment, "aker") + rotations(&deployment, "cluj") + rotations(&deployment, "basel"), 3);
    deployment.leben(&["fetch", &second, "--out", "after", "--json"]).json();

    // What was proven before still is, and a log that spans rotations verifies.
    let policy = deployment.path("old-policy");
    deployment.leben(&["verify", "before", "--policy", policy.to_str().unwrap()]).ok();
    deployment.leben(&["verify", "after"]).ok();
    deployment.export("exported");
    deployment.coordinator.take().unwrap().kill();
    deployment.serve();
    let (third, mut watch) = started(&mut deployment, &JobFile::default());
    delivered(&deployment, &third, &mut watch);
}

#[test]
fn kill_9_at_any_moment_of_a_rotation_ends_with_the_new_keys_and_one_entry_for_each() {
    let mut deployment = Deployment::running(50);
    for (turn, wait_ms) in [0u64, 1100, 1250, 1500, 2200].into_iter().enumerate() {
        let before = in_force(&worker_keys(&deployment, "delft"), "party");
        deployment.worker("delft", &["keys", "rotate", "--no-wait"]).ok();
        std::thread::sleep(Duration::from_millis(wait_ms));
        deployment.workers.remove("delft").unwrap().kill();
        if turn == 0 {
            let said = deployment.worker("delft", &["keys", "rotate"]);
            said.complains(&["a rotation is under way"]);
        }
        deployment.run("delft");
        wait_until("the rotation ends", || {
            !deployment.path("delft/keys/next").exists()
                && in_force(&worker_keys(&deployment, "delft"), "party") != before
        });
        assert_eq!(rotations(&deployment, "delft"), turn + 1);
        deployment.worker("delft", &["check"]).ok();
    }
    // One of four is away, then another: each checkpoint still finds its three, with whatever keys they have by now.
    deployment.workers.remove("aker").unwrap().kill();
    deployment.leben(&["keys", "rotate"]).ok();
    deployment.export("exported");
}

#[test]
fn the_team_rotates_between_submit_and_fetch_and_the_result_still_opens() {
    let mut deployment = Deployment::running(200);
    let (contract, mut watch) = started(&mut deployment, &JobFile::default());
    let before = deployment.leben(&["keys", "--json"]).json();
    let said = deployment.leben(&["keys", "rotate"]).ok();
    assert!(said.contains("in force") && said.contains("replaced in entry"), "{said}");
    assert_ne!(in_force(&before, "sealing"), in_force(&deployment.leben(&["keys", "--json"]).json(), "sealing"));
    delivered(&deployment, &contract, &mut watch);
    deployment.leben(&["keys", "rotate", "--only", "tls"]).ok();
    deployment.leben(&["fetch", &contract, "--out", "result", "--json"]).json();
    deployment.leben(&["verify", "result"]).ok();
    assert_eq!(rotations(&deployment, "team"), 2);
    let (next, mut watch) = started(&mut deployment, &JobFile::default());
    delivered(&deployment, &next, &mut watch);

    // Without --yes nothing is signed; afterwards nothing is taken from it.
    deployment.leben(&["keys", "revoke", "--code", "key_lost"]).complains(&["nothing is signed", "KeyRevoke"]);
    deployment.leben(&["keys", "revoke", "--code", "key_lost", "--yes"]).ok();
    deployment.try_submit(&JobFile::default().text()).complains(&["revoked in entry"]);
    let invite = deployment.invite("team", "team", 0);
    deployment.leben(&["keygen", &invite]).complains(&["was a key of team before"]);
    deployment.leben(&["keygen", "--new-keys", &invite]).ok();
    deployment.leben(&["fetch", &next, "--out", "late", "--json"]).json();
}

#[test]
fn the_coordinator_rotates_and_nobody_is_lost_who_was_away() {
    let mut deployment = Deployment::running(50);
    deployment.workers.remove("cluj").unwrap().kill();
    deployment.coordinator(&["keys", "rotate"]).ok();
    let keys = || deployment.coordinator(&["keys"]).ok();
    wait_until("the coordinator's keys are replaced", || {
        !keys().contains("waits") && keys().contains("replaced in entry")
    });
    wait_until("and lie in their places", || !deployment.path("coordinator/keys/next").exists());
    // Who was away asks for the old link key, reads the ledger, and asks for the new one from then on.
    deployment.run("cluj");
    deployment.workers.get_mut("cluj").unwrap().wait_for("linked to the coordinator");
    let size = || deployment.worker("cluj", &["status", "--json"]).json()["certified"].as_u64().unwrap();
    let all = || deployment.leben(&["status", "--json"]).json()["size"].as_u64().unwrap();
    wait_until("cluj has caught up", || size() >= all());
    deployment.coordinator.take().unwrap().kill();
    fs::remove_dir_all(deployment.path("coordinator/keys/old")).unwrap();
    deployment.serve();
    for hospital in HOSPITALS {
        wait_until(&format!("{hospital} is linked by the new key"), || {
            deployment.worker(hospital, &["status", "--json"]).json()["linked"] == true
        });
    }
    deployment.leben(&["status"]).ok();
    // A rotation that waits while nobody serves.
    deployment.coordinator.take().unwrap().kill();
    deployment.coordinator(&["keys", "rotate", "--only", "party"]).ok();
    assert!(deployment.coordinator(&["keys"]).ok().contains("waits for the ledger"));
    deployment.serve();
    wait_until("the second rotation", || !deployment.path("coordinator/keys/next").exists());
    deployment.keygen("another", 10);
    assert_eq!(rotations(&deployment, "coordinator"), 2);
    deployment.export("exported");
}

/// A second admin, by invite, with the first one's signature.
fn second_admin(deployment: &Deployment) -> std::path::PathBuf {
    let (first, second) = (deployment.path("coordinator/admin"), deployment.path("admin2"));
    let invite = deployment.invite("admin2", "admin", 0);
    leben_of(deployment, &second, &["keygen", &invite]).ok();
    let file = second.join("enrolment.json");
    let file = file.to_str().unwrap();
    leben_of(deployment, &second, &["keygen", "--signed", file, &invite]).complains(&["countersigned by an admin"]);
    let key = first.to_str().unwrap();
    leben_of(deployment, &first, &["action", "sign", file, "--key", key]).complains(&["add --yes"]);
    leben_of(deployment, &first, &["action", "sign", file, "--key", key, "--yes"]).ok();
    leben_of(deployment, &second, &["keygen", "--signed", file, &invite]).ok();
    leben_of(deployment, &second, &["keygen", "--signed", file, &invite]).ok();
    second
}

/// An admin drafts who cosigns from now on; these hospitals sign it, and without the last of them it is refused.
fn consent(deployment: &Deployment, admin: &Path, change: &[&str], hospitals: &[&str]) {
    let file = deployment.path("policy.json");
    let file = file.to_str().unwrap();
    leben_of(deployment, admin, &[&["action", "draft", "policy-change", "-o", file], change].concat()).ok();
    let sign = |key| leben_of(deployment, admin, &["action", "sign", file, "--key", key, "--yes"]).ok();
    sign(admin.to_str().unwrap());
    for hospital in hospitals {
        leben_of(deployment, admin, &["action", "submit", file]).complains(&["have to"]);
        sign(hospital);
    }
    leben_of(deployment, admin, &["action", "submit", file]).ok();
}

#[test]
fn the_admins_revoke_a_hospital_and_the_others_go_on() {
    let mut deployment = Deployment::running(4_000);
    let first = deployment.path("coordinator/admin");
    let second = second_admin(&deployment);
    let (running, mut watch) = started(&mut deployment, &JobFile { more_fits: 2, ..JobFile::default() });
    wait_until("the job fits", || standing(&deployment, &running) >= (2, 1));

    let file = deployment.path("revoke.json");
    let file = file.to_str().unwrap();
    let draft = ["action", "draft", "key-revoke", "--party", "delft", "--code", "key_stolen", "-o", file];
    let drafted = leben_of(&deployment, &first, &draft).ok();
    assert!(drafted.contains("nobody yet") && drafted.contains("\"delft\""), "{drafted}");
    let sign = |home: &Path| {
        let key = home.to_str().unwrap().to_owned();
        leben_of(&deployment, home, &["action", "sign", file, "--key", &key, "--yes"])
    };
    let said = sign(&first).ok();
    assert!(said.contains("2 have to, 1 did"), "{said}");
    leben_of(&deployment, &first, &["action", "submit", file]).complains(&["2 have to, 1 did"]);
    assert!(sign(&second).ok().contains("complete"));
    sign(&second).complains(&["different keys"]);
    let shown = leben_of(&deployment, &second, &["action", "show", file]).ok();
    assert!(shown.contains("signed by  admin\n") && shown.contains("would take it now"), "{shown}");
    leben_of(&deployment, &second, &["action", "submit", file]).ok();

    deployment.workers.get_mut("delft").unwrap().wait_for("revoked in entry");
    deployment.worker("delft", &["check"]).complains(&["revoked in entry"]);
    wait_until("delft's status says so too", || {
        deployment.worker("delft", &["status"]).out.contains("the keys of delft were revoked in entry")
    });
    // The running job ends as if delft had taken its data out: with words, or without it, as its terms say.
    let end = deployment.end_of(&mut watch);
    let phase = end["phase"].as_str().unwrap();
    assert!(phase == "Aborted" || phase == "Delivered", "{end}");
    assert!(phase != "Aborted" || end.to_string().contains("keys_revoked"), "{end}");

    let job = JobFile { sets: &["aker/cohort", "basel/cohort", "cluj/cohort"], ..JobFile::default() };
    let (next, mut watch) = started(&mut deployment, &job);
    delivered(&deployment, &next, &mut watch);
    deployment.try_submit(&JobFile::default().text()).complains(&["delft"]);

    // It comes back with new keys, and cosigns again.
    let invite = deployment.invite("delft", "hospital", 0);
    deployment.worker("delft", &["join", &invite]).complains(&["was a key of delft before"]);
    deployment.workers.remove("delft").unwrap().kill();
    deployment.worker("delft", &["join", "--new-keys", &invite]).ok();
    assert!(deployment.path("delft/keys-revoked-1/party.key").is_file());
    deployment.run("delft");
    wait_until("delft says that it does not cosign", || {
        deployment.worker("delft", &["status"]).out.contains("this hospital does not cosign the ledger")
    });
    consent(&deployment, &first, &["--add", "delft"], &["aker", "cluj"]);
    wait_until("delft is a validator again", || {
        let policies = deployment.leben(&["ledger", "list", "--kind", "PolicyChange", "--json"]).ok();
        policies.lines().last().is_some_and(|last| last.contains("delft"))
    });
    deployment.wait_for_offers(HOSPITALS.len());
    let (last, mut watch) = started(
        &mut deployment,
        &JobFile { sets: &["aker/cohort", "basel/cohort", "delft/cohort"], ..JobFile::default() },
    );
    delivered(&deployment, &last, &mut watch);
    deployment.export("exported");
}

/// Those who signed before a revocation include the revoked one, and any of the others may be away after it: a coordinator that is killed
/// right after it and started again needs none of them a second time.
#[test]
fn a_coordinator_that_is_killed_after_a_revocation_goes_on_with_those_who_are_left() {
    let mut deployment = Deployment::running(100);
    deployment.worker("delft", &["keys", "revoke", "--code", "key_stolen", "--yes"]).ok();
    deployment.workers.get_mut("delft").unwrap().wait_for("revoked in entry");
    deployment.coordinator.take().unwrap().kill();
    deployment.workers.remove("cluj").unwrap().kill();
    deployment.serve();
    // Final with two of three.
    deployment.keygen("late", 0);
}

#[test]
fn an_invite_that_is_over_or_somebody_elses_is_refused_by_name() {
    let mut deployment = Deployment::new();
    deployment.serve();
    let over = deployment.coordinator(&["invite", "oslo", "--hours", "0"]).ok();
    std::thread::sleep(Duration::from_millis(5));
    deployment
        .worker("oslo", &["join", over.trim()])
        .complains(&["its time is over", "Ask the coordinator for a new invite"]);
    let invite = |party: &str, kind: &str| Invite::parse(&deployment.invite(party, kind, 0)).unwrap();
    let renamed = Invite { party: "porto".into(), ..invite("oslo", "hospital") }.to_text();
    deployment.worker("porto", &["join", &renamed]).complains(&["it was issued for 'oslo', not 'porto'"]);
    let promoted = Invite { kind: "hospital".into(), ..invite("quito", "team") }.to_text();
    deployment.worker("quito", &["join", &promoted]).complains(&["it was issued for a team"]);
    let guessed = Invite { code: "0".repeat(32), ..invite("riga", "hospital") }.to_text();
    deployment.worker("riga", &["join", &guessed]).complains(&["the code is not known here"]);
    // The right one still works, and keys of one hospital are nobody else's.
    deployment.worker("riga", &["join", &deployment.invite("riga", "hospital", 0)]).ok();
    for key in ["party", "witness", "validator", "tls", "sealing"] {
        let (from, to) = (format!("riga/keys/{key}.key"), format!("sofia/keys/{key}.key"));
        let _ = fs::remove_dir_all(deployment.path("sofia"));
        let invite = deployment.invite("sofia", "hospital", 0);
        deployment
            .worker("sofia", &["join", "--new-keys", &guessed_for(&invite)])
            .complains(&["the code is not known here"]);
        fs::copy(deployment.path(&from), deployment.path(&to)).unwrap();
        // With the link key of a party that is enrolled already, there is nothing to join.
        let said = deployment.worker("sofia", &["join", &invite]);
        match key {
            "tls" => assert!(said.ok().contains("joined before")),
            "party" => said.complains(&["riga signed but has no say"]),
            _ => said.complains(&[&format!("the {key} key belongs to riga")]),
        }
    }
}

/// The same invite with a code that nobody issued.
fn guessed_for(invite: &str) -> String {
    Invite { code: "0".repeat(32), ..Invite::parse(invite).unwrap() }.to_text()
}
