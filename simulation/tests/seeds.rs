//! Random stories: each ends in exact sums and a result, or in an abort with a reason. A failure names its seed; give it as
//! `LEBEN_SEED` to see that story alone. `LEBEN_SEEDS=20000 cargo test --release -- --ignored` tells more of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;

use common::{deal, long_deal};
use leben_contracts::agreement::terms::OnDrop;
use leben_simulation::dice::Dice;
use leben_simulation::{Agreement, End, Fault, Sight, Trap, World};

const SIGHTS: [Sight; 9] = [
    Sight::Open,
    Sight::Chunk,
    Sight::Trailer,
    Sight::Close,
    Sight::Agree,
    Sight::Agreement,
    Sight::Reveal,
    Sight::Key,
    Sight::Shares,
];

#[derive(Default)]
struct Agreements(BTreeMap<(u16, bool, bool), Arc<Agreement>>);

impl Agreements {
    fn get(&mut self, hospitals: u16, repeat: bool, long: bool) -> Arc<Agreement> {
        let on_drop = if repeat { OnDrop::Repeat } else { OnDrop::Continue };
        let make = || Agreement::new(if long { long_deal(hospitals, on_drop) } else { deal(hospitals, on_drop) });
        self.0.entry((hospitals, repeat, long)).or_insert_with(make).clone()
    }
}

fn fault(dice: &mut Dice, hospitals: u16) -> Fault {
    let seat = dice.between(1, u64::from(hospitals)) as u16;
    let down_ms = dice.between(10, 25_000);
    match dice.between(1, 10) {
        1 | 2 => Fault::RestartHospital { seat, down_ms },
        3 | 4 => Fault::RestartCoordinator { down_ms },
        5 => Fault::Cut { seat, down_ms: None },
        _ => Fault::Cut { seat, down_ms: Some(down_ms) },
    }
}

fn story(seed: u64, hospitals_max: u64, agreements: &mut Agreements) -> (End, World) {
    let mut dice = Dice::new(seed, 1);
    let hospitals = dice.between(3, hospitals_max) as u16;
    let agreement = agreements.get(hospitals, dice.chance(500), dice.chance(500));
    let mut world = World::new(seed, &agreement);
    world.weather.delay_ms_max = dice.between(1, 3_000);
    world.weather.compute_ms_max = dice.between(1, 20_000);
    world.weather.notice_ms_max = dice.between(1, 20_000);
    for _ in 0..dice.between(0, 3) {
        let fault = fault(&mut dice, hospitals);
        world.plan_fault(dice.between(0, 60_000), fault);
    }
    for _ in 0..dice.between(0, 3) {
        let seat = dice.between(1, u64::from(hospitals)) as u16;
        let sight = SIGHTS[dice.between(0, 8) as usize];
        let (nth, before, fault) = (dice.between(1, 3) as u32, dice.chance(500), fault(&mut dice, hospitals));
        world.traps.push(Trap { seat, sight, nth, before, fault });
    }
    for _ in 0..dice.between(0, 2) {
        world.coordinator.dies_at.insert(dice.between(1, 400));
    }
    (world.run(), world)
}

/// Tells these stories, some on each core: how many were delivered, how many aborted.
fn many(seeds: std::ops::Range<u64>, hospitals_max: u64) -> (u64, u64) {
    let alone = std::env::var("LEBEN_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = alone.map_or(seeds, |seed| seed..seed + 1);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let part = &|first: usize| {
        let (mut agreements, mut delivered, mut aborted) = (Agreements::default(), 0, 0);
        for seed in seeds.clone().skip(first).step_by(threads) {
            let (end, world) = story(seed, hospitals_max, &mut agreements);
            match end {
                End::Delivered => delivered += 1,
                End::Aborted { reason } if !reason.is_empty() => {
                    eprintln!("seed {seed}: {reason}");
                    aborted += 1;
                }
                end => panic!("seed {seed}: {end:?}\n{}", world.story.join("\n")),
            }
        }
        (delivered, aborted)
    };
    let (delivered, aborted) = std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|first| scope.spawn(move || part(first))).collect();
        let ends = parts.into_iter().map(|part| part.join().expect("a story failed; its seed is above"));
        ends.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    });
    eprintln!("{delivered} delivered, {aborted} aborted with a reason");
    (delivered, aborted)
}

#[test]
fn two_hundred_stories() {
    let (delivered, aborted) = many(1..201, 8);
    assert!(std::env::var("LEBEN_SEED").is_ok() || delivered > 100 && aborted > 5, "{delivered}, {aborted}");
}

#[test]
#[ignore = "minutes; LEBEN_SEEDS says how many"]
fn thousands_of_stories() {
    let count = std::env::var("LEBEN_SEEDS").ok().and_then(|count| count.parse().ok()).unwrap_or(1000);
    many(10_000..10_000 + count, 30);
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let digest = |seed| story(seed, 8, &mut Agreements::default()).1.digest();
    let digests: Vec<String> = (1..6).map(digest).collect();
    assert_eq!(digests, (1..6).map(digest).collect::<Vec<_>>());
    assert!((1..digests.len()).all(|at| digests[at] != digests[0]));
}
