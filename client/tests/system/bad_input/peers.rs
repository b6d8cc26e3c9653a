//! The other end is not who it should be, or does not do what it should.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use leben_protocol::frame::{Answer, Hello, Request};
use leben_protocol::quic::{Dialer, LinkError, public_key};
use leben_protocol::reject::RejectCode;
use serde_json::Value;

use crate::deployment::{Deployment, said};
use crate::process::{program, wait_until};
use crate::raw;
use crate::rows::{WORKER_TOML, csv};

#[test]
fn strangers_wrong_keys_wrong_clocks_and_large_frames_are_refused_in_words() {
    let mut deployment = Deployment::new();
    deployment.serve();
    deployment.keygen("team", 0);
    deployment.join("aker", &csv(0, 40), WORKER_TOML);
    deployment.run("aker");
    deployment.wait_for_offers(1);
    used_invites(&deployment);
    wrong_coordinator(&mut deployment);
    wrong_own_key(&mut deployment);
    wrong_clock(&mut deployment);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(strangers(&deployment));
    runtime.block_on(large_frames(&deployment));
    // Whoever kept the rules is still served.
    deployment.keygen("late", 0);
    assert!(deployment.worker("aker", &["status", "--json"]).json()["linked"].as_bool().unwrap());
}

fn used_invites(deployment: &Deployment) {
    let invite = deployment.invite("bergen", "hospital", 0);
    fs::create_dir_all(deployment.path("bergen")).unwrap();
    deployment.worker("bergen", &["join", &invite]).ok();
    let again = deployment.worker("another", &["join", &invite]);
    again.complains(&["the invite is unknown, used up or out of date", "Ask the coordinator for a new invite"]);
    let leben =
        |args: &[&str]| said(std::process::Command::new(program("leben")).current_dir(deployment.path("")).args(args));
    leben(&["--home", "fresh", "keygen", &invite]).complains(&["this invite is for a hospital", "leben-worker join"]);
    leben(&["--home", "fresh", "keygen", &invite[..60]])
        .complains(&["the invite is damaged", "copy the whole line again"]);
    leben(&["--home", "fresh", "keygen", "hello"]).complains(&["this is not an invite", "starts with 'leben1:'"]);
    let team = deployment.invite("fresh", "team", 0);
    leben(&["--home", "fresh", "keygen", &team]).ok();
    leben(&["--home", "third", "keygen", &team]).complains(&["used up", "Ask the coordinator for a new invite"]);
    leben(&["--home", "fourth", "status"]).complains(&["is not a home yet", "leben keygen <invite>"]);
}

/// The key of the other side is not the one of the invite: nobody goes on.
fn wrong_coordinator(deployment: &mut Deployment) {
    let words = ["holds another key than the expected one", "expected", "Do not go on: compare both with the invite"];
    let swapped = |path: &Path| {
        let good = fs::read_to_string(path).unwrap();
        let mut network: Value = serde_json::from_str(&good).unwrap();
        network["coordinator_key"] = hex::encode(public_key(&[9; 32]).unwrap()).into();
        fs::write(path, network.to_string()).unwrap();
        good
    };
    let path = deployment.path("team/network.json");
    let good = swapped(&path);
    deployment.leben(&["submit", "job.toml"]).complains(&["job.toml cannot be read"]);
    deployment.leben(&["watch", "last"]).complains(&words);
    fs::write(path, good).unwrap();
    let path = deployment.path("aker/network.json");
    let good = swapped(&path);
    deployment.worker("aker", &["check"]).complains(&words);
    deployment.run("aker");
    deployment.workers.get_mut("aker").unwrap().wait_for(words[0]);
    deployment.workers.remove("aker");
    fs::write(path, good).unwrap();
}

/// The hospital's own key file was replaced: it is a stranger now, and is told which key and what to look at.
fn wrong_own_key(deployment: &mut Deployment) {
    let path = deployment.path("aker/keys/tls.key");
    let good = fs::read(&path).unwrap();
    fs::write(&path, format!("{}\n", hex::encode([9; 32]))).unwrap();
    let fingerprint = leben_protocol::key::fingerprint(&public_key(&[9; 32]).unwrap());
    deployment.worker("aker", &["check"]).complains(&["FAIL network", "not enrolled on the ledger", &fingerprint]);
    deployment.run("aker");
    let agent = deployment.workers.get_mut("aker").unwrap();
    agent.wait_for("this key is not enrolled on the ledger");
    let log = agent.complained();
    assert!(log.contains(&fingerprint) && log.contains("check that the right key folder is used"), "{log}");
    deployment.workers.remove("aker");
    fs::write(&path, "nonsense\n").unwrap();
    deployment.worker("aker", &["run"]).complains(&[
        "keys/tls.key",
        "64 hex digits expected",
        "restore it from a backup",
    ]);
    fs::write(&path, good).unwrap();
}

/// A clock that is two hours off: the hospital takes part in nothing, and says by how much and what to do.
fn wrong_clock(deployment: &mut Deployment) {
    for (offset, words) in
        [("7200", "120 minutes ahead of the coordinator's"), ("-7200", "minutes behind the coordinator's")]
    {
        let check = deployment.worker("aker", &["--clock-offset-s", offset, "check"]);
        check.complains(&["FAIL clock", words, "Set the clock (for example by NTP)"]);
        let invite = deployment.invite("bodo", "hospital", 0);
        let join = deployment.worker("bodo", &["--clock-offset-s", offset, "join", &invite]);
        join.complains(&[words, "Set the clock"]);
        deployment.run_with("aker", &["--clock-offset-s", offset]);
        wait_until("the status names the clock", || deployment.worker("aker", &["status"]).out.contains(words));
        deployment.workers.remove("aker");
        let audit = deployment.worker("aker", &["audit"]).ok();
        assert!(audit.contains(words), "{audit}");
    }
    deployment.run("aker");
    wait_until("aker is linked again", || {
        let status = deployment.worker("aker", &["status", "--json"]).json();
        status["linked"] == true && status["clock"].is_null()
    });
}

/// Somebody with a key of their own may ask what network this is, and nothing else.
async fn strangers(deployment: &Deployment) {
    let address: SocketAddr = deployment.address.parse().unwrap();
    let seed = fs::read_to_string(deployment.path("coordinator/keys/link.key")).unwrap();
    let key = public_key(&hex::decode(seed.trim()).unwrap().try_into().unwrap()).unwrap();
    let dialer = Dialer::new(&[7; 32]).unwrap();
    let contract = [0; 32];
    let questions = [
        Request::Append { envelope: b"{}".to_vec(), wait_final: false },
        Request::LedgerFile { path: "checkpoint".into() },
        Request::State { contract, digest: [0; 32] },
        Request::Result { contract },
        Request::Progress { contract },
    ];
    let link = dialer.dial(address, key).await.unwrap();
    for question in questions {
        let (mut writer, mut reader) = link.open_bi().await.unwrap();
        writer.send(&Hello::Request(question.clone())).await.unwrap();
        let answer: Answer = reader.expect().await.unwrap();
        let Answer::Rejected(reject) = answer else { panic!("{question:?} was answered with {answer:?}") };
        assert_eq!(reject.kind(), Some(RejectCode::Stranger), "{reject}");
        assert!(reject.to_string().contains("Join with an invite first"), "{reject}");
    }
    let (mut writer, mut reader) = link.open_bi().await.unwrap();
    writer.send(&Hello::Request(Request::Network)).await.unwrap();
    assert!(matches!(reader.expect().await.unwrap(), Answer::Network(_)));
    // Streams that are not questions end the link, with the reason.
    for hello in [
        Hello::Control { versions: vec![1], mirror_size: 0, certified_size: 0, seen: Vec::new() },
        Hello::Upload { contract, slot: 1, chunks: 1 },
        Hello::Watch { contract },
    ] {
        let link = dialer.dial(address, key).await.unwrap();
        let (mut writer, mut reader) = link.open_bi().await.unwrap();
        writer.send(&hello).await.unwrap();
        let error = reader.recv::<Answer>().await.unwrap_err();
        let LinkError::Refused(reject) = &error else { panic!("{hello:?}: {error}") };
        assert_eq!(reject.kind(), Some(RejectCode::Stranger), "{error}");
    }
}

/// A length beyond the limit is refused before anything is allocated, whoever sends it; the link ends with the reason.
async fn large_frames(deployment: &Deployment) {
    let address: SocketAddr = deployment.address.parse().unwrap();
    let seed = |name: &str| -> [u8; 32] {
        let text = fs::read_to_string(deployment.path(name)).unwrap();
        hex::decode(text.trim()).unwrap().try_into().unwrap()
    };
    for seed in [[7; 32], seed("team/keys/tls.key")] {
        for length in [u32::MAX, (1 << 20) + 1] {
            let (_endpoint, link) = raw::dial(address, &seed).await;
            let (mut send, _receive) = link.open_bi().await.unwrap();
            send.write_all(&length.to_le_bytes()).await.unwrap();
            let closed = link.closed().await;
            let quinn::ConnectionError::ApplicationClosed(close) = &closed else { panic!("{closed}") };
            assert_eq!(u64::from(close.error_code), RejectCode::FrameTooLarge as u64);
            let reason = String::from_utf8_lossy(&close.reason).into_owned();
            assert!(reason.contains(&format!("{length} bytes")) && reason.contains("1048576 are allowed"), "{reason}");
        }
    }
}
