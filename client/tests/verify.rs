//! `leben verify` and its exit codes, by the library and by the command, on a small log that is really signed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use leben::verify::{Wish, verify};
use leben_contracts::agreement::body::PolicyChange;
use leben_contracts::ledger::entry::{Action, Entry, Envelope};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::note::{KeyType, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::store::LogReader;
use support::{HOSPITALS, ORIGIN, T0, World, id, key, note, publish};

struct Log {
    _dir: tempfile::TempDir,
    public: PathBuf,
    world: World,
}

fn log() -> Log {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new();
    let public = dir.path().join("ledger");
    world.publish(&public, &dir.path().join("state"), &HOSPITALS[..3]);
    Log { public, world, _dir: dir }
}

fn code(path: &Path, wish: &Wish) -> u8 {
    verify(path, wish).map_or_else(|error| error.exit_code(), |_| 0)
}

/// The command's exit code, and its JSON.
fn command(path: &Path, more: &[&str]) -> (i32, serde_json::Value) {
    let run =
        Command::new(env!("CARGO_BIN_EXE_leben")).arg("verify").arg(path).arg("--json").args(more).output().unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    (run.status.code().unwrap(), serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}")))
}

fn rewrite(path: &Path, change: impl FnOnce(String) -> String) {
    let text = fs::read_to_string(path).unwrap();
    fs::write(path, change(text)).unwrap();
}

#[test]
fn a_good_log_is_0() {
    let log = log();
    let good = verify(&log.public, &Wish::default()).unwrap();
    assert_eq!((good.size, good.cosigners.len(), good.policy_was_given), (log.world.leaves.len() as u64, 3, false));
    assert!(good.to_text().contains("Pass --policy"));
    let policy = log.public.join("../trusted");
    fs::copy(log.public.join("policy"), &policy).unwrap();
    let (status, json) = command(&log.public, &["--policy", policy.to_str().unwrap()]);
    assert_eq!((status, &json["ok"], &json["policy_was_given"]), (0, &true.into(), &true.into()));
    // A reader who knows the log by another key, too, before or after this one.
    let other = VerifierKey::new(ORIGIN, KeyType::Ed25519, PublicKey::of(&key("coordinator", "earlier log"))).unwrap();
    let good = fs::read_to_string(&policy).unwrap();
    for text in [format!("log {other}\n{good}"), good.replacen('\n', &format!("\nlog {other}\n"), 1)] {
        fs::write(&policy, text).unwrap();
        assert_eq!(command(&log.public, &["--policy", policy.to_str().unwrap()]).0, 0);
    }
    // Not by this one at all, or in the folder's own policy: which key that adds, nobody else says.
    fs::write(&policy, good.replacen(good.lines().next().unwrap(), &format!("log {other}"), 1)).unwrap();
    assert_ne!(command(&log.public, &["--policy", policy.to_str().unwrap()]).0, 0);
    fs::write(log.public.join("policy"), format!("log {other}\n{good}")).unwrap();
    assert_eq!(command(&log.public, &[]).0, 4);
}

#[test]
fn malformed_is_2() {
    let log = log();
    fs::write(log.public.join("notes.txt"), "hello").unwrap();
    assert_eq!(command(&log.public, &[]).0, 2);
    fs::remove_file(log.public.join("notes.txt")).unwrap();
    fs::write(log.public.join("checkpoint"), "nonsense").unwrap();
    assert_eq!(code(&log.public, &Wish::default()), 2);
    let (status, json) = command(Path::new("there/is/no/such/folder"), &[]);
    assert_eq!((status, &json["ok"]), (2, &false.into()));
    assert_eq!(command(log.public.join("..").as_path(), &[]).0, 2);
}

#[test]
fn a_wrong_signature_is_3() {
    let log = log();
    // A cosignature by another key under a listed name.
    let forged = note(&log.world.leaves, &HOSPITALS[..2]);
    let line = leben_contracts::ledger::note::NoteSigner::new(
        "va",
        leben_contracts::ledger::note::KeyType::Cosignature,
        key("stranger", "validator"),
    );
    let mut forged = forged.clone();
    let mut signature = line.unwrap().sign(forged.text(), T0 / 1000);
    signature.id = leben_contracts::ledger::note::VerifierKey::new(
        "va",
        leben_contracts::ledger::note::KeyType::Cosignature,
        leben_contracts::ledger::key::PublicKey::of(&key("va", "validator")),
    )
    .unwrap()
    .id();
    forged.push(signature).unwrap();
    fs::write(log.public.join("checkpoint"), forged.to_string()).unwrap();
    assert_eq!(command(&log.public, &[]).0, 3);
}

#[test]
fn too_few_hospitals_is_4() {
    let log = log();
    fs::write(log.public.join("checkpoint"), note(&log.world.leaves, &HOSPITALS[..2]).to_string()).unwrap();
    let (status, json) = command(&log.public, &[]);
    assert_eq!(status, 4);
    assert!(json["error"].as_str().unwrap().contains("missing [switzerland, va]"), "{json}");
}

#[test]
fn each_change_of_who_signs_needs_both_quorums_and_its_certificate() {
    let mut log = log();
    let first = log.public.join("certificate/7");
    let good = fs::read_to_string(&first).unwrap();
    // Removed, or with one of its bits turned.
    fs::remove_file(&first).unwrap();
    let (status, json) = command(&log.public, &[]);
    assert_eq!(status, 4, "{json}");
    assert!(json["error"].as_str().unwrap().contains("entry 6"), "{json}");
    for at in 0..good.len() {
        let mut bad = good.clone().into_bytes();
        bad[at] ^= 1;
        fs::write(&first, &bad).unwrap();
        assert_ne!(code(&log.public, &Wish::default()), 0, "byte {at} of the certificate");
    }
    // Cosigned by too few, or of another size.
    fs::write(&first, note(&log.world.leaves[..7], &HOSPITALS[..2]).to_string()).unwrap();
    assert_eq!(command(&log.public, &[]).0, 4);
    fs::write(&first, note(&log.world.leaves[..8], &HOSPITALS).to_string()).unwrap();
    assert_eq!(command(&log.public, &[]).0, 5);
    fs::write(&first, &good).unwrap();
    // One where nothing changes, one beyond the log.
    for size in [8, 1000] {
        let superfluous = log.public.join(format!("certificate/{size}"));
        fs::write(&superfluous, note(&log.world.leaves[..8], &HOSPITALS).to_string()).unwrap();
        assert_eq!(command(&log.public, &[]).0, 2);
        fs::remove_file(superfluous).unwrap();
    }
    assert_eq!(code(&log.public, &Wish::default()), 0);

    // One hospital becomes the quorum. The policy kept from before leads to the new one only by the old quorum.
    let before = log.public.join("../before");
    fs::copy(log.public.join("policy"), &before).unwrap();
    let size = log.world.leaves.len() + 1;
    let alone = PolicyChange { validators: vec![id("va")], quorum: 1 };
    log.world.signed("coordinator", None, alone, &[&["coordinator"], &HOSPITALS[1..]].concat());
    log.world.publish(&log.public, &log.public.join("../state"), &["va"]);
    let given = ["--policy", before.to_str().unwrap()];
    assert_eq!(command(&log.public, &given).0, 0);
    // With an outside witness in the reader's policy: nobody counts it.
    let outside =
        VerifierKey::new("university.example/w", KeyType::Cosignature, PublicKey::of(&key("university", "witness")));
    let policy = Policy::parse(&fs::read(&before).unwrap()).unwrap();
    fs::write(log.public.join("../wider"), policy.with_observers([&outside.unwrap()]).to_string()).unwrap();
    assert_eq!(command(&log.public, &["--policy", log.public.join("../wider").to_str().unwrap()]).0, 0);
    fs::write(log.public.join(format!("certificate/{size}")), log.world.note(&["va"]).to_string()).unwrap();
    let (status, json) = command(&log.public, &given);
    assert_eq!(status, 4, "{json}");
    assert!(json["error"].as_str().unwrap().contains("old quorum"), "{json}");
    // A policy that was never in force.
    fs::write(log.public.join(format!("certificate/{size}")), log.world.note(&HOSPITALS).to_string()).unwrap();
    let never = fs::read_to_string(&before).unwrap().replace("group hospitals 3", "group hospitals 2");
    fs::write(&before, never).unwrap();
    assert_eq!(command(&log.public, &given).0, 4);
}

#[test]
fn an_altered_entry_or_tile_is_5_and_never_0() {
    let log = log();
    let bundle = leben_contracts::ledger::tile::paths(log.world.leaves.len() as u64).next().unwrap().to_string();
    let path = log.public.join(bundle);
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    let middle = bad.len() / 2;
    bad[middle] ^= 1;
    fs::write(&path, &bad).unwrap();
    assert_eq!(command(&log.public, &[]).0, 5);
    fs::write(&path, &good).unwrap();
    assert_eq!(code(&log.public, &Wish::default()), 0);
}

#[test]
fn an_entry_that_breaks_the_rules_is_6() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let policy = world.state.witness_policy();
    // The last entry again: cosigned by everybody, and still a replay.
    world.leaves.push(world.leaves.last().unwrap().clone());
    publish(&world.leaves, policy.as_ref(), &dir.path().join("ledger"), &dir.path().join("state"), &HOSPITALS);
    let (status, json) = command(&dir.path().join("ledger"), &[]);
    assert_eq!(status, 6, "{json}");
    assert!(json["error"].as_str().unwrap().contains("already"), "{json}");
}

#[test]
fn an_old_checkpoint_is_7_when_it_must_be_fresh() {
    let log = log();
    let fresh = |now_ms| code(&log.public, &Wish { freshness: Some((now_ms, 60_000)), ..Wish::default() });
    assert_eq!((fresh(T0 + 59_000), fresh(T0 + 61_000)), (0, 7));
    // Kept from before, longer than the folder.
    let mut longer = log.world.leaves.clone();
    longer.push(b"{}".to_vec());
    let known = log.public.join("../known");
    fs::write(&known, note(&longer, &HOSPITALS).to_string()).unwrap();
    assert_eq!(command(&log.public, &["--known", known.to_str().unwrap()]).0, 7);
    let (status, _) = command(&log.public, &["--max-age", "1 ms"]);
    assert_eq!(status, 7, "the log is from the year 2027 or its signatures are old");
}

#[test]
fn two_histories_are_8() {
    let log = log();
    let mut other = log.world.leaves.clone();
    let last = other.len() - 1;
    other[last] = b"{}".to_vec();
    let known = log.public.join("../known");
    fs::write(&known, note(&other, &HOSPITALS).to_string()).unwrap();
    let (status, json) = command(&log.public, &["--known", known.to_str().unwrap()]);
    assert_eq!(status, 8, "{json}");
}

#[test]
fn a_proof_verifies_with_its_entry_and_nothing_else() {
    let log = log();
    let reader = LogReader::new(&log.public);
    let proof = reader.proof(3, &reader.checkpoint().unwrap()).unwrap();
    let file = log.public.join("../proofs/000003-PartyEnrol.tlog-proof");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, proof.to_string()).unwrap();
    fs::write(file.with_extension("json"), &log.world.leaves[3]).unwrap();
    let policy = log.public.join("policy");
    let given = ["--policy", policy.to_str().unwrap()];
    let (status, json) = command(&file, &given);
    assert_eq!((status, &json["what"]), (0, &"proof".into()), "{json}");
    assert!(json["notes"][0].as_str().unwrap().starts_with("entry 3: PartyEnrol by switzerland"), "{json}");
    assert_eq!(command(&file, &[]).0, 2, "no policy lies beside it");
    fs::write(file.with_extension("json"), &log.world.leaves[4]).unwrap();
    assert_eq!(command(&file, &given).0, 5);
    fs::write(file.with_extension("json"), &log.world.leaves[3]).unwrap();
    rewrite(&file, |text| text.replacen("index 3", "index 4", 1));
    assert_eq!(command(&file, &given).0, 5);
    fs::remove_file(file.with_extension("json")).unwrap();
    assert_eq!(command(&file, &given).0, 2);
}

/// The proof of entry 3, its entry beside it.
fn proof_of(log: &Log) -> PathBuf {
    let reader = LogReader::new(&log.public);
    let file = log.public.join("../000003-PartyEnrol.tlog-proof");
    fs::write(&file, reader.proof(3, &reader.checkpoint().unwrap()).unwrap().to_string()).unwrap();
    fs::write(file.with_extension("json"), &log.world.leaves[3]).unwrap();
    file
}

#[test]
fn a_proof_must_be_fresh_and_agree_with_what_was_kept_when_asked() {
    let log = log();
    let (file, policy) = (proof_of(&log), Some(log.public.join("policy")));
    let wish = || Wish { policy: policy.clone(), ..Wish::default() };
    let fresh = |now_ms| code(&file, &Wish { freshness: Some((now_ms, 60_000)), ..wish() });
    assert_eq!((fresh(T0 + 59_000), fresh(T0 + 61_000), fresh(T0 - 301_000)), (0, 7, 7));
    let given = policy.as_ref().unwrap().to_str().unwrap();
    assert_eq!(command(&file, &["--policy", given, "--max-age", "1 ms"]).0, 7);
    let known = |leaves: &[Vec<u8>]| {
        let path = log.public.join("../known");
        fs::write(&path, note(leaves, &HOSPITALS).to_string()).unwrap();
        code(&file, &Wish { known: Some(path), ..wish() })
    };
    let mut leaves = log.world.leaves.clone();
    assert_eq!(known(&leaves), 0);
    assert_eq!(known(&leaves[..leaves.len() - 1]), 2, "a proof cannot show it");
    leaves.push(b"{}".to_vec());
    assert_eq!(known(&leaves), 7);
    leaves.remove(3);
    assert_eq!(known(&leaves), 8);
    // Signed by somebody else.
    let text = fs::read_to_string(log.public.join("../known")).unwrap();
    fs::write(log.public.join("../known"), text.replacen(&leaves.len().to_string(), "1", 1)).unwrap();
    assert_eq!(code(&file, &Wish { known: Some(log.public.join("../known")), ..wish() }), 3);
}

#[test]
fn an_age_that_is_none_is_2_with_words() {
    let (status, json) = command(&log().public, &["--max-age", "soon"]);
    assert_eq!(status, 2, "{json}");
    assert!(json["error"].as_str().unwrap().contains("such as"), "{json}");
}

#[cfg(unix)]
#[test]
fn links_are_refused_and_names_drive_no_terminal() {
    let log = log();
    let run = || Command::new(env!("CARGO_BIN_EXE_leben")).arg("verify").arg(&log.public).output().unwrap();
    fs::write(log.public.join("x\u{1b}[2K\rok"), "").unwrap();
    let said = run();
    let text = String::from_utf8(said.stderr).unwrap();
    assert_eq!(said.status.code(), Some(2), "{text:?}");
    assert!(!text.trim_end().contains(['\u{1b}', '\r']), "{text:?}");
    fs::remove_file(log.public.join("x\u{1b}[2K\rok")).unwrap();
    // Not even to the good bytes, and one to a device is not read.
    for target in [log.public.join("../checkpoint"), "/dev/zero".into()] {
        let path = log.public.join("checkpoint");
        let _ = fs::rename(&path, log.public.join("../checkpoint"));
        let _ = fs::remove_file(&path);
        std::os::unix::fs::symlink(target, &path).unwrap();
        assert_eq!(code(&log.public, &Wish::default()), 2);
    }
}

#[test]
fn the_ledger_command_reads_any_published_folder() {
    let log = log();
    let run = |args: &[&str]| {
        let run = Command::new(env!("CARGO_BIN_EXE_leben"))
            .args(["ledger", "--folder", log.public.to_str().unwrap()])
            .args(args)
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
        String::from_utf8(run.stdout).unwrap()
    };
    let list = run(&["list", "--kind", "datasetoffer"]);
    assert_eq!(list.lines().count(), 2 + 4, "{list}");
    assert!(list.lines().nth(2).unwrap().contains("DatasetOffer  cleveland"), "{list}");
    assert!(run(&["show", "0"]).starts_with("entry 0: coordinator founds the network"));
    assert!(run(&["show", "0"]).contains("signed by  coordinator"));
    assert_eq!(run(&["tail", "-n", "2", "--json"]).lines().count(), 2);
    assert_eq!(run(&["search", "switzerland", "--json"]).lines().count(), 3);
    let copy = log.public.join("../copy");
    run(&["export", copy.to_str().unwrap()]);
    assert_eq!(code(&copy, &Wish::default()), 0);
}

#[test]
fn the_world_of_these_tests_signs_what_it_says() {
    let world = World::new();
    let entry = Entry::parse(&world.leaves[0]).unwrap();
    let action: &Action = entry.action();
    assert_eq!(action.kind, "Genesis");
    assert!(Envelope::parse(&entry.envelope().to_bytes()).is_ok());
}
