use super::*;
use proptest::prelude::*;

fn signer(kind: KeyType) -> NoteSigner {
    NoteSigner::new("log.example/a", kind, SigningKey::from_bytes(&[5; 32])).unwrap()
}

#[test]
fn signed_parsed_verified_and_every_flip_refused() {
    let (log, witness) = (signer(KeyType::Ed25519), signer(KeyType::Cosignature));
    let mut note = Note::new("log.example/a\n1\nAAAA\n".into()).unwrap();
    note.push(log.sign(note.text(), 0)).unwrap();
    note.push(witness.sign(note.text(), 7)).unwrap();
    let bytes = note.to_string().into_bytes();
    let verify = |bytes: &[u8]| -> Result<(), NoteError> {
        let note = Note::parse(bytes)?;
        note.verify(log.vkey())?;
        assert_eq!(note.verify(witness.vkey())?.time_s, Some(7));
        Ok(())
    };
    verify(&bytes).unwrap();
    for i in 0..bytes.len() {
        for bit in 0..8 {
            let mut bad = bytes.clone();
            bad[i] ^= 1 << bit;
            assert!(verify(&bad).is_err(), "byte {i} bit {bit}");
        }
    }
}

#[test]
fn the_two_kinds_of_key_do_not_stand_for_each_other() {
    let (log, witness) = (signer(KeyType::Ed25519), signer(KeyType::Cosignature));
    let mut note = Note::new("t\n".into()).unwrap();
    note.push(log.sign(note.text(), 0)).unwrap();
    assert_eq!(note.verify(witness.vkey()), Err(NoteError::Missing("log.example/a".into())));
    let forged = SignatureLine { id: witness.vkey().id(), ..log.sign("t\n", 0) };
    assert_eq!(witness.vkey().verify("t\n", &forged), Err(NoteError::Signature("log.example/a".into())));
}

#[test]
fn a_cosignature_s_time_is_positive_in_64_signed_bits() {
    let witness = signer(KeyType::Cosignature);
    let verifies = |time_s| witness.vkey().verify("t\n", &witness.sign("t\n", time_s)).is_ok();
    assert_eq!([0, 1, u64::MAX >> 1, 1 << 63, u64::MAX].map(verifies), [false, true, true, false, false]);
}

#[test]
fn vkeys_have_one_spelling() {
    let vkey = signer(KeyType::Cosignature).vkey().clone();
    let text = vkey.to_string();
    assert_eq!(VerifierKey::parse(&text).unwrap(), vkey);
    assert!(VerifierKey::parse(&text.replace("log.example", "lag.example")).is_err());
    assert!(VerifierKey::parse(&format!("{text} ")).is_err());
    assert!(VerifierKey::parse("a+b").is_err());
    assert!(VerifierKey::new("a b", KeyType::Ed25519, *vkey.key()).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[\\PC\n—]{0,60}") {
        let _ = Note::parse(&bytes);
        if let Ok(note) = Note::parse(text.as_bytes()) {
            prop_assert_eq!(note.to_string(), text.clone());
        }
        let _ = VerifierKey::parse(&text);
        let _ = SignatureLine::parse(&text);
    }
}
