//! The shell on a real disk and over real QUIC; this test plays the coordinator's side of the link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use leben_contracts::ledger::store::durable_replace;
use leben_privacy::secure_sum::Journal;
use leben_protocol::quic::Listener;
use leben_worker::agent::Command;
use leben_worker::budget::Limits;
use leben_worker::io::cli::{self, Decision};
use leben_worker::io::store::{DiskError, Store};
use leben_worker::io::{Config, Options, approvals, config, spawn};
use support::link::*;
use support::*;

fn error_of(text: &str) -> String {
    Config::parse(Path::new("/folder"), text).unwrap_err().to_string()
}

#[test]
fn the_annotated_default_is_the_default_and_every_mistake_is_named() {
    let default = Config::parse(Path::new("/folder"), config::TEMPLATE).unwrap();
    assert!(!default.auto_approve && default.metrics.is_none() && default.datasets.is_empty());
    assert_eq!((default.disk_free_min_mib, default.threads), (256, 0));
    assert_eq!(Config::parse(Path::new("/folder"), DATASET).unwrap().datasets.len(), 1);
    let commented: String = config::TEMPLATE
        .lines()
        .skip_while(|line| !line.starts_with("# [[dataset]]"))
        .map(|line| format!("{}\n", line.trim_start_matches("# ")))
        .collect();
    let example = Config::parse(Path::new("/folder"), &commented).unwrap();
    assert_eq!(example.declared().unwrap().iter().next().unwrap().columns.len(), 4, "three columns and a derived one");
    for (text, expected) in [
        ("[policy]\nauto_aprove = true", "auto_aprove"),
        ("[metrics]\naddress = \"here\"", "address"),
        ("[limits]\nthreads = 5000", "limits.threads"),
        ("threads = 1", "threads"),
        ("not toml", "worker.toml"),
        (&DATASET.replace("permission = { duo = [\"GRU\"], ehds = [\"53.1.e\"] }", ""), "lacks `permission`"),
        (&DATASET.replace("GRU", "NO-SUCH"), "NO-SUCH"),
        (&DATASET.replace("\"GRU\"", ""), "permission"),
        (&DATASET.replace("path =", "file ="), "file"),
        (&DATASET.replace("\"heart\"", "\"He art\""), "He art"),
        (&DATASET.replace("name = \"sex\"", "name = \"age\""), "age"),
        (&budgeted("{ epsilon = \"0\", patients_min = 9 }"), "epsilon is \"0\""),
        (&budgeted("{ epsilon = \"-1\", patients_min = 9 }"), "epsilon is \"-1\""),
        (&budgeted("{ epsilon = \"NaN\", patients_min = 9 }"), "epsilon is \"NaN\""),
        (&budgeted("{ epsilon = \"1001\", patients_min = 9 }"), "at most 1000"),
        (&budgeted("{ epsilon = \"1.0000001\", patients_min = 9 }"), "6 places"),
        (&budgeted("{ epsilon = \"10\", patients_min = 0 }"), "patients_min"),
        (&budgeted("{ epsilon = \"10\" }"), "patients_min"),
        (&budgeted("{ epsilon = \"10\", patients_min = 9, delta = \"1\" }"), "delta is \"1\""),
        (&budgeted("{ epsilon = \"0.01\", patients_min = 9, delta = \"0.000000000001\" }"), "budget"),
        (&budgeted("{ epsilon = \"10\", patients_min = 9, per_job = \"3\" }"), "per_job"),
        (&budgeted("{ epsilon = \"10\", patients_min = 9 }\nprivate_only = 1"), "private_only must be true or false"),
        (&DATASET.replace("path =", "private_only = true\npath ="), "private_only goes with a `budget`"),
        (&format!("{DATASET}{}", DATASET.replace("[policy]\nauto_approve = true", "")), "declared twice"),
    ] {
        let error = error_of(text);
        assert!(error.contains(expected) && error.contains("/folder/worker.toml"), "{text}\n-> {error}");
    }
}

/// A data set with a privacy budget.
fn budgeted(budget: &str) -> String {
    DATASET.replace("path =", &format!("budget = {budget}\npath ="))
}

#[test]
fn a_budget_is_read_exactly_and_delta_follows_from_the_patients() {
    let limits = |text: &str| Config::parse(Path::new("/folder"), &budgeted(text)).unwrap().datasets[0].budget.unwrap();
    let all = limits("{ epsilon = \"2.5\", patients_min = 200, delta = \"0.0000005\", job_epsilon = \"0.75\" }");
    let exact = Limits { patients_min: 200, epsilon_micro: 2_500_000, delta_e12: 500_000, job_epsilon_micro: 750_000 };
    assert_eq!(all, exact);
    let least = limits("{ epsilon = \"10\", patients_min = 1000000 }");
    assert_eq!((least.delta_e12, least.job_epsilon_micro), (100_000, 3_000_000));
    assert_eq!(limits("{ epsilon = \"10\", patients_min = 20, delta = \"auto\" }").delta_e12, 1_000_000);
    let only = |more: &str| {
        let text = budgeted(&format!("{{ epsilon = \"10\", patients_min = 20 }}{more}"));
        let config = Config::parse(Path::new("/folder"), &text).unwrap();
        config.declared().unwrap().get(&code("heart")).unwrap().private_only
    };
    assert_eq!([only(""), only("\nprivate_only = false"), only("\nprivate_only = true")], [false, false, true]);
}

#[test]
fn what_the_configuration_declares_is_what_the_ledger_is_offered() {
    let config = Config::parse(Path::new("/folder"), DATASET).unwrap();
    let declared = config.declared().unwrap();
    let heart = declared.get(&code("heart")).unwrap();
    assert_eq!(heart.schema_hash, dataset().schema_hash);
    assert!(declared.check_cohort(heart, "age > 40").is_ok());
    assert!(declared.check_cohort(heart, "weight > 40").unwrap_err().contains("weight"));
    assert!(declared.check_cohort(heart, "patient = 1").is_err(), "the id may not be filtered on");
    assert!(declared.check_cohort(heart, "age >").is_err());
}

#[test]
fn a_second_process_a_damaged_file_and_a_torn_audit_line_are_met() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = Store::open(folder.path(), &log_vkey()).unwrap();
    assert!(matches!(Store::open(folder.path(), &log_vkey()), Err(DiskError::Ledger(_))));
    let entry =
        leben_worker::audit::AuditEntry { at_ms: T0, event: "joined", contract: None, code: None, words: "w".into() };
    store.append_audit(&entry).unwrap();
    store.append_audit(&entry).unwrap();
    store.store_seed(&[1; 32], &[2; 32]).unwrap();
    let journal = Journal { last_slot: 7, rounds: vec![] };
    store.store_journal(&[1; 32], &journal).unwrap();
    drop(store);
    let path = folder.path().join("audit.ndjson");
    let whole = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{whole}{{\"at_ms\":1")).unwrap();
    let mut store = Store::open(folder.path(), &log_vkey()).unwrap();
    store.append_audit(&entry).unwrap();
    assert!(cli::audit_text(folder.path()).unwrap().contains("3 events, the chain is whole"));
    let jobs = store.jobs().unwrap();
    let kept = &jobs[&[1; 32]];
    assert_eq!((kept.seed.as_deref(), &kept.journal, kept.pinned), (Some(&[2; 32]), &journal, false));
    assert!(store.store_seed(&[1; 32], &[3; 32]).is_err(), "a job's secret is never replaced");
    std::fs::write(folder.path().join(format!("jobs/{}/journal.json", "01".repeat(32))), "{}x").unwrap();
    assert!(matches!(store.jobs(), Err(DiskError::Damaged { .. })), "no job runs on a damaged journal");
    store.forget_job(&[1; 32]).unwrap();
    assert!(store.jobs().unwrap().is_empty());
    // An older agent was killed while it made the file.
    let seed = folder.path().join(format!("jobs/{}/seed", "05".repeat(32)));
    std::fs::create_dir_all(seed.parent().unwrap()).unwrap();
    std::fs::write(&seed, "").unwrap();
    std::fs::set_permissions(&seed, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert!(store.jobs().unwrap()[&[5; 32]].seed.is_none());
    store.store_seed(&[5; 32], &[6; 32]).unwrap();
    assert_eq!(store.jobs().unwrap()[&[5; 32]].seed.as_deref(), Some(&[6; 32]));
    store.forget_job(&[5; 32]).unwrap();
    std::fs::write(&path, whole.replacen("joined", "nothing", 1)).unwrap();
    assert!(cli::audit_text(folder.path()).unwrap_err().contains("line 2"));
}

#[test]
fn what_is_left_of_a_job_without_its_secret_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &log_vkey()).unwrap();
    let journal = Journal { last_slot: 7, rounds: vec![] };
    for id in [[1; 32], [2; 32], [3; 32]] {
        store.store_seed(&id, &[9; 32]).unwrap();
        std::fs::remove_file(folder.path().join(format!("jobs/{}/seed", hex::encode(id)))).unwrap();
    }
    store.store_journal(&[1; 32], &journal).unwrap();
    std::fs::write(folder.path().join(format!("jobs/{}/rows-1-1", "02".repeat(32))), "pin").unwrap();
    let jobs = store.jobs().unwrap();
    let known = |id: u8| (jobs[&[id; 32]].seed.is_none(), jobs[&[id; 32]].journal.last_slot, jobs[&[id; 32]].pinned);
    assert_eq!([known(1), known(2), known(3)], [(true, 7, false), (true, 0, true), (true, 0, false)]);
}

/// A computation that cannot be stopped writes into the folder while it is removed.
#[test]
fn a_job_that_is_still_written_to_is_forgotten_without_an_error_and_then_for_good() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &log_vkey()).unwrap();
    let pin = folder.path().join(format!("jobs/{}/rows-1-1", "01".repeat(32)));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                let _ = durable_replace(&pin, b"pin");
            }
        });
        for _ in 0..300 {
            store.store_journal(&[1; 32], &Journal::default()).unwrap();
            if let Err(error) = store.forget_job(&[1; 32]) {
                over.store(true, Ordering::Relaxed);
                panic!("{error}");
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    store.forget_job(&[1; 32]).unwrap();
    assert!(store.jobs().unwrap().is_empty());
}

/// Run as a process of its own by the test below: stores journals and says so, until it is killed.
#[test]
fn stores_journals_until_killed() {
    let Ok(folder) = std::env::var("LEBEN_TEST_JOURNALS") else { return };
    let store = Store::open(Path::new(&folder), &log_vkey()).unwrap();
    store.store_seed(&[1; 32], &[2; 32]).unwrap();
    for last_slot in 1.. {
        store.store_journal(&[1; 32], &Journal { last_slot, rounds: vec![] }).unwrap();
        println!("\nstored {last_slot}");
    }
}

#[test]
fn a_journal_that_was_said_to_be_stored_is_there_after_kill_9() {
    for run in 0..6u64 {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Process::new(std::env::current_exe().unwrap())
            .args(["--exact", "stores_journals_until_killed", "--nocapture"])
            .env("LEBEN_TEST_JOURNALS", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = 0u64;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            if let Some(slot) = line.unwrap().strip_prefix("stored ") {
                said = slot.parse().unwrap();
            }
            if said >= 3 + run * 7 {
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        let store = Store::open(folder.path(), &log_vkey()).unwrap();
        let kept = store.jobs().unwrap()[&[1; 32]].journal.last_slot;
        assert!(kept >= said, "run {run}: slot {said} was acknowledged, {kept} is on the disk");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_mirrors_offers_signs_is_cut_comes_back_and_restarts_where_it_stood() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &coordinator()).unwrap();
    let folder = joined(&listener.local_addr().unwrap().to_string());
    let config = Config::load(folder.path()).unwrap();
    let mut net = Net::new();
    let handle = spawn(config.clone(), options(&net)).unwrap();
    let (link, mut writer, mut reader, mirror_size) = control(&listener).await;
    assert_eq!(mirror_size, 0);
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, 0, &mut writer, &mut reader).await;
    take_append(&mut net, &link, "DatasetOffer").await;
    let contract = net.propose(terms());
    let size = net.leaves.len() as u64;
    bring(&net, size - 2, &mut writer, &mut reader).await;
    take_append(&mut net, &link, "Accept").await;

    // Cut on purpose: it comes back by itself and says how far it is.
    handle.cut(Duration::from_millis(50)).await;
    link.closed().await;
    let (link, mut writer, mut reader, mirror_size) = control(&listener).await;
    assert_eq!(mirror_size, size);
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, mirror_size, &mut writer, &mut reader).await;
    assert_eq!(handle.reconnects(), 1);
    let mut status = handle.status();
    let accepted = |status: &Option<leben_worker::agent::Status>| {
        status.as_ref().is_some_and(|status| status.linked && status.contracts.iter().any(|c| c.accepted))
    };
    tokio::time::timeout(Duration::from_secs(10), status.wait_for(accepted)).await.unwrap().unwrap();
    let (sent, received) = handle.traffic();
    assert!(sent > 0 && received > 0);

    // A decision through the inbox, as the command line leaves it.
    cli::decide(folder.path(), &contract.to_string()[..8], Decision::Revoke).unwrap();
    take_append(&mut net, &link, "Revoke").await;
    assert!(approvals::waiting(folder.path()).unwrap().is_empty());
    handle.stop().await.unwrap();
    link.closed().await;
    assert!(!cli::status(folder.path()).unwrap().linked);

    // A restart: same copy, same decisions.
    let handle = spawn(config, options(&net)).unwrap();
    let (_link, mut writer, mut reader, mirror_size) = control(&listener).await;
    assert_eq!(mirror_size, net.leaves.len() as u64 - 1);
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, mirror_size, &mut writer, &mut reader).await;
    let revoked = |status: &Option<leben_worker::agent::Status>| {
        status
            .as_ref()
            .is_some_and(|s| s.contracts.iter().any(|c| c.stopped.as_deref().is_some_and(|w| w.contains("revoked"))))
    };
    tokio::time::timeout(Duration::from_secs(10), handle.status().wait_for(revoked)).await.unwrap().unwrap();
    handle.stop().await.unwrap();
    let audit = cli::audit_text(folder.path()).unwrap();
    assert!(audit.contains("approved-by-policy") && audit.contains("revoked"), "{audit}");
    // The hospital's copy verifies as any published log does.
    assert!(folder.path().join("mirror/public/checkpoint").exists());
    let evidence = leben_contracts::ledger::store::LogReader::new(&folder.path().join("mirror/public"));
    assert_eq!(evidence.entries(0..3, net.leaves.len() as u64).unwrap(), net.leaves[..3]);
}

#[tokio::test]
async fn an_agent_that_never_joined_or_whose_keys_are_exposed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::parse(folder.path(), "").unwrap();
    let error = leben_worker::io::run(config.clone(), Options::default(), async {}).await.unwrap_err();
    assert!(error.to_string().contains("leben-worker join"), "{error}");
    let folder = joined("127.0.0.1:1");
    let config = Config::load(folder.path()).unwrap();
    let path = folder.path().join("keys/party.key");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let error = leben_worker::io::run(config, Options::default(), async {}).await.unwrap_err();
    assert!(error.to_string().contains("party.key"), "{error}");
}

#[test]
fn the_command_line_finds_a_contract_by_its_first_digits_and_leaves_what_was_shown() {
    let (net, agent, contract) = proposed(false);
    let folder = tempfile::tempdir().unwrap();
    assert!(cli::status(folder.path()).unwrap_err().contains("leben-worker run"));
    let status = agent.status(net.now_ms);
    std::fs::write(folder.path().join("status.json"), serde_json::to_vec(&status).unwrap()).unwrap();
    assert!(cli::contracts_text(&status).contains("leben-worker approve"));
    assert!(cli::status_text(&status).contains("wait for a decision"));
    assert!(cli::decide(folder.path(), "ab", Decision::Approve).unwrap_err().contains("4 digits"));
    assert!(cli::decide(folder.path(), "zzzz", Decision::Approve).unwrap_err().contains("zzzz"));
    assert!(cli::decide(folder.path(), &contract.to_string()[..6], Decision::Refuse("Not A Code".into())).is_err());
    cli::decide(folder.path(), &contract.to_string()[..6], Decision::Approve).unwrap();
    let waiting = approvals::waiting(folder.path()).unwrap();
    let terms_hash = net.contract(&contract).terms_hash;
    assert_eq!(waiting[0].command, Ok(Command::Approve { contract, terms_hash }));
}
