//! `leben ledger` as an admin uses it, on a published folder with a contract that went all its way and one that did not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use leben::draft::{draft, template};
use leben::job::Job;
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::ledger::entry::Entry;
use leben_contracts::ledger::tile::paths;
use serde_json::Value;
use support::{HOSPITALS, Running, T0, World, code, hash, id, offers};

struct Published {
    dir: tempfile::TempDir,
    world: World,
    paid: ContractId,
    rejected: ContractId,
}

const HOUR_MS: u64 = 3_600_000;

fn published() -> Published {
    let mut world = World::new();
    let terms = draft(&Job::parse(template("heart").unwrap()).unwrap(), &offers(), T0).unwrap();
    let rejected = world.act("team", None, Propose { terms: terms.clone() });
    world.act("va", Some(&rejected), Reject { code: code("no_ethics_vote") });
    world.now_ms += HOUR_MS;
    let paid = world.act("team", None, Propose { terms });
    let terms_hash = world.state.contract(&paid).unwrap().terms_hash;
    world.act("team", Some(&paid), Accept { terms_hash, terms_version: 1, policy_hash: hash("policy") });
    world.accept_all(&paid);
    let price = world.state.contract(&paid).unwrap().terms.price.clone();
    world.act("team", Some(&paid), Fund { amount: price.total_credits + price.deposit });
    world.due(&paid);
    world.act("admin", Some(&paid), AdminReview { verdict: Verdict::Flag, code: code("look_at_the_purpose") });
    world.run(&paid, b"result");
    world.act("team", Some(&paid), AcceptResult {});
    world.due(&paid);
    world.act("va", None, KeyRevoke { party: id("va"), code: code("key_lost") });
    let dir = tempfile::tempdir().unwrap();
    world.publish(&dir.path().join("ledger"), &dir.path().join("state"), &HOSPITALS[..3]);
    Published { dir, world, paid, rejected }
}

impl Published {
    fn folder(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }
    fn try_run(&self, args: &[&str]) -> Output {
        let folder = self.folder();
        let fixed = ["ledger", "--folder", folder.to_str().unwrap()];
        Command::new(env!("CARGO_BIN_EXE_leben")).args(fixed).args(args).output().unwrap()
    }
    fn run(&self, args: &[&str]) -> String {
        let ran = self.try_run(args);
        assert!(ran.status.success(), "{args:?}: {}", String::from_utf8_lossy(&ran.stderr));
        let text = String::from_utf8(ran.stdout).unwrap();
        assert!(!text.contains('\u{1b}'), "no colour where no terminal is: {text}");
        text
    }
    fn refused(&self, args: &[&str]) -> String {
        let ran = self.try_run(args);
        assert!(!ran.status.success(), "{args:?}");
        String::from_utf8(ran.stderr).unwrap()
    }
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let text = self.run(&[args, &["--json"]].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
    }
    fn count(&self, is: impl Fn(&Entry) -> bool) -> usize {
        self.world.leaves.iter().filter(|leaf| is(&Entry::parse(leaf).unwrap())).count()
    }
}

#[test]
fn the_list_says_who_did_what_and_filters() {
    let log = published();
    let all = log.run(&["list"]);
    assert_eq!(all.lines().count(), log.world.leaves.len() + 2);
    for line in [
        "Genesis         coordinator                founds the network leben.test/heart, reviewed by admin",
        "PartyEnrol      va                         joins as data owner",
        "asks for 3 of 4 cosignatures: cleveland, hungarian, switzerland, va",
        "offers the data set heart: about 200 rows, 9 columns",
        "books in 20000 credits for team",
        "refuses to sign (no_ethics_vote)",
        "signs version 1 of the terms",
        "credits into escrow",
        "makes it executable: 6 have signed",
        "asks people to look (look_at_the_purpose)",
        "fixes who takes part in the secure sum: 4 hospitals, threshold",
        "finishes stage 1: 2 rounds, 920 rows, 4 hospitals",
        "delivers the result to team, encrypted",
        "accepts the result",
        "credits go back",
        "revokes the keys of va (key_lost)",
    ] {
        assert!(all.contains(line), "{line}\n{all}");
    }
    assert!(!all.contains("records "), "every kind has its words: {all}");
    let by = |args: &[&str]| log.json(&[&["list"], args].concat()).len();
    assert_eq!(by(&[]), log.world.leaves.len());
    assert_eq!(by(&["--kind", "accept"]), 6);
    assert_eq!(by(&["--party", "va"]), log.count(|entry| entry.action().actor == "va"));
    assert_eq!(by(&["--party", "va", "--kind", "Accept"]), 1);
    let beginning: String = log.rejected.to_string().chars().take(10).collect();
    assert_eq!(by(&["--contract", &beginning]), 2);
    assert_eq!(by(&["--contract", "last"]), by(&["--contract", &log.paid.to_string()]));
    // 2027-01-15 08:00 is when the first entry was recorded, an hour before the second proposal.
    assert_eq!(by(&["--since", "2027-01-15 09:00"]), log.count(|entry| entry.seq_ms() > T0));
    assert_eq!(by(&["--since", "2027-01-15"]), log.world.leaves.len());
    assert_eq!(by(&["--since", "2027-01-16"]), 0);
    assert_eq!(log.run(&["list", "--party", "team", "--kind", "Revoke"]), "no entries\n");
    // A slip of the finger does not read as if nothing had happened.
    assert!(log.refused(&["list", "--party", "nobody"]).contains("no party 'nobody' is on this copy"));
    assert!(log.refused(&["tail", "--party", "hungarain"]).contains("did you mean hungarian?"));
    let kinds = log.refused(&["search", "x", "--kind", "KeyRevok"]);
    assert!(kinds.contains("'KeyRevoke'") && kinds.contains("AlgorithmOffer"), "{kinds}");
    assert!(log.refused(&["list", "--since", "tomorrow"]).contains("write a UTC date"));
    assert!(log.refused(&["list", "--contract", "ffff"]).contains("no contract on this copy"));
}

#[test]
fn search_looks_at_kinds_parties_bodies_and_words() {
    let log = published();
    let found = |text: &str| log.json(&["search", text]).len();
    assert_eq!(found("KEY_LOST"), 1);
    assert_eq!(found("makes it executable"), 1);
    assert_eq!(log.json(&["search", "switzerland", "--kind", "Accept"]).len(), 1);
    assert_eq!(log.run(&["search", "nowhere to be found"]), "no entry says 'nowhere to be found'\n");
    let one = &log.json(&["search", "key_lost"])[0];
    assert_eq!((&one["kind"], &one["actor"]), (&"KeyRevoke".into(), &"va".into()));
    assert_eq!(one["what"], "revokes the keys of va (key_lost)");
}

#[test]
fn one_entry_is_shown_with_its_signatures_and_its_proof() {
    let log = published();
    let (size, enrol) = (log.world.leaves.len(), log.run(&["show", "4"]));
    assert!(enrol.starts_with("entry 4: va joins as data owner\n"), "{enrol}");
    for line in [
        "  signed by  va (key ".to_owned(),
        "  signed by  coordinator (key ".to_owned(),
        ", verified)\n".to_owned(),
        format!(
            "  proof      final: in the checkpoint of {size} entries, cosigned by cleveland, hungarian, switzerland\n"
        ),
    ] {
        assert!(enrol.contains(&line), "{line}: {enrol}");
    }
    let json = &log.json(&["show", "4"])[0];
    assert_eq!(json["signatures"].as_array().unwrap().iter().filter(|one| one["ok"] == true).count(), 2);
    assert_eq!((&json["proof"]["final"], &json["proof"]["size"]), (&true.into(), &size.into()));
    // The revocation is va's own last word.
    let revoked = log.run(&["show", &(size - 1).to_string()]);
    assert!(revoked.contains("signed by  va (key ") && revoked.contains("verified)"), "{revoked}");
    let missing = log.refused(&["show", "999"]);
    assert!(missing.contains(&format!("no entry 999: this copy holds the entries 0 to {};", size - 1)), "{missing}");

    let dir = log.dir.path().join("proofs");
    let said = log.run(&["show", "4", "--proof", dir.to_str().unwrap()]);
    assert!(said.contains("000004-PartyEnrol.tlog-proof --policy"), "{said}");
    let verified = Command::new(env!("CARGO_BIN_EXE_leben"))
        .arg("verify")
        .arg(dir.join("000004-PartyEnrol.tlog-proof"))
        .arg("--policy")
        .arg(log.folder().join("policy"))
        .output()
        .unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
}

/// `leben ledger` reads folders that nobody has verified, so it says what does not hold.
#[test]
fn a_tampered_entry_is_shown_as_not_proven() {
    let log = published();
    let bundle = log.folder().join(paths(log.world.leaves.len() as u64).next().unwrap().to_string());
    let bytes = fs::read(&bundle).unwrap();
    let words = format!("\"seq_ms\":{T0}");
    let at = bytes.windows(words.len()).position(|window| window == words.as_bytes()).unwrap();
    let mut bad = bytes;
    bad[at + words.len() - 1] += 1;
    fs::write(&bundle, bad).unwrap();
    // The first entry is a millisecond later now; the others would be before it.
    let refused = log.refused(&["show", "0"]);
    assert!(refused.contains("entry 1 breaks the ledger's rules"), "{refused}");
    // va's keys are revoked, so that two of three are a quorum now.
    let log = published();
    fs::write(log.folder().join("checkpoint"), log.world.note(&HOSPITALS[..1]).to_string()).unwrap();
    let listed = String::from_utf8(log.try_run(&["list"]).stderr).unwrap();
    assert!(listed.contains("the checkpoint does not hold") && listed.contains("leben verify "), "{listed}");
    let shown = log.run(&["show", "0"]);
    assert!(shown.contains("proof      NOT PROVEN: ") && shown.contains("missing [hungarian, switzerland]"), "{shown}");
}

#[test]
fn a_contract_is_shown_with_its_whole_story() {
    let log = published();
    let text = log.run(&["show", &log.paid.to_string()]);
    let story: Vec<&str> = text.lines().skip_while(|line| !line.starts_with("time (UTC)")).collect();
    let order = [
        "proposes a contract: 3 stages over the data of cleveland, hungarian, switzerland, va",
        "signs version 1 of the terms",
        "into escrow",
        "makes it executable",
        "asks people to look",
        "publishes its keys",
        "starts stage 1",
        "finishes stage 3",
        "delivers the result",
        "accepts the result",
        "pays ",
        "DATA USE CONTRACT",
    ];
    let mut at = 0;
    for words in order {
        let found = story.iter().skip(at).position(|line| line.contains(words));
        at += found.unwrap_or_else(|| panic!("{words} comes after line {at}: {text}"));
    }
    assert!(text.contains("  phase      Settled\n") && text.contains("  signed     by 6 of 6: "), "{text}");
    let json = &log.json(&["show", "last"])[0];
    assert_eq!(json["story"].as_array().unwrap().len(), log.json(&["list", "--contract", "last"]).len());
    assert_eq!(json["phase"], "Settled");
    let rejected = log.run(&["show", &log.rejected.to_string()]);
    assert!(rejected.contains("  ended      Reject by va (no_ethics_vote), entry "), "{rejected}");
}

#[test]
fn tail_shows_the_newest_and_follows() {
    let mut log = published();
    let size = log.world.leaves.len();
    assert_eq!(log.json(&["tail", "-n", "3"])[0]["index"], size - 3);
    assert_eq!(log.json(&["tail", "-n", "1", "--kind", "Reject"])[0]["actor"], "va");
    let folder = log.folder();
    let tail = Command::new(env!("CARGO_BIN_EXE_leben"))
        .args(["ledger", "--folder", folder.to_str().unwrap(), "tail", "-f", "-n", "1", "--json", "--party", "admin"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut tail = Running(tail);
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let next =
        |lines: &mut dyn Iterator<Item = String>| -> Value { serde_json::from_str(&lines.next().unwrap()).unwrap() };
    assert_eq!(next(&mut lines)["kind"], "AdminReview");
    log.world.act("team", None, Heartbeat {});
    log.world.act("admin", None, Deposit { party: id("team"), credits: 1, receipt_hash: hash("bank 2") });
    log.world.publish(&folder, &log.dir.path().join("state"), &HOSPITALS[..3]);
    let new = next(&mut lines);
    assert_eq!((&new["kind"], &new["index"]), (&"Deposit".into(), &(size + 1).into()));
}

#[test]
fn an_export_verifies_and_a_folder_without_a_log_is_named() {
    let log = published();
    let copy = log.dir.path().join("copy");
    let said = log.json(&["export", copy.to_str().unwrap()]);
    assert_eq!(said[0]["size"], log.world.leaves.len());
    let mut verify = Command::new(env!("CARGO_BIN_EXE_leben"));
    verify.arg("verify").arg(&copy).arg("--policy").arg(log.folder().join("policy"));
    assert!(verify.status().unwrap().success());
    assert_eq!(log.try_run(&["list"]).stderr, b"", "a good checkpoint needs no words");
    let full = log.refused(&["export", copy.to_str().unwrap()]);
    assert!(full.ends_with("copy is not empty; name a new folder\n"), "{full}");
    let elsewhere = Command::new(env!("CARGO_BIN_EXE_leben"))
        .args(["ledger", "list", "--folder", log.dir.path().to_str().unwrap()])
        .output()
        .unwrap();
    let words = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(words.contains("holds no published log") && words.contains("did you mean"), "{words}");
    // The same of a hospital's folder, by `verify`; and a file that is not there is said to be none.
    let hospital = log.dir.path().join("hospital");
    fs::create_dir_all(hospital.join("mirror")).unwrap();
    fs::rename(&copy, hospital.join("mirror/public")).unwrap();
    let verify = |path: &std::path::Path| {
        let said = Command::new(env!("CARGO_BIN_EXE_leben")).arg("verify").arg(path).output().unwrap();
        (said.status.code(), String::from_utf8(said.stderr).unwrap())
    };
    let (code, words) = verify(&hospital);
    assert_eq!(code, Some(2));
    assert!(words.contains("no file `checkpoint`; did you mean ") && words.contains("mirror/public?"), "{words}");
    let (code, words) = verify(&hospital.join("nothing"));
    assert_eq!(code, Some(2));
    assert!(words.contains("there is no such file"), "{words}");
}
