//! The question at start-up: has any witness seen more of this log than this folder holds?
//!
//! Every checkpoint that was ever final is stored by a quorum of the validators then in force (the certificate round).
//! Two quorums share an honest validator, so once a quorum has been heard and none of it holds more, nothing final is
//! missing here: the folder is no restored backup, and the next checkpoint forks nothing. Fewer answers could all come
//! from hospitals that were away.

use std::collections::BTreeSet;

use leben_contracts::ledger::policy::Policy;

/// Who has answered, and whether that is enough.
#[derive(Debug)]
pub struct RollCall {
    policies: Vec<Policy>,
    heard: BTreeSet<String>,
}

impl RollCall {
    /// A quorum of each of these policies has to be heard: the one in force at the published size and those of what was
    /// committed after it, for each of them may have made a checkpoint final that this folder has forgotten. None: no
    /// validators yet, nobody to ask.
    pub fn new(policies: Vec<Policy>) -> RollCall {
        RollCall { policies, heard: BTreeSet::new() }
    }

    /// A party told the largest checkpoint it holds, and it fits this folder.
    pub fn handle_answer(&mut self, party: &str) {
        self.heard.insert(party.to_owned());
    }

    /// Whether the log may be written.
    pub fn is_over(&self) -> bool {
        self.policies.iter().all(|policy| policy.is_quorum(self.heard.iter().map(String::as_str)))
    }

    /// How many more have to answer at least, and who could.
    pub fn missing(&self) -> (usize, Vec<&str>) {
        let mut most = (0, Vec::new());
        for policy in &self.policies {
            let absent: Vec<&str> =
                policy.witnesses().map(|(name, ..)| name).filter(|name| !self.heard.contains(*name)).collect();
            let heard = || self.heard.iter().map(String::as_str);
            let enough = |count: &usize| policy.is_quorum(heard().chain(absent.iter().take(*count).copied()));
            let count = (0..=absent.len()).find(enough).unwrap_or(absent.len());
            if count > most.0 {
                most = (count, absent);
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ed25519_dalek::SigningKey;
    use leben_contracts::ledger::key::PublicKey;
    use leben_contracts::ledger::note::{KeyType, VerifierKey};

    fn policy(names: &[&str], threshold: usize) -> Policy {
        let vkey = |name: &str, kind, seed: u8| {
            VerifierKey::new(name, kind, PublicKey::of(&SigningKey::from_bytes(&[seed; 32]))).unwrap()
        };
        let witnesses: Vec<VerifierKey> =
            names.iter().zip(1..).map(|(name, seed)| vkey(name, KeyType::Cosignature, seed)).collect();
        Policy::k_of_n(&vkey("log", KeyType::Ed25519, 99), &witnesses, threshold).unwrap()
    }

    #[test]
    fn a_quorum_of_validators_has_to_answer_and_others_do_not_count() {
        let mut roll = RollCall::new(vec![policy(&["a", "b", "c", "d"], 3)]);
        for (party, missing) in [("team", 3), ("a", 2), ("a", 2), ("c", 1)] {
            roll.handle_answer(party);
            assert_eq!((roll.is_over(), roll.missing().0), (false, missing), "{party}");
        }
        assert_eq!(roll.missing().1, ["b", "d"]);
        roll.handle_answer("d");
        assert_eq!((roll.is_over(), roll.missing().0), (true, 0));
    }

    #[test]
    fn every_quorum_that_may_have_gone_on_is_asked() {
        let mut roll = RollCall::new(vec![policy(&["a", "b", "c"], 2), policy(&["c", "d", "e"], 2)]);
        for (party, over) in [("a", false), ("b", false), ("d", false), ("c", true)] {
            roll.handle_answer(party);
            assert_eq!(roll.is_over(), over, "{party}");
        }
        assert!(RollCall::new(Vec::new()).is_over(), "no validators yet");
    }
}
