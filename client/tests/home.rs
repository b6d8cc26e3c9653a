//! A team's home: its copy of the ledger takes what is final and nothing else; a job goes from the table to a receipt that
//! verifies. Every signature is real; only the network is left out.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use leben::action::{self, Fresh};
use leben::draft::{draft, template};
use leben::fetch::{FetchError, open, summary, write_receipt, write_result};
use leben::home::{Home, HomeError};
use leben::io::submit::is_fund_due;
use leben::job::Job;
use leben::ledger::{Ledger, LedgerError};
use leben::verify::{Wish, verify};
use leben::watch::{End, Signing};
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::table::Phase;
use leben_contracts::ledger::turn::TurnError;
use support::{HOSPITALS, T0, World, bundle, code, home, id, invite, log_signer, note};

fn fresh(nonce: u8) -> Fresh {
    Fresh { now_ms: T0, nonce: [nonce; 16] }
}

/// Brings a home's copy up to the world.
fn extend(home: &Home, ledger: &mut Ledger, world: &World) -> Result<(), LedgerError> {
    let from = usize::try_from(ledger.size()).unwrap();
    ledger.extend(home, &world.note(&HOSPITALS), &world.leaves[from..], &world.certificates(ledger.size(), &HOSPITALS))
}

#[test]
fn a_home_is_made_once_and_belongs_to_one_party() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Home::open(dir.path()), Err(HomeError::Missing(_))));
    let made = home(dir.path());
    let again = home(dir.path());
    assert_eq!(made.public_keys(), again.public_keys());
    assert!(
        !fs::read_to_string(dir.path().join("network.json")).unwrap().contains("0123456789abcdef"),
        "the code is kept"
    );
    let mut other = invite();
    other.party = "other".into();
    let seeds = leben::io::seeds().unwrap();
    assert!(matches!(Home::create(dir.path(), &other, &seeds), Err(HomeError::Other { .. })));
    let mut hospital = invite();
    hospital.kind = "hospital".into();
    let error = Home::create(&dir.path().join("x"), &hospital, &seeds).err().unwrap();
    assert!(error.to_string().contains("leben-worker join"), "{error}");
}

/// ARCHITECTURE and README name the number.
#[test]
fn about_sixty_hospitals_fit_into_one_contract_and_more_are_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let (home, world) = (home(dir.path()), World::new());
    let proposed = |hospitals: usize| {
        let mut offers = support::offers();
        let set = offers.sets[0].clone();
        let owners: Vec<_> = (0..hospitals).map(|n| id(&format!("hospital-{n:02}"))).collect();
        offers.sets = owners.iter().map(|owner| leben::offers::Set { owner: owner.clone(), ..set.clone() }).collect();
        offers.parties.extend(owners.iter().cloned());
        offers.parties.sort();
        let sets: Vec<String> = owners.iter().map(|owner| format!("\"{owner}/heart\"")).collect();
        let (before, after) = template("regression").unwrap().split_once("sets = [").unwrap();
        let after = after.split_once(']').unwrap().1.replace("outcome = \"outcome\"", "outcome = \"target\"");
        let after = after.replace("features = [\"age\", \"sex\"]", "features = [\"age\", \"sex\", \"chol\"]");
        let after = after.replace("hospitals_min = 3", "");
        let job = Job::parse(&format!("{before}sets = [{}]{after}", sets.join(", "))).unwrap();
        action::propose(&home, &world.state, &draft(&job, &offers, T0).unwrap(), fresh(1))
    };
    let most = (4..100).take_while(|hospitals| proposed(*hospitals).is_ok()).last().unwrap();
    assert!((55..75).contains(&most), "{most} hospitals fit");
    let refused = proposed(most + 1).unwrap_err().to_string();
    assert!(refused.contains("too many hospitals or columns for one ledger entry"), "{refused}");
}

#[test]
fn the_copy_takes_what_is_final_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let mut world = World::new();
    let mut ledger = Ledger::open(&home).unwrap();
    assert_eq!(ledger.size(), 0);
    let refused = ledger
        .extend(&home, &world.note(&HOSPITALS[..2]), &world.leaves, &world.certificates(0, &HOSPITALS))
        .unwrap_err();
    assert!(matches!(refused, LedgerError::Policy { .. }), "{refused}");
    extend(&home, &mut ledger, &world).unwrap();
    let held = ledger.size();
    assert_eq!(Ledger::open(&home).unwrap().state(), &world.state);
    assert!(ledger.offers(&id("team")).unwrap().sets.len() == 4);

    // Less than before; another history of the same length; another history that goes on; a broken rule; another log.
    let shorter = note(&world.leaves[..5], &HOSPITALS);
    assert!(matches!(ledger.extend(&home, &shorter, &[], &[]), Err(LedgerError::Stale { got: 5, .. })));
    let mut other = world.leaves.clone();
    let last = other.len() - 1;
    other.swap(last, last - 1);
    assert!(matches!(ledger.extend(&home, &note(&other, &HOSPITALS), &[], &[]), Err(LedgerError::Fork { .. })));
    assert!(home.evidence_dir().join(format!("checkpoint-{held}-held")).is_file());
    world.act("team", None, Heartbeat {});
    let new = world.leaves.last().unwrap().clone();
    other.push(new.clone());
    let forked = ledger.extend(&home, &note(&other, &HOSPITALS), std::slice::from_ref(&new), &[]).unwrap_err();
    assert!(matches!(forked, LedgerError::Fork { .. }), "{forked}");
    let mut replayed = world.leaves.clone();
    replayed.push(new.clone());
    let broken = ledger.extend(&home, &note(&replayed, &HOSPITALS), &[new.clone(), new], &[]).unwrap_err();
    assert!(matches!(broken, LedgerError::Rules { .. }), "{broken}");
    assert_eq!(ledger.size(), held);

    // The honest log goes on as if nothing had been.
    extend(&home, &mut ledger, &world).unwrap();
    assert_eq!((ledger.size(), Ledger::open(&home).unwrap().size()), (held + 1, held + 1));
    assert_eq!(verify(&home.ledger_dir(), &Wish::default()).unwrap().size, held + 1);
}

#[test]
fn a_log_without_hospitals_yet_needs_no_quorum_and_two_commands_may_follow_it_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let world = World::new();
    let (mut one, mut other) = (Ledger::open(&home).unwrap(), Ledger::open(&home).unwrap());
    one.extend(&home, &note(&world.leaves[..3], &[]), &world.leaves[..3], &[]).unwrap();
    assert!(one.policy().is_none());
    other.extend(&home, &note(&world.leaves[..2], &[]), &world.leaves[..2], &[]).unwrap();
    assert_eq!((one.size(), other.size()), (3, 3), "what the quicker one took is there for both");
    extend(&home, &mut one, &world).unwrap();
    extend(&home, &mut other, &world).unwrap();
    assert_eq!(one.state(), other.state());
}

#[test]
fn a_change_of_who_signs_that_the_quorum_before_did_not_sign_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let mut world = World::new();
    let mut ledger = Ledger::open(&home).unwrap();
    let all = &world.leaves[..];
    let unsigned = ledger.extend(&home, &world.note(&HOSPITALS), all, &[]).unwrap_err();
    assert!(matches!(unsigned, LedgerError::Turn(TurnError::Missing { index: 6 })), "{unsigned}");
    let weak = world.certificates(0, &HOSPITALS[..2]);
    let weak = ledger.extend(&home, &world.note(&HOSPITALS), all, &weak).unwrap_err();
    assert!(matches!(weak, LedgerError::Turn(TurnError::Quorum { which: "new", .. })), "{weak}");
    assert_eq!(ledger.size(), 0);
    extend(&home, &mut ledger, &world).unwrap();
    // One hospital becomes the quorum: the three others signed that, and did not cosign it yet.
    let held = ledger.size();
    let alone = PolicyChange { validators: vec![id("va")], quorum: 1 };
    world.signed("coordinator", None, alone, &[&["coordinator"], &HOSPITALS[1..]].concat());
    let new = &world.leaves[usize::try_from(held).unwrap()..];
    let certificate = world.certificates(held, &["va"]);
    let voted = ledger.extend(&home, &world.note(&["va"]), new, &certificate).unwrap_err();
    assert!(matches!(voted, LedgerError::Turn(TurnError::Quorum { which: "old", .. })), "{voted}");
    // With the quorum before it, it holds; what is published names those alone who now have to sign.
    let certificate = world.certificates(held, &HOSPITALS[1..]);
    ledger.extend(&home, &world.note(&["va"]), new, &certificate).unwrap();
    assert_eq!(verify(&home.ledger_dir(), &Wish::default()).unwrap().size, held + 1);
}

/// Proposes the tutorial's job as `leben submit` does, from the copy.
fn propose(home: &Home, ledger: &mut Ledger, world: &mut World) -> ContractId {
    let job = Job::parse(template("heart").unwrap()).unwrap();
    let terms = draft(&job, &ledger.offers(home.party()).unwrap(), T0).unwrap();
    let id = world.push(action::propose(home, ledger.state(), &terms, fresh(1)).unwrap());
    extend(home, ledger, world).unwrap();
    let contract = ledger.state().contract(&id).unwrap();
    world.push(action::accept(home, ledger.state(), contract, fresh(2)).unwrap());
    extend(home, ledger, world).unwrap();
    id
}

fn sign_fund_arm(home: &Home, ledger: &mut Ledger, world: &mut World, contract: &ContractId) {
    world.accept_all(contract);
    extend(home, ledger, world).unwrap();
    let signed = ledger.state().contract(contract).unwrap().clone();
    assert!(is_fund_due(home, &signed));
    world.push(action::fund(home, ledger.state(), &signed, fresh(3)).unwrap());
    world.due(contract);
    extend(home, ledger, world).unwrap();
    assert_eq!(ledger.state().contract(contract).unwrap().phase, Phase::Executable);
}

#[test]
fn a_job_goes_from_the_table_to_a_receipt_that_verifies() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let (mut world, mut ledger) = (World::new(), Ledger::open(&home).unwrap());
    extend(&home, &mut ledger, &world).unwrap();
    let id = propose(&home, &mut ledger, &mut world);
    let contract = ledger.find(Some(home.party()), "last").unwrap().clone();
    assert_eq!(contract.id, id);
    assert_eq!(ledger.find(None, &id.to_string()[..9]).unwrap().id, id);
    assert!(ledger.find(None, "zz").is_err());
    assert!(Signing::of(&contract).to_text().contains("waiting for the signature of cleveland, coordinator"));
    assert!(End::of(&ledger, &contract, None).is_none());
    sign_fund_arm(&home, &mut ledger, &mut world, &id);

    let bytes = bundle(&id);
    let sealed = leben_protocol::seal::seal(&home.sealing_public().0, &id.0, &bytes, [9; 32]).unwrap();
    let early = ledger.state().contract(&id).unwrap();
    assert!(matches!(open(&home, early, &sealed), Err(FetchError::NotDelivered { .. })));
    world.run(&id, &bytes);
    extend(&home, &mut ledger, &world).unwrap();
    let contract = ledger.state().contract(&id).unwrap().clone();
    let end = End::of(&ledger, &contract, None).unwrap();
    assert_eq!((end.phase, end.exit_code()), (Phase::Delivered, 0));

    // Another result, sealed to the right key, is not the one on the ledger.
    let other = leben_protocol::seal::seal(&home.sealing_public().0, &id.0, b"{}", [9; 32]).unwrap();
    assert!(matches!(open(&home, &contract, &other), Err(FetchError::Commitment { .. })));
    let elsewhere = leben_protocol::seal::seal(&home.sealing_public().0, b"x", &bytes, [9; 32]).unwrap();
    assert!(matches!(open(&home, &contract, &elsewhere), Err(FetchError::Sealed(_))));

    let opened = open(&home, &contract, &sealed).unwrap();
    assert!(summary(&opened.bundle).contains("0.0578821"), "{}", summary(&opened.bundle));
    let out = dir.path().join("result");
    let files = write_result(&out, &opened).unwrap();
    assert!(files.contains(&"coefficients.csv".to_owned()), "{files:?}");
    world.push(action::accept_result(&home, ledger.state(), &contract, fresh(4)).unwrap());
    world.due(&id);
    extend(&home, &mut ledger, &world).unwrap();
    let contract = ledger.state().contract(&id).unwrap().clone();
    assert_eq!(contract.phase, Phase::Settled);
    let receipt = write_receipt(&out, &ledger, &contract).unwrap();
    let kinds: Vec<&str> = receipt.entries.iter().map(|item| item.kind.as_str()).collect();
    assert_eq!((kinds[0], *kinds.last().unwrap()), ("Propose", "Settle"));

    let good = verify(&out, &Wish::default()).unwrap();
    assert_eq!((good.what, good.lines.len()), ("evidence", receipt.entries.len() + 3));
    assert!(good.to_text().contains("coefficients.csv, terms.txt say what"), "{}", good.to_text());
    assert!(good.to_text().contains("not provable"), "{}", good.to_text());
    let one = out.join(&receipt.entries[0].proof);
    assert_eq!(verify(&one, &Wish::default()).unwrap().what, "proof");

    // One byte of the result, of an entry, of the receipt.
    let flip = |path: &std::path::Path, at: usize| {
        let good = fs::read(path).unwrap();
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(path, bad).unwrap();
        let code = verify(&out, &Wish::default()).map_or_else(|error| error.exit_code(), |_| 0);
        fs::write(path, good).unwrap();
        code
    };
    assert_eq!(flip(&out.join("result.json"), 40), 5);
    assert_eq!(flip(&out.join(&receipt.entries[4].entry), 100), 5);
    let text = fs::read_to_string(out.join("receipt.json")).unwrap();
    let at = text.find("result_commitment").unwrap() + 24;
    assert_ne!(flip(&out.join("receipt.json"), at), 0);
    assert_eq!(verify(&out, &Wish::default()).unwrap(), good);
}

/// A result's folder as `leben fetch` leaves it, and the world after it.
fn fetched(root: &Path) -> (PathBuf, World) {
    let (home, out) = (home(root), root.join("result"));
    let (mut world, mut ledger) = (World::new(), Ledger::open(&home).unwrap());
    extend(&home, &mut ledger, &world).unwrap();
    let id = propose(&home, &mut ledger, &mut world);
    sign_fund_arm(&home, &mut ledger, &mut world, &id);
    let bytes = bundle(&id);
    let sealed = leben_protocol::seal::seal(&home.sealing_public().0, &id.0, &bytes, [9; 32]).unwrap();
    world.run(&id, &bytes);
    extend(&home, &mut ledger, &world).unwrap();
    let contract = ledger.state().contract(&id).unwrap();
    write_result(&out, &open(&home, contract, &sealed).unwrap()).unwrap();
    write_receipt(&out, &ledger, contract).unwrap();
    (out, world)
}

fn code_of(path: &Path, wish: &Wish) -> u8 {
    verify(path, wish).map_or_else(|error| error.exit_code(), |_| 0)
}

#[test]
fn nothing_in_a_result_s_folder_is_taken_on_faith() {
    let dir = tempfile::tempdir().unwrap();
    let (out, _) = fetched(dir.path());
    let code = || code_of(&out, &Wish::default());
    assert_eq!(code(), 0);
    // What people read, forged: in a byte, in its length.
    for name in ["coefficients.csv", "terms.txt"] {
        let good = fs::read_to_string(out.join(name)).unwrap();
        for bad in [good.replacen('5', "6", 1), format!("{good}\n"), String::new()] {
            fs::write(out.join(name), bad).unwrap();
            assert_eq!(code(), 5, "{name}");
        }
        // Nobody is deceived by what is not there.
        fs::remove_file(out.join(name)).unwrap();
        assert_eq!(code(), 0, "{name} removed");
        fs::write(out.join(name), good).unwrap();
    }
    // Added: a table, a note, an entry, a folder, a log.
    for name in [
        "odds.csv",
        "READ ME",
        "entries/000000-Genesis.json",
        "more/x",
        "checkpoint",
        "tile/0/000.p/9",
        "certificate/7",
    ] {
        let path = out.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "x").unwrap();
        assert_eq!(code(), 2, "{name}");
        fs::remove_file(&path).unwrap();
        for parent in ["more", "tile", "certificate"] {
            let _ = fs::remove_dir_all(out.join(parent));
        }
    }
    // A link, though to the good bytes.
    #[cfg(unix)]
    for name in ["result.json", "policy", "receipt.json", "terms.txt"] {
        fs::rename(out.join(name), dir.path().join("away")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("away"), out.join(name)).unwrap();
        assert_eq!(code(), 2, "{name} is a link");
        fs::rename(dir.path().join("away"), out.join(name)).unwrap();
    }
    assert_eq!(code(), 0);
}

#[test]
fn a_receipt_names_its_log_and_what_was_agreed() {
    let dir = tempfile::tempdir().unwrap();
    let (out, _) = fetched(dir.path());
    let path = out.join("receipt.json");
    let good: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let code = |receipt: &serde_json::Value| {
        fs::write(&path, receipt.to_string()).unwrap();
        code_of(&out, &Wish::default())
    };
    assert_eq!(code(&good), 0);
    let mut other = good.clone();
    other["origin"] = "other.test/log".into();
    assert_eq!(code(&other), 2);
    // An entry that is not listed is no part of the folder; without these three there is nothing to show for the result.
    for kind in ["Propose", "Arm", "Deliver"] {
        let mut less = good.clone();
        let entries = less["entries"].as_array_mut().unwrap();
        let at = entries.iter().position(|item| item["kind"] == kind).unwrap();
        let item = entries.remove(at);
        for file in ["entry", "proof"] {
            fs::rename(out.join(item[file].as_str().unwrap()), dir.path().join(file)).unwrap();
        }
        assert_eq!(code(&less), 2, "without {kind}");
        for file in ["entry", "proof"] {
            fs::rename(dir.path().join(file), out.join(item[file].as_str().unwrap())).unwrap();
        }
    }
    let mut twice = good.clone();
    let first = twice["entries"][0].clone();
    twice["entries"].as_array_mut().unwrap().insert(0, first);
    assert_eq!(code(&twice), 2);
    assert_eq!(code(&good), 0);
}

#[test]
fn a_result_s_folder_must_be_fresh_and_agree_with_what_was_kept_when_asked() {
    let dir = tempfile::tempdir().unwrap();
    let (out, mut world) = fetched(dir.path());
    let fresh = |now_ms| code_of(&out, &Wish { freshness: Some((now_ms, 60_000)), ..Wish::default() });
    assert_eq!((fresh(T0 + 59_000), fresh(T0 + 61_000)), (0, 7));
    let known = |leaves: &[Vec<u8>]| {
        let path = dir.path().join("known");
        fs::write(&path, note(leaves, &HOSPITALS).to_string()).unwrap();
        code_of(&out, &Wish { known: Some(path), ..Wish::default() })
    };
    let same = world.leaves.clone();
    assert_eq!(known(&same), 0);
    assert_eq!(known(&same[..same.len() - 1]), 2, "a proof cannot show it");
    world.leaves.push(b"{}".to_vec());
    assert_eq!(known(&world.leaves), 7);
    world.leaves.remove(3);
    assert_eq!(known(&world.leaves), 8);
}

#[test]
fn a_job_that_ends_without_a_result_names_the_hospital() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let (mut world, mut ledger) = (World::new(), Ledger::open(&home).unwrap());
    extend(&home, &mut ledger, &world).unwrap();
    let contract_id = propose(&home, &mut ledger, &mut world);
    world.act("va", Some(&contract_id), Reject { code: code("ethics") });
    extend(&home, &mut ledger, &world).unwrap();
    let contract = ledger.state().contract(&contract_id).unwrap();
    let end = End::of(&ledger, contract, None).unwrap();
    assert_eq!((end.exit_code(), end.hospital.as_deref()), (1, Some("va")));
    assert!(end.why.contains("Reject by va (ethics)"), "{}", end.why);
    assert_eq!(end.to_json()["ok"], false);
}

#[test]
fn a_checkpoint_of_another_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let home = home(dir.path());
    let ledger = Ledger::open(&home).unwrap();
    let text = format!("other.test/log\n0\n{}\n", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    let mut note = leben_contracts::ledger::note::Note::new(text).unwrap();
    note.push(log_signer().sign(note.text(), 0)).unwrap();
    assert!(matches!(ledger.check_note(&home, &note), Err(LedgerError::Origin { .. })));
}
