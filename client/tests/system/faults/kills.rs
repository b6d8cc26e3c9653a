//! kill -9 of a coordinator with writers at it, at random moments: what it has acknowledged stays.

use std::time::Duration;

use super::small;
use super::writers::Writers;
use crate::deployment::Deployment;

const WRITERS: [bool; 6] = [true, false, true, false, true, false];

/// So many lives of one coordinator; a life ends a random time after its first acknowledgements.
fn lives(deployment: &mut Deployment, count: u64, seed: u64) -> usize {
    let writers = Writers::start(&deployment.path("team"), &WRITERS);
    let mut dice = seed;
    writers.up();
    for _ in 0..count {
        writers.wait_for_more(2);
        // Knuth's MMIX generator: a moment anywhere in what a batch takes, or between batches.
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::sleep(Duration::from_micros((dice >> 33) % 60_000));
        deployment.coordinator.take().unwrap().kill();
        writers.down();
        deployment.serve();
        writers.up();
    }
    writers.wait_for_more(1);
    writers.verify(deployment)
}

#[test]
fn a_coordinator_killed_at_random_loses_no_acknowledged_entry() {
    let mut alone = small(0);
    let acknowledged = lives(&mut alone, 12, 1);
    assert!(acknowledged >= 24, "{acknowledged}");
    drop(alone);
    let mut deployment = small(3);
    lives(&mut deployment, 3, 2);
}

#[test]
#[ignore = "a quarter of an hour; ./test.sh --long runs it"]
fn five_hundred_kills_lose_no_acknowledged_entry() {
    let (mut killed, mut acknowledged) = (0, 0);
    for network in 0..10 {
        let (hospitals, count) = if network < 8 { (0, 58) } else { (3, 18) };
        let mut deployment = small(hospitals);
        acknowledged += lives(&mut deployment, count, network);
        killed += count;
        println!("{killed} kills, {acknowledged} acknowledged entries, all there");
    }
    assert!(killed >= 500);
}
