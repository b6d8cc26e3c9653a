//! What only an onlooker knows: every contribution in the clear, and so what each sum has to be, bit for bit.
//!
//! The fixed point is computed here a second time, from the documentation of the encoding alone.

use std::collections::{BTreeMap, BTreeSet};

use leben_privacy::secure_sum::{Reveal, RoundId};
use leben_privacy::{Contribution, Encoding, Layout, Unmasked};

/// A sum that the coordinator opened.
#[derive(Clone, Debug)]
pub struct Summed {
    /// The round.
    pub round_id: RoundId,
    /// The attempt at it.
    pub slot: u64,
    /// Who is in it, by seat.
    pub survivors: Vec<u16>,
    /// What the coordinator read.
    pub sum: Unmasked,
}

/// Everything seen.
#[derive(Default)]
pub struct Truth {
    /// Contributions by slot and seat: one list of integers a segment.
    contributions: BTreeMap<(u64, u16), Vec<Vec<i64>>>,
    /// For each slot, the number of hospitals that its ring is sized for.
    hospitals_max: BTreeMap<u64, u16>,
    /// For each slot and each hospital, the kinds of its shares that were given away: true for the self-mask's.
    revealed: BTreeMap<(u64, u16), BTreeSet<bool>>,
    /// The transcript of each slot that was opened.
    pub transcripts: BTreeMap<u64, [u8; 32]>,
    /// Sums, in order.
    pub sums: Vec<Summed>,
}

fn fraction_bits(layout: &Layout, hospitals: u16) -> impl Iterator<Item = (&str, i32)> {
    layout.segments.iter().map(move |segment| {
        let Encoding::Exact { bound } = segment.encoding else { panic!("this onlooker knows exact segments only") };
        (segment.name.as_str(), (62 - (bound * f64::from(hospitals)).log2().ceil() as i32).min(52))
    })
}

impl Truth {
    /// A hospital computed this for a slot.
    pub fn note(&mut self, slot: u64, seat: u16, layout: &Layout, hospitals: u16, contribution: Contribution) {
        let plain = Unmasked::from_plain(layout, vec![contribution]).expect("within its bounds");
        let fixed = |(name, bits): (&str, i32)| {
            let values = plain.segment(name).expect("a segment of the layout");
            values.iter().map(|x| (x * 2f64.powi(bits)).round_ties_even() as i64).collect()
        };
        self.hospitals_max.insert(slot, hospitals);
        self.contributions.insert((slot, seat), fraction_bits(layout, hospitals).map(fixed).collect());
    }

    /// A hospital gave these shares away.
    pub fn note_reveal(&mut self, reveal: &Reveal) {
        let kinds = [(&reveal.self_shares, true), (&reveal.mask_shares, false)];
        for (owner, own) in
            kinds.into_iter().flat_map(|(shares, own)| shares.iter().map(move |(owner, _)| (*owner, own)))
        {
            self.revealed.entry((reveal.slot, owner)).or_default().insert(own);
        }
    }

    /// Checks every sum against the contributions of those who are in it, and what was given away to open it.
    ///
    /// # Errors
    /// In words, what is wrong.
    pub fn check(&self, hospitals_min: u16) -> Result<(), String> {
        let mut sets: BTreeMap<RoundId, &Vec<u16>> = BTreeMap::new();
        for summed in &self.sums {
            let Summed { round_id, slot, survivors, sum } = summed;
            if survivors.len() < usize::from(hospitals_min) || usize::from(sum.contributions()) != survivors.len() {
                return Err(format!("{round_id:?}, slot {slot}: a sum over {survivors:?}"));
            }
            if *sets.entry(*round_id).or_insert(survivors) != survivors {
                return Err(format!("{round_id:?} was opened over {survivors:?} and over {:?}", sets[round_id]));
            }
            self.check_sum(summed)?;
        }
        match self.revealed.iter().find(|(_, kinds)| kinds.len() > 1) {
            Some(((slot, seat), _)) => {
                Err(format!("slot {slot}: both kinds of shares of hospital {seat} were given away"))
            }
            None => Ok(()),
        }
    }

    fn check_sum(&self, summed: &Summed) -> Result<(), String> {
        let Summed { slot, survivors, sum, .. } = summed;
        let hospitals = self.hospitals_max.get(slot).copied().unwrap_or(1);
        for (at, (name, bits)) in fraction_bits(sum.layout(), hospitals).enumerate() {
            for (lane, value) in sum.segment(name).map_err(|error| error.to_string())?.iter().enumerate() {
                let mut exact = 0i128;
                for seat in survivors {
                    let lanes = self.contributions.get(&(*slot, *seat));
                    let lanes =
                        lanes.ok_or(format!("slot {slot}: hospital {seat} is in the sum and contributed nothing"))?;
                    exact += i128::from(lanes[at][lane]);
                }
                let exact = exact as f64 / 2f64.powi(bits);
                if exact.to_bits() != value.to_bits() && exact != *value {
                    return Err(format!(
                        "slot {slot}, '{name}'[{lane}]: {value:e} was opened, {exact:e} was contributed"
                    ));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leben_privacy::{SegmentSpec, Values};

    fn contribution(values: &[f64]) -> Contribution {
        Contribution::new(vec![Values::F64(values.to_vec())])
    }

    /// A book in which hospitals 1 and 2 contributed, and the sum over `summed`.
    fn book(summed: Vec<Contribution>, survivors: &[u16]) -> Truth {
        let encoding = Encoding::Exact { bound: 4.0 };
        let layout = Layout { segments: vec![SegmentSpec { name: "x".into(), len: 2, encoding, noise: None }] };
        let mut truth = Truth::default();
        truth.note(1, 1, &layout, 3, contribution(&[1.0, -0.5]));
        truth.note(1, 2, &layout, 3, contribution(&[2.0, 0.25]));
        let sum = Unmasked::from_plain(&layout, summed).unwrap();
        let round_id = RoundId { stage: 1, round: 1 };
        truth.sums.push(Summed { round_id, slot: 1, survivors: survivors.to_vec(), sum });
        truth
    }

    #[test]
    fn a_wrong_sum_is_seen() {
        let both = || vec![contribution(&[1.0, -0.5]), contribution(&[2.0, 0.25])];
        assert_eq!(book(both(), &[1, 2]).check(2), Ok(()));
        assert!(book(both(), &[1, 2]).check(3).unwrap_err().contains("a sum over"));
        assert!(book(both(), &[1, 3]).check(2).unwrap_err().contains("contributed nothing"));
        let bit = 2f64.powi(-52);
        let off = vec![contribution(&[1.0, -0.5]), contribution(&[2.0 + bit * 2.0, 0.25])];
        assert!(book(off, &[1, 2]).check(2).unwrap_err().contains("was contributed"));
        let mut twice = book(both(), &[1, 2]);
        let mut second = twice.sums[0].clone();
        second.survivors = vec![1, 3];
        twice.sums.push(second);
        assert!(twice.check(2).unwrap_err().contains("was opened over"));
    }

    #[test]
    fn both_kinds_of_shares_of_one_hospital_are_seen() {
        let mut truth = Truth::default();
        truth.note_reveal(&Reveal { slot: 1, self_shares: vec![(1, [0; 32])], mask_shares: vec![(2, [0; 32])] });
        assert_eq!(truth.check(2), Ok(()));
        truth.note_reveal(&Reveal { slot: 2, self_shares: vec![(2, [0; 32])], mask_shares: vec![] });
        assert_eq!(truth.check(2), Ok(()));
        truth.note_reveal(&Reveal { slot: 1, self_shares: vec![(2, [0; 32])], mask_shares: vec![] });
        assert!(truth.check(2).unwrap_err().contains("both kinds"));
    }
}
