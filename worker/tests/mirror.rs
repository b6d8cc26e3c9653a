//! The hospital's copy of the ledger believes nothing that it did not check.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::merkle::{Hash, Tree, leaf_hash};
use leben_contracts::ledger::note::Note;
use leben_worker::mirror::{Mirror, Published, Start};
use leben_worker::refusal::Reason;
use support::*;

/// A copy that has cosigned everything, and certified what the hospitals' first policy ends.
fn cosigned(net: &Net) -> Mirror {
    let mut mirror = new_mirror();
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
    turn(net, &mut mirror);
    mirror
}

/// Shows the certificates of every change of who has to sign.
fn turn(net: &Net, mirror: &mut Mirror) {
    for note in net.turns(mirror.certified_size(), &["h2", "h3"]) {
        assert!(matches!(mirror.handle_publish(&note), Ok(Published::New(_))));
    }
}

/// Entries up to the hospitals' first policy: Genesis, four parties, the policy.
const TURN: u64 = 6;

/// The log's own signature over another tree.
fn signed_by_the_log(size: u64, root: [u8; 32]) -> Note {
    let mut note = Note::new(Checkpoint::new(ORIGIN, size, root).to_string()).unwrap();
    note.push(log_signer().sign(note.text(), 0)).unwrap();
    note
}

#[test]
fn entries_become_validated_then_certified_and_what_is_cosigned_meets_the_ledgers_own_policy() {
    let net = Net::new();
    let mut mirror = new_mirror();
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    assert_eq!(mirror.size(), 0, "nothing is believed before a checkpoint");
    let cosigned = mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
    assert_eq!((mirror.size(), mirror.certified_size()), (net.leaves.len() as u64, 0));
    assert_eq!(cosigned.entries, net.leaves);
    turn(&net, &mut mirror);
    // This hospital's line and one other's make two of three.
    let mut text = String::from_utf8(net.certificate(&["h2"])).unwrap();
    text.push_str(&cosigned.lines);
    assert!(matches!(mirror.handle_publish(text.as_bytes()), Ok(Published::New(_))));
    assert_eq!(mirror.certified_size(), net.leaves.len() as u64);
    // Told again, it says again that it has it.
    assert!(matches!(mirror.handle_publish(text.as_bytes()), Ok(Published::Known(_))));
}

#[test]
fn too_few_or_unknown_cosigners_make_nothing_final() {
    let net = Net::new();
    let mut mirror = cosigned(&net);
    for cosigners in [&[][..], &["h2"], &["h2", "team"]] {
        let refusal = mirror.handle_publish(&net.certificate(cosigners)).unwrap_err();
        assert_eq!(refusal.reason, Reason::Ledger, "{cosigners:?}");
        assert_eq!(mirror.certified_size(), TURN);
    }
    assert!(mirror.halted().is_none(), "a missing cosignature is no fork");
    assert!(matches!(mirror.handle_publish(&net.certificate(&["h2", "h3"])), Ok(Published::New(_))));
}

#[test]
fn a_change_of_the_quorum_needs_the_old_one_and_the_new_one() {
    let mut net = Net::new();
    let mut mirror = cosigned(&net);
    mirror.handle_publish(&net.certificate(&["h2", "h3"])).unwrap();
    let from = mirror.size();
    // The coordinator votes itself a quorum of its own.
    net.enrol("x1");
    net.set_policy(&["x1"], 1);
    mirror.handle_entries(from, net.leaves[from as usize..].to_vec()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(from)).unwrap();
    let refusal = mirror.handle_publish(&net.certificate(&["x1"])).unwrap_err();
    assert!(refusal.words.contains("old quorum"), "{refusal}");
    let refusal = mirror.handle_publish(&net.certificate(&["h2", "h3"])).unwrap_err();
    assert!(refusal.words.contains("new quorum"), "{refusal}");
    assert_eq!(mirror.certified_size(), from);
    assert!(matches!(mirror.handle_publish(&net.certificate(&["h2", "h3", "x1"])), Ok(Published::New(_))));
}

#[test]
fn altered_left_out_or_added_entries_are_not_signed_and_the_right_ones_still_are() {
    let net = Net::new();
    let mut altered = net.leaves.clone();
    *altered[3].last_mut().unwrap() ^= 1;
    let left_out = net.leaves[..net.leaves.len() - 1].to_vec();
    let mut added = net.leaves.clone();
    added.push(net.leaves[2].clone());
    for leaves in [altered, left_out, added, vec![]] {
        let mut mirror = new_mirror();
        mirror.handle_entries(0, leaves).unwrap();
        let not = mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap_err();
        assert_eq!((not.refusal.reason, not.size), (Reason::Ledger, 0));
        mirror.handle_entries(0, net.leaves.clone()).unwrap();
        mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
    }
}

#[test]
fn a_gap_is_refused_and_an_overlap_is_left_out() {
    let net = Net::new();
    let mut mirror = new_mirror();
    assert_eq!(mirror.handle_entries(1, net.leaves[1..].to_vec()).unwrap_err().reason, Reason::Malformed);
    mirror.handle_entries(0, net.leaves[..3].to_vec()).unwrap();
    mirror.handle_entries(1, net.leaves[1..].to_vec()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
    let huge = vec![vec![0; 40_000]];
    assert_eq!(mirror.handle_entries(mirror.size(), huge).unwrap_err().reason, Reason::Malformed);
}

#[test]
fn a_fork_halts_every_signature_and_leaves_evidence() {
    let mut net = Net::new();
    let mut mirror = cosigned(&net);
    let size = mirror.size();
    let other = signed_by_the_log(size, [9; 32]);
    let body = AddCheckpoint::new(size, vec![], other.clone()).unwrap().to_string();
    let not = mirror.handle_cosign(net.now_ms, body.as_bytes()).unwrap_err();
    let evidence = not.evidence.unwrap();
    assert!(evidence.contains(&other.to_string()) && evidence.contains(net.note.as_ref().unwrap().text()));
    assert!(mirror.halted().is_some());
    net.enrol("x1");
    mirror.handle_entries(size, net.leaves[size as usize..].to_vec()).unwrap();
    assert!(mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).is_err(), "a person has to look first");
    // The same by way of a published checkpoint.
    let mut mirror = cosigned(&Net::new());
    let refusal = mirror.handle_publish(signed_by_the_log(size, [9; 32]).to_string().as_bytes()).unwrap_err();
    assert!(refusal.words.contains("fork") && mirror.halted().is_some(), "{refusal}");
}

#[test]
fn a_smaller_tree_and_a_stranger_to_the_log_are_refused() {
    let net = Net::new();
    let mut mirror = cosigned(&net);
    let small = Net::empty();
    for old_size in [0, 1] {
        let not = mirror.handle_cosign(net.now_ms, &small.cosign_body(old_size)).unwrap_err();
        assert_eq!(not.refusal.reason, Reason::Ledger);
        assert_eq!(not.size, net.leaves.len() as u64, "the coordinator learns from where to prove");
    }
    let mut note = Note::new(Checkpoint::new(ORIGIN, 99, [1; 32]).to_string()).unwrap();
    let stranger = leben_contracts::ledger::note::NoteSigner::new(
        ORIGIN,
        leben_contracts::ledger::note::KeyType::Ed25519,
        key("stranger", "log"),
    );
    note.push(stranger.unwrap().sign(note.text(), 0)).unwrap();
    assert!(mirror.handle_publish(note.to_string().as_bytes()).is_err());
    assert!(mirror.handle_publish(b"nonsense").is_err());
    assert!(mirror.halted().is_none(), "only the log itself can prove a fork");
}

#[test]
fn an_entry_that_breaks_the_rules_halts_though_the_log_signed_it() {
    let mut net = Net::new();
    let mut mirror = cosigned(&net);
    let from = mirror.size();
    // The log sequences the same action a second time: its own state machine would never let it.
    let twice = net.leaves.last().unwrap().clone();
    net.leaves.push(twice.clone());
    let hashes: Vec<_> = net.leaves.iter().map(|leaf| leben_contracts::ledger::merkle::leaf_hash(leaf)).collect();
    net.note = Some(signed_by_the_log(net.leaves.len() as u64, leben_contracts::ledger::merkle::root_of(&hashes)));
    mirror.handle_entries(from, vec![twice]).unwrap();
    let not = mirror.handle_cosign(net.now_ms, &net.cosign_body(from)).unwrap_err();
    assert!(not.refusal.words.contains("breaks the ledger's rules"), "{}", not.refusal);
    assert!(mirror.halted().is_some());
    assert_eq!(mirror.certified_size(), TURN);
}

#[test]
fn an_entry_from_the_future_is_not_signed_and_passes_later() {
    let net = Net::new();
    let mut mirror = new_mirror();
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    let not = mirror.handle_cosign(net.now_ms - HOUR, &net.cosign_body(0)).unwrap_err();
    assert_eq!(not.refusal.reason, Reason::Clock);
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
}

#[test]
fn a_restored_copy_stands_where_it_stood_and_notices_a_damaged_disk() {
    let net = Net::new();
    let certificate = Note::parse(&net.certificate(&["h2", "h3"])).unwrap();
    let mut mirror = new_mirror();
    mirror.restore(&net.leaves, Some(certificate.clone())).unwrap();
    assert_eq!(mirror.certified_size(), net.leaves.len() as u64);
    assert_eq!(mirror.certified(), net.state());
    let other = signed_by_the_log(net.leaves.len() as u64, [1; 32]);
    assert!(new_mirror().restore(&net.leaves, Some(other)).is_err());
    let mut damaged = net.leaves.clone();
    damaged[1].pop();
    assert!(new_mirror().restore(&damaged, Some(certificate.clone())).is_err());
    assert!(new_mirror().restore(&net.leaves[..3], Some(certificate)).is_err());
}

#[test]
fn a_copy_taken_up_from_a_snapshot_is_the_one_that_was_replayed() {
    let mut net = Net::new();
    let certificate = Note::parse(&net.certificate(&["h2", "h3"])).unwrap();
    let mut mirror = new_mirror();
    mirror.restore(&net.leaves, Some(certificate.clone())).unwrap();
    let (state, root) = mirror.snapshot().map(|(state, root)| (state.clone(), root)).unwrap();
    assert_eq!(root, Checkpoint::of(&certificate).unwrap().root);
    let leaves: Vec<Hash> = net.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let start = || Start { state: state.clone(), before: Tree::default(), leaves: leaves.clone() };
    let mut again = new_mirror();
    again.resume(start()).unwrap();
    follows_its_own(&again);
    again.restore_certificate(Some(certificate.clone())).unwrap();
    assert_eq!((again.size(), again.certified_size()), (mirror.size(), mirror.certified_size()));
    assert!(again.is_certified_root(&root));
    let held = net.leaves.len();
    net.offer_data("h1");
    for copy in [&mut mirror, &mut again] {
        copy.handle_entries(held as u64, net.leaves[held..].to_vec()).unwrap();
        let body = net.cosign_body(0);
        copy.handle_cosign(net.now_ms, &body).unwrap();
        assert!(matches!(copy.handle_publish(&net.certificate(&["h2", "h3"])), Ok(Published::New(_))));
    }
    assert_eq!(mirror.certified().to_bytes().unwrap(), again.certified().to_bytes().unwrap());
    assert_eq!(again.certified().to_bytes().unwrap(), net.state().to_bytes().unwrap());
    let short = Start { leaves: leaves[1..].to_vec(), ..start() };
    assert!(new_mirror().resume(short).is_err());
}

#[test]
fn a_certificate_ahead_of_its_entries_waits_for_them() {
    let net = Net::new();
    let mut mirror = new_mirror();
    assert!(matches!(mirror.handle_publish(&net.certificate(&["h2", "h3"])), Ok(Published::Early)));
    for note in net.turns(0, &["h2", "h3"]) {
        assert!(matches!(mirror.handle_publish(&note), Ok(Published::Early)));
    }
    assert_eq!(mirror.certified_size(), 0);
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
    assert!(matches!(mirror.poll_early(), Some(Ok(Published::New(_)))));
    assert!(matches!(mirror.poll_early(), Some(Ok(Published::New(_)))));
    assert!(mirror.poll_early().is_none());
    assert_eq!(mirror.certified_size(), net.leaves.len() as u64);
}

#[test]
fn a_hospital_that_was_away_while_the_quorum_changed_three_times_needs_each_certificate() {
    let mut net = Net::new();
    let mut mirror = cosigned(&net);
    mirror.handle_publish(&net.certificate(&["h2", "h3"])).unwrap();
    let from = mirror.size();
    // Away: the quorum becomes h1 h2 h3 x1, then h2 x1 x2, then x1 alone.
    let mut certificates = Vec::new();
    for (validators, quorum, cosigners) in [
        (&["h1", "h2", "h3", "x1"][..], 3, &["h2", "h3", "x1"][..]),
        (&["h2", "x1", "x2"], 2, &["h2", "h3", "x1"]),
        (&["x1"], 1, &["h2", "x1"]),
    ] {
        let unknown = validators.iter().filter(|name| name.starts_with('x') && net.state().party(name).is_none());
        for name in unknown.copied().collect::<Vec<_>>() {
            net.enrol(name);
        }
        net.set_policy(validators, quorum);
        certificates.push(net.certificate(cosigners));
    }
    net.enrol("x3");
    // Back: the newest checkpoint alone is not enough, nor one certificate left out.
    mirror.handle_entries(from, net.leaves[from as usize..].to_vec()).unwrap();
    mirror.handle_cosign(net.now_ms, &net.cosign_body(from)).unwrap();
    let refusal = mirror.handle_publish(&net.certificate(&["x1"])).unwrap_err();
    assert!(refusal.words.contains("certificate/") && refusal.words.contains("missing"), "{refusal}");
    mirror.handle_publish(&certificates[0]).unwrap();
    assert!(mirror.handle_publish(&certificates[2]).is_err());
    for (at, certificate) in certificates.iter().enumerate().skip(1) {
        let Published::New(certified) = mirror.handle_publish(certificate).unwrap() else { panic!("not new: {at}") };
        // What was cosigned by those who left lies in the certificate, not in what is published.
        let (published, turned) = (certified.note.signatures().len(), certified.turn.unwrap().signatures().len());
        assert!(published < turned, "{published} {turned}");
    }
    assert!(matches!(mirror.handle_publish(&net.certificate(&["x1"])), Ok(Published::New(_))));
    assert_eq!(mirror.certified(), net.state());
}

/// A copy of the first `size` entries, cosigned, as a backup of the hospital's folder would have it.
fn backup(net: &Net, size: usize) -> Mirror {
    let note = signed_by_the_log(size as u64, root(&net.leaves[..size]));
    let mut mirror = new_mirror();
    mirror.handle_entries(0, net.leaves[..size].to_vec()).unwrap();
    let body = AddCheckpoint::new(0, vec![], note).unwrap().to_string();
    mirror.handle_cosign(net.now_ms, body.as_bytes()).unwrap();
    mirror
}

fn root(leaves: &[Vec<u8>]) -> [u8; 32] {
    let hashes: Vec<_> = leaves.iter().map(|leaf| leben_contracts::ledger::merkle::leaf_hash(leaf)).collect();
    leben_contracts::ledger::merkle::root_of(&hashes)
}

#[test]
fn a_witness_restored_from_a_backup_finds_its_own_cosignature_and_stops() {
    let net = Net::new();
    let size = net.leaves.len();
    let lines = {
        let mut mirror = new_mirror();
        mirror.handle_entries(0, net.leaves.clone()).unwrap();
        mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap().lines
    };
    let text = |lines: &[&str]| format!("{}{}", net.note.as_ref().unwrap(), lines.concat());
    let each: Vec<&str> = lines.split_inclusive('\n').collect();
    // The witness key's line or the validator key's line is enough; nobody else's is.
    for line in &each {
        let mut mirror = backup(&net, 3);
        let refusal = mirror.handle_publish(text(&[line]).as_bytes()).unwrap_err();
        assert!(refusal.words.contains(&format!("{size} entries, and this folder remembers only 3")), "{refusal}");
        let evidence = mirror.take_evidence().unwrap();
        assert!(evidence.contains(line) && evidence.contains(&format!("{ORIGIN}\n3\n")), "{evidence}");
        mirror.handle_entries(3, net.leaves[3..].to_vec()).unwrap();
        let not = mirror.handle_cosign(net.now_ms, &net.cosign_body(3)).unwrap_err();
        assert_eq!((not.size, not.mirror_size, &not.refusal), (3, 3, &refusal), "nothing is signed after it");
        assert!(mirror.handle_publish(text(&[line]).as_bytes()).is_err());
        assert!(mirror.take_evidence().is_none(), "kept once");
    }
    let mut forged = each[0].to_owned();
    let middle = forged.len() - 10;
    forged.replace_range(middle..=middle, if &forged[middle..=middle] == "A" { "B" } else { "A" });
    for others in [String::from_utf8(net.certificate(&["h2", "h3"])).unwrap(), text(&[&forged])] {
        let mut mirror = backup(&net, 3);
        assert!(matches!(mirror.handle_publish(others.as_bytes()), Ok(Published::Early)));
        assert!(mirror.halted().is_none());
    }
}

#[test]
fn a_lost_copy_is_fetched_again_under_the_record_that_remained() {
    let mut net = Net::new();
    let mut before = cosigned(&net);
    let size = net.leaves.len() as u64;
    let record = {
        let body = AddCheckpoint::new(size, vec![], net.note.clone().unwrap()).unwrap().to_string();
        before.handle_cosign(net.now_ms, body.as_bytes()).unwrap().record
    };
    let emptied = || Mirror::new(&log_vkey(), "h1", mirror_keys("h1"), Some(record.clone())).unwrap();
    assert_eq!((emptied().size(), emptied().signed_size()), (0, size));
    net.enrol("x1");

    // It says what it has signed and what it holds, and is asked accordingly: every entry, proven from the record.
    let mut mirror = emptied();
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    let not = mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap_err();
    assert_eq!((not.size, not.mirror_size), (size, 0));
    mirror.handle_entries(0, net.leaves.clone()).unwrap();
    let again = mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap();
    assert_eq!((again.size, again.entries.len()), (net.leaves.len() as u64, net.leaves.len()));
    turn(&net, &mut mirror);
    assert!(matches!(mirror.handle_publish(&net.certificate(&["h2", "h3"])), Ok(Published::New(_))));

    // A shorter log, or another one of any length, is not signed.
    let mut mirror = emptied();
    let short = signed_by_the_log(3, root(&net.leaves[..3]));
    for old in [3, size] {
        mirror.handle_entries(0, net.leaves[..3].to_vec()).unwrap();
        let body = AddCheckpoint::new(old, vec![], short.clone()).unwrap().to_string();
        assert_eq!(mirror.handle_cosign(net.now_ms, body.as_bytes()).unwrap_err().size, size);
    }
    let mut other = net.leaves.clone();
    other.swap(4, 5);
    mirror.handle_entries(0, other.clone()).unwrap();
    let body = AddCheckpoint::new(size, vec![], signed_by_the_log(other.len() as u64, root(&other))).unwrap();
    assert!(mirror.handle_cosign(net.now_ms, body.to_string().as_bytes()).is_err());
    assert_eq!(mirror.size(), 0);
    // Another tree of the very size that was signed is a fork, though not one entry is here to compare.
    let fork = signed_by_the_log(size, root(&other[..size as usize]));
    assert!(mirror.handle_publish(fork.to_string().as_bytes()).unwrap_err().words.contains("fork"));
    assert!(mirror.take_evidence().unwrap().contains(&fork.to_string()));
}

#[test]
fn a_lost_copy_is_taken_in_below_the_record_in_steps_and_signed_for_only_beyond_it() {
    let mut net = Net::new();
    let mut before = cosigned(&net);
    let size = net.leaves.len() as u64;
    let body = AddCheckpoint::new(size, vec![], net.note.clone().unwrap()).unwrap().to_string();
    let record = before.handle_cosign(net.now_ms, body.as_bytes()).unwrap().record;
    net.enrol("x1");
    let mut mirror = Mirror::new(&log_vkey(), "h1", mirror_keys("h1"), Some(record.clone())).unwrap();
    let step = |leaves: &[Vec<u8>]| {
        let note = signed_by_the_log(leaves.len() as u64, root(leaves));
        AddCheckpoint::new(0, vec![], note).unwrap().to_string().into_bytes()
    };
    // Ahead of their entries, the certificates wait, as ever.
    for note in net.turns(0, &["h2", "h3"]) {
        assert!(matches!(mirror.handle_publish(&note), Ok(Published::Early)));
    }
    for (from, to) in [(0, 4), (4, 7)] {
        mirror.handle_entries(from as u64, net.leaves[from..to].to_vec()).unwrap();
        let not = mirror.handle_cosign(net.now_ms, &step(&net.leaves[..to])).unwrap_err();
        assert_eq!((not.size, not.mirror_size), (size, to as u64));
        let (entries, note) = *not.taken_in.unwrap();
        assert_eq!((&entries[..], Checkpoint::of(&note).unwrap().size), (&net.leaves[from..to], to as u64));
        // Again, after a lost answer: nothing is left to take in, and it says where it is.
        let again = mirror.handle_cosign(net.now_ms, &step(&net.leaves[..to])).unwrap_err();
        assert_eq!((again.mirror_size, again.taken_in), (to as u64, None));
    }
    // Until it is the history that was signed, nobody believes it.
    assert!(mirror.poll_early().is_none());
    mirror.handle_entries(7, net.leaves[7..].to_vec()).unwrap();
    let signed = mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap();
    assert_eq!((signed.size, signed.entries.len()), (net.leaves.len() as u64, net.leaves.len() - 7));
    assert!(matches!(mirror.poll_early(), Some(Ok(Published::New(_)))));
    assert!(matches!(mirror.handle_publish(&net.certificate(&["h2", "h3"])), Ok(Published::New(_))));

    // Another history below the record, though the log signed it: what leads on from the record does not fit it, and nothing is signed.
    let other: Vec<Vec<u8>> = Net::empty()
        .leaves
        .into_iter()
        .chain([{
            let mut other = Net::empty();
            other.enrol("x2");
            other.leaves[1].clone()
        }])
        .collect();
    let mut mirror = Mirror::new(&log_vkey(), "h1", mirror_keys("h1"), Some(record)).unwrap();
    mirror.handle_entries(0, other.clone()).unwrap();
    assert!(mirror.handle_cosign(net.now_ms, &step(&other)).unwrap_err().taken_in.is_some());
    let shown = signed_by_the_log(2, root(&other)).to_string();
    assert!(matches!(mirror.handle_publish(shown.as_bytes()), Ok(Published::Early)));
    assert_eq!((mirror.poll_early().is_none(), mirror.certified_size()), (true, 0), "it acts on nothing of it");
    mirror.handle_entries(2, net.leaves[2..].to_vec()).unwrap();
    let not = mirror.handle_cosign(net.now_ms, &net.cosign_body(size)).unwrap_err();
    assert_eq!((not.size, not.mirror_size, not.taken_in), (size, 2, None));
    // A step that the log did not sign, or with other entries, or with one that breaks the rules, is not taken in.
    let mut twice = other.clone();
    twice.push(other[1].clone());
    let mut unsigned = String::from_utf8(step(&twice)).unwrap();
    unsigned.truncate(unsigned.trim_end().rfind('\n').unwrap() + 1);
    for (leaves, body) in
        [(&net.leaves[..3], step(&twice)), (&twice[..], unsigned.into_bytes()), (&twice[..], step(&twice))]
    {
        mirror.handle_entries(2, leaves[2..].to_vec()).unwrap();
        assert!(mirror.handle_cosign(net.now_ms, &body).unwrap_err().taken_in.is_none());
    }
    assert!(mirror.halted().unwrap().words.contains("breaks the ledger's rules"));
}
