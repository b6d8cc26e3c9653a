use super::super::body::*;
use super::super::world::*;
use super::*;

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

#[test]
fn a_snapshot_is_the_state_and_goes_on_as_the_state_does() {
    let mut w = world();
    let bytes = encode(&w.state, &[7; 32]).unwrap();
    let (state, root) = decode(&bytes, ORIGIN).unwrap();
    assert_eq!((&state, root), (&w.state, [7; 32]));
    assert_eq!(state.to_bytes().unwrap(), w.state.to_bytes().unwrap());
    assert_eq!(encode(&state, &root).unwrap(), bytes);
    let mut again = w.clone();
    again.state = state;
    for world in [&mut w, &mut again] {
        let ended = world.state.contracts().find(|contract| contract.phase.is_terminal()).unwrap().id;
        let review = AdminReview { verdict: Verdict::Ok, code: code("fine") };
        world.act("admin1", Some(&ended), review.into()).unwrap();
        world.act("team", None, Transfer { to: id("h1"), credits: 5 }.into()).unwrap();
    }
    assert_eq!(w.state.to_bytes().unwrap(), again.state.to_bytes().unwrap());
    assert!(
        matches!(again.push(w.entries[3].envelope().clone()), Err(e) if matches!(e.reason, crate::agreement::error::Reason::Replayed(3)))
    );
}

#[test]
fn an_altered_snapshot_is_refused() {
    let w = world();
    let bytes = encode(&w.state, &[7; 32]).unwrap();
    for at in (0..bytes.len()).step_by(211).chain([0, HEADER.len(), bytes.len() - 1]) {
        let mut altered = bytes.clone();
        altered[at] ^= 0x20;
        assert!(decode(&altered, ORIGIN).is_err(), "byte {at}");
    }
    for len in (0..bytes.len()).step_by(509) {
        assert!(decode(&bytes[..len], ORIGIN).is_err());
    }
    assert_eq!(decode(&bytes, "another.log").err(), Some(SnapshotError::Log));
    // Written by another build, and its hash right.
    let mut other = bytes[..bytes.len() - 32].to_vec();
    other[HEADER.len()] ^= 1;
    other.extend_from_slice(&Sha256::digest(&other));
    assert_eq!(decode(&other, ORIGIN).err(), Some(SnapshotError::Version));
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
    assert!(!is_due(32_767, 0) && is_due(32_768, 0));
    assert!(!is_due(3_000_000, 2_932_768) && is_due(3_000_000, 2_900_000));
}
