//! What made a hospital stop signing is on its disk, and holds over restarts until a person has looked.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::fs;

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::merkle::{leaf_hash, root_of};
use leben_contracts::ledger::note::Note;
use leben_protocol::frame::{Order, Report};
use leben_protocol::quic::{FrameReader, FrameWriter, Listener};
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

    assert!(evidence::clear(folder.path(), 1).unwrap().contains("1 put aside"));
    assert_eq!(evidence::halted(folder.path()).unwrap(), None);
    let handle = spawn(config, options(&net)).unwrap();
    let (_link, mut writer, mut reader, _) = control(&listener).await;
    writer.send(&net.welcome()).await.unwrap();
    bring(&net, size, &mut writer, &mut reader).await;
    handle.stop().await.unwrap();
    assert!(folder.path().join("evidence/cleared-1").join(name).is_file());
}
