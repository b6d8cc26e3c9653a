//! The staged batch: one file that holds everything a commit will write, ended by its SHA-256.

use super::StoreError;
use crate::ledger::note::Note;
use crate::ledger::tile::{Batch, TileFile, TilePath};
use sha2::{Digest, Sha256};
use std::path::PathBuf;

/// Largest staged batch: a mirror may take up 65,536 entries of 32 KiB at a time, with their hashes.
pub(super) const STAGED_BYTES_MAX: usize = 1 << 32;

const HEADER: &[u8] = b"leben-staging/1\n";

pub(super) fn encode(batch: &Batch) -> Result<Vec<u8>, StoreError> {
    let mut out = HEADER.to_vec();
    out.extend_from_slice(&batch.first_index.to_be_bytes());
    out.extend_from_slice(&batch.size.to_be_bytes());
    put(&mut out, batch.note.to_string().as_bytes())?;
    for file in &batch.files {
        put(&mut out, file.path.to_string().as_bytes())?;
        put(&mut out, &file.bytes)?;
    }
    let digest = Sha256::digest(&out);
    out.extend_from_slice(&digest);
    Ok(out)
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) -> Result<(), StoreError> {
    let why = || StoreError::Corrupt { path: PathBuf::from("staging"), why: "a file of 4 GiB".to_owned() };
    let len = u32::try_from(bytes.len()).map_err(|_| why())?;
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

pub(super) fn decode(bytes: &[u8]) -> Result<Batch, String> {
    let (body, digest) = bytes.split_last_chunk::<32>().ok_or("it is too short")?;
    if Sha256::digest(body).as_slice() != digest {
        return Err("its hash does not match its content".to_owned());
    }
    let rest = body.strip_prefix(HEADER).ok_or("it has another format")?;
    let (first_index, rest) = rest.split_first_chunk::<8>().ok_or("it ends early")?;
    let (size, rest) = rest.split_first_chunk::<8>().ok_or("it ends early")?;
    let (note, mut rest) = take(rest)?;
    let note = Note::parse(note).map_err(|e| e.to_string())?;
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (path, after) = take(rest)?;
        let (content, after) = take(after)?;
        let path = std::str::from_utf8(path).map_err(|_| "a path is not UTF-8")?;
        let path = TilePath::parse(path).map_err(|e| e.to_string())?;
        files.push(TileFile { path, bytes: content.to_vec() });
        rest = after;
    }
    Ok(Batch { first_index: u64::from_be_bytes(*first_index), size: u64::from_be_bytes(*size), files, note })
}

fn take(bytes: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or("it ends early")?;
    let len = usize::try_from(u32::from_be_bytes(*len)).map_err(|_| "a length is out of range")?;
    rest.split_at_checked(len).ok_or("it ends early")
}
