//! A policy file, line by line.

use super::{Group, Listed};
use crate::ledger::note::{KeyType, VerifierKey};

#[derive(Default)]
pub(super) struct Reading {
    pub(super) logs: Vec<Listed>,
    pub(super) witnesses: Vec<Listed>,
    pub(super) groups: Vec<Group>,
    pub(super) quorum: Option<String>,
}

impl Reading {
    /// Takes in one line.
    pub(super) fn line(&mut self, line: &str) -> Result<(), String> {
        let words: Vec<&str> = line.split([' ', '\t']).filter(|w| !w.is_empty()).collect();
        match words.as_slice() {
            [] => Ok(()),
            [first, ..] if first.starts_with('#') => Ok(()),
            ["log", vkey, url @ ..] => self.log(vkey, url),
            ["witness", name, vkey, url @ ..] => self.witness(name, vkey, url),
            ["group", name, threshold, members @ ..] => self.group(name, threshold, members),
            ["quorum", name] => self.set_quorum(name),
            [other, ..] => {
                Err(format!("`{other}` is not a line of `log`, `witness`, `group` or `quorum` with the words it needs"))
            }
        }
    }

    fn log(&mut self, vkey: &str, url: &[&str]) -> Result<(), String> {
        let vkey = self.vkey(vkey, KeyType::Ed25519)?;
        self.logs.push(Listed { name: String::new(), vkey, url: one_url(url)? });
        Ok(())
    }

    fn witness(&mut self, name: &str, vkey: &str, url: &[&str]) -> Result<(), String> {
        self.new_name(name)?;
        let vkey = self.vkey(vkey, KeyType::Cosignature)?;
        self.witnesses.push(Listed { name: name.to_owned(), vkey, url: one_url(url)? });
        Ok(())
    }

    /// One public key in one place only: a key listed twice would count twice, and a log must not witness itself.
    fn vkey(&self, text: &str, kind: KeyType) -> Result<VerifierKey, String> {
        let vkey = VerifierKey::parse(text).map_err(|e| e.to_string())?;
        if vkey.kind() != kind {
            return Err("a log's key is of type 0x01, a witness's of type 0x04".to_owned());
        }
        if self.logs.iter().chain(&self.witnesses).any(|l| l.vkey.key() == vkey.key()) {
            return Err(format!("the public key of `{}` is listed twice", vkey.name()));
        }
        Ok(vkey)
    }

    fn group(&mut self, name: &str, threshold: &str, members: &[&str]) -> Result<(), String> {
        self.new_name(name)?;
        let threshold = match threshold {
            "all" => members.len(),
            "any" => 1,
            k => k
                .parse::<usize>()
                .ok()
                .filter(|n| n.to_string() == k)
                .ok_or("the threshold is `all`, `any` or a decimal")?,
        };
        if threshold < 1 || threshold > members.len() {
            return Err(format!(
                "a threshold of {threshold} cannot be met by {} members, or means nothing",
                members.len()
            ));
        }
        for (i, member) in members.iter().enumerate() {
            if !self.is_defined(member) {
                return Err(format!("`{member}` is not defined on a line above"));
            }
            let taken = |m: &[String]| m.iter().any(|m| m == member);
            if members.iter().take(i).any(|m| m == member) || self.groups.iter().any(|g| taken(&g.members)) {
                return Err(format!("`{member}` is a group member twice, so its signature would count twice"));
            }
        }
        let members = members.iter().map(|m| (*m).to_owned()).collect();
        self.groups.push(Group { name: name.to_owned(), threshold, members });
        Ok(())
    }

    fn set_quorum(&mut self, name: &str) -> Result<(), String> {
        if self.quorum.is_some() {
            return Err("a second `quorum` line".to_owned());
        }
        if name != "none" && !self.is_defined(name) {
            return Err(format!("`{name}` is not defined on a line above"));
        }
        self.quorum = Some(name.to_owned());
        Ok(())
    }

    fn is_defined(&self, name: &str) -> bool {
        self.witnesses.iter().any(|w| w.name == name) || self.groups.iter().any(|g| g.name == name)
    }

    fn new_name(&self, name: &str) -> Result<(), String> {
        if name == "none" || self.is_defined(name) {
            return Err(format!("the name `{name}` is taken"));
        }
        Ok(())
    }
}

fn one_url(words: &[&str]) -> Result<Option<String>, String> {
    match words {
        [] => Ok(None),
        [url] => Ok(Some((*url).to_owned())),
        _ => Err("too many words".to_owned()),
    }
}
