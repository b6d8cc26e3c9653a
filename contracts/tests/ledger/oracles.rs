//! Implementations by other people accept what this crate writes.

use crate::support::*;
use ed25519_dalek::{Signature, VerifyingKey};
use leben_contracts::ledger::merkle;
use leben_contracts::ledger::note::VerifierKey;
use leben_contracts::ledger::store::{LogReader, export};
use leben_contracts::ledger::tile::{Builder, TileKind, TilePath, TileReader};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::path::PathBuf;

/// A cosignature key (type 0x04) for somebody else's note reader, written from the specification.
struct Cosigner(VerifierKey);

impl signed_note::Verifier for Cosigner {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn key_id(&self) -> u32 {
        signed_note::key_id(self.0.name(), &[&[4u8][..], &self.0.key().to_bytes()].concat())
    }
    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let (Some((time, signature)), Ok(key)) =
            (signature.split_first_chunk::<8>(), VerifyingKey::from_bytes(&self.0.key().to_bytes()))
        else {
            return false;
        };
        let head = format!("cosignature/v1\ntime {}\n", u64::from_be_bytes(*time));
        let signature = Signature::from_slice(signature);
        signature.is_ok_and(|signature| key.verify_strict(&[head.as_bytes(), text].concat(), &signature).is_ok())
    }
}

fn verifiers() -> signed_note::VerifierList {
    let mut all: Vec<Box<dyn signed_note::Verifier>> =
        vec![Box::new(signed_note::StandardVerifier::new(&log_signer().vkey().to_string()).unwrap())];
    all.extend((0..4).map(|n| Box::new(Cosigner(witness_signer(n).vkey().clone())) as Box<_>));
    signed_note::VerifierList::new(all)
}

#[test]
fn signed_note_verifies_our_checkpoints_and_cosignatures() {
    let batch = sequencer().stage(NOW_MS, &envelopes(0..3)).unwrap().batch.unwrap();
    let bytes = cosign(&batch.note, &[0, 1], 5).to_string();
    let note = signed_note::Note::from_bytes(bytes.as_bytes()).unwrap();
    let (verified, unverified) = note.verify(&verifiers()).unwrap();
    assert_eq!((verified.len(), unverified.len()), (3, 0));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), (ORIGIN, 3));
    assert_eq!(note.to_bytes(), bytes.as_bytes());
}

/// A published folder under somebody else's tile reader, which authenticates every tile it reads against the checkpoint.
struct Folder(PathBuf);

impl tlog_tiles::TileReader for Folder {
    fn height(&self) -> u8 {
        8
    }
    fn read_tiles(&self, tiles: &[tlog_tiles::Tile]) -> Result<Vec<Vec<u8>>, tlog_tiles::Error> {
        let read =
            |tile: &tlog_tiles::Tile| fs::read(self.0.join(tile.path().replacen("tile/8/", "tile/", 1))).unwrap();
        Ok(tiles.iter().map(read).collect())
    }
    fn save_tiles(&self, _: &[tlog_tiles::Tile], _: &[Vec<u8>]) {}
}

#[test]
fn their_reader_takes_an_exported_log_from_the_checkpoint_to_every_entry() {
    let dirs = Dirs::new();
    write_log(&dirs, &[200, 60, 5]);
    let public = dirs.temp.path().join("export");
    export(&dirs.public(), &public).unwrap();
    let bytes = fs::read(public.join("checkpoint")).unwrap();
    let note = signed_note::Note::from_bytes(&bytes).unwrap();
    assert_eq!(note.verify(&verifiers()).unwrap().0.len(), 5);
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    let (size, root) = (checkpoint.size(), *checkpoint.hash());
    let folder = Folder(public.clone());
    let hashes = tlog_tiles::TileHashReader::new(size, root, &folder);
    let ours = LogReader::new(&public);
    let signed = ours.checkpoint().unwrap();
    for index in 0..size {
        let proof = tlog_tiles::prove_record(size, index, &hashes).unwrap();
        let leaf = ours.entry(index, size).unwrap();
        tlog_tiles::check_record(&proof, size, root, index, tlog_tiles::record_hash(&leaf)).unwrap();
        assert_eq!(ours.proof(index, &signed).unwrap().path, proof.iter().map(|hash| hash.0).collect::<Vec<_>>());
    }
}

/// Every stored hash in their order.
struct Stored(Vec<tlog_tiles::Hash>);

impl tlog_tiles::HashReader for Stored {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<tlog_tiles::Hash>, tlog_tiles::Error> {
        Ok(indexes.iter().map(|index| self.0[usize::try_from(*index).unwrap()]).collect())
    }
}

impl merkle::NodeReader for Stored {
    type Error = Infallible;
    fn node(&self, level: u32, index: u64) -> Result<merkle::Hash, Infallible> {
        let at = tlog_tiles::stored_hash_index(u8::try_from(level).unwrap(), index);
        Ok(self.0[usize::try_from(at).unwrap()].0)
    }
}

#[test]
fn every_proof_up_to_300_is_the_one_that_tlog_tiles_makes() {
    let (mut builder, mut stored) = (Builder::default(), Stored(Vec::new()));
    let mut roots = vec![tlog_tiles::Hash(builder.tree().root())];
    for index in 0..300u64 {
        let leaf = index.to_string().into_bytes();
        stored.0.extend(tlog_tiles::stored_hashes(index, &leaf, &stored).unwrap());
        builder.append(leaf).unwrap();
        roots.push(tlog_tiles::tree_hash(index + 1, &stored).unwrap());
        assert_eq!(roots[usize::try_from(index).unwrap() + 1].0, builder.tree().root());
    }
    let theirs = |proof: Vec<merkle::Hash>| proof.into_iter().map(tlog_tiles::Hash).collect::<Vec<_>>();
    for n in 1..=300 {
        for m in 0..n {
            let path = theirs(merkle::inclusion(&stored, m, n).unwrap());
            assert_eq!(path, tlog_tiles::prove_record(n, m, &stored).unwrap(), "{m} in {n}");
            let proof = theirs(merkle::consistency(&stored, m + 1, n).unwrap());
            assert_eq!(proof, tlog_tiles::prove_tree(n, m + 1, &stored).unwrap(), "{} to {n}", m + 1);
        }
    }
}

struct Tiles(BTreeMap<TilePath, Vec<u8>>);
impl TileReader for Tiles {
    type Error = leben_contracts::ledger::tile::TileError;
    fn hashes(&self, path: &TilePath) -> Result<Vec<merkle::Hash>, Self::Error> {
        leben_contracts::ledger::tile::decode_hashes(&self.0[path], path.width)
    }
}

#[test]
fn tlog_tiles_accepts_our_proofs() {
    let (mut builder, size) = (Builder::default(), 700u64);
    for i in 0..size {
        builder.append(i.to_string().into_bytes()).unwrap();
    }
    let root = tlog_tiles::Hash(builder.tree().root());
    let tiles = Tiles(builder.take_files().into_iter().map(|f| (f.path, f.bytes)).collect());
    let nodes = leben_contracts::ledger::tile::TileNodes::new(&tiles, size);
    for index in [0, 1, 255, 256, 511, 699] {
        let leaf = tlog_tiles::record_hash(index.to_string().as_bytes());
        let path = merkle::inclusion(&nodes, index, size).unwrap().into_iter().map(tlog_tiles::Hash).collect();
        tlog_tiles::check_record(&path, size, root, index, leaf).unwrap();
    }
    for old in [1, 2, 255, 256, 257, 512, 699] {
        let old_root = tlog_tiles::Hash(merkle::root_at(&nodes, old).unwrap());
        let proof = merkle::consistency(&nodes, old, size).unwrap().into_iter().map(tlog_tiles::Hash).collect();
        tlog_tiles::check_tree(&proof, size, root, old, old_root).unwrap();
    }
}

#[test]
fn tlog_tiles_spells_paths_the_same_way() {
    for index in [0, 1, 999, 1000, 1_234_067] {
        for width in [1u64, 44, 256] {
            let ours = TilePath { kind: TileKind::Hashes(1), index, width }.to_string();
            let theirs = tlog_tiles::Tile::from_path(&ours.replace("tile/", "tile/8/"));
            if let Ok(tile) = theirs {
                assert_eq!(tile.path(), ours.replace("tile/", "tile/8/"));
            } else {
                panic!("{ours}");
            }
        }
    }
}
