//! Private keys on disk (feature `fs`): one file a key, made where it is used, readable by its owner alone.
//!
//! May a key file be lost: yes, the party then enrols anew. Rolled back: it does not change. Forged: by whoever can write the
//! folder. The file is 64 hex digits of the ed25519 seed (RFC 8032) and a line end; it appears whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use ed25519_dalek::SigningKey;
use zeroize::Zeroizing;

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The disk.
    #[error("the key file {path} cannot be {what}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
    /// Not a key.
    #[error("{path} does not hold a key (64 hex digits expected); restore it from a backup or enrol anew")]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others may read it.
    #[error("{path} can be read by others (mode {mode:o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

/// Writes a new key from `seed` (32 fresh random bytes); an existing file is never replaced.
pub fn create(path: &Path, seed: &[u8; 32]) -> Result<SigningKey, KeyFileError> {
    let fail = |what| move |error| KeyFileError::Io { path: path.to_owned(), what, error };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(fail("given a folder"))?;
    }
    // It gets its name when it is whole: a crash leaves no half key there, and another process's key is not taken for this one.
    let key = SigningKey::from_bytes(seed);
    let whole = beside(path, &key);
    let named = write_new(&whole, seed).map_err(fail("written")).and_then(|()| {
        fs::hard_link(&whole, path).map_err(fail("created"))?;
        let folder = path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
        folder.map_err(fail("made durable"))
    });
    // What a crash leaves is 0600, is no key's file, and is in nobody's way.
    let _ = fs::remove_file(&whole);
    named.map(|()| key)
}

/// Another name for each key, of which the public half alone shows.
fn beside(path: &Path, key: &SigningKey) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", hex::encode(key.verifying_key().to_bytes())));
    path.with_file_name(name)
}

fn write_new(path: &Path, seed: &[u8; 32]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    let mut text = Zeroizing::new(hex::encode(seed));
    text.push('\n');
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads a key.
pub fn load(path: &Path) -> Result<SigningKey, KeyFileError> {
    let fail = |error| KeyFileError::Io { path: path.to_owned(), what: "read", error };
    let mut file = File::open(path).map_err(fail)?;
    let mode = file.metadata().map_err(fail)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    Read::by_ref(&mut file).take(256).read_to_string(&mut text).map_err(fail)?;
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_end(), seed.as_mut_slice())
        .map_err(|_| KeyFileError::Malformed { path: path.to_owned() })?;
    Ok(SigningKey::from_bytes(&seed))
}

/// Reads the key, or makes it from `seed` when there is none.
pub fn load_or_create(path: &Path, seed: &[u8; 32]) -> Result<SigningKey, KeyFileError> {
    match path.exists() {
        true => load(path),
        false => create(path, seed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_kept_private_and_refused_when_exposed_or_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/party.key");
        let key = load_or_create(&path, &[7; 32]).unwrap();
        assert_eq!(load_or_create(&path, &[8; 32]).unwrap().to_bytes(), key.to_bytes());
        assert!(matches!(create(&path, &[8; 32]), Err(KeyFileError::Io { .. })));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Exposed { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "nonsense").unwrap();
        assert!(matches!(load(&path), Err(KeyFileError::Malformed { .. })));
        let names = || fs::read_dir(folder.path().join("keys")).unwrap().count();
        assert_eq!(names(), 1, "nothing else stays");
        // What a killed process left.
        for seed in [[7; 32], [9; 32]] {
            fs::write(beside(&path, &SigningKey::from_bytes(&seed)), "ab").unwrap();
        }
        fs::remove_file(&path).unwrap();
        load_or_create(&path, &[7; 32]).unwrap();
        assert_eq!((load(&path).unwrap().to_bytes(), names()), ([7; 32], 2));
    }

    #[test]
    fn a_key_has_its_name_when_it_is_whole_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = |n: u8| folder.path().join(format!("{n}.key"));
        std::thread::scope(|scope| {
            for n in 0..100 {
                // Another process looks for it all the while, and sees none or all of it.
                let made = scope.spawn(move || create(&path(n), &[n; 32]));
                while !made.is_finished() {
                    match load(&path(n)) {
                        Err(KeyFileError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {}
                        other => assert_eq!(other.unwrap().to_bytes(), [n; 32]),
                    }
                }
                made.join().unwrap().unwrap();
            }
        });
    }
}
