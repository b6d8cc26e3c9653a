//! Hospitals that look at what others see: an honest log agrees everywhere; one that has signed two histories is proven to, by whoever
//! sees it first, to everybody, over restarts, and to people who only have the file.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use leben_contracts::ledger::checkpoint::Checkpoint;
use leben_contracts::ledger::keyfile;
use leben_contracts::ledger::note::{KeyType, Note, NoteSigner};
use serde_json::Value;

use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;
use crate::rows;

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn get(address: &str, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

/// A monitor of the log: serves whatever it was last told to.
fn monitor() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shown = Arc::new(Mutex::new(String::new()));
    let showing = shown.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (Ok(mut stream), mut asked) = (stream, [0; 2048]) else { return };
            let _ = stream.read(&mut asked);
            let body = showing.lock().unwrap().clone();
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
        }
    });
    (address, shown)
}

fn status(deployment: &Deployment, hospital: &str) -> Value {
    deployment.worker(hospital, &["status", "--json"]).json()
}

#[test]
fn an_honest_log_agrees_everywhere_and_a_forked_one_is_proven_to_everybody() {
    let (http, shown_at) = (free_address(), free_address());
    let (watcher, showing) = monitor();
    let mut deployment = Deployment::new();
    let settings = deployment.path("coordinator/coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}\nhttp = \"{http}\"\n")).unwrap();
    deployment.serve();
    let hospitals = &HOSPITALS[..3];
    for (seed, hospital) in hospitals.iter().enumerate() {
        let more = match seed {
            0 => format!("peers = [\"http://{shown_at}\", \"http://{watcher}/log/checkpoint\"]"),
            1 => format!("listen_view = \"{shown_at}\""),
            _ => String::new(),
        };
        let worker_toml = format!("[gossip]\nevery_s = 1\n{more}\n\n{}", rows::WORKER_TOML);
        deployment.join(hospital, &rows::csv(seed, 40), &worker_toml);
        deployment.run(hospital);
    }
    deployment.keygen("team", 0);
    deployment.wait_for_offers(3);
    *showing.lock().unwrap() = fs::read_to_string(deployment.path("coordinator/ledger/checkpoint")).unwrap();
    let agreed =
        |deployment: &Deployment, hospital: &str| status(deployment, hospital)["views"]["agreed"].as_u64().unwrap();
    for hospital in hospitals {
        wait_until("views that agree", || agreed(&deployment, hospital) >= 3);
        assert_eq!(status(&deployment, hospital)["forked"], false);
    }
    let (code, view) = get(&shown_at, "/view");
    assert!(code == 200 && view.starts_with("ledger.example/system\n") && view.contains("basel/witness"), "{view}");
    for path in ["/", "/metrics", "/view/", "/../keys/party.key"] {
        assert_eq!(get(&shown_at, path).0, 404, "{path}");
    }

    // Whoever holds the log's key shows the monitor another history of the first three entries.
    let key = keyfile::load(&deployment.path("coordinator/keys/log.key")).unwrap();
    let log = NoteSigner::new("ledger.example/system", KeyType::Ed25519, key).unwrap();
    let mut note = Note::new(Checkpoint::new("ledger.example/system", 3, [9; 32]).to_string()).unwrap();
    note.push(log.sign(note.text(), 0)).unwrap();
    *showing.lock().unwrap() = note.to_string();
    for hospital in hospitals {
        wait_until("every hospital to have the proof", || status(&deployment, hospital)["forked"] == true);
        let said = deployment.worker(hospital, &["status"]).ok();
        assert!(said.contains("WARNING") && said.contains("two histories"), "{said}");
    }
    // The same on both sides: a metric, and a file that anybody can check with the policy they trust.
    wait_until("the coordinator to know", || get(&http, "/metrics").1.contains("leben_forks_total 1"));
    let policy = deployment.path("coordinator/ledger/policy");
    deployment.worker("cluj", &["evidence", "export", deployment.path("evidence").to_str().unwrap()]).ok();
    let proof = crate::deployment::files_below(&deployment.path("evidence"))
        .into_iter()
        .find(|path| path.extension().is_some_and(|end| end == "json"))
        .unwrap();
    let name = proof.file_name().unwrap().to_str().unwrap();
    assert!(deployment.worker("cluj", &["evidence"]).ok().contains(name));
    assert!(deployment.worker("cluj", &["evidence", "show", name]).ok().contains("leben-fork"));
    assert_ne!(deployment.worker("cluj", &["evidence", "show", "../keys/party.key"]).code, 0);
    let theirs = crate::deployment::files_below(&deployment.path("coordinator/state/evidence")).remove(0);
    for file in [&proof, &theirs] {
        for trusted in [vec![], vec!["--policy", policy.to_str().unwrap()]] {
            let said = deployment.leben(&[&["verify", file.to_str().unwrap()], &trusted[..]].concat());
            assert_eq!(said.code, 8, "{said:?}");
            said.complains(&["two histories", "3 entries", "The first was cosigned by "]);
        }
    }
    let altered = fs::read_to_string(&proof).unwrap().replacen("ledger.example/system", "ledger.example/other", 1);
    fs::write(deployment.path("altered.json"), altered).unwrap();
    assert!([2, 3].contains(&deployment.leben(&["verify", deployment.path("altered.json").to_str().unwrap()]).code));

    // Nobody signs any more, over restarts too, until a person has looked.
    *showing.lock().unwrap() = String::new();
    for hospital in hospitals {
        deployment.workers.get_mut(*hospital).unwrap().kill();
        deployment.run(hospital);
    }
    for hospital in hospitals {
        deployment.workers.get_mut(*hospital).unwrap().wait_for("signs nothing until");
        wait_until("the new process's status", || {
            let now = status(&deployment, hospital);
            now["linked"] == true && now["forked"] == true
        });
        deployment.workers.get_mut(*hospital).unwrap().kill();
        let listed: Value =
            serde_json::from_str(&deployment.worker(hospital, &["evidence", "list", "--json"]).ok()).unwrap();
        assert_eq!(listed[0]["size"], 3, "{listed}");
        deployment.worker(hospital, &["evidence", "clear"]).complains(&["--yes-i-have-looked"]);
        deployment.worker(hospital, &["evidence", "clear", "--yes-i-have-looked"]).ok();
        assert!(deployment.worker(hospital, &["evidence", "clear"]).ok().contains("nothing to clear"));
        assert!(!deployment.worker(hospital, &["evidence"]).ok().contains("fork-"));
    }
    hospitals.iter().for_each(|hospital| deployment.run(hospital));
    for hospital in hospitals {
        wait_until("they agree again", || agreed(&deployment, hospital) >= 2);
        assert_eq!(status(&deployment, hospital)["halted"], Value::Null);
    }
    deployment.keygen("second-team", 0);
}
