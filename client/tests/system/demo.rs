//! `leben demo --json`: what its last line promises, and that the index it leaves can be thrown away.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use leben::ledger::Ledger;
use leben_coordinator::io;
use leben_coordinator::io::index::Index;

use crate::deployment::said;
use crate::process::program;

#[test]
fn the_demo_says_what_happened_and_its_index_is_rebuilt_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let said = said(Command::new(program("leben")).args(["demo", "--json", "--out"]).arg(&out));
    let line = said.json();
    assert_eq!((&line["ok"], &line["hospitals"]), (&true.into(), &4.into()), "{line}");
    assert_eq!(line["rounds"], 15, "{line}");
    // The pooled AUC of the reference, whose scores fall into bins of their own.
    assert!((line["auc"].as_f64().unwrap() - 0.997_449_923_365_572_6).abs() < 1e-9, "{line}");
    assert!(line["max_rel_diff_from_pooled"].as_f64().unwrap() < 1e-9, "{line}");
    assert_eq!(line["ledger"]["verified"], true);
    assert!(line["ledger"]["cosignatures"].as_u64().unwrap() >= 3 && line["ledger"]["size"].as_u64().unwrap() > 30);
    for way in ["up", "down"] {
        assert!(line["bytes"][way].as_u64().unwrap() > 100_000, "{line}");
    }
    assert!(line["seconds"].as_f64().unwrap() < 60.0 && line["out"] == out.to_str().unwrap(), "{line}");

    let coordinator = out.join("coordinator");
    let expected = entries_by_contract(&coordinator.join("ledger"));
    assert_eq!(expected.len(), 1);
    assert_index(&coordinator, &expected);
    fs::remove_dir_all(coordinator.join("state/index")).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // It is rebuilt beside everything else: a coordinator that is stopped at once goes on with it at its next start.
    for _ in 0..100 {
        runtime.block_on(async {
            let running = io::start(&coordinator, None).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            running.stop().await;
        });
        if is_index(&coordinator, &expected) {
            return;
        }
    }
    assert_index(&coordinator, &expected);
}

/// What the index must hold, read from the log itself.
fn entries_by_contract(folder: &Path) -> BTreeMap<String, Vec<u64>> {
    let ledger = Ledger::read(folder, "ledger.leben.example/demo").unwrap();
    let mut found: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for (index, entry) in ledger.entries(0..ledger.size()).unwrap() {
        let proposed = (entry.action().kind == "Propose").then(|| hex::encode(entry.envelope().payload_hash()));
        if let Some(contract) = entry.action().contract.clone().or(proposed) {
            found.entry(contract).or_default().push(index);
        }
    }
    found
}

fn is_index(coordinator: &Path, expected: &BTreeMap<String, Vec<u64>>) -> bool {
    let index = Index::open(coordinator.join("state/index")).unwrap();
    expected.iter().all(|(contract, entries)| index.entries_of(contract).unwrap() == *entries)
}

fn assert_index(coordinator: &Path, expected: &BTreeMap<String, Vec<u64>>) {
    let index = Index::open(coordinator.join("state/index")).unwrap();
    for (contract, entries) in expected {
        assert_eq!(&index.entries_of(contract).unwrap(), entries);
    }
}
