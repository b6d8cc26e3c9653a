//! A coordinator and all hospitals in one plot: each of these ledgers is signed and cosigned as it should be, and something in it was put
//! where it does not belong. The verifier names the entry, its exit code says of which kind the lie is, and a hospital that is not in the plot
//! refuses to cosign at the same entry.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use leben::draft::{draft, template};
use leben::job::Job;
use leben::verify::{Wish, verify};
use leben_contracts::agreement::body::*;
use leben_contracts::agreement::hash::ContractId;
use leben_contracts::agreement::party::Role;
use leben_contracts::agreement::state::State;
use leben_contracts::ledger::add_checkpoint::AddCheckpoint;
use leben_contracts::ledger::entry::{Action, Entry, Envelope, origin_hash};
use leben_contracts::ledger::note::{KeyType, NoteSigner};
use leben_contracts::ledger::witness::{Validator, Witness, WitnessError};
use leben_contracts::verify::VerifyError;
use serde_json::{Value, json};
use support::{HOSPITALS, ORIGIN, T0, World, hash, heart, key, log_signer, note, offers, publish};

/// Two contracts on the ledger: one signed by everybody, one that nobody has signed yet.
struct Case {
    world: World,
    signed: ContractId,
    open: ContractId,
}

fn case() -> Case {
    let mut world = World::new();
    let terms = draft(&Job::parse(template("heart").unwrap()).unwrap(), &offers(), T0).unwrap();
    let signed = world.act("team", None, Propose { terms: terms.clone() });
    let terms_hash = world.state.contract(&signed).unwrap().terms_hash;
    world.act("team", Some(&signed), Accept { terms_hash, terms_version: 1, policy_hash: hash("policy") });
    world.accept_all(&signed);
    let open = world.act("team", None, Propose { terms });
    Case { world, signed, open }
}

impl Case {
    fn index(&self, kind: &str, actor: &str) -> usize {
        let is = |leaf: &Vec<u8>| {
            let entry = Entry::parse(leaf).unwrap();
            entry.action().kind == kind && entry.action().actor == actor
        };
        self.world.leaves.iter().position(is).unwrap()
    }

    fn action(&self, index: usize) -> Action {
        Entry::parse(&self.world.leaves[index]).unwrap().action().clone()
    }

    /// The ledger with one entry replaced by this action, signed by these.
    fn resigned(&self, index: usize, action: &Action, signers: &[&str]) -> Vec<Vec<u8>> {
        let keys: Vec<_> = signers.iter().map(|name| key(name, "party")).collect();
        let envelope = Envelope::sign(action, &keys.iter().collect::<Vec<_>>()).unwrap();
        self.with(index, Entry::new(envelope, T0).unwrap().bytes().to_vec())
    }

    fn with(&self, index: usize, leaf: Vec<u8>) -> Vec<Vec<u8>> {
        let mut leaves = self.world.leaves.clone();
        leaves[index] = leaf;
        leaves
    }

    /// What the verifier says of these entries under a checkpoint that everybody signed.
    fn verify(&self, leaves: &[Vec<u8>]) -> Result<(), VerifyError> {
        let dir = tempfile::tempdir().unwrap();
        let (public, policy) = (dir.path().join("ledger"), self.world.state.witness_policy().unwrap());
        publish(leaves, Some(&policy), &public, &dir.path().join("state"), &HOSPITALS);
        verify(&public, &Wish::default()).map(drop)
    }

    /// What an unmodified hospital answers when the log asks it to cosign these entries.
    fn cosigned(&self, leaves: &[Vec<u8>]) -> Result<(), WitnessError> {
        let signer = NoteSigner::new("va", KeyType::Cosignature, key("va", "validator")).unwrap();
        let witness = Witness::new(log_signer().vkey().clone(), vec![signer], None).unwrap();
        let request = AddCheckpoint::new(0, vec![], note(leaves, &[])).unwrap().to_string();
        Validator::new(witness, State::new(ORIGIN))
            .handle_add_checkpoint(T0 + 48 * 3_600_000, request.as_bytes(), leaves)
            .map(drop)
    }

    /// Refused by the verifier with this exit code and these words, and never cosigned by a hospital.
    #[track_caller]
    fn refused(&self, leaves: &[Vec<u8>], code: u8, words: &[&str]) {
        let error = self.verify(leaves).expect_err("accepted");
        let text = error.to_string();
        assert_eq!(error.exit_code(), code, "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{words:?}: {text}");
        let WitnessError::Illegal { index, .. } = self.cosigned(leaves).expect_err("cosigned") else {
            panic!("refused for another reason");
        };
        assert!(
            text.contains(&format!("entry {index}:")),
            "the hospital stops at entry {index}, the verifier says {text}"
        );
    }
}

/// The JSON of an entry, edited, in canonical spelling again.
fn edit(leaf: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(leaf).unwrap();
    change(&mut value);
    leben_contracts::ledger::canonical::value_to_bytes(&value).unwrap()
}

#[test]
fn the_ledger_before_anything_is_swapped_is_good() {
    let case = case();
    assert_eq!(case.verify(&case.world.leaves), Ok(()));
    assert_eq!(case.cosigned(&case.world.leaves), Ok(()));
}

#[test]
fn swapped_signatures_are_3() {
    let case = case();
    let (a, b) = (case.index("DatasetOffer", "cleveland"), case.index("DatasetOffer", "hungarian"));
    let other: Value = serde_json::from_slice(&case.world.leaves[b]).unwrap();
    // The other's signature with its key id, and with one's own.
    let whole = edit(&case.world.leaves[a], |leaf| {
        leaf["envelope"]["signatures"] = other["envelope"]["signatures"].clone();
    });
    case.refused(&case.with(a, whole), 3, &[&format!("entry {a}"), "does not verify"]);
    let value = edit(&case.world.leaves[a], |leaf| {
        leaf["envelope"]["signatures"][0]["sig"] = other["envelope"]["signatures"][0]["sig"].clone();
    });
    case.refused(&case.with(a, value), 3, &[&format!("entry {a}"), "does not verify"]);
    let payload =
        edit(&case.world.leaves[a], |leaf| leaf["envelope"]["payload"] = other["envelope"]["payload"].clone());
    case.refused(&case.with(a, payload), 3, &[&format!("entry {a}"), "does not verify"]);
}

#[test]
fn swapped_parties_are_3() {
    let case = case();
    let at = case.index("Accept", "cleveland");
    // The action in another's name, signed by the first; in one's own name, signed by another; by somebody with no key here.
    let other = Action { actor: "hungarian".into(), ..case.action(at) };
    case.refused(&case.resigned(at, &other, &["cleveland"]), 3, &[&format!("entry {at}"), "hungarian"]);
    let own = case.action(at);
    case.refused(&case.resigned(at, &own, &["hungarian"]), 3, &[&format!("entry {at}"), "did not sign"]);
    case.refused(&case.resigned(at, &own, &["stranger"]), 3, &[&format!("entry {at}"), "unexpected key"]);
    let nobody = Action { actor: "stranger".into(), ..case.action(at) };
    case.refused(&case.resigned(at, &nobody, &["stranger"]), 3, &[&format!("entry {at}"), "not enrolled"]);
    // A party that may not take the step at all.
    let team = Action { actor: "admin".into(), role: Role::Admin.as_str().into(), ..case.action(at) };
    case.refused(&case.resigned(at, &team, &["admin"]), 6, &[&format!("entry {at}"), "may not take this step"]);
}

#[test]
fn swapped_networks_are_6() {
    let case = case();
    let at = case.index("DatasetOffer", "va");
    let elsewhere = Action { network: origin_hash("ledger.example/other"), ..case.action(at) };
    case.refused(&case.resigned(at, &elsewhere, &["va"]), 6, &[&format!("entry {at}"), "another network"]);
    // A whole log under another name is one that the policy does not know.
    let dir = tempfile::tempdir().unwrap();
    let (public, policy) = (dir.path().join("ledger"), case.world.state.witness_policy().unwrap());
    publish(&case.world.leaves, Some(&policy), &public, &dir.path().join("state"), &HOSPITALS);
    let other = policy.to_string().replace(ORIGIN, "leben.test/other");
    std::fs::write(dir.path().join("policy"), other).unwrap();
    let wish = Wish { policy: Some(dir.path().join("policy")), ..Wish::default() };
    assert_eq!(verify(&public, &wish).unwrap_err().exit_code(), 2, "the vkey's id does not fit the other name");
}

#[test]
fn swapped_contracts_and_terms_versions_are_6() {
    let case = case();
    let at = case.index("Accept", "va");
    let place = format!("entry {at}");
    let version = Action { terms_version: Some(2), ..case.action(at) };
    case.refused(&case.resigned(at, &version, &["va"]), 6, &[&place, "version 2"]);
    let mut body = case.action(at).body;
    body["terms_version"] = json!(2);
    case.refused(&case.resigned(at, &Action { body, ..case.action(at) }, &["va"]), 6, &[&place, "Accept"]);
    let mut body = case.action(at).body;
    body["terms_hash"] = json!(hash("other terms"));
    case.refused(&case.resigned(at, &Action { body, ..case.action(at) }, &["va"]), 6, &[&place, "Accept"]);
    // For a contract that is not there yet, and for one that never was.
    for contract in [case.open, ContractId::plain(b"none")] {
        let action = Action { contract: Some(contract.to_string()), ..case.action(at) };
        case.refused(&case.resigned(at, &action, &["va"]), 6, &[&place, "no such contract"]);
    }
    assert_ne!(case.signed, case.open);
}

#[test]
fn entries_in_another_order_are_6() {
    let case = case();
    let (propose, accept) = (case.index("Propose", "team"), case.index("Accept", "team"));
    let mut leaves = case.world.leaves.clone();
    leaves.swap(propose, accept);
    case.refused(&leaves, 6, &[&format!("entry {propose}"), "no such contract"]);
    let mut leaves = case.world.leaves.clone();
    leaves.swap(0, 1);
    case.refused(&leaves, 6, &["entry 0", "Genesis"]);
    // An entry that is earlier than the one before it.
    let last = case.world.leaves.len() - 1;
    let early = edit(&case.world.leaves[last], |leaf| leaf["seq_ms"] = json!(T0 - 1));
    case.refused(&case.with(last, early), 6, &[&format!("entry {last}"), "before the entry before it"]);
    // Outside the window in which its author meant it.
    let late = edit(&case.world.leaves[last], |leaf| leaf["seq_ms"] = json!(T0 + 24 * 3_600_000));
    case.refused(&case.with(last, late), 6, &[&format!("entry {last}"), "the time in which the action is valid"]);
}

#[test]
fn a_change_of_policy_without_authority_is_refused() {
    let case = case();
    let at = case.index("PolicyChange", "coordinator");
    let by_team = Action { actor: "team".into(), role: Role::DataUser.as_str().into(), ..case.action(at) };
    case.refused(&case.resigned(at, &by_team, &["team"]), 6, &[&format!("entry {at}"), "PolicyChange"]);
    let mut body = case.action(at).body;
    body["quorum"] = json!(2);
    let smaller = Action { body, ..case.action(at) };
    case.refused(
        &case.resigned(at, &smaller, &["coordinator"]),
        6,
        &[&format!("entry {at}"), "the quorum is 3, not 2"],
    );
    // An offer in the name of a hospital, which the coordinator signed.
    let offer = case.index("DatasetOffer", "va");
    let mut body = case.action(offer).body;
    body["rows_rounded"] = json!(heart().rows_rounded + 100);
    let forged = Action { body, ..case.action(offer) };
    case.refused(&case.resigned(offer, &forged, &["coordinator"]), 3, &[&format!("entry {offer}"), "did not sign"]);
}
