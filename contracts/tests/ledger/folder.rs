//! Flip, cut, extend, swap, add, remove: nothing about a published folder can change unseen.

use crate::support::*;
use leben_contracts::ledger::note::Note;
use leben_contracts::ledger::policy::Policy;
use leben_contracts::ledger::store::export;
use leben_contracts::ledger::tile::{decode_bundle, decode_hashes, encode_bundle, encode_hashes};
use leben_contracts::verify::{Options, VerifyError, verify_folder};
use std::fs;
use std::path::Path;

fn verify(dir: &Path) -> Result<u64, VerifyError> {
    let mut names = Names::default();
    let options = Options { policy: Some(policy()), replay: Some(&mut names), ..Options::default() };
    verify_folder(dir, options).map(|report| report.replayed)
}

/// All of LEDGER's list on one small log: every bit flipped, every length below, some bytes more, each file removed.
#[test]
fn every_flipped_bit_of_every_file_is_found() {
    let dirs = Dirs::new();
    let batches = write_log(&dirs, &[2]);
    let public = dirs.temp.path().join("export");
    assert_eq!(export(&dirs.public(), &public).unwrap(), 2);
    // One witness, and no cosignature more than the quorum needs, so that every line counts.
    let policy = Policy::k_of_n(&log_vkey(), &[witness_signer(0).vkey().clone()], 1).unwrap();
    fs::write(public.join("policy"), policy.to_string()).unwrap();
    fs::write(public.join("checkpoint"), cosign(&batches[0].note, &[0], 5).to_string()).unwrap();
    let verify = |dir: &Path| {
        let mut names = Names::default();
        let options = Options { policy: Some(policy.clone()), replay: Some(&mut names), ..Options::default() };
        verify_folder(dir, options).map(|report| report.replayed)
    };
    assert_eq!(verify(&public), Ok(2));
    let mut codes = [0u32; 9];
    for (name, good) in files(&public) {
        let path = public.join(&name);
        let mut refused = |bad: &[u8], what: &str| {
            fs::write(&path, bad).unwrap();
            let error = verify(&public).err().unwrap_or_else(|| panic!("{name}: {what} was not seen"));
            codes[usize::from(error.exit_code())] += 1;
            assert!(allowed(&name).contains(&error.exit_code()), "{name}: {what}: {error}");
        };
        let mut bad = good.clone();
        for at in 0..good.len() * 8 {
            bad[at / 8] ^= 1 << (at % 8);
            refused(&bad, &format!("bit {} of byte {}", at % 8, at / 8));
            bad[at / 8] = good[at / 8];
        }
        for len in 0..good.len() {
            refused(&good[..len], &format!("cut to {len}"));
        }
        for more in [&b"\n"[..], b"\0", b" ", b"\0\0", &good] {
            refused(&[&good[..], more].concat(), &format!("{} bytes more", more.len()));
            refused(&[more, &good[..]].concat(), &format!("{} bytes in front", more.len()));
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(verify(&public).is_err(), name != "policy", "{name} removed; the policy was given");
        fs::write(&path, good).unwrap();
    }
    assert_eq!(verify(&public), Ok(2));
    assert!(codes[2] > 0 && codes[3] > 0 && codes[4] > 0 && codes[5] > 0, "{codes:?}");
    assert_eq!(codes[6], 0, "a flipped bit is never blamed on the state machine");
}

/// The exit codes that fit a file in which anything changed: 2 its form, 3 its signatures, 4 not the policy that was given, 5 its hashes.
fn allowed(name: &str) -> &'static [u8] {
    match name {
        // 4: whole lines cut off.
        "checkpoint" => &[2, 3, 4],
        "policy" => &[2, 4],
        _ => &[2, 5],
    }
}

#[test]
fn a_flip_anywhere_in_a_log_of_two_tiles_is_found() {
    let dirs = Dirs::new();
    write_log(&dirs, &[200, 60, 5]);
    assert_eq!(verify(&dirs.public()), Ok(265));
    for (name, good) in files(&dirs.public()) {
        let path = dirs.public().join(&name);
        for step in 0..4 {
            let at = (good.len() - 1) * step / 3;
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            fs::write(&path, &bad).unwrap();
            assert!(verify(&dirs.public()).is_err(), "{name} byte {at}");
        }
        for cut in [0, good.len() / 2, good.len() - 1] {
            fs::write(&path, &good[..cut]).unwrap();
            assert!(verify(&dirs.public()).is_err(), "{name} cut to {cut}");
        }
        fs::write(&path, [&good[..], b"\n"].concat()).unwrap();
        assert!(verify(&dirs.public()).is_err(), "{name} extended");
        let is_needed = name != "policy" && !name.ends_with(".p/200") && !name.ends_with(".p/4");
        fs::remove_file(&path).unwrap();
        assert_eq!(verify(&dirs.public()).is_err(), is_needed, "{name} removed");
        fs::write(&path, &good).unwrap();
    }
}

#[test]
fn swapped_and_added_files_are_found() {
    let dirs = Dirs::new();
    write_log(&dirs, &[3]);
    let (tile, entries) = (dirs.public().join("tile/0/000.p/3"), dirs.public().join("tile/entries/000.p/3"));
    let (a, b) = (fs::read(&tile).unwrap(), fs::read(&entries).unwrap());
    fs::write(&tile, &b).unwrap();
    fs::write(&entries, &a).unwrap();
    assert!(verify(&dirs.public()).is_err());
    fs::write(&tile, &a).unwrap();
    fs::write(&entries, &b).unwrap();
    for extra in
        ["notes.txt", ".hidden", "tile/0/000.p/3.tmp", "tile/0/001", "tile/0/000", "tile/9/000", "tile/entries/000.p/4"]
    {
        fs::write(dirs.public().join(extra), b"x").map_or_else(
            |_| {
                fs::create_dir_all(dirs.public().join(extra).parent().unwrap()).unwrap();
                fs::write(dirs.public().join(extra), b"x").unwrap();
            },
            |()| (),
        );
        let error = verify(&dirs.public()).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        assert!(error.to_string().contains(extra), "{error}");
        fs::remove_file(dirs.public().join(extra)).unwrap();
    }
    assert_eq!(verify(&dirs.public()), Ok(3));
}

/// Nothing is flipped here: every file holds what the log once wrote, in another place.
#[test]
fn swapped_tiles_bundles_entries_hashes_and_signatures_are_found() {
    let dirs = Dirs::new();
    let batches = write_log(&dirs, &[256, 256, 5]);
    let public = dirs.public();
    let names: Vec<String> = files(&public).into_keys().filter(|name| name != "policy").collect();
    assert_eq!(verify(&public), Ok(517));
    for (i, a) in names.iter().enumerate() {
        for b in names.iter().skip(i + 1) {
            let (a, b) = (public.join(a), public.join(b));
            let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
            fs::write(&a, &second).unwrap();
            fs::write(&b, &first).unwrap();
            let error = verify(&public).expect_err("a swap of files");
            assert!([2, 5].contains(&error.exit_code()), "{error}");
            fs::write(&a, &first).unwrap();
            fs::write(&b, &second).unwrap();
        }
    }
    // Two entries of the same length, and two hashes.
    let bundle = public.join("tile/entries/000");
    let good = fs::read(&bundle).unwrap();
    let mut entries = decode_bundle(&good, 256).unwrap();
    entries.swap(20, 30);
    assert_eq!(entries[20].len(), entries[30].len());
    fs::write(&bundle, encode_bundle(&entries).unwrap()).unwrap();
    let error = verify(&public).unwrap_err();
    assert_eq!(error.exit_code(), 5);
    assert!(error.to_string().contains("tile/0/000: entry 20 and its hash"), "{error}");
    // The same with the hashes swapped to match.
    let tile = public.join("tile/0/000");
    let hashes = fs::read(&tile).unwrap();
    let mut swapped = decode_hashes(&hashes, 256).unwrap();
    swapped.swap(20, 30);
    fs::write(&tile, encode_hashes(&swapped)).unwrap();
    let error = verify(&public).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().contains("tile/1/000")), (5, true), "{error}");
    fs::write(&bundle, good).unwrap();
    assert_eq!(verify(&public).unwrap_err().exit_code(), 5);
    fs::write(&tile, hashes).unwrap();
    // Cosignatures under each other's names, and those of an earlier checkpoint under this one.
    let note = &batches[2].note;
    let exchanged = |from: &Note| {
        let mut lines: Vec<_> = cosign(from, &[0, 1, 2], NOW_MS / 1000).signatures().to_vec();
        let signature = lines[1].signature.clone();
        lines[1].signature = std::mem::replace(&mut lines[2].signature, signature);
        lines
    };
    for lines in [exchanged(note), cosign(&batches[1].note, &[0, 1, 2], 9).signatures().to_vec()] {
        let mut bad = Note::new(note.text().to_owned()).unwrap();
        lines.into_iter().for_each(|line| bad.push(line).unwrap());
        fs::write(public.join("checkpoint"), bad.to_string()).unwrap();
        assert_eq!(verify(&public).unwrap_err().exit_code(), 3);
    }
    fs::write(public.join("checkpoint"), cosign(note, &[0, 1, 2], 9).to_string()).unwrap();
    assert_eq!(verify(&public), Ok(517));
}

#[test]
fn each_kind_of_failure_has_its_code() {
    let dirs = Dirs::new();
    let batches = write_log(&dirs, &[3]);
    let public = dirs.public();
    let checkpoint = public.join("checkpoint");
    let code =
        |options: Options<'_>| verify_folder(&public, options).map(|r| r.cosigners.len()).map_err(|e| e.exit_code());
    let given = || Options { policy: Some(policy()), ..Options::default() };
    assert_eq!(code(Options::default()), Ok(4), "the folder's own policy");
    // 4: two of four; another policy given.
    let good = fs::read(&checkpoint).unwrap();
    fs::write(&checkpoint, cosign(&batches[0].note, &[0, 1], 5).to_string()).unwrap();
    assert_eq!(code(given()), Err(4));
    fs::write(&checkpoint, &good).unwrap();
    let other = policy().to_string().replace("group hospitals 3", "group hospitals 2");
    assert_eq!(code(Options { policy: Some(Policy::parse(other.as_bytes()).unwrap()), ..Options::default() }), Err(4));
    // 5: a signed root of other entries.
    let lie = cosign(&checkpoint_note(3, [9; 32]), &[0, 1, 2], 5);
    fs::write(&checkpoint, lie.to_string()).unwrap();
    assert_eq!(code(given()), Err(5));
    fs::write(&checkpoint, &good).unwrap();
    // 7: too old; older than what was seen.
    let at = NOW_MS + 3_600_000;
    assert_eq!(code(Options { freshness: Some((at, 3_600_000)), ..given() }), Ok(4));
    assert_eq!(code(Options { freshness: Some((at + 2000, 3_600_000)), ..given() }), Err(7));
    assert_eq!(code(Options { freshness: Some((NOW_MS - 7_200_000, 3_600_000)), ..given() }), Err(7));
    let known = |note: Note| Options { known: Some(note), ..given() };
    assert_eq!(code(known(checkpoint_note(9, [9; 32]))), Err(7));
    // 8: another root at a size that was seen.
    assert_eq!(code(known(checkpoint_note(2, [9; 32]))), Err(8));
    assert_eq!(code(known(batches[0].note.clone())), Ok(4));
}

#[test]
fn an_entry_against_the_rules_is_named_by_its_index() {
    let dirs = Dirs::new();
    write_log(&dirs, &[3]);
    let mut taken = Names(["n1".to_owned()].into(), Default::default());
    let options = Options { policy: Some(policy()), replay: Some(&mut taken), ..Options::default() };
    let error = verify_folder(&dirs.public(), options).unwrap_err();
    assert_eq!((error.exit_code(), error.to_string().as_str()), (6, "state machine: entry 1: n1 is taken"));
}

#[test]
fn a_folder_without_a_policy_asks_for_one() {
    let dirs = Dirs::new();
    write_log(&dirs, &[1]);
    fs::remove_file(dirs.public().join("policy")).unwrap();
    let error = verify_folder(&dirs.public(), Options::default()).unwrap_err();
    assert!(error.to_string().contains("pass the policy file"), "{error}");
    assert_eq!(verify(&dirs.public()), Ok(1));
}

#[test]
fn an_outside_witness_may_stand_on_the_checkpoint_when_the_policy_beside_it_names_its_key() {
    let dirs = Dirs::new();
    let batches = write_log(&dirs, &[3, 4]);
    let outside = witness_signer(7);
    let cosigned = cosign(&batches[1].note, &[0, 1, 2, 7], NOW_MS / 1000);
    dirs.open().unwrap().publish(&cosigned).unwrap();
    assert_eq!(verify(&dirs.public()).unwrap_err().exit_code(), 3, "a line that nobody can check");
    let shown = policy().with_observers([outside.vkey()]);
    dirs.open().unwrap().publish_policy(&shown).unwrap();
    let options = || Options { policy: Some(policy()), ..Options::default() };
    let report = verify_folder(&dirs.public(), options()).unwrap();
    assert!(report.outside.iter().any(|(name, _)| name == outside.vkey().name()));
    // The folder's own policy, and another than the reader's in what counts.
    assert!(verify_folder(&dirs.public(), Options::default()).is_ok());
    let three = Policy::k_of_n(&log_vkey(), &[0, 1, 2].map(|n| witness_signer(n).vkey().clone()), 3).unwrap();
    let other = Options { policy: Some(three), ..Options::default() };
    assert_eq!(verify_folder(&dirs.public(), other).unwrap_err().exit_code(), 4);
    for name in ["policy", "checkpoint"] {
        let good = fs::read(dirs.public().join(name)).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(dirs.public().join(name), &bad).unwrap();
            assert!(verify_folder(&dirs.public(), options()).is_err(), "{name} byte {at}");
        }
        fs::write(dirs.public().join(name), good).unwrap();
    }
    // Replayed too, whichever of the two policies names the more of them.
    assert_eq!(verify(&dirs.public()), Ok(7));
    dirs.open().unwrap().publish_policy(&policy()).unwrap();
    let wider = || policy().with_observers([outside.vkey(), witness_signer(8).vkey()]);
    let replayed = |given: Policy| {
        let mut names = Names::default();
        let options = Options { policy: Some(given), replay: Some(&mut names), ..Options::default() };
        verify_folder(&dirs.public(), options)
    };
    assert!(replayed(wider()).unwrap().outside.is_empty(), "the reader's own policy names it");
    dirs.open().unwrap().publish_policy(&shown).unwrap();
    assert!(replayed(wider()).unwrap().outside.is_empty());
    // Vouched for by the folder alone: told apart.
    let report = replayed(policy()).unwrap();
    assert_eq!(report.outside, [(outside.vkey().name().to_owned(), NOW_MS / 1000)]);
    assert_eq!(report.cosigners.len(), 3);
    // It does not make up for a hospital that is missing.
    dirs.open().unwrap().publish(&cosign(&batches[1].note, &[0, 1, 7], NOW_MS / 1000)).unwrap();
    assert_eq!(verify_folder(&dirs.public(), options()).unwrap_err().exit_code(), 4);
}

#[test]
fn a_clock_that_is_ahead_is_left_out_and_costs_the_others_nothing() {
    let dirs = Dirs::new();
    let batches = write_log(&dirs, &[3]);
    let fresh = |ahead: &[u8]| {
        let now_s = NOW_MS / 1000;
        let in_time: Vec<u8> = (0..4).filter(|n| !ahead.contains(n)).collect();
        let note = cosign(&cosign(&batches[0].note, &in_time, now_s), ahead, now_s + 301);
        fs::write(dirs.public().join("checkpoint"), note.to_string()).unwrap();
        let options = Options { policy: Some(policy()), freshness: Some((NOW_MS, 60_000)), ..Options::default() };
        verify_folder(&dirs.public(), options).map(drop)
    };
    assert_eq!(fresh(&[]), Ok(()));
    assert_eq!(fresh(&[2]), Ok(()));
    let error = fresh(&[1, 2]).unwrap_err();
    assert_eq!(error.exit_code(), 7);
    assert!(
        error.to_string().contains("hospital1.example/witness at") && error.to_string().contains("clock"),
        "{error}"
    );
}

#[test]
fn roots_are_those_that_were_computed_and_not_read_again() {
    let dirs = Dirs::new();
    write_log(&dirs, &[200, 100]);
    let tile = dirs.public().join("tile/0/000");
    let good = fs::read(&tile).unwrap();
    let mut bad = good.clone();
    bad[10 * 32] ^= 1;
    let mut tree = leben_contracts::ledger::merkle::Tree::default();
    decode_hashes(&bad, 256).unwrap().into_iter().take(100).for_each(|hash| tree.append(hash));
    // The log signed this, too; while its folder is verified, it puts a tile there that leads to it.
    let known = checkpoint_note(100, tree.root());
    let mut swap = |_: leben_contracts::verify::Progress| fs::write(&tile, &bad).unwrap();
    let options =
        Options { policy: Some(policy()), known: Some(known), progress: Some(&mut swap), ..Options::default() };
    assert_eq!(verify_folder(&dirs.public(), options).unwrap_err().exit_code(), 8);
    fs::write(&tile, &good).unwrap();
    let empty = checkpoint_note(0, leben_contracts::ledger::merkle::Tree::default().root());
    let options = Options { policy: Some(policy()), known: Some(empty), ..Options::default() };
    assert!(verify_folder(&dirs.public(), options).is_ok(), "the empty tree is a beginning of every log");
}
