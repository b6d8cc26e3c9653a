//! What several tests share.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

use leben_contracts::agreement::terms::OnDrop;
use leben_models::AlgorithmSpec;
use leben_simulation::{Deal, World};

/// One stage, `standardise`, of two rounds or more.
pub fn deal(hospitals: u16, on_drop: OnDrop) -> Deal {
    Deal { on_drop, ..Deal::new(hospitals) }
}

/// Two stages, so that there are rounds enough to come back in.
pub fn long_deal(hospitals: u16, on_drop: OnDrop) -> Deal {
    let spec = |name: &str| AlgorithmSpec::new(name, [("features", "a")]);
    let glm = spec("glm").with("outcome", "b").with("family", "gaussian").with("ridge", "1");
    let standardise = spec("standardise").with("outcome", "b").with("family", "gaussian");
    Deal { stages: vec![standardise, glm], ..deal(hospitals, on_drop) }
}

/// Who is in each sum, in order.
pub fn survivors(world: &World) -> Vec<Vec<u16>> {
    world.truth.sums.iter().map(|sum| sum.survivors.clone()).collect()
}
