//! Any byte of any file of a published ledger: flipped, `leben verify` says so with the code that fits.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use leben::verify::{Wish, verify};

use crate::deployment::{files_below, said};
use crate::process::program;

/// Files up to this size are flipped at every byte.
const SMALL_BYTES_MAX: usize = 4096;
/// Positions of a larger one.
const SAMPLES: usize = 700;

/// The exit codes that LEDGER allows for a changed byte of a file.
fn allowed(name: &Path) -> &'static [u8] {
    match name.to_str().unwrap() {
        // Its text is signed, its signature lines name their signers.
        "checkpoint" => &[2, 3],
        "policy" => &[2, 3, 4, 6],
        // The text is compared with the tree, the lines with the two policies.
        name if name.starts_with("certificate/") => &[2, 3, 4, 5],
        _ => &[2, 5],
    }
}

#[test]
fn every_flipped_byte_of_a_published_ledger_is_found_with_its_code() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("demo");
    let demo = said(Command::new(program("leben")).args(["demo", "--json", "--out"]).arg(&out)).json();
    assert_eq!(demo["ok"], true, "{demo}");
    let folder = out.join("ledger");
    let command = |folder: &Path| said(Command::new(program("leben")).arg("verify").arg(folder)).code;
    assert_eq!(command(&folder), 0);
    let mut flipped = 0;
    for path in files_below(&folder) {
        let name = path.strip_prefix(&folder).unwrap().to_owned();
        let good = fs::read(&path).unwrap();
        for at in positions(good.len()) {
            // Every bit of a byte has its turn over the positions.
            let bit = 1u8 << (at % 8);
            let code = with_flip(&path, &good, at, bit, || verify(&folder, &Wish::default()));
            let code = code.err().map_or(0, |error| error.exit_code());
            assert!(allowed(&name).contains(&code), "{}: bit {bit:#x} of byte {at}: code {code}", name.display());
            flipped += 1;
        }
        let by_command = with_flip(&path, &good, good.len() / 2, 4, || command(&folder));
        assert!(allowed(&name).iter().any(|code| i32::from(*code) == by_command), "{}: {by_command}", name.display());
        cut_and_extended(&path, &good, &folder);
    }
    assert_eq!(command(&folder), 0, "every flip was undone");
    assert!(flipped > 2000, "only {flipped} bytes were flipped");
}

/// Every byte of a small file, an even sample of a large one.
fn positions(len: usize) -> Vec<usize> {
    match len <= SMALL_BYTES_MAX {
        true => (0..len).collect(),
        // A step that shares no factor with 8, so that every bit is met.
        false => (0..len).step_by((len / SAMPLES).max(1) | 1).collect(),
    }
}

fn with_flip<T>(path: &PathBuf, good: &[u8], at: usize, bit: u8, look: impl FnOnce() -> T) -> T {
    let mut bad = good.to_vec();
    bad[at] ^= bit;
    fs::write(path, bad).unwrap();
    let seen = look();
    fs::write(path, good).unwrap();
    seen
}

/// A byte less, a byte more, and nothing at all are no better.
fn cut_and_extended(path: &PathBuf, good: &[u8], folder: &Path) {
    for bad in [&good[..good.len() - 1], &[good, b"\n"].concat()[..], b""] {
        fs::write(path, bad).unwrap();
        let code = verify(folder, &Wish::default()).unwrap_err().exit_code();
        assert!((2..=5).contains(&code), "{}: {code}", path.display());
    }
    fs::remove_file(path).unwrap();
    // Without its certificate a change of who has to sign is not believed.
    let missing = if path.parent().is_some_and(|folder| folder.ends_with("certificate")) { 4 } else { 2 };
    assert_eq!(verify(folder, &Wish::default()).unwrap_err().exit_code(), missing, "{} is missing", path.display());
    fs::write(path, good).unwrap();
}
