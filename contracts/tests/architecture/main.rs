//! Holds the shape of the whole workspace: which crate may know which, what a pure crate may touch, and the habits that
//! keep files readable. ARCHITECTURE.md says why; these tests say where it is broken and what to do.
//!
//! They live in this crate because they need nothing of ours and only `serde_json` of others: the crate is at the
//! bottom of every arrow, so they run in seconds, before the rest of the workspace compiles.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test helper that cannot read the workspace has nothing to check"
)]

mod arrows;
mod documents;
mod purity;
mod source;
mod tidy;

use serde_json::Value;
use std::process::Command;

/// The workspace's own packages with the dependencies they declare; downloads and resolves nothing.
fn packages() -> Vec<Value> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&output).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(source::root()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {} failed:\n{errors}", arguments.join(" "));
    String::from_utf8(output.stdout).unwrap()
}

/// Fails with every complaint at once, so that one run shows all there is to mend.
#[track_caller]
fn assert_none(complaints: &[String], what_to_do: &str) {
    assert!(complaints.is_empty(), "\n{}\n\n{what_to_do}\n", complaints.join("\n"));
}
