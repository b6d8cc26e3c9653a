//! A coordinator or a hospital that cheats: each attempt ends in its own named refusal, and nothing is opened.

// Helpers outside a #[test] function count as production code to clippy.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Job, directory, inputs, layout, participant, seed};
use leben_privacy::secure_sum::{Agree, Agreement, Close, Reveal, Signature, SlotKey, Upload};
use leben_privacy::{Collector, JobKeys, Journal, Layout, Opening, Participant, Reject, Sum};

const N: u16 = 4;

/// A slot in which everybody has uploaded.
struct Uploaded {
    job: Job,
    layout: Layout,
    opening: Opening,
    collector: Collector,
    sum: Sum,
}

fn uploaded() -> Uploaded {
    uploaded_by(&[1, 2, 3, 4])
}

fn uploaded_by(hospitals: &[u16]) -> Uploaded {
    let (mut job, layout) = (Job::new(N), layout(10, 16));
    let opening = job.opening(&layout);
    let mut collector = Collector::new(job.directory.clone(), opening.clone(), layout.clone(), 3).unwrap();
    let mut sum = Sum::new(layout.clone(), N).unwrap();
    let inputs = inputs(N, &layout);
    for me in hospitals {
        let values = inputs[usize::from(*me) - 1].clone();
        let upload = job.upload(*me, &opening, &layout, values, &mut sum).unwrap();
        collector.handle_upload(*me, upload).unwrap();
    }
    Uploaded { job, layout, opening, collector, sum }
}

impl Uploaded {
    fn agreed(&mut self) -> (Close, Agreement) {
        let close = self.collector.close().unwrap();
        let mut agreement = None;
        for s in &close.survivors {
            let agree = self.job.get(s.index).agree(&close).unwrap();
            agreement = agreement.or(self.collector.handle_agree(s.index, agree).unwrap());
        }
        (close, agreement.unwrap())
    }
}

/// Opens hospital 1 with a changed opening and all its genuine shares.
fn open_with(change: impl Fn(&mut Job, &mut Opening)) -> Reject {
    let (mut job, layout) = (Job::new(N), layout(10, 16));
    let mut opening = job.opening(&layout);
    change(&mut job, &mut opening);
    let shares = job.shares_for(1, &opening);
    let reject = job.get(1).open(&opening, &layout, &shares).unwrap_err();
    // A refused opening changed nothing: the genuine one still works.
    let genuine = job.opening(&layout);
    let shares = job.shares_for(1, &genuine);
    job.get(1).open(&genuine, &layout, &shares).unwrap();
    reject
}

#[test]
fn substituted_slot_keys() {
    // The coordinator puts its own key in place of hospital 2's: it cannot sign it.
    let reject = open_with(|_, o| o.cohort[1].mask_public = [9; 32]);
    assert_eq!(reject, Reject::Signature { what: "slot key", hospital: 2 });
    let reject = open_with(|_, o| o.cohort[1].self_commit = [9; 32]);
    assert_eq!(reject, Reject::Signature { what: "slot key", hospital: 2 });
    // Signed by another member's key.
    let reject = open_with(|job, o| {
        let other = Participant::new(common::job_keys(3), 3, job.directory.clone(), 3, Journal::default());
        let forged = other.unwrap().advertise(1, [7; 32]);
        o.cohort[1] = SlotKey { hospital_index: 2, ..forged };
    });
    assert_eq!(reject, Reject::Signature { what: "slot key", hospital: 2 });
    // An older or second key of my own, properly signed by me.
    let reject =
        open_with(|job, o| o.cohort[0] = participant(1, &job.directory, Journal::default()).advertise(1, [7; 32]));
    assert_eq!(reject, Reject::NotMyKey { hospital: 1, slot: 1 });
    // A second key of another hospital, properly signed by it: its shares are bound to the first.
    let reject =
        open_with(|job, o| o.cohort[1] = participant(2, &job.directory, Journal::default()).advertise(1, [7; 32]));
    assert_eq!(reject, Reject::BadShare { hospital: 2 });
    // A key of another slot.
    let reject = open_with(|job, o| o.cohort[1] = job.get(2).advertise(2, [7; 32]));
    assert_eq!(reject, Reject::WrongSlot { got: 2, want: 1 });
}

#[test]
fn cohorts_that_are_not() {
    let reject = open_with(|_, o| o.cohort[1] = o.cohort[0].clone());
    assert_eq!(reject, Reject::NotSorted { hospital: 1 });
    let reject = open_with(|_, o| o.cohort.swap(0, 1));
    assert_eq!(reject, Reject::NotSorted { hospital: 1 });
    let reject = open_with(|_, o| drop(o.cohort.drain(2..)));
    assert_eq!(reject, Reject::CohortTooSmall { got: 2, want: 3 });
    let reject = open_with(|_, o| o.cohort.retain(|key| key.hospital_index != 1));
    assert_eq!(reject, Reject::NotInCohort { hospital: 1 });
    let reject = open_with(|_, o| o.cohort[3].hospital_index = 9);
    assert_eq!(reject, Reject::UnknownMember { hospital: 9 });
    let reject = open_with(|_, o| o.hospitals_max = 3);
    assert_eq!(reject, Reject::CohortTooLarge { got: 4, max: 3 });
    let reject = open_with(|_, o| o.job = [0; 32]);
    assert_eq!(reject, Reject::WrongJob);
    let reject = open_with(|_, o| o.layout_digest = layout(11, 16).digest());
    assert_eq!(reject, Reject::WrongLayout);
    let reject = open_with(|_, o| o.slot = 0);
    assert_eq!(reject, Reject::StaleSlot { slot: 0, last: 0 });
}

#[test]
fn replayed_slot() {
    let mut u = uploaded();
    let shares = u.job.shares_for(1, &u.opening);
    let again = u.job.get(1).open(&u.opening, &u.layout, &shares).unwrap_err();
    assert_eq!(again, Reject::StaleSlot { slot: 1, last: 1 });
    let other_model = Opening { model_digest: [0; 32], ..u.opening.clone() };
    let again = u.job.get(1).open(&other_model, &u.layout, &shares).unwrap_err();
    assert_eq!(again, Reject::StaleSlot { slot: 1, last: 1 });
    // Also after a restart that kept the journal.
    let journal = u.job.get(1).journal().clone();
    let mut restarted = participant(1, &u.job.directory, journal);
    restarted.advertise(1, seed([2, 1, 1, 0]));
    assert_eq!(restarted.open(&u.opening, &u.layout, &shares).unwrap_err(), again);
}

#[test]
fn shares_that_are_missing_doubled_strange_or_changed() {
    let (mut job, layout) = (Job::new(N), layout(10, 16));
    let opening = job.opening(&layout);
    let good = job.shares_for(1, &opening);
    let mut open = |change: &dyn Fn(&mut Vec<_>)| {
        let mut shares = good.clone();
        change(&mut shares);
        job.get(1).open(&opening, &layout, &shares).unwrap_err()
    };
    assert_eq!(open(&|s| drop(s.remove(2))), Reject::MissingShare { hospital: 3 });
    assert_eq!(open(&|s| s[2] = s[1].clone()), Reject::MissingShare { hospital: 2 });
    assert_eq!(open(&|s| s[1].from = 3), Reject::BadShare { hospital: 3 });
    assert_eq!(open(&|s| s[1].to = 2), Reject::BadShare { hospital: 2 });
    assert_eq!(open(&|s| s[1].slot = 2), Reject::WrongSlot { got: 2, want: 1 });
    assert_eq!(open(&|s| s[1].from = 9), Reject::NotInCohort { hospital: 9 });
    assert_eq!(open(&|s| s[1].boxed.truncate(112)), Reject::BadShare { hospital: 2 });
    for bit in 0..good[1].boxed.len() * 8 {
        assert_eq!(open(&|s| s[1].boxed[bit / 8] ^= 1 << (bit % 8)), Reject::BadShare { hospital: 2 });
    }
    // Somebody else's share of the same sender does not open here.
    let for_three = job.shares_for(3, &opening)[1].clone();
    let mut shares = good.clone();
    shares[1].boxed = for_three.boxed;
    assert_eq!(job.get(1).open(&opening, &layout, &shares).unwrap_err(), Reject::BadShare { hospital: 2 });
    assert!(job.get(1).open(&opening, &layout, &good).is_ok());
}

#[test]
fn a_hospital_shares_only_with_signed_keys_and_its_own_among_them() {
    let mut job = Job::new(N);
    let keys = job.keys.clone();
    let mut share = |change: &dyn Fn(&mut Vec<SlotKey>)| {
        let mut keys = keys.clone();
        change(&mut keys);
        job.get(1).share(1, &keys, [0; 32]).unwrap_err()
    };
    assert_eq!(share(&|k| k[2].mask_public[0] ^= 1), Reject::Signature { what: "slot key", hospital: 3 });
    assert_eq!(share(&|k| k.retain(|key| key.hospital_index != 1)), Reject::NotMyKey { hospital: 1, slot: 1 });
    assert_eq!(share(&|k| drop(k.drain(2..))), Reject::CohortTooSmall { got: 2, want: 3 });
    assert_eq!(share(&|k| k[1] = k[0].clone()), Reject::NotSorted { hospital: 1 });
}

#[test]
fn closes_that_are_not() {
    let mut u = uploaded();
    let good = u.collector.close().unwrap();
    let job = &mut u.job;
    let mut agree = |change: &dyn Fn(&mut Close)| {
        let mut close = good.clone();
        change(&mut close);
        job.get(1).agree(&close).unwrap_err()
    };
    assert_eq!(agree(&|c| c.survivors[1] = c.survivors[0].clone()), Reject::NotSorted { hospital: 1 });
    assert_eq!(agree(&|c| c.survivors[3].index = 9), Reject::NotInCohort { hospital: 9 });
    assert_eq!(agree(&|c| drop(c.survivors.drain(2..))), Reject::TooFewSurvivors { got: 2, want: 3 });
    assert_eq!(agree(&|c| c.survivors.retain(|s| s.index != 1)), Reject::NotSurvivor { hospital: 1 });
    assert_eq!(agree(&|c| c.slot = 2), Reject::WrongSlot { got: 2, want: 1 });
    let upload = |hospital| Reject::Signature { what: "upload", hospital };
    assert_eq!(agree(&|c| c.survivors[2].root[0] ^= 1), upload(3));
    assert_eq!(agree(&|c| c.survivors[2].signature = c.survivors[1].signature), upload(3));
    // The genuine one, twice the same: the same answer. Then a second, smaller one: refused.
    let first = u.job.get(1).agree(&good).unwrap();
    assert_eq!(u.job.get(1).agree(&good).unwrap(), first);
    let mut second = good.clone();
    second.survivors.pop();
    assert_eq!(u.job.get(1).agree(&second).unwrap_err(), Reject::SecondClose { slot: 1 });
}

/// Two halves of the cohort are shown two sets of survivors: neither view gathers a threshold of signatures.
#[test]
fn split_view_of_the_survivors() {
    let mut u = uploaded();
    let all = u.collector.close().unwrap();
    let mut fewer = all.clone();
    fewer.survivors.pop();
    let (a1, a2) = (u.job.get(1).agree(&all).unwrap(), u.job.get(2).agree(&all).unwrap());
    let a3 = u.job.get(3).agree(&fewer).unwrap();
    u.collector.handle_agree(1, a1.clone()).unwrap();
    u.collector.handle_agree(2, a2.clone()).unwrap();
    let wrong_view = Reject::Signature { what: "agreement", hospital: 3 };
    assert_eq!(u.collector.handle_agree(3, a3.clone()).unwrap_err(), wrong_view);
    let reveal = |u: &mut Uploaded, signatures: Vec<(u16, Signature)>| {
        u.job.get(1).reveal(&Agreement { slot: 1, signatures }, None).unwrap_err()
    };
    let two = vec![(1, a1.signature), (2, a2.signature)];
    assert_eq!(reveal(&mut u, two.clone()), Reject::TooFewAgreed { got: 2, want: 3 });
    let with = |index, signature| two.iter().copied().chain([(index, signature)]).collect::<Vec<_>>();
    assert_eq!(reveal(&mut u, with(3, a3.signature)), wrong_view);
    assert_eq!(reveal(&mut u, with(2, a2.signature)), Reject::NotSorted { hospital: 2 });
    assert_eq!(reveal(&mut u, with(9, a2.signature)), Reject::NotSurvivor { hospital: 9 });
}

#[test]
fn nothing_is_revealed_before_its_time() {
    let mut u = uploaded();
    let none = Agreement { slot: 1, signatures: vec![] };
    assert!(matches!(u.job.get(1).reveal(&none, None).unwrap_err(), Reject::Phase(_)));
    let fresh = participant(1, &u.job.directory, Journal::default());
    assert!(matches!(fresh.sign_upload(1, [0; 32]).unwrap_err(), Reject::Phase(_)));
    let close = u.collector.close().unwrap();
    let agree = u.job.get(1).agree(&close).unwrap();
    assert_eq!(u.job.get(1).reveal(&none, None).unwrap_err(), Reject::TooFewAgreed { got: 0, want: 3 });
    u.collector.handle_agree(1, agree).unwrap();
    let reveal = Reveal { slot: 1, self_shares: vec![], mask_shares: vec![] };
    assert!(matches!(u.collector.handle_reveal(1, reveal).unwrap_err(), Reject::Phase(_)));
}

/// Never both kinds of share for one hospital, whatever agreement is shown afterwards.
#[test]
fn one_kind_of_share_for_each_hospital() {
    let mut u = uploaded_by(&[1, 2, 3]);
    let (_, agreement) = u.agreed();
    for me in [1, 2, 3] {
        let reveal = u.job.get(me).reveal(&agreement, None).unwrap();
        let own: Vec<u16> = reveal.self_shares.iter().map(|(i, _)| *i).collect();
        let mask: Vec<u16> = reveal.mask_shares.iter().map(|(i, _)| *i).collect();
        assert_eq!((own, mask), (vec![1, 2, 3], vec![4]));
        assert_eq!(u.job.get(me).reveal(&agreement, None).unwrap(), reveal);
    }
}

#[test]
fn uploads_that_are_not() {
    let mut u = uploaded_by(&[1, 2, 3]);
    let root = [5; 32];
    let late = |u: &mut Uploaded| {
        let shares = u.job.shares_for(4, &u.opening);
        u.job.get(4).open(&u.opening, &u.layout, &shares).unwrap();
        u.job.get(4).sign_upload(1, root).unwrap()
    };
    let upload = late(&mut u);
    let first = u.collector.close().unwrap().survivors[0].clone();
    let repeat = Upload { slot: 1, root: first.root, signature: first.signature };
    u.collector.handle_upload(1, repeat.clone()).unwrap();
    let twice = u.collector.handle_upload(1, Upload { root, ..repeat }).unwrap_err();
    assert_eq!(twice, Reject::Twice { what: "upload", hospital: 1 });
    assert_eq!(u.collector.handle_upload(4, upload.clone()).unwrap_err(), Reject::Late { hospital: 4, slot: 1 });
    assert_eq!(u.collector.handle_upload(9, upload.clone()).unwrap_err(), Reject::NotInCohort { hospital: 9 });
    let wrong = Upload { slot: 2, ..upload.clone() };
    assert_eq!(u.collector.handle_upload(4, wrong).unwrap_err(), Reject::WrongSlot { got: 2, want: 1 });
    let mut fresh = Collector::new(u.job.directory.clone(), u.opening.clone(), u.layout.clone(), 3).unwrap();
    let forged = Upload { root: [6; 32], ..upload.clone() };
    assert_eq!(fresh.handle_upload(4, forged).unwrap_err(), Reject::Signature { what: "upload", hospital: 4 });
    assert_eq!(fresh.handle_upload(3, upload).unwrap_err(), Reject::Signature { what: "upload", hospital: 3 });
    assert_eq!(fresh.close().unwrap_err(), Reject::TooFewSurvivors { got: 0, want: 3 });
    assert!(matches!(fresh.handle_agree(1, Agree { slot: 1, signature: Signature([0; 64]) }), Err(Reject::Phase(_))));
}

#[test]
fn malformed_reveals() {
    let mut u = uploaded_by(&[1, 2, 3]);
    let (_, agreement) = u.agreed();
    let good = u.job.get(1).reveal(&agreement, None).unwrap();
    let bad = Reject::BadReveal { hospital: 1 };
    let change = |f: &dyn Fn(&mut Reveal)| {
        let mut reveal = good.clone();
        f(&mut reveal);
        reveal
    };
    for reveal in [
        change(&|r| r.self_shares.truncate(2)),
        change(&|r| r.mask_shares.push((1, [0; 32]))),
        change(&|r| r.self_shares.swap(0, 1)),
        change(&|r| r.self_shares[0].1 = [0xff; 32]),
        change(&|r| r.self_shares = r.mask_shares.clone()),
    ] {
        assert_eq!(u.collector.handle_reveal(1, reveal).unwrap_err(), bad);
    }
    assert_eq!(u.collector.handle_reveal(4, good.clone()).unwrap_err(), Reject::NotSurvivor { hospital: 4 });
    assert!(u.collector.handle_reveal(1, good.clone()).unwrap().is_none());
    assert!(u.collector.handle_reveal(1, good.clone()).unwrap().is_none());
    let other = change(&|r| r.self_shares[0].1[0] ^= 1);
    assert_eq!(u.collector.handle_reveal(1, other).unwrap_err(), Reject::Twice { what: "reveal", hospital: 1 });
}

/// A wrong share with no spare to outvote it ends the slot; with a spare the liar is found and the sum is exact.
#[test]
fn wrong_shares_are_noticed_and_outvoted_where_possible() {
    for (liar, mask_kind) in [(1u16, true), (3, true), (1, false), (2, false)] {
        let hospitals: &[u16] = if mask_kind { &[1, 2, 3] } else { &[1, 2, 3, 4] };
        let mut u = uploaded_by(hospitals);
        let (_, agreement) = u.agreed();
        let mut outcome = Ok(None);
        for me in hospitals {
            let mut reveal = u.job.get(*me).reveal(&agreement, None).unwrap();
            if *me == liar {
                let shares = if mask_kind { &mut reveal.mask_shares } else { &mut reveal.self_shares };
                shares[0].1[0] ^= 1;
            }
            outcome = u.collector.handle_reveal(*me, reveal);
            if matches!(outcome, Ok(Some(_))) {
                break;
            }
        }
        if mask_kind {
            assert_eq!(outcome.unwrap_err(), Reject::SharesDoNotFit { hospital: 4 });
        } else {
            let sum = u.sum.unmask(outcome.unwrap().unwrap()).unwrap();
            let fates = [common::Fate::Stays; 4];
            let [exact, compact] = common::reference(4, 50, &fates, &inputs(N, &u.layout));
            assert_eq!((sum.segment("exact").unwrap(), sum.segment("compact").unwrap()), (&exact[..], &compact[..]));
            assert_eq!(u.collector.blamed().into_iter().collect::<Vec<_>>(), [liar]);
        }
    }
}

#[test]
fn directories_that_are_not() {
    let new = |change: &dyn Fn(&mut leben_privacy::Directory)| {
        let mut directory = directory(N);
        change(&mut directory);
        Participant::new(common::job_keys(1), 1, directory, 3, Journal::default()).unwrap_err()
    };
    assert!(matches!(new(&|d| drop(d.members.drain(2..))), Reject::Directory(_)));
    assert!(matches!(new(&|d| d.threshold = 2), Reject::Directory(_)));
    assert!(matches!(new(&|d| d.threshold = 5), Reject::Directory(_)));
    assert!(matches!(new(&|d| d.members[2].keys = d.members[1].keys), Reject::Directory(_)));
    assert!(matches!(new(&|d| d.members[2].hospital = d.members[1].hospital.clone()), Reject::Directory(_)));
    assert!(matches!(new(&|d| d.members[0].index = 0), Reject::Directory(_)));
    assert_eq!(new(&|d| d.members[2].keys.channel = [0; 32]), Reject::WeakKey { hospital: 3 });
    assert_eq!(new(&|d| d.members.swap(1, 2)), Reject::NotSorted { hospital: 2 });
    assert_eq!(new(&|d| d.members[0].index = 1000).hospital(), Some(2));
    assert!(matches!(new(&|d| d.members[0].keys = JobKeys::from_seed([9; 32]).public()), Reject::Directory(_)));
}

#[test]
fn secrets_are_not_printed() {
    let mut u = uploaded();
    let (_, agreement) = u.agreed();
    let reveal = u.job.get(1).reveal(&agreement, None).unwrap();
    let shown = format!("{reveal:?} {:?} {:?} {:?}", u.job.participants[&1], u.job.shares[0], common::job_keys(1));
    let share = hex::encode(&reveal.self_shares[0].1[..4]);
    let list = format!("{:?}", &reveal.self_shares[0].1[..4]);
    assert!(!shown.contains(&share) && !shown.contains(list.trim_matches(['[', ']'])), "{shown}");
}
