//! A ledger that another coordinator goes on with, as a team and an outsider see it; and which history that is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::path::Path;
use std::process::Command;

use leben::home::Home;
use leben::ledger::{Ledger, LedgerError};
use leben::verify::{Wish, verify};
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::party::{PartyKeys, Role};
use leben_contracts::handover::{self, HandoverError, choose};
use leben_contracts::ledger::action_file::ActionFile;
use leben_contracts::ledger::entry::{Entry, Envelope};
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use leben_contracts::ledger::store::Mirror;
use support::{HOSPITALS, ORIGIN, World, home, id, key, note_by, public, sealing, turn_sizes};

fn new_log() -> NoteSigner {
    NoteSigner::new(ORIGIN, KeyType::Ed25519, key("next", "log")).unwrap()
}

/// A Handover from here on, signed by the new coordinator and these hospitals.
fn handover(world: &World, signers: &[&str]) -> ActionFile {
    handover_to("coordinator", world, signers)
}

fn handover_to(party: &str, world: &World, signers: &[&str]) -> ActionFile {
    let keys = PartyKeys { party: public("next", "party"), witness: None, validator: None, tls: public("next", "tls") };
    let body = Handover {
        coordinator: Founder { party: id(party), keys, sealing: sealing("next") },
        size: world.state.next_index(),
        root: world.state.root(),
        log_key: public("next", "log"),
    };
    let actor = id(party);
    let action = world.state.draft(&body.into(), None, &world.header(&actor, Role::Coordinator)).unwrap();
    let mut file = ActionFile::draft(&action).unwrap();
    for name in [&["next"], signers].concat() {
        file.sign(&key(name, "party")).unwrap();
    }
    file
}

/// A world, handed over, with one entry more: how many entries there were before.
fn handed_over() -> (World, usize) {
    let mut world = World::new();
    let before = world.leaves.len();
    world.push(handover(&world, &HOSPITALS[1..]).into_envelope().unwrap());
    world.act("team", None, Heartbeat {});
    (world, before)
}

/// Certificates as the two coordinators made them.
fn certificates(world: &World, from: u64, before: usize) -> Vec<Note> {
    let sizes = turn_sizes(&world.leaves).into_iter().map(|size| usize::try_from(size).unwrap());
    let by = |size: usize| if size > before { new_log() } else { support::log_signer() };
    sizes.filter(|size| *size as u64 > from).map(|size| note_by(&by(size), &world.leaves[..size], &HOSPITALS)).collect()
}

fn extend(home: &Home, ledger: &mut Ledger, world: &World, note: &Note, before: usize) -> Result<(), LedgerError> {
    let from = usize::try_from(ledger.size()).unwrap();
    let certificates = certificates(world, ledger.size(), before);
    ledger.extend(home, note, &world.leaves[from..], &certificates)
}

#[test]
fn a_team_follows_the_ledger_itself_and_the_first_policy_verifies_the_whole() {
    let (world, before) = handed_over();
    for held in [0, before] {
        let dir = tempfile::tempdir().unwrap();
        let home = home(dir.path());
        let mut ledger = Ledger::open(&home).unwrap();
        let (mut policy, mut known) = (None, None);
        if held > 0 {
            let first = World::new();
            ledger.extend(&home, &first.note(&HOSPITALS), &first.leaves, &first.certificates(0, &HOSPITALS)).unwrap();
            fs::copy(home.ledger_dir().join("policy"), dir.path().join("policy")).unwrap();
            fs::copy(home.ledger_dir().join("checkpoint"), dir.path().join("known")).unwrap();
            (policy, known) = (Some(dir.path().join("policy")), Some(dir.path().join("known")));
        }
        let note = note_by(&new_log(), &world.leaves, &HOSPITALS[..3]);
        // Without the certificate of the Handover; by a key that nobody named; by the old key over the Handover.
        let from = usize::try_from(ledger.size()).unwrap();
        let mut certificates = certificates(&world, ledger.size(), before);
        certificates.pop();
        let refused = ledger.extend(&home, &note, &world.leaves[from..], &certificates).unwrap_err();
        assert!(matches!(refused, LedgerError::Turn(_)), "{refused}");
        for log in [NoteSigner::new(ORIGIN, KeyType::Ed25519, key("x", "log")).unwrap(), support::log_signer()] {
            let other = note_by(&log, &world.leaves, &HOSPITALS);
            let refused = extend(&home, &mut ledger, &world, &other, before).unwrap_err();
            assert!(matches!(refused, LedgerError::Policy { .. }), "{refused}");
        }
        assert_eq!(ledger.size(), held as u64);

        extend(&home, &mut ledger, &world, &note, before).unwrap();
        let mut again = Ledger::open(&home).unwrap();
        assert_eq!((again.size(), again.state()), (world.leaves.len() as u64, &world.state));
        let good = verify(&home.ledger_dir(), &Wish { policy, known, ..Wish::default() }).unwrap();
        assert_eq!(good.size, world.leaves.len() as u64);
        let (ok, said) = python(&home.ledger_dir(), &home.ledger_dir().join("policy"));
        assert!(ok, "{said}");

        // The old coordinator goes on beside it.
        let mut more = world.leaves.clone();
        more.push(b"anything".to_vec());
        let old = note_by(&support::log_signer(), &more, &HOSPITALS);
        let refused = again.extend(&home, &old, &more[world.leaves.len()..], &[]).unwrap_err();
        assert!(matches!(refused, LedgerError::Replaced), "{refused}");
        // And the new one.
        let mut world = world.clone();
        world.act("team", None, Transfer { to: id("admin"), credits: 1 });
        let note = note_by(&new_log(), &world.leaves, &HOSPITALS);
        extend(&home, &mut again, &world, &note, before).unwrap();
    }
}

#[test]
fn a_home_of_another_ledger_takes_none_of_this() {
    let (world, before) = handed_over();
    let dir = tempfile::tempdir().unwrap();
    let stranger = NoteSigner::new(ORIGIN, KeyType::Ed25519, key("stranger", "log")).unwrap();
    let invite = leben_protocol::invite::Invite { log_vkey: stranger.vkey().to_string(), ..support::invite() };
    let home = support::home_with(dir.path(), &invite);
    let mut ledger = Ledger::open(&home).unwrap();
    let note = note_by(&new_log(), &world.leaves, &HOSPITALS);
    let refused = extend(&home, &mut ledger, &world, &note, before).unwrap_err();
    assert!(matches!(refused, LedgerError::Key), "{refused}");
}

/// What `deploy/read_ledger.py` says.
fn python(ledger: &Path, policy: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/read_ledger.py");
    let ran = Command::new("python3").arg("-B").arg(script).arg(ledger).arg(policy).output().unwrap();
    (ran.status.success(), String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned())
}

#[test]
fn another_party_takes_over_and_the_one_before_signs_nothing_more() {
    let mut world = World::new();
    let file = handover_to("successor", &world, &HOSPITALS[..3]);
    world.push(file.into_envelope().unwrap());
    for late in [false, true] {
        if late {
            // The log's new key signed it all the same, and every hospital: not the reader, who knows the keys.
            let actor = id("coordinator");
            let action =
                world.state.draft(&Heartbeat {}.into(), None, &world.header(&actor, Role::Coordinator)).unwrap();
            let envelope = Envelope::sign(&action, &[&key("coordinator", "party")]).unwrap();
            world.leaves.push(Entry::new(envelope, world.now_ms).unwrap().bytes().to_vec());
        }
        let dir = tempfile::tempdir().unwrap();
        let (public, policy) = (dir.path().join("public"), dir.path().join("policy"));
        let mut mirror = Mirror::open(&public, &dir.path().join("state"), new_log().vkey()).unwrap();
        let note = note_by(&new_log(), &world.leaves, &HOSPITALS);
        mirror.append(&world.leaves, &note).unwrap();
        mirror.publish(&note).unwrap();
        fs::write(&policy, world.state.witness_policy().unwrap().to_string()).unwrap();
        let (ok, said) = python(&public, &policy);
        assert_eq!(ok, !late, "{said}");
        assert!(!late || said.contains("which is nobody's"), "{said}");
    }
}

fn published(world: &World, dir: &Path, cosigners: &[&str]) -> std::path::PathBuf {
    world.publish(&dir.join("mirror/public"), &dir.join("mirror/state"), cosigners);
    dir.to_owned()
}

#[test]
fn the_largest_certificate_goes_on_and_two_that_contradict_each_other_are_a_proven_fork() {
    let dir = tempfile::tempdir().unwrap();
    let mut world = World::new();
    let short = published(&world, &dir.path().join("aker"), &HOSPITALS[..3]);
    let mut other = world.clone();
    world.act("team", None, Transfer { to: id("admin"), credits: 1 });
    world.act("team", None, Transfer { to: id("admin"), credits: 2 });
    let long = published(&world, &dir.path().join("basel"), &HOSPITALS[1..]);
    let chosen = choose(&[short.clone(), long.clone(), short.clone()], None).unwrap();
    assert_eq!(chosen.checkpoint.size, world.leaves.len() as u64);
    assert_eq!((chosen.dir.clone(), chosen.copies.len()), (long.join("mirror/public"), 3));

    let file = handover(&world, &HOSPITALS[..2]);
    let lacks = handover::check(&chosen.state, &file, world.now_ms).unwrap().unwrap();
    assert!(lacks.contains("2 of the validators signed, 3 have to"), "{lacks}");
    let file = handover(&world, &HOSPITALS[..3]);
    assert_eq!(handover::check(&chosen.state, &file, world.now_ms).unwrap(), None);
    let elsewhere = choose(std::slice::from_ref(&short), None).unwrap().state;
    let refused = handover::check(&elsewhere, &file, world.now_ms).unwrap_err().to_string();
    assert!(refused.contains("fits one place of one history"), "{refused}");

    // Both cosigned by a quorum: no honest coordinator, and too many liars among the hospitals.
    other.act("team", None, Transfer { to: id("admin"), credits: 3 });
    let forked = published(&other, &dir.path().join("cluj"), &HOSPITALS[..3]);
    for copies in [[&long, &forked], [&forked, &long]] {
        let error = choose(&copies.map(Clone::clone), None).unwrap_err();
        assert_eq!(error.exit_code(), 8, "{error}");
        let HandoverError::Fork { evidence: Some(evidence), size, .. } = error else { panic!("no proof: {error}") };
        assert_eq!(size, other.leaves.len() as u64);
        let proof = dir.path().join("fork.json");
        fs::write(&proof, evidence.to_json()).unwrap();
        let policy = Some(long.join("mirror/public/policy"));
        assert_eq!(verify(&proof, &Wish { policy, ..Wish::default() }).unwrap_err().exit_code(), 8);
    }
    #[cfg(feature = "demo")]
    for policy in [None, Some(long.join("mirror/public/policy"))] {
        use leben_coordinator::io::fatal::Fatal;
        use leben_coordinator::io::handover::{Wish, prepare};
        let (from, out) = ([long.clone(), forked.clone()], dir.path().join("handover.json"));
        let wish = Wish { from: &from, policy: policy.as_deref(), party: None, days: 7, out: &out };
        let refused = prepare(&dir.path().join("next"), &wish).unwrap_err();
        assert!(matches!(&refused, Fatal::Handover(error) if error.exit_code() == 8), "{refused}");
        assert!(!out.exists() && dir.path().join("handover.fork.json").is_file());
    }
    #[cfg(feature = "demo")]
    a_new_network_embeds(&dir.path().join("handover.fork.json"), dir.path());
    // One that too few hospitals cosigned proves nothing; and of one that is the beginning, nothing else matters.
    let weak = published(&other, &dir.path().join("delft"), &HOSPITALS[..2]);
    let error = choose(&[long.clone(), weak], None).unwrap_err();
    assert!(matches!(&error, HandoverError::Verify { .. }) && error.exit_code() == 4, "{error}");
    fs::remove_dir_all(short.join("mirror/public/tile")).unwrap();
    let chosen = choose(&[short.clone(), long.clone()], None).unwrap();
    assert_eq!((chosen.dir, chosen.copies.len()), (long.join("mirror/public"), 2));
    // A copy that was touched.
    fs::write(forked.join("mirror/public/checkpoint"), "nonsense").unwrap();
    assert!(choose(&[long.clone(), forked], None).is_err());
    let bundle = long.join("mirror/public/tile/entries/000.p").join(world.leaves.len().to_string());
    let mut bytes = fs::read(&bundle).unwrap();
    bytes[40] ^= 1;
    fs::write(&bundle, bytes).unwrap();
    let error = choose(&[short, long], None).unwrap_err();
    assert!(matches!(&error, HandoverError::Verify { .. }) && error.exit_code() == 5, "{error}");
}

/// What people do when neither history can go on.
#[cfg(feature = "demo")]
fn a_new_network_embeds(proof: &Path, dir: &Path) {
    use leben_contracts::agreement::hash::Hash32;
    use leben_coordinator::io::config::Config;
    use leben_coordinator::io::setup::init_after_fork;
    let init = |name: &str, origin: &str, evidence: &Path| {
        let (config, template) = (Config::new(origin, "coordinator"), Config::template(origin, "coordinator"));
        init_after_fork(&dir.join(name), &config, &template, "admin", evidence).map_err(|error| error.to_string())
    };
    let touched = dir.join("touched.fork.json");
    fs::write(&touched, fs::read_to_string(proof).unwrap().replacen("\"root\": \"", "\"root\": \"A", 1)).unwrap();
    let refused = [init("none", "leben.example/2", &touched), init("none", "leben.example/2", &dir.join("absent"))];
    assert!(refused.iter().all(Result::is_err), "{refused:?}");
    let same = init("none", ORIGIN, proof).unwrap_err();
    assert!(same.contains("another --origin") && !dir.join("none").exists(), "{same}");

    let said = init("second", "leben.example/2", proof).unwrap();
    let digest = Hash32::plain(&fs::read(proof).unwrap()).to_string();
    assert!(said.contains(&digest) && said.contains(&support::log_signer().vkey().to_string()), "{said}");
    let ledger = dir.join("second/ledger");
    let good = verify(&ledger, &Wish::default()).unwrap();
    let words = format!("it begins in place of {ORIGIN}, whose key signed two histories");
    assert!(good.lines.iter().any(|line| line.contains(&words) && line.contains(&digest)), "{:?}", good.lines);
    let ledger = Ledger::read(&ledger, "leben.example/2").unwrap();
    let (_, entry) = ledger.entries(0..1).unwrap().pop().unwrap();
    let shown = leben::ledger_view::entry_text(&ledger, 0, &entry);
    assert!(shown.contains("whose key signed two histories") && shown.contains(&digest), "{shown}");
}
