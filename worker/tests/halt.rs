//! What made a hospital stop signing is on its disk, and holds over restarts until a person has looked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::fs;

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::evidence::ForkEvidence;
use leben_contracts::ledger::merkle::{leaf_hash, root_of};
use leben_contracts::ledger::note::Note;
use leben_protocol::frame::{Order, Report};
use leben_protocol::quic::{FrameReader, FrameWriter, Listener};
use leben_worker::agent::{Action, Agent};
use leben_worker::gossip::Source;
use leben_worker::io::{Config, evidence, spawn};
use support::link::{bring, control, coordinator, joined, next_report, options, take_append};
use support::*;

/// Shows everything beyond `from` and asks for a cosignature, which is refused.
async fn refused(net: &Net, from: u64, writer: &mut FrameWriter, reader: &mut FrameReader) -> String {
    let leaves = net.leaves[usize::try_from(from).unwrap()..].to_vec();
    writer.send(&Order::Entries { first_index: from, leaves }).await.unwrap();
    writer.send(&Order::Cosign { body: net.cosign_body(from) }).await.unwrap();
    match next_report(reader).await {
        Report::NotCosigned { size, reject, .. } => {
            assert_eq!(size, from);
            reject.message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_breaks_the_rules_is_kept_and_stops_the_next_process_too_until_somebody_has_looked() {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &coordinator()).unwrap();
    let folder = joined(&listener.local_addr().unwrap().to_string());
    let config = Config::load(folder.path()).unwrap();
    let mut net = Net::new();
    let handle = spawn(config.clone(), options(&net)).unwrap();
    let (link, mut writer, mut reader, _) = control(&listener).await;
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, 0, &mut writer, &mut reader).await;
    take_append(&mut net, &link, "DatasetOffer").await;
    let size = net.leaves.len() as u64;
    bring(&net, size - 1, &mut writer, &mut reader).await;

    // The log sequences and signs the same action a second time.
    let twice = net.leaves.last().unwrap().clone();
    net.leaves.push(twice.clone());
    let hashes: Vec<_> = net.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
    let mut illegal = Note::new(Checkpoint::new(ORIGIN, size + 1, root_of(&hashes)).to_string()).unwrap();
    illegal.push(log_signer().sign(illegal.text(), 0)).unwrap();
    net.note = Some(illegal.clone());
    let words = refused(&net, size, &mut writer, &mut reader).await;
    assert!(words.contains("breaks the ledger's rules"), "{words}");
    handle.stop().await.unwrap();
    let kept = fs::read_dir(folder.path().join("evidence")).unwrap().next().unwrap().unwrap();
    let name = kept.file_name().into_string().unwrap();
    assert!(evidence::list_text(folder.path()).unwrap().contains(&name));
    let text = evidence::show(folder.path(), &name).unwrap();
    assert!(text.contains(&illegal.to_string()) && text.contains(&hex::encode(&twice)), "{text}");

    // Another tree of that size, in which nothing is wrong.
    net.leaves.pop();
    net.enrol("x1");
    assert_eq!(net.leaves.len() as u64, size + 1);
    let handle = spawn(config.clone(), options(&net)).unwrap();
    let (_link, mut writer, mut reader, mirror_size) = control(&listener).await;
    assert_eq!(mirror_size, size);
    writer.send(&net.welcome()).await.unwrap();
    let words = refused(&net, size, &mut writer, &mut reader).await;
    assert!(words.contains("breaks the ledger's rules") && words.contains(&name), "{words}");
    handle.stop().await.unwrap();

    assert!(evidence::clear(folder.path(), false, 1).unwrap_err().contains("--yes-i-have-looked"));
    assert!(evidence::clear(folder.path(), true, 1).unwrap().contains("1 put aside"));
    assert_eq!(evidence::halted(folder.path()).unwrap(), None);
    let handle = spawn(config, options(&net)).unwrap();
    let (_link, mut writer, mut reader, _) = control(&listener).await;
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, size, &mut writer, &mut reader).await;
    handle.stop().await.unwrap();
    assert!(folder.path().join("evidence/cleared-1").join(name).is_file());
}

/// The log's signature over a tree of this size that nobody has.
fn other(size: u64, root: [u8; 32]) -> Note {
    let mut note = Note::new(Checkpoint::new(ORIGIN, size, root).to_string()).unwrap();
    note.push(log_signer().sign(note.text(), 0)).unwrap();
    note
}

#[test]
fn a_fork_that_somebody_has_looked_at_stays_cleared_though_others_still_show_it() {
    let mut net = Net::new();
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("evidence")).unwrap();
    let proof = |a, b| ForkEvidence::of_one_size(&log_vkey(), &a, &b).unwrap();
    let seen = proof(other(3, [1; 32]), other(3, [2; 32]));
    let restarted = |net: &mut Net| {
        let mut agent = Agent::new(setup(false));
        agent.restore_cleared(&evidence::cleared(folder.path()).unwrap());
        agent.handle_order(net.now_ms, net.welcome());
        net.settle(&mut agent);
        agent
    };
    let shown = |agent: &mut Agent, net: &Net, proof: &ForkEvidence| {
        agent.handle_view(net.now_ms, Source::Address("http://elsewhere".into()), proof.to_json().as_bytes());
        drain(agent).into_iter().find_map(|action| match action {
            Action::StoreFork(fork) => Some(*fork),
            _ => None,
        })
    };
    let mut agent = restarted(&mut net);
    let stored = shown(&mut agent, &net, &seen).expect("it halts");
    evidence::keep(folder.path(), 5, &stored).unwrap();
    assert!(evidence::cleared(folder.path()).unwrap().is_empty());
    evidence::clear(folder.path(), true, 6).unwrap();

    let mut agent = restarted(&mut net);
    // The same, or the same fork the other way round.
    for again in [&seen, &proof(other(3, [2; 32]), other(3, [1; 32]))] {
        assert!(shown(&mut agent, &net, again).is_none());
    }
    assert!(agent.mirror().halted().is_none());
    net.enrol("x1");
    net.settle(&mut agent);
    assert_eq!(agent.mirror().signed_size(), net.leaves.len() as u64, "it cosigns");
    // Another one halts it.
    assert!(shown(&mut agent, &net, &proof(other(4, [1; 32]), other(4, [2; 32]))).is_some());
    assert!(agent.mirror().halted().is_some());
}
