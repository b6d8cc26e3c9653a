//! The private keys of one party over its rotations (feature `fs`), so that no crash leaves a folder without a key that is in force.
//!
//! ```text
//! keys/<use>.key            the keys as they were in force when this folder was written last
//! keys/next/<use>.key       a whole rotation: made here, waiting until the ledger has put it in force
//! keys/old/<use>-<id>.key   keys that were replaced and still open or answer something
//! ```
//!
//! Which keys are in force is the ledger's to say, never the folder's. `next` appears whole or not at all (one rename), and
//! [`Keyring::promote`] moves one key after the other (one rename each): whenever a crash cuts in, every key of both generations that
//! is not yet surely obsolete lies in one of the three places. May it be lost: the party then has its keys revoked and enrols anew.
//! Rolled back: the party's own signatures are refused, and it is told so. It grows by one key for each rotation that keeps one.

use super::keyfile::{self, KeyFileError};
use ed25519_dalek::SigningKey;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Why a rotation cannot begin or end on the disk.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// A key file.
    #[error(transparent)]
    Key(#[from] KeyFileError),
    /// One rotation at a time.
    #[error(
        "{path} holds new keys that are not in force yet: a rotation is under way; it goes on by itself, `keys` shows it"
    )]
    UnderWay {
        /// The folder.
        path: PathBuf,
    },
    /// The disk.
    #[error("cannot {what} {path}: {error}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

/// Keys by their use (`party`, `tls`, `sealing`, ..).
pub type Keys = BTreeMap<String, SigningKey>;

/// A folder of keys.
#[derive(Debug, Clone)]
pub struct Keyring {
    folder: PathBuf,
}

impl Keyring {
    /// The ring in `keys/` of a party's folder.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn next_dir(&self) -> PathBuf {
        self.folder.join("next")
    }

    /// The keys of a rotation that waits, or of the rest of one that is being taken over; only the uses that change.
    ///
    /// # Errors
    /// [`KeyringError`] naming the file.
    pub fn next(&self) -> Result<Option<Keys>, KeyringError> {
        let dir = self.next_dir();
        if !dir.is_dir() {
            return Ok(None);
        }
        let keys = read_keys(&dir)?;
        Ok((!keys.is_empty()).then_some(keys))
    }

    /// Makes a rotation: one new key for each use named, from 32 fresh random bytes each. All of them are durable when this
    /// returns; none is in force before the ledger says so.
    ///
    /// # Errors
    /// [`KeyringError::UnderWay`], the disk, no randomness. Then there is no rotation.
    pub fn propose(
        &self,
        uses: &[&str],
        mut seed: impl FnMut() -> io::Result<Zeroizing<[u8; 32]>>,
    ) -> Result<(), KeyringError> {
        let (dir, new) = (self.next_dir(), self.folder.join("next.new"));
        if self.next()?.is_some() {
            return Err(KeyringError::UnderWay { path: dir });
        }
        // What a crash left of an earlier try was never shown to anybody.
        for leftover in [&new, &dir] {
            remove_dir(leftover)?;
        }
        for name in uses {
            let seed = seed().map_err(io_error("make a key in", &new))?;
            keyfile::create(&new.join(format!("{name}.key")), &seed)?;
        }
        fs::set_permissions(&new, fs::Permissions::from_mode(0o700)).map_err(io_error("protect", &new))?;
        fs::rename(&new, &dir).map_err(io_error("rename", &new))?;
        sync_dir(&self.folder)
    }

    /// The ledger has put the waiting keys in force: the ones named take the places of those they replace. Keys of the uses in
    /// `keep` are kept in `old/` first. Naming a use that is in its place already changes nothing, so a crash is answered by
    /// calling it again.
    ///
    /// # Errors
    /// The disk; call it again.
    pub fn promote(&self, uses: &[&str], keep: &[&str]) -> Result<(), KeyringError> {
        let dir = self.next_dir();
        for name in uses {
            let (from, to) = (dir.join(format!("{name}.key")), self.folder.join(format!("{name}.key")));
            if !from.is_file() {
                continue;
            }
            if keep.contains(name) && to.is_file() {
                self.keep(name, &to)?;
            }
            fs::rename(&from, &to).map_err(io_error("rename", &from))?;
            sync_dir(&self.folder)?;
        }
        if self.next()?.is_none() {
            remove_dir(&dir)?;
            sync_dir(&self.folder)?;
        }
        Ok(())
    }

    /// A second name for the same file, so that there is no moment at which the key has none.
    fn keep(&self, name: &str, path: &Path) -> Result<(), KeyringError> {
        let old = self.folder.join("old");
        fs::create_dir_all(&old).map_err(io_error("create", &old))?;
        fs::set_permissions(&old, fs::Permissions::from_mode(0o700)).map_err(io_error("protect", &old))?;
        let id = super::key::PublicKey::of(&keyfile::load(path)?).keyid();
        let kept = old.join(format!("{name}-{}.key", id.get(..16).unwrap_or(&id)));
        match fs::hard_link(path, &kept) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error("keep", &kept)(error)),
            _ => sync_dir(&old),
        }
    }

    /// Keys of one use that were replaced and kept.
    ///
    /// # Errors
    /// [`KeyringError`] naming the file.
    pub fn old(&self, name: &str) -> Result<Vec<SigningKey>, KeyringError> {
        let dir = self.folder.join("old");
        if !dir.is_dir() {
            return Ok(Vec::new());
        }
        let start = format!("{name}-");
        Ok(read_keys(&dir)?.into_iter().filter(|(kept, _)| kept.starts_with(&start)).map(|(_, key)| key).collect())
    }

    /// After a revocation: the whole ring moves to `<folder>-revoked-<number>`, except that keys of the uses in `keep` stay in the
    /// new ring's `old/`, and a new ring with one key for each use takes its place.
    ///
    /// # Errors
    /// The disk, no randomness. The old ring is in its place or beside it; call it again.
    pub fn replace_all(
        &self,
        uses: &[&str],
        keep: &[&str],
        mut seed: impl FnMut() -> io::Result<Zeroizing<[u8; 32]>>,
    ) -> Result<(), KeyringError> {
        let new = beside(&self.folder, "new");
        remove_dir(&new)?;
        let ring = Self::new(&new);
        for name in uses {
            let seed = seed().map_err(io_error("make a key in", &new))?;
            keyfile::create(&new.join(format!("{name}.key")), &seed)?;
        }
        for name in keep {
            let path = self.folder.join(format!("{name}.key"));
            if path.is_file() {
                ring.keep(name, &path)?;
            }
            for (kept, _) in read_keys_in(&self.folder.join("old"))?.iter().filter(|(kept, _)| kept.starts_with(name)) {
                let path = self.folder.join("old").join(format!("{kept}.key"));
                ring.keep(name, &path)?;
            }
        }
        if self.folder.exists() {
            let revoked = (1u32..).map(|n| beside(&self.folder, &format!("revoked-{n}"))).find(|path| !path.exists());
            let revoked = revoked.unwrap_or_else(|| beside(&self.folder, "revoked"));
            fs::rename(&self.folder, &revoked).map_err(io_error("rename", &self.folder))?;
        }
        fs::rename(&new, &self.folder).map_err(io_error("rename", &new))?;
        self.folder.parent().map_or(Ok(()), sync_dir)
    }
}

fn beside(folder: &Path, what: &str) -> PathBuf {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    folder.with_file_name(format!("{name}-{what}"))
}

fn read_keys_in(dir: &Path) -> Result<Keys, KeyringError> {
    if dir.is_dir() { read_keys(dir) } else { Ok(Keys::new()) }
}

fn read_keys(dir: &Path) -> Result<Keys, KeyringError> {
    let mut keys = Keys::new();
    for entry in fs::read_dir(dir).map_err(io_error("read", dir))? {
        let path = entry.map_err(io_error("read", dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".key"));
        if let Some(name) = name {
            keys.insert(name.to_owned(), keyfile::load(&path)?);
        }
    }
    Ok(keys)
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> KeyringError {
    let path = path.to_owned();
    move |error| KeyringError::Io { what, path, error }
}

fn remove_dir(dir: &Path) -> Result<(), KeyringError> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("remove", dir)(error)),
        _ => Ok(()),
    }
}

fn sync_dir(dir: &Path) -> Result<(), KeyringError> {
    File::open(dir).and_then(|folder| folder.sync_all()).map_err(io_error("make durable", dir))
}

#[cfg(test)]
mod tests {
    use super::*;

    const USES: [&str; 3] = ["party", "sealing", "tls"];

    fn seeds(from: u8) -> impl FnMut() -> io::Result<Zeroizing<[u8; 32]>> {
        let mut n = from;
        move || {
            n += 1;
            Ok(Zeroizing::new([n; 32]))
        }
    }

    fn current(ring: &Keyring, name: &str) -> u8 {
        keyfile::load(&ring.folder.join(format!("{name}.key"))).unwrap().to_bytes()[0]
    }

    fn first(dir: &Path) -> Keyring {
        let ring = Keyring::new(&dir.join("keys"));
        for (name, n) in USES.iter().zip(1u8..) {
            keyfile::create(&ring.folder.join(format!("{name}.key")), &[n; 32]).unwrap();
        }
        ring
    }

    #[test]
    fn proposed_kept_apart_promoted_one_after_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let ring = first(dir.path());
        assert!(ring.next().unwrap().is_none());
        ring.propose(&USES, seeds(10)).unwrap();
        assert_eq!(fs::metadata(ring.next_dir()).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(matches!(ring.propose(&["tls"], seeds(20)), Err(KeyringError::UnderWay { .. })));
        assert_eq!((current(&ring, "party"), ring.next().unwrap().unwrap().len()), (1, 3));
        ring.promote(&["party", "sealing"], &["sealing"]).unwrap();
        assert_eq!((current(&ring, "party"), current(&ring, "sealing"), current(&ring, "tls")), (11, 12, 3));
        let left = ring.next().unwrap().unwrap();
        assert_eq!(left.keys().collect::<Vec<_>>(), ["tls"], "the link key waits for its own moment");
        ring.promote(&USES, &["sealing"]).unwrap();
        ring.promote(&USES, &["sealing"]).unwrap();
        assert!(ring.next().unwrap().is_none() && !ring.next_dir().exists());
        let old: Vec<u8> = ring.old("sealing").unwrap().iter().map(|key| key.to_bytes()[0]).collect();
        assert_eq!(old, [2]);
        assert!(ring.old("party").unwrap().is_empty());
    }

    #[test]
    fn a_crash_at_any_point_leaves_a_whole_generation() {
        // While proposing: what lies in next.new was never shown to anybody.
        let dir = tempfile::tempdir().unwrap();
        let ring = first(dir.path());
        let mut broken = seeds(10);
        let mut left = 2;
        let failing = || {
            left -= 1;
            if left < 0 { Err(io::Error::other("the power went")) } else { broken() }
        };
        assert!(ring.propose(&USES, failing).is_err());
        assert!(ring.next().unwrap().is_none());
        ring.propose(&USES, seeds(20)).unwrap();
        // While promoting: each key is in one of two places, and the kept one in both.
        for name in USES {
            let (from, to) = (ring.next_dir().join(format!("{name}.key")), ring.folder.join(format!("{name}.key")));
            if name == "sealing" {
                ring.keep(name, &to).unwrap();
                ring.keep(name, &to).unwrap();
            }
            fs::rename(from, to).unwrap();
            let next = Keyring::new(&ring.folder).next().unwrap();
            let all: Vec<u8> = USES
                .iter()
                .map(|name| {
                    next.as_ref().and_then(|n| n.get(*name)).map_or_else(|| current(&ring, name), |k| k.to_bytes()[0])
                })
                .collect();
            assert_eq!(all, [21, 22, 23], "the new generation, whatever lies where");
        }
        assert!(ring.next_dir().exists() && ring.next().unwrap().is_none());
        ring.propose(&["tls"], seeds(30)).unwrap();
        assert_eq!(ring.next().unwrap().unwrap().len(), 1, "an empty leftover is no rotation under way");
    }

    #[test]
    fn a_revoked_ring_makes_room_and_keeps_what_opens_results() {
        let dir = tempfile::tempdir().unwrap();
        let ring = first(dir.path());
        ring.propose(&["sealing"], seeds(10)).unwrap();
        ring.promote(&["sealing"], &["sealing"]).unwrap();
        ring.replace_all(&USES, &["sealing"], seeds(40)).unwrap();
        assert_eq!((current(&ring, "party"), current(&ring, "sealing")), (41, 42));
        let mut old: Vec<u8> = ring.old("sealing").unwrap().iter().map(|key| key.to_bytes()[0]).collect();
        old.sort_unstable();
        assert_eq!(old, [2, 11]);
        assert!(dir.path().join("keys-revoked-1/party.key").is_file());
        ring.replace_all(&USES, &["sealing"], seeds(50)).unwrap();
        assert!(dir.path().join("keys-revoked-2/party.key").is_file());
    }
}
