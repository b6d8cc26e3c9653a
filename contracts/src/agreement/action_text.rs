//! What an action says, in words for the person who is about to sign it.

use super::state::State;
use super::step::Step;
use super::terms_text::utc;
use crate::ledger::action_file::ActionFile;
use crate::ledger::entry::{Envelope, pre_authentication};
use crate::ledger::key::PublicKey;
use std::fmt::Write as _;

impl State {
    /// A drafted action in words: what, by whom, until when, its whole content, who has signed so far, and whether the ledger as this
    /// state knows it would take the action at `now_ms` (Unix milliseconds). Lines of plain ASCII; what others wrote is escaped, so
    /// that nothing in it can paint over the rest.
    #[must_use]
    pub fn action_text(&self, file: &ActionFile, now_ms: u64) -> String {
        let (envelope, action) = (file.as_envelope(), file.action());
        let mut out = String::new();
        let mut line = |name: &str, text: String| _ = writeln!(out, "{name:<10} {}", ascii(&text));
        line("action", action.kind.clone());
        let network = match action.network == self.network().to_string() {
            true => self.origin().to_owned(),
            false => format!("ANOTHER NETWORK than {}: {}", self.origin(), action.network),
        };
        line("network", network);
        line("actor", format!("{}, acting as {}", action.actor, action.role));
        if let Some(contract) = &action.contract {
            line("contract", contract.clone());
        }
        line("valid", format!("{} to {}", utc(action.not_before_ms), utc(action.not_after_ms)));
        let content = serde_json::to_string_pretty(&action.body).unwrap_or_default();
        for (i, text) in content.lines().enumerate() {
            line(if i == 0 { "content" } else { "" }, text.to_owned());
        }
        line("identity", hex::encode(envelope.payload_hash()));
        for (i, signer) in self.signers_text(envelope).into_iter().enumerate() {
            line(if i == 0 { "signed by" } else { "" }, signer);
        }
        if envelope.signatures().is_empty() {
            line("signed by", "nobody yet".into());
        }
        line(
            "ledger",
            match self.check(now_ms, envelope) {
                Ok(()) => "would take it now".into(),
                Err(refused) => format!("would not take it as it is: {}", refused.reason),
            },
        );
        out
    }

    fn signers_text(&self, envelope: &Envelope) -> Vec<String> {
        let message = pre_authentication(envelope.payload());
        let brought = Step::brought_key(envelope);
        let words = |keyid: &str, sig: &[u8; 64]| {
            let good = |key: PublicKey| key.verify_strict(&message, sig).is_ok();
            match (self.signers.get(keyid), brought.filter(|key| key.keyid() == keyid)) {
                (Some(signer), _) if good(signer.key) => signer.party.to_string(),
                (None, Some(key)) if good(key) => "the key that the action brings".to_owned(),
                (Some(signer), _) => format!("{}: DOES NOT VERIFY", signer.party),
                (None, Some(_)) => "the key that the action brings: DOES NOT VERIFY".to_owned(),
                (None, None) => format!("key {}: of nobody whose keys are in force", keyid.get(..16).unwrap_or(keyid)),
            }
        };
        envelope.signatures().iter().map(|s| words(&s.keyid, &s.sig)).collect()
    }
}

fn ascii(text: &str) -> String {
    text.chars()
        .flat_map(|c| if c == ' ' || c.is_ascii_graphic() { vec![c] } else { c.escape_unicode().collect() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::body::{KeyRevoke, KeyRotate};
    use super::super::world::*;
    use super::*;

    #[test]
    fn a_revocation_by_two_admins_step_by_step() {
        let mut w = World::new();
        let action = w.action("admin1", None, &KeyRevoke { party: id("h3"), code: code("key_stolen") }.into());
        let mut file = ActionFile::draft(&action).unwrap();
        let text = w.state.action_text(&file, w.now_ms);
        for part in [
            "KeyRevoke",
            "leben.test/ledger",
            "admin1, acting as admin",
            "\"h3\"",
            "key_stolen",
            "nobody yet",
            "would not take",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        file.sign(&key("admin1", "party")).unwrap();
        let text = w.state.action_text(&file, w.now_ms);
        assert!(text.contains("signed by  admin1\n") && text.contains("a majority of the 2 admins"), "{text}");
        file.sign(&key("admin2", "party")).unwrap();
        assert!(w.state.action_text(&file, w.now_ms).contains("ledger     would take it now"));
        assert!(w.state.action_text(&file, w.now_ms + 2 * HOUR).contains("valid from"), "too late");
        file.sign(&key("nobody", "party")).unwrap();
        let text = w.state.action_text(&file, w.now_ms);
        assert!(text.contains("of nobody whose keys are in force") && text.contains("would not take"), "{text}");
    }

    #[test]
    fn the_new_key_is_named_and_nothing_paints_over_the_rest() {
        let mut w = World::new();
        let rotate = KeyRotate { keys: keys("h1-new"), sealing: sealing("h1-new") };
        let mut file = ActionFile::draft(&w.action("h1", None, &rotate.into())).unwrap();
        file.sign(&key("h1-new", "party")).unwrap();
        assert!(w.state.action_text(&file, w.now_ms).contains("the key that the action brings\n"));
        let mut action = w.action("h1", None, &super::super::body::Heartbeat {}.into());
        action.body = serde_json::json!({"note": "a\u{1b}[2J\u{202e}b"});
        action.network = "0".repeat(64);
        let text = w.state.action_text(&ActionFile::draft(&action).unwrap(), w.now_ms);
        assert!(text.bytes().all(|b| b == b'\n' || (b' '..=b'~').contains(&b)), "{text:?}");
        assert!(text.contains("ANOTHER NETWORK"), "{text}");
    }
}
