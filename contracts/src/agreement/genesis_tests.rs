//! A network that begins in place of one whose log has forked: its first entry proves the fork, or is refused.

use super::body::*;
use super::error::Reason;
use super::hash::Hash32;
use super::state::State;
use super::world::*;
use crate::ledger::checkpoint::Checkpoint;
use crate::ledger::evidence::ForkEvidence;
use crate::ledger::merkle::{self, Hash, leaf_hash};
use crate::ledger::note::{KeyType, Note, NoteSigner};
use serde_json::Value;

const BEFORE: &str = "leben.test/before";

fn signer(name: &str, kind: KeyType) -> NoteSigner {
    NoteSigner::new(if kind == KeyType::Ed25519 { BEFORE } else { name }, kind, key(name, "log")).unwrap()
}

fn note(size: u64, root: Hash, cosigner: &str) -> Note {
    let mut note = Note::new(Checkpoint::new(BEFORE, size, root).to_string()).unwrap();
    note.push(signer("before", KeyType::Ed25519).sign(note.text(), 0)).unwrap();
    note.push(signer(cosigner, KeyType::Cosignature).sign(note.text(), 7)).unwrap();
    note
}

/// Five entries, of which the log signed three others before; each checkpoint with a hospital's cosignature.
fn evidence() -> ForkEvidence {
    let leaves: Vec<Hash> = (0..5u8).map(|i| leaf_hash(&[i])).collect();
    let (three, five) = (merkle::root_of(&leaves[..3]), merkle::root_of(&leaves));
    // RFC 6962, 2.1.2, for 3 of 5: leaf 2, leaf 3, the node over 0 and 1, leaf 4.
    let proof = vec![leaves[2], leaves[3], merkle::root_of(&leaves[..2]), leaves[4]];
    let (smaller, larger) = (note(3, leaf_hash(b"another history"), "h1"), note(5, five, "h2"));
    ForkEvidence::new(signer("before", KeyType::Ed25519).vkey(), &smaller, &larger, three, proof).unwrap()
}

fn genesis_with(embedded: Embedded) -> Body {
    let Body::Genesis(body) = genesis() else { panic!() };
    Genesis { embeds: Some(Box::new(embedded)), ..body }.into()
}

fn founded(body: &Body) -> Result<State, Reason> {
    let mut w = World::empty();
    match w.act("coord", None, body.clone()) {
        Ok(_) => Ok(w.state),
        Err(refused) => Err(refused.reason),
    }
}

#[test]
fn the_first_entry_embeds_a_fork_and_every_replay_checks_it() {
    let file = evidence().to_json();
    let embedded = Embedded::new(file.as_bytes()).unwrap();
    assert_eq!(embedded.file_sha256, Hash32::plain(file.as_bytes()));
    assert_eq!(embedded.fork, evidence().bare());
    let text = embedded.to_string();
    for words in [BEFORE, "at 3 entries", "a checkpoint of 5", &embedded.file_sha256.to_string()] {
        assert!(text.contains(words), "no {words} in {text}");
    }
    let body = genesis_with(embedded.clone());
    assert_eq!(Body::parse("Genesis", &body.to_value().unwrap()).unwrap(), body);
    founded(&body).unwrap();
    // A Genesis without one is what it was.
    assert!(genesis().to_value().unwrap().get("embeds").is_none());

    // With the hospitals' cosignatures, which this log cannot check.
    let refused = founded(&genesis_with(Embedded { fork: evidence(), ..embedded.clone() })).unwrap_err();
    assert!(refused.to_string().contains("signatures that nothing here can check"), "{refused}");
    // By the key that signed two histories, and under the same name.
    let Body::Genesis(again) = body.clone() else { panic!() };
    let again = Genesis { log_key: public("before", "log"), ..again };
    assert!(founded(&again.into()).unwrap_err().to_string().contains("of its own"));
    let mut w = World::empty();
    w.state = State::new(BEFORE);
    let Body::Genesis(named) = body else { panic!() };
    let refused = why(w.act("coord", None, Genesis { origin: BEFORE.into(), ..named }.into()));
    assert!(refused.to_string().contains("of its own"), "{refused}");
}

#[test]
fn a_touched_proof_is_no_first_entry() {
    let good = genesis_with(Embedded::new(evidence().to_json().as_bytes()).unwrap()).to_value().unwrap();
    let fields: Vec<String> =
        ["larger", "log", "root", "smaller", "kind", "v"].map(|name| format!("/embeds/fork/{name}")).into();
    let fields = fields.into_iter().chain((0..4).map(|at| format!("/embeds/fork/proof/{at}")));
    for field in fields.chain(["/embeds/file_sha256".into()]) {
        let text = good.pointer(&field).unwrap();
        let length = text.as_str().map_or(1, |text| text.chars().count());
        for at in 0..length {
            let mut body = good.clone();
            let touched = match text {
                Value::String(text) => {
                    let next = |c: char| if c == 'B' { 'C' } else { 'B' };
                    Value::String(text.chars().enumerate().map(|(i, c)| if i == at { next(c) } else { c }).collect())
                }
                _ => Value::from(2),
            };
            *body.pointer_mut(&field).unwrap() = touched;
            let taken = Body::parse("Genesis", &body).map_err(|e| e.to_string());
            let taken = taken.and_then(|body| founded(&body).map_err(|e| e.to_string()));
            // The digest is of a file that lies elsewhere.
            let digest = field.ends_with("sha256") && taken.is_ok();
            assert!(taken.is_err() || digest, "{field} touched at {at}");
        }
    }
    let gone = |field: &str| {
        let mut body = good.clone();
        body.pointer_mut("/embeds/fork").unwrap().as_object_mut().unwrap().remove(field);
        body
    };
    assert!(["larger", "proof", "v"].iter().all(|field| Body::parse("Genesis", &gone(field)).is_err()));
}
