use super::*;
use crate::ledger::key::PublicKey;
use crate::ledger::note::{KeyType, NoteSigner};
use ed25519_dalek::SigningKey;
use proptest::prelude::*;

fn vkey(name: &str, n: u8, kind: KeyType) -> VerifierKey {
    VerifierKey::new(name, kind, PublicKey::of(&SigningKey::from_bytes(&[n; 32]))).unwrap()
}

fn parse(text: &str) -> Result<Policy, PolicyError> {
    Policy::parse(text.as_bytes())
}

#[test]
fn the_threshold_is_the_design_tables() {
    for (n, f, k) in [(4, 1, 3), (7, 2, 5), (10, 3, 7), (3, 0, 2), (1, 0, 1), (5, 0, 3), (u32::MAX, u32::MAX, u32::MAX)]
    {
        assert_eq!(safe_threshold(n, f), k);
    }
}

#[test]
fn nested_groups_count_as_written() {
    let w: Vec<String> = (1..=6).map(|n| format!("witness w{n} {}\n", vkey("w", n, KeyType::Cosignature))).collect();
    let text = format!(
        "# two sets\n{}\n \tgroup x 2 w1 w2 w3\ngroup y any w4 w5 w6\ngroup both all x y\nquorum both\n",
        w.concat()
    );
    let policy = parse(&text).unwrap();
    assert!(policy.is_quorum(["w1", "w3", "w6"]));
    assert!(!policy.is_quorum(["w1", "w2", "w3"]));
    assert!(!policy.is_quorum(["w1", "w4", "w5"]));
    assert!(!policy.is_quorum(["x", "y", "both"]), "only witnesses sign");
    assert_eq!(parse(&policy.to_string()).unwrap(), policy);
}

#[test]
fn what_would_count_twice_or_never_is_refused() {
    let log = vkey("log", 1, KeyType::Ed25519);
    let (a, b) = (vkey("a", 2, KeyType::Cosignature), vkey("b", 3, KeyType::Cosignature));
    let good = format!("log {log}\nwitness A {a}\nwitness B {b}\ngroup g 2 A B\nquorum g\n");
    parse(&good).unwrap();
    let log_as_witness = vkey("c", 1, KeyType::Cosignature);
    let a_again = vkey("other-name", 2, KeyType::Cosignature);
    for (from, to) in [
        ("group g 2 A B", "group g 3 A B".to_owned()),
        ("group g 2 A B", "group g 0 A B".to_owned()),
        ("group g 2 A B", "group g 02 A B".to_owned()),
        ("group g 2 A B", "group g 2 A A".to_owned()),
        ("group g 2 A B", "group g 1 A\ngroup h 1 A".to_owned()),
        ("group g 2 A B", "group g 2 A C".to_owned()),
        ("group g 2 A B", "group A 2 A B".to_owned()),
        ("group g 2 A B", "group none 2 A B".to_owned()),
        ("quorum g\n", "quorum g\nquorum g\n".to_owned()),
        ("quorum g\n", String::new()),
        ("quorum g\n", "quorum g".to_owned()),
        ("quorum g\n", "quorum h\n".to_owned()),
        ("quorum g", "quorum g \u{1}".to_owned()),
        (&format!("witness B {b}"), format!("witness B {log_as_witness}")),
        (&format!("witness B {b}"), format!("witness B {a_again}")),
        (&format!("witness B {b}"), format!("witness B {}", vkey("d", 9, KeyType::Ed25519))),
        (&format!("log {log}"), format!("log {}", vkey("l", 8, KeyType::Cosignature))),
    ] {
        let bad = good.replace(from, &to);
        assert_ne!(bad, good);
        assert!(parse(&bad).is_err(), "{bad}");
    }
}

#[test]
fn an_observer_is_shown_and_never_counted() {
    let log = vkey("log", 1, KeyType::Ed25519);
    let hospitals: Vec<_> = (2..6).map(|n| vkey(&format!("h{n}"), n, KeyType::Cosignature)).collect();
    let policy = Policy::k_of_n(&log, &hospitals, 3).unwrap();
    let outside = vkey("university.example/witness", 9, KeyType::Cosignature);
    let wider = policy.with_observers([&outside]);
    assert_eq!(wider.observers().collect::<Vec<_>>(), [&outside]);
    assert_eq!(parse(&wider.to_string()).unwrap(), wider, "it is written and read like any other");
    assert_eq!(wider.without_observers(), policy);
    assert!(!wider.is_quorum(["h2", "h3", "university.example/witness"]));
    assert!(wider.is_quorum(["h2", "h3", "h4"]));
    // What is listed already stays what it is: a hospital's key, its name, the log's key, the name of a group.
    let taken = [
        vkey("other", 2, KeyType::Cosignature),
        vkey("h3", 10, KeyType::Cosignature),
        vkey("other", 1, KeyType::Cosignature),
        vkey("hospitals", 11, KeyType::Cosignature),
        vkey("none", 12, KeyType::Cosignature),
        vkey("other", 13, KeyType::Ed25519),
    ];
    assert_eq!(policy.with_observers(&taken), policy);
    assert_eq!(wider.with_observers([&outside]), wider);
    // A witness with another name than its key's, or with an address, holds bytes that nothing else vouches for.
    let text = wider.to_string();
    let renamed = text.replacen("witness university", "witness college", 1);
    assert_eq!(parse(&renamed).unwrap().observers().count(), 0);
    let addressed = text.replace(&format!("{outside}"), &format!("{outside} http://x"));
    assert_eq!(parse(&addressed).unwrap().observers().count(), 0);
}

/// Around a change of the log's key a reader's policy names both; two logs may share a policy, too.
#[test]
fn every_key_of_a_log_is_tried_and_every_line_by_one_has_to_verify() {
    let signer = |name: &str, n, kind| NoteSigner::new(name, kind, SigningKey::from_bytes(&[n; 32])).unwrap();
    let (old, new) = (signer("log", 1, KeyType::Ed25519), signer("log", 2, KeyType::Ed25519));
    let other = signer("elsewhere", 3, KeyType::Ed25519);
    let text = format!("log {}\nlog {}\nlog {}\nquorum none\n", old.vkey(), new.vkey(), other.vkey());
    let policy = parse(&text).unwrap();
    let note = |signers: &[&NoteSigner]| {
        let mut note = Note::new(Checkpoint::new("log", 1, [7; 32]).to_string()).unwrap();
        signers.iter().for_each(|signer| note.push(signer.sign(note.text(), 0)).unwrap());
        note
    };
    let check = |note: &Note| policy.evaluate(note, UnknownSigners::Refuse);
    for signers in [&[&old][..], &[&new], &[&old, &new]] {
        assert!(check(&note(signers)).is_ok());
    }
    let mut forged = note(&[&new]);
    forged.push(SignatureLine { id: old.vkey().id(), ..new.sign("other\n", 0) }).unwrap();
    assert!(matches!(check(&forged), Err(PolicyError::Signature(NoteError::Signature(_)))));
    assert!(matches!(check(&note(&[&new, &other])), Err(PolicyError::UnknownSigner(_))), "nobody verified its line");
    assert!(matches!(check(&note(&[&other])), Err(PolicyError::Signature(NoteError::Missing(_)))));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(text in "(log|witness|group|quorum|[a-z0-9 \n\t#+])*\n") {
        let _ = parse(&text);
    }
}
