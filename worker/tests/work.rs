//! Rows to a masked vector: no row beyond what was signed, and nothing at all below the smallest cohort.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that panics has failed")]

mod support;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use leben_models::{Column, Kind, Table};
use leben_protocol::frame::{Hello, UploadReply, UploadTrailer};
use leben_protocol::quic::transfer::ParcelKind;
use leben_protocol::quic::{ChunkReader, Connection, Dialer, FrameReader, FrameWriter, Listener, Parcel, public_key};
use leben_worker::agent::Action;
use leben_worker::io::link::{Holds, Shared};
use leben_worker::io::upload::{self, Ended, Upload};
use leben_worker::io::work::{Tables, WorkError, cohort_of, compute, rows_secret};
use leben_worker::io::{Config, config};
use leben_worker::refusal::{Reason, Refusal};
use support::*;

fn table(rows: usize) -> Table {
    let column =
        |name: &str, value: fn(usize) -> f64| (Column::new(name, Kind::Number), (0..rows).map(value).collect());
    Table::from_columns(vec![
        column("age", |i| i as f64),
        column("sex", |i| (i % 2) as f64),
        column("target", |i| (i % 3) as f64),
        column("income", |i| i as f64 * 1e3),
    ])
    .unwrap()
}

#[test]
fn query_cap_minimum_and_columns_are_those_of_the_terms() {
    let input = terms().inputs[0].clone();
    let all = cohort_of(&table(50), &input, false).unwrap();
    assert_eq!((all.rows(), all.columns().len()), (50, 3));
    assert!(all.column("income").is_none(), "a column that was not granted is not handed on");
    assert_eq!(cohort_of(&table(500), &input, false).unwrap().rows(), 200, "the row cap");
    assert_eq!(cohort_of(&table(200), &input, true).unwrap().rows(), 200);
    let cut = cohort_of(&table(201), &input, true).unwrap_err();
    assert_eq!(cut.reason, Reason::RowCap, "with a privacy mechanism none is cut: {cut}");
    let mut some = input.clone();
    some.cohort = "age >= 40".into();
    assert_eq!(cohort_of(&table(50), &some, false).unwrap().rows(), 10);
    some.cohort = "age >= 41".into();
    let refusal = cohort_of(&table(50), &some, false).unwrap_err();
    assert_eq!(refusal.reason, Reason::SmallCohort);
    assert!(
        refusal.words.contains("10") && !refusal.words.contains('9'),
        "the number of patients is not told: {refusal}"
    );
    some.cohort = "age >".into();
    assert_eq!(cohort_of(&table(50), &some, false).unwrap_err().reason, Reason::CohortQuery);
    some.cohort = "weight > 3".into();
    assert_eq!(cohort_of(&table(50), &some, false).unwrap_err().reason, Reason::CohortQuery);
    let mut more = input;
    more.columns.push("weight".into());
    assert_eq!(cohort_of(&table(50), &more, false).unwrap_err().reason, Reason::UnknownColumn);
    assert_eq!(cohort_of(&table(0), &terms().inputs[0], false).unwrap_err().reason, Reason::SmallCohort);
}

#[test]
fn a_table_is_read_once_until_its_file_changes_and_a_bad_cell_is_named_without_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[dataset]]\nname = \"d\"\npath = \"d.csv\"\npermission = { duo = [\"GRU\"], ehds = [] }\n\
                columns = [ { name = \"x\", type = \"number\" } ]\n";
    std::fs::write(folder.path().join(config::FILE), text).unwrap();
    std::fs::write(folder.path().join("d.csv"), "x\n1\n2\n").unwrap();
    let config = Config::load(folder.path()).unwrap();
    let tables = Tables::new(&config.folder, &config.datasets);
    let first = tables.get("d").unwrap();
    assert!(std::sync::Arc::ptr_eq(&first, &tables.get("d").unwrap()));
    std::fs::write(folder.path().join("d.csv"), "x\n1\n2\n3\n").unwrap();
    assert_eq!(tables.get("d").unwrap().rows(), 3);
    std::fs::write(folder.path().join("d.csv"), "x\n1\nSENTINEL-4711\n").unwrap();
    let refusal = tables.get("d").unwrap_err();
    assert_eq!(refusal.reason, Reason::Source);
    assert!(refusal.words.contains("line 3") && !refusal.words.contains("SENTINEL"), "{refusal}");
    assert_eq!(tables.get("e").unwrap_err().reason, Reason::UnknownDataset);
}

#[test]
fn the_secret_of_the_noise_is_that_of_the_round_and_the_very_rows() {
    let secret = |seed: u8, table: &Table| *rows_secret(&[seed; 32], table);
    let same = secret(1, &table(50));
    assert_eq!(secret(1, &table(50)), same);
    assert_ne!(secret(2, &table(50)), same);
    assert_ne!(secret(1, &table(49)), same, "a patient less");
    let rows = table(50);
    let other = rows.columns().iter().map(|column| {
        let mut values = rows.column(&column.name).unwrap().1.to_vec();
        values[49] += f64::from(u8::from(column.name == "sex"));
        (column.clone(), values)
    });
    assert_ne!(secret(1, &Table::from_columns(other.collect()).unwrap()), same, "a patient's value");
}

/// A local half, admitted by the agent, on 50 rows of the hospital's own file.
fn masked() -> leben_privacy::Masked {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[dataset]]\nname = \"heart\"\npath = \"d.csv\"\npermission = { duo = [\"GRU\"], ehds = [] }\ncolumns = [ \
                { name = \"age\", type = \"number\" }, { name = \"sex\", type = \"integer\" }, { name = \"target\", type = \
                \"integer\" } ]\n";
    std::fs::write(folder.path().join(config::FILE), text).unwrap();
    let rows: String = (0..50).map(|i| format!("{},{},{}\n", 40 + i, i % 2, i % 2)).collect();
    std::fs::write(folder.path().join("d.csv"), format!("age,sex,target\n{rows}")).unwrap();
    let config = Config::load(folder.path()).unwrap();
    let (net, mut agent, contract, _) = frozen();
    let (open, state) = Others::new(&net, &contract, 1).open(&net, &mut agent, contract.0, 1);
    agent.handle_order(net.now_ms, open);
    agent.handle_state(net.now_ms, &contract.0, &state);
    let work = drain(&mut agent).into_iter().find_map(|a| if let Action::Work(work) = a { Some(work) } else { None });
    compute(&Tables::new(&config.folder, &config.datasets), *work.unwrap()).unwrap()
}

#[test]
fn a_private_round_is_not_computed_again_on_other_rows() {
    let folder = tempfile::tempdir().unwrap();
    let text = "[[dataset]]\nname = \"heart\"\npath = \"d.csv\"\npermission = { duo = [\"GRU\"], ehds = [] }\ncolumns = [ \
                { name = \"age\", type = \"number\" }, { name = \"sex\", type = \"integer\" }, { name = \"target\", type = \
                \"integer\" } ]\n";
    std::fs::write(folder.path().join(config::FILE), text).unwrap();
    let write = |rows: usize| {
        let rows: String = (0..rows).map(|i| format!("{},{},{}\n", 20 + i, i % 2, i % 2)).collect();
        std::fs::write(folder.path().join("d.csv"), format!("age,sex,target\n{rows}")).unwrap();
    };
    let config = Config::load(folder.path()).unwrap();
    let (mut net, mut agent) = private::agent();
    net.settle(&mut agent);
    let contract = net.propose(private::private());
    net.settle(&mut agent);
    private::armed(&mut net, &mut agent, &contract);
    let mut again = |slot| {
        let (open, state) = Others::new(&net, &contract, slot).open(&net, &mut agent, contract.0, slot);
        agent.handle_order(net.now_ms, open);
        agent.handle_state(net.now_ms, &contract.0, &state);
        let work = drain(&mut agent).into_iter().find_map(|a| if let Action::Work(w) = a { Some(w) } else { None });
        // As after a restart: nothing but the disk remembers.
        compute(&Tables::new(&config.folder, &config.datasets), *work.unwrap())
    };
    write(50);
    let pin = folder.path().join(format!("jobs/{}/rows-1-1", hex::encode(contract.0)));
    let job = pin.parent().unwrap();
    std::fs::create_dir_all(job).unwrap();
    again(1).unwrap();
    let pinned = std::fs::read(&pin).unwrap();
    again(2).unwrap();
    write(51);
    let refusal = refused(again(3));
    assert_eq!(refusal.reason, Reason::RowsChanged);
    assert!(refusal.words.contains("the rows changed since this round was first computed"), "{refusal}");
    assert_eq!(std::fs::read(&pin).unwrap(), pinned, "a refusal changes nothing");
    write(50);
    again(4).unwrap();
    std::fs::write(&pin, "").unwrap();
    assert_eq!(refused(again(5)).reason, Reason::RowsChanged, "a pin that cannot be read fits no rows");
    std::fs::write(&pin, [b'a'; 100]).unwrap();
    assert_eq!(refused(again(6)).reason, Reason::RowsChanged);
    // A disk that does not take the pin is this machine's fault and no reason to leave a contract.
    std::fs::remove_file(&pin).unwrap();
    std::fs::create_dir(pin.with_extension("tmp")).unwrap();
    assert!(matches!(again(7), Err(WorkError::Disk(_))));
    // The contract ended and its folder was removed while this was still computed.
    std::fs::remove_dir_all(job).unwrap();
    assert_eq!(refused(again(8)).reason, Reason::SecretLost);
    assert!(!job.exists(), "it does not come back");
}

fn refused(computed: Result<leben_privacy::Masked, WorkError>) -> Refusal {
    match computed {
        Err(WorkError::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

fn shared() -> (Arc<Shared>, tokio::sync::mpsc::Receiver<Duration>) {
    let (cut, cuts) = tokio::sync::mpsc::channel(4);
    let shared = Shared {
        connection: tokio::sync::watch::channel(None).0,
        holds: tokio::sync::watch::channel(Holds::default()).0,
        sent_bytes: AtomicU64::new(0),
        received_bytes: AtomicU64::new(0),
        reconnects: AtomicU64::new(0),
        cut,
        cut_in_upload: (AtomicU64::new(0), AtomicU64::new(0)),
    };
    (Arc::new(shared), cuts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_that_is_cut_goes_on_where_it_was_and_its_root_is_over_what_arrived() {
    let vector = masked();
    let chunks: Vec<Vec<u8>> = (0..vector.chunk_count()).map(|i| vector.chunk(i).unwrap()).collect();
    assert!(chunks.len() > 2, "one chunk a segment");
    let (root, contract) = (vector.root().unwrap(), [4; 32]);
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), &[1; 32]).unwrap();
    let dialer = Dialer::new(&[2; 32]).unwrap();
    let (shared, _cuts) = shared();
    let (ask, asked) = tokio::sync::oneshot::channel();
    let (answer, trailer) = tokio::sync::oneshot::channel();
    let upload = Upload { contract, slot: 1, masked: vector, ask_trailer: Some(ask), trailer: Some(trailer) };
    let uploading = tokio::spawn(upload::run(upload, shared.clone()));
    // The agent signs once, whenever it is asked.
    tokio::spawn(async move {
        let root = asked.await.unwrap();
        let signature = leben_privacy::secure_sum::Signature([0; 64]);
        let upload = leben_privacy::secure_sum::Upload { slot: 1, root, signature };
        answer.send(UploadTrailer { upload, next: None }).unwrap();
    });
    let mut stored: Vec<Vec<u8>> = Vec::new();
    for cut_after in [Some(1), Some(2), None] {
        let (there, here) =
            tokio::join!(listener.accept(), dialer.dial(listener.local_addr().unwrap(), public_key(&[1; 32]).unwrap()));
        let there = there.unwrap().unwrap();
        shared.connection.send_replace(Some(here.unwrap()));
        let (mut writer, mut reader) = there.accept_bi().await.unwrap();
        let hello: Hello = reader.expect().await.unwrap();
        assert_eq!(hello, Hello::Upload { contract, slot: 1, chunks: chunks.len() as u64 });
        let start = stored.len() as u64;
        writer.send(&UploadReply::From { next_index: start, held_bytes: 0 }).await.unwrap();
        let parcel = Parcel { kind: ParcelKind::Masked, chunks: chunks.len() as u64, start };
        let mut incoming = ChunkReader::open(&mut reader, parcel).await.unwrap();
        let enough = |stored: &Vec<Vec<u8>>| cut_after.is_some_and(|count| stored.len() >= count);
        while !enough(&stored) {
            match incoming.next().await.unwrap() {
                Some((_, bytes)) => stored.push(bytes.to_vec()),
                None => break,
            }
        }
        if cut_after.is_some() {
            shared.connection.send_replace(None);
            there.close("cut");
            continue;
        }
        assert_eq!(stored, chunks, "nothing twice, nothing missing");
        return finish((&mut writer, &mut reader), root, &there, uploading).await;
    }
}

/// The last frames of an upload: the trailer over exactly what arrived, the coordinator's thanks.
async fn finish(
    (writer, reader): (&mut FrameWriter, &mut FrameReader),
    root: [u8; 32],
    link: &Connection,
    uploading: tokio::task::JoinHandle<Ended>,
) {
    let trailer = reader.expect::<UploadTrailer>().await.unwrap();
    assert_eq!(trailer.upload.root, root);
    writer.send(&UploadReply::Stored).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), uploading).await.unwrap().unwrap();
    assert!(matches!(ended, Ended::Stored), "{ended:?}");
    link.close("done");
}
