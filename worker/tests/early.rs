//! Certificates that come before their entries: each that a change of who has to sign needs is kept, or asked for again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::note::Note;
use leben_protocol::frame::Order;
use leben_worker::agent::{Action, Agent};
use leben_worker::io::link::Holds;
use leben_worker::io::store::Store;
use leben_worker::mirror::{Mirror, Published};
use support::*;

/// Everything certified, then h1 h2 h3 give way to h1 h2 x1. The copy has not heard of it; its size comes too.
fn turning() -> (Net, Mirror, usize) {
    let mut net = Net::new();
    let mut mirror = new_mirror();
    mirror.restore(&net.leaves, Some(Note::parse(&net.certificate(&["h2", "h3"])).unwrap())).unwrap();
    let from = net.leaves.len();
    net.enrol("x1");
    net.set_policy(&["h1", "h2", "x1"], 2);
    (net, mirror, from)
}

#[test]
fn what_is_published_of_a_turn_takes_the_place_of_no_certificate() {
    // What is published names those who sign now; the certificate those as well who signed before.
    let notes = [&["h2", "h3", "x1"][..], &["h2", "x1"]];
    for shown in [[notes[0], notes[1], notes[0]], [notes[1], notes[0], notes[1]]] {
        let (net, mut mirror, from) = turning();
        for cosigners in shown {
            assert!(matches!(mirror.handle_publish(&net.certificate(cosigners)), Ok(Published::Early)));
        }
        mirror.handle_entries(from as u64, net.leaves[from..].to_vec()).unwrap();
        mirror.handle_cosign(net.now_ms, &net.cosign_body(0)).unwrap();
        let looked: Vec<_> = std::iter::from_fn(|| mirror.poll_early()).collect();
        assert_eq!(looked.len(), 2, "what is held already is not held again");
        assert!(looked.iter().any(|early| matches!(early, Ok(Published::New(_)))), "{looked:?}");
        assert_eq!(mirror.certified(), net.state());
    }
}

#[test]
fn who_was_killed_before_a_turns_certificate_was_stored_says_how_far_it_is_certified() {
    let (net, _, from) = turning();
    let folder = tempfile::tempdir().unwrap();
    let certified = Note::parse(&{
        let mut before = Net::new();
        before.now_ms = net.now_ms;
        before.certificate(&["h2", "h3"])
    })
    .unwrap();
    let mut store = Store::open(folder.path(), &log_vkey()).unwrap();
    store.store_entries(&net.leaves[..from], &certified.with_lines(|line| line.is_by(&log_vkey()))).unwrap();
    store.store_certificate(&certified, None, None).unwrap();
    store.store_entries(&net.leaves[from..], net.note.as_ref().unwrap()).unwrap();
    let holds = Holds::of(store.ledger(), None);
    assert_eq!((holds.mirror_size, holds.certified_size), (net.leaves.len() as u64, from as u64));
    // Shown what is beyond that, it goes on.
    let mut mirror = new_mirror();
    mirror.restore(&net.leaves, Some(certified)).unwrap();
    for note in net.turns(holds.certified_size, &["h2", "h3", "x1"]) {
        assert!(matches!(mirror.handle_publish(&note), Ok(Published::New(_))));
    }
    assert_eq!(mirror.certified(), net.state());
}

#[test]
fn a_certificate_for_which_there_was_no_room_is_fetched_over_a_new_link() {
    let (mut net, mirror, from) = turning();
    let mut agent = Agent::new(leben_worker::agent::Setup { mirror, ..setup(false) });
    agent.handle_order(net.now_ms, net.welcome());
    // The log grows faster than this hospital takes it in.
    for size in 0..1100 {
        let mut note = Note::new(Checkpoint::new(ORIGIN, 5000 + size, [1; 32]).to_string()).unwrap();
        note.push(log_signer().sign(note.text(), 0)).unwrap();
        agent.handle_order(net.now_ms, Order::Publish { note: note.to_string().into_bytes() });
    }
    let turned = net.certificate(&["h2", "h3", "x1"]);
    agent.handle_order(net.now_ms, Order::Publish { note: turned.clone() });
    net.enrol("x2");
    agent.handle_order(net.now_ms, Order::Publish { note: net.certificate(&["h2", "x1"]) });
    drain(&mut agent);
    let leaves = net.leaves[from..].to_vec();
    agent.handle_order(net.now_ms, Order::Entries { first_index: from as u64, leaves });
    agent.handle_order(net.now_ms, Order::Cosign { body: net.cosign_body(0) });
    agent.handle_order(net.now_ms, Order::Publish { note: net.certificate(&["h2", "x1"]) });
    let unlinks = |agent: &mut Agent| drain(agent).iter().filter(|action| matches!(action, Action::Unlink(_))).count();
    assert_eq!((unlinks(&mut agent), agent.mirror().certified_size()), (1, from as u64));
    agent.handle_unlinked();
    agent.handle_order(net.now_ms, net.welcome());
    agent.handle_order(net.now_ms, Order::Publish { note: net.certificate(&["h2", "x1"]) });
    assert_eq!(unlinks(&mut agent), 0, "nothing was dropped over this link");
    agent.handle_order(net.now_ms, Order::Publish { note: turned });
    agent.handle_order(net.now_ms, Order::Publish { note: net.certificate(&["h2", "x1"]) });
    assert_eq!((unlinks(&mut agent), agent.mirror().certified()), (0, net.state()));
}
