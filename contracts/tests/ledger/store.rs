use crate::support::*;
use leben_contracts::ledger::follow::Follower;
use leben_contracts::ledger::sequencer::Sequencer;
use leben_contracts::ledger::store::{LogStore, Mirror, MirrorError, StoreError, export};
use leben_contracts::ledger::tile::Batch;
use leben_contracts::verify::{Options, verify_folder};
use std::fs;

fn verify(dirs: &Dirs) -> u64 {
    let mut names = Names::default();
    let options = Options { policy: Some(policy()), replay: Some(&mut names), ..Options::default() };
    verify_folder(&dirs.public(), options).unwrap().checkpoint.size
}

/// Opens a copy as a start-up after a crash would, and goes on writing to it.
fn recover_and_go_on(crashed: &Dirs, expected_size: u64, next_name: u32) {
    let mut store = crashed.open().unwrap();
    assert_eq!(store.size(), expected_size);
    assert!(fs::read_dir(crashed.state().join("staging")).unwrap().next().is_none());
    let mut follower = Follower::new(ORIGIN, Names::default());
    for leaf in store.reader().entries(0..expected_size, expected_size).unwrap() {
        follower.apply(&leben_contracts::ledger::entry::Entry::parse(&leaf).unwrap()).unwrap();
    }
    let mut sequencer = Sequencer::new(log_signer(), store.builder().unwrap(), follower).unwrap();
    let batch = sequencer.stage(NOW_MS + 9, &envelopes(next_name..next_name + 3)).unwrap().batch.unwrap();
    store.commit(&batch).unwrap();
    store.publish(&cosign(&batch.note, &[0, 1, 2], NOW_MS / 1000)).unwrap();
    assert_eq!(verify(crashed), expected_size + 3);
}

#[test]
fn a_crash_after_each_step_recovers() {
    for (first, second) in [(5, 4), (250, 10), (255, 1), (256, 256)] {
        let dirs = Dirs::new();
        let (mut store, mut sequencer) = (dirs.open().unwrap(), sequencer());
        store.publish_policy(&policy()).unwrap();
        let one = sequencer.stage(NOW_MS, &envelopes(0..first)).unwrap().batch.unwrap();
        store.commit(&one).unwrap();
        store.publish(&cosign(&one.note, &[0, 1, 2], NOW_MS / 1000)).unwrap();
        let two = sequencer.stage(NOW_MS, &envelopes(first..first + second)).unwrap().batch.unwrap();
        recover_and_go_on(&dirs.copy(), one.size, 1000);
        store.stage_durable(&two).unwrap();
        recover_and_go_on(&dirs.copy(), one.size, 1000);
        store.commit_head(&two).unwrap();
        recover_and_go_on(&dirs.copy(), two.size, 1000);
        for done in 0..two.files.len() {
            let crashed = dirs.copy();
            for file in &two.files[..done] {
                let path = crashed.public().join(file.path.to_string());
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, &file.bytes).unwrap();
            }
            let torn = crashed.public().join(format!("{}.tmp", two.files[done].path));
            fs::create_dir_all(torn.parent().unwrap()).unwrap();
            fs::write(torn, b"half").unwrap();
            recover_and_go_on(&crashed, two.size, 1000);
        }
        store.apply(&two).unwrap();
        recover_and_go_on(&dirs.copy(), two.size, 1000);
        store.publish(&cosign(&two.note, &[1, 2, 3], NOW_MS / 1000)).unwrap();
        recover_and_go_on(&dirs.copy(), two.size, 1000);
    }
}

#[test]
fn a_crash_inside_a_durable_replace_leaves_the_old_or_the_new() {
    let dirs = Dirs::new();
    write_log(&dirs, &[3]);
    for torn in
        [dirs.state().join("HEAD.tmp"), dirs.public().join("checkpoint.tmp"), dirs.state().join("staging/9.tmp")]
    {
        fs::write(torn, b"half a no").unwrap();
    }
    recover_and_go_on(&dirs, 3, 1000);
}

#[test]
fn two_processes_on_one_folder_are_refused() {
    let dirs = Dirs::new();
    let first = dirs.open().unwrap();
    assert!(matches!(dirs.open(), Err(StoreError::Locked(_))));
    drop(first);
    dirs.open().unwrap();
}

#[test]
fn a_head_that_somebody_else_moved_is_a_lost_swap() {
    let dirs = Dirs::new();
    let batches = write_log(&dirs, &[2, 2]);
    let mut store = dirs.open().unwrap();
    let mut other = sequencer();
    other.stage(NOW_MS, &envelopes(0..2)).unwrap();
    other.stage(NOW_MS + 1, &envelopes(2..4)).unwrap();
    let next = other.stage(NOW_MS, &envelopes(4..5)).unwrap().batch.unwrap();
    store.stage_durable(&next).unwrap();
    fs::write(dirs.state().join("HEAD"), batches[0].note.to_string()).unwrap();
    assert!(matches!(store.commit_head(&next), Err(StoreError::LostSwap)));
    assert!(matches!(store.commit_head(&next), Err(StoreError::OutOfOrder(_))), "a failed store does nothing more");
}

#[test]
fn a_restored_backup_refuses_to_start() {
    let dirs = Dirs::new();
    let first = write_log(&dirs, &[2]);
    let backup = dirs.copy();
    let mut newer = sequencer();
    newer.stage(NOW_MS, &envelopes(0..2)).unwrap();
    let batch = newer.stage(NOW_MS, &envelopes(2..4)).unwrap().batch.unwrap();
    {
        let mut store = dirs.open().unwrap();
        store.commit(&batch).unwrap();
        store.publish(&cosign(&batch.note, &[0, 1, 2], 7)).unwrap();
    }
    // The state folder alone is restored: what is published is newer.
    fs::remove_dir_all(dirs.state()).unwrap();
    copy_dir(&backup.state(), &dirs.state());
    assert!(matches!(dirs.open(), Err(StoreError::RolledBack { seen: 4, head: 2 })));
    // Both folders are restored: only a witness remembers.
    let store = backup.open().unwrap();
    assert!(matches!(store.verify_seen(&batch.note), Err(StoreError::RolledBack { seen: 4, head: 2 })));
    store.verify_seen(&first[0].note).unwrap();
    let forked = checkpoint_note(2, [7; 32]);
    assert!(matches!(store.verify_seen(&forked), Err(StoreError::Forked { size: 2 })));
    drop(store);
    // The state folder is lost.
    fs::remove_dir_all(backup.state()).unwrap();
    assert!(matches!(backup.open(), Err(StoreError::RolledBack { .. })));
}

#[test]
fn damage_at_the_right_edge_is_found_at_start() {
    let dirs = Dirs::new();
    write_log(&dirs, &[3]);
    for name in ["public/tile/0/000.p/3", "public/tile/entries/000.p/3", "public/checkpoint", "state/HEAD"] {
        let path = dirs.temp.path().join(name);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, bad).unwrap();
            // The witnesses' lines are not this store's to check.
            let is_cosignature = name.ends_with("checkpoint") && at > good.len() - 600;
            assert!(dirs.open().is_err() || is_cosignature, "{name} byte {at}");
        }
        fs::write(&path, good).unwrap();
    }
    dirs.open().unwrap();
}

#[test]
fn steps_out_of_order_are_refused() {
    let batch = |n: u32| -> (Dirs, LogStore, Batch) {
        let dirs = Dirs::new();
        let store = dirs.open().unwrap();
        let batch = sequencer().stage(NOW_MS, &envelopes(0..n)).unwrap().batch.unwrap();
        (dirs, store, batch)
    };
    let (_dirs, mut store, one) = batch(1);
    assert!(matches!(store.commit_head(&one), Err(StoreError::OutOfOrder(_))));
    let (_dirs, mut store, one) = batch(1);
    assert!(matches!(store.apply(&one), Err(StoreError::OutOfOrder(_))));
    let (_dirs, mut store, one) = batch(1);
    assert!(matches!(store.publish(&one.note), Err(StoreError::RolledBack { .. })));
    let (_dirs, mut store, mut one) = batch(1);
    one.first_index = 1;
    assert!(matches!(store.stage_durable(&one), Err(StoreError::OutOfOrder(_))));
}

#[test]
fn a_full_disk_or_missing_folder_is_fatal() {
    let dirs = Dirs::new();
    let mut store = dirs.open().unwrap();
    let batch = sequencer().stage(NOW_MS, &envelopes(0..1)).unwrap().batch.unwrap();
    fs::remove_dir_all(dirs.state().join("staging")).unwrap();
    let error = store.stage_durable(&batch).unwrap_err();
    assert!(matches!(error, StoreError::Io { what: "create", .. }), "{error}");
    assert!(error.to_string().contains("staging/1.tmp"), "{error}");
    assert!(store.stage_durable(&batch).is_err());
}

#[test]
fn partial_tiles_do_not_pile_up() {
    let dirs = Dirs::new();
    write_log(&dirs, &[1; 12]);
    let partials = fs::read_dir(dirs.public().join("tile/0/000.p")).unwrap().count();
    assert!(partials <= 3, "{partials} partial tiles are left");
    assert_eq!(verify(&dirs), 12);
    let across = Dirs::new();
    write_log(&across, &[250, 3, 3, 3, 3]);
    assert!(!across.public().join("tile/0/000.p").exists());
    assert_eq!(verify(&across), 262);
}

#[test]
fn a_mirror_is_byte_for_byte_the_log() {
    let (dirs, copy) = (Dirs::new(), Dirs::new());
    let batches = write_log(&dirs, &[3, 250, 5, 300 - 256]);
    let size = batches[3].size;
    let reader = leben_contracts::ledger::store::LogReader::new(&dirs.public());
    let mut mirror = Mirror::open(&copy.public(), &copy.state(), &log_vkey()).unwrap();
    mirror.publish_policy(&policy()).unwrap();
    for batch in &batches {
        let entries = reader.entries(mirror.next_index()..batch.size, size).unwrap();
        let mut swapped = entries.clone();
        swapped.swap(0, 1);
        assert!(matches!(mirror.append(&swapped, &batch.note), Err(MirrorError::Entries { .. })));
        assert!(matches!(mirror.append(&entries[1..], &batch.note), Err(MirrorError::Entries { .. })));
        mirror.append(&entries, &batch.note).unwrap();
        mirror.publish(&cosign(&batch.note, &[0, 1, 2, 3], NOW_MS / 1000 + 3)).unwrap();
    }
    assert_eq!(files(&dirs.public()), files(&copy.public()));
    drop(mirror);
    let again = Mirror::open(&copy.public(), &copy.state(), &log_vkey()).unwrap();
    assert_eq!(again.next_index(), size);
}

#[test]
fn an_export_holds_what_the_checkpoint_covers_and_no_more() {
    let (dirs, out) = (Dirs::new(), Dirs::new());
    write_log(&dirs, &[3, 4]);
    let mut store = dirs.open().unwrap();
    let mut sequencer = sequencer();
    sequencer.stage(NOW_MS, &envelopes(0..3)).unwrap();
    sequencer.stage(NOW_MS + 1, &envelopes(3..7)).unwrap();
    store.commit(&sequencer.stage(NOW_MS, &envelopes(7..9)).unwrap().batch.unwrap()).unwrap();
    let beyond = verify_folder(&dirs.public(), Options::default()).unwrap_err();
    assert_eq!(beyond.exit_code(), 2);
    assert_eq!(export(&dirs.public(), &out.public()).unwrap(), 7);
    assert_eq!(verify(&out), 7);
    assert!(export(&dirs.public(), &out.public()).is_err(), "not over an older export");
}
