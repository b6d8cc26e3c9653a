//! The arrows between our crates, and inside the two roles.

use crate::source::{self, RustFile, find_word};
use crate::{assert_none, packages};
use serde_json::Value;

/// Crate, and the crates of ours it may depend on. Anything not drawn is forbidden, for every kind of dependency.
const ARROWS: [(&str, &[&str]); 9] = [
    ("leben-contracts", &[]),
    ("leben-privacy", &[]),
    ("leben-models", &["leben-privacy"]),
    ("leben-protocol", &["leben-privacy"]),
    ("leben-coordinator", &["leben-contracts", "leben-models", "leben-privacy", "leben-protocol"]),
    ("leben-worker", &["leben-contracts", "leben-models", "leben-privacy", "leben-protocol"]),
    ("leben", &["leben-contracts", "leben-models", "leben-protocol", "leben-coordinator", "leben-worker"]),
    ("leben-simulation", EVERYTHING_BELOW),
    ("leben-benches", EVERYTHING_BELOW),
];

const EVERYTHING_BELOW: &[&str] = &[
    "leben-contracts",
    "leben-privacy",
    "leben-models",
    "leben-protocol",
    "leben-coordinator",
    "leben-worker",
    "leben",
];

/// Only these may declare the library: (library, our crates).
const CONFINED: [(&str, &[&str]); 2] =
    [("bincode", &["leben-protocol"]), ("sled", &["leben-coordinator", "leben-worker"])];

fn name(package: &Value) -> &str {
    package["name"].as_str().unwrap()
}

fn dependencies(package: &Value) -> &Vec<Value> {
    package["dependencies"].as_array().unwrap()
}

#[test]
fn every_crate_is_drawn_and_depends_only_on_what_its_arrows_allow() {
    let packages = packages();
    let mut complaints = Vec::new();
    for package in &packages {
        let Some((_, allowed)) = ARROWS.iter().find(|(from, _)| *from == name(package)) else {
            complaints.push(format!("{} is not drawn in ARCHITECTURE.md", name(package)));
            continue;
        };
        let ours = dependencies(package).iter().map(name).filter(|to| packages.iter().any(|other| name(other) == *to));
        for to in ours.filter(|to| !allowed.contains(to) && *to != name(package)) {
            complaints.push(format!("{} -> {to} is a forbidden arrow", name(package)));
        }
    }
    assert_none(&complaints, "Move what is shared down an arrow, or change ARCHITECTURE.md with its reason.");
}

#[test]
fn the_client_knows_the_roles_only_for_its_demo() {
    let packages = packages();
    let client = packages.iter().find(|package| name(package) == "leben").unwrap();
    let roles = |to: &str| to == "leben-coordinator" || to == "leben-worker";
    let mut complaints = Vec::new();
    for dependency in dependencies(client).iter().filter(|dependency| roles(name(dependency))) {
        if dependency["optional"] != true && dependency["kind"] != "dev" {
            complaints.push(format!("leben -> {} is not optional", name(dependency)));
        }
    }
    for (feature, parts) in client["features"].as_object().unwrap() {
        let turns_on_a_role = parts.as_array().unwrap().iter().filter_map(Value::as_str).any(|part| {
            let part = part.trim_start_matches("dep:");
            roles(part.split(['/', '?']).next().unwrap_or(part))
        });
        if turns_on_a_role && feature != "demo" {
            complaints.push(format!("the feature `{feature}` of leben turns on a role"));
        }
    }
    assert_none(&complaints, "Only `leben demo` runs the roles in its own process: put it behind the feature `demo`.");
}

#[test]
fn bincode_and_sled_stay_where_they_are_confined() {
    let mut complaints = Vec::new();
    for package in packages() {
        for (library, owners) in CONFINED {
            let declares = dependencies(&package).iter().any(|dependency| name(dependency) == library);
            if declares && !owners.contains(&name(&package)) {
                complaints.push(format!("{} declares {library}", name(&package)));
            }
        }
    }
    for file in source::rust_files() {
        complaints.extend(uses(&file, "bincode", file.path == "protocol/src/codec.rs"));
        let is_role_io = file.path.starts_with("coordinator/src/io") || file.path.starts_with("worker/src/io");
        complaints.extend(uses(&file, "sled", is_role_io));
    }
    assert_none(&complaints, "bincode is used in protocol/src/codec.rs alone, sled in the roles' io/ alone.");
}

fn uses(file: &RustFile, library: &str, allowed: bool) -> Vec<String> {
    let places = find_word(&file.code, library);
    places.iter().filter(|_| !allowed).map(|&at| format!("{}:{}: {library}", file.path, file.line(at))).collect()
}

#[test]
fn the_core_of_a_role_never_names_its_io() {
    let mut complaints = Vec::new();
    let roles = ["coordinator/src/", "worker/src/"];
    for file in source::rust_files().iter().filter(|file| roles.iter().any(|role| file.path.starts_with(role))) {
        if !file.is_shell() {
            let places = io_mentions(&file.production);
            complaints.extend(places.iter().map(|&at| format!("{}:{} names io", file.path, file.line(at))));
        }
    }
    assert_none(&complaints, "io -> core, never core -> io: return an action, and let io/ carry it out.");
}

/// Where code names the crate's own `io` module: `crate::io`, `super::io`, or inside `crate::{..}`.
fn io_mentions(code: &str) -> Vec<usize> {
    let direct = ["crate::io", "super::io"].into_iter().flat_map(|path| find_word(code, path));
    let grouped = ["crate::{", "super::{"].into_iter().flat_map(|start| {
        code.match_indices(start).filter_map(move |(at, _)| {
            let open = at + start.len() - 1;
            let group = &code[open + 1..source::closing(code, open) - 1];
            let first_words = top_level(group);
            first_words.contains(&"io").then_some(at)
        })
    });
    direct.chain(grouped).collect()
}

/// The first path segment of each part of a `use` group, parts inside inner braces left out.
fn top_level(group: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let (mut depth, mut start) = (0usize, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                words.push(group[start..at].trim().split("::").next().unwrap_or("").trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    words
}

#[test]
fn a_mention_of_io_is_found_in_each_way_of_writing_it() {
    assert_eq!(io_mentions("use crate::io::store;").len(), 1);
    assert_eq!(io_mentions("use super::io;").len(), 1);
    assert_eq!(io_mentions("use crate::{round::{a, b}, io::{c}};").len(), 1);
    assert_eq!(io_mentions("use std::io; use std::{io::Read}; use crate::{round::io}; crate::iota();").len(), 0);
}
