//! Who masks with whom.
//!
//! Up to [`COMPLETE_MAX`] hospitals every pair shares a pad, as in the paper. Above it each hospital shares pads with a
//! fixed number of others, its neighbours on a circle (a Harary graph, the shape that Bell et al. 2020, section 3.3,
//! use), and shares of the secrets still go to everybody.
//!
//! What has to hold: when the lost hospitals are taken out of the graph and those that help the coordinator too, the
//! rest hangs together. Then their pads hide everything but the sum over all of them; if it fell apart, the sum over
//! each part could be read. Bell et al. draw the circle's order at random and show that a few neighbours are enough
//! *with high probability, for colluders and losses that do not depend on the drawing*. Here the coordinator sees the
//! graph before it chooses whom to lose, and a party may be bought after it. So the number of neighbours is the one
//! that holds for **every** choice: `lost_max + colluders_max + 1`, because a circulant graph in which everybody has
//! `k` neighbours stays connected whichever `k - 1` members are taken out (Harary 1962). With the default threshold
//! it comes to two thirds of the pads.

/// The largest cohort in which every pair shares a pad.
pub const COMPLETE_MAX: usize = 64;

/// Neighbours of a cohort's members, by position in the cohort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Graph {
    members: usize,
    /// Neighbours on each side of the circle; `members` for the complete graph.
    reach: usize,
}

impl Graph {
    /// For a cohort of `members`, of which at most `lost_max` may be missing from the sum and at most `colluders_max` may
    /// be on the coordinator's side.
    pub fn new(members: usize, lost_max: usize, colluders_max: usize) -> Graph {
        let degree = lost_max.saturating_add(colluders_max).saturating_add(1);
        let reach = degree.div_ceil(2);
        let complete = members <= COMPLETE_MAX || reach.saturating_mul(2).saturating_add(1) >= members;
        Graph { members, reach: if complete { members } else { reach } }
    }

    /// Whether the members at two positions share a pad. Nobody shares one with itself.
    pub fn adjacent(&self, a: usize, b: usize) -> bool {
        let apart = a.abs_diff(b);
        let inside = a < self.members && b < self.members;
        inside && apart > 0 && apart.min(self.members - apart) <= self.reach
    }

    /// How many neighbours everybody has.
    #[cfg(test)]
    pub fn degree(&self) -> usize {
        if self.reach >= self.members { self.members.saturating_sub(1) } else { 2 * self.reach }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha20Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    /// Size of the part that the first remaining member can reach, and how many remain.
    fn reached(graph: &Graph, gone: &[bool]) -> (usize, usize) {
        let mut open: Vec<usize> = (0..graph.members).filter(|m| !gone[*m]).take(1).collect();
        let mut seen = gone.to_vec();
        let mut count = 0;
        open.iter().for_each(|m| seen[*m] = true);
        while let Some(at) = open.pop() {
            count += 1;
            for (next, seen) in seen.iter_mut().enumerate().filter(|(next, _)| graph.adjacent(at, *next)) {
                if !std::mem::replace(seen, true) {
                    open.push(next);
                }
            }
        }
        (count, gone.iter().filter(|gone| !**gone).count())
    }

    fn without(graph: &Graph, gone: impl IntoIterator<Item = usize>) -> (usize, usize) {
        let mut flags = vec![false; graph.members];
        gone.into_iter().for_each(|m| flags[m % graph.members] = true);
        reached(graph, &flags)
    }

    #[test]
    fn up_to_64_members_every_pair_shares_a_pad() {
        for members in [3, 4, 64] {
            let graph = Graph::new(members, 0, 0);
            assert_eq!(graph.degree(), members - 1);
            assert!((0..members).all(|a| (0..members).all(|b| graph.adjacent(a, b) == (a != b))));
        }
    }

    #[test]
    fn everybody_has_the_same_number_of_neighbours_and_adjacency_is_mutual() {
        for (members, lost, colluders) in [(65, 21, 21), (100, 33, 33), (101, 10, 5), (200, 66, 66), (1000, 100, 50)] {
            let graph = Graph::new(members, lost, colluders);
            assert!(graph.degree() > lost + colluders && graph.degree() <= lost + colluders + 2, "{graph:?}");
            for a in 0..members {
                assert_eq!((0..members).filter(|b| graph.adjacent(a, *b)).count(), graph.degree());
                assert!((0..members).all(|b| graph.adjacent(a, b) == graph.adjacent(b, a)));
            }
        }
    }

    /// The worst that can be taken out of a circle are two runs of neighbours. Every pair of runs of every length is
    /// tried, and random sets: the rest hangs together as long as no more are taken than were counted on.
    #[test]
    fn whoever_is_lost_or_colludes_the_rest_hangs_together() {
        let mut rng = ChaCha20Rng::from_seed([7; 32]);
        for (members, lost, colluders) in [(65, 10, 11), (70, 23, 23), (80, 7, 20), (91, 30, 30)] {
            let graph = Graph::new(members, lost, colluders);
            let taken = lost + colluders;
            for first in 0..=taken {
                for apart in 1..members - taken {
                    let runs = (0..first).chain((first + apart..).take(taken - first));
                    let (part, all) = without(&graph, runs);
                    assert_eq!(part, all, "{graph:?} falls apart without runs of {first} and {}", taken - first);
                }
            }
            for _ in 0..200 {
                let mut order: Vec<usize> = (0..members).collect();
                (1..members).rev().for_each(|i| order.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize));
                let (part, all) = without(&graph, order.into_iter().take(taken));
                assert_eq!(part, all);
            }
            // The test has power: all neighbours of one member are one too many.
            let around = (0..members).filter(|m| graph.adjacent(0, *m));
            let (part, all) = without(&graph, around);
            assert_eq!(part, 1);
            assert!(all > 1);
        }
    }
}
