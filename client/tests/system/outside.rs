//! The public log as strangers meet it: plain HTTP, a copy on any web server, and a witness that belongs to nobody here.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::deployment::{Deployment, HOSPITALS, files_below, said};
use crate::process::{Process, program, wait_until};
use crate::rows;

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Status, head in lower case, and body of an answer to these very bytes.
fn ask(address: &str, request: &str) -> (u16, String, Vec<u8>) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
    (head[9..12].parse().unwrap(), head, bytes[end + 4..].to_vec())
}

fn request(address: &str, method: &str, path: &str, more: &str) -> (u16, String, Vec<u8>) {
    ask(address, &format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{more}\r\n"))
}

/// A coordinator that publishes at this address, with these settings besides.
fn publishing(http: &str, more: &str) -> Deployment {
    let deployment = Deployment::new();
    let settings = deployment.path("coordinator/coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    fs::write(&settings, format!("{text}\nhttp = \"{http}\"\n{more}")).unwrap();
    deployment
}

/// Downloads a published log with nothing but GET: checkpoint, policy, the certificates there are, and the tiles that its size asks for.
fn download(address: &str, folder: &Path) {
    let get = |name: &str| {
        let (status, head, body) = request(address, "GET", &format!("/ledger/{name}"), "");
        assert_eq!(status, 200, "{name}: {head}");
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, &body).unwrap();
        body
    };
    let checkpoint = String::from_utf8(get("checkpoint")).unwrap();
    get("policy");
    let size: u64 = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    for turn in (1..=size).map(|size| format!("certificate/{size}")) {
        if request(address, "GET", &format!("/ledger/{turn}"), "").0 == 200 {
            get(&turn);
        }
    }
    leben_contracts::ledger::tile::paths(size).for_each(|path| drop(get(&path.to_string())));
}

#[test]
fn the_log_is_served_as_tlog_tiles_says_and_a_copy_of_it_verifies_anywhere() {
    let http = free_address();
    let mut deployment = publishing(&http, "");
    deployment.serve();
    for (seed, hospital) in HOSPITALS.into_iter().take(3).enumerate() {
        deployment.join(hospital, &rows::csv(seed, 40), rows::WORKER_TOML);
        deployment.run(hospital);
    }
    deployment.keygen("team", 0);
    deployment.wait_for_offers(3);

    for name in ["checkpoint", "policy"] {
        let path = format!("/ledger/{name}");
        let (status, head, body) = request(&http, "GET", &path, "");
        assert_eq!(status, 200);
        assert!(
            head.contains("content-type: text/plain; charset=utf-8") && head.contains("cache-control: no-cache"),
            "{head}"
        );
        let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().to_owned();
        let (status, again, nothing) = request(&http, "GET", &path, &format!("If-None-Match: \"x\", W/{tag}\r\n"));
        assert_eq!((status, nothing.len()), (304, 0), "{again}");
        assert_eq!(request(&http, "GET", &path, "If-None-Match: \"x\"\r\n").0, 200);
        let (status, only_head, nothing) = request(&http, "HEAD", &path, "");
        assert_eq!((status, nothing.len()), (200, 0));
        assert!(only_head.contains(&format!("content-length: {}", body.len())), "{only_head}");
        assert_eq!(request(&http, "POST", &path, "Content-Length: 0\r\n").0, 405);
    }
    let (_, _, checkpoint) = request(&http, "GET", "/ledger/checkpoint", "");
    let size: u64 = String::from_utf8(checkpoint).unwrap().lines().nth(1).unwrap().parse().unwrap();
    // A reader with an older checkpoint still finds the partial tiles of its size.
    for width in [size, 3] {
        for tile in ["tile/0/000.p", "tile/entries/000.p"] {
            let (status, head, body) = request(&http, "GET", &format!("/ledger/{tile}/{width}"), "");
            assert_eq!(status, 200, "{tile} {width}");
            assert!(head.contains("cache-control: public, max-age=31536000, immutable"), "{head}");
            assert!(head.contains("content-type: application/octet-stream") && !head.contains("etag"), "{head}");
            assert!(tile.contains("entries") || body.len() as u64 == width * 32);
        }
    }
    for path in [
        "/ledger/../keys/log.key",
        "/ledger/..%2fkeys/log.key",
        "/ledger/%2e%2e/coordinator.toml",
        "/ledger//etc/passwd",
        "/ledger/tile/0/../../../state/HEAD",
        "/ledger/tile/0/000.p/9999",
        "/ledger/tile/0/1",
        "/ledger/HEAD",
        "/ledger/",
        "/ledger",
        "/keys/log.key",
    ] {
        assert_eq!(request(&http, "GET", path, "").0, 404, "{path}");
    }

    // What a web mirror has is what `leben verify` reads: a download, and the copy that deploy/publish.sh makes.
    let copy = deployment.path("download");
    download(&http, &copy);
    deployment.leben(&["verify", copy.to_str().unwrap()]).ok();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/publish.sh");
    let mirror = deployment.path("www");
    // Twice into one folder, as cron would; while the log grows, a copy may hold more than its checkpoint covers.
    wait_until("two copies in a row that verify", || {
        (0..2).all(|_| {
            said(Command::new("sh").arg(&script).arg(deployment.path("coordinator/ledger")).arg(&mirror)).ok();
            deployment.leben(&["verify", mirror.to_str().unwrap()]).code == 0
        })
    });
    assert!(files_below(&mirror).len() >= 4);
}

struct Outside {
    vkey: String,
    process: Process,
}

/// `leben-worker witness`, in a folder of its own.
fn outside(deployment: &Deployment, address: &str, log: &str, start: usize) -> Outside {
    let mut command = Command::new(program("leben-worker"));
    command.arg("--dir").arg(deployment.path("university")).args(["witness", "--listen", address]);
    command.args(["--name", "university.example/witness", "--log", log]);
    let mut process = Process::start(command, &deployment.path("logs").join(format!("outside-{start}")));
    process.wait_for("listening on");
    let printed = process.printed();
    let vkey = printed.lines().find_map(|line| line.strip_prefix("witness ")).unwrap().to_owned();
    Outside { vkey, process }
}

/// The log's key, as its policy file shows it.
fn log_vkey(deployment: &Deployment) -> String {
    let policy = fs::read_to_string(deployment.path("coordinator/ledger/policy")).unwrap();
    policy.lines().find_map(|line| line.strip_prefix("log ")).unwrap().to_owned()
}

fn checkpoint(deployment: &Deployment) -> String {
    fs::read_to_string(deployment.path("coordinator/ledger/checkpoint")).unwrap()
}

fn size(checkpoint: &str) -> u64 {
    checkpoint.lines().nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_witness_elsewhere_cosigns_what_is_published_through_kill_and_rollback() {
    let (http, elsewhere) = (free_address(), free_address());
    let mut deployment = publishing(&http, "");
    let log = log_vkey(&deployment);
    let mut university = outside(&deployment, &elsewhere, &log, 0);
    let settings = deployment.path("coordinator/coordinator.toml");
    let text = fs::read_to_string(&settings).unwrap();
    let block = |vkey: &str| format!("{text}\n[[outside_witness]]\nvkey = \"{vkey}\"\nurl = \"http://{elsewhere}\"\n");
    fs::write(&settings, block(&university.vkey)).unwrap();
    deployment.serve();
    for (seed, hospital) in HOSPITALS.into_iter().enumerate() {
        deployment.join(hospital, &rows::csv(seed, 40), rows::WORKER_TOML);
        deployment.run(hospital);
    }
    deployment.keygen("team", 0);
    deployment.wait_for_offers(HOSPITALS.len());
    let attached = |deployment: &Deployment, beyond: u64| {
        wait_until("the university's line on the published checkpoint", || {
            let note = checkpoint(deployment);
            size(&note) > beyond && note.contains("university.example/witness")
        });
    };
    attached(&deployment, 6);
    let verified = |deployment: &Deployment, name: &str| {
        let copy = deployment.path(name);
        // The log may grow between two downloads' files, so this waits for a whole one.
        wait_until("a download that verifies", || {
            let _ = fs::remove_dir_all(&copy);
            download(&http, &copy);
            deployment.leben(&["verify", copy.to_str().unwrap()]).code == 0
        });
        let said = deployment.leben(&["verify", copy.to_str().unwrap(), "--json"]).json();
        said["cosigners"].as_array().unwrap().iter().any(|one| one["name"] == "university.example/witness")
    };
    assert!(verified(&deployment, "with-the-university"));
    // A hospital's own copy and the team's know only the ledger's policy, and verify under it.
    for folder in ["team/ledger", "aker/mirror/public"] {
        deployment.leben(&["verify", deployment.path(folder).to_str().unwrap()]).ok();
    }

    // Killed: the ledger goes on without it. Back, from an older memory: 409, and it is led on.
    let memory = fs::read_dir(deployment.path("university/logs")).unwrap().next().unwrap().unwrap().path();
    let older = fs::read(&memory).unwrap();
    university.process.kill();
    let before = size(&checkpoint(&deployment));
    deployment.keygen("second-team", 0);
    wait_until("a checkpoint without the university", || size(&checkpoint(&deployment)) > before);
    fs::write(&memory, older).unwrap();
    let again = outside(&deployment, &elsewhere, &log, 1);
    assert_eq!(again.vkey, university.vkey);
    attached(&deployment, before);
    assert!(verified(&deployment, "with-the-university-again"));

    // Another key than the settings name: refused, never attached; and the coordinator starts with the old line in place.
    drop(again);
    deployment.coordinator.as_mut().unwrap().kill();
    fs::remove_file(deployment.path("university/witness.key")).unwrap();
    let _stranger = outside(&deployment, &elsewhere, &log, 2);
    deployment.serve();
    let before = size(&checkpoint(&deployment));
    deployment.keygen("third-team", 0);
    wait_until("a checkpoint without the stranger", || size(&checkpoint(&deployment)) > before);
    deployment.coordinator.as_mut().unwrap().wait_for("its answer holds no line by university.example/witness");
    assert!(!checkpoint(&deployment).contains("university.example/witness"));
    assert!(!verified(&deployment, "without-the-stranger"));
}
