//! `deploy/read_ledger.py`: somebody who has none of our code reads a ledger with nothing but Python 3, and sees what is wrong with it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use leben_contracts::agreement::body::{DatasetOffer, Heartbeat, KeyRevoke, KeyRotate};
use leben_contracts::agreement::due::Header;
use leben_contracts::agreement::party::Role;
use leben_contracts::ledger::entry::{Action, Entry, Envelope, origin_hash};
use leben_contracts::ledger::key::PublicKey;
use leben_contracts::ledger::note::{KeyType, NoteSigner, VerifierKey};
use leben_contracts::ledger::policy::Policy;
use support::{HOSPITALS, ORIGIN, World, code, heart, id, key, note, publish, sealing};

/// A ledger on which one hospital has changed its keys and another has given up its own.
fn world() -> World {
    let mut world = World::new();
    let mut keys = world.state.keys("cleveland").unwrap().clone();
    keys.party = PublicKey::of(&key("cleveland", "party-2"));
    let rotate = KeyRotate { keys, sealing: sealing("cleveland") };
    let action = draft(&world, "cleveland", rotate.into());
    world.push(Envelope::sign(&action, &[&key("cleveland", "party"), &key("cleveland", "party-2")]).unwrap());
    let offer = DatasetOffer { rows_rounded: 300, ..heart() };
    let action = draft(&world, "cleveland", offer.into());
    world.push(Envelope::sign(&action, &[&key("cleveland", "party-2")]).unwrap());
    world.act("team", None, KeyRevoke { party: id("team"), code: code("key_lost") });
    world
}

fn draft(world: &World, actor: &str, body: leben_contracts::agreement::body::Body) -> Action {
    let party = id(actor);
    let nonce = (u128::from(world.state.next_index()) << 64).to_be_bytes();
    let header = Header { actor: &party, role: Role::DataOwner, now_ms: world.now_ms, valid_ms: 3_600_000, nonce };
    world.state.draft(&body, None, &header).unwrap()
}

/// A heartbeat that nobody's state machine has seen, signed with any key.
fn heartbeat(world: &World, actor: &str, use_of: &str, network: &str) -> Vec<u8> {
    let action = Action { network: network.into(), ..draft(world, "va", Heartbeat {}.into()) };
    let action = Action { actor: actor.into(), ..action };
    let envelope = Envelope::sign(&action, &[&key(actor, use_of)]).unwrap();
    Entry::new(envelope, world.now_ms).unwrap().bytes().to_vec()
}

struct Published {
    dir: tempfile::TempDir,
}

impl Published {
    fn new(leaves: &[Vec<u8>], policy: &Policy) -> Published {
        let dir = tempfile::tempdir().unwrap();
        publish(leaves, None, &dir.path().join("ledger"), &dir.path().join("state"), &HOSPITALS[..3]);
        fs::write(dir.path().join("policy"), policy.to_string()).unwrap();
        Published { dir }
    }
    fn ledger(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }
    /// Whether it is verified, and what it says.
    fn read(&self) -> (bool, String) {
        read(self.ledger().to_str().unwrap(), &self.dir.path().join("policy"))
    }
}

fn read(ledger: &str, policy: &Path) -> (bool, String) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/read_ledger.py");
    let ran = Command::new("python3").arg("-B").arg(script).arg(ledger).arg(policy).output().expect("needs python3");
    let (out, error) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(!error.contains("Traceback"), "{error}");
    (ran.status.success(), out + &error)
}

#[test]
fn a_good_ledger_is_printed_entry_by_entry() {
    let world = world();
    let published = Published::new(&world.leaves, &world.state.witness_policy().unwrap());
    let (ok, text) = published.read();
    assert!(ok, "{text}");
    assert_eq!(text.lines().count(), world.leaves.len() + 1, "{text}");
    let words = |line: usize| text.lines().nth(line).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(words(0), "0 2027-01-15 08:00:00 Genesis - coordinator");
    assert_eq!(words(1), "1 2027-01-15 08:00:00 PartyEnrol - cleveland coordinator");
    let size = world.leaves.len();
    assert!(words(size - 3).ends_with("KeyRotate - cleveland cleveland"), "{text}");
    assert_eq!(
        words(size),
        format!("verified: {size} entries of {ORIGIN}, cosigned by cleveland, hungarian, switzerland")
    );
}

#[test]
fn a_web_server_with_static_files_is_enough() {
    let world = world();
    let published = Published::new(&world.leaves, &world.state.witness_policy().unwrap());
    let (listener, root) = (TcpListener::bind("127.0.0.1:0").unwrap(), published.ledger());
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(Result::unwrap);
            let path = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
            lines.find(String::is_empty);
            let answer = match fs::read(root.join(path.trim_start_matches('/'))) {
                Ok(body) => [&b"HTTP/1.0 200 OK\r\n\r\n"[..], &body].concat(),
                Err(_) => b"HTTP/1.0 404 Not Found\r\n\r\n".to_vec(),
            };
            let _ = stream.write_all(&answer);
        }
    });
    let (ok, text) = read(&address, &published.dir.path().join("policy"));
    assert!(ok && text.contains("verified: "), "{text}");
}

#[test]
fn a_flipped_bit_a_cut_and_a_longer_file_are_seen() {
    let world = world();
    let published = Published::new(&world.leaves, &world.state.witness_policy().unwrap());
    let size = world.leaves.len();
    for name in ["checkpoint".to_owned(), format!("tile/0/000.p/{size}"), format!("tile/entries/000.p/{size}")] {
        let path = published.ledger().join(&name);
        let good = fs::read(&path).unwrap();
        let mut bad = vec![good[..good.len() - 1].to_vec(), [&good[..], b"x"].concat(), Vec::new()];
        for step in 0..8 {
            let mut flipped = good.clone();
            flipped[(good.len() - 1) * step / 7] ^= 1 << step;
            bad.push(flipped);
        }
        for bytes in bad {
            fs::write(&path, &bytes).unwrap();
            let (ok, text) = published.read();
            assert!(!ok && text.contains("not verified"), "{name}: {text}");
        }
        fs::write(&path, good).unwrap();
    }
    assert!(published.read().0);
}

/// The log and the hospitals have signed these; the entries are wrong all the same.
#[test]
fn an_entry_by_a_key_that_is_not_in_force_is_named() {
    let world = world();
    let (policy, size) = (world.state.witness_policy().unwrap(), world.leaves.len());
    let network = origin_hash(ORIGIN);
    let never = PublicKey::of(&key("va", "never")).keyid();
    for (leaf, why) in [
        (heartbeat(&world, "va", "party", &network), String::new()),
        (heartbeat(&world, "va", "never", &network), format!("signed by the key {}, which is nobody's", &never[..16])),
        (heartbeat(&world, "cleveland", "party", &network), "which is nobody's".to_owned()),
        (heartbeat(&world, "team", "party", &network), "which is nobody's".to_owned()),
        (heartbeat(&world, "va", "party", &origin_hash("other")), "was signed for another ledger".to_owned()),
    ] {
        let leaves = [&world.leaves[..], &[leaf]].concat();
        let (ok, text) = Published::new(&leaves, &policy).read();
        assert_eq!(ok, why.is_empty(), "{text}");
        assert!(ok || (text.contains(&why) && text.contains(&format!("entry {size}"))), "{why}: {text}");
    }
    // Another's signature under one's name: the envelope of a hospital, edited.
    let mut leaf = String::from_utf8(heartbeat(&world, "va", "party", &network)).unwrap();
    let at = leaf.find("\"sig\":\"").unwrap() + 20;
    let other = if leaf.as_bytes()[at] == b'A' { "B" } else { "A" };
    leaf.replace_range(at..=at, other);
    let (ok, text) = Published::new(&[&world.leaves[..], &[leaf.into_bytes()]].concat(), &policy).read();
    assert!(!ok && text.contains("the signature by va does not verify"), "{text}");
}

#[test]
fn too_few_hospitals_and_strangers_are_named() {
    let world = world();
    let published = Published::new(&world.leaves, &world.state.witness_policy().unwrap());
    fs::write(published.ledger().join("checkpoint"), note(&world.leaves, &HOSPITALS[..2]).to_string()).unwrap();
    let (ok, text) = published.read();
    assert!(!ok && text.contains("only ['cleveland', 'hungarian'] cosigned it"), "{text}");
    let policy = published.dir.path().join("policy");
    let log =
        |name| VerifierKey::new(name, KeyType::Ed25519, PublicKey::of(&key("coordinator", "log"))).unwrap().to_string();
    let other = fs::read_to_string(&policy).unwrap().replace(&log(ORIGIN), &log("other.test/heart"));
    fs::write(policy, other).unwrap();
    let (ok, text) = published.read();
    assert!(!ok && text.contains("the policy lists no signer leben.test/heart"), "{text}");
}

/// A leaf whose payload and payload type are any text, signed in DSSE's way by these keys of a party.
fn leaf(payload: &str, payload_type: &str, keys: &[(&str, &str)]) -> Vec<u8> {
    use base64::Engine as _;
    let text = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
    let message = format!("DSSEv1 {} {payload_type} {} {payload}", payload_type.len(), payload.len());
    let sign = |(name, use_of): &(&str, &str)| {
        let key = key(name, use_of);
        let sig = ed25519_dalek::Signer::sign(&key, message.as_bytes());
        format!(r#"{{"keyid":"{}","sig":"{}"}}"#, PublicKey::of(&key).keyid(), text(&sig.to_bytes()))
    };
    let signatures: Vec<String> = keys.iter().map(sign).collect();
    let (payload, signatures) = (text(payload.as_bytes()), signatures.join(","));
    format!(
        r#"{{"envelope":{{"payload":"{payload}","payloadType":"{payload_type}","signatures":[{signatures}]}},"seq_ms":{},"v":1}}"#,
        support::T0
    )
    .into_bytes()
}

#[test]
fn what_our_programs_refuse_in_an_entry_is_refused_here() {
    const TYPE: &str = "application/vnd.leben.action+json;v=1";
    let world = world();
    let policy = world.state.witness_policy().unwrap();
    let payload = |action: &Action| {
        String::from_utf8(Envelope::sign(action, &[&key("va", "party")]).unwrap().payload().to_vec()).unwrap()
    };
    let beat = payload(&Action { actor: "va".into(), ..draft(&world, "va", Heartbeat {}.into()) });
    let mut keys = world.state.keys("va").unwrap().clone();
    keys.party = PublicKey::of(&key("va", "party-2"));
    let rotate = payload(&draft(&world, "va", KeyRotate { keys, sealing: sealing("va") }.into()));
    let (old, new) = (("va", "party"), ("va", "party-2"));
    let with = |body: &str| beat.replacen(r#""body":{}"#, &format!(r#""body":{body}"#), 1);
    assert_ne!(with("1"), beat);
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for (leaf, why) in [
        (leaf(&beat, TYPE, &[old]), ""),
        (leaf(&rotate, TYPE, &[old, new]), ""),
        (leaf(&rotate, TYPE, &[new]), "va acts and has not signed"),
        (leaf(&rotate, TYPE, &[old]), "the key that it brings has not signed"),
        (leaf(&beat, TYPE, &[]), "va acts and has not signed"),
        (leaf(&beat, "text/plain", &[old]), "does not verify"),
        (leaf(&with(r#"{"x":1.5}"#), TYPE, &[old]), "the number 1.5"),
        (leaf(&with(r#"{"x":NaN}"#), TYPE, &[old]), "the number NaN"),
        (leaf(&with(r#"{"x":9007199254740993}"#), TYPE, &[old]), "the number 9007199254740993"),
        (leaf(&with(&deep), TYPE, &[old]), "RecursionError"),
    ] {
        let leaves = [&world.leaves[..], &[leaf]].concat();
        let (ok, text) = Published::new(&leaves, &policy).read();
        assert_eq!(ok, why.is_empty(), "{why}: {text}");
        assert!(text.contains(why), "{why}: {text}");
    }
    // Longer by its own word than the file is.
    let published = Published::new(&world.leaves, &policy);
    let path = published.ledger().join(format!("tile/entries/000.p/{}", world.leaves.len()));
    let mut bundle = fs::read(&path).unwrap();
    let at = bundle.len() - world.leaves.last().unwrap().len() - 2;
    bundle[at..at + 2].fill(0xff);
    fs::write(&path, bundle).unwrap();
    let (ok, text) = published.read();
    assert!(!ok && text.contains("was cut"), "{text}");
}

#[test]
fn what_our_programs_refuse_in_a_policy_or_a_checkpoint_is_refused_here() {
    let world = world();
    let published = Published::new(&world.leaves, &world.state.witness_policy().unwrap());
    let path = published.dir.path().join("policy");
    let good = fs::read_to_string(&path).unwrap();
    let read = |policy: String, why: &str| {
        // Ours refuses it, too.
        assert!(Policy::parse(policy.as_bytes()).is_err(), "{policy}");
        fs::write(&path, &policy).unwrap();
        let (ok, text) = published.read();
        assert!(!ok && text.contains(why), "{why}: {text}");
    };
    let log = good.lines().next().unwrap();
    for (from, to, why) in [
        ("quorum hospitals\n", "", "one `quorum` line"),
        ("quorum hospitals\n", "quorum hospitals\nquorum none\n", "one `quorum` line"),
        ("quorum hospitals", "quorum others", "policy line 7"),
        ("group hospitals 3", "group hospitals 0", "cannot be met"),
        ("group hospitals 3", "group hospitals 5", "cannot be met"),
        ("hospitals 3 cleveland", "hospitals 3 cleveland cleveland", "counts twice"),
        ("hospitals 3 cleveland", "hospitals 3 nobody", "defined above"),
        ("witness hungarian ", "witness cleveland ", "is taken"),
        ("group hospitals 3", "group none 3", "is taken"),
        ("log leben.test", "log lebem.test", "not its own"),
        ("quorum hospitals", "quorums hospitals", "policy line 7"),
    ] {
        assert!(good.contains(from), "{from}");
        read(good.replacen(from, to, 1), why);
    }
    read("log\n".into(), "policy line 1");
    read(format!("{log}\n{log}\n{}", good.split_once('\n').unwrap().1), "listed twice");
    let hungarian = good.lines().find(|line| line.starts_with("witness hungarian")).unwrap();
    let again = hungarian.replacen("witness hungarian", "witness again", 1);
    read(good.replacen(hungarian, &format!("{hungarian}\n{again}"), 1), "listed twice");
    fs::write(published.dir.path().join("policy"), &good).unwrap();
    // A time that no cosignature has.
    for time_s in [0, 1 << 63] {
        let mut note = note(&world.leaves, &HOSPITALS[..2]);
        let signer = NoteSigner::new("va", KeyType::Cosignature, key("va", "validator")).unwrap();
        note.push(signer.sign(note.text(), time_s)).unwrap();
        fs::write(published.ledger().join("checkpoint"), note.to_string()).unwrap();
        let (ok, text) = published.read();
        assert!(!ok && text.contains("va cosigned at the time"), "{text}");
    }
}

/// RFC 8032's verification equation holds for these with the neutral point as a key, whatever the message.
#[test]
fn a_weak_key_signs_nothing() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    let program = "from signatures import is_signed\n\
        neutral = (1).to_bytes(32, 'little')\n\
        assert not is_signed(neutral, neutral + bytes(32), b'anything')\n\
        assert not is_signed(b'', bytes(64), b'x') and not is_signed(neutral, b'', b'x')";
    let ran =
        Command::new("python3").arg("-B").arg("-c").arg(program).current_dir(deploy).output().expect("needs python3");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}
