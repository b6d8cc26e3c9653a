//! The coordinator is lost, or stops in good order, and another one goes on: nothing final is missing, and the old one has no say any more.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::Command;

use leben_contracts::handover::read_file;
use serde_json::Value;

use crate::deployment::{Deployment, HOSPITALS, Said, files_below, said};
use crate::faults::io_errors::can_trace;
use crate::process::{Process, program, wait_until};
use crate::rows::{self, JobFile};

/// `leben-coordinator ..` on the folder of the next one.
fn next(deployment: &Deployment, args: &[&str]) -> Said {
    let mut command = Command::new(program("leben-coordinator"));
    said(command.current_dir(deployment.path("")).arg("--dir").arg(deployment.path("next")).args(args))
}

/// `leben ..` of any home.
fn leben_of(deployment: &Deployment, home: &Path, args: &[&str]) -> Said {
    said(Command::new(program("leben")).current_dir(deployment.path("")).arg("--home").arg(home).args(args))
}

fn copy(from: &Path, to: &Path) {
    for path in files_below(from) {
        let copy = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(copy.parent().unwrap()).unwrap();
        fs::copy(&path, copy).unwrap();
    }
}

/// The second line of a checkpoint: how many entries it covers.
fn size_of(checkpoint: &Path) -> u64 {
    fs::read_to_string(checkpoint).unwrap().lines().nth(1).unwrap().parse().unwrap()
}

fn status(deployment: &Deployment, hospital: &str, what: &str) -> u64 {
    deployment.worker(hospital, &["status", "--json"]).json()[what].as_u64().unwrap()
}

fn sign(deployment: &Deployment, hospital: &str, more: &[&str]) -> Said {
    let file = deployment.path("handover.json");
    deployment.worker(hospital, &[&["handover", "sign", file.to_str().unwrap()], more].concat())
}

fn follow(deployment: &Deployment, hospital: &str) -> Said {
    follow_with(deployment, hospital, &[])
}

fn follow_with(deployment: &Deployment, hospital: &str, more: &[&str]) -> Said {
    let file = deployment.path("handover.json");
    let args = ["handover", "follow", file.to_str().unwrap(), "--address", &deployment.address];
    deployment.worker(hospital, &[&args, more].concat())
}

fn prepare(deployment: &Deployment, from: &[&str]) -> Said {
    prepare_as(deployment, "coordinator", from)
}

fn prepare_as(deployment: &Deployment, party: &str, from: &[&str]) -> Said {
    let mut args = vec!["handover", "prepare", "-o", "handover.json"];
    if party != "coordinator" {
        args.extend(["--party", party]);
    }
    from.iter().for_each(|from| args.extend(["--from", from]));
    next(deployment, &args)
}

fn finish(deployment: &Deployment) -> Said {
    next(deployment, &["handover", "finish", "handover.json"])
}

/// The next coordinator's folder becomes the deployment's, at an address of its own, and serves.
fn serve_next(deployment: &mut Deployment) {
    deployment.address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    fs::rename(deployment.path("next"), deployment.path("coordinator")).unwrap();
    let settings = deployment.path("coordinator/coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(settings, text.replace("127.0.0.1:7443", &deployment.address).replace("= 30000", "= 4000")).unwrap();
    deployment.serve();
}

fn team_follows(deployment: &Deployment, home: &Path) {
    let file = deployment.path("handover.json");
    let follow = ["follow", file.to_str().unwrap(), "--address", &deployment.address];
    wait_until("the team follows", || leben_of(deployment, home, &follow).code == 0);
}

fn entries(deployment: &Deployment) -> Vec<Value> {
    let list = deployment.leben(&["ledger", "list", "--json"]).ok();
    list.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn job(deployment: &mut Deployment, sets: &[&str]) -> String {
    let job = JobFile { sets, ..JobFile::default() };
    let contract = deployment.submit(&job.text())["contract"].as_str().unwrap().to_owned();
    let hospitals: Vec<&str> = sets.iter().map(|set| set.split('/').next().unwrap()).collect();
    deployment.approve(&hospitals, &contract);
    delivered(deployment, &contract);
    contract
}

fn delivered(deployment: &mut Deployment, contract: &str) {
    let mut watch = deployment.watch(contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Delivered".into(), &true.into()), "{end} {}", watch.complained());
}

/// `aker` holds entries beyond the certificate: its copy is exchanged, its record replaced, its network changed.
fn a_follower_that_is_killed_at_any_rename_goes_on_where_it_was(deployment: &Deployment, size: u64) {
    if !can_trace() {
        return;
    }
    let file = deployment.path("handover.json");
    let mut killed = 0;
    loop {
        let crashed = deployment.path(&format!("crashed-{killed}"));
        copy(&deployment.path("aker"), &crashed);
        let inject = format!("inject=rename:signal=SIGKILL:when={}", killed + 1);
        let follow = |command: &mut Command| {
            command.arg("--dir").arg(&crashed).args([
                "handover",
                "follow",
                file.to_str().unwrap(),
                "--address",
                "next.example:1",
            ]);
            said(command)
        };
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", &inject, "--"]);
        let said_first = follow(traced.arg(program("leben-worker")));
        if said_first.code != 0 {
            let unfrozen =
                said(Command::new(program("leben-worker")).arg("--dir").arg(&crashed).args(["handover", "unfreeze"]));
            assert!(unfrozen.code != 0 || unfrozen.out.contains("is not frozen"), "{unfrozen:?}");
            if unfrozen.code != 0 {
                said(Command::new(program("leben-worker")).arg("--dir").arg(&crashed).args(["handover", "freeze"]))
                    .ok();
            }
            follow(&mut Command::new(program("leben-worker"))).ok();
        }
        for file in ["witness", "mirror/state/HEAD", "mirror/public/checkpoint"] {
            assert_eq!(size_of(&crashed.join(file)), size, "killed at rename {killed}: {file}");
        }
        assert!(!crashed.join("frozen.json").exists());
        assert!(fs::read_to_string(crashed.join("network.json")).unwrap().contains("next.example:1"));
        deployment.leben(&["verify", crashed.join("mirror/public").to_str().unwrap()]).ok();
        fs::remove_dir_all(&crashed).unwrap();
        if said_first.code == 0 {
            break;
        }
        killed += 1;
    }
    assert!(killed > 5, "only {killed} renames");
}

#[test]
fn a_lost_coordinator_is_replaced_and_everything_final_goes_on() {
    let mut deployment = Deployment::running(100);
    let sets: Vec<String> = HOSPITALS.iter().map(|hospital| format!("{hospital}/cohort")).collect();
    let sets: Vec<&str> = sets.iter().map(String::as_str).collect();
    let first = job(&mut deployment, &sets);
    deployment.leben(&["fetch", &first, "--out", "first", "--json"]).json();
    deployment.leben(&["status"]).ok();
    let (before, policy) = (entries(&deployment), deployment.path("policy"));
    fs::copy(deployment.path("team/ledger/policy"), &policy).unwrap();
    fs::copy(deployment.path("team/ledger/checkpoint"), deployment.path("known")).unwrap();
    copy(&deployment.path("coordinator/admin"), &deployment.path("admin"));

    // One of four is away, and misses an entry; then two are: what the others cosign now is never final.
    deployment.workers.remove("delft").unwrap().kill();
    deployment.keygen("extra", 0);
    deployment.workers.remove("cluj").unwrap().kill();
    let invite = deployment.invite("early", "team", 0);
    let mut early = deployment.keygen_unwatched("early", &invite);
    for hospital in ["aker", "basel"] {
        wait_until("an entry is cosigned that no quorum has", || {
            status(&deployment, hospital, "validated") > status(&deployment, hospital, "certified")
        });
    }
    deployment.coordinator.take().unwrap().kill();
    early.kill();
    fs::rename(deployment.path("coordinator"), deployment.path("old")).unwrap();
    deployment.run("cluj");
    deployment.run("delft");

    // Freeze, prepare, sign.
    for hospital in ["aker", "basel", "cluj"] {
        let said = deployment.worker(hospital, &["handover", "freeze"]).ok();
        assert!(said.contains("has stopped for the coordinator"), "{said}");
        deployment.workers.get_mut(hospital).unwrap().wait_for("frozen for a Handover");
        assert!(deployment.worker(hospital, &["status"]).ok().contains("WARNING    frozen for a Handover"));
    }
    let prepared = prepare(&deployment, &["aker", "basel/mirror/public", "cluj"]).ok();
    let size = size_of(&deployment.path("next/source/checkpoint"));
    assert!(size >= before.len() as u64, "{size}: {prepared}");
    for words in [format!("goes on    from {size} entries"), "3 of the 4 hospitals have to sign".into()] {
        assert!(prepared.contains(&words), "{prepared}");
    }
    finish(&deployment).complains(&["0 of the validators signed, 3 have to"]);
    sign(&deployment, "delft", &["--yes"]).complains(&["freeze it first"]);
    sign(&deployment, "aker", &[]).complains(&["Nothing is signed", "everything it holds a certificate of is kept"]);
    for hospital in ["aker", "basel"] {
        assert!(sign(&deployment, hospital, &["--yes"]).ok().contains("3 have to"));
    }
    finish(&deployment).complains(&["2 of the validators signed, 3 have to"]);
    follow(&deployment, "delft").complains(&["does not reach the", "add --ledger"]);
    let source = deployment.path("next/source");
    let with_source = [&["--ledger"], &[source.to_str().unwrap()][..]].concat();
    follow_with(&deployment, "delft", &with_source).complains(&["without a quorum of the hospitals nobody may go on"]);
    deployment.worker("delft", &["handover", "unfreeze"]).ok();
    deployment.worker("aker", &["handover", "unfreeze"]).complains(&["has signed the Handover"]);
    leben_of(
        &deployment,
        &deployment.path("admin"),
        &["action", "sign", "handover.json", "--key", "cluj", "--yes", "--folder", "cluj/mirror/public"],
    )
    .complains(&["leben-worker handover sign"]);
    assert!(sign(&deployment, "cluj", &["--yes"]).ok().contains("complete"));
    finish(&deployment).ok();
    finish(&deployment).complains(&["holds a coordinator already"]);
    a_follower_that_is_killed_at_any_rename_goes_on_where_it_was(&deployment, size);

    // Follow: three of four are enough, and their running agents go on by themselves.
    serve_next(&mut deployment);
    for hospital in ["aker", "basel", "cluj"] {
        follow(&deployment, hospital).ok();
        follow(&deployment, hospital).ok();
        deployment.workers.get_mut(hospital).unwrap().wait_for("linked to the coordinator");
    }
    let log_key = read_file(&deployment.path("handover.json")).unwrap().1.log_key.to_hex()[..8].to_owned();
    for hospital in ["aker", "basel"] {
        let aside = deployment.path(hospital).join(format!("mirror-before-{size}-{log_key}"));
        assert!(aside.is_dir(), "{hospital} was cut back");
    }
    team_follows(&deployment, &deployment.path("team"));
    team_follows(&deployment, &deployment.path("admin"));
    let after = entries(&deployment);
    assert_eq!(after[..before.len()], before, "an entry that was final is missing");
    let second = job(&mut deployment, &sets[..3]);

    // The old one comes back. Only who has not followed goes to it.
    let mut command = Command::new(program("leben-coordinator"));
    command.arg("--dir").arg(deployment.path("old")).arg("serve").env("RUST_LOG", "info");
    let mut old = Process::start(command, &deployment.path("logs/old"));
    old.wait_for("nothing is sequenced until so many more witnesses are linked");
    deployment.workers.get_mut("delft").unwrap().wait_for("linked to the coordinator");
    wait_until("delft has answered it", || old.complained().matches("nothing is sequenced until").count() >= 2);

    let source = deployment.path("coordinator/source");
    follow_with(&deployment, "delft", &["--ledger", source.to_str().unwrap()]).ok();
    wait_until("delft has all of it", || {
        status(&deployment, "delft", "certified")
            >= deployment.leben(&["status", "--json"]).json()["size"].as_u64().unwrap()
    });
    assert!(!old.complained().contains("the log goes on"), "{}", old.complained());
    old.kill();
    let third = job(&mut deployment, &sets);

    // A hospital and a team that join now take the whole past; and everybody verifies it with the policy of the beginning.
    deployment.join("essen", &rows::csv(9, 40), rows::WORKER_TOML);
    deployment.run("essen");
    deployment.keygen("another", 10);
    wait_until("essen has all of it", || status(&deployment, "essen", "certified") > size + 1);
    for contract in [&second, &third] {
        deployment.leben(&["fetch", contract, "--out", contract, "--json"]).json();
        deployment.leben(&["verify", contract]).ok();
    }
    let exported = deployment.export("exported");
    let (policy, known) = (policy.to_str().unwrap(), deployment.path("known"));
    let trusted = ["--policy", policy, "--known", known.to_str().unwrap()];
    deployment.leben(&[&["verify", exported.to_str().unwrap()], &trusted[..]].concat()).ok();
    deployment.leben(&["verify", "first", "--policy", policy]).ok();
    for hospital in HOSPITALS {
        deployment.workers.remove(hospital).unwrap().kill();
        let mirror = deployment.path(hospital).join("mirror/public");
        deployment.leben(&["verify", mirror.to_str().unwrap(), "--policy", policy]).ok();
        deployment.run(hospital);
    }
    deployment.coordinator.take().unwrap().kill();
    deployment.serve();
    deployment.keygen("late", 0);
}

#[test]
fn a_ledger_that_was_frozen_in_good_order_is_handed_over_and_a_hospital_refuses_to_lose_anything() {
    let mut deployment = Deployment::running(40);
    let admin = deployment.path("admin");
    copy(&deployment.path("coordinator/admin"), &admin);
    // A copy of before: what it lacks was final.
    deployment.workers.remove("aker").unwrap().kill();
    copy(&deployment.path("aker/mirror/public"), &deployment.path("earlier"));
    deployment.run("aker");
    deployment.keygen("another", 0);

    let open = deployment.submit(&JobFile::default().text())["contract"].as_str().unwrap().to_owned();

    let draft = ["action", "draft", "freeze", "--code", "moving", "-o", "freeze.json"];
    leben_of(&deployment, &admin, &draft).ok();
    for key in ["admin", "aker", "basel", "cluj"] {
        leben_of(&deployment, &admin, &["action", "sign", "freeze.json", "--key", key, "--yes"]).ok();
    }
    leben_of(&deployment, &admin, &["action", "submit", "freeze.json"]).ok();
    let invite = deployment.invite("late", "team", 0);
    let mut command = Command::new(program("leben"));
    said(command.arg("--home").arg(deployment.path("late")).args(["keygen", &invite]))
        .complains(&["the ledger is frozen"]);
    let size = deployment.leben(&["status", "--json"]).json()["size"].as_u64().unwrap();

    for hospital in HOSPITALS {
        wait_until("everybody has the Freeze", || status(&deployment, hospital, "certified") >= size);
        deployment.worker(hospital, &["handover", "freeze"]).ok();
    }
    let prepared = prepare(&deployment, &["earlier"]).ok();
    assert!(prepared.contains("a hospital that holds more will refuse to sign"), "{prepared}");
    sign(&deployment, "aker", &["--yes"]).complains(&["all of which were final", "Prepare another one"]);
    prepare(&deployment, &["coordinator", "team"]).ok();
    deployment.coordinator.take().unwrap().kill();
    fs::rename(deployment.path("coordinator"), deployment.path("stopped")).unwrap();
    for hospital in ["basel", "cluj", "delft"] {
        sign(&deployment, hospital, &["--yes"]).ok();
    }
    // Another Handover beside the one that was signed.
    fs::copy(deployment.path("handover.json"), deployment.path("signed.json")).unwrap();
    prepare(&deployment, &["team"]).ok();
    sign(&deployment, "basel", &["--yes"]).complains(&["has signed another Handover"]);
    fs::copy(deployment.path("signed.json"), deployment.path("handover.json")).unwrap();
    finish(&deployment).ok();
    serve_next(&mut deployment);
    for hospital in HOSPITALS {
        follow(&deployment, hospital).ok();
    }
    team_follows(&deployment, &deployment.path("team"));
    // With the home that was refused, and an invite of the new coordinator.
    deployment.keygen("late", 0);
    // A contract that was proposed before, under the new one.
    deployment.approve(&HOSPITALS, &open);
    delivered(&mut deployment, &open);
    deployment.export("exported");
}

#[test]
fn a_job_that_was_running_when_the_coordinator_was_lost_ends_in_words_and_the_next_one_runs() {
    a_job_is_cut_short_by_a_handover_to("coordinator");
}

#[test]
fn another_party_takes_over_and_what_needed_the_one_before_ends() {
    a_job_is_cut_short_by_a_handover_to("successor");
}

fn a_job_is_cut_short_by_a_handover_to(party: &str) {
    let mut deployment = Deployment::running(2_000);
    let text = JobFile { more_fits: 3, ..JobFile::default() }.text();
    let contract = deployment.submit(&text)["contract"].as_str().unwrap().to_owned();
    deployment.approve(&HOSPITALS, &contract);
    let mut watch = deployment.watch(&contract);
    let checkpoint = deployment.path("coordinator/jobs").join(&contract).join("job.json");
    wait_until("the job runs", || fs::read_to_string(&checkpoint).is_ok_and(|job| job.contains("\"stage\": 1")));
    let offered = deployment.leben(&["catalog", "--json"]).json()["algorithms"].as_array().unwrap().len();
    deployment.coordinator.take().unwrap().kill();
    watch.kill();
    fs::remove_dir_all(deployment.path("coordinator")).unwrap();
    for hospital in HOSPITALS {
        deployment.worker(hospital, &["handover", "freeze"]).ok();
    }
    prepare_as(&deployment, party, &HOSPITALS).ok();
    let source = deployment.path("next/source");
    let source = ["--ledger", source.to_str().unwrap()];
    for hospital in &HOSPITALS[1..] {
        sign(&deployment, hospital, &[&["--yes"], &source[..]].concat()).ok();
    }
    finish(&deployment).ok();
    serve_next(&mut deployment);
    let source = deployment.path("coordinator/source");
    for hospital in HOSPITALS {
        follow_with(&deployment, hospital, &["--ledger", source.to_str().unwrap()]).ok();
    }
    team_follows(&deployment, &deployment.path("team"));
    let mut watch = deployment.watch(&contract);
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Aborted".into(), &false.into()), "{end} {}", watch.complained());
    wait_until("the algorithms are offered", || {
        deployment.leben(&["catalog", "--json"]).json()["algorithms"].as_array().is_some_and(|all| all.len() >= offered)
    });
    let sets: Vec<String> = HOSPITALS.iter().map(|hospital| format!("{hospital}/cohort")).collect();
    job(&mut deployment, &sets.iter().map(String::as_str).collect::<Vec<_>>());
    deployment.export("exported");
}

#[test]
fn a_hospital_that_alone_holds_a_later_certificate_goes_back_behind_it_when_a_person_says_so() {
    let mut deployment = Deployment::running(40);
    deployment.workers.clear();
    // Two hospitals are put back from backups of now, which is more than may be lost; one misses the rest.
    for hospital in ["basel", "cluj"] {
        copy(&deployment.path(hospital), &deployment.path(&format!("{hospital}-backup")));
    }
    let size = size_of(&deployment.path("delft/mirror/public/checkpoint"));
    for hospital in ["aker", "basel", "cluj"] {
        deployment.run(hospital);
    }
    deployment.keygen("another", 0);
    let lost = deployment.submit(&JobFile::default().text())["contract"].as_str().unwrap().to_owned();
    let all = deployment.leben(&["status", "--json"]).json()["size"].as_u64().unwrap();
    wait_until("aker holds the certificate of all", || status(&deployment, "aker", "certified") >= all);
    deployment.workers.clear();
    deployment.coordinator.take().unwrap().kill();
    fs::rename(deployment.path("coordinator"), deployment.path("old")).unwrap();
    for hospital in ["basel", "cluj"] {
        fs::remove_dir_all(deployment.path(hospital)).unwrap();
        fs::rename(deployment.path(&format!("{hospital}-backup")), deployment.path(hospital)).unwrap();
    }

    for hospital in HOSPITALS {
        deployment.worker(hospital, &["handover", "freeze"]).ok();
    }
    prepare(&deployment, &HOSPITALS[1..]).ok();
    for hospital in &HOSPITALS[1..] {
        sign(&deployment, hospital, &["--yes"]).ok();
    }
    finish(&deployment).ok();
    let source = deployment.path("next/source");
    let source = ["--ledger", source.to_str().unwrap()];
    let refused = follow_with(&deployment, "aker", &source);
    refused.complains(&["all of which were final", "PartyEnrol by another", &lost, "--drop-certificate"]);
    follow_with(&deployment, "aker", &["--drop-certificate"]).complains(&["--ledger"]);
    let dropping = [&source[..], &["--drop-certificate"]].concat();
    a_follower_that_drops_is_killed_at_any_rename(&deployment, &dropping, size);
    serve_next(&mut deployment);
    let source = deployment.path("coordinator/source");
    let dropping = ["--ledger", source.to_str().unwrap(), "--drop-certificate"];
    let said = follow_with(&deployment, "aker", &dropping).ok();
    assert!(said.contains("PartyEnrol by another") && said.contains(&lost) && said.contains("set aside"), "{said}");
    let listed = deployment.worker("aker", &["evidence"]).ok();
    assert!(listed.contains("a later certificate that this hospital dropped"), "{listed}");
    let mut aside = fs::read_dir(deployment.path("aker")).unwrap().map(|entry| entry.unwrap().path());
    let aside = aside.find(|path| path.to_string_lossy().contains("mirror-before-")).unwrap().join("public");
    deployment.leben(&["verify", aside.to_str().unwrap()]).ok();
    assert!(size_of(&aside.join("checkpoint")) >= all);

    // What the team held was dropped, too: it begins a new copy.
    for name in ["ledger", "ledger.state"] {
        fs::rename(deployment.path("team").join(name), deployment.path(name)).unwrap();
    }
    for hospital in HOSPITALS {
        if hospital != "aker" {
            follow(&deployment, hospital).ok();
        }
        deployment.run(hospital);
    }
    team_follows(&deployment, &deployment.path("team"));
    let sets: Vec<String> = HOSPITALS.iter().map(|hospital| format!("{hospital}/cohort")).collect();
    job(&mut deployment, &sets.iter().map(String::as_str).collect::<Vec<_>>());
    let exported = deployment.export("exported");
    assert!(size_of(&exported.join("checkpoint")) > size);
}

/// The same for a hospital that goes back behind a certificate: whatever is lost is in its folder, once.
fn a_follower_that_drops_is_killed_at_any_rename(deployment: &Deployment, dropping: &[&str], size: u64) {
    if !can_trace() {
        return;
    }
    let file = deployment.path("handover.json");
    let args = [&["handover", "follow", file.to_str().unwrap(), "--address", "next.example:1"], dropping].concat();
    for killed in 1.. {
        let crashed = deployment.path(&format!("dropping-{killed}"));
        copy(&deployment.path("aker"), &crashed);
        let inject = format!("inject=rename:signal=SIGKILL:when={killed}");
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=rename", "-e", &inject, "--"]);
        let first = said(traced.arg(program("leben-worker")).arg("--dir").arg(&crashed).args(&args));
        if first.code != 0 {
            said(Command::new(program("leben-worker")).arg("--dir").arg(&crashed).args(&args)).ok();
        }
        for file in ["witness", "mirror/state/HEAD", "mirror/public/checkpoint"] {
            assert_eq!(size_of(&crashed.join(file)), size, "killed at rename {killed}: {file}");
        }
        let count = |folder: &Path, name: &str| {
            let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
            names.filter(|found| found.to_string_lossy().starts_with(name)).count()
        };
        assert_eq!((count(&crashed, "mirror-before-"), count(&crashed.join("evidence"), "dropped-")), (1, 1));
        fs::remove_dir_all(&crashed).unwrap();
        if first.code == 0 {
            assert!(killed > 5, "only {killed} renames");
            return;
        }
    }
}
