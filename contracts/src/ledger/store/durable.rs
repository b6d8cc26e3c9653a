//! The few ways in which this project writes a file that must survive a crash.

use super::StoreError;
use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { what, path, source }
}

/// What to do when this could not be done: who only reads has nothing to lose.
pub(super) fn advice(what: &str) -> &'static str {
    match what {
        "open" | "read" | "list" | "look for" => "",
        _ => "; stopping, nothing acknowledged is lost; free space or repair the disk, then start again",
    }
}

/// Replaces a file durably: temporary file beside it (`<name>.tmp`), write, fsync, rename, fsync of the folder. After a crash the file
/// holds the old bytes or the new ones, never a mixture; when this returns, the new ones.
///
/// # Errors
/// [`StoreError::Io`]. Do not retry on the same file: after a failed fsync the system may have dropped the data. Exit.
pub fn durable_replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    replace(path, bytes)?;
    sync_dir(parent(path))
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(failed("create", &temporary))?;
    file.write_all(bytes).map_err(failed("write", &temporary))?;
    file.sync_all().map_err(failed("fsync", &temporary))?;
    fs::rename(&temporary, path).map_err(failed("rename to", path))
}

/// Creates a file that must never change, with its folders. A file that is there already must hold the same bytes. The caller syncs
/// the folder, once for all files in it.
pub(super) fn create_once(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    if let Some(there) = unless_absent(fs::read(path)).map_err(failed("read", path))? {
        if there != bytes {
            let why = "it exists already with other bytes than the log is about to write".to_owned();
            return Err(StoreError::Corrupt { path: path.to_path_buf(), why });
        }
        return Ok(());
    }
    ensure_dir(parent(path))?;
    replace(path, bytes)
}

/// Creates a folder and its parents, each made durable in its parent.
///
/// # Errors
/// [`StoreError::Io`].
pub fn ensure_dir(path: &Path) -> Result<(), StoreError> {
    if path.as_os_str().is_empty() || path.is_dir() {
        return Ok(());
    }
    ensure_dir(parent(path))?;
    match fs::create_dir(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(failed("create", path)(e)),
        _ => sync_dir(parent(path)),
    }
}

pub(super) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let dir = File::open(path).map_err(failed("open", path))?;
    dir.sync_all().map_err(failed("fsync", path))
}

/// Makes the names of these folders durable, as far as they exist: a process that died may have made one and not come to its fsync,
/// and what stands in it would go with it when the power does.
pub(super) fn settle(folders: &[&Path]) -> Result<(), StoreError> {
    let above: BTreeSet<&Path> = folders.iter().filter(|folder| folder.is_dir()).map(|folder| parent(folder)).collect();
    above.into_iter().try_for_each(sync_dir)
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("."))
}

/// Removes a file, if it is there. Not made durable: a file that comes back after a crash is removed again.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    unless_absent(fs::remove_file(path)).map_err(failed("remove", path)).map(drop)
}

/// Names in a folder, sorted; one that is not UTF-8 is an error.
pub(crate) fn names(dir: &Path) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed("list", dir))? {
        let name = entry.map_err(failed("list", dir))?.file_name();
        let why = || StoreError::Corrupt { path: dir.join(&name), why: "its name is not UTF-8".to_owned() };
        names.push(name.to_str().ok_or_else(why)?.to_owned());
    }
    names.sort();
    Ok(names)
}

/// Reads a file of at most `bytes_max` bytes.
///
/// # Errors
/// [`StoreError::Io`]; [`StoreError::Corrupt`] when it is longer.
pub fn read_at_most(path: &Path, bytes_max: usize) -> Result<Vec<u8>, StoreError> {
    match read_if_there(path, bytes_max)? {
        Some(bytes) => Ok(bytes),
        None => Err(failed("open", path)(io::Error::new(io::ErrorKind::NotFound, "there is no such file"))),
    }
}

/// The same, or `None` when there is no such file. A disk that does not answer is an error and no missing file: what this
/// project remembers must not seem forgotten.
///
/// # Errors
/// As [`read_at_most`].
pub fn read_if_there(path: &Path, bytes_max: usize) -> Result<Option<Vec<u8>>, StoreError> {
    let Some(file) = unless_absent(File::open(path)).map_err(failed("open", path))? else { return Ok(None) };
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    let len = file.metadata().map_err(failed("read", path))?.len();
    // One more, so that the end is seen without growing.
    let mut bytes = Vec::with_capacity(usize::try_from(len).unwrap_or(bytes_max).min(bytes_max).saturating_add(1));
    file.take(limit).read_to_end(&mut bytes).map_err(failed("read", path))?;
    if bytes.len() > bytes_max {
        let why = format!("it is longer than the {bytes_max} bytes it can have");
        return Err(StoreError::Corrupt { path: path.to_path_buf(), why });
    }
    Ok(Some(bytes))
}

/// The last bytes of a file, or `None` when it is not there or shorter.
pub(crate) fn read_tail<const N: usize>(path: &Path) -> Result<Option<[u8; N]>, StoreError> {
    let Some(mut file) = unless_absent(File::open(path)).map_err(failed("open", path))? else { return Ok(None) };
    let len = file.metadata().map_err(failed("read", path))?.len();
    let Some(from) = len.checked_sub(N as u64) else { return Ok(None) };
    let mut tail = [0; N];
    file.seek(SeekFrom::Start(from)).and_then(|_| file.read_exact(&mut tail)).map_err(failed("read", path))?;
    Ok(Some(tail))
}

/// Whether something is there, or the system's reason not to say.
pub(super) fn is_there(path: &Path) -> Result<bool, StoreError> {
    path.try_exists().map_err(failed("look for", path))
}

fn unless_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Takes the folder's lock, held until the file is dropped or the process ends however it ends.
pub(super) fn lock(path: &Path) -> Result<File, StoreError> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(failed("open", path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(path.to_path_buf())),
        Err(TryLockError::Error(source)) => Err(failed("lock", path)(source)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_file_name_is_replaced_where_the_process_stands() {
        let name = format!("leben-durable-{}.test", std::process::id());
        durable_replace(Path::new(&name), b"old").unwrap();
        durable_replace(Path::new(&name), b"new").unwrap();
        assert_eq!(fs::read(Path::new(".").join(&name)).unwrap(), b"new");
        assert!(!Path::new(&format!("{name}.tmp")).exists());
        fs::remove_file(name).unwrap();
    }
}
