use super::*;
use crate::ledger::canonical::CanonicalError;
use proptest::prelude::*;
use serde_json::json;

fn action() -> Action {
    Action {
        v: 1,
        kind: "Propose".into(),
        network: origin_hash("ledger.example/test"),
        contract: Some("c1".into()),
        terms_version: None,
        prev: None,
        actor: "hospital-a".into(),
        role: "owner".into(),
        not_before_ms: 1,
        not_after_ms: 2,
        nonce: "00112233445566778899aabbccddeeff".into(),
        body: json!({"b": 1, "a": ["x", null]}),
    }
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

#[test]
fn signed_by_two_and_parsed_again() {
    let (a, b) = (key(1), key(2));
    let mut envelope = Envelope::sign(&action(), &[&a]).unwrap();
    envelope.countersign(&b).unwrap();
    let entry = Entry::new(envelope.clone(), 77).unwrap();
    let again = Entry::parse(entry.bytes()).unwrap();
    assert_eq!(again, entry);
    assert_eq!(Envelope::parse(&envelope.to_bytes()).unwrap(), envelope);
    let keys = [PublicKey::of(&a), PublicKey::of(&b)];
    again.envelope().verify(&keys).unwrap();
    assert!(matches!(again.envelope().verify(&keys[..1]), Err(EntryError::UnknownKey { .. })));
    let three = [keys[0], keys[1], PublicKey::of(&key(3))];
    assert!(matches!(again.envelope().verify(&three), Err(EntryError::Unsigned { .. })));
    let text = std::str::from_utf8(envelope.payload()).unwrap();
    assert!(text.starts_with(r#"{"actor":"hospital-a","body":{"a":["x",null],"b":1},"contract":"c1","#), "{text}");
}

#[test]
fn the_pre_authentication_encoding_is_dsse() {
    let want = format!("DSSEv1 {} {PAYLOAD_TYPE} 5 hello", 37);
    assert_eq!(pre_authentication(b"hello"), want.into_bytes());
}

#[test]
fn the_payload_hash_ignores_signatures_only() {
    let one = Envelope::sign(&action(), &[&key(1)]).unwrap();
    let two = Envelope::sign(&action(), &[&key(2)]).unwrap();
    assert_eq!(one.payload_hash(), two.payload_hash());
    let other = Action { nonce: "f".repeat(32), ..action() };
    assert_ne!(Envelope::sign(&other, &[&key(1)]).unwrap().payload_hash(), one.payload_hash());
}

#[test]
fn every_flipped_bit_is_refused() {
    let k = key(1);
    let envelope = Envelope::sign(&action(), &[&k]).unwrap();
    let bytes = envelope.to_bytes();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << bit;
            let taken = Envelope::parse(&bad).is_ok_and(|e| e.verify(&[PublicKey::of(&k)]).is_ok());
            assert!(!taken, "byte {i} bit {bit}");
        }
    }
}

#[test]
fn fields_out_of_range_are_named() {
    let refused = |a: Action, name: &str| {
        let error = Envelope::sign(&a, &[&key(1)]).unwrap_err();
        assert!(matches!(error, EntryError::Field { field, .. } if field == name), "{name}: {error}");
    };
    refused(Action { v: 2, ..action() }, "v");
    refused(Action { kind: String::new(), ..action() }, "kind");
    refused(Action { network: "AB".repeat(32), ..action() }, "network");
    refused(Action { prev: Some("x".into()), ..action() }, "prev");
    refused(Action { actor: "two words".into(), ..action() }, "actor");
    refused(Action { not_before_ms: 3, ..action() }, "not_before_ms");
    refused(Action { nonce: "00".into(), ..action() }, "nonce");
    refused(Action { body: json!([]), ..action() }, "body");
    assert!(matches!(Envelope::sign(&action(), &[]), Err(EntryError::Field { field: "signatures", .. })));
    assert!(matches!(
        Envelope::sign(&action(), &[&key(1), &key(1)]),
        Err(EntryError::Field { field: "signatures", .. })
    ));
    let big = Action { body: json!({"x": "y".repeat(ENTRY_BYTES_MAX)}), ..action() };
    assert!(matches!(Envelope::sign(&big, &[&key(1)]), Err(EntryError::TooLarge { .. })));
}

#[test]
fn a_leaf_of_one_byte_too_many_is_refused() {
    let leaf = vec![b' '; ENTRY_BYTES_MAX + 1];
    let want = CanonicalError::TooLarge { bytes: ENTRY_BYTES_MAX + 1, bytes_max: ENTRY_BYTES_MAX };
    assert_eq!(Entry::parse(&leaf), Err(EntryError::Canonical(want)));
}

#[test]
fn nulls_and_unknown_fields_are_refused() {
    let k = key(1);
    let envelope = Envelope::sign(&Action { contract: None, ..action() }, &[&k]).unwrap();
    let text = String::from_utf8(envelope.payload().to_vec()).unwrap();
    for edited in
        [text.replace(r#","kind""#, r#","contract":null,"kind""#), text.replace(r#","kind""#, r#","extra":1,"kind""#)]
    {
        let json = format!(
            r#"{{"payload":"{}","payloadType":"{PAYLOAD_TYPE}","signatures":[{{"keyid":"{}","sig":"{}"}}]}}"#,
            BASE64.encode(&edited),
            PublicKey::of(&k).keyid(),
            BASE64.encode(k.sign(&pre_authentication(edited.as_bytes())).to_bytes())
        );
        assert!(matches!(Envelope::parse(json.as_bytes()), Err(EntryError::Payload(_))), "{edited}");
    }
}

prop_compose! {
    fn any_action()(
        names in prop::collection::vec("[!-~]{1,128}", 3),
        (contract, prev) in (prop::option::of("[!-~]{1,128}"), prop::option::of("[0-9a-f]{64}")),
        (kind, network, nonce) in ("[a-zA-Z0-9]{1,32}", "[0-9a-f]{64}", "[0-9a-f]{32}"),
        (terms_version, begin, end) in (any::<Option<u32>>(), 0..=1u64 << 53, 0..=1u64 << 53),
        fields in prop::collection::btree_map(any::<String>(), any::<(String, i32)>(), 0..4),
    ) -> Action {
        let (not_before_ms, not_after_ms) = (begin.min(end), begin.max(end));
        let [actor, role, _] = <[String; 3]>::try_from(names).unwrap();
        let body = json!(fields);
        Action { v: 1, kind, network, contract, terms_version, prev, actor, role, not_before_ms, not_after_ms, nonce, body }
    }
}

proptest! {
    /// The oracle is the general encoder, which sorts. What is written field by field must agree, or every action is read twice.
    #[test]
    fn actions_are_written_in_the_order_of_their_names(action in any_action()) {
        prop_assert_eq!(action.encode(), canonical::to_bytes(&action));
    }

    /// The oracle writes the envelope and the entry anew, base64 included; whatever is taken is exactly that.
    #[test]
    fn what_is_taken_is_what_would_be_written(action in any_action(), at in any::<prop::sample::Index>(), with in any::<u8>(), seq_ms in 0..=1u64 << 53) {
        let envelope = Envelope::sign(&action, &[&key(1), &key(2)]).unwrap();
        let entry = Entry::new(envelope.clone(), seq_ms).unwrap();
        let mut bytes = envelope.to_bytes();
        prop_assert_eq!(Envelope::parse(&bytes).unwrap(), envelope);
        prop_assert_eq!(Entry::parse(entry.bytes()).unwrap(), entry.clone());
        prop_assert_eq!(entry.leaf_hash(), leaf_hash(entry.bytes()));
        let place = at.index(bytes.len());
        bytes[place] = with;
        if let Ok(taken) = Envelope::parse(&bytes) {
            prop_assert_eq!(taken.to_bytes(), bytes.clone());
            prop_assert_eq!(taken.payload_hash(), domain_hash(b"leben/payload/1", taken.payload()));
        }
        bytes.remove(place);
        prop_assert!(Envelope::parse(&bytes).is_err());
        let mut leaf = entry.bytes().to_vec();
        let place = at.index(leaf.len());
        leaf[place] = with;
        if let Ok(taken) = Entry::parse(&leaf) {
            let again = Entry::new(taken.envelope().clone(), taken.seq_ms()).unwrap();
            prop_assert_eq!(again.bytes(), leaf.as_slice());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Entry::parse(&bytes);
        let _ = Envelope::parse(&bytes);
    }
}
