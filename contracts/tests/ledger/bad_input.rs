//! What a log must not hold, as an admin meets it: a published folder that is signed and cosigned as it should be, with one entry that nobody
//! should have let in. Each has a reason of its own, and the message says at which entry.

use crate::support::*;
use leben_contracts::ledger::canonical::DEPTH_MAX;
use leben_contracts::ledger::entry::{ENTRY_BYTES_MAX, Entry, Envelope};
use leben_contracts::ledger::tile::Builder;
use leben_contracts::verify::{Options, VerifyError, verify_folder};
use std::fs;
use std::path::Path;

/// Publishes these leaves under a checkpoint of the log and three witnesses, whatever is in them.
fn publish(public: &Path, leaves: &[Vec<u8>]) {
    let mut builder = Builder::default();
    leaves.iter().for_each(|leaf| builder.append(leaf.clone()).unwrap());
    let note = cosign(&checkpoint_note(builder.tree().size(), builder.tree().root()), &[0, 1, 2], NOW_MS / 1000);
    for file in builder.take_files() {
        let path = public.join(file.path.to_string());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, file.bytes).unwrap();
    }
    fs::write(public.join("checkpoint"), note.to_string()).unwrap();
}

fn verify(leaves: &[Vec<u8>]) -> Result<u64, VerifyError> {
    let dir = tempfile::tempdir().unwrap();
    publish(dir.path(), leaves);
    let mut names = Names::default();
    let options = Options { policy: Some(policy()), replay: Some(&mut names), ..Options::default() };
    verify_folder(dir.path(), options).map(|report| report.replayed)
}

fn leaf(name: &str) -> Vec<u8> {
    let envelope = Envelope::sign(&action(name), &[&key(9)]).unwrap();
    Entry::new(envelope, NOW_MS).unwrap().bytes().to_vec()
}

/// A leaf whose action is this text, signed as it stands.
fn around(payload: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    use ed25519_dalek::Signer as _;
    let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let signature = key(9).sign(&leben_contracts::ledger::entry::pre_authentication(payload));
    let keyid = leben_contracts::ledger::key::PublicKey::of(&key(9)).keyid();
    format!(
        r#"{{"envelope":{{"payload":"{}","payloadType":"{}","signatures":[{{"keyid":"{keyid}","sig":"{}"}}]}},"seq_ms":{NOW_MS},"v":1}}"#,
        encode(payload),
        leben_contracts::ledger::entry::PAYLOAD_TYPE,
        encode(&signature.to_bytes())
    )
    .into_bytes()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The second of three entries is this one; it is refused as malformed, by its index and with these words.
#[track_caller]
fn refused(bad: Vec<u8>, words: &str) {
    let error = verify(&[leaf("a"), bad, leaf("c")]).expect_err(words);
    let message = error.to_string();
    assert_eq!(error.exit_code(), 2, "{message}");
    assert!(message.starts_with("malformed: entry 1: ") && message.contains(words), "{words}: {message}");
}

#[test]
fn an_entry_of_32_kib_and_a_byte() {
    let longest =
        (20_000..ENTRY_BYTES_MAX).rev().find_map(|n| Envelope::sign(&action(&"x".repeat(n)), &[&key(9)]).ok());
    let fits = Entry::new(longest.unwrap(), NOW_MS).unwrap().bytes().to_vec();
    assert!(fits.len() > ENTRY_BYTES_MAX - 64, "{}", fits.len());
    assert_eq!(verify(&[leaf("a"), fits.clone(), leaf("c")]), Ok(3));
    // As long as it must not be, whatever is in it.
    let mut bad = fits;
    bad.resize(ENTRY_BYTES_MAX + 1, b' ');
    refused(bad, "the JSON is 32769 bytes, the limit here is 32768");
}

#[test]
fn json_that_is_not_the_one_spelling_of_an_entry() {
    let good = text(&leaf("b"));
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        good.replacen(from, to, 1).into_bytes()
    };
    let tail = format!(r#""seq_ms":{NOW_MS},"v":1}}"#);
    refused(edit(&tail, &format!(r#""seq_ms":{NOW_MS},"v":1,"v":1}}"#)), r#"the key "v" appears twice"#);
    refused(edit(&tail, r#""seq_ms":9007199254740993,"v":1}"#), "9007199254740993 is not a plain integer within ±2^53");
    refused(edit(&tail, r#""seq_ms":99999999999999999999999,"v":1}"#), "is not a plain integer within ±2^53");
    refused(edit(&tail, r#""seq_ms":-0,"v":1}"#), "the number -0 is not a plain integer");
    refused(edit(&tail, r#""seq_ms":1.0,"v":1}"#), "the number 1 is not a plain integer");
    refused(edit(&tail, r#""seq_ms":1e3,"v":1}"#), "the number 1000 is not a plain integer");
    refused(edit(&tail, r#""seq_ms":-1,"v":1}"#), "does not fit");
    refused(edit(&tail, r#""seq_ms":01,"v":1}"#), "not JSON: ");
    refused(edit(&tail, r#""seq_ms":NaN,"v":1}"#), "not JSON: ");
    refused(edit(&tail, &format!(r#""v":1,"seq_ms":{NOW_MS}}}"#)), "not canonical (RFC 8785) from byte");
    refused(edit("{\"envelope\"", "{ \"envelope\""), "not canonical (RFC 8785) from byte 1");
    refused([good.as_bytes(), b"\n"].concat(), "not canonical (RFC 8785) from byte");
    refused(edit("\"seq_ms\"", "\"\\u0073eq_ms\""), "not canonical (RFC 8785) from byte");
    refused(edit("\"v\":1", "\"v\":1,\"w\":null"), "unknown field `w`");
    refused(edit("\"v\":1", "\"v\":2"), "this program is older than the log");
    refused(edit("\"keyid\":\"", "\"keyid\":\"\\ud800 "), "not JSON: unexpected end of hex escape");
    refused([&b"\xef\xbb\xbf"[..], good.as_bytes()].concat(), "byte order mark");
    refused([good.as_bytes(), b"{}"].concat(), "not JSON: ");
    refused(good.as_bytes()[..good.len() - 1].to_vec(), "not JSON: ");
    refused(Vec::new(), "not JSON: ");
    let mut bytes = good.clone().into_bytes();
    bytes[30] = 0xff;
    refused(bytes, "not JSON: byte 30 is not UTF-8");
    refused(b"LBE1 a record of some other log".to_vec(), "not JSON: ");
    let deep = format!("{}{}", "[".repeat(DEPTH_MAX + 1), "]".repeat(DEPTH_MAX + 1));
    refused(deep.into_bytes(), "nested deeper than 32 levels");
}

/// The same inside the signed bytes: the signature over them is good, and they are refused all the same.
#[test]
fn an_action_that_is_not_the_one_spelling_of_itself() {
    let entry = Entry::parse(&leaf("b")).unwrap();
    let good = text(entry.envelope().payload());
    assert_eq!(around(good.as_bytes()), entry.bytes(), "this test signs as the product does");
    let edit = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        around(good.replacen(from, to, 1).as_bytes())
    };
    let name = r#"{"name":"b"}"#;
    refused(edit(name, r#"{"name":"b","name":"c"}"#), r#"the signed action in it: the key "name" appears twice"#);
    refused(
        edit(name, r#"{"name":9007199254740993}"#),
        "the signed action in it: the number 9007199254740993 is not a plain integer within ±2^53",
    );
    refused(edit(name, r#"{"name":0.1}"#), "0.1 is not a plain integer within ±2^53");
    refused(edit(name, r#"{"name": "b"}"#), "not canonical (RFC 8785) from byte");
    refused(edit(name, r#"{"name":"\u0062"}"#), "not canonical (RFC 8785) from byte");
    refused(edit(name, r#"{"name":"\/"}"#), "not canonical (RFC 8785) from byte");
    refused(edit(name, r#"{"name":"\udc00"}"#), "not JSON: ");
    refused(edit(name, r#"{"b":1,"a":1}"#), "not canonical (RFC 8785) from byte");
    refused(edit(r#""body""#, r#""contract":null,"body""#), "not canonical (RFC 8785) from byte");
    refused(edit(r#""nonce":"0"#, r#""nonce":"F"#), "`nonce`");
    refused(edit(r#""network":""#, r#""network":"00"#), "`network`");
    refused(edit(name, "[]"), "`body`");
}

#[test]
fn an_envelope_with_another_type_or_too_many_signatures() {
    let good = text(&leaf("b"));
    refused(good.replace("action+json;v=1", "action+json;v=2").into_bytes(), "`payloadType`");
    refused(good.replace("\"payload\":\"", "\"payload\":\"=").into_bytes(), "`payload`");
    let signature = &good[good.find("[{").unwrap() + 1..good.find("}]").unwrap() + 1];
    refused(good.replace(signature, &format!("{signature},{signature}")).into_bytes(), "by different keys");
    refused(good.replace(signature, "").into_bytes(), "`signatures`");
    refused(good.replace("\"sig\":\"", "\"sig\":\"A").into_bytes(), "`sig`");
}
