use super::super::body::*;
use super::super::world::*;
use super::*;
use crate::agreement::hash::{ContractId, Hash32};
use std::collections::BTreeMap;

/// One contract that is settled, one that runs, one that is only proposed.
fn world() -> World {
    let (mut w, c) = running();
    w.run_all(&c);
    w.deliver(&c);
    w.act("team", Some(&c), AcceptResult {}.into()).unwrap();
    w.due(&c);
    assert!(w.state.contract(&c).unwrap().phase.is_terminal());
    let second = w.propose(later(terms()));
    w.arm(&second);
    w.propose(later(later(terms())));
    w
}

/// A snapshot and its parts, in memory.
#[derive(Clone, Default)]
struct Kept {
    bytes: Vec<u8>,
    named: Vec<Part>,
    parts: BTreeMap<[u8; 32], Vec<u8>>,
    marks: Marks,
}

impl Kept {
    fn save(&mut self, state: &State) {
        let cut = Cut::new(state, &[7; 32], &self.marks);
        for bytes in cut.parts() {
            let part = Part::of(&bytes);
            self.named.push(part);
            self.parts.insert(part.digest, bytes);
        }
        (self.bytes, self.marks) = (cut.encode(&self.named).unwrap(), cut.marks);
    }

    fn load(&self) -> Result<State, SnapshotError> {
        let frame = decode(&self.bytes, ORIGIN)?;
        assert_eq!(frame.root, [7; 32]);
        frame.state(|part| self.parts.get(&part.digest).cloned().ok_or(SnapshotError::Damaged("a part is missing")))
    }
}

fn saved(w: &World) -> Kept {
    let mut kept = Kept::default();
    kept.save(&w.state);
    kept
}

fn review(w: &mut World, contract: &ContractId, word: &str) {
    let review = AdminReview { verdict: Verdict::Ok, code: code(word) };
    w.act("admin1", Some(contract), review.into()).unwrap();
}

#[test]
fn a_snapshot_is_the_state_and_goes_on_as_the_state_does() {
    let mut w = world();
    let kept = saved(&w);
    let state = kept.load().unwrap();
    assert_eq!(state, w.state);
    assert_eq!(state.to_bytes().unwrap(), w.state.to_bytes().unwrap());
    assert!(state.recent_contracts().eq(w.state.recent_contracts()));
    let mut again = w.clone();
    again.state = state;
    assert_eq!((saved(&again).bytes, saved(&again).parts), (kept.bytes, kept.parts));
    for world in [&mut w, &mut again] {
        let ended = world.state.contracts().find(|contract| contract.phase.is_terminal()).unwrap().id;
        review(world, &ended, "fine");
        world.act("team", None, Transfer { to: id("h1"), credits: 5 }.into()).unwrap();
    }
    assert_eq!(w.state.to_bytes().unwrap(), again.state.to_bytes().unwrap());
    assert!(
        matches!(again.push(w.entries[3].envelope().clone()), Err(e) if matches!(e.reason, crate::agreement::error::Reason::Replayed(3)))
    );
}

#[test]
fn snapshots_behind_any_entries_add_up_to_the_state_of_a_full_replay() {
    let mut w = world();
    let ended = w.state.contracts().find(|contract| contract.phase.is_terminal()).unwrap().id;
    review(&mut w, &ended, "fine");
    w.now_ms += 2 * HOUR;
    review(&mut w, &ended, "again");
    w.now_ms += HOUR / 2;
    w.act("team", None, Transfer { to: id("h1"), credits: 5 }.into()).unwrap();
    for every in [1, 3, 7, 19] {
        let (mut replay, mut kept, mut loaded) = (State::new(ORIGIN), Kept::default(), State::new(ORIGIN));
        for (index, entry) in (0..).zip(&w.entries) {
            replay.apply(index, entry).unwrap();
            loaded.apply(index, entry).unwrap();
            if index % every == 0 {
                kept.save(&loaded);
                loaded = kept.load().unwrap();
                assert_eq!(loaded, replay, "{every}, {index}");
                assert_eq!(loaded.to_bytes().unwrap(), replay.to_bytes().unwrap());
                assert_eq!(Marks::of(&loaded), kept.marks);
            }
        }
        assert_eq!(loaded, w.state);
        // Time passes: what was forgotten stays forgotten, the reviews stand.
        assert!(loaded.seen(&Hash32(w.entries[3].envelope().payload_hash())).is_none());
        assert_eq!(loaded.contract(&ended).unwrap().reviews.len(), 2);
    }
}

#[test]
fn what_is_written_every_time_does_not_grow_with_the_past() {
    let mut w = World::new();
    let mut kept = saved(&w);
    let mut lengths = Vec::new();
    for _ in 0..6 {
        let c = w.propose(later(terms()));
        w.accept(&c, &["team", "h1"]);
        w.act("h2", Some(&c), Reject { code: code("no") }.into()).unwrap();
        w.act("admin1", None, Deposit { party: id("team"), credits: 5, receipt_hash: hash(&c.to_string()) }.into())
            .unwrap();
        kept.save(&w.state);
        assert_eq!(kept.load().unwrap(), w.state);
        lengths.push((kept.bytes.len(), kept.parts.len()));
    }
    // The name of a part, and of one that ended lately; the tree's right edge comes and goes.
    assert!(lengths.windows(2).all(|pair| pair[1].0 < pair[0].0 + 600), "{lengths:?}");
    assert_eq!(lengths.last().unwrap().1, 7);
    let parts: usize = kept.parts.values().map(Vec::len).sum();
    assert!(parts > 6 * 2000, "{parts}");
}

#[test]
fn an_altered_snapshot_is_refused() {
    let kept = saved(&world());
    let bytes = &kept.bytes;
    for at in (0..bytes.len()).step_by(211).chain([0, HEADER.len(), bytes.len() - 1]) {
        let mut altered = kept.clone();
        altered.bytes[at] ^= 0x20;
        assert!(altered.load().is_err(), "byte {at}");
    }
    for len in (0..bytes.len()).step_by(509) {
        assert!(Kept { bytes: bytes[..len].to_vec(), ..kept.clone() }.load().is_err());
    }
    assert_eq!(decode(bytes, "another.log").err(), Some(SnapshotError::Log));
    // Written by another build, and its hash right.
    let signed = |mut other: Vec<u8>| {
        other.extend_from_slice(&Sha256::digest(&other));
        other
    };
    let mut other = bytes[..bytes.len() - 32].to_vec();
    other[HEADER.len()] ^= 1;
    assert_eq!(decode(&signed(other), ORIGIN).err(), Some(SnapshotError::Version));
    // One contract more than there is, and the hash right.
    let mut other = bytes[..bytes.len() - 32].to_vec();
    other[HEADER.len() + SOURCE.len() + 8 + 32 + 7] += 1;
    let other = Kept { bytes: signed(other), ..kept.clone() };
    assert_eq!(other.load().err(), Some(SnapshotError::Damaged("a contract is missing")));
}

#[test]
fn an_altered_part_is_refused() {
    let (mut w, mut kept) = (world(), Kept::default());
    kept.save(&w.state);
    w.act("team", None, Transfer { to: id("h1"), credits: 5 }.into()).unwrap();
    kept.save(&w.state);
    assert_eq!(kept.parts.len(), 2);
    for part in &kept.named {
        let whole = &kept.parts[&part.digest];
        let with = |bytes: &[u8]| {
            let mut altered = kept.clone();
            altered.parts.insert(part.digest, bytes.to_vec());
            altered.load().err()
        };
        let refused = Some(SnapshotError::Damaged("a part is not what was written"));
        for at in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
            let mut altered = whole.clone();
            altered[at] ^= 1 << (at % 8);
            assert_eq!(with(&altered), refused, "byte {at}");
        }
        for len in (0..whole.len()).step_by(401).chain([whole.len() - 1]) {
            assert_eq!(with(&whole[..len]), refused);
        }
        assert_eq!(with(&[&whole[..], &[0]].concat()), refused);
        let mut without = kept.clone();
        without.parts.remove(&part.digest);
        assert_eq!(without.load().err(), Some(SnapshotError::Damaged("a part is missing")));
    }
    // Whatever a part says, it is read without a panic.
    let mut part = kept.parts[&kept.named[0].digest].clone();
    for at in 0..part.len().min(600) {
        part[at] ^= 0xff;
        let mut frame = decode(&kept.bytes, ORIGIN).unwrap();
        frame.parts = vec![Part::of(&part)];
        drop(frame.state(|_| Ok(part.clone())));
    }
}

#[test]
fn one_replay_follows_another() {
    let w = world();
    let (mut first, mut second) = (crate::agreement::Recorded::new(State::new(ORIGIN)), State::new(ORIGIN));
    for (index, entry) in (0..).zip(&w.entries) {
        crate::ledger::Replay::apply(&mut first, index, entry).unwrap();
    }
    while let Some(applied) = first.take(7) {
        second.follow(applied).unwrap();
    }
    assert_eq!((second.next_index(), first.applied().count()), (7, w.entries.len() - 7));
    let gap = first.applied().nth(1).unwrap().clone();
    assert!(second.follow(gap).is_err());
    while let Some(applied) = first.take(u64::MAX) {
        second.follow(applied).unwrap();
    }
    assert_eq!(second.to_bytes().unwrap(), w.state.to_bytes().unwrap());
}

#[test]
fn a_snapshot_is_due_now_and_then() {
    assert!(!is_due(4095, 0, 0) && is_due(4096, 0, 0));
    assert!(!is_due(3_000_000, 2_995_905, 30 << 20) && is_due(3_000_000, 2_995_904, 30 << 20));
    // A hundred MiB of what is going on is not written as often.
    assert!(!is_due(3_000_000, 2_995_904, 100 << 20) && is_due(3_000_000, 2_987_200, 100 << 20));
}
