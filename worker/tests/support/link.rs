//! An agent as a process has it, on a real disk and over real QUIC: its folder, and the coordinator's side of the link.

use leben_contracts::ledger::keyfile;
use leben_protocol::frame::{Answer, Hello, Order, Report, Request};
use leben_protocol::quic::{Connection, FrameReader, FrameWriter, Listener, public_key};
use leben_worker::io::join::Network;
use leben_worker::io::{Options, config};

use super::{Net, ORIGIN, key, log_vkey};

/// The link key that the ledger has of the coordinator: agents believe that one.
pub fn coordinator() -> [u8; 32] {
    key("coord", "tls").to_bytes()
}

pub const DATASET: &str = r#"
[policy]
auto_approve = true
[[dataset]]
name = "heart"
path = "heart.csv"
id_column = "patient"
permission = { duo = ["GRU"], ehds = ["53.1.e"] }
columns = [
  { name = "patient", type = "text" },
  { name = "age", type = "number" },
  { name = "sex", type = "integer" },
  { name = "target", type = "integer", role = "outcome" },
]
"#;

/// A folder as `join` and a person leave it.
pub fn joined(address: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, use_of) in
        [("party", "party"), ("witness", "witness"), ("validator", "validator"), ("tls", "tls"), ("sealing", "sealing")]
    {
        keyfile::create(&folder.path().join(format!("keys/{name}.key")), &key("h1", use_of).to_bytes()).unwrap();
    }
    let network = Network {
        address: address.to_owned(),
        coordinator_key: hex::encode(public_key(&coordinator()).unwrap()),
        origin: ORIGIN.into(),
        log_vkey: log_vkey().to_string(),
        party: "h1".into(),
    };
    std::fs::write(folder.path().join("network.json"), serde_json::to_vec(&network).unwrap()).unwrap();
    std::fs::write(folder.path().join(config::FILE), DATASET).unwrap();
    let rows: String = (0..50).map(|i| format!("p{i},{},{},{}\n", 40 + i, i % 2, i % 2)).collect();
    std::fs::write(folder.path().join("heart.csv"), format!("patient,age,sex,target\n{rows}")).unwrap();
    folder
}

/// The coordinator's end of a fresh link, its control stream open.
pub async fn control(listener: &Listener) -> (Connection, FrameWriter, FrameReader, u64) {
    let link = listener.accept().await.unwrap().unwrap();
    assert_eq!(link.peer_key(), key("h1", "tls").verifying_key().to_bytes());
    let (writer, mut reader) = link.accept_bi().await.unwrap();
    match reader.expect::<Hello>().await.unwrap() {
        Hello::Control { versions, mirror_size, .. } => {
            assert_eq!(versions, [1]);
            (link, writer, reader, mirror_size)
        }
        other => panic!("{other:?}"),
    }
}

/// Takes requests to append until one of this kind came, and gives it to the log.
pub async fn take_append(net: &mut Net, link: &Connection, kind: &str) {
    let (mut writer, mut reader) = link.accept_bi().await.unwrap();
    match reader.expect::<Hello>().await.unwrap() {
        Hello::Request(Request::Append { envelope, .. }) => {
            let parsed = leben_contracts::ledger::entry::Envelope::parse(&envelope).unwrap();
            assert_eq!(parsed.action().kind, kind);
            let index = net.append(&envelope).unwrap();
            writer.send(&Answer::Appended { index, proof: vec![] }).await.unwrap();
            writer.finish_and_wait().await.unwrap();
        }
        other => panic!("{other:?}"),
    }
}

/// The next report that is about the log. This coordinator relays no gossip, so a request for another hospital's view goes unheard.
pub async fn next_report(reader: &mut FrameReader) -> Report {
    loop {
        match reader.expect().await.unwrap() {
            Report::AskView { .. } => {}
            report => return report,
        }
    }
}

/// Sends what is new, and waits until it is cosigned and certified.
pub async fn bring(net: &Net, from: u64, writer: &mut FrameWriter, reader: &mut FrameReader) {
    let leaves = net.leaves[usize::try_from(from).unwrap()..].to_vec();
    writer.send(&Order::Entries { first_index: from, leaves }).await.unwrap();
    writer.send(&Order::Cosign { body: net.cosign_body(from) }).await.unwrap();
    let report = next_report(reader).await;
    assert!(matches!(report, Report::Cosigned { .. }), "{report:?}");
    for note in net.turns(from, &["h2", "h3"]) {
        writer.send(&Order::Publish { note }).await.unwrap();
        let report = next_report(reader).await;
        assert!(matches!(report, Report::Certified { .. }), "{report:?}");
    }
    writer.send(&Order::Publish { note: net.certificate(&["h2", "h3"]) }).await.unwrap();
    let report = next_report(reader).await;
    assert_eq!(report, Report::Certified { size: net.leaves.len() as u64 });
}

/// The network's clock is this machine's: the agent compares the two.
pub fn options(net: &Net) -> Options {
    let mut options = Options::default();
    let here_ms = options.clock.now_ms();
    options.clock.offset_ms = net.now_ms as i64 - here_ms as i64;
    options
}
