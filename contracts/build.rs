//! A number for the source text of this crate. A snapshot of the replay is of use only to the very code that made it: whatever changes
//! here, the next start replays the log.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::Path;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src");
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    walk(Path::new("src"), &mut hasher)?;
    println!("cargo::rustc-env=LEBEN_CONTRACTS_SOURCE={:016x}", hasher.finish());
    Ok(())
}

fn walk(dir: &Path, hasher: &mut DefaultHasher) -> io::Result<()> {
    let mut paths = fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, hasher)?;
        } else {
            path.hash(hasher);
            fs::read(&path)?.hash(hasher);
        }
    }
    Ok(())
}
