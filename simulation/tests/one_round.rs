//! One round, from the open slot to the exact sum. Read this first.
//!
//! Four hospitals and a coordinator run the contract's one stage on a simulated network. The coordinator's sum is exact, and all
//! it ever saw of one hospital is noise and signatures.

use leben_simulation::{Agreement, Deal, End, World};

#[test]
fn one_round() {
    // A contract that everybody signed: one stage, the sum of at least three hospitals, on a real ledger state.
    let agreement = Agreement::new(Deal::new(4));

    // The seed decides every delay and every key. `run` lets time pass until the job ends, and checks every sum on the
    // way, bit for bit, against what the hospitals put in.
    let mut world = World::new(1, &agreement);
    assert_eq!(world.run(), End::Delivered);

    // What each hospital went through in the first slot, in this order.
    let mut lines = world.story.iter().filter(|line| line.contains("hospital-001"));
    for step in [
        "is linked",
        "is told Advertise of slot 1", // make fresh keys
        "reports Advertised",
        "is told Keys of slot 1", // seal a share of both secrets for everybody
        "reports Shares",
        "is told Open of slot 1", // compute on this state, mask for these hospitals
        "reports Working",
        "ends its vector for slot 1", // signed over all masked chunks
        "is told Close of slot 1",    // these hospitals are in the sum
        "reports Agreed",             // signed, and never another set for this round
        "is told Agreed of slot 1",   // enough others signed the same
        "reports Revealed",           // what takes the masks off the sum, and off nothing else
    ] {
        assert!(lines.any(|line| line.contains(step)), "{step}");
    }

    // The first sum holds all four, and each of them remembers so on its disk.
    assert_eq!(world.truth.sums[0].survivors, [1, 2, 3, 4]);
    for hospital in &world.hospitals {
        assert_eq!(hospital.journal.rounds[0].survivors, [1, 2, 3, 4]);
        assert!(hospital.refusals.is_empty());
    }
}
