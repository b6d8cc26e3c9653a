//! Vectors that no process holds: the built-in algorithm `probe` makes a contribution of any length, and whoever knows how many
//! rows each hospital has can say what must come out.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use leben_models::probe::{figures_of, value};
use serde_json::Value;

use crate::deployment::{Deployment, HOSPITALS};
use crate::process::wait_until;

/// Rows of the first hospital; each has one more than the one before.
const ROWS: u64 = 30;

/// A hospital that signs by itself, with a table that says nothing but how long it is.
pub const WORKER_TOML: &str = r#"
[policy]
auto_approve = true

[[dataset]]
name = "visits"
path = "rows.csv"
permission = { duo = ["GRU"], ehds = [] }
columns = [{ name = "visit", type = "integer" }]
"#;

/// The table of the hospital at this place.
pub fn visits(hospital: usize) -> String {
    let rows = ROWS + hospital as u64;
    std::iter::once("visit\n".to_owned()).chain((0..rows).map(|row| format!("{row}\n"))).collect()
}

/// `hospitals` of them average `length` numbers, `rounds` times.
pub fn job(hospitals: usize, length: usize, rounds: u32, timeout: &str) -> String {
    let sets: Vec<String> = HOSPITALS.iter().take(hospitals).map(|name| format!("\"{name}/visits\"")).collect();
    format!(
        r#"[purpose]
duo = ["GRU"]

[data]
sets = [{}]
columns = ["visit"]
cohort_min = 20

[[stage]]
name = "probe"
algorithm = "probe"
params = {{ length = {length}, rounds = {rounds} }}
timeout = "{timeout}"
retries = 20

[privacy]
hospitals_min = {hospitals}
threshold = {hospitals}
on_drop = "repeat"

[delivery]
outputs = ["figures"]

[windows]
sign_within = "1 hours"
run_within = "4 hours"
accept_within = "1 hours"
"#,
        sets.join(", ")
    )
}

/// The figures of the average, by the algorithm's own description, for so many rounds over `hospitals`.
pub fn expected(hospitals: usize, length: usize, rounds: u32) -> [(&'static str, f64); 3] {
    let mut model = vec![0.0_f32; length];
    for _ in 0..rounds {
        for (index, number) in (0..).zip(&mut model) {
            let (mut sum, mut hospital) = (0.0, 0);
            while hospital < hospitals as u64 {
                sum += f64::from(value(*number, index, ROWS + hospital));
                hospital += 1;
            }
            *number = (sum / hospitals as f64) as f32;
        }
    }
    figures_of(&model)
}

/// Six standard deviations of what rounding to 16 bits does to a mean over so many values, and what it adds to a square.
pub fn check(figures: &Value, expected: [(&str, f64); 3], length: usize) {
    let level = 1.0 / 32767.0;
    for (name, expected) in expected {
        let got = figures[name].as_f64().unwrap();
        let most = level * (6.0 / (length as f64).sqrt() + level);
        assert!((got - expected).abs() <= most, "{name}: {got}, expected {expected} within {most}");
    }
}

/// Three hospitals that serve, and a team.
fn running() -> Deployment {
    let mut deployment = Deployment::new();
    deployment.serve();
    for (place, hospital) in HOSPITALS.into_iter().take(3).enumerate() {
        deployment.join(hospital, &visits(place), WORKER_TOML);
        deployment.run(hospital);
    }
    deployment.keygen("team", 5_000);
    deployment.wait_for_offers(3);
    deployment
}

/// Most memory of the coordinator, and of the worker that had most.
fn peaks_mib(deployment: &Deployment) -> (f64, f64) {
    let workers = deployment.workers.values().map(|worker| worker.peak_mib());
    (deployment.coordinator.as_ref().unwrap().peak_mib(), workers.fold(0.0, f64::max))
}

/// Follows a job to its good end; everything the watch said.
fn follow(deployment: &mut Deployment, contract: &str, patience: Duration) -> Vec<Value> {
    let mut watch = deployment.watch(contract);
    let started = Instant::now();
    while !watch.has_ended() {
        assert!(started.elapsed() < patience, "{}\n{}", watch.printed(), watch.complained());
        std::thread::sleep(Duration::from_millis(50));
    }
    let end = deployment.end_of(&mut watch);
    assert_eq!((&end["phase"], &end["ok"]), (&"Delivered".into(), &true.into()), "{end}");
    watch.printed().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// Plays a job to its end, however long it takes; its figures, and the last thing the watch said.
fn play(deployment: &mut Deployment, length: usize, rounds: u32, patience: Duration) -> (Value, Value) {
    let timeout = format!("{} seconds", patience.as_secs());
    let contract = deployment.submit(&job(3, length, rounds, &timeout))["contract"].as_str().unwrap().to_owned();
    finish(deployment, &contract, patience)
}

/// Follows a job to its good end; its figures, and the last thing that the watch said.
fn finish(deployment: &mut Deployment, contract: &str, patience: Duration) -> (Value, Value) {
    let seen = follow(deployment, contract, patience);
    let out = format!("result-{}", &contract[..8]);
    deployment.leben(&["fetch", contract, "--out", &out]).ok();
    deployment.leben(&["verify", &out]).ok();
    let result: Value = serde_json::from_slice(&fs::read(deployment.path(&out).join("result.json")).unwrap()).unwrap();
    let last = seen.into_iter().rev().find(|line| line["bytes_up"].as_u64() > Some(0)).unwrap_or_default();
    (result["stages"][0]["outcome"]["figures"].clone(), last)
}

/// 48 MB of numbers from each of three hospitals: in memory, the coordinator would hold them as lanes, as f64 and as the next model
/// (16 bytes a number), a worker as the model that came, as numbers and as contribution (12 or more).
#[test]
fn a_large_vector_goes_through_processes_that_never_hold_it() {
    const LENGTH: usize = 12_000_000;
    let mut deployment = running();
    let (figures, _) = play(&mut deployment, 1_000, 2, Duration::from_secs(120));
    check(&figures, expected(3, 1_000, 2), 1_000);
    let before = peaks_mib(&deployment);
    let (figures, last) = play(&mut deployment, LENGTH, 2, Duration::from_secs(400));
    check(&figures, expected(3, LENGTH, 2), LENGTH);
    let after = peaks_mib(&deployment);
    let (coordinator, worker) = (after.0 - before.0, after.1 - before.1);
    println!("{LENGTH} numbers: coordinator {coordinator:.0} MiB more, a worker {worker:.0} MiB more");
    assert!(coordinator < 150.0 && worker < 64.0, "coordinator {coordinator:.0} MiB, worker {worker:.0} MiB");
    // Nothing went twice: two models of four bytes a number to each, two vectors of 18 bits a number from each.
    let (up, down) = (last["bytes_up"].as_f64().unwrap(), last["bytes_down"].as_f64().unwrap());
    let numbers = 3.0 * 2.0 * LENGTH as f64;
    assert!((up / numbers - 2.25).abs() < 1e-3 && (down / numbers - 4.0).abs() < 1e-3, "{last}");
    // What a job leaves at a hospital is nothing.
    wait_until("the workers have forgotten the job", || {
        HOSPITALS.iter().take(3).all(|hospital| {
            let jobs = fs::read_dir(deployment.path(hospital).join("jobs")).unwrap();
            jobs.flatten().all(|job| fs::read_dir(job.path()).map_or(0, Iterator::count) == 0)
        })
    });
}

/// A hospital that is killed and comes back takes part in the next slot with the model that it has on its disk; so do the others.
#[test]
fn a_model_is_sent_once_however_often_the_round_is_repeated() {
    const LENGTH: usize = 3_000_000;
    let mut deployment = running();
    let contract = deployment.submit(&job(3, LENGTH, 1, "120 seconds"))["contract"].as_str().unwrap().to_owned();
    let jobs = deployment.path("basel").join("jobs");
    wait_until("basel has the model", || {
        let folders = fs::read_dir(&jobs).into_iter().flatten().flatten();
        let mut files = folders.flat_map(|job| fs::read_dir(job.path()).into_iter().flatten().flatten());
        files.any(|file| file.metadata().is_ok_and(|data| data.len() > 4 * LENGTH as u64))
    });
    deployment.workers.get_mut("basel").unwrap().kill();
    deployment.run("basel");
    let seen = follow(&mut deployment, &contract, Duration::from_secs(300));
    let most = |name: &str| seen.iter().filter_map(|line| line[name].as_u64()).max().unwrap();
    assert!(most("slot") >= 2, "the round was not repeated");
    let models = most("bytes_down") as f64 / (4.0 * LENGTH as f64);
    assert!((models - 3.0).abs() < 0.01, "{models} models were sent to three hospitals");
}

/// What a dead coordinator had of a sum, of uploads and of a model that was being written is of no use: the slot begins again.
#[test]
fn a_coordinator_killed_in_the_middle_of_vectors_begins_the_slot_again() {
    const LENGTH: usize = 3_000_000;
    let mut deployment = running();
    let contract = deployment.submit(&job(3, LENGTH, 2, "120 seconds"))["contract"].as_str().unwrap().to_owned();
    let coordinator = deployment.path("coordinator");
    let (spool, folder) = (coordinator.join("spool"), coordinator.join("jobs").join(&contract));
    let files = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().collect::<Vec<_>>();
    wait_until("uploads arrive", || files(&spool).iter().any(|file| file.metadata().is_ok_and(|data| data.len() > 0)));
    deployment.coordinator.take().unwrap().kill();
    fs::write(folder.join("state.part"), b"half a model").unwrap();
    deployment.serve();
    let (figures, _) = finish(&mut deployment, &contract, Duration::from_secs(300));
    check(&figures, expected(3, LENGTH, 2), LENGTH);
    assert!(files(&spool).is_empty(), "the spool is empty");
    // The job's checkpoint, the last model, the sealed result; perhaps the model that the last round began with.
    let left = files(&folder);
    assert!(left.len() <= 4 && !folder.join("state.part").exists(), "{left:?}");
}

/// 10^9 numbers, 4 GB, from each of three hospitals. `LEBEN_STREAM_NUMBERS` sets another count.
#[test]
#[ignore = "a quarter of an hour and 30 GB of disk; ./test.sh --long runs it"]
fn four_gigabytes_from_three_workers_stay_below_256_mib() {
    let length = std::env::var("LEBEN_STREAM_NUMBERS").map_or(1_000_000_000, |text| text.parse().unwrap());
    let mut deployment = running();
    let (figures, last) = play(&mut deployment, length, 1, Duration::from_secs(3_000));
    let (coordinator, worker) = peaks_mib(&deployment);
    println!("{length} numbers: coordinator {coordinator:.0} MiB, the largest worker {worker:.0} MiB; {last}");
    check(&figures, expected(3, length, 1), length);
    assert!(coordinator < 256.0 && worker < 256.0, "coordinator {coordinator:.0} MiB, worker {worker:.0} MiB");
}
