use super::*;
use crate::ledger::merkle::{self, leaf_hash};
use proptest::prelude::*;

#[test]
fn paths_as_c2sp_writes_them() {
    let hash = |level, index, width| TilePath { kind: TileKind::Hashes(level), index, width }.to_string();
    assert_eq!(hash(0, 1_234_067, 256), "tile/0/x001/x234/067");
    assert_eq!(hash(1, 0, 1), "tile/1/000.p/1");
    assert_eq!(hash(0, 999, 256), "tile/0/999");
    assert_eq!(hash(0, 1000, 256), "tile/0/x001/000");
    assert_eq!(TilePath { kind: TileKind::Entries, index: 1, width: 44 }.to_string(), "tile/entries/001.p/44");
    for bad in [
        "tile/0/0",
        "tile/0/x000/000",
        "tile/8/000",
        "tile/00/000",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/",
        "tile/0/001/000",
        "tile/entries/000.p/",
        "checkpoint",
        "tile/0/000/",
        "tile/0/x001/000.p/1/2",
    ] {
        assert!(TilePath::parse(bad).is_err(), "{bad}");
    }
}

struct Memory(BTreeMap<TilePath, Vec<u8>>);
impl TileReader for Memory {
    type Error = TileError;
    fn hashes(&self, path: &TilePath) -> Result<Vec<Hash>, TileError> {
        decode_hashes(self.0.get(path).ok_or_else(|| TileError::Path(path.to_string()))?, path.width)
    }
}

/// Batches of many lengths; after each, the written files are exactly those of the size, and prove what the compact tree says.
#[test]
fn tiles_written_in_batches_serve_every_proof() {
    let (mut builder, mut files, mut roots) =
        (Builder::default(), Memory(BTreeMap::new()), vec![(0, merkle::empty_root())]);
    let mut next = 0u64;
    for batch in [1, 254, 1, 1, 43, 256, 300, 65_536 - 856, 1, 700] {
        for _ in 0..batch {
            builder.append(next.to_string().into_bytes()).unwrap();
            next += 1;
        }
        for file in builder.take_files() {
            files.0.insert(file.path, file.bytes);
        }
        assert_eq!(builder.tree().size(), next);
        for path in paths(next) {
            assert!(files.0.contains_key(&path), "{path} at {next}");
        }
        let nodes = TileNodes::new(&files, next);
        let root = merkle::root_at(&nodes, next).unwrap();
        assert_eq!(root, builder.tree().root());
        for index in [0, next / 2, next - 1] {
            let path = merkle::inclusion(&nodes, index, next).unwrap();
            merkle::verify_inclusion(&path, index, &leaf_hash(index.to_string().as_bytes()), next, &root).unwrap();
        }
        for (old, old_root) in &roots {
            let proof = merkle::consistency(&nodes, *old, next).unwrap();
            merkle::verify_consistency(&proof, *old, old_root, next, &root).unwrap();
        }
        roots.push((next, root));
        let resumed =
            Builder::resume(next, |path| files.0.get(path).cloned().ok_or(TileError::Path(path.to_string()))).unwrap();
        assert_eq!(resumed.tree(), builder.tree());
        builder = resumed;
    }
}

#[test]
fn bundles_hold_exactly_what_they_promise() {
    let entries = vec![b"a".to_vec(), Vec::new(), vec![7; 300]];
    let bytes = encode_bundle(&entries).unwrap();
    assert_eq!(decode_bundle(&bytes, 3).unwrap(), entries);
    assert!(decode_bundle(&bytes, 2).is_err());
    assert!(decode_bundle(&bytes[..bytes.len() - 1], 3).is_err());
    assert!(decode_bundle(&[&bytes[..], &[0]].concat(), 3).is_err());
    assert!(matches!(encode_bundle(&[vec![0; 70_000]]), Err(TileError::EntryTooLong(70_000))));
}

proptest! {
    #[test]
    fn paths_round_trip(level in 0u8..8, index in any::<u64>(), width in 1u64..=256, entries in any::<bool>()) {
        let kind = if entries { TileKind::Entries } else { TileKind::Hashes(level) };
        let path = TilePath { kind, index, width };
        prop_assert_eq!(TilePath::parse(&path.to_string()).unwrap(), path);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in ".{0,40}", width in any::<u64>()) {
        let _ = decode_bundle(&bytes, width);
        let _ = decode_hashes(&bytes, width);
        let _ = TilePath::parse(&text);
        let _ = path_at(TileKind::Hashes(3), width, width);
    }
}
