//! A pure core is handed bytes and time. These tests look at what it links and at what it names.

use crate::source::{self, find_word};
use crate::{assert_none, cargo};

const PURE: [&str; 4] = ["contracts", "models", "privacy", "protocol"];

/// Libraries that reach for sockets, disks, clocks or the machine's randomness.
const IMPURE_LIBRARIES: [&str; 9] =
    ["tokio", "hyper", "quinn", "quinn-proto", "getrandom", "mio", "socket2", "sled", "axum"];

/// What only a shell may name.
const IMPURE_PATHS: [&str; 9] =
    ["std::fs", "std::net", "std::env", "std::process", "std::os", "tokio", "quinn", "axum", "getrandom"];

/// Where a pure crate may name them all the same, each behind a feature that is not part of the pure build.
const EXCEPTIONS: [(&str, &str); 6] = [
    ("contracts/src/ledger/keyfile", "feature `fs`: private keys on disk"),
    ("contracts/src/ledger/keyring", "feature `fs`: private keys on disk, over their rotations"),
    ("contracts/src/ledger/store", "feature `fs`: the log's flat files"),
    ("contracts/src/verify", "feature `fs`: verification of a folder"),
    ("protocol/src/http.rs", "feature `http`: one question to a witness or a mirror"),
    ("protocol/src/quic", "feature `quic`: the endpoints both roles share"),
];

const CLOCKS: [&str; 3] = ["SystemTime::now", "Instant::now", "thread::sleep"];

#[test]
fn the_pure_crates_link_neither_network_nor_disk_nor_clock_nor_randomness() {
    let mut complaints = Vec::new();
    for folder in PURE {
        let package = format!("leben-{folder}");
        let tree =
            cargo(&["tree", "--locked", "--no-default-features", "-e", "normal", "--prefix", "none", "-p", &package]);
        assert!(tree.starts_with(&package), "cargo tree printed something else: {tree}");
        let linked = tree.lines().filter_map(|line| line.split(' ').next());
        for library in linked.filter(|library| IMPURE_LIBRARIES.contains(library)) {
            complaints.push(format!("{package} links {library}"));
        }
    }
    complaints.sort();
    complaints.dedup();
    assert_none(&complaints, "See what brings it in: cargo tree --no-default-features -e normal -p CRATE -i LIBRARY");
}

#[test]
fn cores_name_neither_network_nor_disk() {
    let cores = PURE.iter().chain(&["coordinator", "worker", "simulation"]);
    let cores: Vec<_> = cores.map(|folder| format!("{folder}/src/")).collect();
    let mut complaints = Vec::new();
    for file in source::rust_files() {
        let is_core = cores.iter().any(|core| file.path.starts_with(core)) && !file.is_shell();
        if !is_core || EXCEPTIONS.iter().any(|(start, _)| file.path.starts_with(start)) {
            continue;
        }
        for path in IMPURE_PATHS {
            let places = find_word(&file.production, path);
            complaints.extend(places.iter().map(|&at| format!("{}:{}: {path}", file.path, file.line(at))));
        }
    }
    assert_none(&complaints, "Return an action and let io/ carry it out, or take the bytes as an argument.");
}

#[test]
fn only_a_shell_reads_the_clock() {
    let mut complaints = Vec::new();
    for file in source::rust_files().iter().filter(|file| !file.is_shell() && !file.path.starts_with("benches/")) {
        if file.path.starts_with("protocol/src/quic") {
            continue;
        }
        for clock in CLOCKS {
            let places = find_word(&file.production, clock);
            complaints.extend(places.iter().map(|&at| format!("{}:{}: {clock}", file.path, file.line(at))));
        }
    }
    assert_none(&complaints, "Time is an argument (now_ms); only io/, main.rs, benches and tests read a clock.");
}
