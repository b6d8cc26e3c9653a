//! A coordinator that cheats, built here and nowhere else, against the hospitals' unmodified code: each attack of the threat model
//! is refused by its own error, and nothing is given away.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a helper of tests fails the test")]

mod common;

use std::ops::RangeInclusive;
use std::sync::Arc;

use common::deal;
use leben_contracts::agreement::body::{Body, RoundClose, StageStart};
use leben_contracts::agreement::hash::Hash32;
use leben_contracts::agreement::state::State as Ledger;
use leben_contracts::agreement::terms::OnDrop;
use leben_contracts::ledger::entry::Entry;
use leben_models::disclosure::Limits;
use leben_models::{Algorithm, AlgorithmSpec, State, registry};
use leben_privacy::secure_sum::{
    Agree, Agreement as Signatures, Close, Collector, Journal, Opening, RoundId, SealedShare, SlotKey, Upload,
};
use leben_privacy::{Layout, Suite};
use leben_protocol::frame::{JobOrder, JobReport};
use leben_simulation::agreement::{START_MS, hospital, id, sign};
use leben_simulation::{Agreement, Deal};
use leben_worker::consent;
use leben_worker::participate::{JobAction, Participation};
use leben_worker::refusal::{Reason, Refusal};

/// Hospitals in the hands of whoever gives the orders, mostly four.
struct Cheat {
    agreement: Arc<Agreement>,
    hospitals: Vec<Participation>,
    algorithm: Box<dyn Algorithm + Send + Sync>,
    seeds: u8,
}

fn spec() -> AlgorithmSpec {
    AlgorithmSpec::new("standardise", [("features", "a,b")])
}

impl Cheat {
    fn new() -> Cheat {
        Cheat::of(deal(4, OnDrop::Continue))
    }

    fn of(deal: Deal) -> Cheat {
        let agreement = Agreement::new(deal);
        let forgetful = |seat| agreement.participation(&hospital(seat), Journal::default());
        let hospitals = (1..=agreement.deal.hospitals).map(forgetful).collect();
        Cheat { agreement, hospitals, algorithm: registry::controlled(&spec(), Limits::default()).unwrap(), seeds: 0 }
    }

    fn seats(&self) -> RangeInclusive<u16> {
        1..=self.agreement.deal.hospitals
    }

    fn try_order(&mut self, seat: u16, order: JobOrder) -> Result<Vec<JobAction>, Refusal> {
        self.seeds += 1;
        let hospital = &mut self.hospitals[usize::from(seat) - 1];
        hospital.handle_order(order, [self.seeds; 32])?;
        Ok(std::iter::from_fn(|| hospital.poll_action()).collect())
    }

    fn order(&mut self, seat: u16, order: JobOrder) -> Vec<JobAction> {
        self.try_order(seat, order).unwrap()
    }

    /// Everybody's keys and shares for a slot.
    fn prepare(&mut self, slot: u64) -> (Vec<SlotKey>, Vec<SealedShare>) {
        let mut keys = Vec::new();
        for seat in self.seats() {
            for action in self.order(seat, JobOrder::Advertise { slot }) {
                let JobAction::Report(JobReport::Advertised(key)) = action else { panic!("{action:?}") };
                keys.push(key);
            }
        }
        let mut shares = Vec::new();
        for seat in self.seats() {
            for action in self.order(seat, JobOrder::Keys { slot, keys: keys.clone() }) {
                let JobAction::Report(JobReport::Shares { sealed, .. }) = action else { panic!("{action:?}") };
                shares.extend(sealed);
            }
        }
        (keys, shares)
    }

    fn state(&self) -> State {
        self.algorithm.start(None).unwrap()
    }

    fn layout(&self) -> Layout {
        self.algorithm.layout(&self.state(), *self.seats().end()).unwrap()
    }

    fn opening(&self, slot: u64, cohort: Vec<SlotKey>) -> Opening {
        Opening {
            job: self.agreement.contract,
            epoch: 1,
            slot,
            round_id: RoundId { stage: 1, round: 1 },
            contract: self.agreement.contract,
            model_digest: self.state().digest().unwrap(),
            cohort,
            layout_digest: self.layout().digest(),
            hospitals_max: *self.seats().end(),
            suite: Suite::default(),
            checkpoint: self.agreement.root,
        }
    }

    /// Opens a slot at one hospital, up to its signed upload.
    fn open(&mut self, seat: u16, opening: &Opening, shares: &[SealedShare]) -> Result<Upload, Refusal> {
        let state = self.state();
        self.open_with(seat, opening, shares, &state)
    }

    fn open_with(
        &mut self,
        seat: u16,
        opening: &Opening,
        shares: &[SealedShare],
        state: &State,
    ) -> Result<Upload, Refusal> {
        let sealed = shares.iter().filter(|share| share.to == seat).cloned().collect();
        let order = JobOrder::Open { opening: Box::new(opening.clone()), sealed, state_bytes: 1 };
        self.try_order(seat, order)?;
        let hospital = &mut self.hospitals[usize::from(seat) - 1];
        hospital.handle_state(&state.to_bytes().unwrap())?;
        hospital.handle_streamed(opening.slot, [seat as u8; 32], [99; 32])?;
        let trailer = std::iter::from_fn(|| hospital.poll_action()).find_map(|action| match action {
            JobAction::Trailer(trailer) => Some(trailer.upload),
            _ => None,
        });
        Ok(trailer.unwrap())
    }

    fn collector(&self, opening: &Opening) -> Collector {
        let directory = self.agreement.facts().directory.unwrap();
        Collector::new(directory, opening.clone(), self.layout(), 3).unwrap()
    }

    /// An honest close over these hospitals.
    fn close(&self, opening: &Opening, uploads: &[(u16, Upload)]) -> (Collector, Close) {
        let mut collector = self.collector(opening);
        for (seat, upload) in uploads {
            collector.handle_upload(*seat, upload.clone()).unwrap();
        }
        let close = collector.close().unwrap();
        (collector, close)
    }

    fn agree(&mut self, seat: u16, close: &Close) -> Result<Agree, Refusal> {
        let actions = self.try_order(seat, JobOrder::Close { close: close.clone(), next: None })?;
        // The journal is stored before the signature leaves.
        assert!(matches!(actions.first(), Some(JobAction::Remember(_))));
        let agree = actions.into_iter().find_map(|action| match action {
            JobAction::Report(JobReport::Agreed(agree)) => Some(agree),
            _ => None,
        });
        Ok(agree.unwrap())
    }

    /// Gathers these hospitals' signatures under a close, and asks the last of them for its shares: it reads the ledger first.
    fn reveal(&mut self, seats: &[u16], close: &Close, ledger: &Ledger) -> Result<(), Refusal> {
        let signatures = seats.iter().map(|seat| (*seat, self.agree(*seat, close).unwrap().signature)).collect();
        let seat = seats[seats.len() - 1];
        let fixed = ledger.contract(&Hash32(self.agreement.contract)).and_then(consent::fixed_close);
        self.hospitals[usize::from(seat) - 1].handle_fixed(fixed);
        let agreed = JobOrder::Agreed(Signatures { slot: close.slot, signatures });
        let actions = self.try_order(seat, agreed)?;
        assert!(matches!(actions[..], [JobAction::Report(JobReport::Revealed(_))]), "{actions:?}");
        Ok(())
    }

    /// A slot opened honestly at all of them, with everybody's upload.
    fn slot(&mut self, slot: u64) -> (Opening, Vec<(u16, Upload)>) {
        let (keys, shares) = self.prepare(slot);
        let opening = self.opening(slot, keys);
        let uploads = self.seats().map(|seat| (seat, self.open(seat, &opening, &shares).unwrap())).collect();
        (opening, uploads)
    }
}

fn assert_refused<T>(result: Result<T, Refusal>, reason: Reason, words: &str) {
    match result {
        Ok(_) => panic!("not refused: {words}"),
        Err(refusal) => {
            assert_eq!(refusal.reason, reason, "{refusal}");
            assert!(refusal.words.contains(words), "{refusal}");
        }
    }
}

#[test]
fn two_models_in_one_slot() {
    let mut cheat = Cheat::new();
    let (keys, shares) = cheat.prepare(1);
    let honest = cheat.opening(1, keys);
    let state = cheat.state();
    let other_state = state.clone().with("another", vec![1.0]);
    let other = Opening { model_digest: other_state.digest().unwrap(), ..honest.clone() };
    let mut uploads = Vec::new();
    for seat in 1..=4 {
        let (opening, state) = if seat == 4 { (&other, &other_state) } else { (&honest, &state) };
        uploads.push((seat, cheat.open_with(seat, opening, &shares, state).unwrap()));
    }
    // The masks of hospital 4 do not cancel, and its signature counts for nothing in the others' slot.
    let close = Close { slot: 1, survivors: uploads.iter().map(|(seat, upload)| survivor(*seat, upload)).collect() };
    assert_refused(cheat.agree(1, &close), Reason::SecureSum, "upload signature of hospital 4");
    // Nor can the model of an open slot be changed, or the slot be opened again.
    assert!(cheat.collector(&honest).handle_upload(4, uploads[3].1.clone()).is_err());
}

fn survivor(seat: u16, upload: &Upload) -> leben_privacy::secure_sum::Survivor {
    leben_privacy::secure_sum::Survivor { index: seat, root: upload.root, signature: upload.signature }
}

#[test]
fn a_state_that_is_not_the_one_announced() {
    let mut cheat = Cheat::new();
    let (keys, shares) = cheat.prepare(1);
    let mut opening = cheat.opening(1, keys);
    opening.model_digest = [7; 32];
    assert_refused(cheat.open(1, &opening, &shares), Reason::Malformed, "not the one the slot was opened with");
}

#[test]
fn split_closes() {
    let mut cheat = Cheat::new();
    let (opening, uploads) = cheat.slot(1);
    let (_, all) = cheat.close(&opening, &uploads);
    let (mut collector, three) = cheat.close(&opening, &uploads[..3]);
    // Hospital 1 signs the close over all; the same hospital does not sign another one of this slot.
    cheat.agree(1, &all).unwrap();
    assert_refused(cheat.agree(1, &three), Reason::SecureSum, "closed before with other survivors");
    // Hospitals 2 and 3 were shown the smaller close. Two signatures are below the threshold of three.
    let signatures: Vec<_> = [2, 3].map(|seat| (seat, cheat.agree(seat, &three).unwrap())).into();
    for (seat, agree) in &signatures {
        assert_eq!(collector.handle_agree(*seat, agree.clone()).unwrap(), None);
    }
    let forced =
        Signatures { slot: 1, signatures: signatures.iter().map(|(seat, agree)| (*seat, agree.signature)).collect() };
    assert_refused(cheat.try_order(2, JobOrder::Agreed(forced)), Reason::SecureSum, "2 hospitals agreed to this close");
}

#[test]
fn a_slot_used_twice() {
    let mut cheat = Cheat::new();
    let (keys, shares) = cheat.prepare(1);
    let opening = cheat.opening(1, keys);
    cheat.open(1, &opening, &shares).unwrap();
    // The same order again is taken for a repetition: nothing is computed a second time.
    let sealed: Vec<SealedShare> = shares.iter().filter(|share| share.to == 1).cloned().collect();
    let again =
        |opening: Opening| JobOrder::Open { opening: Box::new(opening), sealed: sealed.clone(), state_bytes: 1 };
    assert!(cheat.order(1, again(opening.clone())).is_empty());
    // After a restart the journal alone knows.
    let journal = Journal { last_slot: 1, ..Journal::default() };
    cheat.hospitals[0] = cheat.agreement.participation(&hospital(1), journal);
    assert_refused(cheat.open(1, &opening, &shares), Reason::Slot, "not above 1, the last slot");
}

#[test]
fn a_smaller_sum_on_the_repeat() {
    let mut cheat = Cheat::new();
    let (opening, uploads) = cheat.slot(1);
    let (_, all) = cheat.close(&opening, &uploads);
    cheat.agree(1, &all).unwrap();
    // Slot 2 repeats the round, opened with all four and closed without hospital 4.
    let (opening, uploads) = cheat.slot(2);
    let (_, three) = cheat.close(&opening, &uploads[..3]);
    assert_refused(cheat.agree(1, &three), Reason::SecureSum, "it can only be repeated as it was");
    // Slot 3 leaves it out from the beginning.
    let (keys, shares) = cheat.prepare(3);
    let opening = cheat.opening(3, keys[..3].to_vec());
    let shares: Vec<SealedShare> = shares.into_iter().filter(|share| share.from != 4).collect();
    assert_refused(cheat.open(1, &opening, &shares), Reason::SecureSum, "it can only be repeated as it was");
    // With another model it is not a repeat either.
    let mut other = cheat.opening(3, keys);
    other.model_digest = [9; 32];
    assert!(cheat.open(1, &other, &shares).is_err());
}

#[test]
fn a_swapped_slot_key() {
    let mut cheat = Cheat::new();
    let (keys, _) = cheat.prepare(1);
    // Somebody else's key under hospital 2's number, so that its shares could be read.
    let mut swapped = keys.clone();
    swapped[1].mask_public = keys[2].mask_public;
    let order = JobOrder::Keys { slot: 1, keys: swapped };
    assert_refused(cheat.try_order(1, order), Reason::SecureSum, "slot key signature of hospital 2");
    // An old key of hospital 1 itself: well signed, but not the one it holds the secrets for.
    let mut restarted = cheat.agreement.participation(&hospital(1), Journal::default());
    std::mem::swap(&mut cheat.hospitals[0], &mut restarted);
    cheat.order(1, JobOrder::Advertise { slot: 1 });
    assert_refused(cheat.try_order(1, JobOrder::Keys { slot: 1, keys }), Reason::Slot, "join the next slot");
}

#[test]
fn too_few_hospitals_or_strangers() {
    let mut cheat = Cheat::new();
    let (keys, shares) = cheat.prepare(1);
    let two = cheat.opening(1, keys[..2].to_vec());
    assert_refused(cheat.open(1, &two, &shares), Reason::FewHospitals, "2 hospitals are in the cohort");
    let mut contract = cheat.opening(1, keys.clone());
    contract.contract = [1; 32];
    assert_refused(cheat.open(1, &contract, &shares), Reason::Opening, "another contract");
    let mut round = cheat.opening(1, keys.clone());
    round.round_id.round = 1000;
    assert_refused(cheat.open(1, &round, &shares), Reason::Rounds, "round 1000");
    let mut stage = cheat.opening(1, keys);
    stage.round_id.stage = 9;
    assert_refused(cheat.open(1, &stage, &shares), Reason::UnknownStage, "stage 9");
}

/// An entry of the coordinator's on the ledger, if it may be one.
fn append(ledger: &mut Ledger, cheat: &Cheat, body: Body) -> Result<(), String> {
    let index = ledger.next_index();
    let envelope = sign(ledger, START_MS, "coordinator", Some(&cheat.agreement.contract), &body, index);
    let entry = Entry::new(envelope, START_MS).unwrap();
    ledger.apply(index, &entry).map(drop).map_err(|error| error.to_string())
}

/// A threshold just above half, and two of five help the coordinator. With hospital 3, which alone is shown it, they close round 1
/// over all five. The repeat without hospital 3 is closed on the ledger as round 2, for which that has no other set yet: the
/// difference of the two sums would be the vector of hospital 3.
#[test]
fn a_repeat_over_others_that_the_ledger_takes_for_the_next_round() {
    let mut cheat = Cheat::of(Deal { threshold: 3, hospitals_min: 3, ..deal(5, OnDrop::Continue) });
    let mut ledger = cheat.agreement.state.clone();
    let close = |round, slot, seats: &[u16], transcript| {
        let survivors = seats.iter().map(|seat| id(&hospital(*seat))).collect();
        Body::RoundClose(RoundClose { stage: 1, round, slot, survivors, transcript: Hash32(transcript) })
    };
    append(&mut ledger, &cheat, Body::StageStart(StageStart { stage: 1 })).unwrap();

    let (opening, uploads) = cheat.slot(1);
    let (collector, all) = cheat.close(&opening, &uploads);
    append(&mut ledger, &cheat, close(1, 1, &[1, 2, 3, 4, 5], collector.transcript())).unwrap();
    cheat.reveal(&[1, 2, 3], &all, &ledger).unwrap();

    // Those who help forget what they agreed to; hospitals 4 and 5 never heard of a close.
    for seat in [1, 2] {
        cheat.hospitals[seat - 1] = cheat.agreement.participation(&hospital(seat as u16), Journal::default());
    }
    let (mut keys, mut shares) = cheat.prepare(2);
    keys.retain(|key| key.hospital_index != 3);
    shares.retain(|share| share.from != 3);
    let opening = cheat.opening(2, keys);
    let uploads: Vec<_> = [1, 2, 4, 5].map(|seat| (seat, cheat.open(seat, &opening, &shares).unwrap())).into();
    let (collector, four) = cheat.close(&opening, &uploads);
    let again = close(1, 2, &[1, 2, 4, 5], collector.transcript());
    assert!(append(&mut ledger, &cheat, again).unwrap_err().contains("round 1 of stage 1 was closed already"));
    append(&mut ledger, &cheat, close(2, 2, &[1, 2, 4, 5], collector.transcript())).unwrap();
    assert_refused(cheat.reveal(&[1, 2, 4], &four, &ledger), Reason::SecureSum, "not the one that the witnesses made");
}
