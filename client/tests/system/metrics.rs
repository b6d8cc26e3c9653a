//! What Prometheus and a mirror of the log would read over plain HTTP, on both roles.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;
use crate::rows;

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Head and body of a page; empty while nobody answers.
fn get(address: &str, path: &str) -> (String, String) {
    let Ok(mut stream) = TcpStream::connect(address) else { return Default::default() };
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

/// The value of a metric without labels.
fn value(page: &str, name: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(&format!("{name} ")));
    let line = line.unwrap_or_else(|| panic!("no metric {name}:\n{page}"));
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn both_roles_show_metrics_and_the_coordinator_publishes_the_log() {
    let (http, hospital_http) = (free_address(), free_address());
    let mut deployment = Deployment::new();
    let settings = deployment.path("coordinator/coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}\nhttp = \"{http}\"\n")).unwrap();
    deployment.serve();
    let hospital = HOSPITALS[0];
    let worker_toml = format!("[metrics]\naddress = \"{hospital_http}\"\n\n{}", rows::WORKER_TOML);
    deployment.join(hospital, &rows::csv(1, 40), &worker_toml);
    deployment.run(hospital);
    deployment.keygen("team", 0);
    deployment.wait_for_offers(1);

    let (head, page) = get(&http, "/metrics");
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(value(&page, "leben_ledger_final_size") >= 6.0, "{page}");
    assert_eq!(value(&page, "leben_workers_linked"), 1.0);
    assert_eq!(get(&http, "/healthz").1.trim(), "ok");
    wait_until("the hospital has counted a cosignature", || {
        get(&hospital_http, "/metrics")
            .1
            .lines()
            .any(|line| line.starts_with("leben_worker_cosignatures") && !line.ends_with(" 0"))
    });

    // C2SP tlog-tiles: the checkpoint is asked for again, tiles never change; nothing else lies there.
    let (head, checkpoint) = get(&http, "/ledger/checkpoint");
    assert!(head.contains("cache-control: no-cache"), "{head}");
    assert!(checkpoint.starts_with("ledger.example/system\n"), "{checkpoint}");
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let (head, _) = get(&http, &format!("/ledger/tile/0/000.p/{size}"));
    assert!(head.starts_with("http/1.1 200") && head.contains("immutable"), "{head}");
    for path in ["/ledger/../keys/log.key", "/ledger/policy/../../keys/log.key", "/ledger/state/HEAD", "/keys/log.key"]
    {
        assert!(get(&http, path).0.starts_with("http/1.1 404"), "{path}");
    }
}
