//! Implementations by other people accept what this crate writes.

use crate::support::{NOW_MS, ORIGIN, cosign, envelopes, log_signer, sequencer};
use leben_contracts::ledger::merkle;
use leben_contracts::ledger::tile::{Builder, TileKind, TilePath, TileReader};
use std::collections::BTreeMap;

#[test]
fn signed_note_reads_and_verifies_our_checkpoints() {
    let batch = sequencer().stage(NOW_MS, &envelopes(0..3)).unwrap().batch.unwrap();
    let bytes = cosign(&batch.note, &[0, 1], 5).to_string();
    let note = signed_note::Note::from_bytes(bytes.as_bytes()).unwrap();
    let verifier = signed_note::StandardVerifier::new(&log_signer().vkey().to_string()).unwrap();
    let (verified, unverified) = note.verify(&signed_note::VerifierList::new(vec![Box::new(verifier)])).unwrap();
    assert_eq!((verified.len(), unverified.len()), (1, 2));
    let checkpoint = tlog_tiles::Checkpoint::from_bytes(note.text()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), (ORIGIN, 3));
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
    let tiles = Tiles(builder.take_files().unwrap().into_iter().map(|f| (f.path, f.bytes)).collect());
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
