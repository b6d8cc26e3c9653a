//! Model states in files: written block by block while they are worked out, read again as what they are found to be.
//!
//! A state becomes visible in two steps: [`write()`] makes a whole file that nobody knows, as long as it takes; [`Store`] then
//! gives it its name. What has a name is complete, and its bytes are looked at again at every start.
//!
//! [`Store`]: super::store::Store

use std::fs::File;
use std::io::{self, BufWriter};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use leben_models::State;
use leben_models::state::{Bytes, WriteError};
use leben_privacy::SourceError;

use crate::model::Model;

/// Bytes that go to the disk at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A file that a state's large tensors are read from, for as long as somebody holds it, even when it has lost its name.
struct StateFile {
    file: File,
    bytes: u64,
}

impl Bytes for StateFile {
    fn len(&self) -> u64 {
        self.bytes
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<(), SourceError> {
        self.file.read_exact_at(out, offset).map_err(|error| SourceError(format!("the model's file: {error}")))
    }
}

/// Writes a state to a new file, durably.
pub fn write(path: &Path, state: &State) -> io::Result<Model> {
    let file = File::options().create(true).truncate(true).read(true).write(true).open(path)?;
    let mut writer = BufWriter::with_capacity(WRITE_BYTES, file);
    let (bytes, digest) = state.write_to(&mut writer).map_err(|error| match error {
        WriteError::Io(error) => error,
        WriteError::State(error) => io::Error::other(error),
    })?;
    let file = writer.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    let state = State::open(Arc::new(StateFile { file, bytes })).map_err(io::Error::other)?;
    Ok(Model { state, digest, bytes })
}

/// The state in a file, if it is one and hashes to what its name says; `None` if it is damaged.
pub fn read(path: &Path, digest: &str) -> io::Result<Option<Model>> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let Ok(state) = State::open(Arc::new(StateFile { file, bytes })) else { return Ok(None) };
    let found = state.digest().map_err(io::Error::other)?;
    Ok((hex::encode(found) == digest).then_some(Model { state, digest: found, bytes }))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use leben_models::state::OUTSIDE_VALUES_MIN;

    use super::*;

    /// What was written is read again, small or large; a file with one bit changed, or cut, is none.
    #[test]
    fn a_state_comes_back_only_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for count in [3, OUTSIDE_VALUES_MIN + 5] {
            let values: Vec<f32> = (0..count).map(|i| i as f32).collect();
            let state = State::default().with("round", vec![2.0]).with32("model", values);
            let path = dir.path().join("state");
            let model = write(&path, &state).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!((model.bytes, model.digest), (bytes.len() as u64, state.digest().unwrap()));
            let name = hex::encode(model.digest);
            let again = read(&path, &name).unwrap().unwrap();
            assert_eq!((&again.state, &model.state), (&state, &state));
            assert_eq!((again.digest, again.bytes), (model.digest, model.bytes));
            // What is open goes on after its name is gone.
            fs::remove_file(&path).unwrap();
            assert_eq!(again.state, state);
            let mut other = bytes.clone();
            *other.last_mut().unwrap() ^= 1;
            fs::write(&path, other).unwrap();
            assert!(read(&path, &name).unwrap().is_none());
            fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
            assert!(read(&path, &name).unwrap().is_none());
        }
        let full = write(Path::new("/dev/full"), &State::default().with("round", vec![0.0; 1 << 18]));
        assert_eq!(full.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
